//! Another system to measure: a process of our own on a free port, in a directory of its own on the measured device,
//! killed and removed with everything it stored.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

const START_MAX: Duration = Duration::from_secs(20);

/// Installs all that `find` looks for.
pub(crate) const INSTALL: &str = "benches/compare/install";

/// A running server of another system.
pub(crate) struct Peer {
    child: Child,
    /// Removed when this is dropped, after the process.
    dir: TempDir,
    port: u16,
}

impl Peer {
    /// Starts `program` in a new directory below `parent`; `arguments` gets that directory and the port to listen on.
    pub(crate) fn start(
        program: &Path,
        parent: &Path,
        arguments: impl FnOnce(&Path, u16) -> Result<Vec<String>, String>,
    ) -> Result<Self, String> {
        let dir = tempfile::Builder::new()
            .prefix("mofka-bench-")
            .tempdir_in(parent)
            .map_err(|e| e.to_string())?;
        // A server that is told to choose its port does not say which.
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .map_err(|e| format!("no free port: {e}"))?
            .port();
        let log = std::fs::File::create(dir.path().join("log")).map_err(|e| e.to_string())?;
        let errors = log.try_clone().map_err(|e| e.to_string())?;
        let child = Command::new(program)
            .args(arguments(dir.path(), port)?)
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .map_err(|e| format!("{}: {e}", program.display()))?;
        let mut peer = Self { child, dir, port };
        let started = Instant::now();
        while peer.connect().is_err() {
            let ended = peer.child.try_wait().map_err(|e| e.to_string())?;
            if ended.is_some() || started.elapsed() > START_MAX {
                let log = std::fs::read_to_string(peer.dir.path().join("log")).unwrap_or_default();
                return Err(format!("{} did not start: {log}", program.display()));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(peer)
    }

    /// A connection of its own.
    pub(crate) fn connect(&self) -> Result<TcpStream, String> {
        TcpStream::connect(("127.0.0.1", self.port)).map_err(|e| e.to_string())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A program that `INSTALL` put under the target directory, or else one on the path.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let exe = std::env::current_exe().ok();
    let target = exe.as_deref().and_then(|exe| exe.ancestors().nth(2));
    let installed = target.map(|target| target.join("peers/bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut dirs = installed.into_iter().chain(std::env::split_paths(&path));
    dirs.find_map(|dir| Some(dir.join(name)).filter(|program| program.is_file()))
}
