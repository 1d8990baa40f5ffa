//! Producers whose events have places in a source.

use std::num::NonZeroU64;
use std::time::Duration;

use mofka_client::{
    BatchSize, DeliveryError, ErrorCode, Producer, ProducerOptions, PushError, PushFuture, Source,
    StreamError, TopicHandle,
};
use mofka_log::Batch;
use serde_json::json;

use crate::node::{Action, Node, eventually};

fn producer(topic: &TopicHandle, from: Option<u64>) -> Producer {
    topic.producer(ProducerOptions {
        source: Some(Source {
            id: NonZeroU64::new(77).unwrap(),
            from,
        }),
        batch_size: BatchSize::fixed(10),
        max_num_batches: 8,
        ..ProducerOptions::default()
    })
}

fn push(producer: &Producer, places: impl IntoIterator<Item = u64>) -> Vec<PushFuture> {
    let push = |place| {
        producer
            .push_from(place, json!({"n": place}), "data", None, || true)
            .unwrap()
    };
    places.into_iter().map(push).collect()
}

/// Pushes until the producer is over: the first batch, of 10, is refused, perhaps while others are pushed.
fn push_in_vain(producer: &Producer, places: impl IntoIterator<Item = u64>) -> Vec<PushFuture> {
    let push = |place| producer.push_from(place, json!({"n": place}), "data", None, || true);
    let futures: Vec<_> = places.into_iter().map_while(|place| push(place).ok()).collect();
    assert!(futures.len() >= 10, "{}", futures.len());
    futures
}

fn numbers(places: impl IntoIterator<Item = u64>) -> Vec<String> {
    places
        .into_iter()
        .map(|place| format!("{{\"n\":{place}}}"))
        .collect()
}

fn refusal(future: &PushFuture) -> (ErrorCode, Option<u64>) {
    match future.wait().unwrap_err() {
        DeliveryError::Refused(error) => (error.code, error.expected()),
        other => panic!("{other}"),
    }
}

#[test]
fn whoever_goes_on_with_a_source_hears_where_and_repeats_nothing() {
    let node = Node::start();
    let topic = node.topic(1);
    let first = producer(&topic, None);
    push(&first, (100..130).filter(|place| place % 3 > 0));
    assert_eq!(first.close().unwrap().acknowledged, 20);
    // The next life of it only knows what was acknowledged at the source.
    let second = producer(&topic, None);
    // The refusal of the first batch may come while the others are pushed.
    let futures: Vec<PushFuture> = (104..140)
        .map_while(|place| {
            second
                .push_from(place, json!({"n": place}), "data", None, || true)
                .ok()
        })
        .collect();
    assert!(futures.len() >= 10, "{}", futures.len());
    second.flush().wait().unwrap();
    for future in &futures {
        assert_eq!(refusal(future), (ErrorCode::SequenceGap, Some(129)));
    }
    let closed = second.push_from(140, json!({}), "", None, || true).unwrap_err();
    assert!(matches!(closed, PushError::Closed), "{closed}");
    let third = producer(&topic, Some(129));
    push(&third, 129..150);
    assert_eq!(third.close().unwrap().acknowledged, 21);
    let stored = (100..129).filter(|place| place % 3 > 0).chain(129..150);
    assert_eq!(node.stored(&topic, 0), numbers(stored));
}

#[test]
fn a_batch_that_is_lost_on_the_way_lets_none_behind_it_in() {
    let node = Node::start();
    let topic = node.topic(1);
    let mut batches = 0;
    node.on_produce(move |_| {
        batches += 1;
        match batches {
            2 => Action::DropBefore,
            4 => Action::DropAfter,
            _ => Action::Accept,
        }
    });
    let producer = producer(&topic, Some(0));
    let futures = push(&producer, 0..60);
    for (place, future) in futures.iter().enumerate() {
        assert_eq!(future.wait().unwrap().get(), place as u64);
    }
    assert_eq!(node.stored(&topic, 0), numbers(0..60));
    assert!(node.state().duplicates >= 1);
}

#[test]
fn two_at_the_same_place_are_not_both_taken() {
    let node = Node::start();
    let topic = node.topic(1);
    let (one, other) = (producer(&topic, Some(0)), producer(&topic, Some(0)));
    push(&one, 0..10)[9].wait().unwrap();
    // The same events in a batch that ends elsewhere: no answer would be right.
    let futures = push(&other, 0..7);
    other.flush().wait().unwrap();
    assert_eq!(refusal(&futures[0]), (ErrorCode::SequenceGap, Some(10)));
    // In one that ends there, too: it is the same.
    let same = producer(&topic, Some(0));
    assert_eq!(push(&same, 0..10)[9].wait().unwrap().get(), 9);
    assert_eq!(node.stored(&topic, 0), numbers(0..10));
}

#[test]
fn an_event_that_is_refused_ends_the_producer_and_nothing_behind_it_is_stored() {
    let node = Node::start();
    let topic = node.topic(1);
    let producer = producer(&topic, Some(0));
    push(&producer, 0..10)[0].wait().unwrap();
    let mut is_first = true;
    node.on_produce(move |_| match std::mem::take(&mut is_first) {
        true => Action::Refuse(ErrorCode::TooLarge),
        false => Action::Accept,
    });
    let futures = push_in_vain(&producer, 10..35);
    producer.flush().wait().unwrap();
    for future in &futures {
        assert!(matches!(future.wait().unwrap_err(), DeliveryError::Refused(_)));
    }
    eventually("the producer is over", || {
        producer.push_from(35, json!({}), "", None, || true).is_err()
    });
    assert_eq!(node.stored(&topic, 0), numbers(0..10));
}

#[test]
fn what_is_on_its_way_when_a_batch_behind_it_is_refused_tells_what_became_of_it() {
    for is_lost in [false, true] {
        let node = Node::start();
        let topic = node.topic(1);
        let producer = producer(&topic, Some(0));
        push(&producer, 0..10)[0].wait().unwrap();
        node.on_produce(|_| Action::Hold);
        let futures = push(&producer, 10..50);
        eventually("all are on their way", || node.state().held.len() == 4);
        let is_third = |batch: &Batch| batch.events().any(|event| event.metadata == b"{\"n\":30}");
        node.on_produce(move |batch| match is_third(batch) {
            true => Action::Refuse(ErrorCode::TooLarge),
            false => Action::Hold,
        });
        node.change(|_| ());
        assert_eq!(refusal(&futures[20]).0, ErrorCode::TooLarge);
        assert!(!futures[0].completed() && !futures[10].completed() && !futures[30].completed());
        assert!(producer.push_from(50, json!({}), "", None, || true).is_err());
        if is_lost {
            node.drop_connections();
            for place in [0, 10, 30] {
                let error = futures[place].wait().unwrap_err();
                assert!(error.may_be_stored(), "{error}");
            }
            assert_eq!(producer.close().unwrap().may_be_stored, 30);
            continue;
        }
        node.on_produce(|_| Action::Accept);
        node.change(|_| ());
        assert_eq!(futures[0].wait().unwrap().get(), 10);
        assert_eq!(futures[19].wait().unwrap().get(), 29);
        // It cannot be stored without the one before it, which is why it fails.
        assert_eq!(refusal(&futures[30]).0, ErrorCode::TooLarge);
        let report = producer.close().unwrap();
        assert_eq!(
            (report.acknowledged, report.failed, report.may_be_stored),
            (30, 20, 0)
        );
        assert_eq!(node.stored(&topic, 0), numbers(0..30));
    }
}

#[test]
fn data_in_pieces_has_a_place_as_well() {
    let node = Node::start();
    let topic = node.topic(1);
    let first = producer(&topic, Some(0));
    push(&first, 0..5);
    let mut drops = 1;
    node.on_produce(move |batch| {
        if batch.data_bytes() > 1 << 20 && drops > 0 {
            drops -= 1;
            return Action::DropAfter;
        }
        Action::Accept
    });
    let large = vec![7_u8; (3 << 20) + 5];
    let id = first.push_reader_from(8, json!({"n": 8}), large.as_slice(), None);
    assert_eq!(id.unwrap().get(), 5);
    assert_eq!(node.state().duplicates, 1);
    push(&first, 9..12)[2].wait().unwrap();
    let again = producer(&topic, Some(4));
    match again
        .push_reader_from(8, json!({"n": 8}), large.as_slice(), None)
        .unwrap_err()
    {
        StreamError::Delivery(DeliveryError::Refused(error)) => assert_eq!(error.expected(), Some(12)),
        other => panic!("{other}"),
    }
    assert!(matches!(
        again.push_from(9, json!({}), "", None, || true).unwrap_err(),
        PushError::Closed
    ));
    assert_eq!(node.stored(&topic, 0), numbers((0..5).chain(8..12)));
}

#[test]
fn places_rise_and_are_asked_for() {
    let node = Node::start();
    let topic = node.topic(1);
    let sourced = producer(&topic, Some(10));
    let refused = |error: PushError, what: &str| assert!(error.to_string().contains(what), "{error}");
    refused(sourced.push(json!({}), "", None).unwrap_err(), "push_from");
    refused(sourced.claim(json!({}), 5, None).err().unwrap(), "push_from");
    let at = |place| sourced.push_from(place, json!({}), "", None, || true);
    refused(at(9).unwrap_err(), "the next one is 10");
    at(12).unwrap();
    refused(at(12).unwrap_err(), "the next one is 13");
    refused(at(u64::MAX).unwrap_err(), "cannot be pushed");
    let plain = topic.producer(ProducerOptions::default());
    let error = plain.push_from(0, json!({}), "", None, || true).unwrap_err();
    refused(error, "no source");
    assert!(
        sourced
            .flush()
            .wait_timeout(Duration::from_secs(30))
            .unwrap()
            .is_some()
    );
}
