//! How long things take: counts in fixed buckets.

use std::cell::Cell;

/// Inclusive upper bounds of all buckets but the last one, in microseconds. From what a ring in shared memory takes to what is
/// long for a disk that is stuck. They never change: a series whose buckets change cannot be compared with its past.
pub const BOUNDS_US: [u64; 18] = [
    10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 10_000_000,
];

/// Buckets, with the one for all that took longer.
pub const BUCKETS: usize = BOUNDS_US.len() + 1;

/// Durations, counted by one shard.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [Cell<u64>; BUCKETS],
    sum_us: Cell<u64>,
}

impl Histogram {
    /// Something took so long.
    #[inline]
    pub fn record(&self, took_us: u64) {
        let place = BOUNDS_US.partition_point(|bound| *bound < took_us);
        if let Some(bucket) = self.buckets.get(place) {
            bucket.set(bucket.get().wrapping_add(1));
        }
        self.sum_us.set(self.sum_us.get().wrapping_add(took_us));
    }

    /// A copy.
    pub fn values(&self) -> HistogramValues {
        let mut values = HistogramValues {
            sum_us: self.sum_us.get(),
            ..HistogramValues::default()
        };
        for (value, bucket) in values.buckets.iter_mut().zip(&self.buckets) {
            *value = bucket.get();
        }
        values
    }
}

/// A copy of a [`Histogram`], or the sum of several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HistogramValues {
    /// How many fell into each bucket, not into it and all before it.
    pub buckets: [u64; BUCKETS],
    /// All durations together, in microseconds.
    pub sum_us: u64,
}

impl HistogramValues {
    /// Takes another one's counts in.
    pub fn add(&mut self, other: &Self) {
        for (mine, more) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine = mine.wrapping_add(*more);
        }
        self.sum_us = self.sum_us.wrapping_add(other.sum_us);
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.buckets
            .iter()
            .fold(0, |sum, bucket| sum.wrapping_add(*bucket))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_bucket_and_the_last_bucket_takes_the_rest() {
        let histogram = Histogram::default();
        for took_us in [0, 10, 11, 25, 10_000_000, 10_000_001, u64::from(u32::MAX)] {
            histogram.record(took_us);
        }
        let values = histogram.values();
        assert_eq!(values.buckets[..3], [2, 2, 0]);
        assert_eq!(values.buckets[BUCKETS - 2..], [1, 2]);
        assert_eq!(values.count(), 7);
        assert_eq!(values.sum_us, 46 + 20_000_001 + u64::from(u32::MAX));
    }

    #[test]
    fn sums_are_bucket_by_bucket() {
        let (a, b) = (Histogram::default(), Histogram::default());
        a.record(5);
        b.record(7);
        b.record(300);
        let mut sum = a.values();
        sum.add(&b.values());
        assert_eq!((sum.buckets[0], sum.buckets[5], sum.sum_us), (2, 1, 312));
    }

    #[test]
    fn bounds_grow() {
        assert!(BOUNDS_US.is_sorted_by(|a, b| a < b));
    }
}
