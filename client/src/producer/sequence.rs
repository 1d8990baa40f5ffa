//! The numbers by which a partition knows a batch that it has seen before.
//!
//! A partition accepts the batches of a producer's epoch only in sequence from 0. A batch that was refused for good
//! leaves a hole, and everything behind it would be refused too. So those start again at 0 in a new epoch, but only
//! when no answer is owed any more, and when those before the hole have had theirs: a batch that was accepted under its
//! old number must not come again under a new one, and what lies before the hole may have been accepted.
//!
//! A producer with a source says which places its batches cover instead. It never starts again: what is missing is missing.

use mofka_log::{BatchPlace, ProducerId};

use crate::options::Source;

/// Times in a row that a partition may not know our numbers before the batch is given up.
const RESTARTS_MAX: u32 = 3;

/// The places in their source of the first and the last event of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Places {
    pub(super) first: u64,
    pub(super) last: u64,
}

#[derive(Debug)]
pub(super) struct Sequence {
    producer: ProducerId,
    epoch: u32,
    next: u64,
    /// Whether the partition accepted a batch of this epoch.
    is_known: bool,
    /// The numbers have to start again, for batches from this one on (as its queue counts them).
    hole: Option<u64>,
    restarts: u32,
    has_source: bool,
    /// Where the next batch begins in the source, when that is known.
    source_next: Option<u64>,
}

impl Sequence {
    pub(super) fn new(producer: ProducerId) -> Self {
        Self {
            producer,
            epoch: 0,
            next: 0,
            is_known: false,
            hole: None,
            restarts: 0,
            has_source: false,
            source_next: None,
        }
    }

    pub(super) fn of(source: Source) -> Self {
        Self {
            has_source: true,
            source_next: source.from,
            ..Self::new(ProducerId::new(source.id.get()))
        }
    }

    /// The next number of a producer that counts its batches.
    pub(super) fn next(&mut self) -> BatchPlace {
        let place = (self.producer, self.epoch, self.next).into();
        self.next += 1;
        place
    }

    /// The place of a batch that covers the source from where the one before it ended.
    pub(super) fn next_from(&mut self, places: Places) -> BatchPlace {
        let sequence = self.source_next.unwrap_or(places.first);
        let end = places.last.saturating_add(1);
        assert!(
            sequence <= places.first && places.first <= places.last,
            "places of a source are pushed in order: {places:?} after {sequence}"
        );
        self.source_next = Some(end);
        BatchPlace {
            producer: self.producer,
            epoch: 0,
            sequence,
            span: end - sequence,
        }
    }

    pub(super) fn has_source(&self) -> bool {
        self.has_source
    }

    /// The last number was never sent, and is free again.
    pub(super) fn take_back(&mut self) {
        self.next = self.next.saturating_sub(1);
    }

    /// Batches that may be on their way at once, where so many are wanted and the partition remembers. One until it knows this epoch: were
    /// the first one refused for a while, a partition without memory of us would take the second as the beginning.
    pub(super) fn in_flight_max(&self, wanted: usize) -> usize {
        if self.is_known { wanted.max(1) } else { 1 }
    }

    /// A batch was accepted.
    pub(super) fn accepted(&mut self) {
        self.is_known = true;
        self.restarts = 0;
    }

    /// This batch will never be accepted under its number.
    pub(super) fn broken_at(&mut self, batch: u64) {
        self.hole = Some(self.hole.map_or(batch, |hole| hole.min(batch)));
    }

    /// The partition does not know the numbers of this batch. Returns false when starting again was tried often enough.
    pub(super) fn unknown_at(&mut self, batch: u64) -> bool {
        self.broken_at(batch);
        self.restarts += 1;
        self.restarts <= RESTARTS_MAX
    }

    /// The first batch that cannot keep its number.
    pub(super) fn hole(&self) -> Option<u64> {
        self.hole
    }

    /// Starts again. No answer is owed.
    pub(super) fn restart(&mut self) {
        match self.epoch.checked_add(1) {
            Some(epoch) => self.epoch = epoch,
            None => (self.producer, self.epoch) = (super::batch::random_producer(), 0),
        }
        self.next = 0;
        self.is_known = false;
        self.hole = None;
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;

    #[test]
    fn an_epoch_begins_at_0_and_one_at_a_time() {
        let mut sequence = Sequence::new(ProducerId::new(7));
        assert_eq!(sequence.next(), (ProducerId::new(7), 0, 0).into());
        assert_eq!(sequence.next(), (ProducerId::new(7), 0, 1).into());
        sequence.take_back();
        assert_eq!(sequence.next(), (ProducerId::new(7), 0, 1).into());
        assert_eq!(sequence.in_flight_max(2), 1);
        sequence.accepted();
        assert_eq!((sequence.in_flight_max(2), sequence.in_flight_max(0)), (2, 1));
        sequence.broken_at(5);
        sequence.broken_at(7);
        assert_eq!(sequence.hole(), Some(5));
        sequence.restart();
        assert_eq!(sequence.hole(), None);
        assert_eq!(sequence.next(), (ProducerId::new(7), 1, 0).into());
        assert_eq!(sequence.in_flight_max(2), 1);
    }

    #[test]
    fn starting_again_ends_and_the_last_epoch_is_followed_by_another_producer() {
        let mut sequence = Sequence {
            epoch: u32::MAX,
            ..Sequence::new(ProducerId::new(7))
        };
        assert_eq!(
            (0..4).map(|_| sequence.unknown_at(0)).collect::<Vec<_>>(),
            [true, true, true, false]
        );
        sequence.restart();
        let next = sequence.next();
        assert!(next.producer != ProducerId::new(7) && next.epoch == 0);
        sequence.accepted();
        assert!(sequence.unknown_at(0));
    }

    #[test]
    fn batches_of_a_source_cover_all_of_it() {
        let id = NonZeroU64::new(9).unwrap();
        let mut sequence = Sequence::of(Source { id, from: None });
        let covered = |place: BatchPlace| (place.sequence, place.end());
        assert_eq!(covered(sequence.next_from(Places { first: 5, last: 7 })), (5, 8));
        assert_eq!(
            covered(sequence.next_from(Places { first: 20, last: 20 })),
            (8, 21)
        );
        let mut sequence = Sequence::of(Source { id, from: Some(3) });
        let place = sequence.next_from(Places { first: 5, last: 7 });
        assert_eq!((covered(place), place.producer), ((3, 8), ProducerId::new(9)));
    }
}
