//! Operations that are under way, and what happens when they take place.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::disk::{Disk, FileId};
use super::executor::SimIo;
use super::faults::{Fault, Operation};
use super::outcome::{EIO, EMFILE, ENOENT, ENOSPC, Failure};

/// What an operation gives.
pub(super) enum Value {
    Nothing,
    File(FileId),
    Bytes(Vec<u8>),
    Names(Vec<String>),
}

type Outcome = Result<Value, Failure>;

/// What is asked of the machine.
pub(super) enum Op {
    Write {
        file: FileId,
        number: u64,
        bytes: usize,
        /// The disk had no room for the rest.
        is_short: bool,
    },
    Sync {
        file: FileId,
        covered: Vec<u64>,
    },
    Reserve {
        file: FileId,
        from: usize,
        end: usize,
    },
    SyncDir {
        dir: PathBuf,
        covered: Vec<u64>,
    },
    Sleep {
        until_us: u64,
    },
    Read {
        file: FileId,
        at: usize,
        bytes: usize,
    },
    Open(PathBuf),
    Create {
        file: FileId,
        number: u64,
    },
    /// A rename or a removal.
    Names {
        number: u64,
    },
    List(PathBuf),
    Truncate {
        file: FileId,
        number: u64,
    },
    Allocate {
        file: FileId,
        end: usize,
    },
    /// It took place: others see what happened, and whoever asked for it is not told yet.
    Told(Outcome),
}

impl Op {
    /// Whether it does on a quick machine, too.
    pub(super) fn always_takes_time(&self) -> bool {
        matches!(
            self,
            Self::Write { .. }
                | Self::Sync { .. }
                | Self::Reserve { .. }
                | Self::SyncDir { .. }
                | Self::Sleep { .. }
        )
    }

    /// Whether others can see what happened, or what was found can pass, before whoever asked is told.
    pub(super) fn is_told_late(&self) -> bool {
        matches!(
            self,
            Self::Open(_)
                | Self::Create { .. }
                | Self::Names { .. }
                | Self::Truncate { .. }
                | Self::Allocate { .. }
        )
    }

    /// The process is killed, and the kernel finishes it.
    pub(super) fn happens(&self, disk: &mut Disk) {
        match self {
            Self::Write { file, number, .. } => disk.complete_write(*file, *number),
            Self::Sync { file, covered } => disk.complete_sync(*file, covered),
            // Nobody is left to be told that it fails.
            Self::SyncDir { dir, covered } => disk.complete_sync_dir(dir, covered).unwrap_or(()),
            Self::Create { number, .. } | Self::Names { number } => {
                disk.complete_names(*number).unwrap_or(());
            }
            Self::Truncate { file, number } => disk.complete_truncate(*file, *number),
            Self::Reserve { .. }
            | Self::Sleep { .. }
            | Self::Read { .. }
            | Self::Open(_)
            | Self::List(_)
            | Self::Allocate { .. }
            | Self::Told(_) => {}
        }
    }

    /// For tests that wait until something is under way.
    fn describe(&self, disk: &Disk) -> String {
        match self {
            Self::Write { .. } => "write".to_owned(),
            Self::Sync { .. } => "sync".to_owned(),
            Self::Reserve { .. } => "reserve".to_owned(),
            Self::SyncDir { dir, .. } => format!("sync {}", dir.display()),
            Self::Sleep { .. } => "sleep".to_owned(),
            Self::Read { .. } => "read".to_owned(),
            Self::Open(path) => format!("open {}", path.display()),
            Self::Create { number, .. } | Self::Names { number } => disk.names_in_flight(*number),
            Self::List(dir) => format!("list {}", dir.display()),
            Self::Truncate { .. } => "truncate".to_owned(),
            Self::Allocate { .. } => "allocate".to_owned(),
            Self::Told(_) => "told".to_owned(),
        }
    }
}

/// An operation that somebody waits for.
pub(super) struct Pending {
    pub(super) op: Op,
    pub(super) done: Rc<Cell<Option<Outcome>>>,
}

impl SimIo {
    /// What has been asked for and did not happen yet, a line each: `truncate`, `rename /p/a to /p/b`, and so on.
    pub fn under_way(&self) -> Vec<String> {
        let disk = self.0.disk.borrow();
        let pending = self.0.pending.borrow();
        pending.iter().map(|pending| pending.op.describe(&disk)).collect()
    }

    /// It happens, or meets a fault.
    pub(super) fn take_place(&self, op: &Op) -> Outcome {
        let nothing = |()| Value::Nothing;
        let disk = &self.0.disk;
        match op {
            Op::Write {
                file,
                number,
                bytes,
                is_short,
            } => self.end_write(*file, *number, *bytes, *is_short).map(nothing),
            Op::Sync { file, covered } => self.end_sync(*file, covered).map(nothing),
            Op::SyncDir { dir, covered } => self.end_sync_dir(dir, covered).map(nothing),
            Op::Sleep { until_us } => {
                self.0.now_us.set((*until_us).max(self.0.now_us.get()));
                Ok(Value::Nothing)
            }
            Op::Reserve { file, from, end } => {
                disk.borrow_mut().complete_reserve(*file, *from..*end);
                Ok(Value::Nothing)
            }
            Op::Read { file, at, bytes } => match self.draw(Operation::Read) {
                Some(Fault::ReadError) => Err(EIO),
                _ => Ok(Value::Bytes(disk.borrow().read(*file, *at, *bytes))),
            },
            Op::Open(path) => {
                self.opening()?;
                let found = disk.borrow().find(path);
                found.map(Value::File).ok_or(ENOENT)
            }
            Op::Create { file, number } => {
                let file = *file;
                self.opening()
                    .inspect_err(|_| disk.borrow_mut().drop_names(*number))?;
                let created = disk.borrow_mut().complete_names(*number);
                created.map(|()| Value::File(file))
            }
            Op::Names { number } => {
                self.changing()
                    .inspect_err(|_| disk.borrow_mut().drop_names(*number))?;
                disk.borrow_mut().complete_names(*number).map(nothing)
            }
            Op::List(dir) => Ok(Value::Names(disk.borrow_mut().list(dir))),
            Op::Truncate { file, number } => {
                self.changing()
                    .inspect_err(|_| disk.borrow_mut().drop_truncate(*file, *number))?;
                disk.borrow_mut().complete_truncate(*file, *number);
                Ok(Value::Nothing)
            }
            Op::Allocate { file, end } => {
                self.changing()?;
                match disk.borrow_mut().allocate(*file, *end) {
                    granted if granted < *end => Err(ENOSPC),
                    _ => Ok(Value::Nothing),
                }
            }
            Op::Told(_) => unreachable!("it took place"),
        }
    }

    fn end_write(&self, file: FileId, number: u64, bytes: usize, is_short: bool) -> Result<(), Failure> {
        let fault = self.draw(Operation::Write);
        let mut disk = self.0.disk.borrow_mut();
        let mut faults = self.0.faults.borrow_mut();
        match fault {
            Some(Fault::WriteError) => {
                disk.complete_torn(file, number, faults.random());
                return Err(EIO);
            }
            Some(Fault::ShortWrite) => {
                let written = faults.random().place(bytes / 512) * 512;
                disk.complete_short(file, number, written);
                return Err(Failure::Short {
                    written,
                    wanted: bytes,
                });
            }
            Some(Fault::LostWrite) => disk.lose_write(file, number),
            Some(Fault::MisdirectedWrite) => disk.misdirect_write(file, number, faults.random()),
            _ => disk.complete_write(file, number),
        }
        if is_short {
            return Err(Failure::Short {
                written: bytes,
                wanted: bytes + 4096,
            });
        }
        Ok(())
    }

    fn end_sync(&self, file: FileId, covered: &[u64]) -> Result<(), Failure> {
        let fault = self.draw(Operation::Sync);
        let mut disk = self.0.disk.borrow_mut();
        if fault == Some(Fault::SyncError) {
            disk.fail_sync(file, covered, self.0.faults.borrow_mut().random());
            return Err(EIO);
        }
        disk.complete_sync(file, covered);
        Ok(())
    }

    fn end_sync_dir(&self, dir: &Path, covered: &[u64]) -> Result<(), Failure> {
        match self.draw(Operation::SyncDir) {
            Some(Fault::SyncDirError) => Err(EIO),
            Some(Fault::LostSyncDir) => Ok(()),
            _ => self.0.disk.borrow_mut().complete_sync_dir(dir, covered),
        }
    }

    /// A truncation, a rename or a removal is about to be made, or room to be taken.
    pub(super) fn changing(&self) -> Result<(), Failure> {
        match self.draw(Operation::Change) {
            Some(Fault::ChangeError) => Err(EIO),
            _ => Ok(()),
        }
    }

    fn opening(&self) -> Result<(), Failure> {
        match self.draw(Operation::Open) {
            Some(Fault::OpenError) => Err(EMFILE),
            _ => Ok(()),
        }
    }
}
