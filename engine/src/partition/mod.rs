//! A partition: an append-only list of events, its readers' positions, its producers' sequences.
//!
//! A log partition stores its events in segments on the device; a memory partition keeps them all in memory
//! and loses them when the process ends. Everything else is the same.

mod accepting;
mod at_time;
mod cursors;
mod fetch;
mod finding;
mod kept;
mod measured;
mod memory;
mod node_memory;
mod opening;
mod pins;
mod read;
mod reader;
mod readers;
mod recent;
mod referring;
mod refusal;
mod segment;
mod segment_files;
mod states;
mod store;
mod trim;
mod trim_memory;
mod uploads;
mod walk;

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::{Rc, Weak};
use std::time::Duration;

use event_listener::{Event, EventListener};
use mofka_log::{
    Batch, Durability, Ends, EventId, PartitionKind, PartitionRecord, ProducerTable, StoredBatch,
    TopicRecord, Verdict,
};
use mofka_net::{ErrorCode, WireError};

pub use cursors::CursorDone;
use cursors::PartitionCursors;
pub(crate) use cursors::is_reserved;
pub use fetch::{Fetched, FetchedBatch};
use finding::Places;
pub use memory::{ReadCounts, ShardMemory};
pub use node_memory::NodeMemory;
use pins::Pins;
pub use pins::Wanted;
pub(crate) use pins::refused;
pub use read::{ReadLimits, Slice};
pub use reader::Reader;
use readers::Reading;
pub(crate) use readers::Subscriber;
use recent::Recent;
pub use referring::Referral;
use referring::Referring;
use store::Store;
use trim::Leaving;
pub use trim::{RetentionTimer, look_after_retention};
pub use uploads::Upload;
use uploads::Uploads;

use crate::commit::{CommitSink, Poison};
use crate::enforcing::Enforcer;
use crate::io::Io;
use crate::limits::EngineLimits;
use crate::measures::PartitionMeasures;
use crate::recover::OpenError;
use crate::room::{RollError, Room, RoomOwner, Work};

/// How long a partition is quiet before its last batch gets a witness.
const IDLE_MARK: Duration = Duration::from_secs(1);

/// The answer to an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The first event's id; the others follow without gaps.
    pub base_event_id: EventId,
    /// Events in the batch.
    pub event_count: u32,
    /// The batch had been accepted before: this is its first answer again.
    pub duplicate: bool,
}

/// Called once, when the batch is as durable as asked or never will be.
pub type AppendDone = Box<dyn FnOnce(Result<Appended, WireError>)>;

/// What the catalog says of a partition, and where its files go.
#[derive(Clone)]
pub struct PartitionSpec {
    /// Its record.
    pub record: PartitionRecord,
    /// The topic it belongs to.
    pub topic: TopicRecord,
    /// The directory of its files (log partitions).
    pub dir: PathBuf,
    /// What bounds it.
    pub limits: EngineLimits,
}

/// See the module.
pub struct Partition<I: Io> {
    io: I,
    spec: PartitionSpec,
    store: Option<Store<I>>,
    room: Option<Rc<Room<I>>>,
    cursors: PartitionCursors<I>,
    memory: Rc<ShardMemory>,
    producers: RefCell<ProducerTable>,
    recent: RefCell<Recent>,
    places: Places,
    /// The next id of a memory partition.
    memory_end: Cell<EventId>,
    visible_end: Cell<EventId>,
    complete: Cell<bool>,
    stopping: Cell<bool>,
    read_only: RefCell<Option<String>>,
    verdict: Verdict,
    /// Something readers or waiting producers care about changed.
    changed: Event,
    /// The last batch on the device has no witness yet.
    unmarked: Cell<bool>,
    mark_armed: Cell<bool>,
    readers: RefCell<Vec<Reading>>,
    /// What metadata has to be, when the topic leaves that to the node. An error is told to producers.
    enforcer: Result<Option<Enforcer>, String>,
    uploads: Uploads<I>,
    leaving: Leaving,
    pins: Pins,
    referring: Referring,
    measures: Rc<PartitionMeasures>,
    /// Whether the last batch found no room.
    is_full: Cell<bool>,
    me: Weak<Self>,
}

impl<I: Io> Partition<I> {
    /// Opens a partition: recovers a log partition from its files, starts a memory partition empty.
    ///
    /// # Errors
    /// When its files cannot be opened. Damage is not an error here: the partition is then read-only and says why.
    pub async fn open(io: I, spec: PartitionSpec) -> Result<Rc<Self>, OpenError> {
        let memory = ShardMemory::new(&spec.limits);
        Self::open_within(io, spec, memory).await
    }

    /// As [`Partition::open`], sharing memory with the other partitions of a shard.
    ///
    /// # Errors
    /// As [`Partition::open`].
    pub async fn open_within(
        io: I,
        spec: PartitionSpec,
        memory: Rc<ShardMemory>,
    ) -> Result<Rc<Self>, OpenError> {
        let (store, found, cursors) = match spec.record.kind {
            PartitionKind::Memory => (None, None, PartitionCursors::in_memory(io.clone())),
            PartitionKind::Default => {
                let path = spec.dir.join("cursors");
                let cursors = PartitionCursors::open(
                    io.clone(),
                    path,
                    spec.record.id,
                    spec.limits.cursors_rewrite_bytes,
                )
                .await?;
                let mut witnessed_end = cursors.witnessed_end();
                if spec.topic.durability == Durability::Synced {
                    // Nobody sees, and so acknowledges, what is not durable.
                    witnessed_end = witnessed_end.max(cursors.acknowledged_end());
                }
                let config = spec.limits.appender();
                let (store, mut found) = Store::open(
                    io.clone(),
                    spec.dir.clone(),
                    spec.record.id,
                    config,
                    witnessed_end,
                )
                .await?;
                if witnessed_end > found.next_event_id {
                    found.read_only.get_or_insert_with(|| {
                        format!(
                            "damaged: events {} to {witnessed_end} had been durable and are gone (a file of this \
                             partition lost its end)",
                            found.next_event_id
                        )
                    });
                }
                if found.read_only.is_none()
                    && let Err(error) = cursors.move_back(found.next_event_id).await
                {
                    found.read_only = Some(format!(
                        "nothing is damaged, but cursors beyond the end could not be moved back ({error}): make room, \
                         and start the node again"
                    ));
                }
                (Some(store), Some(found), cursors)
            }
        };
        let room = store.as_ref().zip(found.as_ref()).map(|(store, found)| {
            let committer = Rc::clone(store.committer());
            Room::new(io.clone(), committer, found.reserved, store.segment_bounds())
        });
        let (end, producers, verdict, read_only) = match found {
            Some(found) => (
                found.next_event_id,
                found.producers,
                found.verdict,
                found.read_only,
            ),
            None => (EventId::new(0), ProducerTable::default(), Verdict::Clean, None),
        };
        let enforcer = Enforcer::of(&spec.topic);
        let partition = Rc::new_cyclic(|me| Self {
            io,
            leaving: Leaving::new(spec.topic.retention.clone()),
            complete: Cell::new(spec.topic.complete || spec.record.complete),
            spec,
            recent: RefCell::new(match &store {
                Some(_) => Recent::within(&memory),
                None => Recent::of_memory_partition(&memory),
            }),
            places: Places::default(),
            store,
            room,
            cursors,
            memory,
            producers: RefCell::new(producers),
            memory_end: Cell::new(end),
            visible_end: Cell::new(end),
            stopping: Cell::new(false),
            read_only: RefCell::new(read_only),
            verdict,
            changed: Event::new(),
            unmarked: Cell::new(false),
            mark_armed: Cell::new(false),
            readers: RefCell::default(),
            enforcer,
            uploads: Uploads::default(),
            pins: Pins::default(),
            referring: Referring::new(end),
            measures: Rc::default(),
            is_full: Cell::new(false),
            me: me.clone(),
        });
        if let Some(store) = &partition.store {
            let sink: Weak<dyn CommitSink> = partition.me.clone();
            store.committer().attach(sink);
            partition.memory.register(partition.me.clone());
        }
        if let Some(room) = &partition.room {
            let owner: Weak<dyn RoomOwner> = partition.me.clone();
            room.attach(owner);
            if partition.read_only.borrow().is_some() {
                room.leave_alone();
            }
        }
        partition.audit_in_background();
        Ok(partition)
    }

    /// Opening looks at the end of the log alone; this looks at the rest.
    fn audit_in_background(&self) {
        let me = self.me.clone();
        self.io.spawn(async move {
            let Some(partition) = me.upgrade() else { return };
            let Some(store) = &partition.store else { return };
            if let Err(error) = store.audit().await {
                let spec = &partition.spec;
                if error.is_io() {
                    // Nothing is known to be wrong with what is stored; who reads it will see.
                    tracing::warn!(topic = %spec.topic.name, partition = spec.record.index, %error, "older segments were not all looked at");
                    return;
                }
                let reason = format!("damaged: {error}");
                partition.becomes_read_only(reason);
            }
        });
    }

    /// Looks whether the topic's validator takes a batch, when it is the node's business.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn validate(&self, batch: &Batch) -> Result<(), WireError> {
        match &self.enforcer {
            Ok(None) => Ok(()),
            Ok(Some(enforcer)) => enforcer.check(batch),
            Err(reason) => Err(WireError::new(ErrorCode::InvalidMetadata, reason.clone())),
        }
    }

    /// The machine that it is on.
    pub(crate) fn io(&self) -> &I {
        &self.io
    }

    /// What the catalog says of it.
    pub fn spec(&self) -> &PartitionSpec {
        &self.spec
    }

    /// Starts writing what was appended.
    pub fn kick(&self) {
        if let Some(store) = &self.store {
            store.committer().kick();
        }
    }

    /// Whether so much waits to be written that no more should be read from sockets. Not where nothing will be written any more:
    /// what comes is refused then, and nobody is to wait for that.
    pub fn is_congested(&self) -> bool {
        let Some(store) = &self.store else { return false };
        let waiting = self.room.as_ref().map_or(0, |room| room.waiting_bytes());
        store.committer().pending_bytes() + waiting > self.memory.pending_bytes_max()
            && !self.stopping.get()
            && store.committer().poison().is_none()
    }

    /// The exclusive end of what consumers may see.
    pub fn visible_end(&self) -> EventId {
        self.visible_end.get()
    }

    /// The first event that is still there.
    pub fn trim_end(&self) -> EventId {
        match &self.store {
            Some(store) => store.trim_end(),
            None => {
                let first = self.recent.borrow().first_event_id();
                first.unwrap_or(self.memory_end.get())
            }
        }
    }

    fn appended_end(&self) -> EventId {
        self.store.as_ref().map_or(self.memory_end.get(), |store| {
            store.committer().ends().appended_end
        })
    }

    /// The chain of positions of this partition.
    pub fn ends(&self) -> Ends {
        match &self.store {
            Some(store) => store.committer().ends(),
            None => {
                let end = self.memory_end.get();
                Ends {
                    synced_end: end,
                    written_end: end,
                    appended_end: end,
                }
            }
        }
    }

    /// Waits for anything that may make more visible, complete the topic, or end the partition. Listen first, then
    /// look, then wait.
    pub fn listen(&self) -> EventListener {
        self.changed.listen()
    }

    /// Wakes everybody who listens; for changes that are not this partition's own.
    pub fn wake(&self) {
        self.changed.notify(usize::MAX);
    }

    /// No more events will come: marked complete.
    pub fn is_complete(&self) -> bool {
        self.complete.get()
    }

    /// Refuses appends from now on; readers get the end of stream after the last event.
    pub fn set_complete(&self) {
        if !self.complete.replace(true) {
            self.note_complete();
        }
        self.wake();
    }

    /// Why the partition takes no more events, if an I/O error stopped it.
    pub fn poison(&self) -> Option<String> {
        self.store
            .as_ref()
            .and_then(|store| store.committer().poison())
            .map(|poison| poison.reason.clone())
    }

    /// Why the partition only serves reads, if so.
    pub fn read_only(&self) -> Option<String> {
        self.read_only.borrow().clone()
    }

    /// What recovery said when the partition was opened.
    pub fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    /// Bytes on the device, or in memory for a memory partition.
    pub fn used_bytes(&self) -> u64 {
        self.store
            .as_ref()
            .map_or_else(|| self.recent.borrow().bytes(), Store::used_bytes)
    }

    /// Bytes of memory that it takes to know where the stored events are.
    pub fn index_bytes(&self) -> u64 {
        self.store.as_ref().map_or(0, Store::index_bytes)
    }

    /// Segments on the device.
    pub fn segment_count(&self) -> usize {
        self.store.as_ref().map_or(0, Store::segment_count)
    }

    /// Finishes what was accepted, refuses the rest, leaves a clean mark.
    pub async fn stop(&self) {
        self.stopping.set(true);
        // Whoever waits for a congested partition is refused now.
        self.wake();
        self.abort_uploads().await;
        if let Some((store, room)) = self.store.as_ref().zip(self.room.as_ref()) {
            room.settle().await;
            store.committer().drain().await;
            if room.has_room_for_mark() {
                store.committer().mark(true).await;
            }
            self.cursors.witness(store.committer().ends().synced_end).await;
            store.settle().await;
            store.forget_next().await;
            if let Err(error) = room.give_back().await {
                tracing::warn!(%error, "space that a partition had ahead could not be given back");
            }
        }
        self.cursors.stop().await;
        self.wake();
    }

    /// Once the partition has been quiet for a while, gives its last batch a witness.
    fn arm_mark(&self) {
        if self.mark_armed.replace(true) {
            return;
        }
        let me = self.me.clone();
        let io = self.io.clone();
        self.io.spawn(async move {
            let mut seen = None;
            loop {
                io.sleep(IDLE_MARK).await;
                let Some(partition) = me.upgrade() else { return };
                let Some(store) = &partition.store else { return };
                let ends = store.committer().ends();
                if partition.stopping.get() || !partition.unmarked.get() || partition.poison().is_some() {
                    partition.mark_armed.set(false);
                    return;
                }
                let idle = ends.synced_end == ends.appended_end && seen == Some(ends.appended_end);
                if idle {
                    if partition
                        .room
                        .as_ref()
                        .is_some_and(|room| room.has_room_for_mark())
                    {
                        store.committer().mark(false).await;
                    }
                    partition.cursors.witness(ends.synced_end).await;
                }
                seen = Some(ends.appended_end);
            }
        });
    }
}

impl<I: Io> CommitSink for Partition<I> {
    fn planned(&self, batches: &[StoredBatch]) {
        let Some(store) = &self.store else { return };
        store.note(batches);
        let mut recent = self.recent.borrow_mut();
        for stored in batches {
            self.unmarked.set(!stored.batch.is_mark());
            if !stored.batch.is_mark() {
                recent.push(stored.batch.clone());
            }
        }
        drop(recent);
        self.memory.shrink();
    }

    fn moved(&self, ends: Ends) {
        let visible_end = match self.spec.topic.durability {
            Durability::Synced => ends.synced_end,
            Durability::Written | Durability::Buffered => ends.written_end,
        };
        assert!(
            visible_end >= self.visible_end.get(),
            "what was visible stays visible"
        );
        if visible_end > self.visible_end.get() {
            self.visible_end.set(visible_end);
            self.wake();
            self.arm_mark();
        }
        // What was not on the device when it came may go now.
        self.memory.shrink();
    }

    fn wants_written(&self) -> bool {
        self.spec.topic.durability != Durability::Synced
    }

    fn committed(&self, bytes: u64, took_us: u64) {
        self.measures.commits.add(1);
        self.measures.committed_bytes.add(bytes);
        self.measures.commit.record(took_us);
    }

    fn poisoned(&self, poison: &Rc<Poison>) {
        self.note_poisoned(&poison.reason);
        self.wake();
    }
}

impl<I: Io> RoomOwner for Partition<I> {
    fn wants_next(&self) -> bool {
        !self.stopping.get() && self.store.as_ref().is_some_and(Store::wants_next)
    }

    fn prepare(self: Rc<Self>) {
        if let Some(store) = &self.store {
            store.will_prepare();
        }
        let io = self.io.clone();
        io.spawn(async move {
            let Some((store, room)) = self.store.as_ref().zip(self.room.as_ref()) else {
                return;
            };
            match store.prepare(room.ahead()).await {
                Ok(()) => {}
                Err(RollError::NoRoom(_)) => room.found_full(),
                Err(RollError::Failed(reason)) => store.committer().fail(reason),
            }
        });
    }

    fn roll(self: Rc<Self>) -> Work<Result<(), RollError>> {
        Box::pin(async move {
            let Some((store, room)) = self.store.as_ref().zip(self.room.as_ref()) else {
                return Ok(());
            };
            let producers = self.producers.borrow().clone();
            room.installed(store.roll(&producers, room.ahead()).await?);
            self.unmarked.set(false);
            self.note_rolled();
            let partition = Rc::clone(&self);
            self.io.spawn(async move { partition.trim().await });
            Ok(())
        })
    }
}

fn poisoned(spec: &PartitionSpec, reason: &str) -> WireError {
    let message = format!(
        "partition {} of topic {} is poisoned: {reason}",
        spec.record.index, spec.topic.name
    );
    WireError::new(ErrorCode::Poisoned, message)
}
