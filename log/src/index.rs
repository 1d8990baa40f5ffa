//! Where events are in a meta file, roughly: one entry for every 64 KiB of frames or more.
//!
//! Derived from the frames and never trusted: a lookup says where to begin to read, and what is read there is checked.
//!
//! ```text
//! entry, 24 bytes:  0         8    16
//!                   event_id  at   timestamp_us
//! ```

use bytemuck::{Pod, Zeroable};

use crate::ids::{EventId, FilePos};
use crate::le::Le64;
use crate::limits::{INDEX_ENTRIES_MAX, INDEX_SPACING_BYTES};
use crate::width::wide;

/// Bytes of a stored entry.
pub(crate) const INDEX_ENTRY_BYTES: usize = 24;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
struct StoredEntry {
    event_id: Le64,
    at: Le64,
    timestamp_us: Le64,
}

const _: () = {
    assert!(size_of::<StoredEntry>() == INDEX_ENTRY_BYTES && align_of::<StoredEntry>() == 1);
    assert!(std::mem::offset_of!(StoredEntry, timestamp_us) == 16);
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    event_id: EventId,
    at: FilePos,
    /// The latest of the batch and all before it: clocks go back, an index must not.
    timestamp_us: u64,
}

/// Why stored entries are not an index.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    /// The bytes are not as many as the entries.
    #[error("a sparse index of {entries} entries is in {bytes} bytes")]
    Length {
        /// Entries it should have.
        entries: u64,
        /// Bytes that are there.
        bytes: u64,
    },
    /// Entries do not follow each other.
    #[error("entry {entry} of a sparse index (event {event_id} at {at}) does not follow the one before it")]
    Order {
        /// The entry's place.
        entry: u64,
        /// Its event id.
        event_id: EventId,
        /// Its position.
        at: FilePos,
    },
}

/// A sparse index of one meta file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SparseIndex {
    entries: Vec<Entry>,
    spacing_bytes: u64,
    /// Bytes of frames since the last entry, its own included.
    since_bytes: u64,
    timestamps_us: Option<(u64, u64)>,
}

impl Default for SparseIndex {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            spacing_bytes: INDEX_SPACING_BYTES,
            since_bytes: 0,
            timestamps_us: None,
        }
    }
}

impl SparseIndex {
    /// Notes a batch of `frame_bytes` bytes at `at`. Batches are noted in the order of their ids; marks are not noted.
    ///
    /// # Panics
    /// When batches are noted out of order.
    pub fn note(&mut self, event_id: EventId, at: FilePos, frame_bytes: u64, timestamp_us: u64) {
        let (first, last) = self.timestamps_us.unwrap_or((timestamp_us, timestamp_us));
        self.timestamps_us = Some((first, last.max(timestamp_us)));
        if let Some(last) = self.entries.last() {
            assert!(
                last.event_id < event_id && last.at < at,
                "event {event_id} at {at} was noted after event {} at {}",
                last.event_id,
                last.at
            );
            if self.since_bytes < self.spacing_bytes {
                self.since_bytes = self.since_bytes.saturating_add(frame_bytes);
                return;
            }
        }
        self.entries.push(Entry {
            event_id,
            at,
            timestamp_us: last.max(timestamp_us),
        });
        self.since_bytes = frame_bytes;
        if self.entries.len() > INDEX_ENTRIES_MAX {
            self.thin_out();
        }
    }

    /// The bound is kept by halving the resolution: a lookup in a huge segment reads a little more.
    fn thin_out(&mut self) {
        let mut keep = false;
        self.entries.retain(|_| {
            keep = !keep;
            keep
        });
        self.spacing_bytes = self.spacing_bytes.saturating_mul(2);
        assert!(
            self.entries.len() < INDEX_ENTRIES_MAX,
            "{} entries after thinning out",
            self.entries.len()
        );
    }

    /// A place at or before the batch that holds `event_id`, as near as the index knows; `None` before the first entry.
    pub fn lookup(&self, event_id: EventId) -> Option<FilePos> {
        self.floor(|entry| entry.event_id <= event_id)
    }

    /// A place at or before the first batch that was accepted at `timestamp_us` or later; `None` when the index is
    /// empty.
    pub fn lookup_time(&self, timestamp_us: u64) -> Option<FilePos> {
        self.floor(|entry| entry.timestamp_us < timestamp_us)
            .or(self.entries.first().map(|entry| entry.at))
    }

    fn floor(&self, holds: impl Fn(&Entry) -> bool) -> Option<FilePos> {
        let after = self.entries.partition_point(holds);
        after
            .checked_sub(1)
            .and_then(|place| self.entries.get(place))
            .map(|entry| entry.at)
    }

    /// When the first batch was accepted, and the latest time that any was.
    pub fn timestamps_us(&self) -> Option<(u64, u64)> {
        self.timestamps_us
    }

    /// Bytes of memory that it takes.
    pub fn memory_bytes(&self) -> u64 {
        wide(size_of::<Self>())
            .saturating_add(wide(self.entries.capacity().saturating_mul(size_of::<Entry>())))
    }

    /// The entries in order: an event id, the position of its frame, the latest time of acceptance up to there.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (EventId, FilePos, u64)> {
        self.entries
            .iter()
            .map(|entry| (entry.event_id, entry.at, entry.timestamp_us))
    }

    /// Entries it has.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn encode(&self, into: &mut Vec<u8>) {
        for entry in &self.entries {
            let stored = StoredEntry {
                event_id: entry.event_id.get().into(),
                at: entry.at.get().into(),
                timestamp_us: entry.timestamp_us.into(),
            };
            into.extend_from_slice(bytemuck::bytes_of(&stored));
        }
    }

    /// Reads the entries of a footer. It is for lookups: nothing is noted in a sealed segment.
    pub(crate) fn decode(
        bytes: &[u8],
        entries: u64,
        timestamps_us: Option<(u64, u64)>,
    ) -> Result<Self, IndexError> {
        let length = IndexError::Length {
            entries,
            bytes: wide(bytes.len()),
        };
        let stored: &[StoredEntry] = bytemuck::try_cast_slice(bytes).map_err(|_| length.clone())?;
        if wide(stored.len()) != entries {
            return Err(length);
        }
        let mut index = Self {
            timestamps_us,
            ..Self::default()
        };
        for (place, stored) in (0_u64..).zip(stored) {
            let entry = Entry {
                event_id: EventId::new(stored.event_id.get()),
                at: FilePos::new(stored.at.get()),
                timestamp_us: stored.timestamp_us.get(),
            };
            let follows = index.entries.last().is_none_or(|last: &Entry| {
                last.event_id < entry.event_id
                    && last.at < entry.at
                    && last.timestamp_us <= entry.timestamp_us
            });
            if !follows || entry.at < FilePos::FIRST {
                return Err(IndexError::Order {
                    entry: place,
                    event_id: entry.event_id,
                    at: entry.at,
                });
            }
            index.entries.push(entry);
        }
        Ok(index)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Batches of 2 events and `frame_bytes` bytes each.
    fn index_of(batches: u64, frame_bytes: u64) -> SparseIndex {
        let mut index = SparseIndex::default();
        for n in 0..batches {
            index.note(
                EventId::new(2 * n),
                FilePos::new(4096 + n * frame_bytes),
                frame_bytes,
                100 + n,
            );
        }
        index
    }

    #[test]
    fn an_entry_for_every_64_kib() {
        let index = index_of(200, 1024);
        assert_eq!(index.len(), 4, "200 KiB of frames");
        let at = |id| index.lookup(EventId::new(id)).unwrap().get();
        assert_eq!(at(0), 4096);
        assert_eq!(at(127), 4096);
        assert_eq!(at(128), 4096 + 65536);
        assert_eq!(at(1_000_000), 4096 + 3 * 65536);
        assert_eq!(SparseIndex::default().lookup(EventId::new(0)), None);
    }

    #[test]
    fn an_id_before_the_first_entry_is_not_here() {
        let mut index = SparseIndex::default();
        index.note(EventId::new(10), FilePos::new(4096), 500, 1);
        assert_eq!(index.lookup(EventId::new(9)), None);
        assert_eq!(index.lookup(EventId::new(10)), Some(FilePos::new(4096)));
    }

    #[test]
    fn a_time_leads_to_a_place_before_it() {
        let index = index_of(200, 1024);
        assert_eq!(index.timestamps_us(), Some((100, 299)));
        let at = |us| index.lookup_time(us).unwrap().get();
        assert_eq!(at(0), 4096);
        assert_eq!(
            at(164),
            4096,
            "the batch at 164 has an entry, but one before it could have the same time"
        );
        assert_eq!(at(165), 4096 + 65536);
        assert_eq!(SparseIndex::default().lookup_time(5), None);
    }

    #[test]
    fn a_clock_that_goes_back_does_not_lose_events() {
        let mut index = SparseIndex::default();
        for (n, us) in [50_u64, 10, 20, 90].into_iter().enumerate() {
            index.note(
                EventId::new(n as u64),
                FilePos::new(4096 + n as u64 * 65536),
                65536,
                us,
            );
        }
        assert_eq!(index.len(), 4);
        assert_eq!(index.timestamps_us(), Some((50, 90)));
        assert_eq!(
            index.lookup_time(15),
            Some(FilePos::new(4096)),
            "the first batch is later than 15"
        );
        assert_eq!(index.lookup_time(60), Some(FilePos::new(4096 + 2 * 65536)));
    }

    #[test]
    fn it_is_bounded() {
        let index = index_of(3 * INDEX_ENTRIES_MAX as u64, 65536);
        assert!(
            index.len() <= INDEX_ENTRIES_MAX && index.len() > INDEX_ENTRIES_MAX / 2,
            "{}",
            index.len()
        );
        assert_eq!(index.lookup(EventId::new(0)), Some(FilePos::new(4096)));
        let last = index.lookup(EventId::new(u64::MAX)).unwrap().get();
        assert!(last > 4096 + (3 * INDEX_ENTRIES_MAX as u64 - 5) * 65536);
    }

    #[test]
    #[should_panic(expected = "was noted after")]
    fn out_of_order_is_our_mistake() {
        let mut index = index_of(1, 64);
        index.note(EventId::new(0), FilePos::new(9000), 64, 1);
    }

    proptest! {
        #[test]
        fn what_was_stored_is_read(batches in 0_u64..500, frame_bytes in 128_u64..100_000) {
            let index = index_of(batches, frame_bytes);
            let mut bytes = Vec::new();
            index.encode(&mut bytes);
            let found = SparseIndex::decode(&bytes, index.len() as u64, index.timestamps_us()).unwrap();
            prop_assert_eq!(&found.entries, &index.entries);
            prop_assert_eq!(found.timestamps_us(), index.timestamps_us());
        }

        #[test]
        fn decode_never_panics(bytes: Vec<u8>, entries in 0_u64..9) {
            SparseIndex::decode(&bytes, entries, None).ok();
        }
    }
}
