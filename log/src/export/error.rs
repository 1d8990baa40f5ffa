//! What can be wrong with an export file.

use crate::ids::EventId;
use crate::producers::ProducersError;

/// What is wrong with an export file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExportError {
    /// A checksum does not match.
    #[error("the checksum of {part} of an export file is {computed:#010x}, and it says {stored:#010x}")]
    Checksum {
        /// Of which part.
        part: &'static str,
        /// What the file says.
        stored: u32,
        /// What its bytes give.
        computed: u32,
    },
    /// It is something else.
    #[error("{part} of an export file begins with {found:#010x}, which it cannot")]
    Magic {
        /// Which part.
        part: &'static str,
        /// What it begins with.
        found: u32,
    },
    /// A newer program made it.
    #[error("an export file has version {found}, and 1 is known here")]
    Version {
        /// Its version.
        found: u16,
    },
    /// Bytes that are to be zero are not.
    #[error("reserved bytes of {part} of an export file are not zero")]
    Reserved {
        /// Which part.
        part: &'static str,
    },
    /// A field cannot be.
    #[error("{field} of an export file is {value}, which cannot be")]
    Field {
        /// Which field.
        field: &'static str,
        /// What it says.
        value: u64,
    },
    /// A part has too few or too many bytes.
    #[error("{part} of an export file has {have_bytes} bytes instead of {need_bytes}")]
    Length {
        /// Which part.
        part: &'static str,
        /// Bytes that are there.
        have_bytes: u64,
        /// Bytes there should be.
        need_bytes: u64,
    },
    /// A record in the header cannot be read.
    #[error("the {what} record of an export file cannot be read: {reason}")]
    Record {
        /// Which.
        what: &'static str,
        /// Why.
        reason: String,
    },
    /// Batches do not follow each other.
    #[error("a batch of an export file begins at event {found}, and {expected} is next")]
    Order {
        /// Where it begins.
        found: EventId,
        /// Where it should.
        expected: EventId,
    },
    /// A section is where it cannot be.
    #[error("an export file has {what} where none can be")]
    Place {
        /// What.
        what: &'static str,
    },
    /// The producers are none.
    #[error("in an export file: {0}")]
    Producers(#[from] ProducersError),
    /// The trailer tells of something else than what is before it.
    #[error("the trailer of an export file says that {field} is {stored}, and it is {found}")]
    Trailer {
        /// Which field.
        field: &'static str,
        /// What it says.
        stored: u64,
        /// What was read.
        found: u64,
    },
}
