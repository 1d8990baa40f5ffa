//! What the memory partitions of all shards of a node keep together, and how much that may be.
//!
//! Each of them has a bound of its own; this one is for their sum, so that some topics more do not end with the kernel killing
//! the node, and what all others have in memory with it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mofka_net::control::MemoryStatus;

use crate::limits::EngineLimits;
use crate::machine_memory;

/// One part in this many of the machine's memory, when the configuration does not say.
const MACHINE_PART: u64 = 2;

/// The bytes that are taken, shared by all shards. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct NodeMemory(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    used_bytes: AtomicU64,
    /// What may be taken when the limits do not say.
    default_bytes_max: Option<u64>,
}

impl NodeMemory {
    /// Of this machine, with nothing taken.
    pub(crate) fn of_this_machine() -> Self {
        Self::of_machine(machine_memory::bytes())
    }

    /// Of a machine with so much memory, with nothing taken.
    fn of_machine(bytes: Option<u64>) -> Self {
        Self(Arc::new(Shared {
            used_bytes: AtomicU64::new(0),
            default_bytes_max: bytes.map(|bytes| bytes / MACHINE_PART),
        }))
    }

    /// What may be taken by these limits; `None`: they do not say, nor does the machine.
    pub(crate) fn bytes_max(&self, limits: &EngineLimits) -> Option<u64> {
        limits.memory_bytes_max.or(self.0.default_bytes_max)
    }

    /// Bytes that are taken.
    pub(crate) fn used_bytes(&self) -> u64 {
        self.0.used_bytes.load(Ordering::Relaxed)
    }

    /// For people.
    pub(crate) fn status(&self, limits: &EngineLimits) -> MemoryStatus {
        MemoryStatus {
            used_bytes: self.used_bytes(),
            max_bytes: self.bytes_max(limits),
        }
    }

    /// Takes so much, unless more than `bytes_max` would be taken then. In one step: shards do it at the same time.
    pub(crate) fn take(&self, bytes: u64, bytes_max: Option<u64>) -> bool {
        self.exchange(0, bytes, bytes_max)
    }

    /// The same, giving back so much that was taken. When that is as much, there is room, also where the bound was lowered below what is
    /// taken.
    pub(crate) fn exchange(&self, freed_bytes: u64, bytes: u64, bytes_max: Option<u64>) -> bool {
        // The sum alone is shared, and nothing else is to be seen in its order.
        let taken = self
            .0
            .used_bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used_bytes| {
                let all_bytes = used_bytes.checked_sub(freed_bytes)?.checked_add(bytes)?;
                bytes_max
                    .is_none_or(|bytes_max| all_bytes <= bytes_max.max(used_bytes))
                    .then_some(all_bytes)
            });
        taken.is_ok()
    }

    /// Gives back what was taken.
    pub(crate) fn give_back(&self, bytes: u64) {
        self.0.used_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_machine_is_taken_when_nothing_is_said() {
        let said = EngineLimits {
            memory_bytes_max: Some(7),
            ..EngineLimits::default()
        };
        let silent = EngineLimits::default();
        let known = NodeMemory::of_machine(Some(1000));
        assert_eq!(
            (known.bytes_max(&silent), known.bytes_max(&said)),
            (Some(500), Some(7))
        );
        let unknown = NodeMemory::of_machine(None);
        assert_eq!(
            (unknown.bytes_max(&silent), unknown.bytes_max(&said)),
            (None, Some(7))
        );
    }

    #[test]
    fn no_more_is_taken_than_there_may_be_by_any_number_of_shards() {
        let memory = NodeMemory::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| while memory.take(3, Some(100_000)) {});
            }
        });
        assert_eq!(memory.used_bytes(), 99_999);
        assert!(memory.take(1, Some(100_000)) && !memory.take(1, Some(100_000)));
        assert!(!memory.take(u64::MAX, None), "no sum");
        assert!(memory.exchange(10, 10, Some(5)) && !memory.exchange(10, 11, Some(5)));
        memory.give_back(100_000);
        assert_eq!(memory.used_bytes(), 0);
    }
}
