//! One connection to a shard, shared by all that talk to it.
//!
//! A reader thread hands every answer to whoever waits for it; it never waits for anybody itself. When the connection
//! ends, everybody who waits is told once.

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mofka_net::control::{HelloRequest, HelloResponse, NodeLimits, decode, encode};
use mofka_net::limits::{
    FEATURE_RING_IN_PLACE, FEATURES, FRAME_BYTES_CEILING, HELLO_BYTES_MAX, VERSION_MAX, VERSION_MIN,
};
use mofka_net::shm::this_process;
use mofka_net::{Address, FrameHeader, FrameKind, Opcode, WireError};
use rustc_hash::FxHashMap;

use super::answers::{Answer, Asker, Handler, LentFrame, Lost, Sink};
use super::frames::{Frames, Next};
use super::kept::Kept;
use super::outbox::Outbox;
use super::ring::{self, Asked, RingLink};
use super::socket::SocketLink;
use super::stream::Stream;
use crate::options::RingSize;
use crate::promise::{Deadline, Promise, lock};

/// Why a connection ends whose thread met a defect, which is told on standard error.
const PANICKED: &str = "something of the application panicked where it was dropped";

/// A connection is dead after this many heartbeats of silence.
const HEARTBEATS_MAX: u32 = 3;

pub(crate) struct Connection {
    address: Address,
    stream: Stream,
    outbox: Outbox,
    arrivals: Arrivals,
    hello: HelloResponse,
    calls: Mutex<Calls>,
    next_id: AtomicU64,
    /// Answers to requests for data that came.
    data_count: Arc<AtomicU64>,
    /// Why this side ended it.
    abandoned: OnceLock<String>,
    /// Whether anything was sent since the last heartbeat.
    sent: AtomicBool,
    /// The socket is shared with forked children, which must not touch it.
    pid: u32,
}

/// Where what the node sends comes from.
enum Arrivals {
    Socket(SocketLink),
    Ring(Box<RingLink>),
}

#[derive(Default)]
struct Calls {
    lost: Option<Lost>,
    // By numbers that this side chose.
    waiting: FxHashMap<u64, Handler>,
    sinks: FxHashMap<u64, Arc<dyn Sink>>,
}

impl Connection {
    /// Connects, says hello, goes over to shared memory where that is wanted and can be had, and starts the threads.
    pub(crate) fn open(
        address: &Address,
        client: &str,
        ring_size: Option<RingSize>,
        deadline: Deadline,
    ) -> io::Result<Arc<Self>> {
        let stream = Stream::connect(address, deadline)?;
        let mut frames = Frames::new(HELLO_BYTES_MAX);
        let hello = say_hello(&stream, &mut frames, client, deadline)?;
        let frame_bytes_max = hello.limits.frame_bytes_max.min(FRAME_BYTES_CEILING);
        frames.set_frame_bytes_max(frame_bytes_max);
        let mut end = None;
        if let (Address::Unix(_), Some(size)) = (address, ring_size) {
            match ring::ask(&stream, size, &hello.features, hello.ring, deadline)? {
                Asked::Got(got) => end = Some(got),
                Asked::Refused(reason) => {
                    tracing::info!(%address, reason, "no shared memory with the node: going on over the socket");
                }
                Asked::Unusable(reason) => {
                    tracing::warn!(%address, reason, "the node's shared memory cannot be used: going on over the socket");
                    return Self::open(address, client, None, deadline);
                }
            }
        }
        // A node that says 0 does not want to be asked without end.
        let heartbeat = Duration::from_millis(hello.heartbeat_ms.max(10));
        stream.set_read_timeout(heartbeat)?;
        let outbox = Outbox::default();
        let arrivals = match end {
            None => Arrivals::Socket(SocketLink::new(frames)?),
            Some(end) => {
                let (link, sender) = RingLink::new(*end, frames, frame_bytes_max)?;
                outbox.go_over(sender);
                Arrivals::Ring(Box::new(link))
            }
        };
        let connection = Arc::new(Self {
            address: address.clone(),
            stream,
            outbox,
            arrivals,
            hello,
            calls: Mutex::default(),
            next_id: AtomicU64::new(2),
            data_count: Arc::default(),
            abandoned: OnceLock::new(),
            sent: AtomicBool::new(false),
            pid: this_process(),
        });
        let reader = Arc::clone(&connection);
        spawn("mofka-reader", move || reader.read(heartbeat))?;
        let writer = Arc::clone(&connection);
        let started = spawn("mofka-writer", move || {
            let written = || {
                let written = writer.outbox.write(&writer.stream);
                written.map_err(|error| format!("writing failed: {error}"))
            };
            let written =
                catch_unwind(AssertUnwindSafe(written)).unwrap_or_else(|_| Err(PANICKED.to_owned()));
            if let Err(reason) = written {
                writer.close(&reason);
            }
        });
        if let Err(error) = started {
            connection.close("no thread for writing");
            return Err(error);
        }
        Ok(connection)
    }

    pub(super) fn stream(&self) -> &Stream {
        &self.stream
    }

    pub(super) fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// Whether anybody is fed over it.
    pub(super) fn is_fed(&self) -> bool {
        !lock(&self.calls).sinks.is_empty()
    }

    /// Whether anything is expected of the node, or waits for room.
    pub(super) fn expects(&self) -> bool {
        let is_asked = {
            let calls = lock(&self.calls);
            !calls.waiting.is_empty() || !calls.sinks.is_empty()
        };
        is_asked || self.outbox.has_frames()
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    pub(crate) fn hello(&self) -> &HelloResponse {
        &self.hello
    }

    pub(crate) fn limits(&self) -> &NodeLimits {
        &self.hello.limits
    }

    pub(crate) fn is_alive(&self) -> bool {
        lock(&self.calls).lost.is_none()
    }

    /// A number that no request or subscription of this connection has.
    pub(crate) fn fresh_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// Sends a request; `handler` gets its answer.
    ///
    /// # Errors
    /// When the connection is dead; `handler` is not called then.
    pub(crate) fn request(
        self: &Arc<Self>,
        opcode: Opcode,
        body: Bytes,
        handler: impl FnOnce(Answer) + Send + 'static,
    ) -> Result<(), Lost> {
        let id = self.fresh_id();
        let header = FrameHeader::request(opcode, id, &body);
        self.request_frame(id, [header, body], handler)
    }

    /// The same with a frame that is complete. The pieces are sent as they are, without copying.
    pub(crate) fn request_frame(
        self: &Arc<Self>,
        id: u64,
        frame: impl IntoIterator<Item = Bytes>,
        handler: impl FnOnce(Answer) + Send + 'static,
    ) -> Result<(), Lost> {
        let handler = Handler::Call(Box::new(handler));
        self.ask(id, handler, || self.send(frame))
    }

    /// The same with a frame that is lent, and may end with these bytes; `asker` gets the answer, by its own `number`.
    pub(crate) fn request_lent(
        self: &Arc<Self>,
        id: u64,
        frame: &LentFrame<'_>,
        rest: Option<&Arc<Kept>>,
        (asker, number): (Arc<dyn Asker>, u64),
    ) -> Result<(), Lost> {
        let kept = rest.cloned();
        let handler = Handler::Asker { asker, number, kept };
        self.ask(id, handler, || {
            self.sent_by(|| self.outbox.send_lent(&self.stream, frame, rest.cloned()))
        })
    }

    fn ask(
        self: &Arc<Self>,
        id: u64,
        handler: Handler,
        send: impl FnOnce() -> Result<(), Lost>,
    ) -> Result<(), Lost> {
        {
            let mut calls = lock(&self.calls);
            if let Some(lost) = &calls.lost {
                return Err(lost.clone());
            }
            calls.waiting.insert(id, handler);
        }
        let Err(lost) = send() else { return Ok(()) };
        // Whoever ended the connection takes the handlers: one of us has this one. It is not dropped under the lock.
        let unused = lock(&self.calls).waiting.remove(&id);
        match unused {
            Some(_) => Err(lost),
            None => Ok(()),
        }
    }

    /// Sends a frame that has no answer.
    pub(crate) fn send(self: &Arc<Self>, frame: impl IntoIterator<Item = Bytes>) -> Result<(), Lost> {
        self.sent_by(|| self.outbox.send(&self.stream, frame))
    }

    /// Whether both sides have this feature.
    pub(crate) fn has_feature(&self, feature: &str) -> bool {
        self.hello.features.iter().any(|known| known == feature)
    }

    /// Bytes of the memory that is shared with the node, for the end of a frame. `None`: there is no such memory, no room in it
    /// now, or the node does not know frames of which a part stays here.
    pub(crate) fn keep(&self, bytes: u64) -> Option<Kept> {
        if !matches!(self.arrivals, Arrivals::Ring(_)) || !self.has_feature(FEATURE_RING_IN_PLACE) {
            return None;
        }
        self.outbox.keep(bytes)
    }

    /// How many requests for data were answered: counted by who asks for some.
    pub(crate) fn data_count(&self) -> &Arc<AtomicU64> {
        &self.data_count
    }

    /// Ends the connection, from whatever thread and under whatever lock: the reader thread notices, and tells everybody why.
    pub(crate) fn abandon(&self, reason: String) {
        if this_process() == self.pid {
            self.abandoned.set(reason).ok();
            self.stream.shutdown();
        }
    }

    fn sent_by(self: &Arc<Self>, send: impl FnOnce() -> io::Result<()>) -> Result<(), Lost> {
        if this_process() != self.pid {
            return Err(Lost {
                reason: "the connection belongs to the parent process".into(),
            });
        }
        // Heartbeats are spared while anything is sent and anything comes. A race costs one ping.
        self.sent.store(true, Ordering::Relaxed);
        let sent = send();
        if let (Arrivals::Ring(ring), Ok(())) = (&self.arrivals, &sent) {
            ring.asked();
        }
        sent.map_err(|error| {
            let reason: Arc<str> = match self.abandoned.get() {
                Some(reason) => format!("{}: {reason}", self.address).into(),
                None => format!("sending to {} failed: {error}", self.address).into(),
            };
            // The reader thread notices, and tells everybody; here a lock of the caller may be held.
            self.stream.shutdown();
            Lost { reason }
        })
    }

    /// Sends a request and waits for its answer.
    pub(crate) fn call(self: &Arc<Self>, opcode: Opcode, body: Bytes, deadline: Deadline) -> Answer {
        let promise = Arc::new(Promise::new());
        let setter = Arc::clone(&promise);
        if let Err(lost) = self.request(opcode, body, move |answer| setter.set(answer)) {
            return Answer::Lost(lost);
        }
        let late = || {
            Answer::Lost(Lost {
                reason: "no answer came in time".into(),
            })
        };
        self.drive(|| promise.get().is_some() || deadline.is_over());
        promise.wait(deadline).cloned().unwrap_or_else(late)
    }

    /// Registers who takes the feeds of a subscription.
    ///
    /// # Errors
    /// When the connection is dead; the sink is not told then.
    pub(crate) fn add_sink(&self, subscription: u64, sink: Arc<dyn Sink>) -> Result<(), Lost> {
        let mut calls = lock(&self.calls);
        if let Some(lost) = &calls.lost {
            return Err(lost.clone());
        }
        calls.sinks.insert(subscription, sink);
        Ok(())
    }

    pub(crate) fn remove_sink(&self, subscription: u64) {
        // The sink's own drop may do anything: not under the lock.
        let removed = lock(&self.calls).sinks.remove(&subscription);
        drop(removed);
    }

    /// Ends the connection and tells everybody who waits. Only the first call does anything.
    pub(crate) fn close(self: &Arc<Self>, reason: &str) {
        if this_process() != self.pid {
            return;
        }
        // What was noticed is only what that led to.
        let reason = self.abandoned.get().map_or(reason, String::as_str);
        let lost = Lost {
            reason: format!("{}: {reason}", self.address).into(),
        };
        let (waiting, sinks) = {
            let mut calls = lock(&self.calls);
            if calls.lost.is_some() {
                return;
            }
            calls.lost = Some(lost.clone());
            (
                std::mem::take(&mut calls.waiting),
                std::mem::take(&mut calls.sinks),
            )
        };
        self.outbox.close();
        self.stream.shutdown();
        tracing::debug!(address = %self.address, reason, "connection ended");
        for handler in waiting.into_values() {
            handler.tell(self, Answer::Lost(lost.clone()));
        }
        for sink in sinks.into_values() {
            sink.lost(self, &lost);
        }
    }

    /// Takes what comes until this is done, or nothing came for a while: an answer comes without any other thread then. To be
    /// followed by a wait of another kind, and called without any lock, in the process that made the connection, which its callers have
    /// asked before.
    pub(crate) fn drive(self: &Arc<Self>, is_done: impl Fn() -> bool) {
        if is_done() {
            return;
        }
        match &self.arrivals {
            Arrivals::Socket(socket) => self.drive_socket(socket, is_done),
            Arrivals::Ring(ring) => self.drive_ring(ring, is_done),
        }
    }

    /// The same for somebody who waits for it in another way, as a task does.
    pub(crate) fn await_news(&self) {
        match &self.arrivals {
            Arrivals::Socket(socket) => socket.awaited(),
            Arrivals::Ring(ring) => ring.awaited(),
        }
    }

    /// The reader thread.
    fn read(self: Arc<Self>, heartbeat: Duration) {
        // What the application owns is dropped here: without a reader the others have to hear that nothing comes.
        let read = AssertUnwindSafe(|| self.read_on(heartbeat));
        let reason = catch_unwind(read).unwrap_or_else(|_| PANICKED.to_owned());
        self.close(&reason);
    }

    /// Reads until there is no more, and says why.
    fn read_on(self: &Arc<Self>, heartbeat: Duration) -> String {
        let mut pulse = Pulse::new(heartbeat);
        loop {
            let (turn, is_heard) = match &self.arrivals {
                Arrivals::Socket(socket) => (self.read_turn(socket, heartbeat), socket.take_heard()),
                Arrivals::Ring(ring) => (
                    self.take_turn(ring, heartbeat)
                        .and_then(|patience| self.sleep(ring, patience)),
                    ring.take_heard(),
                ),
            };
            if let Err(reason) = turn {
                return reason;
            }
            match pulse.feel(is_heard) {
                Ok(Some(beat)) => self.beat(beat),
                Ok(None) => {}
                Err(reason) => return reason,
            }
        }
    }

    /// Lets the node hear that this side lives, and makes it answer: what was sent since the last time does the first, but its answer
    /// may wait for a slow device.
    fn beat(self: &Arc<Self>, beat: Beat) {
        let was_sent = self.sent.swap(false, Ordering::Relaxed);
        if !was_sent || beat == Beat::Silent {
            // A failure ends the connection, which the next read tells.
            self.request(Opcode::Ping, Bytes::new(), |_| ()).ok();
            self.sent.store(false, Ordering::Relaxed);
        }
    }

    pub(super) fn dispatch(self: &Arc<Self>, header: &FrameHeader, body: Bytes) -> Result<(), String> {
        let id = header.request_id();
        match header.kind() {
            FrameKind::Response(_) => {
                let handler = lock(&self.calls).waiting.remove(&id);
                if let Some(handler) = handler {
                    handler.tell(self, Answer::Response(body));
                }
            }
            FrameKind::Request(Opcode::Feed) => {
                let sink = lock(&self.calls).sinks.get(&id).cloned();
                // Without a sink, it was unsubscribed meanwhile.
                if let Some(sink) = sink {
                    sink.feed(self, body);
                }
            }
            FrameKind::Error => self.refused(id, &body)?,
            kind => return Err(format!("the node sent {kind:?}, which makes no sense")),
        }
        Ok(())
    }

    fn refused(self: &Arc<Self>, id: u64, body: &[u8]) -> Result<(), String> {
        let error =
            WireError::check(body).map_err(|error| format!("an error that cannot be read: {error}"))?;
        if id == 0 {
            return Err(format!("the node gave up: {error}"));
        }
        let (handler, sink) = {
            let mut calls = lock(&self.calls);
            (calls.waiting.remove(&id), calls.sinks.remove(&id))
        };
        if let Some(handler) = handler {
            handler.tell(self, Answer::Refused(error));
        } else if let Some(sink) = sink {
            sink.ended(self, error);
        }
        Ok(())
    }
}

/// A heartbeat is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beat {
    Heard,
    /// Nothing came for half of it. That is early, but the next one may be late by almost a heartbeat, when the reader thread
    /// was woken for something else just before it.
    Silent,
}

/// When the node was heard last, and when it last may have heard this side.
struct Pulse {
    heartbeat: Duration,
    heard_at: Instant,
    beat_at: Instant,
}

impl Pulse {
    fn new(heartbeat: Duration) -> Self {
        let now = Instant::now();
        Self {
            heartbeat,
            heard_at: now,
            beat_at: now,
        }
    }

    /// Whether this side is to let itself be heard now.
    ///
    /// # Errors
    /// When nothing was heard for too long: the node is dead.
    fn feel(&mut self, is_heard: bool) -> Result<Option<Beat>, String> {
        let (now, heartbeat) = (Instant::now(), self.heartbeat);
        if is_heard {
            self.heard_at = now;
        }
        if now.duration_since(self.heard_at) >= heartbeat * HEARTBEATS_MAX {
            return Err(format!(
                "nothing was heard for {HEARTBEATS_MAX} heartbeats of {heartbeat:?}"
            ));
        }
        if now.duration_since(self.beat_at) < heartbeat {
            return Ok(None);
        }
        let beat = match now.duration_since(self.heard_at) < heartbeat / 2 {
            true => Beat::Heard,
            false => Beat::Silent,
        };
        self.beat_at = now;
        Ok(Some(beat))
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connection({})", self.address)
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(run)
        .map(|_| ())
}

fn say_hello(
    stream: &Stream,
    frames: &mut Frames,
    client: &str,
    deadline: Deadline,
) -> io::Result<HelloResponse> {
    let invalid = |error: String| io::Error::new(io::ErrorKind::InvalidData, error);
    let request = HelloRequest {
        version_min: VERSION_MIN,
        version_max: VERSION_MAX,
        client: client.to_owned(),
        features: FEATURES.map(str::to_owned).to_vec(),
        token: None,
    };
    let body: Bytes = encode("hello", &request)
        .map_err(|error| invalid(error.to_string()))?
        .into();
    // A few hundred bytes into an empty socket: it takes them.
    Outbox::default().send(stream, [FrameHeader::request(Opcode::Hello, 1, &body), body])?;
    match frames.next_by(stream, deadline)? {
        Next::Quiet => Err(io::Error::new(io::ErrorKind::TimedOut, "no answer to hello")),
        Next::Frame(header, body) => match header.kind() {
            FrameKind::Response(Opcode::Hello) => {
                decode("hello answer", &body).map_err(|error| invalid(error.to_string()))
            }
            FrameKind::Error => Err(invalid(WireError::check(&body).map_or_else(
                |error| format!("hello was answered by an error that cannot be read: {error}"),
                |error| format!("hello was refused: {error}"),
            ))),
            kind => Err(invalid(format!("hello was answered by {kind:?}"))),
        },
    }
}
