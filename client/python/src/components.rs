//! Validators, partition selectors and serializers that are written in Python.

use bytes::Bytes;
use mofka_client::{BoxError, Data, Metadata, PartitionSelector, Selection, Serializer, Validator};
use pyo3::prelude::*;
use serde_json::{Map, Value};

use crate::buffers;
use crate::convert::{loads, metadata, to_python};
use crate::errors::{OrRaise, interpreter_gone, to_client};
use crate::gate;

/// An object of the application.
struct Component(Py<PyAny>);

impl Component {
    /// What the application's factory makes of a topic's document.
    fn make(factory: &Py<PyAny>, config: &Map<String, Value>) -> Result<Self, BoxError> {
        with_python(|py| {
            let made = factory.bind(py).call1((to_python(py, config)?,))?;
            Ok(Self(made.unbind()))
        })
    }
}

/// Calls into the application; what it raises is the client's error.
fn with_python<T>(call: impl FnOnce(Python<'_>) -> PyResult<T>) -> Result<T, BoxError> {
    gate::attach(|py| call(py).map_err(|error| to_client(py, &error)))
        .unwrap_or_else(|| Err(interpreter_gone()))
}

impl Validator for Component {
    fn validate(&self, metadata: &Metadata, data: &Data) -> Result<(), BoxError> {
        with_python(|py| {
            let arguments = (loads(py, metadata.raw())?, buffers::to_python(py, data)?);
            self.0.bind(py).call_method1("validate", arguments)?;
            Ok(())
        })
    }
}

impl PartitionSelector for Component {
    fn select(&self, event: &Selection<'_>) -> Result<usize, BoxError> {
        with_python(|py| {
            let partitions = to_python(py, event.partitions)?;
            let arguments = (loads(py, event.metadata.raw())?, event.requested, partitions);
            self.0.bind(py).call_method1("select", arguments)?.extract()
        })
    }
}

impl Serializer for Component {
    fn serialize(&self, metadata: &Metadata, bytes: &mut Vec<u8>) -> Result<(), BoxError> {
        with_python(|py| {
            let document = loads(py, metadata.raw())?;
            let made = self.0.bind(py).call_method1("serialize", (document,))?;
            bytes.extend_from_slice(made.extract()?);
            Ok(())
        })
    }

    fn deserialize(&self, bytes: &Bytes) -> Result<Metadata, BoxError> {
        with_python(|py| {
            let made = self.0.bind(py).call_method1("deserialize", (bytes.as_ref(),))?;
            metadata(Some(&made))
        })
    }
}

#[doc = doc!(register_validator)]
#[pyfunction]
pub(crate) fn register_validator(py: Python<'_>, name: &str, factory: Py<PyAny>) -> PyResult<()> {
    mofka_client::register_validator(name, move |config| Component::make(&factory, config)).or_raise(py)
}

#[doc = doc!(register_partition_selector)]
#[pyfunction]
pub(crate) fn register_partition_selector(py: Python<'_>, name: &str, factory: Py<PyAny>) -> PyResult<()> {
    mofka_client::register_partition_selector(name, move |config| Component::make(&factory, config))
        .or_raise(py)
}

#[doc = doc!(register_serializer)]
#[pyfunction]
pub(crate) fn register_serializer(py: Python<'_>, name: &str, factory: Py<PyAny>) -> PyResult<()> {
    mofka_client::register_serializer(name, move |config| Component::make(&factory, config)).or_raise(py)
}
