//! What all parts of one side share: the memory, and the way to wake the other side.
//!
//! A side that wants to sleep says so first and then looks once more; a side that has news tells it first and then looks
//! whether the other sleeps. Each writes one word and reads the other's, so without a fence between the two both could
//! miss each other: the store would still be on its way while the load is done.
//!
//! | label | one side | other side | what it orders |
//! |---|---|---|---|
//! | S1 | fence in `Side::announce` | fence in `Side::wake_peer` | either the sleeper sees the news or the other sees that it sleeps |
//! | S2 | `Side::close` | `Side::is_closed` | all that the closing end did before |
//!
//! The word itself needs no order: it only decides whether to ring, and all that matters comes through positions (Q1, Q2
//! in `queue.rs`).

use std::fmt;
use std::sync::atomic::Ordering;

use crate::shm::words::Words;

/// One side of a ring.
pub(super) struct Side<M> {
    pub(super) memory: M,
    own_sleeps: usize,
    peer_sleeps: usize,
    ring: Box<dyn Fn() + Send + Sync>,
}

impl<M> fmt::Debug for Side<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Side").finish_non_exhaustive()
    }
}

/// Which words say who sleeps.
#[derive(Clone, Copy, Debug)]
pub(super) struct SleepWords {
    pub(super) own: usize,
    pub(super) peer: usize,
}

/// What one side has to tell, and the other waits for. A side that waits for frames alone is not woken because there is room
/// again: the other makes room with every frame that it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// Room for more; who waits for it waits for frames, too.
    Room,
    /// Frames, or an end.
    Frames,
}

impl News {
    /// What a sleeping side's word says when it waits for this.
    fn word(self) -> u64 {
        match self {
            Self::Room => 1,
            Self::Frames => 2,
        }
    }
}

impl<M: Words> Side<M> {
    /// `ring` wakes the other side; it must not block.
    pub(super) fn new(memory: M, sleeps: SleepWords, ring: impl Fn() + Send + Sync + 'static) -> Self {
        Self {
            memory,
            own_sleeps: sleeps.own,
            peer_sleeps: sleeps.peer,
            ring: Box::new(ring),
        }
    }

    /// This side will sleep until there are such news, unless it finds something when it looks once more.
    pub(super) fn announce(&self, awaited: News) {
        self.memory
            .store(self.own_sleeps, awaited.word(), Ordering::Relaxed);
        // S1: partner in `wake_peer`.
        self.memory.fence();
    }

    /// This side is awake.
    pub(super) fn withdraw(&self) {
        self.memory.store(self.own_sleeps, 0, Ordering::Relaxed);
    }

    /// Rings when the other side sleeps and waits for such news. After they were told.
    pub(super) fn wake_peer(&self, news: News) {
        // S1: partner in `announce`.
        self.memory.fence();
        // One ring for each time that it sleeps. Whoever took the flag rings after our news, and a sleeper that took it
        // back is awake. The flag is never overwritten, or it could be one that was just set again.
        let awaited = self.memory.load(self.peer_sleeps, Ordering::Relaxed);
        let is_awaited = match news {
            News::Room => awaited == News::Room.word(),
            News::Frames => awaited != 0,
        };
        if is_awaited && self.memory.take_flag(self.peer_sleeps, awaited) {
            (self.ring)();
        }
    }

    /// Says that an end is closed, and wakes whoever waits for it.
    pub(super) fn close(&self, closed: usize) {
        // S2: releases all that this end did to `is_closed`.
        self.memory.store(closed, 1, Ordering::Release);
        self.wake_peer(News::Frames);
    }

    /// Whether the other side closed an end.
    pub(super) fn is_closed(&self, closed: usize) -> bool {
        // S2: acquires what `close` released.
        self.memory.load(closed, Ordering::Acquire) != 0
    }
}
