//! Batches that are sent, and events that fail, because time passed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mofka_client::{
    BatchSize, DeliveryError, Driver, DriverError, Ordering, Producer, ProducerOptions, PushFuture,
    ThreadPool, TopicHandle,
};
use serde_json::{Value, json};

use crate::node::{Action, Node, eventually};

/// Beyond the patience of every test.
const NEVER: Duration = Duration::from_secs(1000);
const SHORT: Duration = Duration::from_millis(60);

fn fixed(n: u32) -> ProducerOptions {
    ProducerOptions {
        batch_size: BatchSize::fixed(n),
        ..ProducerOptions::default()
    }
}

fn push(producer: &Producer, n: u64) -> PushFuture {
    producer.push(json!({"n": n}), "data", None).unwrap()
}

/// The numbers of the events that are stored, in their order, each once.
fn stored(node: &Node, topic: &TopicHandle) -> Vec<u64> {
    let texts = node.stored(topic, 0);
    let number = |text: &String| {
        serde_json::from_str::<Value>(text).unwrap()["n"]
            .as_u64()
            .unwrap()
    };
    let numbers: Vec<u64> = texts.iter().map(number).collect();
    assert!(numbers.is_sorted_by(|one, two| one < two), "{numbers:?}");
    numbers
}

/// Fails with a timeout; says whether it may be stored.
fn timed_out(future: &PushFuture) -> bool {
    let error = future.wait().unwrap_err();
    match &error {
        DeliveryError::TimedOut {
            waited,
            may_be_stored,
        } => {
            assert!(*waited >= SHORT, "{error}");
            assert_eq!(error.to_string().contains("may be stored"), *may_be_stored);
            assert_eq!(error.may_be_stored(), *may_be_stored);
            assert_eq!(error.reason(), "timed_out");
            *may_be_stored
        }
        _ => panic!("{error}"),
    }
}

/// Pushes until the node is quick enough for the timeout, and returns the number of that event.
fn push_until_acknowledged(producer: &Producer, from: u64) -> u64 {
    (from..)
        .find(|n| push(producer, *n).wait().is_ok())
        .expect("some event is acknowledged")
}

/// The numbers of the batches that came: epoch and sequence.
fn numbers_of(node: &Node, mut action: impl FnMut(usize) -> Action + Send + 'static) -> Numbers {
    let numbers = Numbers::default();
    let noted = Arc::clone(&numbers);
    node.on_produce(move |batch| {
        let (_, epoch, sequence) = batch.producer().unwrap();
        let mut noted = noted.lock().unwrap();
        // A held batch is asked for again and again.
        if noted.last() != Some(&(epoch, sequence)) {
            noted.push((epoch, sequence));
        }
        action(noted.len())
    });
    numbers
}

type Numbers = Arc<Mutex<Vec<(u32, u64)>>>;

#[test]
fn a_batch_that_nothing_comes_into_is_sent() {
    let node = Node::start();
    let topic = node.topic(1);
    let producer = topic.producer(ProducerOptions {
        batch_idle_timeout: Some(Duration::from_millis(30)),
        ..fixed(100)
    });
    for round in 1..=3 {
        // Nobody flushes, and nobody waits for an event.
        push(&producer, round);
        eventually("it is stored", || node.stored(&topic, 0).len() as u64 == round);
    }
    assert_eq!(node.state().batch_sizes, [1, 1, 1]);
    assert_eq!(producer.close().unwrap().acknowledged, 3);
}

#[test]
fn a_batch_that_is_full_or_wanted_does_not_wait_for_the_idle_timeout() {
    let node = Node::start();
    let topic = node.topic(1);
    let producer = topic.producer(ProducerOptions {
        batch_idle_timeout: Some(NEVER),
        ..fixed(2)
    });
    push(&producer, 0);
    push(&producer, 1);
    eventually("two are stored", || node.stored(&topic, 0).len() == 2);
    push(&producer, 2).wait().unwrap();
    push(&producer, 3);
    producer.flush().wait().unwrap();
    assert_eq!(node.state().batch_sizes, [2, 1, 1]);
    // What waits for so long does not keep the driver alive.
    drop((producer, topic));
}

#[test]
fn what_was_not_sent_in_time_fails_and_is_never_sent() {
    for options in [fixed(1), fixed(100), ProducerOptions::default()] {
        let node = Node::start();
        let topic = node.topic(1);
        let numbers = numbers_of(&node, |_| Action::Accept);
        let producer = topic.producer(ProducerOptions {
            delivery_timeout: Some(Duration::from_secs(1)),
            ..options
        });
        push(&producer, 0).wait().unwrap();
        node.go_away();
        // The connection is known to be dead: nothing can go into it.
        eventually("the loss is noticed", || {
            matches!(
                topic.driver().node_status(0),
                Err(DriverError::Unreachable { .. })
            )
        });
        let futures: Vec<_> = (1..4).map(|n| push(&producer, n)).collect();
        let told: Vec<bool> = futures.iter().map(timed_out).collect();
        assert_eq!(told, [false; 3]);
        node.come_back();
        let last = push_until_acknowledged(&producer, 4);
        let stored = stored(&node, &topic);
        assert!(
            stored.iter().all(|n| *n == 0 || (4..=last).contains(n)),
            "{stored:?}"
        );
        assert_eq!(stored.last(), Some(&last));
        // No hole, and no new epoch.
        let numbers = numbers.lock().unwrap();
        assert!(
            numbers.iter().map(|it| it.0).all(|epoch| epoch == 0),
            "{numbers:?}"
        );
        assert!(
            numbers.iter().map(|it| it.1).eq(0..numbers.len() as u64),
            "{numbers:?}"
        );
        let report = producer.close().unwrap();
        assert_eq!(report.pushed, report.acknowledged + report.failed);
        assert!(report.failed >= 3 && report.may_be_stored <= report.failed - 3);
        assert_eq!(report.failed_by_reason.keys().collect::<Vec<_>>(), ["timed_out"]);
    }
}

#[test]
fn what_was_sent_may_be_stored_and_what_follows_is_stored_once_and_in_order() {
    let node = Node::start();
    let topic = node.topic(1);
    let numbers = numbers_of(&node, |_| Action::Hold);
    let producer = topic.producer(ProducerOptions {
        max_num_batches: 4,
        delivery_timeout: Some(Duration::from_millis(500)),
        ..fixed(1)
    });
    // One batch goes, until the partition knows the producer; the others wait behind it.
    let futures: Vec<_> = (0..4).map(|n| push(&producer, n)).collect();
    let told: Vec<bool> = futures.iter().map(timed_out).collect();
    assert_eq!(told, [true, false, false, false]);
    assert!(producer.flush().completed(), "all of them failed");
    let accepted = numbers_of(&node, |_| Action::Accept);
    node.change(|_| ());
    let last = push_until_acknowledged(&producer, 4);
    // The error is the same again, although the batch is stored by now.
    assert!(timed_out(&futures[0]));
    let report = producer.close().unwrap();
    assert_eq!((report.acknowledged, report.failed), (1, last));
    let reasons = BTreeMap::from([("timed_out".to_owned(), last)]);
    assert_eq!(report.failed_by_reason, reasons);
    assert!(report.may_be_stored >= 1);
    let stored = stored(&node, &topic);
    assert!(
        stored.iter().all(|n| *n == 0 || (4..=last).contains(n)),
        "{stored:?}"
    );
    assert_eq!((stored.first(), stored.last()), (Some(&0), Some(&last)));
    // Those that vanished left no hole: the one behind them is number 1 of the first epoch.
    assert_eq!(numbers.lock().unwrap().as_slice(), [(0, 0)]);
    let accepted = accepted.lock().unwrap();
    assert_eq!(accepted[..2], [(0, 0), (0, 1)]);
}

#[test]
fn an_answer_that_was_lost_does_not_store_twice_what_was_given_up() {
    let node = Node::start();
    let topic = node.topic(1);
    let producer = topic.producer(ProducerOptions {
        delivery_timeout: Some(Duration::from_millis(500)),
        ..fixed(1)
    });
    node.on_produce(|_| Action::DropAfter);
    let lost = push(&producer, 0);
    eventually("it is stored", || node.stored(&topic, 0).len() == 1);
    node.go_away();
    let unsent = push(&producer, 1);
    assert!(timed_out(&lost) && !timed_out(&unsent));
    node.on_produce(|_| Action::Accept);
    node.come_back();
    let last = push_until_acknowledged(&producer, 2);
    let stored = stored(&node, &topic);
    assert!(
        stored.iter().all(|n| *n == 0 || (2..=last).contains(n)),
        "{stored:?}"
    );
    assert_eq!((stored.first(), stored.last()), (Some(&0), Some(&last)));
    // It was sent again, to bring it to its end, and recognized.
    assert!(node.state().duplicates >= 1);
    let report = producer.close().unwrap();
    assert_eq!(report.pushed, report.acknowledged + report.failed);
    assert_eq!(report.acknowledged, 1);
}

#[test]
fn a_batch_that_does_not_fill_is_sent_before_its_time_is_over() {
    let node = Node::start();
    let topic = node.topic(1);
    let producer = topic.producer(ProducerOptions {
        delivery_timeout: Some(Duration::from_secs(4)),
        ..fixed(100)
    });
    let future = push(&producer, 0);
    eventually("it is stored", || future.completed());
    assert_eq!(future.wait().unwrap().get(), 0);
}

#[test]
fn pushes_to_a_node_that_does_not_answer_do_not_wait_for_ever() {
    let node = Node::start();
    node.on_produce(|_| Action::Hold);
    let topic = node.topic(1);
    for ordering in [Ordering::Strict, Ordering::Loose] {
        let producer = topic.producer(ProducerOptions {
            ordering,
            max_num_batches: 1,
            delivery_timeout: Some(SHORT),
            ..fixed(1)
        });
        // Each waits for room until those before it have failed.
        let futures: Vec<_> = (0..8).map(|n| push(&producer, n)).collect();
        let sent = futures.iter().filter(|future| timed_out(future)).count();
        assert_eq!(sent, 1, "the others were never sent");
        let report = producer.close().unwrap();
        assert_eq!((report.pushed, report.failed, report.may_be_stored), (8, 8, 1));
    }
}

#[test]
fn an_event_that_was_too_long_in_the_pool_fails_when_its_turn_comes() {
    let node = Node::start();
    let topic = node.topic(1);
    let pool = ThreadPool::new(1).unwrap();
    let producer = topic.producer(ProducerOptions {
        ordering: Ordering::Loose,
        thread_pool: Some(pool.clone()),
        delivery_timeout: Some(SHORT),
        ..ProducerOptions::default()
    });
    let (release, released) = std::sync::mpsc::channel::<()>();
    pool.push_work(
        move || {
            released.recv().ok();
        },
        ThreadPool::DEFAULT_PRIORITY,
    )
    .unwrap();
    let future = push(&producer, 0);
    std::thread::sleep(SHORT);
    drop(release);
    assert!(!timed_out(&future));
    assert!(node.stored(&topic, 0).is_empty());
}

#[test]
fn the_reconnect_timeout_ends_what_was_given_up_and_counts_it_once() {
    let node = Node::start();
    let mut options = node.options();
    options.reconnect_timeout = Duration::from_millis(600);
    let topic: TopicHandle = Driver::connect(options)
        .unwrap()
        .open_topic(&node.topic(1).name())
        .unwrap();
    node.on_produce(|_| Action::Hold);
    let producer = topic.producer(ProducerOptions {
        delivery_timeout: Some(SHORT),
        ..fixed(1)
    });
    let sent = push(&producer, 0);
    eventually("it is held", || !node.state().held.is_empty());
    node.go_away();
    assert!(timed_out(&sent));
    // Longer than the node is looked for: the given up batch is let go, and not counted again.
    std::thread::sleep(Duration::from_millis(1000));
    node.on_produce(|_| Action::Accept);
    node.come_back();
    let last = push_until_acknowledged(&producer, 1);
    assert_eq!(stored(&node, &topic).last(), Some(&last));
    assert!(timed_out(&sent));
    let report = producer.close().unwrap();
    assert_eq!(report.pushed, report.acknowledged + report.failed);
    assert_eq!((report.acknowledged, report.failed), (1, last));
}
