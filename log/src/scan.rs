//! Reads a meta file back after a stop. A pull parser: it says what it wants to see next, is shown it, and at last says
//! what it found. Reading never changes anything; the engine carries the verdict out.
//!
//! First the **chain**: each frame begins at the end of the one before or at the next block boundary, its ids follow,
//! its data follows, its incarnation is not lower. Where the chain ends, the rest of the file is searched for valid
//! frames that are not part of it: *survivors* of the same life, whose earlier neighbours did not land, and *stale* ones
//! of an earlier life. Every valid frame is a **witness**: its `synced_end` was durable when it was written, and the
//! greatest of them is `vouched_end`. What is missing below that is damage, what is missing above it a torn tail.
//!
//! What is dropped must be gone before anything new is accepted ([`Recovered::cut`]): else a frame of this life that
//! rots later could be followed by one of an earlier life with the same ids, and would not be missed. The incarnation
//! keeps stale frames off the chain in the meantime.
//!
//! Frames of the chain at or beyond `vouched_end` are kept only if their data is there too; the engine reads it
//! ([`MetaScan::unvouched`]) and names the first that is not.
//!
//! Memory is bounded by the window that is shown, and by the frames not yet vouched for (what was in flight when the
//! machine stopped), of which only headers and tables are held.
//!
//! Limit: a frame that a producer put *inside* its metadata is not looked at while the chain holds, but could be taken
//! for a witness where a torn frame is searched. It would have to carry the segment's random salt. At worst the
//! partition then opens read-only.

mod kept;
#[cfg(test)]
mod tests;
mod window;

use std::collections::VecDeque;

use bytes::Bytes;

pub use kept::{Recovered, UnvouchedFrame};

use crate::batch::Batch;
use crate::ids::{EventId, FilePos};
use crate::producers::ProducerTable;
use crate::segment::SegmentHeader;
use crate::verdict::{BadData, Facts, HeaderFact, Places, decide};
use kept::Kept;
use window::{Attempt, HEADER_BYTES, Stop, Window};

/// See the module.
pub struct MetaScan {
    salt: u64,
    phase: Phase,
    /// Where the next look is, and how many bytes it takes.
    at: FilePos,
    min_bytes: u64,
    chain: Chain,
    /// What is certain: the chain up to the first frame that nothing vouches for.
    kept: Kept,
    unvouched: VecDeque<UnvouchedFrame>,
    vouched_end: EventId,
    incarnation_max: u32,
    beyond: Beyond,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Chain,
    Search,
    Done,
}

/// What the next frame of the chain must follow.
#[derive(Clone, Copy, Debug)]
struct Chain {
    meta_end: FilePos,
    data_end: FilePos,
    next_event_id: EventId,
    incarnation: u32,
}

/// A valid frame that a scan came by.
#[derive(Clone, Copy, Debug)]
pub struct SeenFrame<'a> {
    /// The frame.
    pub batch: &'a Batch,
    /// Where it is in the meta file.
    pub meta_at: FilePos,
    /// What it is to the chain.
    pub place: FramePlace,
}

/// What a frame is to the chain of its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FramePlace {
    /// It is part of it.
    Chain,
    /// It lies beyond the chain's end, and is of the chain's last incarnation or a later one.
    Survivor,
    /// It lies beyond the chain's end, and is of an earlier life.
    Stale,
}

/// What was found beyond the chain.
#[derive(Clone, Copy, Debug, Default)]
struct Beyond {
    survivors: u64,
    survivor_events: u64,
    stale: u64,
    /// End of the last byte that is not zero.
    residue_end: Option<FilePos>,
}

impl MetaScan {
    /// Begins to read the meta file with this header.
    pub fn new(header: &SegmentHeader) -> Self {
        Self::with_producers(header, ProducerTable::default())
    }

    /// The same, with what the footer of the segment before says about producers.
    pub fn with_producers(header: &SegmentHeader, producers: ProducerTable) -> Self {
        let base = header.base_event_id();
        let (at, incarnation) = (FilePos::FIRST, header.incarnation());
        Self {
            salt: header.salt(),
            phase: Phase::Chain,
            at,
            min_bytes: HEADER_BYTES,
            chain: Chain {
                meta_end: at,
                data_end: at,
                next_event_id: base,
                incarnation,
            },
            kept: Kept::new(base, producers),
            unvouched: VecDeque::new(),
            vouched_end: base,
            incarnation_max: incarnation,
            beyond: Beyond::default(),
        }
    }

    /// Says that everything before `end` was durable, as something outside the file knows: its footer, a segment that
    /// follows it, a record beside the cursors. What is missing below is then damage, whatever the frames say.
    pub fn witness(&mut self, end: EventId) {
        self.vouched_end = self.vouched_end.max(end);
        self.keep_vouched();
    }

    /// Which bytes to show next, and how many at least: bounded by [`crate::FRAME_BYTES_MAX`]. More is welcome, and
    /// saves calls. `None` when all was seen. The place may be before the last one.
    pub fn next_read(&self) -> Option<(FilePos, u64)> {
        (self.phase != Phase::Done).then_some((self.at, self.min_bytes))
    }

    /// Shows the bytes of the file from `at` on, the place that [`MetaScan::next_read`] gave. Fewer than it asked for
    /// only where the file ends with them (`end_of_file`). `visit` sees every batch of the chain in order, marks
    /// included, before it is known whether the last ones will be kept.
    ///
    /// # Panics
    /// When `at` is another place.
    pub fn feed(&mut self, at: FilePos, window: Bytes, end_of_file: bool, visit: &mut dyn FnMut(&Batch)) {
        self.feed_seen(at, window, end_of_file, &mut |seen| {
            if seen.place == FramePlace::Chain {
                visit(seen.batch);
            }
        });
    }

    /// The same for those who want to know every valid frame of the file, also beyond the chain, and its place.
    ///
    /// # Panics
    /// When `at` is another place than [`MetaScan::next_read`] gave.
    pub fn feed_seen(
        &mut self,
        at: FilePos,
        window: Bytes,
        end_of_file: bool,
        visit: &mut dyn FnMut(SeenFrame<'_>),
    ) {
        assert_eq!(at, self.at, "bytes were shown that were not asked for");
        let window = Window::new(at, window, end_of_file);
        loop {
            let more = match self.phase {
                Phase::Chain => self.follow(&window, visit),
                Phase::Search => self.search(&window, visit),
                Phase::Done => return,
            };
            if let Some(min_bytes) = more {
                self.min_bytes = min_bytes;
                return;
            }
        }
    }

    /// Takes the next frame of the chain, or finds that it ended. Gives the bytes it needs to see when it cannot say.
    fn follow(&mut self, window: &Window, visit: &mut dyn FnMut(SeenFrame<'_>)) -> Option<u64> {
        match window.attempt(self.at, self.salt) {
            Attempt::More(min_bytes) => return Some(min_bytes),
            Attempt::Frame(batch) if self.continues(&batch) => self.take(&batch, visit),
            Attempt::Frame(_) | Attempt::Nothing => {
                let next_block = self.at.block_up();
                if self.at == self.chain.meta_end && next_block != self.at {
                    self.at = next_block;
                } else {
                    // Survivors can begin right where the chain ends, so the search goes back there.
                    self.phase = Phase::Search;
                    self.at = self.chain.meta_end;
                }
            }
        }
        None
    }

    fn continues(&self, batch: &Batch) -> bool {
        batch.base_event_id() == self.chain.next_event_id
            && batch.incarnation() >= self.chain.incarnation
            && (batch.data_bytes() == 0 || batch.data_at() >= self.chain.data_end)
    }

    fn take(&mut self, batch: &Batch, visit: &mut dyn FnMut(SeenFrame<'_>)) {
        visit(SeenFrame {
            batch,
            meta_at: self.at,
            place: FramePlace::Chain,
        });
        self.unvouched.push_back(UnvouchedFrame {
            batch: batch.table_only(),
            meta_at: self.at,
        });
        self.chain.meta_end = self.at.plus(batch.frame_bytes());
        self.chain.next_event_id = batch.end_event_id();
        self.chain.incarnation = batch.incarnation();
        if batch.data_bytes() > 0 {
            self.chain.data_end = batch.data_at().plus(batch.data_bytes());
        }
        self.at = self.chain.meta_end;
        self.hear(batch);
    }

    /// A valid frame testifies what was durable when it was written.
    fn hear(&mut self, batch: &Batch) {
        self.vouched_end = self.vouched_end.max(batch.synced_end());
        self.incarnation_max = self.incarnation_max.max(batch.incarnation());
        self.keep_vouched();
    }

    fn keep_vouched(&mut self) {
        while let Some(first) = self.unvouched.front() {
            if first.end_event_id() > self.vouched_end {
                break;
            }
            self.kept.add(first);
            self.unvouched.pop_front();
        }
    }

    /// Looks for valid frames from the chain's end to the end of the file.
    fn search(&mut self, window: &Window, visit: &mut dyn FnMut(SeenFrame<'_>)) -> Option<u64> {
        let searched = window.search(self.at);
        self.beyond.residue_end = self.beyond.residue_end.max(searched.residue_end);
        match searched.stop {
            Stop::End => {
                self.phase = Phase::Done;
                return None;
            }
            Stop::More(at) => {
                self.at = at;
                return Some(HEADER_BYTES);
            }
            Stop::Candidate(at) => self.at = at,
        }
        match window.attempt(self.at, self.salt) {
            Attempt::More(min_bytes) => return Some(min_bytes),
            Attempt::Frame(batch) => {
                self.meet(&batch, visit);
                // Nothing newer lies within a frame that checks.
                self.at = self.at.plus(batch.frame_bytes());
                self.beyond.residue_end = self.beyond.residue_end.max(Some(self.at));
            }
            Attempt::Nothing => self.at = self.at.plus(8),
        }
        None
    }

    fn meet(&mut self, batch: &Batch, visit: &mut dyn FnMut(SeenFrame<'_>)) {
        self.hear(batch);
        let place = if batch.incarnation() < self.chain.incarnation {
            FramePlace::Stale
        } else {
            FramePlace::Survivor
        };
        visit(SeenFrame {
            batch,
            meta_at: self.at,
            place,
        });
        if place == FramePlace::Stale {
            self.beyond.stale = self.beyond.stale.saturating_add(1);
        } else {
            self.beyond.survivors = self.beyond.survivors.saturating_add(1);
            let events = u64::from(batch.event_count());
            self.beyond.survivor_events = self.beyond.survivor_events.saturating_add(events);
        }
    }

    /// The frames of the chain that nothing vouches for, in order: their data is to be read and checked with
    /// [`crate::check_pieces`]. Final when [`MetaScan::next_read`] gives nothing more.
    pub fn unvouched(&self) -> impl Iterator<Item = &UnvouchedFrame> {
        self.unvouched.iter()
    }

    /// What was found. `first_bad_data`: base id of the first frame, of those that were checked, whose data is not all
    /// there.
    ///
    /// # Panics
    /// When the file was not read to its end.
    pub fn finish(mut self, first_bad_data: Option<EventId>) -> Recovered {
        assert_eq!(
            self.phase,
            Phase::Done,
            "a scan was finished before the end of the file, at {}",
            self.at
        );
        let mut dropped_frames = self.beyond.survivors;
        let mut dropped_events = self.beyond.survivor_events;
        let mut bad_data = match first_bad_data {
            Some(id) if id < self.kept.next_event_id => BadData::Vouched,
            _ => BadData::None,
        };
        for frame in std::mem::take(&mut self.unvouched) {
            // A mark has no data, and the id of the event after it: it is not what is bad.
            let is_first_bad = first_bad_data == Some(frame.base_event_id()) && frame.data_bytes() > 0;
            if bad_data == BadData::None && is_first_bad {
                bad_data = BadData::Unvouched;
            }
            if bad_data == BadData::Unvouched {
                dropped_frames = dropped_frames.saturating_add(1);
                dropped_events = dropped_events.saturating_add(frame.batch.event_count().into());
            } else {
                self.kept.add(&frame);
            }
        }
        let kept_end = match (bad_data, first_bad_data) {
            (BadData::Vouched, Some(id)) => id,
            _ => self.kept.next_event_id,
        };
        let verdict = decide(&Facts {
            header: HeaderFact::Checks,
            beyond_header: self.chain.meta_end > FilePos::FIRST || self.beyond.residue_end.is_some(),
            vouched_missing: self.kept.next_event_id < self.vouched_end,
            bad_data,
            clean_mark: self.kept.clean_mark,
            survivors: self.beyond.survivors > 0,
            residue: self.beyond.residue_end.is_some(),
            places: Places {
                cut_at: self.kept.meta_end,
                kept_end,
                vouched_end: self.vouched_end,
                dropped_frames,
                version: 0,
            },
        });
        Recovered {
            verdict,
            next_event_id: kept_end,
            meta_end: self.kept.meta_end,
            // Frames of the chain that are dropped for their data lie beyond the end, too.
            residue_end: self
                .chain
                .meta_end
                .max(self.beyond.residue_end.unwrap_or_default()),
            data_end: self.kept.data_end,
            next_incarnation: self.incarnation_max.saturating_add(1),
            synced_end: self.vouched_end.min(kept_end),
            last_timestamp_us: self.kept.last_timestamp_us,
            event_count: self.kept.event_count,
            dropped_frames,
            dropped_events,
            stale_frames: self.beyond.stale,
            index: self.kept.index,
            producers: self.kept.producers,
        }
    }
}
