//! Clients of a real shard on the simulated machine.

mod bounds;
mod fetching;
mod life;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_lite::{AsyncRead, AsyncWrite, future};
use mofka_log::BatchBuilder;
use mofka_net::control::TopicInfo;
use mofka_net::{FrameHeader, FrameKind, Opcode, ProducePrefix, WireError};
use uuid::Uuid;

use crate::catalog::CatalogView;
use crate::config::NodeConfig;
use crate::facts::NodeFacts;
use crate::home::Home;
use crate::io::Io;
use crate::limits::EngineLimits;
use crate::shard::{Peers, Shard, ShardCall, ShardParts, ShardReply, SnapshotPage};
use crate::sim::{Image, SimIo};

/// The other shards: they take partitions, and never answer anything else.
#[derive(Clone)]
struct Others;

impl Peers for Others {
    fn shard(&self) -> usize {
        0
    }

    async fn call(&self, _: usize, call: ShardCall) -> Result<ShardReply, WireError> {
        match call {
            ShardCall::Open(_) => Ok(ShardReply::Done),
            _ => future::pending().await,
        }
    }
}

/// The first of two shards, with a topic `t` of a log partition and a memory partition, and one that the other shard has.
struct Node {
    io: SimIo,
    shard: Rc<Shard<SimIo, Others>>,
    log: Uuid,
    memory: Uuid,
    elsewhere: Uuid,
}

impl Node {
    fn open(change: impl FnOnce(&mut EngineLimits)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        // Only its name is used from here on: the files are on the simulated machine.
        let home = Home::open(dir.path()).unwrap();
        let mut config = NodeConfig::default();
        change(&mut config.limits);
        let facts = NodeFacts::new(&home, &config, 2, true);
        facts.set_addresses(
            [1, 2]
                .map(|port| vec![format!("tcp://127.0.0.1:{port}")])
                .to_vec(),
        );
        let io = SimIo::stepping(&Image::new(), 5);
        let parts = ShardParts {
            io: io.clone(),
            peers: Others,
            facts: Arc::new(facts),
            view: CatalogView::default(),
        };
        let shard = io.block_on(Shard::open(parts)).unwrap();
        let mut node = Self {
            io,
            shard,
            log: Uuid::nil(),
            memory: Uuid::nil(),
            elsewhere: Uuid::nil(),
        };
        let client = Client::connect(&node);
        client.ask(Opcode::TopicCreate, 2, br#"{"name":"t"}"#);
        node.settle();
        for (id, (kind, shard)) in (3..).zip([("default", 0), ("memory", 0), ("memory", 1)]) {
            let body = format!(r#"{{"topic":"t","type":"{kind}","rank":0,"shard":{shard}}}"#);
            client.ask(Opcode::PartitionAdd, id, body.as_bytes());
            node.settle();
            client.answer(id).unwrap();
        }
        client.ask(Opcode::TopicDescribe, 6, br#"{"name":"t"}"#);
        node.settle();
        let topic: TopicInfo = serde_json::from_slice(&client.answer(6).unwrap()).unwrap();
        let ids: Vec<Uuid> = topic.partitions.iter().map(|partition| partition.id).collect();
        (node.log, node.memory, node.elsewhere) = (ids[0], ids[1], ids[2]);
        client.stream.borrow_mut().ended = true;
        node.settle();
        node
    }

    /// All that does not wait for time goes on until its end.
    fn settle(&self) {
        self.io.run_tasks();
        while self.io.is_busy() {
            self.io.step();
        }
    }

    /// What the clients have unanswered.
    fn unanswered_bytes(&self) -> u64 {
        let all = ShardCall::Snapshot(SnapshotPage { after: None });
        let reply = self.io.block_on(Rc::clone(&self.shard).handle(all)).unwrap();
        let ShardReply::Snapshot(page) = reply else {
            panic!("not what was asked for")
        };
        page.shard.unwrap().unanswered_bytes
    }

    /// Goes on until this client got so many frames more; says how often another task of the shard had its turn meanwhile.
    fn turns_until(&self, client: &Client, more: usize) -> u64 {
        const TURNS_MAX: u64 = 1 << 20;
        let turns = Rc::<Cell<u64>>::default();
        let (stream, counted) = (Rc::clone(&client.stream), Rc::clone(&turns));
        let wanted = frames(&stream).len() + more;
        self.io.spawn(async move {
            while frames(&stream).len() < wanted && counted.get() < TURNS_MAX {
                counted.set(counted.get() + 1);
                future::yield_now().await;
            }
        });
        self.settle();
        assert!(turns.get() < TURNS_MAX, "nothing comes");
        turns.get()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.io.shut_down();
    }
}

/// What is on its way between a client and the shard.
#[derive(Default)]
struct Stream {
    sent: VecDeque<u8>,
    ended: bool,
    received: Vec<u8>,
}

/// One end of it for the shard. Every task of the machine is looked at in every round, so nobody needs to be woken.
struct End(Rc<RefCell<Stream>>);

impl AsyncRead for End {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut stream = self.0.borrow_mut();
        if stream.sent.is_empty() && !stream.ended {
            return Poll::Pending;
        }
        let bytes = stream.sent.len().min(buf.len());
        for (place, byte) in buf.iter_mut().zip(stream.sent.drain(..bytes)) {
            *place = byte;
        }
        Poll::Ready(Ok(bytes))
    }
}

impl AsyncWrite for End {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().received.extend_from_slice(buf);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

struct Client {
    stream: Rc<RefCell<Stream>>,
    ended: Rc<Cell<bool>>,
}

impl Client {
    /// A client that said hello, as request 1.
    fn connect(node: &Node) -> Self {
        let (stream, ended) = (Rc::<RefCell<Stream>>::default(), Rc::<Cell<bool>>::default());
        let (reader, writer) = (End(Rc::clone(&stream)), End(Rc::clone(&stream)));
        let (shard, end) = (Rc::clone(&node.shard), Rc::clone(&ended));
        node.io.spawn(async move {
            shard.serve(reader, writer).await;
            end.set(true);
        });
        let client = Self { stream, ended };
        let hello = br#"{"version_min":1,"version_max":1,"client":"test"}"#;
        client.ask(Opcode::Hello, 1, hello);
        node.settle();
        client.answer(1).unwrap();
        client
    }

    fn ask(&self, opcode: Opcode, id: u64, body: &[u8]) {
        let header = FrameHeader::request(opcode, id, body);
        self.stream.borrow_mut().sent.extend(header.iter().chain(body));
    }

    /// The same with a body that has checksums of its own.
    fn produce(&self, id: u64, body: &[u8]) {
        let header = FrameHeader::self_checked(Opcode::Produce, id, body.len() as u64);
        self.stream.borrow_mut().sent.extend(header.iter().chain(body));
    }

    /// What came, in order.
    fn frames(&self) -> Vec<(FrameHeader, Bytes)> {
        frames(&self.stream)
    }

    /// The answer to a request, which is there.
    fn answer(&self, id: u64) -> Result<Bytes, WireError> {
        self.find(id)
            .unwrap_or_else(|| panic!("no answer to request {id}"))
    }

    fn find(&self, id: u64) -> Option<Result<Bytes, WireError>> {
        let mut frames = self.frames().into_iter();
        let (header, body) = frames.find(|(header, _)| header.request_id() == id)?;
        Some(match header.kind() {
            FrameKind::Error => Err(WireError::check(&body).unwrap()),
            _ => Ok(body),
        })
    }
}

fn frames(stream: &RefCell<Stream>) -> Vec<(FrameHeader, Bytes)> {
    let mut rest = Bytes::from(stream.borrow().received.clone());
    let mut frames = Vec::new();
    while !rest.is_empty() {
        let header = FrameHeader::check(&rest, u64::MAX).unwrap();
        let frame = rest.split_to(32 + usize::try_from(header.body_bytes()).unwrap());
        frames.push((header, frame.slice(32..)));
    }
    frames
}

/// A produce request of a batch of events with this metadata and data.
fn batch<'a>(partition: Uuid, events: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Vec<u8> {
    let mut builder = BatchBuilder::new();
    for (metadata, data) in events {
        builder.push(metadata, [data]).unwrap();
    }
    let (frame, data) = builder.finish(None);
    let prefix = ProducePrefix {
        partition,
        durability: None,
    };
    [&prefix.encode()[..], &frame, &data].concat()
}
