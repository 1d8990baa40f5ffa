//! Who may use the Unix socket changes while the node runs.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;

use serde_json::json;

use super::process::Process;
use super::{Node, directory_for_all, eventually, rings};

const STRANGER: u32 = 65_533;

#[test]
fn a_user_is_let_in_and_has_to_go_as_the_list_changes() {
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: not root, so no process of another user can be started");
        return;
    }
    let dir = directory_for_all();
    let (socket, second) = (dir.path().join("socket"), dir.path().join("socket.1"));
    let address = format!("unix://{}", socket.display());
    let node = {
        let mut node = Node::prepare(&["-c", "config.json"]);
        let config = json!({"listen": [address], "shards": 2});
        std::fs::write(node.dir().join("config.json"), config.to_string()).unwrap();
        node.start_again();
        node
    };
    let driver = node.driver();
    let list = |key: &str, numbers: &[u32]| {
        let change = BTreeMap::from([(format!("local_clients.{key}"), json!(numbers))]);
        assert_eq!(driver.change_config(0, change).unwrap().len(), 1);
    };
    let modes = || [&socket, &second].map(|path| std::fs::metadata(path).unwrap().mode() & 0o777);
    let ask = || Process::ask_as(STRANGER, dir.path(), &address);
    assert_eq!(modes(), [0o600; 2]);
    assert!(ask().contains("ermission denied"), "{}", ask());
    for key in ["uids", "gids"] {
        list(key, &[1, STRANGER]);
        assert_eq!(modes(), [0o666; 2]);
        let mut stays = Process::stay_as(STRANGER, dir.path(), &address);
        assert_eq!(stays.await_line(), "stays");
        list(key, &[1]);
        assert!(ask().contains("user 65533"), "{}", ask());
        let lost = stays.await_line();
        assert!(lost.starts_with("lost"), "{lost}");
        list(key, &[]);
        assert_eq!(modes(), [0o600; 2]);
        assert!(ask().contains("ermission denied"), "{}", ask());
        eventually(&node, |rings| rings.attached_count <= 2);
    }
    driver.node_status(0).expect("the node's own user stays");
    assert_eq!(rings(&node).fault_count, 0);
    assert!(node.log().contains("was taken off the list"), "{}", node.log());
}
