//! The wish to stop: SIGINT, SIGTERM, or the end of whoever started the threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};

use crate::failure::{Failure, Outcome};

/// How often a sleep looks whether it is over.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Shared by all threads of a command. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stop {
    wished: Arc<AtomicBool>,
}

impl Stop {
    /// One that signals set.
    pub(crate) fn on_signals() -> Outcome<Self> {
        let stop = Self::default();
        for signal in [SIGINT, SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&stop.wished))
                .map_err(|e| Failure::failed(format!("cannot handle signals: {e}")))?;
        }
        Ok(stop)
    }

    pub(crate) fn is_wished(&self) -> bool {
        self.wished.load(Ordering::Relaxed)
    }

    pub(crate) fn wish(&self) {
        self.wished.store(true, Ordering::Relaxed);
    }

    /// Sleeps, unless it is to stop.
    pub(crate) fn sleep(&self, time: Duration) {
        let until = Instant::now() + time;
        while !self.is_wished() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            std::thread::sleep(left.min(LOOK_EVERY));
        }
    }
}

/// Pauses between attempts, each twice as long as the one before.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(50);
    const LONGEST: Duration = Duration::from_secs(5);

    pub(crate) fn new() -> Self {
        Self { next: Self::FIRST }
    }

    /// How long to wait now.
    pub(crate) fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(Self::LONGEST);
        pause
    }

    /// Something worked.
    pub(crate) fn reset(&mut self) {
        self.next = Self::FIRST;
    }
}
