//! Producers that leave their events to a thread pool.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, Once};
use std::time::Duration;

use mofka_client::{
    BatchSize, BoxError, Data, DeliveryError, ErrorCode, Metadata, Ordering, Producer, ProducerOptions,
    PushError, ThreadPool, TopicHandle, TopicOptions, Validator, register_validator,
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::node::{Action, Node, block_on, eventually};

/// A validator that holds events back until it is told.
#[derive(Default)]
struct Gate {
    is_open: Mutex<bool>,
    opened: Condvar,
    /// Events that it has looked at or is looking at.
    seen: AtomicUsize,
}

static GATES: Mutex<BTreeMap<String, Arc<Gate>>> = Mutex::new(BTreeMap::new());

impl Gate {
    fn open(&self) {
        *self.is_open.lock().unwrap() = true;
        self.opened.notify_all();
    }
}

struct Gatekeeper(Arc<Gate>);

impl Validator for Gatekeeper {
    fn validate(&self, metadata: &Metadata, _: &Data) -> Result<(), BoxError> {
        self.0.seen.fetch_add(1, SeqCst);
        let value = metadata.value();
        if value.get("hold").is_some() {
            let mut is_open = self.0.is_open.lock().unwrap();
            while !*is_open {
                is_open = self.0.opened.wait(is_open).unwrap();
            }
        }
        match value.get("bad").and_then(Value::as_str) {
            Some("panic") => panic!("a defect of the validator"),
            Some(other) => Err(other.into()),
            None => Ok(()),
        }
    }
}

/// A topic whose validator is the gate.
fn gated(node: &Node, partitions: u32) -> (TopicHandle, Arc<Gate>) {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| {
        register_validator("gate", |config| {
            let name = config["gate"].as_str().unwrap();
            Ok(Gatekeeper(Arc::clone(&GATES.lock().unwrap()[name])))
        })
        .unwrap();
    });
    let name = Uuid::new_v4().simple().to_string();
    let gate = Arc::new(Gate::default());
    GATES.lock().unwrap().insert(name.clone(), Arc::clone(&gate));
    let mut options = TopicOptions::new(name.clone()).partitions(partitions);
    options.validator = Some(json!({"type": "gate", "gate": name}));
    (node.driver().create_topic(options).unwrap(), gate)
}

fn loose(threads: usize) -> ProducerOptions {
    ProducerOptions {
        ordering: Ordering::Loose,
        thread_pool: Some(ThreadPool::new(threads).unwrap()),
        ..ProducerOptions::default()
    }
}

fn sorted(mut stored: Vec<String>) -> Vec<String> {
    stored.sort();
    stored
}

#[test]
fn every_mix_of_threads_batches_and_ordering_delivers_everything_once() {
    for threads in [0, 1, 2] {
        for batch_size in [BatchSize::Adaptive, BatchSize::fixed(10)] {
            for ordering in [Ordering::Strict, Ordering::Loose] {
                let node = Node::start();
                let topic = node.topic(1);
                let producer = topic.producer(ProducerOptions {
                    ordering,
                    batch_size,
                    ..loose(threads)
                });
                let futures: Vec<_> = (0..200)
                    .map(|n| {
                        let data = if n < 100 { vec![] } else { vec![n as u8; 10] };
                        let future = producer.push(json!({"n": n}), data, None).unwrap();
                        if n % 5 == 0 {
                            future.wait().unwrap();
                        }
                        future
                    })
                    .collect();
                producer.flush().wait().unwrap();
                let stored = node.stored(&topic, 0);
                assert_eq!(stored.len(), 200);
                for (n, future) in futures.iter().enumerate() {
                    assert!(future.completed());
                    let id = future.wait().unwrap().get();
                    // Whatever the order: the future has the id of its own event.
                    assert_eq!(stored[id as usize], format!("{{\"n\":{n}}}"));
                    if ordering == Ordering::Strict || threads == 0 {
                        assert_eq!(id, n as u64, "{threads} threads, {batch_size:?}");
                    }
                }
                let report = producer.close().unwrap();
                assert_eq!((report.pushed, report.acknowledged, report.failed), (200, 200, 0));
            }
        }
    }
}

#[test]
fn a_loose_event_may_pass_another_and_push_does_not_wait_for_either() {
    let node = Node::start();
    let (topic, gate) = gated(&node, 1);
    let producer = topic.producer(loose(2));
    let first = producer.push(json!({"hold": true}), "", None).unwrap();
    let second = producer.push(json!({"n": 2}), "", None).unwrap();
    assert_eq!(second.wait().unwrap().get(), 0);
    assert!(!first.completed() && first.wait_ms(0).unwrap().is_none());
    assert!(format!("{first:?}").contains("not in a batch"), "{first:?}");
    gate.open();
    assert_eq!(first.wait().unwrap().get(), 1);
    assert_eq!(node.stored(&topic, 0), ["{\"n\":2}", "{\"hold\":true}"]);
}

#[test]
fn what_a_loose_producer_cannot_take_is_told_by_the_events_own_future() {
    let node = Node::start();
    let (topic, _) = gated(&node, 1);
    let bad = |reason: &str| json!({"bad": reason});
    for threads in [0, 2] {
        let producer = topic.producer(loose(threads));
        let pushed = producer.push(bad("not this one"), "", None);
        let error = match threads {
            0 => pushed.unwrap_err().to_string(),
            _ => {
                let future = pushed.unwrap();
                let error = future.wait().unwrap_err();
                assert!(
                    matches!(&error, DeliveryError::NotTaken(it) if matches!(**it, PushError::Rejected { .. }))
                );
                // The same again, and awaited.
                assert_eq!(
                    block_on(future.clone()).unwrap_err().to_string(),
                    error.to_string()
                );
                assert!(future.completed() && !error.may_be_stored());
                error.to_string()
            }
        };
        assert_eq!(error, "not this one");
        // No JSON is told at once, whatever the ordering.
        assert!(matches!(
            producer.push("{", "", None),
            Err(PushError::InvalidMetadata { .. })
        ));
        if threads == 0 {
            continue;
        }
        let panicked = producer.push(bad("panic"), "", None).unwrap();
        assert!(
            panicked
                .wait()
                .unwrap_err()
                .to_string()
                .contains("a defect of the validator")
        );
        let large = producer.push(json!({}), vec![0_u8; 65 << 20], None).unwrap();
        assert_eq!(large.wait().unwrap_err().reason(), "too_large");
        producer.push(json!({"n": 1}), "", None).unwrap().wait().unwrap();
        let report = producer.close().unwrap();
        assert_eq!((report.pushed, report.acknowledged, report.failed), (4, 1, 3));
        let reasons = [("rejected", 2), ("too_large", 1)].map(|(reason, n)| (reason.to_owned(), n));
        assert_eq!(report.failed_by_reason, BTreeMap::from(reasons));
    }
    let empty = node.topic(0).producer(loose(1));
    let future = empty.push(json!({}), "", None).unwrap();
    assert_eq!(future.wait().unwrap_err().reason(), "no_target");
}

/// Pushes a hundred events from a thread, which blocks after `expected` of all that the producer ever took.
fn push_until_blocked(
    producer: &Producer,
    metadata: &Value,
    expected: u64,
) -> std::thread::JoinHandle<usize> {
    let (pusher, metadata) = (producer.clone(), metadata.clone());
    let thread = std::thread::spawn(move || {
        let push = |_: &usize| pusher.push(&metadata, "", None).is_ok();
        (0..100).take_while(push).count()
    });
    eventually("so many are taken", || producer.stats().events == expected);
    std::thread::sleep(Duration::from_millis(30));
    assert_eq!(producer.stats().events, expected, "and no more");
    thread
}

#[test]
fn what_waits_in_the_pool_is_bounded_by_events_and_by_bytes() {
    for (batch_size, batch_bytes_max, expected) in [
        (BatchSize::fixed(3), 8 << 20, 6),
        // With 512 bytes for what is around an event.
        (BatchSize::Adaptive, 2000, 7),
    ] {
        let node = Node::start();
        let (topic, gate) = gated(&node, 1);
        let producer = topic.producer(ProducerOptions {
            batch_size,
            batch_bytes_max,
            ..loose(1)
        });
        let pusher = push_until_blocked(&producer, &json!({"hold": 1}), expected);
        assert_eq!(gate.seen.load(SeqCst), 1, "the others wait behind it");
        gate.open();
        assert_eq!(pusher.join().unwrap(), 100);
        assert_eq!(producer.close().unwrap().acknowledged, 100);
        assert_eq!(node.stored(&topic, 0).len(), 100);
    }
}

#[test]
fn without_room_in_batches_events_are_parked_and_the_pool_stays_free() {
    let node = Node::start();
    let topic = node.topic(2);
    let full = topic.partitions()[0].id;
    node.on_produce_at(move |partition, _| {
        if partition == full {
            Action::Hold
        } else {
            Action::Accept
        }
    });
    let pool = ThreadPool::new(1).unwrap();
    let options = ProducerOptions {
        batch_size: BatchSize::fixed(2),
        thread_pool: Some(pool.clone()),
        ..loose(1)
    };
    // Two batches of two on their way, two events gather, four are parked.
    let producer = topic.producer(options.clone());
    let futures: Vec<_> = (0..10)
        .map(|n| producer.push(json!({"n": n}), "", Some(0)).unwrap())
        .collect();
    // The pool's only thread is not held by any of them.
    eventually("the tasks have run", || pool.size() == 0);
    let other = topic.producer(options);
    assert_eq!(
        other.push(json!({}), "", Some(1)).unwrap().wait().unwrap().get(),
        0
    );
    assert_eq!(futures.iter().filter(|future| future.completed()).count(), 0);
    // No more than that: the next push blocks.
    let pusher = push_until_blocked(&producer, &json!({}), 10);
    node.on_produce(|_| Action::Accept);
    node.change(|_| ());
    for future in &futures {
        future.wait().unwrap();
    }
    assert_eq!(pusher.join().unwrap(), 100);
    assert_eq!(producer.close().unwrap().acknowledged, 110);
}

#[test]
fn flush_counts_what_is_still_in_the_pool_and_makes_it_go() {
    let node = Node::start();
    let (topic, gate) = gated(&node, 2);
    let producer = topic.producer(ProducerOptions {
        batch_size: BatchSize::fixed(100),
        ..loose(1)
    });
    let push = |n| producer.push(json!({"hold": n}), "", None).unwrap();
    let early: Vec<_> = (0..5).map(push).collect();
    let first = producer.flush();
    let late: Vec<_> = (5..10).map(push).collect();
    let second = producer.flush();
    assert!(!first.completed() && !second.completed());
    assert!(first.wait_timeout(Duration::from_millis(20)).unwrap().is_none());
    gate.open();
    block_on(second.clone()).unwrap();
    assert!(first.completed() && second.completed());
    assert!(early.iter().chain(&late).all(|future| future.completed()));
    // With nothing on its way it is complete at once.
    assert!(producer.flush().completed());
    // After the flush: nothing makes it go but that somebody waits for it.
    let last = push(10);
    eventually("the last one is in a batch", || {
        !format!("{last:?}").contains("not in")
    });
    assert!(!last.completed());
    last.wait().unwrap();
}

#[test]
fn a_flush_that_nobody_waits_for_sends_all_the_same() {
    let node = Node::start();
    let (topic, gate) = gated(&node, 1);
    let producer = topic.producer(ProducerOptions {
        batch_size: BatchSize::fixed(100),
        ..loose(2)
    });
    for n in 0..7 {
        producer.push(json!({"hold": n}), "", None).unwrap();
    }
    drop(producer.flush());
    gate.open();
    eventually("all is stored", || node.stored(&topic, 0).len() == 7);
}

#[test]
fn close_puts_every_event_into_one_class() {
    let node = Node::start();
    let (topic, gate) = gated(&node, 3);
    let mut batches = 0;
    node.on_produce(move |_| {
        batches += 1;
        if batches % 5 == 2 {
            Action::Refuse(ErrorCode::Poisoned)
        } else {
            Action::Accept
        }
    });
    let producer = topic.producer(ProducerOptions {
        batch_size: BatchSize::fixed(4),
        ..loose(3)
    });
    let futures: Vec<_> = std::thread::scope(|scope| {
        let pushers: Vec<_> = (0..4_u64)
            .map(|thread| {
                let producer = &producer;
                scope.spawn(move || {
                    let push = |n: u64| {
                        let metadata = match n % 10 {
                            3 => json!({"bad": "odd one out"}),
                            _ => json!({"n": n, "thread": thread}),
                        };
                        producer.push(metadata, "data", None).unwrap()
                    };
                    (0..200).map(push).collect::<Vec<_>>()
                })
            })
            .collect();
        pushers
            .into_iter()
            .flat_map(|pusher| pusher.join().unwrap())
            .collect()
    });
    // Still held when the producer is closed.
    let held = producer.push(json!({"hold": 1}), "", None).unwrap();
    let closer = std::thread::spawn({
        let producer = producer.clone();
        move || producer.close().unwrap()
    });
    eventually("it is closed", || {
        matches!(
            producer.push(json!({"bad": "late"}), "", None),
            Err(PushError::Closed)
        )
    });
    gate.open();
    let report = closer.join().unwrap();
    assert!(held.completed());
    let told: Vec<_> = futures
        .iter()
        .chain([&held])
        .map(|future| future.wait())
        .collect();
    assert_eq!(
        report.acknowledged,
        told.iter().filter(|it| it.is_ok()).count() as u64
    );
    assert_eq!(report.pushed, report.acknowledged + report.failed);
    assert_eq!(report.failed, report.failed_by_reason.values().sum::<u64>());
    let mut by_reason = BTreeMap::<String, u64>::new();
    for error in told.iter().filter_map(|it| it.as_ref().err()) {
        *by_reason.entry(error.reason().to_owned()).or_default() += 1;
    }
    // A push that came before the producer was closed may have been taken; nobody has its future.
    let late = report.pushed - 801;
    *by_reason.get_mut("rejected").unwrap() += late;
    assert_eq!(report.failed_by_reason, by_reason);
    assert!(
        by_reason["rejected"] == 80 + late && by_reason["poisoned"] > 0,
        "{by_reason:?}"
    );
    assert_eq!(report.may_be_stored, by_reason["poisoned"]);
    let stored: Vec<String> = (0..3)
        .flat_map(|partition| node.stored(&topic, partition))
        .collect();
    assert_eq!(stored.len() as u64, report.acknowledged);
    let mut once = sorted(stored.clone());
    once.dedup();
    assert_eq!(once.len(), stored.len(), "nothing is there twice");
}

#[test]
fn closing_lets_go_of_those_who_wait_for_room() {
    let node = Node::start();
    let (topic, gate) = gated(&node, 1);
    let producer = topic.producer(ProducerOptions {
        batch_size: BatchSize::fixed(1),
        ..loose(1)
    });
    let pusher = push_until_blocked(&producer, &json!({"hold": 1}), 2);
    let closer = std::thread::spawn(move || producer.close().unwrap());
    assert_eq!(pusher.join().unwrap(), 2);
    gate.open();
    let report = closer.join().unwrap();
    assert_eq!((report.pushed, report.acknowledged), (2, 2));
}

#[test]
fn dropping_a_loose_producer_waits_for_what_is_in_the_pool() {
    let node = Node::start();
    let (topic, gate) = gated(&node, 1);
    let producer = topic.producer(ProducerOptions {
        batch_size: BatchSize::fixed(100),
        ..loose(1)
    });
    for n in 0..5 {
        producer.push(json!({"hold": n}), "", None).unwrap();
    }
    let opener = std::thread::spawn(move || gate.open());
    drop(producer);
    assert_eq!(node.stored(&topic, 0).len(), 5);
    opener.join().unwrap();
}

#[test]
fn a_task_of_the_pool_may_push_wait_and_drop_the_producer() {
    let node = Node::start();
    let topic = node.topic(1);
    let pool = ThreadPool::new(1).unwrap();
    let producer = topic.producer(ProducerOptions {
        thread_pool: Some(pool.clone()),
        // More than the test's patience.
        drop_timeout: Duration::from_secs(1000),
        ..loose(1)
    });
    let (send, received) = std::sync::mpsc::channel();
    let task = move || {
        // Its only thread is this one.
        let id = producer.push(json!({"n": 0}), "", None).unwrap().wait().unwrap();
        send.send(id.get()).unwrap();
        producer.push(json!({"n": 1}), "", None).unwrap();
        drop(producer);
    };
    pool.push_work(task, 0).unwrap();
    assert_eq!(received.recv().unwrap(), 0);
    drop(pool);
    eventually("what was pushed last is stored", || {
        node.stored(&topic, 0).len() == 2
    });
}

#[test]
fn without_a_pool_the_drivers_is_used() {
    let node = Node::start();
    let (topic, gate) = gated(&node, 1);
    let producer = topic.producer(ProducerOptions {
        ordering: Ordering::Loose,
        ..ProducerOptions::default()
    });
    let pool = topic.driver().default_thread_pool().unwrap();
    let held = (0..pool.thread_count()).map(|_| producer.push(json!({"hold": 1}), "", None).unwrap());
    let mut futures: Vec<_> = held.collect();
    eventually("its threads are held", || {
        gate.seen.load(SeqCst) == pool.thread_count()
    });
    futures.push(producer.push(json!({}), "", None).unwrap());
    assert_eq!(pool.size(), 1);
    gate.open();
    for future in futures {
        future.wait().unwrap();
    }
}

#[test]
fn futures_of_a_node_that_stays_away_fail_also_when_their_events_are_parked() {
    let node = Node::start();
    let mut options = node.options();
    options.reconnect_timeout = Duration::from_millis(300);
    let name = node.topic(1).name();
    let topic = mofka_client::Driver::connect(options)
        .unwrap()
        .open_topic(&name)
        .unwrap();
    node.go_away();
    let producer = topic.producer(ProducerOptions {
        batch_size: BatchSize::fixed(1),
        ..loose(2)
    });
    let futures: Vec<_> = (0..5)
        .map(|n| producer.push(json!({"n": n}), "", None).unwrap())
        .collect();
    for future in futures {
        assert_eq!(future.wait().unwrap_err().reason(), "unreachable");
    }
    let report = producer.close().unwrap();
    assert_eq!((report.pushed, report.failed), (5, 5));
    // At most the one that went into the connection before its end was noticed.
    assert!(report.may_be_stored <= 1, "{report:?}");
}

#[test]
fn a_commit_that_ends_without_a_place_leaves_nothing_parked() {
    let node = Node::start();
    node.on_produce(|_| Action::Hold);
    let topic = node.topic(1);
    let producer = topic.producer(ProducerOptions {
        max_num_batches: 1,
        batch_size: BatchSize::Adaptive,
        ..loose(1)
    });
    let push = || producer.push(json!({}), "", None).unwrap();
    let first = push();
    eventually("it is sent", || node.state().held.len() == 1);
    let (asks, asked) = std::sync::mpsc::channel();
    let (answers, answer) = std::sync::mpsc::channel::<bool>();
    let place = producer.claim(json!({}), 5, None).unwrap();
    let committing = std::thread::spawn(move || {
        place.commit_while(|| {
            asks.send(()).ok();
            answer.recv().unwrap_or(false)
        })
    });
    asked.recv().unwrap();
    let parked = push();
    let (closes, closed) = std::sync::mpsc::channel();
    let closing = producer.clone();
    std::thread::spawn(move || closes.send(closing.close()));
    std::thread::sleep(Duration::from_millis(50));
    // Its place is for who waits, and he has not heard yet that it was closed.
    node.on_produce(|_| Action::Accept);
    node.change(|_| ());
    first.wait().unwrap();
    answers.send(true).unwrap();
    assert!(matches!(committing.join().unwrap(), Err(PushError::Closed)));
    let report = closed.recv_timeout(Duration::from_secs(10)).unwrap().unwrap();
    assert_eq!(report.acknowledged, 2);
    parked.wait().unwrap();
}

#[test]
fn room_is_not_lost_with_a_push_that_gives_up() {
    for _ in 0..5 {
        let node = Node::start();
        let (topic, gate) = gated(&node, 1);
        let producer = topic.producer(ProducerOptions {
            max_num_batches: 1,
            batch_size: BatchSize::fixed(1),
            ..loose(1)
        });
        let first = producer.push(json!({"hold": 1}), "", None).unwrap();
        let is_over = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let given_up = scope.spawn(|| producer.push_while(json!({}), "", None, || !is_over.load(SeqCst)));
            std::thread::sleep(Duration::from_millis(10));
            let waiting = scope.spawn(|| producer.push(json!({}), "", None).unwrap());
            std::thread::sleep(Duration::from_millis(10));
            is_over.store(true, SeqCst);
            gate.open();
            first.wait().unwrap();
            given_up.join().unwrap().ok();
            eventually("there is room for the other one", || waiting.is_finished());
        });
    }
}
