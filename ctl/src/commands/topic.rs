//! `topic create|list|describe|alter|delete|complete`.

use mofka_client::{Durability, Retention, TopicOptions};
use mofka_net::control::TopicInfo;
use serde_json::{Map, Value, json};

use crate::cli::{DurabilityName, TopicCommand, TopicCreateArgs};
use crate::dotted::Dotted;
use crate::failure::{Failure, Outcome};
use crate::node::{self, Place};
use crate::output::{Output, table};
use crate::retention;

pub(crate) fn run(command: TopicCommand, dotted: Dotted, place: &Place, output: Output) -> Outcome {
    let request = match &command {
        TopicCommand::Create(args) => Some(create_request(args, dotted)?),
        _ => dotted.expect_none_left().map(|()| None)?,
    };
    if let TopicCommand::Alter(args) = &command
        && args.retention.is_empty()
    {
        return Err(Failure::usage(
            "nothing to alter: give one of --retention-bytes, --retention-age, --retention-acknowledged, \
             --retention-keep-unacknowledged",
        ));
    }
    let driver = node::connect(place)?;
    match (command, request) {
        (TopicCommand::Create(_), Some(request)) => {
            let topic = driver.create_topic(request).map_err(node::failure)?.info();
            // The original prints nothing here, and scripts may compare.
            output.print(&node::to_json(topic.as_ref())?, String::new)
        }
        (TopicCommand::Create(_), None) => Ok(()),
        (TopicCommand::List, _) => {
            let topics = driver.list_topics().map_err(node::failure)?;
            output.print(&node::to_json(&topics)?, || {
                topics
                    .iter()
                    .map(|topic| topic.name.as_str())
                    .collect::<Vec<_>>()
                    .join("\n")
            })
        }
        (TopicCommand::Describe { name }, _) => {
            let topic = driver.open_topic(&name).map_err(node::failure)?.info();
            output.print(&node::to_json(topic.as_ref())?, || text(&topic))
        }
        (TopicCommand::Alter(args), _) => {
            let topic = driver.open_topic(&args.name).map_err(node::failure)?;
            let policy = args.retention.over(topic.info().retention.clone());
            topic.set_retention(policy).map_err(node::failure)?;
            let info = topic.info();
            output.print(&node::to_json(info.as_ref())?, || {
                format!("retention  {}", retention::text(&info.retention))
            })
        }
        (TopicCommand::Delete { name, force }, _) => {
            let deleted = match force {
                true => driver.delete_topic_by_force(&name),
                false => driver.delete_topic(&name),
            };
            deleted.map_err(node::failure)?;
            output.print(&json!({ "deleted": name }), String::new)
        }
        (TopicCommand::Complete { name, partition }, _) => {
            let topic = driver.open_topic(&name).map_err(node::failure)?;
            let (completed, answer) = match partition {
                None => (topic.mark_complete(), json!({ "completed": name })),
                Some(index) => (
                    topic.mark_partition_complete(index),
                    json!({ "completed": name, "partition": index }),
                ),
            };
            completed.map_err(node::failure)?;
            output.print(&answer, String::new)
        }
    }
}

fn create_request(args: &TopicCreateArgs, mut dotted: Dotted) -> Outcome<TopicOptions> {
    let validator = component(&args.validator, dotted.take("validator")?);
    let partition_selector = component(&args.partition_selector, dotted.take("partition-selector")?);
    let serializer = component(&args.serializer, dotted.take("serializer")?);
    dotted.expect_none_left()?;
    Ok(TopicOptions {
        durability: Some(match args.durability {
            DurabilityName::Synced => Durability::Synced,
            DurabilityName::Written => Durability::Written,
            DurabilityName::Buffered => Durability::Buffered,
        }),
        validator: Some(validator),
        partition_selector: Some(partition_selector),
        serializer: Some(serializer),
        retention: (!args.retention.is_empty()).then(|| args.retention.over(Retention::default())),
        producers_expected: args.producers,
        ..TopicOptions::new(&args.name).partitions(args.partitions)
    })
}

/// A component's document: its options, and its name as `type`.
fn component(name: &str, mut options: Map<String, Value>) -> Value {
    options.insert("type".to_owned(), name.into());
    Value::Object(options)
}

fn text(topic: &TopicInfo) -> String {
    let mut lines = vec![
        format!("topic               {} ({})", topic.name, topic.id),
        format!("durability          {}", node::word(&topic.durability)),
        format!("validator           {}", topic.validator),
        format!("partition selector  {}", topic.partition_selector),
        format!("serializer          {}", topic.serializer),
        format!(
            "complete            {}",
            if topic.complete { "yes" } else { "no" }
        ),
        format!("retention           {}", retention::text(&topic.retention)),
        match topic.producers_expected {
            0 => "producers           not counted".to_owned(),
            expected => format!(
                "producers           {} of {expected} are done",
                topic.producers_done
            ),
        },
        format!("partitions          {}", topic.partitions.len()),
    ];
    let rows: Vec<Vec<String>> = topic
        .partitions
        .iter()
        .map(|p| {
            let addresses = p.addresses.join(" ");
            vec![
                p.index.to_string(),
                node::word(&p.kind),
                p.rank.to_string(),
                p.shard.to_string(),
                p.id.to_string(),
                addresses,
            ]
        })
        .collect();
    if !rows.is_empty() {
        lines.push(String::new());
        lines.push(table(
            &["index", "type", "rank", "shard", "id", "addresses"],
            &rows,
        ));
    }
    lines.join("\n")
}
