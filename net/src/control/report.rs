//! What a node counted, as a document of bounded size: for status pages and for those who watch a node.

use serde::{Deserialize, Serialize};

/// What a node tells of itself and of what it counted: the answer to report, and `/status.json` of its status page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeReport {
    /// The software's version.
    pub version: String,
    /// The node's identity.
    pub node: String,
    /// Its place in the group.
    pub rank: u32,
    /// Its process.
    pub pid: u32,
    /// How long it has been running.
    pub uptime_ms: u64,
    /// Where it stores.
    pub data_dir: String,
    /// Whether log files bypass the page cache.
    pub direct_io: bool,
    /// What is wrong; the worst first.
    pub problems: Vec<Problem>,
    /// How many more problems there are.
    pub problems_left_out: u64,
    /// The device, when it could be asked.
    pub disk: Option<DiskReport>,
    /// The process.
    pub process: ProcessReport,
    /// All partitions together, with those that were deleted.
    pub totals: Totals,
    /// Topics by name.
    pub topics: Vec<TopicReport>,
    /// How many more there are.
    pub topics_left_out: u64,
    /// Partitions; those that are not well first.
    pub partitions: Vec<PartitionReport>,
    /// How many more there are.
    pub partitions_left_out: u64,
    /// Consumers of topics; those that lag most first.
    pub consumers: Vec<ConsumerReport>,
    /// How many more there are.
    pub consumers_left_out: u64,
    /// Shards by number.
    pub shards: Vec<ShardReport>,
    /// Inclusive upper bounds of the buckets of all durations, in microseconds; the last bucket has none.
    pub bucket_bounds_us: Vec<u64>,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// `critical` or `warning`.
    pub severity: String,
    /// A stable name: `partition_poisoned`, `disk_low`, ...
    pub kind: String,
    /// What it is about.
    pub subject: String,
    /// What is the matter, and what to do.
    pub message: String,
}

/// The file system of the data directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskReport {
    /// All of it.
    pub size_bytes: u64,
    /// What is left.
    pub available_bytes: u64,
    /// What the partitions take of it.
    pub stored_bytes: u64,
}

/// The process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessReport {
    /// CPU time of all threads.
    pub cpu_us: u64,
    /// Memory that is there.
    pub resident_bytes: u64,
    /// Descriptors.
    pub open_fds: u64,
    /// How many of these it may have.
    pub max_fds: u64,
}

/// What was counted since the start of the node, and durations.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Events that got ids.
    pub accepted_events: u64,
    /// Bytes of these, metadata and data.
    pub accepted_bytes: u64,
    /// Batches of these.
    pub accepted_batches: u64,
    /// Batches that were refused.
    pub refused_batches: u64,
    /// Events that were sent to consumers.
    pub fed_events: u64,
    /// Bytes that were sent to consumers, with data that they asked for.
    pub sent_bytes: u64,
    /// From the arrival of a batch to its answer.
    pub produce: Durations,
    /// From the begin of a commit until it is durable.
    pub commit: Durations,
    /// From a request for data to its answer.
    pub fetch: Durations,
}

/// Counts in buckets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Durations {
    /// How many in each.
    pub buckets: Vec<u64>,
    /// All of them together.
    pub sum_us: u64,
}

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicReport {
    /// Its name.
    pub topic: String,
    /// Partitions.
    pub partitions: u64,
    /// Of these, how many are not well.
    pub unwell: u64,
    /// Events that are there.
    pub events: u64,
    /// Bytes that they take.
    pub bytes: u64,
    /// The largest lag of a consumer, over all partitions; absent without consumers.
    pub lag: Option<u64>,
    /// What was counted of it.
    pub totals: Totals,
}

/// A partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionReport {
    /// Its topic.
    pub topic: String,
    /// Its place in the topic.
    pub partition: u32,
    /// Its shard.
    pub shard: u64,
    /// `open`, `full`, `complete`, `read_only`, `poisoned` or `broken`.
    pub state: String,
    /// Why, if it does not work.
    pub reason: Option<String>,
    /// Events that are there.
    pub events: u64,
    /// Bytes that they take.
    pub bytes: u64,
    /// Events that are not durable yet.
    pub unsynced_events: u64,
    /// Bytes that wait to be written.
    pub waiting_bytes: u64,
    /// Subscriptions.
    pub subscriptions: u64,
    /// Of these, how many may be sent nothing.
    pub starved_subscriptions: u64,
    /// Events that got ids since the start.
    pub accepted_events: u64,
    /// Bytes of these.
    pub accepted_bytes: u64,
}

/// A consumer of a topic, over all partitions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsumerReport {
    /// Its name.
    pub consumer: String,
    /// The topic.
    pub topic: String,
    /// Partitions of which it has a place.
    pub partitions: u64,
    /// Visible events that it has not acknowledged.
    pub lag: u64,
    /// Its subscriptions now.
    pub subscriptions: u64,
}

/// A shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardReport {
    /// Its number.
    pub shard: u64,
    /// Partitions that it has.
    pub partitions: u64,
    /// Connections.
    pub connections: u64,
    /// Clients attached through shared memory.
    pub rings: u64,
    /// Requests that came.
    pub requests: u64,
    /// Errors that clients were told.
    pub errors: u64,
    /// Bytes of requests that are not answered.
    pub unanswered_bytes: u64,
    /// Bytes that clients have not taken.
    pub outbox_bytes: u64,
    /// Reads that memory answered.
    pub memory_reads: u64,
    /// Reads that the device answered.
    pub device_reads: u64,
    /// What was counted of its partitions, with those that were deleted.
    #[serde(default)]
    pub totals: Totals,
}
