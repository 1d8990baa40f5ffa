//! Which sync makes which write durable.
//!
//! Where what is written is settled ([`Settled`]), all files of a device share: there is one sync at a time, for all
//! operations whose writes are all done when it begins, by the device's quiet file ([`QuietFiles`]) or any of theirs. Half
//! as many as there are files, or fewer: each empties the device's cache, and each takes a thread of the kernel from the cores
//! that the shards need.
//!
//! Which operations a sync is for is decided when it is submitted, and with it what was begun since the last submission. When that is
//! as much as what waits for the sync or more, the sync waits until that is written too: otherwise a few go ahead of the others
//! for ever, each time with a sync of their own, wherever as many are begun as were ended. It waits only once, and not for much
//! data. What comes later, as from clients who were answered, is not waited for: it goes on beside the sync.
//!
//! Elsewhere each file has its own. A write that is alone in its file has a sync that is linked to it: nobody is woken
//! between the two. Writes of one file beside each other share in the same way as those of a device.
//!
//! [`Settled`]: super::super::settled::Settled
//! [`QuietFiles`]: super::super::quiet::QuietFiles

use std::collections::HashMap;
use std::os::fd::RawFd;

use super::super::settled::Device;

/// A sync does not wait for more bytes than this: a fast device needs as long for them as for the sync itself.
const AWAITED_BYTES_MAX: u64 = 1 << 20;

/// How a write becomes durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SyncBy {
    /// By a sync that is linked to it.
    Link,
    /// By the next sync of its file after it is done.
    Sharing,
}

/// What has syncs of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Place {
    /// By descriptor. What is under way holds its file open, so that a number means one file as long as it matters.
    File(RawFd),
    Device(Device),
}

/// The files of a ring that are written durably, and the devices.
#[derive(Debug, Default)]
pub(super) struct Syncs {
    numbers: HashMap<Place, usize>,
    lanes: Vec<Lane>,
    /// Lanes that may have a sync to begin, or have operations that were begun since the last submission.
    undecided: Vec<usize>,
    /// Lanes whose sync is to begin.
    due: Vec<usize>,
    /// Shared syncs that were begun.
    #[cfg(test)]
    pub(super) shared_count: u64,
}

#[derive(Debug, Default)]
struct Lane {
    /// What is neither durable nor failed: writes of a file, operations of a device.
    under_way: usize,
    /// Operations that were begun since the last submission, and their bytes.
    begun: usize,
    begun_bytes: u64,
    /// Operations that are still to be written before the next sync.
    awaited: usize,
    /// What waits for the next sync has waited for others already.
    has_waited: bool,
    /// Operations that are done, and wait for a sync.
    written: Vec<Written>,
    /// Those that the sync under way is for.
    covered: Vec<Written>,
}

/// An operation that waits for a sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) operation: usize,
    /// Which of its files is to be synced.
    pub(super) file: usize,
}

impl Syncs {
    /// A durable write of this file begins.
    pub(super) fn begin_in_file(&mut self, fd: RawFd) -> SyncBy {
        let lane = self.lane(Place::File(fd));
        lane.under_way += 1;
        match lane.under_way {
            1 => SyncBy::Link,
            _ => SyncBy::Sharing,
        }
    }

    /// An operation of so many bytes whose writes are settled on this device begins.
    pub(super) fn begin_on_device(&mut self, device: Device, bytes: u64) {
        let number = self.number(Place::Device(device));
        let lane = &mut self.lanes[number];
        lane.under_way += 1;
        lane.begun += 1;
        lane.begun_bytes = lane.begun_bytes.saturating_add(bytes);
        if lane.begun == 1 {
            self.undecided.push(number);
        }
    }

    #[cfg(test)]
    /// Whether an operation on this device is under way.
    pub(super) fn is_busy(&self, device: Device) -> bool {
        let number = self.numbers.get(&Place::Device(device));
        number.is_some_and(|number| self.lanes[*number].under_way > 0)
    }

    /// A write is durable, or failed; an operation of a device.
    pub(super) fn end(&mut self, place: Place) {
        let number = self.number(place);
        let lane = &mut self.lanes[number];
        lane.under_way -= 1;
        lane.came();
        if !lane.written.is_empty() {
            self.undecided.push(number);
        }
    }

    /// What waits for a shared sync has been written.
    pub(super) fn written(&mut self, place: Place, written: Written) {
        let number = self.number(place);
        let lane = &mut self.lanes[number];
        lane.written.push(written);
        lane.came();
        self.undecided.push(number);
    }

    /// Whether a submission may have a sync with it.
    pub(super) fn has_news(&self) -> bool {
        !self.undecided.is_empty() || !self.due.is_empty()
    }

    /// Something is about to be submitted: which syncs are due, and what the others wait for.
    pub(super) fn decide(&mut self) {
        for number in self.undecided.drain(..) {
            let lane = &mut self.lanes[number];
            lane.decide();
            if lane.is_ready() {
                lane.cover();
                self.due.push(number);
            }
        }
    }

    /// The shared sync of this lane is over: it was for these, and they are ended. One that failed is for all that waited for the
    /// next one as well: nobody knows what the device dropped.
    pub(super) fn synced(&mut self, number: usize, is_success: bool) -> Vec<Written> {
        let lane = &mut self.lanes[number];
        let mut covered = std::mem::take(&mut lane.covered);
        assert!(!covered.is_empty(), "a sync of nothing");
        if !is_success {
            covered.append(&mut lane.written);
        }
        lane.under_way -= covered.len();
        if !lane.written.is_empty() {
            self.undecided.push(number);
        }
        covered
    }

    /// What the sync that is due or under way is for.
    pub(super) fn covered(&self, number: usize) -> &[Written] {
        &self.lanes[number].covered
    }

    /// The next lane whose sync is to be made now, and what of it says which file to sync, where there is no quiet one: any
    /// will do, and is open until then.
    pub(super) fn next_due(&mut self) -> Option<(usize, Written)> {
        let number = self.due.pop()?;
        let written = *self.lanes[number].covered.first()?;
        #[cfg(test)]
        {
            self.shared_count += 1;
        }
        Some((number, written))
    }

    /// Its sync could not be begun: it is due again.
    pub(super) fn put_back(&mut self, number: usize) {
        self.due.push(number);
    }

    fn lane(&mut self, place: Place) -> &mut Lane {
        let number = self.number(place);
        &mut self.lanes[number]
    }

    fn number(&mut self, place: Place) -> usize {
        *self.numbers.entry(place).or_insert_with(|| {
            self.lanes.push(Lane::default());
            self.lanes.len() - 1
        })
    }
}

impl Lane {
    fn cover(&mut self) {
        std::mem::swap(&mut self.written, &mut self.covered);
        self.has_waited = false;
    }

    /// An operation was written, or failed.
    fn came(&mut self) {
        self.awaited = self.awaited.saturating_sub(1);
    }

    /// Whether the next sync is to wait for what was begun.
    fn decide(&mut self) {
        let (begun, bytes) = (
            std::mem::take(&mut self.begun),
            std::mem::take(&mut self.begun_bytes),
        );
        let waiting = self.written.len();
        let is_worth_it = begun >= waiting && bytes <= AWAITED_BYTES_MAX;
        if is_worth_it && self.awaited == 0 && !self.has_waited {
            // What was submitted earlier may be written already.
            let unwritten = self.under_way - waiting - self.covered.len();
            self.awaited = begun.min(unwritten);
            self.has_waited = waiting > 0 && self.awaited > 0;
        }
    }

    fn is_ready(&self) -> bool {
        self.covered.is_empty() && !self.written.is_empty() && self.awaited == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(operation: usize, file: usize) -> Written {
        Written { operation, file }
    }

    fn operations(written: &[Written]) -> Vec<usize> {
        written.iter().map(|written| written.operation).collect()
    }

    /// What a submission has with it.
    fn due(syncs: &mut Syncs) -> Option<(usize, Written)> {
        syncs.decide();
        syncs.next_due()
    }

    const DEVICE: Place = Place::Device(9);

    fn begin(syncs: &mut Syncs, count: usize, bytes: u64) {
        for _ in 0..count {
            syncs.begin_on_device(9, bytes);
        }
    }

    #[test]
    fn what_is_begun_together_is_synced_together() {
        let mut syncs = Syncs::default();
        begin(&mut syncs, 3, 4096);
        assert_eq!(due(&mut syncs), None);
        for operation in [1, 2] {
            syncs.written(DEVICE, written(operation, 3));
            assert_eq!(due(&mut syncs), None);
        }
        syncs.written(DEVICE, written(3, 3));
        assert_eq!(due(&mut syncs), Some((0, written(1, 3))));
        assert_eq!(operations(&syncs.synced(0, true)), [1, 2, 3]);
        // One of them fails: the others do not wait for it.
        begin(&mut syncs, 2, 4096);
        assert_eq!(due(&mut syncs), None);
        syncs.written(DEVICE, written(4, 3));
        assert_eq!(due(&mut syncs), None);
        syncs.end(DEVICE);
        assert_eq!(due(&mut syncs), Some((0, written(4, 3))));
        assert_eq!(operations(&syncs.synced(0, true)), [4]);
        assert!(!syncs.is_busy(9) && !syncs.has_news());
    }

    #[test]
    fn few_wait_for_many_that_are_begun_once_and_many_wait_for_nobody() {
        let mut syncs = Syncs::default();
        begin(&mut syncs, 1, 4096);
        assert_eq!(due(&mut syncs), None);
        syncs.written(DEVICE, written(1, 3));
        begin(&mut syncs, 3, 4096);
        assert_eq!(due(&mut syncs), None, "it waits for three");
        for operation in [2, 3, 4] {
            begin(&mut syncs, 9, 4096);
            assert_eq!(due(&mut syncs), None, "and for nobody else");
            syncs.written(DEVICE, written(operation, 3));
        }
        assert_eq!(due(&mut syncs), Some((0, written(1, 3))));
        // While the sync is under way, of the 27.
        for operation in [5, 6] {
            syncs.written(DEVICE, written(operation, 3));
        }
        begin(&mut syncs, 1, 4096);
        assert_eq!(due(&mut syncs), None);
        assert_eq!(operations(&syncs.synced(0, true)), [1, 2, 3, 4]);
        assert_eq!(due(&mut syncs), Some((0, written(5, 3))), "two wait for no one");
    }

    #[test]
    fn nobody_waits_for_much_data_or_for_what_is_written_already() {
        let mut syncs = Syncs::default();
        begin(&mut syncs, 1, 4096);
        syncs.written(DEVICE, written(1, 3));
        assert_eq!(
            due(&mut syncs),
            Some((0, written(1, 3))),
            "submitted and written between two looks"
        );
        syncs.synced(0, true);
        begin(&mut syncs, 1, 4096);
        assert_eq!(due(&mut syncs), None);
        syncs.written(DEVICE, written(2, 3));
        begin(&mut syncs, 2, AWAITED_BYTES_MAX / 2 + 1);
        assert_eq!(due(&mut syncs), Some((0, written(2, 3))));
    }

    #[test]
    fn a_write_alone_has_a_sync_of_its_own() {
        let mut syncs = Syncs::default();
        assert_eq!(syncs.begin_in_file(3), SyncBy::Link);
        assert_eq!(syncs.begin_in_file(4), SyncBy::Link);
        assert_eq!(syncs.begin_in_file(3), SyncBy::Sharing);
        syncs.end(Place::File(4));
        assert_eq!(syncs.begin_in_file(4), SyncBy::Link);
        assert_eq!(syncs.next_due(), None);
    }

    #[test]
    fn a_sync_is_only_for_what_was_done_before_it_began() {
        for place in [Place::File(3), Place::Device(3)] {
            let mut syncs = Syncs::default();
            for _ in 0..4 {
                match place {
                    Place::File(fd) => {
                        syncs.begin_in_file(fd);
                    }
                    Place::Device(device) => syncs.begin_on_device(device, AWAITED_BYTES_MAX),
                }
            }
            assert_eq!(due(&mut syncs), None);
            syncs.written(place, written(11, 3));
            assert_eq!(due(&mut syncs), Some((0, written(11, 3))));
            syncs.written(place, written(12, 5));
            syncs.written(place, written(13, 6));
            assert_eq!(due(&mut syncs), None, "one at a time");
            assert_eq!(operations(&syncs.synced(0, true)), [11]);
            assert_eq!(
                due(&mut syncs),
                Some((0, written(12, 5))),
                "a file of what is covered"
            );
            assert_eq!(operations(&syncs.synced(0, true)), [12, 13]);
            assert_eq!(due(&mut syncs), None);
            assert!(!syncs.has_news());
            assert_eq!(syncs.lanes[0].under_way, 1);
            syncs.end(place);
            assert_eq!(syncs.lanes[0].under_way, 0);
        }
    }

    #[test]
    fn a_sync_that_fails_is_for_what_waited_for_the_next_one_too() {
        let mut syncs = Syncs::default();
        for _ in 0..3 {
            syncs.begin_on_device(9, AWAITED_BYTES_MAX);
        }
        syncs.decide();
        syncs.written(Place::Device(9), written(1, 3));
        assert_eq!(due(&mut syncs), Some((0, written(1, 3))));
        syncs.written(Place::Device(9), written(2, 4));
        assert_eq!(operations(&syncs.synced(0, false)), [1, 2]);
        assert!(syncs.is_busy(9));
        syncs.written(Place::Device(9), written(3, 4));
        assert_eq!(due(&mut syncs), Some((0, written(3, 4))));
        assert_eq!(operations(&syncs.synced(0, true)), [3]);
        assert!(!syncs.is_busy(9) && !syncs.is_busy(8));
    }

    #[test]
    fn files_do_not_wait_for_each_other() {
        let mut syncs = Syncs::default();
        for fd in [3, 3, 4, 4] {
            syncs.begin_in_file(fd);
        }
        syncs.written(Place::File(3), written(1, 3));
        syncs.written(Place::File(4), written(2, 4));
        syncs.decide();
        let mut due = [syncs.next_due(), syncs.next_due()];
        due.sort_by_key(|due| due.map(|(number, _)| number));
        assert_eq!(due, [Some((0, written(1, 3))), Some((1, written(2, 4)))]);
        assert_eq!(operations(&syncs.synced(1, true)), [2]);
        assert_eq!(operations(&syncs.synced(0, true)), [1]);
    }
}
