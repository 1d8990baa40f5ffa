//! A partition in one portable file: "Export file, version 1" of docs/FORMAT.md.
//!
//! ```text
//! ExportHeader, 128 bytes | topic's record, partition's record, JSON
//! SectionHeader, 32 bytes | batch: the frame as it was stored, then its data      0 or more, ids without gaps
//! SectionHeader           | cursor: its record                                    0 or more
//! SectionHeader           | producers, as in a footer                             1
//! SectionHeader           | ExportTrailer, 64 bytes                               1, at the end
//! ```
//!
//! Written and read as a stream: nothing in it needs more memory than one batch. Frames have their own checksums, every
//! other part has one in its header, and the trailer has one of all that is before it: what was cut, left out or put in
//! another order does not check.

mod error;
mod sums;

use bytemuck::{Pod, Zeroable};
use uuid::Uuid;

pub use error::ExportError;
pub use sums::ExportSums;

use crate::catalog::{PartitionRecord, TopicRecord};
use crate::ids::EventId;
use crate::le::{Le16, Le32, Le64};
use crate::limits::{EVENT_DATA_BYTES_MAX, EVENT_ID_END, FOOTER_BYTES_MAX, FRAME_BYTES_MAX};
use crate::width::{narrow, wide};

/// Bytes of an export file's header.
pub const EXPORT_HEADER_BYTES: usize = 128;
/// Bytes of the header of each section.
pub const EXPORT_SECTION_BYTES: usize = 32;
/// Bytes of each of the two records in the header: they hold documents of others, which are far smaller.
pub const EXPORT_RECORD_BYTES_MAX: u64 = 16 << 20;
const MAGIC: u32 = u32::from_le_bytes(*b"MFE1");
const SECTION_MAGIC: u32 = u32::from_le_bytes(*b"MFX1");
const VERSION: u16 = 1;
const CHECKED_FROM: usize = 8;
const CURSOR_BYTES_MAX: u64 = 24 + 256;
const TRAILER_BYTES: u64 = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
struct ExportHeader {
    magic: Le32,
    header_crc: Le32,
    version: Le16,
    reserved: [u8; 6],
    topic_bytes: Le32,
    partition_bytes: Le32,
    records_crc: Le32,
    reserved_too: [u8; 4],
    partition: [u8; 16],
    base_event_id: Le64,
    exported_us: Le64,
    reserved_to_end: [Le64; 8],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
struct SectionHeader {
    magic: Le32,
    crc: Le32,
    kind: Le16,
    reserved: [u8; 2],
    content_crc: Le32,
    content_bytes: Le64,
    more: Le64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
struct ExportTrailer {
    batch_count: Le64,
    event_count: Le64,
    data_bytes: Le64,
    cursor_count: Le64,
    end_event_id: Le64,
    bytes_before: Le64,
    crc_before: Le32,
    reserved: [u8; 12],
}

const _: () = {
    assert!(size_of::<ExportHeader>() == EXPORT_HEADER_BYTES && align_of::<ExportHeader>() == 1);
    assert!(std::mem::offset_of!(ExportHeader, version) == CHECKED_FROM);
    assert!(std::mem::offset_of!(ExportHeader, topic_bytes) == 16);
    assert!(std::mem::offset_of!(ExportHeader, partition) == 32);
    assert!(std::mem::offset_of!(ExportHeader, reserved_to_end) == 64);
    assert!(size_of::<SectionHeader>() == EXPORT_SECTION_BYTES && align_of::<SectionHeader>() == 1);
    assert!(std::mem::offset_of!(SectionHeader, content_bytes) == 16);
    assert!(size_of::<ExportTrailer>() == 64 && align_of::<ExportTrailer>() == 1);
    assert!(std::mem::offset_of!(ExportTrailer, crc_before) == 48);
};

/// What an export file begins with.
#[derive(Clone, Debug, PartialEq)]
pub struct ExportHead {
    /// The partition.
    pub partition: Uuid,
    /// Its first event in this file.
    pub base_event_id: EventId,
    /// When it was exported: Unix time in microseconds.
    pub exported_us: u64,
    /// The topic's record, when it was known.
    pub topic: Option<TopicRecord>,
    /// The partition's record, when it was known.
    pub record: Option<PartitionRecord>,
}

/// A head whose records were not read yet.
#[derive(Clone, Copy, Debug)]
pub struct ExportHeadPart {
    header: ExportHeader,
}

impl ExportHead {
    /// The bytes that the file begins with.
    ///
    /// # Panics
    /// When a record has more than [`EXPORT_RECORD_BYTES_MAX`] bytes, which no catalog holds.
    pub fn encode(&self) -> Vec<u8> {
        let topic = self.topic.as_ref().map_or_else(Vec::new, json);
        let record = self.record.as_ref().map_or_else(Vec::new, json);
        let length = |bytes: &[u8]| {
            assert!(
                wide(bytes.len()) <= EXPORT_RECORD_BYTES_MAX,
                "a record of {} bytes",
                bytes.len()
            );
            Le32::from(u32::try_from(bytes.len()).unwrap_or(u32::MAX))
        };
        let mut header = ExportHeader {
            magic: MAGIC.into(),
            version: VERSION.into(),
            topic_bytes: length(&topic),
            partition_bytes: length(&record),
            records_crc: crc32fast::hash(&[topic.as_slice(), &record].concat()).into(),
            partition: self.partition.into_bytes(),
            base_event_id: self.base_event_id.get().into(),
            exported_us: self.exported_us.into(),
            ..ExportHeader::zeroed()
        };
        header.header_crc = crc_of(&header).into();
        [bytemuck::bytes_of(&header), &topic, &record].concat()
    }
}

fn json<T: serde::Serialize>(record: &T) -> Vec<u8> {
    match serde_json::to_vec(record) {
        Ok(bytes) => bytes,
        Err(error) => unreachable!("a catalog record is not JSON: {error}"),
    }
}

/// The checksum of a structure from its ninth byte on.
fn crc_of<T: Pod>(structure: &T) -> u32 {
    crc32fast::hash(
        bytemuck::bytes_of(structure)
            .get(CHECKED_FROM..)
            .unwrap_or_default(),
    )
}

fn read<T: Pod>(bytes: &[u8], part: &'static str) -> Result<T, ExportError> {
    if bytes.len() != size_of::<T>() {
        return Err(ExportError::Length {
            part,
            have_bytes: wide(bytes.len()),
            need_bytes: wide(size_of::<T>()),
        });
    }
    Ok(bytemuck::pod_read_unaligned(bytes))
}

fn check_crc(part: &'static str, stored: u32, computed: u32) -> Result<(), ExportError> {
    if stored == computed {
        Ok(())
    } else {
        Err(ExportError::Checksum {
            part,
            stored,
            computed,
        })
    }
}

impl ExportHeadPart {
    /// Checks the first 128 bytes of an export file.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(bytes: &[u8]) -> Result<Self, ExportError> {
        let part = "the header";
        let header: ExportHeader = read(bytes, part)?;
        check_crc(part, header.header_crc.get(), crc_of(&header))?;
        if header.magic.get() != MAGIC {
            return Err(ExportError::Magic {
                part,
                found: header.magic.get(),
            });
        }
        if header.version.get() != VERSION {
            return Err(ExportError::Version {
                found: header.version.get(),
            });
        }
        let zero = header.reserved == [0; 6] && header.reserved_too == [0; 4];
        if !zero || header.reserved_to_end != [Le64::new(0); 8] {
            return Err(ExportError::Reserved { part });
        }
        for (field, value, end) in [
            ("base_event_id", header.base_event_id.get(), EVENT_ID_END),
            (
                "topic_bytes",
                header.topic_bytes.get().into(),
                EXPORT_RECORD_BYTES_MAX,
            ),
            (
                "partition_bytes",
                header.partition_bytes.get().into(),
                EXPORT_RECORD_BYTES_MAX,
            ),
        ] {
            if value >= end {
                return Err(ExportError::Field { field, value });
            }
        }
        Ok(Self { header })
    }

    /// Whether these bytes begin like an export file.
    pub fn is_export(first: &[u8]) -> bool {
        first.starts_with(&MAGIC.to_le_bytes())
    }

    /// Bytes of the records that follow.
    pub fn records_bytes(&self) -> u64 {
        u64::from(self.header.topic_bytes.get()).saturating_add(self.header.partition_bytes.get().into())
    }

    /// The head, with the records that follow it.
    ///
    /// # Errors
    /// When they are not the records it had.
    pub fn with_records(&self, records: &[u8]) -> Result<ExportHead, ExportError> {
        let header = &self.header;
        check_crc("the records", header.records_crc.get(), crc32fast::hash(records))?;
        let split = records.split_at_checked(narrow(header.topic_bytes.get().into()));
        let (topic, record) = split.ok_or(ExportError::Length {
            part: "the records",
            have_bytes: wide(records.len()),
            need_bytes: self.records_bytes(),
        })?;
        Ok(ExportHead {
            partition: Uuid::from_bytes(header.partition),
            base_event_id: EventId::new(header.base_event_id.get()),
            exported_us: header.exported_us.get(),
            topic: parse("topic", topic)?,
            record: parse("partition", record)?,
        })
    }
}

fn parse<T: serde::de::DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<Option<T>, ExportError> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let parsed = serde_json::from_slice(bytes);
    parsed.map(Some).map_err(|error| ExportError::Record {
        what,
        reason: error.to_string(),
    })
}

/// What comes next in an export file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportSection {
    /// A frame of so many bytes, then its data.
    Batch {
        /// Bytes of the frame.
        frame_bytes: u64,
        /// Bytes of the data.
        data_bytes: u64,
    },
    /// A cursor's record.
    Cursor(ExportContent),
    /// The producers' table.
    Producers {
        /// Its bytes.
        content: ExportContent,
        /// Producers in it.
        count: u64,
    },
    /// The trailer.
    End(ExportContent),
}

/// The bytes that follow a section's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExportContent {
    /// How many.
    pub bytes: u64,
    crc: u32,
}

impl ExportContent {
    fn of(bytes: &[u8]) -> Self {
        Self {
            bytes: wide(bytes.len()),
            crc: crc32fast::hash(bytes),
        }
    }

    /// Holds the bytes against their checksum.
    ///
    /// # Errors
    /// When they are others.
    pub fn check(&self, bytes: &[u8]) -> Result<(), ExportError> {
        check_crc("a section", self.crc, crc32fast::hash(bytes))
    }
}

impl ExportSection {
    fn header(&self) -> SectionHeader {
        let (kind, content, more) = match *self {
            Self::Batch {
                frame_bytes,
                data_bytes,
            } => (
                1,
                ExportContent {
                    bytes: frame_bytes,
                    crc: 0,
                },
                data_bytes,
            ),
            Self::Cursor(content) => (2, content, 0),
            Self::Producers { content, count } => (3, content, count),
            Self::End(content) => (4, content, 0),
        };
        let mut header = SectionHeader {
            magic: SECTION_MAGIC.into(),
            kind: kind.into(),
            content_crc: content.crc.into(),
            content_bytes: content.bytes.into(),
            more: more.into(),
            ..SectionHeader::zeroed()
        };
        header.crc = crc_of(&header).into();
        header
    }

    /// Its header.
    pub fn encode(&self) -> [u8; EXPORT_SECTION_BYTES] {
        bytemuck::cast(self.header())
    }

    /// Checks the header of a section.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(bytes: &[u8]) -> Result<Self, ExportError> {
        let part = "a section's header";
        let header: SectionHeader = read(bytes, part)?;
        check_crc(part, header.crc.get(), crc_of(&header))?;
        if header.magic.get() != SECTION_MAGIC {
            return Err(ExportError::Magic {
                part,
                found: header.magic.get(),
            });
        }
        if header.reserved != [0; 2] {
            return Err(ExportError::Reserved { part });
        }
        let content = ExportContent {
            bytes: header.content_bytes.get(),
            crc: header.content_crc.get(),
        };
        let more = header.more.get();
        let (section, bytes_max, more_max) = match header.kind.get() {
            1 => (
                Self::Batch {
                    frame_bytes: content.bytes,
                    data_bytes: more,
                },
                FRAME_BYTES_MAX,
                EVENT_DATA_BYTES_MAX,
            ),
            2 => (Self::Cursor(content), CURSOR_BYTES_MAX, 0),
            3 => (
                Self::Producers { content, count: more },
                FOOTER_BYTES_MAX,
                FOOTER_BYTES_MAX,
            ),
            4 => (Self::End(content), TRAILER_BYTES, 0),
            kind => {
                return Err(ExportError::Field {
                    field: "kind of a section",
                    value: kind.into(),
                });
            }
        };
        for (field, value, max) in [
            ("content_bytes of a section", content.bytes, bytes_max),
            ("data_bytes or count of a section", more, more_max),
        ] {
            if value > max {
                return Err(ExportError::Field { field, value });
            }
        }
        Ok(section)
    }
}

#[cfg(test)]
mod tests;
