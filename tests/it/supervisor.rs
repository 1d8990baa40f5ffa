//! What a service manager hears of a node.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use mofka_tests::Node;

#[test]
fn a_service_manager_hears_when_the_node_is_ready_lives_and_stops() {
    let mut node = Node::prepare(&["--shards", "2"]);
    // A socket's path is short.
    let dir = tempfile::tempdir_in("/tmp").unwrap();
    let path = dir.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let heard = || {
        let mut text = [0; 1000];
        let count = manager.recv(&mut text).unwrap();
        String::from_utf8(text[..count].to_vec()).unwrap()
    };
    node.set_env("NOTIFY_SOCKET", path.to_str().unwrap());
    node.set_env("WATCHDOG_USEC", "600000");
    node.start_again();
    assert_eq!(heard(), "STATUS=opening partitions");
    let ready = heard();
    assert!(ready.starts_with("READY=1\nSTATUS=ready at na+sm://"), "{ready}");
    for _ in 0..3 {
        assert_eq!(heard(), "WATCHDOG=1");
    }
    assert!(node.terminate().success());
    let stopping = std::iter::repeat_with(heard).find(|text| text != "WATCHDOG=1");
    assert!(stopping.unwrap().starts_with("STOPPING=1\n"));
}
