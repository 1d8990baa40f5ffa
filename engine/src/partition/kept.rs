//! What a partition knows of producers whose segments were trimmed: reads and writes the file `producers` ([`KeptProducers`]).
//!
//! It is the only place where that is known as long as no segment has a footer. So it is read when it is needed and else not, and where it
//! cannot be read, nothing is made of that for good: batches that were acknowledged would be stored twice when they are sent again.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use mofka_log::{EventId, FilePos, KeptProducers, KeptProducersError, ProducerTable};
use uuid::Uuid;

use crate::io::{Io, IoFile, Then, write_one};
use crate::recover::OpenError;

fn producers_path(dir: &Path) -> PathBuf {
    dir.join("producers")
}

/// Writes what producers sent before `end`, apart from the segments. The caller syncs the directory.
pub(super) async fn keep_producers<I: Io>(
    io: &I,
    dir: &Path,
    partition: Uuid,
    end: EventId,
    producers: ProducerTable,
) -> Result<(), OpenError> {
    let path = producers_path(dir);
    let beside = path.with_extension("new");
    let failed = |what: &str, error: &std::io::Error| OpenError::io(what, &beside, error);
    let bytes = KeptProducers::encode(partition, end, producers, io.random_u64(), io.now_us());
    let file = io
        .create(&beside)
        .await
        .map_err(|error| failed("creating", &error))?;
    let file = Rc::new(file);
    let mut buf = io.alloc(bytes.len());
    buf.as_mut().copy_from_slice(&bytes);
    let written = write_one(io, &file, FilePos::new(0), buf, Then::Sync).await;
    written.map_err(|error| failed("writing", &error))?;
    io.rename(&beside, &path)
        .await
        .map_err(|error| failed("renaming", &error))
}

/// What [`keep_producers`] kept, if it was ever needed: what is known of producers before the first segment, which begins at `first`.
///
/// # Errors
/// What the machine said, or that the file is damaged. One from before segments that went since is that, too: what knew better than it
/// was a footer, and there is none.
pub(super) async fn kept_producers<I: Io>(
    io: &I,
    dir: &Path,
    partition: Uuid,
    first: EventId,
) -> Result<Option<ProducerTable>, OpenError> {
    let path = producers_path(dir);
    let file = match io.open(&path).await {
        Ok(file) => Rc::new(file),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(OpenError::io("opening", &path, &error)),
    };
    let failed = |error| OpenError::io("reading", &path, &error);
    let bytes = KeptProducers::read_bytes(file.size_bytes().await.map_err(failed)?);
    let bytes = file.read_at(FilePos::new(0), bytes).await.map_err(failed)?;
    let wrong = |error: KeptProducersError| OpenError::new(format!("{}: {error}", path.display()));
    let kept = KeptProducers::check(&bytes, Some(partition)).map_err(wrong)?;
    kept.reaches(first).map_err(wrong)?;
    Ok(Some(kept.into_producers()))
}
