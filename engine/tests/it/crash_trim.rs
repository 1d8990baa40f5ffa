//! Crash images while retention lets segments go: what is there after recovery is a range without holes, it begins no
//! earlier than anybody was told, and every acknowledged event in it is there, byte for byte.

use std::cell::Cell;
use std::rc::Rc;

use mofka_engine::io::Io;
use mofka_engine::partition::{Partition, PartitionSpec};
use mofka_engine::sim::{Image, Random, Sectors, SimIo};
use mofka_log::{AcknowledgedBy, Durability, PartitionKind, Retention};

use crate::model::{Content, Sent, id, open, random_events, read_all, send, spec};
use crate::world::any_sectors;

const PRODUCER: u64 = 0xf00d;
const KEEP_PERCENT: [u64; 4] = [0, 30, 70, 100];
const READER: &str = "reader";

/// What a history lets go.
fn policy(seed: u64) -> Retention {
    let mut retention = Retention::default();
    match seed % 4 {
        // Every segment, as soon as it is sealed: also the one whose footer has the producers.
        0 => retention.bytes_max = Some(1),
        1 => retention.bytes_max = Some(200 << 10),
        2 => retention.acknowledged = Some(AcknowledgedBy::EveryConsumer),
        _ => retention.age_max_ms = Some(1),
    }
    retention
}

fn spec_of(retention: &Retention) -> PartitionSpec {
    let mut spec = spec(PartitionKind::Default, Durability::Synced);
    spec.topic.retention = retention.clone();
    spec
}

#[derive(Clone, Copy, Default)]
struct Tally {
    images: u64,
    /// Images in which something was trimmed.
    trimmed: u64,
    /// Images that were made while a trim was under way: the disk says more or less than the partition.
    between: u64,
    /// Images from which every sealed segment is gone.
    only_active: u64,
}

struct History {
    seed: u64,
    random: Random,
    retention: Retention,
    /// Every batch that is in the log as far as anybody was told, from the first event on, trimmed or not.
    settled: Vec<Vec<Content>>,
    /// The largest `trim_end` that the partition ever showed.
    shown_trim_end: u64,
    cursor: (u64, u64),
    tally: Tally,
}

struct Known<'a> {
    history: &'a History,
    sent: &'a [Sent],
    visible_end: u64,
    cursor: (u64, u64),
}

impl History {
    fn run(seed: u64, lives: u64, batches: u64) -> Tally {
        let mut history = Self {
            seed,
            random: Random::new(seed),
            retention: policy(seed),
            settled: Vec::new(),
            shown_trim_end: 0,
            cursor: (0, 0),
            tally: Tally::default(),
        };
        let mut image = Image::new();
        for life in 0..lives {
            image = history.live(&image, life, batches);
        }
        history.tally
    }

    fn live(&mut self, image: &Image, life: u64, batches: u64) -> Image {
        let io = SimIo::stepping(image, self.seed * 1000 + life);
        let partition = open(&io, spec_of(&self.retention)).unwrap();
        assert!(partition.trim_end().get() >= self.shown_trim_end);
        let mut sent: Vec<Sent> = Vec::new();
        let durable_cursor = Rc::new(Cell::new(partition.cursor(READER).map_or(0, |next| next.get())));
        let mut asked_cursor = durable_cursor.get();
        let last_step = 30 + self.random.below(batches * 14);
        for _ in 0..last_step {
            if (sent.len() as u64) < batches && self.random.chance(45) {
                let sequence = (self.settled.len() + sent.len()) as u64;
                let events = random_events(&mut self.random, sequence);
                sent.push(send(&partition, events, (PRODUCER, 0, sequence)));
            }
            if self.random.chance(20) {
                asked_cursor = partition.visible_end().get();
                let durable = Rc::clone(&durable_cursor);
                partition.acknowledge(
                    READER,
                    id(asked_cursor),
                    Box::new(move |stored| durable.set(durable.get().max(stored.unwrap().get()))),
                );
            }
            if self.random.chance(35) {
                let looking = Rc::clone(&partition);
                // An hour later than anything was accepted.
                let now_us = io.now_us() + 3_600_000_000;
                io.spawn(async move { looking.retain(now_us).await });
            }
            if !io.step() && sent.len() as u64 >= batches {
                break;
            }
            self.shown_trim_end = self.shown_trim_end.max(partition.trim_end().get());
            let cursor = (durable_cursor.get(), asked_cursor);
            self.crash_here(&io, &partition, &sent, cursor);
        }
        self.shown_trim_end = self.shown_trim_end.max(partition.trim_end().get());
        let keep = KEEP_PERCENT[self.random.below(4) as usize];
        let image = io.crash(&mut self.random, keep, Sectors::Small);
        self.cursor = (durable_cursor.get(), asked_cursor);
        self.inherit(&image, &sent);
        io.shut_down();
        image
    }

    fn crash_here(&mut self, io: &SimIo, partition: &Partition<SimIo>, sent: &[Sent], cursor: (u64, u64)) {
        let trim_end = partition.trim_end().get();
        for keep_percent in KEEP_PERCENT {
            let sectors = any_sectors(&mut self.random);
            let image = io.crash(&mut self.random, keep_percent, sectors);
            let known = Known {
                history: self,
                sent,
                visible_end: partition.visible_end().get(),
                cursor,
            };
            let found = match known.check(&image) {
                Ok(found) => found,
                Err(reason) => panic!(
                    "seed {}, image {}, {keep_percent}% of the {sectors:?} sectors kept: {reason}\n\
                     to repeat: MOFKA_CRASH_SEED={} cargo test -p mofka-engine crash_trim",
                    self.seed, self.tally.images, self.seed
                ),
            };
            self.tally.images += 1;
            self.tally.trimmed += u64::from(found.trim_end > 0);
            self.tally.between += u64::from(found.trim_end != trim_end);
            self.tally.only_active += u64::from(found.trim_end > 0 && found.segments == 1);
        }
    }

    fn inherit(&mut self, image: &Image, sent: &[Sent]) {
        let io = SimIo::immediate(image);
        let partition = open(&io, spec_of(&self.retention)).unwrap();
        let end = partition.visible_end().get();
        let mut events: u64 = self.settled.iter().map(|batch| batch.len() as u64).sum();
        for batch in sent {
            if events >= end {
                break;
            }
            events += batch.events.len() as u64;
            self.settled.push(batch.events.clone());
        }
        assert_eq!(events, end, "whole batches survive");
        self.shown_trim_end = self.shown_trim_end.max(partition.trim_end().get());
        io.shut_down();
    }
}

struct Recovered {
    trim_end: u64,
    segments: usize,
}

impl Known<'_> {
    /// Recovers the image and holds it against what was known.
    fn check(&self, image: &Image) -> Result<Recovered, String> {
        let io = SimIo::immediate(image);
        let outcome = self.check_on(&io);
        io.shut_down();
        outcome
    }

    fn check_on(&self, io: &SimIo) -> Result<Recovered, String> {
        let partition = open(io, spec_of(&self.history.retention))?;
        if let Some(reason) = partition.read_only() {
            return Err(format!("an ordinary crash was taken for damage: {reason}"));
        }
        let (trim_end, end) = (partition.trim_end().get(), partition.visible_end().get());
        let shown = self.history.shown_trim_end;
        if trim_end < shown {
            return Err(format!(
                "trim_end is {trim_end}, and {shown} had been shown: trimmed events came back"
            ));
        }
        if end < self.visible_end {
            return Err(format!(
                "the end is {end}, and {} had been shown",
                self.visible_end
            ));
        }
        let found = io.block_on(read_all(Rc::clone(&partition)))?;
        if found.keys().copied().ne(trim_end..end) {
            return Err(format!("there are holes between {trim_end} and {end}"));
        }
        let mut next = 0_u64;
        let batches = self.history.settled.iter().map(|events| (events, true));
        let sent = self
            .sent
            .iter()
            .map(|sent| (&sent.events, sent.acknowledged().is_some()));
        for (events, is_promised) in batches.chain(sent) {
            let batch_end = next + events.len() as u64;
            if is_promised && end < batch_end {
                return Err(format!(
                    "events {next} to {batch_end} were acknowledged, and the end is {end}"
                ));
            }
            if (next + 1..batch_end).contains(&trim_end) || (next + 1..batch_end).contains(&end) {
                return Err(format!(
                    "batch {next} to {batch_end} is half in {trim_end} to {end}"
                ));
            }
            for (n, content) in events.iter().enumerate() {
                let id = next + n as u64;
                if (trim_end..end).contains(&id) && found.get(&id) != Some(content) {
                    return Err(format!("event {id} is changed"));
                }
            }
            next = batch_end;
        }
        if end > next {
            return Err(format!("the end is {end}, and only {next} events were ever sent"));
        }
        self.check_cursor(&partition)?;
        let left: Vec<String> = io
            .settled()
            .into_keys()
            .filter_map(|path| path.file_name()?.to_str().map(str::to_owned))
            .filter(|name| {
                name.strip_suffix(".data")
                    .is_some_and(|base| base.parse().is_ok_and(|base: u64| base < trim_end))
            })
            .collect();
        if !left.is_empty() {
            return Err(format!("files of trimmed segments take space: {left:?}"));
        }
        self.resend(io, &partition, end)?;
        Ok(Recovered {
            trim_end,
            segments: partition.segment_count(),
        })
    }

    fn check_cursor(&self, partition: &Partition<SimIo>) -> Result<(), String> {
        let cursor = partition.cursor(READER).map_or(0, |next| next.get());
        let (durable, asked) = self.cursor;
        if !(durable..=asked).contains(&cursor) {
            return Err(format!(
                "the cursor is at {cursor}, and {:?} was known",
                self.cursor
            ));
        }
        if self.history.retention.acknowledged.is_some() && cursor < partition.trim_end().get() {
            return Err(format!(
                "events up to {} were let go, and the consumer is at {cursor}",
                partition.trim_end()
            ));
        }
        Ok(())
    }

    /// A producer that got no answers sends its last batches again: also those that were trimmed meanwhile are known.
    fn resend(&self, io: &SimIo, partition: &Rc<Partition<SimIo>>, end: u64) -> Result<(), String> {
        let settled = &self.history.settled;
        // Of what earlier lives settled only as many as are surely remembered: the answers to a producer's last 16 batches
        // are, and at a roll up to 12 of them may wait for the next segment.
        let from = settled.len().saturating_sub(4);
        let mut base: u64 = settled.iter().take(from).map(|events| events.len() as u64).sum();
        let all: Vec<&Vec<Content>> = settled
            .iter()
            .chain(self.sent.iter().map(|sent| &sent.events))
            .collect();
        for (n, events) in all.iter().enumerate().skip(from) {
            let again = send(partition, (*events).clone(), (PRODUCER, 0, n as u64));
            while io.step() && again.outcome.borrow().is_none() {}
            io.run_tasks();
            let appended = again
                .acknowledged()
                .ok_or_else(|| format!("sending batch {n} again gave {:?}", again.outcome.borrow()))?;
            if appended.base_event_id.get() != base || appended.duplicate != (base < end) {
                return Err(format!(
                    "sending batch {n} again gave {appended:?}; it belongs at {base}, and the end is {end}"
                ));
            }
            base += events.len() as u64;
        }
        Ok(())
    }
}

#[test]
fn crash_trim_never_brings_events_back_and_loses_none_that_stay() {
    let seeds = match std::env::var("MOFKA_CRASH_SEED") {
        Ok(seed) => vec![seed.parse().expect("MOFKA_CRASH_SEED is a number")],
        Err(_) => (1..17).collect::<Vec<u64>>(),
    };
    let started = std::time::Instant::now();
    let mut all = Tally::default();
    for seed in &seeds {
        let tally = History::run(*seed, 4, 12);
        all.images += tally.images;
        all.trimmed += tally.trimmed;
        all.between += tally.between;
        all.only_active += tally.only_active;
    }
    println!(
        "{} crash images of {} histories in {:.1} s: {} were trimmed, {} of them in the middle of a trim, {} to the segment \
         that is written",
        all.images,
        seeds.len(),
        started.elapsed().as_secs_f64(),
        all.trimmed,
        all.between,
        all.only_active
    );
    if seeds.len() > 1 {
        assert!(all.images >= 5_000, "only {} images were checked", all.images);
        assert!(all.trimmed * 4 > all.images, "too little was trimmed");
        assert!(
            all.between * 100 > all.images && all.only_active * 50 > all.images,
            "too few images are of the moments that matter"
        );
    }
}
