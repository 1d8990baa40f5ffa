//! The original's Bedrock JSON: what of it means something here is mapped, the rest is remarked on.
//!
//! Three shapes are in use (simple with an in-memory master, persistent with a RocksDB master, advanced with pools,
//! execution streams and an MPI bootstrap); keys may be written nested or flat (`"a.b.c": v`).

use std::path::PathBuf;

use serde_json::{Map, Value};

use crate::config::{Loaded, NodeConfig};

/// Keys of which one is enough to tell a Bedrock document from ours.
const BEDROCK_KEYS: [&str; 6] = ["libraries", "providers", "margo", "mona", "ssg", "bedrock"];

/// Whether the document is the original's.
pub(crate) fn is_bedrock(value: &Value) -> bool {
    value.as_object().is_some_and(|object| {
        object
            .keys()
            .any(|key| BEDROCK_KEYS.contains(&key.split('.').next().unwrap_or_default()))
    })
}

/// Maps a Bedrock document.
///
/// # Errors
/// When it has no provider that would make it a Mofka node's, or keys are of the wrong type.
pub(crate) fn map(value: Value) -> Result<Loaded, String> {
    let document = unflatten(value)?;
    let mut loaded = Loaded::default();
    let mut mapping = Mapping {
        config: &mut loaded.config,
        notes: &mut loaded.notes,
        group_file: None,
        master: None,
    };
    if document.get("libraries").is_some() {
        mapping.note("\"libraries\" are not loaded: everything is built in");
    }
    mapping.margo(document.get("margo"));
    let providers = match document.get("providers") {
        None => {
            return Err(
                "no \"providers\": a Bedrock configuration of Mofka has a flock and a yokan one".to_owned(),
            );
        }
        Some(Value::Array(providers)) => providers.clone(),
        Some(other) => return Err(format!("\"providers\" is not a list but {other}")),
    };
    for provider in &providers {
        mapping.provider(provider)?;
    }
    let (group_file, master) = (mapping.group_file.take(), mapping.master.take());
    match group_file {
        Some(file) => loaded.config.group_file = file,
        None => loaded
            .notes
            .push("no flock provider names a group file: ./mofka.json is used".to_owned()),
    }
    match master {
        Some(Some(path)) => loaded.config.data_dir = path,
        Some(None) => loaded.notes.push(format!(
            "the master database has no path: topics and events are stored in {} all the same",
            loaded.config.data_dir.display()
        )),
        None => {
            return Err(
                "no provider is tagged \"mofka:master\": this is not a Mofka node's configuration".to_owned(),
            );
        }
    }
    Ok(loaded)
}

struct Mapping<'a> {
    config: &'a mut NodeConfig,
    notes: &'a mut Vec<String>,
    group_file: Option<PathBuf>,
    /// Whether there is a master database, and where.
    master: Option<Option<PathBuf>>,
}

impl Mapping<'_> {
    fn note(&mut self, note: &str) {
        self.notes.push(note.to_owned());
    }

    fn margo(&mut self, margo: Option<&Value>) {
        let Some(margo) = margo else { return };
        let streams = margo
            .pointer("/argobots/xstreams")
            .and_then(Value::as_array)
            .map(Vec::len);
        let threads = margo
            .get("rpc_thread_count")
            .and_then(Value::as_u64)
            .and_then(|n| usize::try_from(n).ok());
        let hint = threads.filter(|n| *n > 0).or(streams.filter(|n| *n > 0));
        if let Some(threads) = hint {
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            let shards = threads.min(cores);
            self.config.shards = Some(shards);
            self.notes.push(format!(
                "\"margo\" asks for {threads} threads: {shards} shards on {cores} cores"
            ));
        } else {
            self.note("\"margo\" is understood as a hint for the number of threads only");
        }
    }

    fn provider(&mut self, provider: &Value) -> Result<(), String> {
        let kind = provider.get("type").and_then(Value::as_str).unwrap_or_default();
        let name = provider
            .get("name")
            .and_then(Value::as_str)
            .unwrap_or("(no name)");
        if let Some(condition) = provider.get("__if__")
            && !self.condition(condition)?
        {
            self.notes.push(format!(
                "provider \"{name}\" is left out: its condition does not hold here"
            ));
            return Ok(());
        }
        let config = provider.get("config").cloned().unwrap_or(Value::Null);
        match kind {
            "flock" => self.flock(&config),
            "yokan" if tagged(provider, "mofka:master") => {
                let path = ["/database/config/path", "/database/path"]
                    .iter()
                    .find_map(|place| config.pointer(place));
                self.master = Some(path.and_then(Value::as_str).map(PathBuf::from));
                Ok(())
            }
            "yokan" | "warabi" | "abt_io" => {
                self.notes.push(format!(
                    "provider \"{name}\" ({kind}) is not needed: partitions store their own files"
                ));
                Ok(())
            }
            "mofka" => {
                self.notes.push(format!(
                    "provider \"{name}\": partitions are added with mofka-ctl and kept in the catalog"
                ));
                Ok(())
            }
            other => {
                self.notes.push(format!(
                    "provider \"{name}\" of type \"{other}\" means nothing here"
                ));
                Ok(())
            }
        }
    }

    fn flock(&mut self, config: &Value) -> Result<(), String> {
        match config.get("file") {
            None => {}
            Some(Value::String(file)) => self.group_file = Some(PathBuf::from(file)),
            Some(other) => return Err(format!("the group file's name is not text but {other}")),
        }
        match config.get("bootstrap").and_then(Value::as_str) {
            None | Some("self") => {}
            Some("mpi") => self.note("bootstrap \"mpi\": this process is the only node, of rank 0"),
            Some("join" | "view") => {
                return Err("joining a group of several nodes is not supported: start each node with its own group file \
                            (bootstrap \"self\")"
                    .to_owned());
            }
            Some(other) => return Err(format!("bootstrap \"{other}\" is not one of self, mpi")),
        }
        Ok(())
    }

    /// Conditions compare a variable with a number (`$MPI_COMM_WORLD.rank == 0`); a single node has rank 0 of size 1.
    fn condition(&mut self, condition: &Value) -> Result<bool, String> {
        let text = match condition {
            Value::Bool(holds) => return Ok(*holds),
            Value::String(text) => text,
            other => return Err(format!("the condition {other} is neither text nor a boolean")),
        };
        let unclear = || {
            format!(
                "the condition \"{text}\" is not understood: only $VARIABLE.rank or .size compared to a number is"
            )
        };
        let (left, operator, right) = ["==", "!=", "<=", ">=", "<", ">"]
            .iter()
            .find_map(|operator| {
                text.split_once(operator)
                    .map(|(left, right)| (left.trim(), *operator, right.trim()))
            })
            .ok_or_else(unclear)?;
        let left: i64 = match left {
            variable if variable.starts_with('$') && variable.ends_with(".rank") => 0,
            variable if variable.starts_with('$') && variable.ends_with(".size") => 1,
            _ => return Err(unclear()),
        };
        let right: i64 = right.parse().map_err(|_| unclear())?;
        Ok(match operator {
            "==" => left == right,
            "!=" => left != right,
            "<=" => left <= right,
            ">=" => left >= right,
            "<" => left < right,
            _ => left > right,
        })
    }
}

fn tagged(provider: &Value, tag: &str) -> bool {
    provider
        .get("tags")
        .and_then(Value::as_array)
        .is_some_and(|tags| tags.iter().any(|found| found.as_str() == Some(tag)))
}

/// Turns flat keys (`"a.b": v`) into nested ones, everywhere.
fn unflatten(value: Value) -> Result<Value, String> {
    match value {
        Value::Object(object) => {
            let mut nested = Map::new();
            for (key, value) in object {
                let value = unflatten(value)?;
                insert(&mut nested, &key, value)?;
            }
            Ok(Value::Object(nested))
        }
        Value::Array(items) => items
            .into_iter()
            .map(unflatten)
            .collect::<Result<_, _>>()
            .map(Value::Array),
        other => Ok(other),
    }
}

fn insert(into: &mut Map<String, Value>, key: &str, value: Value) -> Result<(), String> {
    let Some((first, rest)) = key.split_once('.') else {
        if let (Some(Value::Object(there)), Value::Object(more)) = (into.get_mut(key), &value) {
            for (key, value) in more {
                insert(there, key, value.clone())?;
            }
            return Ok(());
        }
        into.insert(key.to_owned(), value);
        return Ok(());
    };
    let below = into
        .entry(first.to_owned())
        .or_insert_with(|| Value::Object(Map::new()));
    match below {
        Value::Object(below) => insert(below, rest, value),
        other => Err(format!(
            "key \"{key}\" goes through \"{first}\", which is {other} and not an object"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn simple() -> Value {
        json!({
            "libraries": ["libflock-bedrock-module.so", "libyokan-bedrock-module.so", "libmofka-bedrock-module.so"],
            "providers": [
                {"name": "group_manager", "type": "flock", "provider_id": 1,
                 "config": {"bootstrap": "self", "file": "mofka.json", "group": {"type": "static"}}},
                {"name": "master", "provider_id": 2, "type": "yokan", "tags": ["mofka:master"],
                 "config": {"database": {"type": "map"}}}
            ]
        })
    }

    #[test]
    fn the_simple_shape_gives_the_group_file() {
        let loaded = map(simple()).unwrap();
        assert_eq!(loaded.config.group_file, PathBuf::from("mofka.json"));
        assert_eq!(loaded.config.data_dir, PathBuf::from("./mofka-data"));
        assert!(loaded.notes.iter().any(|note| note.contains("libraries")));
    }

    #[test]
    fn the_persistent_shape_gives_the_data_directory() {
        let mut document = simple();
        document["providers"][1]["config"]["database"] =
            json!({"type": "rocksdb", "config": {"path": "/nvme/mofka", "create_if_missing": true}});
        assert_eq!(
            map(document).unwrap().config.data_dir,
            PathBuf::from("/nvme/mofka")
        );
    }

    #[test]
    fn the_advanced_shape_gives_threads_and_conditions() {
        let document = json!({
            "margo": {"rpc_thread_count": 1, "use_progress_thread": true},
            "providers": [
                {"name": "group", "type": "flock", "config.bootstrap": "mpi", "config.file": "g.json"},
                {"name": "master", "type": "yokan", "tags": ["mofka:master"], "__if__": "$MPI_COMM_WORLD.rank == 0",
                 "config.database.config.path": "/d"},
                {"name": "other", "type": "yokan", "tags": ["mofka:master"], "__if__": "$MPI_COMM_WORLD.rank > 0",
                 "config.database.config.path": "/not-here"},
                {"name": "io", "type": "abt_io", "config": {"num_urings": 1}}
            ]
        });
        let loaded = map(document).unwrap();
        assert_eq!(loaded.config.shards, Some(1));
        assert_eq!(loaded.config.data_dir, PathBuf::from("/d"));
        assert_eq!(loaded.config.group_file, PathBuf::from("g.json"));
    }

    #[test]
    fn a_document_without_a_master_is_refused() {
        let error = map(json!({"providers": []})).unwrap_err();
        assert!(error.contains("mofka:master"), "{error}");
    }
}
