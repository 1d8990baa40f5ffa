//! A simulated machine for tests: a disk that loses what was not synced, a clock that stands still, tasks in one
//! thread. The log, the recovery and the partitions above it are the real ones.
//!
//! # What the disk may do at a crash
//! - Every write that no completed sync covers (a sync covers the writes that had completed when it was *issued*) is
//!   cut into sectors of 512 or 4096 bytes, and each sector is there or not, independently: so writes are kept,
//!   dropped, torn and reordered. A sector itself is never torn.
//! - Every truncation and every change of a name without a completed sync (of the file, of its directory) happened or
//!   did not, independently.
//! - Operations in flight count as not synced.
//!
//! What it does not do here: change sectors that nobody wrote to, or forget what was synced. Those are damage, not
//! crashes; tests that want them edit an [`Image`].

mod disk;
mod executor;

pub use disk::{Image, Random, Sectors};
pub use executor::SimIo;
