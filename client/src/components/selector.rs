//! Which partition an event goes to.

use std::sync::atomic::{AtomicUsize, Ordering};

use mofka_net::control::PartitionInfo;
use serde_json::Value;

use super::Config;
use crate::error::BoxError;
use crate::metadata::Metadata;

/// Chooses the partition of an event. Called by `push`, on the pushing thread; for a loose producer
/// ([`Ordering::Loose`](crate::Ordering::Loose)) on the threads of its pool. One for each topic handle.
pub trait PartitionSelector: Send + Sync {
    /// The index of the partition.
    ///
    /// # Errors
    /// Why there is none: `push` fails with it, as it does after a panic and for an index that no partition has.
    fn select(&self, event: &Selection<'_>) -> Result<usize, BoxError>;
}

/// What a partition selector may look at.
#[derive(Debug)]
pub struct Selection<'a> {
    /// The event's metadata.
    pub metadata: &'a Metadata,
    /// The partition that the producer asked for. A selector may take it as it likes.
    pub requested: Option<usize>,
    /// The topic's partitions, by index; at least one.
    pub partitions: &'a [PartitionInfo],
}

impl Selection<'_> {
    /// The requested partition modulo their number.
    fn requested(&self) -> Option<usize> {
        self.requested?.checked_rem(self.partitions.len())
    }
}

/// One after the other, without those that are known to be complete; the requested one, when there is one.
#[derive(Debug, Default)]
pub(super) struct InTurn {
    next: AtomicUsize,
}

impl InTurn {
    fn next(&self, partitions: &[PartitionInfo]) -> usize {
        let turn = || {
            let turn = self.next.fetch_add(1, Ordering::Relaxed);
            turn.checked_rem(partitions.len()).unwrap_or(0)
        };
        let first = turn();
        let is_open = |place: &usize| {
            partitions
                .get(*place)
                .is_some_and(|partition| !partition.complete)
        };
        // When all are complete, the node says so.
        std::iter::once(first)
            .chain((1..partitions.len()).map(|_| turn()))
            .find(is_open)
            .unwrap_or(first)
    }
}

impl PartitionSelector for InTurn {
    fn select(&self, event: &Selection<'_>) -> Result<usize, BoxError> {
        let requested = event.requested();
        Ok(requested.unwrap_or_else(|| self.next(event.partitions)))
    }
}

/// By the value at a place of the metadata (`key`, a dotted path): events with equal values are in one partition, as long as the
/// number of partitions stays. What has nothing there goes in turn; what is requested is honoured.
///
/// The value's compact JSON text is hashed with CRC-32 (IEEE), modulo the number of partitions: the same everywhere and for ever.
#[derive(Debug)]
pub(super) struct KeyHash {
    path: Vec<String>,
    others: InTurn,
}

impl KeyHash {
    pub(super) fn new(config: &Config) -> Result<Self, BoxError> {
        let key = match config.get("key") {
            Some(Value::String(key)) if !key.is_empty() => key,
            Some(other) => {
                return Err(format!("\"key\" has to be a path like \"detector.id\", and is {other}").into());
            }
            None => return Err("there is no \"key\": the path of a field, like \"detector.id\"".into()),
        };
        Ok(Self {
            path: key.split('.').map(str::to_owned).collect(),
            others: InTurn::default(),
        })
    }
}

impl PartitionSelector for KeyHash {
    fn select(&self, event: &Selection<'_>) -> Result<usize, BoxError> {
        if let Some(requested) = event.requested() {
            return Ok(requested);
        }
        let partitions = event.partitions.len();
        let mut value = Some(event.metadata.value());
        for name in &self.path {
            value = value.and_then(|value| value.get(name));
        }
        let Some(value) = value else {
            return Ok(self.others.next(event.partitions));
        };
        let hash = crc32fast::hash(value.to_string().as_bytes());
        Ok(usize::try_from(hash)?.checked_rem(partitions).unwrap_or(0))
    }
}
