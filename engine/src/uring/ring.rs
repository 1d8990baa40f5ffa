//! The ring that log files are written, synced and read through: one for each shard, on the shard's own thread.
//!
//! Beside the runtime's rings, because these operations need what the runtime does not offer: a write and the sync after
//! it are *linked*, so that a durable write costs one wake-up, and no completion is posted for a write that went well.
//! Completions raise an eventfd, which a task of the shard waits for. Figures: `docs/decisions/0002-write-path.md`.

mod op;

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_lite::future;
use glommio::io::BufferedFile;
use io_uring::squeue::Flags;
use io_uring::{IoUring, opcode, squeue, types};
use mofka_log::FilePos;

use op::{Finished, Held, Kind, Op, tag, untag};

use super::activity::Activity;
use super::file::UringFile;
use super::memory::{IoBuf, Pool};
use crate::io::{FileWrite, Step, StepError, Then, WritePart};

/// Entries of the submission queue; what is beyond is submitted earlier.
const ENTRIES: u32 = 256;
/// Memory registered for writes.
const REGION_BYTES: usize = 16 << 20;
/// Memory of reads and of large writes that is kept for reuse.
const KEPT_BYTES_MAX: usize = 16 << 20;
/// How long a shard with nothing else to do waits in the ring at a time.
const MOMENT_NS: u32 = 50_000;
/// How long sockets are not looked at while the shard waits in the ring, unless something came from them not longer ago
/// than the other.
const LOOK_EVERY: Duration = Duration::from_micros(100);
const EXPECT_FOR: Duration = Duration::from_millis(10);
/// How often the others have a turn before a shard without operations under way goes to sleep.
const PASSES: u32 = 2;
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
    /// Raised by completions. The task that waits for it has another descriptor of it.
    eventfd: OwnedFd,
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
    pub(super) fn start(activity: &Activity) -> io::Result<Self> {
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
        let eventfd = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC)?;
        ring.submitter().register_eventfd(eventfd.as_raw_fd())?;
        let skip_success = ring.params().is_feature_skip_cqe_on_success();
        let inner = Rc::new(RefCell::new(Inner {
            ring,
            pool,
            slots: Vec::new(),
            free: Vec::new(),
            registered,
            skip_success,
            in_flight: 0,
            eventfd: eventfd.try_clone()?,
            activity: activity.clone(),
        }));
        let weak = Rc::downgrade(&inner);
        // SAFETY: the descriptor is open and given away here; the file closes it.
        let eventfd = unsafe { BufferedFile::from_raw_fd(eventfd.into_raw_fd()) };
        glommio::spawn_local(attend(eventfd, weak)).detach();
        Ok(Self(inner))
    }

    /// Memory for writes.
    pub(super) fn alloc(&self, bytes: usize) -> IoBuf {
        self.0.borrow().pool.take(bytes)
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
        wake(self.0.borrow_mut().submit_and_reap());
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

/// Takes completions whenever the eventfd says that there are some, until the ring is gone.
///
/// While operations are under way and the shard has nothing else to do, it waits for them in the ring itself, a moment at
/// a time: going to sleep in the executor and being woken costs as much CPU as the whole commit, and 80 us. What arrives on
/// a socket meanwhile waits for that moment at most.
async fn attend(eventfd: BufferedFile, ring: Weak<RefCell<Inner>>) {
    let mut looked = Instant::now();
    let mut arrivals = (0, Instant::now());
    loop {
        if let Err(error) = eventfd.read_at(0, 8).await {
            tracing::error!(%error, "the ring's eventfd cannot be read: its completions are no longer seen");
            return;
        }
        let mut passes_left = PASSES;
        while passes_left > 0 {
            let Some(inner) = ring.upgrade() else { return };
            let woken = inner.borrow_mut().submit_and_reap();
            let before = inner.borrow().activity.count();
            wake(woken);
            // Everybody else has a turn. The sockets too, every time when something came from them just now, and now and
            // then otherwise: a look at them costs as much as a commit.
            let now = Instant::now();
            let seen = inner.borrow().activity.arrivals();
            if seen != arrivals.0 {
                arrivals = (seen, now);
            }
            let expects = now.duration_since(arrivals.1) < EXPECT_FOR;
            if expects || inner.borrow().in_flight == 0 || now.duration_since(looked) > LOOK_EVERY {
                glommio::executor().yield_task_queue_now().await;
                looked = Instant::now();
                passes_left -= 1;
            } else {
                future::yield_now().await;
            }
            let is_quiet = inner.borrow().activity.count() == before;
            if is_quiet && inner.borrow().in_flight > 0 {
                let woken = inner.borrow_mut().wait_briefly();
                passes_left = PASSES;
                wake(woken);
            }
        }
    }
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
            ..
        } = self;
        for completion in ring.completion() {
            let (kind, place, expected) = untag(completion.user_data());
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

    /// Waits for a completion, but not for long.
    fn wait_briefly(&mut self) -> Vec<Waker> {
        let moment = types::Timespec::new().nsec(MOMENT_NS);
        let arguments = types::SubmitArgs::new().timespec(&moment);
        // That the time passed is as good as a completion: what is there is taken, and what is not raises the eventfd.
        self.ring.submitter().submit_with_args(1, &arguments).ok();
        let woken = self.reap();
        // What was just taken raised the eventfd as well, and would wake the task for nothing.
        let mut raised = [rustix::event::PollFd::new(
            &self.eventfd,
            rustix::event::PollFlags::IN,
        )];
        let now = rustix::time::Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        if rustix::event::poll(&mut raised, Some(&now)) == Ok(1) {
            rustix::io::read(&self.eventfd, &mut [0; 8]).ok();
            // Between the look at the ring and here another one may have come.
            let mut late = self.submit_and_reap();
            late.extend(woken);
            return late;
        }
        woken
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
