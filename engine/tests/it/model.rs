//! What the tests believe a partition holds, kept apart from anything the engine says.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;

use bytes::Bytes;
use mofka_engine::EngineLimits;
use mofka_engine::partition::{Appended, Partition, PartitionSpec, ReadLimits};
use mofka_engine::sim::{Random, SimIo};
use mofka_log::{
    Appender, AppenderConfig, Batch, BatchBuilder, Durability, EventId, PartitionKind, PartitionRecord,
    ProducerId, SegmentFacts, TopicRecord,
};
use mofka_net::DataDescriptor;
use serde_json::Value;
use uuid::Uuid;

/// One event: metadata and data.
pub(crate) type Content = (Vec<u8>, Vec<u8>);

pub(crate) fn partition_id() -> Uuid {
    Uuid::from_u128(0x006d_6f66_6b61)
}

/// A partition with segments so small that a short test rolls them.
pub(crate) fn spec(kind: PartitionKind, durability: Durability) -> PartitionSpec {
    let topic = TopicRecord {
        id: Uuid::from_u128(7),
        name: "t".to_owned(),
        durability,
        validator: Value::Null,
        partition_selector: Value::Null,
        serializer: Value::Null,
        created_us: 1,
        complete: false,
        retention: mofka_log::Retention::default(),
        producers_expected: 0,
        producers_done: Default::default(),
    };
    let record = PartitionRecord {
        id: partition_id(),
        topic: topic.id,
        index: 0,
        kind,
        rank: 0,
        shard: 0,
        created_us: 1,
        config: Value::Null,
        complete: false,
        refers: false,
        sourced: false,
    };
    let limits = EngineLimits {
        segment_meta_bytes: 24 << 10,
        segment_data_bytes: 48 << 10,
        commits_in_flight_max: 3,
        // Small commits are gathered, others begin while one is under way; frames have a rhythm of their own.
        pipeline_bytes_min: 2000,
        meta_pipeline_bytes_min: 900,
        // Every few acknowledgements, so that crashes and faults hit the rewrite.
        cursors_rewrite_bytes: 4500,
        shard_recent_bytes_max: 8 << 10,
        ..EngineLimits::default()
    };
    PartitionSpec {
        record,
        topic,
        dir: PathBuf::from("/p"),
        limits,
    }
}

/// What writes a file of records that begins at `base`.
pub(crate) fn record_appender(base: EventId, salt: u64) -> Appender {
    let config = AppenderConfig {
        commits_in_flight_max: 1,
        commit_bytes_max: 1 << 20,
        pipeline_bytes_min: 0,
        meta_pipeline_bytes_min: 0,
        segment_meta_bytes: u64::MAX,
        segment_data_bytes: u64::MAX,
    };
    let facts = SegmentFacts {
        salt,
        base_event_id: base,
        incarnation: 1,
    };
    Appender::new(config, facts)
}

/// A batch as a client would send it.
pub(crate) fn batch(events: &[Content], producer: Option<(u64, u32, u64)>) -> Batch {
    let mut builder = BatchBuilder::new();
    for (metadata, data) in events {
        builder
            .push(
                metadata,
                std::iter::once(data.as_slice()).filter(|data| !data.is_empty()),
            )
            .unwrap();
    }
    let (frame, data): (Bytes, Bytes) =
        builder.finish(producer.map(|(id, epoch, sequence)| (ProducerId::new(id), epoch, sequence)));
    Batch::check_client(frame, data).unwrap()
}

/// Random events: mostly small, some without data, some larger than a piece or a segment.
pub(crate) fn random_events(random: &mut Random, tag: u64) -> Vec<Content> {
    let count = 1 + random.below(5);
    (0..count)
        .map(|n| {
            let metadata = format!(
                "{{\"tag\":{tag},\"n\":{n},\"pad\":\"{}\"}}",
                "x".repeat(random.below(200) as usize)
            );
            let data_bytes = match random.below(10) {
                0..=2 => 0,
                3..=7 => random.below(3000),
                8 => 4096 * (1 + random.below(3)),
                _ => 60_000 + random.below(80_000),
            };
            let first = random.number();
            let data = (0..data_bytes)
                .map(|place| (first.wrapping_add(place.wrapping_mul(31)) >> 3) as u8)
                .collect();
            (metadata.into_bytes(), data)
        })
        .collect()
}

/// What became of one batch.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) events: Vec<Content>,
    pub(crate) sequence: u64,
    pub(crate) outcome: Rc<RefCell<Option<Result<Appended, String>>>>,
}

impl Sent {
    pub(crate) fn acknowledged(&self) -> Option<Appended> {
        self.outcome
            .borrow()
            .as_ref()
            .and_then(|outcome| outcome.as_ref().ok().copied())
    }
}

/// Sends a batch; its outcome is noted when it comes.
pub(crate) fn send(
    partition: &Rc<Partition<SimIo>>,
    events: Vec<Content>,
    producer: (u64, u32, u64),
) -> Sent {
    let sent = hand_over(partition, events, producer, None);
    partition.kick();
    sent
}

/// Hands a batch to the partition, to be answered when it is as durable as asked, and does not kick it.
pub(crate) fn hand_over(
    partition: &Rc<Partition<SimIo>>,
    events: Vec<Content>,
    producer: (u64, u32, u64),
    asked: Option<Durability>,
) -> Sent {
    let outcome = Rc::new(RefCell::new(None));
    let noted = Rc::clone(&outcome);
    partition.append(
        batch(&events, Some(producer)),
        asked,
        Box::new(move |answer| *noted.borrow_mut() = Some(answer.map_err(|error| error.to_string()))),
    );
    Sent {
        events,
        sequence: producer.2,
        outcome,
    }
}

/// A batch that a partition accepted, in the order of acceptance.
pub(crate) struct Accepted<'a> {
    pub(crate) events: &'a [Content],
    /// The answer that its producer has got, if any: it has to be at its place then.
    pub(crate) acknowledged: Option<Appended>,
    /// It was promised to survive.
    pub(crate) must_be_there: bool,
}

/// What is there after a crash is a prefix of what was accepted, whole batch by whole batch, byte for byte, with all
/// that was promised. Gives how many batches are there.
pub(crate) fn check_prefix<'a>(
    found: &BTreeMap<u64, Content>,
    accepted: impl Iterator<Item = Accepted<'a>>,
) -> Result<usize, String> {
    let (mut id, mut survived, mut ended) = (0_u64, 0, false);
    for (n, batch) in accepted.enumerate() {
        let there = (0..batch.events.len() as u64)
            .filter(|event| found.contains_key(&(id + event)))
            .count();
        if let Some(acknowledged) = batch.acknowledged
            && !ended
            && (acknowledged.base_event_id.get() != id || acknowledged.duplicate)
        {
            return Err(format!(
                "batch {n} was acknowledged as {acknowledged:?}, not at {id}"
            ));
        }
        if batch.must_be_there && there < batch.events.len() {
            return Err(format!(
                "batch {n} was acknowledged or seen and {there} of its events are there"
            ));
        }
        match there {
            0 => {
                ended = true;
                continue;
            }
            there if there < batch.events.len() => return Err(format!("batch {n} is half there")),
            _ if ended => return Err(format!("batch {n} is there and one before it is not")),
            _ => {}
        }
        for (event, content) in (id..).zip(batch.events) {
            if found.get(&event) != Some(content) {
                return Err(format!("event {event}, of batch {n}, is changed"));
            }
        }
        id += batch.events.len() as u64;
        survived += 1;
    }
    if found.len() as u64 != id {
        return Err(format!(
            "{} events are there, and {id} of them were sent",
            found.len()
        ));
    }
    Ok(survived)
}

/// Everything a partition shows, by event id, read the way consumers read.
pub(crate) async fn read_all(partition: Rc<Partition<SimIo>>) -> Result<BTreeMap<u64, Content>, String> {
    let mut found = BTreeMap::new();
    let mut next = partition.trim_end();
    while next < partition.visible_end() {
        let limits = ReadLimits {
            events_max: 16,
            bytes_max: 1 << 20,
            with_data: true,
        };
        let slice = partition
            .read(next, limits)
            .await
            .map_err(|error| error.to_string())?;
        if slice.end_event_id <= next {
            return Err(format!("reading at {next} makes no progress"));
        }
        for batch in &slice.batches {
            let data = match batch.data() {
                Some(data) => data.clone(),
                None if batch.data_bytes() == 0 => Bytes::new(),
                // What came in parts is asked for.
                None => {
                    let whole = DataDescriptor::of_event(batch.base_event_id(), batch.data_bytes());
                    let fetched = partition.fetch(&whole, u64::MAX, &mut None).await;
                    fetched.map_err(|error| error.to_string())?.bytes
                }
            };
            for (id, event) in (batch.base_event_id().get()..).zip(batch.events()) {
                let start = usize::try_from(event.data_offset).unwrap();
                let end = start + usize::try_from(event.data_bytes).unwrap();
                found.insert(id, (event.metadata.to_vec(), data[start..end].to_vec()));
            }
        }
        next = slice.end_event_id;
    }
    Ok(found)
}

/// Opens the partition on this machine.
pub(crate) fn open(io: &SimIo, spec: PartitionSpec) -> Result<Rc<Partition<SimIo>>, String> {
    let machine = io.clone();
    io.block_on(async move {
        Partition::open(machine, spec)
            .await
            .map_err(|error| error.to_string())
    })
}

pub(crate) fn id(n: u64) -> EventId {
    EventId::new(n)
}
