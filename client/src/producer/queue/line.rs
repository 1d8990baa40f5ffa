//! The batches that were finished, in the order of their numbers: each is to be sent, or was and its answer is owed.
//!
//! How many are which is counted, not looked for: with many batches under way all of this is asked at each event.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use crate::error::DeliveryError;
use crate::link::Connection;
use crate::producer::batch::{Outgoing, Verdict};

/// See the module.
#[derive(Default)]
pub(super) struct Line {
    batches: VecDeque<Outgoing>,
    /// Of how many an answer is owed.
    sent_count: usize,
}

impl Line {
    pub(super) fn len(&self) -> usize {
        self.batches.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Batches whose answer is owed.
    pub(super) fn sent_count(&self) -> usize {
        self.sent_count
    }

    /// Whether any is to be sent.
    pub(super) fn has_unsent(&self) -> bool {
        self.sent_count < self.batches.len()
    }

    /// The first that is to be sent.
    pub(super) fn first_unsent(&self) -> Option<usize> {
        if !self.has_unsent() {
            return None;
        }
        // They are the last ones, unless a connection was lost or a batch refused.
        let begin = self.sent_count;
        let are_last = self.batches.range(begin..).all(Outgoing::is_unsent);
        match are_last {
            true => Some(begin),
            false => self.batches.iter().position(Outgoing::is_unsent),
        }
    }

    /// Where the batch with this number is. Answers come in order, so it is the first one most of the time.
    pub(super) fn find(&self, number: u64) -> Option<usize> {
        if self.batches.front()?.number == number {
            return Some(0);
        }
        self.batches
            .binary_search_by_key(&number, |batch| batch.number)
            .ok()
    }

    pub(super) fn first(&self) -> Option<&Outgoing> {
        self.batches.front()
    }

    pub(super) fn get(&self, place: usize) -> Option<&Outgoing> {
        self.batches.get(place)
    }

    pub(super) fn get_mut(&mut self, place: usize) -> Option<&mut Outgoing> {
        self.batches.get_mut(place)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Outgoing> {
        self.batches.iter()
    }

    /// Adds one behind all others, to be sent.
    pub(super) fn push(&mut self, batch: Outgoing) {
        debug_assert!(batch.is_unsent());
        debug_assert!(self.batches.back().is_none_or(|last| last.number < batch.number));
        self.batches.push_back(batch);
        self.check();
    }

    pub(super) fn remove(&mut self, place: usize) -> Option<Outgoing> {
        let removed = self.batches.remove(place)?;
        self.sent_count -= usize::from(!removed.is_unsent());
        self.check();
        Some(removed)
    }

    /// Takes all of them.
    pub(super) fn take(&mut self) -> VecDeque<Outgoing> {
        std::mem::take(self).batches
    }

    /// Takes those that are to be sent. The others fail with this when they are not accepted.
    pub(super) fn take_unsent(&mut self, error: &DeliveryError) -> VecDeque<Outgoing> {
        let since = Instant::now();
        let (unsent, mut sent): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut self.batches)
            .into_iter()
            .partition(Outgoing::is_unsent);
        for batch in &mut sent {
            let error = error.clone();
            batch
                .verdict
                .get_or_insert_with(|| Box::new(Verdict { since, error }));
        }
        self.batches = sent;
        unsent
    }

    /// What is told of a batch that is not accepted, if everything was given up while it was on its way.
    pub(super) fn verdict_of(&self, place: usize) -> Option<&Verdict> {
        self.batches.get(place)?.verdict.as_deref()
    }

    /// That connection owes its answer now.
    pub(super) fn note_sent(&mut self, place: usize, on: &Arc<Connection>) {
        if let Some(batch) = self.batches.get_mut(place) {
            self.sent_count += usize::from(batch.is_unsent());
            batch.note_sent(on);
        }
        self.check();
    }

    /// It is to be sent again.
    pub(super) fn send_again(&mut self, place: usize) {
        if let Some(batch) = self.batches.get_mut(place) {
            self.sent_count -= usize::from(!batch.is_unsent());
            batch.send_again();
        }
        self.check();
    }

    fn check(&self) {
        let counted = || self.batches.iter().filter(|batch| !batch.is_unsent()).count();
        debug_assert_eq!(self.sent_count, counted(), "batches whose answer is owed");
    }
}
