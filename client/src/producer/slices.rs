//! Events whose bytes stay the caller's.

use bytes::Bytes;

use super::Producer;
use super::futures::PushFuture;
use super::patience::Patience;
use super::payload::Payload;
use crate::data::Data;
use crate::error::PushError;
use crate::metadata::{self, Metadata};

impl Producer {
    /// As [`Producer::push`], of JSON text and data that are the caller's, who can use them for something else when this returns. They are
    /// copied once, right into the batch, and nothing is allocated for the event: for small events in large numbers.
    ///
    /// Where somebody looks at the event first (the topic's validator, its serializer, a partition selector other than the default one), and of a
    /// loose producer, it is the same as `push` with copies.
    ///
    /// # Errors
    /// As [`Producer::push`].
    pub fn push_slices(
        &self,
        metadata: impl AsRef<[u8]>,
        data: &[&[u8]],
        partition: Option<usize>,
    ) -> Result<PushFuture, PushError> {
        let metadata = metadata.as_ref();
        let core = &self.handle.core;
        if core.loose.is_some() || core.topic.looks_at_events()? {
            let metadata = Metadata::from(Bytes::copy_from_slice(metadata));
            return self.push(metadata, Data::copy_of(data), partition);
        }
        metadata::verify(metadata).map_err(|reason| PushError::InvalidMetadata { reason })?;
        core.expect_no_source()?;
        let index = core.topic.select_unseen(partition)?;
        let queue = core.queue(index)?;
        let placed = queue.push(metadata, Payload::Lent(data), None, Patience::endless())?;
        Ok(PushFuture::known(placed))
    }
}
