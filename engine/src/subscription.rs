//! One consumer reading one partition: sends what is visible, as far as the client's credit goes.

mod picking;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use event_listener::Event;
use futures_lite::future;
use mofka_log::{Batch, EventId, FRAME_ALIGN_BYTES};
use mofka_net::limits::{FEATURE_REFERENCES, FEATURE_SOURCES};
use mofka_net::{Credits, ErrorCode, FeedHeader, FeedItem, FrameHeader, WireError};
use uuid::Uuid;

pub(crate) use self::picking::Picking;
use crate::io::Io;
use crate::outbox::Outbox;
use crate::partition::{Partition, ReadLimits, Reader, Slice, Subscriber};

/// What a client asked for when it subscribed.
pub(crate) struct Terms {
    pub(crate) id: u64,
    pub(crate) consumer: String,
    pub(crate) member: Uuid,
    pub(crate) start: EventId,
    pub(crate) limits: ReadLimits,
    pub(crate) credits: u32,
    /// `None`: whole batches are fed.
    pub(crate) picking: Option<Picking>,
    /// Whether the client can be sent events that refer to data of others.
    pub(crate) knows_references: bool,
    pub(crate) knows_sources: bool,
}

/// How long a consumer whose filter lets nothing through is left without word of how far it has got.
const SILENCE: Duration = Duration::from_secs(1);

/// See the module.
pub(crate) struct Subscription<I: Io> {
    id: u64,
    consumer: String,
    member: Uuid,
    partition: Rc<Partition<I>>,
    limits: ReadLimits,
    picking: Option<Picking>,
    knows_references: bool,
    knows_sources: bool,
    /// The first event that was not looked at.
    next: Cell<EventId>,
    /// Where the last feed ended.
    told_end: Cell<EventId>,
    told_us: Cell<u64>,
    credits: RefCell<Credits>,
    changed: Event,
    closed: Cell<bool>,
    superseded: Cell<bool>,
}

impl<I: Io> Subscription<I> {
    /// A subscription that feeds nothing yet.
    ///
    /// # Errors
    /// When more credit is given than makes sense.
    pub(crate) fn new(partition: Rc<Partition<I>>, terms: Terms) -> Result<Rc<Self>, WireError> {
        let mut credits = Credits::default();
        credits.grant(terms.credits)?;
        Ok(Rc::new(Self {
            id: terms.id,
            consumer: terms.consumer,
            member: terms.member,
            partition,
            limits: terms.limits,
            picking: terms.picking,
            knows_references: terms.knows_references,
            knows_sources: terms.knows_sources,
            next: Cell::new(terms.start),
            told_end: Cell::new(terms.start),
            told_us: Cell::new(0),
            credits: RefCell::new(credits),
            changed: Event::new(),
            closed: Cell::new(false),
            superseded: Cell::new(false),
        }))
    }

    /// Starts feeding. Called after the subscription was answered: a spawned task may run at once, and the client
    /// wants the answer before the first feed.
    pub(crate) fn begin(self: &Rc<Self>, io: &I, outbox: Rc<Outbox>) {
        let this = Rc::clone(self);
        let reading: Rc<dyn Subscriber> = Rc::clone(self) as _;
        this.partition
            .connect(&this.consumer, this.member, Rc::clone(&reading));
        io.spawn(async move {
            this.feed(&outbox).await;
            this.partition.disconnect(&reading);
        });
    }

    /// The client can take this many more feeds.
    ///
    /// # Errors
    /// When the sum is beyond reason.
    pub(crate) fn grant(&self, more: u32) -> Result<(), WireError> {
        let granted = self.credits.borrow_mut().grant(more);
        self.changed.notify(usize::MAX);
        granted
    }

    /// Stops feeding.
    pub(crate) fn close(&self) {
        self.closed.set(true);
        self.changed.notify(usize::MAX);
        self.partition.wake();
    }

    async fn feed(&self, outbox: &Outbox) {
        let mut reader = Reader::new(Rc::clone(&self.partition), self.limits);
        let io = self.partition.io();
        self.told_us.set(io.now_us());
        while self.wait_for_credit().await {
            let grown = self.partition.listen();
            if self.closed.get() || outbox.is_closed() {
                return;
            }
            if let Err(error) = self.refuse_if_over() {
                return self.fail(outbox, &error);
            }
            let trim_end = self.partition.trim_end();
            let missed = trim_end.get().saturating_sub(self.next.get().get());
            let from = self.next.get().max(trim_end);
            if missed > 0 && self.told_end.get() < self.next.get() {
                // What was looked at comes before what is missed.
                self.send(outbox, &Slice::empty(self.next.get()), 0, false);
                continue;
            }
            if from >= self.partition.visible_end() {
                if self.partition.is_complete() && from >= self.partition.ends().appended_end {
                    self.send(outbox, &Slice::empty(from), missed, true);
                    return;
                }
                if missed > 0 {
                    // Told at once, and not only when the next event comes.
                    self.next.set(from);
                    self.send(outbox, &Slice::empty(from), missed, false);
                    continue;
                }
                match self.silence() {
                    Some(Duration::ZERO) => self.send(outbox, &Slice::empty(from), 0, false),
                    Some(silence) => future::or(grown, io.sleep(silence)).await,
                    None => grown.await,
                }
                continue;
            }
            // Before it is read: what many subscriptions have read lies in memory as long as their client takes nothing.
            let Some(_expected) = outbox.expect(self.limits.bytes_max) else {
                outbox.room_for_more().await;
                continue;
            };
            let read = match &self.picking {
                None => reader.next(from).await.and_then(|slice| {
                    self.refuse_if_unknown(&slice)?;
                    if !self.closed.get() {
                        self.next.set(slice.end_event_id);
                        self.send(outbox, &slice, missed, false);
                    }
                    Ok(())
                }),
                Some(picking) => self.feed_picked(&mut reader, picking, outbox, from, missed).await,
            };
            match read {
                Ok(()) => {}
                // It went while it was read: the next round goes on at the first event that is left.
                Err(error) if error.code == ErrorCode::Trimmed => continue,
                Err(_) if self.closed.get() => return,
                Err(error) => {
                    let error = self.refuse_if_over().err().unwrap_or(error);
                    return self.fail(outbox, &error);
                }
            }
        }
    }

    /// One slice, of which only what is picked is sent. When that is nothing, the client hears of it now and then.
    async fn feed_picked(
        &self,
        reader: &mut Reader<I>,
        picking: &Picking,
        outbox: &Outbox,
        from: EventId,
        missed: u64,
    ) -> Result<(), WireError> {
        let slice = reader.next(from).await?;
        self.refuse_if_unknown(&slice)?;
        let picks = picking
            .pick(&self.partition, &slice, self.limits.bytes_max)
            .await?;
        if self.closed.get() {
            // Its number may be another subscription's by now.
            return Ok(());
        }
        self.next.set(picks.end_event_id);
        // An error comes next: what was looked at before it is told.
        let is_cut = picks.end_event_id < slice.end_event_id;
        if picks.item_count > 0 || missed > 0 || is_cut || self.silence() == Some(Duration::ZERO) {
            let header = self.header(
                (self.first_of_feed(from, missed), picks.end_event_id),
                missed,
                picks.item_count,
                false,
            );
            let pieces = std::iter::once(header).chain(picks.items).collect();
            self.push(outbox, pieces, picks.event_count);
        }
        // Others of this shard have waited while the events were looked at.
        future::yield_now().await;
        Ok(())
    }

    /// How much longer the client may be left without word of what was looked at; `None` when it knows.
    fn silence(&self) -> Option<Duration> {
        let waited_us = self.partition.io().now_us().saturating_sub(self.told_us.get());
        let left = SILENCE.saturating_sub(Duration::from_micros(waited_us));
        (self.told_end.get() < self.next.get()).then_some(left)
    }

    /// An error when there is nothing to be fed any more.
    fn refuse_if_over(&self) -> Result<(), WireError> {
        self.partition.refuse_if_deleted()?;
        if self.superseded.get() {
            let message = format!(
                "another consumer named \"{}\" reads partition {} of topic {} now",
                self.consumer,
                self.partition.spec().record.index,
                self.partition.spec().topic.name
            );
            return Err(WireError::new(ErrorCode::Superseded, message));
        }
        Ok(())
    }

    /// A client from before references, or before producers with a source, would not know what it reads.
    fn refuse_if_unknown(&self, slice: &Slice) -> Result<(), WireError> {
        let has = |is_so: fn(&Batch) -> bool| slice.batches.iter().any(is_so);
        let (what, feature) = if !self.knows_references && has(Batch::has_references) {
            ("refer to data of other events", FEATURE_REFERENCES)
        } else if !self.knows_sources && has(Batch::covers_source) {
            (
                "are in batches that say which places of a source they cover",
                FEATURE_SOURCES,
            )
        } else {
            return Ok(());
        };
        let message = format!(
            "from event {} on, events of partition {} of topic {} {what}, which this client does not know (feature \
             \"{feature}\"): use a newer one",
            slice.first_event_id,
            self.partition.spec().record.index,
            self.partition.spec().topic.name
        );
        Err(WireError::new(ErrorCode::UnsupportedVersion, message))
    }

    /// The client is told and decides; nothing more is fed from here. This takes no credit.
    fn fail(&self, outbox: &Outbox, error: &WireError) {
        let body = Bytes::from(error.to_json());
        outbox.push([FrameHeader::error(self.id, &body), body]);
    }

    /// Returns false when the subscription ended meanwhile. Also returns when there is something to tell that needs no
    /// credit.
    async fn wait_for_credit(&self) -> bool {
        loop {
            let listener = self.changed.listen();
            let deleted = self.partition.listen_deleted();
            if self.closed.get() {
                return false;
            }
            if self.credits.borrow().available() > 0 || self.refuse_if_over().is_err() {
                return true;
            }
            future::or(listener, deleted).await;
        }
    }

    fn send(&self, outbox: &Outbox, slice: &Slice, missed: u64, end_of_stream: bool) {
        let events = (
            self.first_of_feed(slice.first_event_id, missed),
            slice.end_event_id,
        );
        let item_count = u32::try_from(slice.batches.len()).unwrap_or(u32::MAX);
        let mut body = FeedBody::default();
        body.copy(&self.header(events, missed, item_count, end_of_stream));
        for batch in &slice.batches {
            body.push(batch, self.limits.with_data);
        }
        let event_count = slice
            .end_event_id
            .get()
            .saturating_sub(slice.first_event_id.get());
        self.push(outbox, body.finish(), event_count);
    }

    /// Where a feed begins that has the events from `from` on: what was looked at before and not told belongs to it.
    fn first_of_feed(&self, from: EventId, missed: u64) -> EventId {
        match (&self.picking, missed) {
            (Some(_), 0) => self.told_end.get(),
            _ => from,
        }
    }

    /// The header of a feed that is sent at once.
    fn header(
        &self,
        (first_event_id, end_event_id): (EventId, EventId),
        missed_count: u64,
        item_count: u32,
        end_of_stream: bool,
    ) -> Bytes {
        let taken = self.credits.borrow_mut().take();
        assert!(taken, "a feed is sent only when there is credit");
        self.told_end.set(end_event_id);
        self.told_us.set(self.partition.io().now_us());
        let header = FeedHeader {
            first_event_id,
            end_event_id,
            visible_end: self.partition.visible_end(),
            missed_count,
            item_count,
            is_picked: self.picking.is_some(),
            end_of_stream,
        };
        header.encode()
    }

    fn push(&self, outbox: &Outbox, pieces: Vec<Bytes>, event_count: u64) {
        let body_bytes: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
        let measures = self.partition.measures();
        measures.feeds.add(1);
        measures.fed_events.add(event_count);
        measures.fed_bytes.add(body_bytes);
        let first = FrameHeader::self_checked(mofka_net::Opcode::Feed, self.id, body_bytes);
        let first = Bytes::copy_from_slice(&first);
        outbox.push(std::iter::once(first).chain(pieces));
    }
}

impl<I: Io> Subscriber for Subscription<I> {
    fn credits(&self) -> u32 {
        self.credits.borrow().available()
    }

    fn supersede(&self) {
        self.superseded.set(true);
        self.changed.notify(usize::MAX);
        self.partition.wake();
    }
}

/// Pieces below this are gathered into one: a piece of its own costs more than copying so little.
const GATHERED_BYTES_MAX: usize = 2048;
/// How much is gathered at most.
const GATHER_BYTES: usize = 64 << 10;

/// The body of a feed, in pieces.
#[derive(Default)]
struct FeedBody {
    pieces: Vec<Bytes>,
    gathered: BytesMut,
}

impl FeedBody {
    /// A batch as it is stored, with its data when that is wanted and here.
    fn push(&mut self, batch: &Batch, with_data: bool) {
        let data = batch.data().filter(|_| with_data).cloned().unwrap_or_default();
        let item = FeedItem {
            frame_bytes: batch.frame_bytes(),
            data_bytes: data.len() as u64,
        };
        let pad = data.len().next_multiple_of(FRAME_ALIGN_BYTES) - data.len();
        self.copy(&item.encode());
        self.copy(batch.header_bytes());
        self.add(batch.body());
        self.add(&data);
        self.copy([0_u8; FRAME_ALIGN_BYTES].get(..pad).unwrap_or_default());
    }

    /// Bytes that may stay where they are.
    fn add(&mut self, bytes: &Bytes) {
        if bytes.len() < GATHERED_BYTES_MAX {
            return self.copy(bytes);
        }
        self.cut();
        self.pieces.push(bytes.clone());
    }

    fn copy(&mut self, bytes: &[u8]) {
        if self.gathered.len() + bytes.len() > self.gathered.capacity() {
            self.cut();
            self.gathered.reserve(GATHER_BYTES.max(bytes.len()));
        }
        self.gathered.extend_from_slice(bytes);
    }

    fn cut(&mut self) {
        if !self.gathered.is_empty() {
            self.pieces.push(self.gathered.split().freeze());
        }
    }

    fn finish(mut self) -> Vec<Bytes> {
        self.cut();
        self.pieces
    }
}
