//! The ring that log files are written, synced and read through: one for each shard, on the shard's own thread.
//!
//! Beside the runtime's rings, because these operations need what the runtime does not offer: a write and the sync after
//! it are *linked*, so that a durable write costs one wake-up, and no completion is posted for a write that went well.
//! A task of the shard waits for completions in the ring itself. Figures: `docs/decisions/0002-write-path.md`.

mod attend;
mod call;
mod op;

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use io_uring::squeue::Flags;
use io_uring::{IoUring, opcode, squeue, types};
use mofka_log::FilePos;

use attend::Looker;
use op::{Finished, Held, Kind, NOBODY, Op, tag, untag};

use super::activity::Activity;
use super::file::UringFile;
use super::memory::{IoBuf, Pool};
use super::watch::{Change, Watches};
use crate::io::{FileWrite, Step, StepError, Then, WritePart};

/// Entries of the submission queue; what is beyond is submitted earlier.
const ENTRIES: u32 = 256;
/// Threads of the kernel that make syncs and calls of the file system for a shard at the same time, at most. Said, because
/// the kernel takes the size of the thread's first ring otherwise: the runtime's, which probes with a ring of two entries.
const WORKERS_MAX: u32 = 16;
/// Memory registered for writes.
const REGION_BYTES: usize = 16 << 20;
/// Memory of reads and of large writes that is kept for reuse.
const KEPT_BYTES_MAX: usize = 16 << 20;
/// The only registered buffer.
const REGION_INDEX: u16 = 0;

/// One shard's ring. Cheap to clone.
#[derive(Clone)]
pub(super) struct Ring(Rc<RefCell<Inner>>);

struct Inner {
    ring: IoUring,
    pool: Pool,
    slots: Vec<Slot>,
    free: Vec<usize>,
    /// Writes from the pool's region need no pinning.
    registered: bool,
    /// No completion comes for a write that went well and has a sync after it.
    skip_success: bool,
    in_flight: usize,
    /// Its task, while that sleeps and is to be woken; awake, it looks at the ring at every turn.
    attendant: Option<Waker>,
    /// Polled while the shard waits here.
    watches: Watches,
    activity: Activity,
}

enum Slot {
    Free,
    Busy(Op),
    Done(Finished),
}

impl Ring {
    /// Makes the ring, and starts the task that waits for its completions. Called on the shard's executor.
    ///
    /// # Errors
    /// What the kernel said.
    pub(super) fn start(activity: &Activity, watches: &Watches) -> io::Result<Self> {
        let ring = IoUring::builder()
            .setup_cqsize(ENTRIES * 4)
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .build(ENTRIES)
            // Kernels before 6.1 do not know these.
            .or_else(|_| IoUring::builder().setup_cqsize(ENTRIES * 4).build(ENTRIES))?;
        let pool = Pool::new(REGION_BYTES, KEPT_BYTES_MAX)?;
        let registered = register(&ring, &pool);
        let mut workers = [WORKERS_MAX, WORKERS_MAX];
        if let Err(error) = ring.submitter().register_iowq_max_workers(&mut workers) {
            tracing::debug!(%error, "syncs may wait for each other (Linux 5.15 lets us say how many may run)");
        }
        let skip_success = ring.params().is_feature_skip_cqe_on_success();
        let inner = Rc::new(RefCell::new(Inner {
            ring,
            pool,
            slots: Vec::new(),
            free: Vec::new(),
            registered,
            skip_success,
            in_flight: 0,
            attendant: None,
            watches: watches.clone(),
            activity: activity.clone(),
        }));
        glommio::spawn_local(attend::attend(Rc::downgrade(&inner), Looker::new()?)).detach();
        Ok(Self(inner))
    }

    /// Memory for writes.
    pub(super) fn alloc(&self, bytes: usize) -> IoBuf {
        self.0.borrow().pool.take(bytes)
    }

    /// Memory for what is kept: the region is for writes.
    pub(super) fn alloc_to_keep(&self, bytes: usize) -> IoBuf {
        self.0.borrow().pool.take_from_heap(bytes)
    }

    /// Makes all of these writes at the same time, and after each of them what `then` says.
    pub(super) async fn write(
        &self,
        writes: Vec<FileWrite<UringFile, IoBuf>>,
        then: Then,
    ) -> Result<(), StepError> {
        let place = self.0.borrow_mut().begin_write(writes, then)?;
        self.finish(place).await.outcome.map(|_| ())
    }

    /// Syncs these files at the same time.
    pub(super) async fn sync(&self, files: Vec<Rc<UringFile>>) -> Result<(), StepError> {
        let place = self.0.borrow_mut().begin_sync(files)?;
        self.finish(place).await.outcome.map(|_| ())
    }

    /// Reads `bytes` bytes at `at`, both as the device wants them; fewer at the end of the file.
    pub(super) async fn read(&self, file: &Rc<UringFile>, at: FilePos, bytes: usize) -> io::Result<Bytes> {
        let place = self.0.borrow_mut().begin_read(file, at, bytes)?;
        let finished = self.finish(place).await;
        let read = finished.outcome.map_err(|error| error.source)?;
        let read = usize::try_from(read).unwrap_or(usize::MAX).min(bytes);
        Ok(finished
            .buf
            .map_or_else(Bytes::new, |buf| Bytes::from_owner(buf).slice(..read)))
    }

    fn finish(&self, place: usize) -> Completion {
        let woken = self.0.borrow_mut().launched();
        wake(woken);
        Completion {
            inner: Rc::clone(&self.0),
            place,
            ended: false,
        }
    }
}

/// Registers the pool's region. Not being allowed to costs CPU and nothing else.
fn register(ring: &IoUring, pool: &Pool) -> bool {
    let Some((start, bytes)) = pool.region() else {
        return false;
    };
    let region = libc::iovec {
        iov_base: start.cast(),
        iov_len: bytes,
    };
    // SAFETY: the region stays mapped for as long as the pool, which lives beside the ring in `Inner`; its `Drop` waits
    // until the kernel is done with it.
    let outcome = unsafe { ring.submitter().register_buffers(&[region]) };
    if let Err(error) = &outcome {
        tracing::debug!(%error, "memory for writes could not be registered (ulimit -l): it is pinned for each write");
    }
    outcome.is_ok()
}

fn wake(wakers: Vec<Waker>) {
    wakers.into_iter().for_each(Waker::wake);
}

impl Inner {
    fn begin_write(
        &mut self,
        writes: Vec<FileWrite<UringFile, IoBuf>>,
        then: Then,
    ) -> Result<usize, StepError> {
        let count = writes.len();
        let mut held = Held::default();
        let place = self.place();
        let mut entries = Vec::with_capacity(2 * count);
        for write in writes {
            let fd = types::Fd(write.file.fd());
            let bytes: usize = write.parts.iter().map(|part| part.as_ref().len()).sum();
            let tag = tag(Kind::Write, place, bytes);
            let entry = self.write_entry(fd, write.at, &write.parts, &mut held.vectors);
            let entry = entry.user_data(tag);
            if then == Then::Sync {
                let skip = if self.skip_success {
                    Flags::SKIP_SUCCESS
                } else {
                    Flags::empty()
                };
                entries.push(entry.flags(Flags::IO_LINK | skip));
                entries.push(sync_entry(fd, place));
            } else {
                entries.push(entry);
            }
            held.parts.extend(write.parts);
            held.files.push(write.file);
        }
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let (syncs, skip) = match then {
            Then::Sync => (count, self.skip_success),
            Then::Nothing => (0, false),
        };
        let others = if skip { 0 } else { count };
        self.launch(place, &entries, Op::new(syncs, others, skip, None, held))
    }

    fn write_entry(
        &self,
        fd: types::Fd,
        at: FilePos,
        parts: &[WritePart<IoBuf>],
        vectors: &mut Vec<Box<[libc::iovec]>>,
    ) -> squeue::Entry {
        if let [WritePart::Own(buf)] = parts {
            let bytes = buf.as_ref();
            let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            return if self.registered && buf.in_region() {
                opcode::WriteFixed::new(fd, bytes.as_ptr(), length, REGION_INDEX)
                    .offset(at.get())
                    .build()
            } else {
                opcode::Write::new(fd, bytes.as_ptr(), length)
                    .offset(at.get())
                    .build()
            };
        }
        let vector = parts.iter().map(|part| {
            let bytes = part.as_ref();
            libc::iovec {
                iov_base: bytes.as_ptr().cast_mut().cast(),
                iov_len: bytes.len(),
            }
        });
        let vector: Box<[libc::iovec]> = vector.collect();
        let count = u32::try_from(vector.len()).unwrap_or(u32::MAX);
        let entry = opcode::Writev::new(fd, vector.as_ptr(), count)
            .offset(at.get())
            .build();
        vectors.push(vector);
        entry
    }

    fn begin_sync(&mut self, files: Vec<Rc<UringFile>>) -> Result<usize, StepError> {
        let place = self.place();
        let entries: Vec<_> = files
            .iter()
            .map(|file| sync_entry(types::Fd(file.fd()), place))
            .collect();
        let count = u32::try_from(entries.len()).unwrap_or(u32::MAX);
        let held = Held {
            files,
            ..Held::default()
        };
        self.launch(place, &entries, Op::new(count, 0, false, None, held))
    }

    fn begin_read(&mut self, file: &Rc<UringFile>, at: FilePos, bytes: usize) -> io::Result<usize> {
        let place = self.place();
        // Not from the region: what was read may be kept for long, and writes need the region.
        let mut buf = self.pool.take_from_heap(bytes);
        let length = u32::try_from(bytes).map_err(io::Error::other)?;
        let entry = opcode::Read::new(types::Fd(file.fd()), buf.as_mut().as_mut_ptr(), length)
            .offset(at.get())
            .build()
            .user_data(tag(Kind::Read, place, 0));
        let held = Held {
            files: vec![Rc::clone(file)],
            ..Held::default()
        };
        self.launch(place, &[entry], Op::new(0, 1, false, Some(buf), held))
            .map_err(|error| error.source)
    }

    fn place(&mut self) -> usize {
        self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::Free);
            self.slots.len() - 1
        })
    }

    /// Queues the entries of one operation, all of them in one submission: a link does not reach across two.
    fn launch(&mut self, place: usize, entries: &[squeue::Entry], op: Op) -> Result<usize, StepError> {
        let submission = self.ring.submission();
        let room = submission.capacity() - submission.len();
        drop(submission);
        if room < entries.len()
            && let Err(error) = self.ring.submit()
        {
            self.free.push(place);
            return Err(StepError {
                step: Step::Write,
                source: error,
            });
        }
        if let Some(slot) = self.slots.get_mut(place) {
            *slot = Slot::Busy(op);
        }
        // SAFETY: the entries name files, buffers and vectors that the operation in the slot holds. A slot is emptied
        // only after its last completion, and the ring waits for all completions before it goes away. What is written
        // is not changed meanwhile, because nobody else holds it mutably; what is read into is not looked at.
        let pushed = unsafe { self.ring.submission().push_multiple(entries) };
        assert!(pushed.is_ok(), "room for the entries was made before");
        self.in_flight += 1;
        self.activity.note();
        Ok(place)
    }

    /// Tells the kernel what is queued, and takes what is complete. Returns who is to be woken, when nothing of the
    /// ring is borrowed any more.
    fn submit_and_reap(&mut self) -> Vec<Waker> {
        if let Err(error) = self.ring.submit()
            && !is_passing(&error)
        {
            // The queue holds what was not taken, so nothing is lost; it goes with the next submission.
            tracing::error!(%error, "io_uring did not take what was submitted");
        }
        self.reap()
    }

    fn reap(&mut self) -> Vec<Waker> {
        let mut woken = Vec::new();
        let Self {
            ring,
            slots,
            free,
            in_flight,
            watches,
            ..
        } = self;
        for completion in ring.completion() {
            let (kind, place, expected) = untag(completion.user_data());
            if kind == Kind::Poll {
                if place != NOBODY {
                    watches.ended(place);
                }
                continue;
            }
            let Some(Slot::Busy(op)) = slots.get_mut(place) else {
                unreachable!("a completion of an operation that is not under way")
            };
            op.note(kind, completion.result(), expected);
            if !op.is_complete() {
                // A failure is told at once.
                if op.outcome.is_err() {
                    woken.extend(op.waker.take());
                }
                continue;
            }
            *in_flight -= 1;
            let Some(Slot::Busy(mut op)) = slots
                .get_mut(place)
                .map(|slot| std::mem::replace(slot, Slot::Free))
            else {
                unreachable!("it was there just now")
            };
            if op.abandoned {
                free.push(place);
                continue;
            }
            woken.extend(op.waker.take());
            if let Some(slot) = slots.get_mut(place) {
                *slot = Slot::Done(Finished {
                    outcome: std::mem::replace(&mut op.outcome, Ok(0)),
                    buf: op.buf.take(),
                });
            }
        }
        woken
    }

    /// What was queued is submitted at once when the device has nothing else to do, or nobody will do it later.
    fn launched(&mut self) -> Vec<Waker> {
        if self.attendant.is_none() && self.in_flight > 1 {
            return Vec::new();
        }
        let mut woken = self.submit_and_reap();
        woken.extend(self.attendant.take());
        woken
    }

    /// Submits what is queued, and takes what is complete; calls the kernel only when there is something to say.
    fn look(&mut self) -> Vec<Waker> {
        let submission = self.ring.submission();
        let is_called_for = !submission.is_empty() || submission.taskrun() || submission.cq_overflow();
        drop(submission);
        if is_called_for {
            self.submit_and_reap()
        } else {
            self.reap()
        }
    }

    /// Submits what is queued and waits for a completion or for something from a socket, but not longer than this.
    fn wait(&mut self, patience: Duration) -> Vec<Waker> {
        for change in self.watches.changes() {
            self.poll_socket(change);
        }
        let time = types::Timespec::from(patience);
        let arguments = types::SubmitArgs::new().timespec(&time);
        // That the time passed is as good as a completion: what is there is taken, and the next look takes the rest.
        self.ring.submitter().submit_with_args(1, &arguments).ok();
        self.reap()
    }

    fn poll_socket(&mut self, change: Change) {
        let entry = match change {
            Change::Poll { place, fd } => opcode::PollAdd::new(types::Fd(fd), libc::POLLIN as u32)
                .build()
                .user_data(tag(Kind::Poll, place, 0)),
            Change::Cancel { place } => opcode::PollRemove::new(tag(Kind::Poll, place, 0))
                .build()
                .user_data(tag(Kind::Poll, NOBODY, 0)),
        };
        if self.ring.submission().is_full() {
            self.ring.submit().ok();
        }
        // SAFETY: a poll touches no memory, and holds the socket itself.
        let pushed = unsafe { self.ring.submission().push(&entry) };
        if pushed.is_err() {
            // The kernel takes nothing now; the socket is looked at when the shard's patience is over.
            tracing::warn!(?change, "the ring is full");
        }
    }

    /// Waits until the kernel is done with everything.
    fn drain(&mut self) {
        while self.in_flight > 0 {
            match self.ring.submit_and_wait(1) {
                Ok(_) => {}
                Err(error) if is_passing(&error) => {}
                Err(error) => {
                    // The kernel may still use memory that would be freed now.
                    tracing::error!(%error, "cannot wait for the ring");
                    std::process::abort();
                }
            }
            self.reap();
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.drain();
        self.attendant.take().into_iter().for_each(Waker::wake);
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EINTR | libc::EAGAIN | libc::EBUSY)
    )
}

fn sync_entry(fd: types::Fd, place: usize) -> squeue::Entry {
    opcode::Fsync::new(fd)
        .flags(types::FsyncFlags::DATASYNC)
        .build()
        .user_data(tag(Kind::Sync, place, 0))
}

/// Waits for an operation. Dropped earlier, it leaves the operation to itself.
struct Completion {
    inner: Rc<RefCell<Inner>>,
    place: usize,
    /// Ready was returned: the place may be in use by another operation.
    ended: bool,
}

impl Future for Completion {
    type Output = Finished;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Finished> {
        let this = &mut *self;
        assert!(!this.ended, "polled again after it was ready");
        let mut inner = this.inner.borrow_mut();
        let inner = &mut *inner;
        let Some(slot) = inner.slots.get_mut(this.place) else {
            unreachable!("an operation has a place")
        };
        match slot {
            Slot::Busy(op) if op.outcome.is_err() && !op.is_complete() => {
                // The rest goes on without anybody waiting for it; the place is free after its last completion.
                this.ended = true;
                op.abandoned = true;
                Poll::Ready(Finished {
                    outcome: std::mem::replace(&mut op.outcome, Ok(0)),
                    buf: None,
                })
            }
            Slot::Busy(op) => {
                op.waker = Some(context.waker().clone());
                Poll::Pending
            }
            Slot::Done(_) => {
                this.ended = true;
                inner.free.push(this.place);
                match std::mem::replace(slot, Slot::Free) {
                    Slot::Done(finished) => Poll::Ready(finished),
                    Slot::Busy(_) | Slot::Free => unreachable!("it was done just now"),
                }
            }
            Slot::Free => unreachable!("an operation that was not taken keeps its place"),
        }
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let mut inner = self.inner.borrow_mut();
        let inner = &mut *inner;
        match inner.slots.get_mut(self.place) {
            Some(Slot::Busy(op)) => op.abandoned = true,
            Some(slot @ Slot::Done(_)) => {
                *slot = Slot::Free;
                inner.free.push(self.place);
            }
            Some(Slot::Free) | None => unreachable!("an operation that was not taken keeps its place"),
        }
    }
}
