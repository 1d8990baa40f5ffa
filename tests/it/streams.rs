//! Events larger than the memory that the processes may take.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use mofka_client::{
    ConsumerOptions, DataSelector, DeliveryError, DriverOptions, ErrorCode, PartitionKind, ProducerOptions,
    PullError, StreamError, TopicHandle, TopicOptions,
};
use mofka_log::{ProducerId, StreamedData};
use mofka_net::control::{StreamOpenRequest, StreamOpenResponse, decode_any};
use mofka_net::{Opcode, ProducePrefix, ProduceResponse, StreamPrefix, WireError};
use mofka_tests::raw::RawClient;
use mofka_tests::{Node, Random, program};
use serde_json::json;
use uuid::Uuid;

/// More than the bound of either process.
const EVENT_BYTES: u64 = 300 << 20;
const NODE_BYTES_MAX: u64 = 224 << 20;
const CLIENT_BYTES_MAX: u64 = 96 << 20;
const CHUNK_BYTES: usize = 1 << 20;

/// The most memory that a process has had so far.
fn peak_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib << 10
}

/// Bytes that nobody can have by chance, chunk after chunk.
struct Chunks(Random);

impl Chunks {
    fn new() -> Self {
        Self(Random::new(11))
    }

    fn next(&mut self) -> Vec<u8> {
        let words = (0..CHUNK_BYTES / 8).map(|_| self.0.below(u64::MAX).to_le_bytes());
        words.flatten().collect()
    }
}

/// `mofka-ctl` for a node.
pub(crate) fn ctl(node: &Node, arguments: &[&str]) -> Command {
    let mut command = Command::new(program("mofka-ctl"));
    command.arg("--groupfile").arg(node.group_file()).args(arguments);
    command
}

fn incoming(node: &Node) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut dirs = vec![node.data_dir()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if name.starts_with("incoming-") {
                found.push(path.clone());
            }
            if path.is_dir() {
                dirs.push(path);
            }
        }
    }
    found
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let since = Instant::now();
    while !holds() {
        assert!(
            since.elapsed() < Duration::from_secs(20),
            "{what} does not happen"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn read_back(topic: &TopicHandle, expected: &[u8]) {
    let consumer = topic.consumer("reader", ConsumerOptions::default()).unwrap();
    let event = consumer.pull().wait().unwrap().unwrap();
    let mut found = Vec::new();
    event.open_data().read_to_end(&mut found).unwrap();
    assert!(
        found == expected,
        "{} bytes came of {}",
        found.len(),
        expected.len()
    );
}

#[test]
fn an_event_goes_in_and_out_while_both_processes_stay_smaller_than_it() {
    let node = Node::start(&[]);
    let driver = node.driver();
    let topic = driver.create_topic(TopicOptions::new("large")).unwrap();

    let arguments = ["produce", "large", "--stream", "-", "--metadata", "{\"n\":1}"];
    let mut producing = ctl(&node, &arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = producing.stdin.take().unwrap();
    let mut chunks = Chunks::new();
    for _ in 0..EVENT_BYTES / CHUNK_BYTES as u64 {
        input.write_all(&chunks.next()).unwrap();
    }
    // An odd end, shorter than a block.
    input.write_all(b"the end").unwrap();
    let producer_bytes = peak_bytes(producing.id());
    // Nothing of it is there before it is whole, and others are not held up.
    assert_eq!(topic.partition_status(0).unwrap().visible_end, 0);
    let other = topic.producer(ProducerOptions::default());
    let before = other
        .push(json!({"n": 0}), "small", None)
        .unwrap()
        .wait()
        .unwrap();
    assert_eq!(before.get(), 0);
    drop(input);
    let output = producing.wait_with_output().unwrap();
    assert!(output.status.success());
    let after = other
        .push(json!({"n": 2}), "small", None)
        .unwrap()
        .wait()
        .unwrap();
    assert_eq!(after.get(), 2);

    let arguments = ["consume", "large", "--from", "1", "--timeout", "60", "--data-to"];
    let mut consuming = ctl(&node, &arguments)
        .arg(node.dir())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(consuming.stdout.take().unwrap()).lines();
    let line: serde_json::Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    let (data_bytes, consumer_bytes) = (EVENT_BYTES + 7, peak_bytes(consuming.id()));
    assert_eq!(
        (&line["id"], &line["data_bytes"]),
        (&json!(1), &json!(data_bytes))
    );
    consuming.kill().unwrap();
    consuming.wait().unwrap();

    let mut file = std::fs::File::open(node.dir().join("0-1.data")).unwrap();
    let (mut chunks, mut chunk) = (Chunks::new(), vec![0; CHUNK_BYTES]);
    for n in 0..EVENT_BYTES / CHUNK_BYTES as u64 {
        file.read_exact(&mut chunk).unwrap();
        assert!(chunk == chunks.next(), "chunk {n} is changed");
    }
    let mut end = String::new();
    file.read_to_string(&mut end).unwrap();
    assert_eq!(end, "the end");
    let node_bytes = peak_bytes(node.pid());
    println!("peaks: node {node_bytes}, producer {producer_bytes}, consumer {consumer_bytes}");
    assert!(node_bytes < NODE_BYTES_MAX, "{node_bytes}");
    assert!(producer_bytes < CLIENT_BYTES_MAX, "{producer_bytes}");
    assert!(consumer_bytes < CLIENT_BYTES_MAX, "{consumer_bytes}");
}

#[test]
fn one_that_is_given_up_leaves_nothing_and_one_that_is_finished_survives_a_restart() {
    let mut node = Node::start(&[]);
    let topic = node.driver().create_topic(TopicOptions::new("t")).unwrap();
    let producer = topic.producer(ProducerOptions::default());
    let data: Vec<u8> = (0..5_000_003_u32).map(|n| (n >> 3) as u8).collect();
    let mut writer = producer.push_stream(json!({}), None).unwrap();
    writer.write_all(&data).unwrap();
    assert_eq!(incoming(&node).len(), 1);
    drop(writer);
    eventually("removing what was given up", || incoming(&node).is_empty());

    let id = producer.push_reader(json!({}), &data[..], None).unwrap();
    assert_eq!((id.get(), incoming(&node).len()), (0, 0));
    let stats = producer.stats();
    assert_eq!((stats.acknowledged, stats.failed), (1, 0));
    read_back(&topic, &data);
    node.kill();
    node.start_again();
    read_back(&topic, &data);
    let next = producer.push(json!({}), "x", None).unwrap().wait().unwrap();
    assert_eq!(next.get(), 1);

    // Too large for memory by this consumer's own bound: its pull says so, and what to do.
    let options = ConsumerOptions {
        data_selector: DataSelector::all(),
        data_bytes_max: 1 << 20,
        ..Default::default()
    };
    let consumer = topic.consumer("small", options).unwrap();
    let error = consumer.pull().wait().unwrap_err();
    assert!(
        matches!(error, PullError::DataTooLarge { event_id: 0, .. }),
        "{error}"
    );
    assert_eq!(consumer.pull().wait().unwrap().unwrap().data().to_bytes(), "x");
    // And as a whole, where it may.
    let options = ConsumerOptions {
        data_selector: DataSelector::all(),
        ..Default::default()
    };
    let consumer = topic.consumer("large", options).unwrap();
    assert!(consumer.pull().wait().unwrap().unwrap().data().to_bytes() == data);
}

#[test]
fn a_lost_connection_fails_the_writer_and_leaves_nothing() {
    let mut node = Node::start(&[]);
    let topic = node.driver().create_topic(TopicOptions::new("t")).unwrap();
    let producer = topic.producer(ProducerOptions::default());
    let data = vec![7_u8; 3 << 20];
    let mut writer = producer.push_stream(json!({}), None).unwrap();
    let mut late = producer.push_stream(json!({}), None).unwrap();
    writer.write_all(&data).unwrap();
    late.write_all(&data).unwrap();
    assert_eq!(incoming(&node).len(), 2);
    node.kill();
    let error = loop {
        if let Err(error) = writer.write_all(&data) {
            break error;
        }
    };
    assert_eq!(error.kind(), ErrorKind::ConnectionAborted, "{error}");
    assert!(error.to_string().contains("nothing of it is stored"), "{error}");
    assert!(writer.write_all(&data).is_err() && writer.finish().is_err());
    node.start_again();
    assert!(incoming(&node).is_empty());
    match late.finish().unwrap_err() {
        DeliveryError::Unreachable {
            may_be_stored: false, ..
        } => {}
        DeliveryError::Refused(error) if error.code == ErrorCode::UnknownStream => {}
        other => panic!("{other}"),
    }
    let id = producer.push_reader(json!({}), &data[..], None).unwrap();
    assert_eq!(id.get(), 0);
    read_back(&topic, &data);
}

#[test]
fn memory_partitions_and_closed_producers_take_no_streams() {
    let node = Node::start(&[]);
    let options = TopicOptions::new("m").partition_kind(PartitionKind::Memory);
    let topic = node.driver().create_topic(options).unwrap();
    let producer = topic.producer(ProducerOptions::default());
    let error = producer.push_stream(json!({}), None).unwrap_err();
    assert!(
        error.to_string().contains("keeps its events in memory"),
        "{error}"
    );
    producer.close().unwrap();
    let error = producer.push_stream(json!({}), None).unwrap_err();
    assert!(error.to_string().contains("closed"), "{error}");
}

#[test]
fn a_full_disk_fails_the_stream_alone() {
    let Some(mut node) = Node::prepare_with_disk(&["-c", "config.json"], 96 << 20) else {
        return;
    };
    let disk: PathBuf = node.disk().path().to_path_buf();
    let config = json!({
        "data_dir": disk.join("data"),
        "shards": 1,
        "limits": {"segment_meta_bytes": 1 << 20, "segment_data_bytes": 4 << 20},
    });
    std::fs::write(node.dir().join("config.json"), config.to_string()).unwrap();
    node.start_again();
    let driver = mofka_client::Driver::connect(DriverOptions {
        reconnect_timeout: Duration::from_secs(5),
        ..DriverOptions::group_file(node.group_file())
    });
    let topic = driver.unwrap().create_topic(TopicOptions::new("t")).unwrap();
    let producer = topic.producer(ProducerOptions::default());
    producer.push(json!({}), "before", None).unwrap().wait().unwrap();
    let error = producer
        .push_reader(json!({}), std::io::repeat(3).take(200 << 20), None)
        .unwrap_err();
    match &error {
        StreamError::Data(error) => assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}"),
        other => panic!("{other}"),
    }
    let used = || {
        let stat = rustix::fs::statvfs(Path::new(&disk)).unwrap();
        (stat.f_blocks - stat.f_bfree) * stat.f_frsize
    };
    eventually("giving the space back", || used() < 40 << 20);
    producer.push(json!({}), "after", None).unwrap().wait().unwrap();
    let stored = producer.push_reader(json!({}), std::io::repeat(3).take(20 << 20), None);
    assert_eq!(stored.unwrap().get(), 2);
}

/// An event in parts, from a client that validates nothing. `looks` is called before the commit.
fn stream(
    client: &mut RawClient,
    partition: Uuid,
    metadata: &str,
    data: &[u8],
    looks: impl FnOnce(),
) -> Result<ProduceResponse, WireError> {
    let opened = client.json(Opcode::StreamOpen, &StreamOpenRequest { partition })?;
    let opened: StreamOpenResponse = decode_any("stream_open", &opened).unwrap();
    let mut streamed = StreamedData::new();
    let prefix = |offset| StreamPrefix {
        stream: opened.stream,
        offset,
    };
    for part in data.chunks(1 << 20) {
        let first = prefix(streamed.bytes()).encode();
        client.call(Opcode::StreamPart, &[&first[..], part].concat())?;
        streamed.push(part).unwrap();
    }
    looks();
    let first = prefix(streamed.bytes()).encode();
    let produce = ProducePrefix {
        partition,
        durability: None,
    };
    let producer = Some((ProducerId::new(77), 0, 0));
    let frame = streamed.frame(metadata.as_bytes(), producer).unwrap();
    let body = [&first[..], &produce.encode(), &frame].concat();
    let answer = client.call(Opcode::StreamCommit, &body)?;
    Ok(ProduceResponse::check(answer).unwrap())
}

#[test]
fn a_validator_that_the_node_enforces_refuses_at_the_commit_and_nothing_is_left() {
    let mut node = Node::start(&["--shards", "1"]);
    let schema = json!({"type": "object", "required": ["energy"]});
    let options = TopicOptions {
        validator: Some(json!({"type": "schema", "schema": schema, "enforce": true})),
        ..TopicOptions::new("t")
    };
    let topic = node.driver().create_topic(options).unwrap();
    let partition = topic.partitions()[0].id;
    let data: Vec<u8> = (0..3_000_017_u32).map(|n| (n >> 4) as u8).collect();
    let (mut client, _) = RawClient::hello(&node.group_file());
    for _ in 0..2 {
        let refused = stream(&mut client, partition, "{\"power\":1}", &data, || {
            assert_eq!(incoming(&node).len(), 1);
        });
        let refused = refused.unwrap_err();
        assert_eq!(refused.code, ErrorCode::InvalidMetadata, "{refused}");
        assert!(refused.to_string().contains("energy"), "{refused}");
        assert!(incoming(&node).is_empty(), "{:?}", incoming(&node));
        assert_eq!(topic.partition_status(0).unwrap().visible_end, 0);
    }
    // The refused ones took neither ids nor their producer's number.
    let taken = stream(&mut client, partition, "{\"energy\":1}", &data, || ()).unwrap();
    assert_eq!((taken.base_event_id.get(), taken.duplicate), (0, false));
    // A client that looks itself sends nothing.
    let producer = topic.producer(ProducerOptions::default());
    let error = producer.push_stream(json!({"power": 1}), None).unwrap_err();
    assert!(error.to_string().contains("energy"), "{error}");
    drop(client);
    node.kill();
    node.start_again();
    assert!(incoming(&node).is_empty());
    assert_eq!(topic.partition_status(0).unwrap().visible_end, 1);
    read_back(&topic, &data);
}
