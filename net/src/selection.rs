//! One step from a view to a smaller view, and its bytes.
//!
//! ```text
//! 1 sub:           1u8, offset, bytes
//! 2 strided:       2u8, offset, block_count, block_bytes, gap_bytes
//! 3 unstructured:  3u8, count, then count times: offset, bytes
//! ```
//! All numbers u64.

use serde::{Deserialize, Serialize};

use crate::descriptor::{DescriptorError, ViewError};

/// A stretch of a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Segment {
    /// Where it begins in the view.
    pub offset: u64,
    /// How long it is.
    pub bytes: u64,
}

impl Segment {
    /// Exclusive end, if there is one in 64 bits.
    pub(crate) fn end(&self) -> Option<u64> {
        self.offset.checked_add(self.bytes)
    }
}

/// Blocks of one size at regular distances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Strided {
    /// Where the first block begins.
    pub offset: u64,
    /// How many there are.
    pub block_count: u64,
    /// How long each is.
    pub block_bytes: u64,
    /// What lies between two of them.
    pub gap_bytes: u64,
}

impl Strided {
    /// Bytes in all blocks.
    pub(crate) fn bytes(&self) -> Option<u64> {
        self.block_count.checked_mul(self.block_bytes)
    }

    /// From one block's beginning to the next one's.
    pub(crate) fn stride_bytes(&self) -> Option<u64> {
        self.block_bytes.checked_add(self.gap_bytes)
    }

    /// Exclusive end of the last block: the gap after it does not count.
    pub(crate) fn end(&self) -> Option<u64> {
        let before_last = self
            .stride_bytes()?
            .checked_mul(self.block_count.checked_sub(1)?)?;
        self.offset
            .checked_add(before_last)?
            .checked_add(self.block_bytes)
    }
}

/// What a view selects of the view below it. Never empty; ascending and without overlap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Selection {
    /// One stretch.
    Sub(Segment),
    /// Regular blocks.
    Strided(Strided),
    /// Any stretches.
    Unstructured(Vec<Segment>),
}

pub(crate) const TAG_SUB: u8 = 1;
pub(crate) const TAG_STRIDED: u8 = 2;
pub(crate) const TAG_UNSTRUCTURED: u8 = 3;

impl Selection {
    /// Checks the selection against the view of `view_bytes` that it is made on; gives the bytes it selects.
    pub(crate) fn check(&self, view_bytes: u64) -> Result<u64, ViewError> {
        let beyond = |end: Option<u64>| ViewError::OutOfBounds { end, view_bytes };
        let within = |end: Option<u64>| end.is_some_and(|end| end <= view_bytes);
        let bytes = match self {
            Self::Sub(segment) if within(segment.end()) => segment.bytes,
            Self::Sub(segment) => return Err(beyond(segment.end())),
            Self::Strided(strided) if within(strided.end()) => strided.bytes().unwrap_or(0),
            Self::Strided(strided) => return Err(beyond(strided.end())),
            Self::Unstructured(segments) => {
                let (mut previous_end, mut bytes) = (0, 0_u64);
                for (index, segment) in segments.iter().enumerate() {
                    if segment.offset < previous_end || segment.bytes == 0 {
                        return Err(ViewError::OutOfOrder { index });
                    }
                    let end = segment.end().filter(|end| *end <= view_bytes);
                    previous_end = end.ok_or_else(|| beyond(segment.end()))?;
                    bytes = bytes.saturating_add(segment.bytes);
                }
                bytes
            }
        };
        if bytes == 0 {
            Err(ViewError::Nothing)
        } else {
            Ok(bytes)
        }
    }

    /// How many ranges more there can be after this selection than before it.
    pub(crate) fn added_segments(&self) -> u64 {
        let segment_count = match self {
            Self::Sub(_) => 1,
            Self::Strided(strided) => strided.block_count,
            Self::Unstructured(segments) => crate::width::wide(segments.len()),
        };
        segment_count.saturating_sub(1)
    }

    pub(crate) fn serialize(&self, into: &mut Vec<u8>) {
        let mut put = |values: &[u64]| {
            values
                .iter()
                .for_each(|value| into.extend_from_slice(&value.to_le_bytes()))
        };
        match self {
            Self::Sub(segment) => put(&[segment.offset, segment.bytes]),
            Self::Strided(strided) => {
                put(&[
                    strided.offset,
                    strided.block_count,
                    strided.block_bytes,
                    strided.gap_bytes,
                ]);
            }
            Self::Unstructured(segments) => {
                put(&[crate::width::wide(segments.len())]);
                segments
                    .iter()
                    .for_each(|segment| put(&[segment.offset, segment.bytes]));
            }
        }
    }

    /// Tag and numbers.
    pub(crate) fn serialized_bytes(&self) -> usize {
        match self {
            Self::Sub(_) => 17,
            Self::Strided(_) => 33,
            Self::Unstructured(segments) => segments.len().saturating_mul(16).saturating_add(9),
        }
    }

    pub(crate) fn tag(&self) -> u8 {
        match self {
            Self::Sub(_) => TAG_SUB,
            Self::Strided(_) => TAG_STRIDED,
            Self::Unstructured(_) => TAG_UNSTRUCTURED,
        }
    }
}

/// Numbers off the front of a serialized descriptor.
pub(crate) struct Numbers<'a> {
    rest: &'a [u8],
}

impl<'a> Numbers<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn bytes(&mut self, bytes: usize) -> Result<&'a [u8], DescriptorError> {
        let short = DescriptorError::Short {
            need_bytes: bytes,
            have_bytes: self.rest.len(),
        };
        let (taken, rest) = self.rest.split_at_checked(bytes).ok_or(short)?;
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, DescriptorError> {
        Ok(self.bytes(1)?.first().copied().unwrap_or(0))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, DescriptorError> {
        let bytes = self.bytes(size_of::<u64>())?;
        Ok(bytes.try_into().map_or(0, u64::from_le_bytes))
    }

    pub(crate) fn left_bytes(&self) -> usize {
        self.rest.len()
    }
}
