//! The data directory: its lock, the node's identity, whether it has direct I/O.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags, flock};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::config::DirectIo;
use crate::fresh;

/// What `node.json` says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Identity {
    /// Never changes, so that files of another node are recognised.
    node: Uuid,
    /// Version of everything below this directory.
    format_version: u32,
}

/// The version of the layout of the data directory that this build reads and writes.
const FORMAT_VERSION: u32 = 1;

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// A file or directory could not be made or read.
    #[error("could not {what} {path}: {source}", path = path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another daemon uses it.
    #[error("data directory {path} is in use by another mofkad{by}: stop that one, or give this one a directory of its own", path = path.display())]
    Busy {
        /// The directory.
        path: PathBuf,
        /// Which process, when it is known.
        by: String,
    },
    /// It is of another version or not ours.
    #[error("{path}: {reason}", path = path.display())]
    Foreign {
        /// The file that says so.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// No direct I/O.
    #[error(
        "the file system of {path} has no direct I/O ({reason}), which log partitions need for their durability and \
         speed: use another data_dir, or set \"direct_io\": \"auto\" in the configuration to go through the page cache",
        path = path.display()
    )]
    NoDirectIo {
        /// The directory.
        path: PathBuf,
        /// What was tried and failed.
        reason: String,
    },
}

/// The data directory, locked for this process.
#[derive(Debug)]
pub struct Home {
    dir: PathBuf,
    node: Uuid,
    lock: Option<File>,
}

impl Home {
    /// Makes the directory when absent, locks it, and reads or makes the node's identity.
    ///
    /// # Errors
    /// When it cannot be used; see [`HomeError`].
    pub fn open(dir: &Path) -> Result<Self, HomeError> {
        let failed = |what, path: &Path| {
            let path = path.to_path_buf();
            move |source| HomeError::Io { what, path, source }
        };
        let is_missing = |place: &&Path| !place.as_os_str().is_empty() && !place.exists();
        let new_count = dir.ancestors().take_while(is_missing).count();
        std::fs::create_dir_all(dir).map_err(failed("create the data directory", dir))?;
        let dir = dir
            .canonicalize()
            .map_err(failed("find the data directory", dir))?;
        for parent in dir.ancestors().skip(1).take(new_count) {
            // Else the name could be gone after a power cut, with all that is promised in it.
            match sync_names(parent) {
                // Whoever may add names may not be allowed to read them.
                Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {}
                synced => synced.map_err(failed("sync the names in", parent))?,
            }
        }
        let lock_path = dir.join("lock");
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock_path)
            .map_err(failed("open the lock file", &lock_path))?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut pid = String::new();
            let by = match lock.read_to_string(&mut pid) {
                Ok(_) if !pid.trim().is_empty() => format!(" (process {})", pid.trim()),
                _ => String::new(),
            };
            return Err(HomeError::Busy { path: dir, by });
        }
        let note_pid = lock
            .set_len(0)
            .and_then(|()| lock.write_all(format!("{}\n", std::process::id()).as_bytes()));
        note_pid.map_err(failed("write the lock file", &lock_path))?;
        let node = identity(&dir)?;
        Ok(Self {
            dir,
            node,
            lock: Some(lock),
        })
    }

    /// The directory, absolute.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The node's identity.
    pub fn node(&self) -> Uuid {
        self.node
    }

    /// Lets another daemon use the directory.
    pub fn release(&mut self) {
        self.lock = None;
    }

    /// Whether log files will bypass the page cache.
    ///
    /// # Errors
    /// When they cannot although they must, or when nothing can be written at all.
    pub fn direct_io(&self, wanted: DirectIo) -> Result<bool, HomeError> {
        let path = self.dir.join("direct-io-probe");
        let failed = |what| {
            let path = path.clone();
            move |source| HomeError::Io { what, path, source }
        };
        let made = fresh::create(&mut OpenOptions::new(), &path);
        made.and_then(|mut file| file.write_all(&[0_u8; 4096]))
            .map_err(failed("write"))?;
        let flags = i32::try_from(OFlags::DIRECT.bits()).unwrap_or(0);
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(flags)
            .open(&path);
        std::fs::remove_file(&path).map_err(failed("remove"))?;
        match (opened, wanted) {
            // tmpfs accepts the flag since Linux 6.6 but has nothing to bypass: what it holds is memory.
            (Ok(_), _) if !is_memory(&self.dir) => Ok(true),
            (_, DirectIo::Auto) => Ok(false),
            (Ok(_), DirectIo::Require) => Err(HomeError::NoDirectIo {
                path: self.dir.clone(),
                reason: "it is held in memory".to_owned(),
            }),
            (Err(error), DirectIo::Require) => Err(HomeError::NoDirectIo {
                path: self.dir.clone(),
                reason: error.to_string(),
            }),
        }
    }

    /// Whether the directory lies on an ext4 that says that it has no journal: it keeps what is synced from a `kill -9`, but its own
    /// books do not survive a power cut.
    pub fn lacks_journal(&self) -> bool {
        let Ok(stat) = rustix::fs::stat(&self.dir) else {
            return false;
        };
        let (major, minor) = (rustix::fs::major(stat.st_dev), rustix::fs::minor(stat.st_dev));
        let Ok(block) = std::fs::read_link(format!("/sys/dev/block/{major}:{minor}")) else {
            return false;
        };
        let place = Path::new("/sys/fs/ext4").join(block.file_name().unwrap_or_default());
        std::fs::read(place.join("journal_task")).is_ok_and(|task| task.starts_with(b"<none>"))
    }
}

/// Whether the file system keeps its files in memory only.
fn is_memory(dir: &Path) -> bool {
    const TMPFS: i64 = 0x0102_1994;
    const RAMFS: i64 = 0x8584_58f6;
    rustix::fs::statfs(dir).is_ok_and(|stat| [TMPFS, RAMFS].contains(&stat.f_type))
}

/// The identity of the node whose data directory this is, if it has one.
pub(crate) fn identity_of(dir: &Path) -> Option<Uuid> {
    let bytes = std::fs::read(dir.join("node.json")).ok()?;
    let identity: Identity = serde_json::from_slice(&bytes).ok()?;
    Some(identity.node)
}

fn identity(dir: &Path) -> Result<Uuid, HomeError> {
    let path = dir.join("node.json");
    let foreign = |reason: String| HomeError::Foreign {
        path: path.clone(),
        reason,
    };
    match std::fs::read(&path) {
        Ok(bytes) => {
            let identity: Identity = serde_json::from_slice(&bytes)
                .map_err(|error| foreign(format!("this is not the identity of a Mofka node: {error}")))?;
            if identity.format_version != FORMAT_VERSION {
                return Err(foreign(format!(
                    "the data directory has format version {}, and this build knows version {FORMAT_VERSION}",
                    identity.format_version
                )));
            }
            Ok(identity.node)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let identity = Identity {
                node: Uuid::new_v4(),
                format_version: FORMAT_VERSION,
            };
            let text = serde_json::to_string_pretty(&identity).map_err(|error| foreign(error.to_string()))?;
            write_durably(&path, text.as_bytes()).map_err(|source| HomeError::Io {
                what: "write",
                path: path.clone(),
                source,
            })?;
            Ok(identity.node)
        }
        Err(source) => Err(HomeError::Io {
            what: "read",
            path,
            source,
        }),
    }
}

/// Replaces `path` by a file with this content: readers and crashes see the old one or the new one, never a part.
///
/// # Errors
/// What the system said.
pub(crate) fn write_durably(path: &Path, content: &[u8]) -> io::Result<()> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    std::fs::create_dir_all(parent)?;
    let beside = path.with_extension(format!("tmp-{}", std::process::id()));
    let mut file = fresh::create(&mut OpenOptions::new(), &beside)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    sync_names(parent)
}

/// Makes the names in a directory durable.
fn sync_names(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
