//! What the original's documentation and test suites expect of topics, events, consumers and their ends, through a real node.

use std::collections::BTreeMap;
use std::time::Duration;

use mofka_client::{
    BatchSize, Consumer, ConsumerOptions, DataSelector, Driver, DriverError, ErrorCode, PartitionKind,
    PartitionOptions, ProducerOptions, Start, TopicHandle, TopicOptions,
};
use mofka_tests::Node;
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(20);
const KINDS: [PartitionKind; 2] = [PartitionKind::Default, PartitionKind::Memory];

fn topic(driver: &Driver, name: &str, kind: PartitionKind, partitions: u32) -> TopicHandle {
    let options = TopicOptions::new(name)
        .partition_kind(kind)
        .partitions(partitions);
    driver.create_topic(options).unwrap()
}

fn push(topic: &TopicHandle, range: std::ops::Range<u64>) {
    let producer = topic.producer(ProducerOptions::default());
    for n in range.clone() {
        producer.push(json!({"n": n}), format!("data {n}"), None).unwrap();
    }
    assert_eq!(producer.close().unwrap().acknowledged, range.end - range.start);
}

/// The ids of the next events.
fn next(consumer: &Consumer, count: usize) -> Vec<u64> {
    (0..count)
        .map(|_| consumer.pull().wait_timeout(PATIENCE).unwrap().unwrap().unwrap())
        .map(|event| event.id().get())
        .collect()
}

#[test]
fn a_name_is_a_name_and_there_is_one_topic_of_it() {
    let node = Node::start(&["--shards", "1"]);
    let driver = node.driver();
    for name in [
        "",
        "..",
        ".",
        "a/b",
        "../up",
        "a b",
        "ä",
        "a\0b",
        &"x".repeat(201),
    ] {
        let error = driver.create_topic(TopicOptions::new(name)).unwrap_err();
        assert_eq!(error.code(), Some(ErrorCode::InvalidName), "{name}: {error}");
        assert!(!driver.topic_exists(name).unwrap());
    }
    let long = "x".repeat(200);
    for name in ["a", "A-z_0.9", &long] {
        assert!(!driver.topic_exists(name).unwrap());
        assert_eq!(driver.create_topic(TopicOptions::new(name)).unwrap().name(), name);
        assert!(driver.topic_exists(name).unwrap());
        let error = driver.create_topic(TopicOptions::new(name)).unwrap_err();
        assert_eq!(error.code(), Some(ErrorCode::TopicExists), "{error}");
    }
    let error = driver.open_topic("missing").unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::UnknownTopic), "{error}");
    let listed: Vec<String> = driver
        .list_topics()
        .unwrap()
        .into_iter()
        .map(|it| it.name)
        .collect();
    assert_eq!(listed, ["A-z_0.9", "a", &long]);
}

#[test]
fn a_topic_keeps_its_components_and_the_list_of_its_partitions() {
    let mut node = Node::start(&["--shards", "2"]);
    let driver = node.driver();
    let mut options = TopicOptions::new("kept").partitions(0);
    // Without a type it is the default one, and says so from now on.
    options.validator = Some(json!({"note": "mine"}));
    let created = driver.create_topic(options).unwrap();
    assert!(created.partitions().is_empty());
    for (index, kind) in [
        PartitionKind::Default,
        PartitionKind::Memory,
        PartitionKind::Default,
    ]
    .into_iter()
    .enumerate()
    {
        let options = PartitionOptions {
            kind,
            ..PartitionOptions::default()
        };
        let added = driver.add_partition("kept", options).unwrap();
        assert_eq!((added.index as usize, added.kind, added.rank), (index, kind, 0));
        assert!(!added.addresses.is_empty());
    }
    // The list is that of the moment of opening.
    assert!(created.partitions().is_empty());
    created.refresh().unwrap();
    let known = created.partitions();
    assert_eq!(known.iter().map(|it| it.index).collect::<Vec<_>>(), [0, 1, 2]);
    node.kill();
    node.start_again();
    let opened = node.driver().open_topic("kept").unwrap();
    let identity = |topic: &TopicHandle| -> Vec<_> {
        topic
            .partitions()
            .iter()
            .map(|it| (it.id, it.kind, it.shard))
            .collect()
    };
    assert_eq!(identity(&opened), identity(&created));
    let info = opened.info();
    assert_eq!(info.validator, json!({"type": "default", "note": "mine"}));
    assert_eq!(info.partition_selector, json!({"type": "default"}));
    assert_eq!(info.serializer, json!({"type": "default"}));
    let listed = node.driver().list_topics().unwrap();
    assert_eq!(listed[0].num_partitions, 3);
    for component in [
        &listed[0].validator,
        &listed[0].partition_selector,
        &listed[0].serializer,
    ] {
        assert!(component.is_object());
    }
}

#[test]
fn ids_are_dense_in_each_partition_whoever_pushes() {
    for kind in KINDS {
        let node = Node::start(&["--shards", "2"]);
        let topic = topic(&node.driver(), "crowded", kind, 3);
        std::thread::scope(|scope| {
            for who in 0..4 {
                let topic = topic.clone();
                scope.spawn(move || {
                    let producer = topic.producer(ProducerOptions::default());
                    for n in 0..300 {
                        // Each producer pushes to all partitions.
                        producer
                            .push(json!({"who": who, "n": n}), "", Some(n % 3))
                            .unwrap();
                    }
                    assert_eq!(producer.close().unwrap().acknowledged, 300);
                });
            }
        });
        // Two readers at the same time, of different names: each gets all.
        for name in ["one", "two"] {
            let consumer = topic.consumer(name, ConsumerOptions::default()).unwrap();
            let mut ids = BTreeMap::<usize, Vec<u64>>::new();
            let mut numbers = BTreeMap::<(usize, u64), Vec<u64>>::new();
            for _ in 0..1200 {
                let event = consumer.pull().wait_timeout(PATIENCE).unwrap().unwrap().unwrap();
                let number = |key: &str| event.metadata()[key].as_u64().unwrap();
                ids.entry(event.partition()).or_default().push(event.id().get());
                numbers
                    .entry((event.partition(), number("who")))
                    .or_default()
                    .push(number("n"));
            }
            assert_eq!(ids.len(), 3);
            for (partition, ids) in ids {
                assert!(ids.into_iter().eq(0..400), "partition {partition}");
            }
            for ((partition, who), numbers) in numbers {
                let own = (0..300).filter(|n| n % 3 == partition as u64);
                assert!(
                    numbers.into_iter().eq(own),
                    "producer {who}, partition {partition}"
                );
            }
        }
    }
}

#[test]
fn metadata_always_comes_and_data_as_far_as_it_is_wanted() {
    for kind in KINDS {
        let node = Node::start(&["--shards", "1"]);
        let topic = topic(&node.driver(), "events", kind, 1);
        let producer = topic.producer(ProducerOptions::default());
        for n in 0..100 {
            producer
                .push(json!({"event_num": n}), format!("data of {n}"), None)
                .unwrap();
        }
        producer.flush().wait_timeout(PATIENCE).unwrap().expect("flushed");
        let consumer = |data_selector| {
            let options = ConsumerOptions {
                data_selector,
                ..ConsumerOptions::default()
            };
            topic.consumer("myconsumer", options).unwrap()
        };
        // Only even events' data is wanted, then that of none.
        let even = DataSelector::new(|metadata, whole| {
            let n = metadata.value()["event_num"].as_u64().ok_or("no number")?;
            Ok(if n % 2 == 0 {
                whole.clone()
            } else {
                Default::default()
            })
        });
        for (selector, wants_even) in [(even, true), (DataSelector::default(), false)] {
            let consumer = consumer(selector);
            for n in 0..100_u64 {
                let event = consumer.pull().wait_timeout(PATIENCE).unwrap().unwrap().unwrap();
                assert_eq!((event.id().get(), &event.metadata()["event_num"]), (n, &json!(n)));
                let expected = match wants_even && n % 2 == 0 {
                    true => format!("data of {n}"),
                    false => String::new(),
                };
                assert_eq!(event.data().to_bytes().as_ref(), expected.as_bytes());
                if !wants_even && n % 5 == 0 {
                    event.acknowledge().wait().unwrap();
                }
            }
            // Nothing more, and no end: the topic is not complete.
            for _ in 0..10 {
                assert!(consumer.pull().wait_ms(10).unwrap().is_none());
            }
        }
    }
}

#[test]
fn the_cursor_of_a_name_only_moves_forward() {
    for kind in KINDS {
        let mut node = Node::start(&["--shards", "1"]);
        let topic = topic(&node.driver(), "shared", kind, 1);
        push(&topic, 0..20);
        let events = [0, 1].map(|_| {
            // One after the other: at the same time they would share the partitions.
            let consumer = topic.consumer("same", ConsumerOptions::default()).unwrap();
            let pull = || consumer.pull().wait_timeout(PATIENCE).unwrap().unwrap().unwrap();
            (0..20).map(|_| pull()).collect::<Vec<_>>()
        });
        for events in &events {
            assert!(events.iter().map(|event| event.id().get()).eq(0..20));
        }
        events[0][14].acknowledge().wait().unwrap();
        // Older ones, by either: they change nothing.
        events[1][3].acknowledge().wait().unwrap();
        events[0][7].acknowledge().wait().unwrap();
        let after =
            |topic: &TopicHandle| next(&topic.consumer("same", ConsumerOptions::default()).unwrap(), 1)[0];
        assert_eq!(after(&topic), 15);
        if kind == PartitionKind::Default {
            node.kill();
            node.start_again();
            assert_eq!(after(&node.driver().open_topic("shared").unwrap()), 15);
        }
        // Backwards only on demand.
        let topic = node.driver().open_topic("shared").unwrap();
        assert_eq!(topic.seek("same", 0, Start::Id(2)).unwrap(), 2);
        assert_eq!(after(&topic), 2);
    }
}

#[test]
fn a_complete_topic_ends_for_everybody_and_takes_nothing_more() {
    for kind in KINDS {
        let mut node = Node::start(&["--shards", "2"]);
        let topic = topic(&node.driver(), "ending", kind, 2);
        let early = topic.consumer("early", ConsumerOptions::default()).unwrap();
        push(&topic, 0..10);
        assert_eq!(next(&early, 10).len(), 10);
        let waiting = early.pull();
        assert!(
            waiting.wait_ms(20).unwrap().is_none(),
            "it waits as long as the topic goes on"
        );
        topic.mark_complete().unwrap();
        topic.mark_complete().unwrap();
        assert!(
            waiting.wait_timeout(PATIENCE).unwrap().unwrap().is_none(),
            "the end"
        );
        let producer = topic.producer(ProducerOptions::default());
        let error = producer.push(json!({}), "", None).unwrap().wait().unwrap_err();
        assert_eq!(error.reason(), "topic_complete", "{error}");
        if kind == PartitionKind::Default {
            node.kill();
            node.start_again();
        }
        let topic = node.driver().open_topic("ending").unwrap();
        assert!(topic.info().complete);
        let late = topic.consumer("late", ConsumerOptions::default()).unwrap();
        assert_eq!(next(&late, 10).len(), 10);
        for _ in 0..3 {
            assert!(late.pull().wait_timeout(PATIENCE).unwrap().unwrap().is_none());
        }
    }
}

#[test]
fn whoever_is_not_there_is_an_error_and_not_a_wait() {
    let node = Node::start(&["--shards", "1"]);
    let driver = node.driver();
    let topic = topic(&driver, "gone", PartitionKind::Default, 1);
    driver.delete_topic("gone").unwrap();
    let error = topic.consumer("c", ConsumerOptions::default()).unwrap_err();
    assert!(
        error.to_string().contains("topic \"gone\" does not exist"),
        "{error}"
    );
    assert!(matches!(
        driver.delete_topic("gone"),
        Err(DriverError::Refused(_))
    ));
}

/// Pulls as most programs do, a little at a time, and acknowledges everything.
fn poll(consumer: &Consumer, count: usize, pause: Duration) -> Vec<Value> {
    let mut seen = Vec::new();
    while seen.len() < count {
        // A pull that is abandoned must not take an event with it.
        let Some(event) = consumer.pull().wait_ms(1).unwrap() else {
            continue;
        };
        let event = event.expect("the topic goes on");
        std::thread::sleep(pause);
        event.acknowledge().wait().unwrap();
        seen.push(event.metadata().clone());
    }
    seen
}

#[test]
fn producers_and_consumers_that_do_not_wait_for_each_other_lose_nothing() {
    let node = Node::start(&["--shards", "1"]);
    let driver = node.driver();
    // (producers, events of each, wait for each push, a slow consumer)
    for (producers, events, waits, pause) in [
        (1_u64, 1000_u64, true, Duration::ZERO),
        (1, 30, false, Duration::from_millis(10)),
        (3, 20, true, Duration::ZERO),
    ] {
        let topic = topic(
            &driver,
            &format!("t{producers}-{events}"),
            PartitionKind::Default,
            1,
        );
        std::thread::scope(|scope| {
            let consumer = topic.consumer("polling", ConsumerOptions::default()).unwrap();
            let count = usize::try_from(producers * events).unwrap();
            let consuming = scope.spawn(move || poll(&consumer, count, pause));
            for who in 0..producers {
                let topic = topic.clone();
                scope.spawn(move || {
                    let producer = topic.producer(ProducerOptions {
                        batch_size: BatchSize::fixed(8),
                        ..ProducerOptions::default()
                    });
                    for n in 0..events {
                        // Its data is gone when push returns.
                        let data = format!("a text of its own {n}");
                        let future = producer.push(json!({"who": who, "n": n}), data, None).unwrap();
                        if waits {
                            future.wait().unwrap();
                        }
                    }
                    assert_eq!(producer.close().unwrap().acknowledged, events);
                });
            }
            let seen = consuming.join().unwrap();
            for who in 0..producers {
                let own = seen.iter().filter(|metadata| metadata["who"] == who);
                assert!(own.map(|metadata| metadata["n"].as_u64().unwrap()).eq(0..events));
            }
        });
    }
}
