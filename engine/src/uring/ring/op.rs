//! One operation of the ring: what it holds, and what its completions add up to.

use std::any::Any;
use std::io;
use std::rc::Rc;
use std::task::Waker;

use super::super::file::UringFile;
use super::super::memory::IoBuf;
use crate::io::{Step, StepError, WritePart};

/// What the kernel works on. It holds everything that the kernel may touch until its last completion.
pub(super) struct Op {
    /// Completions of syncs that are still to come.
    syncs_left: u32,
    /// Completions of reads and writes that are still to come. Less than 0 in between, when that of a write that failed
    /// comes before that of the sync which is cancelled for it.
    others_left: i32,
    /// Only writes that failed have a completion.
    skip_success: bool,
    pub(super) outcome: Result<u32, StepError>,
    /// Nobody waits any more.
    pub(super) abandoned: bool,
    pub(super) waker: Option<Waker>,
    /// Of a read.
    pub(super) buf: Option<IoBuf>,
    _held: Held,
}

/// Held and not read: the kernel does that.
#[derive(Default)]
pub(super) struct Held {
    pub(super) parts: Vec<WritePart<IoBuf>>,
    pub(super) vectors: Vec<Box<[libc::iovec]>>,
    pub(super) files: Vec<Rc<UringFile>>,
    #[expect(dead_code, reason = "held, not read")]
    pub(super) other: Option<Box<dyn Any>>,
}

pub(super) struct Finished {
    /// Bytes read; 0 of other operations.
    pub(super) outcome: Result<u32, StepError>,
    pub(super) buf: Option<IoBuf>,
}

/// What a completion is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Sync,
    /// Or a call that gives nothing.
    Read,
    Write,
    /// Of a socket; it has no operation here.
    Poll,
}

/// The place of what nobody waits for.
pub(super) const NOBODY: usize = (1 << 30) - 1;

/// What comes back with a completion: its kind (2 bits), the operation's place (30), the bytes of a write (32).
pub(super) fn tag(kind: Kind, place: usize, bytes: usize) -> u64 {
    assert!(
        place < 1 << 30 && bytes < 1 << 32,
        "operation {place} of {bytes} bytes"
    );
    let kind = match kind {
        Kind::Sync => 0,
        Kind::Read => 1,
        Kind::Write => 2,
        Kind::Poll => 3,
    };
    kind | (place as u64) << 2 | (bytes as u64) << 32
}

pub(super) fn untag(tag: u64) -> (Kind, usize, u64) {
    let kind = match tag & 3 {
        0 => Kind::Sync,
        1 => Kind::Read,
        2 => Kind::Write,
        _ => Kind::Poll,
    };
    let place = usize::try_from(tag >> 2 & ((1 << 30) - 1)).unwrap_or(usize::MAX);
    (kind, place, tag >> 32)
}

impl Op {
    pub(super) fn new(syncs: u32, others: u32, skip_success: bool, buf: Option<IoBuf>, held: Held) -> Self {
        Self {
            syncs_left: syncs,
            others_left: i32::try_from(others).unwrap_or(i32::MAX),
            skip_success,
            outcome: Ok(0),
            abandoned: false,
            waker: None,
            buf,
            _held: held,
        }
    }

    pub(super) fn is_complete(&self) -> bool {
        self.syncs_left == 0 && self.others_left == 0
    }

    /// Notes one completion.
    pub(super) fn note(&mut self, kind: Kind, result: i32, expected: u64) {
        let step = match kind {
            Kind::Sync => {
                self.syncs_left -= 1;
                Step::Sync
            }
            Kind::Read | Kind::Write | Kind::Poll => {
                self.others_left -= 1;
                Step::Write
            }
        };
        let source = match (kind, u32::try_from(result)) {
            (Kind::Write, Ok(bytes)) if u64::from(bytes) != expected => {
                let message = format!("only {bytes} of {expected} bytes were written");
                io::Error::new(io::ErrorKind::WriteZero, message)
            }
            (Kind::Read, Ok(bytes)) => {
                self.outcome = Ok(bytes);
                return;
            }
            (_, Ok(_)) => return,
            (Kind::Sync, Err(_)) if result == -libc::ECANCELED => {
                // The write before it failed or was short, and says so in a completion of its own.
                if self.skip_success {
                    self.others_left += 1;
                }
                return;
            }
            (_, Err(_)) => io::Error::from_raw_os_error(-result),
        };
        if self.outcome.is_ok() {
            self.outcome = Err(StepError { step, source });
        }
    }
}
