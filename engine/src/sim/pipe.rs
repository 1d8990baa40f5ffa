//! A connection between a test, which is the client, and a shard on the simulated machine.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_lite::{AsyncRead, AsyncWrite};
use mofka_net::{FRAME_HEADER_BYTES, FrameHeader};

/// The client's end. Cheap to clone.
#[derive(Clone, Default)]
pub struct Pipe(Rc<RefCell<Stream>>);

/// What is on its way.
#[derive(Default)]
struct Stream {
    sent: VecDeque<Vec<u8>>,
    ended: bool,
    received: Vec<u8>,
    takes_nothing: bool,
}

impl Pipe {
    /// The other end, which the shard reads and writes.
    pub fn shard_end(&self) -> ShardEnd {
        ShardEnd(Rc::clone(&self.0))
    }

    /// Sends these bytes; the shard reads them apart from what is sent before and after. Nothing is sent of nothing: that would be
    /// the end.
    pub fn send(&self, bytes: Vec<u8>) {
        if !bytes.is_empty() {
            self.0.borrow_mut().sent.push_back(bytes);
        }
    }

    /// Sends nothing more.
    pub fn end(&self) {
        self.0.borrow_mut().ended = true;
    }

    /// Takes nothing of what comes from now on, or takes it again.
    pub fn take_nothing(&self, takes_nothing: bool) {
        self.0.borrow_mut().takes_nothing = takes_nothing;
    }

    /// What came, which is whole frames.
    ///
    /// # Panics
    /// When it is something else.
    pub fn frames(&self) -> Vec<(FrameHeader, Bytes)> {
        let mut rest = Bytes::from(self.0.borrow().received.clone());
        let mut frames = Vec::new();
        while !rest.is_empty() {
            let header = FrameHeader::check(&rest, u64::MAX).expect("the shard sends frames");
            let body_bytes = usize::try_from(header.body_bytes()).expect("a body is in memory");
            let mut frame = rest.split_to(FRAME_HEADER_BYTES + body_bytes);
            let body = frame.split_off(FRAME_HEADER_BYTES);
            header.check_body(&body).expect("the shard sends what it says");
            frames.push((header, body));
        }
        frames
    }
}

/// See [`Pipe::shard_end`]. Every task of the machine is looked at in every round, so nobody needs to be woken.
pub struct ShardEnd(Rc<RefCell<Stream>>);

impl AsyncRead for ShardEnd {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut stream = self.0.borrow_mut();
        let Some(mut first) = stream.sent.pop_front() else {
            return match stream.ended {
                true => Poll::Ready(Ok(0)),
                false => Poll::Pending,
            };
        };
        let bytes = first.len().min(buf.len());
        buf[..bytes].copy_from_slice(&first[..bytes]);
        if bytes < first.len() {
            stream.sent.push_front(first.split_off(bytes));
        }
        Poll::Ready(Ok(bytes))
    }
}

impl AsyncWrite for ShardEnd {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let mut stream = self.0.borrow_mut();
        if stream.takes_nothing {
            return Poll::Pending;
        }
        stream.received.extend_from_slice(buf);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
