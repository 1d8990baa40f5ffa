//! Feeds of subscriptions that come and go.

use mofka_net::Feed;

use super::*;

/// Where the feeds of a subscription begin, without its answer.
fn fed(client: &Client, id: u64) -> Vec<u64> {
    let frames = client.pipe.frames().into_iter();
    let feeds = frames
        .filter(|(header, _)| header.request_id() == id && header.kind() == FrameKind::Request(Opcode::Feed));
    feeds
        .map(|(_, body)| Feed::check(body).unwrap().header.first_event_id.get())
        .collect()
}

#[test]
fn a_subscription_that_ended_sends_nothing_under_the_number_of_the_next() {
    const EVENTS: u64 = 1 << 12;
    let node = Node::open(|_| ());
    let client = Client::connect(&node);
    let events = std::iter::repeat_n((&br#"{"level":"x"}"#[..], &b""[..]), EVENTS as usize);
    client.produce(10, &batch(node.memory, events));
    client.produce(11, &batch(node.memory, std::iter::once((&b"{}"[..], &b""[..]))));
    node.settle();
    // Looking for one of so many takes a while, in which others have their turn.
    let levels: Vec<String> = (0..5000).map(|n| format!(r#""{n}""#)).collect();
    let slow = format!(
        r#"{{"subscription":20,"partition":"{}","consumer":"c","member":"{}","from":"first","batch_events_max":100000,
            "batch_bytes_max":1000000,"credits":10,"selection":"none","filter":{{"level":[{},"x"]}}}}"#,
        node.memory,
        Uuid::from_u128(1),
        levels.join(",")
    );
    client.ask(Opcode::Subscribe, 12, slow.as_bytes());
    let (own, partition) = (client.clone(), node.memory);
    node.io.spawn(async move {
        // So many turns later it is about in the middle.
        for _ in 0..20 {
            future::yield_now().await;
        }
        assert!(own.find(12).is_some() && fed(&own, 20).is_empty());
        own.ask(Opcode::Unsubscribe, 13, br#"{"subscription":20}"#);
        subscribe(&own, 20, partition, EVENTS, 10);
    });
    node.settle();
    (12..14).for_each(|id| drop(client.answer(id).unwrap()));
    assert_eq!(fed(&client, 20), [EVENTS]);
}
