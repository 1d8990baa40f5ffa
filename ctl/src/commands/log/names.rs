//! What people call the partitions of a data directory, and whose node it is.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use indicatif::ProgressBar;
use mofka_log::{Catalog, PartitionKind, SegmentKind, Verdict};
use serde::Deserialize;
use uuid::Uuid;

use super::durable::{failed, sync_name};
use super::partition::forgive_what_moved;
use super::place::{names, partition_id, user_of};
use super::problem::Problem;
use super::record_file;
use super::records::{self, RecordsFound};
use crate::failure::{Failure, Outcome};

/// What `node.json` says; what else is in it is the daemon's affair.
#[derive(Debug, Deserialize)]
struct Identity {
    node: Uuid,
}

/// A data directory's catalog, as far as it can be read.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) node: Option<Uuid>,
    pub(super) catalog: Catalog,
    /// Partitions of topics that were deleted.
    deleted: BTreeSet<Uuid>,
    pub(super) found: Option<RecordsFound>,
}

impl Names {
    /// Reads the catalog of this data directory; it may be absent.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn of(data_dir: &Path) -> Outcome<Self> {
        let node = node_of(data_dir);
        let path = data_dir.join("catalog");
        if !path.exists() {
            return Ok(Self {
                node,
                ..Self::default()
            });
        }
        let read = || {
            records::catalog(&path, node, &ProgressBar::hidden())
                .map_err(|error| Failure::failed(format!("cannot read {}: {error}", path.display())))
        };
        let (mut found, mut catalog, mut deleted) = read()?;
        if let Verdict::Damaged { to, .. } = found.verdict
            && user_of(data_dir).is_some()
        {
            (found, catalog, deleted) = read()?;
            forgive_what_moved(&mut found.problems, &found.verdict, to, &path);
        }
        Ok(Self {
            node,
            catalog,
            deleted,
            found: Some(found),
        })
    }

    /// Partitions that have no directory, and directories that belong to no partition.
    pub(super) fn strays(&self, data_dir: &Path, dirs: &[PathBuf]) -> Vec<Problem> {
        let stored = |id: Uuid| dirs.iter().any(|dir| partition_id(dir) == Some(id));
        let logs = self
            .catalog
            .partitions()
            .filter(|record| record.kind == PartitionKind::Default);
        let missing = logs.filter(|record| !stored(record.id)).map(|record| {
            let path = data_dir.join("partitions").join(record.id.to_string());
            let text =
                "the catalog has this partition, and its directory is gone, and all its events with it";
            Problem::damage("partition_missing", &path, text)
        });
        let deleted = self.leftovers(dirs).map(|dir| {
            let text = "its topic was deleted: the daemon removes it when it starts";
            Problem::note("partition_deleted", dir, text)
        });
        let unlisted = self.unlisted(dirs).map(|dir| {
            let text = "no record of the catalog is of this partition: the daemon leaves it alone and serves nobody from it; \
                        `log export` reads it, `log repair` sets it aside";
            Problem::damage("partition_unlisted", dir, text)
        });
        missing.chain(deleted).chain(unlisted).collect()
    }

    /// Directories of partitions that the catalog never had, or does not have any more since its records were lost. Not those
    /// without files: they were made for a partition that did not come about, and the daemon removes them when it starts.
    pub(super) fn unlisted<'a>(&'a self, dirs: &'a [PathBuf]) -> impl Iterator<Item = &'a PathBuf> {
        let is_unknown = |id| self.catalog.partition(id).is_none() && !self.deleted.contains(&id);
        dirs.iter()
            .filter(move |dir| partition_id(dir).is_some_and(is_unknown) && !is_empty(dir))
    }

    /// Directories of topics that were deleted. Whoever writes the catalog anew removes them first ([`NewCatalog`]): the new one
    /// does not say that they were deleted.
    pub(super) fn leftovers<'a>(&'a self, dirs: &'a [PathBuf]) -> impl Iterator<Item = &'a PathBuf> {
        dirs.iter()
            .filter(|dir| partition_id(dir).is_some_and(|id| self.deleted.contains(&id)))
    }

    /// The topic's name and the partition's index.
    pub(super) fn name_of(&self, id: Option<Uuid>) -> Option<(String, u32)> {
        let partition = self.catalog.partition(id?)?;
        let topic = self.catalog.topic_by_id(partition.topic)?;
        Some((topic.name.clone(), partition.index))
    }
}

/// A catalog to be written in place of the one that is there.
#[derive(Debug)]
pub(super) struct NewCatalog {
    pub(super) node: Uuid,
    pub(super) records: Vec<Vec<u8>>,
    /// Directories of topics that were deleted, which it does not say any more ([`Names::leftovers`]).
    pub(super) leftovers: Vec<PathBuf>,
}

impl NewCatalog {
    /// Removes the leftovers, and then writes it over the one at this path.
    ///
    /// # Errors
    /// When the system refuses.
    pub(super) fn replace(&self, path: &Path) -> Outcome {
        for dir in &self.leftovers {
            let removed = std::fs::remove_dir_all(dir).and_then(|()| sync_name(dir));
            removed.map_err(|error| failed("remove", dir, &error))?;
        }
        record_file::replace(path, SegmentKind::Catalog, self.node, &self.records)
            .map_err(|error| failed("write", path, &error))
    }
}

fn is_empty(dir: &Path) -> bool {
    names(dir).is_ok_and(|names| names.is_empty())
}

/// The node that a data directory belongs to.
pub(super) fn node_of(data_dir: &Path) -> Option<Uuid> {
    let text = std::fs::read(data_dir.join("node.json")).ok()?;
    serde_json::from_slice(&text)
        .ok()
        .map(|identity: Identity| identity.node)
}

/// The names that belong to a partition's directory, when it is in a data directory.
pub(super) fn names_around(partition_dir: &Path) -> Names {
    let data_dir: Option<PathBuf> = partition_dir
        .canonicalize()
        .ok()
        .and_then(|dir| Some(dir.parent()?.parent()?.to_path_buf()));
    data_dir
        .filter(|dir| dir.join("catalog").is_file())
        .and_then(|dir| Names::of(&dir).ok())
        .unwrap_or_default()
}
