//! Carries out what the appender plans: writes, syncs, answers, in that order.
//!
//! One [`Committer`] owns the files that one appender writes (a meta file and, for partitions, a data file). While a
//! commit is under way everything that arrives gathers into the next one (group commit); no delay is ever added.
//! A failed write or sync poisons the committer: every waiter is told why, nothing is retried, and only reopening
//! (which reads what is really on the device) makes it work again.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::{Rc, Weak};

use event_listener::Event;
use mofka_log::{
    AckAt, Appender, Batch, Commit, Ends, EventId, FilePos, SegmentFacts, StoredBatch, Stretch, WritePlan,
};

use crate::io::{FileWrite, IN_PLACE_BYTES, Io, Step, StepError, Then, WritePart};

/// Data from here on is not copied before it is written, if it lies in memory as the device wants it.
const IN_PLACE_MIN_BYTES: usize = 64 << 10;

/// Called once, when a batch reached the durability that its producer asked for, or when it never will.
pub(crate) type Done = Box<dyn FnOnce(Result<(), Rc<Poison>>)>;

/// Why a committer refuses to work until it is reopened.
#[derive(Debug)]
pub(crate) struct Poison {
    /// What was tried, and what the machine answered.
    pub(crate) reason: String,
    /// The device was full: nothing was tried, nothing is lost, and the next one may find room.
    pub(crate) passes: bool,
}

/// What the owner of a committer wants to hear.
pub(crate) trait CommitSink {
    /// These batches got their final stamp and are on their way to the device.
    fn planned(&self, batches: &[StoredBatch]);
    /// The ends moved.
    fn moved(&self, ends: Ends);
    /// Whether somebody looks at what is written before it is synced.
    fn wants_written(&self) -> bool;
    /// A commit of so many bytes is durable, and took so long.
    fn committed(&self, bytes: u64, took_us: u64);
    /// Nothing will be accepted from now on.
    fn poisoned(&self, poison: &Rc<Poison>);
}

struct Waiter {
    end: EventId,
    done: Done,
}

/// The files of one appender.
pub(crate) struct Files<F> {
    pub(crate) meta: Rc<F>,
    pub(crate) data: Option<Rc<F>>,
}

impl<F> Clone for Files<F> {
    fn clone(&self) -> Self {
        Self {
            meta: Rc::clone(&self.meta),
            data: self.data.clone(),
        }
    }
}

struct State<F> {
    appender: Appender,
    files: Files<F>,
    written_waiters: VecDeque<Waiter>,
    synced_waiters: VecDeque<Waiter>,
}

/// See the module.
pub(crate) struct Committer<I: Io> {
    io: I,
    state: RefCell<State<I::File>>,
    /// Usually owns this committer, so it is not owned back.
    sink: RefCell<Option<Weak<dyn CommitSink>>>,
    poison: RefCell<Option<Rc<Poison>>>,
    changed: Event,
}

impl<I: Io> Committer<I> {
    pub(crate) fn new(io: I, appender: Appender, files: Files<I::File>) -> Rc<Self> {
        Rc::new(Self {
            io,
            state: RefCell::new(State {
                appender,
                files,
                written_waiters: VecDeque::new(),
                synced_waiters: VecDeque::new(),
            }),
            sink: RefCell::new(None),
            poison: RefCell::new(None),
            changed: Event::new(),
        })
    }

    /// Names who is told of progress. Called once, before the first batch.
    pub(crate) fn attach(&self, sink: Weak<dyn CommitSink>) {
        *self.sink.borrow_mut() = Some(sink);
    }

    fn sink(&self) -> Option<Rc<dyn CommitSink>> {
        self.sink.borrow().as_ref().and_then(Weak::upgrade)
    }

    /// Why nothing is accepted any more, if so.
    pub(crate) fn poison(&self) -> Option<Rc<Poison>> {
        self.poison.borrow().clone()
    }

    pub(crate) fn ends(&self) -> Ends {
        self.state.borrow().appender.ends()
    }

    /// Bytes accepted and not yet part of a commit.
    pub(crate) fn pending_bytes(&self) -> u64 {
        self.state.borrow().appender.pending_bytes()
    }

    /// Commits under way.
    pub(crate) fn in_flight(&self) -> usize {
        self.state.borrow().appender.in_flight()
    }

    pub(crate) fn files(&self) -> Files<I::File> {
        self.state.borrow().files.clone()
    }

    /// Runs `f` on the appender, for facts the owner needs while nothing is in flight.
    pub(crate) fn with_appender<R>(&self, f: impl FnOnce(&mut Appender) -> R) -> R {
        f(&mut self.state.borrow_mut().appender)
    }

    /// Gives the batch its ids and queues it. The caller calls [`Committer::kick`] after a burst of these.
    /// `done` may be called before this returns.
    pub(crate) fn accept(&self, batch: Batch, at: AckAt, done: Done) -> mofka_log::Accepted {
        assert!(
            self.poison.borrow().is_none(),
            "the owner checks for poison before it accepts"
        );
        let now_us = self.io.now_us();
        let accepted = self.state.borrow_mut().appender.accept(batch, now_us);
        self.wait_for(accepted.end_event_id, at, done);
        accepted
    }

    /// As [`Committer::accept`], for a batch whose data is in the data file.
    pub(crate) fn accept_stored(&self, batch: Batch, at: AckAt, done: Done) -> mofka_log::Accepted {
        assert!(
            self.poison.borrow().is_none(),
            "the owner checks for poison before it accepts"
        );
        let now_us = self.io.now_us();
        let accepted = self.state.borrow_mut().appender.accept_stored(batch, now_us);
        self.wait_for(accepted.end_event_id, at, done);
        accepted
    }

    /// Goes on with this data file, which has the data of the next batch. The segment has no events.
    pub(crate) fn adopt_data(&self, data: Rc<I::File>, end: FilePos, tail: Vec<u8>) {
        let mut state = self.state.borrow_mut();
        state.appender.adopt_data(end, tail);
        state.files.data = Some(data);
    }

    /// Calls `done` when everything before `end` is as durable as `at` asks.
    pub(crate) fn wait_for(&self, end: EventId, at: AckAt, done: Done) {
        if let Some(poison) = self.poison() {
            return done(Err(poison));
        }
        let mut state = self.state.borrow_mut();
        let ends = state.appender.ends();
        let (reached, queue) = match at {
            AckAt::Accepted => (true, &mut state.written_waiters),
            AckAt::Written => (end <= ends.written_end, &mut state.written_waiters),
            AckAt::Synced => (end <= ends.synced_end, &mut state.synced_waiters),
        };
        if reached {
            drop(state);
            return done(Ok(()));
        }
        // Resent batches and barriers may wait for an earlier end than the last in the queue.
        let place = queue.partition_point(|waiter| waiter.end <= end);
        queue.insert(place, Waiter { end, done });
    }

    /// Starts as many commits as the appender allows now.
    pub(crate) fn kick(self: &Rc<Self>) {
        loop {
            if self.poison.borrow().is_some() {
                return;
            }
            let commit = self.state.borrow_mut().appender.plan();
            let Some(commit) = commit else { return };
            self.start(commit);
        }
    }

    fn start(self: &Rc<Self>, commit: Commit) {
        if let Some(sink) = self.sink()
            && !commit.batches.is_empty()
        {
            sink.planned(&commit.batches);
        }
        let this = Rc::clone(self);
        self.io.spawn(async move {
            this.run(commit).await;
        });
    }

    async fn run(self: &Rc<Self>, commit: Commit) {
        let begun_us = self.io.monotonic_us();
        if let Err(error) = self.store(&commit).await {
            return self.fail(format!("{error}, at events up to {}", commit.end_event_id));
        }
        if self.poison.borrow().is_some() {
            return; // an earlier commit failed meanwhile: this one must not be acknowledged past the hole
        }
        self.state.borrow_mut().appender.synced(commit.id);
        if let Some(sink) = self.sink() {
            let plans = commit.meta.iter().chain(&commit.data);
            let took_us = self.io.monotonic_us().saturating_sub(begun_us);
            sink.committed(plans.map(WritePlan::total_bytes).sum(), took_us);
        }
        self.advance();
        self.changed.notify(usize::MAX);
        self.kick();
    }

    /// Writes and syncs. In one go, unless somebody waits for what is just written.
    async fn store(&self, commit: &Commit) -> Result<(), StepError> {
        let files = self.files();
        let mut writes = Vec::with_capacity(2);
        if let Some(plan) = &commit.meta {
            writes.push(self.file_write(&files.meta, plan));
        }
        match (&commit.data, &files.data) {
            (Some(plan), Some(file)) => writes.push(self.file_write(file, plan)),
            (None, _) => {}
            (Some(_), None) => unreachable!("a meta-only appender plans no data write"),
        }
        let in_steps = !self.state.borrow().written_waiters.is_empty()
            || self.sink().is_some_and(|sink| sink.wants_written());
        if !in_steps {
            self.io.write(writes, Then::Sync).await?;
            self.state.borrow_mut().appender.written(commit.id);
            return Ok(());
        }
        let written: Vec<_> = writes.iter().map(|write| Rc::clone(&write.file)).collect();
        self.io.write(writes, Then::Nothing).await?;
        self.state.borrow_mut().appender.written(commit.id);
        self.advance();
        let synced = self.io.sync(written).await;
        synced.map_err(|source| StepError {
            step: Step::Sync,
            source,
        })
    }

    /// Large data is written from where it is; the rest is gathered in memory for the device.
    fn file_write(&self, file: &Rc<I::File>, plan: &WritePlan) -> FileWrite<I::File, I::Buf> {
        let parts = plan.stretches(IN_PLACE_BYTES, IN_PLACE_MIN_BYTES);
        let parts = parts.into_iter().map(|stretch| match stretch {
            Stretch::InPlace(bytes) => WritePart::InPlace(bytes),
            Stretch::Gather(gather) => {
                let mut buf = self.io.alloc(gather.total_bytes());
                gather.fill(buf.as_mut());
                WritePart::Own(buf)
            }
        });
        FileWrite {
            file: Rc::clone(file),
            at: plan.at(),
            parts: parts.collect(),
        }
    }

    /// Tells everybody who waited for what is now true.
    fn advance(&self) {
        if self.poison.borrow().is_some() {
            return;
        }
        let ends = self.ends();
        if let Some(sink) = self.sink() {
            sink.moved(ends);
        }
        loop {
            let done = {
                let mut state = self.state.borrow_mut();
                let State {
                    written_waiters,
                    synced_waiters,
                    ..
                } = &mut *state;
                if written_waiters
                    .front()
                    .is_some_and(|waiter| waiter.end <= ends.written_end)
                {
                    written_waiters.pop_front()
                } else if synced_waiters
                    .front()
                    .is_some_and(|waiter| waiter.end <= ends.synced_end)
                {
                    synced_waiters.pop_front()
                } else {
                    None
                }
            };
            match done {
                Some(waiter) => (waiter.done)(Ok(())),
                None => return,
            }
        }
    }

    /// Poisons: nothing is accepted or acknowledged from now on.
    pub(crate) fn fail(&self, reason: String) {
        if self.poison.borrow().is_some() {
            return;
        }
        let poison = Rc::new(Poison {
            reason,
            passes: false,
        });
        *self.poison.borrow_mut() = Some(Rc::clone(&poison));
        if let Some(sink) = self.sink() {
            sink.poisoned(&poison);
        }
        let waiters: Vec<Waiter> = {
            let mut state = self.state.borrow_mut();
            let State {
                written_waiters,
                synced_waiters,
                ..
            } = &mut *state;
            written_waiters
                .drain(..)
                .chain(synced_waiters.drain(..))
                .collect()
        };
        for waiter in waiters {
            (waiter.done)(Err(Rc::clone(&poison)));
        }
        self.changed.notify(usize::MAX);
    }

    /// The segment was rolled: goes on in these files. Nothing is queued or in flight.
    pub(crate) fn install(&self, next: SegmentFacts, files: Files<I::File>) {
        let mut state = self.state.borrow_mut();
        state.appender.roll(next);
        state.files = files;
    }

    /// Waits until all that was accepted is durable, or the committer is poisoned.
    pub(crate) async fn drain(self: &Rc<Self>) {
        self.kick();
        loop {
            let listener = self.changed.listen();
            let settled = {
                let state = self.state.borrow();
                state.appender.is_idle()
            };
            if settled || self.poison.borrow().is_some() {
                return;
            }
            listener.await;
        }
    }

    /// Writes a mark: a witness for the last batch, which has no later frame to vouch for it. Only when idle;
    /// returns at once when something is under way, since that will be the witness.
    pub(crate) async fn mark(self: &Rc<Self>, clean: bool) {
        if self.poison.borrow().is_some() {
            return;
        }
        let now_us = self.io.now_us();
        let commit = self.state.borrow_mut().appender.plan_mark(clean, now_us);
        if let Some(commit) = commit {
            self.run(commit).await;
        }
    }
}
