//! Every bound of the engine, with its default.

use mofka_log::AppenderConfig;
use serde::{Deserialize, Serialize};

/// Bounds of partitions, connections and requests. All of them can be set in the configuration under `limits`.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct EngineLimits {
    /// Meta bytes after which a segment is sealed and the next one opened.
    pub segment_meta_bytes: u64,
    /// Data bytes after which a segment is sealed; one event may be larger than this.
    pub segment_data_bytes: u64,
    /// Writes of each file of one partition that may be under way at once.
    pub commits_in_flight_max: usize,
    /// Bytes that one commit gathers at most, when more than one batch waits.
    pub commit_bytes_max: u64,
    /// Bytes of a partition's cursors file from which on it is rewritten, when it has outgrown what it holds.
    pub cursors_rewrite_bytes: u64,
    /// Bytes that must wait before data is written while other data of its partition is under way. Less is gathered,
    /// because each such write fills up its last block.
    pub pipeline_bytes_min: u64,
    /// The same of the frames in the meta file.
    pub meta_pipeline_bytes_min: u64,
    /// Memory per shard for the batches that its log partitions accepted last.
    pub shard_recent_bytes_max: u64,
    /// Memory per shard for what is read from the device before a consumer asks for it.
    pub shard_read_ahead_bytes_max: u64,
    /// Memory that a memory partition may take; beyond it events are refused.
    pub memory_partition_bytes_max: u64,
    /// Memory that all memory partitions of the node may take together. `None`: half of the machine's, or of what the process's
    /// control group leaves it.
    pub memory_bytes_max: Option<u64>,
    /// Bytes waiting to be written in one partition from which on its producers' sockets are not read.
    pub partition_pending_bytes_max: u64,
    /// Largest frame that a client may send or be sent.
    pub frame_bytes_max: u64,
    /// Events in one batch.
    pub batch_events_max: u32,
    /// Bytes of requests of one connection that are not answered yet, with what the node needs to work on them; beyond it
    /// its socket is not read.
    pub connection_inflight_bytes_max: u64,
    /// Bytes of answers that wait for a slow reader; beyond it nothing more is read from it or fed to it.
    pub connection_outbox_bytes_max: u64,
    /// Connections per shard.
    pub connections_max: usize,
    /// Subscriptions per connection.
    pub subscriptions_max: usize,
    /// Events of one connection whose data comes in parts and is not whole.
    pub connection_streams_max: usize,
    /// The same of all connections of a shard. Each takes 64 bytes of memory for each MiB of its data.
    pub shard_streams_max: usize,
    /// Rings in shared memory per node: local clients beyond it are served over their sockets. 0: none are given.
    pub rings_max: usize,
    /// Shared memory of all rings of the node.
    pub rings_bytes_max: u64,
    /// Shared memory of one ring.
    pub ring_bytes_max: u64,
    /// Slots of each direction of a ring.
    pub ring_slots_max: u32,
    /// Partitions per node.
    pub partitions_max: usize,
    /// How often a client is to be heard; a silent connection is closed after three of these.
    pub heartbeat_ms: u64,
    /// How often partitions are looked through for events that retention lets go.
    pub retention_check_ms: u64,
}

impl Default for EngineLimits {
    fn default() -> Self {
        Self {
            segment_meta_bytes: 64 << 20,
            segment_data_bytes: 256 << 20,
            commits_in_flight_max: 4,
            commit_bytes_max: 4 << 20,
            pipeline_bytes_min: 64 << 10,
            meta_pipeline_bytes_min: 256 << 10,
            cursors_rewrite_bytes: 1 << 20,
            shard_recent_bytes_max: 128 << 20,
            shard_read_ahead_bytes_max: 64 << 20,
            memory_partition_bytes_max: 1 << 30,
            memory_bytes_max: None,
            partition_pending_bytes_max: 32 << 20,
            frame_bytes_max: 256 << 20,
            batch_events_max: 1 << 17,
            connection_inflight_bytes_max: 64 << 20,
            connection_outbox_bytes_max: 64 << 20,
            connections_max: 4096,
            subscriptions_max: 1024,
            connection_streams_max: 16,
            shard_streams_max: 64,
            rings_max: 256,
            rings_bytes_max: 8 << 30,
            ring_bytes_max: 256 << 20,
            ring_slots_max: 4096,
            partitions_max: 4096,
            heartbeat_ms: 10_000,
            retention_check_ms: 10_000,
        }
    }
}

impl EngineLimits {
    /// What the appender of a partition is to respect.
    pub(crate) fn appender(&self) -> AppenderConfig {
        AppenderConfig {
            commits_in_flight_max: self.commits_in_flight_max,
            commit_bytes_max: self.commit_bytes_max,
            pipeline_bytes_min: self.pipeline_bytes_min,
            meta_pipeline_bytes_min: self.meta_pipeline_bytes_min,
            segment_meta_bytes: self.segment_meta_bytes,
            segment_data_bytes: self.segment_data_bytes,
        }
    }
}
