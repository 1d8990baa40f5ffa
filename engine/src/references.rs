//! Events that refer to data of other events of the node, as the shards see them: accepting them, reading what they refer
//! to, and finding out what is not referred to any more.
//!
//! A reference names the event that has the data, never one that refers to it in turn, so it is followed once. The shard that
//! a consumer asks for data asks the one that has it: of the bytes only handles travel between the two.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::rc::Rc;

use mofka_log::{Batch, EventId, PartitionKind, PartitionRecord};
use mofka_net::{DataDescriptor, DataReference, ErrorCode, FetchResponse, WireError};
use uuid::Uuid;

use crate::io::Io;
use crate::partition::{Fetched, Partition, Referral, Wanted, refused};
use crate::shard::{Peers, Shard, ShardCall, ShardReply};
use crate::turn::Turn;
use crate::uses::{self, Use};

/// Descriptors in one question to another shard.
const RUN_ITEMS_MAX: usize = 1024;
/// What an item of a fetch takes at least, as a [`Turn`] counts it.
const ITEM_TURN_BYTES: u64 = 4096;

/// Makes sure that all which a batch refers to is there, durable, and stays. The answer is to be kept until the batch
/// was accepted or refused.
///
/// # Errors
/// Which event of the batch refers to what it cannot, and why.
pub(crate) async fn admit<I: Io, P: Peers>(
    shard: &Rc<Shard<I, P>>,
    partition: &Rc<Partition<I>>,
    batch: &Batch,
) -> Result<Referral<I>, WireError> {
    if partition.is_known(batch) {
        return Ok(partition.begin_referral(Vec::new()));
    }
    let targets = targets(shard, partition, batch)?;
    let own = partition.spec().record.id;
    uses::ensure(shard, partition, Use::References).await?;
    let events = targets
        .iter()
        .flat_map(|(target, wanted)| wanted.iter().map(|one| (*target, one.event_id)));
    let referral = partition.begin_referral(events.collect());
    for (target, wanted) in targets {
        let Some(owner) = owner_of(shard, target) else {
            let index = wanted.first().map_or(0, |one| one.index);
            return Err(unknown(index, target));
        };
        let index = wanted.first().map_or(0, |one| one.index);
        let call = ShardCall::Refer {
            by: own,
            to: target,
            wanted,
        };
        shard.ask(owner, call).await.map_err(|error| match error.code {
            ErrorCode::InvalidReference => error,
            // About the other partition, and not to be taken for news of this one.
            code if !code.is_retriable() || code == ErrorCode::NotOwner => refused(index, &error.message),
            _ => error,
        })?;
    }
    Ok(referral)
}

fn unknown(index: u32, target: Uuid) -> WireError {
    let message = format!(
        "there is no partition {target} on this node, and only data of the same node can be referred to"
    );
    refused(index, &message)
}

fn owner_of<I: Io, P: Peers>(shard: &Shard<I, P>, partition: Uuid) -> Option<usize> {
    let catalog = shard.catalog();
    catalog.partition(partition).map(|record| shard.owner(record))
}

/// What a batch refers to, by partition.
fn targets<I: Io, P: Peers>(
    shard: &Shard<I, P>,
    partition: &Partition<I>,
    batch: &Batch,
) -> Result<BTreeMap<Uuid, Vec<Wanted>>, WireError> {
    let catalog = shard.catalog();
    let mut targets: BTreeMap<Uuid, Vec<Wanted>> = BTreeMap::new();
    for event in batch.events() {
        let Some(reference) = event.reference else {
            continue;
        };
        let reference = DataReference::deserialize(reference.bytes())
            .map_err(|error| refused(event.index, &error.to_string()))?;
        let target = reference.partition();
        // Each is looked for once: the catalog looks through all partitions.
        let wanted = match targets.entry(target) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let record = catalog
                    .partition(target)
                    .ok_or_else(|| unknown(event.index, target))?;
                refuse_if_fleeting(partition, record, event.index)?;
                new.insert(Vec::new())
            }
        };
        wanted.push(Wanted {
            index: event.index,
            event_id: reference.event_id(),
            base_bytes: reference.descriptor().base_bytes(),
        });
    }
    Ok(targets)
}

/// What is on the device cannot refer to what ends with the process.
fn refuse_if_fleeting<I: Io>(
    partition: &Partition<I>,
    target: &PartitionRecord,
    index: u32,
) -> Result<(), WireError> {
    let own_kind = partition.spec().record.kind;
    if (own_kind, target.kind) != (PartitionKind::Default, PartitionKind::Memory) {
        return Ok(());
    }
    let message = format!(
        "partition {} is in memory and ends with the process, and partition {} of topic \"{}\", which is to refer to it, \
         does not",
        target.id,
        partition.spec().record.index,
        partition.spec().topic.name
    );
    Err(refused(index, &message))
}

/// What descriptors of a partition's events select, of its own data and of what its events refer to, at most `bytes_max`.
pub(crate) async fn fetch<I: Io, P: Peers>(
    shard: &Rc<Shard<I, P>>,
    partition: &Partition<I>,
    items: &[DataDescriptor],
    bytes_max: u64,
) -> FetchResponse {
    let mut fetching = Fetching {
        shard,
        response: FetchResponse::new(),
        left: bytes_max,
        owners: BTreeMap::new(),
        run: None,
    };
    let (mut last, mut turn) = (None, Turn::default());
    for descriptor in items {
        turn.did(ITEM_TURN_BYTES).await;
        match partition.referenced(descriptor, &mut last).await {
            Ok(Some(target)) => fetching.follow(target).await,
            Ok(None) => {
                fetching.end_run().await;
                let fetched = partition.fetch(descriptor, fetching.left, &mut last).await;
                fetching.push(fetched.map_err(|error| error.code));
            }
            Err(error) => {
                fetching.end_run().await;
                fetching.push(Err(error.code));
            }
        }
    }
    fetching.end_run().await;
    fetching.response
}

/// An answer in the making.
struct Fetching<'a, I: Io, P: Peers> {
    shard: &'a Rc<Shard<I, P>>,
    response: FetchResponse,
    left: u64,
    /// Who has the partitions that were asked for, each looked for once.
    owners: BTreeMap<Uuid, Option<usize>>,
    /// What was not asked for yet, all of one partition.
    run: Option<(Uuid, Vec<DataDescriptor>)>,
}

impl<I: Io, P: Peers> Fetching<'_, I, P> {
    fn push(&mut self, fetched: Result<Fetched, ErrorCode>) {
        match fetched {
            Ok(fetched) => {
                self.left = self.left.saturating_sub(fetched.bytes.len() as u64);
                self.response.push(fetched.bytes, fetched.crc);
            }
            Err(code) => self.response.push_error(code),
        }
    }

    async fn follow(&mut self, target: DataReference) {
        let partition = target.partition();
        let fits = |run: &&mut (Uuid, Vec<_>)| run.0 == partition && run.1.len() < RUN_ITEMS_MAX;
        if let Some((_, items)) = self.run.as_mut().filter(fits) {
            return items.push(target.descriptor().clone());
        }
        self.end_run().await;
        self.run = Some((partition, vec![target.descriptor().clone()]));
    }

    async fn end_run(&mut self) {
        let Some((partition, items)) = self.run.take() else {
            return;
        };
        let count = items.len();
        let owner = self.owners.entry(partition);
        let fetched = match *owner.or_insert_with(|| owner_of(self.shard, partition)) {
            None => Err(ErrorCode::UnknownEvent),
            Some(owner) => {
                let call = ShardCall::Fetch {
                    partition,
                    items,
                    bytes_max: self.left,
                };
                match self.shard.ask(owner, call).await {
                    Ok(ShardReply::Fetched(fetched)) => Ok(fetched),
                    Ok(_) => Err(ErrorCode::Internal),
                    Err(error) => Err(error.code),
                }
            }
        };
        let fetched = fetched.unwrap_or_else(|code| vec![Err(code); count]);
        for one in fetched {
            self.push(one.map_err(|code| match code {
                // That would be news of the event that refers, which is there.
                ErrorCode::Trimmed | ErrorCode::UnknownPartition | ErrorCode::NotOwner => {
                    ErrorCode::UnknownEvent
                }
                code => code,
            }));
        }
    }
}

/// Does what [`ShardCall::Fetch`] asks for. No reference is followed from here.
pub(crate) async fn serve<I: Io>(
    partition: &Partition<I>,
    items: &[DataDescriptor],
    bytes_max: u64,
) -> Vec<Result<Fetched, ErrorCode>> {
    let (mut left, mut last, mut turn) = (bytes_max, None, Turn::default());
    let mut answers = Vec::with_capacity(items.len());
    for descriptor in items {
        turn.did(ITEM_TURN_BYTES).await;
        let fetched = partition.fetch(descriptor, left, &mut last).await;
        if let Ok(fetched) = &fetched {
            left = left.saturating_sub(fetched.bytes.len() as u64);
        }
        answers.push(fetched.map_err(|error| error.code));
    }
    answers
}

/// Moves the pins that keep a partition from being trimmed as far as who has them says, and trims what may go then.
pub(crate) async fn review<I: Io, P: Peers>(shard: &Rc<Shard<I, P>>, partition: &Partition<I>) {
    let to = partition.spec().record.id;
    partition
        .review(async |by| first_reference(shard, by, to).await)
        .await;
}

/// The first event of `to` that one of `by` refers to. A partition that was deleted refers to none.
async fn first_reference<I: Io, P: Peers>(
    shard: &Rc<Shard<I, P>>,
    by: Uuid,
    to: Uuid,
) -> Result<Option<EventId>, WireError> {
    let Some(owner) = owner_of(shard, by) else {
        return Ok(None);
    };
    match shard.ask(owner, ShardCall::FirstReference { by, to }).await? {
        ShardReply::FirstReference(first) => Ok(first),
        _ => Err(WireError::new(
            ErrorCode::Internal,
            "not an answer to that question",
        )),
    }
}

/// A partition that refers to one that somebody would like to delete.
#[derive(Clone, Copy, Debug)]
pub struct Referrer {
    /// The partition that refers.
    pub by: Uuid,
    /// The partition that it refers to.
    pub to: Uuid,
    /// The first event that it refers to, about.
    pub first: EventId,
}

/// From now on nothing new may refer to this partition. Gives who does.
pub(crate) async fn close<I: Io, P: Peers>(
    shard: &Rc<Shard<I, P>>,
    partition: &Partition<I>,
) -> Vec<Referrer> {
    partition.close_to_references();
    let to = partition.spec().record.id;
    partition
        .tighten(None, &async |by| first_reference(shard, by, to).await)
        .await;
    let pins = partition.pins(None).into_iter();
    pins.map(|pin| Referrer {
        by: pin.by,
        to,
        first: pin.first,
    })
    .collect()
}
