//! Reads what a partition knows of producers whose segments were trimmed: the file `producers`.

use std::path::Path;

use mofka_log::KeptProducers;
use uuid::Uuid;

use super::source::Source;

/// Reads the file.
///
/// # Errors
/// What is wrong with it, in words.
pub(super) fn read(path: &Path, partition: Option<Uuid>) -> Result<KeptProducers, String> {
    let say = |error: std::io::Error| error.to_string();
    let source = Source::open(path).map_err(say)?;
    let bytes = source
        .read(0, KeptProducers::read_bytes(source.len()))
        .map_err(say)?;
    KeptProducers::check(&bytes, partition).map_err(|error| error.to_string())
}
