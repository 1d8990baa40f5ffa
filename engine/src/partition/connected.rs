//! Who reads a partition now, and what finding events costs.

use super::Partition;
use crate::io::Io;

impl<I: Io> Partition<I> {
    /// Notes that a consumer of this name reads here now, or one less.
    pub(crate) fn connect(&self, consumer: &str, more: bool) {
        let mut connected = self.connected.borrow_mut();
        let count = connected.entry(consumer.to_owned()).or_insert(0);
        *count = if more { *count + 1 } else { count.saturating_sub(1) };
        if *count == 0 {
            connected.remove(consumer);
        }
    }

    /// How many subscriptions of this consumer's name are open.
    pub(crate) fn connected(&self, consumer: &str) -> usize {
        self.connected.borrow().get(consumer).copied().unwrap_or(0)
    }

    /// Names of consumers that read here now.
    pub(crate) fn connected_names(&self) -> Vec<String> {
        self.connected.borrow().keys().cloned().collect()
    }

    /// Bytes of memory that it takes to know where the stored events are.
    pub fn index_bytes(&self) -> u64 {
        self.store.as_ref().map_or(0, super::store::Store::index_bytes)
    }
}
