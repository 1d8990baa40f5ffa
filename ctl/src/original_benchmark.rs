//! `mofkactl benchmark generate`, with the original's arguments: a configuration of its benchmark program.

use std::ops::RangeInclusive;
use std::str::FromStr;

use clap::{ArgAction, CommandFactory, Parser};
use serde_json::{Value, json};

use crate::failure::{EXIT_CODES, Failure, Outcome};
use crate::original_config::{ConfigGenerate, GROUP_FILE, Number, below};
use crate::output;

const EXAMPLE: &str = "\
Examples:
  mofkactl benchmark generate -a tcp -n 100000 --num-producers 4 > benchmark.json
  mofkactl benchmark generate -a na+sm -n 1000 --metadata-val-sizes '8,16;100,200' --data-total-size 4096";
/// Where the benchmark's servers keep what survives them.
const PREFIX: &str = "/tmp/mofka-benchmark";
const TOPIC: &str = "mofka_benchmark";

/// Print a configuration of the original's mofka-benchmark. To measure a node that runs here: `mofka-ctl bench`.
///
/// Numbers may be ranges: 1,4 is a random number from 1 to 4. Sizes and pauses may be lists of ranges, 1,4;10,20, of which one is
/// chosen, and switches lists, true,false.
#[derive(Debug, Parser)]
#[command(name = "mofkactl benchmark generate", version, after_help = format!("{EXIT_CODES}\n\n{EXAMPLE}"))]
pub(crate) struct BenchmarkGenerate {
    #[command(flatten)]
    service: ConfigGenerate,
    /// Events of each producer.
    #[arg(short, long, value_name = "N")]
    num_events: Ranges,
    /// Partitions of the topic, over the servers in turn.
    #[arg(long, value_name = "N", default_value = "1")]
    num_partitions: Number,
    /// Fields of an event's metadata.
    #[arg(long, value_name = "N", default_value = "8")]
    metadata_num_fields: Ranges,
    /// Bytes of a field's name.
    #[arg(long, value_name = "BYTES", default_value = "8")]
    metadata_key_sizes: Ranges,
    /// Bytes of a field's value.
    #[arg(long, value_name = "BYTES", default_value = "16")]
    metadata_val_sizes: Ranges,
    /// Segments of an event's data.
    #[arg(long, value_name = "N", default_value = "0")]
    data_num_blocks: Ranges,
    /// Bytes of an event's data.
    #[arg(long, value_name = "BYTES", default_value = "0")]
    data_total_size: Ranges,
    /// The topic's validator.
    #[arg(long, value_name = "NAME", default_value = "default")]
    validator: String,
    /// The topic's partition selector.
    #[arg(long, value_name = "NAME", default_value = "default")]
    partition_selector: String,
    /// The topic's serializer.
    #[arg(long, value_name = "NAME", default_value = "default")]
    serializer: String,
    /// Producers.
    #[arg(long, value_name = "N", default_value = "1")]
    num_producers: Number,
    /// Events of a batch, when batches are not adaptive; -1: they are.
    #[arg(long, value_name = "N", default_value = "-1", allow_negative_numbers = true)]
    producer_batch_size: i64,
    /// Batches hold what there is when they are sent.
    #[arg(long, value_name = "BOOLS", default_value = "true", action = ArgAction::Set)]
    producer_adaptive_batch_size: Switches,
    /// loose or strict.
    #[arg(long, value_name = "WORD", default_value = "loose")]
    producer_ordering: Ordering,
    /// Threads of a producer.
    #[arg(long, value_name = "N", default_value = "0")]
    producer_thread_count: Ranges,
    /// Events one right after the other, at least.
    #[arg(long, value_name = "N", default_value = "1")]
    producer_burst_size_min: Ranges,
    /// The same, at most.
    #[arg(long, value_name = "N", default_value = "1")]
    producer_burst_size_max: Ranges,
    /// Milliseconds between two events, at least.
    #[arg(long, value_name = "MS", default_value = "0")]
    producer_wait_between_events_ms_min: Ranges,
    /// The same, at most.
    #[arg(long, value_name = "MS", default_value = "0")]
    producer_wait_between_events_ms_max: Ranges,
    /// Milliseconds between two bursts, at least.
    #[arg(long, value_name = "MS", default_value = "0")]
    producer_wait_between_bursts_ms_min: Ranges,
    /// The same, at most.
    #[arg(long, value_name = "MS", default_value = "0")]
    producer_wait_between_bursts_ms_max: Ranges,
    /// Flush after each burst.
    #[arg(long, value_name = "BOOLS", default_value = "true", action = ArgAction::Set)]
    producer_flush_between_bursts: Switches,
    /// Bursts, or events, between two flushes, at least.
    #[arg(long, value_name = "N", default_value = "1")]
    producer_flush_every_min: Ranges,
    /// The same, at most.
    #[arg(long, value_name = "N", default_value = "1")]
    producer_flush_every_max: Ranges,
    /// Consumers.
    #[arg(long, value_name = "N", default_value = "1")]
    num_consumers: Number,
    /// Events of a batch, when batches are not adaptive; -1: they are.
    #[arg(long, value_name = "N", default_value = "-1", allow_negative_numbers = true)]
    consumer_batch_size: i64,
    /// Batches hold what there is when they are sent.
    #[arg(long, value_name = "BOOLS", default_value = "true", action = ArgAction::Set)]
    consumer_adaptive_batch_size: Switches,
    /// Data is compared with what was produced.
    #[arg(long, value_name = "BOOLS", default_value = "true", action = ArgAction::Set)]
    consumer_check_data: Switches,
    /// Threads of a consumer.
    #[arg(long, value_name = "N", default_value = "0")]
    consumer_thread_count: Ranges,
    /// Part of the events of which data is wanted: 0 to 1.
    #[arg(long, value_name = "PART", default_value = "1.0")]
    consumer_data_selector_selectivity: Part,
    /// Part of an event's data that is wanted, at least.
    #[arg(long, value_name = "PART", default_value = "1.0")]
    consumer_data_selector_proportion_min: Part,
    /// The same, at most.
    #[arg(long, value_name = "PART", default_value = "1.0")]
    consumer_data_selector_proportion_max: Part,
    /// Segments of the memory that data goes to, at least.
    #[arg(long, value_name = "N", default_value = "1")]
    consumer_data_broker_num_blocks_min: Ranges,
    /// The same, at most.
    #[arg(long, value_name = "N", default_value = "1")]
    consumer_data_broker_num_blocks_max: Ranges,
    /// Consumers run while producers do, not after them.
    #[arg(long)]
    simultaneous_producer_and_consumer: bool,
}

/// Ranges of whole numbers, of which one is chosen.
#[derive(Clone, Debug, PartialEq)]
struct Ranges(Vec<RangeInclusive<u64>>);

impl FromStr for Ranges {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let range = |text: &str| {
            let (first, last) = text.split_once(',').unwrap_or((text, text));
            let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
            (first <= last).then_some(first..=last)
        };
        let ranges: Option<Vec<_>> = text.split(';').map(range).collect();
        ranges.map(Self).ok_or_else(|| {
            "neither a number, nor a range FIRST,LAST, nor a list RANGE;RANGE of such".to_owned()
        })
    }
}

impl Ranges {
    fn choose(&self) -> RangeInclusive<u64> {
        self.0.get(below(self.0.len())).cloned().unwrap_or(0..=0)
    }

    /// The number, or the range, as the benchmark reads it: it chooses anew each time.
    fn value(&self) -> Value {
        let range = self.choose();
        bounds(*range.start(), *range.end())
    }
}

fn bounds(first: u64, last: u64) -> Value {
    match first == last {
        true => json!(first),
        false => json!([first, last]),
    }
}

/// From one of these to one of those.
fn between(option: &str, min: &Ranges, max: &Ranges) -> Outcome<Value> {
    let (min, max) = (*min.choose().start(), *max.choose().end());
    match min <= max {
        true => Ok(bounds(min, max)),
        false => Err(upside_down(option, &min.to_string(), &max.to_string())),
    }
}

fn upside_down(option: &str, min: &str, max: &str) -> Failure {
    Failure::usage(format!("--{option}-min is {min}, and --{option}-max only {max}"))
}

/// Booleans, of which one is chosen.
#[derive(Clone, Debug, PartialEq)]
struct Switches(Vec<bool>);

impl FromStr for Switches {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let each = text
            .split(',')
            .map(|word| word.trim().to_ascii_lowercase().parse());
        each.collect::<Result<_, _>>()
            .map(Self)
            .map_err(|_| "neither true nor false, nor a list of such".to_owned())
    }
}

impl Switches {
    fn choose(&self) -> bool {
        self.0.get(below(self.0.len())).copied().unwrap_or(false)
    }
}

/// A part of something: 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Part(f64);

impl FromStr for Part {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let part = text.trim().parse().ok();
        part.filter(|part| (0.0..=1.0).contains(part))
            .map(Self)
            .ok_or_else(|| "no number from 0 to 1".to_owned())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Ordering {
    Loose,
    Strict,
}

fn batch_size(size: i64, is_adaptive: &Switches) -> Value {
    match size > 0 && !is_adaptive.choose() {
        true => json!(size),
        false => json!("adaptive"),
    }
}

impl BenchmarkGenerate {
    /// The command line: defaults of what it shares with `config generate` are its own.
    pub(crate) fn command_line() -> clap::Command {
        let prefixes = ["master_db", "metadata_db", "data_storage"];
        prefixes.iter().fold(Self::command(), |command, of| {
            command.mut_arg(format!("{of}_path_prefixes"), |arg| arg.default_value(PREFIX))
        })
    }

    /// Prints it.
    pub(crate) fn run(self) -> Outcome {
        output::line(&format!("{:#}", self.configuration()?))
    }

    fn configuration(&self) -> Outcome<Value> {
        let servers = self.service.servers();
        let (producers, consumers) = (self.num_producers.choose(), self.num_consumers.choose());
        // Whoever consumes after the producers is one of the same processes.
        let first_consumer = match self.simultaneous_producer_and_consumer {
            true => servers + producers,
            false => servers,
        };
        let ranks = |first: u32, count: u32| (first..first + count).collect::<Vec<_>>();
        let partition = |n: u32| json!({"rank": n % servers, "type": "default", "pool": "__primary__"});
        let proportion = (
            self.consumer_data_selector_proportion_min.0,
            self.consumer_data_selector_proportion_max.0,
        );
        if proportion.0 > proportion.1 {
            let option = "consumer-data-selector-proportion";
            return Err(upside_down(
                option,
                &proportion.0.to_string(),
                &proportion.1.to_string(),
            ));
        }
        Ok(json!({
            "address": self.service.address(),
            "servers": {"ranks": ranks(0, servers), "config": self.service.bedrock()?},
            "producers": {
                "ranks": ranks(servers, producers),
                "group_file": GROUP_FILE,
                "num_events": self.num_events.value(),
                "batch_size": batch_size(self.producer_batch_size, &self.producer_adaptive_batch_size),
                "ordering": match self.producer_ordering { Ordering::Loose => "loose", Ordering::Strict => "strict" },
                "thread_count": self.producer_thread_count.value(),
                "burst_size": between(
                    "producer-burst-size", &self.producer_burst_size_min, &self.producer_burst_size_max,
                )?,
                "wait_between_events_ms": between(
                    "producer-wait-between-events-ms",
                    &self.producer_wait_between_events_ms_min,
                    &self.producer_wait_between_events_ms_max,
                )?,
                "wait_between_bursts_ms": between(
                    "producer-wait-between-bursts-ms",
                    &self.producer_wait_between_bursts_ms_min,
                    &self.producer_wait_between_bursts_ms_max,
                )?,
                "flush_between_bursts": self.producer_flush_between_bursts.choose(),
                "flush_every": between(
                    "producer-flush-every", &self.producer_flush_every_min, &self.producer_flush_every_max,
                )?,
                "topic": {
                    "name": TOPIC,
                    "validator": self.validator,
                    "partition_selector": self.partition_selector,
                    "serializer": self.serializer,
                    "metadata": {
                        "num_fields": self.metadata_num_fields.value(),
                        "key_sizes": self.metadata_key_sizes.value(),
                        "val_sizes": self.metadata_val_sizes.value(),
                    },
                    "data": {
                        "num_blocks": self.data_num_blocks.value(),
                        "total_size": self.data_total_size.value(),
                    },
                    "partitions": (0..self.num_partitions.choose()).map(partition).collect::<Vec<_>>(),
                },
            },
            "consumers": {
                "ranks": ranks(first_consumer, consumers),
                "group_file": GROUP_FILE,
                "topic_name": TOPIC,
                "consumer_name": "mofka_benchmark_consumer",
                "batch_size": batch_size(self.consumer_batch_size, &self.consumer_adaptive_batch_size),
                "check_data": self.consumer_check_data.choose(),
                "thread_count": self.consumer_thread_count.value(),
                "data_selector": {
                    "selectivity": self.consumer_data_selector_selectivity.0,
                    "proportion": [proportion.0, proportion.1],
                },
                "data_broker": {"num_blocks": between(
                    "consumer-data-broker-num-blocks",
                    &self.consumer_data_broker_num_blocks_min,
                    &self.consumer_data_broker_num_blocks_max,
                )?},
            },
            "options": {"simultaneous": self.simultaneous_producer_and_consumer},
        }))
    }
}

#[cfg(test)]
mod tests {
    use clap::FromArgMatches;

    use super::*;

    fn made(line: &str) -> Outcome<Value> {
        let matches = BenchmarkGenerate::command_line()
            .try_get_matches_from(line.split(' '))
            .unwrap();
        BenchmarkGenerate::from_arg_matches(&matches)
            .unwrap()
            .configuration()
    }

    #[test]
    fn what_is_said_is_what_is_made() {
        let made = made(
            "x -a tcp -n 1000 -s 2 --num-partitions 3 --num-producers 2 --metadata-val-sizes 8,16 --producer-batch-size 64 \
             --producer-adaptive-batch-size false --producer-burst-size-max 10 --master-db-needs-persistence",
        )
        .unwrap();
        let producers = &made["producers"];
        assert_eq!(
            (&made["address"], &producers["num_events"]),
            (&json!("tcp"), &json!(1000))
        );
        assert_eq!(
            (&made["servers"]["ranks"], &producers["ranks"]),
            (&json!([0, 1]), &json!([2, 3]))
        );
        assert_eq!(
            (&producers["batch_size"], &made["consumers"]["batch_size"]),
            (&json!(64), &json!("adaptive"))
        );
        assert_eq!(producers["burst_size"], json!([1, 10]));
        assert_eq!(producers["topic"]["metadata"]["val_sizes"], json!([8, 16]));
        assert_eq!(producers["topic"]["partitions"][2]["rank"], 0);
        let master = &made["servers"]["config"]["providers"][1]["config"]["database"];
        assert_eq!(master["config"]["path"], "/tmp/mofka-benchmark/master");
        assert_eq!(made["consumers"]["ranks"], json!([2]));
    }

    #[test]
    fn of_lists_one_is_chosen() {
        for _ in 0..50 {
            let made = made("x -a tcp -n 1;10,20 --consumer-check-data true,false").unwrap();
            let events = &made["producers"]["num_events"];
            assert!(*events == json!(1) || *events == json!([10, 20]), "{events}");
            assert!(made["consumers"]["check_data"].is_boolean());
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let error = made("x -a tcp -n 1 --producer-flush-every-min 5")
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("--producer-flush-every-min is 5, and --producer-flush-every-max only 1"),
            "{error}"
        );
        for wrong in ["", "a", "2,1", "1;", "-1"] {
            assert!(wrong.parse::<Ranges>().is_err(), "{wrong}");
        }
        assert!("1.5".parse::<Part>().is_err() && "maybe".parse::<Switches>().is_err());
    }
}
