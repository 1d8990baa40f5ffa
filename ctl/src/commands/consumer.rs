//! `consumer list|seek`.

use serde_json::json;

use crate::cli::{ConsumerCommand, From};
use crate::failure::{Failure, Outcome};
use crate::node::{self, Place};
use crate::output::{Output, table};

pub(crate) fn run(command: ConsumerCommand, place: &Place, output: Output) -> Outcome {
    match command {
        ConsumerCommand::List { topic } => list(&topic, place, output),
        ConsumerCommand::Seek {
            topic,
            consumer,
            to,
            partition,
        } => {
            if to == From::Cursor {
                return Err(Failure::usage(
                    "a cursor can be moved to first, last, or an event id",
                ));
            }
            seek(
                &Seek {
                    topic,
                    consumer,
                    to,
                    partition,
                },
                place,
                output,
            )
        }
    }
}

struct Seek {
    topic: String,
    consumer: String,
    to: From,
    partition: Option<usize>,
}

fn list(topic: &str, place: &Place, output: Output) -> Outcome {
    let driver = node::connect(place)?;
    let consumers = driver.list_consumers(topic).map_err(node::failure)?;
    let rows: Vec<Vec<String>> = consumers
        .iter()
        .map(|c| {
            vec![
                c.consumer.clone(),
                c.index.to_string(),
                c.next_event_id.to_string(),
                c.lag.to_string(),
                c.connected.to_string(),
            ]
        })
        .collect();
    output.print(&node::to_json(&consumers)?, || {
        table(
            &["consumer", "partition", "next_event_id", "lag", "connected"],
            &rows,
        )
    })
}

fn seek(seek: &Seek, place: &Place, output: Output) -> Outcome {
    let driver = node::connect(place)?;
    let topic = driver.open_topic(&seek.topic).map_err(node::failure)?;
    let count = topic.partitions().len();
    let chosen: Vec<usize> = (0..count)
        .filter(|index| seek.partition.is_none_or(|wanted| wanted == *index))
        .collect();
    if chosen.is_empty() {
        let wanted = seek
            .partition
            .map_or_else(String::new, |index| format!(" {index}"));
        return Err(Failure::failed(format!(
            "topic {} has no partition{wanted}",
            topic.name()
        )));
    }
    let mut moved = Vec::new();
    for partition in chosen {
        let next = topic
            .seek(&seek.consumer, partition, node::start_at(seek.to))
            .map_err(node::failure)?;
        moved.push((partition, next));
    }
    let facts: Vec<_> = moved
        .iter()
        .map(|(index, next)| json!({"partition": index, "next_event_id": next}))
        .collect();
    output.print(&facts.into(), || {
        let lines = moved
            .iter()
            .map(|(index, next)| format!("partition {index}: next event id {next}"));
        lines.collect::<Vec<_>>().join("\n")
    })
}
