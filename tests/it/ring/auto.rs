//! A node on `auto`: every client takes the nearest way by itself.

use mofka_client::{BatchSize, Driver, DriverOptions};
use mofka_tests::Node;
use serde_json::Value;

use super::{rings, there_and_back};

/// The first of these addresses is a socket of this machine, and another one TCP.
fn has_both(addresses: &Value) -> bool {
    let addresses: Vec<&str> = addresses
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it.as_str().unwrap())
        .collect();
    addresses[0].starts_with("na+sm:///")
        && addresses.len() == 2
        && addresses[1].starts_with("tcp://127.0.0.1:")
}

fn group(node: &Node) -> Value {
    serde_json::from_str(&std::fs::read_to_string(node.group_file()).unwrap()).unwrap()
}

#[test]
fn auto_is_taken_wherever_a_node_is_told_where_to_listen() {
    for arguments in [
        ["--listen", "auto", "--shards", "1"],
        ["--protocol", "auto", "--shards", "1"],
        ["-c", "config.json", "--shards", "1"],
    ] {
        let mut node = Node::prepare(&arguments);
        let config = r#"{"listen": ["na+sm", "auto"]}"#;
        std::fs::write(node.dir().join("config.json"), config).unwrap();
        node.start_again();
        let group = group(&node);
        assert!(
            has_both(&group["members"][0]["addresses"]),
            "{arguments:?}: {group}"
        );
        // As in the original, one process in the background and its group file are all that a program needs.
        there_and_back(&node.driver(), "t", 10, 100, BatchSize::Adaptive);
        assert!(rings(&node).opened_count > 0);
    }
}

#[test]
fn every_client_of_a_node_on_auto_takes_the_nearest_way() {
    let node = Node::start(&["--protocol", "auto", "--shards", "2"]);
    let group = group(&node);
    let shards = group["members"][0]["shards"].as_array().unwrap();
    assert!(shards.len() == 2 && shards.iter().all(has_both), "{group}");

    // Of this machine: shared memory, with every shard.
    there_and_back(&node.driver(), "near", 300, 2000, BatchSize::Adaptive);
    let near = rings(&node);
    assert!(
        near.opened_count >= 2 && near.received_count > near.opened_count,
        "{near:?}"
    );

    // One that wants none, and one that came over the network, at whose addresses the sockets would be there as well.
    let without = DriverOptions {
        shared_memory: None,
        ..DriverOptions::group_file(node.group_file())
    };
    let network = DriverOptions {
        addresses: vec![shards[0][1].as_str().unwrap().to_owned()],
        ..DriverOptions::default()
    };
    for (topic, options) in [("without", without), ("network", network)] {
        let driver = Driver::connect(options).unwrap();
        there_and_back(&driver, topic, 300, 2000, BatchSize::Adaptive);
        let after = rings(&node);
        assert_eq!(
            (after.opened_count, after.received_count),
            (near.opened_count, near.received_count),
            "{topic}"
        );
    }
}
