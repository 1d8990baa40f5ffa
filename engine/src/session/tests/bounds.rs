//! What one client may have under way.

use mofka_net::ErrorCode;

use super::*;

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
