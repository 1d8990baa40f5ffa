//! What a path on the command line is: a data directory, a partition's directory, or one file; and who uses it.

use std::fs::{File, TryLockError};
use std::io::Read;
use std::path::{Path, PathBuf};

use mofka_log::EventId;
use uuid::Uuid;

use crate::failure::{Failure, Outcome};

/// What a path is.
#[derive(Debug)]
pub(super) enum Target {
    /// All that a node stores.
    DataDir(PathBuf),
    /// The files of one partition.
    Partition(PathBuf),
    /// One segment of a partition, named by one of its files.
    Segment(PathBuf, EventId),
    /// Another file: a catalog, cursors, an export.
    File(PathBuf),
}

impl Target {
    /// Finds out.
    ///
    /// # Errors
    /// When there is nothing, or nothing of Mofka's.
    pub(super) fn of(path: &Path) -> Outcome<Self> {
        let about = std::fs::metadata(path)
            .map_err(|error| Failure::failed(format!("cannot look at {}: {error}", path.display())))?;
        if about.is_file() {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let base = segment_name(&name);
            return Ok(match (base, path.parent()) {
                (Some((base, _)), Some(parent)) => Self::Segment(not_empty(parent), base),
                _ => Self::File(path.to_path_buf()),
            });
        }
        if path.join("catalog").exists()
            || path.join("node.json").exists()
            || path.join("partitions").is_dir()
        {
            return Ok(Self::DataDir(path.to_path_buf()));
        }
        let names = names(path)?;
        let is_part = |name: &String| segment_name(name).is_some() || name == "cursors" || is_reserved(name);
        if names.iter().any(is_part) {
            return Ok(Self::Partition(path.to_path_buf()));
        }
        Err(Failure::failed(format!(
            "{} is neither a data directory (no catalog and no partitions in it) nor a partition's (no files \
             <event id>.meta in it)",
            path.display()
        )))
    }
}

fn not_empty(path: &Path) -> PathBuf {
    if path.as_os_str().is_empty() {
        PathBuf::from(".")
    } else {
        path.to_path_buf()
    }
}

/// Names in a directory, sorted.
pub(super) fn names(dir: &Path) -> Outcome<Vec<String>> {
    let failed = |error| Failure::failed(format!("cannot list {}: {error}", dir.display()));
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        names.push(entry.map_err(failed)?.file_name().to_string_lossy().into_owned());
    }
    names.sort_unstable();
    Ok(names)
}

/// Which of a segment's two files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Half {
    Meta,
    Data,
}

/// The segment that a name belongs to: 20 digits and `.meta` or `.data`.
pub(super) fn segment_name(name: &str) -> Option<(EventId, Half)> {
    let (digits, half) = match name.strip_suffix(".meta") {
        Some(digits) => (digits, Half::Meta),
        None => (name.strip_suffix(".data")?, Half::Data),
    };
    let all_digits = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    let base: u64 = all_digits.then(|| digits.parse().ok()).flatten()?;
    (base < mofka_log::EVENT_ID_END).then_some((EventId::new(base), half))
}

/// Files that the daemon keeps in a partition's directory and that hold nothing: the next segment in the making, data
/// files kept for reuse, the data of events that are not whole yet, a file that is being rewritten.
pub(super) fn is_reserved(name: &str) -> bool {
    let free = name
        .strip_prefix("free-")
        .and_then(|rest| rest.strip_suffix(".data"));
    let incoming = name
        .strip_prefix("incoming-")
        .and_then(|rest| rest.strip_suffix(".data"));
    [
        "next.meta",
        "next.data",
        "cursors.new",
        "catalog.new",
        "producers.new",
    ]
    .contains(&name)
        || free.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
        || incoming
            .is_some_and(|number| number.len() == 16 && number.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// The partition that a directory is named after.
pub(super) fn partition_id(dir: &Path) -> Option<Uuid> {
    let absolute = std::path::absolute(dir).ok()?;
    absolute.file_name()?.to_str()?.parse().ok()
}

/// The data directory that a path is in, if any.
pub(super) fn data_dir_of(path: &Path) -> Option<PathBuf> {
    let absolute = path.canonicalize().ok()?;
    let is_home = |dir: &&Path| dir.join("lock").is_file() && dir.join("node.json").is_file();
    absolute.ancestors().take(4).find(is_home).map(Path::to_path_buf)
}

/// The process that uses the data directory of this path now, as it calls itself.
pub(super) fn user_of(path: &Path) -> Option<String> {
    let mut lock = File::open(data_dir_of(path)?.join("lock")).ok()?;
    match lock.try_lock_shared() {
        Err(TryLockError::WouldBlock) => {
            let mut process = String::new();
            lock.read_to_string(&mut process).ok();
            Some(format!("process {}", process.trim()))
        }
        _ => None,
    }
}

/// Holds off a daemon for as long as it lives.
#[derive(Debug)]
pub(super) struct HeldOff {
    _lock: Option<File>,
}

/// Keeps daemons from the data directory of this path.
///
/// # Errors
/// When one uses it.
pub(super) fn hold_off(path: &Path, what: &str) -> Outcome<HeldOff> {
    let Some(dir) = data_dir_of(path) else {
        return Ok(HeldOff { _lock: None });
    };
    let failed = |error| Failure::failed(format!("cannot lock {}: {error}", dir.join("lock").display()));
    let lock = File::open(dir.join("lock")).map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => Ok(HeldOff { _lock: Some(lock) }),
        Err(TryLockError::WouldBlock) => {
            let user = user_of(path).unwrap_or_else(|| "another process".to_owned());
            Err(Failure::failed(format!(
                "data directory {} is in use ({user}): stop the node (`mofka-ctl shutdown`) before you {what}",
                dir.display()
            )))
        }
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_segments_have_twenty_digits() {
        let name = format!("{:020}.meta", 42);
        assert_eq!(segment_name(&name), Some((EventId::new(42), Half::Meta)));
        assert_eq!(
            segment_name("00000000000000000007.data").map(|(_, half)| half),
            Some(Half::Data)
        );
        for name in [
            "7.meta",
            "0000000000000000000x.meta",
            "next.meta",
            "cursors",
            "99999999999999999999.meta",
        ] {
            assert_eq!(segment_name(name), None, "{name}");
        }
    }

    #[test]
    fn names_that_hold_nothing_are_known() {
        assert!(
            [
                "next.meta",
                "next.data",
                "free-12.data",
                "incoming-00f3a5b6c7d8e9f0.data",
                "cursors.new"
            ]
            .iter()
            .all(|name| is_reserved(name))
        );
        assert!(
            !["free-.data", "free-x.data", "incoming-1.data", "next", "repair-1"]
                .iter()
                .any(|name| is_reserved(name))
        );
    }
}
