//! The feeds of one partition in the threads of a pool: one after the other, each by any of them.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex};

use super::Core;
use super::subscription::Source;
use super::worker::{Incoming, take};
use crate::pool::ThreadPool;
use crate::promise::{Deadline, lock, wait_on};

#[derive(Default)]
pub(super) struct Strand {
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Default)]
struct State {
    /// Bounded by the credit that the node has.
    feeds: VecDeque<Incoming>,
    /// There is a task that will look for feeds.
    is_running: bool,
}

impl Strand {
    /// Adds a feed.
    pub(super) fn add(core: &Arc<Core>, pool: &ThreadPool, incoming: Incoming) {
        let source = Arc::clone(&incoming.source);
        let mut state = lock(&source.strand().state);
        state.feeds.push_back(incoming);
        let was_running = std::mem::replace(&mut state.is_running, true);
        drop(state);
        if !was_running {
            Self::go_on(Arc::clone(core), pool, source);
        }
    }

    /// A task for each feed: other partitions have their turns in between.
    fn go_on(core: Arc<Core>, pool: &ThreadPool, source: Arc<Source>) {
        let again = pool.clone();
        let task = move || {
            let strand = source.strand();
            let next = lock(&strand.state).feeds.pop_front();
            if let Some(incoming) = next.filter(|_| !core.is_closed()) {
                take(&core, incoming);
            }
            if !strand.has_ended(&core) {
                Self::go_on(core, &again, source);
            }
        };
        // It takes every task of this process.
        pool.push_work(task, ThreadPool::DEFAULT_PRIORITY).ok();
    }

    /// Whether there is nothing more to do: the next feed makes a new task then.
    fn has_ended(&self, core: &Core) -> bool {
        let mut state = lock(&self.state);
        let mut unwanted = VecDeque::new();
        if core.is_closed() {
            std::mem::swap(&mut unwanted, &mut state.feeds);
        }
        let has_ended = state.feeds.is_empty();
        if has_ended {
            state.is_running = false;
            self.ended.notify_all();
        }
        drop(state);
        // Not under the lock: they hold their source.
        drop(unwanted);
        has_ended
    }

    /// Waits until no task is at work.
    pub(super) fn wait(&self, deadline: Deadline) {
        let mut state = lock(&self.state);
        while state.is_running && !deadline.is_over() {
            state = wait_on(&self.ended, state, deadline);
        }
    }
}
