//! What each producer sent last, so that a batch that is sent again gets its first answer again.
//!
//! ```text
//! producer, 32 bytes:  0   8              16         24     28            32, 16 bytes for each batch remembered
//!                      id  next_sequence  last_base  epoch  window_count  base_event_id u64, event_count u32, 0 x 4
//! ```
//!
//! Rebuilt from the frames after the last footer, so it is as durable as the batches themselves.

use std::collections::{BTreeMap, VecDeque};

use bytemuck::{Pod, Zeroable};

use crate::batch::Batch;
use crate::ids::{EventId, ProducerId};
use crate::le::{Le32, Le64};
use crate::limits::{EVENT_ID_END, PRODUCERS_PER_PARTITION_MAX, SEQUENCE_WINDOW};
use crate::width::wide;

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct StoredProducer {
    id: Le64,
    next_sequence: Le64,
    last_base: Le64,
    epoch: Le32,
    window_count: Le32,
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct StoredAnswer {
    base_event_id: Le64,
    event_count: Le32,
    reserved: [u8; 4],
}

const _: () = {
    assert!(size_of::<StoredProducer>() == 32 && align_of::<StoredProducer>() == 1);
    assert!(std::mem::offset_of!(StoredProducer, window_count) == 28);
    assert!(size_of::<StoredAnswer>() == 16 && align_of::<StoredAnswer>() == 1);
};

/// What a batch's sequence says about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SequenceVerdict {
    /// It is the one that comes next.
    New,
    /// It was accepted before: this was the answer.
    Duplicate {
        /// Id of its first event.
        base_event_id: EventId,
        /// Its events.
        event_count: u32,
    },
    /// One before it is missing.
    Gap {
        /// The sequence that comes next.
        expected: u64,
    },
    /// It was accepted, but so long ago that the answer is forgotten.
    TooOld,
    /// The producer was replaced by a newer epoch of itself.
    Fenced {
        /// The epoch in force.
        epoch: u32,
    },
    /// The first batch of a producer or of a new epoch, and its sequence is not 0: what came before is not known here.
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Answer {
    base_event_id: EventId,
    event_count: u32,
}

impl Answer {
    fn end(self) -> EventId {
        self.base_event_id.plus(self.event_count.into())
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Producer {
    epoch: u32,
    next_sequence: u64,
    /// Base of the last batch noted: ids only grow, so the smallest of these is the longest unused producer.
    last_base: EventId,
    /// Answers to the batches just before `next_sequence`, without gaps.
    window: VecDeque<Answer>,
}

/// What a table knows of one producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerFacts {
    /// Who it is.
    pub id: ProducerId,
    /// Its epoch in force.
    pub epoch: u32,
    /// The sequence that is due.
    pub next_sequence: u64,
    /// Id of the first event of its last batch.
    pub last_base: EventId,
    /// Batches whose answers are remembered.
    pub remembered_batches: usize,
}

/// Why stored producers are not a table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProducersError {
    /// The bytes do not end where the last producer does.
    #[error("{producers} producers do not fill {bytes} bytes exactly")]
    Length {
        /// Producers there should be.
        producers: u64,
        /// Bytes that are there.
        bytes: u64,
    },
    /// A producer that cannot be: out of order, or with a window that does not fit its sequence or its bound.
    #[error("producer {place} ({id}) of a table cannot be: {rule}")]
    Producer {
        /// Its place.
        place: u64,
        /// Its id.
        id: ProducerId,
        /// What it breaks.
        rule: &'static str,
    },
}

/// The producers of a partition. Bounded: at [`PRODUCERS_PER_PARTITION_MAX`] the longest unused one is forgotten.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProducerTable {
    producers: BTreeMap<ProducerId, Producer>,
}

impl ProducerTable {
    /// What is to be done with a batch of this sequence. Changes nothing.
    pub fn check(&self, producer: ProducerId, epoch: u32, sequence: u64) -> SequenceVerdict {
        let first = if sequence == 0 {
            SequenceVerdict::New
        } else {
            SequenceVerdict::Unknown
        };
        let Some(known) = self.producers.get(&producer) else {
            return first;
        };
        if epoch > known.epoch {
            return first;
        }
        if epoch < known.epoch {
            return SequenceVerdict::Fenced { epoch: known.epoch };
        }
        if sequence == known.next_sequence {
            return SequenceVerdict::New;
        }
        if sequence > known.next_sequence {
            return SequenceVerdict::Gap {
                expected: known.next_sequence,
            };
        }
        known
            .answer(sequence)
            .map_or(SequenceVerdict::TooOld, |answer| SequenceVerdict::Duplicate {
                base_event_id: answer.base_event_id,
                event_count: answer.event_count,
            })
    }

    /// Notes that a batch was accepted. It is not asked whether it may be: the log decides what was.
    pub fn note(&mut self, producer: ProducerId, epoch: u32, sequence: u64, base: EventId, event_count: u32) {
        if producer.is_none() {
            return;
        }
        if !self.producers.contains_key(&producer) && self.producers.len() >= PRODUCERS_PER_PARTITION_MAX {
            self.forget_longest_unused();
        }
        let fresh = || Producer {
            epoch,
            next_sequence: sequence,
            last_base: base,
            window: VecDeque::new(),
        };
        let known = self.producers.entry(producer).or_insert_with(fresh);
        if known.epoch != epoch || known.next_sequence != sequence {
            *known = fresh();
        }
        if known.window.len() == SEQUENCE_WINDOW {
            known.window.pop_front();
        }
        known.window.push_back(Answer {
            base_event_id: base,
            event_count,
        });
        known.next_sequence = sequence.saturating_add(1);
        known.last_base = base;
        assert!(
            self.producers.len() <= PRODUCERS_PER_PARTITION_MAX
                && known_window_fits(self.producers.get(&producer))
        );
    }

    /// Notes a stored batch; nothing when nobody's name is on it.
    pub fn note_batch(&mut self, batch: &Batch) {
        if let Some((producer, epoch, sequence)) = batch.producer() {
            self.note(
                producer,
                epoch,
                sequence,
                batch.base_event_id(),
                batch.event_count(),
            );
        }
    }

    /// The table as it was before the event `end` was accepted, for the footer of a segment that ends there: batches
    /// that wait for the next segment are not in this one.
    #[must_use]
    pub fn before(&self, end: EventId) -> Self {
        let mut earlier = self.clone();
        earlier.producers.retain(|_, producer| {
            while producer.window.back().is_some_and(|answer| answer.end() > end) {
                producer.window.pop_back();
                producer.next_sequence = producer.next_sequence.saturating_sub(1);
            }
            let earlier_base = producer.last_base.min(end);
            producer.last_base = producer
                .window
                .back()
                .map_or(earlier_base, |answer| answer.base_event_id);
            // Of one whose every batch is later there is nothing to remember, unless it fences an earlier epoch.
            producer.next_sequence > 0 || producer.epoch > 0
        });
        earlier
    }

    /// The producers in the order of their ids, for people to look at.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = ProducerFacts> {
        self.producers.iter().map(|(id, producer)| ProducerFacts {
            id: *id,
            epoch: producer.epoch,
            next_sequence: producer.next_sequence,
            last_base: producer.last_base,
            remembered_batches: producer.window.len(),
        })
    }

    /// Producers remembered.
    pub fn len(&self) -> usize {
        self.producers.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.producers.is_empty()
    }

    fn forget_longest_unused(&mut self) {
        let longest = self
            .producers
            .iter()
            .min_by_key(|(_, producer)| producer.last_base)
            .map(|(id, _)| *id);
        if let Some(id) = longest {
            self.producers.remove(&id);
        }
    }

    pub(crate) fn encode(&self, into: &mut Vec<u8>) {
        for (id, producer) in &self.producers {
            let stored = StoredProducer {
                id: id.get().into(),
                next_sequence: producer.next_sequence.into(),
                last_base: producer.last_base.get().into(),
                epoch: producer.epoch.into(),
                // Bounded by SEQUENCE_WINDOW.
                window_count: u32::try_from(producer.window.len()).unwrap_or(u32::MAX).into(),
            };
            into.extend_from_slice(bytemuck::bytes_of(&stored));
            for answer in &producer.window {
                let stored = StoredAnswer {
                    base_event_id: answer.base_event_id.get().into(),
                    event_count: answer.event_count.into(),
                    reserved: [0; 4],
                };
                into.extend_from_slice(bytemuck::bytes_of(&stored));
            }
        }
    }

    pub(crate) fn decode(bytes: &[u8], producers: u64) -> Result<Self, ProducersError> {
        let length = || ProducersError::Length {
            producers,
            bytes: wide(bytes.len()),
        };
        let mut table = Self::default();
        let mut rest = bytes;
        let mut last: Option<ProducerId> = None;
        for place in 0..producers {
            let stored: StoredProducer = take(&mut rest).ok_or_else(length)?;
            let id = ProducerId::new(stored.id.get());
            let refuse = |rule| ProducersError::Producer { place, id, rule };
            if id.is_none() || last.is_some_and(|last| last >= id) {
                return Err(refuse("ids are not 0 and grow"));
            }
            let (window_count, next_sequence) = (stored.window_count.get(), stored.next_sequence.get());
            if u64::from(window_count) > wide(SEQUENCE_WINDOW) || u64::from(window_count) > next_sequence {
                return Err(refuse(
                    "at most 16 batches are remembered, and not more than were sent",
                ));
            }
            if place >= wide(PRODUCERS_PER_PARTITION_MAX) {
                return Err(refuse("at most 4096 producers are remembered"));
            }
            let mut window = VecDeque::new();
            for _ in 0..window_count {
                let stored: StoredAnswer = take(&mut rest).ok_or_else(length)?;
                let ids_left = EVENT_ID_END.saturating_sub(stored.event_count.get().into());
                if stored.reserved != [0; 4] || stored.base_event_id.get() > ids_left {
                    return Err(refuse(
                        "a remembered batch has an impossible id or reserved bytes that are not zero",
                    ));
                }
                window.push_back(Answer {
                    base_event_id: EventId::new(stored.base_event_id.get()),
                    event_count: stored.event_count.get(),
                });
            }
            let last_base = EventId::new(stored.last_base.get());
            table.producers.insert(
                id,
                Producer {
                    epoch: stored.epoch.get(),
                    next_sequence,
                    last_base,
                    window,
                },
            );
            last = Some(id);
        }
        if rest.is_empty() { Ok(table) } else { Err(length()) }
    }
}

fn known_window_fits(producer: Option<&Producer>) -> bool {
    producer.is_some_and(|p| p.window.len() <= SEQUENCE_WINDOW && wide(p.window.len()) <= p.next_sequence)
}

impl Producer {
    fn answer(&self, sequence: u64) -> Option<Answer> {
        let back = self.next_sequence.checked_sub(sequence)?;
        let place = wide(self.window.len()).checked_sub(back)?;
        self.window.get(usize::try_from(place).ok()?).copied()
    }
}

fn take<T: Pod>(rest: &mut &[u8]) -> Option<T> {
    let (first, after) = rest.split_at_checked(size_of::<T>())?;
    *rest = after;
    Some(bytemuck::pod_read_unaligned(first))
}

#[cfg(test)]
mod tests;
