//! Pulling events.
//!
//! Nodes send feeds as far as they have credit. The connections' reader threads only put them into the consumer's
//! inbox; one thread of the consumer takes them from there, runs the application's selector and allocator, fetches
//! data, and puts the events where pulls take them. With a thread pool there is a queue for each partition instead, so that
//! several are at work at once. A feed's credit goes back when its last event was pulled.

mod acknowledge;
mod delivery;
mod event;
mod fetching;
mod following;
mod preparing;
mod processing;
mod selector;
mod strand;
mod subscription;
mod worker;

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use mofka_log::CONSUMER_NAME_BYTES_MAX;

pub use acknowledge::AckFuture;
pub use delivery::PullFuture;
pub use event::Event;
pub use processing::{ProcessEnd, ProcessFailure, ProcessOptions, ProcessReport};
pub use selector::{DataAllocator, DataSegment, DataSelector};

use self::delivery::Delivery;
use self::following::Following;
use self::strand::Strand;
use self::subscription::Source;
use self::worker::Incoming;
use crate::components::Serializer;
use crate::driver::DriverCore;
use crate::error::{BoxError, ConsumerError, DriverError, ProcessError, PullError};
use crate::options::ConsumerOptions;
use crate::pool::ThreadPool;
use crate::promise::{Deadline, Promise, lock};
use crate::topic::TopicHandle;

/// How long closing waits for nodes and for the application's own functions.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// After which silence a loop over a consumer ends.
const ITERATION_TIMEOUT: Duration = Duration::from_secs(5);

/// Pulls events from some or all partitions of a topic. Cheap to clone; may be used by any number of threads.
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
    /// With threads; `None`: the consumer's own thread takes all feeds.
    pool: Option<ThreadPool>,
    delivery: Arc<Delivery>,
    /// Of its partitions; more may be added.
    sources: Mutex<Vec<Arc<Source>>>,
    following: Option<Following>,
    inbox: Mutex<VecDeque<Incoming>>,
    work: Condvar,
    is_closed: AtomicBool,
    is_processing: AtomicBool,
    missed: AtomicU64,
    /// Kept when the thread has ended.
    worker_ended: Promise<()>,
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
        let info = topic.info();
        let partitions = info.partitions.len();
        let mut targets = options.targets.clone();
        targets.sort_unstable();
        targets.dedup();
        if let Some(index) = targets.iter().copied().find(|index| *index >= partitions) {
            return Err(ConsumerError::InvalidTarget { index, partitions });
        }
        let wants_all = targets.is_empty();
        if wants_all {
            targets = (0..partitions).collect();
        }
        let driver = Arc::clone(topic.driver_core());
        let serializer = topic.components()?.serializer.clone();
        let interval = driver.refresh_interval();
        let follows = wants_all && !info.complete && !interval.is_zero();
        let following = follows.then(|| Following::new(topic.clone(), interval));
        // A topic without partitions has not ended for that, also when nobody looks for them.
        let live = if partitions == 0 && !info.complete && !follows {
            1
        } else {
            targets.len()
        };
        let core = Arc::new(Core {
            delivery: Arc::new(Delivery::new(Arc::clone(&driver), live, follows)),
            sources: Mutex::default(),
            following,
            driver,
            name: name.to_owned(),
            pool: options.thread_pool.clone().filter(|pool| pool.thread_count() > 0),
            options,
            serializer,
            inbox: Mutex::default(),
            work: Condvar::new(),
            is_closed: AtomicBool::new(false),
            is_processing: AtomicBool::new(false),
            missed: AtomicU64::new(0),
            worker_ended: Promise::new(),
        });
        let sources: Vec<Arc<Source>> = targets
            .iter()
            .filter_map(|index| info.partitions.get(*index))
            .map(|partition| Source::new(&core, &info.name, partition, core.options.start))
            .collect();
        lock(&core.sources).extend(sources.iter().cloned());
        worker::start(&core)
            .map_err(|error| DriverError::Invalid(format!("no thread for the consumer: {error}")))?;
        // From here on, dropping it tidies up.
        let consumer = Self {
            handle: Arc::new(Handle { core }),
        };
        for source in &sources {
            source.begin()?;
        }
        following::begin(&consumer.handle.core);
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
        self.handle.core.missed.load(Ordering::Relaxed)
    }

    /// Unsubscribes. Pulls fail from now on; events that were not pulled are not acknowledged and come again to the
    /// next consumer of this name. Waits a second at most for nodes that do not answer.
    pub fn close(&self) {
        self.handle.core.close();
    }
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
            PullError::Partition { .. } => self.delivery.is_exhausted(),
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
        self.delivery.close();
        {
            // Whoever looks at the flag under this lock either sees it or is woken.
            let _inbox = lock(&self.inbox);
            self.work.notify_all();
        }
        // The thread unsubscribes before it ends. It may be in a function of the application, or this may be it.
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
