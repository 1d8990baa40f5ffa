//! How batches enter a partition: when there is room for them, in order, each once.

use mofka_log::{AckAt, Batch, Durability, EVENT_ID_END, EventId, SequenceVerdict, Stamp};
use mofka_net::{ErrorCode, WireError};

use super::recent::cost_bytes;
use super::refusal::refusal;
use super::{AppendDone, Appended, Partition, poisoned};
use crate::commit::Done;
use crate::io::Io;
use crate::room::{Need, NoRoom};

pub(super) enum Admitted {
    New { at: AckAt },
    Again(Again),
}

/// A batch that was accepted before.
pub(super) struct Again {
    base_event_id: EventId,
    event_count: u32,
    at: AckAt,
}

impl Again {
    fn of(verdict: &SequenceVerdict, at: AckAt) -> Option<Self> {
        match verdict {
            SequenceVerdict::Duplicate {
                base_event_id,
                event_count,
            } => Some(Self {
                base_event_id: *base_event_id,
                event_count: *event_count,
                at,
            }),
            _ => None,
        }
    }
}

impl<I: Io> Partition<I> {
    /// Accepts a checked batch, or says why not. Call [`Partition::kick`] after a burst of these. A batch for which there
    /// is no room in the files yet waits until they were made longer, and so do all that come after it.
    pub fn append(&self, batch: Batch, asked: Option<Durability>, done: AppendDone) {
        let Some(room) = &self.room else {
            return self.append_now(batch, asked, done);
        };
        let need = Need {
            frame_bytes: batch.frame_bytes(),
            data_bytes: batch.data_bytes(),
        };
        // One that is there already needs no room.
        if !room.takes(need)
            && let Some(again) = self.find_again(&batch, asked)
        {
            return self.again(again, done);
        }
        let me = self.me.clone();
        let enter = move |outcome: Result<(), NoRoom>| {
            let Some(partition) = me.upgrade() else { return };
            match outcome {
                Ok(()) => partition.append_now(batch, asked, done),
                Err(no_room) => done(Err(partition.no_room(&no_room))),
            }
        };
        room.enter(need, Box::new(enter));
    }

    pub(super) fn no_room(&self, no_room: &NoRoom) -> WireError {
        self.note_full(&no_room.reason);
        let message = format!(
            "partition {} of topic {} took nothing: {}; free some space and send it again",
            self.spec.record.index, self.spec.topic.name, no_room.reason
        );
        WireError::new(ErrorCode::NoSpace, message)
    }

    fn append_now(&self, batch: Batch, asked: Option<Durability>, done: AppendDone) {
        match self.admit(&batch, asked) {
            Err(error) => done(Err(error)),
            Ok(Admitted::Again(again)) => self.again(again, done),
            Ok(Admitted::New { at }) => match self.take_memory(&batch) {
                Ok(()) => self.accept(batch, at, done),
                Err(error) => done(Err(error)),
            },
        }
    }

    /// Takes what a batch will keep of the memory that all memory partitions of the node share. If there is not enough, what
    /// the topic's retention lets go makes room.
    fn take_memory(&self, batch: &Batch) -> Result<(), WireError> {
        if self.store.is_some() {
            return Ok(());
        }
        let bytes = cost_bytes(batch);
        if self.memory.take_of_node(bytes) || self.makes_way(bytes) {
            return Ok(());
        }
        let max = self.memory.node_bytes_max();
        let message = format!(
            "partition {} of topic {} took nothing: the memory partitions of this node are full, {bytes} bytes beside the {} \
             that they keep would exceed limits.memory_bytes_max ({}), and the topic's retention lets nothing more go; give \
             such topics a retention, delete one, or raise the limit",
            self.spec.record.index,
            self.spec.topic.name,
            self.memory.node_used_bytes(),
            max.unwrap_or(u64::MAX)
        );
        self.note_full(&message);
        Err(WireError::new(ErrorCode::NoSpace, message))
    }

    fn accept(&self, mut batch: Batch, at: AckAt, done: AppendDone) {
        self.note_accepted(&batch);
        let event_count = batch.event_count();
        let place = batch.place();
        self.referring.note(&batch, self.appended_end());
        let base_event_id = match &self.store {
            None => {
                let base_event_id = self.memory_end.get();
                batch.stamp(Stamp {
                    base_event_id,
                    timestamp_us: self.io.now_us(),
                    ..Stamp::default()
                });
                let end = batch.end_event_id();
                self.recent.borrow_mut().push(batch);
                self.memory_end.set(end);
                self.visible_end.set(end);
                self.keep_memory_bound();
                self.changed.notify(usize::MAX);
                done(Ok(Appended {
                    base_event_id,
                    event_count,
                    duplicate: false,
                }));
                base_event_id
            }
            Some(store) => {
                let base_event_id = store.committer().ends().appended_end;
                let appended = Appended {
                    base_event_id,
                    event_count,
                    duplicate: false,
                };
                let accepted = store.committer().accept(batch, at, answer(appended, done));
                assert_eq!(
                    accepted.base_event_id, base_event_id,
                    "ids are given in order of acceptance"
                );
                base_event_id
            }
        };
        if let Some(place) = place {
            self.producers
                .borrow_mut()
                .note(place, base_event_id, event_count);
        }
    }

    pub(super) fn admit(&self, batch: &Batch, asked: Option<Durability>) -> Result<Admitted, WireError> {
        let at = self.ack_at(asked)?;
        self.refuse_if_gone()?;
        let sequence = batch
            .place()
            .map(|place| (place, self.producers.borrow().check(place)));
        // Whoever can take nothing more still knows what it has.
        if let Some((_, verdict)) = &sequence
            && let Some(again) = Again::of(verdict, at)
        {
            return Ok(Admitted::Again(again));
        }
        self.refuse_if_unable()?;
        match sequence {
            None | Some((_, SequenceVerdict::New)) => {}
            // The events and with them the sequences of a memory partition end with the process.
            Some((_, SequenceVerdict::Unknown)) if self.store.is_none() => {}
            Some((place, verdict)) => return Err(refusal(verdict, place)),
        }
        if self.complete.get() {
            let message = format!(
                "partition {} of topic {} is marked complete: it takes no more events",
                self.spec.record.index, self.spec.topic.name
            );
            return Err(WireError::new(ErrorCode::TopicComplete, message));
        }
        self.refuse_beyond_ids(batch.event_count())?;
        if self.store.is_none() {
            let bytes_max = self.memory.memory_partition_bytes_max();
            let bytes = || self.recent.borrow().bytes() + batch.frame_bytes() + batch.data_bytes();
            if bytes() > bytes_max {
                self.trim_memory(0);
            }
            let bytes = bytes();
            if bytes > bytes_max {
                let message = format!(
                    "memory partition {} is full: {bytes} bytes would exceed its bound of {bytes_max}, and the topic's \
                     retention lets nothing more go; give the topic a retention, or raise \
                     limits.memory_partition_bytes_max",
                    self.spec.record.id
                );
                self.note_full(&message);
                return Err(WireError::new(ErrorCode::NoSpace, message));
            }
        }
        Ok(Admitted::New { at })
    }

    /// Only files that were made so begin near the end of all ids: nobody can write that many events.
    fn refuse_beyond_ids(&self, event_count: u32) -> Result<(), WireError> {
        let next = self.appended_end();
        let is_below = |end: EventId| end.get() < EVENT_ID_END;
        if next.checked_add(event_count.into()).is_some_and(is_below) {
            return Ok(());
        }
        let message = format!(
            "partition {} of topic {} has no ids left: its next event would be {next}, and ids end at {EVENT_ID_END}; add \
             a partition to the topic",
            self.spec.record.index, self.spec.topic.name
        );
        Err(WireError::new(ErrorCode::ReadOnly, message))
    }

    /// Of a deleted topic nothing is known any more, and who hears that a node stops asks again when it is back.
    fn refuse_if_gone(&self) -> Result<(), WireError> {
        self.refuse_if_deleted()?;
        if self.stopping.get() {
            return Err(WireError::new(
                ErrorCode::ShuttingDown,
                "the node is shutting down".to_owned(),
            ));
        }
        Ok(())
    }

    pub(super) fn refuse_if_unable(&self) -> Result<(), WireError> {
        self.refuse_if_gone()?;
        if let Some(reason) = self.poison() {
            return Err(poisoned(&self.spec, &reason));
        }
        if let Some(reason) = self.read_only.borrow().as_ref() {
            let message = format!("partition {} is read-only: {reason}", self.spec.record.id);
            return Err(WireError::new(ErrorCode::ReadOnly, message));
        }
        Ok(())
    }

    /// Whether this batch was accepted before.
    pub(super) fn find_again(&self, batch: &Batch, asked: Option<Durability>) -> Option<Again> {
        let verdict = self.producers.borrow().check(batch.place()?);
        self.refuse_if_gone().ok()?;
        Again::of(&verdict, self.ack_at(asked).ok()?)
    }

    /// The answer to a batch that was accepted before.
    pub(super) fn again(&self, again: Again, done: AppendDone) {
        let Again {
            base_event_id,
            event_count,
            at,
        } = again;
        self.measures.duplicate_batches.add(1);
        let appended = Appended {
            base_event_id,
            event_count,
            duplicate: true,
        };
        let end = base_event_id
            .checked_add(u64::from(event_count))
            .unwrap_or(base_event_id);
        match &self.store {
            None => done(Ok(appended)),
            // Also when nothing more can be written.
            Some(store) if end <= store.committer().ends().synced_end => done(Ok(appended)),
            Some(store) => store.committer().wait_for(end, at, answer(appended, done)),
        }
    }

    /// When a batch is answered: what the producer asked for, else what the topic says.
    pub(super) fn ack_at(&self, asked: Option<Durability>) -> Result<AckAt, WireError> {
        if self.store.is_none() {
            return match asked {
                None | Some(Durability::Buffered) => Ok(AckAt::Accepted),
                Some(asked) => Err(WireError::new(
                    ErrorCode::DurabilityUnavailable,
                    format!("a memory partition gives durability \"buffered\" at most, not {asked:?}"),
                )),
            };
        }
        Ok(match asked.unwrap_or(self.spec.topic.durability) {
            Durability::Synced => AckAt::Synced,
            Durability::Written => AckAt::Written,
            Durability::Buffered => AckAt::Accepted,
        })
    }

    /// Calls `done` when everything appended before this call is durable.
    pub fn barrier(&self, done: AppendDone) {
        let Some(room) = &self.room else {
            return self.barrier_now(done);
        };
        let me = self.me.clone();
        // Behind those that wait for room. Whoever of them is refused hears that himself.
        let enter = move |_| {
            if let Some(partition) = me.upgrade() {
                partition.barrier_now(done);
            }
        };
        room.enter(Need::default(), Box::new(enter));
    }

    fn barrier_now(&self, done: AppendDone) {
        let end = self.appended_end();
        let appended = Appended {
            base_event_id: end,
            event_count: 0,
            duplicate: false,
        };
        match &self.store {
            None => done(Ok(appended)),
            Some(store) => {
                store
                    .committer()
                    .wait_for(end, AckAt::Synced, answer(appended, done));
                store.committer().kick();
            }
        }
    }
}

pub(super) fn answer(appended: Appended, done: AppendDone) -> Done {
    Box::new(move |stored| {
        done(match stored {
            Ok(()) => Ok(appended),
            Err(poison) => Err(WireError::new(ErrorCode::Poisoned, poison.reason.clone())),
        });
    })
}
