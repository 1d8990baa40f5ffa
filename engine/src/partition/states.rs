//! What is logged of a partition: a line for each change of what it can do, with the new state in the field `state`.

use mofka_log::{EventId, TrimReason};
use mofka_net::{ErrorCode, WireError};

use super::Partition;
use crate::io::Io;

/// Writes such a line.
macro_rules! line {
    ($level:ident, $state:literal, $partition:expr, $($rest:tt)+) => {
        tracing::$level!(
            state = $state,
            topic = %$partition.spec.topic.name,
            partition = $partition.spec.record.index,
            id = %$partition.spec.record.id,
            $($rest)+
        )
    };
}

impl<I: Io> Partition<I> {
    /// It was opened, or made.
    pub(crate) fn note_open(&self) {
        let (events, verdict) = (self.ends().appended_end.get(), self.verdict.prose());
        match self.read_only() {
            None => line!(info, "open", self, events, verdict, "partition is open"),
            Some(reason) => {
                line!(
                    error,
                    "read_only",
                    self,
                    events,
                    verdict,
                    reason,
                    "partition is read-only"
                );
            }
        }
    }

    /// Damage was found after it was opened.
    pub(super) fn becomes_read_only(&self, reason: String) {
        if self.refuse_if_deleted().is_err() {
            // Its files are being removed.
            return;
        }
        line!(error, "read_only", self, reason, "partition is read-only");
        self.read_only.borrow_mut().get_or_insert(reason);
        if let Some(room) = &self.room {
            room.leave_alone();
        }
    }

    /// Stored events that were asked for do not check: not only whoever asked is told.
    pub(super) fn found_damaged(&self, error: &WireError) {
        if error.code == ErrorCode::Damaged && self.store.is_some() && self.read_only.borrow().is_none() {
            self.becomes_read_only(format!("damaged: {}", error.message));
        }
    }

    pub(super) fn note_poisoned(&self, reason: &str) {
        if self.refuse_if_deleted().is_err() {
            // A trim that was under way: the files are gone, and so is whoever would care.
            return;
        }
        line!(
            error,
            "poisoned",
            self,
            reason,
            "partition is poisoned: it takes no more events until the node is restarted; stored events stay readable"
        );
    }

    /// A batch found no room.
    pub(super) fn note_full(&self, reason: &str) {
        if !self.is_full.replace(true) {
            line!(
                warn,
                "full",
                self,
                reason,
                "partition is full: it refuses events until there is room"
            );
        }
    }

    /// A batch found room, and the one before had not.
    pub(super) fn note_room(&self) {
        self.is_full.set(false);
        line!(
            info,
            "healed",
            self,
            "partition takes events again: there is room"
        );
    }

    pub(super) fn note_complete(&self) {
        line!(
            info,
            "complete",
            self,
            "partition is complete: it takes no more events"
        );
    }

    pub(super) fn note_deleted(&self) {
        line!(info, "deleted", self, "partition is deleted");
    }

    /// The next segment is written. Not a line for everybody: a fast partition has some each second.
    pub(super) fn note_rolled(&self) {
        self.measures.rolled_segments.add(1);
        let events = self.ends().appended_end.get();
        line!(
            debug,
            "rolled",
            self,
            events,
            "partition goes on in its next segment"
        );
    }

    /// Retention let a segment go.
    pub(super) fn note_dropped(&self, reason: TrimReason, trim_end: EventId) {
        self.measures.dropped_segments.add(1);
        let trim_end = trim_end.get();
        line!(
            info,
            "trimmed",
            self,
            ?reason,
            trim_end,
            "retention dropped a segment"
        );
    }
}
