//! Metrics and the status page, by HTTP on a port of their own.
//!
//! What is counted and how it is gathered is the business of `crate::measures` and the shards; here a copy of it becomes text.
//! All of that is pure ([`http`], [`exposition`], [`metrics`], [`status`]) but for [`server`], which has a few threads of its
//! own and blocking sockets: whatever a client of it does, no shard notices more than a question every [`server::FRESH`].

pub mod detail;
pub mod exposition;
pub mod http;
pub mod metrics;
mod page;
pub mod process;
pub mod server;
pub mod status;

use serde::{Deserialize, Serialize};

/// What the configuration says under `monitoring`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Monitoring {
    /// Where to listen: `HOST:PORT`; port 0: any free one. Nowhere by default: names of topics and consumers are not for
    /// every user of a machine.
    pub listen: Option<String>,
    /// Names by which browsers reach it, beside `localhost` and addresses. Asked for by another name it refuses when it listens
    /// on a loopback address, so that no page elsewhere can read it by giving its own name that address.
    pub hosts: Vec<String>,
    /// Connections at once.
    pub connections_max: usize,
    /// Partitions that have series of their own. With more of them, those of a topic are summed on each shard, and with
    /// more topics than this, all of a shard.
    pub partition_series_max: usize,
    /// Consumers of partitions that have series of their own. With more of them, those of a topic are summed over its
    /// partitions, and with more than this, those that lag most are told of.
    pub consumer_series_max: usize,
}

impl Default for Monitoring {
    fn default() -> Self {
        Self {
            listen: None,
            hosts: Vec::new(),
            connections_max: 32,
            partition_series_max: 1000,
            consumer_series_max: 1000,
        }
    }
}

impl Monitoring {
    /// Where to listen, as host and port; `None`: nowhere.
    ///
    /// # Errors
    /// What is not understood.
    pub fn place(&self) -> Result<Option<(String, u16)>, String> {
        let Some(listen) = &self.listen else {
            return Ok(None);
        };
        let wrong = || format!("\"monitoring.listen\": \"{listen}\" is not HOST:PORT, as in 127.0.0.1:9464");
        let address = listen.strip_prefix("http://").unwrap_or(listen);
        let (host, port) = address.trim_end_matches('/').rsplit_once(':').ok_or_else(wrong)?;
        let host = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        let port = port.parse().map_err(|_| wrong())?;
        if host.is_empty() || host.contains('/') {
            return Err(wrong());
        }
        Ok(Some((host.to_owned(), port)))
    }

    /// # Errors
    /// What cannot be.
    pub fn check(&self) -> Result<(), String> {
        self.place()?;
        for (name, value) in [
            ("connections_max", self.connections_max),
            ("partition_series_max", self.partition_series_max),
            ("consumer_series_max", self.consumer_series_max),
        ] {
            if value == 0 {
                return Err(format!(
                    "\"monitoring.{name}\" is 0; leave \"monitoring.listen\" out to have no metrics"
                ));
            }
        }
        if self.connections_max > CONNECTIONS_MAX {
            return Err(format!(
                "\"monitoring.connections_max\" is larger than {CONNECTIONS_MAX}"
            ));
        }
        Ok(())
    }
}

/// Each connection has a thread.
const CONNECTIONS_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn place(listen: &str) -> Result<Option<(String, u16)>, String> {
        let monitoring = Monitoring {
            listen: Some(listen.to_owned()),
            ..Monitoring::default()
        };
        monitoring.place()
    }

    #[test]
    fn addresses_are_host_and_port() {
        assert_eq!(Monitoring::default().place(), Ok(None));
        let of = |host: &str, port| Ok(Some((host.to_owned(), port)));
        assert_eq!(place("127.0.0.1:9464"), of("127.0.0.1", 9464));
        assert_eq!(place("http://localhost:0/"), of("localhost", 0));
        assert_eq!(place("[::1]:80"), of("::1", 80));
        for bad in [
            "",
            "9464",
            ":9464",
            "localhost",
            "localhost:http",
            "localhost:70000",
            "tcp://a:1",
        ] {
            let error = place(bad).unwrap_err();
            assert!(error.contains("127.0.0.1:9464"), "{bad}: {error}");
        }
    }

    #[test]
    fn impossible_values_are_refused() {
        let none = Monitoring {
            connections_max: 0,
            ..Monitoring::default()
        };
        assert!(none.check().unwrap_err().contains("monitoring.connections_max"));
        assert!(Monitoring::default().check().is_ok());
    }
}
