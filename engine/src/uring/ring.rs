//! The ring that log files are written, synced and read through: one for each shard, on the shard's own thread.
//!
//! Beside the runtime's rings, because these operations need what the runtime does not offer: a write and the sync after
//! it are *linked*, so that a durable write costs one wake-up, and no completion is posted for a write that went well.
//! A task of the shard waits for completions in the ring itself. Figures: `docs/decisions/0002-write-path.md`.

mod attend;
mod call;
mod entries;
mod links;
mod op;
mod operations;
mod refusal;
mod spot;
mod submit;
mod syncs;
mod wait;

use std::cell::RefCell;
use std::fs::File;
use std::future::Future;
use std::io;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::Bytes;
use io_uring::squeue::Flags;
use io_uring::{IoUring, opcode, squeue, types};
use mofka_log::FilePos;

use attend::Looker;
use links::Links;
use op::{Finished, Held, Kind, NOBODY, Op, Target, tag, untag};
use operations::Operations;
use spot::OnTheSpot;
use syncs::{Place, SyncBy, Syncs, Written};
use wait::Spins;

use super::activity::Activity;
use super::file::UringFile;
use super::flushes::FLUSHES;
use super::memory::{IoBuf, Pool};
use super::quiet::QuietFiles;
use super::rings::Rings;
use super::settled::Device;
use super::watch::Watches;
use crate::io::{FileWrite, Step, StepError, Then};

/// Entries of the submission queue; what is beyond is submitted earlier.
const ENTRIES: u32 = 256;
/// Threads of the kernel that make syncs and calls of the file system for a shard at the same time, at most. Said, because
/// the kernel takes the size of the thread's first ring otherwise: the runtime's, which probes with a ring of two entries.
const WORKERS_MAX: u32 = 16;
/// Memory registered for writes.
const REGION_BYTES: usize = 16 << 20;
/// Memory of reads and of large writes that is kept for reuse.
const KEPT_BYTES_MAX: usize = 16 << 20;
/// Bytes of zeros that can be written at a time.
pub(super) const ZEROS_BYTES_MAX: usize = 1 << 20;
/// The only registered buffer.
const REGION_INDEX: u16 = 0;

/// One shard's ring. Cheap to clone.
#[derive(Clone)]
pub(super) struct Ring(Rc<RefCell<Inner>>);

struct Inner {
    ring: IoUring,
    pool: Pool,
    /// Made when they are first needed, and kept.
    zeros: Option<Bytes>,
    operations: Operations,
    syncs: Syncs,
    quiet: QuietFiles,
    on_the_spot: OnTheSpot,
    spins: Spins,
    /// Writes from the pool's region need no pinning.
    registered: bool,
    /// No completion comes for a write that went well and has a sync after it.
    skip_success: bool,
    /// When it was first seen that something is queued and not submitted.
    queued_at: Option<Instant>,
    /// What is queued goes with the attendant's next look.
    is_urgent: bool,
    /// What was queued last are two writes of one operation.
    ends_with_pair: bool,
    links: Links,
    /// Operations of which was heard at the same time last.
    ended_together: usize,
    /// Its task, while that sleeps and is to be woken; awake, it looks at the ring at every turn.
    attendant: Option<Waker>,
    /// Polled while the shard waits here.
    watches: Watches,
    /// Polled by its task while something goes through them.
    rings: Rings,
    activity: Activity,
    /// What the next submissions fail with, in place of being made.
    #[cfg(test)]
    refusals: Vec<i32>,
}

impl Ring {
    /// Makes the ring, and starts the task that waits for its completions. Called on the shard's executor.
    ///
    /// # Errors
    /// What the kernel said.
    pub(super) fn start(activity: &Activity, watches: &Watches, rings: &Rings) -> io::Result<Self> {
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
            zeros: None,
            operations: Operations::default(),
            syncs: Syncs::default(),
            quiet: QuietFiles::default(),
            on_the_spot: OnTheSpot::default(),
            spins: Spins::new(),
            registered,
            skip_success,
            queued_at: None,
            is_urgent: false,
            ends_with_pair: false,
            links: Links::default(),
            ended_together: 0,
            attendant: None,
            watches: watches.clone(),
            rings: rings.clone(),
            activity: activity.clone(),
            #[cfg(test)]
            refusals: Vec::new(),
        }));
        glommio::spawn_local(attend::attend(Rc::downgrade(&inner), Looker::new()?)).detach();
        Ok(Self(inner))
    }

    /// Whether it is known which file is synced for this device.
    pub(super) fn knows_quiet(&self, device: Device) -> bool {
        self.0.borrow().quiet.knows(device)
    }

    /// The file that is synced for this device, if there is one.
    pub(super) fn add_quiet(&self, device: Device, file: Option<File>) {
        self.0.borrow_mut().quiet.add(device, file);
    }

    /// Memory for writes.
    pub(super) fn alloc(&self, bytes: usize) -> IoBuf {
        self.0.borrow().pool.take(bytes)
    }

    /// Memory for what is kept: the region is for writes.
    pub(super) fn alloc_to_keep(&self, bytes: usize) -> IoBuf {
        self.0.borrow().pool.take_to_keep(bytes)
    }

    /// Zeros to write from where they are: up to [`ZEROS_BYTES_MAX`].
    pub(super) fn zeros(&self, bytes: usize) -> Bytes {
        let inner = &mut *self.0.borrow_mut();
        let zeros = inner.zeros.get_or_insert_with(|| {
            let mut memory = inner.pool.take_from_heap(ZEROS_BYTES_MAX);
            memory.as_mut().fill(0);
            Bytes::from_owner(memory)
        });
        zeros.slice(..bytes)
    }

    /// Makes all of these writes at the same time, and after each of them what `then` says.
    pub(super) async fn write(
        &self,
        writes: Vec<FileWrite<UringFile, IoBuf>>,
        then: Then,
    ) -> Result<(), StepError> {
        self.room(2 * writes.len() + 1).await.map_err(unwritten)?;
        let place = self.0.borrow_mut().begin_write(writes, then);
        self.finish(place).await.outcome.map(|_| ())
    }

    /// Syncs these files at the same time.
    pub(super) async fn sync(&self, files: Vec<Rc<UringFile>>) -> Result<(), StepError> {
        self.room(files.len()).await.map_err(unwritten)?;
        let place = self.0.borrow_mut().begin_sync(files);
        self.finish(place).await.outcome.map(|_| ())
    }

    /// Reads `bytes` bytes at `at`, both as the device wants them; fewer at the end of the file.
    pub(super) async fn read(&self, file: &Rc<UringFile>, at: FilePos, bytes: usize) -> io::Result<Bytes> {
        self.room(1).await?;
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
    /// Room for two entries of each write, and one, was made.
    fn begin_write(&mut self, writes: Vec<FileWrite<UringFile, IoBuf>>, then: Then) -> usize {
        let mut held = Held::default();
        let place = self.operations.place();
        let mut entries = Vec::with_capacity(2 * writes.len() + 1);
        let queued = self.ring.submission().len();
        let device = match then {
            Then::Sync => {
                let is_alone = self.operations.in_flight() == 0;
                self.on_the_spot.begins(is_alone, self.watches.reads());
                self.shared_device(&writes)
            }
            Then::Nothing => None,
        };
        let (mut syncs, mut others) = (0, 0);
        if let Some(device) = device {
            let bytes: usize = writes.iter().map(bytes_of).sum();
            self.syncs.begin_on_device(device, bytes as u64);
            syncs = 1;
        }
        for (number, write) in writes.into_iter().enumerate() {
            let fd = write.file.fd();
            let bytes = bytes_of(&write);
            let entry = entries::write(self.registered, fd, write.at, &write.parts, &mut held.vectors);
            let by = match then {
                Then::Sync if device.is_none() => Some(self.syncs.begin_in_file(fd)),
                Then::Sync | Then::Nothing => None,
            };
            syncs += u32::from(by.is_some());
            let (kind, flags) = match by {
                Some(SyncBy::Link) if self.skip_success => {
                    (Kind::LinkedWrite, Flags::IO_LINK | Flags::SKIP_SUCCESS)
                }
                Some(SyncBy::Link) => (Kind::Write, Flags::IO_LINK),
                Some(SyncBy::Sharing) => (Kind::SharingWrite, Flags::empty()),
                None if device.is_some() => (Kind::DeviceWrite, Flags::empty()),
                None => (Kind::Write, Flags::empty()),
            };
            others += u32::from(kind != Kind::LinkedWrite);
            entries.push(entry.user_data(tag(kind, place, number)).flags(flags));
            let settles = by.and_then(|_| write.file.see());
            // A sync that settles what the file had is the file's own.
            let quiet_on = device.or_else(|| write.file.settled().device(write.at, bytes));
            let quiet_on = quiet_on.filter(|_| settles.is_none());
            if by == Some(SyncBy::Link) {
                let quiet = quiet_on.and_then(|device| self.quiet.of(device));
                let synced = quiet.map_or(fd, AsRawFd::as_raw_fd);
                self.links.queued(queued + entries.len());
                entries.push(entries::sync(synced, Kind::Sync, place, number));
            }
            held.parts.extend(write.parts);
            held.files.push(Target {
                unsynced: match then {
                    Then::Sync => write.file.take_unsynced(),
                    Then::Nothing => None,
                },
                file: write.file,
                bytes,
                settles,
                quiet_on,
            });
        }
        self.ends_with_pair = held.files.len() == 2 && entries.len() == 2;
        let op = Op::new(syncs, others, None, held);
        self.launch(place, &entries, op);
        place
    }

    /// The device whose next sync will do for all of these writes.
    fn shared_device(&self, writes: &[FileWrite<UringFile, IoBuf>]) -> Option<Device> {
        let device_of =
            |write: &FileWrite<UringFile, IoBuf>| write.file.settled().device(write.at, bytes_of(write));
        let device = device_of(writes.first()?)?;
        let is_shared = writes.iter().all(|write| device_of(write) == Some(device));
        // One write alone and the sync that is linked to it wake the shard once, as one that is synced here does.
        let is_alone = writes.len() == 1 && self.operations.in_flight() == 0 && self.ended_together <= 1;
        (is_shared && (!is_alone || self.on_the_spot.is_wanted(Instant::now()))).then_some(device)
    }

    /// The quiet file whose sync does for all of these.
    fn quiet_for(&self, written: &[Written]) -> Option<&File> {
        let mut devices = written.iter().map(|written| {
            let target = self.operations.written(written.operation, written.file)?;
            target.quiet_on
        });
        let device = devices.next()??;
        devices
            .all(|other| other == Some(device))
            .then(|| self.quiet.of(device))?
    }

    /// Room for an entry of each was made.
    fn begin_sync(&mut self, files: Vec<Rc<UringFile>>) -> usize {
        let place = self.operations.place();
        let entries: Vec<_> = files
            .iter()
            .enumerate()
            .map(|(number, file)| entries::sync(file.fd(), Kind::Sync, place, number))
            .collect();
        let count = u32::try_from(entries.len()).unwrap_or(u32::MAX);
        let held = Held {
            files: files.into_iter().map(Target::synced).collect(),
            ..Held::default()
        };
        self.launch(place, &entries, Op::new(count, 0, None, held));
        place
    }

    /// Room for an entry was made.
    fn begin_read(&mut self, file: &Rc<UringFile>, at: FilePos, bytes: usize) -> io::Result<usize> {
        // Not from the region: what was read may be kept for long, and writes need the region.
        let mut buf = self.pool.take_from_heap(bytes);
        let length = u32::try_from(bytes).map_err(io::Error::other)?;
        let place = self.operations.place();
        let entry = opcode::Read::new(types::Fd(file.fd()), buf.as_mut().as_mut_ptr(), length)
            .offset(at.get())
            .build()
            .user_data(tag(Kind::Read, place, 0));
        let held = Held {
            files: vec![Target::unwritten(Rc::clone(file))],
            ..Held::default()
        };
        self.launch(place, &[entry], Op::new(0, 1, Some(buf), held));
        Ok(place)
    }

    /// Queues the entries of one operation, all of them in one submission: a link does not reach across two. Room for
    /// them was made.
    fn launch(&mut self, place: usize, entries: &[squeue::Entry], op: Op) {
        self.operations.begin(place, op);
        // SAFETY: the entries name files, buffers and vectors that the operation at the place holds. It is let go only
        // after its last completion, and the ring waits for all completions before it goes away. What is written
        // is not changed meanwhile, because nobody else holds it mutably; what is read into is not looked at.
        let pushed = unsafe { self.ring.submission().push_multiple(entries) };
        assert!(pushed.is_ok(), "room for the entries was made before");
        self.activity.note();
    }

    fn reap(&mut self) -> Vec<Waker> {
        if self.operations.in_flight() > 0 {
            self.on_the_spot.goes_on(self.watches.reads());
        }
        let (mut woken, mut synced) = (Vec::new(), Vec::new());
        let Self {
            ring,
            operations,
            syncs,
            watches,
            ..
        } = self;
        for completion in ring.completion() {
            let (kind, place, file) = untag(completion.user_data());
            let result = completion.result();
            match kind {
                Kind::Poll if place == NOBODY => {}
                Kind::Poll => watches.ended(place),
                Kind::SharedSync => synced.push((place, result)),
                Kind::Sync
                | Kind::Read
                | Kind::Write
                | Kind::LinkedWrite
                | Kind::SharingWrite
                | Kind::DeviceWrite => {
                    let target = operations.written(place, file);
                    let file_of = target.map(|target| (target.file.fd(), target.file.settled().lies_on()));
                    let noted = operations.note(kind, place, result, file);
                    woken.extend(noted.waker);
                    let Some((fd, device)) = file_of else { continue };
                    let written = Written {
                        operation: place,
                        file,
                    };
                    match (kind, device) {
                        (Kind::DeviceWrite, Some(device)) if noted.is_written => {
                            syncs.written(Place::Device(device), written);
                        }
                        (Kind::DeviceWrite, Some(device)) if noted.is_complete => {
                            syncs.end(Place::Device(device));
                        }
                        (Kind::SharingWrite, _) if noted.is_success => {
                            syncs.written(Place::File(fd), written);
                        }
                        (Kind::SharingWrite | Kind::LinkedWrite | Kind::Sync, _) => {
                            syncs.end(Place::File(fd));
                        }
                        _ => {}
                    }
                }
            }
        }
        for (number, result) in synced {
            self.synced(number, result, &mut woken);
        }
        if !woken.is_empty() {
            self.ended_together = woken.len();
        } else if self.operations.in_flight() == 1 {
            // Nothing else is under way, and nobody is about to begin anything.
            self.decide_syncs(&mut woken);
        }
        woken
    }

    /// A shared sync is over.
    fn synced(&mut self, number: usize, result: i32, woken: &mut Vec<Waker>) {
        if let Some(first) = self.syncs.covered(number).first()
            && let Some(target) = self.operations.written(first.operation, first.file)
        {
            FLUSHES.note(target.file.device(), result);
        }
        for written in self.syncs.synced(number, result >= 0) {
            let noted = self
                .operations
                .note(Kind::SharedSync, written.operation, result, 0);
            woken.extend(noted.waker);
        }
    }

    /// Waits until the kernel is done with everything.
    fn drain(&mut self) {
        while self.operations.in_flight() > 0 {
            self.decide_syncs(&mut Vec::new());
            match self.ring.submit_and_wait(1) {
                Ok(taken) => self.links.taken(taken),
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

/// Why nothing of an operation was begun, and so no sync either.
fn unwritten(source: io::Error) -> StepError {
    let step = Step::Write;
    StepError { step, source }
}

/// How much is written.
fn bytes_of(write: &FileWrite<UringFile, IoBuf>) -> usize {
    write.parts.iter().map(|part| part.as_ref().len()).sum()
}

fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EINTR | libc::EAGAIN | libc::EBUSY)
    )
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
        let polled = this.inner.borrow_mut().operations.poll(this.place, context);
        this.ended = polled.is_ready();
        polled
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        if !self.ended {
            self.inner.borrow_mut().operations.abandon(self.place);
        }
    }
}

#[cfg(test)]
mod tests;
