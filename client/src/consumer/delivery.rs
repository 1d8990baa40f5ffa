//! Events on their way from the consumer's thread to those who pull.
//!
//! A pull takes a ticket. The n-th ticket that is held and not used belongs to the n-th event that is here: nothing is
//! bound before somebody takes it. So a pull that is dropped, whether or not its event had come, leaves that event to
//! the next one, and order is kept.
//!
//! Credit goes back to the node as soon as there is a pull for every event of a feed, not only when they are taken:
//! an application that makes many pulls and waits for the last one first gets it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::task::Waker;

use mofka_log::EventId;

use super::event::Event;
use super::subscription::FeedCredit;
use crate::driver::DriverCore;
use crate::error::PullError;
use crate::future::{Settle, future_methods};
use crate::promise::{Deadline, lock, lock_unless_forked, wait_on};

/// What a pull gives: `None` when there are no more events.
pub(super) type Pulled = Result<Option<Event>, PullError>;

/// A forked child may find events that its parent had received; it is told after this many pulls, or when it would
/// wait. Looking at each pull would cost more than the pull.
const CHECK_EVERY: u64 = 64;

pub(super) struct Delivery {
    driver: Arc<DriverCore>,
    state: Mutex<State>,
    arrived: Condvar,
}

#[derive(Default)]
struct State {
    items: VecDeque<Item>,
    /// Items that were taken, of all that ever came.
    taken: u64,
    /// What goes back to the node when so many of all items were asked for, ascending.
    credits: VecDeque<(u64, FeedCredit)>,
    /// Threads that sleep until something comes.
    sleepers: usize,
    /// Held and not used, ascending.
    tickets: VecDeque<u64>,
    next_ticket: u64,
    wakers: Vec<Waker>,
    /// Partitions that may still give events.
    live: usize,
    /// More partitions may come.
    is_following: bool,
    /// Why the last partition gave up, if one did.
    fault: Option<PullError>,
    is_closed: bool,
}

/// An event, or why there is none in its place.
pub(super) type Item = Result<Event, PullError>;

/// What was not pulled of a partition. To be dropped without a lock: the events' memory may be the application's, and credit is sent.
pub(super) struct Withdrawn {
    pub(super) first: Option<EventId>,
    _items: Vec<Item>,
    _credits: VecDeque<FeedCredit>,
}

impl Delivery {
    pub(super) fn new(driver: Arc<DriverCore>, live: usize, is_following: bool) -> Self {
        Self {
            driver,
            state: Mutex::new(State {
                live,
                is_following,
                ..State::default()
            }),
            arrived: Condvar::new(),
        }
    }

    pub(super) fn pull(this: &Arc<Self>) -> PullFuture {
        let forked = |pid| OnceLock::from(Err(PullError::Forked { pid }));
        let (ticket, credits, taken) = match lock_unless_forked(&this.state, || this.driver.check_process()) {
            Ok(mut state) => {
                let (ticket, credits) = state.take_ticket();
                (ticket, credits, OnceLock::new())
            }
            Err(pid) => (u64::MAX, VecDeque::new(), forked(pid)),
        };
        let taken = match ticket
            .is_multiple_of(CHECK_EVERY)
            .then(|| this.driver.check_process())
        {
            Some(Err(pid)) => forked(pid),
            _ => taken,
        };
        // Sends it, if this was the last event of a feed: not under the lock.
        drop(credits);
        PullFuture {
            delivery: Arc::clone(this),
            ticket,
            taken,
        }
    }

    /// Adds events.
    pub(super) fn add(&self, items: impl IntoIterator<Item = Item>) {
        self.change(|state| state.items.extend(items));
    }

    /// Gives the credit back when all events that are here by now were asked for.
    pub(super) fn give_back(&self, credit: FeedCredit) {
        let mut state = lock(&self.state);
        let end = state.taken + state.items.len() as u64;
        state.credits.push_back((end, credit));
        let due = state.due();
        drop(state);
        drop(due);
    }

    /// A partition was added.
    pub(super) fn began(&self) {
        lock(&self.state).live += 1;
    }

    /// No partition will be added.
    pub(super) fn unfollow(&self) {
        self.change(|state| state.is_following = false);
    }

    /// Takes a partition back: events of it that were not pulled are left to the next consumer that reads it.
    pub(super) fn withdraw(&self, partition: usize, was_live: bool) -> Withdrawn {
        let mut first = None;
        let mut dropped = Vec::new();
        let mut due = VecDeque::new();
        self.change(|state| {
            if was_live {
                state.live = state.live.saturating_sub(1);
            }
            let taken = state.taken;
            let mut kept = VecDeque::with_capacity(state.items.len());
            // How many are left of the first n items.
            let mut kept_counts = vec![0_u64];
            for item in state.items.drain(..) {
                match &item {
                    Ok(event) if event.partition() == partition => {
                        first = first.or(Some(event.id()));
                        dropped.push(item);
                    }
                    _ => kept.push_back(item),
                }
                kept_counts.push(kept.len() as u64);
            }
            state.items = kept;
            for (end, _) in &mut state.credits {
                let place = usize::try_from(end.saturating_sub(taken)).unwrap_or(usize::MAX);
                let kept_count = kept_counts.get(place).or(kept_counts.last());
                *end = taken + kept_count.copied().unwrap_or(0);
            }
            due = state.due();
        });
        Withdrawn {
            first,
            _items: dropped,
            _credits: due,
        }
    }

    /// The first event of each partition that was not pulled.
    pub(super) fn pending(&self) -> HashMap<usize, EventId> {
        let state = lock(&self.state);
        let mut pending = HashMap::new();
        for event in state.items.iter().flatten() {
            pending.entry(event.partition()).or_insert_with(|| event.id());
        }
        pending
    }

    /// Nobody will ever say what else is to be read.
    pub(super) fn gave_up(&self, error: PullError) {
        self.change(|state| {
            state.is_following = false;
            state.fault.get_or_insert(error);
        });
    }

    /// A partition has given all of its events.
    pub(super) fn ended(&self) {
        self.change(|state| state.live = state.live.saturating_sub(1));
    }

    /// A partition gives no more, though it might have them.
    pub(super) fn failed(&self, error: PullError) {
        self.change(|state| {
            state.live = state.live.saturating_sub(1);
            state.fault = Some(error.clone());
            // With others alive this is told once, and then they go on.
            if state.live > 0 {
                state.items.push_back(Err(error));
            }
        });
    }

    /// Whether nothing will ever come.
    pub(super) fn is_exhausted(&self) -> bool {
        let state = lock(&self.state);
        state.is_over() && state.items.is_empty()
    }

    /// Gives back all that was not taken; every pull fails.
    pub(super) fn close(&self) {
        let mut dropped = (VecDeque::new(), VecDeque::new());
        self.change(|state| {
            state.is_closed = true;
            dropped = (
                std::mem::take(&mut state.items),
                std::mem::take(&mut state.credits),
            );
        });
        drop(dropped);
    }

    /// Lets those who wait look again.
    pub(super) fn wake(&self) {
        self.change(|_| ());
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = lock(&self.state);
        change(&mut state);
        let wakers = std::mem::take(&mut state.wakers);
        let is_awaited = state.sleepers > 0;
        drop(state);
        // A system call, also when nobody sleeps.
        if is_awaited {
            self.arrived.notify_all();
        }
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl State {
    /// Whether nothing will be added.
    fn is_over(&self) -> bool {
        self.live == 0 && (!self.is_following || self.fault.is_some())
    }

    /// The credits are for the caller to drop without the lock.
    fn take_ticket(&mut self) -> (u64, VecDeque<FeedCredit>) {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.tickets.push_back(ticket);
        (ticket, self.due())
    }

    /// Credits of feeds all of whose events were asked for: taken, or waited for by a pull.
    fn due(&mut self) -> VecDeque<FeedCredit> {
        let asked_for = self.taken + self.tickets.len() as u64;
        let mut due = VecDeque::new();
        while let Some((end, _)) = self.credits.front()
            && *end <= asked_for
        {
            due.extend(self.credits.pop_front().map(|(_, credit)| credit));
        }
        due
    }

    /// What belongs to a ticket now; the ticket is used then.
    fn take(&mut self, ticket: u64) -> Option<Pulled> {
        // Most pulls are waited for in their order.
        let place = match self.tickets.front() {
            Some(front) if *front == ticket => 0,
            _ => self.tickets.binary_search(&ticket).ok()?,
        };
        let pulled = if self.is_closed {
            Err(PullError::Closed)
        } else if let Some(item) = self.items.remove(place) {
            self.taken += 1;
            item.map(Some)
        } else if self.is_over() {
            self.fault.clone().map_or(Ok(None), Err)
        } else {
            return None;
        };
        self.tickets.remove(place);
        Some(pulled)
    }

    fn wake(&mut self, waker: &Waker) {
        if !self.wakers.iter().any(|known| known.will_wake(waker)) {
            self.wakers.push(waker.clone());
        }
    }

    fn has(&self, ticket: u64) -> bool {
        let place = self.tickets.binary_search(&ticket);
        place.is_ok_and(|place| self.is_closed || self.is_over() || place < self.items.len())
    }
}

/// The next event. `None` inside: there are no more, because the topic is complete and all of it was pulled.
///
/// An event belongs to a pull only once it was waited for with success: dropping the future at any time before leaves
/// it to the next pull.
pub struct PullFuture {
    delivery: Arc<Delivery>,
    ticket: u64,
    taken: OnceLock<Pulled>,
}

future_methods!(PullFuture, Option<Event>, PullError);

impl PullFuture {
    /// Waits, also no longer than until `is_stopped`. Whoever stops it calls [`Delivery::wake`].
    pub(super) fn settle_unless(&self, deadline: Deadline, is_stopped: impl Fn() -> bool) -> Option<Pulled> {
        self.take(|mut state| {
            if deadline.is_over() || is_stopped() {
                return None;
            }
            state.sleepers += 1;
            let mut state = wait_on(&self.delivery.arrived, state, deadline);
            state.sleepers -= 1;
            Some(state)
        })
    }

    fn forked(&self) -> Option<Pulled> {
        self.delivery
            .driver
            .check_process()
            .err()
            .map(|pid| Err(PullError::Forked { pid }))
    }

    /// Takes what is there, under the lock; otherwise calls `wait`, which says whether to look again.
    fn take(
        &self,
        mut wait: impl for<'a> FnMut(std::sync::MutexGuard<'a, State>) -> Option<std::sync::MutexGuard<'a, State>>,
    ) -> Option<Pulled> {
        if let Some(taken) = self.taken.get() {
            return Some(taken.clone());
        }
        let mut is_checked = false;
        let mut state =
            match lock_unless_forked(&self.delivery.state, || self.delivery.driver.check_process()) {
                Ok(state) => state,
                Err(pid) => return Some(Err(PullError::Forked { pid })),
            };
        loop {
            // Another thread may have waited with this very future.
            if let Some(taken) = self.taken.get() {
                return Some(taken.clone());
            }
            if let Some(pulled) = state.take(self.ticket) {
                return Some(self.taken.get_or_init(|| pulled).clone());
            }
            if !is_checked && let Some(forked) = self.forked() {
                return Some(forked);
            }
            is_checked = true;
            state = wait(state)?;
        }
    }
}

impl Settle for PullFuture {
    type Value = Option<Event>;
    type Error = PullError;

    fn settle(&self, deadline: Deadline) -> Option<Pulled> {
        self.settle_unless(deadline, || false)
    }

    fn settle_or_wake(&self, waker: &Waker) -> Option<Pulled> {
        self.take(|mut state| {
            state.wake(waker);
            None
        })
    }

    /// What is there is left to whoever waits, or, if that is nobody, to the next pull.
    fn is_settled_or_wake(&self, waker: &Waker) -> bool {
        if self.is_settled() || self.forked().is_some() {
            return true;
        }
        let mut state = lock(&self.delivery.state);
        // Another thread may have waited with this very future.
        let is_settled = self.taken.get().is_some() || state.has(self.ticket);
        if !is_settled {
            state.wake(waker);
        }
        is_settled
    }

    fn is_settled(&self) -> bool {
        self.taken.get().is_some()
            || match lock_unless_forked(&self.delivery.state, || self.delivery.driver.check_process()) {
                Ok(state) => state.has(self.ticket),
                Err(_forked) => true,
            }
    }
}

impl Drop for PullFuture {
    fn drop(&mut self) {
        if self.taken.get().is_some() || self.forked().is_some() {
            return;
        }
        self.delivery.change(|state| {
            if let Ok(place) = state.tickets.binary_search(&self.ticket) {
                state.tickets.remove(place);
            }
        });
    }
}

impl std::fmt::Debug for PullFuture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PullFuture({:?})", self.taken.get())
    }
}
