//! Finding the batch that holds one event: what requests for data begin with.
//!
//! One read of a meta file brings many frames, and consumers ask for the data of one event after the other. So the places
//! where the last ones were found are kept, with the rest of what was read there.

use std::cell::RefCell;
use std::collections::VecDeque;

use mofka_log::{Batch, EventId};
use mofka_net::{ErrorCode, WireError};

use super::Partition;
use super::memory::Lease;
use super::read::ReadLimits;
use super::walk::Walk;
use crate::io::Io;

/// Bytes of one read of a meta file to find one event: what lies between two entries of the index, about.
pub(super) const FIND_WINDOW_BYTES: usize = 64 << 10;
/// Places that a partition keeps: one for each of a few consumers that read at their own pace.
const PLACES_MAX: usize = 4;

/// What a kept place is looked for with.
const ONE_BATCH: ReadLimits = ReadLimits {
    events_max: 1,
    bytes_max: 0,
    with_data: false,
};

/// The places of a partition where batches were found last. Their windows count as memory for reading ahead; when that
/// is used up, nothing is kept.
#[derive(Default)]
pub(super) struct Places(RefCell<VecDeque<Place>>);

/// A batch that was found, and the way on from it.
struct Place {
    batch: Batch,
    walk: Option<Walk>,
    _lease: Lease,
}

impl Place {
    fn is_at(&self, id: EventId) -> bool {
        self.walk.as_ref().is_some_and(|walk| walk.is_at(id))
    }
}

impl Places {
    fn holding(&self, id: EventId) -> Option<Batch> {
        let places = self.0.borrow();
        let mut batches = places.iter().map(|place| &place.batch);
        batches
            .find(|batch| batch.base_event_id() <= id && id < batch.end_event_id())
            .cloned()
    }

    /// Takes the way that leads to the event, if there is one.
    fn take_walk(&self, id: EventId) -> Option<Walk> {
        let mut places = self.0.borrow_mut();
        let found = places.iter().position(|place| place.is_at(id))?;
        places.remove(found)?.walk
    }

    fn keep(&self, place: Place) {
        let mut places = self.0.borrow_mut();
        places.push_back(place);
        while places.len() > PLACES_MAX {
            places.pop_front();
        }
    }
}

impl<I: Io> Partition<I> {
    /// The one batch that holds `id`.
    ///
    /// # Errors
    /// As [`Partition::read`], and when `id` is not visible or no longer stored.
    pub(super) async fn batch_of(&self, id: EventId) -> Result<Batch, WireError> {
        self.refuse_if_trimmed(id)?;
        let found = self.find(id).await;
        if found.is_err() {
            // Files that go while they are read look like damage.
            self.refuse_if_trimmed(id)?;
        }
        found
    }

    async fn find(&self, id: EventId) -> Result<Batch, WireError> {
        if id >= self.visible_end() {
            return Err(self.unknown(id));
        }
        if let Some(slice) = self.read_recent(id, ONE_BATCH) {
            return slice.batches.into_iter().next().ok_or_else(|| self.unknown(id));
        }
        if let Some(batch) = self.places.holding(id) {
            self.memory.note_read(true);
            return Ok(batch);
        }
        let walk = self.places.take_walk(id);
        let (slice, walk) = self.read_stored(walk, id, ONE_BATCH, FIND_WINDOW_BYTES).await?;
        let batch = slice.batches.into_iter().next().ok_or_else(|| self.unknown(id))?;
        // A frame may be larger than the window, and is held by the place as long as it.
        let bytes = batch.frame_bytes() + FIND_WINDOW_BYTES as u64;
        if let Some(lease) = self.memory.lease(bytes) {
            let batch = batch.clone();
            self.places.keep(Place {
                batch,
                walk,
                _lease: lease,
            });
        }
        Ok(batch)
    }

    fn unknown(&self, id: EventId) -> WireError {
        let message = format!(
            "event {id} is not in partition {} of topic {}: it ends at {}",
            self.spec.record.index,
            self.spec.topic.name,
            self.visible_end()
        );
        WireError::new(ErrorCode::UnknownEvent, message)
    }
}
