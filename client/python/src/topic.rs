//! A topic that was opened.

use mofka_client::{ConsumerOptions, ProducerOptions};
use pyo3::prelude::*;

use crate::consumer::Consumer;
use crate::convert::{from_optional, from_python, to_python};
use crate::driver::Driver;
use crate::errors::OrRaise;
use crate::gate;
use crate::html;
use crate::options::{Ordering, batch_size, milliseconds, on_assignment, start};
use crate::pool::ThreadPool;
use crate::producer::Producer;
use crate::selecting::{allocator, selector};
use crate::waiting::ask;

#[doc = doc!(TopicHandle)]
#[pyclass(frozen, module = "mofka")]
pub(crate) struct TopicHandle {
    topic: mofka_client::TopicHandle,
}

impl TopicHandle {
    pub(crate) fn new(topic: mofka_client::TopicHandle) -> Self {
        Self { topic }
    }

    fn ask<T: Send + 'static>(
        &self,
        py: Python<'_>,
        question: impl FnOnce(&mofka_client::TopicHandle) -> T + Send + 'static,
    ) -> PyResult<T> {
        let topic = self.topic.clone();
        ask(py, move || question(&topic))
    }
}

#[pymethods]
impl TopicHandle {
    #[getter]
    fn name(&self) -> String {
        self.topic.name()
    }

    #[getter]
    fn driver(&self) -> Driver {
        Driver::of(self.topic.driver())
    }

    #[doc = doc!(TopicHandle info)]
    #[getter]
    fn info<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        to_python(py, self.topic.info().as_ref())
    }

    #[doc = doc!(TopicHandle partitions)]
    #[getter]
    fn partitions<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        to_python(py, &self.topic.info().partitions)
    }

    #[getter]
    fn validator<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        to_python(py, &self.topic.info().validator)
    }

    #[getter]
    fn partition_selector<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        to_python(py, &self.topic.info().partition_selector)
    }

    #[getter]
    fn serializer<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        to_python(py, &self.topic.info().serializer)
    }

    #[doc = doc!(TopicHandle refresh)]
    fn refresh(&self, py: Python<'_>) -> PyResult<()> {
        self.ask(py, |topic| topic.refresh())?.or_raise(py)
    }

    #[doc = doc!(TopicHandle mark_as_complete)]
    fn mark_as_complete(&self, py: Python<'_>) -> PyResult<()> {
        self.ask(py, |topic| topic.mark_complete())?.or_raise(py)
    }

    fn mark_partition_as_complete(&self, py: Python<'_>, partition: usize) -> PyResult<()> {
        self.ask(py, move |topic| topic.mark_partition_complete(partition))?
            .or_raise(py)
    }

    fn set_retention(&self, py: Python<'_>, retention: &Bound<'_, PyAny>) -> PyResult<()> {
        let retention = from_python("retention", retention)?;
        self.ask(py, |topic| topic.set_retention(retention))?.or_raise(py)
    }

    #[doc = doc!(TopicHandle sync)]
    fn sync(&self, py: Python<'_>) -> PyResult<()> {
        self.ask(py, |topic| topic.sync())?.or_raise(py)
    }

    #[doc = doc!(TopicHandle seek)]
    fn seek(&self, py: Python<'_>, consumer: &str, partition: usize, to: &Bound<'_, PyAny>) -> PyResult<u64> {
        let to = start(to)?;
        let consumer = consumer.to_owned();
        self.ask(py, move |topic| topic.seek(&consumer, partition, to))?
            .or_raise(py)
    }

    fn partition_status<'py>(&self, py: Python<'py>, partition: usize) -> PyResult<Bound<'py, PyAny>> {
        let status = self
            .ask(py, move |topic| topic.partition_status(partition))?
            .or_raise(py)?;
        to_python(py, &status)
    }

    #[doc = doc!(TopicHandle producer)]
    #[pyo3(signature = (
        name="", *, batch_size=None, max_num_batches=2, ordering=Ordering::Strict, thread_pool=None, durability=None,
        batch_bytes_max=None, shared_bytes_min=None, delivery_timeout_ms=None, batch_idle_timeout_ms=None,
        drop_timeout_ms=None
    ))]
    fn producer(
        slf: Bound<'_, Self>,
        name: &str,
        batch_size: Option<u64>,
        max_num_batches: usize,
        ordering: Ordering,
        thread_pool: Option<&Bound<'_, ThreadPool>>,
        durability: Option<&Bound<'_, PyAny>>,
        batch_bytes_max: Option<u64>,
        shared_bytes_min: Option<usize>,
        delivery_timeout_ms: Option<f64>,
        batch_idle_timeout_ms: Option<f64>,
        drop_timeout_ms: Option<f64>,
    ) -> PyResult<Producer> {
        let time = |name, ms: Option<f64>| ms.map(|ms| milliseconds(name, ms)).transpose();
        let defaults = ProducerOptions::default();
        let options = ProducerOptions {
            name: name.to_owned(),
            batch_size: self::batch_size(batch_size),
            max_num_batches,
            batch_bytes_max: batch_bytes_max.unwrap_or(defaults.batch_bytes_max),
            shared_bytes_min: shared_bytes_min.unwrap_or(defaults.shared_bytes_min),
            ordering: match ordering {
                Ordering::Strict => mofka_client::Ordering::Strict,
                Ordering::Loose => mofka_client::Ordering::Loose,
            },
            thread_pool: thread_pool.and_then(|pool| pool.get().get()),
            delivery_timeout: time("delivery_timeout_ms", delivery_timeout_ms)?,
            batch_idle_timeout: time("batch_idle_timeout_ms", batch_idle_timeout_ms)?,
            durability: from_optional("durability", durability)?,
            drop_timeout: time("drop_timeout_ms", drop_timeout_ms)?.unwrap_or(defaults.drop_timeout),
            source: defaults.source,
        };
        let py = slf.py();
        let topic = &slf.get().topic;
        let producer = gate::detach(py, || topic.producer(options));
        Ok(Producer::new(producer, slf.unbind()))
    }

    #[doc = doc!(TopicHandle consumer)]
    #[pyo3(signature = (
        name, *, data_selector=Some("all".into()), data_allocator=None, batch_size=None, max_num_batches=2,
        thread_pool=None, targets=None, filter=None, start=None, batch_bytes_max=None, data_bytes_max=None,
        on_assignment=None
    ))]
    fn consumer(
        slf: Bound<'_, Self>,
        name: &str,
        data_selector: Option<Selecting<'_>>,
        data_allocator: Option<Bound<'_, PyAny>>,
        batch_size: Option<u64>,
        max_num_batches: usize,
        thread_pool: Option<&Bound<'_, ThreadPool>>,
        targets: Option<Vec<usize>>,
        filter: Option<&Bound<'_, PyAny>>,
        start: Option<&Bound<'_, PyAny>>,
        batch_bytes_max: Option<u32>,
        data_bytes_max: Option<u64>,
        on_assignment: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Consumer> {
        let defaults = ConsumerOptions::default();
        let options = ConsumerOptions {
            batch_size: self::batch_size(batch_size),
            max_num_batches,
            batch_bytes_max: batch_bytes_max.unwrap_or(defaults.batch_bytes_max),
            targets: targets.unwrap_or_default(),
            filter: from_optional("filter", filter)?,
            data_selector: data_selector.map_or_else(|| selector(None), Selecting::selector)?,
            data_bytes_max: data_bytes_max.unwrap_or(defaults.data_bytes_max),
            data_allocator: allocator(data_allocator)?,
            thread_pool: thread_pool.and_then(|pool| pool.get().get()),
            on_assignment: self::on_assignment(on_assignment)?,
            start: start.map(self::start).transpose()?.unwrap_or_default(),
        };
        let py = slf.py();
        let name = name.to_owned();
        let made = slf.get().ask(py, move |topic| topic.consumer(&name, options))?;
        let consumer = made.or_raise(py)?;
        Ok(Consumer::new(consumer, slf.unbind()))
    }

    fn __repr__(&self) -> String {
        let info = self.topic.info();
        let complete = if info.complete { ", complete" } else { "" };
        let partitions = info.partitions.len();
        format!("<TopicHandle {:?}, {partitions} partitions{complete}>", info.name)
    }

    fn _repr_html_(&self) -> String {
        let info = self.topic.info();
        let complete = if info.complete { ", complete" } else { "" };
        let heading = format!("Topic {:?}{complete}", info.name);
        let rows = info.partitions.iter().map(|partition| {
            let kind = serde_json::to_string(&partition.kind).unwrap_or_default();
            vec![
                partition.index.to_string(),
                partition.id.to_string(),
                kind.trim_matches('"').to_owned(),
            ]
        });
        let components = html::facts(
            "",
            &[
                ("validator", info.validator.to_string()),
                ("partition selector", info.partition_selector.to_string()),
                ("serializer", info.serializer.to_string()),
            ],
        );
        html::table(&heading, &["partition", "id", "type"], rows) + &components
    }
}

/// The argument `data_selector`, which has a default that is no object yet.
enum Selecting<'py> {
    All,
    Object(Bound<'py, PyAny>),
}

impl From<&str> for Selecting<'_> {
    fn from(_: &str) -> Self {
        Self::All
    }
}

impl<'py> FromPyObject<'_, 'py> for Selecting<'py> {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        Ok(Self::Object(object.to_owned()))
    }
}

impl Selecting<'_> {
    fn selector(self) -> PyResult<mofka_client::DataSelector> {
        match self {
            Self::All => Ok(mofka_client::DataSelector::all()),
            Self::Object(object) => selector(Some(object)),
        }
    }
}
