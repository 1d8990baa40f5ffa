//! A shard: one core's partitions, and its part of the node's work.
//!
//! The first shard also owns the catalog. Requests about topics can be made to any shard: the others pass them on.
//! Requests about a partition's events are served by the shard that owns it; another one answers with the owner's
//! addresses and the client goes there, so that no event ever hops between cores.

mod leftovers;
mod observing;
mod tuning;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use mofka_log::{Catalog, EventId, PartitionKind, PartitionRecord, TopicRecord};
use mofka_net::control::{ConsumerInfo, GroupSyncRequest, ShardStatus};
use mofka_net::{DataDescriptor, ErrorCode, Opcode, WireError};
pub use observing::{ShardPage, SnapshotPage, gather};
use tuning::Tuned;
pub use tuning::Tuning;
use uuid::Uuid;

use crate::catalog::{CatalogStore, CatalogView};
use crate::control::reporting::Told;
use crate::facts::NodeFacts;
use crate::groups::{Groups, SessionId};
use crate::io::Io;
use crate::measures::{PartitionCounts, ShardMeasures};
use crate::partition::{Fetched, Partition, PartitionSpec, ShardMemory, Wanted, look_after_retention};
use crate::partition_dirs;
use crate::recover::OpenError;
use crate::references::{self, Referrer};
use crate::ring::RingCounters;
use crate::session::SessionHandle;
use crate::uses::{self, Use};

/// The shard that owns the catalog.
pub const HOME_SHARD: usize = 0;

/// What one shard may ask of another.
#[derive(Clone, Debug)]
pub enum ShardCall {
    /// A request about topics or the node, for the shard that owns the catalog: its opcode and body.
    Control(Opcode, Vec<u8>),
    /// Open (or make) this partition.
    Open(Box<(TopicRecord, PartitionRecord)>),
    /// Stop serving these partitions and remove their files.
    Drop(Vec<Uuid>),
    /// These partitions' topic is complete.
    Complete(Vec<Uuid>),
    /// The settings of these partitions' topic changed in the catalog.
    Alter(Vec<Uuid>),
    /// Frames of this partition will use this. For the shard that owns the catalog.
    Uses(Uuid, Use),
    /// Events of partition `by` are about to refer to these events of partition `to`.
    Refer {
        /// The partition that refers.
        by: Uuid,
        /// The partition that is referred to.
        to: Uuid,
        /// The events.
        wanted: Vec<Wanted>,
    },
    /// What is the first event of partition `to` that one of partition `by` refers to?
    FirstReference {
        /// The partition that refers.
        by: Uuid,
        /// The partition that is referred to.
        to: Uuid,
    },
    /// Read what these descriptors select of a partition's own data.
    Fetch {
        /// The partition.
        partition: Uuid,
        /// What is wanted.
        items: Vec<DataDescriptor>,
        /// So much at most.
        bytes_max: u64,
    },
    /// These partitions may be deleted: let nothing new refer to them, and tell who does.
    Close(Vec<Uuid>),
    /// They are not deleted after all.
    Reopen(Vec<Uuid>),
    /// Tell about yourself and these partitions.
    Status,
    /// Tell about the consumers of these partitions.
    Consumers(Vec<Uuid>),
    /// Go by these settings from now on.
    Tune(Box<Tuning>),
    /// Tell what you counted.
    Snapshot(SnapshotPage),
    /// What is a consumer to read, which asks over this connection? For the shard that owns the catalog.
    GroupSync(SessionId, Box<GroupSyncRequest>),
    /// This connection ended; the same.
    GroupGone(SessionId),
}

/// What it answers.
#[derive(Clone, Debug)]
pub enum ShardReply {
    /// Done.
    Done,
    /// The body of the answer to [`ShardCall::Control`] or [`ShardCall::GroupSync`].
    Control(Vec<u8>),
    /// To [`ShardCall::FirstReference`].
    FirstReference(Option<EventId>),
    /// To [`ShardCall::Fetch`]: as many as were asked for.
    Fetched(Vec<Result<Fetched, ErrorCode>>),
    /// To [`ShardCall::Close`].
    Referrers(Vec<Referrer>),
    /// To [`ShardCall::Status`].
    Status(Box<ShardStatus>),
    /// To [`ShardCall::Consumers`].
    Consumers(Vec<ConsumerInfo>),
    /// To [`ShardCall::Snapshot`].
    Snapshot(Box<ShardPage>),
}

/// The other shards of the node.
pub trait Peers: Clone + 'static {
    /// This shard's number.
    fn shard(&self) -> usize;

    /// Asks another shard.
    ///
    /// # Errors
    /// What it answered, or that it has stopped.
    fn call(&self, shard: usize, call: ShardCall) -> impl Future<Output = Result<ShardReply, WireError>>;
}

/// What a shard is made of.
pub struct ShardParts<I, P> {
    /// The machine.
    pub io: I,
    /// The other shards.
    pub peers: P,
    /// The node.
    pub facts: Arc<NodeFacts>,
    /// The catalog that all shards see.
    pub view: CatalogView,
}

/// See the module.
pub struct Shard<I: Io, P: Peers> {
    parts: ShardParts<I, P>,
    partitions: RefCell<BTreeMap<Uuid, Rc<Partition<I>>>>,
    /// Partitions that could not be opened, and why: the others are served all the same.
    broken: RefCell<BTreeMap<Uuid, String>>,
    catalog: Option<Rc<CatalogStore<I>>>,
    sessions: RefCell<Vec<Weak<dyn SessionHandle>>>,
    memory: Rc<ShardMemory>,
    tuned: Tuned,
    groups: Groups,
    session_count: Cell<u64>,
    rings: Rc<RingCounters>,
    measures: ShardMeasures,
    /// What was counted of partitions that were deleted.
    gone: RefCell<PartitionCounts>,
    /// What those who watch the node were told last; used on the shard that owns the catalog.
    told: async_lock::Mutex<Option<Told>>,
}

impl<I: Io, P: Peers> Shard<I, P> {
    /// Opens the catalog (on the first shard) and every partition of this shard.
    ///
    /// # Errors
    /// When the catalog cannot be opened. A partition that cannot be opened is reported in the status instead.
    pub async fn open(parts: ShardParts<I, P>) -> Result<Rc<Self>, OpenError> {
        let catalog = if parts.peers.shard() == HOME_SHARD {
            let path = parts.facts.data_dir.join("catalog");
            Some(CatalogStore::open(parts.io.clone(), path, parts.facts.node, parts.view.clone()).await?)
        } else {
            None
        };
        let shard = Rc::new(Self {
            memory: ShardMemory::of_node(&parts.facts.configured.limits, parts.facts.memory.clone()),
            tuned: Tuned::new(&parts.facts.configured),
            parts,
            partitions: RefCell::new(BTreeMap::new()),
            broken: RefCell::new(BTreeMap::new()),
            catalog,
            sessions: RefCell::new(Vec::new()),
            groups: Groups::default(),
            session_count: Cell::new(0),
            rings: Rc::default(),
            measures: ShardMeasures::default(),
            gone: RefCell::default(),
            told: async_lock::Mutex::new(None),
        });
        if shard.catalog.is_some() {
            shard.parts.view.publish();
        }
        let view = shard.parts.view.wait(&shard.parts.io, &shard.parts.facts).await?;
        let places = shard.places().await;
        if let (Some(catalog), Some(places)) = (&shard.catalog, &places) {
            shard.look_at_orphans(catalog, &view, places).await?;
        }
        for topic in view.topics() {
            for partition in view.partitions_of(topic.id) {
                if shard.owner(partition) == shard.number() {
                    let is_gone = partition.kind == PartitionKind::Default
                        && places
                            .as_ref()
                            .is_some_and(|places| !places.contains(&partition.id));
                    // The others are served all the same.
                    let opened = shard.open_or_note(topic.clone(), partition.clone(), is_gone);
                    opened.await.ok();
                }
            }
        }
        shard.look_after_retention();
        Ok(shard)
    }

    /// Looks through the partitions now and then, as long as the shard is there, and lets go what their topics'
    /// retention says.
    fn look_after_retention(self: &Rc<Self>) {
        let me = Rc::downgrade(self);
        let timer = self.tuned.retention_timer.clone();
        let partitions = move || {
            let shard = me.upgrade()?;
            let partitions = shard.partitions.borrow();
            Some(partitions.values().cloned().collect())
        };
        let me = Rc::downgrade(self);
        let review = async move |partition: Rc<Partition<I>>| {
            if let Some(shard) = me.upgrade() {
                references::review(&shard, &partition).await;
            }
        };
        self.io()
            .spawn(look_after_retention(self.io().clone(), timer, partitions, review));
    }

    /// What this shard knows of its node.
    pub fn facts(&self) -> &NodeFacts {
        &self.parts.facts
    }

    pub(crate) fn io(&self) -> &I {
        &self.parts.io
    }

    pub(crate) fn peers(&self) -> &P {
        &self.parts.peers
    }

    pub(crate) fn number(&self) -> usize {
        self.parts.peers.shard()
    }

    /// Consumers that share partitions; used on the shard that owns the catalog.
    pub(crate) fn groups(&self) -> &Groups {
        &self.groups
    }

    /// What is counted of its clients in shared memory.
    pub(crate) fn rings(&self) -> &Rc<RingCounters> {
        &self.rings
    }

    /// What is counted of the shard.
    pub(crate) fn measures(&self) -> &ShardMeasures {
        &self.measures
    }

    /// A number for a connection that no other one of this node has had.
    pub(crate) fn number_session(&self) -> SessionId {
        let count = self.session_count.get();
        self.session_count.set(count + 1);
        count * self.facts().shards as u64 + self.number() as u64
    }

    pub(crate) fn told(&self) -> &async_lock::Mutex<Option<Told>> {
        &self.told
    }

    pub(crate) fn catalog_store(&self) -> Option<&Rc<CatalogStore<I>>> {
        self.catalog.as_ref()
    }

    pub(crate) fn catalog(&self) -> Arc<Catalog> {
        self.parts.view.get()
    }

    /// The shard that serves a partition. The number of shards may have changed since it was placed.
    pub(crate) fn owner(&self, partition: &PartitionRecord) -> usize {
        usize::try_from(partition.shard).unwrap_or(0) % self.facts().shards
    }

    /// The partition, if this shard serves it; otherwise the error says who does.
    pub(crate) fn partition(&self, id: Uuid) -> Result<Rc<Partition<I>>, WireError> {
        if let Some(partition) = self.partitions.borrow().get(&id) {
            return Ok(Rc::clone(partition));
        }
        if let Some(reason) = self.broken.borrow().get(&id) {
            return Err(WireError::new(
                ErrorCode::Damaged,
                format!("partition {id} could not be opened: {reason}"),
            ));
        }
        match self.catalog().partition(id) {
            Some(record) if self.owner(record) != self.number() => {
                let owner = self.owner(record);
                let message = format!(
                    "partition {id} is served by shard {owner}, not by shard {}",
                    self.number()
                );
                Err(WireError::not_owner(message, &self.facts().addresses_of(owner)))
            }
            _ => Err(WireError::new(
                ErrorCode::UnknownPartition,
                format!("no partition {id} on this node: its topic was deleted, or it is of another node"),
            )),
        }
    }

    /// Opens a partition, or notes why that cannot be done.
    async fn open_or_note(
        &self,
        topic: TopicRecord,
        record: PartitionRecord,
        is_gone: bool,
    ) -> Result<(), OpenError> {
        let (id, name, index) = (record.id, topic.name.clone(), record.index);
        let opened = match is_gone {
            true => Err(OpenError::new(format!(
                "{}: this directory is gone, and all events of the partition with it; bring it back, or delete the topic",
                self.dir_of(id).display()
            ))),
            false => self.open_partition(topic, record).await,
        };
        if let Err(error) = &opened {
            tracing::error!(state = "broken", topic = %name, partition = index, %id, %error, "partition could not be opened");
            self.broken.borrow_mut().insert(id, error.to_string());
        }
        opened
    }

    async fn open_partition(&self, topic: TopicRecord, record: PartitionRecord) -> Result<(), OpenError> {
        let id = record.id;
        if self.partitions.borrow().contains_key(&id) {
            return Ok(());
        }
        let spec = PartitionSpec {
            dir: self.dir_of(id),
            limits: self.limits(),
            topic,
            record,
        };
        let partition = Partition::open_within(self.io().clone(), spec, Rc::clone(&self.memory)).await?;
        partition.note_open();
        self.follow_catalog(&partition);
        self.partitions.borrow_mut().insert(id, Rc::clone(&partition));
        if self.catalog().partition(id).is_none() {
            // The topic was deleted while this was being opened, and whoever did it found nothing to drop.
            self.drop_partition(id).await;
        }
        Ok(())
    }

    /// Takes over what may have changed in the catalog since the partition was opened, or while it was.
    fn follow_catalog(&self, partition: &Partition<I>) {
        if let Some(topic) = self.catalog().topic_by_id(partition.spec().topic.id) {
            partition.set_retention(topic.retention.clone());
        }
    }

    fn dir_of(&self, id: Uuid) -> PathBuf {
        partition_dirs::dir_of(&self.facts().data_dir, id)
    }

    /// Does what another shard, or this one, asks.
    ///
    /// # Errors
    /// What could not be done.
    pub async fn handle(self: Rc<Self>, call: ShardCall) -> Result<ShardReply, WireError> {
        match call {
            ShardCall::Control(opcode, body) => {
                let answer = crate::control::handle(&self, opcode, &body).await?;
                Ok(ShardReply::Control(answer))
            }
            ShardCall::Open(records) => {
                let (topic, record) = *records;
                let id = record.id;
                let opened = self.open_or_note(topic, record, false).await;
                if opened.is_err() && self.catalog().partition(id).is_none() {
                    // The topic was deleted meanwhile.
                    self.drop_partition(id).await;
                }
                opened.map(|()| ShardReply::Done).map_err(|error| {
                    WireError::new(
                        ErrorCode::Internal,
                        format!("partition {id} could not be made: {error}"),
                    )
                })
            }
            ShardCall::Drop(ids) => {
                for id in ids {
                    self.drop_partition(id).await;
                }
                Ok(ShardReply::Done)
            }
            ShardCall::Complete(ids) => {
                let partitions = self.partitions.borrow();
                for partition in ids.iter().filter_map(|id| partitions.get(id)) {
                    partition.set_complete();
                }
                Ok(ShardReply::Done)
            }
            ShardCall::Alter(ids) => {
                let partitions = self.partitions.borrow();
                for partition in ids.iter().filter_map(|id| partitions.get(id)) {
                    self.follow_catalog(partition);
                }
                Ok(ShardReply::Done)
            }
            ShardCall::Uses(id, what) => {
                uses::note(&self, id, what).await?;
                Ok(ShardReply::Done)
            }
            ShardCall::Refer { by, to, wanted } => {
                self.partition(to)?.refer(by, &wanted).await?;
                Ok(ShardReply::Done)
            }
            ShardCall::FirstReference { by, to } => {
                let first = self.partition(by)?.first_reference(to).await?;
                Ok(ShardReply::FirstReference(first))
            }
            ShardCall::Fetch {
                partition,
                items,
                bytes_max,
            } => {
                let partition = self.partition(partition)?;
                let fetched = references::serve(&partition, &items, bytes_max).await;
                Ok(ShardReply::Fetched(fetched))
            }
            ShardCall::Close(ids) => {
                let mut referrers = Vec::new();
                for partition in self.those(&ids) {
                    referrers.extend(references::close(&self, &partition).await);
                }
                Ok(ShardReply::Referrers(referrers))
            }
            ShardCall::Reopen(ids) => {
                for partition in self.those(&ids) {
                    partition.reopen_to_references();
                }
                Ok(ShardReply::Done)
            }
            ShardCall::Tune(tuning) => {
                self.tune(*tuning);
                Ok(ShardReply::Done)
            }
            ShardCall::Status => Ok(ShardReply::Status(Box::new(self.status()))),
            ShardCall::Snapshot(page) => Ok(ShardReply::Snapshot(Box::new(self.snapshot(page)))),
            ShardCall::Consumers(ids) => Ok(ShardReply::Consumers(self.consumers(&ids))),
            ShardCall::GroupSync(session, request) => {
                let answer = crate::groups::sync(&self, session, &request).await?;
                Ok(ShardReply::Control(crate::requests::to_body(&answer)?.to_vec()))
            }
            ShardCall::GroupGone(session) => {
                self.groups.gone(session);
                Ok(ShardReply::Done)
            }
        }
    }

    /// Those of these partitions that are open here.
    fn those(&self, ids: &[Uuid]) -> Vec<Rc<Partition<I>>> {
        let partitions = self.partitions.borrow();
        ids.iter().filter_map(|id| partitions.get(id).cloned()).collect()
    }

    /// Asks a shard, which may be this one.
    ///
    /// # Errors
    /// What it answered.
    pub(crate) async fn ask(self: &Rc<Self>, shard: usize, call: ShardCall) -> Result<ShardReply, WireError> {
        if shard == self.number() {
            return Box::pin(Rc::clone(self).handle(call)).await;
        }
        self.peers().call(shard, call).await
    }

    async fn drop_partition(&self, id: Uuid) {
        let partition = self.partitions.borrow_mut().remove(&id);
        let was_broken = self.broken.borrow_mut().remove(&id).is_some();
        if let Some(partition) = &partition {
            partition.delete().await;
            self.gone.borrow_mut().add(&partition.counts());
        }
        // One that could not be opened has files all the same.
        let is_stored = |partition: &Rc<Partition<I>>| partition.spec().record.kind == PartitionKind::Default;
        if was_broken || partition.as_ref().is_some_and(is_stored) {
            self.remove_files(id).await;
        }
    }

    /// Serves one connection until it ends, for tests and fuzzing: they bring the two ends of a stream.
    #[cfg(feature = "sim")]
    pub async fn serve(
        self: &Rc<Self>,
        reader: impl futures_lite::AsyncRead + Unpin,
        writer: impl futures_lite::AsyncWrite + Unpin,
    ) {
        crate::session::Session::run(
            self,
            reader,
            writer,
            crate::session::Peer::named("a test".to_owned()),
        )
        .await;
    }

    pub(crate) fn add_session(&self, session: Weak<dyn SessionHandle>) {
        let mut sessions = self.sessions.borrow_mut();
        sessions.retain(|session| session.strong_count() > 0);
        sessions.push(session);
    }

    /// Refuses new events, and finishes the accepted ones of every partition.
    pub async fn drain(&self) {
        let partitions: Vec<_> = self.partitions.borrow().values().cloned().collect();
        for partition in partitions {
            partition.stop().await;
        }
    }

    /// Sends what is queued for the clients and ends their connections.
    pub async fn close_sessions(&self) {
        let sessions: Vec<_> = self.sessions.borrow().iter().filter_map(Weak::upgrade).collect();
        for session in sessions {
            session.finish().await;
        }
    }

    /// The last thing a shard does.
    pub async fn stop(&self) {
        if let Some(catalog) = &self.catalog {
            catalog.stop().await;
        }
    }
}
