//! Files, directories and the clock on io_uring.

use std::cell::Cell;
use std::fs::{File, OpenOptions};
use std::future::Future;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_lite::future;
use mofka_log::{BLOCK_BYTES, FilePos};

use super::activity::Activity;
use super::memory::IoBuf;
use super::quiet;
use super::ring::{Ring, ZEROS_BYTES_MAX};
use super::rings::Rings;
use super::settled::{Device, Settled};
use super::watch::Watches;
use crate::fresh;
use crate::io::{FileWrite, Io, IoDir, IoFile, Pace, StepError, Then, WritePart};

/// The machine as a shard sees it. `direct` says whether log files bypass the page cache. Cheap to clone.
#[derive(Clone)]
pub struct UringIo {
    direct: bool,
    ring: Ring,
    activity: Activity,
    watches: Watches,
    rings: Rings,
    started: Instant,
}

impl UringIo {
    /// Direct I/O, or buffered where the file system has no direct I/O and the configuration allows that. Called on the
    /// shard's executor.
    ///
    /// # Errors
    /// When the kernel gives no ring.
    pub fn start(direct: bool) -> io::Result<Self> {
        Self::start_beside(direct, Activity::default())
    }

    /// The same, on a shard that does other things too.
    pub(super) fn start_beside(direct: bool, activity: Activity) -> io::Result<Self> {
        let (watches, rings) = (Watches::default(), Rings::default());
        Ok(Self {
            direct,
            ring: Ring::start(&activity, &watches, &rings)?,
            activity,
            watches,
            rings,
            started: Instant::now(),
        })
    }

    /// The rings in shared memory that are polled while the shard has nothing else to do.
    pub(super) fn rings(&self) -> Rings {
        self.rings.clone()
    }

    /// The sockets that the ring polls.
    pub(super) fn watches(&self) -> Watches {
        self.watches.clone()
    }
}

/// One open log file.
pub struct UringFile {
    file: File,
    /// Where it lies.
    device: Device,
    settled: Settled,
    /// How many syncs had failed when the oldest write began that no sync was for yet.
    unsynced: Cell<Option<u64>>,
    ring: Ring,
    activity: Activity,
}

impl UringFile {
    pub(super) fn fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// Syncs it on the spot: the shard waits.
    pub(super) fn sync_here(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// The device whose syncs concern it.
    pub(super) fn device(&self) -> Device {
        self.device
    }

    /// Something was written without a sync, when so many syncs had failed.
    pub(super) fn note_unsynced(&self, failed: u64) {
        let oldest = self.unsynced.get().map_or(failed, |oldest| oldest.min(failed));
        self.unsynced.set(Some(oldest));
    }

    /// How many had failed when the oldest write began that no sync was for, of which one is about to be.
    pub(super) fn take_unsynced(&self) -> Option<u64> {
        self.unsynced.take()
    }

    /// Which part of it needs no sync of its own.
    pub(super) fn settled(&self) -> &Settled {
        &self.settled
    }

    /// How far what it had when it was opened will be settled by its next sync; said once.
    pub(super) fn see(&self) -> Option<u64> {
        self.settled.see(&self.file)
    }

    /// As if so much of it were settled on a device of this number.
    #[cfg(test)]
    pub(super) fn pretend_settled(mut self, device: u64, bytes: u64) -> Self {
        self.device = device;
        self.settled = Settled::on(Some(device));
        self.settled.settle(0..bytes);
        self
    }

    #[cfg(test)]
    pub(super) fn ring(&self) -> Ring {
        self.ring.clone()
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

    async fn reserve(self: &Rc<Self>, from: FilePos, end: FilePos, pace: Pace) -> io::Result<()> {
        self.allocate(from, end).await?;
        // Allocated blocks read as zeros, but the first write of each would change the file system's records of it, and
        // the sync after that would wait for its journal.
        let mut at = from;
        while at < end {
            match pace {
                Pace::Hurried => {
                    let first = self.zeros(&mut at, end, ZEROS_BYTES_MAX);
                    let second = self.zeros(&mut at, end, ZEROS_BYTES_MAX);
                    let (first, second) = future::zip(first, second).await;
                    first.and(second)?;
                }
                Pace::Gentle => self.zeros(&mut at, end, ZEROS_BYTES_GENTLE).await?,
            }
        }
        let synced = self.ring.sync(vec![Rc::clone(self)]).await;
        synced.map_err(|error| error.source)?;
        self.settled.settle(from.get()..end.get());
        Ok(())
    }

    async fn allocate(self: &Rc<Self>, from: FilePos, end: FilePos) -> io::Result<()> {
        let allocated = self.ring.allocate(self, from.get(), end.since(from)).await;
        // Where the file system cannot, what is written next does.
        allocated.or_else(|error| match error.raw_os_error() {
            Some(libc::EOPNOTSUPP) => Ok(()),
            _ => Err(error),
        })
    }

    async fn truncate(self: &Rc<Self>, end: FilePos) -> io::Result<()> {
        self.settled.cut(end.get());
        match self.ring.truncate(self, end.get()).await {
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {}
            other => return other,
        }
        let file = self.file.try_clone()?;
        blocking(&self.activity, move || file.set_len(end.get())).await
    }

    async fn size_bytes(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }
}

/// Bytes of one write of zeros that is to disturb little.
const ZEROS_BYTES_GENTLE: usize = 256 << 10;

impl UringFile {
    /// Writes some zeros at `at`, and moves it on; nothing when it is at the end.
    fn zeros(
        self: &Rc<Self>,
        at: &mut FilePos,
        end: FilePos,
        most: usize,
    ) -> impl Future<Output = io::Result<()>> + use<> {
        let (file, from) = (Rc::clone(self), *at);
        let bytes = usize::try_from(end.since(from)).unwrap_or(usize::MAX).min(most);
        *at = FilePos::new(from.get() + bytes as u64);
        async move {
            if bytes == 0 {
                return Ok(());
            }
            let write = FileWrite {
                file: Rc::clone(&file),
                at: from,
                parts: vec![WritePart::InPlace(file.ring.zeros(bytes))],
            };
            let written = file.ring.write(vec![write], Then::Nothing).await;
            written.map_err(|error| error.source)
        }
    }
}

/// Runs a blocking call of the file system on glommio's helper thread.
async fn blocking<T: Send + 'static>(
    activity: &Activity,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let _expecting = activity.expect();
    glommio::executor().spawn_blocking(work).await
}

impl UringIo {
    async fn file(&self, path: &Path, create: bool) -> io::Result<UringFile> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).mode(0o600);
        if self.direct {
            options.custom_flags(libc::O_DIRECT);
        }
        let direct = self.direct;
        let (dir, path) = (path.parent().map(Path::to_path_buf), path.to_path_buf());
        let (file, device, settled) = blocking(&self.activity, move || {
            let file = match create {
                true => fresh::create(&mut options, &path)?,
                false => options.open(path)?,
            };
            let device = file.metadata()?.dev();
            let settled = match direct {
                true => Settled::of(&file, device),
                false => Settled::on(None),
            };
            Ok((file, device, settled))
        })
        .await?;
        if let (Some(device), Some(dir)) = (settled.lies_on(), dir)
            && !self.ring.knows_quiet(device)
        {
            let made = blocking(&self.activity, move || quiet::make(&dir)).await;
            if let Err(error) = &made {
                tracing::debug!(%error, "syncs are made by the files of the logs");
            }
            self.ring.add_quiet(device, made.ok());
        }
        Ok(UringFile {
            file,
            device,
            settled,
            unsynced: Cell::new(None),
            ring: self.ring.clone(),
            activity: self.activity.clone(),
        })
    }
}

impl IoDir for UringIo {
    type File = UringFile;
    type Buf = IoBuf;

    fn alloc(&self, bytes: usize) -> IoBuf {
        self.ring.alloc(bytes)
    }

    fn alloc_to_keep(&self, bytes: usize) -> IoBuf {
        self.ring.alloc_to_keep(bytes)
    }

    async fn open(&self, path: &Path) -> io::Result<UringFile> {
        self.file(path, false).await
    }

    async fn create(&self, path: &Path) -> io::Result<UringFile> {
        self.file(path, true).await
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.ring.rename(from, to).await
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        match self.ring.unlink(path).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
                let path = path.to_path_buf();
                blocking(&self.activity, move || std::fs::remove_dir_all(path)).await
            }
            other => other,
        }
    }

    async fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let dir: PathBuf = dir.to_path_buf();
        blocking(&self.activity, move || {
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
        self.ring.sync_dir(dir).await
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

    fn monotonic_us(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
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
