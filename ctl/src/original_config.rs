//! `mofkactl config generate`, with the original's arguments: a Bedrock configuration.

use std::ops::RangeInclusive;
use std::str::FromStr;

use clap::Parser;
use serde_json::{Map, Value, json};

use crate::failure::{EXIT_CODES, Failure, Outcome};
use crate::output;

/// The group file that its servers write.
pub(crate) const GROUP_FILE: &str = "mofka.flock.json";

const EXAMPLE: &str = "\
Examples:
  mofkactl config generate -a tcp > config.json
  mofkactl config generate -a na+sm --num-xstreams-in-servers 1,4 --master-db-needs-persistence";

/// Print a Bedrock configuration, as the original's mofkactl does. `mofka-ctl config generate` prints one of Mofka's own form.
///
/// Numbers may be ranges: 1,4 is a random number from 1 to 4.
#[derive(Debug, Parser)]
#[command(name = "mofkactl config generate", version, after_help = format!("{EXIT_CODES}\n\n{EXAMPLE}"))]
pub(crate) struct ConfigGenerate {
    /// Protocol or address that the servers use: na+sm, tcp, ofi+tcp.
    #[arg(short, long)]
    address: String,
    /// Servers. Each is started with the configuration.
    #[arg(short = 's', long, value_name = "N", default_value = "1")]
    num_servers: Number,
    /// Databases of metadata in a server. Not needed here: partitions have files of their own.
    #[arg(short = 'm', long, value_name = "N", default_value = "1")]
    num_metadata_db_per_proc: Number,
    /// Stores of data in a server. Not needed here.
    #[arg(short = 'd', long, value_name = "N", default_value = "1")]
    num_data_storage_per_proc: Number,
    /// Directories, separated by commas, for the master database: one is chosen at random.
    #[arg(long, value_name = "DIRS", default_value = "/tmp/mofka")]
    master_db_path_prefixes: String,
    /// The same for databases of metadata.
    #[arg(long, value_name = "DIRS", default_value = "/tmp/mofka")]
    metadata_db_path_prefixes: String,
    /// The same for stores of data.
    #[arg(long, value_name = "DIRS", default_value = "/tmp/mofka")]
    data_storage_path_prefixes: String,
    /// The master database survives the server. Everything does here: without it, the default directory is used.
    #[arg(long)]
    master_db_needs_persistence: bool,
    /// Databases of metadata survive the server.
    #[arg(long)]
    metadata_db_needs_persistence: bool,
    /// Stores of data survive the server.
    #[arg(long)]
    data_storage_needs_persistence: bool,
    /// Pools in a server.
    #[arg(short = 'p', long, value_name = "N", default_value = "1")]
    num_pools_in_servers: Number,
    /// Execution streams in a server: here, shards.
    #[arg(short = 'x', long, value_name = "N", default_value = "1")]
    num_xstreams_in_servers: Number,
    /// More pools than execution streams are no mistake.
    #[arg(long)]
    allow_more_pools_than_xstreams: bool,
}

/// A number, or a range of which one is chosen at random.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Number(RangeInclusive<u32>);

impl FromStr for Number {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (first, last) = text.split_once(',').unwrap_or((text, text));
        let number = |digits: &str| {
            let number = digits.trim().parse::<u32>().ok();
            number.filter(|number| (1..=1024).contains(number))
        };
        match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => Ok(Self(first..=last)),
            _ => Err("neither a number from 1 to 1024 nor a range FIRST,LAST of such".to_owned()),
        }
    }
}

/// A random number below `bound`, which is not 0.
pub(crate) fn below(bound: usize) -> usize {
    let random = uuid::Uuid::new_v4().as_u128() >> 64;
    usize::try_from(random % bound as u128).unwrap_or(0)
}

impl Number {
    pub(crate) fn choose(&self) -> u32 {
        let (first, last) = (*self.0.start(), *self.0.end());
        let offset = below(usize::try_from(last - first).unwrap_or(0) + 1);
        first + u32::try_from(offset).unwrap_or(0)
    }
}

/// A database or store: at a path in one of the directories, or in memory.
fn place(kinds: [&str; 2], prefixes: &str, is_kept: bool, name: &str) -> Value {
    let dirs: Vec<&str> = prefixes.split(',').collect();
    let [in_memory, kept] = kinds;
    match dirs.get(below(dirs.len())).filter(|_| is_kept) {
        Some(dir) => {
            let path = format!("{}/{name}", dir.trim().trim_end_matches('/'));
            json!({"type": kept, "config": {"path": path, "create_if_missing": true}})
        }
        None => json!({"type": in_memory, "config": {}}),
    }
}

impl ConfigGenerate {
    /// Prints it.
    pub(crate) fn run(self) -> Outcome {
        output::line(&format!("{:#}", self.bedrock()?))
    }

    /// Protocol or address of the servers.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// How many servers there are to be.
    pub(crate) fn servers(&self) -> u32 {
        self.num_servers.choose()
    }

    /// The configuration of each.
    pub(crate) fn bedrock(&self) -> Outcome<Value> {
        let xstreams = self.num_xstreams_in_servers.choose();
        let pools = self.num_pools_in_servers.choose();
        if pools > xstreams && !self.allow_more_pools_than_xstreams {
            return Err(Failure::usage(format!(
                "{pools} pools for {xstreams} execution streams: give more of these with --num-xstreams-in-servers, or \
                 --allow-more-pools-than-xstreams"
            )));
        }
        let pool = |n: u32| json!({"name": format!("pool_{n}"), "kind": "fifo_wait", "access": "mpmc"});
        let xstream = |n: u32| {
            // Each pool has a stream, and each stream a pool.
            let own = (0..pools).filter(|pool| pool % xstreams == n || *pool == n % pools);
            let own: Vec<String> = own.map(|n| format!("pool_{n}")).collect();
            json!({"name": format!("xstream_{n}"), "scheduler": {"type": "basic_wait", "pools": own}})
        };
        let mut providers = vec![
            json!({
                "name": "group_manager", "type": "flock", "provider_id": 1,
                "config": {"bootstrap": "mpi", "file": GROUP_FILE, "group": {"type": "static"}},
            }),
            json!({
                "name": "master", "type": "yokan", "provider_id": 2, "tags": ["mofka:master"],
                "__if__": "$MPI_COMM_WORLD.rank == 0",
                "config": {"database": place(
                    ["map", "rocksdb"], &self.master_db_path_prefixes, self.master_db_needs_persistence, "master",
                )},
            }),
        ];
        let mut provider = |kind: &str, name: String, tag: &str, config: Map<String, Value>| {
            let provider_id = providers.len() + 1;
            providers.push(
                json!({"name": name, "type": kind, "provider_id": provider_id, "tags": [tag], "config": config}),
            );
        };
        for n in 0..self.num_metadata_db_per_proc.choose() {
            let name = format!("metadata_{n}");
            let database = place(
                ["map", "rocksdb"],
                &self.metadata_db_path_prefixes,
                self.metadata_db_needs_persistence,
                &name,
            );
            provider(
                "yokan",
                name,
                "mofka:metadata",
                Map::from_iter([("database".to_owned(), database)]),
            );
        }
        for n in 0..self.num_data_storage_per_proc.choose() {
            let name = format!("data_{n}");
            let target = place(
                ["memory", "abtio"],
                &self.data_storage_path_prefixes,
                self.data_storage_needs_persistence,
                &name,
            );
            provider(
                "warabi",
                name,
                "mofka:data",
                Map::from_iter([("target".to_owned(), target)]),
            );
        }
        // How many are started is their launcher's business, and on which address their command line's.
        Ok(json!({
            "libraries": ["libflock-bedrock-module.so", "libyokan-bedrock-module.so", "libwarabi-bedrock-module.so",
                          "libmofka-bedrock-module.so"],
            "margo": {"argobots": {
                "pools": (0..pools).map(pool).collect::<Vec<_>>(),
                "xstreams": (0..xstreams).map(xstream).collect::<Vec<_>>(),
            }},
            "providers": providers,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(line: &str) -> Outcome<Value> {
        ConfigGenerate::try_parse_from(line.split(' ')).unwrap().bedrock()
    }

    #[test]
    fn ranges_are_kept_and_every_pool_has_a_stream() {
        for _ in 0..50 {
            let config = made("x -a tcp -x 2,4 -p 1,6 --allow-more-pools-than-xstreams -m 3").unwrap();
            let argobots = &config["margo"]["argobots"];
            let (pools, streams) = (
                argobots["pools"].as_array().unwrap(),
                argobots["xstreams"].as_array().unwrap(),
            );
            assert!(
                (2..=4).contains(&streams.len()) && (1..=6).contains(&pools.len()),
                "{config:#}"
            );
            let used: Vec<&Value> = streams
                .iter()
                .flat_map(|s| s["scheduler"]["pools"].as_array().unwrap())
                .collect();
            assert!(
                pools.iter().all(|pool| used.contains(&&pool["name"])),
                "{config:#}"
            );
            assert_eq!(config["providers"].as_array().unwrap().len(), 6);
        }
        let kept = made("x -a tcp --master-db-needs-persistence --master-db-path-prefixes /a/,/b").unwrap();
        let path = kept["providers"][1]["config"]["database"]["config"]["path"]
            .as_str()
            .unwrap();
        assert!(["/a/master", "/b/master"].contains(&path), "{path}");
    }

    #[test]
    fn bad_numbers_are_wrong_usage() {
        let error = made("x -a tcp -p 3").unwrap_err().to_string();
        assert!(error.contains("3 pools for 1 execution streams"), "{error}");
        for wrong in ["0", "4,2", "a", "1,2,3", "1025", ""] {
            assert!(wrong.parse::<Number>().is_err(), "{wrong}");
        }
    }
}
