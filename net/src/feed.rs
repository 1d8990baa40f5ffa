//! Events on their way to a consumer: the batches as they are stored.
//!
//! ```text
//! header:  0               8             16           24            32          36     40          44        64
//!          first_event_id  end_event_id  visible_end  missed_count  item_count  flags  header_crc  reserved
//!                                                                                      (of 0..40)
//! item:    0            8           16
//!          frame_bytes  data_bytes  frame, data, zeros to a multiple of 8
//! ```
//!
//! A batch is never split: events of the first batch before `first_event_id` and of the last one from
//! `end_event_id` on are not part of the feed.

use bytemuck::{Pod, Zeroable};
use bytes::Bytes;
use mofka_log::EventId;
use mofka_log::le::{Le32, Le64};

use crate::body::{BodyError, BodyReader};
use crate::picked::{PICKED_HEADER_BYTES, Picked};
use crate::width::{narrow, wide};

/// Bytes of a feed's header.
pub const FEED_HEADER_BYTES: usize = 64;
/// Bytes before each item's frame.
pub const FEED_ITEM_BYTES: usize = 16;
const CHECKED_BYTES: usize = 40;
const WHAT: &str = "feed";
const END_OF_STREAM: u32 = 1;
const PICKED: u32 = 2;
const ALIGN_BYTES: u64 = 8;
/// An item and a frame without events.
const ITEM_BYTES_MIN: u64 = 16 + 128;

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct RawFeedHeader {
    first_event_id: Le64,
    end_event_id: Le64,
    visible_end: Le64,
    missed_count: Le64,
    item_count: Le32,
    flags: Le32,
    header_crc: Le32,
    reserved: [u8; 20],
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct RawItem {
    frame_bytes: Le64,
    data_bytes: Le64,
}

const _: () = {
    assert!(size_of::<RawFeedHeader>() == FEED_HEADER_BYTES);
    assert!(std::mem::offset_of!(RawFeedHeader, header_crc) == CHECKED_BYTES);
    assert!(size_of::<RawItem>() == FEED_ITEM_BYTES);
};

/// What a feed tells about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeedHeader {
    /// First event of the feed.
    pub first_event_id: EventId,
    /// Exclusive end: the next feed begins here.
    pub end_event_id: EventId,
    /// End of what is visible in the partition now.
    pub visible_end: EventId,
    /// Events that the consumer will never get, because retention dropped them before they were fed.
    pub missed_count: u64,
    /// Items in the feed.
    pub item_count: u32,
    /// The items are events that were picked out of their batches. Events between them are not for this consumer.
    pub is_picked: bool,
    /// No event will ever follow.
    pub end_of_stream: bool,
}

impl FeedHeader {
    /// The header as it is sent.
    pub fn encode(&self) -> Bytes {
        let mut raw = RawFeedHeader {
            first_event_id: Le64::from(self.first_event_id.get()),
            end_event_id: Le64::from(self.end_event_id.get()),
            visible_end: Le64::from(self.visible_end.get()),
            missed_count: Le64::from(self.missed_count),
            item_count: Le32::from(self.item_count),
            flags: Le32::from(
                if self.end_of_stream { END_OF_STREAM } else { 0 } | if self.is_picked { PICKED } else { 0 },
            ),
            header_crc: Le32::from(0),
            reserved: [0; 20],
        };
        let checked = bytemuck::bytes_of(&raw).get(..CHECKED_BYTES).unwrap_or_default();
        raw.header_crc = Le32::from(crc32fast::hash(checked));
        Bytes::copy_from_slice(bytemuck::bytes_of(&raw))
    }

    fn check(reader: &mut BodyReader) -> Result<Self, BodyError> {
        let raw: RawFeedHeader = reader.pod()?;
        let checked = bytemuck::bytes_of(&raw).get(..CHECKED_BYTES).unwrap_or_default();
        reader.checksum(checked, raw.header_crc.get())?;
        reader.reserved(&raw.reserved)?;
        let flags = raw.flags.get();
        if flags & !(END_OF_STREAM | PICKED) != 0 {
            return Err(reader.invalid("flags", u64::from(flags), "only 1 and 2 have a meaning"));
        }
        if raw.end_event_id.get() < raw.first_event_id.get() {
            let rule = "the end is not before the first event";
            return Err(reader.invalid("end_event_id", raw.end_event_id.get(), rule));
        }
        let item_count = raw.item_count.get();
        let is_picked = flags & PICKED != 0;
        let item_bytes_min = if is_picked {
            wide(PICKED_HEADER_BYTES)
        } else {
            ITEM_BYTES_MIN
        };
        let fit = reader.left_bytes().checked_div(item_bytes_min).unwrap_or(0);
        reader.bounded("item_count", u64::from(item_count), fit)?;
        Ok(Self {
            first_event_id: EventId::new(raw.first_event_id.get()),
            end_event_id: EventId::new(raw.end_event_id.get()),
            visible_end: EventId::new(raw.visible_end.get()),
            missed_count: raw.missed_count.get(),
            item_count,
            is_picked,
            end_of_stream: flags & END_OF_STREAM != 0,
        })
    }
}

/// What stands before each batch of a feed. After the data come zeros to a multiple of 8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeedItem {
    /// Bytes of the batch frame.
    pub frame_bytes: u64,
    /// Bytes of the batch's data that follow: all of it, or 0 when it is not included.
    pub data_bytes: u64,
}

impl FeedItem {
    /// The item's header as it is sent.
    pub fn encode(&self) -> Bytes {
        let raw = RawItem {
            frame_bytes: Le64::from(self.frame_bytes),
            data_bytes: Le64::from(self.data_bytes),
        };
        Bytes::copy_from_slice(bytemuck::bytes_of(&raw))
    }
}

/// A feed, taken apart. The batches themselves are still to be checked, with `Batch::check`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feed {
    /// What it tells about itself.
    pub header: FeedHeader,
    /// What it brings.
    pub items: Vec<FeedPart>,
}

/// An item of a feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FeedPart {
    /// A whole batch.
    Batch(FeedItemView),
    /// Events out of one.
    Picked(Picked),
}

/// One batch of a feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedItemView {
    /// The batch frame.
    pub frame: Bytes,
    /// Its data, when it is included.
    pub data: Option<Bytes>,
}

impl Feed {
    /// Takes the body of a feed apart, without copying.
    ///
    /// # Errors
    /// When the header does not check, or the items do not fill the body exactly.
    pub fn check(body: Bytes) -> Result<Self, BodyError> {
        let mut reader = BodyReader::new(WHAT, body);
        let header = FeedHeader::check(&mut reader)?;
        let mut items = Vec::with_capacity(narrow(u64::from(header.item_count)));
        for _ in 0..header.item_count {
            if header.is_picked {
                items.push(FeedPart::Picked(Picked::check(&mut reader)?));
                continue;
            }
            let raw: RawItem = reader.pod()?;
            let (frame_bytes, data_bytes) = (raw.frame_bytes.get(), raw.data_bytes.get());
            if frame_bytes.checked_rem(ALIGN_BYTES) != Some(0) {
                return Err(reader.invalid("frame_bytes", frame_bytes, "frames are multiples of 8 bytes"));
            }
            let frame = reader.take(frame_bytes)?;
            let data = reader.take(data_bytes)?;
            let beyond = data_bytes.checked_rem(ALIGN_BYTES).unwrap_or(0);
            let pad = reader.take(if beyond == 0 {
                0
            } else {
                ALIGN_BYTES.saturating_sub(beyond)
            })?;
            reader.reserved(&pad)?;
            items.push(FeedPart::Batch(FeedItemView {
                frame,
                data: (data_bytes > 0).then_some(data),
            }));
        }
        reader.finish()?;
        Ok(Self { header, items })
    }

    /// The whole batches in it.
    pub fn batches(&self) -> impl Iterator<Item = &FeedItemView> {
        self.items.iter().filter_map(|item| match item {
            FeedPart::Batch(batch) => Some(batch),
            FeedPart::Picked(_) => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header(item_count: u32) -> FeedHeader {
        FeedHeader {
            first_event_id: EventId::new(3),
            end_event_id: EventId::new(9),
            visible_end: EventId::new(12),
            missed_count: 2,
            item_count,
            is_picked: false,
            end_of_stream: false,
        }
    }

    fn encode(header: &FeedHeader, items: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
        let mut body = header.encode().to_vec();
        for (frame, data) in items {
            let item = FeedItem {
                frame_bytes: frame.len() as u64,
                data_bytes: data.len() as u64,
            };
            body.extend_from_slice(&item.encode());
            body.extend_from_slice(frame);
            body.extend_from_slice(data);
            body.resize(body.len().next_multiple_of(8), 0);
        }
        body
    }

    fn items() -> impl Strategy<Value = Vec<(Vec<u8>, Vec<u8>)>> {
        let frame = (16_usize..20).prop_flat_map(|words| prop::collection::vec(any::<u8>(), words * 8));
        prop::collection::vec((frame, prop::collection::vec(any::<u8>(), 0..40)), 0..5)
    }

    proptest! {
        #[test]
        fn encode_then_check_is_identity(items in items(), end_of_stream: bool) {
            let header = FeedHeader { end_of_stream, ..header(items.len() as u32) };
            let feed = Feed::check(encode(&header, &items).into()).unwrap();
            prop_assert_eq!(feed.header, header);
            let back: Vec<_> = feed
                .batches()
                .map(|item| (item.frame.to_vec(), item.data.as_deref().unwrap_or_default().to_vec()))
                .collect();
            prop_assert_eq!(back, items);
        }

        #[test]
        fn check_never_panics(junk: Vec<u8>, item_count: u32, data_bytes: u64, frame_bytes: u64) {
            Feed::check(junk.clone().into()).ok();
            let mut body = header(item_count % 4).encode().to_vec();
            body.extend_from_slice(&FeedItem { frame_bytes, data_bytes }.encode());
            body.extend_from_slice(&junk);
            Feed::check(body.into()).ok();
        }

        #[test]
        fn a_cut_feed_is_refused(items in items(), cut: prop::sample::Index) {
            let body = encode(&header(items.len() as u32), &items);
            let end = cut.index(body.len());
            prop_assert!(Feed::check(Bytes::from(body).slice(..end)).is_err());
        }
    }

    #[test]
    fn lies_are_named() {
        let many = encode(&header(u32::MAX), &[]);
        assert!(matches!(
            Feed::check(many.into()),
            Err(BodyError::TooLarge {
                field: "item_count",
                ..
            })
        ));
        let backwards = FeedHeader {
            end_event_id: EventId::new(1),
            ..header(0)
        };
        assert!(
            Feed::check(backwards.encode())
                .unwrap_err()
                .to_string()
                .contains("end_event_id")
        );
        let mut flipped = header(0).encode().to_vec();
        flipped[24] ^= 1;
        assert!(matches!(
            Feed::check(flipped.into()),
            Err(BodyError::Checksum { .. })
        ));
        let mut pad = encode(&header(1), &[(vec![0; 128], vec![1])]);
        *pad.last_mut().unwrap() = 1;
        assert!(matches!(Feed::check(pad.into()), Err(BodyError::Reserved { .. })));
    }
}
