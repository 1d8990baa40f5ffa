//! What one thread at a time uses, in steps that may take long.

use std::sync::{Mutex, PoisonError};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use crate::errors::raise;
use crate::gate;
use crate::process::Owner;

/// See the module. Whoever uses it takes it out: no lock is kept while other threads of the interpreter run.
pub(crate) struct Turns<T> {
    state: Mutex<Turn<T>>,
    owner: Owner,
    /// What it is called in messages.
    name: &'static str,
}

enum Turn<T> {
    Free(T),
    Taken,
    Over,
}

impl<T: Send> Turns<T> {
    pub(crate) fn new(name: &'static str, it: T) -> Self {
        Self {
            state: Mutex::new(Turn::Free(it)),
            owner: Owner::here(),
            name,
        }
    }

    fn put(&self, turn: Turn<T>) -> Turn<T> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut state, turn)
    }

    /// Takes it, for good if it is not given back.
    ///
    /// # Errors
    /// When it was taken, or in a forked child.
    fn take(&self, py: Python<'_>) -> PyResult<T> {
        self.owner.check(self.name)?;
        match self.put(Turn::Taken) {
            Turn::Free(it) => Ok(it),
            Turn::Taken => Err(PyRuntimeError::new_err(format!(
                "another thread uses this {}: one at a time",
                self.name
            ))),
            Turn::Over => {
                self.put(Turn::Over);
                let text = format!("this {} is done", self.name);
                Err(raise(py, "ClosedError", &text))
            }
        }
    }

    /// Uses it with other threads running.
    pub(crate) fn with<R: Send>(&self, py: Python<'_>, act: impl FnOnce(&mut T) -> R + Send) -> PyResult<R> {
        let mut it = self.take(py)?;
        let (it, done) = gate::detach(py, || {
            let done = act(&mut it);
            (it, done)
        });
        self.put(Turn::Free(it));
        Ok(done)
    }

    /// Gives it away, for its last use.
    pub(crate) fn take_last(&self, py: Python<'_>) -> PyResult<T> {
        let it = self.take(py)?;
        self.put(Turn::Over);
        Ok(it)
    }

    /// Uses it for the last time.
    pub(crate) fn last<R: Send>(&self, py: Python<'_>, act: impl FnOnce(T) -> R + Send) -> PyResult<R> {
        let it = self.take(py)?;
        let done = gate::detach(py, || act(it));
        self.put(Turn::Over);
        Ok(done)
    }

    pub(crate) fn is_over(&self) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        matches!(*state, Turn::Over)
    }
}
