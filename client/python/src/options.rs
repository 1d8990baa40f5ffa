//! Arguments that producers, consumers and topics share.

use std::path::PathBuf;

use mofka_client::{AssignmentChange, BatchSize, LibraryPolicy, OnAssignment, Start};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::gate;

/// Whether a producer keeps the order of its events.
#[pyclass(eq, eq_int, frozen, from_py_object, module = "mofka")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ordering {
    /// In each partition in the order of the calls of `push`.
    Strict,
    /// Validator, partition selector and serializer run in a thread pool, and events may pass each other.
    Loose,
}

/// 0, `None` and all from 2^32 on (the original's constant is 2^64 - 1) are adaptive.
pub(crate) fn batch_size(size: Option<u64>) -> BatchSize {
    BatchSize::fixed(size.and_then(|size| u32::try_from(size).ok()).unwrap_or(0))
}

/// How Python sees it.
pub(crate) fn batch_size_to_python(size: BatchSize) -> u32 {
    match size {
        BatchSize::Adaptive => 0,
        BatchSize::Fixed(size) => size.get(),
    }
}

/// Where to begin: `"cursor"`, `"first"`, `"last"`, an event id, or `("time", seconds)`.
///
/// # Errors
/// When it is none of these.
pub(crate) fn start(start: &Bound<'_, PyAny>) -> PyResult<Start> {
    if let Ok(id) = start.extract::<u64>() {
        return Ok(Start::Id(id));
    }
    if let Ok(text) = start.extract::<String>() {
        match text.as_str() {
            "cursor" => return Ok(Start::Cursor),
            "first" => return Ok(Start::First),
            "last" => return Ok(Start::Last),
            _ => {}
        }
    }
    if let Ok(time) = start.cast::<PyTuple>()
        && let Ok((kind, seconds)) = time.extract::<(String, f64)>()
        && kind == "time"
    {
        let time = std::time::Duration::try_from_secs_f64(seconds)
            .ok()
            .and_then(|time| u64::try_from(time.as_micros()).ok());
        return time.map(Start::Time).ok_or_else(|| {
            PyValueError::new_err(format!("{seconds} is no Unix time in seconds to start from"))
        });
    }
    Err(PyTypeError::new_err(format!(
        "{} is no place to start: give \"cursor\", \"first\", \"last\", an event id, or (\"time\", seconds)",
        start.repr()?
    )))
}

/// Which libraries may be loaded: `"search_path"`, `"never"`, or a list of directories.
///
/// # Errors
/// When it is none of these.
pub(crate) fn libraries(libraries: &Bound<'_, PyAny>) -> PyResult<LibraryPolicy> {
    if let Ok(word) = libraries.extract::<String>() {
        return match word.as_str() {
            "search_path" => Ok(LibraryPolicy::SearchPath),
            "never" => Ok(LibraryPolicy::Never),
            _ => Err(PyValueError::new_err(format!(
                "libraries={word:?} is neither \"search_path\" nor \"never\"; directories are a list"
            ))),
        };
    }
    let directories: Vec<PathBuf> = libraries.extract()?;
    match directories.iter().find(|directory| directory.is_relative()) {
        None => Ok(LibraryPolicy::Directories(directories)),
        Some(relative) => Err(PyValueError::new_err(format!(
            "libraries: {} is no absolute path",
            relative.display()
        ))),
    }
}

/// A function that is told which partitions a consumer reads.
///
/// # Errors
/// When it is not to be called.
pub(crate) fn on_assignment(function: Option<Bound<'_, PyAny>>) -> PyResult<OnAssignment> {
    let Some(function) = function else {
        return Ok(OnAssignment::none());
    };
    if !function.is_callable() {
        return Err(PyTypeError::new_err(
            "on_assignment is None, or a function (change, partitions)",
        ));
    }
    let function = function.unbind();
    Ok(OnAssignment::new(move |change| {
        let (word, partitions) = match change {
            AssignmentChange::Assigned(partitions) => ("assigned", partitions),
            AssignmentChange::Withdrawn(partitions) => ("withdrawn", partitions),
            AssignmentChange::Lost(partitions) => ("lost", partitions),
        };
        // At the end of the interpreter nobody wants to hear.
        gate::attach(|py| {
            let function = function.bind(py);
            if let Err(error) = function.call1((word, partitions.clone())) {
                error.write_unraisable(py, Some(function));
            }
        });
    }))
}

/// Milliseconds that have to be a time.
pub(crate) fn milliseconds(name: &str, ms: f64) -> PyResult<std::time::Duration> {
    std::time::Duration::try_from_secs_f64(ms / 1000.0)
        .map_err(|_| PyValueError::new_err(format!("{name}={ms} is no time in milliseconds")))
}
