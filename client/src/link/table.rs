//! All connections of a driver: one for each shard that is talked to.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mofka_net::Address;
use uuid::Uuid;

use super::connection::Connection;
use crate::options::RingSize;
use crate::promise::{Deadline, lock};

/// Forgotten connections are swept out beyond this many.
const SLOTS_MAX: usize = 64;

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

/// Whoever connects holds the lock, so that others wait for that connection instead of making their own.
#[derive(Default)]
struct Slot {
    connection: Mutex<Option<Arc<Connection>>>,
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
        let mut held = lock(&slot.connection);
        if let Some(connection) = held.as_ref().filter(|connection| connection.is_alive()) {
            // Another connection to the same addresses would end at the same shard.
            return if fits(connection, place) {
                Ok(Arc::clone(connection))
            } else {
                Err(elsewhere(connection))
            };
        }
        *held = self.reached(addresses, place);
        if let Some(connection) = held.as_ref() {
            return Ok(Arc::clone(connection));
        }
        let mut attempts = Vec::new();
        for address in self.in_order(addresses) {
            match Connection::open(
                address,
                &self.client,
                self.ring_size,
                Deadline::after(self.connect_timeout),
            ) {
                Ok(connection) if self.closed.load(Ordering::Acquire) => {
                    connection.close("the driver was dropped");
                    return Err("the driver was dropped".to_owned());
                }
                Ok(connection) if !self.is_meant(address, &connection) => {
                    attempts.push(format!("{address} is another node's"));
                    connection.close("it is another node");
                }
                Ok(connection) if fits(&connection, place) => {
                    tracing::debug!(%address, "connected");
                    *held = Some(Arc::clone(&connection));
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
        let held = slot.connection.try_lock().ok()?;
        held.as_ref()
            .filter(|connection| fits(connection, place))
            .cloned()
    }

    /// The connection to a place that is known by other addresses, too.
    fn reached(&self, addresses: &[Address], place: Option<Place>) -> Option<Arc<Connection>> {
        place?;
        let slots = lock(&self.slots);
        slots.values().find_map(|slot| {
            // The caller's own slot is locked, and so is one that connects.
            let held = slot.connection.try_lock().ok()?;
            let connection = held.as_ref()?;
            let is_one = addresses.contains(connection.address()) && fits(connection, place);
            is_one.then(|| Arc::clone(connection))
        })
    }

    /// Ends every connection.
    pub(crate) fn close(&self) {
        // Whoever is connecting now looks at this afterwards.
        self.closed.store(true, Ordering::Release);
        let slots = std::mem::take(&mut *lock(&self.slots));
        for slot in slots.into_values() {
            let connection = slot.connection.try_lock().ok().and_then(|mut held| held.take());
            if let Some(connection) = connection {
                connection.close("the driver was dropped");
            }
        }
    }

    fn slot(&self, addresses: &[Address]) -> Arc<Slot> {
        let mut slots = lock(&self.slots);
        if slots.len() > SLOTS_MAX {
            // Nodes that listen on other ports after each start leave their old ones behind.
            slots.retain(|_, slot| {
                slot.connection
                    .try_lock()
                    .map_or(true, |held| held.as_ref().is_some_and(|it| it.is_alive()))
            });
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
