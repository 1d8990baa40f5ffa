//! The command line of `partition`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Shards that a partition may be moved to: more than any node has.
const SHARDS_MAX: i64 = 4096;

#[derive(Debug, Subcommand)]
pub(crate) enum PartitionCommand {
    /// Add a partition to a topic. Options of the partition: --config.KEY VALUE.
    Add(PartitionAddArgs),
    Move(PartitionMoveArgs),
    /// List the partitions of a topic with their state.
    List {
        /// Name of the topic.
        topic: String,
    },
    /// Describe a partition: its state, its ends, its consumers.
    Describe {
        /// Name of the topic.
        topic: String,
        /// Its index in the topic.
        index: usize,
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

/// Give a partition to another shard of its node, which must not run.
///
/// Only the catalog changes: the partition's files, ids and cursors stay as they are. A crash leaves it where it was, or moved. A node
/// with fewer shards takes the number modulo how many it has.
#[derive(Debug, Args)]
pub(crate) struct PartitionMoveArgs {
    /// Name of the topic.
    pub(crate) topic: String,
    /// Index of the partition.
    pub(crate) partition: u32,
    /// Shard that gets it.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..SHARDS_MAX))]
    pub(crate) shard: u32,
    /// Data directory of the node.
    #[arg(long, value_name = "DIR", default_value = "./mofka-data")]
    pub(crate) data_dir: PathBuf,
}
