//! What a scan keeps, and what it tells in the end.

use crate::batch::Batch;
use crate::ids::{EventId, FilePos};
use crate::index::SparseIndex;
use crate::producers::ProducerTable;
use crate::verdict::Verdict;

/// A frame of the chain that no later frame vouches for.
#[derive(Clone, Debug)]
pub struct UnvouchedFrame {
    /// Its header and table: enough for [`crate::check_pieces`]. Its metadata was checked and let go.
    pub batch: Batch,
    /// Where the frame is in the meta file.
    pub meta_at: FilePos,
}

impl UnvouchedFrame {
    /// Id of its first event.
    pub fn base_event_id(&self) -> EventId {
        self.batch.base_event_id()
    }

    /// Exclusive end of its ids.
    pub fn end_event_id(&self) -> EventId {
        self.batch.end_event_id()
    }

    /// Where its data should be in the data file.
    pub fn data_at(&self) -> FilePos {
        self.batch.data_at()
    }

    /// How much data it has; 0: there is nothing to look at.
    pub fn data_bytes(&self) -> u64 {
        self.batch.data_bytes()
    }
}

/// What a meta file holds, and what is to be made of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// What its state means.
    pub verdict: Verdict,
    /// The id of the next event: exclusive end of the events that are kept.
    pub next_event_id: EventId,
    /// End of the last frame that is kept. When data that was durable is damaged: end of the chain, since nothing may
    /// be appended then.
    pub meta_end: FilePos,
    /// End of the data of the last kept batch that has any.
    pub data_end: FilePos,
    /// What the next opening for writing calls itself: higher than anything in the file.
    pub next_incarnation: u32,
    /// Exclusive end of the kept events that are known to have been durable. The others are there and count once the
    /// files are synced again.
    pub synced_end: EventId,
    /// When the last kept batch was accepted.
    pub last_timestamp_us: Option<u64>,
    /// Events kept in this segment.
    pub event_count: u64,
    /// Valid frames that are not kept, of the last life.
    pub dropped_frames: u64,
    /// Events in them.
    pub dropped_events: u64,
    /// Valid frames of earlier lives beyond the end: dropped by an earlier recovery.
    pub stale_frames: u64,
    /// Where the kept events are.
    pub index: SparseIndex,
    /// The producers of the kept batches, on top of those the scan began with.
    pub producers: ProducerTable,
}

/// The part of the chain that is certain.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) next_event_id: EventId,
    pub(super) meta_end: FilePos,
    pub(super) data_end: FilePos,
    pub(super) last_timestamp_us: Option<u64>,
    pub(super) event_count: u64,
    pub(super) clean_mark: bool,
    pub(super) index: SparseIndex,
    pub(super) producers: ProducerTable,
}

impl Kept {
    pub(super) fn new(base: EventId, producers: ProducerTable) -> Self {
        Self {
            next_event_id: base,
            meta_end: FilePos::FIRST,
            data_end: FilePos::FIRST,
            last_timestamp_us: None,
            event_count: 0,
            clean_mark: false,
            index: SparseIndex::default(),
            producers,
        }
    }

    pub(super) fn add(&mut self, frame: &UnvouchedFrame) {
        let batch = &frame.batch;
        assert_eq!(
            batch.base_event_id(),
            self.next_event_id,
            "frames are kept in order"
        );
        self.next_event_id = batch.end_event_id();
        self.meta_end = frame.meta_at.plus(batch.frame_bytes());
        if batch.data_bytes() > 0 {
            self.data_end = batch.data_at().plus(batch.data_bytes());
        }
        self.clean_mark = batch.is_clean_mark();
        if !batch.is_mark() {
            self.last_timestamp_us = Some(batch.timestamp_us());
            self.event_count = self.event_count.saturating_add(batch.event_count().into());
            self.index.note(
                batch.base_event_id(),
                frame.meta_at,
                batch.frame_bytes(),
                batch.timestamp_us(),
            );
            self.producers.note_batch(batch);
        }
    }
}
