//! What one sync for several files rests on, asked of the file system itself: a power cut after an overwrite.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use mofka_tests::disk::LoopDisk;
use rustix::fs::{FallocateFlags, OFlags};

const BLOCK_BYTES: usize = 4096;
const BLOCKS: usize = 16;
/// The block that is written over.
const PLACE: u64 = 3 * BLOCK_BYTES as u64;

/// Memory as direct I/O wants it.
#[repr(align(4096))]
struct Block([u8; BLOCK_BYTES]);

fn open(path: &Path) -> File {
    let flags = i32::try_from(OFlags::DIRECT.bits()).unwrap();
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    options.custom_flags(flags).open(path).unwrap()
}

fn nameless(dir: &Path) -> File {
    let flags = i32::try_from(OFlags::TMPFILE.bits()).unwrap();
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    options.custom_flags(flags).open(dir).unwrap()
}

fn write(file: &File, at: u64, byte: u8) {
    file.write_all_at(&Block([byte; BLOCK_BYTES]).0, at).unwrap();
}

fn read(path: &Path) -> [u8; BLOCK_BYTES] {
    let mut block = Block([0xee; BLOCK_BYTES]);
    open(path).read_exact_at(&mut block.0, PLACE).unwrap();
    block.0
}

#[test]
fn an_overwrite_survives_by_the_sync_of_another_file_and_blocks_that_were_only_allocated_do_not() {
    let scratch = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    let Some(mut disk) = LoopDisk::make_or_skip(scratch.path(), 64 << 20) else {
        return;
    };
    let path = |name: &str| disk.path().join(name);
    let (settled, synced, allocated) = (path("settled"), path("synced"), path("allocated"));
    let (settled_quietly, quiet_place) = (path("settled quietly"), disk.path().to_path_buf());
    {
        let files = [&settled, &synced, &settled_quietly].map(|path| open(path));
        for file in &files {
            for block in 0..BLOCKS {
                write(file, (block * BLOCK_BYTES) as u64, 0);
            }
            file.sync_all().unwrap();
        }
        let unwritten = open(&allocated);
        let bytes = (BLOCKS * BLOCK_BYTES) as u64;
        rustix::fs::fallocate(&unwritten, FallocateFlags::empty(), 0, bytes).unwrap();
        unwritten.sync_all().unwrap();
        File::open(disk.path()).unwrap().sync_all().unwrap();
        let quiet = nameless(&quiet_place);
        quiet.sync_all().unwrap();
        let [settled, synced, settled_quietly] = &files;
        write(settled, PLACE, 1);
        write(synced, PLACE, 3);
        synced.sync_data().unwrap();
        write(&unwritten, PLACE, 2);
        write(settled_quietly, PLACE, 4);
        quiet.sync_data().unwrap();
        disk.cut();
    }
    disk.restore();
    assert_eq!(read(&synced), [3; BLOCK_BYTES], "its own sync");
    assert_eq!(read(&settled), [1; BLOCK_BYTES], "the sync of another file");
    assert_eq!(
        read(&settled_quietly),
        [4; BLOCK_BYTES],
        "the sync of a file without a name that never changes"
    );
    assert_eq!(
        read(&allocated),
        [0; BLOCK_BYTES],
        "the file system had not put down that this block was written: if it survives, this test shows nothing"
    );
}
