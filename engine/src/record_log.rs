//! A durable list of small records in one file: the node's catalog, and each partition's cursors.
//!
//! It is a meta file like any other (same frames, same recovery), in which every event's metadata is one record. When
//! the file has grown far beyond what a snapshot of the state would take, it is rewritten beside and renamed over.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use mofka_log::{
    AckAt, Appender, AppenderConfig, Batch, BatchBuilder, EventId, SegmentFacts, SegmentHeader, SegmentKind,
    Verdict,
};
use uuid::Uuid;

use crate::commit::{Committer, Done, Files};
use crate::io::{Io, IoFile};
use crate::recover::{self, OpenError};

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
    committer: RefCell<Rc<Committer<I>>>,
}

const CONFIG: AppenderConfig = AppenderConfig {
    commits_in_flight_max: 1,
    commit_bytes_max: 1 << 20,
    pipeline_bytes_min: 0,
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
        let committer = match file {
            None => Self::create(&io, &spec, &spec.path, EventId::new(0), Vec::new()).await?,
            Some(file) => {
                let mut bad = None;
                let mut visit = |batch: &Batch| {
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
                        if let Verdict::Damaged { .. } = segment.recovered.verdict {
                            return Err(OpenError::new(format!(
                                "{}: {}",
                                spec.path.display(),
                                segment.recovered.verdict.prose()
                            )));
                        }
                        let appender =
                            recover::resume(&io, &segment, CONFIG, &spec.path, &file, None).await?;
                        Committer::new(
                            io.clone(),
                            appender,
                            Files {
                                meta: file,
                                data: None,
                            },
                        )
                    }
                }
            }
        };
        Ok(Self {
            io,
            spec,
            committer: RefCell::new(committer),
        })
    }

    /// Writes a new file at `path` with `records` in it, durable with its name when this returns.
    async fn create(
        io: &I,
        spec: &RecordLogSpec,
        path: &Path,
        base: EventId,
        records: Vec<Vec<u8>>,
    ) -> Result<Rc<Committer<I>>, OpenError> {
        let directory = path.parent().unwrap_or(Path::new("."));
        let failed = |what: &str, error: &std::io::Error| OpenError::io(what, path, error);
        let file = Rc::new(
            io.create(path)
                .await
                .map_err(|error| failed("creating", &error))?,
        );
        let salt = io.random_u64();
        let header = SegmentHeader::new(spec.kind, spec.owner, base, salt, io.now_us(), 1);
        recover::write_first_block(io, &file, &header)
            .await
            .map_err(|error| failed("writing", &error))?;
        let facts = SegmentFacts {
            salt,
            base_event_id: base,
            incarnation: 1,
        };
        let committer = Committer::new(
            io.clone(),
            Appender::new(CONFIG, facts),
            Files {
                meta: Rc::clone(&file),
                data: None,
            },
        );
        if !records.is_empty() {
            committer.accept(batch_of(&records), AckAt::Synced, Box::new(|_| ()));
            committer.drain().await;
            if let Some(poison) = committer.poison() {
                return Err(OpenError::new(format!("{}: {}", path.display(), poison.reason)));
            }
        }
        io.sync_dir(directory)
            .await
            .map_err(|error| failed("syncing the directory of", &error))?;
        Ok(committer)
    }

    /// Appends records as one batch: all or none survive. `done` is called when they are durable.
    pub(crate) fn append(&self, records: &[Vec<u8>], done: Done) {
        let committer = self.committer.borrow().clone();
        if let Some(poison) = committer.poison() {
            return done(Err(poison));
        }
        committer.accept(batch_of(records), AckAt::Synced, done);
        committer.kick();
    }

    /// Calls `done` when everything appended so far is durable.
    pub(crate) fn barrier(&self, done: Done) {
        let committer = self.committer.borrow().clone();
        let end = committer.ends().appended_end;
        committer.wait_for(end, AckAt::Synced, done);
    }

    /// Whether the file has outgrown its use and nothing is under way, so that [`RecordLog::rewrite`] pays.
    pub(crate) fn wants_rewrite(&self, snapshot_bytes: u64) -> bool {
        let bytes = self
            .committer
            .borrow()
            .with_appender(|appender| appender.meta_end().get());
        bytes > self.spec.rewrite_bytes && bytes / 4 > snapshot_bytes
    }

    /// Replaces the file by one that holds just `records`. The caller appends nothing meanwhile.
    ///
    /// # Errors
    /// When the new file cannot be written; the old one then goes on being used.
    pub(crate) async fn rewrite(&self, records: Vec<Vec<u8>>) -> Result<(), OpenError> {
        let old = self.committer.borrow().clone();
        old.drain().await;
        let beside = self.spec.path.with_extension("new");
        let committer = Self::create(&self.io, &self.spec, &beside, EventId::new(0), records).await?;
        let failed = |what: &str, error: &std::io::Error| OpenError::io(what, &beside, error);
        self.io
            .rename(&beside, &self.spec.path)
            .await
            .map_err(|error| failed("renaming", &error))?;
        let directory = self.spec.path.parent().unwrap_or(Path::new("."));
        self.io
            .sync_dir(directory)
            .await
            .map_err(|error| failed("syncing the directory of", &error))?;
        *self.committer.borrow_mut() = committer;
        let files = old.files();
        drop(old);
        files.meta.close().await;
        Ok(())
    }

    /// Finishes what was appended and writes the clean mark.
    pub(crate) async fn stop(&self) {
        let committer = self.committer.borrow().clone();
        committer.drain().await;
        committer.mark(true).await;
    }

    /// Why appending is refused, if it is.
    pub(crate) fn poison(&self) -> Option<String> {
        self.committer
            .borrow()
            .poison()
            .map(|poison| poison.reason.clone())
    }
}

fn batch_of(records: &[Vec<u8>]) -> Batch {
    assert!(!records.is_empty(), "a batch has at least one event");
    let mut builder = BatchBuilder::new();
    for record in records {
        builder
            .push(record, std::iter::empty::<&[u8]>())
            .expect("records are bounded far below a batch's limits");
    }
    let (frame, data) = builder.finish(None);
    Batch::check_client(frame, data).expect("what the builder made checks")
}
