//! What a service manager is told: systemd's protocol of datagrams to the socket that `NOTIFY_SOCKET` names (sd_notify(3)).
//!
//! Whoever has no such manager tells nobody, and nothing changes.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

/// The way to the service manager, if there is one.
#[derive(Debug, Default)]
pub struct Supervisor {
    place: Option<(UnixDatagram, SocketAddr)>,
    /// How often it wants a sign of life.
    watchdog: Option<Duration>,
    /// When it had the last one, and how far the shards had come then.
    last: Option<(Instant, Vec<u64>)>,
}

impl Supervisor {
    /// As the environment says. A socket that cannot be used is as good as none, and said in the log.
    pub fn from_environment() -> Self {
        let Some(name) = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Self::default();
        };
        let place = match place(&name) {
            Ok(place) => Some(place),
            Err(error) => {
                tracing::warn!(socket = ?name, %error, "the service manager's socket cannot be used");
                None
            }
        };
        let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
        let is_ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|us| is_ours && *us > 0);
        Self {
            place,
            watchdog: watchdog.map(Duration::from_micros),
            last: None,
        }
    }

    /// Clients may come.
    pub fn ready(&self, status: &str) {
        self.say(&format!("READY=1\nSTATUS={status}"));
    }

    /// What the node does, for people.
    pub fn status(&self, status: &str) {
        self.say(&format!("STATUS={status}"));
    }

    /// The node stops.
    pub fn stopping(&self) {
        self.say("STOPPING=1\nSTATUS=finishing and syncing what was accepted");
    }

    /// To be called often: a sign of life when it is time for one, and every shard has gone on since the last. `beats` are
    /// numbers that grow as long as the shards do.
    pub fn alive(&mut self, beats: impl FnOnce() -> Vec<u64>) {
        let Some(every) = self.watchdog.map(|watchdog| watchdog / 3) else {
            return;
        };
        if self.last.as_ref().is_some_and(|(at, _)| at.elapsed() < every) {
            return;
        }
        let beats = beats();
        let all_moved = self
            .last
            .as_ref()
            .is_none_or(|(_, before)| before.iter().zip(&beats).all(|(before, now)| before != now));
        if all_moved {
            self.say("WATCHDOG=1");
            self.last = Some((Instant::now(), beats));
        }
    }

    fn say(&self, text: &str) {
        let Some((socket, address)) = &self.place else {
            return;
        };
        if let Err(error) = socket.send_to_addr(text.as_bytes(), address) {
            tracing::warn!(%error, "the service manager could not be told: {}", text.replace('\n', ", "));
        }
    }
}

/// A path, or a name without a file, which begins with `@`.
fn place(name: &OsStr) -> io::Result<(UnixDatagram, SocketAddr)> {
    let address = match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    // A manager that does not read must not hold up the node.
    socket.set_nonblocking(true)?;
    Ok((socket, address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_of_life_needs_every_shard() {
        let name = format!("mofka-supervisor-{}", std::process::id());
        let manager = SocketAddr::from_abstract_name(&name).unwrap();
        let manager = UnixDatagram::bind_addr(&manager).unwrap();
        manager.set_nonblocking(true).unwrap();
        let mut supervisor = Supervisor {
            place: Some(place(OsStr::new(&format!("@{name}"))).unwrap()),
            watchdog: Some(Duration::from_nanos(3)),
            last: None,
        };
        let heard = |supervisor: &mut Supervisor, beats: &[u64]| {
            supervisor.alive(|| beats.to_vec());
            let mut text = [0; 100];
            let count = manager.recv(&mut text).unwrap_or(0);
            text[..count] == *b"WATCHDOG=1"
        };
        assert!(heard(&mut supervisor, &[1, 1]));
        assert!(heard(&mut supervisor, &[2, 5]));
        assert!(!heard(&mut supervisor, &[3, 5]), "the second one stands still");
        assert!(!heard(&mut supervisor, &[2, 6]), "now the first one does");
        assert!(heard(&mut supervisor, &[3, 6]));
        supervisor.watchdog = None;
        assert!(!heard(&mut supervisor, &[4, 7]));
    }
}
