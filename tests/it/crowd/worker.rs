//! What the processes of the crowd do. Each writes down what it was told before it goes on, so that a kill loses nothing of it.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use mofka_client::{
    BatchSize, ConsumerOptions, DataSelector, Driver, DriverOptions, ProducerOptions, PushFuture,
};
use mofka_tests::Random;
use serde_json::json;

use super::{PARTITIONS, PRODUCERS};

pub(super) const ROLE: &str = "MOFKA_CROWD_ROLE";
pub(super) const PLACE: &str = "MOFKA_CROWD_PLACE";
pub(super) const TOPIC: &str = "crowd";
pub(super) const CONSUMER: &str = "group";
pub(super) const STOP_PRODUCERS: &str = "stop-producers";
pub(super) const STOP_CONSUMERS: &str = "stop-consumers";

/// Not a test of its own: what the processes run.
#[test]
fn a_client_of_the_crowd() {
    let (Ok(role), Ok(place)) = (std::env::var(ROLE), std::env::var(PLACE)) else {
        return;
    };
    let words: Vec<&str> = role.split(' ').collect();
    let [kind, number, life, group_file] = words[..] else {
        panic!("{role}")
    };
    let place = PathBuf::from(place);
    let journal = Journal::new(&place.join(format!("{kind}-{number}-{life}")));
    let options = DriverOptions {
        reconnect_timeout: Duration::from_secs(60),
        ..DriverOptions::group_file(group_file)
    };
    let driver = connect(&options);
    match kind {
        "producers" => produce(&driver, &place, &journal, &format!("{number}.{life}")),
        _ => consume(&driver, &place, &journal),
    }
}

/// The daemon may be away just now.
fn connect(options: &DriverOptions) -> Driver {
    for _ in 0..600 {
        if let Ok(driver) = Driver::connect(options.clone()) {
            return driver;
        }
        thread::sleep(Duration::from_millis(100));
    }
    panic!("no node for a minute");
}

/// Lines that are in the file before the next one is thought of.
struct Journal(Mutex<File>);

impl Journal {
    fn new(path: &Path) -> Self {
        Self(Mutex::new(File::create_new(path).unwrap()))
    }

    fn write(&self, lines: &str) {
        self.0.lock().unwrap().write_all(lines.as_bytes()).unwrap();
    }
}

/// The same clock for all processes.
pub(super) fn now_ns() -> u128 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32).as_nanos()
}

/// The data of an event follows from its name.
pub(super) fn data(producer: u64, partition: u64, n: u64) -> Vec<u8> {
    let bytes = (producer * 797 + n * 1_047 + partition) % 1500;
    (0..bytes)
        .map(|place| (place * (n + 1) + producer + partition) as u8)
        .collect()
}

fn produce(driver: &Driver, place: &Path, journal: &Journal, life: &str) {
    thread::scope(|scope| {
        for producer in 0..PRODUCERS {
            scope.spawn(move || produce_one(driver, place, journal, life, producer));
        }
    });
}

fn produce_one(driver: &Driver, place: &Path, journal: &Journal, life: &str, producer: u64) {
    let topic = driver.open_topic(TOPIC).unwrap();
    let handle = topic.producer(ProducerOptions {
        batch_size: if producer.is_multiple_of(2) {
            BatchSize::Adaptive
        } else {
            BatchSize::fixed(7)
        },
        ..ProducerOptions::default()
    });
    let mut random = Random::new(producer + u64::from(std::process::id()) * 1000);
    let mut counts = vec![0_u64; PARTITIONS as usize];
    let mut pushed = 0;
    while !place.join(STOP_PRODUCERS).exists() {
        let mut waiting: Vec<(u64, u64, PushFuture)> = Vec::new();
        for _ in 0..1 + random.below(30) {
            let partition = random.below(u64::from(PARTITIONS));
            let count = &mut counts[partition as usize];
            let metadata = json!({"life": life, "producer": producer, "n": *count});
            let future = handle
                .push(
                    metadata,
                    data(producer, partition, *count),
                    Some(partition as usize),
                )
                .unwrap();
            waiting.push((partition, *count, future));
            *count += 1;
            pushed += 1;
        }
        handle.flush().wait().unwrap();
        let mut lines = String::new();
        for (partition, n, future) in waiting {
            let id = future
                .wait()
                .unwrap_or_else(|error| panic!("{life} {producer} {n}: {error}"));
            lines += &format!("told {life} {producer} {partition} {n} {id}\n");
        }
        journal.write(&lines);
        thread::sleep(Duration::from_millis(random.below(30)));
    }
    let report = handle.close().unwrap();
    journal.write(&format!(
        "closed {life} {producer} {pushed} {} {}\n",
        report.acknowledged, report.failed
    ));
}

fn consume(driver: &Driver, place: &Path, journal: &Journal) {
    let topic = driver.open_topic(TOPIC).unwrap();
    journal.write(&format!("began {}\n", now_ns()));
    let consumer = topic
        .consumer(
            CONSUMER,
            ConsumerOptions {
                data_selector: DataSelector::all(),
                ..ConsumerOptions::default()
            },
        )
        .unwrap();
    let mut unheard = Vec::new();
    while !place.join(STOP_CONSUMERS).exists() {
        let Some(event) = consumer
            .pull()
            .wait_timeout(Duration::from_millis(20))
            .unwrap()
            .flatten()
        else {
            hear(journal, &mut unheard);
            continue;
        };
        let metadata = event.metadata();
        let (producer, n) = (
            metadata["producer"].as_u64().unwrap(),
            metadata["n"].as_u64().unwrap(),
        );
        assert!(
            event.data().to_bytes() == data(producer, event.partition() as u64, n),
            "changed: {metadata}"
        );
        journal.write(&format!("got {} {}\n", event.partition(), event.id()));
        unheard.push((event.partition(), event.id().next(), event.acknowledge()));
        if unheard.len() >= 64 {
            hear(journal, &mut unheard);
        }
    }
    hear(journal, &mut unheard);
    consumer.close();
}

type Acknowledgement = (usize, mofka_client::EventId, mofka_client::AckFuture);

fn hear(journal: &Journal, unheard: &mut Vec<Acknowledgement>) {
    for (partition, next, answer) in unheard.drain(..) {
        answer.wait().unwrap();
        journal.write(&format!("acknowledged {partition} {next} {}\n", now_ns()));
    }
}
