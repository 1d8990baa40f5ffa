//! What every future promises.

use std::time::{Duration, Instant};

use mofka_client::{BatchSize, ConsumerOptions, ErrorCode, ProducerOptions};
use serde_json::json;

use crate::node::{Action, Node, block_on};

#[test]
fn waiting_with_zero_polls_and_waiting_again_gives_the_same() {
    let node = Node::start();
    node.on_produce(|_| Action::Hold);
    let producer = node.topic(1).producer(ProducerOptions::default());
    let future = producer.push(json!({}), "", None).unwrap();
    let begun = Instant::now();
    assert!(future.wait_ms(0).unwrap().is_none() && !future.completed());
    assert!(begun.elapsed() < Duration::from_millis(500));
    assert!(future.wait_timeout(Duration::from_millis(30)).unwrap().is_none());
    assert!(begun.elapsed() >= Duration::from_millis(30));
    crate::node::eventually("the batch is held", || !node.state().held.is_empty());
    node.on_produce(|_| Action::Accept);
    node.change(|_| ());
    assert_eq!(future.wait().unwrap().get(), 0);
    assert!(future.completed());
    assert_eq!(future.wait_ms(0).unwrap().unwrap().get(), 0);
    assert_eq!(future.wait_ms(-1).unwrap().unwrap().get(), 0);
}

#[test]
fn errors_are_told_each_time() {
    let node = Node::start();
    node.on_produce(|_| Action::Refuse(ErrorCode::Poisoned));
    let producer = node.topic(1).producer(ProducerOptions::default());
    let future = producer.push(json!({}), "", None).unwrap();
    for _ in 0..3 {
        let error = future.wait().unwrap_err();
        assert_eq!(error.reason(), "poisoned");
        assert!(error.to_string().contains("as the test wants it"), "{error}");
    }
}

#[test]
fn futures_can_be_awaited() {
    let node = Node::start();
    let topic = node.topic(1);
    let producer = topic.producer(ProducerOptions {
        batch_size: BatchSize::fixed(100),
        ..Default::default()
    });
    let consumer = topic.consumer("c", ConsumerOptions::default()).unwrap();
    let pull = consumer.pull();
    // An awaited event of an open batch makes it go.
    assert_eq!(
        block_on(producer.push(json!({"n": 1}), "", None).unwrap())
            .unwrap()
            .get(),
        0
    );
    let event = block_on(pull).unwrap().unwrap();
    assert_eq!(event.metadata(), &json!({"n": 1}));
    block_on(event.acknowledge()).unwrap();
    block_on(producer.flush()).unwrap();
}

#[test]
fn futures_outlive_what_they_came_from() {
    let node = Node::start();
    let topic = node.topic(1);
    let producer = topic.producer(ProducerOptions {
        batch_size: BatchSize::fixed(100),
        ..Default::default()
    });
    let future = producer.push(json!({}), "", None).unwrap();
    let flush = producer.flush();
    drop((producer, topic));
    flush.wait().unwrap();
    assert!(future.completed());
    assert_eq!(future.wait().unwrap().get(), 0);
}

#[test]
fn a_pull_gives_its_event_again_and_from_several_threads() {
    let node = Node::start();
    let topic = node.topic(1);
    topic
        .producer(ProducerOptions::default())
        .push(json!({"n": 1}), "", None)
        .unwrap()
        .wait()
        .unwrap();
    let consumer = topic.consumer("c", ConsumerOptions::default()).unwrap();
    let pull = consumer.pull();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(pull.wait().unwrap().unwrap().id().get(), 0));
        }
    });
    assert!(pull.completed() && pull.wait_ms(0).unwrap().is_some());
}
