//! Before anything is trusted to this machine: write, sync and read back through the path that the log will use.

use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use mofka_log::FilePos;

use super::file::UringIo;
use crate::io::{IoDir, IoFile, Then, write_one};

/// Why the data directory cannot hold a log.
#[derive(Debug, thiserror::Error)]
#[error("{what} {path}: {source}", path = path.display())]
pub(super) struct SelfTestError {
    what: &'static str,
    path: PathBuf,
    source: io::Error,
}

const BYTES: usize = 64 << 10;

/// Writes a pattern into a file in `dir`, syncs it, reads it back at odd places, and removes the file.
///
/// # Errors
/// What failed, and where.
pub(super) async fn run(io: &UringIo, dir: &Path, shard: usize) -> Result<(), SelfTestError> {
    let path = dir.join(format!("self-test-{shard}"));
    let outcome = write_and_read(io, &path).await;
    let removed = io.remove(&path).await.map_err(|source| SelfTestError {
        what: "removing",
        path: path.clone(),
        source,
    });
    outcome.map_err(|(what, source)| SelfTestError { what, path, source })?;
    removed
}

async fn write_and_read(io: &UringIo, path: &Path) -> Result<(), (&'static str, io::Error)> {
    let file = Rc::new(io.create(path).await.map_err(|error| ("creating", error))?);
    let pattern: Vec<u8> = (0..BYTES)
        .map(|place| u8::try_from(place % 251).unwrap_or(0))
        .collect();
    let mut buf = io.alloc(BYTES);
    buf.as_mut().copy_from_slice(&pattern);
    write_one(io, &file, FilePos::new(0), buf, Then::Sync)
        .await
        .map_err(|error| ("writing and syncing", error))?;
    for (at, bytes) in [(0_usize, BYTES), (4095, 4098), (60_000, 100)] {
        let position = FilePos::new(u64::try_from(at).unwrap_or(0));
        let read = file
            .read_at(position, bytes)
            .await
            .map_err(|error| ("reading", error))?;
        if Some(read.as_ref()) != pattern.get(at..at + bytes) {
            let message = "what was read back is not what was written";
            return Err(("checking", io::Error::new(io::ErrorKind::InvalidData, message)));
        }
    }
    Ok(())
}
