//! What a queue does as time passes: a batch that gathered for long enough is sent, and events that are not acknowledged in
//! time fail.
//!
//! A batch that was never sent vanishes with its events: no number is lost with it, and what follows takes its place. One that was sent may be stored, and what follows was numbered after it; so it keeps
//! its place and is sent again when the connection is lost, as if nobody had lost patience, until its answer comes or the driver
//! gives the node up. Its events are told at once that they may be stored.
//!
//! The chores that look after this hold nothing alive. There is one of each kind for a queue, since what comes later is also late
//! later, but for events that were long in a thread pool.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::super::batch::Gathering;
use super::{Queue, Settled, State, fail};
use crate::error::DeliveryError;
use crate::options::{BatchSize, ProducerOptions};
use crate::promise::lock;

impl Queue {
    /// The time, if anything depends on it.
    pub(super) fn now(&self) -> Option<Instant> {
        let options = &self.shared.options;
        let is_asked_for = options.delivery_timeout.is_some() || options.batch_idle_timeout.is_some();
        is_asked_for.then(Instant::now)
    }

    /// Sees to it that the gathering batch is looked at when it is due.
    pub(super) fn watch_gathering(&self, state: &mut State) {
        if state.is_gathering_watched {
            return;
        }
        let due = |gathering: &Gathering| due_at(gathering, &self.shared.options);
        let Some(due_at) = state.gathering.as_ref().and_then(due) else {
            return;
        };
        state.is_gathering_watched = true;
        self.look_at(due_at, |me, _| me.look_at_gathering());
    }

    /// Sees to it that somebody looks for what is late at this time.
    pub(super) fn watch_late(&self, state: &mut State, at: Option<Instant>) {
        let Some(at) = at else { return };
        if state.late_at.is_none_or(|watched| at < watched) {
            state.late_at = Some(at);
            self.look_at(at, Self::look_for_late);
        }
    }

    fn look_at(&self, at: Instant, look: fn(&Self, Instant)) {
        let me = Weak::clone(&self.me);
        let delay = at.saturating_duration_since(Instant::now());
        let look = move || {
            if let Some(me) = me.upgrade() {
                look(&me, at);
            }
        };
        // Not behind those who look for a lost node: that is when events are late.
        self.shared.driver.chores.quickly_after(delay, look);
    }

    fn look_at_gathering(&self) {
        let mut state = lock(&self.state);
        state.is_gathering_watched = false;
        if let Some(gathering) = &mut state.gathering {
            let due_at = due_at(gathering, &self.shared.options);
            gathering.wanted |= due_at.is_some_and(|due_at| due_at <= Instant::now());
        }
        // Looks again when it is not due yet.
        self.pump(state, Settled::default());
    }

    fn look_for_late(&self, at: Instant) {
        let mut state = lock(&self.state);
        // Something was to be looked at earlier, and whoever did that has seen to the rest.
        if state.late_at != Some(at) {
            return;
        }
        state.late_at = None;
        let mut settled = Settled::default();
        let next = self.fail_late(&mut state, Instant::now(), &mut settled);
        self.watch_late(&mut state, next);
        self.pump(state, settled);
    }

    /// Fails what is late, and says when something else will be.
    fn fail_late(&self, state: &mut State, now: Instant, settled: &mut Settled) -> Option<Instant> {
        let timeout = self.shared.options.delivery_timeout;
        let mut next: Option<Instant> = None;
        let mut is_late = |at: Option<Instant>| match at {
            Some(at) if at <= now => true,
            Some(at) => {
                next = Some(next.map_or(at, |next| next.min(at)));
                false
            }
            None => false,
        };
        let timed_out = |waited: Duration, may_be_stored: bool| DeliveryError::TimedOut {
            waited,
            may_be_stored,
        };
        let mut place = 0;
        while let Some(batch) = state.outgoing.get_mut(place) {
            let at = batch.times.after_first(timeout).filter(|_| !batch.is_given_up);
            if !is_late(at) {
                place += 1;
                continue;
            }
            let error = timed_out(batch.times.waited(), batch.was_sent);
            fail(
                Arc::clone(&batch.promise),
                batch.event_count,
                error,
                &self.shared,
                settled,
            );
            if batch.was_sent {
                batch.is_given_up = true;
                place += 1;
                continue;
            }
            // A number was given by an attempt that failed at once. There is one such attempt at a time, the first of those that
            // were not sent: its number is the last one.
            if batch.is_stamped() {
                state.sequence.take_back();
            }
            let unsent = state.outgoing.remove(place);
            settled.spent.extend(unsent.map(|batch| batch.content));
        }
        let late = state
            .gathering
            .take_if(|gathering| is_late(gathering.times.after_first(timeout)));
        if let Some(gathering) = late {
            let event_count = gathering.event_count();
            let error = timed_out(gathering.times.waited(), false);
            let (promise, content) = gathering.give_up();
            settled.spent.push(content);
            fail(promise, event_count, error, &self.shared, settled);
        }
        let parked = std::mem::take(&mut state.parked);
        for event in parked {
            if is_late(event.ticket.late_at()) {
                let error = timed_out(event.ticket.waited(), false);
                settled.events.push((event.ticket, Err(error)));
                settled.spent_data.push(event.data);
            } else {
                state.parked.push_back(event);
            }
        }
        next
    }
}

/// When a batch gathered for long enough: nothing came for a while, or half of its time is over and the rest is for the answer.
fn due_at(gathering: &Gathering, options: &ProducerOptions) -> Option<Instant> {
    // An adaptive batch goes as soon as it may.
    if options.batch_size == BatchSize::Adaptive || gathering.wanted {
        return None;
    }
    let idle = gathering.times.after_last(options.batch_idle_timeout);
    let half = gathering
        .times
        .after_first(options.delivery_timeout.map(|timeout| timeout / 2));
    idle.into_iter().chain(half).min()
}
