//! Four producers, four partitions, and a daemon that is killed without warning again and again. What was acknowledged
//! is written down by the test alone; at the end the log must hold exactly that: nothing lost, nothing twice, nothing
//! out of order, nothing changed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use mofka_client::{
    BatchSize, ConsumerOptions, DataSelector, Driver, DriverOptions, Metadata, ProducerOptions, PushFuture,
    Start, TopicOptions,
};
use mofka_tests::{Node, Random, scale};

const PRODUCERS: u64 = 4;
const PARTITIONS: u32 = 4;

/// What one producer knows: for each of its events the partition and the id it was told.
type Record = BTreeMap<u64, (usize, u64)>;

fn metadata(producer: u64, n: u64) -> String {
    format!("{{\"producer\":{producer},\"n\":{n}}}")
}

/// The data of an event follows from its name, so that the reader can check it without asking the producer.
fn data(producer: u64, n: u64) -> Vec<u8> {
    let bytes = (producer * 7919 + n * 104_729) % 3000;
    (0..bytes)
        .map(|place| (place.wrapping_mul(n + 1) ^ producer).to_le_bytes()[0])
        .collect()
}

fn produce(driver: &Driver, producer: u64, stop: &AtomicBool, pushed: &AtomicU64) -> Record {
    let topic = driver.open_topic("t").unwrap();
    let batch_size = match producer % 3 {
        0 => BatchSize::Adaptive,
        1 => BatchSize::fixed(1),
        _ => BatchSize::fixed(16),
    };
    let options = ProducerOptions {
        batch_size,
        max_num_batches: 4,
        ..ProducerOptions::default()
    };
    let handle = topic.producer(options);
    let mut record = Record::new();
    let mut waiting: Vec<(u64, usize, PushFuture)> = Vec::new();
    let mut n = 0;
    while !stop.load(Ordering::Relaxed) {
        let partition = usize::try_from((producer + n / 50) % u64::from(PARTITIONS)).unwrap();
        let text = Metadata::from(metadata(producer, n));
        let future = handle.push(text, data(producer, n), Some(partition)).unwrap();
        waiting.push((n, partition, future));
        n += 1;
        pushed.fetch_add(1, Ordering::Relaxed);
        if waiting.len() >= 256 {
            handle.flush().wait().unwrap();
            note(&mut record, &mut waiting);
        }
    }
    let report = handle.close().unwrap();
    note(&mut record, &mut waiting);
    assert_eq!(
        (report.acknowledged, report.failed),
        (n, 0),
        "close accounts for every event"
    );
    record
}

fn note(record: &mut Record, waiting: &mut Vec<(u64, usize, PushFuture)>) {
    for (n, partition, future) in waiting.drain(..) {
        let id = future
            .wait()
            .unwrap_or_else(|error| panic!("event {n} failed: {error}"));
        record.insert(n, (partition, id.get()));
    }
}

#[test]
fn nothing_acknowledged_is_lost_doubled_moved_or_changed_while_the_daemon_is_killed() {
    kill_again_and_again("tcp://127.0.0.1:0", 0);
}

#[test]
fn the_same_through_shared_memory() {
    kill_again_and_again("na+sm", 1);
}

/// Afterwards each shard has at least so many rings with the clients.
fn kill_again_and_again(listen: &str, rings_min: u64) {
    let mut node = Node::start(&["--shards", "2", "--listen", listen]);
    let options = || DriverOptions {
        reconnect_timeout: Duration::from_secs(60),
        ..DriverOptions::group_file(node.group_file())
    };
    let driver = Driver::connect(options()).unwrap();
    driver
        .create_topic(TopicOptions::new("t").partitions(PARTITIONS))
        .unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let pushed = Arc::new(AtomicU64::new(0));
    let producers: Vec<_> = (0..PRODUCERS)
        .map(|producer| {
            // Every second producer has connections of its own.
            let driver = if producer % 2 == 0 {
                driver.clone()
            } else {
                Driver::connect(options()).unwrap()
            };
            let (stop, pushed) = (Arc::clone(&stop), Arc::clone(&pushed));
            thread::spawn(move || produce(&driver, producer, &stop, &pushed))
        })
        .collect();
    let seed = scale("MOFKA_KILL_SEED", seed_of_clock());
    let kills = scale("MOFKA_KILLS", 20);
    println!("to repeat the moments of the kills: MOFKA_KILL_SEED={seed}");
    let mut random = Random::new(seed);
    let mut restarts = Vec::new();
    for _ in 0..kills {
        let before = pushed.load(Ordering::Relaxed);
        thread::sleep(Duration::from_millis(20 + random.below(180)));
        let deadline = Instant::now() + Duration::from_secs(30);
        while pushed.load(Ordering::Relaxed) == before && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
        node.kill();
        let started = Instant::now();
        node.start_again();
        restarts.push(started.elapsed());
    }
    thread::sleep(Duration::from_millis(200));
    stop.store(true, Ordering::Relaxed);
    let records: Vec<Record> = producers
        .into_iter()
        .map(|producer| producer.join().unwrap())
        .collect();
    let total: usize = records.iter().map(Record::len).sum();
    restarts.sort_unstable();
    println!(
        "{total} events acknowledged over {kills} kills; restarts took {:?} (median)",
        restarts[restarts.len() / 2]
    );
    assert!(
        total > 1000,
        "only {total} events: the test was too short to mean anything"
    );

    check(&driver, &records, total);
    for shard in node.driver().node_status(0).unwrap().shards {
        assert!(shard.rings.attached_count >= rings_min, "{:?}", shard.rings);
    }
    // And once more after a clean stop: what was read stays.
    assert!(node.terminate().success());
    node.start_again();
    check(&driver, &records, total);
}

/// Reads the whole topic and holds it against what the producers were told.
fn check(driver: &Driver, records: &[Record], total: usize) {
    let topic = driver.open_topic("t").unwrap();
    let options = ConsumerOptions {
        data_selector: DataSelector::all(),
        start: Start::First,
        ..ConsumerOptions::default()
    };
    let consumer = topic.consumer("checker", options).unwrap();
    let mut next_ids = BTreeMap::new();
    let mut last_of: BTreeMap<(usize, u64), u64> = BTreeMap::new();
    for seen in 0..total {
        let pulled = consumer.pull().wait_timeout(Duration::from_secs(30)).unwrap();
        let event = pulled
            .unwrap_or_else(|| panic!("only {seen} of {total} events are there"))
            .expect("no end of stream");
        let value = event.metadata();
        let (producer, n) = (value["producer"].as_u64().unwrap(), value["n"].as_u64().unwrap());
        let next = next_ids.entry(event.partition()).or_insert(0);
        assert_eq!(event.id().get(), *next, "ids are dense");
        *next += 1;
        let told = records[usize::try_from(producer).unwrap()][&n];
        assert_eq!(
            (event.partition(), event.id().get()),
            told,
            "event {n} of producer {producer} is where it was told"
        );
        let last = last_of.insert((event.partition(), producer), n);
        assert!(
            last.is_none_or(|last| last < n),
            "events of a producer stay in order"
        );
        assert_eq!(event.metadata_bytes().as_ref(), metadata(producer, n).as_bytes());
        assert_eq!(
            event.data().to_bytes().as_ref(),
            data(producer, n),
            "data of event {n} of producer {producer}"
        );
    }
    let more = consumer.pull().wait_timeout(Duration::from_millis(300)).unwrap();
    assert!(more.is_none(), "more events are stored than were acknowledged");
}

pub(crate) fn seed_of_clock() -> u64 {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    now.as_micros() as u64
}
