//! The document that the status page shows: what programs may read as well, by HTTP (`/status.json`) and as the answer to a
//! request (report).

use mofka_net::ErrorCode;
use mofka_net::control::{
    ConsumerReport, DiskReport, Durations, NodeReport, PartitionReport, PartitionState, Problem,
    ProcessReport, ShardReport, TopicReport, Totals,
};

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

/// The document of a snapshot.
pub fn of(snapshot: &NodeSnapshot, around: &Surroundings) -> NodeReport {
    // What files say is not to be trusted to add up.
    let sizes = snapshot.partitions.iter().map(|p| p.gauges.bytes);
    let stored_bytes = sizes.fold(0, u64::saturating_add);
    let disk = around.disk.map(|disk| DiskReport {
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
    NodeReport {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        node: snapshot.node.to_string(),
        rank: snapshot.rank,
        pid: std::process::id(),
        uptime_ms: snapshot.uptime_ms,
        data_dir: snapshot.data_dir.display().to_string(),
        direct_io: snapshot.direct_io,
        problems,
        problems_left_out,
        disk,
        process: ProcessReport {
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
        bucket_bounds_us: BOUNDS_US.to_vec(),
    }
}

fn bounded<T>(mut items: Vec<T>, max: usize) -> (Vec<T>, u64) {
    let left_out = items.len().saturating_sub(max) as u64;
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

fn topics(snapshot: &NodeSnapshot) -> Vec<TopicReport> {
    let mut sums: std::collections::BTreeMap<&str, (TopicReport, PartitionCounts)> = Default::default();
    for partition in &snapshot.partitions {
        let (topic, counts) = sums.entry(&partition.topic).or_insert_with(|| {
            let topic = TopicReport {
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
        topic.events = topic.events.saturating_add(partition.gauges.events);
        topic.bytes = topic.bytes.saturating_add(partition.gauges.bytes);
        counts.add(&partition.counts);
    }
    for row in by_topic(snapshot) {
        if let Some((topic, _)) = sums.get_mut(row.topic.as_str()) {
            topic.lag = topic.lag.max(Some(row.lag));
        }
    }
    sums.into_values()
        .map(|(topic, counts)| TopicReport {
            totals: totals(&counts),
            ..topic
        })
        .collect()
}

fn line(partition: &PartitionSnapshot) -> PartitionReport {
    let (gauges, counts) = (&partition.gauges, &partition.counts);
    PartitionReport {
        topic: partition.topic.clone(),
        partition: partition.index,
        shard: partition.shard as u64,
        state: state_name(partition).to_owned(),
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

fn consumers(snapshot: &NodeSnapshot) -> Vec<ConsumerReport> {
    let mut lines: Vec<ConsumerReport> = by_topic(snapshot)
        .into_iter()
        .map(|row| ConsumerReport {
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

fn shard_line(shard: &ShardSnapshot, snapshot: &NodeSnapshot) -> ShardReport {
    let sum = |counts: &mut dyn Iterator<Item = u64>| counts.fold(0_u64, u64::wrapping_add);
    let (mut partitions, mut all) = (0, shard.gone.clone());
    for partition in snapshot.partitions.iter().filter(|p| p.shard == shard.shard) {
        partitions += 1;
        all.add(&partition.counts);
    }
    ShardReport {
        shard: shard.shard as u64,
        partitions,
        totals: totals(&all),
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
            severity: "warning".to_owned(),
            kind: "disk_low".to_owned(),
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
            severity: "warning".to_owned(),
            kind: "descriptors_low".to_owned(),
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
                severity: "warning".to_owned(),
                kind: "internal_errors".to_owned(),
                subject: format!("shard {}", shard.shard),
                message: format!(
                    "{} requests failed by a defect of the node: see its log",
                    of(ErrorCode::Internal)
                ),
            });
        }
        if shard.rings.fault_count > 0 {
            problems.push(Problem {
                severity: "warning".to_owned(),
                kind: "faulty_rings".to_owned(),
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
        severity: severity.to_owned(),
        kind: kind.to_owned(),
        subject: format!("topic {}, partition {}", partition.topic, partition.index),
        message,
    })
}

#[cfg(test)]
mod tests;
