//! A daemon to measure: started in a directory of its own, stopped and removed with everything it stored.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mofka_client::{Driver, DriverOptions};
use tempfile::TempDir;

const START_MAX: Duration = Duration::from_secs(20);

/// A running daemon.
pub(crate) struct Node {
    child: Child,
    dir: TempDir,
}

impl Node {
    /// Starts the `mofkad` that lies beside this program, in a new directory below `parent`.
    pub(crate) fn start(parent: &Path, shards: usize) -> Result<Self, String> {
        let dir = tempfile::Builder::new()
            .prefix("mofka-bench-")
            .tempdir_in(parent)
            .map_err(|e| e.to_string())?;
        let program = beside("mofkad")?;
        let log = std::fs::File::create(dir.path().join("log")).map_err(|e| e.to_string())?;
        let child = Command::new(&program)
            .args([
                "--listen",
                "tcp://127.0.0.1:0",
                "--log-level",
                "warn",
                "--shards",
                &shards.to_string(),
            ])
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(|e| format!("{}: {e}", program.display()))?;
        let mut node = Self { child, dir };
        let started = Instant::now();
        while !node.group_file().exists() {
            let ended = node.child.try_wait().map_err(|e| e.to_string())?;
            if ended.is_some() || started.elapsed() > START_MAX {
                let log = std::fs::read_to_string(node.dir.path().join("log")).unwrap_or_default();
                return Err(format!("mofkad did not start: {log}"));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(node)
    }

    /// Where it stores.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn group_file(&self) -> PathBuf {
        self.dir.path().join("mofka.json")
    }

    /// A connection of its own.
    pub(crate) fn driver(&self) -> Result<Driver, String> {
        Driver::connect(DriverOptions::group_file(self.group_file())).map_err(|e| e.to_string())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn beside(name: &str) -> Result<PathBuf, String> {
    let exe = std::env::current_exe().map_err(|e| e.to_string())?;
    let dirs = exe.ancestors().skip(1).take(2);
    let found = dirs.map(|dir| dir.join(name)).find(|path| path.exists());
    found.ok_or_else(|| {
        format!(
            "{name} is not beside {}: build it first (make build)",
            exe.display()
        )
    })
}
