//! Which bytes of an arena are whose. Known to the claiming side alone, so that the other cannot spoil it.

use std::collections::BTreeMap;

use crate::shm::layout::ARENA_BYTES_MIN;
use crate::width::{narrow, wide};

/// Claims take whole lines, so that two of them never share one, nor a word.
const BLOCK_BYTES: u64 = 64;

/// Stretches that are kept apart for those who want as much: about as many as come back at a time.
const LATELY_MAX: usize = 32;

/// Bytes that were taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    /// First byte, in the arena.
    pub(super) at: u64,
    /// Names this use of these bytes: no other had or will have the same for the next 2^32 uses of its place in the table.
    pub(super) ticket: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Free,
    /// This side fills it.
    Claimed,
    /// The other side reads it.
    Sent,
    /// This side fills it, and keeps it however often the other reads it.
    Kept,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Counts the uses of this entry, so that an old ticket is noticed.
    generation: u32,
    state: Use,
    start: u64,
    end: u64,
}

/// The state of an arena.
#[derive(Debug)]
pub(super) struct Arena {
    /// Stretches that nobody uses: first byte, exclusive end. No two of them touch, but for those that came back lately.
    free: BTreeMap<u64, u64>,
    /// Those that came back last: the next ones of the same length are these, without a look at the others.
    lately: Vec<(u64, u64)>,
    entries: Vec<Entry>,
    unused: Vec<u32>,
    claimed_count: u64,
    kept_count: u64,
    kept_max: u64,
    /// What is kept lies from here on.
    kept_from: u64,
}

impl Arena {
    /// `use_max` uses at a time: claims, sent frames, and what is kept. Only half of them may be kept, in the upper half of the
    /// bytes: however long that is, frames find room in the lower one sooner or later.
    pub(super) fn new(arena_bytes: u64, use_max: u64) -> Self {
        let entry = Entry {
            generation: 0,
            state: Use::Free,
            start: 0,
            end: 0,
        };
        let use_max = u32::try_from(use_max).unwrap_or(u32::MAX);
        Self {
            free: BTreeMap::from([(0, arena_bytes)]),
            lately: Vec::with_capacity(LATELY_MAX),
            entries: vec![entry; narrow(use_max.into())],
            unused: (0..use_max).rev().collect(),
            claimed_count: 0,
            kept_count: 0,
            kept_max: u64::from(use_max) / 2,
            kept_from: frame_bytes_max_beside_kept(arena_bytes),
        }
    }

    /// Claims that were neither sent nor given back.
    pub(super) fn claimed_count(&self) -> u64 {
        self.claimed_count
    }

    /// Whether anything is kept now.
    pub(super) fn has_kept(&self) -> bool {
        self.kept_count > 0
    }

    /// Takes bytes that were used before, those that came back last or else the lowest that are free: those are the likeliest to be in
    /// the processor's caches. With
    /// `boundary_at`, the byte of them with that index lies at a multiple of 4096.
    pub(super) fn take(&mut self, bytes: u64, boundary_at: Option<u64>) -> Option<Taken> {
        let taken = self.take_from(0, bytes, boundary_at, Use::Claimed)?;
        self.claimed_count = self.claimed_count.saturating_add(1);
        Some(taken)
    }

    /// The same of bytes that are the other side's to read as soon as this side has filled them.
    pub(super) fn take_to_send(&mut self, bytes: u64) -> Option<Taken> {
        self.take_from(0, bytes, None, Use::Sent)
    }

    /// The same of what this side keeps, as long as that is not too much.
    pub(super) fn take_to_keep(&mut self, bytes: u64, boundary_at: Option<u64>) -> Option<Taken> {
        if self.kept_count >= self.kept_max {
            return None;
        }
        let taken = self.take_from(self.kept_from, bytes, boundary_at, Use::Kept)?;
        self.kept_count = self.kept_count.saturating_add(1);
        Some(taken)
    }

    fn take_from(&mut self, from: u64, bytes: u64, boundary_at: Option<u64>, state: Use) -> Option<Taken> {
        let index = *self.unused.last()?;
        if let Some(again) = self.take_again(from, bytes, boundary_at) {
            return self.enter(index, again, again.0, state);
        }
        self.free_all();
        let (stretch, at, end) = self.free.iter().find_map(|(free_start, free_end)| {
            let start = from.max(*free_start);
            let at = match boundary_at {
                None => start,
                Some(boundary_at) => {
                    let boundary = start.checked_add(boundary_at)?;
                    boundary
                        .checked_next_multiple_of(ARENA_BYTES_MIN)?
                        .checked_sub(boundary_at)?
                }
            };
            let end = at.checked_add(bytes)?.checked_next_multiple_of(BLOCK_BYTES)?;
            (end <= *free_end).then_some(((*free_start, *free_end), at, end))
        })?;
        // Not before the stretch, which begins at a block.
        let start = at.saturating_sub(at % BLOCK_BYTES);
        self.free.remove(&stretch.0);
        if stretch.0 < start {
            self.free.insert(stretch.0, start);
        }
        if end < stretch.1 {
            self.free.insert(end, stretch.1);
        }
        self.enter(index, (start, end), at, state)
    }

    /// The stretch that came back last, if it is just what is wanted.
    fn take_again(&mut self, from: u64, bytes: u64, boundary_at: Option<u64>) -> Option<(u64, u64)> {
        let (start, end) = *self.lately.last()?;
        let wanted = bytes.checked_next_multiple_of(BLOCK_BYTES)?;
        let is_it = boundary_at.is_none() && start >= from && end.checked_sub(start) == Some(wanted);
        is_it.then(|| self.lately.pop()).flatten()
    }

    /// Notes a use of these bytes, of which the first one that is wanted is `at`, in the entry that is unused next.
    fn enter(&mut self, index: u32, (start, end): (u64, u64), at: u64, state: Use) -> Option<Taken> {
        let entry = self.entries.get_mut(narrow(index.into()))?;
        self.unused.pop();
        entry.generation = entry.generation.wrapping_add(1);
        (entry.state, entry.start, entry.end) = (state, start, end);
        Some(Taken {
            at,
            ticket: u64::from(entry.generation) << 32 | u64::from(index),
        })
    }

    /// A claim is the other side's to read now.
    pub(super) fn sent(&mut self, ticket: u64) {
        if let Some((_, entry)) = self.entry(ticket, Use::Claimed) {
            entry.state = Use::Sent;
            self.claimed_count = self.claimed_count.saturating_sub(1);
        }
    }

    /// A claim is not wanted.
    pub(super) fn give_back(&mut self, ticket: u64) {
        if self.put_back(ticket, Use::Claimed) {
            self.claimed_count = self.claimed_count.saturating_sub(1);
        }
    }

    /// What was kept is not needed any more.
    pub(super) fn give_up(&mut self, ticket: u64) {
        if self.put_back(ticket, Use::Kept) {
            self.kept_count = self.kept_count.saturating_sub(1);
        }
    }

    /// The other side is done with what was sent. False when it does not have it.
    #[must_use]
    pub(super) fn release(&mut self, ticket: u64) -> bool {
        self.put_back(ticket, Use::Sent)
    }

    fn entry(&mut self, ticket: u64, state: Use) -> Option<(u32, &mut Entry)> {
        let index = u32::try_from(ticket & u64::from(u32::MAX)).ok()?;
        let entry = self.entries.get_mut(narrow(index.into()))?;
        let is_it = entry.state == state && u64::from(entry.generation) == ticket >> 32;
        is_it.then_some((index, entry))
    }

    fn put_back(&mut self, ticket: u64, state: Use) -> bool {
        let Some((index, entry)) = self.entry(ticket, state) else {
            return false;
        };
        entry.state = Use::Free;
        let stretch = (entry.start, entry.end);
        self.unused.push(index);
        if self.lately.len() == LATELY_MAX {
            self.free_all();
        }
        self.lately.push(stretch);
        true
    }

    /// What came back lately is free for whatever is wanted.
    fn free_all(&mut self) {
        while let Some(stretch) = self.lately.pop() {
            self.free(stretch);
        }
    }

    fn free(&mut self, (mut start, mut end): (u64, u64)) {
        if let Some((before, before_end)) = self.free.range(..start).next_back()
            && *before_end == start
        {
            start = *before;
        }
        if let Some(after_end) = self.free.remove(&end) {
            end = after_end;
        }
        self.free.insert(start, end);
    }
}

/// Largest claim with a boundary at `boundary_at` that an arena of these bytes can ever hold; smaller by what lies
/// before the claim.
pub(super) fn bytes_max(arena_bytes: u64, boundary_at: Option<u64>) -> u64 {
    let before = boundary_at.map_or(0, |at| {
        ARENA_BYTES_MIN.saturating_sub(at % ARENA_BYTES_MIN) % ARENA_BYTES_MIN
    });
    arena_bytes.saturating_sub(before)
}

/// Largest frame that finds room sooner or later, whatever is kept: what is kept lies behind these bytes.
pub(super) fn frame_bytes_max_beside_kept(arena_bytes: u64) -> u64 {
    let blocks = arena_bytes.div_ceil(BLOCK_BYTES);
    blocks.div_ceil(2).saturating_mul(BLOCK_BYTES).min(arena_bytes)
}

/// The same as a length in memory.
pub(super) fn place(arena: usize, at: u64) -> usize {
    debug_assert!(wide(arena).checked_add(at).is_some());
    arena.saturating_add(narrow(at))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ARENA_BYTES: u64 = 3 * 4096;

    #[derive(Clone, Debug)]
    enum Step {
        Take(u64, Option<u64>),
        Keep(u64, Option<u64>),
        GiveUp(usize),
        Send(usize),
        GiveBack(usize),
        Release(usize),
        ReleaseAnything(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let take = (1..2000_u64, prop::option::of(0..2000_u64)).prop_map(|(bytes, at)| Step::Take(bytes, at));
        let keep = (1..2000_u64, prop::option::of(Just(0))).prop_map(|(bytes, at)| Step::Keep(bytes, at));
        let step = prop_oneof![
            4 => take,
            2 => keep,
            2 => any::<usize>().prop_map(Step::GiveUp),
            2 => any::<usize>().prop_map(Step::Send),
            1 => any::<usize>().prop_map(Step::GiveBack),
            2 => any::<usize>().prop_map(Step::Release),
            1 => (0..20_u64, 0..4_u64).prop_map(|(index, generation)| Step::ReleaseAnything(generation << 32 | index)),
        ];
        prop::collection::vec(step, 1..200)
    }

    fn pick<T>(from: &mut Vec<T>, n: usize) -> Option<T> {
        (!from.is_empty()).then(|| from.swap_remove(n % from.len()))
    }

    proptest! {
        /// The model: a byte is whose.
        #[test]
        fn no_byte_is_given_twice_and_none_is_lost(steps in steps()) {
            let mut arena = Arena::new(ARENA_BYTES, 16);
            let (mut claimed, mut sent, mut kept) = (Vec::new(), Vec::new(), Vec::new());
            let mut owner = vec![None; narrow(ARENA_BYTES)];
            for step in steps {
                match step {
                    Step::Take(bytes, boundary_at) => match arena.take(bytes, boundary_at) {
                        Some(taken) => {
                            let range = narrow(taken.at)..narrow(taken.at + bytes);
                            prop_assert!(owner[range.clone()].iter().all(Option::is_none));
                            owner[range].fill(Some(taken.ticket));
                            if let Some(at) = boundary_at {
                                prop_assert_eq!((taken.at + at) % 4096, 0);
                            }
                            claimed.push(taken.ticket);
                        }
                        None if boundary_at.is_none() && claimed.len() + sent.len() + kept.len() < 16 => {
                            // There is no free stretch of whole blocks that would do.
                            let blocks = bytes.div_ceil(64);
                            let is_free = |block: &[Option<u64>]| block.iter().all(Option::is_none);
                            let mut run = 0;
                            for block in owner.chunks(64) {
                                run = if is_free(block) { run + 1 } else { 0 };
                                prop_assert!(run < blocks);
                            }
                        }
                        None => {}
                    },
                    Step::Keep(bytes, boundary_at) => match arena.take_to_keep(bytes, boundary_at) {
                        Some(taken) => {
                            let range = narrow(taken.at)..narrow(taken.at + bytes);
                            prop_assert!(taken.at >= ARENA_BYTES / 2 && taken.at % boundary_at.map_or(1, |_| 4096) == 0);
                            prop_assert!(owner[range.clone()].iter().all(Option::is_none));
                            owner[range].fill(Some(taken.ticket));
                            kept.push(taken.ticket);
                            prop_assert!(kept.len() <= 8);
                        }
                        // In the upper half nothing was taken but by what may stand in the way.
                        None => prop_assert!(
                            kept.len() == 8 || claimed.len() + sent.len() + kept.len() > 0 || bytes > ARENA_BYTES / 2
                        ),
                    },
                    Step::GiveUp(n) => if let Some(ticket) = pick(&mut kept, n) {
                        prop_assert!(!arena.release(ticket), "the other side never has it");
                        arena.give_back(ticket);
                        arena.sent(ticket);
                        prop_assert!(arena.has_kept(), "it is no claim");
                        arena.give_up(ticket);
                        owner.iter_mut().filter(|o| **o == Some(ticket)).for_each(|o| *o = None);
                    },
                    Step::Send(n) => if let Some(ticket) = pick(&mut claimed, n) {
                        prop_assert!(!arena.release(ticket), "it is not sent yet");
                        arena.sent(ticket);
                        sent.push(ticket);
                    },
                    Step::GiveBack(n) => if let Some(ticket) = pick(&mut claimed, n) {
                        arena.give_back(ticket);
                        owner.iter_mut().filter(|o| **o == Some(ticket)).for_each(|o| *o = None);
                    },
                    Step::Release(n) => if let Some(ticket) = pick(&mut sent, n) {
                        prop_assert!(arena.release(ticket));
                        prop_assert!(!arena.release(ticket), "twice");
                        owner.iter_mut().filter(|o| **o == Some(ticket)).for_each(|o| *o = None);
                    },
                    Step::ReleaseAnything(ticket) => if !sent.contains(&ticket) {
                        prop_assert!(!arena.release(ticket));
                    },
                }
                prop_assert_eq!(arena.claimed_count(), claimed.len() as u64);
                prop_assert_eq!(arena.has_kept(), !kept.is_empty());
            }
            kept.into_iter().for_each(|ticket| arena.give_up(ticket));
            claimed.into_iter().for_each(|ticket| arena.give_back(ticket));
            sent.into_iter().for_each(|ticket| assert!(arena.release(ticket)));
            arena.free_all();
            prop_assert_eq!(&arena.free, &BTreeMap::from([(0, ARENA_BYTES)]));
            prop_assert_eq!(arena.take(ARENA_BYTES, None).map(|taken| taken.at), Some(0));
        }

        /// Whatever is kept, there is room for a frame of half of the arena once all other frames are gone.
        #[test]
        fn what_is_kept_leaves_room_for_others(keeps in prop::collection::vec(1..4000_u64, 1..20)) {
            let mut arena = Arena::new(ARENA_BYTES, 16);
            let kept = keeps.into_iter().filter_map(|bytes| arena.take_to_keep(bytes, None)).count();
            prop_assert!(kept > 0);
            let max = frame_bytes_max_beside_kept(ARENA_BYTES);
            prop_assert_eq!(max, ARENA_BYTES / 2);
            let taken = arena.take(max, None);
            prop_assert_eq!(taken.map(|taken| taken.at), Some(0));
        }

        #[test]
        fn what_can_ever_fit_fits_the_empty_arena(boundary_at in prop::option::of(0..9000_u64)) {
            let max = bytes_max(ARENA_BYTES, boundary_at);
            prop_assert!(Arena::new(ARENA_BYTES, 1).take(max, boundary_at).is_some());
            prop_assert!(Arena::new(ARENA_BYTES, 1).take(max + 1, boundary_at).is_none());
        }
    }
}
