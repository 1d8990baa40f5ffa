//! Lengths in memory are `usize`, lengths on the wire are `u64`: the one place where they meet.

/// A length in memory as it goes over the wire. Lossless on every machine we know.
pub(crate) fn wide(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// A length off the wire as a length in memory; what does not fit is larger than any buffer.
pub(crate) fn narrow(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
