//! Batching, order, back-pressure, errors, accounts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mofka_client::{BatchSize, Driver, Durability, ErrorCode, Ordering as Order, ProducerOptions, PushError};
use serde_json::json;

use crate::node::{Action, Node, block_on, eventually};

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|n| format!("{{\"n\":{n}}}")).collect()
}

#[test]
fn a_fixed_batch_goes_when_it_is_full() {
    let node = Node::start();
    let topic = node.topic(1);
    let producer = topic.producer(ProducerOptions {
        batch_size: BatchSize::fixed(3),
        ..Default::default()
    });
    let futures: Vec<_> = (0..7)
        .map(|n| producer.push(json!({"n": n}), "", None).unwrap())
        .collect();
    for (n, future) in futures[..6].iter().enumerate() {
        assert_eq!(future.wait().unwrap().get(), n as u64);
    }
    assert_eq!(node.state().batch_sizes, [3, 3]);
    assert!(!futures[6].completed());
    std::thread::sleep(Duration::from_millis(30));
    assert_eq!(node.stored(&topic, 0).len(), 6);
    // Somebody waits for an event that was not sent.
    assert_eq!(futures[6].wait().unwrap().get(), 6);
    assert_eq!(node.state().batch_sizes, [3, 3, 1]);
    assert_eq!(node.stored(&topic, 0), numbers(0..7));
}

#[test]
fn an_adaptive_batch_takes_what_gathers_while_others_are_on_their_way() {
    let node = Node::start();
    node.on_produce(|_| Action::Hold);
    let topic = node.topic(1);
    let producer = topic.producer(ProducerOptions {
        max_num_batches: 1,
        ..Default::default()
    });
    let futures: Vec<_> = (0..50)
        .map(|n| producer.push(json!({"n": n}), "", None).unwrap())
        .collect();
    eventually("the first batch is held", || !node.state().held.is_empty());
    node.on_produce(|_| Action::Accept);
    node.change(|_| ());
    for (n, future) in futures.iter().enumerate() {
        assert_eq!(future.wait().unwrap().get(), n as u64);
    }
    assert_eq!(node.state().batch_sizes, [1, 49]);
    assert_eq!(node.stored(&topic, 0), numbers(0..50));
    let stats = producer.stats();
    assert_eq!(
        (stats.events, stats.batches, stats.resent, stats.acknowledged),
        (50, 2, 0, 50)
    );
}

#[test]
fn as_many_batches_are_on_their_way_as_the_node_remembers() {
    let node = Node::start();
    node.state().sequence_window = 3;
    let topic = node.topic(1);
    let producer = topic.producer(ProducerOptions {
        batch_size: BatchSize::fixed(1),
        max_num_batches: 8,
        ..Default::default()
    });
    let push = |n| producer.push(json!({"n": n}), "", None).unwrap();
    // The partition knows the producer from then on.
    push(0).wait().unwrap();
    node.on_produce(|_| Action::Hold);
    let futures: Vec<_> = (1..9).map(push).collect();
    eventually("three batches are held", || node.state().held.len() == 3);
    std::thread::sleep(Duration::from_millis(30));
    assert_eq!(node.state().held.len(), 3);
    node.on_produce(|_| Action::Accept);
    node.change(|_| ());
    for (n, future) in (1..).zip(&futures) {
        assert_eq!(future.wait().unwrap().get(), n);
    }
    assert_eq!(node.stored(&topic, 0), numbers(0..9));
}

#[test]
fn metadata_and_data_arrive_as_they_were_given() {
    let node = Node::start();
    let topic = node.topic(1);
    let producer = topic.producer(ProducerOptions::default());
    producer
        .push(
            "[1,  2]",
            vec![Bytes::from_static(b"ab"), Bytes::new(), Bytes::from_static(b"c")],
            None,
        )
        .unwrap();
    producer.push(json!("text"), vec![7_u8; 200_000], None).unwrap();
    producer.flush().wait().unwrap();
    assert_eq!(node.stored(&topic, 0), ["[1,  2]", "\"text\""]);
    assert_eq!(producer.stats().bytes, 7 + 3 + 6 + 200_000);
}

#[test]
fn push_blocks_at_the_bound_and_goes_on() {
    for batch_size in [BatchSize::Adaptive, BatchSize::fixed(2)] {
        let node = Node::start();
        node.on_produce(|_| Action::Hold);
        let topic = node.topic(1);
        let options = ProducerOptions {
            batch_size,
            max_num_batches: 2,
            batch_bytes_max: 2000,
            ..Default::default()
        };
        let producer = topic.producer(options);
        let blocked = Arc::new(AtomicBool::new(true));
        let (flag, pusher) = (Arc::clone(&blocked), producer.clone());
        let thread = std::thread::spawn(move || {
            for n in 0..100 {
                pusher.push(json!({"n": n}), vec![0_u8; 500], None).unwrap();
            }
            flag.store(false, Ordering::SeqCst);
        });
        std::thread::sleep(Duration::from_millis(50));
        assert!(blocked.load(Ordering::SeqCst));
        // Two batches wait, and one gathers: never more than three times the bound.
        assert!(producer.stats().events <= 12, "{:?}", producer.stats());
        eventually("a batch is held", || !node.state().held.is_empty());
        node.on_produce(|_| Action::Accept);
        node.change(|_| ());
        thread.join().unwrap();
        producer.flush().wait().unwrap();
        assert_eq!(node.stored(&topic, 0), numbers(0..100));
    }
}

#[test]
fn whoever_waits_for_room_may_give_up() {
    for order in [Order::Strict, Order::Loose] {
        let node = Node::start();
        node.on_produce(|_| Action::Hold);
        let topic = node.topic(1);
        let options = ProducerOptions {
            batch_size: BatchSize::fixed(1),
            max_num_batches: 1,
            ordering: order,
            ..Default::default()
        };
        let producer = topic.producer(options);
        let asked = AtomicU32::new(0);
        let patient = || asked.fetch_add(1, Ordering::SeqCst) < 2;
        let mut pushed = 0_u32;
        let given_up = loop {
            match producer.push_while(json!({"n": pushed}), "data", None, patient) {
                Ok(_) => pushed += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(given_up, PushError::GivenUp), "{given_up}");
        assert_eq!(asked.load(Ordering::SeqCst), 3);
        // What was given up is nowhere, and what was pushed before goes on.
        eventually("a batch is held", || !node.state().held.is_empty());
        node.on_produce(|_| Action::Accept);
        node.change(|_| ());
        producer
            .push_while(json!({"n": pushed}), "data", None, || true)
            .unwrap();
        let report = producer.close().unwrap();
        assert_eq!(
            (report.pushed, report.acknowledged),
            (u64::from(pushed) + 1, u64::from(pushed) + 1)
        );
        assert_eq!(node.stored(&topic, 0).len(), pushed as usize + 1);
    }
}

#[test]
fn partitions_take_turns_and_requests_are_taken_modulo() {
    let node = Node::start();
    let topic = node.topic(3);
    let (one, two) = (
        topic.producer(ProducerOptions::default()),
        topic.producer(ProducerOptions::default()),
    );
    for n in 0..6 {
        // One count for the topic handle, whichever producer pushes.
        let producer = if n % 2 == 0 { &one } else { &two };
        producer.push(json!({"n": n}), "", None).unwrap().wait().unwrap();
    }
    one.push(json!({"n": 6}), "", Some(4)).unwrap().wait().unwrap();
    assert_eq!(node.stored(&topic, 0), ["{\"n\":0}", "{\"n\":3}"]);
    assert_eq!(node.stored(&topic, 1), ["{\"n\":1}", "{\"n\":4}", "{\"n\":6}"]);
    assert_eq!(node.stored(&topic, 2), ["{\"n\":2}", "{\"n\":5}"]);
}

#[test]
fn what_cannot_be_taken_is_refused_at_once() {
    let node = Node::start();
    let empty = node.topic(0).producer(ProducerOptions::default());
    let error = empty.push(json!({}), "", None).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("PartitionSelector has no target to select from"),
        "{error}"
    );
    let producer = node.topic(1).producer(ProducerOptions::default());
    let error = producer.push("{", "", None).unwrap_err();
    assert!(matches!(&error, PushError::InvalidMetadata { .. }));
    assert!(error.to_string().starts_with("Could not parse JSON: "), "{error}");
    let large = producer.push(json!({}), vec![0_u8; 65 << 20], None);
    assert!(matches!(large, Err(PushError::TooLarge { max, .. }) if max <= 64 << 20));
    // None of this left anything behind.
    assert_eq!(
        producer
            .push(json!({}), vec![0_u8; 63 << 20], None)
            .unwrap()
            .wait()
            .unwrap()
            .get(),
        0
    );
}

#[test]
fn flush_on_nothing_returns_at_once() {
    let node = Node::start();
    let topic = node.topic(1);
    let producer = topic.producer(ProducerOptions {
        batch_size: BatchSize::fixed(10),
        ..Default::default()
    });
    let begun = Instant::now();
    assert!(producer.flush().completed());
    producer.flush().wait().unwrap();
    producer.push(json!({}), "", None).unwrap();
    producer.flush().wait().unwrap();
    assert!(producer.flush().completed());
    assert!(begun.elapsed() < Duration::from_secs(2));
}

#[test]
fn an_error_reaches_its_own_event_and_later_ones_succeed() {
    let node = Node::start();
    // The second batch is refused for good; those behind it are on their way and see a gap.
    let mut batches = 0;
    node.on_produce(move |_| {
        batches += 1;
        if batches == 3 {
            Action::Refuse(ErrorCode::BadChecksum)
        } else {
            Action::Accept
        }
    });
    let topic = node.topic(1);
    let options = ProducerOptions {
        batch_size: BatchSize::fixed(1),
        max_num_batches: 8,
        ..Default::default()
    };
    let producer = topic.producer(options);
    let futures: Vec<_> = (0..20)
        .map(|n| producer.push(json!({"n": n}), "x", None).unwrap())
        .collect();
    let failed: Vec<usize> = (0..20).filter(|n| futures[*n].wait().is_err()).collect();
    assert_eq!(failed, [2]);
    let expected: Vec<String> = numbers(0..20)
        .into_iter()
        .filter(|text| text != "{\"n\":2}")
        .collect();
    assert_eq!(node.stored(&topic, 0), expected);
    let report = producer.close().unwrap();
    assert_eq!((report.pushed, report.acknowledged, report.failed), (20, 19, 1));
    assert_eq!(report.may_be_stored, 0);
    assert_eq!(
        report.failed_by_reason,
        BTreeMap::from([("bad_checksum".to_owned(), 1)])
    );
}

#[test]
fn a_busy_node_is_asked_again() {
    for code in [ErrorCode::Overloaded, ErrorCode::NoSpace, ErrorCode::ShuttingDown] {
        let node = Node::start();
        let mut batches = 0;
        node.on_produce(move |_| {
            batches += 1;
            if (3..6).contains(&batches) {
                Action::Refuse(code)
            } else {
                Action::Accept
            }
        });
        let topic = node.topic(1);
        let options = ProducerOptions {
            batch_size: BatchSize::fixed(1),
            max_num_batches: 4,
            ..Default::default()
        };
        let producer = topic.producer(options);
        let futures: Vec<_> = (0..20)
            .map(|n| producer.push(json!({"n": n}), "", None).unwrap())
            .collect();
        for (n, future) in futures.iter().enumerate() {
            assert_eq!(future.wait().unwrap().get(), n as u64, "{code}");
        }
        assert_eq!(node.stored(&topic, 0), numbers(0..20));
        assert!(producer.stats().resent > 0);
    }
}

#[test]
fn patience_with_a_full_disk_ends() {
    let node = Node::start();
    node.on_produce(|_| Action::Refuse(ErrorCode::NoSpace));
    let mut options = node.options();
    options.reconnect_timeout = Duration::from_millis(200);
    let driver = mofka_client::Driver::connect(options).unwrap();
    let topic = driver.open_topic(&node.topic(1).name()).unwrap();
    let producer = topic.producer(ProducerOptions::default());
    let future = producer.push(json!({}), "", None).unwrap();
    assert_eq!(future.wait().unwrap_err().reason(), "no_space");
    node.on_produce(|_| Action::Accept);
    assert_eq!(
        producer.push(json!({}), "", None).unwrap().wait().unwrap().get(),
        0
    );
}

#[test]
fn close_accounts_for_every_event() {
    let node = Node::start();
    let topic = node.topic(2);
    let options = ProducerOptions {
        batch_size: BatchSize::fixed(7),
        ..Default::default()
    };
    let producer = topic.producer(options);
    for n in 0..100 {
        producer.push(json!({"n": n}), "data", None).unwrap();
    }
    let report = producer.close().unwrap();
    assert_eq!((report.acknowledged, report.failed), (100, 0));
    assert_eq!(producer.close().unwrap(), report);
    assert!(matches!(
        producer.push(json!({}), "", None),
        Err(PushError::Closed)
    ));
    topic.mark_complete().unwrap();
    let late = topic.producer(ProducerOptions::default());
    let future = late.push(json!({}), "", None).unwrap();
    let report = late.close().unwrap();
    assert_eq!(future.wait().unwrap_err().reason(), "topic_complete");
    assert_eq!(
        report.failed_by_reason,
        BTreeMap::from([("topic_complete".to_owned(), 1)])
    );
}

#[test]
fn dropping_a_producer_sends_what_is_left_and_is_bounded() {
    let node = Node::start();
    let topic = node.topic(1);
    let options = ProducerOptions {
        batch_size: BatchSize::fixed(100),
        ..Default::default()
    };
    topic
        .producer(options.clone())
        .push(json!({"n": 0}), "", None)
        .unwrap();
    assert_eq!(node.stored(&topic, 0), numbers(0..1));
    node.on_produce(|_| Action::Hold);
    let producer = topic.producer(ProducerOptions {
        drop_timeout: Duration::from_millis(50),
        ..options
    });
    let future = producer.push(json!({"n": 1}), "", None).unwrap();
    let begun = Instant::now();
    drop(producer);
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert!(!future.completed());
    node.on_produce(|_| Action::Accept);
    node.change(|_| ());
    assert_eq!(future.wait().unwrap().get(), 1);
}

#[test]
fn many_threads_push_and_nothing_is_lost() {
    let node = Node::start();
    let topic = node.topic(2);
    let producer = topic.producer(ProducerOptions {
        durability: Some(Durability::Buffered),
        ..Default::default()
    });
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let producer = &producer;
            scope.spawn(move || {
                for n in 0..500 {
                    producer
                        .push(json!({"t": thread, "n": n}), vec![1_u8; 100], Some(thread))
                        .unwrap();
                }
            });
        }
    });
    assert_eq!(producer.close().unwrap().acknowledged, 2000);
    for partition in 0..2 {
        let stored = node.stored(&topic, partition);
        for thread in [partition, partition + 2] {
            let prefix = format!(",\"t\":{thread}}}");
            let own: Vec<&String> = stored.iter().filter(|text| text.ends_with(&prefix)).collect();
            let expected: Vec<String> = (0..500).map(|n| format!("{{\"n\":{n}{prefix}")).collect();
            assert!(own.into_iter().eq(&expected));
        }
    }
}

#[test]
fn a_batch_that_fails_fails_all_of_its_events_in_the_same_way() {
    let node = Node::start();
    node.on_produce(|_| Action::Refuse(ErrorCode::Poisoned));
    let topic = node.topic(1);
    let producer = topic.producer(ProducerOptions {
        batch_size: BatchSize::fixed(5),
        ..Default::default()
    });
    let futures: Vec<_> = (0..5)
        .map(|n| producer.push(json!({"n": n}), "", None).unwrap())
        .collect();
    let errors: Vec<String> = futures
        .iter()
        .map(|future| future.wait().unwrap_err().to_string())
        .collect();
    assert!(errors[0].contains("as the test wants it"), "{errors:?}");
    assert!(errors.iter().all(|error| *error == errors[0]), "{errors:?}");
    assert_eq!(producer.close().unwrap().failed, 5);
}

#[test]
fn no_batches_at_all_is_taken_as_one() {
    let node = Node::start();
    node.on_produce(|_| Action::Hold);
    let topic = node.topic(1);
    let producer = topic.producer(ProducerOptions {
        batch_size: BatchSize::fixed(1),
        max_num_batches: 0,
        ..Default::default()
    });
    // One is on its way, one gathers; the third has to wait for room.
    producer.push(json!({"n": 0}), "", None).unwrap();
    producer.push(json!({"n": 1}), "", None).unwrap();
    let pusher = producer.clone();
    let third = std::thread::spawn(move || pusher.push(json!({"n": 2}), "", None).unwrap().wait());
    std::thread::sleep(Duration::from_millis(30));
    assert_eq!(producer.stats().events, 2);
    node.on_produce(|_| Action::Accept);
    // Its batch may not have come yet.
    eventually("all are stored", || {
        node.change(|_| ());
        third.is_finished()
    });
    assert_eq!(third.join().unwrap().unwrap().get(), 2);
    assert_eq!(node.stored(&topic, 0), numbers(0..3));
}

#[test]
fn a_future_that_nobody_keeps_loses_nothing_but_its_report() {
    let node = Node::start();
    let topic = node.topic(1);
    let producer = topic.producer(ProducerOptions {
        name: "forgetful".to_owned(),
        ..Default::default()
    });
    assert_eq!(producer.name(), "forgetful");
    for n in 0..50 {
        drop(producer.push(json!({"n": n}), "", None).unwrap());
    }
    producer.flush().wait().unwrap();
    assert_eq!(node.stored(&topic, 0), numbers(0..50));
}

#[test]
fn a_node_that_is_full_for_too_long_may_still_accept_what_is_on_its_way() {
    let node = Node::start();
    let mut options = node.options();
    options.reconnect_timeout = Duration::from_millis(300);
    let name = node.topic(1).name();
    let topic = Driver::connect(options).unwrap().open_topic(&name).unwrap();
    let producer = topic.producer(ProducerOptions {
        batch_size: BatchSize::fixed(1),
        max_num_batches: 4,
        ..Default::default()
    });
    let push = |n: u64| producer.push(json!({"n": n}), "", None).unwrap();
    push(0).wait().unwrap();
    node.on_produce(
        |batch| match batch.events().any(|event| event.metadata == b"{\"n\":1}") {
            true => Action::Hold,
            false => Action::Refuse(ErrorCode::NoSpace),
        },
    );
    let (held, full) = (push(1), push(2));
    assert_eq!(full.wait().unwrap_err().reason(), "no_space");
    assert!(!held.completed());
    node.on_produce(|_| Action::Accept);
    // Nothing new goes out before it is known what became of those.
    let next = push(3);
    node.change(|_| ());
    assert_eq!((held.wait().unwrap().get(), next.wait().unwrap().get()), (1, 2));
    assert_eq!(producer.close().unwrap().failed, 1);
}

#[test]
fn whoever_waits_for_room_while_others_get_answers_is_asked_and_can_be_closed() {
    let node = Node::start();
    let topic = node.topic(2);
    let held = topic.partitions()[0].id;
    node.on_produce_at(move |partition, _| match partition == held {
        true => Action::Hold,
        false => Action::Accept,
    });
    let producer = |max_num_batches| {
        topic.producer(ProducerOptions {
            batch_size: BatchSize::fixed(1),
            max_num_batches,
            ..Default::default()
        })
    };
    let (waiting, other) = (producer(1), producer(16));
    waiting.push(json!({}), "", Some(0)).unwrap();
    // One more gathers, and the next one waits for it.
    waiting.push(json!({}), "", Some(0)).unwrap();
    let is_over = AtomicBool::new(false);
    let begun = Instant::now();
    let is_busy = || !is_over.load(Ordering::SeqCst) && begun.elapsed() < Duration::from_secs(5);
    std::thread::scope(|scope| {
        // Its answers are taken by the one who waits for room.
        scope.spawn(|| {
            while is_busy() {
                block_on(other.push(json!({}), "", Some(1)).unwrap()).unwrap();
            }
        });
        let asked = AtomicU32::new(0);
        let patient = || asked.fetch_add(1, Ordering::SeqCst) < 5;
        let given_up = waiting.push_while(json!({}), "", Some(0), patient);
        let closer = scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(50));
            waiting.close().unwrap()
        });
        let closed = waiting.push(json!({}), "", Some(0));
        let was_busy = is_busy();
        is_over.store(true, Ordering::SeqCst);
        node.on_produce(|_| Action::Accept);
        node.change(|_| ());
        assert!(matches!(given_up, Err(PushError::GivenUp)), "{given_up:?}");
        assert!(matches!(closed, Err(PushError::Closed)), "{closed:?}");
        assert!(was_busy, "it was told only when no more answers came");
        assert_eq!(closer.join().unwrap().acknowledged, 2);
    });
}
