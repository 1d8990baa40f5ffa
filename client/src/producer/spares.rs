//! Memory of batches that are over, for the next ones.
//!
//! Giving a MiB back to the system and asking for it again, as allocators do, costs more than filling it: each of its pages is emptied,
//! and on a virtual machine perhaps found first. So what large batches were made in is kept, within a bound for all partitions of a
//! producer. Small ones are better off with the allocator.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{Bytes, BytesMut};
use mofka_log::BatchBuilder;

use super::batch::Content;
use crate::promise::lock;

/// What is kept at most, in all.
const KEPT_BYTES_MAX: usize = 8 << 20;
/// Memory of less than this is not kept.
const KEPT_BYTES_MIN: usize = 16 << 10;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Spares {
    /// Whether there may be any: most producers of small batches never have some.
    is_any: AtomicBool,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    #[expect(
        clippy::vec_box,
        reason = "they go from hand to hand, and a pointer goes faster"
    )]
    builders: Vec<Box<BatchBuilder>>,
    buffers: Vec<BytesMut>,
    bytes: usize,
}

impl Spares {
    /// A builder for a batch that begins to gather: this one, which is empty, if there is one.
    pub(super) fn builder(&self, at_hand: Option<Box<BatchBuilder>>) -> Box<BatchBuilder> {
        if !self.is_any.load(Ordering::Relaxed) {
            return at_hand.unwrap_or_default();
        }
        let kept = &mut *lock(&self.kept);
        let mut builder = at_hand.unwrap_or_else(|| {
            let builder = kept.builders.pop().unwrap_or_default();
            kept.bytes -= builder.memory_bytes();
            builder
        });
        // How much it will take is not known.
        let largest = kept
            .buffers
            .iter()
            .enumerate()
            .max_by_key(|(_, it)| it.capacity());
        if let Some((largest, _)) = largest {
            let memory = kept.buffers.swap_remove(largest);
            kept.bytes -= memory.capacity();
            builder.copy_into(memory);
        }
        builder
    }

    /// Memory for a frame of so many bytes; small ones are made where others were that are at hand.
    pub(super) fn frame(&self, bytes: u64, at_hand: &mut AtHand) -> BytesMut {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        if bytes < KEPT_BYTES_MIN {
            return at_hand.frame();
        }
        if !self.is_any.load(Ordering::Relaxed) {
            return BytesMut::new();
        }
        let kept = &mut *lock(&self.kept);
        let fits = kept.buffers.iter().enumerate();
        let fits = fits.filter(|(_, it)| it.capacity() >= bytes);
        let Some((smallest, _)) = fits.min_by_key(|(_, it)| it.capacity()) else {
            return BytesMut::new();
        };
        let memory = kept.buffers.swap_remove(smallest);
        kept.bytes -= memory.capacity();
        memory
    }

    /// A builder that gave its batch away.
    pub(super) fn keep_builder(&self, builder: Box<BatchBuilder>) {
        let bytes = builder.memory_bytes();
        self.keep(bytes, |kept| kept.builders.push(builder));
    }

    /// A batch that is over.
    pub(super) fn keep_content(&self, content: Content) {
        if let Content::Stamped {
            frame,
            data,
            is_all_copied,
            ..
        } = content
        {
            self.keep_buffer(frame);
            if is_all_copied {
                data.into_iter().for_each(|part| self.keep_buffer(part));
            }
        }
    }

    /// Unless somebody else has it, too, as a socket may.
    fn keep_buffer(&self, bytes: Bytes) {
        if bytes.len() >= KEPT_BYTES_MIN
            && let Ok(mut memory) = bytes.try_into_mut()
        {
            memory.clear();
            self.keep(memory.capacity(), |kept| kept.buffers.push(memory));
        }
    }

    fn keep(&self, bytes: usize, add: impl FnOnce(&mut Kept)) {
        if !(KEPT_BYTES_MIN..=KEPT_BYTES_MAX).contains(&bytes) {
            return;
        }
        let kept = &mut *lock(&self.kept);
        if kept.bytes + bytes <= KEPT_BYTES_MAX {
            kept.bytes += bytes;
            add(kept);
            self.is_any.store(true, Ordering::Relaxed);
        }
    }
}

/// What a queue has at hand for small batches, when events come one by one: a builder for each that waits to be sent, and memory for
/// the frame of each that is under way. Allocators find a few of a size again at once, but not as many.
#[derive(Debug, Default)]
pub(super) struct AtHand {
    #[expect(
        clippy::vec_box,
        reason = "they go from hand to hand, and a pointer goes faster"
    )]
    builders: Vec<Box<BatchBuilder>>,
    frames: Vec<BytesMut>,
    bytes: usize,
}

impl AtHand {
    /// What is kept at most, in all.
    const BYTES_MAX: usize = 64 << 10;

    /// One that is empty, if there is one.
    pub(super) fn take(&mut self) -> Option<Box<BatchBuilder>> {
        let builder = self.builders.pop()?;
        self.bytes -= builder.memory_bytes();
        Some(builder)
    }

    /// Keeps one that gave its batch away, or gives it back when that would be too much.
    pub(super) fn keep(&mut self, builder: Box<BatchBuilder>) -> Option<Box<BatchBuilder>> {
        let bytes = builder.memory_bytes();
        if self.bytes + bytes > Self::BYTES_MAX {
            return Some(builder);
        }
        self.bytes += bytes;
        self.builders.push(builder);
        None
    }

    /// Memory for a small frame: what another one had, or none.
    fn frame(&mut self) -> BytesMut {
        let memory = self.frames.pop().unwrap_or_default();
        self.bytes -= memory.capacity();
        memory
    }

    /// Keeps the memory of a batch's frame, if it is small and nobody else has it.
    pub(super) fn keep_frame(&mut self, content: &mut Content) {
        let Content::Stamped { frame, .. } = content else {
            return;
        };
        if frame.len() >= KEPT_BYTES_MIN || self.bytes + frame.len() > Self::BYTES_MAX {
            return;
        }
        match std::mem::take(frame).try_into_mut() {
            Ok(memory) if memory.capacity() < KEPT_BYTES_MIN => {
                self.bytes += memory.capacity();
                self.frames.push(memory);
            }
            Ok(_) => {}
            Err(shared) => *frame = shared,
        }
    }
}

#[cfg(test)]
mod tests {
    use smallvec::smallvec;

    use super::*;

    fn stamped(data_bytes: usize) -> Content {
        Content::Stamped {
            frame: Bytes::from(vec![1; KEPT_BYTES_MIN]),
            data: smallvec![Bytes::from(vec![2; data_bytes])],
            is_all_copied: true,
            is_foreign: false,
        }
    }

    fn bytes(spares: &Spares) -> usize {
        lock(&spares.kept).bytes
    }

    #[test]
    fn the_next_batch_lies_where_the_last_one_did() {
        let spares = Spares::default();
        let content = stamped(1 << 20);
        let Content::Stamped { frame, data, .. } = &content else {
            unreachable!("it is")
        };
        let (frame_at, data_at) = (frame.as_ptr(), data[0].as_ptr());
        spares.keep_content(content);
        assert_eq!(bytes(&spares), KEPT_BYTES_MIN + (1 << 20));
        let mut builder = spares.builder(None);
        builder.push(b"{}", std::iter::once(&[7; 1 << 20][..])).unwrap();
        let memory = spares.frame(KEPT_BYTES_MIN as u64, &mut AtHand::default());
        assert_eq!(memory.as_ptr(), frame_at);
        let (frame, data) = builder.take_into(None, memory);
        assert_eq!((frame.as_ptr(), data[0].as_ptr()), (frame_at, data_at));
        assert_eq!(
            (data.len(), &data[0][..], bytes(&spares)),
            (1, &[7; 1 << 20][..], 0)
        );
    }

    #[test]
    fn neither_little_is_kept_nor_too_much_nor_what_others_have() {
        let spares = Spares::default();
        spares.keep_content(stamped(KEPT_BYTES_MIN - 1));
        assert_eq!(bytes(&spares), KEPT_BYTES_MIN, "the frame");
        for _ in 0..20 {
            spares.keep_content(stamped(1 << 20));
        }
        assert!(bytes(&spares) <= KEPT_BYTES_MAX && bytes(&spares) > KEPT_BYTES_MAX - (1 << 20));
        let spares = Spares::default();
        let shared = Bytes::from(vec![3; KEPT_BYTES_MIN]);
        let content = |is_all_copied| Content::Stamped {
            frame: shared.clone(),
            data: smallvec![Bytes::from(vec![4; KEPT_BYTES_MIN])],
            is_all_copied,
            is_foreign: false,
        };
        spares.keep_content(content(false));
        assert_eq!(
            bytes(&spares),
            0,
            "a socket has the one, the application had the other"
        );
        spares.keep_content(content(true));
        assert_eq!(bytes(&spares), KEPT_BYTES_MIN);
    }

    #[test]
    fn builders_are_at_hand_up_to_a_bound() {
        let used = |metadata_bytes: usize| {
            let mut builder = BatchBuilder::new();
            builder.push(&vec![b'1'; metadata_bytes], []).unwrap();
            builder.take_at(None);
            Box::new(builder)
        };
        let mut at_hand = AtHand::default();
        assert!(at_hand.take().is_none());
        for _ in 0..3 {
            assert!(at_hand.keep(used(100)).is_none());
        }
        let large = at_hand.keep(used(AtHand::BYTES_MAX)).unwrap();
        assert!(large.memory_bytes() >= AtHand::BYTES_MAX);
        let builders: Vec<_> = std::iter::from_fn(|| at_hand.take()).collect();
        assert_eq!((builders.len(), at_hand.bytes), (3, 0));
        assert!(
            builders
                .iter()
                .all(|builder| builder.is_empty() && builder.memory_bytes() >= 100)
        );
    }

    #[test]
    fn a_small_frame_lies_where_another_one_did_up_to_a_bound() {
        let (spares, mut at_hand) = (Spares::default(), AtHand::default());
        let stamped = |frame: Bytes| Content::Stamped {
            frame,
            data: smallvec![],
            is_all_copied: true,
            is_foreign: false,
        };
        let frame = Bytes::from(vec![1; 400]);
        let frame_at = frame.as_ptr();
        at_hand.keep_frame(&mut stamped(frame));
        let memory = spares.frame(300, &mut at_hand);
        assert_eq!((memory.as_ptr(), at_hand.bytes), (frame_at, 0));
        // A socket still has it.
        let shared = Bytes::from(vec![1; 400]);
        let mut sent = stamped(shared.clone());
        at_hand.keep_frame(&mut sent);
        assert!(
            at_hand.frames.is_empty() && matches!(&sent, Content::Stamped { frame, .. } if frame == &shared)
        );
        for _ in 0..100 {
            at_hand.keep_frame(&mut stamped(Bytes::from(vec![1; 1000])));
        }
        assert_eq!((at_hand.frames.len(), at_hand.bytes), (65, 65_000));
        at_hand.keep_frame(&mut stamped(Bytes::from(vec![1; KEPT_BYTES_MIN])));
        assert_eq!(at_hand.frames.len(), 65, "the producer keeps it for all queues");
    }
}
