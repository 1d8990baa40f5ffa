//! Requests about topics, partitions and the node: handled by the shard that owns the catalog.

mod completing;
mod configuring;
mod deleting;
pub(crate) mod reporting;

use std::collections::BTreeSet;
use std::rc::Rc;

use mofka_log::{
    Catalog, CatalogRecord, Durability, PartitionKind, PartitionRecord, Retention, TopicRecord,
    check_topic_name,
};
use mofka_net::control::{
    ConsumerListRequest, ConsumerListResponse, EmptyRequest, GroupLeaveRequest, HelloResponse, NodeLimits,
    NodeStatus, PartitionAddRequest, PartitionDescribeRequest, PartitionInfo, PartitionState,
    PartitionStatus, RingBounds, TopicAlterRequest, TopicCreateRequest, TopicInfo, TopicListResponse,
    TopicRequest,
};
use mofka_net::limits::FEATURE_RING;
use mofka_net::{ErrorCode, Negotiated, Opcode, WireError};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::catalog::{CHANGE_BYTES_MAX, CatalogStore};
use crate::enforcing::Enforcer;
use crate::facts::NodeFacts;
use crate::groups;
use crate::io::Io;
use crate::limits::EngineLimits;
use crate::partition::Partition;
use crate::requests::{json as parse, to_body};
use crate::shard::{Peers, Shard, ShardCall, ShardReply};

/// Bytes of a partition's configuration, as it is stored.
const PARTITION_CONFIG_BYTES_MAX: u64 = 64 << 10;

/// Does one control request and gives the body of its answer.
///
/// # Errors
/// What is wrong with the request, or what could not be done.
pub(crate) async fn handle<I: Io, P: Peers>(
    shard: &Rc<Shard<I, P>>,
    opcode: Opcode,
    body: &[u8],
) -> Result<Vec<u8>, WireError> {
    let answer = match opcode {
        Opcode::TopicCreate => to_body(&topic_create(shard, parse(body)?).await?),
        Opcode::TopicDescribe => {
            let request: TopicRequest = parse(body)?;
            to_body(&topic_info(shard, &shard.catalog(), &request.name)?)
        }
        Opcode::TopicList => {
            let EmptyRequest {} = parse(body)?;
            let catalog = shard.catalog();
            let topics = catalog
                .topics()
                .map(|topic| Ok(topic_info(shard, &catalog, &topic.name)?.summary()));
            to_body(&TopicListResponse {
                topics: topics.collect::<Result<_, WireError>>()?,
            })
        }
        Opcode::TopicDelete => {
            deleting::topic_delete(shard, parse(body)?).await?;
            to_body(&json!({}))
        }
        Opcode::TopicComplete => {
            completing::topic_complete(shard, parse(body)?).await?;
            to_body(&json!({}))
        }
        Opcode::ProducerDone => to_body(&completing::producer_done(shard, parse(body)?).await?),
        Opcode::TopicAlter => to_body(&topic_alter(shard, parse(body)?).await?),
        Opcode::PartitionAdd => to_body(&partition_add(shard, parse(body)?).await?),
        Opcode::PartitionDescribe => {
            let request: PartitionDescribeRequest = parse(body)?;
            to_body(&partition_describe(shard, request.partition).await?)
        }
        Opcode::ConsumerList => {
            let request: ConsumerListRequest = parse(body)?;
            to_body(&consumer_list(shard, &request.topic).await?)
        }
        Opcode::GroupLeave => {
            let request: GroupLeaveRequest = parse(body)?;
            groups::leave(shard, &request);
            to_body(&json!({}))
        }
        Opcode::Status => {
            let EmptyRequest {} = parse(body)?;
            to_body(&node_status(shard).await?)
        }
        Opcode::Report => {
            let EmptyRequest {} = parse(body)?;
            return reporting::report(shard).await;
        }
        Opcode::ConfigGet => {
            let EmptyRequest {} = parse(body)?;
            to_body(&configuring::get(shard.facts())?)
        }
        Opcode::ConfigSet => to_body(&configuring::set(shard, &parse(body)?).await?),
        Opcode::Shutdown => {
            tracing::info!("stopping: a client asked for it");
            shard
                .facts()
                .stop
                .store(true, std::sync::atomic::Ordering::SeqCst);
            to_body(&json!({}))
        }
        _ => {
            let message = format!("{opcode:?} is not a control request");
            Err(WireError::new(ErrorCode::UnknownOpcode, message))
        }
    };
    answer.map(|body| body.to_vec())
}

/// The answer to hello: who this is, and what bounds this connection.
pub(crate) fn hello<I: Io, P: Peers>(
    shard: &Rc<Shard<I, P>>,
    facts: &NodeFacts,
    limits: &EngineLimits,
    agreed: Negotiated,
) -> HelloResponse {
    HelloResponse {
        version: agreed.version,
        node: facts.node,
        rank: facts.rank,
        shard: u32::try_from(shard.number()).unwrap_or(u32::MAX),
        shards: u32::try_from(facts.shards).unwrap_or(u32::MAX),
        endpoints: facts.addresses().to_vec(),
        limits: NodeLimits {
            frame_bytes_max: limits.frame_bytes_max,
            batch_events_max: limits.batch_events_max,
            fetch_bytes_max: limits.frame_bytes_max / 2,
            subscriptions_max: u32::try_from(limits.subscriptions_max).unwrap_or(u32::MAX),
            sequence_window: u32::try_from(mofka_log::SEQUENCE_WINDOW).unwrap_or(u32::MAX),
        },
        heartbeat_ms: limits.heartbeat_ms,
        ring: agreed.has(FEATURE_RING).then_some(RingBounds {
            slots_max: limits.ring_slots_max,
            ring_bytes_max: limits.ring_bytes_max,
        }),
        features: agreed.features,
    }
}

pub(crate) fn home<I: Io, P: Peers>(shard: &Rc<Shard<I, P>>) -> Result<Rc<CatalogStore<I>>, WireError> {
    shard.catalog_store().cloned().ok_or_else(|| {
        WireError::new(
            ErrorCode::Internal,
            "a change of the catalog reached a shard that does not own it".to_owned(),
        )
    })
}

pub(crate) fn unknown_topic(name: &str) -> WireError {
    WireError::new(
        ErrorCode::UnknownTopic,
        format!("topic \"{name}\" does not exist"),
    )
}

async fn topic_create<I: Io, P: Peers>(
    shard: &Rc<Shard<I, P>>,
    request: TopicCreateRequest,
) -> Result<TopicInfo, WireError> {
    check_topic_name(&request.name)
        .map_err(|error| WireError::new(ErrorCode::InvalidName, error.to_string()))?;
    let count = request.num_partitions.unwrap_or(0);
    let (kind, config) = match request.partition {
        Some(partition) => (partition.kind, partition.config),
        None => (PartitionKind::Default, json!({})),
    };
    check_config(&config, count)?;
    let retention = request
        .retention
        .unwrap_or_else(|| shard.facts().now().default_retention.clone());
    let topic = TopicRecord {
        id: Uuid::new_v4(),
        name: request.name.clone(),
        durability: request.durability.unwrap_or(Durability::Synced),
        validator: component("validator", request.validator)?,
        partition_selector: component("partition_selector", request.partition_selector)?,
        serializer: component("serializer", request.serializer)?,
        created_us: shard.io().now_us(),
        complete: false,
        producers_expected: request.producers_expected.unwrap_or(0),
        producers_done: BTreeSet::new(),
        retention: checked(retention)?,
    };
    Enforcer::of(&topic).map_err(invalid)?;
    let mut created = Vec::new();
    let catalog = home(shard)?
        .change(|catalog| {
            if catalog.topic(&topic.name).is_some() {
                let message = format!("topic \"{}\" already exists", topic.name);
                return Err(WireError::new(ErrorCode::TopicExists, message));
            }
            check_room(shard, catalog, u64::from(count))?;
            let mut records = vec![CatalogRecord::TopicCreated(topic.clone())];
            for index in 0..count {
                let record = place(shard, catalog, &topic, index, kind, config.clone(), None);
                records.push(CatalogRecord::PartitionAdded(record.clone()));
                created.push(record);
            }
            Ok(records)
        })
        .await?;
    open_all(shard, &topic, created).await?;
    tracing::info!(topic = %topic.name, partitions = count, durability = ?topic.durability, "topic created");
    topic_info(shard, &catalog, &topic.name)
}

fn checked(retention: Retention) -> Result<Retention, WireError> {
    retention.check().map_err(|error| invalid(error.to_string()))?;
    Ok(retention)
}

/// The configuration of so many new partitions, each of which has a copy.
fn check_config(config: &Value, count: u32) -> Result<(), WireError> {
    let bytes = to_body(config)?.len() as u64;
    let (each_max, all_max) = (PARTITION_CONFIG_BYTES_MAX, CHANGE_BYTES_MAX);
    let message = if bytes > each_max {
        format!("a partition's configuration has {bytes} bytes, and {each_max} at most are stored")
    } else if bytes.saturating_mul(count.into()) > all_max {
        format!(
            "{count} partitions with a configuration of {bytes} bytes each are more than is stored in one go ({all_max} \
             bytes): add some of them later"
        )
    } else {
        return Ok(());
    };
    Err(WireError::new(ErrorCode::TooLarge, message))
}

/// A component's document must say its type; the default one when nothing is given.
fn component(what: &str, given: Option<Value>) -> Result<Value, WireError> {
    match given {
        None | Some(Value::Null) => Ok(json!({"type": "default"})),
        Some(Value::Object(mut object)) => {
            object.entry("type").or_insert_with(|| json!("default"));
            match object.get("type") {
                Some(Value::String(_)) => Ok(Value::Object(object)),
                other => Err(invalid(format!("the {what}'s type is not text but {other:?}"))),
            }
        }
        Some(other) => Err(invalid(format!("the {what} is not an object but {other}"))),
    }
}

fn invalid(message: String) -> WireError {
    WireError::new(ErrorCode::InvalidArgument, message)
}

fn check_room<I: Io, P: Peers>(
    shard: &Rc<Shard<I, P>>,
    catalog: &Catalog,
    more: u64,
) -> Result<(), WireError> {
    let there = catalog.partitions().count() as u64;
    let max = shard.limits().partitions_max as u64;
    if there.saturating_add(more) > max {
        let message =
            format!("the node has {there} partitions, and {more} more would exceed its limit of {max}");
        return Err(WireError::new(ErrorCode::Overloaded, message));
    }
    Ok(())
}

/// A new partition, on the shard that was asked for or else the next in turn.
fn place<I: Io, P: Peers>(
    shard: &Rc<Shard<I, P>>,
    catalog: &Catalog,
    topic: &TopicRecord,
    index: u32,
    kind: PartitionKind,
    config: Value,
    wanted: Option<u32>,
) -> PartitionRecord {
    let in_turn = || {
        let taken = catalog.partitions().count() as u64 + u64::from(index);
        u32::try_from(taken % shard.facts().shards as u64).unwrap_or(0)
    };
    PartitionRecord {
        id: Uuid::new_v4(),
        topic: topic.id,
        index,
        kind,
        rank: shard.facts().rank,
        shard: wanted.unwrap_or_else(in_turn),
        created_us: shard.io().now_us(),
        config,
        complete: false,
        refers: false,
        sourced: false,
    }
}

/// Opens partitions that the catalog has already: each is tried, whatever becomes of the others.
async fn open_all<I: Io, P: Peers>(
    shard: &Rc<Shard<I, P>>,
    topic: &TopicRecord,
    records: Vec<PartitionRecord>,
) -> Result<(), WireError> {
    let mut first = None;
    for record in records {
        let (owner, index) = (shard.owner(&record), record.index);
        let call = ShardCall::Open(Box::new((topic.clone(), record)));
        if let Err(error) = shard.ask(owner, call).await {
            first.get_or_insert((index, error));
        }
    }
    let Some((index, error)) = first else {
        return Ok(());
    };
    let message = format!(
        "topic \"{}\" is there, but its partition {index} is broken until the node is started again: {}",
        topic.name, error.message
    );
    Err(WireError::new(error.code, message))
}

async fn partition_add<I: Io, P: Peers>(
    shard: &Rc<Shard<I, P>>,
    request: PartitionAddRequest,
) -> Result<PartitionInfo, WireError> {
    let rank = request.rank;
    if rank != shard.facts().rank {
        let message = format!(
            "rank {rank} is not this node, which is {} of a group of one",
            shard.facts().rank
        );
        return Err(WireError::new(ErrorCode::InvalidRank, message));
    }
    let shards = shard.facts().shards;
    if request
        .shard
        .is_some_and(|wanted| usize::try_from(wanted).map_or(true, |wanted| wanted >= shards))
    {
        return Err(invalid(format!(
            "shard {} does not exist: the node has {shards}",
            request.shard.unwrap_or(0)
        )));
    }
    let config = request.config.unwrap_or(Value::Null);
    check_config(&config, 1)?;
    let mut added = None;
    home(shard)?
        .change(|catalog| {
            let topic = catalog
                .topic(&request.topic)
                .ok_or_else(|| unknown_topic(&request.topic))?;
            if topic.complete {
                let message = format!("topic \"{}\" is marked complete", topic.name);
                return Err(WireError::new(ErrorCode::TopicComplete, message));
            }
            check_room(shard, catalog, 1)?;
            let index = catalog.partitions_of(topic.id).count();
            let index = u32::try_from(index).map_err(|_| invalid("too many partitions".to_owned()))?;
            let mut record = place(shard, catalog, topic, index, request.kind, config, request.shard);
            if request.shard.is_none() {
                let in_turn = catalog.partitions().count() as u64 % shards as u64;
                record.shard = u32::try_from(in_turn).unwrap_or(0);
            }
            added = Some((topic.clone(), record.clone()));
            Ok(vec![CatalogRecord::PartitionAdded(record)])
        })
        .await?;
    let Some((topic, record)) = added else {
        unreachable!("the change was made")
    };
    tracing::info!(topic = %topic.name, partition = record.index, kind = ?record.kind, id = %record.id, "partition added");
    let opened = open_all(shard, &topic, vec![record.clone()]).await;
    shard.groups().wake();
    opened?;
    Ok(partition_info(shard, &record))
}

/// The topic of this name, and what partitions it has.
fn find<'a>(
    catalog: &'a Catalog,
    name: &str,
    partitions: &mut Vec<PartitionRecord>,
) -> Result<&'a TopicRecord, WireError> {
    let topic = catalog.topic(name).ok_or_else(|| unknown_topic(name))?;
    partitions.extend(catalog.partitions_of(topic.id).cloned());
    Ok(topic)
}

async fn topic_alter<I: Io, P: Peers>(
    shard: &Rc<Shard<I, P>>,
    request: TopicAlterRequest,
) -> Result<TopicInfo, WireError> {
    let retention = request.retention.map(checked).transpose()?;
    let mut partitions = Vec::new();
    let catalog = home(shard)?
        .change(|catalog| {
            let topic = find(catalog, &request.name, &mut partitions)?;
            Ok(match &retention {
                Some(retention) if *retention != topic.retention => vec![CatalogRecord::TopicAltered {
                    topic: topic.id,
                    retention: retention.clone(),
                }],
                _ => Vec::new(),
            })
        })
        .await?;
    if let Some(retention) = retention {
        tracing::info!(topic = %request.name, ?retention, "topic altered");
        each_owner(shard, partitions, ShardCall::Alter).await?;
    }
    topic_info(shard, &catalog, &request.name)
}

/// Asks each shard that owns some of these partitions, about those.
async fn each_owner<I: Io, P: Peers>(
    shard: &Rc<Shard<I, P>>,
    partitions: Vec<PartitionRecord>,
    call: impl Fn(Vec<Uuid>) -> ShardCall,
) -> Result<Vec<ShardReply>, WireError> {
    let mut replies = Vec::new();
    for owner in 0..shard.facts().shards {
        let ids: Vec<Uuid> = partitions
            .iter()
            .filter(|record| shard.owner(record) == owner)
            .map(|record| record.id)
            .collect();
        if !ids.is_empty() {
            replies.push(shard.ask(owner, call(ids)).await?);
        }
    }
    Ok(replies)
}

fn topic_info<I: Io, P: Peers>(
    shard: &Rc<Shard<I, P>>,
    catalog: &Catalog,
    name: &str,
) -> Result<TopicInfo, WireError> {
    let topic = catalog.topic(name).ok_or_else(|| unknown_topic(name))?;
    Ok(TopicInfo {
        id: topic.id,
        name: topic.name.clone(),
        durability: topic.durability,
        validator: topic.validator.clone(),
        partition_selector: topic.partition_selector.clone(),
        serializer: topic.serializer.clone(),
        complete: topic.complete,
        created_us: topic.created_us,
        retention: topic.retention.clone(),
        producers_expected: topic.producers_expected,
        producers_done: u32::try_from(topic.producers_done.len()).unwrap_or(u32::MAX),
        partitions: catalog
            .partitions_of(topic.id)
            .map(|record| partition_info(shard, record))
            .collect(),
    })
}

pub(crate) fn partition_info<I: Io, P: Peers>(
    shard: &Shard<I, P>,
    record: &PartitionRecord,
) -> PartitionInfo {
    PartitionInfo {
        id: record.id,
        index: record.index,
        kind: record.kind,
        rank: record.rank,
        shard: u32::try_from(shard.owner(record)).unwrap_or(u32::MAX),
        addresses: shard.facts().addresses_of(shard.owner(record)),
        complete: record.complete,
    }
}

/// What is to be said of an open partition.
pub(crate) fn partition_status<I: Io, P: Peers>(
    shard: &Shard<I, P>,
    partition: &Partition<I>,
) -> PartitionStatus {
    let spec = partition.spec();
    let ends = partition.ends();
    let (state, reason) = partition.state();
    PartitionStatus {
        topic: spec.topic.name.clone(),
        info: partition_info(shard, &spec.record),
        state,
        reason,
        verdict: partition.verdict().prose(),
        trim_end: partition.trim_end().get(),
        synced_end: ends.synced_end.get(),
        visible_end: partition.visible_end().get(),
        appended_end: ends.appended_end.get(),
        events: ends.appended_end.get().saturating_sub(partition.trim_end().get()),
        bytes: partition.used_bytes(),
        pins: deleting::pins(&shard.catalog(), partition),
    }
}

/// What is to be said of a partition that could not be opened.
pub(crate) fn broken_status<I: Io, P: Peers>(
    shard: &Shard<I, P>,
    id: Uuid,
    reason: &str,
) -> Option<PartitionStatus> {
    let catalog = shard.catalog();
    let record = catalog.partition(id)?;
    let topic = catalog.topic_by_id(record.topic)?;
    Some(PartitionStatus {
        topic: topic.name.clone(),
        info: partition_info(shard, record),
        state: PartitionState::Broken,
        reason: Some(reason.to_owned()),
        verdict: "unreadable".to_owned(),
        trim_end: 0,
        synced_end: 0,
        visible_end: 0,
        appended_end: 0,
        events: 0,
        bytes: 0,
        pins: Vec::new(),
    })
}

async fn partition_describe<I: Io, P: Peers>(
    shard: &Rc<Shard<I, P>>,
    id: Uuid,
) -> Result<PartitionStatus, WireError> {
    let catalog = shard.catalog();
    let missing = || {
        WireError::new(
            ErrorCode::UnknownPartition,
            format!("no partition {id} on this node"),
        )
    };
    let record = catalog.partition(id).ok_or_else(missing)?;
    match shard.ask(shard.owner(record), ShardCall::Status).await? {
        ShardReply::Status(status) => status
            .partitions
            .into_iter()
            .find(|status| status.info.id == id)
            .ok_or_else(missing),
        _ => Err(missing()),
    }
}

async fn consumer_list<I: Io, P: Peers>(
    shard: &Rc<Shard<I, P>>,
    topic: &str,
) -> Result<ConsumerListResponse, WireError> {
    let catalog = shard.catalog();
    let record = catalog.topic(topic).ok_or_else(|| unknown_topic(topic))?;
    let partitions = catalog.partitions_of(record.id).cloned().collect();
    let mut consumers = Vec::new();
    for reply in each_owner(shard, partitions, ShardCall::Consumers).await? {
        if let ShardReply::Consumers(more) = reply {
            consumers.extend(more);
        }
    }
    consumers.sort_by(|a, b| (&a.consumer, a.index).cmp(&(&b.consumer, b.index)));
    Ok(ConsumerListResponse { consumers })
}

async fn node_status<I: Io, P: Peers>(shard: &Rc<Shard<I, P>>) -> Result<NodeStatus, WireError> {
    let facts = shard.facts();
    let mut shards = Vec::new();
    for number in 0..facts.shards {
        if let ShardReply::Status(status) = shard.ask(number, ShardCall::Status).await? {
            shards.push(*status);
        }
    }
    Ok(NodeStatus {
        node: facts.node,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        rank: facts.rank,
        pid: std::process::id(),
        uptime_ms: u64::try_from(facts.started.elapsed().as_millis()).unwrap_or(u64::MAX),
        data_dir: facts.data_dir.display().to_string(),
        direct_io: facts.direct_io,
        topics: shard.catalog().topics().count() as u64,
        monitoring: facts.monitoring.get().cloned(),
        memory: facts.memory_status(),
        shards,
    })
}
