//! Whether polling is worth it.

use std::time::Duration;

/// Waits in a row that took too long, after which polling is given up.
const MISSES_MAX: u32 = 4;
/// One wait in so many is polled all the same: things may have changed.
const PROBE: u32 = 16;
/// How long is polled where it is hardly worth it.
const HARDLY: Duration = Duration::from_micros(5);

/// How long to poll before going to sleep, going by how long things took to come lately. Where they always take longer, or
/// the other side cannot run because this one polls on its core, polling only costs.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    most: Duration,
    misses: u32,
    waits: u32,
}

impl Patience {
    /// Polls for at most this long.
    pub fn new(most: Duration) -> Self {
        Self {
            most,
            misses: 0,
            waits: 0,
        }
    }

    /// How long to poll this time.
    pub fn window(&mut self) -> Duration {
        self.waits = self.waits.wrapping_add(1);
        if self.misses < MISSES_MAX || self.waits.is_multiple_of(PROBE) {
            self.most
        } else {
            HARDLY.min(self.most)
        }
    }

    /// Something came after this long.
    pub fn note(&mut self, waited: Duration) {
        self.misses = if waited <= self.most {
            0
        } else {
            self.misses.saturating_add(1)
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polling_is_given_up_where_it_is_in_vain_and_taken_up_again() {
        let (most, long) = (Duration::from_micros(50), Duration::from_micros(51));
        let mut patience = Patience::new(most);
        for _ in 0..MISSES_MAX {
            assert_eq!(patience.window(), most);
            patience.note(long);
        }
        let windows: Vec<Duration> = (0..3 * PROBE).map(|_| patience.window()).collect();
        let probes = windows.iter().filter(|window| **window == most).count();
        assert_eq!(probes, 3, "now and then it is tried");
        assert!(windows.iter().all(|window| *window == most || *window == HARDLY));
        patience.note(most);
        assert!((0..PROBE).all(|_| patience.window() == most), "it came in time");
    }
}
