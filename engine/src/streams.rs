//! Requests about events whose data comes in parts. The streams themselves: `partition/uploads.rs`.

use std::rc::Rc;

use bytes::Bytes;
use mofka_log::{BatchHeader, EVENT_DATA_BYTES_MAX, PIECE_BYTES};
use mofka_net::control::{StreamAbortRequest, StreamOpenRequest, StreamOpenResponse};
use mofka_net::limits::STREAM_PART_BYTES_MAX;
use mofka_net::{
    ErrorCode, FRAME_HEADER_BYTES, STREAM_PREFIX_BYTES, StreamCommit, StreamPart, StreamPartResponse,
    WireError,
};

use crate::intake::Request;
use crate::io::Io;
use crate::requests::{appended, json, to_body};
use crate::session::Session;
use crate::shard::Peers;
use crate::uses::{self, Use};

/// Bytes of parts that one stream may have unanswered.
const WINDOW_BYTES: u64 = 8 << 20;

/// Begins a stream.
pub(crate) fn open<I: Io, P: Peers>(session: &Session<I, P>, request: &Request) {
    let header = request.header;
    let partition = json::<StreamOpenRequest>(&request.body)
        .and_then(|open| session.shard.partition(open.partition))
        .and_then(|partition| {
            let most = session.shard.limits().connection_streams_max;
            // Those that are about to be open count, too: requests come many at once.
            if session.streams.borrow().len() + session.streams_opening.get() < most {
                return Ok(partition);
            }
            let message = format!(
                "this connection has {most} streams open, which is the limit (`connection_streams_max`)"
            );
            Err(WireError::new(ErrorCode::Overloaded, message))
        });
    let partition = match partition {
        Ok(partition) => partition,
        Err(error) => return session.fail(header.request_id(), &error),
    };
    let weak = session.me.clone();
    let frame_bytes_max = session.limits.frame_bytes_max;
    let inflight_bytes_max = session.shard.limits().connection_inflight_bytes_max;
    let opening = &session.streams_opening;
    opening.set(opening.get() + 1);
    session.shard.io().spawn(async move {
        let begun = partition.begin_upload().await;
        let session = weak.upgrade();
        if let Some(session) = &session {
            let opening = &session.streams_opening;
            opening.set(opening.get() - 1);
        }
        let session = session.filter(|session| !session.outbox.is_closed());
        let (session, upload) = match (session, begun) {
            (Some(session), Ok(upload)) => (session, upload),
            (Some(session), Err(error)) => return session.fail(header.request_id(), &error),
            (None, Ok(upload)) => return partition.abort_upload(upload.stream()).await,
            (None, Err(_)) => return,
        };
        let stream = upload.stream();
        session.streams.borrow_mut().insert(stream, (partition, upload));
        let frame_bytes_max =
            frame_bytes_max.saturating_sub((FRAME_HEADER_BYTES + STREAM_PREFIX_BYTES) as u64);
        let piece_bytes = PIECE_BYTES as u64;
        let answer = StreamOpenResponse {
            stream,
            part_bytes_max: STREAM_PART_BYTES_MAX.min(frame_bytes_max / piece_bytes * piece_bytes),
            window_bytes: WINDOW_BYTES.min(inflight_bytes_max),
            data_bytes_max: EVENT_DATA_BYTES_MAX,
        };
        session.conclude(&header, to_body(&answer));
    });
}

/// The next part: answered when it is written.
pub(crate) fn part<I: Io, P: Peers>(session: &Session<I, P>, request: Request) {
    let (header, bytes) = (request.header, request.header.body_bytes());
    let begun = StreamPart::check(request.body)
        .map_err(WireError::from)
        .and_then(|part| {
            let StreamPart { prefix, data } = part;
            let known = session.streams.borrow().get(&prefix.stream).cloned();
            let (_, upload) = known.ok_or_else(|| not_here(prefix.stream))?;
            upload.write(prefix.offset, data)
        });
    let written = match begun {
        Ok(written) => written,
        Err(error) => return session.fail(header.request_id(), &error),
    };
    session.begin(bytes);
    let weak = session.me.clone();
    session.shard.io().spawn(async move {
        let outcome = written.await;
        if let Some(session) = weak.upgrade() {
            session.end(bytes);
            session.conclude(&header, outcome.map(|end| StreamPartResponse { end }.encode()));
        }
    });
}

/// Makes the event. Goes on when the connection ends.
pub(crate) fn commit<I: Io, P: Peers>(session: &Session<I, P>, request: Request) {
    let (header, bytes) = (request.header, request.header.body_bytes());
    let begun_us = session.shard.io().monotonic_us();
    let begun = StreamCommit::check(request.body)
        .map_err(WireError::from)
        .and_then(|commit| {
            let partition = session.shard.partition(commit.produce.partition)?;
            let stream = commit.prefix.stream;
            let mut streams = session.streams.borrow_mut();
            if let Some((own, _)) = streams.get(&stream)
                && !Rc::ptr_eq(own, &partition)
            {
                let message = format!(
                    "stream {stream} was opened for partition {}, and {} is another",
                    own.spec().record.id,
                    partition.spec().record.id
                );
                return Err(WireError::new(ErrorCode::InvalidArgument, message));
            }
            streams.remove(&stream);
            drop(streams);
            Ok((partition, commit))
        });
    let (partition, commit) = match begun {
        Ok(begun) => begun,
        Err(error) => return session.fail(header.request_id(), &error),
    };
    session.begin(bytes);
    let weak = session.me.clone();
    let shard = Rc::clone(&session.shard);
    session.shard.io().spawn(async move {
        let StreamCommit { prefix, produce } = commit;
        let committed = async {
            if covers_source(&produce.frame)
                && let Err(error) = uses::ensure(&shard, &partition, Use::Sources).await
            {
                // Nobody knows of it any more.
                partition.abort_upload(prefix.stream).await;
                return Err(error);
            }
            partition
                .commit_upload(prefix.stream, prefix.offset, produce.frame, produce.durability)
                .await
        };
        let outcome = Box::pin(committed).await;
        let measures = partition.measures();
        measures.note_answer(outcome.is_ok());
        if outcome.is_ok() {
            measures
                .produce
                .record(partition.io().monotonic_us().saturating_sub(begun_us));
        }
        if let Some(session) = weak.upgrade() {
            session.end(bytes);
            session.conclude(&header, outcome.map(appended));
        }
    });
}

/// What is no header covers nothing: it is refused for what it is.
fn covers_source(frame: &[u8]) -> bool {
    BatchHeader::check(frame).is_ok_and(|header| header.covers_source())
}

/// Gives a stream up.
pub(crate) fn abort<I: Io, P: Peers>(session: &Session<I, P>, request: &Request) {
    let header = request.header;
    let stream = match json::<StreamAbortRequest>(&request.body) {
        Ok(abort) => abort.stream,
        Err(error) => return session.fail(header.request_id(), &error),
    };
    let known = session.streams.borrow_mut().remove(&stream);
    let Some((partition, _)) = known else {
        return session.fail(header.request_id(), &not_here(stream));
    };
    let me = session.me.clone();
    session.shard.io().spawn(async move {
        partition.abort_upload(stream).await;
        if let Some(session) = me.upgrade() {
            session.answer(&header, Bytes::new());
        }
    });
}

fn not_here(stream: u64) -> WireError {
    let message =
        format!("there is no stream {stream} on this connection: open one, and send all of it over the same");
    WireError::new(ErrorCode::UnknownStream, message)
}
