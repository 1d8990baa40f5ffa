//! What an appender hands out to be written, and what it tells of progress.

use std::fmt;

use crate::batch::Batch;
use crate::ids::{EventId, FilePos};
use crate::write_plan::WritePlan;

/// When a batch may be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AckAt {
    /// At once: it is in memory.
    Accepted,
    /// When it was written, in order.
    Written,
    /// When it is durable, in order.
    Synced,
}

/// The ids that a batch got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Of its first event.
    pub base_event_id: EventId,
    /// Exclusive end.
    pub end_event_id: EventId,
}

/// The chain of positions: `synced_end <= written_end <= appended_end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// Exclusive end of what is durable.
    pub synced_end: EventId,
    /// Exclusive end of what was written.
    pub written_end: EventId,
    /// Exclusive end of what has ids.
    pub appended_end: EventId,
}

/// How far a partition has come: everything before an end, without gaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Exclusive end of what was written.
    pub written_end: EventId,
    /// Exclusive end of what is durable.
    pub synced_end: EventId,
}

/// Names a commit of one appender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommitId(pub(super) u64);

impl fmt::Display for CommitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What is written and synced together: data, frames, or both.
#[derive(Clone, Debug)]
pub struct Commit {
    /// Its name, for [`written`](super::Appender::written) and [`synced`](super::Appender::synced).
    pub id: CommitId,
    /// Data; the data file is neither written nor synced without. The frames of these batches are in this commit or in a
    /// later one.
    pub data: Option<WritePlan>,
    /// Frames; the meta file is neither written nor synced without. The data of these batches is in this commit or in
    /// earlier ones.
    pub meta: Option<WritePlan>,
    /// The batches whose frames are in it, with their final stamps, in order, and where they go.
    pub batches: Vec<StoredBatch>,
    /// Exclusive end of the ids that it has anything of.
    pub end_event_id: EventId,
}

/// A batch and the place of its frame.
#[derive(Clone, Debug)]
pub struct StoredBatch {
    /// The batch, stamped.
    pub batch: Batch,
    /// Where its frame is in the meta file.
    pub meta_at: FilePos,
}
