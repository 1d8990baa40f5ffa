//! All that is wrong with a configuration at once, each with its place and what was probably meant.
//!
//! Each setting is tried alone by what a start goes through, [`NodeConfig::parse`] and [`NodeConfig::check`], so that no rule is
//! written here a second time.

use serde::Serialize;
use serde_json::{Map, Value};

use super::places::{Place, places};
use super::{NodeConfig, quoted};
use crate::bedrock;
use crate::nearest::nearest;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Complaint {
    /// Where in the document: a JSON pointer; empty: the document.
    pub pointer: String,
    /// Where in the text, from 1 on; absent when it has no place.
    #[serde(flatten)]
    pub place: Option<Place>,
    /// What is wrong.
    pub message: String,
    /// What was probably meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suggestion: Option<String>,
}

impl std::fmt::Display for Complaint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)?;
        if let Some(place) = self.place {
            write!(f, " (line {} column {})", place.line, place.column)?;
        }
        match &self.suggestion {
            Some(meant) => write!(f, "; did you mean \"{meant}\"?"),
            None => Ok(()),
        }
    }
}

/// Which form a configuration has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// Our own.
    Mofka,
    /// The original's.
    Bedrock,
}

/// What a check found.
#[derive(Clone, Debug, Serialize)]
pub struct Checked {
    /// The document's form; absent when it is no JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub form: Option<Form>,
    /// What is wrong; empty: a node starts with it, as far as the configuration decides that.
    pub errors: Vec<Complaint>,
    /// Of the original's form: how it is understood, and what is ignored.
    pub notes: Vec<String>,
    /// Every setting as it is in force; empty when something is wrong.
    pub settings: std::collections::BTreeMap<String, Value>,
}

/// Checks a configuration's text.
pub fn check_text(text: &str) -> Checked {
    let mut checked = Checked {
        form: None,
        errors: Vec::new(),
        notes: Vec::new(),
        settings: std::collections::BTreeMap::new(),
    };
    let document: Value = match serde_json::from_str(text) {
        Ok(document) => document,
        Err(error) => {
            checked.errors.push(Complaint {
                pointer: String::new(),
                place: Some(Place {
                    line: error.line(),
                    column: error.column(),
                }),
                message: format!("not JSON: {}", without_place(&error.to_string())),
                suggestion: None,
            });
            return checked;
        }
    };
    let is_bedrock = bedrock::is_bedrock(&document);
    checked.form = Some(if is_bedrock { Form::Bedrock } else { Form::Mofka });
    let found = places(text);
    if !is_bedrock {
        for (pointer, place) in &found.repeated {
            checked.errors.push(Complaint {
                pointer: pointer.clone(),
                place: Some(*place),
                message: format!("\"{}\" is given twice", key_of(pointer)),
                suggestion: None,
            });
        }
        match &document {
            Value::Object(object) => walk(object, &defaults(), "", &mut checked.errors),
            other => checked.errors.push(Complaint {
                pointer: String::new(),
                place: None,
                message: not_an_object(other),
                suggestion: None,
            }),
        }
    }
    for error in &mut checked.errors {
        error.place = error.place.or_else(|| found.of(&error.pointer));
    }
    checked.errors.sort_by_key(|error| error.place);
    if checked.errors.is_empty() {
        // All of it together, as a start does it.
        let outcome = NodeConfig::parse(text, None).and_then(|loaded| loaded.config.check().map(|()| loaded));
        match outcome {
            Ok(loaded) => {
                checked.settings = loaded.config.settings();
                checked.notes = loaded.notes;
            }
            Err(message) => checked.errors.push(Complaint {
                pointer: String::new(),
                place: None,
                message,
                suggestion: None,
            }),
        }
    }
    checked
}

/// Whether a node would start with this setting, and defaults for all others.
///
/// # Errors
/// Why not.
pub(crate) fn one_setting(key: &str, value: &Value) -> Result<(), String> {
    let mut document = value.clone();
    for part in key.rsplit('.') {
        document = Value::Object(Map::from_iter([(part.to_owned(), document)]));
    }
    let config: NodeConfig =
        serde_json::from_value(document).map_err(|error| without_place(&error.to_string()).to_owned())?;
    config.check()
}

fn defaults() -> Map<String, Value> {
    match serde_json::to_value(NodeConfig::default()) {
        Ok(Value::Object(defaults)) => defaults,
        _ => Map::new(),
    }
}

/// Looks at each key of an object. `known` are the keys that there are, with their defaults; `above` is the path to the object,
/// with dots.
fn walk(object: &Map<String, Value>, known: &Map<String, Value>, above: &str, errors: &mut Vec<Complaint>) {
    for (name, value) in object {
        let key = if above.is_empty() {
            name.clone()
        } else {
            format!("{above}.{name}")
        };
        let pointer = format!("/{}", key.replace('~', "~0").replace('/', "~1").replace('.', "/"));
        match (known.get(name), value) {
            (None, _) => {
                // The place of a key with dots or slashes in it is not found by them: no known key has any.
                let pointer = format!("/{}", above.replace('.', "/"))
                    .trim_end_matches('/')
                    .to_owned()
                    + "/"
                    + &name.replace('~', "~0").replace('/', "~1");
                // From the end, where the limits are: of two keys of one name, those are meant mostly.
                let everywhere = super::reference::KEYS.iter().rev().map(|key| key.key);
                let here = nearest(name, known.keys().map(String::as_str)).map(str::to_owned);
                errors.push(Complaint {
                    pointer,
                    place: None,
                    message: format!("unknown key \"{key}\""),
                    suggestion: here.or_else(|| elsewhere(name, everywhere)),
                });
            }
            (Some(Value::Object(inner)), Value::Object(object)) if !inner.is_empty() => {
                walk(object, inner, &key, errors);
            }
            (Some(_), value) => {
                if let Err(message) = one_setting(&key, value) {
                    let suggestion = word_meant(&message);
                    let names_it = message.contains(&format!("\"{key}\""));
                    errors.push(Complaint {
                        pointer,
                        place: None,
                        message: if names_it {
                            message
                        } else {
                            format!("\"{key}\": {message}")
                        },
                        suggestion,
                    });
                }
            }
        }
    }
}

/// The word that was meant, where serde knows which there are.
fn word_meant(message: &str) -> Option<String> {
    let mut words = quoted(message);
    let wrong = words.next().filter(|_| message.starts_with("unknown variant"))?;
    nearest(wrong, words).map(str::to_owned)
}

/// A key that is inside of another, when it was given outside of that.
fn elsewhere<'a>(name: &str, mut keys: impl Iterator<Item = &'a str>) -> Option<String> {
    keys.find(|key| key.rsplit('.').next() == Some(name))
        .map(str::to_owned)
}

fn key_of(pointer: &str) -> String {
    pointer.trim_start_matches('/').replace('/', ".")
}

/// Why this is no configuration of ours.
pub(super) fn not_an_object(value: &Value) -> String {
    format!("a configuration is a JSON object, not {}", kind(value))
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// serde's message, whose place is in another text than the user's.
fn without_place(message: &str) -> &str {
    message
        .rsplit_once(" at line ")
        .map_or(message, |(before, _)| before)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(text: &str) -> Vec<String> {
        check_text(text).errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn all_errors_are_told_at_once_in_the_order_of_the_text() {
        let text = r#"{
  "shard": 2,
  "direct_io": "requre",
  "limits": {"connections_max": 0, "heartbeat": 5, "frame_bytes_max": "big"},
  "connections_max": 7,
  "listen": [],
  "log_level": "inof"
}"#;
        let found = errors(text);
        let expected = [
            "unknown key \"shard\" (line 2 column 3); did you mean \"shards\"?",
            "\"direct_io\": unknown variant `requre`, expected `require` or `auto` (line 3 column 16); did you mean \"require\"?",
            "\"limits.connections_max\" is 0, which would let nothing through (line 4 column 33)",
            "unknown key \"limits.heartbeat\" (line 4 column 36); did you mean \"heartbeat_ms\"?",
            "\"limits.frame_bytes_max\": invalid type: string \"big\", expected u64 (line 4 column 71)",
            "unknown key \"connections_max\" (line 5 column 3); did you mean \"limits.connections_max\"?",
            "\"listen\" is empty: nobody could reach the node (line 6 column 13)",
        ];
        assert_eq!(found.get(..7).unwrap(), expected);
        assert!(
            found[7].starts_with("\"log_level\": log level \"inof\"") && found.len() == 8,
            "{found:#?}"
        );
        assert_eq!(check_text(text).errors[4].pointer, "/limits/frame_bytes_max");
    }

    #[test]
    fn what_starts_a_node_is_clean() {
        for text in ["{}", include_str!("../../../docs/monitoring/mofkad.json")] {
            let checked = check_text(text);
            assert!(checked.errors.is_empty(), "{checked:?}");
            assert_eq!(checked.settings["limits.connections_max"], 4096);
        }
        assert!(errors("{\"shards\": null}").is_empty());
    }

    #[test]
    fn what_is_no_configuration_is_said_with_its_place() {
        assert_eq!(
            errors("{\n  \"a\" 1}"),
            ["not JSON: expected `:` (line 2 column 7)"]
        );
        assert!(errors("[]")[0].contains("not a list"));
        assert!(NodeConfig::parse("[]", None).unwrap_err().contains("not a list"));
        assert!(
            NodeConfig::parse("[\"d\"]", None)
                .unwrap_err()
                .contains("not a list")
        );
        assert_eq!(
            errors("{\n  \"listen\": [\"tcp://127.0.0.1\"]\n}"),
            [
                "\"listen\": \"tcp://127.0.0.1\" does not name a host and a port, as in tcp://10.0.0.1:7420 (line 2 column 13)"
            ]
        );
        assert_eq!(
            errors("{\"shards\": 1, \"shards\": 2}"),
            ["\"shards\" is given twice (line 1 column 15)"]
        );
        assert!(errors("{\"limits\": 7}")[0].contains("\"limits\": invalid type: integer `7`"));
        assert!(errors("{\"a/b~c.d\": 7}")[0].contains("unknown key \"a/b~c.d\" (line 1 column 2)"));
    }

    #[test]
    fn the_originals_form_is_told_with_what_becomes_of_it() {
        let text = r#"{"libraries": [], "providers": [
            {"type": "flock", "config": {"file": "g.json"}},
            {"type": "yokan", "tags": ["mofka:master"], "config": {"database": {"type": "map"}}}]}"#;
        let checked = check_text(text);
        assert_eq!((checked.form, checked.errors.len()), (Some(Form::Bedrock), 0));
        assert_eq!(checked.settings["group_file"], "g.json");
        assert!(
            checked.notes.iter().any(|note| note.contains("libraries")),
            "{checked:?}"
        );
        assert!(errors("{\"providers\": []}")[0].contains("mofka:master"));
    }
}
