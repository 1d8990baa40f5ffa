//! What the node for tests knows and stores.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use mofka_log::{
    Batch, Durability, EventId, PartitionKind, ProducerTable, SequenceVerdict, Stamp, StreamedData,
};
use mofka_net::control::{
    From as Position, GroupPartition, GroupPlace, GroupSyncRequest, GroupSyncResponse, PartitionInfo,
    Selection, SubscribeRequest, TopicAlterRequest, TopicCreateRequest, TopicInfo,
};
use mofka_net::{
    AcknowledgeRequest, DataDescriptor, ErrorCode, FeedHeader, FeedItem, FetchRequest, FetchResponse,
    ProduceResponse, StreamCommit, WireError,
};
use serde_json::{Value, json};
use uuid::Uuid;

/// What to do with a batch.
pub(crate) enum Action {
    Accept,
    Refuse(ErrorCode),
    /// End the connection, without storing the batch.
    DropBefore,
    /// Store the batch, and end the connection instead of answering.
    DropAfter,
    /// Answer when [`super::Node::change`] releases it.
    Hold,
    /// Store the batch, and never answer.
    Swallow,
}

/// Says what to do with a batch for a partition.
type OnProduce = Box<dyn FnMut(Uuid, &Batch) -> Action + Send>;

#[derive(Default)]
pub(crate) struct Part {
    batches: Vec<Batch>,
    pub(crate) end: u64,
    producers: ProducerTable,
    pub(crate) cursors: HashMap<String, u64>,
    pub(crate) complete: bool,
    /// Events that retention dropped, to those who are behind.
    pub(crate) trim_end: u64,
    /// Events that it dropped after they were fed, to those who fetch.
    pub(crate) data_trim_end: u64,
}

pub(crate) struct Feeding {
    pub(crate) connection: u64,
    request: SubscribeRequest,
    next: u64,
    ended: bool,
}

pub(crate) struct State {
    /// Of partitions that are made.
    pub(crate) kind: PartitionKind,
    address: String,
    topics: BTreeMap<String, TopicInfo>,
    parts: HashMap<Uuid, Part>,
    pub(crate) on_produce: OnProduce,
    /// Frames that wait to be answered: connection, header id and what is to be done.
    pub(crate) held: Vec<(u64, mofka_net::FrameHeader, Uuid, Batch)>,
    pub(crate) subscriptions: HashMap<u64, Feeding>,
    /// Events in each batch that was stored, in order.
    pub(crate) batch_sizes: Vec<u32>,
    /// Batches that came again and were recognized.
    pub(crate) duplicates: usize,
    /// Items of each fetch request.
    pub(crate) fetches: Vec<Vec<DataDescriptor>>,
    /// Acknowledgements: consumer and position.
    pub(crate) acknowledged: Vec<(String, u64)>,
    pub(crate) hold_acknowledgements: bool,
    pub(crate) refuse_acknowledgements: Option<ErrorCode>,
    /// Of events whose data came in parts.
    pub(crate) refuse_commits: Option<ErrorCode>,
    pub(crate) held_acknowledgements: Vec<(u64, mofka_net::FrameHeader, EventId)>,
    /// Partitions that others are to read.
    pub(crate) taken_away: Vec<u32>,
    /// Consumers that wait for news of what they are to read.
    pub(crate) held_syncs: Vec<(u64, mofka_net::FrameHeader, GroupSyncRequest)>,
    /// There is always news: those who ask what they are to read are answered at once.
    pub(crate) is_restless: bool,
    /// All that members said of what they read.
    pub(crate) told: Vec<GroupPlace>,
    /// Feeds sent and credit granted so far, over all subscriptions.
    pub(crate) feeds: usize,
    pub(crate) credits: usize,
    /// Feeds are sent without credit, too.
    pub(crate) is_generous: bool,
    pub(crate) subscribes: Vec<SubscribeRequest>,
    pub(crate) hold_subscribes: bool,
    pub(crate) held_subscribes: Vec<(u64, mofka_net::FrameHeader, SubscribeRequest)>,
    pub(crate) pings: usize,
    pub(crate) heartbeat_ms: u64,
    /// Feeds do not bring data although it was declared.
    pub(crate) spare_data: bool,
    /// Bytes of data to flip in answers to fetches of these events.
    pub(crate) damaged_fetches: Vec<u64>,
    /// The same in the answers to these fetches, counted from 0.
    pub(crate) damaged_answers: Vec<usize>,
    pub(crate) fetch_bytes_max: u64,
    /// Fetches from this one on are never answered, counted from 0.
    pub(crate) swallows_fetches_from: usize,
    /// Connections that ever came.
    pub(crate) opened_connections: usize,
    pub(crate) sequence_window: u32,
    /// No answers at all, to anything.
    pub(crate) is_deaf: bool,
    /// Events whose data comes in parts, by stream: connection, partition, and what came.
    pub(crate) streams: HashMap<u64, (u64, Uuid, Vec<u8>)>,
}

impl State {
    pub(crate) fn new() -> Self {
        Self {
            kind: PartitionKind::Memory,
            address: String::new(),
            topics: BTreeMap::new(),
            parts: HashMap::new(),
            on_produce: Box::new(|_, _| Action::Accept),
            held: Vec::new(),
            subscriptions: HashMap::new(),
            batch_sizes: Vec::new(),
            duplicates: 0,
            fetches: Vec::new(),
            acknowledged: Vec::new(),
            hold_acknowledgements: false,
            refuse_acknowledgements: None,
            refuse_commits: None,
            held_acknowledgements: Vec::new(),
            held_syncs: Vec::new(),
            taken_away: Vec::new(),
            is_restless: false,
            told: Vec::new(),
            feeds: 0,
            credits: 0,
            is_generous: false,
            subscribes: Vec::new(),
            hold_subscribes: false,
            held_subscribes: Vec::new(),
            pings: 0,
            heartbeat_ms: 10_000,
            spare_data: false,
            damaged_fetches: Vec::new(),
            damaged_answers: Vec::new(),
            fetch_bytes_max: 1 << 20,
            swallows_fetches_from: usize::MAX,
            opened_connections: 0,
            sequence_window: 64,
            is_deaf: false,
            streams: HashMap::new(),
        }
    }

    /// Every consumer reads all that it wants, whoever else does.
    pub(crate) fn assignment(&self, request: &GroupSyncRequest) -> Result<GroupSyncResponse, WireError> {
        let topic = self.topic(&request.topic)?;
        let wanted = |partition: &&PartitionInfo| {
            (request.targets.is_empty() || request.targets.contains(&partition.index))
                && !self.taken_away.contains(&partition.index)
        };
        let taken_away = self.taken_away.len() as u64;
        let assigned = |info: &PartitionInfo| GroupPartition {
            info: info.clone(),
            next_event_id: None,
        };
        let generation =
            1 + 2 * (topic.partitions.len() as u64 + 100 * taken_away) + u64::from(topic.complete);
        Ok(GroupSyncResponse {
            generation: match self.is_restless {
                true => request.generation + 1,
                false => generation,
            },
            partitions: topic.partitions.iter().filter(wanted).map(assigned).collect(),
            partition_count: topic.partitions.len() as u32,
            complete: topic.complete,
        })
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn moved_to(&mut self, address: &str) {
        self.address = address.to_owned();
        for partition in self.topics.values_mut().flat_map(|topic| &mut topic.partitions) {
            partition.addresses = vec![address.to_owned()];
        }
    }

    pub(crate) fn forget_connections(&mut self) {
        self.subscriptions.clear();
        self.held.clear();
        self.held_acknowledgements.clear();
        self.held_subscribes.clear();
    }

    pub(crate) fn part(&mut self, partition: Uuid) -> &mut Part {
        self.parts.get_mut(&partition).unwrap()
    }

    /// It does not exist any more, though its topic still names it.
    pub(crate) fn lose_partition(&mut self, partition: Uuid) {
        self.parts.remove(&partition);
    }

    /// It loses its last events, as one in memory loses all when its node starts anew, and a log that was not synced some.
    pub(crate) fn cut(&mut self, partition: Uuid, end: u64) {
        let part = self.part(partition);
        part.batches.retain(|batch| batch.end_event_id().get() <= end);
        part.end = end;
        part.producers = ProducerTable::default();
        part.cursors.values_mut().for_each(|next| *next = end.min(*next));
    }

    pub(crate) fn stored(&self, partition: Uuid) -> Vec<String> {
        let events = self.parts[&partition].batches.iter().flat_map(Batch::events);
        events
            .map(|event| String::from_utf8(event.metadata.to_vec()).unwrap())
            .collect()
    }

    pub(crate) fn topics(&self) -> impl Iterator<Item = &TopicInfo> {
        self.topics.values()
    }

    pub(crate) fn topic(&self, name: &str) -> Result<&TopicInfo, WireError> {
        self.topics
            .get(name)
            .ok_or_else(|| WireError::new(ErrorCode::UnknownTopic, format!("no topic {name}")))
    }

    pub(crate) fn complete(&mut self, name: &str) -> Result<(), WireError> {
        for partition in self.topic(name)?.partitions.clone() {
            self.part(partition.id).complete = true;
        }
        if let Some(info) = self.topics.get_mut(name) {
            info.complete = true;
        }
        Ok(())
    }

    pub(crate) fn delete_topic(&mut self, name: &str) -> Result<(), WireError> {
        self.topic(name)?;
        self.topics.remove(name);
        Ok(())
    }

    pub(crate) fn alter_topic(&mut self, request: TopicAlterRequest) -> Result<TopicInfo, WireError> {
        self.topic(&request.name)?;
        let info = self.topics.get_mut(&request.name).unwrap();
        if let Some(retention) = request.retention {
            info.retention = retention;
        }
        Ok(info.clone())
    }

    pub(crate) fn create_topic(&mut self, request: TopicCreateRequest) -> Result<TopicInfo, WireError> {
        if self.topics.contains_key(&request.name) {
            return Err(WireError::new(ErrorCode::TopicExists, "it exists"));
        }
        let component = |given: Option<Value>| given.unwrap_or_else(|| json!({"type": "default"}));
        let info = TopicInfo {
            id: Uuid::new_v4(),
            name: request.name.clone(),
            durability: request.durability.unwrap_or(Durability::Synced),
            validator: component(request.validator),
            partition_selector: component(request.partition_selector),
            serializer: component(request.serializer),
            created_us: 1,
            complete: false,
            retention: request.retention.unwrap_or_default(),
            producers_expected: 0,
            producers_done: 0,
            partitions: Vec::new(),
        };
        self.topics.insert(request.name.clone(), info);
        for _ in 0..request.num_partitions.unwrap_or(0) {
            self.add_partition(&request.name)?;
        }
        self.topic(&request.name).cloned()
    }

    pub(crate) fn add_partition(&mut self, topic: &str) -> Result<PartitionInfo, WireError> {
        self.topic(topic)?;
        let (address, kind) = (self.address.clone(), self.kind);
        let topic = self.topics.get_mut(topic).unwrap();
        let info = PartitionInfo {
            id: Uuid::new_v4(),
            index: topic.partitions.len() as u32,
            kind,
            rank: 0,
            shard: 0,
            complete: false,
            addresses: vec![address],
        };
        topic.partitions.push(info.clone());
        self.parts.insert(info.id, Part::default());
        Ok(info)
    }

    /// Stores a batch as a partition would.
    pub(crate) fn store(&mut self, partition: Uuid, mut batch: Batch) -> Result<ProduceResponse, WireError> {
        let part = self.parts.get_mut(&partition).ok_or_else(|| unknown(partition))?;
        let place = batch.place().unwrap();
        let event_count = batch.event_count();
        match part.producers.check(place) {
            SequenceVerdict::New if part.complete => {
                return Err(WireError::new(ErrorCode::TopicComplete, "complete"));
            }
            SequenceVerdict::New => {}
            SequenceVerdict::Duplicate {
                base_event_id,
                event_count,
            } => {
                self.duplicates += 1;
                return Ok(ProduceResponse {
                    base_event_id,
                    event_count,
                    duplicate: true,
                });
            }
            SequenceVerdict::Gap { expected } => return Err(WireError::sequence_gap("a gap", expected)),
            SequenceVerdict::Unknown => return Err(WireError::new(ErrorCode::UnknownProducer, "unknown")),
            SequenceVerdict::TooOld => return Err(WireError::new(ErrorCode::SequenceTooOld, "too old")),
            SequenceVerdict::Fenced { .. } => {
                return Err(WireError::new(ErrorCode::ProducerFenced, "fenced"));
            }
        }
        let base_event_id = EventId::new(part.end);
        part.producers.note(place, base_event_id, event_count);
        batch.stamp(Stamp {
            base_event_id,
            timestamp_us: 1_000_000 + part.end,
            ..Stamp::default()
        });
        part.end += u64::from(event_count);
        part.batches.push(batch);
        self.batch_sizes.push(event_count);
        Ok(ProduceResponse {
            base_event_id,
            event_count,
            duplicate: false,
        })
    }

    /// The batch of a stream that is committed, its data with it; of one that is gone, the first answer to it if there was one.
    pub(crate) fn end_stream(
        &mut self,
        connection: u64,
        commit: &StreamCommit,
    ) -> Result<Batch, Result<ProduceResponse, WireError>> {
        let known = self.streams.remove(&commit.prefix.stream);
        let frame = commit.produce.frame.clone();
        match known
            .filter(|(owner, partition, _)| (*owner, *partition) == (connection, commit.produce.partition))
        {
            Some((_, _, bytes)) => {
                let mut data = StreamedData::new();
                data.push(&bytes).unwrap();
                assert_eq!(data.bytes(), commit.prefix.offset);
                let batch = Batch::check_streamed(frame, &data).unwrap();
                Ok(batch.with_data(bytes.into()).unwrap())
            }
            None => {
                let batch = Batch::check(frame, None).unwrap();
                let part = &self.parts[&commit.produce.partition];
                match part.producers.check(batch.place().unwrap()) {
                    SequenceVerdict::Duplicate { .. } => Err(self.store(commit.produce.partition, batch)),
                    _ => Err(Err(WireError::new(ErrorCode::UnknownStream, "no such stream"))),
                }
            }
        }
    }

    /// Forgets all producers, as a memory partition does that is started anew.
    pub(crate) fn forget_producers(&mut self) {
        self.parts
            .values_mut()
            .for_each(|part| part.producers = ProducerTable::default());
    }

    pub(crate) fn subscribe(
        &mut self,
        connection: u64,
        request: SubscribeRequest,
    ) -> Result<(u64, u64), WireError> {
        self.subscribes.push(request.clone());
        let part = self
            .parts
            .get(&request.partition)
            .ok_or_else(|| unknown(request.partition))?;
        let next = match request.from {
            Position::Cursor => part.cursors.get(&request.consumer).copied().unwrap_or(0),
            Position::First => part.trim_end,
            Position::Last => part.end,
            Position::Id(id) => id,
            // The scripted node knows no times.
            Position::Time(_) => part.end,
        };
        let end = part.end;
        self.credits += request.credits as usize;
        let feeding = Feeding {
            connection,
            next,
            ended: false,
            request,
        };
        self.subscriptions.insert(feeding.request.subscription, feeding);
        Ok((next, end))
    }

    pub(crate) fn grant(&mut self, subscription: u64, credits: u32) {
        if let Some(feeding) = self.subscriptions.get_mut(&subscription) {
            feeding.request.credits += credits;
            self.credits += credits as usize;
        }
    }

    /// The next feed that may be sent to anybody: connection, subscription and body.
    pub(crate) fn next_feed(&mut self) -> Option<(u64, u64, Vec<u8>)> {
        for (id, feeding) in &mut self.subscriptions {
            let part = &self.parts[&feeding.request.partition];
            let missed = part.trim_end.saturating_sub(feeding.next);
            let from = feeding.next.max(part.trim_end);
            let end_of_stream = from >= part.end && part.complete;
            let may_feed = feeding.request.credits > 0 || self.is_generous;
            if !may_feed || feeding.ended || from >= part.end && !end_of_stream {
                continue;
            }
            feeding.request.credits = feeding.request.credits.saturating_sub(1);
            feeding.ended = end_of_stream;
            let mut events = 0;
            let batches: Vec<&Batch> = part
                .batches
                .iter()
                .filter(|batch| batch.end_event_id().get() > from)
                .take_while(|batch| {
                    let first = events == 0;
                    events += batch.event_count();
                    first || events <= feeding.request.batch_events_max
                })
                .collect();
            let end = batches.last().map_or(from, |batch| batch.end_event_id().get());
            let header = FeedHeader {
                first_event_id: EventId::new(from),
                end_event_id: EventId::new(end),
                visible_end: EventId::new(part.end),
                missed_count: missed,
                item_count: batches.len() as u32,
                is_picked: false,
                end_of_stream,
            };
            let mut body = header.encode().to_vec();
            for batch in batches {
                let with_data = feeding.request.selection == Selection::All && !self.spare_data;
                let data = batch.data().filter(|_| with_data).cloned().unwrap_or_default();
                let item = FeedItem {
                    frame_bytes: batch.frame_bytes(),
                    data_bytes: data.len() as u64,
                };
                for piece in [&item.encode()[..], batch.header_bytes(), batch.body(), &data] {
                    body.extend_from_slice(piece);
                }
                body.resize(body.len().next_multiple_of(8), 0);
            }
            feeding.next = end;
            self.feeds += 1;
            return Some((feeding.connection, *id, body));
        }
        None
    }

    pub(crate) fn fetch(&mut self, request: &FetchRequest) -> Result<Vec<Bytes>, WireError> {
        self.fetches.push(request.items.clone());
        let part = self
            .parts
            .get(&request.partition)
            .ok_or_else(|| unknown(request.partition))?;
        let mut answer = FetchResponse::new();
        let mut left = self.fetch_bytes_max;
        for descriptor in &request.items {
            let id = descriptor.event_id().unwrap();
            if id.get() < part.data_trim_end {
                answer.push_error(ErrorCode::Trimmed);
                continue;
            }
            let batch = part
                .batches
                .iter()
                .find(|batch| batch.end_event_id() > id)
                .unwrap();
            let index = (id.get() - batch.base_event_id().get()) as u32;
            let event = batch.event(index).unwrap();
            if descriptor.bytes() > left {
                answer.push_error(ErrorCode::TooLarge);
                continue;
            }
            left -= descriptor.bytes();
            assert_eq!(descriptor.base_bytes(), event.data_bytes);
            let mut bytes = Vec::new();
            for range in descriptor.flatten() {
                let start = (event.data_offset + range.offset) as usize;
                bytes.extend_from_slice(&batch.data().unwrap()[start..start + range.bytes as usize]);
            }
            let crc = crc32fast::hash(&bytes);
            let number = self.fetches.len() - 1;
            if self.damaged_fetches.contains(&id.get()) || self.damaged_answers.contains(&number) {
                bytes[0] ^= 1;
            }
            answer.push(bytes.into(), crc);
        }
        Ok(answer.encode())
    }

    pub(crate) fn acknowledge(&mut self, request: &AcknowledgeRequest) -> Result<EventId, WireError> {
        self.acknowledged
            .push((request.consumer.clone(), request.next_event_id.get()));
        if let Some(code) = self.refuse_acknowledgements {
            return Err(WireError::new(code, "as the test wants it"));
        }
        let part = self
            .parts
            .get_mut(&request.partition)
            .ok_or_else(|| unknown(request.partition))?;
        let cursor = part.cursors.entry(request.consumer.clone()).or_default();
        *cursor = request.next_event_id.get().max(*cursor);
        Ok(EventId::new(*cursor))
    }
}

fn unknown(partition: Uuid) -> WireError {
    WireError::new(ErrorCode::UnknownPartition, format!("no partition {partition}"))
}
