//! Reading events in order: from memory when they are recent, else by large direct reads.

use bytes::Bytes;
use mofka_log::{BATCH_HEADER_BYTES, BLOCK_BYTES, Batch, EventId, FilePos, frame_bytes_hint};
use mofka_net::{ErrorCode, WireError};

use super::store::Readable;
use super::{Partition, poisoned};
use crate::io::{Io, IoFile};

/// Bytes of one read of a meta file; a frame larger than this is read on its own.
const WINDOW_BYTES: usize = 256 << 10;

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
}

/// Counts what a slice takes against the limits.
struct Budget {
    limits: ReadLimits,
    events: u64,
    bytes: u64,
}

impl Budget {
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
        if slice.is_err() {
            // Files that go while they are read look like damage.
            self.refuse_if_trimmed(from)?;
        }
        slice
    }

    async fn read_kept(&self, from: EventId, limits: ReadLimits) -> Result<Slice, WireError> {
        let visible_end = self.visible_end();
        let mut slice = Slice::empty(from);
        if from >= visible_end {
            return Ok(slice);
        }
        let mut budget = Budget {
            limits,
            events: 0,
            bytes: 0,
        };
        if self.read_recent(from, visible_end, &mut budget, &mut slice) {
            return Ok(slice);
        }
        self.read_stored(from, visible_end, &mut budget, &mut slice)
            .await?;
        Ok(slice)
    }

    /// Returns whether the memory had the first one.
    fn read_recent(
        &self,
        from: EventId,
        visible_end: EventId,
        budget: &mut Budget,
        slice: &mut Slice,
    ) -> bool {
        let recent = self.recent.borrow();
        for batch in recent.from(from) {
            if batch.end_event_id() > visible_end || !budget.take(batch) {
                break;
            }
            slice.end_event_id = batch.end_event_id();
            slice.batches.push(batch.clone());
        }
        !slice.batches.is_empty()
    }

    async fn read_stored(
        &self,
        from: EventId,
        visible_end: EventId,
        budget: &mut Budget,
        slice: &mut Slice,
    ) -> Result<(), WireError> {
        let Some(store) = &self.store else { return Ok(()) };
        let located = store
            .locate(from)
            .await
            .map_err(|error| self.unreadable(&error.to_string()))?;
        let Some((readable, at)) = located else {
            return Ok(());
        };
        let mut frames = Frames::new(&readable, at);
        loop {
            let next = frames.next().await;
            let batch = match next.map_err(|error| self.unreadable(&error))? {
                Some(batch) => batch,
                // The end of this segment: what follows is in the next, and the next read starts there.
                None if !slice.batches.is_empty() => return Ok(()),
                None => return Err(self.lost(from)),
            };
            if batch.end_event_id() <= from {
                continue;
            }
            if slice.batches.is_empty() && batch.base_event_id() > from {
                return Err(self.lost(from));
            }
            if batch.end_event_id() > visible_end || !budget.take(&batch) {
                return Ok(());
            }
            slice.end_event_id = batch.end_event_id();
            let batch = if budget.limits.with_data {
                self.with_data(&readable, batch, budget).await?
            } else {
                batch
            };
            slice.batches.push(batch);
            if slice.end_event_id >= visible_end || budget.bytes >= budget.limits.bytes_max {
                return Ok(());
            }
        }
    }

    /// The batch with its data, when that is within the limits; the consumer asks for it otherwise.
    async fn with_data(
        &self,
        readable: &Readable<I::File>,
        batch: Batch,
        budget: &Budget,
    ) -> Result<Batch, WireError> {
        if batch.data_bytes() > budget.limits.bytes_max {
            return Ok(batch);
        }
        let bytes =
            usize::try_from(batch.data_bytes()).map_err(|error| self.unreadable(&error.to_string()))?;
        let data = match (&readable.files.data, bytes) {
            (_, 0) => Bytes::new(),
            (None, _) => return Err(self.unreadable("the segment has no data file")),
            (Some(file), _) => file
                .read_at(batch.data_at(), bytes)
                .await
                .map_err(|error| self.unreadable(&format!("reading {bytes} bytes of data: {error}")))?,
        };
        batch
            .with_data(data)
            .map_err(|error| self.damaged(&error.to_string()))
    }

    /// The one batch that holds `id`.
    ///
    /// # Errors
    /// As [`Partition::read`], and when `id` is not visible or no longer stored.
    pub(super) async fn batch_of(&self, id: EventId) -> Result<Batch, WireError> {
        let limits = ReadLimits {
            events_max: 1,
            bytes_max: 0,
            with_data: false,
        };
        let slice = self.read(id, limits).await?;
        slice.batches.into_iter().next().ok_or_else(|| {
            let message = format!(
                "event {id} is not in partition {} of topic {}: it ends at {}",
                self.spec.record.index,
                self.spec.topic.name,
                self.visible_end()
            );
            WireError::new(ErrorCode::UnknownEvent, message)
        })
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

/// Walks the frames of one meta file forward.
pub(super) struct Frames<'a, F> {
    readable: &'a Readable<F>,
    at: FilePos,
    window: Bytes,
    window_at: FilePos,
}

impl<'a, F: IoFile> Frames<'a, F> {
    pub(super) fn new(readable: &'a Readable<F>, at: FilePos) -> Self {
        Self {
            readable,
            at,
            window: Bytes::new(),
            window_at: at,
        }
    }

    /// The next frame of the chain that carries events; `None` at the end of what is written. A frame is at the end
    /// of the one before it, or at the next block after that.
    pub(super) async fn next(&mut self) -> Result<Option<Batch>, String> {
        loop {
            let block = self.at.align_up(BLOCK_BYTES as u64);
            let batch = match self.frame(self.at).await? {
                Some(batch) => Some(batch),
                None if block != self.at => {
                    self.at = block;
                    self.frame(block).await?
                }
                None => None,
            };
            let Some(batch) = batch else { return Ok(None) };
            self.at = FilePos::new(self.at.get() + batch.frame_bytes());
            if !batch.is_mark() {
                return Ok(Some(batch));
            }
        }
    }

    async fn frame(&mut self, at: FilePos) -> Result<Option<Batch>, String> {
        let header = self.bytes(at, BATCH_HEADER_BYTES).await?;
        let Ok(frame_bytes) = frame_bytes_hint(&header) else {
            return Ok(None);
        };
        let frame_bytes = usize::try_from(frame_bytes).map_err(|error| error.to_string())?;
        let frame = self.bytes(at, frame_bytes).await?;
        match Batch::check(frame, None) {
            Ok(batch) if self.readable.segment.owns(&batch) => Ok(Some(batch)),
            _ => Ok(None),
        }
    }

    /// `bytes` bytes at `at`, or fewer at the end of the file.
    async fn bytes(&mut self, at: FilePos, bytes: usize) -> Result<Bytes, String> {
        let inside = |window_at: FilePos, window: &Bytes| -> Option<Bytes> {
            let start = usize::try_from(at.get().checked_sub(window_at.get())?).ok()?;
            let end = start.checked_add(bytes)?;
            (end <= window.len()).then(|| window.slice(start..end))
        };
        if let Some(found) = inside(self.window_at, &self.window) {
            return Ok(found);
        }
        let meta = &self.readable.files.meta;
        let wanted = bytes.max(WINDOW_BYTES);
        self.window = meta
            .read_at(at, wanted)
            .await
            .map_err(|error| format!("reading {wanted} bytes at {at}: {error}"))?;
        self.window_at = at;
        Ok(self.window.slice(..bytes.min(self.window.len())))
    }
}
