//! Starting: what cannot be used is refused with a message that says what and where, and leaves nothing behind.

use std::process::{Command, Output};

use mofka_tests::{Node, program};
use rustix::process::geteuid;

fn mofkad(dir: &std::path::Path, arguments: &[&str]) -> (Output, String) {
    let output = Command::new(program("mofkad"))
        .args(arguments)
        .current_dir(dir)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!text.contains("panicked"), "{text}");
    (output, text)
}

fn refused(arguments: &[&str], config: Option<&str>, expected: &[&str]) {
    let node = Node::prepare(&[]);
    if let Some(config) = config {
        std::fs::write(node.dir().join("config.json"), config).unwrap();
    }
    let (output, text) = mofkad(node.dir(), arguments);
    assert!(!output.status.success(), "{arguments:?} was accepted:\n{text}");
    for part in expected {
        assert!(
            text.contains(part),
            "{arguments:?}: {part:?} is missing in\n{text}"
        );
    }
}

#[test]
fn wrong_configurations_are_refused_with_what_and_where() {
    let with_config = ["-c", "config.json"];
    refused(
        &with_config,
        Some("{\"shard\": 2}"),
        &["config.json", "unknown key \"shard\"", "did you mean \"shards\"?"],
    );
    refused(
        &with_config,
        Some("{\"shards\": \"two\"}"),
        &["config.json", "line 1"],
    );
    refused(&with_config, Some("{"), &["config.json", "not JSON"]);
    refused(&with_config, Some("{\"providers\": []}"), &["mofka:master"]);
    refused(&["-c", "missing.json"], None, &["missing.json", "No such file"]);
    refused(&["--listen", "carrier-pigeon://x"], None, &["carrier-pigeon"]);
    refused(&["--protocol", "verbs"], None, &["\"verbs\"", "na+sm"]);
    refused(&["--log-level", "=="], None, &["--log-level"]);
    refused(&["--sharts", "2"], None, &["--shards"]);
}

#[test]
fn a_port_in_use_and_a_directory_in_use_are_named() {
    let node = Node::start(&["--listen", "tcp://127.0.0.1:0", "--shards", "1"]);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("tcp://{}", taken.local_addr().unwrap());
    refused(
        &["--listen", &address, "--shards", "1"],
        None,
        &[&address, "another program"],
    );
    let dir = node.data_dir().display().to_string();
    let by = format!("process {}", node.pid());
    refused(
        &["--data-dir", &dir],
        None,
        &[&dir, "in use by another mofkad", &by],
    );
}

#[test]
fn a_directory_that_cannot_hold_a_log_is_refused() {
    if geteuid().is_root() {
        // Root may write everywhere: a file in the way is refused for everybody.
        refused(&["--data-dir", "/proc/mofka"], None, &["/proc/mofka"]);
    } else {
        refused(
            &["--data-dir", "/mofka-data"],
            None,
            &["/mofka-data", "Permission denied"],
        );
    }
    let in_memory = tempfile::tempdir_in("/dev/shm").unwrap();
    let dir = in_memory.path().display().to_string();
    refused(&["--data-dir", &dir], None, &["direct I/O", "direct_io", &dir]);
}

#[test]
fn buffered_files_are_used_where_that_is_allowed_and_the_log_says_so() {
    let in_memory = tempfile::tempdir_in("/dev/shm").unwrap();
    let mut node = Node::prepare(&["-c", "config.json"]);
    let config = serde_json::json!({"data_dir": in_memory.path(), "direct_io": "auto", "shards": 1});
    std::fs::write(node.dir().join("config.json"), config.to_string()).unwrap();
    node.start_again();
    assert!(node.log().contains("no direct I/O"), "{}", node.log());
    let (mut client, _) = mofka_tests::raw::RawClient::hello(&node.group_file());
    let topic = client
        .create_topic(&serde_json::json!({"name": "t", "num_partitions": 1}))
        .unwrap();
    for n in 0..3 {
        let answer = client
            .produce_now(topic.partitions[0].id, &[("{}", b"data")], None)
            .unwrap();
        assert_eq!(answer.base_event_id.get(), n);
    }
    node.kill();
    node.start_again();
    let (mut client, _) = mofka_tests::raw::RawClient::hello(&node.group_file());
    let answer = client
        .produce_now(topic.partitions[0].id, &[("{}", b"data")], None)
        .unwrap();
    assert_eq!(answer.base_event_id.get(), 3);
}

#[test]
fn log_files_bypass_the_page_cache() {
    let node = Node::start(&["--shards", "1"]);
    let (mut client, _) = mofka_tests::raw::RawClient::hello(&node.group_file());
    let topic = client
        .create_topic(&serde_json::json!({"name": "t", "num_partitions": 1}))
        .unwrap();
    client
        .produce_now(topic.partitions[0].id, &[("{}", b"data")], None)
        .unwrap();
    let process = std::path::PathBuf::from(format!("/proc/{}", node.pid()));
    let mut direct = Vec::new();
    let mut rings = 0;
    for entry in std::fs::read_dir(process.join("fd")).unwrap() {
        let entry = entry.unwrap();
        let target = std::fs::read_link(entry.path()).unwrap_or_default();
        rings += usize::from(target.to_string_lossy().contains("io_uring"));
        if target
            .extension()
            .is_some_and(|end| end == "meta" || end == "data")
        {
            let info = std::fs::read_to_string(process.join("fdinfo").join(entry.file_name())).unwrap();
            let flags = info
                .lines()
                .find_map(|line| line.strip_prefix("flags:"))
                .unwrap()
                .trim()
                .to_owned();
            // O_DIRECT, in octal.
            direct.push(u32::from_str_radix(&flags, 8).unwrap() & 0o40000 != 0);
        }
    }
    assert_eq!(direct, [true, true], "both log files are open for direct I/O");
    assert!(rings > 0, "io_uring is in use");
}

/// A lost wake-up once hung one start, or one stop, in twenty: see `docs/decisions/0001-runtime.md`.
#[test]
fn a_node_starts_and_stops_many_times() {
    let mut node = Node::start(&["--shards", "2"]);
    for time in 0..40 {
        if time % 2 == 0 {
            assert!(node.terminate().success(), "stop {time}");
        } else {
            node.kill();
        }
        node.start_again();
    }
}

#[test]
fn truncated_and_corrupted_segments_are_named_and_never_served() {
    use mofka_net::control::{NodeStatus, PartitionState, decode_any};
    use mofka_net::{ErrorCode, Opcode};

    type Harm = fn(&mut Vec<u8>);
    let harms: [(&str, Harm); 3] = [
        ("a flipped bit", |file| file[4300] ^= 1),
        ("a lost end", |file| file.truncate(4500)),
        ("a lost file but for its header", |file| file.truncate(4096)),
    ];
    for (what, harm) in harms {
        let mut node = Node::start(&["--shards", "1"]);
        let (mut client, _) = mofka_tests::raw::RawClient::hello(&node.group_file());
        let topic = client
            .create_topic(&serde_json::json!({"name": "t", "num_partitions": 2}))
            .unwrap();
        for partition in &topic.partitions {
            for _ in 0..5 {
                client
                    .produce_now(partition.id, &[("{\"some\":\"event\"}", b"data")], None)
                    .unwrap();
            }
        }
        assert!(node.terminate().success());
        let dir = node
            .data_dir()
            .join("partitions")
            .join(topic.partitions[0].id.to_string());
        let path = dir.join("00000000000000000000.meta");
        let mut bytes = std::fs::read(&path).unwrap();
        harm(&mut bytes);
        std::fs::write(&path, bytes).unwrap();
        node.start_again();
        let log = node.log();
        assert!(
            log.contains("read-only") && log.contains("damaged"),
            "{what}: {log}"
        );
        let (mut client, _) = mofka_tests::raw::RawClient::hello(&node.group_file());
        let status = client.json(Opcode::Status, &serde_json::json!({})).unwrap();
        let status: NodeStatus = decode_any("status", &status).unwrap();
        let of = |id| {
            status
                .partitions()
                .find(|partition| partition.info.id == id)
                .unwrap()
        };
        assert_eq!(
            of(topic.partitions[0].id).state,
            PartitionState::ReadOnly,
            "{what}"
        );
        assert_eq!(
            of(topic.partitions[1].id).state,
            PartitionState::Open,
            "{what}: the others are untouched"
        );
        let refused = client
            .produce_now(topic.partitions[0].id, &[("{}", b"")], None)
            .unwrap_err();
        assert_eq!(refused.code, ErrorCode::ReadOnly, "{what}: {refused}");
        assert_eq!(
            client
                .produce_now(topic.partitions[1].id, &[("{}", b"")], None)
                .unwrap()
                .base_event_id
                .get(),
            5
        );
    }
}
