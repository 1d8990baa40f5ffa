//! Lost connections, nodes that move, nodes that stay away.

use std::time::{Duration, Instant};

use mofka_client::{
    BatchSize, ConsumerOptions, DataSelector, DeliveryError, Driver, DriverOptions, ErrorCode, PartitionKind,
    PartitionOptions, ProducerOptions, PullError, Start, ThreadPool, TopicHandle,
};
use serde_json::json;

use crate::node::{Action, Node, eventually};

fn numbers(range: std::ops::Range<u64>) -> Vec<String> {
    range.map(|n| format!("{{\"n\":{n}}}")).collect()
}

/// Pushes 200 events while every tenth batch ends the connection in this way.
fn push_through(trouble: fn() -> Action, batch_size: BatchSize, max_num_batches: usize) {
    let node = Node::start();
    let mut batches = 0;
    node.on_produce(move |_| {
        batches += 1;
        if batches % 10 == 4 {
            trouble()
        } else {
            Action::Accept
        }
    });
    let topic = node.topic(1);
    let producer = topic.producer(ProducerOptions {
        batch_size,
        max_num_batches,
        ..Default::default()
    });
    let futures: Vec<_> = (0..200)
        .map(|n| producer.push(json!({"n": n}), "some data", None).unwrap())
        .collect();
    for (n, future) in futures.iter().enumerate() {
        assert_eq!(future.wait().unwrap().get(), n as u64);
    }
    assert_eq!(node.stored(&topic, 0), numbers(0..200));
    assert!(producer.stats().resent > 0);
    assert_eq!(producer.close().unwrap().acknowledged, 200);
}

#[test]
fn resending_after_a_lost_request_keeps_order() {
    push_through(|| Action::DropBefore, BatchSize::fixed(1), 1);
    push_through(|| Action::DropBefore, BatchSize::fixed(2), 4);
}

#[test]
fn resending_after_a_lost_answer_duplicates_nothing() {
    push_through(|| Action::DropAfter, BatchSize::fixed(1), 1);
    push_through(|| Action::DropAfter, BatchSize::fixed(2), 4);
}

#[test]
fn a_node_that_comes_back_elsewhere_is_found() {
    let node = Node::start();
    let topic = node.topic(1);
    let producer = topic.producer(ProducerOptions::default());
    let consumer = topic.consumer("c", ConsumerOptions::default()).unwrap();
    producer.push(json!({"n": 0}), "", None).unwrap().wait().unwrap();
    let first = consumer.pull().wait().unwrap().unwrap();
    node.go_away();
    let future = producer.push(json!({"n": 1}), "", None).unwrap();
    let acknowledged = first.acknowledge();
    assert!(future.wait_timeout(Duration::from_millis(100)).unwrap().is_none());
    node.come_back();
    assert_eq!(future.wait().unwrap().get(), 1);
    acknowledged.wait().unwrap();
    // Not at the cursor, which is elsewhere, but behind what was delivered.
    assert_eq!(consumer.pull().wait().unwrap().unwrap().id().get(), 1);
    assert_eq!(topic.driver().list_topics().unwrap().len(), 1);
}

#[test]
fn a_node_that_stays_away_fails_the_events_in_time() {
    let node = Node::start();
    let mut options = node.options();
    options.reconnect_timeout = Duration::from_millis(300);
    let name = node.topic(1).name();
    let topic = Driver::connect(options).unwrap().open_topic(&name).unwrap();
    let producer = topic.producer(ProducerOptions::default());
    let consumer = topic.consumer("c", ConsumerOptions::default()).unwrap();
    node.on_produce(|_| Action::Hold);
    let sent = producer.push(json!({"n": 0}), "", None).unwrap();
    eventually("it was sent", || !node.state().held.is_empty());
    node.go_away();
    let begun = Instant::now();
    let unsent = producer.push(json!({"n": 1}), "", None).unwrap();
    assert!(matches!(
        sent.wait(),
        Err(DeliveryError::Unreachable {
            may_be_stored: true,
            ..
        })
    ));
    assert!(matches!(
        unsent.wait(),
        Err(DeliveryError::Unreachable {
            may_be_stored: false,
            ..
        })
    ));
    assert!(matches!(
        consumer.pull().wait(),
        Err(PullError::Partition { partition: 0, .. })
    ));
    assert_eq!(consumer.events(Duration::from_secs(5)).count(), 1);
    assert!(begun.elapsed() < Duration::from_secs(5));
    // A new chance for what is pushed later.
    node.on_produce(|_| Action::Accept);
    node.come_back();
    assert_eq!(
        producer
            .push(json!({"n": 2}), "", None)
            .unwrap()
            .wait()
            .unwrap()
            .get(),
        0
    );
    let report = producer.close().unwrap();
    assert_eq!((report.pushed, report.acknowledged, report.failed), (3, 1, 2));
    assert_eq!(report.may_be_stored, 1);
}

#[test]
fn a_partition_that_forgot_its_producers_starts_over() {
    let node = Node::start();
    let topic = node.topic(1);
    let producer = topic.producer(ProducerOptions {
        batch_size: BatchSize::fixed(1),
        ..Default::default()
    });
    for n in 0..5 {
        producer.push(json!({"n": n}), "", None).unwrap().wait().unwrap();
    }
    node.state().forget_producers();
    let futures: Vec<_> = (5..15)
        .map(|n| producer.push(json!({"n": n}), "", None).unwrap())
        .collect();
    assert!(futures.iter().all(|future| future.wait().is_ok()));
    assert_eq!(node.stored(&topic, 0), numbers(0..15));
}

/// Pulls five events of a partition that comes back with `left` of them, and then three more come; where these begin.
fn read_on_in_a_shorter_partition(kind: PartitionKind, start: Start, left: u64) {
    let node = Node::start();
    node.state().kind = kind;
    let topic = node.topic(1);
    let producer = topic.producer(ProducerOptions {
        batch_size: BatchSize::fixed(1),
        ..Default::default()
    });
    let push = || producer.push(json!({}), "", None).unwrap().wait().unwrap();
    let options = ConsumerOptions {
        start,
        ..Default::default()
    };
    let consumer = topic.consumer("c", options).unwrap();
    let pull = || {
        let event = consumer.pull().wait_timeout(Duration::from_secs(10)).unwrap();
        event.unwrap().unwrap()
    };
    for _ in 0..5 {
        push();
    }
    let old: Vec<_> = (0..5).map(|_| pull()).collect();
    old[4].acknowledge().wait().unwrap();
    let partition = topic.partitions()[0].id;
    node.go_away();
    node.state().cut(partition, left);
    node.come_back();
    eventually("it is subscribed to anew", || node.state().subscribes.len() == 3);
    let ids: Vec<u64> = (0..3).map(|_| push().get()).collect();
    let new: Vec<_> = (0..3).map(|_| pull()).collect();
    assert_eq!(ids, [left, left + 1, left + 2]);
    assert_eq!(ids, new.iter().map(|event| event.id().get()).collect::<Vec<_>>());
    // The numbers are those of others now.
    let refused = old[2].acknowledge().wait().unwrap_err().to_string();
    assert!(refused.contains("lost its last events"), "{refused}");
    new[0].acknowledge().wait().unwrap();
    assert_eq!(node.state().part(partition).cursors["c"], left + 1);
}

#[test]
fn a_partition_that_comes_back_shorter_is_read_on() {
    for start in [Start::Cursor, Start::Last] {
        read_on_in_a_shorter_partition(PartitionKind::Memory, start, 0);
        read_on_in_a_shorter_partition(PartitionKind::Default, start, 3);
    }
}

#[test]
fn in_memory_all_is_new_after_a_start_and_who_waits_for_an_event_waits() {
    let node = Node::start();
    let topic = node.topic(1);
    let producer = topic.producer(ProducerOptions::default());
    let push = || producer.push(json!({}), "", None).unwrap().wait().unwrap();
    for _ in 0..3 {
        push();
    }
    let consumer = |name: &str, start| {
        let options = ConsumerOptions {
            start,
            ..Default::default()
        };
        topic.consumer(name, options).unwrap()
    };
    let (behind, ahead) = (consumer("behind", Start::Id(1)), consumer("ahead", Start::Id(4)));
    for _ in 0..2 {
        behind.pull().wait().unwrap();
    }
    node.go_away();
    let partition = topic.partitions()[0].id;
    node.state().cut(partition, 0);
    // So that it is long again before it is subscribed to.
    node.state().hold_subscribes = true;
    node.come_back();
    for _ in 0..2 {
        push();
    }
    node.change(|state| state.hold_subscribes = false);
    assert_eq!(behind.pull().wait().unwrap().unwrap().id().get(), 0);
    for _ in 0..3 {
        push();
    }
    assert_eq!(ahead.pull().wait().unwrap().unwrap().id().get(), 4);
}

#[test]
fn a_deleted_topic_is_gone_for_its_producers() {
    let node = Node::start();
    let topic = node.topic(1);
    let producer = topic.producer(ProducerOptions::default());
    producer.push(json!({}), "", None).unwrap().wait().unwrap();
    topic.driver().delete_topic(&topic.name()).unwrap();
    node.drop_connections();
    // The connection may be found dead only after the batch went into it.
    let error = producer.push(json!({}), "", None).unwrap().wait().unwrap_err();
    assert_eq!(error.reason(), "gone", "{error}");
}

#[test]
fn a_consumer_sees_every_event_once_through_lost_connections() {
    let part = || DataSelector::new(|_, all| Ok(all.sub_view(1, 3)));
    for (selector, threads) in [
        (DataSelector::none(), 0),
        (DataSelector::all(), 0),
        (part(), 0),
        (part(), 2),
    ] {
        let node = Node::start();
        node.state().spare_data = true;
        let topic = node.topic(1);
        let producer = topic.producer(ProducerOptions {
            batch_size: BatchSize::fixed(3),
            ..Default::default()
        });
        let options = ConsumerOptions {
            batch_size: BatchSize::fixed(6),
            data_selector: selector,
            thread_pool: Some(ThreadPool::new(threads).unwrap()),
            ..Default::default()
        };
        let consumer = topic.consumer("c", options).unwrap();
        let mut seen = Vec::new();
        for round in 0..10 {
            for n in 0..30 {
                producer.push(json!({"n": round * 30 + n}), "data", None).unwrap();
            }
            producer.flush().wait().unwrap();
            while seen.len() < (round as usize + 1) * 30 - 7 {
                let event = consumer.pull().wait().unwrap().unwrap();
                assert_eq!(event.metadata(), &json!({"n": event.id().get()}));
                seen.push(event.id().get());
            }
            node.drop_connections();
        }
        seen.extend(
            consumer
                .events(Duration::from_millis(300))
                .map(|event| event.unwrap().id().get()),
        );
        assert_eq!(seen, (0..300).collect::<Vec<u64>>());
    }
}

/// A topic whose driver looks for a node this long.
fn impatient(node: &Node, partitions: u32, reconnect_timeout: Duration) -> TopicHandle {
    let options = DriverOptions {
        reconnect_timeout,
        ..node.options()
    };
    let name = node.topic(partitions).name();
    Driver::connect(options).unwrap().open_topic(&name).unwrap()
}

#[test]
fn each_loss_of_a_partition_that_is_idle_has_all_of_its_time() {
    let node = Node::start();
    let timeout = Duration::from_millis(500);
    let topic = impatient(&node, 1, timeout);
    let consumer = topic.consumer("c", ConsumerOptions::default()).unwrap();
    let subscribed = |count: usize| {
        eventually("it is subscribed to", || node.state().subscribes.len() == count);
        std::thread::sleep(timeout + Duration::from_millis(100));
    };
    // One was there from the beginning, the other is added.
    let driver = topic.driver();
    driver
        .add_partition(&topic.name(), PartitionOptions::default())
        .unwrap();
    subscribed(2);
    node.drop_connections();
    subscribed(4);
    node.drop_connections();
    subscribed(6);
    consumer.seek(0, Start::First).unwrap();
    subscribed(7);
    node.drop_connections();
    subscribed(9);
    topic.refresh().unwrap();
    let producer = topic.producer(ProducerOptions::default());
    for partition in 0..2 {
        producer
            .push(json!({}), "", Some(partition))
            .unwrap()
            .wait()
            .unwrap();
        let event = consumer.pull().wait_timeout(Duration::from_secs(10)).unwrap();
        assert_eq!(event.unwrap().unwrap().partition(), partition);
    }
}

#[test]
fn trouble_before_a_refusal_does_not_count_after_it() {
    let node = Node::start();
    let timeout = Duration::from_millis(500);
    let topic = impatient(&node, 1, timeout);
    let mut batches = 0;
    node.on_produce(move |_| {
        batches += 1;
        match batches {
            2 => Action::Refuse(ErrorCode::Overloaded),
            3 => Action::Refuse(ErrorCode::BadChecksum),
            4 => Action::DropBefore,
            _ => Action::Accept,
        }
    });
    let producer = topic.producer(ProducerOptions::default());
    let push = || producer.push(json!({}), "", None).unwrap();
    push().wait().unwrap();
    assert_eq!(push().wait().unwrap_err().reason(), "bad_checksum");
    let consumer = topic.consumer("c", ConsumerOptions::default()).unwrap();
    let event = consumer.pull().wait().unwrap().unwrap();
    node.state().hold_acknowledgements = true;
    let acknowledged = event.acknowledge();
    eventually("it is sent", || node.state().acknowledged.len() == 1);
    node.state().refuse_acknowledgements = Some(ErrorCode::UnknownPartition);
    node.state().hold_acknowledgements = false;
    node.drop_connections();
    assert!(acknowledged.wait().is_err());
    std::thread::sleep(timeout + Duration::from_millis(100));
    node.state().refuse_acknowledgements = None;
    node.state().hold_acknowledgements = true;
    let acknowledged = event.acknowledge();
    eventually("it is sent again", || node.state().acknowledged.len() == 3);
    assert_eq!(push().wait().unwrap().get(), 1);
    node.change(|state| state.hold_acknowledgements = false);
    acknowledged.wait().unwrap();
}

#[test]
fn what_is_refused_after_its_answer_was_lost_may_be_stored() {
    let node = Node::start();
    let topic = impatient(&node, 1, Duration::from_millis(300));
    let mut batches = 0;
    node.on_produce(move |_| {
        batches += 1;
        match batches {
            1 => Action::DropAfter,
            _ => Action::Refuse(ErrorCode::NoSpace),
        }
    });
    let producer = topic.producer(ProducerOptions {
        batch_size: BatchSize::fixed(1),
        max_num_batches: 4,
        ..Default::default()
    });
    let futures: Vec<_> = (0..3)
        .map(|n| producer.push(json!({"n": n}), "", None).unwrap())
        .collect();
    let told = futures.iter().map(|future| future.wait().unwrap_err());
    let told: Vec<_> = told
        .map(|error| (error.reason(), error.may_be_stored()))
        .collect();
    assert_eq!(
        told,
        [("no_space", true), ("no_space", false), ("no_space", false)]
    );
    assert_eq!(node.stored(&topic, 0), numbers(0..1));
    // It may be what was on its way when the device failed.
    node.on_produce(|_| Action::Refuse(ErrorCode::Poisoned));
    let error = producer.push(json!({}), "", None).unwrap().wait().unwrap_err();
    assert_eq!((error.reason(), error.may_be_stored()), ("poisoned", true));
    assert!(error.to_string().contains("may be stored"), "{error}");
    let report = producer.close().unwrap();
    assert_eq!((report.failed, report.may_be_stored), (4, 2));
}

#[test]
fn a_silent_node_is_given_up_and_a_quiet_client_is_heard() {
    let node = Node::start();
    node.state().heartbeat_ms = 30;
    let topic = node.topic(1);
    eventually("pings come", || node.state().pings > 2);
    let producer = topic.producer(ProducerOptions::default());
    node.state().is_deaf = true;
    let future = producer.push(json!({"n": 0}), "", None).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    assert!(!future.completed());
    node.state().is_deaf = false;
    assert_eq!(future.wait().unwrap().get(), 0);
    assert!(producer.stats().resent > 0);
}

#[test]
fn another_owner_is_asked_after() {
    let node = Node::start();
    let mut batches = 0;
    node.on_produce(move |_| {
        batches += 1;
        if batches == 2 {
            Action::Refuse(ErrorCode::NotOwner)
        } else {
            Action::Accept
        }
    });
    let topic = node.topic(1);
    let producer = topic.producer(ProducerOptions {
        batch_size: BatchSize::fixed(1),
        ..Default::default()
    });
    let futures: Vec<_> = (0..10)
        .map(|n| producer.push(json!({"n": n}), "", None).unwrap())
        .collect();
    assert!(futures.iter().all(|future| future.wait().is_ok()));
    assert_eq!(node.stored(&topic, 0), numbers(0..10));
}

#[test]
fn a_lost_answer_before_a_refused_batch_duplicates_nothing() {
    let node = Node::start();
    let topic = node.topic(1);
    let producer = topic.producer(ProducerOptions {
        batch_size: BatchSize::fixed(1),
        max_num_batches: 4,
        ..Default::default()
    });
    let mut batches = 0;
    node.on_produce(move |_| {
        batches += 1;
        match batches {
            // Stored, and its answer is still on its way when the one behind it is refused for good.
            2 => Action::Swallow,
            3 => Action::Refuse(ErrorCode::BadChecksum),
            _ => Action::Accept,
        }
    });
    // The partition knows the producer: the next ones go together.
    producer.push(json!({"n": 0}), "", None).unwrap().wait().unwrap();
    let futures: Vec<_> = (1..5)
        .map(|n| producer.push(json!({"n": n}), "", None).unwrap())
        .collect();
    assert_eq!(futures[1].wait().unwrap_err().reason(), "bad_checksum");
    node.drop_connections();
    let ids: Vec<u64> = [0, 2, 3].map(|n| futures[n].wait().unwrap().get()).into();
    assert_eq!(ids, [1, 2, 3]);
    let texts = [0, 1, 3, 4].map(|n| format!("{{\"n\":{n}}}"));
    assert_eq!(node.stored(&topic, 0), texts);
    assert_eq!(node.state().duplicates, 1);
    let report = producer.close().unwrap();
    assert_eq!((report.acknowledged, report.failed), (4, 1));
}

#[test]
fn a_node_whose_device_stalls_is_asked_whether_it_lives() {
    let node = Node::start();
    node.state().heartbeat_ms = 200;
    let topic = node.topic(1);
    let producer = topic.producer(ProducerOptions {
        batch_size: BatchSize::fixed(1),
        max_num_batches: 64,
        ..Default::default()
    });
    let push = || producer.push(json!({}), "", None).unwrap();
    push().wait().unwrap();
    node.on_produce(|_| Action::Hold);
    // Something is sent in each heartbeat, and nothing comes of it.
    let futures: Vec<_> = (0..30)
        .map(|_| {
            std::thread::sleep(Duration::from_millis(50));
            push()
        })
        .collect();
    node.on_produce(|_| Action::Accept);
    node.change(|_| ());
    assert!(futures.iter().all(|future| future.wait().is_ok()));
    assert_eq!(producer.stats().resent, 0);
}
