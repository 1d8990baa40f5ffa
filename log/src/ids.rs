//! Numbers that must not be swapped: places among events, places in files, producers.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::width::wide;

/// An event's place in its partition, dense from 0. As an end it is exclusive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventId(u64);

impl EventId {
    /// The id with this number.
    pub const fn new(id: u64) -> Self {
        Self(id)
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The id `count` events later; `None` beyond 64 bits.
    pub const fn checked_add(self, count: u64) -> Option<Self> {
        match self.0.checked_add(count) {
            Some(id) => Some(Self(id)),
            None => None,
        }
    }

    /// The id of the next event. The last of all 64-bit ids is its own successor; checked ids are far below it.
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The id `count` events later, where both were bounded before.
    pub(crate) fn plus(self, count: u64) -> Self {
        let sum = self.checked_add(count);
        assert!(
            sum.is_some(),
            "event id {self} plus {count} exceeds 64 bits, though both were bounded"
        );
        sum.unwrap_or(self)
    }

    /// Events from `start` to here; 0 when `start` is later.
    pub const fn since(self, start: Self) -> u64 {
        self.0.saturating_sub(start.0)
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A byte place in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FilePos(u64);

/// [`crate::BLOCK_BYTES`] where positions are computed.
const BLOCK: u64 = 4096;

impl FilePos {
    /// Where frames and data begin: after the block of the segment header.
    pub(crate) const FIRST: Self = Self(BLOCK);

    /// The position with this number.
    pub const fn new(at: u64) -> Self {
        Self(at)
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The position `bytes` later; `None` beyond 64 bits.
    pub const fn checked_add(self, bytes: u64) -> Option<Self> {
        match self.0.checked_add(bytes) {
            Some(at) => Some(Self(at)),
            None => None,
        }
    }

    /// The position `bytes` later, where both were bounded before.
    pub(crate) fn plus(self, bytes: u64) -> Self {
        let sum = self.checked_add(bytes);
        assert!(
            sum.is_some(),
            "position {self} plus {bytes} exceeds 64 bits, though both were bounded"
        );
        sum.unwrap_or(self)
    }

    /// Bytes from `start` to here; 0 when `start` is later.
    pub const fn since(self, start: Self) -> u64 {
        self.0.saturating_sub(start.0)
    }

    /// The last multiple of `align_bytes` (not 0) at or before this.
    pub fn align_down(self, align_bytes: u64) -> Self {
        assert!(align_bytes > 0, "an alignment of 0 bytes");
        Self(
            self.0
                .saturating_sub(self.0.checked_rem(align_bytes).unwrap_or(0)),
        )
    }

    /// The first multiple of `align_bytes` (not 0) at or after this; checked positions are far from the end of 64 bits.
    pub fn align_up(self, align_bytes: u64) -> Self {
        let down = self.align_down(align_bytes);
        if down == self {
            self
        } else {
            down.plus(align_bytes)
        }
    }

    /// The start of the block that this is in.
    pub(crate) fn block_down(self) -> Self {
        self.align_down(BLOCK)
    }

    /// The first start of a block at or after this.
    pub(crate) fn block_up(self) -> Self {
        self.align_up(BLOCK)
    }

    /// Bytes from the start of the block to here.
    pub(crate) fn in_block_bytes(self) -> u64 {
        self.since(self.block_down())
    }
}

const _: () = assert!(crate::limits::BLOCK_BYTES == 4096);

impl fmt::Display for FilePos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<usize> for FilePos {
    fn from(at: usize) -> Self {
        Self(wide(at))
    }
}

/// Who sent a batch: chosen at random by the producer. 0 on the device means nobody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ProducerId(u64);

impl ProducerId {
    /// The producer with this number; 0 is nobody.
    pub const fn new(id: u64) -> Self {
        Self(id)
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Whether this names nobody.
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for ProducerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alignment_goes_both_ways() {
        let at = |at| FilePos::new(at);
        assert_eq!(at(4097).align_down(4096), at(4096));
        assert_eq!(at(4096).align_down(4096), at(4096));
        assert_eq!(at(4097).align_up(4096), at(8192));
        assert_eq!(at(4096).align_up(4096), at(4096));
        assert_eq!(at(0).block_up(), at(0));
        assert_eq!(at(5000).in_block_bytes(), 904);
    }

    #[test]
    fn sums_are_checked() {
        assert_eq!(EventId::new(u64::MAX).checked_add(1), None);
        assert_eq!(EventId::new(3).checked_add(4), Some(EventId::new(7)));
        assert_eq!(FilePos::new(u64::MAX).checked_add(1), None);
        assert_eq!(EventId::new(9).next(), EventId::new(10));
        assert_eq!(EventId::new(5).since(EventId::new(7)), 0);
    }
}
