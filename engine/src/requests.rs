//! What each request does.

use std::rc::Rc;

use bytes::Bytes;
use mofka_log::{Batch, Durability, EventId, check_consumer_name};
use mofka_net::control::{
    ConsumerDeleteRequest, From, GroupSyncRequest, SeekRequest, SeekResponse, Selection, SubscribeRequest,
    SubscribeResponse,
};
use mofka_net::limits::{FEATURE_REFERENCES, FEATURE_SOURCES};
use mofka_net::{
    AcknowledgeRequest, AcknowledgeResponse, CreditRequest, ErrorCode, FetchRequest, FlushRequest,
    FrameHeader, Opcode, Pattern, ProduceRequest, ProduceResponse, WireError,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::enforcing::own_serializer;
use crate::errands;
use crate::intake::Request;
use crate::io::Io;
use crate::partition::{Appended, Partition, ReadLimits, Referral, is_reserved};
use crate::references;
use crate::ring;
use crate::session::Session;
use crate::shard::{Peers, ShardCall};
use crate::streams;
use crate::subscription::{Picking, Subscription, Terms};
use crate::uses::{self, Use};

/// What a request that waits for its answer takes beside its body, about: tasks, functions, places in queues.
const REQUEST_BYTES: u64 = 512;
/// The same of a fetch: the batch that it looks into, and what it reads ahead.
const FETCH_BYTES: u64 = 64 << 10;
/// What an item of a fetch takes beside what it selects: its descriptor, and its place in the answer.
const FETCH_ITEM_BYTES: u64 = 128;

/// Handles one request. Returns when the next one may be looked at; the answer may come later.
pub(crate) async fn handle<I: Io, P: Peers>(session: &Session<I, P>, request: Request) {
    let header = request.header;
    if let Ok(opcode) = Opcode::of(&header) {
        session.shard.measures().note_request(opcode);
    }
    let opcode = match Opcode::of(&header).and_then(|opcode| session.admit(opcode).map(|()| opcode)) {
        Ok(opcode) => opcode,
        Err(error) => return session.fail(header.request_id(), &error),
    };
    match opcode {
        Opcode::Hello => session.conclude(&header, hello(session, &request.body)),
        Opcode::Ping => session.answer(&header, Bytes::new()),
        Opcode::RingOpen => ring::open(session, &request).await,
        Opcode::Produce => produce(session, request).await,
        Opcode::Flush => flush(session, &request),
        Opcode::StreamOpen => streams::open(session, &request),
        Opcode::StreamPart => streams::part(session, request),
        Opcode::StreamCommit => streams::commit(session, request),
        Opcode::StreamAbort => streams::abort(session, &request),
        Opcode::Subscribe => match subscribe(session, &request.body).await {
            Ok((answer, subscription)) => {
                session.answer(&header, answer);
                subscription.begin(session.shard.io(), Rc::clone(&session.outbox));
            }
            Err(error) => session.fail(header.request_id(), &error),
        },
        Opcode::Unsubscribe => session.conclude(&header, unsubscribe(session, &request.body)),
        Opcode::Credit => {
            if let Err(error) = credit(session, &request.body) {
                session.fail(header.request_id(), &error);
            }
        }
        Opcode::Fetch => fetch(session, request),
        Opcode::Acknowledge => acknowledge(session, &request),
        Opcode::Seek => seek(session, &request).await,
        Opcode::ConsumerDelete => consumer_delete(session, &request),
        Opcode::Feed | Opcode::RingDetour => {
            let message = match opcode {
                Opcode::Feed => "feeds go from the server to the client",
                _ => "only a frame in shared memory can say that the next one comes over the socket",
            };
            let message = message.to_owned();
            session.fail(
                header.request_id(),
                &WireError::new(ErrorCode::UnknownOpcode, message),
            );
        }
        Opcode::GroupSync => match json::<GroupSyncRequest>(&request.body) {
            Ok(sync) => {
                session.joined();
                let call = ShardCall::GroupSync(session.id, Box::new(sync));
                group_sync(session, header, call);
            }
            Err(error) => session.fail(header.request_id(), &error),
        },
        _ => {
            let call = ShardCall::Control(opcode, request.body.to_vec());
            let answer = answer_later(session, header);
            let errand = (call, unanswered_bytes(&header));
            session
                .errands
                .add(&session.shard, &session.outbox, errand, answer);
        }
    }
}

/// After all that came in one read was handled: what was appended may be written.
pub(crate) fn burst_ended<I: Io, P: Peers>(session: &Session<I, P>) {
    for partition in session.take_touched() {
        partition.kick();
    }
}

fn hello<I: Io, P: Peers>(session: &Session<I, P>, body: &Bytes) -> Result<Bytes, WireError> {
    session.check_peer()?;
    let facts = session.shard.facts();
    let hello = json(body)?;
    let answer = session.state().hello(&hello)?;
    to_body(&crate::control::hello(
        &session.shard,
        facts,
        &session.limits,
        answer,
    ))
}

async fn produce<I: Io, P: Peers>(session: &Session<I, P>, request: Request) {
    let header = request.header;
    let bytes = header.body_bytes();
    let begun_us = session.arrived_us();
    let admitted = admit_produce(session, request.body);
    let (partition, batch, asked) = match admitted {
        Ok(admitted) => admitted,
        Err(error) => return session.fail(header.request_id(), &error),
    };
    while partition.is_congested() && !session.outbox.is_closed() {
        // Waiting for room here is what the producers of a slow partition feel.
        partition.kick();
        let listener = partition.listen();
        if partition.is_congested() {
            listener.await;
        }
    }
    session.begin(bytes);
    let referral = match prepare(session, &partition, &batch).await {
        Ok(referral) => referral,
        Err(error) => {
            session.end(bytes);
            partition.measures().refused_batches.add(1);
            return session.fail(header.request_id(), &error);
        }
    };
    let weak = session.me.clone();
    session.touch(&partition);
    let measures = Rc::clone(partition.measures());
    partition.append(
        batch,
        asked,
        Box::new(move |outcome| {
            drop(referral);
            measures.note_answer(outcome.is_ok());
            if let Some(session) = weak.upgrade() {
                if outcome.is_ok() {
                    measures
                        .produce
                        .record(session.shard.io().monotonic_us().saturating_sub(begun_us));
                }
                session.end(bytes);
                match outcome {
                    Ok(done) => session.answer_briefly(&header, &produced(done).to_bytes()),
                    Err(error) => session.fail(header.request_id(), &error),
                }
            }
        }),
    );
}

/// What must be durable before some batches are accepted. The answer is to be kept until the batch was accepted or refused.
async fn prepare<I: Io, P: Peers>(
    session: &Session<I, P>,
    partition: &Rc<Partition<I>>,
    batch: &Batch,
) -> Result<Option<Referral<I>>, WireError> {
    if batch.covers_source() {
        uses::ensure(&session.shard, partition, Use::Sources).await?;
    }
    if !batch.has_references() {
        return Ok(None);
    }
    // What is waited for here may be what this connection appended just now.
    burst_ended(session);
    let admitted = references::admit(&session.shard, partition, batch).await?;
    Ok(Some(admitted))
}

pub(crate) fn appended(appended: Appended) -> Bytes {
    produced(appended).encode()
}

fn produced(appended: Appended) -> ProduceResponse {
    ProduceResponse {
        base_event_id: appended.base_event_id,
        event_count: appended.event_count,
        duplicate: appended.duplicate,
    }
}

type Produced<I> = (Rc<Partition<I>>, Batch, Option<Durability>);

fn admit_produce<I: Io, P: Peers>(session: &Session<I, P>, body: Bytes) -> Result<Produced<I>, WireError> {
    let produce = ProduceRequest::check(body)?;
    let partition = session.shard.partition(produce.partition)?;
    let batch = Batch::check_client_rest(produce.header, produce.frame, produce.data).map_err(|error| {
        let code = if error.is_checksum() {
            ErrorCode::BadChecksum
        } else {
            ErrorCode::Malformed
        };
        WireError::new(
            code,
            format!("the batch for partition {}: {error}", produce.partition),
        )
    })?;
    partition.validate(&batch)?;
    let events_max = session.limits.batch_events_max;
    if batch.event_count() > events_max {
        let message = format!(
            "a batch of {} events is more than this node takes ({events_max})",
            batch.event_count()
        );
        return Err(WireError::new(ErrorCode::TooLarge, message));
    }
    Ok((partition, batch, produce.durability))
}

fn flush<I: Io, P: Peers>(session: &Session<I, P>, request: &Request) {
    let header = request.header;
    let partition = FlushRequest::check(&request.body).map_err(WireError::from);
    let partition = match partition.and_then(|flush| session.shard.partition(flush.partition)) {
        Ok(partition) => partition,
        Err(error) => return session.fail(header.request_id(), &error),
    };
    let answer = answer_later(session, header);
    partition.barrier(Box::new(move |outcome| answer(outcome.map(|_| Bytes::new()))));
}

/// What a request takes until it is answered.
fn unanswered_bytes(header: &FrameHeader) -> u64 {
    header.body_bytes() + REQUEST_BYTES
}

/// Answers a request when it is called. Until then what the request takes counts as unanswered.
fn answer_later<I: Io, P: Peers>(
    session: &Session<I, P>,
    header: FrameHeader,
) -> impl FnOnce(Result<Bytes, WireError>) + use<I, P> {
    let bytes = unanswered_bytes(&header);
    session.begin(bytes);
    let weak = session.me.clone();
    move |outcome| {
        if let Some(session) = weak.upgrade() {
            session.end(bytes);
            session.conclude(&header, outcome);
        }
    }
}

type Subscribed<I> = (Bytes, Rc<Subscription<I>>);

async fn subscribe<I: Io, P: Peers>(
    session: &Session<I, P>,
    body: &Bytes,
) -> Result<Subscribed<I>, WireError> {
    let request: SubscribeRequest = json(body)?;
    check_consumer(&request.consumer)?;
    let limits = session.limits;
    let known = session.subscriptions.borrow().len();
    if session.subscriptions.borrow().contains_key(&request.subscription) {
        let message = format!("subscription {} exists on this connection", request.subscription);
        return Err(WireError::new(ErrorCode::InvalidArgument, message));
    }
    if known >= limits.subscriptions_max {
        let message = format!("this connection has {known} subscriptions, which is the limit");
        return Err(WireError::new(ErrorCode::Overloaded, message));
    }
    let partition = session.shard.partition(request.partition)?;
    let start = match request.from {
        From::Cursor => partition
            .cursor(&request.consumer)
            .unwrap_or_else(|| partition.trim_end()),
        From::First => partition.trim_end(),
        From::Last => partition.visible_end(),
        From::Id(id) => EventId::new(id),
        From::Time(timestamp_us) => partition.find_time(timestamp_us).await?,
    };
    let picking = picking(&partition, request.filter.as_ref(), request.selection.clone())?;
    let bytes_max = u64::from(request.batch_bytes_max).clamp(1, limits.frame_bytes_max / 2);
    // One after the other: each borrows the state.
    let knows_references = session.state().has(FEATURE_REFERENCES);
    let knows_sources = session.state().has(FEATURE_SOURCES);
    let terms = Terms {
        id: request.subscription,
        consumer: request.consumer,
        member: request.member,
        start,
        limits: ReadLimits {
            events_max: u64::from(request.batch_events_max.max(1)),
            bytes_max,
            // What is picked brings its own data along.
            with_data: picking.is_none() && request.selection == Selection::All,
        },
        credits: request.credits,
        picking,
        knows_references,
        knows_sources,
    };
    let response = SubscribeResponse {
        next_event_id: start.get(),
        visible_end: partition.visible_end().get(),
    };
    let answer = to_body(&response)?;
    let subscription = Subscription::new(partition, terms)?;
    session
        .subscriptions
        .borrow_mut()
        .insert(request.subscription, Rc::clone(&subscription));
    Ok((answer, subscription))
}

/// What of a partition's events a subscription wants.
fn picking<I: Io>(
    partition: &Partition<I>,
    filter: Option<&Value>,
    selection: Selection,
) -> Result<Option<Picking>, WireError> {
    let invalid = |message: String| WireError::new(ErrorCode::InvalidArgument, message);
    if let Selection::Views(recipe) = &selection {
        recipe.check().map_err(|error| invalid(error.to_string()))?;
    }
    let filter = filter.map(Pattern::parse).transpose();
    let filter = filter.map_err(|error| invalid(format!("the filter: {error}")))?;
    let topic = &partition.spec().topic;
    if let (Some(_), Some(serializer)) = (&filter, own_serializer(topic)) {
        return Err(invalid(format!(
            "topic \"{}\" has a serializer of type \"{serializer}\", so its metadata cannot be read here: filter at the consumer",
            topic.name
        )));
    }
    Ok(Picking::new(filter, selection))
}

fn unsubscribe<I: Io, P: Peers>(session: &Session<I, P>, body: &Bytes) -> Result<Bytes, WireError> {
    let request: mofka_net::control::UnsubscribeRequest = json(body)?;
    let subscription = session.subscription(request.subscription)?;
    subscription.close();
    session.subscriptions.borrow_mut().remove(&request.subscription);
    Ok(Bytes::new())
}

fn credit<I: Io, P: Peers>(session: &Session<I, P>, body: &Bytes) -> Result<(), WireError> {
    let credit = CreditRequest::check(body)?;
    match session.subscription(credit.subscription) {
        Ok(subscription) => subscription.grant(credit.credits),
        // It may have ended while the credit was on its way.
        Err(_) => Ok(()),
    }
}

fn fetch<I: Io, P: Peers>(session: &Session<I, P>, request: Request) {
    let header = request.header;
    let begun = (|| {
        let fetch = FetchRequest::check(request.body)?;
        let partition = session.shard.partition(fetch.partition)?;
        Ok((partition, fetch))
    })();
    let (partition, fetch) = match begun {
        Ok(begun) => begun,
        Err(error) => return session.fail(header.request_id(), &error),
    };
    let bytes_max = session.limits.frame_bytes_max / 2;
    let selected_bytes = fetch
        .items
        .iter()
        .map(|item| item.bytes())
        .fold(0_u64, u64::saturating_add);
    let items_bytes = fetch.items.len() as u64 * FETCH_ITEM_BYTES;
    let cost = selected_bytes.min(bytes_max) + header.body_bytes() + items_bytes + FETCH_BYTES;
    session.begin(cost);
    let (weak, shard) = (session.me.clone(), Rc::clone(&session.shard));
    let begun_us = shard.io().monotonic_us();
    session.shard.io().spawn(async move {
        let response = references::fetch(&shard, &partition, &fetch.items, bytes_max).await;
        let pieces = response.encode();
        let data_bytes = pieces.iter().skip(1).map(|piece| piece.len() as u64).sum();
        let took_us = shard.io().monotonic_us().saturating_sub(begun_us);
        partition
            .measures()
            .note_fetch(fetch.items.len(), data_bytes, took_us);
        if let Some(session) = weak.upgrade() {
            session.end(cost);
            let body_bytes = pieces.iter().map(|piece| piece.len() as u64).sum();
            let first = FrameHeader::self_checked_response(&header, body_bytes);
            let first = Bytes::copy_from_slice(&first);
            session.outbox.push(std::iter::once(first).chain(pieces));
        }
    });
}

fn acknowledge<I: Io, P: Peers>(session: &Session<I, P>, request: &Request) {
    let header = request.header;
    let begun = (|| {
        let ack = AcknowledgeRequest::check(&request.body)?;
        check_consumer(&ack.consumer)?;
        let partition = session.shard.partition(ack.partition)?;
        if ack.next_event_id > partition.visible_end() {
            let message = format!(
                "cannot acknowledge up to {}: the partition's visible events end at {}",
                ack.next_event_id,
                partition.visible_end()
            );
            return Err(WireError::new(ErrorCode::InvalidArgument, message));
        }
        Ok((partition, ack))
    })();
    match begun {
        Err(error) => session.fail(header.request_id(), &error),
        Ok((partition, ack)) => {
            let answer = answer_later(session, header);
            partition.acknowledge(
                &ack.consumer,
                ack.next_event_id,
                Box::new(move |outcome| {
                    answer(outcome.map(|next_event_id| AcknowledgeResponse { next_event_id }.encode()));
                }),
            );
        }
    }
}

async fn seek<I: Io, P: Peers>(session: &Session<I, P>, request: &Request) {
    let header = request.header;
    let begun = async {
        let seek: SeekRequest = json(&request.body)?;
        check_consumer(&seek.consumer)?;
        let partition = session.shard.partition(seek.partition)?;
        let to = match seek.to {
            From::First => partition.trim_end(),
            From::Last => partition.visible_end(),
            From::Id(id) => EventId::new(id),
            From::Time(timestamp_us) => partition.find_time(timestamp_us).await?,
            From::Cursor => {
                let message =
                    "a seek goes to \"first\", \"last\", {\"id\": n} or {\"time\": microseconds}".to_owned();
                return Err(WireError::new(ErrorCode::InvalidArgument, message));
            }
        };
        if to > partition.visible_end() {
            let message = format!(
                "cannot seek to {to}: the visible events end at {}",
                partition.visible_end()
            );
            return Err(WireError::new(ErrorCode::InvalidArgument, message));
        }
        Ok((partition, seek.consumer, to))
    };
    let begun = begun.await;
    match begun {
        Err(error) => session.fail(header.request_id(), &error),
        Ok((partition, consumer, to)) => {
            let answer = answer_later(session, header);
            partition.seek(
                &consumer,
                to,
                Box::new(move |outcome| {
                    answer(outcome.and_then(|next| {
                        to_body(&SeekResponse {
                            next_event_id: next.get(),
                        })
                    }));
                }),
            );
        }
    }
}

fn consumer_delete<I: Io, P: Peers>(session: &Session<I, P>, request: &Request) {
    let header = request.header;
    let begun = || {
        let delete: ConsumerDeleteRequest = json(&request.body)?;
        check_consumer(&delete.consumer)?;
        let partition = session.shard.partition(delete.partition)?;
        let reading = partition.connected(&delete.consumer);
        if reading > 0 {
            let message = format!(
                "consumer \"{}\" reads the partition now ({reading} subscriptions): stop it first, since what it \
                 acknowledges would bring its cursor back",
                delete.consumer
            );
            return Err(WireError::new(ErrorCode::InvalidArgument, message));
        }
        Ok((partition, delete.consumer))
    };
    match begun() {
        Err(error) => session.fail(header.request_id(), &error),
        Ok((partition, consumer)) => {
            let answer = answer_later(session, header);
            partition.forget(
                &consumer,
                Box::new(move |outcome| answer(outcome.and_then(|_| to_body(&serde_json::json!({}))))),
            );
        }
    }
}

/// What a consumer is to read. It may wait for news, and so holds nothing else up; a member has one such question at a time.
fn group_sync<I: Io, P: Peers>(session: &Session<I, P>, header: FrameHeader, call: ShardCall) {
    let answer = answer_later(session, header);
    let shard = Rc::clone(&session.shard);
    session
        .shard
        .io()
        .spawn(async move { answer(errands::ask_home(&shard, call).await) });
}

pub(crate) fn check_consumer(name: &str) -> Result<(), WireError> {
    check_consumer_name(name).map_err(|error| WireError::new(ErrorCode::InvalidName, error.to_string()))?;
    if is_reserved(name) {
        let message = "a consumer's name does not start with a zero byte".to_owned();
        return Err(WireError::new(ErrorCode::InvalidName, message));
    }
    Ok(())
}

/// Reads a JSON body.
pub(crate) fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, WireError> {
    Ok(mofka_net::control::decode("request", body)?)
}

/// Writes a JSON body.
pub(crate) fn to_body<T: Serialize>(value: &T) -> Result<Bytes, WireError> {
    Ok(Bytes::from(mofka_net::control::encode("answer", value)?))
}
