//! Options with dots: `--config.a.b 1` says `{"a": {"b": 1}}` about `config`.
//!
//! They are taken out of the command line before clap sees it, since their names are the user's. A command then takes
//! the prefixes it knows; what nobody took is an error, not ignored.

use std::ffi::OsString;

use serde_json::{Map, Value};

use crate::failure::{Failure, Outcome};
use crate::suggest;

/// The prefixes that any command takes, long and short, for suggestions.
const PREFIXES: [(&str, &str); 7] = [
    ("validator", "v"),
    ("partition-selector", "p"),
    ("serializer", "s"),
    ("config", "c"),
    ("dependencies", "d"),
    ("driver", "driver"),
    ("topic", "topic"),
];

/// All dotted options of a command line, in their order.
#[derive(Debug, Default)]
pub(crate) struct Dotted {
    options: Vec<DottedOption>,
}

#[derive(Debug)]
struct DottedOption {
    prefix: String,
    path: Vec<String>,
    value: String,
}

impl DottedOption {
    fn name(&self) -> String {
        format!("--{}.{}", self.prefix, self.path.join("."))
    }
}

/// Splits a command line into what clap reads and the dotted options.
pub(crate) fn split(arguments: Vec<OsString>) -> Outcome<(Vec<OsString>, Dotted)> {
    let mut plain = Vec::new();
    let mut dotted = Dotted::default();
    let mut arguments = arguments.into_iter().peekable();
    while let Some(argument) = arguments.next() {
        if argument == "--" {
            plain.push(argument);
            plain.extend(arguments.by_ref());
            break;
        }
        let Some((name, given)) = dotted_name(&argument) else {
            plain.push(argument);
            continue;
        };
        let mut parts = name.split('.').map(str::to_owned);
        let prefix = parts.next().unwrap_or_default();
        let path: Vec<String> = parts.collect();
        if path.iter().any(String::is_empty) {
            return Err(Failure::usage(format!(
                "option --{name} has an empty part between its dots"
            )));
        }
        let value = match given {
            Some(value) => value,
            None => {
                // A value may begin with one dash: it is a negative number then, or a name that does.
                let follows = arguments.next_if(|next| !next.to_string_lossy().starts_with("--"));
                let value = follows
                    .ok_or_else(|| Failure::usage(format!("configuration argument --{name} has no value")))?;
                text(&value).ok_or_else(|| Failure::usage(format!("the value of --{name} is not UTF-8")))?
            }
        };
        dotted.options.push(DottedOption { prefix, path, value });
    }
    Ok((plain, dotted))
}

/// The name, and the value after `=`, of an argument such as `--config.path=/x`. A dot in the value does not count.
fn dotted_name(argument: &OsString) -> Option<(String, Option<String>)> {
    let rest = text(argument)?.strip_prefix("--")?.to_owned();
    let (name, value) = match rest.split_once('=') {
        Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
        None => (rest, None),
    };
    name.contains('.').then_some((name, value))
}

fn text(value: &OsString) -> Option<String> {
    value.to_str().map(str::to_owned)
}

impl Dotted {
    /// Takes the options with this prefix, or with its short form, and merges them into an object.
    pub(crate) fn take(&mut self, prefix: &str) -> Outcome<Map<String, Value>> {
        let short = PREFIXES
            .iter()
            .find(|(long, _)| *long == prefix)
            .map_or("", |(_, short)| short);
        let (ours, others) = std::mem::take(&mut self.options)
            .into_iter()
            .partition::<Vec<_>, _>(|option| option.prefix == prefix || option.prefix == short);
        self.options = others;
        let mut object = Map::new();
        for option in ours {
            insert(&mut object, &option)?;
        }
        Ok(object)
    }

    /// The same, where values with commas are lists.
    pub(crate) fn take_with_lists(&mut self, prefix: &str) -> Outcome<Map<String, Value>> {
        let mut object = self.take(prefix)?;
        object.values_mut().for_each(split_lists);
        Ok(object)
    }

    /// An error if any option is left.
    pub(crate) fn expect_none_left(&self) -> Outcome {
        let Some(option) = self.options.first() else {
            return Ok(());
        };
        let best = suggest::best(&option.prefix, PREFIXES.iter().map(|(long, _)| *long));
        let hint = match best {
            Some(long) if long == option.prefix => " for this command".to_owned(),
            Some(long) => format!("; did you mean --{long}.{}?", option.path.join(".")),
            None => String::new(),
        };
        Err(Failure::usage(format!("unknown option {}{hint}", option.name())))
    }
}

fn insert(object: &mut Map<String, Value>, option: &DottedOption) -> Outcome {
    let clash = || {
        Failure::usage(format!(
            "{} clashes with another option: it names both a value and an object",
            option.name()
        ))
    };
    let (last, parents) = option.path.split_last().ok_or_else(clash)?;
    let mut place = object;
    for part in parents {
        let next = place
            .entry(part.clone())
            .or_insert_with(|| Value::Object(Map::new()));
        place = next.as_object_mut().ok_or_else(clash)?;
    }
    let value = typed(&option.value);
    match place.get_mut(last) {
        None => drop(place.insert(last.clone(), value)),
        Some(Value::Object(_)) => return Err(clash()),
        Some(Value::Array(list)) => list.push(value),
        Some(single) => *single = Value::Array(vec![single.take(), value]),
    }
    Ok(())
}

/// Makes lists of texts with commas.
fn split_lists(value: &mut Value) {
    match value {
        Value::String(text) if text.contains(',') => *value = text.split(',').map(typed).collect(),
        Value::Object(object) => object.values_mut().for_each(split_lists),
        _ => {}
    }
}

/// A boolean, an integer, a decimal number, or else the text as it is.
fn typed(text: &str) -> Value {
    match text {
        "true" | "True" => return Value::Bool(true),
        "false" | "False" => return Value::Bool(false),
        _ => {}
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let numeric = digits.starts_with(|c: char| c.is_ascii_digit())
        && digits
            .chars()
            .all(|c| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '-' | '+'));
    if numeric {
        let plain = text.strip_prefix('+').unwrap_or(text);
        if let Ok(number) = plain.parse::<i64>() {
            return number.into();
        }
        if let Ok(number) = plain.parse::<u64>() {
            return number.into();
        }
        if let Some(number) = plain.parse::<f64>().ok().and_then(serde_json::Number::from_f64) {
            return number.into();
        }
    }
    Value::from(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn take(line: &str, prefix: &str) -> Outcome<Value> {
        let (_, mut dotted) = split(line.split_whitespace().map(OsString::from).collect())?;
        let taken = dotted.take(prefix)?;
        dotted.expect_none_left()?;
        Ok(Value::Object(taken))
    }

    #[test]
    fn values_get_their_types_and_nest() {
        let line = "--config.a.b 1 --c.a.c -2 --config.x 1.5 --config.y=-0.25 --config.t true --config.f False \
                    --config.s 1.2.3 --config.p=/a/b.c --config.big 18446744073709551615 --config.e 1e3 --config.w -x";
        let expected = json!({
            "a": {"b": 1, "c": -2}, "x": 1.5, "y": -0.25, "t": true, "f": false,
            "s": "1.2.3", "p": "/a/b.c", "big": 18_446_744_073_709_551_615_u64, "e": 1000.0, "w": "-x",
        });
        assert_eq!(take(line, "config").unwrap(), expected);
    }

    #[test]
    fn a_name_given_again_makes_a_list() {
        assert_eq!(
            take("--d.x a --d.x b --d.x c", "dependencies").unwrap(),
            json!({"x": ["a", "b", "c"]})
        );
    }

    #[test]
    fn clashes_and_missing_values_are_usage_errors() {
        for line in [
            "--config.a 1 --config.a.b 2",
            "--config.a.b 1 --config.a 2",
            "--config.a",
            "--config.a --json",
            "--config..a 1",
        ] {
            let failure = take(line, "config").unwrap_err();
            assert_eq!(failure.kind(), crate::failure::Kind::Usage, "{line}: {failure}");
        }
    }

    #[test]
    fn an_unknown_prefix_gets_a_suggestion() {
        let failure = take("--confg.a 1", "config").unwrap_err();
        assert_eq!(
            failure.to_string(),
            "unknown option --confg.a; did you mean --config.a?"
        );
        let failure = take("--validator.a 1", "config").unwrap_err();
        assert_eq!(
            failure.to_string(),
            "unknown option --validator.a for this command"
        );
    }

    #[test]
    fn other_arguments_stay() {
        let line = [
            "topic",
            "create",
            "a.b",
            "-g",
            "x.json",
            "--config.a",
            "1",
            "--file=x.y",
            "--",
            "--config.b",
        ];
        let (plain, _) = split(line.iter().map(OsString::from).collect()).unwrap();
        assert_eq!(
            plain,
            [
                "topic",
                "create",
                "a.b",
                "-g",
                "x.json",
                "--file=x.y",
                "--",
                "--config.b"
            ]
        );
    }
}
