//! Which settings change while a node runs, and why the others do not.

use serde_json::Value;

use super::{NodeConfig, WHOLE};

/// How a setting changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// While the node runs, and for whom.
    Live(&'static str),
    /// By the configuration and another start, and why.
    Restart(&'static str),
}

use Change::{Live, Restart};

const AT_ONCE: Change = Live("at once");
const NEW_CONNECTIONS: Change =
    Live("for connections that come from now on: the others were told another bound");
const MORE: Change = Live("for what is asked for from now on; what there is stays");
const LAYOUT: Change =
    Restart("it decides how the files of partitions are written, which is settled when they are opened");

/// Every setting by its key, with dots for what is inside of another one.
const CHANGES: [(&str, Change); 44] = [
    ("data_dir", Restart("the node has its files there open")),
    (
        "group_file",
        Restart("clients have found the node by it since it was ready"),
    ),
    (
        "listen",
        Restart("each shard binds its addresses once, and tells them to clients"),
    ),
    (
        "shards",
        Restart("each is a thread that opened its partitions at the start"),
    ),
    (
        "pin",
        Restart("a shard's thread is put on its core when it is made"),
    ),
    (
        "direct_io",
        Restart("files of partitions are open in one way or the other"),
    ),
    ("rank", Restart("clients and the catalog know the node by it")),
    (
        "local_clients.uids",
        Live("at once: also who is connected and not listed any more has to go"),
    ),
    (
        "local_clients.gids",
        Live("at once: also who is connected and not listed any more has to go"),
    ),
    (
        "default_retention",
        Live("for topics that are created from now on; `mofka-ctl topic alter` is for the others"),
    ),
    ("log_level", AT_ONCE),
    (
        "log_format",
        Restart("whoever reads the log would find two forms in it"),
    ),
    (
        "monitoring.listen",
        Restart("the address for metrics is bound once"),
    ),
    ("monitoring.hosts", Live("for requests that come from now on")),
    (
        "monitoring.connections_max",
        Live("for connections that come from now on"),
    ),
    ("monitoring.partition_series_max", AT_ONCE),
    ("monitoring.consumer_series_max", AT_ONCE),
    ("limits.segment_meta_bytes", LAYOUT),
    ("limits.segment_data_bytes", LAYOUT),
    ("limits.commits_in_flight_max", LAYOUT),
    ("limits.commit_bytes_max", LAYOUT),
    ("limits.pipeline_bytes_min", LAYOUT),
    ("limits.meta_pipeline_bytes_min", LAYOUT),
    ("limits.cursors_rewrite_bytes", LAYOUT),
    (
        "limits.shard_recent_bytes_max",
        Live("at once: what is held beyond it is given up, but for what is not on the device yet"),
    ),
    ("limits.shard_read_ahead_bytes_max", MORE),
    (
        "limits.memory_partition_bytes_max",
        Live("for events that come from now on; those that are there stay"),
    ),
    (
        "limits.memory_bytes_max",
        Live("for events that come from now on; those that are there stay"),
    ),
    ("limits.partition_pending_bytes_max", AT_ONCE),
    ("limits.frame_bytes_max", NEW_CONNECTIONS),
    ("limits.batch_events_max", NEW_CONNECTIONS),
    ("limits.connection_inflight_bytes_max", AT_ONCE),
    ("limits.connection_outbox_bytes_max", AT_ONCE),
    (
        "limits.connections_max",
        Live("for connections that come from now on; those that are there stay"),
    ),
    ("limits.subscriptions_max", NEW_CONNECTIONS),
    ("limits.connection_streams_max", MORE),
    ("limits.shard_streams_max", MORE),
    ("limits.rings_max", MORE),
    ("limits.rings_bytes_max", MORE),
    ("limits.ring_bytes_max", NEW_CONNECTIONS),
    ("limits.ring_slots_max", NEW_CONNECTIONS),
    ("limits.partitions_max", MORE),
    (
        "limits.heartbeat_ms",
        Restart("it was told to every client that is connected, and groups of consumers go by it"),
    ),
    (
        "limits.retention_check_ms",
        Live("at once: the time since the last look counts"),
    ),
];

/// How the setting with this key changes; `None`: there is no such setting.
pub fn change_of(key: &str) -> Option<Change> {
    CHANGES
        .iter()
        .find(|(known, _)| *known == key)
        .map(|(_, change)| *change)
}

impl NodeConfig {
    /// The same with another value for one setting, which exists. Checked by type alone.
    ///
    /// # Errors
    /// What the value should be.
    pub(crate) fn with(&self, key: &str, value: &Value) -> Result<Self, String> {
        let whole = serde_json::to_value(self);
        let mut whole = whole.map_err(|error| format!("the settings cannot be written: {error}"))?;
        let path: Vec<&str> = match WHOLE.contains(&key) {
            true => vec![key],
            false => key.split('.').collect(),
        };
        let place = path
            .iter()
            .try_fold(&mut whole, |place, name| place.get_mut(*name))
            .ok_or_else(|| format!("there is no setting \"{key}\""))?;
        *place = value.clone();
        serde_json::from_value(whole).map_err(|error| format!("\"{key}\": {error}"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_setting_is_considered_once() {
        let mut known: Vec<&str> = CHANGES.iter().map(|(key, _)| *key).collect();
        known.sort_unstable();
        let settings = NodeConfig::default().settings();
        let settings: Vec<&str> = settings.keys().map(String::as_str).collect();
        assert_eq!(known, settings);
    }

    #[test]
    fn one_value_is_replaced_and_its_type_looked_at() {
        let config = NodeConfig::default();
        let changed = config.with("limits.connections_max", &json!(3)).unwrap();
        assert_eq!((changed.limits.connections_max, changed.rank), (3, config.rank));
        let changed = config.with("local_clients.uids", &json!([1, 2])).unwrap();
        assert_eq!(changed.local_clients.uids, [1, 2]);
        let changed = config
            .with("default_retention", &json!({"age_max_ms": 5}))
            .unwrap();
        assert_eq!(changed.default_retention.age_max_ms, Some(5));
        for (key, value) in [
            ("limits.connections_max", json!("many")),
            ("limits.connections_max", json!(-1)),
            ("local_clients.uids", json!(7)),
            ("default_retention", json!({"age": 5})),
        ] {
            let error = config.with(key, &value).unwrap_err();
            assert!(error.starts_with(&format!("\"{key}\": ")), "{error}");
        }
    }
}
