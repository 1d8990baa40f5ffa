//! One partition of a source on its way.
//!
//! The destination knows up to which event id of the source it has the events (the *place*), by the same write that stored
//! them; so whatever ended before, the first batch either fits or is refused with the place to go on with. The consumer's
//! cursor at the source says only where to begin reading. See `docs/decisions/0007-sources.md`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mofka_client::{
    BatchSize, Consumer, ConsumerError, ConsumerOptions, DataSelector, DeliveryError, ErrorCode, Event,
    Metadata, Producer, ProducerOptions, PullError, PushError, Source, Start, StreamError,
};

use super::config::{Mapping, OnRefusal};
use super::flight::{Flight, Went};
use super::policy::Policy;
use crate::stop::Backoff;

/// Data of one event that is taken into memory; more goes in pieces.
const DATA_IN_MEMORY_BYTES_MAX: u64 = 64 << 20;
/// How long a wait for an event is at most, until something else is looked at.
const WAIT: Duration = Duration::from_millis(50);
/// How long what is on its way may take when it is to stop.
const STOP_WITHIN: Duration = Duration::from_secs(5);
/// How often it is looked whether a source that gives nothing has what it had.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Events between two looks at the answers.
const LAND_EVERY: u32 = 64;

pub(super) struct Lane {
    policy: Arc<Policy>,
    index: usize,
    /// The place to go on with, when it is known.
    next: Option<u64>,
    /// Events to go one by one, since one of those before this place is refused.
    alone_until: u64,
    /// Up to this event, data goes in pieces.
    in_pieces: Option<u64>,
    /// Events that are refused for good and are to be left out.
    left_out: BTreeSet<u64>,
}

/// Why a partition is not forwarded any more.
pub(super) enum LaneEnd {
    Stopped,
    Complete,
    Refused(String),
}

/// Why a session ended that was to go on.
enum Trouble {
    /// The destination awaits this place.
    Elsewhere(u64),
    /// Something that passes.
    Again(String),
    /// This event cannot go like the others.
    InPieces(u64),
    /// One of the events before this place is refused.
    Batch { end: u64, reason: String },
    /// This event is refused for good.
    Event { id: u64, reason: String },
    /// Nothing more will be taken, whatever it is.
    Ended(String),
    /// None: another way of going on.
    Anew,
}

impl Lane {
    pub(super) fn new(policy: Arc<Policy>, index: usize) -> Self {
        Self {
            policy,
            index,
            next: None,
            alone_until: 0,
            in_pieces: None,
            left_out: BTreeSet::new(),
        }
    }

    pub(super) fn run(mut self) -> LaneEnd {
        let mut backoff = Backoff::new();
        let (name, partition) = (self.policy.name().to_owned(), self.index);
        loop {
            let before = self.next;
            let trouble = match self.session() {
                Ok(end) => {
                    let state = match end {
                        LaneEnd::Complete => "complete",
                        _ => "stopped",
                    };
                    tracing::info!(
                        policy = name,
                        partition,
                        state,
                        place = self.next,
                        "a partition has ended"
                    );
                    return end;
                }
                Err(trouble) => trouble,
            };
            if self.next != before {
                backoff.reset();
            }
            let stop = self.policy.stop.clone();
            match trouble {
                Trouble::Elsewhere(place) => {
                    tracing::info!(
                        policy = name,
                        partition,
                        state = "resumed",
                        place,
                        "the destination has what is before"
                    );
                    // Once is how every start after a crash goes; again and again would be two at once.
                    if self.next == Some(place) {
                        stop.sleep(backoff.pause());
                    }
                    self.next = Some(place);
                }
                Trouble::Again(reason) => {
                    let pause = backoff.pause();
                    tracing::warn!(
                        policy = name,
                        partition,
                        state = "retrying",
                        place = self.next,
                        reason,
                        ?pause,
                        "trouble"
                    );
                    stop.sleep(pause);
                }
                Trouble::Anew => {}
                Trouble::InPieces(id) => self.in_pieces = Some(id),
                Trouble::Batch { end, reason } => {
                    tracing::warn!(
                        policy = name,
                        partition,
                        state = "one_by_one",
                        end,
                        reason,
                        "a batch is refused"
                    );
                    self.alone_until = end;
                }
                Trouble::Event { id, reason } => match self.policy.config.on_refusal {
                    OnRefusal::Stop => {
                        return LaneEnd::Refused(format!(
                            "the destination refuses event {id} of partition {partition}: {reason}; mend what refuses it, or say \
                             \"on_refusal\": \"skip\" in the policy"
                        ));
                    }
                    OnRefusal::Skip => {
                        self.tell_left_out(id, &reason);
                        self.left_out.insert(id);
                    }
                },
                Trouble::Ended(reason) => {
                    return LaneEnd::Refused(format!("partition {partition}: {reason}"));
                }
            }
            if stop.is_wished() {
                return LaneEnd::Stopped;
            }
        }
    }

    /// Forwards until something goes wrong, or nothing more is to be done.
    fn session(&mut self) -> Result<LaneEnd, Trouble> {
        if self.next.is_some_and(|next| next >= self.alone_until) {
            self.alone_until = 0;
        }
        let target = self.target()?;
        self.check_source()?;
        let consumer = self.consumer()?;
        let producer = self.producer()?;
        let mut flight = Flight::default();
        let mut missed = 0;
        tracing::debug!(
            policy = self.policy.name(),
            partition = self.index,
            place = self.next,
            "a session begins"
        );
        let outcome = self.pump(&consumer, &producer, target, &mut flight, &mut missed);
        match outcome {
            Ok(end) => self.drain(&producer, &mut flight).map(|()| end),
            // The answers say more than that nothing is taken.
            Err(Trouble::Again(reason)) => match self.drain(&producer, &mut flight) {
                Ok(()) => Err(Trouble::Again(reason)),
                Err(trouble) => Err(trouble),
            },
            Err(trouble @ (Trouble::InPieces(_) | Trouble::Event { .. } | Trouble::Anew)) => {
                self.drain(&producer, &mut flight)?;
                Err(trouble)
            }
            Err(trouble) => Err(trouble),
        }
    }

    /// The partition of the destination.
    fn target(&self) -> Result<usize, Trouble> {
        let count = self.policy.destination.partitions().len();
        let target = match self.policy.config.mapping {
            Mapping::Same => self.index,
            Mapping::Any => self.index.checked_rem(count).unwrap_or(0),
        };
        if target < count {
            return Ok(target);
        }
        if let Err(error) = self.policy.destination.refresh() {
            tracing::debug!(%error, "cannot ask for the destination's partitions");
        }
        Err(Trouble::Again(format!(
            "{} has {count} partitions, and none for this one",
            self.policy.config.to
        )))
    }

    /// A source with fewer events than the destination has of it lost some, as one in memory does at each stop. Those that it
    /// gets now have the ids of others, and would be taken for them.
    fn check_source(&self) -> Result<(), Trouble> {
        let Some(place) = self.next else { return Ok(()) };
        let from = &self.policy.config.from;
        let status = self.policy.source.partition_status(self.index);
        let status = status.map_err(|error| Trouble::Again(format!("cannot ask for {from}: {error}")))?;
        if status.visible_end >= place {
            return Ok(());
        }
        Err(Trouble::Ended(format!(
            "the destination has the events of {from} up to id {place}, and {from} has only {}: it lost the others, and new ones \
             have their ids; to forward those, give the driver \"{}\" another name in the file, under which all that is there now \
             is forwarded",
            status.visible_end, from.driver
        )))
    }

    fn consumer(&self) -> Result<Consumer, Trouble> {
        let config = &self.policy.config;
        let options = ConsumerOptions {
            targets: vec![self.index],
            filter: config.filter.clone(),
            data_selector: match config.with_data && self.in_pieces.is_none() {
                true => DataSelector::all(),
                false => DataSelector::none(),
            },
            data_bytes_max: DATA_IN_MEMORY_BYTES_MAX,
            ..ConsumerOptions::default()
        };
        let failed = |error: ConsumerError| Trouble::Again(format!("cannot read {}: {error}", config.from));
        let consumer = self.policy.source.consumer(&self.policy.consumer, options);
        let consumer = consumer.map_err(failed)?;
        if let Some(place) = self.next {
            // Not by the options: consumers of one name follow each other where the one before had read to, and that is not where
            // the destination is.
            consumer.seek(self.index, Start::Id(place)).map_err(failed)?;
        }
        Ok(consumer)
    }

    /// Between the place that the destination awaits and the first event there is nothing but what was trimmed or is not wanted:
    /// the batch with this event says that it covers all of that.
    fn check_first(&self, place: u64, id: u64) -> Result<(), Trouble> {
        let is_next = id == place || id > place && self.policy.config.filter.is_some();
        let is_trimmed = || {
            let status = self.policy.source.partition_status(self.index);
            id > place && status.is_ok_and(|status| status.trim_end >= id)
        };
        if is_next || is_trimmed() {
            return Ok(());
        }
        Err(Trouble::Again(format!(
            "{} gives event {id}, and {place} is the next",
            self.policy.config.from
        )))
    }

    fn producer(&self) -> Result<Producer, Trouble> {
        let partitions = self.policy.source.partitions();
        let info = partitions
            .get(self.index)
            .ok_or_else(|| Trouble::Again("the partition is not there".to_owned()))?;
        let is_alone = self.alone_until > 0;
        Ok(self.policy.destination.producer(ProducerOptions {
            name: self.policy.consumer.clone(),
            batch_size: match is_alone {
                true => BatchSize::fixed(1),
                false => BatchSize::Adaptive,
            },
            max_num_batches: if is_alone { 1 } else { 4 },
            drop_timeout: Duration::ZERO,
            source: Some(Source {
                id: self.policy.source_id(info.id),
                from: self.next,
            }),
            ..ProducerOptions::default()
        }))
    }

    fn pump(
        &mut self,
        consumer: &Consumer,
        producer: &Producer,
        target: usize,
        flight: &mut Flight,
        missed: &mut u64,
    ) -> Result<LaneEnd, Trouble> {
        let stop = self.policy.stop.clone();
        let mut awaited = self.next;
        let mut since_landed = 0;
        let mut looked = Instant::now();
        loop {
            let pull = consumer.pull();
            let event = loop {
                if stop.is_wished() {
                    return Ok(LaneEnd::Stopped);
                }
                match pull.wait_timeout(WAIT) {
                    Ok(Some(Some(event))) => break event,
                    Ok(Some(None)) => return self.land_all(producer, flight),
                    Ok(None) => {
                        self.land(flight, true)?;
                        if looked.elapsed() >= LOOK_EVERY {
                            self.check_source()?;
                            looked = Instant::now();
                        }
                    }
                    Err(PullError::DataTooLarge { event_id, .. }) => return Err(Trouble::InPieces(event_id)),
                    Err(error) => return Err(Trouble::Again(error.to_string())),
                }
            };
            self.tell_missed(consumer, missed);
            let (id, is_alone) = (event.id().get(), self.alone_until > 0);
            if let Some(place) = awaited.take() {
                self.check_first(place, id)?;
            }
            self.send(event, producer, target, flight)?;
            since_landed += 1;
            if is_alone {
                self.wait_alone(id, producer, flight)?;
            } else if since_landed >= LAND_EVERY {
                since_landed = 0;
                self.land(flight, false)?;
            }
        }
    }

    /// Sends one event, or leaves it out.
    fn send(
        &mut self,
        event: Event,
        producer: &Producer,
        target: usize,
        flight: &mut Flight,
    ) -> Result<(), Trouble> {
        let id = event.id().get();
        if self.left_out.remove(&id) {
            flight.add(event, Went::LeftOut);
            return Ok(());
        }
        let metadata = Metadata::from(event.metadata_bytes().clone());
        if self.in_pieces.is_some() && event.data_bytes() > 0 && self.policy.config.with_data {
            return self.send_in_pieces(event, metadata, producer, target, flight);
        }
        let stop = &self.policy.stop;
        let goes_on = || !stop.is_wished();
        let data = event.data().clone();
        match producer.push_from(id, metadata, data, Some(target), goes_on) {
            Ok(stored) => {
                flight.add(event, Went::Pushed(stored));
                Ok(())
            }
            Err(PushError::TooLarge { .. }) if self.policy.config.with_data && event.data_bytes() > 0 => {
                Err(Trouble::InPieces(id))
            }
            Err(error) => match self.push_trouble(id, &error, flight) {
                Trouble::Event { id, reason } if self.policy.config.on_refusal == OnRefusal::Skip => {
                    self.tell_left_out(id, &reason);
                    flight.add(event, Went::LeftOut);
                    Ok(())
                }
                trouble => Err(trouble),
            },
        }
    }

    fn send_in_pieces(
        &mut self,
        event: Event,
        metadata: Metadata,
        producer: &Producer,
        target: usize,
        flight: &mut Flight,
    ) -> Result<(), Trouble> {
        let id = event.id().get();
        tracing::debug!(
            policy = self.policy.name(),
            partition = self.index,
            id,
            bytes = event.data_bytes(),
            "in pieces"
        );
        match producer.push_reader_from(id, metadata, event.open_data(), Some(target)) {
            Ok(_) => {
                flight.add(event, Went::Stored);
                self.land(flight, true)?;
                if self.in_pieces.is_some_and(|last| last > id) {
                    return Ok(());
                }
                self.in_pieces = None;
                // This consumer brings no data along.
                Err(Trouble::Anew)
            }
            Err(StreamError::Push(error)) => Err(self.push_trouble(id, &error, flight)),
            Err(StreamError::Delivery(error)) => Err(delivery_trouble(&error, id + 1, true)),
            Err(error) => Err(Trouble::Again(error.to_string())),
        }
    }

    fn push_trouble(&self, id: u64, error: &PushError, flight: &mut Flight) -> Trouble {
        match error {
            // One before it failed: its own answer says why.
            PushError::Closed => match flight.land(true) {
                Err(error) => delivery_trouble(&error, id, self.alone_until > 0),
                Ok(_) => Trouble::Again(error.to_string()),
            },
            PushError::Rejected { .. }
            | PushError::InvalidMetadata { .. }
            | PushError::Callback { .. }
            | PushError::TooLarge { .. } => Trouble::Event {
                id,
                reason: error.to_string(),
            },
            other => Trouble::Again(other.to_string()),
        }
    }

    /// Of events that go one by one: waits for this one.
    fn wait_alone(&mut self, id: u64, producer: &Producer, flight: &mut Flight) -> Result<(), Trouble> {
        while !flight.is_empty() && !self.policy.stop.is_wished() {
            producer.flush().wait_timeout(WAIT).ok();
            self.land(flight, true)?;
        }
        if id + 1 >= self.alone_until {
            self.alone_until = 0;
            return Err(Trouble::Anew);
        }
        Ok(())
    }

    /// Takes what is stored.
    fn land(&mut self, flight: &mut Flight, also_last: bool) -> Result<(), Trouble> {
        loop {
            match flight.land(also_last) {
                Ok(None) => return Ok(()),
                Ok(Some(landed)) => {
                    self.next = Some(landed.end);
                    self.policy
                        .forwarded
                        .fetch_add(landed.forwarded, Ordering::Relaxed);
                    self.policy.skipped.fetch_add(landed.skipped, Ordering::Relaxed);
                }
                Err(error) => {
                    let end = flight.end().unwrap_or(u64::MAX);
                    return Err(delivery_trouble(&error, end, self.alone_until > 0));
                }
            }
        }
    }

    /// Waits for what is on its way, but not for ever.
    fn drain(&mut self, producer: &Producer, flight: &mut Flight) -> Result<(), Trouble> {
        let until = Instant::now() + STOP_WITHIN;
        let flushed = producer.flush().wait_timeout(STOP_WITHIN);
        self.land(flight, true)?;
        if !matches!(flushed, Ok(Some(_))) {
            tracing::warn!(
                policy = self.policy.name(),
                partition = self.index,
                "events are on their way still; the next start goes on with what the destination has by then"
            );
        }
        flight.wait_acknowledged(until);
        Ok(())
    }

    /// Waits for all that is on its way, as long as it takes: the source is complete.
    fn land_all(&mut self, producer: &Producer, flight: &mut Flight) -> Result<LaneEnd, Trouble> {
        self.land(flight, true)?;
        while !flight.is_empty() {
            if self.policy.stop.is_wished() {
                return Ok(LaneEnd::Stopped);
            }
            producer.flush().wait_timeout(WAIT).ok();
            self.land(flight, true)?;
        }
        Ok(LaneEnd::Complete)
    }

    fn tell_left_out(&self, id: u64, reason: &str) {
        let (policy, partition) = (self.policy.name(), self.index);
        tracing::warn!(
            policy,
            partition,
            state = "skipped",
            id,
            reason,
            "an event is left out"
        );
    }

    fn tell_missed(&self, consumer: &Consumer, told: &mut u64) {
        let missed = consumer.missed_count();
        if missed > *told {
            tracing::warn!(
                policy = self.policy.name(),
                partition = self.index,
                count = missed - *told,
                "events were dropped by the source's retention before they were forwarded"
            );
            *told = missed;
        }
    }
}

/// What a failed delivery of events before `end` means. `is_alone`: it is of one event.
fn delivery_trouble(error: &DeliveryError, end: u64, is_alone: bool) -> Trouble {
    let reason = error.to_string();
    let DeliveryError::Refused(refusal) = error else {
        return Trouble::Again(reason);
    };
    match (refusal.code, refusal.expected()) {
        (ErrorCode::SequenceGap, Some(place)) => Trouble::Elsewhere(place),
        (ErrorCode::TopicComplete | ErrorCode::UnsupportedVersion, _) => Trouble::Ended(reason),
        (ErrorCode::InvalidMetadata | ErrorCode::TooLarge, _) if is_alone => Trouble::Event {
            id: end.saturating_sub(1),
            reason,
        },
        (ErrorCode::InvalidMetadata | ErrorCode::TooLarge, _) => Trouble::Batch { end, reason },
        _ => Trouble::Again(reason),
    }
}
