//! The first words of a connection.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::ring::RingBounds;

/// What a client says first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HelloRequest {
    /// Lowest protocol version that the client speaks.
    pub version_min: u16,
    /// Highest.
    pub version_max: u16,
    /// Its name, for logs and status; up to [`crate::limits::CLIENT_NAME_BYTES_MAX`].
    pub client: String,
    /// Optional features that it can use.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<String>,
    /// Proof of who it is, if the node wants one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

/// What the node answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HelloResponse {
    /// The protocol version to speak from now on.
    pub version: u16,
    /// The node's identity.
    pub node: Uuid,
    /// Its place in the group.
    pub rank: u32,
    /// The shard that this connection reached.
    pub shard: u32,
    /// How many shards the node has.
    pub shards: u32,
    /// Addresses of each shard.
    pub endpoints: Vec<Vec<String>>,
    /// What the node takes and sends at most.
    pub limits: NodeLimits,
    /// A connection on which the node hears nothing for three times as long is closed; the other way round too.
    pub heartbeat_ms: u64,
    /// Features that both sides have.
    #[serde(default)]
    pub features: Vec<String>,
    /// What rings can be had, when [`FEATURE_RING`](crate::limits::FEATURE_RING) is among the features.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ring: Option<RingBounds>,
}

/// Bounds that a client has to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeLimits {
    /// Largest frame, header included, either way.
    pub frame_bytes_max: u64,
    /// Events in a batch.
    pub batch_events_max: u32,
    /// Data that one fetch brings at most.
    pub fetch_bytes_max: u64,
    /// Subscriptions of one connection.
    pub subscriptions_max: u32,
    /// Batches of one producer that a partition remembers: as many may be on their way to it and still be sent again without doubt. Nodes that do not say
    /// remember 16.
    #[serde(default = "sequence_window_of_old")]
    pub sequence_window: u32,
}

fn sequence_window_of_old() -> u32 {
    16
}
