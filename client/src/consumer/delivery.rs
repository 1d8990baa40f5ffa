//! Events on their way from the consumer's thread to those who pull.
//!
//! A pull takes a ticket. The n-th ticket that is held and not used belongs to the n-th event that is here: nothing is
//! bound before somebody takes it. So a pull that is dropped, whether or not its event had come, leaves that event to
//! the next one, and order is kept.
//!
//! Credit goes back to the node as soon as there is a pull for every event of a feed, not only when they are taken:
//! an application that makes many pulls and waits for the last one first gets it.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::task::Waker;

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
    /// Held and not used, ascending.
    tickets: VecDeque<u64>,
    next_ticket: u64,
    wakers: Vec<Waker>,
    /// Partitions that may still give events.
    live: usize,
    /// Why the last partition gave up, if one did.
    fault: Option<PullError>,
    is_closed: bool,
}

/// An event, or why there is none in its place.
pub(super) struct Item {
    pub(super) outcome: Result<Event, PullError>,
    /// Goes back to the node when all items of the feed were asked for.
    pub(super) credit: Option<Arc<FeedCredit>>,
}

impl Delivery {
    pub(super) fn new(driver: Arc<DriverCore>, live: usize) -> Self {
        Self {
            driver,
            state: Mutex::new(State {
                live,
                ..State::default()
            }),
            arrived: Condvar::new(),
        }
    }

    pub(super) fn pull(this: &Arc<Self>) -> PullFuture {
        let forked = |pid| OnceLock::from(Err(PullError::Forked { pid }));
        let (ticket, credit, taken) = match lock_unless_forked(&this.state, || this.driver.check_process()) {
            Ok(mut state) => {
                let (ticket, credit) = state.take_ticket();
                (ticket, credit, OnceLock::new())
            }
            Err(pid) => (u64::MAX, None, forked(pid)),
        };
        let taken = match ticket
            .is_multiple_of(CHECK_EVERY)
            .then(|| this.driver.check_process())
        {
            Some(Err(pid)) => forked(pid),
            _ => taken,
        };
        // Sends it, if it was the feed's last: not under the lock.
        drop(credit);
        PullFuture {
            delivery: Arc::clone(this),
            ticket,
            taken,
        }
    }

    /// Adds events.
    pub(super) fn add(&self, items: impl IntoIterator<Item = Item>) {
        let mut credits = Vec::new();
        self.change(|state| {
            let begin = state.items.len();
            state.items.extend(items);
            let asked_for = state.tickets.len().saturating_sub(begin);
            credits.extend(
                state
                    .items
                    .iter_mut()
                    .skip(begin)
                    .take(asked_for)
                    .map(|item| item.credit.take()),
            );
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
                state.items.push_back(Item {
                    outcome: Err(error),
                    credit: None,
                });
            }
        });
    }

    /// Whether nothing will ever come.
    pub(super) fn is_exhausted(&self) -> bool {
        let state = lock(&self.state);
        state.live == 0 && state.items.is_empty()
    }

    /// Gives back all that was not taken; every pull fails.
    pub(super) fn close(&self) {
        let mut dropped = VecDeque::new();
        self.change(|state| {
            state.is_closed = true;
            std::mem::swap(&mut state.items, &mut dropped);
        });
        drop(dropped);
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = lock(&self.state);
        change(&mut state);
        let wakers = std::mem::take(&mut state.wakers);
        drop(state);
        self.wake(wakers);
    }

    fn wake(&self, wakers: Vec<Waker>) {
        self.arrived.notify_all();
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl State {
    /// Also gives the credit of the event that was asked for, if it is here.
    fn take_ticket(&mut self) -> (u64, Option<Arc<FeedCredit>>) {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let credit = self
            .items
            .get_mut(self.tickets.len())
            .and_then(|item| item.credit.take());
        self.tickets.push_back(ticket);
        (ticket, credit)
    }

    /// What belongs to a ticket now; the ticket is used then. The credit is for the caller to drop without the lock.
    fn take(&mut self, ticket: u64) -> Option<(Pulled, Option<Arc<FeedCredit>>)> {
        let place = self.tickets.binary_search(&ticket).ok()?;
        let pulled = if self.is_closed {
            (Err(PullError::Closed), None)
        } else if let Some(item) = self.items.remove(place) {
            (item.outcome.map(Some), item.credit)
        } else if self.live == 0 {
            (self.fault.clone().map_or(Ok(None), Err), None)
        } else {
            return None;
        };
        self.tickets.remove(place);
        Some(pulled)
    }

    fn has(&self, ticket: u64) -> bool {
        let place = self.tickets.binary_search(&ticket);
        place.is_ok_and(|place| self.is_closed || self.live == 0 || place < self.items.len())
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
            if let Some((pulled, credit)) = state.take(self.ticket) {
                let pulled = self.taken.get_or_init(|| pulled).clone();
                drop(state);
                // Sends the credit, if it was the feed's last.
                drop(credit);
                return Some(pulled);
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
        self.take(|state| {
            if deadline.is_over() {
                return None;
            }
            Some(wait_on(&self.delivery.arrived, state, deadline))
        })
    }

    fn settle_or_wake(&self, waker: &Waker) -> Option<Pulled> {
        self.take(|mut state| {
            if !state.wakers.iter().any(|known| known.will_wake(waker)) {
                state.wakers.push(waker.clone());
            }
            None
        })
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
