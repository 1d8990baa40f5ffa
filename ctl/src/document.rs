//! Files of settings in the language that their name says: YAML, TOML or JSON.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde_json::Value;

use crate::failure::{Failure, Outcome};

/// Reads a file of at most so many bytes.
pub(crate) fn read(path: &Path, bytes_max: u64) -> Outcome<Value> {
    read_as(path, bytes_max, "")
}

/// The same; `otherwise` is what a name without one of the extensions means.
fn read_as(path: &Path, bytes_max: u64, otherwise: &str) -> Outcome<Value> {
    let fail = |what: String| Failure::failed(format!("cannot read {}: {what}", path.display()));
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(bytes_max + 1).read_to_string(&mut text))
        .map_err(|error| fail(error.to_string()))?;
    if text.len() as u64 > bytes_max {
        return Err(fail(format!("it has more than {bytes_max} bytes")));
    }
    let extension = path
        .extension()
        .and_then(|extension| extension.to_str())
        .unwrap_or_default();
    let is_known = ["yaml", "yml", "toml", "json"].contains(&extension.to_ascii_lowercase().as_str());
    parse(&text, if is_known { extension } else { otherwise }).map_err(fail)
}

/// The same, where a name that says nothing means JSON.
pub(crate) fn read_or_json(path: &Path, bytes_max: u64) -> Outcome<Value> {
    read_as(path, bytes_max, "json")
}

fn parse(text: &str, extension: &str) -> Result<Value, String> {
    match extension.to_ascii_lowercase().as_str() {
        "yaml" | "yml" => serde_saphyr::from_str(text).map_err(|error| format!("it is not YAML: {error}")),
        "toml" => toml::from_str(text).map_err(|error| format!("it is not TOML: {error}")),
        "json" => serde_json::from_str(text).map_err(|error| format!("it is not JSON: {error}")),
        _ => {
            Err("its name has to end in .yaml, .yml, .toml or .json, which says how it is written".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_same_in_three_languages() {
        let expected = json!({"drivers": {"a": {"type": "mofka", "on": true, "n": -3, "f": 1.5}}, "list": [{"x": "1.2.3"}]});
        let yaml =
            "drivers:\n  a:\n    type: mofka\n    on: true\n    n: -3\n    f: 1.5\nlist:\n  - x: 1.2.3\n";
        let toml = "[drivers.a]\ntype = \"mofka\"\non = true\nn = -3\nf = 1.5\n[[list]]\nx = \"1.2.3\"\n";
        assert_eq!(parse(yaml, "yaml").unwrap(), expected);
        assert_eq!(parse(yaml, "YML").unwrap(), expected);
        assert_eq!(parse(toml, "toml").unwrap(), expected);
        assert_eq!(parse(&expected.to_string(), "json").unwrap(), expected);
    }

    #[test]
    fn what_is_not_is_said() {
        for (text, extension, what) in [
            ("a: [", "yaml", "not YAML"),
            ("a: 1\na: 2\n", "yaml", "not YAML"),
            ("a =", "toml", "not TOML"),
            ("{", "json", "not JSON"),
            ("", "conf", "has to end in"),
        ] {
            let error = parse(text, extension).unwrap_err();
            assert!(error.contains(what), "{error}");
        }
    }
}
