//! What waits to be sent on one connection: bounded, and written with few system calls.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::rc::Rc;

use bytes::{Buf, Bytes};
use event_listener::Event;
use futures_lite::{AsyncWrite, AsyncWriteExt};
use mofka_net::shm::SendError;
use mofka_net::{FrameHeader, Opcode};

use crate::ring::RingEnd;

/// Pieces handed to one vectored write.
const SLICES_MAX: usize = 256;

/// Answers and feeds on their way to one client.
pub(crate) struct Outbox {
    /// Pieces for the socket.
    queue: RefCell<VecDeque<Bytes>>,
    /// In place of the socket, and whole frames that it had no room for.
    ring: RefCell<Option<Rc<RingEnd>>>,
    frames: RefCell<VecDeque<Vec<Bytes>>>,
    bytes: Cell<u64>,
    /// Of feeds that are read now.
    expected_bytes: Cell<u64>,
    bytes_max: Cell<u64>,
    changed: Event,
    closed: Cell<bool>,
    /// Whether anything was pushed since somebody looked.
    pushed: Cell<bool>,
}

impl Outbox {
    pub(crate) fn new(bytes_max: u64) -> Self {
        Self {
            queue: RefCell::new(VecDeque::new()),
            ring: RefCell::new(None),
            frames: RefCell::new(VecDeque::new()),
            bytes: Cell::new(0),
            expected_bytes: Cell::new(0),
            bytes_max: Cell::new(bytes_max),
            changed: Event::new(),
            closed: Cell::new(false),
            pushed: Cell::new(false),
        }
    }

    /// Queues one frame, given in pieces. Answers are always taken, since their requests were bounded; whoever
    /// produces on its own account (feeds) asks for room first ([`Outbox::expect`]).
    pub(crate) fn push(&self, pieces: impl IntoIterator<Item = Bytes>) {
        if self.closed.get() {
            return;
        }
        self.pushed.set(true);
        if let Some(ring) = &*self.ring.borrow() {
            return self.push_to_ring(ring, pieces.into_iter().collect());
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

    /// Whether a frame in these parts went to a ring at once, where it was copied: there was room, and nothing waited before it.
    pub(crate) fn lends(&self, parts: &[&[u8]]) -> bool {
        let ring = self.ring.borrow();
        let ring = ring.as_ref().filter(|_| self.frames.borrow().is_empty());
        let lends = ring.is_some_and(|ring| ring.send_parts(parts).is_ok());
        if lends {
            self.pushed.set(true);
        }
        lends
    }

    /// Whether anything was pushed since this was asked last.
    pub(crate) fn take_pushed(&self) -> bool {
        self.pushed.take()
    }

    /// A frame goes to the ring at once if there is room and nothing waits before it: nobody has to be woken for that.
    fn push_to_ring(&self, ring: &RingEnd, frame: Vec<Bytes>) {
        let mut frames = self.frames.borrow_mut();
        if frames.is_empty() && ring.send(&frame).is_ok() {
            return;
        }
        // Whatever is wrong, who writes finds out too.
        self.bytes.set(self.bytes.get() + frame_bytes(&frame));
        frames.push_back(frame);
        self.changed.notify(usize::MAX);
    }

    /// From now on everything goes through the ring. Nothing is queued.
    pub(crate) fn go_over(&self, ring: Rc<RingEnd>) {
        assert!(self.bytes.get() == 0, "what was queued for the socket has left");
        *self.ring.borrow_mut() = Some(ring);
        self.changed.notify(usize::MAX);
    }

    /// Waits until less than the bound is queued, or the connection is gone.
    pub(crate) async fn room(&self) {
        self.until(Self::has_room).await;
    }

    /// Waits until this is so, or the connection is gone.
    async fn until(&self, is_so: impl Fn(&Self) -> bool) {
        loop {
            let listener = self.changed.listen();
            if is_so(self) || self.closed.get() {
                return;
            }
            listener.await;
        }
    }

    /// Takes room for a frame of so many bytes at most, before it is made: `None` while there is none. One frame fits, however large
    /// it is.
    pub(crate) fn expect(&self, bytes: u64) -> Option<Expected<'_>> {
        if !self.has_room_for_more() {
            return None;
        }
        self.expected_bytes
            .set(self.expected_bytes.get().saturating_add(bytes));
        Some(Expected { outbox: self, bytes })
    }

    /// Waits until [`Outbox::expect`] would give room, or the connection is gone.
    pub(crate) async fn room_for_more(&self) {
        self.until(Self::has_room_for_more).await;
    }

    fn has_room_for_more(&self) -> bool {
        self.bytes.get().saturating_add(self.expected_bytes.get()) < self.bytes_max.get()
    }

    /// Whether [`Outbox::room`] would not wait.
    pub(crate) fn has_room(&self) -> bool {
        self.bytes.get() < self.bytes_max.get()
    }

    /// Bounds what is queued in another way from now on. What is queued stays.
    pub(crate) fn set_bytes_max(&self, bytes_max: u64) {
        self.bytes_max.set(bytes_max);
        self.changed.notify(usize::MAX);
    }

    /// Nothing will be sent any more.
    pub(crate) fn close(&self) {
        self.closed.set(true);
        // Whoever still holds this, the ring ends with its session.
        self.ring.take();
        self.changed.notify(usize::MAX);
    }

    /// Bytes that are queued.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// Waits until all that was queued is written, or the connection is gone.
    pub(crate) async fn drained(&self) {
        self.until(|outbox| outbox.bytes.get() == 0).await;
    }

    /// Writes what is queued until the outbox is closed.
    ///
    /// # Errors
    /// What the connection said.
    pub(crate) async fn write_to(&self, mut writer: impl AsyncWrite + Unpin) -> io::Result<()> {
        loop {
            let listener = self.changed.listen();
            let ring = self.ring.borrow().clone();
            if let Some(ring) = ring {
                return self.write_to_ring(&ring, writer).await;
            }
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

    /// Brings to the ring what found no room there, and over the socket what it can never hold: a frame in the ring keeps
    /// its place.
    async fn write_to_ring(&self, ring: &RingEnd, mut socket: impl AsyncWrite + Unpin) -> io::Result<()> {
        loop {
            let listener = self.changed.listen();
            let front = self.frames.borrow().front().cloned();
            let Some(frame) = front else {
                if self.closed.get() {
                    return Ok(());
                }
                listener.await;
                continue;
            };
            drop(listener);
            let bytes = frame_bytes(&frame);
            match ring.send(&frame) {
                Ok(()) => {}
                Err(SendError::NoRoom { .. }) => {
                    ring.room(bytes).await;
                    continue;
                }
                Err(SendError::FrameBytes { .. }) => {
                    self.send_detour(ring).await?;
                    for piece in &frame {
                        socket.write_all(piece).await?;
                    }
                }
                Err(error) => return Err(io::Error::new(io::ErrorKind::BrokenPipe, error)),
            }
            self.frames.borrow_mut().pop_front();
            self.bytes.set(self.bytes.get() - bytes);
            self.changed.notify(usize::MAX);
        }
    }

    async fn send_detour(&self, ring: &RingEnd) -> io::Result<()> {
        let notice = [FrameHeader::request(Opcode::RingDetour, 0, &[])];
        loop {
            match ring.send(&notice) {
                Ok(()) => break,
                Err(SendError::NoRoom { frame_bytes }) => ring.room(frame_bytes).await,
                Err(error) => return Err(io::Error::new(io::ErrorKind::BrokenPipe, error)),
            }
        }
        ring.note_detour();
        Ok(())
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

/// Room that was taken. There again when this is dropped: the frame is queued then, or will not be.
pub(crate) struct Expected<'a> {
    outbox: &'a Outbox,
    bytes: u64,
}

impl Drop for Expected<'_> {
    fn drop(&mut self) {
        let expected_bytes = self.outbox.expected_bytes.get().saturating_sub(self.bytes);
        self.outbox.expected_bytes.set(expected_bytes);
        self.outbox.changed.notify(usize::MAX);
    }
}

fn frame_bytes(frame: &[Bytes]) -> u64 {
    frame.iter().map(|piece| piece.len() as u64).sum()
}

#[cfg(test)]
mod tests {
    use futures_lite::future;

    use super::*;

    #[test]
    fn what_is_about_to_be_queued_takes_room_before_it_is_made() {
        let outbox = Outbox::new(100);
        let large = outbox.expect(1000);
        assert!(large.is_some() && outbox.expect(1).is_none());
        assert!(outbox.has_room(), "for answers to what was asked");
        let waiting = outbox.room_for_more();
        let mut waiting = std::pin::pin!(waiting);
        assert!(future::block_on(future::poll_once(&mut waiting)).is_none());
        drop(large);
        future::block_on(waiting);
        outbox.push([Bytes::from_static(&[0; 60])]);
        let more = outbox.expect(40);
        assert!(more.is_some() && outbox.expect(1).is_none());
        outbox.push([Bytes::from_static(&[0; 40])]);
        drop(more);
        assert!(outbox.expect(1).is_none());
    }
}
