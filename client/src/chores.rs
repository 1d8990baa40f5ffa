//! Work that comes due later: looking for a lost node, trying a refused batch again, reading other partitions than before.
//!
//! One thread is there as long as the driver is. It does what never waits for anybody, as looking for events that are late: that
//! keeps its time whatever else is done. For the rest there are threads while there is such work. A few of them,
//! because looking for a node that does not answer may block for a while, and the others should not wait for that. Where no such
//! thread can be made, the one that is there does it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::promise::{Deadline, lock, wait_on};

const THREADS_MAX: usize = 8;
/// A thread without work ends after this long.
const IDLE: Duration = Duration::from_secs(2);

type Chore = Box<dyn FnOnce() + Send>;

#[derive(Default)]
pub(crate) struct Chores {
    state: Mutex<State>,
    work: Condvar,
    /// For the thread that is always there.
    quick_work: Condvar,
}

#[derive(Default)]
struct State {
    due: BinaryHeap<Reverse<Due>>,
    /// What never blocks.
    quick: BinaryHeap<Reverse<Due>>,
    next_number: u64,
    threads: usize,
    waiting: usize,
    closed: bool,
}

struct Due {
    at: Instant,
    number: u64,
    chore: Chore,
}

impl Chores {
    /// Makes the thread that is always there.
    pub(crate) fn begin(self: &Arc<Self>) -> io::Result<()> {
        let chores = Arc::clone(self);
        std::thread::Builder::new()
            .name("mofka-timer".to_owned())
            .spawn(move || chores.keep_time())?;
        Ok(())
    }

    /// Does `chore` after `delay`, on a thread where it may block.
    pub(crate) fn after(self: &Arc<Self>, delay: Duration, chore: impl FnOnce() + Send + 'static) {
        let mut state = lock(&self.state);
        if state.closed {
            return;
        }
        let due = state.number(delay, Box::new(chore));
        state.due.push(Reverse(due));
        self.see_to_threads(&mut state);
    }

    /// The same of a chore that never blocks, and does not wait for those that do.
    pub(crate) fn quickly_after(&self, delay: Duration, chore: impl FnOnce() + Send + 'static) {
        let mut state = lock(&self.state);
        if state.closed {
            return;
        }
        let due = state.number(delay, Box::new(chore));
        state.quick.push(Reverse(due));
        self.quick_work.notify_one();
    }

    /// Forgets everything. Chores under way end by themselves.
    pub(crate) fn close(&self) {
        let forgotten = {
            let mut state = lock(&self.state);
            state.closed = true;
            self.work.notify_all();
            self.quick_work.notify_all();
            (std::mem::take(&mut state.due), std::mem::take(&mut state.quick))
        };
        // What they hold may be dropped with them, and may come back here: not under the lock.
        drop(forgotten);
    }

    fn see_to_threads(self: &Arc<Self>, state: &mut State) {
        if state.waiting > 0 {
            self.work.notify_one();
        } else if state.threads < THREADS_MAX {
            state.threads += 1;
            let chores = Arc::clone(self);
            let spawned = std::thread::Builder::new()
                .name("mofka-chores".to_owned())
                .spawn(move || chores.run());
            if let Err(error) = spawned {
                state.threads -= 1;
                tracing::error!(%error, "no thread for looking after lost connections; others do it, if later");
                self.quick_work.notify_one();
            }
        }
    }

    fn run(self: Arc<Self>) {
        let mut state = lock(&self.state);
        let mut idle_since = Instant::now();
        while !state.closed {
            let now = Instant::now();
            let next = state.due.peek().map(|Reverse(due)| due.at);
            match next {
                Some(at) if at <= now => {
                    let Some(Reverse(due)) = state.due.pop() else {
                        continue;
                    };
                    if !state.due.is_empty() {
                        self.see_to_threads(&mut state);
                    }
                    state = self.run_one(state, due);
                    idle_since = Instant::now();
                }
                None if now.duration_since(idle_since) >= IDLE => break,
                _ => {
                    let until = next.unwrap_or(idle_since + IDLE);
                    state.waiting += 1;
                    state = wait_on(&self.work, state, Deadline::At(until));
                    state.waiting -= 1;
                }
            }
        }
        state.threads -= 1;
    }

    /// What is quick, and all else while no thread could be made for it.
    fn keep_time(self: Arc<Self>) {
        let mut state = lock(&self.state);
        while !state.closed {
            let now = Instant::now();
            let lane = state.lane_of_timer();
            match lane.peek().map(|Reverse(due)| due.at) {
                Some(at) if at <= now => {
                    if let Some(Reverse(due)) = lane.pop() {
                        state = self.run_one(state, due);
                    }
                }
                next => {
                    let deadline = next.map_or(Deadline::Never, Deadline::At);
                    state = wait_on(&self.quick_work, state, deadline);
                }
            }
        }
    }

    fn run_one<'a>(&'a self, state: MutexGuard<'a, State>, due: Due) -> MutexGuard<'a, State> {
        drop(state);
        // It was told on standard error. The thread is one of few, and others wait for what it does next.
        if catch_unwind(AssertUnwindSafe(due.chore)).is_err() {
            tracing::error!("work in the background panicked");
        }
        lock(&self.state)
    }
}

impl State {
    fn number(&mut self, delay: Duration, chore: Chore) -> Due {
        let number = self.next_number;
        self.next_number += 1;
        Due {
            at: Instant::now() + delay,
            number,
            chore,
        }
    }

    /// Where the next chore is for the thread that is always there.
    fn lane_of_timer(&mut self) -> &mut BinaryHeap<Reverse<Due>> {
        let is_other_first = match (self.quick.peek(), self.due.peek()) {
            (Some(Reverse(quick)), Some(Reverse(other))) => other < quick,
            (None, Some(_)) => true,
            (_, None) => false,
        };
        match self.threads == 0 && is_other_first {
            true => &mut self.due,
            false => &mut self.quick,
        }
    }
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.number) == (other.at, other.number)
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn chores_come_in_time_and_do_not_wait_for_each_other() {
        let chores = Arc::new(Chores::default());
        let (sender, receiver) = mpsc::channel();
        let (release, blocked) = mpsc::channel::<()>();
        chores.after(Duration::ZERO, move || {
            blocked.recv().ok();
        });
        for (delay_ms, name) in [(40, "late"), (5, "early")] {
            let sender = sender.clone();
            chores.after(Duration::from_millis(delay_ms), move || {
                sender.send(name).unwrap()
            });
        }
        assert_eq!(receiver.recv().unwrap(), "early");
        assert_eq!(receiver.recv().unwrap(), "late");
        drop(release);
        chores.close();
        chores.after(Duration::ZERO, move || sender.send("never").unwrap());
        assert!(receiver.recv_timeout(Duration::from_millis(20)).is_err());
    }

    #[test]
    fn what_is_quick_keeps_its_time_when_all_others_block() {
        let chores = Arc::new(Chores::default());
        chores.begin().unwrap();
        let (release, blocked) = mpsc::channel::<()>();
        let blocked = Arc::new(Mutex::new(blocked));
        for _ in 0..2 * THREADS_MAX {
            let blocked = Arc::clone(&blocked);
            chores.after(Duration::ZERO, move || {
                lock(&blocked).recv().ok();
            });
        }
        let (sender, receiver) = mpsc::channel();
        chores.quickly_after(Duration::from_millis(5), || panic!("as the test wants it"));
        chores.quickly_after(Duration::from_millis(10), move || sender.send(()).unwrap());
        receiver.recv_timeout(Duration::from_secs(10)).unwrap();
        drop(release);
        chores.close();
    }

    #[test]
    fn a_chore_that_panics_does_not_cost_a_thread() {
        let chores = Arc::new(Chores::default());
        for _ in 0..3 * THREADS_MAX {
            chores.after(Duration::ZERO, || panic!("as the test wants it"));
        }
        let (sender, receiver) = mpsc::channel();
        chores.after(Duration::from_millis(1), move || sender.send(()).unwrap());
        receiver.recv_timeout(Duration::from_secs(10)).unwrap();
        chores.close();
    }

    #[test]
    fn the_thread_that_is_there_does_what_no_other_could_be_made_for() {
        let chores = Arc::new(Chores::default());
        chores.begin().unwrap();
        let (sender, receiver) = mpsc::channel();
        {
            let mut state = lock(&chores.state);
            let due = state.number(Duration::ZERO, Box::new(move || sender.send(()).unwrap()));
            state.due.push(Reverse(due));
            chores.quick_work.notify_one();
        }
        receiver.recv_timeout(Duration::from_secs(10)).unwrap();
        chores.close();
    }
}
