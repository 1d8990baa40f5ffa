//! Which data of an event is wanted, and where it is placed.

use std::fmt;
use std::sync::Arc;

use mofka_net::{DataDescriptor, Recipe};

use crate::error::BoxError;
use crate::metadata::Metadata;

type Select = dyn Fn(&Metadata, &DataDescriptor) -> Result<DataDescriptor, BoxError> + Send + Sync;
type Allocate =
    dyn Fn(&Metadata, &DataDescriptor) -> Result<Vec<Box<dyn DataSegment>>, BoxError> + Send + Sync;

/// Memory of the application that data is written to.
pub trait DataSegment: Send + Sync + 'static {
    /// The memory to read.
    fn bytes(&self) -> &[u8];
    /// The memory to write.
    fn bytes_mut(&mut self) -> &mut [u8];
}

impl<T: AsRef<[u8]> + AsMut<[u8]> + Send + Sync + 'static> DataSegment for T {
    fn bytes(&self) -> &[u8] {
        self.as_ref()
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        self.as_mut()
    }
}

/// Says for each event which of its data is wanted.
#[derive(Clone)]
pub struct DataSelector {
    pub(super) kind: SelectorKind,
}

#[derive(Clone)]
pub(super) enum SelectorKind {
    None,
    All,
    Views(Recipe),
    Custom(Arc<Select>),
}

impl DataSelector {
    /// No data. The default.
    pub fn none() -> Self {
        Self {
            kind: SelectorKind::None,
        }
    }

    /// All data of every event. The node knows in advance and sends it with the events.
    pub fn all() -> Self {
        Self {
            kind: SelectorKind::All,
        }
    }

    /// The same views of the data of every event; of events without data, nothing. The node knows in advance: only the selected
    /// bytes leave the disk, and come with the events. An event whose data is too short for a strided or unstructured view fails
    /// its own pull.
    pub fn views(recipe: Recipe) -> Self {
        Self {
            kind: SelectorKind::Views(recipe),
        }
    }

    /// What `select` says: it gets an event's metadata and the descriptor of all of its data, and returns a view of
    /// that, or an empty descriptor. Called on a thread of the consumer, or of its pool, in the order of the events of a
    /// partition; in a pool, for several partitions at once. An error (or a panic) fails the pull of that event only.
    pub fn new(
        select: impl Fn(&Metadata, &DataDescriptor) -> Result<DataDescriptor, BoxError> + Send + Sync + 'static,
    ) -> Self {
        Self {
            kind: SelectorKind::Custom(Arc::new(select)),
        }
    }
}

impl Default for DataSelector {
    fn default() -> Self {
        Self::none()
    }
}

impl fmt::Debug for DataSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            SelectorKind::None => "DataSelector::none()",
            SelectorKind::All => "DataSelector::all()",
            SelectorKind::Views(_) => "DataSelector::views(..)",
            SelectorKind::Custom(_) => "DataSelector::new(..)",
        })
    }
}

/// Says where the selected data of an event is placed.
#[derive(Clone, Default)]
pub struct DataAllocator {
    /// `None`: in the library's memory, without another copy.
    pub(super) allocate: Option<Arc<Allocate>>,
}

impl DataAllocator {
    /// Where `allocate` says: it gets an event's metadata and the selected descriptor, and returns segments whose sizes
    /// add up to the selection's. It is also called when nothing is selected. Called on a thread of the consumer, or of its
    /// pool; an error (or a panic) fails the pull of that event only.
    pub fn new<S: DataSegment>(
        allocate: impl Fn(&Metadata, &DataDescriptor) -> Result<Vec<S>, BoxError> + Send + Sync + 'static,
    ) -> Self {
        let boxed = move |metadata: &Metadata, descriptor: &DataDescriptor| {
            let segments = allocate(metadata, descriptor)?;
            Ok(segments
                .into_iter()
                .map(|segment| Box::new(segment) as Box<dyn DataSegment>)
                .collect())
        };
        Self {
            allocate: Some(Arc::new(boxed)),
        }
    }
}

impl fmt::Debug for DataAllocator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.allocate.is_some() {
            "DataAllocator::new(..)"
        } else {
            "DataAllocator::default()"
        })
    }
}

/// The application's memory as the owner of an event's bytes.
pub(super) struct Owned(pub(super) Box<dyn DataSegment>);

impl AsRef<[u8]> for Owned {
    fn as_ref(&self) -> &[u8] {
        self.0.bytes()
    }
}
