//! The way to the nodes.

use std::path::PathBuf;

use mofka_client::{DriverOptions, PartitionOptions, RingSize, TopicOptions};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::background;
use crate::convert::{from_optional, to_python};
use crate::errors::OrRaise;
use crate::gate;
use crate::options::{libraries, milliseconds};
use crate::pool::ThreadPool;
use crate::topic::TopicHandle;
use crate::waiting::ask;

#[doc = doc!(Driver)]
#[pyclass(frozen, module = "mofka")]
#[derive(Clone)]
pub(crate) struct Driver {
    driver: mofka_client::Driver,
}

impl Driver {
    pub(crate) fn of(driver: &mofka_client::Driver) -> Self {
        let driver = driver.clone();
        Self { driver }
    }

    fn ask<T: Send + 'static>(
        &self,
        py: Python<'_>,
        question: impl FnOnce(&mofka_client::Driver) -> T + Send + 'static,
    ) -> PyResult<T> {
        let driver = self.driver.clone();
        ask(py, move || question(&driver))
    }
}

#[pymethods]
impl Driver {
    #[new]
    #[pyo3(signature = (
        group_file=None, *, addresses=None, connect_timeout_ms=None, reconnect_timeout_ms=None, client_name=None,
        libraries=None, shared_memory=true, ring_slots=None, ring_bytes=None, fetch_timeout_ms=60000.0
    ))]
    fn make(
        py: Python<'_>,
        group_file: Option<PathBuf>,
        addresses: Option<Vec<String>>,
        connect_timeout_ms: Option<f64>,
        reconnect_timeout_ms: Option<f64>,
        client_name: Option<String>,
        libraries: Option<&Bound<'_, PyAny>>,
        shared_memory: bool,
        ring_slots: Option<u32>,
        ring_bytes: Option<u64>,
        fetch_timeout_ms: Option<f64>,
    ) -> PyResult<Self> {
        let ring = RingSize::default();
        let mut options = DriverOptions {
            group_file,
            addresses: addresses.unwrap_or_default(),
            shared_memory: shared_memory.then_some(RingSize {
                slots: ring_slots.unwrap_or(ring.slots),
                arena_bytes: ring_bytes.unwrap_or(ring.arena_bytes),
            }),
            ..DriverOptions::default()
        };
        if let Some(ms) = connect_timeout_ms {
            options.connect_timeout = milliseconds("connect_timeout_ms", ms)?;
        }
        if let Some(ms) = reconnect_timeout_ms {
            options.reconnect_timeout = milliseconds("reconnect_timeout_ms", ms)?;
        }
        options.fetch_timeout = fetch_timeout_ms
            .map(|ms| milliseconds("fetch_timeout_ms", ms))
            .transpose()?;
        if let Some(name) = client_name {
            options.client_name = name;
        }
        if let Some(libraries) = libraries {
            options.libraries = self::libraries(libraries)?;
        }
        // Before there is anything that could want it in a child.
        background::start();
        let driver = ask(py, || mofka_client::Driver::connect(options))?.or_raise(py)?;
        Ok(Self { driver })
    }

    #[doc = doc!(Driver create_topic)]
    #[pyo3(signature = (
        name, *, partitions=1, validator=None, partition_selector=None, serializer=None, durability=None,
        retention=None, partition_type=None, partition_config=None, producers_expected=0
    ))]
    fn create_topic(
        &self,
        py: Python<'_>,
        name: &str,
        partitions: u32,
        validator: Option<&Bound<'_, PyAny>>,
        partition_selector: Option<&Bound<'_, PyAny>>,
        serializer: Option<&Bound<'_, PyAny>>,
        durability: Option<&Bound<'_, PyAny>>,
        retention: Option<&Bound<'_, PyAny>>,
        partition_type: Option<&Bound<'_, PyAny>>,
        partition_config: Option<&Bound<'_, PyAny>>,
        producers_expected: u32,
    ) -> PyResult<TopicHandle> {
        let mut options = TopicOptions::new(name).partitions(partitions);
        options.validator = from_optional("validator", validator)?;
        options.partition_selector = from_optional("partition_selector", partition_selector)?;
        options.serializer = from_optional("serializer", serializer)?;
        options.durability = from_optional("durability", durability)?;
        options.retention = from_optional("retention", retention)?;
        options.partition_kind = from_optional("partition_type", partition_type)?.unwrap_or_default();
        options.partition_config = from_optional("partition_config", partition_config)?;
        options.producers_expected = producers_expected;
        let topic = self
            .ask(py, |driver| driver.create_topic(options))?
            .or_raise(py)?;
        Ok(TopicHandle::new(topic))
    }

    #[doc = doc!(Driver open_topic)]
    fn open_topic(&self, py: Python<'_>, name: &str) -> PyResult<TopicHandle> {
        let name = name.to_owned();
        let topic = self
            .ask(py, move |driver| driver.open_topic(&name))?
            .or_raise(py)?;
        Ok(TopicHandle::new(topic))
    }

    #[doc = doc!(Driver topic_exists)]
    fn topic_exists(&self, py: Python<'_>, name: &str) -> PyResult<bool> {
        let name = name.to_owned();
        self.ask(py, move |driver| driver.topic_exists(&name))?
            .or_raise(py)
    }

    #[doc = doc!(Driver list_topics)]
    fn list_topics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let topics = self.ask(py, |driver| driver.list_topics())?.or_raise(py)?;
        let all = PyDict::new(py);
        for topic in topics {
            all.set_item(&topic.name, to_python(py, &topic)?)?;
        }
        Ok(all)
    }

    #[doc = doc!(Driver delete_topic)]
    fn delete_topic(&self, py: Python<'_>, name: &str) -> PyResult<()> {
        let name = name.to_owned();
        self.ask(py, move |driver| driver.delete_topic(&name))?
            .or_raise(py)
    }

    #[doc = doc!(Driver add_partition)]
    #[pyo3(signature = (topic, *, rank=0, shard=None, partition_type=None, config=None))]
    fn add_partition<'py>(
        &self,
        py: Python<'py>,
        topic: &str,
        rank: u32,
        shard: Option<u32>,
        partition_type: Option<&Bound<'_, PyAny>>,
        config: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let options = PartitionOptions {
            rank,
            shard,
            kind: from_optional("partition_type", partition_type)?.unwrap_or_default(),
            config: from_optional("config", config)?,
        };
        let topic = topic.to_owned();
        let added = self.ask(py, move |driver| driver.add_partition(&topic, options))?;
        let info = added.or_raise(py)?;
        to_python(py, &info)
    }

    #[doc = doc!(Driver list_consumers)]
    fn list_consumers<'py>(&self, py: Python<'py>, topic: &str) -> PyResult<Bound<'py, PyAny>> {
        let topic = topic.to_owned();
        let consumers = self
            .ask(py, move |driver| driver.list_consumers(&topic))?
            .or_raise(py)?;
        to_python(py, &consumers)
    }

    #[doc = doc!(Driver status)]
    fn status<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let status = self.ask(py, |driver| driver.status())?.or_raise(py)?;
        to_python(py, &status)
    }

    #[getter]
    fn num_servers(&self, py: Python<'_>) -> usize {
        gate::detach(py, || self.driver.num_servers())
    }

    fn make_thread_pool(&self, py: Python<'_>, count: usize) -> PyResult<ThreadPool> {
        let pool = gate::detach(py, || self.driver.make_thread_pool(count)).or_raise(py)?;
        Ok(ThreadPool::new(pool))
    }

    #[doc = doc!(Driver default_thread_pool)]
    #[getter]
    fn default_thread_pool(&self, py: Python<'_>) -> PyResult<ThreadPool> {
        let pool = gate::detach(py, || self.driver.default_thread_pool()).or_raise(py)?;
        Ok(ThreadPool::new(pool))
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        gate::detach(py, || format!("<mofka.{:?}>", self.driver))
    }
}
