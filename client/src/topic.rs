//! A topic that was opened.

use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use bytes::Bytes;
use mofka_log::Retention;
use mofka_net::control::{
    ConsumerDeleteRequest, From as Position, PartitionDescribeRequest, PartitionInfo, PartitionStatus,
    SeekRequest, SeekResponse, TopicAlterRequest, TopicCompleteRequest, TopicInfo, decode_any, encode,
};
use mofka_net::{ErrorCode, FlushRequest, Opcode};

use crate::components::{Components, Selection, guarded};
use crate::consumer::Consumer;
use crate::data::Data;
use crate::driver::{Driver, DriverCore, Repeat};
use crate::error::{ComponentError, ConsumerError, DriverError, PushError};
use crate::metadata::Metadata;
use crate::options::{ConsumerOptions, ProducerOptions, Start};
use crate::producer::Producer;
use crate::route::Route;

/// A topic that was opened. Cheap to clone.
///
/// The list of partitions is that of the moment of opening, until [`TopicHandle::refresh`].
#[derive(Clone)]
pub struct TopicHandle {
    core: Arc<TopicCore>,
}

pub(crate) struct TopicCore {
    driver: Driver,
    info: RwLock<Arc<TopicInfo>>,
    /// Made when they are first needed: whoever looks at topics needs none.
    components: OnceLock<Result<Components, ComponentError>>,
}

impl TopicHandle {
    pub(crate) fn new(driver: Driver, info: TopicInfo) -> Self {
        let info = RwLock::new(Arc::new(info));
        Self {
            core: Arc::new(TopicCore {
                driver,
                info,
                components: OnceLock::new(),
            }),
        }
    }

    /// The topic's name.
    pub fn name(&self) -> String {
        self.info().name.clone()
    }

    /// All about the topic, as of when it was opened or refreshed.
    pub fn info(&self) -> Arc<TopicInfo> {
        self.core.info()
    }

    /// The topic's partitions, by index.
    pub fn partitions(&self) -> Vec<PartitionInfo> {
        self.info().partitions.clone()
    }

    /// The driver that it was opened with.
    pub fn driver(&self) -> &Driver {
        &self.core.driver
    }

    /// Looks at the topic again: producers see partitions that were added. Consumers see them by themselves.
    ///
    /// # Errors
    /// When it does not exist any more.
    pub fn refresh(&self) -> Result<(), DriverError> {
        self.core.set_info(self.driver_core().describe(&self.name())?);
        Ok(())
    }

    /// Whether the topic's validator, partition selector and serializer can work in this process. Pushing fails if not, and so
    /// does making a consumer; everything else can be done with the topic. The first of these calls loads the libraries that they
    /// are in ([`DriverOptions::libraries`](crate::DriverOptions::libraries)); a handle keeps its answer.
    ///
    /// # Errors
    /// Which of them cannot, and why.
    pub fn check_components(&self) -> Result<(), ComponentError> {
        self.core.components().map(|_| ())
    }

    /// Makes a producer.
    pub fn producer(&self, options: ProducerOptions) -> Producer {
        Producer::new(Arc::clone(&self.core), options)
    }

    /// Makes a consumer and subscribes it.
    ///
    /// # Errors
    /// When a target or the name makes no sense, or a partition cannot be subscribed to.
    pub fn consumer(&self, name: &str, options: ConsumerOptions) -> Result<Consumer, ConsumerError> {
        Consumer::new(self, name, options)
    }

    /// Marks the topic complete, durably: it takes no more events, and consumers learn when they have all.
    ///
    /// # Errors
    /// When it does not exist any more.
    pub fn mark_complete(&self) -> Result<(), DriverError> {
        self.complete(None)
    }

    /// Marks one partition complete, durably: it takes no more events. Consumers that read only such partitions learn when they
    /// have all.
    ///
    /// # Errors
    /// When there is no such partition.
    pub fn mark_partition_complete(&self, partition: usize) -> Result<(), DriverError> {
        self.complete(Some(self.partition(partition)?.index))
    }

    fn complete(&self, partition: Option<u32>) -> Result<(), DriverError> {
        let name = self.name();
        let request = TopicCompleteRequest { name, partition };
        // Doing it twice is the same as once.
        self.driver_core()
            .request(Opcode::TopicComplete, "topic_complete", &request, Repeat::Yes)
            .map(|_| ())
    }

    /// Says anew what of the topic's events may go, in place of all that was said before. It happens at the nodes' next
    /// look.
    ///
    /// # Errors
    /// When the policy makes no sense, or the topic does not exist any more.
    pub fn set_retention(&self, retention: Retention) -> Result<(), DriverError> {
        let request = TopicAlterRequest {
            name: self.name(),
            retention: Some(retention),
        };
        // Doing it twice is the same as once.
        let info = self
            .driver_core()
            .ask(Opcode::TopicAlter, "topic_alter", &request, Repeat::Yes)?;
        self.core.set_info(info);
        Ok(())
    }

    /// Returns when all that any producer was acknowledged before is durable, whatever the topic's durability is.
    ///
    /// # Errors
    /// When a partition cannot say so.
    pub fn sync(&self) -> Result<(), DriverError> {
        for info in &self.info().partitions {
            let request = FlushRequest { partition: info.id }.encode();
            self.ask_partition(info, Opcode::Flush, "flush", &request)?;
        }
        Ok(())
    }

    /// Moves a consumer's cursor in one partition, durably, also backwards; returns the next event that it will get.
    /// Consumers that are at work go on where they are.
    ///
    /// # Errors
    /// When there is no such partition, or the event is beyond its end.
    pub fn seek(&self, consumer: &str, partition: usize, to: Start) -> Result<u64, DriverError> {
        let info = self.partition(partition)?;
        let to = match to {
            Start::Cursor => {
                return Err(DriverError::Invalid(
                    "a cursor cannot be moved to where it is".to_owned(),
                ));
            }
            other => position(other),
        };
        let request = SeekRequest {
            partition: info.id,
            consumer: consumer.to_owned(),
            to,
        };
        let body = encode("seek", &request).map_err(|error| DriverError::Answer { what: "seek", error })?;
        let answer = self.ask_partition(&info, Opcode::Seek, "seek", &body.into())?;
        let answer: SeekResponse = decode_any("seek answer", &answer)
            .map_err(|error| DriverError::Answer { what: "seek", error })?;
        Ok(answer.next_event_id)
    }

    /// Forgets a consumer's cursor in one partition, durably; whether there was one does not matter. A consumer of that name
    /// begins anew.
    ///
    /// # Errors
    /// When there is no such partition, or anybody reads it under that name.
    pub fn forget_consumer(&self, consumer: &str, partition: usize) -> Result<(), DriverError> {
        let info = self.partition(partition)?;
        let request = ConsumerDeleteRequest {
            partition: info.id,
            consumer: consumer.to_owned(),
        };
        let what = "consumer_delete";
        let body = encode(what, &request).map_err(|error| DriverError::Answer { what, error })?;
        self.ask_partition(&info, Opcode::ConsumerDelete, what, &body.into())
            .map(|_| ())
    }

    /// The state of one partition.
    ///
    /// # Errors
    /// When there is no such partition.
    pub fn partition_status(&self, partition: usize) -> Result<PartitionStatus, DriverError> {
        let request = PartitionDescribeRequest {
            partition: self.partition(partition)?.id,
        };
        self.driver_core().ask(
            Opcode::PartitionDescribe,
            "partition_describe",
            &request,
            Repeat::Yes,
        )
    }

    pub(crate) fn components(&self) -> Result<&Components, ComponentError> {
        self.core.components()
    }

    pub(crate) fn driver_core(&self) -> &Arc<DriverCore> {
        self.core.driver.core()
    }

    fn partition(&self, index: usize) -> Result<PartitionInfo, DriverError> {
        let info = self.info();
        let found = info.partitions.get(index).cloned();
        found.ok_or_else(|| {
            let count = info.partitions.len();
            DriverError::Invalid(format!(
                "topic \"{}\" has {count} partitions, and none with index {index}",
                info.name
            ))
        })
    }

    /// Asks the shard that has the partition. Everything asked in this way may be done twice.
    fn ask_partition(
        &self,
        info: &PartitionInfo,
        opcode: Opcode,
        what: &'static str,
        body: &Bytes,
    ) -> Result<Bytes, DriverError> {
        let core = self.driver_core();
        let route = Route::new(Arc::clone(core), &self.name(), info);
        core.with_retry(Repeat::Yes, || {
            let connection = route.establish()?;
            let answer = core.call(&connection, opcode, what, body.clone());
            match &answer {
                Err(DriverError::Refused(error)) if error.code == ErrorCode::NotOwner => route.moved(error),
                Err(DriverError::Lost { .. }) => route.lost(),
                _ => {}
            }
            answer
        })
    }
}

impl std::fmt::Debug for TopicHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TopicHandle({})", self.name())
    }
}

impl TopicCore {
    pub(crate) fn driver(&self) -> &Driver {
        &self.driver
    }

    pub(crate) fn info(&self) -> Arc<TopicInfo> {
        Arc::clone(&self.info.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn set_info(&self, info: TopicInfo) {
        *self.info.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(info);
    }

    /// The topic's components, as they work for this handle.
    pub(crate) fn components(&self) -> Result<&Components, ComponentError> {
        let made = self.components.get_or_init(|| {
            let libraries = self.driver.core().libraries();
            Components::of(&self.info(), libraries)
        });
        made.as_ref().map_err(Clone::clone)
    }

    /// Lets the topic's components look at an event: its partition, and its metadata as it is stored.
    pub(crate) fn prepare(
        &self,
        metadata: Metadata,
        data: &Data,
        requested: Option<usize>,
    ) -> Result<(usize, Bytes), PushError> {
        let components = self.components()?;
        if let Some(validator) = &components.validator {
            guarded(|| validator.validate(&metadata, data))
                .map_err(|reason| PushError::Rejected { reason })?;
        }
        let index = self.select(components, &metadata, requested)?;
        let Some(serializer) = &components.serializer else {
            return Ok((index, metadata.into_raw()));
        };
        let mut stored = Vec::with_capacity(metadata.raw().len());
        guarded(|| serializer.serialize(&metadata, &mut stored)).map_err(|reason| PushError::Callback {
            what: "serializer",
            reason,
        })?;
        Ok((index, stored.into()))
    }

    /// Whether any of the components looks at events.
    pub(crate) fn looks_at_events(&self) -> Result<bool, PushError> {
        Ok(self.components()?.look_at_events())
    }

    /// The partition of an event at which no component looks.
    pub(crate) fn select_unseen(&self, requested: Option<usize>) -> Result<usize, PushError> {
        self.select(self.components()?, &Metadata::default(), requested)
    }

    fn select(
        &self,
        components: &Components,
        metadata: &Metadata,
        requested: Option<usize>,
    ) -> Result<usize, PushError> {
        let info = self.info();
        let event = Selection {
            metadata,
            requested,
            partitions: &info.partitions,
        };
        let count = event.partitions.len();
        if count == 0 {
            return Err(PushError::NoTarget {
                topic: info.name.clone(),
            });
        }
        let failed = |reason| PushError::Callback {
            what: "partition selector",
            reason,
        };
        let index = guarded(|| components.selector.select(&event)).map_err(failed)?;
        match index < count {
            true => Ok(index),
            false => Err(failed(
                format!("it chose partition {index}, and the topic has {count}").into(),
            )),
        }
    }
}

/// A place as it is told to a node.
pub(crate) fn position(start: Start) -> Position {
    match start {
        Start::Cursor => Position::Cursor,
        Start::First => Position::First,
        Start::Last => Position::Last,
        Start::Id(id) => Position::Id(id),
        Start::Time(us) => Position::Time(us),
    }
}
