//! Listens on the shard's addresses and gives each connection to a session.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, RawFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_lite::{AsyncRead, AsyncWrite, future};
use glommio::io::PollableFd;
use glommio::net::{TcpListener, TcpStream, UnixStream};
use mofka_net::Address;

use super::UringIo;
use super::mesh::Mesh;
use super::rings::SocketDoor;
use super::watch::Watched;
use crate::config::{LOCAL, places_to_listen};
use crate::facts::{NodeFacts, socket_permissions};
use crate::halves::split;
use crate::session::{LocalUser, Peer, Session};
use crate::shard::Shard;

/// How often a shard looks whether it is to stop.
const STOP_CHECK: Duration = Duration::from_millis(50);
/// How long answers may take to leave when the node stops.
const FAREWELL: Duration = Duration::from_secs(2);

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub(super) enum ListenError {
    /// It is not an address.
    #[error("cannot listen on \"{address}\": {reason}")]
    Invalid {
        /// What was given.
        address: String,
        /// What is wrong.
        reason: String,
    },
    /// The system refuses it.
    #[error("cannot listen on {address}: {source}{hint}")]
    Bind {
        /// What was tried.
        address: String,
        /// What the system said.
        source: io::Error,
        /// What to do, if that is known.
        hint: &'static str,
    },
}

/// The sockets of one shard.
pub(super) struct Listeners {
    tcp: Vec<(TcpListener, String)>,
    unix: Vec<(PollableFd<UnixListener>, String, PathBuf)>,
    order: Vec<String>,
    /// Whether processes of other users may come to the Unix sockets.
    is_open_to_others: bool,
}

impl Listeners {
    /// Binds every address for this shard.
    ///
    /// # Errors
    /// The first address that cannot be listened on.
    pub(super) fn bind(
        listen: &[String],
        shard: usize,
        data_dir: &Path,
        is_open_to_others: bool,
    ) -> Result<Self, ListenError> {
        let mut listeners = Self {
            tcp: Vec::new(),
            unix: Vec::new(),
            order: Vec::new(),
            is_open_to_others,
        };
        for text in places_to_listen(listen) {
            let invalid = |reason: String| ListenError::Invalid {
                address: text.to_owned(),
                reason,
            };
            if text == LOCAL {
                let path = socket_path(data_dir).map_err(invalid)?;
                listeners.unix(LOCAL, &path, shard)?;
                continue;
            }
            match text
                .parse::<Address>()
                .map_err(|error| invalid(error.to_string()))?
            {
                Address::Tcp { host, port } => listeners.tcp(&host, port, shard)?,
                Address::Unix(path) => {
                    let scheme = if text.starts_with("na+sm") {
                        "na+sm"
                    } else {
                        "unix"
                    };
                    listeners.unix(scheme, &path, shard)?;
                }
            }
        }
        Ok(listeners)
    }

    fn tcp(&mut self, host: &str, port: u16, shard: usize) -> Result<(), ListenError> {
        let own_port = match port {
            0 => Some(0),
            port => u16::try_from(shard)
                .ok()
                .and_then(|shard| port.checked_add(shard)),
        };
        let shown = format!("tcp://{host}:{}", own_port.unwrap_or(port));
        let failed = |source: io::Error| {
            let hint = match source.kind() {
                io::ErrorKind::AddrInUse => {
                    " (another program listens there; each shard takes the next port)"
                }
                _ => "",
            };
            ListenError::Bind {
                address: shown.clone(),
                source,
                hint,
            }
        };
        let own_port =
            own_port.ok_or_else(|| failed(io::Error::other("the shard's port would be beyond 65535")))?;
        // glommio sets SO_REUSEPORT, so that a second daemon would silently share the port: look first.
        if own_port != 0 {
            std::net::TcpListener::bind((host, own_port)).map_err(failed)?;
        }
        let listener = TcpListener::bind((host, own_port)).map_err(|error| failed(error.into()))?;
        let port = listener
            .local_addr()
            .map_err(|error| failed(error.into()))?
            .port();
        let address = Address::Tcp {
            host: host.to_owned(),
            port,
        }
        .to_string();
        self.order.push(address.clone());
        self.tcp.push((listener, address));
        Ok(())
    }

    fn unix(&mut self, scheme: &str, path: &Path, shard: usize) -> Result<(), ListenError> {
        let mut path = path.to_path_buf();
        if shard > 0 {
            path.as_mut_os_string().push(format!(".{shard}"));
        }
        let address = format!("{scheme}://{}", path.display());
        let failed = |hint: &'static str| {
            let address = address.clone();
            move |source: io::Error| ListenError::Bind {
                address,
                source,
                hint,
            }
        };
        if std::os::unix::net::UnixStream::connect(&path).is_ok() {
            return Err(failed(" (another program answers there)")(
                io::ErrorKind::AddrInUse.into(),
            ));
        }
        if path.exists() {
            // A socket that nobody answers on is left from a node that was killed.
            std::fs::remove_file(&path).map_err(failed(""))?;
        }
        let listener = UnixListener::bind(&path).map_err(failed(""))?;
        listener.set_nonblocking(true).map_err(failed(""))?;
        // Who else may connect is looked at when he does.
        std::fs::set_permissions(&path, socket_permissions(self.is_open_to_others)).map_err(failed(""))?;
        self.order.push(address.clone());
        let listener = PollableFd::new(listener).map_err(|error| failed("")(error.into()))?;
        self.unix.push((listener, address, path));
        Ok(())
    }

    /// The Unix sockets among them.
    pub(super) fn sockets(&self) -> Vec<PathBuf> {
        self.unix.iter().map(|(_, _, path)| path.clone()).collect()
    }

    /// Where clients reach this shard, in the order of the configuration.
    pub(super) fn addresses(&self) -> Vec<String> {
        self.order.clone()
    }
}

/// A Unix socket's path is short by decree of the kernel; one in the data directory is preferred.
fn socket_path(data_dir: &Path) -> Result<PathBuf, String> {
    const PATH_BYTES_MAX: usize = 100;
    let inside = data_dir.join("mofka.sock");
    if inside.as_os_str().len() <= PATH_BYTES_MAX {
        return Ok(inside);
    }
    let uid = rustix::process::getuid().as_raw();
    let dir = std::env::temp_dir().join(format!("mofka-{uid}"));
    let failed = |error: io::Error| format!("could not make {} for the socket: {error}", dir.display());
    match std::fs::create_dir(&dir) {
        Ok(()) => std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o700)).map_err(failed)?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(failed(error)),
    }
    let stat = rustix::fs::lstat(&dir).map_err(|error| failed(error.into()))?;
    let is_dir = rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Directory;
    if !is_dir || stat.st_uid != uid || stat.st_mode & 0o077 != 0 {
        return Err(format!(
            "{} belongs to somebody else or is open to others: remove it",
            dir.display()
        ));
    }
    let name = crc32fast::hash(data_dir.as_os_str().as_encoded_bytes());
    Ok(dir.join(format!("{name:08x}.sock")))
}

type OurShard = Shard<UringIo, Mesh>;

/// Accepts and serves connections until the node is to stop.
pub(super) async fn run(shard: &Rc<OurShard>, facts: &NodeFacts, listeners: Listeners) {
    // Clients that come early wait in the backlog: the first answer names every shard's addresses.
    while !facts.is_ready() && !facts.stop.load(Ordering::SeqCst) {
        glommio::timer::sleep(Duration::from_millis(1)).await;
    }
    let connections = Rc::new(Cell::new(0_usize));
    let mut tasks = Vec::new();
    let paths = listeners.sockets();
    for (listener, address) in listeners.tcp {
        let (shard, connections) = (Rc::clone(shard), Rc::clone(&connections));
        tasks.push(glommio::spawn_local(async move {
            loop {
                match listener.accept().await {
                    Ok(stream) => serve_tcp(&shard, &connections, stream),
                    Err(error) => accept_failed(&address, &error.into()).await,
                }
            }
        }));
    }
    for (listener, address, _) in listeners.unix {
        let (shard, connections) = (Rc::clone(shard), Rc::clone(&connections));
        tasks.push(glommio::spawn_local(async move {
            loop {
                match accept_unix(&listener).await {
                    Ok((stream, fd)) => {
                        let peer = local_peer(&shard, fd);
                        serve(&shard, &connections, stream, fd, peer);
                    }
                    Err(error) => accept_failed(&address, &error).await,
                }
            }
        }));
    }
    while !facts.stop.load(Ordering::SeqCst) {
        facts.beat(shard.number());
        glommio::timer::sleep(STOP_CHECK).await;
    }
    tracing::debug!("no longer accepting connections");
    for task in tasks {
        task.cancel().await;
    }
    tracing::debug!("finishing what was accepted");
    for path in paths {
        std::fs::remove_file(&path).ok();
    }
    // What was accepted is finished and answered; then the connections end.
    shard.drain().await;
    tracing::debug!("closing connections");
    let farewell = shard.close_sessions();
    future::or(farewell, async {
        glommio::timer::sleep(FAREWELL).await;
    })
    .await;
}

/// Running out of descriptors must not turn into a busy loop.
async fn accept_failed(address: &str, error: &io::Error) {
    tracing::warn!(address, %error, "could not accept a connection");
    glommio::timer::sleep(Duration::from_millis(100)).await;
}

fn serve_tcp(shard: &Rc<OurShard>, connections: &Rc<Cell<usize>>, stream: TcpStream) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "could not turn off Nagle's algorithm");
    }
    let peer = stream
        .peer_addr()
        .map_or_else(|_| "tcp peer".to_owned(), |peer| peer.to_string());
    let fd = stream.as_raw_fd();
    serve(shard, connections, stream, fd, Peer::named(peer));
}

/// Who came over a Unix socket, as the kernel knows it.
fn local_peer(shard: &OurShard, fd: RawFd) -> Peer {
    // SAFETY: the stream that closes the socket was just made of it, and is used after this.
    let socket = unsafe { BorrowedFd::borrow_raw(fd) };
    let door = SocketDoor::new(fd, shard.io().rings(), shard.io().watches());
    match rustix::net::sockopt::socket_peercred(socket) {
        Ok(credentials) => {
            let (pid, uid) = (credentials.pid.as_raw_nonzero(), credentials.uid.as_raw());
            let own_uid = rustix::process::geteuid().as_raw();
            let user = LocalUser {
                uid,
                gid: credentials.gid.as_raw(),
                own_uid,
            };
            let name = format!("process {pid} of user {uid}");
            Peer::local(name, user, &shard.local_clients(), Box::new(door))
        }
        Err(error) => {
            let refusal = format!("the kernel does not tell who is at the other end of the socket: {error}");
            Peer::refused("local peer".to_owned(), refusal)
        }
    }
}

/// The runtime does not tell the descriptor of what it accepts.
async fn accept_unix(listener: &PollableFd<UnixListener>) -> io::Result<(UnixStream, RawFd)> {
    loop {
        match listener.get_ref().accept() {
            Ok((stream, _)) => {
                let fd = stream.into_raw_fd();
                // SAFETY: the descriptor is open and given away here; the stream closes it.
                return Ok((unsafe { UnixStream::from_raw_fd(fd) }, fd));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => listener.readable().await?,
            Err(error) => return Err(error),
        }
    }
}

fn serve<S>(shard: &Rc<OurShard>, connections: &Rc<Cell<usize>>, stream: S, fd: RawFd, peer: Peer)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    if connections.get() >= shard.limits().connections_max {
        tracing::warn!(
            peer = peer.name(),
            "refused a connection: this shard has as many as its limit connections_max allows"
        );
        shard.measures().refused_connections.add(1);
        return;
    }
    shard.measures().opened_connections.add(1);
    connections.set(connections.get() + 1);
    let (shard, connections) = (Rc::clone(shard), Rc::clone(connections));
    glommio::spawn_local(async move {
        let (reader, writer) = split(stream);
        let reader = Watched::new(reader, fd, shard.io().watches());
        Session::run(&shard, reader, writer, peer).await;
        connections.set(connections.get() - 1);
    })
    .detach();
}
