//! `config get|set`: settings of a node that runs.

use std::collections::BTreeMap;
use std::path::Path;

use mofka_client::{Setting, SettingChange};
use serde_json::{Value, json};

use crate::cli::ConfigCommand;
use crate::commands::config_file;
use crate::failure::{Failure, Outcome};
use crate::node::{self, Place};
use crate::output::{Output, table};

pub(crate) fn run(
    command: &ConfigCommand,
    place: &Place,
    groupfile_given: Option<&Path>,
    output: Output,
) -> Outcome {
    match command {
        ConfigCommand::Get { key } => get(key.as_deref(), place, output),
        ConfigCommand::Set { key, value } => set(key, value, place, output),
        ConfigCommand::Check(args) => config_file::check(args, output),
        ConfigCommand::Generate(args) => config_file::generate(args, groupfile_given),
        ConfigCommand::Explain { key } => config_file::explain(key.as_deref(), output),
    }
}

fn get(key: Option<&str>, place: &Place, output: Output) -> Outcome {
    let settings = node::connect(place)?.node_config(0).map_err(node::failure)?;
    let Some(key) = key else {
        let row = |setting: &Setting| {
            let live = if setting.live { "yes" } else { "" };
            vec![setting.key.clone(), shown(&setting.value), live.to_owned()]
        };
        let rows: Vec<Vec<String>> = settings.iter().map(row).collect();
        return output.print(&node::to_json(&settings)?, || {
            table(&["key", "value", "live"], &rows)
        });
    };
    let Some(setting) = settings.iter().find(|setting| setting.key == key) else {
        return Err(Failure::failed(format!(
            "there is no setting \"{key}\": `mofka-ctl config get` lists them"
        )));
    };
    output.print(&node::to_json(setting)?, || shown(&setting.value))
}

fn set(key: &str, value: &str, place: &Place, output: Output) -> Outcome {
    let wanted = BTreeMap::from([(key.to_owned(), read(value))]);
    let changed = node::connect(place)?
        .change_config(0, wanted)
        .map_err(node::failure)?;
    output.print(&json!({"changed": changed}), || match changed.first() {
        None => format!("{key} is {value} already"),
        Some(SettingChange { key, was, is }) => format!(
            "{key}: {} (was {}); holds until the node stops",
            shown(is),
            shown(was)
        ),
    })
}

/// A value as it is written on a command line: JSON, or else text.
fn read(value: &str) -> Value {
    serde_json::from_str(value).unwrap_or_else(|_| Value::from(value))
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_json_or_else_text() {
        assert_eq!(read("debug"), json!("debug"));
        assert_eq!(read("info,mofka_engine=debug"), json!("info,mofka_engine=debug"));
        assert_eq!(read("7"), json!(7));
        assert_eq!(read("true"), json!(true));
        assert_eq!(read("[\"a\"]"), json!(["a"]));
        assert_eq!(
            (shown(&json!("a")), shown(&json!([1]))),
            ("a".to_owned(), "[1]".to_owned())
        );
    }
}
