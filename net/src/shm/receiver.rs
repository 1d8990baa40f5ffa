//! The end of a direction that receives frames.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::frame::FRAME_HEADER_BYTES;
use crate::shm::arrival::{Arrival, Bounds, Releases};
use crate::shm::fault::{ReceiveError, RingFault};
use crate::shm::layout::{
    INLINE_BYTES_MAX, KIND_ARENA, KIND_INLINE, KIND_SPLIT, LanePlaces, SLOT_ARENA_AT, SLOT_FRAME,
    SLOT_FRAME_BYTES, SLOT_HEAD_BYTES, SLOT_KIND, SLOT_REST_AT, SLOT_TICKET,
};
use crate::shm::mapping::Mapping;
use crate::shm::queue::QueueReader;
use crate::shm::side::{News, Side};
use crate::shm::words::{WORD_BYTES, Words};
use crate::width::{narrow, wide};

/// Receives the frames that the other side sends, in their order.
///
/// There is one for each direction. Dropping it tells the other side. What it received can be held longer.
#[derive(Debug)]
pub struct Receiver<M: Words = Mapping> {
    side: Arc<Side<M>>,
    lane: LanePlaces,
    slots: QueueReader,
    releases: Arc<Releases<M>>,
    fault: Option<RingFault>,
}

impl<M: Words> Receiver<M> {
    pub(super) fn new(side: Arc<Side<M>>, lane: LanePlaces, first_position: u64) -> Self {
        Self {
            slots: QueueReader::new(lane.slot_queue(), first_position),
            releases: Arc::new(Releases::new(Arc::clone(&side), &lane, first_position)),
            side,
            lane,
            fault: None,
        }
    }

    /// The next frame, if there is one now.
    ///
    /// # Errors
    /// When the other side has closed the ring and everything was received, or when it broke the ring. Both are for good.
    pub fn receive(&mut self) -> Result<Option<Arrival<M>>, ReceiveError> {
        let next = self.next();
        if let Err(ReceiveError::Fault(fault)) = &next {
            self.fault = Some(*fault);
        }
        next
    }

    /// Whether [`Self::receive`] would give a frame or an error: what to wait for after it gave nothing.
    pub fn is_ready(&mut self) -> bool {
        if self.fault.is_some() || self.releases.fault().is_some() {
            return true;
        }
        match self.slots.front(&self.side.memory) {
            Ok(None) => {
                self.tell(1);
                self.side.is_closed(self.lane.sender_closed)
            }
            _ => true,
        }
    }

    fn next(&mut self) -> Result<Option<Arrival<M>>, ReceiveError> {
        if let Some(fault) = self.fault.or_else(|| self.releases.fault()) {
            return Err(fault.into());
        }
        let Some(slot) = self.slots.front(&self.side.memory)? else {
            self.tell(1);
            if !self.side.is_closed(self.lane.sender_closed) {
                return Ok(None);
            }
            // What was sent before it was closed is there now, if anything is.
            return match self.slots.front(&self.side.memory)? {
                Some(slot) => self.accept(slot).map(Some),
                None => Err(ReceiveError::Closed),
            };
        };
        self.accept(slot).map(Some)
    }

    /// Copies a slot once, checks the copy, and uses nothing else.
    fn accept(&mut self, slot: usize) -> Result<Arrival<M>, ReceiveError> {
        let kind = self.get(slot, SLOT_KIND);
        let frame_bytes = self.get(slot, SLOT_FRAME_BYTES);
        let arrival = match kind {
            KIND_INLINE => {
                check_frame(frame_bytes, 0, wide(INLINE_BYTES_MAX))?;
                let mut frame = [0; INLINE_BYTES_MAX];
                let words = narrow(frame_bytes).div_ceil(WORD_BYTES);
                let filled = frame.get_mut(..words.saturating_mul(WORD_BYTES));
                let filled = filled.unwrap_or_default();
                self.side.memory.load_run(slot.saturating_add(SLOT_FRAME), filled);
                Arrival::inline(frame, frame_bytes)
            }
            KIND_ARENA => {
                let arena_at = self.get(slot, SLOT_ARENA_AT);
                let ticket = self.get(slot, SLOT_TICKET);
                check_frame(frame_bytes, arena_at, self.lane.arena_bytes)?;
                let whole = Bounds {
                    at: arena_at,
                    bytes: frame_bytes,
                };
                Arrival::in_arena(&self.releases, &self.lane, whole, None, ticket)?
            }
            KIND_SPLIT => {
                let head = Bounds {
                    at: self.get(slot, SLOT_ARENA_AT),
                    bytes: self.get(slot, SLOT_HEAD_BYTES),
                };
                let ticket = self.get(slot, SLOT_TICKET);
                let rest = check_split(
                    frame_bytes,
                    head,
                    self.get(slot, SLOT_REST_AT),
                    self.lane.arena_bytes,
                )?;
                Arrival::in_arena(&self.releases, &self.lane, head, Some(rest), ticket)?
            }
            kind => return Err(RingFault::Kind { kind }.into()),
        };
        self.slots.advance();
        // Not for each frame: telling costs a fence.
        self.tell((self.lane.slot_count / 4).max(1));
        Ok(arrival)
    }

    /// Lets the sender use slots again when so many are to be told, and wakes it when it waits for them.
    fn tell(&mut self, least: u64) {
        if self.slots.untold() >= least {
            self.slots.tell(&self.side.memory);
            self.side.wake_peer(News::Room);
        }
    }

    fn get(&self, slot: usize, part: usize) -> u64 {
        self.side
            .memory
            .load(slot.saturating_add(part), Ordering::Relaxed)
    }
}

impl<M: Words> Drop for Receiver<M> {
    fn drop(&mut self) {
        self.side.close(self.lane.receiver_closed);
    }
}

/// Where the rest of a frame is whose head is here. Each of both lies in the arena; whether they are the same bytes is the
/// sender's affair.
fn check_split(frame_bytes: u64, head: Bounds, rest_at: u64, arena_bytes: u64) -> Result<Bounds, RingFault> {
    check_frame(head.bytes, head.at, arena_bytes)?;
    let rest_bytes = frame_bytes.checked_sub(head.bytes);
    let rest = rest_bytes.map(|bytes| Bounds { at: rest_at, bytes });
    let fits = |rest: &Bounds| {
        rest.at
            .checked_add(rest.bytes)
            .is_some_and(|end| end <= arena_bytes)
    };
    rest.filter(fits).ok_or(RingFault::Split {
        frame_bytes,
        head_bytes: head.bytes,
        rest_at,
        arena_bytes,
    })
}

fn check_frame(frame_bytes: u64, arena_at: u64, room_bytes: u64) -> Result<(), RingFault> {
    let fits = arena_at
        .checked_add(frame_bytes)
        .is_some_and(|end| end <= room_bytes);
    if fits && frame_bytes >= wide(FRAME_HEADER_BYTES) {
        return Ok(());
    }
    Err(RingFault::Frame {
        frame_bytes,
        arena_at,
        room_bytes,
    })
}
