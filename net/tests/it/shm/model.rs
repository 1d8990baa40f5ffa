//! Random operations of both sides beside a model that knows what has to come out.

use std::collections::VecDeque;

use mofka_net::shm::{Arrival, Claim, End, SendError, Stretch};
use proptest::prelude::*;

use super::{bytes_of, frame, ring};

#[derive(Clone, Debug)]
enum Step {
    Send { bytes: usize },
    Claim { bytes: usize, boundary_at: Option<u64> },
    Commit { which: usize, shorter: usize },
    Abort { which: usize },
    Keep { bytes: usize },
    SendWith { head_bytes: usize, which: usize },
    GiveUp { which: usize },
    Receive,
    Release { which: usize },
}

fn steps() -> impl Strategy<Value = Vec<(bool, Step)>> {
    let bytes = || prop_oneof![32..=112_usize, 113..600_usize, 600..4500_usize];
    let step = prop_oneof![
        4 => bytes().prop_map(|bytes| Step::Send { bytes }),
        2 => (bytes(), prop::option::of(0..600_u64))
            .prop_map(|(bytes, boundary_at)| Step::Claim { bytes, boundary_at }),
        2 => (any::<usize>(), 0..40_usize).prop_map(|(which, shorter)| Step::Commit { which, shorter }),
        1 => any::<usize>().prop_map(|which| Step::Abort { which }),
        2 => (1..4096_usize).prop_map(|bytes| Step::Keep { bytes }),
        3 => (32..600_usize, any::<usize>())
            .prop_map(|(head_bytes, which)| Step::SendWith { head_bytes, which }),
        1 => any::<usize>().prop_map(|which| Step::GiveUp { which }),
        6 => Just(Step::Receive),
        3 => any::<usize>().prop_map(|which| Step::Release { which }),
    ];
    prop::collection::vec((any::<bool>(), step), 1..250)
}

fn pick<T>(from: &mut Vec<T>, n: usize) -> Option<T> {
    (!from.is_empty()).then(|| from.swap_remove(n % from.len()))
}

/// What one side sends and the other holds.
#[derive(Default)]
struct Lane {
    next: u64,
    claims: Vec<(Claim, Vec<u8>)>,
    kept: Vec<(Stretch, Vec<u8>)>,
    under_way: VecDeque<Vec<u8>>,
    held: Vec<(Arrival, Vec<u8>)>,
}

impl Lane {
    fn content(&mut self, bytes: usize) -> Vec<u8> {
        self.next += 1;
        frame(self.next, bytes)
    }

    fn carry_out(&mut self, from: &mut End, to: &mut End, step: Step) {
        match step {
            Step::Send { bytes } => {
                let content = self.content(bytes);
                let can_send = from.sender.can_send(bytes as u64);
                let (first, second) = content.split_at(bytes / 3);
                match from.sender.send(&[first, second]) {
                    Ok(()) => self.under_way.push_back(content),
                    Err(error) => {
                        // Nothing is to be waited for by who asks for too much.
                        assert_eq!(can_send, matches!(error, SendError::FrameBytes { .. }));
                        return self.expect_no_room(error, bytes);
                    }
                }
                // Nothing came between.
                assert!(can_send && self.next_was_sent(bytes));
            }
            Step::Claim { bytes, boundary_at } => {
                let content = self.content(bytes);
                let claim = match boundary_at {
                    Some(at) => from.sender.claim_at_boundary(bytes as u64, at),
                    None => from.sender.claim(bytes as u64),
                };
                match claim {
                    Ok(mut claim) => {
                        claim.write(0, &content).unwrap();
                        self.claims.push((claim, content));
                    }
                    Err(error) => self.expect_no_room(error, bytes),
                }
            }
            Step::Commit { which, shorter } => {
                if let Some((mut claim, mut content)) = pick(&mut self.claims, which) {
                    content.truncate(content.len().saturating_sub(shorter).max(32));
                    claim.shorten(content.len() as u64).unwrap();
                    from.sender.commit(claim).unwrap();
                    self.under_way.push_back(content);
                }
            }
            Step::Abort { which } => drop(pick(&mut self.claims, which)),
            Step::Keep { bytes } => {
                let content = self.content(bytes);
                match from.sender.keep(bytes as u64, Some(0)) {
                    Ok(mut rest) => {
                        assert_eq!(rest.as_mut_ptr() as usize % 4096, 0);
                        rest.write(0, &content).unwrap();
                        self.kept.push((rest, content));
                        assert!(self.kept.len() <= SLOTS as usize / 2);
                    }
                    Err(error) => self.expect_no_room(error, bytes),
                }
            }
            Step::SendWith { head_bytes, which } if !self.kept.is_empty() => {
                let mut content = self.content(head_bytes);
                let can_send = from.sender.can_send_with(head_bytes as u64);
                let (rest, end) = &self.kept[which % self.kept.len()];
                let (first, second) = content.split_at(head_bytes / 2);
                match from.sender.send_with(&[first, second], rest) {
                    Ok(()) => {
                        assert!(can_send);
                        content.extend_from_slice(end);
                        self.under_way.push_back(content);
                    }
                    Err(error) => {
                        assert!(!can_send);
                        self.expect_no_room(error, head_bytes);
                    }
                }
            }
            Step::SendWith { .. } => {}
            // Whoever sent it waits for the answer first.
            Step::GiveUp { which } if self.under_way.is_empty() && self.held.is_empty() => {
                drop(pick(&mut self.kept, which));
            }
            Step::GiveUp { .. } => {}
            Step::Receive => match (to.receiver.receive().unwrap(), self.under_way.pop_front()) {
                (None, None) => {}
                (Some(arrival), Some(content)) => {
                    assert_eq!(bytes_of(&arrival), content);
                    self.held.push((arrival, content));
                }
                (arrival, content) => panic!("{arrival:?} instead of {content:?}"),
            },
            Step::Release { which } => {
                if let Some((arrival, content)) = pick(&mut self.held, which) {
                    assert_eq!(
                        bytes_of(&arrival),
                        content,
                        "it was overwritten while it was held"
                    );
                }
            }
        }
    }

    fn next_was_sent(&self, bytes: usize) -> bool {
        self.under_way.back() == Some(&frame(self.next, bytes))
    }

    /// There is none, or no error.
    fn expect_no_room(&self, error: SendError, bytes: usize) {
        match error {
            SendError::NoRoom { frame_bytes } => assert_eq!(frame_bytes, bytes as u64),
            // While something is kept only what certainly finds room is taken; a boundary costs room, too.
            SendError::FrameBytes { max, .. } => {
                assert!(bytes as u64 > max && max >= ARENA_BYTES / 2);
                return;
            }
            error => panic!("{error}"),
        }
        let in_use = self.claims.len() + self.kept.len() + self.under_way.len() + self.held.len();
        assert!(in_use > 0, "the ring is empty");
    }

    fn finish(&mut self, from: &mut End, to: &mut End) {
        self.claims.clear();
        // With all that is kept there is room for a frame of half of the arena, once the others are gone.
        while !self.under_way.is_empty() {
            self.carry_out(from, to, Step::Receive);
        }
        assert!(to.receiver.receive().unwrap().is_none());
        self.held.clear();
        drop(from.sender.claim(ARENA_BYTES / 2).unwrap());
        self.kept.clear();
        // Nothing leaked: the whole arena and all slots can be had.
        drop(from.sender.claim(ARENA_BYTES).unwrap());
        for _ in 0..SLOTS {
            from.sender.send(&[&[9; 50]]).unwrap();
        }
    }
}

const ARENA_BYTES: u64 = 8192;
const SLOTS: u32 = 8;

fn first_positions() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(0),
        (0..100_u64).prop_map(|before| u64::MAX - before),
        any::<u64>()
    ]
}

proptest! {
    #[test]
    fn what_goes_in_comes_out(steps in steps(), first_position in first_positions()) {
        let (mut server, mut client) = ring(SLOTS, ARENA_BYTES, first_position);
        let (mut submissions, mut completions) = (Lane::default(), Lane::default());
        for (is_submission, step) in steps {
            if is_submission {
                submissions.carry_out(&mut client, &mut server, step);
            } else {
                completions.carry_out(&mut server, &mut client, step);
            }
        }
        submissions.finish(&mut client, &mut server);
        completions.finish(&mut server, &mut client);
    }
}

#[test]
fn positions_wrap_at_every_slot() {
    for slot_count in [2, 4, 8] {
        for before in 0..3 * u64::from(slot_count) {
            let (mut server, mut client) = ring(slot_count, 4096, u64::MAX - before);
            let mut expected = VecDeque::new();
            for number in 0..8 * u64::from(slot_count) {
                let content = frame(number, 32 + (number as usize * 37) % 500);
                if client.sender.send(&[&content]).is_ok() {
                    expected.push_back(content);
                }
                if number % 3 > 0
                    && let Some(arrival) = server.receiver.receive().unwrap()
                {
                    assert_eq!(Some(bytes_of(&arrival)), expected.pop_front());
                }
            }
            for content in expected {
                assert_eq!(bytes_of(&server.receiver.receive().unwrap().unwrap()), content);
            }
        }
    }
}
