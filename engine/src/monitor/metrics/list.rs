// tidy: allow-long (the list of all metrics is one list)
//! The list of all metrics: what each is called, and where its value is found.

use super::super::detail::Row;
use super::super::exposition::{Family, Kind, Value};
use super::super::process::Process;
use crate::measures::snapshot::{PartitionGauges, ShardSnapshot};
use crate::measures::{HistogramValues, PartitionCounts};

const NONE: &[&str] = &[];
const SHARD: &[&str] = &["shard"];
const PARTITION: &[&str] = &["shard", "topic", "partition"];
const TOPIC: &[&str] = &["shard", "topic"];
const CONSUMER: &[&str] = &["topic", "partition", "consumer"];

macro_rules! family {
    ($kind:ident, $name:literal, $labels:expr, $help:literal) => {
        family!($kind, $name, None, $labels, $help)
    };
    ($kind:ident, $name:literal, $unit:expr, $labels:expr, $help:literal) => {
        Family {
            name: $name,
            kind: Kind::$kind,
            unit: $unit,
            labels: $labels,
            help: $help,
        }
    };
}

const BYTES: Option<&str> = Some("bytes");
const SECONDS: Option<&str> = Some("seconds");

pub(super) const BUILD: Family = family!(
    Info,
    "mofka_build",
    &["version", "node", "rank"],
    "The node and its software."
);
pub(super) const TOPICS: Family = family!(Gauge, "mofka_topics", NONE, "Topics in the catalog.");
pub(super) const DISK_SIZE: Family = family!(
    Gauge,
    "mofka_disk_size_bytes",
    BYTES,
    NONE,
    "Size of the file system of the data directory."
);
pub(super) const DISK_AVAILABLE: Family = family!(
    Gauge,
    "mofka_disk_available_bytes",
    BYTES,
    NONE,
    "What is left of it for the node."
);
pub(super) const MEMORY_USED: Family = family!(
    Gauge,
    "mofka_memory_partitions_bytes",
    BYTES,
    NONE,
    "Events that all memory partitions keep."
);
pub(super) const MEMORY_MAX: Family = family!(
    Gauge,
    "mofka_memory_partitions_max_bytes",
    BYTES,
    NONE,
    "What that may be; beyond it events are refused."
);
pub(super) const SUMMED: Family = family!(
    Gauge,
    "mofka_summed",
    &["what"],
    "1 when there are more of these than series of their own, so that those are summed under *."
);
pub(super) const CONSUMERS_LEFT_OUT: Family = family!(
    Gauge,
    "mofka_consumers_left_out",
    NONE,
    "Consumers of partitions without a series, because there are too many."
);

type OfNode = (Family, fn(&Process) -> Value);

/// The process; these names are used by all programs.
pub(super) const PROCESS: [OfNode; 5] = [
    (
        family!(
            Counter,
            "process_cpu_seconds",
            SECONDS,
            NONE,
            "CPU time of all threads."
        ),
        |process| Value::Us(process.cpu_us),
    ),
    (
        family!(
            Gauge,
            "process_resident_memory_bytes",
            BYTES,
            NONE,
            "Memory that is there."
        ),
        |process| Value::Whole(process.resident_bytes),
    ),
    (
        family!(
            Gauge,
            "process_virtual_memory_bytes",
            BYTES,
            NONE,
            "Addresses that are in use."
        ),
        |process| Value::Whole(process.virtual_bytes),
    ),
    (
        family!(Gauge, "process_open_fds", NONE, "Open file descriptors."),
        |process| Value::Whole(process.open_fds),
    ),
    (
        family!(
            Gauge,
            "process_max_fds",
            NONE,
            "File descriptors that there may be."
        ),
        |process| Value::Whole(process.max_fds),
    ),
];
pub(super) const STARTED: Family = family!(
    Gauge,
    "process_start_time_seconds",
    SECONDS,
    NONE,
    "When the node was started, in Unix time."
);

type OfShard = (Family, fn(&ShardSnapshot) -> u64);

pub(super) const SHARDS: [OfShard; 17] = [
    (
        family!(Gauge, "mofka_connections", SHARD, "Connections of clients."),
        |s| s.connection_count,
    ),
    (
        family!(
            Counter,
            "mofka_opened_connections",
            SHARD,
            "Connections that were accepted."
        ),
        |s| s.counts.opened_connections,
    ),
    (
        family!(
            Counter,
            "mofka_refused_connections",
            SHARD,
            "Connections that were refused, because there were as many as may be."
        ),
        |s| s.counts.refused_connections,
    ),
    (
        family!(
            Gauge,
            "mofka_unanswered_bytes",
            BYTES,
            SHARD,
            "Requests that are not answered yet."
        ),
        |s| s.unanswered_bytes,
    ),
    (
        family!(
            Gauge,
            "mofka_outbox_bytes",
            BYTES,
            SHARD,
            "Answers and feeds that clients have not taken yet."
        ),
        |s| s.outbox_bytes,
    ),
    (
        family!(
            Counter,
            "mofka_memory_reads",
            SHARD,
            "Reads that recent batches in memory answered."
        ),
        |s| s.reads.memory_count,
    ),
    (
        family!(
            Counter,
            "mofka_device_reads",
            SHARD,
            "Reads that the device answered."
        ),
        |s| s.reads.device_count,
    ),
    (
        family!(
            Counter,
            "mofka_device_read_bytes",
            BYTES,
            SHARD,
            "What the device gave for them."
        ),
        |s| s.reads.device_bytes,
    ),
    (
        family!(
            Gauge,
            "mofka_recent_bytes",
            BYTES,
            SHARD,
            "Recent batches in memory."
        ),
        |s| s.reads.recent_bytes,
    ),
    (
        family!(
            Gauge,
            "mofka_rings",
            SHARD,
            "Clients attached through shared memory."
        ),
        |s| s.rings.attached_count,
    ),
    (
        family!(
            Gauge,
            "mofka_ring_memory_bytes",
            BYTES,
            SHARD,
            "Shared memory of those."
        ),
        |s| s.rings.attached_bytes,
    ),
    (
        family!(Counter, "mofka_opened_rings", SHARD, "Rings that were made."),
        |s| s.rings.opened_count,
    ),
    (
        family!(Counter, "mofka_refused_rings", SHARD, "Rings that were refused."),
        |s| s.rings.refused_count,
    ),
    (
        family!(
            Counter,
            "mofka_faulty_rings",
            SHARD,
            "Rings that ended because their client wrote there what cannot be."
        ),
        |s| s.rings.fault_count,
    ),
    (
        family!(
            Counter,
            "mofka_ring_received_frames",
            SHARD,
            "Frames that came through rings."
        ),
        |s| s.rings.received_count,
    ),
    (
        family!(
            Counter,
            "mofka_ring_sent_frames",
            SHARD,
            "Frames that went through rings."
        ),
        |s| s.rings.sent_count,
    ),
    (
        family!(
            Counter,
            "mofka_ring_wakes",
            SHARD,
            "Times that a client woke the shard."
        ),
        |s| s.rings.wake_count,
    ),
];

pub(super) const REQUESTS: Family = family!(
    Counter,
    "mofka_requests",
    &["shard", "request"],
    "Requests by what they ask for."
);
pub(super) const ERRORS: Family = family!(
    Counter,
    "mofka_errors",
    &["shard", "code"],
    "Errors that clients were told."
);
pub(super) const STATES: Family = family!(
    Gauge,
    "mofka_partitions",
    &["shard", "state"],
    "Partitions by what they can do."
);

type OfCounts = (Family, fn(&PartitionCounts) -> u64);

pub(super) const COUNTS: [OfCounts; 16] = [
    (
        family!(
            Counter,
            "mofka_accepted_batches",
            PARTITION,
            "Batches that got ids."
        ),
        |c| c.accepted_batches,
    ),
    (
        family!(
            Counter,
            "mofka_accepted_events",
            PARTITION,
            "Events that got ids."
        ),
        |c| c.accepted_events,
    ),
    (
        family!(
            Counter,
            "mofka_accepted_meta_bytes",
            BYTES,
            PARTITION,
            "Frames of them: headers, tables and metadata."
        ),
        |c| c.accepted_meta_bytes,
    ),
    (
        family!(
            Counter,
            "mofka_accepted_data_bytes",
            BYTES,
            PARTITION,
            "Data of them."
        ),
        |c| c.accepted_data_bytes,
    ),
    (
        family!(
            Counter,
            "mofka_duplicate_batches",
            PARTITION,
            "Batches that came again and got their first answer."
        ),
        |c| c.duplicate_batches,
    ),
    (
        family!(
            Counter,
            "mofka_refused_batches",
            PARTITION,
            "Batches that were answered with an error."
        ),
        |c| c.refused_batches,
    ),
    (
        family!(Counter, "mofka_commits", PARTITION, "Commits that are durable."),
        |c| c.commits,
    ),
    (
        family!(
            Counter,
            "mofka_committed_bytes",
            BYTES,
            PARTITION,
            "What they wrote to the device, in whole blocks."
        ),
        |c| c.committed_bytes,
    ),
    (
        family!(
            Counter,
            "mofka_feeds",
            PARTITION,
            "Feeds that consumers were sent."
        ),
        |c| c.feeds,
    ),
    (
        family!(Counter, "mofka_fed_events", PARTITION, "Events in them."),
        |c| c.fed_events,
    ),
    (
        family!(Counter, "mofka_fed_bytes", BYTES, PARTITION, "Bytes of them."),
        |c| c.fed_bytes,
    ),
    (
        family!(
            Counter,
            "mofka_fetched_events",
            PARTITION,
            "Events whose data was asked for."
        ),
        |c| c.fetched_events,
    ),
    (
        family!(
            Counter,
            "mofka_fetched_bytes",
            BYTES,
            PARTITION,
            "Data that was sent for them."
        ),
        |c| c.fetched_bytes,
    ),
    (
        family!(
            Counter,
            "mofka_acknowledgements",
            PARTITION,
            "Acknowledgements of consumers."
        ),
        |c| c.acknowledgements,
    ),
    (
        family!(
            Counter,
            "mofka_rolled_segments",
            PARTITION,
            "Segments that were closed, since the next one was begun."
        ),
        |c| c.rolled_segments,
    ),
    (
        family!(
            Counter,
            "mofka_dropped_segments",
            PARTITION,
            "Segments that retention dropped."
        ),
        |c| c.dropped_segments,
    ),
];

type OfGauges = (Family, fn(&PartitionGauges) -> u64);

pub(super) const GAUGES: [OfGauges; 11] = [
    (
        family!(Gauge, "mofka_stored_events", PARTITION, "Events that are there."),
        |g| g.events,
    ),
    (
        family!(
            Gauge,
            "mofka_stored_bytes",
            BYTES,
            PARTITION,
            "Bytes of files, or of memory for a memory partition."
        ),
        |g| g.bytes,
    ),
    (
        family!(Gauge, "mofka_segments", PARTITION, "Segments on the device."),
        |g| g.segments,
    ),
    (
        family!(
            Gauge,
            "mofka_index_bytes",
            BYTES,
            PARTITION,
            "Memory that it takes to know where events are."
        ),
        |g| g.index_bytes,
    ),
    (
        family!(
            Gauge,
            "mofka_unsynced_events",
            PARTITION,
            "Events that were accepted and are not durable yet."
        ),
        |g| g.unsynced_events,
    ),
    (
        family!(
            Gauge,
            "mofka_pending_bytes",
            BYTES,
            PARTITION,
            "What waits for a commit."
        ),
        |g| g.pending_bytes,
    ),
    (
        family!(
            Gauge,
            "mofka_room_waiting_bytes",
            BYTES,
            PARTITION,
            "Batches that wait until files were made longer."
        ),
        |g| g.room_bytes,
    ),
    (
        family!(Gauge, "mofka_commits_in_flight", PARTITION, "Commits under way."),
        |g| g.commits_in_flight,
    ),
    (
        family!(
            Gauge,
            "mofka_subscriptions",
            PARTITION,
            "Subscriptions of consumers."
        ),
        |g| g.subscriptions,
    ),
    (
        family!(
            Gauge,
            "mofka_credits",
            PARTITION,
            "Feeds that these may still be sent."
        ),
        |g| g.credits,
    ),
    (
        family!(
            Gauge,
            "mofka_starved_subscriptions",
            PARTITION,
            "Subscriptions without credit: their consumers are slower than the partition."
        ),
        |g| g.starved_subscriptions,
    ),
];

type OfRow = (Family, fn(&Row) -> u64);

pub(super) const ROWS: [OfRow; 2] = [
    (
        family!(
            Gauge,
            "mofka_unwell_partitions",
            PARTITION,
            "1 when the partition is poisoned, read-only or cannot be opened."
        ),
        |row| row.unwell,
    ),
    (
        family!(
            Gauge,
            "mofka_full_partitions",
            PARTITION,
            "1 when the last batch was refused because there is no room."
        ),
        |row| row.full,
    ),
];

type OfDurations = (Family, fn(&PartitionCounts) -> &HistogramValues);

pub(super) const DURATIONS: [OfDurations; 3] = [
    (
        family!(
            Histogram,
            "mofka_produce_seconds",
            SECONDS,
            TOPIC,
            "From the arrival of a batch to its answer."
        ),
        |c| &c.produce,
    ),
    (
        family!(
            Histogram,
            "mofka_commit_seconds",
            SECONDS,
            TOPIC,
            "From the begin of a commit until it is durable."
        ),
        |c| &c.commit,
    ),
    (
        family!(
            Histogram,
            "mofka_fetch_seconds",
            SECONDS,
            TOPIC,
            "From a request for data to its answer."
        ),
        |c| &c.fetch,
    ),
];

pub(super) const LAG: Family = family!(
    Gauge,
    "mofka_consumer_lag_events",
    CONSUMER,
    "Visible events that the consumer has not acknowledged."
);
pub(super) const CONNECTED: Family = family!(
    Gauge,
    "mofka_consumer_subscriptions",
    CONSUMER,
    "Its subscriptions now."
);

/// Every metric, in the order in which they are written.
pub fn families() -> Vec<Family> {
    let mut all = vec![
        BUILD,
        TOPICS,
        DISK_SIZE,
        DISK_AVAILABLE,
        MEMORY_USED,
        MEMORY_MAX,
        SUMMED,
        CONSUMERS_LEFT_OUT,
        STARTED,
    ];
    all.extend(PROCESS.map(|(family, _)| family));
    all.extend(SHARDS.map(|(family, _)| family));
    all.extend([REQUESTS, ERRORS, STATES]);
    all.extend(COUNTS.map(|(family, _)| family));
    all.extend(GAUGES.map(|(family, _)| family));
    all.extend(ROWS.map(|(family, _)| family));
    all.extend(DURATIONS.map(|(family, _)| family));
    all.extend([LAG, CONNECTED]);
    all
}
