//! Reading on and on: what a subscription reads with.
//!
//! While one slice is being sent, the next is read from the device and checked. The place in the files is kept, so that
//! nothing is looked up twice.

use std::cell::RefCell;
use std::rc::Rc;

use event_listener::Event;
use mofka_log::EventId;
use mofka_net::WireError;

use super::Partition;
use super::memory::Lease;
use super::read::{READ_WINDOW_BYTES, ReadLimits, Slice};
use super::walk::Walk;
use crate::io::Io;

type Outcome = Result<(Slice, Option<Walk>), WireError>;

/// See the module.
pub struct Reader<I: Io> {
    partition: Rc<Partition<I>>,
    limits: ReadLimits,
    walk: Option<Walk>,
    ahead: Option<Ahead>,
}

/// A slice that is being read before somebody asks for it.
struct Ahead {
    from: EventId,
    slot: Rc<Slot>,
    _lease: Lease,
}

#[derive(Default)]
struct Slot {
    outcome: RefCell<Option<Outcome>>,
    ready: Event,
}

impl<I: Io> Reader<I> {
    /// Reads slices of this kind.
    pub fn new(partition: Rc<Partition<I>>, limits: ReadLimits) -> Self {
        Self {
            partition,
            limits,
            walk: None,
            ahead: None,
        }
    }

    /// The batches from the one that holds `from` on, as [`Partition::read`] gives them.
    ///
    /// # Errors
    /// As [`Partition::read`].
    pub async fn next(&mut self, from: EventId) -> Result<Slice, WireError> {
        self.partition.refuse_if_trimmed(from)?;
        let slice = self.next_kept(from).await;
        if let Err(error) = &slice {
            // Files that go while they are read, also ahead, look like damage.
            self.partition.refuse_if_trimmed(from)?;
            self.partition.found_damaged(error);
        }
        slice
    }

    async fn next_kept(&mut self, from: EventId) -> Result<Slice, WireError> {
        let ahead = self.ahead.take().filter(|ahead| ahead.from == from);
        let outcome = match ahead {
            Some(ahead) => ahead.slot.take().await,
            None => {
                if let Some(slice) = self.partition.read_recent(from, self.limits) {
                    self.walk = None;
                    return Ok(slice);
                }
                let walk = self.walk.take();
                self.partition
                    .read_stored(walk, from, self.limits, READ_WINDOW_BYTES)
                    .await
            }
        };
        let (slice, walk) = outcome?;
        self.walk = walk;
        self.read_ahead(slice.end_event_id);
        Ok(slice)
    }

    /// Begins with the slice after the one that is about to be sent, unless that is in memory anyway.
    fn read_ahead(&mut self, from: EventId) {
        if from >= self.partition.visible_end() || self.partition.is_recent(from) {
            return;
        }
        let Some(lease) = self.partition.memory.lease(self.limits.bytes_max) else {
            return;
        };
        let slot = Rc::new(Slot::default());
        let (partition, limits, walk) = (Rc::clone(&self.partition), self.limits, self.walk.take());
        let filled = Rc::clone(&slot);
        self.partition.io.spawn(async move {
            let outcome = partition.read_stored(walk, from, limits, READ_WINDOW_BYTES).await;
            *filled.outcome.borrow_mut() = Some(outcome);
            filled.ready.notify(usize::MAX);
        });
        self.ahead = Some(Ahead {
            from,
            slot,
            _lease: lease,
        });
    }
}

impl Slot {
    async fn take(&self) -> Outcome {
        loop {
            let listener = self.ready.listen();
            let outcome = self.outcome.borrow_mut().take();
            match outcome {
                Some(outcome) => return outcome,
                None => listener.await,
            }
        }
    }
}
