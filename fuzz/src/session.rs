//! A hostile client of a real shard on the simulated machine.
//!
//! Input: a first byte (odd: the client does not say hello first), then requests: opcode, how it is sent ([`How`]), bytes
//! of the body (u16), body. Two ids in bodies stand for the partitions that are there ([`PARTITIONS`]), in bytes or as text.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use mofka_engine::Home;
use mofka_engine::catalog::CatalogView;
use mofka_engine::config::NodeConfig;
use mofka_engine::facts::NodeFacts;
use mofka_engine::io::Io;
use mofka_engine::shard::{Peers, Shard, ShardCall, ShardParts, ShardReply};
use mofka_engine::sim::{Image, Pipe, SimIo};
use mofka_log::{Batch, BatchBuilder};
use mofka_net::control::TopicInfo;
use mofka_net::{
    ErrorCode, Feed, FetchResponse, FrameKind, Opcode, ProducePrefix, ProduceResponse, WireError,
};
use uuid::Uuid;

use crate::repair;

/// What a body writes for the log partition and the memory partition.
pub const PARTITIONS: [Uuid; 2] = [
    Uuid::from_u128(0x7061_7274_6974_696f_6e20_6f6e_6c6f_6721),
    Uuid::from_u128(0x7061_7274_6974_696f_6e20_696e_6d65_6d21),
];
/// Requests of one client.
const REQUESTS_MAX: usize = 64;
const FRAME_BYTES_MAX: u64 = 1 << 20;

/// How a request is sent.
#[derive(Clone, Copy)]
struct How(u8);

impl How {
    /// The body is all that is sent, as it is: it should be a frame.
    fn is_raw(self) -> bool {
        self.0 & 1 != 0
    }

    /// Its body carries checksums of its own.
    fn is_self_checked(self) -> bool {
        self.0 & 2 != 0
    }

    /// So many operations of the machine end after it.
    fn steps(self) -> u8 {
        (self.0 >> 2) & 7
    }

    /// Its last byte comes later.
    fn is_split(self) -> bool {
        self.0 & 32 != 0
    }
}

/// See the module.
pub fn run(input: &[u8]) {
    let Some((first, rest)) = input.split_first() else {
        return;
    };
    let node = Node::open();
    let client = Client::connect(&node);
    if first % 2 == 0 {
        client.pipe.send(request(Opcode::Hello.number(), 0, HELLO, false));
    }
    let mut requests = Vec::new();
    let (mut rest, mut only_whole) = (rest, true);
    while let Some((&[opcode, how, low, high], after)) = rest.split_first_chunk::<4>() {
        let bytes = usize::from(u16::from_le_bytes([low, high])).min(after.len());
        let (body, after) = after.split_at(bytes);
        rest = after;
        let how = How(how);
        let id = 1 + requests.len() as u64;
        let body = node.with_partitions(body);
        only_whole &= !how.is_raw();
        let mut frame = if how.is_raw() {
            body
        } else {
            request(opcode, id, &body, how.is_self_checked())
        };
        requests.push((opcode, id));
        if how.is_split()
            && let Some(last) = frame.pop()
        {
            client.pipe.send(frame);
            node.io.run_tasks();
            frame = vec![last];
        }
        client.pipe.send(frame);
        for _ in 0..how.steps() {
            node.io.step();
        }
        if requests.len() == REQUESTS_MAX {
            break;
        }
    }
    node.settle();
    let answered = client.answers();
    if only_whole && !client.ended.get() {
        for (opcode, id) in requests {
            let wanted = opcode != Opcode::Credit.number();
            assert!(
                !wanted || answered.contains(&id),
                "request {id} ({opcode:#04x}) has no answer"
            );
        }
    }
    client.pipe.end();
    node.settle();
    assert!(client.ended.get(), "a client that is gone is still served");
    node.serves_others();
    node.io.shut_down();
}

const HELLO: &[u8] = br#"{"version_min":1,"version_max":1,"client":"fuzzer"}"#;

/// A whole frame, whatever the opcode.
fn request(opcode: u8, id: u64, body: &[u8], self_checked: bool) -> Vec<u8> {
    let mut frame = b"MFN1\x01".to_vec();
    frame.push(opcode);
    frame.extend_from_slice(&u16::from(self_checked).to_le_bytes());
    frame.extend_from_slice(&id.to_le_bytes());
    frame.extend_from_slice(&(body.len() as u64).to_le_bytes());
    frame.extend_from_slice(&[0; 8]);
    frame.extend_from_slice(body);
    if opcode == Opcode::Produce.number() {
        repair::produce(&mut frame[32..]);
    }
    repair::wire_frame(&mut frame);
    frame
}

/// There is one shard, so nobody else is asked.
#[derive(Clone)]
struct Alone;

impl Peers for Alone {
    fn shard(&self) -> usize {
        0
    }

    async fn call(&self, shard: usize, _: ShardCall) -> Result<ShardReply, WireError> {
        let message = format!("there is no shard {shard}");
        Err(WireError::new(ErrorCode::Internal, message))
    }
}

struct Node {
    io: SimIo,
    shard: Rc<Shard<SimIo, Alone>>,
    partitions: Vec<Uuid>,
}

impl Node {
    /// One shard with a topic of a log partition and a memory partition, three events in each.
    fn open() -> Self {
        static HOME: OnceLock<Home> = OnceLock::new();
        let home = HOME.get_or_init(|| {
            let directory = std::env::temp_dir().join(format!("mofka-fuzz-{}", std::process::id()));
            let home = Home::open(&directory).unwrap_or_else(|error| panic!("{error}"));
            // Only its name is used from here on: the files are on the simulated machine.
            std::fs::remove_dir_all(&directory).ok();
            home
        });
        let mut config = NodeConfig::default();
        config.limits.partitions_max = 6;
        config.limits.frame_bytes_max = FRAME_BYTES_MAX;
        config.limits.connection_outbox_bytes_max = 64 << 10;
        config.limits.subscriptions_max = 8;
        let facts = NodeFacts::new(home, &config, 1, true);
        facts.set_addresses(vec![vec!["tcp://127.0.0.1:1".to_owned()]]);
        let io = SimIo::stepping(&Image::new(), 3);
        let parts = ShardParts {
            io: io.clone(),
            peers: Alone,
            facts: Arc::new(facts),
            view: CatalogView::default(),
        };
        let shard = io
            .block_on(Shard::open(parts))
            .unwrap_or_else(|error| panic!("a new node does not open: {error}"));
        let mut node = Self {
            io,
            shard,
            partitions: Vec::new(),
        };
        node.prepare();
        node
    }

    fn prepare(&mut self) {
        let client = Client::connect(self);
        let ask = |opcode: Opcode, id, body: &str| {
            client
                .pipe
                .send(request(opcode.number(), id, body.as_bytes(), false))
        };
        client.pipe.send(request(Opcode::Hello.number(), 0, HELLO, false));
        ask(Opcode::TopicCreate, 1, r#"{"name":"t","num_partitions":1}"#);
        self.settle();
        ask(
            Opcode::PartitionAdd,
            2,
            r#"{"topic":"t","type":"memory","rank":0}"#,
        );
        self.settle();
        ask(Opcode::TopicDescribe, 3, r#"{"name":"t"}"#);
        self.settle();
        let topic = client.answer(3);
        let topic: TopicInfo = serde_json::from_slice(&topic)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&topic)));
        self.partitions = topic.partitions.iter().map(|partition| partition.id).collect();
        for (n, partition) in self.partitions.iter().enumerate() {
            let body = produce(*partition);
            client
                .pipe
                .send(request(Opcode::Produce.number(), 4 + n as u64, &body, true));
            self.settle();
            let answer = ProduceResponse::check(client.answer(4 + n as u64)).expect("an answer to produce");
            assert_eq!(answer.event_count, 3);
        }
        client.pipe.end();
        self.settle();
    }

    /// Everything under way ends.
    fn settle(&self) {
        self.io.run_tasks();
        while self.io.is_busy() {
            self.io.step();
        }
    }

    /// The next client is served as if nothing had been.
    fn serves_others(&self) {
        let client = Client::connect(self);
        client.pipe.send(request(Opcode::Hello.number(), 1, HELLO, false));
        client.pipe.send(request(Opcode::Ping.number(), 2, b"", false));
        client
            .pipe
            .send(request(Opcode::Status.number(), 3, b"{}", false));
        self.settle();
        assert_eq!(
            client.answers(),
            BTreeSet::from([1, 2, 3]),
            "the next client is not served"
        );
        client.pipe.end();
        self.settle();
    }

    /// The body with the ids of the partitions that are there.
    fn with_partitions(&self, body: &[u8]) -> Vec<u8> {
        let mut body = body.to_vec();
        for (stand_in, real) in PARTITIONS.iter().zip(&self.partitions) {
            replace(&mut body, stand_in.as_bytes(), real.as_bytes());
            replace(
                &mut body,
                stand_in.to_string().as_bytes(),
                real.to_string().as_bytes(),
            );
        }
        body
    }
}

fn replace(body: &mut [u8], what: &[u8], with: &[u8]) {
    let mut at = 0;
    while at + what.len() <= body.len() {
        if body[at..].starts_with(what) {
            body[at..at + with.len()].copy_from_slice(with);
            at += what.len();
        } else {
            at += 1;
        }
    }
}

/// A produce request of three events.
pub(crate) fn produce(partition: Uuid) -> Vec<u8> {
    let mut builder = BatchBuilder::new();
    for data in [&b"one"[..], b"", b"three"] {
        builder
            .push(b"{\"n\":1}", [data])
            .expect("three small events fit");
    }
    let (frame, data) = builder.finish(None);
    let prefix = ProducePrefix {
        partition,
        durability: None,
    };
    [&prefix.encode()[..], &frame, &data].concat()
}

struct Client {
    pipe: Pipe,
    ended: Rc<Cell<bool>>,
}

impl Client {
    fn connect(node: &Node) -> Self {
        let (pipe, ended) = (Pipe::default(), Rc::<Cell<bool>>::default());
        let (reader, writer) = (pipe.shard_end(), pipe.shard_end());
        let (shard, end) = (Rc::clone(&node.shard), Rc::clone(&ended));
        node.io.spawn(async move {
            shard.serve(reader, writer).await;
            end.set(true);
        });
        Self { pipe, ended }
    }

    fn answer(&self, id: u64) -> Bytes {
        let mut frames = self.pipe.frames().into_iter();
        let found = frames
            .find(|(header, _)| header.request_id() == id && matches!(header.kind(), FrameKind::Response(_)));
        found.unwrap_or_else(|| panic!("no answer to request {id}")).1
    }

    /// Which requests were answered. Everything that came makes sense.
    fn answers(&self) -> BTreeSet<u64> {
        let mut ids = BTreeSet::new();
        for (header, body) in self.pipe.frames() {
            match header.kind() {
                FrameKind::Error => {
                    let error = WireError::check(&body).expect("an error says what is wrong");
                    assert!(!error.message.is_empty());
                }
                FrameKind::Request(Opcode::Feed) => {
                    let feed = Feed::check(body).expect("a feed is whole");
                    for item in feed.batches().cloned() {
                        Batch::check(item.frame, item.data).expect("what is fed checks");
                    }
                    continue;
                }
                FrameKind::Response(Opcode::Fetch) => {
                    FetchResponse::check(body).expect("an answer to fetch is whole");
                }
                FrameKind::Response(Opcode::Produce) => {
                    ProduceResponse::check(body).expect("an answer to produce is whole");
                }
                FrameKind::Response(_) => {}
                kind => panic!("a shard does not send {kind:?}"),
            }
            ids.insert(header.request_id());
        }
        ids
    }
}
