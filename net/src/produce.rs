//! A batch on its way to a partition.
//!
//! ```text
//! at  0               16          17        28          32
//!     partition uuid  durability  reserved  prefix_crc  batch frame, then the batch's data
//!                     0 topic's             (of 0..28)
//! ```

use bytemuck::{Pod, Zeroable};
use bytes::Bytes;
use mofka_log::le::{Le32, Le64};
use mofka_log::{BatchHeader, Durability, EventId, frame_bytes_hint};
use uuid::Uuid;

use crate::body::{BodyError, BodyReader};

/// Bytes of the answer to a produce request.
pub const PRODUCE_RESPONSE_BYTES: usize = 16;

/// Bytes before the batch frame.
pub const PRODUCE_PREFIX_BYTES: usize = 32;
const CHECKED_BYTES: usize = 28;
const WHAT: &str = "produce request";
const BATCH_HEADER_BYTES: usize = 128;
/// Bytes of the body's beginning that [`produce_data_at`] looks at.
pub const PRODUCE_HINT_BYTES: usize = PRODUCE_PREFIX_BYTES + BATCH_HEADER_BYTES;
const DUPLICATE: u32 = 1;

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct RawPrefix {
    partition: [u8; 16],
    durability: u8,
    reserved: [u8; 11],
    prefix_crc: Le32,
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct RawResponse {
    base_event_id: Le64,
    event_count: Le32,
    flags: Le32,
}

const _: () = {
    assert!(size_of::<RawPrefix>() == PRODUCE_PREFIX_BYTES);
    assert!(std::mem::offset_of!(RawPrefix, durability) == 16);
    assert!(std::mem::offset_of!(RawPrefix, prefix_crc) == CHECKED_BYTES);
    assert!(size_of::<RawResponse>() == PRODUCE_RESPONSE_BYTES);
};

/// What stands before the batch frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducePrefix {
    /// Where the batch goes.
    pub partition: Uuid,
    /// When to answer; `None`: as the topic says.
    pub durability: Option<Durability>,
}

impl ProducePrefix {
    /// The prefix as it is sent.
    pub fn encode(&self) -> [u8; PRODUCE_PREFIX_BYTES] {
        let durability = match self.durability {
            None => 0,
            Some(Durability::Buffered) => 1,
            Some(Durability::Written) => 2,
            Some(Durability::Synced) => 3,
        };
        let mut raw = RawPrefix {
            partition: self.partition.into_bytes(),
            durability,
            reserved: [0; 11],
            prefix_crc: Le32::from(0),
        };
        let checked = bytemuck::bytes_of(&raw).get(..CHECKED_BYTES).unwrap_or_default();
        raw.prefix_crc = Le32::from(crc32fast::hash(checked));
        bytemuck::cast(raw)
    }
}

/// A produce request, taken apart. The batch itself is still to be checked, with `Batch::check_client_rest`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProduceRequest {
    /// Where the batch goes.
    pub partition: Uuid,
    /// When to answer; `None`: as the topic says.
    pub durability: Option<Durability>,
    /// The batch's header, which was checked as a header.
    pub header: BatchHeader,
    /// The batch's frame, header included, as long as that says.
    pub frame: Bytes,
    /// All that follows the frame: the batch's data.
    pub data: Bytes,
}

impl ProduceRequest {
    /// Takes the body of a produce frame apart, without copying.
    ///
    /// # Errors
    /// When the prefix does not check, or the frame's header does not, or it is longer than the body.
    pub fn check(body: Bytes) -> Result<Self, BodyError> {
        let mut reader = BodyReader::new(WHAT, body);
        let raw: RawPrefix = reader.pod()?;
        let checked = bytemuck::bytes_of(&raw).get(..CHECKED_BYTES).unwrap_or_default();
        reader.checksum(checked, raw.prefix_crc.get())?;
        reader.reserved(&raw.reserved)?;
        let durability = match raw.durability {
            0 => None,
            1 => Some(Durability::Buffered),
            2 => Some(Durability::Written),
            3 => Some(Durability::Synced),
            other => return Err(reader.invalid("durability", u64::from(other), "0 to 3 have a meaning")),
        };
        let batch = reader.take_rest();
        let first = batch.get(..BATCH_HEADER_BYTES).unwrap_or(&batch);
        let header = BatchHeader::check(first).map_err(|error| BodyError::Batch { what: WHAT, error })?;
        let mut reader = BodyReader::new(WHAT, batch);
        let frame = reader.take(header.frame_bytes())?;
        let data = reader.take_rest();
        Ok(Self {
            partition: Uuid::from_bytes(raw.partition),
            durability,
            header,
            frame,
            data,
        })
    }
}

/// Where the batch's data begins in the body of a produce frame of which at least [`PRODUCE_HINT_BYTES`] are here; `None`
/// when that is not the beginning of a batch. A hint: the body is still to be checked.
pub fn produce_data_at(body: &[u8]) -> Option<usize> {
    let header = body.get(PRODUCE_PREFIX_BYTES..PRODUCE_HINT_BYTES)?;
    let frame_bytes = usize::try_from(frame_bytes_hint(header).ok()?).ok()?;
    frame_bytes.checked_add(PRODUCE_PREFIX_BYTES)
}

/// A batch was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProduceResponse {
    /// Id of its first event.
    pub base_event_id: EventId,
    /// How many events it has.
    pub event_count: u32,
    /// It had been accepted before: this is the first answer again.
    pub duplicate: bool,
}

impl ProduceResponse {
    /// The answer as it is sent.
    pub fn encode(&self) -> Bytes {
        Bytes::copy_from_slice(&self.to_bytes())
    }

    /// The same without memory of its own.
    pub fn to_bytes(&self) -> [u8; PRODUCE_RESPONSE_BYTES] {
        bytemuck::cast(RawResponse {
            base_event_id: Le64::from(self.base_event_id.get()),
            event_count: Le32::from(self.event_count),
            flags: Le32::from(if self.duplicate { DUPLICATE } else { 0 }),
        })
    }

    /// Reads the answer.
    ///
    /// # Errors
    /// When it is not 16 bytes, has unknown flags, or ids that cannot be.
    pub fn check(body: Bytes) -> Result<Self, BodyError> {
        let mut reader = BodyReader::new("produce answer", body);
        let raw: RawResponse = reader.pod()?;
        let flags = raw.flags.get();
        if flags & !DUPLICATE != 0 {
            return Err(reader.invalid("flags", u64::from(flags), "only 1 has a meaning"));
        }
        let base_event_id = EventId::new(raw.base_event_id.get());
        let event_count = raw.event_count.get();
        if base_event_id.checked_add(u64::from(event_count)).is_none() {
            return Err(reader.invalid(
                "base_event_id",
                base_event_id.get(),
                "the batch's ids must fit 64 bits",
            ));
        }
        reader.finish()?;
        Ok(Self {
            base_event_id,
            event_count,
            duplicate: flags == DUPLICATE,
        })
    }
}

#[cfg(test)]
mod tests {
    use mofka_log::{Batch, BatchBuilder, ProducerId};
    use proptest::prelude::*;

    use super::*;

    fn body(prefix: &ProducePrefix, frame: &[u8], data: &[u8]) -> Bytes {
        [&prefix.encode()[..], frame, data].concat().into()
    }

    fn batch() -> (Bytes, Bytes) {
        let mut builder = BatchBuilder::new();
        builder.push(b"{\"a\":1}", [&b"some "[..], b"data"]).unwrap();
        builder.push(b"{}", []).unwrap();
        builder.finish(Some((ProducerId::new(5), 0, 0)))
    }

    #[test]
    fn a_batch_arrives_as_it_was_built() {
        let (frame, data) = batch();
        for durability in [
            None,
            Some(Durability::Buffered),
            Some(Durability::Written),
            Some(Durability::Synced),
        ] {
            let prefix = ProducePrefix {
                partition: Uuid::from_u128(77),
                durability,
            };
            let request = ProduceRequest::check(body(&prefix, &frame, &data)).unwrap();
            assert_eq!(
                (request.partition, request.durability),
                (prefix.partition, durability)
            );
            assert_eq!((&request.frame, &request.data), (&frame, &data));
            Batch::check_client_rest(request.header, request.frame, request.data).unwrap();
        }
    }

    #[test]
    fn a_changed_prefix_is_seen() {
        let (frame, data) = batch();
        let whole = body(
            &ProducePrefix {
                partition: Uuid::from_u128(77),
                durability: None,
            },
            &frame,
            &data,
        );
        for at in 0..PRODUCE_PREFIX_BYTES {
            let mut bytes = whole.to_vec();
            bytes[at] ^= 4;
            assert!(matches!(
                ProduceRequest::check(bytes.into()),
                Err(BodyError::Checksum { .. })
            ));
        }
        for end in 0..PRODUCE_PREFIX_BYTES + frame.len() {
            assert!(ProduceRequest::check(whole.slice(..end)).is_err());
        }
    }

    proptest! {
        #[test]
        fn answers_survive(base in 0..u64::MAX >> 1, event_count: u32, duplicate: bool) {
            let answer = ProduceResponse { base_event_id: EventId::new(base), event_count, duplicate };
            prop_assert_eq!(ProduceResponse::check(answer.encode()).unwrap(), answer);
        }

        #[test]
        fn check_never_panics(bytes: Vec<u8>) {
            ProduceResponse::check(Bytes::from(bytes.clone())).ok();
            let prefix = ProducePrefix { partition: Uuid::nil(), durability: None };
            ProduceRequest::check(body(&prefix, &bytes, b"")).ok();
            ProduceRequest::check(bytes.into()).ok();
        }
    }
}
