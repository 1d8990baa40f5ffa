//! One partition that a consumer reads.
//!
//! Every subscription has a generation. What came with an older one is ignored: after a loss the partition is
//! subscribed to again at the first event that has not reached the pulls, so nothing is lost and nothing comes twice.
//!
//! A partition that comes back shorter (in memory, or cut by a crash) has other events under the numbers that were
//! delivered: it is read from there on, and the old ones cannot be acknowledged any more.

mod allowance;
mod sink;

use std::sync::{Arc, Mutex, Weak};

use mofka_log::{EventId, PartitionKind};
use mofka_net::control::{
    From as Position, PartitionInfo, Selection, SubscribeRequest, SubscribeResponse, UnsubscribeRequest,
    decode, encode,
};
use mofka_net::{CreditRequest, ErrorCode, FrameHeader, Opcode};

use super::Core;
use super::acknowledge::AckLane;
use super::delivery::Item;
use super::selector::SelectorKind;
use super::strand::Strand;
use crate::driver::Repeat;
use crate::error::{DriverError, PullError};
use crate::link::{Answer, Connection};
use crate::options::{BatchSize, Start};
use crate::promise::{Promise, lock};
use crate::retry::Retry;
use crate::route::Route;
use crate::topic::position;

pub(super) use allowance::Allowance;
use sink::SourceSink;

/// Events of an adaptive feed: bounded by its bytes, not by this.
const ADAPTIVE_EVENTS_MAX: u32 = 1 << 16;

pub(super) struct Source {
    core: Weak<Core>,
    route: Route,
    strand: Strand,
    index: usize,
    state: Mutex<State>,
    me: Weak<Source>,
}

struct State {
    /// Of the partition's life.
    lane: Arc<AckLane>,
    generation: u64,
    live: Option<Subscription>,
    /// Where to begin, when `next` is not known.
    start: Start,
    /// The first event that has not reached the pulls; `None`: where the node says.
    next: Option<EventId>,
    /// The partition had all events before this one.
    known_end: EventId,
    /// It was started anew, and all of its events are new.
    is_anew: bool,
    /// Somebody is about to subscribe, or will try again.
    is_subscribing: bool,
    /// Since when it is not to be had; `None`: it is subscribed to, and what came made sense.
    retry: Option<Retry>,
    /// What came last made no sense: a subscription alone does not end that.
    is_misfed: bool,
    /// Ended, failed, or the consumer is closed.
    is_over: bool,
}

/// What is known of a partition when it is subscribed to: events may come before the answer is looked at.
struct Known {
    next: Option<EventId>,
    end: EventId,
    is_memory: bool,
}

impl Known {
    /// Whether a partition that ends here lost events since it was heard of. What is visible stays so as long as the node lives, and
    /// in a log that is not cut. Who asked for an event that is yet to come waits for it.
    fn is_shorter(&self, visible_end: EventId) -> bool {
        let Some(next) = self.next.filter(|next| *next <= self.end) else {
            return false;
        };
        visible_end < if self.is_memory { self.end } else { next }
    }
}

/// What became of an attempt to subscribe.
#[derive(PartialEq, Eq)]
enum Attempt {
    Over,
    /// The partition lost events: it is begun elsewhere.
    Shorter,
}

/// What the node knows us by.
#[derive(Clone)]
pub(super) struct Subscription {
    connection: Arc<Connection>,
    id: u64,
}

/// Room for one feed, given back to the node when it is dropped: when the last event of the feed was asked for.
pub(super) struct FeedCredit {
    subscription: Subscription,
    allowance: Arc<Allowance>,
}

impl Drop for FeedCredit {
    fn drop(&mut self) {
        let connection = &self.subscription.connection;
        let body = CreditRequest {
            subscription: self.subscription.id,
            credits: 1,
        }
        .encode();
        let header = FrameHeader::request(Opcode::Credit, connection.fresh_id(), &body);
        self.allowance.grant();
        // On a dead connection there is nothing to give back.
        connection.send([header, body]).ok();
    }
}

impl Source {
    pub(super) fn new(core: &Arc<Core>, topic: &str, info: &PartitionInfo, start: Start) -> Arc<Self> {
        let route = || Route::new(Arc::clone(&core.driver), topic, info);
        Arc::new_cyclic(|me| Self {
            core: Arc::downgrade(core),
            route: route(),
            strand: Strand::default(),
            index: info.index as usize,
            state: Mutex::new(State {
                lane: Arc::new(AckLane::new(route(), info.clone(), core.name.clone())),
                generation: 0,
                live: None,
                start,
                next: None,
                known_end: EventId::new(0),
                is_anew: false,
                is_subscribing: true,
                retry: None,
                is_misfed: false,
                is_over: false,
            }),
            me: Weak::clone(me),
        })
    }

    pub(super) fn lane(&self) -> Arc<AckLane> {
        Arc::clone(&lock(&self.state).lane)
    }

    pub(super) fn strand(&self) -> &Strand {
        &self.strand
    }

    pub(super) fn index(&self) -> usize {
        self.index
    }

    pub(super) fn partition(&self) -> uuid::Uuid {
        self.route.partition()
    }

    /// Subscribes for the first time, and waits until that is done.
    pub(super) fn begin(&self) -> Result<(), DriverError> {
        self.route.driver().with_retry(Repeat::Yes, || self.subscribe())
    }

    /// The same in the background, however often it takes.
    pub(super) fn begin_later(&self) {
        let mut state = lock(&self.state);
        state.is_subscribing = false;
        self.subscribe_later(state, "it was added just now");
    }

    /// The next event that is expected; `None` when this generation is over.
    pub(super) fn expected(&self, generation: u64) -> Option<Option<EventId>> {
        let state = lock(&self.state);
        (state.generation == generation && !state.is_over).then_some(state.next)
    }

    /// Hands items over to the pulls. Returns false when this generation is over.
    pub(super) fn deliver(
        &self,
        core: &Core,
        generation: u64,
        items: impl IntoIterator<Item = Item>,
        next: EventId,
    ) -> bool {
        let mut state = lock(&self.state);
        if state.generation != generation || state.is_over {
            return false;
        }
        state.next = Some(next);
        state.known_end = state.known_end.max(next);
        state.all_is_well();
        // Under the lock, so that a new generation begins exactly after these.
        core.delivery.add(items);
        true
    }

    /// The node says that nothing will follow.
    pub(super) fn ended(&self, core: &Core, generation: u64) {
        let mut state = lock(&self.state);
        if state.generation != generation || state.is_over {
            return;
        }
        state.is_over = true;
        let live = state.live.take();
        core.delivery.ended();
        drop(state);
        if let Some(live) = live {
            live.end();
        }
    }

    /// A feed begins here. The first one begins at the cursor, if that is where this began.
    pub(super) fn feeds_from(&self, generation: u64, first: EventId) {
        let state = lock(&self.state);
        if state.generation == generation && state.start == Start::Cursor {
            state.lane.begin_at(first);
        }
    }

    /// The first event that has not reached the pulls, when that is known.
    pub(super) fn next(&self) -> Option<EventId> {
        lock(&self.state).next
    }

    /// Another consumer is to read it: gives back what was not pulled. Returns the first event of that, and a promise that is
    /// kept when the node sends no more.
    pub(super) fn withdraw(&self, core: &Core) -> (Option<EventId>, Option<Arc<Promise<()>>>) {
        let (was_over, live, next) = {
            let mut state = lock(&self.state);
            (
                std::mem::replace(&mut state.is_over, true),
                state.live.take(),
                state.next,
            )
        };
        let withdrawn = core.delivery.withdraw(self.index, !was_over);
        (withdrawn.first.or(next), live.map(|live| live.end()))
    }

    /// Goes on elsewhere: what was not pulled is dropped.
    pub(super) fn seek(&self, core: &Core, to: Start) {
        let (live, withdrawn) = {
            let mut state = lock(&self.state);
            let was_over = std::mem::replace(&mut state.is_over, false);
            state.generation += 1;
            state.next = None;
            state.start = to;
            state.is_anew = false;
            state.all_is_well();
            state.lane.start_anew();
            let live = state.live.take();
            if was_over {
                core.delivery.began();
            }
            let withdrawn = core.delivery.withdraw(self.index, false);
            self.subscribe_later(state, "it was told to go elsewhere");
            (live, withdrawn)
        };
        drop(withdrawn);
        if let Some(live) = live {
            live.end();
        }
    }

    /// What came makes no sense: asks for it again.
    pub(super) fn restart(&self, generation: u64, reason: &str) {
        let mut state = lock(&self.state);
        if state.generation != generation || state.is_over {
            return;
        }
        tracing::warn!(partition = %self.partition(), reason, "subscribing again");
        state.generation += 1;
        state.is_misfed = true;
        let live = state.live.take();
        self.subscribe_later(state, reason);
        if let Some(live) = live {
            live.end();
        }
    }

    /// The consumer is closed: what is to be ended at the node.
    pub(super) fn finish(&self) -> Option<Subscription> {
        let mut state = lock(&self.state);
        state.is_over = true;
        state.live.take()
    }

    /// One attempt, which may block.
    fn subscribe(&self) -> Result<(), DriverError> {
        while self.try_subscribe()? == Attempt::Shorter {}
        Ok(())
    }

    fn try_subscribe(&self) -> Result<Attempt, DriverError> {
        let (Some(core), Some(me)) = (self.core.upgrade(), self.me.upgrade()) else {
            return Ok(Attempt::Over);
        };
        let connection = self.route.establish()?;
        let id = connection.fresh_id();
        let lost = |reason: &str| DriverError::Lost {
            what: "subscribe",
            address: connection.address().to_string(),
            reason: reason.to_owned(),
        };
        let (generation, from, known) = {
            let mut state = lock(&self.state);
            if state.is_over || core.is_closed() {
                // While this waited for its time. Whoever reads it now would be thrown out.
                state.is_subscribing = false;
                return Ok(Attempt::Over);
            }
            state.generation += 1;
            (state.generation, state.from(), state.known())
        };
        let sink = Arc::new(SourceSink {
            source: me,
            generation,
            id,
            allowance: Arc::new(Allowance::new(credits(&core))),
        });
        connection
            .add_sink(id, sink)
            .map_err(|error| lost(&error.reason))?;
        let subscription = Subscription {
            connection: Arc::clone(&connection),
            id,
        };
        let request = self.request(&core, id, from);
        let body = encode("subscribe", &request).map_err(|error| DriverError::Answer {
            what: "subscribe",
            error,
        })?;
        let answer = core
            .driver
            .call(&connection, Opcode::Subscribe, "subscribe", body.into())
            .and_then(|answer| {
                decode("subscribe answer", &answer).map_err(|error| DriverError::Answer {
                    what: "subscribe",
                    error,
                })
            });
        let answer: SubscribeResponse = match answer {
            Ok(answer) => answer,
            Err(error) => {
                connection.remove_sink(id);
                match &error {
                    DriverError::Refused(refused) if refused.code == ErrorCode::NotOwner => {
                        self.route.moved(refused)
                    }
                    DriverError::Lost { .. } => self.route.lost(),
                    _ => {}
                }
                return Err(error);
            }
        };
        let mut state = lock(&self.state);
        if state.generation != generation {
            drop(state);
            // Nobody knows it any more, and the node would feed it for ever.
            subscription.end();
            return Err(lost("the connection ended right after the answer"));
        }
        if state.is_over || core.is_closed() {
            // Who goes elsewhere from here subscribes again.
            state.is_subscribing = false;
            drop(state);
            subscription.end();
            return Ok(Attempt::Over);
        }
        let visible_end = EventId::new(answer.visible_end);
        if known.is_shorter(visible_end) {
            self.begin_life(state, visible_end);
            subscription.end();
            return Ok(Attempt::Shorter);
        }
        state.next.get_or_insert(EventId::new(answer.next_event_id));
        state.known_end = state.known_end.max(visible_end);
        state.live = Some(subscription);
        state.is_subscribing = false;
        // Nothing may come for days: the next loss has all of its time.
        if !state.is_misfed {
            state.retry = None;
        }
        Ok(Attempt::Over)
    }

    /// The last events of the partition are gone: goes on with those that come in their place. Of a log it is not known where it was cut,
    /// but not behind its end.
    fn begin_life(&self, mut state: std::sync::MutexGuard<'_, State>, visible_end: EventId) {
        tracing::warn!(
            partition = %self.partition(),
            expected = ?state.next,
            end = %visible_end,
            "the partition came back with fewer events: those that come in their place are read"
        );
        state.generation += 1;
        state.is_anew = state.is_memory();
        state.next = (!state.is_anew).then_some(visible_end);
        state.known_end = visible_end;
        let successor = Arc::new(state.lane.successor());
        let gone = std::mem::replace(&mut state.lane, successor);
        drop(state);
        gone.retire();
    }

    fn request(&self, core: &Core, id: u64, from: Position) -> SubscribeRequest {
        let options = &core.options;
        SubscribeRequest {
            subscription: id,
            partition: self.partition(),
            consumer: core.name.clone(),
            member: core.membership.member(),
            from,
            batch_events_max: match options.batch_size {
                BatchSize::Adaptive => ADAPTIVE_EVENTS_MAX,
                BatchSize::Fixed(n) => n.get(),
            },
            batch_bytes_max: options.batch_bytes_max.max(1),
            credits: credits(core),
            selection: match &options.data_selector.kind {
                SelectorKind::All if core.local_filter.is_none() => Selection::All,
                SelectorKind::Views(recipe) if core.local_filter.is_none() => {
                    Selection::Views(recipe.clone())
                }
                _ => Selection::None,
            },
            filter: match core.local_filter {
                Some(_) => None,
                None => options.filter.clone(),
            },
        }
    }

    /// Subscribes again after a pause, unless that took too long already.
    fn subscribe_later(&self, mut state: std::sync::MutexGuard<'_, State>, reason: &str) {
        if state.is_subscribing || state.is_over {
            return;
        }
        let retry = state
            .retry
            .get_or_insert_with(|| Retry::new(self.route.driver().reconnect_timeout()));
        let (pause, waited) = (retry.pause(), retry.waited());
        let (Some(pause), Some(me)) = (pause, self.me.upgrade()) else {
            return self.fail(state, &format!("not to be had for {waited:.1?}: {reason}"));
        };
        state.is_subscribing = true;
        drop(state);
        self.route.driver().chores.after(pause, move || {
            let Err(error) = me.subscribe() else { return };
            let mut state = lock(&me.state);
            state.is_subscribing = false;
            if error.is_retriable() {
                me.subscribe_later(state, &error.to_string());
            } else {
                me.fail(state, &error.to_string());
            }
        });
    }

    /// The node gives no more, and all that it gave was taken.
    pub(super) fn gives_no_more(&self, generation: u64, reason: &str) {
        let state = lock(&self.state);
        if state.generation == generation {
            self.fail(state, reason);
        }
    }

    fn fail(&self, mut state: std::sync::MutexGuard<'_, State>, reason: &str) {
        if state.is_over {
            return;
        }
        state.is_over = true;
        drop(state);
        if let Some(core) = self.core.upgrade() {
            core.delivery.failed(PullError::Partition {
                partition: self.index,
                reason: reason.into(),
            });
        }
    }
}

/// Feeds that the node may send before any of them was taken.
fn credits(core: &Core) -> u32 {
    let credits = u32::try_from(core.options.max_num_batches.max(1));
    credits.unwrap_or(u32::MAX).min(1 << 16)
}

impl State {
    /// Where a subscription begins.
    fn from(&self) -> Position {
        match self.next {
            Some(next) => Position::Id(next.get()),
            None if self.is_anew => Position::First,
            None => position(self.start),
        }
    }

    fn known(&self) -> Known {
        Known {
            next: self.next,
            end: self.known_end,
            is_memory: self.is_memory(),
        }
    }

    fn is_memory(&self) -> bool {
        self.lane.info().kind == PartitionKind::Memory
    }

    /// What goes wrong from now on has nothing to do with what did before.
    fn all_is_well(&mut self) {
        self.retry = None;
        self.is_misfed = false;
    }
}

impl Subscription {
    /// The room that a feed takes.
    pub(super) fn credit(connection: &Arc<Connection>, id: u64, allowance: &Arc<Allowance>) -> FeedCredit {
        FeedCredit {
            subscription: Self {
                connection: Arc::clone(connection),
                id,
            },
            allowance: Arc::clone(allowance),
        }
    }

    /// Tells the node that nothing more is wanted; the promise is kept when it answered or is gone.
    pub(super) fn end(&self) -> Arc<Promise<()>> {
        self.connection.remove_sink(self.id);
        let promise = Arc::new(Promise::new());
        let answered = Arc::clone(&promise);
        // The structure has one number in it: it always serializes.
        let body = encode(
            "unsubscribe",
            &UnsubscribeRequest {
                subscription: self.id,
            },
        )
        .unwrap_or_default();
        if self
            .connection
            .request(Opcode::Unsubscribe, body.into(), move |_: Answer| {
                answered.set(())
            })
            .is_err()
        {
            promise.set(());
        }
        promise
    }
}
