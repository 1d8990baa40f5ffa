//! The settings of a node: what they are, and which of them can be changed while it runs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The answer to config_get, whose request has no fields.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConfigGetResponse {
    /// Every setting, by its key.
    pub settings: Vec<Setting>,
}

/// One setting.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Setting {
    /// Its key in the configuration; keys inside of others are written with dots, as in `limits.connections_max`.
    pub key: String,
    /// What it is now.
    pub value: Value,
    /// Whether config_set can change it.
    pub live: bool,
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
}
