//! An event's data on its way into a batch.

use crate::data::Data;

/// What an event has for its data.
#[derive(Clone, Copy)]
pub(super) enum Payload<'a> {
    /// Of which segments may be kept as they are, or that only refers to data.
    Owned(&'a Data),
    /// Bytes of the caller, which are copied into the batch before he goes on.
    Lent(&'a [&'a [u8]]),
}

impl Payload<'_> {
    /// How many bytes it has: none of a reference.
    pub(super) fn bytes(self) -> u64 {
        match self {
            Self::Owned(data) => data.bytes(),
            Self::Lent(parts) => parts.iter().map(|part| part.len() as u64).sum(),
        }
    }

    /// What a reference takes among the metadata.
    pub(super) fn reference_bytes(self) -> u64 {
        match self {
            Self::Owned(data) => data.reference().map_or(0, |to| to.stored().len() as u64),
            Self::Lent(_) => 0,
        }
    }

    /// Whether it is memory of the library's own already.
    pub(super) fn is_copy(self) -> bool {
        matches!(self, Self::Owned(data) if data.is_copy())
    }
}
