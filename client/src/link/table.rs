//! All connections of a driver: one for each shard that is talked to.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mofka_net::Address;
use uuid::Uuid;

use super::connection::Connection;
use crate::options::RingSize;
use crate::promise::{Deadline, lock, try_lock};

/// Forgotten connections are swept out beyond this many.
const SLOTS_MAX: usize = 64;

/// Why a connection ends that nobody needs.
const DROPPED: &str = "the driver was dropped";

/// Which shard is meant to be at some addresses. A Unix path or a port may be another node's by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) rank: u32,
    pub(crate) shard: u32,
}

/// Which of a shard's addresses are tried first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nearness {
    /// Sockets of this machine, unless another node is there: whoever names no address gets the shortest way.
    Auto,
    /// The same, whoever is there.
    Local,
    /// Those that lead to other machines.
    Network,
}

pub(crate) struct Links {
    nearness: Nearness,
    /// Which node is meant at the addresses of a group file.
    nodes: Mutex<HashMap<Address, Uuid>>,
    client: String,
    connect_timeout: Duration,
    ring_size: Option<RingSize>,
    slots: Mutex<HashMap<String, Arc<Slot>>>,
    closed: AtomicBool,
}

/// Whoever connects holds the lock for it, so that others wait for that connection instead of making their own, and for no longer than
/// one attempt takes.
#[derive(Default)]
struct Slot {
    /// With how the last attempt failed.
    connecting: Mutex<Option<Failure>>,
    /// Never locked for long.
    connection: Mutex<Option<Arc<Connection>>>,
}

struct Failure {
    at: Instant,
    place: Option<Place>,
    reason: String,
}

impl Failure {
    /// Whether whoever waited since then has his answer, too. Another shard may have been found where his is not looked for.
    fn is_of(&self, since: Instant, place: Option<Place>) -> bool {
        self.at >= since && self.place == place
    }
}

impl Slot {
    fn alive(&self) -> Option<Arc<Connection>> {
        let held = lock(&self.connection);
        held.as_ref().filter(|connection| connection.is_alive()).cloned()
    }
}

impl Links {
    pub(crate) fn new(
        client: String,
        connect_timeout: Duration,
        ring_size: Option<RingSize>,
        nearness: Nearness,
    ) -> Self {
        Self {
            nearness,
            nodes: Mutex::default(),
            client,
            connect_timeout,
            ring_size,
            slots: Mutex::default(),
            closed: AtomicBool::new(false),
        }
    }

    /// Notes which nodes are meant at which addresses, in place of all that was noted before.
    pub(crate) fn note_nodes(&self, nodes: HashMap<Address, Uuid>) {
        *lock(&self.nodes) = nodes;
    }

    /// The addresses in the order in which they are tried.
    fn in_order<'a>(&self, addresses: &'a [Address]) -> Vec<&'a Address> {
        let is_later = |address: &&Address| match self.nearness {
            Nearness::Auto | Nearness::Local => matches!(address, Address::Tcp { .. }),
            Nearness::Network => matches!(address, Address::Unix(_)),
        };
        let mut ordered: Vec<&Address> = addresses.iter().collect();
        ordered.sort_by_key(is_later);
        ordered
    }

    /// Whether it is not another node that has this machine's socket of this name.
    fn is_meant(&self, address: &Address, connection: &Connection) -> bool {
        let meant = lock(&self.nodes).get(address).copied();
        self.nearness != Nearness::Auto
            || matches!(address, Address::Tcp { .. })
            || meant.is_none_or(|node| node == connection.hello().node)
    }

    /// The connection to a shard that listens on these addresses; a new one if there is none alive.
    ///
    /// # Errors
    /// What each attempt led to, in words.
    pub(crate) fn connect(
        &self,
        addresses: &[Address],
        place: Option<Place>,
    ) -> Result<Arc<Connection>, String> {
        if addresses.is_empty() {
            return Err("no addresses are known".to_owned());
        }
        let slot = self.slot(addresses);
        let since = Instant::now();
        let mut failed = lock(&slot.connecting);
        if let Some(connection) = slot.alive() {
            // Another connection to the same addresses would end at the same shard.
            return match fits(&connection, place) {
                true => Ok(connection),
                false => Err(elsewhere(&connection)),
            };
        }
        if let Some(failure) = failed.as_ref().filter(|failure| failure.is_of(since, place)) {
            return Err(failure.reason.clone());
        }
        let found = self
            .reached(addresses, place)
            .map_or_else(|| self.attempt(addresses, place), Ok);
        *failed = found.as_ref().err().map(|reason| Failure {
            at: Instant::now(),
            place,
            reason: reason.clone(),
        });
        let connection = found?;
        *lock(&slot.connection) = Some(Arc::clone(&connection));
        if self.closed.load(Ordering::Acquire) {
            connection.close(DROPPED);
            return Err(DROPPED.to_owned());
        }
        Ok(connection)
    }

    /// Tries each address once.
    fn attempt(&self, addresses: &[Address], place: Option<Place>) -> Result<Arc<Connection>, String> {
        let mut attempts = Vec::new();
        for address in self.in_order(addresses) {
            match Connection::open(
                address,
                &self.client,
                self.ring_size,
                Deadline::after(self.connect_timeout),
            ) {
                Ok(connection) if self.closed.load(Ordering::Acquire) => {
                    connection.close(DROPPED);
                    return Err(DROPPED.to_owned());
                }
                Ok(connection) if !self.is_meant(address, &connection) => {
                    attempts.push(format!("{address} is another node's"));
                    connection.close("it is another node");
                }
                Ok(connection) if fits(&connection, place) => {
                    tracing::debug!(%address, "connected");
                    return Ok(connection);
                }
                Ok(connection) => {
                    let hello = connection.hello();
                    attempts.push(format!(
                        "{address} is rank {} shard {} by now",
                        hello.rank, hello.shard
                    ));
                    connection.close("it is another shard");
                }
                Err(error) => attempts.push(format!("{address}: {error}")),
            }
        }
        Err(attempts.join("; "))
    }

    /// The connection to a shard, if there is one alive. Does not wait.
    pub(crate) fn alive(&self, addresses: &[Address], place: Option<Place>) -> Option<Arc<Connection>> {
        let slot = lock(&self.slots).get(&key(addresses)).cloned()?;
        slot.alive().filter(|connection| fits(connection, place))
    }

    /// The connection to a place that is known by other addresses, too.
    fn reached(&self, addresses: &[Address], place: Option<Place>) -> Option<Arc<Connection>> {
        place?;
        let slots = lock(&self.slots);
        slots.values().find_map(|slot| {
            let connection = slot.alive()?;
            let is_one = addresses.contains(connection.address()) && fits(&connection, place);
            is_one.then_some(connection)
        })
    }

    /// Ends every connection.
    pub(crate) fn close(&self) {
        // Whoever is connecting now looks at this afterwards.
        self.closed.store(true, Ordering::Release);
        let slots = std::mem::take(&mut *lock(&self.slots));
        for slot in slots.into_values() {
            let connection = lock(&slot.connection).take();
            if let Some(connection) = connection {
                connection.close(DROPPED);
            }
        }
    }

    fn slot(&self, addresses: &[Address]) -> Arc<Slot> {
        let mut slots = lock(&self.slots);
        if slots.len() > SLOTS_MAX {
            // Nodes that listen on other ports after each start leave their old ones behind.
            slots.retain(|_, slot| slot.alive().is_some() || try_lock(&slot.connecting).is_none());
        }
        Arc::clone(slots.entry(key(addresses)).or_default())
    }
}

fn fits(connection: &Connection, place: Option<Place>) -> bool {
    let hello = connection.hello();
    let here = Place {
        rank: hello.rank,
        shard: hello.shard,
    };
    connection.is_alive() && place.is_none_or(|place| place == here)
}

fn elsewhere(connection: &Connection) -> String {
    let hello = connection.hello();
    format!(
        "{} is rank {} shard {} by now",
        connection.address(),
        hello.rank,
        hello.shard
    )
}

fn key(addresses: &[Address]) -> String {
    addresses.iter().map(|address| format!("{address}\n")).collect()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    #[test]
    fn those_who_wait_for_an_attempt_take_its_failure() {
        // Whoever connects gets no answer.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("tcp://{}", listener.local_addr().unwrap());
        let addresses = [address.parse().unwrap()];
        let timeout = Duration::from_millis(300);
        let links = Links::new("test".to_owned(), timeout, None, Nearness::Auto);
        listener.set_nonblocking(true).unwrap();
        let attempts = || std::iter::from_fn(|| listener.accept().ok()).count();
        let attempt = || links.connect(&addresses, None).map(|_| ());
        let failed = thread::scope(|scope| {
            let parties: Vec<_> = (0..8).map(|_| scope.spawn(attempt)).collect();
            parties
                .into_iter()
                .map(|it| it.join().unwrap())
                .collect::<Vec<_>>()
        });
        assert!(failed.iter().all(Result::is_err));
        // One, and more where a thread began that late.
        let made = attempts();
        assert!((1..8).contains(&made), "{made} attempts");
        // Who comes later tries for himself.
        assert!(attempt().is_err());
        assert_eq!(attempts(), 1);
    }
}
