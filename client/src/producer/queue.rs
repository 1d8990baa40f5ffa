//! The batches of one partition: gathering, sending in order, sending again.
//!
//! ```text
//! push -> gathering -> outgoing (in order; at most max_num_batches) -> answered
//! parked -^            ^ to be sent <-> sent
//! filled in place -----'
//! ```
//!
//! Events of a loose producer are parked while there is no room; whoever pushes to a strict one waits.
//!
//! An outgoing batch keeps its place until its answer came. When the connection is lost, or the node asks for patience,
//! it is *to be sent* again, with the same numbers, so that the node knows it if it has it already. It gets its numbers when it
//! is sent for the first time: one that was not may vanish (`queue/timing.rs`) without leaving a hole. Whatever happens,
//! everything ends in [`Queue::pump`], which does the next thing that can be done.

mod alone;
mod line;
mod losing;
mod room;
mod sourced;
mod timing;

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::sync::atomic::{self, AtomicU64};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mofka_log::EventId;
use mofka_net::{ErrorCode, ProduceResponse, WireError};

use line::Line;
use smallvec::SmallVec;

use super::Shared;
use super::batch::{BatchPromise, Bounds, Content, Gathering, Outgoing, event_bytes, random_producer};
use super::loose::{Placed, Ticket};
use super::patience::Patience;
use super::payload::Payload;
use super::sequence::Sequence;
use super::spares::AtHand;
use crate::data::Data;
use crate::error::{DeliveryError, PushError};
use crate::link::{Answer, Asker, Connection};
use crate::options::{BatchSize, ProducerOptions};
use crate::promise::lock;
use crate::retry::Retry;
use crate::route::Route;

/// What is kept takes memory beside its bytes, which nothing counts: so it has to be worth it.
pub(super) const SHARED_BYTES_FLOOR: usize = 4 << 10;
/// Of batches.
const ONE_EVENT: NonZeroU32 = NonZeroU32::MIN;

pub(super) struct Queue {
    shared: Arc<Shared>,
    route: Route,
    state: Mutex<State>,
    /// An outgoing batch was answered, or everything failed: there may be room.
    room: Condvar,
    /// Grows by as many when that was signalled, and by more than there can be when the queue is closed.
    settled_count: AtomicU64,
    me: Weak<Queue>,
}

struct State {
    /// Events of a loose producer that wait for room.
    parked: VecDeque<Parked>,
    gathering: Option<Gathering>,
    /// For the next ones: what they allocate was used before.
    at_hand: AtHand,
    outgoing: Line,
    next_number: u64,
    sequence: Sequence,
    /// Of the node that the link leads to.
    bounds: Bounds,
    link: Option<Arc<Connection>>,
    /// Threads that wait for room.
    waiting_count: usize,
    /// Those that wait for a place for a batch of their own.
    commits_waiting: usize,
    /// A chore is about to bring a connection.
    is_connecting: bool,
    /// The node asked for patience, and a chore will end it.
    is_patient: bool,
    /// How long things have been going wrong; `None` when the last answer was good.
    retry: Option<Retry>,
    last_trouble: Arc<str>,
    is_closed: bool,
    /// A chore will look whether the gathering batch is due.
    is_gathering_watched: bool,
    /// When a chore will look for what was not acknowledged in time.
    late_at: Option<Instant>,
    /// Of a producer with a source: the first place that may be pushed next.
    place_min: u64,
}

/// An event of a loose producer, ready for its batch.
pub(super) struct Parked {
    pub(super) metadata: Bytes,
    pub(super) data: Data,
    pub(super) ticket: Ticket,
}

/// A promise to be kept, and what became of its batch.
type SettledBatch = (Arc<BatchPromise>, Result<EventId, DeliveryError>);

/// Promises to be kept, and data to be dropped, once the lock is released: whoever waits may do anything, and so may owners of data.
#[derive(Default)]
struct Settled {
    batches: SmallVec<[SettledBatch; 1]>,
    events: Vec<(Ticket, Result<Placed, DeliveryError>)>,
    spent: SmallVec<[Content; 1]>,
    spent_data: Vec<Data>,
    /// An answer is taken: whoever does that has what the connection receives to himself, and nobody else can take answers.
    is_receiving: bool,
}

impl Queue {
    pub(super) fn new(shared: Arc<Shared>, route: Route) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            state: Mutex::new(State {
                parked: VecDeque::new(),
                gathering: None,
                at_hand: AtHand::default(),
                outgoing: Line::default(),
                next_number: 0,
                sequence: match shared.options.source {
                    Some(source) => Sequence::of(source),
                    None => Sequence::new(random_producer()),
                },
                bounds: Bounds::new(&shared.driver.limits(), shared.options.batch_bytes_max),
                link: None,
                waiting_count: 0,
                commits_waiting: 0,
                is_connecting: false,
                is_patient: false,
                retry: None,
                last_trouble: "".into(),
                is_closed: shared.counters.is_closed(),
                is_gathering_watched: false,
                late_at: None,
                place_min: shared.options.source.and_then(|source| source.from).unwrap_or(0),
            }),
            shared,
            route,
            room: Condvar::new(),
            settled_count: AtomicU64::new(0),
            me: Weak::clone(me),
        })
    }

    /// Adds an event, of a producer with a source at this place. Blocks while there is no room.
    pub(super) fn push(
        &self,
        metadata: &[u8],
        data: Payload<'_>,
        place: Option<u64>,
        patience: Patience<'_>,
    ) -> Result<Placed, PushError> {
        let bytes = event_bytes(metadata, data);
        let mut state = self.lock_with_room(bytes, patience)?;
        if state.gathering.is_none() {
            self.shared.check_process()?;
        }
        if let Some(place) = place {
            state.check_place(place)?;
        }
        let placed = self.gather(&mut state, metadata, data, None)?;
        if let Some(place) = place {
            state.note_place(place);
        }
        self.shared.counters.pushed();
        self.pump(state, Settled::default());
        Ok(placed)
    }

    /// Adds an event of a loose producer, now or when there is room.
    pub(super) fn park(&self, event: Parked) {
        let mut state = lock(&self.state);
        self.watch_late(&mut state, event.ticket.late_at());
        state.parked.push_back(event);
        self.pump(state, Settled::default());
    }

    /// Adds an event to the gathering batch, which has room. It was pushed now, if `pushed` does not say when.
    fn gather(
        &self,
        state: &mut State,
        metadata: &[u8],
        data: Payload<'_>,
        pushed: Option<Instant>,
    ) -> Result<Placed, PushError> {
        let bytes = event_bytes(metadata, data);
        state.bounds.check(bytes)?;
        let too_large = state.bounds.too_large(bytes);
        let number = state.next_number;
        let gathering = state.gathering.get_or_insert_with(|| {
            let builder = self.shared.spares.builder(state.at_hand.take());
            Gathering::new(Weak::clone(&self.me), number, builder)
        });
        let is_new = gathering.number == number;
        let shared_bytes_min = match self.shared.options.batch_size {
            // It would be copied into memory of its own.
            BatchSize::Fixed(ONE_EVENT) if data.is_copy() => 1,
            _ => self.shared.options.shared_bytes_min.max(SHARED_BYTES_FLOOR),
        };
        let added = gathering.push(metadata, data, shared_bytes_min);
        let batch = Arc::clone(&gathering.promise);
        let Ok(index) = added else {
            if is_new {
                state.gathering = None;
            }
            return Err(too_large);
        };
        let now = self.now();
        gathering.times.add(pushed.or(now), now);
        let late_at = gathering.times.after_first(self.shared.options.delivery_timeout);
        if is_new {
            state.next_number += 1;
        }
        self.watch_late(state, late_at);
        self.shared
            .counters
            .gathered(metadata.len() as u64 + data.bytes());
        Ok(Placed { batch, index })
    }

    /// Brings parked events into batches, as far as there is room.
    fn gather_parked(&self, state: &mut State, settled: &mut Settled) {
        while let Some(event) = state.parked.front() {
            let bytes = event_bytes(&event.metadata, Payload::Owned(&event.data));
            if !state.make_room(bytes, &self.shared.options) {
                return;
            }
            let Some(event) = state.parked.pop_front() else {
                return;
            };
            let pushed = event.ticket.pushed();
            let placed = self.gather(state, &event.metadata, Payload::Owned(&event.data), pushed);
            if let Some(gathering) = &mut state.gathering {
                gathering.wanted |= event.ticket.is_flushed();
            }
            settled.events.push((event.ticket, placed.map_err(Into::into)));
            settled.spent_data.push(event.data);
        }
    }

    /// That this process made it.
    pub(super) fn check_process(&self) -> Result<(), u32> {
        self.shared.driver.check_process()
    }

    /// The process that made this, if it is another.
    pub(super) fn forked_from(&self) -> Option<u32> {
        self.shared.driver.check_process().err()
    }

    /// The connection that batches were sent on last.
    pub(super) fn link(&self) -> Option<Arc<Connection>> {
        lock(&self.state).link.clone()
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
            self.pump(state, Settled::default());
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
        self.pump(state, Settled::default());
        promises
    }

    /// Refuses further events.
    pub(super) fn close(&self) {
        lock(&self.state).is_closed = true;
        self.tell_closed();
    }

    /// Does whatever can be done now, then keeps the promises of what was settled.
    fn pump(&self, mut state: MutexGuard<'_, State>, settled: Settled) {
        let settled = self.pump_locked(&mut state, settled);
        self.watch_gathering(&mut state);
        // A system call, also when nobody waits.
        let is_awaited = state.waiting_count > 0;
        drop(state);
        // One that was given up before leaves a place, and nobody hears of it any more.
        let settled_count = settled.batches.len().max(settled.spent.len());
        if settled_count > 0 {
            self.settled_count
                .fetch_add(settled_count as u64, atomic::Ordering::Relaxed);
            if is_awaited {
                self.room.notify_all();
            }
        }
        // Places first: whoever is told of an event asks for its batch next.
        for (ticket, outcome) in settled.events {
            ticket.settle(outcome);
        }
        for (promise, outcome) in settled.batches {
            promise.settled.set(outcome);
        }
        // Last: an owner may wait for the very event whose data it had.
        let is_foreign = || {
            settled.spent.iter().any(Content::is_foreign)
                || !settled
                    .spent_data
                    .iter()
                    .all(|data| data.is_copy() || data.is_empty())
        };
        if settled.is_receiving && is_foreign() {
            return self.shared.let_go(settled.spent, settled.spent_data);
        }
        drop(settled.spent_data);
        for content in settled.spent {
            self.shared.spares.keep_content(content);
        }
    }

    fn pump_locked(&self, state: &mut State, mut settled: Settled) -> Settled {
        loop {
            self.gather_parked(state, &mut settled);
            if state.is_patient || state.is_connecting || !state.has_work(self.shared.options.batch_size) {
                break;
            }
            let hole = state.sequence.hole();
            let keeps_number = |batch: &Outgoing| hole.is_none_or(|hole| batch.number < hole);
            if hole.is_some() && !state.outgoing.first().is_some_and(keeps_number) {
                if state.outgoing.sent_count() > 0 {
                    // What is still on its way may have been accepted: wait for the answers.
                    break;
                }
                state.restart_sequence(&self.shared, &mut settled);
                continue;
            }
            if state.outgoing.sent_count()
                >= state
                    .sequence
                    .in_flight_max(self.shared.options.max_num_batches.min(state.bounds.batches_max))
            {
                break;
            }
            let Some(link) = state.link.clone().or_else(|| self.route.alive()) else {
                self.connect(state, Duration::ZERO);
                break;
            };
            self.use_link(state, &link);
            if self.lacks_sources(&link) {
                self.fail_all(state, &sourced::node_is_older(), &mut settled);
                break;
            }
            let keeps = |place: &usize| state.outgoing.get(*place).is_some_and(keeps_number);
            if let Some(place) = state.outgoing.first_unsent().filter(keeps) {
                if !self.send(state, place, &link) {
                    self.trouble(state, "the connection was lost", &mut settled);
                }
                continue;
            }
            if hole.is_some() {
                // Those before it are on their way.
                break;
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
        let (spares, at_hand) = (&self.shared.spares, &mut state.at_hand);
        let memory = |frame_bytes| spares.frame(frame_bytes, at_hand);
        if let Some(spare) = batch.stamp(&mut state.sequence, memory)
            && let Some(large) = state.at_hand.keep(spare)
        {
            spares.keep_builder(large);
        }
        let id = link.fresh_id();
        let durability = self.shared.options.durability;
        let Some(head) = batch.head(id, self.route.partition(), durability) else {
            return true;
        };
        let Some(frame) = batch.frame(&head) else {
            return true;
        };
        let sent = link.request_lent(id, &frame, batch.rest.as_ref(), (me, batch.number));
        if sent.is_err() {
            state.link = None;
            return false;
        }
        self.shared.counters.sent(batch.was_sent);
        state.outgoing.note_sent(place, link);
        true
    }

    /// The answer to a batch.
    fn take_answer(&self, connection: &Arc<Connection>, number: u64, answer: Answer) {
        let mut state = lock(&self.state);
        let Some(place) = state.outgoing.find(number) else {
            return;
        };
        let mut settled = Settled {
            is_receiving: true,
            ..Settled::default()
        };
        let owed = |batch: &Outgoing| batch.is_owed_by(connection);
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
                self.unanswered(&mut state, place, &lost.reason, &mut settled);
                self.disconnected(&mut state, connection, &lost.reason, &mut settled);
            }
        }
        if let Some(reason) = &nonsense {
            self.unanswered(&mut state, place, reason, &mut settled);
            self.disconnected(&mut state, connection, reason, &mut settled);
        }
        self.pump(state, settled);
        if let Some(reason) = nonsense {
            connection.close(&reason);
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
    settled.batches.push((promise, Err(error)));
}

/// The same of a batch that may have been given up before: its events were told.
fn fail_sent(batch: Outgoing, error: DeliveryError, shared: &Shared, settled: &mut Settled) {
    let error = batch.told(error);
    settled.spent.push(batch.content);
    if !batch.is_given_up {
        fail(batch.promise, batch.event_count, error, shared, settled);
    }
}

impl Asker for Queue {
    fn answered(&self, connection: &Arc<Connection>, number: u64, answer: Answer) {
        self.take_answer(connection, number, answer);
    }
}

impl State {
    /// Whether the gathering batch takes an event of this size, or can make way for one that does.
    fn make_room(&mut self, bytes: u64, options: &ProducerOptions) -> bool {
        let takes = |gathering: &Gathering| {
            let has_room = match options.batch_size {
                BatchSize::Fixed(n) => gathering.event_count() < n.get(),
                BatchSize::Adaptive => true,
            };
            has_room && gathering.takes(bytes, &self.bounds)
        };
        let is_first = self.commits_waiting == 0;
        if self.gathering.as_ref().map_or(is_first, takes) {
            return true;
        }
        let may_wait = is_first && self.outgoing.len() < options.max_num_batches.max(1);
        if may_wait {
            self.finish_gathering();
        }
        may_wait
    }

    /// Whether something is to be sent, or what gathered is due.
    fn has_work(&self, batch_size: BatchSize) -> bool {
        let is_due = |gathering: &Gathering| match batch_size {
            BatchSize::Adaptive => gathering.event_count() > 0,
            BatchSize::Fixed(n) => {
                gathering.event_count() >= n.get()
                    || gathering.event_count() > 0 && (gathering.wanted || gathering.is_full(&self.bounds))
            }
        };
        self.gathering.as_ref().is_some_and(is_due) || self.outgoing.has_unsent()
    }

    fn finish_gathering(&mut self) {
        if let Some(gathering) = self.gathering.take() {
            self.outgoing.push(gathering.finish());
        }
    }

    fn accepted(&mut self, place: usize, base: EventId, shared: &Shared, settled: &mut Settled) {
        self.sequence.accepted();
        self.retry = None;
        let Some(mut batch) = self.outgoing.remove(place) else {
            return;
        };
        self.at_hand.keep_frame(&mut batch.content);
        settled.spent.push(batch.content);
        if !batch.is_given_up {
            shared.counters.acknowledged(batch.event_count);
            settled.batches.push((batch.promise, Ok(base)));
        }
    }

    /// Numbers what is left from 0 again, in a new epoch.
    fn restart_sequence(&mut self, shared: &Shared, settled: &mut Settled) {
        self.sequence.restart();
        for mut batch in self.outgoing.take() {
            match batch.restamp(|| self.sequence.next()) {
                Ok(()) => self.outgoing.push(batch),
                // The bytes in memory do not check any more: they must not be sent.
                Err(error) => {
                    let error =
                        WireError::new(ErrorCode::BadChecksum, format!("in the client's memory: {error}"));
                    let error = DeliveryError::Refused(Arc::new(error));
                    fail_sent(batch, error, shared, settled);
                }
            }
        }
    }
}
