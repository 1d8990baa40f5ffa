//! A catalog that is damaged: the records in it that check make a new one.
//!
//! Directories of partitions that no record names get another name, so that everybody sees that nobody is served from them.

use std::path::{Path, PathBuf};

use mofka_log::CatalogRecord;
use serde_json::{Value, json};

use super::super::durable::{copy_from, failed, now_us, sync_name};
use super::super::names::{Names, NewCatalog};
use super::super::problem::file_name;
use super::super::records::RecordsFound;
use crate::failure::{Failure, Outcome};

/// What is to be done about a catalog, and what it should name.
pub(super) struct CatalogPlan {
    path: PathBuf,
    new: Option<NewCatalog>,
    /// Directories of partitions that the catalog does not know.
    unlisted: Vec<PathBuf>,
}

/// `None` when there is nothing to be done.
pub(super) fn plan(data_dir: &Path, names: &Names, dirs: &[PathBuf]) -> Outcome<Option<CatalogPlan>> {
    let path = data_dir.join("catalog");
    let new = match names.found.as_ref().filter(|found| found.is_damaged()) {
        Some(found) => Some(anew(&path, data_dir, (names, dirs), found)?),
        None => None,
    };
    let unlisted: Vec<PathBuf> = names.unlisted(dirs).cloned().collect();
    let is_well = new.is_none() && unlisted.is_empty();
    Ok((!is_well).then_some(CatalogPlan { path, new, unlisted }))
}

fn anew(
    path: &Path,
    data_dir: &Path,
    (names, dirs): (&Names, &[PathBuf]),
    found: &RecordsFound,
) -> Outcome<NewCatalog> {
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
    let snapshot = names.catalog.snapshot();
    Ok(NewCatalog {
        node,
        records: snapshot.iter().map(CatalogRecord::encode).collect(),
        leftovers: names.leftovers(dirs).cloned().collect(),
    })
}

impl CatalogPlan {
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = vec![match &self.new {
            Some(new) => format!(
                "catalog: write it again with the {} records that check; topics whose records are lost are gone from it",
                new.records.len()
            ),
            None => "catalog: it does not name all partitions".to_owned(),
        }];
        let unlisted = self.unlisted.iter().map(|dir| {
            let name = file_name(dir);
            format!("  rename partition {name} to {name}.unlisted: no record names it")
        });
        lines.extend(unlisted);
        let leftovers = self.new.iter().flat_map(|new| &new.leftovers);
        lines.extend(leftovers.map(|dir| {
            let name = file_name(dir);
            format!("  remove partition {name}: its topic was deleted")
        }));
        lines
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "records": self.new.as_ref().map(|new| new.records.len()),
            "deleted_partitions": self.new.iter().flat_map(|new| &new.leftovers).map(|dir| file_name(dir)).collect::<Vec<_>>(),
            "unlisted_partitions": self.unlisted.iter().map(|dir| file_name(dir)).collect::<Vec<_>>(),
        })
    }

    /// Carries it out: the directories first, since a crash after that loses nothing.
    pub(super) fn apply(&self) -> Outcome {
        if self.new.is_some() {
            let copy = self
                .path
                .with_extension(format!("repair-{}", now_us() / 1_000_000));
            copy_from(&self.path, 0, &copy).map_err(|error| failed("copy aside", &self.path, &error))?;
        }
        for dir in &self.unlisted {
            let to = dir.with_file_name(format!("{}.unlisted", file_name(dir)));
            let renamed = std::fs::rename(dir, &to).and_then(|()| sync_name(dir));
            renamed.map_err(|error| failed("rename", dir, &error))?;
        }
        self.new.as_ref().map_or(Ok(()), |new| new.replace(&self.path))
    }
}
