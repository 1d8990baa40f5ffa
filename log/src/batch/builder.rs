//! The client's side: events become a frame and its data.

use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;

use super::error::BatchError;
use super::header::{BATCH_HEADER_BYTES, BatchHeader, BatchPlace, Built, Entry};
use super::reference::Reference;
use super::streamed::StreamedData;
use crate::ids::ProducerId;
use crate::le::Le32;
use crate::limits::{DATA_BATCH_BYTES_MAX, EVENTS_PER_BATCH_MAX, METADATA_BLOCK_BYTES_MAX, PIECE_BYTES};
use crate::width::{align8, narrow, wide};

/// The data of a batch in parts that follow each other: those segments that were kept as they are, and between them what was copied.
/// No part is empty. One part, as most batches have, needs no memory of its own.
pub type DataParts = SmallVec<[Bytes; 1]>;

/// Gathers events into a batch. Checksums are computed as the bytes come in, while they are in the cache.
///
/// Data is copied, side by side, except for segments that are long enough to be kept as they are ([`BatchBuilder::push_shared`]).
#[derive(Debug, Default)]
pub struct BatchBuilder {
    entries: Vec<Entry>,
    pieces: Vec<Le32>,
    metadata: Vec<u8>,
    /// The data before what is gathered in `copied`, in order.
    parts: DataParts,
    copied: BytesMut,
    data_bytes: u64,
    has_references: bool,
}

impl BatchBuilder {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an event, whose data may be in several places, and is copied. Nothing is added when this fails.
    ///
    /// # Errors
    /// When the batch would exceed a bound: [`EVENTS_PER_BATCH_MAX`], [`METADATA_BLOCK_BYTES_MAX`],
    /// [`DATA_BATCH_BYTES_MAX`].
    pub fn push<'a>(
        &mut self,
        metadata: &[u8],
        data_segments: impl IntoIterator<Item = &'a [u8], IntoIter: Clone>,
    ) -> Result<(), BatchError> {
        let segments = data_segments.into_iter();
        let own_bytes = total_bytes(segments.clone());
        self.check_room(metadata, own_bytes)?;
        let mut piece = Piece::default();
        self.copied.reserve(narrow(own_bytes));
        for segment in segments {
            piece.take(segment, &mut self.pieces);
            self.copied.extend_from_slice(segment);
        }
        self.add(metadata, own_bytes, piece);
        Ok(())
    }

    /// The same, but a segment of `shared_bytes_min` bytes or more is not copied: it is kept until the batch is dropped. Its bytes
    /// must stay what they are, since their checksums are computed now.
    ///
    /// # Errors
    /// As [`BatchBuilder::push`].
    pub fn push_shared(
        &mut self,
        metadata: &[u8],
        data_segments: &[Bytes],
        shared_bytes_min: usize,
    ) -> Result<(), BatchError> {
        let own_bytes = total_bytes(data_segments.iter().map(Bytes::as_ref));
        self.check_room(metadata, own_bytes)?;
        let mut piece = Piece::default();
        for segment in data_segments {
            piece.take(segment, &mut self.pieces);
            // Nothing is gained by keeping an empty one.
            if segment.len() >= shared_bytes_min.max(1) {
                self.end_copied();
                self.parts.push(segment.clone());
            } else {
                self.copied.extend_from_slice(segment);
            }
        }
        self.add(metadata, own_bytes, piece);
        Ok(())
    }

    /// Whether an event with so much data is within the bounds.
    fn check_room(&self, metadata: &[u8], own_bytes: u64) -> Result<(), BatchError> {
        let metadata_bytes = wide(self.metadata.len()).saturating_add(wide(metadata.len()));
        for (field, value, max) in [
            (
                "event_count",
                wide(self.entries.len()).saturating_add(1),
                EVENTS_PER_BATCH_MAX.into(),
            ),
            ("metadata_bytes", metadata_bytes, METADATA_BLOCK_BYTES_MAX),
            (
                "data_bytes",
                self.data_bytes.saturating_add(own_bytes),
                DATA_BATCH_BYTES_MAX,
            ),
        ] {
            if value > max {
                return Err(BatchError::TooLarge { field, value, max });
            }
        }
        Ok(())
    }

    /// The event whose data was taken just now, and whose last piece this is.
    fn add(&mut self, metadata: &[u8], own_bytes: u64, piece: Piece) {
        piece.finish(&mut self.pieces);
        self.data_bytes = self.data_bytes.saturating_add(own_bytes);
        // Bounded by METADATA_BLOCK_BYTES_MAX.
        let own_metadata = u32::try_from(metadata.len()).unwrap_or(u32::MAX);
        self.metadata.extend_from_slice(metadata);
        self.entries
            .push(Entry::new(own_metadata, crc32fast::hash(metadata), own_bytes));
    }

    /// What was copied so far is a part of the data.
    fn end_copied(&mut self) {
        if !self.copied.is_empty() {
            self.parts.push(self.copied.split().freeze());
        }
    }

    /// Adds an event that refers to data of another one. Nothing is added when this fails.
    ///
    /// # Errors
    /// When the batch would exceed a bound, as in [`BatchBuilder::push`].
    pub fn push_reference(&mut self, metadata: &[u8], reference: Reference<'_>) -> Result<(), BatchError> {
        let start = self.metadata.len();
        let both = [metadata, reference.bytes()].concat();
        self.push(&both, [])?;
        let own = u32::try_from(both.len()).unwrap_or(u32::MAX);
        let reference_bytes = u32::try_from(reference.bytes().len()).unwrap_or(u32::MAX);
        let crc = crc32fast::hash(self.metadata.get(start..).unwrap_or_default());
        self.entries.pop();
        self.entries
            .push(Entry::with_reference(own, crc, reference_bytes));
        self.has_references = true;
        Ok(())
    }

    /// Adds an event whose data is not given, but was seen: whoever sends the batch sends it behind the data of the others. So no
    /// event with data follows this one. Nothing is added when this fails.
    ///
    /// # Errors
    /// As [`BatchBuilder::push`].
    pub fn push_seen(&mut self, metadata: &[u8], data: StreamedData) -> Result<(), BatchError> {
        let own_bytes = data.bytes();
        self.check_room(metadata, own_bytes)?;
        self.pieces.extend(data.into_pieces());
        self.add(metadata, own_bytes, Piece::default());
        Ok(())
    }

    /// Events so far.
    pub fn event_count(&self) -> u32 {
        // Bounded by EVENTS_PER_BATCH_MAX.
        u32::try_from(self.entries.len()).unwrap_or(u32::MAX)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes so far: of the frame, and of the data.
    pub fn bytes(&self) -> u64 {
        self.frame_bytes().saturating_add(self.data_bytes)
    }

    /// Bytes of the frame so far.
    pub fn frame_bytes(&self) -> u64 {
        let entries: &[u8] = bytemuck::cast_slice(&self.entries);
        let pieces: &[u8] = bytemuck::cast_slice(&self.pieces);
        let parts = [
            BATCH_HEADER_BYTES,
            entries.len(),
            pieces.len(),
            self.metadata.len(),
        ];
        align8(parts.into_iter().map(wide).fold(0, u64::saturating_add))
    }

    /// The frame and the data, as they are stored: the data is copied together if it is in several parts. `producer`: its id, its
    /// epoch, and the batch's place among those it sends in that epoch, from 0.
    ///
    /// # Panics
    /// When there are no events: an empty batch is never sent, so whoever finishes one has lost count.
    pub fn finish(self, producer: Option<(ProducerId, u32, u64)>) -> (Bytes, Bytes) {
        let (frame, mut parts) = self.finish_in_parts(producer);
        let data = match parts.len() {
            0 => Bytes::new(),
            1 => parts.remove(0),
            _ => parts.concat().into(),
        };
        (frame, data)
    }

    /// The frame, and the data in parts.
    ///
    /// # Panics
    /// As [`BatchBuilder::finish`].
    pub fn finish_in_parts(self, producer: Option<(ProducerId, u32, u64)>) -> (Bytes, DataParts) {
        self.finish_at(producer.map(BatchPlace::from))
    }

    /// The same, at a place that may be one in the producer's source.
    ///
    /// # Panics
    /// As [`BatchBuilder::finish`].
    pub fn finish_at(mut self, place: Option<BatchPlace>) -> (Bytes, DataParts) {
        self.take_at(place)
    }

    /// The same of a builder that is used again: it is empty afterwards, and keeps the memory that it had for tables and metadata.
    ///
    /// # Panics
    /// As [`BatchBuilder::finish`].
    pub fn take_at(&mut self, place: Option<BatchPlace>) -> (Bytes, DataParts) {
        self.take_into(place, BytesMut::new())
    }

    /// The same, with the frame in this memory, which was used before, as far as there is enough of it. What it holds is lost.
    ///
    /// # Panics
    /// As [`BatchBuilder::finish`].
    pub fn take_into(&mut self, place: Option<BatchPlace>, memory: BytesMut) -> (Bytes, DataParts) {
        let frame = self.frame(self.data_bytes, place, memory);
        // All of it, which needs no count of its users; also when nothing was copied: only tables and metadata stay.
        let copied = std::mem::take(&mut self.copied);
        if !copied.is_empty() {
            self.parts.push(copied.freeze());
        }
        self.entries.clear();
        self.pieces.clear();
        self.metadata.clear();
        self.data_bytes = 0;
        self.has_references = false;
        (frame, std::mem::take(&mut self.parts))
    }

    /// Data that will be copied goes into this memory, which was used before, as far as there is enough of it. What it holds is lost.
    ///
    /// # Panics
    /// When there are events.
    pub fn copy_into(&mut self, mut memory: BytesMut) {
        assert!(self.is_empty(), "memory is given before there are events");
        memory.clear();
        self.copied = memory;
    }

    /// Whether all data so far was copied: nothing is kept as it is.
    pub fn is_all_copied(&self) -> bool {
        self.parts.is_empty()
    }

    /// Bytes of memory that it has for tables and metadata.
    pub fn memory_bytes(&self) -> usize {
        let entries = self.entries.capacity().saturating_mul(size_of::<Entry>());
        let pieces = self.pieces.capacity().saturating_mul(size_of::<Le32>());
        let tables = entries.saturating_add(pieces);
        tables.saturating_add(self.metadata.capacity())
    }

    /// The frame of one event whose data went another way.
    ///
    /// # Errors
    /// When the metadata is too much.
    pub(super) fn streamed(
        metadata: &[u8],
        data_bytes: u64,
        pieces: Vec<Le32>,
        place: Option<BatchPlace>,
    ) -> Result<Bytes, BatchError> {
        let mut builder = Self::new();
        builder.push(metadata, [])?;
        let bytes = u32::try_from(metadata.len()).unwrap_or(u32::MAX);
        builder.entries = vec![Entry::new(bytes, crc32fast::hash(metadata), data_bytes)];
        builder.pieces = pieces;
        Ok(builder.frame(data_bytes, place, BytesMut::new()))
    }

    fn frame(&self, data_bytes: u64, place: Option<BatchPlace>, memory: BytesMut) -> Bytes {
        assert!(!self.entries.is_empty(), "a batch without events was finished");
        let frame_bytes = narrow(self.frame_bytes());
        let entries: &[u8] = bytemuck::cast_slice(&self.entries);
        let pieces: &[u8] = bytemuck::cast_slice(&self.pieces);
        let mut table_crc = crc32fast::Hasher::new();
        table_crc.update(entries);
        table_crc.update(pieces);
        let header = BatchHeader::built(&Built {
            event_count: self.event_count(),
            metadata_bytes: u32::try_from(self.metadata.len()).unwrap_or(u32::MAX),
            piece_count: u32::try_from(self.pieces.len()).unwrap_or(u32::MAX),
            table_crc: table_crc.finalize(),
            data_bytes,
            has_references: self.has_references,
            place,
        });
        let mut frame = memory;
        frame.clear();
        frame.reserve(frame_bytes);
        for part in [bytemuck::bytes_of(&header), entries, pieces, &self.metadata] {
            frame.extend_from_slice(part);
        }
        frame.resize(frame_bytes, 0);
        assert_eq!(
            header.frame_bytes(),
            wide(frame.len()),
            "the header tells how long the frame is"
        );
        frame.freeze()
    }
}

fn total_bytes<'a>(segments: impl Iterator<Item = &'a [u8]>) -> u64 {
    segments.fold(0, |sum, segment| sum.saturating_add(wide(segment.len())))
}

/// The piece of an event's data that is being gathered.
#[derive(Clone, Debug, Default)]
pub(super) struct Piece {
    hasher: crc32fast::Hasher,
    bytes: usize,
}

impl Piece {
    pub(super) fn take(&mut self, segment: &[u8], pieces: &mut Vec<Le32>) {
        let mut rest = segment;
        while !rest.is_empty() {
            let room = PIECE_BYTES.saturating_sub(self.bytes);
            let (now, later) = rest.split_at_checked(room).unwrap_or((rest, &[]));
            self.hasher.update(now);
            self.bytes = self.bytes.saturating_add(now.len());
            if self.bytes == PIECE_BYTES {
                std::mem::take(self).finish(pieces);
            }
            rest = later;
        }
    }

    pub(super) fn finish(self, pieces: &mut Vec<Le32>) {
        if self.bytes > 0 {
            pieces.push(self.hasher.finalize().into());
        }
    }
}
