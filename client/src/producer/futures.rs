//! What becomes of pushed events.

use std::sync::Arc;
use std::task::Waker;

use mofka_log::EventId;
use mofka_net::shm::this_process;

use super::batch::BatchPromise;
use super::loose::{Coming, Placed, Wave};
use crate::error::{DeliveryError, PushError};
use crate::future::{Settle, future_methods};
use crate::promise::Deadline;

/// What will become the id of a pushed event.
#[derive(Clone)]
pub struct PushFuture {
    place: Place,
}

#[derive(Clone)]
enum Place {
    Known(Placed),
    Coming(Arc<Coming>),
}

future_methods!(PushFuture, EventId, DeliveryError);

type Delivered = Result<EventId, DeliveryError>;

impl PushFuture {
    pub(super) fn known(placed: Placed) -> Self {
        let place = Place::Known(placed);
        Self { place }
    }

    pub(super) fn coming(coming: &Arc<Coming>) -> Self {
        let place = Place::Coming(Arc::clone(coming));
        Self { place }
    }

    /// Its batch, if it has one already.
    fn placed(&self) -> Option<Result<&Placed, DeliveryError>> {
        match &self.place {
            Place::Known(placed) => Some(Ok(placed)),
            Place::Coming(coming) => coming.get(),
        }
    }
}

impl Placed {
    fn id(&self, settled: &Delivered) -> Delivered {
        // That the batch's ids fit 64 bits was checked when the answer came.
        settled
            .clone()
            .map(|base| base.checked_add(self.index.into()).unwrap_or(base))
    }
}

impl Coming {
    fn get(&self) -> Option<Result<&Placed, DeliveryError>> {
        self.placed.get().map(|it| it.as_ref().map_err(Clone::clone))
    }

    /// In a forked child nobody will ever settle it.
    fn check_process(&self) -> Result<(), DeliveryError> {
        if this_process() == self.pid {
            Ok(())
        } else {
            Err(DeliveryError::Forked { pid: self.pid })
        }
    }

    /// Waits for the place with `wait`, unless it is there.
    fn or_wait<'a>(
        &'a self,
        wait: impl FnOnce() -> Option<&'a Result<Placed, DeliveryError>>,
    ) -> Option<Result<&'a Placed, DeliveryError>> {
        if let Some(placed) = self.get() {
            return Some(placed);
        }
        if let Err(error) = self.check_process() {
            return Some(Err(error));
        }
        wait().map(|it| it.as_ref().map_err(Clone::clone))
    }
}

impl Settle for PushFuture {
    type Value = EventId;
    type Error = DeliveryError;

    fn settle(&self, deadline: Deadline) -> Option<Delivered> {
        let placed = match &self.place {
            Place::Known(placed) => Ok(placed),
            Place::Coming(coming) => coming.or_wait(|| coming.placed.wait(deadline))?,
        };
        let placed = match placed {
            Ok(placed) => placed,
            Err(error) => return Some(Err(error)),
        };
        if placed.batch.settled.get().is_none()
            && let Err(error) = placed.batch.send_now()
        {
            return Some(Err(error));
        }
        placed.batch.wait(deadline).map(|settled| placed.id(settled))
    }

    fn settle_or_wake(&self, waker: &Waker) -> Option<Delivered> {
        let placed = match &self.place {
            Place::Known(placed) => Ok(placed),
            Place::Coming(coming) => coming.or_wait(|| coming.placed.poll(waker))?,
        };
        let placed = match placed {
            Ok(placed) => placed,
            Err(error) => return Some(Err(error)),
        };
        let settled = placed.batch.poll(waker);
        if settled.is_none()
            && let Err(error) = placed.batch.send_now()
        {
            return Some(Err(error));
        }
        settled.map(|settled| placed.id(settled))
    }

    fn is_settled(&self) -> bool {
        match self.placed() {
            None => false,
            Some(Err(_)) => true,
            Some(Ok(placed)) => placed.batch.settled.get().is_some(),
        }
    }
}

impl std::fmt::Debug for PushFuture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.placed() {
            None => write!(f, "PushFuture(not in a batch yet)"),
            Some(Err(error)) => write!(f, "PushFuture({error})"),
            Some(Ok(placed)) => {
                let settled = placed.batch.settled.get();
                write!(f, "PushFuture(event {} of {settled:?})", placed.index)
            }
        }
    }
}

/// Completes when everything pushed before the flush was acknowledged or failed.
#[derive(Clone)]
pub struct FlushFuture {
    batches: Vec<Arc<BatchPromise>>,
    /// Of events that had no batch yet.
    waves: Vec<Arc<Wave>>,
    pid: u32,
}

future_methods!(FlushFuture, (), PushError);

impl FlushFuture {
    pub(super) fn new(batches: Vec<Arc<BatchPromise>>, waves: Vec<Arc<Wave>>) -> Self {
        let pid = this_process();
        Self { batches, waves, pid }
    }

    fn check_process(&self) -> Result<(), PushError> {
        if self.is_settled() || this_process() == self.pid {
            Ok(())
        } else {
            Err(PushError::Forked { pid: self.pid })
        }
    }
}

impl Settle for FlushFuture {
    type Value = ();
    type Error = PushError;

    fn settle(&self, deadline: Deadline) -> Option<Result<(), PushError>> {
        if let Err(error) = self.check_process() {
            return Some(Err(error));
        }
        for wave in &self.waves {
            for batch in wave.placed.wait(deadline)? {
                batch.wait(deadline)?;
            }
        }
        // The last ones first: the others are most likely done by then.
        for batch in self.batches.iter().rev() {
            batch.wait(deadline)?;
        }
        Some(Ok(()))
    }

    fn settle_or_wake(&self, waker: &Waker) -> Option<Result<(), PushError>> {
        if let Err(error) = self.check_process() {
            return Some(Err(error));
        }
        for wave in &self.waves {
            for batch in wave.placed.poll(waker)? {
                batch.poll(waker)?;
            }
        }
        for batch in self.batches.iter().rev() {
            batch.poll(waker)?;
        }
        Some(Ok(()))
    }

    fn is_settled(&self) -> bool {
        let is_done = |batch: &Arc<BatchPromise>| batch.settled.get().is_some();
        let is_placed = |wave: &Arc<Wave>| {
            let batches = wave.placed.get();
            batches.is_some_and(|batches| batches.iter().all(is_done))
        };
        self.waves.iter().all(is_placed) && self.batches.iter().all(is_done)
    }
}

impl std::fmt::Debug for FlushFuture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "FlushFuture({} batches, completed: {})",
            self.batches.len(),
            self.is_settled()
        )
    }
}
