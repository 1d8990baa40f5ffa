//! Partitions: add, describe.

use mofka_log::PartitionKind;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

/// Adds a partition to a topic. The answer is a [`PartitionInfo`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartitionAddRequest {
    /// The topic's name.
    pub topic: String,
    /// Log or memory.
    #[serde(rename = "type", default = "super::topic::default_kind")]
    pub kind: PartitionKind,
    /// The node that is to have it.
    pub rank: u32,
    /// The shard that is to have it; absent: the node chooses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<u32>,
    /// Options of the kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<Value>,
}

/// A partition and where it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionInfo {
    /// Its identity.
    pub id: Uuid,
    /// Its place in the topic.
    pub index: u32,
    /// Log or memory.
    #[serde(rename = "type")]
    pub kind: PartitionKind,
    /// The node that has it.
    pub rank: u32,
    /// The shard that has it.
    pub shard: u32,
    /// Addresses of that shard, best first.
    pub addresses: Vec<String>,
    /// It takes no more events.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub complete: bool,
}

/// Asks for the state of a partition. The answer is a [`PartitionStatus`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartitionDescribeRequest {
    /// Which one.
    pub partition: Uuid,
}

/// Whether a partition works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PartitionState {
    /// It takes events and feeds them.
    Open,
    /// It feeds what it has, up to damage that was found.
    ReadOnly,
    /// It hit an I/O error, and refuses work until it is opened again.
    Poisoned,
    /// It could not be opened at all.
    Broken,
}

/// The state of a partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionStatus {
    /// The partition.
    pub info: PartitionInfo,
    /// Its topic's name.
    pub topic: String,
    /// Whether it works.
    pub state: PartitionState,
    /// Why not, if not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Events that it has: from `trim_end` to `appended_end`.
    pub events: u64,
    /// First event that retention left.
    pub trim_end: u64,
    /// End of what is durable.
    pub synced_end: u64,
    /// End of what consumers see.
    pub visible_end: u64,
    /// End of what was accepted.
    pub appended_end: u64,
    /// Bytes of its files, or of its memory.
    pub bytes: u64,
    /// What was found when it was opened, in words.
    pub verdict: String,
    /// Whose events refer to data of this partition: it keeps its events from the first of these on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pins: Vec<PinStatus>,
}

/// A partition that refers to another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinStatus {
    /// Its id.
    pub partition: Uuid,
    /// Its topic's name; absent when it was deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// Its index in the topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u32>,
    /// It refers to nothing before this event of the other one.
    pub first_event_id: u64,
}
