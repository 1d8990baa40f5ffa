//! How events leave a partition: old segments go as the topic's retention says, all of them when the topic is deleted.
//!
//! A segment is there when its meta file has its name. So it goes in this order, one segment after the other, the oldest
//! first: the name of the meta file; the directory is synced; `trim_end` moves; the data file. A crash in between leaves
//! at most a data file without a meta file, which the next opening removes, and no reader was told of a trim that a
//! crash could undo. Until `trim_end` moves, the files are held open for those who read them.
//!
//! What producers sent last is in the footer of the newest segment that is sealed already. Before that one goes, it is written to a file
//! of its own, `producers`: a meta file without frames. Before a segment without a footer goes, so is what its frames add to that,
//! unless a later footer has it.

use std::cell::{Cell, Ref, RefCell};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use event_listener::{Event, EventListener};
use futures_lite::future;
use mofka_log::{EventId, PartitionFacts, ProducerTable, Retention, RetentionClock, SealedFacts, TrimReason};
use mofka_net::{ErrorCode, WireError};

use super::Partition;
use super::kept::{keep_producers, kept_producers};
use super::pins::OwnPin;
use super::segment::Segment;
use super::segment_files::{base_of, meta_path, own_footer};
use super::store::Store;
use crate::io::Io;
use crate::recover::{self, Known, OpenError, Opened};

/// What a partition knows about what is to leave it.
pub(super) struct Leaving {
    retention: RefCell<Retention>,
    /// The time for retention, as the last look found it.
    now_us: Cell<u64>,
    /// One trims at a time.
    is_trimming: Cell<bool>,
    /// When the last event of the segment with this base was accepted.
    oldest_us: Cell<Option<(EventId, Option<u64>)>>,
    /// Of a memory partition that cannot keep its bound on bytes: how many it has to have before that is tried again.
    tried_bytes: Cell<u64>,
    is_deleted: Cell<bool>,
    deleted: Event,
}

impl Leaving {
    pub(super) fn new(retention: Retention) -> Self {
        Self {
            retention: RefCell::new(retention),
            now_us: Cell::new(0),
            is_trimming: Cell::new(false),
            oldest_us: Cell::new(None),
            tried_bytes: Cell::new(0),
            is_deleted: Cell::new(false),
            deleted: Event::new(),
        }
    }

    /// The topic's rules.
    pub(super) fn retention(&self) -> Ref<'_, Retention> {
        self.retention.borrow()
    }

    pub(super) fn tried_bytes(&self) -> u64 {
        self.tried_bytes.get()
    }

    pub(super) fn tried_at(&self, bytes: u64) {
        self.tried_bytes.set(bytes);
    }

    /// The time for retention, as the last look found it.
    pub(super) fn now_us(&self) -> u64 {
        self.now_us.get()
    }
}

impl<I: Io> Partition<I> {
    /// What of its events may go, from now on. It happens at the next look.
    pub fn set_retention(&self, retention: Retention) {
        *self.leaving.retention.borrow_mut() = retention;
        self.leaving.tried_bytes.set(0);
    }

    /// Lets go what the topic's retention says, at this time (see [`mofka_log::RetentionClock`]), and seals the segment
    /// that is written when its events could not go otherwise.
    pub async fn retain(&self, now_us: u64) {
        self.leaving.now_us.set(now_us);
        self.trim().await;
        self.roll_if_due().await;
    }

    /// Lets go the segments that may, by the time of the last look.
    pub(crate) async fn trim(&self) {
        let Some(store) = &self.store else {
            return self.trim_memory(0);
        };
        if self.leaving.is_trimming.replace(true) {
            // The one that is at it looks again after each segment.
            return;
        }
        store.seal_what_failed().await;
        self.look_anew();
        while let Some((oldest, reason)) = self.next_to_go(store).await {
            let end = oldest.end().unwrap_or(oldest.base);
            let own = self.own_pin(store, end).await;
            if !self.may_leave(end, own) {
                break;
            }
            if let Err(error) = self.drop_segment(store, &oldest).await {
                // Poisoned, it may have no name any more, and what is stored stays readable: through the files that are open.
                if self.poison().is_none() {
                    store.let_go();
                }
                self.stays();
                if !error.is_io() {
                    self.becomes_read_only(format!("damaged: {error}"));
                    break;
                }
                tracing::warn!(
                    topic = %self.spec.topic.name,
                    partition = self.spec.record.index,
                    %error,
                    "events that retention lets go could not be removed; tried again at the next look"
                );
                break;
            }
            assert!(
                self.trim_end() == end && end <= self.visible_end(),
                "what is trimmed was sealed, and what is sealed was visible"
            );
            self.note_dropped(reason, end);
            self.wake();
        }
        self.leaving.is_trimming.set(false);
    }

    /// Nothing is taken from a partition that is damaged or poisoned: what is wrong with it should be looked at first.
    pub(super) fn may_trim(&self) -> bool {
        !self.stopping.get() && self.poison().is_none() && self.read_only.borrow().is_none()
    }

    async fn next_to_go(&self, store: &Store<I>) -> Option<(Rc<Segment>, TrimReason)> {
        let retention = self.leaving.retention.borrow().clone();
        if retention.keeps_all() || !self.may_trim() {
            return None;
        }
        let oldest = store.oldest_sealed()?;
        let cursors = if retention.asks_consumers() {
            // An acknowledgement that a crash could take back lets nothing go.
            self.cursors().all_durable().await?
        } else {
            Vec::new()
        };
        let last_timestamp_us = if retention.age_max_ms.is_some() {
            self.last_timestamp_us(store, &oldest).await
        } else {
            None
        };
        let sealed = SealedFacts {
            end_event_id: oldest.end()?,
            last_timestamp_us,
        };
        let partition = PartitionFacts {
            bytes: store.used_bytes(),
            now_us: self.leaving.now_us.get(),
            cursors: &cursors,
        };
        let reason = retention.oldest_goes(&sealed, &partition)?;
        self.may_trim().then_some((oldest, reason))
    }

    /// What events of this partition refer to in it, as far as they stay themselves: else an event that is to go could keep
    /// what is before it, and with that itself, for ever. `None`: that holds nothing before `end`.
    async fn own_pin(&self, store: &Store<I>, end: EventId) -> Option<OwnPin> {
        let own = self.spec.record.id;
        let pin = self.pins(Some(end)).into_iter().find(|pin| pin.by == own)?;
        let stays_from = self.going_end(store).await;
        let first = match self.first_reference_from(own, stays_from).await {
            Ok(first) => first,
            Err(error) => {
                tracing::warn!(%error, "what a partition refers to in itself cannot be found out, so it stays");
                Some(pin.first)
            }
        };
        Some(OwnPin { pin, first })
    }

    /// Where the events end that retention lets go now, were none of them referred to.
    async fn going_end(&self, store: &Store<I>) -> EventId {
        let retention = self.leaving.retention.borrow().clone();
        let mut going_end = self.trim_end();
        let cursors = match retention.asks_consumers() {
            true => self.cursors().all_durable().await,
            false => Some(Vec::new()),
        };
        let Some(cursors) = cursors else { return going_end };
        let mut bytes = store.used_bytes();
        for segment in store.sealed() {
            let Some(end_event_id) = segment.end() else { break };
            let last_timestamp_us = match retention.age_max_ms {
                Some(_) => store.timestamps_us(&segment).await.ok().flatten(),
                None => None,
            };
            let sealed = SealedFacts {
                end_event_id,
                last_timestamp_us: last_timestamp_us.map(|(_, last)| last),
            };
            let partition = PartitionFacts {
                bytes,
                now_us: self.leaving.now_us.get(),
                cursors: &cursors,
            };
            if retention.oldest_goes(&sealed, &partition).is_none() {
                break;
            }
            let (meta, data) = segment.bytes().unwrap_or_default();
            bytes = bytes.saturating_sub(meta.saturating_add(data));
            going_end = end_event_id;
        }
        going_end
    }

    async fn last_timestamp_us(&self, store: &Store<I>, oldest: &Rc<Segment>) -> Option<u64> {
        if let Some((base, last_us)) = self.leaving.oldest_us.get()
            && base == oldest.base
        {
            return last_us;
        }
        match store.timestamps_us(oldest).await {
            Ok(timestamps) => {
                let last_us = timestamps.map(|(_, last)| last);
                self.leaving.oldest_us.set(Some((oldest.base, last_us)));
                last_us
            }
            Err(error) => {
                tracing::warn!(%error, "the age of a segment cannot be told, so it stays");
                None
            }
        }
    }

    /// # Errors
    /// What the machine said, or that something is wrong with the segment or behind it: then it stays.
    async fn drop_segment(&self, store: &Store<I>, oldest: &Rc<Segment>) -> Result<(), OpenError> {
        let (io, dir, id) = store.place();
        store.hold(oldest).await?;
        if !store.has_footer_beside(oldest) {
            let end = oldest.end().unwrap_or(oldest.base);
            let producers = self.producers_before(store, oldest, end).await?;
            keep_producers(io, dir, id, end, producers).await?;
            sync_names(store).await?;
        }
        let meta = meta_path(dir, oldest.base);
        io.remove(&meta)
            .await
            .map_err(|error| OpenError::io("removing", &meta, &error))?;
        sync_names(store).await?;
        store.forget_oldest();
        let bytes = oldest.bytes().map_or(0, |(_, data)| data);
        if let Err(error) = store.release_data(oldest.base, bytes).await {
            tracing::warn!(base = oldest.base.get(), %error, "a data file could not be removed; the next start tries again");
        }
        Ok(())
    }

    /// What producers sent before the end of the oldest segment: what its footer says, or, when it has none, what was kept
    /// before and its frames. Not what is known now: the answers to batches that a crash may still drop would have taken the
    /// place of earlier ones. That is better than nothing, where what was kept is gone.
    async fn producers_before(
        &self,
        store: &Store<I>,
        oldest: &Rc<Segment>,
        end: EventId,
    ) -> Result<ProducerTable, OpenError> {
        let (io, dir, id) = store.place();
        let path = meta_path(dir, oldest.base);
        let meta = store.meta_of(oldest).await?;
        if let Some((footer, _)) = own_footer(&path, &meta, id, oldest.base).await? {
            return Ok(footer.producers());
        }
        let kept = match kept_producers(io, dir, id, oldest.base).await {
            Ok(Some(producers)) => Some(producers),
            // Nothing was trimmed before; else a footer knew them, and it does not check any more.
            Ok(None) => (oldest.base == EventId::new(0)).then(ProducerTable::default),
            // One that cannot be read now may be read later, and what takes its place is for good.
            Err(error) if error.is_io() => return Err(error),
            Err(error) => {
                tracing::error!(%error, "is damaged: what is known of producers now takes its place");
                None
            }
        };
        let known = Known {
            producers: kept.clone().unwrap_or_default(),
            durable_end: end,
        };
        // The next segment vouches for its data.
        match recover::meta_file(&path, &meta, None, known, &mut |_| ()).await? {
            Opened::Segment(opened) if opened.recovered.next_event_id == end => Ok(match kept {
                Some(_) => opened.recovered.producers,
                None => self.producers.borrow().before(end),
            }),
            _ => Err(OpenError::new(format!(
                "{}: it has no footer, and its frames do not go to event {end}",
                path.display()
            ))),
        }
    }

    /// Without this, the events of a topic that gets few would never be old enough to go: the segment that is written
    /// never goes.
    async fn roll_if_due(&self) {
        let Some(store) = &self.store else { return };
        let retention = self.leaving.retention.borrow().clone();
        if retention.keeps_all() || !self.may_trim() {
            return;
        }
        let Some((active, bytes)) = store.active() else {
            return;
        };
        let first_us = match store.timestamps_us(&active).await {
            Ok(timestamps) => timestamps.map(|(first, _)| first),
            Err(_) => None,
        };
        let has_durable = active.end().is_none() && active.base < store.committer().ends().synced_end;
        if has_durable
            && retention.wants_roll(bytes, first_us, self.leaving.now_us.get())
            && let Some(room) = &self.room
        {
            room.roll_early();
        }
    }

    /// # Errors
    /// When the event is not stored any more.
    pub(super) fn refuse_if_trimmed(&self, id: EventId) -> Result<(), WireError> {
        let trim_end = self.trim_end();
        if id >= trim_end {
            return Ok(());
        }
        let message = format!("event {id} was trimmed: the first one still stored is {trim_end}");
        Err(WireError::new(ErrorCode::Trimmed, message))
    }

    /// The topic is deleted: no more events are taken, consumers are told, and what was accepted is finished, so that
    /// nobody waits for an answer. The caller removes the files afterwards.
    pub async fn delete(&self) {
        self.leaving.is_deleted.set(true);
        self.note_deleted();
        self.stopping.set(true);
        self.leaving.deleted.notify(usize::MAX);
        self.wake();
        self.abort_uploads().await;
        if let Some((store, room)) = self.store.as_ref().zip(self.room.as_ref()) {
            // Whoever waits for room is refused now.
            room.settle().await;
            store.committer().drain().await;
            store.settle().await;
        }
        self.cursors.stop().await;
        // Readers that are told late hold the partition, and are not to hold its events.
        let end = self.appended_end();
        self.recent.borrow_mut().drop_before(end);
        self.wake();
    }

    /// Waits for [`Partition::delete`]. Listen first, then look at [`Partition::refuse_if_deleted`], then wait.
    pub(crate) fn listen_deleted(&self) -> EventListener {
        self.leaving.deleted.listen()
    }

    /// # Errors
    /// When the topic was deleted.
    pub(crate) fn refuse_if_deleted(&self) -> Result<(), WireError> {
        if !self.leaving.is_deleted.get() {
            return Ok(());
        }
        let message = format!("topic \"{}\" was deleted", self.spec.topic.name);
        Err(WireError::new(ErrorCode::UnknownTopic, message))
    }
}

/// Makes durable which files there are. What a failed sync leaves is unknown, so it poisons, as any other.
async fn sync_names<I: Io>(store: &Store<I>) -> Result<(), OpenError> {
    let (io, dir, _) = store.place();
    let synced = io.sync_dir(dir).await;
    synced.map_err(|error| {
        let error = OpenError::io("syncing the directory", dir, &error);
        store.committer().fail(error.to_string());
        error
    })
}

/// When partitions are looked through next. Cheap to clone.
#[derive(Clone)]
pub struct RetentionTimer(Rc<(Cell<Duration>, Event)>);

impl RetentionTimer {
    /// So often.
    pub fn new(every: Duration) -> Self {
        Self(Rc::new((Cell::new(every), Event::new())))
    }

    /// So often from now on.
    pub(crate) fn set(&self, every: Duration) {
        if self.0.0.replace(every) != every {
            self.0.1.notify(usize::MAX);
        }
    }

    /// Waits for the next time, and tells how long that was at least, in microseconds.
    async fn wait<I: Io>(&self, io: &I) -> u64 {
        let begun_us = io.monotonic_us();
        let (every, changed) = &*self.0;
        loop {
            let listener = changed.listen();
            let every_us = u64::try_from(every.get().as_micros()).unwrap_or(u64::MAX);
            let passed_us = io.monotonic_us().saturating_sub(begun_us);
            let left = Duration::from_micros(every_us.saturating_sub(passed_us));
            let is_over = future::or(
                async {
                    io.sleep(left).await;
                    true
                },
                async {
                    listener.await;
                    false
                },
            );
            if is_over.await {
                return every_us.max(passed_us);
            }
        }
    }
}

/// Looks through partitions as long as there are any to be had, and lets go what their topics' retention says. `review` is
/// for those that would let more go, were it not referred to.
pub async fn look_after_retention<I: Io>(
    io: I,
    timer: RetentionTimer,
    partitions: impl Fn() -> Option<Vec<Rc<Partition<I>>>>,
    review: impl AsyncFn(Rc<Partition<I>>),
) {
    let mut clock = RetentionClock::default();
    let mut elapsed_us = 0;
    while let Some(partitions) = partitions() {
        // A sleep lasts at least as long as asked for, on a clock that nobody sets. When it lasts longer, the clock for
        // retention is late and catches up.
        let look = clock.look(io.now_us(), elapsed_us);
        if let Some(stepped_us) = look.stepped_us {
            tracing::warn!(
                seconds = stepped_us / 1_000_000,
                "the system's clock went forward by more than time passed: events do not look old by that for a day"
            );
        }
        for partition in partitions {
            partition.retain(look.now_us).await;
            if partition.held_end().is_some() {
                review(partition).await;
            }
        }
        elapsed_us = timer.wait(&io).await;
    }
}

/// Removes the data files of segments that went just before the machine stopped.
pub(super) async fn remove_leftovers<I: Io>(io: &I, dir: &Path, names: &[String], first: Option<EventId>) {
    let Some(first) = first else { return };
    for name in names {
        let base = name
            .strip_suffix(".data")
            .and_then(|number| base_of(&format!("{number}.meta")));
        // One at or after the first segment is not left from trimming: its meta file is lost, and somebody may want it.
        if base.is_some_and(|base| base < first) {
            let path = dir.join(name);
            if let Err(error) = io.remove(&path).await {
                tracing::warn!(path = %path.display(), %error, "could not be removed; the next start tries again");
            }
        }
    }
}
