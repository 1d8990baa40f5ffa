//! Power cuts on a real ext4: the real daemon, several partitions, many batches in flight, consumers that acknowledge.
//! The truth is kept by this process, outside of the file system that loses its power.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use mofka_log::EventId;
use mofka_net::control::{From, Selection, SubscribeRequest};
use mofka_net::{AcknowledgeRequest, AcknowledgeResponse, Feed, Opcode, ProduceResponse};
use mofka_tests::raw::RawClient;
use mofka_tests::{Node, Random, scale};
use serde_json::{Value, json};
use uuid::Uuid;

const PARTITIONS: usize = 4;
const PRODUCERS_PER_PARTITION: usize = 2;
const IN_FLIGHT: usize = 8;
const DISK_BYTES: u64 = 512 << 20;
/// Cuts on one file system before a fresh one is made.
const CUTS_PER_DISK: u64 = 10;
/// Batches sent again after a restart; the daemon remembers 64 of each producer.
const RESENT: u64 = 12;
const SUBSCRIPTION: u64 = 1 << 40;

struct Partition {
    id: Uuid,
    address: String,
}

/// What one producer knows.
struct Producer {
    id: u64,
    partition: usize,
    /// Batches that were ever sent.
    sent_end: u64,
    /// First ids of the batches that were acknowledged.
    acknowledged: BTreeMap<u64, u64>,
}

/// What one consumer knows.
#[derive(Default)]
struct Consumer {
    partition: usize,
    /// Everything before this was shown.
    seen_end: u64,
    asked: u64,
    durable: u64,
}

fn mix(a: u64, b: u64) -> u64 {
    (a.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ b.wrapping_mul(0xc2b2_ae3d_27d4_eb4f)).rotate_left(31)
        % 1_000_003
}

fn event_count(producer: u64, sequence: u64) -> u64 {
    1 + mix(producer, sequence) % 12
}

fn metadata(producer: u64, sequence: u64, n: u64) -> String {
    format!("{{\"p\":{producer},\"s\":{sequence},\"n\":{n}}}")
}

/// The data of an event follows from its name.
fn data(producer: u64, sequence: u64, n: u64) -> Vec<u8> {
    let first = mix(producer ^ (n << 8), sequence);
    let bytes = match first % 8 {
        0 => 0,
        1..=5 => first % 1500,
        6 => 4096,
        _ => first % 30_000,
    };
    (0..bytes)
        .map(|place| (place.wrapping_mul(first | 1) >> 3).to_le_bytes()[0])
        .collect()
}

fn send(client: &mut RawClient, partition: Uuid, producer: u64, sequence: u64) -> std::io::Result<u64> {
    let events: Vec<(String, Vec<u8>)> = (0..event_count(producer, sequence))
        .map(|n| (metadata(producer, sequence, n), data(producer, sequence, n)))
        .collect();
    let events: Vec<(&str, &[u8])> = events
        .iter()
        .map(|(metadata, data)| (metadata.as_str(), data.as_slice()))
        .collect();
    client.try_produce(partition, &events, Some((producer, 0, sequence)))
}

impl Producer {
    /// Sends as fast as it is answered, until the node is gone or says that it cannot go on.
    fn produce(&mut self, partition: &Partition) {
        let (mut client, _) = RawClient::hello_at(&partition.address);
        let mut waiting = BTreeMap::new();
        loop {
            while waiting.len() < IN_FLIGHT {
                // Counted before it leaves: it may arrive although sending fails.
                let sequence = self.sent_end;
                self.sent_end += 1;
                match send(&mut client, partition.id, self.id, sequence) {
                    Ok(request) => waiting.insert(request, sequence),
                    Err(_) => return,
                };
            }
            let Ok(received) = client.receive() else { return };
            let sequence = waiting.remove(&received.header.request_id());
            let (Some(sequence), Ok(body)) = (sequence, received.answer()) else {
                return;
            };
            let answer = ProduceResponse::check(body).unwrap();
            self.acknowledged.insert(sequence, answer.base_event_id.get());
        }
    }

    /// Sends the last batches again: what had been acknowledged is answered as it was.
    fn resend(&mut self, partition: &Partition) -> u64 {
        let (mut client, _) = RawClient::hello_at(&partition.address);
        let mut survived = 0;
        for sequence in self.sent_end.saturating_sub(RESENT)..self.sent_end {
            let request = send(&mut client, partition.id, self.id, sequence).unwrap();
            let answer = client
                .wait_for(request)
                .unwrap_or_else(|error| panic!("batch {sequence} of producer {} again: {error}", self.id));
            let answer = ProduceResponse::check(answer).unwrap();
            let base = answer.base_event_id.get();
            match self.acknowledged.insert(sequence, base) {
                Some(first) => assert_eq!(
                    (first, true),
                    (base, answer.duplicate),
                    "batch {sequence} of producer {} was acknowledged as {first}",
                    self.id
                ),
                None => survived += u64::from(answer.duplicate),
            }
        }
        survived
    }
}

fn subscribe_request(partition: Uuid, from: From, selection: Selection) -> SubscribeRequest {
    SubscribeRequest {
        subscription: SUBSCRIPTION,
        partition,
        consumer: "c".to_owned(),
        member: Uuid::nil(),
        filter: None,
        from,
        batch_events_max: 1000,
        batch_bytes_max: 1 << 20,
        credits: 1_000_000,
        selection,
    }
}

impl Consumer {
    /// Reads and acknowledges until the node is gone.
    fn consume(&mut self, partition: &Partition) {
        let (mut client, _) = RawClient::hello_at(&partition.address);
        let terms = subscribe_request(partition.id, From::Cursor, Selection::None);
        let answer = client.subscribe(&terms).unwrap();
        self.check_cursor(answer.next_event_id);
        while let Ok(received) = client.receive() {
            let is_feed = received.header.request_id() == SUBSCRIPTION;
            let Ok(body) = received.answer() else { return };
            if !is_feed {
                let stored = AcknowledgeResponse::check(&body).unwrap().next_event_id.get();
                self.durable = self.durable.max(stored);
                continue;
            }
            let feed = Feed::check(body).unwrap();
            self.seen_end = self.seen_end.max(feed.header.end_event_id.get());
            self.asked = self.asked.max(self.seen_end);
            let ack = AcknowledgeRequest {
                partition: partition.id,
                consumer: "c".to_owned(),
                next_event_id: EventId::new(self.asked),
            };
            if client
                .try_request(Opcode::Acknowledge, &ack.encode().unwrap())
                .is_err()
            {
                return;
            }
        }
    }

    fn check_cursor(&self, found: u64) {
        assert!(
            (self.durable..=self.asked).contains(&found),
            "the cursor of partition {} is at {found}; {} was durable and {} asked for",
            self.partition,
            self.durable,
            self.asked
        );
    }
}

/// Reads a partition from its first event, and holds it against what its producers know.
fn check(partition: &Partition, producers: &[&Producer]) -> u64 {
    let total: u64 = producers
        .iter()
        .map(|producer| {
            (0..producer.sent_end)
                .map(|sequence| event_count(producer.id, sequence))
                .sum::<u64>()
        })
        .sum();
    let (mut client, _) = RawClient::hello_at(&partition.address);
    client
        .subscribe(&subscribe_request(partition.id, From::First, Selection::All))
        .unwrap();
    let mut next = 0;
    let mut due: BTreeMap<u64, u64> = producers.iter().map(|producer| (producer.id, 0)).collect();
    while next < total {
        let (feed, batches) = client.feed(SUBSCRIPTION);
        assert_eq!(feed.header.visible_end.get(), total, "events that nobody sent");
        for batch in batches {
            let first: Value = serde_json::from_slice(batch.event(0).unwrap().metadata).unwrap();
            let (id, sequence) = (first["p"].as_u64().unwrap(), first["s"].as_u64().unwrap());
            let producer = producers.iter().find(|producer| producer.id == id).unwrap();
            let due = due.get_mut(&id).unwrap();
            assert_eq!(
                sequence, *due,
                "batches of producer {id} are all there, once, in order"
            );
            *due += 1;
            let base = batch.base_event_id().get();
            assert_eq!(base, next, "ids are dense");
            if let Some(acknowledged) = producer.acknowledged.get(&sequence) {
                assert_eq!(base, *acknowledged, "batch {sequence} of producer {id}");
            }
            let count = u64::from(batch.event_count());
            assert_eq!(count, event_count(id, sequence), "a batch is whole");
            let bytes = batch.data().cloned().unwrap_or_default();
            for (n, event) in (0..).zip(batch.events()) {
                assert_eq!(event.metadata, metadata(id, sequence, n).as_bytes());
                let start = usize::try_from(event.data_offset).unwrap();
                let end = start + usize::try_from(event.data_bytes).unwrap();
                assert!(
                    bytes[start..end] == data(id, sequence, n),
                    "data of event {n} of batch {sequence} of producer {id} is changed"
                );
            }
            next += count;
        }
    }
    total
}

struct World {
    node: Node,
    partitions: Vec<Partition>,
    producers: Vec<Producer>,
    consumers: Vec<Consumer>,
    survived: u64,
}

impl World {
    /// Nothing where the machine cannot cut the power.
    fn make() -> Option<Self> {
        let mut node = Node::prepare_with_disk(&["-c", "config.json"], DISK_BYTES)?;
        let config = json!({
            "data_dir": node.disk().path().join("data"),
            "listen": ["tcp://127.0.0.1:0"],
            "shards": 2,
            // Small, so that segments are sealed and opened all the time.
            "limits": {"segment_meta_bytes": 256 << 10, "segment_data_bytes": 4 << 20},
        });
        std::fs::write(node.dir().join("config.json"), config.to_string()).unwrap();
        node.start_again();
        let (mut client, _) = RawClient::hello(&node.group_file());
        client
            .create_topic(&json!({"name": "t", "num_partitions": PARTITIONS}))
            .unwrap();
        let producers = (0..PARTITIONS * PRODUCERS_PER_PARTITION).map(|place| Producer {
            id: place as u64 + 1,
            partition: place % PARTITIONS,
            sent_end: 0,
            acknowledged: BTreeMap::new(),
        });
        let consumers = (0..PARTITIONS).map(|partition| Consumer {
            partition,
            ..Consumer::default()
        });
        let mut world = Self {
            partitions: Vec::new(),
            producers: producers.collect(),
            consumers: consumers.collect(),
            survived: 0,
            node,
        };
        world.describe();
        Some(world)
    }

    fn describe(&mut self) {
        let (mut client, _) = RawClient::hello(&self.node.group_file());
        let described = client.json(Opcode::TopicDescribe, &json!({"name": "t"})).unwrap();
        let described: Value = serde_json::from_slice(&described).unwrap();
        let partitions = described["partitions"].as_array().unwrap().iter();
        self.partitions = partitions
            .map(|partition| Partition {
                id: partition["id"].as_str().unwrap().parse().unwrap(),
                address: partition["addresses"][0].as_str().unwrap().to_owned(),
            })
            .collect();
    }

    /// Everybody works, and at some moment the power is gone.
    fn cut(&mut self, after: Duration) {
        let (partitions, node) = (&self.partitions, &mut self.node);
        thread::scope(|scope| {
            for producer in &mut self.producers {
                scope.spawn(|| producer.produce(&partitions[producer.partition]));
            }
            for consumer in &mut self.consumers {
                scope.spawn(|| consumer.consume(&partitions[consumer.partition]));
            }
            thread::sleep(after);
            node.disk().cut();
            node.kill();
        });
        self.node.disk().restore();
        self.node.start_again();
        self.describe();
    }

    /// Holds what is there against what was known. Returns the events.
    fn check(&mut self) -> u64 {
        for consumer in &self.consumers {
            let partition = &self.partitions[consumer.partition];
            let (mut client, _) = RawClient::hello_at(&partition.address);
            let answer = client
                .subscribe(&subscribe_request(partition.id, From::Cursor, Selection::None))
                .unwrap();
            consumer.check_cursor(answer.next_event_id);
            assert!(
                answer.visible_end >= consumer.seen_end,
                "events up to {} of partition {} had been shown, and {} are there",
                consumer.seen_end,
                consumer.partition,
                answer.visible_end
            );
        }
        for producer in &mut self.producers {
            self.survived += producer.resend(&self.partitions[producer.partition]);
        }
        let mut total = 0;
        for (place, partition) in self.partitions.iter().enumerate() {
            let producers: Vec<&Producer> = self
                .producers
                .iter()
                .filter(|producer| producer.partition == place)
                .collect();
            total += check(partition, &producers);
        }
        total
    }
}

#[test]
fn nothing_acknowledged_is_lost_when_the_power_is_cut() {
    let cuts = scale("MOFKA_POWER_CUTS", 3);
    let seed = scale("MOFKA_POWER_SEED", std::process::id().into());
    println!("to repeat the moments of the cuts: MOFKA_POWER_SEED={seed}");
    let mut random = Random::new(seed);
    let started = Instant::now();
    let (mut total, mut survived, mut unanswered) = (0, 0, 0);
    let mut done = 0;
    while done < cuts {
        let Some(mut world) = World::make() else { return };
        let mut events = 0;
        for _ in 0..CUTS_PER_DISK.min(cuts - done) {
            world.cut(Duration::from_millis(30 + random.below(300)));
            unanswered += world
                .producers
                .iter()
                .map(|producer| producer.sent_end - producer.acknowledged.len() as u64)
                .sum::<u64>();
            events = world.check();
            done += 1;
        }
        total += events;
        survived += world.survived;
        assert!(world.node.terminate().success());
    }
    println!(
        "{cuts} power cuts in {:.0} s: {total} events, {unanswered} batches were not answered at a cut, {survived} of \
         them had survived it",
        started.elapsed().as_secs_f64()
    );
    assert!(
        total > 200 * cuts && unanswered > cuts,
        "too little was under way when the power was cut"
    );
}
