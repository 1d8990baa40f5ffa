//! Memory for direct I/O: aligned, reused, and as far as possible registered with the kernel once.
//!
//! Every write of the log needs memory that begins at a block boundary and that the kernel can pin. Pinning page by
//! page costs CPU for every write (30 us a MiB on the machines we measured), so the pool takes its memory from one
//! region that the ring registers at start ([`Pool::region`]). What does not fit there comes from the heap, or from slabs of
//! huge pages when it is large ([`Slabs`]), and is kept for reuse within a bound. So is that of small requests, which need no
//! boundary: the heap takes long for their sizes. The largest pieces are mapped one by one.

use std::alloc::Layout;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use memmap2::MmapMut;
use mofka_log::BLOCK_BYTES;

use super::slabs::{Slabs, from_map};

/// Sizes from one block (class 0) to 8 MiB, four for each power of two, so that at most a fifth of a piece is wasted; larger
/// pieces are not kept.
pub(super) const CLASSES: usize = 40;
/// Sizes of small pieces, from 128 bytes on in the same steps.
const SMALL_CLASSES: usize = 24;
const SMALL_BLOCK_BYTES: usize = 128;
/// As large as those become.
const SMALL_BYTES_MAX: usize = 16 << 10;
/// What they begin at a multiple of: a line of the caches.
const SMALL_BOUNDARY_BYTES: usize = 64;
/// Pieces from here on come from slabs rather than the heap.
const SLAB_PIECE_BYTES_MIN: usize = 64 << 10;

/// Shares out memory. Cheap to clone.
#[derive(Clone)]
pub(super) struct Pool(Arc<Shared>);

struct Shared {
    /// Accessed only through the buffers that were given out, never as a whole.
    region: Option<Region>,
    kept_bytes_max: usize,
    lists: Mutex<Lists>,
}

struct Region {
    start: Address,
    bytes: usize,
    /// Unmaps on drop; nobody holds a buffer then, because every buffer holds the pool.
    _map: MmapMut,
}

struct Lists {
    /// Free pieces of the region, by class.
    region: [Vec<Address>; CLASSES],
    /// Bytes of the region that were never given out begin here.
    untouched: usize,
    /// Free pieces of the heap, by class.
    heap: [Vec<Address>; CLASSES],
    heap_bytes: usize,
    /// Free small pieces, by class.
    small: [Vec<Address>; SMALL_CLASSES],
    small_bytes: usize,
    slabs: Slabs,
}

impl Default for Lists {
    fn default() -> Self {
        Self {
            region: std::array::from_fn(|_| Vec::new()),
            untouched: 0,
            heap: std::array::from_fn(|_| Vec::new()),
            heap_bytes: 0,
            small: std::array::from_fn(|_| Vec::new()),
            small_bytes: 0,
            slabs: Slabs::default(),
        }
    }
}

/// The start of a piece that nobody uses.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Address(pub(super) NonNull<u8>);

// SAFETY: an address is not an access. Whoever turns it into a slice owns the piece, because the pool gives each piece
// to one buffer at a time.
unsafe impl Send for Address {}
// SAFETY: as above.
unsafe impl Sync for Address {}

impl Pool {
    /// A pool with a region of `region_bytes` (0: none) that keeps at most `kept_bytes_max` bytes of heap for reuse.
    ///
    /// # Errors
    /// When the region cannot be mapped.
    pub(super) fn new(region_bytes: usize, kept_bytes_max: usize) -> std::io::Result<Self> {
        let region = match region_bytes {
            0 => None,
            bytes => {
                let (map, start) = from_map(bytes)?;
                Some(Region {
                    start,
                    bytes,
                    _map: map,
                })
            }
        };
        Ok(Self(Arc::new(Shared {
            region,
            kept_bytes_max,
            lists: Mutex::default(),
        })))
    }

    /// Start and length of the region, for registering it.
    pub(super) fn region(&self) -> Option<(*mut u8, usize)> {
        self.0
            .region
            .as_ref()
            .map(|region| (region.start.0.as_ptr(), region.bytes))
    }

    /// Memory of exactly `bytes` bytes that begins at a block boundary; its content is arbitrary.
    pub(super) fn take(&self, bytes: usize) -> IoBuf {
        self.piece(bytes, true)
    }

    /// The same, but never of the region.
    pub(super) fn take_from_heap(&self, bytes: usize) -> IoBuf {
        self.piece(bytes, false)
    }

    /// Memory of exactly `bytes` bytes for what need not begin at a block boundary when it is small; its content is arbitrary.
    pub(super) fn take_to_keep(&self, bytes: usize) -> IoBuf {
        if bytes > SMALL_BYTES_MAX {
            return self.take_from_heap(bytes);
        }
        let class = class_of(bytes, SMALL_BLOCK_BYTES);
        IoBuf {
            start: self.0.find_small(class),
            bytes,
            class: Some(class),
            from: From::Small,
            map: None,
            pool: Arc::clone(&self.0),
        }
    }

    fn piece(&self, bytes: usize, of_region: bool) -> IoBuf {
        // Pieces of the region go back to it as they are: fewer sizes fit more often.
        let class = match of_region {
            true => class_of(bytes.max(1).next_power_of_two(), BLOCK_BYTES),
            false => class_of(bytes, BLOCK_BYTES),
        };
        let class = (class < CLASSES).then_some(class);
        if class.is_none()
            && let Some(large) = self.large(bytes)
        {
            return large;
        }
        let (start, from) = self.0.find(class, bytes, of_region);
        IoBuf {
            start,
            bytes,
            class,
            from,
            map: None,
            pool: Arc::clone(&self.0),
        }
    }

    /// A piece that is too large to be kept. Its pages are there when something is written to them and not before: that a client says how
    /// much it will send takes nothing yet. `None` when the system gives no memory this way.
    fn large(&self, bytes: usize) -> Option<IoBuf> {
        let (map, start) = from_map(bytes).ok()?;
        Some(IoBuf {
            start,
            bytes,
            class: None,
            from: From::Map,
            map: Some(map),
            pool: Arc::clone(&self.0),
        })
    }
}

impl Shared {
    fn lists(&self) -> MutexGuard<'_, Lists> {
        // A panic cannot leave half a change: the lists are changed by single pushes and pops.
        self.lists.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, class: Option<usize>, bytes: usize, of_region: bool) -> (Address, From) {
        let Some(class) = class else {
            return (from_heap(layout(bytes)), From::Heap);
        };
        let size = class_bytes(class, BLOCK_BYTES);
        let mut lists = self.lists();
        if of_region && let Some(free) = lists.region.get_mut(class).and_then(Vec::pop) {
            return (free, From::Region);
        }
        if of_region
            && let Some(region) = &self.region
            && region.bytes - lists.untouched >= size
        {
            let at = lists.untouched;
            lists.untouched += size;
            // SAFETY: `at` is within the region, whose `bytes` were mapped: checked just above.
            let start = unsafe { region.start.0.add(at) };
            return (Address(start), From::Region);
        }
        if size >= SLAB_PIECE_BYTES_MIN
            && let Some((slab, free)) = lists.slabs.take(class, size)
        {
            return (free, From::Slab(slab));
        }
        if let Some(free) = lists.heap.get_mut(class).and_then(Vec::pop) {
            lists.heap_bytes -= size;
            return (free, From::Heap);
        }
        drop(lists);
        (from_heap(layout(size)), From::Heap)
    }

    fn find_small(&self, class: usize) -> Address {
        let size = class_bytes(class, SMALL_BLOCK_BYTES);
        let mut lists = self.lists();
        if let Some(free) = lists.small.get_mut(class).and_then(Vec::pop) {
            lists.small_bytes -= size;
            return free;
        }
        drop(lists);
        from_heap(small_layout(size))
    }

    fn give_back_small(&self, piece: Address, class: usize) {
        let size = class_bytes(class, SMALL_BLOCK_BYTES);
        let lists = &mut *self.lists();
        match lists.small.get_mut(class) {
            Some(list) if lists.small_bytes + size <= self.kept_bytes_max => {
                lists.small_bytes += size;
                list.push(piece);
            }
            _ => to_heap(piece, small_layout(size)),
        }
    }

    fn give_back(&self, piece: Address, class: Option<usize>, from: From, bytes: usize) {
        let Some(class) = class else {
            return to_heap(piece, layout(bytes));
        };
        let size = class_bytes(class, BLOCK_BYTES);
        let mut lists = self.lists();
        match from {
            From::Region => {
                if let Some(list) = lists.region.get_mut(class) {
                    list.push(piece);
                }
            }
            From::Slab(slab) => lists.slabs.give_back(slab, class, piece, self.kept_bytes_max),
            From::Heap if lists.heap_bytes + size <= self.kept_bytes_max => {
                lists.heap_bytes += size;
                if let Some(list) = lists.heap.get_mut(class) {
                    list.push(piece);
                }
            }
            From::Heap => to_heap(piece, layout(size)),
            From::Small | From::Map => unreachable!("these are not given back to lists of blocks"),
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let lists = std::mem::take(self.lists.get_mut().unwrap_or_else(PoisonError::into_inner));
        for (class, pieces) in lists.heap.into_iter().enumerate() {
            for piece in pieces {
                to_heap(piece, layout(class_bytes(class, BLOCK_BYTES)));
            }
        }
        for (class, pieces) in lists.small.into_iter().enumerate() {
            for piece in pieces {
                to_heap(piece, small_layout(class_bytes(class, SMALL_BLOCK_BYTES)));
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    Region,
    Heap,
    Small,
    Slab(usize),
    Map,
}

/// Bytes of a class, where the smallest has one block.
fn class_bytes(class: usize, block_bytes: usize) -> usize {
    let blocks = match class {
        0..4 => class + 1,
        _ => (5 + class % 4) << (class / 4 - 1),
    };
    blocks * block_bytes
}

/// The smallest class that holds `bytes`. There may be none of pieces that large.
fn class_of(bytes: usize, block_bytes: usize) -> usize {
    let last_block = bytes.saturating_sub(1) / block_bytes;
    match last_block {
        0..4 => last_block,
        _ => {
            let power = last_block.ilog2() as usize;
            4 * (power - 2) + (last_block >> (power - 2))
        }
    }
}

fn layout(bytes: usize) -> Layout {
    layout_at(bytes, BLOCK_BYTES)
}

fn small_layout(bytes: usize) -> Layout {
    layout_at(bytes, SMALL_BOUNDARY_BYTES)
}

fn layout_at(bytes: usize, boundary: usize) -> Layout {
    match Layout::from_size_align(bytes.max(1), boundary) {
        Ok(layout) => layout,
        Err(error) => unreachable!("{bytes} bytes were bounded before they were asked for: {error}"),
    }
}

fn from_heap(layout: Layout) -> Address {
    // SAFETY: the layout's size is not 0.
    let start = unsafe { std::alloc::alloc_zeroed(layout) };
    match NonNull::new(start) {
        Some(start) => Address(start),
        None => std::alloc::handle_alloc_error(layout),
    }
}

fn to_heap(piece: Address, layout: Layout) {
    // SAFETY: the piece came from `from_heap` with this layout, and its buffer is gone.
    unsafe { std::alloc::dealloc(piece.0.as_ptr(), layout) };
}

/// Memory for one operation. Goes back to its pool when dropped.
pub struct IoBuf {
    start: Address,
    bytes: usize,
    class: Option<usize>,
    from: From,
    /// Unmaps on drop; of a large piece.
    map: Option<MmapMut>,
    pool: Arc<Shared>,
}

impl IoBuf {
    /// Whether it lies in the region that may be registered.
    pub(super) fn in_region(&self) -> bool {
        self.from == From::Region
    }
}

impl AsRef<[u8]> for IoBuf {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the piece has at least `bytes` bytes, was zeroed when it was made, and is this buffer's alone.
        unsafe { std::slice::from_raw_parts(self.start.0.as_ptr(), self.bytes) }
    }
}

impl AsMut<[u8]> for IoBuf {
    fn as_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `self` is borrowed for as long as the slice.
        unsafe { std::slice::from_raw_parts_mut(self.start.0.as_ptr(), self.bytes) }
    }
}

impl Drop for IoBuf {
    fn drop(&mut self) {
        match (self.from, self.class) {
            (From::Map, _) => drop(self.map.take()),
            (From::Small, Some(class)) => self.pool.give_back_small(self.start, class),
            (from, class) => self.pool.give_back(self.start, class, from, self.bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_aligned_apart_and_reused() {
        let pool = Pool::new(64 << 10, 1 << 20).unwrap();
        let mut pieces: Vec<IoBuf> = [1, 4096, 5000, 70_000, 9 << 20, 20_000, 30_000]
            .into_iter()
            .map(|bytes| pool.take(bytes))
            .collect();
        for (n, piece) in (0_u8..).zip(&mut pieces) {
            assert_eq!(piece.as_ref().as_ptr().addr() % BLOCK_BYTES, 0);
            piece.as_mut().fill(n);
        }
        for (n, piece) in (0_u8..).zip(&pieces) {
            assert!(piece.as_ref().iter().all(|byte| *byte == n), "piece {n}");
        }
        assert_eq!(pieces.iter().map(|piece| piece.as_ref().len()).sum::<usize>(), {
            1 + 4096 + 5000 + 70_000 + (9 << 20) + 20_000 + 30_000
        });
        let in_region: Vec<bool> = pieces.iter().map(IoBuf::in_region).collect();
        assert_eq!(in_region, [true, true, true, false, false, true, false]);
        let first = pieces[0].as_ref().as_ptr();
        drop(pieces);
        let mut again: Vec<*const u8> = (0..2)
            .map(|_| pool.take(3000))
            .map(|piece| piece.as_ref().as_ptr())
            .collect();
        again.dedup();
        assert_eq!(again.len(), 1, "a piece that came back is given out again");
        assert!(first.addr().abs_diff(again[0].addr()) <= BLOCK_BYTES);
    }

    #[test]
    fn classes_hold_what_they_are_for_and_little_more() {
        for bytes in (0..9 << 20)
            .step_by(1000)
            .chain([4096, 4097, 8 << 20, 16 << 10, (16 << 10) + 1])
        {
            for (block_bytes, classes, bytes_max) in [
                (BLOCK_BYTES, CLASSES, 8 << 20),
                (SMALL_BLOCK_BYTES, SMALL_CLASSES, SMALL_BYTES_MAX),
            ] {
                let class = class_of(bytes, block_bytes);
                assert_eq!(class < classes, bytes <= bytes_max, "{bytes}");
                let has_bytes = class_bytes(class, block_bytes);
                assert!(bytes <= has_bytes, "{bytes} in {class}");
                assert!(
                    class == 0 || class_bytes(class - 1, block_bytes) < bytes,
                    "{bytes} in {class}"
                );
                let most = (bytes + bytes / 4).next_multiple_of(block_bytes);
                assert!(has_bytes <= most.max(block_bytes), "{bytes} in {class}");
            }
        }
    }

    #[test]
    fn small_pieces_are_apart_and_used_again_within_the_bound() {
        let pool = Pool::new(0, 4096).unwrap();
        let mut pieces: Vec<IoBuf> = (0..20).map(|n| pool.take_to_keep(900 + n)).collect();
        for (n, piece) in (0_u8..).zip(&mut pieces) {
            piece.as_mut().fill(n);
        }
        for (n, piece) in (0_u8..).zip(&pieces) {
            assert_eq!(piece.as_ref(), vec![n; 900 + usize::from(n)]);
        }
        let one = pieces[3].as_ref().as_ptr();
        drop(pieces);
        assert_eq!(pool.0.lists().small_bytes, 4096, "four of 1024 bytes");
        let again: Vec<IoBuf> = (0..4).map(|_| pool.take_to_keep(1000)).collect();
        assert!(again.iter().any(|piece| piece.as_ref().as_ptr() == one) || pool.0.lists().small_bytes == 0);
        assert!(again.iter().all(|piece| piece.as_ref().len() == 1000));
    }

    #[test]
    fn a_large_piece_takes_no_memory_before_something_is_written_to_it() {
        let resident_bytes = || {
            let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
            let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
            pages * 4096
        };
        let pool = Pool::new(0, 0).unwrap();
        let before = resident_bytes();
        let mut pieces: Vec<IoBuf> = (0..4).map(|_| pool.take_to_keep(1 << 30)).collect();
        for piece in &mut pieces {
            piece.as_mut()[12_345] = 7;
            assert_eq!((piece.as_ref()[12_344], piece.as_ref().len()), (0, 1 << 30));
        }
        // Other tests of this process take memory meanwhile.
        assert!(resident_bytes().saturating_sub(before) < 2 << 30);
    }

    #[test]
    fn what_is_kept_of_the_heap_is_bounded() {
        let pool = Pool::new(0, 8192).unwrap();
        let pieces: Vec<IoBuf> = (0..10).map(|_| pool.take(4096)).collect();
        drop(pieces);
        assert_eq!(pool.0.lists().heap_bytes, 8192);
    }
}
