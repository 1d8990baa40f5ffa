//! An event's data in memory: any number of segments.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::data_ref::DataRef;

/// Bytes in any number of segments, cheap to clone. Each segment is the library's own, or shared with whoever else has it, or kept
/// by an owner that lives as long as it ([`Data::from_owner`]): the application need not keep anything alive.
///
/// Who owns what:
///
/// - What is made of a reference (`&[u8]`, `&str`) is a copy, at once.
/// - What is made of a `Vec`, a `String` or `Bytes` is that memory itself; so is what an owner keeps.
/// - A clone is the same memory, and [`Data::write`] never changes memory that anybody else has: another clone, a `Bytes`, an owner,
///   or an event that was pushed.
/// - An event that is pushed keeps the segments from [`shared_bytes_min`](crate::ProducerOptions::shared_bytes_min) on until it was
///   acknowledged or failed, and for as long as it may have to be sent again; it is sent from there without being copied.
///   Shorter segments are copied while it is pushed. The memory of a segment that is a slice of a larger buffer is all
///   of that buffer, and bounds count the slice.
/// - An owner's bytes must not change, nor move, while it has them out; their checksums are computed when the event is pushed, and
///   the node refuses, with the whole batch, what does not match them.
/// - An owner may be dropped on any thread, with none of the library's locks held: so its `drop` may push events, but it holds up
///   whoever it runs on.
#[derive(Clone, Debug, Default)]
pub struct Data {
    segments: Segments,
}

#[derive(Clone, Debug, Default)]
enum Segments {
    #[default]
    None,
    One(Bytes),
    /// A copy that was made for this alone.
    Copied(Bytes),
    Many(Vec<Bytes>),
    /// No bytes of its own.
    Reference(Arc<DataRef>),
}

impl Data {
    /// No bytes.
    pub fn empty() -> Self {
        Self::default()
    }

    /// The bytes that `owner` keeps, without copying them. It is dropped with the last clone of the data, on whichever thread that
    /// happens.
    pub fn from_owner<T: AsRef<[u8]> + Send + 'static>(owner: T) -> Self {
        Self::from(Bytes::from_owner(owner))
    }

    /// A copy of these, one after the other.
    pub(crate) fn copy_of(parts: &[&[u8]]) -> Self {
        match parts {
            [] => Self::empty(),
            [one] => Self::from(*one),
            many => Self {
                segments: Segments::Copied(Bytes::from(many.concat())),
            },
        }
    }

    /// The data of another event that this refers to, in place of bytes.
    pub fn reference(&self) -> Option<&DataRef> {
        match &self.segments {
            Segments::Reference(reference) => Some(reference),
            _ => None,
        }
    }

    /// Whether it is a copy that the library made: nothing of the application's is kept by keeping it.
    pub(crate) fn is_copy(&self) -> bool {
        matches!(self.segments, Segments::Copied(_))
    }

    /// The bytes of all segments, counted: none of a reference.
    pub fn bytes(&self) -> u64 {
        self.segments().iter().map(|segment| segment.len() as u64).sum()
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.segments().iter().all(Bytes::is_empty)
    }

    /// The segments.
    pub fn segments(&self) -> &[Bytes] {
        match &self.segments {
            Segments::None | Segments::Reference(_) => &[],
            Segments::One(bytes) | Segments::Copied(bytes) => std::slice::from_ref(bytes),
            Segments::Many(segments) => segments,
        }
    }

    /// Copies bytes from `offset` on to `into`, as many as there are and fit. Returns how many these were.
    pub fn read(&self, into: &mut [u8], offset: u64) -> usize {
        let mut copied = 0;
        for (place, segment) in places(self.segments(), offset) {
            let from = segment.get(place..).unwrap_or_default();
            let room = into.get_mut(copied..).unwrap_or_default();
            let bytes = from.len().min(room.len());
            room[..bytes].copy_from_slice(&from[..bytes]);
            copied += bytes;
        }
        copied
    }

    /// Copies the bytes of `from` over those from `offset` on; there is no more room than there are bytes. Returns how many were
    /// copied.
    ///
    /// Only this data changes: a segment that others have, or that an owner keeps, is replaced by a copy.
    pub fn write(&mut self, from: &[u8], offset: u64) -> usize {
        let segments = match &mut self.segments {
            Segments::None | Segments::Reference(_) => &mut [],
            Segments::One(bytes) | Segments::Copied(bytes) => std::slice::from_mut(bytes),
            Segments::Many(segments) => segments.as_mut_slice(),
        };
        let mut copied = 0;
        for (place, segment) in places(segments, offset) {
            let from = from.get(copied..).unwrap_or_default();
            let bytes = from.len().min(segment.len().saturating_sub(place));
            if bytes == 0 {
                continue;
            }
            let mut own = std::mem::take(segment)
                .try_into_mut()
                .unwrap_or_else(|shared| BytesMut::from(shared.as_ref()));
            own[place..place + bytes].copy_from_slice(&from[..bytes]);
            *segment = own.freeze();
            copied += bytes;
        }
        copied
    }

    /// All bytes in one piece: without copying when there is one segment.
    pub fn to_bytes(&self) -> Bytes {
        match &self.segments {
            Segments::None | Segments::Reference(_) => Bytes::new(),
            Segments::One(bytes) | Segments::Copied(bytes) => bytes.clone(),
            Segments::Many(segments) => segments.concat().into(),
        }
    }
}

/// The segments from the one with `offset` on, and where in each the part behind the offset begins.
fn places<T: AsRef<[u8]>, I: IntoIterator<Item = T>>(
    segments: I,
    offset: u64,
) -> impl Iterator<Item = (usize, T)> {
    let mut before = offset;
    segments.into_iter().filter_map(move |segment| {
        let bytes = segment.as_ref().len() as u64;
        let place = before.min(bytes);
        before -= place;
        // Smaller than the segment, whose length fits.
        (place < bytes).then_some((usize::try_from(place).unwrap_or(usize::MAX), segment))
    })
}

impl PartialEq for Data {
    /// By the bytes, however they are cut; references by what they refer to.
    fn eq(&self, other: &Self) -> bool {
        if self.reference().is_some() || other.reference().is_some() {
            return self.reference() == other.reference();
        }
        let all = |data: &Self| data.segments().iter().flatten().copied().collect::<Vec<u8>>();
        self.bytes() == other.bytes() && all(self) == all(other)
    }
}

impl Eq for Data {}

impl From<Bytes> for Data {
    fn from(bytes: Bytes) -> Self {
        Self {
            segments: Segments::One(bytes),
        }
    }
}

impl From<DataRef> for Data {
    fn from(reference: DataRef) -> Self {
        Self {
            segments: Segments::Reference(Arc::new(reference)),
        }
    }
}

impl From<&DataRef> for Data {
    fn from(reference: &DataRef) -> Self {
        Self::from(reference.clone())
    }
}

impl From<Vec<u8>> for Data {
    fn from(bytes: Vec<u8>) -> Self {
        Self::from(Bytes::from(bytes))
    }
}

impl From<String> for Data {
    fn from(text: String) -> Self {
        Self::from(Bytes::from(text))
    }
}

impl From<&[u8]> for Data {
    fn from(bytes: &[u8]) -> Self {
        Self {
            segments: Segments::Copied(Bytes::copy_from_slice(bytes)),
        }
    }
}

impl<const N: usize> From<&[u8; N]> for Data {
    fn from(bytes: &[u8; N]) -> Self {
        Self::from(bytes.as_slice())
    }
}

impl From<&str> for Data {
    fn from(text: &str) -> Self {
        Self::from(text.as_bytes())
    }
}

impl From<Vec<Bytes>> for Data {
    fn from(segments: Vec<Bytes>) -> Self {
        Self {
            segments: Segments::Many(segments),
        }
    }
}

impl From<Vec<Vec<u8>>> for Data {
    fn from(segments: Vec<Vec<u8>>) -> Self {
        Self::from(segments.into_iter().map(Bytes::from).collect::<Vec<_>>())
    }
}

impl From<()> for Data {
    /// No bytes.
    fn from((): ()) -> Self {
        Self::empty()
    }
}

impl<T: Into<Data>> From<Option<T>> for Data {
    fn from(data: Option<T>) -> Self {
        data.map(Into::into).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bytes_are_the_same_however_they_are_cut() {
        let cut = Data::from(vec![b"ab".to_vec(), vec![], b"c".to_vec()]);
        assert_eq!((cut.bytes(), cut.segments().len()), (3, 3));
        assert_eq!(cut, Data::from("abc"));
        assert_eq!(cut.to_bytes().as_ref(), b"abc");
        assert_ne!(cut, Data::from("abd"));
        assert!(Data::from(()).is_empty() && Data::from(vec![Bytes::new()]).is_empty());
        assert_eq!(Data::from(None::<Bytes>), Data::empty());
    }

    #[test]
    fn reading_and_writing_end_where_the_bytes_end() {
        let mut data = Data::from(vec![b"abcd".to_vec(), vec![], b"efgh".to_vec()]);
        // An offset inside a segment: the original copied as many bytes as the segment has, beyond its end.
        let mut into = [b'-'; 8];
        assert_eq!((data.read(&mut into[..3], 2), &into[..4]), (3, &b"cde-"[..]));
        assert_eq!((data.read(&mut into, 6), &into), (2, b"ghe-----"));
        for beyond in [8, 9, u64::MAX] {
            assert_eq!(data.read(&mut into, beyond), 0);
            assert_eq!(data.write(b"x", beyond), 0);
        }
        assert_eq!(data.read(&mut [], 0), 0);
        assert_eq!(data.write(b"XYZ", 3), 3);
        assert_eq!(data.write(b"123", 6), 2);
        assert_eq!(data.to_bytes().as_ref(), b"abcXYZ12");
        assert_eq!(data.segments().len(), 3, "it is cut as before");
        assert_eq!(Data::empty().write(b"x", 0), 0);
    }

    #[test]
    fn writing_changes_no_other_clone() {
        let original = Data::from("abc");
        let mut copy = original.clone();
        assert_eq!(copy.write(b"X", 1), 1);
        assert_eq!((original, copy.clone()), (Data::from("abc"), Data::from("aXc")));
        // What nobody else has is written where it is.
        let mut own = Data::from(vec![7_u8; 1000]);
        let address = own.segments()[0].as_ptr();
        assert_eq!(own.write(&[8; 10], 990), 10);
        assert_eq!(own.segments()[0].as_ptr(), address);
    }

    #[test]
    fn an_owner_keeps_its_bytes_until_the_last_clone_is_dropped() {
        struct Owner(Arc<[u8; 4]>);
        impl AsRef<[u8]> for Owner {
            fn as_ref(&self) -> &[u8] {
                self.0.as_slice()
            }
        }
        let alive = Arc::new(*b"mine");
        let data = Data::from_owner(Owner(Arc::clone(&alive)));
        let mut changed = data.clone();
        let part = data.segments()[0].slice(1..3);
        assert_eq!(Arc::strong_count(&alive), 2);
        drop(data);
        assert_eq!((changed.bytes(), Arc::strong_count(&alive)), (4, 2));
        // A copy from here on: the owner's memory stays as it is.
        assert_eq!(changed.write(b"yours", 0), 4);
        assert_eq!(
            (changed.to_bytes().as_ref(), part.as_ref()),
            (&b"your"[..], &b"in"[..])
        );
        assert_eq!(Arc::strong_count(&alive), 2);
        drop(part);
        assert_eq!(Arc::strong_count(&alive), 1);
    }

    proptest! {
        #[test]
        fn segments_read_and_write_as_one_array_would(
            segments in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..7), 0..6),
            writes in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..12), 0..40_usize), 0..6),
            offset in 0..40_usize,
            room in 0..40_usize,
        ) {
            let mut flat = segments.concat();
            let mut data = Data::from(segments);
            for (from, offset) in writes {
                let end = flat.len().min(offset + from.len());
                let bytes = end.saturating_sub(offset);
                prop_assert_eq!(data.write(&from, offset as u64), bytes);
                if bytes > 0 {
                    flat[offset..end].copy_from_slice(&from[..bytes]);
                }
            }
            prop_assert_eq!(data.bytes(), flat.len() as u64);
            prop_assert_eq!(data.to_bytes(), flat.as_slice());
            let mut into = vec![0; room];
            let read = data.read(&mut into, offset as u64);
            let expected = flat.get(offset..).unwrap_or_default();
            prop_assert_eq!(read, expected.len().min(room));
            prop_assert_eq!(&into[..read], &expected[..read]);
        }
    }
}
