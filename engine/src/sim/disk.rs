//! The simulated disk: what is durable, what is not yet, and the images a crash can leave.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Names and contents of files, as found after a crash.
pub type Image = BTreeMap<PathBuf, Vec<u8>>;

/// The unit that a crash keeps or drops as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sectors {
    /// 512 bytes.
    Small,
    /// 4096 bytes.
    Large,
}

impl Sectors {
    fn bytes(self) -> usize {
        match self {
            Self::Small => 512,
            Self::Large => 4096,
        }
    }
}

pub(super) type FileId = usize;

/// A number generator that gives the same numbers for the same seed (xorshift*), so that a failing seed is a test.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Numbers of this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.number() % bound
    }

    /// True in `percent` of 100 cases.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

#[derive(Clone, Debug)]
enum Change {
    Write {
        at: usize,
        bytes: Vec<u8>,
        completed: bool,
        number: u64,
    },
    Truncate {
        end: usize,
        number: u64,
    },
    /// The file grows to `end`, with zeros; a crash may leave it anywhere up to there.
    Reserve {
        end: usize,
        number: u64,
    },
}

impl Change {
    fn number(&self) -> u64 {
        match self {
            Self::Write { number, .. } | Self::Truncate { number, .. } | Self::Reserve { number, .. } => {
                *number
            }
        }
    }

    fn completed(&self) -> bool {
        matches!(self, Self::Truncate { .. } | Self::Write { completed: true, .. })
    }

    fn apply(&self, to: &mut Vec<u8>) {
        match self {
            Self::Write { at, bytes, .. } => put(to, *at, bytes),
            Self::Truncate { end, .. } => to.resize(*end, 0),
            Self::Reserve { end, .. } => to.resize(to.len().max(*end), 0),
        }
    }
}

#[derive(Clone, Debug, Default)]
struct SimFile {
    durable: Vec<u8>,
    /// What reads see: durable plus every completed change.
    seen: Vec<u8>,
    unsynced: Vec<Change>,
}

#[derive(Clone, Debug)]
enum NameChange {
    Create { path: PathBuf, file: FileId },
    Rename { from: PathBuf, to: PathBuf },
    Remove { path: PathBuf },
}

impl NameChange {
    fn directory(&self) -> Option<&Path> {
        match self {
            Self::Create { path, .. } | Self::Remove { path } => path.parent(),
            Self::Rename { to, .. } => to.parent(),
        }
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, FileId>) {
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
pub(super) struct Disk {
    files: Vec<SimFile>,
    names: BTreeMap<PathBuf, FileId>,
    durable_names: BTreeMap<PathBuf, FileId>,
    unsynced_names: Vec<NameChange>,
    next_number: u64,
}

impl Disk {
    pub(super) fn of_image(image: &Image) -> Self {
        let mut disk = Self::default();
        for (path, content) in image {
            disk.names.insert(path.clone(), disk.files.len());
            disk.files.push(SimFile {
                durable: content.clone(),
                seen: content.clone(),
                unsynced: Vec::new(),
            });
        }
        disk.durable_names.clone_from(&disk.names);
        disk
    }

    pub(super) fn find(&self, path: &Path) -> Option<FileId> {
        self.names.get(path).copied()
    }

    pub(super) fn create(&mut self, path: &Path) -> FileId {
        let file = self.files.len();
        self.files.push(SimFile::default());
        self.change_names(NameChange::Create {
            path: path.to_path_buf(),
            file,
        });
        file
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> bool {
        let known = self.names.contains_key(from);
        if known {
            self.change_names(NameChange::Rename {
                from: from.to_path_buf(),
                to: to.to_path_buf(),
            });
        }
        known
    }

    pub(super) fn remove(&mut self, path: &Path) {
        self.change_names(NameChange::Remove {
            path: path.to_path_buf(),
        });
    }

    fn change_names(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.unsynced_names.push(change);
    }

    pub(super) fn list(&self, dir: &Path) -> Vec<String> {
        let in_dir = self.names.keys().filter(|path| path.parent() == Some(dir));
        in_dir
            .filter_map(|path| path.file_name()?.to_str().map(str::to_owned))
            .collect()
    }

    pub(super) fn sync_dir(&mut self, dir: &Path) {
        let (synced, rest): (Vec<_>, Vec<_>) = self
            .unsynced_names
            .drain(..)
            .partition(|change| change.directory() == Some(dir));
        for change in synced {
            change.apply(&mut self.durable_names);
        }
        self.unsynced_names = rest;
    }

    /// A write leaves for the device. It may land from now on, and is seen when [`Disk::complete_write`] is called.
    pub(super) fn issue_write(&mut self, file: FileId, at: usize, bytes: Vec<u8>) -> u64 {
        let number = self.number();
        self.files[file].unsynced.push(Change::Write {
            at,
            bytes,
            completed: false,
            number,
        });
        number
    }

    pub(super) fn complete_write(&mut self, file: FileId, write: u64) {
        let file = &mut self.files[file];
        for change in &mut file.unsynced {
            if let Change::Write {
                at,
                bytes,
                completed,
                number,
            } = change
                && *number == write
            {
                *completed = true;
                put(&mut file.seen, *at, bytes);
            }
        }
    }

    /// A sync is issued: returns the moment that it covers.
    pub(super) fn issue_sync(&mut self, file: FileId) -> Vec<u64> {
        self.files[file]
            .unsynced
            .iter()
            .filter(|change| change.completed())
            .map(Change::number)
            .collect()
    }

    pub(super) fn complete_sync(&mut self, file: FileId, covered: &[u64]) {
        let file = &mut self.files[file];
        let (synced, rest): (Vec<_>, Vec<_>) = file
            .unsynced
            .drain(..)
            .partition(|change| covered.contains(&change.number()));
        for change in synced {
            change.apply(&mut file.durable);
        }
        file.unsynced = rest;
    }

    pub(super) fn truncate(&mut self, file: FileId, end: usize) {
        let number = self.number();
        let file = &mut self.files[file];
        file.seen.resize(end, 0);
        file.unsynced.push(Change::Truncate { end, number });
    }

    pub(super) fn issue_reserve(&mut self, file: FileId, end: usize) {
        let number = self.number();
        self.files[file].unsynced.push(Change::Reserve { end, number });
    }

    pub(super) fn complete_reserve(&mut self, file: FileId, end: usize) {
        let file = &mut self.files[file];
        file.seen.resize(file.seen.len().max(end), 0);
        // What was cut before is cut in the journal before.
        for change in &file.unsynced {
            if let Change::Truncate { .. } = change {
                change.apply(&mut file.durable);
            }
        }
        file.durable.resize(file.durable.len().max(end), 0);
        file.unsynced
            .retain(|change| !matches!(change, Change::Truncate { .. } | Change::Reserve { .. }));
    }

    pub(super) fn read(&self, file: FileId, at: usize, bytes: usize) -> Vec<u8> {
        let seen = &self.files[file].seen;
        let start = at.min(seen.len());
        seen[start..start.saturating_add(bytes).min(seen.len())].to_vec()
    }

    pub(super) fn size(&self, file: FileId) -> usize {
        self.files[file].seen.len()
    }

    fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    /// One image that a crash at this moment can leave. `keep_percent` of what is not synced is there.
    pub(super) fn crash(&self, random: &mut Random, keep_percent: u64, sectors: Sectors) -> Image {
        let mut names = self.durable_names.clone();
        for change in &self.unsynced_names {
            if random.chance(keep_percent) {
                change.apply(&mut names);
            }
        }
        let mut image = Image::new();
        for (path, id) in names {
            let file = &self.files[id];
            let mut content = file.durable.clone();
            for change in &file.unsynced {
                match change {
                    Change::Truncate { .. } if random.chance(keep_percent) => change.apply(&mut content),
                    Change::Truncate { .. } => {}
                    Change::Reserve { end, .. } => {
                        let from = content.len();
                        let grown = end.saturating_sub(from) as u64;
                        let landed = usize::try_from(random.below(grown + 1)).unwrap_or(0);
                        content.resize(from + landed, 0);
                    }
                    Change::Write { at, bytes, .. } => {
                        for (place, sector) in bytes.chunks(sectors.bytes()).enumerate() {
                            if random.chance(keep_percent) {
                                put(&mut content, at + place * sectors.bytes(), sector);
                            }
                        }
                    }
                }
            }
            image.insert(path, content);
        }
        image
    }

    /// What an orderly power-off leaves: everything completed.
    pub(super) fn settled(&self) -> Image {
        self.names
            .iter()
            .map(|(path, id)| (path.clone(), self.files[*id].seen.clone()))
            .collect()
    }
}

fn put(content: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    let end = at + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[at..end].copy_from_slice(bytes);
}
