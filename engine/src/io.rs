//! The seam to the machine: files, directories, clock, tasks.
//!
//! Everything above this trait is the real engine; below it is either the runtime ([`crate::uring`]) or a simulated disk
//! (`crate::sim`), so that the format, the recovery and the shard that the tests crash are the ones that users run.
//!
//! Rules for implementations and callers:
//! - Buffers are owned: a completion-based write cannot borrow, so a buffer goes in and is not seen again.
//! - A future that has started an operation may be dropped only when the file is given up for good.
//! - A write writes everything or fails; a short write is an error, never a partial success.
//! - After an error of a write or a sync the caller poisons the partition and never retries: the kernel may have
//!   dropped the dirty state, and a second sync would report success for bytes that are gone.

use std::future::Future;
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use mofka_log::FilePos;

/// What follows the writes of [`Io::write`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Each file is synced when its write is done.
    Sync,
    /// Nothing: what was written is not durable yet.
    Nothing,
}

/// How much of the device [`IoFile::reserve`] may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// All that helps: somebody waits for the room, or soon will.
    Hurried,
    /// Little, so that what is stored meanwhile hardly waits.
    Gentle,
}

/// A stretch of memory that is written.
pub enum WritePart<B> {
    /// Memory from [`IoDir::alloc`].
    Own(B),
    /// Bytes that are written from where they are: begin and length are multiples of [`IN_PLACE_BYTES`].
    InPlace(Bytes),
}

/// What the begin and the length of bytes in memory must be multiples of to be written from where they are.
pub const IN_PLACE_BYTES: usize = 4096;

impl<B: AsRef<[u8]>> AsRef<[u8]> for WritePart<B> {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Own(buf) => buf.as_ref(),
            Self::InPlace(bytes) => bytes,
        }
    }
}

/// One write: its parts back to back from a position on.
pub struct FileWrite<F, B> {
    /// The file.
    pub file: Rc<F>,
    /// A multiple of 4096.
    pub at: FilePos,
    /// Together a multiple of 4096 bytes, not 0.
    pub parts: Vec<WritePart<B>>,
}

/// What of a write went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The write (or a read).
    Write,
    /// The sync after it.
    Sync,
}

/// Why a write is not durable.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", match step { Step::Write => "writing", Step::Sync => "syncing" })]
pub struct StepError {
    /// Which step failed.
    pub step: Step,
    /// What the device said.
    pub source: io::Error,
}

/// An open file. Positions and lengths of writes are multiples of 4096 bytes.
pub trait IoFile: 'static {
    /// Reads up to `bytes` from `at`; less only at the end of the file. Any position and length will do.
    ///
    /// # Errors
    /// What the device said.
    fn read_at(self: &Rc<Self>, at: FilePos, bytes: usize) -> impl Future<Output = io::Result<Bytes>>;

    /// Makes room from `from`, the end of the file, to `end`: what is written there later cannot fail for lack of space
    /// and costs the file system no change of its own. Reads give zeros there. Durable when this returns.
    ///
    /// # Errors
    /// `StorageFull` when there is no room: the file may then be longer than before, and nothing else changed.
    fn reserve(
        self: &Rc<Self>,
        from: FilePos,
        end: FilePos,
        pace: Pace,
    ) -> impl Future<Output = io::Result<()>>;

    /// Takes blocks of the device for what will be written from `from` to `end`, so that those writes find room. Nothing is
    /// written and nothing is durable; the file may be longer afterwards, with zeros.
    ///
    /// # Errors
    /// `StorageFull` when there is no room: the file may then be longer than before, and nothing else changed.
    fn allocate(self: &Rc<Self>, from: FilePos, end: FilePos) -> impl Future<Output = io::Result<()>>;

    /// Sets the file's size, dropping or zero-filling what is beyond.
    ///
    /// # Errors
    /// What the file system said.
    fn truncate(self: &Rc<Self>, end: FilePos) -> impl Future<Output = io::Result<()>>;

    /// The file's size in bytes.
    ///
    /// # Errors
    /// What the file system said.
    fn size_bytes(&self) -> impl Future<Output = io::Result<u64>>;
}

/// Names in directories.
pub trait IoDir: 'static {
    /// The files this directory opens.
    type File: IoFile;
    /// Owned memory for writes, aligned as the device wants it.
    type Buf: AsMut<[u8]> + AsRef<[u8]> + Send + 'static;

    /// Memory for one write of exactly `bytes` bytes (a multiple of 4096); its content is arbitrary.
    fn alloc(&self, bytes: usize) -> Self::Buf;

    /// The same, for bytes that may be kept for long and may be written from where they are. Any length will do.
    fn alloc_to_keep(&self, bytes: usize) -> Self::Buf;

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

    /// Microseconds since some moment before. Never goes back: for how long things take.
    fn monotonic_us(&self) -> u64;

    /// Makes all of these writes at the same time, each followed by what `then` says for its file: nothing of one waits
    /// for another.
    ///
    /// # Errors
    /// The first failure, as soon as it is known: a sync that failed may have dropped what another write of the same
    /// file left, whose own sync then succeeds, so the caller must know before it acknowledges anything more. The
    /// other writes go on, and their memory is kept until they end.
    fn write(
        &self,
        writes: Vec<FileWrite<Self::File, Self::Buf>>,
        then: Then,
    ) -> impl Future<Output = Result<(), StepError>>;

    /// Makes every write of these files that completed before this call durable, with the metadata needed to read it
    /// back: all files at the same time.
    ///
    /// # Errors
    /// The first failure, as soon as it is known. Never call it again on the same file after an error.
    fn sync(&self, files: Vec<Rc<Self::File>>) -> impl Future<Output = io::Result<()>>;

    /// A number that nobody can guess and no earlier call gave.
    fn random_u64(&self) -> u64;

    /// Waits on the monotonic clock.
    fn sleep(&self, duration: Duration) -> impl Future<Output = ()>;

    /// Runs `task` on this shard until it ends.
    fn spawn(&self, task: impl Future<Output = ()> + 'static);
}

/// One write of one buffer.
///
/// # Errors
/// See [`Io::write`].
pub(crate) async fn write_one<I: Io>(
    io: &I,
    file: &Rc<I::File>,
    at: FilePos,
    buf: I::Buf,
    then: Then,
) -> io::Result<()> {
    let write = FileWrite {
        file: Rc::clone(file),
        at,
        parts: vec![WritePart::Own(buf)],
    };
    io.write(vec![write], then).await.map_err(|error| error.source)
}
