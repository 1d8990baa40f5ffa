//! Writes a file of records anew: cursors, a catalog.

use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use mofka_log::{
    Appender, AppenderConfig, Batch, BatchBuilder, Commit, EventId, SegmentFacts, SegmentHeader, SegmentKind,
};
use uuid::Uuid;

use super::durable::{create_new, now_us, random_u64, sync_name};

/// Bytes of records in one batch.
const BATCH_BYTES: u64 = 1 << 20;

const CONFIG: AppenderConfig = AppenderConfig {
    commits_in_flight_max: 1,
    commit_bytes_max: 4 << 20,
    pipeline_bytes_min: 0,
    meta_pipeline_bytes_min: 0,
    segment_meta_bytes: u64::MAX,
    segment_data_bytes: u64::MAX,
};

/// Replaces `path` by a file that holds just these records, as the daemon does when such a file has grown: it is written
/// beside and renamed over, so that a crash leaves the old file or the new one.
///
/// # Errors
/// What could not be written.
pub(super) fn replace(path: &Path, kind: SegmentKind, owner: Uuid, records: &[Vec<u8>]) -> io::Result<()> {
    let beside = path.with_extension("new");
    if beside.exists() {
        std::fs::remove_file(&beside)?;
    }
    write(&beside, kind, owner, records)?;
    std::fs::rename(&beside, path)?;
    sync_name(path)
}

/// Writes a new file of records, durable when this returns; its name is not.
fn write(path: &Path, kind: SegmentKind, owner: Uuid, records: &[Vec<u8>]) -> io::Result<()> {
    let (base, salt, incarnation) = (EventId::new(0), random_u64(), 1);
    let header = SegmentHeader::new(kind, owner, base, salt, now_us(), incarnation);
    let file = create_new(path)?;
    file.write_all_at(&header.to_block(), 0)?;
    let facts = SegmentFacts {
        salt,
        base_event_id: base,
        incarnation,
    };
    let mut appender = Appender::new(CONFIG, facts);
    let put = |appender: &mut Appender, commit: &Commit| {
        if let Some(plan) = &commit.meta {
            let bytes = usize::try_from(plan.total_bytes()).map_err(io::Error::other)?;
            let mut buffer = vec![0; bytes];
            plan.fill(&mut buffer);
            file.write_all_at(&buffer, plan.at().get())?;
        }
        file.sync_data()?;
        appender.written(commit.id);
        appender.synced(commit.id);
        io::Result::Ok(())
    };
    for batch in batches(records)? {
        appender.accept(batch, now_us());
        while let Some(commit) = appender.plan() {
            put(&mut appender, &commit)?;
        }
    }
    // A witness for the last record.
    if let Some(commit) = appender.plan_mark(true, now_us()) {
        put(&mut appender, &commit)?;
    }
    file.sync_all()
}

fn batches(records: &[Vec<u8>]) -> io::Result<Vec<Batch>> {
    let mut batches = Vec::new();
    let mut builder = BatchBuilder::new();
    let mut finish = |builder: BatchBuilder| {
        if !builder.is_empty() {
            let (frame, data) = builder.finish(None);
            batches.push(Batch::check_client(frame, data).map_err(io::Error::other)?);
        }
        io::Result::Ok(())
    };
    for record in records {
        if builder.bytes() >= BATCH_BYTES {
            finish(std::mem::take(&mut builder))?;
        }
        let no_data = std::iter::empty::<&[u8]>();
        builder.push(record, no_data).map_err(io::Error::other)?;
    }
    finish(builder)?;
    Ok(batches)
}

#[cfg(test)]
mod tests {
    use indicatif::ProgressBar;
    use mofka_log::{CursorRecord, Verdict};

    use super::*;
    use crate::commands::log::records;

    #[test]
    fn what_was_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cursors");
        std::fs::write(dir.path().join("cursors.new"), "left from a crash").unwrap();
        let owner = Uuid::from_u128(7);
        let cursor = |n: u64| CursorRecord {
            name: format!("{n:0200}"),
            next_event_id: EventId::new(n),
            timestamp_us: n,
            removed: false,
        };
        for count in [0, 1, 20_000] {
            let encoded: Vec<Vec<u8>> = (0..count).map(|n| cursor(n).encode()).collect();
            replace(&path, SegmentKind::Cursors, owner, &encoded).unwrap();
            let (found, table) = records::cursors(&path, Some(owner), &ProgressBar::hidden()).unwrap();
            assert_eq!((found.verdict, found.problems), (Verdict::CleanStop, Vec::new()));
            assert_eq!(table.len() as u64, count);
            assert!(table.iter().zip(0..).all(|((_, next), n)| next.get() == n));
        }
        assert!(!dir.path().join("cursors.new").exists());
    }
}
