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
    shards: usize,
    listen: Listen,
}

/// Where a daemon listens.
#[derive(Clone, Copy)]
pub(crate) enum Listen {
    Tcp,
    /// A socket in its directory.
    Unix,
}

impl Node {
    /// Starts the `mofkad` that lies beside this program, in a new directory below `parent`. It listens on TCP.
    pub(crate) fn start(parent: &Path, shards: usize) -> Result<Self, String> {
        Self::start_on(parent, shards, Listen::Tcp)
    }

    /// The same, with a choice of where it listens.
    pub(crate) fn start_on(parent: &Path, shards: usize, listen: Listen) -> Result<Self, String> {
        let dir = tempfile::Builder::new()
            .prefix("mofka-bench-")
            .tempdir_in(parent)
            .map_err(|e| e.to_string())?;
        let child = spawn(dir.path(), shards, listen)?;
        let mut node = Self {
            child,
            dir,
            shards,
            listen,
        };
        node.wait_until_ready()?;
        Ok(node)
    }

    /// CPU time of the daemon so far: of the threads that it has now, and of the kernel's workers for them.
    pub(crate) fn cpu_time(&self) -> Duration {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id()));
        let spent = |task: std::io::Result<std::fs::DirEntry>| {
            // Nanoseconds on a core come first.
            let text = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
            text.split_whitespace().next()?.parse::<u64>().ok()
        };
        let tasks = tasks.into_iter().flatten();
        Duration::from_nanos(tasks.filter_map(spent).sum())
    }

    /// Ends it as `kill -9` does.
    pub(crate) fn kill(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }

    /// Starts it again where it was before it was killed.
    pub(crate) fn start_again(&mut self) -> Result<(), String> {
        std::fs::remove_file(self.group_file()).map_err(|e| e.to_string())?;
        self.child = spawn(self.dir.path(), self.shards, self.listen)?;
        self.wait_until_ready()
    }

    fn wait_until_ready(&mut self) -> Result<(), String> {
        let started = Instant::now();
        while !self.group_file().exists() {
            let ended = self.child.try_wait().map_err(|e| e.to_string())?;
            if ended.is_some() || started.elapsed() > START_MAX {
                let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
                return Err(format!("mofkad did not start: {log}"));
            }
            std::thread::sleep(Duration::from_micros(500));
        }
        Ok(())
    }

    /// All meta and data files of its segments, sorted.
    pub(crate) fn segment_files(&self) -> Result<Vec<PathBuf>, String> {
        let mut files = Vec::new();
        segment_files(self.dir.path(), &mut files).map_err(|e| e.to_string())?;
        files.sort();
        Ok(files)
    }

    /// The group file that it writes.
    pub(crate) fn group_file(&self) -> PathBuf {
        self.dir.path().join("mofka.json")
    }

    /// The same, without shared memory.
    pub(crate) fn driver_over_sockets(&self) -> Result<Driver, String> {
        let options = DriverOptions {
            shared_memory: None,
            ..DriverOptions::group_file(self.group_file())
        };
        Driver::connect(options).map_err(|e| e.to_string())
    }

    /// A connection of its own.
    pub(crate) fn driver(&self) -> Result<Driver, String> {
        Driver::connect(DriverOptions::group_file(self.group_file())).map_err(|e| e.to_string())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(dir: &Path, shards: usize, listen: Listen) -> Result<Child, String> {
    let program = beside("mofkad")?;
    let address = match listen {
        Listen::Tcp => "tcp://127.0.0.1:0".to_owned(),
        Listen::Unix => format!(
            "unix://{}/mofka.sock",
            dir.canonicalize().map_err(|e| e.to_string())?.display()
        ),
    };
    let log = std::fs::File::create(dir.join("log")).map_err(|e| e.to_string())?;
    Command::new(&program)
        .args([
            "--listen",
            &address,
            "--log-level",
            "warn",
            "--shards",
            &shards.to_string(),
        ])
        .current_dir(dir)
        .stdin(Stdio::null())
        .stderr(log)
        .spawn()
        .map_err(|e| format!("{}: {e}", program.display()))
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

fn segment_files(dir: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            segment_files(&path, files)?;
        } else if path
            .extension()
            .is_some_and(|name| name == "meta" || name == "data")
        {
            files.push(path);
        }
    }
    Ok(())
}
