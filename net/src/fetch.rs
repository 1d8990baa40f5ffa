//! Data of many events in one request.
//!
//! ```text
//! request:  0               16          20        24
//!           partition uuid  item_count  reserved  items: descriptor_bytes u32, data descriptor
//! answer:   0           4          8
//!           item_count  table_crc  table of: status u16, reserved u16, crc u32, data_bytes u64; then the bytes
//!                       (of item_count and the table)
//! ```

use bytemuck::{Pod, Zeroable};
use bytes::{BufMut, Bytes, BytesMut};
use mofka_log::le::{Le16, Le32, Le64};
use uuid::Uuid;

use crate::body::{BodyError, BodyReader};
use crate::descriptor::DataDescriptor;
use crate::error::ErrorCode;
use crate::limits::{DESCRIPTOR_BYTES_MAX, FETCH_ITEMS_MAX};
use crate::width::{narrow, wide};

const REQUEST: &str = "fetch request";
const ANSWER: &str = "fetch answer";
/// A length and the shortest descriptor.
const REQUEST_ITEM_BYTES_MIN: u64 = 4 + 32;
const ENTRY_BYTES: u64 = 16;

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct RawRequest {
    partition: [u8; 16],
    item_count: Le32,
    reserved: [u8; 4],
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct RawAnswer {
    item_count: Le32,
    table_crc: Le32,
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct RawEntry {
    status: Le16,
    reserved: [u8; 2],
    crc: Le32,
    data_bytes: Le64,
}

const _: () = {
    assert!(size_of::<RawRequest>() == 24);
    assert!(size_of::<RawAnswer>() == 8);
    assert!(size_of::<RawEntry>() == 16);
};

/// Asks for what each descriptor selects; the descriptors' locations are event ids of the partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchRequest {
    /// Of which partition.
    pub partition: Uuid,
    /// What is wanted, up to [`FETCH_ITEMS_MAX`].
    pub items: Vec<DataDescriptor>,
}

impl FetchRequest {
    /// The request as it is sent.
    ///
    /// # Errors
    /// When there are too many items.
    pub fn encode(&self) -> Result<Bytes, BodyError> {
        let value = wide(self.items.len());
        let max = u64::from(FETCH_ITEMS_MAX);
        let item_count = u32::try_from(value)
            .ok()
            .filter(|count| *count <= FETCH_ITEMS_MAX);
        let Some(item_count) = item_count else {
            return Err(BodyError::TooLarge {
                what: REQUEST,
                field: "item_count",
                value,
                max,
            });
        };
        let mut body = BytesMut::new();
        let raw = RawRequest {
            partition: self.partition.into_bytes(),
            item_count: Le32::from(item_count),
            reserved: [0; 4],
        };
        body.put_slice(bytemuck::bytes_of(&raw));
        for descriptor in &self.items {
            let serialized = descriptor.serialize();
            // A descriptor's bounds keep it far below 4 GiB.
            body.put_u32_le(u32::try_from(serialized.len()).unwrap_or(u32::MAX));
            body.put_slice(&serialized);
        }
        Ok(body.freeze())
    }

    /// Reads the request.
    ///
    /// # Errors
    /// When the lengths do not fit, or a descriptor does not check.
    pub fn check(body: Bytes) -> Result<Self, BodyError> {
        let mut reader = BodyReader::new(REQUEST, body);
        let raw: RawRequest = reader.pod()?;
        reader.reserved(&raw.reserved)?;
        let item_count = raw.item_count.get();
        reader.bounded("item_count", u64::from(item_count), u64::from(FETCH_ITEMS_MAX))?;
        let fit = reader
            .left_bytes()
            .checked_div(REQUEST_ITEM_BYTES_MIN)
            .unwrap_or(0);
        reader.bounded("item_count", u64::from(item_count), fit)?;
        let mut items = Vec::with_capacity(narrow(u64::from(item_count)));
        for index in 0..item_count {
            let descriptor_bytes: Le32 = reader.pod()?;
            let descriptor_bytes = u64::from(descriptor_bytes.get());
            reader.bounded("descriptor_bytes", descriptor_bytes, DESCRIPTOR_BYTES_MAX)?;
            let serialized = reader.take(descriptor_bytes)?;
            let descriptor =
                DataDescriptor::deserialize(&serialized).map_err(|error| BodyError::Descriptor {
                    what: REQUEST,
                    index,
                    error,
                })?;
            items.push(descriptor);
        }
        reader.finish()?;
        Ok(Self {
            partition: Uuid::from_bytes(raw.partition),
            items,
        })
    }
}

/// Why one item of a fetch has no bytes; the others are not touched by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchItemError {
    /// The node could not or would not.
    #[error("the node answered {name} ({status})", name = .code.map_or("an unknown error", ErrorCode::name))]
    Refused {
        /// The number on the wire.
        status: u16,
        /// What it means, if this version knows.
        code: Option<ErrorCode>,
    },
    /// The bytes changed on the way.
    #[error("the checksum of the fetched bytes does not match: they were damaged on the way")]
    Checksum,
}

/// Collects the answer of the node: the items in the order of the request.
#[derive(Clone, Debug, Default)]
pub struct FetchResponse {
    table: Vec<RawEntry>,
    data: Vec<Bytes>,
}

impl std::fmt::Debug for RawEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "entry(status {}, {} bytes)",
            self.status.get(),
            self.data_bytes.get()
        )
    }
}

impl FetchResponse {
    /// An answer without items.
    pub fn new() -> Self {
        Self::default()
    }

    /// The next item's bytes, and their CRC.
    pub fn push(&mut self, bytes: Bytes, crc: u32) {
        self.table.push(RawEntry {
            status: Le16::from(0),
            reserved: [0; 2],
            crc: Le32::from(crc),
            data_bytes: Le64::from(wide(bytes.len())),
        });
        self.data.push(bytes);
    }

    /// The next item failed.
    pub fn push_error(&mut self, code: ErrorCode) {
        self.table.push(RawEntry {
            status: Le16::from(code.number()),
            reserved: [0; 2],
            crc: Le32::from(0),
            data_bytes: Le64::from(0),
        });
    }

    /// The answer as it is sent, in pieces.
    pub fn encode(self) -> Vec<Bytes> {
        // The request had at most FETCH_ITEMS_MAX items.
        let item_count = Le32::from(u32::try_from(self.table.len()).unwrap_or(u32::MAX));
        let table: &[u8] = bytemuck::cast_slice(&self.table);
        let table_crc = Le32::from(table_crc(item_count, table));
        let mut head = BytesMut::with_capacity(table.len().saturating_add(size_of::<RawAnswer>()));
        head.put_slice(bytemuck::bytes_of(&RawAnswer {
            item_count,
            table_crc,
        }));
        head.put_slice(table);
        let mut pieces = Vec::with_capacity(self.data.len().saturating_add(1));
        pieces.push(head.freeze());
        pieces.extend(self.data.into_iter().filter(|bytes| !bytes.is_empty()));
        pieces
    }

    /// Takes the answer apart, without copying, and checks every item's bytes.
    ///
    /// # Errors
    /// When the table does not check or does not fill the body exactly. What is wrong with one item is in its place.
    pub fn check(body: Bytes) -> Result<Vec<Result<Bytes, FetchItemError>>, BodyError> {
        let mut reader = BodyReader::new(ANSWER, body);
        let raw: RawAnswer = reader.pod()?;
        let item_count = raw.item_count.get();
        reader.bounded("item_count", u64::from(item_count), u64::from(FETCH_ITEMS_MAX))?;
        let table = reader.take(u64::from(item_count).saturating_mul(ENTRY_BYTES))?;
        if table_crc(raw.item_count, &table) != raw.table_crc.get() {
            return Err(BodyError::Checksum { what: ANSWER });
        }
        let mut items = Vec::with_capacity(narrow(u64::from(item_count)));
        let entries: &[RawEntry] = bytemuck::cast_slice(&table);
        for entry in entries {
            reader.reserved(&entry.reserved)?;
            let status = entry.status.get();
            let data_bytes = entry.data_bytes.get();
            if status != 0 && data_bytes != 0 {
                return Err(reader.invalid("data_bytes", data_bytes, "an item that failed has no bytes"));
            }
            let bytes = reader.take(data_bytes)?;
            items.push(if status != 0 {
                Err(FetchItemError::Refused {
                    status,
                    code: ErrorCode::from_number(status),
                })
            } else if crc32fast::hash(&bytes) != entry.crc.get() {
                Err(FetchItemError::Checksum)
            } else {
                Ok(bytes)
            });
        }
        reader.finish()?;
        Ok(items)
    }
}

fn table_crc(item_count: Le32, table: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(bytemuck::bytes_of(&item_count));
    hasher.update(table);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use mofka_log::EventId;
    use proptest::prelude::*;

    use super::*;

    fn answer(items: &[Result<Vec<u8>, ErrorCode>]) -> Vec<u8> {
        let mut response = FetchResponse::new();
        for item in items {
            match item {
                Ok(bytes) => response.push(Bytes::copy_from_slice(bytes), crc32fast::hash(bytes)),
                Err(code) => response.push_error(*code),
            }
        }
        response.encode().concat()
    }

    #[test]
    fn a_request_survives() {
        let whole = DataDescriptor::of_event(EventId::new(4), 1000);
        let items = vec![
            whole.sub_view(3, 10),
            whole.strided_view(0, 4, 2, 2).unwrap(),
            whole,
        ];
        let request = FetchRequest {
            partition: Uuid::from_u128(1),
            items,
        };
        let body = request.encode().unwrap();
        assert_eq!(FetchRequest::check(body.clone()).unwrap(), request);
        for end in 0..body.len() {
            assert!(FetchRequest::check(body.slice(..end)).is_err());
        }
    }

    #[test]
    fn counts_are_bounded_before_they_size_anything() {
        let mut body = FetchRequest {
            partition: Uuid::nil(),
            items: vec![],
        }
        .encode()
        .unwrap()
        .to_vec();
        body[16..20].copy_from_slice(&50_000_u32.to_le_bytes());
        assert!(matches!(
            FetchRequest::check(body.into()),
            Err(BodyError::TooLarge { .. })
        ));
        let mut huge = vec![0; 8];
        huge[..4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(matches!(
            FetchResponse::check(huge.into()),
            Err(BodyError::TooLarge { .. })
        ));
    }

    #[test]
    fn one_bad_item_leaves_the_others() {
        let mut body = answer(&[Ok(b"abc".to_vec()), Err(ErrorCode::Trimmed), Ok(b"def".to_vec())]);
        *body.last_mut().unwrap() ^= 1;
        let items = FetchResponse::check(body.into()).unwrap();
        assert_eq!(items[0], Ok(Bytes::from_static(b"abc")));
        assert_eq!(
            items[1],
            Err(FetchItemError::Refused {
                status: 34,
                code: Some(ErrorCode::Trimmed)
            })
        );
        assert_eq!(items[2], Err(FetchItemError::Checksum));
        assert_eq!(
            items[1].clone().unwrap_err().to_string(),
            "the node answered trimmed (34)"
        );
    }

    proptest! {
        #[test]
        fn answers_survive(items: Vec<Option<Vec<u8>>>) {
            let items: Vec<_> = items.into_iter().map(|item| item.ok_or(ErrorCode::Damaged)).collect();
            let back = FetchResponse::check(answer(&items).into()).unwrap();
            prop_assert_eq!(back.len(), items.len());
            for (back, item) in back.iter().zip(&items) {
                prop_assert_eq!(back.as_ref().ok().map(|bytes| bytes.to_vec()), item.clone().ok());
            }
        }

        #[test]
        fn check_never_panics(bytes: Vec<u8>, item_count in 0_u32..9) {
            FetchResponse::check(bytes.clone().into()).ok();
            FetchRequest::check(bytes.clone().into()).ok();
            let mut request = FetchRequest { partition: Uuid::nil(), items: vec![] }.encode().unwrap().to_vec();
            request[16..20].copy_from_slice(&item_count.to_le_bytes());
            request.extend_from_slice(&bytes);
            FetchRequest::check(request.into()).ok();
        }
    }
}
