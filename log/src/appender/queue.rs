//! What an appender has accepted and not planned, in sum, and how much room that may take.

use crate::ids::FilePos;
use crate::limits::BLOCK_BYTES;
use crate::width::wide;
use crate::write_plan::IN_PLACE_DATA_BYTES;

/// Where a partition's files may end when all that is queued is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    /// Of the meta file: a multiple of 4096.
    pub meta: FilePos,
    /// Of the data file: a multiple of 4096.
    pub data: FilePos,
}

/// What is queued, in sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Queue {
    batches: u64,
    frame_bytes: u64,
    data_bytes: u64,
    /// Batches whose data begins at a block boundary.
    aligned: u64,
}

impl Queue {
    pub(super) fn frame_bytes(self) -> u64 {
        self.frame_bytes
    }

    pub(super) fn data_bytes(self) -> u64 {
        self.data_bytes
    }

    pub(super) fn bytes(self) -> u64 {
        self.frame_bytes.saturating_add(self.data_bytes)
    }

    pub(super) fn with(self, frame_bytes: u64, data_bytes: u64) -> Self {
        Self {
            batches: self.batches.saturating_add(1),
            frame_bytes: self.frame_bytes.saturating_add(frame_bytes),
            data_bytes: self.data_bytes.saturating_add(data_bytes),
            aligned: self
                .aligned
                .saturating_add(u64::from(data_bytes >= IN_PLACE_DATA_BYTES)),
        }
    }

    pub(super) fn without(self, frame_bytes: u64, data_bytes: u64) -> Self {
        Self {
            batches: self.batches.saturating_sub(1),
            frame_bytes: self.frame_bytes.saturating_sub(frame_bytes),
            data_bytes: self.data_bytes.saturating_sub(data_bytes),
            aligned: self
                .aligned
                .saturating_sub(u64::from(data_bytes >= IN_PLACE_DATA_BYTES)),
        }
    }

    /// How far files that end here reach at most when all of it is written. `placed`: batches whose frames are counted in
    /// `meta_end` already, and not written.
    pub(super) fn reach(
        self,
        meta_end: FilePos,
        placed: u64,
        data_end: FilePos,
        commit_bytes_max: u64,
    ) -> Reach {
        // Each write may leave a block that is not full. Of two writes that follow each other, at least one is as
        // large as it may be, or else they were one. Frames follow the writes of the data, and may be parted again.
        let full = self.bytes().checked_div(commit_bytes_max.max(1)).unwrap_or(0);
        let writes = full.saturating_mul(2).saturating_add(2);
        let (meta_writes, data_writes) = (
            writes
                .saturating_mul(2)
                .saturating_add(placed)
                .min(self.batches.saturating_add(placed)),
            writes.min(self.batches),
        );
        let padding = |count: u64| count.saturating_mul(wide(BLOCK_BYTES));
        let meta = self.frame_bytes.saturating_add(padding(meta_writes));
        let data = match self.data_bytes {
            0 => 0,
            bytes => bytes
                .saturating_add(padding(data_writes))
                .saturating_add(padding(self.aligned)),
        };
        Reach {
            meta: meta_end.plus(meta).block_up(),
            data: data_end.plus(data).block_up(),
        }
    }
}
