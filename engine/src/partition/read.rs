//! Reading events in order: from memory when they are recent, else by large direct reads.

use std::rc::Rc;

use bytes::Bytes;
use mofka_log::{Batch, EventId, FilePos};
use mofka_net::{ErrorCode, WireError};

use super::store::Readable;
use super::walk::Walk;
use super::{Partition, poisoned};
use crate::io::{Io, IoFile};

/// Bytes of one read of a meta file by those who read on and on.
pub(super) const READ_WINDOW_BYTES: usize = 1 << 20;
/// Longest stretch of a data file that one read brings, unless one batch is longer.
const RUN_BYTES_MAX: u64 = 8 << 20;
/// Bytes between the data of two batches that are rather read than left out with a read of their own.
const RUN_GAP_BYTES_MAX: u64 = 64 << 10;

/// How much one read may bring. At least one batch comes, however large it is.
#[derive(Clone, Copy, Debug)]
pub struct ReadLimits {
    /// Events, counted in whole batches after the first.
    pub events_max: u64,
    /// Frame bytes plus data bytes (when data is wanted).
    pub bytes_max: u64,
    /// Whether the batches' data is wanted too.
    pub with_data: bool,
}

/// Batches that follow each other, and the window of events in them that was asked for.
#[derive(Clone, Debug, Default)]
pub struct Slice {
    /// Whole batches, as stored. Data is with them when it was asked for and fitted the limits.
    pub batches: Vec<Batch>,
    /// The first event asked for: those before it in the first batch are not.
    pub first_event_id: EventId,
    /// The position after the last event of the window.
    pub end_event_id: EventId,
}

impl Slice {
    /// No events, at `id`.
    pub(crate) fn empty(id: EventId) -> Self {
        Self {
            batches: Vec::new(),
            first_event_id: id,
            end_event_id: id,
        }
    }

    /// The data of the batch that begins here cannot be had: what comes before it is given, and the next who asks for it is told.
    fn ends_before(&mut self, base: EventId, error: WireError) -> Result<(), WireError> {
        if self.batches.is_empty() {
            return Err(error);
        }
        self.end_event_id = base;
        Ok(())
    }
}

/// Counts what a slice takes against the limits.
struct Budget {
    limits: ReadLimits,
    events: u64,
    bytes: u64,
}

impl Budget {
    fn new(limits: ReadLimits) -> Self {
        Self {
            limits,
            events: 0,
            bytes: 0,
        }
    }

    /// Whether the batch still fits; the first always does.
    fn take(&mut self, batch: &Batch) -> bool {
        let events = u64::from(batch.event_count());
        let bytes = batch.frame_bytes()
            + if self.limits.with_data {
                batch.data_bytes()
            } else {
                0
            };
        let fits =
            self.events + events <= self.limits.events_max && self.bytes + bytes <= self.limits.bytes_max;
        let first = self.events == 0;
        if first || fits {
            self.events += events;
            self.bytes += bytes;
        }
        first || fits
    }
}

impl<I: Io> Partition<I> {
    /// The batches from the one that holds `from` on, up to the limits and never past what is visible. Empty when
    /// nothing at or after `from` is visible.
    ///
    /// # Errors
    /// When stored events cannot be read or do not check, and when `from` was trimmed.
    pub async fn read(&self, from: EventId, limits: ReadLimits) -> Result<Slice, WireError> {
        self.refuse_if_trimmed(from)?;
        let slice = self.read_kept(from, limits).await;
        if let Err(error) = &slice {
            // Files that go while they are read look like damage.
            self.refuse_if_trimmed(from)?;
            self.found_damaged(error);
        }
        slice
    }

    async fn read_kept(&self, from: EventId, limits: ReadLimits) -> Result<Slice, WireError> {
        if from >= self.visible_end() {
            return Ok(Slice::empty(from));
        }
        if let Some(slice) = self.read_recent(from, limits) {
            return Ok(slice);
        }
        let (slice, _) = self.read_stored(None, from, limits, READ_WINDOW_BYTES).await?;
        Ok(slice)
    }

    /// Whether the event is in memory.
    pub(super) fn is_recent(&self, id: EventId) -> bool {
        self.recent.borrow().from(id).next().is_some()
    }

    /// As [`Partition::read`], from memory; `None` when the first event is not there.
    pub(super) fn read_recent(&self, from: EventId, limits: ReadLimits) -> Option<Slice> {
        let (visible_end, mut budget) = (self.visible_end(), Budget::new(limits));
        let mut slice = Slice::empty(from);
        let recent = self.recent.borrow();
        for batch in recent.from(from) {
            if batch.end_event_id() > visible_end || !budget.take(batch) {
                break;
            }
            slice.end_event_id = batch.end_event_id();
            slice.batches.push(batch.clone());
        }
        let found = !slice.batches.is_empty();
        if found {
            self.memory.note_read(true);
        }
        found.then_some(slice)
    }

    /// As [`Partition::read`], from the device. `walk` is where an earlier read left off; returned is where this one
    /// did, unless the segment ended.
    pub(super) async fn read_stored(
        &self,
        walk: Option<Walk>,
        from: EventId,
        limits: ReadLimits,
        window_bytes: usize,
    ) -> Result<(Slice, Option<Walk>), WireError> {
        let mut slice = Slice::empty(from);
        let Some(store) = &self.store else {
            return Ok((slice, None));
        };
        self.memory.note_read(false);
        if let Some(mut walk) = walk.filter(|walk| walk.is_at(from)) {
            walk.resume();
            walk.bound(store.meta_end(&walk.segment));
            let readable = store.reopen(&walk.segment).await;
            let readable = readable.map_err(|error| self.unreadable(&error.to_string()))?;
            let is_over = self.gather(&mut walk, &readable, limits, &mut slice).await?;
            if !slice.batches.is_empty() {
                self.load(&readable, limits, &mut slice).await?;
                return Ok((slice, (!is_over).then_some(walk)));
            }
            // The segment ended exactly there: the event is in the next.
        }
        let located = store
            .locate(from)
            .await
            .map_err(|error| self.unreadable(&error.to_string()))?;
        let Some((readable, at)) = located else {
            return Ok((slice, None));
        };
        let segment = Rc::clone(&readable.segment);
        let meta_end = store.meta_end(&segment);
        let mut walk = Walk::new(segment, at, window_bytes, Rc::clone(&self.memory));
        walk.bound(meta_end);
        let is_over = self.gather(&mut walk, &readable, limits, &mut slice).await?;
        if slice.batches.is_empty() {
            return Err(self.lost(from));
        }
        self.load(&readable, limits, &mut slice).await?;
        Ok((slice, (!is_over).then_some(walk)))
    }

    /// Takes batches, still without their data, up to the limits. Returns whether the segment ended.
    async fn gather(
        &self,
        walk: &mut Walk,
        readable: &Readable<I::File>,
        limits: ReadLimits,
        slice: &mut Slice,
    ) -> Result<bool, WireError> {
        let (from, visible_end, mut budget) = (slice.first_event_id, self.visible_end(), Budget::new(limits));
        loop {
            let next = walk.next(&readable.files.meta).await;
            let Some(batch) = next.map_err(|error| self.unreadable(&error))? else {
                return Ok(true);
            };
            if batch.end_event_id() <= from {
                continue;
            }
            if slice.batches.is_empty() && batch.base_event_id() > from {
                return Err(self.lost(from));
            }
            if batch.end_event_id() > visible_end || !budget.take(&batch) {
                walk.put_back(batch);
                return Ok(false);
            }
            slice.end_event_id = batch.end_event_id();
            slice.batches.push(batch);
            if slice.end_event_id >= visible_end || budget.bytes >= limits.bytes_max {
                return Ok(false);
            }
        }
    }

    /// Brings the data of the batches, when it is wanted and within the limits; the consumer asks for it otherwise.
    /// Batches whose data lies together share one read.
    async fn load(
        &self,
        readable: &Readable<I::File>,
        limits: ReadLimits,
        slice: &mut Slice,
    ) -> Result<(), WireError> {
        let fits = |batch: &Batch| (1..=limits.bytes_max).contains(&batch.data_bytes());
        if !limits.with_data || !slice.batches.iter().any(fits) {
            return Ok(());
        }
        let Some(file) = &readable.files.data else {
            return Err(self.unreadable("the segment has no data file"));
        };
        let mut batches = std::mem::take(&mut slice.batches).into_iter().peekable();
        let mut run = Run::default();
        while let Some(batch) = batches.next() {
            if !fits(&batch) {
                slice.batches.push(batch);
                continue;
            }
            let (start, end) = data_of(&batch);
            let (base, batch_end) = (batch.base_event_id(), batch.end_event_id());
            if run.end < end || start < run.start {
                run.end = end;
                let mut ahead = batches.clone();
                while let Some((more_start, more_end)) = ahead.next_if(fits).as_ref().map(data_of)
                    && more_start >= run.end
                    && more_start - run.end <= RUN_GAP_BYTES_MAX
                    && more_end - start <= RUN_BYTES_MAX
                {
                    run.end = more_end;
                }
                run.start = start;
                run.bytes = match self.read_data(file, start, run.end).await {
                    Ok(bytes) => bytes,
                    Err(error) => return slice.ends_before(base, error),
                };
            }
            let whole = match run.part(start, end) {
                Some(part) => batch.with_data(part).map_err(|error| error.to_string()),
                None => Err(format!(
                    "the data file ends before byte {end}, where its data ends"
                )),
            };
            match whole {
                Ok(whole) => slice.batches.push(whole),
                Err(reason) => {
                    let reason = format!("the batch of events {base} to {batch_end}: {reason}");
                    return slice.ends_before(base, self.damaged(&reason));
                }
            }
        }
        Ok(())
    }

    /// The bytes of a data file from `start` to `end`, or fewer when it ends before.
    pub(super) async fn read_data(
        &self,
        file: &Rc<I::File>,
        start: u64,
        end: u64,
    ) -> Result<Bytes, WireError> {
        let bytes = usize::try_from(end.saturating_sub(start))
            .map_err(|error| self.unreadable(&error.to_string()))?;
        self.memory.note_device_bytes(start, bytes);
        file.read_at(FilePos::new(start), bytes)
            .await
            .map_err(|error| self.unreadable(&format!("reading {bytes} bytes of data at {start}: {error}")))
    }

    pub(super) fn unreadable(&self, reason: &str) -> WireError {
        poisoned(&self.spec, reason)
    }

    pub(super) fn damaged(&self, reason: &str) -> WireError {
        let message = format!(
            "stored bytes of partition {} of topic {} are damaged: {reason}",
            self.spec.record.index, self.spec.topic.name
        );
        WireError::new(ErrorCode::Damaged, message)
    }

    fn lost(&self, id: EventId) -> WireError {
        self.damaged(&format!(
            "event {id} should be stored and is not where the log says"
        ))
    }
}

/// A stretch of a data file in memory.
#[derive(Default)]
struct Run {
    start: u64,
    end: u64,
    bytes: Bytes,
}

impl Run {
    fn part(&self, start: u64, end: u64) -> Option<Bytes> {
        let start_in_run = usize::try_from(start.checked_sub(self.start)?).ok()?;
        let end_in_run = usize::try_from(end.checked_sub(self.start)?).ok()?;
        (end_in_run <= self.bytes.len()).then(|| self.bytes.slice(start_in_run..end_in_run))
    }
}

/// Where a batch's data begins and ends in its file. The header was checked; what it says may be wrong all the same.
fn data_of(batch: &Batch) -> (u64, u64) {
    let start = batch.data_at().get();
    (start, start.saturating_add(batch.data_bytes()))
}
