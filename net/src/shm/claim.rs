//! Bytes of the arena that this side fills before they are sent.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::shm::arena::{Arena, place};
use crate::shm::fault::OutsideFrame;
use crate::shm::layout::LanePlaces;
use crate::shm::mapping::Mapping;
use crate::shm::side::Side;
use crate::shm::words::{Words, copy_in};
use crate::width::wide;

/// Room for one frame in the arena, to be filled in place and then [committed](crate::shm::Sender::commit). Dropped, it
/// is aborted: nobody ever sees it.
///
/// A claim can be filled on another thread, and while other claims are made, filled and committed. What is in it at
/// first is left over from earlier frames.
#[derive(Debug)]
pub struct Claim<M: Words = Mapping> {
    pub(super) side: Arc<Side<M>>,
    pub(super) arena: Arc<Mutex<Arena>>,
    /// First byte, in the arena.
    pub(super) arena_at: u64,
    /// First byte, in the memory.
    at: usize,
    frame_bytes: u64,
    pub(super) ticket: u64,
}

impl<M: Words> Claim<M> {
    pub(super) fn new(
        side: Arc<Side<M>>,
        arena: Arc<Mutex<Arena>>,
        lane: &LanePlaces,
        taken: crate::shm::arena::Taken,
        frame_bytes: u64,
    ) -> Self {
        Self {
            side,
            arena,
            arena_at: taken.at,
            at: place(lane.arena, taken.at),
            frame_bytes,
            ticket: taken.ticket,
        }
    }

    /// Bytes of the frame.
    pub fn bytes(&self) -> u64 {
        self.frame_bytes
    }

    /// Writes bytes of the frame, from byte `at` of it on.
    ///
    /// # Errors
    /// When they do not lie within the frame; nothing is written then.
    pub fn write(&mut self, at: u64, bytes: &[u8]) -> Result<(), OutsideFrame> {
        let place = within(self.at, self.frame_bytes, at, wide(bytes.len()))?;
        copy_in(&self.side.memory, place, bytes);
        Ok(())
    }

    /// Makes the frame shorter: less was needed than was claimed.
    ///
    /// # Errors
    /// When it would become longer.
    pub fn shorten(&mut self, bytes: u64) -> Result<(), OutsideFrame> {
        within(self.at, self.frame_bytes, 0, bytes)?;
        self.frame_bytes = bytes;
        Ok(())
    }

    /// Gives the room back, as dropping does. It rings nobody: who waits for room on this side has to be told by the
    /// caller.
    pub fn abort(self) {}
}

impl Claim {
    /// The first byte, for devices and other code that writes in place. The pointer is good for [`Self::bytes`] bytes as
    /// long as this claim lives, and not after it was committed.
    ///
    /// Who dereferences it has to keep to that, and should make no reference of it: the other side shares the memory.
    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        self.side.memory.byte_ptr(self.at, self.frame_bytes)
    }
}

impl<M: Words> Drop for Claim<M> {
    fn drop(&mut self) {
        // Does nothing when it was committed.
        lock(&self.arena).give_back(self.ticket);
    }
}

/// The arena's state holds after every statement, so a panic elsewhere does not spoil it.
pub(super) fn lock(arena: &Mutex<Arena>) -> MutexGuard<'_, Arena> {
    arena.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where bytes of a frame lie in the memory.
pub(super) fn within(frame: usize, frame_bytes: u64, at: u64, bytes: u64) -> Result<usize, OutsideFrame> {
    match at.checked_add(bytes) {
        Some(end) if end <= frame_bytes => Ok(place(frame, at)),
        _ => Err(OutsideFrame {
            at,
            bytes,
            frame_bytes,
        }),
    }
}
