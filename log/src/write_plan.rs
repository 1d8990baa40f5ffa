//! One write of whole blocks, and the end of a file that such writes go to.

use bytes::Bytes;

use crate::batch::{Batch, BatchHeader};
use crate::ids::FilePos;
use crate::width::{narrow, wide};

/// A batch's data of so many bytes or more begins at a block boundary: less than 1% of them is lost for it on average.
pub(crate) const IN_PLACE_DATA_BYTES: u64 = 256 << 10;

static ZEROS: [u8; crate::BLOCK_BYTES] = [0; crate::BLOCK_BYTES];

/// One write: where it goes and what it is made of. Begins and ends at block boundaries, as direct I/O needs.
#[derive(Clone, Debug)]
pub struct WritePlan {
    at: FilePos,
    parts: Vec<Part>,
    /// Bytes of the parts; zeros follow.
    content_bytes: u64,
}

#[derive(Clone, Debug)]
enum Part {
    Bytes(Bytes),
    /// The header is stamped anew for every write; the body goes out as it came in.
    Frame {
        header: BatchHeader,
        body: Bytes,
    },
}

impl WritePlan {
    fn new(at: FilePos) -> Self {
        assert_eq!(
            at.in_block_bytes(),
            0,
            "a write begins at a block boundary, not at {at}"
        );
        Self {
            at,
            parts: Vec::new(),
            content_bytes: 0,
        }
    }

    /// Where it goes: a multiple of 4096.
    pub fn at(&self) -> FilePos {
        self.at
    }

    /// Where it ends: a multiple of 4096.
    pub fn end(&self) -> FilePos {
        self.at.plus(self.content_bytes).block_up()
    }

    /// How long it is: a multiple of 4096, not 0.
    pub fn total_bytes(&self) -> u64 {
        self.end().since(self.at)
    }

    /// How much of it is not padding: the partial block that is rewritten, and what is new.
    pub fn content_bytes(&self) -> u64 {
        self.content_bytes
    }

    /// Puts the bytes to be written into `buffer`, all of it.
    ///
    /// # Panics
    /// When `buffer` is not exactly [`WritePlan::total_bytes`] long.
    pub fn fill(&self, buffer: &mut [u8]) {
        assert_eq!(
            wide(buffer.len()),
            self.total_bytes(),
            "the buffer of a write is as long as the write"
        );
        let parts = self.parts.iter().flat_map(Part::bytes);
        parts.fold(buffer, |rest, bytes| copy(rest, bytes)).fill(0);
    }

    /// The write in stretches back to back, each of whole blocks. What lies in memory at a multiple of `align_bytes`,
    /// belongs at a block boundary, and has `min_bytes` or more, is to be written from where it is; the rest is gathered.
    pub fn stretches(&self, align_bytes: usize, min_bytes: usize) -> Vec<Stretch<'_>> {
        let mut stretches = Vec::new();
        let mut gather = Gather::default();
        for part in &self.parts {
            match part {
                Part::Bytes(bytes) if gather.is_aligned() && is_in_place(bytes, align_bytes, min_bytes) => {
                    let whole = bytes
                        .len()
                        .saturating_sub(narrow(FilePos::from(bytes.len()).in_block_bytes()));
                    if !gather.pieces.is_empty() {
                        stretches.push(Stretch::Gather(std::mem::take(&mut gather)));
                    }
                    stretches.push(Stretch::InPlace(bytes.slice(..whole)));
                    gather.push(bytes.get(whole..).unwrap_or_default());
                }
                part => part.bytes().for_each(|bytes| gather.push(bytes)),
            }
        }
        if !gather.pieces.is_empty() {
            stretches.push(Stretch::Gather(gather));
        }
        stretches
    }
}

fn is_in_place(bytes: &Bytes, align_bytes: usize, min_bytes: usize) -> bool {
    bytes.len() >= min_bytes.max(crate::BLOCK_BYTES)
        && bytes.as_ptr().addr().is_multiple_of(align_bytes.max(1))
}

/// A part of a write: whole blocks.
#[derive(Clone, Debug)]
pub enum Stretch<'a> {
    /// To be gathered in memory for the device.
    Gather(Gather<'a>),
    /// To be written from where it is.
    InPlace(Bytes),
}

/// Pieces of memory that are written back to back, and zeros up to a block boundary.
#[derive(Clone, Debug, Default)]
pub struct Gather<'a> {
    pieces: Vec<&'a [u8]>,
    content_bytes: usize,
}

impl<'a> Gather<'a> {
    fn push(&mut self, piece: &'a [u8]) {
        if !piece.is_empty() {
            self.pieces.push(piece);
            self.content_bytes = self.content_bytes.saturating_add(piece.len());
        }
    }

    fn is_aligned(&self) -> bool {
        FilePos::from(self.content_bytes).in_block_bytes() == 0
    }

    /// Bytes with the zeros: a multiple of 4096.
    pub fn total_bytes(&self) -> usize {
        narrow(FilePos::from(self.content_bytes).block_up().get())
    }

    /// Puts the bytes to be written into `buffer`, all of it.
    ///
    /// # Panics
    /// When `buffer` is not exactly [`Gather::total_bytes`] long.
    pub fn fill(&self, buffer: &mut [u8]) {
        assert_eq!(
            buffer.len(),
            self.total_bytes(),
            "the buffer of a write is as long as the write"
        );
        let rest = self.pieces.iter().fold(buffer, |rest, piece| copy(rest, piece));
        rest.fill(0);
    }
}

impl Part {
    fn bytes(&self) -> impl Iterator<Item = &[u8]> {
        let (first, second): (&[u8], &[u8]) = match self {
            Self::Bytes(bytes) => (bytes, &[]),
            Self::Frame { header, body } => (bytemuck::bytes_of(header), body),
        };
        [first, second].into_iter()
    }
}

/// Copies to the front and returns what is left.
fn copy<'a>(to: &'a mut [u8], from: &[u8]) -> &'a mut [u8] {
    let room = to.len();
    let Some((front, rest)) = to.split_at_mut_checked(from.len()) else {
        unreachable!("a part of {} bytes was planned where {room} are left", from.len())
    };
    front.copy_from_slice(from);
    rest
}

/// The end of a file that is appended to.
#[derive(Clone, Debug)]
pub(crate) struct FileTail {
    end: FilePos,
    /// The bytes of the last block when it is partial: a write that goes on in it writes them again, unchanged.
    partial: Vec<u8>,
    /// Commits under way that touch this file.
    in_flight: usize,
}

impl FileTail {
    /// A new file with nothing but its header.
    pub(crate) fn fresh() -> Self {
        Self::resume(FilePos::FIRST, Vec::new())
    }

    /// A file that ends at `end`, with the bytes from the start of that block.
    pub(crate) fn resume(end: FilePos, partial: Vec<u8>) -> Self {
        assert!(
            end >= FilePos::FIRST,
            "a file cannot end at {end}, within its header"
        );
        assert_eq!(
            wide(partial.len()),
            end.in_block_bytes(),
            "the bytes of the last block up to {end}"
        );
        Self {
            end,
            partial,
            in_flight: 0,
        }
    }

    pub(crate) fn end(&self) -> FilePos {
        self.end
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Begins a write. While another is under way this one stays off its last block: two writes of one block at the
    /// same time could leave either's bytes. Otherwise it goes on in that block.
    pub(crate) fn begin(&mut self) -> WritePlan {
        let before = self.in_flight;
        self.in_flight = self.in_flight.saturating_add(1);
        if before > 0 {
            self.end = self.end.block_up();
            self.partial.clear();
        }
        let mut plan = WritePlan::new(self.end.block_down());
        if !self.partial.is_empty() {
            plan.content_bytes = wide(self.partial.len());
            plan.parts
                .push(Part::Bytes(Bytes::copy_from_slice(&self.partial)));
        }
        plan
    }

    /// One of the writes that were begun is durable.
    pub(crate) fn landed(&mut self) {
        assert!(self.in_flight > 0, "a write landed that was never begun");
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// Adds data to the write and returns where it goes. Much of it begins at a block boundary, so that it can be
    /// written from where it is in memory.
    pub(crate) fn push_bytes(&mut self, plan: &mut WritePlan, bytes: &Bytes) -> FilePos {
        let pad = self.end.block_up().since(self.end);
        if pad > 0 && wide(bytes.len()) >= IN_PLACE_DATA_BYTES {
            let zeros = Bytes::from_static(ZEROS.get(..narrow(pad)).unwrap_or_default());
            self.absorb(&zeros);
            self.note(plan, Part::Bytes(zeros));
        }
        let at = self.end;
        self.absorb(bytes);
        self.note(plan, Part::Bytes(bytes.clone()));
        at
    }

    /// Adds a frame to the write and returns where it goes.
    pub(crate) fn push_frame(&mut self, plan: &mut WritePlan, batch: &Batch) -> FilePos {
        let at = self.end;
        self.absorb(batch.header_bytes());
        self.absorb(batch.body());
        assert_eq!(
            self.end.since(at),
            batch.frame_bytes(),
            "header and body are the whole frame"
        );
        self.note(
            plan,
            Part::Frame {
                header: *batch.header(),
                body: batch.body().clone(),
            },
        );
        at
    }

    fn note(&self, plan: &mut WritePlan, part: Part) {
        plan.parts.push(part);
        plan.content_bytes = self.end.since(plan.at);
    }

    /// A write of so many zeros at the end, which moves past them to the end of their last block.
    pub(crate) fn zeros(&mut self, bytes: u64) -> WritePlan {
        let mut plan = self.begin();
        // What is not filled with parts is filled with zeros.
        self.end = self.end.plus(bytes).block_up();
        self.partial.clear();
        plan.content_bytes = self.end.since(plan.at);
        self.landed();
        plan
    }

    /// Moves the end past these bytes, and keeps those of the block that is partial then.
    fn absorb(&mut self, bytes: &[u8]) {
        let room = self.end.block_down().plus(4096).since(self.end);
        self.end = self.end.plus(wide(bytes.len()));
        if wide(bytes.len()) >= room {
            // The block was filled, so the partial one begins within these bytes.
            let kept = bytes.len().saturating_sub(narrow(self.end.in_block_bytes()));
            self.partial.clear();
            self.partial
                .extend_from_slice(bytes.get(kept..).unwrap_or_default());
        } else {
            self.partial.extend_from_slice(bytes);
        }
        assert_eq!(
            wide(self.partial.len()),
            self.end.in_block_bytes(),
            "the partial block up to {}",
            self.end
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(plan: &WritePlan) -> Vec<u8> {
        let mut buffer = vec![0xee; plan.total_bytes() as usize];
        plan.fill(&mut buffer);
        buffer
    }

    #[test]
    fn an_idle_file_rewrites_its_partial_block_unchanged() {
        let mut tail = FileTail::fresh();
        let mut plan = tail.begin();
        assert_eq!(
            tail.push_bytes(&mut plan, &Bytes::from(vec![1; 5000])),
            FilePos::new(4096)
        );
        assert_eq!(
            (plan.at().get(), plan.total_bytes(), plan.content_bytes()),
            (4096, 8192, 5000)
        );
        assert_eq!(filled(&plan), [vec![1; 5000], vec![0; 3192]].concat());
        tail.landed();
        let mut plan = tail.begin();
        assert_eq!(
            tail.push_bytes(&mut plan, &Bytes::from_static(&[2; 4])),
            FilePos::new(9096)
        );
        assert_eq!(
            (plan.at().get(), plan.end().get(), plan.content_bytes()),
            (8192, 12288, 908)
        );
        assert_eq!(filled(&plan), [vec![1; 904], vec![2; 4], vec![0; 3188]].concat());
    }

    #[test]
    fn a_busy_file_goes_on_in_the_next_block() {
        let mut tail = FileTail::fresh();
        let mut first = tail.begin();
        tail.push_bytes(&mut first, &Bytes::from_static(&[1; 10]));
        let mut second = tail.begin();
        assert_eq!(
            tail.push_bytes(&mut second, &Bytes::from_static(&[2; 10])),
            FilePos::new(8192)
        );
        assert_eq!(
            (first.end(), second.at()),
            (FilePos::new(8192), FilePos::new(8192))
        );
        assert_eq!(filled(&second), [vec![2; 10], vec![0; 4086]].concat());
        assert_eq!(tail.in_flight(), 2);
        tail.landed();
        let third = tail.begin();
        assert_eq!(third.at(), FilePos::new(12288), "one is still under way");
    }

    #[test]
    fn a_block_that_is_just_full_is_not_rewritten() {
        let mut tail = FileTail::fresh();
        let mut plan = tail.begin();
        tail.push_bytes(&mut plan, &Bytes::from(vec![1; 4000]));
        tail.push_bytes(&mut plan, &Bytes::from(vec![2; 96]));
        assert_eq!((plan.total_bytes(), tail.end().get()), (4096, 8192));
        tail.landed();
        let mut plan = tail.begin();
        tail.push_bytes(&mut plan, &Bytes::from_static(&[3]));
        assert_eq!((plan.at().get(), plan.content_bytes()), (8192, 1));
    }

    #[test]
    fn much_data_begins_at_a_block_boundary_and_is_written_from_where_it_is() {
        #[repr(align(4096))]
        struct Aligned([u8; 300_000]);
        struct Owner(Box<Aligned>);
        impl AsRef<[u8]> for Owner {
            fn as_ref(&self) -> &[u8] {
                &self.0.0
            }
        }
        let mut tail = FileTail::fresh();
        let mut plan = tail.begin();
        tail.push_bytes(&mut plan, &Bytes::from_static(&[1; 10]));
        let large = Bytes::from_owner(Owner(Box::new(Aligned([2; 300_000]))));
        assert_eq!(tail.push_bytes(&mut plan, &large), FilePos::new(8192));
        tail.push_bytes(&mut plan, &Bytes::from_static(&[3; 7]));
        let expected = [vec![1; 10], vec![0; 4086], vec![2; 300_000], vec![3; 7]].concat();
        let mut found = Vec::new();
        let stretches = plan.stretches(4096, 1000);
        let kinds: Vec<bool> = stretches
            .iter()
            .map(|stretch| matches!(stretch, Stretch::InPlace(_)))
            .collect();
        assert_eq!(kinds, [false, true, false]);
        for stretch in stretches {
            match stretch {
                Stretch::InPlace(bytes) => {
                    assert!(bytes.as_ptr() == large.as_ptr() && bytes.len() % 4096 == 0);
                    found.extend_from_slice(&bytes);
                }
                Stretch::Gather(gather) => {
                    let mut buffer = vec![0xee; gather.total_bytes()];
                    gather.fill(&mut buffer);
                    assert_eq!(found.len() % 4096, 0);
                    found.extend(buffer);
                }
            }
        }
        assert_eq!(found.len() as u64, plan.total_bytes());
        assert_eq!(found, filled(&plan));
        assert!(found.starts_with(&expected) && found[expected.len()..].iter().all(|byte| *byte == 0));
        assert_eq!(
            plan.stretches(4096, 1 << 30).len(),
            1,
            "below the bound everything is gathered"
        );
    }

    #[test]
    #[should_panic(expected = "the buffer of a write is as long as the write")]
    fn a_buffer_of_another_length_is_our_mistake() {
        let mut tail = FileTail::fresh();
        let mut plan = tail.begin();
        tail.push_bytes(&mut plan, &Bytes::from_static(&[3]));
        plan.fill(&mut [0; 4095]);
    }
}
