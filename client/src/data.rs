//! An event's data in memory: any number of segments.

use bytes::Bytes;

/// Bytes in any number of segments, cheap to clone. They are the library's own (or shared) from the beginning: the
/// application need not keep anything alive.
#[derive(Clone, Debug, Default)]
pub struct Data {
    segments: Segments,
}

#[derive(Clone, Debug, Default)]
enum Segments {
    #[default]
    None,
    One(Bytes),
    Many(Vec<Bytes>),
}

impl Data {
    /// No bytes.
    pub fn empty() -> Self {
        Self::default()
    }

    /// The bytes of all segments, counted.
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
            Segments::None => &[],
            Segments::One(bytes) => std::slice::from_ref(bytes),
            Segments::Many(segments) => segments,
        }
    }

    /// All bytes in one piece: without copying when there is one segment.
    pub fn to_bytes(&self) -> Bytes {
        match &self.segments {
            Segments::None => Bytes::new(),
            Segments::One(bytes) => bytes.clone(),
            Segments::Many(segments) => segments.concat().into(),
        }
    }
}

impl PartialEq for Data {
    /// By the bytes, however they are cut.
    fn eq(&self, other: &Self) -> bool {
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
        Self::from(Bytes::copy_from_slice(bytes))
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
}
