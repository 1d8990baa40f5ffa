//! Crash images: at every write and sync boundary of a random history, the disk may have kept, dropped or torn what
//! was not synced; then the real recovery runs, and everything that was acknowledged must be there, byte for byte,
//! and nothing half-there.

use std::cell::Cell;
use std::rc::Rc;

use mofka_engine::partition::Partition;
use mofka_engine::sim::{Image, Random, Sectors, SimIo};
use mofka_log::{Durability, PartitionKind, Verdict};

use crate::model::{Content, Sent, open, read_all, send, spec};

const PRODUCER: u64 = 0xfeed;
/// Of what is not synced, this much is there after the crash.
const KEEP_PERCENT: [u64; 5] = [0, 20, 50, 80, 100];

/// One seed's history: several lives of one partition, each ended by a crash.
struct History {
    seed: u64,
    random: Random,
    /// The batches of all lives that are in the log as far as anybody was told, in order.
    settled: Vec<Vec<Content>>,
    next_sequence: u64,
    tally: Tally,
}

/// What was looked at: a test that never sees an acknowledged batch proves nothing.
#[derive(Clone, Copy, Default)]
struct Tally {
    images: u64,
    /// Images that had to hold a batch which was acknowledged in the life that the crash ended.
    with_acknowledged: u64,
    /// Images in which something that was not acknowledged is missing.
    with_loss: u64,
}

/// What was known to the outside at the moment of a crash.
struct Known<'a> {
    settled: &'a [Vec<Content>],
    sent: &'a [Sent],
    visible_end: u64,
    cursor: (u64, u64),
}

impl History {
    fn run(seed: u64, lives: u64, batches: u64) -> Tally {
        let random = Random::new(seed);
        let mut history = Self {
            seed,
            random,
            settled: Vec::new(),
            next_sequence: 0,
            tally: Tally::default(),
        };
        let mut image = Image::new();
        for life in 0..lives {
            image = history.live(&image, life, batches);
        }
        history.tally
    }

    /// Runs one life and returns the image its crash left.
    fn live(&mut self, image: &Image, life: u64, batches: u64) -> Image {
        let io = SimIo::stepping(image, self.seed * 1000 + life);
        let partition = open(&io, spec(PartitionKind::Default, Durability::Synced)).unwrap();
        self.settle(&io, &partition);
        let mut sent: Vec<Sent> = Vec::new();
        let last_step = 20 + self.random.below(batches * 12);
        let mut cursor = CursorWatch::of(&partition);
        for step in 0.. {
            if (sent.len() as u64) < batches && self.random.chance(45) {
                let events = crate::model::random_events(&mut self.random, self.next_sequence);
                sent.push(send(&partition, events, (PRODUCER, 0, self.next_sequence)));
                self.next_sequence += 1;
            }
            if self.random.chance(15) {
                cursor.move_to(&partition, partition.visible_end().get());
            }
            let moved = io.step();
            let known = Known {
                settled: &self.settled,
                sent: &sent,
                visible_end: partition.visible_end().get(),
                cursor: cursor.bounds(),
            };
            Self::crash_here(&io, &mut self.random, self.seed, &known, &mut self.tally);
            if step >= last_step || (!moved && sent.len() as u64 >= batches) {
                break;
            }
        }
        let keep = KEEP_PERCENT[self.random.below(5) as usize];
        let image = io.crash(&mut self.random, keep, Sectors::Small);
        self.inherit(&image, &sent);
        io.shut_down();
        image
    }

    /// Looks at what every kind of crash at this moment would leave.
    fn crash_here(io: &SimIo, random: &mut Random, seed: u64, known: &Known<'_>, tally: &mut Tally) {
        for keep_percent in KEEP_PERCENT {
            for sectors in [Sectors::Small, Sectors::Large] {
                let image = io.crash(random, keep_percent, sectors);
                match check(&image, known) {
                    Ok(lost) => tally.with_loss += u64::from(lost),
                    Err(reason) => panic!(
                        "seed {seed}, image {}, {keep_percent}% of the {sectors:?} sectors kept: {reason}\n\
                         to repeat: MOFKA_CRASH_SEED={seed} cargo test -p mofka-engine crash",
                        tally.images
                    ),
                }
                tally.images += 1;
                tally.with_acknowledged +=
                    u64::from(known.sent.iter().any(|batch| batch.acknowledged().is_some()));
            }
        }
    }

    /// The next life goes on from what this crash left: some unacknowledged batches may have survived.
    fn inherit(&mut self, image: &Image, sent: &[Sent]) {
        let io = SimIo::immediate(image);
        let partition = open(&io, spec(PartitionKind::Default, Durability::Synced)).unwrap();
        let found = io.block_on(read_all(partition)).unwrap();
        let mut events = self.settled.iter().map(Vec::len).sum::<usize>();
        for batch in sent {
            if events >= found.len() {
                break;
            }
            events += batch.events.len();
            self.settled.push(batch.events.clone());
        }
        io.shut_down();
        // Whoever sends a batch again after this sends the first one that is missing.
        self.next_sequence = self.settled.len() as u64;
    }

    /// What a recovered partition shows stays, so it is known from the start of the life.
    fn settle(&mut self, io: &SimIo, partition: &Rc<Partition<SimIo>>) {
        let events: usize = self.settled.iter().map(Vec::len).sum();
        assert_eq!(
            partition.visible_end().get(),
            events as u64,
            "recovering twice gives the same"
        );
        while io.is_busy() {
            io.step();
        }
    }
}

/// What is known of a cursor: what was asked for, and what was acknowledged as durable.
struct CursorWatch {
    asked: u64,
    durable: Rc<Cell<u64>>,
}

impl CursorWatch {
    fn of(partition: &Partition<SimIo>) -> Self {
        let found = partition.cursor("reader").map_or(0, |next| next.get());
        Self {
            asked: found,
            durable: Rc::new(Cell::new(found)),
        }
    }

    fn move_to(&mut self, partition: &Rc<Partition<SimIo>>, next: u64) {
        self.asked = self.asked.max(next);
        let durable = Rc::clone(&self.durable);
        partition.acknowledge(
            "reader",
            crate::model::id(next),
            Box::new(move |stored| {
                let stored = stored.unwrap().get();
                durable.set(durable.get().max(stored));
            }),
        );
    }

    fn bounds(&self) -> (u64, u64) {
        (self.durable.get(), self.asked)
    }
}

/// Recovers the image and holds it against what was known. Returns whether anything that was sent is missing.
fn check(image: &Image, known: &Known<'_>) -> Result<bool, String> {
    let io = SimIo::immediate(image);
    let outcome = check_on(&io, known);
    io.shut_down();
    outcome
}

fn check_on(io: &SimIo, known: &Known<'_>) -> Result<bool, String> {
    let partition = open(io, spec(PartitionKind::Default, Durability::Synced))?;
    if let Some(reason) = partition.read_only() {
        return Err(format!("an ordinary crash was taken for damage: {reason}"));
    }
    if matches!(partition.verdict(), Verdict::Damaged { .. }) {
        return Err(format!(
            "an ordinary crash was taken for damage: {}",
            partition.verdict().prose()
        ));
    }
    let found = io.block_on(read_all(Rc::clone(&partition)))?;
    let mut id = 0_u64;
    for events in known.settled {
        for content in events {
            if found.get(&id) != Some(content) {
                return Err(format!("event {id} of an earlier life is lost or changed"));
            }
            id += 1;
        }
    }
    let mut ended = false;
    for batch in known.sent {
        let there = (0..batch.events.len() as u64)
            .filter(|n| found.contains_key(&(id + n)))
            .count();
        if let Some(acknowledged) = batch.acknowledged() {
            if acknowledged.base_event_id.get() != id || acknowledged.duplicate {
                return Err(format!(
                    "batch {} was acknowledged as {acknowledged:?}, not at {id}",
                    batch.sequence
                ));
            }
            if there < batch.events.len() {
                return Err(format!(
                    "batch {} was acknowledged and {there} of its events are there",
                    batch.sequence
                ));
            }
        }
        match there {
            0 => {
                ended = true;
                continue;
            }
            there if there < batch.events.len() => {
                return Err(format!("batch {} is half there", batch.sequence));
            }
            _ if ended => {
                return Err(format!(
                    "batch {} is there and one before it is not",
                    batch.sequence
                ));
            }
            _ => {}
        }
        for (n, content) in batch.events.iter().enumerate() {
            if found.get(&(id + n as u64)) != Some(content) {
                return Err(format!("event {n} of batch {} is changed", batch.sequence));
            }
        }
        id += batch.events.len() as u64;
    }
    if found.len() as u64 != id {
        return Err(format!(
            "{} events are there, and only {id} were ever sent",
            found.len()
        ));
    }
    if partition.visible_end().get() < known.visible_end {
        return Err(format!(
            "events up to {} had been shown to readers",
            known.visible_end
        ));
    }
    let cursor = partition.cursor("reader").map_or(0, |next| next.get());
    let (durable, asked) = known.cursor;
    if cursor < durable || cursor > asked {
        return Err(format!(
            "the cursor is at {cursor}, and {:?} was known",
            known.cursor
        ));
    }
    resend(io, &partition, known)?;
    Ok(ended)
}

/// A producer that never got its answers sends everything again: what is there gets its first ids, what is not is new.
fn resend(io: &SimIo, partition: &Rc<Partition<SimIo>>, known: &Known<'_>) -> Result<(), String> {
    let survived = partition.visible_end().get();
    let mut id: u64 = known.settled.iter().map(|events| events.len() as u64).sum();
    for batch in known.sent.iter().take(12) {
        let again = send(partition, batch.events.clone(), (PRODUCER, 0, batch.sequence));
        while io.step() && again.outcome.borrow().is_none() {}
        io.run_tasks();
        let appended = again.acknowledged().ok_or_else(|| {
            format!(
                "sending batch {} again gave {:?}",
                batch.sequence,
                again.outcome.borrow()
            )
        })?;
        if appended.base_event_id.get() != id || appended.duplicate != (id < survived) {
            return Err(format!(
                "sending batch {} again gave {appended:?}; it belongs at {id}, and {survived} events had survived",
                batch.sequence
            ));
        }
        id += batch.events.len() as u64;
    }
    Ok(())
}

fn seeds(range: std::ops::Range<u64>) -> Vec<u64> {
    match std::env::var("MOFKA_CRASH_SEED") {
        Ok(seed) => vec![seed.parse().expect("MOFKA_CRASH_SEED is a number")],
        Err(_) => range.collect(),
    }
}

/// `make test` promises 30,000 images: each of the two sweeps, which run side by side, has its half of the seeds.
const CASES_MIN: u64 = 15_000;

fn sweep(range: std::ops::Range<u64>) {
    let started = std::time::Instant::now();
    let seeds = seeds(range);
    let mut all = Tally::default();
    for seed in &seeds {
        let tally = History::run(*seed, 4, 10);
        all.images += tally.images;
        all.with_acknowledged += tally.with_acknowledged;
        all.with_loss += tally.with_loss;
    }
    println!(
        "{} crash images of {} histories in {:.1} s: {} held acknowledged batches, {} lost unacknowledged ones",
        all.images,
        seeds.len(),
        started.elapsed().as_secs_f64(),
        all.with_acknowledged,
        all.with_loss
    );
    assert!(
        seeds.len() == 1 || all.images >= CASES_MIN,
        "only {} crash images were checked",
        all.images
    );
    assert!(
        all.with_acknowledged * 2 > all.images,
        "too few images had something to lose"
    );
    assert!(
        all.with_loss * 10 > all.images,
        "too few crashes lost anything: the disk is too kind"
    );
}

#[test]
fn acknowledged_batches_survive_a_crash_at_every_boundary() {
    sweep(1..21);
}

#[test]
fn acknowledged_batches_survive_a_crash_at_every_boundary_too() {
    sweep(21..41);
}
