//! Which sync makes which write durable.
//!
//! A write that is alone in its file has a sync of its own, linked to it: nobody is woken between the two. Writes of one
//! file beside each other share: there is one sync at a time, for all of them that are done when it begins. Each sync
//! takes a thread of the kernel, and many of them take the cores that the shards need.

use std::collections::HashMap;
use std::os::fd::RawFd;

/// How a write becomes durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SyncBy {
    /// By a sync that is linked to it.
    Link,
    /// By the next sync of its file after it is done.
    Sharing,
}

/// The files of a ring that are written durably.
#[derive(Debug, Default)]
pub(super) struct Syncs {
    /// By descriptor. What is under way holds its file open, so that a number means one file as long as it matters.
    files: HashMap<RawFd, Lane>,
    /// Files whose sync is to begin.
    due: Vec<RawFd>,
}

#[derive(Debug, Default)]
struct Lane {
    /// Writes that are neither durable nor failed.
    writes: usize,
    /// Places of those that are done, and wait for a sync.
    written: Vec<usize>,
    /// Places of those that the sync under way is for.
    covered: Vec<usize>,
}

impl Syncs {
    /// A durable write of this file begins.
    pub(super) fn begin(&mut self, fd: RawFd) -> SyncBy {
        let lane = self.files.entry(fd).or_default();
        lane.writes += 1;
        match lane.writes {
            1 => SyncBy::Link,
            _ => SyncBy::Sharing,
        }
    }

    /// A write is durable, or failed.
    pub(super) fn end(&mut self, fd: RawFd) {
        self.lane(fd).writes -= 1;
    }

    /// A write that shares is done.
    pub(super) fn written(&mut self, fd: RawFd, place: usize) {
        let lane = self.lane(fd);
        lane.written.push(place);
        if lane.covered.is_empty() {
            lane.cover();
            self.due.push(fd);
        }
    }

    /// The shared sync of this file is over, for better or worse: of these places it was. They are not ended yet.
    pub(super) fn synced(&mut self, fd: RawFd) -> Vec<usize> {
        let lane = self.lane(fd);
        let covered = std::mem::take(&mut lane.covered);
        assert!(!covered.is_empty(), "a sync of nothing");
        if !lane.written.is_empty() {
            lane.cover();
            self.due.push(fd);
        }
        covered
    }

    /// The next file whose sync is to be made now.
    pub(super) fn next_due(&mut self) -> Option<RawFd> {
        self.due.pop()
    }

    /// Its sync could not be begun: it is due again.
    pub(super) fn put_back(&mut self, fd: RawFd) {
        self.due.push(fd);
    }

    fn lane(&mut self, fd: RawFd) -> &mut Lane {
        match self.files.get_mut(&fd) {
            Some(lane) => lane,
            None => unreachable!("descriptor {fd} was never written durably"),
        }
    }
}

impl Lane {
    fn cover(&mut self) {
        std::mem::swap(&mut self.written, &mut self.covered);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_alone_has_a_sync_of_its_own() {
        let mut syncs = Syncs::default();
        assert_eq!(syncs.begin(3), SyncBy::Link);
        assert_eq!(syncs.begin(4), SyncBy::Link);
        assert_eq!(syncs.begin(3), SyncBy::Sharing);
        syncs.end(4);
        assert_eq!(syncs.begin(4), SyncBy::Link);
        assert_eq!(syncs.next_due(), None);
    }

    #[test]
    fn a_sync_is_only_for_what_was_done_before_it_began() {
        let mut syncs = Syncs::default();
        for _ in 0..4 {
            syncs.begin(3);
        }
        syncs.written(3, 11);
        assert_eq!(syncs.next_due(), Some(3));
        syncs.written(3, 12);
        syncs.written(3, 13);
        assert_eq!(syncs.next_due(), None, "one at a time");
        assert_eq!(syncs.synced(3), [11]);
        assert_eq!(syncs.next_due(), Some(3));
        assert_eq!(syncs.synced(3), [12, 13]);
        assert_eq!(syncs.next_due(), None);
        for _ in 0..4 {
            syncs.end(3);
        }
        assert_eq!(syncs.begin(3), SyncBy::Link);
    }

    #[test]
    fn files_do_not_wait_for_each_other() {
        let mut syncs = Syncs::default();
        for fd in [3, 3, 4, 4] {
            syncs.begin(fd);
        }
        syncs.written(3, 1);
        syncs.written(4, 2);
        let mut due = [syncs.next_due(), syncs.next_due()];
        due.sort();
        assert_eq!(due, [Some(3), Some(4)]);
        assert_eq!(syncs.synced(4), [2]);
        assert_eq!(syncs.synced(3), [1]);
    }
}
