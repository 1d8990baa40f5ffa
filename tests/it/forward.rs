//! `mofka-ctl forward` between two nodes, while it and both of them are killed again and again: every event of the source is
//! at the destination once, in order, unchanged.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use mofka_client::{
    Consumer, ConsumerOptions, DataSelector, Driver, DriverOptions, Event, ProducerOptions, PushFuture,
    Start, TopicOptions,
};
use mofka_tests::tool::Tool;
use mofka_tests::{Node, Random, scale};

use crate::kill::seed_of_clock;

const PARTITIONS: u32 = 2;
/// How long what is to come may take, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(120);

fn driver(node: &Node) -> Driver {
    let options = DriverOptions {
        reconnect_timeout: PATIENCE,
        ..DriverOptions::group_file(node.group_file())
    };
    Driver::connect(options).unwrap()
}

fn metadata(n: u64) -> String {
    format!("{{\"n\":{n},\"third\":{}}}", n.is_multiple_of(3))
}

/// The data of an event follows from its number. A few have some hundred KiB.
fn data(n: u64) -> Vec<u8> {
    let bytes = if n.is_multiple_of(997) {
        300_000 + n % 1000
    } else {
        n * 7919 % 700
    };
    (0..bytes)
        .map(|place| (place.wrapping_mul(n + 1) >> 3).to_le_bytes()[0])
        .collect()
}

/// Writes the tool's file.
fn configure(dir: &Path, source: &Node, destination: &Node, policies: &str) {
    let text = format!(
        "drivers:\n  near:\n    type: mofka\n    options: {{group_file: {:?}}}\n  far:\n    type: mofka\n    options:\n      \
         group_file: {:?}\nforward:\n{policies}",
        source.group_file(),
        destination.group_file()
    );
    std::fs::write(dir.join("forward.yaml"), text).unwrap();
}

fn start(source: &Node) -> Tool {
    Tool::start("forward", source.dir(), &["forward", "--config", "forward.yaml"])
}

fn reader(driver: &Driver, topic: &str, partition: usize) -> Consumer {
    let options = ConsumerOptions {
        data_selector: DataSelector::all(),
        start: Start::First,
        targets: vec![partition],
        ..ConsumerOptions::default()
    };
    driver
        .open_topic(topic)
        .unwrap()
        .consumer("checker", options)
        .unwrap()
}

fn next(consumer: &Consumer, what: &str) -> Event {
    let pulled = consumer.pull().wait_timeout(PATIENCE).unwrap();
    pulled
        .unwrap_or_else(|| panic!("{what} does not come"))
        .expect("no end of stream")
}

/// Holds the destination against the numbers that are to be there, in this order, and nothing else.
fn check(
    driver: &Driver,
    topic: &str,
    partition: usize,
    expected: impl Iterator<Item = u64>,
    with_data: bool,
) -> u64 {
    let consumer = reader(driver, topic, partition);
    let mut count = 0;
    for n in expected {
        let event = next(
            &consumer,
            &format!("event {count} (number {n}) of partition {partition}"),
        );
        assert_eq!(
            (event.id().get(), event.metadata_bytes().as_ref()),
            (count, metadata(n).as_bytes()),
            "event {count} of partition {partition} is number {n}"
        );
        let data = if with_data { data(n) } else { Vec::new() };
        assert!(
            event.data().to_bytes() == data,
            "data of number {n} is what it was"
        );
        count += 1;
    }
    let more = consumer.pull().wait_timeout(Duration::from_millis(300)).unwrap();
    assert!(
        more.is_none(),
        "partition {partition} has more than {count} events: {more:?}"
    );
    count
}

/// Waits until the node has so many events of a topic.
fn wait_for(driver: &Driver, topic: &str, count: u64, forward: &mut Tool) {
    let topic = driver.open_topic(topic).unwrap();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let stored: u64 = (0..topic.partitions().len())
            .map(|partition| {
                topic
                    .partition_status(partition)
                    .map_or(0, |status| status.visible_end)
            })
            .sum();
        if stored >= count {
            return;
        }
        let ended = forward.ended();
        assert!(ended.is_none(), "forward ended by itself: {ended:?}");
        assert!(Instant::now() < deadline, "{stored} of {count} events came");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn every_event_is_forwarded_once_while_the_forwarder_and_both_nodes_are_killed() {
    let mut source = Node::start(&["--shards", "2", "--listen", "tcp://127.0.0.1:0"]);
    let mut destination = Node::start(&["--listen", "tcp://127.0.0.1:0"]);
    let (near, far) = (driver(&source), driver(&destination));
    let topic = near
        .create_topic(TopicOptions::new("t").partitions(PARTITIONS))
        .unwrap();
    for name in ["copy", "third"] {
        far.create_topic(TopicOptions::new(name).partitions(PARTITIONS))
            .unwrap();
    }
    let policies = "  - {from: near/t, to: far/copy}\n  - from: near/t\n    to: far/third\n    data: none\n    filter: {third: [true]}\n";
    configure(source.dir(), &source, &destination, policies);
    let mut forward = start(&source);

    let events = scale("MOFKA_FORWARD_EVENTS", 4000);
    let kills = scale("MOFKA_FORWARD_KILLS", 12);
    let seed = scale("MOFKA_KILL_SEED", seed_of_clock());
    println!("to repeat the moments of the kills: MOFKA_KILL_SEED={seed}");
    let mut random = Random::new(seed);
    let producer = topic.producer(ProducerOptions::default());
    let mut futures: Vec<PushFuture> = Vec::new();
    let (mut pushed, mut killed) = (0, [0_u64; 3]);
    for kill in 0..kills {
        let until = events * (kill + 1) / kills;
        while pushed < until {
            let partition = usize::try_from(pushed % u64::from(PARTITIONS)).unwrap();
            futures.push(
                producer
                    .push(metadata(pushed), data(pushed), Some(partition))
                    .unwrap(),
            );
            pushed += 1;
        }
        // Each of them in turn, but at any moment.
        thread::sleep(Duration::from_millis(random.below(250)));
        match kill % 3 {
            0 => {
                assert!(forward.kill(), "forward ended by itself");
                if random.below(2) == 0 {
                    thread::sleep(Duration::from_millis(random.below(100)));
                }
                forward.start_again();
            }
            1 => {
                source.kill();
                source.start_again();
            }
            _ => {
                destination.kill();
                destination.start_again();
            }
        }
        killed[usize::try_from(kill % 3).unwrap()] += 1;
        // Where nodes were away at its start, it ends with an error, and whoever looks after it starts it again.
        if forward.ended().is_some() {
            forward.start_again();
        }
    }
    let report = producer.close().unwrap();
    assert_eq!((report.acknowledged, report.failed), (events, 0));
    for future in &futures {
        future.wait().unwrap();
    }
    if forward.ended().is_some() {
        forward.start_again();
    }
    let thirds = (0..events).filter(|n| n.is_multiple_of(3)).count() as u64;
    wait_for(&far, "copy", events, &mut forward);
    wait_for(&far, "third", thirds, &mut forward);
    let status = forward.terminate();
    assert!(status.success(), "{status}:\n{}", forward.log());

    let of = |partition: u64| (0..events).filter(move |n| n % u64::from(PARTITIONS) == partition);
    let mut copied = 0;
    for partition in 0..u64::from(PARTITIONS) {
        let index = usize::try_from(partition).unwrap();
        copied += check(&far, "copy", index, of(partition), true);
        check(
            &far,
            "third",
            index,
            of(partition).filter(|n| n.is_multiple_of(3)),
            false,
        );
    }
    assert_eq!(copied, events);
    let log = forward.log();
    println!(
        "{copied} events forwarded, each once; killed: forward {}, source {}, destination {}; {} times the destination said \
         where to go on",
        killed[0],
        killed[1],
        killed[2],
        log.matches("state=\"resumed\"").count()
    );
    // And everything is acknowledged: whoever starts next has nothing to read again.
    let lags: Vec<u64> = near
        .list_consumers("t")
        .unwrap()
        .into_iter()
        .filter(|consumer| consumer.consumer.ends_with("copy"))
        .map(|consumer| consumer.lag)
        .collect();
    assert_eq!(lags, vec![0; 2], "{log}");
}

/// Forward gives its attempts up and begins anew, again and again, while it has read further than what is stored.
#[test]
fn a_destination_that_is_away_for_long_misses_nothing() {
    // So often the node is told how far the reading is, which is not how far the destination is.
    let mut source = Node::prepare(&["-c", "config.json", "--listen", "tcp://127.0.0.1:0"]);
    let config = r#"{"shards": 1, "limits": {"heartbeat_ms": 300}}"#;
    std::fs::write(source.dir().join("config.json"), config).unwrap();
    source.start_again();
    let mut destination = Node::start(&["--listen", "tcp://127.0.0.1:0"]);
    let (near, far) = (driver(&source), driver(&destination));
    let topic = near
        .create_topic(TopicOptions::new("t").partitions(PARTITIONS))
        .unwrap();
    far.create_topic(TopicOptions::new("copy").partitions(PARTITIONS))
        .unwrap();
    configure(
        source.dir(),
        &source,
        &destination,
        "  - {from: near/t, to: far/copy}\n",
    );
    let mut forward = start(&source);
    let producer = topic.producer(ProducerOptions::default());
    let push = |numbers: std::ops::Range<u64>| {
        for n in numbers {
            let partition = usize::try_from(n % u64::from(PARTITIONS)).unwrap();
            producer.push(metadata(n), data(n), Some(partition)).unwrap();
        }
        producer.flush().wait().unwrap();
    };
    push(0..2000);
    wait_for(&far, "copy", 2000, &mut forward);
    destination.kill();
    push(2000..12_000);
    let deadline = Instant::now() + PATIENCE;
    while forward.log().matches("state=\"retrying\"").count() < 6 {
        assert!(Instant::now() < deadline, "it does not try again");
        thread::sleep(Duration::from_millis(20));
    }
    destination.start_again();
    wait_for(&far, "copy", 12_000, &mut forward);
    assert!(forward.terminate().success());
    for partition in 0..u64::from(PARTITIONS) {
        let index = usize::try_from(partition).unwrap();
        let expected = (0..12_000).filter(|n| n % u64::from(PARTITIONS) == partition);
        check(&far, "copy", index, expected, true);
    }
    let log = forward.log();
    assert!(
        !log.contains("cannot be pushed") && !log.contains("where"),
        "it read from where it had asked to: {log}"
    );
}
