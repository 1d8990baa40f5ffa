//! `start`: a node in the background, ready when the command ends.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::cli::{GROUP_FILE, StartArgs};
use crate::daemon::Daemon;
use crate::failure::{Failure, Outcome};
use crate::node::{self, Place};
use crate::output::Output;

pub(crate) fn run(args: &StartArgs, groupfile_given: Option<PathBuf>, output: Output) -> Outcome {
    let groupfile = match &groupfile_given {
        Some(path) => path.clone(),
        None => args
            .config
            .as_deref()
            .and_then(groupfile_of_config)
            .unwrap_or_else(|| PathBuf::from(GROUP_FILE)),
    };
    let place = Place::GroupFile(groupfile.clone());
    if let Ok(there) = node::status(&place) {
        return Err(Failure::failed(format!(
            "{} names a node that is running already (pid {}): stop it with `mofka-ctl shutdown`, or give another \
             group file with --groupfile",
            groupfile.display(),
            there.pid
        )));
    }
    let mut daemon = Daemon::spawn(&arguments(args, groupfile_given), &args.log_file)?;
    let pid = daemon.pid();
    // A group file may be left from an earlier life, so only the answer of this very process counts.
    let ready = || node::status(&place).ok().filter(|status| status.pid == pid);
    let status = daemon.wait_ready(Duration::from_secs(args.timeout), ready)?;
    let addresses: Vec<String> = status
        .shards
        .first()
        .map(|shard| shard.addresses.clone())
        .unwrap_or_default();
    let facts = json!({
        "node": status.node, "pid": pid, "addresses": addresses, "groupfile": groupfile, "log_file": args.log_file,
    });
    output.print(&facts, || addresses.join(" "))
}

/// The arguments for `mofkad`.
fn arguments(args: &StartArgs, groupfile_given: Option<PathBuf>) -> Vec<OsString> {
    let mut line: Vec<OsString> = Vec::new();
    let mut add =
        |name: &str, value: Option<OsString>| line.extend(value.into_iter().flat_map(|v| [name.into(), v]));
    add("--config", args.config.clone().map(Into::into));
    add("--protocol", args.protocol.clone().map(Into::into));
    args.listen
        .iter()
        .for_each(|address| add("--listen", Some(address.into())));
    add("--data-dir", args.data_dir.clone().map(Into::into));
    add("--group-file", groupfile_given.map(Into::into));
    add("--shards", args.shards.map(|n| n.to_string().into()));
    add("--log-level", args.log_level.clone().map(Into::into));
    add("--monitoring", args.monitoring.clone().map(Into::into));
    line
}

/// The group file that a configuration names: ours, or that of a Bedrock configuration's group provider. When it cannot
/// be read, the daemon says so better.
fn groupfile_of_config(path: &Path) -> Option<PathBuf> {
    let config: Value = serde_json::from_str(&std::fs::read_to_string(path).ok()?).ok()?;
    let ours = config["group_file"].as_str();
    let providers = config["providers"].as_array();
    let group = providers.and_then(|list| list.iter().find(|provider| provider["type"] == "flock"));
    let theirs = group.and_then(|g| g["config"]["file"].as_str().or_else(|| g["config.file"].as_str()));
    ours.or(theirs).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn the_group_file_is_found_in_both_forms() {
        let found = |text: &str| {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(text.as_bytes()).unwrap();
            groupfile_of_config(file.path())
        };
        assert_eq!(found(r#"{"group_file": "a.json"}"#), Some("a.json".into()));
        assert_eq!(
            found(r#"{"providers": [{"type": "flock", "config": {"file": "b.json"}}]}"#),
            Some("b.json".into())
        );
        assert_eq!(found("{}"), None);
        assert_eq!(found("nonsense"), None);
    }
}
