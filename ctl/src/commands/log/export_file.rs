//! Reads an export file as a stream, and checks everything in it.

use std::io::{self, Read};

use bytes::Bytes;
use mofka_log::{
    Batch, CursorRecord, EXPORT_HEADER_BYTES, EXPORT_SECTION_BYTES, ExportHead, ExportHeadPart,
    ExportSection, ExportSums, ProducerTable,
};

use crate::failure::{Failure, Outcome};

/// What comes next in an export file.
pub(super) enum Item {
    /// A batch, with its data.
    Batch(Batch),
    Cursor(CursorRecord),
    Producers(ProducerTable),
    /// The trailer was there and tells the truth.
    End,
}

/// See the module.
pub(super) struct ExportReader<R> {
    from: R,
    head: ExportHead,
    sums: ExportSums,
}

/// Reads as much as `bytes` says, in memory that grows only as bytes come: a length from outside sizes nothing.
fn read_exactly(from: &mut impl Read, bytes: u64) -> Outcome<Vec<u8>> {
    let mut buffer = Vec::new();
    let have = from.take(bytes).read_to_end(&mut buffer);
    match have {
        Ok(have) if have as u64 == bytes => Ok(buffer),
        Ok(_) => Err(bad(
            "it ends early: the export was not finished, or the file was cut",
        )),
        Err(error) => Err(Failure::failed(format!("cannot read the export: {error}"))),
    }
}

/// The file is not a whole, unchanged export.
fn bad(reason: impl std::fmt::Display) -> Failure {
    Failure::check(format!("the export does not check: {reason}"))
}

impl<R: Read> ExportReader<R> {
    /// Reads the head.
    ///
    /// # Errors
    /// When it is not that of an export file.
    pub(super) fn new(mut from: R) -> Outcome<Self> {
        let first = read_exactly(&mut from, EXPORT_HEADER_BYTES as u64)?;
        if !ExportHeadPart::is_export(&first) {
            return Err(Failure::foreign(
                "this is not an export file: it does not begin with MFE1",
            ));
        }
        let part = ExportHeadPart::check(&first).map_err(|error| match error {
            mofka_log::ExportError::Version { .. } => Failure::newer(error.to_string()),
            error => bad(error),
        })?;
        let records = read_exactly(&mut from, part.records_bytes())?;
        let head = part.with_records(&records).map_err(bad)?;
        let mut sums = ExportSums::new(&head);
        sums.pass(&first);
        sums.pass(&records);
        Ok(Self { from, head, sums })
    }

    pub(super) fn head(&self) -> &ExportHead {
        &self.head
    }

    /// What passed so far.
    pub(super) fn sums(&self) -> &ExportSums {
        &self.sums
    }

    /// The next part. After [`Item::End`] there is none.
    ///
    /// # Errors
    /// When something does not check.
    pub(super) fn next(&mut self) -> Outcome<Item> {
        let header = read_exactly(&mut self.from, EXPORT_SECTION_BYTES as u64)?;
        let section = ExportSection::check(&header).map_err(bad)?;
        if !matches!(section, ExportSection::End(_)) {
            self.sums.pass(&header);
        }
        match section {
            ExportSection::Batch {
                frame_bytes,
                data_bytes,
            } => {
                let frame = self.content(frame_bytes)?;
                let data = self.content(data_bytes)?;
                let batch = Batch::check(Bytes::from(frame), Some(Bytes::from(data))).map_err(bad)?;
                self.sums.batch(&batch).map_err(bad)?;
                Ok(Item::Batch(batch))
            }
            ExportSection::Cursor(content) => {
                let record = self.content(content.bytes)?;
                content.check(&record).map_err(bad)?;
                let cursor = CursorRecord::check(&record).map_err(bad)?;
                self.sums.cursor(&record).map_err(bad)?;
                Ok(Item::Cursor(cursor))
            }
            ExportSection::Producers { content, count } => {
                let table = self.content(content.bytes)?;
                content.check(&table).map_err(bad)?;
                let table = self.sums.check_producers(&table, count).map_err(bad)?;
                Ok(Item::Producers(table))
            }
            ExportSection::End(content) => {
                let trailer = read_exactly(&mut self.from, content.bytes)?;
                content.check(&trailer).map_err(bad)?;
                self.sums.check_end(&trailer).map_err(bad)?;
                match self.from.read(&mut [0]) {
                    Ok(0) => Ok(Item::End),
                    Ok(_) => Err(bad("something follows its trailer")),
                    Err(error) => Err(Failure::failed(format!("cannot read the export: {error}"))),
                }
            }
        }
    }

    fn content(&mut self, bytes: u64) -> Outcome<Vec<u8>> {
        let content = read_exactly(&mut self.from, bytes)?;
        self.sums.pass(&content);
        Ok(content)
    }
}

/// Whether a file begins like an export.
pub(super) fn is_export(path: &std::path::Path) -> io::Result<bool> {
    let mut first = [0; 4];
    let have = std::fs::File::open(path)?.take(4).read(&mut first)?;
    Ok(ExportHeadPart::is_export(&first[..have]))
}
