//! Waiting as a Python program expects it: other threads run meanwhile, and Ctrl-C ends it.

use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use mofka_client::{
    AckFuture, AcknowledgeError, DeliveryError, Event, EventId, FlushFuture, PullError, PullFuture,
    PushError, PushFuture,
};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;

use crate::gate;

/// How long a signal may wait to be looked for.
const SLICE: Duration = Duration::from_millis(50);

/// What can be waited for again and again.
pub(crate) trait Waitable: Sync {
    type Value: Send;
    type Error: Send;
    fn wait_for(&self, time: Duration) -> Result<Option<Self::Value>, Self::Error>;
}

macro_rules! waitable {
    ($future:ty, $value:ty, $error:ty) => {
        impl Waitable for $future {
            type Value = $value;
            type Error = $error;
            fn wait_for(&self, time: Duration) -> Result<Option<$value>, $error> {
                self.wait_timeout(time)
            }
        }
    };
}

waitable!(PushFuture, EventId, DeliveryError);
waitable!(FlushFuture, (), PushError);
waitable!(PullFuture, Option<Event>, PullError);
waitable!(AckFuture, (), AcknowledgeError);

/// The time that a number of milliseconds from Python means; `None`: as long as it takes.
pub(crate) fn timeout(timeout_ms: Option<f64>) -> PyResult<Option<Duration>> {
    match timeout_ms {
        Some(ms) if ms.is_nan() => Err(PyValueError::new_err("timeout_ms is not a number")),
        // Beyond what a clock can count is as long as it takes, too.
        Some(ms) if ms >= 0.0 => Ok(Duration::try_from_secs_f64(ms / 1000.0).ok()),
        _ => Ok(None),
    }
}

/// What `ask` gives, which waits for nodes in ways of its own: on a thread made for it, which goes on alone when a signal ends this.
///
/// # Errors
/// What a signal's handler raised.
pub(crate) fn ask<T: Send + 'static>(
    py: Python<'_>,
    ask: impl FnOnce() -> T + Send + 'static,
) -> PyResult<T> {
    let (answer, answered) = sync_channel(1);
    std::thread::Builder::new()
        .name("mofka-ask".to_owned())
        // Whether anybody still wants to hear it is no matter.
        .spawn(move || drop(answer.send(ask())))?;
    // Nobody else has it: the lock is for the compiler.
    let answered = Mutex::new(answered);
    let hear = || {
        answered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .recv_timeout(SLICE)
    };
    loop {
        match gate::detach(py, hear) {
            Ok(answer) => return Ok(answer),
            Err(RecvTimeoutError::Timeout) => py.check_signals()?,
            Err(RecvTimeoutError::Disconnected) => {
                return Err(PyRuntimeError::new_err(
                    "the client panicked; its message is on standard error",
                ));
            }
        }
    }
}

/// Waits. The outer error is what a signal's handler raised.
pub(crate) fn wait<W: Waitable>(
    py: Python<'_>,
    future: &W,
    timeout: Option<Duration>,
) -> PyResult<Result<Option<W::Value>, W::Error>> {
    let end = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    loop {
        let left = end.map_or(SLICE, |end| end.saturating_duration_since(Instant::now()));
        let waited = gate::detach(py, || future.wait_for(left.min(SLICE)));
        if !matches!(waited, Ok(None)) || left <= SLICE && end.is_some() {
            return Ok(waited);
        }
        py.check_signals()?;
    }
}

/// Looks for signals in the middle of what the client does without the interpreter's lock.
#[derive(Default)]
pub(crate) struct Signals(Mutex<Option<PyErr>>);

impl Signals {
    /// False when a handler raised something, or the interpreter ends.
    pub(crate) fn go_on(&self) -> bool {
        match gate::attach(|py| py.check_signals()) {
            Some(Ok(())) => true,
            Some(Err(error)) => {
                *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                false
            }
            None => false,
        }
    }

    /// # Errors
    /// What a handler raised.
    pub(crate) fn raised(self) -> PyResult<()> {
        let raised = self.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        raised.map_or(Ok(()), Err)
    }
}
