//! Crash images: at every write and sync boundary of a random history, the disk may have kept, dropped or torn what
//! was not synced; then the real recovery runs, and everything that was acknowledged must be there, byte for byte,
//! and nothing half-there.

use std::rc::Rc;

use mofka_engine::partition::Partition;
use mofka_engine::sim::{Image, Random, Sectors, SimIo};
use mofka_log::{Durability, PartitionKind};

use crate::judge::{CursorWatch, Known, PRODUCER, check};
use crate::model::{Content, Sent, open, read_all, send, spec};
use crate::sweep::Sweep;

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
                        "seed {seed}, image {}, {keep_percent}% of the {sectors:?} sectors kept: {reason}",
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

/// `make test` promises 30,000 images.
const CASES_MIN: u64 = 30_000;

#[test]
fn acknowledged_batches_survive_a_crash_at_every_boundary() {
    let sweep = Sweep::of("acknowledged_batches_survive_a_crash_at_every_boundary", 14);
    let mut all = Tally::default();
    for tally in sweep.run(|seed| Ok(History::run(seed, 4, 10))) {
        all.images += tally.images;
        all.with_acknowledged += tally.with_acknowledged;
        all.with_loss += tally.with_loss;
    }
    sweep.report(
        all.images,
        CASES_MIN,
        &format!(
            "crash images: {} held acknowledged batches, {} lost unacknowledged ones",
            all.with_acknowledged, all.with_loss
        ),
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
