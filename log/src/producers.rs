//! What each producer sent last, so that a batch that is sent again gets its first answer again.
//!
//! ```text
//! producer, 32 bytes:  0   8              16         24     28            32, 16 bytes for each batch remembered
//!                      id  next_sequence  last_base  epoch  window_count  base_event_id u64, event_count u32, span u32
//! ```
//!
//! A producer counts its batches, or it says with each batch which places of a source it covers (its *span*): then
//! `next_sequence` is where in that source the next batch begins, and a producer that nobody knows may begin anywhere.
//!
//! Rebuilt from the frames after the last footer, so it is as durable as the batches themselves.

mod kept;

use std::collections::{BTreeMap, VecDeque};

use bytemuck::{Pod, Zeroable};

use crate::batch::{Batch, BatchPlace};
use crate::ids::{EventId, ProducerId};
use crate::le::{Le32, Le64};
use crate::limits::{EVENT_ID_END, PRODUCERS_PER_PARTITION_MAX, SEQUENCE_WINDOW};
use crate::width::wide;

pub use kept::{KeptProducers, KeptProducersError};

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
    span: Le32,
}

const _: () = {
    assert!(size_of::<StoredProducer>() == 32 && align_of::<StoredProducer>() == 1);
    assert!(std::mem::offset_of!(StoredProducer, window_count) == 28);
    assert!(std::mem::offset_of!(StoredAnswer, span) == 12);
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
    /// One before it is missing; or what it covers of its source is there already, but not in the same batch.
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
    /// Of the batch; one that this does not hold is said as [`SPAN_UNKNOWN`].
    span: u32,
}

/// A span of so much or more is not remembered: the batch is not recognised when it is sent again, nor are those before it.
const SPAN_UNKNOWN: u32 = u32::MAX;

impl Answer {
    fn of(place: BatchPlace, base_event_id: EventId, event_count: u32) -> Self {
        Self {
            base_event_id,
            event_count,
            span: u32::try_from(place.span).unwrap_or(SPAN_UNKNOWN),
        }
    }

    /// How far behind its begin the batch after it begins; `None`: that is not remembered.
    fn advance(self) -> Option<u64> {
        (self.span != SPAN_UNKNOWN).then(|| u64::from(self.span).max(1))
    }

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
    pub fn check(&self, place: BatchPlace) -> SequenceVerdict {
        let BatchPlace {
            producer,
            epoch,
            sequence,
            span,
        } = place;
        let first = if sequence == 0 || span > 0 {
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
        match known.answer(sequence) {
            Some(answer) if u64::from(answer.span) == span => SequenceVerdict::Duplicate {
                base_event_id: answer.base_event_id,
                event_count: answer.event_count,
            },
            None if span == 0 => SequenceVerdict::TooOld,
            _ => SequenceVerdict::Gap {
                expected: known.next_sequence,
            },
        }
    }

    /// Notes that a batch was accepted. It is not asked whether it may be: the log decides what was.
    pub fn note(&mut self, place: BatchPlace, base: EventId, event_count: u32) {
        let BatchPlace {
            producer,
            epoch,
            sequence,
            ..
        } = place;
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
        known.window.push_back(Answer::of(place, base, event_count));
        known.next_sequence = place.end();
        known.last_base = base;
        assert!(
            self.producers.len() <= PRODUCERS_PER_PARTITION_MAX
                && known_window_fits(self.producers.get(&producer))
        );
    }

    /// Notes a stored batch; nothing when nobody's name is on it.
    pub fn note_batch(&mut self, batch: &Batch) {
        if let Some(place) = batch.place() {
            self.note(place, batch.base_event_id(), batch.event_count());
        }
    }

    /// The table as it was before the event `end` was accepted, for the footer of a segment that ends there: batches
    /// that wait for the next segment are not in this one.
    #[must_use]
    pub fn before(&self, end: EventId) -> Self {
        let mut earlier = self.clone();
        earlier.producers.retain(|_, producer| {
            while let Some(later) = producer
                .window
                .back()
                .filter(|answer| answer.end() > end)
                .copied()
            {
                producer.window.pop_back();
                let Some(advance) = later.advance() else {
                    // Where it began is not remembered, so neither can be where its producer was.
                    return false;
                };
                producer.next_sequence = producer.next_sequence.saturating_sub(advance);
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

    /// Whether it can be what was known before the event `end` was accepted.
    ///
    /// # Errors
    /// The first producer that sent something later.
    pub(crate) fn check_before(&self, end: EventId) -> Result<(), ProducersError> {
        for (place, (id, producer)) in (0..).zip(&self.producers) {
            let is_later = |answer: &Answer| answer.end() > end;
            // Whose batches are all later may be there with the end for its last: see [`ProducerTable::before`].
            if producer.last_base > end || producer.window.iter().any(is_later) {
                return Err(ProducersError::Producer {
                    place,
                    id: *id,
                    rule: "its batches lie before the end of what the table is of",
                });
            }
        }
        Ok(())
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
                    span: answer.span.into(),
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
                    "at most 64 batches are remembered, and not more than were sent",
                ));
            }
            if place >= wide(PRODUCERS_PER_PARTITION_MAX) {
                return Err(refuse("at most 4096 producers are remembered"));
            }
            let mut window = VecDeque::new();
            for _ in 0..window_count {
                let stored: StoredAnswer = take(&mut rest).ok_or_else(length)?;
                let ids_left = EVENT_ID_END.saturating_sub(stored.event_count.get().into());
                if stored.base_event_id.get() > ids_left {
                    return Err(refuse("a remembered batch has an impossible id"));
                }
                window.push_back(Answer {
                    base_event_id: EventId::new(stored.base_event_id.get()),
                    event_count: stored.event_count.get(),
                    span: stored.span.get(),
                });
            }
            let covered = window.iter().try_fold(0_u64, |sum, answer: &Answer| {
                sum.checked_add(answer.advance().unwrap_or(0))
            });
            if covered.is_none_or(|covered| covered > next_sequence) {
                return Err(refuse("what remembered batches cover lies before next_sequence"));
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
        let mut at = self.next_sequence;
        for answer in self.window.iter().rev() {
            at = at.checked_sub(answer.advance()?)?;
            if at <= sequence {
                return (at == sequence).then_some(*answer);
            }
        }
        None
    }
}

fn take<T: Pod>(rest: &mut &[u8]) -> Option<T> {
    let (first, after) = rest.split_at_checked(size_of::<T>())?;
    *rest = after;
    Some(bytemuck::pod_read_unaligned(first))
}

#[cfg(test)]
mod tests;
