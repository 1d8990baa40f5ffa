//! The writes of one file that are under way, in order.

use std::collections::VecDeque;

use super::CommitId;
use crate::ids::EventId;
use crate::write_plan::{FileTail, WritePlan};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    Planned,
    Written,
    Synced,
}

struct Flight {
    id: CommitId,
    /// The first id that may have something in this write.
    from: EventId,
    step: Step,
}

/// See the module.
pub(super) struct Lane {
    pub(super) tail: FileTail,
    flights: VecDeque<Flight>,
}

impl Lane {
    pub(super) fn new(tail: FileTail) -> Self {
        Self {
            tail,
            flights: VecDeque::new(),
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.flights.is_empty()
    }

    pub(super) fn in_flight(&self) -> usize {
        self.flights.len()
    }

    /// Whether one more may begin: always when none is under way, otherwise when not too many are and it is worth it.
    pub(super) fn may_begin(&self, flights_max: usize, beside_others: bool) -> bool {
        self.is_idle() || (beside_others && self.in_flight() < flights_max)
    }

    pub(super) fn begin(&mut self, id: CommitId, from: EventId) -> WritePlan {
        let step = Step::Planned;
        self.flights.push_back(Flight { id, from, step });
        self.tail.begin()
    }

    /// Moves a write on; `false` when this commit writes nothing here.
    ///
    /// # Panics
    /// When it is not at the step before.
    pub(super) fn step(&mut self, id: CommitId, from: Step, to: Step) -> bool {
        let Some(flight) = self.flights.iter_mut().find(|flight| flight.id == id) else {
            return false;
        };
        assert_eq!(flight.step, from, "commit {id} cannot be {to:?} now");
        flight.step = to;
        while self
            .flights
            .front()
            .is_some_and(|flight| flight.step == Step::Synced)
        {
            self.flights.pop_front();
            self.tail.landed();
        }
        true
    }

    /// Exclusive end of the ids before which everything has come as far as `step`, when what was begun goes up to `begun`.
    pub(super) fn end(&self, step: Step, begun: EventId) -> EventId {
        let behind = self.flights.iter().find(|flight| flight.step < step);
        behind.map_or(begun, |flight| flight.from)
    }
}
