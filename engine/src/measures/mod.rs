//! What a shard counts while it works, and what it tells of that.
//!
//! Each shard counts in plain cells of its own, so that counting costs an addition and no core waits for another one. Who
//! wants to know asks every shard for a copy ([`snapshot`]); what is printed of it is the business of `crate::monitor`.

mod histogram;
mod partition;
mod shard;
pub mod snapshot;

pub use histogram::{BOUNDS_US, BUCKETS, Histogram, HistogramValues};
pub use partition::PartitionCounts;
pub(crate) use partition::PartitionMeasures;
pub use shard::ShardCounts;
pub(crate) use shard::ShardMeasures;

use std::cell::Cell;

/// A count that only grows. It wraps after 2^64, which nobody lives to see.
#[derive(Debug, Default)]
pub(crate) struct Count(Cell<u64>);

impl Count {
    /// So many more.
    #[inline]
    pub(crate) fn add(&self, more: u64) {
        self.0.set(self.0.get().wrapping_add(more));
    }

    /// So many so far.
    pub(crate) fn get(&self) -> u64 {
        self.0.get()
    }
}
