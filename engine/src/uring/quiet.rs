//! Files by which the cache of a device is emptied, and nothing else.
//!
//! A sync of a log's file brings to the disk whatever the file system has to put down about that file, too: while room is made ahead
//! in it that is something at nearly each sync, a block of inodes or a commit of the journal, and what was written over settled blocks
//! ([`super::settled`]) needs none of it. So there is a file beside the logs that never changes, and has no name: its sync is
//! a flush of the device.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::settled::Device;

/// The quiet files of a shard.
#[derive(Debug, Default)]
pub(super) struct QuietFiles(HashMap<Device, Option<File>>);

impl QuietFiles {
    /// Whether one was asked for.
    pub(super) fn knows(&self, device: Device) -> bool {
        self.0.contains_key(&device)
    }

    /// From now on this one is synced for the device; nothing: there is none, and any file of a log does as well, more slowly.
    /// The first one stays: its sync may be under way.
    pub(super) fn add(&mut self, device: Device, file: Option<File>) {
        self.0.entry(device).or_insert(file);
    }

    pub(super) fn of(&self, device: Device) -> Option<&File> {
        self.0.get(&device)?.as_ref()
    }
}

/// ext4 without a journal writes the whole block of inodes with a file's own, 16 of them, and each write of a log changes the time in its
/// inode. Inodes are given one after the other: of so many, the last has none of the logs' beside it.
const SIBLINGS: usize = 32;

/// A file without a name on the device of this directory, which has nothing to be put down any more. Waits for the disk.
///
/// # Errors
/// When the file system has no such files, no room for one, or refuses the sync.
pub(super) fn make(dir: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .mode(0o600)
        .custom_flags(libc::O_TMPFILE);
    let mut file = options.open(dir)?;
    let mut siblings = Vec::with_capacity(SIBLINGS);
    while siblings.len() < SIBLINGS {
        // Without as many it is as good as it can be.
        let Ok(next) = options.open(dir) else { break };
        siblings.push(std::mem::replace(&mut file, next));
    }
    file.sync_all()?;
    Ok(file)
}
