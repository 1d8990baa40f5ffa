//! Crash images while events of one partition refer to data of another, and both are trimmed: every reference that
//! recovery finds leads to the bytes that it led to, however often retention looks afterwards.

use std::cell::RefCell;
use std::rc::Rc;

use mofka_engine::io::Io;
use mofka_engine::partition::{Partition, PartitionSpec, ReadLimits, Wanted};
use mofka_engine::sim::{Image, Random, Sectors, SimIo};
use mofka_log::{Batch, BatchBuilder, Durability, EventId, PartitionKind, Reference, Retention};
use mofka_net::{DataDescriptor, DataReference};
use uuid::Uuid;

use crate::model::{id, open, partition_id, spec};
use crate::world::any_sectors;

const KEEP_PERCENT: [u64; 3] = [0, 60, 100];
const DERIVED: Uuid = Uuid::from_u128(0xde);

type Open = Rc<Partition<SimIo>>;

fn bounded(mut spec: PartitionSpec, bytes_max: u64) -> PartitionSpec {
    spec.topic.retention = Retention {
        bytes_max: Some(bytes_max),
        ..Retention::default()
    };
    spec
}

/// The partition that has data.
fn source_spec() -> PartitionSpec {
    source_with(Durability::Synced)
}

fn source_with(durability: Durability) -> PartitionSpec {
    bounded(spec(PartitionKind::Default, durability), 60 << 10)
}

/// The partition whose events refer to it.
fn derived_spec() -> PartitionSpec {
    let mut spec = bounded(spec(PartitionKind::Default, Durability::Synced), 40 << 10);
    spec.record.id = DERIVED;
    spec.record.refers = true;
    spec.dir = "/q".into();
    // Its segments go quickly: they hold frames alone.
    spec.limits.segment_meta_bytes = 8 << 10;
    spec
}

/// The data of an event of the source.
fn data_of(event: u64) -> Vec<u8> {
    let mut random = Random::new(event + 1);
    let bytes = 500 + random.below(9_000);
    (0..bytes)
        .map(|at| (at * 7 + event * 13 + (at >> 8)) as u8)
        .collect()
}

fn batch_of(events: impl Iterator<Item = u64>) -> Batch {
    let mut builder = BatchBuilder::new();
    for event in events {
        let metadata = format!("{{\"event\":{event}}}");
        builder
            .push(metadata.as_bytes(), [data_of(event).as_slice()])
            .unwrap();
    }
    let (frame, data) = builder.finish(None);
    Batch::check_client(frame, data).unwrap()
}

/// A batch with a reference to a part of each of these, and an event with data of its own. It is long enough to fill
/// segments.
fn referring(to: &[DataReference]) -> Batch {
    let mut builder = BatchBuilder::new();
    for reference in to {
        let metadata = format!(
            "{{\"to\":{},\"pad\":\"{}\"}}",
            reference.event_id(),
            "x".repeat(1500)
        );
        let stored = reference.serialize();
        builder
            .push_reference(metadata.as_bytes(), Reference::check(&stored).unwrap())
            .unwrap();
    }
    builder.push(b"{}", [&b"own"[..]]).unwrap();
    let (frame, data) = builder.finish(None);
    Batch::check_client(frame, data).unwrap()
}

/// What the shard of the source does when retention looks.
async fn look(source: Open, derived: Option<Open>) {
    source.retain(0).await;
    source
        .review(async |by| {
            assert_eq!(by, DERIVED);
            match &derived {
                Some(derived) => derived.first_reference(partition_id()).await,
                None => Ok(None),
            }
        })
        .await;
}

/// Does what a shard does with a batch of references, and gives its answer.
async fn refer(source: Open, derived: Open, to: Vec<DataReference>, answered: Rc<RefCell<Vec<u64>>>) {
    let targets = to.iter().map(|to| (to.partition(), to.event_id())).collect();
    let referral = derived.begin_referral(targets);
    let wanted: Vec<Wanted> = (0..)
        .zip(&to)
        .map(|(index, to)| Wanted {
            index,
            event_id: to.event_id(),
            base_bytes: to.descriptor().base_bytes(),
        })
        .collect();
    if let Err(error) = source.refer(DERIVED, &wanted).await {
        assert!(error.message.contains("was trimmed"), "{error}");
        return;
    }
    let batch = referring(&to);
    derived.append(
        batch,
        None,
        Box::new(move |outcome| {
            drop(referral);
            if let Ok(appended) = outcome {
                answered.borrow_mut().push(appended.base_event_id.get());
            }
        }),
    );
    derived.kick();
}

/// Every reference of the derived partition, with where it stands. Each leads to the bytes that it should.
async fn check_references(source: Open, derived: Open) -> Result<u64, String> {
    let mut count = 0;
    let mut next = derived.trim_end();
    let limits = ReadLimits {
        events_max: 64,
        bytes_max: 1 << 20,
        with_data: false,
    };
    while next < derived.visible_end() {
        let slice = derived
            .read(next, limits)
            .await
            .map_err(|error| error.to_string())?;
        for batch in &slice.batches {
            for event in batch.events() {
                let Some(reference) = event.reference else {
                    continue;
                };
                let by = batch.base_event_id().get() + u64::from(event.index);
                let whole = DataDescriptor::of_event(EventId::new(by), reference.data_bytes());
                let target = derived
                    .referenced(&whole, &mut None)
                    .await
                    .map_err(|error| error.to_string())?
                    .ok_or("a reference is none")?;
                let fetched = source
                    .fetch(target.descriptor(), u64::MAX, &mut None)
                    .await
                    .map_err(|error| format!("event {by} refers to event {}: {error}", target.event_id()))?;
                let data = data_of(target.event_id().get());
                let range = target
                    .descriptor()
                    .flatten()
                    .next()
                    .ok_or("nothing is selected")?;
                let at = range.offset as usize;
                if fetched.bytes != data[at..at + range.bytes as usize] {
                    return Err(format!("event {by} refers to other bytes"));
                }
                count += 1;
            }
        }
        next = slice.end_event_id;
    }
    Ok(count)
}

#[derive(Clone, Copy, Default, Debug)]
struct Tally {
    images: u64,
    /// References that were found and followed.
    followed: u64,
    /// Images in which the source's trimming had got somewhere.
    trimmed: u64,
    /// Images in which the derived partition was trimmed, so that pins had to move.
    released: u64,
    /// Images in which pins hold what would go otherwise.
    held: u64,
}

struct History {
    seed: u64,
    random: Random,
    tally: Tally,
    /// Of the derived partition, as far as anybody was told.
    answered: Rc<RefCell<Vec<u64>>>,
}

impl History {
    /// Of every second history, events are seen before they are durable.
    fn source_spec(&self) -> PartitionSpec {
        source_with(match self.seed % 2 {
            0 => Durability::Synced,
            _ => Durability::Written,
        })
    }

    fn live(&mut self, image: &Image, life: u64) -> Image {
        let io = SimIo::stepping(image, self.seed * 1000 + life);
        let source = open(&io, self.source_spec()).unwrap();
        let derived = open(&io, derived_spec()).unwrap();
        let mut next = source.ends().appended_end.get();
        for step in 0..400 {
            // Old events at first, which hold what comes after them; then newer ones, while those that referred before go.
            let is_early = step < 130;
            if self.random.chance(25) {
                let count = 1 + self.random.below(3);
                source.append(batch_of(next..next + count), None, Box::new(|_| ()));
                source.kick();
                next += count;
            }
            if self.random.chance(30) && source.visible_end() > source.trim_end() {
                let to = self.choose(&source, is_early);
                let answered = Rc::clone(&self.answered);
                io.spawn(refer(Rc::clone(&source), Rc::clone(&derived), to, answered));
            }
            if self.random.chance(25) {
                io.spawn(look(Rc::clone(&source), Some(Rc::clone(&derived))));
            }
            if self.random.chance(15) {
                let looking = Rc::clone(&derived);
                io.spawn(async move { looking.retain(0).await });
            }
            io.step();
            if self.random.chance(16) {
                self.crash_here(&io);
            }
        }
        let image = io.crash(&mut self.random, 60, Sectors::Small);
        io.shut_down();
        image
    }

    /// Parts of one to three events that are there now: some of the oldest, which are to go next, or of the newest.
    fn choose(&mut self, source: &Open, is_early: bool) -> Vec<DataReference> {
        let (trim_end, end) = (source.trim_end().get(), source.visible_end().get());
        let count = 1 + self.random.below(3);
        (0..count)
            .map(|_| {
                let place = self.random.below(6.min(end - trim_end));
                let event = match is_early && self.random.chance(50) {
                    true => trim_end + place,
                    false => end - 1 - place,
                };
                let bytes = data_of(event).len() as u64;
                let whole = DataDescriptor::of_event(EventId::new(event), bytes);
                let view = whole.sub_view(self.random.below(bytes), 1 + self.random.below(4000));
                DataReference::new(partition_id(), view).unwrap()
            })
            .collect()
    }

    fn crash_here(&mut self, io: &SimIo) {
        for keep_percent in KEEP_PERCENT {
            let sectors = any_sectors(&mut self.random);
            let image = io.crash(&mut self.random, keep_percent, sectors);
            self.tally.images += 1;
            if let Err(reason) = self.check(&image) {
                panic!(
                    "seed {}, image {}, {keep_percent}% of the {sectors:?} sectors kept: {reason}\n\
                     to repeat: MOFKA_CRASH_SEED={} cargo test -p mofka-engine crash_references",
                    self.seed, self.tally.images, self.seed
                );
            }
        }
    }

    fn check(&mut self, image: &Image) -> Result<(), String> {
        let io = SimIo::immediate(image);
        let source = open(&io, self.source_spec())?;
        let derived = open(&io, derived_spec())?;
        for partition in [&source, &derived] {
            if let Some(reason) = partition.read_only() {
                return Err(format!("an ordinary crash was taken for damage: {reason}"));
            }
        }
        let end = derived.visible_end().get();
        if let Some(lost) = self.answered.borrow().iter().find(|base| **base >= end) {
            return Err(format!("event {lost} was acknowledged, and the end is {end}"));
        }
        let follow = || io.block_on(check_references(Rc::clone(&source), Rc::clone(&derived)));
        let before = follow()?;
        // What was pinned is still pinned: trimming goes no further than it may.
        io.block_on(look(Rc::clone(&source), Some(Rc::clone(&derived))));
        let after = follow()?;
        if before != after {
            return Err(format!("{before} references became {after}"));
        }
        self.tally.followed += before;
        self.tally.trimmed += u64::from(source.trim_end() > id(0));
        self.tally.released += u64::from(derived.trim_end() > id(0));
        let held = source.trim_end();
        // Without the partition that refers, nothing is held.
        io.block_on(look(Rc::clone(&source), None));
        self.tally.held += u64::from(source.trim_end() > held);
        io.shut_down();
        Ok(())
    }
}

#[test]
fn crash_references_always_lead_to_what_they_led_to() {
    let seeds = match std::env::var("MOFKA_CRASH_SEED") {
        Ok(seed) => vec![seed.parse().expect("MOFKA_CRASH_SEED is a number")],
        Err(_) => (1..9).collect::<Vec<u64>>(),
    };
    let mut all = Tally::default();
    for seed in &seeds {
        let mut history = History {
            seed: *seed,
            random: Random::new(*seed),
            tally: Tally::default(),
            answered: Rc::default(),
        };
        let mut image = Image::new();
        for life in 0..3 {
            image = history.live(&image, life);
            // What the crash took away is not known to be there.
            history.answered.borrow_mut().clear();
        }
        let tally = history.tally;
        all.images += tally.images;
        all.followed += tally.followed;
        all.trimmed += tally.trimmed;
        all.released += tally.released;
        all.held += tally.held;
    }
    println!("{all:?} of {} histories", seeds.len());
    if seeds.len() > 1 {
        assert!(
            all.images >= 4_000 && all.followed >= 10_000,
            "too little was looked at: {all:?}"
        );
        assert!(
            all.trimmed * 15 > all.images && all.released * 10 > all.images && all.held * 10 > all.images,
            "too few images are of the states that matter: {all:?}"
        );
    }
}

fn settle(io: &SimIo) {
    io.run_tasks();
    while io.is_busy() {
        io.step();
    }
}

/// A source of 40 events with data of 10 KiB, all durable.
fn filled(io: &SimIo) -> Open {
    let mut spec = source_spec();
    spec.topic.retention = Retention::default();
    let source = open(io, spec).unwrap();
    for event in 0..40 {
        source.append(batch_of(event..event + 1), None, Box::new(|_| ()));
        source.kick();
        settle(io);
    }
    assert_eq!(source.ends().synced_end, id(40));
    source
}

fn wanted(event: u64) -> Wanted {
    Wanted {
        index: 0,
        event_id: id(event),
        base_bytes: data_of(event).len() as u64,
    }
}

#[test]
fn an_event_that_is_about_to_go_cannot_be_referred_to_and_one_that_is_referred_to_does_not_go() {
    let (mut kept, mut refused) = (0, 0);
    for steps in 0..60 {
        let io = SimIo::stepping(&Image::new(), 3);
        let source = filled(&io);
        source.set_retention(source_spec().topic.retention);
        let looking = Rc::clone(&source);
        io.spawn(async move { looking.retain(0).await });
        io.run_tasks();
        for _ in 0..steps {
            io.step();
        }
        let outcome = Rc::new(RefCell::new(None));
        let (noted, referred) = (Rc::clone(&outcome), Rc::clone(&source));
        io.spawn(async move {
            let answer = referred.refer(DERIVED, &[wanted(20)]).await;
            *noted.borrow_mut() = Some(answer);
        });
        settle(&io);
        match outcome.take().expect("everybody is answered") {
            Ok(()) if source.trim_end() <= id(20) => kept += 1,
            Ok(()) => panic!("after {steps} steps: event 20 was promised to stay and went"),
            Err(error) => {
                assert!(error.message.contains("was trimmed"), "{error}");
                assert!(
                    source.trim_end() > id(20),
                    "after {steps} steps: refused without need"
                );
                refused += 1;
            }
        }
        io.shut_down();
    }
    assert!(kept > 0 && refused > 0, "{kept} kept, {refused} refused");
}

#[test]
fn an_answer_from_before_a_reference_does_not_release_it() {
    let io = SimIo::stepping(&Image::new(), 3);
    let source = filled(&io);
    let referred = Rc::clone(&source);
    io.spawn(async move { referred.refer(DERIVED, &[wanted(20)]).await.unwrap() });
    settle(&io);
    source.set_retention(source_spec().topic.retention);
    let looking = Rc::clone(&source);
    io.spawn(async move {
        looking.retain(0).await;
        let asked = Rc::clone(&looking);
        let is_first = std::cell::Cell::new(true);
        looking
            .review(async |_| {
                // While the one that refers is asked, and says that it does not any more, it refers again.
                if is_first.replace(false) {
                    asked.refer(DERIVED, &[wanted(25)]).await.unwrap();
                    return Ok(None);
                }
                Ok(Some(id(20)))
            })
            .await;
    });
    settle(&io);
    assert!(
        (10..=20).contains(&source.trim_end().get()),
        "{}",
        source.trim_end()
    );
    io.shut_down();
}

#[test]
fn an_event_that_is_seen_before_it_is_durable_is_referred_to_when_it_is() {
    let mut early = 0;
    for seed in 0..60 {
        let io = SimIo::stepping(&Image::new(), seed);
        let source = open(&io, source_with(Durability::Written)).unwrap();
        let first = Rc::clone(&source);
        // The pin is there already, so that nothing but the event itself has to become durable.
        source.append(batch_of(0..1), None, Box::new(|_| ()));
        source.kick();
        settle(&io);
        io.spawn(async move { first.refer(DERIVED, &[wanted(0)]).await.unwrap() });
        settle(&io);
        source.append(batch_of(1..2), None, Box::new(|_| ()));
        source.kick();
        io.run_tasks();
        while source.visible_end() < id(2) {
            io.step();
        }
        early += u64::from(source.ends().synced_end < id(2));
        let outcome = Rc::new(RefCell::new(None));
        let (noted, referred) = (Rc::clone(&outcome), Rc::clone(&source));
        io.spawn(async move {
            referred.refer(DERIVED, &[wanted(1)]).await.unwrap();
            *noted.borrow_mut() = Some(referred.ends().synced_end);
        });
        settle(&io);
        let synced_end = outcome.take().expect("it is answered");
        assert!(
            synced_end >= id(2),
            "seed {seed}: answered when {synced_end} was durable"
        );
        io.shut_down();
    }
    assert!(
        early > 10,
        "{early} times of 60 it was seen before it was durable"
    );
}
