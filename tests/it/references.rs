//! Events that refer to data of other events, through a real node with two shards.

use std::io::Read;
use std::time::{Duration, Instant};

use super::streams::ctl;
use mofka_client::{
    BatchSize, Consumer, ConsumerOptions, DataDescriptor, DataRef, DataSelector, DeliveryError, Driver,
    DriverError, ErrorCode, Event, EventId, Ordering, PartitionKind, PartitionOptions, ProducerOptions,
    PushError, Recipe, ReferenceError, Retention, Segment, Start, TopicHandle, TopicOptions,
};
use mofka_tests::Node;
use serde_json::json;

const PATIENCE: Duration = Duration::from_secs(20);

/// A node with small segments that looks often.
fn node() -> Node {
    let mut node = Node::prepare(&["-c", "config.json"]);
    let config = json!({"shards": 2, "limits": {
        "segment_meta_bytes": 64 << 10, "segment_data_bytes": 256 << 10, "retention_check_ms": 50, "shard_recent_bytes_max": 64 << 10
    }});
    std::fs::write(node.dir().join("config.json"), config.to_string()).unwrap();
    node.start_again();
    node
}

/// A topic with one partition, on this shard.
fn topic_on(driver: &Driver, name: &str, shard: u32, kind: PartitionKind) -> TopicHandle {
    let topic = driver
        .create_topic(TopicOptions::new(name).partitions(0))
        .unwrap();
    let options = PartitionOptions {
        shard: Some(shard),
        kind,
        ..PartitionOptions::default()
    };
    driver.add_partition(name, options).unwrap();
    topic.refresh().unwrap();
    topic
}

/// Bytes that look like no other event's.
fn image(n: u64, bytes: usize) -> Vec<u8> {
    (0..bytes as u64)
        .map(|at| (at.wrapping_mul(31) ^ (at >> 8) ^ n.wrapping_mul(101)).to_le_bytes()[0])
        .collect()
}

fn push_images(topic: &TopicHandle, ids: std::ops::Range<u64>, bytes: usize) {
    let producer = topic.producer(ProducerOptions {
        batch_size: BatchSize::fixed(4),
        ..ProducerOptions::default()
    });
    for n in ids.clone() {
        producer
            .push(json!({ "image": n }), image(n, bytes), None)
            .unwrap();
    }
    assert_eq!(producer.close().unwrap().acknowledged, ids.end - ids.start);
}

fn options(selector: DataSelector) -> ConsumerOptions {
    ConsumerOptions {
        data_selector: selector,
        start: Start::First,
        ..ConsumerOptions::default()
    }
}

fn consumer(topic: &TopicHandle, selector: DataSelector) -> Consumer {
    topic.consumer("reading", options(selector)).unwrap()
}

fn pull(consumer: &Consumer) -> Event {
    consumer.pull().wait_timeout(PATIENCE).unwrap().unwrap().unwrap()
}

/// Pushes one event that refers, and waits for what became of it.
fn refer(topic: &TopicHandle, to: &DataRef) -> Result<EventId, DeliveryError> {
    let producer = topic.producer(ProducerOptions::default());
    producer
        .push(json!({"kind": "reference"}), to, Some(0))
        .unwrap()
        .wait()
}

fn refusal(outcome: Result<EventId, DeliveryError>) -> String {
    match outcome {
        Err(DeliveryError::Refused(error)) => {
            assert_eq!(error.code, ErrorCode::InvalidReference, "{error}");
            error.message.clone()
        }
        other => panic!("not a refusal: {other:?}"),
    }
}

fn data_ref(topic: &TopicHandle, event: u64, bytes: u64) -> DataRef {
    let whole = DataDescriptor::of_event(EventId::new(event), bytes);
    DataRef::new(&topic.partitions()[0], whole).unwrap()
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < PATIENCE, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn events_refer_to_data_of_other_topics_shards_and_their_own_partition_without_copying() {
    let mut node = node();
    let driver = node.driver();
    let images = topic_on(&driver, "images", 0, PartitionKind::Default);
    push_images(&images, 0..8, 100_000);
    // The same partition, another shard's, and one in memory.
    let near = topic_on(&driver, "near", 0, PartitionKind::Default);
    let far = topic_on(&driver, "far", 1, PartitionKind::Default);
    let memory = topic_on(&driver, "memory", 1, PartitionKind::Memory);
    let used = |driver: &Driver, name: &str| {
        driver
            .open_topic(name)
            .unwrap()
            .partition_status(0)
            .unwrap()
            .bytes
    };
    let before: Vec<u64> = ["images", "near", "far"].map(|name| used(&driver, name)).to_vec();
    let source = consumer(&images, DataSelector::none());
    let events: Vec<Event> = (0..8).map(|_| pull(&source)).collect();
    source.close();
    for topic in [&images, &near, &far, &memory] {
        let producer = topic.producer(ProducerOptions {
            batch_size: BatchSize::fixed(3),
            ordering: if topic.name() == "near" {
                Ordering::Loose
            } else {
                Ordering::Strict
            },
            ..ProducerOptions::default()
        });
        let mut pushed = Vec::new();
        for (n, event) in events.iter().enumerate() {
            let metadata = json!({ "of": n, "name": topic.name() });
            pushed.push(producer.push(metadata, event.data_ref().unwrap(), None).unwrap());
            // Events with data of their own stand between them.
            if n == 3 {
                pushed.push(producer.push(json!({"of": null}), "own", None).unwrap());
            }
        }
        for pushed in pushed {
            pushed.wait().unwrap();
        }
        assert_eq!(producer.close().unwrap().acknowledged, 9);
    }
    // 32 events of 100 kB, and nothing but frames was written.
    for (name, before) in ["images", "near", "far"].into_iter().zip(before) {
        let grown = used(&driver, name).saturating_sub(before);
        assert!(grown < 60_000, "{name} grew by {grown} bytes");
    }
    for life in 0..3 {
        let driver = node.driver();
        let mut names = vec!["images", "near", "far"];
        if life == 0 {
            names.push("memory");
        }
        for name in names {
            let topic = driver.open_topic(name).unwrap();
            let consumer = consumer(&topic, DataSelector::all());
            let skipped = if name == "images" { 8 } else { 0 };
            for _ in 0..skipped {
                pull(&consumer);
            }
            let mut seen = Vec::new();
            for _ in 0..9 {
                let event = pull(&consumer);
                let Some(n) = event.metadata()["of"].as_u64() else {
                    assert!(!event.is_reference() && event.data().to_bytes() == "own");
                    continue;
                };
                assert!(event.is_reference());
                assert_eq!(
                    (event.data_bytes(), event.descriptor().bytes()),
                    (100_000, 100_000)
                );
                assert_eq!(
                    event.data().to_bytes(),
                    image(n, 100_000),
                    "{name} {n}, life {life}"
                );
                seen.push(n);
            }
            seen.sort_unstable();
            assert_eq!(seen, (0..8).collect::<Vec<u64>>(), "{name}");
            consumer.close();
        }
        match life {
            0 => node.kill(),
            _ => assert!(node.terminate().success()),
        }
        node.start_again();
    }
}

#[test]
fn selections_of_references_compose_and_a_reference_to_a_reference_is_one_to_the_original() {
    let node = node();
    let driver = node.driver();
    let images = topic_on(&driver, "images", 0, PartitionKind::Default);
    push_images(&images, 0..2, 300_000);
    let whole = image(1, 300_000);
    // Rows of an image: 100 bytes of each 1000, from 50 on.
    let to = data_ref(&images, 1, 300_000);
    let rows = to
        .view(
            &Recipe::new()
                .sub_view(1000, 200_000)
                .strided_view(50, 100, 100, 900),
        )
        .unwrap();
    let expected: Vec<u8> = (0..100)
        .flat_map(|row| whole[1050 + row * 1000..1150 + row * 1000].to_vec())
        .collect();
    let first = topic_on(&driver, "first", 1, PartitionKind::Default);
    refer(&first, &rows).unwrap();
    // All of it; in views that were declared; as a callback says; with a filter at the node; as a stream.
    let event = pull(&consumer(&first, DataSelector::all()));
    assert_eq!(event.data().to_bytes(), expected);
    assert_eq!(event.data_bytes(), 10_000);
    let recipe = Recipe::new().sub_view(95, 8_000).unstructured_view(vec![
        Segment { offset: 0, bytes: 10 },
        Segment {
            offset: 7_000,
            bytes: 1_000,
        },
    ]);
    let part = [&expected[95..105], &expected[7_095..8_095]].concat();
    let select = recipe.clone();
    let selectors = [
        DataSelector::views(recipe),
        DataSelector::new(move |_, whole| Ok(select.apply(whole)?)),
    ];
    let mut nested = Vec::new();
    for selector in selectors {
        for filter in [None, Some(json!({"kind": ["reference"]}))] {
            let options = ConsumerOptions {
                filter,
                ..options(selector.clone())
            };
            let consumer = first.consumer("selecting", options).unwrap();
            let event = pull(&consumer);
            assert_eq!(event.data().to_bytes(), part);
            assert_eq!(event.data_bytes(), 10_000);
            let mut streamed = Vec::new();
            event.open_data().read_to_end(&mut streamed).unwrap();
            assert_eq!(streamed, part);
            nested.push(event.data_ref().unwrap());
            consumer.close();
        }
    }
    // What was selected of the reference, as data of a third event: it names the original.
    let second = topic_on(&driver, "second", 0, PartitionKind::Default);
    for to in &nested {
        assert_eq!(to.partition(), images.partitions()[0].id);
        assert_eq!(to.descriptor().event_id(), Some(EventId::new(1)));
        refer(&second, to).unwrap();
    }
    let reading = consumer(&second, DataSelector::all());
    for _ in &nested {
        assert_eq!(pull(&reading).data().to_bytes(), part);
    }
    reading.close();
    let inner = second
        .consumer(
            "inner",
            options(DataSelector::views(Recipe::new().sub_view(5, 20))),
        )
        .unwrap();
    assert_eq!(pull(&inner).data().to_bytes(), part[5..25].to_vec());
}

#[test]
fn what_cannot_be_referred_to_is_refused_and_the_producer_goes_on() {
    let node = node();
    let driver = node.driver();
    let images = topic_on(&driver, "images", 0, PartitionKind::Default);
    push_images(&images, 0..2, 1000);
    let volatile = topic_on(&driver, "volatile", 0, PartitionKind::Memory);
    push_images(&volatile, 0..1, 1000);
    let derived = topic_on(&driver, "derived", 1, PartitionKind::Default);
    let good = data_ref(&images, 1, 1000);
    refer(&derived, &good).unwrap();
    let mut elsewhere = images.partitions()[0].clone();
    elsewhere.id = "00000000-0000-0000-0000-0000000000ff".parse().unwrap();
    let whole = DataDescriptor::of_event(EventId::new(0), 1000);
    let cases = [
        (
            data_ref(&images, 2, 1000),
            "event 2 is not in partition 0 of topic \"images\": it ends at 2",
        ),
        (
            data_ref(&images, 1, 999),
            "the reference says that event 1 of partition 0 of topic \"images\" has 999 bytes of data, and it has 1000",
        ),
        (
            data_ref(&derived, 0, 1000),
            "refers to data of another event itself: refer to event 1",
        ),
        (
            DataRef::new(&elsewhere, whole).unwrap(),
            "there is no partition 00000000-0000-0000-0000-0000000000ff",
        ),
        (
            data_ref(&volatile, 0, 1000),
            "is in memory and ends with the process",
        ),
    ];
    let producer = derived.producer(ProducerOptions::default());
    for (to, expected) in &cases {
        // Batches on their way behind one that is refused are stored all the same.
        let bad = producer.push(json!({"bad": true}), to, Some(0)).unwrap();
        let refused = refusal(bad.wait());
        assert!(
            refused.contains(expected) && refused.contains("event 0 of the batch"),
            "{refused}"
        );
        producer
            .push(json!({"bad": false}), &good, Some(0))
            .unwrap()
            .wait()
            .unwrap();
    }
    let report = producer.close().unwrap();
    assert_eq!((report.acknowledged, report.failed), (5, 5));
    // What the library sees by itself.
    let nothing = DataRef::new(
        &images.partitions()[0],
        DataDescriptor::of_event(EventId::new(0), 0),
    );
    assert_eq!(nothing.unwrap_err(), ReferenceError::Nothing);
    assert!(good.view(&Recipe::new().sub_view(1000, 5)).is_err());
    assert!(matches!(
        good.view(&Recipe::new().strided_view(0, 10, 200, 0)),
        Err(ReferenceError::View(_))
    ));
    let too_long = json!({"m": "x".repeat(65 << 20)});
    assert!(matches!(
        derived
            .producer(ProducerOptions::default())
            .push(too_long, &good, None),
        Err(PushError::TooLarge { .. })
    ));
    // A memory partition may refer to a log, and to memory.
    refer(&volatile, &good).unwrap();
    refer(&volatile, &data_ref(&volatile, 0, 1000)).unwrap();
    let reading = consumer(&volatile, DataSelector::all());
    let data: Vec<_> = (0..3).map(|_| pull(&reading).data().to_bytes()).collect();
    assert_eq!(data, [image(0, 1000), image(1, 1000), image(0, 1000)]);
}

fn bounded(bytes_max: u64) -> Retention {
    Retention {
        bytes_max: Some(bytes_max),
        ..Retention::default()
    }
}

fn trim_end(driver: &Driver, name: &str) -> u64 {
    let topic = driver.open_topic(name).unwrap();
    topic.partition_status(0).unwrap().trim_end
}

#[test]
fn retention_keeps_what_is_referred_to_until_nobody_does_through_kills() {
    let mut node = node();
    let driver = node.driver();
    let images = topic_on(&driver, "images", 0, PartitionKind::Default);
    push_images(&images, 0..40, 100_000);
    let derived = topic_on(&driver, "derived", 1, PartitionKind::Default);
    refer(&derived, &data_ref(&images, 17, 100_000)).unwrap();
    refer(&derived, &data_ref(&images, 30, 100_000)).unwrap();
    images.set_retention(bounded(1)).unwrap();
    // Up to the segment with event 17, and no further, whatever comes.
    wait_until("the events before 17 are gone", || {
        trim_end(&driver, "images") > 10
    });
    for life in 0..2 {
        let driver = node.driver();
        let images = driver.open_topic("images").unwrap();
        push_images(&images, 40 + life * 20..60 + life * 20, 100_000);
        let status = images.partition_status(0).unwrap();
        assert!((10..=17).contains(&status.trim_end), "{status:?}");
        let pin = &status.pins[0];
        assert_eq!(
            (pin.topic.as_deref(), pin.index, pin.first_event_id),
            (Some("derived"), Some(0), 17)
        );
        let trimmed = refusal(refer(
            &driver.open_topic("derived").unwrap(),
            &data_ref(&images, status.trim_end - 1, 100_000),
        ));
        assert!(
            trimmed.contains("was trimmed: the first one still stored is"),
            "{trimmed}"
        );
        let derived = driver.open_topic("derived").unwrap();
        let reading = consumer(&derived, DataSelector::all());
        for n in [17, 30] {
            assert_eq!(pull(&reading).data().to_bytes(), image(n, 100_000));
        }
        reading.close();
        node.kill();
        node.start_again();
    }
    let driver = node.driver();
    // Who refers is trimmed in turn: what it referred to may go.
    let derived = driver.open_topic("derived").unwrap();
    let last = data_ref(&driver.open_topic("images").unwrap(), 75, 100_000);
    // In small batches, since one that is larger than what may stay goes as a whole.
    let producer = derived.producer(ProducerOptions {
        batch_size: BatchSize::fixed(20),
        ..ProducerOptions::default()
    });
    for n in 0..400 {
        let metadata = json!({"n": n, "padding": "x".repeat(400)});
        producer.push(metadata, &last, None).unwrap();
    }
    assert_eq!(producer.close().unwrap().failed, 0);
    derived.set_retention(bounded(100_000)).unwrap();
    wait_until("event 30 may go", || trim_end(&driver, "images") > 30);
    let status = driver.open_topic("images").unwrap().partition_status(0).unwrap();
    assert!(
        status.trim_end <= 75 && status.pins[0].first_event_id == 75,
        "{status:?}"
    );
    // Without the topic that refers, nothing is kept.
    driver.delete_topic("derived").unwrap();
    wait_until("all sealed segments are gone", || {
        trim_end(&driver, "images") > 75
    });
    wait_until("the pin is gone", || {
        let topic = driver.open_topic("images").unwrap();
        topic.partition_status(0).unwrap().pins.is_empty()
    });
}

#[test]
fn own_references_do_not_keep_a_partition_from_being_trimmed_for_ever() {
    let node = node();
    let driver = node.driver();
    let images = topic_on(&driver, "images", 0, PartitionKind::Default);
    push_images(&images, 0..10, 100_000);
    refer(&images, &data_ref(&images, 1, 100_000)).unwrap();
    images.set_retention(bounded(2_000_000)).unwrap();
    // The same without a reference, on the same shard, which looks at both.
    let plain = topic_on(&driver, "plain", 0, PartitionKind::Default);
    plain.set_retention(bounded(2_000_000)).unwrap();
    push_images(&images, 11..25, 100_000);
    for round in 0..2 {
        push_images(&plain, round * 40..(round + 1) * 40, 100_000);
        wait_until("the shard has looked", || {
            trim_end(&driver, "plain") > round * 40 + 10
        });
    }
    // There is too much, and event 10, which is to stay, refers to event 1.
    assert!(trim_end(&driver, "images") <= 1);
    let reading = consumer(&images, DataSelector::all());
    for n in 0..11 {
        let event = pull(&reading);
        assert_eq!(
            event.data().to_bytes(),
            image(if n == 10 { 1 } else { n }, 100_000)
        );
    }
    reading.close();
    // When event 10 is to go as well, both do.
    push_images(&images, 25..60, 100_000);
    wait_until("event 10 is gone", || trim_end(&driver, "images") > 10);
}

#[test]
fn a_topic_that_is_referred_to_is_deleted_by_force_only() {
    let node = node();
    let driver = node.driver();
    let images = topic_on(&driver, "images", 0, PartitionKind::Default);
    push_images(&images, 0..3, 1000);
    // References among its own partitions are no reason.
    refer(&images, &data_ref(&images, 0, 1000)).unwrap();
    let derived = topic_on(&driver, "derived", 1, PartitionKind::Default);
    refer(&derived, &data_ref(&images, 2, 1000)).unwrap();
    let refused = match driver.delete_topic("images") {
        Err(DriverError::Refused(error)) => error,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused.code, ErrorCode::Referenced);
    assert!(
        refused
            .message
            .contains("partition 0 of topic \"derived\" to events of partition 0 from 2 on"),
        "{refused}"
    );
    // It is as before, also for new references.
    refer(&derived, &data_ref(&images, 1, 1000)).unwrap();
    let again = topic_on(&driver, "again", 0, PartitionKind::Default);
    refer(&again, &data_ref(&images, 1, 1000)).unwrap();
    driver.delete_topic("again").unwrap();
    let delete = |more: &[&str]| {
        ctl(&node, &[&["topic", "delete", "images"], more].concat())
            .output()
            .unwrap()
    };
    let refused = delete(&[]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(
        said.contains("topic \"derived\"") && said.contains("by force"),
        "{said}"
    );
    assert!(delete(&["--force"]).status.success());
    let reading = consumer(&derived, DataSelector::all());
    for _ in 0..2 {
        let lost = reading.pull().wait_timeout(PATIENCE).unwrap_err().to_string();
        assert!(lost.contains("unknown_event"), "{lost}");
    }
    reading.close();
    let reading = derived
        .consumer("without", options(DataSelector::none()))
        .unwrap();
    assert_eq!(pull(&reading).data_bytes(), 1000);
    driver.delete_topic("derived").unwrap();
    // Nobody refers any more.
    let images = topic_on(&driver, "images", 0, PartitionKind::Default);
    push_images(&images, 0..1, 1000);
    driver.delete_topic("images").unwrap();
}
