//! Benchmarks of Mofka. Each one measures the product and the raw device, or other systems, in one run, turn about, and
//! prints medians and their ratio: figures of different runs do not compare.

mod compare;
mod consume;
mod engine;
mod events;
mod filter;
mod harness;
mod in_place;
mod ingest;
mod loopback;
mod node;
mod produce;
mod python;
mod raw;
mod restart;
mod ring;
mod segments;
mod slow;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::harness::{Machine, Side};
use crate::raw::{Limit, RawConfig, Syncs};

#[derive(Parser)]
#[command(
    version,
    about = "Benchmarks of Mofka against the raw device and other systems"
)]
struct Cli {
    /// Print one JSON object instead of tables.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// What the device gives: durable commits of two files through a bare ring.
    Raw(RawArgs),
    /// Durable commits of the engine in this process, without network, beside the bare device.
    Engine(engine::EngineArgs),
    /// Durable events through the whole path, beside the bare device.
    Produce(produce::ProduceArgs),
    /// Events from the start of a partition with their data, from memory and from the device.
    Consume(consume::ConsumeArgs),
    /// One event in a hundred, found by the node or by the consumer.
    Filter(filter::FilterArgs),
    /// What slow consumers cost the others.
    Slow(slow::SlowArgs),
    /// Durable events through the whole path, beside Redis Streams and NATS JetStream.
    Compare(compare::CompareArgs),
    /// Time from start to service after a kill -9, with little stored and with much.
    Restart(restart::RestartArgs),
    /// A producer beside the node: what each way between them costs.
    Loopback(loopback::LoopbackArgs),
    /// A producer in Python beside one in Rust, both over shared memory.
    Python(python::PythonArgs),
    /// The ring in shared memory, beside an eventfd, a spinning word and a Unix socket.
    Ring(ring::RingArgs),
    /// Large durable events of a producer beside the node, and the bare device.
    Ingest(ingest::IngestArgs),
    /// Large events in one segment and in several, kept where they are or copied into the batch.
    Segments(segments::SegmentsArgs),
    /// Large events through shared memory, filled there or copied into it.
    InPlace(in_place::InPlaceArgs),
}

#[derive(Args)]
struct RawArgs {
    /// Directory on the device to measure; two scratch files are made in it and removed.
    #[arg(long, default_value = ".")]
    dir: PathBuf,
    /// Bytes of data in a commit, rounded up to 4096; several, with commas between.
    #[arg(long, value_delimiter = ',', default_value = "0,4096,65536,131072,1048576")]
    data_bytes: Vec<u64>,
    /// Bytes of the meta file in a commit, rounded up to 4096.
    #[arg(long, default_value_t = 4096)]
    meta_bytes: u64,
    /// Commits in flight; several, with commas between.
    #[arg(long, value_delimiter = ',', default_value = "1,4")]
    depth: Vec<usize>,
    /// Rings, each on a core and files of its own.
    #[arg(long, default_value_t = 1)]
    rings: usize,
    /// Milliseconds of each turn.
    #[arg(long, default_value_t = 500)]
    turn_ms: u64,
    /// Turns of each side; the median counts.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match &cli.command {
        Command::Raw(args) => measure_raw(args, cli.json),
        Command::Engine(args) => engine::measure(args, cli.json),
        Command::Produce(args) => produce::measure(args, cli.json),
        Command::Consume(args) => consume::measure(args, cli.json),
        Command::Filter(args) => filter::measure(args, cli.json),
        Command::Slow(args) => slow::measure(args, cli.json),
        Command::Compare(args) => compare::measure(args, cli.json),
        Command::Restart(args) => restart::measure(args, cli.json),
        Command::Loopback(args) => loopback::measure(args, cli.json),
        Command::Python(args) => python::measure(args, cli.json),
        Command::Ring(args) => ring::measure(args, cli.json),
        Command::Ingest(args) => ingest::measure(args, cli.json),
        Command::Segments(args) => segments::measure(args, cli.json),
        Command::InPlace(args) => in_place::measure(args, cli.json),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("Error: {message}");
            ExitCode::FAILURE
        }
    }
}

fn measure_raw(args: &RawArgs, json: bool) -> Result<(), String> {
    let mut sides = Vec::new();
    for depth in &args.depth {
        for data_bytes in &args.data_bytes {
            for syncs in [Syncs::Linked, Syncs::Shared, Syncs::Device] {
                let config = RawConfig {
                    directory: args.dir.clone(),
                    data_bytes: *data_bytes,
                    meta_bytes: args.meta_bytes,
                    depth: *depth,
                    syncs,
                    rings: args.rings,
                    limit: Limit::Time(Duration::from_millis(args.turn_ms)),
                };
                let name = format!(
                    "{} data + {} meta, depth {depth}, syncs {syncs:?}",
                    bytes_text(*data_bytes),
                    bytes_text(args.meta_bytes)
                );
                sides.push(Side::new(name, move || raw::sample(&config)));
            }
        }
    }
    let series = harness::interleave(args.rounds, sides)?;
    let title = "raw device: commits (write of both files, then fdatasync of both)";
    harness::print(title, &Machine::here(&args.dir), &series, None, json);
    Ok(())
}

pub(crate) fn bytes_text(bytes: u64) -> String {
    const MIB: u64 = 1 << 20;
    match bytes {
        0 => "no".to_owned(),
        b if b % MIB == 0 => format!("{} MiB", b / MIB),
        b if b % 1024 == 0 => format!("{} KiB", b / 1024),
        b => format!("{b} B"),
    }
}
