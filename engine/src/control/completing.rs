//! The end of topics and partitions.

use std::rc::Rc;

use mofka_log::{CatalogRecord, PartitionRecord, TopicRecord};
use mofka_net::control::{ProducerDoneRequest, ProducerDoneResponse, TopicCompleteRequest};
use mofka_net::{ErrorCode, WireError};

use super::{each_owner, find, home, invalid, unknown_topic};
use crate::io::Io;
use crate::shard::{Peers, Shard, ShardCall};

/// Bytes of the name of a producer that says it is done.
const PRODUCER_NAME_BYTES_MAX: usize = 256;
/// Bytes of the names of all producers of a topic that said so, as the catalog stores them.
const PRODUCER_NAMES_BYTES_MAX: usize = 6 << 20;

pub(super) async fn topic_complete<I: Io, P: Peers>(
    shard: &Rc<Shard<I, P>>,
    request: TopicCompleteRequest,
) -> Result<(), WireError> {
    let mut partitions = Vec::new();
    home(shard)?
        .change(|catalog| {
            let topic = find(catalog, &request.name, &mut partitions)?;
            let (id, count) = (topic.id, partitions.len());
            let Some(index) = request.partition else {
                let record = CatalogRecord::TopicCompleted { topic: id };
                return Ok(if topic.complete { Vec::new() } else { vec![record] });
            };
            partitions.retain(|partition| partition.index == index);
            match partitions.first() {
                None => {
                    let message = format!(
                        "topic \"{}\" has {count} partitions, and none with index {index}",
                        topic.name
                    );
                    Err(WireError::new(ErrorCode::UnknownPartition, message))
                }
                Some(partition) if partition.complete => Ok(Vec::new()),
                Some(_) => Ok(vec![CatalogRecord::PartitionCompleted { topic: id, index }]),
            }
        })
        .await?;
    completed(shard, partitions).await?;
    tracing::info!(topic = %request.name, partition = ?request.partition, "marked complete");
    Ok(())
}

/// These partitions are complete by the catalog: they refuse events from now on, and their readers end.
async fn completed<I: Io, P: Peers>(
    shard: &Rc<Shard<I, P>>,
    partitions: Vec<PartitionRecord>,
) -> Result<(), WireError> {
    each_owner(shard, partitions, ShardCall::Complete).await?;
    shard.groups().wake();
    Ok(())
}

pub(super) async fn producer_done<I: Io, P: Peers>(
    shard: &Rc<Shard<I, P>>,
    request: ProducerDoneRequest,
) -> Result<ProducerDoneResponse, WireError> {
    let (name, producer) = (request.topic, request.producer);
    if producer.is_empty() || producer.len() > PRODUCER_NAME_BYTES_MAX {
        return Err(invalid(format!(
            "a producer that says it is done has a name of 1 to {PRODUCER_NAME_BYTES_MAX} bytes, not {}",
            producer.len()
        )));
    }
    let mut partitions = Vec::new();
    let catalog = home(shard)?
        .change(|catalog| {
            let topic = find(catalog, &name, &mut partitions)?;
            if topic.producers_expected == 0 {
                return Err(invalid(format!(
                    "topic \"{name}\" does not count its producers: say how many there will be when it is created \
                     (producers_expected), or mark it complete"
                )));
            }
            if topic.producers_done.contains(&producer) {
                return Ok(Vec::new());
            }
            if topic.complete {
                let message = format!("topic \"{name}\" is marked complete");
                return Err(WireError::new(ErrorCode::TopicComplete, message));
            }
            check_names(topic, &producer)?;
            Ok(vec![CatalogRecord::ProducerDone {
                topic: topic.id,
                producer: producer.clone(),
            }])
        })
        .await?;
    let topic = catalog.topic(&name).ok_or_else(|| unknown_topic(&name))?;
    let answer = ProducerDoneResponse {
        done: u32::try_from(topic.producers_done.len()).unwrap_or(u32::MAX),
        expected: topic.producers_expected,
    };
    tracing::info!(topic = %name, producer = %producer, done = answer.done, expected = answer.expected, "a producer is done");
    if topic.complete {
        completed(shard, partitions).await?;
        tracing::info!(topic = %name, "complete: all of its producers are done");
    }
    Ok(answer)
}

/// The names are kept in one record of the catalog, which is bounded.
fn check_names(topic: &TopicRecord, producer: &str) -> Result<(), WireError> {
    let names = topic.producers_done.iter().map(String::as_str);
    let bytes: usize = names.chain([producer]).map(stored_bytes).sum();
    if bytes <= PRODUCER_NAMES_BYTES_MAX {
        return Ok(());
    }
    let message = format!(
        "{} producers of topic \"{}\" are done, and no more names of them are stored ({PRODUCER_NAMES_BYTES_MAX} bytes): mark \
         the topic complete when the others are done",
        topic.producers_done.len(),
        topic.name
    );
    Err(WireError::new(ErrorCode::TooLarge, message))
}

/// What a name takes at most, in quotes and with a comma: control characters are written as escapes of six.
fn stored_bytes(name: &str) -> usize {
    let escaped = |byte: u8| match byte {
        b'"' | b'\\' => 2,
        0..0x20 => 6,
        _ => 1,
    };
    name.bytes().map(escaped).sum::<usize>() + 3
}
