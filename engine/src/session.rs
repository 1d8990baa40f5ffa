//! One client's connection: reads its requests, answers them, feeds its subscriptions.
//!
//! Requests of one connection are answered as they finish, not in the order they came: each carries its number. What
//! a client may have unanswered is bounded; beyond it its socket is not read, which is the back-pressure it feels.

mod life;

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
use mofka_net::limits::{FEATURES, FEATURES_EVERYWHERE};
use mofka_net::shm::ReceiveError;
use mofka_net::{ErrorCode, FrameHeader, Opcode, ServerSession, WireError};

use crate::config::LocalClients;
use crate::errands::Errands;
use crate::groups::SessionId;
use crate::intake::{Intake, Nonsense, Request};
use crate::io::Io;
use crate::limits::EngineLimits;
use crate::outbox::Outbox;
use crate::partition::{Partition, Upload};
use crate::ring::{Door, RingEnd};
use crate::shard::{HOME_SHARD, Peers, Shard, ShardCall};
use crate::subscription::Subscription;

/// How long a client that sent nonsense has to hear so.
const FAREWELL: Duration = Duration::from_secs(1);

/// Requests that are taken from a ring before others of the shard have their turn.
const RING_BURST: usize = 64;

/// A session as the shard sees it when it stops.
pub(crate) trait SessionHandle {
    /// Sends what is queued, then closes.
    fn finish(&self) -> Pin<Box<dyn Future<Output = ()> + '_>>;
    /// Bytes of requests that are not answered yet, and of answers and feeds that the client has not taken yet.
    fn waiting_bytes(&self) -> (u64, u64);
    /// Settings of the node changed. A client that may not use its Unix sockets any more is let go.
    fn settings_changed(&self, limits: &EngineLimits, local_clients: &LocalClients);
}

/// An event's data on its way, and where it goes.
pub(crate) type Stream<I> = (Rc<Partition<I>>, Rc<Upload<I>>);

/// Who is at the other end of a connection.
pub(crate) struct Peer {
    name: String,
    /// Why it may do nothing here.
    refusal: Option<String>,
    user: Option<LocalUser>,
    door: Option<Box<dyn Door>>,
}

/// Whose process is at the other end of a Unix socket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LocalUser {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// The node's own.
    pub(crate) own_uid: u32,
}

impl LocalUser {
    fn refusal(&self, local_clients: &LocalClients) -> Option<String> {
        local_clients.refusal(self.uid, self.gid, self.own_uid)
    }
}

impl Peer {
    /// Somebody elsewhere, named for the log.
    pub(crate) fn named(name: String) -> Self {
        Self {
            name,
            refusal: None,
            user: None,
            door: None,
        }
    }

    /// For the log.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// A process of this machine, which may do here what `local_clients` says, and how it comes to a ring.
    pub(crate) fn local(
        name: String,
        user: LocalUser,
        local_clients: &LocalClients,
        door: Box<dyn Door>,
    ) -> Self {
        Self {
            name,
            refusal: user.refusal(local_clients),
            user: Some(user),
            door: Some(door),
        }
    }

    /// A process of this machine that may do nothing here, and why.
    pub(crate) fn refused(name: String, reason: String) -> Self {
        Self {
            refusal: Some(reason),
            ..Self::named(name)
        }
    }
}

/// See the module.
pub(crate) struct Session<I: Io, P: Peers> {
    pub(crate) shard: Rc<Shard<I, P>>,
    pub(crate) outbox: Rc<Outbox>,
    pub(crate) subscriptions: RefCell<HashMap<u64, Rc<Subscription<I>>>>,
    /// Requests about topics and the node.
    pub(crate) errands: Rc<Errands>,
    /// Events whose data comes over this connection.
    pub(crate) streams: RefCell<HashMap<u64, Stream<I>>>,
    /// How many more are about to be among them.
    pub(crate) streams_opening: Cell<usize>,
    state: RefCell<ServerSession>,
    /// As they were when the connection began, since the client was told them.
    pub(crate) limits: EngineLimits,
    peer: Peer,
    /// What the connection goes on over.
    ring: RefCell<Option<Rc<RingEnd>>>,
    pub(crate) id: SessionId,
    /// Whether consumers asked over it what they are to read.
    has_members: Cell<bool>,
    inflight_bytes: Cell<u64>,
    changed: Event,
    /// The client is to go.
    dismissed: Event,
    /// Set by whatever comes, cleared by the watchdog.
    heard: Cell<bool>,
    /// Whether a part of a frame came over the socket, since the watchdog looked.
    is_arriving: Cell<bool>,
    /// Whether the next request has to wait.
    is_stalled: Cell<bool>,
    /// Partitions that got something appended in this burst.
    touched: RefCell<Vec<Rc<Partition<I>>>>,
    /// When the first batch of this burst was looked at.
    burst_us: Cell<Option<u64>>,
    pub(crate) me: Weak<Self>,
}

impl<I: Io, P: Peers> SessionHandle for Session<I, P> {
    fn finish(&self) -> Pin<Box<dyn Future<Output = ()> + '_>> {
        Box::pin(async {
            self.outbox.drained().await;
            self.outbox.close();
        })
    }

    fn waiting_bytes(&self) -> (u64, u64) {
        (self.inflight_bytes.get(), self.outbox.bytes())
    }

    fn settings_changed(&self, limits: &EngineLimits, local_clients: &LocalClients) {
        self.outbox.set_bytes_max(limits.connection_outbox_bytes_max);
        self.changed.notify(usize::MAX);
        if let Some(reason) = self.peer.user.and_then(|user| user.refusal(local_clients)) {
            tracing::warn!(peer = self.peer_name(), %reason, "closing a connection: its user was taken off the list");
            self.dismissed.notify(usize::MAX);
        }
    }
}

impl<I: Io, P: Peers> Session<I, P> {
    /// Serves one connection until it ends.
    pub(crate) async fn run(
        shard: &Rc<Shard<I, P>>,
        reader: impl AsyncRead + Unpin,
        writer: impl AsyncWrite + Unpin,
        peer: Peer,
    ) {
        let limits = shard.limits();
        let session = Rc::new_cyclic(|me| Self {
            shard: Rc::clone(shard),
            outbox: Rc::new(Outbox::new(limits.connection_outbox_bytes_max)),
            subscriptions: RefCell::new(HashMap::new()),
            errands: Rc::default(),
            streams: RefCell::new(HashMap::new()),
            streams_opening: Cell::new(0),
            state: RefCell::new(
                ServerSession::new(limits.frame_bytes_max).offering(match &peer.door {
                    Some(_) if limits.rings_max > 0 => &FEATURES,
                    _ => &FEATURES_EVERYWHERE,
                }),
            ),
            limits,
            peer,
            dismissed: Event::new(),
            ring: RefCell::new(None),
            id: shard.number_session(),
            has_members: Cell::new(false),
            inflight_bytes: Cell::new(0),
            changed: Event::new(),
            heard: Cell::new(true),
            is_arriving: Cell::new(false),
            is_stalled: Cell::new(false),
            touched: RefCell::new(Vec::new()),
            burst_us: Cell::new(None),
            me: me.clone(),
        });
        let handle: Weak<Self> = session.me.clone();
        shard.add_session(handle);
        let read = session.read_requests(reader);
        let write = session.outbox.write_to(writer);
        let watch = session.watch(Duration::from_millis(limits.heartbeat_ms));
        let dismissed = session.dismissed.listen();
        let dismissed = async {
            dismissed.await;
            Ok(())
        };
        let ended = future::or(dismissed, future::or(future::or(read, write), watch)).await;
        if let Err(error) = ended {
            tracing::debug!(peer = session.peer_name(), %error, "connection ended");
        }
        session.outbox.close();
        session.ring.take();
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

    async fn read_requests(&self, mut reader: impl AsyncRead + Unpin) -> io::Result<()> {
        let mut intake = Intake::new(self.shard.io().clone());
        loop {
            if let Err(error) = self.take_requests(&mut intake).await {
                // The client is told why before the connection ends, if it listens.
                future::or(self.outbox.drained(), self.shard.io().sleep(FAREWELL)).await;
                return Err(error);
            }
            let ring = self.ring.borrow().clone();
            if let Some(ring) = ring {
                return self.read_ring(&ring, reader, intake).await;
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
            self.note_bytes();
            intake.came(read);
        }
    }

    /// Reads requests from a ring, and from the socket only what did not fit there, until one of the two ends.
    async fn read_ring(
        &self,
        ring: &RingEnd,
        mut reader: impl AsyncRead + Unpin,
        mut intake: Intake<I>,
    ) -> io::Result<()> {
        let memory = Intake::new(self.shard.io().clone());
        let detour = Detour::default();
        let socket = async {
            loop {
                let next = intake.next(&self.state.borrow());
                match next.map_err(|nonsense| self.give_up(&nonsense))? {
                    Some(request) => detour.put(request).await,
                    None => {
                        let read = reader.read(intake.space()).await?;
                        if read == 0 {
                            return Ok(());
                        }
                        self.note_bytes();
                        intake.came(read);
                    }
                }
            }
        };
        let requests = async {
            loop {
                let taken = self.take_from_ring(ring, &memory, &detour).await;
                match taken {
                    Ok(taken) => {
                        self.room().await;
                        if taken == RING_BURST {
                            // Others have their turn, although more is there.
                            future::yield_now().await;
                        }
                        ring.ready().await;
                    }
                    Err(error) => {
                        future::or(self.outbox.drained(), self.shard.io().sleep(FAREWELL)).await;
                        return Err(error);
                    }
                }
            }
        };
        future::or(requests, socket).await
    }

    /// Handles the requests that are in the ring now, up to a bound, and says how many they were.
    async fn take_from_ring(&self, ring: &RingEnd, memory: &Intake<I>, detour: &Detour) -> io::Result<usize> {
        let mut taken = 0;
        while taken < RING_BURST {
            let broken = |error| io::Error::new(io::ErrorKind::InvalidData, error);
            let received = match ring.receive() {
                Err(ReceiveError::Closed) => return Err(io::ErrorKind::UnexpectedEof.into()),
                received => received.map_err(broken)?,
            };
            let Some(arrival) = received else { break };
            let request = memory.arrived(&arrival, &self.state.borrow());
            // Its room is the client's again.
            drop(arrival);
            let mut request = request.map_err(|nonsense| self.give_up(&nonsense))?;
            self.heard.set(true);
            if Opcode::of(&request.header) == Ok(Opcode::RingDetour) {
                ring.note_detour();
                request = detour.take().await;
            }
            taken += 1;
            let _stalled = self.stalled();
            crate::requests::handle(self, request).await;
            if !self.has_room() {
                break;
            }
        }
        if taken > 0 {
            crate::requests::burst_ended(self);
        }
        Ok(taken)
    }

    /// The connection goes on over this ring.
    pub(crate) fn go_over(&self, ring: Rc<RingEnd>) {
        self.outbox.go_over(Rc::clone(&ring));
        *self.ring.borrow_mut() = Some(ring);
    }

    /// How the connection comes to a ring, when it can and has none.
    pub(crate) fn door(&self) -> Option<&dyn Door> {
        let has_ring = self.ring.borrow().is_some();
        self.peer.door.as_deref().filter(|_| !has_ring)
    }

    /// Whether nothing is asked or subscribed to.
    pub(crate) fn is_idle(&self) -> bool {
        self.inflight_bytes.get() == 0
            && self.subscriptions.borrow().is_empty()
            && self.streams.borrow().is_empty()
            && !self.has_members.get()
    }

    /// Whether the client may be served at all.
    pub(crate) fn check_peer(&self) -> Result<(), WireError> {
        match &self.peer.refusal {
            None => Ok(()),
            Some(reason) => Err(WireError::new(ErrorCode::Unauthorized, reason.clone())),
        }
    }

    /// The client, for the log.
    pub(crate) fn peer_name(&self) -> &str {
        &self.peer.name
    }

    /// Handles every whole request that came.
    async fn take_requests(&self, intake: &mut Intake<I>) -> io::Result<()> {
        let mut touched = false;
        loop {
            let next = intake.next(&self.state.borrow());
            let Some(request) = next.map_err(|nonsense| self.give_up(&nonsense))? else {
                break;
            };
            // Whoever looks for life sees the answer.
            self.is_arriving.set(false);
            touched = true;
            {
                let _stalled = self.stalled();
                crate::requests::handle(self, request).await;
            }
            if self.ring.borrow().is_some() {
                break;
            }
            if !self.has_room() {
                // Nothing of this is answered before it is written.
                crate::requests::burst_ended(self);
                self.room().await;
            }
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
        tracing::warn!(peer = self.peer_name(), %error, "closing a connection");
        self.fail(*request_id, error);
        io::Error::new(io::ErrorKind::InvalidData, error.to_string())
    }

    /// Whether the client may have more unanswered.
    fn has_room(&self) -> bool {
        let bytes_max = self.shard.limits().connection_inflight_bytes_max;
        self.inflight_bytes.get() < bytes_max && self.outbox.has_room()
    }

    /// Waits until the client may have more unanswered.
    async fn room(&self) {
        if self.has_room() {
            return;
        }
        self.outbox.room().await;
        let _stalled = self.stalled();
        let bytes_max = self.shard.limits().connection_inflight_bytes_max;
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

    /// When what is handled now came, on the monotonic clock. All of a burst came together: one look at the clock does.
    pub(crate) fn arrived_us(&self) -> u64 {
        let arrived_us = self
            .burst_us
            .get()
            .unwrap_or_else(|| self.shard.io().monotonic_us());
        self.burst_us.set(Some(arrived_us));
        arrived_us
    }

    pub(crate) fn take_touched(&self) -> Vec<Rc<Partition<I>>> {
        self.burst_us.set(None);
        self.touched.take()
    }

    /// Notes that a request of this size is being worked on.
    pub(crate) fn begin(&self, bytes: u64) {
        self.inflight_bytes
            .set(self.inflight_bytes.get().saturating_add(bytes));
    }

    /// Notes that it is answered.
    pub(crate) fn end(&self, bytes: u64) {
        self.inflight_bytes
            .set(self.inflight_bytes.get().saturating_sub(bytes));
        self.changed.notify(usize::MAX);
    }

    pub(crate) fn state(&self) -> std::cell::RefMut<'_, ServerSession> {
        self.state.borrow_mut()
    }

    /// Answers a request.
    pub(crate) fn answer(&self, request: &FrameHeader, body: Bytes) {
        let header = FrameHeader::response(request, &body);
        if !self.outbox.lends(&[&header, &body]) {
            self.outbox.push([Bytes::copy_from_slice(&header), body]);
        }
    }

    /// The same with an answer of a few bytes, of which nothing is made where it can be copied at once.
    pub(crate) fn answer_briefly(&self, request: &FrameHeader, body: &[u8]) {
        let header = FrameHeader::response(request, body);
        if !self.outbox.lends(&[&header, body]) {
            self.outbox
                .push([Bytes::copy_from_slice(&header), Bytes::copy_from_slice(body)]);
        }
    }

    /// Answers a request with an error.
    pub(crate) fn fail(&self, request_id: u64, error: &WireError) {
        self.shard.measures().note_error(error.code);
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

/// A request that came over the socket because the ring could not hold it, until the ring says that it is its turn.
#[derive(Default)]
struct Detour {
    request: RefCell<Option<Request>>,
    changed: Event,
}

impl Detour {
    /// Brings one, and waits until it is taken.
    async fn put(&self, request: Request) {
        *self.request.borrow_mut() = Some(request);
        self.changed.notify(usize::MAX);
        loop {
            let listener = self.changed.listen();
            if self.request.borrow().is_none() {
                return;
            }
            listener.await;
        }
    }

    async fn take(&self) -> Request {
        loop {
            let listener = self.changed.listen();
            if let Some(request) = self.request.take() {
                self.changed.notify(usize::MAX);
                return request;
            }
            listener.await;
        }
    }
}

#[cfg(test)]
mod tests;
