//! That a write and the sync linked to it are taken by the kernel together.
//!
//! It takes what is queued entry by entry, and stops where it has no memory for the next one. A link ends with the submission: a sync
//! that is left for the next one is not ordered after its write any more, and would say that it is durable before it is written. Nothing
//! can be said of that write then, not even when its memory is free again, since it has no completion when it goes well. So the process
//! ends, as it does where a shard panics: what was acknowledged is in the log.

use std::process;

/// Where in the queue the writes are that a sync is linked to, in order.
#[derive(Debug, Default)]
pub(super) struct Links {
    /// How many entries of the queue there are up to each of them.
    ends: Vec<usize>,
}

impl Links {
    /// A linked write was queued, and with it there are so many entries.
    pub(super) fn queued(&mut self, end: usize) {
        self.ends.push(end);
    }

    /// The kernel took so many entries.
    pub(super) fn taken(&mut self, entries: usize) {
        if self.is_split_by(entries) {
            tracing::error!(
                "the kernel took a write without the sync that is linked to it, as it does without memory: ending the process"
            );
            process::abort();
        }
        self.ends.retain_mut(|end| {
            let is_queued = *end > entries;
            *end = end.saturating_sub(entries);
            is_queued
        });
    }

    /// Whether the last entry taken is a write whose sync was not.
    fn is_split_by(&self, entries: usize) -> bool {
        self.ends.binary_search(&entries).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_taken_without_its_sync_is_noticed_wherever_it_is() {
        let mut links = Links::default();
        // Write and sync; something else; write and sync.
        links.queued(1);
        links.queued(4);
        let splits = |links: &Links| {
            (0..=5)
                .filter(|taken| links.is_split_by(*taken))
                .collect::<Vec<_>>()
        };
        assert_eq!(splits(&links), [1, 4]);
        links.taken(0);
        links.taken(2);
        assert_eq!(splits(&links), [2], "the second, in what is left");
        links.taken(1);
        assert_eq!(splits(&links), [1]);
        links.queued(4);
        assert_eq!(splits(&links), [1, 4]);
        links.taken(5);
        assert!(splits(&links).is_empty());
    }
}
