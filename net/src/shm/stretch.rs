//! Bytes of the arena that stay this side's while the other reads them.

use std::sync::{Arc, Mutex};

use crate::shm::arena::{Arena, Taken, place};
use crate::shm::claim::{lock, within};
use crate::shm::fault::OutsideFrame;
use crate::shm::layout::LanePlaces;
use crate::shm::mapping::Mapping;
use crate::shm::side::Side;
use crate::shm::words::{Words, copy_in, copy_out};
use crate::width::wide;

/// Bytes that are filled in place and are then the end of a frame, or of several one after the other
/// ([`Sender::send_with`](crate::shm::Sender::send_with)). The other side never gives them back: they are this side's until the last
/// of those who have this drops it, which must not be before the other side has answered, or its end of the ring is gone. Who
/// drops it earlier spoils what the other reads, and nothing else.
///
/// What is in it at first is left over from earlier frames.
#[derive(Debug)]
pub struct Stretch<M: Words = Mapping> {
    pub(super) side: Arc<Side<M>>,
    pub(super) arena: Arc<Mutex<Arena>>,
    /// First byte, in the arena.
    pub(super) arena_at: u64,
    /// First byte, in the memory.
    at: usize,
    bytes: u64,
    ticket: u64,
}

impl<M: Words> Stretch<M> {
    pub(super) fn new(
        side: Arc<Side<M>>,
        arena: Arc<Mutex<Arena>>,
        lane: &LanePlaces,
        taken: Taken,
        bytes: u64,
    ) -> Self {
        Self {
            side,
            arena,
            arena_at: taken.at,
            at: place(lane.arena, taken.at),
            bytes,
            ticket: taken.ticket,
        }
    }

    /// How many they are.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Writes some of them, from byte `at` on.
    ///
    /// # Errors
    /// When they do not lie within; nothing is written then.
    pub fn write(&mut self, at: u64, bytes: &[u8]) -> Result<(), OutsideFrame> {
        let place = within(self.at, self.bytes, at, wide(bytes.len()))?;
        copy_in(&self.side.memory, place, bytes);
        Ok(())
    }

    /// Copies some of them, from byte `at` on.
    ///
    /// # Errors
    /// When they do not lie within; nothing is copied then.
    pub fn read(&self, at: u64, into: &mut [u8]) -> Result<(), OutsideFrame> {
        let place = within(self.at, self.bytes, at, wide(into.len()))?;
        copy_out(&self.side.memory, place, into);
        Ok(())
    }

    /// Makes it shorter: less was needed. All of its room stays taken.
    ///
    /// # Errors
    /// When it would become longer.
    pub fn shorten(&mut self, bytes: u64) -> Result<(), OutsideFrame> {
        within(self.at, self.bytes, 0, bytes)?;
        self.bytes = bytes;
        Ok(())
    }
}

impl Stretch {
    /// The first byte, for devices and other code that writes in place. The pointer is good for [`Self::bytes`] bytes as
    /// long as this lives; what is written after it was sent reaches the other side or does not.
    ///
    /// Who dereferences it has to keep to that, and should make no reference of it: the other side shares the memory.
    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        self.side.memory.byte_ptr(self.at, self.bytes)
    }
}

impl<M: Words> Drop for Stretch<M> {
    fn drop(&mut self) {
        lock(&self.arena).give_up(self.ticket);
    }
}
