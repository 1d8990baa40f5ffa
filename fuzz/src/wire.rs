//! Frames on the wire, and the body of every request and answer.
//!
//! Input: mode, then which body ([`BODIES`]); beyond the list: a stream of whole frames.

use std::fmt::Debug;

use bytes::Bytes;
use mofka_log::Batch;
use mofka_net::control::{
    ConsumerDeleteRequest, ConsumerListRequest, ConsumerListResponse, EmptyRequest, GroupLeaveRequest,
    GroupSyncRequest, GroupSyncResponse, HelloRequest, HelloResponse, NodeStatus, PartitionAddRequest,
    PartitionDescribeRequest, PartitionInfo, PartitionStatus, ProducerDoneRequest, ProducerDoneResponse,
    SeekRequest, SeekResponse, StreamAbortRequest, StreamOpenRequest, StreamOpenResponse, SubscribeRequest,
    SubscribeResponse, TopicCompleteRequest, TopicCreateRequest, TopicInfo, TopicListResponse, TopicRequest,
    UnsubscribeRequest, decode, encode,
};
use mofka_net::{
    AcknowledgeRequest, AcknowledgeResponse, CreditRequest, Credits, Feed, FeedHeader, FetchRequest,
    FetchResponse, FlushRequest, FrameHeader, FrameKind, Opcode, ProducePrefix, ProduceRequest,
    ProduceResponse, ServerSession, StreamCommit, StreamPart, StreamPartResponse, WireError,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::repair::{self, Mode};

/// Largest frame that this node takes.
const FRAME_BYTES_MAX: u64 = 1 << 20;

type Body = fn(&[u8]);

/// Every body. The place in this list is the input's second byte; seeds rely on it, so add at the end.
pub const BODIES: &[(&str, Body)] = &[
    ("hello request", hello),
    ("hello answer", json::<HelloResponse>),
    ("topic_create request", json::<TopicCreateRequest>),
    ("topic request", json::<TopicRequest>),
    ("topic", json::<TopicInfo>),
    ("topic_list answer", json::<TopicListResponse>),
    ("partition_add request", json::<PartitionAddRequest>),
    ("partition_describe request", json::<PartitionDescribeRequest>),
    ("partition", json::<PartitionInfo>),
    ("partition status", json::<PartitionStatus>),
    ("subscribe request", json::<SubscribeRequest>),
    ("subscribe answer", json::<SubscribeResponse>),
    ("unsubscribe request", json::<UnsubscribeRequest>),
    ("seek request", json::<SeekRequest>),
    ("seek answer", json::<SeekResponse>),
    ("consumer_list request", json::<ConsumerListRequest>),
    ("consumer_list answer", json::<ConsumerListResponse>),
    ("consumer_delete request", json::<ConsumerDeleteRequest>),
    ("empty request", json::<EmptyRequest>),
    ("node status", json::<NodeStatus>),
    ("error", error),
    ("produce request", produce),
    ("produce answer", produce_answer),
    ("flush request", flush),
    ("credit request", credit),
    ("feed", feed),
    ("fetch request", fetch),
    ("fetch answer", fetch_answer),
    ("acknowledge request", acknowledge),
    ("acknowledge answer", acknowledge_answer),
    ("group_sync request", json::<GroupSyncRequest>),
    ("group_sync answer", json::<GroupSyncResponse>),
    ("group_leave request", json::<GroupLeaveRequest>),
    ("topic_complete request", json::<TopicCompleteRequest>),
    ("producer_done request", json::<ProducerDoneRequest>),
    ("producer_done answer", json::<ProducerDoneResponse>),
    ("stream_open request", json::<StreamOpenRequest>),
    ("stream_open answer", json::<StreamOpenResponse>),
    ("stream_part request", stream_part),
    ("stream_part answer", stream_part_answer),
    ("stream_commit request", stream_commit),
    ("stream_abort request", json::<StreamAbortRequest>),
];

/// See the module.
pub fn run(input: &[u8]) {
    let Some((&[mode, which], rest)) = input.split_first_chunk::<2>() else {
        return;
    };
    let mut bytes = rest.to_vec();
    let mode = Mode::new(mode);
    match BODIES.get(usize::from(which)) {
        Some((name, body)) => {
            if !mode.is_raw() {
                repair_body(name, &mut bytes);
            }
            body(&bytes);
        }
        None => frames(&mut bytes, mode),
    }
}

fn repair_body(name: &str, bytes: &mut [u8]) {
    match name {
        "produce request" => repair::produce(bytes),
        "feed" => repair::feed(bytes),
        "fetch answer" => repair::fetch_answer(bytes),
        _ => {}
    }
}

/// A stream of frames, as a connection gets it.
fn frames(stream: &mut [u8], mode: Mode) {
    let mut session = ServerSession::new(FRAME_BYTES_MAX);
    let mut rest = stream;
    while !rest.is_empty() {
        if !mode.is_raw() {
            if let Some(name) = rest.get(32..).and_then(|_| self_checked_body(rest)) {
                let end = frame_end(rest);
                repair_body(name, &mut rest[32..end]);
            }
            repair::wire_frame(rest);
        }
        let Ok(header) = session.check_header(rest) else {
            return;
        };
        assert!(
            header.body_bytes() + 32 <= FRAME_BYTES_MAX,
            "a checked header is bounded"
        );
        let Some((frame, after)) =
            std::mem::take(&mut rest).split_at_mut_checked(32 + header.body_bytes() as usize)
        else {
            return;
        };
        rest = after;
        let body = &frame[32..];
        if header.check_body(body).is_err() {
            continue;
        }
        same_header(&header, &frame[..32], body);
        if let Ok(opcode) = Opcode::of(&header) {
            let admitted = session.admit(opcode).is_ok();
            assert_eq!(
                admitted,
                (opcode == Opcode::Hello) != session.negotiated().is_some(),
                "hello comes first and once"
            );
            if opcode == Opcode::Hello
                && let Ok(request) = decode::<HelloRequest>("hello request", body)
            {
                let agreed = session.hello(&request);
                assert!(agreed.is_err() || admitted);
            }
        }
        let name = body_of(header.kind());
        if let Some((_, check)) = BODIES.iter().find(|(known, _)| Some(*known) == name) {
            check(body);
        }
    }
}

fn frame_end(frame: &[u8]) -> usize {
    let bytes = frame[16..24].try_into().map_or(0, u64::from_le_bytes);
    usize::try_from(bytes)
        .unwrap_or(usize::MAX)
        .saturating_add(32)
        .min(frame.len())
}

fn self_checked_body(frame: &[u8]) -> Option<&'static str> {
    match frame[5] {
        0x20 => Some("produce request"),
        0x33 => Some("feed"),
        0xb4 => Some("fetch answer"),
        _ => None,
    }
}

fn body_of(kind: FrameKind) -> Option<&'static str> {
    Some(match kind {
        FrameKind::Error => "error",
        FrameKind::Request(Opcode::Hello) => "hello request",
        FrameKind::Response(Opcode::Hello) => "hello answer",
        FrameKind::Request(Opcode::TopicCreate) => "topic_create request",
        FrameKind::Request(Opcode::TopicDescribe | Opcode::TopicDelete) => "topic request",
        FrameKind::Request(Opcode::TopicComplete) => "topic_complete request",
        FrameKind::Request(Opcode::ProducerDone) => "producer_done request",
        FrameKind::Response(Opcode::ProducerDone) => "producer_done answer",
        FrameKind::Response(Opcode::TopicCreate | Opcode::TopicDescribe) => "topic",
        FrameKind::Response(Opcode::TopicList) => "topic_list answer",
        FrameKind::Request(Opcode::PartitionAdd) => "partition_add request",
        FrameKind::Response(Opcode::PartitionAdd) => "partition",
        FrameKind::Request(Opcode::PartitionDescribe) => "partition_describe request",
        FrameKind::Response(Opcode::PartitionDescribe) => "partition status",
        FrameKind::Request(Opcode::Produce) => "produce request",
        FrameKind::Response(Opcode::Produce) => "produce answer",
        FrameKind::Request(Opcode::Flush) => "flush request",
        FrameKind::Request(Opcode::StreamOpen) => "stream_open request",
        FrameKind::Response(Opcode::StreamOpen) => "stream_open answer",
        FrameKind::Request(Opcode::StreamPart) => "stream_part request",
        FrameKind::Response(Opcode::StreamPart) => "stream_part answer",
        FrameKind::Request(Opcode::StreamCommit) => "stream_commit request",
        FrameKind::Response(Opcode::StreamCommit) => "produce answer",
        FrameKind::Request(Opcode::StreamAbort) => "stream_abort request",
        FrameKind::Request(Opcode::Subscribe) => "subscribe request",
        FrameKind::Response(Opcode::Subscribe) => "subscribe answer",
        FrameKind::Request(Opcode::Unsubscribe) => "unsubscribe request",
        FrameKind::Request(Opcode::Credit) => "credit request",
        FrameKind::Request(Opcode::Feed) => "feed",
        FrameKind::Request(Opcode::Fetch) => "fetch request",
        FrameKind::Response(Opcode::Fetch) => "fetch answer",
        FrameKind::Request(Opcode::Acknowledge) => "acknowledge request",
        FrameKind::Response(Opcode::Acknowledge) => "acknowledge answer",
        FrameKind::Request(Opcode::Seek) => "seek request",
        FrameKind::Response(Opcode::Seek) => "seek answer",
        FrameKind::Request(Opcode::ConsumerList) => "consumer_list request",
        FrameKind::Response(Opcode::ConsumerList) => "consumer_list answer",
        FrameKind::Request(Opcode::ConsumerDelete) => "consumer_delete request",
        FrameKind::Request(Opcode::GroupSync) => "group_sync request",
        FrameKind::Response(Opcode::GroupSync) => "group_sync answer",
        FrameKind::Request(Opcode::GroupLeave) => "group_leave request",
        FrameKind::Request(Opcode::Status | Opcode::TopicList | Opcode::Shutdown) => "empty request",
        FrameKind::Response(Opcode::Status) => "node status",
        _ => return None,
    })
}

/// A header is written as it was read, where there is a way to write it.
fn same_header(header: &FrameHeader, bytes: &[u8], body: &[u8]) {
    let written = match (header.kind(), header.is_self_checked()) {
        (FrameKind::Request(opcode), false) => {
            FrameHeader::request(opcode, header.request_id(), body).to_vec()
        }
        (FrameKind::Request(opcode), true) => {
            FrameHeader::self_checked(opcode, header.request_id(), header.body_bytes()).to_vec()
        }
        (FrameKind::Error, _) => FrameHeader::error(header.request_id(), body).to_vec(),
        _ => return,
    };
    assert_eq!(written, bytes, "there is one way to write a header");
}

/// A JSON body is read as it was written.
fn json<T: Serialize + DeserializeOwned + PartialEq + Debug>(body: &[u8]) {
    let Ok(value) = decode::<T>("body", body) else {
        return;
    };
    let written = encode("body", &value).expect("what was read can be written");
    assert_eq!(decode::<T>("body", &written).as_ref(), Ok(&value));
}

fn hello(body: &[u8]) {
    json::<HelloRequest>(body);
    let Ok(request) = decode::<HelloRequest>("hello request", body) else {
        return;
    };
    let mut session = ServerSession::new(FRAME_BYTES_MAX);
    if let Ok(agreed) = session.hello(&request) {
        assert!(request.version_min <= agreed.version && agreed.version <= request.version_max);
        assert!(session.hello(&request).is_err(), "hello comes once");
    }
}

fn error(body: &[u8]) {
    let Ok(error) = WireError::check(body) else { return };
    let again = WireError::check(&error.to_json()).expect("what was written is read");
    assert_eq!(again, error, "an error is read as it was written");
    let _ = (error.addresses(), error.expected(), error.to_string());
}

fn produce(body: &[u8]) {
    let Ok(request) = ProduceRequest::check(Bytes::copy_from_slice(body)) else {
        return;
    };
    let prefix = ProducePrefix {
        partition: request.partition,
        durability: request.durability,
    };
    assert_eq!(
        [&prefix.encode()[..], &request.frame, &request.data].concat(),
        body,
        "a request is the sum of its parts"
    );
    if let Ok(batch) = Batch::check_client(request.frame.clone(), request.data.clone()) {
        assert_eq!(batch.frame_bytes(), request.frame.len() as u64);
        assert_eq!(batch.events().count() as u64, u64::from(batch.event_count()));
    }
}

fn produce_answer(body: &[u8]) {
    if let Ok(answer) = ProduceResponse::check(Bytes::copy_from_slice(body)) {
        assert_eq!(answer.encode(), body);
    }
}

fn flush(body: &[u8]) {
    if let Ok(request) = FlushRequest::check(&Bytes::copy_from_slice(body)) {
        assert_eq!(request.encode(), body);
    }
}

fn stream_part(body: &[u8]) {
    if let Ok(part) = StreamPart::check(Bytes::copy_from_slice(body)) {
        assert_eq!([&part.prefix.encode()[..], &part.data].concat(), body);
    }
}

fn stream_part_answer(body: &[u8]) {
    if let Ok(answer) = StreamPartResponse::check(Bytes::copy_from_slice(body)) {
        assert_eq!(answer.encode(), body);
    }
}

fn stream_commit(body: &[u8]) {
    if let Ok(commit) = StreamCommit::check(Bytes::copy_from_slice(body)) {
        assert_eq!(commit.prefix.encode(), body[..32]);
        Batch::check(commit.produce.frame, None).ok();
    }
}

fn credit(body: &[u8]) {
    let Ok(request) = CreditRequest::check(&Bytes::copy_from_slice(body)) else {
        return;
    };
    assert_eq!(request.encode(), body);
    let mut credits = Credits::default();
    if credits.grant(request.credits).is_ok() {
        assert_eq!(credits.take(), request.credits > 0);
    }
}

fn feed(body: &[u8]) {
    let Ok(feed) = Feed::check(Bytes::copy_from_slice(body)) else {
        return;
    };
    assert_eq!(feed.items.len() as u64, u64::from(feed.header.item_count));
    assert!(feed.header.first_event_id <= feed.header.end_event_id);
    let header: &FeedHeader = &feed.header;
    assert_eq!(header.encode(), body[..64], "there is one way to write a header");
    for item in feed.batches().cloned() {
        if let Ok(batch) = Batch::check(item.frame, item.data) {
            assert_eq!(batch.events().count() as u64, u64::from(batch.event_count()));
        }
    }
}

fn fetch(body: &[u8]) {
    if let Ok(request) = FetchRequest::check(Bytes::copy_from_slice(body)) {
        assert_eq!(
            request.encode().as_deref(),
            Ok(body),
            "there is one way to write a request"
        );
    }
}

fn fetch_answer(body: &[u8]) {
    let Ok(items) = FetchResponse::check(Bytes::copy_from_slice(body)) else {
        return;
    };
    let mut again = FetchResponse::new();
    for item in &items {
        match item {
            Ok(bytes) => again.push(bytes.clone(), crc32fast::hash(bytes)),
            // What cannot be told apart after reading cannot be written again.
            Err(_) => return,
        }
    }
    assert_eq!(
        again.encode().concat(),
        body,
        "there is one way to write an answer"
    );
}

fn acknowledge(body: &[u8]) {
    if let Ok(request) = AcknowledgeRequest::check(&Bytes::copy_from_slice(body)) {
        assert_eq!(request.encode().as_deref(), Ok(body));
    }
}

fn acknowledge_answer(body: &[u8]) {
    if let Ok(answer) = AcknowledgeResponse::check(&Bytes::copy_from_slice(body)) {
        assert_eq!(answer.encode(), body);
    }
}
