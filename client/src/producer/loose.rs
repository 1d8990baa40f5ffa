//! Events of a loose producer between `push` and their batch.
//!
//! ```text
//! push -> admitted -> task of the pool -> parked, while its partition has no room -> in a batch
//! ```
//!
//! How much may be on this way is bounded, so `push` blocks as it does when batches are at their bound. No thread of the pool
//! waits for room: others need it.
//!
//! A flush ends a *wave*: of the events before it, those whose batch is not known yet say later which one it is.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use mofka_net::shm::this_process;

use super::Shared;
use super::batch::BatchPromise;
use super::patience::Patience;
use crate::error::{DeliveryError, PushError};
use crate::options::{BatchSize, ProducerOptions};
use crate::pool::ThreadPool;
use crate::promise::{Promise, lock, lock_unless_forked, wait_on};

/// Memory of an event here beside its metadata and data, roughly.
const AROUND_EVENT_BYTES: u64 = 512;

/// Where an event is.
#[derive(Clone)]
pub(super) struct Placed {
    pub(super) batch: Arc<BatchPromise>,
    pub(super) index: u32,
}

/// The place of an event that has none yet.
pub(super) struct Coming {
    pub(super) placed: Promise<Result<Placed, DeliveryError>>,
    pub(super) pid: u32,
}

/// What all events of a loose producer share.
pub(super) struct Loose {
    pub(super) pool: ThreadPool,
    events_max: u64,
    bytes_max: u64,
    state: Mutex<State>,
    room: Condvar,
}

struct State {
    /// On their way.
    events: u64,
    bytes: u64,
    /// Threads that wait for room.
    sleepers: usize,
    is_closed: bool,
    /// Of the events that are pushed now.
    wave: Arc<Wave>,
    /// Waves that were flushed; done ones are swept out now and then.
    flushed: Vec<Arc<Wave>>,
}

/// Events between two flushes.
pub(super) struct Wave {
    state: Mutex<WaveState>,
    is_flushed: AtomicBool,
    /// The batches of those events that found theirs after the flush; kept when all have.
    pub(super) placed: Promise<Vec<Arc<BatchPromise>>>,
}

#[derive(Default)]
struct WaveState {
    /// Events on their way.
    events: u64,
    batches: Vec<Arc<BatchPromise>>,
}

impl Loose {
    /// As much may be on its way as fits the batches that may wait.
    pub(super) fn new(pool: ThreadPool, options: &ProducerOptions) -> Self {
        let batches = u64::try_from(options.max_num_batches.max(1)).unwrap_or(u64::MAX);
        let events = match options.batch_size {
            BatchSize::Adaptive => u64::MAX,
            BatchSize::Fixed(n) => n.get().into(),
        };
        Self {
            pool,
            events_max: batches.saturating_mul(events),
            bytes_max: batches.saturating_mul(options.batch_bytes_max),
            state: Mutex::new(State {
                events: 0,
                bytes: 0,
                sleepers: 0,
                is_closed: false,
                wave: Arc::new(Wave::new()),
                flushed: Vec::new(),
            }),
            room: Condvar::new(),
        }
    }

    /// Takes an event of this many bytes on. Blocks while there is too much on its way.
    pub(super) fn admit(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        bytes: u64,
        patience: Patience<'_>,
    ) -> Result<Ticket, PushError> {
        let bytes = bytes.saturating_add(AROUND_EVENT_BYTES);
        let mut state = lock_unless_forked(&self.state, || shared.check_process())?;
        loop {
            if state.is_closed {
                return Err(PushError::Closed);
            }
            let fits = state.events < self.events_max && state.bytes.saturating_add(bytes) <= self.bytes_max;
            if fits || state.events == 0 {
                break;
            }
            shared.check_process()?;
            state.sleepers += 1;
            state = wait_on(&self.room, state, patience.deadline());
            state.sleepers -= 1;
            if patience.is_asked() {
                drop(state);
                if let Err(error) = patience.ask() {
                    // This may be the one who was woken for the room there is.
                    self.room.notify_one();
                    return Err(error);
                }
                state = lock(&self.state);
            }
        }
        state.events += 1;
        state.bytes = state.bytes.saturating_add(bytes);
        lock(&state.wave.state).events += 1;
        let coming = Coming {
            placed: Promise::new(),
            pid: this_process(),
        };
        Ok(Ticket {
            shared: Arc::clone(shared),
            loose: Arc::clone(self),
            wave: Arc::clone(&state.wave),
            coming: Arc::new(coming),
            pushed: shared.options.delivery_timeout.map(|_| Instant::now()),
            bytes,
            outcome: None,
        })
    }

    fn release(&self, bytes: u64) {
        let mut state = lock(&self.state);
        state.events -= 1;
        state.bytes = state.bytes.saturating_sub(bytes);
        let is_awaited = state.sleepers > 0;
        drop(state);
        if is_awaited {
            self.room.notify_one();
        }
    }

    /// From now on every event that finds its batch makes it go. Returns the waves that are not done.
    pub(super) fn flush(&self) -> Vec<Arc<Wave>> {
        let mut state = lock(&self.state);
        state.flushed.retain(|wave| wave.placed.get().is_none());
        if state.wave.flush() {
            let wave = std::mem::replace(&mut state.wave, Arc::new(Wave::new()));
            state.flushed.push(wave);
        }
        state.flushed.clone()
    }

    /// Refuses further events.
    pub(super) fn close(&self) {
        lock(&self.state).is_closed = true;
        self.room.notify_all();
    }
}

impl Wave {
    fn new() -> Self {
        Self {
            state: Mutex::default(),
            is_flushed: AtomicBool::new(false),
            placed: Promise::new(),
        }
    }

    /// Ends it. Returns false when there is nothing on its way: it can go on then.
    fn flush(&self) -> bool {
        let state = lock(&self.state);
        if state.events > 0 {
            self.is_flushed.store(true, Ordering::Release);
        }
        state.events > 0
    }

    /// One of its events is in this batch, or in none.
    fn done(&self, batch: Option<Arc<BatchPromise>>) {
        let mut state = lock(&self.state);
        state.events -= 1;
        if !self.is_flushed.load(Ordering::Acquire) {
            return;
        }
        let is_known = |last: &Arc<BatchPromise>| batch.as_ref().is_some_and(|it| Arc::ptr_eq(it, last));
        if !state.batches.last().is_some_and(is_known) {
            state.batches.extend(batch);
        }
        if state.events == 0 {
            let batches = std::mem::take(&mut state.batches);
            drop(state);
            self.placed.set(batches);
        }
    }
}

/// An event on its way. Whatever happens to it, it has an outcome.
pub(super) struct Ticket {
    shared: Arc<Shared>,
    loose: Arc<Loose>,
    wave: Arc<Wave>,
    coming: Arc<Coming>,
    /// When; not looked at unless a timeout needs it.
    pushed: Option<Instant>,
    bytes: u64,
    outcome: Option<Result<Placed, DeliveryError>>,
}

impl Ticket {
    pub(super) fn coming(&self) -> &Arc<Coming> {
        &self.coming
    }

    /// Whether its batch must not wait for more events.
    pub(super) fn is_flushed(&self) -> bool {
        self.wave.is_flushed.load(Ordering::Acquire)
    }

    /// When it was pushed, if anything depends on it.
    pub(super) fn pushed(&self) -> Option<Instant> {
        self.pushed
    }

    /// When it fails; `None`: never.
    pub(super) fn late_at(&self) -> Option<Instant> {
        self.pushed?.checked_add(self.shared.options.delivery_timeout?)
    }

    /// Since it was pushed.
    pub(super) fn waited(&self) -> Duration {
        self.pushed.map(|pushed| pushed.elapsed()).unwrap_or_default()
    }

    /// It is in a batch, or will never be.
    pub(super) fn settle(mut self, outcome: Result<Placed, DeliveryError>) {
        self.outcome = Some(outcome);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        // Without an outcome its task panicked, which was logged.
        let outcome = self.outcome.take().unwrap_or_else(|| {
            let error = PushError::Callback {
                what: "task that prepares the event",
                reason: "it panicked".into(),
            };
            Err(error.into())
        });
        let batch = match &outcome {
            Ok(placed) => Some(Arc::clone(&placed.batch)),
            Err(error) => {
                self.shared.counters.failed(1, error);
                None
            }
        };
        self.coming.placed.set(outcome);
        self.wave.done(batch);
        self.loose.release(self.bytes);
    }
}
