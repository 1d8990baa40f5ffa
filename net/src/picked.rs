//! Some events of a batch, taken out for one consumer: those that its filter lets through, or with the part of their data that it
//! declared.
//!
//! ```text
//! header:  0              8             16           20         24              32          40            44        60          64
//!          base_event_id  timestamp_us  event_count  table_crc  metadata_bytes  data_bytes  metadata_crc  reserved  header_crc
//!                                                                                                                   (of 0..60)
//! table, for each event:
//!          0      4               8           16          24        28     32
//!          index  metadata_bytes  data_bytes  sent_bytes  data_crc  flags
//! then     metadata, data, zeros to a multiple of 8
//! flags:   1 the declared part of the data is sent; 2 the event's metadata ends with a reference and its length (4 bytes)
//! ```

use bytemuck::{Pod, Zeroable};
use bytes::{Bytes, BytesMut};
use mofka_log::le::{Le32, Le64};
use mofka_log::{EventId, Reference};

use crate::body::{BodyError, BodyReader};
use crate::width::{narrow, wide};

/// Bytes before the table.
pub const PICKED_HEADER_BYTES: usize = 64;
/// Bytes of the table for each event.
pub const PICKED_EVENT_BYTES: usize = 32;
const CHECKED_BYTES: usize = 60;
const ALIGN_BYTES: usize = 8;
/// The declared part of the data is here.
const SENT: u32 = 1;
/// The metadata ends with a reference, and the length of that.
const REFERENCE: u32 = 2;
const REFERENCE_LENGTH_BYTES: usize = 4;

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct RawPicked {
    base_event_id: Le64,
    timestamp_us: Le64,
    event_count: Le32,
    table_crc: Le32,
    metadata_bytes: Le64,
    data_bytes: Le64,
    metadata_crc: Le32,
    reserved: [u8; 16],
    header_crc: Le32,
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct RawPickedEvent {
    index: Le32,
    metadata_bytes: Le32,
    data_bytes: Le64,
    sent_bytes: Le64,
    data_crc: Le32,
    flags: Le32,
}

const _: () = {
    assert!(size_of::<RawPicked>() == PICKED_HEADER_BYTES);
    assert!(std::mem::offset_of!(RawPicked, header_crc) == CHECKED_BYTES);
    assert!(size_of::<RawPickedEvent>() == PICKED_EVENT_BYTES);
};

/// Picks events out of a batch.
#[derive(Debug)]
pub struct PickedBuilder {
    base_event_id: EventId,
    timestamp_us: u64,
    table: BytesMut,
    metadata: BytesMut,
    data: Vec<Bytes>,
    data_bytes: u64,
}

impl PickedBuilder {
    /// Of the batch that begins with this event and was accepted at this time.
    pub fn new(base_event_id: EventId, timestamp_us: u64) -> Self {
        Self {
            base_event_id,
            timestamp_us,
            table: BytesMut::new(),
            metadata: BytesMut::new(),
            data: Vec::new(),
            data_bytes: 0,
        }
    }

    /// Adds the batch's event `index`, after those before it. `data_bytes` is the size of all of its data; `sent` is the declared
    /// part and its CRC-32, when it is sent along.
    pub fn push(&mut self, index: u32, metadata: &[u8], data_bytes: u64, sent: Option<(Bytes, u32)>) {
        let (sent_bytes, data_crc) = sent
            .as_ref()
            .map_or((0, 0), |(bytes, crc)| (wide(bytes.len()), *crc));
        let raw = RawPickedEvent {
            index: Le32::from(index),
            // A batch's own table has no more bits for it.
            metadata_bytes: Le32::from(u32::try_from(metadata.len()).unwrap_or(u32::MAX)),
            data_bytes: Le64::from(data_bytes),
            sent_bytes: Le64::from(sent_bytes),
            data_crc: Le32::from(data_crc),
            flags: Le32::from(if sent.is_some() { SENT } else { 0 }),
        };
        self.table.extend_from_slice(bytemuck::bytes_of(&raw));
        self.metadata.extend_from_slice(metadata);
        if let Some((bytes, _)) = sent {
            self.data_bytes = self.data_bytes.saturating_add(sent_bytes);
            self.data.push(bytes);
        }
    }

    /// Adds the batch's event `index`, which refers to data of another event, after those before it.
    pub fn push_reference(&mut self, index: u32, metadata: &[u8], reference: Reference<'_>) {
        let length = u32::try_from(reference.bytes().len()).unwrap_or(u32::MAX);
        let all = [metadata, reference.bytes(), &length.to_le_bytes()].concat();
        let raw = RawPickedEvent {
            index: Le32::from(index),
            metadata_bytes: Le32::from(u32::try_from(all.len()).unwrap_or(u32::MAX)),
            data_bytes: Le64::from(reference.data_bytes()),
            sent_bytes: Le64::from(0),
            data_crc: Le32::from(0),
            flags: Le32::from(REFERENCE),
        };
        self.table.extend_from_slice(bytemuck::bytes_of(&raw));
        self.metadata.extend_from_slice(&all);
    }

    /// Whether nothing was picked.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// The item as it is sent, in pieces.
    pub fn finish(self) -> Vec<Bytes> {
        let event_count = self.table.len().checked_div(PICKED_EVENT_BYTES).unwrap_or(0);
        let mut raw = RawPicked {
            base_event_id: Le64::from(self.base_event_id.get()),
            timestamp_us: Le64::from(self.timestamp_us),
            event_count: Le32::from(u32::try_from(event_count).unwrap_or(u32::MAX)),
            table_crc: Le32::from(crc32fast::hash(&self.table)),
            metadata_bytes: Le64::from(wide(self.metadata.len())),
            data_bytes: Le64::from(self.data_bytes),
            metadata_crc: Le32::from(crc32fast::hash(&self.metadata)),
            reserved: [0; 16],
            header_crc: Le32::from(0),
        };
        let checked = bytemuck::bytes_of(&raw).get(..CHECKED_BYTES).unwrap_or_default();
        raw.header_crc = Le32::from(crc32fast::hash(checked));
        let pad = pad(wide(self.metadata.len()), self.data_bytes);
        let zeros: &'static [u8] = &[0; ALIGN_BYTES];
        let mut pieces = vec![
            Bytes::copy_from_slice(bytemuck::bytes_of(&raw)),
            self.table.freeze(),
            self.metadata.freeze(),
        ];
        pieces.extend(self.data);
        pieces.push(Bytes::from_static(zeros.get(..pad).unwrap_or_default()));
        pieces
    }
}

fn pad(metadata_bytes: u64, data_bytes: u64) -> usize {
    let beyond = narrow(metadata_bytes.wrapping_add(data_bytes)) & ALIGN_BYTES.wrapping_sub(1);
    ALIGN_BYTES.wrapping_sub(beyond) & ALIGN_BYTES.wrapping_sub(1)
}

/// Picked events of one batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picked {
    /// When the node accepted the batch: Unix time in microseconds.
    pub timestamp_us: u64,
    /// The events, ascending.
    pub events: Vec<PickedEvent>,
}

/// An event that was picked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PickedEvent {
    /// Its id.
    pub id: EventId,
    /// Its metadata.
    pub metadata: Bytes,
    /// The size of all of its data, or of what it refers to.
    pub data_bytes: u64,
    /// What it refers to in place of data of its own: a serialized [`crate::DataReference`], whose head was checked.
    pub reference: Option<Bytes>,
    /// The declared part of its data, when it came along and checks.
    pub data: Option<Bytes>,
}

impl Picked {
    /// Takes an item off the front of a body, without copying.
    pub(crate) fn check(reader: &mut BodyReader) -> Result<Self, BodyError> {
        let raw: RawPicked = reader.pod()?;
        let checked = bytemuck::bytes_of(&raw).get(..CHECKED_BYTES).unwrap_or_default();
        reader.checksum(checked, raw.header_crc.get())?;
        reader.reserved(&raw.reserved)?;
        let event_count = raw.event_count.get();
        let table = reader.take(u64::from(event_count).saturating_mul(wide(PICKED_EVENT_BYTES)))?;
        reader.checksum(&table, raw.table_crc.get())?;
        let mut metadata = reader.take(raw.metadata_bytes.get())?;
        reader.checksum(&metadata, raw.metadata_crc.get())?;
        let mut data = reader.take(raw.data_bytes.get())?;
        let rest = reader.take(wide(pad(raw.metadata_bytes.get(), raw.data_bytes.get())))?;
        reader.reserved(&rest)?;
        let mut events = Vec::with_capacity(narrow(u64::from(event_count)));
        let mut after = 0;
        for raw_event in table.chunks_exact(PICKED_EVENT_BYTES) {
            let event: RawPickedEvent = bytemuck::pod_read_unaligned(raw_event);
            let index = event.index.get();
            if u64::from(index) < after {
                return Err(reader.invalid("index", index.into(), "events are picked in their order"));
            }
            after = u64::from(index).saturating_add(1);
            let id = raw.base_event_id.get().checked_add(index.into());
            let id = id.ok_or_else(|| reader.invalid("index", index.into(), "event ids have 64 bits"))?;
            let metadata = cut(&mut metadata, event.metadata_bytes.get().into());
            let mut metadata = metadata.ok_or_else(|| {
                reader.invalid("metadata_bytes", event.metadata_bytes.get().into(), "it fits")
            })?;
            let sent_bytes = event.sent_bytes.get();
            let sent = cut(&mut data, sent_bytes);
            let sent = sent.ok_or_else(|| reader.invalid("sent_bytes", sent_bytes, "it fits"))?;
            let is_sent = match event.flags.get() {
                0 | REFERENCE if sent_bytes == 0 => false,
                SENT => true,
                flags => {
                    return Err(reader.invalid(
                        "flags",
                        flags.into(),
                        "1 and 2 have a meaning, and what is sent has 1",
                    ));
                }
            };
            let reference = match event.flags.get() {
                REFERENCE => {
                    let found = cut_reference(&mut metadata, event.data_bytes.get());
                    let rule = "a reference fits, and selects as much";
                    Some(found.ok_or_else(|| reader.invalid("data_bytes", event.data_bytes.get(), rule))?)
                }
                _ => None,
            };
            events.push(PickedEvent {
                id: EventId::new(id),
                metadata,
                data_bytes: event.data_bytes.get(),
                reference,
                // What changed on the way is fetched again.
                data: (is_sent && crc32fast::hash(&sent) == event.data_crc.get()).then_some(sent),
            });
        }
        for (field, left) in [("metadata_bytes", metadata.len()), ("data_bytes", data.len())] {
            if left > 0 {
                return Err(reader.invalid(field, wide(left), "nothing is left over"));
            }
        }
        Ok(Self {
            timestamp_us: raw.timestamp_us.get(),
            events,
        })
    }
}

/// Takes the reference that selects `data_bytes` off the end of an event's metadata.
fn cut_reference(metadata: &mut Bytes, data_bytes: u64) -> Option<Bytes> {
    let length_at = metadata.len().checked_sub(REFERENCE_LENGTH_BYTES)?;
    let length = metadata.split_off(length_at);
    let length = u32::from_le_bytes(<[u8; REFERENCE_LENGTH_BYTES]>::try_from(length.as_ref()).ok()?);
    let at = metadata.len().checked_sub(narrow(length.into()))?;
    let reference = metadata.split_off(at);
    let head = Reference::check(&reference).ok()?;
    (head.data_bytes() == data_bytes).then_some(reference)
}

fn cut(bytes: &mut Bytes, count: u64) -> Option<Bytes> {
    (count <= wide(bytes.len())).then(|| bytes.split_to(narrow(count)))
}

#[cfg(test)]
mod tests;
