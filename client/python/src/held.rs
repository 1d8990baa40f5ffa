//! A producer or a consumer of the client in the hands of Python: only the process that made it uses it, it is ended when the
//! interpreter ends, and dropping it lets other threads run.

use std::sync::Arc;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use crate::exit::{Ends, at_exit};
use crate::gate;
use crate::process::Owner;

/// What Python holds.
pub(crate) trait Holdable: Send + Sync + 'static {
    /// What it is called in messages.
    const NAME: &'static str;

    /// Ends it; how many events were not acknowledged in time.
    fn end(&self, py: Python<'_>) -> PyResult<u64>;
}

/// See the module.
pub(crate) struct Held<T: Holdable> {
    /// Gone when it is dropped.
    inner: Option<Arc<Inner<T>>>,
}

struct Inner<T> {
    it: T,
    owner: Owner,
}

impl<T: Holdable> Held<T> {
    pub(crate) fn new(it: T) -> Self {
        let owner = Owner::here();
        let inner = Arc::new(Inner { it, owner });
        at_exit(&inner);
        Self { inner: Some(inner) }
    }

    /// # Errors
    /// In a forked child.
    pub(crate) fn get(&self) -> PyResult<&T> {
        let gone = || PyRuntimeError::new_err(format!("the {} is gone", T::NAME));
        let inner = self.inner.as_ref().ok_or_else(gone)?;
        inner.owner.check(T::NAME)?;
        Ok(&inner.it)
    }
}

impl<T: Holdable> Drop for Held<T> {
    /// A producer waits for its events, as the client does; a consumer's thread may be in a function of the application. Both
    /// may need other threads of the interpreter to come to their end.
    fn drop(&mut self) {
        let inner = self.inner.take();
        Python::attach(|py| gate::detach(py, || drop(inner)));
    }
}

impl<T: Holdable> Ends for Inner<T> {
    fn is_ours(&self) -> bool {
        self.owner.is_here()
    }

    fn end(&self, py: Python<'_>) -> PyResult<u64> {
        self.it.end(py)
    }
}
