//! What the catalog takes, and what becomes of partitions that cannot be opened.

use mofka_net::ErrorCode;
use mofka_net::control::{PartitionState, PartitionStatus};

use super::*;
use crate::sim::Fault;

fn create(node: &Node, client: &Client, id: u64, body: &str) -> Result<TopicInfo, WireError> {
    client.ask(Opcode::TopicCreate, id, body.as_bytes());
    node.settle();
    let answer = client.answer(id)?;
    Ok(serde_json::from_slice(&answer).unwrap())
}

fn describe(node: &Node, client: &Client, id: u64, name: &str) -> Result<TopicInfo, WireError> {
    client.ask(
        Opcode::TopicDescribe,
        id,
        format!(r#"{{"name":"{name}"}}"#).as_bytes(),
    );
    node.settle();
    let answer = client.answer(id)?;
    Ok(serde_json::from_slice(&answer).unwrap())
}

#[test]
fn what_the_catalog_cannot_hold_is_refused() {
    let node = Node::open(|_| ());
    let client = Client::connect(&node);
    let with_config = |name: &str, partitions: u32, bytes: usize| {
        let config = "c".repeat(bytes - 2);
        format!(
            r#"{{"name":"{name}","num_partitions":{partitions},"partition":{{"type":"memory","config":"{config}"}}}}"#
        )
    };
    let too_large = [(1, (64 << 10) + 1), (4000, 64 << 10), (520, 64 << 10)];
    for (id, (partitions, bytes)) in (10..).zip(too_large) {
        let error = create(&node, &client, id, &with_config("a", partitions, bytes)).unwrap_err();
        assert_eq!(error.code, ErrorCode::TooLarge, "{}", error.message);
    }
    let config = "c".repeat(64 << 10);
    let body = format!(r#"{{"topic":"t","type":"memory","rank":0,"config":"{config}"}}"#);
    client.ask(Opcode::PartitionAdd, 20, body.as_bytes());
    node.settle();
    assert_eq!(client.answer(20).unwrap_err().code, ErrorCode::TooLarge);
    // The whole catalog is bounded as well, and what is deleted makes room.
    let full = (100..200).find(|id| {
        let name = format!("t{id}");
        let created = create(&node, &client, *id, &with_config(&name, 200, 64 << 10));
        created.is_err_and(|error| {
            assert_eq!(error.code, ErrorCode::Overloaded, "{}", error.message);
            true
        })
    });
    assert_eq!(full, Some(105), "five of 12.5 MiB each");
    client.ask(Opcode::TopicDelete, 200, br#"{"name":"t100"}"#);
    node.settle();
    create(&node, &client, 201, &with_config("b", 200, 64 << 10)).unwrap();
}

#[test]
fn a_partition_that_cannot_be_opened_is_broken_and_those_after_it_are_there() {
    let mut broken_count = 0;
    for n in 0..12 {
        let node = Node::open(|_| ());
        let client = Client::connect(&node);
        node.io.place_fault(Fault::OpenError, n);
        let created = create(&node, &client, 10, r#"{"name":"new","num_partitions":6}"#);
        let Ok(topic) = describe(&node, &client, 11, "new") else {
            assert!(created.is_err());
            continue;
        };
        let own = topic.partitions.iter().filter(|partition| partition.shard == 0);
        let states: Vec<PartitionState> = (20..)
            .zip(own)
            .map(|(id, partition)| {
                let body = format!(r#"{{"partition":"{}"}}"#, partition.id);
                client.ask(Opcode::PartitionDescribe, id, body.as_bytes());
                node.settle();
                let status: PartitionStatus = serde_json::from_slice(&client.answer(id).unwrap()).unwrap();
                status.state
            })
            .collect();
        let broken = states
            .iter()
            .filter(|state| **state == PartitionState::Broken)
            .count();
        assert_eq!(broken > 0, created.is_err(), "{created:?}");
        assert!(broken <= 1 && states.len() == 3, "{states:?}");
        broken_count += broken;
    }
    assert!(broken_count > 0, "no fault hit the opening of a partition");
}
