//! Directories of partitions: which there are, and which of them go.

use std::collections::BTreeSet;

use mofka_log::Catalog;
use uuid::Uuid;

use super::{Peers, Shard};
use crate::catalog::CatalogStore;
use crate::io::Io;
use crate::partition_dirs;
use crate::recover::OpenError;

/// How often the removal of a directory is tried while files are made in it.
const REMOVE_ATTEMPTS_MAX: u32 = 10;

impl<I: Io, P: Peers> Shard<I, P> {
    /// The partitions that have directories; nothing when they cannot be listed.
    pub(super) async fn places(&self) -> Option<BTreeSet<Uuid>> {
        let data_dir = &self.facts().data_dir;
        match partition_dirs::listed(self.io(), data_dir).await {
            Ok(ids) => Some(ids),
            Err(error) => {
                let dir = partition_dirs::all_in(data_dir);
                tracing::warn!(dir = %dir.display(), %error, "could not be listed");
                None
            }
        }
    }

    /// Removes the files of partitions whose topics were deleted, when the node stopped before it had done so. Files of partitions that
    /// the catalog does not know are somebody's events, and stay where they are.
    ///
    /// # Errors
    /// When there are such files and no catalog at all.
    pub(super) async fn look_at_orphans(
        &self,
        store: &CatalogStore<I>,
        catalog: &Catalog,
        places: &BTreeSet<Uuid>,
    ) -> Result<(), OpenError> {
        let mut ids = Vec::new();
        for id in places.iter().filter(|id| catalog.partition(**id).is_none()) {
            // Made ahead of the catalog's record, which did not come.
            let is_empty = matches!(self.io().list(&self.dir_of(*id)).await, Ok(names) if names.is_empty());
            match is_empty {
                true => self.remove_files(*id).await,
                false => ids.push(*id),
            }
        }
        let (deleted, unknown): (Vec<_>, Vec<_>) = ids.into_iter().partition(|id| store.is_deleted(*id));
        if store.was_empty() && !unknown.is_empty() {
            let data_dir = &self.facts().data_dir;
            return Err(OpenError::new(format!(
                "{} has the files of {} partitions, and the catalog beside it has no topics: it was lost, or did not come \
                 along. Nothing was changed. Bring the catalog back, or let `mofka-ctl log repair --apply {}` set the partitions \
                 aside",
                partition_dirs::all_in(data_dir).display(),
                unknown.len(),
                data_dir.display()
            )));
        }
        for id in unknown {
            tracing::error!(
                partition = %id,
                dir = %self.dir_of(id).display(),
                "the catalog does not have this partition: its files are left alone, and nobody is served from them; \
                 `mofka-ctl log export` reads them, `mofka-ctl log repair` sets them aside"
            );
        }
        for id in deleted {
            tracing::info!(partition = %id, "removing the files of a deleted partition");
            self.remove_files(id).await;
        }
        Ok(())
    }

    /// Removes the directory of a partition that the catalog does not know, durably. What cannot be removed now is
    /// removed by the next start.
    pub(super) async fn remove_files(&self, id: Uuid) {
        let dir = self.dir_of(id);
        let parent = dir.parent().unwrap_or(&dir);
        let mut removed = self.io().remove(&dir).await;
        for _ in 0..REMOVE_ATTEMPTS_MAX {
            // Something that was under way, a roll or a trim, made a file in it meanwhile.
            match &removed {
                Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty => {
                    removed = self.io().remove(&dir).await;
                }
                _ => break,
            }
        }
        let removed = match removed {
            Ok(()) => self.io().sync_dir(parent).await,
            failed => failed,
        };
        if let Err(error) = removed {
            tracing::warn!(
                dir = %dir.display(),
                %error,
                "the files of a deleted partition could not be removed; the next start tries again"
            );
        }
    }
}
