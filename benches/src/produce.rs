//! Durable events a second through the whole path (client, TCP loopback, daemon, device) beside what the bare device
//! gives for the same bytes.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use hdrhistogram::Histogram;
use mofka_client::{BatchSize, Driver, ProducerOptions, TopicHandle, TopicOptions};
use mofka_log::Retention;

use crate::events::Events;
use crate::harness::{self, Machine, Sample, Side, cpu_time};
use crate::node::Node;
use crate::raw::{self, Limit, RawConfig, Syncs};

/// Per event beside its metadata: its entry in the table and the checksum of its data.
const TABLE_BYTES: u64 = 20;
const FRAME_HEADER_BYTES: u64 = 128;

#[derive(Args)]
pub(crate) struct ProduceArgs {
    /// Directory on the device to measure.
    #[arg(long, default_value = ".")]
    pub(crate) dir: PathBuf,
    /// Bytes of data in an event.
    #[arg(long, default_value_t = 1024)]
    pub(crate) data_bytes: u64,
    /// Bytes of metadata (JSON) in an event, about.
    #[arg(long, default_value_t = 128)]
    pub(crate) metadata_bytes: usize,
    /// Events of one turn with batches; one hundredth of it without.
    #[arg(long, default_value_t = 100_000)]
    pub(crate) events: u64,
    /// Batches of the producer under way.
    #[arg(long, default_value_t = 4)]
    pub(crate) batches: usize,
    /// Turns of each side; the median counts.
    #[arg(long, default_value_t = 5)]
    pub(crate) rounds: usize,
    /// Shards of the daemon.
    #[arg(long, default_value_t = 1)]
    pub(crate) shards: usize,
    /// Of `produce`: bytes that topics of batches took before they are measured; they keep half as many. Their files are used again then, as on a node
    /// that has run for a while, and as those of the raw side are. 0: each turn has a new topic, whose files grow.
    #[arg(long, default_value_t = 1 << 30)]
    pub(crate) filled_bytes: u64,
    /// Only the sides whose names contain this: for a profiler.
    #[arg(long)]
    pub(crate) only: Option<String>,
}

impl ProduceArgs {
    /// Measures what is asked for; the last side is the reference.
    fn compare(
        &self,
        title: &str,
        machine: &Machine,
        sides: Vec<Side<'_>>,
        json: bool,
    ) -> Result<(), String> {
        let reference = sides.last().map(|side| side.name.clone());
        let mut asked = sides;
        asked.retain(|side| self.asks_for(&side.name));
        if asked.is_empty() {
            return Ok(());
        }
        let series = harness::interleave(self.rounds, asked)?;
        harness::print(title, machine, &series, reference.as_deref(), json);
        if !json {
            println!();
        }
        Ok(())
    }

    fn asks_for(&self, side: &str) -> bool {
        self.only.as_ref().is_none_or(|only| side.contains(only))
    }

    /// Events of one turn when each waits for the one before.
    pub(crate) fn single_events(&self) -> u64 {
        (self.events / 100).max(10)
    }

    /// What is sent.
    pub(crate) fn content(&self) -> Result<Events, String> {
        let data_bytes = usize::try_from(self.data_bytes).map_err(|e| e.to_string())?;
        Ok(Events::new(self.metadata_bytes, data_bytes))
    }

    /// What a turn gave.
    pub(crate) fn sample(&self, events: u64, elapsed: Duration, latency_us: &Histogram<u64>) -> Sample {
        let per_second = events as f64 / elapsed.as_secs_f64();
        Sample {
            per_second,
            megabytes_per_second: per_second * (self.data_bytes + self.metadata_bytes as u64) as f64 / 1e6,
            p50_us: latency_us.value_at_quantile(0.5) as f64,
            p99_us: latency_us.value_at_quantile(0.99) as f64,
            cpu_us: 0.0,
            node_cpu_us: 0.0,
        }
    }
}

pub(crate) fn measure(args: &ProduceArgs, json: bool) -> Result<(), String> {
    let node = Node::start(&args.dir, args.shards)?;
    let driver = node.driver()?;
    let machine = Machine::here(&args.dir);
    let content = args.content()?;
    let latency = vec![
        Side::new("mofka, synced, 1 in flight".to_owned(), || {
            with_cpu(&node, args.single_events(), || {
                one_by_one(&driver, &content, args, args.single_events())
            })
        }),
        raw_side("raw write+sync", args, 1, 1),
    ];
    let title = "one event at a time: events/s and latency of a synced event over TCP loopback";
    args.compare(title, &machine, latency, json)?;
    for (name, batch_size, events) in [
        ("batches of 128", BatchSize::fixed(128), 128),
        ("batches of 1000", BatchSize::fixed(1000), 1000),
        ("adaptive batches", BatchSize::Adaptive, 1000),
    ] {
        let side = format!("mofka, synced, {name}");
        let topic = match args.asks_for(&side) {
            true => filled(&driver, &content, args, batch_size)?,
            false => None,
        };
        let sides = vec![
            Side::new(side, || {
                with_cpu(&node, args.events, || match &topic {
                    None => stream(&driver, &content, args, batch_size, args.events),
                    Some(topic) => append(topic, &content, args, batch_size, args.events),
                })
            }),
            raw_side(
                &format!("raw write+sync of {events} events"),
                args,
                events,
                args.batches,
            ),
        ];
        let title = format!(
            "one producer, one partition, up to {} batches under way: events/s over TCP loopback",
            args.batches
        );
        args.compare(&title, &machine, sides, json)?;
        if let Some(topic) = topic {
            driver.delete_topic(&topic.name()).map_err(|e| e.to_string())?;
        }
    }
    Ok(())
}

/// A topic whose files are used again.
fn filled(
    driver: &Driver,
    content: &Events,
    args: &ProduceArgs,
    batch_size: BatchSize,
) -> Result<Option<TopicHandle>, String> {
    if args.filled_bytes == 0 {
        return Ok(None);
    }
    let options = TopicOptions::new("filled").retention(Retention {
        bytes_max: Some(args.filled_bytes / 2),
        ..Retention::default()
    });
    let topic = driver.create_topic(options).map_err(|e| e.to_string())?;
    let events = args.filled_bytes / (args.data_bytes + args.metadata_bytes as u64).max(1);
    append(&topic, content, args, batch_size, events.max(1))?;
    Ok(Some(topic))
}

fn raw_side<'a>(name: &str, args: &'a ProduceArgs, events: u64, depth: usize) -> Side<'a> {
    let frame_bytes = FRAME_HEADER_BYTES + events * (TABLE_BYTES + args.metadata_bytes as u64);
    let config = RawConfig {
        directory: args.dir.clone(),
        data_bytes: events * args.data_bytes,
        meta_bytes: frame_bytes,
        depth,
        syncs: Syncs::Device,
        rings: 1,
        limit: Limit::Time(Duration::from_millis(500)),
    };
    let event_bytes = args.data_bytes + args.metadata_bytes as u64;
    Side::new(name.to_owned(), move || {
        let report = raw::run(&config).map_err(|e| e.to_string())?;
        let mut sample = Sample::from(&report);
        sample.per_second *= events as f64;
        sample.megabytes_per_second = sample.per_second * event_bytes as f64 / 1e6;
        sample.cpu_us /= events as f64;
        Ok(sample)
    })
}

/// Notes the CPU time of client and daemon for each event.
fn with_cpu(
    node: &Node,
    events: u64,
    turn: impl FnOnce() -> Result<Sample, String>,
) -> Result<Sample, String> {
    let spent = || node.cpu_time() + cpu_time();
    let before = spent();
    let mut sample = turn()?;
    sample.cpu_us = spent().saturating_sub(before).as_secs_f64() * 1e6 / events as f64;
    Ok(sample)
}

/// Every event waits for the one before it.
pub(crate) fn one_by_one(
    driver: &Driver,
    content: &Events,
    args: &ProduceArgs,
    events: u64,
) -> Result<Sample, String> {
    let topic = driver
        .create_topic(TopicOptions::new("bench"))
        .map_err(|e| e.to_string())?;
    let producer = topic.producer(ProducerOptions {
        batch_size: BatchSize::Adaptive,
        ..ProducerOptions::default()
    });
    let mut latency_us = Histogram::<u64>::new_with_max(60_000_000, 3).map_err(|e| e.to_string())?;
    let started = Instant::now();
    for text in content.metadata(events) {
        let one = Instant::now();
        let future = producer
            .push_slices(text, &[&content.data], None)
            .map_err(|e| e.to_string())?;
        future.wait().map_err(|e| e.to_string())?;
        latency_us.saturating_record(u64::try_from(one.elapsed().as_micros()).unwrap_or(u64::MAX));
    }
    let elapsed = started.elapsed();
    producer.close().map_err(|e| e.to_string())?;
    stored(&topic, events)?;
    driver.delete_topic("bench").map_err(|e| e.to_string())?;
    Ok(args.sample(events, elapsed, &latency_us))
}

/// Events as fast as they are taken; the time ends when the last one is durable.
pub(crate) fn stream(
    driver: &Driver,
    content: &Events,
    args: &ProduceArgs,
    batch_size: BatchSize,
    events: u64,
) -> Result<Sample, String> {
    let topic = driver
        .create_topic(TopicOptions::new("bench"))
        .map_err(|e| e.to_string())?;
    let sample = append(&topic, content, args, batch_size, events)?;
    driver.delete_topic("bench").map_err(|e| e.to_string())?;
    Ok(sample)
}

/// The same, behind what the topic has.
fn append(
    topic: &TopicHandle,
    content: &Events,
    args: &ProduceArgs,
    batch_size: BatchSize,
    events: u64,
) -> Result<Sample, String> {
    let before = synced_end(topic)?;
    let options = ProducerOptions {
        batch_size,
        max_num_batches: args.batches,
        ..ProducerOptions::default()
    };
    let producer = topic.producer(options);
    let started = Instant::now();
    for text in content.metadata(events) {
        producer
            .push_slices(text, &[&content.data], None)
            .map_err(|e| e.to_string())?;
    }
    let report = producer.close().map_err(|e| e.to_string())?;
    let elapsed = started.elapsed();
    if report.acknowledged != events {
        return Err(format!(
            "{} of {} events were acknowledged",
            report.acknowledged, events
        ));
    }
    stored(topic, before + events)?;
    Ok(args.sample(events, elapsed, &no_latency()?))
}

/// Fails unless so many events are durable.
fn stored(topic: &TopicHandle, events: u64) -> Result<(), String> {
    let stored = synced_end(topic)?;
    if stored == events {
        return Ok(());
    }
    Err(format!("{stored} of {events} events are stored"))
}

fn synced_end(topic: &TopicHandle) -> Result<u64, String> {
    let status = topic.partition_status(0).map_err(|e| e.to_string())?;
    Ok(status.synced_end)
}

/// Where only the rate is measured.
pub(crate) fn no_latency() -> Result<Histogram<u64>, String> {
    Histogram::new_with_max(60_000_000, 3).map_err(|e| e.to_string())
}
