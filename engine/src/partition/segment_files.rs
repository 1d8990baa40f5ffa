//! The two files of one segment: their names, making them, sealing them, reading their footer.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use mofka_log::{
    BLOCK_BYTES, EVENT_ID_END, EventId, FilePos, Footer, FooterFacts, FooterTail, Reach, SegmentFacts,
    SegmentHeader, SegmentHeaderError, SegmentKind,
};
use uuid::Uuid;

use crate::commit::Files;
use crate::io::{FileWrite, Io, IoFile, Pace, Then, WritePart, write_one};
use crate::recover::OpenError;
use crate::room::{RollError, is_full};

/// Names of files that are being made ready: not those of a segment, so that nobody takes them for one.
const NEXT_META: &str = "next.meta";
const NEXT_DATA: &str = "next.data";
/// The data file of a segment that is gone, kept to be used again.
const FREE_DATA: &str = "free-0.data";

/// Data of events that are not whole yet.
const INCOMING_PREFIX: &str = "incoming-";

/// The files of a segment that is not begun.
pub(super) struct NextFiles<F> {
    meta: Rc<F>,
    data: Rc<F>,
    reserved: Reach,
}

/// What part of a sealed data file may lie beyond its content.
const SLACK_DIVISOR: u64 = 128;

/// How far a data file is made longer at a time.
const GROW_BYTES: u64 = 16 << 20;

impl<F: IoFile> NextFiles<F> {
    /// Ends of the files.
    pub(super) fn reserved(&self) -> Reach {
        self.reserved
    }

    /// Makes the data file a little longer, at most to `end`.
    pub(super) async fn grow_data(&mut self, dir: &Path, end: FilePos) -> Result<(), RollError> {
        let from = self.reserved.data;
        let to = FilePos::new(from.get() + GROW_BYTES).min(end);
        reserve(&self.data, &dir.join(NEXT_DATA), from, to, Pace::Gentle).await?;
        self.reserved.data = to;
        Ok(())
    }
}

/// Makes the files of the next segment, with room for so much. `free`: the data file of a segment that is gone, to be used
/// again; it has its blocks already. Not durable: a crash leaves nothing that counts.
pub(super) async fn prepare<I: Io>(
    io: &I,
    dir: &Path,
    room: Reach,
    free: Option<PathBuf>,
    pace: Pace,
) -> Result<NextFiles<I::File>, RollError> {
    let data_path = dir.join(NEXT_DATA);
    let free = match free {
        Some(free) => reuse(io, &free, &data_path).await?,
        None => None,
    };
    let (data, has_end) = match free {
        Some(found) => found,
        None => (create(io, &data_path).await?, FilePos::new(0)),
    };
    let meta_path = dir.join(NEXT_META);
    let meta = create(io, &meta_path).await?;
    reserve(&data, &data_path, has_end, room.data, pace).await?;
    reserve(&meta, &meta_path, FilePos::new(0), room.meta, pace).await?;
    Ok(NextFiles {
        meta,
        data,
        reserved: Reach {
            meta: room.meta,
            data: room.data.max(has_end),
        },
    })
}

/// The data file of a segment that is gone, under this name, and where it ends. Nothing when it is not there: two renames to and from
/// its name may have happened in the other order, and nobody waits for either.
async fn reuse<I: Io>(io: &I, free: &Path, path: &Path) -> Result<Option<(Rc<I::File>, FilePos)>, RollError> {
    match io.rename(free, path).await {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        renamed => renamed.map_err(|error| roll_error("renaming", free, &error))?,
    }
    let file = io.open(path).await;
    let file = Rc::new(file.map_err(|error| roll_error("opening", path, &error))?);
    let size = file.size_bytes().await;
    let size = size.map_err(|error| roll_error("opening", path, &error))?;
    Ok(Some((file, FilePos::new(size).align_down(BLOCK_BYTES as u64))))
}

async fn create<I: Io>(io: &I, path: &Path) -> Result<Rc<I::File>, RollError> {
    let created = io.create(path).await;
    created
        .map(Rc::new)
        .map_err(|error| roll_error("creating", path, &error))
}

async fn reserve<F: IoFile>(
    file: &Rc<F>,
    path: &Path,
    from: FilePos,
    end: FilePos,
    pace: Pace,
) -> Result<(), RollError> {
    if from >= end {
        return Ok(());
    }
    let reserved = file.reserve(from, end, pace).await;
    reserved.map_err(|error| roll_error("making room in", path, &error))
}

fn roll_error(what: &str, path: &Path, error: &std::io::Error) -> RollError {
    let message = format!("{what} {}: {error}", path.display());
    if is_full(error) {
        RollError::NoRoom(message)
    } else {
        RollError::Failed(message)
    }
}

/// A segment that was begun.
pub(super) struct Begun<F> {
    pub(super) files: Files<F>,
    pub(super) facts: SegmentFacts,
    pub(super) reserved: Reach,
}

/// Gives the files their headers and their names, durable when this returns. From then on the header testifies that
/// everything before `base` was durable.
pub(super) async fn begin<I: Io>(
    io: &I,
    dir: &Path,
    partition: Uuid,
    next: NextFiles<I::File>,
    base: EventId,
    incarnation: u32,
) -> Result<Begun<I::File>, RollError> {
    let salt = io.random_u64();
    let meta_path = meta_path(dir, base);
    let mut writes = Vec::new();
    for (file, kind) in [(&next.meta, SegmentKind::Meta), (&next.data, SegmentKind::Data)] {
        let header = SegmentHeader::new(kind, partition, base, salt, io.now_us(), incarnation);
        let mut block = io.alloc(BLOCK_BYTES);
        block.as_mut().copy_from_slice(&header.to_block());
        writes.push(FileWrite {
            file: Rc::clone(file),
            at: FilePos::new(0),
            parts: vec![WritePart::Own(block)],
        });
    }
    let written = io.write(writes, Then::Sync).await;
    written.map_err(|error| roll_error("beginning", &meta_path, &error.source))?;
    for (from, to) in [
        (dir.join(NEXT_DATA), data_path(dir, base)),
        (dir.join(NEXT_META), meta_path.clone()),
    ] {
        let renamed = io.rename(&from, &to).await;
        renamed.map_err(|error| roll_error("renaming", &to, &error))?;
    }
    let synced = io.sync_dir(dir).await;
    synced.map_err(|error| roll_error("syncing the directory of", &meta_path, &error))?;
    Ok(Begun {
        files: Files {
            meta: next.meta,
            data: Some(next.data),
        },
        facts: SegmentFacts {
            salt,
            base_event_id: base,
            incarnation,
        },
        reserved: next.reserved,
    })
}

/// The name of a data file that is kept for the next segment.
pub(super) fn free_path(dir: &Path) -> PathBuf {
    dir.join(FREE_DATA)
}

/// The name of the file for an event's data that comes in parts.
pub(super) fn incoming_path(dir: &Path, stream: u64) -> PathBuf {
    dir.join(format!("{INCOMING_PREFIX}{stream:016x}.data"))
}

/// Removes what a crash left of files that were being made ready, of events that were not whole, and a file that is kept for use.
pub(super) async fn remove_unfinished<I: Io>(io: &I, dir: &Path, names: &[String]) {
    for name in names {
        let is_incoming = name.starts_with(INCOMING_PREFIX);
        if name == NEXT_META || name == NEXT_DATA || name == FREE_DATA || is_incoming {
            let path = dir.join(name);
            if let Err(error) = io.remove(&path).await {
                tracing::warn!(path = %path.display(), %error, "could not be removed; the next start tries again");
            }
        }
    }
}

/// Writes the footer, so that this segment opens by reading its last block, and gives back what the files have beyond
/// their content. Returns the meta file's size.
pub(super) async fn seal<I: Io>(io: &I, files: &Files<I::File>, facts: &FooterFacts) -> std::io::Result<u64> {
    let footer_at = facts.meta_end.align_up(BLOCK_BYTES as u64);
    let bytes = Footer::encode(facts, footer_at);
    let end = FilePos::new(footer_at.get() + bytes.len() as u64);
    let mut buf = io.alloc(bytes.len());
    buf.as_mut().copy_from_slice(&bytes);
    write_one(io, &files.meta, footer_at, buf, Then::Sync).await?;
    // The footer's tail is the last thing in the file. Cut after it is durable: a crash in between leaves a segment that
    // is not sealed, and nothing less.
    files.meta.truncate(end).await?;
    if let Some(data) = &files.data {
        let (end, size) = (
            facts.data_end.align_up(BLOCK_BYTES as u64),
            data.size_bytes().await?,
        );
        // A little is left: whoever uses the file again need not make it longer.
        if size.saturating_sub(end.get()) > end.get() / SLACK_DIVISOR {
            data.truncate(end).await?;
        }
    }
    let files = std::iter::once(&files.meta).chain(&files.data).map(Rc::clone);
    io.sync(files.collect()).await?;
    Ok(end.get())
}

/// The footer of a sealed segment; nothing when the segment is not sealed: a footer that landed in part is none, and what
/// it says is in the frames as well.
pub(super) async fn read_footer<F: IoFile>(path: &Path, meta: &Rc<F>) -> Result<Option<Footer>, OpenError> {
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
        // Its index leads nowhere behind it.
        Ok(footer) if footer.meta_end() <= tail.footer_at() => Ok(Some(footer)),
        Ok(footer) => {
            let frames_end = footer.meta_end();
            tracing::warn!(path = %path.display(), %frames_end, "has no footer that checks: its frames are read instead");
            Ok(None)
        }
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "has no footer that checks: its frames are read instead");
            Ok(None)
        }
    }
}

/// The same, and it is the footer of the segment that the file's name says. A footer alone says where its segment ends and what
/// producers sent: a file with a wrong name would say that of another segment. With it comes the segment's header, or how that is lost.
///
/// # Errors
/// What the machine said, or that the file is that of another segment.
pub(super) async fn own_footer<F: IoFile>(
    path: &Path,
    meta: &Rc<F>,
    partition: Uuid,
    base: EventId,
) -> Result<Option<(Footer, Result<SegmentHeader, SegmentHeaderError>)>, OpenError> {
    let Some(footer) = read_footer(path, meta).await? else {
        return Ok(None);
    };
    if footer.base_event_id() != base {
        return Err(of_another(path, footer.base_event_id()));
    }
    let block = meta.read_at(FilePos::new(0), BLOCK_BYTES).await;
    let block = block.map_err(|error| OpenError::io("reading", path, &error))?;
    let header = SegmentHeader::check(&block);
    match &header {
        Ok(header) => {
            check_header(path, header, partition, base)?;
            if header.salt() != footer.salt() {
                let message = format!("{}: the footer is that of another segment", path.display());
                return Err(OpenError::new(message));
            }
        }
        Err(error @ SegmentHeaderError::Version { .. }) => {
            return Err(OpenError::new(format!("{}: {error}", path.display())));
        }
        // Lost, which whoever reads the segment is told.
        Err(_) => {}
    }
    Ok(Some((footer, header)))
}

/// # Errors
/// That the header is not that of this partition's segment from `base` on.
pub(super) fn check_header(
    path: &Path,
    header: &SegmentHeader,
    partition: Uuid,
    base: EventId,
) -> Result<(), OpenError> {
    let checked = header.expect(SegmentKind::Meta, partition);
    checked.map_err(|error| OpenError::new(format!("{}: {error}", path.display())))?;
    match header.base_event_id() {
        found if found == base => Ok(()),
        found => Err(of_another(path, found)),
    }
}

fn of_another(path: &Path, base: EventId) -> OpenError {
    OpenError::new(format!(
        "{}: the file is the segment from event {base} on and has the name of another",
        path.display()
    ))
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
    let base: u64 = all_digits.then(|| digits.parse().ok()).flatten()?;
    // No segment begins beyond the last id, so such a name is not that of one.
    (base < EVENT_ID_END).then_some(EventId::new(base))
}
