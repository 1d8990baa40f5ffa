//! How much detail is told: each series costs whoever collects them memory, so that their number is bounded.

use std::collections::{BTreeMap, BTreeSet};

use mofka_net::control::PartitionState;

use crate::measures::PartitionCounts;
use crate::measures::snapshot::{NodeSnapshot, PartitionGauges, PartitionSnapshot};

/// What stands in a label when all of something are summed.
pub const ALL: &str = "*";

/// Of this many topics with series of their own, one may have histograms of its own.
const HISTOGRAM_PART: usize = 5;

/// How far things are summed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Not at all.
    Partition,
    /// All partitions that a topic has on one shard.
    Topic,
    /// All partitions of a shard, with those that were deleted: so that what is counted never goes back.
    Shard,
}

impl Level {
    /// The finest one with at most `max` of something.
    fn of(partitions: usize, topics: usize, max: usize) -> Self {
        match (partitions <= max, topics <= max) {
            (true, _) => Self::Partition,
            (false, true) => Self::Topic,
            (false, false) => Self::Shard,
        }
    }
}

/// One series of each metric of partitions.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The shard.
    pub shard: String,
    /// The topic, or [`ALL`].
    pub topic: String,
    /// The partition, or [`ALL`].
    pub partition: String,
    /// How many of the partitions do not take events: by fault, not because they are complete.
    pub unwell: u64,
    /// How many of them are full.
    pub full: u64,
    /// What they hold.
    pub gauges: PartitionGauges,
    /// What was counted of them.
    pub counts: PartitionCounts,
}

/// What is told of partitions.
#[derive(Clone, Debug)]
pub struct Detail {
    /// How far counts and gauges are summed.
    pub level: Level,
    /// Their rows.
    pub rows: Vec<Row>,
    /// How far durations are summed: over a topic's partitions on a shard at least.
    pub histogram_level: Level,
    /// Their rows.
    pub histograms: Vec<Row>,
}

impl Detail {
    /// What is told when `partition_max` series of a metric may be there.
    pub fn new(snapshot: &NodeSnapshot, partition_max: usize) -> Self {
        let topics: BTreeSet<(usize, &str)> = snapshot
            .partitions
            .iter()
            .map(|p| (p.shard, p.topic.as_str()))
            .collect();
        let level = Level::of(snapshot.partitions.len(), topics.len(), partition_max);
        let histogram_max = partition_max.div_ceil(HISTOGRAM_PART);
        let histogram_level = Level::of(usize::MAX, topics.len(), histogram_max);
        Self {
            level,
            rows: rows(snapshot, level),
            histogram_level,
            histograms: rows(snapshot, histogram_level),
        }
    }
}

fn rows(snapshot: &NodeSnapshot, level: Level) -> Vec<Row> {
    let mut rows: BTreeMap<(usize, &str, Option<u32>), Row> = BTreeMap::new();
    if level == Level::Shard {
        for shard in &snapshot.shards {
            let row = rows
                .entry((shard.shard, ALL, None))
                .or_insert_with(|| empty(shard.shard, ALL, None));
            row.counts.add(&shard.gone);
        }
    }
    for partition in &snapshot.partitions {
        let key = match level {
            Level::Partition => (partition.shard, partition.topic.as_str(), Some(partition.index)),
            Level::Topic => (partition.shard, partition.topic.as_str(), None),
            Level::Shard => (partition.shard, ALL, None),
        };
        let row = rows.entry(key).or_insert_with(|| empty(key.0, key.1, key.2));
        row.unwell += u64::from(partition.state != PartitionState::Open);
        row.full += u64::from(partition.is_full);
        row.gauges.add(&partition.gauges);
        row.counts.add(&partition.counts);
    }
    rows.into_values().collect()
}

fn empty(shard: usize, topic: &str, partition: Option<u32>) -> Row {
    Row {
        shard: shard.to_string(),
        topic: topic.to_owned(),
        partition: partition.map_or_else(|| ALL.to_owned(), |index| index.to_string()),
        unwell: 0,
        full: 0,
        gauges: PartitionGauges::default(),
        counts: PartitionCounts::default(),
    }
}

/// A consumer of a partition, or of all partitions of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerRow {
    /// The topic.
    pub topic: String,
    /// The partition, or [`ALL`].
    pub partition: String,
    /// The consumer's name.
    pub consumer: String,
    /// Visible events that it has not acknowledged.
    pub lag: u64,
    /// Its subscriptions now.
    pub connected: u64,
    /// Partitions that are summed.
    pub partitions: u64,
}

/// What is told of consumers.
#[derive(Clone, Debug)]
pub struct Consumers {
    /// Their rows.
    pub rows: Vec<ConsumerRow>,
    /// Whether each row stands for all partitions of a topic.
    pub is_summed: bool,
    /// Consumers of partitions that no row tells of.
    pub left_out: u64,
}

impl Consumers {
    /// What is told when `max` series may be there.
    pub fn new(snapshot: &NodeSnapshot, max: usize) -> Self {
        let known: usize = snapshot.partitions.iter().map(|p| p.consumers.len()).sum();
        let is_summed = known > max;
        let mut rows = match is_summed {
            false => snapshot.partitions.iter().flat_map(of_partition).collect(),
            true => by_topic(snapshot),
        };
        rows.sort_by(|a, b| {
            (&a.topic, &a.partition, &a.consumer).cmp(&(&b.topic, &b.partition, &b.consumer))
        });
        let mut left_out = snapshot.partitions.iter().map(|p| p.consumers_left_out).sum();
        if rows.len() > max {
            // Stable: of those that lag the same, the first names stay.
            rows.sort_by_key(|row| std::cmp::Reverse(row.lag));
            left_out += rows.drain(max..).map(|row| row.partitions).sum::<u64>();
        }
        Self {
            rows,
            is_summed,
            left_out,
        }
    }
}

fn of_partition(partition: &PartitionSnapshot) -> impl Iterator<Item = ConsumerRow> {
    partition.consumers.iter().map(|consumer| ConsumerRow {
        topic: partition.topic.clone(),
        partition: partition.index.to_string(),
        consumer: consumer.consumer.clone(),
        lag: consumer.lag,
        connected: consumer.connected,
        partitions: 1,
    })
}

/// Each consumer of each topic, over all partitions.
pub fn by_topic(snapshot: &NodeSnapshot) -> Vec<ConsumerRow> {
    let mut rows: BTreeMap<(&str, &str), ConsumerRow> = BTreeMap::new();
    for partition in &snapshot.partitions {
        for consumer in &partition.consumers {
            let row = rows
                .entry((&partition.topic, &consumer.consumer))
                .or_insert_with(|| ConsumerRow {
                    topic: partition.topic.clone(),
                    partition: ALL.to_owned(),
                    consumer: consumer.consumer.clone(),
                    lag: 0,
                    connected: 0,
                    partitions: 0,
                });
            row.lag = row.lag.saturating_add(consumer.lag);
            row.connected += consumer.connected;
            row.partitions += 1;
        }
    }
    rows.into_values().collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::measures::snapshot::{ConsumerSnapshot, ShardSnapshot};

    /// A node with so many topics of so many partitions each, over two shards, with two consumers each.
    pub(in crate::monitor) fn node(topics: usize, partitions: u32) -> NodeSnapshot {
        let mut snapshot = NodeSnapshot::default();
        snapshot.memory.max_bytes = Some(1 << 30);
        for shard in 0..2 {
            let gone = PartitionCounts {
                accepted_events: 1000,
                ..PartitionCounts::default()
            };
            snapshot.shards.push(ShardSnapshot {
                shard,
                gone,
                ..ShardSnapshot::default()
            });
        }
        for topic in 0..topics {
            for index in 0..partitions {
                let mut counts = PartitionCounts {
                    accepted_events: 10,
                    ..PartitionCounts::default()
                };
                counts.produce.buckets[1] = 2;
                let consumer = |name: &str, lag| ConsumerSnapshot {
                    consumer: name.to_owned(),
                    lag,
                    connected: 1,
                };
                snapshot.partitions.push(PartitionSnapshot {
                    shard: index as usize % 2,
                    topic: format!("t{topic}"),
                    index,
                    state: PartitionState::Open,
                    reason: None,
                    is_full: false,
                    is_complete: false,
                    gauges: PartitionGauges {
                        events: 3,
                        ..PartitionGauges::default()
                    },
                    counts,
                    consumers: vec![consumer("a", 5), consumer("b", topic as u64)],
                    consumers_left_out: 0,
                });
            }
        }
        snapshot
    }

    #[test]
    fn a_small_node_is_told_in_full() {
        let detail = Detail::new(&node(2, 3), 100);
        assert_eq!((detail.level, detail.rows.len()), (Level::Partition, 6));
        assert_eq!(
            (detail.histogram_level, detail.histograms.len()),
            (Level::Topic, 4)
        );
        let row = &detail.rows[1];
        assert_eq!(
            (row.shard.as_str(), row.topic.as_str(), row.partition.as_str()),
            ("0", "t0", "2")
        );
        assert_eq!((row.counts.accepted_events, row.gauges.events), (10, 3));
    }

    #[test]
    fn ten_thousand_partitions_are_summed_and_nothing_is_lost() {
        let sum = |rows: &[Row]| rows.iter().map(|row| row.counts.accepted_events).sum::<u64>();
        let few_topics = Detail::new(&node(5, 2000), 1000);
        assert_eq!((few_topics.level, few_topics.rows.len()), (Level::Topic, 10));
        assert_eq!(sum(&few_topics.rows), 100_000);
        assert!(
            few_topics
                .rows
                .iter()
                .all(|row| row.partition == ALL && row.gauges.events == 3000)
        );
        let many_topics = Detail::new(&node(5000, 2), 1000);
        assert_eq!((many_topics.level, many_topics.rows.len()), (Level::Shard, 2));
        assert_eq!(sum(&many_topics.rows), 102_000, "with what was deleted");
        assert_eq!(many_topics.histograms.len(), 2);
        let some_topics = Detail::new(&node(300, 1), 1000);
        assert_eq!(
            (some_topics.level, some_topics.histogram_level),
            (Level::Partition, Level::Shard)
        );
    }

    #[test]
    fn consumers_are_summed_then_the_worst_are_told() {
        let snapshot = node(4, 3);
        let all = Consumers::new(&snapshot, 24);
        assert_eq!((all.rows.len(), all.is_summed, all.left_out), (24, false, 0));
        let summed = Consumers::new(&snapshot, 8);
        assert_eq!(
            (summed.rows.len(), summed.is_summed, summed.left_out),
            (8, true, 0)
        );
        let row = &summed.rows[0];
        assert_eq!((row.partition.as_str(), row.lag, row.connected), (ALL, 15, 3));
        let worst = Consumers::new(&snapshot, 5);
        assert_eq!((worst.rows.len(), worst.left_out), (5, 9));
        assert!(worst.rows.iter().all(|row| row.lag >= 9), "{worst:?}");
    }
}
