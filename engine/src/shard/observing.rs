//! What a shard tells of itself: its state, its consumers, what it counted.

use std::ops::Bound;
use std::rc::Rc;

use mofka_net::WireError;
use mofka_net::control::{ConsumerInfo, PartitionState, PartitionStatus, ShardStatus};
use uuid::Uuid;

use super::{Peers, Shard, ShardCall, ShardReply};
use crate::io::Io;
use crate::measures::snapshot::{NodeSnapshot, PartitionSnapshot, ShardSnapshot};

/// Partitions that a shard tells of in one go: it does nothing else meanwhile.
const PAGE_PARTITIONS: usize = 128;
/// The same of consumers, of all partitions of a page.
const PAGE_CONSUMERS: usize = 2048;

/// Which part of a snapshot is asked for.
#[derive(Clone, Copy, Debug)]
pub struct SnapshotPage {
    /// What follows this partition; `None`: the first part.
    pub after: Option<Uuid>,
}

/// A part of what a shard counted.
#[derive(Clone, Debug)]
pub struct ShardPage {
    /// The shard itself; in the first part only.
    pub shard: Option<ShardSnapshot>,
    /// Some of its partitions.
    pub partitions: Vec<PartitionSnapshot>,
    /// What to ask for next; `None` when this is the last part.
    pub next: Option<SnapshotPage>,
}

/// Asks every shard of the node for what it counted. Between its parts each shard does what else there is to do.
///
/// # Errors
/// When a shard has stopped.
pub async fn gather<I: Io, P: Peers>(shard: &Rc<Shard<I, P>>) -> Result<NodeSnapshot, WireError> {
    let facts = shard.facts();
    let mut snapshot = NodeSnapshot {
        node: facts.node,
        rank: facts.rank,
        uptime_ms: u64::try_from(facts.started.elapsed().as_millis()).unwrap_or(u64::MAX),
        data_dir: facts.data_dir.clone(),
        direct_io: facts.direct_io,
        topic_count: shard.catalog().topics().count() as u64,
        memory: facts.memory_status(),
        shards: Vec::with_capacity(facts.shards),
        partitions: Vec::new(),
    };
    for number in 0..facts.shards {
        let mut page = Some(SnapshotPage { after: None });
        while let Some(asked) = page {
            let ShardReply::Snapshot(part) = shard.ask(number, ShardCall::Snapshot(asked)).await? else {
                unreachable!("a shard answers what it was asked")
            };
            let ShardPage {
                shard,
                partitions,
                next,
            } = *part;
            snapshot.shards.extend(shard);
            snapshot.partitions.extend(partitions);
            page = next;
            // This shard's own other work has its turn too.
            futures_lite::future::yield_now().await;
        }
    }
    Ok(snapshot)
}

impl<I: Io, P: Peers> Shard<I, P> {
    pub(super) fn snapshot(&self, page: SnapshotPage) -> ShardPage {
        let partitions = self.partitions.borrow();
        let from = page.after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut consumers_left = PAGE_CONSUMERS;
        let mut last = None;
        let mut snapshots = Vec::new();
        for (id, partition) in partitions.range((from, Bound::Unbounded)).take(PAGE_PARTITIONS) {
            let snapshot = partition.snapshot(self.number(), consumers_left);
            consumers_left -= snapshot.consumers.len();
            snapshots.push(snapshot);
            last = Some(*id);
        }
        if page.after.is_none() {
            let broken = self.broken.borrow();
            snapshots.extend(
                broken
                    .iter()
                    .filter_map(|(id, reason)| self.broken_snapshot(*id, reason)),
            );
        }
        let is_more = last.is_some_and(|last| {
            let rest = (Bound::Excluded(last), Bound::Unbounded);
            partitions.range::<Uuid, _>(rest).next().is_some()
        });
        ShardPage {
            shard: page.after.is_none().then(|| self.own_snapshot()),
            partitions: snapshots,
            next: is_more.then_some(SnapshotPage { after: last }),
        }
    }

    fn own_snapshot(&self) -> ShardSnapshot {
        let mut snapshot = ShardSnapshot {
            shard: self.number(),
            reads: self.memory.status(),
            rings: self.rings.status(),
            counts: self.measures.counts(),
            gone: self.gone.borrow().clone(),
            ..ShardSnapshot::default()
        };
        for session in self.sessions.borrow().iter().filter_map(std::rc::Weak::upgrade) {
            let (unanswered_bytes, outbox_bytes) = session.waiting_bytes();
            snapshot.connection_count += 1;
            snapshot.unanswered_bytes += unanswered_bytes;
            snapshot.outbox_bytes += outbox_bytes;
        }
        snapshot
    }

    fn broken_snapshot(&self, id: Uuid, reason: &str) -> Option<PartitionSnapshot> {
        let catalog = self.catalog();
        let record = catalog.partition(id)?;
        let topic = catalog.topic_by_id(record.topic)?;
        Some(PartitionSnapshot {
            shard: self.number(),
            topic: topic.name.clone(),
            index: record.index,
            state: PartitionState::Broken,
            reason: Some(reason.to_owned()),
            is_full: false,
            is_complete: record.complete,
            gauges: Default::default(),
            counts: Default::default(),
            consumers: Vec::new(),
            consumers_left_out: 0,
        })
    }

    pub(super) fn status(&self) -> ShardStatus {
        let partitions = self.partitions.borrow();
        let mut statuses: Vec<PartitionStatus> = partitions
            .values()
            .map(|partition| crate::control::partition_status(self, partition))
            .collect();
        for (id, reason) in self.broken.borrow().iter() {
            if let Some(status) = crate::control::broken_status(self, *id, reason) {
                statuses.push(status);
            }
        }
        let sessions = self
            .sessions
            .borrow()
            .iter()
            .filter(|session| session.strong_count() > 0)
            .count();
        ShardStatus {
            shard: u32::try_from(self.number()).unwrap_or(u32::MAX),
            addresses: self.facts().addresses_of(self.number()),
            connections: sessions as u64,
            partitions: statuses,
            reads: self.memory.status(),
            rings: self.rings.status(),
        }
    }

    pub(super) fn consumers(&self, ids: &[Uuid]) -> Vec<ConsumerInfo> {
        let partitions = self.partitions.borrow();
        let mut found = Vec::new();
        for partition in ids.iter().filter_map(|id| partitions.get(id)) {
            let mut known = partition.cursors().all();
            let connected = partition.connected_counts();
            for name in connected.keys().filter(|name| partition.cursor(name).is_none()) {
                known.push((name.clone(), partition.trim_end()));
            }
            for (consumer, next) in known {
                let count = connected.get(&consumer).copied().unwrap_or(0);
                found.push(ConsumerInfo {
                    connected: u32::try_from(count).unwrap_or(u32::MAX),
                    consumer,
                    partition: partition.spec().record.id,
                    index: partition.spec().record.index,
                    next_event_id: next.get(),
                    lag: partition.visible_end().get().saturating_sub(next.get()),
                });
            }
        }
        found
    }
}
