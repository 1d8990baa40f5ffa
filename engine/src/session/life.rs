//! How the two sides of a connection know of each other that they live.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_lite::future;
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
            if !self.heard.get() && self.inflight_bytes.get() == 0 {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "nothing heard for three heartbeats",
                ));
            }
        }
    }

    /// Waits for what has to be before the next request is looked at.
    pub(super) async fn stall(&self, mut wait: Pin<&mut impl Future<Output = ()>>) {
        if future::poll_once(wait.as_mut()).await.is_some() {
            return;
        }
        self.is_stalled.set(true);
        self.was_stalled.set(true);
        wait.await;
        self.is_stalled.set(false);
    }

    /// Whoever waits for room, or for the device, does not look at what the client sends, nor answers its pings. That is not to be
    /// taken for death, by neither side: both would begin anew, and no device is faster for that.
    fn show_life(&self) {
        let was_silent = !self.outbox.take_pushed();
        if !self.was_stalled.replace(self.is_stalled.get()) {
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
