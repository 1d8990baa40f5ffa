//! Calls of the file system through the ring: the kernel's workers make them, and the shard is woken as by a write. (The
//! runtime's helper thread would do too, but its answers are seen only when the runtime looks, up to 2 ms late.)

use std::any::Any;
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::rc::Rc;

use io_uring::{opcode, squeue, types};

use super::super::file::UringFile;
use super::super::flushes::FLUSHES;
use super::Ring;
use super::op::{Held, Kind, Op, tag};

const HERE: types::Fd = types::Fd(libc::AT_FDCWD);

impl Ring {
    /// Renames over whatever has the new name.
    pub(in crate::uring) async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (c_path(from)?, c_path(to)?);
        let entry = opcode::RenameAt::new(HERE, from.as_ptr(), HERE, to.as_ptr()).build();
        self.call(entry, Box::new((from, to))).await
    }

    /// Removes a name that is not a directory's.
    pub(in crate::uring) async fn unlink(&self, path: &Path) -> io::Result<()> {
        let path = c_path(path)?;
        let entry = opcode::UnlinkAt::new(HERE, path.as_ptr()).build();
        self.call(entry, Box::new(path)).await
    }

    /// Allocates blocks.
    pub(in crate::uring) async fn allocate(
        &self,
        file: &Rc<UringFile>,
        at: u64,
        bytes: u64,
    ) -> io::Result<()> {
        let entry = opcode::Fallocate::new(types::Fd(file.fd()), bytes)
            .offset(at)
            .build();
        self.call(entry, Box::new(Rc::clone(file))).await
    }

    /// Sets a file's size. Linux 6.9 or later; `InvalidInput` before.
    pub(in crate::uring) async fn truncate(&self, file: &Rc<UringFile>, end: u64) -> io::Result<()> {
        let entry = opcode::Ftruncate::new(types::Fd(file.fd()), end).build();
        self.call(entry, Box::new(Rc::clone(file))).await
    }

    /// Makes changes of names in a directory durable.
    pub(in crate::uring) async fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let dir = File::open(dir)?;
        let device = dir.metadata()?.dev();
        let entry = opcode::Fsync::new(types::Fd(dir.as_raw_fd())).build();
        let synced = self.call(entry, Box::new(dir)).await;
        if let Err(error) = &synced {
            FLUSHES.note(device, -error.raw_os_error().unwrap_or(libc::EIO));
        }
        synced
    }

    /// `held`: everything that the entry names.
    async fn call(&self, entry: squeue::Entry, held: Box<dyn Any>) -> io::Result<()> {
        self.room(1).await?;
        let place = {
            let mut inner = self.0.borrow_mut();
            let place = inner.operations.place();
            let held = Held {
                other: Some(held),
                ..Held::default()
            };
            let entry = entry.user_data(tag(Kind::Read, place, 0));
            inner.launch(place, &[entry], Op::new(0, 1, None, held));
            place
        };
        let outcome = self.finish(place).await.outcome;
        outcome.map(|_| ()).map_err(|error| error.source)
    }
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)
}
