//! The end of a direction that sends frames.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use crate::frame::FRAME_HEADER_BYTES;
use crate::shm::arena::{Arena, Taken, bytes_max, frame_bytes_max_beside_kept, place};
use crate::shm::claim::{Claim, lock};
use crate::shm::fault::{RingFault, SendError};
use crate::shm::layout::{
    INLINE_BYTES_MAX, KIND_ARENA, KIND_INLINE, KIND_SPLIT, LanePlaces, SLOT_ARENA_AT, SLOT_FRAME,
    SLOT_FRAME_BYTES, SLOT_HEAD_BYTES, SLOT_KIND, SLOT_REST_AT, SLOT_TICKET,
};
use crate::shm::mapping::Mapping;
use crate::shm::queue::{QueueReader, QueueWriter};
use crate::shm::side::{News, Side};
use crate::shm::stretch::Stretch;
use crate::shm::words::{WORD_BYTES, Words, copy_in};
use crate::width::wide;

/// Sends frames to the other side: small ones in slots of the ring, others through the arena, where they can also be
/// built in place.
///
/// There is one for each direction. Dropping it tells the other side, which still receives what was sent.
#[derive(Debug)]
pub struct Sender<M: Words = Mapping> {
    side: Arc<Side<M>>,
    lane: LanePlaces,
    slots: QueueWriter,
    releases: QueueReader,
    arena: Arc<Mutex<Arena>>,
    /// Since what was released was taken back.
    taken: Since,
    fault: Option<RingFault>,
}

/// What was taken of the arena since some time.
#[derive(Debug, Default)]
struct Since {
    frames: u32,
    bytes: u64,
}

/// What was released is taken back once so much was taken since, or when there is no room otherwise. To look for it each
/// time would cost a line of the other side's cache for each frame; much later, and other lines of the arena would be used
/// than those that are in the caches.
const RECLAIM_FRAMES: u32 = 16;
const RECLAIM_BYTES: u64 = 64 << 10;

impl<M: Words> Sender<M> {
    pub(super) fn new(side: Arc<Side<M>>, lane: LanePlaces, first_position: u64) -> Self {
        Self {
            side,
            slots: QueueWriter::new(lane.slot_queue(), first_position),
            releases: QueueReader::new(lane.release_queue(), first_position),
            arena: Arc::new(Mutex::new(Arena::new(lane.arena_bytes, lane.slot_count))),
            lane,
            taken: Since::default(),
            fault: None,
        }
    }

    /// Largest frame that this ring takes now, header included: while this side keeps anything ([`Self::keep`]) it is one that
    /// finds room sooner or later all the same.
    pub fn frame_bytes_max(&self) -> u64 {
        let arena_bytes = self.lane.arena_bytes;
        let max = if lock(&self.arena).has_kept() {
            frame_bytes_max_beside_kept(arena_bytes)
        } else {
            arena_bytes
        };
        max.max(wide(INLINE_BYTES_MAX))
    }

    /// Sends a frame whose bytes are these parts one after the other. It is copied; see [`Self::claim`] for frames that
    /// are built in place.
    ///
    /// # Errors
    /// [`SendError::NoRoom`] when the other side has to take or release something first; other errors are for good.
    pub fn send(&mut self, parts: &[&[u8]]) -> Result<(), SendError> {
        let frame_bytes = total_bytes(parts);
        if frame_bytes > wide(INLINE_BYTES_MAX) {
            let taken = self.copy(parts)?;
            let slot = self.slots.slot();
            self.put(slot, SLOT_KIND, KIND_ARENA);
            self.put(slot, SLOT_FRAME_BYTES, frame_bytes);
            self.publish_taken(slot, taken);
            return Ok(());
        }
        self.check(frame_bytes, self.lane.arena_bytes)?;
        self.reserve_slot(frame_bytes)?;
        let mut frame = [0; INLINE_BYTES_MAX];
        let bytes = parts.iter().flat_map(|part| part.iter());
        for (to, from) in frame.iter_mut().zip(bytes) {
            *to = *from;
        }
        let words = usize::try_from(frame_bytes)
            .unwrap_or(INLINE_BYTES_MAX)
            .div_ceil(WORD_BYTES);
        let filled = frame.get(..words.saturating_mul(WORD_BYTES)).unwrap_or(&frame);
        let slot = self.slots.slot();
        self.put(slot, SLOT_KIND, KIND_INLINE);
        self.put(slot, SLOT_FRAME_BYTES, frame_bytes);
        self.side
            .memory
            .store_run(slot.saturating_add(SLOT_FRAME), filled);
        self.publish();
        Ok(())
    }

    /// Room for a frame of this many bytes, header included. A slot is set aside for it, so committing never waits.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub fn claim(&mut self, frame_bytes: u64) -> Result<Claim<M>, SendError> {
        self.take_claim(frame_bytes, None)
    }

    /// The same, with byte `boundary_at` of the frame at a multiple of 4096 bytes in the memory, so that a device can
    /// be given what begins there.
    ///
    /// # Errors
    /// As [`Self::send`]. The largest frame is smaller by up to 4095 bytes.
    pub fn claim_at_boundary(&mut self, frame_bytes: u64, boundary_at: u64) -> Result<Claim<M>, SendError> {
        self.take_claim(frame_bytes, Some(boundary_at))
    }

    /// Sends a claim.
    ///
    /// # Errors
    /// A claim of another ring, or one that became shorter than a frame's header. Both are aborted.
    pub fn commit(&mut self, claim: Claim<M>) -> Result<(), SendError> {
        if !Arc::ptr_eq(&self.arena, &claim.arena) {
            return Err(SendError::ForeignClaim);
        }
        self.check(claim.bytes(), self.lane.arena_bytes)?;
        let slot = self.slots.slot();
        self.put(slot, SLOT_KIND, KIND_ARENA);
        self.put(slot, SLOT_FRAME_BYTES, claim.bytes());
        lock(&self.arena).sent(claim.ticket);
        self.publish_taken(
            slot,
            Taken {
                at: claim.arena_at,
                ticket: claim.ticket,
            },
        );
        Ok(())
    }

    /// Bytes to be filled in place that then are the end of a frame and stay this side's: see [`Stretch`]. At most half of the
    /// arena, its upper one, is kept, in at most half as many stretches as there are slots; so everything else can still be sent.
    /// `boundary_at`: as in [`Self::claim_at_boundary`].
    ///
    /// # Errors
    /// [`SendError::NoRoom`] when there is none now; other errors are for good.
    pub fn keep(&mut self, bytes: u64, boundary_at: Option<u64>) -> Result<Stretch<M>, SendError> {
        let arena_bytes = self.lane.arena_bytes;
        let max = arena_bytes.saturating_sub(frame_bytes_max_beside_kept(arena_bytes));
        self.check_bytes(bytes, 1, max)?;
        self.reclaim()?;
        let taken = lock(&self.arena).take_to_keep(bytes, boundary_at);
        let taken = taken.ok_or(SendError::NoRoom { frame_bytes: bytes })?;
        let (side, arena) = (Arc::clone(&self.side), Arc::clone(&self.arena));
        Ok(Stretch::new(side, arena, &self.lane, taken, bytes))
    }

    /// Whether this ring gave that stretch, so that it can be sent here.
    pub fn is_own(&self, rest: &Stretch<M>) -> bool {
        Arc::ptr_eq(&self.arena, &rest.arena)
    }

    /// Sends a frame that begins with these parts, which are copied, and ends with the stretch, which is read where it is. Only to
    /// a side that knows slots of this kind: that is agreed on before there is a ring.
    ///
    /// # Errors
    /// As [`Self::send`], by the bytes of the parts; and when another ring gave the stretch.
    pub fn send_with(&mut self, parts: &[&[u8]], rest: &Stretch<M>) -> Result<(), SendError> {
        if !self.is_own(rest) {
            return Err(SendError::ForeignClaim);
        }
        let head_bytes = total_bytes(parts);
        let head = self.copy(parts)?;
        let slot = self.slots.slot();
        self.put(slot, SLOT_KIND, KIND_SPLIT);
        self.put(slot, SLOT_FRAME_BYTES, head_bytes.saturating_add(rest.bytes()));
        self.put(slot, SLOT_HEAD_BYTES, head_bytes);
        self.put(slot, SLOT_REST_AT, rest.arena_at);
        self.publish_taken(slot, head);
        Ok(())
    }

    /// Whether [`Self::send_with`] of so many bytes before the stretch would say anything but [`SendError::NoRoom`].
    pub fn can_send_with(&mut self, head_bytes: u64) -> bool {
        self.can_claim(head_bytes, None)
    }

    /// Copies these bytes to where the other side will read them.
    fn copy(&mut self, parts: &[&[u8]]) -> Result<Taken, SendError> {
        let taken = self.take(total_bytes(parts), None, Arena::take_to_send)?;
        let mut at = place(self.lane.arena, taken.at);
        for part in parts {
            copy_in(&self.side.memory, at, part);
            at = at.saturating_add(part.len());
        }
        Ok(taken)
    }

    /// Publishes the slot, of which these bytes of the arena are the other side's now until it gives them back.
    fn publish_taken(&mut self, slot: usize, taken: Taken) {
        self.put(slot, SLOT_ARENA_AT, taken.at);
        self.put(slot, SLOT_TICKET, taken.ticket);
        self.publish();
    }

    /// Whether [`Self::send`] of so many bytes would say anything but [`SendError::NoRoom`]: what to wait for after it
    /// said so.
    pub fn can_send(&mut self, frame_bytes: u64) -> bool {
        if frame_bytes > wide(INLINE_BYTES_MAX) {
            return self.can_claim(frame_bytes, None);
        }
        let room = self.check(frame_bytes, self.lane.arena_bytes);
        let room = room.and_then(|()| self.reserve_slot(frame_bytes));
        !matches!(room, Err(SendError::NoRoom { .. }))
    }

    /// Whether [`Self::claim`], or with a place [`Self::claim_at_boundary`], would say anything but
    /// [`SendError::NoRoom`].
    pub fn can_claim(&mut self, frame_bytes: u64, boundary_at: Option<u64>) -> bool {
        !matches!(
            self.take_claim(frame_bytes, boundary_at),
            Err(SendError::NoRoom { .. })
        )
    }

    fn take_claim(&mut self, frame_bytes: u64, boundary_at: Option<u64>) -> Result<Claim<M>, SendError> {
        let take = |arena: &mut Arena, bytes| arena.take(bytes, boundary_at);
        let taken = self.take(frame_bytes, boundary_at, take)?;
        let (side, arena) = (Arc::clone(&self.side), Arc::clone(&self.arena));
        Ok(Claim::new(side, arena, &self.lane, taken, frame_bytes))
    }

    /// Bytes of the arena, and a slot that no claim has.
    fn take(
        &mut self,
        frame_bytes: u64,
        boundary_at: Option<u64>,
        take: impl Fn(&mut Arena, u64) -> Option<Taken>,
    ) -> Result<Taken, SendError> {
        let arena_bytes = self.lane.arena_bytes;
        let mut max = bytes_max(arena_bytes, boundary_at);
        if frame_bytes > frame_bytes_max_beside_kept(arena_bytes) {
            max = max.min(self.frame_bytes_max());
        }
        self.check(frame_bytes, max)?;
        // One lock for all of it: this is asked for every frame.
        let arena = &mut *lock(&self.arena);
        let memory = &self.side.memory;
        let no_room = SendError::NoRoom { frame_bytes };
        let mut found = || {
            if !has_slot(&mut self.slots, memory, arena)? {
                return Ok(None);
            }
            self.taken.frames = self.taken.frames.saturating_add(1);
            self.taken.bytes = self.taken.bytes.saturating_add(frame_bytes);
            if self.taken.frames < RECLAIM_FRAMES
                && self.taken.bytes < RECLAIM_BYTES
                && let Some(taken) = take(arena, frame_bytes)
            {
                return Ok(Some(taken));
            }
            self.taken = Since::default();
            reclaim(&mut self.releases, memory, arena)?;
            Ok(take(arena, frame_bytes))
        };
        let found: Result<Option<Taken>, RingFault> = found();
        match found {
            Ok(taken) => taken.ok_or(no_room),
            Err(fault) => {
                self.fault = Some(fault);
                Err(fault.into())
            }
        }
    }

    /// What can be said before looking for room.
    fn check(&self, frame_bytes: u64, max: u64) -> Result<(), SendError> {
        self.check_bytes(frame_bytes, wide(FRAME_HEADER_BYTES), max)
    }

    fn check_bytes(&self, frame_bytes: u64, min: u64, max: u64) -> Result<(), SendError> {
        if let Some(fault) = self.fault {
            return Err(fault.into());
        }
        if !(min..=max).contains(&frame_bytes) {
            return Err(SendError::FrameBytes {
                frame_bytes,
                min,
                max,
            });
        }
        if self.side.is_closed(self.lane.receiver_closed) {
            return Err(SendError::Closed);
        }
        Ok(())
    }

    /// Whether there is a slot that no claim has.
    fn reserve_slot(&mut self, frame_bytes: u64) -> Result<(), SendError> {
        let has_slot = has_slot(&mut self.slots, &self.side.memory, &lock(&self.arena));
        match self.remember(has_slot)? {
            true => Ok(()),
            false => Err(SendError::NoRoom { frame_bytes }),
        }
    }

    /// Takes back what the other side has released.
    fn reclaim(&mut self) -> Result<(), RingFault> {
        let reclaimed = reclaim(&mut self.releases, &self.side.memory, &mut lock(&self.arena));
        self.remember(reclaimed)
    }

    /// Remembers a fault: whatever follows it cannot be trusted.
    fn remember<T>(&mut self, result: Result<T, RingFault>) -> Result<T, RingFault> {
        if let Err(fault) = &result {
            self.fault = Some(*fault);
        }
        result
    }

    fn put(&self, slot: usize, part: usize, value: u64) {
        let word = slot.saturating_add(part);
        self.side.memory.store(word, value, Ordering::Relaxed);
    }

    fn publish(&mut self) {
        self.slots.publish(&self.side.memory);
        self.side.wake_peer(News::Frames);
    }
}

/// Whether there is a slot that no claim has.
fn has_slot<M: Words>(slots: &mut QueueWriter, memory: &M, arena: &Arena) -> Result<bool, RingFault> {
    let claimed = arena.claimed_count();
    let free = slots.free(memory, claimed.saturating_add(1))?;
    Ok(free > claimed)
}

/// Takes back what the other side has released.
fn reclaim<M: Words>(releases: &mut QueueReader, memory: &M, arena: &mut Arena) -> Result<(), RingFault> {
    let mut result = Ok(());
    loop {
        let slot = match releases.front(memory) {
            Ok(Some(slot)) => slot,
            Ok(None) => break,
            Err(fault) => {
                result = Err(fault);
                break;
            }
        };
        let ticket = memory.load(slot, Ordering::Relaxed);
        releases.advance();
        if !arena.release(ticket) {
            result = Err(RingFault::Ticket { ticket });
            break;
        }
    }
    if releases.untold() > 0 {
        // Before anything of it is used again: so there is always room for the releases of all that is out.
        releases.tell(memory);
    }
    result
}

fn total_bytes(parts: &[&[u8]]) -> u64 {
    parts
        .iter()
        .fold(0, |sum, part| sum.saturating_add(wide(part.len())))
}

impl<M: Words> Drop for Sender<M> {
    fn drop(&mut self) {
        self.side.close(self.lane.sender_closed);
    }
}
