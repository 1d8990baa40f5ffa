//! Futures, all alike: `wait`, `completed`, `await`.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Wake, Waker};

use mofka_client::{AckFuture, FlushFuture, PullFuture, PushFuture};
use pyo3::prelude::*;

use crate::background::{Job, later};
use crate::errors::OrRaise;
use crate::event::Event;
use crate::gate;
use crate::process::Owner;
use crate::waiting::{timeout, wait};

/// Calls a Python function when it is woken for the first time. Whoever made it may still have it then, in the very moment.
struct Call(Mutex<Option<Py<PyAny>>>);

impl Wake for Call {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let function = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(function) = function {
            later(Job::Call(function));
        }
    }
}

/// What `await` does, is written in Python.
fn awaited(future: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
    let _inside = gate::calling(future.py());
    let settle = future.py().import("mofka._asyncio")?.getattr("settle")?;
    Ok(settle.call1((future,))?.call_method0("__await__")?.unbind())
}

macro_rules! python_future {
    ($name:ident, $future:ty, $value:ty, |$py:ident, $settled:ident| $to_python:expr) => {
        #[doc = doc!($name)]
        #[pyclass(frozen, module = "mofka")]
        pub(crate) struct $name {
            future: $future,
            owner: Owner,
            /// Who would end without it.
            _keeps: Option<Py<PyAny>>,
        }

        impl $name {
            pub(crate) fn new(future: $future, keeps: Option<Py<PyAny>>) -> Self {
                Self {
                    future,
                    owner: Owner::here(),
                    _keeps: keeps,
                }
            }

            /// In a forked child nothing comes any more.
            fn check(&self) -> PyResult<()> {
                match self.owner.is_here() || self.future.completed() {
                    true => Ok(()),
                    false => self.owner.check("future"),
                }
            }
        }

        #[pymethods]
        impl $name {
            #[doc = doc!($name wait)]
            #[pyo3(signature = (timeout_ms=None))]
            fn wait(&self, $py: Python<'_>, timeout_ms: Option<f64>) -> PyResult<$value> {
                self.check()?;
                let $settled = wait($py, &self.future, timeout(timeout_ms)?)?.or_raise($py)?;
                $to_python
            }

            #[doc = doc!(FutureUint completed)]
            #[getter]
            fn completed(&self) -> bool {
                !self.owner.is_here() || self.future.completed()
            }

            /// Whether it is there; if not, calls `function` when it may be, on a thread of its own.
            fn _completed_or_call(&self, py: Python<'_>, function: Py<PyAny>) -> bool {
                if self.check().is_err() {
                    // Waiting says why.
                    return true;
                }
                let waker = Waker::from(Arc::new(Call(Mutex::new(Some(function)))));
                gate::detach(py, || self.future.completed_or_wake(&waker))
            }

            fn __await__(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
                awaited(slf.as_any())
            }

            fn __repr__(&self) -> String {
                let completed = if self.completed() { "True" } else { "False" };
                format!("<{} completed={completed}>", stringify!($name))
            }
        }
    };
}

python_future!(FutureUint, PushFuture, Option<u64>, |py, settled| {
    Ok(settled.map(mofka_client::EventId::get))
});
python_future!(FutureFlushed, FlushFuture, bool, |py, settled| Ok(
    settled.is_some()
));
python_future!(FutureAcknowledged, AckFuture, bool, |py, settled| Ok(
    settled.is_some()
));
python_future!(FutureEvent, PullFuture, Option<Event>, |py, settled| {
    Ok(settled.map(Event::new))
});
