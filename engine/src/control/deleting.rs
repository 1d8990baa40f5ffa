//! Deleting topics, unless others refer to their events.

use std::rc::Rc;

use mofka_log::{Catalog, CatalogRecord, PartitionRecord};
use mofka_net::control::{PinStatus, TopicDeleteRequest};
use mofka_net::{ErrorCode, WireError};
use serde_json::Value;
use uuid::Uuid;

use super::{each_owner, find, home, unknown_topic};
use crate::groups;
use crate::io::Io;
use crate::partition::Partition;
use crate::references::Referrer;
use crate::shard::{Peers, Shard, ShardCall, ShardReply};

pub(super) async fn topic_delete<I: Io, P: Peers>(
    shard: &Rc<Shard<I, P>>,
    request: TopicDeleteRequest,
) -> Result<(), WireError> {
    let mut partitions = Vec::new();
    let topic = find(&shard.catalog(), &request.name, &mut partitions)?.id;
    let closed = partitions.clone();
    let outcome = delete_unless_referenced(shard, &request, topic, &mut partitions).await;
    if outcome.is_err() {
        // A partition that was dropped meanwhile is not asked.
        each_owner(shard, closed, ShardCall::Reopen).await?;
    }
    outcome?;
    groups::forget(shard, topic);
    // The catalog forgot the topic, so a crash from here on leaves only files, which the next start removes.
    let count = partitions.len();
    each_owner(shard, partitions, ShardCall::Drop).await?;
    tracing::info!(topic = %request.name, partitions = count, "topic deleted");
    Ok(())
}

/// Removes the topic from the catalog. From the moment on when its partitions are asked who refers to them, nobody new does.
async fn delete_unless_referenced<I: Io, P: Peers>(
    shard: &Rc<Shard<I, P>>,
    request: &TopicDeleteRequest,
    topic: Uuid,
    partitions: &mut Vec<PartitionRecord>,
) -> Result<(), WireError> {
    let mut referrers = Vec::new();
    for reply in each_owner(shard, partitions.clone(), ShardCall::Close).await? {
        if let ShardReply::Referrers(more) = reply {
            referrers.extend(more);
        }
    }
    // What goes with it does not count.
    referrers.retain(|referrer| !partitions.iter().any(|own| own.id == referrer.by));
    if !request.force && !referrers.is_empty() {
        return Err(still_referenced(&shard.catalog(), &request.name, &referrers));
    }
    if !referrers.is_empty() {
        tracing::warn!(topic = %request.name, count = referrers.len(), "deleted although other partitions refer to it: the data of those events is lost");
    }
    partitions.clear();
    let plan = |catalog: &Catalog| {
        if find(catalog, &request.name, partitions)?.id != topic {
            return Err(unknown_topic(&request.name));
        }
        Ok(vec![CatalogRecord::TopicDeleted { topic }])
    };
    home(shard)?.change(plan).await.map(|_| ())
}

/// Partitions that an error names.
const REFERRERS_NAMED_MAX: usize = 8;

fn still_referenced(catalog: &Catalog, name: &str, referrers: &[Referrer]) -> WireError {
    let place = |id: Uuid| {
        let record = catalog.partition(id);
        let topic = record.and_then(|record| catalog.topic_by_id(record.topic));
        match record.zip(topic) {
            Some((record, topic)) => format!("partition {} of topic \"{}\"", record.index, topic.name),
            None => format!("partition {id}"),
        }
    };
    let named = referrers.iter().take(REFERRERS_NAMED_MAX).map(|referrer| {
        let index = catalog.partition(referrer.to).map_or(0, |record| record.index);
        format!(
            "{} to events of partition {index} from {} on",
            place(referrer.by),
            referrer.first
        )
    });
    let named = named.collect::<Vec<_>>().join(", ");
    let more = match referrers.len().saturating_sub(REFERRERS_NAMED_MAX) {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    let message = format!(
        "topic \"{name}\" is not deleted, because other events refer to its data: {named}{more}; delete their topics first, or \
         delete this one by force, and those events lose their data"
    );
    let ids = referrers
        .iter()
        .map(|referrer| Value::String(referrer.by.to_string()));
    WireError::new(ErrorCode::Referenced, message).with_detail("referrers", Value::Array(ids.collect()))
}

/// Who refers to a partition, and from which event on.
pub(super) fn pins<I: Io>(catalog: &Catalog, partition: &Partition<I>) -> Vec<PinStatus> {
    let pins = partition.pins(None).into_iter();
    pins.map(|pin| {
        let record = catalog.partition(pin.by);
        let topic = record.and_then(|record| catalog.topic_by_id(record.topic));
        PinStatus {
            partition: pin.by,
            topic: topic.map(|topic| topic.name.clone()),
            index: record.map(|record| record.index),
            // An own one that is to go holds nothing any more.
            first_event_id: pin.first.max(partition.trim_end()).get(),
        }
    })
    .collect()
}
