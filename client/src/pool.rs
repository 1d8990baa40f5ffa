//! Threads that work on tasks by priority.
//!
//! No crate that is kept up does this: `rayon` and `threadpool` know no priorities, and the few that do drop what is queued
//! when they end, or keep no order among equals.

use std::cell::Cell;
use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::sync::atomic::{self, AtomicBool};
use std::sync::{Arc, Condvar, Mutex};

use mofka_net::shm::this_process;

use crate::components::guarded;
use crate::error::ThreadPoolError;
use crate::promise::{Deadline, lock, lock_unless_forked, wait_on};

type Task = Box<dyn FnOnce() + Send>;

/// Threads of one pool at most: far more than there are cores is a mistake, and none that should cost a machine its threads.
pub(crate) const THREADS_MAX: usize = 1024;

/// No pool waits for its threads any more. Relaxed: it is set by who will drop them.
static IS_LEAVING: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// The pool that this thread belongs to, as the address of what its threads share.
    static MINE: Cell<usize> = const { Cell::new(0) };
}

/// Threads that work on tasks, the most urgent first. Cheap to clone; may be used by any number of threads.
///
/// The queue has no bound of its own: producers and consumers bound what they put there, and so should others.
///
/// No task is dropped. Dropping the last clone waits until all tasks have ended; on a thread of a pool, which would wait for
/// itself, it returns at once, and the tasks end all the same. A task that panics ends alone, and that is logged. After a fork
/// the child has none of the threads: it gets errors, and makes a pool of its own.
#[derive(Clone)]
pub struct ThreadPool {
    handle: Arc<Handle>,
}

struct Handle {
    shared: Arc<Shared>,
    thread_count: usize,
}

/// What a pool and its threads share.
struct Shared {
    state: Mutex<State>,
    /// There is a task, or there will be no more.
    work: Condvar,
    /// A thread has ended.
    ended: Condvar,
    pid: u32,
}

#[derive(Default)]
struct State {
    tasks: BinaryHeap<Queued>,
    next_number: u64,
    /// Threads that have not ended.
    threads: usize,
    /// Those of them that wait for a task.
    idle: usize,
    is_closing: bool,
}

struct Queued {
    priority: u64,
    /// Tasks of one priority are taken in this order.
    number: u64,
    task: Task,
}

impl ThreadPool {
    /// From now on dropping a pool of this process does not wait for its tasks. For the end of a host, such as an interpreter, that stops
    /// threads where they stand, in functions of the application.
    pub fn leave_threads() {
        IS_LEAVING.store(true, atomic::Ordering::Relaxed);
    }

    /// The priority of what has no other: the most urgent there is.
    pub const DEFAULT_PRIORITY: u64 = u64::MAX;

    /// Starts this many threads, at most 1024. 0: tasks are run by whoever pushes them, before `push_work` returns.
    ///
    /// # Errors
    /// When these are too many, for us or for the system.
    pub fn new(thread_count: usize) -> Result<Self, ThreadPoolError> {
        if thread_count > THREADS_MAX {
            return Err(ThreadPoolError::TooMany {
                wanted: thread_count,
                max: THREADS_MAX,
            });
        }
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            work: Condvar::new(),
            ended: Condvar::new(),
            pid: this_process(),
        });
        // From here on, dropping it ends the threads that were started.
        let pool = Self {
            handle: Arc::new(Handle { shared, thread_count }),
        };
        for started in 0..thread_count {
            let shared = Arc::clone(&pool.handle.shared);
            lock(&shared.state).threads += 1;
            let builder = std::thread::Builder::new().name("mofka-pool".to_owned());
            if let Err(error) = builder.spawn(move || shared.run()) {
                lock(&pool.handle.shared.state).threads -= 1;
                return Err(ThreadPoolError::Threads {
                    wanted: thread_count,
                    started,
                    reason: error.to_string().into(),
                });
            }
        }
        Ok(pool)
    }

    /// How many threads it has.
    pub fn thread_count(&self) -> usize {
        self.handle.thread_count
    }

    /// Tasks that no thread has taken yet.
    pub fn size(&self) -> usize {
        let shared = &self.handle.shared;
        lock_unless_forked(&shared.state, || shared.check_process()).map_or(0, |state| state.tasks.len())
    }

    /// Queues a task. Larger priorities are taken first ([`ThreadPool::DEFAULT_PRIORITY`] before all others), equal ones in the
    /// order in which they were pushed. A task of a low priority waits for as long as there are others.
    ///
    /// # Errors
    /// In a forked child, where no thread would ever take it. It is dropped then.
    pub fn push_work(
        &self,
        task: impl FnOnce() + Send + 'static,
        priority: u64,
    ) -> Result<(), ThreadPoolError> {
        if self.handle.thread_count == 0 {
            run(task);
            return Ok(());
        }
        let shared = &self.handle.shared;
        shared.check_process()?;
        let mut state = lock(&shared.state);
        let number = state.next_number;
        state.next_number += 1;
        state.tasks.push(Queued {
            priority,
            number,
            task: Box::new(task),
        });
        let is_awaited = state.idle > 0;
        drop(state);
        // A system call, also when nobody waits.
        if is_awaited {
            shared.work.notify_one();
        }
        Ok(())
    }

    /// Whether this is one of its threads, which must not wait for the others.
    pub(crate) fn is_mine(&self) -> bool {
        MINE.get() == self.handle.shared.address()
    }
}

impl std::fmt::Debug for ThreadPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "ThreadPool({} threads, {} tasks queued)",
            self.thread_count(),
            self.size()
        )
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // In a forked child the lock may be held by a thread that is not there.
        if self.shared.check_process().is_err() {
            return;
        }
        let mut state = lock(&self.shared.state);
        state.is_closing = true;
        self.shared.work.notify_all();
        // Two pools could otherwise wait for each other.
        if MINE.get() != 0 || IS_LEAVING.load(atomic::Ordering::Relaxed) {
            return;
        }
        while state.threads > 0 {
            state = wait_on(&self.shared.ended, state, Deadline::Never);
        }
    }
}

impl Shared {
    fn check_process(&self) -> Result<(), ThreadPoolError> {
        if this_process() == self.pid {
            Ok(())
        } else {
            Err(ThreadPoolError::Forked { pid: self.pid })
        }
    }

    fn address(self: &Arc<Self>) -> usize {
        Arc::as_ptr(self).addr()
    }

    /// One thread of the pool.
    fn run(self: Arc<Self>) {
        MINE.set(self.address());
        let mut state = lock(&self.state);
        loop {
            if let Some(queued) = state.tasks.pop() {
                drop(state);
                run(queued.task);
                state = lock(&self.state);
            } else if state.is_closing {
                break;
            } else {
                state.idle += 1;
                state = wait_on(&self.work, state, Deadline::Never);
                state.idle -= 1;
            }
        }
        state.threads -= 1;
        self.ended.notify_all();
    }
}

fn run(task: impl FnOnce()) {
    let outcome = guarded(|| {
        task();
        Ok(())
    });
    if let Err(reason) = outcome {
        tracing::error!(%reason, "a task of a thread pool ended before its end");
    }
}

impl PartialEq for Queued {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Queued {}

impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Queued {
    /// The greatest is the next one.
    fn cmp(&self, other: &Self) -> Ordering {
        (self.priority, other.number).cmp(&(other.priority, self.number))
    }
}

#[cfg(test)]
mod tests;
