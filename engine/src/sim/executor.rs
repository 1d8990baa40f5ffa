//! Runs tasks over the simulated disk, one step at a time, in an order that a seed decides.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use mofka_log::FilePos;

use super::disk::{Disk, FileId, Image, Random, Sectors};
use crate::io::{FileWrite, Io, IoDir, IoFile, Step, StepError, Then};

type Task = Pin<Box<dyn Future<Output = ()>>>;

enum Op {
    Write { file: FileId, number: u64 },
    Sync { file: FileId, covered: Vec<u64> },
    Reserve { file: FileId, end: usize },
    SyncDir(std::path::PathBuf),
    Sleep { until_us: u64 },
}

struct Pending {
    op: Op,
    done: Rc<Cell<Option<Result<(), i32>>>>,
}

struct Sim {
    disk: RefCell<Disk>,
    random: RefCell<Random>,
    pending: RefCell<Vec<Pending>>,
    tasks: RefCell<Vec<Task>>,
    spawned: RefCell<Vec<Task>>,
    now_us: Cell<u64>,
    /// How far the wall clock is from the one that sleeps go by.
    skew_us: Cell<i64>,
    /// Operations end at once: for looking at an image.
    immediate: bool,
    /// The n-th sync from now fails, if any.
    fail_sync: Cell<Option<u64>>,
    /// The n-th write from now fails, if any.
    fail_write: Cell<Option<u64>>,
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
        Self::new(image, seed, false)
    }

    /// A machine on which operations end at once.
    pub fn immediate(image: &Image) -> Self {
        Self::new(image, 1, true)
    }

    fn new(image: &Image, seed: u64, immediate: bool) -> Self {
        Self(Rc::new(Sim {
            disk: RefCell::new(Disk::of_image(image)),
            random: RefCell::new(Random::new(seed)),
            pending: RefCell::new(Vec::new()),
            tasks: RefCell::new(Vec::new()),
            spawned: RefCell::new(Vec::new()),
            now_us: Cell::new(1_700_000_000_000_000),
            skew_us: Cell::new(0),
            immediate,
            fail_sync: Cell::new(None),
            fail_write: Cell::new(None),
        }))
    }

    /// The wall clock jumps to this time, forward or back.
    pub fn set_now_us(&self, now_us: u64) {
        self.0.now_us.set(now_us);
    }

    /// The `n`-th sync from now (0 = the next) fails with an I/O error.
    pub fn fail_sync(&self, n: u64) {
        self.0.fail_sync.set(Some(n));
    }

    /// The `n`-th write from now (0 = the next) fails with an I/O error; its bytes may have landed or not.
    pub fn fail_write(&self, n: u64) {
        self.0.fail_write.set(Some(n));
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
        let mut outcome = Ok(());
        let mut disk = self.0.disk.borrow_mut();
        match &pending.op {
            Op::Write { file, number } => {
                if countdown(&self.0.fail_write) {
                    outcome = Err(EIO);
                } else {
                    disk.complete_write(*file, *number);
                }
            }
            Op::Sync { file, covered } => {
                if countdown(&self.0.fail_sync) {
                    outcome = Err(EIO);
                } else {
                    disk.complete_sync(*file, covered);
                }
            }
            Op::Reserve { file, end } => disk.complete_reserve(*file, *end),
            Op::SyncDir(dir) => disk.sync_dir(dir),
            Op::Sleep { until_us } => self.0.now_us.set((*until_us).max(self.0.now_us.get())),
        }
        pending.done.set(Some(outcome));
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
            Some(outcome) => Poll::Ready(outcome.map_err(io::Error::from_raw_os_error)),
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

const EIO: i32 = 5;

fn countdown(cell: &Cell<Option<u64>>) -> bool {
    match cell.get() {
        Some(0) => {
            cell.set(None);
            true
        }
        Some(n) => {
            cell.set(Some(n - 1));
            false
        }
        None => false,
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
        let number = self.io.0.disk.borrow_mut().issue_write(self.file, place(at), buf);
        self.io
            .op(Op::Write {
                file: self.file,
                number,
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
        Ok(Bytes::from(self.io.0.disk.borrow().read(
            self.file,
            place(at),
            bytes,
        )))
    }

    async fn reserve(self: &Rc<Self>, _from: FilePos, end: FilePos) -> io::Result<()> {
        let end = place(end);
        self.io.0.disk.borrow_mut().issue_reserve(self.file, end);
        self.io.op(Op::Reserve { file: self.file, end }).await
    }

    async fn truncate(&self, end: FilePos) -> io::Result<()> {
        self.io.0.disk.borrow_mut().truncate(self.file, place(end));
        Ok(())
    }

    async fn size_bytes(&self) -> io::Result<u64> {
        u64::try_from(self.io.0.disk.borrow().size(self.file)).map_err(io::Error::other)
    }

    async fn close(self: Rc<Self>) {}
}

impl IoDir for SimIo {
    type File = SimFileHandle;
    type Buf = Vec<u8>;

    fn alloc(&self, bytes: usize) -> Vec<u8> {
        // Memory for writes comes as it is: whoever relies on zeros is found out.
        vec![0xa5; bytes]
    }

    async fn open(&self, path: &Path) -> io::Result<SimFileHandle> {
        let file = self.0.disk.borrow().find(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(SimFileHandle {
            io: self.clone(),
            file,
        })
    }

    async fn create(&self, path: &Path) -> io::Result<SimFileHandle> {
        let file = self.0.disk.borrow_mut().create(path);
        Ok(SimFileHandle {
            io: self.clone(),
            file,
        })
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let renamed = self.0.disk.borrow_mut().rename(from, to);
        if renamed {
            Ok(())
        } else {
            Err(io::ErrorKind::NotFound.into())
        }
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
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

/// Runs these at the same time; the first failure, when all have ended.
async fn all_of<E>(futures: Vec<impl Future<Output = Result<(), E>>>) -> Result<(), E> {
    let mut running: Vec<_> = futures.into_iter().map(Box::pin).collect();
    let mut outcome = Ok(());
    std::future::poll_fn(move |context| {
        running.retain_mut(|future| match future.as_mut().poll(context) {
            Poll::Pending => true,
            Poll::Ready(Ok(())) => false,
            Poll::Ready(Err(error)) => {
                if outcome.is_ok() {
                    outcome = Err(error);
                }
                false
            }
        });
        if running.is_empty() {
            return Poll::Ready(std::mem::replace(&mut outcome, Ok(())));
        }
        Poll::Pending
    })
    .await
}
