//! Retention and deletion with the real daemon: space is freed, consumers are told, also after a kill.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use mofka_client::{
    AcknowledgedBy, Consumer, ConsumerOptions, DataSelector, Driver, Event, Metadata, PartitionKind,
    ProducerOptions, Retention, TopicHandle, TopicOptions,
};
use mofka_tests::Node;
use serde_json::json;

const PATIENCE: Duration = Duration::from_secs(20);
const LINES: &str = include_str!("../data/loghub/BGL_2k.log");

/// A node with small segments that looks often.
fn node() -> Node {
    let mut node = Node::prepare(&["-c", "config.json"]);
    let config = json!({"shards": 2, "limits": {
        "segment_meta_bytes": 64 << 10, "segment_data_bytes": 64 << 10, "retention_check_ms": 50, "shard_recent_bytes_max": 64 << 10
    }});
    std::fs::write(node.dir().join("config.json"), config.to_string()).unwrap();
    node.start_again();
    node
}

/// Bytes that the files below a directory occupy.
fn occupied(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return 0;
    };
    entries
        .map(|entry| {
            let path = entry.unwrap().path();
            match std::fs::symlink_metadata(&path) {
                Ok(known) if known.is_dir() => occupied(&path),
                Ok(known) => known.blocks() * 512,
                // It went meanwhile.
                Err(_) => 0,
            }
        })
        .sum()
}

/// Pushes every line of the log as an event's data, numbered on from `first`.
fn push_lines(topic: &TopicHandle, first: usize) -> usize {
    let producer = topic.producer(ProducerOptions {
        batch_size: mofka_client::BatchSize::fixed(40),
        ..ProducerOptions::default()
    });
    let mut next = first;
    for line in LINES.lines() {
        let metadata = Metadata::from(format!("{{\"n\":{next}}}"));
        producer.push(metadata, line.as_bytes().to_vec(), None).unwrap();
        next += 1;
    }
    let report = producer.close().unwrap();
    assert_eq!(report.failed, 0);
    next
}

fn trim_end(driver: &Driver) -> u64 {
    let topic = driver.open_topic("t").unwrap();
    topic.partition_status(0).unwrap().trim_end
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < PATIENCE, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn consumer(driver: &Driver, name: &str) -> Consumer {
    let options = ConsumerOptions {
        data_selector: DataSelector::all(),
        ..ConsumerOptions::default()
    };
    driver.open_topic("t").unwrap().consumer(name, options).unwrap()
}

fn pull(consumer: &Consumer) -> Event {
    consumer.pull().wait_timeout(PATIENCE).unwrap().unwrap().unwrap()
}

/// The event is the line that it should be, byte for byte.
fn check(event: &Event) {
    let id = usize::try_from(event.id().get()).unwrap();
    let lines: Vec<&str> = LINES.lines().collect();
    assert_eq!(event.metadata()["n"].as_u64(), Some(event.id().get()));
    assert_eq!(
        event.data().to_bytes().as_ref(),
        lines[id % lines.len()].as_bytes()
    );
}

#[test]
fn a_topic_is_held_within_its_bytes_and_a_consumer_that_is_behind_is_told_what_it_missed() {
    let mut node = node();
    let driver = node.driver();
    let topic = driver.create_topic(TopicOptions::new("t").partitions(1)).unwrap();
    let mut end = push_lines(&topic, 0);
    let behind = consumer(&driver, "behind");
    for _ in 0..10 {
        pull(&behind).acknowledge().wait().unwrap();
    }
    behind.close();
    end = push_lines(&topic, end);
    end = push_lines(&topic, end);
    let before = topic.partition_status(0).unwrap();
    assert_eq!((before.trim_end, before.events), (0, end as u64));
    let bound = before.bytes / 3;
    let occupied_before = occupied(&node.data_dir().join("partitions"));

    topic
        .set_retention(Retention {
            bytes_max: Some(bound),
            ..Retention::default()
        })
        .unwrap();
    assert_eq!(topic.info().retention.bytes_max, Some(bound));
    wait_until("the partition is within its bound", || {
        topic.partition_status(0).unwrap().bytes <= bound
    });
    let after = topic.partition_status(0).unwrap();
    assert!(
        after.bytes > bound / 4 && after.events == end as u64 - after.trim_end,
        "{after:?}"
    );
    let occupied_after = occupied(&node.data_dir().join("partitions"));
    assert!(
        occupied_after < occupied_before * 2 / 3,
        "{occupied_before} bytes were occupied, and {occupied_after} are"
    );

    for how in ["running", "killed"] {
        if how == "killed" {
            node.kill();
            node.start_again();
        }
        let driver = node.driver();
        let first = trim_end(&driver);
        assert!(first >= after.trim_end, "{how}: trimmed events came back");
        let again = consumer(&driver, "behind");
        let event = pull(&again);
        assert_eq!(event.id().get(), first, "{how}: it goes on at trim_end");
        assert_eq!(
            again.missed_count(),
            first - 10,
            "{how}: after the ten that it acknowledged"
        );
        check(&event);
        for _ in 0..200 {
            check(&pull(&again));
        }
        assert_eq!(again.missed_count(), first - 10, "{how}: told once");
    }

    // From here on what the consumer acknowledged goes, and nothing else.
    let driver = node.driver();
    let topic = driver.open_topic("t").unwrap();
    assert_eq!(
        topic.info().retention.bytes_max,
        Some(bound),
        "it survived the kill"
    );
    topic
        .set_retention(Retention {
            acknowledged: Some(AcknowledgedBy::Consumers(vec!["behind".to_owned()])),
            ..Retention::default()
        })
        .unwrap();
    let first = trim_end(&driver);
    end = push_lines(&topic, end);
    assert_eq!(trim_end(&driver), first, "nothing new was acknowledged");
    let last = consumer(&driver, "behind");
    let mut event = pull(&last);
    while event.id().get() + 1 < end as u64 {
        event = pull(&last);
        check(&event);
    }
    event.acknowledge().wait().unwrap();
    wait_until("what was acknowledged is gone", || {
        trim_end(&driver) > first + 3000
    });
    let status = topic.partition_status(0).unwrap();
    assert!(
        status.events < 1500,
        "only the segment that is written is left: {status:?}"
    );
}

#[test]
fn a_memory_partition_is_a_window_on_the_last_events() {
    let node = node();
    let driver = node.driver();
    let bounded = |bytes| Retention {
        bytes_max: Some(bytes),
        ..Retention::default()
    };
    let options = TopicOptions::new("t").partition_kind(PartitionKind::Memory);
    let topic = driver.create_topic(options.retention(bounded(300_000))).unwrap();
    let mut end = push_lines(&topic, 0);
    let first = trim_end(&driver);
    assert!(first > 0 && first < end as u64 - 500, "{first}");
    let behind = consumer(&driver, "behind");
    for id in first..first + 10 {
        let event = pull(&behind);
        check(&event);
        assert_eq!(event.id().get(), id);
    }
    // What was fed and not pulled is still at hand; far more goes through than that.
    for _ in 0..20 {
        end = push_lines(&topic, end);
    }
    let status = topic.partition_status(0).unwrap();
    assert!(
        status.bytes <= 300_000 && status.events > 500 && status.events == end as u64 - status.trim_end,
        "{status:?}"
    );
    let (mut got, mut last) = (10, 0);
    while last + 1 < end as u64 {
        let event = pull(&behind);
        check(&event);
        last = event.id().get();
        got += 1;
    }
    assert!(behind.missed_count() > 0);
    assert_eq!(
        first + got + behind.missed_count(),
        end as u64,
        "each event was got or counted"
    );
    // What it acknowledges goes, when that is the rule.
    topic
        .set_retention(Retention {
            acknowledged: Some(AcknowledgedBy::EveryConsumer),
            ..Retention::default()
        })
        .unwrap();
    let again = consumer(&driver, "again");
    let mut event = pull(&again);
    while event.id().get() + 1 < end as u64 {
        event = pull(&again);
    }
    event.acknowledge().wait().unwrap();
    wait_until("all of it is gone", || {
        topic.partition_status(0).unwrap().events == 0
    });
    assert_eq!(trim_end(&driver), end as u64);
}

#[test]
fn a_reader_under_whom_segments_go_gets_every_event_or_its_count() {
    let node = node();
    let driver = node.driver();
    let policy = Retention {
        bytes_max: Some(100 << 10),
        ..Retention::default()
    };
    let topic = driver
        .create_topic(TopicOptions::new("t").partitions(1).retention(policy))
        .unwrap();
    let reader = consumer(&driver, "reader");
    let producing = std::thread::spawn(move || {
        let mut end = 0;
        for _ in 0..5 {
            end = push_lines(&topic, end);
        }
        topic.sync().unwrap();
        topic.mark_complete().unwrap();
        end as u64
    });
    let (mut next, mut gaps, mut seen) = (0, 0, 0_u64);
    while let Some(event) = reader.pull().wait_timeout(PATIENCE).unwrap().unwrap() {
        check(&event);
        assert!(event.id().get() >= next, "backwards");
        gaps += event.id().get() - next;
        next = event.id().get() + 1;
        seen += 1;
        if seen.is_multiple_of(50) {
            // Slow enough that it falls behind.
            std::thread::sleep(Duration::from_millis(15));
        }
    }
    let end = producing.join().unwrap();
    let missed = reader.missed_count();
    assert_eq!((next, gaps, seen + missed), (end, missed, end));
    assert!(missed > 0, "it never fell behind: nothing was tested");
}

#[test]
fn a_deleted_topic_ends_its_readers_and_writers_and_leaves_no_files() {
    let mut node = node();
    let driver = node.driver();
    let topic = driver.create_topic(TopicOptions::new("t").partitions(4)).unwrap();
    push_lines(&topic, 0);
    let partitions = node.data_dir().join("partitions");
    assert!(occupied(&partitions) > 300_000);
    let deleted: Vec<_> = std::fs::read_dir(&partitions)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    // One that waits for events, one that is too slow to be sent more, and a producer at work.
    let waiting = topic
        .consumer(
            "waiting",
            ConsumerOptions {
                start: mofka_client::Start::Last,
                ..ConsumerOptions::default()
            },
        )
        .unwrap();
    let slow = consumer(&driver, "slow");
    pull(&slow);
    let producing = std::thread::spawn({
        move || {
            let producer = topic.producer(ProducerOptions::default());
            loop {
                let pushed = producer.push(Metadata::from("{}".to_owned()), vec![1; 1000], None);
                match pushed.map(|future| future.wait()) {
                    Ok(Ok(_)) => {}
                    Ok(Err(error)) => return error.to_string(),
                    Err(error) => return error.to_string(),
                }
            }
        }
    });
    std::thread::sleep(Duration::from_millis(200));
    let started = Instant::now();
    driver.delete_topic("t").unwrap();
    for consumer in [&waiting, &slow] {
        let error = loop {
            // What had come already is still pulled.
            match consumer.pull().wait_timeout(PATIENCE) {
                Ok(Some(Some(_))) => {}
                Ok(other) => panic!("a deleted topic gave {:?}", other.is_some()),
                Err(error) => break error.to_string(),
            }
        };
        assert!(error.contains("topic \"t\" was deleted"), "{error}");
    }
    let error = producing.join().unwrap();
    assert!(error.contains("deleted"), "{error}");
    assert!(
        started.elapsed() < Duration::from_secs(10),
        "they were told after {:?}",
        started.elapsed()
    );
    let left = std::fs::read_dir(&partitions).unwrap().count();
    assert_eq!((left, occupied(&partitions)), (0, 0), "the space is free");

    // A stop between the catalog's word and the removal of the files leaves them; the next start finishes.
    driver
        .create_topic(TopicOptions::new("kept").partitions(2))
        .unwrap();
    node.kill();
    // Nobody deleted that one.
    let unknown = partitions.join("6ba7b810-9dad-11d1-80b4-00c04fd430c8");
    for dir in deleted.iter().chain([&unknown]) {
        std::fs::create_dir(dir).unwrap();
        std::fs::write(dir.join("00000000000000000000.data"), vec![1; 100_000]).unwrap();
    }
    node.start_again();
    assert!(!deleted.is_empty() && deleted.iter().all(|dir| !dir.exists()));
    assert!(unknown.join("00000000000000000000.data").exists());
    assert_eq!(std::fs::read_dir(&partitions).unwrap().count(), 3);
    let again = node.driver().create_topic(TopicOptions::new("t")).unwrap();
    let status = again.partition_status(0).unwrap();
    assert_eq!(
        (status.trim_end, status.events),
        (0, 0),
        "a new topic of the same name is empty"
    );
}
