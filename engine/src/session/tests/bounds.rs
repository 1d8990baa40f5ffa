//! What one client may have under way.

use mofka_log::EventId;
use mofka_net::control::GroupSyncResponse;
use mofka_net::{AcknowledgeRequest, ErrorCode, FlushRequest, StreamPrefix};

use super::*;
use crate::errands::Errands;
use crate::outbox::Outbox;

const EVENT: (&[u8], &[u8]) = (b"{}", b"data");

fn stream_open(client: &Client, id: u64, partition: Uuid) {
    let body = format!(r#"{{"partition":"{partition}"}}"#);
    client.ask(Opcode::StreamOpen, id, body.as_bytes());
}

#[test]
fn streams_that_are_opened_all_at_once_are_bounded_like_others() {
    let node = Node::open(|limits| limits.connection_streams_max = 3);
    let client = Client::connect(&node);
    // These come to nothing, and take nothing for good.
    (10..20).for_each(|id| stream_open(&client, id, node.memory));
    node.settle();
    let refused = (10..20).map(|id| client.answer(id).unwrap_err().code);
    let expected = |id: u64| match id {
        10..13 => ErrorCode::InvalidArgument,
        _ => ErrorCode::Overloaded,
    };
    assert!(refused.eq((10..20).map(expected)));
    (20..30).for_each(|id| stream_open(&client, id, node.log));
    node.settle();
    let opened: Vec<u64> = (20..30).filter(|id| client.answer(*id).is_ok()).collect();
    assert_eq!(opened, [20, 21, 22]);
    let answer: serde_json::Value = serde_json::from_slice(&client.answer(20).unwrap()).unwrap();
    let body = format!(r#"{{"stream":{}}}"#, answer["stream"]);
    client.ask(Opcode::StreamAbort, 30, body.as_bytes());
    node.settle();
    (31..33).for_each(|id| stream_open(&client, id, node.log));
    node.settle();
    client.answer(31).unwrap();
    assert_eq!(client.answer(32).unwrap_err().code, ErrorCode::Overloaded);
}

#[test]
fn a_stream_that_failed_gives_its_place_back_when_its_client_goes() {
    const PART_BYTES: u64 = 65_536;
    let node = Node::open(|limits| limits.shard_streams_max = 1);
    let client = Client::connect(&node);
    stream_open(&client, 10, node.log);
    node.settle();
    let opened: serde_json::Value = serde_json::from_slice(&client.answer(10).unwrap()).unwrap();
    let stream = opened["stream"].as_u64().unwrap();
    node.io.fail_write(0);
    // The second one is refused for the first, and neither is the end of it.
    for (id, offset) in [(11, 0), (12, PART_BYTES)] {
        let prefix = StreamPrefix { stream, offset }.encode();
        let body = [&prefix[..], &[7; PART_BYTES as usize]].concat();
        let header = FrameHeader::self_checked(Opcode::StreamPart, id, body.len() as u64);
        client.pipe.send([&header[..], &body].concat());
        node.settle();
        assert_eq!(client.answer(id).unwrap_err().code, ErrorCode::Internal);
    }
    client.pipe.end();
    node.settle();
    let other = Client::connect(&node);
    stream_open(&other, 10, node.log);
    node.settle();
    other.answer(10).unwrap();
}

#[test]
fn every_request_that_waits_counts_as_unanswered() {
    let node = Node::open(|_| ());
    let client = Client::connect(&node);
    let seek = format!(r#"{{"partition":"{}","consumer":"c","to":{{"id":0}}}}"#, node.log);
    let delete = format!(r#"{{"partition":"{}","consumer":"c"}}"#, node.log);
    let acknowledge = AcknowledgeRequest {
        partition: node.log,
        next_event_id: EventId::new(1),
        consumer: "c".to_owned(),
    };
    client.produce(10, &batch(node.log, std::iter::once(EVENT)));
    node.settle();
    // Each changes what is stored, so that it waits for the device.
    let changes = [
        (Opcode::Acknowledge, acknowledge.encode().unwrap()),
        (Opcode::Seek, seek.into()),
        (Opcode::ConsumerDelete, delete.into()),
    ];
    for (id, (opcode, body)) in (11..).zip(changes) {
        client.ask(opcode, id, &body);
        assert_eq!(
            counted_until_answered(&node, &client, id),
            body.len() as u64 + 512
        );
    }
    let produce = batch(node.log, std::iter::once(EVENT));
    client.produce(20, &produce);
    let flush = FlushRequest { partition: node.log };
    let flush = flush.encode();
    client.ask(Opcode::Flush, 21, &flush);
    let together = (produce.len() + flush.len()) as u64 + 512;
    assert_eq!(counted_until_answered(&node, &client, 21), together);
}

/// What counts while a request waits; nothing does afterwards.
fn counted_until_answered(node: &Node, client: &Client, id: u64) -> u64 {
    node.io.run_tasks();
    assert!(client.find(id).is_none(), "request {id} does not wait");
    let counted = node.unanswered_bytes();
    node.settle();
    client.answer(id).unwrap();
    assert_eq!(node.unanswered_bytes(), 0);
    counted
}

#[test]
fn all_that_comes_in_one_go_is_bounded_too() {
    const FLUSHES: u64 = 100;
    let node = Node::open(|limits| limits.connection_inflight_bytes_max = 4096);
    let client = Client::connect(&node);
    let produce = batch(node.log, std::iter::once(EVENT));
    let header = FrameHeader::self_checked(Opcode::Produce, 10, produce.len() as u64);
    let mut burst = [&header[..], &produce].concat();
    let flush = FlushRequest { partition: node.log }.encode();
    for id in 11..11 + FLUSHES {
        burst.extend_from_slice(&FrameHeader::request(Opcode::Flush, id, &flush));
        burst.extend_from_slice(&flush);
    }
    client.pipe.send(burst);
    node.io.run_tasks();
    let unanswered = node.unanswered_bytes();
    assert!((4096..4096 + 1024).contains(&unanswered), "{unanswered}");
    node.settle();
    (10..11 + FLUSHES).for_each(|id| drop(client.answer(id).unwrap()));
}

#[test]
fn large_answers_wait_for_a_client_that_does_not_take_them() {
    const QUESTIONS: u64 = 300;
    const DOCUMENT_BYTES: u64 = 200_000;
    const OUTBOX_BYTES: u64 = 1 << 20;
    let node = Node::open(|limits| limits.connection_outbox_bytes_max = OUTBOX_BYTES);
    let client = Client::connect(&node);
    let document = "x".repeat(DOCUMENT_BYTES as usize);
    let create = format!(r#"{{"name":"large","validator":{{"type":"elsewhere","schema":"{document}"}}}}"#);
    client.ask(Opcode::TopicCreate, 10, create.as_bytes());
    node.settle();
    client.answer(10).unwrap();
    client.pipe.take_nothing(true);
    let question = br#"{"name":"large"}"#;
    let burst = (100..100 + QUESTIONS).flat_map(|id| {
        let header = FrameHeader::request(Opcode::TopicDescribe, id, question);
        [&header[..], question].concat()
    });
    client.pipe.send(burst.collect());
    node.settle();
    let outbox_bytes = node.counted().outbox_bytes;
    assert!(
        (OUTBOX_BYTES..OUTBOX_BYTES + 5 * DOCUMENT_BYTES).contains(&outbox_bytes),
        "{outbox_bytes} bytes of answers wait"
    );
    client.pipe.take_nothing(false);
    node.settle();
    (100..100 + QUESTIONS).for_each(|id| assert!(client.answer(id).unwrap().len() as u64 > DOCUMENT_BYTES));
    assert_eq!(node.unanswered_bytes(), 0);
}

#[test]
fn a_change_that_waits_for_a_client_is_made_when_that_is_gone() {
    let node = Node::open(|_| ());
    let client = Client::connect(&node);
    let is_there = |id: u64| {
        client.ask(Opcode::TopicDescribe, id, br#"{"name":"behind"}"#);
        node.settle();
        client.answer(id).is_ok()
    };
    let outbox = Rc::new(Outbox::new(10));
    outbox.push([Bytes::from_static(&[0; 100])]);
    let create = ShardCall::Control(Opcode::TopicCreate, br#"{"name":"behind"}"#.to_vec());
    Rc::<Errands>::default().add(&node.shard, &outbox, (create, 0), |outcome| {
        drop(outcome.unwrap())
    });
    node.settle();
    assert!(!is_there(10), "nothing is begun for a client that takes nothing");
    outbox.close();
    node.settle();
    assert!(is_there(11));
}

#[test]
fn what_comes_for_a_poisoned_partition_is_refused_and_nobody_waits_for_it() {
    let node = Node::open(|limits| limits.partition_pending_bytes_max = 10_000);
    let (client, other) = (Client::connect(&node), Client::connect(&node));
    let large = vec![7; 6000];
    let produce = batch(node.log, std::iter::once((&b"{}"[..], &large[..])));
    node.io.fail_sync(0);
    for id in 10..20 {
        client.produce(id, &produce);
        other.produce(id, &produce);
    }
    client.ask(Opcode::Ping, 20, b"");
    other.ask(Opcode::Ping, 20, b"");
    node.settle();
    for client in [client, other] {
        for id in 10..20 {
            assert_eq!(client.answer(id).unwrap_err().code, ErrorCode::Poisoned);
        }
        client.answer(20).unwrap();
    }
}

#[test]
fn credit_beyond_reason_is_refused() {
    let node = Node::open(|_| ());
    let client = Client::connect(&node);
    subscribe(&client, 10, node.log, 0, (1 << 20) + 1);
    subscribe(&client, 11, node.log, 0, 1 << 20);
    node.settle();
    assert_eq!(client.answer(10).unwrap_err().code, ErrorCode::InvalidArgument);
    client.answer(11).unwrap();
}

#[test]
fn targets_are_partitions_that_are_there() {
    let node = Node::open(|_| ());
    let client = Client::connect(&node);
    let sync = |id: u64, targets: &str| {
        let member = Uuid::from_u128(id.into());
        let body = format!(
            r#"{{"topic":"t","consumer":"c{id}","member":"{member}","generation":0,"wait_ms":0,"targets":{targets}}}"#
        );
        client.ask(Opcode::GroupSync, id, body.as_bytes());
        node.settle();
        client.answer(id).map_err(|error| error.code)
    };
    for (id, targets) in [(10, "[3]"), (11, "[0,4294967295]"), (12, "[0,1,2,0]")] {
        assert_eq!(sync(id, targets), Err(ErrorCode::InvalidArgument), "{targets}");
    }
    assert!(sync(13, "[0,1,2]").is_ok());
}

fn group_sync(client: &Client, id: u64, member: u128, generation: u64, wait_ms: u32) -> u64 {
    let member = Uuid::from_u128(member);
    let body = format!(
        r#"{{"topic":"t","consumer":"c","member":"{member}","generation":{generation},"wait_ms":{wait_ms}}}"#
    );
    client.ask(Opcode::GroupSync, id, body.as_bytes());
    body.len() as u64
}

fn generation(client: &Client, id: u64) -> u64 {
    let answer: GroupSyncResponse = serde_json::from_slice(&client.answer(id).unwrap()).unwrap();
    answer.generation
}

#[test]
fn of_a_members_questions_over_a_connection_one_waits() {
    let node = Node::open(|_| ());
    let client = Client::connect(&node);
    group_sync(&client, 10, 7, 0, 0);
    node.settle();
    let known = generation(&client, 10);
    let bytes = group_sync(&client, 11, 7, known, 10_000);
    node.settle();
    assert!(client.find(11).is_none());
    assert_eq!(node.unanswered_bytes(), bytes + 512);
    for id in 12..20 {
        group_sync(&client, id, 7, known, 10_000);
        node.settle();
        assert_eq!(generation(&client, id - 1), known);
        assert!(client.find(id).is_none());
        assert_eq!(node.unanswered_bytes(), bytes + 512);
    }
    // The one that is left waits as long as it would have without the others.
    node.io.step();
    node.settle();
    while client.find(19).is_none() {
        assert!(node.io.step());
    }
    assert_eq!(generation(&client, 19), known);
}

#[test]
fn questions_of_many_members_are_bounded_too() {
    const MEMBERS: u64 = 20;
    let node = Node::open(|limits| limits.connection_inflight_bytes_max = 4096);
    let client = Client::connect(&node);
    (0..MEMBERS).for_each(|n| {
        group_sync(&client, 100 + n, n.into(), 0, 0);
        node.settle();
    });
    // Each joined, and changed what those before it read.
    (0..MEMBERS).for_each(|n| {
        group_sync(&client, 200 + n, n.into(), 1, 0);
        node.settle();
    });
    (0..MEMBERS).for_each(|n| {
        let known = generation(&client, 200 + n);
        group_sync(&client, 300 + n, n.into(), known, 10_000);
        node.settle();
    });
    let unanswered = node.unanswered_bytes();
    assert!((4096..4096 + 1024).contains(&unanswered), "{unanswered}");
}

#[test]
fn a_member_that_says_a_huge_generation_does_no_harm_to_others() {
    let node = Node::open(|_| ());
    let client = Client::connect(&node);
    group_sync(&client, 10, 1, 0, 0);
    node.settle();
    group_sync(&client, 11, 2, 1 << 62, 0);
    node.settle();
    group_sync(&client, 12, 3, u64::MAX, 0);
    node.settle();
    for id in 20..30 {
        group_sync(
            &client,
            id,
            1,
            generation(&client, if id == 20 { 10 } else { id - 1 }),
            0,
        );
        node.settle();
    }
    assert!(generation(&client, 29) > 1 << 62);
    assert!(generation(&client, 12) < u64::MAX);
}
