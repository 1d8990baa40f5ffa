//! The settings of a node: what they are, and which of them can be changed while it runs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The answer to config_get, whose request has no fields.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConfigGetResponse {
    /// Every setting, by its key.
    pub settings: Vec<Setting>,
    /// Where the configuration came from, when that is a file of Mofka's own form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<ConfigFileInfo>,
}

/// The file of a node's configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigFileInfo {
    /// Where it is on the node's machine.
    pub path: String,
    /// Keys for which the command line or the environment of the node said something else.
    pub overridden: Vec<String>,
}

/// One setting.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Setting {
    /// Its key in the configuration; keys inside of others are written with dots, as in `limits.connections_max`.
    pub key: String,
    /// What it is now.
    pub value: Value,
    /// What it was when the node started.
    pub configured: Value,
    /// Whether config_set can change it.
    pub live: bool,
    /// For whom a change holds when it is live; otherwise why it is not.
    pub note: String,
}

/// Changes settings: all of them or, when one cannot be changed, none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigSetRequest {
    /// New values by key.
    pub set: BTreeMap<String, Value>,
}

/// The answer: what changed. It holds until the node stops; then its configuration file counts again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConfigSetResponse {
    /// A setting that had the new value before is not among them.
    pub changed: Vec<SettingChange>,
}

/// A setting that changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SettingChange {
    /// Its key.
    pub key: String,
    /// What it was.
    pub was: Value,
    /// What it is now.
    pub is: Value,
    /// For whom that holds.
    pub note: String,
}
