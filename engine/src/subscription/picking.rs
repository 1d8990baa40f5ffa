//! Events picked out of their batches: those that a filter lets through, with the data that was declared.

use std::rc::Rc;

use bytes::Bytes;
use mofka_log::{Batch, EventId};
use mofka_net::control::Selection;
use mofka_net::{DataDescriptor, Pattern, PickedBuilder, Recipe, WireError};

use crate::io::Io;
use crate::partition::{FetchedBatch, Partition, Slice};
use crate::turn::Turn;

/// What going over an event takes beside its metadata, as a [`Turn`] counts it.
const EVENT_TURN_BYTES: u64 = 64;
/// The same of each step of a view.
const STEP_TURN_BYTES: u64 = 16;

/// What is picked.
pub(crate) struct Picking {
    filter: Option<Pattern>,
    data: Declared,
}

/// Which data comes along.
enum Declared {
    None,
    All,
    Views(Recipe),
}

impl Declared {
    /// What it costs of each event, in steps.
    fn step_count(&self) -> u64 {
        match self {
            Self::None | Self::All => 0,
            Self::Views(recipe) => recipe.step_count(),
        }
    }
}

/// What was picked out of a slice.
pub(super) struct Picks {
    pub(super) items: Vec<Bytes>,
    pub(super) item_count: u32,
    pub(super) event_count: u64,
    /// Up to here the slice was looked at: to its end, or to an event whose data cannot be had.
    pub(super) end_event_id: EventId,
}

impl Picks {
    fn add(&mut self, picked: PickedBuilder) {
        if !picked.is_empty() {
            self.items.extend(picked.finish());
            self.item_count += 1;
        }
    }
}

impl Picking {
    /// What a request asks for; `None` when that is whole batches.
    pub(crate) fn new(filter: Option<Pattern>, selection: Selection) -> Option<Self> {
        let data = match selection {
            Selection::Views(recipe) => Declared::Views(recipe),
            _ if filter.is_none() => return None,
            Selection::All => Declared::All,
            Selection::None => Declared::None,
        };
        Some(Self { filter, data })
    }

    /// Picks out of a slice. Data beyond `bytes_max` in all is left for the client to fetch. Of an event whose declared data
    /// cannot be had, what comes before it is given, and the next who begins there is told.
    ///
    /// # Errors
    /// When declared data of the slice's first event cannot be read or does not check.
    pub(super) async fn pick<I: Io>(
        &self,
        partition: &Rc<Partition<I>>,
        slice: &Slice,
        bytes_max: u64,
    ) -> Result<Picks, WireError> {
        let mut picks = Picks {
            items: Vec::new(),
            item_count: 0,
            event_count: 0,
            end_event_id: slice.end_event_id,
        };
        let mut bytes_left = bytes_max;
        let (mut last, mut turn) = (None, Turn::default());
        // A match may go over the metadata once for each part of the pattern.
        let parts = self.filter.as_ref().map_or(1, Pattern::parts) as u64;
        let event_bytes =
            EVENT_TURN_BYTES.saturating_add(self.data.step_count().saturating_mul(STEP_TURN_BYTES));
        for batch in &slice.batches {
            let mut builder = PickedBuilder::new(batch.base_event_id(), batch.timestamp_us());
            for event in batch.events() {
                let metadata_bytes = event.metadata.len() as u64;
                turn.did(event_bytes.saturating_add(metadata_bytes.saturating_mul(parts)))
                    .await;
                let Some(id) = batch.base_event_id().checked_add(event.index.into()) else {
                    break;
                };
                let is_meant = (slice.first_event_id..slice.end_event_id).contains(&id);
                if !is_meant || !self.lets_through(event.metadata) {
                    continue;
                }
                if let Some(reference) = event.reference {
                    // What it refers to is asked for by who wants it.
                    builder.push_reference(event.index, event.metadata, reference);
                    picks.event_count += 1;
                    continue;
                }
                let sent = self
                    .data_of(partition, batch, id, event.data_bytes, &mut bytes_left, &mut last)
                    .await;
                match sent {
                    Ok(sent) => builder.push(event.index, event.metadata, event.data_bytes, sent),
                    Err(error) if id == slice.first_event_id => return Err(error),
                    Err(_) => {
                        picks.end_event_id = id;
                        picks.add(builder);
                        return Ok(picks);
                    }
                }
                picks.event_count += 1;
            }
            picks.add(builder);
        }
        Ok(picks)
    }

    fn lets_through(&self, metadata: &[u8]) -> bool {
        self.filter
            .as_ref()
            .is_none_or(|filter| filter.matches_text(metadata))
    }

    /// The declared part of an event's data with its checksum; `None` when there is none, or no room for it.
    async fn data_of<I: Io>(
        &self,
        partition: &Rc<Partition<I>>,
        batch: &Batch,
        id: EventId,
        data_bytes: u64,
        bytes_left: &mut u64,
        last: &mut Option<FetchedBatch>,
    ) -> Result<Option<(Bytes, u32)>, WireError> {
        let whole = DataDescriptor::of_event(id, data_bytes);
        let selected = match &self.data {
            Declared::None => return Ok(None),
            Declared::All => whole,
            // The client sees the same, and says so in the event's place.
            Declared::Views(recipe) => match recipe.apply(&whole) {
                Ok(selected) => selected,
                Err(_) => return Ok(None),
            },
        };
        if selected.is_empty() || selected.bytes() > *bytes_left {
            return Ok(None);
        }
        *bytes_left -= selected.bytes();
        if !last.as_ref().is_some_and(|last| last.holds(id)) {
            *last = Some(FetchedBatch::new(batch.clone()));
        }
        let fetched = partition.fetch(&selected, selected.bytes(), last).await?;
        Ok(Some((fetched.bytes, fetched.crc)))
    }
}
