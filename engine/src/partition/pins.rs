//! What events of other partitions, or of this one, refer to here stays here.
//!
//! For each partition that refers to this one there is a **pin**: the first of this partition's events that it may refer to.
//! Pins are durable beside the cursors, under names that no consumer can have, before a reference is accepted; trimming does
//! not pass them. A pin is a lower bound and may be too low, after a crash or because what referred was trimmed: whoever wants to
//! trim past it asks the partition that refers, and moves it (`references.rs`). So nothing has to be told when
//! references go, and nothing that a crash interrupts leaves more than a pin that is too low.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use mofka_log::{AckAt, EventId};
use mofka_net::{ErrorCode, WireError};
use serde_json::Value;
use uuid::Uuid;

use super::Partition;
use super::fetch::FetchedBatch;
use crate::io::Io;
use crate::promise::promise;

/// Behind it stands the id of the partition that refers.
const PIN: &str = "\0ref:";

fn pin_name(by: Uuid) -> String {
    format!("{PIN}{by}")
}

/// Whose pin is kept under this name. Not in another form than it is stored in: such a pin could not be moved, and would hold what is
/// behind it for ever.
pub(super) fn pin_of(name: &str) -> Option<Uuid> {
    let by = name.strip_prefix(PIN)?.parse().ok()?;
    (pin_name(by) == name).then_some(by)
}

/// What an event of a batch refers to.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// The event's place in the batch.
    pub index: u32,
    /// The event that it refers to.
    pub event_id: EventId,
    /// Bytes of all data of that, as the reference says.
    pub base_bytes: u64,
}

/// A pin, and when it was last asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pin {
    /// The partition that refers.
    pub(crate) by: Uuid,
    /// The first event that it may refer to.
    pub(crate) first: EventId,
    asked: u64,
}

/// The pin that a partition has in itself, and what it really has to hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct OwnPin {
    pub(super) pin: Pin,
    pub(super) first: Option<EventId>,
}

/// What a partition keeps in mind about its pins; where they are is with the cursors.
#[derive(Default)]
pub(super) struct Pins {
    /// Counts what was asked for, so that an answer about the time before is not taken for one about now.
    asked: Cell<u64>,
    last_asked: RefCell<BTreeMap<Uuid, u64>>,
    /// Events before this are about to go: nothing can refer to them any more.
    leaving_end: Cell<EventId>,
    /// Trimming stopped at a pin: a segment that ends here would go otherwise.
    held_end: Cell<Option<EventId>>,
    /// So many want to delete the topic.
    closed: Cell<u32>,
}

/// Why an event of a batch cannot refer to what it refers to.
pub(crate) fn refused(index: u32, message: &str) -> WireError {
    let message = format!("event {index} of the batch cannot refer to that data: {message}");
    WireError::new(ErrorCode::InvalidReference, message).with_detail("index", Value::from(index))
}

impl<I: Io> Partition<I> {
    /// Events of partition `by` are about to refer to these. When this returns, they are durable, and stay as long as
    /// `by` says that it refers to them.
    ///
    /// # Errors
    /// Which of them cannot be referred to, and why; or that the pin cannot be stored.
    pub async fn refer(&self, by: Uuid, wanted: &[Wanted]) -> Result<(), WireError> {
        let pinned = self.pin(by, wanted)?;
        let mut last = None;
        for one in wanted {
            self.check_wanted(one, &mut last).await?;
        }
        self.sync_wanted(wanted).await?;
        pinned.await.map(|_| ())
    }

    /// Pins the events, from this very moment on; the future tells when that is durable.
    fn pin(
        &self,
        by: Uuid,
        wanted: &[Wanted],
    ) -> Result<impl Future<Output = Result<EventId, WireError>> + use<I>, WireError> {
        let (topic, index) = (&self.spec.topic.name, self.spec.record.index);
        let gone_end = self.trim_end().max(self.pins.leaving_end.get());
        for one in wanted {
            let id = one.event_id;
            if self.pins.closed.get() > 0 || self.refuse_if_deleted().is_err() {
                let message = format!("topic \"{topic}\" is being deleted");
                return Err(refused(one.index, &message));
            }
            if id < gone_end {
                let message = format!(
                    "event {id} of partition {index} of topic \"{topic}\" was trimmed: the first one still stored is {gone_end}"
                );
                return Err(refused(one.index, &message));
            }
            if id >= self.visible_end() {
                let message = format!(
                    "event {id} is not in partition {index} of topic \"{topic}\": it ends at {}",
                    self.visible_end()
                );
                return Err(refused(one.index, &message));
            }
        }
        if self.stopping.get() {
            let message = "the node is shutting down".to_owned();
            return Err(WireError::new(ErrorCode::ShuttingDown, message));
        }
        let first = wanted.iter().map(|one| one.event_id).min().unwrap_or_default();
        let asked = self.pins.asked.get() + 1;
        self.pins.asked.set(asked);
        self.pins.last_asked.borrow_mut().insert(by, asked);
        let (keep, kept) = promise();
        let name = pin_name(by);
        match self.cursors.get(&name) {
            Some(known) if known <= first => self.cursors.barrier(known, Box::new(keep)),
            _ => self.cursors.set(&name, first, self.io.now_us(), Box::new(keep)),
        }
        Ok(kept)
    }

    async fn check_wanted(&self, one: &Wanted, last: &mut Option<FetchedBatch>) -> Result<(), WireError> {
        let id = one.event_id;
        let opened = self.open_batch(id, last).await?;
        let of = format!(
            "event {id} of partition {} of topic \"{}\"",
            self.spec.record.index, self.spec.topic.name
        );
        if let Some(further) = opened.reference(id)? {
            let message = format!(
                "{of} refers to data of another event itself: refer to event {} of partition {}",
                further.event_id(),
                further.partition()
            );
            return Err(refused(one.index, &message));
        }
        let data_bytes = opened.data_bytes(id);
        if data_bytes != Some(one.base_bytes) {
            let message = format!(
                "the reference says that {of} has {} bytes of data, and it has {}",
                one.base_bytes,
                data_bytes.unwrap_or_default()
            );
            return Err(refused(one.index, &message));
        }
        Ok(())
    }

    /// Returns when all of these are durable, as far as they can be.
    async fn sync_wanted(&self, wanted: &[Wanted]) -> Result<(), WireError> {
        let Some(store) = &self.store else { return Ok(()) };
        let Some(last) = wanted.iter().max_by_key(|one| one.event_id) else {
            return Ok(());
        };
        if last.event_id < store.committer().ends().synced_end {
            return Ok(());
        }
        let (keep, kept) = promise();
        let end = last.event_id.next();
        store.committer().wait_for(end, AckAt::Synced, Box::new(keep));
        store.committer().kick();
        let synced: Result<(), std::rc::Rc<crate::commit::Poison>> = kept.await;
        synced.map_err(|poison| {
            let message = format!("event {} is not durable: {}", last.event_id, poison.reason);
            refused(last.index, &message)
        })
    }

    /// Whether everything before `end` may be trimmed: nobody refers to it, and from now on nobody can.
    pub(super) fn may_leave(&self, end: EventId, own: Option<OwnPin>) -> bool {
        let holds = |pin: &Pin| match &own {
            // Known better, unless more was asked for since.
            Some(own) if own.pin.by == pin.by && own.pin.asked == pin.asked => {
                own.first.is_some_and(|first| first < end)
            }
            _ => true,
        };
        let is_held = self.pins(Some(end)).iter().any(holds);
        self.pins.held_end.set(is_held.then_some(end));
        if !is_held {
            self.pins.leaving_end.set(end);
        }
        !is_held
    }

    /// What ends here would go, were it not for pins.
    pub(super) fn note_held(&self, end: EventId) {
        self.pins.held_end.set(Some(end));
    }

    /// What was about to go stays after all.
    pub(super) fn stays(&self) {
        self.pins.leaving_end.set(self.trim_end());
    }

    /// Where a segment, or a batch in memory, ends that would go, were it not for pins.
    pub(crate) fn held_end(&self) -> Option<EventId> {
        self.pins.held_end.get()
    }

    /// Forgets that pins held something, at the next look it is found out again.
    pub(super) fn look_anew(&self) {
        self.pins.held_end.set(None);
    }

    /// The pins at events before `end`; all of them without one.
    pub(crate) fn pins(&self, end: Option<EventId>) -> Vec<Pin> {
        let last_asked = self.pins.last_asked.borrow();
        let pins = self.cursors.pins().into_iter();
        pins.filter(|(_, first)| end.is_none_or(|end| *first < end))
            .map(|(by, first)| Pin {
                by,
                first,
                asked: last_asked.get(&by).copied().unwrap_or(0),
            })
            .collect()
    }

    /// Trims what pins hold that are too low. `first_reference` asks a partition for the first event here that it refers to; it is
    /// gone when that is nothing.
    pub async fn review(&self, first_reference: impl AsyncFn(Uuid) -> Result<Option<EventId>, WireError>) {
        while let Some(end) = self.held_end() {
            if !self.tighten(Some(end), &first_reference).await {
                return;
            }
            self.trim().await;
        }
    }

    /// Moves the pins at events before `end`, or all, as far as who has them says. Returns whether one moved.
    pub(crate) async fn tighten(
        &self,
        end: Option<EventId>,
        first_reference: &impl AsyncFn(Uuid) -> Result<Option<EventId>, WireError>,
    ) -> bool {
        let mut has_moved = false;
        for pin in self.pins(end) {
            match first_reference(pin.by).await {
                Ok(first) => has_moved |= self.move_pin(&pin, first).await,
                Err(error) => {
                    tracing::warn!(
                        topic = %self.spec.topic.name,
                        partition = self.spec.record.index,
                        by = %pin.by,
                        %error,
                        "whether events are still referred to cannot be found out, so they stay"
                    );
                }
            }
        }
        has_moved
    }

    /// Who has the pin said, after it was looked at, that it refers to nothing before `first`, or to nothing at all. Returns
    /// whether the pin moved: not when more was asked for meanwhile.
    async fn move_pin(&self, pin: &Pin, first: Option<EventId>) -> bool {
        let name = pin_name(pin.by);
        let now = self.pins.last_asked.borrow().get(&pin.by).copied().unwrap_or(0);
        let known = self.cursors.get(&name);
        if now != pin.asked || known != Some(pin.first) || first.is_some_and(|first| first <= pin.first) {
            return false;
        }
        let (keep, kept) = promise();
        match first {
            Some(first) => self.cursors.set(&name, first, self.io.now_us(), Box::new(keep)),
            None => {
                self.pins.last_asked.borrow_mut().remove(&pin.by);
                self.cursors.remove(&name, self.io.now_us(), Box::new(keep));
            }
        }
        if let Err(error) = kept.await {
            tracing::warn!(%error, "a pin that moved could not be stored; after a restart it is where it was");
        }
        true
    }

    /// Nothing new may refer to this partition, until [`Partition::reopen_to_references`].
    pub(crate) fn close_to_references(&self) {
        self.pins.closed.set(self.pins.closed.get() + 1);
    }

    /// The topic is not deleted after all.
    pub(crate) fn reopen_to_references(&self) {
        self.pins.closed.set(self.pins.closed.get().saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_has_the_name_that_it_is_stored_under() {
        let by = Uuid::from_u128(0xabc);
        assert_eq!(pin_of(&pin_name(by)), Some(by));
        let others = [
            by.simple().to_string(),
            by.braced().to_string(),
            by.urn().to_string(),
            by.to_string().to_uppercase(),
        ];
        for other in others {
            assert_eq!(pin_of(&format!("{PIN}{other}")), None, "{other}");
        }
    }
}
