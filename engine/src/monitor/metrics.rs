//! The text of all metrics of a snapshot.

mod list;

use mofka_net::control::PartitionState;

pub use self::list::families;
use self::list::{
    BUILD, CONNECTED, CONSUMERS_LEFT_OUT, COUNTS, DISK_AVAILABLE, DISK_SIZE, DURATIONS, ERRORS, GAUGES, LAG,
    MEMORY_MAX, MEMORY_USED, PROCESS, REQUESTS, ROWS, SHARDS, STARTED, STATES, SUMMED, TOPICS,
};
use super::Monitoring;
use super::detail::{Consumers, Detail, Level, Row};
use super::exposition::{Exposition, Family, Format, Value};
use super::process::{Disk, Process};
use crate::measures::snapshot::{NodeSnapshot, ShardSnapshot};

/// What is beside the snapshot.
#[derive(Clone, Copy, Debug, Default)]
pub struct Surroundings {
    /// The process.
    pub process: Process,
    /// Its device, when it can be asked.
    pub disk: Option<Disk>,
    /// When the node was started: Unix time in seconds.
    pub started_s: u64,
}

/// The text of all metrics.
pub fn render(snapshot: &NodeSnapshot, around: &Surroundings, bounds: &Monitoring, format: Format) -> String {
    let mut out = Exposition::new(format);
    let detail = Detail::new(snapshot, bounds.partition_series_max);
    let consumers = Consumers::new(snapshot, bounds.consumer_series_max);
    node(&mut out, snapshot, around);
    out.begin(&SUMMED);
    let is_summed = |is: bool| Value::Whole(u64::from(is));
    out.sample(
        &SUMMED,
        &["partitions"],
        is_summed(detail.level > Level::Partition),
    );
    out.sample(&SUMMED, &["topics"], is_summed(detail.level > Level::Topic));
    out.sample(&SUMMED, &["consumers"], is_summed(consumers.is_summed));
    shards(&mut out, snapshot);
    partitions(&mut out, &detail);
    out.begin(&LAG);
    for row in &consumers.rows {
        out.sample(
            &LAG,
            &[&row.topic, &row.partition, &row.consumer],
            Value::Whole(row.lag),
        );
    }
    out.begin(&CONNECTED);
    for row in &consumers.rows {
        out.sample(
            &CONNECTED,
            &[&row.topic, &row.partition, &row.consumer],
            Value::Whole(row.connected),
        );
    }
    out.begin(&CONSUMERS_LEFT_OUT);
    out.sample(&CONSUMERS_LEFT_OUT, &[], Value::Whole(consumers.left_out));
    out.finish()
}

fn node(out: &mut Exposition, snapshot: &NodeSnapshot, around: &Surroundings) {
    out.begin(&BUILD);
    let (node, rank) = (snapshot.node.to_string(), snapshot.rank.to_string());
    out.sample(
        &BUILD,
        &[env!("CARGO_PKG_VERSION"), &node, &rank],
        Value::Whole(1),
    );
    out.begin(&TOPICS);
    out.sample(&TOPICS, &[], Value::Whole(snapshot.topic_count));
    if let Some(disk) = &around.disk {
        out.begin(&DISK_SIZE);
        out.sample(&DISK_SIZE, &[], Value::Whole(disk.size_bytes));
        out.begin(&DISK_AVAILABLE);
        out.sample(&DISK_AVAILABLE, &[], Value::Whole(disk.available_bytes));
    }
    out.begin(&MEMORY_USED);
    out.sample(&MEMORY_USED, &[], Value::Whole(snapshot.memory.used_bytes));
    if let Some(max_bytes) = snapshot.memory.max_bytes {
        out.begin(&MEMORY_MAX);
        out.sample(&MEMORY_MAX, &[], Value::Whole(max_bytes));
    }
    out.begin(&STARTED);
    out.sample(&STARTED, &[], Value::Whole(around.started_s));
    for (family, value) in &PROCESS {
        out.begin(family);
        out.sample(family, &[], value(&around.process));
    }
}

fn shards(out: &mut Exposition, snapshot: &NodeSnapshot) {
    let shards: Vec<(String, &ShardSnapshot)> =
        snapshot.shards.iter().map(|s| (s.shard.to_string(), s)).collect();
    for (family, value) in &SHARDS {
        out.begin(family);
        for (number, shard) in &shards {
            out.sample(family, &[number], Value::Whole(value(shard)));
        }
    }
    out.begin(&REQUESTS);
    for (number, shard) in &shards {
        for (opcode, count) in &shard.counts.requests {
            out.sample(
                &REQUESTS,
                &[number, &opcode_name(&format!("{opcode:?}"))],
                Value::Whole(*count),
            );
        }
    }
    out.begin(&ERRORS);
    for (number, shard) in &shards {
        for (code, count) in &shard.counts.errors {
            out.sample(&ERRORS, &[number, code.name()], Value::Whole(*count));
        }
    }
    out.begin(&STATES);
    for (number, shard) in &shards {
        for (state, name) in STATE_NAMES {
            let of_state = snapshot
                .partitions
                .iter()
                .filter(|p| p.shard == shard.shard && p.state == state);
            out.sample(&STATES, &[number, name], Value::Whole(of_state.count() as u64));
        }
    }
}

/// Every state of a partition, and its name.
pub const STATE_NAMES: [(PartitionState, &str); 4] = [
    (PartitionState::Open, "open"),
    (PartitionState::ReadOnly, "read_only"),
    (PartitionState::Poisoned, "poisoned"),
    (PartitionState::Broken, "broken"),
];

/// `TopicCreate` as `topic_create`, which is its name in the protocol's document.
fn opcode_name(variant: &str) -> String {
    let mut name = String::new();
    for char in variant.chars() {
        if char.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(char.to_ascii_lowercase());
    }
    name
}

fn partitions(out: &mut Exposition, detail: &Detail) {
    let mut all = |family: &Family, value: &dyn Fn(&Row) -> u64| {
        out.begin(family);
        for row in &detail.rows {
            out.sample(
                family,
                &[&row.shard, &row.topic, &row.partition],
                Value::Whole(value(row)),
            );
        }
    };
    for (family, value) in &COUNTS {
        all(family, &|row| value(&row.counts));
    }
    for (family, value) in &GAUGES {
        all(family, &|row| value(&row.gauges));
    }
    for (family, value) in &ROWS {
        all(family, value);
    }
    for (family, values) in &DURATIONS {
        out.begin(family);
        for row in &detail.histograms {
            out.histogram(family, &[&row.shard, &row.topic], values(&row.counts));
        }
    }
}

#[cfg(test)]
mod tests;
