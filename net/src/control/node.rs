//! The node itself: status, shutdown.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::partition::PartitionStatus;

/// A request without fields: topic_list, status (answer: [`NodeStatus`]), report (answer:
/// [`NodeReport`](super::NodeReport)), shutdown (answer: `{}`), config_get.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmptyRequest {}

/// The state of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its identity.
    pub node: Uuid,
    /// Version of its software.
    pub version: String,
    /// How long it has been running.
    pub uptime_ms: u64,
    /// Its place in the group.
    pub rank: u32,
    /// Its process.
    pub pid: u32,
    /// Where it stores.
    pub data_dir: String,
    /// Whether log files bypass the page cache.
    pub direct_io: bool,
    /// How many topics there are.
    pub topics: u64,
    /// Where its metrics and its status page are, if it has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monitoring: Option<String>,
    /// What its memory partitions take.
    #[serde(default)]
    pub memory: MemoryStatus,
    /// Its shards, with their partitions.
    pub shards: Vec<ShardStatus>,
}

impl NodeStatus {
    /// The partitions of all shards.
    pub fn partitions(&self) -> impl Iterator<Item = &PartitionStatus> {
        self.shards.iter().flat_map(|shard| &shard.partitions)
    }
}

/// The state of a shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardStatus {
    /// Its number.
    pub shard: u32,
    /// Where it listens.
    pub addresses: Vec<String>,
    /// Connections that it serves.
    pub connections: u64,
    /// Its partitions.
    pub partitions: Vec<PartitionStatus>,
    /// How its reads were served.
    #[serde(default)]
    pub reads: ReadStatus,
    /// Its clients in shared memory.
    #[serde(default)]
    pub rings: RingStatus,
}

/// What the memory partitions of all shards keep together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryStatus {
    /// Bytes of their events.
    pub used_bytes: u64,
    /// Beyond this many, events are refused. Absent: the configuration does not say, and the machine does not tell its memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<u64>,
}

/// The rings in shared memory that a shard has with clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RingStatus {
    /// Rings now.
    pub attached_count: u64,
    /// Shared memory of those.
    pub attached_bytes: u64,
    /// Rings since the shard started.
    pub opened_count: u64,
    /// Requests for a ring that were refused.
    pub refused_count: u64,
    /// Rings that ended because their client wrote there what cannot be.
    pub fault_count: u64,
    /// Frames that came through rings.
    pub received_count: u64,
    /// Frames that went through rings.
    pub sent_count: u64,
    /// Frames, either way, that went over the socket because the ring could not hold them.
    pub detour_count: u64,
    /// Times that a client's bell woke the shard.
    pub wake_count: u64,
}

/// How the reads of a shard were served since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadStatus {
    /// Reads that the memory for recent batches answered.
    pub memory_count: u64,
    /// Reads that the device answered.
    pub device_count: u64,
    /// Bytes read from the device for them, in whole blocks.
    pub device_bytes: u64,
    /// Bytes of recent batches in memory now.
    pub recent_bytes: u64,
}
