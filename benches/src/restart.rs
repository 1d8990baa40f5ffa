//! How long a daemon needs from its start until it serves, after a kill -9, with little stored and with much.
//!
//! Log files are read and written with direct I/O, past the page cache: a restart right after the kill finds no more of
//! them in memory than one after a power cut would.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use mofka_client::{
    BatchSize, ConsumerOptions, DataSelector, PartitionState, ProducerOptions, Start, TopicHandle,
    TopicOptions,
};
use serde_json::json;

use crate::events::Events;
use crate::harness::{self, Machine, Sample, Side, median};
use crate::node::Node;

#[derive(Args)]
pub(crate) struct RestartArgs {
    /// Directory on the device to measure.
    #[arg(long, default_value = ".")]
    dir: PathBuf,
    /// GiB in the small store.
    #[arg(long, default_value_t = 1.0)]
    small_gib: f64,
    /// GiB in the large store; less when the disk has less.
    #[arg(long, default_value_t = 20.0)]
    large_gib: f64,
    /// GiB that stay free on the disk.
    #[arg(long, default_value_t = 10.0)]
    free_gib: f64,
    /// Bytes of data in an event.
    #[arg(long, default_value_t = 1 << 20)]
    data_bytes: usize,
    /// Bytes of metadata (JSON) in an event, about.
    #[arg(long, default_value_t = 128)]
    metadata_bytes: usize,
    /// Restarts of each store; the median counts.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Shards of the daemon.
    #[arg(long, default_value_t = 1)]
    shards: usize,
}

const GIB: f64 = (1_u64 << 30) as f64;
const TOPIC: &str = "bench";
/// A restart is to take no longer than this, and with much stored hardly longer than with little.
const TIME_GOAL: Duration = Duration::from_millis(200);
const RATIO_GOAL: f64 = 1.2;

pub(crate) fn measure(args: &RestartArgs, json: bool) -> Result<(), String> {
    let room = free_bytes(&args.dir)? / GIB - args.free_gib - args.small_gib;
    let (small, large) = (args.small_gib, args.large_gib.min(room));
    if large < args.large_gib {
        eprintln!("the disk has room for {room:.1} GiB in the large store");
    }
    // Not written as its opposite: what is no number compares with nothing.
    if !(small > 0.0 && large > small) {
        return Err(format!(
            "a large store of {large:.1} GiB beside a small one of {small} GiB"
        ));
    }
    let mut stores = Vec::new();
    for gib in [small, large] {
        stores.push(Store::fill(args, gib)?);
    }
    // What was not sealed is read at a start. It is to be the same in both, so that they differ in what was.
    let tails: Vec<u64> = stores.iter().map(Store::tail_events).collect::<Result<_, _>>()?;
    let longest = tails.iter().copied().max().unwrap_or(0);
    for (store, tail) in stores.iter_mut().zip(tails) {
        store.push(longest - tail)?;
        store.tail_events = store.tail_events()?;
    }
    let sides = stores.iter_mut().map(|store| {
        Side::new(store.name.clone(), || {
            store.restart()?;
            Ok(Sample::default())
        })
    });
    harness::interleave(args.rounds, sides.collect())?;
    print(args, &stores, json);
    Ok(())
}

fn free_bytes(dir: &Path) -> Result<f64, String> {
    let stat = rustix::fs::statvfs(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    Ok(stat.f_bavail as f64 * stat.f_frsize as f64)
}

/// What one restart took, from before the process was made.
#[derive(Debug, Clone, Copy)]
struct Restart {
    /// Until the partition was said to be open, with all that was acknowledged.
    open: Duration,
    /// Until it had acknowledged an event, synced.
    serves: Duration,
}

/// A daemon with a partition that holds so much.
struct Store {
    name: String,
    node: Node,
    content: Events,
    acknowledged: u64,
    /// Events of the last segment when all was filled.
    tail_events: u64,
    restarts: Vec<Restart>,
}

impl Store {
    fn fill(args: &RestartArgs, gib: f64) -> Result<Self, String> {
        let mut store = Self {
            name: format!("{gib:.1} GiB"),
            node: Node::start(&args.dir, args.shards)?,
            content: Events::new(args.metadata_bytes, args.data_bytes),
            acknowledged: 0,
            tail_events: 0,
            restarts: Vec::new(),
        };
        eprintln!("filling {}", store.name);
        store
            .node
            .driver()?
            .create_topic(TopicOptions::new(TOPIC))
            .map_err(|e| e.to_string())?;
        let events = (gib * GIB / (args.data_bytes + args.metadata_bytes) as f64) as u64;
        store.push(events.max(1))?;
        Ok(store)
    }

    /// Events that are acknowledged when it returns.
    fn push(&mut self, events: u64) -> Result<(), String> {
        let driver = self.node.driver()?;
        let topic = driver.open_topic(TOPIC).map_err(|e| e.to_string())?;
        let producer = topic.producer(ProducerOptions {
            max_num_batches: 4,
            ..ProducerOptions::default()
        });
        for text in self.content.metadata(events) {
            producer
                .push(text, self.content.data.as_slice(), None)
                .map_err(|e| e.to_string())?;
        }
        let report = producer.close().map_err(|e| e.to_string())?;
        self.acknowledged += report.acknowledged;
        if report.acknowledged == events {
            return Ok(());
        }
        Err(format!(
            "{} of {events} events were acknowledged",
            report.acknowledged
        ))
    }

    /// Events of the last segment. A segment's files are named by its first event; the next one's may be there already,
    /// and have no such name yet.
    fn tail_events(&self) -> Result<u64, String> {
        let files = self.node.segment_files()?;
        let bases = files
            .iter()
            .filter_map(|path| path.file_stem()?.to_str()?.parse::<u64>().ok());
        Ok(self.acknowledged - bases.filter(|base| *base < self.acknowledged).max().unwrap_or(0))
    }

    /// Kills the daemon, starts it, and looks whether all is there.
    fn restart(&mut self) -> Result<(), String> {
        self.node.kill();
        let started = Instant::now();
        self.node.start_again()?;
        let driver = self.node.driver()?;
        let topic = driver.open_topic(TOPIC).map_err(|e| e.to_string())?;
        let status = topic.partition_status(0).map_err(|e| e.to_string())?;
        let open = started.elapsed();
        if status.state != PartitionState::Open || status.synced_end != self.acknowledged {
            return Err(format!(
                "{} events were acknowledged, and the partition is {:?} with {}: {}",
                self.acknowledged, status.state, status.synced_end, status.verdict
            ));
        }
        let producer = topic.producer(ProducerOptions {
            batch_size: BatchSize::Adaptive,
            ..ProducerOptions::default()
        });
        let pushed = producer
            .push("{}", self.content.data.as_slice(), None)
            .map_err(|e| e.to_string())?;
        let id = pushed.wait().map_err(|e| e.to_string())?.get();
        let serves = started.elapsed();
        producer.close().map_err(|e| e.to_string())?;
        if id != self.acknowledged {
            return Err(format!(
                "the event after {} events became {id}",
                self.acknowledged
            ));
        }
        // The last one from before the kill and the one from after it.
        for id in [id - 1, id] {
            self.read(&topic, id)?;
        }
        self.acknowledged += 1;
        self.restarts.push(Restart { open, serves });
        Ok(())
    }

    fn read(&self, topic: &TopicHandle, id: u64) -> Result<(), String> {
        let options = ConsumerOptions {
            start: Start::Id(id),
            data_selector: DataSelector::all(),
            ..ConsumerOptions::default()
        };
        let consumer = topic.consumer("bench", options).map_err(|e| e.to_string())?;
        let pulled = consumer
            .pull()
            .wait_timeout(Duration::from_secs(20))
            .map_err(|e| e.to_string())?;
        match pulled.flatten() {
            Some(event) if event.id().get() == id && event.data().to_bytes() == self.content.data => Ok(()),
            Some(event) => Err(format!(
                "event {id} came as event {} or with other data",
                event.id()
            )),
            None => Err(format!("event {id} did not come within 20 s")),
        }
    }

    fn turns_ms(&self, of: fn(&Restart) -> Duration) -> Vec<f64> {
        self.restarts.iter().map(|r| of(r).as_secs_f64() * 1e3).collect()
    }

    /// Milliseconds: of the middle, and of the quickest and slowest.
    fn ms(&self, of: fn(&Restart) -> Duration) -> [f64; 3] {
        let all = self.turns_ms(of);
        let lowest = all.iter().copied().fold(f64::INFINITY, f64::min);
        let highest = all.iter().copied().fold(0.0, f64::max);
        [median(all), lowest, highest]
    }
}

fn print(args: &RestartArgs, stores: &[Store], json: bool) {
    let machine = Machine::here(&args.dir);
    let title = format!(
        "restart after a kill -9, one partition, {} B metadata + {} B data, direct I/O: ms from start to service",
        args.metadata_bytes, args.data_bytes
    );
    let serves: Vec<[f64; 3]> = stores.iter().map(|store| store.ms(|r| r.serves)).collect();
    let open: Vec<[f64; 3]> = stores.iter().map(|store| store.ms(|r| r.open)).collect();
    let reference = serves.first().map_or(f64::NAN, |ms| ms[0]);
    let slowest = serves.iter().map(|ms| ms[0]).fold(0.0, f64::max);
    let ratio = serves.last().map_or(f64::NAN, |ms| ms[0]) / reference;
    let met = slowest <= TIME_GOAL.as_secs_f64() * 1e3 && ratio <= RATIO_GOAL;
    if json {
        let rows = stores
            .iter()
            .zip(&open)
            .zip(&serves)
            .map(|((store, open), serves)| {
                json!({
                    "name": store.name, "events": store.acknowledged, "tail_events": store.tail_events, "open_ms": open[0], "serves_ms": serves[0], "lowest_ms": serves[1],
                    "highest_ms": serves[2], "turns_ms": store.turns_ms(|r| r.serves), "ratio": serves[0] / reference,
                })
            });
        let rows: Vec<_> = rows.collect();
        println!(
            "{}",
            json!({"title": title, "machine": machine.as_json(), "stores": rows, "met": met})
        );
        return;
    }
    println!("{title}\n{machine}");
    let width = stores.iter().map(|store| store.name.len()).max().unwrap_or(0);
    print!("{:width$}", "");
    ["events", "tail", "open", "serves", "lowest", "highest", "ratio"]
        .iter()
        .for_each(|head| print!(" {head:>10}"));
    println!();
    for ((store, open), serves) in stores.iter().zip(&open).zip(&serves) {
        print!(
            "{:width$} {:>10} {:>10}",
            store.name, store.acknowledged, store.tail_events
        );
        [open[0], serves[0], serves[1], serves[2]]
            .iter()
            .for_each(|ms| print!(" {ms:>10.1}"));
        println!(" {:>10.2}", serves[0] / reference);
    }
    println!("medians of {} interleaved restarts", args.rounds.max(1));
    println!(
        "goal: at most {} ms, and {RATIO_GOAL} times as long with much as with little: {}",
        TIME_GOAL.as_millis(),
        if met { "met" } else { "NOT met" }
    );
}
