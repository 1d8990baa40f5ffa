//! Clients in namespaces of their own (user, mount, process, network and IPC), as in a container: of the node they see nothing
//! but its sockets, under other names than the node's.

use std::fmt::Write;
use std::path::Path;
use std::process::{Command, Output};

use mofka_tests::{Node, program};
use serde_json::json;

const UNSHARE: [&str; 8] = [
    "--user",
    "--map-root-user",
    "--mount",
    "--pid",
    "--fork",
    "--net",
    "--ipc",
    "--kill-child",
];

/// Where the kernel or the machine's owner allows no namespaces, the tests say so.
fn may_unshare() -> bool {
    let tried = Command::new("unshare").args(UNSHARE).arg("true").output();
    let reason = match tried {
        Ok(output) if output.status.success() => return true,
        Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
        Err(error) => error.to_string(),
    };
    println!("SKIPPED: namespaces are needed: {reason}");
    false
}

/// Runs a script in which `$1` is the tool, and the sockets are in `$2`; the node's own directory is empty.
fn contained(node: &Node, script: &str) -> Output {
    let inside = node.dir().join("inside");
    let mut all = String::from("set -eu\n");
    for shard in 0..2 {
        let suffix = if shard == 0 {
            String::new()
        } else {
            format!(".{shard}")
        };
        let own = node.data_dir().join(format!("mofka.sock{suffix}"));
        let theirs = inside.join(format!("m.sock{suffix}"));
        std::fs::create_dir_all(&inside).unwrap();
        std::fs::write(&theirs, "").unwrap();
        writeln!(all, "mount --bind '{}' '{}'", own.display(), theirs.display()).unwrap();
    }
    writeln!(all, "mount -t tmpfs none '{}'", node.data_dir().display()).unwrap();
    writeln!(all, "test ! -e '{}/mofka.sock'", node.data_dir().display()).unwrap();
    all += script;
    let group = json!({"members": [{"address": format!("unix://{}/m.sock", inside.display())}]});
    std::fs::write(inside.join("mofka.json"), group.to_string()).unwrap();
    let mut command = Command::new("unshare");
    command.args(UNSHARE).args(["sh", "-c", &all, "sh"]);
    command.arg(program("mofka-ctl")).arg(&inside);
    command.output().unwrap()
}

fn lines(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn a_client_that_sees_only_the_sockets_reaches_every_shard() {
    if !may_unshare() {
        return;
    }
    let node = Node::start(&["--listen", "na+sm", "--shards", "2"]);
    node.driver()
        .create_topic(mofka_client::TopicOptions::new("t").partitions(2))
        .unwrap();
    let infos = node.driver().open_topic("t").unwrap().partitions();
    let mut shards: Vec<u32> = infos.iter().map(|info| info.shard).collect();
    shards.sort_unstable();
    assert_eq!(shards, [0, 1]);
    let events: String = (0..200).map(|n| format!("{{\"n\":{n}}}\n")).collect();
    std::fs::create_dir_all(node.dir().join("inside")).unwrap();
    std::fs::write(node.dir().join("inside/events"), events).unwrap();
    let output = contained(
        &node,
        "\"$1\" -g \"$2/mofka.json\" produce t \"$2/events\"\n\
         \"$1\" -g \"$2/mofka.json\" consume t --consumer c --count 200 >\"$2/consumed\"\n",
    );
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    let mut seen: Vec<u64> = lines(&node.dir().join("inside/consumed"))
        .iter()
        .map(|line| {
            let event: serde_json::Value = serde_json::from_str(line).unwrap();
            event["metadata"]["n"].as_u64().unwrap()
        })
        .collect();
    seen.sort_unstable();
    assert!(seen.into_iter().eq(0..200));
    // The cursors are where the node keeps them, and not in the container.
    let listed = node.driver().list_consumers("t").unwrap();
    assert_eq!(listed.len(), 2, "one of each partition: {listed:?}");
}
