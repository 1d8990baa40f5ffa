//! Shared memory in place of the socket, when the node is on this machine.
//!
//! What the threads tell each other about it is in `states`, where the model checker goes through it.
//!
//! The ring has one end for receiving, under a lock. Whoever waits for something polls it himself for a while
//! ([`Connection::drive`]): no thread has to be woken for an answer then. The reader thread sees to all else. Who gives the lock back
//! leaves one of these states:
//!
//! - *announced*: the node was told that this side sleeps, and rings when it has news, which wakes the reader thread;
//! - *lazy*: things are asked for one after the other, and those who ask take the answers sooner or later. The reader thread looks
//!   every millisecond, and the node, which is not told anything, need not ring;
//! - *deaf*: nothing is expected. Whoever asks for something nudges the reader thread.
//!
//! Handlers run only in `drive`, whose caller has no lock, and in the reader thread: never where something is sent.
//!
//! The socket stays open: its end is the end of either side, and frames that the ring cannot hold come over it.

mod states;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use mofka_net::control::{RingBounds, RingLane, RingOpenRequest, encode};
use mofka_net::limits::FEATURE_RING;
use mofka_net::shm::{ARENA_BYTES_MIN, End, Offer, Patience, ReceiveError, Receiver, Sender, Waiter};
use mofka_net::{FRAME_HEADER_BYTES, FrameHeader, FrameKind, Opcode, WireError};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd};
use rustix::net::{RecvFlags, recv};

use self::states::{Held, States};
use super::connection::Connection;
use super::frames::{Frames, Next, Wait};
use super::socket::sleep_at;
use super::stream::Stream;
use crate::options::RingSize;
use crate::promise::{Deadline, lock, try_lock};

/// How long the receiving end is polled for the next frame.
const BUSY: Duration = Duration::from_micros(50);
/// How long somebody who waits sleeps at the bell himself before he looks at his own clock.
const NAP: Duration = Duration::from_millis(1);
/// How often, before he leaves the rest to the reader thread.
const NAPS_MAX: u32 = 5;
/// How often the reader thread looks when others are likely to.
const LAZY: Duration = Duration::from_millis(1);
/// Looks between two looks at the clock.
const LOOKS: u32 = 32;
/// Frames that somebody takes who has what he waited for.
const BEYOND_MAX: u32 = 64;
/// Largest answer to the request for a ring.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// See the module.
pub(super) struct RingLink {
    taking: Mutex<Taking>,
    /// The waiter's, for the thread that sleeps without the lock.
    bell: OwnedFd,
    /// Wakes the reader thread.
    nudge: OwnedFd,
    /// Wakes the one who naps at the bell.
    handed: OwnedFd,
    states: States,
    /// Whether anything came since the reader thread asked.
    heard: AtomicBool,
}

/// The receiving end.
struct Taking {
    receiver: Receiver,
    waiter: Waiter,
    /// Of those who wait for an answer.
    patience: Patience,
    /// For what comes over the socket.
    frames: Frames,
    frame_bytes_max: u64,
}

/// What asking for a ring led to.
pub(super) enum Asked {
    Got(Box<End>),
    /// The connection goes on over the socket.
    Refused(String),
    /// The node speaks through a ring that cannot be used here: only another connection helps.
    Unusable(String),
}

/// Asks for a ring. Nothing else is under way on the connection.
///
/// # Errors
/// When the connection ended.
pub(super) fn ask(
    stream: &Stream,
    size: RingSize,
    features: &[String],
    bounds: Option<RingBounds>,
    deadline: Deadline,
) -> io::Result<Asked> {
    let has_feature = features.iter().any(|feature| feature == FEATURE_RING);
    let Some(bounds) = bounds.filter(|_| has_feature) else {
        return Ok(Asked::Refused("the node gives no rings".to_owned()));
    };
    let Some(request) = fit(size, &bounds) else {
        let reason = format!(
            "the node gives rings of {} bytes, which is too little for any",
            bounds.ring_bytes_max
        );
        return Ok(Asked::Refused(reason));
    };
    let invalid = |error: String| io::Error::new(io::ErrorKind::InvalidData, error);
    let body = encode("ring_open", &request).map_err(|error| invalid(error.to_string()))?;
    let header = FrameHeader::request(Opcode::RingOpen, 1, &body);
    let slices = [io::IoSlice::new(&header), io::IoSlice::new(&body)];
    if stream.try_send(&slices)? < header.len() + body.len() {
        return Err(io::ErrorKind::WriteZero.into());
    }
    let (offer, header, body) = answer(stream, deadline)?;
    match (header.kind(), offer) {
        (FrameKind::Response(Opcode::RingOpen), Some(offer)) => Ok(match End::attach(offer) {
            Ok(end) => Asked::Got(Box::new(end)),
            Err(error) => Asked::Unusable(error.to_string()),
        }),
        (FrameKind::Error, None) => Ok(Asked::Refused(
            WireError::check(&body).map_or_else(|error| error.to_string(), |error| error.to_string()),
        )),
        (kind, _) => Err(invalid(format!(
            "the request for a ring was answered by {kind:?}"
        ))),
    }
}

/// The ring to ask for: what is wanted, or what the node gives if that is less.
fn fit(size: RingSize, bounds: &RingBounds) -> Option<RingOpenRequest> {
    let slots = size.slots.min(bounds.slots_max).max(1);
    let slots = 1 << slots.ilog2();
    let request = |arena_bytes: u64| {
        let lane = RingLane { slots, arena_bytes };
        RingOpenRequest {
            submission: lane,
            completion: lane,
        }
    };
    let memory_bytes = |arena_bytes| request(arena_bytes).config().and_then(|it| it.memory_bytes());
    let least = memory_bytes(ARENA_BYTES_MIN).ok()?;
    let beside_arenas = least - 2 * ARENA_BYTES_MIN;
    let room = bounds.ring_bytes_max.checked_sub(beside_arenas)? / 2;
    let arena_bytes = size.arena_bytes.min(room);
    let arena_bytes = arena_bytes - arena_bytes % ARENA_BYTES_MIN;
    memory_bytes(arena_bytes).ok()?;
    Some(request(arena_bytes))
}

fn answer(stream: &Stream, deadline: Deadline) -> io::Result<(Option<Offer>, FrameHeader, Vec<u8>)> {
    let invalid = |error: mofka_net::FrameError| io::Error::new(io::ErrorKind::InvalidData, error);
    let (mut offer, mut come) = (None, Vec::new());
    let mut part = [0; 4096];
    loop {
        if come.len() >= FRAME_HEADER_BYTES {
            let header = FrameHeader::check(&come, ANSWER_BYTES_MAX as u64).map_err(invalid)?;
            let end = FRAME_HEADER_BYTES as u64 + header.body_bytes();
            if come.len() as u64 >= end {
                let body = come.split_off(FRAME_HEADER_BYTES);
                header.check_body(&body).map_err(invalid)?;
                return Ok((offer, header, body));
            }
        }
        if deadline.is_over() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "no answer about a ring"));
        }
        stream.set_read_deadline(deadline)?;
        let (more, bytes) = Offer::receive(stream.fd(), &mut part)?;
        if bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        offer = offer.or(more);
        come.extend_from_slice(&part[..bytes]);
    }
}

impl RingLink {
    /// Takes an end apart: what sends goes to the outbox.
    pub(super) fn new(end: End, frames: Frames, frame_bytes_max: u64) -> io::Result<(Self, Sender)> {
        let bell = end.waiter.as_fd().try_clone_to_owned()?;
        let taking = Taking {
            receiver: end.receiver,
            waiter: end.waiter,
            patience: Patience::new(BUSY),
            frames,
            frame_bytes_max,
        };
        let link = Self {
            taking: Mutex::new(taking),
            bell,
            nudge: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            handed: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            states: States::default(),
            heard: AtomicBool::new(false),
        };
        Ok((link, end.sender))
    }

    /// Whether anything came since the last call.
    pub(super) fn take_heard(&self) -> bool {
        self.heard.swap(false, Ordering::Relaxed)
    }

    /// Something was asked for.
    pub(super) fn asked(&self) {
        self.states.asked(|| self.wake_reader());
    }

    /// Somebody waits for something and does not poll: the reader thread is to see to it at once.
    pub(super) fn awaited(&self) {
        self.states.awaited(|| self.wake_reader());
    }

    fn wake_reader(&self) {
        signal(&self.nudge);
    }

    /// The reader thread's sleep: until the node rings, it is nudged, either side's end is there, or this long. `false` at the end.
    fn sleep(&self, stream: &Stream, timeout: Duration) -> io::Result<bool> {
        let is_at_bell = self.states.falls_asleep();
        let woken = self.sleep_at(stream, timeout, is_at_bell, &self.nudge)?;
        if woken != Woken::Rung || self.states.leaves_ring() {
            return Ok(woken != Woken::Over);
        }
        // Without the lock: whoever has it need not be waited for.
        let is_there = self.empty_bell();
        if self.states.took_ring() {
            signal(&self.handed);
        }
        Ok(is_there)
    }

    /// The sleep of one who waits, and has the receiving end. `false` at the end.
    fn nap(&self, stream: &Stream) -> io::Result<bool> {
        let woken = self.sleep_at(stream, NAP, true, &self.handed)?;
        Ok(match woken {
            Woken::Over => false,
            Woken::Rung => self.empty_bell(),
            Woken::Otherwise => true,
        })
    }

    /// Sleeps until the node rings (at the bell), this is signalled, either side's end is there, or this long.
    fn sleep_at(
        &self,
        stream: &Stream,
        timeout: Duration,
        is_at_bell: bool,
        signalled: &OwnedFd,
    ) -> io::Result<Woken> {
        let at_bell = if is_at_bell {
            PollFlags::IN
        } else {
            PollFlags::empty()
        };
        let mut polled = [
            PollFd::new(&self.bell, at_bell),
            PollFd::from_borrowed_fd(stream.fd(), PollFlags::RDHUP),
            PollFd::new(signalled, PollFlags::IN),
        ];
        sleep_at(&mut polled, timeout)?;
        let [bell, socket, signal] = polled;
        if !signal.revents().is_empty() {
            let _ = rustix::io::read(signalled, &mut [0_u8; 8]);
        }
        Ok(if !socket.revents().is_empty() {
            Woken::Over
        } else if bell.revents().is_empty() {
            Woken::Otherwise
        } else {
            Woken::Rung
        })
    }

    /// `false` when the node is gone.
    fn empty_bell(&self) -> bool {
        let mut rings = [0_u8; 64];
        let heard = recv(&self.bell, &mut rings, RecvFlags::DONTWAIT);
        !matches!(heard, Ok((0, _)) | Err(rustix::io::Errno::CONNRESET))
    }
}

/// What a sleep ended by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Woken {
    /// The node rang.
    Rung,
    /// Either side's end is there.
    Over,
    /// A signal, or the time.
    Otherwise,
}

fn signal(event: &OwnedFd) {
    // It is full when the thread was woken often, and has it still to notice.
    let _ = rustix::io::write(event, &1_u64.to_ne_bytes());
}

/// The receiving end, which this thread gives up.
struct Holding<'a> {
    connection: &'a Arc<Connection>,
    ring: &'a RingLink,
    taking: MutexGuard<'a, Taking>,
}

impl Held for Holding<'_> {
    type Error = String;

    fn expects(&self) -> bool {
        self.connection.expects()
    }

    fn announce(&mut self) {
        self.taking.waiter.announce();
    }

    fn withdraw(&mut self) {
        self.taking.waiter.withdraw();
    }

    fn has_news(&mut self) -> bool {
        self.taking.receiver.is_ready() || self.connection.outbox().can_go_on()
    }

    fn take_all(&mut self) -> Result<(), String> {
        while self.connection.take(self.ring, &mut self.taking)? {}
        Ok(())
    }

    fn wake_reader(&self) {
        self.ring.wake_reader();
    }
}

impl Connection {
    /// See [`Connection::drive`].
    pub(super) fn drive_ring(self: &Arc<Self>, ring: &RingLink, is_done: impl Fn() -> bool) {
        let began = Instant::now();
        let until = began + BUSY;
        // One at a time: when several wait, the others sleep until somebody took theirs.
        if !ring.states.wants() {
            return ring.awaited();
        }
        let mut looks = 0_u32;
        let taking = loop {
            if let Some(taking) = try_lock(&ring.taking) {
                break Some(taking);
            }
            looks += 1;
            if is_done() || looks.is_multiple_of(LOOKS) && Instant::now() >= until {
                break None;
            }
            std::hint::spin_loop();
        };
        ring.states.wants_no_more();
        let Some(mut taking) = taking else {
            return ring.awaited();
        };
        taking.waiter.withdraw();
        ring.states.looks();
        let window = taking.patience.window();
        let mut until = Instant::now() + window;
        let (mut has_it, mut naps, mut beyond) = (true, 0, 0);
        let taken = loop {
            match self.take(ring, &mut taking) {
                Err(reason) => break Err(reason),
                // What else is there is taken along: the next one who asks finds it done.
                Ok(true) if is_done() && beyond < BEYOND_MAX => beyond += 1,
                Ok(is_any) if is_done() => break Ok(is_any),
                Ok(true) => until = Instant::now() + window,
                Ok(false) => {
                    looks += 1;
                    if !looks.is_multiple_of(LOOKS) || Instant::now() < until {
                        std::hint::spin_loop();
                        continue;
                    }
                    if naps >= NAPS_MAX {
                        // Its caller sleeps elsewhere now.
                        has_it = false;
                        break Ok(false);
                    }
                    naps += 1;
                    if let Err(reason) = self.nap(ring, &mut taking) {
                        break Err(reason);
                    }
                }
            }
        };
        taking.patience.note(began.elapsed());
        if taken.is_ok() && has_it && ring.states.counts_on_reader() {
            // The reader thread looks, and takes the lock for that.
            return;
        }
        self.end_if_failed(taken.and_then(|_| self.leave(ring, taking)));
    }

    /// Sleeps at the bell for a while, unless something is there. To wake the reader thread first, and to have it wake the one who
    /// waits, would cost as much again.
    fn nap(self: &Arc<Self>, ring: &RingLink, taking: &mut Taking) -> Result<(), String> {
        ring.states.nap_begins();
        if self.outbox().is_held_up() {
            taking.waiter.announce();
        } else {
            taking.waiter.announce_for_frames();
        }
        let slept = if taking.receiver.is_ready() || self.outbox().can_go_on() {
            Ok(true)
        } else {
            ring.nap(self.stream())
        };
        taking.waiter.withdraw();
        ring.states.nap_ends();
        match slept {
            Ok(true) => Ok(()),
            Ok(false) => self.take_last(ring, taking),
            Err(error) => Err(format!("cannot wait for the node: {error}")),
        }
    }

    /// The connection is over: takes what came before.
    fn take_last(self: &Arc<Self>, ring: &RingLink, taking: &mut Taking) -> Result<(), String> {
        while self.take(ring, taking)? {}
        Err("the other side closed it".to_owned())
    }

    pub(super) fn end_if_failed(self: &Arc<Self>, outcome: Result<(), String>) {
        if let Err(reason) = outcome {
            self.close(&reason);
        }
    }

    /// Gives the receiving end up, in one of the states in which nothing is missed.
    fn leave<'a>(
        self: &'a Arc<Self>,
        ring: &'a RingLink,
        taking: MutexGuard<'a, Taking>,
    ) -> Result<(), String> {
        let mut held = Holding {
            connection: self,
            ring,
            taking,
        };
        ring.states.leave(&mut held)
    }

    /// Takes the next frame, if there is one, and sends what had no room. Whether there was anything to do.
    fn take(self: &Arc<Self>, ring: &RingLink, taking: &mut Taking) -> Result<bool, String> {
        let went_on = self.outbox().go_on().map_err(|error| error.to_string())?;
        let arrival = match taking.receiver.receive() {
            Ok(None) => return Ok(went_on),
            Ok(Some(arrival)) => arrival,
            Err(ReceiveError::Closed) => return Err("the node closed the ring".to_owned()),
            Err(error) => return Err(error.to_string()),
        };
        ring.heard.store(true, Ordering::Relaxed);
        let header = arrival.header(taking.frame_bytes_max);
        let header = header.map_err(|error| error.to_string())?;
        let body = arrival.body();
        // Its room is the node's again.
        drop(arrival);
        header.check_body(&body).map_err(|error| error.to_string())?;
        if header.kind() != FrameKind::Request(Opcode::RingDetour) {
            return self.dispatch(&header, body).map(|()| true);
        }
        loop {
            match taking.frames.next(self.stream(), Wait::Yes) {
                Ok(Next::Frame(header, body)) => return self.dispatch(&header, body).map(|()| true),
                Ok(Next::Quiet) if taking.frames.take_heard() => {}
                Ok(Next::Quiet) => return Err("a frame that was announced did not come".to_owned()),
                Err(error) => return Err(format!("reading failed: {error}")),
            }
        }
    }

    /// The reader thread's turn: takes what is there, and says how long it may sleep.
    pub(super) fn take_turn(
        self: &Arc<Self>,
        ring: &RingLink,
        heartbeat: Duration,
    ) -> Result<Duration, String> {
        let is_awaited = ring.states.turn_begins();
        let Some(mut taking) = try_lock(&ring.taking) else {
            ring.states.misses(is_awaited, || self.is_fed());
            return Ok(LAZY);
        };
        taking.waiter.withdraw();
        ring.states.looks();
        let may_be_lazy = !self.is_fed() && !is_awaited;
        let mut came = ring.states.is_busy();
        let mut until = Instant::now() + BUSY;
        let mut looks = 0_u32;
        while !ring.states.is_wanted() {
            if self.take(ring, &mut taking)? {
                until = Instant::now() + BUSY;
                came = true;
                continue;
            }
            looks += 1;
            if may_be_lazy || looks.is_multiple_of(LOOKS) && Instant::now() >= until {
                break;
            }
            std::hint::spin_loop();
        }
        if may_be_lazy && came && ring.states.stays_lazy() {
            return Ok(LAZY);
        }
        ring.states.is_diligent();
        self.leave(ring, taking)?;
        Ok(heartbeat)
    }

    /// The reader thread's sleep. An error when either side ended the connection, after everything that came before was taken.
    pub(super) fn sleep(self: &Arc<Self>, ring: &RingLink, timeout: Duration) -> Result<(), String> {
        match ring.sleep(self.stream(), timeout) {
            Ok(true) => Ok(()),
            Ok(false) => self.take_last(ring, &mut lock(&ring.taking)),
            Err(error) => Err(format!("cannot wait for the node: {error}")),
        }
    }
}
