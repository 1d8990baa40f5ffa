//! Retention: which of a partition's segments are to go, and by what clock.
//!
//! Segments go whole and oldest first, and the one that is written never goes. The rules that a topic may have work each
//! on its own: a segment goes when *one* of them says so.
//!
//! - `bytes_max`: the partition holds more than that.
//! - `age_max_ms`: the segment's last event is older than that.
//! - `acknowledged`: every consumer that is named has acknowledged all of the segment.
//!
//! `bytes_max` and `age_max_ms` do not ask consumers: a consumer that is behind misses events and is told how many. Who
//! would rather have producers wait than lose an event gives `keep_unacknowledged`, which holds against every rule.

use serde::{Deserialize, Serialize};

use crate::ids::EventId;
use crate::name::{NameError, check_consumer_name};

/// Consumers that a policy may name.
pub const RETENTION_CONSUMERS_MAX: usize = 64;

/// What of a topic's events may go. The default keeps everything for ever.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// Bytes that a partition may hold: its oldest segments go while it holds more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_max: Option<u64>,
    /// How long an event is kept after it was accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_max_ms: Option<u64>,
    /// What these consumers have acknowledged goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledged: Option<AcknowledgedBy>,
    /// What these consumers have not acknowledged stays, whatever the other rules say. A full disk is then felt by
    /// the producers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_unacknowledged: Option<AcknowledgedBy>,
}

/// Whose acknowledgements count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AcknowledgedBy {
    /// Those of every consumer that has a cursor in the partition. While there is none, nothing is acknowledged.
    EveryConsumer,
    /// Those of these consumers. One that has no cursor yet has acknowledged nothing.
    Consumers(Vec<String>),
}

/// Why a policy makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RetentionError {
    /// A bound of 0 would keep nothing.
    #[error("retention: {field} is 0, which would keep no event; leave it out for no such bound")]
    Zero {
        /// Which bound.
        field: &'static str,
    },
    /// Nobody is named.
    #[error("retention: {field} names no consumer; name at least one, or every_consumer")]
    Nobody {
        /// Which rule.
        field: &'static str,
    },
    /// Too many are named.
    #[error(
        "retention: {field} names {count} consumers, and at most {RETENTION_CONSUMERS_MAX} can be; use every_consumer"
    )]
    TooMany {
        /// Which rule.
        field: &'static str,
        /// How many.
        count: usize,
    },
    /// A name that no consumer has.
    #[error("retention: {field}: {source}")]
    Name {
        /// Which rule.
        field: &'static str,
        /// What is wrong with it.
        source: NameError,
    },
}

/// A sealed segment, as far as retention is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealedFacts {
    /// Exclusive end of its events.
    pub end_event_id: EventId,
    /// When its last event was accepted, in Unix microseconds. Unknown: it is not old.
    pub last_timestamp_us: Option<u64>,
}

/// A partition, as far as retention is concerned.
pub struct PartitionFacts<'a> {
    /// Bytes of all its segments, the one that is written with them.
    pub bytes: u64,
    /// What time it is for retention, in Unix microseconds. See [`RetentionClock`].
    pub now_us: u64,
    /// Every consumer's name and where it goes on.
    pub cursors: &'a [(String, EventId)],
}

/// Which rule lets a segment go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrimReason {
    /// `bytes_max`.
    Bytes,
    /// `age_max_ms`.
    Age,
    /// `acknowledged`.
    Acknowledged,
}

impl Retention {
    /// Whether nothing was asked for.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Whether everything is kept for ever.
    pub fn keeps_all(&self) -> bool {
        self.bytes_max.is_none() && self.age_max_ms.is_none() && self.acknowledged.is_none()
    }

    /// Whether it depends on what consumers have acknowledged.
    pub fn asks_consumers(&self) -> bool {
        self.acknowledged.is_some() || self.keep_unacknowledged.is_some()
    }

    /// Looks whether the policy makes sense.
    ///
    /// # Errors
    /// When a bound is 0, or a list of consumers is empty, too long, or has names that no consumer can have.
    pub fn check(&self) -> Result<(), RetentionError> {
        let bounds = [("bytes_max", self.bytes_max), ("age_max_ms", self.age_max_ms)];
        for (field, bound) in bounds {
            if bound == Some(0) {
                return Err(RetentionError::Zero { field });
            }
        }
        let rules = [
            ("acknowledged", &self.acknowledged),
            ("keep_unacknowledged", &self.keep_unacknowledged),
        ];
        for (field, rule) in rules {
            let Some(AcknowledgedBy::Consumers(names)) = rule else {
                continue;
            };
            if names.is_empty() {
                return Err(RetentionError::Nobody { field });
            }
            let count = names.len();
            if count > RETENTION_CONSUMERS_MAX {
                return Err(RetentionError::TooMany { field, count });
            }
            for name in names {
                check_consumer_name(name).map_err(|source| RetentionError::Name { field, source })?;
            }
        }
        Ok(())
    }

    /// Whether the oldest sealed segment of a partition is to go, and why. Asked again for the next one after it went,
    /// with the bytes that are left.
    pub fn oldest_goes(&self, oldest: &SealedFacts, partition: &PartitionFacts<'_>) -> Option<TrimReason> {
        let end = oldest.end_event_id;
        let is_kept = self.keep_unacknowledged.as_ref().is_some_and(|by| {
            by.acknowledged_end(partition.cursors) < Some(end) && by.is_anybody(partition.cursors)
        });
        if is_kept {
            return None;
        }
        let acknowledged = self
            .acknowledged
            .as_ref()
            .is_some_and(|by| by.acknowledged_end(partition.cursors) >= Some(end));
        if acknowledged {
            return Some(TrimReason::Acknowledged);
        }
        if self.is_too_old(oldest.last_timestamp_us, partition.now_us) {
            return Some(TrimReason::Age);
        }
        let too_large = self.bytes_max.is_some_and(|max| partition.bytes > max);
        too_large.then_some(TrimReason::Bytes)
    }

    /// Whether the segment that is written should be sealed, so that its events can go in time: it holds a quarter of
    /// what the partition may hold, or its first event is as old as an event may become.
    ///
    /// A quarter, because segments go whole: what is kept is then never much less than what was asked for.
    pub fn wants_roll(&self, active_bytes: u64, first_timestamp_us: Option<u64>, now_us: u64) -> bool {
        self.bytes_max.is_some_and(|max| active_bytes > max.div_ceil(4))
            || self.is_too_old(first_timestamp_us, now_us)
    }

    fn is_too_old(&self, timestamp_us: Option<u64>, now_us: u64) -> bool {
        let (Some(max_ms), Some(timestamp_us)) = (self.age_max_ms, timestamp_us) else {
            return false;
        };
        now_us.saturating_sub(timestamp_us) > max_ms.saturating_mul(1000)
    }
}

impl AcknowledgedBy {
    /// Everything before this is acknowledged by all whose word counts; nothing is when it is `None`.
    fn acknowledged_end(&self, cursors: &[(String, EventId)]) -> Option<EventId> {
        match self {
            Self::EveryConsumer => cursors.iter().map(|(_, next)| *next).min(),
            Self::Consumers(names) => names
                .iter()
                .map(|name| cursors.iter().find(|(known, _)| known == name))
                .map(|cursor| cursor.map(|(_, next)| *next))
                .min()
                .flatten(),
        }
    }

    /// Whether there is anybody whose word counts.
    fn is_anybody(&self, cursors: &[(String, EventId)]) -> bool {
        match self {
            Self::EveryConsumer => !cursors.is_empty(),
            Self::Consumers(names) => !names.is_empty(),
        }
    }
}

/// What one look at the clocks found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// The time for retention, in Unix microseconds.
    pub now_us: u64,
    /// The wall clock went forward by this much more than time passed. It is not believed yet.
    pub stepped_us: Option<u64>,
}

/// The time by which events grow old.
///
/// It follows the wall clock, since that is what events are stamped with, but not blindly: a wall clock that is set forward
/// by days between two looks must not make all that is stored look old at once. So this clock never runs faster than
/// time really passes, and a quarter of that to catch up. Where the wall clock is ahead by more, it is believed after it
/// went on without another step for [`RetentionClock::BELIEVE_AFTER_US`]: until then somebody can set it right, and
/// nothing is lost. (A second at a look is never called a step.) A wall clock that is behind is followed at once: that only keeps events longer.
///
/// The first look has nothing to compare with, and takes the wall clock as it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct RetentionClock {
    last: Option<Last>,
}

#[derive(Clone, Copy, Debug)]
struct Last {
    now_us: u64,
    wall_us: u64,
    /// How long the wall clock went on without a step forward.
    steady_us: u64,
}

impl RetentionClock {
    /// A wall clock that stepped forward is believed after a day.
    pub const BELIEVE_AFTER_US: u64 = 24 * 3600 * 1_000_000;
    /// What the wall clock may gain between two looks, beside a quarter of the time that passed, without being noted.
    const SLACK_US: u64 = 1_000_000;

    /// Looks at the wall clock, after `elapsed_us` by a clock that nobody sets.
    pub fn look(&mut self, wall_us: u64, elapsed_us: u64) -> Look {
        let Some(last) = &mut self.last else {
            self.last = Some(Last {
                now_us: wall_us,
                wall_us,
                steady_us: Self::BELIEVE_AFTER_US,
            });
            return Look {
                now_us: wall_us,
                stepped_us: None,
            };
        };
        let catch_up_us = elapsed_us.wrapping_div(4);
        let gained_us = wall_us
            .saturating_sub(last.wall_us)
            .saturating_sub(elapsed_us)
            .saturating_sub(catch_up_us);
        let stepped_us = (gained_us > Self::SLACK_US).then_some(gained_us);
        last.steady_us = match stepped_us {
            Some(_) => 0,
            None => last.steady_us.saturating_add(elapsed_us),
        };
        let fastest_us = last.now_us.saturating_add(elapsed_us).saturating_add(catch_up_us);
        last.now_us = if last.steady_us >= Self::BELIEVE_AFTER_US && stepped_us.is_none() {
            wall_us
        } else {
            wall_us.min(fastest_us)
        };
        last.wall_us = wall_us;
        Look {
            now_us: last.now_us,
            stepped_us,
        }
    }

    /// The time that the last look found; 0 before the first: nothing is old then.
    pub fn now_us(&self) -> u64 {
        self.last.map_or(0, |last| last.now_us)
    }
}

#[cfg(test)]
mod tests;
