//! Bytes of shared memory that an event's data is filled into, and that stay the client's until nobody needs them.

use bytes::Bytes;
use mofka_net::shm::{OutsideFrame, Stretch, this_process};

/// Bytes that are looked at in one go: they stay in the processor's nearest cache.
const CHUNK_BYTES: usize = 16 << 10;

/// Bytes of the node's shared memory. Whoever may have to send them again has this, and so does whoever waits for the answer: the
/// node may read them until then.
pub(crate) struct Kept {
    /// There until this is dropped.
    stretch: Option<Stretch>,
    pid: u32,
}

impl Kept {
    pub(super) fn new(stretch: Stretch) -> Self {
        Self {
            stretch: Some(stretch),
            pid: this_process(),
        }
    }

    pub(super) fn stretch(&self) -> &Stretch {
        self.stretch.as_ref().expect("it is there until this is dropped")
    }

    fn stretch_mut(&mut self) -> &mut Stretch {
        self.stretch.as_mut().expect("it is there until this is dropped")
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.stretch().bytes()
    }

    pub(crate) fn write(&mut self, at: u64, bytes: &[u8]) -> Result<(), OutsideFrame> {
        self.stretch_mut().write(at, bytes)
    }

    pub(crate) fn shorten(&mut self, bytes: u64) -> Result<(), OutsideFrame> {
        self.stretch_mut().shorten(bytes)
    }

    pub(crate) fn as_mut_ptr(&mut self) -> *mut u8 {
        self.stretch_mut().as_mut_ptr()
    }

    /// Hands over copies of the bytes from `from` on, piece by piece, until one is not taken.
    pub(crate) fn look<E>(&self, from: u64, mut take: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        let mut buffer = [0; CHUNK_BYTES];
        let mut at = from;
        while at < self.bytes() {
            let left = usize::try_from(self.bytes() - at).unwrap_or(CHUNK_BYTES);
            let chunk = &mut buffer[..left.min(CHUNK_BYTES)];
            // Within the bytes, or the loop would have ended.
            self.stretch().read(at, chunk).ok();
            take(chunk)?;
            at += chunk.len() as u64;
        }
        Ok(())
    }

    /// A copy of all of them, for another way than the shared memory that they lie in.
    pub(crate) fn copy(&self) -> Bytes {
        let bytes = usize::try_from(self.bytes()).expect("it is mapped");
        let mut copy = vec![0; bytes];
        // All of them lie within.
        self.stretch().read(0, &mut copy).ok();
        copy.into()
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if this_process() != self.pid {
            // Its lock may have been held when the process forked, and what it guards is the parent's.
            std::mem::forget(self.stretch.take());
        }
    }
}
