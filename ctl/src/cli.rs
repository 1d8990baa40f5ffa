//! The command line of `mofka-ctl` and `mofkactl`.

mod examples;
mod log;

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

pub(crate) use self::log::{ExportArgs, ImportArgs, InspectArgs, LogCommand, RepairArgs};
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
    /// Show the settings of a node that runs, and change those that can be changed.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Create, list, describe, alter, complete and delete topics.
    #[command(subcommand)]
    Topic(TopicCommand),
    /// Add and list partitions of a topic.
    #[command(subcommand)]
    Partition(PartitionCommand),
    /// Produce the lines of a file, or of standard input, as events.
    Produce(ProduceArgs),
    /// Consume events under a consumer's name, one JSON line for each.
    Consume(ConsumeArgs),
    /// Print events as they come, without a trace in the consumers' cursors.
    Tail(TailArgs),
    /// Named consumers of a topic.
    #[command(subcommand)]
    Consumer(ConsumerCommand),
    /// Look at, check, repair, export and import stored partitions, on the files, without a node.
    #[command(subcommand)]
    Log(LogCommand),
    /// Put 2,000 real log lines through a node, kill it half-way, and check that nothing is lost or repeated.
    Demo(DemoArgs),
    /// Create the links mofkactl, bedrock, bedrock-shutdown and bedrock-query to this program.
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
    /// Protocol, as the original names it: na+sm, tcp, ofi+tcp.
    #[arg(long, value_name = "NAME")]
    pub(crate) protocol: Option<String>,
    /// Address to listen on; may be given several times.
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
    /// Change a setting until the node stops, as in: mofka-ctl config set log_level debug
    Set {
        /// Its key.
        key: String,
        /// Its new value: JSON, or else text.
        #[arg(allow_hyphen_values = true)]
        value: String,
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

#[derive(Debug, Subcommand)]
pub(crate) enum PartitionCommand {
    /// Add a partition to a topic. Options of the partition: --config.KEY VALUE.
    Add(PartitionAddArgs),
    /// List the partitions of a topic with their state.
    List {
        /// Name of the topic.
        topic: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct PartitionAddArgs {
    /// Name of the topic.
    pub(crate) topic: String,
    /// Node that holds it: its place in the group file.
    #[arg(short, long, default_value_t = 0)]
    pub(crate) rank: u32,
    /// default: a log on disk; memory: lost when the node stops.
    #[arg(short = 't', long = "type", value_name = "TYPE", default_value = "default")]
    pub(crate) kind: String,
    /// Shard that owns it [default: the node chooses]
    #[arg(long)]
    pub(crate) shard: Option<u32>,
    /// Of the original; has no meaning here.
    #[arg(short, long, hide = true)]
    pub(crate) pool: Option<String>,
    /// Of the original; has no meaning here.
    #[arg(short, long, hide = true)]
    pub(crate) metadata: Option<String>,
    /// Of the original; has no meaning here.
    #[arg(short, long, hide = true)]
    pub(crate) data: Option<String>,
    /// Of the original; has no meaning here.
    #[arg(long, hide = true)]
    pub(crate) abt_io: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ProduceArgs {
    /// Name of the topic.
    pub(crate) topic: String,
    /// File with one event a line; - is standard input.
    #[arg(default_value = "-")]
    pub(crate) file: PathBuf,
    /// Take each line as the event's data, with the metadata of --metadata; without this, a line is JSON metadata.
    #[arg(long)]
    pub(crate) raw: bool,
    /// JSON object that every event's metadata starts from.
    #[arg(long, value_name = "JSON", default_value = "{}")]
    pub(crate) metadata: String,
    /// File whose bytes are each event's data.
    #[arg(long, value_name = "FILE", conflicts_with = "raw")]
    pub(crate) data_file: Option<PathBuf>,
    /// One event whose data is all of this file, of any size, sent in pieces, with the metadata of --metadata; - is standard input.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["raw", "data_file", "file", "batch_size"])]
    pub(crate) stream: Option<PathBuf>,
    /// Events in a batch [default: adaptive]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) batch_size: Option<u32>,
    /// Partition for every event [default: as the topic's selector says]
    #[arg(long, value_name = "INDEX")]
    pub(crate) partition: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DataWanted {
    /// Metadata only.
    None,
    /// All of each event's data.
    All,
}

/// Where to start reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum From {
    Cursor,
    First,
    Last,
    Id(u64),
    /// Unix time in microseconds.
    Time(u64),
}

/// Reads a time: Unix seconds, or seconds before now when it begins with a minus sign.
fn time(text: &str) -> Result<From, String> {
    let wrong = || "no time: give Unix seconds, or -SECONDS for so long ago".to_owned();
    let (is_ago, digits) = text
        .strip_prefix('-')
        .map_or((false, text), |digits| (true, digits));
    let seconds: f64 = digits.parse().map_err(|_| wrong())?;
    let given = Duration::try_from_secs_f64(seconds).map_err(|_| wrong())?;
    let at = if is_ago {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        now.saturating_sub(given)
    } else {
        given
    };
    u64::try_from(at.as_micros()).map(From::Time).map_err(|_| wrong())
}

impl std::str::FromStr for From {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "cursor" => Ok(Self::Cursor),
            "first" => Ok(Self::First),
            "last" => Ok(Self::Last),
            other => match other.strip_prefix('@') {
                Some(text) => time(text),
                None => other
                    .parse()
                    .map(Self::Id)
                    .map_err(|_| "neither cursor, first, last, an event id, nor @TIME".to_owned()),
            },
        }
    }
}

/// An event pattern, as JSON text.
fn pattern(text: &str) -> Result<serde_json::Value, String> {
    let value = serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))?;
    mofka_client::Pattern::parse(&value).map_err(|error| error.to_string())?;
    Ok(value)
}

#[derive(Debug, Args)]
pub(crate) struct ConsumeArgs {
    /// Name of the topic.
    pub(crate) topic: String,
    /// Name of the consumer, under which the node keeps its cursor. Consumers of one name share the partitions.
    #[arg(short, long, value_name = "NAME", default_value = "mofka-ctl")]
    pub(crate) consumer: String,
    /// cursor (after the last acknowledged event), first, last, an event id, or @TIME.
    #[arg(long, value_name = "PLACE", default_value = "cursor")]
    pub(crate) from: From,
    /// Begin with what was accepted at this time or later: Unix seconds, or -SECONDS for so long ago.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = time, conflicts_with = "from")]
    pub(crate) from_time: Option<From>,
    /// Acknowledge after every N events of a partition, and at the end; 0 never.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) ack_every: u64,
    #[command(flatten)]
    pub(crate) reading: ReadingArgs,
}

#[derive(Debug, Args)]
pub(crate) struct TailArgs {
    /// Name of the topic.
    pub(crate) topic: String,
    /// first, last, an event id, or @TIME.
    #[arg(long, value_name = "PLACE", default_value = "last")]
    pub(crate) from: From,
    /// Begin with what was accepted at this time or later: Unix seconds, or -SECONDS for so long ago.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = time, conflicts_with = "from")]
    pub(crate) from_time: Option<From>,
    #[command(flatten)]
    pub(crate) reading: ReadingArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ReadingArgs {
    /// Stop after N events.
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<u64>,
    /// Stop when no event came for so many seconds.
    #[arg(long, value_name = "SECONDS")]
    pub(crate) timeout: Option<f64>,
    /// Which data to fetch.
    #[arg(long, value_name = "WHICH", default_value = "all")]
    pub(crate) data: DataWanted,
    /// Write each event's data, of any size, to a file PARTITION-ID.data in this directory, in pieces, instead of printing it.
    #[arg(long, value_name = "DIR", conflicts_with = "data")]
    pub(crate) data_to: Option<PathBuf>,
    /// Only events whose metadata matches this EventBridge pattern, as in '{"level": ["FATAL"]}'. The node looks; the
    /// cursor moves past what does not match.
    #[arg(long, value_name = "PATTERN", value_parser = pattern)]
    pub(crate) filter: Option<serde_json::Value>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConsumerCommand {
    /// List the consumers of a topic with their cursors and lag.
    List {
        /// Name of the topic.
        topic: String,
    },
    /// Move a consumer's cursor.
    Seek {
        /// Name of the topic.
        topic: String,
        /// Name of the consumer.
        consumer: String,
        /// first, last, an event id, or @TIME (Unix seconds; @-SECONDS for so long ago).
        to: From,
        /// Partition to move in [default: all]
        #[arg(long, value_name = "INDEX")]
        partition: Option<usize>,
    },
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_word_an_id_or_a_time() {
        let place = |text: &str| text.parse::<From>();
        assert_eq!(place("first"), Ok(From::First));
        assert_eq!(place("17"), Ok(From::Id(17)));
        assert_eq!(place("@1700000000.5"), Ok(From::Time(1_700_000_000_500_000)));
        let (Ok(From::Time(now)), Ok(From::Time(ago))) = (time("-0"), time("-3600")) else {
            panic!("no times")
        };
        let hour = now.saturating_sub(ago);
        assert!((3_599_000_000..3_601_000_000).contains(&hour), "{hour}");
        for wrong in ["", "@", "@x", "@--3", "@inf", "@nan", "soon", "-4"] {
            assert!(place(wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(place("@-99999999999999"), Ok(From::Time(0)), "before all times");
    }
}
