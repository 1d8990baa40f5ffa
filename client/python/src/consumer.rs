//! Pulling events.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mofka_client::ProcessError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::errors::{IntoPython, OrRaise};
use crate::event::Event;
use crate::futures::FutureEvent;
use crate::gate;
use crate::held::{Held, Holdable};
use crate::html;
use crate::options::{batch_size_to_python, start};
use crate::pool::ThreadPool;
use crate::processing::{self, Processing};
use crate::topic::TopicHandle;
use crate::waiting::{timeout, wait};

/// After which silence a loop over a consumer ends.
const ITERATION_TIMEOUT_MS: f64 = 5000.0;

#[doc = doc!(Consumer)]
#[pyclass(frozen, module = "mofka", weakref)]
pub(crate) struct Consumer {
    held: Held<mofka_client::Consumer>,
    topic: Py<TopicHandle>,
    /// One call at a time; the client sees parts of it.
    is_processing: AtomicBool,
}

impl Consumer {
    pub(crate) fn new(consumer: mofka_client::Consumer, topic: Py<TopicHandle>) -> Self {
        let held = Held::new(consumer);
        Self {
            held,
            topic,
            is_processing: AtomicBool::new(false),
        }
    }

    fn get(&self) -> PyResult<&mofka_client::Consumer> {
        self.held.get()
    }
}

impl Holdable for mofka_client::Consumer {
    const NAME: &'static str = "consumer";

    fn end(&self, py: Python<'_>) -> PyResult<u64> {
        gate::detach(py, || self.close());
        Ok(0)
    }
}

#[pymethods]
impl Consumer {
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
    fn thread_pool(&self) -> PyResult<Option<ThreadPool>> {
        Ok(self.get()?.options().thread_pool.clone().map(ThreadPool::new))
    }

    #[doc = doc!(Consumer partitions)]
    #[getter]
    fn partitions(&self, py: Python<'_>) -> PyResult<Vec<usize>> {
        let consumer = self.get()?;
        Ok(gate::detach(py, || consumer.partitions()))
    }

    #[doc = doc!(Consumer pull)]
    fn pull(slf: Bound<'_, Self>) -> PyResult<FutureEvent> {
        let consumer = slf.get().get()?;
        let pull = gate::detach(slf.py(), || consumer.pull());
        Ok(FutureEvent::new(pull, Some(slf.into_any().unbind())))
    }

    #[doc = doc!(Consumer events)]
    #[pyo3(signature = (timeout_ms=ITERATION_TIMEOUT_MS))]
    fn events(slf: Bound<'_, Self>, timeout_ms: Option<f64>) -> PyResult<EventIterator> {
        slf.get().get()?;
        Ok(EventIterator {
            timeout: timeout(timeout_ms)?,
            consumer: slf.unbind(),
        })
    }

    fn __iter__(slf: Bound<'_, Self>) -> PyResult<EventIterator> {
        Self::events(slf, Some(ITERATION_TIMEOUT_MS))
    }

    fn __aiter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __anext__(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        let _inside = gate::calling(slf.py());
        let next = slf.py().import("mofka._asyncio")?.getattr("next_event")?;
        Ok(next.call1((slf,))?.unbind())
    }

    #[doc = doc!(Consumer seek)]
    fn seek(&self, py: Python<'_>, partition: usize, to: &Bound<'_, PyAny>) -> PyResult<()> {
        let to = start(to)?;
        let consumer = self.get()?;
        gate::detach(py, || consumer.seek(partition, to)).or_raise(py)
    }

    #[doc = doc!(Consumer process)]
    #[pyo3(signature = (processor, *, timeout_ms=None, max_events=None, thread_pool=None))]
    fn process(
        &self,
        py: Python<'_>,
        processor: Py<PyAny>,
        timeout_ms: Option<f64>,
        max_events: Option<u64>,
        thread_pool: Option<&Bound<'_, ThreadPool>>,
    ) -> PyResult<u64> {
        let processing = Processing {
            timeout: timeout(timeout_ms)?,
            max_events,
            thread_pool: thread_pool.and_then(|pool| pool.get().get()),
        };
        let consumer = self.get()?;
        if self.is_processing.swap(true, Ordering::AcqRel) {
            return Err(ProcessError::UnderWay.into_python(py));
        }
        let processed = processing::process(py, consumer, processor, &processing);
        self.is_processing.store(false, Ordering::Release);
        processed
    }

    #[doc = doc!(Consumer stats)]
    #[getter]
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let counted = self.get()?.stats();
        let stats = PyDict::new(py);
        stats.set_item("events", counted.events)?;
        stats.set_item("feeds", counted.feeds)?;
        stats.set_item("feed_bytes", counted.feed_bytes)?;
        stats.set_item("fetches", counted.fetches)?;
        stats.set_item("fetched_bytes", counted.fetched_bytes)?;
        stats.set_item("missed", counted.missed)?;
        Ok(stats)
    }

    #[doc = doc!(Consumer close)]
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let consumer = self.get()?;
        gate::detach(py, || consumer.close());
        Ok(())
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
        self.close(py)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let consumer = self.get()?;
        let partitions = gate::detach(py, || consumer.partitions());
        let events = consumer.stats().events;
        let name = consumer.name();
        Ok(format!(
            "<Consumer {name:?}: partitions {partitions:?}, {events} events>"
        ))
    }

    fn _repr_html_(&self, py: Python<'_>) -> PyResult<String> {
        let consumer = self.get()?;
        let partitions = gate::detach(py, || consumer.partitions());
        let stats = consumer.stats();
        Ok(html::facts(
            &format!("Consumer {:?}", consumer.name()),
            &[
                ("partitions", format!("{partitions:?}")),
                ("events", stats.events.to_string()),
                ("bytes of data fetched", stats.fetched_bytes.to_string()),
                ("missed", stats.missed.to_string()),
            ],
        ))
    }
}

#[doc = doc!(EventIterator)]
#[pyclass(frozen, module = "mofka")]
pub(crate) struct EventIterator {
    consumer: Py<Consumer>,
    timeout: Option<Duration>,
}

#[pymethods]
impl EventIterator {
    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Event>> {
        let consumer = self.consumer.get().get()?;
        let pull = gate::detach(py, || consumer.pull());
        let event = wait(py, &pull, self.timeout)?.or_raise(py)?.map(Event::new);
        Ok(event.filter(|event| !event.is_none()))
    }
}
