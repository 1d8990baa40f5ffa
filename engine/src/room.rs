//! Room on the device before ids are given.
//!
//! A batch enters its log when the files are long enough for it already: what is written then cannot fail for lack of
//! space, and costs the file system no change of its own. The files are made longer in steps, ahead of their content, in
//! the background; whoever comes before there is room waits here in order, and is refused without having changed
//! anything when the device is full. The next one that comes tries again, so that a log heals when room returns.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::{Rc, Weak};

use event_listener::Event;
use futures_lite::future;
use mofka_log::{BLOCK_BYTES, FilePos, Reach};

use crate::commit::Committer;
use crate::io::{Io, IoFile, Pace};

mod ahead;

use ahead::{AHEAD_BYTES_MIN, Ahead, likely_end};

/// Bytes of a batch.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Need {
    pub(crate) frame_bytes: u64,
    pub(crate) data_bytes: u64,
}

/// The device is full.
#[derive(Clone, Debug)]
pub(crate) struct NoRoom {
    /// What was tried, and what the machine answered.
    pub(crate) reason: String,
}

/// Called once: with `Ok`, the batch is to be accepted before the call returns.
pub(crate) type Enter = Box<dyn FnOnce(Result<(), NoRoom>)>;

/// Why a segment could not be rolled.
pub(crate) enum RollError {
    /// The device is full: nothing was changed.
    NoRoom(String),
    /// Something else: what is on the device is not known.
    Failed(String),
}

/// What one future of an owner gives.
pub(crate) type Work<T> = Pin<Box<dyn Future<Output = T>>>;

/// Whoever gives a log new files.
pub(crate) trait RoomOwner {
    /// Whether it is time to make the files of the next segment ready.
    fn wants_next(&self) -> bool;
    /// Begins to make them ready, in the background. From then on it is not time any more.
    fn prepare(self: Rc<Self>);
    /// Goes on in the next segment. Nothing is queued or under way.
    fn roll(self: Rc<Self>) -> Work<Result<(), RollError>>;
}

/// Called once: with `Ok`, the segment has no events, nothing is under way, and everybody else waits until the future ends.
pub(crate) type EnterAlone = Box<dyn FnOnce(Result<(), NoRoom>) -> Work<()>>;

enum Entry {
    Batch(Enter),
    Alone(EnterAlone),
}

struct Entrant {
    need: Need,
    entry: Entry,
}

/// See the module.
pub(crate) struct Room<I: Io> {
    io: I,
    committer: Rc<Committer<I>>,
    /// Ends of the files. The data file's is not used where there is none.
    reserved: Cell<Reach>,
    /// Bytes of the files from which on a segment is not made longer.
    segment: Reach,
    waiting: RefCell<VecDeque<Entrant>>,
    waiting_bytes: Cell<u64>,
    working: Cell<bool>,
    roll_asked: Cell<bool>,
    /// Everybody waits meanwhile.
    rolling: Cell<bool>,
    ahead: Cell<Ahead>,
    /// The last attempt to have room ahead found the device full: only who needs it tries again.
    full: Cell<bool>,
    /// Something durable is damaged: nothing is written, made longer or cut off, so that it can be repaired.
    left_alone: Cell<bool>,
    owner: RefCell<Option<Weak<dyn RoomOwner>>>,
    idle: Event,
}

enum Task {
    Enter(Entrant),
    /// Somebody waits for it.
    Roll,
    /// Nobody needs it.
    RollEarly,
    Grow {
        needed: Reach,
        wanted: Reach,
    },
    Prepare(Rc<dyn RoomOwner>),
    Nothing,
}

impl<I: Io> Room<I> {
    /// Room in files that end at `reserved`. `segment`: the bounds of the committer's segments.
    pub(crate) fn new(io: I, committer: Rc<Committer<I>>, reserved: Reach, segment: Reach) -> Rc<Self> {
        Rc::new(Self {
            io,
            committer,
            reserved: Cell::new(reserved),
            segment,
            waiting: RefCell::new(VecDeque::new()),
            waiting_bytes: Cell::new(0),
            working: Cell::new(false),
            roll_asked: Cell::new(false),
            rolling: Cell::new(false),
            ahead: Cell::new(Ahead::new()),
            full: Cell::new(false),
            left_alone: Cell::new(false),
            owner: RefCell::new(None),
            idle: Event::new(),
        })
    }

    /// Names who rolls. Without an owner there is one segment for ever.
    pub(crate) fn attach(&self, owner: Weak<dyn RoomOwner>) {
        *self.owner.borrow_mut() = Some(owner);
    }

    fn owner(&self) -> Option<Rc<dyn RoomOwner>> {
        self.owner.borrow().as_ref().and_then(Weak::upgrade)
    }

    /// The committer goes on in files that end here.
    pub(crate) fn installed(&self, reserved: Reach) {
        self.reserved.set(reserved);
    }

    /// The committer goes on with a data file that ends here.
    pub(crate) fn installed_data(&self, end: FilePos) {
        let meta = self.reserved.get().meta;
        self.reserved.set(Reach { meta, data: end });
    }

    /// Bytes of batches that wait for room.
    pub(crate) fn waiting_bytes(&self) -> u64 {
        self.waiting_bytes.get()
    }

    /// Calls `enter` when there is room for this much: now, if nobody waits and there is; else in the order of the calls.
    pub(crate) fn enter(self: &Rc<Self>, need: Need, enter: Enter) {
        if self.takes(need) {
            enter(Ok(()));
            if self.wants_more() {
                self.work();
            }
            return;
        }
        self.wait(need, Entry::Batch(enter));
    }

    /// Calls `enter` when the segment has no events and room for this much, in the order of the calls: the segment is rolled
    /// for it.
    pub(crate) fn enter_alone(self: &Rc<Self>, need: Need, enter: EnterAlone) {
        self.wait(need, Entry::Alone(enter));
    }

    fn wait(self: &Rc<Self>, need: Need, entry: Entry) {
        self.waiting_bytes
            .set(self.waiting_bytes.get() + need.frame_bytes + need.data_bytes);
        self.waiting.borrow_mut().push_back(Entrant { need, entry });
        self.work();
    }

    /// Rolls the segment although it is not full, when all that was accepted is durable. Not when it has no events.
    pub(crate) fn roll_early(self: &Rc<Self>) {
        self.roll_asked.set(true);
        self.work();
    }

    /// There was no room for what is not needed yet.
    pub(crate) fn found_full(&self) {
        self.full.set(true);
    }

    /// From now on the files stay as they are. Whoever enters or waits is let in at once, to be refused.
    pub(crate) fn leave_alone(self: &Rc<Self>) {
        self.left_alone.set(true);
        if !self.waiting.borrow().is_empty() {
            self.work();
        }
    }

    /// Whether no file is touched any more.
    fn is_over(&self) -> bool {
        self.left_alone.get() || self.committer.poison().is_some()
    }

    /// Whether a mark may be written: it is not worth making a file longer, and nothing may be under way at a roll.
    pub(crate) fn has_room_for_mark(&self) -> bool {
        if self.rolling.get() || self.left_alone.get() {
            return false;
        }
        let reach = self
            .committer
            .with_appender(|appender| appender.reach_with(128, 0));
        reach.meta <= self.reserved.get().meta
    }

    /// Waits until nobody waits for room and nothing is being prepared.
    pub(crate) async fn settle(&self) {
        loop {
            let listener = self.idle.listen();
            if !self.working.get() {
                return;
            }
            listener.await;
        }
    }

    /// Gives back what the files have ahead of their content. Who comes meanwhile waits until it is done: what he writes would be
    /// cut off.
    pub(crate) async fn give_back(self: &Rc<Self>) -> io::Result<()> {
        self.settle().await;
        self.working.set(true);
        self.rolling.set(true);
        self.committer.drain().await;
        let given = match self.is_over() {
            true => Ok(()),
            false => self.cut_to_content().await,
        };
        self.rolling.set(false);
        self.working.set(false);
        self.idle.notify(usize::MAX);
        if !self.waiting.borrow().is_empty() {
            self.work();
        }
        given
    }

    async fn cut_to_content(&self) -> io::Result<()> {
        let files = self.committer.files();
        let (meta, data) = self
            .committer
            .with_appender(|appender| (appender.meta_end(), appender.data_end()));
        let before = self.reserved.get();
        let content = Reach {
            meta: meta.align_up(BLOCK_BYTES as u64).min(before.meta),
            data: data.align_up(BLOCK_BYTES as u64).min(before.data),
        };
        // First: whatever comes of it, there is nothing beyond to rely on.
        self.reserved.set(content);
        if content.meta < before.meta {
            files.meta.truncate(content.meta).await?;
        }
        if let Some(file) = &files.data
            && content.data < before.data
        {
            file.truncate(content.data).await?;
        }
        Ok(())
    }

    /// Whether this much would enter at once.
    pub(crate) fn takes(&self, need: Need) -> bool {
        self.waiting.borrow().is_empty() && !self.rolling.get() && self.fits(need)
    }

    fn fits(&self, need: Need) -> bool {
        let reserved = self.reserved.get();
        self.is_over()
            || self.committer.with_appender(|appender| {
                let reach = appender.reach_with(need.frame_bytes, need.data_bytes);
                let nothing = need.frame_bytes == 0;
                nothing || (!appender.is_full() && reach.meta <= reserved.meta && reach.data <= reserved.data)
            })
    }

    /// Whether the files should be made longer, or the next ones made ready.
    fn wants_more(&self) -> bool {
        if self.working.get() || self.is_over() {
            return false;
        }
        !self.full.get() && (self.is_low() || self.owner().is_some_and(|owner| owner.wants_next()))
    }

    /// Whether half of what there was ahead is used up.
    fn is_low(&self) -> bool {
        let (reserved, wanted) = (self.reserved.get(), self.wanted(Need::default()));
        let ahead = self.ahead.get();
        let low = |reserved: FilePos, wanted: FilePos, bytes: u64| {
            wanted.since(reserved) > Ahead::of(bytes, reserved) / 2
        };
        low(reserved.meta, wanted.meta, ahead.meta_bytes) || low(reserved.data, wanted.data, ahead.data_bytes)
    }

    /// What the files of the next segment should have ahead.
    pub(crate) fn ahead(&self) -> Reach {
        let ahead = self.ahead.get();
        Reach {
            meta: FilePos::new(ahead.meta_bytes),
            data: FilePos::new(ahead.data_bytes),
        }
    }

    /// Where the files should end, for a batch of this size and what comes after it.
    fn wanted(&self, need: Need) -> Reach {
        let reach = self.reach(need);
        let used = self
            .committer
            .with_appender(|appender| (appender.meta_end(), appender.data_end()));
        let ahead = self.ahead.get();
        let wanted = |reach: FilePos, used: FilePos, bound: FilePos, bytes: u64| {
            let ahead = FilePos::new(reach.get().saturating_add(Ahead::of(bytes, used)));
            ahead.min(bound.max(reach))
        };
        let meta_bound = self
            .segment
            .meta
            .min(likely_end(used.0, used.1, self.segment.data));
        let data_bound = self
            .segment
            .data
            .min(likely_end(used.1, used.0, self.segment.meta));
        let meta = wanted(reach.meta, used.0, meta_bound, ahead.meta_bytes);
        // A partition whose events have no data needs no room for any.
        let data = if reach.data.get() > BLOCK_BYTES as u64 {
            wanted(reach.data, used.1, data_bound, ahead.data_bytes)
        } else {
            reach.data
        };
        Reach { meta, data }
    }

    fn reach(&self, need: Need) -> Reach {
        self.committer
            .with_appender(|appender| appender.reach_with(need.frame_bytes, need.data_bytes))
    }

    fn work(self: &Rc<Self>) {
        if self.working.replace(true) {
            return;
        }
        let this = Rc::clone(self);
        self.io.spawn(async move {
            this.serve().await;
            this.working.set(false);
            this.idle.notify(usize::MAX);
        });
    }

    async fn serve(self: &Rc<Self>) {
        loop {
            match self.next_task() {
                Task::Nothing => {
                    // Who entered before somebody else was refused is not to wait for a third.
                    self.committer.kick();
                    return;
                }
                Task::Enter(entrant) => {
                    match entrant.entry {
                        Entry::Batch(enter) => enter(Ok(())),
                        Entry::Alone(enter) => {
                            self.rolling.set(true);
                            self.committer.drain().await;
                            enter(Ok(())).await;
                            self.rolling.set(false);
                        }
                    }
                    // All that came together is written together.
                    if self.waiting.borrow().is_empty() {
                        self.committer.kick();
                    }
                }
                Task::Roll => {
                    if let Some(reason) = self.roll().await {
                        self.refuse(&reason);
                    }
                }
                // Who waits may fit all the same.
                Task::RollEarly => drop(self.roll().await),
                Task::Grow { needed, wanted } => {
                    self.committer.kick();
                    self.grow(needed, wanted).await;
                }
                Task::Prepare(owner) => {
                    owner.prepare();
                    return;
                }
            }
        }
    }

    fn next_task(&self) -> Task {
        let front = self
            .waiting
            .borrow()
            .front()
            .map(|entrant| (entrant.need, matches!(entrant.entry, Entry::Alone(_))));
        let is_over = self.is_over();
        if self.roll_asked.replace(false) && !is_over && self.owner().is_some() {
            return Task::RollEarly;
        }
        if let Some((need, alone)) = front {
            let is_empty = self.committer.with_appender(|appender| appender.is_empty());
            if alone && !is_empty && !is_over && self.owner().is_some() {
                return Task::Roll;
            }
            if self.fits(need) {
                let entrant = self.waiting.borrow_mut().pop_front();
                let Some(entrant) = entrant else {
                    return Task::Nothing;
                };
                self.waiting_bytes
                    .set(self.waiting_bytes.get() - need.frame_bytes - need.data_bytes);
                return Task::Enter(entrant);
            }
            if self.is_full_for(need) && self.owner().is_some() {
                return Task::Roll;
            }
            return Task::Grow {
                needed: self.reach(need),
                wanted: self.wanted(need),
            };
        }
        if is_over || self.full.get() {
            return Task::Nothing;
        }
        if self.is_low() {
            return Task::Grow {
                needed: self.reach(Need::default()),
                wanted: self.wanted(Need::default()),
            };
        }
        match self.owner() {
            Some(owner) if owner.wants_next() => Task::Prepare(owner),
            _ => Task::Nothing,
        }
    }

    /// Whether this segment is full, or would have to grow beyond its bounds for a batch of this size. A segment without
    /// events does: a batch may be larger than a segment.
    fn is_full_for(&self, need: Need) -> bool {
        let (is_full, is_empty, reach) = self.committer.with_appender(|appender| {
            let reach = appender.reach_with(need.frame_bytes, need.data_bytes);
            (appender.is_full(), appender.is_empty(), reach)
        });
        is_full || (!is_empty && (reach.meta > self.segment.meta || reach.data > self.segment.data))
    }

    async fn grow(&self, needed: Reach, wanted: Reach) {
        let (reserved, mut ahead) = (self.reserved.get(), self.ahead.get());
        ahead.used_up(
            self.io.now_us(),
            wanted.meta > reserved.meta,
            wanted.data > reserved.data,
        );
        self.ahead.set(ahead);
        let mut outcome = self.reserve(wanted).await;
        if outcome.as_ref().is_err_and(is_full) {
            // Perhaps there is room for who waits, if not for who may come.
            outcome = self.reserve(needed).await;
            self.full.set(true);
        } else {
            self.full.set(false);
        }
        match outcome {
            Ok(()) => {}
            Err(error) if is_full(&error) => self.refuse(&format!("no room on the device: {error}")),
            Err(error) => self.committer.fail(format!("making room: {error}")),
        }
    }

    /// Room of a log without any: what its first files have.
    pub(crate) fn first() -> Reach {
        let end = FilePos::new(AHEAD_BYTES_MIN);
        Reach { meta: end, data: end }
    }

    async fn reserve(&self, wanted: Reach) -> io::Result<()> {
        let files = self.committer.files();
        let before = self.reserved.get();
        let meta = async {
            if wanted.meta > before.meta {
                files
                    .meta
                    .reserve(before.meta, wanted.meta, Pace::Hurried)
                    .await?;
                let reserved = self.reserved.get();
                self.reserved.set(Reach {
                    meta: wanted.meta,
                    ..reserved
                });
            }
            Ok(())
        };
        let data = async {
            if let Some(data) = &files.data
                && wanted.data > before.data
            {
                data.reserve(before.data, wanted.data, Pace::Hurried).await?;
                let reserved = self.reserved.get();
                self.reserved.set(Reach {
                    data: wanted.data,
                    ..reserved
                });
            }
            Ok(())
        };
        let (meta, data): (io::Result<()>, io::Result<()>) = future::zip(meta, data).await;
        meta.and(data)
    }

    /// Gives why there is no room, if so.
    async fn roll(&self) -> Option<String> {
        self.rolling.set(true);
        self.committer.drain().await;
        let no_room = self.go_on_in_next().await;
        self.rolling.set(false);
        no_room
    }

    async fn go_on_in_next(&self) -> Option<String> {
        let empty = self.committer.with_appender(|appender| appender.is_empty());
        if self.is_over() || empty {
            return None;
        }
        let Some(owner) = self.owner() else {
            return Some("the log is closed".to_owned());
        };
        match owner.roll().await {
            Ok(()) => self.full.set(false),
            Err(RollError::NoRoom(reason)) => {
                self.full.set(true);
                return Some(reason);
            }
            Err(RollError::Failed(reason)) => self.committer.fail(reason),
        }
        None
    }

    /// All that wait are told that there is no room.
    fn refuse(&self, reason: &str) {
        let waiting = self.waiting.take();
        self.waiting_bytes.set(0);
        for entrant in waiting {
            let no_room = Err(NoRoom {
                reason: reason.to_owned(),
            });
            match entrant.entry {
                Entry::Batch(enter) => enter(no_room),
                Entry::Alone(enter) => self.io.spawn(enter(no_room)),
            }
        }
    }
}

/// Whether the device or a quota is full, which passes.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}
