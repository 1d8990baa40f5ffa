//! Cursors: where each named consumer goes on. A cursors file is a meta file whose events are these records.
//!
//! ```text
//! at  0              8             16     18          20        24
//!     next_event_id  timestamp_us  flags  name_bytes  reserved  consumer's name, UTF-8
//! ```
//!
//! The last record of a name is in force.

use std::collections::BTreeMap;

use bytemuck::{Pod, Zeroable};

use crate::ids::EventId;
use crate::le::{Le16, Le64};
use crate::limits::EVENT_ID_END;
use crate::name::{NameError, check_consumer_name};
use crate::width::wide;

const HEADER_BYTES: usize = 24;
/// The cursor was removed.
const REMOVED: u16 = 1;

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct StoredCursor {
    next_event_id: Le64,
    timestamp_us: Le64,
    flags: Le16,
    name_bytes: Le16,
    reserved: [u8; 4],
}

const _: () = {
    assert!(size_of::<StoredCursor>() == HEADER_BYTES && align_of::<StoredCursor>() == 1);
    assert!(std::mem::offset_of!(StoredCursor, flags) == 16);
    assert!(std::mem::offset_of!(StoredCursor, reserved) == 20);
};

/// One change of one cursor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CursorRecord {
    /// The consumer's name: 1 to 256 bytes.
    pub name: String,
    /// Its next event; everything before is acknowledged.
    pub next_event_id: EventId,
    /// When that was: Unix time in microseconds.
    pub timestamp_us: u64,
    /// The cursor is no more.
    pub removed: bool,
}

/// Why bytes are not a cursor record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CursorRecordError {
    /// They are too few or too many.
    #[error("a cursor record has {have_bytes} bytes instead of {need_bytes}")]
    Length {
        /// Bytes that are there.
        have_bytes: u64,
        /// Bytes there should be.
        need_bytes: u64,
    },
    /// Flags without meaning.
    #[error("a cursor record has flags {found:#06x}, and only 1 (removed) has a meaning")]
    Flags {
        /// The flags.
        found: u16,
    },
    /// Bytes that are to be zero are not.
    #[error("reserved bytes of a cursor record are not zero")]
    Reserved,
    /// An event id that cannot be.
    #[error("a cursor at event {found} is beyond what is possible")]
    EventId {
        /// What it says.
        found: u64,
    },
    /// The name is not text.
    #[error("the consumer's name in a cursor record is not UTF-8")]
    NotText,
    /// The name is none.
    #[error("in a cursor record: {0}")]
    Name(#[from] NameError),
}

impl CursorRecord {
    /// The record as it is stored.
    ///
    /// # Panics
    /// When the name is empty or longer than 256 bytes: check names that come from outside with
    /// [`check_consumer_name`].
    pub fn encode(&self) -> Vec<u8> {
        let name = check_consumer_name(&self.name);
        assert!(name.is_ok(), "a cursor is stored under a checked name: {name:?}");
        let stored = StoredCursor {
            next_event_id: self.next_event_id.get().into(),
            timestamp_us: self.timestamp_us.into(),
            flags: if self.removed { REMOVED } else { 0 }.into(),
            name_bytes: u16::try_from(self.name.len()).unwrap_or(u16::MAX).into(),
            reserved: [0; 4],
        };
        [bytemuck::bytes_of(&stored), self.name.as_bytes()].concat()
    }

    /// Reads a record, without a byte after it. Its checksum is that of the event's metadata, and was checked.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(bytes: &[u8]) -> Result<Self, CursorRecordError> {
        let length = |need: usize| CursorRecordError::Length {
            have_bytes: wide(bytes.len()),
            need_bytes: wide(need),
        };
        let (header, name) = bytes
            .split_at_checked(HEADER_BYTES)
            .ok_or_else(|| length(HEADER_BYTES))?;
        let stored: StoredCursor = bytemuck::pod_read_unaligned(header);
        let flags = stored.flags.get();
        if flags & !REMOVED != 0 {
            return Err(CursorRecordError::Flags { found: flags });
        }
        if stored.reserved != [0; 4] {
            return Err(CursorRecordError::Reserved);
        }
        if stored.next_event_id.get() >= EVENT_ID_END {
            return Err(CursorRecordError::EventId {
                found: stored.next_event_id.get(),
            });
        }
        let name_bytes = usize::from(stored.name_bytes.get());
        if name.len() != name_bytes {
            return Err(length(HEADER_BYTES.saturating_add(name_bytes)));
        }
        let name = std::str::from_utf8(name).map_err(|_| CursorRecordError::NotText)?;
        check_consumer_name(name)?;
        Ok(Self {
            name: name.to_owned(),
            next_event_id: EventId::new(stored.next_event_id.get()),
            timestamp_us: stored.timestamp_us.get(),
            removed: flags & REMOVED != 0,
        })
    }

    fn stored_bytes(name: &str) -> u64 {
        wide(HEADER_BYTES).saturating_add(wide(name.len()))
    }
}

/// The cursors of a partition: the last record of each name. Whether a cursor may move back is the engine's to decide.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cursors {
    by_name: BTreeMap<String, (EventId, u64)>,
    snapshot_bytes: u64,
}

impl Cursors {
    /// Puts a record in force.
    pub fn apply(&mut self, record: &CursorRecord) {
        let bytes = CursorRecord::stored_bytes(&record.name);
        if record.removed {
            if self.by_name.remove(&record.name).is_some() {
                self.snapshot_bytes = self.snapshot_bytes.saturating_sub(bytes);
            }
            return;
        }
        let place = (record.next_event_id, record.timestamp_us);
        match self.by_name.get_mut(&record.name) {
            Some(known) => *known = place,
            None => {
                self.by_name.insert(record.name.clone(), place);
                self.snapshot_bytes = self.snapshot_bytes.saturating_add(bytes);
            }
        }
    }

    /// Where this consumer goes on, if it ever acknowledged anything.
    pub fn get(&self, name: &str) -> Option<EventId> {
        self.by_name.get(name).map(|(next, _)| *next)
    }

    /// Every consumer and its next event, in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, EventId)> {
        self.by_name
            .iter()
            .map(|(name, (next, _))| (name.as_str(), *next))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Records that give this table again.
    pub fn snapshot(&self) -> Vec<CursorRecord> {
        let record = |(name, (next, us)): (&String, &(EventId, u64))| CursorRecord {
            name: name.clone(),
            next_event_id: *next,
            timestamp_us: *us,
            removed: false,
        };
        self.by_name.iter().map(record).collect()
    }

    /// Bytes of these records, without encoding them.
    pub fn snapshot_bytes(&self) -> u64 {
        self.snapshot_bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(name: &str, next: u64, removed: bool) -> CursorRecord {
        CursorRecord {
            name: name.to_owned(),
            next_event_id: EventId::new(next),
            timestamp_us: 5,
            removed,
        }
    }

    #[test]
    fn golden_bytes() {
        let hex: String = record("ab", 0x102, true)
            .encode()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(
            hex,
            "02010000000000000500000000000000010002000000000061".to_owned() + "62"
        );
    }

    #[test]
    fn bad_records_are_refused_with_the_reason() {
        let good = record("ab", 1, false).encode();
        let changed = |at: usize, value: u8| {
            let mut bytes = good.clone();
            bytes[at] = value;
            CursorRecord::check(&bytes).unwrap_err()
        };
        assert_eq!(changed(16, 2), CursorRecordError::Flags { found: 2 });
        assert_eq!(changed(23, 1), CursorRecordError::Reserved);
        assert_eq!(
            changed(7, 0x80),
            CursorRecordError::EventId { found: (1 << 63) + 1 }
        );
        assert_eq!(
            changed(18, 3),
            CursorRecordError::Length {
                have_bytes: 26,
                need_bytes: 27
            }
        );
        assert_eq!(changed(25, 0xff), CursorRecordError::NotText);
        let short = CursorRecordError::Length {
            have_bytes: 23,
            need_bytes: 24,
        };
        assert_eq!(CursorRecord::check(&good[..23]), Err(short));
        let mut nameless = good[..24].to_vec();
        nameless[18] = 0;
        assert!(matches!(
            CursorRecord::check(&nameless),
            Err(CursorRecordError::Name(NameError::Empty { .. }))
        ));
    }

    #[test]
    fn the_last_record_is_in_force() {
        let mut cursors = Cursors::default();
        for record in [
            record("b", 5, false),
            record("a", 7, false),
            record("b", 3, false),
            record("c", 1, false),
        ] {
            cursors.apply(&record);
        }
        cursors.apply(&record("c", 0, true));
        cursors.apply(&record("never", 0, true));
        assert_eq!(
            cursors.iter().collect::<Vec<_>>(),
            [("a", EventId::new(7)), ("b", EventId::new(3))]
        );
        assert_eq!(
            (cursors.get("b"), cursors.get("c"), cursors.len()),
            (Some(EventId::new(3)), None, 2)
        );
        assert_eq!(cursors.snapshot_bytes(), 50);
    }

    #[test]
    #[should_panic(expected = "a cursor is stored under a checked name")]
    fn an_unchecked_name_is_our_mistake() {
        record("", 0, false).encode();
    }

    proptest! {
        #[test]
        fn what_was_stored_is_read(name in "\\PC{1,60}", next in 0_u64..1 << 63, timestamp_us: u64, removed: bool) {
            let record = CursorRecord { name, next_event_id: EventId::new(next), timestamp_us, removed };
            prop_assert_eq!(CursorRecord::check(&record.encode()).unwrap(), record);
        }

        #[test]
        fn check_never_panics(bytes: Vec<u8>) {
            CursorRecord::check(&bytes).ok();
        }

        #[test]
        fn a_snapshot_gives_the_table_again(changes in prop::collection::vec(("[a-e]{1,2}", 0_u64..99, any::<bool>()), 0..60)) {
            let mut cursors = Cursors::default();
            for (name, next, removed) in changes {
                cursors.apply(&record(&name, next, removed));
            }
            let mut again = Cursors::default();
            let snapshot = cursors.snapshot();
            for record in &snapshot {
                again.apply(record);
            }
            prop_assert_eq!(&again, &cursors);
            let bytes: usize = snapshot.iter().map(|record| record.encode().len()).sum();
            prop_assert_eq!(cursors.snapshot_bytes(), bytes as u64);
        }
    }
}
