//! The file of `forward`: drivers, and policies that say what goes where.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use mofka_client::Pattern;
use serde_json::{Map, Value};

use crate::failure::{Failure, Outcome};
use crate::suggest;

/// Bytes of such a file. A policy has some hundred.
const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// A checked file.
#[derive(Debug)]
pub(crate) struct Config {
    /// Those that policies name, by their names.
    pub(super) drivers: BTreeMap<String, DriverConfig>,
    pub(super) policies: Vec<PolicyConfig>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DriverConfig {
    pub(super) group_file: Option<PathBuf>,
    pub(super) addresses: Vec<String>,
}

/// A topic of a driver: `driver/topic`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Reference {
    pub(super) driver: String,
    pub(super) topic: String,
}

/// Which partition an event goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mapping {
    /// To that with the same index.
    Same,
    /// To that with the index modulo how many there are.
    Any,
}

/// What to do with an event that the destination will never take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnRefusal {
    Stop,
    Skip,
}

#[derive(Clone, Debug)]
pub(super) struct PolicyConfig {
    pub(super) from: Reference,
    pub(super) to: Reference,
    pub(super) with_data: bool,
    pub(super) filter: Option<Value>,
    pub(super) mapping: Mapping,
    pub(super) on_refusal: OnRefusal,
}

impl Reference {
    fn parse(text: &str) -> Option<Self> {
        let (driver, topic) = text.rsplit_once('/')?;
        let is_whole = !driver.is_empty() && !topic.is_empty();
        is_whole.then(|| Self {
            driver: driver.to_owned(),
            topic: topic.to_owned(),
        })
    }
}

impl std::fmt::Display for Reference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.driver, self.topic)
    }
}

impl PolicyConfig {
    /// The consumer's name at the source: `from->to`, where no driver's name can be taken for a part of it.
    pub(super) fn consumer(&self) -> String {
        let escaped = |reference: &Reference| {
            let mut driver = String::new();
            for c in reference.driver.chars() {
                if matches!(c, '%' | '>') || c.is_control() {
                    let mut bytes = [0; 4];
                    for byte in c.encode_utf8(&mut bytes).bytes() {
                        driver.push_str(&format!("%{byte:02X}"));
                    }
                } else {
                    driver.push(c);
                }
            }
            format!("{driver}/{}", reference.topic)
        };
        format!("{}->{}", escaped(&self.from), escaped(&self.to))
    }
}

/// Reads and checks a file; its name says which language it is in.
pub(super) fn read(path: &Path) -> Outcome<Config> {
    let fail = |what: String| Failure::fatal(format!("{}: {what}", path.display()));
    let document = crate::document::read(path, CONFIG_BYTES_MAX).map_err(Failure::at_start)?;
    check(&document).map_err(fail)
}

fn check(document: &Value) -> Result<Config, String> {
    let whole = object(document, "the file")?;
    only(whole, "the file", &["drivers", "forward"])?;
    let section = |name: &str| {
        whole
            .get(name)
            .ok_or_else(|| format!("section \"{name}\" is missing"))
    };
    let drivers = object(section("drivers")?, "\"drivers\"")?
        .iter()
        .map(|(name, value)| Ok((name.clone(), driver(name, value)?)))
        .collect::<Result<BTreeMap<_, _>, String>>()?;
    let listed = section("forward")?;
    let listed = listed
        .as_array()
        .ok_or_else(|| format!("\"forward\" has to be a list of policies, and is {listed}"))?;
    if listed.is_empty() {
        return Err("\"forward\" has no policy: there is nothing to do".to_owned());
    }
    let mut policies: Vec<PolicyConfig> = Vec::new();
    for (place, value) in listed.iter().enumerate() {
        let what = format!("policy {} of \"forward\"", place + 1);
        let policy = policy(value, &what, &drivers)?;
        let ends = |policy: &PolicyConfig| (policy.from.clone(), policy.to.clone());
        if policies.iter().any(|known| ends(known) == ends(&policy)) {
            return Err(format!(
                "{what} is from {} to {}, as one before it: they would be one consumer",
                policy.from, policy.to
            ));
        }
        policies.push(policy);
    }
    let named = |name: &String| {
        policies
            .iter()
            .any(|p| p.from.driver == *name || p.to.driver == *name)
    };
    let drivers = drivers.into_iter().filter(|(name, _)| named(name)).collect();
    Ok(Config { drivers, policies })
}

fn driver(name: &str, value: &Value) -> Result<DriverConfig, String> {
    let what = format!("driver \"{name}\"");
    let fields = object(value, &what)?;
    only(fields, &what, &["type", "options"])?;
    match fields.get("type") {
        Some(Value::String(kind)) if kind == "mofka" => {}
        Some(Value::String(kind)) => {
            return Err(format!(
                "{what} has type \"{kind}\": there is no such driver here, only \"mofka\" (a node of mofkad)"
            ));
        }
        Some(other) => return Err(format!("the \"type\" of {what} has to be text, and is {other}")),
        None => return Err(format!("{what} has no \"type\": it is \"mofka\"")),
    }
    let none = Value::Object(Map::new());
    let options = object(
        fields.get("options").unwrap_or(&none),
        &format!("\"options\" of {what}"),
    )?;
    let group_file = match options.get("group_file") {
        None => None,
        Some(Value::String(path)) => Some(PathBuf::from(path)),
        Some(other) => {
            return Err(format!(
                "\"group_file\" of {what} has to be a path, and is {other}"
            ));
        }
    };
    let addresses = match options.get("addresses") {
        None => Vec::new(),
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(list)) if list.iter().all(Value::is_string) => {
            list.iter().filter_map(Value::as_str).map(str::to_owned).collect()
        }
        Some(other) => {
            return Err(format!(
                "\"addresses\" of {what} have to be a list of texts, and are {other}"
            ));
        }
    };
    if group_file.is_none() && addresses.is_empty() {
        // Others belong to the original's drivers, and mean nothing here.
        let meant = |key: &&String| suggest::best(key, ["group_file", "addresses"]).is_some();
        let hint = options.keys().find(meant).map_or_else(
            || "give the file that the node writes at its start".to_owned(),
            |key| format!("there is \"{key}\""),
        );
        return Err(format!(
            "\"group_file\" key not found in options of {what}: {hint}"
        ));
    }
    Ok(DriverConfig {
        group_file,
        addresses,
    })
}

fn policy(
    value: &Value,
    what: &str,
    drivers: &BTreeMap<String, DriverConfig>,
) -> Result<PolicyConfig, String> {
    let fields = object(value, what)?;
    for key in ["data_selector", "data_allocator"] {
        if let Some(given) = fields.get(key) {
            return Err(format!(
                "{what} has \"{key}\" {given}: functions from libraries are not loaded; \"data\" says \"all\" (the default) or \
                 \"none\", and \"filter\" which events"
            ));
        }
    }
    only(
        fields,
        what,
        &["from", "to", "data", "filter", "partitions", "on_refusal"],
    )?;
    let end = |key: &str| {
        let given = fields
            .get(key)
            .ok_or_else(|| format!("{what} has no \"{key}\""))?;
        let reference = given.as_str().and_then(Reference::parse).ok_or_else(|| {
            format!("\"{key}\" of {what} has to be a reference \"driver/topic\", and is {given}")
        })?;
        if !drivers.contains_key(&reference.driver) {
            return Err(format!(
                "\"{key}\" of {what} is {given}, and there is no driver \"{}\"; there are: {}",
                reference.driver,
                drivers.keys().cloned().collect::<Vec<_>>().join(", ")
            ));
        }
        Ok(reference)
    };
    let word = |key: &str, words: &[&str]| -> Result<usize, String> {
        let Some(given) = fields.get(key) else {
            return Ok(0);
        };
        let place = words.iter().position(|word| given.as_str() == Some(word));
        place.ok_or_else(|| {
            format!(
                "\"{key}\" of {what} has to be one of {}, and is {given}",
                words.join(", ")
            )
        })
    };
    let policy = PolicyConfig {
        from: end("from")?,
        to: end("to")?,
        with_data: word("data", &["all", "none"])? == 0,
        filter: fields.get("filter").cloned(),
        mapping: match word("partitions", &["same", "any"])? {
            0 => Mapping::Same,
            _ => Mapping::Any,
        },
        on_refusal: match word("on_refusal", &["stop", "skip"])? {
            0 => OnRefusal::Stop,
            _ => OnRefusal::Skip,
        },
    };
    if policy.from == policy.to {
        return Err(format!("{what} is from {} to itself", policy.from));
    }
    if let Some(filter) = &policy.filter {
        Pattern::parse(filter).map_err(|error| format!("the \"filter\" of {what}: {error}"))?;
    }
    let bytes = policy.consumer().len();
    if bytes > mofka_log::CONSUMER_NAME_BYTES_MAX {
        return Err(format!(
            "the consumer of {what} would be called \"{}\", which has {bytes} bytes and not at most {}: give the drivers \
             shorter names",
            policy.consumer(),
            mofka_log::CONSUMER_NAME_BYTES_MAX
        ));
    }
    Ok(policy)
}

fn object<'a>(value: &'a Value, what: &str) -> Result<&'a Map<String, Value>, String> {
    value
        .as_object()
        .ok_or_else(|| format!("{what} has to be a table of keys and values, and is {value}"))
}

/// No key but these.
fn only(object: &Map<String, Value>, what: &str, keys: &[&str]) -> Result<(), String> {
    let Some(unknown) = object.keys().find(|key| !keys.contains(&key.as_str())) else {
        return Ok(());
    };
    let hint = suggest::best(unknown, keys.iter().copied()).map_or_else(
        || format!("there are: {}", keys.join(", ")),
        |known| format!("did you mean \"{known}\"?"),
    );
    Err(format!("{what} has an unknown key \"{unknown}\"; {hint}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn near() -> Value {
        json!({"type": "mofka", "options": {"group_file": "a.json", "margo": {"use_progress_thread": true}}})
    }

    fn complaint(document: Value) -> String {
        check(&document).unwrap_err()
    }

    #[test]
    fn a_file_with_all_that_can_be_said() {
        let document = json!({
            "drivers": {"a": near(), "b/c->": {"type": "mofka", "options": {"addresses": ["tcp://x:1"]}}, "unused": near()},
            "forward": [
                {"from": "a/t", "to": "b/c->/u"},
                {"from": "a/t", "to": "a/v", "data": "none", "filter": {"x": [1]}, "partitions": "any", "on_refusal": "skip"},
            ],
        });
        let config = check(&document).unwrap();
        assert_eq!(config.drivers.keys().collect::<Vec<_>>(), ["a", "b/c->"]);
        let [first, second] = &config.policies[..] else {
            panic!("two policies")
        };
        assert_eq!(first.consumer(), "a/t->b/c-%3E/u");
        assert!(first.with_data && first.mapping == Mapping::Same && first.on_refusal == OnRefusal::Stop);
        assert!(!second.with_data && second.mapping == Mapping::Any && second.on_refusal == OnRefusal::Skip);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let with = |policy: Value| complaint(json!({"drivers": {"a": near()}, "forward": [policy]}));
        let cases = [
            (complaint(json!([])), "has to be a table"),
            (
                complaint(json!({"forward": []})),
                "section \"drivers\" is missing",
            ),
            (
                complaint(json!({"drivers": {}})),
                "section \"forward\" is missing",
            ),
            (complaint(json!({"drivers": {}, "forward": []})), "no policy"),
            (
                complaint(json!({"drivers": {}, "forwards": []})),
                "did you mean \"forward\"?",
            ),
            (
                complaint(json!({"drivers": {"x": {"type": "files"}}, "forward": []})),
                "\"files\": there is no such driver here",
            ),
            (
                complaint(json!({"drivers": {"x": {}}, "forward": []})),
                "no \"type\"",
            ),
            (
                complaint(json!({"drivers": {"x": {"type": "mofka"}}, "forward": []})),
                "\"group_file\" key not found",
            ),
            (
                complaint(
                    json!({"drivers": {"x": {"type": "mofka", "options": {"groupfile": "a"}}}, "forward": []}),
                ),
                "there is \"groupfile\"",
            ),
            (with(json!({"to": "a/t"})), "no \"from\""),
            (with(json!({"from": "t", "to": "a/t"})), "\"driver/topic\""),
            (
                with(json!({"from": "b/t", "to": "a/t"})),
                "no driver \"b\"; there are: a",
            ),
            (with(json!({"from": "a/t", "to": "a/t"})), "to itself"),
            (
                with(json!({"from": "a/t", "to": "a/u", "data": "some"})),
                "one of all, none",
            ),
            (
                with(json!({"from": "a/t", "to": "a/u", "filter": {"x": [{"like": 1}]}})),
                "the \"filter\"",
            ),
            (
                with(json!({"from": "a/t", "to": "a/u", "data_selector": "l.so:f"})),
                "are not loaded",
            ),
            (
                with(json!({"from": "a/t", "to": "a/u", "partition": "any"})),
                "did you mean \"partitions\"?",
            ),
        ];
        for (complaint, what) in cases {
            assert!(complaint.contains(what), "{complaint:?} does not say {what:?}");
        }
        let twice = json!({"from": "a/t", "to": "a/u"});
        let said = complaint(json!({"drivers": {"a": near()}, "forward": [twice.clone(), twice]}));
        assert!(said.contains("as one before it"), "{said}");
    }
}
