//! One policy: a topic, where its events go, and the threads that bring them there.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mofka_client::{Driver, DriverError, ErrorCode, TopicHandle};
use uuid::Uuid;

use super::config::{Mapping, PolicyConfig};
use super::lane::{Lane, LaneEnd};
use crate::failure::{Failure, Outcome};
use crate::stop::Stop;

/// How often the source is asked whether it has more partitions.
const REFRESH_EVERY: Duration = Duration::from_secs(5);
/// How often it is said how many events went, when some did.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// How often it is looked whether threads have ended.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A policy whose topics are there.
pub(super) struct Policy {
    pub(super) config: PolicyConfig,
    pub(super) source: TopicHandle,
    pub(super) destination: TopicHandle,
    pub(super) consumer: String,
    pub(super) stop: Stop,
    /// Events that are stored at the destination since the start.
    pub(super) forwarded: AtomicU64,
    /// Events that the destination refuses for good.
    pub(super) skipped: AtomicU64,
}

/// How a policy ended.
pub(super) enum Ended {
    /// As it was asked to, or because there is nothing more.
    Done,
    Refused(String),
}

impl Policy {
    pub(super) fn open(
        config: PolicyConfig,
        drivers: &BTreeMap<String, Driver>,
        stop: Stop,
    ) -> Outcome<Self> {
        let open = |reference: &super::config::Reference| {
            let driver = drivers
                .get(&reference.driver)
                .ok_or_else(|| Failure::fatal(format!("there is no driver \"{}\"", reference.driver)))?;
            driver.open_topic(&reference.topic).map_err(|error| match &error {
                DriverError::Refused(refused) if refused.code == ErrorCode::UnknownTopic => {
                    Failure::fatal(format!(
                        "there is no topic {reference}: make it there, with `mofka-ctl topic create {}`",
                        reference.topic
                    ))
                }
                _ => super::fatal(error).while_doing(format!("topic {reference}")),
            })
        };
        let (source, destination) = (open(&config.from)?, open(&config.to)?);
        let (from, to) = (source.info(), destination.info());
        if from.id == to.id {
            return Err(Failure::fatal(format!(
                "{} and {} are the same topic",
                config.from, config.to
            )));
        }
        let (from_count, to_count) = (from.partitions.len(), to.partitions.len());
        if config.mapping == Mapping::Same && from_count != to_count {
            return Err(Failure::fatal(format!(
                "{} has {from_count} partitions and {} has {to_count}: make as many, or say \"partitions\": \"any\" in the policy",
                config.from, config.to
            )));
        }
        Ok(Self {
            consumer: config.consumer(),
            config,
            source,
            destination,
            stop,
            forwarded: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.consumer
    }

    /// Who a partition of the source is for the destination.
    pub(super) fn source_id(&self, partition: Uuid) -> NonZeroU64 {
        source_id(partition, &self.consumer)
    }

    /// Forwards until it is to stop, or there is nothing more to do.
    pub(super) fn run(self: Arc<Self>) -> Ended {
        tracing::info!(
            policy = self.name(),
            state = "started",
            data = self.config.with_data,
            "a policy begins"
        );
        let mut lanes: BTreeMap<usize, JoinHandle<LaneEnd>> = BTreeMap::new();
        let mut refused = None;
        let mut ended = 0;
        let (mut refreshed, mut told) = (Instant::now(), Told::default());
        loop {
            let count = self.source.partitions().len();
            for index in ended + lanes.len()..count {
                if let Err(reason) = self.start(index, &mut lanes) {
                    refused.get_or_insert(reason);
                }
            }
            let over: Vec<usize> = lanes
                .iter()
                .filter(|(_, lane)| lane.is_finished())
                .map(|(index, _)| *index)
                .collect();
            for index in over {
                let Some(lane) = lanes.remove(&index) else {
                    continue;
                };
                ended += 1;
                match lane.join() {
                    Ok(LaneEnd::Stopped | LaneEnd::Complete) => {}
                    Ok(LaneEnd::Refused(reason)) => refused = refused.or(Some(reason)),
                    Err(_) => refused = refused.or(Some("a thread ended by itself".to_owned())),
                }
            }
            if lanes.is_empty() && (ended > 0 || self.stop.is_wished() || refused.is_some()) {
                break;
            }
            if refreshed.elapsed() >= REFRESH_EVERY && !self.stop.is_wished() {
                self.refresh();
                refreshed = Instant::now();
            }
            told.tell(&self);
            thread::sleep(LOOK_EVERY);
        }
        let (forwarded, skipped) = self.counts();
        let name = self.name();
        match refused {
            None => {
                tracing::info!(
                    policy = name,
                    state = "ended",
                    forwarded,
                    skipped,
                    "a policy has ended"
                );
                Ended::Done
            }
            Some(reason) => {
                tracing::error!(
                    policy = name,
                    state = "refused",
                    forwarded,
                    skipped,
                    reason,
                    "a policy has ended"
                );
                Ended::Refused(format!("policy {name}: {reason}"))
            }
        }
    }

    fn start(
        self: &Arc<Self>,
        index: usize,
        lanes: &mut BTreeMap<usize, JoinHandle<LaneEnd>>,
    ) -> Result<(), String> {
        let lane = Lane::new(Arc::clone(self), index);
        let started = thread::Builder::new()
            .name(format!("forward {index}"))
            .spawn(move || lane.run());
        let lane = started.map_err(|error| format!("no thread for partition {index}: {error}"))?;
        lanes.insert(index, lane);
        Ok(())
    }

    /// Partitions may have been added. A node that is away is the lanes' matter.
    fn refresh(&self) {
        for topic in [&self.source, &self.destination] {
            match topic.refresh() {
                Ok(()) => {}
                Err(DriverError::Refused(error)) if error.code == ErrorCode::UnknownTopic => {
                    tracing::warn!(
                        policy = self.name(),
                        topic = topic.name(),
                        "the topic is not there any more"
                    );
                }
                Err(error) => tracing::debug!(policy = self.name(), %error, "cannot ask for partitions"),
            }
        }
    }

    fn counts(&self) -> (u64, u64) {
        (
            self.forwarded.load(Ordering::Relaxed),
            self.skipped.load(Ordering::Relaxed),
        )
    }
}

/// A number of a partition and a consumer's name: the same at every start. Where random numbers of other producers, which begin
/// UUIDs of version 4, have a 4, it has an 8, so it is none of those.
fn source_id(partition: Uuid, consumer: &str) -> NonZeroU64 {
    const VERSION: u64 = 0xF000;
    // FNV-1a: the numbers need to differ, not to be hard to guess. These must never change: they are stored.
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in partition.as_bytes().iter().chain(consumer.as_bytes()) {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    NonZeroU64::new(hash & !VERSION | 0x8000).unwrap_or(NonZeroU64::MIN)
}

/// What was said last of how many events went.
struct Told {
    at: Instant,
    counts: (u64, u64),
}

impl Default for Told {
    fn default() -> Self {
        Self {
            at: Instant::now(),
            counts: (0, 0),
        }
    }
}

impl Told {
    fn tell(&mut self, policy: &Policy) {
        let counts = policy.counts();
        if self.at.elapsed() < TELL_EVERY || counts == self.counts {
            return;
        }
        let (forwarded, skipped) = counts;
        tracing::info!(
            policy = policy.name(),
            state = "running",
            forwarded,
            skipped,
            "events went"
        );
        *self = Self {
            at: Instant::now(),
            counts,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_has_the_same_id_for_ever_and_no_other_has_it() {
        let partition = Uuid::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);
        let id = source_id(partition, "a/t->b/t");
        assert_eq!(id.get(), 0x6640_819d_479c_83fd);
        assert_eq!(id.get() & 0xF000, 0x8000);
        assert_ne!(source_id(partition, "a/t->b/u"), id);
        assert_ne!(source_id(Uuid::from_u128(1), "a/t->b/t"), id);
    }
}
