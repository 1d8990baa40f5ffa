//! Sockets and frames of the node for tests.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, MutexGuard};

use bytes::Bytes;
use mofka_log::Batch;
use mofka_net::control::{
    ConsumerListResponse, GroupSyncRequest, HelloResponse, MemoryStatus, NodeLimits, NodeStatus,
    PartitionAddRequest, SeekResponse, StreamAbortRequest, StreamOpenRequest, StreamOpenResponse,
    SubscribeRequest, SubscribeResponse, TopicAlterRequest, TopicListResponse, TopicRequest,
    UnsubscribeRequest, decode, encode,
};
use mofka_net::limits::{FEATURE_SOURCES, VERSION_MAX};
use mofka_net::{
    AcknowledgeRequest, AcknowledgeResponse, CreditRequest, ErrorCode, FRAME_HEADER_BYTES, FetchRequest,
    FrameHeader, Opcode, ProduceRequest, ServerSession, StreamCommit, StreamPart, StreamPartResponse,
    WireError,
};
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use super::Shared;
use super::state::{Action, State};

static NEXT_CONNECTION: AtomicU64 = AtomicU64::new(1);
static NEXT_STREAM: AtomicU64 = AtomicU64::new(1);

pub(super) fn accept(shared: &Arc<Shared>, listener: &TcpListener, stop: &AtomicBool) {
    for stream in listener.incoming() {
        if stop.load(Ordering::SeqCst) {
            return;
        }
        let (shared, stream) = (Arc::clone(shared), stream.unwrap());
        stream.set_nodelay(true).unwrap();
        let connection = NEXT_CONNECTION.fetch_add(1, Ordering::SeqCst);
        shared.state.lock().unwrap().opened_connections += 1;
        shared
            .connections
            .lock()
            .unwrap()
            .insert(connection, stream.try_clone().unwrap());
        std::thread::spawn(move || {
            // An error here is a connection that ended, by either side.
            serve(&shared, connection, stream).ok();
            shared.connections.lock().unwrap().remove(&connection);
        });
    }
}

fn serve(shared: &Arc<Shared>, connection: u64, mut stream: TcpStream) -> std::io::Result<()> {
    let mut session = ServerSession::new(64 << 20);
    loop {
        let mut first = [0; FRAME_HEADER_BYTES];
        stream.read_exact(&mut first)?;
        let header = session.check_header(&first).unwrap();
        let mut body = vec![0; header.body_bytes() as usize];
        stream.read_exact(&mut body)?;
        session.check_body(&header, &body).unwrap();
        let mut state = shared.state.lock().unwrap();
        if state.is_deaf {
            continue;
        }
        match answer(&mut state, &mut session, connection, header, body.into()) {
            Outcome::Answer(pieces) => send(&mut stream, &pieces)?,
            Outcome::Nothing => {}
            Outcome::Hang => {
                stream.shutdown(Shutdown::Both)?;
                state
                    .subscriptions
                    .retain(|_, feeding| feeding.connection != connection);
            }
        }
        pump(shared, state);
    }
}

enum Outcome {
    Answer(Vec<Bytes>),
    Nothing,
    Hang,
}

/// Answers what is not held any more, and sends all feeds that may be sent.
pub(super) fn pump(shared: &Shared, mut state: MutexGuard<'_, State>) {
    let mut connections = shared.connections.lock().unwrap();
    for (connection, header, partition, batch) in std::mem::take(&mut state.held) {
        let outcome = match (state.on_produce)(partition, &batch) {
            Action::Hold => {
                state.held.push((connection, header, partition, batch));
                continue;
            }
            Action::Refuse(code) => Err(refusal(code)),
            _ if !connections.contains_key(&connection) => continue,
            _ => state.store(partition, batch),
        };
        if let Some(stream) = connections.get_mut(&connection) {
            send(stream, &respond(&header, outcome.map(|stored| stored.encode()))).ok();
        }
    }
    for (connection, header, request) in std::mem::take(&mut state.held_syncs) {
        let outcome = match state.assignment(&request) {
            Ok(answer) if answer.generation == request.generation => {
                state.held_syncs.push((connection, header, request));
                continue;
            }
            outcome => outcome.and_then(|answer| json_body(&answer)),
        };
        if let Some(stream) = connections.get_mut(&connection) {
            send(stream, &respond(&header, outcome)).ok();
        }
    }
    if !state.hold_acknowledgements {
        for (connection, header, next_event_id) in std::mem::take(&mut state.held_acknowledgements) {
            let body = AcknowledgeResponse { next_event_id }.encode();
            if let Some(stream) = connections.get_mut(&connection) {
                send(stream, &respond(&header, Ok(body))).ok();
            }
        }
    }
    if !state.hold_subscribes {
        for (connection, header, request) in std::mem::take(&mut state.held_subscribes) {
            let outcome = subscribe(&mut state, connection, request);
            if let Some(stream) = connections.get_mut(&connection) {
                send(stream, &respond(&header, outcome)).ok();
            }
        }
    }
    // Last: what was held may be fed now.
    while let Some((connection, subscription, body)) = state.next_feed() {
        let header = FrameHeader::self_checked(Opcode::Feed, subscription, body.len() as u64);
        if let Some(stream) = connections.get_mut(&connection) {
            send(stream, &[Bytes::copy_from_slice(&header), body.into()]).ok();
        }
    }
}

fn refusal(code: ErrorCode) -> WireError {
    WireError::new(code, "as the test wants it")
}

fn send(stream: &mut TcpStream, pieces: &[Bytes]) -> std::io::Result<()> {
    stream.write_all(&pieces.concat())
}

fn respond(header: &FrameHeader, outcome: Result<Bytes, WireError>) -> Vec<Bytes> {
    match outcome {
        Ok(body) => vec![
            Bytes::copy_from_slice(&FrameHeader::response(header, &body)),
            body,
        ],
        Err(error) => {
            let body = Bytes::from(error.to_json());
            vec![FrameHeader::error(header.request_id(), &body), body]
        }
    }
}

fn json_body(value: &impl Serialize) -> Result<Bytes, WireError> {
    Ok(encode("answer", value)?.into())
}

fn answer(
    state: &mut State,
    session: &mut ServerSession,
    connection: u64,
    header: FrameHeader,
    body: Bytes,
) -> Outcome {
    let opcode = Opcode::of(&header).unwrap();
    session.admit(opcode).unwrap();
    let outcome =
        match opcode {
            Opcode::Hello => hello(state, session, &body),
            Opcode::Ping => {
                state.pings += 1;
                Ok(Bytes::new())
            }
            Opcode::Produce => {
                let request = ProduceRequest::check(body).unwrap();
                let batch = Batch::check_client(request.frame, request.data).unwrap();
                return produce(state, connection, header, request.partition, batch);
            }
            Opcode::StreamCommit => {
                let commit = StreamCommit::check(body).unwrap();
                if let Some(code) = state.refuse_commits {
                    return Outcome::Answer(respond(&header, Err(refusal(code))));
                }
                match state.end_stream(connection, &commit) {
                    Ok(batch) => return produce(state, connection, header, commit.produce.partition, batch),
                    Err(outcome) => outcome.map(|stored| stored.encode()),
                }
            }
            Opcode::StreamOpen => decode("stream_open", &body).map_err(WireError::from).and_then(
                |request: StreamOpenRequest| {
                    let stream = NEXT_STREAM.fetch_add(1, Ordering::SeqCst);
                    state
                        .streams
                        .insert(stream, (connection, request.partition, Vec::new()));
                    json_body(&StreamOpenResponse {
                        stream,
                        part_bytes_max: 1 << 20,
                        window_bytes: 2 << 20,
                        data_bytes_max: 1 << 30,
                    })
                },
            ),
            Opcode::StreamPart => {
                let part = StreamPart::check(body).unwrap();
                let (_, _, data) = state.streams.get_mut(&part.prefix.stream).unwrap();
                assert_eq!(data.len() as u64, part.prefix.offset);
                data.extend_from_slice(&part.data);
                let end = data.len() as u64;
                Ok(StreamPartResponse { end }.encode())
            }
            Opcode::StreamAbort => {
                let request: StreamAbortRequest = decode("stream_abort", &body).unwrap();
                state.streams.remove(&request.stream);
                Ok(Bytes::new())
            }
            Opcode::Flush => Ok(Bytes::new()),
            Opcode::Subscribe => {
                let request = decode("subscribe", &body).unwrap();
                if state.hold_subscribes {
                    state.held_subscribes.push((connection, header, request));
                    return Outcome::Nothing;
                }
                subscribe(state, connection, request)
            }
            Opcode::Unsubscribe => {
                let request: UnsubscribeRequest = decode("unsubscribe", &body).unwrap();
                state.subscriptions.remove(&request.subscription);
                Ok(Bytes::new())
            }
            Opcode::Credit => {
                let credit = CreditRequest::check(&body).unwrap();
                state.grant(credit.subscription, credit.credits);
                return Outcome::Nothing;
            }
            Opcode::Fetch => match state.fetch(&FetchRequest::check(body).unwrap()) {
                Ok(_) if state.fetches.len() > state.swallows_fetches_from => return Outcome::Nothing,
                Ok(pieces) => {
                    let body_bytes = pieces.iter().map(|piece| piece.len() as u64).sum();
                    let first = FrameHeader::self_checked_response(&header, body_bytes);
                    let first = Bytes::copy_from_slice(&first);
                    return Outcome::Answer(std::iter::once(first).chain(pieces).collect());
                }
                Err(error) => Err(error),
            },
            Opcode::Acknowledge => {
                let request = AcknowledgeRequest::check(&body).unwrap();
                let outcome = state.acknowledge(&request);
                if state.hold_acknowledgements {
                    state
                        .held_acknowledgements
                        .push((connection, header, request.next_event_id));
                    return Outcome::Nothing;
                }
                outcome.map(|next_event_id| AcknowledgeResponse { next_event_id }.encode())
            }
            Opcode::GroupSync => {
                let request: GroupSyncRequest = decode("group_sync", &body).unwrap();
                state.told.extend(&request.holding);
                match state.assignment(&request) {
                    Ok(answer) if answer.generation == request.generation => {
                        state.held_syncs.push((connection, header, request));
                        return Outcome::Nothing;
                    }
                    outcome => outcome.and_then(|answer| json_body(&answer)),
                }
            }
            _ => control(state, opcode, &body),
        };
    Outcome::Answer(respond(&header, outcome))
}

fn hello(state: &State, session: &mut ServerSession, body: &Bytes) -> Result<Bytes, WireError> {
    session.hello(&decode("hello", body)?)?;
    json_body(&HelloResponse {
        version: VERSION_MAX,
        node: Uuid::from_u128(1),
        rank: 0,
        shard: 0,
        shards: 1,
        endpoints: vec![vec![state.address().to_owned()]],
        limits: NodeLimits {
            frame_bytes_max: 64 << 20,
            batch_events_max: 1 << 16,
            fetch_bytes_max: state.fetch_bytes_max,
            subscriptions_max: 100,
            sequence_window: state.sequence_window,
        },
        heartbeat_ms: state.heartbeat_ms,
        features: vec![FEATURE_SOURCES.to_owned()],
        ring: None,
    })
}

fn subscribe(state: &mut State, connection: u64, request: SubscribeRequest) -> Result<Bytes, WireError> {
    let (next_event_id, visible_end) = state.subscribe(connection, request)?;
    json_body(&SubscribeResponse {
        next_event_id,
        visible_end,
    })
}

fn produce(
    state: &mut State,
    connection: u64,
    header: FrameHeader,
    partition: Uuid,
    batch: Batch,
) -> Outcome {
    let action = (state.on_produce)(partition, &batch);
    let outcome = match action {
        Action::Accept => state.store(partition, batch),
        Action::Refuse(code) => Err(refusal(code)),
        Action::DropBefore => return Outcome::Hang,
        Action::DropAfter => {
            state.store(partition, batch).ok();
            return Outcome::Hang;
        }
        Action::Swallow => {
            state.store(partition, batch).ok();
            return Outcome::Nothing;
        }
        Action::Hold => {
            state.held.push((connection, header, partition, batch));
            return Outcome::Nothing;
        }
    };
    Outcome::Answer(respond(&header, outcome.map(|stored| stored.encode())))
}

fn control(state: &mut State, opcode: Opcode, body: &Bytes) -> Result<Bytes, WireError> {
    let name = |body: &Bytes| decode::<TopicRequest>("request", body).map(|request| request.name);
    match opcode {
        Opcode::TopicCreate => json_body(&state.create_topic(decode("create", body)?)?),
        Opcode::TopicDescribe => json_body(state.topic(&name(body)?)?),
        Opcode::TopicList => json_body(&TopicListResponse {
            topics: state.topics().map(|topic| topic.summary()).collect(),
        }),
        Opcode::TopicDelete => {
            state.delete_topic(&name(body)?)?;
            json_body(&json!({}))
        }
        Opcode::TopicAlter => {
            let request: TopicAlterRequest = decode("alter", body)?;
            json_body(&state.alter_topic(request)?)
        }
        Opcode::TopicComplete => {
            state.complete(&name(body)?)?;
            json_body(&json!({}))
        }
        Opcode::PartitionAdd => {
            let request: PartitionAddRequest = decode("add", body)?;
            json_body(&state.add_partition(&request.topic)?)
        }
        Opcode::GroupLeave => json_body(&json!({})),
        Opcode::Seek => json_body(&SeekResponse { next_event_id: 7 }),
        Opcode::ConsumerList => json_body(&ConsumerListResponse { consumers: vec![] }),
        Opcode::Status => json_body(&NodeStatus {
            node: Uuid::from_u128(1),
            version: "test".into(),
            uptime_ms: 1,
            rank: 0,
            pid: 1,
            data_dir: "/".into(),
            direct_io: false,
            topics: 1,
            shards: vec![],
            monitoring: None,
            memory: MemoryStatus::default(),
        }),
        Opcode::Shutdown => json_body(&json!({})),
        other => Err(WireError::new(ErrorCode::UnknownOpcode, format!("{other:?}"))),
    }
}
