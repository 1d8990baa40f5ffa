//! The end of the interpreter: what was pushed is sent, and the client's threads call no more functions.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::gate;

/// A producer or a consumer that Python holds.
pub(crate) trait Ends: Send + Sync {
    /// Whether this process made it.
    fn is_ours(&self) -> bool;
    /// Ends it; how many events were not acknowledged in time.
    fn end(&self, py: Python<'_>) -> PyResult<u64>;
}

/// Those that there may be. Only taken with the interpreter's lock held.
static ALL: Mutex<Vec<Weak<dyn Ends>>> = Mutex::new(Vec::new());

/// Has it ended when the interpreter ends, if it is still there.
pub(crate) fn at_exit<E: Ends + 'static>(ends: &Arc<E>) {
    let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
    // Looks at all of them only when there are as many again.
    if all.len() == all.capacity() {
        all.retain(|one| one.strong_count() > 0);
    }
    let ends: Weak<dyn Ends> = Arc::<E>::downgrade(ends);
    all.push(ends);
}

/// Ends everything. Registered with `atexit` by the package.
#[pyfunction(name = "_close_all")]
pub(crate) fn close_all(py: Python<'_>) -> PyResult<()> {
    let all = std::mem::take(&mut *ALL.lock().unwrap_or_else(PoisonError::into_inner));
    let (mut left, mut raised) = (0_u64, None);
    for ends in all.iter().filter_map(Weak::upgrade).filter(|ends| ends.is_ours()) {
        match ends.end(py) {
            Ok(count) => left = left.saturating_add(count),
            // Ctrl-C, for one: the others have to end all the same.
            Err(error) => drop(raised.get_or_insert(error)),
        }
    }
    // Whoever waits for something, or will, does not hear of it.
    gate::close(py);
    if let Some(error) = raised {
        return Err(error);
    }
    if left > 0 {
        let text = format!(
            "{left} events were pushed and not acknowledged when the program ended; they may be lost. Call \
             Producer.close() to know what became of each"
        );
        let category = py.import("builtins")?.getattr("RuntimeWarning")?;
        let warn = py.import("warnings")?.getattr("warn")?;
        warn.call1(PyTuple::new(py, [text.into_pyobject(py)?.into_any(), category])?)?;
    }
    Ok(())
}
