//! Stop, kill, start again: everything is found again.

use mofka_net::control::{From, Selection, SubscribeRequest};
use mofka_net::{AcknowledgeRequest, AcknowledgeResponse, ErrorCode, Opcode};
use mofka_tests::Node;
use mofka_tests::raw::RawClient;
use serde_json::json;
use uuid::Uuid;

#[test]
fn topics_partitions_events_and_cursors_survive_a_clean_stop_and_a_kill() {
    let mut node = Node::start(&["--shards", "2"]);
    let (mut client, hello) = RawClient::hello(&node.group_file());
    client
        .create_topic(&json!({"name": "kept", "num_partitions": 2}))
        .unwrap();
    client
        .create_topic(&json!({"name": "gone", "num_partitions": 2}))
        .unwrap();
    let topic = client
        .create_topic(&json!({"name": "t", "num_partitions": 1}))
        .unwrap();
    client
        .json(Opcode::TopicDelete, &json!({"name": "gone"}))
        .unwrap();
    let partition = &topic.partitions[0];
    let (mut owner, _) = RawClient::hello_at(&partition.addresses[0]);
    let events: Vec<(String, Vec<u8>)> = (0..50_u8)
        .map(|n| (format!("{{\"n\":{n}}}"), vec![n; usize::from(n) * 100]))
        .collect();
    for (metadata, data) in &events {
        owner
            .produce_now(partition.id, &[(metadata, data)], None)
            .unwrap();
    }
    let ack = AcknowledgeRequest {
        partition: partition.id,
        consumer: "c".to_owned(),
        next_event_id: mofka_log::EventId::new(20),
    };
    let answer = owner.call(Opcode::Acknowledge, &ack.encode().unwrap()).unwrap();
    assert_eq!(
        AcknowledgeResponse::check(&answer).unwrap().next_event_id.get(),
        20
    );
    let earlier = AcknowledgeRequest {
        next_event_id: mofka_log::EventId::new(3),
        ..ack.clone()
    };
    let answer = owner
        .call(Opcode::Acknowledge, &earlier.encode().unwrap())
        .unwrap();
    assert_eq!(
        AcknowledgeResponse::check(&answer).unwrap().next_event_id.get(),
        20,
        "cursors do not move back"
    );
    let beyond = AcknowledgeRequest {
        next_event_id: mofka_log::EventId::new(51),
        ..ack
    };
    let error = owner
        .call(Opcode::Acknowledge, &beyond.encode().unwrap())
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::InvalidArgument);

    for how in ["kill", "stop", "kill"] {
        if how == "kill" {
            node.kill();
        } else {
            assert!(node.terminate().success());
        }
        node.start_again();
        let (mut client, again) = RawClient::hello(&node.group_file());
        assert_eq!(again.node, hello.node, "the node keeps its identity");
        let list = client.json(Opcode::TopicList, &json!({})).unwrap();
        let list: serde_json::Value = serde_json::from_slice(&list).unwrap();
        let names: Vec<&str> = list["topics"]
            .as_array()
            .unwrap()
            .iter()
            .map(|t| t["name"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["kept", "t"]);
        let described = client.json(Opcode::TopicDescribe, &json!({"name": "t"})).unwrap();
        let described: serde_json::Value = serde_json::from_slice(&described).unwrap();
        let address = described["partitions"][0]["addresses"][0].as_str().unwrap();
        let (mut owner, _) = RawClient::hello_at(address);
        let mut found = Vec::new();
        let terms = SubscribeRequest {
            subscription: 1 << 40,
            partition: partition.id,
            consumer: "c".to_owned(),
            member: Uuid::nil(),
            filter: None,
            from: From::Cursor,
            batch_events_max: 7,
            batch_bytes_max: 1 << 20,
            credits: 100,
            selection: Selection::All,
        };
        assert_eq!(
            owner.subscribe(&terms).unwrap().next_event_id,
            20,
            "after {how}: the cursor is kept"
        );
        while found.len() < 30 {
            let (_, batches) = owner.feed(terms.subscription);
            for batch in batches {
                let event = batch.event(0).unwrap();
                found.push((
                    String::from_utf8(event.metadata.to_vec()).unwrap(),
                    batch.data().unwrap().to_vec(),
                ));
            }
        }
        assert_eq!(found, events[20..], "after {how}: what was sent, in order");
    }
    let partitions = std::fs::read_dir(node.data_dir().join("partitions"))
        .unwrap()
        .count();
    assert_eq!(partitions, 3, "the deleted topic's files are gone");
}

#[test]
fn a_complete_topic_refuses_events_and_ends_its_readers_also_after_a_restart() {
    let mut node = Node::start(&["--shards", "1"]);
    let (mut client, _) = RawClient::hello(&node.group_file());
    let partition = client.create_partition();
    client.produce_now(partition, &[("{}", b"last")], None).unwrap();
    client.json(Opcode::TopicComplete, &json!({"name": "t"})).unwrap();
    for _ in 0..2 {
        let (mut client, _) = RawClient::hello(&node.group_file());
        let error = client
            .produce_now(partition, &[("{}", b"too late")], None)
            .unwrap_err();
        assert_eq!(error.code, ErrorCode::TopicComplete);
        let terms = SubscribeRequest {
            subscription: 1 << 40,
            partition,
            consumer: "c".to_owned(),
            member: Uuid::nil(),
            filter: None,
            from: From::First,
            batch_events_max: 10,
            batch_bytes_max: 1 << 20,
            credits: 10,
            selection: Selection::None,
        };
        client.subscribe(&terms).unwrap();
        let (feed, batches) = client.feed(terms.subscription);
        assert!(!feed.header.end_of_stream && batches.len() == 1);
        let (feed, _) = client.feed(terms.subscription);
        assert!(feed.header.end_of_stream);
        node.kill();
        node.start_again();
    }
}
