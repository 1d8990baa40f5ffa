//! The fixed parts of a frame: header and table entry.

use bytemuck::{Pod, Zeroable};

use super::error::BatchError;
use crate::ids::{EventId, FilePos, ProducerId};
use crate::le::{Le16, Le32, Le64};
use crate::limits::{
    DATA_BATCH_BYTES_MAX, EVENT_DATA_BYTES_MAX, EVENT_ID_END, EVENTS_PER_BATCH_MAX, FILE_POS_END,
    METADATA_BLOCK_BYTES_MAX,
};
use crate::width::{align8, wide};

/// Bytes of a frame's header.
pub const BATCH_HEADER_BYTES: usize = 128;
/// Bytes of an event's entry in the table.
const ENTRY_BYTES: u64 = 16;
/// "MFB1".
pub(crate) const MAGIC: u32 = u32::from_le_bytes(*b"MFB1");
const VERSION: u16 = 1;
/// No events, a witness.
const FLAG_MARK: u16 = 1;
/// With MARK: the last frame before an orderly stop.
const FLAG_CLEAN: u16 = 2;
/// Without MARK: some of the events have a reference in place of data of their own.
pub(super) const FLAG_REFERENCES: u16 = 4;
/// In [`Entry`]: the event has a reference, and the other bits are its length.
const ENTRY_REFERENCE: u64 = 1 << 63;
/// The header's checksum covers everything from here on.
const CHECKED_FROM: usize = 8;
const PIECE_CRC_BYTES: u64 = 4;

/// The first 128 bytes of a frame, checked: its bounds hold and its sums cannot overflow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct BatchHeader {
    magic: Le32,
    header_crc: Le32,
    version: Le16,
    flags: Le16,
    event_count: Le32,
    salt: Le64,
    base_event_id: Le64,
    synced_end: Le64,
    data_at: Le64,
    data_bytes: Le64,
    producer_id: Le64,
    sequence: Le64,
    producer_epoch: Le32,
    incarnation: Le32,
    timestamp_us: Le64,
    partition_epoch: Le64,
    metadata_bytes: Le32,
    piece_count: Le32,
    table_crc: Le32,
    span: Le64,
    reserved: [u8; 12],
}

/// What the table says of one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Entry {
    metadata_bytes: Le32,
    metadata_crc: Le32,
    data_bytes: Le64,
}

const _: () = {
    assert!(size_of::<BatchHeader>() == BATCH_HEADER_BYTES && align_of::<BatchHeader>() == 1);
    assert!(std::mem::offset_of!(BatchHeader, magic) == 0);
    assert!(std::mem::offset_of!(BatchHeader, version) == CHECKED_FROM);
    assert!(std::mem::offset_of!(BatchHeader, event_count) == 12);
    assert!(std::mem::offset_of!(BatchHeader, base_event_id) == 24);
    assert!(std::mem::offset_of!(BatchHeader, synced_end) == 32);
    assert!(std::mem::offset_of!(BatchHeader, data_at) == 40);
    assert!(std::mem::offset_of!(BatchHeader, producer_id) == 56);
    assert!(std::mem::offset_of!(BatchHeader, incarnation) == 76);
    assert!(std::mem::offset_of!(BatchHeader, timestamp_us) == 80);
    assert!(std::mem::offset_of!(BatchHeader, metadata_bytes) == 96);
    assert!(std::mem::offset_of!(BatchHeader, table_crc) == 104);
    assert!(std::mem::offset_of!(BatchHeader, span) == 108);
    assert!(size_of::<Entry>() == 16 && align_of::<Entry>() == 1);
    assert!(std::mem::offset_of!(Entry, metadata_crc) == 4);
    assert!(std::mem::offset_of!(Entry, data_bytes) == 8);
};

/// What the server writes into a frame. Everything is 0 in a client's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// The segment's.
    pub salt: u64,
    /// Id of the first event.
    pub base_event_id: EventId,
    /// Exclusive end of what is durable now.
    pub synced_end: EventId,
    /// Where the data is written in the data file; 0 without data.
    pub data_at: FilePos,
    /// Which opening of the partition for writing this is.
    pub incarnation: u32,
    /// When the batch was accepted: Unix time in microseconds.
    pub timestamp_us: u64,
    /// 0; kept for replication.
    pub partition_epoch: u64,
}

/// What a builder knows when it is done.
pub(super) struct Built {
    pub(super) event_count: u32,
    pub(super) metadata_bytes: u32,
    pub(super) piece_count: u32,
    pub(super) table_crc: u32,
    pub(super) data_bytes: u64,
    pub(super) has_references: bool,
    pub(super) place: Option<BatchPlace>,
}

/// A batch's place among those of its producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchPlace {
    /// Who sends it.
    pub producer: ProducerId,
    /// The producer's epoch.
    pub epoch: u32,
    /// Where the batch begins in what the producer counts.
    pub sequence: u64,
    /// How far the next one is: 0 for producers that count their batches, where it is one; otherwise the places in the
    /// producer's source that this batch covers, so that the next one begins at `sequence + span`.
    pub span: u64,
}

impl From<(ProducerId, u32, u64)> for BatchPlace {
    /// That of a producer that counts its batches.
    fn from((producer, epoch, sequence): (ProducerId, u32, u64)) -> Self {
        Self {
            producer,
            epoch,
            sequence,
            span: 0,
        }
    }
}

impl BatchPlace {
    /// Where the next batch begins.
    pub fn end(self) -> u64 {
        self.sequence.saturating_add(self.span.max(1))
    }
}

impl BatchHeader {
    /// Checks the first 128 of these bytes as a header: checksum, magic, version, reserved, bounds.
    ///
    /// # Errors
    /// The first of these that does not hold.
    pub fn check(bytes: &[u8]) -> Result<Self, BatchError> {
        let need_bytes = wide(BATCH_HEADER_BYTES);
        let short = BatchError::Short {
            have_bytes: wide(bytes.len()),
            need_bytes,
        };
        let first = bytes.get(..BATCH_HEADER_BYTES).ok_or(short)?;
        let header: Self = bytemuck::pod_read_unaligned(first);
        let (stored, computed) = (header.header_crc.get(), header.compute_crc());
        if stored != computed {
            return Err(BatchError::HeaderChecksum { stored, computed });
        }
        if header.magic.get() != MAGIC {
            return Err(BatchError::Magic {
                found: header.magic.get(),
            });
        }
        if header.version.get() != VERSION {
            return Err(BatchError::Version {
                found: header.version.get(),
            });
        }
        if header.reserved != [0; 12] {
            return Err(BatchError::Reserved);
        }
        header.check_bounds()?;
        Ok(header)
    }

    fn check_bounds(&self) -> Result<(), BatchError> {
        let at_most = |field, value: u64, max| {
            if value > max {
                Err(BatchError::TooLarge { field, value, max })
            } else {
                Ok(())
            }
        };
        let (events, data_bytes) = (u64::from(self.event_count.get()), self.data_bytes.get());
        at_most("event_count", events, EVENTS_PER_BATCH_MAX.into())?;
        at_most(
            "metadata_bytes",
            self.metadata_bytes.get().into(),
            METADATA_BLOCK_BYTES_MAX,
        )?;
        let data_bytes_max = match events {
            1 => EVENT_DATA_BYTES_MAX,
            _ => DATA_BATCH_BYTES_MAX,
        };
        at_most("data_bytes", data_bytes, data_bytes_max)?;
        // Every event may have one piece that is not full.
        let pieces_max = data_bytes.checked_div(65536).unwrap_or(0).saturating_add(events);
        at_most("piece_count", self.piece_count.get().into(), pieces_max)?;
        // The id after the last one is an id too: the first one of the next segment.
        let ids_left = EVENT_ID_END.saturating_sub(events).saturating_sub(1);
        at_most("base_event_id", self.base_event_id.get(), ids_left)?;
        at_most("synced_end", self.synced_end.get(), self.base_event_id.get())?;
        let bytes_left = if data_bytes == 0 {
            0
        } else {
            FILE_POS_END.saturating_sub(data_bytes)
        };
        at_most("data_at", self.data_at.get(), bytes_left)?;
        // The place after the batch is one too: where the next one begins.
        at_most(
            "sequence",
            self.sequence.get(),
            u64::MAX.saturating_sub(self.span.get().max(1)),
        )?;
        if self.producer_id.get() == 0 {
            at_most("sequence of no producer", self.sequence.get(), 0)?;
            at_most("span of no producer", self.span.get(), 0)?;
            at_most(
                "producer_epoch of no producer",
                self.producer_epoch.get().into(),
                0,
            )?;
        }
        self.check_flags(at_most)
    }

    fn check_flags(
        &self,
        at_most: impl Fn(&'static str, u64, u64) -> Result<(), BatchError>,
    ) -> Result<(), BatchError> {
        let flags = self.flags.get();
        match flags {
            0 | FLAG_REFERENCES if self.event_count.get() == 0 => Err(BatchError::NoEvents),
            0 | FLAG_REFERENCES => Ok(()),
            FLAG_MARK | 3 => {
                at_most("event_count of a mark", self.event_count.get().into(), 0)?;
                at_most("metadata_bytes of a mark", self.metadata_bytes.get().into(), 0)?;
                at_most("data_bytes of a mark", self.data_bytes.get(), 0)?;
                at_most("producer_id of a mark", self.producer_id.get(), 0)
            }
            _ => Err(BatchError::Flags { found: flags }),
        }
    }

    /// The header of a client's frame.
    pub(super) fn built(built: &Built) -> Self {
        let nobody = BatchPlace::from((ProducerId::new(0), 0, 0));
        let place = built
            .place
            .filter(|place| !place.producer.is_none())
            .unwrap_or(nobody);
        let mut header = Self {
            magic: MAGIC.into(),
            version: VERSION.into(),
            flags: if built.has_references { FLAG_REFERENCES } else { 0 }.into(),
            event_count: built.event_count.into(),
            data_bytes: built.data_bytes.into(),
            producer_id: place.producer.get().into(),
            sequence: place.sequence.into(),
            producer_epoch: place.epoch.into(),
            span: place.span.into(),
            metadata_bytes: built.metadata_bytes.into(),
            piece_count: built.piece_count.into(),
            table_crc: built.table_crc.into(),
            ..Self::zeroed()
        };
        header.header_crc = header.compute_crc().into();
        header
    }

    /// A header without events, still to be stamped. Its table is empty, and so is what its checksum covers.
    pub(super) fn mark(clean: bool) -> Self {
        let flags = if clean { FLAG_MARK | FLAG_CLEAN } else { FLAG_MARK };
        Self {
            magic: MAGIC.into(),
            version: VERSION.into(),
            flags: flags.into(),
            ..Self::zeroed()
        }
    }

    pub(super) fn stamp(&mut self, stamp: Stamp) {
        assert!(
            stamp.synced_end <= stamp.base_event_id,
            "events up to {} cannot be durable before event {} is written",
            stamp.synced_end,
            stamp.base_event_id
        );
        assert!(
            self.data_bytes.get() > 0 || stamp.data_at.get() == 0,
            "a batch without data is nowhere in the data file, but was put at {}",
            stamp.data_at
        );
        self.salt = stamp.salt.into();
        self.base_event_id = stamp.base_event_id.get().into();
        self.synced_end = stamp.synced_end.get().into();
        self.data_at = stamp.data_at.get().into();
        self.incarnation = stamp.incarnation.into();
        self.timestamp_us = stamp.timestamp_us.into();
        self.partition_epoch = stamp.partition_epoch.into();
        self.header_crc = self.compute_crc().into();
    }

    /// Gives it another place among the batches of its producer, and the checksum that goes with it.
    pub(super) fn renumber(&mut self, producer: ProducerId, epoch: u32, sequence: u64) {
        assert!(
            !producer.is_none() && !self.is_mark() && self.span.get() == 0,
            "only a batch that a producer counts is numbered anew"
        );
        self.producer_id = producer.get().into();
        self.producer_epoch = epoch.into();
        self.sequence = sequence.into();
        self.header_crc = self.compute_crc().into();
    }

    /// The first field that only the server writes and that is not 0.
    pub(super) fn server_field(&self) -> Option<(&'static str, u64)> {
        let fields = [
            ("flags", (self.flags.get() & !FLAG_REFERENCES).into()),
            ("salt", self.salt.get()),
            ("base_event_id", self.base_event_id.get()),
            ("synced_end", self.synced_end.get()),
            ("data_at", self.data_at.get()),
            ("incarnation", self.incarnation.get().into()),
            ("timestamp_us", self.timestamp_us.get()),
            ("partition_epoch", self.partition_epoch.get()),
        ];
        fields.into_iter().find(|(_, value)| *value != 0)
    }

    fn compute_crc(&self) -> u32 {
        crc32fast::hash(bytemuck::bytes_of(self).get(CHECKED_FROM..).unwrap_or_default())
    }

    /// Bytes of the table: entries and piece checksums.
    pub(crate) fn table_bytes(&self) -> u64 {
        self.entries_bytes().saturating_add(self.pieces_bytes())
    }

    pub(crate) fn entries_bytes(&self) -> u64 {
        ENTRY_BYTES.saturating_mul(self.event_count.get().into())
    }

    pub(crate) fn pieces_bytes(&self) -> u64 {
        PIECE_CRC_BYTES.saturating_mul(self.piece_count.get().into())
    }

    /// Bytes of the whole frame: header, table, metadata, padding to a multiple of 8.
    pub fn frame_bytes(&self) -> u64 {
        let end = self
            .table_bytes()
            .saturating_add(self.metadata_bytes.get().into());
        align8(end.saturating_add(wide(BATCH_HEADER_BYTES)))
    }

    /// Events in the batch; 0 in a mark.
    pub fn event_count(&self) -> u32 {
        self.event_count.get()
    }

    /// Bytes of all events' metadata.
    pub fn metadata_bytes(&self) -> u32 {
        self.metadata_bytes.get()
    }

    /// Checksums of data pieces in the table.
    pub fn piece_count(&self) -> u32 {
        self.piece_count.get()
    }

    /// Checksum of the table.
    pub fn table_crc(&self) -> u32 {
        self.table_crc.get()
    }

    /// Id of the first event; of a mark, of the event that comes next.
    pub fn base_event_id(&self) -> EventId {
        EventId::new(self.base_event_id.get())
    }

    /// Exclusive end of the ids.
    pub fn end_event_id(&self) -> EventId {
        self.base_event_id().plus(self.event_count.get().into())
    }

    /// Bytes of all events' data.
    pub fn data_bytes(&self) -> u64 {
        self.data_bytes.get()
    }

    /// Where the data is in the data file; 0 without data, and when it was never planned.
    pub fn data_at(&self) -> FilePos {
        FilePos::new(self.data_at.get())
    }

    /// Who sent it, in which epoch, as which of its batches.
    pub fn producer(&self) -> Option<(ProducerId, u32, u64)> {
        self.place()
            .map(|place| (place.producer, place.epoch, place.sequence))
    }

    /// The same, and how far the next batch of this producer is.
    pub fn place(&self) -> Option<BatchPlace> {
        let producer = ProducerId::new(self.producer_id.get());
        (!producer.is_none()).then(|| BatchPlace {
            producer,
            epoch: self.producer_epoch.get(),
            sequence: self.sequence.get(),
            span: self.span.get(),
        })
    }

    /// Whether it says which places of its producer's source it covers.
    pub fn covers_source(&self) -> bool {
        self.span.get() > 0
    }

    /// When it was accepted: Unix time in microseconds.
    pub fn timestamp_us(&self) -> u64 {
        self.timestamp_us.get()
    }

    /// The exclusive end of what was durable when this was written.
    pub fn synced_end(&self) -> EventId {
        EventId::new(self.synced_end.get())
    }

    /// The segment it was stamped for.
    pub fn salt(&self) -> u64 {
        self.salt.get()
    }

    /// Which opening of the partition for writing it was stamped in.
    pub fn incarnation(&self) -> u32 {
        self.incarnation.get()
    }

    /// 0; kept for replication.
    pub fn partition_epoch(&self) -> u64 {
        self.partition_epoch.get()
    }

    /// Whether it has no events and is only a witness.
    pub fn is_mark(&self) -> bool {
        self.flags.get() & FLAG_MARK != 0
    }

    /// Whether some of its events have a reference in place of data of their own.
    pub fn has_references(&self) -> bool {
        self.flags.get() & FLAG_REFERENCES != 0
    }

    /// Whether it is the mark of an orderly stop.
    pub fn is_clean_mark(&self) -> bool {
        self.flags.get() & FLAG_CLEAN != 0
    }
}

impl Entry {
    pub(super) fn new(metadata_bytes: u32, metadata_crc: u32, data_bytes: u64) -> Self {
        Self {
            metadata_bytes: metadata_bytes.into(),
            metadata_crc: metadata_crc.into(),
            data_bytes: data_bytes.into(),
        }
    }

    /// An event with a reference of so many bytes at the end of `metadata_bytes`.
    pub(super) fn with_reference(metadata_bytes: u32, metadata_crc: u32, reference_bytes: u32) -> Self {
        let data_bytes = ENTRY_REFERENCE | u64::from(reference_bytes);
        Self::new(metadata_bytes, metadata_crc, data_bytes)
    }

    /// Bytes of its metadata, with the reference behind it if there is one.
    pub(super) fn metadata_bytes(&self) -> u32 {
        self.metadata_bytes.get()
    }

    pub(super) fn metadata_crc(&self) -> u32 {
        self.metadata_crc.get()
    }

    /// Bytes of its own data.
    pub(super) fn data_bytes(&self) -> u64 {
        match self.reference_bytes() {
            None => self.data_bytes.get(),
            Some(_) => 0,
        }
    }

    /// Bytes of the reference at the end of its metadata.
    pub(super) fn reference_bytes(&self) -> Option<u64> {
        let field = self.data_bytes.get();
        (field & ENTRY_REFERENCE != 0).then_some(field & !ENTRY_REFERENCE)
    }
}
