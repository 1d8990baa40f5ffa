//! What a queue does when the node is busy or away, or refuses a batch.

use std::sync::Arc;
use std::time::Duration;

use mofka_net::{ErrorCode, WireError};

use super::{Queue, Settled, State, fail, fail_sent};
use crate::error::DeliveryError;
use crate::link::Connection;
use crate::promise::lock;
use crate::retry::Retry;
use crate::route::RouteError;

impl Queue {
    /// The node does not take a batch: now, or not at all.
    pub(super) fn refused(
        &self,
        state: &mut State,
        connection: &Arc<Connection>,
        place: usize,
        error: WireError,
        settled: &mut Settled,
    ) {
        let Some(batch) = state.outgoing.get_mut(place) else {
            return;
        };
        let number = batch.number;
        if error.code == ErrorCode::Poisoned {
            // Either it was not looked at, or the device failed at it.
            batch.doubt();
        }
        if let Some(verdict) = state.outgoing.verdict_of(place) {
            let error = verdict.error.clone();
            return self.fail_at(state, place, error, settled);
        }
        match error.code {
            ErrorCode::ShuttingDown | ErrorCode::Overloaded | ErrorCode::NoSpace => {
                state.outgoing.send_again(place);
                self.be_patient(state, error, settled);
            }
            ErrorCode::NotOwner => {
                state.outgoing.send_again(place);
                self.route.moved(&error);
                self.forget(state, connection);
                self.trouble(state, &error.to_string(), settled);
            }
            // One before it was not accepted, and will be sent again first.
            ErrorCode::SequenceGap | ErrorCode::UnknownProducer if place > 0 => {
                state.outgoing.send_again(place)
            }
            _ if state.sequence.has_source() => {
                let error = DeliveryError::Refused(Arc::new(error));
                self.fail_at(state, place, error.clone(), settled);
                self.fail_all(state, &error, settled);
            }
            // The node lost what it had accepted from us (which is how weaker durabilities end), or forgot us: this
            // batch is not there. A node only forgets a producer after thousands of others were busier.
            ErrorCode::SequenceGap | ErrorCode::UnknownProducer if state.sequence.unknown_at(number) => {
                state.outgoing.send_again(place);
            }
            _ => {
                // The node is there and takes what it can: those behind it have all of their time.
                state.retry = None;
                state.sequence.broken_at(number);
                self.fail_at(state, place, DeliveryError::Refused(Arc::new(error)), settled);
            }
        }
    }

    /// The answer to a batch does not come: it is sent again, unless everything was given up meanwhile.
    pub(super) fn unanswered(&self, state: &mut State, place: usize, reason: &str, settled: &mut Settled) {
        if let Some(batch) = state.outgoing.get_mut(place) {
            batch.doubt();
        }
        let Some(verdict) = state.outgoing.verdict_of(place) else {
            return state.outgoing.send_again(place);
        };
        let error = DeliveryError::Unreachable {
            waited: verdict.since.elapsed(),
            may_be_stored: true,
            reason: reason.into(),
        };
        self.fail_at(state, place, error, settled);
    }

    fn fail_at(&self, state: &mut State, place: usize, error: DeliveryError, settled: &mut Settled) {
        if let Some(batch) = state.outgoing.remove(place) {
            fail_sent(batch, error, &self.shared, settled);
        }
    }

    /// Lets the node have a pause, unless it had enough of them.
    pub(super) fn be_patient(&self, state: &mut State, error: WireError, settled: &mut Settled) {
        if state.is_patient {
            return;
        }
        let retry = state
            .retry
            .get_or_insert_with(|| Retry::new(self.shared.driver.reconnect_timeout()));
        match (retry.pause(), self.me.upgrade()) {
            (Some(pause), Some(me)) => {
                tracing::debug!(%error, ?pause, "a batch has to wait");
                state.is_patient = true;
                self.shared.driver.chores.quickly_after(pause, move || {
                    let mut state = lock(&me.state);
                    state.is_patient = false;
                    me.pump(state, Settled::default());
                });
            }
            _ => self.fail_all(state, &DeliveryError::Refused(Arc::new(error)), settled),
        }
    }

    pub(super) fn disconnected(
        &self,
        state: &mut State,
        connection: &Arc<Connection>,
        reason: &str,
        settled: &mut Settled,
    ) {
        self.forget(state, connection);
        self.trouble(state, reason, settled);
    }

    pub(super) fn forget(&self, state: &mut State, connection: &Arc<Connection>) {
        if state
            .link
            .as_ref()
            .is_some_and(|link| Arc::ptr_eq(link, connection))
        {
            state.link = None;
        }
    }

    /// Without a connection: looks for one after a pause, unless that took too long already.
    pub(super) fn trouble(&self, state: &mut State, reason: &str, settled: &mut Settled) {
        if state.link.is_some() || state.is_connecting {
            return;
        }
        state.last_trouble = reason.into();
        if state.outgoing.is_empty() && state.gathering.is_none() {
            // Whoever pushes next is patient anew.
            state.retry = None;
            return;
        }
        self.route.lost();
        let retry = state
            .retry
            .get_or_insert_with(|| Retry::new(self.shared.driver.reconnect_timeout()));
        match retry.pause() {
            Some(pause) => self.connect(state, pause),
            None => {
                let (waited, reason) = (retry.waited(), Arc::clone(&state.last_trouble));
                self.fail_all(
                    state,
                    &DeliveryError::Unreachable {
                        waited,
                        may_be_stored: false,
                        reason,
                    },
                    settled,
                );
            }
        }
    }

    /// Brings a connection, on a thread where that may take a while.
    pub(super) fn connect(&self, state: &mut State, pause: Duration) {
        let Some(me) = self.me.upgrade() else { return };
        state.is_connecting = true;
        self.shared.driver.chores.after(pause, move || {
            let outcome = me.route.establish();
            let mut state = lock(&me.state);
            let mut settled = Settled::default();
            state.is_connecting = false;
            match outcome {
                Ok(link) => me.use_link(&mut state, &link),
                Err(RouteError::Gone(reason)) => {
                    me.fail_all(&mut state, &DeliveryError::Gone(reason.into()), &mut settled);
                }
                Err(RouteError::Away(reason)) => me.trouble(&mut state, &reason, &mut settled),
            }
            me.pump(state, settled);
        });
    }

    /// Gives up everything; after a refusal, what is on its way keeps its place until its answer comes. What is pushed later gets a
    /// new chance, but from a source: it would be as if that had a hole.
    pub(super) fn fail_all(&self, state: &mut State, error: &DeliveryError, settled: &mut Settled) {
        state.retry = None;
        // Nobody is left who could keep a number.
        state.sequence.broken_at(0);
        if state.sequence.has_source() {
            state.is_closed = true;
            self.tell_closed();
        }
        let given_up = match error {
            // It says nothing of those that the node has: it may have accepted them already.
            DeliveryError::Refused(_) => state.outgoing.take_unsent(error),
            _ => state.outgoing.take(),
        };
        for batch in given_up {
            let error = match error {
                DeliveryError::Unreachable { waited, reason, .. } => DeliveryError::Unreachable {
                    waited: *waited,
                    may_be_stored: batch.was_sent,
                    reason: Arc::clone(reason),
                },
                other => other.clone(),
            };
            fail_sent(batch, error, &self.shared, settled);
        }
        if let Some(gathering) = state.gathering.take() {
            let event_count = gathering.event_count();
            let (promise, content) = gathering.give_up();
            settled.spent.push(content);
            fail(promise, event_count, error.clone(), &self.shared, settled);
        }
        for event in state.parked.drain(..) {
            settled.events.push((event.ticket, Err(error.clone())));
            settled.spent_data.push(event.data);
        }
    }
}
