//! The simulated machine as the engine sees it: files, directories, the clock.

use std::future::Future;
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use mofka_log::FilePos;

use super::disk::FileId;
use super::executor::SimIo;
use super::names::NameChange;
use super::outcome::{ENOSPC, all_of};
use super::pending::{Op, Value};
use crate::io::{FileWrite, Io, IoDir, IoFile, Pace, Step, StepError, Then};

/// An open simulated file.
pub struct SimFileHandle {
    io: SimIo,
    file: FileId,
}

fn nothing(_: Value) {}

fn place(at: FilePos) -> usize {
    usize::try_from(at.get()).expect("simulated files fit memory")
}

impl SimFileHandle {
    async fn write_at(&self, at: FilePos, buf: Vec<u8>) -> io::Result<()> {
        assert_eq!(
            (place(at) % 4096, buf.len() % 4096),
            (0, 0),
            "direct I/O wants aligned writes"
        );
        let (wanted, at) = (buf.len(), place(at));
        let (number, bytes) = {
            let mut disk = self.io.0.disk.borrow_mut();
            let room = disk.allocate(self.file, at + wanted).saturating_sub(at);
            if room == 0 {
                return Err(ENOSPC.into());
            }
            let mut buf = buf;
            buf.truncate(room);
            let bytes = buf.len();
            (disk.issue_write(self.file, at, buf), bytes)
        };
        self.io
            .op(Op::Write {
                file: self.file,
                number,
                bytes,
                is_short: bytes < wanted,
            })
            .await
            .map(nothing)
    }

    async fn sync(&self) -> io::Result<()> {
        let covered = self.io.0.disk.borrow_mut().issue_sync(self.file);
        self.io
            .op(Op::Sync {
                file: self.file,
                covered,
            })
            .await
            .map(nothing)
    }

    async fn write_then(write: FileWrite<Self, Vec<u8>>, then: Then) -> Result<(), StepError> {
        let failed = |step: Step| move |source: io::Error| StepError { step, source };
        let buf = write
            .parts
            .iter()
            .map(AsRef::as_ref)
            .collect::<Vec<&[u8]>>()
            .concat();
        write
            .file
            .write_at(write.at, buf)
            .await
            .map_err(failed(Step::Write))?;
        match then {
            Then::Sync => write.file.sync().await.map_err(failed(Step::Sync)),
            Then::Nothing => Ok(()),
        }
    }
}

impl IoFile for SimFileHandle {
    async fn read_at(self: &Rc<Self>, at: FilePos, bytes: usize) -> io::Result<Bytes> {
        let read = Op::Read {
            file: self.file,
            at: place(at),
            bytes,
        };
        match self.io.op(read).await? {
            Value::Bytes(bytes) => Ok(Bytes::from(bytes)),
            _ => unreachable!("reading gives bytes"),
        }
    }

    async fn reserve(self: &Rc<Self>, from: FilePos, end: FilePos, _pace: Pace) -> io::Result<()> {
        let (file, from, end) = (self.file, place(from), place(end));
        self.io.changing()?;
        {
            let mut disk = self.io.0.disk.borrow_mut();
            let granted = disk.allocate(file, end);
            if granted < end {
                // As the kernel does: what was given before the room ended stays given.
                disk.issue_reserve(file, granted);
                disk.complete_reserve(file, from..granted);
                return Err(ENOSPC.into());
            }
            disk.issue_reserve(file, end);
        }
        self.io.op(Op::Reserve { file, from, end }).await.map(nothing)
    }

    async fn allocate(self: &Rc<Self>, _from: FilePos, end: FilePos) -> io::Result<()> {
        let (file, end) = (self.file, place(end));
        self.io.op(Op::Allocate { file, end }).await.map(nothing)
    }

    async fn truncate(self: &Rc<Self>, end: FilePos) -> io::Result<()> {
        let file = self.file;
        let number = self.io.0.disk.borrow_mut().issue_truncate(file, place(end));
        self.io.op(Op::Truncate { file, number }).await.map(nothing)
    }

    // The real one asks the kernel on the spot, too.
    async fn size_bytes(&self) -> io::Result<u64> {
        u64::try_from(self.io.0.disk.borrow().size(self.file)).map_err(io::Error::other)
    }
}

impl IoDir for SimIo {
    type File = SimFileHandle;
    type Buf = Vec<u8>;

    fn alloc(&self, bytes: usize) -> Vec<u8> {
        // Memory for writes comes as it is: whoever relies on zeros is found out.
        vec![0xa5; bytes]
    }

    fn alloc_to_keep(&self, bytes: usize) -> Vec<u8> {
        self.alloc(bytes)
    }

    async fn open(&self, path: &Path) -> io::Result<SimFileHandle> {
        self.opened(Op::Open(path.to_path_buf())).await
    }

    async fn create(&self, path: &Path) -> io::Result<SimFileHandle> {
        let (file, number) = self.0.disk.borrow_mut().issue_create(path);
        self.opened(Op::Create { file, number }).await
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (from.to_path_buf(), to.to_path_buf());
        self.rename_or_remove(NameChange::Rename { from, to }).await
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        let path = path.to_path_buf();
        self.rename_or_remove(NameChange::Remove { path }).await
    }

    async fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        match self.op(Op::List(dir.to_path_buf())).await? {
            Value::Names(names) => Ok(names),
            _ => unreachable!("listing gives names"),
        }
    }

    async fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let covered = self.0.disk.borrow().issue_sync_dir(dir);
        let dir = dir.to_path_buf();
        self.op(Op::SyncDir { dir, covered }).await.map(nothing)
    }
}

impl SimIo {
    async fn opened(&self, op: Op) -> io::Result<SimFileHandle> {
        let io = self.clone();
        match self.op(op).await? {
            Value::File(file) => Ok(SimFileHandle { io, file }),
            _ => unreachable!("opening gives a file"),
        }
    }

    async fn rename_or_remove(&self, change: NameChange) -> io::Result<()> {
        let number = self.0.disk.borrow_mut().issue_names(change);
        self.op(Op::Names { number }).await.map(nothing)
    }
}

impl Io for SimIo {
    async fn write(
        &self,
        writes: Vec<FileWrite<SimFileHandle, Vec<u8>>>,
        then: Then,
    ) -> Result<(), StepError> {
        let all = writes
            .into_iter()
            .map(|write| SimFileHandle::write_then(write, then));
        all_of(all.collect()).await
    }

    async fn sync(&self, files: Vec<Rc<SimFileHandle>>) -> io::Result<()> {
        let all = files.into_iter().map(|file| async move { file.sync().await });
        all_of(all.collect()).await
    }

    fn now_us(&self) -> u64 {
        self.0.now_us.get().saturating_add_signed(self.0.skew_us.get())
    }

    fn monotonic_us(&self) -> u64 {
        self.0.now_us.get()
    }

    fn random_u64(&self) -> u64 {
        self.0.random.borrow_mut().number()
    }

    async fn sleep(&self, duration: Duration) {
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let until_us = self.0.now_us.get().saturating_add(us);
        if self.0.immediate {
            // Time stands still while an image is looked at.
            std::future::pending::<()>().await;
        }
        self.op(Op::Sleep { until_us }).await.ok();
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.0.spawned.borrow_mut().push(Box::pin(task));
    }
}
