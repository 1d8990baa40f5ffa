//! What waits to be sent on one connection: bounded, and written with few system calls.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{self, IoSlice};

use bytes::{Buf, Bytes};
use event_listener::Event;
use futures_lite::{AsyncWrite, AsyncWriteExt};

/// Pieces handed to one vectored write.
const SLICES_MAX: usize = 256;

/// Answers and feeds on their way to one client.
pub(crate) struct Outbox {
    queue: RefCell<VecDeque<Bytes>>,
    bytes: Cell<u64>,
    bytes_max: u64,
    changed: Event,
    closed: Cell<bool>,
}

impl Outbox {
    pub(crate) fn new(bytes_max: u64) -> Self {
        Self {
            queue: RefCell::new(VecDeque::new()),
            bytes: Cell::new(0),
            bytes_max,
            changed: Event::new(),
            closed: Cell::new(false),
        }
    }

    /// Queues one frame, given in pieces. Answers are always taken, since their requests were bounded; whoever
    /// produces on its own account (feeds) waits for [`Outbox::room`] first.
    pub(crate) fn push(&self, pieces: impl IntoIterator<Item = Bytes>) {
        if self.closed.get() {
            return;
        }
        let mut queue = self.queue.borrow_mut();
        for piece in pieces {
            if !piece.is_empty() {
                self.bytes.set(self.bytes.get() + piece.len() as u64);
                queue.push_back(piece);
            }
        }
        self.changed.notify(usize::MAX);
    }

    /// Waits until less than the bound is queued, or the connection is gone.
    pub(crate) async fn room(&self) {
        loop {
            let listener = self.changed.listen();
            if self.bytes.get() < self.bytes_max || self.closed.get() {
                return;
            }
            listener.await;
        }
    }

    /// Nothing will be sent any more.
    pub(crate) fn close(&self) {
        self.closed.set(true);
        self.changed.notify(usize::MAX);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// Waits until all that was queued is written, or the connection is gone.
    pub(crate) async fn drained(&self) {
        loop {
            let listener = self.changed.listen();
            if self.bytes.get() == 0 || self.closed.get() {
                return;
            }
            listener.await;
        }
    }

    /// Writes what is queued until the outbox is closed.
    ///
    /// # Errors
    /// What the connection said.
    pub(crate) async fn write_to(&self, mut writer: impl AsyncWrite + Unpin) -> io::Result<()> {
        loop {
            let listener = self.changed.listen();
            let batch: Vec<Bytes> = {
                let queue = self.queue.borrow();
                queue.iter().take(SLICES_MAX).cloned().collect()
            };
            if batch.is_empty() {
                if self.closed.get() {
                    return Ok(());
                }
                listener.await;
                continue;
            }
            let slices: Vec<IoSlice<'_>> = batch.iter().map(|piece| IoSlice::new(piece)).collect();
            let written = writer.write_vectored(&slices).await?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.advance(written);
        }
    }

    fn advance(&self, written: usize) {
        let mut queue = self.queue.borrow_mut();
        let mut left = written;
        while left > 0 {
            let Some(front) = queue.front_mut() else {
                unreachable!("no more is written than was queued")
            };
            let taken = left.min(front.len());
            front.advance(taken);
            left -= taken;
            if front.is_empty() {
                queue.pop_front();
            }
        }
        self.bytes.set(self.bytes.get() - written as u64);
        self.changed.notify(usize::MAX);
    }
}
