//! A history of operations on a real partition over the simulated machine, with failures, crashes (of recovery, too) and
//! restarts, against a model.
//!
//! Input: a seed for the order in which operations of the machine end (u16), then operations, one after the other.
//!
//! Promises: what was acknowledged as synced survives; what survives is a prefix of what was accepted, whole batches,
//! byte for byte; what was visible stays visible; a batch that is sent again gets its first ids again; a cursor is one
//! that was asked for, and not older than the last that was acknowledged.

mod operation;

use std::cell::Cell;
use std::rc::Rc;

use arbitrary::{Arbitrary, Unstructured};
use mofka_engine::io::Io;
use mofka_engine::partition::Partition;
use mofka_engine::sim::{Image, Random, Sectors, SimIo};
use mofka_log::{Durability, EventId, PartitionKind, Verdict};

use crate::model::{Accepted, Content, Sent, check_prefix, hand_over, open, read_all, spec};

pub use self::operation::{Operation, Shape};

/// Operations of one history that are carried out.
const OPERATIONS_MAX: usize = 200;
/// Events of one batch.
const EVENTS_MAX: usize = 40;
/// Bytes of a batch's data: a reader gets the data of a larger one only when it asks for it alone.
const DATA_BYTES_MAX: usize = 500_000;
/// Batches of one producer that may be sent again.
const WINDOW: u64 = mofka_log::SEQUENCE_WINDOW as u64;
const CONSUMERS: [&str; 3] = ["reader", "a second reader", "r"];
const PRODUCERS: usize = 3;

/// See the module.
pub fn run(input: &[u8]) {
    let mut input = Unstructured::new(input);
    let Ok(seed) = input.arbitrary() else { return };
    let mut world = World::begin(seed);
    // Not a list of operations, whose every element would be the last one with a chance of one half.
    for _ in 0..OPERATIONS_MAX {
        if input.is_empty() {
            break;
        }
        let Ok(operation) = Operation::arbitrary(&mut input) else {
            break;
        };
        world.carry_out(&operation);
        world.look();
    }
    // The end of each history is the hardest crash: nothing is there that was not synced.
    world.crash(0, Sectors::Small, 1, 0);
    world.io.shut_down();
}

/// A batch that the partition accepted.
struct Known {
    events: Vec<Content>,
    producer: (u64, u32, u64),
    /// `None`: it survived a crash or a restart, so that it has to stay.
    sent: Option<Sent>,
    asked: Option<Durability>,
}

impl Known {
    fn must_be_there(&self) -> bool {
        match &self.sent {
            None => true,
            Some(sent) => self.asked.is_none() && sent.acknowledged().is_some(),
        }
    }
}

/// Everything a consumer asked for, in order, and which of it is known to be stored.
struct Cursor {
    asked: Vec<Option<u64>>,
    stored: Rc<Cell<usize>>,
}

struct World {
    seed: u64,
    io: SimIo,
    partition: Rc<Partition<SimIo>>,
    accepted: Vec<Known>,
    /// Epoch and next sequence of each producer.
    producers: [(u32, u64); PRODUCERS],
    cursors: [Cursor; CONSUMERS.len()],
    /// The end of what was visible so far.
    visible_end: u64,
    tag: u64,
    /// A failure was asked for, so that answers may be refusals.
    may_fail: bool,
}

impl World {
    fn begin(seed: u16) -> Self {
        let seed = u64::from(seed);
        let io = SimIo::stepping(&Image::new(), seed);
        let partition = open(&io, spec(PartitionKind::Default, Durability::Synced))
            .unwrap_or_else(|error| panic!("an empty directory does not open: {error}"));
        Self {
            seed,
            io,
            partition,
            accepted: Vec::new(),
            producers: [(0, 0); PRODUCERS],
            cursors: [(); CONSUMERS.len()].map(|()| Cursor {
                asked: vec![None],
                stored: Rc::default(),
            }),
            visible_end: 0,
            tag: 0,
            may_fail: false,
        }
    }

    fn carry_out(&mut self, operation: &Operation) {
        match operation {
            Operation::Append {
                producer,
                shapes,
                asked,
                kick,
            } => self.append(usize::from(*producer) % PRODUCERS, shapes, *asked, *kick),
            Operation::Resend { producer, back } => {
                self.resend(
                    usize::from(*producer) % PRODUCERS,
                    u64::from(*back) % (WINDOW + 4),
                );
            }
            Operation::NewEpoch { producer } => {
                let (epoch, sequence) = &mut self.producers[usize::from(*producer) % PRODUCERS];
                (*epoch, *sequence) = (*epoch + 1, 0);
            }
            Operation::BreakSequence { producer, old_epoch } => {
                self.break_sequence(usize::from(*producer) % PRODUCERS, *old_epoch);
            }
            Operation::Kick => self.partition.kick(),
            Operation::Step(count) => {
                for _ in 0..*count {
                    if !self.io.step() {
                        break;
                    }
                }
            }
            Operation::Settle => self.settle(),
            Operation::Acknowledge { consumer, place } => self.acknowledge(*consumer, *place),
            Operation::Seek { consumer, place } => self.seek(*consumer, *place),
            Operation::Read => self.read(),
            Operation::FailWrite(n) => {
                self.io.fail_write(u64::from(*n));
                self.may_fail = true;
            }
            Operation::FailSync(n) => {
                self.io.fail_sync(u64::from(*n));
                self.may_fail = true;
            }
            Operation::Restart => self.restart(),
            Operation::Crash {
                keep_percent,
                small,
                seed,
                again_after,
            } => {
                let sectors = if *small { Sectors::Small } else { Sectors::Large };
                self.crash(
                    u64::from(*keep_percent) % 101,
                    sectors,
                    u64::from(*seed),
                    *again_after,
                );
            }
        }
    }

    /// What holds after every operation.
    fn look(&mut self) {
        let visible_end = self.partition.visible_end().get();
        assert!(visible_end >= self.visible_end, "what was visible stays visible");
        self.visible_end = visible_end;
        let ends = self.partition.ends();
        assert!(self.partition.trim_end() <= ends.synced_end);
        assert!(ends.synced_end <= ends.written_end && ends.written_end <= ends.appended_end);
        assert!(
            visible_end <= ends.synced_end.get(),
            "only what is synced is visible"
        );
        let mut id = 0;
        for batch in &self.accepted {
            let end = id + batch.events.len() as u64;
            if let Some(answer) = batch.sent.as_ref().and_then(Sent::acknowledged) {
                assert_eq!((answer.base_event_id.get(), answer.duplicate), (id, false));
                assert_eq!(u64::from(answer.event_count), end - id);
                let synced = batch.asked.is_some() || ends.synced_end.get() >= end;
                assert!(synced, "acknowledged before it was synced");
            }
            id = end;
        }
        assert_eq!(
            ends.appended_end.get(),
            id,
            "ids are given in order of acceptance"
        );
    }

    fn append(&mut self, producer: usize, shapes: &[Shape], asked: u8, kick: bool) {
        let (epoch, sequence) = self.producers[producer];
        let triple = (producer as u64 + 1, epoch, sequence);
        self.tag += 1;
        let shapes = if shapes.is_empty() {
            &[Shape {
                metadata_bytes: 0,
                class: 0,
                data_bytes: 0,
            }]
        } else {
            shapes
        };
        let mut events: Vec<Content> = Vec::new();
        let mut data_bytes = 0;
        for (n, shape) in (0..).zip(shapes.iter().take(EVENTS_MAX)) {
            let event = content(self.tag, n, *shape);
            data_bytes += event.1.len();
            if data_bytes > DATA_BYTES_MAX {
                break;
            }
            events.push(event);
        }
        let asked = match asked {
            3 => Some(Durability::Written),
            4 => Some(Durability::Buffered),
            _ => None,
        };
        let sent = hand_over(&self.partition, events.clone(), triple, asked);
        self.wait_for_room(&sent);
        let refused = matches!(&*sent.outcome.borrow(), Some(Err(_)));
        if refused {
            assert!(
                self.partition.poison().is_some(),
                "the next batch of a producer was refused: {:?}",
                sent.outcome.borrow()
            );
            return;
        }
        self.producers[producer].1 += 1;
        self.accepted.push(Known {
            events,
            producer: triple,
            sent: Some(sent),
            asked,
        });
        if kick {
            self.partition.kick();
        }
    }

    fn resend(&mut self, producer: usize, back: u64) {
        let (epoch, next) = self.producers[producer];
        let Some(sequence) = next.checked_sub(back + 1) else {
            return;
        };
        let triple = (producer as u64 + 1, epoch, sequence);
        let mut id = 0;
        let mut first = None;
        for batch in &self.accepted {
            if batch.producer == triple {
                first = Some((id, batch.events.clone()));
            }
            id += batch.events.len() as u64;
        }
        let (base, events) = first.expect("the model knows every batch that was accepted");
        let sent = hand_over(&self.partition, events, triple, Some(Durability::Buffered));
        self.wait_for_answer(&sent);
        let outcome = sent.outcome.borrow().clone();
        match outcome {
            Some(Ok(answer)) => {
                assert!(back < WINDOW, "a batch so old was remembered");
                assert_eq!(
                    (answer.base_event_id.get(), answer.duplicate),
                    (base, true),
                    "{triple:?}"
                );
            }
            Some(Err(reason)) => assert!(
                back >= WINDOW || self.partition.poison().is_some(),
                "a batch that was sent again was refused: {reason}"
            ),
            None => panic!("a batch that is in memory is answered as soon as there is room"),
        }
    }

    fn break_sequence(&mut self, producer: usize, old_epoch: bool) {
        let (epoch, next) = self.producers[producer];
        let known = self
            .accepted
            .iter()
            .any(|batch| batch.producer == (producer as u64 + 1, epoch, 0));
        let triple = match epoch.checked_sub(1) {
            Some(older) if old_epoch && known => (producer as u64 + 1, older, 0),
            _ => (producer as u64 + 1, epoch, next + 1),
        };
        let events = vec![content(
            u64::MAX,
            0,
            Shape {
                metadata_bytes: 9,
                class: 1,
                data_bytes: 9,
            },
        )];
        let sent = hand_over(&self.partition, events, triple, None);
        self.wait_for_answer(&sent);
        assert!(
            matches!(&*sent.outcome.borrow(), Some(Err(_))),
            "{triple:?} does not follow and was accepted: {:?}",
            sent.outcome.borrow()
        );
    }

    /// A batch is accepted when the files were made longer for it, if that is needed.
    fn wait_for_room(&self, sent: &Sent) {
        let before: usize = self.accepted.iter().map(|batch| batch.events.len()).sum();
        let entered = || self.partition.ends().appended_end.get() > before as u64;
        self.io.run_tasks();
        while !entered() && sent.outcome.borrow().is_none() && self.io.is_busy() {
            self.io.step();
        }
    }

    /// One that is refused, or was accepted before, is answered when those before it have entered.
    fn wait_for_answer(&self, sent: &Sent) {
        self.io.run_tasks();
        while sent.outcome.borrow().is_none() && self.io.is_busy() {
            self.io.step();
        }
    }

    fn settle(&mut self) {
        self.partition.kick();
        self.io.run_tasks();
        while self.io.is_busy() {
            self.io.step();
        }
        for batch in self.accepted.iter().filter_map(|batch| batch.sent.as_ref()) {
            let answered = batch.outcome.borrow().is_some();
            assert!(answered, "nothing is under way and a batch has no answer");
            assert!(
                batch.acknowledged().is_some() || self.may_fail,
                "a batch failed on a machine that did not: {:?}",
                batch.outcome.borrow()
            );
        }
    }

    fn place(&self, place: u8) -> u64 {
        self.visible_end * u64::from(place) / 255
    }

    fn acknowledge(&mut self, consumer: u8, place: u8) {
        let next = self.place(place);
        let n = usize::from(consumer) % CONSUMERS.len();
        let cursor = &mut self.cursors[n];
        if cursor
            .asked
            .last()
            .copied()
            .flatten()
            .is_none_or(|last| next > last)
        {
            cursor.asked.push(Some(next));
        }
        let in_force = cursor.asked.last().copied().flatten();
        let done = cursor.noted(in_force);
        self.partition.acknowledge(CONSUMERS[n], EventId::new(next), done);
        assert_eq!(self.partition.cursor(CONSUMERS[n]).map(EventId::get), in_force);
    }

    fn seek(&mut self, consumer: u8, place: u8) {
        let next = self.place(place);
        let n = usize::from(consumer) % CONSUMERS.len();
        let cursor = &mut self.cursors[n];
        cursor.asked.push(Some(next));
        let done = cursor.noted(Some(next));
        self.partition.seek(CONSUMERS[n], EventId::new(next), done);
        assert_eq!(self.partition.cursor(CONSUMERS[n]).map(EventId::get), Some(next));
    }

    fn read(&mut self) {
        // Reading may carry the machine on, so more can be visible afterwards than was read.
        let found = self
            .io
            .block_on(read_all(Rc::clone(&self.partition)))
            .unwrap_or_else(|error| panic!("what is visible cannot be read: {error}"));
        assert!(found.len() as u64 >= self.visible_end);
        let sent = self.accepted.iter().flat_map(|batch| &batch.events);
        for ((id, content), sent) in found.iter().zip(sent) {
            assert_eq!(content, sent, "event {id} is not what was sent");
        }
    }

    fn restart(&mut self) {
        let stopping = Rc::clone(&self.partition);
        self.io.block_on(async move { stopping.stop().await });
        self.look();
        let well = self.partition.poison().is_none() && !self.may_fail;
        if well {
            for batch in &mut self.accepted {
                if let Some(sent) = batch.sent.take() {
                    assert!(
                        sent.acknowledged().is_some(),
                        "an orderly stop finishes what was accepted"
                    );
                }
            }
        }
        let image = self.io.settled();
        self.io.shut_down();
        self.start(&image, 0, 0);
        if well {
            let verdict = self.partition.verdict();
            assert!(
                matches!(verdict, Verdict::Clean | Verdict::CleanStop),
                "after an orderly stop: {}",
                verdict.prose()
            );
        }
    }

    fn crash(&mut self, keep_percent: u64, sectors: Sectors, seed: u64, again_after: u8) {
        let image = self.io.crash(&mut Random::new(seed), keep_percent, sectors);
        self.io.shut_down();
        self.start(&image, keep_percent, again_after);
    }

    /// Opens what a stop left, after stopping once more in the middle of that when asked to.
    fn start(&mut self, image: &Image, keep_percent: u64, again_after: u8) {
        self.seed += 1;
        let mut image = image.clone();
        if again_after > 0 {
            let io = SimIo::stepping(&image, self.seed);
            let machine = io.clone();
            io.spawn(async move {
                let opened = Partition::open(machine, spec(PartitionKind::Default, Durability::Synced)).await;
                drop(opened);
            });
            for _ in 0..again_after {
                io.step();
            }
            image = io.crash(&mut Random::new(self.seed), keep_percent, Sectors::Small);
            io.shut_down();
        }
        self.io = SimIo::stepping(&image, self.seed);
        self.may_fail = false;
        self.partition = open(&self.io, spec(PartitionKind::Default, Durability::Synced))
            .unwrap_or_else(|error| panic!("what a crash left does not open: {error}"));
        assert_eq!(
            self.partition.read_only(),
            None,
            "an ordinary crash was taken for damage"
        );
        let found = self
            .io
            .block_on(read_all(Rc::clone(&self.partition)))
            .unwrap_or_else(|error| panic!("what a crash left cannot be read: {error}"));
        let accepted = self.accepted.iter().map(|batch| Accepted {
            events: &batch.events,
            acknowledged: batch.sent.as_ref().and_then(Sent::acknowledged),
            must_be_there: batch.must_be_there(),
        });
        let survived = check_prefix(&found, accepted).unwrap_or_else(|reason| panic!("{reason}"));
        self.accepted.truncate(survived);
        let lived = self.producers;
        for (n, (epoch, next)) in self.producers.iter_mut().enumerate() {
            let id = n as u64 + 1;
            let last = self.accepted.iter().rfind(|batch| batch.producer.0 == id);
            // An epoch of which nothing survived is unknown; its producer begins it again.
            (*epoch, *next) = match last.map(|batch| batch.producer) {
                Some((_, survived, last)) if survived == lived[n].0 => (survived, last + 1),
                _ => (lived[n].0, 0),
            };
        }
        for batch in &mut self.accepted {
            batch.sent = None;
        }
        for (cursor, name) in self.cursors.iter_mut().zip(CONSUMERS) {
            let found = self.partition.cursor(name).map(EventId::get);
            let stored = cursor.stored.get();
            assert!(
                cursor.asked[stored..].contains(&found),
                "{name} is at {found:?}; {:?} was stored and {:?} asked for after it",
                cursor.asked[stored],
                &cursor.asked[stored + 1..]
            );
            *cursor = Cursor {
                asked: vec![found],
                stored: Rc::default(),
            };
        }
        self.look();
    }
}

impl Cursor {
    /// Notes that what was asked for last is stored, when that is told.
    fn noted(&self, position: Option<u64>) -> Box<dyn FnOnce(Result<EventId, mofka_net::WireError>)> {
        let (stored, place) = (Rc::clone(&self.stored), self.asked.len() - 1);
        Box::new(move |answer| {
            if let Ok(told) = answer {
                assert_eq!(Some(told.get()), position, "a consumer is told where it is");
                stored.set(stored.get().max(place));
            }
        })
    }
}

/// An event that nobody else sends.
fn content(tag: u64, n: u64, shape: Shape) -> Content {
    let filling = "x".repeat(usize::from(shape.metadata_bytes));
    let metadata = format!("{{\"tag\":{tag},\"n\":{n},\"filling\":\"{filling}\"}}");
    let bytes = u64::from(shape.data_bytes)
        * match shape.class % 8 {
            0..=2 => 0,
            3..=5 => 1,
            6 => 16,
            _ => 500,
        };
    let first = tag.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ n;
    let data = (0..bytes).map(|place| (first.wrapping_add(place.wrapping_mul(31)) >> 3) as u8);
    (metadata.into_bytes(), data.collect())
}
