//! A reference to data that is stored already.

use bytes::Bytes;
use mofka_net::control::PartitionInfo;
use mofka_net::{DataDescriptor, DataReference, Recipe, ReferenceError};
use uuid::Uuid;

/// Data of an event that is stored, whole or in part, to be pushed as the data of another event: nothing of it is copied. The node
/// keeps what is referred to for as long as the event that refers is kept.
///
/// Made from an event that was pulled ([`Event::data_ref`](crate::Event::data_ref)), or from a partition and a descriptor. It is
/// pushed in place of bytes: `producer.push(metadata, data_ref, None)`. The two events may be in any topics and partitions of
/// one node, but a log partition cannot refer to one in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataRef {
    reference: DataReference,
    /// As it is stored.
    bytes: Bytes,
}

impl DataRef {
    /// What `descriptor` selects in this partition; its location is the id of an event there that has data of its own.
    ///
    /// # Errors
    /// When it selects nothing, or is no descriptor of an event's data.
    pub fn new(partition: &PartitionInfo, descriptor: DataDescriptor) -> Result<Self, ReferenceError> {
        DataReference::new(partition.id, descriptor).map(Self::of)
    }

    pub(crate) fn of(reference: DataReference) -> Self {
        let bytes = reference.serialize().into();
        Self { reference, bytes }
    }

    /// A view of it: what `recipe` selects of the bytes that it selects.
    ///
    /// # Errors
    /// When that is nothing, or does not fit, or is at a bound of descriptors.
    pub fn view(&self, recipe: &Recipe) -> Result<Self, ReferenceError> {
        let selected = recipe.apply(self.reference.descriptor())?;
        DataReference::new(self.reference.partition(), selected).map(Self::of)
    }

    /// The partition of the event that has the data.
    pub fn partition(&self) -> Uuid {
        self.reference.partition()
    }

    /// What is selected of that event's data.
    pub fn descriptor(&self) -> &DataDescriptor {
        self.reference.descriptor()
    }

    /// Bytes that it selects.
    pub fn bytes(&self) -> u64 {
        self.reference.bytes()
    }

    /// The reference as it is stored.
    pub(crate) fn stored(&self) -> &Bytes {
        &self.bytes
    }
}
