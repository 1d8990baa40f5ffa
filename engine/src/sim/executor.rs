//! Runs tasks over the simulated disk, one step at a time, in an order that a seed decides.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use mofka_log::FilePos;

use super::disk::{Disk, FileId, Image, Sectors};
use super::faults::{Fault, FaultPlan, FaultRates, Operation};
use super::outcome::{EIO, EMFILE, ENOSPC, Failure, all_of};
use super::random::Random;
use crate::io::{FileWrite, Io, IoDir, IoFile, Pace, Step, StepError, Then};

type Task = Pin<Box<dyn Future<Output = ()>>>;

enum Op {
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
    SyncDir(PathBuf),
    Sleep {
        until_us: u64,
    },
}

struct Pending {
    op: Op,
    done: Rc<Cell<Option<Result<(), Failure>>>>,
}

struct Sim {
    disk: RefCell<Disk>,
    random: RefCell<Random>,
    pending: RefCell<Vec<Pending>>,
    tasks: RefCell<Vec<Task>>,
    spawned: RefCell<Vec<Task>>,
    /// The clock that sleeps go by.
    now_us: Cell<u64>,
    /// How far the wall clock is from the one that sleeps go by.
    skew_us: Cell<i64>,
    /// Operations end at once: for looking at an image.
    immediate: bool,
    faults: RefCell<FaultPlan>,
}

/// A simulated machine. Cheap to clone.
#[derive(Clone)]
pub struct SimIo(Rc<Sim>);

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl SimIo {
    /// A machine on which each operation ends when [`SimIo::step`] says so.
    pub fn stepping(image: &Image, seed: u64) -> Self {
        Self::new(Disk::of_image(image), seed, false)
    }

    /// A machine on which operations end at once.
    pub fn immediate(image: &Image) -> Self {
        Self::new(Disk::of_image(image), 1, true)
    }

    fn new(disk: Disk, seed: u64, immediate: bool) -> Self {
        Self(Rc::new(Sim {
            disk: RefCell::new(disk),
            random: RefCell::new(Random::new(seed)),
            pending: RefCell::new(Vec::new()),
            tasks: RefCell::new(Vec::new()),
            spawned: RefCell::new(Vec::new()),
            now_us: Cell::new(1_700_000_000_000_000),
            skew_us: Cell::new(0),
            immediate,
            faults: RefCell::new(FaultPlan::new(seed)),
        }))
    }

    /// The process is killed and another one finds the machine: operations in flight happened or did not, and what was
    /// not synced is still read. Faults end with the old process.
    #[must_use]
    pub fn kill(&self, seed: u64) -> Self {
        let pending = self.0.pending.take();
        let mut disk = self.0.disk.borrow_mut();
        for Pending { op, .. } in pending {
            let happens = self.0.random.borrow_mut().chance(50);
            match op {
                Op::Write { file, number, .. } if happens => disk.complete_write(file, number),
                Op::Sync { file, covered } if happens => disk.complete_sync(file, &covered),
                Op::SyncDir(dir) if happens => disk.sync_dir(&dir),
                _ => {}
            }
        }
        let mut disk = std::mem::take(&mut *disk);
        self.shut_down();
        disk.forget_in_flight();
        disk.set_room(None);
        Self::new(disk, seed, false)
    }

    /// The wall clock jumps to this time, forward or back.
    pub fn set_now_us(&self, now_us: u64) {
        self.0.now_us.set(now_us);
    }

    /// The `n`-th sync from now (0 = the next) fails with an I/O error.
    pub fn fail_sync(&self, n: u64) {
        self.place_fault(Fault::SyncError, n);
    }

    /// The `n`-th write from now (0 = the next) fails with an I/O error; its bytes may have landed or not.
    pub fn fail_write(&self, n: u64) {
        self.place_fault(Fault::WriteError, n);
    }

    /// The `n`-th operation from now (0 = the next) of those that this fault can hit meets it.
    pub fn place_fault(&self, fault: Fault, n: u64) {
        self.0.faults.borrow_mut().place(fault, n);
    }

    /// From now on faults happen as often as this says.
    pub fn set_fault_rates(&self, rates: FaultRates) {
        self.0.faults.borrow_mut().set_rates(rates);
    }

    /// The faults that happened, in order. A full disk is not among them.
    pub fn faults_met(&self) -> Vec<Fault> {
        self.0.faults.borrow().met().to_vec()
    }

    /// How many operations of this kind there were.
    pub fn operations(&self, operation: Operation) -> u64 {
        self.0.faults.borrow().count(operation)
    }

    /// Leaves room for so many bytes more on the disk; `None`: as much as anybody wants.
    pub fn set_room(&self, bytes: Option<u64>) {
        let bytes = bytes.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
        self.0.disk.borrow_mut().set_room(bytes);
    }

    fn draw(&self, operation: Operation) -> Option<Fault> {
        self.0.faults.borrow_mut().draw(operation)
    }

    /// The wall clock jumps to be at most a year off, to either side.
    fn jump(&self) {
        const YEAR_US: u64 = 365 * 24 * 3600 * 1_000_000;
        let by_us = self.0.faults.borrow_mut().random().below(2 * YEAR_US);
        self.0.skew_us.set(by_us.cast_signed() - YEAR_US.cast_signed());
    }

    /// Sets the wall clock to be this far from the one that sleeps go by.
    pub fn set_clock(&self, skew_us: i64) {
        self.0.skew_us.set(skew_us);
    }

    /// One image that a crash at this moment can leave.
    pub fn crash(&self, random: &mut Random, keep_percent: u64, sectors: Sectors) -> Image {
        self.0.disk.borrow().crash(random, keep_percent, sectors)
    }

    /// What is on the disk when everything that completed is there.
    pub fn settled(&self) -> Image {
        self.0.disk.borrow().settled()
    }

    /// Runs tasks until none can go on.
    pub fn run_tasks(&self) {
        let flag = Arc::new(Flag(AtomicBool::new(true)));
        let waker = Waker::from(Arc::clone(&flag));
        let mut context = Context::from_waker(&waker);
        while flag.0.swap(false, Ordering::Relaxed) || !self.0.spawned.borrow().is_empty() {
            let mut tasks = self.0.tasks.take();
            tasks.append(&mut self.0.spawned.borrow_mut());
            tasks.retain_mut(|task| task.as_mut().poll(&mut context).is_pending());
            let mut kept = self.0.tasks.borrow_mut();
            tasks.append(&mut kept);
            *kept = tasks;
        }
    }

    /// Ends one operation that is in flight, chosen by the seed, and runs the tasks that waited for it. Sleeps end
    /// only when nothing else is in flight. Returns whether there was one.
    pub fn step(&self) -> bool {
        self.run_tasks();
        if self.draw(Operation::Tick) == Some(Fault::ClockJump) {
            self.jump();
        }
        let chosen = {
            let mut pending = self.0.pending.borrow_mut();
            let busy: Vec<usize> = (0..pending.len())
                .filter(|i| !matches!(pending[*i].op, Op::Sleep { .. }))
                .collect();
            if let Some(count) = u64::try_from(busy.len()).ok().filter(|count| *count > 0) {
                let place = usize::try_from(self.0.random.borrow_mut().below(count)).unwrap_or(0);
                Some(pending.swap_remove(busy[place]))
            } else {
                let until = |pending: &Pending| match pending.op {
                    Op::Sleep { until_us } => until_us,
                    _ => u64::MAX,
                };
                let next = (0..pending.len()).min_by_key(|i| until(&pending[*i]));
                next.map(|place| pending.swap_remove(place))
            }
        };
        let Some(chosen) = chosen else { return false };
        self.end(chosen);
        self.run_tasks();
        true
    }

    /// Drops every task and operation: tasks hold on to the machine that holds them.
    pub fn shut_down(&self) {
        let tasks = (self.0.tasks.take(), self.0.spawned.take(), self.0.pending.take());
        drop(tasks);
    }

    /// Whether anything but sleeping is in flight.
    pub fn is_busy(&self) -> bool {
        self.0
            .pending
            .borrow()
            .iter()
            .any(|pending| !matches!(pending.op, Op::Sleep { .. }))
    }

    fn end(&self, pending: Pending) {
        let outcome = match &pending.op {
            Op::Write {
                file,
                number,
                bytes,
                is_short,
            } => self.end_write(*file, *number, *bytes, *is_short),
            Op::Sync { file, covered } => self.end_sync(*file, covered),
            Op::SyncDir(dir) => self.end_sync_dir(dir),
            Op::Sleep { until_us } => {
                self.0.now_us.set((*until_us).max(self.0.now_us.get()));
                Ok(())
            }
            Op::Reserve { file, from, end } => {
                self.0.disk.borrow_mut().complete_reserve(*file, *from..*end);
                Ok(())
            }
        };
        pending.done.set(Some(outcome));
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

    fn end_sync_dir(&self, dir: &Path) -> Result<(), Failure> {
        match self.draw(Operation::SyncDir) {
            Some(Fault::SyncDirError) => Err(EIO),
            Some(Fault::LostSyncDir) => Ok(()),
            _ => {
                self.0.disk.borrow_mut().sync_dir(dir);
                Ok(())
            }
        }
    }

    /// A truncation, a rename or a removal is about to be made.
    fn changing(&self) -> io::Result<()> {
        match self.draw(Operation::Change) {
            Some(Fault::ChangeError) => Err(EIO.into()),
            _ => Ok(()),
        }
    }

    fn opening(&self) -> io::Result<()> {
        match self.draw(Operation::Open) {
            Some(Fault::OpenError) => Err(EMFILE.into()),
            _ => Ok(()),
        }
    }

    async fn op(&self, op: Op) -> io::Result<()> {
        let done = Rc::new(Cell::new(None));
        let pending = Pending {
            op,
            done: Rc::clone(&done),
        };
        if self.0.immediate {
            self.end(pending);
        } else {
            self.0.pending.borrow_mut().push(pending);
        }
        std::future::poll_fn(move |_| match done.get() {
            Some(outcome) => Poll::Ready(outcome.map_err(io::Error::from)),
            None => Poll::Pending,
        })
        .await
    }

    /// Runs `future` to its end, with everything that it starts.
    ///
    /// # Panics
    /// When it waits for something that will never happen.
    pub fn block_on<T: 'static>(&self, future: impl Future<Output = T> + 'static) -> T {
        let slot = Rc::new(RefCell::new(None));
        let kept = Rc::clone(&slot);
        self.spawn(async move {
            let value = future.await;
            *kept.borrow_mut() = Some(value);
        });
        self.run_tasks();
        loop {
            if let Some(value) = slot.borrow_mut().take() {
                return value;
            }
            assert!(self.step(), "the future waits for something that never happens");
        }
    }
}

/// An open simulated file.
pub struct SimFileHandle {
    io: SimIo,
    file: FileId,
}

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
    }

    async fn sync(&self) -> io::Result<()> {
        let covered = self.io.0.disk.borrow_mut().issue_sync(self.file);
        self.io
            .op(Op::Sync {
                file: self.file,
                covered,
            })
            .await
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
        if self.io.draw(Operation::Read) == Some(Fault::ReadError) {
            return Err(EIO.into());
        }
        Ok(Bytes::from(self.io.0.disk.borrow().read(
            self.file,
            place(at),
            bytes,
        )))
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
        self.io.op(Op::Reserve { file, from, end }).await
    }

    async fn allocate(self: &Rc<Self>, _from: FilePos, end: FilePos) -> io::Result<()> {
        self.io.changing()?;
        match self.io.0.disk.borrow_mut().allocate(self.file, place(end)) {
            granted if granted < place(end) => Err(ENOSPC.into()),
            _ => Ok(()),
        }
    }

    async fn truncate(self: &Rc<Self>, end: FilePos) -> io::Result<()> {
        self.io.changing()?;
        self.io.0.disk.borrow_mut().truncate(self.file, place(end));
        Ok(())
    }

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
        self.opening()?;
        let file = self.0.disk.borrow().find(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(SimFileHandle {
            io: self.clone(),
            file,
        })
    }

    async fn create(&self, path: &Path) -> io::Result<SimFileHandle> {
        self.opening()?;
        let file = self.0.disk.borrow_mut().create(path).ok_or(ENOSPC)?;
        Ok(SimFileHandle {
            io: self.clone(),
            file,
        })
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.changing()?;
        let renamed = self.0.disk.borrow_mut().rename(from, to);
        if renamed {
            Ok(())
        } else {
            Err(io::ErrorKind::NotFound.into())
        }
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        self.changing()?;
        self.0.disk.borrow_mut().remove(path);
        Ok(())
    }

    async fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        Ok(self.0.disk.borrow().list(dir))
    }

    async fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.op(Op::SyncDir(dir.to_path_buf())).await
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
