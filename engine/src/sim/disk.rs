//! The simulated disk: what is durable, what is not yet, and the images a crash can leave.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::content::FileBytes;
use super::names::{NameChange, Names};
use super::outcome::{ENOENT, ENOSPC, Failure};
use super::random::Random;

/// Names and contents of files, as found after a crash.
pub type Image = BTreeMap<PathBuf, FileBytes>;

/// Flips one bit somewhere in the files; gives the file and the place. Nothing when there are no bytes.
pub fn flip_bit(image: &mut Image, random: &mut Random) -> Option<(PathBuf, usize)> {
    let bytes: usize = image.values().map(|content| content.len()).sum();
    let mut at = (bytes > 0).then(|| random.place(bytes))?;
    for (path, content) in image {
        if at < content.len() {
            content[at] ^= 1 << random.below(8);
            return Some((path.clone(), at));
        }
        at -= content.len();
    }
    None
}

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
        completed: bool,
        number: u64,
    },
    /// The file grows to `end`, with zeros; a crash may leave it anywhere up to there.
    Reserve { end: usize, number: u64 },
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
        matches!(
            self,
            Self::Truncate { completed: true, .. } | Self::Write { completed: true, .. }
        )
    }

    fn is_cut_under_way(&self) -> bool {
        matches!(self, Self::Truncate { completed: false, .. })
    }

    fn apply(&self, to: &mut FileBytes) {
        match self {
            Self::Write { at, bytes, .. } => to.put(*at, bytes),
            Self::Truncate { end, .. } => to.resize(*end, 0),
            Self::Reserve { end, .. } => to.grow(*end),
        }
    }

    /// What of it is on the disk when it was not synced: each sector of a write, a truncation as a whole, some of what was
    /// reserved.
    fn apply_in_part(&self, to: &mut FileBytes, random: &mut Random, keep_percent: u64, sectors: Sectors) {
        match self {
            Self::Truncate { .. } => {
                if random.chance(keep_percent) {
                    self.apply(to);
                }
            }
            Self::Reserve { end, .. } => {
                let landed = random.place(end.saturating_sub(to.len()) + 1);
                let end = to.len() + landed;
                to.grow(end);
            }
            Self::Write { at, bytes, .. } => {
                for (place, sector) in bytes.chunks(sectors.bytes()).enumerate() {
                    if random.chance(keep_percent) {
                        to.put(at + place * sectors.bytes(), sector);
                    }
                }
            }
        }
    }
}

#[derive(Clone, Debug, Default)]
struct SimFile {
    durable: FileBytes,
    /// What reads see: durable plus every completed change.
    seen: FileBytes,
    unsynced: Vec<Change>,
    /// Up to here the file has its blocks, whether they were written or not.
    allocated: usize,
}

impl SimFile {
    fn space(&self) -> usize {
        // The file itself takes a block, too.
        BLOCK + self.allocated.max(self.seen.len()).next_multiple_of(BLOCK)
    }

    /// Takes a change out of what is under way.
    fn take(&mut self, number: u64) -> Option<Change> {
        let place = self
            .unsynced
            .iter()
            .position(|change| change.number() == number)?;
        Some(self.unsynced.remove(place))
    }

    fn take_write(&mut self, write: u64) -> Option<(usize, Vec<u8>)> {
        match self.take(write)? {
            Change::Write { at, bytes, .. } => Some((at, bytes)),
            Change::Truncate { .. } | Change::Reserve { .. } => None,
        }
    }

    /// Bytes that the device took: seen from now on, durable after a sync.
    fn land(&mut self, at: usize, bytes: Vec<u8>, number: u64) {
        self.seen.put(at, &bytes);
        self.unsynced.push(Change::Write {
            at,
            bytes,
            completed: true,
            number,
        });
    }
}

const BLOCK: usize = 4096;

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    files: Vec<SimFile>,
    names: Names,
    next_number: u64,
    /// Bytes that all files together may take.
    capacity: Option<usize>,
}

impl Disk {
    pub(super) fn of_image(image: &Image) -> Self {
        let mut disk = Self::default();
        for (path, content) in image {
            disk.names.insert_durable(path.clone(), disk.files.len());
            disk.files.push(SimFile {
                durable: content.clone(),
                seen: content.clone(),
                unsynced: Vec::new(),
                allocated: content.len(),
            });
        }
        disk
    }

    pub(super) fn find(&self, path: &Path) -> Option<FileId> {
        self.names.find(path)
    }

    /// An empty file is to be made. Its name is seen when [`Disk::complete_names`] is called.
    pub(super) fn issue_create(&mut self, path: &Path) -> (FileId, u64) {
        let file = self.files.len();
        self.files.push(SimFile::default());
        let path = path.to_path_buf();
        (file, self.issue_names(NameChange::Create { path, file }))
    }

    /// Names are to change. It may happen from now on, and is seen when [`Disk::complete_names`] is called.
    pub(super) fn issue_names(&mut self, change: NameChange) -> u64 {
        let number = self.number();
        self.names.issue(number, change);
        number
    }

    /// # Errors
    /// That the disk is full, there is nothing to rename, or the directory is gone.
    pub(super) fn complete_names(&mut self, number: u64) -> Result<(), Failure> {
        let Some(change) = self.names.take(number) else {
            return Ok(());
        };
        if !self.names.is_possible(&change) {
            return Err(ENOENT);
        }
        if matches!(change, NameChange::Create { .. }) && self.room() < BLOCK {
            return Err(ENOSPC);
        }
        self.names.change(number, change);
        Ok(())
    }

    /// It fails, and nothing happened.
    pub(super) fn drop_names(&mut self, number: u64) {
        self.names.take(number);
    }

    /// Leaves room for just so many bytes more.
    pub(super) fn set_room(&mut self, bytes: Option<usize>) {
        self.capacity = bytes.map(|bytes| self.used() + bytes);
    }

    fn used(&self) -> usize {
        self.names.files().map(|file| self.files[file].space()).sum()
    }

    fn room(&self) -> usize {
        self.capacity
            .map_or(usize::MAX, |capacity| capacity.saturating_sub(self.used()))
    }

    /// Gives the file its blocks up to `end`, or as many as there is room for; returns up to where it has them.
    pub(super) fn allocate(&mut self, file: FileId, end: usize) -> usize {
        let has = self.files[file].space() - BLOCK;
        if end > has {
            let more = (end - has)
                .next_multiple_of(BLOCK)
                .min(self.room() / BLOCK * BLOCK);
            self.files[file].allocated = has + more;
        }
        self.files[file].space() - BLOCK
    }

    /// Makes the directory, too.
    pub(super) fn list(&mut self, dir: &Path) -> Vec<String> {
        self.names.make_directory(dir);
        self.names.list(dir)
    }

    /// What is to become of names, while it is in flight.
    pub(super) fn names_in_flight(&self, number: u64) -> String {
        self.names
            .in_flight(number)
            .map_or_else(String::new, ToString::to_string)
    }

    /// A sync of a directory is issued: returns what it covers.
    pub(super) fn issue_sync_dir(&self, dir: &Path) -> Vec<u64> {
        self.names.completed_in(dir)
    }

    /// # Errors
    /// That the directory is gone.
    pub(super) fn complete_sync_dir(&mut self, dir: &Path, covered: &[u64]) -> Result<(), Failure> {
        if self.names.is_gone(dir) {
            return Err(ENOENT);
        }
        self.names.synced(covered);
        Ok(())
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
        if let Some((at, bytes)) = self.files[file].take_write(write) {
            self.files[file].land(at, bytes, write);
        }
    }

    /// The write ends after its first `bytes` bytes.
    pub(super) fn complete_short(&mut self, file: FileId, write: u64, end: usize) {
        if let Some((at, mut bytes)) = self.files[file].take_write(write) {
            bytes.truncate(end);
            self.files[file].land(at, bytes, write);
        }
    }

    /// The write fails: each of its sectors landed or not.
    pub(super) fn complete_torn(&mut self, file: FileId, write: u64, random: &mut Random) {
        let Some((at, bytes)) = self.files[file].take_write(write) else {
            return;
        };
        let keep_percent = random.below(101);
        for (place, sector) in bytes.chunks(Sectors::Small.bytes()).enumerate() {
            if random.chance(keep_percent) {
                let number = self.number();
                self.files[file].land(at + place * Sectors::Small.bytes(), sector.to_vec(), number);
            }
        }
    }

    /// The write is reported done, and did not happen.
    pub(super) fn lose_write(&mut self, file: FileId, write: u64) {
        self.files[file].take_write(write);
    }

    /// The write is reported done, and landed elsewhere.
    pub(super) fn misdirect_write(&mut self, file: FileId, write: u64, random: &mut Random) {
        let Some((at, bytes)) = self.files[file].take_write(write) else {
            return;
        };
        let named: Vec<FileId> = self.names.files().collect();
        let to = if random.chance(50) || named.is_empty() {
            file
        } else {
            named[random.place(named.len())]
        };
        let blocks = self.files[to].seen.len() / BLOCK + 1;
        let mut place = random.place(blocks) * BLOCK;
        if (to, place) == (file, at) {
            place += BLOCK;
        }
        self.files[to].land(place, bytes, write);
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

    /// The sync fails: the writes that it covered count as clean from now on, and their sectors are on the disk or not. A
    /// truncation is in the file system's journal, and the next sync finds it there.
    pub(super) fn fail_sync(&mut self, file: FileId, covered: &[u64], random: &mut Random) {
        let file = &mut self.files[file];
        let (dropped, rest): (Vec<_>, Vec<_>) = file
            .unsynced
            .drain(..)
            .partition(|change| covered.contains(&change.number()) && matches!(change, Change::Write { .. }));
        let keep_percent = random.below(101);
        for change in dropped {
            change.apply_in_part(&mut file.durable, random, keep_percent, Sectors::Small);
        }
        file.unsynced = rest;
    }

    /// A file is to be cut. It may happen from now on, and is seen when [`Disk::complete_truncate`] is called.
    pub(super) fn issue_truncate(&mut self, file: FileId, end: usize) -> u64 {
        let number = self.number();
        self.files[file].unsynced.push(Change::Truncate {
            end,
            completed: false,
            number,
        });
        number
    }

    pub(super) fn complete_truncate(&mut self, file: FileId, number: u64) {
        let file = &mut self.files[file];
        if let Some(Change::Truncate { end, .. }) = file.take(number) {
            file.seen.resize(end, 0);
            file.allocated = end;
            file.unsynced.push(Change::Truncate {
                end,
                completed: true,
                number,
            });
        }
    }

    /// It fails, and nothing happened.
    pub(super) fn drop_truncate(&mut self, file: FileId, number: u64) {
        self.files[file].take(number);
    }

    pub(super) fn issue_reserve(&mut self, file: FileId, end: usize) {
        let number = self.number();
        self.files[file].unsynced.push(Change::Reserve { end, number });
    }

    /// The room is made of zeros, also where the file had something already.
    pub(super) fn complete_reserve(&mut self, file: FileId, room: Range<usize>) {
        let (file, end) = (&mut self.files[file], room.end);
        for bytes in [&mut file.seen, &mut file.durable] {
            let had = bytes.len().min(end);
            if room.start < had {
                bytes[room.start..had].fill(0);
            }
        }
        file.seen.grow(end);
        // What was cut before is cut in the journal before.
        for change in &file.unsynced {
            if let Change::Truncate { completed: true, .. } = change {
                change.apply(&mut file.durable);
            }
        }
        file.durable.grow(end);
        file.unsynced.retain(|change| {
            !matches!(
                change,
                Change::Truncate { completed: true, .. } | Change::Reserve { .. }
            )
        });
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
        let names = self.names.crash(random, keep_percent);
        let mut image = Image::new();
        for (path, id) in names {
            let file = &self.files[id];
            let mut content = file.durable.clone();
            // What is being cut is cut before or after what was written meanwhile, and synced perhaps.
            let (late, in_order): (Vec<_>, Vec<_>) = file
                .unsynced
                .iter()
                .partition(|change| change.is_cut_under_way() && random.chance(50));
            for change in in_order.into_iter().chain(late) {
                change.apply_in_part(&mut content, random, keep_percent, sectors);
            }
            image.insert(path, content);
        }
        image
    }

    /// Nothing is in flight any more: what did not complete never happens.
    pub(super) fn forget_in_flight(&mut self) {
        for file in &mut self.files {
            file.unsynced.retain(Change::completed);
        }
        self.names.forget_in_flight();
    }

    /// What an orderly power-off leaves: everything completed.
    pub(super) fn settled(&self) -> Image {
        self.names
            .iter()
            .map(|(path, id)| (path.clone(), self.files[id].seen.clone()))
            .collect()
    }
}
