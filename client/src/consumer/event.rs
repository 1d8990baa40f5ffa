//! An event that was pulled.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use mofka_log::EventId;
use mofka_net::DataDescriptor;
use mofka_net::control::PartitionInfo;
use serde_json::Value;

use super::acknowledge::{AckFuture, AckLane};
use crate::data::Data;
use crate::metadata::Metadata;

/// An event that was pulled. Cheap to clone; lives on its own.
///
/// Its metadata and data may share memory with the other events of the feed that it came with: an application that
/// keeps few of many events for long should copy what it keeps.
#[derive(Clone)]
pub struct Event {
    inner: Arc<Inner>,
}

struct Inner {
    id: EventId,
    timestamp_us: u64,
    metadata: Metadata,
    descriptor: DataDescriptor,
    data: Data,
    lane: Arc<AckLane>,
}

impl Event {
    pub(super) fn new(
        id: EventId,
        timestamp_us: u64,
        metadata: Metadata,
        descriptor: DataDescriptor,
        data: Data,
        lane: Arc<AckLane>,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                id,
                timestamp_us,
                metadata,
                descriptor,
                data,
                lane,
            }),
        }
    }

    /// Its id in its partition.
    pub fn id(&self) -> EventId {
        self.inner.id
    }

    /// The index of its partition in the topic.
    pub fn partition(&self) -> usize {
        self.inner.lane.info().index as usize
    }

    /// Its partition.
    pub fn partition_info(&self) -> &PartitionInfo {
        self.inner.lane.info()
    }

    /// Its metadata, parsed once.
    pub fn metadata(&self) -> &Value {
        self.inner.metadata.value()
    }

    /// Its metadata as it was pushed: JSON text.
    pub fn metadata_bytes(&self) -> &Bytes {
        self.inner.metadata.raw()
    }

    /// The data that was selected. With an allocator: the application's own segments.
    pub fn data(&self) -> &Data {
        &self.inner.data
    }

    /// What was selected of its data; empty when nothing was.
    pub fn descriptor(&self) -> &DataDescriptor {
        &self.inner.descriptor
    }

    /// When the node accepted it: Unix time in microseconds.
    pub fn timestamp_us(&self) -> u64 {
        self.inner.timestamp_us
    }

    /// Acknowledges this event and all before it in its partition: the next consumer of this name begins after it. The
    /// future completes when that is durable. An older event acknowledged later changes nothing.
    ///
    /// Also works when the consumer is closed. Nothing needs to be waited for: acknowledgements that follow each other
    /// quickly are sent as one.
    pub fn acknowledge(&self) -> AckFuture {
        AckLane::acknowledge(&self.inner.lane, self.inner.id.next())
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("id", &self.inner.id.get())
            .field("partition", &self.partition())
            .field("metadata", &self.inner.metadata)
            .field("data_bytes", &self.inner.data.bytes())
            .finish()
    }
}
