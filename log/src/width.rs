//! Lengths in memory are `usize`, stored lengths are `u64`: the one place where they meet.

/// A length in memory as it is stored. Lossless on every machine we know.
pub(crate) fn wide(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// A stored length as a length in memory; what does not fit is larger than any buffer.
pub(crate) fn narrow(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// The next multiple of 8 at or after `bytes`, which is far from the end of `u64`.
pub(crate) fn align8(bytes: u64) -> u64 {
    bytes.saturating_add(7) & !7
}
