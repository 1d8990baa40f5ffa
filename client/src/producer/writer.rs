//! One event's data written in pieces: with bounded memory, however much there is.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Read, Write};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use mofka_log::{BatchPlace, Durability, EventId, StreamedData};
use mofka_net::control::{StreamAbortRequest, StreamOpenRequest, StreamOpenResponse, decode, encode};
use mofka_net::{
    ErrorCode, FRAME_HEADER_BYTES, FrameHeader, Opcode, ProducePrefix, ProduceResponse, STREAM_PREFIX_BYTES,
    StreamPartResponse, StreamPrefix, WireError,
};

use super::Shared;
use super::batch::{random_producer, refusal};
use crate::driver::Repeat;
use crate::error::{DeliveryError, DriverError, StreamError};
use crate::link::{Answer, Connection};
use crate::promise::{Deadline, Promise};
use crate::retry::Retry;
use crate::route::{Route, RouteError};

/// Bytes of a part, unless the node takes fewer.
const PART_BYTES: u64 = 1 << 20;

/// Writes the data of one event to the node as it comes. What is in memory or on its way is at most the node's window (8 MiB)
/// and one part (1 MiB).
///
/// The event exists when [`DataWriter::finish`] says so, and not before: a writer that is dropped leaves nothing at the node. After
/// an error there is nothing more to do with it; its writes fail with the same error again.
///
/// - `ConnectionAborted`: the connection was lost. Nothing of it is or will be stored; all data has to be written again, with a
///   new writer. There is no way to go on in the middle.
/// - `TimedOut`: the node took nothing for [`ProducerOptions::delivery_timeout`](crate::ProducerOptions::delivery_timeout). As above.
/// - `StorageFull`: the node's device is full.
pub struct DataWriter {
    shared: Arc<Shared>,
    route: Arc<Route>,
    connection: Arc<Connection>,
    stream: StreamOpenResponse,
    /// As the topic's serializer made it.
    metadata: Bytes,
    data: StreamedData,
    /// What is not a whole part yet.
    gathered: BytesMut,
    part_bytes: usize,
    in_flight: VecDeque<Asked>,
    /// Why nothing more can be written.
    failed: Option<Trouble>,
    /// Nothing has to be given up at the node: it is done, or the node knows nothing of it any more.
    is_over: bool,
    /// Among those of its producer: it is one of its own, unless that has a source.
    place: BatchPlace,
}

/// A part that is on its way.
struct Asked {
    bytes: u64,
    end: u64,
    answer: Arc<Promise<Answer>>,
}

impl DataWriter {
    /// Opens a stream at the node that has the partition.
    pub(super) fn open(shared: Arc<Shared>, route: Route, metadata: Bytes) -> Result<Self, StreamError> {
        let (connection, stream) = shared.driver.with_retry(Repeat::Yes, || open_stream(&route))?;
        let part_bytes = PART_BYTES.min(stream.part_bytes_max);
        let piece_bytes = mofka_log::PIECE_BYTES as u64;
        if part_bytes < piece_bytes || !part_bytes.is_multiple_of(piece_bytes) {
            let reason = format!(
                "the node takes parts of {} bytes, which are no whole pieces",
                stream.part_bytes_max
            );
            return Err(DriverError::Invalid(reason).into());
        }
        Ok(Self {
            shared,
            route: Arc::new(route),
            connection,
            stream,
            metadata,
            data: StreamedData::new(),
            gathered: BytesMut::new(),
            // A part has at most 1 MiB.
            part_bytes: usize::try_from(part_bytes).unwrap_or(mofka_log::PIECE_BYTES),
            in_flight: VecDeque::new(),
            failed: None,
            is_over: false,
            place: (random_producer(), 0, 0).into(),
        })
    }

    /// The same event with a place in its producer's source.
    pub(super) fn placed(mut self, place: BatchPlace) -> Self {
        self.place = place;
        self
    }

    /// Bytes that were written so far.
    pub fn data_bytes(&self) -> u64 {
        self.data.bytes()
    }

    /// Makes the event of what was written, and waits until it is as durable as asked. When the connection is lost meanwhile,
    /// this is tried again within the driver's reconnect timeout: the node recognizes the event if it has it. None of this takes
    /// longer than [`ProducerOptions::delivery_timeout`](crate::ProducerOptions::delivery_timeout), from this call on.
    ///
    /// # Errors
    /// When a part was not written, or the node does not take the event. Nothing of it is stored then, unless the error says
    /// that it may be.
    pub fn finish(mut self) -> Result<EventId, DeliveryError> {
        self.shared.counters.pushed();
        let outcome = self.complete();
        match &outcome {
            Ok(_) => self.shared.counters.acknowledged(1),
            Err(error) => self.shared.counters.failed(1, error),
        }
        outcome
    }

    fn complete(&mut self) -> Result<EventId, DeliveryError> {
        self.check_process()
            .map_err(|pid| DeliveryError::Forked { pid })?;
        if let Some(trouble) = self.failed.clone() {
            return Err(trouble.delivery());
        }
        let patience = self.patience();
        let finished = self.send_gathered(patience).and_then(|()| {
            while !self.in_flight.is_empty() {
                self.take_answer(patience)?;
            }
            Ok(())
        });
        finished.map_err(|trouble| trouble.delivery())?;
        let data = std::mem::take(&mut self.data);
        let (bytes, place) = (data.bytes(), Some(self.place));
        let refused = |error: mofka_log::BatchError| {
            DeliveryError::Refused(Arc::new(WireError::new(ErrorCode::TooLarge, error.to_string())))
        };
        let frame = data.frame_at(&self.metadata, place).map_err(refused)?;
        self.shared.counters.gathered(self.metadata.len() as u64 + bytes);
        self.shared.counters.sent(false);
        let prefix = StreamPrefix {
            stream: self.stream.stream,
            offset: bytes,
        };
        let body = commit_body(
            &prefix,
            self.route.partition(),
            self.shared.options.durability,
            &frame,
        );
        let committed = self.commit(&body, patience);
        // Whatever came of it, the node has no stream any more, or will not have it when it notices that we are gone.
        self.is_over = true;
        committed
    }

    fn commit(&self, body: &Bytes, patience: Patience) -> Result<EventId, DeliveryError> {
        let mut retry = Retry::new(self.shared.driver.reconnect_timeout());
        let mut connection = Some(Arc::clone(&self.connection));
        let mut may_be_stored = false;
        loop {
            let attempt = match connection.take() {
                Some(connection) => Ok(connection),
                None => self.establish(patience),
            };
            let reason = match attempt {
                Err(RouteError::Gone(reason)) => return Err(DeliveryError::Gone(reason.into())),
                Err(RouteError::Away(reason)) => reason,
                Ok(connection) => {
                    match connection.call(Opcode::StreamCommit, body.clone(), patience.deadline) {
                        Answer::Response(answer) => match ProduceResponse::check(answer) {
                            Ok(accepted) => return Ok(accepted.base_event_id),
                            Err(error) => return Err(DeliveryError::InDoubt(Arc::new(error.into()))),
                        },
                        Answer::Lost(lost) => {
                            self.route.lost();
                            may_be_stored = true;
                            lost.to_string()
                        }
                        Answer::Refused(error) if is_worth_another_try(error.code) => {
                            if error.code == ErrorCode::NotOwner {
                                self.route.moved(&error);
                            }
                            error.to_string()
                        }
                        Answer::Refused(error) => {
                            // The device may have failed at it.
                            let is_in_doubt = may_be_stored || error.code == ErrorCode::Poisoned;
                            return Err(refusal(Arc::new(error), is_in_doubt));
                        }
                    }
                }
            };
            if patience.deadline.is_over() {
                return Err(patience.is_over(may_be_stored));
            }
            let Some(pause) = retry.pause() else {
                return Err(DeliveryError::Unreachable {
                    waited: retry.waited(),
                    may_be_stored,
                    reason: reason.into(),
                });
            };
            std::thread::sleep(patience.deadline.left().map_or(pause, |left| pause.min(left)));
            self.shared.counters.sent(true);
        }
    }

    /// How long this call may take.
    fn patience(&self) -> Patience {
        let timeout = self.shared.options.delivery_timeout;
        Patience {
            since: Instant::now(),
            deadline: timeout.map_or(Deadline::Never, Deadline::after),
        }
    }

    /// A connection to the partition's shard, also no later than that.
    fn establish(&self, patience: Patience) -> Result<Arc<Connection>, RouteError> {
        let Some(left) = patience.deadline.left() else {
            return self.route.establish();
        };
        let (give, take) = mpsc::sync_channel(1);
        let route = Arc::clone(&self.route);
        self.shared.driver.chores.after(Duration::ZERO, move || {
            // Nobody may be waiting any more.
            give.send(route.establish()).ok();
        });
        let late = |_| Err(RouteError::Away("no connection came in time".to_owned()));
        take.recv_timeout(left).unwrap_or_else(late)
    }

    fn check_process(&self) -> Result<(), u32> {
        self.shared.driver.check_process()
    }

    /// Sends what gathered, when there is anything.
    fn send_gathered(&mut self, patience: Patience) -> Result<(), Trouble> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        let data = self.gathered.split().freeze();
        let bytes = data.len() as u64;
        while self.in_flight_bytes() + bytes > self.stream.window_bytes.max(bytes) {
            self.take_answer(patience)?;
        }
        let end = self.data.bytes();
        let prefix = StreamPrefix {
            stream: self.stream.stream,
            offset: end - bytes,
        };
        let id = self.connection.fresh_id();
        let body_bytes = STREAM_PREFIX_BYTES as u64 + bytes;
        let mut first = BytesMut::with_capacity(FRAME_HEADER_BYTES + STREAM_PREFIX_BYTES);
        first.extend_from_slice(&FrameHeader::self_checked(Opcode::StreamPart, id, body_bytes));
        first.extend_from_slice(&prefix.encode());
        let answer = Arc::new(Promise::new());
        let setter = Arc::clone(&answer);
        let sent = self
            .connection
            .request_frame(id, [first.freeze(), data], move |answer| setter.set(answer));
        sent.map_err(|lost| Trouble::Lost(lost.reason))?;
        self.in_flight.push_back(Asked { bytes, end, answer });
        Ok(())
    }

    fn in_flight_bytes(&self) -> u64 {
        self.in_flight.iter().map(|asked| asked.bytes).sum()
    }

    /// Waits for the answer to the oldest part.
    fn take_answer(&mut self, patience: Patience) -> Result<(), Trouble> {
        let Some(asked) = self.in_flight.pop_front() else {
            return Ok(());
        };
        self.connection
            .drive(|| asked.answer.get().is_some() || patience.deadline.is_over());
        match asked.answer.wait(patience.deadline) {
            Some(Answer::Response(body)) => match StreamPartResponse::check(body.clone()) {
                Ok(answer) if answer.end == asked.end => Ok(()),
                Ok(answer) => Err(Trouble::Lost(
                    format!(
                        "a part that ends at {} was answered as if at {}",
                        asked.end, answer.end
                    )
                    .into(),
                )),
                Err(error) => Err(Trouble::Lost(error.to_string().into())),
            },
            Some(Answer::Refused(error)) => Err(Trouble::Refused(error.clone())),
            Some(Answer::Lost(lost)) => Err(Trouble::Lost(Arc::clone(&lost.reason))),
            None => Err(Trouble::TimedOut(patience.since.elapsed())),
        }
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), Trouble> {
        let end = self.data.bytes().saturating_add(bytes.len() as u64);
        if end > self.stream.data_bytes_max {
            let message = format!(
                "{end} bytes of data in one event are more than the {} that the node takes",
                self.stream.data_bytes_max
            );
            return Err(Trouble::Refused(WireError::new(ErrorCode::TooLarge, message)));
        }
        let too_large = |error: mofka_log::BatchError| {
            Trouble::Refused(WireError::new(ErrorCode::TooLarge, error.to_string()))
        };
        self.gathered.reserve(bytes.len().min(self.part_bytes));
        self.gathered.extend_from_slice(bytes);
        self.data.push(bytes).map_err(too_large)?;
        match self.gathered.len() {
            full if full == self.part_bytes => self.send_gathered(self.patience()),
            _ => Ok(()),
        }
    }
}

impl Write for DataWriter {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        if let Err(pid) = self.check_process() {
            let message =
                format!("this writer was made by process {pid}: after a fork, connect again in the child");
            return Err(io::Error::other(message));
        }
        if let Some(trouble) = &self.failed {
            return Err(trouble.io(&self.to_string()));
        }
        let bytes = buffer.len().min(self.part_bytes - self.gathered.len());
        let (now, _) = buffer.split_at(bytes);
        match self.take(now) {
            Ok(()) => Ok(bytes),
            Err(trouble) => {
                self.give_up();
                let trouble = self.failed.insert(trouble).clone();
                Err(trouble.io(&self.to_string()))
            }
        }
    }

    /// Does nothing: parts go when they are whole, and only [`DataWriter::finish`] makes anything durable.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl DataWriter {
    /// Writes all that `from` gives.
    pub(super) fn copy(&mut self, from: &mut impl Read) -> io::Result<u64> {
        let mut buffer = vec![0; self.part_bytes];
        let mut copied = 0;
        loop {
            let bytes = match from.read(&mut buffer) {
                Ok(0) => return Ok(copied),
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let (now, _) = buffer.split_at(bytes);
            self.write_all(now)?;
            copied += bytes as u64;
        }
    }

    /// The node need not keep what it has. Its answer is not waited for; on a dead connection there is nothing to say.
    fn give_up(&mut self) {
        if std::mem::replace(&mut self.is_over, true) || self.check_process().is_err() {
            return;
        }
        let request = StreamAbortRequest {
            stream: self.stream.stream,
        };
        if let Ok(body) = encode("stream_abort", &request) {
            self.connection
                .request(Opcode::StreamAbort, body.into(), |_| ())
                .ok();
        }
    }
}

impl Drop for DataWriter {
    fn drop(&mut self) {
        self.give_up();
    }
}

impl fmt::Display for DataWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "stream {} to partition {} (after {} bytes)",
            self.stream.stream,
            self.route.partition(),
            self.data.bytes()
        )
    }
}

impl fmt::Debug for DataWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DataWriter({self})")
    }
}

/// How long a call may take.
#[derive(Clone, Copy)]
struct Patience {
    since: Instant,
    deadline: Deadline,
}

impl Patience {
    fn is_over(&self, may_be_stored: bool) -> DeliveryError {
        DeliveryError::TimedOut {
            waited: self.since.elapsed(),
            may_be_stored,
        }
    }
}

/// Why a part is not written.
#[derive(Clone)]
enum Trouble {
    Lost(Arc<str>),
    Refused(WireError),
    TimedOut(Duration),
}

/// What to do when it can be tried again.
const WRITE_AGAIN: &str = "nothing of it is stored; write all of it again, with a new writer";

impl Trouble {
    fn io(&self, what: &str) -> io::Error {
        let (kind, reason) = match self {
            Self::Lost(reason) => (
                io::ErrorKind::ConnectionAborted,
                format!("the connection was lost ({reason}); {WRITE_AGAIN}"),
            ),
            Self::TimedOut(waited) => (
                io::ErrorKind::TimedOut,
                format!("the node took nothing for {waited:.1?}; {WRITE_AGAIN}"),
            ),
            Self::Refused(error) => {
                let kind = match error.code {
                    ErrorCode::NoSpace => io::ErrorKind::StorageFull,
                    ErrorCode::TooLarge => io::ErrorKind::FileTooLarge,
                    _ => io::ErrorKind::Other,
                };
                (kind, error.to_string())
            }
        };
        io::Error::new(kind, format!("{what}: {reason}"))
    }

    fn delivery(&self) -> DeliveryError {
        match self {
            Self::Lost(reason) => DeliveryError::Unreachable {
                waited: Duration::ZERO,
                may_be_stored: false,
                reason: Arc::clone(reason),
            },
            Self::Refused(error) => DeliveryError::Refused(Arc::new(error.clone())),
            Self::TimedOut(waited) => DeliveryError::TimedOut {
                waited: *waited,
                may_be_stored: false,
            },
        }
    }
}

/// A stream that failed for want of space is gone: only what refuses before it is looked at can be tried again.
fn is_worth_another_try(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::NotOwner)
}

fn commit_body(
    prefix: &StreamPrefix,
    partition: uuid::Uuid,
    durability: Option<Durability>,
    frame: &[u8],
) -> Bytes {
    let produce = ProducePrefix {
        partition,
        durability,
    };
    [&prefix.encode()[..], &produce.encode(), frame].concat().into()
}

/// One attempt to open a stream.
fn open_stream(route: &Route) -> Result<(Arc<Connection>, StreamOpenResponse), DriverError> {
    const WHAT: &str = "stream_open";
    let connection = route.establish()?;
    let answer_error = |error| DriverError::Answer { what: WHAT, error };
    let request = StreamOpenRequest {
        partition: route.partition(),
    };
    let body = encode(WHAT, &request).map_err(answer_error)?;
    let answer = route
        .driver()
        .call(&connection, Opcode::StreamOpen, WHAT, body.into());
    match answer {
        Ok(answer) => Ok((
            connection,
            decode("stream_open answer", &answer).map_err(answer_error)?,
        )),
        Err(error) => {
            match &error {
                DriverError::Refused(refused) if refused.code == ErrorCode::NotOwner => route.moved(refused),
                DriverError::Lost { .. } => route.lost(),
                _ => {}
            }
            Err(error)
        }
    }
}
