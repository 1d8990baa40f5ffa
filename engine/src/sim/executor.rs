//! Runs tasks over the simulated disk, one step at a time, in an order that a seed decides.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use super::disk::{Disk, Image, Sectors};
use super::faults::{Fault, FaultPlan, FaultRates, Operation};
use super::pending::{Op, Pending, Value};
use super::random::Random;
use crate::io::Io;

type Task = Pin<Box<dyn Future<Output = ()>>>;

pub(super) struct Sim {
    pub(super) disk: RefCell<Disk>,
    pub(super) random: RefCell<Random>,
    pub(super) pending: RefCell<Vec<Pending>>,
    tasks: RefCell<Vec<Task>>,
    pub(super) spawned: RefCell<Vec<Task>>,
    /// The clock that sleeps go by.
    pub(super) now_us: Cell<u64>,
    /// How far the wall clock is from the one that sleeps go by.
    pub(super) skew_us: Cell<i64>,
    /// Operations end at once: for looking at an image.
    pub(super) immediate: bool,
    /// All but writes, syncs and reservations do.
    is_quick: Cell<bool>,
    pub(super) faults: RefCell<FaultPlan>,
}

/// A simulated machine. Cheap to clone.
#[derive(Clone)]
pub struct SimIo(pub(super) Rc<Sim>);

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
            is_quick: Cell::new(false),
            faults: RefCell::new(FaultPlan::new(seed)),
        }))
    }

    /// From now on reading, opening, and changes of names and sizes take no time: nothing comes between. For histories whose steps a
    /// test counts.
    pub fn set_quick(&self) {
        self.0.is_quick.set(true);
    }

    /// The process is killed and another one finds the machine: operations in flight happened or did not, and what was
    /// not synced is still read. Faults end with the old process.
    #[must_use]
    pub fn kill(&self, seed: u64) -> Self {
        let pending = self.0.pending.take();
        let mut disk = self.0.disk.borrow_mut();
        for Pending { op, .. } in pending {
            if self.0.random.borrow_mut().chance(50) {
                op.happens(&mut disk);
            }
        }
        let mut disk = std::mem::take(&mut *disk);
        self.shut_down();
        disk.forget_in_flight();
        disk.set_room(None);
        let next = Self::new(disk, seed, false);
        next.0.is_quick.set(self.0.is_quick.get());
        next
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

    pub(super) fn draw(&self, operation: Operation) -> Option<Fault> {
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

    pub(super) async fn op(&self, op: Op) -> io::Result<Value> {
        let done = Rc::new(Cell::new(None));
        let is_quick = self.0.immediate || (self.0.is_quick.get() && !op.always_takes_time());
        let pending = Pending {
            op,
            done: Rc::clone(&done),
        };
        if is_quick {
            let outcome = self.take_place(&pending.op);
            pending.done.set(Some(outcome));
        } else {
            self.0.pending.borrow_mut().push(pending);
        }
        std::future::poll_fn(move |_| match done.take() {
            Some(outcome) => Poll::Ready(outcome.map_err(io::Error::from)),
            None => Poll::Pending,
        })
        .await
    }

    /// It takes place; whoever asked for it is told now or, where others may see what happened before that, perhaps later.
    fn end(&self, pending: Pending) {
        if let Op::Told(outcome) = pending.op {
            pending.done.set(Some(outcome));
            return;
        }
        let outcome = self.take_place(&pending.op);
        if pending.op.is_told_late() && self.0.random.borrow_mut().chance(50) {
            let told = Pending {
                op: Op::Told(outcome),
                ..pending
            };
            self.0.pending.borrow_mut().push(told);
        } else {
            pending.done.set(Some(outcome));
        }
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
