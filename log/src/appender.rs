//! Gathers accepted batches into commits and plans their writes: which bytes go where, and what is durable when.
//!
//! Pure: the engine writes and syncs what [`Appender::plan`] gives, and reports each step back. While commits are under
//! way everything accepted gathers for the next one. Several may be under way at once and may finish in any order;
//! progress is told in order, so that what is reported durable has nothing missing before it.
//!
//! ```text
//! accept -> queued -> plan -> [write meta | write data] -> written -> [sync what was written] -> synced
//!           ids given         final stamp, place
//! ```
//!
//! After a failed write or sync the appender is thrown away: what is on the device is not known then, and only
//! recovery finds out.

mod queue;

use std::collections::VecDeque;
use std::fmt;

use crate::batch::{Batch, Stamp};
use crate::ids::{EventId, FilePos};
use crate::limits::EVENT_ID_END;
use crate::write_plan::{FileTail, WritePlan};
use queue::Queue;
pub use queue::Reach;

/// Bounds of an appender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppenderConfig {
    /// Commits that may be under way at once; 0 counts as 1.
    pub commits_in_flight_max: usize,
    /// Bytes of frames and data that one commit gathers, but at least one batch.
    pub commit_bytes_max: u64,
    /// Bytes that must wait before a commit begins while another is under way. Each such commit fills its last block
    /// with zeros, so that small ones are gathered instead.
    pub pipeline_bytes_min: u64,
    /// Bytes of the meta file from which on the segment is full.
    pub segment_meta_bytes: u64,
    /// Bytes of the data file from which on the segment is full. One batch may go beyond it.
    pub segment_data_bytes: u64,
}

/// The segment that is appended to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentFacts {
    /// Its salt.
    pub salt: u64,
    /// Its first event id.
    pub base_event_id: EventId,
    /// Which opening of the partition for writing this is.
    pub incarnation: u32,
}

/// Where to go on in a segment that was recovered.
#[derive(Clone, Debug)]
pub struct Resume {
    /// End of the last frame that was kept.
    pub meta_end: FilePos,
    /// End of the data of the last batch that was kept.
    pub data_end: FilePos,
    /// The id that the next event gets.
    pub next_event_id: EventId,
    /// Exclusive end of what is durable: everything kept, once the engine synced the files.
    pub synced_end: EventId,
    /// The meta file's bytes from the start of the block of `meta_end` up to there.
    pub meta_tail: Vec<u8>,
    /// The data file's bytes from the start of the block of `data_end` up to there.
    pub data_tail: Vec<u8>,
}

/// When a batch may be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AckAt {
    /// At once: it is in memory.
    Accepted,
    /// When it was written, in order.
    Written,
    /// When it is durable, in order.
    Synced,
}

/// The ids that a batch got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Of its first event.
    pub base_event_id: EventId,
    /// Exclusive end.
    pub end_event_id: EventId,
}

/// The chain of positions: `synced_end <= written_end <= appended_end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// Exclusive end of what is durable.
    pub synced_end: EventId,
    /// Exclusive end of what was written.
    pub written_end: EventId,
    /// Exclusive end of what has ids.
    pub appended_end: EventId,
}

/// How far a partition has come: everything before an end, without gaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Exclusive end of what was written.
    pub written_end: EventId,
    /// Exclusive end of what is durable.
    pub synced_end: EventId,
}

/// Names a commit of one appender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommitId(u64);

impl fmt::Display for CommitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Batches that are written and synced together.
#[derive(Clone, Debug)]
pub struct Commit {
    /// Its name, for [`Appender::written`] and [`Appender::synced`].
    pub id: CommitId,
    /// The frames.
    pub meta: WritePlan,
    /// The data; `None` when no batch has any, and then the data file is neither written nor synced.
    pub data: Option<WritePlan>,
    /// The batches with their final stamps, in order, and where they go.
    pub batches: Vec<StoredBatch>,
    /// Exclusive end of the ids.
    pub end_event_id: EventId,
}

/// A batch and the place of its frame.
#[derive(Clone, Debug)]
pub struct StoredBatch {
    /// The batch, stamped.
    pub batch: Batch,
    /// Where its frame is in the meta file.
    pub meta_at: FilePos,
}

struct Queued {
    batch: Batch,
    base_event_id: EventId,
    timestamp_us: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Planned,
    Written,
    Synced,
}

struct Flight {
    id: CommitId,
    end_event_id: EventId,
    with_data: bool,
    step: Step,
}

/// See the module.
pub struct Appender {
    config: AppenderConfig,
    segment: SegmentFacts,
    meta: FileTail,
    data: FileTail,
    queue: VecDeque<Queued>,
    queued: Queue,
    flights: VecDeque<Flight>,
    ends: Ends,
    /// Exclusive end of the ids that are in a commit.
    planned_end: EventId,
    next_commit: CommitId,
}

impl Appender {
    /// Begins a segment whose files hold nothing but their headers.
    pub fn new(config: AppenderConfig, segment: SegmentFacts) -> Self {
        Self::with_files(
            config,
            segment,
            FileTail::fresh(),
            FileTail::fresh(),
            segment.base_event_id,
        )
    }

    /// Goes on in a segment.
    ///
    /// # Panics
    /// When the tails are not the bytes of the last blocks, or the ends contradict each other.
    pub fn resume(config: AppenderConfig, segment: SegmentFacts, resume: Resume) -> Self {
        assert!(
            segment.base_event_id <= resume.synced_end && resume.synced_end <= resume.next_event_id,
            "a segment from {} on, durable up to {}, cannot go on at {}",
            segment.base_event_id,
            resume.synced_end,
            resume.next_event_id
        );
        assert_eq!(
            resume.meta_end.align_down(8),
            resume.meta_end,
            "frames end at multiples of 8"
        );
        let meta = FileTail::resume(resume.meta_end, resume.meta_tail);
        let data = FileTail::resume(resume.data_end, resume.data_tail);
        let mut appender = Self::with_files(config, segment, meta, data, resume.next_event_id);
        appender.ends.synced_end = resume.synced_end;
        appender.assert_ends();
        appender
    }

    fn with_files(
        config: AppenderConfig,
        segment: SegmentFacts,
        meta: FileTail,
        data: FileTail,
        next: EventId,
    ) -> Self {
        Self {
            config,
            segment,
            meta,
            data,
            queue: VecDeque::new(),
            queued: Queue::default(),
            flights: VecDeque::new(),
            ends: Ends {
                synced_end: next,
                written_end: next,
                appended_end: next,
            },
            planned_end: next,
            next_commit: CommitId(0),
        }
    }

    /// Gives a batch its ids and queues it for the next commit. `now_us` is the time of acceptance.
    ///
    /// # Panics
    /// When the batch is a mark or its data is not with it: the caller checked it with [`Batch::check_client`].
    pub fn accept(&mut self, batch: Batch, now_us: u64) -> Accepted {
        assert!(!batch.is_mark(), "marks are planned, not accepted");
        assert!(
            batch.data_bytes() == 0 || batch.data().is_some(),
            "an accepted batch has its data with it"
        );
        let base_event_id = self.ends.appended_end;
        let end_event_id = base_event_id.plus(batch.event_count().into());
        assert!(
            end_event_id.get() < EVENT_ID_END,
            "ids of a partition ran out at {base_event_id}"
        );
        self.queued = self.queued.with(batch.frame_bytes(), batch.data_bytes());
        self.queue.push_back(Queued {
            batch,
            base_event_id,
            timestamp_us: now_us,
        });
        self.ends.appended_end = end_event_id;
        self.assert_ends();
        Accepted {
            base_event_id,
            end_event_id,
        }
    }

    /// Bytes of frames and data that are accepted and not yet in a commit.
    pub fn pending_bytes(&self) -> u64 {
        self.queued.bytes()
    }

    /// How far the files reach at most when all that is queued is written, and one more batch of this size
    /// (0 and 0: none). Whoever keeps files at least so long never writes beyond their end.
    pub fn reach_with(&self, frame_bytes: u64, data_bytes: u64) -> Reach {
        let sum = match frame_bytes.saturating_add(data_bytes) {
            0 => self.queued,
            _ => self.queued.with(frame_bytes, data_bytes),
        };
        sum.reach(self.meta.end(), self.data.end(), self.config.commit_bytes_max)
    }

    /// Whether nothing is queued and nothing is under way: all that was accepted is durable.
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.flights.is_empty()
    }

    /// Commits under way. One that is durable still counts while an earlier one is not.
    pub fn in_flight(&self) -> usize {
        self.flights.len()
    }

    /// How far everything has come.
    pub fn ends(&self) -> Ends {
        self.ends
    }

    /// Where the next frame goes at the earliest.
    pub fn meta_end(&self) -> FilePos {
        self.meta.end()
    }

    /// Where the next data goes at the earliest.
    pub fn data_end(&self) -> FilePos {
        self.data.end()
    }

    /// The segment that is appended to.
    pub fn segment(&self) -> SegmentFacts {
        self.segment
    }

    /// Which opening of the partition for writing this is.
    pub fn incarnation(&self) -> u32 {
        self.segment.incarnation
    }

    /// Makes one commit of what is queued, up to the configured bytes and at least one batch. `None` when nothing is
    /// queued, enough commits are under way, or one is and little is queued. The batches get their final stamps here: what is durable now, and where
    /// their data goes.
    pub fn plan(&mut self) -> Option<Commit> {
        if self.queue.is_empty() || self.flights.len() >= self.config.commits_in_flight_max.max(1) {
            return None;
        }
        if !self.flights.is_empty() && self.queued.bytes() < self.config.pipeline_bytes_min {
            return None;
        }
        let gathered = self.gather();
        let mut meta = self.meta.begin();
        let with_data = gathered.iter().any(|queued| queued.batch.data_bytes() > 0);
        let mut data = with_data.then(|| self.data.begin());
        let mut batches = Vec::with_capacity(gathered.len());
        for Queued {
            mut batch,
            base_event_id,
            timestamp_us,
        } in gathered
        {
            let data_at = match (&mut data, batch.data()) {
                (Some(plan), Some(bytes)) if !bytes.is_empty() => self.data.push_bytes(plan, bytes),
                _ => FilePos::new(0),
            };
            batch.stamp(Stamp {
                data_at,
                ..self.stamp(base_event_id, timestamp_us)
            });
            let meta_at = self.meta.push_frame(&mut meta, &batch);
            batches.push(StoredBatch { batch, meta_at });
        }
        Some(self.launch(meta, data, batches))
    }

    /// Makes a commit of a mark: a witness for the last batch, which has no later frame to vouch for it. `clean`: the
    /// last frame before an orderly stop. `None` unless idle: what is under way will be the witness.
    pub fn plan_mark(&mut self, clean: bool, now_us: u64) -> Option<Commit> {
        if !self.is_idle() {
            return None;
        }
        assert_eq!(
            self.ends.synced_end, self.ends.appended_end,
            "an idle appender has nothing that is not durable"
        );
        let mark = Batch::mark(clean, self.stamp(self.ends.appended_end, now_us));
        let mut meta = self.meta.begin();
        let meta_at = self.meta.push_frame(&mut meta, &mark);
        Some(self.launch(meta, None, vec![StoredBatch { batch: mark, meta_at }]))
    }

    fn stamp(&self, base_event_id: EventId, timestamp_us: u64) -> Stamp {
        Stamp {
            salt: self.segment.salt,
            base_event_id,
            synced_end: self.ends.synced_end,
            data_at: FilePos::new(0),
            incarnation: self.segment.incarnation,
            timestamp_us,
            partition_epoch: 0,
        }
    }

    /// Takes from the queue what fits one commit.
    fn gather(&mut self) -> Vec<Queued> {
        let mut gathered = Vec::new();
        let mut bytes = 0_u64;
        while let Some(next) = self.queue.front() {
            let (frame_bytes, data_bytes) = (next.batch.frame_bytes(), next.batch.data_bytes());
            let with_next = bytes.saturating_add(frame_bytes).saturating_add(data_bytes);
            if !gathered.is_empty() && with_next > self.config.commit_bytes_max {
                break;
            }
            bytes = with_next;
            self.queued = self.queued.without(frame_bytes, data_bytes);
            gathered.extend(self.queue.pop_front());
        }
        assert!(
            !self.queue.is_empty() || self.queued == Queue::default(),
            "{:?} are queued in sum, and no batch is",
            self.queued
        );
        gathered
    }

    fn launch(&mut self, meta: WritePlan, data: Option<WritePlan>, batches: Vec<StoredBatch>) -> Commit {
        let id = self.next_commit;
        self.next_commit = CommitId(id.0.saturating_add(1));
        let end_event_id = batches
            .last()
            .map_or(self.planned_end, |stored| stored.batch.end_event_id());
        assert!(
            self.planned_end <= end_event_id && end_event_id <= self.ends.appended_end,
            "ids go up"
        );
        self.planned_end = end_event_id;
        self.flights.push_back(Flight {
            id,
            end_event_id,
            with_data: data.is_some(),
            step: Step::Planned,
        });
        Commit {
            id,
            meta,
            data,
            batches,
            end_event_id,
        }
    }

    /// Both writes of this commit are done.
    ///
    /// # Panics
    /// When it is not under way, or was written before.
    pub fn written(&mut self, commit: CommitId) -> Progress {
        self.step(commit, Step::Planned, Step::Written);
        for flight in &self.flights {
            if flight.step < Step::Written {
                break;
            }
            self.ends.written_end = flight.end_event_id;
        }
        self.progress()
    }

    /// The files that this commit wrote were synced after its writes were done.
    ///
    /// # Panics
    /// When it was not reported as written just before.
    pub fn synced(&mut self, commit: CommitId) -> Progress {
        self.step(commit, Step::Written, Step::Synced);
        while self
            .flights
            .front()
            .is_some_and(|flight| flight.step == Step::Synced)
        {
            let Some(flight) = self.flights.pop_front() else {
                break;
            };
            self.ends.synced_end = flight.end_event_id;
            self.meta.landed();
            if flight.with_data {
                self.data.landed();
            }
        }
        self.progress()
    }

    fn step(&mut self, commit: CommitId, from: Step, to: Step) {
        let flight = self.flights.iter_mut().find(|flight| flight.id == commit);
        let Some(flight) = flight else {
            unreachable!("commit {commit} is not under way and cannot be {to:?}")
        };
        assert_eq!(flight.step, from, "commit {commit} cannot be {to:?} now");
        flight.step = to;
    }

    fn progress(&self) -> Progress {
        self.assert_ends();
        Progress {
            written_end: self.ends.written_end,
            synced_end: self.ends.synced_end,
        }
    }

    fn assert_ends(&self) {
        let Ends {
            synced_end,
            written_end,
            appended_end,
        } = self.ends;
        assert!(
            synced_end <= written_end && written_end <= self.planned_end && self.planned_end <= appended_end,
            "{:?} with commits up to {}",
            self.ends,
            self.planned_end
        );
        assert!(
            self.meta.in_flight() == self.flights.len() && self.data.in_flight() <= self.meta.in_flight(),
            "{} commits are under way, {} in the meta file and {} in the data file",
            self.flights.len(),
            self.meta.in_flight(),
            self.data.in_flight()
        );
    }

    /// Whether the segment has no events.
    pub fn is_empty(&self) -> bool {
        self.ends.appended_end == self.segment.base_event_id
    }

    /// Whether the segment is full: then nothing more is to be accepted until it was rolled. A segment without events is
    /// never full, however small the bounds are.
    pub fn is_full(&self) -> bool {
        let meta = self.meta.end().plus(self.queued.frame_bytes());
        let data = self.data.end().plus(self.queued.data_bytes());
        !self.is_empty()
            && (meta.get() >= self.config.segment_meta_bytes || data.get() >= self.config.segment_data_bytes)
    }

    /// Goes on in a new segment, whose files hold nothing but their headers.
    ///
    /// # Panics
    /// When something is queued or in flight, or the segment does not begin where the last one ends.
    pub fn roll(&mut self, next: SegmentFacts) {
        assert!(
            self.is_idle(),
            "{} batches are queued and {} commits in flight at a roll",
            self.queue.len(),
            self.flights.len()
        );
        assert_eq!(
            next.base_event_id, self.planned_end,
            "the next segment begins where this one ends"
        );
        assert!(
            next.incarnation >= self.segment.incarnation,
            "an incarnation never falls"
        );
        self.segment = next;
        self.meta = FileTail::fresh();
        self.data = FileTail::fresh();
        self.assert_ends();
    }
}

impl fmt::Debug for Appender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Appender")
            .field("segment", &self.segment)
            .field("ends", &self.ends)
            .field("meta_end", &self.meta.end())
            .field("data_end", &self.data.end())
            .field("queued", &self.queue.len())
            .field("in_flight", &self.flights.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
