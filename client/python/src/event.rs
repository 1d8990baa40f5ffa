//! An event that was pulled.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyList};

use crate::buffers;
use crate::convert::{loads, to_python};
use crate::descriptor::{DataDescriptor, DataRef};
use crate::errors::{OrRaise, raise};
use crate::futures::FutureAcknowledged;
use crate::gate;
use crate::html;
use crate::process::Owner;
use crate::reader::Pieces;

#[doc = doc!(Event)]
#[pyclass(frozen, module = "mofka")]
pub(crate) struct Event {
    /// `None`: there are no more events.
    event: Option<mofka_client::Event>,
    owner: Owner,
    metadata: PyOnceLock<Py<PyAny>>,
    data: PyOnceLock<Py<PyList>>,
}

impl Event {
    pub(crate) fn new(event: Option<mofka_client::Event>) -> Self {
        Self {
            event,
            owner: Owner::here(),
            metadata: PyOnceLock::new(),
            data: PyOnceLock::new(),
        }
    }

    pub(crate) fn is_none(&self) -> bool {
        self.event.is_none()
    }
}

/// The beginning of its metadata, and what stands for the rest of it.
fn shown(event: &mofka_client::Event) -> (String, &'static str) {
    const SHOWN: usize = 200;
    let text = String::from_utf8_lossy(event.metadata_bytes());
    let metadata: String = text.chars().take(SHOWN).collect();
    let rest = if metadata.len() < text.len() { "..." } else { "" };
    (metadata, rest)
}

#[pymethods]
impl Event {
    #[doc = doc!(Event event_id)]
    #[getter]
    fn event_id(&self) -> Option<u64> {
        self.event.as_ref().map(|event| event.id().get())
    }

    #[doc = doc!(Event metadata)]
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

    #[doc = doc!(Event metadata_json)]
    #[getter]
    fn metadata_json(&self) -> String {
        self.event.as_ref().map_or_else(String::new, |event| {
            String::from_utf8_lossy(event.metadata_bytes()).into_owned()
        })
    }

    #[doc = doc!(Event data)]
    #[getter]
    fn data(&self, py: Python<'_>) -> PyResult<Py<PyList>> {
        let make = || match &self.event {
            Some(event) => buffers::to_python(py, event.data()).map(Bound::unbind),
            None => Ok(PyList::empty(py).unbind()),
        };
        self.data.get_or_try_init(py, make).map(|it| it.clone_ref(py))
    }

    #[doc = doc!(Event data_bytes)]
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

    #[doc = doc!(Event data_size)]
    #[getter]
    fn data_size(&self) -> u64 {
        self.event.as_ref().map_or(0, mofka_client::Event::data_bytes)
    }

    #[doc = doc!(Event descriptor)]
    #[getter]
    fn descriptor(&self) -> DataDescriptor {
        let descriptor = self.event.as_ref().map(|event| event.descriptor().clone());
        DataDescriptor::from(descriptor.unwrap_or_default())
    }

    #[doc = doc!(Event data_ref)]
    fn data_ref(&self, py: Python<'_>) -> PyResult<DataRef> {
        match &self.event {
            Some(event) => event.data_ref().or_raise(py).map(DataRef::from),
            None => Err(raise(
                py,
                "ViewError",
                "there are no more events, and none has no data",
            )),
        }
    }

    #[doc = doc!(Event is_reference)]
    #[getter]
    fn is_reference(&self) -> bool {
        self.event.as_ref().is_some_and(mofka_client::Event::is_reference)
    }

    #[doc = doc!(Event open_data)]
    fn open_data<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let Some(event) = &self.event else {
            return Err(raise(
                py,
                "ViewError",
                "there are no more events, and none has no data",
            ));
        };
        self.owner.check("event")?;
        let pieces = Pieces::new(gate::detach(py, || event.open_data()));
        let _inside = gate::calling(py);
        py.import("mofka._files")?.getattr("DataReader")?.call1((pieces,))
    }

    #[doc = doc!(Event partition)]
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

    #[doc = doc!(Event timestamp)]
    #[getter]
    fn timestamp(&self) -> Option<f64> {
        #[allow(clippy::cast_precision_loss, reason = "microseconds of our times fit")]
        self.event.as_ref().map(|event| event.timestamp_us() as f64 / 1e6)
    }

    #[doc = doc!(Event acknowledge)]
    fn acknowledge(&self, py: Python<'_>) -> PyResult<FutureAcknowledged> {
        match &self.event {
            Some(event) => Ok(FutureAcknowledged::new(
                gate::detach(py, || event.acknowledge()),
                None,
            )),
            None => Err(raise(
                py,
                "AcknowledgeError",
                "Cannot acknowledge \"NoMoreEvents\"",
            )),
        }
    }

    fn _repr_html_(&self) -> String {
        let Some(event) = &self.event else {
            return html::facts("No more events", &[]);
        };
        let heading = format!("Event {} of partition {}", event.id().get(), event.partition());
        let (selected, all) = (event.data().bytes(), event.data_bytes());
        let (metadata, rest) = shown(event);
        html::facts(
            &heading,
            &[
                ("metadata", metadata + rest),
                ("data", format!("{selected} of {all} bytes")),
            ],
        )
    }

    fn __repr__(&self) -> String {
        let Some(event) = &self.event else {
            return "<Event NoMoreEvents>".to_owned();
        };
        let (metadata, rest) = shown(event);
        format!(
            "<Event {} of partition {}: {metadata}{rest}, {} of {} bytes of data>",
            event.id().get(),
            event.partition(),
            event.data().bytes(),
            event.data_bytes()
        )
    }
}
