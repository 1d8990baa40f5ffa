//! Pushing events.
//!
//! Events gather in a batch per partition, laid out as it will be stored. A batch is sent by whoever makes it due: the
//! pushing thread, or the answer to the batch before it. There is no sender thread.
//!
//! A strict producer does everything else in the pushing thread, too. A loose one leaves it to a thread pool (`loose.rs`).

mod batch;
mod futures;
mod in_place;
mod loose;
mod patience;
mod payload;
mod queue;
mod report;
mod sequence;
mod slices;
mod sourced;
mod spares;
mod writer;

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub use futures::{FlushFuture, PushFuture};
pub use in_place::InPlace;
pub use report::{ProducerReport, ProducerStats, ProducersDone};
pub use writer::DataWriter;

use mofka_log::EventId;
use mofka_net::Opcode;
use mofka_net::control::{ProducerDoneRequest, ProducerDoneResponse};
use smallvec::SmallVec;
use uuid::Uuid;

use self::batch::{BatchPromise, Content};
use self::loose::{Loose, Ticket};
use self::patience::Patience;
use self::payload::Payload;
use self::queue::{Parked, Queue};
use self::report::Counters;
use self::spares::Spares;
use crate::data::Data;
use crate::driver::{DriverCore, Repeat};
use crate::error::{DeliveryError, DriverError, PushError, StreamError};
use crate::metadata::Metadata;
use crate::options::{Ordering, ProducerOptions};
use crate::pool::ThreadPool;
use crate::promise::{lock, lock_unless_forked};
use crate::route::Route;
use crate::topic::TopicCore;

/// Pushes events into a topic. Cheap to clone; may be used by any number of threads.
///
/// In each partition events are stored in the order of the calls of `push`, unless the producer is loose
/// ([`ProducerOptions::ordering`]). Dropping the last clone sends what is left and waits for the answers, up to
/// [`ProducerOptions::drop_timeout`]; [`Producer::close`] says what became of them.
#[derive(Clone)]
pub struct Producer {
    handle: Arc<Handle>,
}

/// What all queues of a producer share.
struct Shared {
    options: ProducerOptions,
    driver: Arc<DriverCore>,
    counters: Counters,
    spares: Spares,
    /// What a chore is about to drop.
    gone: Mutex<Vec<Gone>>,
}

/// What was sent, and may be the application's.
type Gone = (SmallVec<[Content; 1]>, Vec<Data>);

impl Shared {
    /// Drops what may run code of the application where that may wait for answers.
    fn let_go(self: &Arc<Self>, contents: SmallVec<[Content; 1]>, data: Vec<Data>) {
        let is_first = {
            let mut gone = lock(&self.gone);
            gone.push((contents, data));
            gone.len() == 1
        };
        if !is_first {
            return;
        }
        let me = Arc::clone(self);
        self.driver.chores.after(Duration::ZERO, move || {
            let gone = std::mem::take(&mut *lock(&me.gone));
            for (contents, data) in gone {
                drop(data);
                contents
                    .into_iter()
                    .for_each(|content| me.spares.keep_content(content));
            }
        });
    }

    fn check_process(&self) -> Result<(), PushError> {
        self.driver
            .check_process()
            .map_err(|pid| PushError::Forked { pid })
    }
}

/// The producer of the application: dropping the last clone ends it.
struct Handle {
    core: Arc<Core>,
}

/// What the producer and the tasks of its events share.
struct Core {
    topic: Arc<TopicCore>,
    shared: Arc<Shared>,
    /// Of a producer without a name.
    identity: Uuid,
    /// By partition index, made when they are first needed.
    queues: Mutex<BTreeMap<usize, Arc<Queue>>>,
    /// `None`: events are prepared where they are pushed.
    loose: Option<Arc<Loose>>,
}

impl Producer {
    pub(crate) fn new(topic: Arc<TopicCore>, options: ProducerOptions) -> Self {
        let options = sourced::suited(options);
        let driver = Arc::clone(topic.driver().core());
        let pool = pool_of(&options, &driver);
        let loose = pool.map(|pool| Arc::new(Loose::new(pool, &options)));
        let shared = Arc::new(Shared {
            options,
            driver,
            counters: Counters::default(),
            spares: Spares::default(),
            gone: Mutex::default(),
        });
        let core = Arc::new(Core {
            topic,
            shared,
            identity: Uuid::new_v4(),
            queues: Mutex::default(),
            loose,
        });
        Self {
            handle: Arc::new(Handle { core }),
        }
    }

    /// The producer's name.
    pub fn name(&self) -> &str {
        &self.handle.core.shared.options.name
    }

    /// What it was made with.
    pub fn options(&self) -> &ProducerOptions {
        &self.handle.core.shared.options
    }

    /// Takes an event and returns what will become its id. Nothing has to be kept alive: what the event has is copied, or kept as
    /// long as it is needed ([`Data`] says what and how long).
    ///
    /// The topic's validator, partition selector and serializer run here, in this order. Those of a loose producer may run in
    /// its thread pool later: what they refuse is told by the future then.
    ///
    /// `partition`: what the topic's partition selector makes of it. The default one takes the next partition in turn for
    /// `None`, and a number modulo the number of partitions.
    ///
    /// Blocks while the partition's batches are at their bound ([`ProducerOptions::max_num_batches`]) and the one that
    /// gathers is full; of a loose producer, while as much waits for the pool or for room in batches as that bound allows.
    ///
    /// `data`: bytes, or a [`DataRef`](crate::DataRef) to data that is stored already. Of that nothing is sent or copied, and the
    /// topic's validator sees no data; the node refuses the batch when there is no such data (any more), which the future tells.
    ///
    /// # Errors
    /// When the event cannot be taken; nothing of it is queued then. What happens later is told by the future.
    pub fn push(
        &self,
        metadata: impl Into<Metadata>,
        data: impl Into<Data>,
        partition: Option<usize>,
    ) -> Result<PushFuture, PushError> {
        self.push_with(metadata.into(), data.into(), partition, Patience::endless())
    }

    /// The same for those who may have to give up while it blocks: `goes_on` is asked every 50 ms whether to wait for room any longer.
    ///
    /// # Errors
    /// As [`Producer::push`], and [`PushError::GivenUp`].
    pub fn push_while(
        &self,
        metadata: impl Into<Metadata>,
        data: impl Into<Data>,
        partition: Option<usize>,
        goes_on: impl Fn() -> bool,
    ) -> Result<PushFuture, PushError> {
        self.push_with(
            metadata.into(),
            data.into(),
            partition,
            Patience::while_it(&goes_on),
        )
    }

    fn push_with(
        &self,
        metadata: Metadata,
        data: Data,
        partition: Option<usize>,
        patience: Patience<'_>,
    ) -> Result<PushFuture, PushError> {
        metadata
            .verify()
            .map_err(|reason| PushError::InvalidMetadata { reason })?;
        let core = &self.handle.core;
        core.expect_no_source()?;
        // A thread of the pool does not leave to others what it may wait for.
        if let Some(loose) = core.loose.as_ref().filter(|loose| !loose.pool.is_mine()) {
            return core.push_loosely(loose, metadata, data, partition, patience);
        }
        let (index, stored) = core.topic.prepare(metadata, &data, partition)?;
        let placed = core
            .queue(index)?
            .push(&stored, Payload::Owned(&data), None, patience)?;
        Ok(PushFuture::known(placed))
    }

    /// Room for the data of an event, to be filled where the node reads it if that is possible ([`InPlace`] says when), and then
    /// committed. The event is a batch of its own; it has its place where it is committed among those that are pushed, and in all
    /// else it is like them.
    ///
    /// The topic's validator, partition selector and serializer run here, also those of a loose producer; the validator sees no
    /// data. `partition`: as in [`Producer::push`]. Connects to the partition's node if nothing did so yet.
    ///
    /// # Errors
    /// When the event cannot be taken.
    pub fn claim(
        &self,
        metadata: impl Into<Metadata>,
        data_bytes: usize,
        partition: Option<usize>,
    ) -> Result<InPlace, PushError> {
        let metadata = metadata.into();
        metadata
            .verify()
            .map_err(|reason| PushError::InvalidMetadata { reason })?;
        let core = &self.handle.core;
        core.expect_no_source()?;
        core.shared.check_process()?;
        let (index, stored) = core.topic.prepare(metadata, &Data::empty(), partition)?;
        let queue = core.queue(index)?;
        let kept = queue.keep(stored.len(), data_bytes)?;
        Ok(InPlace::new(queue, stored, data_bytes, kept))
    }

    /// Begins an event whose data is written in pieces: more than memory has, or before all of it is there. It has no place
    /// among the events that are pushed; it gets one when it is finished.
    ///
    /// The topic's validator, partition selector and serializer run here; the validator sees no data. `partition`: as in
    /// [`Producer::push`]. The partition must not be one in memory.
    ///
    /// # Errors
    /// When the event cannot be taken, or the node does not take its data.
    pub fn push_stream(
        &self,
        metadata: impl Into<Metadata>,
        partition: Option<usize>,
    ) -> Result<DataWriter, StreamError> {
        let metadata = metadata.into();
        let verified = metadata.verify();
        verified.map_err(|reason| PushError::InvalidMetadata { reason })?;
        let core = &self.handle.core;
        core.expect_no_source()?;
        if core.shared.counters.is_closed() {
            return Err(PushError::Closed.into());
        }
        let (index, stored) = core.topic.prepare(metadata, &Data::empty(), partition)?;
        let route = core.route(index)?;
        DataWriter::open(Arc::clone(&core.shared), route, stored)
    }

    /// The same with all that `data` gives, to its end; returns the event's id when it is as durable as asked.
    ///
    /// # Errors
    /// As [`Producer::push_stream`] and [`DataWriter::finish`], and when `data` cannot be read. Nothing is stored then, unless the
    /// error says that it may be.
    pub fn push_reader(
        &self,
        metadata: impl Into<Metadata>,
        mut data: impl Read,
        partition: Option<usize>,
    ) -> Result<EventId, StreamError> {
        let mut writer = self.push_stream(metadata, partition)?;
        let copied = writer.copy(&mut data);
        copied.map_err(|error| StreamError::Data(Arc::new(error)))?;
        Ok(writer.finish()?)
    }

    /// Sends what gathered; the future completes when every event pushed before was acknowledged or failed. Errors are
    /// told by the events' own futures.
    ///
    /// Of a loose producer, do not wait for it in a task of its own pool: there it may wait for itself.
    pub fn flush(&self) -> FlushFuture {
        self.handle.core.flush()
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
        self.handle.core.shared.check_process()?;
        self.handle.core.close();
        self.flush().wait()?;
        Ok(self.handle.core.shared.counters.report())
    }

    /// Closes it, and says to the node, durably, that this producer will push no more: with the last of those that the topic
    /// expects ([`TopicOptions::producers_expected`](crate::TopicOptions::producers_expected)) the topic is complete. Who has a name
    /// counts once, however often it says so, also after it was started anew.
    ///
    /// # Errors
    /// When the topic does not count its producers, or no node heard of it. The producer is closed all the same.
    pub fn done(&self) -> Result<ProducersDone, DriverError> {
        self.close().map_err(|error| match error {
            PushError::Forked { pid } => DriverError::Forked { pid },
            other => DriverError::Invalid(other.to_string()),
        })?;
        let core = &self.handle.core;
        let request = ProducerDoneRequest {
            topic: core.topic.info().name.clone(),
            producer: match self.name() {
                "" => core.identity.to_string(),
                name => name.to_owned(),
            },
        };
        // Doing it twice is the same as once.
        let answer: ProducerDoneResponse =
            core.shared
                .driver
                .ask(Opcode::ProducerDone, "producer_done", &request, Repeat::Yes)?;
        Ok(ProducersDone {
            done: answer.done,
            expected: answer.expected,
        })
    }

    /// What it has done so far.
    pub fn stats(&self) -> ProducerStats {
        self.handle.core.shared.counters.stats()
    }
}

impl std::fmt::Debug for Producer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Producer({:?}, {:?})", self.name(), self.stats())
    }
}

/// The pool in which a loose producer's events are prepared, if there is one with threads.
fn pool_of(options: &ProducerOptions, driver: &DriverCore) -> Option<ThreadPool> {
    if options.ordering == Ordering::Strict {
        return None;
    }
    let pool = match &options.thread_pool {
        Some(pool) => Ok(pool.clone()),
        None => driver.default_thread_pool(),
    };
    match pool {
        Ok(pool) => Some(pool).filter(|pool| pool.thread_count() > 0),
        Err(error) => {
            tracing::warn!(%error, producer = options.name, "events are prepared where they are pushed");
            None
        }
    }
}

impl Core {
    fn queue(&self, index: usize) -> Result<Arc<Queue>, PushError> {
        if let Some(queue) = lock_unless_forked(&self.queues, || self.shared.check_process())?.get(&index) {
            return Ok(Arc::clone(queue));
        }
        let route = self.route(index)?;
        let mut queues = lock(&self.queues);
        let queue = queues
            .entry(index)
            .or_insert_with(|| Queue::new(Arc::clone(&self.shared), route));
        Ok(Arc::clone(queue))
    }

    /// The way to a partition.
    fn route(&self, index: usize) -> Result<Route, PushError> {
        let info = self.topic.info();
        match info.partitions.get(index) {
            Some(partition) => Ok(Route::new(Arc::clone(&self.shared.driver), &info.name, partition)),
            None => Err(PushError::NoTarget {
                topic: info.name.clone(),
            }),
        }
    }

    fn push_loosely(
        self: &Arc<Self>,
        loose: &Arc<Loose>,
        metadata: Metadata,
        data: Data,
        requested: Option<usize>,
        patience: Patience<'_>,
    ) -> Result<PushFuture, PushError> {
        self.shared.check_process()?;
        let reference_bytes = data.reference().map_or(0, |to| to.stored().len() as u64);
        let bytes = (metadata.raw().len() as u64)
            .saturating_add(data.bytes())
            .saturating_add(reference_bytes);
        let ticket = loose.admit(&self.shared, bytes, patience)?;
        let future = PushFuture::coming(ticket.coming());
        self.shared.counters.pushed();
        let core = Arc::clone(self);
        let task = move || core.prepare_and_park(metadata, data, requested, ticket);
        // It takes every task of this process.
        loose.pool.push_work(task, ThreadPool::DEFAULT_PRIORITY).ok();
        Ok(future)
    }

    /// The task of one event.
    fn prepare_and_park(&self, metadata: Metadata, data: Data, requested: Option<usize>, ticket: Ticket) {
        if ticket.late_at().is_some_and(|at| at <= Instant::now()) {
            let waited = ticket.waited();
            return ticket.settle(Err(DeliveryError::TimedOut {
                waited,
                may_be_stored: false,
            }));
        }
        let prepared = self.topic.prepare(metadata, &data, requested);
        match prepared.and_then(|(index, stored)| Ok((self.queue(index)?, stored))) {
            Ok((queue, metadata)) => queue.park(Parked {
                metadata,
                data,
                ticket,
            }),
            Err(error) => ticket.settle(Err(error.into())),
        }
    }

    fn flush(&self) -> FlushFuture {
        if self.shared.check_process().is_err() {
            return FlushFuture::new(Vec::new(), Vec::new());
        }
        // First: an event that is not on its way any more is in one of the batches.
        let waves = self.loose.as_ref().map(|loose| loose.flush()).unwrap_or_default();
        let queues: Vec<Arc<Queue>> = lock(&self.queues).values().cloned().collect();
        let batches: Vec<Arc<BatchPromise>> = queues.iter().flat_map(|queue| queue.flush()).collect();
        FlushFuture::new(batches, waves)
    }

    fn close(&self) {
        self.shared.counters.close();
        if let Some(loose) = &self.loose {
            loose.close();
        }
        for queue in lock(&self.queues).values() {
            queue.close();
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let shared = &self.core.shared;
        if shared.check_process().is_err() {
            return;
        }
        self.core.close();
        let flush = self.core.flush();
        // A task of its own pool would keep the others from what it waits for.
        let is_mine = self.core.loose.as_ref().is_some_and(|loose| loose.pool.is_mine());
        if !is_mine && let Ok(None) = flush.wait_timeout(shared.options.drop_timeout) {
            tracing::warn!(
                producer = shared.options.name,
                "dropped with events that are not acknowledged yet; their futures will tell what became of them"
            );
        }
    }
}
