//! Bytes become a batch here, or an error. On the path of every batch on both sides: loops over slices, no allocation.

use bytes::Bytes;

use super::error::BatchError;
use super::header::{BATCH_HEADER_BYTES, BatchHeader};
use super::pieces::{first_bad_piece, piece_count};
use super::reference::Reference;
use super::streamed::StreamedData;
use super::{Batch, Table};
use crate::limits::DATA_BATCH_BYTES_MAX;
use crate::width::{narrow, wide};

/// Checks a frame's header, given at least its 128 bytes, and says how long the whole frame is.
///
/// # Errors
/// What is wrong with the header.
pub fn frame_bytes_hint(first_128: &[u8]) -> Result<u64, BatchError> {
    BatchHeader::check(first_128).map(|header| header.frame_bytes())
}

impl Batch {
    /// Checks a whole frame, without a byte after it: header, table, every metadata, padding; and the data if it is
    /// given.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(frame: Bytes, data: Option<Bytes>) -> Result<Self, BatchError> {
        let header = BatchHeader::check(&frame)?;
        let batch = Self::check_body(header, frame)?;
        match data {
            Some(data) => batch.with_data(data),
            None => Ok(batch),
        }
    }

    /// Checks what a client sent: as [`Batch::check`], and the fields that only the server writes are 0.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check_client(frame: Bytes, data: Bytes) -> Result<Self, BatchError> {
        Self::check_client_rest(BatchHeader::check(&frame)?, frame, data)
    }

    /// The same of a frame whose header was checked, to see how long it is. That header is used, whatever the frame has there now.
    ///
    /// # Errors
    /// As [`Batch::check_client`].
    pub fn check_client_rest(header: BatchHeader, frame: Bytes, data: Bytes) -> Result<Self, BatchError> {
        let header = check_client_fields(header)?;
        let (value, max) = (header.data_bytes(), DATA_BATCH_BYTES_MAX);
        if value > max {
            let field = "data_bytes";
            return Err(BatchError::TooLarge { field, value, max });
        }
        Self::check_body(header, frame)?.with_data(data)
    }

    /// Checks the frame that a client sent for an event whose data came in pieces before: as [`Batch::check_client`], and it
    /// has one event, with just this data.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check_streamed(frame: Bytes, data: &StreamedData) -> Result<Self, BatchError> {
        let header = check_client_fields(BatchHeader::check(&frame)?)?;
        let (value, max) = (header.event_count().into(), 1);
        if value > max {
            let field = "event_count of a stream";
            return Err(BatchError::TooLarge { field, value, max });
        }
        if header.has_references() {
            return Err(BatchError::Reference {
                index: 0,
                reason: "the data of a stream is its own",
            });
        }
        let batch = Self::check_body(header, frame)?;
        data.check(&batch)?;
        Ok(batch)
    }

    /// Checks the rest of a frame whose header was checked.
    pub(crate) fn check_body(header: BatchHeader, frame: Bytes) -> Result<Self, BatchError> {
        let (frame_bytes, have_bytes) = (header.frame_bytes(), wide(frame.len()));
        if frame_bytes != have_bytes {
            return Err(BatchError::Length {
                frame_bytes,
                have_bytes,
            });
        }
        let mut body = frame;
        // Not `slice`, which would count one more reference for nothing.
        bytes::Buf::advance(&mut body, BATCH_HEADER_BYTES);
        let short = BatchError::Short {
            have_bytes,
            need_bytes: frame_bytes,
        };
        let table = Table::of(&header, &body).ok_or(short)?;
        let computed = table_crc(&body, &header);
        if computed != header.table_crc() {
            return Err(BatchError::TableChecksum {
                stored: header.table_crc(),
                computed,
            });
        }
        check_sums(&header, &table)?;
        check_metadata(&header, &table)?;
        check_references(&header, &table)?;
        Ok(Self {
            header,
            body,
            data: None,
        })
    }
}

fn check_client_fields(header: BatchHeader) -> Result<BatchHeader, BatchError> {
    if let Some((field, value)) = header.server_field() {
        return Err(BatchError::ServerField { field, value });
    }
    // Only a mark has no events, and the flag of marks is one of the server's fields.
    assert!(
        header.event_count() > 0,
        "a client's batch that passed its header check has no events"
    );
    Ok(header)
}

fn table_crc(body: &[u8], header: &BatchHeader) -> u32 {
    crc32fast::hash(body.get(..narrow(header.table_bytes())).unwrap_or_default())
}

/// What the entries say in sum is what the header says, so that nothing later reaches beyond its bounds.
fn check_sums(header: &BatchHeader, table: &Table<'_>) -> Result<(), BatchError> {
    let (mut metadata, mut data, mut pieces) = (0_u64, 0_u64, 0_u64);
    for entry in table.entries {
        metadata = metadata.saturating_add(entry.metadata_bytes().into());
        data = data.saturating_add(entry.data_bytes());
        pieces = pieces.saturating_add(piece_count(entry.data_bytes()));
    }
    for (field, sum, expected) in [
        ("metadata bytes", metadata, u64::from(header.metadata_bytes())),
        ("data bytes", data, header.data_bytes()),
        ("piece counts", pieces, u64::from(header.piece_count())),
    ] {
        if sum != expected {
            return Err(BatchError::Sum { field, sum, expected });
        }
    }
    Ok(())
}

fn check_metadata(header: &BatchHeader, table: &Table<'_>) -> Result<(), BatchError> {
    let mut rest = table.rest;
    for (index, entry) in (0_u32..).zip(table.entries) {
        let need_bytes = u64::from(entry.metadata_bytes());
        let short = BatchError::Short {
            have_bytes: wide(rest.len()),
            need_bytes,
        };
        let (metadata, after) = rest.split_at_checked(narrow(need_bytes)).ok_or(short)?;
        if crc32fast::hash(metadata) != entry.metadata_crc() {
            return Err(BatchError::MetadataChecksum { index });
        }
        rest = after;
    }
    assert!(
        rest.len() < 8,
        "{} bytes follow the metadata of {header:?}, whose lengths add up",
        rest.len()
    );
    if rest.iter().any(|byte| *byte != 0) {
        return Err(BatchError::Padding);
    }
    Ok(())
}

/// A reference is where its entry says, and the header says whether there are any.
fn check_references(header: &BatchHeader, table: &Table<'_>) -> Result<(), BatchError> {
    let mut rest = table.rest;
    let mut found = false;
    for (index, entry) in (0_u32..).zip(table.entries) {
        let (metadata, after) = rest
            .split_at_checked(narrow(entry.metadata_bytes().into()))
            .unwrap_or_default();
        rest = after;
        let Some(reference_bytes) = entry.reference_bytes() else {
            continue;
        };
        found = true;
        let wrong = |reason| BatchError::Reference { index, reason };
        let at = wide(metadata.len()).checked_sub(reference_bytes);
        let reference = at.and_then(|at| metadata.get(narrow(at)..));
        let reference = reference.ok_or(wrong("it is longer than the metadata that it stands in"))?;
        Reference::check(reference).map_err(wrong)?;
    }
    if found != header.has_references() {
        let reason = "the header of the batch does not say whether there are any";
        return Err(BatchError::Reference { index: 0, reason });
    }
    Ok(())
}

/// Checks the data of a batch against its table.
pub(super) fn check_data(header: &BatchHeader, table: &Table<'_>, data: &[u8]) -> Result<(), BatchError> {
    let (expected_bytes, have_bytes) = (header.data_bytes(), wide(data.len()));
    if expected_bytes != have_bytes {
        return Err(BatchError::DataLength {
            expected_bytes,
            have_bytes,
        });
    }
    match first_bad_piece(table, data) {
        None => Ok(()),
        Some((index, piece)) => Err(BatchError::DataChecksum { index, piece }),
    }
}
