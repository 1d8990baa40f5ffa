//! How much a task does before the others of its shard have their turn.
//!
//! A shard is one thread, and a task whose data is in memory never waits for anything. What one request may ask for
//! takes minutes, so whoever works it off says what he did.

use futures_lite::future;

/// About a millisecond of going through memory.
const TURN_BYTES: u64 = 4 << 20;

/// What a task did in its turn, in bytes that it went through. What is more than that is said as so many bytes as take that long.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    bytes: u64,
}

impl Turn {
    /// Notes what was done. Lets others go first when it was enough.
    pub(crate) async fn did(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes >= TURN_BYTES {
            self.bytes = 0;
            future::yield_now().await;
        }
    }
}
