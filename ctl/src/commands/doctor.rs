//! `doctor`: whether this machine is one for a node, and what to do where it is not.

mod checks;
mod device;
mod facts;
mod gather;
mod places;
mod ring;
mod writes;

use std::path::Path;

use serde_json::{Value, json};

use self::checks::{Finding, Verdict};
use self::facts::Wanted;
use self::gather::Roots;
use crate::cli::DoctorArgs;
use crate::failure::{Failure, Outcome};
use crate::node;
use crate::output::Output;

/// Where the text of a check begins.
const INDENT: &str = "          ";

pub(crate) fn run(args: &DoctorArgs, output: Output) -> Outcome {
    let mut wanted = match &args.config {
        Some(path) => read(path)?,
        None => Wanted::default(),
    };
    if let Some(dir) = &args.data_dir {
        wanted.data_dir.clone_from(dir);
    }
    let facts = gather::facts(&Roots::default(), wanted, !args.no_write);
    let findings = checks::all(&facts);
    let worst = worst(&findings);
    let document = json!({"verdict": node::to_json(&worst)?, "checks": node::to_json(&findings)?});
    output.print(&document, || text(&findings))?;
    let count = |verdict: Verdict| {
        findings
            .iter()
            .filter(|finding| finding.verdict == verdict)
            .count()
    };
    match count(Verdict::Bad) {
        0 => Ok(()),
        bad => Err(Failure::check(format!(
            "{bad} of {} checks are bad: see above",
            findings.len()
        ))),
    }
}

/// What was not looked at does not count.
fn worst(findings: &[Finding]) -> Verdict {
    let verdicts = findings.iter().map(|finding| finding.verdict);
    verdicts
        .filter(|verdict| *verdict != Verdict::Skipped)
        .max()
        .unwrap_or(Verdict::Skipped)
}

fn text(findings: &[Finding]) -> String {
    let mut lines = Vec::new();
    for finding in findings {
        let verdict = match finding.verdict {
            Verdict::Good => "good",
            Verdict::Skipped => "skipped",
            Verdict::Warning => "WARNING",
            Verdict::Bad => "BAD",
        };
        lines.push(format!("{verdict:<10}{}: {}", finding.check, finding.found));
        lines.push(format!("{INDENT}{}", finding.meaning));
        if let Some(advice) = &finding.advice {
            lines.push(format!("{INDENT}-> {advice}"));
        }
    }
    lines.join("\n")
}

/// What a node with this configuration wants. Whether the rest of it makes sense is not looked at here.
fn read(path: &Path) -> Outcome<Wanted> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::failed(format!("cannot read {}: {error}", path.display())))?;
    let config: Value = serde_json::from_str(&text)
        .map_err(|error| Failure::failed(format!("{} is not JSON: {error}", path.display())))?;
    wanted(&config).map_err(|reason| Failure::failed(format!("{}: {reason}", path.display())))
}

fn wanted(config: &Value) -> Result<Wanted, String> {
    let object = config.as_object().ok_or("a configuration is a JSON object")?;
    if ["margo", "providers", "libraries", "bedrock"]
        .iter()
        .any(|key| object.contains_key(*key))
    {
        return Err("it is of Bedrock: say with --data-dir where its node stores".to_owned());
    }
    let mut wanted = Wanted::default();
    let wrong = |key: &str, value: &Value, what: &str| format!("\"{key}\" is {value}, not {what}");
    if let Some(value) = object.get("data_dir") {
        wanted.data_dir = value
            .as_str()
            .ok_or_else(|| wrong("data_dir", value, "text"))?
            .into();
    }
    if let Some(value) = object.get("shards").filter(|value| !value.is_null()) {
        let shards = value.as_u64().and_then(|shards| usize::try_from(shards).ok());
        wanted.shards = Some(shards.ok_or_else(|| wrong("shards", value, "a number"))?);
    }
    if let Some(value) = object.get("listen") {
        let list = value.as_array().ok_or_else(|| wrong("listen", value, "a list"))?;
        let texts = list.iter().map(|address| address.as_str().map(str::to_owned));
        wanted.listen = texts
            .collect::<Option<_>>()
            .ok_or_else(|| wrong("listen", value, "a list of texts"))?;
    }
    if let Some(value) = object.get("direct_io") {
        wanted.needs_direct_io = value != "auto";
    }
    let limit = |key: &str, otherwise: u64| config["limits"][key].as_u64().unwrap_or(otherwise);
    wanted.connections_max = limit("connections_max", wanted.connections_max);
    let defaults = [
        ("shard_recent_bytes_max", 128 << 20),
        ("shard_read_ahead_bytes_max", 64 << 20),
    ];
    wanted.shard_memory_bytes = defaults
        .iter()
        .map(|(key, otherwise)| limit(key, *otherwise))
        .sum();
    Ok(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_says_what_is_wanted() {
        let config = json!({
            "data_dir": "/d", "shards": 3, "listen": ["tcp://0.0.0.0:9000"], "direct_io": "auto",
            "limits": {"connections_max": 7, "shard_recent_bytes_max": 1}
        });
        let wanted = wanted(&config).unwrap();
        assert_eq!(
            (wanted.data_dir.as_path(), wanted.shards),
            (Path::new("/d"), Some(3))
        );
        assert_eq!((wanted.needs_direct_io, wanted.connections_max), (false, 7));
        assert_eq!(wanted.shard_memory_bytes, 1 + (64 << 20));
        assert_eq!(wanted.listen, ["tcp://0.0.0.0:9000"]);
    }

    #[test]
    fn what_is_none_is_refused_with_its_place() {
        for (config, part) in [
            (json!([]), "object"),
            (json!({"shards": "two"}), "\"shards\" is \"two\""),
            (json!({"listen": [1]}), "\"listen\""),
            (json!({"providers": []}), "--data-dir"),
        ] {
            let error = wanted(&config).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
