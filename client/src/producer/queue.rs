//! The batches of one partition: gathering, sending in order, sending again.
//!
//! ```text
//! push -> gathering -> outgoing (in order; at most max_num_batches) -> answered
//!                      to be sent <-> sent
//! ```
//!
//! An outgoing batch keeps its place until its answer came. When the connection is lost, or the node asks for patience,
//! it is *to be sent* again, with the same numbers, so that the node knows it if it has it already. Whatever happens,
//! everything ends in [`Queue::pump`], which does the next thing that can be done.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Weak};
use std::time::Duration;

use mofka_log::EventId;
use mofka_net::{ErrorCode, ProduceResponse, WireError};

use super::Shared;
use super::batch::{
    AROUND_EVENTS_BYTES, BatchPromise, Bounds, Gathering, Outgoing, event_bytes, random_producer,
};
use super::sequence::Sequence;
use crate::data::Data;
use crate::error::{DeliveryError, PushError};
use crate::link::{Answer, Connection};
use crate::options::BatchSize;
use crate::promise::{Deadline, lock, lock_unless_forked, wait_on};
use crate::retry::Retry;
use crate::route::{Route, RouteError};

pub(super) struct Queue {
    shared: Arc<Shared>,
    route: Route,
    state: Mutex<State>,
    /// An outgoing batch was answered, or everything failed: there may be room.
    room: Condvar,
    me: Weak<Queue>,
}

struct State {
    gathering: Option<Gathering>,
    outgoing: VecDeque<Outgoing>,
    next_number: u64,
    sequence: Sequence,
    /// Of the node that the link leads to.
    bounds: Bounds,
    link: Option<Arc<Connection>>,
    /// A chore is about to bring a connection.
    is_connecting: bool,
    /// The node asked for patience, and a chore will end it.
    is_patient: bool,
    /// How long things have been going wrong; `None` when the last answer was good.
    retry: Option<Retry>,
    last_trouble: Arc<str>,
    is_closed: bool,
}

/// Promises to be kept once the lock is released: whoever waits may do anything.
type Settled = Vec<(Arc<BatchPromise>, Result<EventId, DeliveryError>)>;

impl Queue {
    pub(super) fn new(shared: Arc<Shared>, route: Route) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            state: Mutex::new(State {
                gathering: None,
                outgoing: VecDeque::new(),
                next_number: 0,
                sequence: Sequence::new(random_producer()),
                bounds: Bounds::new(&shared.driver.limits(), shared.options.batch_bytes_max),
                link: None,
                is_connecting: false,
                is_patient: false,
                retry: None,
                last_trouble: "".into(),
                is_closed: shared.counters.is_closed(),
            }),
            shared,
            route,
            room: Condvar::new(),
            me: Weak::clone(me),
        })
    }

    /// Adds an event; returns its batch and its place there. Blocks while there is no room.
    pub(super) fn push(&self, metadata: &[u8], data: &Data) -> Result<(Arc<BatchPromise>, u32), PushError> {
        let bytes = event_bytes(metadata, data);
        let mut state = self.lock_with_room(bytes)?;
        let max = state.bounds.event_bytes_max();
        let too_large = PushError::TooLarge { bytes, max };
        if bytes.saturating_add(AROUND_EVENTS_BYTES) > max {
            return Err(too_large);
        }
        if state.gathering.is_none() {
            self.check_process()?;
        }
        let number = state.next_number;
        let gathering = state
            .gathering
            .get_or_insert_with(|| Gathering::new(Weak::clone(&self.me), number));
        let is_new = gathering.number == number;
        let pushed = gathering.push(metadata, data);
        let promise = Arc::clone(&gathering.promise);
        let Ok(index) = pushed else {
            if is_new {
                state.gathering = None;
            }
            return Err(too_large);
        };
        if is_new {
            state.next_number += 1;
        }
        self.shared.counters.pushed(metadata.len() as u64 + data.bytes());
        self.pump(state, Vec::new());
        Ok((promise, index))
    }

    /// Waits until the gathering batch, or a new one, takes an event of this size.
    fn lock_with_room(&self, bytes: u64) -> Result<MutexGuard<'_, State>, PushError> {
        let bound = self.shared.options.max_num_batches.max(1);
        let mut state = lock_unless_forked(&self.state, || self.check_process())?;
        loop {
            if state.is_closed {
                return Err(PushError::Closed);
            }
            let takes = |gathering: &Gathering| {
                let has_room = match self.shared.options.batch_size {
                    BatchSize::Fixed(n) => gathering.event_count() < n.get(),
                    BatchSize::Adaptive => true,
                };
                has_room && gathering.takes(bytes, &state.bounds)
            };
            if state.gathering.as_ref().is_none_or(takes) {
                return Ok(state);
            }
            if state.outgoing.len() < bound {
                state.finish_gathering();
                return Ok(state);
            }
            self.check_process()?;
            state = wait_on(&self.room, state, Deadline::Never);
        }
    }

    fn check_process(&self) -> Result<(), PushError> {
        self.shared
            .driver
            .check_process()
            .map_err(|pid| PushError::Forked { pid })
    }

    /// The process that made this, if it is another.
    pub(super) fn forked_from(&self) -> Option<u32> {
        self.shared.driver.check_process().err()
    }

    /// Somebody waits for this batch.
    pub(super) fn send_now(&self, number: u64) {
        let mut state = lock(&self.state);
        if let Some(gathering) = state
            .gathering
            .as_mut()
            .filter(|gathering| gathering.number == number && !gathering.wanted)
        {
            gathering.wanted = true;
            self.pump(state, Vec::new());
        }
    }

    /// Lets everything be sent; returns what is not answered yet.
    pub(super) fn flush(&self) -> Vec<Arc<BatchPromise>> {
        let mut state = lock(&self.state);
        let mut promises: Vec<_> = state
            .outgoing
            .iter()
            .map(|batch| Arc::clone(&batch.promise))
            .collect();
        if let Some(gathering) = &mut state.gathering {
            gathering.wanted = true;
            promises.push(Arc::clone(&gathering.promise));
        }
        self.pump(state, Vec::new());
        promises
    }

    /// Refuses further events.
    pub(super) fn close(&self) {
        lock(&self.state).is_closed = true;
        self.room.notify_all();
    }

    /// Does whatever can be done now, then keeps the promises of what was settled.
    fn pump(&self, mut state: MutexGuard<'_, State>, settled: Settled) {
        let settled = self.pump_locked(&mut state, settled);
        drop(state);
        if !settled.is_empty() {
            self.room.notify_all();
        }
        for (promise, outcome) in settled {
            promise.settled.set(outcome);
        }
    }

    fn pump_locked(&self, state: &mut State, mut settled: Settled) -> Settled {
        while state.has_work(self.shared.options.batch_size) && !state.is_patient && !state.is_connecting {
            if state.sequence.is_broken() {
                if state.sent_count() > 0 {
                    // What is still on its way may have been accepted: wait for the answers.
                    break;
                }
                state.restart_sequence(&self.shared, &mut settled);
                continue;
            }
            if state.sent_count() >= state.sequence.in_flight_max(self.shared.options.max_num_batches) {
                break;
            }
            let Some(link) = state.link.clone().or_else(|| self.route.alive()) else {
                self.connect(state, Duration::ZERO);
                break;
            };
            self.use_link(state, &link);
            if let Some(place) = state.outgoing.iter().position(|batch| batch.sent_on.is_none()) {
                if !self.send(state, place, &link) {
                    self.trouble(state, "the connection was lost", &mut settled);
                }
                continue;
            }
            // Nothing is left to be sent, so what gathered may go.
            state.finish_gathering();
        }
        settled
    }

    fn use_link(&self, state: &mut State, link: &Arc<Connection>) {
        if state.link.is_none() {
            state.bounds = Bounds::new(link.limits(), self.shared.options.batch_bytes_max);
            state.link = Some(Arc::clone(link));
        }
    }

    /// Sends one batch. Returns false when the connection is dead.
    fn send(&self, state: &mut State, place: usize, link: &Arc<Connection>) -> bool {
        let (Some(me), Some(batch)) = (self.me.upgrade(), state.outgoing.get_mut(place)) else {
            return true;
        };
        let id = link.fresh_id();
        let frame = batch.to_frame(id, self.route.partition(), self.shared.options.durability);
        let (number, connection) = (batch.number, Arc::clone(link));
        let sent = link.request_frame(id, frame, move |answer| me.answered(&connection, number, answer));
        if sent.is_err() {
            state.link = None;
            return false;
        }
        self.shared.counters.sent(batch.was_sent);
        batch.sent_on = Some(Arc::clone(link));
        batch.was_sent = true;
        true
    }

    /// The answer to a batch, on the connection's reader thread.
    fn answered(&self, connection: &Arc<Connection>, number: u64, answer: Answer) {
        let mut state = lock(&self.state);
        let Some(place) = state.outgoing.iter().position(|batch| batch.number == number) else {
            return;
        };
        let mut settled = Vec::new();
        let owed = |batch: &Outgoing| {
            batch
                .sent_on
                .as_ref()
                .is_some_and(|sent| Arc::ptr_eq(sent, connection))
        };
        let is_owed = state.outgoing.get(place).is_some_and(owed);
        let mut nonsense = None;
        match answer {
            Answer::Response(body) => match ProduceResponse::check(body) {
                Ok(accepted)
                    if state
                        .outgoing
                        .get(place)
                        .is_some_and(|it| it.event_count == accepted.event_count) =>
                {
                    state.accepted(place, accepted.base_event_id, &self.shared, &mut settled);
                }
                Ok(other) => {
                    nonsense = Some(format!(
                        "a batch was answered as if it had {} events",
                        other.event_count
                    ))
                }
                Err(error) => nonsense = Some(error.to_string()),
            },
            // From a connection that was given up already: its successor has been asked.
            Answer::Refused(_) | Answer::Lost(_) if !is_owed => {}
            Answer::Refused(error) => self.refused(&mut state, connection, place, error, &mut settled),
            Answer::Lost(lost) => {
                state.send_again(place);
                self.disconnected(&mut state, connection, &lost.reason, &mut settled);
            }
        }
        if let Some(reason) = &nonsense {
            state.send_again(place);
            self.disconnected(&mut state, connection, reason, &mut settled);
        }
        self.pump(state, settled);
        if let Some(reason) = nonsense {
            connection.close(&reason);
        }
    }

    fn refused(
        &self,
        state: &mut State,
        connection: &Arc<Connection>,
        place: usize,
        error: WireError,
        settled: &mut Settled,
    ) {
        match error.code {
            ErrorCode::ShuttingDown | ErrorCode::Overloaded | ErrorCode::NoSpace => {
                state.send_again(place);
                self.be_patient(state, error, settled);
            }
            ErrorCode::NotOwner => {
                state.send_again(place);
                self.route.moved(&error);
                self.forget(state, connection);
                self.trouble(state, &error.to_string(), settled);
            }
            // One before it was not accepted, and will be sent again first.
            ErrorCode::SequenceGap | ErrorCode::UnknownProducer if place > 0 => state.send_again(place),
            // The node lost what it had accepted from us (which is how weaker durabilities end), or forgot us: this
            // batch is not there. A node only forgets a producer after thousands of others were busier.
            ErrorCode::SequenceGap | ErrorCode::UnknownProducer if state.sequence.unknown() => {
                state.send_again(place);
            }
            _ => {
                state.sequence.broken();
                let error = DeliveryError::Refused(Arc::new(error));
                if let Some(batch) = state.outgoing.remove(place) {
                    fail(batch.promise, batch.event_count, error, &self.shared, settled);
                }
            }
        }
    }

    /// Lets the node have a pause, unless it had enough of them.
    fn be_patient(&self, state: &mut State, error: WireError, settled: &mut Settled) {
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
                    me.pump(state, Vec::new());
                });
            }
            _ => self.fail_all(state, &DeliveryError::Refused(Arc::new(error)), settled),
        }
    }

    fn disconnected(
        &self,
        state: &mut State,
        connection: &Arc<Connection>,
        reason: &str,
        settled: &mut Settled,
    ) {
        self.forget(state, connection);
        self.trouble(state, reason, settled);
    }

    fn forget(&self, state: &mut State, connection: &Arc<Connection>) {
        if state
            .link
            .as_ref()
            .is_some_and(|link| Arc::ptr_eq(link, connection))
        {
            state.link = None;
        }
    }

    /// Without a connection: looks for one after a pause, unless that took too long already.
    fn trouble(&self, state: &mut State, reason: &str, settled: &mut Settled) {
        if state.link.is_some() || state.is_connecting {
            return;
        }
        state.last_trouble = reason.into();
        if state.outgoing.is_empty() && state.gathering.is_none() {
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
    fn connect(&self, state: &mut State, pause: Duration) {
        let Some(me) = self.me.upgrade() else { return };
        state.is_connecting = true;
        self.shared.driver.chores.after(pause, move || {
            let outcome = me.route.establish();
            let mut state = lock(&me.state);
            let mut settled = Vec::new();
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

    /// Gives up everything. What is pushed later gets a new chance.
    fn fail_all(&self, state: &mut State, error: &DeliveryError, settled: &mut Settled) {
        state.retry = None;
        state.sequence.broken();
        for batch in state.outgoing.drain(..) {
            let error = match error {
                DeliveryError::Unreachable { waited, reason, .. } => DeliveryError::Unreachable {
                    waited: *waited,
                    may_be_stored: batch.was_sent,
                    reason: Arc::clone(reason),
                },
                other => other.clone(),
            };
            fail(batch.promise, batch.event_count, error, &self.shared, settled);
        }
        if let Some(gathering) = state.gathering.take() {
            let event_count = gathering.event_count();
            fail(
                gathering.promise,
                event_count,
                error.clone(),
                &self.shared,
                settled,
            );
        }
    }
}

fn fail(
    promise: Arc<BatchPromise>,
    event_count: u32,
    error: DeliveryError,
    shared: &Shared,
    settled: &mut Settled,
) {
    shared.counters.failed(event_count, &error);
    settled.push((promise, Err(error)));
}

impl State {
    /// Whether something is to be sent, or what gathered is due.
    fn has_work(&self, batch_size: BatchSize) -> bool {
        let is_due = |gathering: &Gathering| match batch_size {
            BatchSize::Adaptive => gathering.event_count() > 0,
            BatchSize::Fixed(n) => {
                gathering.event_count() >= n.get()
                    || gathering.event_count() > 0 && (gathering.wanted || gathering.is_full(&self.bounds))
            }
        };
        self.gathering.as_ref().is_some_and(is_due)
            || self.outgoing.iter().any(|batch| batch.sent_on.is_none())
    }

    /// Batches whose answer is owed.
    fn sent_count(&self) -> usize {
        self.outgoing
            .iter()
            .filter(|batch| batch.sent_on.is_some())
            .count()
    }

    fn finish_gathering(&mut self) {
        if let Some(gathering) = self.gathering.take() {
            let stamp = self.sequence.next();
            self.outgoing.push_back(gathering.finish(stamp));
        }
    }

    fn send_again(&mut self, place: usize) {
        if let Some(batch) = self.outgoing.get_mut(place) {
            batch.sent_on = None;
        }
    }

    fn accepted(&mut self, place: usize, base: EventId, shared: &Shared, settled: &mut Settled) {
        self.sequence.accepted();
        self.retry = None;
        if let Some(batch) = self.outgoing.remove(place) {
            shared.counters.acknowledged(batch.event_count);
            settled.push((batch.promise, Ok(base)));
        }
    }

    /// Numbers what is left from 0 again, in a new epoch.
    fn restart_sequence(&mut self, shared: &Shared, settled: &mut Settled) {
        self.sequence.restart();
        let batches = std::mem::take(&mut self.outgoing);
        for mut batch in batches {
            match batch.restamp(self.sequence.next()) {
                Ok(()) => self.outgoing.push_back(batch),
                // The bytes in memory do not check any more: they must not be sent.
                Err(error) => {
                    let error =
                        WireError::new(ErrorCode::BadChecksum, format!("in the client's memory: {error}"));
                    let error = DeliveryError::Refused(Arc::new(error));
                    fail(batch.promise, batch.event_count, error, shared, settled);
                    self.sequence.broken();
                }
            }
        }
    }
}
