//! What the partitions of a shard share: memory for the batches accepted last, and for reading ahead; and, with those of all
//! other shards, what memory partitions may keep.
//!
//! The recent batches of all log partitions of a shard have one budget. When it is used up, the partition that holds
//! most gives up its oldest batches first, so that a busy partition cannot push out what the tail readers of a quiet one
//! need; what is not on the device yet is never given up. Only accepted batches enter: whoever reads from the device, from
//! however far behind, takes nothing from anybody.

use std::cell::{Cell, RefCell};
use std::collections::BinaryHeap;
use std::rc::{Rc, Weak};

use mofka_log::BLOCK_BYTES;
use mofka_net::control::ReadStatus;

use super::node_memory::NodeMemory;
use crate::limits::EngineLimits;

/// After eviction, one part in this many of the budget is free: so that eviction does not run for every batch.
const SLACK_PART: u64 = 16;

/// Something that holds recent batches.
pub(crate) trait Holder {
    /// Bytes of memory that they take.
    fn held_bytes(&self) -> u64;
    /// Gives up the oldest until at most this many bytes are held, as far as they are on the device.
    fn release(&self, bytes_max: u64);
}

/// How reads were served, since the shard started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadCounts {
    /// Reads that the recent batches answered.
    pub memory_count: u64,
    /// Reads that the device answered.
    pub device_count: u64,
    /// Bytes read from the device, in whole blocks.
    pub device_bytes: u64,
}

/// See the module.
pub struct ShardMemory {
    recent_bytes_max: Cell<u64>,
    recent_bytes: Cell<u64>,
    holders: RefCell<Vec<Weak<dyn Holder>>>,
    ahead_bytes_max: Cell<u64>,
    ahead_bytes: Cell<u64>,
    counts: Cell<ReadCounts>,
    /// Streams whose checksums are held.
    streams_max: Cell<usize>,
    streams: Cell<usize>,
    /// Bounds of each partition.
    memory_partition_bytes_max: Cell<u64>,
    /// What all memory partitions of the node take, and what they may.
    node: NodeMemory,
    node_bytes_max: Cell<Option<u64>>,
    pending_bytes_max: Cell<u64>,
}

impl ShardMemory {
    /// Empty, with the budgets of these limits, beside no other shard.
    pub fn new(limits: &EngineLimits) -> Rc<Self> {
        Self::of_node(limits, NodeMemory::default())
    }

    /// Empty, with the budgets of these limits, beside the shards that take from the same memory of a node.
    pub fn of_node(limits: &EngineLimits, node: NodeMemory) -> Rc<Self> {
        Rc::new(Self {
            recent_bytes_max: Cell::new(limits.shard_recent_bytes_max),
            recent_bytes: Cell::new(0),
            holders: RefCell::default(),
            ahead_bytes_max: Cell::new(limits.shard_read_ahead_bytes_max),
            ahead_bytes: Cell::new(0),
            counts: Cell::default(),
            streams_max: Cell::new(limits.shard_streams_max),
            streams: Cell::new(0),
            memory_partition_bytes_max: Cell::new(limits.memory_partition_bytes_max),
            node_bytes_max: Cell::new(node.bytes_max(limits)),
            node,
            pending_bytes_max: Cell::new(limits.partition_pending_bytes_max),
        })
    }

    /// Goes by these limits from now on: what is held beyond a smaller budget is given up, as far as it can be. Leases
    /// and streams that there are go on. No holder may be borrowed.
    pub(crate) fn set_limits(&self, limits: &EngineLimits) {
        self.recent_bytes_max.set(limits.shard_recent_bytes_max);
        self.ahead_bytes_max.set(limits.shard_read_ahead_bytes_max);
        self.streams_max.set(limits.shard_streams_max);
        self.memory_partition_bytes_max
            .set(limits.memory_partition_bytes_max);
        self.node_bytes_max.set(self.node.bytes_max(limits));
        self.pending_bytes_max.set(limits.partition_pending_bytes_max);
        self.shrink();
    }

    /// Events whose data comes in parts that there may be at once.
    pub(super) fn streams_max(&self) -> usize {
        self.streams_max.get()
    }

    /// What a memory partition may hold.
    pub(super) fn memory_partition_bytes_max(&self) -> u64 {
        self.memory_partition_bytes_max.get()
    }

    /// What all memory partitions of the node may take; `None`: nobody says.
    pub(super) fn node_bytes_max(&self) -> Option<u64> {
        self.node_bytes_max.get()
    }

    /// What they take.
    pub fn node_used_bytes(&self) -> u64 {
        self.node.used_bytes()
    }

    /// Takes so much for events of a memory partition, if there is room.
    pub(super) fn take_of_node(&self, bytes: u64) -> bool {
        self.node.take(bytes, self.node_bytes_max.get())
    }

    /// The same where this much of it is let go for that: not before there is room.
    pub(super) fn exchange_of_node(&self, freed_bytes: u64, bytes: u64) -> bool {
        self.node.exchange(freed_bytes, bytes, self.node_bytes_max.get())
    }

    /// Gives back what was taken so.
    pub(super) fn give_back_to_node(&self, bytes: u64) {
        self.node.give_back(bytes);
    }

    /// What may wait to be written in a partition before its producers have to.
    pub(super) fn pending_bytes_max(&self) -> u64 {
        self.pending_bytes_max.get()
    }

    /// Bytes of recent batches of all log partitions.
    pub fn recent_bytes(&self) -> u64 {
        self.recent_bytes.get()
    }

    /// How reads were served.
    pub fn counts(&self) -> ReadCounts {
        self.counts.get()
    }

    /// Both, for people.
    pub(crate) fn status(&self) -> ReadStatus {
        let counts = self.counts.get();
        ReadStatus {
            memory_count: counts.memory_count,
            device_count: counts.device_count,
            device_bytes: counts.device_bytes,
            recent_bytes: self.recent_bytes.get(),
        }
    }

    /// From now on this one is asked when memory is short.
    pub(crate) fn register(&self, holder: Weak<dyn Holder>) {
        let mut holders = self.holders.borrow_mut();
        holders.retain(|known| known.strong_count() > 0);
        holders.push(holder);
    }

    /// One stream more; false when there are as many as may be.
    pub(super) fn begin_stream(&self) -> bool {
        let streams = self.streams.get();
        let begins = streams < self.streams_max.get();
        self.streams.set(streams + usize::from(begins));
        begins
    }

    pub(super) fn end_stream(&self) {
        self.streams.set(self.streams.get() - 1);
    }

    pub(super) fn add(&self, bytes: u64) {
        self.recent_bytes.set(self.recent_bytes.get() + bytes);
    }

    pub(super) fn sub(&self, bytes: u64) {
        self.recent_bytes.set(self.recent_bytes.get() - bytes);
    }

    /// Evicts until the budget is kept, as far as what is held is on the device. No holder may be borrowed.
    pub(crate) fn shrink(&self) {
        if self.recent_bytes.get() <= self.recent_bytes_max.get() {
            return;
        }
        let bytes_max = self.recent_bytes_max.get();
        let goal = bytes_max - bytes_max / SLACK_PART;
        let holders: Vec<Rc<dyn Holder>> = self.holders.borrow().iter().filter_map(Weak::upgrade).collect();
        let mut largest: BinaryHeap<(u64, usize)> = holders
            .iter()
            .enumerate()
            .map(|(place, holder)| (holder.held_bytes(), place))
            .collect();
        while let Some((bytes, place)) = largest.pop()
            && self.recent_bytes.get() > goal
        {
            let Some(holder) = holders.get(place) else { return };
            // Down to the next largest: from there on they take turns.
            let next_bytes = largest.peek().map_or(0, |(bytes, _)| *bytes);
            let excess = self.recent_bytes.get() - goal;
            // At least a little, so that equals do not stand still.
            let step = excess.min((bytes - next_bytes).max(excess / 8)).max(1);
            holder.release(bytes.saturating_sub(step));
            let left = holder.held_bytes();
            // Whoever cannot give anything now is not asked again.
            if left < bytes && left > 0 {
                largest.push((left, place));
            }
        }
    }

    /// Memory to read ahead into, if there is some left.
    pub(super) fn lease(self: &Rc<Self>, bytes: u64) -> Option<Lease> {
        let taken = self.ahead_bytes.get().checked_add(bytes)?;
        (taken <= self.ahead_bytes_max.get()).then(|| {
            self.ahead_bytes.set(taken);
            Lease {
                memory: Rc::clone(self),
                bytes,
            }
        })
    }

    pub(super) fn note_read(&self, from_memory: bool) {
        let mut counts = self.counts.get();
        match from_memory {
            true => counts.memory_count += 1,
            false => counts.device_count += 1,
        }
        self.counts.set(counts);
    }

    pub(super) fn note_device_bytes(&self, at: u64, bytes: usize) {
        let block = BLOCK_BYTES as u64;
        // A place that a damaged file gave may be anywhere.
        let end = at.saturating_add(bytes as u64);
        let end = end.checked_next_multiple_of(block).unwrap_or(u64::MAX);
        let mut counts = self.counts.get();
        counts.device_bytes = counts.device_bytes.saturating_add(end - at / block * block);
        self.counts.set(counts);
    }
}

/// A share of the memory for reading ahead; given back when dropped.
pub(super) struct Lease {
    memory: Rc<ShardMemory>,
    bytes: u64,
}

impl Drop for Lease {
    fn drop(&mut self) {
        let left = self.memory.ahead_bytes.get() - self.bytes;
        self.memory.ahead_bytes.set(left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Batches of one byte, the last `stuck` of which are not on the device.
    struct Fake {
        memory: Rc<ShardMemory>,
        bytes: Cell<u64>,
        stuck: u64,
    }

    impl Holder for Fake {
        fn held_bytes(&self) -> u64 {
            self.bytes.get()
        }

        fn release(&self, bytes_max: u64) {
            let left = bytes_max.max(self.stuck).min(self.bytes.get());
            self.memory.sub(self.bytes.get() - left);
            self.bytes.set(left);
        }
    }

    fn shrunk(held: &[(u64, u64)]) -> (Vec<u64>, u64) {
        let memory = ShardMemory::new(&EngineLimits {
            shard_recent_bytes_max: 1600,
            ..EngineLimits::default()
        });
        let fakes: Vec<Rc<Fake>> = held
            .iter()
            .map(|(bytes, stuck)| {
                memory.add(*bytes);
                let (bytes, stuck) = (Cell::new(*bytes), *stuck);
                let memory = Rc::clone(&memory);
                Rc::new(Fake { memory, bytes, stuck })
            })
            .collect();
        for fake in &fakes {
            let weak: Weak<Fake> = Rc::downgrade(fake);
            memory.register(weak);
        }
        memory.shrink();
        let left: Vec<u64> = fakes.iter().map(|fake| fake.bytes.get()).collect();
        assert_eq!(left.iter().sum::<u64>(), memory.recent_bytes());
        (left, memory.recent_bytes())
    }

    #[test]
    fn the_largest_gives_first_and_the_small_keep_theirs() {
        assert_eq!(
            shrunk(&[(1000, 0), (600, 0)]).1,
            1600,
            "within the budget nothing goes"
        );
        assert_eq!(shrunk(&[(2000, 0), (100, 0), (200, 0)]).0, [1200, 100, 200]);
        let (left, total) = shrunk(&[(2000, 0), (1900, 0), (10, 0)]);
        assert!(
            total <= 1500 && left[2] == 10 && left[0].abs_diff(left[1]) < 400,
            "{left:?}"
        );
    }

    #[test]
    fn what_is_not_on_the_device_stays_and_others_give_instead() {
        assert_eq!(shrunk(&[(2000, 1400), (500, 0)]).0, [1400, 100]);
        assert_eq!(
            shrunk(&[(2000, 2000), (500, 500)]).1,
            2500,
            "nobody can give: it ends"
        );
    }

    #[test]
    fn what_is_read_at_an_impossible_place_is_counted_too() {
        let memory = ShardMemory::new(&EngineLimits::default());
        memory.note_device_bytes(u64::MAX - 5, 10);
        memory.note_device_bytes(4000, 200);
        assert_eq!(memory.counts.get().device_bytes, 4095 + 8192);
    }

    #[test]
    fn a_lease_is_refused_when_none_is_left_and_comes_back() {
        let memory = ShardMemory::new(&EngineLimits {
            shard_read_ahead_bytes_max: 10,
            ..EngineLimits::default()
        });
        let lease = memory.lease(7);
        assert!(lease.is_some() && memory.lease(4).is_none() && memory.lease(u64::MAX).is_none());
        drop(lease);
        assert!(memory.lease(10).is_some());
    }
}
