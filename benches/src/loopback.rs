//! A producer and the node on one machine: the same events over each way between them, into memory and into the log.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use hdrhistogram::Histogram;
use mofka_client::{BatchSize, Driver, PartitionKind, ProducerOptions, Retention, TopicHandle, TopicOptions};

use crate::events::Events;
use crate::harness::{self, Machine, Sample, Side, cpu_time};
use crate::node::{Listen, Node};
use crate::ring::{self, Cores};

/// What a memory partition keeps: the node's memory is used again then, and what is measured is the way to it rather than how
/// fast the system finds new pages.
const WINDOW_BYTES: u64 = 64 << 20;
/// Longer than either side polls.
const PAUSE: Duration = Duration::from_millis(2);

#[derive(Args)]
pub(crate) struct LoopbackArgs {
    /// Directory on the device to measure.
    #[arg(long, default_value = ".")]
    dir: PathBuf,
    /// Bytes of data in an event.
    #[arg(long, default_value_t = 1024)]
    data_bytes: usize,
    /// Bytes of metadata (JSON) in an event, about.
    #[arg(long, default_value_t = 128)]
    metadata_bytes: usize,
    /// Milliseconds that a turn takes, about.
    #[arg(long, default_value_t = 500)]
    turn_ms: u64,
    /// Turns of each side; the median counts.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Only the sides whose names contain this: for a profiler.
    #[arg(long)]
    only: Option<String>,
    /// Only the tables whose titles contain this.
    #[arg(long)]
    table: Option<String>,
}

/// Between the producer and the node.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Tcp,
    Unix,
    Ring,
}

impl Way {
    const ALL: [Self; 3] = [Self::Tcp, Self::Unix, Self::Ring];

    fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Unix => "Unix socket",
            Self::Ring => "shared memory",
        }
    }

    fn start(self, args: &LoopbackArgs) -> Result<Node, String> {
        let listen = match self {
            Self::Tcp => Listen::Tcp,
            Self::Unix | Self::Ring => Listen::Unix,
        };
        Node::start_on(&args.dir, 1, listen)
    }

    fn connect(self, node: &Node) -> Result<Driver, String> {
        match self {
            Self::Ring => node.driver(),
            Self::Tcp | Self::Unix => node.driver_over_sockets(),
        }
    }
}

/// How events follow each other.
#[derive(Clone, Copy)]
enum Pace {
    /// Each waits for the answer to the one before, and so long before it is sent.
    OneInFlight { pause: Duration },
    /// In batches of so many, up to so many batches under way.
    Stream { batch: u32, batches: usize },
}

pub(crate) fn measure(args: &LoopbackArgs, json: bool) -> Result<(), String> {
    let machine = Machine::here(&args.dir);
    // The nodes may use every core, so they come first; a node pins its shard to the first one.
    let nodes = Way::ALL.map(|way| way.start(args));
    let cores = Cores::choose()?;
    // The threads of the drivers inherit it.
    ring::pin(cores.far);
    let opened: Vec<(Way, (Node, Driver))> = Way::ALL
        .into_iter()
        .zip(nodes)
        .map(|(way, node)| {
            let node = node?;
            let driver = way.connect(&node)?;
            Ok((way, (node, driver)))
        })
        .collect::<Result<_, String>>()?;
    let content = Events::new(args.metadata_bytes, args.data_bytes);
    for (kind, stored) in [
        (PartitionKind::Memory, "memory partition"),
        (PartitionKind::Default, "log partition, synced"),
    ] {
        for (pace, how) in [
            (
                Pace::OneInFlight {
                    pause: Duration::ZERO,
                },
                "one event in flight: events/s, latency",
            ),
            (
                Pace::OneInFlight { pause: PAUSE },
                "one event in flight, 2 ms after the one before, when both sides sleep: latency",
            ),
            (
                Pace::Stream {
                    batch: 1,
                    batches: 64,
                },
                "event by event, up to 64 under way: events/s",
            ),
            (
                Pace::Stream {
                    batch: 128,
                    batches: 4,
                },
                "batches of 128, up to 4 under way: events/s",
            ),
        ] {
            let title = format!(
                "{stored}, {how}; node's shard on core {}, producer on core {}",
                cores.near, cores.far
            );
            if args.table.as_ref().is_some_and(|part| !title.contains(part)) {
                continue;
            }
            let mut sides: Vec<Side<'_>> = opened
                .iter()
                .map(|(way, (node, driver))| {
                    let (content, turn) = (&content, Turn { args, kind, pace });
                    Side::new(way.name().to_owned(), move || turn.run(node, driver, content))
                })
                .collect();
            if let (PartitionKind::Memory, Pace::OneInFlight { pause }) = (kind, pace) {
                sides.extend(ring::bare(Duration::from_millis(args.turn_ms), pause, cores));
            }
            sides.retain(|side| args.only.as_ref().is_none_or(|only| side.name.contains(only)));
            let series = harness::interleave(args.rounds, sides)?;
            harness::print(&title, &machine, &series, Some(Way::Tcp.name()), json);
            if !json {
                println!();
            }
        }
    }
    Ok(())
}

struct Turn<'a> {
    args: &'a LoopbackArgs,
    kind: PartitionKind,
    pace: Pace,
}

impl Turn<'_> {
    fn run(&self, node: &Node, driver: &Driver, content: &Events) -> Result<Sample, String> {
        static TURNS: AtomicU64 = AtomicU64::new(0);
        let name = format!("turn-{}", TURNS.fetch_add(1, Ordering::Relaxed));
        let mut options = TopicOptions::new(&name).partition_kind(self.kind);
        if self.kind == PartitionKind::Memory {
            options = options.retention(Retention {
                bytes_max: Some(WINDOW_BYTES),
                ..Retention::default()
            });
        }
        let topic = driver.create_topic(options).map_err(|e| e.to_string())?;
        let (own, nodes) = (cpu_time(), node.cpu_time());
        let (events, elapsed, latency_ns) = match self.pace {
            Pace::OneInFlight { pause } => self.one_by_one(&topic, content, pause)?,
            Pace::Stream { batch, batches } => self.stream(&topic, content, batch, batches)?,
        };
        let (own, nodes) = (cpu_time() - own, node.cpu_time().saturating_sub(nodes));
        let stored = topic.partition_status(0).map_err(|e| e.to_string())?.visible_end;
        if stored != events {
            return Err(format!("{stored} of {events} events are stored"));
        }
        driver.delete_topic(&name).map_err(|e| e.to_string())?;
        let per_second = events as f64 / elapsed.as_secs_f64();
        let bytes = self.args.data_bytes + self.args.metadata_bytes;
        let each = |cpu: Duration| cpu.as_secs_f64() * 1e6 / events as f64;
        Ok(Sample {
            per_second,
            megabytes_per_second: per_second * bytes as f64 / 1e6,
            p50_us: latency_ns.value_at_quantile(0.5) as f64 / 1e3,
            p99_us: latency_ns.value_at_quantile(0.99) as f64 / 1e3,
            cpu_us: each(own),
            node_cpu_us: each(nodes),
        })
    }

    fn duration(&self) -> Duration {
        Duration::from_millis(self.args.turn_ms)
    }

    fn one_by_one(
        &self,
        topic: &TopicHandle,
        content: &Events,
        pause: Duration,
    ) -> Result<(u64, Duration, Histogram<u64>), String> {
        let producer = topic.producer(ProducerOptions {
            batch_size: BatchSize::fixed(1),
            ..ProducerOptions::default()
        });
        let mut latency_ns = histogram()?;
        let started = Instant::now();
        let mut events = 0;
        for text in content.metadata(u64::MAX) {
            if !pause.is_zero() {
                std::thread::sleep(pause);
            }
            let one = Instant::now();
            let pushed = producer.push_slices(text, &[&content.data], None);
            let future = pushed.map_err(|e| e.to_string())?;
            future.wait().map_err(|e| e.to_string())?;
            latency_ns.saturating_record(u64::try_from(one.elapsed().as_nanos()).unwrap_or(u64::MAX));
            events += 1;
            if started.elapsed() >= self.duration() {
                break;
            }
        }
        let elapsed = started.elapsed();
        producer.close().map_err(|e| e.to_string())?;
        Ok((events, elapsed, latency_ns))
    }

    fn stream(
        &self,
        topic: &TopicHandle,
        content: &Events,
        batch: u32,
        batches: usize,
    ) -> Result<(u64, Duration, Histogram<u64>), String> {
        let producer = topic.producer(ProducerOptions {
            batch_size: BatchSize::fixed(batch),
            max_num_batches: batches,
            ..ProducerOptions::default()
        });
        let started = Instant::now();
        for (n, text) in content.metadata(u64::MAX).enumerate() {
            if n % 128 == 0 && started.elapsed() >= self.duration() {
                break;
            }
            producer
                .push_slices(text, &[&content.data], None)
                .map_err(|e| e.to_string())?;
        }
        let report = producer.close().map_err(|e| e.to_string())?;
        let elapsed = started.elapsed();
        Ok((report.acknowledged, elapsed, histogram()?))
    }
}

fn histogram() -> Result<Histogram<u64>, String> {
    Histogram::new_with_max(60_000_000_000, 3).map_err(|e| e.to_string())
}
