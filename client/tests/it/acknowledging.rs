//! Cursors.

use std::time::Duration;

use mofka_client::{ConsumerOptions, Event, ProducerOptions, Start, TopicHandle, TopicOptions};
use serde_json::json;

use crate::node::{Node, eventually};

fn events(topic: &TopicHandle, count: usize) -> Vec<Event> {
    let producer = topic.producer(ProducerOptions::default());
    for n in 0..count {
        producer.push(json!({"n": n}), "", None).unwrap();
    }
    producer.close().unwrap();
    let consumer = topic.consumer("c", ConsumerOptions::default()).unwrap();
    (0..count)
        .map(|_| consumer.pull().wait().unwrap().unwrap())
        .collect()
}

#[test]
fn acknowledgements_are_cumulative_and_never_go_back() {
    let node = Node::start();
    let topic = node.topic(1);
    // The consumer is gone by now.
    let events = events(&topic, 10);
    events[6].acknowledge().wait().unwrap();
    events[2].acknowledge().wait().unwrap();
    assert_eq!(node.state().acknowledged, [("c".to_owned(), 7)]);
    assert_eq!(node.state().part(topic.partitions()[0].id).cursors["c"], 7);
}

#[test]
fn those_that_come_while_one_is_on_its_way_are_sent_as_one() {
    let node = Node::start();
    let topic = node.topic(1);
    let events = events(&topic, 100);
    node.state().hold_acknowledgements = true;
    let futures: Vec<_> = events.iter().map(Event::acknowledge).collect();
    eventually("the first is sent", || node.state().acknowledged.len() == 1);
    assert!(
        futures[99]
            .wait_timeout(Duration::from_millis(20))
            .unwrap()
            .is_none()
    );
    assert!(!futures[0].completed());
    node.change(|state| state.hold_acknowledgements = false);
    for future in &futures {
        future.wait().unwrap();
    }
    let positions: Vec<u64> = node.state().acknowledged.iter().map(|(_, next)| *next).collect();
    assert_eq!(positions, [1, 100]);
}

#[test]
fn a_lost_connection_only_delays_them() {
    let node = Node::start();
    let topic = node.topic(1);
    let events = events(&topic, 5);
    node.state().hold_acknowledgements = true;
    let first = events[0].acknowledge();
    eventually("the first is sent", || node.state().acknowledged.len() == 1);
    let last = events[4].acknowledge();
    node.go_away();
    node.state().hold_acknowledgements = false;
    node.come_back();
    first.wait().unwrap();
    last.wait().unwrap();
    assert_eq!(node.state().part(topic.partitions()[0].id).cursors["c"], 5);
}

#[test]
fn what_cannot_be_acknowledged_says_so_each_time() {
    let node = Node::start();
    let topic = node.topic(1);
    let events = events(&topic, 3);
    node.state().lose_partition(topic.partitions()[0].id);
    let acknowledged = events[1].acknowledge();
    for _ in 0..2 {
        let error = acknowledged.wait().unwrap_err().to_string();
        assert!(error.starts_with("Could not acknowledge event: "), "{error}");
        assert!(error.contains("no partition"), "{error}");
    }
}

#[test]
fn a_cursor_that_was_moved_back_moves_on_by_what_is_acknowledged_then() {
    let node = Node::start();
    let topic = node.topic(1);
    let producer = topic.producer(ProducerOptions::default());
    for n in 0..10 {
        producer.push(json!({"n": n}), "", None).unwrap();
    }
    producer.close().unwrap();
    let consumer = topic.consumer("c", ConsumerOptions::default()).unwrap();
    let pull = |count: usize| {
        let events = (0..count).map(|_| consumer.pull().wait().unwrap().unwrap());
        events.reduce(|_, last| last).unwrap()
    };
    let partition = topic.partitions()[0].id;
    let cursor = || node.state().part(partition).cursors["c"];
    let back = || {
        node.state().part(partition).cursors.insert("c".to_owned(), 0);
        consumer.seek(0, Start::Cursor).unwrap();
    };
    pull(10).acknowledge().wait().unwrap();
    back();
    pull(5).acknowledge().wait().unwrap();
    assert_eq!(cursor(), 5);
    // Also when the answer to an older one comes later.
    let last = pull(5);
    node.state().hold_acknowledgements = true;
    let acknowledged = last.acknowledge();
    eventually("it is sent", || cursor() == 10);
    back();
    node.change(|state| state.hold_acknowledgements = false);
    acknowledged.wait().unwrap();
    pull(3).acknowledge().wait().unwrap();
    assert_eq!(cursor(), 3);
}

#[test]
fn what_a_filter_keeps_away_counts_only_behind_what_was_acknowledged_since_a_seek() {
    let node = Node::start();
    let options = TopicOptions {
        serializer: Some(json!({"type": "property_list_serializer", "properties": ["k"]})),
        ..TopicOptions::new("t")
    };
    let topic = node.driver().create_topic(options).unwrap();
    let producer = topic.producer(ProducerOptions::default());
    let push = |kind: &str| {
        producer
            .push(json!({"k": kind}), "", None)
            .unwrap()
            .wait()
            .unwrap()
    };
    let options = ConsumerOptions {
        filter: Some(json!({"k": ["wanted"]})),
        ..Default::default()
    };
    let consumer = topic.consumer("c", options).unwrap();
    let pull = || consumer.pull().wait().unwrap().unwrap();
    push("wanted");
    push("other");
    pull().acknowledge().wait().unwrap();
    let partition = topic.partitions()[0].id;
    let cursor = || node.state().part(partition).cursors["c"];
    eventually("the filter's event counts", || cursor() == 2);
    node.state().part(partition).cursors.insert("c".to_owned(), 0);
    consumer.seek(0, Start::Cursor).unwrap();
    push("other");
    let again = pull();
    push("wanted");
    assert_eq!((again.id().get(), pull().id().get()), (0, 3));
    assert_eq!(cursor(), 0);
    again.acknowledge().wait().unwrap();
    eventually("now they count", || cursor() == 3);
}
