//! Where the fuzzers begin: real log lines through the real builders, and what real partitions leave on the simulated
//! disk. `cargo run --example make_seeds` writes them to `seeds/`.

mod wire;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;

use bytes::Bytes;
use mofka_engine::sim::{Image, Random, Sectors, SimIo};
use mofka_log::{
    Batch, BatchBuilder, BatchPlace, CatalogRecord, CursorRecord, Durability, EventId, PartitionKind,
    PartitionRecord, ProducerId, Retention, TopicRecord,
};
use mofka_net::{
    AcknowledgeRequest, CreditRequest, DataDescriptor, FetchRequest, FlushRequest, GroupFile, Opcode, Segment,
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::model::{Content, open, send, spec};
use crate::{image, session};

/// Seeds by target and name.
pub type Seeds = BTreeMap<(&'static str, String), Vec<u8>>;

const NODE: Uuid = Uuid::from_u128(0x6e6f_6465);
const TOPIC: Uuid = Uuid::from_u128(0x7470);
const PARTITION: Uuid = Uuid::from_u128(0x7061_7274);

/// All of them, of these log lines.
pub fn all(lines: &[&str]) -> Seeds {
    let mut seeds = Seeds::new();
    images(&mut seeds, lines);
    covered(&mut seeds);
    batches(&mut seeds, lines);
    records(&mut seeds);
    descriptors(&mut seeds);
    wire::seeds(&mut seeds, lines);
    configurations(&mut seeds);
    histories(&mut seeds);
    sessions(&mut seeds);
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

/// What a sealed segment ends with whose batches cover places of a source.
fn covered(seeds: &mut Seeds) {
    let meta = include_bytes!("../../log/tests/golden/v1/sources/00000000000000000000.meta");
    let footer = (4096..meta.len())
        .step_by(4096)
        .find(|at| meta[*at..].starts_with(b"MFF1"))
        .expect("it was sealed");
    put(
        seeds,
        "footer",
        "covers",
        short_footer(&meta[..128], &meta[footer..]),
    );
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
    let mut builder = BatchBuilder::new();
    builder.push(b"{}", [&b"data"[..]]).expect("it fits");
    let place = BatchPlace {
        span: 5,
        ..(ProducerId::new(7), 0, 40).into()
    };
    let (frame, data) = builder.finish_at(Some(place));
    let bytes = (frame.len() as u32).to_le_bytes();
    let covers = [&[0], &bytes[..], &frame, &data.concat()].concat();
    put(seeds, "batch", "covers", covers);
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
        retention: Retention {
            bytes_max: Some(1 << 30),
            ..Retention::default()
        },
        producers_expected: 0,
        producers_done: Default::default(),
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
        complete: false,
        refers: false,
        sourced: false,
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
        CatalogRecord::PartitionAdded(partition(0)),
        CatalogRecord::PartitionCompleted {
            topic: TOPIC,
            index: 0,
        },
        CatalogRecord::PartitionSourced {
            topic: TOPIC,
            index: 0,
        },
        CatalogRecord::ProducerDone {
            topic: TOPIC,
            producer: "rank 0".to_owned(),
        },
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

/// What a client does, from creating a topic to reading its events.
fn sessions(seeds: &mut Seeds) {
    let [on_device, in_memory] = session::PARTITIONS;
    let subscribe = |partition: Uuid, from: Value, selection: &str| {
        json!({"subscription": 1000, "partition": partition, "consumer": "c", "member": partition, "from": from, "batch_events_max": 8,
               "batch_bytes_max": 4096, "credits": 2, "selection": selection})
        .to_string()
        .into_bytes()
    };
    let fetch = |id: u64| {
        let whole = DataDescriptor::of_event(EventId::new(id), 5);
        let items = vec![whole.sub_view(1, 3), whole];
        FetchRequest {
            partition: on_device,
            items,
        }
        .encode()
        .expect("few items")
        .to_vec()
    };
    let acknowledge = AcknowledgeRequest {
        partition: on_device,
        next_event_id: EventId::new(2),
        consumer: "c".to_owned(),
    };
    let text = |value: Value| value.to_string().into_bytes();
    let requests: Vec<(Opcode, u8, Vec<u8>)> = vec![
        (Opcode::Produce, 2, session::produce(on_device)),
        (Opcode::Produce, 2 | 32, session::produce(in_memory)),
        (
            Opcode::Flush,
            28,
            FlushRequest { partition: on_device }.encode().to_vec(),
        ),
        (Opcode::Subscribe, 0, subscribe(on_device, json!("first"), "all")),
        (
            Opcode::Subscribe,
            0,
            subscribe(in_memory, json!({"id": 1}), "none"),
        ),
        (
            Opcode::Credit,
            0,
            CreditRequest {
                subscription: 1000,
                credits: 5,
            }
            .encode()
            .to_vec(),
        ),
        (Opcode::Fetch, 0, fetch(2)),
        (
            Opcode::Acknowledge,
            28,
            acknowledge.encode().expect("a short name").to_vec(),
        ),
        (
            Opcode::Seek,
            28,
            text(json!({"partition": on_device, "consumer": "c", "to": "first"})),
        ),
        (Opcode::Unsubscribe, 0, text(json!({"subscription": 1000}))),
        (Opcode::ConsumerList, 0, text(json!({"topic": "t"}))),
        (
            Opcode::ConsumerDelete,
            0,
            text(json!({"partition": on_device, "consumer": "c"})),
        ),
        (
            Opcode::Subscribe,
            0,
            text(
                json!({"subscription": 1001, "partition": on_device, "consumer": "d", "member": in_memory,
                        "from": "first", "batch_events_max": 8, "batch_bytes_max": 4096, "credits": 2,
                        "selection": {"views": [{"sub": {"offset": 1, "bytes": 9}},
                                                {"strided": {"offset": 0, "block_count": 2, "block_bytes": 1, "gap_bytes": 1}}]},
                        "filter": {"n": [{"numeric": [">=", 0]}]}}),
            ),
        ),
        (
            Opcode::GroupSync,
            0,
            text(json!({"topic": "t", "consumer": "c", "member": on_device, "generation": 0, "wait_ms": 0})),
        ),
        (
            Opcode::GroupLeave,
            0,
            text(json!({"topic": "t", "consumer": "c", "member": on_device})),
        ),
        (
            Opcode::TopicCreate,
            0,
            text(json!({"name": "u", "num_partitions": 2, "durability": "written"})),
        ),
        (Opcode::TopicDescribe, 28, text(json!({"name": "u"}))),
        (Opcode::TopicList, 0, text(json!({}))),
        (
            Opcode::PartitionAdd,
            0,
            text(json!({"topic": "u", "type": "memory", "rank": 0})),
        ),
        (
            Opcode::PartitionDescribe,
            0,
            text(json!({"partition": on_device})),
        ),
        (
            Opcode::ProducerDone,
            0,
            text(json!({"topic": "t", "producer": "rank 0"})),
        ),
        (
            Opcode::TopicComplete,
            0,
            text(json!({"name": "t", "partition": 0})),
        ),
        (Opcode::TopicComplete, 0, text(json!({"name": "t"}))),
        (Opcode::TopicDelete, 0, text(json!({"name": "t"}))),
        (Opcode::Status, 0, text(json!({}))),
        (Opcode::Ping, 0, Vec::new()),
        (Opcode::Shutdown, 0, text(json!({}))),
    ];
    let encode = |(opcode, how, body): &(Opcode, u8, Vec<u8>)| {
        [
            &[opcode.number(), *how],
            &(body.len() as u16).to_le_bytes()[..],
            body,
        ]
        .concat()
    };
    let all: Vec<Vec<u8>> = requests.iter().map(encode).collect();
    put(seeds, "session", "everything", [&[0], &all.concat()[..]].concat());
    put(
        seeds,
        "session",
        "without-hello",
        [&[1], &all.concat()[..]].concat(),
    );
    for (n, one) in all.iter().enumerate() {
        put(
            seeds,
            "session",
            &format!("one-{n:02}"),
            [&[0], &one[..]].concat(),
        );
    }
}

/// Any bytes are a history.
fn histories(seeds: &mut Seeds) {
    let mut random = Random::new(21);
    for n in 0..12 {
        let bytes = (0..100 + 60 * n).map(|_| random.number() as u8).collect();
        put(seeds, "operations", &format!("random-{n:02}"), bytes);
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
