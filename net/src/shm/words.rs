//! Memory as 64-bit words that another process may write at any time.

use std::sync::atomic::Ordering;

/// Bytes of a word.
pub(super) const WORD_BYTES: usize = 8;

/// Memory in 64-bit words, shared with a side that may write any of them at any time. So there are no references to
/// its bytes: they are copied in and out through atomic accesses to whole words.
///
/// The ring is written against this, so that the model checker can take the place of the mapping.
pub trait Words: Send + Sync {
    /// Loads a word. `word` is an index of ours, never one that the other side gave.
    ///
    /// # Panics
    /// When the index is not in this memory, as all other calls do.
    fn load(&self, word: usize, order: Ordering) -> u64;

    /// Stores a word.
    fn store(&self, word: usize, value: u64, order: Ordering);

    /// Makes a word that has this value a 0, without any order. False when it is something else; it stays so.
    fn take_flag(&self, word: usize, value: u64) -> bool;

    /// A sequentially consistent fence.
    fn fence(&self);

    /// Copies whole words out, from `word` on. What is shorter than a word at the end of `into` is left as it is.
    fn load_run(&self, word: usize, into: &mut [u8]) {
        for (word, chunk) in (word..).zip(into.chunks_exact_mut(WORD_BYTES)) {
            chunk.copy_from_slice(&self.load(word, Ordering::Relaxed).to_ne_bytes());
        }
    }

    /// Copies whole words in, from `word` on. What is shorter than a word at the end of `from` is left out.
    fn store_run(&self, word: usize, from: &[u8]) {
        for (word, chunk) in (word..).zip(from.chunks_exact(WORD_BYTES)) {
            self.store(word, word_of(chunk), Ordering::Relaxed);
        }
    }
}

/// Copies bytes out of shared memory, from byte `at` on. They may be garbage: whoever shares the memory can change them
/// meanwhile.
pub(super) fn copy_out<M: Words + ?Sized>(memory: &M, at: usize, into: &mut [u8]) {
    let (mut word, within) = (at / WORD_BYTES, at % WORD_BYTES);
    let head_bytes = into.len().min(WORD_BYTES.wrapping_sub(within) % WORD_BYTES);
    let (head, rest) = into.split_at_mut(head_bytes);
    if !head.is_empty() {
        let bytes = memory.load(word, Ordering::Relaxed).to_ne_bytes();
        for (to, from) in head.iter_mut().zip(bytes.iter().skip(within)) {
            *to = *from;
        }
        word = word.saturating_add(1);
    }
    memory.load_run(word, rest);
    let tail_at = rest.len() / WORD_BYTES;
    let tail = rest.chunks_exact_mut(WORD_BYTES).into_remainder();
    if !tail.is_empty() {
        let bytes = memory
            .load(word.saturating_add(tail_at), Ordering::Relaxed)
            .to_ne_bytes();
        for (to, from) in tail.iter_mut().zip(bytes) {
            *to = from;
        }
    }
}

/// Copies bytes into shared memory, from byte `at` on. The words at both ends are read and written back, so nobody else
/// may write them meanwhile.
pub(super) fn copy_in<M: Words + ?Sized>(memory: &M, at: usize, from: &[u8]) {
    let (mut word, within) = (at / WORD_BYTES, at % WORD_BYTES);
    let head_bytes = from.len().min(WORD_BYTES.wrapping_sub(within) % WORD_BYTES);
    let (head, rest) = from.split_at(head_bytes);
    if !head.is_empty() {
        patch(memory, word, within, head);
        word = word.saturating_add(1);
    }
    memory.store_run(word, rest);
    let tail = rest.chunks_exact(WORD_BYTES).remainder();
    if !tail.is_empty() {
        patch(memory, word.saturating_add(rest.len() / WORD_BYTES), 0, tail);
    }
}

/// Puts bytes that are less than a word in place.
fn patch<M: Words + ?Sized>(memory: &M, word: usize, within: usize, from: &[u8]) {
    let mut bytes = memory.load(word, Ordering::Relaxed).to_ne_bytes();
    for (to, from) in bytes.iter_mut().skip(within).zip(from) {
        *to = *from;
    }
    memory.store(word, u64::from_ne_bytes(bytes), Ordering::Relaxed);
}

/// The word in these bytes, which are eight.
pub(super) fn word_of(bytes: &[u8]) -> u64 {
    u64::from_ne_bytes(bytes.try_into().unwrap_or_default())
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::atomic::{AtomicU64, fence};

    use super::*;

    /// Memory on the heap.
    pub(in crate::shm) struct HeapWords(pub(in crate::shm) Vec<AtomicU64>);

    impl HeapWords {
        pub(in crate::shm) fn new(words: usize) -> Self {
            Self((0..words).map(|_| AtomicU64::new(0)).collect())
        }
    }

    impl Words for HeapWords {
        fn load(&self, word: usize, order: Ordering) -> u64 {
            self.0[word].load(order)
        }

        fn store(&self, word: usize, value: u64, order: Ordering) {
            self.0[word].store(value, order);
        }

        fn take_flag(&self, word: usize, value: u64) -> bool {
            let taken = self.0[word].compare_exchange(value, 0, Ordering::Relaxed, Ordering::Relaxed);
            taken.is_ok()
        }

        fn fence(&self) {
            fence(Ordering::SeqCst);
        }
    }

    #[test]
    fn every_stretch_of_bytes_goes_in_and_comes_out_and_touches_no_others() {
        for at in 0..17 {
            for bytes in 0..40 {
                let memory = HeapWords::new(8);
                memory.store_run(0, &[0xAA; 64]);
                let put: Vec<u8> = (1..=bytes).collect();
                copy_in(&memory, at, &put);
                let mut expected = [0xAA; 64];
                expected[at..at + put.len()].copy_from_slice(&put);
                let mut all = [0; 64];
                memory.load_run(0, &mut all);
                assert_eq!(all, expected, "{bytes} bytes at {at}");
                let mut got = vec![0; put.len()];
                copy_out(&memory, at, &mut got);
                assert_eq!(got, put, "{bytes} bytes at {at}");
            }
        }
    }
}
