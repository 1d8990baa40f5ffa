//! Whether this process is the one that made something. Python tells of a fork, so that nobody asks the system at each event.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use pyo3::prelude::*;

use crate::errors::raise;
use crate::gate;

/// Forks between the process that loaded the module and this one. Relaxed: it changes only while a process has one thread.
static FORKS: AtomicU64 = AtomicU64::new(0);
/// This process. Relaxed as above.
static PID: AtomicU32 = AtomicU32::new(0);

/// Told by Python when it loads the module.
pub(crate) fn loaded() {
    PID.store(std::process::id(), Ordering::Relaxed);
}

/// Told by Python in a forked child.
#[pyfunction(name = "_forked")]
pub(crate) fn forked() {
    FORKS.fetch_add(1, Ordering::Relaxed);
    gate::forked();
    loaded();
}

/// The process that made something.
#[derive(Clone, Copy)]
pub(crate) struct Owner {
    forks: u64,
    pid: u32,
}

impl Owner {
    /// This process.
    pub(crate) fn here() -> Self {
        Self {
            forks: FORKS.load(Ordering::Relaxed),
            pid: PID.load(Ordering::Relaxed),
        }
    }

    /// Whether it is this process.
    pub(crate) fn is_here(self) -> bool {
        FORKS.load(Ordering::Relaxed) == self.forks
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
