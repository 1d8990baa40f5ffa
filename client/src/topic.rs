//! A topic that was opened.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use mofka_log::Retention;
use mofka_net::control::{
    From as Position, PartitionDescribeRequest, PartitionInfo, PartitionStatus, SeekRequest, SeekResponse,
    TopicAlterRequest, TopicInfo, TopicRequest, decode_any, encode,
};
use mofka_net::{ErrorCode, FlushRequest, Opcode};

use crate::consumer::Consumer;
use crate::driver::{Driver, DriverCore, Repeat};
use crate::error::{ConsumerError, DriverError, PushError};
use crate::options::{ConsumerOptions, ProducerOptions, Start};
use crate::producer::Producer;
use crate::route::{Route, RouteError};

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
    /// The partition that is next in turn, for all producers of this handle.
    turn: AtomicUsize,
}

impl TopicHandle {
    pub(crate) fn new(driver: Driver, info: TopicInfo) -> Self {
        let info = RwLock::new(Arc::new(info));
        Self {
            core: Arc::new(TopicCore {
                driver,
                info,
                turn: AtomicUsize::new(0),
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

    /// Looks at the topic again. Producers see partitions that were added; consumers keep those they have.
    ///
    /// # Errors
    /// When it does not exist any more.
    pub fn refresh(&self) -> Result<(), DriverError> {
        self.core.set_info(self.driver_core().describe(&self.name())?);
        Ok(())
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
        let request = TopicRequest { name: self.name() };
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
            let connection = route.establish().map_err(|error| match error {
                RouteError::Away(reason) => DriverError::Unreachable {
                    waited: Duration::ZERO,
                    reason,
                },
                RouteError::Gone(reason) => DriverError::Invalid(reason),
            })?;
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

    /// The default partition selector: the requested partition modulo their number, else the next in turn.
    pub(crate) fn select(&self, requested: Option<usize>, info: &TopicInfo) -> Result<usize, PushError> {
        let count = info.partitions.len();
        let chosen = requested.unwrap_or_else(|| self.turn.fetch_add(1, Ordering::Relaxed));
        chosen.checked_rem(count).ok_or_else(|| PushError::NoTarget {
            topic: info.name.clone(),
        })
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
