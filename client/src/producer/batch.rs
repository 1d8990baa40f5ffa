//! Batches of one partition: the one that gathers events, and those on their way.

use std::sync::{Arc, Weak};

use bytes::{Bytes, BytesMut};
use mofka_log::{Batch, BatchBuilder, Durability, EventId, PIECE_BYTES, ProducerId};
use mofka_net::control::NodeLimits;
use mofka_net::{FRAME_HEADER_BYTES, FrameHeader, Opcode, PRODUCE_PREFIX_BYTES, ProducePrefix};
use uuid::Uuid;

use super::queue::Queue;
use super::sequence::Stamp;
use crate::data::Data;
use crate::error::DeliveryError;
use crate::link::Connection;
use crate::promise::Promise;

/// What will become of a batch. All of its events share it.
pub(super) struct BatchPromise {
    /// The id of the batch's first event.
    pub(super) settled: Promise<Result<EventId, DeliveryError>>,
    queue: Weak<Queue>,
    number: u64,
}

impl BatchPromise {
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
    builder: BatchBuilder,
    pub(super) promise: Arc<BatchPromise>,
    pub(super) number: u64,
    /// Somebody flushed, or waits for one of its events.
    pub(super) wanted: bool,
}

/// What a batch may hold at most.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Of the frame that carries it.
    frame_bytes_max: u64,
    /// From which on it is full.
    batch_bytes_max: u64,
    pub(super) events_max: u32,
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
        }
    }

    /// Bytes of the largest event that fits a batch of its own, batch header included.
    pub(super) fn event_bytes_max(&self) -> u64 {
        self.frame_bytes_max.min(mofka_log::DATA_BATCH_BYTES_MAX)
    }
}

/// Bytes that an event adds to a batch at most: table entry, checksums, metadata, data.
pub(super) fn event_bytes(metadata: &[u8], data: &Data) -> u64 {
    let data_bytes = data.bytes();
    16 + metadata.len() as u64 + data_bytes + 4 * data_bytes.div_ceil(PIECE_BYTES as u64)
}

/// Header and padding of a batch.
pub(super) const AROUND_EVENTS_BYTES: u64 = 128 + 8;

impl Gathering {
    pub(super) fn new(queue: Weak<Queue>, number: u64) -> Self {
        let promise = Arc::new(BatchPromise {
            settled: Promise::new(),
            queue,
            number,
        });
        Self {
            builder: BatchBuilder::new(),
            promise,
            number,
            wanted: false,
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

    /// Adds an event; returns its place in the batch.
    pub(super) fn push(&mut self, metadata: &[u8], data: &Data) -> Result<u32, mofka_log::BatchError> {
        let index = self.event_count();
        self.builder
            .push(metadata, data.segments().iter().map(AsRef::as_ref))?;
        Ok(index)
    }

    pub(super) fn event_count(&self) -> u32 {
        self.builder.event_count()
    }

    /// No more events: it can be sent.
    pub(super) fn finish(self, stamp: Stamp) -> Outgoing {
        let event_count = self.builder.event_count();
        let (frame, data) = self.builder.finish(Some(stamp.fields()));
        Outgoing {
            number: self.number,
            promise: self.promise,
            event_count,
            frame,
            data,
            sent_on: None,
            was_sent: false,
        }
    }
}

/// A batch that waits for its answer, or to be sent (again).
pub(super) struct Outgoing {
    pub(super) number: u64,
    pub(super) promise: Arc<BatchPromise>,
    pub(super) event_count: u32,
    frame: Bytes,
    data: Bytes,
    /// The connection that owes an answer. `None`: it is to be sent.
    pub(super) sent_on: Option<Arc<Connection>>,
    /// Whether it ever was sent.
    pub(super) was_sent: bool,
}

impl Outgoing {
    /// The frame to send, in pieces: what the application gave is not copied again.
    pub(super) fn to_frame(
        &self,
        request_id: u64,
        partition: Uuid,
        durability: Option<Durability>,
    ) -> [Bytes; 3] {
        let body_bytes = (PRODUCE_PREFIX_BYTES + self.frame.len() + self.data.len()) as u64;
        let mut first = BytesMut::with_capacity(FRAME_HEADER_BYTES + PRODUCE_PREFIX_BYTES);
        first.extend_from_slice(&FrameHeader::self_checked(
            Opcode::Produce,
            request_id,
            body_bytes,
        ));
        first.extend_from_slice(
            &ProducePrefix {
                partition,
                durability,
            }
            .encode(),
        );
        [first.freeze(), self.frame.clone(), self.data.clone()]
    }

    /// Gives it another place in the producer's sequence. Its events are laid out anew for that, which only happens
    /// after a batch before it was refused for good.
    pub(super) fn restamp(&mut self, stamp: Stamp) -> Result<(), mofka_log::BatchError> {
        let batch = Batch::check_client(self.frame.clone(), self.data.clone())?;
        let mut builder = BatchBuilder::new();
        for event in batch.events() {
            let start = usize::try_from(event.data_offset).unwrap_or(usize::MAX);
            let bytes = usize::try_from(event.data_bytes).unwrap_or(usize::MAX);
            let data = self
                .data
                .get(start..start.saturating_add(bytes))
                .unwrap_or_default();
            builder.push(event.metadata, std::iter::once(data))?;
        }
        (self.frame, self.data) = builder.finish(Some(stamp.fields()));
        Ok(())
    }
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
