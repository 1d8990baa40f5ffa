//! A power cut after somebody read the files of a log through the page cache, where blocks lie that were allocated and never
//! written.

use std::fs::OpenOptions;
use std::process::Command;

use mofka_net::Opcode;
use mofka_tests::Node;
use mofka_tests::raw::RawClient;
use rustix::fs::{FallocateFlags, fallocate};
use serde_json::{Value, json};

/// Allocated behind the files, as by a node that was killed before it wrote zeros there.
const AHEAD_BYTES: u64 = 4 << 20;
/// More than the room that a file has from the beginning.
const BATCHES: u64 = 3000;

#[test]
fn what_is_synced_survives_where_a_backup_read_blocks_that_were_never_written() {
    let Some(mut node) = Node::prepare_with_disk(&["-c", "config.json"], 256 << 20) else {
        return;
    };
    let data_dir = node.disk().path().join("data");
    let config = json!({"data_dir": data_dir, "listen": ["tcp://127.0.0.1:0"], "shards": 1});
    std::fs::write(node.dir().join("config.json"), config.to_string()).unwrap();
    // The journal is not committed by itself while this runs.
    let mut remount = Command::new("mount");
    let remounted = remount
        .args(["-o", "remount,commit=300"])
        .arg(node.disk().path())
        .status();
    assert!(remounted.unwrap().success());
    node.start_again();
    let (mut client, _) = RawClient::hello(&node.group_file());
    let partition = client.create_partition();
    client.produce_now(partition, &[("{}", b"first")], None).unwrap();
    node.kill();
    let log = data_dir.join("partitions").join(partition.to_string());
    for ending in ["meta", "data"] {
        let path = log.join(format!("{:020}.{ending}", 0));
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        let size = file.metadata().unwrap().len();
        fallocate(&file, FallocateFlags::empty(), size, AHEAD_BYTES).unwrap();
        file.sync_all().unwrap();
        assert_eq!(std::fs::read(&path).unwrap().len() as u64, size + AHEAD_BYTES);
    }
    node.start_again();
    let (mut client, _) = RawClient::hello(&node.group_file());
    let data = vec![7; 3000];
    for n in 0..BATCHES {
        let answer = client.produce_now(partition, &[("{}", &data)], None).unwrap();
        assert_eq!(answer.base_event_id.get(), n + 1);
    }
    node.disk().cut();
    node.kill();
    node.disk().restore();
    node.start_again();
    let (mut client, _) = RawClient::hello(&node.group_file());
    let status: Value = serde_json::from_slice(&client.json(Opcode::Status, &json!({})).unwrap()).unwrap();
    let found = &status["shards"][0]["partitions"][0];
    assert_eq!(
        (&found["state"], &found["events"]),
        (&json!("open"), &json!(BATCHES + 1)),
        "{found}"
    );
}
