//! Holds the data of batches against their checksums.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use mofka_log::{
    BLOCK_BYTES, BadPiece, Batch, DataCheck, EventId, FilePos, FramePlace, MetaScan, PIECE_BYTES, SeenFrame,
};

use super::source::Ranges;

/// Frames that go to the thread which reads their data together, by bytes and by number.
const GROUP_BYTES: u64 = 1 << 20;
const GROUP_FRAMES: usize = 1024;

/// A batch whose data is bad.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BadBatch {
    pub(super) base: EventId,
    pub(super) end: EventId,
    /// The first event whose data is bad, and the first byte of the piece of it.
    pub(super) event: EventId,
    pub(super) byte_of_event: u64,
    pub(super) data_at: FilePos,
    /// The data file ends before it, or is not there.
    pub(super) missing: bool,
    /// Where the frame before it ends, and that one's data.
    pub(super) meta_end_before: FilePos,
    pub(super) data_end_before: FilePos,
}

/// What was found out about a segment's data.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct DataFound {
    pub(super) first_bad: Option<BadBatch>,
    pub(super) bad_batches: u64,
    /// Bytes of data that were held against a checksum.
    pub(super) checked_bytes: u64,
}

/// A frame of the chain, and where the one before it ended.
struct Shown {
    batch: Batch,
    meta_end_before: FilePos,
    data_end_before: FilePos,
}

/// Takes the frames of a scan, for a thread that reads their data meanwhile.
pub(super) struct Check {
    group: Vec<Shown>,
    group_bytes: u64,
    meta_end: FilePos,
    data_end: FilePos,
    give: SyncSender<Vec<Shown>>,
}

impl Check {
    pub(super) fn show(&mut self, seen: &SeenFrame<'_>) {
        if seen.place != FramePlace::Chain {
            return;
        }
        let batch = seen.batch;
        if batch.data_bytes() > 0 {
            self.group.push(Shown {
                batch: batch.clone(),
                meta_end_before: self.meta_end,
                data_end_before: self.data_end,
            });
            self.group_bytes += batch.frame_bytes();
            self.data_end = FilePos::new(batch.data_at().get() + batch.data_bytes());
        }
        self.meta_end = FilePos::new(seen.meta_at.get() + batch.frame_bytes());
        if self.group_bytes >= GROUP_BYTES || self.group.len() >= GROUP_FRAMES {
            self.flush();
        }
    }

    fn flush(&mut self) {
        self.group_bytes = 0;
        // It went away only when it could not read, which it tells itself.
        self.give.send(std::mem::take(&mut self.group)).ok();
    }
}

/// Checks the data of all frames that `scan` shows, while it goes on.
pub(super) fn check_all(
    ranges: Option<Ranges>,
    scan: impl FnOnce(&mut Check) -> io::Result<()>,
) -> io::Result<DataFound> {
    let (give, take) = sync_channel(2);
    let first = FilePos::new(BLOCK_BYTES as u64);
    let mut check = Check {
        group: Vec::new(),
        group_bytes: 0,
        meta_end: first,
        data_end: first,
        give,
    };
    std::thread::scope(|scope| {
        let checking = scope.spawn(move || check_shown(ranges, &take));
        let scanned = scan(&mut check);
        check.flush();
        drop(check);
        let found = checking
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the thread that checks data ended early")));
        scanned.and(found)
    })
}

fn check_shown(mut ranges: Option<Ranges>, take: &Receiver<Vec<Shown>>) -> io::Result<DataFound> {
    let mut found = DataFound::default();
    let mut outcome = Ok(());
    for shown in take.iter().flatten() {
        // After an error the rest is taken and dropped, so that nobody waits.
        if outcome.is_ok() {
            outcome = check_one(&mut found, ranges.as_mut(), &shown);
        }
    }
    outcome.map(|()| found)
}

/// The data of the frames that nothing vouches for, as recovery looks at it.
pub(super) fn check_unvouched(mut ranges: Option<Ranges>, scan: &MetaScan) -> io::Result<DataFound> {
    let mut found = DataFound::default();
    for frame in scan.unvouched().filter(|frame| frame.data_bytes() > 0) {
        let shown = Shown {
            batch: frame.batch.clone(),
            meta_end_before: frame.meta_at,
            data_end_before: frame.data_at(),
        };
        check_one(&mut found, ranges.as_mut(), &shown)?;
    }
    Ok(found)
}

fn check_one(found: &mut DataFound, ranges: Option<&mut Ranges>, shown: &Shown) -> io::Result<()> {
    let batch = &shown.batch;
    let mut seen_bytes = 0;
    let outcome = match ranges {
        Some(ranges) => check_data(batch, ranges, &mut |part| seen_bytes += part.len() as u64)?,
        None => DataCheck::new(batch).finish(),
    };
    found.checked_bytes += seen_bytes;
    let Err(bad) = outcome else { return Ok(()) };
    found.bad_batches += 1;
    if found.first_bad.is_none() {
        let base = batch.base_event_id();
        found.first_bad = Some(BadBatch {
            base,
            end: batch.end_event_id(),
            event: base.checked_add(bad.index.into()).unwrap_or(base),
            byte_of_event: bad.piece * PIECE_BYTES as u64,
            data_at: batch.data_at(),
            missing: seen_bytes < batch.data_bytes() && ends_early(batch, seen_bytes, &bad),
            meta_end_before: shown.meta_end_before,
            data_end_before: shown.data_end_before,
        });
    }
    Ok(())
}

/// Whether the bad piece is one that was not seen as a whole.
fn ends_early(batch: &Batch, seen_bytes: u64, bad: &BadPiece) -> bool {
    let event = batch.event(bad.index);
    event.is_none_or(|event| {
        let start = event.data_offset + bad.piece * PIECE_BYTES as u64;
        let piece_bytes =
            (event.data_bytes.saturating_sub(bad.piece * PIECE_BYTES as u64)).min(PIECE_BYTES as u64);
        seen_bytes < start + piece_bytes
    })
}

/// Reads the data of a batch and holds it against its checksums; `also` sees it first.
pub(super) fn check_data(
    batch: &Batch,
    ranges: &mut Ranges,
    also: &mut dyn FnMut(&[u8]),
) -> io::Result<Result<(), BadPiece>> {
    let mut check = DataCheck::new(batch);
    let outcome = ranges.read(batch.data_at().get(), batch.data_bytes(), u64::MAX, &mut |part| {
        also(part);
        check.feed(part)
    })?;
    Ok(outcome.and_then(|()| check.finish()))
}
