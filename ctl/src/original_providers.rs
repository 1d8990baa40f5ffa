//! `mofkactl metadata add` and `data add`, with the original's arguments.
//!
//! There, they make a server's databases and stores, for partitions to be kept in. Here a partition has files of its own, so
//! there is nothing to make: scripts get the name that they hand on to `partition add`, which does not need it.

use std::path::PathBuf;

use clap::Parser;

use crate::dotted::Dotted;
use crate::failure::{EXIT_CODES, Failure, Outcome};
use crate::node::{self, Place};
use crate::{commands::partition, output};

const EXAMPLE: &str = "\
Example:
  mofkactl metadata add --rank 0 --groupfile mofka.json";

/// Print the name of a provider of metadata or data on a node. Nothing is made: partitions have files of their own here.
#[derive(Debug, Parser)]
#[command(version, after_help = format!("{EXIT_CODES}\n\n{EXAMPLE}"))]
pub(crate) struct ProviderAdd {
    /// Rank of the node.
    #[arg(short, long)]
    rank: usize,
    /// Of the original; has no meaning here.
    #[arg(short = 't', long = "type", value_name = "TYPE", default_value = "map")]
    _type: String,
    /// Group file that the node wrote.
    #[arg(short, long, value_name = "FILE", default_value = "./mofka.json")]
    groupfile: PathBuf,
}

impl ProviderAdd {
    /// `kind`: metadata or data.
    pub(crate) fn run(self, kind: &str, mut dotted: Dotted) -> Outcome {
        dotted.take("config")?;
        partition::check_dependencies(&dotted.take("dependencies")?)?;
        dotted.expect_none_left()?;
        let driver = node::connect(&Place::GroupFile(self.groupfile))?;
        let status = driver.node_status(self.rank).map_err(node::failure)?;
        let shard = status.shards.first();
        let address = shard.and_then(|shard| shard.addresses.first());
        let address = address.ok_or_else(|| Failure::failed("the node tells no address of its own"))?;
        eprintln!("note: nothing was made: a partition has files of its own, and needs no provider");
        output::line(&format!("{kind}_{}@{address}", self.rank))
    }
}
