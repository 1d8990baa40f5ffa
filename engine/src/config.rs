//! The node's configuration: our own JSON, small and strict.
//!
//! The original's Bedrock JSON is recognised by its keys and mapped by the module `bedrock`.

mod changing;
mod checking;
mod places;
mod reference;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use mofka_log::Retention;
use mofka_net::Address;
use mofka_net::limits::FRAME_BYTES_CEILING;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use changing::{Change, change_of};
pub use checking::{Checked, Complaint, Form, check_text};
pub use places::Place;
pub use reference::{KEYS, Key};

use crate::bedrock;
use crate::limits::EngineLimits;
use crate::logging::{self, LogFormat};
use crate::monitor::Monitoring;
use crate::nearest::nearest;

/// Whether log files must bypass the page cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DirectIo {
    /// Refuse to start on a file system without direct I/O.
    #[default]
    Require,
    /// Use the page cache where direct I/O is missing, and say so.
    Auto,
}

/// What a node is to do. Every key is optional.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NodeConfig {
    /// Where the catalog and the partitions live. Created when absent. Relative to the working directory.
    pub data_dir: PathBuf,
    /// Where the group file is written, from which clients learn the node's addresses.
    pub group_file: PathBuf,
    /// Addresses to listen on: `tcp://HOST:PORT` (port 0: any free one), `unix:///PATH`, `na+sm` (a socket in the data
    /// directory), `auto` (that socket for clients of this machine, and TCP as the protocol `tcp` has it). Shard `n` listens on `PORT + n` and `PATH.n`. The first address is the one that the group file names.
    pub listen: Vec<String>,
    /// Threads, each with a core of its own. Default: one per core that the process may use.
    pub shards: Option<usize>,
    /// Whether a shard stays on its core.
    pub pin: bool,
    /// Whether direct I/O is required.
    pub direct_io: DirectIo,
    /// Place of this node in the group.
    pub rank: u32,
    /// Who may connect over a Unix socket.
    pub local_clients: LocalClients,
    /// What of a topic's events may go, when whoever creates it says nothing of that. Topics that exist are not touched.
    pub default_retention: Retention,
    /// What to log: a level (off, error, warn, info, debug, trace), or a list such as `info,mofka_engine::room=debug`.
    pub log_level: String,
    /// The form of the log.
    pub log_format: LogFormat,
    /// Metrics and the status page.
    pub monitoring: Monitoring,
    /// Bounds.
    pub limits: EngineLimits,
}

/// Who may connect over a Unix socket, and so through shared memory: by the user and the group of its process, as the kernel
/// tells them. The node's own user and root always may; when nothing is listed, nobody else.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LocalClients {
    /// Users, by number.
    pub uids: Vec<u32>,
    /// Groups, by number: a process's own, not its supplementary ones.
    pub gids: Vec<u32>,
}

impl LocalClients {
    /// Whether others than the node's own user may connect.
    pub fn is_open_to_others(&self) -> bool {
        !self.uids.is_empty() || !self.gids.is_empty()
    }

    /// Why a process of this user and group may not, if it may not. `own_uid` is the node's.
    pub fn refusal(&self, uid: u32, gid: u32, own_uid: u32) -> Option<String> {
        let is_allowed = uid == 0 || uid == own_uid || self.uids.contains(&uid) || self.gids.contains(&gid);
        (!is_allowed).then(|| {
            format!(
                "user {uid} (group {gid}) may not use this node's Unix socket: list it under local_clients in the node's \
                 configuration"
            )
        })
    }
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("./mofka-data"),
            group_file: PathBuf::from("./mofka.json"),
            listen: vec!["na+sm".to_owned()],
            shards: None,
            pin: true,
            direct_io: DirectIo::Require,
            rank: 0,
            local_clients: LocalClients::default(),
            default_retention: Retention::default(),
            log_level: "info".to_owned(),
            log_format: LogFormat::default(),
            monitoring: Monitoring::default(),
            limits: EngineLimits::default(),
        }
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("could not read the configuration {path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is not what it should be.
    #[error("configuration {path}: {reason}", path = path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        reason: String,
    },
}

/// A configuration and what the operator should know about how it was understood.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// The configuration.
    pub config: NodeConfig,
    /// Remarks for the log.
    pub notes: Vec<String>,
    /// Where it came from, when that is a file of our own form.
    pub file: Option<ConfigFile>,
}

/// The file of a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigFile {
    /// Where it is, absolute.
    pub path: PathBuf,
    /// Keys for which the command line or the environment said something else.
    pub overridden: Vec<String>,
}

impl Loaded {
    /// Notes that the configuration's file does not decide about these.
    pub fn override_keys(&mut self, keys: impl IntoIterator<Item = &'static str>) {
        if let Some(file) = &mut self.file {
            file.overridden.extend(keys.into_iter().map(str::to_owned));
        }
    }
}

impl NodeConfig {
    /// Reads a configuration: our own JSON, or the original's Bedrock JSON. `protocol` is what the original's command
    /// line names (`na+sm`, `ofi+tcp`, ...).
    ///
    /// # Errors
    /// When the file cannot be read or says something that is not understood.
    pub fn load(path: &Path, protocol: Option<&str>) -> Result<Loaded, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_path_buf(),
            source,
        })?;
        let invalid = |reason: String| ConfigError::Invalid {
            path: path.to_path_buf(),
            reason,
        };
        let parsed = Self::parse(&text, protocol).and_then(|loaded| loaded.config.check().map(|()| loaded));
        let mut loaded = parsed.map_err(|first| {
            // All that is wrong, not only what was met first.
            let found = check_text(&text).errors;
            let all: Vec<String> = found.iter().map(ToString::to_string).collect();
            invalid(if all.is_empty() { first } else { all.join("\n  ") })
        })?;
        if let Some(file) = &mut loaded.file {
            file.path = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
        }
        if let Some(protocol) = protocol {
            loaded.config.listen = vec![listen_of_protocol(protocol).map_err(invalid)?];
            loaded.override_keys(["listen"]);
        }
        Ok(loaded)
    }

    /// As [`NodeConfig::load`], from text.
    ///
    /// # Errors
    /// What is not understood, and where.
    pub fn parse(text: &str, protocol: Option<&str>) -> Result<Loaded, String> {
        let value: Value = serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))?;
        if bedrock::is_bedrock(&value) {
            return bedrock::map(value);
        }
        let _ = protocol;
        // Of a list, serde would take the settings by their order.
        if !value.is_object() {
            return Err(checking::not_an_object(&value));
        }
        let config = serde_json::from_str(text).map_err(|error| with_suggestion(&error.to_string()))?;
        Ok(Loaded {
            config,
            notes: Vec::new(),
            file: Some(ConfigFile::default()),
        })
    }

    /// Every setting by its key; keys inside of others are written with dots.
    pub(crate) fn settings(&self) -> BTreeMap<String, Value> {
        let mut settings = BTreeMap::new();
        if let Ok(Value::Object(config)) = serde_json::to_value(self) {
            for (key, value) in config {
                flatten(key, value, &mut settings);
            }
        }
        settings
    }

    /// What serde cannot check.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.shards == Some(0) {
            return Err("\"shards\" is 0, and a node needs at least one".to_owned());
        }
        if self.shards.is_some_and(|shards| shards > SHARDS_MAX) {
            return Err(format!("\"shards\" is larger than {SHARDS_MAX}"));
        }
        if self.listen.is_empty() {
            return Err("\"listen\" is empty: nobody could reach the node".to_owned());
        }
        for text in places_to_listen(&self.listen)
            .into_iter()
            .filter(|text| *text != LOCAL)
        {
            let address: Address = text.parse().map_err(|error| format!("\"listen\": {error}"))?;
            let last = self.shards.unwrap_or(1) - 1;
            if u32::try_from(last).map_or(true, |last| address.of_shard(last).is_none()) {
                return Err(format!(
                    "\"listen\": {address} leaves no port for shard {last}: each takes the next one"
                ));
            }
        }
        logging::check_level(&self.log_level).map_err(|error| format!("\"log_level\": {error}"))?;
        self.default_retention
            .check()
            .map_err(|error| format!("\"default_retention\": {error}"))?;
        self.monitoring.check()?;
        let limits = &self.limits;
        for (name, value) in [
            ("segment_meta_bytes", limits.segment_meta_bytes),
            ("segment_data_bytes", limits.segment_data_bytes),
            ("commits_in_flight_max", limits.commits_in_flight_max as u64),
            ("commit_bytes_max", limits.commit_bytes_max),
            // Half of the machine's is not 0.
            ("memory_bytes_max", limits.memory_bytes_max.unwrap_or(1)),
            ("frame_bytes_max", limits.frame_bytes_max),
            ("batch_events_max", u64::from(limits.batch_events_max)),
            (
                "connection_inflight_bytes_max",
                limits.connection_inflight_bytes_max,
            ),
            ("connection_outbox_bytes_max", limits.connection_outbox_bytes_max),
            ("connections_max", limits.connections_max as u64),
            ("subscriptions_max", limits.subscriptions_max as u64),
            ("heartbeat_ms", limits.heartbeat_ms),
            ("retention_check_ms", limits.retention_check_ms),
        ] {
            if value == 0 {
                return Err(format!("\"limits.{name}\" is 0, which would let nothing through"));
            }
        }
        if limits.frame_bytes_max < FRAME_BYTES_MIN {
            return Err(format!(
                "\"limits.frame_bytes_max\" is {}, and requests of clients need {FRAME_BYTES_MIN} at least",
                limits.frame_bytes_max
            ));
        }
        if limits.frame_bytes_max > FRAME_BYTES_CEILING {
            return Err(format!(
                "\"limits.frame_bytes_max\" is {}, and no frame has more than {FRAME_BYTES_CEILING} bytes",
                limits.frame_bytes_max
            ));
        }
        Ok(())
    }
}

/// Settings that are one value although it has parts.
const WHOLE: [&str; 1] = ["default_retention"];

fn flatten(key: String, value: Value, settings: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(inner) if !WHOLE.contains(&key.as_str()) => {
            for (name, value) in inner {
                flatten(format!("{key}.{name}"), value, settings);
            }
        }
        value => {
            settings.insert(key, value);
        }
    }
}

/// The least that `limits.frame_bytes_max` may be: a part of a stream, and requests of administrators, fit it.
const FRAME_BYTES_MIN: u64 = 128 << 10;

/// Shards that a node may have.
pub const SHARDS_MAX: usize = 256;

/// A socket in the data directory, for clients of this machine.
pub(crate) const LOCAL: &str = "na+sm";
/// [`LOCAL`] and [`TCP`].
const AUTO: &str = "auto";
/// What TCP is when only its name is given.
const TCP: &str = "tcp://127.0.0.1:0";

/// The addresses to listen on, with each `auto` as what it stands for; a socket that is named beside it is listened on once.
pub(crate) fn places_to_listen(listen: &[String]) -> Vec<&str> {
    let mut places = Vec::new();
    for text in listen {
        let (local, other) = match text.as_str() {
            AUTO => (Some(LOCAL), Some(TCP)),
            LOCAL => (Some(LOCAL), None),
            text => (None, Some(text)),
        };
        let local = local.filter(|local| !places.contains(local));
        places.extend(local.into_iter().chain(other));
    }
    places
}

/// What the original's protocol names mean for us.
///
/// # Errors
/// When the name is none that is known.
pub fn listen_of_protocol(protocol: &str) -> Result<String, String> {
    match protocol {
        LOCAL | AUTO => Ok(protocol.to_owned()),
        "tcp" | "ofi+tcp" | "bmi+tcp" => Ok(TCP.to_owned()),
        address if address.contains("://") => Ok(address.to_owned()),
        other => Err(format!(
            "protocol \"{other}\" is not available: use na+sm (this node only), tcp, ofi+tcp, auto (both), or an address such \
             as tcp://HOST:PORT"
        )),
    }
}

/// Adds what was probably meant to serde's message about an unknown key.
fn with_suggestion(message: &str) -> String {
    let mut quoted = quoted(message);
    let Some(unknown) = quoted.next().filter(|_| message.starts_with("unknown field")) else {
        return message.to_owned();
    };
    let place = message
        .rsplit(" at line ")
        .next()
        .filter(|_| message.contains(" at line "));
    let place = place.map(|place| format!(" (line {place})")).unwrap_or_default();
    match nearest(unknown, quoted) {
        Some(known) => format!("unknown key \"{unknown}\"{place}; did you mean \"{known}\"?"),
        None => message.replace("unknown field", "unknown key"),
    }
}

/// The words that serde's message has in backquotes: the wrong one, then those that there are.
fn quoted(message: &str) -> impl Iterator<Item = &str> {
    message.split('`').skip(1).step_by(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_gets_a_suggestion_and_its_place() {
        let error = NodeConfig::parse("{\n  \"shard\": 2\n}", None).unwrap_err();
        assert_eq!(
            error,
            "unknown key \"shard\" (line 2 column 9); did you mean \"shards\"?"
        );
        let error = NodeConfig::parse("{\"limits\": {\"segment_meta_byte\": 2}}", None).unwrap_err();
        assert!(error.contains("did you mean \"segment_meta_bytes\"?"), "{error}");
    }

    #[test]
    fn auto_is_a_local_socket_and_tcp() {
        let places = |listen: &[&str]| {
            let listen: Vec<String> = listen.iter().map(|text| (*text).to_owned()).collect();
            let places = places_to_listen(&listen);
            places.into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(places(&["auto"]), ["na+sm", "tcp://127.0.0.1:0"]);
        assert_eq!(
            places(&["tcp://0.0.0.0:1", "unix:///a"]),
            ["tcp://0.0.0.0:1", "unix:///a"]
        );
        let beside = places(&["tcp://0.0.0.0:1", "na+sm", "auto"]);
        assert_eq!(beside, ["tcp://0.0.0.0:1", "na+sm", "tcp://127.0.0.1:0"]);
        assert_eq!(listen_of_protocol("auto").as_deref(), Ok("auto"));
        let refused = listen_of_protocol("verbs").unwrap_err();
        assert!(
            refused.contains("\"verbs\"") && refused.contains("auto"),
            "{refused}"
        );
    }

    #[test]
    fn an_empty_configuration_is_a_whole_one() {
        let loaded = NodeConfig::parse("{}", None).unwrap();
        assert_eq!(loaded.config.group_file, PathBuf::from("./mofka.json"));
        assert_eq!(loaded.config.direct_io, DirectIo::Require);
    }

    #[test]
    fn local_clients_are_the_nodes_user_root_and_those_that_are_listed() {
        let nobody_else = LocalClients::default();
        assert!(nobody_else.refusal(7, 7, 7).is_none() && nobody_else.refusal(0, 0, 7).is_none());
        let refusal = nobody_else.refusal(8, 9, 7).unwrap();
        assert!(
            refusal.contains("user 8 (group 9)") && refusal.contains("local_clients"),
            "{refusal}"
        );
        let loaded = NodeConfig::parse("{\"local_clients\": {\"uids\": [8], \"gids\": [20]}}", None).unwrap();
        let some = loaded.config.local_clients;
        assert!(some.is_open_to_others() && !nobody_else.is_open_to_others());
        assert!(some.refusal(8, 9, 7).is_none() && some.refusal(10, 20, 7).is_none());
        assert!(some.refusal(10, 9, 7).is_some());
    }

    #[test]
    fn the_example_is_understood_and_settings_have_keys_with_dots() {
        let loaded = NodeConfig::parse(include_str!("../../docs/monitoring/mofkad.json"), None).unwrap();
        loaded.config.check().unwrap();
        assert_eq!(loaded.config.log_format, LogFormat::Json);
        let settings = loaded.config.settings();
        assert_eq!(settings["monitoring.listen"], "127.0.0.1:9464");
        assert_eq!(settings["limits.connections_max"], 4096);
        assert_eq!(settings["direct_io"], "require");
        assert!(settings.keys().all(|key| key != "limits"));
    }

    #[test]
    fn wrong_log_levels_and_places_are_refused() {
        let mut config = NodeConfig {
            log_level: "inof".to_owned(),
            ..NodeConfig::default()
        };
        assert!(
            config
                .check()
                .unwrap_err()
                .starts_with("\"log_level\": log level \"inof\"")
        );
        config.log_level = "debug".to_owned();
        config.monitoring.listen = Some("here".to_owned());
        assert!(config.check().unwrap_err().starts_with("\"monitoring.listen\""));
    }

    #[test]
    fn addresses_that_are_none_are_refused() {
        let checked = |listen: &str, shards: usize| {
            let config = NodeConfig {
                listen: vec!["na+sm".to_owned(), "auto".to_owned(), listen.to_owned()],
                shards: Some(shards),
                ..NodeConfig::default()
            };
            config.check()
        };
        for fine in ["tcp://[::1]:65534", "ofi+tcp://h:0", "unix:///a", "na+sm:///a"] {
            assert_eq!(checked(fine, 2), Ok(()));
        }
        for (wrong, words) in [
            ("tcp://127.0.0.1", "a host and a port"),
            ("udp://1.1.1.1:80", "does not begin with"),
            ("tcp", "does not begin with"),
            ("unix://a", "absolute path"),
            ("tcp://h:65535", "no port for shard 1"),
        ] {
            let error = checked(wrong, 2).unwrap_err();
            assert!(
                error.starts_with("\"listen\": ") && error.contains(words),
                "{error}"
            );
        }
    }

    #[test]
    fn impossible_values_are_refused() {
        let zero = NodeConfig {
            shards: Some(0),
            ..NodeConfig::default()
        };
        assert!(zero.check().unwrap_err().contains("at least one"));
        let mut limits = NodeConfig::default();
        for (bytes, words) in [(0, "let nothing through"), (1000, "at least")] {
            limits.limits.frame_bytes_max = bytes;
            let error = limits.check().unwrap_err();
            assert!(
                error.contains("limits.frame_bytes_max") && error.contains(words),
                "{error}"
            );
        }
        let retention = NodeConfig::parse("{\"default_retention\": {\"bytes_max\": 0}}", None).unwrap();
        let error = retention.config.check().unwrap_err();
        assert!(error.starts_with("\"default_retention\": "), "{error}");
    }
}
