//! Work that comes due later: looking for a lost node, trying a refused batch again, reading other partitions than before.
//!
//! Threads exist only while there is such work. A few of them, because looking for a node that does not answer may block
//! for a while, and the others should not wait for that.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Arc, Condvar, Mutex};
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
}

#[derive(Default)]
struct State {
    due: BinaryHeap<Reverse<Due>>,
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
    /// Does `chore` after `delay`, on a thread where it may block.
    pub(crate) fn after(self: &Arc<Self>, delay: Duration, chore: impl FnOnce() + Send + 'static) {
        let mut state = lock(&self.state);
        if state.closed {
            return;
        }
        let number = state.next_number;
        state.next_number += 1;
        state.due.push(Reverse(Due {
            at: Instant::now() + delay,
            number,
            chore: Box::new(chore),
        }));
        self.see_to_threads(&mut state);
    }

    /// Forgets everything. Chores under way end by themselves.
    pub(crate) fn close(&self) {
        let forgotten = {
            let mut state = lock(&self.state);
            state.closed = true;
            self.work.notify_all();
            std::mem::take(&mut state.due)
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
                tracing::error!(%error, "no thread for looking after lost connections; the next occasion tries again");
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
                    drop(state);
                    (due.chore)();
                    state = lock(&self.state);
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
}
