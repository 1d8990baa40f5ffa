//! What a peer can do wrong in shared memory, and what sending and receiving can say.

use crate::limits::{SHM_ARENA_BYTES_MAX, SHM_SLOTS_MAX};
use crate::shm::layout::{ARENA_BYTES_MIN, SLOTS_MIN};

/// What the other side wrote that cannot be: this ring is done for. The connection over the socket decides what
/// becomes of the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RingFault {
    /// A position that the other side moved.
    #[error(
        "the other side moved a position of the ring to {found}, where {low} to {high} was possible: it is broken or hostile, connect again"
    )]
    Position {
        /// Where it is said to be.
        found: u64,
        /// Lowest possible place.
        low: u64,
        /// Highest possible place, inclusive: positions wrap, so it may be below `low`.
        high: u64,
    },
    /// A slot without meaning.
    #[error(
        "a slot of the ring is of kind {kind}, which this version does not know: the other side is broken or hostile"
    )]
    Kind {
        /// What it says.
        kind: u64,
    },
    /// A frame that lies outside of the arena or a slot.
    #[error(
        "a slot of the ring describes a frame of {frame_bytes} bytes at {arena_at}, which does not fit {room_bytes} bytes: the other side is broken or hostile"
    )]
    Frame {
        /// Bytes of the frame.
        frame_bytes: u64,
        /// Where it begins in the arena; 0 in a slot.
        arena_at: u64,
        /// Bytes of the arena or of the slot's room.
        room_bytes: u64,
    },
    /// A frame in two stretches whose second one lies outside of the arena, or that is shorter than its first.
    #[error(
        "a slot of the ring describes a frame of {frame_bytes} bytes, {head_bytes} of them its head and the others at {rest_at}, which does not fit {arena_bytes} bytes: the other side is broken or hostile"
    )]
    Split {
        /// Bytes of the frame.
        frame_bytes: u64,
        /// Bytes of its first stretch.
        head_bytes: u64,
        /// Where the second one begins in the arena.
        rest_at: u64,
        /// Bytes of the arena.
        arena_bytes: u64,
    },
    /// More frames than an honest sender can have under way.
    #[error(
        "the other side sent more than the {held_max} frames that may be held at a time: it is broken or hostile"
    )]
    TooManyHeld {
        /// The bound.
        held_max: u64,
    },
    /// A release of what was not sent, or was released before.
    #[error(
        "the other side released frame {ticket:#x}, which it does not hold: it is broken or hostile, connect again"
    )]
    Ticket {
        /// What it says.
        ticket: u64,
    },
}

/// Why a frame was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// No room now. The other side rings when room returns, if this side has announced that it sleeps.
    #[error(
        "no room for a frame of {frame_bytes} bytes in the ring now: wait for the other side to take what was sent"
    )]
    NoRoom {
        /// Bytes of the frame.
        frame_bytes: u64,
    },
    /// A frame that the ring can never hold.
    #[error(
        "a frame of {frame_bytes} bytes does not fit this ring, which takes {min} to {max} bytes: send it over the socket"
    )]
    FrameBytes {
        /// Bytes of the frame.
        frame_bytes: u64,
        /// Least.
        min: u64,
        /// Most.
        max: u64,
    },
    /// A claim that another ring gave.
    #[error("a claim can only be committed where it was made")]
    ForeignClaim,
    /// The other side does not receive any more.
    #[error("the other side has closed the ring")]
    Closed,
    /// The other side broke the ring.
    #[error(transparent)]
    Fault(#[from] RingFault),
}

/// Why no frame can be received any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReceiveError {
    /// The other side does not send any more, and all that it sent was received.
    #[error("the other side has closed the ring")]
    Closed,
    /// The other side broke the ring.
    #[error(transparent)]
    Fault(#[from] RingFault),
}

/// Bytes outside of a frame or a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{bytes} bytes at {at} are not within the {frame_bytes} bytes of the frame")]
pub struct OutsideFrame {
    /// First byte.
    pub at: u64,
    /// How many.
    pub bytes: u64,
    /// Bytes of the frame.
    pub frame_bytes: u64,
}

/// Why shared memory was not made or not mapped.
#[derive(Debug, thiserror::Error)]
pub enum MapError {
    /// The system refused.
    #[error("cannot {what}: {error}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        error: std::io::Error,
    },
    /// A number of slots out of bounds.
    #[error("a ring of {slot_count} slots: a power of two from {SLOTS_MIN} to {SHM_SLOTS_MAX} is needed")]
    Slots {
        /// How many.
        slot_count: u32,
    },
    /// An arena out of bounds.
    #[error(
        "an arena of {arena_bytes} bytes: a multiple of {ARENA_BYTES_MIN} up to {SHM_ARENA_BYTES_MAX} is needed"
    )]
    Arena {
        /// How large.
        arena_bytes: u64,
    },
    /// The memory could still change its size, which would kill who touches what is gone.
    #[error(
        "the shared memory is not sealed against shrinking and growing (its seals are {seals:#x}): not made by Mofka"
    )]
    Seals {
        /// The seals that it has.
        seals: u32,
    },
    /// Another size than its header says.
    #[error("the shared memory has {found_bytes} bytes, and its header needs {expected_bytes}")]
    Bytes {
        /// The size that it has.
        found_bytes: u64,
        /// The size that it should have.
        expected_bytes: u64,
    },
    /// The header's checksum, magic or reserved bytes.
    #[error("the shared memory does not begin with the header of a ring: not made by Mofka, or damaged")]
    Header,
    /// Another version.
    #[error(
        "the ring has version {found}, and this side speaks version {spoken}: use the same release on both sides"
    )]
    Version {
        /// What it says.
        found: u32,
        /// What is spoken here.
        spoken: u32,
    },
    /// Another layout: sizes or order of bytes differ between the builds.
    #[error(
        "the ring's layout is {found:#010x} and {spoken:#010x} here: use builds of the same release on both sides"
    )]
    Layout {
        /// What it says.
        found: u32,
        /// What it would be here.
        spoken: u32,
    },
}
