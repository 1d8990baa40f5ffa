//! Pushing events.

use mofka_client::{Data, Metadata, PushFuture};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use crate::buffers::{InPlace, pushed};
use crate::convert::metadata;
use crate::errors::{IntoPython, OrRaise};
use crate::futures::{FutureFlushed, FutureUint};
use crate::gate;
use crate::held::{Held, Holdable};
use crate::html;
use crate::options::{Ordering, batch_size_to_python};
use crate::pool::ThreadPool;
use crate::topic::TopicHandle;
use crate::waiting::{Signals, ask, wait};
use crate::writer::DataWriter;

/// Events of `push_many` that are made ready before they are pushed together, without the interpreter's lock.
const TOGETHER: usize = 1024;

#[doc = doc!(Producer)]
#[pyclass(frozen, module = "mofka", weakref)]
pub(crate) struct Producer {
    held: Held<mofka_client::Producer>,
    topic: Py<TopicHandle>,
    kept_bytes_min: usize,
}

impl Producer {
    pub(crate) fn new(producer: mofka_client::Producer, topic: Py<TopicHandle>) -> Self {
        let kept_bytes_min = producer.options().shared_bytes_min.max(4096);
        let held = Held::new(producer);
        Self {
            held,
            topic,
            kept_bytes_min,
        }
    }

    fn get(&self) -> PyResult<&mofka_client::Producer> {
        self.held.get()
    }

    fn push_all(
        &self,
        metadata: &Bound<'_, PyAny>,
        data: Option<&Bound<'_, PyAny>>,
        partition: Option<usize>,
        copy: Option<bool>,
        futures: &Bound<'_, PyList>,
    ) -> PyResult<()> {
        let py = metadata.py();
        let mut documents = metadata.try_iter()?;
        let mut all_data = data.map(|data| data.try_iter()).transpose()?;
        let mut next = || match (documents.next().transpose()?, &mut all_data) {
            (document, None) => Ok(document.map(|document| (document, None))),
            (document, Some(all_data)) => match (document, all_data.next().transpose()?) {
                (Some(document), Some(data)) => Ok(Some((document, Some(data)))),
                (None, None) => Ok(None),
                _ => Err(PyValueError::new_err(
                    "metadata and data have different lengths: there is one for each event",
                )),
            },
        };
        loop {
            let mut ready = Vec::new();
            let mut made_ready = || {
                let _inside = gate::calling(py);
                while ready.len() < TOGETHER {
                    let Some((document, data)) = next()? else {
                        return Ok(true);
                    };
                    let data = pushed(data.as_ref(), copy, self.kept_bytes_min)?;
                    ready.push((self::metadata(Some(&document))?, data));
                }
                Ok::<_, PyErr>(false)
            };
            let is_over = made_ready();
            // Those before the one that is wrong are pushed.
            self.push_ready(py, ready, partition, futures)?;
            if is_over? {
                return Ok(());
            }
            py.check_signals()?;
        }
    }

    /// Pushes what was made ready, up to the first event that is refused.
    fn push_ready(
        &self,
        py: Python<'_>,
        ready: Vec<(Metadata, Data)>,
        partition: Option<usize>,
        futures: &Bound<'_, PyList>,
    ) -> PyResult<()> {
        let producer = self.get()?;
        let signals = Signals::default();
        let (taken, refused) = gate::detach(py, || {
            let mut taken: Vec<PushFuture> = Vec::with_capacity(ready.len());
            for (metadata, data) in ready {
                match producer.push_while(metadata, data, partition, || signals.go_on()) {
                    Ok(future) => taken.push(future),
                    Err(error) => return (taken, Err(error)),
                }
            }
            (taken, Ok(()))
        });
        for future in taken {
            futures.append(FutureUint::new(future, None))?;
        }
        signals.raised().and_then(|()| refused.or_raise(py))
    }
}

impl Holdable for mofka_client::Producer {
    const NAME: &'static str = "producer";

    fn end(&self, py: Python<'_>) -> PyResult<u64> {
        let flush = gate::detach(py, || self.flush());
        let flushed = wait(py, &flush, Some(self.options().drop_timeout))?.or_raise(py)?;
        let stats = self.stats();
        let settled = stats.acknowledged.saturating_add(stats.failed);
        match flushed {
            Some(()) => gate::detach(py, || self.close()).or_raise(py).map(|_| 0),
            None => Ok(stats.events.saturating_sub(settled)),
        }
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

    #[doc = doc!(Producer batch_size)]
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

    #[doc = doc!(Producer push)]
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
        let signals = Signals::default();
        let pushed = gate::detach(py, || {
            producer.push_while(metadata, data, partition, || signals.go_on())
        });
        signals.raised()?;
        let pushed = pushed.or_raise(py)?;
        Ok(FutureUint::new(pushed, None))
    }

    #[doc = doc!(Producer push_many)]
    #[pyo3(signature = (metadata, data=None, *, partition=None, copy=None))]
    fn push_many<'py>(
        &self,
        py: Python<'py>,
        metadata: &Bound<'py, PyAny>,
        data: Option<&Bound<'py, PyAny>>,
        partition: Option<usize>,
        copy: Option<bool>,
    ) -> PyResult<Bound<'py, PyList>> {
        let futures = PyList::empty(py);
        let pushed = self.push_all(metadata, data, partition, copy, &futures);
        pushed.map(|()| futures.clone()).map_err(|error| {
            // What was taken before is not lost to the caller.
            let told = error.value(py).setattr("pushed", &futures);
            told.err().unwrap_or(error)
        })
    }

    #[doc = doc!(Producer push_stream)]
    #[pyo3(signature = (metadata=None, *, partition=None))]
    fn push_stream(
        &self,
        py: Python<'_>,
        metadata: Option<&Bound<'_, PyAny>>,
        partition: Option<usize>,
    ) -> PyResult<DataWriter> {
        let producer = self.get()?.clone();
        let metadata = self::metadata(metadata)?;
        let writer = ask(py, move || producer.push_stream(metadata, partition))?;
        Ok(DataWriter::new(writer.map_err(|error| error.into_python(py))?))
    }

    #[doc = doc!(Producer claim)]
    #[pyo3(signature = (metadata, nbytes, *, partition=None))]
    fn claim(
        slf: &Bound<'_, Self>,
        metadata: Option<&Bound<'_, PyAny>>,
        nbytes: usize,
        partition: Option<usize>,
    ) -> PyResult<InPlace> {
        let py = slf.py();
        let producer = slf.get().get()?;
        let metadata = self::metadata(metadata)?;
        let claim = gate::detach(py, || producer.claim(metadata, nbytes, partition)).or_raise(py)?;
        Ok(InPlace::new(claim, slf.clone().unbind()))
    }

    #[doc = doc!(Producer flush)]
    fn flush(&self, py: Python<'_>) -> PyResult<FutureFlushed> {
        let producer = self.get()?;
        Ok(FutureFlushed::new(gate::detach(py, || producer.flush()), None))
    }

    #[doc = doc!(Producer close)]
    fn close<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let producer = self.get()?;
        // What takes long is done here, where a signal ends it.
        let flush = gate::detach(py, || producer.flush());
        wait(py, &flush, None)?.or_raise(py)?;
        let report = gate::detach(py, || producer.close()).or_raise(py)?;
        let account = PyDict::new(py);
        account.set_item("pushed", report.pushed)?;
        account.set_item("acknowledged", report.acknowledged)?;
        account.set_item("failed", report.failed)?;
        account.set_item("failed_by_reason", report.failed_by_reason)?;
        account.set_item("may_be_stored", report.may_be_stored)?;
        Ok(account)
    }

    #[doc = doc!(Producer done)]
    fn done(&self, py: Python<'_>) -> PyResult<(u32, u32)> {
        self.close(py)?;
        let producer = self.get()?;
        let producer = producer.clone();
        let done = ask(py, move || producer.done())?.or_raise(py)?;
        Ok((done.done, done.expected))
    }

    #[doc = doc!(Producer stats)]
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

    fn _repr_html_(&self) -> PyResult<String> {
        let producer = self.get()?;
        let stats = producer.stats();
        Ok(html::facts(
            &format!("Producer {:?}", producer.name()),
            &[
                ("pushed", stats.events.to_string()),
                ("bytes", stats.bytes.to_string()),
                ("batches", stats.batches.to_string()),
                ("acknowledged", stats.acknowledged.to_string()),
                ("failed", stats.failed.to_string()),
            ],
        ))
    }
}
