//! Reads an export file as a stream, and checks everything in it.

use std::io::{self, Read};

use bytes::Bytes;
use mofka_log::{
    BadPiece, Batch, CursorRecord, DataCheck, EXPORT_HEADER_BYTES, EXPORT_SECTION_BYTES, ExportHead,
    ExportHeadPart, ExportSection, ExportSums, ProducerTable,
};

use crate::failure::{Failure, Outcome};

/// Bytes of data up to which a batch is held as a whole.
const HELD_BYTES_MAX: u64 = 16 << 20;
/// Bytes of other data that are in memory at a time.
const PART_BYTES: usize = 1 << 20;

/// What comes next in an export file.
pub(super) enum Item {
    /// A batch. Its data is with it, or else follows: [`ExportReader::data`].
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
    /// The batch whose data comes next, and was not read yet.
    pending: Option<Batch>,
}

/// Reads as much as `bytes` says, in memory that grows only as bytes come: a length from outside sizes nothing.
fn read_exactly(from: &mut impl Read, bytes: u64) -> Outcome<Vec<u8>> {
    let mut buffer = Vec::new();
    let have = from.take(bytes).read_to_end(&mut buffer);
    match have {
        Ok(have) if have as u64 == bytes => Ok(buffer),
        Ok(_) => Err(ends_early()),
        Err(error) => Err(unreadable(&error)),
    }
}

fn ends_early() -> Failure {
    bad("it ends early: the export was not finished, or the file was cut")
}

fn unreadable(error: &io::Error) -> Failure {
    Failure::failed(format!("cannot read the export: {error}"))
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
        Ok(Self {
            from,
            head,
            sums,
            pending: None,
        })
    }

    pub(super) fn head(&self) -> &ExportHead {
        &self.head
    }

    /// What passed so far.
    pub(super) fn sums(&self) -> &ExportSums {
        &self.sums
    }

    /// The next part. After [`Item::End`] there is none. Data that nobody asked for is checked, too.
    ///
    /// # Errors
    /// When something does not check.
    pub(super) fn next(&mut self) -> Outcome<Item> {
        self.data(&mut |_| Ok(()))?;
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
                let mut batch = Batch::check(Bytes::from(frame), None).map_err(bad)?;
                if data_bytes != batch.data_bytes() {
                    return Err(bad(format_args!(
                        "{data_bytes} bytes of data follow a batch that has {}",
                        batch.data_bytes()
                    )));
                }
                self.sums.batch(&batch).map_err(bad)?;
                if data_bytes > HELD_BYTES_MAX {
                    self.pending = Some(batch.clone());
                } else {
                    let data = self.content(data_bytes)?;
                    batch = batch.with_data(data.into()).map_err(bad)?;
                }
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
                    Err(error) => Err(unreadable(&error)),
                }
            }
        }
    }

    /// The data of the batch that came last, if it did not come with it: `take` gets it in parts of at most 1 MiB. It is checked as
    /// it goes by, so `take` may have had some of it when this fails.
    ///
    /// # Errors
    /// When it does not check, and what `take` fails with.
    pub(super) fn data(&mut self, take: &mut dyn FnMut(&[u8]) -> Outcome) -> Outcome {
        let Some(batch) = self.pending.take() else {
            return Ok(());
        };
        let bad_piece = |piece: BadPiece| {
            let event = batch.base_event_id().get() + u64::from(piece.index);
            bad(format_args!(
                "piece {} of the data of event {event} is not what its checksum says",
                piece.piece
            ))
        };
        let mut check = DataCheck::new(&batch);
        let mut buffer = vec![0; PART_BYTES];
        let mut left = batch.data_bytes();
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(PART_BYTES).min(PART_BYTES);
            let part = match self.from.read(&mut buffer[..most]) {
                Ok(0) => return Err(ends_early()),
                Ok(have) => &buffer[..have],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(unreadable(&error)),
            };
            self.sums.pass(part);
            check.feed(part).map_err(bad_piece)?;
            take(part)?;
            left -= part.len() as u64;
        }
        check.finish().map_err(bad_piece)
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
