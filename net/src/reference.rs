//! Data of an event as another event refers to it: the partition, and what is selected there.
//!
//! Serialized: the partition's uuid (16 bytes), then the data descriptor, whose location is an event id. The head of that is
//! known to the log, too, which stores it (`Reference` in `log/src/batch/reference.rs`).

use mofka_log::{EventId, Reference};
use uuid::Uuid;

use crate::descriptor::{DataDescriptor, DescriptorError, ViewError};

/// Why there is no such reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// It is not a reference.
    #[error("not a reference: {reason}")]
    Head {
        /// What is wrong.
        reason: &'static str,
    },
    /// What follows the partition is not a descriptor.
    #[error("not a reference: {0}")]
    Descriptor(#[from] DescriptorError),
    /// It selects nothing.
    #[error("it selects no bytes: an event without data needs no reference")]
    Nothing,
    /// The descriptor's location is not an event id.
    #[error("the descriptor's location is not an event id")]
    Location,
    /// What is selected of the referenced data cannot be said in one descriptor.
    #[error("what is selected of a selection: {0}")]
    View(#[from] ViewError),
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataReference {
    partition: Uuid,
    descriptor: DataDescriptor,
}

impl DataReference {
    /// What `descriptor` selects of an event's data in this partition.
    ///
    /// # Errors
    /// When it selects nothing, or its location is not an event id.
    pub fn new(partition: Uuid, descriptor: DataDescriptor) -> Result<Self, ReferenceError> {
        if descriptor.event_id().is_none() {
            return Err(match descriptor.is_empty() {
                true => ReferenceError::Nothing,
                false => ReferenceError::Location,
            });
        }
        if descriptor.is_empty() {
            return Err(ReferenceError::Nothing);
        }
        let made = Self {
            partition,
            descriptor,
        };
        match Reference::check(&made.serialize()) {
            Ok(_) => Ok(made),
            Err(reason) => Err(ReferenceError::Head { reason }),
        }
    }

    /// The partition of the event that it refers to.
    pub fn partition(&self) -> Uuid {
        self.partition
    }

    /// What is selected there.
    pub fn descriptor(&self) -> &DataDescriptor {
        &self.descriptor
    }

    /// The event that it refers to.
    pub fn event_id(&self) -> EventId {
        // There is one in every descriptor that was taken.
        self.descriptor.event_id().unwrap_or_default()
    }

    /// Bytes that it selects: never 0.
    pub fn bytes(&self) -> u64 {
        self.descriptor.bytes()
    }

    /// What `view` selects of the bytes that this selects.
    ///
    /// # Errors
    /// When that is nothing, or both together are at a bound of `limits.rs`: refer to it in parts, or to a flatter selection.
    pub fn then(&self, view: &DataDescriptor) -> Result<Self, ReferenceError> {
        Self::new(self.partition, self.descriptor.then(view)?)
    }

    /// The same for whoever reads at once. See [`DataDescriptor::stacked`].
    #[must_use]
    pub fn stacked(&self, view: &DataDescriptor) -> Self {
        Self {
            partition: self.partition,
            descriptor: self.descriptor.stacked(view),
        }
    }

    /// The bytes that stand for it.
    pub fn serialize(&self) -> Vec<u8> {
        let mut bytes = self.partition.into_bytes().to_vec();
        bytes.extend_from_slice(&self.descriptor.serialize());
        bytes
    }

    /// Reads what [`Self::serialize`] wrote.
    ///
    /// # Errors
    /// When it is not such bytes, or selections do not fit.
    pub fn deserialize(bytes: &[u8]) -> Result<Self, ReferenceError> {
        let head = Reference::check(bytes).map_err(|reason| ReferenceError::Head { reason })?;
        let descriptor = DataDescriptor::deserialize(bytes.get(16..).unwrap_or_default())?;
        Self::new(head.partition(), descriptor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Segment;
    use crate::limits::SELECTIONS_MAX;

    const PARTITION: Uuid = Uuid::from_u128(77);

    fn whole(bytes: u64) -> DataDescriptor {
        DataDescriptor::of_event(EventId::new(5), bytes)
    }

    fn naive(data: &[u8], view: &DataDescriptor) -> Vec<u8> {
        let range = |range: crate::Range| {
            let start = usize::try_from(range.offset).unwrap();
            data[start..start + usize::try_from(range.bytes).unwrap()].to_vec()
        };
        view.flatten().flat_map(range).collect()
    }

    #[test]
    fn it_survives_and_its_head_is_what_the_log_sees() {
        let view = whole(1000).sub_view(100, 500).strided_view(0, 10, 7, 3).unwrap();
        let reference = DataReference::new(PARTITION, view).unwrap();
        let bytes = reference.serialize();
        assert_eq!(DataReference::deserialize(&bytes).unwrap(), reference);
        let head = Reference::check(&bytes).unwrap();
        assert_eq!(
            (
                head.partition(),
                head.event_id(),
                head.data_bytes(),
                head.base_bytes()
            ),
            (PARTITION, EventId::new(5), 70, 1000)
        );
        for end in 0..bytes.len() {
            assert!(DataReference::deserialize(&bytes[..end]).is_err());
        }
    }

    #[test]
    fn a_reference_to_nothing_is_none() {
        assert_eq!(
            DataReference::new(PARTITION, whole(0)),
            Err(ReferenceError::Nothing)
        );
        let empty = DataDescriptor::default();
        assert_eq!(DataReference::new(PARTITION, empty), Err(ReferenceError::Nothing));
        let foreign = DataDescriptor::new(b"elsewhere", 4).unwrap();
        assert_eq!(
            DataReference::new(PARTITION, foreign),
            Err(ReferenceError::Location)
        );
        let reference = DataReference::new(PARTITION, whole(10)).unwrap();
        assert_eq!(
            reference.then(&DataDescriptor::default()),
            Err(ReferenceError::Nothing)
        );
    }

    #[test]
    fn what_is_too_deep_to_be_stored_can_still_be_read() {
        let many = |count: usize, bytes: u64| {
            (0..count).fold(whole(bytes), |view, _| {
                let half = view.bytes() / 2;
                let segments = [
                    Segment { offset: 0, bytes: 1 },
                    Segment {
                        offset: 2,
                        bytes: half,
                    },
                ];
                view.unstructured_view(&segments).unwrap()
            })
        };
        let below = many(SELECTIONS_MAX - 1, 1 << 20);
        let above = many(3, below.bytes());
        let reference = DataReference::new(PARTITION, below.clone()).unwrap();
        assert_eq!(
            reference.then(&above),
            Err(ReferenceError::View(ViewError::TooDeep))
        );
        let data: Vec<u8> = (0..1_u32 << 20).map(|n| (n % 251) as u8).collect();
        let read = naive(&data, reference.stacked(&above).descriptor());
        assert_eq!(read, naive(&naive(&data, &below), &above));
    }

    proptest! {
        #[test]
        fn a_view_of_a_view_is_what_two_readings_give(
            bytes in 1_u64..2000, a in 0_u64..400, b in 1_u64..900, blocks in 1_u64..9, gap in 0_u64..9,
            c in 0_u64..60, d in 1_u64..60,
        ) {
            let data: Vec<u8> = (0..bytes).map(|n| (n % 251) as u8).collect();
            let below = whole(bytes).sub_view(a.min(bytes - 1), b);
            let inner = whole(below.bytes());
            let block = (below.bytes() / blocks).saturating_sub(gap).max(1);
            let Ok(above) = inner.strided_view(0, blocks, block, gap) else { return Ok(()) };
            let above = above.sub_view(c.min(above.bytes().saturating_sub(1)), d);
            let reference = DataReference::new(PARTITION, below.clone()).unwrap();
            let expected = naive(&naive(&data, &below), &above);
            let then = reference.then(&above).unwrap();
            prop_assert_eq!(then.bytes(), above.bytes());
            prop_assert_eq!(&naive(&data, then.descriptor()), &expected);
            prop_assert_eq!(&naive(&data, reference.stacked(&above).descriptor()), &expected);
            prop_assert_eq!(DataReference::deserialize(&then.serialize()).unwrap(), then);
        }

        #[test]
        fn deserialize_never_panics(bytes: Vec<u8>) {
            DataReference::deserialize(&bytes).ok();
        }
    }
}
