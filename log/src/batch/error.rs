//! Why bytes are not a batch.

/// Why bytes are not a batch, or not one that a client may send. The message says what was found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// It ends early.
    #[error("a batch frame ends after {have_bytes} bytes, and {need_bytes} are needed")]
    Short {
        /// Bytes that are there.
        have_bytes: u64,
        /// Bytes that the next part needs.
        need_bytes: u64,
    },
    /// The header changed on the way.
    #[error("the checksum of a batch header is {computed:#010x}, and it says {stored:#010x}")]
    HeaderChecksum {
        /// What the header says.
        stored: u32,
        /// What its bytes give.
        computed: u32,
    },
    /// It is something else.
    #[error("a batch frame begins with {found:#010x} instead of \"MFB1\"")]
    Magic {
        /// What it begins with.
        found: u32,
    },
    /// A newer program made it.
    #[error("a batch frame has version {found}, and 1 is known here")]
    Version {
        /// Its version.
        found: u16,
    },
    /// Bytes that are to be zero are not: a newer program made it, or it is nonsense.
    #[error("reserved bytes of a batch header are not zero")]
    Reserved,
    /// Flags without meaning.
    #[error(
        "a batch frame has flags {found:#06x}: 0, 1 (mark), 3 (clean mark) and 4 (references) have a meaning"
    )]
    Flags {
        /// The flags.
        found: u16,
    },
    /// A field is beyond its bound.
    #[error("{field} of a batch is {value}, and at most {max} is possible here")]
    TooLarge {
        /// Which field.
        field: &'static str,
        /// What it says.
        value: u64,
        /// Its bound.
        max: u64,
    },
    /// It has no events and is not a mark.
    #[error("a batch has no events")]
    NoEvents,
    /// The frame's bytes are not as many as its header says.
    #[error("a batch frame of {frame_bytes} bytes is in {have_bytes} bytes")]
    Length {
        /// What the header says.
        frame_bytes: u64,
        /// What is there.
        have_bytes: u64,
    },
    /// The table changed on the way.
    #[error("the checksum of a batch's table is {computed:#010x}, and the header says {stored:#010x}")]
    TableChecksum {
        /// What the header says.
        stored: u32,
        /// What its bytes give.
        computed: u32,
    },
    /// The table's lengths do not add up to what the header says.
    #[error("{field} of a batch's events add up to {sum}, and the header says {expected}")]
    Sum {
        /// Which lengths.
        field: &'static str,
        /// What they add up to.
        sum: u64,
        /// What the header says.
        expected: u64,
    },
    /// An event's metadata changed on the way.
    #[error("the checksum of the metadata of event {index} of a batch does not match")]
    MetadataChecksum {
        /// The event's place in the batch.
        index: u32,
    },
    /// The bytes that fill the frame up are not zero.
    #[error("the padding of a batch frame is not zero")]
    Padding,
    /// There is more or less data than the header says.
    #[error("a batch with {expected_bytes} bytes of data came with {have_bytes}")]
    DataLength {
        /// What the header says.
        expected_bytes: u64,
        /// What is there.
        have_bytes: u64,
    },
    /// An event's data changed on the way.
    #[error("the checksum of 64 KiB piece {piece} of the data of event {index} of a batch does not match")]
    DataChecksum {
        /// The event's place in the batch.
        index: u32,
        /// The piece's place in the event's data.
        piece: u64,
    },
    /// What stands in place of an event's data is not a reference.
    #[error("the reference of event {index} of a batch: {reason}")]
    Reference {
        /// The event's place in the batch.
        index: u32,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A client wrote what only the server may.
    #[error("{field} of a client's batch is {value}, and only the server writes that")]
    ServerField {
        /// Which field.
        field: &'static str,
        /// What it says.
        value: u64,
    },
}

impl BatchError {
    /// Whether bytes changed on the way, so that sending them again may help.
    pub fn is_checksum(&self) -> bool {
        matches!(
            self,
            Self::HeaderChecksum { .. }
                | Self::TableChecksum { .. }
                | Self::MetadataChecksum { .. }
                | Self::DataChecksum { .. }
        )
    }
}
