//! The command line of `doctor`.

use std::path::PathBuf;

use clap::Args;

const MEANING: &str = "\
Each check says what it found, what that means, and what to do. Ends with 4 when one is bad: a node would not start, or would
not keep what it promises.";

#[derive(Debug, Args)]
#[command(after_help = MEANING)]
pub(crate) struct DoctorArgs {
    /// Configuration of the node: its data_dir, shards, listen, direct_io and limits are looked at.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Directory for all that is stored; replaces data_dir [default: ./mofka-data]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Write nothing: direct I/O and how long a sync takes are not tried then.
    #[arg(long)]
    pub(crate) no_write: bool,
}
