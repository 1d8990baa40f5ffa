//! Faults that nobody reports: a write that never landed or landed elsewhere, a directory's sync that was none, a flipped
//! bit. Wrong content is never served, and what anything durable vouches for is never silently gone.

use std::rc::Rc;

use mofka_engine::partition::{Partition, ReadLimits};
use mofka_engine::sim::{Fault, Image, Operation, Random, Sectors, SimIo, flip_bit};
use mofka_log::{Durability, PartitionKind};

use crate::judge::PRODUCER;
use crate::model::{Content, id, open, random_events, send, spec};
use crate::sweep::Sweep;

/// What follows the fault before the machine stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// Perhaps nothing: the last batches may have no witness.
    Bare,
    /// Two more batches, each durable before the next is sent.
    Batches,
    /// The partition is left alone until it gave its last batch a witness.
    Idle,
    /// An orderly stop.
    Stop,
}

const ENDINGS: [Ending; 4] = [Ending::Bare, Ending::Batches, Ending::Idle, Ending::Stop];

#[derive(Clone, Copy, Default, Debug)]
struct Tally {
    cases: u64,
    /// Opening or reading said that something is wrong.
    detected: u64,
    /// Nothing is missing.
    intact: u64,
    /// Events are missing that nothing vouched for.
    shortened: u64,
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.cases += other.cases;
        self.detected += other.detected;
        self.intact += other.intact;
        self.shortened += other.shortened;
    }

    fn of(all: &[Self]) -> Self {
        let mut sum = Self::default();
        for one in all {
            sum.add(one);
        }
        sum
    }

    fn text(&self) -> String {
        format!(
            "{} found out, {} with nothing missing, {} without what nothing vouched for",
            self.detected, self.intact, self.shortened
        )
    }
}

struct Story {
    io: SimIo,
    partition: Rc<Partition<SimIo>>,
    random: Random,
    events: Vec<Content>,
    sequence: u64,
}

impl Story {
    fn begin(seed: u64, fault: Option<(Fault, u64)>) -> Result<Self, String> {
        let io = SimIo::stepping(&Image::new(), seed);
        if let Some((fault, n)) = fault {
            io.place_fault(fault, n);
        }
        let partition = open(&io, spec(PartitionKind::Default, Durability::Synced))?;
        let random = Random::new(seed);
        Ok(Self {
            io,
            partition,
            random,
            events: Vec::new(),
            sequence: 0,
        })
    }

    fn send(&mut self) {
        let events = random_events(&mut self.random, self.sequence);
        self.events.extend(events.clone());
        send(&self.partition, events, (PRODUCER, 0, self.sequence));
        self.sequence += 1;
    }

    /// All is answered; returns the end of what is durable as far as anybody was told.
    fn drain(&self) -> Result<u64, String> {
        self.io.run_tasks();
        while self.io.is_busy() {
            self.io.step();
        }
        let end = self.partition.visible_end().get();
        if end != self.events.len() as u64 {
            return Err(format!(
                "{} events were sent and {end} acknowledged",
                self.events.len()
            ));
        }
        Ok(end)
    }

    fn work(&mut self, batches: u64) -> Result<u64, String> {
        // From the start there is a cursors file, for the witness.
        self.partition.acknowledge("reader", id(0), Box::new(|_| ()));
        for _ in 0..batches {
            self.send();
            for _ in 0..self.random.below(12) {
                self.io.step();
            }
        }
        self.drain()
    }

    fn end(&mut self, ending: Ending) -> Result<(), String> {
        match ending {
            Ending::Bare => {}
            Ending::Batches => {
                for _ in 0..2 {
                    self.send();
                    self.drain()?;
                }
            }
            Ending::Idle => {
                // Each step that finds nothing in flight lets a second go by.
                for _ in 0..60 {
                    self.io.step();
                }
            }
            Ending::Stop => {
                let partition = Rc::clone(&self.partition);
                self.io.block_on(async move { partition.stop().await });
            }
        }
        Ok(())
    }
}

/// Opens what is left and reads all of it.
fn judge(image: &Image, events: &[Content], vouched_end: u64) -> Result<Tally, String> {
    let io = SimIo::immediate(image);
    let opened = open(&io, spec(PartitionKind::Default, Durability::Synced));
    let outcome = match opened {
        Err(_) => Ok(true),
        Ok(partition) => read(&io, &partition, events),
    };
    let end = outcome?;
    io.shut_down();
    let mut tally = Tally {
        cases: 1,
        ..Tally::default()
    };
    match end {
        true => tally.detected = 1,
        false => {
            let again = SimIo::immediate(image);
            let partition = open(&again, spec(PartitionKind::Default, Durability::Synced))?;
            let end = partition.visible_end().get();
            again.shut_down();
            if end < vouched_end {
                return Err(format!(
                    "events {end} to {vouched_end} are silently gone although something durable vouches for them"
                ));
            }
            if end == events.len() as u64 {
                tally.intact = 1;
            } else {
                tally.shortened = 1;
            }
        }
    }
    Ok(tally)
}

/// Reads to the end and compares. Returns whether anything said that something is wrong.
fn read(io: &SimIo, partition: &Rc<Partition<SimIo>>, events: &[Content]) -> Result<bool, String> {
    let mut next = partition.trim_end();
    let mut detected = partition.read_only().is_some();
    while next < partition.visible_end() {
        let limits = ReadLimits {
            events_max: 16,
            bytes_max: 1 << 20,
            with_data: true,
        };
        let reader = Rc::clone(partition);
        let Ok(slice) = io.block_on(async move { reader.read(next, limits).await }) else {
            detected = true;
            break;
        };
        for batch in &slice.batches {
            let data = batch.data().cloned().unwrap_or_default();
            for (id, event) in (batch.base_event_id().get()..).zip(batch.events()) {
                let start = usize::try_from(event.data_offset).unwrap();
                let end = start + usize::try_from(event.data_bytes).unwrap();
                let content = (event.metadata.to_vec(), data[start..end].to_vec());
                let expected = usize::try_from(id).ok().and_then(|place| events.get(place));
                if expected != Some(&content) {
                    return Err(format!("event {id} is served with wrong content"));
                }
            }
        }
        if slice.end_event_id <= next {
            return Err(format!("reading at {next} makes no progress"));
        }
        next = slice.end_event_id;
    }
    Ok(detected)
}

fn one(seed: u64, fault: Fault, n: u64, ending: Ending) -> Result<Tally, String> {
    let mut story = Story::begin(seed, Some((fault, n)))?;
    let end = story.work(8)?;
    let hit_before = !story.io.faults_met().is_empty();
    story.end(ending)?;
    // What the last batches, the mark or the end beside the cursors vouch for. A name has only the latter.
    let vouched = match (fault, ending) {
        (_, Ending::Bare) | (Fault::LostSyncDir, Ending::Batches) => false,
        _ => hit_before,
    };
    let vouched_end = if vouched { end } else { 0 };
    read(&story.io, &story.partition, &story.events)?;
    let mut all = Tally::default();
    for keep_percent in [0, 50, 100] {
        let image = story.io.crash(&mut story.random, keep_percent, Sectors::Small);
        let tally = judge(&image, &story.events, vouched_end)
            .map_err(|reason| format!("{keep_percent}% of the sectors kept: {reason}"))?;
        all.add(&tally);
    }
    story.io.shut_down();
    Ok(all)
}

fn silent(seed: u64) -> Result<Tally, String> {
    let mut all = Tally::default();
    let mut story = Story::begin(seed, None)?;
    story.work(8)?;
    let counts = [Operation::Write, Operation::SyncDir].map(|operation| story.io.operations(operation));
    story.io.shut_down();
    for fault in Fault::SILENT {
        let count = if fault == Fault::LostSyncDir {
            counts[1]
        } else {
            counts[0]
        };
        for n in 0..count {
            for ending in ENDINGS {
                let tally = one(seed, fault, n, ending)
                    .map_err(|reason| format!("{fault:?} at {n}, then {ending:?}: {reason}"))?;
                all.add(&tally);
            }
        }
    }
    Ok(all)
}

#[test]
fn silent_faults_are_found_out_when_anything_vouches() {
    let sweep = Sweep::of("silent_faults_are_found_out_when_anything_vouches", 12);
    let all = Tally::of(&sweep.run(silent));
    sweep.report(
        all.cases,
        5000,
        &format!("states after one silent fault: {}", all.text()),
    );
    assert!(
        all.detected * 10 > all.cases && all.intact > 0 && all.shortened > 0,
        "the faults hit nothing that matters"
    );
}

fn flipped(seed: u64) -> Result<Tally, String> {
    let mut story = Story::begin(seed, None)?;
    let end = story.work(8)?;
    story.end(Ending::Stop)?;
    let image = story.io.settled();
    let mut all = Tally::default();
    for _ in 0..40 {
        let mut image = image.clone();
        let Some((path, at)) = flip_bit(&mut image, &mut story.random) else {
            continue;
        };
        let tally = judge(&image, &story.events, end)
            .map_err(|reason| format!("a bit of byte {at} of {}: {reason}", path.display()))?;
        all.add(&tally);
    }
    story.io.shut_down();
    Ok(all)
}

#[test]
fn a_flipped_bit_is_never_served_and_loses_nothing_silently() {
    let sweep = Sweep::of("a_flipped_bit_is_never_served_and_loses_nothing_silently", 60);
    let all = Tally::of(&sweep.run(flipped));
    sweep.report(all.cases, 2000, &format!("flipped bits: {}", all.text()));
    assert!(
        all.detected * 4 > all.cases && all.shortened == 0,
        "bits are flipped where nobody looks"
    );
}
