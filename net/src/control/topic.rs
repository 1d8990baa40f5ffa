//! Topics: create, describe, list, delete, complete.

use mofka_log::{Durability, PartitionKind, Retention};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::partition::PartitionInfo;

/// Creates a topic. The answer is a [`TopicInfo`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopicCreateRequest {
    /// Its name: `[A-Za-z0-9._-]`, 1 to 200 bytes.
    pub name: String,
    /// What acknowledged means; the node's default is synced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub durability: Option<Durability>,
    /// The validator's JSON: an object with a `type`. Absent: `{"type": "default"}`; likewise below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validator: Option<Value>,
    /// The partition selector's JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition_selector: Option<Value>,
    /// The serializer's JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serializer: Option<Value>,
    /// What of its events may go. Absent: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
    /// How many producers there will be: the topic is complete when so many said that they are done. Absent or 0: that is
    /// not counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub producers_expected: Option<u32>,
    /// Partitions to make at once, spread over nodes and shards. Absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_partitions: Option<u32>,
    /// What these partitions are like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<PartitionSpec>,
}

/// What a partition is like.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartitionSpec {
    /// Log or memory.
    #[serde(rename = "type", default = "default_kind")]
    pub kind: PartitionKind,
    /// Options of the kind.
    #[serde(default = "empty_object")]
    pub config: Value,
}

pub(super) fn default_kind() -> PartitionKind {
    PartitionKind::Default
}

pub(super) fn empty_object() -> Value {
    json!({})
}

/// Names a topic: to describe it. The answer is a [`TopicInfo`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopicRequest {
    /// Its name.
    pub name: String,
}

/// Deletes a topic, with its partitions. The answer is `{}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopicDeleteRequest {
    /// Its name.
    pub name: String,
    /// Also when events of other topics refer to its data: they lose it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
}

/// Marks a topic complete, or one of its partitions. The answer is `{}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopicCompleteRequest {
    /// The topic's name.
    pub name: String,
    /// The partition's index. Absent: all of the topic, which then gets no more partitions either.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<u32>,
}

/// A producer will push no more. The answer is a [`ProducerDoneResponse`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProducerDoneRequest {
    /// The topic's name.
    pub topic: String,
    /// The producer's name. Who says it twice counts once.
    pub producer: String,
}

/// How many producers of a topic are done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProducerDoneResponse {
    /// How many said so.
    pub done: u32,
    /// How many there will be.
    pub expected: u32,
}

/// Changes a topic's settings; what is absent stays as it is. The answer is a [`TopicInfo`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopicAlterRequest {
    /// Its name.
    pub name: String,
    /// What of its events may go, in place of all that was said of it before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
}

/// All about a topic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TopicInfo {
    /// Its identity: a deleted and newly created topic has another one.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// What acknowledged means.
    pub durability: Durability,
    /// The validator's JSON.
    pub validator: Value,
    /// The partition selector's JSON.
    pub partition_selector: Value,
    /// The serializer's JSON.
    pub serializer: Value,
    /// When it was created, Unix microseconds.
    pub created_us: u64,
    /// Whether it takes no more events.
    pub complete: bool,
    /// What of its events may go.
    #[serde(default, skip_serializing_if = "Retention::is_default")]
    pub retention: Retention,
    /// How many producers there will be; 0: that is not counted.
    #[serde(default)]
    pub producers_expected: u32,
    /// How many of them are done.
    #[serde(default)]
    pub producers_done: u32,
    /// Its partitions, by index.
    pub partitions: Vec<PartitionInfo>,
}

impl TopicInfo {
    /// What a list of topics tells of it.
    pub fn summary(&self) -> TopicSummary {
        TopicSummary {
            id: self.id,
            name: self.name.clone(),
            durability: self.durability,
            validator: self.validator.clone(),
            partition_selector: self.partition_selector.clone(),
            serializer: self.serializer.clone(),
            complete: self.complete,
            num_partitions: u32::try_from(self.partitions.len()).unwrap_or(u32::MAX),
        }
    }
}

/// A topic in a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TopicSummary {
    /// Its identity.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// What acknowledged means.
    pub durability: Durability,
    /// The validator's JSON.
    pub validator: Value,
    /// The partition selector's JSON.
    pub partition_selector: Value,
    /// The serializer's JSON.
    pub serializer: Value,
    /// Whether it takes no more events.
    pub complete: bool,
    /// How many partitions it has.
    pub num_partitions: u32,
}

/// All topics, by name. The request has no fields.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TopicListResponse {
    /// The topics.
    pub topics: Vec<TopicSummary>,
}
