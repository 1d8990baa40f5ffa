//! A real node for system tests: starts `mofkad` in a directory of its own, kills it, starts it again.

#![forbid(unsafe_code)]

pub mod browser;
pub mod disk;
pub mod http;
pub mod library;
pub mod raw;
pub mod raw_ring;
pub mod tool;

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::disk::LoopDisk;
use mofka_client::{Driver, DriverOptions};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// How long a daemon may take to be ready.
const START_MAX: Duration = Duration::from_secs(20);

/// Where the programs under test are: what `make` says, else beside the tests.
pub fn program(name: &str) -> PathBuf {
    let beside = std::env::current_exe()
        .ok()
        .and_then(|exe| Some(exe.parent()?.parent()?.to_path_buf()));
    let dirs = std::env::var_os("MOFKA_BIN_DIR")
        .map(PathBuf::from)
        .into_iter()
        .chain(beside);
    for dir in dirs {
        let path = dir.join(name);
        if path.exists() {
            return path;
        }
    }
    panic!("{name} is not built: run `make build`, or set MOFKA_BIN_DIR to where it is");
}

/// A daemon and everything it stores, gone when dropped.
pub struct Node {
    /// Unmounted before the directory that it is mounted in is removed.
    disk: Option<LoopDisk>,
    dir: TempDir,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    child: Option<Child>,
    log: File,
}

impl Node {
    /// Starts a daemon with these arguments in an empty directory, and waits until it is ready.
    ///
    /// # Panics
    /// When it is not ready in time, with what it logged.
    pub fn start(arguments: &[&str]) -> Self {
        let mut node = Self::prepare(arguments);
        node.start_again();
        node
    }

    /// A node that is not started yet.
    ///
    /// # Panics
    /// When its directory cannot be made.
    pub fn prepare(arguments: &[&str]) -> Self {
        // Not in /tmp: it may be a file system without direct I/O.
        let base = std::env::current_exe().unwrap().parent().unwrap().join("nodes");
        std::fs::create_dir_all(&base).unwrap();
        let dir = tempfile::Builder::new().prefix("node-").tempdir_in(base).unwrap();
        let log = File::options()
            .create(true)
            .append(true)
            .read(true)
            .open(dir.path().join("log"))
            .unwrap();
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        Self {
            disk: None,
            dir,
            arguments,
            environment: Vec::new(),
            child: None,
            log,
        }
    }

    /// With a variable in its environment, from the next start on.
    pub fn set_env(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// A node that is not started yet, with a file system of its own to store on. Nothing, and a line that says why, on
    /// a machine that cannot make one.
    ///
    /// # Panics
    /// Where `MOFKA_TORTURE` is set and the machine cannot.
    pub fn prepare_with_disk(arguments: &[&str], bytes: u64) -> Option<Self> {
        let mut node = Self::prepare(arguments);
        node.disk = Some(LoopDisk::make_or_skip(node.dir(), bytes)?);
        Some(node)
    }

    /// Its file system.
    ///
    /// # Panics
    /// When it has none of its own.
    pub fn disk(&mut self) -> &mut LoopDisk {
        self.disk.as_mut().expect("the node was given a file system")
    }

    /// Where the node runs.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The file that names its addresses.
    pub fn group_file(&self) -> PathBuf {
        self.dir().join("mofka.json")
    }

    /// Where it stores.
    pub fn data_dir(&self) -> PathBuf {
        self.dir().join("mofka-data")
    }

    /// Its process.
    ///
    /// # Panics
    /// When it does not run.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the node runs").id()
    }

    /// Starts the daemon, in the same directory as before, and waits until it is ready.
    ///
    /// # Panics
    /// When it is not ready in time, with what it logged.
    pub fn start_again(&mut self) {
        assert!(self.child.is_none(), "the node runs already");
        std::fs::remove_file(self.group_file()).ok();
        let child = Command::new(program("mofkad"))
            .args(&self.arguments)
            .envs(self.environment.iter().cloned())
            .current_dir(self.dir())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(self.log.try_clone().unwrap())
            .spawn()
            .unwrap();
        self.child = Some(child);
        let started = Instant::now();
        while !self.group_file().exists() {
            let ended = self.child.as_mut().and_then(|child| child.try_wait().unwrap());
            assert!(
                ended.is_none(),
                "mofkad ended at once ({ended:?}):\n{}",
                self.log()
            );
            assert!(
                started.elapsed() < START_MAX,
                "mofkad is not ready after {START_MAX:?}:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Kills it without warning.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("the node runs");
        child.kill().unwrap();
        let status = child.wait().unwrap();
        assert_eq!(
            status.signal(),
            Some(9),
            "it ended by itself before it was killed:\n{}",
            self.log()
        );
    }

    /// Asks it to stop and waits for that.
    ///
    /// # Panics
    /// When it does not run, or does not stop.
    pub fn terminate(&mut self) -> ExitStatus {
        let pid = i32::try_from(self.pid()).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), Signal::TERM).unwrap();
        self.wait(Duration::from_secs(20))
    }

    /// Waits until it ends by itself.
    ///
    /// # Panics
    /// When it does not.
    pub fn wait(&mut self, most: Duration) -> ExitStatus {
        let started = Instant::now();
        let child = self.child.as_mut().expect("the node runs");
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                self.child = None;
                return status;
            }
            if started.elapsed() >= most {
                let log = self.log();
                panic!("mofkad does not stop:\n{log}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What it logged.
    ///
    /// # Panics
    /// When the log cannot be read.
    pub fn log(&self) -> String {
        let mut file = self.log.try_clone().unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        text
    }

    /// A driver for it.
    ///
    /// # Panics
    /// When it cannot be reached.
    pub fn driver(&self) -> Driver {
        Driver::connect(DriverOptions::group_file(self.group_file())).unwrap()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().ok();
            child.wait().ok();
        }
        if std::thread::panicking() {
            eprintln!("--- what the node logged ---\n{}", self.log());
        }
    }
}

/// A number from the environment, or `otherwise`: how long a test goes on, or where it begins.
///
/// # Panics
/// When it is not a number.
pub fn scale(name: &str, otherwise: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{name} is {text:?}, not a number")),
        Err(_) => otherwise,
    }
}

/// Numbers that follow from a seed, so that a test that failed can be repeated.
pub struct Random(u64);

impl Random {
    /// The numbers of this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next number, below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}
