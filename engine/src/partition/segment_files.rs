//! The two files of one segment: their names, making them, sealing them, reading their footer.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use mofka_log::{
    BLOCK_BYTES, EventId, FilePos, Footer, FooterFacts, FooterTail, SegmentFacts, SegmentHeader, SegmentKind,
};
use uuid::Uuid;

use crate::commit::Files;
use crate::io::{Io, IoFile};
use crate::recover::{OpenError, write_first_block};

/// Both files with their headers, durable with their names.
pub(super) async fn create_segment<I: Io>(
    io: &I,
    dir: &Path,
    partition: Uuid,
    base: EventId,
    incarnation: u32,
) -> Result<(Files<I::File>, SegmentFacts), OpenError> {
    let salt = io.random_u64();
    let meta_path = meta_path(dir, base);
    let data_path = data_path(dir, base);
    // The data file first: a segment is there when its meta file is, and then its data file is there too.
    let mut files = Vec::new();
    for (path, kind) in [(&data_path, SegmentKind::Data), (&meta_path, SegmentKind::Meta)] {
        let failed = |what: &str, error: &std::io::Error| OpenError::io(what, path, error);
        let file = io
            .create(path)
            .await
            .map_err(|error| failed("creating", &error))?;
        let header = SegmentHeader::new(kind, partition, base, salt, io.now_us(), incarnation);
        let file = Rc::new(file);
        write_first_block(io, &file, &header)
            .await
            .map_err(|error| failed("writing", &error))?;
        io.sync_dir(dir)
            .await
            .map_err(|error| failed("syncing the directory of", &error))?;
        files.push(file);
    }
    let meta = files.pop().ok_or_else(|| OpenError::new("no meta file".into()))?;
    let facts = SegmentFacts {
        salt,
        base_event_id: base,
        incarnation,
    };
    Ok((
        Files {
            meta,
            data: files.pop(),
        },
        facts,
    ))
}

/// Writes the footer, so that this segment opens by reading its last block. Returns the meta file's size.
pub(super) async fn seal<I: Io>(io: &I, files: &Files<I::File>, facts: &FooterFacts) -> std::io::Result<u64> {
    let footer_at = facts.meta_end.align_up(BLOCK_BYTES as u64);
    let bytes = Footer::encode(facts, footer_at);
    let mut buf = io.alloc(bytes.len());
    buf.as_mut().copy_from_slice(&bytes);
    // Whatever lies beyond goes first: the footer's tail must be the last thing in the file.
    files.meta.truncate(footer_at).await?;
    files.meta.write_at(footer_at, buf).await?;
    files.meta.sync().await?;
    if let Some(data) = &files.data {
        data.truncate(facts.data_end.align_up(BLOCK_BYTES as u64)).await?;
        data.sync().await?;
    }
    Ok(footer_at.get() + bytes.len() as u64)
}

/// Whether the footer can have been under way when the machine stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sealing {
    /// A segment follows, and it is made only after the footer is durable.
    Done,
    /// This is the last segment: a footer that landed in part means that it is not sealed.
    MayBeTorn,
}

/// The footer of a sealed segment; nothing when the segment is not sealed.
pub(super) async fn read_footer<F: IoFile>(
    path: &Path,
    meta: &Rc<F>,
    sealing: Sealing,
) -> Result<Option<Footer>, OpenError> {
    let failed = |error: &std::io::Error| OpenError::io("reading the footer of", path, error);
    let size = meta.size_bytes().await.map_err(|error| failed(&error))?;
    let Some(block_at) = size.checked_sub(BLOCK_BYTES as u64) else {
        return Ok(None);
    };
    let block = meta
        .read_at(FilePos::new(block_at), BLOCK_BYTES)
        .await
        .map_err(|error| failed(&error))?;
    let Some(tail) = FooterTail::check(&block, size) else {
        return Ok(None);
    };
    let bytes =
        usize::try_from(tail.footer_bytes()).map_err(|error| failed(&std::io::Error::other(error)))?;
    let bytes = meta
        .read_at(tail.footer_at(), bytes)
        .await
        .map_err(|error| failed(&error))?;
    match Footer::check(&bytes, tail.salt()) {
        Ok(footer) => Ok(Some(footer)),
        Err(_) if sealing == Sealing::MayBeTorn => Ok(None),
        Err(error) => Err(OpenError::new(format!("{}: {error}", path.display()))),
    }
}

pub(super) fn meta_path(dir: &Path, base: EventId) -> PathBuf {
    dir.join(format!("{:020}.meta", base.get()))
}

pub(super) fn data_path(dir: &Path, base: EventId) -> PathBuf {
    dir.join(format!("{:020}.data", base.get()))
}

pub(super) fn base_of(name: &str) -> Option<EventId> {
    let digits = name.strip_suffix(".meta")?;
    let all_digits = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    all_digits
        .then(|| digits.parse().ok().map(EventId::new))
        .flatten()
}
