//! How a sleeping side is woken: one descriptor for each direction.
//!
//! The server's bell is an eventfd. The client's is a socket of which the server keeps the other end: an eventfd has one
//! state for all who have it, `O_NONBLOCK` included, so a client could fill it, make it blocking, and so stop a server
//! that rings. Sending on a socket is told not to block call by call.

use std::io::IoSliceMut;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec};
use rustix::io::{Errno, ReadWriteFlags};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use crate::shm::fault::MapError;

/// Where a side hears the other ring.
#[derive(Debug)]
pub(super) enum Hearing {
    /// The server's.
    Event(OwnedFd),
    /// The client's.
    Socket(OwnedFd),
}

/// Why a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// What was waited for is there.
    Ready,
    /// The other side rang, or a signal came: look again.
    Rung,
    /// It took as long as was allowed.
    TimedOut,
    /// The server is gone: its process ended or closed the ring. What it sent before can still be received.
    Gone,
}

/// The server's bell.
pub(super) fn event() -> Result<OwnedFd, MapError> {
    let made = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
    made.map_err(|error| MapError::System {
        what: "make the bell of a ring",
        error: error.into(),
    })
}

/// The client's bell: the server's end, the client's end.
pub(super) fn socket() -> Result<(OwnedFd, OwnedFd), MapError> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let made = rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None);
    made.map_err(|error| MapError::System {
        what: "make the bell of a ring",
        error: error.into(),
    })
}

/// Rings the server. Whatever goes wrong is the other side's, or it has been rung before.
pub(super) fn ring_event(bell: &OwnedFd) {
    let _ = rustix::io::write(bell, &1_u64.to_ne_bytes());
}

/// Rings the client. Never blocks, whatever the client did to its end.
pub(super) fn ring_socket(bell: &OwnedFd) {
    let _ = rustix::net::send(bell, &[1], SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
}

impl Hearing {
    /// Waits for the bell.
    pub(super) fn wait(&self, timeout: Option<Duration>) -> Result<Wake, Errno> {
        let timeout = timeout.map(timespec);
        let mut polled = [PollFd::new(self, PollFlags::IN)];
        match rustix::event::poll(&mut polled, timeout.as_ref()) {
            Ok(0) => Ok(Wake::TimedOut),
            Ok(_) | Err(Errno::INTR) => Ok(Wake::Rung),
            Err(error) => Err(error),
        }
    }

    /// Empties the bell. False when the other side's end is gone. Never blocks.
    pub(super) fn empty(&self) -> bool {
        match self {
            Self::Event(bell) => {
                let mut count = [0; 8];
                // Told not to block here: the client can change the descriptor's own flag. -1: where there are no
                // places.
                let into = &mut [IoSliceMut::new(&mut count)];
                let _ = rustix::io::preadv2(bell, into, u64::MAX, ReadWriteFlags::NOWAIT);
                true
            }
            Self::Socket(bell) => {
                let mut rings = [0_u8; 64];
                // Bounded: each ring took an announcement of ours, so there are hardly ever two.
                for _ in 0..64 {
                    match rustix::net::recv(bell, &mut rings, RecvFlags::DONTWAIT) {
                        Ok((0, _)) | Err(Errno::CONNRESET) => return false,
                        Ok((bytes, _)) if bytes == rings.len() => {}
                        Ok(_) | Err(_) => break,
                    }
                }
                true
            }
        }
    }
}

impl AsFd for Hearing {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Event(bell) | Self::Socket(bell) => bell.as_fd(),
        }
    }
}

fn timespec(timeout: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(timeout.subsec_nanos()),
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::OFlags;

    use super::*;

    const SOON: Option<Duration> = Some(Duration::ZERO);

    #[test]
    fn a_ring_is_heard_until_the_bell_is_emptied() {
        let event = event().unwrap();
        let heard = Hearing::Event(event.try_clone().unwrap());
        let (server, client) = socket().unwrap();
        let client = Hearing::Socket(client);
        assert_eq!(
            (heard.wait(SOON), client.wait(SOON)),
            (Ok(Wake::TimedOut), Ok(Wake::TimedOut))
        );
        for _ in 0..3 {
            ring_event(&event);
            ring_socket(&server);
        }
        assert_eq!(
            (heard.wait(None), client.wait(None)),
            (Ok(Wake::Rung), Ok(Wake::Rung))
        );
        assert!(heard.empty() && client.empty());
        assert_eq!(
            (heard.wait(SOON), client.wait(SOON)),
            (Ok(Wake::TimedOut), Ok(Wake::TimedOut))
        );
        drop(server);
        assert_eq!(client.wait(None), Ok(Wake::Rung));
        assert!(!client.empty(), "the server is gone");
    }

    #[test]
    fn a_client_cannot_make_the_server_block() {
        let blocking = |fd: &OwnedFd| rustix::fs::fcntl_setfl(fd, OFlags::empty()).unwrap();
        let event = event().unwrap();
        let server = Hearing::Event(event.try_clone().unwrap());
        blocking(&event);
        assert!(server.empty(), "nothing was there to read");
        let (server, client) = socket().unwrap();
        blocking(&client);
        // More than any buffer holds: all calls come back.
        for _ in 0..100_000 {
            ring_socket(&server);
        }
        assert_eq!(
            rustix::net::send(&server, &[1], SendFlags::DONTWAIT),
            Err(Errno::AGAIN),
            "the buffer is full"
        );
    }
}
