//! Devices of which a sync failed.
//!
//! A device that fails to empty its cache may have dropped any part of it, and tells so once: the next sync goes well. So what was written
//! to a device, and not synced, before a sync of that device failed is lost as far as anybody knows, whichever file or shard
//! made the sync that failed ([`Flushes::failed_since`]).
//!
//! One limit remains. A failure is noted when the shard that made the sync takes its completion. Another shard whose own sync went well
//! after that failure, and which takes its completion first, does not hear of it: the kernel tells nobody else, and the shards would have
//! to wait for one another at each sync.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::settled::Device;

/// Of all shards of this process.
pub(super) static FLUSHES: Flushes = Flushes::new();

/// See the module.
pub(super) struct Flushes {
    /// How many failed so far.
    count: AtomicU64,
    /// The number of the last one of each device, from 1 on.
    last: Mutex<Option<HashMap<Device, u64>>>,
}

impl Flushes {
    const fn new() -> Self {
        Self {
            count: AtomicU64::new(0),
            last: Mutex::new(None),
        }
    }

    /// How many failed so far, to be asked about later.
    pub(super) fn count(&self) -> u64 {
        // Acquire: pairs with the release in `failed`, so that the device's number is there when the count says so.
        self.count.load(Ordering::Acquire)
    }

    /// A sync of this device ended so; as the kernel tells it, an error below zero.
    pub(super) fn note(&self, device: Device, result: i32) {
        if is_of_device(result) {
            self.failed(device);
        }
    }

    /// A sync of this device failed.
    pub(super) fn failed(&self, device: Device) {
        let mut last = self.lock();
        let number = self.count.load(Ordering::Relaxed) + 1;
        last.get_or_insert_default().insert(device, number);
        // Under the lock: numbers are given one after the other.
        self.count.store(number, Ordering::Release);
    }

    /// Whether a sync of this device failed since there were so many.
    pub(super) fn failed_since(&self, device: Device, count: u64) -> bool {
        if self.count() == count {
            return false;
        }
        let last = self.lock();
        last.as_ref()
            .and_then(|last| last.get(&device))
            .is_some_and(|number| *number > count)
    }

    fn lock(&self) -> MutexGuard<'_, Option<HashMap<Device, u64>>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is told of something that a failed sync of others may have dropped.
pub(super) fn dropped() -> io::Error {
    io::Error::other("another sync of this device failed meanwhile, and the device may have dropped this")
}

/// Whether a sync that gave this may have dropped what others wrote: not where it was never made, nor where the file system found no
/// room for what it had to put down about this file, which the device's cache has nothing to do with and which passes.
fn is_of_device(result: i32) -> bool {
    const NOT_OF_DEVICE: [i32; 4] = [libc::ECANCELED, libc::EINVAL, libc::ENOSPC, libc::EDQUOT];
    result < 0 && !NOT_OF_DEVICE.contains(&-result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_of_its_device_and_of_what_was_before_it() {
        let flushes = Flushes::new();
        let before = flushes.count();
        assert!(!flushes.failed_since(1, before));
        flushes.failed(1);
        let between = flushes.count();
        assert!(flushes.failed_since(1, before) && !flushes.failed_since(2, before));
        assert!(!flushes.failed_since(1, between));
        flushes.failed(2);
        assert!(flushes.failed_since(1, before) && !flushes.failed_since(1, between));
        assert!(flushes.failed_since(2, between) && !flushes.failed_since(2, flushes.count()));
    }

    #[test]
    fn a_sync_that_was_never_made_drops_nothing() {
        assert!(is_of_device(-libc::EIO) && !is_of_device(0));
        assert!(!is_of_device(-libc::EINVAL) && !is_of_device(-libc::ECANCELED));
    }

    #[test]
    fn a_full_file_system_drops_nothing_of_others() {
        assert!(!is_of_device(-libc::ENOSPC) && !is_of_device(-libc::EDQUOT));
    }
}
