//! Durable commits of the engine itself: real partitions on real shards in this process, no network, beside the bare
//! device with the same bytes in the same two files and as many commits in flight.

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Args;
use glommio::{LocalExecutorBuilder, Placement};
use hdrhistogram::Histogram;
use mofka_engine::EngineLimits;
use mofka_engine::io::IoDir;
use mofka_engine::partition::{Partition, PartitionSpec};
use mofka_engine::uring::{PREEMPT_TIMER, UringIo};
use mofka_log::{Batch, BatchBuilder, Durability, PartitionKind, PartitionRecord, Retention, TopicRecord};
use serde_json::Value;
use uuid::Uuid;

use crate::bytes_text;
use crate::harness::{self, Machine, Sample, Side, cpu_time};
use crate::raw::{self, Limit, RawConfig, Syncs};

#[derive(Args)]
pub(crate) struct EngineArgs {
    /// Directory on the device to measure.
    #[arg(long, default_value = ".")]
    dir: PathBuf,
    /// Bytes of data in a commit; several, with commas between.
    #[arg(long, value_delimiter = ',', default_value = "1024,65536,1048576")]
    data_bytes: Vec<u64>,
    /// Commits in flight in each shard; several, with commas between.
    #[arg(long, value_delimiter = ',', default_value = "1,4,8")]
    depth: Vec<usize>,
    /// Shards, each on a core of its own, with one partition; several, with commas between.
    #[arg(long, value_delimiter = ',', default_value = "1,2")]
    shards: Vec<usize>,
    /// Milliseconds of each turn.
    #[arg(long, default_value_t = 1000)]
    turn_ms: u64,
    /// Turns of each side; the median counts.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// The engine alone, for a profiler.
    #[arg(long)]
    engine_only: bool,
}

/// What a partition keeps, and the bounds of its segments.
const RETENTION_BYTES: u64 = 512 << 20;
const SEGMENT_DATA_BYTES: u64 = 256 << 20;
/// Written before the measurement, so that segments are used again in it.
const WARM_UP_BYTES: u64 = 4 * SEGMENT_DATA_BYTES;

const METADATA: &[u8] = br#"{"detector":"east","frame":123456,"exposure_ms":12.5,"unit":"adu","note":"a commit of the benchmark with metadata"}"#;

pub(crate) fn measure(args: &EngineArgs, json: bool) -> Result<(), String> {
    let machine = Machine::here(&args.dir);
    for shards in &args.shards {
        for data_bytes in &args.data_bytes {
            for depth in &args.depth {
                let turn = Turn {
                    dir: args.dir.clone(),
                    data_bytes: *data_bytes,
                    depth: *depth,
                    shards: *shards,
                    time: Duration::from_millis(args.turn_ms),
                };
                let raw_side = |name: &str, syncs| {
                    let config = RawConfig {
                        directory: args.dir.clone(),
                        data_bytes: *data_bytes,
                        meta_bytes: 4096,
                        depth: *depth,
                        syncs,
                        rings: *shards,
                        limit: Limit::Time(turn.time),
                    };
                    Side::new(name.to_owned(), move || raw::sample(&config))
                };
                let mut sides = vec![
                    raw_side("raw, a linked sync each", Syncs::Linked),
                    raw_side("raw, shared syncs", Syncs::Shared),
                    raw_side("raw, one sync for both", Syncs::Device),
                    Side::new("engine".to_owned(), || turn.run()),
                ];
                if args.engine_only {
                    sides.drain(..3);
                }
                let series = harness::interleave(args.rounds, sides)?;
                let best = series
                    .iter()
                    .filter(|side| side.name != "engine")
                    .max_by(|a, b| a.median().per_second.total_cmp(&b.median().per_second));
                let title = format!(
                    "durable commits of {} of data, {shards} shard(s), {depth} in flight in each",
                    bytes_text(*data_bytes)
                );
                let best = best.map(|side| side.name.clone());
                harness::print(&title, &machine, &series, best.as_deref(), json);
                if !json {
                    println!();
                }
            }
        }
    }
    Ok(())
}

struct Turn {
    dir: PathBuf,
    data_bytes: u64,
    depth: usize,
    shards: usize,
    time: Duration,
}

struct Measured {
    commits: u64,
    elapsed: Duration,
    latency_us: Histogram<u64>,
    cpu: Duration,
}

impl Turn {
    fn run(&self) -> Result<Sample, String> {
        let ready = Barrier::new(self.shards);
        let measured: Vec<Result<Measured, String>> = std::thread::scope(|scope| {
            let ready = &ready;
            let threads: Vec<_> = (0..self.shards)
                .map(|shard| scope.spawn(move || self.shard(shard, ready)))
                .collect();
            let ended = |thread: std::thread::ScopedJoinHandle<'_, _>| {
                thread
                    .join()
                    .unwrap_or_else(|_| Err("a shard panicked".to_owned()))
            };
            threads.into_iter().map(ended).collect()
        });
        let mut commits = 0;
        let mut seconds = 0_f64;
        let mut cpu = Duration::ZERO;
        let mut latency_us = Histogram::<u64>::new(3).map_err(|error| error.to_string())?;
        for one in measured {
            let one = one?;
            commits += one.commits;
            seconds = seconds.max(one.elapsed.as_secs_f64());
            // Of the process, so that of one shard is that of all.
            cpu = cpu.max(one.cpu);
            latency_us
                .add(&one.latency_us)
                .map_err(|error| error.to_string())?;
        }
        let per_second = commits as f64 / seconds;
        // As the raw side counts: whole blocks in both files.
        let commit_bytes = self.data_bytes.next_multiple_of(4096) + 4096;
        Ok(Sample {
            per_second,
            megabytes_per_second: per_second * commit_bytes as f64 / 1e6,
            p50_us: latency_us.value_at_quantile(0.5) as f64,
            p99_us: latency_us.value_at_quantile(0.99) as f64,
            cpu_us: cpu.as_secs_f64() * 1e6 / commits.max(1) as f64,
            node_cpu_us: 0.0,
        })
    }

    fn shard(&self, shard: usize, ready: &Barrier) -> Result<Measured, String> {
        let scratch = tempfile::Builder::new()
            .prefix("mofka-bench-")
            .tempdir_in(&self.dir)
            .map_err(|error| error.to_string())?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let executor = LocalExecutorBuilder::new(Placement::Fixed(shard % cores))
            .preempt_timer(PREEMPT_TIMER)
            .make()
            .map_err(|error| error.to_string())?;
        executor.run(async {
            let opened = self.warm(scratch.path()).await;
            // Also after a failure: the others wait here.
            ready.wait();
            let (io, partition) = opened?;
            let batch = batch(&io, self.data_bytes)?;
            let before = cpu_time();
            let mut measured = Stream::run(&partition, batch, self).await?;
            measured.cpu = cpu_time().saturating_sub(before);
            partition.stop().await;
            Ok(measured)
        })
    }

    async fn warm(&self, dir: &Path) -> Result<(UringIo, Rc<Partition<UringIo>>), String> {
        let io = UringIo::start(true).map_err(|error| error.to_string())?;
        let partition = self.open(io.clone(), dir).await?;
        warm_up(&io, &partition).await?;
        Ok((io, partition))
    }

    async fn open(&self, io: UringIo, dir: &Path) -> Result<Rc<Partition<UringIo>>, String> {
        let topic = TopicRecord {
            id: Uuid::new_v4(),
            name: "bench".to_owned(),
            durability: Durability::Synced,
            validator: Value::Null,
            partition_selector: Value::Null,
            serializer: Value::Null,
            created_us: 0,
            complete: false,
            // Old segments are used again, as on a node that runs for long.
            retention: Retention {
                bytes_max: Some(RETENTION_BYTES),
                ..Retention::default()
            },
            producers_expected: 0,
            producers_done: Default::default(),
        };
        let record = PartitionRecord {
            id: Uuid::new_v4(),
            topic: topic.id,
            index: 0,
            kind: PartitionKind::Default,
            rank: 0,
            shard: 0,
            created_us: 0,
            config: Value::Null,
            complete: false,
            refers: false,
            sourced: false,
        };
        let limits = EngineLimits {
            commits_in_flight_max: self.depth,
            // One batch in each write of data, so that both sides make the same writes of it.
            commit_bytes_max: 2 * (self.data_bytes + METADATA.len() as u64),
            pipeline_bytes_min: 0,
            segment_data_bytes: SEGMENT_DATA_BYTES,
            ..EngineLimits::default()
        };
        let spec = PartitionSpec {
            record,
            topic,
            dir: dir.join("partition"),
            limits,
        };
        Partition::open(io, spec).await.map_err(|error| error.to_string())
    }
}

/// Fills segments until the first ones are used again.
async fn warm_up(io: &UringIo, partition: &Rc<Partition<UringIo>>) -> Result<(), String> {
    const BYTES: u64 = 1 << 20;
    let batch = batch(io, BYTES)?;
    for _ in 0..WARM_UP_BYTES / BYTES {
        let outcome = Rc::new(RefCell::new(None));
        let (kept, done) = (Rc::clone(&outcome), Rc::new(event_listener::Event::new()));
        let listener = done.listen();
        let answer = move |answered: Result<_, mofka_engine::WireError>| {
            *kept.borrow_mut() = answered.err();
            done.notify(usize::MAX);
        };
        partition.append(batch.clone(), None, Box::new(answer));
        partition.kick();
        listener.await;
        if let Some(error) = outcome.take() {
            return Err(error.to_string());
        }
    }
    Ok(())
}

/// Keeps so many commits in flight until the time is over.
struct Stream {
    partition: Rc<Partition<UringIo>>,
    batch: Batch,
    until: Instant,
    in_flight: Cell<usize>,
    commits: Cell<u64>,
    latency_us: RefCell<Histogram<u64>>,
    failed: RefCell<Option<String>>,
    ended: event_listener::Event,
}

impl Stream {
    async fn run(partition: &Rc<Partition<UringIo>>, batch: Batch, turn: &Turn) -> Result<Measured, String> {
        let started = Instant::now();
        let stream = Rc::new(Self {
            partition: Rc::clone(partition),
            batch,
            until: started + turn.time,
            in_flight: Cell::new(0),
            commits: Cell::new(0),
            latency_us: RefCell::new(Histogram::new(3).map_err(|error| error.to_string())?),
            failed: RefCell::new(None),
            ended: event_listener::Event::new(),
        });
        for _ in 0..turn.depth {
            stream.append();
        }
        partition.kick();
        loop {
            let listener = stream.ended.listen();
            if stream.in_flight.get() == 0 {
                break;
            }
            listener.await;
        }
        if let Some(error) = stream.failed.take() {
            return Err(error);
        }
        Ok(Measured {
            commits: stream.commits.get(),
            elapsed: started.elapsed(),
            latency_us: stream.latency_us.borrow().clone(),
            cpu: Duration::ZERO,
        })
    }

    fn append(self: &Rc<Self>) {
        let this = Rc::clone(self);
        self.in_flight.set(self.in_flight.get() + 1);
        let since = Instant::now();
        let done = move |outcome: Result<_, mofka_engine::WireError>| {
            let us = u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX);
            this.latency_us.borrow_mut().record(us).ok();
            this.in_flight.set(this.in_flight.get() - 1);
            match outcome {
                Ok(_) => this.commits.set(this.commits.get() + 1),
                Err(error) => *this.failed.borrow_mut() = Some(error.to_string()),
            }
            if Instant::now() < this.until && this.failed.borrow().is_none() {
                this.append();
            } else if this.in_flight.get() == 0 {
                this.ended.notify(usize::MAX);
            }
        };
        self.partition.append(self.batch.clone(), None, Box::new(done));
    }
}

/// One event, as a client's batch comes from the network: checked, its data where the receiver puts it.
fn batch(io: &UringIo, data_bytes: u64) -> Result<Batch, String> {
    let bytes = usize::try_from(data_bytes).map_err(|error| error.to_string())?;
    let mut data = io.alloc_to_keep(bytes);
    for (n, byte) in data.as_mut().iter_mut().enumerate() {
        *byte = n.wrapping_mul(31).to_le_bytes()[0];
    }
    let data = Bytes::from_owner(data);
    let mut builder = BatchBuilder::new();
    builder
        .push(METADATA, std::iter::once(&data[..]))
        .map_err(|error| error.to_string())?;
    let (frame, _) = builder.finish(None);
    Batch::check_client(frame, data).map_err(|error| error.to_string())
}
