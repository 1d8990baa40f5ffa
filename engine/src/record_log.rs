//! A durable list of small records in one file: the node's catalog, and each partition's cursors.
//!
//! It is a meta file like any other (same frames, same recovery), in which every event's metadata is one record. When
//! the file has grown far beyond what a snapshot of the state would take, it is rewritten beside and renamed over.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use mofka_log::{
    AckAt, Appender, AppenderConfig, BLOCK_BYTES, Batch, BatchBuilder, BatchError, EventId, FilePos, Reach,
    SegmentFacts, SegmentHeader, SegmentKind, Verdict,
};
use uuid::Uuid;

use crate::commit::{Committer, Done, Files, Poison};
use crate::io::{Io, IoFile, Pace};
use crate::recover::{self, OpenError};
use crate::room::{Need, NoRoom, Room};

/// Where a record log lives and what it is.
#[derive(Clone)]
pub(crate) struct RecordLogSpec {
    pub(crate) path: PathBuf,
    pub(crate) kind: SegmentKind,
    /// The node or the partition that the records belong to: a file of another one is refused.
    pub(crate) owner: Uuid,
    /// A rewrite is considered from this size on.
    pub(crate) rewrite_bytes: u64,
}

/// See the module.
pub(crate) struct RecordLog<I: Io> {
    io: I,
    spec: RecordLogSpec,
    file: RefCell<LogFile<I>>,
}

/// The file that records go to.
struct LogFile<I: Io> {
    committer: Rc<Committer<I>>,
    room: Rc<Room<I>>,
}

impl<I: Io> Clone for LogFile<I> {
    fn clone(&self) -> Self {
        Self {
            committer: Rc::clone(&self.committer),
            room: Rc::clone(&self.room),
        }
    }
}

impl<I: Io> LogFile<I> {
    /// A file that ends at `end`: what has room there already.
    fn new(io: &I, committer: Rc<Committer<I>>, end: FilePos) -> Self {
        let ends = |meta| Reach { meta, data: meta };
        let room = Room::new(
            io.clone(),
            Rc::clone(&committer),
            ends(end),
            ends(FilePos::new(FILE_BYTES_MAX)),
        );
        Self { committer, room }
    }

    /// Writes a mark behind what is durable, where there is room.
    async fn mark(&self, clean: bool) {
        if self.room.has_room_for_mark() {
            self.committer.mark(clean).await;
        }
    }
}

/// Rewritten long before.
const FILE_BYTES_MAX: u64 = 1 << 40;

/// What one batch of a snapshot holds.
const SNAPSHOT_BATCH_BYTES_MAX: usize = 4 << 20;
const SNAPSHOT_BATCH_RECORDS_MAX: usize = 1 << 16;

const CONFIG: AppenderConfig = AppenderConfig {
    commits_in_flight_max: 1,
    commit_bytes_max: 1 << 20,
    pipeline_bytes_min: 0,
    meta_pipeline_bytes_min: 0,
    // Rewritten long before: a record log never rolls.
    segment_meta_bytes: u64::MAX,
    segment_data_bytes: u64::MAX,
};

impl<I: Io> RecordLog<I> {
    /// Opens the log, creating it when absent, and calls `apply` on every record in order.
    ///
    /// # Errors
    /// When the file cannot be read, belongs to something else, or is damaged: records that were durable are gone,
    /// and going on without them would be going back in time.
    pub(crate) async fn open(
        io: I,
        spec: RecordLogSpec,
        mut apply: impl FnMut(&[u8]) -> Result<(), String>,
    ) -> Result<Self, OpenError> {
        let file = match io.open(&spec.path).await {
            Ok(file) => Some(Rc::new(file)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(OpenError::io("opening", &spec.path, &error)),
        };
        let file = match file {
            None => Self::create(&io, &spec, &spec.path, EventId::new(0), Vec::new()).await?,
            Some(file) => {
                // The name that a killed process left need not be durable.
                let directory = spec.path.parent().unwrap_or(Path::new("."));
                io.sync_dir(directory)
                    .await
                    .map_err(|error| OpenError::io("syncing the directory of", &spec.path, &error))?;
                let mut bad = None;
                let mut visit = |batch: &Batch| {
                    if batch.data_bytes() > 0 && bad.is_none() {
                        let (from, to) = (batch.base_event_id(), batch.end_event_id());
                        bad = Some(format!("events {from} to {to} have data, and records have none"));
                    }
                    for event in batch.events() {
                        if let Err(reason) = apply(event.metadata)
                            && bad.is_none()
                        {
                            bad = Some(reason);
                        }
                    }
                };
                let opened =
                    recover::meta_file(&spec.path, &file, None, recover::Known::default(), &mut visit)
                        .await?;
                if let Some(reason) = bad {
                    return Err(OpenError::new(format!("{}: {reason}", spec.path.display())));
                }
                match opened {
                    // Never finished being created, so nothing was ever acknowledged from it.
                    recover::Opened::NeverUsed => {
                        Self::create(&io, &spec, &spec.path, EventId::new(0), Vec::new()).await?
                    }
                    recover::Opened::Segment(segment) => {
                        segment
                            .header
                            .expect(spec.kind, spec.owner)
                            .map_err(|error| OpenError::new(format!("{}: {error}", spec.path.display())))?;
                        let base = segment.header.base_event_id();
                        if base != EventId::new(0) {
                            return Err(OpenError::new(format!(
                                "{}: the file begins at record {base}, and every file of records begins at 0",
                                spec.path.display()
                            )));
                        }
                        if let Verdict::Damaged { .. } = segment.recovered.verdict {
                            return Err(OpenError::new(format!(
                                "{}: {}",
                                spec.path.display(),
                                segment.recovered.verdict.prose()
                            )));
                        }
                        if let Verdict::TornTail { .. } = segment.recovered.verdict {
                            let verdict = segment.recovered.verdict.prose();
                            tracing::warn!(path = %spec.path.display(), verdict, "the end of a file of records was cut");
                        }
                        let appender =
                            recover::resume(&io, &segment, CONFIG, &spec.path, &file, None).await?;
                        let size = file.size_bytes().await;
                        let size = size.map_err(|error| OpenError::io("reading", &spec.path, &error))?;
                        let files = Files {
                            meta: file,
                            data: None,
                        };
                        let committer = Committer::new(io.clone(), appender, files);
                        let end = FilePos::new(size).align_down(BLOCK_BYTES as u64);
                        LogFile::new(&io, committer, end)
                    }
                }
            }
        };
        Ok(Self {
            io,
            spec,
            file: RefCell::new(file),
        })
    }

    /// Writes a new file at `path` with `records` in it, durable with its name when this returns.
    async fn create(
        io: &I,
        spec: &RecordLogSpec,
        path: &Path,
        base: EventId,
        records: Vec<Vec<u8>>,
    ) -> Result<LogFile<I>, OpenError> {
        let directory = path.parent().unwrap_or(Path::new("."));
        let failed = |what: &str, error: &std::io::Error| OpenError::io(what, path, error);
        let file = Rc::new(
            io.create(path)
                .await
                .map_err(|error| failed("creating", &error))?,
        );
        let facts = SegmentFacts {
            salt: io.random_u64(),
            base_event_id: base,
            incarnation: 1,
        };
        let appender = Appender::new(CONFIG, facts);
        let batches = batches_of(&records).map_err(|error| too_large(path, &error))?;
        drop(records);
        let frame_bytes = batches.iter().map(Batch::frame_bytes).sum();
        let reach = appender.reach_with(frame_bytes, 0).meta;
        // Each batch may leave a block that is not full.
        let reach = FilePos::new(reach.get() + (batches.len() * BLOCK_BYTES) as u64);
        let end = reach.max(Room::<I>::first().meta);
        file.reserve(FilePos::new(0), end, Pace::Hurried)
            .await
            .map_err(|error| failed("making room in", &error))?;
        let salt = facts.salt;
        let header = SegmentHeader::new(spec.kind, spec.owner, base, salt, io.now_us(), 1);
        recover::write_first_block(io, &file, &header)
            .await
            .map_err(|error| failed("writing", &error))?;
        let committer = Committer::new(
            io.clone(),
            appender,
            Files {
                meta: Rc::clone(&file),
                data: None,
            },
        );
        if !batches.is_empty() {
            for batch in batches {
                committer.accept(batch, AckAt::Synced, Box::new(|_| ()));
            }
            committer.drain().await;
            if let Some(poison) = committer.poison() {
                return Err(OpenError::new(format!("{}: {}", path.display(), poison.reason)));
            }
        }
        io.sync_dir(directory)
            .await
            .map_err(|error| failed("syncing the directory of", &error))?;
        Ok(LogFile::new(io, committer, end))
    }

    /// Appends records as one batch: all or none survive. `done` is called when they are durable, or when there is no
    /// room for them, or they are more than a batch holds: then nothing changed.
    pub(crate) fn append(&self, records: &[Vec<u8>], done: Done) {
        let LogFile { committer, room } = self.file.borrow().clone();
        let batch = match batch_of(records) {
            Ok(batch) => batch,
            Err(error) => {
                let reason = too_large(&self.spec.path, &error).to_string();
                return done(Err(Rc::new(Poison { reason, passes: true })));
            }
        };
        let need = Need {
            frame_bytes: batch.frame_bytes(),
            data_bytes: 0,
        };
        let entered = Rc::clone(&committer);
        let enter = move |outcome: Result<(), NoRoom>| match (outcome, entered.poison()) {
            (Err(no_room), _) => done(Err(refusal(no_room))),
            (Ok(()), Some(poison)) => done(Err(poison)),
            (Ok(()), None) => {
                entered.accept(batch, AckAt::Synced, done);
            }
        };
        room.enter(need, Box::new(enter));
        committer.kick();
    }

    /// Calls `done` when everything appended so far is durable, or when there was no room: then not all of it is.
    pub(crate) fn barrier(&self, done: Done) {
        let LogFile { committer, room } = self.file.borrow().clone();
        let enter = move |outcome: Result<(), NoRoom>| match outcome {
            // What was refused with it may be known already to whoever asks, and will not be durable.
            Err(no_room) => done(Err(refusal(no_room))),
            Ok(()) => {
                let end = committer.ends().appended_end;
                committer.wait_for(end, AckAt::Synced, done);
            }
        };
        room.enter(Need::default(), Box::new(enter));
    }

    /// Writes a mark behind what is durable, where there is room: so that damage to the last records is not taken for a tail that was
    /// being written.
    pub(crate) async fn witness(&self) {
        let file = self.file.borrow().clone();
        file.mark(false).await;
    }

    /// Where the file is.
    pub(crate) fn directory(&self) -> &Path {
        self.spec.path.parent().unwrap_or(Path::new("."))
    }

    /// Whether the file has outgrown its use and nothing is under way, so that [`RecordLog::rewrite`] pays.
    pub(crate) fn wants_rewrite(&self, snapshot_bytes: u64) -> bool {
        let bytes = self
            .file
            .borrow()
            .committer
            .with_appender(|appender| appender.meta_end().get());
        bytes > self.spec.rewrite_bytes && bytes / 4 > snapshot_bytes
    }

    /// Replaces the file by one that holds just `records`. The caller appends nothing meanwhile.
    ///
    /// # Errors
    /// When the new file cannot be written; the old one then goes on being used, unless it is no longer known which of
    /// the two has the name: then the log is poisoned.
    pub(crate) async fn rewrite(&self, records: Vec<Vec<u8>>) -> Result<(), OpenError> {
        let LogFile { committer: old, room } = self.file.borrow().clone();
        room.settle().await;
        drop(room);
        old.drain().await;
        let beside = self.spec.path.with_extension("new");
        let new = Self::create(&self.io, &self.spec, &beside, EventId::new(0), records).await?;
        let failed = |what: &str, error: &std::io::Error| OpenError::io(what, &beside, error);
        self.io
            .rename(&beside, &self.spec.path)
            .await
            .map_err(|error| failed("renaming", &error))?;
        if let Err(error) = self.io.sync_dir(self.directory()).await {
            let error = failed("syncing the directory of", &error);
            // The old file has no name any more: what it would take now nobody would find.
            old.fail(error.to_string());
            return Err(error);
        }
        *self.file.borrow_mut() = new;
        Ok(())
    }

    /// Finishes what was appended and writes the clean mark.
    pub(crate) async fn stop(&self) {
        let file = self.file.borrow().clone();
        let LogFile { committer, room } = &file;
        room.settle().await;
        committer.drain().await;
        file.mark(true).await;
        if let Err(error) = room.give_back().await {
            tracing::warn!(path = %self.spec.path.display(), %error, "space ahead could not be given back");
        }
    }

    /// Why appending is refused, if it is.
    pub(crate) fn poison(&self) -> Option<String> {
        self.file
            .borrow()
            .committer
            .poison()
            .map(|poison| poison.reason.clone())
    }
}

fn too_large(path: &Path, error: &BatchError) -> OpenError {
    OpenError::new(format!("{}: records of one change: {error}", path.display()))
}

/// There was no room, which passes.
fn refusal(no_room: NoRoom) -> Rc<Poison> {
    Rc::new(Poison {
        reason: no_room.reason,
        passes: true,
    })
}

/// # Errors
/// When a batch cannot hold them.
fn batch_of(records: &[Vec<u8>]) -> Result<Batch, BatchError> {
    assert!(!records.is_empty(), "a batch has at least one event");
    let mut builder = BatchBuilder::new();
    for record in records {
        builder.push(record, std::iter::empty::<&[u8]>())?;
    }
    let (frame, data) = builder.finish(None);
    Ok(Batch::check_client(frame, data).expect("what the builder made checks"))
}

/// The same in as many batches as it takes.
fn batches_of(records: &[Vec<u8>]) -> Result<Vec<Batch>, BatchError> {
    let (mut batches, mut rest) = (Vec::new(), records);
    while !rest.is_empty() {
        let mut bytes = 0;
        let fitting = rest.iter().take(SNAPSHOT_BATCH_RECORDS_MAX).take_while(|record| {
            bytes += record.len();
            bytes <= SNAPSHOT_BATCH_BYTES_MAX
        });
        // One that is larger is a batch of its own.
        let (batch, more) = rest.split_at(fitting.count().max(1));
        batches.push(batch_of(batch)?);
        rest = more;
    }
    Ok(batches)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::{Image, SimIo};

    fn spec() -> RecordLogSpec {
        RecordLogSpec {
            path: PathBuf::from("/d/records"),
            kind: SegmentKind::Catalog,
            owner: Uuid::from_u128(7),
            rewrite_bytes: 0,
        }
    }

    async fn read(io: SimIo) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        let log = RecordLog::open(io, spec(), |record| {
            found.push(record.to_vec());
            Ok(())
        });
        log.await.map(|_| ()).unwrap();
        found
    }

    /// Records of `bytes` bytes each.
    fn records(count: usize, bytes: usize) -> Vec<Vec<u8>> {
        let record = |n: usize| {
            let mut record = n.to_string().into_bytes();
            record.resize(bytes, b' ');
            record
        };
        (0..count).map(record).collect()
    }

    #[test]
    fn a_snapshot_of_any_size_is_rewritten() {
        // More than a batch holds; records that fill one; more records than go into one.
        let large = SNAPSHOT_BATCH_BYTES_MAX + 1;
        for (count, bytes) in [(17, large), (9, SNAPSHOT_BATCH_BYTES_MAX / 2), (70_000, 8)] {
            let io = SimIo::immediate(&Image::new());
            let all = records(count, bytes);
            let (own, written) = (io.clone(), all.clone());
            let more = io.block_on(async move {
                let log = RecordLog::open(own, spec(), |_| Ok(())).await.unwrap();
                log.rewrite(written).await.unwrap();
                let (keep, kept) = crate::promise::promise();
                log.append(&[b"more".to_vec()], Box::new(keep));
                let stored: Result<(), Rc<Poison>> = kept.await;
                log.stop().await;
                stored.is_ok()
            });
            assert!(more);
            let found = io.block_on(read(io.clone()));
            assert!(found.len() == count + 1 && found[..count] == all);
            io.shut_down();
        }
    }

    #[test]
    fn what_no_batch_holds_is_refused() {
        let io = SimIo::immediate(&Image::new());
        let own = io.clone();
        let stored = io.block_on(async move {
            let log = RecordLog::open(own, spec(), |_| Ok(())).await.unwrap();
            let (keep, kept) = crate::promise::promise();
            log.append(&records(5, 16 << 20), Box::new(keep));
            let stored: Result<(), Rc<Poison>> = kept.await;
            assert!(log.poison().is_none());
            stored
        });
        assert!(stored.unwrap_err().reason.contains("metadata_bytes"));
        io.shut_down();
    }
}
