//! What a producer counts.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::error::DeliveryError;
use crate::promise::lock;

/// What became of the events of a producer that was closed: each of them was acknowledged or failed, for one reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProducerReport {
    /// Events that `push` took.
    pub pushed: u64,
    /// Those that a node acknowledged.
    pub acknowledged: u64,
    /// Those that failed.
    pub failed: u64,
    /// The failed ones by reason, as [`DeliveryError::reason`] names it: the name of the node's error code, `unreachable`, `timed_out`, `gone`;
    /// of a loose producer also what `push` of a strict one would have said, as `rejected`.
    pub failed_by_reason: BTreeMap<String, u64>,
    /// Failed ones that may be stored all the same ([`DeliveryError::may_be_stored`]).
    pub may_be_stored: u64,
}

/// What a producer has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProducerStats {
    /// Events that `push` took.
    pub events: u64,
    /// Bytes of their metadata and data.
    pub bytes: u64,
    /// Batches that were sent, each counted once.
    pub batches: u64,
    /// Batches that were sent again.
    pub resent: u64,
    /// Events that were acknowledged.
    pub acknowledged: u64,
    /// Events that failed.
    pub failed: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    events: AtomicU64,
    bytes: AtomicU64,
    batches: AtomicU64,
    resent: AtomicU64,
    acknowledged: AtomicU64,
    failed: AtomicU64,
    may_be_stored: AtomicU64,
    failed_by_reason: Mutex<BTreeMap<String, u64>>,
    closed: AtomicBool,
}

// Relaxed everywhere: each is a count of its own, read for people.
impl Counters {
    /// `push` took an event.
    pub(super) fn pushed(&self) {
        self.events.fetch_add(1, Ordering::Relaxed);
    }

    /// An event found its batch.
    pub(super) fn gathered(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn sent(&self, again: bool) {
        let counter = if again { &self.resent } else { &self.batches };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn acknowledged(&self, events: u32) {
        self.acknowledged.fetch_add(events.into(), Ordering::Relaxed);
    }

    pub(super) fn failed(&self, events: u32, error: &DeliveryError) {
        self.failed.fetch_add(events.into(), Ordering::Relaxed);
        if error.may_be_stored() {
            self.may_be_stored.fetch_add(events.into(), Ordering::Relaxed);
        }
        *lock(&self.failed_by_reason)
            .entry(error.reason().to_owned())
            .or_default() += u64::from(events);
    }

    /// Queues that are made later are closed from the beginning.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(super) fn report(&self) -> ProducerReport {
        ProducerReport {
            pushed: self.events.load(Ordering::Relaxed),
            acknowledged: self.acknowledged.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            failed_by_reason: lock(&self.failed_by_reason).clone(),
            may_be_stored: self.may_be_stored.load(Ordering::Relaxed),
        }
    }

    pub(super) fn stats(&self) -> ProducerStats {
        ProducerStats {
            events: self.events.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            batches: self.batches.load(Ordering::Relaxed),
            resent: self.resent.load(Ordering::Relaxed),
            acknowledged: self.acknowledged.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
        }
    }
}

/// How many producers of a topic said that they are done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducersDone {
    /// Those that said so, this one among them.
    pub done: u32,
    /// Those that the topic expects: it is complete when they are equal.
    pub expected: u32,
}
