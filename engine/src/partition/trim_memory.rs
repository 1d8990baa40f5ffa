//! How events leave a memory partition: batch by batch, the oldest first, by the rules that segments of a log go by.
//!
//! The bound on bytes is kept when a batch enters, so that the memory of what went is used for what comes; age and
//! acknowledgements count at each look, and when there is no room for a batch otherwise. The newest batch is not dropped to keep
//! a bound on bytes: it would be gone before anybody could read it.

use mofka_log::{EventId, PartitionFacts, Retention, SealedFacts, TrimReason};

use super::Partition;
use crate::io::Io;

/// What enters beyond the bound makes one part in this many of it go, and not only as much as it takes itself: so that it is
/// not worked out for every batch which ones may go.
const SLACK_PART: u64 = 64;

impl<I: Io> Partition<I> {
    /// Keeps the topic's bound on bytes, after a batch entered.
    pub(super) fn keep_memory_bound(&self) {
        let bytes_max = self.leaving.retention().bytes_max;
        if let Some(max) = bytes_max
            && self.recent.borrow().bytes() > max.max(self.leaving.tried_bytes())
        {
            self.trim_memory(max / SLACK_PART);
        }
    }

    /// Lets go what the topic's retention says, as if there were `more_bytes` more.
    pub(super) fn trim_memory(&self, more_bytes: u64) {
        let free_end = self.memory_free_end(more_bytes);
        self.recent.borrow_mut().drop_before(free_end);
        self.note_tried();
    }

    /// Makes room for a batch where the node's memory is full, and takes it. A topic that bounds its bytes is a window, which goes on with
    /// what it has: its oldest events go for the new ones, and nobody else can take their room in between. Nothing of that goes when it would
    /// not be enough. False when there is no room.
    pub(super) fn makes_way(&self, bytes: u64) -> bool {
        // What counts whatever comes.
        self.trim_memory(0);
        if self.memory.take_of_node(bytes) {
            return true;
        }
        let bytes_max = self.leaving.retention().bytes_max;
        let below_bytes = bytes_max.map_or(0, |max| max.saturating_sub(self.recent.borrow().bytes()));
        let free_end = self.memory_free_end(bytes.saturating_add(below_bytes));
        let freed_bytes = self.recent.borrow().cost_before(free_end);
        let is_enough = self.memory.exchange_of_node(freed_bytes, bytes);
        if is_enough {
            self.recent.borrow_mut().drop_exchanged(free_end);
            self.note_tried();
        }
        is_enough
    }

    /// Where the events end that are to go, and may.
    fn memory_free_end(&self, more_bytes: u64) -> EventId {
        self.look_anew();
        self.unreferred_end(self.memory_going_end(more_bytes))
    }

    fn note_tried(&self) {
        // What has to stay is not gone through again for every batch.
        let bytes = self.recent.borrow().bytes();
        let bytes_max = self.leaving.retention().bytes_max;
        let beyond = bytes_max.filter(|max| bytes > *max);
        let tried_bytes = beyond.map_or(0, |max| bytes.saturating_add(max / SLACK_PART));
        self.leaving.tried_at(tried_bytes);
    }

    /// Where the events end that are to go by the rules, and that no other partition refers to.
    fn memory_going_end(&self, more_bytes: u64) -> EventId {
        let recent = self.recent.borrow();
        let retention: &Retention = &self.leaving.retention();
        let mut going_end = recent.first_event_id().unwrap_or_default();
        if retention.keeps_all() || !self.may_trim() {
            return going_end;
        }
        let cursors = match retention.asks_consumers() {
            true => self.cursors.all(),
            false => Vec::new(),
        };
        let own = self.spec.record.id;
        let others = self.pins(None).into_iter().filter(|pin| pin.by != own);
        let held_from = others.map(|pin| pin.first).min();
        let mut bytes = recent.bytes().saturating_add(more_bytes);
        for (batch, cost_bytes) in recent.costs() {
            let end_event_id = batch.end_event_id();
            let oldest = SealedFacts {
                end_event_id,
                last_timestamp_us: Some(batch.timestamp_us()),
            };
            let partition = PartitionFacts {
                bytes,
                now_us: self.leaving.now_us(),
                cursors: &cursors,
            };
            match retention.oldest_goes(&oldest, &partition) {
                None => break,
                Some(TrimReason::Bytes) if end_event_id == self.memory_end.get() => break,
                Some(_) => {}
            }
            if held_from.is_some_and(|first| first < end_event_id) {
                self.note_held(end_event_id);
                break;
            }
            bytes -= cost_bytes;
            going_end = end_event_id;
        }
        going_end
    }

    /// How much of what is before `end` may go, since no event of this partition refers to it that stays.
    fn unreferred_end(&self, mut end: EventId) -> EventId {
        let own = self.spec.record.id;
        if self.pins(Some(end)).iter().all(|pin| pin.by != own) {
            return end;
        }
        loop {
            // What refers from here is known, and goes itself if it is before the end.
            match self.noted_reference(own, end).filter(|first| *first < end) {
                // More stays now, which may refer to what is earlier still.
                Some(first) => end = self.recent.borrow().base_of(first),
                None => return end,
            }
        }
    }
}
