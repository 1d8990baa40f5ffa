//! Scratch files for direct I/O, and aligned memory for it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Unit of direct I/O here.
pub(super) const BLOCK_BYTES: u64 = 4096;

#[repr(C, align(4096))]
#[derive(Clone, Copy)]
struct Block([u8; 4096]);

/// Memory in whole, aligned blocks.
pub(super) struct Blocks(Vec<Block>);

impl Blocks {
    /// So many bytes (a multiple of a block) that do not compress.
    pub(super) fn noise(bytes: u64) -> Self {
        let count = usize::try_from(bytes / BLOCK_BYTES).unwrap_or(0);
        let mut blocks = vec![Block([0; 4096]); count];
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        for byte in blocks.iter_mut().flat_map(|block| block.0.iter_mut()) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            *byte = state.to_le_bytes()[3];
        }
        Self(blocks)
    }

    /// So many zero bytes (a multiple of a block), to read into.
    pub(super) fn zeros(bytes: u64) -> Self {
        Self(vec![
            Block([0; 4096]);
            usize::try_from(bytes / BLOCK_BYTES).unwrap_or(0)
        ])
    }

    pub(super) fn as_mut_ptr(&mut self) -> *mut u8 {
        self.0.as_mut_ptr().cast()
    }

    pub(super) fn as_ptr(&self) -> *const u8 {
        self.0.as_ptr().cast()
    }

    /// Length as the kernel takes it; a commit's parts are bounded well below 4 GiB.
    pub(super) fn bytes(&self) -> u32 {
        u32::try_from(self.0.len() * 4096).unwrap_or(u32::MAX)
    }
}

/// A zero-written file, open for direct I/O, removed when dropped.
pub(super) struct ScratchFile {
    file: File,
    path: PathBuf,
    bytes: u64,
}

impl ScratchFile {
    pub(super) fn create(directory: &Path, name: &str, bytes: u64) -> io::Result<Self> {
        let path = directory.join(format!("mofka-bench-{}.{name}", std::process::id()));
        let explain = |doing: &str, e: io::Error| match e.raw_os_error() {
            // Kept as it is, so that callers can tell "no direct I/O here" from a failure.
            Some(libc::EINVAL) => e,
            _ => io::Error::new(e.kind(), format!("cannot {doing} {}: {e}", path.display())),
        };
        write_zeros(&path, bytes).map_err(|e| explain("write zeros to", e))?;
        let file = OpenOptions::new()
            .write(true)
            .custom_flags(libc::O_DIRECT)
            .open(&path);
        match file {
            Ok(file) => Ok(Self { file, path, bytes }),
            Err(e) => {
                let _ = std::fs::remove_file(&path);
                Err(explain("open for direct I/O", e))
            }
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl AsRawFd for ScratchFile {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

impl Drop for ScratchFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Written, not only allocated: the first write to an allocated but unwritten block costs a journal commit.
fn write_zeros(path: &Path, bytes: u64) -> io::Result<()> {
    let zeros = vec![0_u8; 1 << 20];
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    let write = |file: &mut File| {
        let mut left = bytes;
        while left > 0 {
            let now = usize::try_from(left).map_or(zeros.len(), |left| left.min(zeros.len()));
            file.write_all(zeros.get(..now).unwrap_or_default())?;
            left -= now as u64;
        }
        file.sync_all()?;
        forget_cached(file);
        Ok(())
    };
    write(&mut file).inspect_err(|_| {
        let _ = std::fs::remove_file(path);
    })
}

/// Direct writes would have to push out the cached zeros first, inside the measurement.
fn forget_cached(file: &File) {
    // SAFETY: the call takes numbers only, and the descriptor is open: `file` is borrowed. It is advice; failing is fine.
    unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
}
