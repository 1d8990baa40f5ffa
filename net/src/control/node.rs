//! The node itself: status, shutdown.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::partition::PartitionStatus;

/// A request without fields: topic_list, status (answer: [`NodeStatus`]), shutdown (answer: `{}`).
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
