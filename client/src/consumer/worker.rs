//! The consumer's thread: from feeds to events. With a pool, feeds are taken there (`strand.rs`), and the thread only unsubscribes.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use mofka_log::{Batch, EventId};
use mofka_net::{Feed, FeedItemView, FeedPart, Picked};

use super::acknowledge::AckLane;
use super::assignment::AssignmentChange;
use super::event::{Event, Parts};
use super::fetching::{self, Abandoned};
use super::preparing::{Prepared, Preparer, Raw};
use super::selector::SelectorKind;
use super::subscription::{Allowance, Source, Subscription};
use super::{CLOSE_TIMEOUT, Core};
use crate::error::PullError;
use crate::link::Connection;
use crate::promise::{Deadline, lock, wait_on};

/// Events that are handed over together, when none of them waits for its data.
const READY_COUNT: usize = 256;

/// What came of a subscription, in the order in which it came.
pub(super) struct Incoming {
    pub(super) source: Arc<Source>,
    pub(super) generation: u64,
    pub(super) connection: Arc<Connection>,
    pub(super) subscription: u64,
    pub(super) allowance: Arc<Allowance>,
    pub(super) what: Sent,
}

/// What the node sent.
pub(super) enum Sent {
    Feed(Bytes),
    /// It gives no more, and why.
    End(String),
}

/// Starts the thread. It ends when the consumer is closed, and unsubscribes then.
pub(super) fn start(core: &Arc<Core>) -> io::Result<()> {
    let core = Arc::clone(core);
    let builder = std::thread::Builder::new().name("mofka-consumer".to_owned());
    builder.spawn(move || {
        work(&core);
        let ended = Arc::clone(&core.worker_ended);
        // First, so that whoever waits for the end is the last to have the application's functions.
        drop(core);
        ended.set(());
    })?;
    Ok(())
}

fn work(core: &Arc<Core>) {
    while let Some(incoming) = next(core) {
        take(core, incoming);
    }
    lock(&core.inbox).clear();
    let turn = core.assignments.turn();
    let sources = std::mem::take(&mut *lock(&core.sources));
    let ends: Vec<_> = sources
        .iter()
        .filter_map(|source| source.finish())
        .map(|live| live.end())
        .collect();
    let indices = sources.iter().map(|source| source.index()).collect();
    turn.tell(AssignmentChange::Withdrawn, indices);
    drop(turn);
    let deadline = Deadline::after(CLOSE_TIMEOUT);
    for end in ends {
        end.wait(deadline);
    }
    for source in &sources {
        source.strand().wait(deadline);
        source.lane().wait_until_idle(deadline);
    }
    core.membership.leave(&core.driver).wait(deadline);
}

fn next(core: &Core) -> Option<Incoming> {
    let mut inbox = lock(&core.inbox);
    loop {
        if core.is_closed() {
            return None;
        }
        if let Some(incoming) = inbox.pop_front() {
            return Some(incoming);
        }
        inbox = wait_on(&core.work, inbox, Deadline::Never);
    }
}

/// Takes one feed, or the end behind the last one.
pub(super) fn take(core: &Core, incoming: Incoming) {
    let body = match &incoming.what {
        Sent::Feed(body) => body,
        Sent::End(reason) => return incoming.source.gives_no_more(incoming.generation, reason),
    };
    let credit = Subscription::credit(&incoming.connection, incoming.subscription, &incoming.allowance);
    let mut taking = Taking {
        core,
        incoming: &incoming,
        // Before it is looked at whether the generation is over: with another lane there is another generation.
        lane: incoming.source.lane(),
        body,
        ready: Vec::new(),
        ready_end: None,
    };
    match taking.run() {
        Ok(()) => core.delivery.give_back(credit),
        Err(reason) => incoming.source.restart(incoming.generation, &reason),
    }
}

/// One feed at work.
struct Taking<'a> {
    core: &'a Core,
    incoming: &'a Incoming,
    lane: Arc<AckLane>,
    body: &'a Bytes,
    /// Events that lack nothing and were not handed over yet.
    ready: Vec<Result<Parts, PullError>>,
    /// The event after them.
    ready_end: Option<EventId>,
}

impl Taking<'_> {
    /// An error asks for a new subscription.
    fn run(&mut self) -> Result<(), String> {
        let (source, generation) = (&self.incoming.source, self.incoming.generation);
        let Some(expected) = source.expected(generation) else {
            return Ok(());
        };
        self.core.counters.feed(self.body.len());
        let feed = Feed::check(self.body.clone()).map_err(|error| error.to_string())?;
        let header = feed.header;
        let first = expected.map(|expected| expected.get().saturating_add(header.missed_count));
        if first.is_some_and(|first| first != header.first_event_id.get()) {
            let (at, missed) = (header.first_event_id, header.missed_count);
            return Err(format!(
                "a feed begins at event {at} and missed {missed}, but {expected:?} was expected"
            ));
        }
        self.missed(header.missed_count);
        source.feeds_from(generation, header.first_event_id);
        // The application's own functions may take their time: what they are done with does not wait for the rest.
        let options = &self.core.options;
        let has_callbacks = matches!(options.data_selector.kind, SelectorKind::Custom(_))
            || options.data_allocator.allocate.is_some();
        let ready_count = if has_callbacks { 1 } else { READY_COUNT };
        let mut waiting = VecDeque::new();
        let mut next = header.first_event_id;
        let end = header.end_event_id;
        for item in feed.items {
            match item {
                FeedPart::Batch(batch) => self.prepare(batch, &mut next, end, &mut waiting)?,
                FeedPart::Picked(picked) => self.prepare_picked(picked, &mut next, end, &mut waiting)?,
            }
            if self.core.is_closed() {
                return Ok(());
            }
            // What lacks nothing need not wait for the rest of the feed; what lacks something is fetched together.
            if self.ready.len() >= ready_count && !self.deliver_ready() {
                return Ok(());
            }
        }
        if !self.deliver_ready() {
            return Ok(());
        }
        if header.is_picked {
            self.skip(&mut next, end);
        }
        if next != header.end_event_id {
            return Err(format!(
                "a feed up to event {} ends at {next}",
                header.end_event_id
            ));
        }
        self.fetch(&mut waiting)?;
        // Also what was missed is behind us, when nothing came.
        source.deliver(self.core, generation, None, next);
        if header.end_of_stream {
            source.ended(self.core, generation);
        }
        Ok(())
    }

    fn missed(&self, count: u64) {
        if count > 0 {
            tracing::warn!(
                partition = self.incoming.source.index(),
                missed = count,
                "retention dropped events before this consumer got them"
            );
            self.core.counters.missed(count);
        }
    }

    /// Checks a batch and prepares those of its events that belong to the feed.
    fn prepare(
        &mut self,
        item: FeedItemView,
        next: &mut EventId,
        end: EventId,
        waiting: &mut VecDeque<Prepared>,
    ) -> Result<(), String> {
        let checked = match item.data {
            // Data that does not check is fetched again, the events of the batch are not to blame.
            Some(data) => {
                Batch::check(item.frame.clone(), Some(data)).or_else(|_| Batch::check(item.frame, None))
            }
            None => Batch::check(item.frame, None),
        };
        let batch = checked.map_err(|error| error.to_string())?;
        for event in batch.events() {
            let id = batch
                .base_event_id()
                .checked_add(event.index.into())
                .ok_or("event ids beyond 64 bits")?;
            if id < *next || id >= end {
                continue;
            }
            if id != *next {
                return Err(format!("event {next} is missing before {id}"));
            }
            self.prepare_one(Raw::of_batch(&batch, &event, id), next, waiting);
        }
        Ok(())
    }

    /// Prepares events that the node picked for us. Those between them are not ours.
    fn prepare_picked(
        &mut self,
        picked: Picked,
        next: &mut EventId,
        end: EventId,
        waiting: &mut VecDeque<Prepared>,
    ) -> Result<(), String> {
        for event in picked.events {
            let id = event.id;
            if id < *next || id >= end {
                return Err(format!(
                    "event {id} was picked where {next} to {end} were to come"
                ));
            }
            self.skip(next, id);
            self.prepare_one(Raw::picked(event, picked.timestamp_us), next, waiting);
        }
        Ok(())
    }

    fn prepare_one(&mut self, raw: Raw, next: &mut EventId, waiting: &mut VecDeque<Prepared>) {
        let preparer = Preparer {
            source: &self.incoming.source,
            options: &self.core.options,
            serializer: self.core.serializer.as_deref(),
            filter: self.core.local_filter.as_ref(),
        };
        let id = raw.id;
        match preparer.prepare(raw) {
            None => return self.skip(next, id.next()),
            Some(prepared) if waiting.is_empty() && prepared.wanted().is_none() => {
                self.ready.push(prepared.finish(self.incoming.source.index()));
                self.ready_end = Some(id.next());
            }
            Some(prepared) => waiting.push_back(prepared),
        }
        *next = id.next();
    }

    /// A filter kept the events before `to` away.
    fn skip(&self, next: &mut EventId, to: EventId) {
        AckLane::skip(&self.lane, *next, to);
        *next = to;
    }

    fn fetch(&self, waiting: &mut VecDeque<Prepared>) -> Result<(), String> {
        if waiting.is_empty() {
            return Ok(());
        }
        let outcome = fetching::fetch(self.core, self.incoming, waiting, |waiting, complete| {
            // A generation that is over is noticed at the end.
            self.deliver(waiting, complete);
        });
        outcome.map_err(|Abandoned(reason)| reason)
    }

    /// Hands over what is ready. Returns false when this generation is over.
    fn deliver_ready(&mut self) -> bool {
        let ready = std::mem::take(&mut self.ready);
        let next = self.ready_end.take();
        self.hand_over(ready, next)
    }

    /// Hands the first events over. Returns false when this generation is over.
    fn deliver(&self, waiting: &mut VecDeque<Prepared>, count: usize) -> bool {
        let next = count
            .checked_sub(1)
            .and_then(|last| waiting.get(last))
            .map(|event| event.id.next());
        let (trimmed, kept): (Vec<_>, Vec<_>) = waiting.drain(..count).partition(Prepared::is_trimmed);
        self.missed(u64::try_from(trimmed.len()).unwrap_or(u64::MAX));
        let partition = self.incoming.source.index();
        let finished = kept.into_iter().map(|event| event.finish(partition));
        self.hand_over(finished.collect(), next)
    }

    /// `next` is the event after them, and after those before it that are missed; `None` when there is nothing.
    fn hand_over(&self, events: Vec<Result<Parts, PullError>>, next: Option<EventId>) -> bool {
        let Some(next) = next else { return true };
        self.core.counters.events(events.len());
        let source = &self.incoming.source;
        let items = Event::group(&self.lane, events);
        source.deliver(self.core, self.incoming.generation, items, next)
    }
}
