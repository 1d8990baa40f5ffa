//! How far ahead of their content files are made longer.

use mofka_log::{BLOCK_BYTES, FilePos};

/// What a file has ahead of its content: a sixteenth of it, within these bounds, so that little is lost in a small
/// partition; and twice as much as the last time when that was used up at once, so that a fast one grows rarely.
pub(super) const AHEAD_BYTES_MIN: u64 = 64 << 10;
const AHEAD_BYTES_MAX: u64 = 16 << 20;
/// Room that lasted less long than this was too little, and room that lasted longer than the other was too much.
const AT_ONCE_US: u64 = 200_000;
const LONG_US: u64 = 2_000_000;

/// How far ahead of their content files are made longer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ahead {
    pub(super) meta_bytes: u64,
    pub(super) data_bytes: u64,
    /// When they were made longer for the last time.
    since_us: u64,
}

impl Ahead {
    pub(super) fn new() -> Self {
        Self {
            meta_bytes: AHEAD_BYTES_MIN,
            data_bytes: AHEAD_BYTES_MIN,
            since_us: 0,
        }
    }

    /// How far a file that ends at `end` is to be made longer.
    pub(super) fn of(bytes: u64, end: FilePos) -> u64 {
        let share = (end.get() / 16).next_multiple_of(BLOCK_BYTES as u64);
        bytes.max(share).clamp(AHEAD_BYTES_MIN, AHEAD_BYTES_MAX)
    }

    /// Files are being made longer. A clock that jumps makes them too long or too short, once.
    pub(super) fn used_up(&mut self, now_us: u64, meta: bool, data: bool) {
        let lasted_us = now_us.saturating_sub(self.since_us);
        let change = |bytes: u64| match lasted_us {
            0..AT_ONCE_US => (bytes * 2).min(AHEAD_BYTES_MAX),
            LONG_US.. => (bytes / 2).max(AHEAD_BYTES_MIN),
            _ => bytes,
        };
        if meta {
            self.meta_bytes = change(self.meta_bytes);
        }
        if data {
            self.data_bytes = change(self.data_bytes);
        }
        self.since_us = now_us;
    }
}

/// Where a file will end when the other one, which is half full or more, is full, and a little more: beyond that nothing
/// needs to be made ahead.
pub(super) fn likely_end(end: FilePos, other_end: FilePos, other_bound: FilePos) -> FilePos {
    if other_end.get() < other_bound.get() / 2 {
        return FilePos::new(u64::MAX);
    }
    let whole = u128::from(end.get()) * u128::from(other_bound.get()) / u128::from(other_end.get().max(1));
    let whole = u64::try_from(whole + whole / 20).unwrap_or(u64::MAX);
    FilePos::new(whole.saturating_add(AHEAD_BYTES_MIN)).align_down(BLOCK_BYTES as u64)
}
