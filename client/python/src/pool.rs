//! Threads for producers and consumers.

use pyo3::prelude::*;

use crate::errors::OrRaise;
use crate::gate;

#[doc = doc!(ThreadPool)]
#[pyclass(frozen, module = "mofka", name = "ThreadPool")]
pub(crate) struct ThreadPool {
    /// Gone when it is dropped.
    pool: Option<mofka_client::ThreadPool>,
}

impl ThreadPool {
    pub(crate) fn new(pool: mofka_client::ThreadPool) -> Self {
        Self { pool: Some(pool) }
    }

    pub(crate) fn get(&self) -> Option<mofka_client::ThreadPool> {
        self.pool.clone()
    }
}

#[pymethods]
impl ThreadPool {
    #[new]
    #[pyo3(signature = (thread_count=0))]
    fn make(py: Python<'_>, thread_count: usize) -> PyResult<Self> {
        let pool = gate::detach(py, || mofka_client::ThreadPool::new(thread_count));
        pool.or_raise(py).map(Self::new)
    }

    #[getter]
    fn thread_count(&self) -> usize {
        self.pool
            .as_ref()
            .map_or(0, mofka_client::ThreadPool::thread_count)
    }

    fn __repr__(&self) -> String {
        format!("ThreadPool(thread_count={})", self.thread_count())
    }
}

impl Drop for ThreadPool {
    /// Its tasks may need the interpreter to end.
    fn drop(&mut self) {
        let pool = self.pool.take();
        Python::attach(|py| gate::detach(py, || drop(pool)));
    }
}
