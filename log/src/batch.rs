//! The batch frame: the one layout of events from the producer over the wire to the device and on to the consumer.
//!
//! ```text
//! at  0        4           8        10     12           16    24             32          40       48          56
//!     "MFB1"   header_crc  version  flags  event_count  salt  base_event_id  synced_end  data_at  data_bytes  producer_id
//! at  64        72              76           80            88               96              100          104        108   116
//!     sequence  producer_epoch  incarnation  timestamp_us  partition_epoch  metadata_bytes  piece_count  table_crc  span  0 x 12
//! at  128                          + 16 * event_count        + 4 * piece_count  + metadata_bytes  to a multiple of 8
//!     entries, one for each event  checksums of data pieces  metadata           zeros
//! ```
//!
//! `header_crc` covers bytes 8 to 128, `table_crc` entries and piece checksums, each entry has the checksum of its
//! event's metadata, and each piece checksum covers 64 KiB of one event's data. So every byte of a batch is covered, a
//! header can be trusted before anything else is read, and a part of an event's data can be checked without the rest.
//!
//! The client writes everything but the fields of [`Stamp`], which the server fills in without touching the rest.

mod builder;
mod check;
mod error;
mod header;
mod pieces;
mod reference;
mod streamed;

use std::fmt;

use bytes::Bytes;

pub use builder::{BatchBuilder, DataParts};
pub use check::frame_bytes_hint;
pub use error::BatchError;
pub use header::{BATCH_HEADER_BYTES, BatchHeader, BatchPlace, Stamp};
pub(crate) use header::{Entry, MAGIC};
pub(crate) use pieces::piece_count;
pub use pieces::{BadPiece, DataCheck, PieceCrcs, check_piece, check_pieces, combine_crc};
pub use reference::{REFERENCE_HEAD_BYTES, Reference};
pub use streamed::StreamedData;

use crate::ids::{EventId, FilePos, ProducerId};
use crate::le::Le32;
use crate::width::narrow;

/// A batch that was checked: immutable but for the stamp, and cheap to clone.
///
/// Its data may be elsewhere (in the data file), then [`Batch::data`] is `None`.
#[derive(Clone, PartialEq, Eq)]
pub struct Batch {
    header: BatchHeader,
    /// Table, piece checksums, metadata and padding, as received or stored.
    body: Bytes,
    data: Option<Bytes>,
}

/// One event of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventView<'a> {
    /// Its place in the batch: its id is the batch's base plus this.
    pub index: u32,
    /// Its metadata.
    pub metadata: &'a [u8],
    /// What it refers to in place of data of its own.
    pub reference: Option<Reference<'a>>,
    /// Where its data begins in the batch's data.
    pub data_offset: u64,
    /// Bytes of its own data; 0 with a reference.
    pub data_bytes: u64,
    /// Checksums of its data, one for each 64 KiB.
    pub pieces: PieceCrcs<'a>,
}

/// The parts of a batch's body.
#[derive(Clone, Copy, Default)]
pub(crate) struct Table<'a> {
    pub(crate) entries: &'a [Entry],
    pub(crate) pieces: &'a [Le32],
    /// What follows the table: metadata and padding.
    pub(crate) rest: &'a [u8],
}

impl Batch {
    /// A mark: no events, a witness that everything before `stamp.synced_end` was durable. `clean`: the last frame
    /// before an orderly stop.
    pub(crate) fn mark(clean: bool, stamp: Stamp) -> Self {
        let mut batch = Self {
            header: BatchHeader::mark(clean),
            body: Bytes::new(),
            data: None,
        };
        batch.stamp(stamp);
        assert!(
            batch.is_mark() && batch.frame_bytes() == 128,
            "a mark is a header and nothing else"
        );
        batch
    }

    /// The header.
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The header as it is stored and sent: with [`Batch::body`] after it, the frame.
    pub fn header_bytes(&self) -> &[u8; BATCH_HEADER_BYTES] {
        bytemuck::cast_ref(&self.header)
    }

    /// Everything of the frame after the header, as received or stored.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The events' data back to back, when it is in memory.
    pub fn data(&self) -> Option<&Bytes> {
        self.data.as_ref()
    }

    /// Bytes of the whole frame: header, table, metadata, padding.
    pub fn frame_bytes(&self) -> u64 {
        self.header.frame_bytes()
    }

    /// Events in the batch; 0 in a mark.
    pub fn event_count(&self) -> u32 {
        self.header.event_count()
    }

    /// Id of the first event; of a mark, of the event that comes next.
    pub fn base_event_id(&self) -> EventId {
        self.header.base_event_id()
    }

    /// Exclusive end of the ids.
    pub fn end_event_id(&self) -> EventId {
        self.header.end_event_id()
    }

    /// Bytes of all events' data.
    pub fn data_bytes(&self) -> u64 {
        self.header.data_bytes()
    }

    /// Where the data is in the data file; 0 without data, and when it was never planned.
    pub fn data_at(&self) -> FilePos {
        self.header.data_at()
    }

    /// Who sent it, in which epoch, as which of its batches.
    pub fn producer(&self) -> Option<(ProducerId, u32, u64)> {
        self.header.producer()
    }

    /// The same, and how far the next batch of this producer is.
    pub fn place(&self) -> Option<BatchPlace> {
        self.header.place()
    }

    /// Whether it says which places of its producer's source it covers.
    pub fn covers_source(&self) -> bool {
        self.header.covers_source()
    }

    /// When it was accepted: Unix time in microseconds.
    pub fn timestamp_us(&self) -> u64 {
        self.header.timestamp_us()
    }

    /// The exclusive end of what was durable when this was written.
    pub fn synced_end(&self) -> EventId {
        self.header.synced_end()
    }

    /// The segment it was stamped for.
    pub fn salt(&self) -> u64 {
        self.header.salt()
    }

    /// Which opening of the partition for writing it was stamped in.
    pub fn incarnation(&self) -> u32 {
        self.header.incarnation()
    }

    /// Whether it has no events and is only a witness.
    pub fn is_mark(&self) -> bool {
        self.header.is_mark()
    }

    /// Whether some of its events refer to data of others.
    pub fn has_references(&self) -> bool {
        self.header.has_references()
    }

    /// Whether it is the mark of an orderly stop.
    pub fn is_clean_mark(&self) -> bool {
        self.header.is_clean_mark()
    }

    /// Fills in the server's fields and the header's checksum; nothing else changes.
    pub fn stamp(&mut self, stamp: Stamp) {
        self.header.stamp(stamp);
    }

    /// Gives it another place among the batches of its producer: who sends it, in which epoch, as which of its batches.
    pub fn renumber(&mut self, producer: ProducerId, epoch: u32, sequence: u64) {
        self.header.renumber(producer, epoch, sequence);
    }

    /// The same batch with its data, which is checked first.
    ///
    /// # Errors
    /// When it is not the data of this batch.
    pub fn with_data(mut self, data: Bytes) -> Result<Self, BatchError> {
        check::check_data(&self.header, &self.table(), &data)?;
        self.data = Some(data);
        Ok(self)
    }

    /// Just the header, for those who must not keep the bytes in memory. Has no events to look at.
    #[must_use]
    pub fn without_bytes(&self) -> Self {
        Self {
            header: self.header,
            body: Bytes::new(),
            data: None,
        }
    }

    /// Header and table in memory of their own: enough to check data with, and does not keep a large window alive.
    pub(crate) fn table_only(&self) -> Self {
        if self.data_bytes() == 0 {
            return self.without_bytes();
        }
        let table = self
            .body
            .get(..narrow(self.header.table_bytes()))
            .unwrap_or_default();
        Self {
            header: self.header,
            body: Bytes::copy_from_slice(table),
            data: None,
        }
    }

    /// The events in order.
    pub fn events(&self) -> Events<'_> {
        Events {
            table: self.table(),
            data_offset: 0,
            index: 0,
        }
    }

    /// One event; `None` beyond the last. Walks the table.
    pub fn event(&self, index: u32) -> Option<EventView<'_>> {
        self.events().nth(usize::try_from(index).ok()?)
    }

    /// The events from a place on that an earlier walk over this batch noted.
    pub fn events_from(&self, mark: EventsMark) -> Events<'_> {
        let table = self.table();
        let last = |have: usize, left: usize| have.checked_sub(left).unwrap_or(have);
        Events {
            table: Table {
                entries: table
                    .entries
                    .get(last(table.entries.len(), mark.entries_left)..)
                    .unwrap_or_default(),
                pieces: table
                    .pieces
                    .get(last(table.pieces.len(), mark.pieces_left)..)
                    .unwrap_or_default(),
                rest: table
                    .rest
                    .get(last(table.rest.len(), mark.rest_left)..)
                    .unwrap_or_default(),
            },
            data_offset: mark.data_offset,
            index: mark.index,
        }
    }

    pub(crate) fn table(&self) -> Table<'_> {
        Table::of(&self.header, &self.body).unwrap_or_default()
    }
}

impl fmt::Debug for Batch {
    /// Not the bytes: a batch in an assertion's message should fit a screen.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("header", &self.header)
            .field("body_bytes", &self.body.len())
            .field("data_here_bytes", &self.data.as_ref().map(Bytes::len))
            .finish()
    }
}

impl<'a> Table<'a> {
    /// `None` when the body is shorter than the header says.
    fn of(header: &BatchHeader, body: &'a [u8]) -> Option<Self> {
        let (entries, rest) = body.split_at_checked(narrow(header.entries_bytes()))?;
        let (pieces, rest) = rest.split_at_checked(narrow(header.pieces_bytes()))?;
        let entries = bytemuck::try_cast_slice(entries).ok()?;
        let pieces = bytemuck::try_cast_slice(pieces).ok()?;
        Some(Self {
            entries,
            pieces,
            rest,
        })
    }
}

/// The events of a batch in order. See [`Batch::events`].
#[derive(Clone)]
pub struct Events<'a> {
    table: Table<'a>,
    data_offset: u64,
    index: u32,
}

/// A place in the events of a batch, to go on from without walking there again. See [`Events::mark`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventsMark {
    entries_left: usize,
    pieces_left: usize,
    rest_left: usize,
    data_offset: u64,
    index: u32,
}

impl EventsMark {
    /// The place of the event that comes next, in the batch.
    pub fn index(&self) -> u32 {
        self.index
    }
}

impl Events<'_> {
    /// Where the walk is: [`Batch::events_from`] goes on there.
    pub fn mark(&self) -> EventsMark {
        EventsMark {
            entries_left: self.table.entries.len(),
            pieces_left: self.table.pieces.len(),
            rest_left: self.table.rest.len(),
            data_offset: self.data_offset,
            index: self.index,
        }
    }
}

impl<'a> Iterator for Events<'a> {
    type Item = EventView<'a>;

    /// In a checked batch the lengths add up; one whose bytes were left behind just has no events.
    fn next(&mut self) -> Option<EventView<'a>> {
        let (entry, entries) = self.table.entries.split_first()?;
        let (metadata, rest) = self
            .table
            .rest
            .split_at_checked(narrow(entry.metadata_bytes().into()))?;
        let (own, pieces) = self
            .table
            .pieces
            .split_at_checked(narrow(piece_count(entry.data_bytes())))?;
        let (metadata, reference) = match entry.reference_bytes() {
            None => (metadata, None),
            Some(bytes) => {
                let at = metadata.len().checked_sub(narrow(bytes))?;
                let (metadata, reference) = metadata.split_at_checked(at)?;
                (metadata, Reference::check(reference).ok())
            }
        };
        let view = EventView {
            index: self.index,
            metadata,
            reference,
            data_offset: self.data_offset,
            data_bytes: entry.data_bytes(),
            pieces: PieceCrcs::new(own),
        };
        self.table = Table {
            entries,
            pieces,
            rest,
        };
        self.data_offset = self.data_offset.saturating_add(entry.data_bytes());
        self.index = self.index.saturating_add(1);
        Some(view)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.table.entries.len()))
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use tests::plain_crc;
