//! The node's end of a ring in shared memory, over which a client of this machine goes on after it asked on its Unix
//! socket.
//!
//! Only where bytes come from and go to changes: requests, answers and feeds are the session's as on a socket. The socket
//! stays open as the sign of life of both, and carries what the ring cannot hold ([`Opcode::RingDetour`]).
//!
//! Nothing here waits in the kernel. Whoever polls the shard's rings asks each one with [`RingEnd::poll`], and listens for
//! the bells of those that it lets doze.
//!
//! [`Opcode::RingDetour`]: mofka_net::Opcode::RingDetour

mod quota;

use std::any::Any;
use std::cell::{Cell, OnceCell, RefCell};
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mofka_net::control::{RingOpenRequest, RingStatus};
use mofka_net::limits::FEATURE_RING;
use mofka_net::shm::{Arrival, End, Patience, ReceiveError, Receiver, RingConfig, SendError, Sender, Waiter};
use mofka_net::{ErrorCode, FrameHeader, WireError};

pub(crate) use quota::RingQuota;
use quota::Seat;

use crate::intake::Request;
use crate::io::Io;
use crate::requests::{json, to_body};
use crate::session::Session;
use crate::shard::Peers;

/// How long a ring is polled after something went through it: longer than a client takes that has to be woken for an answer before it asks
/// for the next thing. With less, each side would sleep whenever the other one wakes.
const BUSY: Duration = Duration::from_micros(150);

/// How a connection comes to a ring: it is on a Unix socket, over which descriptors can be passed.
pub(crate) trait Door {
    /// Passes `offer` over the socket, along with `answer`. Never waits.
    ///
    /// # Errors
    /// When the socket does not take all of it at once.
    fn pass(&self, offer: &mofka_net::shm::Offer, answer: &[u8]) -> io::Result<()>;

    /// From now on the ring is polled, or its bell listened to.
    ///
    /// # Errors
    /// What the system said; the ring cannot be used then.
    fn attend(&self, ring: &Rc<RingEnd>) -> io::Result<()>;
}

/// What a shard counts of its rings.
#[derive(Debug, Default)]
pub(crate) struct RingCounters {
    status: Cell<RingStatus>,
}

impl RingCounters {
    pub(crate) fn status(&self) -> RingStatus {
        self.status.get()
    }

    fn note(&self, change: impl FnOnce(&mut RingStatus)) {
        let mut status = self.status.get();
        change(&mut status);
        self.status.set(status);
    }
}

/// See the module.
pub(crate) struct RingEnd {
    sender: RefCell<Sender>,
    receiver: RefCell<Receiver>,
    waiter: RefCell<Waiter>,
    /// Who waits for a frame.
    reader: RefCell<Option<Waker>>,
    /// Who waits for room, and for how much.
    writer: RefCell<Option<(Waker, u64)>>,
    /// Something came or went since the last poll.
    is_busy: Cell<bool>,
    /// How long it is polled.
    patience: RefCell<Patience>,
    /// When something came or went last, by the first of what did between two polls.
    busy_at: Cell<Instant>,
    /// It is not polled: its client rings.
    is_dozing: Cell<bool>,
    /// Who listens for the bell, while the ring does not doze.
    listener: RefCell<Option<Waker>>,
    /// Makes it polled again.
    rouse: OnceCell<Box<dyn Fn()>>,
    /// What listens; it ends with the ring.
    listening: OnceCell<Box<dyn Any>>,
    memory_bytes: u64,
    counters: Rc<RingCounters>,
    _seat: Seat,
}

impl RingEnd {
    fn new(end: End, memory_bytes: u64, seat: Seat, counters: &Rc<RingCounters>) -> Rc<Self> {
        counters.note(|status| {
            status.attached_count += 1;
            status.attached_bytes += memory_bytes;
            status.opened_count += 1;
        });
        Rc::new(Self {
            sender: RefCell::new(end.sender),
            receiver: RefCell::new(end.receiver),
            waiter: RefCell::new(end.waiter),
            reader: RefCell::new(None),
            writer: RefCell::new(None),
            is_busy: Cell::new(true),
            patience: RefCell::new(Patience::new(BUSY)),
            busy_at: Cell::new(Instant::now()),
            is_dozing: Cell::new(false),
            listener: RefCell::new(None),
            rouse: OnceCell::new(),
            listening: OnceCell::new(),
            memory_bytes,
            counters: Rc::clone(counters),
            _seat: seat,
        })
    }

    /// The next frame, if there is one now.
    pub(crate) fn receive(&self) -> Result<Option<Arrival>, ReceiveError> {
        let received = self.receiver.borrow_mut().receive();
        match &received {
            Ok(Some(_)) => {
                // One look at the clock for all that came since the last poll.
                if !self.is_busy.replace(true) {
                    let now = Instant::now();
                    let waited = now.duration_since(self.busy_at.replace(now));
                    self.patience.borrow_mut().note(waited);
                }
                self.counters.note(|status| status.received_count += 1);
            }
            Err(ReceiveError::Fault(_)) => self.counters.note(|status| status.fault_count += 1),
            Ok(None) | Err(ReceiveError::Closed) => {}
        }
        received
    }

    /// Waits until [`RingEnd::receive`] has something to say.
    pub(crate) async fn ready(&self) {
        poll_fn(|context| {
            if self.receiver.borrow_mut().is_ready() {
                return Poll::Ready(());
            }
            *self.reader.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Sends a frame, given in pieces.
    pub(crate) fn send(&self, pieces: &[Bytes]) -> Result<(), SendError> {
        let mut parts: [&[u8]; 4] = [&[]; 4];
        match parts.get_mut(..pieces.len()) {
            Some(few) => {
                few.iter_mut().zip(pieces).for_each(|(part, piece)| *part = piece);
                self.send_parts(few)
            }
            None => {
                let many: Vec<&[u8]> = pieces.iter().map(Bytes::as_ref).collect();
                self.send_parts(&many)
            }
        }
    }

    /// The same, in parts that are copied.
    pub(crate) fn send_parts(&self, parts: &[&[u8]]) -> Result<(), SendError> {
        let sent = self.sender.borrow_mut().send(parts);
        match &sent {
            Ok(()) => {
                self.counters.note(|status| status.sent_count += 1);
                if !self.is_busy.get() {
                    self.busy_at.set(Instant::now());
                }
                self.stir();
            }
            Err(SendError::Fault(_)) => self.counters.note(|status| status.fault_count += 1),
            Err(_) => {}
        }
        sent
    }

    /// Waits until there is room for a frame of this size, or there will never be any.
    pub(crate) async fn room(&self, frame_bytes: u64) {
        poll_fn(|context| {
            if self.sender.borrow_mut().can_send(frame_bytes) {
                return Poll::Ready(());
            }
            *self.writer.borrow_mut() = Some((context.waker().clone(), frame_bytes));
            self.stir();
            Poll::Pending
        })
        .await;
    }

    /// A frame goes or came over the socket.
    pub(crate) fn note_detour(&self) {
        self.counters.note(|status| status.detour_count += 1);
    }

    /// The client will have something to say soon.
    fn stir(&self) {
        self.is_busy.set(true);
        if self.is_dozing.get()
            && let Some(rouse) = self.rouse.get()
        {
            self.waiter.borrow_mut().withdraw();
            self.is_dozing.set(false);
            rouse();
        }
    }

    /// Wakes who waits for what is there now. Whether anything came or went since this was asked last.
    pub(crate) fn poll(&self) -> bool {
        let mut is_busy = self.is_busy.take();
        if self.reader.borrow().is_some() && self.receiver.borrow_mut().is_ready() {
            is_busy = true;
            self.reader.take().into_iter().for_each(Waker::wake);
        }
        let wanted = self.writer.borrow().as_ref().map(|(_, bytes)| *bytes);
        if let Some(bytes) = wanted
            && self.sender.borrow_mut().can_send(bytes)
        {
            is_busy = true;
            self.writer.take().into_iter().for_each(|(waker, _)| waker.wake());
        }
        is_busy
    }

    /// How long it is to be polled after something went through it.
    pub(crate) fn window(&self) -> Duration {
        self.patience.borrow_mut().window()
    }

    /// Lets the client ring from now on. False when there is something to do after all.
    pub(crate) fn doze(&self) -> bool {
        self.waiter.borrow_mut().announce();
        if self.poll() {
            self.waiter.borrow_mut().withdraw();
            return false;
        }
        self.is_dozing.set(true);
        self.listener.take().into_iter().for_each(Waker::wake);
        true
    }

    /// Waits until it dozes: then its bell is to be listened to.
    pub(crate) fn poll_dozing(&self, waker: &Waker) -> Poll<()> {
        if self.is_dozing.get() {
            return Poll::Ready(());
        }
        *self.listener.borrow_mut() = Some(waker.clone());
        Poll::Pending
    }

    /// The bell rang.
    pub(crate) fn awake(&self) {
        self.counters.note(|status| status.wake_count += 1);
        self.waiter.borrow_mut().awake();
        self.is_dozing.set(false);
    }

    /// Its bell, to be listened to.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub(crate) fn bell(&self) -> io::Result<OwnedFd> {
        self.waiter.borrow().as_fd().try_clone_to_owned()
    }

    /// What makes it polled again, and what listens for its bell.
    pub(crate) fn attended(&self, rouse: impl Fn() + 'static, listening: impl Any) {
        let is_first =
            self.rouse.set(Box::new(rouse)).is_ok() && self.listening.set(Box::new(listening)).is_ok();
        assert!(is_first, "a ring is attended once");
    }
}

impl Drop for RingEnd {
    fn drop(&mut self) {
        self.counters.note(|status| {
            status.attached_count -= 1;
            status.attached_bytes -= self.memory_bytes;
        });
    }
}

/// Gives the connection a ring, over which it goes on when this has said so.
pub(crate) async fn open<I: Io, P: Peers>(session: &Session<I, P>, request: &Request) {
    match try_open(session, request).await {
        Ok(ring) => session.go_over(ring),
        Err(error) => {
            session.shard.rings().note(|status| status.refused_count += 1);
            tracing::info!(peer = session.peer_name(), %error, "refused a ring");
            session.fail(request.header.request_id(), &error);
        }
    }
}

async fn try_open<I: Io, P: Peers>(
    session: &Session<I, P>,
    request: &Request,
) -> Result<Rc<RingEnd>, WireError> {
    let invalid = |message: String| WireError::new(ErrorCode::InvalidArgument, message);
    let asked: RingOpenRequest = json(&request.body)?;
    let has_feature = session
        .state()
        .negotiated()
        .is_some_and(|agreed| agreed.has(FEATURE_RING));
    let Some(door) = session.door().filter(|_| has_feature) else {
        let message = "a ring is for connections over a Unix socket that agreed on it in hello, on a node that gives any";
        return Err(invalid(message.to_owned()));
    };
    if !session.is_idle() {
        let message = "a ring is asked for before anything else is asked or subscribed to on the connection";
        return Err(invalid(message.to_owned()));
    }
    let config = asked.config().map_err(|error| invalid(error.to_string()))?;
    let memory_bytes = config
        .memory_bytes()
        .map_err(|error| invalid(error.to_string()))?;
    let facts = session.shard.facts();
    check_bounds(&config, memory_bytes, &session.limits)?;
    let seat = facts.rings.take(memory_bytes, &session.shard.limits())?;
    // Nothing of what was answered before may come after the offer.
    session.outbox.drained().await;
    let internal = |error: &dyn std::fmt::Display| {
        WireError::new(ErrorCode::Internal, format!("no ring could be made: {error}"))
    };
    let (end, offer) = End::create(&config).map_err(|error| internal(&error))?;
    let ring = RingEnd::new(end, memory_bytes, seat, session.shard.rings());
    door.attend(&ring).map_err(|error| internal(&error))?;
    let body = to_body(&mofka_net::control::RingOpenResponse {
        submission: asked.submission,
        completion: asked.completion,
    })?;
    let header = FrameHeader::response(&request.header, &body);
    door.pass(&offer, &[&header[..], &body].concat())
        .map_err(|error| internal(&error))?;
    Ok(ring)
}

fn check_bounds(
    config: &RingConfig,
    memory_bytes: u64,
    limits: &crate::limits::EngineLimits,
) -> Result<(), WireError> {
    let slots = config.submission.slot_count.max(config.completion.slot_count);
    if slots > limits.ring_slots_max || memory_bytes > limits.ring_bytes_max {
        let message = format!(
            "a ring of {slots} slots and {memory_bytes} bytes is larger than this node gives (ring_slots_max {}, \
             ring_bytes_max {}): ask for a smaller one",
            limits.ring_slots_max, limits.ring_bytes_max
        );
        return Err(WireError::new(ErrorCode::TooLarge, message));
    }
    Ok(())
}
