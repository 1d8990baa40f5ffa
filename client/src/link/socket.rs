//! The receiving end of a connection over a socket, and who reads it.
//!
//! Whoever waits for an answer reads it himself ([`Connection::drive`]): no thread has to be woken for it then. The reader thread
//! sees to all else. It is in one of these states:
//!
//! - *at the socket*: it sleeps until something comes, or it is nudged;
//! - *away*: things are asked for one after the other, and those who ask take the answers. It looks every millisecond, or when
//!   somebody nudges it who waits and does not read ([`SocketLink::awaited`]);
//! - *reading*: somebody is fed. It waits in the socket's own read, and nobody else reads.
//!
//! Whoever has the frames takes those that are wholly read before he gives them up, for others too: a thread that sleeps at the
//! socket hears nothing of what was taken from it.
//!
//! Handlers run only in `drive`, whose caller has no lock, and in the reader thread: never where something is sent.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use super::connection::Connection;
use super::frames::{Frames, Next, Wait};
use super::stream::Stream;
use crate::promise::{lock, try_lock};

/// How long somebody who waits sleeps at the socket before he looks at his own clock.
const NAP: Duration = Duration::from_millis(1);
/// How often, before he leaves the rest to the reader thread.
const NAPS_MAX: u32 = 5;
/// How often the reader thread looks when others are likely to.
const LAZY: Duration = Duration::from_millis(1);
/// Frames that the reader thread takes before it looks whether the node is to be told that this side lives.
const FRAMES_MAX: u32 = 256;

/// See the module.
pub(super) struct SocketLink {
    frames: Mutex<Frames>,
    /// Wakes the reader thread.
    nudge: OwnedFd,
    /// Somebody who waits reads, or is about to.
    is_driven: AtomicBool,
    /// Somebody did, since the reader thread looked.
    was_driven: AtomicBool,
    /// The reader thread does not look at the socket.
    is_away: AtomicBool,
    /// Somebody waits for the reader thread.
    is_awaited: AtomicBool,
    /// Whether anything came since the reader thread asked.
    heard: AtomicBool,
}

impl SocketLink {
    pub(super) fn new(frames: Frames) -> io::Result<Self> {
        Ok(Self {
            frames: Mutex::new(frames),
            nudge: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            is_driven: AtomicBool::new(false),
            was_driven: AtomicBool::new(false),
            is_away: AtomicBool::new(false),
            is_awaited: AtomicBool::new(false),
            heard: AtomicBool::new(false),
        })
    }

    /// Whether anything came since the last call.
    pub(super) fn take_heard(&self) -> bool {
        self.heard.swap(false, Ordering::Relaxed)
    }

    /// Somebody waits for something and does not read: the reader thread is to see to it at once.
    pub(super) fn awaited(&self) {
        // Either this is seen by the reader thread when it goes away, or that it did is seen here.
        self.is_awaited.store(true, Ordering::SeqCst);
        self.wake_if_away();
    }

    /// No longer reads, and has given the lock up.
    fn leave(&self) {
        self.was_driven.store(true, Ordering::Relaxed);
        // As in `awaited`: one of the two sees the other.
        self.is_driven.store(false, Ordering::SeqCst);
        if self.is_awaited.load(Ordering::SeqCst) {
            self.wake_if_away();
        }
    }

    fn wake_if_away(&self) {
        if self.is_away.load(Ordering::SeqCst) && self.is_away.swap(false, Ordering::SeqCst) {
            // It is full when the thread was woken often, and has it still to notice.
            let _ = rustix::io::write(&self.nudge, &1_u64.to_ne_bytes());
        }
    }

    /// The reader thread's sleep: until something comes (at the socket), it is nudged, or this long.
    fn sleep(&self, stream: &Stream, is_away: bool, timeout: Duration) -> io::Result<()> {
        let mut polled = [
            PollFd::new(&self.nudge, PollFlags::IN),
            PollFd::from_borrowed_fd(stream.fd(), PollFlags::IN),
        ];
        let count = if is_away { 1 } else { polled.len() };
        sleep_at(&mut polled[..count], timeout)?;
        if !polled[0].revents().is_empty() {
            let _ = rustix::io::read(&self.nudge, &mut [0_u8; 8]);
        }
        Ok(())
    }
}

/// Sleeps until something happens at one of these, or this long.
pub(super) fn sleep_at(polled: &mut [PollFd<'_>], timeout: Duration) -> io::Result<()> {
    let timeout = Timespec {
        tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    };
    match poll(polled, Some(&timeout)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

impl Connection {
    /// See [`Connection::drive`].
    pub(super) fn drive_socket(self: &Arc<Self>, socket: &SocketLink, is_done: impl Fn() -> bool) {
        // One at a time: the others sleep until somebody took theirs.
        if self.is_fed() || socket.is_driven.swap(true, Ordering::SeqCst) {
            return socket.awaited();
        }
        // The reader thread has them while it takes what is there.
        let taken = try_lock(&socket.frames).map_or(Ok(false), |mut frames| {
            self.read_until(socket, &mut frames, is_done)
        });
        let is_left_over = !matches!(taken, Ok(true));
        if is_left_over {
            socket.is_awaited.store(true, Ordering::SeqCst);
        }
        socket.leave();
        self.end_if_failed(taken.map(|_| ()));
    }

    /// Reads until this is done, or nothing came for a while. No whole frame is left in the buffer.
    fn read_until(
        self: &Arc<Self>,
        socket: &SocketLink,
        frames: &mut Frames,
        is_done: impl Fn() -> bool,
    ) -> Result<bool, String> {
        let mut naps = 0;
        loop {
            if is_done() {
                while let Some((header, body)) = frames.next_here().map_err(cannot_read)? {
                    self.dispatch(&header, body)?;
                }
                return Ok(true);
            }
            if self.take_from(socket, frames, Wait::No)? {
                naps = 0;
                continue;
            }
            if naps >= NAPS_MAX {
                return Ok(false);
            }
            naps += 1;
            let mut polled = [PollFd::from_borrowed_fd(self.stream().fd(), PollFlags::IN)];
            sleep_at(&mut polled, NAP).map_err(cannot_wait)?;
        }
    }

    /// Takes the next frame, and says whether there was one.
    fn take_from(
        self: &Arc<Self>,
        socket: &SocketLink,
        frames: &mut Frames,
        wait: Wait,
    ) -> Result<bool, String> {
        let next = frames.next(self.stream(), wait);
        if frames.take_heard() {
            socket.heard.store(true, Ordering::Relaxed);
        }
        match next {
            Ok(Next::Frame(header, body)) => self.dispatch(&header, body).map(|()| true),
            Ok(Next::Quiet) => Ok(false),
            Err(error) => Err(cannot_read(error)),
        }
    }

    /// The reader thread's turn: takes what is there, and sleeps until there is more to see to, for as long as a heartbeat.
    pub(super) fn read_turn(
        self: &Arc<Self>,
        socket: &SocketLink,
        heartbeat: Duration,
    ) -> Result<(), String> {
        if self.is_fed() {
            // Who drives leaves soon: he looks after each of his naps.
            return self
                .take_from(socket, &mut lock(&socket.frames), Wait::Yes)
                .map(|_| ());
        }
        let is_awaited = socket.is_awaited.swap(false, Ordering::SeqCst);
        let was_driven = socket.was_driven.swap(false, Ordering::Relaxed);
        let mut is_away = match try_lock(&socket.frames) {
            None => {
                // For when who reads leaves.
                socket.is_awaited.fetch_or(is_awaited, Ordering::SeqCst);
                true
            }
            Some(mut frames) => {
                let mut taken = 0;
                while self.take_from(socket, &mut frames, Wait::No)? {
                    taken += 1;
                    if taken == FRAMES_MAX {
                        return Ok(());
                    }
                }
                was_driven && !is_awaited && !self.is_fed()
            }
        };
        socket.is_away.store(is_away, Ordering::SeqCst);
        if is_away && socket.is_awaited.load(Ordering::SeqCst) && !socket.is_driven.load(Ordering::SeqCst) {
            socket.is_away.store(false, Ordering::SeqCst);
            is_away = false;
        }
        let timeout = if is_away { LAZY } else { heartbeat };
        socket.sleep(self.stream(), is_away, timeout).map_err(cannot_wait)
    }
}

fn cannot_read(error: io::Error) -> String {
    format!("reading failed: {error}")
}

fn cannot_wait(error: io::Error) -> String {
    format!("cannot wait for the node: {error}")
}
