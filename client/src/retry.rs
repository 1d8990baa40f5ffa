//! How long and how often something is tried again.

use std::time::{Duration, Instant};

const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Pauses that grow, until the time is over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retry {
    since: Instant,
    timeout: Duration,
    pause: Duration,
}

impl Retry {
    pub(crate) fn new(timeout: Duration) -> Self {
        Self {
            since: Instant::now(),
            timeout,
            pause: PAUSE_MIN,
        }
    }

    /// How long to wait before the next attempt; `None` when the time is over.
    pub(crate) fn pause(&mut self) -> Option<Duration> {
        let left = self
            .timeout
            .checked_sub(self.waited())
            .filter(|left| !left.is_zero())?;
        let pause = self.pause.min(left);
        self.pause = self.pause.saturating_mul(2).min(PAUSE_MAX);
        Some(pause)
    }

    /// Time since the first failure.
    pub(crate) fn waited(&self) -> Duration {
        self.since.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_end() {
        let mut retry = Retry::new(Duration::from_secs(60));
        let pauses: Vec<u128> = (0..9).map(|_| retry.pause().unwrap().as_millis()).collect();
        assert_eq!(pauses, [10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
        assert_eq!(Retry::new(Duration::ZERO).pause(), None);
        let mut short = Retry::new(Duration::from_millis(5));
        assert!(short.pause().unwrap() <= Duration::from_millis(5));
        std::thread::sleep(Duration::from_millis(6));
        assert_eq!(short.pause(), None);
    }
}
