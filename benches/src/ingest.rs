//! Large durable events of a producer on the node's machine, beside the bare device that is given the same bytes.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Args;
use mofka_client::{BatchSize, Driver, ProducerOptions, Retention, TopicHandle, TopicOptions};

use crate::bytes_text;
use crate::harness::{self, Machine, Sample, Side, cpu_time};
use crate::node::{Listen, Node};
use crate::raw::{self, Limit, RawConfig, Syncs};

#[derive(Args)]
pub(crate) struct IngestArgs {
    /// Directory on the device to measure.
    #[arg(long, default_value = ".")]
    dir: PathBuf,
    /// Bytes of data in an event; several, with commas between.
    #[arg(long, value_delimiter = ',', default_value = "65536,1048576")]
    data_bytes: Vec<u64>,
    /// Batches of the producer, or commits of the bare device, under way.
    #[arg(long, default_value_t = 4)]
    batches: usize,
    /// Milliseconds of each turn, about.
    #[arg(long, default_value_t = 1000)]
    turn_ms: u64,
    /// Turns of each side; the median counts.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Bytes that a topic keeps. From there on the files of old segments are used again; before, room has to be made by writing
    /// zeros, which is as much again. The bare device has its room from the beginning. 0: everything is kept, in new files each turn.
    #[arg(long, default_value_t = 512 << 20)]
    retention_bytes: u64,
}

pub(crate) fn measure(args: &IngestArgs, json: bool) -> Result<(), String> {
    let machine = Machine::here(&args.dir);
    let local = Node::start_on(&args.dir, 1, Listen::Unix)?;
    let remote = Node::start_on(&args.dir, 1, Listen::Tcp)?;
    let drivers = [
        ("shared memory", &local, local.driver()?),
        ("Unix socket", &local, local.driver_over_sockets()?),
        ("TCP", &remote, remote.driver_over_sockets()?),
    ];
    for data_bytes in &args.data_bytes {
        let data = Bytes::from(vec![7; usize::try_from(*data_bytes).map_err(|e| e.to_string())?]);
        let mut sides = Vec::new();
        for (way, node, driver) in &drivers {
            for (size, how) in [
                (BatchSize::fixed(1), "an event a batch"),
                (BatchSize::Adaptive, "adaptive batches"),
            ] {
                let data = data.clone();
                // Of the turns so far.
                let mut topic: Option<TopicHandle> = None;
                sides.push(Side::new(format!("{way}, {how}"), move || {
                    let kept = match topic.take() {
                        Some(kept) => kept,
                        None => warmed_up(args, driver, &data)?,
                    };
                    let sample = turn(args, node, &kept, &data, size)?;
                    if args.retention_bytes > 0 {
                        topic = Some(kept);
                    } else {
                        driver.delete_topic(&kept.name()).map_err(|e| e.to_string())?;
                    }
                    Ok(sample)
                }));
            }
        }
        let mut reference = String::new();
        for syncs in [Syncs::Linked, Syncs::Shared, Syncs::Device] {
            let config = RawConfig {
                directory: args.dir.clone(),
                data_bytes: *data_bytes,
                meta_bytes: 4096,
                depth: args.batches,
                syncs,
                rings: 1,
                limit: Limit::Time(Duration::from_millis(args.turn_ms)),
            };
            reference = format!("raw, an event a commit, syncs {syncs:?}");
            sides.push(Side::new(reference.clone(), move || raw::sample(&config)));
        }
        let series = harness::interleave(args.rounds, sides)?;
        let title = format!(
            "synced events of {} from one producer, one shard, up to {} batches under way: events/s",
            bytes_text(*data_bytes),
            args.batches
        );
        harness::print(&title, &machine, &series, Some(&reference), json);
        if !json {
            println!();
        }
    }
    Ok(())
}

/// A topic that has as much as it keeps, and half as much again.
fn warmed_up(args: &IngestArgs, driver: &Driver, data: &Bytes) -> Result<TopicHandle, String> {
    static TOPICS: AtomicU64 = AtomicU64::new(0);
    let name = format!("ingest-{}", TOPICS.fetch_add(1, Ordering::Relaxed));
    let mut options = TopicOptions::new(&name);
    if args.retention_bytes > 0 {
        options = options.retention(Retention {
            bytes_max: Some(args.retention_bytes),
            ..Retention::default()
        });
    }
    let topic = driver.create_topic(options).map_err(|e| e.to_string())?;
    let producer = topic.producer(ProducerOptions::default());
    for _ in 0..(args.retention_bytes * 3 / 2).div_ceil(data.len() as u64) {
        producer
            .push("{}", data.clone(), None)
            .map_err(|e| e.to_string())?;
    }
    let report = producer.close().map_err(|e| e.to_string())?;
    match report.failed {
        0 => Ok(topic),
        _ => Err(format!("{report:?}")),
    }
}

fn turn(
    args: &IngestArgs,
    node: &Node,
    topic: &TopicHandle,
    data: &Bytes,
    batch_size: BatchSize,
) -> Result<Sample, String> {
    let producer = topic.producer(ProducerOptions {
        batch_size,
        max_num_batches: args.batches,
        ..ProducerOptions::default()
    });
    let (own, nodes) = (cpu_time(), node.cpu_time());
    let started = Instant::now();
    while started.elapsed() < Duration::from_millis(args.turn_ms) {
        producer
            .push("{\"frame\":1}", data.clone(), None)
            .map_err(|e| e.to_string())?;
    }
    let report = producer.close().map_err(|e| e.to_string())?;
    let elapsed = started.elapsed();
    let (own, nodes) = (
        cpu_time().saturating_sub(own),
        node.cpu_time().saturating_sub(nodes),
    );
    if report.failed > 0 {
        return Err(format!("{report:?}"));
    }
    let per_second = report.acknowledged as f64 / elapsed.as_secs_f64();
    let each = |cpu: Duration| cpu.as_secs_f64() * 1e6 / report.acknowledged as f64;
    Ok(Sample {
        per_second,
        megabytes_per_second: per_second * data.len() as f64 / 1e6,
        cpu_us: each(own),
        node_cpu_us: each(nodes),
        ..Sample::default()
    })
}
