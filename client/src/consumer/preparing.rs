//! One event between its feed and its pull: selection, memory, data.

use std::sync::Arc;

use bytes::Bytes;
use mofka_log::{Batch, EventId, EventView};
use mofka_net::{DataDescriptor, Pattern, PickedEvent};

use super::event::Parts;
use super::selector::{DataSegment, Owned, SelectorKind};
use super::subscription::Source;
use crate::components::{Serializer, guarded};
use crate::data::Data;
use crate::error::{BoxError, PullError};
use crate::metadata::Metadata;
use crate::options::ConsumerOptions;

/// The application's own, and what it may panic in.
const SEGMENT: &str = "data segment";

/// An event whose data may still be missing.
pub(super) struct Prepared {
    pub(super) id: EventId,
    timestamp_us: u64,
    stage: Stage,
}

enum Stage {
    Failed(PullError),
    /// Its data is gone.
    Trimmed,
    /// All is here, or on its way.
    Going(Going),
}

struct Going {
    metadata: Metadata,
    /// Bytes of all its data.
    data_bytes: u64,
    /// Boxed, because few events have one.
    reference: Option<Box<Bytes>>,
    selected: DataDescriptor,
    /// The application's memory, if it has its own.
    segments: Option<Vec<Box<dyn DataSegment>>>,
    pieces: Pieces,
    missing_bytes: u64,
}

/// An event as it came.
pub(super) struct Raw {
    pub(super) id: EventId,
    pub(super) timestamp_us: u64,
    pub(super) metadata: Bytes,
    pub(super) data_bytes: u64,
    /// What it refers to in place of data of its own.
    pub(super) reference: Option<Bytes>,
    pub(super) included: Included,
}

/// Data that came with an event. It was checked.
pub(super) enum Included {
    None,
    /// All of it.
    Whole(Bytes),
    /// What was declared.
    Selected(Bytes),
}

impl Raw {
    /// An event of a batch.
    pub(super) fn of_batch(batch: &Batch, event: &EventView<'_>, id: EventId) -> Self {
        let whole = |data: &Bytes| -> Option<Bytes> {
            let start = usize::try_from(event.data_offset).ok()?;
            let end = start.checked_add(usize::try_from(event.data_bytes).ok()?)?;
            (end <= data.len()).then(|| data.slice(start..end))
        };
        Self {
            id,
            timestamp_us: batch.timestamp_us(),
            metadata: batch.body().slice_ref(event.metadata),
            data_bytes: match event.reference {
                Some(reference) => reference.data_bytes(),
                None => event.data_bytes,
            },
            reference: event
                .reference
                .map(|reference| batch.body().slice_ref(reference.bytes())),
            included: batch
                .data()
                .filter(|_| event.reference.is_none())
                .and_then(whole)
                .map_or(Included::None, Included::Whole),
        }
    }

    /// An event that was picked out of its batch.
    pub(super) fn picked(event: PickedEvent, timestamp_us: u64) -> Self {
        Self {
            id: event.id,
            timestamp_us,
            metadata: event.metadata,
            data_bytes: event.data_bytes,
            reference: event.reference,
            included: event.data.map_or(Included::None, Included::Selected),
        }
    }
}

/// What is needed to prepare the events of a feed.
pub(super) struct Preparer<'a> {
    pub(super) source: &'a Source,
    pub(super) options: &'a ConsumerOptions,
    /// `None`: metadata is stored as JSON text.
    pub(super) serializer: Option<&'a dyn Serializer>,
    /// `None`: all events are wanted, or the node has looked.
    pub(super) filter: Option<&'a Pattern>,
}

impl Preparer<'_> {
    /// Runs the application's functions for one event. `None`: the filter keeps it away.
    pub(super) fn prepare(&self, raw: Raw) -> Option<Prepared> {
        let (id, timestamp_us) = (raw.id, raw.timestamp_us);
        let stage = match self.metadata(&raw) {
            Err(error) => Stage::Failed(error),
            Ok(metadata) => {
                if self
                    .filter
                    .is_some_and(|filter| !filter.matches(metadata.value()))
                {
                    return None;
                }
                self.stage(raw, metadata).map_or_else(Stage::Failed, Stage::Going)
            }
        };
        Some(Prepared {
            id,
            timestamp_us,
            stage,
        })
    }

    fn metadata(&self, raw: &Raw) -> Result<Metadata, PullError> {
        let metadata = match self.serializer {
            None => Metadata::check(raw.metadata.clone()).map_err(Arc::from),
            Some(serializer) => guarded(|| serializer.deserialize(&raw.metadata)),
        };
        metadata.map_err(|reason| PullError::Metadata {
            event_id: raw.id.get(),
            partition: self.source.index(),
            reason,
        })
    }

    fn stage(&self, raw: Raw, metadata: Metadata) -> Result<Going, PullError> {
        let (id, partition) = (raw.id, self.source.index());
        let event_id = id.get();
        let whole = DataDescriptor::of_event(id, raw.data_bytes);
        let selected = match &self.options.data_selector.kind {
            SelectorKind::None => DataDescriptor::default(),
            SelectorKind::All => whole,
            SelectorKind::Views(recipe) => recipe.apply(&whole).map_err(|error| PullError::Callback {
                what: "data selector",
                event_id,
                partition,
                reason: error.to_string().into(),
            })?,
            SelectorKind::Custom(select) => {
                let selected = self.call("data selector", id, || select(&metadata, &whole))?;
                let is_of_event =
                    selected.location() == whole.location() && selected.base_bytes() == whole.base_bytes();
                if !selected.is_empty() && !is_of_event {
                    let reason = "it returned a descriptor of other data".into();
                    return Err(PullError::Callback {
                        what: "data selector",
                        event_id,
                        partition,
                        reason,
                    });
                }
                selected
            }
        };
        let (selected_bytes, max_bytes) = (selected.bytes(), self.options.data_bytes_max);
        if selected_bytes > max_bytes {
            return Err(PullError::DataTooLarge {
                event_id,
                partition,
                selected_bytes,
                max_bytes,
            });
        }
        let segments = match &self.options.data_allocator.allocate {
            None => None,
            Some(allocate) => Some(self.call("data allocator", id, || allocate(&metadata, &selected))?),
        };
        if let Some(segments) = &segments {
            let allocated = || Ok(segments.iter().map(|segment| segment.bytes().len() as u64).sum());
            let allocated_bytes: u64 = self.call(SEGMENT, id, allocated)?;
            if allocated_bytes != selected_bytes {
                return Err(PullError::Allocation {
                    event_id,
                    partition,
                    selected_bytes,
                    allocated_bytes,
                });
            }
        }
        let mut going = Going {
            metadata,
            data_bytes: raw.data_bytes,
            reference: raw.reference.map(Box::new),
            selected,
            segments,
            pieces: Pieces::default(),
            missing_bytes: selected_bytes,
        };
        going.take_included(raw.included);
        Ok(going)
    }

    /// Calls a function of the application, which must not take the consumer down.
    fn call<T>(
        &self,
        what: &'static str,
        id: EventId,
        function: impl FnOnce() -> Result<T, BoxError>,
    ) -> Result<T, PullError> {
        guarded(function).map_err(|reason| PullError::Callback {
            what,
            event_id: id.get(),
            partition: self.source.index(),
            reason,
        })
    }
}

impl Prepared {
    /// What is to be fetched; `None` when nothing is missing.
    pub(super) fn wanted(&self) -> Option<&DataDescriptor> {
        match &self.stage {
            Stage::Going(going) if going.missing_bytes > 0 => Some(&going.selected),
            _ => None,
        }
    }

    /// The next part of its data came.
    pub(super) fn add_part(&mut self, bytes: Bytes) {
        if let Stage::Going(going) = &mut self.stage {
            going.missing_bytes = going.missing_bytes.saturating_sub(bytes.len() as u64);
            going.pieces.push(bytes);
        }
    }

    /// Its data will not come.
    pub(super) fn fail(&mut self, partition: usize, reason: &str) {
        if matches!(self.stage, Stage::Going(_)) {
            let event_id = self.id.get();
            self.stage = Stage::Failed(PullError::Data {
                event_id,
                partition,
                reason: reason.into(),
            });
        }
    }

    /// Retention dropped it before its data was fetched.
    pub(super) fn trim(&mut self) {
        if matches!(self.stage, Stage::Going(_)) {
            self.stage = Stage::Trimmed;
        }
    }

    /// Whether retention dropped it: it is missed, as the events before it that were not even fed.
    pub(super) fn is_trimmed(&self) -> bool {
        matches!(self.stage, Stage::Trimmed)
    }

    /// What its pull gets. One that was trimmed is not pulled.
    pub(super) fn finish(self, partition: usize) -> Result<Parts, PullError> {
        let event_id = self.id.get();
        let failed = |reason| PullError::Callback {
            what: SEGMENT,
            event_id,
            partition,
            reason,
        };
        match self.stage {
            Stage::Failed(error) => Err(error),
            Stage::Trimmed => unreachable!("a trimmed event is not delivered"),
            Stage::Going(going) => Ok(Parts {
                id: self.id,
                timestamp_us: self.timestamp_us,
                metadata: going.metadata,
                data_bytes: going.data_bytes,
                reference: going.reference,
                descriptor: going.selected,
                data: guarded(|| Ok(place(going.segments, going.pieces))).map_err(failed)?,
            }),
        }
    }
}

impl Going {
    /// The data that came with the event.
    fn take_included(&mut self, included: Included) {
        let mut pieces = Pieces::default();
        match included {
            _ if self.selected.is_empty() => return,
            Included::None => return,
            Included::Selected(data) if data.len() as u64 == self.selected.bytes() => pieces.push(data),
            // The node understood something else.
            Included::Selected(_) => return,
            Included::Whole(data) if self.selected.is_whole() => pieces.push(data),
            Included::Whole(data) => {
                for range in self.selected.flatten() {
                    let start = usize::try_from(range.offset).unwrap_or(usize::MAX);
                    let end = start.saturating_add(usize::try_from(range.bytes).unwrap_or(usize::MAX));
                    if end > data.len() {
                        return;
                    }
                    pieces.push(data.slice(start..end));
                }
            }
        }
        self.pieces = pieces;
        self.missing_bytes = 0;
    }
}

/// Bytes in the order of a selection. Most selections are one piece: it needs no list.
#[derive(Default)]
struct Pieces {
    first: Option<Bytes>,
    more: Vec<Bytes>,
}

impl Pieces {
    fn push(&mut self, bytes: Bytes) {
        match self.first {
            None => self.first = Some(bytes),
            Some(_) => self.more.push(bytes),
        }
    }
}

impl IntoIterator for Pieces {
    type Item = Bytes;
    type IntoIter = std::iter::Chain<std::option::IntoIter<Bytes>, std::vec::IntoIter<Bytes>>;

    fn into_iter(self) -> Self::IntoIter {
        self.first.into_iter().chain(self.more)
    }
}

/// Brings the pieces to the application's memory, or leaves them where they are.
fn place(segments: Option<Vec<Box<dyn DataSegment>>>, pieces: Pieces) -> Data {
    let Some(mut segments) = segments else {
        return match pieces.first {
            None => Data::empty(),
            Some(one) if pieces.more.is_empty() => Data::from(one),
            Some(_) => Data::from(pieces.into_iter().collect::<Vec<_>>()),
        };
    };
    let mut parts = pieces.into_iter();
    let mut part = Bytes::new();
    for segment in &mut segments {
        let mut room = segment.bytes_mut();
        while !room.is_empty() {
            if part.is_empty() {
                // Sizes were compared before, so there is one; if not, what is left stays as it was allocated.
                let Some(next) = parts.next() else { break };
                part = next;
            }
            let bytes = part.len().min(room.len());
            let (now, later) = room.split_at_mut(bytes);
            now.copy_from_slice(&part.split_to(bytes));
            room = later;
        }
    }
    Data::from(
        segments
            .into_iter()
            .map(|segment| Bytes::from_owner(Owned(segment)))
            .collect::<Vec<_>>(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_fill_segments_however_both_are_cut() {
        let boxed = |sizes: &[usize]| -> Vec<Box<dyn DataSegment>> {
            sizes
                .iter()
                .map(|size| Box::new(vec![0_u8; *size]) as Box<dyn DataSegment>)
                .collect()
        };
        let parts = || {
            let mut pieces = Pieces::default();
            for part in ["abc", "d", "efgh"] {
                pieces.push(Bytes::from_static(part.as_bytes()));
            }
            pieces
        };
        for sizes in [&[8][..], &[1, 7], &[0, 3, 1, 4], &[5, 0, 3]] {
            let data = place(Some(boxed(sizes)), parts());
            assert_eq!(data.segments().len(), sizes.len());
            assert_eq!(data.to_bytes().as_ref(), b"abcdefgh");
        }
        assert_eq!(place(None, parts()).segments().len(), 3);
        let none = Pieces::default;
        assert!(place(None, none()).is_empty() && place(Some(vec![]), none()).is_empty());
    }
}
