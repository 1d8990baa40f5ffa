//! How the two sides of a connection know of each other that they live.

use std::cell::Cell;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use mofka_net::FrameHeader;

use super::Session;
use crate::io::Io;
use crate::shard::Peers;

/// A client that is not heard for so many heartbeats is gone, and so is a node for its clients.
const HEARTBEATS_MAX: u32 = 3;

impl<I: Io, P: Peers> Session<I, P> {
    /// Ends a connection on which nothing was heard for three heartbeats.
    pub(super) async fn watch(&self, heartbeat: Duration) -> io::Result<()> {
        loop {
            self.heard.set(false);
            for _ in 0..HEARTBEATS_MAX {
                self.shard.io().sleep(heartbeat).await;
                self.show_life();
            }
            // What is not begun waits for the client, and not the client for it.
            let is_worked_for = self.inflight_bytes.get() > self.errands.waiting_bytes();
            if !self.heard.get() && !is_worked_for {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "nothing heard for three heartbeats",
                ));
            }
        }
    }

    /// A request is worked on, or waits for room: the next one waits as long as this is kept. Not a future around the work, which
    /// would cost each small request a tenth of its time.
    pub(super) fn stalled(&self) -> Stalled<'_> {
        self.is_stalled.set(true);
        Stalled(&self.is_stalled)
    }

    /// Something came over the socket. A large frame over a slow link takes longer than a client may be silent.
    pub(super) fn note_bytes(&self) {
        self.heard.set(true);
        self.is_arriving.set(true);
    }

    /// Whoever waits for room, or for the device, does not look at what the client sends, nor answers its pings; and what the client
    /// sends behind a frame that is still arriving, nobody can look at. That is not to be taken for death, by neither side: both
    /// would begin anew, and no device, and no link, is faster for that.
    fn show_life(&self) {
        let was_silent = !self.outbox.take_pushed();
        let is_arriving = self.is_arriving.take();
        if !self.is_stalled.get() && !is_arriving {
            return;
        }
        self.heard.set(true);
        // What is queued says the same, once the client reads it.
        if was_silent && self.outbox.bytes() == 0 {
            self.outbox
                .push([Bytes::copy_from_slice(&FrameHeader::sign_of_life())]);
            // That is no answer: the next one is not to be late.
            self.outbox.take_pushed();
        }
    }
}

/// See [`Session::stalled`].
pub(super) struct Stalled<'a>(&'a Cell<bool>);

impl Drop for Stalled<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}
