//! Settings of the node: told, and changed where that is possible while it runs.

use mofka_net::control::{ConfigGetResponse, ConfigSetRequest, ConfigSetResponse, Setting, SettingChange};
use mofka_net::{ErrorCode, WireError};
use serde_json::Value;

use crate::facts::NodeFacts;
use crate::logging;
use crate::nearest::nearest;

/// A setting that can be changed while the node runs.
struct Live {
    key: &'static str,
    /// What it is now, when that is not what the configuration said.
    get: fn() -> Option<Value>,
    /// Whether it may become this.
    check: fn(&Value) -> Result<(), String>,
    /// Makes it this.
    set: fn(&Value) -> Result<(), String>,
}

const LIVE: [Live; 1] = [Live {
    key: "log_level",
    get: || logging::level().map(Value::from),
    check: |value| logging::check_level(text(value)?).map(|_| ()),
    set: |value| logging::set_level(text(value)?).map(|_| ()),
}];

fn text(value: &Value) -> Result<&str, String> {
    value.as_str().ok_or_else(|| format!("{value} is not text"))
}

fn live(key: &str) -> Option<&'static Live> {
    LIVE.iter().find(|live| live.key == key)
}

/// Whether a setting can be changed while the node runs.
pub(crate) fn is_live(key: &str) -> bool {
    live(key).is_some()
}

pub(super) fn get(facts: &NodeFacts) -> ConfigGetResponse {
    let setting = |(key, configured): (&String, &Value)| {
        let live = live(key);
        Setting {
            key: key.clone(),
            value: live
                .and_then(|live| (live.get)())
                .unwrap_or_else(|| configured.clone()),
            live: live.is_some(),
        }
    };
    ConfigGetResponse {
        settings: facts.settings.iter().map(setting).collect(),
    }
}

pub(super) fn set(facts: &NodeFacts, request: &ConfigSetRequest) -> Result<ConfigSetResponse, WireError> {
    let invalid = |message: String| WireError::new(ErrorCode::InvalidArgument, message);
    let mut wanted = Vec::new();
    for (key, value) in &request.set {
        let Some(configured) = facts.settings.get(key) else {
            return Err(invalid(unknown(facts, key)));
        };
        let Some(live) = live(key) else {
            let names: Vec<&str> = LIVE.iter().map(|live| live.key).collect();
            return Err(invalid(format!(
                "\"{key}\" cannot be changed while the node runs: change it in the configuration and start the node again \
                 (what can be changed: {})",
                names.join(", ")
            )));
        };
        (live.check)(value).map_err(invalid)?;
        wanted.push((live, value, (live.get)().unwrap_or_else(|| configured.clone())));
    }
    let mut changed = Vec::new();
    for (live, value, was) in wanted {
        if *value == was {
            continue;
        }
        (live.set)(value).map_err(invalid)?;
        // At a level that is logged by the default one; whoever turned the log off does not want to hear of it.
        tracing::info!(key = live.key, %was, is = %value, "setting changed");
        changed.push(SettingChange {
            key: live.key.to_owned(),
            was,
            is: value.clone(),
        });
    }
    Ok(ConfigSetResponse { changed })
}

fn unknown(facts: &NodeFacts, key: &str) -> String {
    let best = nearest(key, facts.settings.keys().map(String::as_str));
    let hint = best.map(|known| format!("; did you mean \"{known}\"?"));
    format!("there is no setting \"{key}\"{}", hint.unwrap_or_default())
}
