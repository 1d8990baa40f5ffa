//! Batches of one partition: the one that gathers events, and those on their way.

use std::sync::{Arc, Weak};
use std::task::Waker;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use mofka_log::{
    Batch, BatchBuilder, BatchError, BatchPlace, DataCheck, DataParts, Durability, EventId, PIECE_BYTES,
    ProducerId, Reference,
};
use mofka_net::control::NodeLimits;
use mofka_net::{
    ErrorCode, FRAME_HEADER_BYTES, FrameHeader, Opcode, PRODUCE_PREFIX_BYTES, ProducePrefix, WireError,
};
use uuid::Uuid;

use super::payload::Payload;
use super::queue::Queue;
use super::sequence::{Places, Sequence};
use crate::error::{DeliveryError, PushError};
use crate::link::{Connection, Kept, LentFrame};
use crate::promise::{Deadline, Promise};

/// What will become of a batch. All of its events share it.
pub(super) struct BatchPromise {
    /// The id of the batch's first event.
    pub(super) settled: Promise<Result<EventId, DeliveryError>>,
    queue: Weak<Queue>,
    number: u64,
}

impl BatchPromise {
    /// Waits for the batch. With a node in shared memory, this thread takes the answer itself if it comes soon.
    pub(super) fn wait(&self, deadline: Deadline) -> Option<&Result<EventId, DeliveryError>> {
        if self.settled.get().is_none()
            && !deadline.is_over()
            && let Some(link) = self.queue.upgrade().and_then(|queue| queue.link())
        {
            link.drive(|| self.settled.get().is_some() || deadline.is_over());
        }
        self.settled.wait(deadline)
    }

    /// Wakes this waker when the batch is settled, unless it is.
    pub(super) fn poll(&self, waker: &Waker) -> Option<&Result<EventId, DeliveryError>> {
        let settled = self.settled.poll(waker);
        if settled.is_none()
            && let Some(link) = self.queue.upgrade().and_then(|queue| queue.link())
        {
            link.await_news();
        }
        settled
    }

    /// Somebody waits: the batch must not wait for more events.
    ///
    /// # Errors
    /// In a forked child: nobody will ever settle it.
    pub(super) fn send_now(&self) -> Result<(), DeliveryError> {
        // Without a queue, it was settled just now.
        let Some(queue) = self.queue.upgrade() else {
            return Ok(());
        };
        match queue.forked_from() {
            Some(pid) => Err(DeliveryError::Forked { pid }),
            None => {
                queue.send_now(self.number);
                Ok(())
            }
        }
    }
}

/// The batch that gathers events.
pub(super) struct Gathering {
    builder: Box<BatchBuilder>,
    pub(super) promise: Arc<BatchPromise>,
    pub(super) number: u64,
    /// Somebody flushed, or waits for one of its events, or it gathered for long enough.
    pub(super) wanted: bool,
    pub(super) times: Times,
    /// Of a producer with a source.
    pub(super) places: Option<Places>,
    /// Some of its data is no copy of the library's, and may be kept.
    has_foreign: bool,
}

/// When events came into a batch. Not looked at unless a timeout needs it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Times {
    /// When the first one was pushed.
    first: Option<Instant>,
    /// When the last one was added.
    last: Option<Instant>,
}

impl Times {
    /// An event is added that was pushed at `pushed`.
    pub(super) fn add(&mut self, pushed: Option<Instant>, now: Option<Instant>) {
        self.first = match (self.first, pushed) {
            (Some(first), Some(pushed)) => Some(first.min(pushed)),
            (first, pushed) => first.or(pushed),
        };
        self.last = now;
    }

    /// `timeout` after the first event was pushed; `None`: never.
    pub(super) fn after_first(&self, timeout: Option<Duration>) -> Option<Instant> {
        self.first?.checked_add(timeout?)
    }

    /// `timeout` after the last event was added; `None`: never.
    pub(super) fn after_last(&self, timeout: Option<Duration>) -> Option<Instant> {
        self.last?.checked_add(timeout?)
    }

    /// Since the first event was pushed.
    pub(super) fn waited(&self) -> Duration {
        self.first.map(|first| first.elapsed()).unwrap_or_default()
    }
}

/// What a batch may hold at most.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Of the frame that carries it.
    frame_bytes_max: u64,
    /// From which on it is full.
    batch_bytes_max: u64,
    pub(super) events_max: u32,
    /// Batches that the partition remembers.
    pub(super) batches_max: usize,
}

impl Bounds {
    pub(super) fn new(limits: &NodeLimits, batch_bytes_max: u64) -> Self {
        let around = (FRAME_HEADER_BYTES + PRODUCE_PREFIX_BYTES) as u64;
        let frame_bytes_max = limits.frame_bytes_max.saturating_sub(around);
        Self {
            frame_bytes_max,
            // So a batch of several events is also within the bound on a batch's metadata.
            batch_bytes_max: batch_bytes_max
                .min(frame_bytes_max)
                .min(mofka_log::METADATA_BLOCK_BYTES_MAX),
            events_max: limits.batch_events_max.clamp(1, mofka_log::EVENTS_PER_BATCH_MAX),
            batches_max: usize::try_from(limits.sequence_window).unwrap_or(usize::MAX),
        }
    }

    /// That an event of so many bytes fits a batch of its own.
    pub(super) fn check(&self, bytes: u64) -> Result<(), PushError> {
        if bytes.saturating_add(AROUND_EVENTS_BYTES) > self.event_bytes_max() {
            return Err(self.too_large(bytes));
        }
        Ok(())
    }

    /// What is told of an event that does not fit.
    pub(super) fn too_large(&self, bytes: u64) -> PushError {
        let max = self.event_bytes_max();
        PushError::TooLarge { bytes, max }
    }

    /// Bytes of the largest event that fits a batch of its own, batch header included.
    fn event_bytes_max(&self) -> u64 {
        self.frame_bytes_max.min(mofka_log::DATA_BATCH_BYTES_MAX)
    }
}

/// Bytes that an event adds to a batch at most: table entry, checksums, metadata, data.
pub(super) fn event_bytes(metadata: &[u8], data: Payload<'_>) -> u64 {
    data.reference_bytes() + data_event_bytes(metadata.len(), data.bytes())
}

/// The same without a reference. Of data that no memory has, whose bytes are only asked for, too many.
pub(super) fn data_event_bytes(metadata_bytes: usize, data_bytes: u64) -> u64 {
    let checksums = 4 * data_bytes.div_ceil(PIECE_BYTES as u64);
    (16 + metadata_bytes as u64 + checksums).saturating_add(data_bytes)
}

/// What the frame of a batch begins with.
const HEAD_BYTES: usize = FRAME_HEADER_BYTES + PRODUCE_PREFIX_BYTES;

/// Header and padding of a batch.
const AROUND_EVENTS_BYTES: u64 = 128 + 8;

impl Gathering {
    /// `builder` is empty.
    pub(super) fn new(queue: Weak<Queue>, number: u64, builder: Box<BatchBuilder>) -> Self {
        let promise = Arc::new(BatchPromise {
            settled: Promise::new(),
            queue,
            number,
        });
        Self {
            builder,
            promise,
            number,
            wanted: false,
            times: Times::default(),
            places: None,
            has_foreign: false,
        }
    }

    /// Whether an event of this many bytes still fits. A first event always does: it was bounded before.
    pub(super) fn takes(&self, bytes: u64, bounds: &Bounds) -> bool {
        self.builder.is_empty()
            || self.event_count() < bounds.events_max
                && self.builder.bytes().saturating_add(bytes) <= bounds.batch_bytes_max
    }

    /// Whether it is full by its bytes or events.
    pub(super) fn is_full(&self, bounds: &Bounds) -> bool {
        self.event_count() >= bounds.events_max || self.builder.bytes() >= bounds.batch_bytes_max
    }

    /// Adds an event; returns its place in the batch. Segments of data that is owned are kept from `shared_bytes_min` bytes on, all
    /// else is copied.
    pub(super) fn push(
        &mut self,
        metadata: &[u8],
        data: Payload<'_>,
        shared_bytes_min: usize,
    ) -> Result<u32, BatchError> {
        let index = self.event_count();
        let data = match data {
            Payload::Owned(data) => data,
            Payload::Lent(parts) => {
                self.builder.push(metadata, parts.iter().copied())?;
                return Ok(index);
            }
        };
        if let Some(to) = data.reference() {
            let reference =
                Reference::check(to.stored()).map_err(|reason| BatchError::Reference { index, reason })?;
            self.builder.push_reference(metadata, reference)?;
            return Ok(index);
        }
        self.builder
            .push_shared(metadata, data.segments(), shared_bytes_min)?;
        self.has_foreign |= !data.is_copy();
        Ok(index)
    }

    pub(super) fn event_count(&self) -> u32 {
        self.builder.event_count()
    }

    /// It is not sent: whom to tell, and what is to be dropped without a lock.
    pub(super) fn give_up(self) -> (Arc<BatchPromise>, Content) {
        (self.promise, Content::Gathered(self.builder))
    }

    /// No more events: it can be sent.
    pub(super) fn finish(self) -> Outgoing {
        self.finish_with(None)
    }

    /// The same of events whose data ends with this, of which the builder has only seen it.
    pub(super) fn finish_with(self, rest: Option<Arc<Kept>>) -> Outgoing {
        Outgoing {
            number: self.number,
            promise: self.promise,
            event_count: self.builder.event_count(),
            times: self.times,
            places: self.places,
            has_foreign: self.has_foreign,
            content: Content::Gathered(self.builder),
            rest,
            sent_on: None,
            was_sent: false,
            is_in_doubt: false,
            is_given_up: false,
            verdict: None,
        }
    }
}

/// A batch that waits for its answer, or to be sent (again).
pub(super) struct Outgoing {
    pub(super) number: u64,
    pub(super) promise: Arc<BatchPromise>,
    pub(super) event_count: u32,
    pub(super) times: Times,
    places: Option<Places>,
    has_foreign: bool,
    pub(super) content: Content,
    /// How the data ends, when that was filled in place: dropped with the batch, and not later, so that whoever is told of it finds
    /// the room again.
    pub(super) rest: Option<Arc<Kept>>,
    /// The connection that owes an answer. `None`: it is to be sent.
    sent_on: Option<Arc<Connection>>,
    /// Whether it ever was sent.
    pub(super) was_sent: bool,
    /// Whether it may be stored, though no answer says so and none is owed: one was lost, or says that writing failed.
    is_in_doubt: bool,
    /// Its events were told that they failed, and yet it keeps its place: it may be stored, or will be.
    pub(super) is_given_up: bool,
    /// Everything was given up while its answer was owed.
    pub(super) verdict: Option<Box<Verdict>>,
}

/// What is told of a batch that is not accepted after all.
pub(super) struct Verdict {
    pub(super) since: Instant,
    pub(super) error: DeliveryError,
}

/// What is sent. Dropping it may run the application's code, since it keeps segments of events: never under a lock.
pub(super) enum Content {
    /// Without a number: it may still vanish, and nobody would miss it.
    Gathered(Box<BatchBuilder>),
    Stamped {
        frame: Bytes,
        /// The data, in order: what is sent again is the same memory.
        data: DataParts,
        /// Nothing of it is the application's.
        is_all_copied: bool,
        /// Dropping it may run the application's code.
        is_foreign: bool,
    },
}

impl Content {
    pub(super) fn is_foreign(&self) -> bool {
        match self {
            Self::Gathered(builder) => !builder.is_all_copied(),
            Self::Stamped { is_foreign, .. } => *is_foreign,
        }
    }
}

impl Outgoing {
    /// Whether it is to be sent: no answer is owed.
    pub(super) fn is_unsent(&self) -> bool {
        self.sent_on.is_none()
    }

    /// Whether this connection owes its answer.
    pub(super) fn is_owed_by(&self, connection: &Arc<Connection>) -> bool {
        self.sent_on
            .as_ref()
            .is_some_and(|sent| Arc::ptr_eq(sent, connection))
    }

    /// That connection owes its answer now. Only for the line that counts those.
    pub(super) fn note_sent(&mut self, on: &Arc<Connection>) {
        self.sent_on = Some(Arc::clone(on));
        self.was_sent = true;
    }

    /// It is to be sent again. Only for the line that counts those.
    pub(super) fn send_again(&mut self) {
        self.sent_on = None;
    }

    /// It may be stored, whatever is answered when it is sent again.
    pub(super) fn doubt(&mut self) {
        self.is_in_doubt = true;
    }

    /// What is told of it when this was answered.
    pub(super) fn told(&self, error: DeliveryError) -> DeliveryError {
        match error {
            DeliveryError::Refused(error) => refusal(error, self.is_in_doubt),
            error => error,
        }
    }

    /// Whether it has a place among the batches of its producer.
    pub(super) fn is_stamped(&self) -> bool {
        matches!(self.content, Content::Stamped { .. })
    }

    /// Gives it the next place, unless it has one; `memory` gives some for a frame of so many bytes. Returns the builder that it came
    /// from, empty, for another one.
    pub(super) fn stamp(
        &mut self,
        sequence: &mut Sequence,
        memory: impl FnOnce(u64) -> BytesMut,
    ) -> Option<Box<BatchBuilder>> {
        let Content::Gathered(builder) = &mut self.content else {
            return None;
        };
        let place = match self.places {
            Some(places) => sequence.next_from(places),
            None => sequence.next(),
        };
        let is_all_copied = builder.is_all_copied();
        let memory = memory(builder.frame_bytes());
        let (frame, data) = builder.take_into(Some(place), memory);
        let stamped = Content::Stamped {
            frame,
            data,
            is_all_copied,
            is_foreign: self.has_foreign && !is_all_copied,
        };
        match std::mem::replace(&mut self.content, stamped) {
            Content::Gathered(builder) => Some(builder),
            Content::Stamped { .. } => None,
        }
    }

    /// What its frame begins with: header and prefix. `None`: it has no place yet.
    pub(super) fn head(
        &self,
        request_id: u64,
        partition: Uuid,
        durability: Option<Durability>,
    ) -> Option<[u8; HEAD_BYTES]> {
        let Content::Stamped { frame, data, .. } = &self.content else {
            return None;
        };
        let data_bytes: usize = data.iter().map(Bytes::len).sum();
        let rest_bytes = self.rest.as_ref().map_or(0, |rest| rest.bytes());
        let body_bytes = (PRODUCE_PREFIX_BYTES + frame.len() + data_bytes) as u64 + rest_bytes;
        let prefix = ProducePrefix {
            partition,
            durability,
        };
        let mut head = [0; HEAD_BYTES];
        let (header_part, prefix_part) = head.split_at_mut(FRAME_HEADER_BYTES);
        header_part.copy_from_slice(&FrameHeader::self_checked(
            Opcode::Produce,
            request_id,
            body_bytes,
        ));
        prefix_part.copy_from_slice(&prefix.encode());
        Some(head)
    }

    /// The frame to send after this head: batch frame, data; then comes what was filled in place. Nothing is copied. `None`: it has
    /// no place yet.
    pub(super) fn frame<'a>(&'a self, head: &'a [u8]) -> Option<LentFrame<'a>> {
        let Content::Stamped { frame, data, .. } = &self.content else {
            return None;
        };
        Some(LentFrame {
            head,
            first: frame,
            others: data,
        })
    }

    /// Gives it another place, if it has one, which only happens after a batch before it was refused for good.
    ///
    /// # Errors
    /// When what is in memory does not check any more.
    pub(super) fn restamp(&mut self, next: impl FnOnce() -> BatchPlace) -> Result<(), BatchError> {
        let Content::Stamped { frame, data, .. } = &mut self.content else {
            return Ok(());
        };
        let mut batch = Batch::check(frame.clone(), None)?;
        check_parts(&batch, data, self.rest.as_deref())?;
        let place = next();
        batch.renumber(place.producer, place.epoch, place.sequence);
        *frame = [&batch.header_bytes()[..], batch.body()].concat().into();
        Ok(())
    }
}

/// What is told of a batch that is refused. `is_in_doubt`: it may have been taken when it was sent before.
pub(super) fn refusal(error: Arc<WireError>, is_in_doubt: bool) -> DeliveryError {
    // These are only answered when the partition was asked for the batch and does not have it.
    let is_not_there = matches!(error.code, ErrorCode::SequenceGap | ErrorCode::UnknownStream);
    match is_in_doubt && !is_not_there {
        true => DeliveryError::InDoubt(error),
        false => DeliveryError::Refused(error),
    }
}

/// Holds data against the checksums of its batch.
fn check_parts(batch: &Batch, parts: &[Bytes], rest: Option<&Kept>) -> Result<(), BatchError> {
    let mut check = DataCheck::new(batch);
    let checked = parts.iter().try_for_each(|part| check.feed(part));
    let checked = checked.and_then(|()| rest.map_or(Ok(()), |rest| rest.look(0, |bytes| check.feed(bytes))));
    checked
        .and_then(|()| check.finish())
        .map_err(|bad| BatchError::DataChecksum {
            index: bad.index,
            piece: bad.piece,
        })
}

/// A random producer id; 0 would mean nobody.
pub(super) fn random_producer() -> ProducerId {
    loop {
        let (id, _) = Uuid::new_v4().as_u64_pair();
        if id != 0 {
            return ProducerId::new(id);
        }
    }
}
