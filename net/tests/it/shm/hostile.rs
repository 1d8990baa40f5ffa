//! A peer that writes anything anywhere: this side gives errors or garbage, does not panic, and other rings do not notice.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use mofka_net::shm::{Arrival, Claim, End, ReceiveError, RingFault, SendError, Stretch};
use proptest::prelude::*;

use super::{bytes_of, config, frame, ring};

const SLOTS: u32 = 8;
const ARENA_BYTES: u64 = 8192;
/// Where the positions of a lane are (docs/PROTOCOL.md), and its first slot.
const SUBMISSION: u64 = 128;
const COMPLETION: u64 = 896;
const PUBLISHED: u64 = 0;
const CONSUMED: u64 = 128;
const RELEASED: u64 = 256;
const RECLAIMED: u64 = 384;
const FIRST_SLOT: u64 = 4096;
/// Submission slots and releases, completion slots.
const COMPLETION_RELEASES: u64 = FIRST_SLOT + 8 * 128 + 128 + 8 * 128;
const MEMORY_BYTES: u64 = 4096 + 4096 + 2 * ARENA_BYTES;

/// The end of the victim, and memory to scribble on.
struct Victim {
    end: End,
    memory: OwnedFd,
    claims: Vec<Claim>,
    kept: Vec<Stretch>,
    held: Vec<Arrival>,
}

impl Victim {
    fn server() -> Self {
        let (end, offer) = End::create(&config(SLOTS, ARENA_BYTES, 0)).unwrap();
        Self {
            end,
            memory: offer.memory,
            claims: Vec::new(),
            kept: Vec::new(),
            held: Vec::new(),
        }
    }

    fn put(&self, at: u64, word: u64) {
        assert_eq!(rustix::io::pwrite(&self.memory, &word.to_ne_bytes(), at), Ok(8));
    }

    /// One of all that it can do. False when the ring is done for.
    fn act(&mut self, what: u64) -> bool {
        let bytes = 32 + what / 16 % 3000;
        let fine_to_send = |error: SendError| !matches!(error, SendError::Closed | SendError::Fault(_));
        match what % 12 {
            0 => {
                self.end
                    .sender
                    .send(&[&vec![7; bytes as usize]])
                    .is_ok_and(|()| true)
                    || !self.is_broken()
            }
            1 => match self.end.sender.claim_at_boundary(bytes, what % 100) {
                Ok(claim) => {
                    self.claims.push(claim);
                    true
                }
                Err(error) => fine_to_send(error),
            },
            2 => match self.claims.pop() {
                Some(mut claim) => {
                    claim.write(claim.bytes() - 8, &[1; 8]).unwrap();
                    self.end.sender.commit(claim).map_or_else(fine_to_send, |()| true)
                }
                None => true,
            },
            3 => self.claims.pop().is_none() || self.end.sender.can_send(bytes) || !self.is_broken(),
            4 => {
                let mut ready = false;
                let look = || {
                    ready = self.end.receiver.is_ready();
                    ready
                };
                self.end.waiter.wait(look, 2, Some(Duration::ZERO)).unwrap();
                true
            }
            8 => match self.end.sender.keep(bytes, Some(0)) {
                Ok(rest) => {
                    self.kept.push(rest);
                    true
                }
                Err(error) => {
                    self.kept.clear();
                    fine_to_send(error)
                }
            },
            9 => match self.kept.last() {
                Some(rest) => {
                    let sent = self.end.sender.send_with(&[&vec![3; bytes as usize]], rest);
                    sent.map_or_else(fine_to_send, |()| true)
                }
                None => true,
            },
            5 if self.held.len() > 3 => {
                self.held.clear();
                true
            }
            _ => match self.end.receiver.receive() {
                Ok(Some(arrival)) => {
                    assert!((32..=2 * ARENA_BYTES).contains(&arrival.bytes()));
                    let _ = arrival.header(1 << 20);
                    assert_eq!(arrival.body().len() as u64, arrival.bytes() - 32);
                    self.held.push(arrival);
                    true
                }
                Ok(None) => true,
                Err(ReceiveError::Closed | ReceiveError::Fault(_)) => false,
            },
        }
    }

    /// An error stays: whatever was said once is said for ever.
    fn is_broken(&mut self) -> bool {
        let first = self.end.sender.claim(64).err();
        let is_broken = matches!(first, Some(SendError::Closed | SendError::Fault(_)));
        if let Some(SendError::Fault(_)) = first {
            assert_eq!(self.end.sender.claim(64).err(), first);
        }
        is_broken
    }
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// Garbage anywhere, often in the places that matter, and often values that nearly make sense.
fn scribble(memory: &OwnedFd, random: &mut Random) {
    let at = match random.next() % 4 {
        0 => random.next() % MEMORY_BYTES,
        1 => 128 * (random.next() % 16),
        2 => FIRST_SLOT + 8 * (random.next() % 300),
        _ => FIRST_SLOT + 128 * (random.next() % 18) + 8 * (random.next() % 6),
    };
    let word = match random.next() % 4 {
        0 => random.next(),
        1 => random.next() % 16,
        2 => random.next() % ARENA_BYTES,
        _ => random.next().wrapping_shl(32) | (random.next() % 8),
    };
    if random.next().is_multiple_of(100) {
        let garbage: Vec<u8> = (0..random.next() % 4000).map(|_| random.next() as u8).collect();
        let _ = rustix::io::pwrite(memory, &garbage, at);
    } else {
        let bytes = word.to_ne_bytes();
        let whole = 8.min(MEMORY_BYTES - at) as usize;
        let _ = rustix::io::pwrite(memory, &bytes[..whole], at);
    }
}

/// In one thread, so that a run can be had again: the seed is in the message.
#[test]
fn scribbles_between_operations_are_survived() {
    let (mut broken, mut scribbles) = (0, 0);
    for seed in 1..=400_u64 {
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut victim = Victim::server();
            for _ in 0..200 {
                scribble(&victim.memory, &mut random);
                scribbles += 1;
                for _ in 0..random.next() % 4 {
                    if !victim.act(random.next()) {
                        broken += 1;
                        return;
                    }
                }
            }
        }));
        assert!(outcome.is_ok(), "seed {seed}");
    }
    assert!(
        broken > 100 && scribbles > 1000,
        "{broken} of 400 rings broke after {scribbles} scribbles"
    );
}

/// Tells others to stop, also when the test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Works on a ring while another thread scribbles over it. Whether the ring broke.
fn work_under_scribbles(random: &mut Random) -> bool {
    let mut victim = Victim::server();
    let memory = victim.memory.try_clone().unwrap();
    let (done, seed) = (AtomicBool::new(false), random.next());
    let scribbles = AtomicU64::new(0);
    let (begin, begun) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let _stop = Stop(&done);
        scope.spawn(|| {
            let mut random = Random(seed);
            while !done.load(Ordering::Relaxed) {
                scribble(&memory, &mut random);
                scribbles.fetch_add(1, Ordering::Relaxed);
                let _ = begin.send(());
            }
        });
        begun.recv().unwrap();
        // However seldom the other thread has its turn.
        let mut actions = 0;
        while actions < 2000 || scribbles.load(Ordering::Relaxed) < 2000 {
            actions += 1;
            if !victim.act(random.next()) {
                // It is broken for good, and that is all: every call still comes back.
                for _ in 0..100 {
                    victim.act(random.next());
                }
                return true;
            }
        }
        false
    })
}

/// While the victim works, and an honest ring beside it too.
#[test]
fn scribbles_at_any_time_are_survived_and_others_do_not_notice() {
    let over = AtomicBool::new(false);
    let (mut honest_server, mut honest_client) = ring(SLOTS, ARENA_BYTES, 0);
    let mut random = Random(0x1234_5678_9ABC_DEF1);
    let broken = std::thread::scope(|scope| {
        let stop = Stop(&over);
        let honest = scope.spawn(|| {
            for number in 0.. {
                let content = frame(number, 32 + number as usize % 3000);
                honest_client.sender.send(&[&content]).unwrap();
                assert_eq!(
                    bytes_of(&honest_server.receiver.receive().unwrap().unwrap()),
                    content
                );
                if over.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        let broken = (0..100).filter(|_| work_under_scribbles(&mut random)).count();
        drop(stop);
        honest.join().unwrap();
        broken
    });
    assert!(broken > 20, "{broken} of 100 rings broke");
}

fn position(result: Result<Option<Arrival>, ReceiveError>) -> bool {
    matches!(result, Err(ReceiveError::Fault(RingFault::Position { .. })))
}

/// Claims until the victim has looked at what was released, which it does now and then while there is room.
fn claim_until_looked(victim: &mut Victim) -> Result<(), SendError> {
    (0..16).try_for_each(|_| victim.end.sender.claim(64).map(drop))
}

#[test]
fn impossible_positions_end_the_ring() {
    for found in [SLOTS as u64 + 1, u64::MAX, 1 << 63] {
        let mut victim = Victim::server();
        victim.put(SUBMISSION + PUBLISHED, found);
        assert!(position(victim.end.receiver.receive()));
        assert!(victim.end.receiver.is_ready());
        victim.put(SUBMISSION + PUBLISHED, 0);
        assert!(position(victim.end.receiver.receive()), "for good");

        let mut victim = Victim::server();
        victim.put(COMPLETION + CONSUMED, found);
        for _ in 0..SLOTS {
            victim.end.sender.send(&[&[1; 40]]).unwrap();
        }
        let error = victim.end.sender.send(&[&[1; 40]]).unwrap_err();
        assert!(
            matches!(error, SendError::Fault(RingFault::Position { .. })),
            "{error}"
        );
        assert!(victim.end.sender.can_send(40), "nothing to wait for");
        victim.put(COMPLETION + CONSUMED, 1);
        assert_eq!(victim.end.sender.send(&[&[1; 40]]), Err(error), "for good");

        let mut victim = Victim::server();
        victim.put(COMPLETION + RELEASED, found);
        let error = claim_until_looked(&mut victim).unwrap_err();
        assert!(
            matches!(error, SendError::Fault(RingFault::Position { .. })),
            "{error}"
        );
    }
}

#[test]
fn a_consumer_cannot_go_back() {
    let mut victim = Victim::server();
    for _ in 0..SLOTS {
        victim.end.sender.send(&[&[1; 40]]).unwrap();
    }
    victim.put(COMPLETION + CONSUMED, 4);
    for _ in 0..4 {
        victim.end.sender.send(&[&[1; 40]]).unwrap();
    }
    victim.put(COMPLETION + CONSUMED, 3);
    let error = victim.end.sender.send(&[&[1; 40]]).unwrap_err();
    assert!(
        matches!(
            error,
            SendError::Fault(RingFault::Position {
                found: 3,
                low: 4,
                high: 12
            })
        ),
        "{error}"
    );
}

proptest! {
    /// Whatever a slot says: a frame that lies in the arena, or an error.
    #[test]
    fn any_slot_is_a_frame_or_a_fault(
        kind in prop_oneof![Just(1_u64), Just(2), Just(3), any::<u64>()],
        frame_bytes in prop_oneof![0..10_000_u64, any::<u64>()],
        arena_at in prop_oneof![0..10_000_u64, any::<u64>()],
        ticket: u64,
        head_bytes in prop_oneof![0..10_000_u64, any::<u64>()],
        rest_at in prop_oneof![0..10_000_u64, any::<u64>()],
    ) {
        let mut victim = Victim::server();
        for (place, word) in (0..).zip([kind, frame_bytes, arena_at, ticket, head_bytes, rest_at]) {
            victim.put(FIRST_SLOT + 8 * place, word);
        }
        victim.put(SUBMISSION + PUBLISHED, 1);
        let is_in_arena = |at: u64, bytes: u64| at.checked_add(bytes).is_some_and(|end| end <= ARENA_BYTES);
        let fits = match kind {
            1 => (32..=112).contains(&frame_bytes),
            2 => frame_bytes >= 32 && is_in_arena(arena_at, frame_bytes),
            3 => {
                let rest_bytes = frame_bytes.checked_sub(head_bytes);
                head_bytes >= 32
                    && is_in_arena(arena_at, head_bytes)
                    && rest_bytes.is_some_and(|bytes| is_in_arena(rest_at, bytes))
            }
            _ => false,
        };
        match victim.end.receiver.receive() {
            Ok(Some(arrival)) => {
                prop_assert!(fits);
                prop_assert_eq!(bytes_of(&arrival).len() as u64, frame_bytes);
            }
            Err(ReceiveError::Fault(fault)) => {
                prop_assert!(!fits);
                let told = matches!(
                    fault,
                    RingFault::Kind { .. } | RingFault::Frame { .. } | RingFault::Split { .. }
                );
                prop_assert!(told, "{}", fault);
            }
            other => prop_assert!(false, "{:?}", other),
        }
    }
}

/// The same descriptor over and over: it gets the sender's own bytes, and only so often.
#[test]
fn a_replayed_descriptor_is_bounded() {
    let mut victim = Victim::server();
    for slot in 0..u64::from(SLOTS) {
        for (place, word) in (0..).zip([2, 64, 0, 0]) {
            victim.put(FIRST_SLOT + 128 * slot + 8 * place, word);
        }
    }
    victim.put(SUBMISSION + PUBLISHED, u64::from(SLOTS));
    let held: Vec<_> = (0..SLOTS)
        .map(|_| victim.end.receiver.receive().unwrap().unwrap())
        .collect();
    victim.put(SUBMISSION + PUBLISHED, u64::from(SLOTS) + 1);
    let error = victim.end.receiver.receive().unwrap_err();
    assert_eq!(error, ReceiveError::Fault(RingFault::TooManyHeld { held_max: 8 }));
    drop(held);
    assert_eq!(victim.end.receiver.receive().unwrap_err(), error, "for good");
}

/// A sender that does not take its releases back has no room for more, and can only have sent too much.
#[test]
fn releases_that_nobody_takes_are_bounded() {
    let mut victim = Victim::server();
    let mut received = 0;
    let error = loop {
        let slot = FIRST_SLOT + 128 * (received % u64::from(SLOTS));
        for (place, word) in (0..).zip([2, 64, 0, received]) {
            victim.put(slot + 8 * place, word);
        }
        received += 1;
        victim.put(SUBMISSION + PUBLISHED, received);
        match victim.end.receiver.receive() {
            Ok(arrival) => drop(arrival.unwrap()),
            Err(error) => break error,
        }
        assert!(received < 100);
    };
    assert_eq!(error, ReceiveError::Fault(RingFault::TooManyHeld { held_max: 8 }));
    assert_eq!(received, u64::from(SLOTS) + 2);

    let mut victim = Victim::server();
    for (place, word) in (0..).zip([2, 64, 0, 0]) {
        victim.put(FIRST_SLOT + 8 * place, word);
    }
    victim.put(SUBMISSION + PUBLISHED, 1);
    victim.put(SUBMISSION + RECLAIMED, 99);
    // With places left nobody asks; the fault shows when all are taken.
    drop(victim.end.receiver.receive().unwrap().unwrap());
    assert!(victim.end.receiver.receive().unwrap().is_none());
}

#[test]
fn what_is_not_out_cannot_be_released() {
    let ticket_of = |victim: &Victim, slot: u64| {
        let mut ticket = [0; 8];
        let at = COMPLETION_RELEASES - 8 * 128 + 128 * slot + 24;
        rustix::io::pread(&victim.memory, &mut ticket, at).unwrap();
        u64::from_ne_bytes(ticket)
    };
    let released = |victim: &mut Victim, count: u64, ticket: u64| {
        victim.put(COMPLETION_RELEASES + 8 * (count % 8), ticket);
        victim.put(COMPLETION + RELEASED, count + 1);
        claim_until_looked(victim)
    };
    let mut victim = Victim::server();
    victim.end.sender.send(&[&[1; 200]]).unwrap();
    let ticket = ticket_of(&victim, 0);
    released(&mut victim, 0, ticket).unwrap();
    // Twice, a later use of the same place, a claim that was not sent, no place at all.
    let refused = released(&mut victim, 1, ticket).unwrap_err();
    assert_eq!(refused, SendError::Fault(RingFault::Ticket { ticket }));
    for wrong in [(2_u64 << 32), 5 << 32 | 7, 1 << 32 | 99, u64::MAX] {
        let mut victim = Victim::server();
        let _claim = victim.end.sender.claim(200).unwrap();
        let refused = released(&mut victim, 0, wrong).unwrap_err();
        assert_eq!(refused, SendError::Fault(RingFault::Ticket { ticket: wrong }));
    }
    let mut victim = Victim::server();
    let claim = victim.end.sender.claim(200).unwrap();
    let refused = released(&mut victim, 0, 1 << 32).unwrap_err();
    assert!(
        matches!(refused, SendError::Fault(RingFault::Ticket { .. })),
        "it is only claimed: {refused}"
    );
    drop(claim);
}
