//! The bytes of a simulated file. A copy costs nothing until one of the two is changed: a sweep takes images of the
//! same disk again and again, and most files in them are as they were.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// See the module. Used as the `Vec<u8>` that it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileBytes(Arc<Vec<u8>>);

impl From<Vec<u8>> for FileBytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Arc::new(bytes))
    }
}

impl AsRef<[u8]> for FileBytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Deref for FileBytes {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.0
    }
}

impl DerefMut for FileBytes {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        Arc::make_mut(&mut self.0)
    }
}

impl FileBytes {
    /// Adds zeros up to `end`, if it is shorter.
    pub(super) fn grow(&mut self, end: usize) {
        if self.len() < end {
            self.resize(end, 0);
        }
    }

    /// Writes `bytes` at `at`; zeros fill what lies between the end and there.
    pub(super) fn put(&mut self, at: usize, bytes: &[u8]) {
        let end = at + bytes.len();
        self.grow(end);
        self[at..end].copy_from_slice(bytes);
    }
}
