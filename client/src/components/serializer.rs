//! How metadata is stored.

use bytes::Bytes;

use crate::error::BoxError;
use crate::metadata::Metadata;

/// Turns metadata into the bytes that are stored and sent, and back. Nodes never look inside.
pub trait Serializer: Send + Sync {
    /// Appends the metadata's bytes. Called by `push`, on the pushing thread; for a loose producer on the threads of its pool.
    ///
    /// # Errors
    /// Why it cannot be stored: `push` fails with it, as it does after a panic.
    fn serialize(&self, metadata: &Metadata, bytes: &mut Vec<u8>) -> Result<(), BoxError>;

    /// The metadata of these bytes. Called by a consumer for each event, on a thread of the library.
    ///
    /// # Errors
    /// Why they are none: that event's pull fails with it, as it does after a panic, and no other.
    fn deserialize(&self, bytes: &Bytes) -> Result<Metadata, BoxError>;
}
