//! Cursors.

use std::time::Duration;

use mofka_client::{ConsumerOptions, Event, ProducerOptions, TopicHandle};
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
