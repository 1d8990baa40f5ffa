//! A bare ring: writes, syncs, completions. With the flags that measured best: one issuer, deferred task work, registered
//! files and buffers, no completion for a write that goes well and has its sync linked to it.

use std::io;
use std::os::fd::AsRawFd;

use io_uring::squeue::Flags;
use io_uring::{IoUring, opcode, squeue, types};

use super::file::{Blocks, ScratchFile};

/// A finished operation.
pub(super) enum Done {
    /// The write of this slot in this lane.
    Write { slot: usize, lane: usize },
    /// The sync of this lane; of one slot, when it was linked to a write.
    Sync { slot: Option<usize>, lane: usize },
}

/// The ring, and the count of completions that are still to come.
pub(super) struct Ring {
    ring: IoUring,
    in_flight: usize,
}

/// Tag: kind (0 write, 1 linked sync, 2 shared sync), lane in 8 bits, slot in 16, bytes of a write in 32.
fn tag(kind: u64, lane: usize, slot: usize, bytes: u32) -> u64 {
    kind | (lane as u64) << 2 | (slot as u64) << 10 | u64::from(bytes) << 32
}

impl Ring {
    /// A ring for up to `operations_max` operations at a time on these files, each with its buffer.
    pub(super) fn new(operations_max: usize, lanes: &[(&ScratchFile, &Blocks)]) -> io::Result<Self> {
        let entries = u32::try_from((2 * operations_max).next_power_of_two()).map_err(io::Error::other)?;
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .build(entries)
            // Kernels before 6.1 know neither.
            .or_else(|_| IoUring::new(entries))?;
        let files: Vec<_> = lanes.iter().map(|(file, _)| file.as_raw_fd()).collect();
        ring.submitter().register_files(&files)?;
        let buffers: Vec<_> = lanes
            .iter()
            .map(|(_, blocks)| libc::iovec {
                iov_base: blocks.as_ptr().cast_mut().cast(),
                iov_len: blocks.bytes() as usize,
            })
            .collect();
        // SAFETY: the buffers belong to the caller of `Run::measure`'s ring, which is drained before they go.
        unsafe { ring.submitter().register_buffers(&buffers)? };
        Ok(Self { ring, in_flight: 0 })
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    fn write_entry(lane: usize, buffer: &Blocks, at: u64, slot: usize) -> squeue::Entry {
        let index = u16::try_from(lane).unwrap_or(u16::MAX);
        opcode::WriteFixed::new(
            types::Fixed(u32::from(index)),
            buffer.as_ptr(),
            buffer.bytes(),
            index,
        )
        .offset(at)
        .build()
        .user_data(tag(0, lane, slot, buffer.bytes()))
    }

    fn sync_entry(lane: usize) -> squeue::Entry {
        opcode::Fsync::new(types::Fixed(u32::try_from(lane).unwrap_or(u32::MAX)))
            .flags(types::FsyncFlags::DATASYNC)
            .build()
    }

    /// Queues a write of the whole buffer. The caller keeps file and buffer until the completion, or until `drain`.
    pub(super) fn write(&mut self, lane: usize, buffer: &Blocks, at: u64, slot: usize) {
        self.push(&[Self::write_entry(lane, buffer, at, slot)], 1);
    }

    /// Queues a write, and a sync linked to it.
    pub(super) fn write_linked(&mut self, lane: usize, buffer: &Blocks, at: u64, slot: usize) {
        let write = Self::write_entry(lane, buffer, at, slot).flags(Flags::IO_LINK | Flags::SKIP_SUCCESS);
        let sync = Self::sync_entry(lane).user_data(tag(1, lane, slot, 0));
        self.push(&[write, sync], 1);
    }

    /// Queues an fdatasync that covers every write of this lane that is done.
    pub(super) fn sync(&mut self, lane: usize) {
        self.push(&[Self::sync_entry(lane).user_data(tag(2, lane, 0, 0))], 1);
    }

    fn push(&mut self, entries: &[squeue::Entry], completions: usize) {
        // SAFETY: the entries name registered files and buffers. `Run` owns both and lets go of neither before `drain`
        // has seen every completion; no one writes to a buffer meanwhile, it is shared and never changed.
        let pushed = unsafe { self.ring.submission().push_multiple(entries) };
        assert!(
            pushed.is_ok(),
            "the ring has an entry for every operation that may be in flight"
        );
        self.in_flight += completions;
    }

    /// Submits what is queued, waits for at least one completion, and takes all that are there.
    pub(super) fn wait(&mut self) -> io::Result<Vec<Done>> {
        self.ring.submit_and_wait(1)?;
        let mut done = Vec::new();
        let mut failure = None;
        for completion in self.ring.completion() {
            self.in_flight = self.in_flight.saturating_sub(1);
            let (tag, result) = (completion.user_data(), completion.result());
            let lane = usize::try_from(tag >> 2 & 0xff).unwrap_or(usize::MAX);
            let slot = usize::try_from(tag >> 10 & 0xffff).unwrap_or(usize::MAX);
            match (tag & 3, u32::try_from(result)) {
                (0, Ok(bytes)) if u64::from(bytes) == tag >> 32 => done.push(Done::Write { slot, lane }),
                (0, Ok(bytes)) => {
                    failure = Some(io::Error::other(format!("short write: {bytes} bytes")));
                }
                (1, Ok(_)) => done.push(Done::Sync {
                    slot: Some(slot),
                    lane,
                }),
                (_, Ok(_)) => done.push(Done::Sync { slot: None, lane }),
                (_, Err(_)) => failure = Some(io::Error::from_raw_os_error(-result)),
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
