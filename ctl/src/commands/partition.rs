//! `partition add|move|list|describe`.

use mofka_client::{PartitionKind, PartitionOptions};
use mofka_net::control::{ConsumerInfo, PartitionStatus};
use serde_json::{Map, Value, json};

use crate::cli::{PartitionAddArgs, PartitionCommand};
use crate::commands::log::moving;
use crate::commands::status::{partitions_text, pin_text};
use crate::dotted::Dotted;
use crate::failure::{Failure, Outcome};
use crate::node::{self, Place};
use crate::output::{Output, bytes_text, table};

pub(crate) fn run(command: PartitionCommand, mut dotted: Dotted, place: &Place, output: Output) -> Outcome {
    match command {
        PartitionCommand::Add(args) => {
            let config = dotted.take("config")?;
            let dependencies = dotted.take("dependencies")?;
            dotted.expect_none_left()?;
            check_dependencies(&dependencies)?;
            add(&args, config, place, output)
        }
        PartitionCommand::Move(args) => {
            dotted.expect_none_left()?;
            moving::run(&args, output)
        }
        PartitionCommand::List { topic } => {
            dotted.expect_none_left()?;
            list(&topic, place, output)
        }
        PartitionCommand::Describe { topic, index } => {
            dotted.expect_none_left()?;
            describe(&topic, index, place, output)
        }
    }
}

/// The original's dependencies name pools and providers of a kind that a node here does not have. They are read, so that
/// its scripts run, and still refused where the original refuses them.
pub(crate) fn check_dependencies(dependencies: &Map<String, Value>) -> Outcome {
    let fine = |value: &Value| match value {
        Value::Array(list) => list.iter().all(Value::is_string),
        other => other.is_string(),
    };
    match dependencies.iter().find(|(_, value)| !fine(value)) {
        Some((name, value)) => Err(Failure::usage(format!(
            "invalid dependency specifications: --dependencies.{name} is {value}, and must be text"
        ))),
        None => Ok(()),
    }
}

fn add(args: &PartitionAddArgs, config: Map<String, Value>, place: &Place, output: Output) -> Outcome {
    let options = PartitionOptions {
        rank: args.rank,
        shard: args.shard,
        kind: kind(&args.kind)?,
        config: (!config.is_empty()).then_some(Value::Object(config)),
    };
    let driver = node::connect(place)?;
    let nodes = driver.num_servers();
    if usize::try_from(args.rank).map_or(true, |rank| rank >= nodes) {
        return Err(Failure::failed(format!(
            "invalid rank {} (should be lower than {nodes})",
            args.rank
        )));
    }
    let partition = driver
        .add_partition(&args.topic, options)
        .map_err(node::failure)?;
    // The original prints nothing here.
    output.print(&node::to_json(&partition)?, String::new)
}

/// The original's names of partition types.
fn kind(name: &str) -> Outcome<PartitionKind> {
    match name {
        // "legacy" promises nothing that a log does not keep.
        "default" | "legacy" => Ok(PartitionKind::Default),
        "memory" => Ok(PartitionKind::Memory),
        other => Err(Failure::usage(format!(
            "partition type {other:?} is none of default, memory, legacy"
        ))),
    }
}

fn list(topic: &str, place: &Place, output: Output) -> Outcome {
    let driver = node::connect(place)?;
    // An unknown topic is an error, not an empty list.
    let info = driver.open_topic(topic).map_err(node::failure)?;
    let nodes = driver.status().map_err(node::failure)?;
    let all = nodes.iter().flat_map(|node| node.partitions());
    let mut partitions: Vec<&PartitionStatus> = all.filter(|p| p.topic == info.name()).collect();
    partitions.sort_by_key(|p| p.info.index);
    output.print(&node::to_json(&partitions)?, || partitions_text(&partitions))
}

fn describe(topic: &str, index: usize, place: &Place, output: Output) -> Outcome {
    let driver = node::connect(place)?;
    let handle = driver.open_topic(topic).map_err(node::failure)?;
    let status = handle.partition_status(index).map_err(node::failure)?;
    let mut consumers = driver.list_consumers(topic).map_err(node::failure)?;
    consumers.retain(|consumer| consumer.partition == status.info.id);
    let facts = json!({"partition": node::to_json(&status)?, "consumers": node::to_json(&consumers)?});
    output.print(&facts, || text(&status, &consumers))
}

fn text(status: &PartitionStatus, consumers: &[ConsumerInfo]) -> String {
    let info = &status.info;
    let mut lines = vec![
        format!("partition   {} of {} ({})", info.index, status.topic, info.id),
        format!("type        {}", node::word(&info.kind)),
        format!(
            "where       rank {}, shard {}, {}",
            info.rank,
            info.shard,
            info.addresses.join(" ")
        ),
        match &status.reason {
            Some(reason) => format!("state       {}: {reason}", node::word(&status.state)),
            None => format!("state       {}", node::word(&status.state)),
        },
        format!("complete    {}", if info.complete { "yes" } else { "no" }),
        format!(
            "events      {}: {} to {} (ends are not included); consumers see up to {}, durable are up to {}",
            status.events, status.trim_end, status.appended_end, status.visible_end, status.synced_end
        ),
        format!("used        {}", bytes_text(status.bytes)),
        format!("opened      {}", status.verdict),
    ];
    for pin in &status.pins {
        lines.push(pin_text(pin));
    }
    if !consumers.is_empty() {
        let row = |c: &ConsumerInfo| {
            let numbers = [c.next_event_id, c.lag, u64::from(c.connected)];
            std::iter::once(c.consumer.clone())
                .chain(numbers.map(|n| n.to_string()))
                .collect()
        };
        let rows: Vec<Vec<String>> = consumers.iter().map(row).collect();
        lines.extend([
            String::new(),
            table(&["consumer", "next_event_id", "lag", "connected"], &rows),
        ]);
    }
    lines.join("\n")
}
