//! A client that knows nothing but the wire: for what the real one never does.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use mofka_log::{Batch, BatchBuilder, ProducerId};
use mofka_net::control::{
    HelloRequest, HelloResponse, SubscribeRequest, SubscribeResponse, TopicCreateRequest, TopicInfo,
    decode_any, encode,
};
use mofka_net::{
    Address, FRAME_HEADER_BYTES, Feed, FrameHeader, FrameKind, GroupFile, Opcode, ProducePrefix,
    ProduceResponse, WireError,
};
use serde::Serialize;
use uuid::Uuid;

/// Longer than anything takes on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(20);
const FRAME_BYTES_MAX: u64 = 256 << 20;

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// One connection.
pub struct RawClient {
    stream: Stream,
    next_request: u64,
}

/// A frame from the server.
pub struct Received {
    /// What it is and which request it belongs to.
    pub header: FrameHeader,
    /// What follows.
    pub body: Bytes,
}

impl Received {
    /// The body of an answer, or the error that came instead.
    ///
    /// # Errors
    /// What the server answered.
    ///
    /// # Panics
    /// When the error does not parse.
    pub fn answer(self) -> Result<Bytes, WireError> {
        match self.header.kind() {
            FrameKind::Error => Err(WireError::check(&self.body).unwrap()),
            _ => Ok(self.body),
        }
    }
}

impl RawClient {
    /// Connects to an address; says nothing.
    ///
    /// # Panics
    /// When nobody answers there.
    pub fn connect(address: &str) -> Self {
        let stream = match address.parse::<Address>().unwrap() {
            Address::Tcp { host, port } => Stream::Tcp(TcpStream::connect((host.as_str(), port)).unwrap()),
            Address::Unix(path) => Stream::Unix(UnixStream::connect(path).unwrap()),
        };
        match &stream {
            Stream::Tcp(stream) => stream.set_read_timeout(Some(PATIENCE)).unwrap(),
            Stream::Unix(stream) => stream.set_read_timeout(Some(PATIENCE)).unwrap(),
        }
        Self {
            stream,
            next_request: 1,
        }
    }

    /// Connects to the first address of the node's first shard and says hello.
    ///
    /// # Panics
    /// When that does not work.
    pub fn hello(group_file: &Path) -> (Self, HelloResponse) {
        let group = GroupFile::check(&std::fs::read_to_string(group_file).unwrap()).unwrap();
        Self::hello_at(&group.members[0].address)
    }

    /// Connects to an address and says hello.
    ///
    /// # Panics
    /// When that does not work.
    pub fn hello_at(address: &str) -> (Self, HelloResponse) {
        let mut client = Self::connect(address);
        let hello = client.say_hello(&[]);
        (client, hello)
    }

    /// Says hello with these features.
    ///
    /// # Panics
    /// When it is refused.
    pub fn say_hello(&mut self, features: &[&str]) -> HelloResponse {
        let hello = HelloRequest {
            version_min: 1,
            version_max: 1,
            client: "raw".to_owned(),
            features: features.iter().map(|feature| (*feature).to_owned()).collect(),
            token: None,
        };
        let answer = self.json(Opcode::Hello, &hello).unwrap();
        decode_any("hello", &answer).unwrap()
    }

    /// The socket, when it is a Unix socket.
    ///
    /// # Panics
    /// When it is not.
    pub fn into_unix(self) -> UnixStream {
        match self.stream {
            Stream::Unix(stream) => stream,
            Stream::Tcp(_) => panic!("a connection over TCP"),
        }
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// What the system said.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.stream {
            Stream::Tcp(stream) => stream.write_all(bytes),
            Stream::Unix(stream) => stream.write_all(bytes),
        }
    }

    fn fill(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        match &mut self.stream {
            Stream::Tcp(stream) => stream.read_exact(bytes),
            Stream::Unix(stream) => stream.read_exact(bytes),
        }
    }

    /// The next frame from the server.
    ///
    /// # Errors
    /// When the connection ended.
    ///
    /// # Panics
    /// When what came is not a frame.
    pub fn receive(&mut self) -> io::Result<Received> {
        let mut first = [0; FRAME_HEADER_BYTES];
        self.fill(&mut first)?;
        let header = FrameHeader::check(&first, FRAME_BYTES_MAX).unwrap();
        let mut body = vec![0; usize::try_from(header.body_bytes()).unwrap()];
        self.fill(&mut body)?;
        header.check_body(&body).unwrap();
        Ok(Received {
            header,
            body: body.into(),
        })
    }

    /// Sends a request without waiting for its answer; returns its number.
    ///
    /// # Panics
    /// When the connection ended.
    pub fn request(&mut self, opcode: Opcode, body: &[u8]) -> u64 {
        self.try_request(opcode, body).unwrap()
    }

    /// The same, for a node that may be gone.
    ///
    /// # Errors
    /// When the connection ended.
    pub fn try_request(&mut self, opcode: Opcode, body: &[u8]) -> io::Result<u64> {
        let number = self.next_request;
        self.next_request += 1;
        let header = FrameHeader::request(opcode, number, body);
        self.send(&[&header[..], body].concat())?;
        Ok(number)
    }

    /// Sends a request and waits for its answer; feeds in between are dropped.
    ///
    /// # Errors
    /// What the server answered.
    ///
    /// # Panics
    /// When the connection ended.
    pub fn call(&mut self, opcode: Opcode, body: &[u8]) -> Result<Bytes, WireError> {
        let number = self.request(opcode, body);
        self.wait_for(number)
    }

    /// The answer to a request.
    ///
    /// # Errors
    /// What the server answered.
    ///
    /// # Panics
    /// When the connection ended.
    pub fn wait_for(&mut self, number: u64) -> Result<Bytes, WireError> {
        loop {
            let received = self.receive().unwrap();
            if received.header.request_id() == number {
                return received.answer();
            }
        }
    }

    /// A request with a JSON body.
    ///
    /// # Errors
    /// What the server answered.
    ///
    /// # Panics
    /// When the connection ended.
    pub fn json(&mut self, opcode: Opcode, request: &impl Serialize) -> Result<Bytes, WireError> {
        self.call(opcode, &encode("request", request).unwrap())
    }

    /// Creates a topic.
    ///
    /// # Errors
    /// What the server answered.
    ///
    /// # Panics
    /// When the connection ended.
    pub fn create_topic(&mut self, request: &serde_json::Value) -> Result<TopicInfo, WireError> {
        let request: TopicCreateRequest = serde_json::from_value(request.clone()).unwrap();
        let answer = self.json(Opcode::TopicCreate, &request)?;
        Ok(decode_any("topic", &answer).unwrap())
    }

    /// Creates topic `t` with one log partition, and returns the partition.
    ///
    /// # Panics
    /// When that does not work.
    pub fn create_partition(&mut self) -> Uuid {
        let topic = self
            .create_topic(&serde_json::json!({"name": "t", "num_partitions": 1}))
            .unwrap();
        topic.partitions[0].id
    }

    /// Sends a batch; returns the request's number.
    ///
    /// # Panics
    /// When the connection ended.
    pub fn produce(
        &mut self,
        partition: Uuid,
        events: &[(&str, &[u8])],
        producer: Option<(u64, u32, u64)>,
    ) -> u64 {
        self.try_produce(partition, events, producer).unwrap()
    }

    /// The same, for a node that may be gone.
    ///
    /// # Errors
    /// When the connection ended.
    ///
    /// # Panics
    /// When this is no batch.
    pub fn try_produce(
        &mut self,
        partition: Uuid,
        events: &[(&str, &[u8])],
        producer: Option<(u64, u32, u64)>,
    ) -> io::Result<u64> {
        let mut builder = BatchBuilder::new();
        for (metadata, data) in events {
            builder.push(metadata.as_bytes(), std::iter::once(*data)).unwrap();
        }
        let (frame, data) =
            builder.finish(producer.map(|(id, epoch, sequence)| (ProducerId::new(id), epoch, sequence)));
        let prefix = ProducePrefix {
            partition,
            durability: None,
        }
        .encode();
        let number = self.next_request;
        self.next_request += 1;
        let body_bytes = u64::try_from(prefix.len() + frame.len() + data.len()).unwrap();
        let header = FrameHeader::self_checked(Opcode::Produce, number, body_bytes);
        self.send(&[&header[..], &prefix, &frame, &data].concat())?;
        Ok(number)
    }

    /// Sends a batch and waits for its ids.
    ///
    /// # Errors
    /// What the server answered.
    ///
    /// # Panics
    /// When the connection ended.
    pub fn produce_now(
        &mut self,
        partition: Uuid,
        events: &[(&str, &[u8])],
        producer: Option<(u64, u32, u64)>,
    ) -> Result<ProduceResponse, WireError> {
        let number = self.produce(partition, events, producer);
        Ok(ProduceResponse::check(self.wait_for(number)?).unwrap())
    }

    /// Subscribes.
    ///
    /// # Errors
    /// What the server answered.
    ///
    /// # Panics
    /// When the connection ended.
    pub fn subscribe(&mut self, request: &SubscribeRequest) -> Result<SubscribeResponse, WireError> {
        let answer = self.json(Opcode::Subscribe, request)?;
        Ok(decode_any("subscription", &answer).unwrap())
    }

    /// The next feed of a subscription, with its batches.
    ///
    /// # Panics
    /// When the connection ended or what came does not check.
    pub fn feed(&mut self, subscription: u64) -> (Feed, Vec<Batch>) {
        loop {
            let received = self.receive().unwrap();
            if received.header.request_id() == subscription {
                let feed = Feed::check(received.answer().unwrap()).unwrap();
                let batches = feed
                    .batches()
                    .map(|item| Batch::check(item.frame.clone(), item.data.clone()).unwrap())
                    .collect();
                return (feed, batches);
            }
        }
    }
}
