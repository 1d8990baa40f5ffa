//! The command line of `log`: the offline tools.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::failure::VERIFY_EXIT_CODES;

const WHERE: &str = "\
PATH is a data directory (then all of its partitions and its catalog), the directory of one partition \
(DATA_DIR/partitions/ID), or one file: a segment's .meta or .data, a catalog, cursors, an exported partition.";

const INSPECT_EXAMPLES: &str = "\
Examples:
  mofka-ctl log inspect ./data
  mofka-ctl log inspect --frames ./data/partitions/5b8f…/00000000000000000000.meta
  mofka-ctl --json log inspect --events ./data/partitions/5b8f… | jq '.partitions[].segments[].frames[]'";

const VERIFY_EXAMPLES: &str = "\
Examples:
  mofka-ctl log verify ./data
  mofka-ctl --json log verify ./data/partitions/5b8f…
  mofka-ctl log verify events.mofka";

const REPAIR_EXAMPLES: &str = "\
Examples:
  mofka-ctl log repair ./data
  mofka-ctl log repair --apply ./data/partitions/5b8f…";

const EXPORT_EXAMPLES: &str = "\
Examples:
  mofka-ctl log export ./data/partitions/5b8f… events.mofka
  mofka-ctl log export ./data --topic my_topic --partition 0 events.mofka
  mofka-ctl log export ./data/partitions/5b8f… --from 1000 --to 2000 - | zstd > part.zst";

const IMPORT_EXAMPLES: &str = "\
Examples:
  mofka-ctl log import events.mofka ./data
  mofka-ctl log import events.mofka ./data --topic other_name
  mofka-ctl log import events.mofka ./data --topic my_topic --add-partition
  zstdcat part.zst | mofka-ctl log import - ./empty_directory";

#[derive(Debug, Subcommand)]
pub(crate) enum LogCommand {
    /// Show what files hold: headers, frames, events, footers, cursors, catalog. Never writes.
    #[command(long_about = format!(
        "Show what files hold: headers, frames, events, footers, producers, cursors, catalog.\n\nDecodes as much as \
         possible of damaged files, and never writes.\n\n{WHERE}"
    ), after_help = INSPECT_EXAMPLES)]
    Inspect(InspectArgs),
    /// Check every checksum and the chain of segments. Never writes.
    #[command(long_about = format!(
        "Check every checksum, of headers, tables, metadata, all data, footers, cursors and catalog, and that segments \
         follow each other without gaps. Never writes.\n\nA verdict for each file has the letter of docs/FORMAT.md. A \
         torn tail (C, D, E) is no damage: nothing in it was ever reported durable, and the daemon cuts it.\n\n{WHERE}"
    ), after_help = format!("{VERIFY_EXIT_CODES}\n\n{VERIFY_EXAMPLES}"))]
    Verify {
        /// Data directory, partition's directory, or file.
        path: PathBuf,
    },
    /// Make a damaged partition one that the daemon goes on with. Changes nothing without --apply.
    #[command(long_about = "\
Make a damaged partition one that the daemon goes on with.\n\n\
Events have dense ids, so that what follows a damaged event cannot stay: everything before the damage is kept, the \
segment is cut there, and later segments are set aside. Lost headers and footers are written again when the frames \
tell what they were; cursors are written again from the records that check, and move back to the end of the events. \
A torn tail is cut as the daemon would do.\n\n\
Without --apply it only says what it would do. With it, everything that goes is first kept in \
PARTITION/repair-TIME, and the partition is verified afterwards. The node must be stopped.\n\n\
PATH is a data directory (then all partitions, and the catalog) or the directory of one partition.", after_help = REPAIR_EXAMPLES)]
    Repair(RepairArgs),
    /// Write a partition to one portable file, or to standard output.
    #[command(long_about = "\
Write a partition to one portable file: its batches as they are stored, cursors, producers' sequences, and the records \
of its topic. Everything is checked on the way. A node may be running: what is durable is exported.\n\n\
A batch is never split: a range of event ids gives the whole batches that have events in it.", after_help = EXPORT_EXAMPLES)]
    Export(ExportArgs),
    /// Make a partition of an export: in a stopped node's data directory, or in an empty directory.
    #[command(long_about = "\
Make a partition of an export. In the data directory of a stopped node it is a new topic, or with --add-partition one more \
partition of a topic; in an empty or absent directory it is only the partition's files.\n\n\
Event ids, times, cursors and producers' sequences are kept. Nothing is visible before all of it was written, synced and \
verified.", after_help = IMPORT_EXAMPLES)]
    Import(ImportArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// Partition's directory, or data directory.
    pub(crate) path: PathBuf,
    /// File to write; - is standard output.
    pub(crate) file: PathBuf,
    /// In a data directory: name of the topic.
    #[arg(long, value_name = "NAME")]
    pub(crate) topic: Option<String>,
    /// In a data directory: which partition of the topic.
    #[arg(long, value_name = "INDEX", default_value_t = 0, requires = "topic")]
    pub(crate) partition: u32,
    /// First event [default: the first that is stored]
    #[arg(long, value_name = "EVENT_ID")]
    pub(crate) from: Option<u64>,
    /// Event to stop before [default: the end]
    #[arg(long, value_name = "EVENT_ID")]
    pub(crate) to: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// File to read; - is standard input.
    pub(crate) file: PathBuf,
    /// Data directory of a stopped node, or an empty or absent directory.
    pub(crate) into: PathBuf,
    /// Name of the topic [default: as it was]
    #[arg(long, value_name = "NAME")]
    pub(crate) topic: Option<String>,
    /// Add a partition to a topic that is there.
    #[arg(long)]
    pub(crate) add_partition: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RepairArgs {
    /// Data directory, or partition's directory.
    pub(crate) path: PathBuf,
    /// Only say what would be done; this is the default.
    #[arg(long, conflicts_with = "apply")]
    pub(crate) dry_run: bool,
    /// Do it.
    #[arg(long)]
    pub(crate) apply: bool,
}

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// Data directory, partition's directory, or file.
    pub(crate) path: PathBuf,
    /// Show every frame, not only a summary of each segment.
    #[arg(long)]
    pub(crate) frames: bool,
    /// Show every event's metadata, with its frame.
    #[arg(long)]
    pub(crate) events: bool,
}
