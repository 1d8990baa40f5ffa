//! The document that the status page shows: what programs may read as well (`/status.json`).

use mofka_net::ErrorCode;
use mofka_net::control::PartitionState;
use serde::Serialize;

use super::detail::by_topic;
use super::metrics::{STATE_NAMES, Surroundings};
use crate::measures::snapshot::{NodeSnapshot, PartitionSnapshot, ShardSnapshot};
use crate::measures::{BOUNDS_US, HistogramValues, PartitionCounts};

/// Topics that are listed.
const TOPICS_MAX: usize = 500;
/// Partitions that are listed.
const PARTITIONS_MAX: usize = 500;
/// Consumers that are listed.
const CONSUMERS_MAX: usize = 500;
/// Problems that are listed.
const PROBLEMS_MAX: usize = 100;
/// A device with less than one part in this many left is a problem.
const DISK_PART: u64 = 20;

/// The document.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// The software's version.
    pub version: &'static str,
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
    pub problems_left_out: usize,
    /// The device, when it could be asked.
    pub disk: Option<DiskStatus>,
    /// The process.
    pub process: ProcessStatus,
    /// All partitions together, with those that were deleted.
    pub totals: Totals,
    /// Topics by name.
    pub topics: Vec<TopicStatus>,
    /// How many more there are.
    pub topics_left_out: usize,
    /// Partitions; those that are not well first.
    pub partitions: Vec<PartitionLine>,
    /// How many more there are.
    pub partitions_left_out: usize,
    /// Consumers of topics; those that lag most first.
    pub consumers: Vec<ConsumerLine>,
    /// How many more there are.
    pub consumers_left_out: usize,
    /// Shards by number.
    pub shards: Vec<ShardLine>,
    /// Inclusive upper bounds of the buckets of all durations, in microseconds; the last bucket has none.
    pub bucket_bounds_us: &'static [u64],
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// `critical` or `warning`.
    pub severity: &'static str,
    /// A stable name: `partition_poisoned`, `disk_low`, ...
    pub kind: &'static str,
    /// What it is about.
    pub subject: String,
    /// What is the matter, and what to do.
    pub message: String,
}

/// The file system of the data directory.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct DiskStatus {
    /// All of it.
    pub size_bytes: u64,
    /// What is left.
    pub available_bytes: u64,
    /// What the partitions take of it.
    pub stored_bytes: u64,
}

/// The process.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ProcessStatus {
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
#[derive(Clone, Debug, Default, Serialize)]
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
#[derive(Clone, Debug, Default, Serialize)]
pub struct Durations {
    /// How many in each.
    pub buckets: Vec<u64>,
    /// All of them together.
    pub sum_us: u64,
}

/// A topic.
#[derive(Clone, Debug, Serialize)]
pub struct TopicStatus {
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
#[derive(Clone, Debug, Serialize)]
pub struct PartitionLine {
    /// Its topic.
    pub topic: String,
    /// Its place in the topic.
    pub partition: u32,
    /// Its shard.
    pub shard: usize,
    /// `open`, `full`, `complete`, `read_only`, `poisoned` or `broken`.
    pub state: &'static str,
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
#[derive(Clone, Debug, Serialize)]
pub struct ConsumerLine {
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
#[derive(Clone, Debug, Serialize)]
pub struct ShardLine {
    /// Its number.
    pub shard: usize,
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
}

/// The document of a snapshot.
pub fn of(snapshot: &NodeSnapshot, around: &Surroundings) -> Status {
    let stored_bytes = snapshot.partitions.iter().map(|p| p.gauges.bytes).sum();
    let disk = around.disk.map(|disk| DiskStatus {
        size_bytes: disk.size_bytes,
        available_bytes: disk.available_bytes,
        stored_bytes,
    });
    let mut all = PartitionCounts::default();
    snapshot.shards.iter().for_each(|shard| all.add(&shard.gone));
    snapshot
        .partitions
        .iter()
        .for_each(|partition| all.add(&partition.counts));
    let (problems, problems_left_out) = bounded(problems(snapshot, around), PROBLEMS_MAX);
    let (topics, topics_left_out) = bounded(topics(snapshot), TOPICS_MAX);
    let mut sorted: Vec<&PartitionSnapshot> = snapshot.partitions.iter().collect();
    sorted.sort_by(|a, b| (is_well(a), &a.topic, a.index).cmp(&(is_well(b), &b.topic, b.index)));
    let (partitions, partitions_left_out) = bounded(sorted, PARTITIONS_MAX);
    let (consumers, consumers_left_out) = bounded(consumers(snapshot), CONSUMERS_MAX);
    Status {
        version: env!("CARGO_PKG_VERSION"),
        node: snapshot.node.to_string(),
        rank: snapshot.rank,
        pid: std::process::id(),
        uptime_ms: snapshot.uptime_ms,
        data_dir: snapshot.data_dir.display().to_string(),
        direct_io: snapshot.direct_io,
        problems,
        problems_left_out,
        disk,
        process: ProcessStatus {
            cpu_us: around.process.cpu_us,
            resident_bytes: around.process.resident_bytes,
            open_fds: around.process.open_fds,
            max_fds: around.process.max_fds,
        },
        totals: totals(&all),
        topics,
        topics_left_out,
        partitions: partitions.into_iter().map(line).collect(),
        partitions_left_out,
        consumers,
        consumers_left_out,
        shards: snapshot
            .shards
            .iter()
            .map(|shard| shard_line(shard, snapshot))
            .collect(),
        bucket_bounds_us: &BOUNDS_US,
    }
}

fn bounded<T>(mut items: Vec<T>, max: usize) -> (Vec<T>, usize) {
    let left_out = items.len().saturating_sub(max);
    items.truncate(max);
    (items, left_out)
}

fn is_well(partition: &PartitionSnapshot) -> bool {
    partition.state == PartitionState::Open && !partition.is_full && partition.reason.is_none()
}

fn totals(counts: &PartitionCounts) -> Totals {
    let durations = |values: &HistogramValues| Durations {
        buckets: values.buckets.to_vec(),
        sum_us: values.sum_us,
    };
    Totals {
        accepted_events: counts.accepted_events,
        accepted_bytes: counts
            .accepted_meta_bytes
            .wrapping_add(counts.accepted_data_bytes),
        accepted_batches: counts.accepted_batches,
        refused_batches: counts.refused_batches,
        fed_events: counts.fed_events,
        sent_bytes: counts.fed_bytes.wrapping_add(counts.fetched_bytes),
        produce: durations(&counts.produce),
        commit: durations(&counts.commit),
        fetch: durations(&counts.fetch),
    }
}

fn topics(snapshot: &NodeSnapshot) -> Vec<TopicStatus> {
    let mut sums: std::collections::BTreeMap<&str, (TopicStatus, PartitionCounts)> = Default::default();
    for partition in &snapshot.partitions {
        let (topic, counts) = sums.entry(&partition.topic).or_insert_with(|| {
            let topic = TopicStatus {
                topic: partition.topic.clone(),
                partitions: 0,
                unwell: 0,
                events: 0,
                bytes: 0,
                lag: None,
                totals: Totals::default(),
            };
            (topic, PartitionCounts::default())
        });
        topic.partitions += 1;
        topic.unwell += u64::from(!is_well(partition));
        topic.events += partition.gauges.events;
        topic.bytes += partition.gauges.bytes;
        counts.add(&partition.counts);
    }
    for row in by_topic(snapshot) {
        if let Some((topic, _)) = sums.get_mut(row.topic.as_str()) {
            topic.lag = topic.lag.max(Some(row.lag));
        }
    }
    sums.into_values()
        .map(|(topic, counts)| TopicStatus {
            totals: totals(&counts),
            ..topic
        })
        .collect()
}

fn line(partition: &PartitionSnapshot) -> PartitionLine {
    let (gauges, counts) = (&partition.gauges, &partition.counts);
    PartitionLine {
        topic: partition.topic.clone(),
        partition: partition.index,
        shard: partition.shard,
        state: state_name(partition),
        reason: partition.reason.clone(),
        events: gauges.events,
        bytes: gauges.bytes,
        unsynced_events: gauges.unsynced_events,
        waiting_bytes: gauges.pending_bytes.saturating_add(gauges.room_bytes),
        subscriptions: gauges.subscriptions,
        starved_subscriptions: gauges.starved_subscriptions,
        accepted_events: counts.accepted_events,
        accepted_bytes: counts
            .accepted_meta_bytes
            .wrapping_add(counts.accepted_data_bytes),
    }
}

fn state_name(partition: &PartitionSnapshot) -> &'static str {
    match partition.state {
        PartitionState::Open if partition.is_full => "full",
        PartitionState::Open if partition.is_complete => "complete",
        state => STATE_NAMES
            .iter()
            .find(|(known, _)| *known == state)
            .map_or("unknown", |(_, name)| name),
    }
}

fn consumers(snapshot: &NodeSnapshot) -> Vec<ConsumerLine> {
    let mut lines: Vec<ConsumerLine> = by_topic(snapshot)
        .into_iter()
        .map(|row| ConsumerLine {
            consumer: row.consumer,
            topic: row.topic,
            partitions: row.partitions,
            lag: row.lag,
            subscriptions: row.connected,
        })
        .collect();
    lines.sort_by_key(|line| std::cmp::Reverse(line.lag));
    lines
}

fn shard_line(shard: &ShardSnapshot, snapshot: &NodeSnapshot) -> ShardLine {
    let sum = |counts: &mut dyn Iterator<Item = u64>| counts.fold(0_u64, u64::wrapping_add);
    ShardLine {
        shard: shard.shard,
        partitions: snapshot
            .partitions
            .iter()
            .filter(|p| p.shard == shard.shard)
            .count() as u64,
        connections: shard.connection_count,
        rings: shard.rings.attached_count,
        requests: sum(&mut shard.counts.requests.iter().map(|(_, count)| *count)),
        errors: sum(&mut shard.counts.errors.iter().map(|(_, count)| *count)),
        unanswered_bytes: shard.unanswered_bytes,
        outbox_bytes: shard.outbox_bytes,
        memory_reads: shard.reads.memory_count,
        device_reads: shard.reads.device_count,
    }
}

/// Bytes, for people.
fn gib(bytes: u64) -> String {
    let tenths = u128::from(bytes) * 10 / (1 << 30);
    format!("{}.{} GiB", tenths / 10, tenths % 10)
}

/// What is wrong with the node; the worst first.
fn problems(snapshot: &NodeSnapshot, around: &Surroundings) -> Vec<Problem> {
    let mut problems: Vec<Problem> = snapshot.partitions.iter().filter_map(of_partition).collect();
    if let Some(disk) = around
        .disk
        .filter(|disk| disk.available_bytes < disk.size_bytes / DISK_PART)
    {
        problems.push(Problem {
            severity: "warning",
            kind: "disk_low",
            subject: snapshot.data_dir.display().to_string(),
            message: format!(
                "{} of {} are left: free some space, or set a retention",
                gib(disk.available_bytes),
                gib(disk.size_bytes)
            ),
        });
    }
    let process = &around.process;
    if process.max_fds > 0 && process.open_fds > process.max_fds / 10 * 9 {
        problems.push(Problem {
            severity: "warning",
            kind: "descriptors_low",
            subject: format!("process {}", std::process::id()),
            message: format!(
                "{} of {} file descriptors are open: raise the limit",
                process.open_fds, process.max_fds
            ),
        });
    }
    for shard in &snapshot.shards {
        let of = |code: ErrorCode| {
            shard
                .counts
                .errors
                .iter()
                .find(|(known, _)| *known == code)
                .map_or(0, |(_, n)| *n)
        };
        if of(ErrorCode::Internal) > 0 {
            problems.push(Problem {
                severity: "warning",
                kind: "internal_errors",
                subject: format!("shard {}", shard.shard),
                message: format!(
                    "{} requests failed by a defect of the node: see its log",
                    of(ErrorCode::Internal)
                ),
            });
        }
        if shard.rings.fault_count > 0 {
            problems.push(Problem {
                severity: "warning",
                kind: "faulty_rings",
                subject: format!("shard {}", shard.shard),
                message: format!(
                    "{} clients wrote to shared memory what cannot be, and were cut off: see the log for who they are",
                    shard.rings.fault_count
                ),
            });
        }
    }
    // Stable: partitions stay in order.
    problems.sort_by_key(|problem| problem.severity != "critical");
    problems
}

fn of_partition(partition: &PartitionSnapshot) -> Option<Problem> {
    let reason = partition.reason.as_deref().unwrap_or("the reason is in the log");
    let (severity, kind, message) = match partition.state {
        PartitionState::Poisoned => (
            "critical",
            "partition_poisoned",
            format!(
                "takes no more events until the node is restarted; stored events stay readable. {reason}"
            ),
        ),
        PartitionState::Broken => (
            "critical",
            "partition_broken",
            format!("could not be opened. {reason}"),
        ),
        PartitionState::ReadOnly => (
            "critical",
            "partition_read_only",
            format!("takes no more events: see mofka-ctl log verify, then repair. {reason}"),
        ),
        PartitionState::Open if partition.is_full => (
            "critical",
            "partition_full",
            "refuses events until there is room: free some space".to_owned(),
        ),
        PartitionState::Open if partition.reason.is_some() => (
            "critical",
            "cursors_poisoned",
            format!("consumers cannot acknowledge until the node is restarted. {reason}"),
        ),
        PartitionState::Open => return None,
    };
    Some(Problem {
        severity,
        kind,
        subject: format!("topic {}, partition {}", partition.topic, partition.index),
        message,
    })
}

#[cfg(test)]
mod tests;
