//! A queue of fixed slots between one writer and one reader, by positions that run on and never wrap in practice.
//!
//! Each end keeps its own position to itself and only tells it; what it loads is the other's, which is checked against
//! what an honest one can be.
//!
//! | label | published by | seen by | what it orders |
//! |---|---|---|---|
//! | Q1 | `QueueWriter::publish` | `QueueReader::front` | the slot's words, and the arena bytes that it describes, before its reader |
//! | Q2 | `QueueReader::tell` | `QueueWriter::free` | the reader's last look at a slot, before the writer uses it again |

use std::sync::atomic::Ordering;

use crate::shm::fault::RingFault;
use crate::shm::words::Words;
use crate::width::narrow;

/// Where a queue lies: indices of words.
#[derive(Clone, Copy, Debug)]
pub(super) struct Queue {
    /// The writer's position: exclusive end of what was published.
    pub(super) published: usize,
    /// The reader's position: everything before it may be overwritten.
    pub(super) consumed: usize,
    /// The first slot.
    pub(super) slots: usize,
    /// Words of a slot.
    pub(super) slot_words: usize,
    /// A power of two, so that slots follow each other also where positions wrap.
    pub(super) slot_count: u64,
}

impl Queue {
    fn slot(&self, position: u64) -> usize {
        let index = position & self.slot_count.wrapping_sub(1);
        self.slots
            .saturating_add(narrow(index).saturating_mul(self.slot_words))
    }
}

/// The end that publishes.
#[derive(Debug)]
pub(super) struct QueueWriter {
    queue: Queue,
    published: u64,
    /// The reader's position as it was seen last.
    consumed: u64,
}

impl QueueWriter {
    pub(super) fn new(queue: Queue, first_position: u64) -> Self {
        Self {
            queue,
            published: first_position,
            consumed: first_position,
        }
    }

    /// How many slots may be published now. The reader's position is looked up when fewer than `wanted` are known.
    ///
    /// # Errors
    /// A position that the reader cannot be at.
    pub(super) fn free<M: Words>(&mut self, memory: &M, wanted: u64) -> Result<u64, RingFault> {
        let mut used = self.published.wrapping_sub(self.consumed);
        if self.queue.slot_count.saturating_sub(used) < wanted {
            // Q2: acquires what `QueueReader::tell` released.
            let found = memory.load(self.queue.consumed, Ordering::Acquire);
            let now_used = self.published.wrapping_sub(found);
            if now_used > used {
                return Err(RingFault::Position {
                    found,
                    low: self.consumed,
                    high: self.published,
                });
            }
            self.consumed = found;
            used = now_used;
        }
        Ok(self.queue.slot_count.saturating_sub(used))
    }

    /// First word of the slot that is published next. It may be written once [`Self::free`] said so.
    pub(super) fn slot(&self) -> usize {
        self.queue.slot(self.published)
    }

    /// Publishes that slot.
    pub(super) fn publish<M: Words>(&mut self, memory: &M) {
        self.published = self.published.wrapping_add(1);
        // Q1: releases the slot and the bytes that it describes to `QueueReader::front`.
        memory.store(self.queue.published, self.published, Ordering::Release);
    }
}

/// The end that consumes.
#[derive(Debug)]
pub(super) struct QueueReader {
    queue: Queue,
    consumed: u64,
    /// Up to where the writer was told.
    told: u64,
    /// The writer's position as it was seen last.
    published: u64,
}

impl QueueReader {
    pub(super) fn new(queue: Queue, first_position: u64) -> Self {
        Self {
            queue,
            consumed: first_position,
            told: first_position,
            published: first_position,
        }
    }

    /// First word of the next slot that was published and not consumed.
    ///
    /// # Errors
    /// A position that the writer cannot be at.
    pub(super) fn front<M: Words>(&mut self, memory: &M) -> Result<Option<usize>, RingFault> {
        if self.published == self.consumed {
            // Q1: acquires what `QueueWriter::publish` released.
            let found = memory.load(self.queue.published, Ordering::Acquire);
            if found.wrapping_sub(self.consumed) > self.queue.slot_count {
                return Err(RingFault::Position {
                    found,
                    low: self.consumed,
                    high: self.consumed.wrapping_add(self.queue.slot_count),
                });
            }
            self.published = found;
        }
        Ok((self.published != self.consumed).then(|| self.queue.slot(self.consumed)))
    }

    /// Done with the slot that [`Self::front`] gave.
    pub(super) fn advance(&mut self) {
        self.consumed = self.consumed.wrapping_add(1);
    }

    /// Slots that the writer may use again as soon as it is told.
    pub(super) fn untold(&self) -> u64 {
        self.consumed.wrapping_sub(self.told)
    }

    /// Lets the writer use again what was consumed.
    pub(super) fn tell<M: Words>(&mut self, memory: &M) {
        self.told = self.consumed;
        // Q2: releases the slots to `QueueWriter::free`.
        memory.store(self.queue.consumed, self.consumed, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;
    use crate::shm::words::tests::HeapWords;

    fn queue(slot_count: u64) -> Queue {
        Queue {
            published: 0,
            consumed: 1,
            slots: 2,
            slot_words: 1,
            slot_count,
        }
    }

    fn pair(slot_count: u64, first: u64) -> (HeapWords, QueueWriter, QueueReader) {
        let memory = HeapWords::new(2 + narrow(slot_count));
        memory.store(0, first, Ordering::Relaxed);
        memory.store(1, first, Ordering::Relaxed);
        let queue = queue(slot_count);
        (
            memory,
            QueueWriter::new(queue, first),
            QueueReader::new(queue, first),
        )
    }

    proptest! {
        #[test]
        fn it_is_a_bounded_queue(
            operations in prop::collection::vec(0..3_u8, 1..300),
            log_count in 1..4_u32,
            first in prop_oneof![Just(0), (0..40_u64).prop_map(|n| u64::MAX - n), any::<u64>()],
        ) {
            let slot_count = 1_u64 << log_count;
            let (memory, mut writer, mut reader) = pair(slot_count, first);
            let (mut model, mut untold, mut next) = (VecDeque::new(), 0, 1);
            for operation in operations {
                match operation {
                    0 => {
                        let free = slot_count - untold - model.len() as u64;
                        prop_assert_eq!(writer.free(&memory, slot_count).unwrap(), free);
                        if free > 0 {
                            memory.store(writer.slot(), next, Ordering::Relaxed);
                            writer.publish(&memory);
                            model.push_back(next);
                            next += 1;
                        }
                    }
                    1 => {
                        let got = reader.front(&memory).unwrap().map(|slot| memory.load(slot, Ordering::Relaxed));
                        prop_assert_eq!(got, model.pop_front());
                        if got.is_some() {
                            reader.advance();
                            untold += 1;
                        }
                        prop_assert_eq!(reader.untold(), untold);
                    }
                    _ => {
                        reader.tell(&memory);
                        untold = 0;
                    }
                }
            }
        }

        #[test]
        fn impossible_positions_are_faults(first: u64, found: u64, sent in 0..=4_u64) {
            let (memory, mut writer, mut reader) = pair(4, first);
            for _ in 0..sent {
                writer.publish(&memory);
            }
            memory.store(1, found, Ordering::Relaxed);
            let possible = (0..=sent).any(|n| first.wrapping_add(n) == found);
            prop_assert_eq!(writer.free(&memory, 5).is_ok(), possible);
            memory.store(0, found, Ordering::Relaxed);
            let possible = (0..=4).any(|n| first.wrapping_add(n) == found);
            prop_assert_eq!(reader.front(&memory).is_ok(), possible);
        }
    }
}
