//! The data file of a segment without events gives way to one that has the data of its first event already.

use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use mofka_log::{BLOCK_BYTES, FilePos, SegmentHeader, SegmentKind};

use super::super::segment_files::{data_path, incoming_path};
use super::Store;
use crate::io::{Io, IoFile, Then, write_one};

/// Why a data file was not taken.
pub(in super::super) enum AdoptError {
    /// Nothing changed.
    Refused(io::Error),
    /// Which file has the name is not known.
    Failed(String),
}

impl<I: Io> Store<I> {
    /// Where the data of a stream goes until it is whole.
    pub(in super::super) fn incoming_path(&self, stream: u64) -> PathBuf {
        incoming_path(&self.dir, stream)
    }

    /// Makes this file, in which an event's data was written from the first block on up to `end`, the data file of the segment
    /// that is written, which has no events; all durable when this returns. Gives where the file ends. `tail`: the bytes
    /// of the block of `end` up to there.
    ///
    /// The file gets the header of the segment that is there, and then its name, which is one step: before and after it,
    /// the segment is one without events whose data file belongs to it. So a crash leaves either the old file, beside one
    /// that the next opening removes, or the new one.
    pub(in super::super) async fn adopt_data(
        &self,
        file: &Rc<I::File>,
        path: &Path,
        end: FilePos,
        tail: Vec<u8>,
    ) -> Result<FilePos, AdoptError> {
        let segment = self.committer.with_appender(|appender| appender.segment());
        let (base, now_us) = (segment.base_event_id, self.io.now_us());
        let kind = SegmentKind::Data;
        let header = SegmentHeader::new(
            kind,
            self.partition,
            base,
            segment.salt,
            now_us,
            segment.incarnation,
        );
        let mut block = self.io.alloc(BLOCK_BYTES);
        block.as_mut().copy_from_slice(&header.to_block());
        // The sync is for the data as well.
        let written = write_one(&self.io, file, FilePos::new(0), block, Then::Sync).await;
        written.map_err(AdoptError::Refused)?;
        let file_end = file.size_bytes().await.map_err(AdoptError::Refused)?;
        let name = data_path(&self.dir, base);
        let failed =
            |what: &str, error: &io::Error| AdoptError::Failed(format!("{what} {}: {error}", name.display()));
        let renamed = self.io.rename(path, &name).await;
        renamed.map_err(|error| failed("renaming to", &error))?;
        let synced = self.io.sync_dir(&self.dir).await;
        synced.map_err(|error| failed("syncing the directory of", &error))?;
        self.committer.adopt_data(Rc::clone(file), end, tail);
        Ok(FilePos::new(file_end).align_down(BLOCK_BYTES as u64))
    }
}
