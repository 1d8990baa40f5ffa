//! The demonstration's node: a real `mofkad` in a directory of its own.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mofka_net::control::NodeStatus;

use crate::daemon::Daemon;
use crate::failure::{Failure, Outcome};
use crate::node::{self, Place};

/// How long a start or a stop may take before the demonstration has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// A node in a directory.
pub(super) struct DemoNode {
    directory: PathBuf,
    daemon: Option<Daemon>,
}

/// A file of the node's data directory.
pub(super) struct StoredFile {
    /// Path below the data directory.
    pub(super) path: String,
    /// Its length.
    pub(super) bytes: u64,
    /// What it takes on the device.
    pub(super) allocated_bytes: u64,
}

impl DemoNode {
    /// Prepares the directory: configuration with two shards.
    pub(super) fn prepare(directory: &Path) -> Outcome<Self> {
        let cannot = |e| Failure::failed(format!("cannot prepare {}: {e}", directory.display()));
        std::fs::create_dir_all(directory).map_err(cannot)?;
        let node = Self {
            directory: directory.to_path_buf(),
            daemon: None,
        };
        let config = serde_json::json!({
            "data_dir": node.data_dir(), "group_file": node.group_file(), "shards": 2,
            // A demonstration should run where the temporary directory has no direct I/O, and say so.
            "direct_io": "auto",
        });
        std::fs::write(node.config_file(), format!("{config:#}\n")).map_err(cannot)?;
        Ok(node)
    }

    fn config_file(&self) -> PathBuf {
        self.directory.join("config.json")
    }

    fn group_file(&self) -> PathBuf {
        self.directory.join("mofka.json")
    }

    fn data_dir(&self) -> PathBuf {
        self.directory.join("data")
    }

    pub(super) fn place(&self) -> Place {
        Place::GroupFile(self.group_file())
    }

    /// Starts the daemon; gives its own account of itself and the time it took.
    pub(super) fn start(&mut self) -> Outcome<(NodeStatus, Duration)> {
        let started = Instant::now();
        let arguments: [OsString; 2] = ["-c".into(), self.config_file().into()];
        let mut daemon = Daemon::spawn(&arguments, &self.directory.join("mofkad.log"))?;
        let (pid, place) = (daemon.pid(), self.place());
        // The group file of the life before may still be there, so only this process's answer counts.
        let ready = || node::status(&place).ok().filter(|status| status.pid == pid);
        let status = daemon.wait_ready(PATIENCE, ready)?;
        self.daemon = Some(daemon);
        Ok((status, started.elapsed()))
    }

    /// `kill -9`.
    pub(super) fn kill(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.kill();
        }
    }

    /// A clean stop, by request.
    pub(super) fn shutdown(&mut self) -> Outcome {
        let Some(mut daemon) = self.daemon.take() else {
            return Ok(());
        };
        node::connect(&self.place())?
            .shutdown_node(0)
            .map_err(node::failure)?;
        if daemon.wait_gone(PATIENCE) {
            return Ok(());
        }
        daemon.kill();
        Err(Failure::check(format!(
            "the node did not stop within {} s",
            PATIENCE.as_secs()
        )))
    }

    /// All files below the data directory, by path.
    pub(super) fn files(&self) -> Outcome<Vec<StoredFile>> {
        use std::os::unix::fs::MetadataExt;
        let data_dir = self.data_dir();
        let cannot = |e| Failure::failed(format!("cannot list {}: {e}", data_dir.display()));
        let mut found = Vec::new();
        let mut directories = vec![data_dir.clone()];
        while let Some(directory) = directories.pop() {
            for entry in std::fs::read_dir(&directory).map_err(cannot)? {
                let entry = entry.map_err(cannot)?;
                let facts = entry.metadata().map_err(cannot)?;
                if facts.is_dir() {
                    directories.push(entry.path());
                } else if facts.is_file() {
                    let path = entry.path();
                    let path = path
                        .strip_prefix(&data_dir)
                        .unwrap_or(&path)
                        .display()
                        .to_string();
                    found.push(StoredFile {
                        path,
                        bytes: facts.len(),
                        allocated_bytes: facts.blocks() * 512,
                    });
                }
            }
        }
        found.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }
}

impl Drop for DemoNode {
    fn drop(&mut self) {
        self.kill();
    }
}
