//! The way to a node, and what a client's errors mean for the exit code.

use std::path::PathBuf;
use std::time::Duration;

use mofka_client::{
    AcknowledgeError, ConsumerError, DeliveryError, Driver, DriverError, DriverOptions, Start, StreamError,
    TopicHandle,
};
use mofka_net::control::NodeStatus;
use serde::Serialize;
use serde_json::Value;

use crate::cli::From;
use crate::failure::{Failure, Outcome};

/// How long a node that was lost is looked for. Somebody sits before this tool.
const RECONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Where a node is to be found.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    GroupFile(PathBuf),
    Address(String),
}

impl Place {
    fn options(&self) -> DriverOptions {
        let options = match self {
            Self::GroupFile(path) => DriverOptions::group_file(path),
            Self::Address(address) => DriverOptions::addresses([address]),
        };
        DriverOptions {
            client_name: format!("mofka-ctl {}", std::process::id()),
            ..options
        }
    }
}

/// Connects, with little patience.
pub(crate) fn connect(place: &Place) -> Outcome<Driver> {
    connect_patiently(place, RECONNECT_TIMEOUT)
}

/// Connects; a node that is lost later is looked for so long.
pub(crate) fn connect_patiently(place: &Place, reconnect_timeout: Duration) -> Outcome<Driver> {
    let options = DriverOptions {
        reconnect_timeout,
        ..place.options()
    };
    Driver::connect(options).map_err(|error| match error {
        DriverError::Invalid(what) => Failure::usage(what),
        other => failure(other),
    })
}

/// What the node that the place names says of itself.
pub(crate) fn status(place: &Place) -> Outcome<NodeStatus> {
    connect(place)?.node_status(0).map_err(failure)
}

pub(crate) fn failure(error: DriverError) -> Failure {
    match &error {
        DriverError::GroupFile { .. } => Failure::unreachable(format!(
            "{error}; start a node with `mofka-ctl start`, or name the group file of one with --groupfile"
        )),
        DriverError::Group { .. } => Failure::unreachable(format!(
            "group file's content seems invalid: {error}; it is written by the node at its start"
        )),
        DriverError::Unreachable { waited, reason } if waited.is_zero() => Failure::unreachable(format!(
            "no node answers: {reason}; if it is not running, start it with `mofka-ctl start`"
        )),
        DriverError::Unreachable { .. } | DriverError::Lost { .. } | DriverError::NoGroup => {
            Failure::unreachable(error.to_string())
        }
        _ => Failure::failed(error.to_string()),
    }
}

pub(crate) fn delivery_failure(error: &DeliveryError) -> Failure {
    match error {
        DeliveryError::Unreachable { .. } => Failure::unreachable(error.to_string()),
        _ => Failure::failed(error.to_string()),
    }
}

pub(crate) fn stream_failure(error: &StreamError) -> Failure {
    match error {
        StreamError::Driver(error) => failure(error.clone()),
        StreamError::Delivery(error) => delivery_failure(error),
        _ => Failure::failed(error.to_string()),
    }
}

pub(crate) fn acknowledge_failure(error: &AcknowledgeError) -> Failure {
    match error {
        AcknowledgeError::Unreachable { .. } => Failure::unreachable(error.to_string()),
        _ => Failure::failed(error.to_string()),
    }
}

pub(crate) fn consumer_failure(error: ConsumerError) -> Failure {
    match error {
        ConsumerError::Driver(error) => failure(error),
        other => Failure::failed(other.to_string()),
    }
}

/// That the topic does not have the partition that the command line names, or has none at all.
pub(crate) fn no_partition(topic: &TopicHandle, partition: Option<usize>) -> Failure {
    let wanted = partition.map_or_else(String::new, |index| format!(" {index}"));
    let count = topic.partitions().len();
    Failure::failed(format!(
        "topic {} has no partition{wanted}: it has {count}",
        topic.name()
    ))
}

pub(crate) fn start_at(from: From) -> Start {
    match from {
        From::Cursor => Start::Cursor,
        From::First => Start::First,
        From::Last => Start::Last,
        From::Id(id) => Start::Id(id),
        From::Time(us) => Start::Time(us),
    }
}

/// The value as it is printed with `--json`.
pub(crate) fn to_json(value: &impl Serialize) -> Outcome<Value> {
    serde_json::to_value(value).map_err(|e| Failure::failed(format!("cannot print the answer as JSON: {e}")))
}

/// The word that a value has in JSON, such as an enum's.
pub(crate) fn word(value: &impl Serialize) -> String {
    match to_json(value) {
        Ok(Value::String(word)) => word,
        Ok(other) => other.to_string(),
        Err(_) => String::new(),
    }
}
