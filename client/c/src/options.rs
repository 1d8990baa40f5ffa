//! Options, as structures that can grow. Zero means the default everywhere, and NULL stands for a structure of zeros.

use std::ffi::c_char;
use std::time::Duration;

use mofka_client::{
    BatchSize, Durability, LibraryPolicy, Ordering, PartitionKind, PartitionOptions, ProducerOptions,
    RingSize, Start,
};
use mofka_client::{DriverOptions, TopicOptions};

use crate::border::{Versioned, array_of, optional_json, optional_text, text};
use crate::pool::mofka_thread_pool;
use crate::status::Failure;

/// As the topic says; for a topic: as the node says, which is synced unless it was told otherwise.
pub const MOFKA_DURABILITY_DEFAULT: i32 = 0;
/// Acknowledged events survive a power cut.
pub const MOFKA_DURABILITY_SYNCED: i32 = 1;
/// Acknowledged events were handed to the device.
pub const MOFKA_DURABILITY_WRITTEN: i32 = 2;
/// Acknowledged events are in the node's memory.
pub const MOFKA_DURABILITY_BUFFERED: i32 = 3;

/// In each partition events are stored in the order of the calls.
pub const MOFKA_ORDERING_STRICT: i32 = 0;
/// Events may be stored in another order: they are prepared by the threads of a pool.
pub const MOFKA_ORDERING_LOOSE: i32 = 1;

/// Events are kept in a log, on the node's device.
pub const MOFKA_PARTITION_DEFAULT: i32 = 0;
/// Events are kept in the node's memory, as long as it lives.
pub const MOFKA_PARTITION_MEMORY: i32 = 1;

/// After the last event that a consumer of this name acknowledged; the first event if there is none.
pub const MOFKA_START_CURSOR: i32 = 0;
/// With the first event that there is.
pub const MOFKA_START_FIRST: i32 = 1;
/// With the first event that becomes visible from now on.
pub const MOFKA_START_LAST: i32 = 2;
/// With the event of the id that is given as value.
pub const MOFKA_START_ID: i32 = 3;
/// With the first event of the first batch that the node accepted at the time that is given as value, or later: Unix time in
/// microseconds.
pub const MOFKA_START_TIME: i32 = 4;

/// How to connect.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct mofka_driver_options {
    /// `sizeof(mofka_driver_options)`
    pub size: usize,
    /// Addresses of one node, instead of a group file, best first: `tcp://host:port`, `unix:///path`.
    pub addresses: *const *const c_char,
    /// How many there are.
    pub address_count: usize,
    /// A name for the nodes' logs and status. NULL: the process id.
    pub client_name: *const c_char,
    /// Directories of the shared libraries that may be loaded for the components of topics, with `:` between them; empty: none
    /// may. NULL: as the environment's `MOFKA_PLUGIN_PATH` says.
    pub library_path: *const c_char,
    /// Not 0: nodes on this machine are talked to over sockets only, and not through shared memory.
    pub sockets_only: i32,
    /// Requests that are under way at a time in memory that is shared with a node. 0: 1024.
    pub ring_slots: u32,
    /// Bytes of each direction of that memory, for each connection. 0: 16 MiB.
    pub ring_bytes: u64,
    /// How long one attempt to connect may take. 0: 5000.
    pub connect_timeout_ms: i64,
    /// How long a lost node is looked for before events, pulls and requests fail. 0: 60000. Negative: it is not looked for.
    pub reconnect_timeout_ms: i64,
    /// How long a node may take to answer a request for data, of which each has 8 MiB at most, while no other data comes over its
    /// connection, which ends then: what was not delivered is asked for again over a new one, within `reconnect_timeout_ms` from the
    /// first failure on, and so twice at least. 0: 60000. Negative: as long as the node lives.
    pub fetch_timeout_ms: i64,
}

/// What a new topic is like.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct mofka_topic_options {
    /// `sizeof(mofka_topic_options)`
    pub size: usize,
    /// What acknowledged means: `MOFKA_DURABILITY_...`.
    pub durability: i32,
    /// Partitions to make at once. 0: one. Negative: none, they are added later.
    pub partitions: i32,
    /// What they are like: `MOFKA_PARTITION_...`.
    pub partition_kind: i32,
    /// How many producers there will be: the topic is complete when so many said that they are done. 0: that is not counted.
    pub producers_expected: u32,
    /// Options of that kind of partitions, JSON. NULL: none.
    pub partition_config: *const c_char,
    /// The validator's JSON, as `{"type": "schema", ...}`. NULL: everything is accepted.
    pub validator: *const c_char,
    /// The partition selector's JSON. NULL: partitions in turn.
    pub partition_selector: *const c_char,
    /// The serializer's JSON. NULL: metadata is stored as JSON text.
    pub serializer: *const c_char,
    /// What of its events may go, JSON, as `{"bytes_max": 1000000000}`. NULL: nothing.
    pub retention: *const c_char,
}

/// What a partition to be added is like.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct mofka_partition_options {
    /// `sizeof(mofka_partition_options)`
    pub size: usize,
    /// The node that is to have it.
    pub rank: u32,
    /// Log or memory: `MOFKA_PARTITION_...`.
    pub kind: i32,
    /// Whether `shard` says which shard of the node is to have it; 0: the node chooses.
    pub has_shard: i32,
    /// That shard.
    pub shard: u32,
    /// Options of the kind, JSON. NULL: none.
    pub config: *const c_char,
}

/// How a producer works.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct mofka_producer_options {
    /// `sizeof(mofka_producer_options)`
    pub size: usize,
    /// A name. NULL: none.
    pub name: *const c_char,
    /// Events in a batch. 0: adaptive, whatever has gathered when the connection is free.
    pub batch_size: u32,
    /// Whether order is kept: `MOFKA_ORDERING_...`.
    pub ordering: i32,
    /// Batches of one partition that may wait for their answer or to be sent; pushing blocks beyond it. 0: 2.
    pub max_num_batches: usize,
    /// Bytes from which on a batch is full, whatever the batch size says. 0: 4 MiB.
    pub batch_bytes_max: u64,
    /// Bytes from which on a segment of `mofka_producer_push_owned` is not copied but kept until the event was acknowledged or failed, and
    /// sent from where it is. `SIZE_MAX` copies everything. 0: 64 KiB.
    pub shared_bytes_min: usize,
    /// Where events are prepared that need no order. NULL: the driver's default pool. It may be freed right after.
    pub thread_pool: *const mofka_thread_pool,
    /// When to acknowledge, if earlier than the topic says: `MOFKA_DURABILITY_...`.
    pub durability: i32,
    /// Leave it 0.
    pub reserved: u32,
    /// How long an event may wait for its acknowledgement before its future fails. 0: as long as the node lives, or is looked for.
    pub delivery_timeout_ms: i64,
    /// A batch of a fixed size is sent, full or not, when no event came into it for so long. 0: it waits to be full, flushed or
    /// waited for.
    pub batch_idle_timeout_ms: i64,
    /// How long freeing the producer waits for its events. 0: 10000. Negative: not at all.
    pub drop_timeout_ms: i64,
}

macro_rules! versioned {
    ($($name:ident: $bytes:literal,)+) => {$(
        // SAFETY: `repr(C)`, the size first, and all other fields are integers, raw pointers or optional functions.
        unsafe impl Versioned for $name {
            const NAME: &'static str = stringify!($name);
            const BYTES_MIN: usize = $bytes;
        }
        const _: () = assert!(size_of::<$name>() >= $bytes);
    )+};
}
pub(crate) use versioned;

// The sizes of the first version: they stay when fields are added.
versioned! {
    mofka_driver_options: 72,
    mofka_topic_options: 64,
    mofka_partition_options: 32,
    mofka_producer_options: 88,
}

/// An optional time: 0 is none.
fn some_ms(ms: i64, what: &str) -> Result<Option<Duration>, Failure> {
    match u64::try_from(ms) {
        Ok(0) => Ok(None),
        Ok(ms) => Ok(Some(Duration::from_millis(ms))),
        Err(_) => Err(Failure::argument(format!(
            "{what} is {ms}, and should not be negative"
        ))),
    }
}

/// A time with a default: 0 is that, and negative is none at all.
fn ms_or(ms: i64, otherwise: Duration) -> Duration {
    match ms {
        0 => otherwise,
        ms => Duration::from_millis(u64::try_from(ms).unwrap_or(0)),
    }
}

fn unknown(what: &str, value: i32) -> Failure {
    Failure::argument(format!("{what} is {value}, which has no meaning"))
}

fn durability(value: i32) -> Result<Option<Durability>, Failure> {
    match value {
        MOFKA_DURABILITY_DEFAULT => Ok(None),
        MOFKA_DURABILITY_SYNCED => Ok(Some(Durability::Synced)),
        MOFKA_DURABILITY_WRITTEN => Ok(Some(Durability::Written)),
        MOFKA_DURABILITY_BUFFERED => Ok(Some(Durability::Buffered)),
        other => Err(unknown("durability", other)),
    }
}

fn partition_kind(value: i32) -> Result<PartitionKind, Failure> {
    match value {
        MOFKA_PARTITION_DEFAULT => Ok(PartitionKind::Default),
        MOFKA_PARTITION_MEMORY => Ok(PartitionKind::Memory),
        other => Err(unknown("the partition's kind", other)),
    }
}

/// Where to begin, as `MOFKA_START_...` and its value say.
pub(crate) fn start(start: i32, value: u64) -> Result<Start, Failure> {
    match start {
        MOFKA_START_CURSOR => Ok(Start::Cursor),
        MOFKA_START_FIRST => Ok(Start::First),
        MOFKA_START_LAST => Ok(Start::Last),
        MOFKA_START_ID => Ok(Start::Id(value)),
        MOFKA_START_TIME => Ok(Start::Time(value)),
        other => Err(unknown("start", other)),
    }
}

/// Adaptive for 0.
pub(crate) fn batch_size(value: u32) -> BatchSize {
    BatchSize::fixed(value)
}

/// The pool that is named, if one is.
///
/// # Safety
/// `pool` is null, or a pool that is not freed meanwhile.
pub(crate) unsafe fn thread_pool(pool: *const mofka_thread_pool) -> Option<mofka_client::ThreadPool> {
    // SAFETY: as the caller says.
    unsafe { pool.as_ref() }.map(|pool| pool.0.clone())
}

impl mofka_driver_options {
    /// # Safety
    /// The pointers are null or lead to what the fields' comments say.
    pub(crate) unsafe fn get(&self, group_file: Option<&str>) -> Result<DriverOptions, Failure> {
        let defaults = DriverOptions::default();
        // SAFETY: as the caller says.
        let addresses = unsafe { array_of(self.addresses, self.address_count, "addresses") }?;
        // SAFETY: each leads to a text, as the caller says.
        let addresses = addresses
            .iter()
            .map(|start| unsafe { text(*start, "an address") }.map(str::to_owned));
        // SAFETY: as the caller says.
        let client_name = unsafe { optional_text(self.client_name, "client_name") }?;
        // SAFETY: as the caller says.
        let library_path = unsafe { optional_text(self.library_path, "library_path") }?;
        Ok(DriverOptions {
            group_file: group_file.map(Into::into),
            addresses: addresses.collect::<Result<_, _>>()?,
            connect_timeout: some_ms(self.connect_timeout_ms, "connect_timeout_ms")?
                .unwrap_or(defaults.connect_timeout),
            reconnect_timeout: ms_or(self.reconnect_timeout_ms, defaults.reconnect_timeout),
            fetch_timeout: match self.fetch_timeout_ms {
                0 => defaults.fetch_timeout,
                ms => u64::try_from(ms).ok().map(Duration::from_millis),
            },
            shared_memory: (self.sockets_only == 0).then(|| self.ring()),
            libraries: library_path.map_or(defaults.libraries, libraries),
            client_name: client_name.map_or(defaults.client_name, str::to_owned),
        })
    }
}

impl mofka_driver_options {
    fn ring(&self) -> RingSize {
        let defaults = RingSize::default();
        RingSize {
            slots: match self.ring_slots {
                0 => defaults.slots,
                slots => slots,
            },
            arena_bytes: match self.ring_bytes {
                0 => defaults.arena_bytes,
                bytes => bytes,
            },
        }
    }
}

fn libraries(path: &str) -> LibraryPolicy {
    let directories: Vec<_> = std::env::split_paths(path)
        .filter(|directory| !directory.as_os_str().is_empty())
        .collect();
    match directories.is_empty() {
        true => LibraryPolicy::Never,
        false => LibraryPolicy::Directories(directories),
    }
}

impl mofka_topic_options {
    /// # Safety
    /// The pointers are null or lead to what the fields' comments say.
    pub(crate) unsafe fn get(&self, name: &str) -> Result<TopicOptions, Failure> {
        // SAFETY: for each of them as the caller says.
        let json = |start, what| unsafe { optional_json(start, what) };
        let retention = json(self.retention, "retention")?;
        let retention = retention.map(serde_json::from_value).transpose();
        Ok(TopicOptions {
            name: name.to_owned(),
            durability: durability(self.durability)?,
            validator: json(self.validator, "validator")?,
            partition_selector: json(self.partition_selector, "partition_selector")?,
            serializer: json(self.serializer, "serializer")?,
            retention: retention.map_err(|error| Failure::argument(format!("retention: {error}")))?,
            producers_expected: self.producers_expected,
            partitions: match self.partitions {
                0 => 1,
                partitions => u32::try_from(partitions).unwrap_or(0),
            },
            partition_kind: partition_kind(self.partition_kind)?,
            partition_config: json(self.partition_config, "partition_config")?,
        })
    }
}

impl mofka_partition_options {
    /// # Safety
    /// The pointers are null or lead to what the fields' comments say.
    pub(crate) unsafe fn get(&self) -> Result<PartitionOptions, Failure> {
        Ok(PartitionOptions {
            rank: self.rank,
            shard: (self.has_shard != 0).then_some(self.shard),
            kind: partition_kind(self.kind)?,
            // SAFETY: as the caller says.
            config: unsafe { optional_json(self.config, "config") }?,
        })
    }
}

impl mofka_producer_options {
    /// # Safety
    /// The pointers are null or lead to what the fields' comments say.
    pub(crate) unsafe fn get(&self) -> Result<ProducerOptions, Failure> {
        let defaults = ProducerOptions::default();
        // SAFETY: as the caller says.
        let name = unsafe { optional_text(self.name, "name") }?;
        if self.reserved != 0 {
            return Err(Failure::argument(format!(
                "reserved is {}, and should be 0",
                self.reserved
            )));
        }
        Ok(ProducerOptions {
            name: name.unwrap_or_default().to_owned(),
            batch_size: batch_size(self.batch_size),
            max_num_batches: match self.max_num_batches {
                0 => defaults.max_num_batches,
                count => count,
            },
            batch_bytes_max: match self.batch_bytes_max {
                0 => defaults.batch_bytes_max,
                bytes => bytes,
            },
            shared_bytes_min: match self.shared_bytes_min {
                0 => defaults.shared_bytes_min,
                bytes => bytes,
            },
            ordering: match self.ordering {
                MOFKA_ORDERING_STRICT => Ordering::Strict,
                MOFKA_ORDERING_LOOSE => Ordering::Loose,
                other => return Err(unknown("ordering", other)),
            },
            // SAFETY: as the caller says.
            thread_pool: unsafe { thread_pool(self.thread_pool) },
            delivery_timeout: some_ms(self.delivery_timeout_ms, "delivery_timeout_ms")?,
            batch_idle_timeout: some_ms(self.batch_idle_timeout_ms, "batch_idle_timeout_ms")?,
            durability: durability(self.durability)?,
            drop_timeout: ms_or(self.drop_timeout_ms, defaults.drop_timeout),
            source: defaults.source,
        })
    }
}
