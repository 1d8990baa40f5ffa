//! The shared memory itself: made, sealed, checked and mapped.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering, fence};

use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;

use crate::shm::fault::MapError;
use crate::shm::layout::{HEADER_BYTES, Places, RingConfig, check_header, encode_header};
use crate::shm::words::{WORD_BYTES, Words, word_of};
use crate::width::{narrow, wide};

/// Without these the other side could make the memory smaller, and the next access would end this process.
const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);

/// Shared memory with a ring in it, mapped here.
#[derive(Debug)]
pub struct Mapping {
    memory: MmapRaw,
    places: Places,
}

impl Mapping {
    /// Makes the memory for a ring, writes its header, and seals its size. It is zero otherwise, and takes room only where
    /// it was touched.
    ///
    /// # Errors
    /// Sizes out of bounds, or a refusal of the system.
    pub fn create(config: &RingConfig) -> Result<(Self, OwnedFd), MapError> {
        let places = Places::of(config)?;
        let header = encode_header(config)?;
        let file = create_memory().map_err(system("make shared memory"))?;
        rustix::fs::ftruncate(&file, places.memory_bytes).map_err(system("size shared memory"))?;
        let mapping = Self {
            memory: map(&file, places.memory_bytes)?,
            places,
        };
        mapping.store_run(0, &header);
        for (word, value) in places.first_words() {
            mapping.store(word, value, Ordering::Relaxed);
        }
        rustix::fs::fcntl_add_seals(&file, SEALS).map_err(system("seal shared memory"))?;
        Ok((mapping, file))
    }

    /// Maps memory that another process made, after everything about it was checked.
    ///
    /// # Errors
    /// When it is not sealed, of another size than its header says, of another version or layout, or not a ring at all.
    pub fn attach(file: impl AsFd) -> Result<Self, MapError> {
        let seals = rustix::fs::fcntl_get_seals(&file).map_err(system("read the seals of shared memory"))?;
        if !seals.contains(SEALS) {
            return Err(MapError::Seals { seals: seals.bits() });
        }
        // Sealed, so none of this changes any more.
        let status = rustix::fs::fstat(&file).map_err(system("read the size of shared memory"))?;
        let found_bytes = u64::try_from(status.st_size).unwrap_or(0);
        let mut header = [0; HEADER_BYTES];
        let read =
            rustix::io::pread(&file, &mut header, 0).map_err(system("read the header of shared memory"))?;
        if read < HEADER_BYTES {
            return Err(MapError::Header);
        }
        let places = check_header(header, found_bytes)?;
        Ok(Self {
            memory: map(file, found_bytes)?,
            places,
        })
    }

    pub(super) fn places(&self) -> &Places {
        &self.places
    }

    /// Where `bytes` bytes from byte `at` on begin.
    pub(super) fn byte_ptr(&self, at: usize, bytes: u64) -> *mut u8 {
        let end = at.checked_add(narrow(bytes));
        assert!(
            end.is_some_and(|end| end <= self.memory.len()),
            "within the mapping"
        );
        self.memory.as_mut_ptr().wrapping_add(at)
    }

    /// The first of `count` words.
    fn words(&self, word: usize, count: usize) -> *mut u64 {
        let end = word.checked_add(count);
        assert!(
            end.is_some_and(|end| end <= self.memory.len() / WORD_BYTES),
            "within the mapping"
        );
        self.memory.as_mut_ptr().cast::<u64>().wrapping_add(word)
    }

    fn word(&self, word: usize) -> &AtomicU64 {
        let pointer = self.words(word, 1);
        // SAFETY: mappings begin at a page, so that words are aligned; it lies within the mapping (checked above), which
        // lives as long as `self`. In this process words are only ever accessed as atomics (and bytes of a claim through
        // its pointer, by the one who has the claim, while nobody else looks at them).
        unsafe { AtomicU64::from_ptr(pointer) }
    }
}

impl Words for Mapping {
    fn load(&self, word: usize, order: Ordering) -> u64 {
        self.word(word).load(order)
    }

    fn store(&self, word: usize, value: u64, order: Ordering) {
        self.word(word).store(value, order);
    }

    fn take_flag(&self, word: usize, value: u64) -> bool {
        let taken = self
            .word(word)
            .compare_exchange(value, 0, Ordering::Relaxed, Ordering::Relaxed);
        taken.is_ok()
    }

    fn fence(&self) {
        fence(Ordering::SeqCst);
    }

    // The bounds are checked once, not for each word.
    fn load_run(&self, word: usize, into: &mut [u8]) {
        let count = into.len() / WORD_BYTES;
        let mut pointer = self.words(word, count);
        if count >= BULK_WORDS {
            // SAFETY: as many words as were checked, into as many of `into`, which is nobody else's.
            return unsafe { copy_words(pointer, into.as_mut_ptr().cast(), count) };
        }
        for chunk in into.chunks_exact_mut(WORD_BYTES) {
            // SAFETY: as in `word`; one of the words whose bounds were checked.
            let value = unsafe { AtomicU64::from_ptr(pointer) }.load(Ordering::Relaxed);
            chunk.copy_from_slice(&value.to_ne_bytes());
            pointer = pointer.wrapping_add(1);
        }
    }

    fn store_run(&self, word: usize, from: &[u8]) {
        let count = from.len() / WORD_BYTES;
        let mut pointer = self.words(word, count);
        if count >= BULK_WORDS {
            // SAFETY: as many words as were checked, from as many of `from`, which nobody changes meanwhile.
            return unsafe { copy_words(from.as_ptr().cast(), pointer, count) };
        }
        for chunk in from.chunks_exact(WORD_BYTES) {
            // SAFETY: as in `load_run`.
            unsafe { AtomicU64::from_ptr(pointer) }.store(word_of(chunk), Ordering::Relaxed);
            pointer = pointer.wrapping_add(1);
        }
    }
}

/// Runs from here on are copied by one instruction, which takes longer to begin than a short loop takes altogether.
const BULK_WORDS: usize = if cfg!(target_arch = "x86_64") {
    64
} else {
    usize::MAX
};

/// Copies words. It is one instruction of the processor, so that more cache lines are under way at a time than in a loop
/// of loads; and the compiler can neither split nor repeat it, nor draw conclusions from it: other processes may write the
/// shared side meanwhile.
///
/// # Safety
/// `from` can be read and `to` written for so many words, and neither belongs to somebody else in this process.
#[cfg(target_arch = "x86_64")]
unsafe fn copy_words(from: *const u64, to: *mut u64, count: usize) {
    // SAFETY: it reads and writes what the caller allows. The direction is forward by the calling convention.
    unsafe {
        std::arch::asm!(
            "rep movsq",
            inout("rcx") count => _,
            inout("rsi") from => _,
            inout("rdi") to => _,
            options(nostack, preserves_flags)
        );
    }
}

/// No run is long enough for this: see [`BULK_WORDS`].
///
/// # Safety
/// None is needed.
#[cfg(not(target_arch = "x86_64"))]
unsafe fn copy_words(_from: *const u64, _to: *mut u64, _count: usize) {
    unreachable!("there is no bulk copy for this processor")
}

fn create_memory() -> Result<OwnedFd, Errno> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    match rustix::fs::memfd_create("mofka-ring", flags | MemfdFlags::NOEXEC_SEAL) {
        // Before Linux 6.3.
        Err(Errno::INVAL) => rustix::fs::memfd_create("mofka-ring", flags),
        made => made,
    }
}

fn map(file: impl AsFd, bytes: u64) -> Result<MmapRaw, MapError> {
    let raw = std::os::fd::AsRawFd::as_raw_fd(&file.as_fd());
    let mapped = MmapOptions::new().len(narrow(bytes)).map_raw(raw);
    let memory = mapped.map_err(|error| MapError::System {
        what: "map shared memory",
        error,
    })?;
    debug_assert_eq!(wide(memory.len()), bytes);
    Ok(memory)
}

fn system(what: &'static str) -> impl Fn(Errno) -> MapError {
    move |error| MapError::System {
        what,
        error: error.into(),
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::memfd_create;

    use super::*;
    use crate::shm::layout::LaneConfig;

    fn config() -> RingConfig {
        let lane = LaneConfig {
            slot_count: 4,
            arena_bytes: 4096,
        };
        RingConfig {
            submission: lane,
            completion: lane,
            first_position: 5,
        }
    }

    #[test]
    fn both_ends_see_the_same_words() {
        let (creator, file) = Mapping::create(&config()).unwrap();
        let attached = Mapping::attach(&file).unwrap();
        assert_eq!(creator.places(), attached.places());
        assert_eq!(
            attached.load(creator.places().submission.published, Ordering::Relaxed),
            5
        );
        attached.store(100, 1, Ordering::Relaxed);
        assert!(creator.take_flag(100, 1) && !attached.take_flag(100, 1));
        attached.store(100, 2, Ordering::Relaxed);
        assert!(!creator.take_flag(100, 1));
        assert_eq!(creator.load(100, Ordering::Relaxed), 2);
        let mut bytes = [0; 19];
        creator.store_run(
            200,
            &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19],
        );
        attached.load_run(200, &mut bytes);
        assert_eq!(
            bytes,
            [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 0, 0, 0]
        );
    }

    #[test]
    fn runs_of_every_length_are_copied_whole() {
        let (creator, file) = Mapping::create(&config()).unwrap();
        let attached = Mapping::attach(&file).unwrap();
        let arena = creator.places().submission.arena;
        for bytes in (0..1600).chain([4000, 4096]) {
            let put: Vec<u8> = (0..bytes).map(|n: usize| (n * 7 + bytes) as u8).collect();
            crate::shm::words::copy_in(&creator, arena, &put);
            let mut got = vec![0; bytes];
            crate::shm::words::copy_out(&attached, arena, &mut got);
            assert_eq!(got, put, "{bytes} bytes");
        }
    }

    #[test]
    fn nobody_can_change_the_size() {
        let (creator, file) = Mapping::create(&config()).unwrap();
        let bytes = creator.places().memory_bytes;
        for size in [0, 4096, bytes - 1, bytes + 1, bytes * 2] {
            assert_eq!(rustix::fs::ftruncate(&file, size), Err(Errno::PERM), "{size}");
        }
        let more = SealFlags::WRITE;
        assert_eq!(
            rustix::fs::fcntl_add_seals(&file, more),
            Err(Errno::PERM),
            "nor the seals"
        );
    }

    #[test]
    fn memory_without_all_seals_is_refused() {
        let (creator, _file) = Mapping::create(&config()).unwrap();
        for missing in [SealFlags::SHRINK, SealFlags::GROW, SealFlags::SEAL] {
            let file = memfd_create("x", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
            rustix::fs::ftruncate(&file, creator.places().memory_bytes).unwrap();
            rustix::io::pwrite(&file, &encode_header(&config()).unwrap(), 0).unwrap();
            rustix::fs::fcntl_add_seals(&file, SEALS.difference(missing)).unwrap();
            let refused = Mapping::attach(&file);
            assert!(
                matches!(refused, Err(MapError::Seals { .. })),
                "{missing:?}: {refused:?}"
            );
        }
    }

    #[test]
    fn other_files_are_refused() {
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        assert!(Mapping::attach(&file).is_err());
        for bytes in [0, 10, HEADER_BYTES, 4096, 1 << 20] {
            let file = memfd_create("x", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
            rustix::fs::ftruncate(&file, wide(bytes)).unwrap();
            rustix::fs::fcntl_add_seals(&file, SEALS).unwrap();
            let refused = Mapping::attach(&file);
            assert!(matches!(refused, Err(MapError::Header)), "{bytes}: {refused:?}");
        }
    }

    #[test]
    fn a_word_outside_is_never_touched() {
        let (mapping, _file) = Mapping::create(&config()).unwrap();
        let words = narrow(mapping.places().memory_bytes) / WORD_BYTES;
        for word in [words, words + 1, usize::MAX / WORD_BYTES, usize::MAX] {
            let touch = || mapping.load(word, Ordering::Relaxed);
            assert!(
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(touch)).is_err(),
                "{word}"
            );
        }
        let mut two = [0; 16];
        let run = std::panic::AssertUnwindSafe(|| mapping.load_run(words - 1, &mut two));
        assert!(std::panic::catch_unwind(run).is_err());
    }
}
