//! Events that are a batch of their own, because their data was filled in place.
//!
//! Such a batch goes behind the one that gathers, which is sent first however few events it has. As long as somebody waits for a
//! place for one, no new batch begins to gather: those who push would take every place that gets free, and never let him have one.

use std::sync::atomic;
use std::sync::{Arc, MutexGuard, Weak};

use mofka_log::BatchBuilder;

use super::super::batch::{Gathering, data_event_bytes};
use super::{Placed, Queue, Settled, State};
use crate::error::PushError;
use crate::link::Kept;
use crate::options::ProducerOptions;
use crate::producer::patience::Patience;
use crate::promise::{lock, lock_unless_forked};

impl Queue {
    /// Memory that is shared with the node, for the data of an event with so much metadata. `None`: there is none now.
    ///
    /// # Errors
    /// When the producer is closed, or such an event is too large.
    pub(in super::super) fn keep(
        &self,
        metadata_bytes: usize,
        bytes: usize,
    ) -> Result<Option<Kept>, PushError> {
        let (link, is_well) = {
            let state = lock_unless_forked(&self.state, || self.shared.check_process())?;
            if state.is_closed {
                return Err(PushError::Closed);
            }
            state
                .bounds
                .check(data_event_bytes(metadata_bytes, bytes as u64))?;
            (state.link.clone(), state.retry.is_none())
        };
        let link = link.or_else(|| self.route.alive());
        // Whoever is away has no memory to share; that he is back is noticed when something is sent.
        let link = link.or_else(|| is_well.then(|| self.route.establish().ok()).flatten());
        Ok(link.and_then(|link| link.keep(bytes as u64)))
    }

    /// What is told of such an event when it is too large.
    pub(in super::super) fn too_large(&self, metadata_bytes: usize, bytes: u64) -> PushError {
        let bytes = data_event_bytes(metadata_bytes, bytes);
        lock(&self.state).bounds.too_large(bytes)
    }

    /// Adds a batch of one event, whose data goes on with `rest`, behind all others. Blocks while there is no room.
    pub(in super::super) fn push_alone(
        &self,
        builder: Box<BatchBuilder>,
        rest: Option<Arc<Kept>>,
        (metadata_bytes, data_bytes): (usize, u64),
        patience: Patience<'_>,
    ) -> Result<Placed, PushError> {
        let mut state = self.lock_with_place(patience)?;
        self.shared.check_process()?;
        // The node may be another than when it was claimed.
        if let Err(error) = state.bounds.check(data_event_bytes(metadata_bytes, data_bytes)) {
            self.pump(state, Settled::default());
            return Err(error);
        }
        let number = state.next_number;
        state.next_number += 1;
        let mut alone = Gathering::new(Weak::clone(&self.me), number, builder);
        let now = self.now();
        alone.times.add(now, now);
        let late_at = alone.times.after_first(self.shared.options.delivery_timeout);
        let batch = Arc::clone(&alone.promise);
        state.outgoing.push(alone.finish_with(rest));
        self.watch_late(&mut state, late_at);
        self.shared.counters.pushed();
        self.shared.counters.gathered(metadata_bytes as u64 + data_bytes);
        self.pump(state, Settled::default());
        Ok(Placed { batch, index: 0 })
    }

    /// Waits until a batch can be added behind all others.
    fn lock_with_place(&self, patience: Patience<'_>) -> Result<MutexGuard<'_, State>, PushError> {
        let options = &self.shared.options;
        let mut state = lock_unless_forked(&self.state, || self.shared.check_process())?;
        if state.is_closed {
            return Err(PushError::Closed);
        }
        if state.make_place(options) {
            return Ok(state);
        }
        state.commits_waiting += 1;
        // What gathered is wanted now.
        self.pump(state, Settled::default());
        let waited = self.wait_until(lock(&self.state), patience, |state| state.make_place(options));
        let mut state = match waited {
            Ok(state) => state,
            // Nobody pumps in a child.
            Err(error @ PushError::Forked { .. }) => return Err(error),
            Err(error) => {
                let mut state = lock(&self.state);
                self.go_ahead(&mut state);
                // Nothing else may come that does it: what was parked waited for this one.
                self.pump(state, Settled::default());
                return Err(error);
            }
        };
        self.go_ahead(&mut state);
        Ok(state)
    }

    /// Somebody does not wait any more: those who push may go on.
    fn go_ahead(&self, state: &mut State) {
        state.commits_waiting -= 1;
        if state.commits_waiting == 0 && state.waiting_count > 0 {
            self.settled_count.fetch_add(1, atomic::Ordering::Relaxed);
            self.room.notify_all();
        }
    }
}

impl State {
    /// Whether a batch can be added behind all others. What gathers makes way as soon as it can.
    fn make_place(&mut self, options: &ProducerOptions) -> bool {
        let free = options.max_num_batches.max(1).saturating_sub(self.outgoing.len());
        if free > 1 {
            self.finish_gathering();
        }
        if let Some(gathering) = &mut self.gathering {
            gathering.wanted = true;
        }
        self.gathering.is_none() && free > 0
    }
}
