//! A socket, TCP or Unix.

use std::io::{self, IoSlice};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use mofka_net::Address;
use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
    connect, recv, sendmsg, socket_with,
};

use crate::promise::Deadline;

/// Between two attempts at a socket whose line of those who want to be accepted is full.
const FULL_PAUSE: Duration = Duration::from_millis(10);

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
            Address::Unix(path) => connect_unix(path, deadline).map(Self::Unix),
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

    /// The same until a deadline.
    pub(crate) fn set_read_deadline(&self, deadline: Deadline) -> io::Result<()> {
        self.set_read_timeout(deadline.left().unwrap_or(Duration::from_secs(3600)))
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
                Err(Errno::INTR) => {}
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

/// Connects. The kernel would wait without end where a node hangs and the line before its socket is full.
fn connect_unix(path: &Path, deadline: Deadline) -> io::Result<UnixStream> {
    let address = SocketAddrUnix::new(path)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    loop {
        match connect(&socket, &address) {
            Ok(()) => break,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) if deadline.is_over() => {
                let reason = "nobody accepts connections, and many wait for that";
                return Err(io::Error::new(io::ErrorKind::TimedOut, reason));
            }
            Err(Errno::AGAIN) => {
                let pause = deadline.left().map_or(FULL_PAUSE, |left| left.min(FULL_PAUSE));
                std::thread::sleep(pause);
            }
            Err(error) => return Err(error.into()),
        }
    }
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use rustix::net::{bind, listen};
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_node_that_accepts_nobody_is_given_up_in_time() {
        let path = std::env::temp_dir().join(format!("mofka-{}", Uuid::new_v4().simple()));
        let listening = socket_with(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        bind(&listening, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        listen(&listening, 0).unwrap();
        let address = Address::Unix(path.clone());
        let attempt = || Stream::connect(&address, Deadline::after(Duration::from_millis(100)));
        let waiting = attempt().unwrap();
        let begun = Instant::now();
        assert_eq!(attempt().unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(begun.elapsed() < Duration::from_secs(5));
        drop(waiting);
        std::fs::remove_file(path).unwrap();
        let gone = attempt().unwrap_err();
        assert_eq!(gone.kind(), io::ErrorKind::NotFound);
    }
}
