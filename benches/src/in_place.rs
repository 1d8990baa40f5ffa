//! Large events of a producer that shares memory with the node: filled there, or in memory of the producer's.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use mofka_client::{
    BatchSize, Data, Driver, InPlace, PartitionKind, Producer, ProducerOptions, TopicOptions,
};

use crate::bytes_text;
use crate::harness::{self, Machine, Sample, Side, cpu_time};
use crate::node::{Listen, Node};
use crate::ring::{self, Cores};

#[derive(Args)]
pub(crate) struct InPlaceArgs {
    /// Directory on the device to measure.
    #[arg(long, default_value = ".")]
    dir: PathBuf,
    /// Bytes of data in an event; several, with commas between.
    #[arg(long, value_delimiter = ',', default_value = "65536,1048576")]
    data_bytes: Vec<usize>,
    /// Bytes of all events of one turn.
    #[arg(long, default_value_t = 128 << 20)]
    turn_bytes: usize,
    /// Batches under way; each event is one.
    #[arg(long, default_value_t = 4)]
    batches: usize,
    /// Turns of each side; the median counts.
    #[arg(long, default_value_t = 9)]
    rounds: usize,
}

/// Where an event's data is filled, and what becomes of it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// The same buffer for each, which is copied when it is pushed.
    Copied,
    /// A buffer for each, which the client keeps until it is sent.
    Owned,
    /// Shared memory, piece by piece.
    Written,
    /// Shared memory, by its address: the client reads it back for the checksums.
    Address,
}

impl Way {
    const ALL: [Self; 4] = [Self::Copied, Self::Owned, Self::Written, Self::Address];

    fn name(self) -> &'static str {
        match self {
            Self::Copied => "copied by the push",
            Self::Owned => "kept in a buffer of its own",
            Self::Written => "written in place",
            Self::Address => "filled in place by address",
        }
    }
}

/// What events are filled with, again and again: it stays in the processor's caches, as what a device or a computation gives does.
const SOURCE_BYTES: usize = 16 << 10;

pub(crate) fn measure(args: &InPlaceArgs, json: bool) -> Result<(), String> {
    let machine = Machine::here(&args.dir);
    // The node may use every core, so it comes first; it pins its shard to the first one.
    let node = Node::start_on(&args.dir, 1, Listen::Unix)?;
    let cores = Cores::choose()?;
    ring::pin(cores.far);
    let driver = node.driver()?;
    let source: Vec<u8> = (0..SOURCE_BYTES).map(|at| (at % 251) as u8).collect();
    for (kind, stored) in [
        (PartitionKind::Memory, "memory partition"),
        (PartitionKind::Default, "log partition, synced"),
    ] {
        for data_bytes in &args.data_bytes {
            let turn = Turn {
                node: &node,
                driver: &driver,
                kind,
                source: &source,
                data_bytes: *data_bytes,
                events: (args.turn_bytes / data_bytes).max(1),
                batches: args.batches,
            };
            let sides = Way::ALL.map(|way| {
                let turn = &turn;
                Side::new(way.name().to_owned(), move || turn.run(way))
            });
            let series = harness::interleave(args.rounds, sides.into())?;
            let title = format!(
                "{stored}, {} events of {}, up to {} under way, through shared memory; node's shard on core {}, producer on core {}",
                turn.events,
                bytes_text(*data_bytes as u64),
                args.batches,
                cores.near,
                cores.far
            );
            harness::print(&title, &machine, &series, Some(Way::Copied.name()), json);
            if !json {
                let cpu: Vec<f64> = series.iter().map(|one| one.median().cpu_us).collect();
                let beside = |n: usize| cpu.get(n).unwrap_or(&f64::NAN) / cpu.first().unwrap_or(&f64::NAN);
                println!(
                    "CPU of the client beside copied: {:.2} kept, {:.2} written in place, {:.2} by address\n",
                    beside(1),
                    beside(2),
                    beside(3)
                );
            }
        }
    }
    Ok(())
}

struct Turn<'a> {
    node: &'a Node,
    driver: &'a Driver,
    kind: PartitionKind,
    source: &'a [u8],
    data_bytes: usize,
    events: usize,
    batches: usize,
}

impl Turn<'_> {
    /// Every event in a batch of its own; the time ends when the last one is acknowledged.
    fn run(&self, way: Way) -> Result<Sample, String> {
        static TURNS: AtomicU64 = AtomicU64::new(0);
        let name = format!("turn-{}", TURNS.fetch_add(1, Ordering::Relaxed));
        let topic = self
            .driver
            .create_topic(TopicOptions::new(&name).partition_kind(self.kind))
            .map_err(|e| e.to_string())?;
        let producer = topic.producer(ProducerOptions {
            batch_size: BatchSize::fixed(1),
            max_num_batches: self.batches,
            // No second copy.
            shared_bytes_min: 0,
            ..ProducerOptions::default()
        });
        // Connects, and has the node know it.
        let first = producer.push("{}", (), None).map_err(|e| e.to_string())?;
        first.wait().map_err(|e| e.to_string())?;
        let mut same = vec![0; self.data_bytes];
        let (started, own, nodes) = (Instant::now(), cpu_time(), self.node.cpu_time());
        let mut shared = 0;
        for _ in 0..self.events {
            shared += usize::from(self.push(&producer, way, &mut same)?);
        }
        let report = producer.close().map_err(|e| e.to_string())?;
        let elapsed = started.elapsed();
        let (own, nodes) = (cpu_time() - own, self.node.cpu_time().saturating_sub(nodes));
        if report.acknowledged != self.events as u64 + 1 {
            return Err(format!("{report:?}"));
        }
        if matches!(way, Way::Written | Way::Address) && shared < self.events {
            return Err(format!(
                "only {shared} of {} events were in shared memory",
                self.events
            ));
        }
        self.driver.delete_topic(&name).map_err(|e| e.to_string())?;
        let per_second = self.events as f64 / elapsed.as_secs_f64();
        let each = |cpu: Duration| cpu.as_secs_f64() * 1e6 / self.events as f64;
        Ok(Sample {
            per_second,
            megabytes_per_second: per_second * self.data_bytes as f64 / 1e6,
            cpu_us: each(own),
            node_cpu_us: each(nodes),
            ..Sample::default()
        })
    }

    /// Whether it was filled in shared memory.
    fn push(&self, producer: &Producer, way: Way, same: &mut [u8]) -> Result<bool, String> {
        let pushed = |data: Data| {
            producer
                .push("{}", data, None)
                .map(drop)
                .map_err(|e| e.to_string())
        };
        match way {
            Way::Copied => {
                self.fill(same);
                pushed(Data::from(&*same))?;
            }
            Way::Owned => {
                let mut own = vec![0; self.data_bytes];
                self.fill(&mut own);
                pushed(Data::from(own))?;
            }
            Way::Written | Way::Address => {
                let claimed = producer.claim("{}", self.data_bytes, None);
                let mut claim = claimed.map_err(|e| e.to_string())?;
                if way == Way::Address {
                    self.fill_by_address(&mut claim);
                } else {
                    let mut at = 0;
                    while at < self.data_bytes {
                        let piece = &self.source[..SOURCE_BYTES.min(self.data_bytes - at)];
                        claim.write(at, piece).map_err(|e| e.to_string())?;
                        at += piece.len();
                    }
                }
                let is_shared = claim.is_shared();
                claim.commit().map_err(|e| e.to_string())?;
                return Ok(is_shared);
            }
        }
        Ok(false)
    }

    fn fill(&self, buffer: &mut [u8]) {
        for piece in buffer.chunks_mut(SOURCE_BYTES) {
            piece.copy_from_slice(&self.source[..piece.len()]);
        }
    }

    fn fill_by_address(&self, claim: &mut InPlace) {
        let (to, bytes) = (claim.as_mut_ptr(), claim.bytes());
        for at in (0..bytes).step_by(SOURCE_BYTES) {
            let piece = &self.source[..SOURCE_BYTES.min(bytes - at)];
            // SAFETY: the claim's bytes from `at` on, which nobody else writes, and of which no reference is made.
            unsafe { std::ptr::copy_nonoverlapping(piece.as_ptr(), to.add(at), piece.len()) };
        }
    }
}
