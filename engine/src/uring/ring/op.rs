//! One operation of the ring: what it holds, and what its completions add up to.

use std::any::Any;
use std::io;
use std::rc::Rc;
use std::task::Waker;

use super::super::file::UringFile;
use super::super::flushes::{self, FLUSHES};
use super::super::memory::IoBuf;
use super::super::settled::Device;
use crate::io::{Step, StepError, WritePart};

/// What the kernel works on. It holds everything that the kernel may touch until its last completion.
pub(super) struct Op {
    /// Completions of syncs that are still to come.
    syncs_left: u32,
    /// Completions of reads and writes that are still to come.
    others_left: u32,
    pub(super) outcome: Result<u32, StepError>,
    /// Nobody waits any more.
    pub(super) abandoned: bool,
    pub(super) waker: Option<Waker>,
    /// Of a read.
    pub(super) buf: Option<IoBuf>,
    /// It is to be durable when it ends well.
    is_durable: bool,
    /// How many syncs had failed when it began.
    failed_before: u64,
    held: Held,
}

/// What the kernel reads and writes.
#[derive(Default)]
pub(super) struct Held {
    pub(super) parts: Vec<WritePart<IoBuf>>,
    pub(super) vectors: Vec<Box<[libc::iovec]>>,
    pub(super) files: Vec<Target>,
    #[expect(dead_code, reason = "held, not read")]
    pub(super) other: Option<Box<dyn Any>>,
}

/// A file of an operation.
pub(super) struct Target {
    pub(super) file: Rc<UringFile>,
    /// That are written to it.
    pub(super) bytes: usize,
    /// What the file had when it was opened is settled up to here when the operation ends well.
    pub(super) settles: Option<u64>,
    /// The device of what is written, when its cache is all that a sync has to empty.
    pub(super) quiet_on: Option<Device>,
    /// How many syncs had failed when the oldest write began that this one's sync is for too.
    pub(super) unsynced: Option<u64>,
}

impl Target {
    /// Of a file that is not written.
    pub(super) fn unwritten(file: Rc<UringFile>) -> Self {
        Self {
            file,
            bytes: 0,
            settles: None,
            quiet_on: None,
            unsynced: None,
        }
    }

    /// Of a file that is synced.
    pub(super) fn synced(file: Rc<UringFile>) -> Self {
        let unsynced = file.take_unsynced();
        Self {
            unsynced,
            ..Self::unwritten(file)
        }
    }
}

pub(super) struct Finished {
    /// Bytes read; 0 of other operations.
    pub(super) outcome: Result<u32, StepError>,
    pub(super) buf: Option<IoBuf>,
}

/// What a completion is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Of one operation.
    Sync,
    /// Or a call that gives nothing.
    Read,
    /// With no sync after it, or one that is linked and has a completion in any case.
    Write,
    /// That failed, and its linked sync with it, which has no completion then. (One that goes well has none itself.)
    LinkedWrite,
    /// That a shared sync follows.
    SharingWrite,
    /// That a shared sync of the device follows, when the others of its operation are done too.
    DeviceWrite,
    /// For operations that wait for it. Its place is the number of what has one sync at a time.
    SharedSync,
    /// Of a socket; it has no operation here.
    Poll,
}

/// The place of what nobody waits for.
pub(super) const NOBODY: usize = PLACES - 1;

const PLACES: usize = 1 << 32;

/// What comes back with a completion: its kind (8 bits), which file of the operation (24), the operation's place (32).
pub(super) fn tag(kind: Kind, place: usize, file: usize) -> u64 {
    assert!(
        place < PLACES && file < 1 << 24,
        "file {file} of operation {place}"
    );
    let kind = match kind {
        Kind::Sync => 0,
        Kind::Read => 1,
        Kind::Write => 2,
        Kind::LinkedWrite => 3,
        Kind::SharingWrite => 4,
        Kind::SharedSync => 5,
        Kind::Poll => 6,
        Kind::DeviceWrite => 7,
    };
    kind | (file as u64) << 8 | (place as u64) << 32
}

pub(super) fn untag(tag: u64) -> (Kind, usize, usize) {
    let kind = match tag & 0xff {
        0 => Kind::Sync,
        1 => Kind::Read,
        2 => Kind::Write,
        3 => Kind::LinkedWrite,
        4 => Kind::SharingWrite,
        5 => Kind::SharedSync,
        7 => Kind::DeviceWrite,
        _ => Kind::Poll,
    };
    let place = usize::try_from(tag >> 32).unwrap_or(usize::MAX);
    let file = usize::try_from(tag >> 8 & 0xff_ffff).unwrap_or(usize::MAX);
    (kind, place, file)
}

impl Op {
    pub(super) fn new(syncs: u32, others: u32, buf: Option<IoBuf>, held: Held) -> Self {
        Self {
            syncs_left: syncs,
            others_left: others,
            outcome: Ok(0),
            abandoned: false,
            waker: None,
            buf,
            is_durable: syncs > 0,
            failed_before: FLUSHES.count(),
            held,
        }
    }

    pub(super) fn is_complete(&self) -> bool {
        self.syncs_left == 0 && self.others_left == 0
    }

    /// Whether all is written, and a sync is still to come.
    pub(super) fn is_written(&self) -> bool {
        self.others_left == 0 && self.syncs_left > 0
    }

    /// All of it is complete: what was written without a sync is noted, and what is to be durable is not if a sync of its device failed
    /// since it began, whoever made that.
    pub(super) fn end(&mut self) {
        if self.outcome.is_err() {
            return;
        }
        for target in &self.held.files {
            if !self.is_durable {
                if target.bytes > 0 {
                    target.file.note_unsynced(self.failed_before);
                }
                continue;
            }
            let since = target
                .unsynced
                .map_or(self.failed_before, |unsynced| unsynced.min(self.failed_before));
            if FLUSHES.failed_since(target.file.device(), since) {
                let source = flushes::dropped();
                let step = Step::Sync;
                self.outcome = Err(StepError { step, source });
                return;
            }
        }
    }

    /// It ended well, and somebody knows: what its files had is settled.
    pub(super) fn settle(&self) {
        for target in &self.held.files {
            if let Some(end) = target.settles {
                target.file.settled().settle(0..end);
            }
        }
    }

    /// A file that it names.
    pub(super) fn target(&self, file: usize) -> Option<&Target> {
        self.held.files.get(file)
    }

    /// Notes one completion. `false` when it was a failure.
    pub(super) fn note(&mut self, kind: Kind, result: i32, file: usize) -> bool {
        let (step, expected) = match kind {
            Kind::Sync | Kind::SharedSync => {
                self.syncs_left -= 1;
                (Step::Sync, None)
            }
            Kind::Write | Kind::SharingWrite | Kind::DeviceWrite => {
                self.others_left -= 1;
                (Step::Write, self.target(file).map(|target| target.bytes))
            }
            Kind::LinkedWrite => (Step::Write, self.target(file).map(|target| target.bytes)),
            Kind::Read | Kind::Poll => {
                self.others_left -= 1;
                (Step::Write, None)
            }
        };
        let source = match (u32::try_from(result), expected) {
            (Ok(bytes), Some(expected)) if bytes as usize != expected => {
                let message = format!("only {bytes} of {expected} bytes were written");
                io::Error::new(io::ErrorKind::WriteZero, message)
            }
            (Ok(bytes), _) => {
                if kind == Kind::Read {
                    self.outcome = Ok(bytes);
                }
                return true;
            }
            // The write before it failed or was short, and said so in a completion of its own. Without one, there was no sync.
            (Err(_), _) if kind == Kind::Sync && result == -libc::ECANCELED && self.outcome.is_err() => {
                return true;
            }
            (Err(_), _) => io::Error::from_raw_os_error(-result),
        };
        if kind == Kind::Sync
            && let Some(target) = self.target(file)
        {
            FLUSHES.note(target.file.device(), result);
        }
        match kind {
            // No sync will be for it.
            Kind::LinkedWrite | Kind::SharingWrite => self.syncs_left -= 1,
            Kind::DeviceWrite => self.syncs_left = 0,
            _ => {}
        }
        if self.outcome.is_ok() {
            self.outcome = Err(StepError { step, source });
        }
        false
    }
}
