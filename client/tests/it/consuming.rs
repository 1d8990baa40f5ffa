//! Pulls, credit, ends, closing.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mofka_client::{
    BatchSize, Consumer, ConsumerError, ConsumerOptions, DataAllocator, DataSelector, ProducerOptions,
    PullError, Start, TopicHandle,
};
use mofka_net::control::GroupPlace;
use serde_json::json;

use crate::node::{Node, eventually};

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

const SHORT: Duration = Duration::from_millis(20);
const LONG: Duration = Duration::from_secs(10);

#[test]
fn events_come_in_order_with_what_belongs_to_them() {
    let node = Node::start();
    let topic = node.topic(1);
    push(&topic, 0..10);
    let consumer = topic.consumer("c", ConsumerOptions::default()).unwrap();
    for n in 0..10 {
        let event = consumer.pull().wait().unwrap().unwrap();
        assert_eq!(
            (event.id().get(), event.partition(), event.timestamp_us()),
            (n, 0, 1_000_000 + n)
        );
        assert_eq!(event.metadata(), &json!({"n": n}));
        assert_eq!(
            event.metadata_bytes().as_ref(),
            format!("{{\"n\":{n}}}").as_bytes()
        );
        assert_eq!(event.partition_info().id, topic.partitions()[0].id);
        // No data without a selector.
        assert!(event.data().is_empty() && event.descriptor().is_empty());
    }
    assert!(consumer.pull().wait_timeout(SHORT).unwrap().is_none());
    assert!(node.state().fetches.is_empty());
}

#[test]
fn abandoned_pulls_lose_nothing() {
    let node = Node::start();
    let topic = node.topic(1);
    let consumer = topic.consumer("c", ConsumerOptions::default()).unwrap();
    // Dropped before anything came.
    for _ in 0..3 {
        assert!(
            consumer
                .pull()
                .wait_timeout(Duration::from_millis(5))
                .unwrap()
                .is_none()
        );
    }
    let forgotten = consumer.pull();
    push(&topic, 0..6);
    // Dropped when its event was there, but never taken.
    eventually("the event is there", || forgotten.completed());
    drop(forgotten);
    let (one, two, three) = (consumer.pull(), consumer.pull(), consumer.pull());
    eventually("all are there", || {
        one.completed() && two.completed() && three.completed()
    });
    assert_eq!(two.wait().unwrap().unwrap().id().get(), 1);
    drop(one);
    // The event of the dropped pull goes to the next one, and the order of the others stays.
    assert_eq!(three.wait().unwrap().unwrap().id().get(), 0);
    let rest: Vec<u64> = consumer
        .events(SHORT)
        .map(|event| event.unwrap().id().get())
        .collect();
    assert_eq!(rest, [2, 3, 4, 5]);
    assert_eq!(two.wait().unwrap().unwrap().id().get(), 1);
}

#[test]
fn pulls_are_served_in_their_order() {
    let node = Node::start();
    let topic = node.topic(1);
    let consumer = topic.consumer("c", ConsumerOptions::default()).unwrap();
    let pulls: Vec<_> = (0..20).map(|_| consumer.pull()).collect();
    push(&topic, 0..20);
    for (n, pull) in pulls.iter().enumerate().rev() {
        assert_eq!(pull.wait().unwrap().unwrap().id().get(), n as u64);
    }
}

#[test]
fn a_partition_that_others_are_to_read_gives_no_more_and_the_rest_flows_on() {
    let node = Node::start();
    let topic = node.topic(2);
    push(&topic, 0..40);
    let options = ConsumerOptions {
        batch_size: BatchSize::fixed(1),
        max_num_batches: 3,
        ..Default::default()
    };
    let consumer = topic.consumer("c", options).unwrap();
    eventually("feeds come", || node.state().feeds == 6);
    // Events of both are here and not pulled.
    node.change(|state| state.taken_away = vec![0]);
    eventually("it lets go", || consumer.partitions() == [1]);
    let mut ids = Vec::new();
    for event in consumer.events(LONG).take(20) {
        let event = event.unwrap();
        assert_eq!(event.partition(), 1);
        ids.push(event.id().get());
    }
    assert!(ids.into_iter().eq(0..20), "each of them once, in order");
    assert!(consumer.pull().wait_timeout(SHORT).unwrap().is_none());
    let released = node
        .state()
        .held_syncs
        .last()
        .map(|(_, _, request)| request.released.clone());
    let told = released.unwrap();
    assert_eq!(
        (told[0].partition, told[0].next_event_id),
        (0, Some(0)),
        "nothing of it was pulled"
    );
    // It comes back, and begins at the cursor.
    node.change(|state| state.taken_away.clear());
    let again = consumer.pull().wait_timeout(LONG).unwrap().unwrap().unwrap();
    assert_eq!((again.partition(), again.id().get()), (0, 0));
}

#[test]
fn a_node_that_feeds_beyond_its_credit_is_told_on_and_fed_from_no_more() {
    let node = Node::start();
    let topic = node.topic(1);
    push(&topic, 0..40);
    node.state().is_generous = true;
    let options = ConsumerOptions {
        batch_size: BatchSize::fixed(1),
        max_num_batches: 3,
        ..Default::default()
    };
    let consumer = topic.consumer("c", options).unwrap();
    eventually("it is unsubscribed", || node.state().subscriptions.is_empty());
    for n in 0..3 {
        let event = consumer.pull().wait_timeout(LONG).unwrap().unwrap().unwrap();
        assert_eq!(event.id().get(), n, "what there was credit for is there");
    }
    let error = consumer.pull().wait_timeout(LONG).unwrap_err();
    assert!(
        matches!(&error, PullError::Partition { partition: 0, reason } if reason.contains("no credit")),
        "{error}"
    );
    assert_eq!(node.state().subscribes.len(), 1, "nor is it asked again");
}

#[test]
fn credit_bounds_what_is_sent() {
    let node = Node::start();
    let topic = node.topic(2);
    push(&topic, 0..40);
    let options = ConsumerOptions {
        batch_size: BatchSize::fixed(1),
        max_num_batches: 3,
        ..Default::default()
    };
    let consumer = topic.consumer("c", options).unwrap();
    eventually("feeds come", || node.state().feeds == 6);
    std::thread::sleep(SHORT);
    assert_eq!(node.state().feeds, 6, "three for each partition and no more");
    let kept: Vec<_> = (0..5).map(|_| consumer.pull().wait().unwrap().unwrap()).collect();
    eventually("each pulled feed makes room for one", || node.state().feeds == 11);
    std::thread::sleep(SHORT);
    let (feeds, credits) = {
        let state = node.state();
        (state.feeds, state.credits)
    };
    assert_eq!((feeds, credits), (11, 11));
    let mut ids: Vec<_> = kept
        .iter()
        .map(|event| (event.partition(), event.id().get()))
        .collect();
    ids.extend(
        (0..35)
            .map(|_| consumer.pull().wait().unwrap().unwrap())
            .map(|it| (it.partition(), it.id().get())),
    );
    for partition in 0..2 {
        let own: Vec<u64> = ids
            .iter()
            .filter(|(of, _)| *of == partition)
            .map(|(_, id)| *id)
            .collect();
        assert_eq!(own, (0..20).collect::<Vec<u64>>());
    }
}

#[test]
fn targets_choose_partitions() {
    let node = Node::start();
    let topic = node.topic(3);
    push(&topic, 0..9);
    let options = |targets: &[usize]| ConsumerOptions {
        targets: targets.to_vec(),
        ..Default::default()
    };
    let consumer = topic.consumer("c", options(&[2, 0, 2])).unwrap();
    let mut seen: Vec<_> = (0..6)
        .map(|_| consumer.pull().wait().unwrap().unwrap())
        .map(|event| (event.partition(), event.metadata()["n"].as_u64().unwrap()))
        .collect();
    seen.sort_unstable();
    assert_eq!(seen, [(0, 0), (0, 3), (0, 6), (2, 2), (2, 5), (2, 8)]);
    assert!(consumer.pull().wait_timeout(SHORT).unwrap().is_none());
    let error = topic.consumer("c", options(&[3])).unwrap_err();
    assert!(matches!(
        error,
        ConsumerError::InvalidTarget {
            index: 3,
            partitions: 3
        }
    ));
    assert!(
        error
            .to_string()
            .starts_with("invalid partition index passed to TopicHandle::consumer()")
    );
    assert!(matches!(
        topic.consumer("", options(&[])),
        Err(ConsumerError::InvalidName { .. })
    ));
}

#[test]
fn the_end_of_a_complete_topic_is_told_again_and_again() {
    let node = Node::start();
    let topic = node.topic(2);
    push(&topic, 0..4);
    let consumer = topic.consumer("c", ConsumerOptions::default()).unwrap();
    let early = (0..6).map(|_| consumer.pull()).collect::<Vec<_>>();
    topic.mark_complete().unwrap();
    assert!(early[..4].iter().all(|pull| pull.wait().unwrap().is_some()));
    for _ in 0..3 {
        assert!(early[4].wait().unwrap().is_none() && early[5].wait().unwrap().is_none());
        assert!(consumer.pull().wait().unwrap().is_none());
    }
    let begun = Instant::now();
    assert_eq!(consumer.events(LONG).count(), 0);
    assert!(begun.elapsed() < LONG);
}

#[test]
fn a_consumer_begins_where_it_is_told() {
    let node = Node::start();
    let topic = node.topic(1);
    push(&topic, 0..10);
    let first = |name: &str, start: Start| {
        let consumer = topic
            .consumer(
                name,
                ConsumerOptions {
                    start,
                    ..Default::default()
                },
            )
            .unwrap();
        consumer
            .pull()
            .wait_timeout(SHORT * 10)
            .unwrap()
            .map(|event| event.unwrap().id().get())
    };
    let consumer = topic.consumer("c", ConsumerOptions::default()).unwrap();
    let third = (0..3)
        .map(|_| consumer.pull().wait().unwrap().unwrap())
        .nth(2)
        .unwrap();
    third.acknowledge().wait().unwrap();
    drop(consumer);
    assert_eq!(first("c", Start::Cursor), Some(3));
    assert_eq!(first("other", Start::Cursor), Some(0));
    assert_eq!(first("c", Start::First), Some(0));
    assert_eq!(first("c", Start::Id(7)), Some(7));
    assert_eq!(first("c", Start::Last), None);
}

#[test]
fn what_retention_dropped_is_counted() {
    let node = Node::start();
    let topic = node.topic(1);
    push(&topic, 0..10);
    node.state().part(topic.partitions()[0].id).trim_end = 4;
    let consumer = topic.consumer("c", ConsumerOptions::default()).unwrap();
    assert_eq!(consumer.pull().wait().unwrap().unwrap().id().get(), 4);
    assert_eq!(consumer.missed_count(), 4);
}

#[test]
fn closing_unsubscribes_and_fails_pulls() {
    let node = Node::start();
    let topic = node.topic(2);
    push(&topic, 0..4);
    let consumer = topic.consumer("c", ConsumerOptions::default()).unwrap();
    let event = consumer.pull().wait().unwrap().unwrap();
    assert_eq!(node.state().subscriptions.len(), 2);
    let waiting = std::thread::spawn({
        let topic = node.topic(1);
        let idle = topic.consumer("idle", ConsumerOptions::default()).unwrap();
        let closer = idle.clone();
        std::thread::spawn(move || {
            std::thread::sleep(SHORT);
            closer.close();
        });
        move || idle.pull().wait()
    });
    assert!(matches!(waiting.join().unwrap(), Err(PullError::Closed)));
    consumer.close();
    eventually("both are unsubscribed", || node.state().subscriptions.is_empty());
    assert!(matches!(consumer.pull().wait(), Err(PullError::Closed)));
    drop(consumer);
    event.acknowledge().wait().unwrap();
}

#[test]
fn dropping_a_consumer_does_not_hang_on_a_dead_node() {
    let node = Node::start();
    let topic = node.topic(1);
    let consumer = topic.consumer("c", ConsumerOptions::default()).unwrap();
    node.state().is_deaf = true;
    let begun = Instant::now();
    drop(consumer);
    assert!(begun.elapsed() < Duration::from_secs(3));
}

#[test]
fn subscribing_to_what_does_not_exist_is_an_error_at_once() {
    let node = Node::start();
    let topic = node.topic(2);
    node.state().lose_partition(topic.partitions()[1].id);
    let error = topic.consumer("c", ConsumerOptions::default()).unwrap_err();
    assert!(matches!(&error, ConsumerError::Driver(_)), "{error}");
    assert!(error.to_string().contains("no partition"), "{error}");
    // What was subscribed to before it is tidied up.
    eventually("it is unsubscribed", || node.state().subscriptions.is_empty());
    let options = ConsumerOptions {
        targets: vec![0],
        ..Default::default()
    };
    assert!(topic.consumer("c", options).is_ok());
    topic.driver().delete_topic(&topic.name()).unwrap();
    let late = node.driver().open_topic(&topic.name());
    assert!(late.unwrap_err().to_string().contains("no topic"));
}

#[test]
fn dropping_the_last_clone_unsubscribes_and_events_live_on() {
    let node = Node::start();
    let topic = node.topic(3);
    push(&topic, 0..3);
    let consumer = topic.consumer("c", ConsumerOptions::default()).unwrap();
    assert_eq!((consumer.name(), consumer.options().max_num_batches), ("c", 2));
    let event = consumer.pull().wait().unwrap().unwrap();
    let clone = consumer.clone();
    drop(consumer);
    assert_eq!(node.state().subscriptions.len(), 3);
    drop(clone);
    eventually("it is unsubscribed", || node.state().subscriptions.is_empty());
    drop(topic);
    assert_eq!(event.metadata()["n"].as_u64().map(|n| n < 3), Some(true));
    event.acknowledge().wait().unwrap();
}

#[test]
fn a_consumer_at_work_goes_on_where_it_is_told() {
    let node = Node::start();
    let topic = node.topic(2);
    push(&topic, 0..40);
    let options = ConsumerOptions {
        batch_size: BatchSize::fixed(1),
        ..Default::default()
    };
    let consumer = topic.consumer("c", options).unwrap();
    let next_of = |partition: usize| loop {
        let event = consumer.pull().wait_timeout(LONG).unwrap().unwrap().unwrap();
        if event.partition() == partition {
            return event;
        }
    };
    assert_eq!(next_of(0).id().get(), 0);
    next_of(0);
    next_of(0);
    let third = next_of(0);
    assert_eq!(third.id().get(), 3);
    third.acknowledge().wait().unwrap();
    for (to, expected) in [
        (Start::Id(15), 15),
        (Start::First, 0),
        (Start::Cursor, 4),
        (Start::Id(19), 19),
    ] {
        consumer.seek(0, to).unwrap();
        let event = next_of(0);
        assert_eq!(event.id().get(), expected, "{to:?}");
        // Older ones do not move the cursor back.
        if expected == 0 {
            event.acknowledge().wait().unwrap();
        }
    }
    // Also from the end of a topic.
    topic.mark_complete().unwrap();
    while consumer.pull().wait_timeout(LONG).unwrap().unwrap().is_some() {}
    consumer.seek(1, Start::Id(18)).unwrap();
    let rest: Vec<u64> = consumer
        .events(LONG)
        .map(|event| event.unwrap().id().get())
        .collect();
    assert_eq!(rest, [18, 19]);
    let error = consumer.seek(2, Start::First).unwrap_err();
    assert!(matches!(error, ConsumerError::NotRead { partition: 2 }));
    consumer.close();
    assert!(consumer.seek(1, Start::First).is_err());
}

/// Memory of an application that asks after the consumer when it is let go.
struct Curious(Vec<u8>, Arc<Mutex<Option<Consumer>>>);

impl AsRef<[u8]> for Curious {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl AsMut<[u8]> for Curious {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl Drop for Curious {
    fn drop(&mut self) {
        let consumer = self.1.lock().unwrap().take();
        if let Some(consumer) = consumer {
            consumer.seek(0, Start::First).unwrap();
        }
    }
}

#[test]
fn what_a_seek_drops_may_ask_for_the_consumer() {
    let node = Node::start();
    let topic = node.topic(1);
    push(&topic, 0..3);
    let asked = Arc::<Mutex<Option<Consumer>>>::default();
    let shared = Arc::clone(&asked);
    let options = ConsumerOptions {
        data_selector: DataSelector::all(),
        data_allocator: DataAllocator::new(move |_, selected| {
            let memory = vec![0; selected.bytes() as usize];
            Ok(vec![Curious(memory, Arc::clone(&shared))])
        }),
        ..Default::default()
    };
    let consumer = topic.consumer("c", options).unwrap();
    let pull = consumer.pull();
    eventually("one came", || pull.completed());
    drop(pull);
    *asked.lock().unwrap() = Some(consumer.clone());
    let seeking = std::thread::spawn({
        let consumer = consumer.clone();
        move || consumer.seek(0, Start::Id(1))
    });
    eventually("it is there", || seeking.is_finished());
    seeking.join().unwrap().unwrap();
    let event = consumer.pull().wait_timeout(LONG).unwrap();
    assert_eq!(event.unwrap().unwrap().id().get(), 0);
}

#[test]
fn a_seek_during_a_subscribe_leaves_no_other_subscription_behind() {
    let node = Node::start();
    let topic = node.topic(1);
    push(&topic, 0..20);
    let options = ConsumerOptions {
        batch_size: BatchSize::fixed(1),
        start: Start::Last,
        ..Default::default()
    };
    let consumer = topic.consumer("c", options).unwrap();
    node.state().hold_subscribes = true;
    consumer.seek(0, Start::First).unwrap();
    eventually("it subscribes", || !node.state().held_subscribes.is_empty());
    consumer.seek(0, Start::Id(15)).unwrap();
    node.change(|state| state.hold_subscribes = false);
    let events = consumer.events(SHORT * 10);
    let ids: Vec<u64> = events.map(|event| event.unwrap().id().get()).collect();
    assert_eq!(ids, [15, 16, 17, 18, 19]);
    // What was asked for first is over.
    assert_eq!(node.state().subscriptions.len(), 1);
    consumer.close();
    assert!(node.state().subscriptions.is_empty());
}

#[test]
fn a_seek_goes_on_however_soon_the_end_of_the_topic_came() {
    let node = Node::start();
    let topic = node.topic(1);
    push(&topic, 0..1);
    topic.mark_complete().unwrap();
    let consumer = topic.consumer("c", ConsumerOptions::default()).unwrap();
    // The end comes right behind the answer to the subscription, and it is chance which of them is looked at first.
    for round in 0..2000 {
        let rest = consumer.events(LONG).count();
        assert_eq!(rest, 1, "round {round}");
        consumer.seek(0, Start::First).unwrap();
    }
}

#[test]
fn what_was_not_pulled_is_not_told_as_read() {
    let node = Node::start();
    node.state().is_restless = true;
    for _ in 0..40 {
        let topic = node.topic(64);
        let consumer = topic.consumer("c", ConsumerOptions::default()).unwrap();
        // It says all the time what it reads while the first feeds come.
        push(&topic, 0..64);
        eventually("all are fed", || consumer.stats().events == 64);
    }
    let is_read = |place: &&GroupPlace| place.next_event_id.is_some_and(|next| next > 0);
    let state = node.state();
    let read: Vec<&GroupPlace> = state.told.iter().filter(is_read).collect();
    assert!(!state.told.is_empty() && read.is_empty(), "{read:?}");
}
