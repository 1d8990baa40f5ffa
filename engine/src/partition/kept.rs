//! What a partition knows of producers whose segments were trimmed: the file `producers`, a meta file without frames.
//!
//! It is the only place where that is known as long as no segment has a footer. So it is read when it is needed and else not, and where it
//! cannot be read, nothing is made of that for good: batches that were acknowledged would be stored twice when they are sent again.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use mofka_log::{
    BLOCK_BYTES, EventId, FilePos, Footer, FooterFacts, ProducerTable, SegmentHeader, SegmentKind,
    SparseIndex,
};
use uuid::Uuid;

use super::segment_files::read_footer;
use crate::io::{Io, IoFile, Then, write_one};
use crate::recover::{OpenError, write_first_block};

fn producers_path(dir: &Path) -> PathBuf {
    dir.join("producers")
}

/// Writes what producers sent before `end`, apart from the segments. The caller syncs the directory.
pub(super) async fn keep_producers<I: Io>(
    io: &I,
    dir: &Path,
    partition: Uuid,
    end: EventId,
    producers: ProducerTable,
) -> Result<(), OpenError> {
    let path = producers_path(dir);
    let beside = path.with_extension("new");
    let failed = |what: &str, error: &std::io::Error| OpenError::io(what, &beside, error);
    let salt = io.random_u64();
    let header = SegmentHeader::new(SegmentKind::Meta, partition, end, salt, io.now_us(), 1);
    let frames_end = FilePos::new(BLOCK_BYTES as u64);
    let facts = FooterFacts {
        salt,
        base_event_id: end,
        end_event_id: end,
        meta_end: frames_end,
        data_end: frames_end,
        index: SparseIndex::default(),
        producers,
    };
    let file = io
        .create(&beside)
        .await
        .map_err(|error| failed("creating", &error))?;
    let file = Rc::new(file);
    let footer = Footer::encode(&facts, frames_end);
    let mut buf = io.alloc(footer.len());
    buf.as_mut().copy_from_slice(&footer);
    let written = async {
        write_first_block(io, &file, &header).await?;
        write_one(io, &file, frames_end, buf, Then::Sync).await
    };
    written.await.map_err(|error| failed("writing", &error))?;
    io.rename(&beside, &path)
        .await
        .map_err(|error| failed("renaming", &error))
}

/// What [`keep_producers`] kept, if it was ever needed: what is known of producers before the first segment, which begins at `first`.
///
/// # Errors
/// What the machine said, or that the file is damaged. One from before segments that went since is that, too: what knew better than it
/// was a footer, and there is none.
pub(super) async fn kept_producers<I: Io>(
    io: &I,
    dir: &Path,
    partition: Uuid,
    first: EventId,
) -> Result<Option<ProducerTable>, OpenError> {
    let path = producers_path(dir);
    let file = match io.open(&path).await {
        Ok(file) => Rc::new(file),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(OpenError::io("opening", &path, &error)),
    };
    let footer = checked(&path, &file, partition).await?;
    let base = footer.base_event_id();
    if base < first {
        return Err(OpenError::new(format!(
            "{}: it has what producers sent before event {base}, and the first segment begins at {first}",
            path.display()
        )));
    }
    Ok(Some(footer.producers()))
}

async fn checked<F: IoFile>(path: &Path, file: &Rc<F>, partition: Uuid) -> Result<Footer, OpenError> {
    let wrong = |reason: String| OpenError::new(format!("{}: {reason}", path.display()));
    let block = file
        .read_at(FilePos::new(0), BLOCK_BYTES)
        .await
        .map_err(|error| OpenError::io("reading", path, &error))?;
    let header = SegmentHeader::check(&block).map_err(|error| wrong(error.to_string()))?;
    header
        .expect(SegmentKind::Meta, partition)
        .map_err(|error| wrong(error.to_string()))?;
    let footer = read_footer(path, file).await?;
    let is_its =
        |footer: &Footer| footer.salt() == header.salt() && footer.base_event_id() == header.base_event_id();
    footer
        .filter(is_its)
        .ok_or_else(|| wrong("its footer is gone".to_owned()))
}
