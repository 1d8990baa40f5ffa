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

use bytes::Bytes;
use event_listener::Event;
use futures_lite::{AsyncRead, AsyncReadExt, AsyncWrite, future};
use mofka_net::{ErrorCode, FrameHeader, Opcode, ServerSession, WireError};

use crate::groups::SessionId;
use crate::intake::{Intake, Nonsense};
use crate::io::Io;
use crate::outbox::Outbox;
use crate::partition::{Partition, Upload};
use crate::shard::{HOME_SHARD, Peers, Shard, ShardCall};
use crate::subscription::Subscription;

/// How long a client that sent nonsense has to hear so.
const FAREWELL: Duration = Duration::from_secs(1);

/// A session as the shard sees it when it stops.
pub(crate) trait SessionHandle {
    /// Sends what is queued, then closes.
    fn finish(&self) -> Pin<Box<dyn Future<Output = ()> + '_>>;
}

/// An event's data on its way, and where it goes.
pub(crate) type Stream<I> = (Rc<Partition<I>>, Rc<Upload<I>>);

/// See the module.
pub(crate) struct Session<I: Io, P: Peers> {
    pub(crate) shard: Rc<Shard<I, P>>,
    pub(crate) outbox: Rc<Outbox>,
    pub(crate) subscriptions: RefCell<HashMap<u64, Rc<Subscription<I>>>>,
    /// Events whose data comes over this connection.
    pub(crate) streams: RefCell<HashMap<u64, Stream<I>>>,
    state: RefCell<ServerSession>,
    peer: String,
    pub(crate) id: SessionId,
    /// Whether consumers asked over it what they are to read.
    has_members: Cell<bool>,
    inflight_bytes: Cell<u64>,
    changed: Event,
    /// Set by every frame, cleared by the watchdog.
    heard: Cell<bool>,
    /// Partitions that got something appended in this burst.
    touched: RefCell<Vec<Rc<Partition<I>>>>,
    pub(crate) me: Weak<Self>,
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
            streams: RefCell::new(HashMap::new()),
            state: RefCell::new(ServerSession::new(limits.frame_bytes_max)),
            peer,
            id: shard.number_session(),
            has_members: Cell::new(false),
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
        let streams = session.streams.take();
        for (stream, (partition, _)) in streams {
            partition.abort_upload(stream).await;
        }
        session.leave_groups();
    }

    /// Notes that consumers of this connection are to leave when it ends.
    pub(crate) fn joined(&self) {
        self.has_members.set(true);
    }

    fn leave_groups(&self) {
        if !self.has_members.get() {
            return;
        }
        let (shard, id) = (Rc::clone(&self.shard), self.id);
        self.shard.io().spawn(async move {
            // A shard that has stopped has no groups any more.
            shard.ask(HOME_SHARD, ShardCall::GroupGone(id)).await.ok();
        });
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
        let mut intake = Intake::new(self.shard.io().clone());
        loop {
            if let Err(error) = self.take_requests(&mut intake).await {
                // The client is told why before the connection ends, if it listens.
                future::or(self.outbox.drained(), self.shard.io().sleep(FAREWELL)).await;
                return Err(error);
            }
            self.room().await;
            let read = reader.read(intake.space()).await?;
            if read == 0 {
                return if intake.is_empty() {
                    Ok(())
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                };
            }
            intake.came(read);
        }
    }

    /// Handles every whole request that came.
    async fn take_requests(&self, intake: &mut Intake<I>) -> io::Result<()> {
        let mut touched = false;
        loop {
            let next = intake.next(&self.state.borrow());
            let Some(request) = next.map_err(|nonsense| self.give_up(&nonsense))? else {
                break;
            };
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

    /// What came is not a frame: nothing after it can be trusted, so the connection ends. The client is told first.
    fn give_up(&self, nonsense: &Nonsense) -> io::Error {
        let Nonsense { request_id, error } = nonsense;
        tracing::warn!(peer = %self.peer, %error, "closing a connection");
        self.fail(*request_id, error);
        io::Error::new(io::ErrorKind::InvalidData, error.to_string())
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
