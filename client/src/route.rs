//! The way to one partition: its shard's addresses, which may change while we are away.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use mofka_net::control::PartitionInfo;
use mofka_net::{Address, ErrorCode, WireError};
use uuid::Uuid;

use crate::driver::DriverCore;
use crate::error::DriverError;
use crate::link::{Connection, Place};
use crate::promise::lock;

/// Why there is no connection to a partition.
#[derive(Debug)]
pub(crate) enum RouteError {
    /// Trying again may help.
    Away(String),
    /// The topic or the partition does not exist any more.
    Gone(String),
}

impl From<RouteError> for DriverError {
    fn from(error: RouteError) -> Self {
        match error {
            RouteError::Away(reason) => Self::Unreachable {
                waited: Duration::ZERO,
                reason,
            },
            RouteError::Gone(reason) => Self::Invalid(reason),
        }
    }
}

pub(crate) struct Route {
    driver: Arc<DriverCore>,
    topic: String,
    partition: Uuid,
    target: Mutex<Target>,
}

struct Target {
    addresses: Vec<Address>,
    place: Option<Place>,
    /// Whether the addresses have to be asked for again first.
    stale: bool,
}

impl Route {
    pub(crate) fn new(driver: Arc<DriverCore>, topic: &str, info: &PartitionInfo) -> Self {
        let target = Mutex::new(Target::of(&driver, info));
        Self {
            driver,
            topic: topic.to_owned(),
            partition: info.id,
            target,
        }
    }

    /// Another way to the same partition, which begins where `info` says.
    pub(crate) fn another(&self, info: &PartitionInfo) -> Self {
        Self::new(Arc::clone(&self.driver), &self.topic, info)
    }

    pub(crate) fn driver(&self) -> &Arc<DriverCore> {
        &self.driver
    }

    pub(crate) fn partition(&self) -> Uuid {
        self.partition
    }

    /// The connection to the partition's shard, if there is one already. Does not wait.
    pub(crate) fn alive(&self) -> Option<Arc<Connection>> {
        let target = lock(&self.target);
        if target.stale {
            None
        } else {
            self.driver.links.alive(&target.addresses, target.place)
        }
    }

    /// A connection to the partition's shard. One attempt, which may block.
    pub(crate) fn establish(&self) -> Result<Arc<Connection>, RouteError> {
        let (addresses, place, stale) = {
            let target = lock(&self.target);
            (target.addresses.clone(), target.place, target.stale)
        };
        if !stale && let Ok(connection) = self.driver.links.connect(&addresses, place) {
            return Ok(connection);
        }
        let info = match self.driver.describe_once(&self.topic) {
            Ok(info) => info,
            Err(DriverError::Refused(error)) if error.code == ErrorCode::UnknownTopic => {
                return Err(RouteError::Gone(format!(
                    "topic \"{}\" does not exist any more",
                    self.topic
                )));
            }
            Err(error) => return Err(RouteError::Away(error.to_string())),
        };
        let Some(info) = info
            .partitions
            .iter()
            .find(|partition| partition.id == self.partition)
        else {
            let reason = format!(
                "partition {} of topic \"{}\" does not exist any more",
                self.partition, self.topic
            );
            return Err(RouteError::Gone(reason));
        };
        let found = Target::of(&self.driver, info);
        let connected = self.driver.links.connect(&found.addresses, found.place);
        *lock(&self.target) = found;
        connected.map_err(RouteError::Away)
    }

    /// Another shard has the partition: the node may have said which.
    pub(crate) fn moved(&self, error: &WireError) {
        let addresses: Vec<Address> = error
            .addresses()
            .iter()
            .filter_map(|text| text.parse().ok())
            .collect();
        let mut target = lock(&self.target);
        if addresses.is_empty() || addresses == target.addresses {
            target.stale = true;
        } else {
            *target = Target {
                addresses,
                place: None,
                stale: false,
            };
        }
    }

    /// The connection was lost: the partition may be elsewhere when the node is back.
    pub(crate) fn lost(&self) {
        lock(&self.target).stale = true;
    }
}

impl Target {
    fn of(driver: &DriverCore, info: &PartitionInfo) -> Self {
        let told = info.addresses.iter().filter_map(|text| text.parse().ok());
        let mut addresses: Vec<Address> = told.collect();
        // Last, since they are guessed: for nodes that do not know how we see them, in a container or behind another
        // host's port.
        for address in driver.reached_at(info.rank, info.shard) {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        Self {
            addresses,
            place: Some(Place {
                rank: info.rank,
                shard: info.shard,
            }),
            stale: false,
        }
    }
}
