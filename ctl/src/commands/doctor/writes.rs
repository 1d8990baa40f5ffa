//! Really writes: whether direct I/O works in a directory, and how long a small durable write takes.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags};

use crate::commands::doctor::facts::WriteFacts;
use crate::commands::log::aligned::AlignedBuf;

/// What the node writes at least.
const BLOCK_BYTES: usize = 4096;
/// Blocks of the file, which are written in turn.
const BLOCKS: u64 = 64;
/// Writes that are measured, and how long at most.
const SYNCS_MAX: usize = 200;
const TIME_MAX: Duration = Duration::from_secs(2);

/// Writes a file in `dir`, measures, and removes it.
pub(crate) fn look(dir: &Path) -> WriteFacts {
    let path = dir.join(format!("mofka-doctor-{}", std::process::id()));
    let mut facts = WriteFacts {
        trouble: None,
        direct_trouble: None,
        direct_align_bytes: None,
        syncs_us: Vec::new(),
    };
    if let Err(error) = write(&path, &mut facts) {
        facts.trouble = Some(format!("{}: {error}", path.display()));
    }
    fs::remove_file(&path).ok();
    facts
}

fn write(path: &Path, facts: &mut WriteFacts) -> io::Result<()> {
    // Zeros are written first, as the node does: a commit then changes no metadata of the file system.
    let file = File::options().write(true).create_new(true).open(path)?;
    let size = usize::try_from(BLOCKS).unwrap_or(1) * BLOCK_BYTES;
    io::Write::write_all(&mut &file, &vec![0; size])?;
    file.sync_all()?;
    facts.direct_align_bytes = rustix::fs::statx(CWD, path, AtFlags::empty(), StatxFlags::DIOALIGN)
        .ok()
        .filter(|stat| stat.stx_mask & StatxFlags::DIOALIGN.bits() != 0)
        .map(|stat| (stat.stx_dio_mem_align, stat.stx_dio_offset_align));
    let mut block = AlignedBuf::new(BLOCK_BYTES);
    block.as_mut_slice().fill(7);
    let opened = rustix::fs::open(
        path,
        OFlags::WRONLY | OFlags::DIRECT | OFlags::CLOEXEC,
        Mode::empty(),
    );
    let direct = opened
        .and_then(|direct| rustix::io::pwrite(&direct, block.as_slice(), 0).map(|_| direct))
        .map_err(io::Error::from);
    let fd: OwnedFd = match direct {
        Ok(direct) => direct,
        Err(error) => {
            facts.direct_trouble = Some(error.to_string());
            file.into()
        }
    };
    let begun = Instant::now();
    for n in 0..SYNCS_MAX {
        let at = (n as u64 % BLOCKS) * BLOCK_BYTES as u64;
        let began = Instant::now();
        let written = rustix::io::pwrite(&fd, block.as_slice(), at)?;
        if written != BLOCK_BYTES {
            return Err(io::Error::other(format!(
                "{written} of {BLOCK_BYTES} bytes were written"
            )));
        }
        rustix::fs::fdatasync(&fd)?;
        facts
            .syncs_us
            .push(u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX));
        if begun.elapsed() > TIME_MAX {
            break;
        }
    }
    facts.syncs_us.sort_unstable();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_measures_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let facts = look(dir.path());
        assert_eq!(facts.trouble, None);
        assert!(
            !facts.syncs_us.is_empty() && facts.syncs_us.is_sorted(),
            "{facts:?}"
        );
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        let nowhere = look(&dir.path().join("absent"));
        assert!(nowhere.trouble.is_some_and(|trouble| trouble.contains("absent")));
    }
}
