//! Events that have places in a source.

use std::sync::Arc;

use mofka_log::BatchPlace;
use mofka_net::limits::FEATURE_SOURCES;
use mofka_net::{ErrorCode, WireError};

use super::{Queue, State};
use crate::error::{DeliveryError, PushError};
use crate::link::Connection;
use crate::producer::sequence::Places;
use crate::promise::{lock, lock_unless_forked};

/// What is told of events that a node would not understand.
pub(super) fn node_is_older() -> DeliveryError {
    let message = format!(
        "the node does not know producers with a source (feature \"{FEATURE_SOURCES}\"): it needs a newer mofkad"
    );
    DeliveryError::Refused(Arc::new(WireError::new(ErrorCode::UnsupportedVersion, message)))
}

impl Queue {
    pub(super) fn lacks_sources(&self, link: &Connection) -> bool {
        self.shared.options.source.is_some() && !link.has_feature(FEATURE_SOURCES)
    }

    /// The place of a batch of one event that goes another way. Everything before it must be acknowledged.
    ///
    /// # Errors
    /// When that is not so, or the place cannot be.
    pub(in super::super) fn place_alone(&self, place: u64) -> Result<BatchPlace, PushError> {
        let mut state = lock_unless_forked(&self.state, || self.shared.check_process())?;
        if state.is_closed {
            return Err(PushError::Closed);
        }
        state.check_place(place)?;
        if state.gathering.is_some() || !state.outgoing.is_empty() {
            return Err(PushError::Place {
                reason:
                    "others push to this partition at the same time: events of a source are pushed by one"
                        .to_owned(),
            });
        }
        state.place_min = place.saturating_add(1);
        Ok(state.sequence.next_from(Places {
            first: place,
            last: place,
        }))
    }

    /// That batch was not stored.
    pub(in super::super) fn failed_alone(&self) {
        lock(&self.state).is_closed = true;
        self.tell_closed();
    }
}

impl State {
    pub(super) fn check_place(&self, place: u64) -> Result<(), PushError> {
        if place < self.place_min || place == u64::MAX {
            let reason = format!(
                "place {place} of the source cannot be pushed: the next one is {} or a later one",
                self.place_min
            );
            return Err(PushError::Place { reason });
        }
        Ok(())
    }

    /// The last event that was gathered has this place.
    pub(super) fn note_place(&mut self, place: u64) {
        self.place_min = place + 1;
        if let Some(gathering) = &mut self.gathering {
            let first = gathering.places.map_or(place, |places| places.first);
            gathering.places = Some(Places { first, last: place });
        }
    }
}
