//! An event that was pulled.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyList};

use crate::buffers;
use crate::convert::{loads, to_python};
use crate::descriptor::DataDescriptor;
use crate::errors::raise;
use crate::futures::FutureAcknowledged;

/// See `_mofka.pyi`.
#[pyclass(frozen, module = "mofka")]
pub(crate) struct Event {
    /// `None`: there are no more events.
    event: Option<mofka_client::Event>,
    metadata: PyOnceLock<Py<PyAny>>,
    data: PyOnceLock<Py<PyList>>,
}

impl Event {
    pub(crate) fn new(event: Option<mofka_client::Event>) -> Self {
        Self {
            event,
            metadata: PyOnceLock::new(),
            data: PyOnceLock::new(),
        }
    }

    pub(crate) fn is_none(&self) -> bool {
        self.event.is_none()
    }
}

#[pymethods]
impl Event {
    #[getter]
    fn event_id(&self) -> Option<u64> {
        self.event.as_ref().map(|event| event.id().get())
    }

    #[getter]
    fn metadata(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let parse = || match &self.event {
            Some(event) => loads(py, event.metadata_bytes()).map(Bound::unbind),
            None => Ok(PyDict::new(py).into_any().unbind()),
        };
        self.metadata
            .get_or_try_init(py, parse)
            .map(|it| it.clone_ref(py))
    }

    #[getter]
    fn metadata_json(&self) -> String {
        self.event.as_ref().map_or_else(String::new, |event| {
            String::from_utf8_lossy(event.metadata_bytes()).into_owned()
        })
    }

    #[getter]
    fn data(&self, py: Python<'_>) -> PyResult<Py<PyList>> {
        let make = || match &self.event {
            Some(event) => buffers::to_python(py, event.data()).map(Bound::unbind),
            None => Ok(PyList::empty(py).unbind()),
        };
        self.data.get_or_try_init(py, make).map(|it| it.clone_ref(py))
    }

    /// A copy of the selected data in one piece.
    fn data_bytes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let Some(event) = &self.event else {
            return Ok(PyBytes::new(py, b""));
        };
        let bytes = usize::try_from(event.data().bytes())?;
        PyBytes::new_with(py, bytes, |into| {
            event.data().read(into, 0);
            Ok(())
        })
    }

    #[getter]
    fn data_size(&self) -> u64 {
        self.event.as_ref().map_or(0, mofka_client::Event::data_bytes)
    }

    #[getter]
    fn descriptor(&self) -> DataDescriptor {
        let descriptor = self.event.as_ref().map(|event| event.descriptor().clone());
        DataDescriptor::from(descriptor.unwrap_or_default())
    }

    #[getter]
    fn partition<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match &self.event {
            Some(event) => to_python(py, event.partition_info()),
            None => Ok(py.None().into_bound(py)),
        }
    }

    #[getter]
    fn partition_index(&self) -> Option<usize> {
        self.event.as_ref().map(mofka_client::Event::partition)
    }

    #[getter]
    fn timestamp(&self) -> Option<f64> {
        #[allow(clippy::cast_precision_loss, reason = "microseconds of our times fit")]
        self.event.as_ref().map(|event| event.timestamp_us() as f64 / 1e6)
    }

    fn acknowledge(&self, py: Python<'_>) -> PyResult<FutureAcknowledged> {
        match &self.event {
            Some(event) => Ok(FutureAcknowledged::new(py.detach(|| event.acknowledge()), None)),
            None => Err(raise(
                py,
                "AcknowledgeError",
                "Cannot acknowledge \"NoMoreEvents\"",
            )),
        }
    }

    fn __repr__(&self) -> String {
        const SHOWN: usize = 200;
        let Some(event) = &self.event else {
            return "<Event NoMoreEvents>".to_owned();
        };
        let text = String::from_utf8_lossy(event.metadata_bytes());
        let metadata: String = text.chars().take(SHOWN).collect();
        let rest = if metadata.len() < text.len() { "..." } else { "" };
        format!(
            "<Event {} of partition {}: {metadata}{rest}, {} of {} bytes of data>",
            event.id().get(),
            event.partition(),
            event.data().bytes(),
            event.data_bytes()
        )
    }
}
