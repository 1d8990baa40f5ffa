//! What each key of the configuration means: the one list, for `mofka-ctl config explain` and `generate`.
//!
//! A test compares it with [`NodeConfig`]: a key of one that is not in the other fails, and so does a bound that
//! [`NodeConfig::check`] does not keep.

use serde::Serialize;
use serde_json::Value;

use super::NodeConfig;

/// A key of the configuration.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Key {
    /// As in the configuration; keys inside of others with dots: `limits.connections_max`.
    pub key: &'static str,
    /// What it says.
    pub meaning: &'static str,
    /// What its number counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<&'static str>,
    /// Smallest number that is accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<u64>,
    /// Largest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<u64>,
    /// Words that are accepted, when no others are.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub words: &'static [&'static str],
}

const fn key(key: &'static str, meaning: &'static str) -> Key {
    Key {
        key,
        meaning,
        unit: None,
        min: None,
        max: None,
        words: &[],
    }
}

impl Key {
    const fn unit(self, unit: &'static str) -> Self {
        Self {
            unit: Some(unit),
            ..self
        }
    }

    const fn bytes(self) -> Self {
        self.unit("bytes")
    }

    const fn min(self, min: u64) -> Self {
        Self {
            min: Some(min),
            ..self
        }
    }

    const fn max(self, max: u64) -> Self {
        Self {
            max: Some(max),
            ..self
        }
    }

    const fn words(self, words: &'static [&'static str]) -> Self {
        Self { words, ..self }
    }

    /// Whether it can be changed while the node runs.
    pub fn is_live(&self) -> bool {
        matches!(super::change_of(self.key), Some(super::Change::Live(_)))
    }

    /// What it is when the configuration does not say.
    pub fn default(&self) -> Value {
        NodeConfig::default()
            .settings()
            .remove(self.key)
            .unwrap_or_default()
    }
}

/// Every key.
pub const KEYS: &[Key] = &[
    key(
        "data_dir",
        "Where the catalog and the partitions are stored. Made when it is not there. Relative to the working directory.",
    ),
    key(
        "group_file",
        "Where the node writes its addresses at its start, each node into a file of its own; clients and tools read it.",
    ),
    key(
        "listen",
        "Addresses to listen on: tcp://HOST:PORT (port 0: any free one), unix:///PATH, na+sm (a socket in the data directory), \
         auto (that socket and TCP on this machine at any free port). Shard n listens on PORT + n and PATH.n. The group file names the first.",
    ),
    key(
        "shards",
        "Threads that do the work, each on a core of its own. null: one for each core that the process may use.",
    )
    .min(1)
    .max(super::SHARDS_MAX as u64),
    key("pin", "Whether each shard stays on its core."),
    key(
        "direct_io",
        "Whether log files must bypass the page cache: require refuses to start where the file system cannot; auto uses the \
         cache there, and says so.",
    )
    .words(&["require", "auto"]),
    key("rank", "Place of this node in the group file."),
    key(
        "local_clients.uids",
        "Users, by number, that may connect over a Unix socket, beside the node's own and root.",
    ),
    key(
        "local_clients.gids",
        "Groups, by number, whose processes may connect over a Unix socket; a process's own, not its supplementary ones.",
    ),
    key(
        "default_retention",
        "What topics that are created without a retention of their own keep: bytes_max, age_ms_max and so on, as in a topic's; {}: all.",
    ),
    key(
        "log_level",
        "What is logged: off, error, warn, info, debug, trace, or a list such as info,mofka_engine::room=debug.",
    ),
    key("log_format", "The form of a line of the log: for people, or a JSON object.").words(&["text", "json"]),
    key(
        "monitoring.listen",
        "Where the metrics and the status page are, by HTTP: HOST:PORT (port 0: any free one). null: nowhere.",
    ),
    key(
        "monitoring.hosts",
        "Names by which browsers reach the status page, beside localhost and addresses.",
    ),
    key("monitoring.connections_max", "HTTP connections at once.")
        .unit("connections")
        .min(1)
        .max(1024),
    key(
        "monitoring.partition_series_max",
        "Partitions that have series of their own in the metrics; with more, those of a topic are summed.",
    )
    .unit("partitions")
    .min(1),
    key(
        "monitoring.consumer_series_max",
        "Consumers of partitions that have series of their own in the metrics; with more, they are summed.",
    )
    .unit("consumers")
    .min(1),
    key(
        "limits.segment_meta_bytes",
        "Bytes of a segment's meta file after which the segment is sealed and the next one opened.",
    )
    .bytes()
    .min(1),
    key(
        "limits.segment_data_bytes",
        "Bytes of a segment's data file after which it is sealed; one event may be larger than this. Retention drops whole segments.",
    )
    .bytes()
    .min(1),
    key(
        "limits.commits_in_flight_max",
        "Writes of each file of a partition that may be under way at once.",
    )
    .unit("writes")
    .min(1),
    key(
        "limits.commit_bytes_max",
        "Bytes that one commit gathers at most, when more than one batch waits.",
    )
    .bytes()
    .min(1),
    key(
        "limits.cursors_rewrite_bytes",
        "Size of a partition's cursors file from which on it is rewritten, when it has outgrown what it holds.",
    )
    .bytes(),
    key(
        "limits.pipeline_bytes_min",
        "Data that must wait before it is written while other data of its partition is under way.",
    )
    .bytes(),
    key(
        "limits.meta_pipeline_bytes_min",
        "The same of frames in the meta file.",
    )
    .bytes(),
    key(
        "limits.shard_recent_bytes_max",
        "Memory of a shard for the batches that its partitions accepted last; consumers that keep up read from there.",
    )
    .bytes(),
    key(
        "limits.shard_read_ahead_bytes_max",
        "Memory of a shard for what is read from the device before a consumer asks for it.",
    )
    .bytes(),
    key(
        "limits.memory_partition_bytes_max",
        "Memory of a partition of type memory; beyond it events are refused.",
    )
    .bytes(),
    key(
        "limits.memory_bytes_max",
        "Bytes of memory of all partitions of type memory of the node together; beyond it events are refused. null: half of the \
         machine's memory, or of the control group's limit when that is lower.",
    )
    .min(1),
    key(
        "limits.partition_pending_bytes_max",
        "Bytes that wait to be written in a partition from which on its producers' connections are not read.",
    )
    .bytes(),
    key("limits.frame_bytes_max", "Largest frame that a client may send or be sent.")
        .bytes()
        .min(super::FRAME_BYTES_MIN)
        .max(super::FRAME_BYTES_CEILING),
    key("limits.batch_events_max", "Events in one batch.")
        .unit("events")
        .min(1),
    key(
        "limits.connection_inflight_bytes_max",
        "Bytes of a connection's requests that are not answered yet; beyond it the connection is not read.",
    )
    .bytes()
    .min(1),
    key(
        "limits.connection_outbox_bytes_max",
        "Bytes of answers that wait for a slow reader; beyond it nothing more is read from it or fed to it.",
    )
    .bytes()
    .min(1),
    key("limits.connections_max", "Connections of a shard.")
        .unit("connections")
        .min(1),
    key("limits.subscriptions_max", "Subscriptions of a connection.")
        .unit("subscriptions")
        .min(1),
    key(
        "limits.connection_streams_max",
        "Events of a connection whose data comes in parts and is not whole.",
    )
    .unit("events"),
    key(
        "limits.shard_streams_max",
        "The same of all connections of a shard; each takes 64 bytes of memory for each MiB of its data.",
    )
    .unit("events"),
    key(
        "limits.rings_max",
        "Local clients that are served through shared memory; more are served over their sockets. 0: none are.",
    )
    .unit("rings"),
    key("limits.rings_bytes_max", "Shared memory of all rings of the node.").bytes(),
    key("limits.ring_bytes_max", "Shared memory of one ring.").bytes(),
    key("limits.ring_slots_max", "Slots of each direction of a ring.").unit("slots"),
    key("limits.partitions_max", "Partitions of the node.").unit("partitions"),
    key(
        "limits.heartbeat_ms",
        "How often a client is to be heard; a silent connection is closed after three of these.",
    )
    .unit("milliseconds")
    .min(1),
    key(
        "limits.retention_check_ms",
        "How often partitions are looked through for events that retention lets go.",
    )
    .unit("milliseconds")
    .min(1),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::checking::one_setting;

    #[test]
    fn every_key_is_listed_once_and_no_other() {
        let mut listed: Vec<&str> = KEYS.iter().map(|key| key.key).collect();
        listed.sort_unstable();
        let settings = NodeConfig::default().settings();
        assert_eq!(listed, settings.keys().collect::<Vec<_>>());
        for key in KEYS {
            assert!(key.meaning.ends_with('.'), "{}: {}", key.key, key.meaning);
            let is_number = key.default().is_number() && key.key != "rank";
            assert_eq!(is_number, key.unit.is_some(), "{} counts something", key.key);
        }
    }

    #[test]
    fn bounds_and_words_are_those_that_are_kept() {
        let tried = |key: &Key, value: Value| one_setting(key.key, &value);
        for key in KEYS {
            if let Some(min) = key.min {
                assert_eq!(tried(key, min.into()), Ok(()), "{}", key.key);
                assert!(tried(key, (min - 1).into()).is_err(), "{} below {min}", key.key);
            } else if key.default().is_number() {
                assert_eq!(tried(key, 0.into()), Ok(()), "{} has no bound", key.key);
            }
            if let Some(max) = key.max {
                assert_eq!(tried(key, max.into()), Ok(()), "{}", key.key);
                assert!(tried(key, (max + 1).into()).is_err(), "{} above {max}", key.key);
            }
            for word in key.words {
                assert_eq!(tried(key, (*word).into()), Ok(()), "{}", key.key);
            }
            assert_eq!(
                key.words.is_empty(),
                tried(key, "other words".into()).is_ok() || key.words.is_empty()
            );
            assert_eq!(tried(key, key.default()), Ok(()), "the default of {}", key.key);
        }
    }
}
