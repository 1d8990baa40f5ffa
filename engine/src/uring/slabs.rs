//! Memory in huge pages, cut into pieces of one size each.
//!
//! A device takes large writes and reads in as many segments as their memory has stretches without a gap: in pages of
//! 4 KiB a MiB has 256, which costs 40 us of CPU more, and a fifth of the throughput on the machines we measured.

use std::io;
use std::ptr::NonNull;

use memmap2::{Advice, MmapMut};

use super::memory::{Address, CLASSES};

const SLAB_BYTES: usize = 8 << 20;
const HUGE_PAGE_BYTES: usize = 2 << 20;
/// Memory of slabs that nobody uses which is kept: new pages cost more than all else that is done with a batch, where the
/// machine is a virtual one and its host has to find them first. As much as the recent batches of a shard take.
const SPARE_BYTES_MAX: usize = 128 << 20;

/// See the module.
pub(super) struct Slabs {
    slabs: Vec<Option<Slab>>,
    /// Free pieces with their slabs, by class.
    free: [Vec<(usize, Address)>; CLASSES],
    free_bytes: usize,
    /// Not cut into pieces.
    spare: Vec<Memory>,
}

struct Slab {
    piece_bytes: usize,
    piece_count: usize,
    free_count: usize,
    memory: Memory,
}

/// A slab's bytes from their beginning.
struct Memory {
    start: Address,
    /// Unmaps on drop: nobody holds a piece then.
    _map: MmapMut,
}

impl Default for Slabs {
    fn default() -> Self {
        Self {
            slabs: Vec::new(),
            free: std::array::from_fn(|_| Vec::new()),
            free_bytes: 0,
            spare: Vec::new(),
        }
    }
}

impl Slabs {
    /// A piece of `piece_bytes` bytes, the size of its class, and the slab that it belongs to; `None` when the system gives
    /// no memory this way.
    pub(super) fn take(&mut self, class: usize, piece_bytes: usize) -> Option<(usize, Address)> {
        if self.free.get(class)?.is_empty() {
            self.add(class, piece_bytes).ok()?;
        }
        let (slab, piece) = self.free.get_mut(class)?.pop()?;
        self.free_bytes -= piece_bytes;
        if let Some(Some(slab)) = self.slabs.get_mut(slab) {
            slab.free_count -= 1;
        }
        Some((slab, piece))
    }

    fn add(&mut self, class: usize, piece_bytes: usize) -> io::Result<()> {
        let memory = match self.spare.pop() {
            Some(spare) => spare,
            None => {
                let (map, start) = from_map(SLAB_BYTES)?;
                Memory { start, _map: map }
            }
        };
        let start = memory.start;
        let piece_count = SLAB_BYTES / piece_bytes;
        let place = self
            .slabs
            .iter()
            .position(Option::is_none)
            .unwrap_or(self.slabs.len());
        let slab = Slab {
            piece_bytes,
            piece_count,
            free_count: piece_count,
            memory,
        };
        match self.slabs.get_mut(place) {
            Some(free) => *free = Some(slab),
            None => self.slabs.push(Some(slab)),
        }
        if let Some(free) = self.free.get_mut(class) {
            // The first is given out first: what was never touched takes no memory.
            free.extend((0..piece_count).rev().map(|n| {
                // SAFETY: all of the pieces are within the slab's bytes.
                (place, Address(unsafe { start.0.add(n * piece_bytes) }))
            }));
        }
        self.free_bytes += piece_count * piece_bytes;
        Ok(())
    }

    /// Takes a piece back; gives its slab up when nothing of it is in use and more than this is free without it.
    pub(super) fn give_back(&mut self, slab: usize, class: usize, piece: Address, kept_bytes_max: usize) {
        let Some(Some(known)) = self.slabs.get_mut(slab) else {
            unreachable!("a piece belongs to a slab")
        };
        known.free_count += 1;
        self.free_bytes += known.piece_bytes;
        let bytes = known.piece_count * known.piece_bytes;
        let is_unused = known.free_count == known.piece_count;
        let Some(free) = self.free.get_mut(class) else {
            unreachable!("a piece has a class")
        };
        free.push((slab, piece));
        if is_unused && self.free_bytes - bytes >= kept_bytes_max {
            free.retain(|(of, _)| *of != slab);
            self.free_bytes -= bytes;
            let unused = self.slabs.get_mut(slab).and_then(Option::take);
            if let Some(unused) = unused
                && self.spare.len() < SPARE_BYTES_MAX / SLAB_BYTES
            {
                self.spare.push(unused.memory);
            }
        }
    }
}

/// Memory of its own that begins at a huge page's boundary, zeroed.
pub(super) fn from_map(bytes: usize) -> io::Result<(MmapMut, Address)> {
    let mut map = MmapMut::map_anon(bytes + HUGE_PAGE_BYTES)?;
    // Where huge pages are not to be had, small ones do.
    map.advise(Advice::HugePage).ok();
    let start = map.as_mut_ptr();
    let skip = start.addr().next_multiple_of(HUGE_PAGE_BYTES) - start.addr();
    // SAFETY: less than a huge page further on, and so much more was mapped.
    let start = unsafe { start.add(skip) };
    let start = NonNull::new(start).ok_or(io::ErrorKind::OutOfMemory)?;
    Ok((map, Address(start)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_apart_and_a_slab_that_nobody_uses_goes_when_enough_is_free() {
        let mut slabs = Slabs::default();
        let bytes = 3 << 20;
        let pieces: Vec<_> = (0..5).map(|_| slabs.take(30, bytes).unwrap()).collect();
        assert_eq!(
            pieces.iter().map(|(slab, _)| *slab).collect::<Vec<_>>(),
            [0, 0, 1, 1, 2]
        );
        for (n, (_, piece)) in pieces.iter().enumerate() {
            for (_, other) in &pieces[..n] {
                assert!(piece.0.addr().get().abs_diff(other.0.addr().get()) >= bytes);
            }
        }
        for (slab, piece) in pieces {
            slabs.give_back(slab, 30, piece, 6 << 20);
        }
        let kept = slabs.slabs.iter().flatten().count();
        assert_eq!((kept, slabs.free_bytes), (1, 6 << 20));
        let again = slabs.take(30, bytes).unwrap();
        assert_eq!(slabs.free_bytes, 3 << 20);
        slabs.give_back(again.0, 30, again.1, 0);
        assert_eq!((slabs.slabs.iter().flatten().count(), slabs.free_bytes), (0, 0));
    }

    #[test]
    fn what_nobody_uses_is_cut_anew_and_kept_within_a_bound() {
        let mut slabs = Slabs::default();
        let pieces: Vec<_> = (0..20).map(|_| slabs.take(36, SLAB_BYTES).unwrap()).collect();
        let places: Vec<usize> = pieces.iter().map(|(_, piece)| piece.0.addr().get()).collect();
        for (slab, piece) in pieces {
            slabs.give_back(slab, 36, piece, 0);
        }
        assert_eq!(slabs.spare.len() * SLAB_BYTES, SPARE_BYTES_MAX);
        let (_, small) = slabs.take(16, 64 << 10).unwrap();
        assert!(places.contains(&small.0.addr().get()), "it was there before");
    }
}
