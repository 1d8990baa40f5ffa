//! The walk-through with the real client: a named consumer that acknowledges, goes away, and goes on where it was.

use std::time::Duration;

use mofka_client::{
    ConsumerOptions, DataSelector, Metadata, PartitionKind, PartitionOptions, ProducerOptions, Start,
    TopicOptions,
};
use mofka_tests::Node;
use serde_json::json;

const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn a_named_consumer_goes_on_after_its_last_acknowledged_event() {
    for kind in [PartitionKind::Default, PartitionKind::Memory] {
        let mut node = Node::start(&["--shards", "1"]);
        let driver = node.driver();
        driver
            .create_topic(TopicOptions::new("my_topic").partitions(0))
            .unwrap();
        driver
            .add_partition(
                "my_topic",
                PartitionOptions {
                    kind,
                    ..PartitionOptions::default()
                },
            )
            .unwrap();
        let topic = driver.open_topic("my_topic").unwrap();
        let producer = topic.producer(ProducerOptions::default());
        for n in 0..100_u32 {
            let metadata = Metadata::from(format!("{{\"event_num\":{n}}}"));
            producer
                .push(metadata, format!("data {n}").into_bytes(), None)
                .unwrap();
        }
        let report = producer.close().unwrap();
        assert_eq!((report.acknowledged, report.failed), (100, 0));
        let options = || ConsumerOptions {
            data_selector: DataSelector::all(),
            ..ConsumerOptions::default()
        };
        let first = topic.consumer("my_consumer", options()).unwrap();
        for n in 0..35_u64 {
            let event = first.pull().wait_timeout(PATIENCE).unwrap().unwrap().unwrap();
            assert_eq!(event.id().get(), n);
            assert_eq!(event.metadata()["event_num"].as_u64(), Some(n));
            assert_eq!(event.data().to_bytes().as_ref(), format!("data {n}").as_bytes());
            if (n + 1) % 10 == 0 {
                event.acknowledge().wait().unwrap();
            }
        }
        drop(first);
        if kind == PartitionKind::Default {
            node.kill();
            node.start_again();
        }
        let again = topic.consumer("my_consumer", options()).unwrap();
        let event = again.pull().wait_timeout(PATIENCE).unwrap().unwrap().unwrap();
        assert_eq!(event.id().get(), 30, "the last acknowledged event was 29");
        let other = topic.consumer("another", options()).unwrap();
        let event = other.pull().wait_timeout(PATIENCE).unwrap().unwrap().unwrap();
        assert_eq!(event.id().get(), 0, "another name is another reader");
    }
}

#[test]
fn consumers_begin_where_a_time_says_and_cursors_move_there() {
    for kind in [PartitionKind::Default, PartitionKind::Memory] {
        let node = Node::start(&["--shards", "1"]);
        let driver = node.driver();
        let topic = driver
            .create_topic(TopicOptions::new("timed").partition_kind(kind))
            .unwrap();
        let producer = topic.producer(ProducerOptions::default());
        for n in 0..30_u32 {
            let metadata = Metadata::from(format!("{{\"n\":{n}}}"));
            // Each in a batch of its own, a little later than the one before.
            producer.push(metadata, (), None).unwrap().wait().unwrap();
            std::thread::sleep(Duration::from_millis(2));
        }
        producer.close().unwrap();
        let first_of = |start: Start| {
            let options = ConsumerOptions {
                start,
                ..ConsumerOptions::default()
            };
            let consumer = topic.consumer("looking", options).unwrap();
            let pulled = consumer.pull().wait_timeout(match start {
                Start::Time(u64::MAX) => Duration::from_millis(200),
                _ => PATIENCE,
            });
            pulled.unwrap().flatten()
        };
        let tenth = first_of(Start::Id(10)).unwrap();
        let time = tenth.timestamp_us();
        assert_eq!(first_of(Start::Time(time)).unwrap().id().get(), 10);
        assert_eq!(first_of(Start::Time(time + 1)).unwrap().id().get(), 11);
        assert_eq!(first_of(Start::Time(0)).unwrap().id().get(), 0);
        assert!(
            first_of(Start::Time(u64::MAX)).is_none(),
            "nothing was accepted then"
        );
        assert_eq!(topic.seek("mover", 0, Start::Time(time)).unwrap(), 10);
        assert_eq!(topic.seek("mover", 0, Start::Time(u64::MAX)).unwrap(), 30);
        let reads = driver.node_status(0).unwrap().shards[0].reads;
        assert!(reads.memory_count + reads.device_count >= 4, "{reads:?}");
    }
}

#[test]
fn far_more_than_the_memory_holds_comes_from_the_device_as_it_was_pushed() {
    let node = Node::prepare(&["--shards", "1", "-c", "config.json"]);
    let config = r#"{"listen": ["tcp://127.0.0.1:0"], "limits": {"shard_recent_bytes_max": 1000000,
        "segment_data_bytes": 6291456}}"#;
    std::fs::write(node.dir().join("config.json"), config).unwrap();
    let mut node = node;
    node.start_again();
    let driver = node.driver();
    let topic = driver.create_topic(TopicOptions::new("large")).unwrap();
    let data = |n: u64| -> Vec<u8> {
        let bytes = if n % 100 == 7 { 300_000 } else { 900 };
        (0..bytes)
            .map(|place: u64| ((place * (n + 3)) >> 2) as u8)
            .collect()
    };
    let producer = topic.producer(ProducerOptions {
        max_num_batches: 4,
        ..ProducerOptions::default()
    });
    const COUNT: u64 = 10_000;
    for n in 0..COUNT {
        producer.push(format!("{{\"n\":{n}}}"), data(n), None).unwrap();
    }
    let report = producer.close().unwrap();
    assert_eq!(report.acknowledged, COUNT, "{report:?}\n{}", node.log());
    for batch_bytes_max in [4 << 20, 20_000] {
        let options = ConsumerOptions {
            start: Start::First,
            data_selector: DataSelector::all(),
            batch_bytes_max,
            ..ConsumerOptions::default()
        };
        let consumer = topic.consumer("all", options).unwrap();
        for n in 0..COUNT {
            let event = consumer.pull().wait_timeout(PATIENCE).unwrap().unwrap().unwrap();
            assert_eq!(event.id().get(), n);
            assert!(
                event.data().to_bytes() == data(n),
                "the data of event {n} came changed"
            );
        }
    }
    let reads = driver.node_status(0).unwrap().shards[0].reads;
    assert!(reads.device_bytes > 2 * 30_000_000, "{reads:?}");
    assert!(reads.recent_bytes <= 1_000_000, "{reads:?}");
}

#[test]
fn partitions_that_are_added_are_consumed_too_and_before_the_end() {
    let node = Node::start(&["--shards", "2"]);
    let driver = node.driver();
    let topic = driver
        .create_topic(TopicOptions::new("growing").partitions(0))
        .unwrap();
    let start = |start| ConsumerOptions {
        start,
        ..ConsumerOptions::default()
    };
    let consumers = [
        topic.consumer("from the cursor", start(Start::Cursor)).unwrap(),
        topic.consumer("from the last", start(Start::Last)).unwrap(),
    ];
    let bound = ConsumerOptions {
        targets: vec![0],
        ..ConsumerOptions::default()
    };
    let mut of_the_first = None;
    for round in 0..3_u64 {
        driver
            .add_partition("growing", PartitionOptions::default())
            .unwrap();
        let other = driver.open_topic("growing").unwrap();
        if round == 0 {
            of_the_first = Some(other.consumer("of the first", bound.clone()).unwrap());
        }
        let producer = other.producer(ProducerOptions::default());
        for n in 0..10 {
            producer
                .push(
                    json!({"round": round, "n": n}),
                    "",
                    Some(usize::try_from(round).unwrap()),
                )
                .unwrap();
        }
        assert_eq!(producer.close().unwrap().acknowledged, 10);
        if round == 2 {
            // The last partition is most likely not known yet when all others have ended.
            other.mark_complete().unwrap();
        }
        for consumer in &consumers {
            for n in 0..10 {
                let event = consumer.pull().wait_timeout(PATIENCE).unwrap().unwrap().unwrap();
                assert_eq!(event.metadata(), &json!({"round": round, "n": n}));
                assert_eq!(event.partition() as u64, round);
            }
        }
    }
    for consumer in &consumers {
        assert!(
            consumer.pull().wait_timeout(PATIENCE).unwrap().unwrap().is_none(),
            "the end"
        );
    }
    let of_the_first = of_the_first.unwrap();
    for _ in 0..10 {
        let event = of_the_first
            .pull()
            .wait_timeout(PATIENCE)
            .unwrap()
            .unwrap()
            .unwrap();
        assert_eq!(event.partition(), 0);
    }
    assert!(
        of_the_first
            .pull()
            .wait_timeout(PATIENCE)
            .unwrap()
            .unwrap()
            .is_none()
    );
}

#[test]
fn consumers_of_a_topic_that_is_deleted_are_told() {
    let node = Node::start(&["--shards", "1"]);
    let driver = node.driver();
    for partitions in [0, 2] {
        let topic = driver
            .create_topic(TopicOptions::new("short").partitions(partitions))
            .unwrap();
        let consumer = topic.consumer("c", ConsumerOptions::default()).unwrap();
        let pulled = consumer.pull();
        driver.delete_topic("short").unwrap();
        let told = pulled.wait_timeout(PATIENCE);
        assert!(!matches!(told, Ok(None)), "it does not wait for ever");
    }
}
