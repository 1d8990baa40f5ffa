//! Acknowledgements of one consumer in one partition: one on its way, all later ones gathered into the next.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use mofka_log::EventId;
use mofka_net::control::PartitionInfo;
use mofka_net::shm::this_process;
use mofka_net::{AcknowledgeRequest, AcknowledgeResponse, ErrorCode, Opcode, WireError};

use crate::error::AcknowledgeError;
use crate::future::{Settle, future_methods};
use crate::link::{Answer, Connection};
use crate::promise::{Deadline, Promise, lock, lock_unless_forked};
use crate::retry::Retry;
use crate::route::{Route, RouteError};

type AckPromise = Promise<Result<(), AcknowledgeError>>;

/// See the module. Lives as long as any event of it.
pub(super) struct AckLane {
    route: Route,
    info: PartitionInfo,
    consumer: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Where the durable cursor is known to be.
    durable_end: EventId,
    has_begun: bool,
    /// All before it is acknowledged, or was never for this consumer; `None`: nothing is known yet.
    position: Option<EventId>,
    /// Events that a filter kept away, behind the last one that was delivered.
    skipped: Option<(EventId, EventId)>,
    under_way: Option<Group>,
    waiting: Option<Group>,
    retry: Option<Retry>,
    /// The partition does not have these events any more.
    is_over: bool,
}

/// Acknowledgements that are sent as one.
#[derive(Clone)]
struct Group {
    next_event_id: EventId,
    promise: Arc<AckPromise>,
    /// The cursor may have been moved back since it was sent: its answer says nothing of where that is.
    is_outdated: bool,
}

impl AckLane {
    pub(super) fn new(route: Route, info: PartitionInfo, consumer: String) -> Self {
        Self {
            route,
            info,
            consumer,
            state: Mutex::default(),
        }
    }

    /// For the events that come in the place of these.
    pub(super) fn successor(&self) -> Self {
        let route = self.route.another(&self.info);
        Self::new(route, self.info.clone(), self.consumer.clone())
    }

    pub(super) fn info(&self) -> &PartitionInfo {
        &self.info
    }

    /// A way of its own to the partition, for one who reads data there.
    pub(super) fn fetch_route(&self) -> Route {
        self.route.another(&self.info)
    }

    /// All events before `next_event_id` are done with.
    pub(super) fn acknowledge(lane: &Arc<Self>, next_event_id: EventId) -> AckFuture {
        let maker = lane.route.driver().pid();
        let future = |promise| AckFuture { promise, maker };
        let forked = |pid| future(Arc::new(Promise::settled(Err(AcknowledgeError::Forked { pid }))));
        let mut state = match lock_unless_forked(&lane.state, || lane.route.driver().check_process()) {
            Ok(state) => state,
            Err(pid) => return forked(pid),
        };
        let next_event_id = match state.skipped {
            Some((from, to)) if next_event_id >= from => next_event_id.max(to),
            _ => next_event_id,
        };
        if state.is_over {
            return future(Arc::new(Promise::settled(Err(lane.gone()))));
        }
        state.position = state.position.max(Some(next_event_id));
        if next_event_id <= state.durable_end {
            return future(Arc::new(Promise::settled(Ok(()))));
        }
        let fresh = || Group {
            next_event_id,
            promise: Arc::new(Promise::new()),
            is_outdated: false,
        };
        let group = state.waiting.get_or_insert_with(fresh);
        group.next_event_id = group.next_event_id.max(next_event_id);
        let promise = Arc::clone(&group.promise);
        let begin = state.under_way.is_none();
        if begin {
            if let Err(pid) = lane.route.driver().check_process() {
                return forked(pid);
            }
            state.under_way = state.waiting.take();
        }
        drop(state);
        if begin {
            Self::send(lane);
        }
        future(promise)
    }

    /// The consumer goes on at its cursor, which is here. Only the first call counts.
    pub(super) fn begin_at(&self, next_event_id: EventId) {
        let mut state = lock(&self.state);
        if !std::mem::replace(&mut state.has_begun, true) {
            state.position = state.position.max(Some(next_event_id));
        }
    }

    /// The consumer goes on elsewhere, and its cursor may have been moved back: nothing is known any more.
    pub(super) fn start_anew(&self) {
        let mut state = lock(&self.state);
        let outdated = |group| Group {
            is_outdated: true,
            ..group
        };
        *state = State {
            under_way: state.under_way.take().map(outdated),
            waiting: state.waiting.take(),
            retry: state.retry.take(),
            ..State::default()
        };
    }

    /// The partition came back without these events: their numbers are those of others now, which nobody is to acknowledge by them.
    pub(super) fn retire(&self) {
        let waiting = {
            let mut state = lock(&self.state);
            state.is_over = true;
            state.waiting.take()
        };
        if let Some(group) = waiting {
            group.promise.set(Err(self.gone()));
        }
    }

    fn gone(&self) -> AcknowledgeError {
        let message = format!("partition {} lost its last events, this one too", self.info.index);
        AcknowledgeError::Refused(Arc::new(WireError::new(ErrorCode::UnknownEvent, message)))
    }

    /// A filter kept these events away. They count as acknowledged when all before them are.
    pub(super) fn skip(lane: &Arc<Self>, from: EventId, to: EventId) {
        if from >= to {
            return;
        }
        let skipped = {
            let mut state = lock(&lane.state);
            let from = match state.skipped {
                Some((start, end)) if (start..=end).contains(&from) => start,
                _ => from,
            };
            state.skipped = Some((from, to));
            state.position.filter(|position| (from..to).contains(position))
        };
        if skipped.is_some() {
            Self::acknowledge(lane, to);
        }
    }

    /// Waits until nothing is on its way, or the deadline is over.
    pub(super) fn wait_until_idle(&self, deadline: Deadline) {
        loop {
            let under_way = {
                let state = lock(&self.state);
                let last = state.waiting.as_ref().or(state.under_way.as_ref());
                last.map(|group| Arc::clone(&group.promise))
            };
            match under_way {
                Some(promise) if promise.wait(deadline).is_some() => {}
                _ => return,
            }
        }
    }

    /// Sends the group that is under way, over a connection that is there, or looks for one.
    fn send(lane: &Arc<Self>) {
        match lane.route.alive() {
            Some(connection) => Self::send_over(lane, &connection),
            None => Self::look_for_connection(lane, Duration::ZERO),
        }
    }

    fn look_for_connection(lane: &Arc<Self>, pause: Duration) {
        let me = Arc::clone(lane);
        lane.route
            .driver()
            .chores
            .after(pause, move || match me.route.establish() {
                Ok(connection) => Self::send_over(&me, &connection),
                Err(RouteError::Away(reason)) => Self::later(&me, &reason, None),
                Err(RouteError::Gone(reason)) => {
                    let error = WireError::new(ErrorCode::UnknownPartition, reason);
                    Self::settle(&me, Err(AcknowledgeError::Refused(Arc::new(error))));
                }
            });
    }

    fn send_over(lane: &Arc<Self>, connection: &Arc<Connection>) {
        let (is_over, next_event_id) = {
            let state = lock(&lane.state);
            let group = state.under_way.as_ref();
            (state.is_over, group.map(|group| group.next_event_id))
        };
        if is_over {
            return Self::settle(lane, Err(lane.gone()));
        }
        let Some(next_event_id) = next_event_id else {
            return;
        };
        let request = AcknowledgeRequest {
            partition: lane.info.id,
            next_event_id,
            consumer: lane.consumer.clone(),
        };
        let body = match request.encode() {
            Ok(body) => body,
            Err(error) => return Self::settle(lane, Err(AcknowledgeError::Refused(Arc::new(error.into())))),
        };
        let me = Arc::clone(lane);
        let sent = connection.request(Opcode::Acknowledge, body, move |answer| match answer {
            Answer::Response(body) => Self::answered(&me, &body),
            Answer::Refused(error) => Self::refused(&me, error),
            Answer::Lost(lost) => {
                me.route.lost();
                Self::later(&me, &lost.reason, None);
            }
        });
        if let Err(lost) = sent {
            lane.route.lost();
            Self::later(lane, &lost.reason, None);
        }
    }

    fn answered(lane: &Arc<Self>, body: &Bytes) {
        match AcknowledgeResponse::check(body) {
            Ok(answer) => {
                let mut state = lock(&lane.state);
                if state.under_way.as_ref().is_some_and(|group| !group.is_outdated) {
                    state.durable_end = state.durable_end.max(answer.next_event_id);
                }
                drop(state);
                Self::settle(lane, Ok(()));
            }
            Err(error) => Self::settle(lane, Err(AcknowledgeError::Refused(Arc::new(error.into())))),
        }
    }

    fn refused(lane: &Arc<Self>, error: WireError) {
        if !error.code.is_retriable() {
            return Self::settle(lane, Err(AcknowledgeError::Refused(Arc::new(error))));
        }
        if error.code == ErrorCode::NotOwner {
            lane.route.moved(&error);
        }
        let reason = error.to_string();
        Self::later(lane, &reason, Some(error));
    }

    /// Tries again after a pause, unless that took too long already. It may come twice: cursors only move forward.
    fn later(lane: &Arc<Self>, reason: &str, refusal: Option<WireError>) {
        let mut state = lock(&lane.state);
        let retry = state
            .retry
            .get_or_insert_with(|| Retry::new(lane.route.driver().reconnect_timeout()));
        let (pause, waited) = (retry.pause(), retry.waited());
        drop(state);
        match (pause, refusal) {
            (Some(pause), _) => Self::look_for_connection(lane, pause),
            (None, Some(error)) => Self::settle(lane, Err(AcknowledgeError::Refused(Arc::new(error)))),
            (None, None) => {
                let error = AcknowledgeError::Unreachable {
                    waited,
                    reason: reason.into(),
                };
                Self::settle(lane, Err(error));
            }
        }
    }

    /// Keeps the promise of the group under way, and sends the next.
    fn settle(lane: &Arc<Self>, outcome: Result<(), AcknowledgeError>) {
        let mut state = lock(&lane.state);
        let done = state.under_way.take();
        // Whatever came of it, the next one has all of its time.
        state.retry = None;
        state.under_way = state.waiting.take();
        let is_more = state.under_way.is_some();
        drop(state);
        if let Some(group) = done {
            group.promise.set(outcome);
        }
        if is_more {
            Self::send(lane);
        }
    }
}

/// Completes when an acknowledgement is durable.
#[derive(Clone)]
pub struct AckFuture {
    promise: Arc<AckPromise>,
    /// The process whose threads settle it.
    maker: u32,
}

impl AckFuture {
    /// What there is without waiting: its outcome, or that this is a forked child, where nobody will ever settle it (and somebody may
    /// have held its lock).
    fn known(&self) -> Option<Result<(), AcknowledgeError>> {
        let forked = || {
            let pid = self.maker;
            (this_process() != pid).then_some(Err(AcknowledgeError::Forked { pid }))
        };
        self.promise.get().cloned().or_else(forked)
    }
}

future_methods!(AckFuture, (), AcknowledgeError);

impl Settle for AckFuture {
    type Value = ();
    type Error = AcknowledgeError;

    fn settle(&self, deadline: Deadline) -> Option<Result<(), AcknowledgeError>> {
        self.known().or_else(|| self.promise.wait(deadline).cloned())
    }

    fn settle_or_wake(&self, waker: &std::task::Waker) -> Option<Result<(), AcknowledgeError>> {
        self.known().or_else(|| self.promise.poll(waker).cloned())
    }

    fn is_settled(&self) -> bool {
        self.known().is_some()
    }
}

impl std::fmt::Debug for AckFuture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AckFuture({:?})", self.promise.get())
    }
}
