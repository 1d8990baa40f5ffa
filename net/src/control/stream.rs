//! Events whose data comes in parts: beginning and giving up.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Begins a stream: the data of one event is going to come in parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamOpenRequest {
    /// Where the event is to go.
    pub partition: Uuid,
}

/// A stream that was begun, and what bounds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamOpenResponse {
    /// Its number. It ends with the connection.
    pub stream: u64,
    /// Bytes of a part at most: a multiple of 64 KiB.
    pub part_bytes_max: u64,
    /// Bytes of parts that may be unanswered at once.
    pub window_bytes: u64,
    /// Bytes of the whole data at most.
    pub data_bytes_max: u64,
}

/// Gives a stream up. Nothing of it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamAbortRequest {
    /// Its number.
    pub stream: u64,
}
