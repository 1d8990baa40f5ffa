//! `config check|generate|explain`: configurations, without a node.
//!
//! What a configuration may say is known to `mofkad` alone, which is asked.

use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::cli::{ConfigCheckArgs, ConfigGenerateArgs};
use crate::daemon;
use crate::failure::{Failure, Outcome};
use crate::output::{Output, table};
use crate::suggest;

/// A key, as `mofkad` tells it.
#[derive(Debug, Deserialize)]
struct Key {
    key: String,
    meaning: String,
    unit: Option<String>,
    min: Option<u64>,
    max: Option<u64>,
    #[serde(default)]
    words: Vec<String>,
    default: Value,
    live: bool,
}

/// What `mofkad` found in a configuration.
#[derive(Debug, Deserialize)]
struct Checked {
    form: Option<String>,
    errors: Vec<Complaint>,
    notes: Vec<String>,
    settings: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
struct Complaint {
    line: Option<u64>,
    column: Option<u64>,
    message: String,
    suggestion: Option<String>,
}

impl Complaint {
    fn text(&self) -> String {
        let place = match (self.line, self.column) {
            (Some(line), Some(column)) => format!("line {line} column {column}: "),
            _ => String::new(),
        };
        let hint = self.suggestion.as_ref();
        let hint = hint.map_or_else(String::new, |meant| format!("; did you mean \"{meant}\"?"));
        format!("{place}{}{hint}", self.message)
    }
}

pub(crate) fn check(args: &ConfigCheckArgs, output: Output) -> Outcome {
    let mut value = checked(&args.file, "")?;
    let found: Checked = read(&value)?;
    if let Some(object) = value.as_object_mut() {
        object.insert("file".to_owned(), args.file.display().to_string().into());
    }
    let defaults = keys()?.1;
    output.print(&value, || text(&args.file, &found, &defaults))?;
    match found.errors.len() {
        0 => Ok(()),
        count => Err(Failure::check(format!(
            "{count} errors in {}: no node starts with it",
            args.file.display()
        ))),
    }
}

fn text(file: &Path, found: &Checked, keys: &[Key]) -> String {
    let mut lines = Vec::new();
    if found.form.as_deref() == Some("bedrock") {
        lines.push("Bedrock configuration; what becomes of it here:".to_owned());
        lines.extend(found.notes.iter().map(|note| format!("  {note}")));
        let changed = keys
            .iter()
            .filter_map(|key| Some((key, found.settings.get(&key.key)?)))
            .filter(|(key, value)| **value != key.default);
        lines.extend(changed.map(|(key, value)| format!("  {} is {}", key.key, shown(value))));
    }
    lines.extend(found.errors.iter().map(Complaint::text));
    if found.errors.is_empty() {
        lines.push(format!("{}: nothing is wrong", file.display()));
    }
    lines.join("\n")
}

/// What `mofkad` says of a configuration: of a file, or of `input` when that is /dev/stdin.
fn checked(file: &Path, input: &str) -> Outcome<Value> {
    ask(&["--check-config".into(), "--config".into(), file.into()], input)
}

pub(crate) fn explain(wanted: Option<&str>, output: Output) -> Outcome {
    let (value, keys) = keys()?;
    let Some(wanted) = wanted else {
        return output.print(&value, || {
            let row = |key: &Key| {
                let unit = key.unit.clone().unwrap_or_default();
                let live = if key.live { "yes" } else { "" };
                vec![key.key.clone(), shown(&key.default), unit, live.to_owned()]
            };
            let rows: Vec<Vec<String>> = keys.iter().map(row).collect();
            let heads = ["key", "default", "unit", "live"];
            format!(
                "{}\n\n`mofka-ctl config explain KEY` tells more; KEY may be limits",
                table(&heads, &rows)
            )
        });
    };
    let is_wanted = |key: &str| {
        let rest = key.strip_prefix(wanted);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    if !keys.iter().any(|key| is_wanted(&key.key)) {
        let inside = keys.iter().find(|key| key.key.rsplit('.').next() == Some(wanted));
        let best = suggest::best(wanted, keys.iter().map(|key| key.key.as_str()));
        let best = inside.map(|key| key.key.as_str()).or(best);
        let hint = best.map_or_else(String::new, |key| format!("; did you mean \"{key}\"?"));
        return Err(Failure::usage(format!("there is no setting \"{wanted}\"{hint}")));
    }
    let all = value.as_array().into_iter().flatten();
    let found = all.filter(|value| value["key"].as_str().is_some_and(is_wanted));
    output.print(&found.cloned().collect(), || {
        let told: Vec<String> = keys
            .iter()
            .filter(|key| is_wanted(&key.key))
            .map(Key::text)
            .collect();
        told.join("\n\n")
    })
}

impl Key {
    fn text(&self) -> String {
        let mut lines = vec![self.key.clone(), format!("  {}", self.meaning)];
        lines.push(format!("  default  {}", shown(&self.default)));
        lines.extend(self.unit.as_ref().map(|unit| format!("  unit     {unit}")));
        let bounds = match (self.min, self.max) {
            (Some(min), Some(max)) => Some(format!("{min} to {max}")),
            (Some(min), None) => Some(format!("at least {min}")),
            (None, Some(max)) => Some(format!("at most {max}")),
            (None, None) => None,
        };
        lines.extend(bounds.map(|bounds| format!("  bounds   {bounds}")));
        if !self.words.is_empty() {
            lines.push(format!("  words    {}", self.words.join(", ")));
        }
        lines.push(match self.live {
            true => "  live     yes: `mofka-ctl config set` changes it until the node stops".to_owned(),
            false => "  live     no: it is read at the node's start".to_owned(),
        });
        lines.join("\n")
    }
}

/// Every key, as JSON and read.
fn keys() -> Outcome<(Value, Vec<Key>)> {
    let value = ask(&["--tell".into(), "config-keys".into()], "")?;
    let keys = read(&value)?;
    Ok((value, keys))
}

/// `groupfile`: where the node is to write its group file, when the command line says so.
pub(crate) fn generate(args: &ConfigGenerateArgs, groupfile: Option<&Path>) -> Outcome {
    let mut config = Map::new();
    let keys = keys()?.1;
    if !args.minimal {
        for key in &keys {
            put(&mut config, &key.key, key.default.clone())?;
        }
    }
    let path = |path: &Path| Value::from(path.display().to_string());
    let given = [
        ("shards", args.shards.map(Value::from)),
        ("data_dir", args.data_dir.as_deref().map(path)),
        ("group_file", groupfile.map(path)),
        ("listen", (!args.listen.is_empty()).then(|| json!(args.listen))),
        ("monitoring.listen", args.monitoring.clone().map(Value::from)),
        ("log_level", args.log_level.clone().map(Value::from)),
    ];
    for (key, value) in given {
        if let Some(value) = value {
            put(&mut config, key, value)?;
        }
    }
    for setting in &args.set {
        let (key, value) = setting
            .split_once('=')
            .ok_or_else(|| Failure::usage(format!("--set {setting}: it is KEY=VALUE")))?;
        let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
        put(&mut config, key, value)?;
    }
    let text = format!("{:#}", Value::Object(config));
    let found: Checked = read(&checked(Path::new("/dev/stdin"), &text)?)?;
    let wrong: Vec<String> = found
        .errors
        .into_iter()
        .map(|error| Complaint { line: None, ..error }.text())
        .collect();
    if !wrong.is_empty() {
        return Err(Failure::usage(wrong.join("\n")));
    }
    // JSON with and without --json: it is what a file is to hold.
    crate::output::line(&text)
}

fn put(config: &mut Map<String, Value>, key: &str, value: Value) -> Outcome {
    let (parents, last) = key.rsplit_once('.').map_or(("", key), |parts| parts);
    let mut place = config;
    for part in parents.split('.').filter(|part| !part.is_empty()) {
        let next = place
            .entry(part.to_owned())
            .or_insert_with(|| Value::Object(Map::new()));
        place = next.as_object_mut().ok_or_else(|| {
            Failure::usage(format!(
                "--set {key}: \"{part}\" is a value, and nothing is inside"
            ))
        })?;
    }
    place.insert(last.to_owned(), value);
    Ok(())
}

/// What `mofkad` prints.
pub(crate) fn tell(what: &str) -> Outcome<String> {
    asked(&["--tell".into(), what.into()], "")
}

fn ask(arguments: &[OsString], input: &str) -> Outcome<Value> {
    let text = asked(arguments, input)?;
    serde_json::from_str(&text).map_err(|e| {
        Failure::failed(format!(
            "what mofkad answered is not understood ({e}): is it of the same version?"
        ))
    })
}

fn asked(arguments: &[OsString], input: &str) -> Outcome<String> {
    let program = daemon::find()?;
    let cannot = |e| Failure::failed(format!("cannot run {}: {e}", program.display()));
    let mut child = Command::new(&program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(cannot)?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that does not read it says why.
        stdin.write_all(input.as_bytes()).ok();
    }
    let output = child.wait_with_output().map_err(cannot)?;
    // 1 is of a check that found something.
    if !matches!(output.status.code(), Some(0 | 1)) || output.stdout.is_empty() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said
            .trim()
            .trim_start_matches("mofkad: ")
            .trim_start_matches("error: ");
        return Err(Failure::failed(said));
    }
    String::from_utf8(output.stdout)
        .map_err(|e| Failure::failed(format!("what mofkad printed is no text: {e}")))
}

fn read<T: serde::de::DeserializeOwned>(value: &Value) -> Outcome<T> {
    T::deserialize(value).map_err(|e| {
        Failure::failed(format!(
            "what mofkad answered is not understood ({e}): is it of the same version?"
        ))
    })
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
