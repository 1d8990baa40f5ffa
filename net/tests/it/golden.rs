//! Bytes of protocol version 1, read and written as they were, for ever. `golden/make.py` says how they were made: from the
//! documents, by another program. When this fails, version 1 is not what it was: the change needs a version of its own.

use std::collections::BTreeMap;

use bytes::Bytes;
use mofka_log::{Batch, Durability, EventId, FilePos, ProducerId};
use mofka_net::control::{HelloRequest, decode};
use mofka_net::{
    AcknowledgeRequest, AcknowledgeResponse, CreditRequest, DataDescriptor, ErrorCode, Feed, FeedItem,
    FetchItemError, FetchRequest, FetchResponse, FlushRequest, FrameHeader, FrameKind, Opcode, ProducePrefix,
    ProduceRequest, ProduceResponse, Segment, WireError,
};
use uuid::Uuid;

const PARTITION: Uuid = Uuid::from_u128(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff);
const NAMES: [&str; 12] = [
    "hello_request",
    "ping_request",
    "error",
    "produce_request",
    "produce_answer",
    "flush_request",
    "credit_request",
    "feed",
    "fetch_request",
    "fetch_answer",
    "acknowledge_request",
    "acknowledge_answer",
];

struct Golden {
    bytes: Bytes,
    header: FrameHeader,
    body: Bytes,
}

/// A golden frame, whose header and body check.
fn golden(name: &str) -> Golden {
    let bytes = all().remove(name).unwrap_or_else(|| panic!("no golden {name}"));
    let header = FrameHeader::check(&bytes, 1 << 20).unwrap_or_else(|error| panic!("{name}: {error}"));
    let body = bytes.slice(32..);
    header
        .check_body(&body)
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    Golden { bytes, header, body }
}

fn all() -> BTreeMap<&'static str, Bytes> {
    let lines = include_str!("../golden/v1.txt").lines();
    let unhex = |hex: &str| -> Vec<u8> {
        (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
            .collect()
    };
    lines
        .map(|line| line.split_once(' ').unwrap())
        .map(|(name, hex)| (name, Bytes::from(unhex(hex))))
        .collect()
}

impl Golden {
    #[track_caller]
    fn is(&self, kind: FrameKind, request_id: u64, self_checked: bool) {
        let found = (
            self.header.kind(),
            self.header.request_id(),
            self.header.is_self_checked(),
        );
        assert_eq!(found, (kind, request_id, self_checked));
    }

    /// The frame is this header and this body.
    #[track_caller]
    fn is_written_as(&self, header: &[u8], body: &[u8]) {
        assert_eq!([header, body].concat(), self.bytes);
    }
}

#[test]
fn nothing_is_left_out() {
    let mut names = NAMES.to_vec();
    names.sort_unstable();
    assert!(all().into_keys().eq(names));
}

#[test]
fn control_frames() {
    let hello = golden("hello_request");
    hello.is(FrameKind::Request(Opcode::Hello), 1, false);
    let request: HelloRequest = decode("hello request", &hello.body).unwrap();
    assert_eq!(
        (request.version_min, request.version_max, request.client.as_str()),
        (1, 1, "golden")
    );
    hello.is_written_as(&FrameHeader::request(Opcode::Hello, 1, &hello.body), &hello.body);
    let ping = golden("ping_request");
    ping.is(FrameKind::Request(Opcode::Ping), 2, false);
    ping.is_written_as(&FrameHeader::request(Opcode::Ping, 2, b""), b"");
    let error = golden("error");
    error.is(FrameKind::Error, 3, false);
    let read = WireError::check(&error.body).unwrap();
    assert_eq!(read, WireError::sequence_gap("batch 3 is missing", 3));
    error.is_written_as(&FrameHeader::error(3, &error.body), &read.to_json());
}

#[test]
fn produce() {
    let request = golden("produce_request");
    request.is(FrameKind::Request(Opcode::Produce), 4, true);
    let read = ProduceRequest::check(request.body.clone()).unwrap();
    assert_eq!(
        (read.partition, read.durability),
        (PARTITION, Some(Durability::Synced))
    );
    let batch = Batch::check_client(read.frame.clone(), read.data.clone()).unwrap();
    assert_eq!(batch.producer(), Some((ProducerId::new(7), 1, 4)));
    let events: Vec<_> = batch
        .events()
        .map(|event| (event.metadata, event.data_bytes))
        .collect();
    assert_eq!(events, [(&b"{\"a\":1}"[..], 11), (b"{}", 0)]);
    assert_eq!(read.data, "hello mofka");
    let prefix = ProducePrefix {
        partition: PARTITION,
        durability: Some(Durability::Synced),
    };
    let body = [&prefix.encode()[..], &read.frame, &read.data].concat();
    request.is_written_as(
        &FrameHeader::self_checked(Opcode::Produce, 4, body.len() as u64),
        &body,
    );
    let answer = golden("produce_answer");
    answer.is(FrameKind::Response(Opcode::Produce), 4, false);
    let read = ProduceResponse::check(answer.body.clone()).unwrap();
    let expected = ProduceResponse {
        base_event_id: EventId::new(42),
        event_count: 2,
        duplicate: true,
    };
    assert_eq!(read, expected);
    answer.is_written_as(
        &FrameHeader::response(&request.header, &expected.encode()),
        &expected.encode(),
    );
}

#[test]
fn flush_credit_acknowledge() {
    let flush = golden("flush_request");
    let request = FlushRequest { partition: PARTITION };
    assert_eq!(FlushRequest::check(&flush.body).unwrap(), request);
    flush.is_written_as(
        &FrameHeader::request(Opcode::Flush, 5, &request.encode()),
        &request.encode(),
    );
    let credit = golden("credit_request");
    let request = CreditRequest {
        subscription: 9,
        credits: 16,
    };
    assert_eq!(CreditRequest::check(&credit.body).unwrap(), request);
    credit.is_written_as(
        &FrameHeader::request(Opcode::Credit, 6, &request.encode()),
        &request.encode(),
    );
    let acknowledge = golden("acknowledge_request");
    let request = AcknowledgeRequest {
        partition: PARTITION,
        next_event_id: EventId::new(44),
        consumer: "zähler".to_owned(),
    };
    assert_eq!(AcknowledgeRequest::check(&acknowledge.body).unwrap(), request);
    let body = request.encode().unwrap();
    acknowledge.is_written_as(&FrameHeader::request(Opcode::Acknowledge, 8, &body), &body);
    let answer = golden("acknowledge_answer");
    answer.is(FrameKind::Response(Opcode::Acknowledge), 8, false);
    let read = AcknowledgeResponse::check(&answer.body).unwrap();
    assert_eq!(read.next_event_id, EventId::new(44));
    answer.is_written_as(
        &FrameHeader::response(&acknowledge.header, &read.encode()),
        &read.encode(),
    );
}

#[test]
fn feed() {
    let feed = golden("feed");
    feed.is(FrameKind::Request(Opcode::Feed), 9, true);
    let read = Feed::check(feed.body.clone()).unwrap();
    let header = read.header;
    assert_eq!((header.first_event_id.get(), header.end_event_id.get()), (42, 44));
    assert_eq!(
        (
            header.visible_end.get(),
            header.missed_count,
            header.end_of_stream
        ),
        (50, 3, true)
    );
    let [item] = read.batches().collect::<Vec<_>>()[..] else {
        panic!("{} items", read.items.len())
    };
    let batch = Batch::check(item.frame.clone(), item.data.clone()).unwrap();
    assert_eq!((batch.base_event_id().get(), batch.synced_end().get()), (42, 40));
    assert_eq!(
        (batch.salt(), batch.incarnation(), batch.timestamp_us()),
        (0x5a17, 2, 1000)
    );
    assert_eq!(batch.data_at(), FilePos::new(4096));
    let data = item.data.clone().unwrap();
    let listed = FeedItem {
        frame_bytes: item.frame.len() as u64,
        data_bytes: data.len() as u64,
    };
    let body = [
        &header.encode()[..],
        &listed.encode(),
        &item.frame,
        &data,
        &[0; 5],
    ]
    .concat();
    feed.is_written_as(
        &FrameHeader::self_checked(Opcode::Feed, 9, body.len() as u64),
        &body,
    );
}

#[test]
fn fetch() {
    let fetch = golden("fetch_request");
    fetch.is(FrameKind::Request(Opcode::Fetch), 7, false);
    let whole = DataDescriptor::of_event(EventId::new(42), 1000);
    let segment = |offset, bytes| Segment { offset, bytes };
    let request = FetchRequest {
        partition: PARTITION,
        items: vec![
            whole.clone(),
            whole.sub_view(5, 10),
            whole.strided_view(100, 3, 10, 90).unwrap(),
            whole
                .unstructured_view(&[segment(0, 3), segment(500, 4)])
                .unwrap(),
        ],
    };
    assert_eq!(FetchRequest::check(fetch.body.clone()).unwrap(), request);
    let body = request.encode().unwrap();
    fetch.is_written_as(&FrameHeader::request(Opcode::Fetch, 7, &body), &body);
    let answer = golden("fetch_answer");
    answer.is(FrameKind::Response(Opcode::Fetch), 7, true);
    let items = FetchResponse::check(answer.body.clone()).unwrap();
    let refused = FetchItemError::Refused {
        status: 32,
        code: Some(ErrorCode::UnknownEvent),
    };
    let (hello, mofka) = (Bytes::from_static(b"hello"), Bytes::from_static(b"mofka!"));
    assert_eq!(items, [Ok(hello.clone()), Ok(mofka.clone()), Err(refused)]);
    let mut again = FetchResponse::new();
    for part in [hello, mofka] {
        let crc = crc32fast::hash(&part);
        again.push(part, crc);
    }
    again.push_error(ErrorCode::UnknownEvent);
    let body = again.encode().concat();
    answer.is_written_as(
        &FrameHeader::self_checked_response(&fetch.header, body.len() as u64),
        &body,
    );
}
