//! Events whose bytes stay the caller's.

use bytes::Bytes;

use super::Producer;
use super::futures::PushFuture;
use super::patience::Patience;
use super::payload::Payload;
use super::queue::SHARED_BYTES_FLOOR;
use crate::data::Data;
use crate::error::PushError;
use crate::metadata::{self, Metadata};

impl Producer {
    /// As [`Producer::push`], of JSON text and data that are the caller's, who can use them for something else when this returns. Where they
    /// are small, they are copied once, right into the batch, and nothing is allocated for the event.
    ///
    /// It is the same as `push` with copies where the data has [`ProducerOptions::shared_bytes_min`](crate::ProducerOptions::shared_bytes_min) bytes or
    /// more, where somebody looks at the event first (the topic's validator, its serializer, a partition selector other than the default
    /// one), and of a loose producer.
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
        // Much is copied without the lock that the answers to batches need, too.
        let bytes_max = core.shared.options.shared_bytes_min.max(SHARED_BYTES_FLOOR);
        let is_large = Payload::Lent(data).bytes() >= bytes_max as u64;
        if is_large || core.loose.is_some() || core.topic.looks_at_events()? {
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
