//! What is counted of a partition, and what it holds now.

use std::rc::Rc;

use mofka_log::Batch;
use mofka_net::control::PartitionState;

use super::{Partition, Store};
use crate::io::Io;
use crate::measures::snapshot::{ConsumerSnapshot, PartitionGauges, PartitionSnapshot};
use crate::measures::{PartitionCounts, PartitionMeasures};

impl<I: Io> Partition<I> {
    /// What is counted of it.
    pub(crate) fn measures(&self) -> &Rc<PartitionMeasures> {
        &self.measures
    }

    /// A copy of that.
    pub(crate) fn counts(&self) -> PartitionCounts {
        self.measures.counts()
    }

    /// A batch gets ids.
    pub(super) fn note_accepted(&self, batch: &Batch) {
        let measures = &self.measures;
        measures.accepted_batches.add(1);
        measures.accepted_events.add(batch.event_count().into());
        measures.accepted_meta_bytes.add(batch.frame_bytes());
        measures.accepted_data_bytes.add(batch.data_bytes());
        if self.is_full.get() {
            self.note_room();
        }
    }

    /// Whether the partition works, and why not.
    pub(crate) fn state(&self) -> (PartitionState, Option<String>) {
        match (self.poison(), self.read_only()) {
            (Some(reason), _) => (PartitionState::Poisoned, Some(reason)),
            (None, Some(reason)) => (PartitionState::ReadOnly, Some(reason)),
            (None, None) => {
                let cursors = self.cursors.poison();
                (
                    PartitionState::Open,
                    cursors.map(|reason| format!("cursors: {reason}")),
                )
            }
        }
    }

    fn gauges(&self) -> PartitionGauges {
        let ends = self.ends();
        let (subscriptions, credits, starved_subscriptions) = self.count_credits();
        let committer = self.store.as_ref().map(Store::committer);
        PartitionGauges {
            events: ends.appended_end.get().saturating_sub(self.trim_end().get()),
            bytes: self.used_bytes(),
            segments: self.segment_count() as u64,
            index_bytes: self.index_bytes(),
            unsynced_events: ends.appended_end.get().saturating_sub(ends.synced_end.get()),
            pending_bytes: committer.map_or(0, |committer| committer.pending_bytes()),
            room_bytes: self.room.as_ref().map_or(0, |room| room.waiting_bytes()),
            commits_in_flight: committer.map_or(0, |committer| committer.in_flight() as u64),
            subscriptions,
            credits,
            starved_subscriptions,
        }
    }

    /// Its consumers, `count_max` at most, and how many more there are.
    fn consumer_snapshots(&self, count_max: usize) -> (Vec<ConsumerSnapshot>, u64) {
        let (mut known, mut left_out) = self.cursors.first(count_max);
        let connected = self.connected_counts();
        for name in connected.keys().filter(|name| self.cursors.get(name).is_none()) {
            if known.len() < count_max {
                known.push((name.clone(), self.trim_end()));
            } else {
                left_out += 1;
            }
        }
        let visible_end = self.visible_end().get();
        let snapshots = known.into_iter().map(|(consumer, next)| ConsumerSnapshot {
            connected: connected.get(&consumer).copied().unwrap_or(0),
            consumer,
            lag: visible_end.saturating_sub(next.get()),
        });
        (snapshots.collect(), left_out as u64)
    }

    /// All of that, as it is now, with `consumers_max` consumers at most.
    pub(crate) fn snapshot(&self, shard: usize, consumers_max: usize) -> PartitionSnapshot {
        let (state, reason) = self.state();
        let (consumers, consumers_left_out) = self.consumer_snapshots(consumers_max);
        PartitionSnapshot {
            shard,
            topic: self.spec.topic.name.clone(),
            index: self.spec.record.index,
            state,
            reason,
            is_full: self.is_full.get(),
            is_complete: self.is_complete(),
            gauges: self.gauges(),
            counts: self.counts(),
            consumers,
            consumers_left_out,
        }
    }
}
