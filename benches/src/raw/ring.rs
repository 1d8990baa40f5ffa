//! A bare ring: writes, syncs, completions.

use std::io;
use std::os::fd::AsRawFd;

use io_uring::{IoUring, opcode, squeue, types};

use super::file::{Blocks, ScratchFile};

/// A finished operation of a slot.
pub(super) struct Done {
    pub(super) slot: usize,
    /// Bytes written; 0 for a sync.
    pub(super) bytes: u32,
}

/// The ring, and the count of operations that the kernel has not finished.
pub(super) struct Ring {
    ring: IoUring,
    in_flight: usize,
}

/// Set in an operation's tag when it is a sync.
const SYNC: u64 = 1 << 63;
/// The length a write must have been done in is kept beside the slot: `tag = length << 16 | slot`.
const SLOT_BITS: u32 = 16;

impl Ring {
    /// A ring for up to `operations_max` operations at a time.
    pub(super) fn new(operations_max: usize) -> io::Result<Self> {
        let entries = u32::try_from(operations_max.next_power_of_two()).map_err(io::Error::other)?;
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .build(entries)
            // Kernels before 6.1 know neither.
            .or_else(|_| IoUring::new(entries))?;
        Ok(Self { ring, in_flight: 0 })
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Queues a write of the whole buffer. The caller keeps file and buffer until the completion, or until `drain`.
    pub(super) fn write(&mut self, file: &ScratchFile, buffer: &Blocks, at: u64, slot: usize) {
        let fd = types::Fd(file.as_raw_fd());
        let tag = u64::from(buffer.bytes()) << SLOT_BITS | slot as u64;
        self.push(
            &opcode::Write::new(fd, buffer.as_ptr(), buffer.bytes())
                .offset(at)
                .build()
                .user_data(tag),
        );
    }

    /// Queues an fdatasync.
    pub(super) fn sync(&mut self, file: &ScratchFile, slot: usize) {
        let fd = types::Fd(file.as_raw_fd());
        let entry = opcode::Fsync::new(fd).flags(types::FsyncFlags::DATASYNC).build();
        self.push(&entry.user_data(SYNC | slot as u64));
    }

    fn push(&mut self, entry: &squeue::Entry) {
        // SAFETY: the entry names a file and, for a write, a buffer. `Run::measure` owns both and lets go of neither
        // before `drain` has seen every completion; no one writes to a buffer meanwhile, it is shared and never changed.
        let pushed = unsafe { self.ring.submission().push(entry) };
        assert!(
            pushed.is_ok(),
            "the ring has an entry for every operation that may be in flight"
        );
        self.in_flight += 1;
    }

    /// Submits what is queued, waits for at least one completion, and takes all that are there.
    pub(super) fn wait(&mut self) -> io::Result<Vec<Done>> {
        self.ring.submit_and_wait(1)?;
        let mut done = Vec::new();
        let mut failure = None;
        for completion in self.ring.completion() {
            self.in_flight -= 1;
            let (tag, result) = (completion.user_data(), completion.result());
            let expected = if tag & SYNC == 0 { tag >> SLOT_BITS } else { 0 };
            let slot = usize::try_from(tag & ((1 << SLOT_BITS) - 1)).unwrap_or(usize::MAX);
            match u32::try_from(result) {
                Ok(bytes) if u64::from(bytes) == expected => done.push(Done { slot, bytes }),
                Ok(bytes) => {
                    failure = Some(io::Error::other(format!(
                        "short write: {bytes} of {expected} bytes"
                    )))
                }
                Err(_) => failure = Some(io::Error::from_raw_os_error(-result)),
            }
        }
        failure.map_or(Ok(done), Err)
    }

    /// Waits until nothing is in flight.
    pub(super) fn drain(&mut self) {
        while self.in_flight > 0 {
            match self.ring.submit_and_wait(1) {
                Ok(_) => self.in_flight -= self.ring.completion().count(),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                // The kernel may still use our memory, so going on is not an option.
                Err(e) => {
                    eprintln!("Error: cannot wait for the ring: {e}");
                    std::process::abort();
                }
            }
        }
    }
}
