//! The seam to the machine: files, directories, clock, tasks.
//!
//! Everything above this trait is the real engine; below it is either the runtime ([`crate::uring`]) or a simulated disk
//! (`crate::sim`), so that the format, the recovery and the shard that the tests crash are the ones that users run.
//!
//! Rules for implementations and callers:
//! - Buffers are owned: a completion-based write cannot borrow, so a buffer goes in and is not seen again.
//! - A future that has started an operation may be dropped only when the file is given up for good.
//! - `write_at` writes everything or fails; a short write is an error, never a partial success.
//! - After an error of `write_at` or `sync` the caller poisons the partition and never retries: the kernel may have
//!   dropped the dirty state, and a second sync would report success for bytes that are gone.

use std::future::Future;
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use mofka_log::FilePos;

/// An open file. Positions and lengths of writes are multiples of 4096 bytes.
pub trait IoFile: 'static {
    /// Owned memory for writes, aligned as the device wants it.
    type Buf: AsMut<[u8]> + AsRef<[u8]> + 'static;

    /// Writes all of `buf` at `at`. Not durable before [`IoFile::sync`] returns.
    ///
    /// # Errors
    /// What the device said; a short write is reported as `WriteZero`.
    fn write_at(&self, at: FilePos, buf: Self::Buf) -> impl Future<Output = io::Result<()>>;

    /// Reads up to `bytes` from `at`; less only at the end of the file. Any position and length will do.
    ///
    /// # Errors
    /// What the device said.
    fn read_at(&self, at: FilePos, bytes: usize) -> impl Future<Output = io::Result<Bytes>>;

    /// Makes every write that completed before this call durable, with the metadata needed to read it back.
    ///
    /// # Errors
    /// What the device said. Never call it again on the same file after an error.
    fn sync(&self) -> impl Future<Output = io::Result<()>>;

    /// Sets the file's size, dropping or zero-filling what is beyond.
    ///
    /// # Errors
    /// What the file system said.
    fn truncate(&self, end: FilePos) -> impl Future<Output = io::Result<()>>;

    /// The file's size in bytes.
    ///
    /// # Errors
    /// What the file system said.
    fn size_bytes(&self) -> impl Future<Output = io::Result<u64>>;

    /// Closes the file, after the last reference is gone.
    fn close(self: Rc<Self>) -> impl Future<Output = ()>;
}

/// Names in directories.
pub trait IoDir: 'static {
    /// The files this directory opens.
    type File: IoFile<Buf = Self::Buf>;
    /// See [`IoFile::Buf`].
    type Buf: AsMut<[u8]> + AsRef<[u8]> + 'static;

    /// Memory for one write of exactly `bytes` bytes (a multiple of 4096); its content is arbitrary.
    fn alloc(&self, bytes: usize) -> Self::Buf;

    /// Opens an existing file for reading and writing.
    ///
    /// # Errors
    /// `NotFound` when it does not exist, or what the file system said.
    fn open(&self, path: &Path) -> impl Future<Output = io::Result<Self::File>>;

    /// Creates a file, empty even when one of that name exists. Its name is durable after [`IoDir::sync_dir`].
    ///
    /// # Errors
    /// What the file system said.
    fn create(&self, path: &Path) -> impl Future<Output = io::Result<Self::File>>;

    /// Renames over whatever has the new name, atomically.
    ///
    /// # Errors
    /// What the file system said.
    fn rename(&self, from: &Path, to: &Path) -> impl Future<Output = io::Result<()>>;

    /// Removes a file, or a directory with all that is in it. A name that is not there is not an error.
    ///
    /// # Errors
    /// What the file system said.
    fn remove(&self, path: &Path) -> impl Future<Output = io::Result<()>>;

    /// Names of the entries of a directory, in no order; creates the directory (and its parents) when absent.
    ///
    /// # Errors
    /// What the file system said.
    fn list(&self, dir: &Path) -> impl Future<Output = io::Result<Vec<String>>>;

    /// Makes creations, renames and removals in `dir` durable.
    ///
    /// # Errors
    /// What the file system said.
    fn sync_dir(&self, dir: &Path) -> impl Future<Output = io::Result<()>>;
}

/// A machine: its files, its clock, and a way to run tasks on the current shard. Cheap to clone.
pub trait Io: IoDir + Clone {
    /// Unix time in microseconds. May jump; used for timestamps only, never for order.
    fn now_us(&self) -> u64;

    /// A number that nobody can guess and no earlier call gave.
    fn random_u64(&self) -> u64;

    /// Waits on the monotonic clock.
    fn sleep(&self, duration: Duration) -> impl Future<Output = ()>;

    /// Runs `task` on this shard until it ends.
    fn spawn(&self, task: impl Future<Output = ()> + 'static);
}
