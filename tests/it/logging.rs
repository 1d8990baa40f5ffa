//! The log: a line for each change of a partition, other levels while the node runs, and no secrets.

use std::time::{Duration, Instant};

use mofka_net::control::HelloRequest;
use mofka_net::{ErrorCode, Opcode};
use mofka_tests::Node;
use mofka_tests::raw::RawClient;
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);

/// The lines of a JSON log that tell the state of a partition: its topic, index and state.
fn states(node: &Node) -> Vec<(String, u64, String)> {
    let lines = node.log();
    let lines = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap_or_else(|_| panic!("not JSON: {line}")));
    let of = |line: Value| {
        let state = line.get("state")?.as_str()?.to_owned();
        Some((
            line["topic"].as_str()?.to_owned(),
            line["partition"].as_u64()?,
            state,
        ))
    };
    lines.filter_map(of).collect()
}

#[test]
fn each_change_of_a_partition_is_one_line_also_for_programs() {
    let mut node = Node::start(&["--shards", "1", "--log-format", "json"]);
    let (mut client, _) = RawClient::hello(&node.group_file());
    let topic = client
        .create_topic(&json!({"name": "t", "num_partitions": 2}))
        .unwrap();
    for partition in &topic.partitions {
        for _ in 0..5 {
            client
                .produce_now(partition.id, &[("{\"some\":\"event\"}", b"data")], None)
                .unwrap();
        }
    }
    client
        .create_topic(&json!({"name": "gone", "num_partitions": 1}))
        .unwrap();
    client
        .json(Opcode::TopicDelete, &json!({"name": "gone"}))
        .unwrap();
    client
        .json(Opcode::TopicComplete, &json!({"name": "t", "partition": 1}))
        .unwrap();
    let state = |topic: &str, partition, state: &str| (topic.to_owned(), partition, state.to_owned());
    let first_life = [
        state("t", 0, "open"),
        state("t", 1, "open"),
        state("gone", 0, "open"),
        state("gone", 0, "deleted"),
        state("t", 1, "complete"),
    ];
    assert_eq!(states(&node), first_life);
    assert!(node.terminate().success());
    assert_eq!(states(&node), first_life, "a stop changes no state");
    let path = node
        .data_dir()
        .join("partitions")
        .join(topic.partitions[0].id.to_string());
    let path = path.join("00000000000000000000.meta");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[4300] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    node.start_again();
    let mut second_life = states(&node).split_off(first_life.len());
    second_life.sort();
    assert_eq!(second_life, [state("t", 0, "read_only"), state("t", 1, "open")]);
}

#[test]
fn the_level_changes_while_the_node_runs() {
    let node = Node::start(&["--shards", "2"]);
    let (mut client, _) = RawClient::hello(&node.group_file());
    let mut set = |body: Value| client.json(Opcode::ConfigSet, &json!({"set": body}));
    let is_noisy = |node: &Node| {
        // In lines: a reader may meet the middle of a letter.
        let before = node.log().lines().count();
        let since = |node: &Node| node.log().lines().skip(before).collect::<String>();
        let (mut other, _) = RawClient::hello(&node.group_file());
        // Nonsense: its connection ends, which is told at debug.
        other.send(&[0; 64]).unwrap();
        while other.receive().is_ok() {}
        let deadline = Instant::now() + PATIENCE;
        loop {
            let log = since(node);
            if log.contains("closing a connection") {
                // What follows at once is there when the next connection was served.
                RawClient::hello(&node.group_file());
                let deadline = Instant::now() + Duration::from_secs(1);
                while Instant::now() < deadline {
                    if since(node).contains("DEBUG") {
                        return true;
                    }
                    std::thread::sleep(Duration::from_millis(20));
                }
                return false;
            }
            assert!(Instant::now() < deadline, "{log}");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    assert!(!is_noisy(&node));
    let changed: Value = serde_json::from_slice(&set(json!({"log_level": "debug"})).unwrap()).unwrap();
    assert_eq!(
        changed,
        json!({"changed": [{"key": "log_level", "was": "info", "is": "debug", "note": "at once"}]})
    );
    assert!(is_noisy(&node));
    let same: Value = serde_json::from_slice(&set(json!({"log_level": "debug"})).unwrap()).unwrap();
    assert_eq!(same, json!({"changed": []}));
    for (body, words) in [
        (json!({"log_level": "loud"}), "log level \"loud\" is none of"),
        (json!({"log_level": 3}), "\"log_level\": invalid type"),
        (json!({"log_lvl": "info"}), "did you mean \"log_level\"?"),
        (
            json!({"limits.heartbeat_ms": 3}),
            "cannot be changed while the node runs",
        ),
        // Together with something that cannot be, nothing is changed.
        (
            json!({"log_level": "info", "shards": 3}),
            "\"shards\" cannot be changed",
        ),
    ] {
        let error = set(body.clone()).unwrap_err();
        assert_eq!(error.code, ErrorCode::InvalidArgument, "{body}");
        assert!(error.message.contains(words), "{body}: {error}");
    }
    assert!(is_noisy(&node), "what was refused changed nothing");
    set(json!({"log_level": "info"})).unwrap();
    assert!(!is_noisy(&node));
    let settings: Value =
        serde_json::from_slice(&client.json(Opcode::ConfigGet, &json!({})).unwrap()).unwrap();
    let settings = settings["settings"].as_array().unwrap().clone();
    let of = |key: &str| settings.iter().find(|setting| setting["key"] == key).unwrap();
    assert_eq!(
        of("log_level"),
        &json!({"key": "log_level", "value": "info", "configured": "info", "live": true, "note": "at once"})
    );
    assert_eq!(
        (&of("limits.connections_max")["value"], &of("shards")["live"]),
        (&json!(4096), &json!(false))
    );
    assert!(node.log().contains("setting changed"), "{}", node.log());
}

#[test]
fn nothing_secret_is_logged_at_any_level() {
    let node = Node::start(&[
        "--shards",
        "1",
        "--log-level",
        "trace",
        "--monitoring",
        "127.0.0.1:0",
    ]);
    let (mut client, _) = RawClient::hello(&node.group_file());
    let topic = client
        .create_topic(&json!({"name": "t", "num_partitions": 1}))
        .unwrap();
    let partition = topic.partitions[0].id;
    client
        .produce_now(
            partition,
            &[("{\"password\":\"metadata-secret\"}", b"data-secret")],
            None,
        )
        .unwrap();
    let mut other = RawClient::connect(&topic.partitions[0].addresses[0]);
    let hello = HelloRequest {
        version_min: 1,
        version_max: 1,
        client: "someone".to_owned(),
        features: Vec::new(),
        token: Some("token-secret".to_owned()),
    };
    other.json(Opcode::Hello, &hello).unwrap();
    other.json(Opcode::Status, &json!({})).unwrap();
    let log = node.log();
    assert!(log.contains("ready"));
    for secret in ["metadata-secret", "data-secret", "token-secret"] {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
}
