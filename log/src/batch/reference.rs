//! What an event has in place of data of its own: which part of another event's data is meant.
//!
//! It stands right behind the event's metadata, under the same checksum, so that it travels wherever the metadata does:
//!
//! ```text
//! at  0               16          24          32              40        48               56
//!     partition uuid  data_bytes  base_bytes  location_bytes  event_id  selection_count  selections
//! ```
//!
//! From 16 on it is a serialized data descriptor whose location is an event id. What the selections are is known to those
//! who serve data; here they are bytes.

use bytemuck::{Pod, Zeroable};
use uuid::Uuid;

use crate::ids::EventId;
use crate::le::Le64;
use crate::limits::{EVENT_DATA_BYTES_MAX, EVENT_ID_END};

/// Bytes of a reference without selections.
pub const REFERENCE_HEAD_BYTES: usize = 56;
/// Bytes of a location that is an event id.
const LOCATION_BYTES: u64 = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
struct StoredReference {
    partition: [u8; 16],
    data_bytes: Le64,
    base_bytes: Le64,
    location_bytes: Le64,
    event_id: Le64,
    selection_count: Le64,
}

const _: () = {
    assert!(size_of::<StoredReference>() == REFERENCE_HEAD_BYTES && align_of::<StoredReference>() == 1);
    assert!(std::mem::offset_of!(StoredReference, data_bytes) == 16);
    assert!(std::mem::offset_of!(StoredReference, event_id) == 40);
};

/// A reference, checked as far as its head goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reference<'a> {
    head: StoredReference,
    bytes: &'a [u8],
}

impl<'a> Reference<'a> {
    /// Looks at the head of a reference.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(bytes: &'a [u8]) -> Result<Self, &'static str> {
        let head = bytes.get(..REFERENCE_HEAD_BYTES).ok_or("it ends early")?;
        let head: StoredReference = bytemuck::pod_read_unaligned(head);
        if head.location_bytes.get() != LOCATION_BYTES {
            return Err("its location is not an event id");
        }
        if head.event_id.get() >= EVENT_ID_END {
            return Err("its event id is beyond the last that there can be");
        }
        if head.base_bytes.get() > EVENT_DATA_BYTES_MAX {
            return Err("no event has so much data");
        }
        if head.data_bytes.get() == 0 || head.data_bytes.get() > head.base_bytes.get() {
            return Err("it selects nothing, or more than there is");
        }
        Ok(Self { head, bytes })
    }

    /// The partition of the event that it refers to.
    pub fn partition(&self) -> Uuid {
        Uuid::from_bytes(self.head.partition)
    }

    /// The event that it refers to.
    pub fn event_id(&self) -> EventId {
        EventId::new(self.head.event_id.get())
    }

    /// Bytes that it selects: never 0.
    pub fn data_bytes(&self) -> u64 {
        self.head.data_bytes.get()
    }

    /// Bytes of all data of the event that it refers to.
    pub fn base_bytes(&self) -> u64 {
        self.head.base_bytes.get()
    }

    /// All of it, as it is stored.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }
}
