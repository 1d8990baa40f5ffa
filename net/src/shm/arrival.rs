//! A frame that came, and how its bytes are given back.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;

use crate::frame::{FRAME_HEADER_BYTES, FrameError, FrameHeader};
use crate::shm::arena::place;
use crate::shm::claim::within;
use crate::shm::fault::{OutsideFrame, RingFault};
use crate::shm::layout::{INLINE_BYTES_MAX, LanePlaces};
use crate::shm::mapping::Mapping;
use crate::shm::queue::QueueWriter;
use crate::shm::side::{News, Side};
use crate::shm::words::{Words, copy_out};
use crate::width::{narrow, wide};

/// A frame that came. Its bytes may lie in memory that the sender can still write: what is to be trusted has to be
/// copied first, and then checked. Dropping it gives its room back to the sender.
///
/// Arrivals can be dropped in any order, on any thread.
pub struct Arrival<M: Words = Mapping> {
    frame_bytes: u64,
    place: Place<M>,
}

enum Place<M: Words> {
    Inline([u8; INLINE_BYTES_MAX]),
    Arena(Lease<M>),
    Split(Lease<M>, Rest),
}

/// The end of a frame in two stretches.
struct Rest {
    /// First byte, in the memory.
    at: usize,
    bytes: u64,
}

/// Bytes of the arena that were checked to be in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// First byte, in the arena.
    pub(super) at: u64,
    pub(super) bytes: u64,
}

impl<M: Words> fmt::Debug for Arrival<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arrival")
            .field("bytes", &self.frame_bytes)
            .field("is_in_arena", &self.is_in_arena())
            .finish()
    }
}

impl<M: Words> Arrival<M> {
    pub(super) fn inline(frame: [u8; INLINE_BYTES_MAX], frame_bytes: u64) -> Self {
        Self {
            frame_bytes,
            place: Place::Inline(frame),
        }
    }

    /// `rest`: where it goes on, if it is in two stretches. Only the first one is given back.
    pub(super) fn in_arena(
        releases: &Arc<Releases<M>>,
        lane: &LanePlaces,
        first: Bounds,
        rest: Option<Bounds>,
        ticket: u64,
    ) -> Result<Self, RingFault> {
        releases.hold()?;
        let lease = Lease {
            releases: Arc::clone(releases),
            at: place(lane.arena, first.at),
            ticket,
        };
        let rest_bytes = rest.map_or(0, |rest| rest.bytes);
        Ok(Self {
            frame_bytes: first.bytes.saturating_add(rest_bytes),
            place: match rest {
                None => Place::Arena(lease),
                Some(Bounds { at, bytes }) => Place::Split(
                    lease,
                    Rest {
                        at: place(lane.arena, at),
                        bytes,
                    },
                ),
            },
        })
    }

    /// Bytes of the frame, header included: at least those of a header.
    pub fn bytes(&self) -> u64 {
        self.frame_bytes
    }

    /// Whether its bytes lie in the arena, where the sender can still write, and not in a copy.
    pub fn is_in_arena(&self) -> bool {
        !matches!(self.place, Place::Inline(_))
    }

    /// Whether it is in two stretches, of which the second stays the sender's: only those send such frames who agreed on it.
    pub fn is_split(&self) -> bool {
        matches!(self.place, Place::Split(..))
    }

    /// Copies bytes of the frame, from byte `at` of it on.
    ///
    /// # Errors
    /// When they do not lie within the frame; nothing is copied then.
    pub fn read(&self, at: u64, into: &mut [u8]) -> Result<(), OutsideFrame> {
        let bytes = wide(into.len());
        match &self.place {
            Place::Inline(frame) => {
                let start = within(0, self.frame_bytes, at, bytes)?;
                if let Some(from) = frame.get(start..start.saturating_add(into.len())) {
                    into.copy_from_slice(from);
                }
            }
            Place::Arena(lease) => {
                let start = within(lease.at, self.frame_bytes, at, bytes)?;
                copy_out(&lease.releases.side.memory, start, into);
            }
            Place::Split(lease, rest) => {
                within(0, self.frame_bytes, at, bytes)?;
                let head_bytes = self.frame_bytes.saturating_sub(rest.bytes);
                let of_head = narrow(head_bytes.saturating_sub(at).min(bytes));
                let (head, tail) = into.split_at_mut_checked(of_head).unwrap_or_default();
                let memory = &lease.releases.side.memory;
                if !head.is_empty() {
                    copy_out(memory, within(lease.at, head_bytes, at, wide(head.len()))?, head);
                }
                if !tail.is_empty() {
                    let tail_at = at.saturating_sub(head_bytes);
                    copy_out(
                        memory,
                        within(rest.at, rest.bytes, tail_at, wide(tail.len()))?,
                        tail,
                    );
                }
            }
        }
        Ok(())
    }

    /// The frame's header, checked on a copy. The body is as long as it says.
    ///
    /// # Errors
    /// As [`FrameHeader::check`], and when the frame is not as long as its header says.
    pub fn header(&self, frame_bytes_max: u64) -> Result<FrameHeader, FrameError> {
        let mut copy = [0; FRAME_HEADER_BYTES];
        // A frame has a header's bytes, or it would not have been accepted.
        let _ = self.read(0, &mut copy);
        let header = FrameHeader::check(&copy, frame_bytes_max)?;
        let have_bytes = self.frame_bytes.saturating_sub(wide(FRAME_HEADER_BYTES));
        if header.body_bytes() != have_bytes {
            return Err(FrameError::BodyBytes {
                body_bytes: header.body_bytes(),
                have_bytes,
            });
        }
        Ok(header)
    }

    /// A copy of the body, which nobody else can write: what is checked is what is used.
    pub fn body(&self) -> Bytes {
        if let Place::Inline(frame) = &self.place {
            let body = frame.get(FRAME_HEADER_BYTES..narrow(self.frame_bytes));
            return Bytes::copy_from_slice(body.unwrap_or_default());
        }
        let header_bytes = wide(FRAME_HEADER_BYTES);
        let mut copy = vec![0; narrow(self.frame_bytes.saturating_sub(header_bytes))];
        // See `header`.
        let _ = self.read(header_bytes, &mut copy);
        copy.into()
    }
}

impl Arrival {
    /// The first byte in the arena, for devices that read in place; nothing for frames that are copies or in two stretches. The pointer is
    /// good for [`Self::bytes`] bytes as long as this arrival lives.
    ///
    /// The sender can write there at any time, so make no reference of it, and believe nothing that was read from there
    /// twice.
    pub fn as_ptr(&self) -> Option<*const u8> {
        match &self.place {
            Place::Inline(_) | Place::Split(..) => None,
            Place::Arena(lease) => {
                let memory = &lease.releases.side.memory;
                Some(memory.byte_ptr(lease.at, self.frame_bytes).cast_const())
            }
        }
    }
}

struct Lease<M: Words> {
    releases: Arc<Releases<M>>,
    /// First byte, in the memory.
    at: usize,
    ticket: u64,
}

impl<M: Words> Drop for Lease<M> {
    fn drop(&mut self) {
        self.releases.release(self.ticket);
    }
}

/// Gives arrivals back to the sender, from any thread.
#[derive(Debug)]
pub(super) struct Releases<M> {
    side: Arc<Side<M>>,
    queue: Mutex<QueueWriter>,
    fault: OnceLock<RingFault>,
    held_count: AtomicU64,
    held_max: u64,
}

impl<M: Words> Releases<M> {
    pub(super) fn new(side: Arc<Side<M>>, lane: &LanePlaces, first_position: u64) -> Self {
        Self {
            side,
            queue: Mutex::new(QueueWriter::new(lane.release_queue(), first_position)),
            fault: OnceLock::new(),
            held_count: AtomicU64::new(0),
            held_max: lane.slot_count,
        }
    }

    /// One more is held. Only the receiver calls this.
    fn hold(&self) -> Result<(), RingFault> {
        // A count between threads of this side, which guards nothing: partner of the one in `release`.
        if self.held_count.fetch_add(1, Ordering::Relaxed) >= self.held_max {
            self.held_count.fetch_sub(1, Ordering::Relaxed);
            return Err(RingFault::TooManyHeld {
                held_max: self.held_max,
            });
        }
        Ok(())
    }

    /// What went wrong when something was given back.
    pub(super) fn fault(&self) -> Option<RingFault> {
        self.fault.get().copied()
    }

    fn release(&self, ticket: u64) {
        match self.publish(ticket) {
            Ok(()) => self.side.wake_peer(News::Room),
            // The receiver tells it, the first one of several.
            Err(fault) => drop(self.fault.set(fault)),
        }
    }

    fn publish(&self, ticket: u64) -> Result<(), RingFault> {
        // The queue's state holds after every statement, so a panic elsewhere does not spoil it.
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        // Before the sender can know: it may send the next one at once. Ordered by Q1 of the release, then Q1 of that one.
        self.held_count.fetch_sub(1, Ordering::Relaxed);
        let memory = &self.side.memory;
        if queue.free(memory, 1)? == 0 {
            // An honest sender never has more out than the queue takes.
            return Err(RingFault::TooManyHeld {
                held_max: self.held_max,
            });
        }
        memory.store(queue.slot(), ticket, Ordering::Relaxed);
        queue.publish(memory);
        Ok(())
    }
}
