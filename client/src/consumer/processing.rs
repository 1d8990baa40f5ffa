//! A loop that pulls events and hands them to a function of the application.

use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use super::Core;
use super::delivery::Delivery;
use super::event::Event;
use crate::components::guarded;
use crate::error::{BoxError, ProcessError, PullError};
use crate::pool::ThreadPool;
use crate::promise::{Deadline, lock, wait_on};

/// Calls that may be queued or at work, for each thread of the pool: enough for none of them to wait for the loop.
const CALLS_PER_THREAD: usize = 2;

/// How [`Consumer::process`](super::Consumer::process) works.
#[derive(Clone, Debug)]
pub struct ProcessOptions {
    /// How long it waits for an event before it hands over that there was none. `None`: as long as it takes. Default: 5 s.
    pub timeout: Option<Duration>,
    /// It ends when it has handed over so many results, those without an event included. `None`, the default: no bound.
    pub max_events: Option<u64>,
    /// Where the function is called: by all threads of this pool, without order. `None`, the default, or a pool without threads:
    /// by the calling thread, in the order of the events.
    pub thread_pool: Option<ThreadPool>,
}

impl Default for ProcessOptions {
    fn default() -> Self {
        Self {
            timeout: Some(Duration::from_secs(5)),
            max_events: None,
            thread_pool: None,
        }
    }
}

/// What [`Consumer::process`](super::Consumer::process) did.
#[derive(Clone, Debug)]
pub struct ProcessReport {
    /// Results that were handed over.
    pub handed_over: u64,
    /// Those of them that were events.
    pub events: u64,
    /// Calls that failed or panicked.
    pub failed: u64,
    /// The first of these.
    pub first_failure: Option<ProcessFailure>,
    /// Why it ended.
    pub end: ProcessEnd,
}

/// A call that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessFailure {
    /// Partition and id of the event that it was called for, if there was one.
    pub event: Option<(usize, u64)>,
    /// What it said.
    pub reason: Arc<str>,
}

/// Why [`Consumer::process`](super::Consumer::process) ended.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ProcessEnd {
    /// The function said so.
    Stopped,
    /// [`ProcessOptions::max_events`] were handed over.
    Counted,
    /// The topic is complete, and all of it was pulled.
    NoMoreEvents,
    /// No pull will give anything any more.
    Failed(PullError),
}

/// What the loop and the calls share.
struct Run<F> {
    processor: F,
    delivery: Arc<Delivery>,
    is_stopped: AtomicBool,
    state: Mutex<State>,
    /// A call has ended.
    ended: Condvar,
}

#[derive(Default)]
struct State {
    /// Calls that are queued or at work.
    calls: usize,
    failed: u64,
    first_failure: Option<ProcessFailure>,
}

/// There is one loop at a time.
struct Only<'a>(&'a AtomicBool);

impl<'a> Only<'a> {
    fn new(is_taken: &'a AtomicBool) -> Result<Self, ProcessError> {
        match is_taken.swap(true, Ordering::AcqRel) {
            true => Err(ProcessError::UnderWay),
            false => Ok(Self(is_taken)),
        }
    }
}

impl Drop for Only<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// See [`Consumer::process`](super::Consumer::process).
pub(super) fn process<F>(
    core: &Core,
    processor: F,
    options: &ProcessOptions,
) -> Result<ProcessReport, ProcessError>
where
    F: Fn(Result<Option<Event>, PullError>) -> Result<ControlFlow<()>, BoxError> + Send + Sync + 'static,
{
    let _only = Only::new(&core.is_processing)?;
    // A thread of the pool would wait for itself.
    let pool = options.thread_pool.as_ref().filter(|pool| !pool.is_mine());
    let threads = pool.and_then(|pool| NonZeroUsize::new(pool.thread_count()));
    let run = Arc::new(Run {
        processor,
        delivery: Arc::clone(&core.delivery),
        is_stopped: AtomicBool::new(false),
        state: Mutex::default(),
        ended: Condvar::new(),
    });
    let (mut handed_over, mut events) = (0, 0);
    let end = loop {
        if let Some(threads) = threads {
            run.wait_for_calls(threads.get() * CALLS_PER_THREAD - 1);
        }
        if run.is_stopped() {
            break ProcessEnd::Stopped;
        }
        if options.max_events.is_some_and(|max| handed_over >= max) {
            break ProcessEnd::Counted;
        }
        let deadline = options.timeout.map_or(Deadline::Never, Deadline::after);
        let pulled = Delivery::pull(&core.delivery).settle_unless(deadline, || run.is_stopped());
        let result = match pulled {
            Some(Ok(Some(event))) => {
                events += 1;
                Ok(Some(event))
            }
            Some(Ok(None)) => break ProcessEnd::NoMoreEvents,
            Some(Err(error)) if core.is_over_after(&error) => break ProcessEnd::Failed(error),
            Some(Err(error)) => Err(error),
            None if run.is_stopped() => break ProcessEnd::Stopped,
            None => Ok(None),
        };
        handed_over += 1;
        run.hand_over(result, pool);
    };
    // What was pulled before it ended is handed over all the same.
    run.wait_for_calls(0);
    let state = std::mem::take(&mut *lock(&run.state));
    Ok(ProcessReport {
        handed_over,
        events,
        failed: state.failed,
        first_failure: state.first_failure,
        end,
    })
}

impl<F> Run<F>
where
    F: Fn(Result<Option<Event>, PullError>) -> Result<ControlFlow<()>, BoxError> + Send + Sync + 'static,
{
    fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Acquire)
    }

    /// Waits until at most so many calls are queued or at work.
    fn wait_for_calls(&self, max: usize) {
        let mut state = lock(&self.state);
        while state.calls > max {
            state = wait_on(&self.ended, state, Deadline::Never);
        }
    }

    fn hand_over(self: &Arc<Self>, result: Result<Option<Event>, PullError>, pool: Option<&ThreadPool>) {
        lock(&self.state).calls += 1;
        let Some(pool) = pool else {
            return self.call(result);
        };
        let run = Arc::clone(self);
        // It takes every task of this process.
        pool.push_work(move || run.call(result), ThreadPool::DEFAULT_PRIORITY)
            .ok();
    }

    fn call(&self, result: Result<Option<Event>, PullError>) {
        let event = result.as_ref().ok().and_then(Option::as_ref);
        let event = event.map(|event| (event.partition(), event.id().get()));
        let outcome = guarded(|| (self.processor)(result));
        if let Err(reason) = &outcome {
            tracing::warn!(?event, %reason, "the function that processes events failed");
        }
        if matches!(outcome, Ok(ControlFlow::Break(()))) {
            self.is_stopped.store(true, Ordering::Release);
            // The loop may wait for an event.
            self.delivery.wake();
        }
        let mut state = lock(&self.state);
        state.calls -= 1;
        if let Err(reason) = outcome {
            state.failed += 1;
            state
                .first_failure
                .get_or_insert(ProcessFailure { event, reason });
        }
        self.ended.notify_all();
    }
}
