//! Silence, and what it means.

use std::time::Duration;

use mofka_log::{EventId, Reference};
use mofka_net::{DataDescriptor, DataReference};

use super::*;

const HEARTBEAT: Duration = Duration::from_millis(10_000);

/// Lets so many heartbeats pass, and a little more.
fn pass(node: &Node, heartbeats: u32) {
    let until_us = node.io.monotonic_us() + (HEARTBEAT * heartbeats).as_micros() as u64 + 1;
    let io = node.io.clone();
    node.io.spawn(async move {
        let left_us = until_us.saturating_sub(io.monotonic_us());
        io.sleep(Duration::from_micros(left_us)).await;
    });
    node.settle();
    while node.io.monotonic_us() < until_us {
        assert!(node.io.step(), "time stands still");
    }
}

fn signs_of_life(client: &Client) -> usize {
    let sign = (0, FrameKind::Response(Opcode::Ping));
    let frames = client.pipe.frames().into_iter();
    frames
        .filter(|(header, _)| (header.request_id(), header.kind()) == sign)
        .count()
}

#[test]
fn a_client_whose_requests_must_wait_hears_that_the_node_lives() {
    let node = Node::open(|_| ());
    let client = Client::connect(&node);
    // It is not known whether that event is there until another shard says so, which never comes.
    let descriptor = DataDescriptor::of_event(EventId::new(0), 1);
    let reference = DataReference::new(node.elsewhere, descriptor)
        .unwrap()
        .serialize();
    let mut builder = BatchBuilder::new();
    builder
        .push_reference(b"{}", Reference::check(&reference).unwrap())
        .unwrap();
    let prefix = ProducePrefix {
        partition: node.memory,
        durability: None,
    };
    let (frame, data) = builder.finish(None);
    client.produce(10, &[&prefix.encode()[..], &frame, &data].concat());
    client.ask(Opcode::Ping, 11, b"");
    node.settle();
    assert!(client.find(10).is_none() && client.find(11).is_none());
    // Within the three heartbeats after which a client gives up.
    pass(&node, 2);
    assert_eq!(signs_of_life(&client), 1);
    pass(&node, 8);
    assert!((8..=9).contains(&signs_of_life(&client)));
    assert!(!client.ended.get());
}

#[test]
fn nothing_is_said_to_a_client_that_is_answered_and_a_silent_one_is_let_go() {
    let node = Node::open(|_| ());
    let client = Client::connect(&node);
    for id in 10..20 {
        client.ask(Opcode::Ping, id, b"");
        node.settle();
        client.answer(id).unwrap();
        pass(&node, 1);
    }
    assert!(!client.ended.get());
    pass(&node, 7);
    assert_eq!(signs_of_life(&client), 0);
    assert!(client.ended.get());
}

#[test]
fn a_frame_that_takes_long_to_arrive_is_no_silence() {
    let node = Node::open(|_| ());
    let client = Client::connect(&node);
    let body = batch(node.memory, std::iter::once((&b"{}"[..], &[7; 100_000][..])));
    let header = FrameHeader::self_checked(Opcode::Produce, 10, body.len() as u64);
    let frame = [&header[..], &body].concat();
    for piece in frame.chunks(frame.len() / 10) {
        client.pipe.send(piece.to_vec());
        node.settle();
        pass(&node, 1);
    }
    assert!(!client.ended.get());
    client.answer(10).unwrap();
    let signs = signs_of_life(&client);
    assert!((8..=10).contains(&signs), "{signs}");
    // The rest of the next one never comes.
    client.pipe.send(frame[..1000].to_vec());
    node.settle();
    pass(&node, 7);
    assert!(client.ended.get());
    assert!(signs_of_life(&client) <= signs + 1);
}

#[test]
fn a_silent_client_is_let_go_also_with_questions_that_wait_for_it_to_take_answers() {
    let node = Node::open(|limits| limits.connection_outbox_bytes_max = 1 << 20);
    let client = Client::connect(&node);
    let document = "x".repeat(200_000);
    let create = format!(r#"{{"name":"large","validator":{{"type":"elsewhere","schema":"{document}"}}}}"#);
    client.ask(Opcode::TopicCreate, 10, create.as_bytes());
    node.settle();
    client.answer(10).unwrap();
    client.pipe.take_nothing(true);
    for id in 100..150 {
        client.ask(Opcode::TopicDescribe, id, br#"{"name":"large"}"#);
    }
    node.settle();
    assert!(node.unanswered_bytes() > 0 && !client.ended.get());
    pass(&node, 7);
    assert!(client.ended.get());
}
