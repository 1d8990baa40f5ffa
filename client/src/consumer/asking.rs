//! Requests for data that are on their way.
//!
//! Heartbeats tell a node that is gone; one that lives may never answer a request for data, as when its device hangs. Such a request can
//! neither be withdrawn nor be forgotten: the node counts it, and reads nothing more from a connection that has too many. So who has
//! waited long enough ends the connection, and asks again over a new one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use mofka_net::Opcode;

use crate::link::{Answer, Connection, Lost};
use crate::promise::{Deadline, Promise};

/// One of them.
pub(super) struct Asking {
    connection: Arc<Connection>,
    answer: Arc<Promise<Answer>>,
}

impl Asking {
    /// Asks for what `body` says.
    ///
    /// # Errors
    /// When the connection is dead.
    pub(super) fn send(connection: &Arc<Connection>, body: Bytes) -> Result<Self, Lost> {
        let answer = Arc::new(Promise::new());
        let (setter, came) = (Arc::clone(&answer), Arc::clone(connection.data_count()));
        connection.request(Opcode::Fetch, body, move |answer| {
            came.fetch_add(1, Ordering::Relaxed);
            setter.set(answer);
        })?;
        Ok(Self {
            connection: Arc::clone(connection),
            answer,
        })
    }

    /// Whether its answer came.
    pub(super) fn is_over(&self) -> bool {
        self.answer.get().is_some()
    }

    /// Waits for its answer. Time counts from when no other data comes over the connection: as long as some does, the way is
    /// what takes long.
    ///
    /// # Errors
    /// When it takes longer than this, in words. The connection ends then.
    pub(super) fn wait(&self, timeout: Option<Duration>) -> Result<&Answer, String> {
        let count: &AtomicU64 = self.connection.data_count();
        loop {
            let before = count.load(Ordering::Relaxed);
            let answer = self.answer.wait(timeout.map_or(Deadline::Never, Deadline::after));
            if let Some(answer) = answer {
                return Ok(answer);
            }
            if count.load(Ordering::Relaxed) == before {
                let timeout = timeout.unwrap_or_default();
                let reason =
                    format!("a request for data was not answered within {timeout:.1?} (fetch_timeout)");
                self.connection.abandon(reason.clone());
                return Err(reason);
            }
        }
    }
}
