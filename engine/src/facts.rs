//! What every shard knows of its node.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use serde_json::Value;
use uuid::Uuid;

use crate::config::{LocalClients, NodeConfig};
use crate::home::Home;
use crate::limits::EngineLimits;
use crate::ring::RingQuota;

/// Facts of a node, the same for all of its shards.
#[derive(Debug)]
pub struct NodeFacts {
    /// The node's identity.
    pub node: Uuid,
    /// Its place in the group.
    pub rank: u32,
    /// How many shards it has.
    pub shards: usize,
    /// Where it stores.
    pub data_dir: PathBuf,
    /// Whether log files bypass the page cache.
    pub direct_io: bool,
    /// Bounds.
    pub limits: EngineLimits,
    /// When it was started.
    pub started: Instant,
    /// What its rings in shared memory take.
    pub(crate) rings: RingQuota,
    /// Who may connect over a Unix socket.
    pub local_clients: LocalClients,
    /// Set when the node is to stop.
    pub stop: AtomicBool,
    /// The configuration, with keys inside of others written with dots.
    pub(crate) settings: BTreeMap<String, Value>,
    /// Where its metrics are, if they are anywhere.
    pub(crate) monitoring: OnceLock<String>,
    addresses: OnceLock<Vec<Vec<String>>>,
}

impl NodeFacts {
    /// Facts that are known before anything listens.
    pub fn new(home: &Home, config: &NodeConfig, shards: usize, direct_io: bool) -> Self {
        Self {
            node: home.node(),
            rank: config.rank,
            shards,
            data_dir: home.dir().to_path_buf(),
            direct_io,
            limits: config.limits,
            started: Instant::now(),
            rings: RingQuota::default(),
            local_clients: config.local_clients.clone(),
            stop: AtomicBool::new(false),
            settings: config.settings(),
            monitoring: OnceLock::new(),
            addresses: OnceLock::new(),
        }
    }

    /// Where each shard listens; set once, before the first connection is accepted.
    pub fn set_addresses(&self, addresses: Vec<Vec<String>>) {
        assert!(self.addresses.set(addresses).is_ok(), "addresses are set once");
    }

    /// Whether the addresses are known.
    pub fn is_ready(&self) -> bool {
        self.addresses.get().is_some()
    }

    /// Where each shard listens.
    pub fn addresses(&self) -> &[Vec<String>] {
        self.addresses.get().map(Vec::as_slice).unwrap_or_default()
    }

    /// Where one shard listens.
    pub fn addresses_of(&self, shard: usize) -> Vec<String> {
        self.addresses().get(shard).cloned().unwrap_or_default()
    }
}
