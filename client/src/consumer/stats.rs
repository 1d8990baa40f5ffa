//! What a consumer has done so far.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts of a consumer, since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConsumerStats {
    /// Events that were handed to pulls, or failed in their place.
    pub events: u64,
    /// Feeds that came.
    pub feeds: u64,
    /// Bytes of these feeds: metadata, data that came along, and what is around them.
    pub feed_bytes: u64,
    /// Requests for data.
    pub fetches: u64,
    /// Bytes of the answers to these.
    pub fetched_bytes: u64,
    /// Events that it will never get, because retention dropped them before they were sent.
    pub missed: u64,
}

#[derive(Default)]
pub(super) struct Counters {
    events: AtomicU64,
    feeds: AtomicU64,
    feed_bytes: AtomicU64,
    fetches: AtomicU64,
    fetched_bytes: AtomicU64,
    missed: AtomicU64,
}

impl Counters {
    pub(super) fn feed(&self, bytes: usize) {
        self.feeds.fetch_add(1, Ordering::Relaxed);
        self.feed_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn fetched(&self, bytes: usize) {
        self.fetches.fetch_add(1, Ordering::Relaxed);
        self.fetched_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn events(&self, count: usize) {
        self.events.fetch_add(count as u64, Ordering::Relaxed);
    }

    pub(super) fn missed(&self, count: u64) {
        self.missed.fetch_add(count, Ordering::Relaxed);
    }

    pub(super) fn stats(&self) -> ConsumerStats {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ConsumerStats {
            events: load(&self.events),
            feeds: load(&self.feeds),
            feed_bytes: load(&self.feed_bytes),
            fetches: load(&self.fetches),
            fetched_bytes: load(&self.fetched_bytes),
            missed: load(&self.missed),
        }
    }
}
