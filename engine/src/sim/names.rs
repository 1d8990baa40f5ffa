//! The names of the simulated disk: which file has which, what of that is durable, and what is under way.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use super::disk::FileId;
use super::random::Random;

type Map = BTreeMap<PathBuf, FileId>;

/// One change of names.
#[derive(Clone, Debug)]
pub(super) enum NameChange {
    /// A new file has the name, instead of any that had it.
    Create { path: PathBuf, file: FileId },
    /// The file has another name, instead of any that had it.
    Rename { from: PathBuf, to: PathBuf },
    /// The name is gone, with all below it.
    Remove { path: PathBuf },
}

impl fmt::Display for NameChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create { path, .. } => write!(f, "create {}", path.display()),
            Self::Rename { from, to } => write!(f, "rename {} to {}", from.display(), to.display()),
            Self::Remove { path } => write!(f, "remove {}", path.display()),
        }
    }
}

impl NameChange {
    fn directory(&self) -> Option<&Path> {
        match self {
            Self::Create { path, .. } | Self::Remove { path } => path.parent(),
            Self::Rename { to, .. } => to.parent(),
        }
    }

    fn apply(&self, names: &mut Map) {
        match self {
            Self::Create { path, file } => {
                names.insert(path.clone(), *file);
            }
            Self::Rename { from, to } => {
                if let Some(file) = names.remove(from) {
                    names.insert(to.clone(), file);
                }
            }
            Self::Remove { path } => names.retain(|name, _| !name.starts_with(path)),
        }
    }
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    seen: Map,
    durable: Map,
    /// Seen, and not durable; in the order in which it happened.
    unsynced: Vec<(u64, NameChange)>,
    /// Asked for, and not seen.
    in_flight: Vec<(u64, NameChange)>,
    /// Directories that were removed: nothing gets a name in them until they are made again.
    gone: BTreeSet<PathBuf>,
}

impl Names {
    pub(super) fn insert_durable(&mut self, path: PathBuf, file: FileId) {
        self.seen.insert(path.clone(), file);
        self.durable.insert(path, file);
    }

    pub(super) fn find(&self, path: &Path) -> Option<FileId> {
        self.seen.get(path).copied()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&PathBuf, FileId)> {
        self.seen.iter().map(|(path, file)| (path, *file))
    }

    /// All files that have a name.
    pub(super) fn files(&self) -> impl Iterator<Item = FileId> {
        self.seen.values().copied()
    }

    pub(super) fn list(&self, dir: &Path) -> Vec<String> {
        let in_dir = self.seen.keys().filter(|path| path.parent() == Some(dir));
        in_dir
            .filter_map(|path| path.file_name()?.to_str().map(str::to_owned))
            .collect()
    }

    /// Whether the directory was removed and not made again.
    pub(super) fn is_gone(&self, dir: &Path) -> bool {
        self.gone.contains(dir)
    }

    pub(super) fn make_directory(&mut self, dir: &Path) {
        self.gone.remove(dir);
    }

    /// Whether this change, when it happens now, finds what it is about.
    pub(super) fn is_possible(&self, change: &NameChange) -> bool {
        let has_directory = change.directory().is_none_or(|dir| !self.is_gone(dir));
        match change {
            NameChange::Create { .. } => has_directory,
            NameChange::Rename { from, .. } => has_directory && self.seen.contains_key(from),
            NameChange::Remove { .. } => true,
        }
    }

    /// A change that is in flight.
    pub(super) fn in_flight(&self, number: u64) -> Option<&NameChange> {
        let mut in_flight = self.in_flight.iter();
        in_flight
            .find(|(known, _)| *known == number)
            .map(|(_, change)| change)
    }

    pub(super) fn issue(&mut self, number: u64, change: NameChange) {
        self.in_flight.push((number, change));
    }

    /// Takes a change out of what is in flight.
    pub(super) fn take(&mut self, number: u64) -> Option<NameChange> {
        let place = self.in_flight.iter().position(|(known, _)| *known == number)?;
        Some(self.in_flight.remove(place).1)
    }

    /// It happens.
    pub(super) fn change(&mut self, number: u64, change: NameChange) {
        if let NameChange::Remove { path } = &change
            && self
                .seen
                .keys()
                .any(|name| name != path && name.starts_with(path))
        {
            self.gone.insert(path.clone());
        }
        change.apply(&mut self.seen);
        self.unsynced.push((number, change));
    }

    /// What a sync of the directory covers that is issued now.
    pub(super) fn completed_in(&self, dir: &Path) -> Vec<u64> {
        let in_dir = self
            .unsynced
            .iter()
            .filter(|(_, change)| change.directory() == Some(dir));
        in_dir.map(|(number, _)| *number).collect()
    }

    pub(super) fn synced(&mut self, covered: &[u64]) {
        let (synced, rest): (Vec<_>, Vec<_>) = self
            .unsynced
            .drain(..)
            .partition(|(number, _)| covered.contains(number));
        for (_, change) in synced {
            change.apply(&mut self.durable);
        }
        self.unsynced = rest;
    }

    /// Names that a crash can leave.
    pub(super) fn crash(&self, random: &mut Random, keep_percent: u64) -> Map {
        let mut names = self.durable.clone();
        for (_, change) in self.unsynced.iter().chain(&self.in_flight) {
            if random.chance(keep_percent) {
                change.apply(&mut names);
            }
        }
        names
    }

    pub(super) fn forget_in_flight(&mut self) {
        self.in_flight.clear();
    }
}
