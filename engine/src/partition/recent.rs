//! The batches that were accepted last, in memory: what tail readers and their data requests are fed from.

use std::collections::VecDeque;
use std::rc::Rc;

use mofka_log::{Batch, EventId};

use super::Partition;
use super::memory::{Holder, ShardMemory};
use crate::io::Io;

/// Batches in the order of their ids, without gaps. Within the shard's budget for log partitions; a memory partition's
/// whole content.
#[derive(Default)]
pub(crate) struct Recent {
    batches: VecDeque<Batch>,
    bytes: u64,
    /// Whose budget it takes from, if any.
    memory: Option<Rc<ShardMemory>>,
}

impl Drop for Recent {
    fn drop(&mut self) {
        self.note_less(self.bytes);
    }
}

impl Recent {
    /// Empty, taking from a budget.
    pub(crate) fn within(memory: &Rc<ShardMemory>) -> Self {
        Self {
            batches: VecDeque::new(),
            bytes: 0,
            memory: Some(Rc::clone(memory)),
        }
    }

    fn note_less(&self, bytes: u64) {
        if let Some(memory) = &self.memory {
            memory.sub(bytes);
        }
    }

    /// Bytes of memory that the batches take.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The first id in memory, if there is any.
    pub(crate) fn first_event_id(&self) -> Option<EventId> {
        self.batches.front().map(Batch::base_event_id)
    }

    pub(crate) fn push(&mut self, batch: Batch) {
        if let Some(last) = self.batches.back() {
            assert_eq!(
                last.end_event_id(),
                batch.base_event_id(),
                "batches enter in order, without gaps"
            );
        }
        let cost = cost_bytes(&batch);
        self.bytes += cost;
        if let Some(memory) = &self.memory {
            memory.add(cost);
        }
        self.batches.push_back(batch);
    }

    /// Drops the oldest until at most `bytes_max` are held, but nothing at or after `keep_from`: what is not on the
    /// device yet can only be read here.
    pub(crate) fn evict(&mut self, bytes_max: u64, keep_from: EventId) {
        while self.bytes > bytes_max {
            match self.batches.front() {
                Some(batch) if batch.end_event_id() <= keep_from => {
                    let cost = cost_bytes(batch);
                    self.bytes -= cost;
                    self.batches.pop_front();
                    self.note_less(cost);
                }
                _ => return,
            }
        }
    }

    /// The batches, the oldest first, and what each of them takes.
    pub(crate) fn costs(&self) -> impl Iterator<Item = (&Batch, u64)> {
        self.batches.iter().map(|batch| (batch, cost_bytes(batch)))
    }

    /// Drops the batches whose events are all before `end`.
    pub(crate) fn drop_before(&mut self, end: EventId) {
        self.evict(0, end);
    }

    /// The first event of the batch that holds `id`; `id` itself when it is not in memory.
    pub(crate) fn base_of(&self, id: EventId) -> EventId {
        self.from(id).next().map_or(id, Batch::base_event_id)
    }

    /// The first event of the first batch that was accepted at this time or later.
    pub(crate) fn first_at(&self, timestamp_us: u64) -> Option<EventId> {
        self.batches
            .iter()
            .find(|batch| batch.timestamp_us() >= timestamp_us)
            .map(Batch::base_event_id)
    }

    /// The batches from the one that holds `id` on; nothing when `id` is not in memory.
    pub(crate) fn from(&self, id: EventId) -> impl Iterator<Item = &Batch> {
        let start = match self.first_event_id() {
            Some(first) if first <= id => self.batches.partition_point(|batch| batch.end_event_id() <= id),
            _ => self.batches.len(),
        };
        self.batches.range(start..)
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
fn cost_bytes(batch: &Batch) -> u64 {
    let data_bytes = batch.data().map_or(0, |data| data.len() as u64);
    size_of::<Batch>() as u64 + batch.frame_bytes() + data_bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use mofka_log::{BatchBuilder, Stamp};

    fn batch(base: u64, events: u32) -> Batch {
        let mut builder = BatchBuilder::new();
        for _ in 0..events {
            builder.push(b"{}", [&b"0123456789"[..]]).unwrap();
        }
        let (frame, data): (Bytes, Bytes) = builder.finish(None);
        let mut batch = Batch::check_client(frame, data).unwrap();
        batch.stamp(Stamp {
            base_event_id: EventId::new(base),
            ..Stamp::default()
        });
        batch
    }

    #[test]
    fn finds_the_batch_that_holds_an_id() {
        let mut recent = Recent::default();
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
        let mut recent = Recent::default();
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
}
