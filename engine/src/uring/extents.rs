//! Where the blocks of a file are written, as the file system itself has it.

use std::fs::File;
use std::io;

use rustix::ioctl;

/// Extents that are asked for at a time.
const EXTENTS: usize = 32;

/// The question, of `linux/fiemap.h`.
#[repr(C)]
struct Map {
    header: Header,
    extents: [Extent; EXTENTS],
}

#[repr(C)]
#[derive(Default)]
struct Header {
    start: u64,
    length: u64,
    flags: u32,
    mapped_extents: u32,
    extent_count: u32,
    reserved: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Extent {
    logical: u64,
    physical: u64,
    length: u64,
    reserved: [u64; 2],
    flags: u32,
    reserved_flags: [u32; 3],
}

/// `FS_IOC_FIEMAP`, whose number has the size of the header alone.
const FIEMAP: ioctl::Opcode = ioctl::opcode::read_write::<Header>(b'f', 11);

const LAST: u32 = 0x1;
/// Of an extent that is written, and whose blocks are its alone, there are no flags but these: it is the last one, or extents were
/// merged for this answer.
const HARMLESS: u32 = LAST | 0x1000;

/// How far the file's blocks are all written, from its beginning on and up to its end at most.
///
/// Not `SEEK_HOLE`: where any program read the file through the page cache, that takes blocks which were allocated and never written for
/// data, also after a sync.
///
/// # Errors
/// When the file system does not say.
pub(super) fn written_end(file: &File) -> io::Result<u64> {
    let end = file.metadata()?.len();
    let mut at = 0;
    while at < end {
        let mut map = Map {
            header: Header {
                start: at,
                length: end - at,
                extent_count: EXTENTS as u32,
                ..Header::default()
            },
            extents: [Extent::default(); EXTENTS],
        };
        // SAFETY: the kernel reads the header and writes it, and as many extents behind it as that says there is room for.
        unsafe { ioctl::ioctl(file, ioctl::Updater::<FIEMAP, Map>::new(&mut map)) }?;
        let mapped = usize::try_from(map.header.mapped_extents).unwrap_or(usize::MAX);
        let extents = &map.extents[..mapped.min(EXTENTS)];
        if extents.is_empty() {
            break;
        }
        for extent in extents {
            if extent.logical > at || extent.flags & !HARMLESS != 0 {
                return Ok(at);
            }
            at = at.max(extent.logical.saturating_add(extent.length)).min(end);
            if extent.flags & LAST != 0 {
                return Ok(at);
            }
        }
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use rustix::fs::{FallocateFlags, fallocate};

    use super::*;

    fn scratch_file() -> (tempfile::TempDir, File) {
        let scratch = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let mut options = File::options();
        options.read(true).write(true).create_new(true);
        let file = options.open(scratch.path().join("file")).unwrap();
        (scratch, file)
    }

    #[test]
    fn only_what_was_written_counts_also_where_the_page_cache_has_more() {
        let (_scratch, file) = scratch_file();
        if written_end(&file).is_err() {
            eprintln!("SKIPPED: this file system does not say");
            return;
        }
        assert_eq!(written_end(&file).unwrap(), 0);
        fallocate(&file, FallocateFlags::empty(), 0, 1 << 20).unwrap();
        file.sync_all().unwrap();
        assert_eq!(written_end(&file).unwrap(), 0);
        file.write_all_at(&[1; 8192], 0).unwrap();
        file.sync_all().unwrap();
        assert_eq!(written_end(&file).unwrap(), 8192);
        // As a backup does.
        let mut all = vec![0; 1 << 20];
        file.read_exact_at(&mut all, 0).unwrap();
        assert_eq!(written_end(&file).unwrap(), 8192);
        file.sync_all().unwrap();
        assert_eq!(written_end(&file).unwrap(), 8192);
    }

    #[test]
    fn files_of_many_extents_are_seen_to_their_first_hole() {
        let (_scratch, file) = scratch_file();
        if written_end(&file).is_err() {
            return;
        }
        // Backwards, each synced: blocks that do not follow each other on the disk.
        for block in (0..100).rev() {
            file.write_all_at(&[1; 4096], block * 4096).unwrap();
            file.sync_data().unwrap();
        }
        assert_eq!(written_end(&file).unwrap(), 100 * 4096);
        file.write_all_at(&[1; 4096], 102 * 4096).unwrap();
        file.sync_data().unwrap();
        assert_eq!(written_end(&file).unwrap(), 100 * 4096);
        file.set_len(50 * 4096 + 7).unwrap();
        assert_eq!(written_end(&file).unwrap(), 50 * 4096 + 7);
    }

    #[test]
    fn what_cannot_say_is_an_error() {
        let null = File::options().read(true).open("/proc/self/stat").unwrap();
        // It has no size, so that there is nothing to ask for.
        assert_eq!(written_end(&null).unwrap(), 0);
        let (_scratch, file) = scratch_file();
        file.set_len(1 << 20).unwrap();
        assert!(written_end(&file).is_ok_and(|end| end == 0) || written_end(&file).is_err());
    }
}
