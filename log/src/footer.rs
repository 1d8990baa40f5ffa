//! What a sealed segment ends with, so that opening it reads a few blocks instead of every frame.
//!
//! ```text
//! at the first block boundary after the last frame of the meta file:
//! 0       4    8        10   12           16    24             32            40        48        56
//! "MFF1"  crc  version  0x2  index_count  salt  base_event_id  end_event_id  meta_end  data_end  first_timestamp_us
//! 64                 72               76              80            88     128
//! last_timestamp_us  producers_bytes  producer_count  footer_bytes  0x40   index entries, producers, zeros
//! the last 64 bytes of the file:
//! 0       4    8          16            24    32
//! "MFT1"  crc  footer_at  footer_bytes  salt  0 x 32
//! ```
//!
//! `crc` of the header covers the footer from byte 8 up to the tail, `crc` of the tail its bytes 8 to 64. The file's
//! size is then a multiple of 4096. A torn footer does not check, and the segment is scanned like one that was not sealed.

use bytemuck::{Pod, Zeroable};

use crate::ids::{EventId, FilePos};
use crate::index::{INDEX_ENTRY_BYTES, IndexError, SparseIndex};
use crate::le::{Le16, Le32, Le64};
use crate::limits::{EVENT_ID_END, FILE_POS_END, FOOTER_BYTES_MAX, FRAME_ALIGN_BYTES, INDEX_ENTRIES_MAX};
use crate::producers::{ProducerTable, ProducersError};
use crate::width::{narrow, wide};

const HEADER_BYTES: usize = 128;
const TAIL_BYTES: usize = 64;
const MAGIC: u32 = u32::from_le_bytes(*b"MFF1");
const TAIL_MAGIC: u32 = u32::from_le_bytes(*b"MFT1");
const VERSION: u16 = 1;
const CHECKED_FROM: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
struct FooterHeader {
    magic: Le32,
    crc: Le32,
    version: Le16,
    reserved: [u8; 2],
    index_count: Le32,
    salt: Le64,
    base_event_id: Le64,
    end_event_id: Le64,
    meta_end: Le64,
    data_end: Le64,
    first_timestamp_us: Le64,
    last_timestamp_us: Le64,
    producers_bytes: Le32,
    producer_count: Le32,
    footer_bytes: Le64,
    reserved_to_end: [Le64; 5],
}

/// The last 64 bytes of a sealed segment's meta file: where its footer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct FooterTail {
    magic: Le32,
    crc: Le32,
    footer_at: Le64,
    footer_bytes: Le64,
    salt: Le64,
    reserved: [u8; 32],
}

const _: () = {
    assert!(size_of::<FooterHeader>() == HEADER_BYTES && align_of::<FooterHeader>() == 1);
    assert!(std::mem::offset_of!(FooterHeader, version) == CHECKED_FROM);
    assert!(std::mem::offset_of!(FooterHeader, meta_end) == 40);
    assert!(std::mem::offset_of!(FooterHeader, footer_bytes) == 80);
    assert!(std::mem::offset_of!(FooterHeader, reserved_to_end) == 88);
    assert!(size_of::<FooterTail>() == TAIL_BYTES && align_of::<FooterTail>() == 1);
    assert!(std::mem::offset_of!(FooterTail, footer_at) == CHECKED_FROM);
    assert!(std::mem::offset_of!(FooterTail, reserved) == 32);
};

/// What is known of a segment when it is sealed. The times come from the index.
#[derive(Clone, Debug)]
pub struct FooterFacts {
    /// The segment's.
    pub salt: u64,
    /// Its first event id.
    pub base_event_id: EventId,
    /// The exclusive end of its ids.
    pub end_event_id: EventId,
    /// End of the last frame in the meta file.
    pub meta_end: FilePos,
    /// End of the last batch's data in the data file.
    pub data_end: FilePos,
    /// Where its events are.
    pub index: SparseIndex,
    /// Every producer's last batches, up to the end of this segment: see [`ProducerTable::before`].
    pub producers: ProducerTable,
}

/// Why bytes are not a footer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FooterError {
    /// They are too few or not whole blocks.
    #[error("a footer cannot have {have_bytes} bytes: it is whole blocks, up to 2 MiB")]
    Length {
        /// Bytes that are there.
        have_bytes: u64,
    },
    /// They changed.
    #[error("the checksum of a footer is {computed:#010x}, and it says {stored:#010x}")]
    Checksum {
        /// What it says.
        stored: u32,
        /// What its bytes give.
        computed: u32,
    },
    /// They are something else.
    #[error("a footer begins with {found:#010x} instead of \"MFF1\"")]
    Magic {
        /// What it begins with.
        found: u32,
    },
    /// A newer program made it.
    #[error("a footer has version {found}, and 1 is known here")]
    Version {
        /// Its version.
        found: u16,
    },
    /// Bytes that are to be zero are not.
    #[error("reserved bytes of a footer are not zero")]
    Reserved,
    /// It is of another segment.
    #[error("the footer has salt {found:#018x}, and the segment has {expected:#018x}")]
    Salt {
        /// What it says.
        found: u64,
        /// What the segment says.
        expected: u64,
    },
    /// A field cannot be.
    #[error("{field} of a footer is {value}, which cannot be")]
    Field {
        /// Which field.
        field: &'static str,
        /// What it says.
        value: u64,
    },
    /// Its index is none.
    #[error("in a footer: {0}")]
    Index(#[from] IndexError),
    /// Its producers are none.
    #[error("in a footer: {0}")]
    Producers(#[from] ProducersError),
}

/// A checked footer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Footer {
    header: FooterHeader,
    index: SparseIndex,
    producers: ProducerTable,
}

impl Footer {
    /// The footer of a segment, whole blocks to be written at `footer_at`, after which the file ends.
    ///
    /// # Panics
    /// When `footer_at` is not the first block boundary at or after `meta_end`.
    pub fn encode(facts: &FooterFacts, footer_at: FilePos) -> Vec<u8> {
        assert_eq!(
            footer_at,
            facts.meta_end.block_up(),
            "a footer begins at the first block after the last frame"
        );
        assert!(
            facts.base_event_id <= facts.end_event_id,
            "a segment ends at or after its beginning"
        );
        let mut bytes = vec![0; HEADER_BYTES];
        facts.index.encode(&mut bytes);
        let producers_from = bytes.len();
        facts.producers.encode(&mut bytes);
        let producers_bytes = bytes.len().saturating_sub(producers_from);
        let content = FilePos::from(bytes.len()).plus(wide(TAIL_BYTES));
        let footer_bytes = content.block_up().get();
        assert!(
            footer_bytes <= FOOTER_BYTES_MAX,
            "index and producers are bounded, but make {footer_bytes} bytes"
        );
        bytes.resize(narrow(footer_bytes), 0);
        let count = |len: usize| Le32::from(u32::try_from(len).unwrap_or(u32::MAX));
        let (first, last) = facts.index.timestamps_us().unwrap_or((0, 0));
        let mut header = FooterHeader {
            magic: MAGIC.into(),
            version: VERSION.into(),
            index_count: count(facts.index.len()),
            salt: facts.salt.into(),
            base_event_id: facts.base_event_id.get().into(),
            end_event_id: facts.end_event_id.get().into(),
            meta_end: facts.meta_end.get().into(),
            data_end: facts.data_end.get().into(),
            first_timestamp_us: first.into(),
            last_timestamp_us: last.into(),
            producers_bytes: count(producers_bytes),
            producer_count: count(facts.producers.len()),
            footer_bytes: footer_bytes.into(),
            ..FooterHeader::zeroed()
        };
        write_at(&mut bytes, 0, bytemuck::bytes_of(&header));
        header.crc = footer_crc(&bytes).into();
        write_at(&mut bytes, 0, bytemuck::bytes_of(&header));
        let tail = FooterTail::new(footer_at, footer_bytes, facts.salt);
        let tail_at = bytes.len().saturating_sub(TAIL_BYTES);
        write_at(&mut bytes, tail_at, bytemuck::bytes_of(&tail));
        bytes
    }

    /// Checks the bytes of a footer, all of them, of the segment with this salt.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(bytes: &[u8], salt: u64) -> Result<Self, FooterError> {
        let have_bytes = wide(bytes.len());
        let length = FooterError::Length { have_bytes };
        let whole = FilePos::new(have_bytes).in_block_bytes() == 0 && have_bytes <= FOOTER_BYTES_MAX;
        let first = bytes.get(..HEADER_BYTES).filter(|_| whole).ok_or(length)?;
        let header: FooterHeader = bytemuck::pod_read_unaligned(first);
        let (stored, computed) = (header.crc.get(), footer_crc(bytes));
        if stored != computed {
            return Err(FooterError::Checksum { stored, computed });
        }
        header.check(salt, have_bytes)?;
        let index_bytes = narrow(header.index_count.get().into()).saturating_mul(INDEX_ENTRY_BYTES);
        let producers_bytes = narrow(header.producers_bytes.get().into());
        let content = bytes
            .get(HEADER_BYTES..bytes.len().saturating_sub(TAIL_BYTES))
            .unwrap_or_default();
        let beyond = |field, value: u32| FooterError::Field {
            field,
            value: value.into(),
        };
        let (index, rest) = content
            .split_at_checked(index_bytes)
            .ok_or_else(|| beyond("index_count", header.index_count.get()))?;
        let (producers, padding) = rest
            .split_at_checked(producers_bytes)
            .ok_or_else(|| beyond("producers_bytes", header.producers_bytes.get()))?;
        if padding.iter().any(|byte| *byte != 0) {
            return Err(FooterError::Reserved);
        }
        let times = (header.first_timestamp_us.get(), header.last_timestamp_us.get());
        let times = (header.index_count.get() > 0).then_some(times);
        let index = SparseIndex::decode(index, header.index_count.get().into(), times)?;
        header.check_index(&index)?;
        let producers = ProducerTable::decode(producers, header.producer_count.get().into())?;
        producers.check_before(EventId::new(header.end_event_id.get()))?;
        Ok(Self {
            header,
            index,
            producers,
        })
    }

    /// The segment's salt.
    pub fn salt(&self) -> u64 {
        self.header.salt.get()
    }

    /// The segment's first event id.
    pub fn base_event_id(&self) -> EventId {
        EventId::new(self.header.base_event_id.get())
    }

    /// The exclusive end of its ids.
    pub fn end_event_id(&self) -> EventId {
        EventId::new(self.header.end_event_id.get())
    }

    /// End of the last frame in the meta file.
    pub fn meta_end(&self) -> FilePos {
        FilePos::new(self.header.meta_end.get())
    }

    /// End of the last batch's data in the data file.
    pub fn data_end(&self) -> FilePos {
        FilePos::new(self.header.data_end.get())
    }

    /// When its first batch was accepted, and the latest time that any was; `None` when it has none.
    pub fn timestamps_us(&self) -> Option<(u64, u64)> {
        self.index.timestamps_us()
    }

    /// Where its events are.
    pub fn index(&self) -> SparseIndex {
        self.index.clone()
    }

    /// Every producer's last batches, up to the end of the segment.
    pub fn producers(&self) -> ProducerTable {
        self.producers.clone()
    }
}

impl FooterHeader {
    /// What follows the checksum: magic, version, reserved, bounds.
    fn check(&self, salt: u64, have_bytes: u64) -> Result<(), FooterError> {
        if self.magic.get() != MAGIC {
            return Err(FooterError::Magic {
                found: self.magic.get(),
            });
        }
        if self.version.get() != VERSION {
            return Err(FooterError::Version {
                found: self.version.get(),
            });
        }
        if self.reserved != [0; 2] || self.reserved_to_end != [Le64::new(0); 5] {
            return Err(FooterError::Reserved);
        }
        if self.salt.get() != salt {
            return Err(FooterError::Salt {
                found: self.salt.get(),
                expected: salt,
            });
        }
        let first = FilePos::FIRST.get();
        for (field, value, min, end) in [
            (
                "footer_bytes",
                self.footer_bytes.get(),
                have_bytes,
                have_bytes.saturating_add(1),
            ),
            (
                "end_event_id",
                self.end_event_id.get(),
                self.base_event_id.get(),
                EVENT_ID_END,
            ),
            ("meta_end", self.meta_end.get(), first, FILE_POS_END),
            ("data_end", self.data_end.get(), first, FILE_POS_END),
            (
                "index_count",
                self.index_count.get().into(),
                0,
                wide(INDEX_ENTRIES_MAX).saturating_add(1),
            ),
        ] {
            if value < min || value >= end {
                return Err(FooterError::Field { field, value });
            }
        }
        Ok(())
    }

    /// Whether the places that a lookup gives can be those of frames of this segment.
    fn check_index(&self, index: &SparseIndex) -> Result<(), FooterError> {
        let (base, end) = (self.base_event_id.get(), self.end_event_id.get());
        for (event_id, at, _) in index.iter() {
            if event_id.get() < base || event_id.get() >= end {
                return Err(FooterError::Field {
                    field: "event_id of an index entry",
                    value: event_id.get(),
                });
            }
            let is_aligned = at.get().is_multiple_of(wide(FRAME_ALIGN_BYTES));
            if at < FilePos::FIRST || at.get() >= self.meta_end.get() || !is_aligned {
                return Err(FooterError::Field {
                    field: "at of an index entry",
                    value: at.get(),
                });
            }
        }
        Ok(())
    }
}

impl FooterTail {
    fn new(footer_at: FilePos, footer_bytes: u64, salt: u64) -> Self {
        let mut tail = Self {
            magic: TAIL_MAGIC.into(),
            footer_at: footer_at.get().into(),
            footer_bytes: footer_bytes.into(),
            salt: salt.into(),
            ..Self::zeroed()
        };
        tail.crc = tail.compute_crc().into();
        tail
    }

    /// Looks at the last bytes of a meta file of `file_bytes` bytes: at least 64 of them, or the whole last block.
    /// `None` when the segment was not sealed, or its footer was torn: it is to be scanned.
    pub fn check(last: &[u8], file_bytes: u64) -> Option<Self> {
        let (_, last_64) = last.split_at_checked(last.len().checked_sub(TAIL_BYTES)?)?;
        let tail: Self = bytemuck::pod_read_unaligned(last_64);
        let fine = tail.crc.get() == tail.compute_crc()
            && tail.magic.get() == TAIL_MAGIC
            && tail.reserved == [0; 32]
            && tail.footer_at() >= FilePos::FIRST
            && tail.footer_at().in_block_bytes() == 0
            && tail.footer_bytes() > 0
            && tail.footer_bytes() <= FOOTER_BYTES_MAX
            && tail.footer_at().checked_add(tail.footer_bytes()) == Some(FilePos::new(file_bytes));
        fine.then_some(tail)
    }

    fn compute_crc(&self) -> u32 {
        crc32fast::hash(bytemuck::bytes_of(self).get(CHECKED_FROM..).unwrap_or_default())
    }

    /// Where the footer begins.
    pub fn footer_at(&self) -> FilePos {
        FilePos::new(self.footer_at.get())
    }

    /// Bytes of the footer, this tail included: bounded by [`FOOTER_BYTES_MAX`].
    pub fn footer_bytes(&self) -> u64 {
        self.footer_bytes.get()
    }

    /// The segment's salt.
    pub fn salt(&self) -> u64 {
        self.salt.get()
    }
}

/// Everything after the checksum and before the tail, which has its own.
fn footer_crc(footer: &[u8]) -> u32 {
    let end = footer.len().saturating_sub(TAIL_BYTES);
    crc32fast::hash(footer.get(CHECKED_FROM..end).unwrap_or_default())
}

fn write_at(bytes: &mut [u8], at: usize, part: &[u8]) {
    let room = bytes.get_mut(at..at.saturating_add(part.len()));
    assert!(room.is_some(), "{} bytes do not fit at {at}", part.len());
    if let Some(room) = room {
        room.copy_from_slice(part);
    }
}

#[cfg(test)]
mod tests;
