//! Pushing events.
//!
//! Events gather in a batch per partition, laid out as it will be stored. A batch is sent by whoever makes it due: the
//! pushing thread, or the answer to the batch before it. There is no sender thread.

mod batch;
mod queue;
mod report;
mod sequence;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use mofka_log::EventId;

pub use report::{ProducerReport, ProducerStats};

use self::batch::BatchPromise;
use self::queue::Queue;
use self::report::Counters;
use crate::data::Data;
use crate::driver::DriverCore;
use crate::error::{DeliveryError, PushError};
use crate::future::{Settle, future_methods};
use crate::metadata::Metadata;
use crate::options::ProducerOptions;
use crate::promise::{Deadline, lock, lock_unless_forked};
use crate::route::Route;
use crate::topic::TopicCore;

/// Pushes events into a topic. Cheap to clone; may be used by any number of threads.
///
/// In each partition events are stored in the order of the calls of `push`. Dropping the last clone sends what is left
/// and waits for the answers, up to [`ProducerOptions::drop_timeout`]; [`Producer::close`] says what became of them.
#[derive(Clone)]
pub struct Producer {
    handle: Arc<Handle>,
}

/// What all queues of a producer share.
struct Shared {
    options: ProducerOptions,
    driver: Arc<DriverCore>,
    counters: Counters,
}

struct Handle {
    topic: Arc<TopicCore>,
    shared: Arc<Shared>,
    /// By partition index, made when they are first needed.
    queues: Mutex<BTreeMap<usize, Arc<Queue>>>,
}

impl Producer {
    pub(crate) fn new(topic: Arc<TopicCore>, options: ProducerOptions) -> Self {
        let driver = Arc::clone(topic.driver().core());
        let shared = Arc::new(Shared {
            options,
            driver,
            counters: Counters::default(),
        });
        Self {
            handle: Arc::new(Handle {
                topic,
                shared,
                queues: Mutex::default(),
            }),
        }
    }

    /// The producer's name.
    pub fn name(&self) -> &str {
        &self.handle.shared.options.name
    }

    /// What it was made with.
    pub fn options(&self) -> &ProducerOptions {
        &self.handle.shared.options
    }

    /// Takes an event and returns what will become its id. The event is copied: nothing has to be kept alive.
    ///
    /// The topic's validator, partition selector and serializer run here, in this order.
    ///
    /// `partition`: what the topic's partition selector makes of it. The default one takes the next partition in turn for
    /// `None`, and a number modulo the number of partitions.
    ///
    /// Blocks while the partition's batches are at their bound ([`ProducerOptions::max_num_batches`]) and the one that
    /// gathers is full.
    ///
    /// # Errors
    /// When the event cannot be taken; nothing of it is queued then. What happens later is told by the future.
    pub fn push(
        &self,
        metadata: impl Into<Metadata>,
        data: impl Into<Data>,
        partition: Option<usize>,
    ) -> Result<PushFuture, PushError> {
        let metadata = metadata.into();
        metadata
            .verify()
            .map_err(|reason| PushError::InvalidMetadata { reason })?;
        let handle = &self.handle;
        let data = data.into();
        let (index, stored) = handle.topic.prepare(&metadata, &data, partition)?;
        let (batch, index) = handle.queue(index)?.push(&stored, &data)?;
        Ok(PushFuture { batch, index })
    }

    /// Sends what gathered; the future completes when every event pushed before was acknowledged or failed. Errors are
    /// told by the events' own futures.
    pub fn flush(&self) -> FlushFuture {
        FlushFuture {
            batches: self.handle.flush(),
        }
    }

    /// Sends what is left, waits until every event was acknowledged or failed, and counts. Later pushes fail; calling
    /// it again gives the same.
    ///
    /// A lost node is looked for within the driver's reconnect timeout; so this ends when the nodes live, and a little
    /// later than that when they do not.
    ///
    /// # Errors
    /// In a forked child.
    pub fn close(&self) -> Result<ProducerReport, PushError> {
        self.handle
            .shared
            .driver
            .check_process()
            .map_err(|pid| PushError::Forked { pid })?;
        self.handle.close();
        self.flush().wait()?;
        Ok(self.handle.shared.counters.report())
    }

    /// What it has done so far.
    pub fn stats(&self) -> ProducerStats {
        self.handle.shared.counters.stats()
    }
}

impl std::fmt::Debug for Producer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Producer({:?}, {:?})", self.name(), self.stats())
    }
}

impl Handle {
    fn queue(&self, index: usize) -> Result<Arc<Queue>, PushError> {
        let check = || {
            self.shared
                .driver
                .check_process()
                .map_err(|pid| PushError::Forked { pid })
        };
        if let Some(queue) = lock_unless_forked(&self.queues, check)?.get(&index) {
            return Ok(Arc::clone(queue));
        }
        let info = self.topic.info();
        let Some(partition) = info.partitions.get(index) else {
            return Err(PushError::NoTarget {
                topic: info.name.clone(),
            });
        };
        let mut queues = lock(&self.queues);
        let queue = queues.entry(index).or_insert_with(|| {
            let route = Route::new(Arc::clone(&self.shared.driver), &info.name, partition);
            Queue::new(Arc::clone(&self.shared), route)
        });
        Ok(Arc::clone(queue))
    }

    fn flush(&self) -> Vec<Arc<BatchPromise>> {
        if self.shared.driver.check_process().is_err() {
            return Vec::new();
        }
        let queues: Vec<Arc<Queue>> = lock(&self.queues).values().cloned().collect();
        queues.iter().flat_map(|queue| queue.flush()).collect()
    }

    fn close(&self) {
        self.shared.counters.close();
        for queue in lock(&self.queues).values() {
            queue.close();
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if self.shared.driver.check_process().is_err() {
            return;
        }
        self.close();
        let flush = FlushFuture {
            batches: self.flush(),
        };
        if let Ok(None) = flush.wait_timeout(self.shared.options.drop_timeout) {
            tracing::warn!(
                producer = self.shared.options.name,
                "dropped with events that are not acknowledged yet; their futures will tell what became of them"
            );
        }
    }
}

/// What will become the id of a pushed event.
#[derive(Clone)]
pub struct PushFuture {
    batch: Arc<BatchPromise>,
    index: u32,
}

future_methods!(PushFuture, EventId, DeliveryError);

impl PushFuture {
    fn id(&self, settled: &Result<EventId, DeliveryError>) -> Result<EventId, DeliveryError> {
        // That the batch's ids fit 64 bits was checked when the answer came.
        settled
            .clone()
            .map(|base| base.checked_add(self.index.into()).unwrap_or(base))
    }
}

impl Settle for PushFuture {
    type Value = EventId;
    type Error = DeliveryError;

    fn settle(&self, deadline: Deadline) -> Option<Result<EventId, DeliveryError>> {
        if self.batch.settled.get().is_none()
            && let Err(error) = self.batch.send_now()
        {
            return Some(Err(error));
        }
        self.batch.settled.wait(deadline).map(|settled| self.id(settled))
    }

    fn settle_or_wake(&self, waker: &std::task::Waker) -> Option<Result<EventId, DeliveryError>> {
        let settled = self.batch.settled.poll(waker);
        if settled.is_none()
            && let Err(error) = self.batch.send_now()
        {
            return Some(Err(error));
        }
        settled.map(|settled| self.id(settled))
    }

    fn is_settled(&self) -> bool {
        self.batch.settled.get().is_some()
    }
}

impl std::fmt::Debug for PushFuture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "PushFuture(event {} of {:?})",
            self.index,
            self.batch.settled.get()
        )
    }
}

/// Completes when everything pushed before the flush was acknowledged or failed.
#[derive(Clone)]
pub struct FlushFuture {
    batches: Vec<Arc<BatchPromise>>,
}

future_methods!(FlushFuture, (), PushError);

impl Settle for FlushFuture {
    type Value = ();
    type Error = PushError;

    fn settle(&self, deadline: Deadline) -> Option<Result<(), PushError>> {
        // The last ones first: the others are most likely done by then.
        let all = self
            .batches
            .iter()
            .rev()
            .all(|batch| batch.settled.wait(deadline).is_some());
        all.then_some(Ok(()))
    }

    fn settle_or_wake(&self, waker: &std::task::Waker) -> Option<Result<(), PushError>> {
        let all = self
            .batches
            .iter()
            .rev()
            .all(|batch| batch.settled.poll(waker).is_some());
        all.then_some(Ok(()))
    }

    fn is_settled(&self) -> bool {
        self.batches.iter().all(|batch| batch.settled.get().is_some())
    }
}

impl std::fmt::Debug for FlushFuture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "FlushFuture({} batches, completed: {})",
            self.batches.len(),
            self.is_settled()
        )
    }
}
