//! The ring under a model checker: every interleaving of its threads up to a bound on preemptions, with every value that
//! the memory model lets a load see.
//!
//! What is atomic in the mapping for the sake of hostile peers, slots and arena bytes, is plain memory here, so that
//! access without order is found, not only the wrong values that this checker can produce. And since a check that finds
//! nothing proves little, each model is also run with one order left out, which must be found.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use loom::cell::UnsafeCell;
use loom::sync::Notify;
use loom::sync::atomic::{AtomicU64, fence};
use loom::thread;

use crate::shm::fault::{ReceiveError, SendError};
use crate::shm::layout::{LanePlaces, SLOT_WORDS};
use crate::shm::receiver::Receiver;
use crate::shm::sender::Sender;
use crate::shm::side::{News, Side, SleepWords};
use crate::shm::words::{WORD_BYTES, Words};

/// One direction, as small as it goes: two slots, and an arena of one block.
const LANE: LanePlaces = LanePlaces {
    published: 0,
    consumed: 1,
    released: 2,
    reclaimed: 3,
    sender_closed: 4,
    receiver_closed: 5,
    slots: PLAIN.start,
    releases: PLAIN.start + 2 * SLOT_WORDS,
    slot_count: 2,
    arena: ARENA_WORD * WORD_BYTES,
    arena_bytes: 64,
};
/// The same with an arena of two blocks: one for frames, one that is kept.
const WIDE_LANE: LanePlaces = LanePlaces {
    arena_bytes: 128,
    ..LANE
};
const SENDER_SLEEPS: usize = 6;
const RECEIVER_SLEEPS: usize = 7;
const ARENA_WORD: usize = PLAIN.start + 2 * SLOT_WORDS + 2;
/// Words that positions have to guard.
const PLAIN: Range<usize> = 8..8 + 2 * SLOT_WORDS + 2 + 16;
const FRAME_BYTES: usize = 32;
/// Positions wrap in the middle of each run.
const FIRST: u64 = u64::MAX;

/// Which order is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    None,
    /// A store releases nothing.
    Store(usize),
    /// A load acquires nothing.
    Load(usize),
    /// No fences between what is told and what is looked at.
    Fences,
}

struct Modelled {
    atomics: Vec<AtomicU64>,
    plain: Vec<UnsafeCell<u64>>,
    flaw: Flaw,
}

// SAFETY: whether its plain words are used without races is what the checker checks.
unsafe impl Sync for Modelled {}

#[derive(Clone)]
struct Handle(Arc<Modelled>);

impl Handle {
    fn new(flaw: Flaw) -> Self {
        let first = |word: usize| if word < 4 { FIRST } else { 0 };
        Self(Arc::new(Modelled {
            atomics: (0..PLAIN.start).map(|word| AtomicU64::new(first(word))).collect(),
            plain: PLAIN.map(|_| UnsafeCell::new(0)).collect(),
            flaw,
        }))
    }

    fn weakened(&self, flaw: Flaw, order: Ordering) -> Ordering {
        if self.0.flaw == flaw {
            Ordering::Relaxed
        } else {
            order
        }
    }
}

/// When a check has failed, the model's memory is gone before the ends are dropped.
fn is_over() -> bool {
    std::thread::panicking()
}

impl Words for Handle {
    fn load(&self, word: usize, order: Ordering) -> u64 {
        if is_over() {
            return 0;
        }
        match self.0.atomics.get(word) {
            Some(atomic) => atomic.load(self.weakened(Flaw::Load(word), order)),
            // SAFETY: the pointer is that of the cell's value; races are reported.
            None => self.0.plain[word - PLAIN.start].with(|value| unsafe { *value }),
        }
    }

    fn store(&self, word: usize, value: u64, order: Ordering) {
        if is_over() {
            return;
        }
        match self.0.atomics.get(word) {
            Some(atomic) => atomic.store(value, self.weakened(Flaw::Store(word), order)),
            // SAFETY: as in `load`.
            None => self.0.plain[word - PLAIN.start].with_mut(|at| unsafe { *at = value }),
        }
    }

    fn take_flag(&self, word: usize, value: u64) -> bool {
        let taken = self.0.atomics[word].compare_exchange(value, 0, Ordering::Relaxed, Ordering::Relaxed);
        taken.is_ok()
    }

    fn fence(&self) {
        if self.0.flaw != Flaw::Fences && !is_over() {
            fence(Ordering::SeqCst);
        }
    }
}

struct SenderSide {
    side: Arc<Side<Handle>>,
    sender: Sender<Handle>,
    bell: Arc<Notify>,
}

struct ReceiverSide {
    side: Arc<Side<Handle>>,
    receiver: Receiver<Handle>,
    bell: Arc<Notify>,
}

fn ends(flaw: Flaw) -> (SenderSide, ReceiverSide) {
    ends_of(flaw, LANE)
}

fn ends_of(flaw: Flaw, lane: LanePlaces) -> (SenderSide, ReceiverSide) {
    let memory = Handle::new(flaw);
    let (sender_bell, receiver_bell) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let side = |own, peer, bell: &Arc<Notify>| {
        let bell = Arc::clone(bell);
        Arc::new(Side::new(memory.clone(), SleepWords { own, peer }, move || {
            bell.notify()
        }))
    };
    let sending = side(SENDER_SLEEPS, RECEIVER_SLEEPS, &receiver_bell);
    let receiving = side(RECEIVER_SLEEPS, SENDER_SLEEPS, &sender_bell);
    let sender = SenderSide {
        sender: Sender::new(Arc::clone(&sending), lane, FIRST),
        side: sending,
        bell: sender_bell,
    };
    let receiver = ReceiverSide {
        receiver: Receiver::new(Arc::clone(&receiving), lane, FIRST),
        side: receiving,
        bell: receiver_bell,
    };
    (sender, receiver)
}

/// As `Waiter::wait`, with the model's bell. A ring that is lost is a thread that never wakes, which the checker reports.
fn sleep(side: &Side<Handle>, bell: &Notify, mut ready: impl FnMut() -> bool) {
    side.announce(News::Room);
    if !ready() {
        bell.wait();
    }
    side.withdraw();
}

/// How a side waits.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wait {
    Poll,
    Sleep,
}

impl SenderSide {
    /// A small frame, in a slot.
    fn send(&mut self, number: u8, wait: Wait) {
        while let Err(error) = self.sender.send(&[&[number; FRAME_BYTES]]) {
            assert!(matches!(error, SendError::NoRoom { .. }), "{error}");
            match wait {
                Wait::Poll => thread::yield_now(),
                Wait::Sleep => sleep(&self.side, &self.bell, || {
                    self.sender.can_send(FRAME_BYTES as u64)
                }),
            }
        }
    }

    /// A frame in the arena, which holds only one.
    fn send_in_place(&mut self, number: u8, wait: Wait) {
        let mut claim = loop {
            match self.sender.claim(FRAME_BYTES as u64) {
                Ok(claim) => break claim,
                Err(error) => assert!(matches!(error, SendError::NoRoom { .. }), "{error}"),
            }
            let can_claim = || self.sender.can_claim(FRAME_BYTES as u64, None);
            match wait {
                Wait::Poll => thread::yield_now(),
                Wait::Sleep => sleep(&self.side, &self.bell, can_claim),
            }
        };
        claim.write(0, &[number; WORD_BYTES]).unwrap();
        self.sender.commit(claim).unwrap();
    }
}

impl ReceiverSide {
    /// The first byte of the next frame; none when the ring was closed.
    fn receive(&mut self, wait: Wait) -> Option<u8> {
        loop {
            match self.receiver.receive() {
                Ok(Some(arrival)) => {
                    let mut byte = [0; WORD_BYTES];
                    arrival.read(0, &mut byte).unwrap();
                    return Some(byte[0]);
                }
                Ok(None) => {}
                Err(ReceiveError::Closed) => return None,
                Err(error) => panic!("{error}"),
            }
            match wait {
                Wait::Poll => thread::yield_now(),
                Wait::Sleep => sleep(&self.side, &self.bell, || self.receiver.is_ready()),
            }
        }
    }
}

impl ReceiverSide {
    /// The next frame, in two stretches, all of whose bytes that are looked at are this.
    fn receive_split(&mut self) -> u8 {
        loop {
            match self.receiver.receive() {
                Ok(Some(arrival)) => {
                    let mut around = [0; 2 * WORD_BYTES];
                    // The last word of the head, and the rest.
                    arrival
                        .read((FRAME_BYTES - WORD_BYTES) as u64, &mut around)
                        .unwrap();
                    assert_eq!(around, [around[0]; 2 * WORD_BYTES]);
                    return around[0];
                }
                Ok(None) => thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        }
    }
}

fn explore(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS_MAX);
    builder.max_branches = 10_000;
    builder.check(model);
}

/// Bounds the time of all models together to some 15 seconds; each one more takes four times as long.
const PREEMPTIONS_MAX: usize = 4;

/// That the checker reports the flaw.
#[track_caller]
fn expect_found(flaw: Flaw, model: fn(Flaw)) {
    // A thread of its own: a check that fails leaves the checker's state behind.
    let checked = std::thread::spawn(move || explore(move || model(flaw))).join();
    let reason = checked.expect_err("the flaw is found");
    let reason = reason
        .downcast::<String>()
        .map_or_else(|_| "?".to_owned(), |reason| *reason);
    println!("{flaw:?}: {reason}");
}

/// Three frames through two slots, both sides polling.
fn slots(flaw: Flaw) {
    let (mut sender, mut receiver) = ends(flaw);
    let sending = thread::spawn(move || {
        (1..=3).for_each(|number| sender.send(number, Wait::Poll));
        sender
    });
    (1..=3).for_each(|number| assert_eq!(receiver.receive(Wait::Poll), Some(number)));
    drop(sending.join().unwrap());
}

#[test]
fn frames_in_slots_come_whole_and_in_order() {
    explore(|| slots(Flaw::None));
}

#[test]
fn missing_order_of_slots_is_found() {
    for word in [LANE.published, LANE.consumed] {
        expect_found(Flaw::Store(word), slots);
        expect_found(Flaw::Load(word), slots);
    }
}

/// Two frames through an arena that holds one.
fn arena(flaw: Flaw) {
    let (mut sender, mut receiver) = ends(flaw);
    let sending = thread::spawn(move || {
        (1..=2).for_each(|number| sender.send_in_place(number, Wait::Poll));
        sender
    });
    (1..=2).for_each(|number| assert_eq!(receiver.receive(Wait::Poll), Some(number)));
    drop(sending.join().unwrap());
}

#[test]
fn claimed_bytes_are_not_overwritten_before_they_are_released() {
    explore(|| arena(Flaw::None));
}

#[test]
fn missing_order_of_claims_and_releases_is_found() {
    for word in [LANE.published, LANE.released] {
        expect_found(Flaw::Store(word), arena);
        expect_found(Flaw::Load(word), arena);
    }
}

/// Two frames whose end is the same stretch, which is filled again once the first frame came back: its head and its end are read
/// before that.
fn split(flaw: Flaw) {
    let (mut sender, mut receiver) = ends_of(flaw, WIDE_LANE);
    let sending = thread::spawn(move || {
        let mut rest = sender.sender.keep(WORD_BYTES as u64, None).unwrap();
        for number in 1..=2 {
            // The frame before has the only block for heads.
            while !sender.sender.can_send_with(FRAME_BYTES as u64) {
                thread::yield_now();
            }
            rest.write(0, &[number; WORD_BYTES]).unwrap();
            sender.sender.send_with(&[&[number; FRAME_BYTES]], &rest).unwrap();
        }
        (sender, rest)
    });
    (1..=2).for_each(|number| assert_eq!(receiver.receive_split(), number));
    drop(sending.join().unwrap());
}

#[test]
fn a_stretch_that_is_kept_is_not_overwritten_before_its_frame_came_back() {
    explore(|| split(Flaw::None));
}

#[test]
fn missing_order_of_a_stretch_that_is_kept_is_found() {
    for word in [LANE.published, LANE.released] {
        expect_found(Flaw::Store(word), split);
        expect_found(Flaw::Load(word), split);
    }
}

/// The receiver sleeps whenever there is nothing, also for the end.
fn arrivals(flaw: Flaw) {
    let (mut sender, mut receiver) = ends(flaw);
    let sending = thread::spawn(move || {
        (1..=2).for_each(|number| sender.send(number, Wait::Poll));
    });
    (1..=2).for_each(|number| assert_eq!(receiver.receive(Wait::Sleep), Some(number)));
    assert_eq!(receiver.receive(Wait::Sleep), None);
    sending.join().unwrap();
}

#[test]
fn a_receiver_that_sleeps_is_woken() {
    explore(|| arrivals(Flaw::None));
}

#[test]
fn missing_fences_lose_a_wake_up_of_the_receiver() {
    expect_found(Flaw::Fences, arrivals);
}

#[test]
fn missing_order_of_the_end_is_found() {
    // The store could do without: each frame before it was followed by a fence.
    expect_found(Flaw::Load(LANE.sender_closed), arrivals);
}

/// The sender sleeps whenever there is no room in the slots.
fn room_in_slots(flaw: Flaw) {
    let (mut sender, mut receiver) = ends(flaw);
    let sending = thread::spawn(move || {
        (1..=3).for_each(|number| sender.send(number, Wait::Sleep));
        sender
    });
    (1..=3).for_each(|number| assert_eq!(receiver.receive(Wait::Poll), Some(number)));
    drop(sending.join().unwrap());
}

/// The same in the arena; and the receiver sleeps whenever there is nothing.
fn room_in_the_arena(flaw: Flaw) {
    let (mut sender, mut receiver) = ends(flaw);
    let sending = thread::spawn(move || {
        (1..=2).for_each(|number| sender.send_in_place(number, Wait::Sleep));
        sender
    });
    (1..=2).for_each(|number| assert_eq!(receiver.receive(Wait::Sleep), Some(number)));
    drop(sending.join().unwrap());
}

#[test]
fn a_sender_that_sleeps_for_a_slot_is_woken() {
    explore(|| room_in_slots(Flaw::None));
}

#[test]
fn a_sender_that_sleeps_for_room_in_the_arena_is_woken() {
    explore(|| room_in_the_arena(Flaw::None));
}

#[test]
fn missing_fences_lose_a_wake_up_of_the_sender() {
    expect_found(Flaw::Fences, room_in_slots);
    expect_found(Flaw::Fences, room_in_the_arena);
}
