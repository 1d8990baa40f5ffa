//! The command line of `mofka-ctl` and `mofkactl`.

mod bench;
mod config;
mod consumer;
mod doctor;
mod examples;
mod fifo;
mod forward;
mod log;
mod partition;
mod produce;
mod reading;
mod top;

use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

pub(crate) use self::bench::{
    BenchArgs, BenchCommand, BenchConsumeArgs, BenchProduceArgs, BenchRoundtripArgs,
};
pub(crate) use self::config::{ConfigCheckArgs, ConfigGenerateArgs, GenerateCommand};
pub(crate) use self::consumer::{ConsumerCommand, LagArgs};
pub(crate) use self::doctor::DoctorArgs;
pub(crate) use self::fifo::FifoArgs;
pub(crate) use self::forward::{ForwardArgs, LogLevel};
pub(crate) use self::log::{ExportArgs, ImportArgs, InspectArgs, LogCommand, RepairArgs};
pub(crate) use self::partition::{PartitionAddArgs, PartitionCommand, PartitionMoveArgs};
pub(crate) use self::produce::{LineFormat, ProduceArgs};
pub(crate) use self::reading::{ConsumeArgs, DataWanted, From, ReadingArgs, TailArgs};
pub(crate) use self::top::{TopArgs, View};
use crate::failure::EXIT_CODES;
use crate::retention::RetentionArgs;

/// Where the group file is looked for when the command line does not say.
pub(crate) const GROUP_FILE: &str = "./mofka.json";

/// Administration of Mofka: start and stop a node, make topics, produce and consume events.
#[derive(Debug, Parser)]
#[command(name = "mofka-ctl", version, after_help = EXIT_CODES, after_long_help = EXIT_CODES)]
pub(crate) struct Cli {
    /// Print JSON instead of text.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Group file that the node writes at its start [default: ./mofka.json]
    #[arg(
        short = 'g',
        long = "groupfile",
        alias = "group-file",
        global = true,
        value_name = "FILE"
    )]
    groupfile: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Cli {
    /// The command line, with the examples of each command.
    pub(crate) fn with_examples() -> clap::Command {
        examples::add(Self::command())
    }

    /// The group file to use.
    pub(crate) fn groupfile(&self) -> PathBuf {
        self.groupfile
            .clone()
            .unwrap_or_else(|| PathBuf::from(GROUP_FILE))
    }

    /// The group file, when the command line names one.
    pub(crate) fn groupfile_given(&self) -> Option<PathBuf> {
        self.groupfile.clone()
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start a node in the background and wait until it is ready.
    Start(StartArgs),
    /// Stop the node: it finishes and syncs what it accepted.
    Shutdown(ShutdownArgs),
    /// Show the node's state.
    Status,
    /// Show and change settings of a node that runs; check, generate and explain configurations.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Create, list, describe, alter, complete and delete topics.
    #[command(subcommand)]
    Topic(TopicCommand),
    /// Add, move and list partitions of a topic.
    #[command(subcommand)]
    Partition(PartitionCommand),
    /// Produce the lines of a file, or of standard input, as events.
    Produce(ProduceArgs),
    /// Consume events under a consumer's name, one JSON line for each.
    ///
    /// What was written is acknowledged, also into a pipe that nobody read to its end: where a reader takes only some events, --count
    /// says exactly how many.
    Consume(ConsumeArgs),
    /// Print events as they come, without a trace in the consumers' cursors.
    Tail(TailArgs),
    /// Named consumers of a topic.
    #[command(subcommand)]
    Consumer(ConsumerCommand),
    /// Look at, check, repair, export and import stored partitions, on the files, without a node.
    #[command(subcommand)]
    Log(LogCommand),
    /// Watch a node at work: rates, latencies, lag, what is wrong.
    Top(TopArgs),
    /// Look whether this machine is one for a node: kernel, limits, file system, device; what was found, what it means, what to do.
    Doctor(DoctorArgs),
    /// Measure a node that runs: rates, latencies, the work of the client.
    #[command(subcommand)]
    Bench(BenchCommand),
    Forward(ForwardArgs),
    Fifo(FifoArgs),
    /// Put 2,000 real log lines through a node, kill it half-way, and check that nothing is lost or repeated.
    Demo(DemoArgs),
    /// Completions of shells, and manual pages.
    #[command(subcommand)]
    Generate(GenerateCommand),
    /// Create the links mofkactl, bedrock, bedrock-shutdown, bedrock-query and diaspora-ctl to this program.
    Links {
        /// Directory for the links.
        directory: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct StartArgs {
    /// Configuration for mofkad: Mofka's own JSON, or Bedrock JSON.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Protocol, as the original names it: na+sm, tcp, ofi+tcp; or auto: na+sm and tcp.
    #[arg(long, value_name = "NAME")]
    pub(crate) protocol: Option<String>,
    /// Address to listen on (tcp://HOST:PORT, unix:///PATH, na+sm, auto); may be given several times.
    #[arg(long, value_name = "ADDRESS", conflicts_with = "protocol")]
    pub(crate) listen: Vec<String>,
    /// Directory for all that is stored.
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Number of shards.
    #[arg(long, value_name = "N")]
    pub(crate) shards: Option<u32>,
    /// What the node logs.
    #[arg(long, value_name = "LEVEL")]
    pub(crate) log_level: Option<String>,
    /// Where the node has its metrics and its status page, by HTTP.
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) monitoring: Option<String>,
    /// File for the node's log.
    #[arg(long, value_name = "FILE", default_value = "./mofkad.log")]
    pub(crate) log_file: PathBuf,
    /// Seconds to wait until the node is ready.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub(crate) timeout: u64,
}

#[derive(Debug, Args)]
pub(crate) struct ShutdownArgs {
    /// Seconds to wait until the node is gone.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub(crate) timeout: u64,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Show all settings, or one, as in: mofka-ctl config get log_level
    Get {
        /// Its key, as in the configuration; keys inside of others with dots: limits.connections_max
        key: Option<String>,
    },
    /// Change a setting while the node runs, as in: mofka-ctl config set limits.connections_max 500 --save
    Set {
        /// Its key.
        key: String,
        /// Its new value: JSON, or else text.
        #[arg(allow_hyphen_values = true)]
        value: String,
        /// Also write it into the node's configuration, if that is on this machine and says what the node was started with;
        /// otherwise what to write there is printed, and the exit code is 1.
        #[arg(long)]
        save: bool,
    },
    /// Say all that is wrong with a configuration, by the rules of a node's start, and what becomes of a Bedrock one.
    Check(ConfigCheckArgs),
    /// Print a whole configuration with its defaults. Under the name mofkactl: a Bedrock one, as the original's does.
    Generate(ConfigGenerateArgs),
    /// Say what the settings mean, their units, defaults and bounds, and which can be changed while a node runs.
    Explain {
        /// A key, or what several begin with, as limits; all without.
        key: Option<String>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DurabilityName {
    /// Acknowledged when it survives a power cut.
    Synced,
    /// Acknowledged when written, not synced.
    Written,
    /// Acknowledged when in the server's memory.
    Buffered,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TopicCommand {
    /// Create a topic. Options of components: --validator.KEY VALUE, --partition-selector.KEY, --serializer.KEY.
    Create(TopicCreateArgs),
    /// List the topics.
    List,
    /// Describe a topic and its partitions.
    Describe {
        /// Name of the topic.
        name: String,
    },
    /// Change what of a topic's events may go; rules that are not given stay.
    Alter(TopicAlterArgs),
    /// Delete a topic with all its events.
    Delete {
        /// Name of the topic.
        name: String,
        /// Also when events of other topics refer to its data: they lose it.
        #[arg(long)]
        force: bool,
    },
    /// Mark a topic as complete: no more events; consumers get "no more events" after the last.
    Complete {
        /// Name of the topic.
        name: String,
        /// Only this partition, by its index.
        #[arg(long, value_name = "INDEX")]
        partition: Option<usize>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct TopicCreateArgs {
    /// Name of the topic: 1 to 200 of A-Z a-z 0-9 . _ -
    pub(crate) name: String,
    /// Validator of events.
    #[arg(short, long, value_name = "NAME", default_value = "default")]
    pub(crate) validator: String,
    /// Selector of each event's partition.
    #[arg(short, long, value_name = "NAME", default_value = "default")]
    pub(crate) partition_selector: String,
    /// Serializer of metadata.
    #[arg(short, long, value_name = "NAME", default_value = "default")]
    pub(crate) serializer: String,
    /// When an event is acknowledged.
    #[arg(long, value_name = "WHEN", default_value = "synced")]
    pub(crate) durability: DurabilityName,
    /// Partitions to create with it, on the node that is asked.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) partitions: u32,
    /// Producers that there will be: the topic is complete when so many said that they are done; 0: that is not counted.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) producers: u32,
    #[command(flatten)]
    pub(crate) retention: RetentionArgs,
}

#[derive(Debug, Args)]
pub(crate) struct TopicAlterArgs {
    /// Name of the topic.
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) retention: RetentionArgs,
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Log to put through [default: the Blue Gene/L lines of this repository]
    #[arg(long, value_name = "FILE")]
    pub(crate) input: Option<PathBuf>,
    /// Where the node's temporary directory is made [default: the system's]
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Keep the directory.
    #[arg(long)]
    pub(crate) keep: bool,
}
