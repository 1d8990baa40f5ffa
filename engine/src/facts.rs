//! What every shard knows of its node.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use mofka_net::control::MemoryStatus;
use uuid::Uuid;

use crate::config::{ConfigFile, NodeConfig};
use crate::home::Home;
use crate::monitor::Monitoring;
use crate::partition::NodeMemory;
use crate::ring::RingQuota;

/// Who may open a Unix socket's file; who may say something there is decided when he has come.
pub(crate) fn socket_permissions(is_open_to_others: bool) -> Permissions {
    Permissions::from_mode(if is_open_to_others { 0o666 } else { 0o600 })
}

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
    /// When it was started.
    pub started: Instant,
    /// What its rings in shared memory take.
    pub(crate) rings: RingQuota,
    /// What its memory partitions take.
    pub(crate) memory: NodeMemory,
    /// Set when the node is to stop.
    pub stop: AtomicBool,
    /// The configuration that it was started with.
    pub(crate) configured: NodeConfig,
    /// The same with what was changed since then. What a shard goes by, it has itself: see [`Shard::limits`].
    ///
    /// [`Shard::limits`]: crate::shard::Shard::limits
    now: Mutex<NodeConfig>,
    /// Held while settings are changed, so that every shard gets changes in one order.
    pub(crate) changing: async_lock::Mutex<()>,
    /// What the threads for metrics go by.
    pub(crate) monitoring_config: Arc<Mutex<Monitoring>>,
    /// Where the configuration came from.
    pub(crate) file: Option<ConfigFile>,
    /// Where its metrics are, if they are anywhere.
    pub(crate) monitoring: OnceLock<String>,
    /// Grows as long as each shard gets to its tasks.
    beats: Vec<AtomicU64>,
    addresses: OnceLock<Vec<Vec<String>>>,
    sockets: OnceLock<Vec<PathBuf>>,
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
            started: Instant::now(),
            rings: RingQuota::default(),
            memory: NodeMemory::of_this_machine(),
            stop: AtomicBool::new(false),
            configured: config.clone(),
            now: Mutex::new(config.clone()),
            changing: async_lock::Mutex::new(()),
            monitoring_config: Arc::new(Mutex::new(config.monitoring.clone())),
            file: None,
            monitoring: OnceLock::new(),
            beats: (0..shards).map(|_| AtomicU64::new(0)).collect(),
            addresses: OnceLock::new(),
            sockets: OnceLock::new(),
        }
    }

    /// The same, with the file that the configuration came from.
    #[must_use]
    pub fn with_file(mut self, file: Option<ConfigFile>) -> Self {
        self.file = file;
        self
    }

    /// The settings as they are now.
    pub(crate) fn now(&self) -> MutexGuard<'_, NodeConfig> {
        // Changed by one assignment: a panic leaves nothing half done.
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What its memory partitions take, and may.
    pub(crate) fn memory_status(&self) -> MemoryStatus {
        let limits = self.now().limits;
        self.memory.status(&limits)
    }

    /// A shard got to its tasks.
    pub(crate) fn beat(&self, shard: usize) {
        if let Some(beats) = self.beats.get(shard) {
            beats.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Numbers that grow as long as each shard gets to its tasks, some times a second from when it serves until it stops.
    pub fn beats(&self) -> Vec<u64> {
        let beats = self.beats.iter();
        beats.map(|beats| beats.load(Ordering::Relaxed)).collect()
    }

    /// From now on the settings are these.
    pub(crate) fn change(&self, config: &NodeConfig) {
        self.now().clone_from(config);
        let monitoring = self.monitoring_config.lock();
        monitoring
            .unwrap_or_else(PoisonError::into_inner)
            .clone_from(&config.monitoring);
    }

    /// Where each shard listens; set once, before the first connection is accepted.
    pub fn set_addresses(&self, addresses: Vec<Vec<String>>) {
        assert!(self.addresses.set(addresses).is_ok(), "addresses are set once");
    }

    /// The Unix sockets of all shards; set once, before the addresses.
    pub(crate) fn set_sockets(&self, sockets: Vec<PathBuf>) {
        assert!(self.sockets.set(sockets).is_ok(), "sockets are set once");
    }

    /// The Unix sockets of all shards.
    pub(crate) fn sockets(&self) -> impl Iterator<Item = &Path> {
        self.sockets.get().into_iter().flatten().map(PathBuf::as_path)
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
