//! `config get|set`: settings of a node that runs.

mod saving;

use std::collections::BTreeMap;
use std::path::Path;

use mofka_client::{ConfigGetResponse, Driver, Setting, SettingChange};
use serde_json::{Value, json};

use crate::cli::ConfigCommand;
use crate::commands::config_file;
use crate::failure::{Failure, Outcome};
use crate::node::{self, Place};
use crate::output::{Output, table};
use crate::suggest;

pub(crate) fn run(
    command: &ConfigCommand,
    place: &Place,
    groupfile_given: Option<&Path>,
    output: Output,
) -> Outcome {
    match command {
        ConfigCommand::Get { key } => get(key.as_deref(), place, output),
        ConfigCommand::Set { key, value, save } => set(key, value, *save, place, output),
        ConfigCommand::Check(args) => config_file::check(args, output),
        ConfigCommand::Generate(args) => config_file::generate(args, groupfile_given),
        ConfigCommand::Explain { key } => config_file::explain(key.as_deref(), output),
    }
}

fn get(key: Option<&str>, place: &Place, output: Output) -> Outcome {
    let settings = settings(&node::connect(place)?)?.settings;
    let Some(key) = key else {
        let row = |setting: &Setting| {
            let live = if setting.live { "yes" } else { "" };
            let was = match setting.configured == setting.value {
                true => String::new(),
                false => shown(&setting.configured),
            };
            vec![setting.key.clone(), shown(&setting.value), live.to_owned(), was]
        };
        let rows: Vec<Vec<String>> = settings.iter().map(row).collect();
        return output.print(&node::to_json(&settings)?, || {
            table(&["key", "value", "live", "at the start"], &rows)
        });
    };
    let Some(setting) = settings.iter().find(|setting| setting.key == key) else {
        let known = settings.iter().map(|setting| setting.key.as_str());
        let hint = suggest::best(key, known).map(|best| format!("; did you mean \"{best}\"?"));
        return Err(Failure::failed(format!(
            "there is no setting \"{key}\"{} (`mofka-ctl config get` lists them)",
            hint.unwrap_or_default()
        )));
    };
    output.print(&node::to_json(setting)?, || shown(&setting.value))
}

fn settings(driver: &Driver) -> Outcome<ConfigGetResponse> {
    driver.node_config(0).map_err(node::failure)
}

fn set(key: &str, value: &str, save: bool, place: &Place, output: Output) -> Outcome {
    let driver = node::connect(place)?;
    let wanted = BTreeMap::from([(key.to_owned(), read(value))]);
    let changed = driver.change_config(0, wanted).map_err(node::failure)?;
    let what = |changed: &[SettingChange]| match changed.first() {
        None => format!("{key} is {value} already"),
        Some(SettingChange { key, was, is, note }) => {
            format!("{key}: {} (was {}), {note}", shown(is), shown(was))
        }
    };
    if !save {
        return output.print(&json!({"changed": changed}), || match changed.is_empty() {
            true => what(&changed),
            false => format!(
                "{}\nholds until the node stops; --save writes it into the node's configuration",
                what(&changed)
            ),
        });
    }
    let node = settings(&driver)?;
    match saving::save(&node, &[key]) {
        Ok(path) => output.print(&json!({"changed": changed, "saved": path}), || {
            format!("{}\nsaved in {}", what(&changed), path.display())
        }),
        Err(reason) => {
            let lines = saving::lines(&node, &[key]);
            output.print(
                &json!({"changed": changed, "not_saved": reason, "lines": lines}),
                || {
                    format!(
                        "{}\nto keep it, put this into the configuration: {lines}",
                        what(&changed)
                    )
                },
            )?;
            Err(Failure::failed(format!(
                "{key} holds until the node stops, and was not saved: {reason}"
            )))
        }
    }
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
