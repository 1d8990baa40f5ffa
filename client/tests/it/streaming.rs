//! One event's data in parts, when the node or the connection fails at the end.

use std::io::{ErrorKind, Write};
use std::time::Duration;

use mofka_client::{DeliveryError, ErrorCode, ProducerOptions, TopicHandle};
use serde_json::json;

use crate::node::{Action, Node, eventually};

const DATA_BYTES: usize = (3 << 20) + 5;

fn data() -> Vec<u8> {
    (0..DATA_BYTES).map(|n| (n % 251) as u8).collect()
}

/// A node that does this with the first commit, and takes what comes later.
fn node_with(mut first: Option<Action>) -> (Node, TopicHandle) {
    let node = Node::start();
    node.on_produce(move |_| first.take().unwrap_or(Action::Accept));
    let topic = node.topic(1);
    (node, topic)
}

#[test]
fn a_commit_whose_answer_is_lost_is_sent_again_and_the_event_is_there_once() {
    let (node, topic) = node_with(Some(Action::DropAfter));
    let producer = topic.producer(ProducerOptions::default());
    let id = producer
        .push_reader(json!({"n": 0}), data().as_slice(), None)
        .unwrap();
    assert_eq!(id.get(), 0);
    assert_eq!(node.stored(&topic, 0), ["{\"n\":0}"]);
    assert_eq!(node.state().duplicates, 1);
    let stats = producer.stats();
    assert_eq!((stats.acknowledged, stats.failed), (1, 0));
    assert!(stats.resent >= 1);
    assert_eq!(
        producer.push(json!({}), "", None).unwrap().wait().unwrap().get(),
        1
    );
}

#[test]
fn a_commit_that_never_arrived_is_refused_when_it_is_sent_again() {
    let (node, topic) = node_with(Some(Action::DropBefore));
    let producer = topic.producer(ProducerOptions::default());
    let mut writer = producer.push_stream(json!({"n": 0}), None).unwrap();
    writer.write_all(&data()).unwrap();
    match writer.finish().unwrap_err() {
        DeliveryError::Refused(error) => assert_eq!(error.code, ErrorCode::UnknownStream),
        other => panic!("{other}"),
    }
    assert!(node.stored(&topic, 0).is_empty());
    let again = producer.push_reader(json!({"n": 1}), data().as_slice(), None);
    assert_eq!(again.unwrap().get(), 0);
}

#[test]
fn a_commit_that_is_refused_after_its_answer_was_lost_may_be_stored() {
    let (node, topic) = node_with(Some(Action::Swallow));
    let producer = topic.producer(ProducerOptions::default());
    let mut writer = producer.push_stream(json!({}), None).unwrap();
    writer.write_all(&data()).unwrap();
    let finishing = std::thread::spawn(move || writer.finish());
    eventually("it is stored", || node.stored(&topic, 0).len() == 1);
    node.state().refuse_commits = Some(ErrorCode::ShuttingDown);
    node.drop_connections();
    let error = finishing.join().unwrap().unwrap_err();
    assert_eq!((error.reason(), error.may_be_stored()), ("shutting_down", true));
    assert_eq!(producer.close().unwrap().may_be_stored, 1);
}

#[test]
fn finishing_ends_with_the_delivery_timeout_when_the_commit_is_not_answered() {
    let (node, topic) = node_with(Some(Action::Swallow));
    let producer = topic.producer(ProducerOptions {
        delivery_timeout: Some(Duration::from_millis(400)),
        ..Default::default()
    });
    let mut writer = producer.push_stream(json!({}), None).unwrap();
    writer.write_all(&data()).unwrap();
    match writer.finish().unwrap_err() {
        // It was taken all the same.
        DeliveryError::TimedOut { may_be_stored, .. } => assert!(may_be_stored),
        other => panic!("{other}"),
    }
    assert_eq!(node.stored(&topic, 0).len(), 1);
    let report = producer.close().unwrap();
    assert_eq!(
        (report.failed_by_reason["timed_out"], report.may_be_stored),
        (1, 1)
    );
}

#[test]
fn finishing_ends_with_the_delivery_timeout_when_the_node_is_away() {
    let (node, topic) = node_with(Some(Action::Swallow));
    let producer = topic.producer(ProducerOptions {
        // Much less than the driver would look for the node.
        delivery_timeout: Some(Duration::from_millis(800)),
        ..Default::default()
    });
    let mut writer = producer.push_stream(json!({}), None).unwrap();
    writer.write_all(&data()).unwrap();
    let finishing = std::thread::spawn(move || writer.finish());
    eventually("it is stored", || node.stored(&topic, 0).len() == 1);
    node.go_away();
    match finishing.join().unwrap() {
        Err(DeliveryError::TimedOut { may_be_stored, .. }) => assert!(may_be_stored),
        other => panic!("{other:?}"),
    }
}

#[test]
fn writing_ends_with_the_delivery_timeout_when_parts_are_not_answered() {
    let node = Node::start();
    let topic = node.topic(1);
    let producer = topic.producer(ProducerOptions {
        delivery_timeout: Some(Duration::from_millis(200)),
        ..Default::default()
    });
    let mut writer = producer.push_stream(json!({}), None).unwrap();
    let mut unfinished = producer.push_stream(json!({}), None).unwrap();
    unfinished.write_all(b"a little").unwrap();
    node.state().is_deaf = true;
    // More than the node's window.
    let error = writer.write_all(&data()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    assert!(error.to_string().contains("write all of it again"), "{error}");
    assert_eq!(writer.write_all(b"x").unwrap_err().kind(), ErrorKind::TimedOut);
    for writer in [writer, unfinished] {
        match writer.finish().unwrap_err() {
            DeliveryError::TimedOut { may_be_stored, .. } => assert!(!may_be_stored),
            other => panic!("{other}"),
        }
    }
    assert!(node.stored(&topic, 0).is_empty());
}
