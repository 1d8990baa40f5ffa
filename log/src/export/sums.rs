//! What passes of an export file: its order, its counts, its checksum.

use super::{ExportContent, ExportError, ExportHead, ExportSection, ExportTrailer, check_crc, read};
use crate::batch::Batch;
use crate::ids::EventId;
use crate::producers::ProducerTable;
use crate::width::wide;

/// What passed so far of an export file, whoever writes or reads it: the trailer tells the same, and the order of the
/// sections is kept.
#[derive(Clone, Debug)]
pub struct ExportSums {
    next_event_id: EventId,
    batch_count: u64,
    event_count: u64,
    data_bytes: u64,
    cursor_count: u64,
    bytes: u64,
    crc: crc32fast::Hasher,
    /// Batches, cursors, producers, trailer.
    stage: u8,
}

impl ExportSums {
    /// Begins with the head.
    pub fn new(head: &ExportHead) -> Self {
        Self {
            next_event_id: head.base_event_id,
            batch_count: 0,
            event_count: 0,
            data_bytes: 0,
            cursor_count: 0,
            bytes: 0,
            crc: crc32fast::Hasher::new(),
            stage: 0,
        }
    }

    /// Bytes that passed, all of them in order: of the head, and of each section its header and what follows. Not those of
    /// the last section.
    pub fn pass(&mut self, bytes: &[u8]) {
        self.crc.update(bytes);
        self.bytes = self.bytes.saturating_add(wide(bytes.len()));
    }

    /// Exclusive end of the events that passed.
    pub fn end_event_id(&self) -> EventId {
        self.next_event_id
    }

    /// Events that passed.
    pub fn event_count(&self) -> u64 {
        self.event_count
    }

    /// Bytes that passed.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    fn enter(&mut self, stage: u8, what: &'static str) -> Result<(), ExportError> {
        // Only batches and cursors may come again.
        let again = self.stage == stage && stage < 2;
        if self.stage < stage || again {
            self.stage = stage;
            Ok(())
        } else {
            Err(ExportError::Place { what })
        }
    }

    /// The section of a batch.
    ///
    /// # Errors
    /// When it does not follow the one before, or is a mark.
    pub fn batch(&mut self, batch: &Batch) -> Result<ExportSection, ExportError> {
        self.enter(0, "a batch")?;
        if batch.is_mark() {
            return Err(ExportError::Place { what: "a mark" });
        }
        if batch.base_event_id() != self.next_event_id {
            return Err(ExportError::Order {
                found: batch.base_event_id(),
                expected: self.next_event_id,
            });
        }
        self.next_event_id = batch.end_event_id();
        self.batch_count = self.batch_count.saturating_add(1);
        self.event_count = self.event_count.saturating_add(batch.event_count().into());
        self.data_bytes = self.data_bytes.saturating_add(batch.data_bytes());
        Ok(ExportSection::Batch {
            frame_bytes: batch.frame_bytes(),
            data_bytes: batch.data_bytes(),
        })
    }

    /// The section of a cursor's record.
    ///
    /// # Errors
    /// When no cursor can be here.
    pub fn cursor(&mut self, record: &[u8]) -> Result<ExportSection, ExportError> {
        self.enter(1, "a cursor")?;
        self.cursor_count = self.cursor_count.saturating_add(1);
        Ok(ExportSection::Cursor(ExportContent::of(record)))
    }

    /// The section of the producers, and its content.
    ///
    /// # Errors
    /// When they cannot be here.
    pub fn producers(&mut self, table: &ProducerTable) -> Result<(ExportSection, Vec<u8>), ExportError> {
        self.enter(2, "a table of producers")?;
        let mut bytes = Vec::new();
        table.encode(&mut bytes);
        let section = ExportSection::Producers {
            content: ExportContent::of(&bytes),
            count: wide(table.len()),
        };
        Ok((section, bytes))
    }

    /// The producers of a section with so many of them.
    ///
    /// # Errors
    /// When they are none.
    pub fn check_producers(&mut self, bytes: &[u8], count: u64) -> Result<ProducerTable, ExportError> {
        self.enter(2, "a table of producers")?;
        Ok(ProducerTable::decode(bytes, count)?)
    }

    fn trailer(&self) -> ExportTrailer {
        ExportTrailer {
            batch_count: self.batch_count.into(),
            event_count: self.event_count.into(),
            data_bytes: self.data_bytes.into(),
            cursor_count: self.cursor_count.into(),
            end_event_id: self.next_event_id.get().into(),
            bytes_before: self.bytes.into(),
            crc_before: self.crc.clone().finalize().into(),
            reserved: [0; 12],
        }
    }

    /// The last section: header and trailer.
    ///
    /// # Errors
    /// When the producers are missing.
    pub fn end(&mut self) -> Result<Vec<u8>, ExportError> {
        if self.stage != 2 {
            return Err(ExportError::Place { what: "a trailer" });
        }
        self.stage = 3;
        let trailer = self.trailer();
        let content = bytemuck::bytes_of(&trailer);
        let section = ExportSection::End(ExportContent::of(content));
        Ok([&section.encode(), content].concat())
    }

    /// Holds the trailer against what passed.
    ///
    /// # Errors
    /// What it tells otherwise.
    pub fn check_end(&mut self, bytes: &[u8]) -> Result<(), ExportError> {
        let stored: ExportTrailer = read(bytes, "the trailer")?;
        if self.stage != 2 {
            return Err(ExportError::Place { what: "a trailer" });
        }
        self.stage = 3;
        if stored.reserved != [0; 12] {
            return Err(ExportError::Reserved { part: "the trailer" });
        }
        let found = self.trailer();
        for (field, stored, found) in [
            ("batch_count", stored.batch_count, found.batch_count),
            ("event_count", stored.event_count, found.event_count),
            ("data_bytes", stored.data_bytes, found.data_bytes),
            ("cursor_count", stored.cursor_count, found.cursor_count),
            ("end_event_id", stored.end_event_id, found.end_event_id),
            ("bytes_before", stored.bytes_before, found.bytes_before),
        ] {
            if stored != found {
                return Err(ExportError::Trailer {
                    field,
                    stored: stored.get(),
                    found: found.get(),
                });
            }
        }
        check_crc(
            "all that is before the trailer",
            stored.crc_before.get(),
            found.crc_before.get(),
        )
    }
}
