//! Reading binary bodies: a cursor over bytes that bounds every step, and what can be wrong with a body.

use bytemuck::Pod;
use bytes::Bytes;
use mofka_log::BatchError;

use crate::descriptor::DescriptorError;
use crate::error::{ErrorCode, WireError};
use crate::width::{narrow, wide};

/// Why the body of a frame cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// It ends too early.
    #[error("a {what} ends early: {need_bytes} bytes are needed and {have_bytes} are there")]
    Short {
        /// The body.
        what: &'static str,
        /// Bytes that the next part needs.
        need_bytes: u64,
        /// Bytes that are left.
        have_bytes: u64,
    },
    /// Bytes follow where it should end.
    #[error("{bytes} bytes follow the end of a {what}")]
    Trailing {
        /// The body.
        what: &'static str,
        /// How many.
        bytes: u64,
    },
    /// It changed on the way.
    #[error("the checksum of a {what} does not match: send it again")]
    Checksum {
        /// The body or its part.
        what: &'static str,
    },
    /// Bytes that are to be zero are not: a newer version, or nonsense.
    #[error("reserved bytes of a {what} are not zero")]
    Reserved {
        /// The body.
        what: &'static str,
    },
    /// A field has a value without meaning.
    #[error("{field} of a {what} is {value}, but {rule}")]
    Invalid {
        /// The body.
        what: &'static str,
        /// The field.
        field: &'static str,
        /// What it says.
        value: u64,
        /// What it should be.
        rule: &'static str,
    },
    /// A field is beyond its bound.
    #[error("{field} of a {what} is {value}, and at most {max} is allowed")]
    TooLarge {
        /// The body.
        what: &'static str,
        /// The field.
        field: &'static str,
        /// What it says.
        value: u64,
        /// The bound.
        max: u64,
    },
    /// Text that is not UTF-8.
    #[error("{field} of a {what} is not UTF-8")]
    NotText {
        /// The body.
        what: &'static str,
        /// The field.
        field: &'static str,
    },
    /// JSON that is not understood.
    #[error("the JSON of a {what} is not understood: {reason}")]
    Json {
        /// The body.
        what: &'static str,
        /// What the parser said.
        reason: String,
    },
    /// A batch frame that does not check.
    #[error("the batch in a {what}: {error}")]
    Batch {
        /// The body.
        what: &'static str,
        /// What is wrong with it.
        error: BatchError,
    },
    /// A data descriptor that does not check.
    #[error("data descriptor {index} of a {what}: {error}")]
    Descriptor {
        /// The body.
        what: &'static str,
        /// Which one.
        index: u32,
        /// What is wrong with it.
        error: DescriptorError,
    },
}

impl From<BodyError> for WireError {
    fn from(error: BodyError) -> Self {
        let code = match &error {
            BodyError::Checksum { .. } => ErrorCode::BadChecksum,
            BodyError::Batch { error, .. } if error.is_checksum() => ErrorCode::BadChecksum,
            BodyError::TooLarge { .. } => ErrorCode::TooLarge,
            BodyError::Descriptor { .. } => ErrorCode::InvalidSelection,
            _ => ErrorCode::Malformed,
        };
        Self::new(code, error.to_string())
    }
}

/// Takes a body apart from its beginning. Nothing is copied.
pub(crate) struct BodyReader {
    what: &'static str,
    rest: Bytes,
}

impl BodyReader {
    pub(crate) fn new(what: &'static str, body: Bytes) -> Self {
        Self { what, rest: body }
    }

    /// Bytes that are left.
    pub(crate) fn left_bytes(&self) -> u64 {
        wide(self.rest.len())
    }

    /// The next `bytes` bytes.
    pub(crate) fn take(&mut self, bytes: u64) -> Result<Bytes, BodyError> {
        let have_bytes = self.left_bytes();
        if bytes > have_bytes {
            return Err(BodyError::Short {
                what: self.what,
                need_bytes: bytes,
                have_bytes,
            });
        }
        Ok(self.rest.split_to(narrow(bytes)))
    }

    /// All that is left.
    pub(crate) fn take_rest(&mut self) -> Bytes {
        std::mem::take(&mut self.rest)
    }

    /// A fixed structure.
    pub(crate) fn pod<T: Pod>(&mut self) -> Result<T, BodyError> {
        let bytes = self.take(wide(size_of::<T>()))?;
        Ok(bytemuck::pod_read_unaligned(&bytes))
    }

    /// What is left has to be nothing.
    pub(crate) fn finish(self) -> Result<(), BodyError> {
        match self.left_bytes() {
            0 => Ok(()),
            bytes => Err(BodyError::Trailing {
                what: self.what,
                bytes,
            }),
        }
    }

    /// Bytes that are written zero.
    pub(crate) fn reserved(&self, bytes: &[u8]) -> Result<(), BodyError> {
        if bytes.iter().all(|byte| *byte == 0) {
            Ok(())
        } else {
            Err(BodyError::Reserved { what: self.what })
        }
    }

    /// A checksum of `bytes` that has to be `crc`.
    pub(crate) fn checksum(&self, bytes: &[u8], crc: u32) -> Result<(), BodyError> {
        if crc32fast::hash(bytes) == crc {
            Ok(())
        } else {
            Err(BodyError::Checksum { what: self.what })
        }
    }

    /// A count or size that has to be at most `max`.
    pub(crate) fn bounded(&self, field: &'static str, value: u64, max: u64) -> Result<(), BodyError> {
        if value <= max {
            Ok(())
        } else {
            Err(BodyError::TooLarge {
                what: self.what,
                field,
                value,
                max,
            })
        }
    }

    pub(crate) fn invalid(&self, field: &'static str, value: u64, rule: &'static str) -> BodyError {
        BodyError::Invalid {
            what: self.what,
            field,
            value,
            rule,
        }
    }
}
