//! How the golden files of format version 1 were made (`log/tests/golden/v1`). Version 1 is never written again by this:
//! the files stay as they are, and a test of `mofka-log` decodes them for ever. This is kept to show where they come from
//! and to make those of a version 2 one day:
//!
//! ```text
//! MOFKA_GOLDEN_DIR=/tmp/golden cargo test -p mofka-engine --test it golden -- --ignored
//! ```
//!
//! Real partitions on the simulated machine wrote them; the catalog's frames were planned by the real appender. The
//! manifest says of events, answers and cursors what was *sent*, and of headers and footers what the files said then.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use mofka_engine::partition::Partition;
use mofka_engine::sim::{Image, Random, Sectors, SimIo};
use mofka_log::{
    Batch, BatchBuilder, BatchPlace, CatalogRecord, Durability, EventId, Footer, FooterTail, PartitionKind,
    ProducerId, Reference, SegmentHeader, SegmentKind,
};
use mofka_net::{DataDescriptor, DataReference, Segment};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::model::{Content, Sent, batch, id, open, partition_id, read_all, record_appender, send, spec};

const LOG: &str = "tests/data/loghub/BGL_2k.log";
/// More of it than a segment takes of data.
const LARGE: std::ops::Range<usize> = 0..70_000;
const NODE: Uuid = Uuid::from_u128(0x006e_6f64_6531);

/// An event: its metadata, and which bytes of the log file are its data.
#[derive(Clone)]
struct Planned {
    metadata: Value,
    data: std::ops::Range<usize>,
}

struct Source {
    log: Vec<u8>,
    /// Where each line begins and ends.
    lines: Vec<std::ops::Range<usize>>,
}

impl Source {
    fn open() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(LOG);
        let log = std::fs::read(path).unwrap();
        let mut at = 0;
        let lines = log.split_inclusive(|byte| *byte == b'\n').map(|line| {
            at += line.len();
            at - line.len()..at
        });
        let lines = lines.collect();
        Self { log, lines }
    }

    /// A line of the log as an event; every fifth has no data.
    fn line(&self, n: usize) -> Planned {
        let line = self.lines[n].clone();
        let text = String::from_utf8_lossy(&self.log[line.clone()]).into_owned();
        let node = text.split_whitespace().nth(3).unwrap_or_default();
        Planned {
            metadata: json!({"line": n, "node": node}),
            data: if n % 5 == 4 { 0..0 } else { line },
        }
    }

    fn content(&self, events: &[Planned]) -> Vec<Content> {
        let content = |event: &Planned| {
            let metadata = event.metadata.to_string().into_bytes();
            (metadata, self.log[event.data.clone()].to_vec())
        };
        events.iter().map(content).collect()
    }
}

/// A batch, who sent it (producer, epoch, sequence), and its answer.
type Answered = (Vec<Planned>, (u64, u32, u64), Sent);

/// A partition that is being written, and what was sent to it.
struct Writing<'a> {
    source: &'a Source,
    io: SimIo,
    partition: Rc<Partition<SimIo>>,
    sent: Vec<Answered>,
}

impl<'a> Writing<'a> {
    fn begin(source: &'a Source, seed: u64) -> Self {
        let io = SimIo::stepping(&Image::new(), seed);
        let partition = open(&io, spec(PartitionKind::Default, Durability::Synced)).unwrap();
        Self {
            source,
            io,
            partition,
            sent: Vec::new(),
        }
    }

    fn send(&mut self, events: Vec<Planned>, producer: (u64, u32, u64)) {
        let sent = send(&self.partition, self.source.content(&events), producer);
        self.sent.push((events, producer, sent));
    }

    fn settle(&self) {
        self.io.run_tasks();
        while self.io.is_busy() {
            self.io.step();
        }
    }

    /// What was sent and is kept: those before `end`.
    fn batches(&self, end: u64) -> Value {
        let mut base = 0;
        let mut batches = Vec::new();
        for (events, (producer, epoch, sequence), _) in &self.sent {
            if base >= end {
                break;
            }
            let listed: Vec<Value> = events
                .iter()
                .map(|event| json!({"metadata": event.metadata.to_string(), "data": [event.data.start, event.data.end]}))
                .collect();
            batches.push(json!({"base": base, "producer": producer, "epoch": epoch, "sequence": sequence, "events": listed}));
            base += events.len() as u64;
        }
        assert_eq!(base, end, "a batch is kept as a whole");
        Value::Array(batches)
    }
}

/// A sealed segment, a segment after it that ends with a clean stop, and cursors.
fn stopped(source: &Source) -> (Image, Value) {
    let mut writing = Writing::begin(source, 1);
    let mut sequence = [0_u64; 2];
    for n in 0..6 {
        let producer = n % 2;
        let lines = (n * 4..n * 4 + 1 + n % 4).map(|line| source.line(line)).collect();
        writing.send(lines, (7 + producer as u64, 0, sequence[producer]));
        sequence[producer] += 1;
        if n % 3 != 1 {
            writing.settle();
        }
    }
    // More than a piece, so that the segment is full and the event has two checksums.
    let large = Planned {
        metadata: json!({"large": true}),
        data: 1000..71_000,
    };
    writing.send(vec![source.line(40), large], (7, 0, sequence[0]));
    writing.settle();
    for n in 0..4 {
        let lines = (50 + n * 3..50 + n * 3 + 1 + n % 3)
            .map(|line| source.line(line))
            .collect();
        writing.send(lines, (8, 1, n as u64));
        writing.settle();
    }
    for (consumer, next) in [("reader", 3), ("zähler", 9), ("reader", 11)] {
        writing
            .partition
            .acknowledge(consumer, id(next), Box::new(|_| ()));
        writing.settle();
    }
    let seek = writing.partition.visible_end().get() - 2;
    writing.partition.seek("zähler", id(seek), Box::new(|_| ()));
    let stopping = Rc::clone(&writing.partition);
    writing.io.block_on(async move { stopping.stop().await });
    let end = writing.partition.visible_end().get();
    let image = writing.io.settled();
    let manifest = json!({
        "verdict": "B",
        "end": end,
        "batches": writing.batches(end),
        "cursors": {"reader": 11, "zähler": seek, "\u{0}synced_end": end},
        "next_sequences": [[7, 0, sequence[0] + 1], [8, 1, 4]],
        "files": facts(&image),
    });
    (image, manifest)
}

/// What a power cut left: `letter` is the case in docs/FORMAT.md.
fn torn(source: &Source, letter: char) -> (Image, Value) {
    for seed in 0..5000 {
        let mut writing = Writing::begin(source, seed);
        for n in 0..5_usize {
            let lines = (100 + n * 3..101 + n * 4).map(|line| source.line(line)).collect();
            writing.send(lines, (7, 0, n as u64));
            if n == 1 {
                writing.settle();
            }
            writing.io.step();
        }
        let mut random = Random::new(seed);
        let image = writing.io.crash(&mut random, 60, Sectors::Small);
        let machine = SimIo::immediate(&image);
        let Ok(partition) = open(&machine, spec(PartitionKind::Default, Durability::Synced)) else {
            continue;
        };
        if partition.verdict().letter() != letter {
            continue;
        }
        let found = machine.block_on(read_all(partition)).unwrap();
        let acknowledged = writing
            .sent
            .iter()
            .filter(|(_, _, sent)| sent.acknowledged().is_some());
        assert!(acknowledged.count() > 0, "something was promised");
        let end = found.len() as u64;
        let manifest = json!({
            "verdict": letter.to_string(),
            "end": end,
            "batches": writing.batches(end),
            "cursors": {},
            "next_sequences": [],
            "files": facts(&image),
        });
        return (image, manifest);
    }
    panic!("no seed gives case {letter}");
}

/// What the headers and footers of these files say.
fn facts(image: &Image) -> Value {
    let mut files = serde_json::Map::new();
    for (path, content) in image {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let header = SegmentHeader::check(&content[..4096]).unwrap();
        let mut facts = json!({
            "bytes": content.len(),
            "kind": format!("{:?}", header.kind()),
            "base": header.base_event_id().get(),
            "salt": header.salt().to_string(),
            "created_us": header.created_us(),
            "incarnation": header.incarnation(),
        });
        if let Some(tail) = FooterTail::check(content, content.len() as u64) {
            let footer = Footer::check(&content[tail.footer_at().get() as usize..], header.salt()).unwrap();
            facts["footer"] = json!({
                "at": tail.footer_at().get(),
                "base": footer.base_event_id().get(),
                "end": footer.end_event_id().get(),
                "meta_end": footer.meta_end().get(),
                "data_end": footer.data_end().get(),
                "timestamps_us": footer.timestamps_us(),
                "index_entries": footer.index().len(),
                "producers": footer.producers().len(),
            });
        }
        files.insert(name, facts);
    }
    Value::Object(files)
}

/// A catalog: one record a batch, and two in one.
fn catalog() -> (Image, Value) {
    let mut topic = spec(PartitionKind::Default, Durability::Written).topic;
    topic.name = "logs.bgl_1-a".to_owned();
    topic.validator = json!({"type": "schema", "schema": {"required": ["line"]}});
    let partition = spec(PartitionKind::Memory, Durability::Written).record;
    let mut gone = topic.clone();
    (gone.id, gone.name) = (Uuid::from_u128(9), "gone".to_owned());
    let batches = [
        vec![CatalogRecord::NodeStarted {
            node: NODE,
            started_us: 1_700_000_000_000_000,
        }],
        vec![
            CatalogRecord::TopicCreated(topic.clone()),
            CatalogRecord::PartitionAdded(partition),
        ],
        vec![CatalogRecord::TopicCreated(gone.clone())],
        vec![CatalogRecord::TopicDeleted { topic: gone.id }],
        vec![CatalogRecord::TopicCompleted { topic: topic.id }],
    ];
    let salt = 0x5eed_ca7a_1096_0001;
    let header = SegmentHeader::new(
        SegmentKind::Catalog,
        NODE,
        EventId::new(0),
        salt,
        1_700_000_000_000_000,
        1,
    );
    let mut file = header.to_block().to_vec();
    let mut appender = record_appender(EventId::new(0), salt);
    for (n, records) in batches.iter().enumerate() {
        let events: Vec<Content> = records
            .iter()
            .map(|record| (record.encode(), Vec::new()))
            .collect();
        let batch: Batch = batch(&events, None);
        appender.accept(batch, 1_700_000_000_000_100 + n as u64);
        let commit = appender.plan().unwrap();
        let plan = commit.meta.unwrap();
        let at = plan.at().get() as usize;
        file.resize(file.len().max(at + plan.total_bytes() as usize), 0);
        plan.fill(&mut file[at..at + plan.total_bytes() as usize]);
        appender.written(commit.id);
        appender.synced(commit.id);
    }
    let records: Vec<Value> = batches
        .iter()
        .flatten()
        .map(|record| serde_json::to_value(record).unwrap())
        .collect();
    let image = Image::from([(PathBuf::from("/catalog"), file.into())]);
    let manifest = json!({
        "node": NODE,
        "records": records,
        "topics": ["logs.bgl_1-a"],
        "files": facts(&image),
    });
    (image, manifest)
}

#[test]
#[ignore = "made the golden files once; see the module"]
fn golden() {
    let directory = golden_directory();
    let source = Source::open();
    let mut manifest = json!({"format": 1, "log": LOG, "partition": partition_id(), "partitions": {}});
    let mut made = vec![("stopped".to_owned(), stopped(&source))];
    for letter in ['C', 'D', 'E'] {
        made.push((
            format!("torn-{}", letter.to_ascii_lowercase()),
            torn(&source, letter),
        ));
    }
    for (name, (image, facts)) in made {
        manifest["partitions"][name.as_str()] = facts;
        write(&directory.join(name), &image);
    }
    let (image, facts) = catalog();
    manifest["catalog"] = facts;
    write(&directory, &image);
    write_manifest(&directory, &manifest);
}

/// Where golden files are made.
fn golden_directory() -> PathBuf {
    PathBuf::from(std::env::var("MOFKA_GOLDEN_DIR").expect("MOFKA_GOLDEN_DIR names a directory"))
}

fn write_manifest(directory: &Path, manifest: &Value) {
    let text = serde_json::to_string_pretty(manifest).unwrap();
    std::fs::write(directory.join("manifest.json"), text + "\n").unwrap();
}

fn write(directory: &Path, image: &Image) {
    std::fs::create_dir_all(directory).unwrap();
    for (path, content) in image {
        std::fs::write(directory.join(path.file_name().unwrap()), &content[..]).unwrap();
    }
}

/// Batches that cover places of a source: in a sealed segment, whose footer knows them, and in one that a power cut ended.
#[test]
#[ignore = "made the golden files once; see the module"]
fn golden_sources() {
    let directory = golden_directory();
    let source = Source::open();
    let writing = Writing::begin(&source, 4);
    let mut listed = Vec::new();
    let mut base = 0;
    // From place 1000 on; the fourth is a span that a footer does not hold, the fifth is more than a segment's rest.
    let spans = [1_u64, 3, 50, 5_000_000_000, 7, 2, 9];
    let mut sequence = 1000;
    for (n, span) in spans.into_iter().enumerate() {
        let lines = match n {
            4 => std::slice::from_ref(&LARGE),
            _ => &source.lines[n * 2..n * 2 + 2],
        };
        let mut builder = BatchBuilder::new();
        let mut events = Vec::new();
        for (event, line) in lines.iter().enumerate() {
            let metadata = json!({"batch": n, "event": event}).to_string();
            builder
                .push(metadata.as_bytes(), [&source.log[line.clone()]])
                .unwrap();
            events.push(json!({"metadata": metadata, "data": [line.start, line.end]}));
        }
        let place = BatchPlace {
            producer: ProducerId::new(0x8007),
            epoch: 0,
            sequence,
            span,
        };
        let (frame, data) = builder.finish_at(Some(place));
        let batch = Batch::check_client(frame, data.concat().into()).unwrap();
        let event_count = batch.event_count();
        writing.partition.append(batch, None, Box::new(|_| ()));
        writing.partition.kick();
        writing.settle();
        listed.push(json!({
            "base": base, "producer": 0x8007, "epoch": 0, "sequence": sequence, "span": span, "events": events,
        }));
        sequence += span;
        base += u64::from(event_count);
    }
    let image = writing.io.settled();
    let manifest = json!({"batches": listed, "next_sequence": sequence, "files": facts(&image)});
    write(&directory, &image);
    write_manifest(&directory, &manifest);
}

/// Events that refer to data of another partition's events: all of it, blocks of it, and ranges of it.
#[test]
#[ignore = "made the golden files once; see the module"]
fn golden_references() {
    let directory = golden_directory();
    let source = Source::open();
    let writing = Writing::begin(&source, 3);
    let whole = DataDescriptor::of_event(id(7), 4096);
    let strided = whole.strided_view(100, 3, 16, 48).unwrap();
    let ranges = [(10, 5), (1000, 20)].map(|(offset, bytes)| Segment { offset, bytes });
    let parts = whole.unstructured_view(&ranges).unwrap();
    let mut builder = BatchBuilder::new();
    let mut events = Vec::new();
    for (n, descriptor) in [whole, strided, parts].into_iter().enumerate() {
        let metadata = json!({"refers": n}).to_string();
        let stored = DataReference::new(Uuid::from_u128(0x00da_7a00), descriptor)
            .unwrap()
            .serialize();
        let reference = Reference::check(&stored).unwrap();
        builder.push_reference(metadata.as_bytes(), reference).unwrap();
        let hex: String = stored.iter().map(|byte| format!("{byte:02x}")).collect();
        events.push(json!({"metadata": metadata, "reference": hex}));
    }
    let line = source.lines[0].clone();
    builder
        .push(b"{\"own\":true}", [&source.log[line.clone()]])
        .unwrap();
    events.push(json!({"metadata": "{\"own\":true}", "data": [line.start, line.end]}));
    let (frame, data) = builder.finish(Some((ProducerId::new(7), 0, 0)));
    let batch = Batch::check_client(frame, data).unwrap();
    writing.partition.append(batch, None, Box::new(|_| ()));
    writing.partition.kick();
    writing.settle();
    let stopping = Rc::clone(&writing.partition);
    writing.io.block_on(async move { stopping.stop().await });
    let image = writing.io.settled();
    let manifest = json!({"events": events, "files": facts(&image)});
    write(&directory, &image);
    write_manifest(&directory, &manifest);
}
