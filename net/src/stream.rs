//! One event's data in parts, before the event itself.
//!
//! ```text
//! at  0       8       16        28          32
//!     stream  offset  reserved  prefix_crc  a part: data, from `offset` on
//!     u64     u64     0         (of 0..28)  the commit: a produce prefix and a batch frame, `offset` being the end of the data
//! ```

use bytemuck::{Pod, Zeroable};
use bytes::Bytes;
use mofka_log::PIECE_BYTES;
use mofka_log::le::{Le32, Le64};

use crate::body::{BodyError, BodyReader};
use crate::limits::STREAM_PART_BYTES_MAX;
use crate::produce::ProduceRequest;
use crate::width::wide;

/// Bytes before a part's data, or before what commits a stream.
pub const STREAM_PREFIX_BYTES: usize = 32;
const CHECKED_BYTES: usize = 28;

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct RawStream {
    stream: Le64,
    offset: Le64,
    reserved: [u8; 12],
    prefix_crc: Le32,
}

const _: () = {
    assert!(size_of::<RawStream>() == STREAM_PREFIX_BYTES);
    assert!(std::mem::offset_of!(RawStream, offset) == 8);
    assert!(std::mem::offset_of!(RawStream, prefix_crc) == CHECKED_BYTES);
};

/// Which stream is meant, and which place in its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamPrefix {
    /// The number that the node gave it.
    pub stream: u64,
    /// Bytes of its data before this.
    pub offset: u64,
}

impl StreamPrefix {
    /// The prefix as it is sent.
    pub fn encode(&self) -> [u8; STREAM_PREFIX_BYTES] {
        let mut raw = RawStream {
            stream: self.stream.into(),
            offset: self.offset.into(),
            reserved: [0; 12],
            prefix_crc: Le32::from(0),
        };
        let checked = bytemuck::bytes_of(&raw).get(..CHECKED_BYTES).unwrap_or_default();
        raw.prefix_crc = Le32::from(crc32fast::hash(checked));
        bytemuck::cast(raw)
    }

    fn take(reader: &mut BodyReader) -> Result<Self, BodyError> {
        let raw: RawStream = reader.pod()?;
        let checked = bytemuck::bytes_of(&raw).get(..CHECKED_BYTES).unwrap_or_default();
        reader.checksum(checked, raw.prefix_crc.get())?;
        reader.reserved(&raw.reserved)?;
        Ok(Self {
            stream: raw.stream.get(),
            offset: raw.offset.get(),
        })
    }
}

/// The next bytes of an event's data. What they are is checked when the stream is committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamPart {
    /// Where they go: a multiple of 64 KiB.
    pub prefix: StreamPrefix,
    /// 1 to [`STREAM_PART_BYTES_MAX`] bytes. Only in the last part they are not a multiple of 64 KiB.
    pub data: Bytes,
}

impl StreamPart {
    /// Takes the body of a part apart, without copying.
    ///
    /// # Errors
    /// When the prefix does not check, or there is no data, or too much.
    pub fn check(body: Bytes) -> Result<Self, BodyError> {
        let mut reader = BodyReader::new("stream part", body);
        let prefix = StreamPrefix::take(&mut reader)?;
        if !prefix.offset.is_multiple_of(wide(PIECE_BYTES)) {
            let rule = "parts begin at multiples of 65536";
            return Err(reader.invalid("offset", prefix.offset, rule));
        }
        let bytes = reader.left_bytes();
        reader.bounded("size of its data", bytes, STREAM_PART_BYTES_MAX)?;
        if bytes == 0 {
            return Err(reader.invalid("size of its data", 0, "a part has at least one byte"));
        }
        Ok(Self {
            prefix,
            data: reader.take_rest(),
        })
    }
}

/// Makes an event of the data that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamCommit {
    /// Which stream, and how much data it should have.
    pub prefix: StreamPrefix,
    /// Where the event goes, and its frame; its data is empty.
    pub produce: ProduceRequest,
}

impl StreamCommit {
    /// Takes the body apart, without copying.
    ///
    /// # Errors
    /// When a prefix does not check, the frame's header does not, or something follows the frame.
    pub fn check(body: Bytes) -> Result<Self, BodyError> {
        let mut reader = BodyReader::new("stream commit", body);
        let prefix = StreamPrefix::take(&mut reader)?;
        let produce = ProduceRequest::check(reader.take_rest())?;
        BodyReader::new("stream commit", produce.data.clone()).finish()?;
        Ok(Self { prefix, produce })
    }
}

/// The answer to a part: it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamPartResponse {
    /// Where the part ends in the event's data.
    pub end: u64,
}

impl StreamPartResponse {
    /// The answer as it is sent.
    pub fn encode(&self) -> Bytes {
        Bytes::copy_from_slice(bytemuck::bytes_of(&Le64::from(self.end)))
    }

    /// Reads the answer.
    ///
    /// # Errors
    /// When it is not 8 bytes.
    pub fn check(body: Bytes) -> Result<Self, BodyError> {
        let mut reader = BodyReader::new("stream part answer", body);
        let end: Le64 = reader.pod()?;
        reader.finish()?;
        Ok(Self { end: end.get() })
    }
}

#[cfg(test)]
mod tests {
    use mofka_log::StreamedData;
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::produce::ProducePrefix;

    const PREFIX: StreamPrefix = StreamPrefix {
        stream: 77,
        offset: 131_072,
    };

    fn commit() -> Bytes {
        let mut data = StreamedData::new();
        data.push(&[5; 131_072]).unwrap();
        let produce = ProducePrefix {
            partition: Uuid::from_u128(3),
            durability: None,
        };
        let frame = data.frame(b"{}", None).unwrap();
        [&PREFIX.encode()[..], &produce.encode(), &frame].concat().into()
    }

    #[test]
    fn parts_and_commits_arrive_as_they_were_made() {
        let body: Bytes = [&PREFIX.encode()[..], b"some data"].concat().into();
        let part = StreamPart::check(body).unwrap();
        assert_eq!((part.prefix, part.data.as_ref()), (PREFIX, &b"some data"[..]));
        let whole = StreamCommit::check(commit()).unwrap();
        assert_eq!(
            (whole.prefix, whole.produce.partition),
            (PREFIX, Uuid::from_u128(3))
        );
        let answer = StreamPartResponse { end: u64::MAX };
        assert_eq!(StreamPartResponse::check(answer.encode()).unwrap(), answer);
    }

    #[test]
    fn each_lie_is_named() {
        let part = |prefix: StreamPrefix, data: &[u8]| {
            StreamPart::check([&prefix.encode()[..], data].concat().into())
        };
        assert!(matches!(part(PREFIX, b""), Err(BodyError::Invalid { .. })));
        let odd = StreamPrefix {
            offset: 4096,
            ..PREFIX
        };
        assert!(matches!(part(odd, b"x"), Err(BodyError::Invalid { .. })));
        let large = vec![0; usize::try_from(STREAM_PART_BYTES_MAX).unwrap() + 1];
        assert!(matches!(part(PREFIX, &large), Err(BodyError::TooLarge { .. })));
        assert!(part(PREFIX, &large[1..]).is_ok());
        for at in 0..STREAM_PREFIX_BYTES {
            let mut bytes = commit().to_vec();
            bytes[at] ^= 1;
            assert!(matches!(
                StreamCommit::check(bytes.into()),
                Err(BodyError::Checksum { .. })
            ));
        }
        let longer: Bytes = [&commit()[..], b"x"].concat().into();
        assert!(matches!(
            StreamCommit::check(longer),
            Err(BodyError::Trailing { .. })
        ));
    }

    proptest! {
        #[test]
        fn check_never_panics(bytes: Vec<u8>) {
            StreamPart::check(bytes.clone().into()).ok();
            StreamCommit::check([&PREFIX.encode()[..], &bytes].concat().into()).ok();
            StreamPartResponse::check(bytes.into()).ok();
        }
    }
}
