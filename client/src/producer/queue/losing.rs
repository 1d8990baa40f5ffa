//! What a queue does when the node is busy or away.

use std::sync::Arc;
use std::time::Duration;

use mofka_net::WireError;

use super::{Queue, Settled, State, fail, fail_sent};
use crate::error::DeliveryError;
use crate::link::Connection;
use crate::promise::lock;
use crate::retry::Retry;
use crate::route::RouteError;

impl Queue {
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
                self.shared.driver.chores.after(pause, move || {
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

    /// Gives up everything. What is pushed later gets a new chance, but from a source: it would be as if that had a hole.
    pub(super) fn fail_all(&self, state: &mut State, error: &DeliveryError, settled: &mut Settled) {
        state.retry = None;
        // Nobody is left who could keep a number.
        state.sequence.broken_at(0);
        state.is_closed |= state.sequence.has_source();
        for batch in state.outgoing.take() {
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
