//! `status`: what the node says about itself.

use mofka_log::PartitionKind;
use mofka_net::control::{NodeStatus, PartitionState, PartitionStatus, PinStatus};

use crate::failure::{Failure, Outcome};
use crate::node::{self, Place};
use crate::output::{Output, bytes_text, table};

pub(crate) fn run(place: &Place, output: Output) -> Outcome {
    let status = node::status(place)?;
    output.print(&node::to_json(&status)?, || text(&status))?;
    let unwell = status
        .partitions()
        .filter(|p| p.state != PartitionState::Open)
        .count();
    if unwell > 0 {
        return Err(Failure::check(format!(
            "{unwell} partitions are not well: see above"
        )));
    }
    Ok(())
}

fn text(status: &NodeStatus) -> String {
    let mut lines = vec![
        format!(
            "node      {} (rank {}, version {}, pid {})",
            status.node, status.rank, status.version, status.pid
        ),
        format!("up        {} s", status.uptime_ms / 1000),
        format!(
            "data      {} ({})",
            status.data_dir,
            if status.direct_io {
                "direct I/O"
            } else {
                "buffered I/O"
            }
        ),
        format!("topics    {}", status.topics),
    ];
    if let Some(monitoring) = &status.monitoring {
        lines.push(format!(
            "metrics   {monitoring}/metrics; status page {monitoring}/"
        ));
    }
    let of_memory = |p: &PartitionStatus| p.info.kind == PartitionKind::Memory;
    // Older nodes do not say.
    let is_told = status.memory.max_bytes.is_some() || status.memory.used_bytes > 0;
    if is_told && status.partitions().any(of_memory) {
        let max = status
            .memory
            .max_bytes
            .map(|max| format!(" of {}", bytes_text(max)));
        lines.push(format!(
            "memory    {}{} in memory partitions",
            bytes_text(status.memory.used_bytes),
            max.unwrap_or_default()
        ));
    }
    for shard in &status.shards {
        let addresses = shard.addresses.join(" ");
        lines.push(format!(
            "shard {}   {} connections, {addresses}",
            shard.shard, shard.connections
        ));
        let rings = &shard.rings;
        if rings.opened_count > 0 || rings.refused_count > 0 {
            lines.push(format!(
                "  rings   {} in shared memory ({}), {} frames in, {} out; {} refused",
                rings.attached_count,
                bytes_text(rings.attached_bytes),
                rings.received_count,
                rings.sent_count,
                rings.refused_count
            ));
        }
    }
    let partitions: Vec<&PartitionStatus> = status.partitions().collect();
    if !partitions.is_empty() {
        lines.push(String::new());
        lines.push(partitions_text(&partitions));
    }
    lines.join("\n")
}

/// A table of partitions, then the reason of each that is not well.
pub(crate) fn partitions_text(partitions: &[&PartitionStatus]) -> String {
    let mut sorted = partitions.to_vec();
    sorted.sort_by(|a, b| (&a.topic, a.info.index).cmp(&(&b.topic, b.info.index)));
    let row = |p: &&PartitionStatus| {
        vec![
            p.topic.clone(),
            p.info.index.to_string(),
            node::word(&p.info.kind),
            p.info.shard.to_string(),
            node::word(&p.state),
            p.events.to_string(),
            p.trim_end.to_string(),
            p.synced_end.to_string(),
            bytes_text(p.bytes),
        ]
    };
    let heads = [
        "topic",
        "index",
        "type",
        "shard",
        "state",
        "events",
        "trim_end",
        "synced_end",
        "used",
    ];
    let mut text = table(&heads, &sorted.iter().map(row).collect::<Vec<_>>());
    for p in sorted {
        for pin in &p.pins {
            text.push_str(&format!("\n{} {}: {}", p.topic, p.info.index, pin_text(pin)));
        }
        if let Some(reason) = &p.reason {
            text.push_str(&format!(
                "\n{} {}: {}: {reason}",
                p.topic,
                p.info.index,
                node::word(&p.state)
            ));
        }
    }
    text
}

/// What refers to a partition's data.
pub(crate) fn pin_text(pin: &PinStatus) -> String {
    let by = match (&pin.topic, pin.index) {
        (Some(topic), Some(index)) => format!("{topic} {index}"),
        _ => format!("partition {}, which was deleted", pin.partition),
    };
    format!(
        "events from {} on are kept for {by}, which refers to them",
        pin.first_event_id
    )
}
