//! The first block of every file: what the file is, whose it is, and the salt that ties frames to it.
//!
//! ```text
//! at  0        4           8        10    12   16         32             40    48          56           60       128
//!     "MFS1"   header_crc  version  kind  0 x4 partition  base_event_id  salt  created_us  incarnation  0 x 68   0 to 4096
//! ```
//!
//! Written and synced before the file is used, never rewritten. `header_crc` covers bytes 8 to 128. All of it is in the
//! first 512-byte sector, so a torn write leaves it whole or absent.

use bytemuck::{Pod, Zeroable};
use uuid::Uuid;

use crate::ids::EventId;
use crate::le::{Le16, Le32, Le64};
use crate::limits::{BLOCK_BYTES, EVENT_ID_END};
use crate::width::wide;

/// Bytes of a segment header; the rest of its block is zero.
pub const SEGMENT_HEADER_BYTES: usize = 128;
const MAGIC: u32 = u32::from_le_bytes(*b"MFS1");
const VERSION: u16 = 1;
const CHECKED_FROM: usize = 8;

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SegmentKind {
    /// Batch frames of a partition.
    Meta,
    /// Data of a partition's batches.
    Data,
    /// Batch frames whose events are records of the catalog.
    Catalog,
    /// Batch frames whose events are cursors of a partition.
    Cursors,
}

impl SegmentKind {
    fn number(self) -> u16 {
        match self {
            Self::Meta => 1,
            Self::Data => 2,
            Self::Catalog => 3,
            Self::Cursors => 4,
        }
    }

    fn of(number: u16) -> Option<Self> {
        [Self::Meta, Self::Data, Self::Catalog, Self::Cursors]
            .into_iter()
            .find(|kind| kind.number() == number)
    }
}

/// The header of a file, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct SegmentHeader {
    magic: Le32,
    header_crc: Le32,
    version: Le16,
    kind: Le16,
    reserved: [u8; 4],
    partition: [u8; 16],
    base_event_id: Le64,
    salt: Le64,
    created_us: Le64,
    incarnation: Le32,
    reserved_to_end: [Le32; 17],
}

const _: () = {
    assert!(size_of::<SegmentHeader>() == SEGMENT_HEADER_BYTES && align_of::<SegmentHeader>() == 1);
    assert!(std::mem::offset_of!(SegmentHeader, magic) == 0);
    assert!(std::mem::offset_of!(SegmentHeader, version) == CHECKED_FROM);
    assert!(std::mem::offset_of!(SegmentHeader, partition) == 16);
    assert!(std::mem::offset_of!(SegmentHeader, salt) == 40);
    assert!(std::mem::offset_of!(SegmentHeader, incarnation) == 56);
    assert!(std::mem::offset_of!(SegmentHeader, reserved_to_end) == 60);
};

/// Why the first block of a file is not the header that was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SegmentHeaderError {
    /// There are no bytes, or only zeros: the file was being created when the machine stopped.
    #[error("the segment header is absent: the first block is zero")]
    Absent,
    /// The file is shorter than a block, and not zero.
    #[error("a segment's first block has {have_bytes} bytes instead of 4096")]
    Short {
        /// Bytes that are there.
        have_bytes: u64,
    },
    /// It changed, or never was a header.
    #[error("the checksum of a segment header is {computed:#010x}, and it says {stored:#010x}")]
    Checksum {
        /// What the header says.
        stored: u32,
        /// What its bytes give.
        computed: u32,
    },
    /// It is something else.
    #[error("a segment header begins with {found:#010x} instead of \"MFS1\"")]
    Magic {
        /// What it begins with.
        found: u32,
    },
    /// A newer program made it.
    #[error("a segment has version {found}, and 1 is known here")]
    Version {
        /// Its version.
        found: u16,
    },
    /// Bytes that are to be zero are not.
    #[error("reserved bytes of a segment header's block are not zero")]
    Reserved,
    /// A kind of file that is not known.
    #[error("a segment is of kind {found}, and 1 to 4 have a meaning")]
    UnknownKind {
        /// Its kind.
        found: u16,
    },
    /// An event id that cannot be.
    #[error("a segment begins at event {found}, beyond what is possible")]
    BaseEventId {
        /// What it says.
        found: u64,
    },
    /// A known kind of file in the wrong place.
    #[error("the file is of kind {found:?} where {expected:?} belongs")]
    Kind {
        /// What it says.
        found: SegmentKind,
        /// What belongs there.
        expected: SegmentKind,
    },
    /// A file of another partition or node.
    #[error("the file belongs to {found} and lies where one of {expected} belongs")]
    Partition {
        /// Whose it says it is.
        found: Uuid,
        /// Whose belongs there.
        expected: Uuid,
    },
}

impl SegmentHeader {
    /// The header of a new file. `partition` is the node for a catalog; `incarnation` is the opening that makes it.
    ///
    /// # Panics
    /// When `base` is not below [`EVENT_ID_END`].
    pub fn new(
        kind: SegmentKind,
        partition: Uuid,
        base: EventId,
        salt: u64,
        created_us: u64,
        incarnation: u32,
    ) -> Self {
        assert!(
            base.get() < EVENT_ID_END,
            "a segment cannot begin at event {base}"
        );
        let mut header = Self {
            magic: MAGIC.into(),
            version: VERSION.into(),
            kind: kind.number().into(),
            partition: partition.into_bytes(),
            base_event_id: base.get().into(),
            salt: salt.into(),
            created_us: created_us.into(),
            incarnation: incarnation.into(),
            ..Self::zeroed()
        };
        header.header_crc = header.compute_crc().into();
        header
    }

    /// The whole first block of the file.
    pub fn to_block(&self) -> [u8; BLOCK_BYTES] {
        let mut block = [0; BLOCK_BYTES];
        for (to, from) in block.iter_mut().zip(bytemuck::bytes_of(self)) {
            *to = *from;
        }
        block
    }

    /// Checks the first block of a file, or all bytes of a shorter file.
    ///
    /// # Errors
    /// What is wrong: first that it is absent, then checksum, magic, version, reserved, bounds.
    pub fn check(block: &[u8]) -> Result<Self, SegmentHeaderError> {
        if block.iter().all(|byte| *byte == 0) {
            return Err(SegmentHeaderError::Absent);
        }
        let short = SegmentHeaderError::Short {
            have_bytes: wide(block.len()),
        };
        let block = block.get(..BLOCK_BYTES).ok_or(short.clone())?;
        let (first, rest) = block.split_at_checked(SEGMENT_HEADER_BYTES).ok_or(short)?;
        let header: Self = bytemuck::pod_read_unaligned(first);
        let (stored, computed) = (header.header_crc.get(), header.compute_crc());
        if stored != computed {
            return Err(SegmentHeaderError::Checksum { stored, computed });
        }
        if header.magic.get() != MAGIC {
            return Err(SegmentHeaderError::Magic {
                found: header.magic.get(),
            });
        }
        if header.version.get() != VERSION {
            return Err(SegmentHeaderError::Version {
                found: header.version.get(),
            });
        }
        let zero = header.reserved == [0; 4] && header.reserved_to_end == [Le32::new(0); 17];
        if !zero || rest.iter().any(|byte| *byte != 0) {
            return Err(SegmentHeaderError::Reserved);
        }
        if SegmentKind::of(header.kind.get()).is_none() {
            return Err(SegmentHeaderError::UnknownKind {
                found: header.kind.get(),
            });
        }
        if header.base_event_id.get() >= EVENT_ID_END {
            return Err(SegmentHeaderError::BaseEventId {
                found: header.base_event_id.get(),
            });
        }
        Ok(header)
    }

    /// Checks that this is the kind of file, and of the partition, that belongs here.
    ///
    /// # Errors
    /// What it is instead.
    pub fn expect(&self, kind: SegmentKind, partition: Uuid) -> Result<(), SegmentHeaderError> {
        if self.kind() != kind {
            return Err(SegmentHeaderError::Kind {
                found: self.kind(),
                expected: kind,
            });
        }
        if self.partition() != partition {
            return Err(SegmentHeaderError::Partition {
                found: self.partition(),
                expected: partition,
            });
        }
        Ok(())
    }

    fn compute_crc(&self) -> u32 {
        crc32fast::hash(bytemuck::bytes_of(self).get(CHECKED_FROM..).unwrap_or_default())
    }

    /// What the file holds.
    pub fn kind(&self) -> SegmentKind {
        let kind = SegmentKind::of(self.kind.get());
        assert!(kind.is_some(), "a checked header has kind {}", self.kind.get());
        kind.unwrap_or(SegmentKind::Meta)
    }

    /// The partition it belongs to; the node for a catalog.
    pub fn partition(&self) -> Uuid {
        Uuid::from_bytes(self.partition)
    }

    /// First event id of the segment.
    pub fn base_event_id(&self) -> EventId {
        EventId::new(self.base_event_id.get())
    }

    /// Random; ties frames to this segment, so that bytes of an earlier life of the file never check.
    pub fn salt(&self) -> u64 {
        self.salt.get()
    }

    /// When it was made: Unix time in microseconds.
    pub fn created_us(&self) -> u64 {
        self.created_us.get()
    }

    /// The opening of the partition for writing that made it.
    pub fn incarnation(&self) -> u32 {
        self.incarnation.get()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header() -> SegmentHeader {
        let partition = Uuid::from_u128(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff);
        SegmentHeader::new(
            SegmentKind::Cursors,
            partition,
            EventId::new(0x0102),
            0xa1a2_a3a4_a5a6_a7a8,
            1_000_000,
            7,
        )
    }

    /// The CRC was computed with another implementation (zlib's). A change here is a new version of the format.
    #[test]
    fn golden_bytes() {
        let block = header().to_block();
        let hex: String = block[..60].iter().map(|byte| format!("{byte:02x}")).collect();
        let fields = [
            "4d465331",
            "caa4c51f",
            "0100",
            "0400",
            "00000000",
            "00112233445566778899aabbccddeeff",
            "0201000000000000",
            "a8a7a6a5a4a3a2a1",
            "40420f0000000000",
            "07000000",
        ];
        assert_eq!(hex, fields.concat());
        assert!(block[60..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn what_was_written_is_read() {
        let header = header();
        let found = SegmentHeader::check(&header.to_block()).unwrap();
        assert_eq!(found, header);
        assert_eq!(
            (found.kind(), found.base_event_id(), found.incarnation()),
            (SegmentKind::Cursors, EventId::new(0x0102), 7)
        );
        assert_eq!(
            (found.salt(), found.created_us()),
            (0xa1a2_a3a4_a5a6_a7a8, 1_000_000)
        );
        assert_eq!(found.expect(SegmentKind::Cursors, header.partition()), Ok(()));
        assert!(matches!(
            found.expect(SegmentKind::Meta, header.partition()),
            Err(SegmentHeaderError::Kind { .. })
        ));
        assert!(matches!(
            found.expect(SegmentKind::Cursors, Uuid::nil()),
            Err(SegmentHeaderError::Partition { .. })
        ));
    }

    #[test]
    fn any_flipped_bit_is_seen() {
        let block = header().to_block();
        for bit in 0..block.len() * 8 {
            let mut changed = block;
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(SegmentHeader::check(&changed).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn what_never_landed_is_absent() {
        for bytes in [0, 1, 512, 4096] {
            assert_eq!(
                SegmentHeader::check(&vec![0; bytes]),
                Err(SegmentHeaderError::Absent)
            );
        }
        let block = header().to_block();
        assert_eq!(
            SegmentHeader::check(&block[..512]),
            Err(SegmentHeaderError::Short { have_bytes: 512 })
        );
    }

    #[test]
    fn lies_with_a_right_checksum_are_named() {
        let lie = |change: fn(&mut SegmentHeader)| {
            let mut header = header();
            change(&mut header);
            header.header_crc = header.compute_crc().into();
            SegmentHeader::check(&header.to_block()).unwrap_err()
        };
        assert_eq!(
            lie(|header| header.version = 2.into()),
            SegmentHeaderError::Version { found: 2 }
        );
        assert_eq!(
            lie(|header| header.kind = 5.into()),
            SegmentHeaderError::UnknownKind { found: 5 }
        );
        assert_eq!(lie(|header| header.reserved[3] = 1), SegmentHeaderError::Reserved);
        assert_eq!(
            lie(|header| header.reserved_to_end[16] = 1.into()),
            SegmentHeaderError::Reserved
        );
        assert!(matches!(
            lie(|header| header.magic = 1.into()),
            SegmentHeaderError::Magic { found: 1 }
        ));
        let far = lie(|header| header.base_event_id = (1 << 63).into());
        assert_eq!(far, SegmentHeaderError::BaseEventId { found: 1 << 63 });
    }

    proptest! {
        #[test]
        fn check_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut block = bytes.clone();
            block.resize(4096, 0);
            SegmentHeader::check(&bytes).ok();
            SegmentHeader::check(&block).ok();
        }
    }
}
