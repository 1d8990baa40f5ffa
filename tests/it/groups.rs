//! Consumers of one name share the partitions of a topic.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use mofka_client::{
    AssignmentChange, Consumer, ConsumerError, ConsumerOptions, Driver, DriverError, ErrorCode, Event,
    OnAssignment, PartitionOptions, ProducerOptions, Start, TopicHandle, TopicOptions,
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

#[test]
fn an_application_hears_what_it_reads_and_what_it_acknowledges_then_counts() {
    let node = Node::start(&["--shards", "2"]);
    let (driver, other) = (node.driver(), node.driver());
    let topic = driver.create_topic(TopicOptions::new("t").partitions(4)).unwrap();
    let elsewhere = other.open_topic("t").unwrap();
    produce(&topic, 0, 400);
    let heard: Arc<Mutex<Vec<AssignmentChange>>> = Arc::default();
    // The last event of each partition that was pulled: acknowledged only when the partition goes.
    let last: Arc<Mutex<BTreeMap<usize, Event>>> = Arc::default();
    let (sink, state) = (Arc::clone(&heard), Arc::clone(&last));
    let on_assignment = OnAssignment::new(move |change| {
        if let AssignmentChange::Withdrawn(partitions) = change {
            let mut state = state.lock().unwrap();
            for event in partitions.iter().filter_map(|partition| state.remove(partition)) {
                event.acknowledge().wait().unwrap();
            }
        }
        sink.lock().unwrap().push(change.clone());
    });
    let options = ConsumerOptions {
        on_assignment,
        ..ConsumerOptions::default()
    };
    let first = topic.consumer("group", options).unwrap();
    let all = AssignmentChange::Assigned(vec![0, 1, 2, 3]);
    assert_eq!(heard.lock().unwrap().as_slice(), std::slice::from_ref(&all));
    let mut seen = BTreeSet::new();
    for _ in 0..200 {
        let event = first.pull().wait_timeout(PATIENCE).unwrap().unwrap().unwrap();
        assert!(seen.insert(event.metadata()["n"].as_u64().unwrap()));
        last.lock().unwrap().insert(event.partition(), event);
    }
    let second = elsewhere.consumer("group", ConsumerOptions::default()).unwrap();
    wait_for_shares(&[&first, &second], 4);
    let gone = second.partitions();
    assert_eq!(
        *heard.lock().unwrap(),
        [all, AssignmentChange::Withdrawn(gone.clone())]
    );
    // Nothing that was acknowledged in the call comes again, and nothing is left out.
    let rest = pull_all(&[&first, &second], 200);
    assert!(rest.values().all(|times| *times == 1));
    seen.extend(rest.into_keys());
    assert!(seen.into_iter().eq(0..400));

    drop(second);
    wait_until("the rest", || heard.lock().unwrap().len() == 3);
    assert_eq!(heard.lock().unwrap()[2], AssignmentChange::Assigned(gone));
    driver.add_partition("t", PartitionOptions::default()).unwrap();
    wait_until("the new one", || heard.lock().unwrap().len() == 4);
    assert_eq!(heard.lock().unwrap()[3], AssignmentChange::Assigned(vec![4]));
    produce(&topic, 400, 50);
    let more = pull_all(&[&first], 50);
    assert!(more.into_iter().eq((400..450).map(|n| (n, 1))));
    first.close();
    wait_until("the end", || heard.lock().unwrap().len() == 5);
    assert_eq!(
        heard.lock().unwrap()[4],
        AssignmentChange::Withdrawn(vec![0, 1, 2, 3, 4])
    );
}

#[test]
fn a_call_that_does_not_return_keeps_partitions_from_nobody() {
    let mut node = Node::prepare(&["-c", "config.json"]);
    let config = json!({"data_dir": "data", "shards": 1, "limits": {"heartbeat_ms": 300}});
    std::fs::write(node.dir().join("config.json"), config.to_string()).unwrap();
    node.start_again();
    let (driver, other) = (node.driver(), node.driver());
    let topic = driver.create_topic(TopicOptions::new("t").partitions(2)).unwrap();
    let elsewhere = other.open_topic("t").unwrap();
    let gate: Arc<(Mutex<bool>, Condvar)> = Arc::default();
    let heard: Arc<Mutex<Vec<AssignmentChange>>> = Arc::default();
    let (opened, sink) = (Arc::clone(&gate), Arc::clone(&heard));
    let on_assignment = OnAssignment::new(move |change| {
        sink.lock().unwrap().push(change.clone());
        match change {
            // A panic changes nothing.
            AssignmentChange::Assigned(_) => panic!("as the test wants it"),
            AssignmentChange::Withdrawn(_) => {
                let is_open = opened.0.lock().unwrap();
                drop(opened.1.wait_while(is_open, |is_open| !*is_open).unwrap());
            }
            AssignmentChange::Lost(_) => {}
        }
    });
    let options = ConsumerOptions {
        on_assignment,
        ..ConsumerOptions::default()
    };
    let first = topic.consumer("group", options).unwrap();
    let second = elsewhere.consumer("group", ConsumerOptions::default()).unwrap();
    // The node takes the first one for gone.
    wait_until("both partitions", || second.partitions() == [0, 1]);
    produce(&topic, 0, 20);
    assert_eq!(pull_all(&[&second], 20).len(), 20);
    *gate.0.lock().unwrap() = true;
    gate.1.notify_all();
    wait_until("the loss", || {
        let heard = heard.lock().unwrap();
        heard
            .iter()
            .any(|change| matches!(change, AssignmentChange::Lost(_)))
    });
    // It is back.
    wait_for_shares(&[&first, &second], 2);
    produce(&topic, 20, 20);
    let seen = pull_all(&[&first, &second], 20);
    assert!(seen.into_keys().eq(20..40));
}

#[test]
fn who_leaves_says_where_it_was_where_no_cursor_does() {
    let node = Node::start(&["--shards", "2"]);
    let driver = node.driver();
    let topic = driver.create_topic(TopicOptions::new("t").partitions(2)).unwrap();
    produce(&topic, 0, 400);
    let options = || ConsumerOptions {
        start: Start::First,
        ..ConsumerOptions::default()
    };
    let first = topic.consumer("group", options()).unwrap();
    let second = topic.consumer("group", options()).unwrap();
    wait_for_shares(&[&first, &second], 2);
    let mut seen = BTreeMap::<u64, usize>::new();
    let mut pull = |consumer: &Consumer, count: usize| {
        for _ in 0..count {
            let event = consumer.pull().wait_timeout(PATIENCE).unwrap().unwrap().unwrap();
            *seen.entry(event.metadata()["n"].as_u64().unwrap()).or_insert(0) += 1;
        }
    };
    // Before the node hears of it by itself, which is once in a heartbeat.
    pull(&first, 120);
    first.close();
    wait_until("the rest", || second.partitions().len() == 2);
    pull(&second, 280);
    assert!(seen.into_iter().eq((0..400).map(|n| (n, 1))), "each event once");
}
