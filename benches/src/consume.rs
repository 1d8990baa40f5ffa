//! All events of a partition from its start, with their data, over TCP loopback: out of memory, and from the device
//! beside what the bare device gives for the very same files.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use mofka_client::{
    BatchSize, ConsumerOptions, DataSelector, PartitionKind, ProducerOptions, Start, TopicHandle,
    TopicOptions,
};

use crate::events::metadata;
use crate::harness::{self, Machine, Sample, Side};
use crate::node::Node;
use crate::raw::read;

/// One direct read of the bare side.
const RAW_READ_BYTES: u64 = 1 << 20;

#[derive(Args)]
pub(crate) struct ConsumeArgs {
    /// Directory on the device to measure.
    #[arg(long, default_value = ".")]
    dir: PathBuf,
    /// Bytes of data in an event.
    #[arg(long, default_value_t = 1024)]
    data_bytes: usize,
    /// Bytes of metadata (JSON) in an event, about.
    #[arg(long, default_value_t = 128)]
    metadata_bytes: usize,
    /// Events of the partition; each turn consumes all of them. They must fit a memory partition (1 GiB by default).
    #[arg(long, default_value_t = 500_000)]
    events: u64,
    /// Events in a batch of the producer; 0: adaptive.
    #[arg(long, default_value_t = 0)]
    batch: u32,
    /// Turns of each side; the median counts.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Reads in flight of the bare side.
    #[arg(long, default_value_t = 4)]
    depth: usize,
    /// Only this side: memory, disk, raw (for profiles).
    #[arg(long)]
    only: Option<String>,
}

pub(crate) fn measure(args: &ConsumeArgs, json: bool) -> Result<(), String> {
    let node = Node::start(&args.dir, 1)?;
    let driver = node.driver()?;
    let machine = Machine::here(&args.dir);
    let wanted = |side: &str| args.only.as_deref().is_none_or(|only| only == side);
    let topic = |name: &str, kind: PartitionKind| -> Result<TopicHandle, String> {
        let topic = driver
            .create_topic(TopicOptions::new(name).partition_kind(kind))
            .map_err(|e| e.to_string())?;
        fill(&topic, args)?;
        Ok(topic)
    };
    let mut sides = Vec::new();
    if wanted("memory") {
        let topic = topic("memory", PartitionKind::Memory)?;
        sides.push(Side::new("mofka, from memory".to_owned(), move || {
            consume(&topic, args)
        }));
    }
    let reference = format!("raw direct reads of 1 MiB, depth {}", args.depth);
    if wanted("disk") || wanted("raw") {
        let topic = topic("disk", PartitionKind::Default)?;
        let files = node.segment_files()?;
        if wanted("disk") {
            sides.push(Side::new("mofka, from disk".to_owned(), move || {
                consume(&topic, args)
            }));
        }
        if wanted("raw") {
            sides.push(Side::new(reference.clone(), move || {
                let report = read::read(&files, RAW_READ_BYTES, args.depth).map_err(|e| e.to_string())?;
                // Files are longer than their content; what counts is how fast these events could come.
                let seconds = report.elapsed.as_secs_f64();
                Ok(sample(args, report.bytes as f64 / stored_bytes(args) / seconds))
            }));
        }
    }
    let series = harness::interleave(args.rounds, sides)?;
    let title = format!(
        "one consumer, one partition, {} events with all their data from the first on: events/s over TCP loopback",
        args.events
    );
    harness::print(&title, &machine, &series, Some(&reference), json);
    Ok(())
}

/// Bytes that an event takes on the device: data, metadata, its entry in the table, the checksum of its data.
fn stored_bytes(args: &ConsumeArgs) -> f64 {
    (args.data_bytes + args.metadata_bytes + 20) as f64
}

fn sample(args: &ConsumeArgs, per_second: f64) -> Sample {
    Sample {
        per_second,
        megabytes_per_second: per_second * (args.data_bytes + args.metadata_bytes) as f64 / 1e6,
        ..Sample::default()
    }
}

fn fill(topic: &TopicHandle, args: &ConsumeArgs) -> Result<(), String> {
    let producer = topic.producer(ProducerOptions {
        batch_size: BatchSize::fixed(args.batch),
        max_num_batches: 4,
        ..ProducerOptions::default()
    });
    let mut data = vec![7_u8; args.data_bytes];
    for n in 0..args.events {
        // The events differ, so that a mix-up would show.
        let stamp = n.to_le_bytes();
        let stamped = stamp.len().min(data.len());
        data[..stamped].copy_from_slice(&stamp[..stamped]);
        producer
            .push(metadata(args.metadata_bytes, n), data.as_slice(), None)
            .map_err(|e| e.to_string())?;
    }
    let report = producer.close().map_err(|e| e.to_string())?;
    if report.acknowledged == args.events {
        return Ok(());
    }
    Err(format!(
        "{} of {} events were acknowledged",
        report.acknowledged, args.events
    ))
}

fn consume(topic: &TopicHandle, args: &ConsumeArgs) -> Result<Sample, String> {
    let options = ConsumerOptions {
        start: Start::First,
        data_selector: DataSelector::all(),
        ..ConsumerOptions::default()
    };
    let started = Instant::now();
    let consumer = topic.consumer("bench", options).map_err(|e| e.to_string())?;
    let stamped = args.data_bytes.min(8);
    for n in 0..args.events {
        let pulled = consumer
            .pull()
            .wait_timeout(Duration::from_secs(20))
            .map_err(|e| e.to_string())?;
        let Some(Some(event)) = pulled else {
            return Err(format!("event {n} of {} did not come within 20 s", args.events));
        };
        let data = event
            .data()
            .segments()
            .first()
            .map(AsRef::as_ref)
            .unwrap_or_default();
        if event.id().get() != n
            || data.len() != args.data_bytes
            || data[..stamped] != n.to_le_bytes()[..stamped]
        {
            return Err(format!("event {n} came as event {} with other data", event.id()));
        }
    }
    let per_second = args.events as f64 / started.elapsed().as_secs_f64();
    consumer.close();
    Ok(sample(args, per_second))
}
