//! Files, directories and the clock on io_uring.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use glommio::GlommioError;
use glommio::io::{BufferedFile, Directory, DmaBuffer, DmaFile, OpenOptions};
use mofka_log::FilePos;

use crate::io::{Io, IoDir, IoFile};

/// The machine as a shard sees it. `direct` says whether log files bypass the page cache.
#[derive(Clone, Copy, Debug)]
pub struct UringIo {
    direct: bool,
}

impl UringIo {
    /// Direct I/O, or buffered where the file system has no direct I/O and the configuration allows that.
    pub fn new(direct: bool) -> Self {
        Self { direct }
    }
}

/// One open log file.
pub enum UringFile {
    /// Bypasses the page cache.
    Direct(DmaFile),
    /// Through the page cache, for file systems without direct I/O.
    Buffered(BufferedFile),
}

fn plain<T>(error: GlommioError<T>) -> io::Error {
    io::Error::from(error)
}

impl IoFile for UringFile {
    type Buf = DmaBuffer;

    async fn write_at(&self, at: FilePos, buf: DmaBuffer) -> io::Result<()> {
        let wanted = buf.len();
        let written = match self {
            Self::Direct(file) => file.write_at(buf, at.get()).await.map_err(plain)?,
            Self::Buffered(file) => file
                .write_at(buf.as_bytes().to_vec(), at.get())
                .await
                .map_err(plain)?,
        };
        if written == wanted {
            return Ok(());
        }
        let message = format!("only {written} of {wanted} bytes were written (is the disk full?)");
        Err(io::Error::new(io::ErrorKind::WriteZero, message))
    }

    async fn read_at(&self, at: FilePos, bytes: usize) -> io::Result<Bytes> {
        let read = match self {
            Self::Direct(file) => file.read_at(at.get(), bytes).await.map_err(plain)?,
            Self::Buffered(file) => file.read_at(at.get(), bytes).await.map_err(plain)?,
        };
        // A direct read past the end of the file may bring padding; what was asked for is the bound.
        Ok(Bytes::copy_from_slice(
            read.get(..bytes.min(read.len())).unwrap_or_default(),
        ))
    }

    async fn sync(&self) -> io::Result<()> {
        match self {
            Self::Direct(file) => file.fdatasync().await.map_err(plain),
            Self::Buffered(file) => file.fdatasync().await.map_err(plain),
        }
    }

    async fn truncate(&self, end: FilePos) -> io::Result<()> {
        match self {
            Self::Direct(file) => file.truncate(end.get()).await.map_err(plain),
            Self::Buffered(file) => file.truncate(end.get()).await.map_err(plain),
        }
    }

    async fn size_bytes(&self) -> io::Result<u64> {
        match self {
            Self::Direct(file) => file.file_size().await.map_err(plain),
            Self::Buffered(file) => file.file_size().await.map_err(plain),
        }
    }

    async fn close(self: Rc<Self>) {
        // Somebody still reading keeps it open; the last reference closes it then.
        if let Ok(file) = Rc::try_unwrap(self) {
            let closed = match file {
                Self::Direct(file) => file.close().await,
                Self::Buffered(file) => file.close().await,
            };
            if let Err(error) = closed {
                tracing::debug!(%error, "closing a file");
            }
        }
    }
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
            options.dma_open(path).await.map(UringFile::Direct).map_err(plain)
        } else {
            options
                .buffered_open(path)
                .await
                .map(UringFile::Buffered)
                .map_err(plain)
        }
    }
}

/// Runs a blocking call of the file system on glommio's helper thread.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    glommio::executor().spawn_blocking(work).await
}

impl IoDir for UringIo {
    type File = UringFile;
    type Buf = DmaBuffer;

    fn alloc(&self, bytes: usize) -> DmaBuffer {
        glommio::allocate_dma_buffer(bytes)
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
        let directory = Directory::open(dir).await.map_err(plain)?;
        directory.sync().await.map_err(plain)?;
        directory.close().await.map_err(plain)
    }
}

impl Io for UringIo {
    fn now_us(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    }

    fn random_u64(&self) -> u64 {
        uuid::Uuid::new_v4().as_u64_pair().1
    }

    async fn sleep(&self, duration: Duration) {
        glommio::timer::sleep(duration).await;
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        glommio::spawn_local(task).detach();
    }
}
