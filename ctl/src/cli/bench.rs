//! The command line of `bench`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::DurabilityName;

const PRODUCE_MEANING: &str = "\
Each producer pushes as fast as it may, so a latency here is mostly the wait behind what was pushed before: for the latency at
a rate that you choose, see bench roundtrip.";

const CONSUME_MEANING: &str = "\
The topic is filled first, unless --topic names one that has events. What was stored last comes from the node's memory. A latency
here is how long a pull waits for its event.";

const ROUNDTRIP_MEANING: &str = "\
Events are pushed by a schedule, --rate of them a second, and a consumer in this process notes when each comes. A latency begins
when its event was to be pushed, not when it was: while the node, or this program, makes the schedule late, the events that wait
count their wait too (no coordinated omission). What is counted from the real push on is told as well (uncorrected).";

#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// How many events a second the node takes from producers.
    #[command(after_help = PRODUCE_MEANING)]
    Produce(BenchProduceArgs),
    /// How many events a second a consumer gets.
    #[command(after_help = CONSUME_MEANING)]
    Consume(BenchConsumeArgs),
    /// How long events take from a producer to a consumer.
    #[command(after_help = ROUNDTRIP_MEANING)]
    Roundtrip(BenchRoundtripArgs),
}

/// A length of time that is not 0, with a unit.
fn duration(text: &str) -> Result<Duration, String> {
    match crate::measure::milliseconds(text)? {
        0 => Err("0 is no length of time".to_owned()),
        ms => Ok(Duration::from_millis(ms)),
    }
}

fn duration_or_none(text: &str) -> Result<Duration, String> {
    match text {
        "0" => Ok(Duration::ZERO),
        text => crate::measure::milliseconds(text).map(Duration::from_millis),
    }
}

/// What is moved, and through which topic.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// Topic to use, which is there and stays [default: one is made, and deleted at the end]
    #[arg(long, value_name = "NAME", conflicts_with_all = ["partitions", "durability", "keep"])]
    pub(crate) topic: Option<String>,
    /// Keep the topic that was made.
    #[arg(long)]
    pub(crate) keep: bool,
    /// Partitions of the topic that is made.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) partitions: u32,
    /// When events of the topic that is made are acknowledged.
    #[arg(long, value_name = "WHEN", default_value = "synced")]
    pub(crate) durability: DurabilityName,
    /// Bytes of each event's metadata.
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u32).range(80..=1_000_000))]
    pub(crate) metadata_bytes: u32,
    /// Bytes of each event's data: a number, or with a unit, as in 64KiB.
    #[arg(long, value_name = "SIZE", default_value = "1KiB", value_parser = crate::measure::bytes)]
    pub(crate) data_bytes: u64,
    /// Events in a batch [default: adaptive]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) batch_size: Option<u32>,
    /// Producers, each with a thread and a connection to each partition's shard.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(crate) producers: u32,
    /// Batches of a producer that may wait for their answer, for each partition.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) in_flight: u32,
    /// File for the latencies as a log of HdrHistogram (V2); FILE.percentiles has them as text.
    #[arg(long, value_name = "FILE")]
    pub(crate) hdr: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct BenchProduceArgs {
    #[command(flatten)]
    pub(crate) bench: BenchArgs,
    /// Events to measure, of all producers together [default: 100000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), conflicts_with = "duration")]
    pub(crate) events: Option<u64>,
    /// Time to measure, as in 30s.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) duration: Option<Duration>,
    /// Time before the measurement, in which events are pushed that do not count; 0: none.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration_or_none)]
    pub(crate) warm_up: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct BenchConsumeArgs {
    #[command(flatten)]
    pub(crate) bench: BenchArgs,
    /// Events to fill the topic with and to consume [default: 100000; with --topic: all that are there]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) events: Option<u64>,
    /// Time to consume at most, as in 30s.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) duration: Option<Duration>,
    /// Which data comes with the events.
    #[arg(long, value_name = "WHICH", default_value = "all")]
    pub(crate) data: super::DataWanted,
    /// Events of these that are consumed before the measurement begins.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) warm_up_events: u64,
}

#[derive(Debug, Args)]
pub(crate) struct BenchRoundtripArgs {
    #[command(flatten)]
    pub(crate) bench: BenchArgs,
    /// Events a second, of all producers together.
    #[arg(long, value_name = "N", default_value_t = 1000.0, value_parser = rate)]
    pub(crate) rate: f64,
    /// Events to measure.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), conflicts_with = "duration")]
    pub(crate) events: Option<u64>,
    /// Time to measure [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) duration: Option<Duration>,
    /// Time before the measurement, in which events are pushed that do not count.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration)]
    pub(crate) warm_up: Duration,
    /// Which data comes with the events.
    #[arg(long, value_name = "WHICH", default_value = "all")]
    pub(crate) data: super::DataWanted,
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if (0.01..=10_000_000.0).contains(&rate) => Ok(rate),
        _ => Err("a rate is a number of events a second from 0.01 to 10000000".to_owned()),
    }
}
