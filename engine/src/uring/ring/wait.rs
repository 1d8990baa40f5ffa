//! How a shard waits in its ring: it looks for a while, and then sleeps.
//!
//! To be woken costs tens of microseconds, above all where an idle core is given back to the host of a virtual machine: as much
//! as a fast device needs for a write, or a client on the same machine for its next request. So what usually comes that soon is looked
//! for, without a system call; and where it does not come, the shard goes to sleep at once ([`Patience`]).

use std::task::Waker;
use std::time::{Duration, Instant};

use io_uring::{opcode, types};
use mofka_net::shm::Patience;

use super::super::watch::Change;
use super::Inner;
use super::op::{Kind, NOBODY, tag};

/// How long is looked at most.
const SPIN: Duration = Duration::from_micros(60);
/// Looks between two looks at the clock.
const LOOKS: u32 = 32;

/// Whether looking was worth it lately.
#[derive(Debug)]
pub(super) struct Spins {
    /// While an operation is under way.
    for_device: Patience,
    /// While none is.
    for_sockets: Patience,
}

impl Spins {
    pub(super) fn new() -> Self {
        let patience = Patience::new(SPIN);
        Self {
            for_device: patience,
            for_sockets: patience,
        }
    }

    /// How long to look this time; nothing where it was in vain lately: a short look costs a system call too, and brings little.
    fn window(&mut self, in_flight: usize) -> Option<Duration> {
        let window = self.of(in_flight)?.window();
        (window == SPIN).then_some(window)
    }

    fn note(&mut self, in_flight: usize, waited: Duration) {
        if let Some(patience) = self.of(in_flight) {
            patience.note(waited);
        }
    }

    /// Of several operations, some go on while the shard wakes up: looking brings nothing, and costs a third of what they do.
    fn of(&mut self, in_flight: usize) -> Option<&mut Patience> {
        match in_flight {
            0 => Some(&mut self.for_sockets),
            1 => Some(&mut self.for_device),
            _ => None,
        }
    }
}

impl Inner {
    /// Submits what is queued and waits for a completion or for something from a socket, but not longer than this.
    pub(super) fn wait(&mut self, patience: Duration) -> Vec<Waker> {
        let until = Instant::now() + patience;
        let mut left = patience;
        loop {
            for change in self.watches.changes() {
                self.poll_socket(change);
            }
            let mut woken = Vec::new();
            self.complete_submission(&mut woken);
            if !woken.is_empty() {
                return woken;
            }
            let in_flight = self.operations.in_flight();
            let begun = Instant::now();
            if let Some(window) = self.spins.window(in_flight) {
                self.spin(begun, window.min(left));
            }
            let time = types::Timespec::from(left);
            let arguments = types::SubmitArgs::new().timespec(&time);
            // That the time passed is as good as a completion: what is there is taken, and the next look takes the rest.
            let submitted = self.ring.submitter().submit_with_args(1, &arguments);
            submitted.into_iter().for_each(|taken| self.links.taken(taken));
            self.spins.note(in_flight, begun.elapsed());
            woken = self.reap();
            left = until.saturating_duration_since(Instant::now());
            // A write whose sync is still to come concerns nobody but the ring.
            if !woken.is_empty() || self.watches.has_come() || self.watches.has_rung() || left.is_zero() {
                return woken;
            }
        }
    }

    /// Submits what is queued, and looks for as long as this whether anything comes.
    fn spin(&mut self, begun: Instant, window: Duration) {
        if !self.ring.submission().is_empty() && self.submit().is_err() {
            // The wait submits, and tells.
            return;
        }
        let mut looks = 0_u32;
        while !self.has_news() {
            looks += 1;
            if looks.is_multiple_of(LOOKS) && begun.elapsed() >= window {
                return;
            }
            std::hint::spin_loop();
        }
    }

    /// Whether there is anything in the ring to see to.
    fn has_news(&mut self) -> bool {
        self.ring.submission().taskrun() || !self.ring.completion().is_empty()
    }

    fn poll_socket(&mut self, change: Change) {
        let entry = match change {
            Change::Poll { place, fd } => opcode::PollAdd::new(types::Fd(fd), libc::POLLIN as u32)
                .build()
                .user_data(tag(Kind::Poll, place, 0)),
            Change::Cancel { place } => opcode::PollRemove::new(tag(Kind::Poll, place, 0))
                .build()
                .user_data(tag(Kind::Poll, NOBODY, 0)),
        };
        if self.ring.submission().is_full() {
            self.submit().ok();
        }
        // SAFETY: a poll touches no memory, and holds the socket itself.
        let pushed = unsafe { self.ring.submission().push(&entry) };
        if pushed.is_err() {
            // The kernel takes nothing now; the next wait tries again.
            tracing::warn!(?change, "the ring is full");
            if let Change::Poll { place, .. } = change {
                self.watches.ended(place);
            }
        }
    }
}
