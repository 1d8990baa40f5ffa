//! Writes the segments of a partition that is imported.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use mofka_log::{
    Appender, AppenderConfig, BLOCK_BYTES, Batch, Commit, EventId, FilePos, Footer, FooterFacts,
    ProducerTable, SegmentFacts, SegmentHeader, SegmentKind, SparseIndex, WritePlan,
};
use uuid::Uuid;

use super::super::durable::{create_new, now_us, random_u64};

/// As the daemon has them when nothing else is configured.
const SEGMENT_META_BYTES: u64 = 64 << 20;
const SEGMENT_DATA_BYTES: u64 = 256 << 20;
/// Bytes that are gathered before they are written.
const GATHER_BYTES: u64 = 4 << 20;

/// The segment that is written.
struct Open {
    meta_path: PathBuf,
    meta: File,
    data: File,
    facts: SegmentFacts,
    appender: Appender,
    index: SparseIndex,
}

/// The data of a batch that is never in memory as a whole: it is written where it will stay, at the beginning of a segment's data
/// file.
pub(in super::super) struct WrittenData {
    file: File,
    end: FilePos,
}

impl WrittenData {
    /// Writes the next bytes.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, self.end.get())?;
        self.end = FilePos::new(self.end.get() + bytes.len() as u64);
        Ok(())
    }

    /// What is in the last block, which is filled up with zeros.
    fn tail(&self) -> io::Result<Vec<u8>> {
        let block = self.end.align_down(BLOCK_BYTES as u64);
        self.file.set_len(self.end.align_up(BLOCK_BYTES as u64).get())?;
        let bytes = usize::try_from(self.end.get() - block.get()).map_err(io::Error::other)?;
        let mut tail = vec![0; bytes];
        self.file.read_exact_at(&mut tail, block.get())?;
        Ok(tail)
    }
}

/// See the module. Nothing is durable before [`SegmentWriter::finish`].
pub(in super::super) struct SegmentWriter {
    dir: PathBuf,
    partition: Uuid,
    config: AppenderConfig,
    producers: ProducerTable,
    open: Option<Open>,
    next: EventId,
}

impl SegmentWriter {
    /// Begins with this event.
    pub(super) fn new(dir: &Path, partition: Uuid, base: EventId) -> Self {
        Self::with_bounds(dir, partition, base, SEGMENT_META_BYTES, SEGMENT_DATA_BYTES)
    }

    /// The same, with other bounds of a segment.
    pub(in super::super) fn with_bounds(
        dir: &Path,
        partition: Uuid,
        base: EventId,
        segment_meta_bytes: u64,
        segment_data_bytes: u64,
    ) -> Self {
        Self {
            dir: dir.to_path_buf(),
            partition,
            config: AppenderConfig {
                commits_in_flight_max: 1,
                commit_bytes_max: GATHER_BYTES.min(segment_data_bytes),
                pipeline_bytes_min: 0,
                meta_pipeline_bytes_min: 0,
                segment_meta_bytes,
                segment_data_bytes,
            },
            producers: ProducerTable::default(),
            open: None,
            next: base,
        }
    }

    /// Adds a batch, which has its data with it and keeps its time.
    ///
    /// # Errors
    /// What could not be written.
    pub(in super::super) fn add(&mut self, batch: Batch) -> io::Result<()> {
        if self.open.as_ref().is_some_and(|open| open.appender.is_full()) {
            let producers = self.producers.clone();
            self.seal(&producers)?;
        }
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.create()?,
        };
        self.producers.note_batch(&batch);
        let time_us = batch.timestamp_us();
        let accepted = open.appender.accept(batch, time_us);
        self.next = accepted.end_event_id;
        let gathered = open.appender.pending_bytes() >= self.config.commit_bytes_max;
        let written = if gathered { open.flush() } else { Ok(()) };
        self.open = Some(open);
        written
    }

    /// Begins to write the data of the next batch, in a segment that has no events yet.
    ///
    /// # Errors
    /// What could not be written.
    pub(super) fn begin_data(&mut self) -> io::Result<WrittenData> {
        let has_events = |open: &Open| open.facts.base_event_id < self.next;
        if self.open.as_ref().is_some_and(has_events) {
            let producers = self.producers.clone();
            self.seal(&producers)?;
        }
        let open = match self.open.take() {
            Some(open) => open,
            None => self.create()?,
        };
        let file = open.data.try_clone()?;
        self.open = Some(open);
        Ok(WrittenData {
            file,
            end: FilePos::new(BLOCK_BYTES as u64),
        })
    }

    /// Adds the batch whose data was written.
    ///
    /// # Errors
    /// What could not be written.
    pub(super) fn add_written(&mut self, batch: Batch, data: &WrittenData) -> io::Result<()> {
        let Some(open) = &mut self.open else {
            return Err(io::Error::other("no segment was begun for the data"));
        };
        self.producers.note_batch(&batch);
        let time_us = batch.timestamp_us();
        open.appender.adopt_data(data.end, data.tail()?);
        self.next = open.appender.accept_stored(batch, time_us).end_event_id;
        open.flush()
    }

    fn create(&self) -> io::Result<Open> {
        let (salt, base, incarnation) = (random_u64(), self.next, 1);
        let name = |ending: &str| self.dir.join(format!("{:020}.{ending}", base.get()));
        let file = |kind, ending: &str| {
            let header = SegmentHeader::new(kind, self.partition, base, salt, now_us(), incarnation);
            let file = create_new(&name(ending))?;
            file.write_all_at(&header.to_block(), 0)?;
            io::Result::Ok(file)
        };
        let data = file(SegmentKind::Data, "data")?;
        let meta = file(SegmentKind::Meta, "meta")?;
        let facts = SegmentFacts {
            salt,
            base_event_id: base,
            incarnation,
        };
        Ok(Open {
            meta_path: name("meta"),
            meta,
            data,
            facts,
            appender: Appender::new(self.config, facts),
            index: SparseIndex::default(),
        })
    }

    /// Ends the segment with a footer that has these producers, durable when this returns.
    fn seal(&mut self, producers: &ProducerTable) -> io::Result<()> {
        let Some(mut open) = self.open.take() else {
            return Ok(());
        };
        open.flush()?;
        let facts = FooterFacts {
            salt: open.facts.salt,
            base_event_id: open.facts.base_event_id,
            end_event_id: self.next,
            meta_end: open.appender.meta_end(),
            data_end: open.appender.data_end(),
            index: std::mem::take(&mut open.index),
            producers: producers.before(self.next),
        };
        let footer_at = facts.meta_end.align_up(BLOCK_BYTES as u64);
        open.meta
            .write_all_at(&Footer::encode(&facts, footer_at), footer_at.get())?;
        open.meta.sync_all()?;
        open.data.sync_all()
    }

    /// All batches were added: seals the last segment, since only a footer keeps what is known of producers whose batches
    /// are not in the export. An import without events has one empty segment, so that it begins where it did.
    ///
    /// # Errors
    /// What could not be written.
    pub(in super::super) fn finish(mut self, producers: &ProducerTable) -> io::Result<()> {
        if self.open.is_some() {
            return self.seal(producers);
        }
        let open = self.create()?;
        open.meta.sync_all()?;
        open.data.sync_all()
    }
}

impl Open {
    /// Writes what was gathered.
    fn flush(&mut self) -> io::Result<()> {
        while let Some(commit) = self.appender.plan() {
            self.write(&commit)?;
            // Durable before anybody can see the files, so that what frames say of each other holds.
            self.appender.written(commit.id);
            self.appender.synced(commit.id);
            for stored in &commit.batches {
                let batch = &stored.batch;
                let (id, time_us) = (batch.base_event_id(), batch.timestamp_us());
                self.index.note(id, stored.meta_at, batch.frame_bytes(), time_us);
            }
        }
        Ok(())
    }

    fn write(&self, commit: &Commit) -> io::Result<()> {
        let put = |file: &File, plan: &WritePlan| {
            let bytes = usize::try_from(plan.total_bytes()).map_err(io::Error::other)?;
            let mut buffer = vec![0; bytes];
            plan.fill(&mut buffer);
            file.write_all_at(&buffer, plan.at().get())
        };
        if let Some(plan) = &commit.data {
            put(&self.data, plan)?;
        }
        let frames = commit.meta.as_ref().map_or(Ok(()), |plan| put(&self.meta, plan));
        frames.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", self.meta_path.display())))
    }
}
