//! Pushing events.

use std::sync::Arc;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::buffers::pushed;
use crate::convert::metadata;
use crate::errors::OrRaise;
use crate::exit::{Ends, at_exit};
use crate::futures::{FutureFlushed, FutureUint};
use crate::options::{Ordering, batch_size_to_python};
use crate::pool::ThreadPool;
use crate::process::Owner;
use crate::topic::TopicHandle;
use crate::waiting::wait;

/// See `_mofka.pyi`.
#[pyclass(frozen, module = "mofka", weakref)]
pub(crate) struct Producer {
    /// Gone when it is dropped.
    inner: Option<Arc<Inner>>,
    topic: Py<TopicHandle>,
    kept_bytes_min: usize,
}

struct Inner {
    producer: mofka_client::Producer,
    owner: Owner,
}

impl Producer {
    pub(crate) fn new(producer: mofka_client::Producer, topic: Py<TopicHandle>) -> Self {
        let kept_bytes_min = producer.options().shared_bytes_min.max(4096);
        let inner = Arc::new(Inner {
            producer,
            owner: Owner::here(),
        });
        at_exit(&inner);
        Self {
            inner: Some(inner),
            topic,
            kept_bytes_min,
        }
    }

    fn get(&self) -> PyResult<&mofka_client::Producer> {
        let gone = || PyRuntimeError::new_err("the producer is gone");
        let inner = self.inner.as_ref().ok_or_else(gone)?;
        inner.owner.check("producer")?;
        Ok(&inner.producer)
    }
}

#[pymethods]
impl Producer {
    #[getter]
    fn name(&self) -> PyResult<String> {
        Ok(self.get()?.name().to_owned())
    }

    #[getter]
    fn topic(&self, py: Python<'_>) -> Py<TopicHandle> {
        self.topic.clone_ref(py)
    }

    #[getter]
    fn batch_size(&self) -> PyResult<u32> {
        Ok(batch_size_to_python(self.get()?.options().batch_size))
    }

    #[getter]
    fn max_num_batches(&self) -> PyResult<usize> {
        Ok(self.get()?.options().max_num_batches)
    }

    #[getter]
    fn ordering(&self) -> PyResult<Ordering> {
        Ok(match self.get()?.options().ordering {
            mofka_client::Ordering::Strict => Ordering::Strict,
            mofka_client::Ordering::Loose => Ordering::Loose,
        })
    }

    #[getter]
    fn thread_pool(&self) -> PyResult<Option<ThreadPool>> {
        Ok(self.get()?.options().thread_pool.clone().map(ThreadPool::new))
    }

    #[pyo3(signature = (metadata=None, data=None, *, partition=None, copy=None))]
    fn push(
        &self,
        py: Python<'_>,
        metadata: Option<&Bound<'_, PyAny>>,
        data: Option<&Bound<'_, PyAny>>,
        partition: Option<usize>,
        copy: Option<bool>,
    ) -> PyResult<FutureUint> {
        let producer = self.get()?;
        let metadata = self::metadata(metadata)?;
        let data = pushed(data, copy, self.kept_bytes_min)?;
        let pushed = py.detach(|| producer.push(metadata, data, partition));
        let pushed = pushed.or_raise(py)?;
        Ok(FutureUint::new(pushed, None))
    }

    fn flush(&self, py: Python<'_>) -> PyResult<FutureFlushed> {
        let producer = self.get()?;
        Ok(FutureFlushed::new(py.detach(|| producer.flush()), None))
    }

    fn close<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let producer = self.get()?;
        // What takes long is done here, where a signal ends it.
        let flush = py.detach(|| producer.flush());
        wait(py, &flush, None)?.or_raise(py)?;
        let report = py.detach(|| producer.close()).or_raise(py)?;
        let account = PyDict::new(py);
        account.set_item("pushed", report.pushed)?;
        account.set_item("acknowledged", report.acknowledged)?;
        account.set_item("failed", report.failed)?;
        account.set_item("failed_by_reason", report.failed_by_reason)?;
        account.set_item("may_be_stored", report.may_be_stored)?;
        Ok(account)
    }

    fn done(&self, py: Python<'_>) -> PyResult<(u32, u32)> {
        self.close(py)?;
        let producer = self.get()?;
        let done = py.detach(|| producer.done()).or_raise(py)?;
        Ok((done.done, done.expected))
    }

    #[getter]
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let counted = self.get()?.stats();
        let stats = PyDict::new(py);
        stats.set_item("events", counted.events)?;
        stats.set_item("bytes", counted.bytes)?;
        stats.set_item("batches", counted.batches)?;
        stats.set_item("resent", counted.resent)?;
        stats.set_item("acknowledged", counted.acknowledged)?;
        stats.set_item("failed", counted.failed)?;
        Ok(stats)
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __exit__(
        &self,
        py: Python<'_>,
        _class: &Bound<'_, PyAny>,
        _error: &Bound<'_, PyAny>,
        _trace: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        self.close(py).map(|_| ())
    }

    fn __repr__(&self) -> PyResult<String> {
        let producer = self.get()?;
        let stats = producer.stats();
        Ok(format!(
            "<Producer {:?}: {} pushed, {} acknowledged, {} failed>",
            producer.name(),
            stats.events,
            stats.acknowledged,
            stats.failed
        ))
    }
}

impl Drop for Producer {
    /// Waits for its events, as the client does, and lets others run meanwhile: they may be what it waits for.
    fn drop(&mut self) {
        let inner = self.inner.take();
        Python::attach(|py| py.detach(|| drop(inner)));
    }
}

impl Ends for Inner {
    fn is_ours(&self) -> bool {
        self.owner.is_here()
    }

    fn end(&self, py: Python<'_>) -> PyResult<u64> {
        let flush = py.detach(|| self.producer.flush());
        let flushed = wait(py, &flush, Some(self.producer.options().drop_timeout))?.or_raise(py)?;
        let stats = self.producer.stats();
        let settled = stats.acknowledged.saturating_add(stats.failed);
        match flushed {
            Some(()) => py.detach(|| self.producer.close()).or_raise(py).map(|_| 0),
            None => Ok(stats.events.saturating_sub(settled)),
        }
    }
}
