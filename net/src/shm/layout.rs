//! Where everything lies in the shared memory.
//!
//! ```text
//! 0                header page: header, positions and flags of both lanes, sleeps
//! 4096             submission slots, submission releases      (client to server)
//!                  completion slots, completion releases      (server to client)
//! next page        submission arena, completion arena
//! ```
//!
//! The header is written once, before the memory is shared. All else is 64-bit words in the order of the machine: both
//! sides run on the same one.

use std::mem::offset_of;

use bytemuck::{Pod, Zeroable};
use mofka_log::le::{Le32, Le64};

use crate::limits::{SHM_ARENA_BYTES_MAX, SHM_SLOTS_MAX};
use crate::shm::fault::MapError;
use crate::shm::queue::Queue;
use crate::shm::words::WORD_BYTES;
use crate::width::{narrow, wide};

/// Fewest slots of a ring.
pub const SLOTS_MIN: u32 = 2;
/// Smallest arena; arenas are multiples of it. Also the boundary at which data can be placed for direct writes.
pub const ARENA_BYTES_MIN: u64 = 4096;
/// Largest frame that travels in a slot of the ring itself.
pub const INLINE_BYTES_MAX: usize = 112;

/// Bytes of the header page.
pub(super) const HEADER_PAGE_BYTES: usize = 4096;
/// Bytes of the header.
pub(super) const HEADER_BYTES: usize = size_of::<RawHeader>();
/// A slot that holds the frame.
pub(super) const KIND_INLINE: u64 = 1;
/// A slot that says where in the arena the frame is.
pub(super) const KIND_ARENA: u64 = 2;
/// A slot that says where in the arena the frame's head is, and where the rest.
pub(super) const KIND_SPLIT: u64 = 3;

const MAGIC: u64 = u64::from_le_bytes(*b"MOFKASHM");
const VERSION: u32 = 1;
/// Bytes of the header that its checksum covers.
const CHECKED_BYTES: usize = 60;
/// What one side writes has lines that the other's do not share; two, because processors fetch lines in pairs.
const LINE_BYTES: usize = 128;

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct RawHeader {
    magic: Le64,
    version: Le32,
    layout_hash: Le32,
    memory_bytes: Le64,
    first_position: Le64,
    submission_slots: Le32,
    completion_slots: Le32,
    submission_arena_bytes: Le64,
    completion_arena_bytes: Le64,
    reserved: [u8; 4],
    header_crc: Le32,
}

/// Positions and flags of one direction.
#[repr(C)]
struct RawLane {
    published: Le64,
    reserved_1: [u8; 120],
    consumed: Le64,
    reserved_2: [u8; 120],
    released: Le64,
    reserved_3: [u8; 120],
    reclaimed: Le64,
    reserved_4: [u8; 120],
    sender_closed: Le64,
    reserved_5: [u8; 120],
    receiver_closed: Le64,
    reserved_6: [u8; 120],
}

#[repr(C)]
struct RawSleeps {
    server_sleeps: Le64,
    reserved_1: [u8; 120],
    client_sleeps: Le64,
    reserved_2: [u8; 120],
}

#[repr(C)]
struct RawInlineSlot {
    kind: Le64,
    frame_bytes: Le64,
    frame: [u8; 112],
}

#[repr(C)]
struct RawArenaSlot {
    kind: Le64,
    frame_bytes: Le64,
    arena_at: Le64,
    ticket: Le64,
    unused: [u8; 96],
}

#[repr(C)]
struct RawSplitSlot {
    kind: Le64,
    frame_bytes: Le64,
    arena_at: Le64,
    ticket: Le64,
    head_bytes: Le64,
    rest_at: Le64,
    unused: [u8; 80],
}

/// Byte at which the positions of submissions begin.
const SUBMISSION_AT: usize = LINE_BYTES;
const COMPLETION_AT: usize = SUBMISSION_AT + size_of::<RawLane>();
const SLEEPS_AT: usize = COMPLETION_AT + size_of::<RawLane>();
const SLEEPS_END: usize = SLEEPS_AT + size_of::<RawSleeps>();
const SERVER_SLEEPS: usize = (SLEEPS_AT + offset_of!(RawSleeps, server_sleeps)) / WORD_BYTES;
const CLIENT_SLEEPS: usize = (SLEEPS_AT + offset_of!(RawSleeps, client_sleeps)) / WORD_BYTES;

const SLOT_BYTES: usize = size_of::<RawInlineSlot>();
const FRAME_IN_SLOT_AT: usize = offset_of!(RawInlineSlot, frame);
/// Words of a slot.
pub(super) const SLOT_WORDS: usize = SLOT_BYTES / WORD_BYTES;
/// Words of a slot in which its parts are.
pub(super) const SLOT_KIND: usize = offset_of!(RawInlineSlot, kind) / WORD_BYTES;
pub(super) const SLOT_FRAME_BYTES: usize = offset_of!(RawInlineSlot, frame_bytes) / WORD_BYTES;
pub(super) const SLOT_FRAME: usize = FRAME_IN_SLOT_AT / WORD_BYTES;
pub(super) const SLOT_ARENA_AT: usize = offset_of!(RawArenaSlot, arena_at) / WORD_BYTES;
pub(super) const SLOT_TICKET: usize = offset_of!(RawArenaSlot, ticket) / WORD_BYTES;
pub(super) const SLOT_HEAD_BYTES: usize = offset_of!(RawSplitSlot, head_bytes) / WORD_BYTES;
pub(super) const SLOT_REST_AT: usize = offset_of!(RawSplitSlot, rest_at) / WORD_BYTES;

const _: () = {
    assert!(HEADER_BYTES == 64 && HEADER_BYTES <= LINE_BYTES);
    assert!(offset_of!(RawHeader, header_crc) == CHECKED_BYTES);
    assert!(size_of::<RawLane>() == 6 * LINE_BYTES);
    assert!(size_of::<RawSleeps>() == 2 * LINE_BYTES);
    assert!(SLEEPS_END <= HEADER_PAGE_BYTES);
    assert!(SLOT_BYTES == LINE_BYTES && size_of::<RawArenaSlot>() == SLOT_BYTES);
    assert!(offset_of!(RawArenaSlot, kind) == offset_of!(RawInlineSlot, kind));
    assert!(offset_of!(RawArenaSlot, frame_bytes) == offset_of!(RawInlineSlot, frame_bytes));
    assert!(size_of::<RawSplitSlot>() == SLOT_BYTES);
    assert!(offset_of!(RawSplitSlot, kind) == offset_of!(RawArenaSlot, kind));
    assert!(offset_of!(RawSplitSlot, frame_bytes) == offset_of!(RawArenaSlot, frame_bytes));
    assert!(offset_of!(RawSplitSlot, arena_at) == offset_of!(RawArenaSlot, arena_at));
    assert!(offset_of!(RawSplitSlot, ticket) == offset_of!(RawArenaSlot, ticket));
    assert!(SLOT_BYTES == FRAME_IN_SLOT_AT + INLINE_BYTES_MAX);
    assert!(INLINE_BYTES_MAX.is_multiple_of(WORD_BYTES));
};

/// Sizes of one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneConfig {
    /// Frames under way at a time, and as many held by the receiver: a power of two from [`SLOTS_MIN`] to
    /// [`SHM_SLOTS_MAX`](crate::limits::SHM_SLOTS_MAX).
    pub slot_count: u32,
    /// Bytes for frames of more than [`INLINE_BYTES_MAX`]: a multiple of [`ARENA_BYTES_MIN`] up to
    /// [`SHM_ARENA_BYTES_MAX`](crate::limits::SHM_ARENA_BYTES_MAX). No frame can be larger.
    pub arena_bytes: u64,
}

/// Sizes of a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingConfig {
    /// From client to server.
    pub submission: LaneConfig,
    /// From server to client.
    pub completion: LaneConfig,
    /// Where all positions begin: 0. Tests begin just before they wrap.
    pub first_position: u64,
}

impl RingConfig {
    /// Bytes of shared memory that it takes.
    ///
    /// # Errors
    /// When a size is out of its bounds.
    pub fn memory_bytes(&self) -> Result<u64, MapError> {
        Places::of(self).map(|places| places.memory_bytes)
    }
}

/// Where one direction lies: indices of words, and the arena's first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LanePlaces {
    pub(super) published: usize,
    pub(super) consumed: usize,
    pub(super) released: usize,
    pub(super) reclaimed: usize,
    pub(super) sender_closed: usize,
    pub(super) receiver_closed: usize,
    pub(super) slots: usize,
    pub(super) releases: usize,
    pub(super) slot_count: u64,
    /// In bytes.
    pub(super) arena: usize,
    pub(super) arena_bytes: u64,
}

impl LanePlaces {
    /// The frames under way.
    pub(super) fn slot_queue(&self) -> Queue {
        Queue {
            published: self.published,
            consumed: self.consumed,
            slots: self.slots,
            slot_words: SLOT_WORDS,
            slot_count: self.slot_count,
        }
    }

    /// Tickets of frames that the receiver is done with. As many as can be out, so that there is always room.
    pub(super) fn release_queue(&self) -> Queue {
        Queue {
            published: self.released,
            consumed: self.reclaimed,
            slots: self.releases,
            slot_words: 1,
            slot_count: self.slot_count,
        }
    }
}

/// Where everything lies in memory of a known size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Places {
    pub(super) submission: LanePlaces,
    pub(super) completion: LanePlaces,
    pub(super) server_sleeps: usize,
    pub(super) client_sleeps: usize,
    pub(super) first_position: u64,
    pub(super) memory_bytes: u64,
}

impl Places {
    /// Lays out a ring of these sizes.
    ///
    /// # Errors
    /// When a size is out of its bounds.
    pub(super) fn of(config: &RingConfig) -> Result<Self, MapError> {
        let mut next = HEADER_PAGE_BYTES;
        let submission_rings = rings(&config.submission, &mut next)?;
        let completion_rings = rings(&config.completion, &mut next)?;
        next = next.next_multiple_of(HEADER_PAGE_BYTES);
        let submission = lane(SUBMISSION_AT, submission_rings, &config.submission, &mut next)?;
        let completion = lane(COMPLETION_AT, completion_rings, &config.completion, &mut next)?;
        Ok(Self {
            submission,
            completion,
            server_sleeps: SERVER_SLEEPS,
            client_sleeps: CLIENT_SLEEPS,
            first_position: config.first_position,
            memory_bytes: wide(next),
        })
    }

    /// The positions as they are at the beginning: words and their values.
    pub(super) fn first_words(&self) -> [(usize, u64); 8] {
        let of = |lane: &LanePlaces| [lane.published, lane.consumed, lane.released, lane.reclaimed];
        let ([a, b, c, d], [e, f, g, h]) = (of(&self.submission), of(&self.completion));
        [a, b, c, d, e, f, g, h].map(|word| (word, self.first_position))
    }
}

/// Words of slots and of releases.
fn rings(config: &LaneConfig, next: &mut usize) -> Result<(usize, usize), MapError> {
    let slot_count = config.slot_count;
    if !slot_count.is_power_of_two() || !(SLOTS_MIN..=SHM_SLOTS_MAX).contains(&slot_count) {
        return Err(MapError::Slots { slot_count });
    }
    let count = narrow(u64::from(slot_count));
    let slots = *next;
    // Bounded above, so these cannot overflow; neither do they on a mistake in the bound.
    let releases = slots.saturating_add(count.saturating_mul(SLOT_BYTES));
    *next = releases
        .saturating_add(count.saturating_mul(WORD_BYTES))
        .next_multiple_of(LINE_BYTES);
    Ok((slots / WORD_BYTES, releases / WORD_BYTES))
}

fn lane(
    at: usize,
    (slots, releases): (usize, usize),
    config: &LaneConfig,
    next: &mut usize,
) -> Result<LanePlaces, MapError> {
    let arena_bytes = config.arena_bytes;
    let is_whole = arena_bytes.is_multiple_of(ARENA_BYTES_MIN);
    if !is_whole || !(ARENA_BYTES_MIN..=SHM_ARENA_BYTES_MAX).contains(&arena_bytes) {
        return Err(MapError::Arena { arena_bytes });
    }
    let arena = *next;
    *next = arena
        .checked_add(narrow(arena_bytes))
        .filter(|end| isize::try_from(*end).is_ok())
        .ok_or(MapError::Arena { arena_bytes })?;
    let word = |field: usize| at.saturating_add(field) / WORD_BYTES;
    Ok(LanePlaces {
        published: word(offset_of!(RawLane, published)),
        consumed: word(offset_of!(RawLane, consumed)),
        released: word(offset_of!(RawLane, released)),
        reclaimed: word(offset_of!(RawLane, reclaimed)),
        sender_closed: word(offset_of!(RawLane, sender_closed)),
        receiver_closed: word(offset_of!(RawLane, receiver_closed)),
        slots,
        releases,
        slot_count: u64::from(config.slot_count),
        arena,
        arena_bytes,
    })
}

/// The header of a ring of these sizes.
///
/// # Errors
/// When a size is out of its bounds.
pub(super) fn encode_header(config: &RingConfig) -> Result<[u8; HEADER_BYTES], MapError> {
    let places = Places::of(config)?;
    let mut raw = RawHeader {
        magic: Le64::from(MAGIC),
        version: Le32::from(VERSION),
        layout_hash: Le32::from(layout_hash()),
        memory_bytes: Le64::from(places.memory_bytes),
        first_position: Le64::from(config.first_position),
        submission_slots: Le32::from(config.submission.slot_count),
        completion_slots: Le32::from(config.completion.slot_count),
        submission_arena_bytes: Le64::from(config.submission.arena_bytes),
        completion_arena_bytes: Le64::from(config.completion.arena_bytes),
        reserved: [0; 4],
        header_crc: Le32::from(0),
    };
    raw.header_crc = Le32::from(header_crc(&raw));
    Ok(bytemuck::cast(raw))
}

/// Checks a private copy of a header, and that memory of `found_bytes` is what it needs.
///
/// # Errors
/// When it is another version or layout, damaged, or of another size.
pub(super) fn check_header(bytes: [u8; HEADER_BYTES], found_bytes: u64) -> Result<Places, MapError> {
    let raw: RawHeader = bytemuck::cast(bytes);
    if raw.magic.get() != MAGIC || header_crc(&raw) != raw.header_crc.get() {
        return Err(MapError::Header);
    }
    if raw.version.get() != VERSION {
        return Err(MapError::Version {
            found: raw.version.get(),
            spoken: VERSION,
        });
    }
    if raw.layout_hash.get() != layout_hash() {
        return Err(MapError::Layout {
            found: raw.layout_hash.get(),
            spoken: layout_hash(),
        });
    }
    if raw.reserved != [0; 4] {
        return Err(MapError::Header);
    }
    let places = Places::of(&RingConfig {
        submission: LaneConfig {
            slot_count: raw.submission_slots.get(),
            arena_bytes: raw.submission_arena_bytes.get(),
        },
        completion: LaneConfig {
            slot_count: raw.completion_slots.get(),
            arena_bytes: raw.completion_arena_bytes.get(),
        },
        first_position: raw.first_position.get(),
    })?;
    if places.memory_bytes != found_bytes || raw.memory_bytes.get() != found_bytes {
        return Err(MapError::Bytes {
            found_bytes,
            expected_bytes: places.memory_bytes,
        });
    }
    Ok(places)
}

fn header_crc(raw: &RawHeader) -> u32 {
    crc32fast::hash(bytemuck::bytes_of(raw).get(..CHECKED_BYTES).unwrap_or_default())
}

/// Sizes and places that both sides must agree on, and the order of bytes in a word. Without those of split slots, which are sent
/// only to who said in hello that it knows them: so peers from before there were any still agree.
fn layout_hash() -> u32 {
    let facts = [
        u64::from_ne_bytes([1, 2, 3, 4, 5, 6, 7, 8]),
        wide(HEADER_PAGE_BYTES),
        wide(SUBMISSION_AT),
        wide(COMPLETION_AT),
        wide(SLEEPS_AT),
        wide(size_of::<RawHeader>()),
        wide(size_of::<RawLane>()),
        wide(offset_of!(RawLane, published)),
        wide(offset_of!(RawLane, consumed)),
        wide(offset_of!(RawLane, released)),
        wide(offset_of!(RawLane, reclaimed)),
        wide(offset_of!(RawLane, sender_closed)),
        wide(offset_of!(RawLane, receiver_closed)),
        wide(offset_of!(RawSleeps, server_sleeps)),
        wide(offset_of!(RawSleeps, client_sleeps)),
        wide(SLOT_BYTES),
        wide(FRAME_IN_SLOT_AT),
        wide(offset_of!(RawArenaSlot, arena_at)),
        wide(offset_of!(RawArenaSlot, ticket)),
        KIND_INLINE,
        KIND_ARENA,
    ];
    let mut hash = crc32fast::Hasher::new();
    for fact in facts {
        hash.update(&fact.to_le_bytes());
    }
    hash.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> RingConfig {
        RingConfig {
            submission: LaneConfig {
                slot_count: 8,
                arena_bytes: 8192,
            },
            completion: LaneConfig {
                slot_count: 2,
                arena_bytes: 4096,
            },
            first_position: u64::MAX - 3,
        }
    }

    #[test]
    fn nothing_overlaps_and_everything_is_inside() {
        let places = Places::of(&config()).unwrap();
        let mut stretches = vec![(0, HEADER_BYTES)];
        for lane in [&places.submission, &places.completion] {
            let count = narrow(lane.slot_count);
            for word in [
                lane.published,
                lane.consumed,
                lane.released,
                lane.reclaimed,
                lane.sender_closed,
                lane.receiver_closed,
            ] {
                assert_eq!(word * WORD_BYTES % LINE_BYTES, 0);
                stretches.push((word * WORD_BYTES, LINE_BYTES));
            }
            assert_eq!(lane.slots * WORD_BYTES % LINE_BYTES, 0);
            assert_eq!(lane.arena % 4096, 0);
            stretches.push((lane.slots * WORD_BYTES, count * SLOT_BYTES));
            stretches.push((lane.releases * WORD_BYTES, count * WORD_BYTES));
            stretches.push((lane.arena, narrow(lane.arena_bytes)));
        }
        stretches.push((places.server_sleeps * WORD_BYTES, LINE_BYTES));
        stretches.push((places.client_sleeps * WORD_BYTES, LINE_BYTES));
        stretches.sort_unstable();
        for pair in stretches.windows(2) {
            assert!(pair[0].0 + pair[0].1 <= pair[1].0, "{pair:?}");
        }
        let (at, bytes) = stretches[stretches.len() - 1];
        assert_eq!(wide(at + bytes), places.memory_bytes);
    }

    #[test]
    fn a_header_gives_the_same_places() {
        let header = encode_header(&config()).unwrap();
        let places = Places::of(&config()).unwrap();
        assert_eq!(check_header(header, places.memory_bytes).unwrap(), places);
        let other = check_header(header, places.memory_bytes + 1);
        assert!(matches!(other, Err(MapError::Bytes { .. })), "{other:?}");
    }

    #[test]
    fn every_flipped_bit_of_a_header_is_noticed() {
        let header = encode_header(&config()).unwrap();
        let memory_bytes = Places::of(&config()).unwrap().memory_bytes;
        for bit in 0..HEADER_BYTES * 8 {
            let mut flipped = header;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(check_header(flipped, memory_bytes).is_err(), "bit {bit}");
        }
    }

    /// Peers of all releases of version 1 have this.
    #[test]
    #[cfg(target_endian = "little")]
    fn the_layout_is_that_of_the_first_release() {
        assert_eq!(layout_hash(), 0x781A_6A1A);
    }

    /// As a peer with another version, layout or sizes would write it: with a checksum that holds.
    fn forged(change: impl FnOnce(&mut RawHeader)) -> Result<Places, MapError> {
        let mut raw: RawHeader = bytemuck::cast(encode_header(&config()).unwrap());
        change(&mut raw);
        raw.header_crc = Le32::from(header_crc(&raw));
        check_header(bytemuck::cast(raw), Places::of(&config()).unwrap().memory_bytes)
    }

    #[test]
    fn what_does_not_fit_is_told_apart() {
        assert!(forged(|_| ()).is_ok());
        let version = forged(|raw| raw.version = Le32::from(2));
        assert!(
            matches!(version, Err(MapError::Version { found: 2, .. })),
            "{version:?}"
        );
        let layout = forged(|raw| raw.layout_hash = Le32::from(7));
        assert!(
            matches!(layout, Err(MapError::Layout { found: 7, .. })),
            "{layout:?}"
        );
        let reserved = forged(|raw| raw.reserved = [1; 4]);
        assert!(matches!(reserved, Err(MapError::Header)), "{reserved:?}");
        for slot_count in [0, 1, 3, SHM_SLOTS_MAX * 2, u32::MAX] {
            let slots = forged(|raw| raw.completion_slots = Le32::from(slot_count));
            assert!(matches!(slots, Err(MapError::Slots { .. })), "{slots:?}");
        }
        for arena_bytes in [0, 1, 4097, SHM_ARENA_BYTES_MAX * 2, u64::MAX, 1 << 63] {
            let arena = forged(|raw| raw.submission_arena_bytes = Le64::from(arena_bytes));
            assert!(matches!(arena, Err(MapError::Arena { .. })), "{arena:?}");
        }
        let larger = forged(|raw| raw.submission_arena_bytes = Le64::from(12288));
        assert!(matches!(larger, Err(MapError::Bytes { .. })), "{larger:?}");
    }
}
