//! Writing files so that a crash leaves the old state or the new one.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use mofka_log::{BLOCK_BYTES, FilePos};
use uuid::Uuid;

use crate::failure::Failure;

/// Bytes that are copied at a time.
const COPY_BYTES: usize = 1 << 20;

/// Unix time in microseconds.
pub(super) fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// A salt for a new file.
pub(super) fn random_u64() -> u64 {
    // Two of them, since some bits of each are fixed.
    let (a, b) = (Uuid::new_v4().as_u64_pair().0, Uuid::new_v4().as_u64_pair().1);
    a ^ b.rotate_left(32)
}

/// What failed, with the file.
pub(super) fn failed(what: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::failed(format!("cannot {what} {}: {error}", path.display()))
}

/// Makes the names in a directory durable.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    let dir = if dir.as_os_str().is_empty() {
        Path::new(".")
    } else {
        dir
    };
    File::open(dir)?.sync_all()
}

/// Makes a name durable, in the directory that it is in.
pub(super) fn sync_name(path: &Path) -> io::Result<()> {
    sync_dir(path.parent().unwrap_or(Path::new(".")))
}

/// A new file, readable by its owner as the daemon's are.
pub(super) fn create_new(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true).mode(0o600);
    options.open(path)
}

/// Opens a file for changing it in place.
pub(super) fn open_for_writing(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(path)
}

/// Copies a file from `from` on to a new one, durable when this returns; stretches of zeros stay holes.
pub(super) fn copy_from(path: &Path, from: u64, to: &Path) -> io::Result<u64> {
    let source = File::open(path)?;
    let copy = create_new(to)?;
    let mut buffer = vec![0; COPY_BYTES];
    let mut done = 0;
    loop {
        let bytes = source.read_at(&mut buffer, from + done)?;
        if bytes == 0 {
            break;
        }
        if buffer[..bytes].iter().any(|byte| *byte != 0) {
            copy.write_all_at(&buffer[..bytes], done)?;
        }
        done += bytes as u64;
    }
    copy.set_len(done)?;
    copy.sync_all()?;
    Ok(done)
}

/// Zeros from `at` to the end of its block, where the file then ends; durable when this returns.
pub(super) fn cut(file: &File, at: FilePos) -> io::Result<FilePos> {
    let end = at.align_up(BLOCK_BYTES as u64);
    let zeros = vec![0; usize::try_from(end.since(at)).unwrap_or(0)];
    file.write_all_at(&zeros, at.get())?;
    file.set_len(end.get())?;
    file.sync_all()?;
    Ok(end)
}

/// Writes a small file, durable with its name when this returns.
pub(super) fn write_file(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = create_new(path)?;
    file.write_all(content)?;
    file.sync_all()?;
    sync_name(path)
}
