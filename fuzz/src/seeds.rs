//! Where the fuzzers begin: real log lines through the real builders, and what real partitions leave on the simulated
//! disk. `cargo run --example make_seeds` writes them to `seeds/`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;

use bytes::Bytes;
use mofka_engine::sim::{Image, Random, Sectors, SimIo};
use mofka_log::{
    Batch, BatchBuilder, CatalogRecord, CursorRecord, Durability, EventId, PartitionKind, PartitionRecord,
    ProducerId, TopicRecord,
};
use mofka_net::{
    AcknowledgeRequest, AcknowledgeResponse, CreditRequest, DataDescriptor, ErrorCode, FeedHeader, FeedItem,
    FetchRequest, FetchResponse, FlushRequest, FrameHeader, GroupFile, Opcode, ProducePrefix,
    ProduceResponse, Segment, WireError,
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::model::{Content, open, send, spec};
use crate::wire::BODIES;
use crate::{image, operations};

/// Seeds by target and name.
pub type Seeds = BTreeMap<(&'static str, String), Vec<u8>>;

const NODE: Uuid = Uuid::from_u128(0x6e6f_6465);
const TOPIC: Uuid = Uuid::from_u128(0x7470);
const PARTITION: Uuid = Uuid::from_u128(0x7061_7274);

/// All of them, of these log lines.
pub fn all(lines: &[&str]) -> Seeds {
    let mut seeds = Seeds::new();
    images(&mut seeds, lines);
    batches(&mut seeds, lines);
    records(&mut seeds);
    descriptors(&mut seeds);
    wire(&mut seeds, lines);
    configurations(&mut seeds);
    histories(&mut seeds);
    seeds
}

fn event(line: &str, n: usize) -> Content {
    let mut words = line.split_whitespace();
    let metadata = json!({"n": n, "label": words.next(), "time": words.next(), "node": words.nth(1)});
    let data = if n % 4 == 3 { "" } else { line };
    (metadata.to_string().into_bytes(), data.as_bytes().to_vec())
}

fn events(lines: &[&str], from: usize, count: usize) -> Vec<Content> {
    (from..from + count)
        .map(|n| event(lines[n % lines.len()], n))
        .collect()
}

/// Partitions that were stopped in order, crashed, and had grown over several segments.
fn images(seeds: &mut Seeds, lines: &[&str]) {
    for (name, batches, crash) in [
        ("empty", 0, None),
        ("stopped", 3, None),
        ("torn", 6, Some(50)),
        ("lost", 5, Some(0)),
        ("rolled", 70, None),
        ("rolled-torn", 75, Some(70)),
    ] {
        let image = grown(lines, batches, crash);
        put(seeds, "image", name, image::input_of(&image));
        let metas = image
            .iter()
            .filter(|(path, _)| path.extension().is_some_and(|end| end == "meta"));
        for (n, (path, meta)) in metas.enumerate().take(2) {
            let data = &image[&path.with_extension("data")];
            let footer = (4096..meta.len())
                .step_by(4096)
                .find(|at| meta[*at..].starts_with(b"MFF1"));
            if let Some(at) = footer {
                put(
                    seeds,
                    "footer",
                    &format!("{name}-{n}"),
                    short_footer(&meta[..128], &meta[at..]),
                );
            }
            if meta.len() < 20_000 {
                put(seeds, "recover", &format!("{name}-{n}"), segment(meta, data));
            }
        }
        if let Some(cursors) = image.get(&PathBuf::from("/p/cursors")) {
            put(
                seeds,
                "recover",
                &format!("{name}-cursors"),
                segment(cursors, &[]),
            );
        }
    }
}

fn grown(lines: &[&str], batches: usize, crash: Option<u64>) -> Image {
    let io = SimIo::stepping(&Image::new(), 5);
    let partition =
        open(&io, spec(PartitionKind::Default, Durability::Synced)).expect("an empty directory opens");
    for n in 0..batches {
        let producer = 1 + n as u64 % 3;
        send(
            &partition,
            events(lines, n * 5, 1 + n % 5),
            (producer, 0, n as u64 / 3),
        );
        if n % 3 == 2 {
            partition.acknowledge("reader", partition.visible_end(), Box::new(|_| ()));
        }
        // Some gather, some are written alone; a crash finds the last ones under way.
        for _ in 0..(n % 4) * 4 {
            io.step();
        }
    }
    let image = match crash {
        Some(keep_percent) => io.crash(&mut Random::new(3), keep_percent, Sectors::Small),
        None => {
            let stopping = Rc::clone(&partition);
            io.block_on(async move { stopping.stop().await });
            io.settled()
        }
    };
    io.shut_down();
    image
}

/// As the target `recover` takes it.
fn segment(meta: &[u8], data: &[u8]) -> Vec<u8> {
    let short = [&meta[..128], &meta[4096..]].concat();
    let mut input = vec![0, 4];
    input.extend_from_slice(&(short.len() as u32).to_le_bytes());
    input.extend_from_slice(&short);
    input.extend_from_slice(data.get(4096..).unwrap_or_default());
    input
}

/// As the target `footer` takes it: the zeros before the tail are left out.
fn short_footer(header: &[u8], footer: &[u8]) -> Vec<u8> {
    let (content, tail) = footer.split_at(footer.len() - 64);
    let end = content
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last + 1);
    [&[0], header, &content[..end], tail].concat()
}

fn batch_of(events: &[Content], producer: Option<(u64, u32, u64)>) -> (Bytes, Bytes) {
    let mut builder = BatchBuilder::new();
    for (metadata, data) in events {
        builder
            .push(metadata, [data.as_slice()])
            .expect("log lines fit a batch");
    }
    builder.finish(producer.map(|(id, epoch, sequence)| (ProducerId::new(id), epoch, sequence)))
}

fn batches(seeds: &mut Seeds, lines: &[&str]) {
    let large = vec![(
        b"{\"large\":true}".to_vec(),
        lines.join("\n").into_bytes()[..66_000].to_vec(),
    )];
    for (name, content) in [
        ("one", events(lines, 0, 1)),
        ("without-data", vec![(b"{}".to_vec(), Vec::new()); 3]),
        ("many", events(lines, 10, 20)),
        ("pieces", large),
    ] {
        let (frame, data) = batch_of(&content, Some((7, 1, 4)));
        let bytes = (frame.len() as u32).to_le_bytes();
        put(seeds, "batch", name, [&[0], &bytes[..], &frame, &data].concat());
    }
}

fn topic(name: &str, id: Uuid) -> TopicRecord {
    TopicRecord {
        id,
        name: name.to_owned(),
        durability: Durability::Synced,
        validator: json!({"type": "schema", "schema": {"type": "object", "required": ["n"], "maximum": 1.5}}),
        partition_selector: json!({"type": "default"}),
        serializer: json!({"type": "default"}),
        created_us: 1_700_000_000_000_000,
        complete: false,
    }
}

fn partition(index: u32) -> PartitionRecord {
    PartitionRecord {
        id: Uuid::from_u128(PARTITION.as_u128() + u128::from(index)),
        topic: TOPIC,
        index,
        kind: if index == 0 {
            PartitionKind::Default
        } else {
            PartitionKind::Memory
        },
        rank: 0,
        shard: index,
        created_us: 1,
        config: json!({}),
    }
}

fn records(seeds: &mut Seeds) {
    let records = [
        CatalogRecord::NodeStarted {
            node: NODE,
            started_us: 5,
        },
        CatalogRecord::TopicCreated(topic("bgl", TOPIC)),
        CatalogRecord::PartitionAdded(partition(0)),
        CatalogRecord::PartitionAdded(partition(1)),
        CatalogRecord::TopicCompleted { topic: TOPIC },
        CatalogRecord::TopicCreated(topic("another.topic_-9", NODE)),
        CatalogRecord::TopicDeleted { topic: TOPIC },
        CatalogRecord::TopicCreated(topic("bgl", TOPIC)),
    ];
    let lines: Vec<Vec<u8>> = records.iter().map(CatalogRecord::encode).collect();
    put(seeds, "catalog", "life", lines.join(&b'\n'));
    for (n, line) in lines.iter().take(5).enumerate() {
        put(seeds, "catalog", &format!("record-{n}"), line.clone());
    }
    let cursor = |name: &str, next: u64, removed: bool| {
        let record = CursorRecord {
            name: name.to_owned(),
            next_event_id: EventId::new(next),
            timestamp_us: 7,
            removed,
        }
        .encode();
        [&(record.len() as u16).to_le_bytes()[..], &record].concat()
    };
    let long = "n".repeat(256);
    let life = [
        cursor("reader", 5, false),
        cursor("\0synced_end", 9, false),
        cursor(&long, 1 << 40, false),
        cursor("reader", 3, true),
        cursor("zähler", 0, false),
        cursor("reader", 8, false),
    ];
    put(seeds, "cursors", "life", life.concat());
    put(seeds, "cursors", "one", cursor("reader", 5, false));
}

fn views() -> Vec<DataDescriptor> {
    let whole = DataDescriptor::of_event(EventId::new(3), 200_000);
    let segment = |offset, bytes| Segment { offset, bytes };
    let strided = whole.strided_view(10, 20, 30, 40).expect("it fits");
    let listed = whole
        .unstructured_view(&[segment(1, 5), segment(100, 7), segment(70_000, 10)])
        .expect("they fit");
    vec![
        DataDescriptor::default(),
        whole.sub_view(100, 50),
        strided.sub_view(25, 40),
        listed.strided_view(1, 3, 2, 3).expect("it fits"),
        DataDescriptor::new(b"elsewhere", 9).expect("a short location"),
        whole,
        strided,
        listed,
    ]
}

fn descriptors(seeds: &mut Seeds) {
    for (n, view) in views().iter().enumerate() {
        put(
            seeds,
            "descriptor",
            &format!("view-{n}"),
            [&[1], &view.serialize()[..]].concat(),
        );
    }
    let mut random = Random::new(8);
    for n in 0..6 {
        let steps: Vec<u8> = (0..200).map(|_| random.number() as u8).collect();
        put(
            seeds,
            "descriptor",
            &format!("steps-{n}"),
            [&[2 + 20 * n as u8], &steps[..]].concat(),
        );
    }
}

fn wire(seeds: &mut Seeds, lines: &[&str]) {
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
        end_of_stream: false,
    };
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
        .chain([("error", error.to_json())]);
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
    let limits =
        json!({"frame_bytes_max": 1, "batch_events_max": 2, "fetch_bytes_max": 3, "subscriptions_max": 4});
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
        ("partition", info),
        ("partition status", status.clone()),
        (
            "subscribe request",
            json!({"subscription": 5, "partition": PARTITION, "consumer": "c", "from": {"id": 4},
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
            "consumer_list answer",
            json!([{"consumer": "c", "partition": PARTITION, "index": 0, "next_event_id": 1,
                                         "lag": 2, "connected": 1}]),
        ),
        ("empty request", json!({})),
        (
            "node status",
            json!({"node": NODE, "version": "0.1.0", "uptime_ms": 1, "rank": 0, "pid": 1, "data_dir": "/d",
                               "direct_io": true, "topics": 1,
                               "shards": [{"shard": 0, "addresses": [], "connections": 0, "partitions": [status]}]}),
        ),
    ]
}

fn configurations(seeds: &mut Seeds) {
    let flock = json!({"name": "group", "type": "flock", "provider_id": 1, "config": {"bootstrap": "self", "file": "g.json"}});
    let master = json!({"name": "master", "provider_id": 2, "type": "yokan", "tags": ["mofka:master"],
                        "config": {"database": {"type": "rocksdb", "config": {"path": "/nvme/mofka"}}}});
    let shapes = [
        (
            "own",
            json!({"data_dir": "/d", "group_file": "g.json", "listen": ["tcp://0.0.0.0:0", "na+sm"], "shards": 2,
                       "pin": false, "direct_io": "auto", "rank": 0, "limits": {"segment_meta_bytes": 4096}}),
        ),
        (
            "persistent",
            json!({"libraries": ["libmofka.so"], "providers": [flock, master]}),
        ),
        (
            "advanced",
            json!({
                "margo": {"rpc_thread_count": 1, "argobots": {"xstreams": [{}, {}]}},
                "providers": [
                    {"name": "group", "type": "flock", "config.bootstrap": "mpi", "config.file": "g.json"},
                    {"name": "master", "type": "yokan", "tags": ["mofka:master"], "__if__": "$MPI_COMM_WORLD.rank == 0",
                     "config.database.config.path": "/d"},
                    {"name": "other", "type": "yokan", "tags": ["mofka:master"], "__if__": "$MPI.size >= 2"},
                    {"name": "io", "type": "abt_io", "config": {"num_urings": 1}}
                ]
            }),
        ),
        (
            "group-of-the-original",
            json!({"members": [{"address": "ofi+tcp://h:1", "provider_id": 1}],
                                         "metadata": {"__config__": {}}}),
        ),
    ];
    for (name, value) in shapes {
        put(seeds, "config", name, value.to_string().into_bytes());
    }
    let shards = vec![vec!["unix:///tmp/1".to_owned(), "tcp://[::1]:1".to_owned()]; 2];
    let group = GroupFile::of_node(shards, NODE).expect("they are addresses");
    put(seeds, "config", "group", group.to_json().into_bytes());
    put(
        seeds,
        "config",
        "addresses",
        b"tcp://a.b:1\nofi+tcp://10.0.0.1:7420\ntcp://[::1]:0\nunix:///a\nna+sm:///b\nna+sm\n".to_vec(),
    );
}

/// Any bytes are a history.
fn histories(seeds: &mut Seeds) {
    let mut random = Random::new(21);
    let mut made = 0;
    while made < 12 {
        let bytes: Vec<u8> = (0..1500).map(|_| random.number() as u8).collect();
        let mut source = arbitrary::Unstructured::new(&bytes);
        let history = <operations::History as arbitrary::Arbitrary>::arbitrary(&mut source);
        if history.is_ok_and(|history| history.operations.len() > 20) {
            put(seeds, "operations", &format!("random-{made:02}"), bytes);
            made += 1;
        }
    }
}

fn put(seeds: &mut Seeds, target: &'static str, name: &str, bytes: Vec<u8>) {
    seeds.insert((target, name.to_owned()), bytes);
}

/// The batches that the seeds hold check: a seed that is refused at its first byte leads nowhere.
pub fn batch_checks(seed: &[u8]) -> bool {
    let bytes = u32::from_le_bytes([seed[1], seed[2], seed[3], seed[4]]) as usize;
    let (frame, data) = seed[5..].split_at(bytes);
    Batch::check_client(Bytes::copy_from_slice(frame), Bytes::copy_from_slice(data)).is_ok()
}
