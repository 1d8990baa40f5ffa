//! One client's connection: reads its requests, answers them, feeds its subscriptions.
//!
//! Requests of one connection are answered as they finish, not in the order they came: each carries its number. What
//! a client may have unanswered is bounded; beyond it its socket is not read, which is the back-pressure it feels.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use event_listener::Event;
use futures_lite::{AsyncRead, AsyncReadExt, AsyncWrite, future};
use mofka_net::{ErrorCode, FRAME_HEADER_BYTES, FrameHeader, Opcode, ServerSession, WireError};

use crate::io::Io;
use crate::outbox::Outbox;
use crate::partition::Partition;
use crate::shard::{Peers, Shard};
use crate::subscription::Subscription;

/// Bytes asked of the socket at a time.
const READ_BYTES_MIN: usize = 16 << 10;
const READ_BYTES_MAX: usize = 256 << 10;
/// Bodies below this get memory of their own. They may stay in memory for long, among the recent batches, and must not keep
/// a buffer alive that is many times as large; larger ones are worth more than the copy.
const OWN_BYTES_MAX: usize = 64 << 10;
/// How long a client that sent nonsense has to hear so.
const FAREWELL: Duration = Duration::from_secs(1);

/// A session as the shard sees it when it stops.
pub(crate) trait SessionHandle {
    /// Sends what is queued, then closes.
    fn finish(&self) -> Pin<Box<dyn Future<Output = ()> + '_>>;
}

/// See the module.
pub(crate) struct Session<I: Io, P: Peers> {
    pub(crate) shard: Rc<Shard<I, P>>,
    pub(crate) outbox: Rc<Outbox>,
    pub(crate) subscriptions: RefCell<HashMap<u64, Rc<Subscription<I>>>>,
    state: RefCell<ServerSession>,
    peer: String,
    inflight_bytes: Cell<u64>,
    changed: Event,
    /// Set by every frame, cleared by the watchdog.
    heard: Cell<bool>,
    /// Partitions that got something appended in this burst.
    touched: RefCell<Vec<Rc<Partition<I>>>>,
    pub(crate) me: Weak<Self>,
}

/// One request, whole.
pub(crate) struct Request {
    pub(crate) header: FrameHeader,
    pub(crate) body: Bytes,
}

impl<I: Io, P: Peers> SessionHandle for Session<I, P> {
    fn finish(&self) -> Pin<Box<dyn Future<Output = ()> + '_>> {
        Box::pin(async {
            self.outbox.drained().await;
            self.outbox.close();
        })
    }
}

impl<I: Io, P: Peers> Session<I, P> {
    /// Serves one connection until it ends.
    pub(crate) async fn run(
        shard: &Rc<Shard<I, P>>,
        reader: impl AsyncRead + Unpin,
        writer: impl AsyncWrite + Unpin,
        peer: String,
    ) {
        let limits = shard.facts().limits;
        let session = Rc::new_cyclic(|me| Self {
            shard: Rc::clone(shard),
            outbox: Rc::new(Outbox::new(limits.connection_outbox_bytes_max)),
            subscriptions: RefCell::new(HashMap::new()),
            state: RefCell::new(ServerSession::new(limits.frame_bytes_max)),
            peer,
            inflight_bytes: Cell::new(0),
            changed: Event::new(),
            heard: Cell::new(true),
            touched: RefCell::new(Vec::new()),
            me: me.clone(),
        });
        let handle: Weak<Self> = session.me.clone();
        shard.add_session(handle);
        let read = session.read_requests(reader);
        let write = session.outbox.write_to(writer);
        let watch = session.watch(Duration::from_millis(limits.heartbeat_ms));
        let ended = future::or(future::or(read, write), watch).await;
        if let Err(error) = ended {
            tracing::debug!(peer = %session.peer, %error, "connection ended");
        }
        session.outbox.close();
        let subscriptions = session.subscriptions.take();
        for subscription in subscriptions.into_values() {
            subscription.close();
        }
    }

    /// Ends a connection on which nothing was heard for three heartbeats.
    async fn watch(&self, heartbeat: Duration) -> io::Result<()> {
        loop {
            self.heard.set(false);
            self.shard.io().sleep(heartbeat * 3).await;
            if !self.heard.get() && self.inflight_bytes.get() == 0 {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "nothing heard for three heartbeats",
                ));
            }
        }
    }

    async fn read_requests(&self, mut reader: impl AsyncRead + Unpin) -> io::Result<()> {
        let mut buffer = BytesMut::new();
        let mut read_bytes = READ_BYTES_MIN;
        loop {
            if let Err(error) = self.take_requests(&mut buffer).await {
                // The client is told why before the connection ends, if it listens.
                future::or(self.outbox.drained(), self.shard.io().sleep(FAREWELL)).await;
                return Err(error);
            }
            self.room().await;
            let filled = buffer.len();
            let wanted = self.missing_bytes(&buffer).max(read_bytes);
            buffer.resize(filled + wanted, 0);
            let read = match buffer.get_mut(filled..) {
                Some(free) => reader.read(free).await?,
                None => 0,
            };
            buffer.truncate(filled + read);
            if read == 0 {
                return if buffer.is_empty() {
                    Ok(())
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                };
            }
            // Memory is zeroed before it is read into: ask for much only where much comes.
            read_bytes = match read {
                read if read == wanted => (read_bytes * 2).min(READ_BYTES_MAX),
                read if read < read_bytes / 4 => (read_bytes / 2).max(READ_BYTES_MIN),
                _ => read_bytes,
            };
        }
    }

    /// Handles every whole request in the buffer.
    async fn take_requests(&self, buffer: &mut BytesMut) -> io::Result<()> {
        let mut touched = false;
        while let Some(request) = self.next_request(buffer)? {
            self.heard.set(true);
            touched = true;
            crate::requests::handle(self, request).await;
        }
        if touched {
            // All that came in one go is committed together.
            crate::requests::burst_ended(self);
        }
        Ok(())
    }

    /// Takes one whole request off the buffer, if there is one.
    ///
    /// # Errors
    /// When what came is not a frame: nothing after it can be trusted, so the connection ends. The client is told
    /// first.
    fn next_request(&self, buffer: &mut BytesMut) -> io::Result<Option<Request>> {
        let Some(first) = buffer.get(..FRAME_HEADER_BYTES) else {
            return Ok(None);
        };
        let header = match self.state.borrow_mut().check_header(first) {
            Ok(header) => header,
            Err(error) => return Err(self.give_up(0, error)),
        };
        let whole = header.body_bytes().saturating_add(FRAME_HEADER_BYTES as u64);
        if (buffer.len() as u64) < whole {
            return Ok(None);
        }
        buffer.advance(FRAME_HEADER_BYTES);
        let body_bytes = usize::try_from(header.body_bytes())
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let body = take_body(buffer, body_bytes);
        if let Err(error) = self.state.borrow_mut().check_body(&header, &body) {
            return Err(self.give_up(header.request_id(), error));
        }
        Ok(Some(Request { header, body }))
    }

    /// How much of the request that has begun is still to come.
    fn missing_bytes(&self, buffer: &BytesMut) -> usize {
        let Some(first) = buffer.get(..FRAME_HEADER_BYTES) else {
            return 0;
        };
        match self.state.borrow_mut().check_header(first) {
            Ok(header) => usize::try_from(header.body_bytes())
                .unwrap_or(0)
                .saturating_add(FRAME_HEADER_BYTES)
                .saturating_sub(buffer.len()),
            Err(_) => 0,
        }
    }

    fn give_up(&self, request_id: u64, error: WireError) -> io::Error {
        tracing::warn!(peer = %self.peer, %error, "closing a connection");
        let message = error.to_string();
        self.fail(request_id, &error);
        io::Error::new(io::ErrorKind::InvalidData, message)
    }

    /// Waits until the client may have more unanswered.
    async fn room(&self) {
        self.outbox.room().await;
        let bytes_max = self.shard.facts().limits.connection_inflight_bytes_max;
        loop {
            let listener = self.changed.listen();
            if self.inflight_bytes.get() < bytes_max || self.outbox.is_closed() {
                return;
            }
            listener.await;
        }
    }

    /// Notes that this partition is to be kicked when the burst ends.
    pub(crate) fn touch(&self, partition: &Rc<Partition<I>>) {
        let mut touched = self.touched.borrow_mut();
        if !touched.iter().any(|known| Rc::ptr_eq(known, partition)) {
            touched.push(Rc::clone(partition));
        }
    }

    pub(crate) fn take_touched(&self) -> Vec<Rc<Partition<I>>> {
        self.touched.take()
    }

    /// Notes that a request of this size is being worked on.
    pub(crate) fn begin(&self, bytes: u64) {
        self.inflight_bytes.set(self.inflight_bytes.get() + bytes);
    }

    /// Notes that it is answered.
    pub(crate) fn end(&self, bytes: u64) {
        self.inflight_bytes.set(self.inflight_bytes.get() - bytes);
        self.changed.notify(usize::MAX);
    }

    pub(crate) fn state(&self) -> std::cell::RefMut<'_, ServerSession> {
        self.state.borrow_mut()
    }

    /// Answers a request.
    pub(crate) fn answer(&self, request: &FrameHeader, body: Bytes) {
        let header = FrameHeader::response(request, &body);
        self.outbox.push([header, body]);
    }

    /// Answers a request with an error.
    pub(crate) fn fail(&self, request_id: u64, error: &WireError) {
        let body = Bytes::from(error.to_json());
        let header = FrameHeader::error(request_id, &body);
        self.outbox.push([header, body]);
    }

    /// Answers a request with what came of it.
    pub(crate) fn conclude(&self, request: &FrameHeader, outcome: Result<Bytes, WireError>) {
        match outcome {
            Ok(body) => self.answer(request, body),
            Err(error) => self.fail(request.request_id(), &error),
        }
    }

    /// Before hello, and after it, what may be asked.
    pub(crate) fn admit(&self, opcode: Opcode) -> Result<(), WireError> {
        self.state.borrow().admit(opcode)
    }

    /// A subscription of this session.
    pub(crate) fn subscription(&self, id: u64) -> Result<Rc<Subscription<I>>, WireError> {
        self.subscriptions.borrow().get(&id).cloned().ok_or_else(|| {
            WireError::new(
                ErrorCode::UnknownSubscription,
                format!("no subscription {id} on this connection"),
            )
        })
    }
}

/// Takes the body of a request off the buffer.
fn take_body(buffer: &mut BytesMut, bytes: usize) -> Bytes {
    if bytes >= OWN_BYTES_MAX {
        return buffer.split_to(bytes).freeze();
    }
    let body = Bytes::copy_from_slice(buffer.get(..bytes).unwrap_or_default());
    buffer.advance(bytes);
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_body_does_not_keep_the_buffer_alive_and_a_large_one_is_not_copied() {
        for (bytes, is_own) in [(0, true), (100, true), (OWN_BYTES_MAX, false)] {
            let content: Vec<u8> = (0..bytes + 7).map(|place| place.to_le_bytes()[0]).collect();
            let mut buffer = BytesMut::from(content.as_slice());
            let place = buffer.as_ptr();
            let body = take_body(&mut buffer, bytes);
            assert_eq!((&body[..], &buffer[..]), (&content[..bytes], &content[bytes..]));
            assert_eq!(body.as_ptr() != place, is_own, "{bytes} bytes");
        }
    }
}
