//! Finds `mofkad` and runs it.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::failure::{Failure, Outcome};

const PROGRAM: &str = "mofkad";
/// Lines of the daemon's log that a failure quotes, and how much of the log is read for them.
const QUOTED_LINES: usize = 5;
const QUOTED_BYTES: u64 = 64 << 10;

/// The daemon's program: beside this one, or else in `$PATH`.
pub(crate) fn find() -> Outcome<PathBuf> {
    let here = std::env::current_exe().ok();
    let beside = here.as_deref().and_then(Path::parent).map(Path::to_path_buf);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = beside
        .into_iter()
        .chain(std::env::split_paths(&path))
        .map(|dir| dir.join(PROGRAM))
        .find(|p| p.is_file());
    found.ok_or_else(|| {
        Failure::failed(format!(
            "{PROGRAM} is neither beside this program nor in $PATH: build or install it"
        ))
    })
}

/// A daemon that was started here.
#[derive(Debug)]
pub(crate) struct Daemon {
    child: Child,
    log_path: PathBuf,
    /// Where in the log this start begins.
    log_from: u64,
}

impl Daemon {
    /// Starts it in a process group of its own, so that a Ctrl-C meant for the tool does not reach it.
    pub(crate) fn spawn(arguments: &[OsString], log_path: &Path) -> Outcome<Self> {
        let program = find()?;
        let cannot_log =
            |e| Failure::failed(format!("cannot write the node's log {}: {e}", log_path.display()));
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(log_path)
            .map_err(cannot_log)?;
        let log_from = log.metadata().map_err(cannot_log)?.len();
        let child = Command::new(&program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(cannot_log)?)
            .stderr(log)
            .process_group(0)
            .spawn()
            .map_err(|e| Failure::failed(format!("cannot run {}: {e}", program.display())))?;
        Ok(Self {
            child,
            log_path: log_path.to_path_buf(),
            log_from,
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Calls `probe` until it gives something, the daemon ends, or the time is over.
    pub(crate) fn wait_ready<T>(
        &mut self,
        timeout: Duration,
        mut probe: impl FnMut() -> Option<T>,
    ) -> Outcome<T> {
        let started = Instant::now();
        loop {
            if let Some(ready) = probe() {
                return Ok(ready);
            }
            if let Some(status) = self
                .child
                .try_wait()
                .map_err(|e| Failure::failed(format!("cannot wait for {PROGRAM}: {e}")))?
            {
                return Err(Failure::failed(format!(
                    "the node did not start ({status}): {}",
                    self.last_words()
                )));
            }
            if started.elapsed() >= timeout {
                // A node that nobody knows of must not be left behind.
                self.kill();
                return Err(Failure::failed(format!(
                    "the node was not ready within {} s and was stopped: {}",
                    timeout.as_secs(),
                    self.last_words()
                )));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Kills it as `kill -9` does, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits until it is gone by itself; whether it was in time.
    pub(crate) fn wait_gone(&mut self, timeout: Duration) -> bool {
        let started = Instant::now();
        while started.elapsed() < timeout {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    }

    /// What it said last: its error, or else the last lines of its log.
    fn last_words(&self) -> String {
        let text = self.log_since_start().unwrap_or_default();
        // An error may have several lines, and is the last that it says.
        let mut marks = text.rmatch_indices("mofkad: ");
        let begin = marks.find(|(at, _)| {
            text.get(..*at)
                .is_some_and(|before| before.is_empty() || before.ends_with('\n'))
        });
        let error = begin.and_then(|(at, mark)| text.get(at + mark.len()..).map(str::trim_end));
        let quoted = || {
            let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
            lines
                .iter()
                .skip(lines.len().saturating_sub(QUOTED_LINES))
                .copied()
                .collect::<Vec<_>>()
                .join("\n")
        };
        match error.map_or_else(quoted, str::to_owned) {
            words if words.is_empty() => format!("it said nothing in {}", self.log_path.display()),
            words => words,
        }
    }

    fn log_since_start(&self) -> std::io::Result<String> {
        let mut log = File::open(&self.log_path)?;
        let bytes = log.metadata()?.len();
        log.seek(SeekFrom::Start(
            self.log_from.max(bytes.saturating_sub(QUOTED_BYTES)),
        ))?;
        let mut text = Vec::new();
        log.take(QUOTED_BYTES).read_to_end(&mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}
