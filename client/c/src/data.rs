//! Data of the application's, copied or borrowed until it is released.

use std::ffi::c_void;
use std::sync::Arc;

use bytes::Bytes;
use mofka_client::Data;

use crate::border::{array_of, bytes_of};
use crate::status::Failure;

/// Bytes in memory. No bytes may begin anywhere, also at NULL.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct mofka_slice {
    /// The first byte.
    pub start: *const c_void,
    /// How many there are.
    pub bytes: usize,
}

impl mofka_slice {
    /// Nothing.
    pub(crate) const EMPTY: Self = Self {
        start: std::ptr::null(),
        bytes: 0,
    };

    /// These bytes, as long as they live.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self {
            start: bytes.as_ptr().cast(),
            bytes: bytes.len(),
        }
    }
}

/// Called once, with the context that was given along, when the library needs the memory no more. It may come on any thread,
/// also before the function that it was given to returns, and must not call this library but to free events and descriptors.
pub type mofka_release = Option<unsafe extern "C" fn(context: *mut c_void)>;

/// Memory of the application's: released with the last part of it.
pub(crate) struct Lease {
    release: mofka_release,
    context: *mut c_void,
}

// SAFETY: the context is only handed back, and the header says that this happens on any thread.
unsafe impl Send for Lease {}
// SAFETY: nothing is done with it through a shared reference.
unsafe impl Sync for Lease {}

impl Lease {
    pub(crate) fn new(release: mofka_release, context: *mut c_void) -> Arc<Self> {
        Arc::new(Self { release, context })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(release) = self.release {
            // SAFETY: a function and its context, as they were given together; this is the only call.
            unsafe { release(self.context) };
        }
    }
}

/// One segment of leased memory.
struct Leased {
    start: *const u8,
    bytes: usize,
    _lease: Arc<Lease>,
}

// SAFETY: the bytes are only read, and stay as they are until the lease ends, which this keeps alive.
unsafe impl Send for Leased {}

impl AsRef<[u8]> for Leased {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `leased` checked that it is a slice; the application said that it stays as it is until it is released.
        unsafe { std::slice::from_raw_parts(self.start, self.bytes) }
    }
}

/// All of it where it is, until it is released.
///
/// # Safety
/// As [`parts`], and until `lease` is dropped for the last time.
pub(crate) unsafe fn leased(
    segments: *const mofka_slice,
    count: usize,
    lease: &Arc<Lease>,
) -> Result<Data, Failure> {
    // SAFETY: as the caller says.
    let parts = unsafe { parts(segments, count) }?;
    let owned = parts.iter().map(|part| {
        Bytes::from_owner(Leased {
            start: part.as_ptr(),
            bytes: part.len(),
            _lease: Arc::clone(lease),
        })
    });
    Ok(Data::from(owned.collect::<Vec<Bytes>>()))
}

/// The segments that have bytes.
///
/// # Safety
/// `segments` leads to `count` slices of bytes, which live and stay as they are meanwhile.
pub(crate) unsafe fn parts<'a>(segments: *const mofka_slice, count: usize) -> Result<Vec<&'a [u8]>, Failure> {
    // SAFETY: as the caller says.
    let segments = unsafe { array_of(segments, count, "segments") }?;
    let mut parts = Vec::with_capacity(segments.len());
    for segment in segments.iter().filter(|segment| segment.bytes > 0) {
        // SAFETY: as the caller says.
        parts.push(unsafe { bytes_of(segment.start, segment.bytes, "a segment's start") }?);
    }
    Ok(parts)
}
