//! A file in memory that a power cut can happen to.
//!
//! Fault model: a write that is under way, or done and not synced, may be there after the cut or not, sector by sector
//! of 512 bytes, independent of other sectors and of other writes. A sector is never torn. What was done before a sync
//! began, and the sync ended, is there. Nothing is ever changed that was not being written.

use bytes::Bytes;
use mofka_log::WritePlan;

const SECTOR_BYTES: usize = 512;

/// Numbers that look random: xorshift64*, so that a seed means the same for ever.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

struct Write {
    at: usize,
    bytes: Vec<u8>,
    done: bool,
}

/// See the module.
#[derive(Default)]
pub(crate) struct SimFile {
    synced: Vec<u8>,
    writes: Vec<Write>,
}

impl SimFile {
    pub(crate) fn new(synced: Vec<u8>) -> Self {
        Self {
            synced,
            writes: Vec::new(),
        }
    }

    /// Begins a write; returns its name for [`SimFile::done`].
    pub(crate) fn begin(&mut self, plan: &WritePlan) -> usize {
        let mut bytes = vec![0xee; plan.total_bytes() as usize];
        plan.fill(&mut bytes);
        let at = plan.at().get() as usize;
        self.writes.push(Write {
            at,
            bytes,
            done: false,
        });
        at
    }

    /// Ends the last write that began at this place.
    pub(crate) fn done(&mut self, at: usize) {
        self.writes
            .iter_mut()
            .rev()
            .find(|write| write.at == at)
            .unwrap()
            .done = true;
    }

    /// Makes everything that is done durable.
    pub(crate) fn sync(&mut self) {
        let synced = &mut self.synced;
        self.writes.retain(|write| {
            if write.done {
                put(synced, write.at, &write.bytes);
            }
            !write.done
        });
    }

    /// What a power cut leaves, when each sector of what is not synced survives with this chance.
    pub(crate) fn cut(&self, random: &mut Random, keep_percent: u64) -> Vec<u8> {
        let mut image = self.synced.clone();
        for write in &self.writes {
            for (n, sector) in write.bytes.chunks(SECTOR_BYTES).enumerate() {
                if random.chance(keep_percent) {
                    put(&mut image, write.at + n * SECTOR_BYTES, sector);
                }
            }
        }
        image
    }
}

fn put(file: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    file.resize(file.len().max(at + bytes.len()), 0);
    file[at..at + bytes.len()].copy_from_slice(bytes);
}

/// Bytes of an image, fewer at its end.
pub(crate) fn read(image: &[u8], at: u64, bytes: u64) -> Bytes {
    let start = (at as usize).min(image.len());
    let end = start.saturating_add(bytes as usize).min(image.len());
    Bytes::copy_from_slice(&image[start..end])
}
