//! Events on their way to the destination, and their acknowledgement at the source.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use mofka_client::{AckFuture, DeliveryError, Event, PushFuture};

/// Events between two whose answers are looked at: batches are answered in order, so one says it of those before it.
const LOOK_AT_EVERY: u64 = 128;
/// The same by the data that they keep in memory.
const LOOK_AT_BYTES: u64 = 256 << 10;

/// What was pushed and is not known to be stored. Bounded by what the producer takes.
#[derive(Default)]
pub(super) struct Flight {
    looked_at: VecDeque<Sent>,
    /// The newest.
    last: Option<Sent>,
    /// Since the one before that was put aside.
    since: (u64, u64),
    pub(super) acknowledged: Option<AckFuture>,
}

/// How an event went.
pub(super) enum Went {
    /// It is stored when this says so.
    Pushed(PushFuture),
    /// It is stored, and so are all before it.
    Stored,
    /// It is left out.
    LeftOut,
}

struct Sent {
    event: Event,
    went: Went,
    /// Of it and those before it that are not looked at: how many are stored with it, and how many left out.
    count: u64,
    skipped: u64,
}

/// What became of some.
pub(super) struct Landed {
    pub(super) forwarded: u64,
    pub(super) skipped: u64,
    /// The place behind them.
    pub(super) end: u64,
}

impl Flight {
    /// An event was pushed, or is left out.
    pub(super) fn add(&mut self, event: Event, went: Went) {
        let (mut count, mut skipped) = match &went {
            Went::Pushed(_) | Went::Stored => (1, 0),
            Went::LeftOut => (0, 1),
        };
        let is_pushed = |went: &Went| matches!(went, Went::Pushed(_));
        let bytes = event.data().bytes();
        if let Some(last) = self.last.take() {
            let is_due = self.since.0 >= LOOK_AT_EVERY || self.since.1 >= LOOK_AT_BYTES;
            // An event without an answer cannot say it of those before it.
            if is_due || is_pushed(&last.went) && !is_pushed(&went) {
                self.looked_at.push_back(last);
                self.since = (0, 0);
            } else {
                (count, skipped) = (count + last.count, skipped + last.skipped);
            }
        }
        self.since = (self.since.0 + 1, self.since.1 + bytes);
        self.last = Some(Sent {
            event,
            went,
            count,
            skipped,
        });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.last.is_none() && self.looked_at.is_empty()
    }

    /// The place behind the newest.
    pub(super) fn end(&self) -> Option<u64> {
        let newest = self.last.as_ref().or(self.looked_at.back())?;
        Some(newest.event.id().get() + 1)
    }

    /// Takes what is stored and acknowledges it at the source. `also_last`: nothing more comes for now.
    ///
    /// # Errors
    /// When one is not stored, and will not be.
    pub(super) fn land(&mut self, also_last: bool) -> Result<Option<Landed>, DeliveryError> {
        let mut landed: Option<Landed> = None;
        let mut newest = None;
        let outcome = loop {
            let next = match self.looked_at.front() {
                Some(sent) => sent,
                None => match &self.last {
                    Some(sent) if also_last => sent,
                    _ => break Ok(()),
                },
            };
            if let Went::Pushed(answer) = &next.went {
                match answer.wait_timeout(Duration::ZERO) {
                    Ok(Some(_)) => {}
                    Ok(None) => break Ok(()),
                    Err(error) => break Err(error),
                }
            }
            let Some(sent) = self.looked_at.pop_front().or_else(|| self.last.take()) else {
                break Ok(());
            };
            let all = landed.get_or_insert(Landed {
                forwarded: 0,
                skipped: 0,
                end: 0,
            });
            all.forwarded += sent.count;
            all.skipped += sent.skipped;
            all.end = sent.event.id().get() + 1;
            newest = Some(sent.event);
        };
        if let Some(event) = newest {
            self.acknowledged = Some(event.acknowledge());
        }
        // What is stored is told first; the error is there again at the next call.
        match landed {
            Some(landed) => Ok(Some(landed)),
            None => outcome.map(|()| None),
        }
    }

    /// Waits until the last acknowledgement is durable, but no longer than this.
    pub(super) fn wait_acknowledged(&self, until: Instant) {
        let left = until.saturating_duration_since(Instant::now());
        let waited = self.acknowledged.as_ref().map(|future| future.wait_timeout(left));
        if let Some(Err(error)) = waited {
            // Only where to begin reading depends on it: the destination knows what it has.
            tracing::debug!(%error, "the source does not know how far it was read");
        }
    }
}
