//! The files of a log partition: rolling to the next segment, finding what is where.

mod adopting;
mod dropping;
mod looking;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::rc::Rc;

use event_listener::Event;
use mofka_log::{
    AppenderConfig, BLOCK_BYTES, EventId, FilePos, FooterFacts, ProducerTable, Reach, SparseIndex,
    StoredBatch,
};
use uuid::Uuid;

use super::segment::Segment;
use super::segment_files::{self, Begun, NextFiles, free_path, meta_path, seal};
use crate::commit::{Committer, Files};
use crate::io::{Io, Pace};
use crate::recover::OpenError;
use crate::room::{RollError, is_full};

/// Segments whose files are kept open for reading, beside the one that is written.
const OPEN_SEGMENTS_MAX: usize = 4;
/// The next segment is made ready as a whole when this one is half full after less than this.
const FAST_US: u64 = 60_000_000;

pub(super) use adopting::AdoptError;

type Unsealed<F> = (Rc<Segment>, Files<F>, FooterFacts);

/// See the module.
pub(crate) struct Store<I: Io> {
    io: I,
    dir: PathBuf,
    partition: Uuid,
    config: AppenderConfig,
    committer: Rc<Committer<I>>,
    segments: RefCell<Vec<Rc<Segment>>>,
    open: RefCell<VecDeque<(EventId, Files<I::File>)>>,
    next: RefCell<Option<NextFiles<I::File>>>,
    /// Segments that are being sealed.
    sealing: Rc<Cell<usize>>,
    /// The next segment is being made ready, and somebody waits for that.
    preparing: Cell<bool>,
    hurry: Cell<bool>,
    settled: Rc<Event>,
    /// The data file of a segment that is gone waits to be used again.
    has_free: Cell<bool>,
    /// Segments for whose footers there was no room.
    unsealed: Rc<RefCell<Vec<Unsealed<I::File>>>>,
    /// The segment that is being trimmed: its names may be gone already, and it is still read from.
    held: RefCell<Option<(EventId, Files<I::File>)>>,
}

/// A segment's files, for reading.
pub(crate) struct Readable<F> {
    pub(crate) segment: Rc<Segment>,
    pub(crate) files: Files<F>,
}

impl<I: Io> Store<I> {
    pub(super) fn new(
        io: I,
        dir: PathBuf,
        partition: Uuid,
        config: AppenderConfig,
        committer: Rc<Committer<I>>,
        segments: Vec<Rc<Segment>>,
    ) -> Self {
        Self {
            io,
            dir,
            partition,
            config,
            committer,
            segments: RefCell::new(segments),
            open: RefCell::new(VecDeque::new()),
            next: RefCell::new(None),
            sealing: Rc::default(),
            preparing: Cell::new(false),
            hurry: Cell::new(false),
            settled: Rc::default(),
            has_free: Cell::new(false),
            unsealed: Rc::default(),
            held: RefCell::new(None),
        }
    }

    pub(crate) fn committer(&self) -> &Rc<Committer<I>> {
        &self.committer
    }

    /// The bounds of a segment's files, in whole blocks.
    pub(crate) fn segment_bounds(&self) -> Reach {
        // Files have whole blocks, and a bound of "for ever" stays one.
        let whole = |bytes: u64| FilePos::new(bytes.min(1 << 62)).align_up(BLOCK_BYTES as u64);
        Reach {
            meta: whole(self.config.segment_meta_bytes),
            data: whole(self.config.segment_data_bytes),
        }
    }

    /// The first event that is still stored.
    pub(crate) fn trim_end(&self) -> EventId {
        self.segments
            .borrow()
            .first()
            .map_or(EventId::new(0), |segment| segment.base)
    }

    /// Bytes of all files, as far as they are used. Those of segments that were not looked at yet are missing.
    pub(crate) fn used_bytes(&self) -> u64 {
        let segments = self.segments.borrow();
        let sealed = segments.iter().filter_map(|segment| segment.bytes());
        let sealed = sealed.fold(0_u64, |sum, (meta, data)| {
            sum.saturating_add(meta).saturating_add(data)
        });
        let active = self
            .committer
            .with_appender(|appender| appender.meta_end().get() + appender.data_end().get());
        sealed.saturating_add(active)
    }

    pub(crate) fn segment_count(&self) -> usize {
        self.segments.borrow().len()
    }

    /// Notes where stamped batches go.
    pub(crate) fn note(&self, batches: &[StoredBatch]) {
        let segments = self.segments.borrow();
        let index = segments.last().and_then(|segment| segment.index());
        if let Some(index) = index {
            let mut index = index.borrow_mut();
            for stored in batches {
                if !stored.batch.is_mark() {
                    let batch = &stored.batch;
                    index.note(
                        batch.base_event_id(),
                        stored.meta_at,
                        batch.frame_bytes(),
                        batch.timestamp_us(),
                    );
                }
            }
        }
    }

    /// The segment that holds `id`, opened for reading, and the place to start looking for it.
    ///
    /// # Errors
    /// When the files cannot be opened or nothing of them checks.
    pub(crate) async fn locate(
        &self,
        id: EventId,
    ) -> Result<Option<(Readable<I::File>, FilePos)>, OpenError> {
        let segment = {
            let segments = self.segments.borrow();
            let after = segments.partition_point(|segment| segment.base <= id);
            match after.checked_sub(1).and_then(|place| segments.get(place)) {
                Some(segment) => Rc::clone(segment),
                None => return Ok(None),
            }
        };
        let files = self.files_of(&segment).await?;
        let index = self.index_of(&segment, &files).await?;
        let at = index
            .borrow()
            .lookup(id)
            .unwrap_or(FilePos::new(BLOCK_BYTES as u64));
        Ok(Some((Readable { segment, files }, at)))
    }

    /// Where a segment's meta file ends, or the part of it that is written; `None` when that is not known.
    pub(crate) fn meta_end(&self, segment: &Segment) -> Option<FilePos> {
        match segment.end() {
            None => Some(self.committer.with_appender(|appender| appender.meta_end())),
            Some(_) => segment.bytes().map(|(meta_bytes, _)| FilePos::new(meta_bytes)),
        }
    }

    /// All segments, in order.
    pub(crate) fn segments(&self) -> Vec<Rc<Segment>> {
        self.segments.borrow().clone()
    }

    /// The files of a segment, and a place in it from which on to look for a time; `None` when it has no batches.
    ///
    /// # Errors
    /// When the files cannot be opened or the footer does not check.
    pub(crate) async fn locate_time(
        &self,
        segment: &Rc<Segment>,
        timestamp_us: u64,
    ) -> Result<(Readable<I::File>, Option<FilePos>), OpenError> {
        let files = self.files_of(segment).await?;
        let index = self.index_of(segment, &files).await?;
        let at = index.borrow().lookup_time(timestamp_us);
        let segment = Rc::clone(segment);
        Ok((Readable { segment, files }, at))
    }

    /// Bytes of the indexes that are in memory.
    pub(crate) fn index_bytes(&self) -> u64 {
        let segments = self.segments.borrow();
        let indexes = segments.iter().filter_map(|segment| segment.index());
        indexes.map(|index| index.borrow().memory_bytes()).sum()
    }

    /// The files of a segment that was located before.
    ///
    /// # Errors
    /// When they cannot be opened; they may be gone by now.
    pub(crate) async fn reopen(&self, segment: &Rc<Segment>) -> Result<Readable<I::File>, OpenError> {
        Ok(Readable {
            segment: Rc::clone(segment),
            files: self.files_of(segment).await?,
        })
    }

    fn keep_open(&self, base: EventId, files: Files<I::File>) {
        let mut open = self.open.borrow_mut();
        open.push_back((base, files));
        if open.len() > OPEN_SEGMENTS_MAX {
            open.pop_front();
        }
    }

    /// Whether it is time to make the next segment's files ready: this one is half full.
    pub(crate) fn wants_next(&self) -> bool {
        let (meta, data) = self
            .committer
            .with_appender(|appender| (appender.meta_end().get(), appender.data_end().get()));
        let half = meta >= self.config.segment_meta_bytes / 2 || data >= self.config.segment_data_bytes / 2;
        half && self.next.borrow().is_none() && !self.preparing.get()
    }

    /// [`Store::prepare`] is about to run.
    pub(crate) fn will_prepare(&self) {
        self.preparing.set(true);
    }

    /// Makes the next segment's files, with as much room as this one took, so that they need not be made longer while
    /// they are written. At least with so much as is asked for.
    pub(crate) async fn prepare(&self, ahead: Reach) -> Result<(), RollError> {
        assert!(self.preparing.get(), "said with `will_prepare` before");
        let prepared = self.prepare_files(ahead).await;
        self.preparing.set(false);
        self.hurry.set(false);
        self.settled.notify(usize::MAX);
        prepared
    }

    async fn prepare_files(&self, ahead: Reach) -> Result<(), RollError> {
        let bounds = self.segment_bounds();
        let active = self.segments.borrow().last().cloned();
        let used = self.committer.with_appender(|appender| appender.meta_end().get());
        let data = self.committer.with_appender(|appender| appender.data_end().get());
        // What was used so far, for a whole segment, and a little more.
        let fullness = (data as f64 / self.config.segment_data_bytes as f64)
            .max(used as f64 / self.config.segment_meta_bytes as f64)
            .clamp(0.1, 1.0);
        let whole = (used as f64 / fullness * 1.1) as u64;
        let began_us = active
            .and_then(|active| active.timestamps_us())
            .map(|(first, _)| first);
        let is_fast = began_us.is_some_and(|began| self.io.now_us().saturating_sub(began) < FAST_US);
        let clip = |at: FilePos, bound: FilePos| {
            let block = FilePos::new(2 * BLOCK_BYTES as u64);
            at.align_up(BLOCK_BYTES as u64).min(bound.max(block))
        };
        let first = Reach {
            meta: clip(
                if is_fast { FilePos::new(whole) } else { ahead.meta },
                bounds.meta,
            ),
            data: clip(ahead.data, bounds.data),
        };
        let pace = match self.hurry.get() {
            true => Pace::Hurried,
            false => Pace::Gentle,
        };
        let free = self.has_free.replace(false).then(|| free_path(&self.dir));
        let mut next = segment_files::prepare(&self.io, &self.dir, first, free, pace).await?;
        let has_data = data > BLOCK_BYTES as u64;
        while is_fast && has_data && !self.hurry.get() && next.reserved().data < bounds.data {
            next.grow_data(&self.dir, bounds.data).await?;
        }
        *self.next.borrow_mut() = Some(next);
        Ok(())
    }

    /// Goes on in the next segment, and seals this one in the background. Nothing is queued or in flight while this
    /// runs. Returns the ends of the new files.
    ///
    /// # Errors
    /// That there is no room: nothing changed. Or what the machine said.
    pub(crate) async fn roll(&self, producers: &ProducerTable, room: Reach) -> Result<Reach, RollError> {
        // One at a time: a device that seals slower than segments fill is full of unsealed ones otherwise.
        self.settle().await;
        if self.next.borrow().is_none() {
            // Everybody waits for it: no more than is needed to go on.
            self.will_prepare();
            self.hurry.set(true);
            self.prepare(room).await?;
        }
        let active = self.segments.borrow().last().cloned();
        let (Some(active), Some(next)) = (active, self.next.take()) else {
            unreachable!("there is a segment, and the next one was made ready")
        };
        let (facts, incarnation) = self.committer.with_appender(|appender| {
            let ends = appender.ends();
            assert_eq!(
                ends.synced_end, ends.appended_end,
                "a roll waits until all is durable"
            );
            let facts = FooterFacts {
                salt: active.salt().unwrap_or_default(),
                base_event_id: active.base,
                end_event_id: ends.synced_end,
                meta_end: appender.meta_end(),
                data_end: appender.data_end(),
                index: active
                    .index()
                    .map(|index| index.borrow().clone())
                    .unwrap_or_default(),
                producers: producers.before(ends.synced_end),
            };
            (facts, appender.incarnation())
        });
        let end = facts.end_event_id;
        assert!(
            active.base < end,
            "a segment without events is not rolled: the next one would take its name"
        );
        let files = self.committer.files();
        let begun = segment_files::begin(&self.io, &self.dir, self.partition, next, end, incarnation).await;
        let Begun {
            files: next_files,
            facts: next,
            reserved,
        } = begun.map_err(|error| match error {
            // It has room, and what was renamed is not known: there is no way back from here.
            RollError::NoRoom(reason) | RollError::Failed(reason) => RollError::Failed(reason),
        })?;
        active.ended(end);
        self.keep_open(active.base, files.clone());
        self.segments
            .borrow_mut()
            .push(Rc::new(Segment::active(&next, SparseIndex::default())));
        self.committer.install(next, next_files);
        self.seal_in_background(active, files, facts);
        Ok(reserved)
    }

    fn seal_in_background(&self, segment: Rc<Segment>, files: Files<I::File>, facts: FooterFacts) {
        self.sealing.set(self.sealing.get() + 1);
        let (sealing, settled, unsealed) = (
            Rc::clone(&self.sealing),
            Rc::clone(&self.settled),
            Rc::clone(&self.unsealed),
        );
        let (io, committer) = (self.io.clone(), Rc::clone(&self.committer));
        let path = meta_path(&self.dir, segment.base);
        self.io.spawn(async move {
            match seal(&io, &files, &facts).await {
                Ok(meta_bytes) => segment.sealed(meta_bytes, facts.data_end.get()),
                Err(error) if is_full(&error) => {
                    tracing::warn!(path = %path.display(), %error, "could not be sealed; tried again later");
                    unsealed.borrow_mut().push((segment, files, facts));
                }
                Err(error) => committer.fail(format!("sealing {}: {error}", path.display())),
            }
            sealing.set(sealing.get() - 1);
            settled.notify(usize::MAX);
        });
    }

    /// Tries again to seal what could not be sealed on a full device.
    pub(super) async fn seal_what_failed(&self) {
        for (segment, files, facts) in self.unsealed.take() {
            self.seal_in_background(segment, files, facts);
        }
        self.settle().await;
    }

    /// Waits until no segment is being sealed or made ready.
    pub(crate) async fn settle(&self) {
        self.hurry.set(self.preparing.get());
        loop {
            let listener = self.settled.listen();
            if self.sealing.get() == 0 && !self.preparing.get() {
                return;
            }
            listener.await;
        }
    }

    /// Removes the files of a segment that will not be begun.
    pub(crate) async fn forget_next(&self) {
        let has_free = self.has_free.replace(false);
        if (self.next.take().is_some() || has_free)
            && let Ok(names) = self.io.list(&self.dir).await
        {
            segment_files::remove_unfinished(&self.io, &self.dir, &names).await;
        }
    }
}
