//! Whether this process is the one that made something, asked at each event without a system call.

use mofka_client::this_process;
use pyo3::prelude::*;

use crate::errors::raise;
use crate::gate;

/// Told by Python in a forked child.
#[pyfunction(name = "_forked")]
pub(crate) fn forked() {
    gate::forked();
}

/// The process that made something. A child that was forked without Python's knowledge is another one, too.
#[derive(Clone, Copy)]
pub(crate) struct Owner {
    pid: u32,
}

impl Owner {
    /// This process.
    pub(crate) fn here() -> Self {
        Self { pid: this_process() }
    }

    /// Whether it is this process.
    pub(crate) fn is_here(self) -> bool {
        this_process() == self.pid
    }

    /// Fails in a child.
    pub(crate) fn check(self, what: &str) -> PyResult<()> {
        if self.is_here() {
            return Ok(());
        }
        let text = format!(
            "this {what} was made by process {}: after a fork, connect again in the child",
            self.pid
        );
        Python::attach(|py| Err(raise(py, "ForkedError", &text)))
    }
}
