//! Pushing events that have places in a source.

use std::io::Read;
use std::sync::Arc;

use mofka_log::EventId;

use super::patience::Patience;
use super::payload::Payload;
use super::{Core, DataWriter, Producer, PushFuture};
use crate::data::Data;
use crate::error::{PushError, StreamError};
use crate::metadata::Metadata;
use crate::options::{Ordering, ProducerOptions};

/// The options as they are with a source: nothing that is pushed may vanish, or be overtaken.
pub(super) fn suited(options: ProducerOptions) -> ProducerOptions {
    match options.source {
        None => options,
        Some(_) => ProducerOptions {
            ordering: Ordering::Strict,
            delivery_timeout: None,
            ..options
        },
    }
}

impl Producer {
    /// Takes the event that has this place in the producer's source ([`ProducerOptions::source`]). For each partition places
    /// rise; those that are left out count as dealt with when the next event is acknowledged. Places of one partition are
    /// pushed by one thread at a time. All else is as in [`Producer::push_while`].
    ///
    /// The event's future, or that of one before it, fails with the code [`SequenceGap`](crate::ErrorCode::SequenceGap) when the
    /// partition has more of the source than this producer knew, or less:
    /// [`WireError::expected`](crate::WireError::expected) is the place to go on with, by a new producer that is told it
    /// ([`Source::from`](crate::Source::from)).
    ///
    /// # Errors
    /// As [`Producer::push_while`], [`PushError::Place`], and [`PushError::Closed`] after an event before it failed.
    pub fn push_from(
        &self,
        place: u64,
        metadata: impl Into<Metadata>,
        data: impl Into<Data>,
        partition: Option<usize>,
        goes_on: impl Fn() -> bool,
    ) -> Result<PushFuture, PushError> {
        let (metadata, data) = (metadata.into(), data.into());
        let core = &self.handle.core;
        core.expect_source()?;
        metadata
            .verify()
            .map_err(|reason| PushError::InvalidMetadata { reason })?;
        let (index, stored) = core.topic.prepare(metadata, &data, partition)?;
        let patience = Patience::while_it(&goes_on);
        let placed = core
            .queue(index)?
            .push(&stored, Payload::Owned(&data), Some(place), patience)?;
        Ok(PushFuture::known(placed))
    }

    /// The same with data that may be more than memory has. Waits until all that was pushed before is acknowledged, and then for
    /// this event.
    ///
    /// # Errors
    /// As [`Producer::push_from`] and [`Producer::push_reader`]. Nothing more can be pushed to this partition when anything of the
    /// event was sent.
    pub fn push_reader_from(
        &self,
        place: u64,
        metadata: impl Into<Metadata>,
        mut data: impl Read,
        partition: Option<usize>,
    ) -> Result<EventId, StreamError> {
        let metadata = metadata.into();
        let core = &self.handle.core;
        core.expect_source()?;
        let verified = metadata.verify();
        verified.map_err(|reason| PushError::InvalidMetadata { reason })?;
        let (index, stored) = core.topic.prepare(metadata, &Data::empty(), partition)?;
        core.flush().wait().map_err(StreamError::from)?;
        let queue = core.queue(index)?;
        let batch_place = queue.place_alone(place)?;
        let route = core.route(index)?;
        let stored = DataWriter::open(Arc::clone(&core.shared), route, stored).and_then(|writer| {
            let mut writer = writer.placed(batch_place);
            let copied = writer.copy(&mut data);
            copied.map_err(|error| StreamError::Data(Arc::new(error)))?;
            Ok(writer.finish()?)
        });
        if stored.is_err() {
            queue.failed_alone();
        }
        stored
    }
}

impl Core {
    /// That events of this producer need no place.
    pub(super) fn expect_no_source(&self) -> Result<(), PushError> {
        match self.shared.options.source {
            None => Ok(()),
            Some(_) => Err(PushError::Place {
                reason: "this producer has a source: its events are pushed with push_from, with their places"
                    .to_owned(),
            }),
        }
    }

    fn expect_source(&self) -> Result<(), PushError> {
        match self.shared.options.source {
            Some(_) => self.shared.check_process(),
            None => Err(PushError::Place {
                reason: "this producer has no source: set ProducerOptions::source, or push without a place"
                    .to_owned(),
            }),
        }
    }
}
