//! The operations that are under way, each at a place of its own.

use std::task::{Context, Poll, Waker};

use super::op::{Finished, Kind, Op, Target};

/// See the module.
#[derive(Default)]
pub(super) struct Operations {
    slots: Vec<Slot>,
    free: Vec<usize>,
    in_flight: usize,
}

enum Slot {
    Free,
    Busy(Op),
    Done(Finished),
}

/// What a completion meant for its operation.
pub(super) struct Noted {
    pub(super) is_success: bool,
    /// All of it is written, and it waits for a sync.
    pub(super) is_written: bool,
    pub(super) is_complete: bool,
    /// Who is to be woken.
    pub(super) waker: Option<Waker>,
}

impl Operations {
    /// How many the kernel has not finished.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// A place for an operation that [`Operations::begin`] will name.
    pub(super) fn place(&mut self) -> usize {
        self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::Free);
            self.slots.len() - 1
        })
    }

    /// An operation that is told to the kernel just now.
    pub(super) fn begin(&mut self, place: usize, op: Op) {
        let slot = self.slot(place);
        assert!(matches!(slot, Slot::Free), "place {place} is taken");
        *slot = Slot::Busy(op);
        self.in_flight += 1;
    }

    /// The file that this operation writes as its `file`th.
    pub(super) fn written(&self, place: usize, file: usize) -> Option<&Target> {
        let Some(Slot::Busy(op)) = self.slots.get(place) else {
            return None;
        };
        op.target(file).filter(|target| target.bytes > 0)
    }

    /// Notes one completion.
    pub(super) fn note(&mut self, kind: Kind, place: usize, result: i32, file: usize) -> Noted {
        let op = self.busy(place);
        let is_success = op.note(kind, result, file);
        if !op.is_complete() {
            // A failure is told at once.
            let waker = op.outcome.is_err().then(|| op.waker.take());
            return Noted {
                is_success,
                is_written: op.is_written(),
                is_complete: false,
                waker: waker.flatten(),
            };
        }
        op.end();
        // One that was given up may have failed before.
        if op.outcome.is_ok() && !op.abandoned {
            op.settle();
        }
        let waker = op.waker.take();
        let finished = Finished {
            outcome: std::mem::replace(&mut op.outcome, Ok(0)),
            buf: op.buf.take(),
        };
        let is_abandoned = op.abandoned;
        *self.slot(place) = match is_abandoned {
            true => Slot::Free,
            false => Slot::Done(finished),
        };
        if is_abandoned {
            self.free.push(place);
        }
        self.in_flight -= 1;
        Noted {
            is_success,
            is_written: false,
            is_complete: true,
            waker,
        }
    }

    /// What came of an operation. Once ready, its place is not its own any more.
    pub(super) fn poll(&mut self, place: usize, context: &mut Context<'_>) -> Poll<Finished> {
        let slot = self.slot(place);
        match slot {
            Slot::Busy(op) if op.outcome.is_err() => {
                // The rest goes on without anybody waiting for it; the place is free after its last completion.
                op.abandoned = true;
                Poll::Ready(Finished {
                    outcome: std::mem::replace(&mut op.outcome, Ok(0)),
                    buf: None,
                })
            }
            Slot::Busy(op) => {
                op.waker = Some(context.waker().clone());
                Poll::Pending
            }
            Slot::Done(_) => {
                let Slot::Done(finished) = std::mem::replace(slot, Slot::Free) else {
                    unreachable!("it was done just now")
                };
                self.free.push(place);
                Poll::Ready(finished)
            }
            Slot::Free => unreachable!("an operation that was not taken keeps its place"),
        }
    }

    /// Nobody will ask for this operation again.
    pub(super) fn abandon(&mut self, place: usize) {
        match self.slot(place) {
            Slot::Busy(op) => op.abandoned = true,
            slot @ Slot::Done(_) => {
                *slot = Slot::Free;
                self.free.push(place);
            }
            Slot::Free => unreachable!("an operation that was not taken keeps its place"),
        }
    }

    fn slot(&mut self, place: usize) -> &mut Slot {
        match self.slots.get_mut(place) {
            Some(slot) => slot,
            None => unreachable!("place {place} was never given"),
        }
    }

    fn busy(&mut self, place: usize) -> &mut Op {
        match self.slot(place) {
            Slot::Busy(op) => op,
            Slot::Free | Slot::Done(_) => {
                unreachable!("a completion of operation {place}, which is not under way")
            }
        }
    }
}
