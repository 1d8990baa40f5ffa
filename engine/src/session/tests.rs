//! Clients of a real shard on the simulated machine.

mod bounds;
mod feeding;
mod fetching;
mod life;
mod topics;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use futures_lite::future;
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
use crate::measures::snapshot::ShardSnapshot;
use crate::shard::{Peers, Shard, ShardCall, ShardParts, ShardReply, SnapshotPage};
use crate::sim::{Image, Pipe, SimIo};

/// The other shards: they take partitions and let them go, and never answer anything else.
#[derive(Clone)]
struct Others;

impl Peers for Others {
    fn shard(&self) -> usize {
        0
    }

    async fn call(&self, _: usize, call: ShardCall) -> Result<ShardReply, WireError> {
        match call {
            ShardCall::Open(_) | ShardCall::Drop(_) => Ok(ShardReply::Done),
            ShardCall::Close(_) => Ok(ShardReply::Referrers(Vec::new())),
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
        client.pipe.end();
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
        self.counted().unanswered_bytes
    }

    fn counted(&self) -> ShardSnapshot {
        let all = ShardCall::Snapshot(SnapshotPage { after: None });
        let reply = self.io.block_on(Rc::clone(&self.shard).handle(all)).unwrap();
        let ShardReply::Snapshot(page) = reply else {
            panic!("not what was asked for")
        };
        page.shard.unwrap()
    }

    /// Goes on until this client got so many frames more; says how often another task of the shard had its turn meanwhile.
    fn turns_until(&self, client: &Client, more: usize) -> u64 {
        const TURNS_MAX: u64 = 1 << 20;
        let turns = Rc::<Cell<u64>>::default();
        let (pipe, counted) = (client.pipe.clone(), Rc::clone(&turns));
        let wanted = pipe.frames().len() + more;
        self.io.spawn(async move {
            while pipe.frames().len() < wanted && counted.get() < TURNS_MAX {
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

#[derive(Clone)]
struct Client {
    pipe: Pipe,
    ended: Rc<Cell<bool>>,
}

impl Client {
    /// A client that said hello, as request 1.
    fn connect(node: &Node) -> Self {
        let (pipe, ended) = (Pipe::default(), Rc::<Cell<bool>>::default());
        let (reader, writer) = (pipe.shard_end(), pipe.shard_end());
        let (shard, end) = (Rc::clone(&node.shard), Rc::clone(&ended));
        node.io.spawn(async move {
            shard.serve(reader, writer).await;
            end.set(true);
        });
        let client = Self { pipe, ended };
        let hello = br#"{"version_min":1,"version_max":1,"client":"test"}"#;
        client.ask(Opcode::Hello, 1, hello);
        node.settle();
        client.answer(1).unwrap();
        client
    }

    fn ask(&self, opcode: Opcode, id: u64, body: &[u8]) {
        let header = FrameHeader::request(opcode, id, body);
        self.pipe.send([&header[..], body].concat());
    }

    /// The same with a body that has checksums of its own.
    fn produce(&self, id: u64, body: &[u8]) {
        let header = FrameHeader::self_checked(Opcode::Produce, id, body.len() as u64);
        self.pipe.send([&header[..], body].concat());
    }

    /// The answer to a request, which is there.
    fn answer(&self, id: u64) -> Result<Bytes, WireError> {
        self.find(id)
            .unwrap_or_else(|| panic!("no answer to request {id}"))
    }

    fn find(&self, id: u64) -> Option<Result<Bytes, WireError>> {
        let mut frames = self.pipe.frames().into_iter();
        let (header, body) = frames.find(|(header, _)| header.request_id() == id)?;
        Some(match header.kind() {
            FrameKind::Error => Err(WireError::check(&body).unwrap()),
            _ => Ok(body),
        })
    }
}

/// Subscribes to a partition from an event on, under a name of its own; the subscription has the number of the request.
fn subscribe(client: &Client, id: u64, partition: Uuid, from: u64, credits: u32) {
    let member = Uuid::from_u128(id.into());
    let body = format!(
        r#"{{"subscription":{id},"partition":"{partition}","consumer":"c{id}","member":"{member}","from":{{"id":{from}}},
            "batch_events_max":1,"batch_bytes_max":1,"credits":{credits},"selection":"none"}}"#
    );
    client.ask(Opcode::Subscribe, id, body.as_bytes());
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
