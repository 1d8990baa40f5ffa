//! Holds the journals of the crowd against each other and against what is stored.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use mofka_client::{ConsumerOptions, Driver, Start};

use super::PARTITIONS;
use super::worker::{CONSUMER, TOPIC};

/// A producer of one life of a process, in one partition.
type Stream = (String, u64, u64);

#[derive(Default)]
pub(super) struct Account {
    /// By stream: which ids its events were told to have, by number.
    told: BTreeMap<Stream, BTreeMap<u64, u64>>,
    /// Producers that were closed, and what they pushed.
    closed: BTreeMap<(String, u64), u64>,
    consumers: Vec<Reader>,
}

/// One life of a consumer.
#[derive(Default)]
struct Reader {
    began_ns: u128,
    /// Partition and id, in the order in which they came.
    got: Vec<(u64, u64)>,
    /// Partition, position, and when its answer was there.
    acknowledged: Vec<(u64, u64, u128)>,
}

impl Account {
    pub(super) fn read(place: &Path) -> Self {
        let mut account = Self::default();
        for entry in std::fs::read_dir(place).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let text = std::fs::read_to_string(&path).unwrap();
            let lines = text.lines().map(|line| line.split(' ').collect::<Vec<_>>());
            if name.starts_with("producers-") {
                lines.for_each(|words| account.told(&words));
            } else if name.starts_with("consumer-") {
                let mut reader = Reader::default();
                lines.for_each(|words| reader.did(&words));
                account.consumers.push(reader);
            }
        }
        account
    }

    fn told(&mut self, words: &[&str]) {
        let number = |word: &str| word.parse::<u64>().unwrap();
        match *words {
            ["told", life, producer, partition, n, id] => {
                let stream = (life.to_owned(), number(producer), number(partition));
                let before = self.told.entry(stream).or_default().insert(number(n), number(id));
                assert_eq!(before, None, "{words:?}");
            }
            ["closed", life, producer, pushed, acknowledged, failed] => {
                assert_eq!(
                    (acknowledged, failed),
                    (pushed, "0"),
                    "close accounts for everything: {words:?}"
                );
                self.closed
                    .insert((life.to_owned(), number(producer)), number(pushed));
            }
            _ => panic!("{words:?}"),
        }
    }

    /// Events that came more than once.
    pub(super) fn repeated_count(&self) -> usize {
        let all: usize = self.consumers.iter().map(|reader| reader.got.len()).sum();
        all - self.got().len()
    }

    fn got(&self) -> BTreeSet<(u64, u64)> {
        self.consumers
            .iter()
            .flat_map(|reader| reader.got.iter().copied())
            .collect()
    }

    /// Returns how many events are stored.
    pub(super) fn check(&self, driver: &Driver) -> u64 {
        let stored = stored(driver);
        let event_count: u64 = stored.ends.values().sum();
        self.check_producers(&stored);
        self.check_consumers(driver, &stored, event_count);
        event_count
    }

    fn check_producers(&self, stored: &Stored) {
        // Of each stream the first events are stored, in order, each once; and all that were told are among them.
        for (stream, ids) in &stored.streams {
            assert!(ids.is_sorted(), "out of order: {stream:?}");
            for (n, id) in self.told.get(stream).into_iter().flatten() {
                assert_eq!(
                    ids.get(*n as usize),
                    Some(id),
                    "event {n} of {stream:?} is where it was told"
                );
            }
        }
        for stream in self.told.keys() {
            assert!(
                stored.streams.contains_key(stream),
                "{stream:?} was told that it is stored"
            );
        }
        for ((life, producer), pushed) in &self.closed {
            let of_it = stored
                .streams
                .iter()
                .filter(|((l, p, _), _)| l == life && p == producer);
            let count: u64 = of_it.map(|(_, ids)| ids.len() as u64).sum();
            assert_eq!(count, *pushed, "producer {producer} of life {life} was closed");
        }
    }

    fn check_consumers(&self, driver: &Driver, stored: &Stored, event_count: u64) {
        let got = self.got();
        for (partition, end) in &stored.ends {
            let of_it = got
                .range((*partition, 0)..=(*partition, u64::MAX))
                .map(|(_, id)| *id);
            assert!(of_it.eq(0..*end), "events of partition {partition} were skipped");
        }
        assert_eq!(got.len() as u64, event_count);
        for reader in &self.consumers {
            // Each stretch that a consumer read of a partition has no gaps, and begins at its cursor: nothing that was known to be
            // acknowledged when the consumer began comes again.
            let mut next: BTreeMap<u64, u64> = BTreeMap::new();
            for (partition, id) in &reader.got {
                let before = next.insert(*partition, id + 1);
                if before == Some(*id) {
                    continue;
                }
                let acknowledged = self
                    .consumers
                    .iter()
                    .flat_map(|other| &other.acknowledged)
                    .filter(|(p, _, ns)| p == partition && *ns < reader.began_ns)
                    .map(|(_, position, _)| *position)
                    .max();
                assert!(
                    acknowledged.is_none_or(|acknowledged| acknowledged <= *id),
                    "event {id} of partition {partition} came although {acknowledged:?} was acknowledged"
                );
            }
        }
        let cursors = driver.list_consumers(TOPIC).unwrap();
        for (partition, end) in &stored.ends {
            let cursor = cursors
                .iter()
                .find(|one| one.consumer == CONSUMER && u64::from(one.index) == *partition)
                .unwrap();
            assert_eq!(cursor.next_event_id, *end, "the cursor of partition {partition}");
        }
    }
}

impl Reader {
    fn did(&mut self, words: &[&str]) {
        match *words {
            ["began", ns] => self.began_ns = ns.parse().unwrap(),
            ["got", partition, id] => self.got.push((partition.parse().unwrap(), id.parse().unwrap())),
            ["acknowledged", partition, position, ns] => self.acknowledged.push((
                partition.parse().unwrap(),
                position.parse().unwrap(),
                ns.parse().unwrap(),
            )),
            _ => panic!("{words:?}"),
        }
    }
}

struct Stored {
    /// By partition.
    ends: BTreeMap<u64, u64>,
    /// By stream: the ids of its events, by number.
    streams: BTreeMap<Stream, Vec<u64>>,
}

fn stored(driver: &Driver) -> Stored {
    let topic = driver.open_topic(TOPIC).unwrap();
    topic.mark_complete().unwrap();
    let options = ConsumerOptions {
        start: Start::First,
        ..ConsumerOptions::default()
    };
    let consumer = topic.consumer("accountant", options).unwrap();
    let mut stored = Stored {
        ends: (0..u64::from(PARTITIONS))
            .map(|partition| (partition, 0))
            .collect(),
        streams: BTreeMap::new(),
    };
    for event in consumer.events(Duration::from_secs(30)) {
        let event = event.unwrap();
        let (partition, id) = (event.partition() as u64, event.id().get());
        let end = stored.ends.get_mut(&partition).unwrap();
        assert_eq!(*end, id, "ids are dense in partition {partition}");
        *end += 1;
        let metadata = event.metadata();
        let stream = (
            metadata["life"].as_str().unwrap().to_owned(),
            metadata["producer"].as_u64().unwrap(),
            partition,
        );
        let ids = stored.streams.entry(stream).or_default();
        assert_eq!(
            metadata["n"],
            ids.len(),
            "each event once and in order: {metadata}"
        );
        ids.push(id);
    }
    stored
}
