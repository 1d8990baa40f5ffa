//! `Consumer.process`: a loop over events that hands each to a function, in the calling thread or in a thread pool.
//!
//! The client's own loop knows nothing of signals. So it is run for a moment at a time: it ends at the first silence, and after
//! [`SLICE`] with events, and between its runs signals are looked for.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use mofka_client::{BoxError, Consumer, ProcessEnd, ProcessOptions, PullError, ThreadPool};
use pyo3::prelude::*;

use crate::errors::{IntoPython, OrRaise};
use crate::event::Event;
use crate::gate;

/// How long a signal may wait to be looked for.
const SLICE: Duration = Duration::from_millis(50);

/// How events are processed.
pub(crate) struct Processing {
    /// After which silence `None` is handed over; `None`: never.
    pub(crate) timeout: Option<Duration>,
    /// Calls of the function; `None`: no bound.
    pub(crate) max_events: Option<u64>,
    pub(crate) thread_pool: Option<ThreadPool>,
}

/// What calls of the function came to.
enum Stop {
    /// It raised `StopEventProcessor`.
    Asked,
    Raised(PyErr),
}

/// What the loop and the calls share.
#[derive(Default)]
struct Shared {
    stop: Option<Stop>,
    /// How often the function was called.
    calls: u64,
    /// Nothing came in the last run.
    is_silent: bool,
}

type State = Arc<Mutex<Shared>>;

/// Never called while the interpreter's lock is waited for.
fn with<T>(state: &State, change: impl FnOnce(&mut Shared) -> T) -> T {
    change(&mut state.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Calls the function; `None` when it is to go on.
fn call(py: Python<'_>, processor: &Py<PyAny>, event: Option<Event>) -> Option<Stop> {
    let _inside = gate::calling(py);
    let error = processor.call1(py, (event,)).err()?;
    let stop_class = py
        .import("mofka._errors")
        .and_then(|errors| errors.getattr("StopEventProcessor"));
    match stop_class {
        Ok(class) if error.is_instance(py, &class) => Some(Stop::Asked),
        _ => Some(Stop::Raised(error)),
    }
}

/// Returns how often the function was called.
///
/// # Errors
/// What it raised, or what a signal's handler did, or that an event cannot be had.
pub(crate) fn process(
    py: Python<'_>,
    consumer: &Consumer,
    processor: Py<PyAny>,
    processing: &Processing,
) -> PyResult<u64> {
    let state = State::default();
    let mut silent_since = Instant::now();
    let mut calls_before = 0;
    loop {
        py.check_signals()?;
        let left = processing
            .max_events
            .map(|max| max.saturating_sub(with(&state, |shared| shared.calls)));
        if left == Some(0) {
            return Ok(with(&state, |shared| shared.calls));
        }
        let end = run(py, consumer, &processor, processing, left, &state)?;
        let (stop, calls, is_silent) = with(&state, |shared| {
            (
                shared.stop.take(),
                shared.calls,
                std::mem::take(&mut shared.is_silent),
            )
        });
        match (stop, end) {
            (Some(Stop::Raised(error)), _) => return Err(error),
            (Some(Stop::Asked), _) | (None, ProcessEnd::NoMoreEvents) => return Ok(calls),
            (None, ProcessEnd::Failed(error)) => return Err(error.into_python(py)),
            (None, _) => {}
        }
        if std::mem::replace(&mut calls_before, calls) != calls || !is_silent {
            silent_since = Instant::now();
        } else if processing
            .timeout
            .is_some_and(|timeout| silent_since.elapsed() >= timeout)
        {
            calls_before = with(&state, |shared| {
                shared.calls += 1;
                shared.calls
            });
            match call(py, &processor, None) {
                Some(Stop::Asked) => return Ok(calls.saturating_add(1)),
                Some(Stop::Raised(error)) => return Err(error),
                None => silent_since = Instant::now(),
            }
        }
    }
}

/// The client's loop, for a moment.
fn run(
    py: Python<'_>,
    consumer: &Consumer,
    processor: &Py<PyAny>,
    processing: &Processing,
    left: Option<u64>,
    state: &State,
) -> PyResult<ProcessEnd> {
    let silence = processing.timeout.map_or(SLICE, |timeout| timeout.min(SLICE));
    let options = ProcessOptions {
        timeout: Some(silence),
        max_events: left,
        thread_pool: processing.thread_pool.clone(),
    };
    let (processor, state) = (processor.clone_ref(py), Arc::clone(state));
    let until = Instant::now().checked_add(SLICE);
    let handed_over = move |pulled: Result<Option<mofka_client::Event>, PullError>| {
        let event = match pulled {
            Ok(Some(event)) => Ok(Event::new(Some(event))),
            Ok(None) => {
                with(&state, |shared| shared.is_silent = true);
                return Ok::<_, BoxError>(ControlFlow::Break(()));
            }
            Err(error) => Err(error),
        };
        let stop = gate::attach(|py| match event {
            Ok(event) => call(py, &processor, Some(event)),
            Err(error) => Some(Stop::Raised(error.into_python(py))),
        });
        let is_late = until.is_none_or(|until| Instant::now() >= until);
        Ok(with(&state, |shared| {
            shared.calls += 1;
            match stop {
                // The first one counts.
                Some(Some(stop)) => shared.stop = shared.stop.take().or(Some(stop)),
                Some(None) if !is_late => return ControlFlow::Continue(()),
                // At the end of the interpreter nobody waits for this.
                Some(None) | None => {}
            }
            ControlFlow::Break(())
        }))
    };
    let report = gate::detach(py, || consumer.process(handed_over, &options)).or_raise(py)?;
    Ok(report.end)
}
