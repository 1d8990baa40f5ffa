//! The JSON that commands print, held against `ctl/schemas`.
//!
//! `Bench::run` calls [`check`] on all that it runs, so that every test that prints JSON is a test of its schema too.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use jsonschema::{Registry, Validator};
use serde_json::{Value, json};

/// Where relative references of the schemas lead: nothing is ever fetched from there.
const BASE: &str = "https://mofka.invalid/schemas/";

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas")
}

fn read(name: &str) -> Value {
    let path = directory().join(format!("{name}.json"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

static COMMON: LazyLock<Registry<'static>> = LazyLock::new(|| {
    let registry = Registry::new().add(format!("{BASE}common.json"), read("common"));
    registry.unwrap().prepare().unwrap()
});

fn validator(name: &str) -> Validator {
    let built = jsonschema::options()
        .with_draft(jsonschema::Draft::Draft202012)
        .with_base_uri(format!("{BASE}{name}.json"))
        .with_registry(&COMMON)
        .should_validate_formats(true)
        .build(&read(name));
    built.unwrap_or_else(|e| panic!("ctl/schemas/{name}.json: {e}"))
}

/// Panics unless the value is as `ctl/schemas/NAME.json` says.
#[track_caller]
pub(crate) fn conforms(name: &str, value: &Value) {
    let validator = validator(name);
    let complaints: Vec<String> = validator
        .iter_errors(value)
        .map(|e| format!("{}: {e}", e.instance_path()))
        .collect();
    assert!(
        complaints.is_empty(),
        "not as ctl/schemas/{name}.json says:\n{}\n{value:#}",
        complaints.join("\n")
    );
}

/// Panics unless each line is as `ctl/schemas/NAME.json` says.
#[track_caller]
pub(crate) fn lines_conform(name: &str, text: &str) {
    for line in text.lines() {
        let value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{name}: {e}: {line:?}"));
        conforms(name, &value);
    }
}

/// Commands that print a JSON document for each line, with `--json` or when nothing else is asked for.
const LINES: [&str; 2] = ["consume", "tail"];

/// Commands whose log is of such lines with `--json`.
const LOGS: [&str; 2] = ["forward", "fifo"];

/// The schema of what a command line prints, if that is JSON.
fn schema_of(line: &str) -> Option<String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let has = |word: &str| words.contains(&word);
    let (program, rest) = words.split_first()?;
    let is_ours = ["mofka-ctl", "mofkactl"].contains(program);
    let commands: Vec<&str> = rest
        .iter()
        .copied()
        .filter(|word| !word.starts_with('-'))
        .collect();
    let first = commands.first().copied().unwrap_or_default();
    let is_lines = LINES.contains(&first) && !words.iter().any(|word| word.starts_with("--format"));
    if !is_ours || has("--help") || !(has("--json") || is_lines) {
        return None;
    }
    // A command's words are one or two.
    let two = commands.get(..2).map(|two| two.join("-")).unwrap_or_default();
    let known = |name: &&str| directory().join(format!("{name}.json")).exists();
    let name = [two.as_str(), first].into_iter().find(known);
    Some(
        name.unwrap_or_else(|| panic!("no schema for {line:?} in ctl/schemas"))
            .to_owned(),
    )
}

/// Holds what a command line printed against its schema, when it printed JSON.
#[track_caller]
pub(crate) fn check(line: &str, out: &str) {
    let Some(name) = schema_of(line).filter(|_| !out.is_empty()) else {
        return;
    };
    if LINES.iter().chain(&LOGS).any(|lines| *lines == name) {
        return lines_conform(&name, out);
    }
    let value = serde_json::from_str(out).unwrap_or_else(|e| panic!("{line}: {e}: {out:?}"));
    conforms(&name, &value);
}

/// Every command whose JSON no other test looks at, in an order in which all of them succeed.
const EVERY_COMMAND: &[&str] = &[
    "start --shards 1",
    "status",
    "config get",
    "config get log_level",
    "config set log_level debug",
    "config check made.json",
    "config explain",
    "topic create t --retention-age 7d --retention-keep-unacknowledged=a",
    "topic list",
    "topic describe t",
    "topic alter t --retention-bytes 1GiB --retention-acknowledged",
    "partition add t --shard 0",
    "partition add t",
    "partition list t",
    "partition describe t 0",
    "produce t lines --partition 0",
    "produce t --stream lines --partition 1",
    "consume t --count 3 -c c",
    "tail t --from first --count 3 --data none",
    "consumer list t",
    "consumer describe t c",
    "consumer lag t",
    "consumer seek t c first",
    "consumer delete t c",
    "topic complete t --partition 0",
    "topic complete t",
    "topic delete t",
    "links .",
    "shutdown",
];
/// Commands whose JSON other tests look at.
const ELSEWHERE: &[&str] = &[
    "log-inspect",
    "log-verify",
    "log-repair",
    "log-export",
    "log-import",
    "demo",
    "doctor",
    "top",
    "bench-produce",
    "bench-consume",
    "bench-roundtrip",
    "forward",
    "fifo",
    "partition-move",
];

#[test]
fn every_command_prints_json_as_its_schema_says() {
    let bench = crate::run::Bench::with_daemon();
    std::fs::write(bench.path().join("lines"), "{\"a\": 1}\n{\"a\": 2}\n").unwrap();
    std::fs::write(bench.path().join("made.json"), "{}").unwrap();
    let mut looked_at: Vec<String> = ELSEWHERE.iter().map(|name| (*name).to_owned()).collect();
    for line in EVERY_COMMAND {
        let line = format!("mofka-ctl --json {line}");
        assert_ne!(bench.run(&line).ok(), "", "{line}");
        looked_at.extend(schema_of(&line));
    }
    for entry in std::fs::read_dir(directory()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert!(
            name == "common" || looked_at.iter().any(|looked_at| looked_at == name),
            "{name}: nothing looks whether it is so: add the command to EVERY_COMMAND"
        );
    }
}

/// Every schema inside of this one, at any depth.
fn schemas_in<'a>(value: &'a Value, found: &mut Vec<&'a Value>) {
    match value {
        Value::Object(object) => {
            found.push(value);
            object.values().for_each(|below| schemas_in(below, found));
        }
        Value::Array(list) => list.iter().for_each(|below| schemas_in(below, found)),
        _ => {}
    }
}

#[test]
fn every_schema_is_one_and_says_what_each_field_is() {
    let mut count = 0;
    for entry in std::fs::read_dir(directory()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let schema = read(&name);
        assert_eq!(
            schema["$schema"], "https://json-schema.org/draft/2020-12/schema",
            "{name}"
        );
        assert!(schema["title"].is_string(), "{name} has no title");
        jsonschema::draft202012::meta::validate(&schema).unwrap_or_else(|e| panic!("{name}: {e}"));
        // Also that each reference leads somewhere.
        validator(&name);
        let mut found = Vec::new();
        schemas_in(&schema, &mut found);
        for inside in found {
            let Some(properties) = inside["properties"].as_object() else {
                continue;
            };
            let is_open =
                inside["properties"]["type"]["type"] == "string" && inside["required"] == json!(["type"]);
            assert!(
                is_open || inside["additionalProperties"] == json!(false),
                "{name}: additionalProperties is not false in {inside}"
            );
            for (key, property) in properties {
                let is_described = property["description"].is_string()
                    || property["$ref"].is_string()
                    || property["oneOf"].is_array();
                assert!(is_described, "{name}: {key} is not described");
            }
        }
        count += 1;
    }
    assert!(count > 20, "{count} schemas");
}

#[test]
fn what_is_not_as_its_schema_says_is_found() {
    let fine = json!({"deleted": "t"});
    conforms("topic-delete", &fine);
    for wrong in [
        json!({}),
        json!({"deleted": 1}),
        json!({"deleted": "t", "more": 1}),
        json!([]),
    ] {
        assert!(!validator("topic-delete").is_valid(&wrong), "{wrong}");
    }
    let info = json!({"id": "7", "index": 0, "type": "default", "rank": 0, "shard": 0, "addresses": []});
    assert!(!validator("partition-add").is_valid(&info), "no identity");
}
