//! What is begun while something else is under way, and both want the same file or the same name: each test waits for the
//! moment that it is about, and counts it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;

use mofka_engine::io::{Io, IoDir, IoFile};
use mofka_engine::partition::{Partition, PartitionSpec, ReadLimits};
use mofka_engine::sim::{Fault, Image, Random, Sectors, SimIo};
use mofka_log::{Durability, FilePos, PartitionKind, Retention};
use mofka_net::ErrorCode;

use crate::model::{Content, Sent, id, open, read_all, send, spec};

type Open = Rc<Partition<SimIo>>;

fn settle(io: &SimIo) {
    io.run_tasks();
    while io.is_busy() {
        io.step();
    }
}

/// Begins to stop; the flag says when it is done.
fn stop(io: &SimIo, partition: &Open) -> Rc<Cell<bool>> {
    let stopped = Rc::new(Cell::new(false));
    let (stopping, ended) = (Rc::clone(partition), Rc::clone(&stopped));
    io.spawn(async move {
        stopping.stop().await;
        ended.set(true);
    });
    stopped
}

fn is_under_way(io: &SimIo, what: impl Fn(&str) -> bool) -> bool {
    io.under_way().iter().any(|line| what(line))
}

#[test]
fn names_and_sizes_change_at_a_later_step_or_at_once_on_a_quick_machine() {
    let begin = |io: &SimIo| {
        let machine = io.clone();
        io.spawn(async move {
            let file = Rc::new(machine.create("/a".as_ref()).await.unwrap());
            file.truncate(FilePos::new(8192)).await.unwrap();
            machine.rename("/a".as_ref(), "/b".as_ref()).await.unwrap();
        });
        io.run_tasks();
    };
    let names = |image: &Image| {
        image
            .keys()
            .map(|path| path.display().to_string())
            .collect::<Vec<_>>()
    };
    let quick = SimIo::stepping(&Image::new(), 1);
    quick.set_quick();
    begin(&quick);
    assert_eq!(names(&quick.settled()), ["/b"]);
    let io = SimIo::stepping(&Image::new(), 1);
    begin(&io);
    assert!(io.settled().is_empty());
    while !is_under_way(&io, |line| line == "rename /a to /b") {
        assert!(io.step(), "the file gets its name");
    }
    let mut random = Random::new(1);
    let left: BTreeSet<_> = (0..60)
        .map(|_| names(&io.crash(&mut random, 50, Sectors::Small)))
        .collect();
    let either = [vec![], vec!["/a".to_owned()], vec!["/b".to_owned()]];
    assert_eq!(left, either.into_iter().collect());
    io.step();
    assert_eq!(names(&io.settled()), ["/b"]);
    quick.shut_down();
    io.shut_down();
}

/// A consumer's position, and whether it was acknowledged as durable.
type Position = (String, Rc<Cell<bool>>);

/// A new consumer acknowledges.
fn acknowledge(partition: &Open, positions: &mut Vec<Position>, name_bytes: usize) {
    let consumer = format!("{:0>name_bytes$}", positions.len());
    let durable = Rc::new(Cell::new(false));
    let noted = Rc::clone(&durable);
    partition.acknowledge(
        &consumer,
        id(0),
        Box::new(move |stored| noted.set(stored.is_ok())),
    );
    positions.push((consumer, durable));
}

/// A partition that was stopped once, so that it has a file of cursors, and stopping again writes nothing to that.
fn stopped_before(seed: u64, spec: &PartitionSpec) -> (SimIo, Open) {
    let io = SimIo::stepping(&Image::new(), seed);
    let first = open(&io, spec.clone()).unwrap();
    stop(&io, &first);
    settle(&io);
    let io = SimIo::stepping(&io.settled(), seed + 1000);
    let again = open(&io, spec.clone()).unwrap();
    settle(&io);
    (io, again)
}

#[test]
fn what_is_acknowledged_while_space_is_given_back_stays() {
    // Acknowledgements that came, or became durable, while a file was being cut.
    let (mut came, mut durable) = (0, 0);
    let mut spec = spec(PartitionKind::Default, Durability::Synced);
    // The file is cut, not replaced.
    spec.limits.cursors_rewrite_bytes = 1 << 20;
    for seed in 0..120 {
        let (io, partition) = stopped_before(seed, &spec);
        let mut random = Random::new(seed);
        let mut positions = Vec::new();
        acknowledge(&partition, &mut positions, 250);
        settle(&io);
        stop(&io, &partition);
        io.run_tasks();
        while io.is_busy() {
            let is_cut = is_under_way(&io, |line| line == "truncate");
            if is_cut && random.chance(50) {
                // More than the block that the file ends in has room for.
                for _ in 0..16 {
                    came += 1;
                    acknowledge(&partition, &mut positions, 250);
                }
            }
            let before = positions.iter().filter(|(_, durable)| durable.get()).count();
            io.step();
            let after = positions.iter().filter(|(_, durable)| durable.get()).count();
            durable += after - before;
            for keep_percent in [0, 60, 100] {
                let image = io.crash(&mut random, keep_percent, Sectors::Small);
                let found = SimIo::immediate(&image);
                let again = open(&found, spec.clone()).unwrap();
                assert_eq!(again.read_only(), None, "seed {seed}");
                for (consumer, durable) in &positions {
                    assert!(
                        !durable.get() || again.cursor(consumer).is_some(),
                        "seed {seed}: {consumer} was acknowledged and is gone, with {keep_percent}% kept"
                    );
                }
                found.shut_down();
            }
        }
        io.shut_down();
    }
    assert!(
        came > 300 && durable > 300,
        "{came} came, {durable} became durable"
    );
}

#[test]
fn acknowledgements_are_answered_when_the_partition_has_stopped() {
    // Stops that began while the file of cursors was being replaced.
    let mut replacing = 0;
    let spec = spec(PartitionKind::Default, Durability::Synced);
    for seed in 0..80 {
        let (io, partition) = stopped_before(seed, &spec);
        let mut random = Random::new(seed);
        let mut positions = Vec::new();
        let steps = 5 + random.below(60);
        for _ in 0..steps {
            if random.chance(60) {
                acknowledge(&partition, &mut positions, 1);
            }
            io.step();
        }
        replacing += u64::from(is_under_way(&io, |line| line.contains("cursors.new")));
        let stopped = stop(&io, &partition);
        while !stopped.get() {
            assert!(
                io.step(),
                "seed {seed}: stopping waits for something that never happens"
            );
        }
        for (consumer, durable) in &positions {
            assert!(
                durable.get(),
                "seed {seed}: the partition has stopped, and {consumer} waits for its answer"
            );
        }
        io.shut_down();
    }
    assert!(replacing > 3, "{replacing} stops met a replacement");
}

/// Moments that the tests below are about.
#[derive(Clone, Copy, Debug, Default)]
struct Moments {
    /// A data file is to be kept for use, and the kept one to be used.
    both_want_free: u64,
    /// A reader opens a segment whose name is being removed.
    opened_while_removed: u64,
    /// A segment gets its names when the partition begins to stop, or to be deleted.
    ended_in_roll: u64,
    /// The same while one is being removed.
    ended_in_trim: u64,
    /// Readers that got their events.
    read: u64,
    /// Readers that were told that these had gone.
    trimmed: u64,
}

/// How a history ends.
#[derive(Clone, Copy, PartialEq)]
enum Ending {
    Stop,
    Delete,
}

fn trimming_spec() -> PartitionSpec {
    let mut spec = spec(PartitionKind::Default, Durability::Synced);
    spec.topic.retention = Retention {
        bytes_max: Some(350 << 10),
        ..Retention::default()
    };
    // Nothing is in memory: readers go to the files.
    spec.limits.shard_recent_bytes_max = 0;
    spec
}

/// The event of this number: five fill a segment.
fn content(n: u64) -> Content {
    let fill = u8::try_from(n % 251).unwrap();
    (format!("{{\"n\":{n}}}").into_bytes(), vec![fill; 10 << 10])
}

/// Reads one event, which is what was stored, or was trimmed.
async fn read_one(partition: Open, n: u64, outcomes: Rc<RefCell<Vec<Result<bool, String>>>>) {
    let limits = ReadLimits {
        events_max: 1,
        bytes_max: 1 << 20,
        with_data: true,
    };
    let outcome = match partition.read(id(n), limits).await {
        Ok(slice) => match slice.batches.first().and_then(|batch| batch.data().cloned()) {
            Some(data) if data == content(n).1 => Ok(true),
            found => Err(format!(
                "event {n} has {:?} bytes of other data",
                found.map(|data| data.len())
            )),
        },
        Err(error) if error.code == ErrorCode::Trimmed => Ok(false),
        Err(error) => Err(format!("reading event {n}: {error}")),
    };
    outcomes.borrow_mut().push(outcome);
}

struct History {
    io: SimIo,
    partition: Open,
    random: Random,
    sent: Vec<Sent>,
    outcomes: Rc<RefCell<Vec<Result<bool, String>>>>,
    moments: Moments,
}

impl History {
    fn new(seed: u64) -> Self {
        let io = SimIo::stepping(&Image::new(), seed);
        let partition = open(&io, trimming_spec()).unwrap();
        Self {
            io,
            partition,
            random: Random::new(seed),
            sent: Vec::new(),
            outcomes: Rc::default(),
            moments: Moments::default(),
        }
    }

    fn work(&mut self) {
        let (io, partition) = (self.io.clone(), Rc::clone(&self.partition));
        for n in 0..40 {
            self.sent.push(send(&partition, vec![content(n)], (1, 0, n)));
            settle(&io);
        }
        for _ in 0..1000 {
            let pending = self.sent.iter().filter(|sent| sent.outcome.borrow().is_none());
            if pending.count() < 8 && self.random.chance(40) {
                let n = self.sent.len() as u64;
                self.sent.push(send(&partition, vec![content(n)], (1, 0, n)));
            }
            if self.random.chance(15) {
                let looking = Rc::clone(&partition);
                let now_us = io.now_us();
                io.spawn(async move { looking.retain(now_us).await });
            }
            let (first, end) = (partition.trim_end().get(), partition.visible_end().get());
            // Few files are kept open, so that each of several readers at different places opens its own.
            let is_calm = io.under_way().len() < 8;
            let readers = if is_calm && first < end && self.random.chance(15) {
                6
            } else {
                0
            };
            for _ in 0..readers {
                let span = if self.random.chance(40) { 6 } else { end - first };
                let n = first + self.random.below(span.min(end - first));
                io.spawn(read_one(Rc::clone(&partition), n, Rc::clone(&self.outcomes)));
            }
            let lines = io.under_way();
            let has = |what: &str| lines.iter().any(|line| line.contains(what));
            self.moments.both_want_free +=
                u64::from(has(" to /p/free-0.data") && has("rename /p/free-0.data to"));
            let removed = lines.iter().find_map(|line| line.strip_prefix("remove "));
            self.moments.opened_while_removed +=
                u64::from(removed.is_some_and(|path| has(&format!("open {path}"))));
            io.step();
            assert_eq!((partition.poison(), partition.read_only()), (None, None));
        }
    }

    /// Begins the end, at a moment when a name changes if there is one soon.
    fn end(&mut self, ending: Ending) {
        let is_roll = self.random.chance(50);
        for _ in 0..300 {
            let lines = self.io.under_way();
            let wanted = match is_roll {
                true => "rename /p/next.meta to",
                false => "remove /p/0",
            };
            if lines.iter().any(|line| line.starts_with(wanted)) {
                match is_roll {
                    true => self.moments.ended_in_roll += 1,
                    false => self.moments.ended_in_trim += 1,
                }
                break;
            }
            let n = self.sent.len() as u64;
            if self
                .sent
                .last()
                .is_none_or(|sent| sent.outcome.borrow().is_some())
            {
                self.sent.push(send(&self.partition, vec![content(n)], (1, 0, n)));
            }
            self.io.step();
        }
        let ended = match ending {
            Ending::Stop => stop(&self.io, &self.partition),
            Ending::Delete => {
                let ended = Rc::new(Cell::new(false));
                let (gone, noted, io) = (Rc::clone(&self.partition), Rc::clone(&ended), self.io.clone());
                self.io.spawn(async move {
                    gone.delete().await;
                    io.remove("/p".as_ref()).await.unwrap();
                    noted.set(true);
                });
                ended
            }
        };
        while !ended.get() {
            assert!(self.io.step(), "the end waits for something that never happens");
        }
        for sent in &self.sent {
            assert!(
                sent.outcome.borrow().is_some(),
                "it has ended, and batch {} is not answered",
                sent.sequence
            );
        }
    }

    fn judge(&mut self, ending: Ending) -> Result<(), String> {
        if ending == Ending::Delete {
            settle(&self.io);
            assert_eq!(self.partition.read_only(), None);
            let left = self.io.settled();
            return match left.is_empty() {
                true => Ok(()),
                false => Err(format!(
                    "files of a deleted partition are left: {:?}",
                    left.keys()
                )),
            };
        }
        let keep_percent = self.random.below(101);
        let image = self.io.crash(&mut self.random, keep_percent, Sectors::Small);
        let shown = self.partition.trim_end();
        settle(&self.io);
        assert_eq!(
            (self.partition.poison(), self.partition.read_only()),
            (None, None)
        );
        let io = SimIo::immediate(&image);
        let again = open(&io, trimming_spec())?;
        if let Some(reason) = again.read_only() {
            return Err(reason);
        }
        let answered = self.sent.iter().filter(|sent| sent.acknowledged().is_some());
        let (first, end) = (again.trim_end(), answered.count() as u64);
        let found = io.block_on(read_all(Rc::clone(&again)))?;
        io.shut_down();
        if first < shown || found.keys().copied().ne(first.get()..end) {
            return Err(format!("{:?} are there of {first} to {end}", found.keys()));
        }
        match found.iter().find(|(n, found)| **found != content(**n)) {
            Some((n, _)) => Err(format!("event {n} is changed")),
            None => Ok(()),
        }
    }

    fn run(seed: u64, ending: Ending) -> Moments {
        let mut history = Self::new(seed);
        history.work();
        history.end(ending);
        if let Err(reason) = history.judge(ending) {
            panic!("seed {seed}: {reason}");
        }
        for outcome in history.outcomes.take() {
            match outcome {
                Ok(true) => history.moments.read += 1,
                Ok(false) => history.moments.trimmed += 1,
                // Its files went with the topic.
                Err(_) if ending == Ending::Delete => {}
                Err(reason) => panic!("seed {seed}: {reason}"),
            }
        }
        history.io.shut_down();
        history.moments
    }
}

fn sum(ending: Ending, seeds: std::ops::Range<u64>) -> Moments {
    let mut all = Moments::default();
    for seed in seeds {
        let one = History::run(seed, ending);
        all.both_want_free += one.both_want_free;
        all.opened_while_removed += one.opened_while_removed;
        all.ended_in_roll += one.ended_in_roll;
        all.ended_in_trim += one.ended_in_trim;
        all.read += one.read;
        all.trimmed += one.trimmed;
    }
    println!("{all:?}");
    all
}

#[test]
fn rolls_trims_and_readers_want_the_same_files_and_the_partition_stops() {
    let all = sum(Ending::Stop, 0..40);
    assert!(all.both_want_free > 0 && all.opened_while_removed > 0, "{all:?}");
    assert!(all.ended_in_roll > 5 && all.ended_in_trim > 5, "{all:?}");
    assert!(all.read > 100 && all.trimmed > 0, "{all:?}");
}

#[test]
fn a_topic_is_deleted_while_a_segment_begins_or_goes() {
    let all = sum(Ending::Delete, 100..140);
    assert!(all.ended_in_roll > 5 && all.ended_in_trim > 5, "{all:?}");
}

#[test]
fn a_segment_of_which_nobody_knows_whether_it_went_is_read() {
    let io = SimIo::stepping(&Image::new(), 3);
    let mut spec = trimming_spec();
    spec.topic.retention = Retention::default();
    let partition = open(&io, spec).unwrap();
    for n in 0..40 {
        send(&partition, vec![content(n)], (1, 0, n));
        settle(&io);
    }
    partition.set_retention(Retention {
        bytes_max: Some(1),
        ..Retention::default()
    });
    let (looking, now_us) = (Rc::clone(&partition), io.now_us());
    io.spawn(async move { looking.retain(now_us).await });
    io.run_tasks();
    while !is_under_way(&io, |line| line.starts_with("remove /p/")) {
        assert!(io.step(), "a segment goes");
    }
    io.place_fault(Fault::SyncDirError, 0);
    settle(&io);
    assert_eq!(io.faults_met(), [Fault::SyncDirError]);
    assert!(partition.poison().is_some() && partition.trim_end() == id(0));
    // In between, other segments' files take the place of its own.
    let outcomes = Rc::default();
    for n in (0..40).chain(0..5) {
        io.block_on(read_one(Rc::clone(&partition), n, Rc::clone(&outcomes)));
    }
    for outcome in outcomes.take() {
        assert_eq!(outcome, Ok(true));
    }
    io.shut_down();
}
