//! A command of `mofka-ctl` that goes on until it is stopped.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::program;

/// The process, killed when dropped.
pub struct Tool {
    arguments: Vec<String>,
    dir: PathBuf,
    log: PathBuf,
    child: Option<Child>,
}

impl Tool {
    /// Starts `mofka-ctl` with these arguments in this directory; what it prints goes to the file `NAME.log` there.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(name: &str, dir: &Path, arguments: &[&str]) -> Self {
        let mut tool = Self {
            arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
            dir: dir.to_owned(),
            log: dir.join(format!("{name}.log")),
            child: None,
        };
        tool.start_again();
        tool
    }

    /// Starts it once more.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start_again(&mut self) {
        let log = File::options().create(true).append(true).open(&self.log).unwrap();
        let child = Command::new(program("mofka-ctl"))
            .args(&self.arguments)
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
    }

    /// Kills it without warning. Says whether it still ran.
    ///
    /// # Panics
    /// When it was not started.
    pub fn kill(&mut self) -> bool {
        let mut child = self.child.take().expect("it was started");
        child.kill().ok();
        child.wait().unwrap().signal() == Some(9)
    }

    /// How it ended, if it did by itself.
    ///
    /// # Panics
    /// When it was not started.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.as_mut().expect("it was started").try_wait().unwrap()
    }

    /// Asks it to stop and waits for that.
    ///
    /// # Panics
    /// When it does not stop.
    pub fn terminate(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("it was started");
        let pid = i32::try_from(child.id()).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), Signal::TERM).unwrap();
        let started = Instant::now();
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status;
            }
            assert!(
                started.elapsed() < Duration::from_secs(60),
                "it does not stop:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What it printed.
    ///
    /// # Panics
    /// When that cannot be read.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().ok();
            child.wait().ok();
        }
        if std::thread::panicking() {
            eprintln!("--- what {:?} printed ---\n{}", self.arguments, self.log());
        }
    }
}
