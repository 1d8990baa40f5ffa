//! Every body, and a stream of frames.

use bytes::Bytes;
use mofka_log::{Durability, EventId};
use mofka_net::{
    AcknowledgeRequest, AcknowledgeResponse, CreditRequest, ErrorCode, FeedHeader, FeedItem, FetchRequest,
    FetchResponse, FlushRequest, FrameHeader, Opcode, PickedBuilder, ProducePrefix, ProduceResponse,
    WireError,
};
use serde_json::{Value, json};

use super::{NODE, PARTITION, Seeds, TOPIC, batch_of, events, put, views};
use crate::wire::BODIES;

pub(super) fn seeds(seeds: &mut Seeds, lines: &[&str]) {
    let (frame, data) = batch_of(&events(lines, 0, 4), Some((7, 0, 0)));
    let prefix = ProducePrefix {
        partition: PARTITION,
        durability: Some(Durability::Synced),
    };
    let produce = [&prefix.encode()[..], &frame, &data].concat();
    let header = FeedHeader {
        first_event_id: EventId::new(0),
        end_event_id: EventId::new(4),
        visible_end: EventId::new(9),
        missed_count: 0,
        item_count: 1,
        is_picked: false,
        end_of_stream: false,
    };
    let mut picked = PickedBuilder::new(EventId::new(0), 1_700_000_000_000_000);
    picked.push(1, b"{\"a\":1}", 5, None);
    picked.push(
        3,
        b"{}",
        100,
        Some((Bytes::from_static(b"part"), crc32fast::hash(b"part"))),
    );
    let picked_header = FeedHeader {
        is_picked: true,
        ..header
    };
    let picked = [picked_header.encode().to_vec(), picked.finish().concat()].concat();
    let item = FeedItem {
        frame_bytes: frame.len() as u64,
        data_bytes: data.len() as u64,
    };
    let padding = vec![0; data.len().next_multiple_of(8) - data.len()];
    let feed = [&header.encode()[..], &item.encode(), &frame, &data, &padding].concat();
    let fetch = FetchRequest {
        partition: PARTITION,
        items: views(),
    };
    let mut answer = FetchResponse::new();
    answer.push(data.clone(), crc32fast::hash(&data));
    answer.push_error(ErrorCode::UnknownEvent);
    let acknowledge = AcknowledgeRequest {
        partition: PARTITION,
        next_event_id: EventId::new(4),
        consumer: "reader".to_owned(),
    };
    let produced = ProduceResponse {
        base_event_id: EventId::new(4),
        event_count: 4,
        duplicate: true,
    };
    let binary: [(&str, Vec<u8>); 9] = [
        ("produce request", produce.clone()),
        ("produce answer", produced.encode().to_vec()),
        (
            "flush request",
            FlushRequest { partition: PARTITION }.encode().to_vec(),
        ),
        (
            "credit request",
            CreditRequest {
                subscription: 5,
                credits: 6,
            }
            .encode()
            .to_vec(),
        ),
        ("feed", feed.clone()),
        ("fetch request", fetch.encode().expect("few items").to_vec()),
        ("fetch answer", answer.encode().concat()),
        (
            "acknowledge request",
            acknowledge.encode().expect("a short name").to_vec(),
        ),
        (
            "acknowledge answer",
            AcknowledgeResponse {
                next_event_id: EventId::new(4),
            }
            .encode()
            .to_vec(),
        ),
    ];
    let error = WireError::not_owner("it is elsewhere", &["tcp://10.0.0.1:7420".to_owned()]);
    let texts = json_bodies()
        .into_iter()
        .map(|(name, value)| (name, value.to_string().into_bytes()));
    let bodies = binary
        .into_iter()
        .chain(texts)
        .chain([("error", error.to_json()), ("feed", picked)]);
    for (n, (name, body)) in bodies.enumerate() {
        let place = BODIES
            .iter()
            .position(|(known, _)| *known == name)
            .expect("a body of the list");
        let name = format!("{n:02}-{}", name.replace(' ', "-"));
        put(seeds, "wire", &name, [&[0, place as u8], &body[..]].concat());
    }
    streams(seeds, &produce, &feed);
}

fn streams(seeds: &mut Seeds, produce: &[u8], feed: &[u8]) {
    let hello = json!({"version_min": 1, "version_max": 3, "client": "seed"})
        .to_string()
        .into_bytes();
    let fetch = FetchResponse::new().encode().concat();
    let request = FrameHeader::check(&FrameHeader::request(Opcode::Fetch, 4, b""), 99).expect("just written");
    let stream = [
        &FrameHeader::request(Opcode::Hello, 1, &hello)[..],
        &hello,
        &FrameHeader::self_checked(Opcode::Produce, 2, produce.len() as u64),
        produce,
        &FrameHeader::request(Opcode::Status, 3, b"{}"),
        b"{}",
        &FrameHeader::self_checked(Opcode::Feed, 9, feed.len() as u64),
        feed,
        &FrameHeader::self_checked_response(&request, fetch.len() as u64),
        &fetch,
    ];
    put(
        seeds,
        "wire",
        "stream",
        [&[0, 0xff], &stream.concat()[..]].concat(),
    );
}

fn json_bodies() -> Vec<(&'static str, Value)> {
    let info = json!({"id": PARTITION, "index": 0, "type": "default", "rank": 0, "shard": 1,
                      "addresses": ["unix:///run/m.sock", "tcp://h:1"]});
    let status = json!({"info": info, "topic": "bgl", "state": "read_only", "reason": "damaged", "events": 9,
                        "trim_end": 0, "synced_end": 9, "visible_end": 9, "appended_end": 9, "bytes": 4096,
                        "verdict": "clean", "segments": 1});
    let limits = json!({"frame_bytes_max": 1, "batch_events_max": 2, "fetch_bytes_max": 3, "subscriptions_max": 4, "sequence_window": 5});
    let summary = json!({"id": TOPIC, "name": "bgl", "durability": "written", "validator": {"a": 1.25},
                         "partition_selector": {}, "serializer": {}, "complete": false, "num_partitions": 1});
    let mut topic = summary.clone();
    topic["created_us"] = json!(1);
    topic["partitions"] = json!([info]);
    vec![
        (
            "hello request",
            json!({"version_min": 1, "version_max": 2, "client": "c", "features": ["x"], "token": "t"}),
        ),
        (
            "hello answer",
            json!({"version": 1, "node": NODE, "rank": 0, "shard": 0, "shards": 2,
                                "endpoints": [["tcp://a:1"], ["tcp://a:2"]], "limits": limits, "heartbeat_ms": 1000}),
        ),
        (
            "topic_create request",
            json!({"name": "bgl", "durability": "synced", "validator": {"type": "default"},
                                        "num_partitions": 2, "partition": {"type": "memory", "config": {}}}),
        ),
        ("topic request", json!({"name": "bgl"})),
        ("topic", topic),
        ("topic_list answer", json!({"topics": [summary]})),
        (
            "partition_add request",
            json!({"topic": "bgl", "type": "default", "rank": 0, "shard": 1, "config": {}}),
        ),
        ("partition_describe request", json!({"partition": PARTITION})),
        ("partition", info.clone()),
        ("partition status", status.clone()),
        (
            "subscribe request",
            json!({"subscription": 5, "partition": PARTITION, "consumer": "c", "member": NODE, "from": {"id": 4},
                                     "batch_events_max": 1, "batch_bytes_max": 2, "credits": 3, "selection": "all"}),
        ),
        ("subscribe answer", json!({"next_event_id": 1, "visible_end": 2})),
        ("unsubscribe request", json!({"subscription": 5})),
        (
            "seek request",
            json!({"partition": PARTITION, "consumer": "c", "to": "last"}),
        ),
        ("seek answer", json!({"next_event_id": 1})),
        ("consumer_list request", json!({"topic": "bgl"})),
        (
            "consumer_delete request",
            json!({"partition": PARTITION, "consumer": "c"}),
        ),
        (
            "consumer_list answer",
            json!([{"consumer": "c", "partition": PARTITION, "index": 0, "next_event_id": 1,
                                         "lag": 2, "connected": 1}]),
        ),
        (
            "group_sync request",
            json!({"topic": "bgl", "consumer": "c", "member": NODE, "targets": [1], "generation": 3,
                   "holding": [{"partition": 1, "next_event_id": 7}], "released": [{"partition": 0}], "wait_ms": 10}),
        ),
        (
            "group_sync answer",
            json!({"generation": 4, "partitions": [{"info": info, "next_event_id": 9}], "partition_count": 2,
                   "complete": false}),
        ),
        (
            "group_leave request",
            json!({"topic": "bgl", "consumer": "c", "member": NODE}),
        ),
        ("topic_complete request", json!({"name": "bgl", "partition": 1})),
        (
            "producer_done request",
            json!({"topic": "bgl", "producer": "rank 0"}),
        ),
        ("producer_done answer", json!({"done": 1, "expected": 2})),
        ("empty request", json!({})),
        (
            "node status",
            json!({"node": NODE, "version": "0.1.0", "uptime_ms": 1, "rank": 0, "pid": 1, "data_dir": "/d",
                               "direct_io": true, "topics": 1,
                               "shards": [{"shard": 0, "addresses": [], "connections": 0, "partitions": [status]}]}),
        ),
    ]
}
