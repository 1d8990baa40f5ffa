//! When a shard makes a sync itself, on the spot, rather than have it made by a thread of the kernel.
//!
//! Handing a sync over and hearing of its end takes two wake-ups, of which each costs as much as a fast device needs to empty
//! its cache. A shard that has nothing else under way waits for it anyway. So it makes the sync itself as long as operations
//! come one at a time, and as long as the device is fast: whatever arrives meanwhile waits, for a moment. A sync that took
//! longer is not made here again for a while; and when something did arrive over a socket while an operation was under way, its
//! sender has more to say than one request at a time, which is better read while a thread of the kernel syncs. What comes through
//! shared memory waits there at no cost, and its shard and its client leave such a thread no core.

use std::time::{Duration, Instant};

/// Operations that came one at a time before one is believed to.
const ALONE_MIN: u32 = 8;
/// A device that usually needs longer is not fast, and neither is one that needs so long once.
const FAST_USUALLY: Duration = Duration::from_micros(250);
const FAST_ONCE: Duration = Duration::from_millis(2);
/// The usual time is an average to which the last one gives this part.
const PART: u32 = 8;
/// How long none is made here after the device was not fast.
const PAUSE: Duration = Duration::from_millis(200);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct OnTheSpot {
    alone: u32,
    /// What had arrived when the last durable write began.
    arrivals: u64,
    /// What syncs took here since the last pause.
    usual: Duration,
    not_before: Option<Instant>,
}

impl OnTheSpot {
    /// A durable write begins, alone or beside other operations. `arrivals` changes when something is read from a socket.
    pub(super) fn begins(&mut self, is_alone: bool, arrivals: u64) {
        self.alone = if is_alone { self.alone.saturating_add(1) } else { 0 };
        self.arrivals = arrivals;
    }

    /// It is under way still.
    pub(super) fn goes_on(&mut self, arrivals: u64) {
        if arrivals != self.arrivals {
            self.had_company();
        }
    }

    /// Something arrived while it was under way.
    pub(super) fn had_company(&mut self) {
        self.alone = 0;
    }

    /// Whether the sync of what is alone is to be made here.
    pub(super) fn is_wanted(&self, now: Instant) -> bool {
        self.alone >= ALONE_MIN && self.not_before.is_none_or(|time| time <= now)
    }

    /// One that was made here took so long.
    pub(super) fn took(&mut self, now: Instant, duration: Duration) {
        self.usual = (self.usual * (PART - 1) + duration) / PART;
        if self.usual > FAST_USUALLY || duration > FAST_ONCE {
            self.usual = Duration::ZERO;
            self.not_before = Some(now + PAUSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_been_alone_for_a_while() {
        let (mut spot, now) = (OnTheSpot::default(), Instant::now());
        for _ in 0..ALONE_MIN {
            assert!(!spot.is_wanted(now));
            spot.begins(true, 0);
        }
        assert!(spot.is_wanted(now));
        spot.begins(false, 0);
        assert!(!spot.is_wanted(now));
    }

    #[test]
    fn not_when_more_arrives_meanwhile() {
        let (mut spot, now) = (OnTheSpot::default(), Instant::now());
        for arrivals in 0..u64::from(ALONE_MIN) {
            spot.begins(true, arrivals);
            spot.goes_on(arrivals);
        }
        assert!(spot.is_wanted(now));
        spot.goes_on(u64::from(ALONE_MIN));
        assert!(!spot.is_wanted(now));
    }

    #[test]
    fn not_after_a_slow_one() {
        let (mut spot, now) = (OnTheSpot::default(), Instant::now());
        for _ in 0..ALONE_MIN {
            spot.begins(true, 0);
        }
        for _ in 0..100 {
            spot.took(now, FAST_USUALLY);
        }
        spot.took(now, FAST_USUALLY);
        assert!(spot.is_wanted(now));
        spot.took(now, FAST_ONCE * 2);
        assert!(!spot.is_wanted(now) && !spot.is_wanted(now + PAUSE / 2));
        let later = now + PAUSE;
        assert!(spot.is_wanted(later));
        for _ in 0..100 {
            spot.took(later, FAST_USUALLY * 2);
        }
        assert!(!spot.is_wanted(later));
    }
}
