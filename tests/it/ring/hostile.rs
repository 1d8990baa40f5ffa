//! Clients that do what none should: each harms itself only.

use std::time::{Duration, Instant};

use mofka_client::{BatchSize, ConsumerOptions, DataSelector};
use mofka_log::BatchBuilder;
use mofka_net::control::{From, Selection, SubscribeRequest, TopicInfo, decode_any, encode};
use mofka_net::limits::{FEATURE_RING, FEATURE_RING_IN_PLACE};
use mofka_net::{CreditRequest, ErrorCode, Feed, FrameHeader, Opcode, ProducePrefix, WireError};
use mofka_tests::raw::RawClient;
use mofka_tests::raw_ring::{RawRing, ring_request};
use mofka_tests::{Node, Random, scale};
use serde_json::json;
use uuid::Uuid;

use super::{PATIENCE, eventually, node, rings, there_and_back};

/// The address of the first shard.
fn address(node: &Node) -> String {
    format!("unix://{}", node.data_dir().join("mofka.sock").display())
}

/// A partition of a new topic, and its shard's address.
fn partition(node: &Node, topic: &str) -> (Uuid, String) {
    let (mut client, _) = RawClient::hello(&node.group_file());
    let answer = client.json(Opcode::TopicCreate, &json!({"name": topic, "num_partitions": 1}));
    let topic: TopicInfo = decode_any("topic", &answer.unwrap()).unwrap();
    let partition = &topic.partitions[0];
    (partition.id, partition.addresses[0].clone())
}

/// A produce request of one event: its frame, in pieces.
fn produce(number: u64, partition: Uuid, data: &[u8]) -> Vec<Vec<u8>> {
    let mut builder = BatchBuilder::new();
    builder.push(b"{}", std::iter::once(data)).unwrap();
    let (frame, data) = builder.finish(None);
    let prefix = ProducePrefix {
        partition,
        durability: None,
    }
    .encode();
    let body_bytes = (prefix.len() + frame.len() + data.len()) as u64;
    let header = FrameHeader::self_checked(Opcode::Produce, number, body_bytes);
    vec![header.to_vec(), prefix.to_vec(), frame.to_vec(), data.to_vec()]
}

#[test]
fn a_ring_is_given_to_those_who_may_have_it_and_the_others_are_told_why() {
    let mut node = Node::prepare(&["-c", "config.json"]);
    let config = r#"{"listen": ["na+sm", "tcp://127.0.0.1:0"], "shards": 1,
        "limits": {"ring_slots_max": 64, "ring_bytes_max": 1000000}}"#;
    std::fs::write(node.dir().join("config.json"), config).unwrap();
    node.start_again();
    let unix = address(&node);
    let group = std::fs::read_to_string(node.group_file()).unwrap();
    let group: serde_json::Value = serde_json::from_str(&group).unwrap();
    let addresses = group["members"][0]["addresses"].as_array().unwrap();
    let tcp = addresses
        .iter()
        .map(|a| a.as_str().unwrap())
        .find(|a| a.starts_with("tcp"));
    let ask = |client: &mut RawClient, slots: u32, arena_bytes: u64| -> WireError {
        let refused = client
            .json(Opcode::RingOpen, &ring_request(slots, arena_bytes))
            .unwrap_err();
        client.call(Opcode::Ping, b"").expect("the connection goes on");
        refused
    };

    let mut client = RawClient::connect(tcp.unwrap());
    assert!(
        client
            .say_hello(&[FEATURE_RING, "unheard-of"])
            .features
            .is_empty()
    );
    assert_eq!(ask(&mut client, 8, 4096).code, ErrorCode::InvalidArgument);

    let mut client = RawClient::connect(&unix);
    assert!(client.say_hello(&[]).ring.is_none());
    let refused = ask(&mut client, 8, 4096);
    assert!(refused.message.contains("agreed on it in hello"), "{refused}");

    let mut client = RawClient::connect(&unix);
    let hello = client.say_hello(&[FEATURE_RING, "unheard-of"]);
    assert_eq!(hello.features, [FEATURE_RING]);
    let bounds = hello.ring.unwrap();
    assert_eq!((bounds.slots_max, bounds.ring_bytes_max), (64, 1_000_000));
    for (slots, arena_bytes, code) in [
        (7, 4096, ErrorCode::InvalidArgument),
        (8, 4097, ErrorCode::InvalidArgument),
        (8, u64::MAX - 4095, ErrorCode::InvalidArgument),
        (128, 4096, ErrorCode::TooLarge),
        (8, 1 << 20, ErrorCode::TooLarge),
    ] {
        let refused = ask(&mut client, slots, arena_bytes);
        assert_eq!(refused.code, code, "{slots}, {arena_bytes}: {refused}");
    }
    let detour = client.call(Opcode::RingDetour, b"").unwrap_err();
    assert_eq!(detour.code, ErrorCode::UnknownOpcode);
    client.create_partition();
    let partition: TopicInfo = {
        let answer = client.json(Opcode::TopicDescribe, &json!({"name": "t"})).unwrap();
        decode_any("topic", &answer).unwrap()
    };
    client.subscribe(&terms(partition.partitions[0].id)).unwrap();
    let refused = ask(&mut client, 8, 4096);
    assert!(refused.message.contains("before anything else"), "{refused}");

    let mut ring = RawRing::open(&unix, 8, 4096);
    let again = encode("ring_open", &ring_request(8, 4096)).unwrap();
    let refused = ring.call(Opcode::RingOpen, &again).unwrap_err();
    assert_eq!(refused.code, ErrorCode::InvalidArgument);
    ring.call(Opcode::Ping, b"").expect("the ring goes on");
    let counted = rings(&node);
    assert_eq!(
        (
            counted.attached_count,
            counted.opened_count,
            counted.refused_count
        ),
        (1, 1, 9)
    );
}

fn terms(partition: Uuid) -> SubscribeRequest {
    SubscribeRequest {
        subscription: 1 << 40,
        partition,
        consumer: "raw".to_owned(),
        member: Uuid::nil(),
        from: From::First,
        batch_events_max: 1,
        batch_bytes_max: 1 << 20,
        credits: 100_000,
        selection: Selection::All,
        filter: None,
    }
}

#[test]
fn whoever_writes_anything_anywhere_harms_only_itself() {
    const WRITES: u64 = 250;
    let node = node("");
    let honest = node.driver();
    let seed = scale("MOFKA_SEED", 1);
    let (mut written, mut ended) = (0, 0);
    for round in 0..scale("MOFKA_SCRIBBLERS", 40) {
        let mut random = Random::new(seed * 1000 + round);
        let mut ring = RawRing::open(&address(&node), 16, 64 << 10);
        ring.call(Opcode::Ping, b"").unwrap();
        let memory_bytes = rustix::fs::fstat(&ring.memory).unwrap().st_size as u64;
        for _ in 0..WRITES {
            // Most of it where positions, flags and slots are.
            let at = match random.below(4) {
                0 => random.below(memory_bytes / 8) * 8,
                1 => 4096 + random.below(2 * 16 * 136 / 8) * 8,
                _ => random.below(4096 / 8) * 8,
            };
            let word = match random.below(4) {
                0 => random.below(u64::MAX),
                1 => random.below(4),
                _ => random.below(200),
            };
            rustix::io::pwrite(&ring.memory, &word.to_ne_bytes(), at).unwrap();
            written += 1;
            // Whatever comes of it.
            let body = vec![1; usize::try_from(random.below(3000)).unwrap()];
            let header = FrameHeader::request(Opcode::Ping, written, &body);
            let is_open = ring.end.sender.send(&[&header, &body]).is_ok();
            while let Ok(Some(arrival)) = ring.end.receiver.receive() {
                drop(arrival);
            }
            if !is_open {
                ended += 1;
                break;
            }
        }
    }
    println!("{written} words written, {ended} rings ended by it (MOFKA_SEED={seed})");
    there_and_back(&honest, "honest", 500, 2000, BatchSize::Adaptive);
    eventually(&node, |rings| rings.attached_count == 2);
    let counted = rings(&node);
    assert!(counted.fault_count + ended > 5, "{counted:?}");
    assert_eq!(
        counted.attached_bytes / 2,
        counted.attached_bytes - counted.attached_bytes / 2
    );
}

/// Slots of the third kind with all that a second stretch can be.
#[test]
fn a_second_stretch_that_lies_nowhere_ends_the_ring_that_it_came_through() {
    const ARENA_BYTES: u64 = 64 << 10;
    let node = node("");
    let honest = node.driver();
    let mut faults = 0;
    // Bytes of the frame, where its head is, bytes of it, where its rest is.
    for (frame_bytes, arena_at, head_bytes, rest_at) in [
        (100, 0, 32, ARENA_BYTES),
        (100, 0, 32, ARENA_BYTES - 67),
        (100, 0, 32, u64::MAX),
        (100, 0, 32, u64::MAX - 67),
        (100, 0, 101, 0),
        (100, 0, 31, 4096),
        (100, 0, 0, 4096),
        (100, ARENA_BYTES - 31, 32, 0),
        (100, u64::MAX, 32, 0),
        (u64::MAX, 0, 32, 0),
        (u64::MAX, 0, 32, u64::MAX),
        (1 << 63, 4096, 4096, 1 << 63),
        (2 * ARENA_BYTES + 1, 0, ARENA_BYTES, 0),
    ] {
        let mut ring = RawRing::open(&address(&node), 16, ARENA_BYTES);
        ring.call(Opcode::Ping, b"").unwrap();
        // The ping had slot 0, the next one has slot 1; the wild one comes behind it.
        for (place, word) in (0..).zip([3, frame_bytes, arena_at, 0, head_bytes, rest_at]) {
            rustix::io::pwrite(&ring.memory, &u64::to_ne_bytes(word), 4096 + 2 * 128 + 8 * place).unwrap();
        }
        ring.request(Opcode::Ping, b"").unwrap();
        rustix::io::pwrite(&ring.memory, &3_u64.to_ne_bytes(), 128).unwrap();
        // It rings, so that the node looks.
        drop(ring.end.sender);
        faults += 1;
        eventually(&node, |rings| rings.fault_count == faults);
    }
    eventually(&node, |rings| rings.attached_count <= 2);
    there_and_back(&honest, "honest", 200, 2000, BatchSize::Adaptive);

    // Both stretches the same bytes, or one in the other: frames like any other, and nobody else's harm.
    let mut ring = RawRing::open(&address(&node), 16, ARENA_BYTES);
    let mut rest = ring.end.sender.keep(8192, Some(0)).unwrap();
    rest.write(0, &[5; 8192]).unwrap();
    let header = FrameHeader::request(Opcode::Ping, 7, &[5; 8192]);
    ring.end.sender.send_with(&[&header], &rest).unwrap();
    assert_eq!(ring.receive().unwrap().header.request_id(), 7);
    assert_eq!(rings(&node).fault_count, faults);
}

#[test]
fn a_frame_in_two_stretches_is_refused_from_a_client_that_did_not_agree_on_it() {
    let node = node("");
    let honest = node.driver();
    let body = [5; 8192];
    let header = FrameHeader::request(Opcode::Ping, 7, &body);
    let send_split = |ring: &mut RawRing| {
        let mut rest = ring.end.sender.keep(8192, Some(0)).unwrap();
        rest.write(0, &body).unwrap();
        ring.end.sender.send_with(&[&header], &rest).unwrap();
        let received = ring.receive().unwrap();
        assert_eq!(received.header.request_id(), 7);
        received.answer()
    };
    let mut ring = RawRing::open_with(&address(&node), 16, 64 << 10, &[FEATURE_RING]);
    ring.call(Opcode::Ping, &body).expect("whole frames are taken");
    let refused = send_split(&mut ring).unwrap_err();
    assert_eq!(refused.code, ErrorCode::UnsupportedVersion, "{refused}");
    assert!(refused.message.contains("ring_in_place"), "{refused}");
    assert!(ring.receive().is_err(), "the connection ends");
    // The ring itself was used as it should be.
    assert_eq!(rings(&node).fault_count, 0);

    let both = [FEATURE_RING, FEATURE_RING_IN_PLACE];
    let mut ring = RawRing::open_with(&address(&node), 16, 64 << 10, &both);
    send_split(&mut ring).expect("a client that agreed is served");
    there_and_back(&honest, "honest", 200, 2000, BatchSize::Adaptive);
}

/// The memory cut or grown under the node, and one frame pointed at again and again.
#[test]
fn memory_keeps_its_size_and_a_frame_that_is_pointed_at_again_is_answered_to_its_sender() {
    const SLOTS: u32 = 16;
    let node = node("");
    let honest = node.driver();
    for round in 1..=20 {
        let mut ring = RawRing::open(&address(&node), SLOTS, 64 << 10);
        ring.call(Opcode::Ping, b"").unwrap();
        let memory_bytes = rustix::fs::fstat(&ring.memory).unwrap().st_size as u64;
        for size in [0, 4096, memory_bytes - 1, memory_bytes * 2] {
            assert!(rustix::fs::ftruncate(&ring.memory, size).is_err(), "{size}");
        }
        let mut slot = [0; 128];
        rustix::io::pread(&ring.memory, &mut slot, 4096).unwrap();
        for number in 1..u64::from(SLOTS) {
            rustix::io::pwrite(&ring.memory, &slot, 4096 + 128 * number).unwrap();
        }
        rustix::io::pwrite(&ring.memory, &u64::from(SLOTS).to_ne_bytes(), 128).unwrap();
        // It rings, so that the node looks.
        drop(ring.end.sender);
        eventually(&node, |rings| {
            rings.attached_count <= 2 && rings.opened_count > round
        });
    }
    let counted = rings(&node);
    assert!(counted.received_count >= 20 * u64::from(SLOTS), "{counted:?}");
    there_and_back(&honest, "honest", 200, 2000, BatchSize::Adaptive);
}

#[test]
fn bytes_that_change_after_they_were_sent_are_refused_or_stored_as_they_were_checked() {
    let node = node("");
    let (partition, address) = partition(&node, "t");
    let (mut accepted, mut refused) = (0, 0);
    for round in 0..scale("MOFKA_ROUNDS", 30) {
        let mut ring = RawRing::open(&address, 16, 1 << 20);
        let frame = produce(1, partition, &vec![7; 200_000]);
        let bytes: usize = frame.iter().map(Vec::len).sum();
        let mut claim = ring.end.sender.claim(bytes as u64).unwrap();
        let mut at = 0;
        for part in &frame {
            claim.write(at, part).unwrap();
            at += part.len() as u64;
        }
        let header_bytes = rustix::fs::fstat(&ring.memory).unwrap().st_size as u64 - 2 * (1 << 20);
        ring.end.sender.commit(claim).unwrap();
        // The arena's first bytes are the frame's: the middle of its data changes while it is read, more or less.
        let until = Instant::now() + Duration::from_micros(round * 10);
        let mut word = 0_u64;
        while Instant::now() < until {
            word += 1;
            rustix::io::pwrite(&ring.memory, &word.to_ne_bytes(), header_bytes + 100_000).unwrap();
        }
        match ring.receive().unwrap().answer() {
            Ok(_) => accepted += 1,
            Err(error) => {
                assert_eq!(error.code, ErrorCode::BadChecksum, "{error}");
                refused += 1;
            }
        }
    }
    println!("{accepted} accepted, {refused} refused");
    // What was accepted checks, which the consumer looks at, and is what was meant.
    let topic = node.driver().open_topic("t").unwrap();
    let options = ConsumerOptions {
        data_selector: DataSelector::all(),
        ..ConsumerOptions::default()
    };
    let consumer = topic.consumer("c", options).unwrap();
    for _ in 0..accepted {
        let event = consumer.pull().wait_timeout(PATIENCE).unwrap().unwrap().unwrap();
        assert!(event.data().to_bytes().iter().all(|byte| *byte == 7));
    }
    assert!(
        consumer
            .pull()
            .wait_timeout(Duration::from_millis(100))
            .unwrap()
            .is_none()
    );
}

#[test]
fn whoever_does_not_read_waits_and_gets_everything_later() {
    const EVENTS: u64 = 300;
    let node = node(", \"limits\": {\"connection_outbox_bytes_max\": 1000000}");
    let (partition, address) = partition(&node, "t");
    let mut slow = RawRing::open(&address, 8, 256 << 10);
    let body = encode("subscribe", &terms(partition)).unwrap();
    slow.request(Opcode::Subscribe, &body).unwrap();
    let credit = CreditRequest {
        subscription: 1 << 40,
        credits: 1000,
    };
    slow.request(Opcode::Credit, &credit.encode()).unwrap();
    let mut producer = RawRing::open(&address, 64, 4 << 20);
    for number in 1..=EVENTS {
        let frame = produce(number, partition, &vec![number.to_le_bytes()[0]; 50_000]);
        let parts: Vec<&[u8]> = frame.iter().map(Vec::as_slice).collect();
        producer.send(&parts).unwrap();
        producer.receive().unwrap().answer().unwrap();
    }
    there_and_back(&node.driver(), "others", 200, 2000, BatchSize::Adaptive);
    let mut next = 0;
    while next < EVENTS {
        let received = slow.receive().unwrap();
        if received.header.request_id() != 1 << 40 {
            continue;
        }
        let feed = Feed::check(received.answer().unwrap()).unwrap();
        for item in feed.batches() {
            next += 1;
            assert!(
                item.data
                    .as_ref()
                    .unwrap()
                    .iter()
                    .all(|byte| *byte == next.to_le_bytes()[0]),
                "event {next}"
            );
        }
    }
    assert_eq!(rings(&node).fault_count, 0);
}
