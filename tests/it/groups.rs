//! Consumers of one name share the partitions of a topic.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use mofka_client::{
    Consumer, ConsumerError, ConsumerOptions, Driver, DriverError, ErrorCode, PartitionOptions,
    ProducerOptions, Start, TopicHandle, TopicOptions,
};
use mofka_tests::Node;
use serde_json::json;

const PATIENCE: Duration = Duration::from_secs(30);

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let since = Instant::now();
    while !is_so() {
        assert!(since.elapsed() < PATIENCE, "waited for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn partitions_of(consumers: &[&Consumer]) -> Vec<usize> {
    let mut all: Vec<usize> = consumers
        .iter()
        .flat_map(|consumer| consumer.partitions())
        .collect();
    all.sort_unstable();
    all
}

fn wait_for_shares(consumers: &[&Consumer], partition_count: usize) {
    let all: Vec<usize> = (0..partition_count).collect();
    wait_until("equal shares", || {
        let counts: Vec<usize> = consumers
            .iter()
            .map(|consumer| consumer.partitions().len())
            .collect();
        let (min, max) = (counts.iter().min(), counts.iter().max());
        partitions_of(consumers) == all && max.zip(min).is_some_and(|(max, min)| max - min <= 1)
    });
}

fn produce(topic: &TopicHandle, from: u64, count: u64) {
    topic.refresh().unwrap();
    let producer = topic.producer(ProducerOptions::default());
    for n in from..from + count {
        producer.push(json!({ "n": n }), "", None).unwrap();
    }
    assert_eq!(producer.close().unwrap().acknowledged, count);
}

/// Pulls from each in turn, and acknowledges, until that many different events came.
fn pull_all(consumers: &[&Consumer], count: usize) -> BTreeMap<u64, usize> {
    let mut seen = BTreeMap::new();
    let since = Instant::now();
    while seen.len() < count {
        assert!(since.elapsed() < PATIENCE, "{} of {count} came", seen.len());
        for consumer in consumers {
            while let Some(event) = consumer
                .pull()
                .wait_timeout(Duration::from_millis(5))
                .unwrap()
                .flatten()
            {
                *seen.entry(event.metadata()["n"].as_u64().unwrap()).or_insert(0) += 1;
                event.acknowledge().wait().unwrap();
            }
        }
    }
    seen
}

#[test]
fn consumers_of_one_name_share_the_partitions_and_lose_nothing_when_they_come_and_go() {
    let node = Node::start(&["--shards", "2"]);
    let (driver, other) = (node.driver(), node.driver());
    let topic = driver
        .create_topic(TopicOptions::new("shared").partitions(5))
        .unwrap();
    let elsewhere = other.open_topic("shared").unwrap();
    let first = topic.consumer("group", ConsumerOptions::default()).unwrap();
    assert_eq!(first.partitions(), [0, 1, 2, 3, 4]);
    produce(&topic, 0, 1000);
    // What the first one got and did not acknowledge comes again, to whoever reads it then.
    let mut got = BTreeSet::new();
    for _ in 0..100 {
        let event = first.pull().wait_timeout(PATIENCE).unwrap().unwrap().unwrap();
        got.insert((event.partition(), event.metadata()["n"].as_u64().unwrap()));
    }
    let second = elsewhere.consumer("group", ConsumerOptions::default()).unwrap();
    wait_for_shares(&[&first, &second], 5);
    let kept = first.partitions();
    got.retain(|(partition, _)| kept.contains(partition));
    let mut seen = pull_all(&[&first, &second], 1000 - got.len());
    seen.extend(got.into_iter().map(|(_, n)| (n, 1)));
    assert!(seen.into_iter().eq((0..1000).map(|n| (n, 1))));

    // From here on everything was acknowledged: nothing comes twice.
    let third = elsewhere.consumer("group", ConsumerOptions::default()).unwrap();
    wait_for_shares(&[&first, &second, &third], 5);
    produce(&topic, 1000, 1000);
    let seen = pull_all(&[&first, &second, &third], 1000);
    assert!(seen.into_iter().eq((1000..2000).map(|n| (n, 1))));

    drop(second);
    wait_for_shares(&[&first, &third], 5);
    driver
        .add_partition("shared", PartitionOptions::default())
        .unwrap();
    wait_for_shares(&[&first, &third], 6);
    produce(&topic, 2000, 600);
    let seen = pull_all(&[&first, &third], 600);
    assert!(seen.into_iter().eq((2000..2600).map(|n| (n, 1))));

    // Another name has everything for itself.
    let single = topic.consumer("single", ConsumerOptions::default()).unwrap();
    assert_eq!(pull_all(&[&single], 2600).len(), 2600);
    let lags = driver.list_consumers("shared").unwrap();
    assert_eq!(lags.len(), 12);
    assert!(
        lags.iter()
            .all(|consumer| consumer.lag == 0 && consumer.connected == 1),
        "{lags:?}"
    );

    topic.mark_complete().unwrap();
    for consumer in [&first, &third, &single] {
        assert!(consumer.pull().wait_timeout(PATIENCE).unwrap().unwrap().is_none());
    }
}

#[test]
fn two_that_insist_on_one_partition_are_refused_and_those_that_share_give_way() {
    let node = Node::start(&["--shards", "2"]);
    let driver = node.driver();
    let topic = driver.create_topic(TopicOptions::new("t").partitions(3)).unwrap();
    let insisting = |targets: &[usize]| ConsumerOptions {
        targets: targets.to_vec(),
        ..ConsumerOptions::default()
    };
    let sharing = topic.consumer("c", ConsumerOptions::default()).unwrap();
    let one = topic.consumer("c", insisting(&[1])).unwrap();
    wait_until("the target", || {
        one.partitions() == [1] && sharing.partitions() == [0, 2]
    });
    let refused = topic.consumer("c", insisting(&[0, 1])).unwrap_err();
    match &refused {
        ConsumerError::Driver(DriverError::Refused(error)) => {
            assert_eq!(error.code, ErrorCode::PartitionTaken)
        }
        other => panic!("{other:?}"),
    }
    assert!(
        refused
            .to_string()
            .contains("partition 1 of topic \"t\" is among the targets of another consumer named \"c\""),
        "{refused}"
    );
    // Another name may.
    topic.consumer("d", insisting(&[0, 1])).unwrap();
    one.close();
    let both = topic.consumer("c", insisting(&[0, 1])).unwrap();
    wait_until("the targets", || {
        both.partitions() == [0, 1] && sharing.partitions() == [2]
    });
    let beyond = topic.consumer("c", insisting(&[3])).unwrap_err();
    assert!(
        matches!(
            beyond,
            ConsumerError::InvalidTarget {
                index: 3,
                partitions: 3
            }
        ),
        "{beyond}"
    );
    // One that was added after the topic was opened can be a target.
    driver.add_partition("t", PartitionOptions::default()).unwrap();
    assert_eq!(topic.consumer("e", insisting(&[3])).unwrap().partitions(), [3]);
}

#[test]
fn shares_that_do_not_begin_at_the_cursor_are_handed_over_where_they_were() {
    let node = Node::start(&["--shards", "1"]);
    let driver = node.driver();
    let topic = driver.create_topic(TopicOptions::new("t").partitions(2)).unwrap();
    produce(&topic, 0, 10);
    let options = |start| ConsumerOptions {
        start,
        ..ConsumerOptions::default()
    };
    let first = topic.consumer("tail", options(Start::Last)).unwrap();
    produce(&topic, 10, 20);
    for _ in 0..7 {
        first.pull().wait_timeout(PATIENCE).unwrap().unwrap();
    }
    let second = topic.consumer("tail", options(Start::Last)).unwrap();
    wait_for_shares(&[&first, &second], 2);
    let mut seen = BTreeSet::new();
    wait_until("the rest", || {
        for consumer in [&first, &second] {
            while let Some(event) = consumer
                .pull()
                .wait_timeout(Duration::from_millis(5))
                .unwrap()
                .flatten()
            {
                let n = event.metadata()["n"].as_u64().unwrap();
                assert!(n >= 10 && seen.insert(n), "{n} came twice or is old");
            }
        }
        seen.len() == 13
    });
}

#[test]
fn a_group_goes_on_after_the_node_was_killed() {
    let mut node = Node::start(&["--shards", "2"]);
    let drivers: [Driver; 3] = std::array::from_fn(|_| node.driver());
    let topic = drivers[0]
        .create_topic(TopicOptions::new("t").partitions(6))
        .unwrap();
    let consumers: Vec<Consumer> = drivers
        .iter()
        .map(|driver| {
            let topic = driver.open_topic("t").unwrap();
            topic.consumer("group", ConsumerOptions::default()).unwrap()
        })
        .collect();
    let all: Vec<&Consumer> = consumers.iter().collect();
    wait_for_shares(&all, 6);
    produce(&topic, 0, 300);
    pull_all(&all, 300);
    let before: Vec<Vec<usize>> = all.iter().map(|consumer| consumer.partitions()).collect();
    node.kill();
    node.start_again();
    produce(&topic, 300, 300);
    let seen = pull_all(&all, 300);
    assert!(seen.into_iter().eq((300..600).map(|n| (n, 1))));
    // Everybody came back with what they had.
    let after: Vec<Vec<usize>> = all.iter().map(|consumer| consumer.partitions()).collect();
    assert_eq!(after, before, "{}", node.log());
}
