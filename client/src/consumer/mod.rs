//! Pulling events.
//!
//! Nodes send feeds as far as they have credit. The connections' reader threads only put them into the consumer's
//! inbox; one thread of the consumer takes them from there, runs the application's selector and allocator, fetches
//! data, and puts the events where pulls take them. With a thread pool there is a queue for each partition instead, so that
//! several are at work at once. A feed's credit goes back when its last event was pulled.

mod acknowledge;
mod asking;
mod assignment;
mod delivery;
mod event;
mod fetching;
mod membership;
mod preparing;
mod processing;
mod reader;
mod selector;
mod stats;
mod strand;
mod subscription;
mod worker;

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use mofka_log::CONSUMER_NAME_BYTES_MAX;
use mofka_net::Pattern;

pub use acknowledge::AckFuture;
pub use assignment::{AssignmentChange, OnAssignment};
pub use delivery::PullFuture;
pub use event::Event;
pub use processing::{ProcessEnd, ProcessFailure, ProcessOptions, ProcessReport};
pub use reader::DataReader;
pub use selector::{DataAllocator, DataSegment, DataSelector};
pub use stats::ConsumerStats;

use self::assignment::Assignments;
use self::delivery::Delivery;
use self::membership::Membership;
use self::selector::SelectorKind;
use self::stats::Counters;
use self::strand::Strand;
use self::subscription::Source;
use self::worker::Incoming;
use crate::components::Serializer;
use crate::driver::DriverCore;
use crate::error::{BoxError, ConsumerError, DriverError, ProcessError, PullError};
use crate::options::{ConsumerOptions, Start};
use crate::pool::ThreadPool;
use crate::promise::{Deadline, Promise, lock};
use crate::topic::TopicHandle;

/// How long closing waits for nodes and for the application's own functions.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// After which silence a loop over a consumer ends.
const ITERATION_TIMEOUT: Duration = Duration::from_secs(5);

/// Pulls events from some or all partitions of a topic. Cheap to clone; may be used by any number of threads.
///
/// Consumers of one name share the partitions of a topic, wherever they run: each partition is read by one of them. When one
/// comes or goes, or a partition is added, they are divided anew. What its application got and has not acknowledged comes
/// again to the one that reads the partition next. Consumers of different names get everything each.
///
/// A partition that comes back with fewer events than it had, in memory after a start of its node or as a log that a crash cut, is read on
/// with those that come in the place of the lost ones. What was pulled of these cannot be acknowledged any more.
///
/// Events of one partition come in the order of their ids; between partitions there is no order. Dropping the last
/// clone unsubscribes. Events that were pulled stay usable.
#[derive(Clone)]
pub struct Consumer {
    handle: Arc<Handle>,
}

struct Handle {
    core: Arc<Core>,
}

/// What the consumer, its thread and its subscriptions share.
struct Core {
    driver: Arc<DriverCore>,
    name: String,
    options: ConsumerOptions,
    serializer: Option<Arc<dyn Serializer>>,
    /// Of a topic whose metadata nodes cannot read.
    local_filter: Option<Pattern>,
    /// With threads; `None`: the consumer's own thread takes all feeds.
    pool: Option<ThreadPool>,
    delivery: Arc<Delivery>,
    /// Of the partitions that it reads now.
    sources: Mutex<Vec<Arc<Source>>>,
    membership: Membership,
    assignments: Assignments,
    inbox: Mutex<VecDeque<Incoming>>,
    work: Condvar,
    is_closed: AtomicBool,
    counters: Counters,
    is_processing: AtomicBool,
    /// Kept when the thread has ended.
    worker_ended: Arc<Promise<()>>,
}

impl Consumer {
    pub(crate) fn new(
        topic: &TopicHandle,
        name: &str,
        options: ConsumerOptions,
    ) -> Result<Self, ConsumerError> {
        if name.is_empty() || name.len() > CONSUMER_NAME_BYTES_MAX {
            return Err(ConsumerError::InvalidName {
                bytes: name.len(),
                max: CONSUMER_NAME_BYTES_MAX,
            });
        }
        let targets = targets(topic, &options.targets)?;
        let driver = Arc::clone(topic.driver_core());
        let serializer = topic.components()?.serializer.clone();
        let filter = options.filter.as_ref().map(Pattern::parse).transpose()?;
        if let SelectorKind::Views(recipe) = &options.data_selector.kind {
            recipe.check()?;
        }
        let membership = Membership::new(topic.name(), name, targets, options.start);
        let first = membership.join(&driver)?;
        let core = Arc::new(Core {
            delivery: Arc::new(Delivery::new(
                Arc::clone(&driver),
                first.partitions.len(),
                !first.complete,
            )),
            sources: Mutex::default(),
            membership,
            assignments: Assignments::new(options.on_assignment.clone()),
            driver,
            name: name.to_owned(),
            pool: options.thread_pool.clone().filter(|pool| pool.thread_count() > 0),
            options,
            local_filter: filter.filter(|_| serializer.is_some()),
            serializer,
            inbox: Mutex::default(),
            work: Condvar::new(),
            is_closed: AtomicBool::new(false),
            counters: Counters::default(),
            is_processing: AtomicBool::new(false),
            worker_ended: Arc::new(Promise::new()),
        });
        let sources: Vec<Arc<Source>> = first
            .partitions
            .iter()
            .map(|told| Source::new(&core, &topic.name(), &told.info, core.membership.start(told)))
            .collect();
        lock(&core.sources).extend(sources.iter().cloned());
        if let Err(error) = worker::start(&core) {
            core.membership.leave(&core.driver);
            return Err(DriverError::Invalid(format!("no thread for the consumer: {error}")).into());
        }
        // From here on, dropping it tidies up.
        let consumer = Self {
            handle: Arc::new(Handle { core }),
        };
        let indices = sources.iter().map(|source| source.index()).collect();
        consumer
            .handle
            .core
            .assignments
            .turn()
            .tell(AssignmentChange::Assigned, indices);
        for source in &sources {
            source.begin()?;
        }
        membership::begin(&consumer.handle.core);
        Ok(consumer)
    }

    /// The consumer's name.
    pub fn name(&self) -> &str {
        &self.handle.core.name
    }

    /// What it was made with.
    pub fn options(&self) -> &ConsumerOptions {
        &self.handle.core.options
    }

    /// The next event. Pulls get events in the order in which they were made.
    pub fn pull(&self) -> PullFuture {
        Delivery::pull(&self.handle.core.delivery)
    }

    /// Indices of the partitions that it reads now, ascending. Consumers of its name that come and go change it;
    /// [`ConsumerOptions::on_assignment`] tells when.
    pub fn partitions(&self) -> Vec<usize> {
        let sources = lock(&self.handle.core.sources);
        let mut indices: Vec<usize> = sources.iter().map(|source| source.index()).collect();
        indices.sort_unstable();
        indices
    }

    /// Goes on elsewhere in one partition, at once; what was not pulled yet is dropped. [`Start::Cursor`] is where a consumer that
    /// begins now would. The cursor stays where it is until something is acknowledged, and does not go back for that:
    /// [`TopicHandle::seek`] moves it.
    ///
    /// # Errors
    /// When this consumer does not read the partition.
    pub fn seek(&self, partition: usize, to: Start) -> Result<(), ConsumerError> {
        let core = &self.handle.core;
        let sources = lock(&core.sources).clone();
        match sources.iter().find(|source| source.index() == partition) {
            Some(source) if !core.is_closed() => {
                source.seek(core, to);
                Ok(())
            }
            _ => Err(ConsumerError::NotRead { partition }),
        }
    }

    /// Events as they come; ends when there are no more, and after `timeout` without one.
    pub fn events(&self, timeout: Duration) -> Events<'_> {
        Events {
            consumer: self,
            timeout,
            is_over: false,
        }
    }

    /// Pulls events and hands each to `processor`, until that says [`ControlFlow::Break`], or the topic is complete and all of it was
    /// pulled, or [`ProcessOptions::max_events`] were handed over. Whenever nothing came within [`ProcessOptions::timeout`],
    /// that is handed over as `None`, and an event that could not be had as its error.
    ///
    /// Everything that was pulled is handed over, once, before this returns; with a thread pool, up to two events for each of its
    /// threads may still come after one that stopped it. All that was not pulled is left to later pulls. Nothing is acknowledged
    /// unless `processor` does it.
    ///
    /// What `processor` fails with, or a panic in it, stops nothing: it is counted, and the first one is told in the report.
    ///
    /// # Errors
    /// When somebody else processes with this consumer.
    pub fn process<F>(&self, processor: F, options: &ProcessOptions) -> Result<ProcessReport, ProcessError>
    where
        F: Fn(Result<Option<Event>, PullError>) -> Result<ControlFlow<()>, BoxError> + Send + Sync + 'static,
    {
        processing::process(&self.handle.core, processor, options)
    }

    /// Events that this consumer will never get, because retention dropped them before they were sent.
    pub fn missed_count(&self) -> u64 {
        self.stats().missed
    }

    /// What it has done so far.
    pub fn stats(&self) -> ConsumerStats {
        self.handle.core.counters.stats()
    }

    /// Unsubscribes. Pulls fail from now on; events that were not pulled are not acknowledged and come again to the
    /// next consumer of this name. Waits a second at most for nodes that do not answer.
    pub fn close(&self) {
        self.handle.core.close();
    }
}

/// The partitions that are asked for, ascending. Some may have been added since the topic was opened.
fn targets(topic: &TopicHandle, wanted: &[usize]) -> Result<Vec<u32>, ConsumerError> {
    let count = || topic.info().partitions.len();
    if wanted.iter().any(|index| *index >= count()) {
        topic.refresh()?;
    }
    let partitions = count();
    let mut targets = Vec::with_capacity(wanted.len());
    for index in wanted {
        let fits = u32::try_from(*index).ok().filter(|_| *index < partitions);
        targets.push(fits.ok_or(ConsumerError::InvalidTarget {
            index: *index,
            partitions,
        })?);
    }
    targets.sort_unstable();
    targets.dedup();
    Ok(targets)
}

impl std::fmt::Debug for Consumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Consumer({:?})", self.name())
    }
}

impl Core {
    fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    /// Whether this error of a pull cannot be followed by anything else.
    fn is_over_after(&self, error: &PullError) -> bool {
        match error {
            PullError::Closed | PullError::Forked { .. } => true,
            PullError::Partition { .. } | PullError::Membership { .. } => self.delivery.is_exhausted(),
            _ => false,
        }
    }

    /// Adds to the inbox. Its length is bounded by the credit that nodes have.
    fn receive(self: &Arc<Self>, incoming: Incoming) {
        if let Some(pool) = &self.pool {
            return Strand::add(self, pool, incoming);
        }
        lock(&self.inbox).push_back(incoming);
        self.work.notify_one();
    }

    fn close(&self) {
        if self.driver.check_process().is_err() || self.is_closed.swap(true, Ordering::AcqRel) {
            return;
        }
        // Before what was not pulled is dropped.
        self.membership.note_places(|| membership::holding(self));
        self.delivery.close();
        {
            // Whoever looks at the flag under this lock either sees it or is woken.
            let _inbox = lock(&self.inbox);
            self.work.notify_all();
        }
        // The thread unsubscribes and leaves before it ends. It may be in a function of the application, or this may be it.
        self.worker_ended.wait(Deadline::after(CLOSE_TIMEOUT));
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.core.close();
    }
}

impl<'a> IntoIterator for &'a Consumer {
    type Item = Result<Event, PullError>;
    type IntoIter = Events<'a>;

    /// Events as they come; ends when there are no more, and after 5 s without one.
    fn into_iter(self) -> Events<'a> {
        self.events(ITERATION_TIMEOUT)
    }
}

/// See [`Consumer::events`].
#[derive(Debug)]
pub struct Events<'a> {
    consumer: &'a Consumer,
    timeout: Duration,
    is_over: bool,
}

impl Iterator for Events<'_> {
    type Item = Result<Event, PullError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let pulled = self.consumer.pull().wait_timeout(self.timeout);
        match pulled {
            Ok(Some(Some(event))) => Some(Ok(event)),
            Ok(_) => {
                self.is_over = true;
                None
            }
            Err(error) => {
                // It is told once.
                self.is_over = self.consumer.handle.core.is_over_after(&error);
                Some(Err(error))
            }
        }
    }
}
