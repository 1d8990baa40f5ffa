//! A socket, TCP or Unix.

use std::io::{self, IoSlice};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use mofka_net::Address;
use rustix::buffer::spare_capacity;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, recv, sendmsg};

use crate::promise::Deadline;

/// Whether a read waits for something to come: within the socket's read timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    Yes,
    No,
}

impl Wait {
    fn flags(self) -> RecvFlags {
        match self {
            Self::Yes => RecvFlags::empty(),
            Self::No => RecvFlags::DONTWAIT,
        }
    }
}

#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    /// Connects.
    pub(crate) fn connect(address: &Address, deadline: Deadline) -> io::Result<Self> {
        match address {
            Address::Unix(path) => Ok(Self::Unix(UnixStream::connect(path)?)),
            Address::Tcp { host, port } => {
                let mut last = io::Error::new(io::ErrorKind::NotFound, "the host name has no address");
                for address in (host.as_str(), *port).to_socket_addrs()? {
                    let attempt = match deadline.left() {
                        None => TcpStream::connect(address),
                        Some(Duration::ZERO) => return Err(io::ErrorKind::TimedOut.into()),
                        Some(left) => TcpStream::connect_timeout(&address, left),
                    };
                    match attempt {
                        Ok(stream) => {
                            stream.set_nodelay(true)?;
                            return Ok(Self::Tcp(stream));
                        }
                        Err(error) => last = error,
                    }
                }
                Err(last)
            }
        }
    }

    /// How long a read waits before it fails with `WouldBlock`.
    pub(crate) fn set_read_timeout(&self, timeout: Duration) -> io::Result<()> {
        // Zero would mean: for ever.
        let timeout = Some(timeout.max(Duration::from_millis(1)));
        match self {
            Self::Tcp(stream) => stream.set_read_timeout(timeout),
            Self::Unix(stream) => stream.set_read_timeout(timeout),
        }
    }

    /// Reads what is there into `buffer`; returns how much that was, 0 at the end.
    pub(crate) fn receive(&self, buffer: &mut [u8], wait: Wait) -> io::Result<usize> {
        Ok(recv(self.fd(), buffer, wait.flags())?.0)
    }

    /// Reads up to `bytes_max` more bytes to the end of `buffer`, which has room for them, until they are all there, there are none,
    /// or the other side closed it. On an error what came before it is in the buffer.
    pub(crate) fn append_to(&self, buffer: &mut Vec<u8>, bytes_max: usize, wait: Wait) -> io::Result<usize> {
        let begin = buffer.len();
        loop {
            let missing = (begin + bytes_max).saturating_sub(buffer.len());
            if missing == 0 {
                return Ok(bytes_max);
            }
            let received = if buffer.capacity() - buffer.len() == missing {
                // Memory that was never written.
                recv(self.fd(), spare_capacity(buffer), wait.flags())?.0
            } else {
                let end = buffer.len();
                buffer.resize(end + missing, 0);
                let received = recv(self.fd(), &mut buffer[end..], wait.flags());
                buffer.truncate(end + received.map_or(0, |(bytes, _)| bytes));
                received?.0
            };
            if received == 0 {
                return Ok(buffer.len() - begin);
            }
        }
    }

    /// Sends what the kernel takes now; never waits.
    pub(crate) fn try_send(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.send_flagged(slices, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)
    }

    /// Sends; waits until the kernel has taken something.
    pub(crate) fn send(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.send_flagged(slices, SendFlags::NOSIGNAL)
    }

    fn send_flagged(&self, slices: &[IoSlice<'_>], flags: SendFlags) -> io::Result<usize> {
        loop {
            match sendmsg(self.fd(), slices, &mut SendAncillaryBuffer::default(), flags) {
                Ok(sent) => return Ok(sent),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Ends the connection for both sides; wakes whoever reads or writes it.
    pub(crate) fn shutdown(&self) {
        // It may be gone already.
        match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Both).ok(),
            Self::Unix(stream) => stream.shutdown(Shutdown::Both).ok(),
        };
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}
