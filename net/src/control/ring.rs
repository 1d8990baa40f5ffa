//! Going on through shared memory.

use serde::{Deserialize, Serialize};

use crate::shm::{LaneConfig, MapError, RingConfig};

/// Asks for a ring: the connection goes on through it. Only on a Unix socket, when hello agreed on it, and while nothing
/// else is asked or subscribed to on the connection. The answer says the same, and three descriptors come with its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RingOpenRequest {
    /// From client to server.
    pub submission: RingLane,
    /// From server to client.
    pub completion: RingLane,
}

/// Sizes of one direction of a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RingLane {
    /// Frames under way at a time: a power of two.
    pub slots: u32,
    /// Bytes for frames that do not fit a slot: a multiple of 4096.
    pub arena_bytes: u64,
}

/// The ring is there: everything from here on goes through it, either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RingOpenResponse {
    /// From client to server.
    pub submission: RingLane,
    /// From server to client.
    pub completion: RingLane,
}

/// What a node gives at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RingBounds {
    /// Slots of each direction.
    pub slots_max: u32,
    /// Shared memory of one ring.
    pub ring_bytes_max: u64,
}

impl RingOpenRequest {
    /// The ring that is asked for.
    ///
    /// # Errors
    /// Sizes that no ring can have.
    pub fn config(&self) -> Result<RingConfig, MapError> {
        let lane = |lane: &RingLane| LaneConfig {
            slot_count: lane.slots,
            arena_bytes: lane.arena_bytes,
        };
        let config = RingConfig {
            submission: lane(&self.submission),
            completion: lane(&self.completion),
            first_position: 0,
        };
        config.memory_bytes().map(|_| config)
    }
}
