//! Data of one event that is written in pieces.

use std::io::Write;

use pyo3::prelude::*;

use crate::buffers::Lent;
use crate::errors::OrRaise;
use crate::turns::Turns;
use crate::waiting::ask;

/// Bytes that are written between two looks for signals.
const BETWEEN_SIGNALS: usize = 1 << 20;

#[doc = doc!(DataWriter)]
#[pyclass(frozen, module = "mofka")]
pub(crate) struct DataWriter {
    writer: Turns<mofka_client::DataWriter>,
}

impl DataWriter {
    pub(crate) fn new(writer: mofka_client::DataWriter) -> Self {
        let writer = Turns::new("writer", writer);
        Self { writer }
    }
}

#[pymethods]
impl DataWriter {
    #[doc = doc!(DataWriter write)]
    fn write(&self, py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<usize> {
        let data = Lent::of(data)?;
        for part in data.bytes().chunks(BETWEEN_SIGNALS) {
            self.writer.with(py, |writer| writer.write_all(part))??;
            py.check_signals()?;
        }
        Ok(data.bytes().len())
    }

    #[doc = doc!(DataWriter data_size)]
    #[getter]
    fn data_size(&self, py: Python<'_>) -> PyResult<u64> {
        self.writer.with(py, |writer| writer.data_bytes())
    }

    #[doc = doc!(DataWriter finish)]
    fn finish(&self, py: Python<'_>) -> PyResult<u64> {
        let writer = self.writer.take_last(py)?;
        // A signal ends the wait, and the event may be stored all the same.
        let finished = ask(py, move || writer.finish())?;
        finished.or_raise(py).map(mofka_client::EventId::get)
    }

    #[doc = doc!(DataWriter abort)]
    fn abort(&self, py: Python<'_>) -> PyResult<()> {
        if self.writer.is_over() {
            return Ok(());
        }
        self.writer.last(py, drop)
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __exit__(
        &self,
        py: Python<'_>,
        class: &Bound<'_, PyAny>,
        _error: &Bound<'_, PyAny>,
        _trace: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        if !class.is_none() {
            return self.abort(py);
        }
        if !self.writer.is_over() {
            self.finish(py)?;
        }
        Ok(())
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        match self.data_size(py) {
            Ok(bytes) => format!("<DataWriter: {bytes} bytes>"),
            Err(_) => "<DataWriter: done, or in use>".to_owned(),
        }
    }
}
