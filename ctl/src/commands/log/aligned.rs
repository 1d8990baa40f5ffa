//! Memory at an address that direct I/O accepts.

/// What every device here accepts: the alignment of addresses, positions and lengths.
pub(crate) const ALIGN_BYTES: usize = 4096;

/// Bytes that begin at a multiple of [`ALIGN_BYTES`]: a little more is allocated, and the front is left out.
#[derive(Debug)]
pub(crate) struct AlignedBuf {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl AlignedBuf {
    pub(crate) fn new(len: usize) -> Self {
        let bytes = vec![0; len + ALIGN_BYTES];
        // usize::MAX when the address cannot be told, which happens only at compile time.
        let start = bytes.as_ptr().align_offset(ALIGN_BYTES).min(ALIGN_BYTES);
        Self { bytes, start, len }
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.len]
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_aligned_and_as_long_as_asked() {
        for len in [0, 1, 4096, 1 << 20] {
            let mut buf = AlignedBuf::new(len);
            assert_eq!(buf.as_slice().len(), len);
            assert_eq!(buf.as_slice().as_ptr().addr() % ALIGN_BYTES, 0);
            buf.as_mut_slice().fill(7);
            assert!(buf.as_slice().iter().all(|byte| *byte == 7));
        }
    }
}
