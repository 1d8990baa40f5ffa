//! The batches that were accepted last, in memory: what tail readers and their data requests are fed from.

use std::collections::VecDeque;
use std::rc::Rc;

use mofka_log::{Batch, EventId};

use super::Partition;
use super::memory::{Holder, ShardMemory};
use crate::io::Io;

/// Batches in the order of their ids, without gaps. Within the shard's budget for log partitions; a memory partition's
/// whole content.
pub(crate) struct Recent {
    held: VecDeque<Held>,
    bytes: u64,
    budget: Budget,
}

/// What the memory is counted in.
enum Budget {
    /// The shard's, for log partitions.
    Recent(Rc<ShardMemory>),
    /// The node's, for memory partitions. It is taken before a batch enters, so that one without room is refused.
    Node(Rc<ShardMemory>),
}

struct Held {
    batch: Batch,
    /// The latest time of this batch and of those before it, also of some that are gone: clocks go back.
    latest_us: u64,
}

impl Drop for Recent {
    fn drop(&mut self) {
        self.note_less(self.bytes);
    }
}

impl Recent {
    /// Empty, taking from the shard's budget.
    pub(crate) fn within(memory: &Rc<ShardMemory>) -> Self {
        Self::counted_in(Budget::Recent(Rc::clone(memory)))
    }

    /// Empty. What enters was taken from the node's memory ([`ShardMemory::take_of_node`], [`cost_bytes`]), and goes back there
    /// when it leaves.
    pub(crate) fn of_memory_partition(memory: &Rc<ShardMemory>) -> Self {
        Self::counted_in(Budget::Node(Rc::clone(memory)))
    }

    fn counted_in(budget: Budget) -> Self {
        Self {
            held: VecDeque::new(),
            bytes: 0,
            budget,
        }
    }

    fn note_less(&self, bytes: u64) {
        match &self.budget {
            Budget::Recent(memory) => memory.sub(bytes),
            Budget::Node(memory) => memory.give_back_to_node(bytes),
        }
    }

    /// Bytes of memory that the batches take.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The first id in memory, if there is any.
    pub(crate) fn first_event_id(&self) -> Option<EventId> {
        self.held.front().map(|held| held.batch.base_event_id())
    }

    pub(crate) fn push(&mut self, batch: Batch) {
        let mut latest_us = batch.timestamp_us();
        if let Some(last) = self.held.back() {
            assert_eq!(
                last.batch.end_event_id(),
                batch.base_event_id(),
                "batches enter in order, without gaps"
            );
            latest_us = latest_us.max(last.latest_us);
        }
        let cost = cost_bytes(&batch);
        self.bytes += cost;
        if let Budget::Recent(memory) = &self.budget {
            memory.add(cost);
        }
        self.held.push_back(Held { batch, latest_us });
    }

    /// Drops the oldest until at most `bytes_max` are held, but nothing at or after `keep_from`: what is not on the
    /// device yet can only be read here.
    pub(crate) fn evict(&mut self, bytes_max: u64, keep_from: EventId) {
        let freed_bytes = self.drop_oldest(bytes_max, keep_from);
        self.note_less(freed_bytes);
    }

    /// The same, and says how much went: it still counts.
    fn drop_oldest(&mut self, bytes_max: u64, keep_from: EventId) -> u64 {
        let before = self.bytes;
        while self.bytes > bytes_max {
            match self.held.front() {
                Some(Held { batch, .. }) if batch.end_event_id() <= keep_from => {
                    self.bytes -= cost_bytes(batch);
                    self.held.pop_front();
                }
                _ => break,
            }
        }
        before - self.bytes
    }

    /// What the batches take whose events are all before `end`.
    pub(crate) fn cost_before(&self, end: EventId) -> u64 {
        let before = self.costs().take_while(|(batch, _)| batch.end_event_id() <= end);
        before.map(|(_, cost)| cost).sum()
    }

    /// Drops them, when their room was taken for something else already ([`ShardMemory::exchange_of_node`]).
    pub(crate) fn drop_exchanged(&mut self, end: EventId) {
        self.drop_oldest(0, end);
    }

    /// The batches, the oldest first, and what each of them takes.
    pub(crate) fn costs(&self) -> impl Iterator<Item = (&Batch, u64)> {
        self.held
            .iter()
            .map(|held| (&held.batch, cost_bytes(&held.batch)))
    }

    /// Drops the batches whose events are all before `end`.
    pub(crate) fn drop_before(&mut self, end: EventId) {
        self.evict(0, end);
    }

    /// The first event of the batch that holds `id`; `id` itself when it is not in memory.
    pub(crate) fn base_of(&self, id: EventId) -> EventId {
        self.from(id).next().map_or(id, Batch::base_event_id)
    }

    /// The first event of the first batch that was accepted at this time or later. Found by halves; gone through one by one is only what
    /// was accepted while the clock stood before a time that it had shown already.
    pub(crate) fn first_at(&self, timestamp_us: u64) -> Option<EventId> {
        let start = self.held.partition_point(|held| held.latest_us < timestamp_us);
        self.held
            .range(start..)
            .find(|held| held.batch.timestamp_us() >= timestamp_us)
            .map(|held| held.batch.base_event_id())
    }

    /// The batches from the one that holds `id` on; nothing when `id` is not in memory.
    pub(crate) fn from(&self, id: EventId) -> impl Iterator<Item = &Batch> {
        let start = match self.first_event_id() {
            Some(first) if first <= id => self.held.partition_point(|held| held.batch.end_event_id() <= id),
            _ => self.held.len(),
        };
        self.held.range(start..).map(|held| &held.batch)
    }
}

impl<I: Io> Holder for Partition<I> {
    fn held_bytes(&self) -> u64 {
        self.recent.borrow().bytes()
    }

    fn release(&self, bytes_max: u64) {
        let written_end = self.ends().written_end;
        self.recent.borrow_mut().evict(bytes_max, written_end);
    }
}

/// What a batch takes: its bytes, and what holds them. Small bodies do not share a
/// receive buffer, see `session.rs`.
pub(super) fn cost_bytes(batch: &Batch) -> u64 {
    let data_bytes = batch.data().map_or(0, |data| data.len() as u64);
    size_of::<Held>() as u64 + batch.frame_bytes() + data_bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::EngineLimits;
    use bytes::Bytes;
    use mofka_log::{BatchBuilder, Stamp};

    fn batch(base: u64, events: u32) -> Batch {
        batch_at(base, events, 0)
    }

    fn batch_at(base: u64, events: u32, timestamp_us: u64) -> Batch {
        let mut builder = BatchBuilder::new();
        for _ in 0..events {
            builder.push(b"{}", [&b"0123456789"[..]]).unwrap();
        }
        let (frame, data): (Bytes, Bytes) = builder.finish(None);
        let mut batch = Batch::check_client(frame, data).unwrap();
        batch.stamp(Stamp {
            base_event_id: EventId::new(base),
            timestamp_us,
            ..Stamp::default()
        });
        batch
    }

    #[test]
    fn finds_the_batch_that_holds_an_id() {
        let mut recent = Recent::within(&ShardMemory::new(&EngineLimits::default()));
        recent.push(batch(10, 5));
        recent.push(batch(15, 1));
        recent.push(batch(16, 4));
        let bases = |id: u64| -> Vec<u64> {
            recent
                .from(EventId::new(id))
                .map(|batch| batch.base_event_id().get())
                .collect()
        };
        assert_eq!(
            bases(9),
            Vec::<u64>::new(),
            "before what is held: the disk has it"
        );
        assert_eq!(bases(10), [10, 15, 16]);
        assert_eq!(bases(14), [10, 15, 16]);
        assert_eq!(bases(15), [15, 16]);
        assert_eq!(bases(19), [16]);
        assert_eq!(bases(20), Vec::<u64>::new());
    }

    #[test]
    fn evicts_the_oldest_but_never_what_is_not_written() {
        let mut recent = Recent::within(&ShardMemory::new(&EngineLimits::default()));
        for base in 0..4 {
            recent.push(batch(base, 1));
        }
        let each = recent.bytes() / 4;
        recent.evict(2 * each, EventId::new(1));
        assert_eq!(
            recent.first_event_id(),
            Some(EventId::new(1)),
            "1 is not written yet, so only 0 goes"
        );
        recent.evict(2 * each, EventId::new(4));
        assert_eq!(recent.first_event_id(), Some(EventId::new(2)));
        assert_eq!(recent.bytes(), 2 * each);
    }

    /// A clock that goes on, and jumps back now and then.
    fn times(count: u64) -> Vec<u64> {
        let mut now = 1000;
        let tick = |n: u64| {
            now = match n % 17 {
                16 => now - 40,
                step => now + step % 3 * 5,
            };
            now
        };
        (0..count).map(tick).collect()
    }

    #[test]
    fn the_place_of_a_time_is_the_first_batch_that_is_not_before_it() {
        let times = times(200);
        let mut recent = Recent::within(&ShardMemory::new(&EngineLimits::default()));
        for (base, time) in (0..).zip(&times) {
            recent.push(batch_at(base, 1, *time));
        }
        // Those with the latest times go, too.
        for gone in 0..=times.len() {
            recent.drop_before(EventId::new(gone as u64));
            for wanted in (950..1600).step_by(7) {
                let expected = (0..).zip(&times).skip(gone).find(|(_, time)| **time >= wanted);
                let expected = expected.map(|(base, _)| EventId::new(base));
                assert_eq!(recent.first_at(wanted), expected, "{wanted} after {gone}");
            }
        }
    }
}
