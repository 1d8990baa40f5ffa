//! A partition: an append-only list of events, its readers' positions, its producers' sequences.
//!
//! A log partition stores its events in segments on the device; a memory partition keeps them all in memory
//! and loses them when the process ends. Everything else is the same.

mod at_time;
mod connected;
mod cursors;
mod fetch;
mod memory;
mod read;
mod reader;
mod recent;
mod refusal;
mod segment_files;
mod store;
mod walk;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::path::PathBuf;
use std::rc::{Rc, Weak};
use std::time::Duration;

use event_listener::{Event, EventListener};
use mofka_log::{
    AckAt, Batch, Durability, Ends, EventId, PartitionKind, PartitionRecord, ProducerTable, SequenceVerdict,
    Stamp, StoredBatch, TopicRecord, Verdict,
};
use mofka_net::{ErrorCode, WireError};

pub use cursors::CursorDone;
use cursors::PartitionCursors;
pub(crate) use cursors::is_reserved;
pub use fetch::{Fetched, FetchedBatch};
pub use memory::{ReadCounts, ShardMemory};
pub use read::{ReadLimits, Slice};
pub use reader::Reader;
use recent::Recent;
use refusal::refusal;
use store::Store;

use crate::commit::{CommitSink, Done, Poison};
use crate::io::Io;
use crate::limits::EngineLimits;
use crate::recover::OpenError;

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
    cursors: PartitionCursors<I>,
    memory: Rc<ShardMemory>,
    producers: RefCell<ProducerTable>,
    recent: RefCell<Recent>,
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
    connected: RefCell<HashMap<String, usize>>,
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
                let config = spec.limits.appender();
                let (store, found) =
                    Store::open(io.clone(), spec.dir.clone(), spec.record.id, config).await?;
                let path = spec.dir.join("cursors");
                let cursors = PartitionCursors::open(io.clone(), path, spec.record.id).await?;
                let mut found = found;
                let witnessed_end = cursors.witnessed_end();
                if witnessed_end > found.next_event_id {
                    found.read_only.get_or_insert_with(|| {
                        format!(
                            "damaged: events {} to {witnessed_end} had been durable and are gone (a file of this \
                             partition lost its end)",
                            found.next_event_id
                        )
                    });
                }
                (Some(store), Some(found), cursors)
            }
        };
        let (end, producers, verdict, read_only) = match found {
            Some(found) => (
                found.next_event_id,
                found.producers,
                found.verdict,
                found.read_only,
            ),
            None => (EventId::new(0), ProducerTable::default(), Verdict::Clean, None),
        };
        let partition = Rc::new_cyclic(|me| Self {
            io,
            complete: Cell::new(spec.topic.complete),
            spec,
            recent: RefCell::new(match &store {
                Some(_) => Recent::within(&memory),
                None => Recent::default(),
            }),
            store,
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
            connected: RefCell::new(HashMap::new()),
            me: me.clone(),
        });
        if let Some(store) = &partition.store {
            let sink: Weak<dyn CommitSink> = partition.me.clone();
            store.committer().attach(sink);
            partition.memory.register(partition.me.clone());
        }
        Ok(partition)
    }

    /// What the catalog says of it.
    pub fn spec(&self) -> &PartitionSpec {
        &self.spec
    }

    /// Accepts a checked batch, or says why not. Call [`Partition::kick`] after a burst of these.
    pub fn append(&self, batch: Batch, asked: Option<Durability>, done: AppendDone) {
        match self.admit(&batch, asked) {
            Err(error) => done(Err(error)),
            Ok(Admitted::Again {
                base_event_id,
                event_count,
                at,
            }) => {
                let appended = Appended {
                    base_event_id,
                    event_count,
                    duplicate: true,
                };
                let end = base_event_id
                    .checked_add(u64::from(event_count))
                    .unwrap_or(base_event_id);
                match &self.store {
                    None => done(Ok(appended)),
                    Some(store) => store.committer().wait_for(end, at, answer(appended, done)),
                }
            }
            Ok(Admitted::New { at }) => self.accept(batch, at, done),
        }
    }

    fn accept(&self, mut batch: Batch, at: AckAt, done: AppendDone) {
        let event_count = batch.event_count();
        let producer = batch.producer();
        let base_event_id = match &self.store {
            None => {
                let base_event_id = self.memory_end.get();
                batch.stamp(Stamp {
                    base_event_id,
                    timestamp_us: self.io.now_us(),
                    ..Stamp::default()
                });
                let end = batch.end_event_id();
                self.recent.borrow_mut().push(batch);
                self.memory_end.set(end);
                self.visible_end.set(end);
                self.changed.notify(usize::MAX);
                done(Ok(Appended {
                    base_event_id,
                    event_count,
                    duplicate: false,
                }));
                base_event_id
            }
            Some(store) => {
                let base_event_id = store.committer().ends().appended_end;
                let appended = Appended {
                    base_event_id,
                    event_count,
                    duplicate: false,
                };
                let accepted = store.committer().accept(batch, at, answer(appended, done));
                assert_eq!(
                    accepted.base_event_id, base_event_id,
                    "ids are given in order of acceptance"
                );
                base_event_id
            }
        };
        if let Some((id, epoch, sequence)) = producer {
            self.producers
                .borrow_mut()
                .note(id, epoch, sequence, base_event_id, event_count);
        }
    }

    fn admit(&self, batch: &Batch, asked: Option<Durability>) -> Result<Admitted, WireError> {
        let at = self.ack_at(asked)?;
        self.refuse_if_unable()?;
        if let Some((producer, epoch, sequence)) = batch.producer() {
            match self.producers.borrow().check(producer, epoch, sequence) {
                SequenceVerdict::New => {}
                SequenceVerdict::Duplicate {
                    base_event_id,
                    event_count,
                } => {
                    return Ok(Admitted::Again {
                        base_event_id,
                        event_count,
                        at,
                    });
                }
                // The events and with them the sequences of a memory partition end with the process.
                SequenceVerdict::Unknown if self.store.is_none() => {}
                verdict => return Err(refusal(verdict, producer.get(), epoch, sequence)),
            }
        }
        if self.complete.get() {
            let message = format!(
                "topic {} is marked complete: it takes no more events",
                self.spec.topic.name
            );
            return Err(WireError::new(ErrorCode::TopicComplete, message));
        }
        if self.store.is_none() {
            let bytes_max = self.spec.limits.memory_partition_bytes_max;
            let bytes = self.recent.borrow().bytes() + batch.frame_bytes() + batch.data_bytes();
            if bytes > bytes_max {
                let message = format!(
                    "memory partition {} is full: {bytes} bytes would exceed its bound of {bytes_max}",
                    self.spec.record.id
                );
                return Err(WireError::new(ErrorCode::NoSpace, message));
            }
        }
        Ok(Admitted::New { at })
    }

    fn refuse_if_unable(&self) -> Result<(), WireError> {
        if self.stopping.get() {
            return Err(WireError::new(
                ErrorCode::ShuttingDown,
                "the node is shutting down".to_owned(),
            ));
        }
        if let Some(reason) = self.poison() {
            return Err(poisoned(&self.spec, &reason));
        }
        if let Some(reason) = self.read_only.borrow().as_ref() {
            let message = format!("partition {} is read-only: {reason}", self.spec.record.id);
            return Err(WireError::new(ErrorCode::ReadOnly, message));
        }
        Ok(())
    }

    /// When a batch is answered: what the producer asked for, else what the topic says.
    fn ack_at(&self, asked: Option<Durability>) -> Result<AckAt, WireError> {
        if self.store.is_none() {
            return match asked {
                None | Some(Durability::Buffered) => Ok(AckAt::Accepted),
                Some(asked) => Err(WireError::new(
                    ErrorCode::DurabilityUnavailable,
                    format!("a memory partition gives durability \"buffered\" at most, not {asked:?}"),
                )),
            };
        }
        Ok(match asked.unwrap_or(self.spec.topic.durability) {
            Durability::Synced => AckAt::Synced,
            Durability::Written => AckAt::Written,
            Durability::Buffered => AckAt::Accepted,
        })
    }

    /// Starts writing what was appended.
    pub fn kick(&self) {
        if let Some(store) = &self.store {
            store.committer().kick();
        }
    }

    /// Calls `done` when everything appended before this call is durable.
    pub fn barrier(&self, done: AppendDone) {
        let end = self.appended_end();
        let appended = Appended {
            base_event_id: end,
            event_count: 0,
            duplicate: false,
        };
        match &self.store {
            None => done(Ok(appended)),
            Some(store) => {
                store
                    .committer()
                    .wait_for(end, AckAt::Synced, answer(appended, done));
                store.committer().kick();
            }
        }
    }

    /// Whether so much waits to be written that no more should be read from sockets.
    pub fn is_congested(&self) -> bool {
        self.store.as_ref().is_some_and(|store| {
            store.committer().pending_bytes() > self.spec.limits.partition_pending_bytes_max
        })
    }

    /// The exclusive end of what consumers may see.
    pub fn visible_end(&self) -> EventId {
        self.visible_end.get()
    }

    /// The first event that is still there.
    pub fn trim_end(&self) -> EventId {
        self.store.as_ref().map_or(EventId::new(0), Store::trim_end)
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
        self.complete.set(true);
        self.wake();
    }

    /// Moves a consumer's cursor forward; `done` hears the position in force when it is durable.
    pub fn acknowledge(&self, consumer: &str, next: EventId, done: CursorDone) {
        self.cursors.acknowledge(consumer, next, self.io.now_us(), done);
    }

    /// Moves a consumer's cursor to any place; `done` hears it when it is durable.
    pub fn seek(&self, consumer: &str, next: EventId, done: CursorDone) {
        self.cursors.set(consumer, next, self.io.now_us(), done);
    }

    /// Where a consumer goes on, if it ever acknowledged anything here.
    pub fn cursor(&self, consumer: &str) -> Option<EventId> {
        self.cursors.get(consumer)
    }

    /// The durable positions of consumers.
    pub(crate) fn cursors(&self) -> &PartitionCursors<I> {
        &self.cursors
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

    /// Segments on the device.
    pub fn segment_count(&self) -> usize {
        self.store.as_ref().map_or(0, Store::segment_count)
    }

    /// Finishes what was accepted, refuses the rest, leaves a clean mark.
    pub async fn stop(&self) {
        self.stopping.set(true);
        if let Some(store) = &self.store {
            store.committer().drain().await;
            store.committer().mark(true).await;
            self.cursors.witness(store.committer().ends().synced_end).await;
        }
        self.cursors.stop().await;
        self.wake();
    }

    async fn roll(&self) {
        let Some(store) = &self.store else { return };
        let producers = self.producers.borrow().clone();
        match store.roll(&producers).await {
            Ok(()) => self.unmarked.set(false),
            Err(error) => store.committer().fail(error.to_string()),
        }
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
                    store.committer().mark(false).await;
                    partition.cursors.witness(ends.synced_end).await;
                }
                seen = Some(ends.appended_end);
            }
        });
    }
}

enum Admitted {
    New {
        at: AckAt,
    },
    Again {
        base_event_id: EventId,
        event_count: u32,
        at: AckAt,
    },
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

    fn poisoned(&self, poison: &Rc<Poison>) {
        tracing::error!(
            topic = %self.spec.topic.name,
            partition = self.spec.record.index,
            id = %self.spec.record.id,
            reason = %poison.reason,
            "partition is poisoned: it takes no more events until the node is restarted; stored events stay readable"
        );
        self.wake();
    }

    fn roll(&self) {
        if let Some(me) = self.me.upgrade() {
            self.io.spawn(async move { me.roll().await });
        }
    }
}

fn poisoned(spec: &PartitionSpec, reason: &str) -> WireError {
    let message = format!(
        "partition {} of topic {} is poisoned: {reason}",
        spec.record.index, spec.topic.name
    );
    WireError::new(ErrorCode::Poisoned, message)
}

fn answer(appended: Appended, done: AppendDone) -> Done {
    Box::new(move |stored| {
        done(match stored {
            Ok(()) => Ok(appended),
            Err(poison) => Err(WireError::new(ErrorCode::Poisoned, poison.reason.clone())),
        });
    })
}
