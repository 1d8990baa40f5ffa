//! `consumer list|describe|lag|seek|delete`.

use std::collections::BTreeMap;

use mofka_client::{Driver, TopicHandle};
use mofka_net::control::ConsumerInfo;
use serde_json::{Value, json};

use crate::cli::{ConsumerCommand, From, LagArgs};
use crate::failure::{Failure, Outcome};
use crate::node::{self, Place};
use crate::output::{Output, table};
use crate::suggest;

pub(crate) fn run(command: ConsumerCommand, place: &Place, output: Output) -> Outcome {
    if let ConsumerCommand::Seek { to: From::Cursor, .. } = command {
        return Err(Failure::usage(
            "a cursor can be moved to first, last, an event id, or @TIME",
        ));
    }
    let driver = node::connect(place)?;
    match command {
        ConsumerCommand::List { topic } => list(&topic, &driver, output),
        ConsumerCommand::Describe { topic, consumer } => describe(&topic, &consumer, &driver, output),
        ConsumerCommand::Lag(args) => lag(&args, &driver, output),
        ConsumerCommand::Seek {
            topic,
            consumer,
            to,
            partition,
        } => {
            let topic = driver.open_topic(&topic).map_err(node::failure)?;
            seek(&topic, &consumer, to, &chosen(&topic, partition)?, output)
        }
        ConsumerCommand::Delete {
            topic,
            consumer,
            partition,
        } => {
            let known = of_consumer(&topic, &consumer, &driver)?;
            let topic = driver.open_topic(&topic).map_err(node::failure)?;
            let chosen = chosen(&topic, partition)?;
            delete(&topic, &consumer, &known, &chosen, output)
        }
    }
}

fn list(topic: &str, driver: &Driver, output: Output) -> Outcome {
    let consumers = driver.list_consumers(topic).map_err(node::failure)?;
    let row = |c: &ConsumerInfo| {
        let mut row = cells(c);
        row.insert(0, c.consumer.clone());
        row
    };
    let rows: Vec<Vec<String>> = consumers.iter().map(row).collect();
    output.print(&node::to_json(&consumers)?, || {
        table(
            &["consumer", "partition", "next_event_id", "lag", "connected"],
            &rows,
        )
    })
}

fn cells(c: &ConsumerInfo) -> Vec<String> {
    let connected = u64::from(c.connected);
    [u64::from(c.index), c.next_event_id, c.lag, connected]
        .map(|n| n.to_string())
        .to_vec()
}

/// What is known of a consumer in each partition; an unknown one is an error.
fn of_consumer(topic: &str, consumer: &str, driver: &Driver) -> Outcome<Vec<ConsumerInfo>> {
    let all = driver.list_consumers(topic).map_err(node::failure)?;
    let (found, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|known| known.consumer == consumer);
    if found.is_empty() {
        let hint = suggest::best(consumer, others.iter().map(|other| other.consumer.as_str()))
            .map_or_else(String::new, |name| format!("; did you mean \"{name}\"?"));
        return Err(Failure::failed(format!(
            "topic \"{topic}\" has no consumer \"{consumer}\": it has acknowledged nothing, and does not read now{hint}"
        )));
    }
    Ok(found)
}

fn describe(topic: &str, consumer: &str, driver: &Driver, output: Output) -> Outcome {
    let found = of_consumer(topic, consumer, driver)?;
    let lag: u64 = found.iter().map(|c| c.lag).fold(0, u64::saturating_add);
    let connected: u64 = found.iter().map(|c| u64::from(c.connected)).sum();
    let of_partition = |c: &ConsumerInfo| {
        json!({
            "index": c.index, "partition": c.partition, "next_event_id": c.next_event_id,
            "visible_end": c.next_event_id.saturating_add(c.lag), "lag": c.lag, "connected": c.connected,
        })
    };
    let facts = json!({
        "topic": topic, "consumer": consumer, "lag": lag, "connected": connected,
        "partitions": found.iter().map(of_partition).collect::<Vec<_>>(),
    });
    output.print(&facts, || {
        let rows: Vec<Vec<String>> = found.iter().map(cells).collect();
        let heads = ["partition", "next_event_id", "lag", "connected"];
        format!(
            "consumer   {consumer} of {topic}\nlag        {lag} events\nconnected  {connected}\n\n{}",
            table(&heads, &rows)
        )
    })
}

/// A consumer in all partitions together.
#[derive(Default)]
struct Total {
    lag: u64,
    lag_max: u64,
    connected: u64,
    partitions: u64,
}

fn lag(args: &LagArgs, driver: &Driver, output: Output) -> Outcome {
    let found = match &args.consumer {
        Some(consumer) => of_consumer(&args.topic, consumer, driver)?,
        None => driver.list_consumers(&args.topic).map_err(node::failure)?,
    };
    let mut totals = BTreeMap::<&str, Total>::new();
    for c in &found {
        let total = totals.entry(&c.consumer).or_default();
        total.lag = total.lag.saturating_add(c.lag);
        total.lag_max = total.lag_max.max(c.lag);
        total.connected += u64::from(c.connected);
        total.partitions += 1;
    }
    let facts = totals.iter().map(|(name, total)| {
        json!({
            "consumer": name, "lag": total.lag, "partition_lag_max": total.lag_max, "partitions": total.partitions,
            "connected": total.connected,
        })
    });
    output.print(&facts.collect::<Value>(), || {
        let row = |(name, total): (&&str, &Total)| {
            let numbers = [total.lag, total.lag_max, total.partitions, total.connected];
            std::iter::once((*name).to_owned())
                .chain(numbers.map(|n| n.to_string()))
                .collect()
        };
        let rows: Vec<Vec<String>> = totals.iter().map(row).collect();
        table(&["consumer", "lag", "largest", "partitions", "connected"], &rows)
    })?;
    let behind = |max: u64| totals.iter().find(move |(_, total)| total.lag > max);
    match args.max.and_then(|max| Some((max, behind(max)?))) {
        Some((max, (name, total))) => Err(Failure::check(format!(
            "consumer \"{name}\" has {} events to acknowledge, more than {max}",
            total.lag
        ))),
        None => Ok(()),
    }
}

/// The partitions that the command line means.
fn chosen(topic: &TopicHandle, partition: Option<usize>) -> Outcome<Vec<usize>> {
    let count = topic.partitions().len();
    let chosen: Vec<usize> = (0..count)
        .filter(|index| partition.is_none_or(|wanted| wanted == *index))
        .collect();
    if chosen.is_empty() {
        return Err(node::no_partition(topic, partition));
    }
    Ok(chosen)
}

fn seek(topic: &TopicHandle, consumer: &str, to: From, partitions: &[usize], output: Output) -> Outcome {
    if let From::Id(id) = to {
        check_ends(topic, id, partitions)?;
    }
    let mut moved: Vec<(&usize, u64)> = Vec::new();
    for partition in partitions {
        match topic.seek(consumer, *partition, node::start_at(to)) {
            Ok(next) => moved.push((partition, next)),
            Err(error) => {
                let done: Vec<String> = moved.iter().map(|(index, _)| index.to_string()).collect();
                let done = match done.as_slice() {
                    [] => String::new(),
                    done => format!(" (the cursor was moved in partition {} already)", done.join(", ")),
                };
                return Err(node::failure(error).while_doing(format!("partition {partition}{done}")));
            }
        }
    }
    let facts = moved
        .iter()
        .map(|(index, next)| json!({"partition": index, "next_event_id": next}));
    output.print(&facts.collect(), || {
        let lines = moved
            .iter()
            .map(|(index, next)| format!("partition {index}: next event id {next}"));
        lines.collect::<Vec<_>>().join("\n")
    })
}

/// Looks whether all partitions have this place, before a cursor is moved in any. Ends only grow.
fn check_ends(topic: &TopicHandle, id: u64, partitions: &[usize]) -> Outcome {
    let mut short = Vec::new();
    for partition in partitions {
        let status = topic.partition_status(*partition).map_err(node::failure)?;
        if status.visible_end < id {
            short.push(format!("partition {partition} at {}", status.visible_end));
        }
    }
    match short.as_slice() {
        [] => Ok(()),
        short => Err(Failure::failed(format!(
            "cannot seek to {id}, and no cursor was moved: the visible events of {} end before; --partition moves it in one",
            short.join(", of ")
        ))),
    }
}

fn delete(
    topic: &TopicHandle,
    consumer: &str,
    known: &[ConsumerInfo],
    partitions: &[usize],
    output: Output,
) -> Outcome {
    let is_known = |index: &usize| known.iter().find(|c| usize::try_from(c.index) == Ok(*index));
    let mut forgotten = Vec::new();
    for (index, cursor) in partitions
        .iter()
        .filter_map(|index| Some((*index, is_known(index)?)))
    {
        topic.forget_consumer(consumer, index).map_err(node::failure)?;
        forgotten.push((index, cursor.next_event_id));
    }
    if forgotten.is_empty() {
        return Err(Failure::failed(format!(
            "consumer \"{consumer}\" has no cursor in partition {}",
            partitions
                .iter()
                .map(usize::to_string)
                .collect::<Vec<_>>()
                .join(", ")
        )));
    }
    let facts = forgotten
        .iter()
        .map(|(index, next)| json!({"partition": index, "next_event_id": next}));
    let facts = json!({"topic": topic.name(), "deleted": consumer, "partitions": facts.collect::<Vec<_>>()});
    output.print(&facts, || {
        let lines = forgotten
            .iter()
            .map(|(index, next)| format!("partition {index}: the cursor at event {next} is forgotten"));
        lines.collect::<Vec<_>>().join("\n")
    })
}
