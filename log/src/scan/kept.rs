//! What a scan keeps, and what it tells in the end.

use crate::batch::Batch;
use crate::ids::{EventId, FilePos};
use crate::index::SparseIndex;
use crate::producers::ProducerTable;
use crate::verdict::Verdict;
use crate::write_plan::{FileTail, WritePlan};

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
    /// End of the last byte of the meta file that is not zero; `meta_end` when nothing follows it.
    pub residue_end: FilePos,
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

/// Bytes of one write of a cut, so that a tail of any length is cut with bounded memory.
const CUT_BYTES_MAX: u64 = 1 << 20;

impl Recovered {
    /// The writes that carry out the cut: zeros over everything from `meta_end` to `residue_end`. To be done and synced
    /// before [`crate::Appender::resume`]; a stop in between changes nothing that is kept, and the next recovery gives
    /// the same. None when nothing follows the end; none either when the file is damaged, since what follows is then
    /// evidence and a person decides.
    ///
    /// `meta_tail`: the meta file's bytes from the start of the block of `meta_end` up to there.
    ///
    /// # Panics
    /// When `meta_tail` has another length.
    pub fn cut(&self, meta_tail: &[u8]) -> impl Iterator<Item = WritePlan> {
        let end = if self.verdict.is_damaged() {
            self.meta_end
        } else {
            self.residue_end
        };
        let mut tail = FileTail::resume(self.meta_end, meta_tail.to_vec());
        std::iter::from_fn(move || {
            let left = end.since(tail.end());
            (left > 0).then(|| {
                // The first write goes to a block boundary with the rest of the partial block, the others with blocks.
                let bytes = left.min(CUT_BYTES_MAX.saturating_sub(tail.end().in_block_bytes()));
                let plan = tail.zeros(bytes);
                assert!(
                    plan.total_bytes() <= CUT_BYTES_MAX,
                    "{} bytes of zeros at once",
                    plan.total_bytes()
                );
                plan
            })
        })
    }
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
