//! What is told of a node: two of its reports, and what happened between them.

use mofka_net::control::{
    ConsumerReport, DiskReport, Durations, NodeReport, PartitionReport, Problem, ShardReport, TopicReport,
    Totals,
};
use serde::Serialize;

/// A node over an interval. With `--json` it is printed as it is; `ctl/schemas/top.json` says what each field means.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figures {
    pub(crate) node: String,
    pub(crate) version: String,
    pub(crate) rank: u32,
    pub(crate) pid: u32,
    pub(crate) uptime_ms: u64,
    pub(crate) data_dir: String,
    pub(crate) direct_io: bool,
    /// Between the two reports. 0: there is only one, and all rates are 0.
    pub(crate) interval_ms: u64,
    pub(crate) problems: Vec<Problem>,
    pub(crate) problems_left_out: u64,
    pub(crate) disk: Option<DiskReport>,
    pub(crate) process: ProcessFigures,
    pub(crate) totals: Rates,
    pub(crate) topics: Vec<TopicFigures>,
    pub(crate) topics_left_out: u64,
    pub(crate) partitions: Vec<PartitionFigures>,
    pub(crate) partitions_left_out: u64,
    pub(crate) consumers: Vec<ConsumerFigures>,
    pub(crate) consumers_left_out: u64,
    pub(crate) shards: Vec<ShardFigures>,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct ProcessFigures {
    pub(crate) cpu_percent: f64,
    pub(crate) resident_bytes: u64,
    pub(crate) open_fds: u64,
    pub(crate) max_fds: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Rates {
    pub(crate) accepted_events_per_s: f64,
    pub(crate) accepted_bytes_per_s: f64,
    pub(crate) accepted_batches_per_s: f64,
    pub(crate) refused_batches_per_s: f64,
    pub(crate) fed_events_per_s: f64,
    pub(crate) sent_bytes_per_s: f64,
    pub(crate) produce: Latency,
    pub(crate) commit: Latency,
    pub(crate) fetch: Latency,
}

/// How long things took. A percentile is as exact as the node's buckets; the bound of the last one stands for all that took longer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Latency {
    pub(crate) count: u64,
    pub(crate) p50_us: Option<u64>,
    pub(crate) p90_us: Option<u64>,
    pub(crate) p99_us: Option<u64>,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct TopicFigures {
    pub(crate) topic: String,
    pub(crate) partitions: u64,
    pub(crate) unwell: u64,
    pub(crate) events: u64,
    pub(crate) bytes: u64,
    pub(crate) lag: Option<u64>,
    pub(crate) rates: Rates,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct PartitionFigures {
    pub(crate) topic: String,
    pub(crate) partition: u32,
    pub(crate) shard: u64,
    pub(crate) state: String,
    pub(crate) reason: Option<String>,
    pub(crate) events: u64,
    pub(crate) bytes: u64,
    pub(crate) accepted_events_per_s: f64,
    pub(crate) accepted_bytes_per_s: f64,
    pub(crate) unsynced_events: u64,
    pub(crate) waiting_bytes: u64,
    pub(crate) subscriptions: u64,
    pub(crate) starved_subscriptions: u64,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct ConsumerFigures {
    pub(crate) consumer: String,
    pub(crate) topic: String,
    pub(crate) partitions: u64,
    pub(crate) subscriptions: u64,
    pub(crate) lag: u64,
    pub(crate) lag_change_per_s: f64,
    /// When it has caught up if it goes on like this; absent when it does not.
    pub(crate) caught_up_s: Option<f64>,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct ShardFigures {
    pub(crate) shard: u64,
    pub(crate) partitions: u64,
    pub(crate) connections: u64,
    pub(crate) rings: u64,
    pub(crate) requests_per_s: f64,
    pub(crate) errors_per_s: f64,
    pub(crate) unanswered_bytes: u64,
    pub(crate) outbox_bytes: u64,
    pub(crate) memory_reads_per_s: f64,
    pub(crate) device_reads_per_s: f64,
    pub(crate) rates: Rates,
}

/// What two reports are compared with.
struct Between<'a> {
    bounds_us: &'a [u64],
    /// 0: there is no earlier report.
    seconds: f64,
}

impl Between<'_> {
    /// Of a counter: so much a second, to three digits after the point. One that went back began anew.
    fn rate(&self, now: u64, before: Option<u64>) -> f64 {
        match before {
            Some(before) if self.seconds > 0.0 => rounded(now.saturating_sub(before) as f64 / self.seconds),
            _ => 0.0,
        }
    }

    fn latency(&self, now: &Durations, before: Option<&Durations>) -> Latency {
        let Some(before) = before.filter(|_| self.seconds > 0.0) else {
            return Latency::default();
        };
        let old = before.buckets.iter().copied().chain(std::iter::repeat(0));
        let counts: Vec<u64> = now
            .buckets
            .iter()
            .zip(old)
            .map(|(now, before)| now.saturating_sub(before))
            .collect();
        Latency {
            count: counts.iter().sum(),
            p50_us: percentile(&counts, self.bounds_us, 50),
            p90_us: percentile(&counts, self.bounds_us, 90),
            p99_us: percentile(&counts, self.bounds_us, 99),
        }
    }

    fn rates(&self, now: &Totals, before: Option<&Totals>) -> Rates {
        let rate = |of: fn(&Totals) -> u64| self.rate(of(now), before.map(of));
        let latency = |of: fn(&Totals) -> &Durations| self.latency(of(now), before.map(of));
        Rates {
            accepted_events_per_s: rate(|t| t.accepted_events),
            accepted_bytes_per_s: rate(|t| t.accepted_bytes),
            accepted_batches_per_s: rate(|t| t.accepted_batches),
            refused_batches_per_s: rate(|t| t.refused_batches),
            fed_events_per_s: rate(|t| t.fed_events),
            sent_bytes_per_s: rate(|t| t.sent_bytes),
            produce: latency(|t| &t.produce),
            commit: latency(|t| &t.commit),
            fetch: latency(|t| &t.fetch),
        }
    }

    fn topic(&self, now: &TopicReport, before: &[TopicReport]) -> TopicFigures {
        let before = before.iter().find(|other| other.topic == now.topic);
        TopicFigures {
            topic: now.topic.clone(),
            partitions: now.partitions,
            unwell: now.unwell,
            events: now.events,
            bytes: now.bytes,
            lag: now.lag,
            rates: self.rates(&now.totals, before.map(|topic| &topic.totals)),
        }
    }

    fn partition(&self, now: &PartitionReport, before: &[PartitionReport]) -> PartitionFigures {
        let before = before
            .iter()
            .find(|other| (&other.topic, other.partition) == (&now.topic, now.partition));
        PartitionFigures {
            topic: now.topic.clone(),
            partition: now.partition,
            shard: now.shard,
            state: now.state.clone(),
            reason: now.reason.clone(),
            events: now.events,
            bytes: now.bytes,
            accepted_events_per_s: self.rate(now.accepted_events, before.map(|p| p.accepted_events)),
            accepted_bytes_per_s: self.rate(now.accepted_bytes, before.map(|p| p.accepted_bytes)),
            unsynced_events: now.unsynced_events,
            waiting_bytes: now.waiting_bytes,
            subscriptions: now.subscriptions,
            starved_subscriptions: now.starved_subscriptions,
        }
    }

    fn consumer(&self, now: &ConsumerReport, before: &[ConsumerReport]) -> ConsumerFigures {
        let before = before
            .iter()
            .find(|other| (&other.topic, &other.consumer) == (&now.topic, &now.consumer));
        let change = match before {
            Some(before) if self.seconds > 0.0 => {
                rounded((now.lag as f64 - before.lag as f64) / self.seconds)
            }
            _ => 0.0,
        };
        ConsumerFigures {
            consumer: now.consumer.clone(),
            topic: now.topic.clone(),
            partitions: now.partitions,
            subscriptions: now.subscriptions,
            lag: now.lag,
            lag_change_per_s: change,
            caught_up_s: (change < 0.0).then(|| rounded(now.lag as f64 / -change)),
        }
    }

    fn shard(&self, now: &ShardReport, before: &[ShardReport]) -> ShardFigures {
        let before = before.iter().find(|other| other.shard == now.shard);
        let rate = |of: fn(&ShardReport) -> u64| self.rate(of(now), before.map(of));
        ShardFigures {
            shard: now.shard,
            partitions: now.partitions,
            connections: now.connections,
            rings: now.rings,
            requests_per_s: rate(|s| s.requests),
            errors_per_s: rate(|s| s.errors),
            unanswered_bytes: now.unanswered_bytes,
            outbox_bytes: now.outbox_bytes,
            memory_reads_per_s: rate(|s| s.memory_reads),
            device_reads_per_s: rate(|s| s.device_reads),
            rates: self.rates(&now.totals, before.map(|shard| &shard.totals)),
        }
    }
}

/// Three digits after the point are enough for everybody.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// Where so many of a hundred are below: in its bucket, as if all of the bucket were spread evenly over it.
fn percentile(counts: &[u64], bounds_us: &[u64], percent: u64) -> Option<u64> {
    let all: u64 = counts.iter().sum();
    if all == 0 {
        return None;
    }
    let wanted = (u128::from(all) * u128::from(percent)).div_ceil(100);
    let mut below = 0_u128;
    let mut lower_us = 0;
    for (place, count) in counts.iter().enumerate() {
        let Some(upper_us) = bounds_us.get(place) else {
            break;
        };
        let count = u128::from(*count);
        if count > 0 && below + count >= wanted {
            let part = u128::from(upper_us - lower_us) * (wanted - below) / count;
            return Some(lower_us + u64::try_from(part).unwrap_or(0));
        }
        below += count;
        lower_us = *upper_us;
    }
    bounds_us.last().copied()
}

impl Figures {
    /// What happened from one report to the next. A node that was started anew in between counts from 0 again, and is as one that
    /// is seen for the first time.
    pub(crate) fn new(now: &NodeReport, before: Option<&NodeReport>) -> Self {
        let same = |before: &&NodeReport| {
            (&before.node, before.pid) == (&now.node, now.pid) && before.uptime_ms < now.uptime_ms
        };
        let before = before.filter(same);
        let interval_ms = before.map_or(0, |before| now.uptime_ms - before.uptime_ms);
        let between = Between {
            bounds_us: &now.bucket_bounds_us,
            seconds: interval_ms as f64 / 1000.0,
        };
        let topics = before.map_or(&[][..], |before| &before.topics);
        let partitions = before.map_or(&[][..], |before| &before.partitions);
        let consumers = before.map_or(&[][..], |before| &before.consumers);
        let shards = before.map_or(&[][..], |before| &before.shards);
        let cpu_s = between.rate(now.process.cpu_us, before.map(|before| before.process.cpu_us)) / 1e6;
        Self {
            node: now.node.clone(),
            version: now.version.clone(),
            rank: now.rank,
            pid: now.pid,
            uptime_ms: now.uptime_ms,
            data_dir: now.data_dir.clone(),
            direct_io: now.direct_io,
            interval_ms,
            problems: now.problems.clone(),
            problems_left_out: now.problems_left_out,
            disk: now.disk,
            process: ProcessFigures {
                cpu_percent: rounded(cpu_s * 100.0),
                resident_bytes: now.process.resident_bytes,
                open_fds: now.process.open_fds,
                max_fds: now.process.max_fds,
            },
            totals: between.rates(&now.totals, before.map(|before| &before.totals)),
            topics: now.topics.iter().map(|t| between.topic(t, topics)).collect(),
            topics_left_out: now.topics_left_out,
            partitions: now
                .partitions
                .iter()
                .map(|p| between.partition(p, partitions))
                .collect(),
            partitions_left_out: now.partitions_left_out,
            consumers: now
                .consumers
                .iter()
                .map(|c| between.consumer(c, consumers))
                .collect(),
            consumers_left_out: now.consumers_left_out,
            shards: now.shards.iter().map(|s| between.shard(s, shards)).collect(),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
