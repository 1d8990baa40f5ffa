//! Tells the application which partitions its consumer reads.
//!
//! One call at a time, in the order in which things happened: whoever changes the set of partitions holds the lock of the calls
//! meanwhile, and no other. So a partition is told as assigned before its first event comes, and as withdrawn after its last.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::components::guarded;
use crate::promise::lock;

type Call = dyn Fn(&AssignmentChange) + Send + Sync;

/// What changed in what a consumer reads. Indices of partitions, ascending, at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AssignmentChange {
    /// It reads these from now on. None of their events was handed over yet.
    Assigned(Vec<usize>),
    /// It reads these no more: others will, or nobody when it is closed. No pull gives any more of their events. What is
    /// acknowledged before the call returns counts: the next one that reads the partition begins behind it. (An acknowledgement
    /// that the call does not wait for has a second to arrive.)
    Withdrawn(Vec<usize>),
    /// It reads these no more, and another consumer does already, because the node took this one for gone. The other one may get
    /// events again that this one has not acknowledged yet.
    Lost(Vec<usize>),
}

/// A function of the application that is told which partitions its consumer reads; for applications that keep something for each
/// partition.
///
/// It is called by one thread at a time: for the first partitions by the one that makes the consumer, before any event
/// comes; later by a thread that is made for it; at the end by one of the consumer's. It may acknowledge events, wait for that, and
/// use the consumer, though it cannot wait for other changes, which come after it. It should not keep the consumer itself, which
/// then would never be dropped. Events that were pulled before may be at work in other threads meanwhile.
///
/// Partitions that others wait for are not given away before it returns. This has a bound: a consumer whose call takes
/// longer than four heartbeats of the node (40 s by default) is taken for gone: all of its partitions go to others, and of those
/// that were not withdrawn it is told that it lost them. [`Consumer::close`](crate::Consumer::close) waits a second at most for the call that it leads to.
///
/// A panic in it is logged, and changes nothing.
#[derive(Clone, Default)]
pub struct OnAssignment(Option<Arc<Call>>);

impl OnAssignment {
    /// Nothing is told. The default.
    pub fn none() -> Self {
        Self::default()
    }

    /// This function is told.
    pub fn new(call: impl Fn(&AssignmentChange) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(call)))
    }
}

impl fmt::Debug for OnAssignment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            None => "OnAssignment::none()",
            Some(_) => "OnAssignment::new(..)",
        })
    }
}

/// The calls of one consumer. See the module.
pub(super) struct Assignments {
    on: OnAssignment,
    turn: Mutex<()>,
    /// Partitions that others read already, and that was not told yet.
    lost: Mutex<Vec<usize>>,
}

/// Whose turn it is to change what is read.
pub(super) struct Turn<'a> {
    assignments: &'a Assignments,
    _held: MutexGuard<'a, ()>,
}

impl Assignments {
    pub(super) fn new(on: OnAssignment) -> Self {
        Self {
            on,
            turn: Mutex::default(),
            lost: Mutex::default(),
        }
    }

    /// Waits for the call that is under way. Tells what was lost meanwhile.
    pub(super) fn turn(&self) -> Turn<'_> {
        let turn = Turn {
            assignments: self,
            _held: lock(&self.turn),
        };
        let lost = std::mem::take(&mut *lock(&self.lost));
        turn.tell(AssignmentChange::Lost, lost);
        turn
    }

    /// Whether anybody wants to hear.
    pub(super) fn is_told(&self) -> bool {
        self.on.0.is_some()
    }

    /// Notes what was lost: told by the next turn. Never waits. Returns whether somebody has to see to a turn.
    pub(super) fn lose(&self, partition: usize) -> bool {
        let mut lost = lock(&self.lost);
        lost.push(partition);
        lost.len() == 1
    }
}

impl Turn<'_> {
    /// Calls the function, if there is anything to tell.
    pub(super) fn tell(&self, change: fn(Vec<usize>) -> AssignmentChange, mut partitions: Vec<usize>) {
        let Some(call) = self.assignments.on.0.as_ref().filter(|_| !partitions.is_empty()) else {
            return;
        };
        partitions.sort_unstable();
        let change = change(partitions);
        let outcome = guarded(|| {
            call(&change);
            Ok(())
        });
        if let Err(reason) = outcome {
            tracing::error!(?change, %reason, "the function that is told of assignments failed");
        }
    }
}
