//! A catalog that is damaged: the records in it that check make a new one.
//!
//! The daemon removes directories of partitions that its catalog does not know. Those of partitions whose records are lost
//! get another name first, so that nothing is removed.

use std::path::{Path, PathBuf};

use mofka_log::{CatalogRecord, SegmentKind};
use serde_json::{Value, json};
use uuid::Uuid;

use super::super::durable::{copy_from, failed, now_us, sync_dir};
use super::super::names::Names;
use super::super::place::partition_id;
use super::super::problem::file_name;
use super::super::record_file;
use crate::failure::{Failure, Outcome};

/// What is to be done about a catalog.
pub(super) struct CatalogPlan {
    path: PathBuf,
    node: Uuid,
    records: Vec<Vec<u8>>,
    /// Directories of partitions that the new catalog does not know.
    unlisted: Vec<PathBuf>,
}

/// `None` when the catalog is well, or is not there at all.
pub(super) fn plan(data_dir: &Path, names: &Names, dirs: &[PathBuf]) -> Outcome<Option<CatalogPlan>> {
    let Some(found) = names.found.as_ref().filter(|found| found.is_damaged()) else {
        return Ok(None);
    };
    let path = data_dir.join("catalog");
    if found
        .problems
        .iter()
        .any(|problem| problem.kind == "unknown_version")
    {
        return Err(Failure::newer(format!(
            "{} was made by a newer program: use that",
            path.display()
        )));
    }
    let node = names.node.ok_or_else(|| {
        let json = data_dir.join("node.json");
        Failure::failed(format!(
            "{} cannot be repaired without {}, which says whose it is",
            path.display(),
            json.display()
        ))
    })?;
    let listed = |dir: &&PathBuf| partition_id(dir).is_some_and(|id| names.catalog.partition(id).is_none());
    Ok(Some(CatalogPlan {
        path,
        node,
        records: names
            .catalog
            .snapshot()
            .iter()
            .map(CatalogRecord::encode)
            .collect(),
        unlisted: dirs.iter().filter(listed).cloned().collect(),
    }))
}

impl CatalogPlan {
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!(
            "catalog: write it again with the {} records that check; topics whose records are lost are gone from it",
            self.records.len()
        )];
        let unlisted = self.unlisted.iter().map(|dir| {
            let name = file_name(dir);
            format!("  rename partition {name} to {name}.unlisted: no record names it, and the daemon would remove it")
        });
        lines.extend(unlisted);
        lines
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "records": self.records.len(),
            "unlisted_partitions": self.unlisted.iter().map(|dir| file_name(dir)).collect::<Vec<_>>(),
        })
    }

    /// Carries it out: the directories first, since a crash after that loses nothing.
    pub(super) fn apply(&self) -> Outcome {
        let copy = self
            .path
            .with_extension(format!("repair-{}", now_us() / 1_000_000));
        copy_from(&self.path, 0, &copy).map_err(|error| failed("copy aside", &self.path, &error))?;
        for dir in &self.unlisted {
            let to = dir.with_file_name(format!("{}.unlisted", file_name(dir)));
            let renamed =
                std::fs::rename(dir, &to).and_then(|()| sync_dir(dir.parent().unwrap_or(Path::new("."))));
            renamed.map_err(|error| failed("rename", dir, &error))?;
        }
        record_file::replace(&self.path, SegmentKind::Catalog, self.node, &self.records)
            .map_err(|error| failed("write", &self.path, &error))
    }
}
