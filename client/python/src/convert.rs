//! JSON to Python and back, by Python's own `json`: numbers of any size stay what they are.

use bytes::Bytes;
use mofka_client::Metadata;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyString};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::gate;

static LOADS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static ENCODE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// The object that this JSON text says.
pub(crate) fn loads<'py>(py: Python<'py>, text: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    let _inside = gate::calling(py);
    let loads = LOADS.get_or_try_init(py, || {
        Ok::<_, PyErr>(py.import("json")?.getattr("loads")?.unbind())
    })?;
    let text = std::str::from_utf8(text).map_err(|error| PyValueError::new_err(error.to_string()))?;
    loads.bind(py).call1((text,))
}

/// The JSON text of an object, without spaces.
///
/// # Errors
/// When it has no JSON (TypeError), NaN, infinities and what contains itself among them (ValueError).
pub(crate) fn dumps<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyString>> {
    let py = object.py();
    let _inside = gate::calling(py);
    let encode = ENCODE.get_or_try_init(py, || {
        let make = py.import("mofka._json")?.getattr("make_encode")?;
        Ok::<_, PyErr>(make.call0()?.unbind())
    })?;
    Ok(encode.bind(py).call1((object,))?.cast_into::<PyString>()?)
}

/// A value of the client as Python's own.
pub(crate) fn to_python<'py, T: Serialize + ?Sized>(
    py: Python<'py>,
    value: &T,
) -> PyResult<Bound<'py, PyAny>> {
    let text = serde_json::to_vec(value).map_err(|error| PyValueError::new_err(error.to_string()))?;
    loads(py, &text)
}

/// A value for the client; `name` is what the argument is called.
///
/// # Errors
/// What is wrong with it (ValueError, TypeError).
pub(crate) fn from_python<T: DeserializeOwned>(name: &str, object: &Bound<'_, PyAny>) -> PyResult<T> {
    let text = dumps(object)?;
    serde_json::from_str(text.to_str()?)
        .map_err(|error| PyValueError::new_err(format!("{name}={text} makes no sense: {error}")))
}

/// The same of an argument that may be left out.
pub(crate) fn from_optional<T: DeserializeOwned>(
    name: &str,
    object: Option<&Bound<'_, PyAny>>,
) -> PyResult<Option<T>> {
    object.map(|object| from_python(name, object)).transpose()
}

/// Metadata: JSON text (`str`, `bytes`), or an object that has one.
pub(crate) fn metadata(object: Option<&Bound<'_, PyAny>>) -> PyResult<Metadata> {
    let Some(object) = object else {
        return Ok(Metadata::default());
    };
    if let Ok(text) = object.cast::<PyString>() {
        return Ok(Metadata::from(text.to_str()?));
    }
    if let Ok(bytes) = object.cast::<PyBytes>() {
        return Ok(Metadata::from(Bytes::copy_from_slice(bytes.as_bytes())));
    }
    Ok(Metadata::from(dumps(object)?.to_str()?))
}
