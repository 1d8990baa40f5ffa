//! Walks the frames of one meta file forward.

use std::rc::Rc;

use bytes::Bytes;
use mofka_log::{BATCH_HEADER_BYTES, BLOCK_BYTES, Batch, EventId, FilePos, frame_bytes_hint};

use super::memory::ShardMemory;
use super::segment::Segment;
use crate::io::IoFile;

/// A place in a segment's meta file, kept from one read to the next. Holds no file open.
///
/// The bytes that were read with the last window may be older than the frames that are visible by now: what does not
/// check or does not follow in them is read anew once before it counts.
pub(super) struct Walk {
    pub(super) segment: Rc<Segment>,
    memory: Rc<ShardMemory>,
    at: FilePos,
    /// The id that the next frame must begin with; `None`: wherever the index led to.
    expected: Option<EventId>,
    /// A batch that was looked at and not taken.
    put_back: Option<Batch>,
    window: Bytes,
    window_at: FilePos,
    window_bytes: usize,
    /// Nothing is written from there on, as far as is known.
    until: Option<FilePos>,
    /// The window was read after the caller looked what is visible.
    fresh: bool,
}

impl Walk {
    /// From `at` on, which is where some frame begins. One read of the file brings `window_bytes`; a larger frame is
    /// read on its own.
    pub(super) fn new(
        segment: Rc<Segment>,
        at: FilePos,
        window_bytes: usize,
        memory: Rc<ShardMemory>,
    ) -> Self {
        Self {
            segment,
            memory,
            at,
            expected: None,
            put_back: None,
            window: Bytes::new(),
            window_at: at,
            window_bytes,
            until: None,
            fresh: true,
        }
    }

    /// Nothing is written behind `until` yet: reading on from there brings only room.
    pub(super) fn bound(&mut self, until: Option<FilePos>) {
        self.until = until;
    }

    /// Whether the next batch begins with this event. Not at the end of the segment: the event is in the next one then,
    /// and this one may be gone.
    pub(super) fn is_at(&self, id: EventId) -> bool {
        if self.segment.end().is_some_and(|end| end <= id) {
            return false;
        }
        match &self.put_back {
            Some(batch) => batch.base_event_id() == id,
            None => self.expected == Some(id),
        }
    }

    /// More may be visible now than when the window was read.
    pub(super) fn resume(&mut self) {
        self.fresh = false;
    }

    /// The batch will be the next one again.
    pub(super) fn put_back(&mut self, batch: Batch) {
        self.put_back = Some(batch);
    }

    /// The next frame of the chain that carries events; `None` at the end of what is written. A frame is at the end
    /// of the one before it, or at the next block after that.
    pub(super) async fn next<F: IoFile>(&mut self, meta: &Rc<F>) -> Result<Option<Batch>, String> {
        if let Some(batch) = self.put_back.take() {
            return Ok(Some(batch));
        }
        loop {
            let block = self.at.align_up(BLOCK_BYTES as u64);
            let mut found = self.frame(meta, self.at).await?.map(|batch| (self.at, batch));
            if found.is_none() && block != self.at {
                found = self.frame(meta, block).await?.map(|batch| (block, batch));
            }
            let found = found.filter(|(_, batch)| {
                self.expected
                    .is_none_or(|expected| expected == batch.base_event_id())
            });
            let Some((at, batch)) = found else {
                if self.fresh {
                    return Ok(None);
                }
                self.window = Bytes::new();
                self.fresh = true;
                continue;
            };
            self.at = FilePos::new(at.get() + batch.frame_bytes());
            self.expected = Some(batch.end_event_id());
            if !batch.is_mark() {
                return Ok(Some(batch));
            }
        }
    }

    async fn frame<F: IoFile>(&mut self, meta: &Rc<F>, at: FilePos) -> Result<Option<Batch>, String> {
        let header = self.bytes(meta, at, BATCH_HEADER_BYTES).await?;
        let Ok(frame_bytes) = frame_bytes_hint(&header) else {
            return Ok(None);
        };
        let frame_bytes = usize::try_from(frame_bytes).map_err(|error| error.to_string())?;
        let frame = self.bytes(meta, at, frame_bytes).await?;
        match Batch::check(frame, None) {
            Ok(batch) if self.segment.owns(&batch) => Ok(Some(batch)),
            _ => Ok(None),
        }
    }

    /// `bytes` bytes at `at`, or fewer at the end of the file.
    async fn bytes<F: IoFile>(&mut self, meta: &Rc<F>, at: FilePos, bytes: usize) -> Result<Bytes, String> {
        let inside = |window_at: FilePos, window: &Bytes| -> Option<Bytes> {
            let start = usize::try_from(at.get().checked_sub(window_at.get())?).ok()?;
            let end = start.checked_add(bytes)?;
            (end <= window.len()).then(|| window.slice(start..end))
        };
        if let Some(found) = inside(self.window_at, &self.window) {
            return Ok(found);
        }
        let written = self.until.map_or(u64::MAX, |until| {
            let end = until.align_up(BLOCK_BYTES as u64);
            end.get().saturating_sub(at.get())
        });
        let window_bytes = self
            .window_bytes
            .min(usize::try_from(written).unwrap_or(usize::MAX));
        let wanted = bytes.max(window_bytes);
        self.memory.note_device_bytes(at.get(), wanted);
        self.window = meta
            .read_at(at, wanted)
            .await
            .map_err(|error| format!("reading {wanted} bytes at {at}: {error}"))?;
        self.window_at = at;
        Ok(self.window.slice(..bytes.min(self.window.len())))
    }
}
