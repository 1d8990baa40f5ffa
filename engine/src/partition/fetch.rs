//! Data on request: the selected bytes of many events in one answer. Only the pieces that a selection touches are
//! read, each one is checked, and a range of an event never costs more than its pieces. Whole events that are asked for one
//! after the other are read together.

use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use mofka_log::{Batch, EventId, EventsMark, PIECE_BYTES, check_piece, combine_crc};
use mofka_net::{DataDescriptor, DataReference, ErrorCode, WireError};

use super::Partition;
use crate::io::Io;
use crate::turn::Turn;

/// The selected bytes of one event.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The bytes, in the order of the selection.
    pub bytes: Bytes,
    /// CRC-32 of them. For a whole event it is derived from what the producer computed, not from these bytes.
    pub crc: u32,
}

/// Longest stretch of a data file that one read brings.
const RUN_BYTES_MAX: u64 = 4 << 20;
/// The second of two events that follow each other makes the read so long, and every read after it
/// [`AHEAD_FACTOR`] times as long as the one before.
const AHEAD_BYTES_MIN: u64 = 64 << 10;
const AHEAD_FACTOR: u64 = 4;
/// Events with no more between them follow each other.
const AHEAD_GAP_BYTES_MAX: u64 = 4 << 10;
/// Events of a batch between two marks.
const MARK_EVENTS: u32 = 32;
/// What going over an event, or a range of a selection, takes, as a [`Turn`] counts it.
const STEP_BYTES: u64 = 64;
/// Bytes that are copied or gone over at once.
const STRETCH_BYTES: usize = 1 << 20;

impl<I: Io> Partition<I> {
    /// Reads the bytes that `descriptor` selects, at most `bytes_max`. `last` carries the batch from one event of a
    /// request to the next: neighbours share it.
    ///
    /// # Errors
    /// When the event is not there, the descriptor does not fit it, the selection is larger than `bytes_max`, or the
    /// stored bytes do not check.
    pub async fn fetch(
        &self,
        descriptor: &DataDescriptor,
        bytes_max: u64,
        last: &mut Option<FetchedBatch>,
    ) -> Result<Fetched, WireError> {
        let id = descriptor
            .event_id()
            .ok_or_else(|| invalid("the descriptor's location is not an event id"))?;
        let opened = self.open_batch(id, last).await?;
        let FetchedBatch {
            batch,
            place,
            ahead,
            turn,
            ..
        } = opened;
        let place = place
            .as_ref()
            .ok_or_else(|| self.damaged("the event is not in its batch"))?;
        if place.reference.is_some() {
            return Err(invalid(&format!("event {id} has no data of its own")));
        }
        if descriptor.base_bytes() != place.data_bytes {
            return Err(invalid(&format!(
                "the descriptor says that event {id} has {} bytes of data, but it has {}",
                descriptor.base_bytes(),
                place.data_bytes
            )));
        }
        if descriptor.bytes() > bytes_max {
            return Err(WireError::new(
                ErrorCode::TooLarge,
                format!(
                    "{} bytes of event {id} were asked for at once, and at most {bytes_max} are sent",
                    descriptor.bytes()
                ),
            ));
        }
        turn.did(descriptor.ranges_max().saturating_mul(STEP_BYTES)).await;
        let whole = descriptor.is_whole();
        let bytes = match batch.data() {
            Some(data) => select(data, place, descriptor, turn).await?,
            None => match self
                .select_stored(batch, place, (ahead, &mut *turn), descriptor)
                .await
            {
                Ok(bytes) => bytes,
                Err(error) => {
                    // Files that go while they are read look like damage.
                    self.refuse_if_trimmed(id)?;
                    self.found_damaged(&error);
                    return Err(error);
                }
            },
        };
        let crc = if whole {
            combine_crc(&place.pieces, place.data_bytes)
        } else {
            hash(&bytes, turn).await
        };
        Ok(Fetched { bytes, crc })
    }

    /// The batch with this event: the last one, or another.
    pub(super) async fn open_batch<'a>(
        &self,
        id: EventId,
        last: &'a mut Option<FetchedBatch>,
    ) -> Result<&'a mut FetchedBatch, WireError> {
        if !last.as_ref().is_some_and(|opened| opened.holds(id)) {
            let batch = self.batch_of(id).await?;
            // The turn goes on: whoever opens one batch after the other works as well.
            let turn = last.take().map(|opened| opened.turn).unwrap_or_default();
            *last = Some(FetchedBatch {
                turn,
                ..FetchedBatch::new(batch)
            });
        }
        let Some(opened) = last else {
            unreachable!("it was opened right before")
        };
        opened.look_up(id).await;
        Ok(opened)
    }

    /// What `descriptor` selects of the data that its event refers to; `None` when the event has data of its own. `last`
    /// as in [`Partition::fetch`].
    ///
    /// # Errors
    /// When the event is not there, or the descriptor does not fit what it refers to.
    pub async fn referenced(
        &self,
        descriptor: &DataDescriptor,
        last: &mut Option<FetchedBatch>,
    ) -> Result<Option<DataReference>, WireError> {
        let Some(id) = descriptor.event_id() else {
            return Ok(None);
        };
        let Some(reference) = self.open_batch(id, last).await?.reference(id)? else {
            return Ok(None);
        };
        if descriptor.base_bytes() != reference.bytes() {
            return Err(invalid(&format!(
                "the descriptor says that event {id} has {} bytes of data, but it refers to {}",
                descriptor.base_bytes(),
                reference.bytes()
            )));
        }
        Ok(Some(reference.stacked(descriptor)))
    }

    async fn select_stored(
        &self,
        batch: &Batch,
        place: &Place,
        (ahead, turn): (&mut Ahead, &mut Turn),
        descriptor: &DataDescriptor,
    ) -> Result<Bytes, WireError> {
        let Some(store) = &self.store else {
            return Err(self.damaged("a memory partition lost an event's data"));
        };
        let located = store
            .locate(place.id)
            .await
            .map_err(|error| self.unreadable(&error.to_string()))?;
        let file = located.and_then(|(readable, _)| readable.files.data);
        let Some(file) = file else {
            return Err(self.damaged("the segment has no data file"));
        };
        if descriptor.is_whole() && (1..=RUN_BYTES_MAX).contains(&place.data_bytes) {
            return self.read_whole(&file, batch, place, ahead).await;
        }
        let event_at = batch.data_at().get() + place.offset;
        let mut selected = BytesMut::with_capacity(usize::try_from(descriptor.bytes()).unwrap_or(0));
        let mut run = Run::default();
        for range in descriptor.flatten() {
            let (mut offset, mut left) = (range.offset, range.bytes);
            while left > 0 {
                if !run.holds(offset) {
                    let until = offset.saturating_add(left);
                    run = self.read_run(&file, event_at, place, offset, until).await?;
                }
                let taken = run.copy(offset, left, &mut selected);
                assert!(taken > 0, "a run holds the offset it was read for");
                offset += taken;
                left -= taken;
                turn.did(STEP_BYTES + taken).await;
            }
        }
        Ok(selected.freeze())
    }

    /// Reads and checks all of an event's data. What lies behind it is read with it when it follows the one before.
    async fn read_whole(
        &self,
        file: &Rc<I::File>,
        batch: &Batch,
        place: &Place,
        ahead: &mut Ahead,
    ) -> Result<Bytes, WireError> {
        let (start, end) = (place.offset, place.offset + place.data_bytes);
        let data_at = batch.data_at().get();
        if !ahead.run.holds_all(start, end) {
            let until = ahead.until(start, end).min(batch.data_bytes()).max(end);
            let bytes = self.read_data(file, data_at + start, data_at + until).await?;
            ahead.run = Run { start, bytes };
        }
        ahead.end = Some(end);
        let stored = ahead.run.slice(start, end);
        self.check_stored(&stored, place, 0, data_at + start, place.data_bytes)?;
        Ok(stored)
    }

    /// Reads and checks whole pieces from the one that holds `offset` up to the one before `until`, bounded.
    async fn read_run(
        &self,
        file: &Rc<I::File>,
        event_at: u64,
        place: &Place,
        offset: u64,
        until: u64,
    ) -> Result<Run, WireError> {
        let piece_bytes = PIECE_BYTES as u64;
        let start = offset - offset % piece_bytes;
        let end = until.div_ceil(piece_bytes).saturating_mul(piece_bytes);
        let end = end.min(start + RUN_BYTES_MAX).min(place.data_bytes);
        let at = event_at + start;
        let stored = self.read_data(file, at, at + (end - start)).await?;
        self.check_stored(&stored, place, start, at, end - start)?;
        Ok(Run { start, bytes: stored })
    }

    /// Holds what was read at `at` of a data file, where pieces of an event begin with the one at `start` of its data, against how
    /// much and what it is to be.
    fn check_stored(
        &self,
        stored: &[u8],
        place: &Place,
        start: u64,
        at: u64,
        bytes: u64,
    ) -> Result<(), WireError> {
        if stored.len() as u64 != bytes {
            return Err(self.damaged(&format!(
                "the data file ends at {} instead of after {bytes}",
                stored.len()
            )));
        }
        let first = usize::try_from(start / PIECE_BYTES as u64).unwrap_or(usize::MAX);
        for (place_in_run, piece) in stored.chunks(PIECE_BYTES).enumerate() {
            let index = first.saturating_add(place_in_run);
            let expected = place.pieces.get(index).copied();
            if !expected.is_some_and(|crc| check_piece(piece, crc)) {
                return Err(self.damaged(&format!(
                    "the checksum of 64 KiB piece {index} at {at} does not match"
                )));
            }
        }
        Ok(())
    }
}

/// Where an event's data is in its batch's, and what it must add up to.
struct Place {
    id: EventId,
    offset: u64,
    data_bytes: u64,
    pieces: Vec<u32>,
    /// What it refers to in place of data of its own.
    reference: Option<Bytes>,
}

/// A batch that a request fetched from: the next event is usually in it too. Of its table only as much is walked as is
/// asked for, and little is kept of it, since one event may be all that is wanted of a hundred thousand.
pub struct FetchedBatch {
    batch: Batch,
    /// Each [`MARK_EVENTS`]th event, as far as the table was walked.
    marks: Vec<EventsMark>,
    /// The event that was asked for last.
    place: Option<Place>,
    ahead: Ahead,
    turn: Turn,
}

impl FetchedBatch {
    /// A batch that is about to be fetched from.
    pub(crate) fn new(batch: Batch) -> Self {
        Self {
            batch,
            marks: Vec::new(),
            place: None,
            ahead: Ahead::default(),
            turn: Turn::default(),
        }
    }

    /// Whether an event is in it.
    pub(crate) fn holds(&self, id: EventId) -> bool {
        self.batch.base_event_id() <= id && id < self.batch.end_event_id()
    }

    /// What an event in it refers to, if it does. The event is the one that it was opened for.
    pub(super) fn reference(&self, id: EventId) -> Result<Option<DataReference>, WireError> {
        let reference = self.place(id).and_then(|place| place.reference.as_ref());
        let reference = reference
            .map(|bytes| DataReference::deserialize(bytes))
            .transpose();
        reference.map_err(|error| WireError::new(ErrorCode::Damaged, format!("event {id}: {error}")))
    }

    /// Bytes of an event's own data, when it is in it. The event is the one that it was opened for.
    pub(super) fn data_bytes(&self, id: EventId) -> Option<u64> {
        self.place(id).map(|place| place.data_bytes)
    }

    fn place(&self, id: EventId) -> Option<&Place> {
        self.place.as_ref().filter(|place| place.id == id)
    }

    /// Finds the place of an event.
    async fn look_up(&mut self, id: EventId) {
        if self.place(id).is_some() {
            return;
        }
        self.place = None;
        let index = id.get().checked_sub(self.batch.base_event_id().get());
        let Some(index) = index.and_then(|index| u32::try_from(index).ok()) else {
            return;
        };
        let marked = usize::try_from(index / MARK_EVENTS).unwrap_or(usize::MAX);
        let mark = self.marks.get(marked).or(self.marks.last());
        let mut events = match mark {
            Some(mark) => self.batch.events_from(*mark),
            None => self.batch.events(),
        };
        let mut walked = 0;
        loop {
            let mark = events.mark();
            if self.marks.len() as u64 * u64::from(MARK_EVENTS) == u64::from(mark.index()) {
                self.marks.push(mark);
            }
            let Some(event) = events.next() else { break };
            walked += 1;
            if event.index == index {
                self.place = Some(Place {
                    id,
                    offset: event.data_offset,
                    data_bytes: event.data_bytes,
                    pieces: event.pieces.iter().collect(),
                    reference: event
                        .reference
                        .map(|reference| self.batch.body().slice_ref(reference.bytes())),
                });
                break;
            }
        }
        self.turn.did(walked * STEP_BYTES).await;
    }
}

/// What was read of a batch's data for an event, and for those behind it. Not checked yet.
#[derive(Default)]
struct Ahead {
    run: Run,
    /// Where the last event ended that was asked for.
    end: Option<u64>,
    /// Length of the next read, if it is one of a series.
    next_bytes: u64,
}

impl Ahead {
    /// Up to where to read now that an event from `start` to `end` is asked for.
    fn until(&mut self, start: u64, end: u64) -> u64 {
        let follows = |last: u64| start >= last && start - last <= AHEAD_GAP_BYTES_MAX;
        self.next_bytes = match self.end {
            Some(last) if follows(last) => {
                (self.next_bytes * AHEAD_FACTOR).clamp(AHEAD_BYTES_MIN, RUN_BYTES_MAX)
            }
            _ => 0,
        };
        end.max(start + self.next_bytes)
    }
}

/// Bytes of an event's or a batch's data, from `start` on.
#[derive(Default)]
struct Run {
    start: u64,
    bytes: Bytes,
}

impl Run {
    fn holds_all(&self, start: u64, end: u64) -> bool {
        start >= self.start && end - self.start <= self.bytes.len() as u64
    }

    /// What there is of the bytes from `start`, which it holds or begins with, to `end`.
    fn slice(&self, start: u64, end: u64) -> Bytes {
        let place = |offset: u64| {
            let place = usize::try_from(offset - self.start).unwrap_or(usize::MAX);
            place.min(self.bytes.len())
        };
        self.bytes.slice(place(start)..place(end))
    }

    fn holds(&self, offset: u64) -> bool {
        offset >= self.start && offset - self.start < self.bytes.len() as u64
    }

    /// Copies from `offset` on, up to `bytes` and the end of the run; returns how many.
    fn copy(&self, offset: u64, bytes: u64, into: &mut BytesMut) -> u64 {
        let start = usize::try_from(offset - self.start)
            .unwrap_or(usize::MAX)
            .min(self.bytes.len());
        let wanted = usize::try_from(bytes).unwrap_or(usize::MAX);
        let end = start.saturating_add(wanted).min(self.bytes.len());
        into.extend_from_slice(&self.bytes[start..end]);
        (end - start) as u64
    }
}

/// The selection of an event whose batch's data is in memory.
async fn select(
    data: &Bytes,
    place: &Place,
    descriptor: &DataDescriptor,
    turn: &mut Turn,
) -> Result<Bytes, WireError> {
    let part = |offset: u64, bytes: u64| -> Option<Bytes> {
        let start = usize::try_from(place.offset.checked_add(offset)?).ok()?;
        let end = start.checked_add(usize::try_from(bytes).ok()?)?;
        (end <= data.len()).then(|| data.slice(start..end))
    };
    let beyond = || invalid("the selection reaches beyond the event's data");
    let mut ranges = descriptor.flatten();
    let Some(first) = ranges.next() else {
        return Ok(Bytes::new());
    };
    let Some(second) = ranges.next() else {
        return part(first.offset, first.bytes).ok_or_else(beyond);
    };
    let mut selected = BytesMut::with_capacity(usize::try_from(descriptor.bytes()).unwrap_or(0));
    for range in [first, second].into_iter().chain(ranges) {
        let part = part(range.offset, range.bytes).ok_or_else(beyond)?;
        for stretch in part.chunks(STRETCH_BYTES) {
            selected.extend_from_slice(stretch);
            turn.did(STEP_BYTES + stretch.len() as u64).await;
        }
    }
    Ok(selected.freeze())
}

async fn hash(bytes: &[u8], turn: &mut Turn) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for stretch in bytes.chunks(STRETCH_BYTES) {
        hasher.update(stretch);
        turn.did(stretch.len() as u64).await;
    }
    hasher.finalize()
}

fn invalid(reason: &str) -> WireError {
    WireError::new(ErrorCode::InvalidSelection, reason.to_owned())
}
