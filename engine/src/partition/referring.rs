//! What events of this partition refer to elsewhere: the first event, of each other partition, that one still stored here
//! refers to.
//!
//! Of what was stored when the partition was opened, that is found by reading its frames, once and only when somebody asks:
//! a partition that wants to trim past the pin that this one has there. Later batches are noted as they come.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Weak;

use mofka_log::{Batch, EventId, SequenceVerdict};
use mofka_net::{ErrorCode, WireError};
use uuid::Uuid;

use super::{Partition, ReadLimits};
use crate::io::Io;

/// Places that are kept for one partition that is referred to.
const PLACES_MAX: usize = 64;
/// Bytes of frames in one read.
const READ_BYTES: u64 = 1 << 20;

/// The first event that is referred to, by the events from any place on: about as exact as its places are many, and never too
/// late.
#[derive(Debug, Default)]
struct Window {
    /// An event here, and the first that it or one shortly before it refers to: both ascending.
    places: VecDeque<(EventId, EventId)>,
    /// Events whose places are one.
    shift: u32,
}

impl Window {
    /// Event `by`, after all that were noted before, refers to event `to`.
    fn push(&mut self, by: EventId, to: EventId) {
        let mut first = to;
        while let Some((last_by, last_to)) = self.places.back().copied() {
            let is_near = last_by.get() >> self.shift == by.get() >> self.shift;
            if !is_near && last_to < to {
                break;
            }
            // Who looks from the later event on finds the earlier one's too, or does not need it.
            if is_near {
                first = first.min(last_to);
            }
            self.places.pop_back();
        }
        self.places.push_back((by, first));
        while self.places.len() > PLACES_MAX {
            self.shift += 1;
            let finer = std::mem::take(&mut self.places);
            for (by, to) in finer {
                match self.places.back_mut() {
                    // `to` ascends: the earlier one's is the first.
                    Some((last, _)) if last.get() >> self.shift == by.get() >> self.shift => *last = by,
                    _ => self.places.push_back((by, to)),
                }
            }
        }
    }

    /// The first event that one from `from` on refers to.
    fn first(&self, from: EventId) -> Option<EventId> {
        let place = self.places.partition_point(|(by, _)| *by < from);
        self.places.get(place).map(|(_, to)| *to)
    }

    /// Forgets what events before `trim_end` refer to.
    fn forget(&mut self, trim_end: EventId) {
        while self.places.front().is_some_and(|(by, _)| *by < trim_end) {
            self.places.pop_front();
        }
    }
}

#[derive(Default)]
struct Targets(BTreeMap<Uuid, Window>);

impl Targets {
    fn note(&mut self, batch: &Batch, base: EventId) {
        if !batch.has_references() {
            return;
        }
        for event in batch.events() {
            if let (Some(reference), Some(id)) = (event.reference, base.checked_add(event.index.into())) {
                let window = self.0.entry(reference.partition()).or_default();
                window.push(id, reference.event_id());
            }
        }
    }

    fn first(&mut self, target: Uuid, trim_end: EventId, from: EventId) -> Option<EventId> {
        let window = self.0.get_mut(&target)?;
        window.forget(trim_end);
        if window.places.is_empty() {
            self.0.remove(&target);
            return None;
        }
        window.first(from)
    }
}

/// See the module.
#[derive(Default)]
pub(super) struct Referring {
    /// The end of what was there when the partition was opened.
    opened_end: EventId,
    /// Of the events before that; `None`: they were not read yet.
    old: RefCell<Option<Targets>>,
    new: RefCell<Targets>,
    /// Batches on their way into the partition.
    coming: RefCell<BTreeMap<u64, Vec<(Uuid, EventId)>>>,
    next_number: Cell<u64>,
}

impl Referring {
    pub(super) fn new(opened_end: EventId) -> Self {
        Self {
            opened_end,
            ..Self::default()
        }
    }

    /// The batch is accepted, and its first event is this.
    pub(super) fn note(&self, batch: &Batch, base: EventId) {
        self.new.borrow_mut().note(batch, base);
    }
}

/// A batch with references on its way into a partition: as long as this is kept, what it refers to counts as referred to.
pub struct Referral<I: Io> {
    partition: Weak<Partition<I>>,
    number: u64,
}

impl<I: Io> Drop for Referral<I> {
    fn drop(&mut self) {
        if let Some(partition) = self.partition.upgrade() {
            partition.referring.coming.borrow_mut().remove(&self.number);
        }
    }
}

impl<I: Io> Partition<I> {
    /// A batch is coming that refers to these events of these partitions. To be kept until the batch was accepted or
    /// refused.
    pub fn begin_referral(&self, targets: Vec<(Uuid, EventId)>) -> Referral<I> {
        let number = self.referring.next_number.get();
        self.referring.next_number.set(number + 1);
        self.referring.coming.borrow_mut().insert(number, targets);
        Referral {
            partition: self.me.clone(),
            number,
        }
    }

    /// Whether the batch was accepted before, so that it only wants its answer again.
    pub(crate) fn is_known(&self, batch: &Batch) -> bool {
        batch.place().is_some_and(|place| {
            let verdict = self.producers.borrow().check(place);
            matches!(verdict, SequenceVerdict::Duplicate { .. })
        })
    }

    /// The first event of partition `target` that an event here refers to, or one that is coming; or one before it.
    ///
    /// # Errors
    /// When that cannot be found out.
    pub async fn first_reference(&self, target: Uuid) -> Result<Option<EventId>, WireError> {
        self.first_reference_from(target, self.trim_end()).await
    }

    /// The same, of the events from `from` on alone.
    pub(super) async fn first_reference_from(
        &self,
        target: Uuid,
        from: EventId,
    ) -> Result<Option<EventId>, WireError> {
        if self.referring.old.borrow().is_none() {
            let old = self.read_references().await?;
            self.referring.old.borrow_mut().get_or_insert(old);
        }
        Ok(self.noted_reference(target, from))
    }

    /// The same, of what was read or came since the partition was opened: of all, in a memory partition.
    pub(super) fn noted_reference(&self, target: Uuid, from: EventId) -> Option<EventId> {
        let trim_end = self.trim_end();
        let of = |targets: &mut Targets| targets.first(target, trim_end, from.max(trim_end));
        let old = self.referring.old.borrow_mut().as_mut().and_then(of);
        let new = of(&mut self.referring.new.borrow_mut());
        let coming = self.referring.coming.borrow();
        let coming = coming.values().flatten().filter(|(to, _)| *to == target);
        let coming = coming.map(|(_, id)| *id);
        old.into_iter().chain(new).chain(coming).min()
    }

    async fn read_references(&self) -> Result<Targets, WireError> {
        if let Some(reason) = self.read_only.borrow().as_ref() {
            let message = format!("what the events refer to cannot be told: {reason}");
            return Err(WireError::new(ErrorCode::Damaged, message));
        }
        let limits = ReadLimits {
            events_max: u64::MAX,
            bytes_max: READ_BYTES,
            with_data: false,
        };
        let mut targets = Targets::default();
        let mut from = self.trim_end();
        while from < self.referring.opened_end {
            let slice = match self.read(from, limits).await {
                Ok(slice) => slice,
                Err(error) if error.code == ErrorCode::Trimmed => {
                    from = self.trim_end();
                    continue;
                }
                Err(error) => return Err(error),
            };
            for batch in &slice.batches {
                targets.note(batch, batch.base_event_id());
            }
            if slice.end_event_id <= from {
                break;
            }
            from = slice.end_event_id;
        }
        Ok(targets)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(id: u64) -> EventId {
        EventId::new(id)
    }

    #[test]
    fn few_references_are_known_exactly() {
        let mut window = Window::default();
        for (by, to) in [(3, 10), (5, 40), (9, 20), (12, 30)] {
            window.push(id(by), id(to));
        }
        for (from, first) in [(0, 10), (3, 10), (4, 20), (9, 20), (10, 30), (12, 30)] {
            assert_eq!(window.first(id(from)), Some(id(first)), "from {from}");
        }
        assert_eq!(window.first(id(13)), None);
    }

    proptest! {
        #[test]
        fn a_window_is_never_too_late_and_little_too_early(
            steps in prop::collection::vec((1_u64..4, 0_u64..1000), 1..600),
            ascending: bool,
        ) {
            let mut window = Window::default();
            let mut all = Vec::new();
            let mut by = 0;
            for (step, to) in steps {
                by += step;
                let to = if ascending { by * 10 + to % 10 } else { to };
                window.push(id(by), id(to));
                prop_assert!(window.places.len() <= PLACES_MAX);
                all.push((by, to));
            }
            // Two places are at least this far apart on average.
            let blur = 2 * by.div_ceil(PLACES_MAX as u64 / 2) + 2;
            for from in 0..by + 2 {
                let exact = |from: u64| all.iter().filter(|(by, _)| *by >= from).map(|(_, to)| *to).min();
                let found = window.first(id(from)).map(EventId::get);
                match exact(from) {
                    None => prop_assert_eq!(found, None),
                    Some(first) => {
                        prop_assert!(found <= Some(first) && found.is_some());
                        prop_assert!(found >= exact(from.saturating_sub(blur)));
                    }
                }
            }
        }
    }
}
