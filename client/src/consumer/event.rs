//! An event that was pulled.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use mofka_log::EventId;
use mofka_net::control::PartitionInfo;
use mofka_net::{DataDescriptor, DataReference, ReferenceError};
use serde_json::Value;

use super::acknowledge::{AckFuture, AckLane};
use super::reader::DataReader;
use crate::data::Data;
use crate::data_ref::DataRef;
use crate::error::MetadataError;
use crate::metadata::Metadata;

/// An event that was pulled. Cheap to clone; lives on its own.
///
/// Its metadata and data may share memory with the other events of the feed that it came with: an application that
/// keeps few of many events for long should copy what it keeps.
#[derive(Clone)]
pub struct Event {
    /// Of the events that came together: memory is asked for once for all of them.
    group: Arc<Group>,
    place: usize,
}

struct Group {
    lane: Arc<AckLane>,
    events: Vec<Parts>,
}

/// What an event is made of.
pub(super) struct Parts {
    pub(super) id: EventId,
    pub(super) timestamp_us: u64,
    pub(super) metadata: Metadata,
    pub(super) data_bytes: u64,
    pub(super) reference: Option<Box<Bytes>>,
    pub(super) descriptor: DataDescriptor,
    pub(super) data: Data,
}

impl Event {
    /// Makes the events of a partition that came together; those that failed keep their places.
    pub(super) fn group<E>(
        lane: &Arc<AckLane>,
        parts: Vec<Result<Parts, E>>,
    ) -> impl Iterator<Item = Result<Self, E>> {
        let mut events = Vec::with_capacity(parts.len());
        let mut failures = Vec::new();
        let count = parts.len();
        for (index, outcome) in parts.into_iter().enumerate() {
            match outcome {
                Ok(parts) => events.push(parts),
                Err(error) => failures.push((index, error)),
            }
        }
        let group = Arc::new(Group {
            lane: Arc::clone(lane),
            events,
        });
        let mut failures = failures.into_iter().peekable();
        let mut next = 0;
        (0..count).map(move |index| {
            if let Some((_, error)) = failures.next_if(|(failed, _)| *failed == index) {
                return Err(error);
            }
            let place = next;
            next += 1;
            Ok(Self {
                group: Arc::clone(&group),
                place,
            })
        })
    }

    fn parts(&self) -> &Parts {
        &self.group.events[self.place]
    }

    /// Its id in its partition.
    pub fn id(&self) -> EventId {
        self.parts().id
    }

    /// The index of its partition in the topic.
    pub fn partition(&self) -> usize {
        self.group.lane.info().index as usize
    }

    /// Its partition.
    pub fn partition_info(&self) -> &PartitionInfo {
        self.group.lane.info()
    }

    /// Its metadata, parsed once; `null` where [`Event::try_metadata`] fails.
    pub fn metadata(&self) -> &Value {
        self.parts().metadata.value()
    }

    /// The same, as exact as a [`Value`] can be ([`Metadata::try_value`](crate::Metadata::try_value) says how exact that is).
    ///
    /// # Errors
    /// When no [`Value`] can hold it.
    pub fn try_metadata(&self) -> Result<&Value, MetadataError> {
        self.parts().metadata.try_value()
    }

    /// Its metadata as it was pushed: JSON text.
    pub fn metadata_bytes(&self) -> &Bytes {
        self.parts().metadata.raw()
    }

    /// The data that was selected. With an allocator: the application's own segments.
    pub fn data(&self) -> &Data {
        &self.parts().data
    }

    /// What was selected of its data; empty when nothing was.
    pub fn descriptor(&self) -> &DataDescriptor {
        &self.parts().descriptor
    }

    /// Its data as something that another event can refer to: what was selected of it, and all of it when nothing was. Of an
    /// event that refers to another one itself, that other one's data.
    ///
    /// # Errors
    /// When it has no data, or what was selected of a selection cannot be said in one descriptor.
    pub fn data_ref(&self) -> Result<DataRef, ReferenceError> {
        let wanted = self.wanted();
        let reference = match &self.parts().reference {
            None => DataReference::new(self.group.lane.info().id, wanted)?,
            Some(further) => DataReference::deserialize(further)?.then(&wanted)?,
        };
        Ok(DataRef::of(reference))
    }

    /// Whether its data is that of another event, to which it refers.
    pub fn is_reference(&self) -> bool {
        self.parts().reference.is_some()
    }

    /// What was selected of its data, and all of it when nothing was.
    fn wanted(&self) -> DataDescriptor {
        let parts = self.parts();
        match parts.descriptor.is_empty() {
            true => DataDescriptor::of_event(parts.id, parts.data_bytes),
            false => parts.descriptor.clone(),
        }
    }

    /// Bytes of all its data, whatever of it was selected.
    pub fn data_bytes(&self) -> u64 {
        self.parts().data_bytes
    }

    /// Opens its data at the node, to be read in pieces: what was selected of it, and all of it when nothing was. Asks
    /// the node for nothing yet. Also works when the consumer is closed.
    pub fn open_data(&self) -> DataReader {
        DataReader::new(self.group.lane.fetch_route(), self.wanted())
    }

    /// The descriptor of all of its data: views of it say what to read ([`Event::open_view`]).
    pub fn whole(&self) -> DataDescriptor {
        let parts = self.parts();
        DataDescriptor::of_event(parts.id, parts.data_bytes)
    }

    /// Opens what a view of its data selects, whatever was selected when it was pulled. Nothing is asked of the node yet, and
    /// nothing is to be read of an empty view. `None`: it is a view of other data.
    pub fn open_view(&self, view: &DataDescriptor) -> Option<DataReader> {
        let whole = self.whole();
        let is_of_event = view.location() == whole.location() && view.base_bytes() == whole.base_bytes();
        (view.is_empty() || is_of_event).then(|| DataReader::new(self.group.lane.fetch_route(), view.clone()))
    }

    /// When the node accepted it: Unix time in microseconds.
    pub fn timestamp_us(&self) -> u64 {
        self.parts().timestamp_us
    }

    /// Acknowledges this event and all before it in its partition: the next consumer of this name begins after it. The
    /// future completes when that is durable. An older event acknowledged later changes nothing.
    ///
    /// Also works when the consumer is closed. Nothing needs to be waited for: acknowledgements that follow each other
    /// quickly are sent as one.
    pub fn acknowledge(&self) -> AckFuture {
        AckLane::acknowledge(&self.group.lane, self.parts().id.next())
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("id", &self.parts().id.get())
            .field("partition", &self.partition())
            .field("metadata", &self.parts().metadata)
            .field("data_bytes", &self.parts().data.bytes())
            .finish()
    }
}
