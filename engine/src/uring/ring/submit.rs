//! When what is queued is told to the kernel: as much as possible at once.
//!
//! A submission costs a system call, and on a virtual machine its writes ring the device's doorbell, which costs as much again. So what is
//! begun while others are under way goes with the wait that follows, and so does a sync: which ones are due, and for what, is decided
//! when they are submitted ([`Syncs`]).
//!
//! [`Syncs`]: super::syncs::Syncs

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::task::Waker;
use std::time::{Duration, Instant};

use super::op::Kind;
use super::{Inner, entries, is_passing};

/// How long what is queued may wait for more, or for the shard to wait.
const QUEUED_MAX: Duration = Duration::from_micros(15);
/// Writes of one operation that the kernel would give to the device one by one: it hands those of a submission over together only
/// where that has more entries than these.
const LONE_WRITES: usize = 2;

impl Inner {
    /// Lets the kernel take what is queued, until so many entries more fit. It stops behind an entry that cannot be, and takes what
    /// follows when it is asked again.
    ///
    /// # Errors
    /// When it takes nothing; what is queued stays so. See [`Ring::room`].
    ///
    /// [`Ring::room`]: super::Ring::room
    pub(super) fn make_room(&mut self, entries: usize) -> io::Result<()> {
        loop {
            let submission = self.ring.submission();
            let room = submission.capacity() - submission.len();
            drop(submission);
            if room >= entries {
                return Ok(());
            }
            if self.submit()? == 0 {
                return Err(io::Error::from_raw_os_error(libc::EAGAIN));
            }
        }
    }

    /// Tells the kernel what is queued, and says how much of it was taken. Where this fails, nothing was.
    pub(super) fn submit(&mut self) -> io::Result<usize> {
        #[cfg(test)]
        if let Some(code) = self.refusals.pop() {
            return Err(io::Error::from_raw_os_error(code));
        }
        let taken = self.ring.submit()?;
        self.links.taken(taken);
        Ok(taken)
    }

    /// Queues what belongs to the submission that is about to be made: syncs that are due, and what makes the kernel hand two writes to
    /// the device together, which rings its doorbell once.
    pub(super) fn complete_submission(&mut self, woken: &mut Vec<Waker>) {
        self.queued_at = None;
        self.is_urgent = false;
        self.decide_syncs(woken);
        let is_pair = std::mem::take(&mut self.ends_with_pair);
        let mut submission = self.ring.submission();
        if is_pair && submission.len() == LONE_WRITES {
            // SAFETY: it touches no memory. Without it, all goes on, in two steps.
            let _ = unsafe { submission.push(&entries::nothing(self.skip_success)) };
        }
    }

    /// Decides which shared syncs are due, and begins them.
    pub(super) fn decide_syncs(&mut self, woken: &mut Vec<Waker>) {
        self.syncs.decide();
        self.begin_shared_syncs(woken);
    }

    /// Queues the shared syncs that are due, or makes one here when it is all that is under way.
    fn begin_shared_syncs(&mut self, woken: &mut Vec<Waker>) {
        while let Some((number, written)) = self.syncs.next_due() {
            let Some(target) = self.operations.written(written.operation, written.file) else {
                unreachable!("what is synced was written")
            };
            let file = Rc::clone(&target.file);
            let quiet = self.quiet_for(self.syncs.covered(number));
            if self.operations.in_flight() == 1 && self.on_the_spot.is_wanted(Instant::now()) {
                let begun = Instant::now();
                let result = match quiet.map_or_else(|| file.sync_here(), File::sync_data) {
                    Ok(()) => 0,
                    Err(error) => -error.raw_os_error().unwrap_or(libc::EIO),
                };
                let ended = Instant::now();
                self.on_the_spot.took(ended, ended.duration_since(begun));
                // The sync left no completion, so what the kernel has to tell is of a socket.
                if self.ring.submission().taskrun() {
                    self.on_the_spot.had_company();
                }
                self.synced(number, result, woken);
                continue;
            }
            let fd = quiet.map_or_else(|| file.fd(), AsRawFd::as_raw_fd);
            let entry = entries::sync(fd, Kind::SharedSync, number, 0);
            let pushed = self.make_room(1).is_ok_and(|()| {
                // SAFETY: a sync touches no memory of ours; the writes that it is for hold the file until it is over, and a quiet one
                // stays open as long as the ring.
                unsafe { self.ring.submission().push(&entry) }.is_ok()
            });
            if !pushed {
                // The kernel takes nothing now: the next look tries again.
                return self.syncs.put_back(number);
            }
        }
    }

    /// Tells the kernel what is queued, and takes what is complete. Returns who is to be woken, when nothing of the
    /// ring is borrowed any more.
    pub(super) fn submit_and_reap(&mut self) -> Vec<Waker> {
        let mut woken = Vec::new();
        self.complete_submission(&mut woken);
        if let Err(error) = self.submit()
            && !is_passing(&error)
        {
            // The queue holds what was not taken, so nothing is lost; it goes with the next submission.
            tracing::error!(%error, "io_uring did not take what was submitted");
        }
        woken.extend(self.reap());
        woken
    }

    /// What was queued is submitted at once when the device has nothing else to do and nothing else will come, or nobody will
    /// do it later. Where several operations were ended together, as many are likely to be begun now: the attendant, whose turn is after
    /// theirs, submits them.
    pub(super) fn launched(&mut self) -> Vec<Waker> {
        let is_alone = self.operations.in_flight() == 1;
        if self.attendant.is_none() && (!is_alone || self.ended_together > 1) {
            self.is_urgent |= is_alone;
            return Vec::new();
        }
        let mut woken = self.submit_and_reap();
        woken.extend(self.attendant.take());
        woken
    }

    /// Takes what is complete. Submits what is queued when it has been for a while: a shard that is about to wait does both in
    /// one call.
    pub(super) fn look(&mut self, now: Instant) -> Vec<Waker> {
        let submission = self.ring.submission();
        let is_called_for = submission.taskrun() || submission.cq_overflow();
        let is_queued = !submission.is_empty() || self.syncs.has_news();
        drop(submission);
        let queued_at = match is_queued {
            true => Some(*self.queued_at.get_or_insert(now)),
            false => None,
        };
        let is_due = queued_at.is_some_and(|at| now.duration_since(at) >= QUEUED_MAX);
        if is_called_for || is_due || self.is_urgent {
            self.submit_and_reap()
        } else {
            self.queued_at = queued_at;
            self.reap()
        }
    }
}
