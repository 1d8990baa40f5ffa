//! Consumers that work in thread pools, and loops that hand events over.

use std::collections::BTreeMap;
use std::ops::ControlFlow::{Break, Continue};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

use mofka_client::{
    BatchSize, Consumer, ConsumerOptions, DataSelector, Event, Ordering, ProcessEnd, ProcessOptions,
    ProducerOptions, PullError, ThreadPool, TopicHandle,
};
use serde_json::json;

use crate::node::{Node, eventually};

const SHORT: Duration = Duration::from_millis(20);

fn push(topic: &TopicHandle, range: std::ops::Range<u64>) {
    let producer = topic.producer(ProducerOptions {
        batch_size: BatchSize::fixed(1),
        ..Default::default()
    });
    for n in range {
        producer.push(json!({"n": n}), format!("data {n}"), None).unwrap();
    }
    producer.close().unwrap();
}

fn pool(threads: usize) -> Option<ThreadPool> {
    Some(ThreadPool::new(threads).unwrap())
}

/// The ids of each partition in the order in which its events came.
fn by_partition(events: impl IntoIterator<Item = Event>) -> BTreeMap<usize, Vec<u64>> {
    let mut ids = BTreeMap::<usize, Vec<u64>>::new();
    for event in events {
        ids.entry(event.partition()).or_default().push(event.id().get());
    }
    ids
}

#[test]
fn partitions_are_worked_on_side_by_side_each_in_its_order() {
    let node = Node::start();
    let topic = node.topic(2);
    push(&topic, 0..40);
    // Each event waits until one of the other partition is looked at, too.
    let barrier = Arc::new(Barrier::new(2));
    let selector = DataSelector::new(move |_, whole| {
        barrier.wait();
        Ok(whole.sub_view(0, 4))
    });
    let options = ConsumerOptions {
        batch_size: BatchSize::fixed(3),
        data_selector: selector,
        thread_pool: pool(2),
        ..Default::default()
    };
    let consumer = topic.consumer("c", options).unwrap();
    let events: Vec<Event> = (0..40)
        .map(|_| consumer.pull().wait().unwrap().unwrap())
        .collect();
    assert!(
        events
            .iter()
            .all(|event| event.data().to_bytes().as_ref() == b"data")
    );
    let ids: Vec<u64> = (0..20).collect();
    assert_eq!(by_partition(events), BTreeMap::from([(0, ids.clone()), (1, ids)]));
}

#[test]
fn a_pool_changes_neither_order_nor_credit() {
    for threads in [0, 1, 3] {
        let node = Node::start();
        let topic = node.topic(3);
        push(&topic, 0..60);
        let options = ConsumerOptions {
            batch_size: BatchSize::fixed(1),
            max_num_batches: 4,
            // Its data has to be fetched.
            data_selector: DataSelector::new(|_, whole| Ok(whole.clone())),
            thread_pool: pool(threads),
            ..Default::default()
        };
        let consumer = topic.consumer("c", options).unwrap();
        eventually("feeds come", || node.state().feeds == 12);
        std::thread::sleep(SHORT);
        assert_eq!(node.state().feeds, 12, "four for each partition and no more");
        let events: Vec<Event> = (0..60)
            .map(|_| consumer.pull().wait().unwrap().unwrap())
            .collect();
        for event in &events {
            let data = format!("data {}", event.metadata()["n"]);
            assert_eq!(event.data().to_bytes().as_ref(), data.as_bytes());
        }
        let ids: Vec<u64> = (0..20).collect();
        assert_eq!(
            by_partition(events),
            (0..3).map(|partition| (partition, ids.clone())).collect()
        );
        eventually("all credit came back", || node.state().credits == 12 + 60);
    }
}

#[test]
fn one_pool_of_one_thread_serves_a_producer_and_two_consumers() {
    let node = Node::start();
    let topic = node.topic(2);
    let pool = pool(1);
    let options = ConsumerOptions {
        data_selector: DataSelector::new(|_, whole| Ok(whole.clone())),
        thread_pool: pool.clone(),
        ..Default::default()
    };
    let consumers = ["a", "b"].map(|name| topic.consumer(name, options.clone()).unwrap());
    let producer = topic.producer(ProducerOptions {
        ordering: Ordering::Loose,
        thread_pool: pool,
        ..Default::default()
    });
    for n in 0..200 {
        producer.push(json!({"n": n}), "data", None).unwrap();
    }
    for consumer in &consumers {
        let mut seen: Vec<u64> = (0..200)
            .map(|_| consumer.pull().wait().unwrap().unwrap())
            .map(|event| event.metadata()["n"].as_u64().unwrap())
            .collect();
        seen.sort_unstable();
        assert!(seen.into_iter().eq(0..200));
    }
    assert_eq!(producer.close().unwrap().acknowledged, 200);
}

#[test]
fn closing_a_pooled_consumer_ends_its_work_and_keeps_the_pool() {
    let node = Node::start();
    let topic = node.topic(2);
    push(&topic, 0..20);
    let pool = ThreadPool::new(2).unwrap();
    let (begun, ended) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (beginning, ending) = (Arc::clone(&begun), Arc::clone(&ended));
    let options = ConsumerOptions {
        data_selector: DataSelector::new(move |_, whole| {
            beginning.fetch_add(1, SeqCst);
            std::thread::sleep(Duration::from_millis(5));
            ending.fetch_add(1, SeqCst);
            Ok(whole.clone())
        }),
        thread_pool: Some(pool.clone()),
        ..Default::default()
    };
    let consumer = topic.consumer("c", options).unwrap();
    eventually("it is at work", || begun.load(SeqCst) > 0);
    consumer.close();
    assert!(matches!(consumer.pull().wait(), Err(PullError::Closed)));
    eventually("it is unsubscribed", || node.state().subscriptions.is_empty());
    eventually("nothing is at work", || begun.load(SeqCst) == ended.load(SeqCst));
    let calls = begun.load(SeqCst);
    let (send, received) = channel();
    for _ in 0..2 {
        let send = send.clone();
        pool.push_work(move || send.send(()).unwrap(), 0).unwrap();
        received.recv().unwrap();
    }
    assert_eq!(
        begun.load(SeqCst),
        calls,
        "what was queued behind it is not looked at"
    );
}

#[test]
fn a_loop_over_a_consumer_gives_its_events_and_ends_with_the_topic() {
    let node = Node::start();
    let topic = node.topic(1);
    push(&topic, 0..10);
    topic.mark_complete().unwrap();
    let consumer = topic.consumer("c", ConsumerOptions::default()).unwrap();
    let mut ids = Vec::new();
    for event in &consumer {
        ids.push(event.unwrap().id().get());
    }
    assert!(ids.into_iter().eq(0..10));
}

#[test]
fn a_loop_ends_after_its_timeout_and_another_one_goes_on() {
    let node = Node::start();
    let topic = node.topic(1);
    push(&topic, 0..3);
    let consumer = topic.consumer("c", ConsumerOptions::default()).unwrap();
    let ids = |count: usize| -> Vec<u64> {
        let mut ids = Vec::new();
        // Ends by its timeout, most likely when all are there.
        while ids.len() < count {
            ids.extend(consumer.events(SHORT * 5).map(|event| event.unwrap().id().get()));
        }
        ids
    };
    assert_eq!(ids(3), [0, 1, 2]);
    assert_eq!(consumer.events(SHORT).count(), 0);
    // The loops that ended abandoned pulls; nothing was lost with them.
    push(&topic, 3..5);
    assert_eq!(ids(2), [3, 4]);
}

/// Processes until the end of the topic, and says what was handed over, in order.
fn all(consumer: &Consumer, options: &ProcessOptions) -> (Vec<Option<u64>>, ProcessEnd) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let list = Arc::clone(&seen);
    let report = consumer
        .process(
            move |event| {
                list.lock().unwrap().push(event?.map(|event| event.id().get()));
                Ok(Continue(()))
            },
            options,
        )
        .unwrap();
    let seen = seen.lock().unwrap().clone();
    assert_eq!((report.handed_over, report.failed), (seen.len() as u64, 0));
    assert_eq!(report.events, seen.iter().flatten().count() as u64);
    (seen, report.end)
}

#[test]
fn every_event_is_handed_over_until_there_are_no_more() {
    for threads in [None, Some(0), Some(1), Some(3)] {
        let node = Node::start();
        let topic = node.topic(1);
        push(&topic, 0..100);
        topic.mark_complete().unwrap();
        let consumer = topic.consumer("c", ConsumerOptions::default()).unwrap();
        let options = ProcessOptions {
            thread_pool: threads.and_then(pool),
            timeout: None,
            ..Default::default()
        };
        let (mut seen, end) = all(&consumer, &options);
        assert!(matches!(end, ProcessEnd::NoMoreEvents));
        if threads == Some(3) {
            seen.sort_unstable();
        }
        // Otherwise in their order: with one thread, too.
        assert!(seen.into_iter().eq((0..100).map(Some)));
    }
}

#[test]
fn nothing_is_handed_over_too_and_counts() {
    let node = Node::start();
    let topic = node.topic(1);
    push(&topic, 0..2);
    let consumer = topic.consumer("c", ConsumerOptions::default()).unwrap();
    let options = |timeout, max_events| ProcessOptions {
        timeout: Some(timeout),
        max_events: Some(max_events),
        ..Default::default()
    };
    let (seen, end) = all(&consumer, &options(Duration::from_secs(10), 2));
    assert!(matches!(end, ProcessEnd::Counted));
    assert_eq!(seen, [Some(0), Some(1)]);
    let (seen, end) = all(&consumer, &options(SHORT, 3));
    assert!(matches!(end, ProcessEnd::Counted));
    assert_eq!(seen, [None, None, None]);
    // None of these pulls has taken anything away.
    push(&topic, 2..4);
    let (seen, _) = all(&consumer, &options(Duration::from_secs(10), 2));
    assert_eq!(seen, [Some(2), Some(3)]);
    assert_eq!(ProcessOptions::default().timeout, Some(Duration::from_secs(5)));
}

#[test]
fn a_stop_leaves_what_was_not_pulled() {
    let node = Node::start();
    let topic = node.topic(1);
    push(&topic, 0..50);
    for threads in [None, Some(2)] {
        let consumer = topic.consumer("c", ConsumerOptions::default()).unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let list = Arc::clone(&seen);
        let options = ProcessOptions {
            thread_pool: threads.and_then(pool),
            timeout: None,
            ..Default::default()
        };
        let report = consumer
            .process(
                move |event| {
                    let id = event?.ok_or("nothing")?.id().get();
                    list.lock().unwrap().push(id);
                    Ok(if id == 9 { Break(()) } else { Continue(()) })
                },
                &options,
            )
            .unwrap();
        assert!(matches!(report.end, ProcessEnd::Stopped));
        let mut seen = seen.lock().unwrap().clone();
        seen.sort_unstable();
        // What was pulled before the stop was handed over, without a gap, and the next pull goes on behind it.
        assert!(seen.iter().copied().eq(0..seen.len() as u64), "{seen:?}");
        match threads {
            None => assert_eq!(seen.len(), 10),
            Some(_) => assert!((10..=14).contains(&seen.len()), "{seen:?}"),
        }
        let next = consumer.pull().wait().unwrap().unwrap();
        assert_eq!(next.id().get(), seen.len() as u64);
    }
}

#[test]
fn a_stop_in_the_pool_ends_a_loop_that_waits_for_events() {
    let node = Node::start();
    let topic = node.topic(1);
    push(&topic, 0..1);
    let consumer = topic.consumer("c", ConsumerOptions::default()).unwrap();
    let (release, released) = channel::<()>();
    let released = Mutex::new(released);
    let is_called = Arc::new(AtomicBool::new(false));
    let called = Arc::clone(&is_called);
    std::thread::scope(|scope| {
        let processing = scope.spawn(|| {
            let options = ProcessOptions {
                thread_pool: pool(1),
                // The loop waits for the second event for ever.
                timeout: None,
                ..Default::default()
            };
            let stop = move |_| {
                called.store(true, SeqCst);
                released.lock().unwrap().recv().ok();
                Ok(Break(()))
            };
            consumer.process(stop, &options).unwrap()
        });
        eventually("the first event is processed", || is_called.load(SeqCst));
        drop(release);
        let report = processing.join().unwrap();
        assert!(matches!(report.end, ProcessEnd::Stopped));
        assert_eq!(report.events, 1);
    });
}

#[test]
fn failures_and_panics_stop_nothing_and_are_reported() {
    for threads in [None, Some(2)] {
        let node = Node::start();
        let topic = node.topic(1);
        push(&topic, 0..20);
        topic.mark_complete().unwrap();
        let consumer = topic.consumer("c", ConsumerOptions::default()).unwrap();
        let processed = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&processed);
        let options = ProcessOptions {
            thread_pool: threads.and_then(pool),
            ..Default::default()
        };
        let report = consumer
            .process(
                move |event| {
                    match event?.map(|event| event.id().get()) {
                        Some(3) => return Err("not this one".into()),
                        Some(7) => panic!("a defect of the application"),
                        _ => counter.fetch_add(1, SeqCst),
                    };
                    Ok(Continue(()))
                },
                &options,
            )
            .unwrap();
        assert!(matches!(report.end, ProcessEnd::NoMoreEvents));
        assert_eq!(
            (report.events, report.failed, processed.load(SeqCst)),
            (20, 2, 18)
        );
        let first = report.first_failure.unwrap();
        if threads.is_none() {
            assert_eq!(
                (first.event, first.reason.as_ref()),
                (Some((0, 3)), "not this one")
            );
        } else {
            assert!([Some((0, 3)), Some((0, 7))].contains(&first.event));
        }
    }
}

#[test]
fn an_event_that_cannot_be_had_is_handed_over_as_its_error() {
    let node = Node::start();
    let topic = node.topic(1);
    push(&topic, 0..5);
    topic.mark_complete().unwrap();
    let options = ConsumerOptions {
        data_selector: DataSelector::new(|metadata, whole| match metadata.value()["n"].as_u64() {
            Some(2) => Err("no data of this one".into()),
            _ => Ok(whole.clone()),
        }),
        ..Default::default()
    };
    let consumer = topic.consumer("c", options).unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let list = Arc::clone(&seen);
    let report = consumer
        .process(
            move |event| {
                list.lock().unwrap().push(event.is_ok());
                // As most applications would: it counts as a failure of the function.
                event?;
                Ok(Continue(()))
            },
            &ProcessOptions::default(),
        )
        .unwrap();
    assert_eq!(*seen.lock().unwrap(), [true, true, false, true, true]);
    assert_eq!((report.handed_over, report.events, report.failed), (5, 4, 1));
    let reason = report.first_failure.unwrap().reason;
    assert!(reason.contains("no data of this one"), "{reason}");
    assert!(matches!(report.end, ProcessEnd::NoMoreEvents));
}

#[test]
fn there_is_one_loop_at_a_time() {
    let node = Node::start();
    let topic = node.topic(1);
    push(&topic, 0..2);
    let consumer = topic.consumer("c", ConsumerOptions::default()).unwrap();
    let (again, report) = {
        let again = consumer.clone();
        let refused = Arc::new(Mutex::new(None));
        let told = Arc::clone(&refused);
        let report = consumer.process(
            move |_| {
                // Also not from within.
                let error = again
                    .process(|_| Ok(Continue(())), &ProcessOptions::default())
                    .unwrap_err();
                *told.lock().unwrap() = Some(error.to_string());
                Ok(Break(()))
            },
            &ProcessOptions::default(),
        );
        let told = refused.lock().unwrap().clone();
        (told.unwrap(), report.unwrap())
    };
    assert!(again.contains("make another consumer"), "{again}");
    assert_eq!(report.events, 1);
    // The next one is welcome, and goes on where it ended.
    let (seen, _) = all(
        &consumer,
        &ProcessOptions {
            max_events: Some(1),
            ..Default::default()
        },
    );
    assert_eq!(seen, [Some(1)]);
}

#[test]
fn closing_the_consumer_ends_the_loop() {
    let node = Node::start();
    let topic = node.topic(1);
    push(&topic, 0..1);
    let consumer = topic.consumer("c", ConsumerOptions::default()).unwrap();
    let closer = consumer.clone();
    let options = ProcessOptions {
        timeout: None,
        ..Default::default()
    };
    let close = move |_| {
        closer.close();
        Ok(Continue(()))
    };
    let report = consumer.process(close, &options).unwrap();
    assert!(matches!(report.end, ProcessEnd::Failed(PullError::Closed)));
    assert_eq!(report.handed_over, 1);
}

#[test]
fn a_task_of_the_pool_may_process_in_it() {
    let node = Node::start();
    let topic = node.topic(1);
    push(&topic, 0..10);
    topic.mark_complete().unwrap();
    let consumer = topic.consumer("c", ConsumerOptions::default()).unwrap();
    let only = ThreadPool::new(1).unwrap();
    let options = ProcessOptions {
        thread_pool: Some(only.clone()),
        ..Default::default()
    };
    let (send, received): (_, Receiver<usize>) = channel();
    let task = move || {
        let (seen, _) = all(&consumer, &options);
        send.send(seen.len()).unwrap();
    };
    only.push_work(task, 0).unwrap();
    assert_eq!(received.recv().unwrap(), 10);
}

#[test]
fn what_is_in_the_pool_is_bounded() {
    let node = Node::start();
    let topic = node.topic(1);
    push(&topic, 0..50);
    topic.mark_complete().unwrap();
    let options = ConsumerOptions {
        batch_size: BatchSize::fixed(1),
        max_num_batches: 1,
        ..Default::default()
    };
    let consumer = topic.consumer("c", options).unwrap();
    let pool = ThreadPool::new(2).unwrap();
    let options = ProcessOptions {
        thread_pool: Some(pool.clone()),
        ..Default::default()
    };
    let (release, released) = channel::<()>();
    let released = Mutex::new(released);
    std::thread::scope(|scope| {
        let processing = scope.spawn(|| {
            let hold = move |_| {
                released.lock().unwrap().recv().ok();
                Ok(Continue(()))
            };
            consumer.process(hold, &options).unwrap()
        });
        eventually("two are at work and two are queued", || pool.size() == 2);
        eventually("a feed has come for the next", || node.state().feeds == 5);
        std::thread::sleep(SHORT);
        assert_eq!((pool.size(), node.state().feeds), (2, 5));
        drop(release);
        assert_eq!(processing.join().unwrap().events, 50);
    });
}
