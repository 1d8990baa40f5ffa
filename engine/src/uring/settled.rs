//! Which part of a file needs nothing of the file system any more.
//!
//! Bytes that are *settled* lie in blocks which were written once and whose places the file system has put down durably.
//! A write over them with direct I/O changes nothing but the blocks themselves: once it is complete, all that it still needs
//! is that the device's own cache is emptied, which a sync of any other file on that device does as well. So the writes
//! of a commit into two files share one sync, and those of several partitions do ([`super::ring`]).
//!
//! Only on ext4, and only where the file system says that direct I/O really is direct (it is not for files with a data
//! journal): other file systems move what is written over to new places (btrfs; XFS after a reflink), which only the
//! file's own sync makes durable.

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::ops::Range;

use mofka_log::FilePos;
use rustix::fs::{AtFlags, StatxFlags};

use super::extents;

/// A device, as the kernel numbers them.
pub(super) type Device = u64;

/// `f_type` of ext2, ext3 and ext4.
const EXT4_MAGIC: u64 = 0xef53;

/// What is known of one file.
#[derive(Debug)]
pub(super) struct Settled {
    /// Where the file lies; nothing where no part of it counts as settled.
    device: Option<Device>,
    /// The bytes that are settled.
    start: Cell<u64>,
    end: Cell<u64>,
    /// What was in the file when it was opened has been looked at.
    is_seen: Cell<bool>,
}

impl Settled {
    /// Of a file on this device that was just opened: nothing is settled yet. May wait for the disk.
    pub(super) fn of(file: &File, device: Device) -> Self {
        let can_be = can_be_settled(file).unwrap_or(false);
        Self::on(can_be.then_some(device))
    }

    /// Of a file on this device.
    pub(super) fn on(device: Option<Device>) -> Self {
        Self {
            device,
            start: Cell::new(0),
            end: Cell::new(0),
            is_seen: Cell::new(false),
        }
    }

    /// The device, when so many bytes from `at` on are settled.
    pub(super) fn device(&self, at: FilePos, bytes: usize) -> Option<Device> {
        let is_within = self.start.get() <= at.get()
            && at
                .get()
                .checked_add(bytes as u64)
                .is_some_and(|end| end <= self.end.get());
        self.device.filter(|_| is_within)
    }

    /// Where the file lies, when parts of it can be settled.
    pub(super) fn lies_on(&self) -> Option<Device> {
        self.device
    }

    /// Blocks were written and the file was synced after that, all since it was opened.
    pub(super) fn settle(&self, settled: Range<u64>) {
        if self.device.is_none() || settled.is_empty() {
            return;
        }
        let is_apart = settled.end < self.start.get() || self.end.get() < settled.start;
        if self.start.get() == self.end.get() || is_apart {
            // A log goes forward: the newer part is the one that will be written.
            self.start.set(settled.start);
            self.end.set(settled.end);
            return;
        }
        self.start.set(self.start.get().min(settled.start));
        self.end.set(self.end.get().max(settled.end));
    }

    /// The file was cut here.
    pub(super) fn cut(&self, end: u64) {
        self.end.set(self.end.get().min(end));
        self.start.set(self.start.get().min(end));
    }

    /// What the file had when it was opened, from its beginning to the first block that was not written: settled after the
    /// next sync of this file, and asked for once, when there will be one.
    pub(super) fn see(&self, file: &File) -> Option<u64> {
        if self.device.is_none() || self.is_seen.replace(true) {
            return None;
        }
        extents::written_end(file).ok().filter(|end| *end > 0)
    }
}

/// Whether bytes of this file can be settled, so that they need no sync of its own.
fn can_be_settled(file: &File) -> io::Result<bool> {
    // A word, signed or not, by architecture.
    let magic = rustix::fs::fstatfs(file)?.f_type;
    if u64::try_from(magic) != Ok(EXT4_MAGIC) {
        return Ok(false);
    }
    let stat = rustix::fs::statx(file, c"", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN)?;
    let known = StatxFlags::from_bits_retain(stat.stx_mask);
    // Linux before 6.1 does not say.
    Ok(known.contains(StatxFlags::DIOALIGN) && stat.stx_dio_mem_align != 0 && stat.stx_dio_offset_align != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Device = 7;

    fn at(settled: &Settled, from: u64, bytes: usize) -> bool {
        settled.device(FilePos::new(from), bytes) == Some(HERE)
    }

    #[test]
    fn only_what_lies_wholly_within_is_settled() {
        let settled = Settled::on(Some(HERE));
        assert!(!at(&settled, 0, 1));
        settled.settle(4096..12288);
        assert!(at(&settled, 4096, 8192) && at(&settled, 8192, 4096));
        assert!(!at(&settled, 4096, 8193) && !at(&settled, 0, 8192) && !at(&settled, 4095, 1));
        assert!(!at(&settled, u64::MAX, usize::MAX));
    }

    #[test]
    fn parts_that_touch_are_one_and_of_others_the_newer_counts() {
        let settled = Settled::on(Some(HERE));
        settled.settle(4096..8192);
        settled.settle(8192..12288);
        assert!(at(&settled, 4096, 8192));
        settled.settle(0..4096);
        assert!(at(&settled, 0, 12288));
        settled.settle(20480..24576);
        assert!(at(&settled, 20480, 4096) && !at(&settled, 0, 1));
        settled.settle(0..0);
        assert!(at(&settled, 20480, 4096));
    }

    #[test]
    fn what_is_cut_off_is_not_settled() {
        let settled = Settled::on(Some(HERE));
        settled.settle(4096..12288);
        settled.cut(8192);
        assert!(at(&settled, 4096, 4096) && !at(&settled, 4096, 4097));
        settled.cut(0);
        assert!(!at(&settled, 0, 1) && !at(&settled, 4096, 1));
        settled.settle(0..4096);
        assert!(at(&settled, 0, 4096));
    }

    #[test]
    fn without_a_device_that_is_known_nothing_is() {
        let settled = Settled::on(None);
        settled.settle(0..4096);
        assert_eq!(settled.device(FilePos::new(0), 1), None);
    }

    #[test]
    fn blocks_that_were_allocated_and_not_written_are_not_seen() {
        use std::os::unix::fs::FileExt;

        let scratch = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(scratch.path().join("file"))
            .unwrap();
        let none = Settled::on(None);
        assert_eq!(none.see(&file), None);
        if Settled::of(&file, HERE).device.is_none() {
            eprintln!("SKIPPED: no ext4 here");
            return;
        }
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, 1 << 20).unwrap();
        file.sync_all().unwrap();
        assert_eq!(Settled::of(&file, HERE).see(&file), None);
        file.write_all_at(&[1; 8192], 0).unwrap();
        file.sync_all().unwrap();
        // Through the page cache, as a backup does: `SEEK_HOLE` takes all of it for data from then on.
        file.read_exact_at(&mut vec![0; 1 << 20], 0).unwrap();
        let settled = Settled::of(&file, HERE);
        assert_eq!(settled.see(&file), Some(8192));
        assert_eq!(settled.see(&file), None, "it is asked for once");
    }
}
