//! Ways from one thread to the other.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mofka_net::shm::{Arrival, End, LaneConfig, ReceiveError, RingConfig, SendError};
use rustix::event::{EventfdFlags, eventfd};

/// One end of a way. What goes wrong ends the benchmark.
pub(crate) trait Link {
    /// Whether it carries bytes, and does not only wake.
    const CARRIES: bool;

    fn send(&mut self, frame: &[u8]);

    /// Fills all of `frame` with the next one.
    fn receive(&mut self, frame: &mut [u8]);
}

/// An end that is still on its way to the thread that will use it.
pub(crate) trait Open {
    type Link: Link;

    /// Called in that thread, before frames go.
    fn open(self) -> Self::Link;
}

impl<L: Link> Open for L {
    type Link = L;

    fn open(self) -> L {
        self
    }
}

/// Two eventfds: the least that wakes a sleeping thread.
pub(crate) struct EventLink {
    own: OwnedFd,
    peer: OwnedFd,
}

impl EventLink {
    pub(crate) fn pair() -> Result<(Self, Self), String> {
        let make = || eventfd(0, EventfdFlags::CLOEXEC).map_err(|e| format!("cannot make an eventfd: {e}"));
        let copy = |fd: &OwnedFd| {
            fd.try_clone()
                .map_err(|e| format!("cannot duplicate an eventfd: {e}"))
        };
        let (first, second) = (make()?, make()?);
        let near = Self {
            own: copy(&first)?,
            peer: copy(&second)?,
        };
        let far = Self {
            own: second,
            peer: first,
        };
        Ok((near, far))
    }
}

impl Link for EventLink {
    const CARRIES: bool = false;

    fn send(&mut self, _frame: &[u8]) {
        rustix::io::write(&self.peer, &1_u64.to_ne_bytes()).expect("an eventfd can be written");
    }

    fn receive(&mut self, _frame: &mut [u8]) {
        rustix::io::read(&self.own, &mut [0; 8]).expect("an eventfd can be read");
    }
}

/// Two words, on lines of their own, that both sides look at all the time: the least that there is.
pub(crate) struct SpinLink {
    words: Arc<[Line; 2]>,
    own: usize,
    sent: u64,
    received: u64,
}

#[repr(align(128))]
#[derive(Default)]
struct Line(AtomicU64);

impl SpinLink {
    pub(crate) fn pair() -> (Self, Self) {
        let words = Arc::new([Line::default(), Line::default()]);
        let end = |own| Self {
            words: Arc::clone(&words),
            own,
            sent: 0,
            received: 0,
        };
        (end(0), end(1))
    }
}

impl Link for SpinLink {
    const CARRIES: bool = false;

    fn send(&mut self, _frame: &[u8]) {
        self.sent += 1;
        // Releases to the acquire below, and so back.
        self.words[1 - self.own].0.store(self.sent, Ordering::Release);
    }

    fn receive(&mut self, _frame: &mut [u8]) {
        self.received += 1;
        while self.words[self.own].0.load(Ordering::Acquire) < self.received {
            std::hint::spin_loop();
        }
    }
}

/// A Unix stream socket, blocking.
pub(crate) struct UnixLink(UnixStream);

impl UnixLink {
    pub(crate) fn pair() -> Result<(Self, Self), String> {
        let (near, far) = UnixStream::pair().map_err(|e| format!("cannot make sockets: {e}"))?;
        Ok((Self(near), Self(far)))
    }
}

impl Link for UnixLink {
    const CARRIES: bool = true;

    fn send(&mut self, frame: &[u8]) {
        self.0.write_all(frame).expect("the socket takes it");
    }

    fn receive(&mut self, frame: &mut [u8]) {
        self.0.read_exact(frame).expect("the socket gives it");
    }
}

/// What an end of the ring does when there is nothing to do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    Sleep,
    Poll,
}

/// Whose bytes are moved through the ring.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bytes {
    /// Frames are copied in and out, as sockets do.
    Copied,
    /// Frames stay where they are in the arena; only their beginning is written and read.
    InPlace,
}

/// Bytes that are written and read when the rest stays in place.
pub(crate) const BEGINNING: usize = 32;

/// The ring.
pub(crate) struct RingLink {
    end: End,
    wait: Wait,
    bytes: Bytes,
}

impl RingLink {
    pub(crate) fn pair(
        slot_count: u32,
        arena_bytes: u64,
        wait: Wait,
        bytes: Bytes,
    ) -> Result<(Self, Self), String> {
        let lane = LaneConfig {
            slot_count,
            arena_bytes,
        };
        let config = RingConfig {
            submission: lane,
            completion: lane,
            first_position: 0,
        };
        let (server, offer) = End::create(&config).map_err(|e| e.to_string())?;
        let client = End::attach(offer).map_err(|e| e.to_string())?;
        let link = |end| Self { end, wait, bytes };
        Ok((link(client), link(server)))
    }

    fn next(&mut self) -> Arrival {
        loop {
            match self.end.receiver.receive() {
                Ok(Some(arrival)) => return arrival,
                Ok(None) => {}
                Err(error @ (ReceiveError::Closed | ReceiveError::Fault(_))) => panic!("{error}"),
            }
            match self.wait {
                Wait::Poll => std::hint::spin_loop(),
                Wait::Sleep => {
                    let ready = || self.end.receiver.is_ready();
                    self.end.waiter.wait(ready, 0, None).expect("this side can sleep");
                }
            }
        }
    }

    fn try_send(&mut self, frame: &[u8]) -> Result<(), SendError> {
        let sender = &mut self.end.sender;
        if self.bytes == Bytes::Copied {
            return sender.send(&[frame]);
        }
        let mut claim = sender.claim(frame.len() as u64)?;
        claim.write(0, &frame[..BEGINNING]).expect("frames are longer");
        sender.commit(claim)
    }
}

impl Link for RingLink {
    const CARRIES: bool = true;

    fn send(&mut self, frame: &[u8]) {
        while let Err(error) = self.try_send(frame) {
            assert!(matches!(error, SendError::NoRoom { .. }), "{error}");
            match self.wait {
                Wait::Poll => std::hint::spin_loop(),
                Wait::Sleep => {
                    let ready = || self.end.sender.can_claim(frame.len() as u64, None);
                    self.end.waiter.wait(ready, 0, None).expect("this side can sleep");
                }
            }
        }
    }

    fn receive(&mut self, frame: &mut [u8]) {
        let wanted = match self.bytes {
            Bytes::Copied => frame.len(),
            Bytes::InPlace => BEGINNING,
        };
        self.next()
            .read(0, &mut frame[..wanted])
            .expect("frames are alike");
    }
}
