//! Durable events through the whole path (client, TCP loopback, server, device) beside other systems that sync before
//! they acknowledge: the same events, as many in flight, one connection each, turn about.
//!
//! The others get the cheapest clients that there are: what is sent was put together before the time begins, and a reply
//! is checked and forgotten. Mofka's is the one that programs use.

mod nats;
mod peer;
mod pipeline;
mod redis;

use std::time::Duration;

use clap::Args;
use mofka_client::BatchSize;
use serde_json::json;

use self::nats::{Nats, Publish};
use self::pipeline::{Measured, Work};
use self::redis::Redis;
use crate::harness::{self, Machine, Sample, Series, Side};
use crate::node::Node;
use crate::produce::{self, ProduceArgs};

#[derive(Args)]
pub(crate) struct CompareArgs {
    #[command(flatten)]
    produce: ProduceArgs,
    /// Events in a batch; several, with commas between.
    #[arg(long, value_delimiter = ',', default_value = "128,1000", value_parser = clap::value_parser!(u32).range(1..))]
    batch: Vec<u32>,
    /// Milliseconds of each turn, about: their rates differ a hundredfold, and all are to work for as long.
    #[arg(long, default_value_t = 1500, value_parser = clap::value_parser!(u64).range(1..))]
    turn_ms: u64,
}

/// Batches of the turn that says how many make up `turn_ms`, and that is not counted.
const FIRST_BATCHES: u64 = 100;

/// Rates of Mofka are to be so many times those of the others.
const RATE_GOAL: f64 = 10.0;

const MOFKA: &str = "mofka, synced";
const REDIS: &str = "redis, appendfsync always";
const NATS: &str = "nats, sync_interval always";
const NATS_ATOMIC: &str = "nats, the same, atomic batches";

/// One table: what is compared, and its sides.
struct Table {
    title: String,
    /// `None`: one event at a time.
    batch: Option<u32>,
    series: Vec<Series>,
}

pub(crate) fn measure(args: &CompareArgs, json: bool) -> Result<(), String> {
    let produce = &args.produce;
    let content = produce.content()?;
    let node = Node::start(&produce.dir, produce.shards)?;
    let driver = node.driver()?;
    let redis = Redis::start(&produce.dir)?;
    let nats = Nats::start(&produce.dir)?;
    // A peer that is not here is named, never passed over in silence.
    for (name, missing, install) in [
        ("redis", redis.is_none(), redis::INSTALL),
        ("nats", nats.is_none(), nats::INSTALL),
    ] {
        if missing {
            eprintln!(
                "SKIPPED: {name} is not installed ({}, or {install})",
                peer::INSTALL
            );
        }
    }
    let work = |batch: Option<u32>, events| Work {
        events,
        batch_events: batch.map_or(1, u64::from),
        in_flight: batch.map_or(1, |_| produce.batches),
    };
    let sample = |work: Work, measured: Measured| -> Result<Sample, String> {
        let latency_us = match work.batch_events {
            1 => measured.latency_us,
            _ => produce::no_latency()?,
        };
        Ok(produce.sample(work.events, measured.elapsed, &latency_us))
    };
    // All in one run: sides of all tables take turns.
    let works: Vec<Option<u32>> = [None]
        .into_iter()
        .chain(args.batch.iter().copied().map(Some))
        .collect();
    let mut sides = Vec::new();
    let mut counts = Vec::new();
    for batch in &works {
        let before = sides.len();
        let (content, driver) = (&content, &driver);
        let work = move |events| work(*batch, events);
        let side = |name: &str, turn| Side::new(name.to_owned(), turn);
        let timed = |turn| {
            for_about(
                Duration::from_millis(args.turn_ms),
                FIRST_BATCHES * work(0).batch_events,
                turn,
            )
        };
        sides.push(side(
            MOFKA,
            timed(Box::new(move |events| match *batch {
                None => produce::one_by_one(driver, content, produce, events),
                Some(size) => produce::stream(driver, content, produce, BatchSize::fixed(size), events),
            })),
        ));
        if let Some(redis) = &redis {
            sides.push(side(
                REDIS,
                timed(Box::new(move |events| {
                    sample(work(events), redis.work(content, work(events))?)
                })),
            ));
        }
        if let Some(nats) = &nats {
            let ways = [(NATS, Publish::Plain), (NATS_ATOMIC, Publish::Atomic)];
            // A batch of one event is nothing else than the event.
            for (name, publish) in ways.into_iter().take(if batch.is_none() { 1 } else { 2 }) {
                sides.push(side(
                    name,
                    timed(Box::new(move |events| {
                        sample(work(events), nats.work(content, work(events), publish)?)
                    })),
                ));
            }
        }
        counts.push(sides.len() - before);
    }
    let mut series = harness::interleave(produce.rounds, sides)?.into_iter();
    let tables = works.iter().zip(counts).map(|(batch, count)| Table {
        title: title(produce, *batch),
        batch: *batch,
        series: series.by_ref().take(count).collect(),
    });
    let tables: Vec<Table> = tables.collect();
    let machine = Machine::here(&produce.dir);
    for table in &tables {
        harness::print(&table.title, &machine, &table.series, Some(MOFKA), json);
        if !json {
            println!();
        }
    }
    print_standings(&tables, json);
    Ok(())
}

/// A turn of so many events that it takes about `time`: how many that are is found by a first one of `events`, which is
/// not counted.
fn for_about<'a>(
    time: Duration,
    events: u64,
    mut turn: Box<dyn FnMut(u64) -> Result<Sample, String> + 'a>,
) -> impl FnMut() -> Result<Sample, String> + 'a {
    let mut enough = None;
    move || {
        let events = match enough {
            Some(events) => events,
            None => {
                let rate = turn(events)?.per_second;
                *enough.insert(events.max((rate * time.as_secs_f64()) as u64))
            }
        };
        turn(events)
    }
}

fn title(args: &ProduceArgs, batch: Option<u32>) -> String {
    let event = format!("{} B metadata + {} B data", args.metadata_bytes, args.data_bytes);
    match batch {
        None => format!("one event at a time, {event}: events/s and latency over TCP loopback"),
        Some(batch) => format!(
            "batches of {batch}, up to {} in flight, {event}: events/s over TCP loopback",
            args.batches
        ),
    }
}

/// How Mofka stands to one other system.
#[derive(Debug, PartialEq)]
struct Standing {
    what: String,
    ratio: f64,
    goal: String,
    met: bool,
}

fn standings(table: &Table) -> Vec<Standing> {
    let Some(mofka) = table.series.iter().find(|series| series.name == MOFKA) else {
        return Vec::new();
    };
    let ours = mofka.median();
    let standing = |other: &Series| {
        let theirs = other.median();
        match table.batch {
            None => {
                let ratio = ours.p50_us / theirs.p50_us;
                Standing {
                    what: format!("p50 of one event, to that of {}", other.name),
                    ratio,
                    goal: "below 1".to_owned(),
                    met: ratio < 1.0,
                }
            }
            Some(batch) => {
                let ratio = ours.per_second / theirs.per_second;
                Standing {
                    what: format!("rate in batches of {batch}, to that of {}", other.name),
                    ratio,
                    goal: format!("at least {RATE_GOAL}"),
                    met: ratio >= RATE_GOAL,
                }
            }
        }
    };
    let others = table.series.iter().filter(|series| series.name != MOFKA);
    others.map(standing).collect()
}

fn print_standings(tables: &[Table], json: bool) {
    let title = "mofka to the others, by medians";
    let standings = tables.iter().flat_map(standings);
    if json {
        let rows = standings.map(|s| json!({"what": s.what, "ratio": s.ratio, "goal": s.goal, "met": s.met}));
        println!(
            "{}",
            json!({"title": title, "standings": rows.collect::<Vec<_>>()})
        );
        return;
    }
    println!("{title}");
    for one in standings {
        let met = if one.met { "met" } else { "NOT met" };
        println!("{:6.2}  {} ({}: {met})", one.ratio, one.what, one.goal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(batch: Option<u32>, sides: [(&str, f64, f64); 2]) -> Table {
        let series = sides.map(|(name, per_second, p50_us)| Series {
            name: name.to_owned(),
            samples: vec![Sample {
                per_second,
                p50_us,
                ..Sample::default()
            }],
        });
        Table {
            title: String::new(),
            batch,
            series: series.to_vec(),
        }
    }

    #[test]
    fn turns_are_as_long_as_their_rate_says() {
        let mut counts = Vec::new();
        let mut turn = for_about(
            Duration::from_millis(500),
            100,
            Box::new(|events| {
                counts.push(events);
                Ok(Sample {
                    per_second: 3000.0,
                    ..Sample::default()
                })
            }),
        );
        turn().unwrap();
        turn().unwrap();
        drop(turn);
        assert_eq!(counts, [100, 1500, 1500]);
    }

    #[test]
    fn rates_are_to_be_high_and_latencies_low() {
        for (batch, ours, theirs, expected) in [
            (Some(128), (500.0, 9.0), (50.0, 1.0), (10.0, true)),
            (Some(128), (499.0, 1.0), (50.0, 9.0), (9.98, false)),
            (None, (1.0, 100.0), (9.0, 200.0), (0.5, true)),
            (None, (9.0, 200.0), (1.0, 200.0), (1.0, false)),
        ] {
            let table = table(batch, [(MOFKA, ours.0, ours.1), (REDIS, theirs.0, theirs.1)]);
            let found: Vec<_> = standings(&table).iter().map(|s| (s.ratio, s.met)).collect();
            assert_eq!(found, [expected]);
        }
    }
}
