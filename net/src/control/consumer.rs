//! Consumers: share partitions, subscribe, unsubscribe, seek, list.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::partition::PartitionInfo;
use crate::recipe::Recipe;

/// A place in a partition's events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum From {
    /// After the last event that the consumer acknowledged; the first event if there is none.
    #[default]
    Cursor,
    /// The first event that retention left.
    First,
    /// After the last visible event.
    Last,
    /// This event.
    Id(u64),
    /// The first event of the first batch that was accepted at this time or later: Unix time in microseconds. After the
    /// last visible event when there is none.
    ///
    /// Times are those of the node's clock when it accepted a batch. Where that clock went backwards, batches with
    /// earlier times may follow; none at or after the time is left out.
    Time(u64),
}

/// Which data comes with the events.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Selection {
    /// None: it is fetched when it is wanted.
    #[default]
    None,
    /// All that fits and is in memory; the rest is fetched.
    All,
    /// Views of it, the same for each event.
    Views(Recipe),
}

/// Starts feeds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubscribeRequest {
    /// Chosen by the client. It is the request id of the feeds, and of an error that ends them, so it must differ
    /// from every other subscription and every request of this connection.
    pub subscription: u64,
    /// Which partition.
    pub partition: Uuid,
    /// The consumer's name.
    pub consumer: String,
    /// Who reads under this name: the same number as in [`GroupSyncRequest`]. A partition is read by one member: an older
    /// subscription of another one ends with `superseded`.
    pub member: Uuid,
    /// Where to begin.
    pub from: From,
    /// Events in one feed. A batch is never split, so that a feed may hold more; see [`crate::FeedHeader`].
    pub batch_events_max: u32,
    /// Bytes in one feed; a feed holds one batch at least.
    pub batch_bytes_max: u32,
    /// Feeds that may be sent at once.
    pub credits: u32,
    /// Which data comes along.
    pub selection: Selection,
    /// An event pattern: only events whose metadata matches are fed. Of topics whose metadata is stored as JSON text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<Value>,
}

/// Feeds will come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubscribeResponse {
    /// The first event that will be fed.
    pub next_event_id: u64,
    /// End of what is visible now.
    pub visible_end: u64,
}

/// Ends feeds. The answer is `{}` or empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnsubscribeRequest {
    /// Which ones.
    pub subscription: u64,
}

/// Moves a cursor, also backwards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeekRequest {
    /// Which partition.
    pub partition: Uuid,
    /// The consumer's name.
    pub consumer: String,
    /// Where to. Not [`From::Cursor`].
    pub to: From,
}

/// The cursor was moved, durably.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeekResponse {
    /// The next event that the consumer will get.
    pub next_event_id: u64,
}

/// Joins those who read a topic under one name, says what this one reads, and waits for news of what it is to read.
///
/// Each partition is read by one of them. Who joins, leaves or loses its connection, and partitions that are added, make
/// others read more or less.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupSyncRequest {
    /// The topic's name.
    pub topic: String,
    /// The consumer's name.
    pub consumer: String,
    /// Chosen at random by the one who joins, and kept for its life.
    pub member: Uuid,
    /// Indices of the partitions that it insists on; empty: its share of those that nobody insists on.
    #[serde(default)]
    pub targets: Vec<u32>,
    /// Of the last answer; 0 to join. Larger ones are for a node that was started anew.
    pub generation: u64,
    /// The partitions that it reads. One that the last answer no longer had, and that is not listed here, is given to
    /// the next.
    #[serde(default)]
    pub holding: Vec<GroupPlace>,
    /// Those that it does not read any more since the last request.
    #[serde(default)]
    pub released: Vec<GroupPlace>,
    /// How long the answer may wait for a change, in milliseconds; a node may answer earlier.
    pub wait_ms: u32,
}

/// How far a member has read a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupPlace {
    /// The partition's index.
    pub partition: u32,
    /// The first event that its application has not got; absent when that is not known yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_event_id: Option<u64>,
}

/// A partition that a member is to read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupPartition {
    /// Which one.
    pub info: PartitionInfo,
    /// How far others have read it, as they said last: where to go on for those who do not begin at the cursor. Absent when
    /// nobody has read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_event_id: Option<u64>,
}

/// What a member is to read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupSyncResponse {
    /// Changes whenever the rest does.
    pub generation: u64,
    /// The partitions.
    pub partitions: Vec<GroupPartition>,
    /// How many partitions the topic has.
    pub partition_count: u32,
    /// Whether the topic is complete: no partition will be added.
    pub complete: bool,
}

/// Leaves those who read a topic under one name. The answer is `{}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupLeaveRequest {
    /// The topic's name.
    pub topic: String,
    /// The consumer's name.
    pub consumer: String,
    /// Who leaves.
    pub member: Uuid,
}

/// Lists the consumers of a topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsumerListRequest {
    /// The topic's name.
    pub topic: String,
}

/// Forgets a consumer's cursor in a partition, durably. The answer is `{}`, also when there was none.
///
/// Refused while anybody reads the partition under that name: the next acknowledgement would bring it back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsumerDeleteRequest {
    /// Which partition.
    pub partition: Uuid,
    /// The consumer's name.
    pub consumer: String,
}

/// The consumers of a topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ConsumerListResponse {
    /// One entry for each consumer and partition.
    pub consumers: Vec<ConsumerInfo>,
}

/// A consumer of one partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsumerInfo {
    /// Its name.
    pub consumer: String,
    /// The partition.
    pub partition: Uuid,
    /// The partition's place in the topic.
    pub index: u32,
    /// Its cursor.
    pub next_event_id: u64,
    /// Visible events that it has not acknowledged.
    pub lag: u64,
    /// Subscriptions under this name now.
    pub connected: u32,
}
