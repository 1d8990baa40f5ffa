//! Files, directories and the clock on io_uring.

use std::fs::{File, OpenOptions};
use std::future::Future;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use mofka_log::{BLOCK_BYTES, FilePos};

use super::activity::Activity;
use super::memory::IoBuf;
use super::ring::Ring;
use crate::io::{FileWrite, Io, IoDir, IoFile, StepError, Then, WritePart};

/// The machine as a shard sees it. `direct` says whether log files bypass the page cache. Cheap to clone.
#[derive(Clone)]
pub struct UringIo {
    direct: bool,
    ring: Ring,
    activity: Activity,
}

impl UringIo {
    /// Direct I/O, or buffered where the file system has no direct I/O and the configuration allows that. Called on the
    /// shard's executor.
    ///
    /// # Errors
    /// When the kernel gives no ring.
    pub fn start(direct: bool) -> io::Result<Self> {
        let activity = Activity::default();
        Ok(Self {
            direct,
            ring: Ring::start(&activity)?,
            activity,
        })
    }

    /// What the ring looks at before it waits.
    pub(super) fn activity(&self) -> Activity {
        self.activity.clone()
    }
}

/// One open log file.
pub struct UringFile {
    file: File,
    ring: Ring,
}

impl UringFile {
    pub(super) fn fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

impl IoFile for UringFile {
    async fn read_at(self: &Rc<Self>, at: FilePos, bytes: usize) -> io::Result<Bytes> {
        // The device reads whole blocks; what was asked for is the bound.
        let start = at.align_down(BLOCK_BYTES as u64);
        let skip = usize::try_from(at.since(start)).unwrap_or(0);
        let wanted = skip.saturating_add(bytes);
        let read = self
            .ring
            .read(self, start, wanted.next_multiple_of(BLOCK_BYTES))
            .await?;
        let end = wanted.min(read.len());
        Ok(read.slice(skip.min(end)..end))
    }

    async fn reserve(self: &Rc<Self>, from: FilePos, end: FilePos) -> io::Result<()> {
        let file = self.file.try_clone()?;
        let (at, bytes) = (from.get(), end.since(from));
        blocking(move || allocate(&file, at, bytes)).await?;
        // Allocated blocks read as zeros, but the first write of each would change the file system's records of it, and
        // the sync after that would wait for its journal.
        let mut at = from;
        while at < end {
            let bytes = usize::try_from(end.since(at))
                .unwrap_or(usize::MAX)
                .min(ZEROS_BYTES);
            let mut zeros = self.ring.alloc(bytes);
            zeros.as_mut().fill(0);
            let write = FileWrite {
                file: Rc::clone(self),
                at,
                parts: vec![WritePart::Own(zeros)],
            };
            let written = self.ring.write(vec![write], Then::Nothing).await;
            written.map_err(|error| error.source)?;
            at = FilePos::new(at.get() + bytes as u64);
        }
        let synced = self.ring.sync(vec![Rc::clone(self)]).await;
        synced.map_err(|error| error.source)
    }

    async fn truncate(&self, end: FilePos) -> io::Result<()> {
        let file = self.file.try_clone()?;
        blocking(move || file.set_len(end.get())).await
    }

    async fn size_bytes(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }
}

/// Bytes of one write of zeros.
const ZEROS_BYTES: usize = 1 << 20;

/// Allocates space; where the file system cannot, the zeros that are written next do.
fn allocate(file: &File, at: u64, bytes: u64) -> io::Result<()> {
    match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), at, bytes) {
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => Ok(()),
        other => other.map_err(io::Error::from),
    }
}

/// Runs a blocking call of the file system on glommio's helper thread.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    glommio::executor().spawn_blocking(work).await
}

impl UringIo {
    async fn file(&self, path: &Path, create: bool) -> io::Result<UringFile> {
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(true)
            .create(create)
            .truncate(create)
            .mode(0o600);
        if self.direct {
            options.custom_flags(libc::O_DIRECT);
        }
        let path = path.to_path_buf();
        let file = blocking(move || options.open(path)).await?;
        Ok(UringFile {
            file,
            ring: self.ring.clone(),
        })
    }
}

impl IoDir for UringIo {
    type File = UringFile;
    type Buf = IoBuf;

    fn alloc(&self, bytes: usize) -> IoBuf {
        self.ring.alloc(bytes)
    }

    async fn open(&self, path: &Path) -> io::Result<UringFile> {
        self.file(path, false).await
    }

    async fn create(&self, path: &Path) -> io::Result<UringFile> {
        self.file(path, true).await
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (from.to_path_buf(), to.to_path_buf());
        blocking(move || std::fs::rename(from, to)).await
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        let path = path.to_path_buf();
        blocking(move || {
            let removed = if path.is_dir() {
                std::fs::remove_dir_all(&path)
            } else {
                std::fs::remove_file(&path)
            };
            match removed {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                other => other,
            }
        })
        .await
    }

    async fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let dir: PathBuf = dir.to_path_buf();
        blocking(move || {
            std::fs::create_dir_all(&dir)?;
            let mut names = Vec::new();
            for entry in std::fs::read_dir(&dir)? {
                // Names that are not UTF-8 are not ours.
                if let Ok(name) = entry?.file_name().into_string() {
                    names.push(name);
                }
            }
            Ok(names)
        })
        .await
    }

    async fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let dir = dir.to_path_buf();
        blocking(move || File::open(dir)?.sync_all()).await
    }
}

impl Io for UringIo {
    async fn write(&self, writes: Vec<FileWrite<UringFile, IoBuf>>, then: Then) -> Result<(), StepError> {
        self.ring.write(writes, then).await
    }

    async fn sync(&self, files: Vec<Rc<UringFile>>) -> io::Result<()> {
        self.ring.sync(files).await.map_err(|error| error.source)
    }

    fn now_us(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    }

    fn random_u64(&self) -> u64 {
        uuid::Uuid::new_v4().as_u64_pair().1
    }

    async fn sleep(&self, duration: Duration) {
        // In a task of its own, which is polled when the time is over and not before: glommio-ng 0.12 registers a timer
        // anew at every poll and keeps the old ones until they are due, and its reactor looks through all of them at
        // every turn. Beside a busy reader thousands came together, and a fifth of the shard's CPU. The task ends
        // with this future.
        glommio::spawn_local(glommio::timer::sleep(duration)).await;
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        glommio::spawn_local(task).detach();
    }
}
