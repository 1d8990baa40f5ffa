//! The command line of `config check|generate|explain`, and of `generate`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use clap_complete::Shell;

#[derive(Debug, Args)]
pub(crate) struct ConfigCheckArgs {
    /// Configuration: Mofka's own JSON, or Bedrock JSON.
    pub(crate) file: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct ConfigGenerateArgs {
    /// Only what is given here, and no defaults.
    #[arg(long)]
    pub(crate) minimal: bool,
    /// Number of shards [default: one for each core]
    #[arg(long, value_name = "N")]
    pub(crate) shards: Option<u32>,
    /// Directory for all that is stored.
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Address to listen on; may be given several times.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Vec<String>,
    /// Where the node has its metrics and its status page, by HTTP.
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) monitoring: Option<String>,
    /// What the node logs.
    #[arg(long, value_name = "LEVEL")]
    pub(crate) log_level: Option<String>,
    /// Any other setting, by its key with dots; its value is JSON, or else text. May be given several times.
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum GenerateCommand {
    /// Print the completion of a shell for this program.
    Completions {
        /// The shell.
        shell: Shell,
        /// Name of the program that is completed: mofka-ctl, mofkactl, or mofkad.
        #[arg(long, value_name = "NAME", default_value = "mofka-ctl")]
        name: String,
    },
    /// Write the manual pages of this program, of each of its commands, and of mofkad.
    Man {
        /// Directory for them; made when it is not there.
        directory: PathBuf,
    },
}
