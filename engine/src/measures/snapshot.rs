//! A copy of all that is counted, of a whole node, at about one moment.

use mofka_net::control::{MemoryStatus, PartitionState, ReadStatus, RingStatus};
use uuid::Uuid;

use super::{PartitionCounts, ShardCounts};

/// A node.
#[derive(Clone, Debug, Default)]
pub struct NodeSnapshot {
    /// Its identity.
    pub node: Uuid,
    /// Its place in the group.
    pub rank: u32,
    /// How long it has been running.
    pub uptime_ms: u64,
    /// Where it stores.
    pub data_dir: std::path::PathBuf,
    /// Whether log files bypass the page cache.
    pub direct_io: bool,
    /// Topics in its catalog.
    pub topic_count: u64,
    /// What its memory partitions take, and may.
    pub memory: MemoryStatus,
    /// Its shards, by number.
    pub shards: Vec<ShardSnapshot>,
    /// The partitions of all of them.
    pub partitions: Vec<PartitionSnapshot>,
}

/// A shard without its partitions.
#[derive(Clone, Debug, Default)]
pub struct ShardSnapshot {
    /// Its number.
    pub shard: usize,
    /// Connections that it serves.
    pub connection_count: u64,
    /// Bytes of requests that are not answered yet.
    pub unanswered_bytes: u64,
    /// Bytes of answers and feeds that clients have not taken yet.
    pub outbox_bytes: u64,
    /// How its reads were served.
    pub reads: ReadStatus,
    /// Its clients in shared memory.
    pub rings: RingStatus,
    /// What it counted.
    pub counts: ShardCounts,
    /// What it counted of partitions that are not there any more.
    pub gone: PartitionCounts,
}

/// A partition.
#[derive(Clone, Debug)]
pub struct PartitionSnapshot {
    /// The shard that has it.
    pub shard: usize,
    /// Its topic.
    pub topic: String,
    /// Its place in the topic.
    pub index: u32,
    /// Whether it works.
    pub state: PartitionState,
    /// Why not.
    pub reason: Option<String>,
    /// Whether its last batch was refused because the device, or its memory, is full.
    pub is_full: bool,
    /// It takes no more events.
    pub is_complete: bool,
    /// What it holds and what waits in it now.
    pub gauges: PartitionGauges,
    /// What was counted of it.
    pub counts: PartitionCounts,
    /// Its consumers, in the order of their names; at most as many as were asked for.
    pub consumers: Vec<ConsumerSnapshot>,
    /// How many more consumers it has.
    pub consumers_left_out: u64,
}

/// A consumer of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerSnapshot {
    /// Its name.
    pub consumer: String,
    /// Visible events that it has not acknowledged.
    pub lag: u64,
    /// Its subscriptions now.
    pub connected: u64,
}

macro_rules! gauges {
    ($( $(#[doc = $doc:literal])+ $name:ident; )+) => {
        /// What a partition holds and what waits in it, or the sum of several partitions'.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct PartitionGauges {
            $( $(#[doc = $doc])+ pub $name: u64, )+
        }

        impl PartitionGauges {
            /// Takes another one's in.
            pub fn add(&mut self, other: &Self) {
                $( self.$name = self.$name.saturating_add(other.$name); )+
            }
        }
    };
}

gauges! {
    /// Events.
    events;
    /// Bytes of its files, or of its memory.
    bytes;
    /// Segments.
    segments;
    /// Memory that it takes to know where the events are.
    index_bytes;
    /// Events that were accepted and are not durable yet.
    unsynced_events;
    /// Bytes that were accepted and wait for a commit.
    pending_bytes;
    /// Bytes of batches that wait until the files were made longer.
    room_bytes;
    /// Commits under way.
    commits_in_flight;
    /// Subscriptions.
    subscriptions;
    /// Feeds that these may still be sent.
    credits;
    /// Subscriptions that may be sent nothing.
    starved_subscriptions;
}
