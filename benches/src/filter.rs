//! A consumer that wants one event in a hundred: the node looks at the metadata, or the consumer does.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use mofka_client::{
    ConsumerOptions, PartitionKind, Pattern, ProducerOptions, Start, TopicHandle, TopicOptions,
};
use serde_json::{Value, json};

use crate::harness::{self, Machine, Sample, Side};
use crate::node::Node;

/// One event in so many matches.
const ONE_IN: u64 = 100;

#[derive(Args)]
pub(crate) struct FilterArgs {
    /// Directory for the node; the partition is in memory, so that no device is measured.
    #[arg(long, default_value = ".")]
    dir: PathBuf,
    /// Events of the partition; each turn looks at all of them.
    #[arg(long, default_value_t = 300_000)]
    events: u64,
    /// Bytes of metadata (JSON) in an event, about.
    #[arg(long, default_value_t = 1024)]
    metadata_bytes: usize,
    /// Turns of each side; the median counts.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
}

pub(crate) fn measure(args: &FilterArgs, json: bool) -> Result<(), String> {
    let node = Node::start(&args.dir, 1)?;
    let driver = node.driver()?;
    let options = TopicOptions::new("filtered").partition_kind(PartitionKind::Memory);
    let topic = driver.create_topic(options).map_err(|e| e.to_string())?;
    let stored_bytes = fill(&topic, args)?;
    let patterns = [
        ("a text", json!({"class": ["calibration"]})),
        (
            "a number",
            json!({"energy": [{"numeric": [">=", 990, "<", 1000]}]}),
        ),
    ];
    let mut sides = Vec::new();
    let mut shares = Vec::new();
    for (what, pattern) in &patterns {
        let share = consume(&topic, args, pattern, true)? as f64 / stored_bytes as f64;
        shares.push(format!("by {what}: {:.2}%", 100.0 * share));
        for at_node in [true, false] {
            let side = if at_node { "at the node" } else { "at the consumer" };
            let (topic, pattern) = (topic.clone(), pattern.clone());
            sides.push(Side::new(format!("by {what}, {side}"), move || {
                let started = Instant::now();
                consume(&topic, args, &pattern, at_node)?;
                let per_second = args.events as f64 / started.elapsed().as_secs_f64();
                Ok(Sample {
                    per_second,
                    megabytes_per_second: per_second * args.metadata_bytes as f64 / 1e6,
                    ..Sample::default()
                })
            }));
        }
    }
    let series = harness::interleave(args.rounds, sides)?;
    let title = format!(
        "one event in {ONE_IN} of {} with {} bytes of metadata: events looked at per second, TCP loopback",
        args.events, args.metadata_bytes
    );
    for what in ["a text", "a number"] {
        let of_it: Vec<_> = series
            .iter()
            .filter(|series| series.name.starts_with(&format!("by {what}")))
            .cloned()
            .collect();
        harness::print(
            &title,
            &Machine::here(&args.dir),
            &of_it,
            Some(&format!("by {what}, at the consumer")),
            json,
        );
    }
    if !json {
        println!(
            "moved by a filter at the node, of the metadata's bytes: {}",
            shares.join(", ")
        );
    }
    Ok(())
}

/// As detectors and loggers write it: numbers, short texts, lists, and one long text.
fn metadata(bytes: usize, n: u64) -> String {
    let class = if n % ONE_IN == 7 { "calibration" } else { "physics" };
    let start = json!({
        "run": 4711, "n": n, "class": class, "energy": (n * 7919) % (10 * ONE_IN) , "time_us": 1_700_000_000_000_000_u64 + n * 13,
        "detector": {"name": "calorimeter", "side": if n.is_multiple_of(2) { "A" } else { "C" }, "temperature": 290.25 + (n % 10) as f64},
        "channels": [n % 64, (n + 17) % 64, (n + 31) % 64], "triggers": ["muon", "jet"], "good": true
    });
    let text = start.to_string();
    let line = "reconstruction: 3 clusters above threshold, 2 tracks matched, none vetoed; ";
    let rest = bytes.saturating_sub(text.len() + 12);
    let note: String = line.chars().cycle().take(rest).collect();
    format!("{},\"note\":\"{note}\"}}", &text[..text.len() - 1])
}

fn fill(topic: &TopicHandle, args: &FilterArgs) -> Result<u64, String> {
    let producer = topic.producer(ProducerOptions::default());
    let mut bytes = 0;
    for n in 0..args.events {
        let metadata = metadata(args.metadata_bytes, n);
        bytes += metadata.len() as u64;
        producer.push(metadata, "", None).map_err(|e| e.to_string())?;
    }
    let report = producer.close().map_err(|e| e.to_string())?;
    if report.acknowledged != args.events {
        return Err(format!("{report:?}"));
    }
    Ok(bytes)
}

/// Returns the bytes that came.
fn consume(topic: &TopicHandle, args: &FilterArgs, pattern: &Value, at_node: bool) -> Result<u64, String> {
    let options = ConsumerOptions {
        start: Start::First,
        filter: at_node.then(|| pattern.clone()),
        ..ConsumerOptions::default()
    };
    let consumer = topic.consumer("bench", options).map_err(|e| e.to_string())?;
    let parsed = Pattern::parse(pattern).map_err(|e| e.to_string())?;
    let wanted = args.events / ONE_IN;
    let pulls = if at_node { wanted } else { args.events };
    let mut matched = 0;
    for n in 0..pulls {
        let pulled = consumer
            .pull()
            .wait_timeout(Duration::from_secs(20))
            .map_err(|e| e.to_string())?;
        let Some(Some(event)) = pulled else {
            return Err(format!("event {n} of {pulls} did not come within 20 s"));
        };
        matched += u64::from(parsed.matches(event.metadata()));
    }
    if matched != wanted {
        return Err(format!(
            "{matched} of {} events matched instead of {wanted}",
            args.events
        ));
    }
    Ok(consumer.stats().feed_bytes)
}
