//! Where partitions have their directories, in a node's data directory.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::io::Io;

/// The directory of all of them.
pub(crate) fn all_in(data_dir: &Path) -> PathBuf {
    data_dir.join("partitions")
}

/// That of one.
pub(crate) fn dir_of(data_dir: &Path, id: Uuid) -> PathBuf {
    all_in(data_dir).join(id.to_string())
}

/// The partitions that have one.
///
/// # Errors
/// When they cannot be listed.
pub(crate) async fn listed<I: Io>(io: &I, data_dir: &Path) -> io::Result<BTreeSet<Uuid>> {
    let names = io.list(&all_in(data_dir)).await?;
    Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
}
