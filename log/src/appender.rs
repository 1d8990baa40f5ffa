//! Gathers accepted batches into commits and plans their writes: which bytes go where, and what is durable when.
//!
//! Pure: the engine writes and syncs what [`Appender::plan`] gives, and reports each step back. While commits are under
//! way everything accepted gathers for the next one. Several may be under way at once and may finish in any order;
//! progress is told in order, so that what is reported durable has nothing missing before it.
//!
//! ```text
//! accept -> queued -> data placed -> [write, sync data] --------------------------\
//!           ids given      \-> frames planned -> [write, sync meta] -------------- synced when both are, in order
//!                              final stamp
//! ```
//!
//! The two files are written side by side, each in its own rhythm. Data begins as soon as it is there. Frames are small: as
//! long as a write of the meta file is under way they gather for the next one, which goes on in the block where that one
//! ended. (Two writes of one block at the same time could leave either's bytes, so that a write beside another must stay off
//! its last block; for frames that would waste more than they take.)
//!
//! After a failed write or sync the appender is thrown away: what is on the device is not known then, and only
//! recovery finds out.

mod commit;
mod lane;
mod queue;
mod stored;

use std::collections::VecDeque;
use std::fmt;

use crate::batch::{Batch, Stamp};
use crate::ids::{EventId, FilePos};
use crate::limits::EVENT_ID_END;
use crate::write_plan::{FileTail, WritePlan};
pub use commit::{Accepted, AckAt, Commit, CommitId, Ends, Progress, StoredBatch};
use lane::{Lane, Step};
use queue::Queue;
pub use queue::Reach;

/// Events that have so much data on average: a block of padding is a sixteenth of it.
const LARGE_EVENT_BYTES: u64 = 64 << 10;

/// Bounds of an appender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppenderConfig {
    /// Writes of each file that may be under way at once; 0 counts as 1.
    pub commits_in_flight_max: usize,
    /// Bytes of frames and data that one commit gathers, but at least one batch.
    pub commit_bytes_max: u64,
    /// Bytes that must wait before data is written while other data is under way. Each such write fills its last block
    /// with zeros, so that small ones are gathered instead.
    pub pipeline_bytes_min: u64,
    /// The same of frames and the meta file. Frames of events with much data do not wait.
    pub meta_pipeline_bytes_min: u64,
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

struct Queued {
    batch: Batch,
    base_event_id: EventId,
    timestamp_us: u64,
}

/// A batch whose data has its place.
struct Placed {
    queued: Queued,
    data_at: FilePos,
}

/// See the module.
pub struct Appender {
    config: AppenderConfig,
    segment: SegmentFacts,
    meta: Lane,
    data: Lane,
    queue: VecDeque<Queued>,
    queued: Queue,
    /// Batches whose frames are in no commit yet.
    placed: VecDeque<Placed>,
    placed_frame_bytes: u64,
    placed_data_bytes: u64,
    ends: Ends,
    /// Exclusive end of the ids whose data is in a commit.
    placed_end: EventId,
    /// Exclusive end of the ids whose frames are in a commit.
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
            meta: Lane::new(meta),
            data: Lane::new(data),
            queue: VecDeque::new(),
            queued: Queue::default(),
            placed: VecDeque::new(),
            placed_frame_bytes: 0,
            placed_data_bytes: 0,
            ends: Ends {
                synced_end: next,
                written_end: next,
                appended_end: next,
            },
            placed_end: next,
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
        self.queued.bytes().saturating_add(self.placed_frame_bytes)
    }

    /// How far the files reach at most when all that is queued is written, and one more batch of this size
    /// (0 and 0: none). Whoever keeps files at least so long never writes beyond their end.
    pub fn reach_with(&self, frame_bytes: u64, data_bytes: u64) -> Reach {
        let sum = match frame_bytes.saturating_add(data_bytes) {
            0 => self.queued,
            _ => self.queued.with(frame_bytes, data_bytes),
        };
        let meta_end = self.meta.tail.end().plus(self.placed_frame_bytes);
        let placed = u64::try_from(self.placed.len()).unwrap_or(u64::MAX);
        sum.reach(
            meta_end,
            placed,
            self.data.tail.end(),
            self.config.commit_bytes_max,
        )
    }

    /// Whether nothing waits and nothing is under way: all that was accepted is durable.
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.placed.is_empty() && self.is_still()
    }

    fn is_still(&self) -> bool {
        self.meta.is_idle() && self.data.is_idle()
    }

    /// Writes under way of the file that has more of them. One that is durable still counts while an earlier one is not.
    pub fn in_flight(&self) -> usize {
        self.meta.in_flight().max(self.data.in_flight())
    }

    /// How far everything has come.
    pub fn ends(&self) -> Ends {
        self.ends
    }

    /// Where the next frame goes at the earliest.
    pub fn meta_end(&self) -> FilePos {
        self.meta.tail.end()
    }

    /// Where the next data goes at the earliest.
    pub fn data_end(&self) -> FilePos {
        self.data.tail.end()
    }

    /// The segment that is appended to.
    pub fn segment(&self) -> SegmentFacts {
        self.segment
    }

    /// Which opening of the partition for writing this is.
    pub fn incarnation(&self) -> u32 {
        self.segment.incarnation
    }

    /// Makes a commit of what waits, up to the configured bytes and at least one batch. `None` when nothing can begin now:
    /// nothing waits, enough is under way, or something is and little waits. Call it again until it says so. Batches get
    /// their final stamps with their frames: what is durable now, and where their data goes.
    pub fn plan(&mut self) -> Option<Commit> {
        let id = self.next_commit;
        let is_still = self.is_still();
        let data = self.plan_data(id);
        // Together costs least. But frames that others have to wait for must not wait for data, which may be long on its
        // way.
        let together = data.is_none() || is_still || self.frames_go_beside_others();
        let (meta, batches) = match together && self.may_plan_frames() {
            true => {
                let (meta, batches) = self.plan_frames(id);
                (Some(meta), batches)
            }
            false => (None, Vec::new()),
        };
        if data.is_none() && meta.is_none() {
            return None;
        }
        let end_event_id = match &data {
            Some(_) => self.placed_end,
            None => self.planned_end,
        };
        Some(self.launch(meta, data, batches, end_event_id))
    }

    /// Places what is queued. What has no data is placed at once.
    fn plan_data(&mut self, id: CommitId) -> Option<WritePlan> {
        let Self { config, queued, .. } = self;
        let may_begin = self.data.may_begin(
            config.commits_in_flight_max,
            queued.bytes() >= config.pipeline_bytes_min,
        );
        if self.queue.is_empty() || !may_begin {
            return None;
        }
        let gathered = self.gather();
        let with_data = gathered.iter().any(|queued| queued.batch.data_bytes() > 0);
        let mut plan = with_data.then(|| self.data.begin(id, self.placed_end));
        for queued in gathered {
            let data_at = match (&mut plan, queued.batch.data()) {
                (Some(plan), Some(bytes)) if !bytes.is_empty() => self.data.tail.push_bytes(plan, bytes),
                _ => FilePos::new(0),
            };
            let (frame_bytes, data_bytes) = (queued.batch.frame_bytes(), queued.batch.data_bytes());
            self.placed_frame_bytes = self.placed_frame_bytes.saturating_add(frame_bytes);
            self.placed_data_bytes = self.placed_data_bytes.saturating_add(data_bytes);
            let events = u64::from(queued.batch.event_count());
            self.placed_end = queued.base_event_id.plus(events);
            self.placed.push_back(Placed { queued, data_at });
        }
        plan
    }

    fn may_plan_frames(&self) -> bool {
        !self.placed.is_empty()
            && self
                .meta
                .may_begin(self.config.commits_in_flight_max, self.frames_go_beside_others())
    }

    /// Whether the frames that wait are worth a write beside others, which fills up its last block: there are many of them,
    /// or a block is little beside the data of their events.
    fn frames_go_beside_others(&self) -> bool {
        let events = self.placed_end.since(self.planned_end);
        self.placed_frame_bytes >= self.config.meta_pipeline_bytes_min
            || self.placed_data_bytes >= events.saturating_mul(LARGE_EVENT_BYTES)
    }

    fn plan_frames(&mut self, id: CommitId) -> (WritePlan, Vec<StoredBatch>) {
        let mut plan = self.meta.begin(id, self.planned_end);
        let mut batches = Vec::with_capacity(self.placed.len());
        let mut bytes = 0_u64;
        while let Some(next) = self.placed.front() {
            let frame_bytes = next.queued.batch.frame_bytes();
            bytes = bytes.saturating_add(frame_bytes);
            if !batches.is_empty() && bytes > self.config.commit_bytes_max {
                break;
            }
            let Some(Placed { queued, data_at }) = self.placed.pop_front() else {
                break;
            };
            self.placed_frame_bytes = self.placed_frame_bytes.saturating_sub(frame_bytes);
            let data_bytes = queued.batch.data_bytes();
            self.placed_data_bytes = self.placed_data_bytes.saturating_sub(data_bytes);
            let mut batch = queued.batch;
            batch.stamp(Stamp {
                data_at,
                ..self.stamp(queued.base_event_id, queued.timestamp_us)
            });
            self.planned_end = batch.end_event_id();
            let meta_at = self.meta.tail.push_frame(&mut plan, &batch);
            batches.push(StoredBatch { batch, meta_at });
        }
        (plan, batches)
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
        let mut meta = self.meta.begin(self.next_commit, self.planned_end);
        let meta_at = self.meta.tail.push_frame(&mut meta, &mark);
        let batches = vec![StoredBatch { batch: mark, meta_at }];
        Some(self.launch(Some(meta), None, batches, self.planned_end))
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

    fn launch(
        &mut self,
        meta: Option<WritePlan>,
        data: Option<WritePlan>,
        batches: Vec<StoredBatch>,
        end_event_id: EventId,
    ) -> Commit {
        let id = self.next_commit;
        self.next_commit = CommitId(id.0.saturating_add(1));
        self.assert_ends();
        Commit {
            id,
            data,
            meta,
            batches,
            end_event_id,
        }
    }

    /// All writes of this commit are done.
    ///
    /// # Panics
    /// When it is not under way, or was written before.
    pub fn written(&mut self, commit: CommitId) -> Progress {
        self.step(commit, Step::Planned, Step::Written);
        self.ends.written_end = self.end(Step::Written);
        self.progress()
    }

    /// The files that this commit wrote were synced after its writes were done.
    ///
    /// # Panics
    /// When it was not reported as written just before.
    pub fn synced(&mut self, commit: CommitId) -> Progress {
        self.step(commit, Step::Written, Step::Synced);
        // What was recovered was durable as far as recovery said.
        self.ends.synced_end = self.ends.synced_end.max(self.end(Step::Synced));
        self.progress()
    }

    fn step(&mut self, commit: CommitId, from: Step, to: Step) {
        let in_meta = self.meta.step(commit, from, to);
        let in_data = self.data.step(commit, from, to);
        assert!(
            in_meta || in_data,
            "commit {commit} is not under way and cannot be {to:?}"
        );
    }

    /// Exclusive end of the ids that have come so far in both files.
    fn end(&self, step: Step) -> EventId {
        let meta = self.meta.end(step, self.planned_end);
        meta.min(self.data.end(step, self.placed_end))
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
        let chain = [
            synced_end,
            written_end,
            self.planned_end,
            self.placed_end,
            appended_end,
        ];
        assert!(
            chain.is_sorted(),
            "{:?} with frames up to {} and data up to {}",
            self.ends,
            self.planned_end,
            self.placed_end
        );
        for lane in [&self.meta, &self.data] {
            assert_eq!(
                lane.tail.in_flight(),
                lane.in_flight(),
                "writes of one file under way"
            );
        }
    }

    /// Whether the segment has no events.
    pub fn is_empty(&self) -> bool {
        self.ends.appended_end == self.segment.base_event_id
    }

    /// Whether the segment is full: then nothing more is to be accepted until it was rolled. A segment without events is
    /// never full, however small the bounds are.
    pub fn is_full(&self) -> bool {
        let frame_bytes = self.queued.frame_bytes().saturating_add(self.placed_frame_bytes);
        let meta = self.meta.tail.end().plus(frame_bytes);
        let data = self.data.tail.end().plus(self.queued.data_bytes());
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
            self.queue.len().saturating_add(self.placed.len()),
            self.in_flight()
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
        self.meta = Lane::new(FileTail::fresh());
        self.data = Lane::new(FileTail::fresh());
        self.assert_ends();
    }
}

impl fmt::Debug for Appender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Appender")
            .field("segment", &self.segment)
            .field("ends", &self.ends)
            .field("meta_end", &self.meta.tail.end())
            .field("data_end", &self.data.tail.end())
            .field("queued", &self.queue.len())
            .field("placed", &self.placed.len())
            .field("in_flight", &self.in_flight())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
