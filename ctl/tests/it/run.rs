//! Runs programs in a directory of their own.

use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use crate::schema;

/// What a run gave.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Ran {
    /// Standard output of a run that succeeded.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!((self.code, self.err.as_str()), (Some(0), ""), "{self:?}");
        self.out
    }

    /// A failure with this exit code: `Error:` with all of `words` on standard error, and no panic.
    #[track_caller]
    pub(crate) fn fails(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(
            self.err.starts_with("Error: ") && !self.err.contains("panicked"),
            "{self:?}"
        );
        words
            .iter()
            .for_each(|word| assert!(self.err.contains(word), "no {word:?} in {self:?}"));
    }
}

/// A working directory with the tool in it under all of its names. A node that was started there is stopped at the end.
pub(crate) struct Bench {
    directory: TempDir,
}

/// The tool that `make` built, beside the daemon that it built; or else cargo's.
fn tool() -> PathBuf {
    let made = std::env::var_os("MOFKA_BIN_DIR").map(|dir| PathBuf::from(dir).join("mofka-ctl"));
    made.filter(|path| path.exists())
        .unwrap_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_mofka-ctl")))
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
        }
    }

    /// A directory for tests that start a node.
    pub(crate) fn with_daemon() -> Self {
        let daemon = tool().with_file_name("mofkad");
        assert!(
            daemon.exists(),
            "{} is not built: `make build`, and set MOFKA_BIN_DIR",
            daemon.display()
        );
        Self::new()
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The tool under this name, in the working directory.
    pub(crate) fn command(&self, name: &str) -> Command {
        let link = self.path().join(name);
        if !link.exists() {
            symlink(tool(), &link).unwrap();
        }
        let mut command = Command::new(link);
        command.current_dir(self.path());
        command
    }

    /// Runs the tool under this name with arguments that are separated by blanks. JSON that it prints must be as its schema
    /// says.
    #[track_caller]
    pub(crate) fn run(&self, line: &str) -> Ran {
        self.run_with_input(line, b"")
    }

    /// The same, with this on standard input.
    #[track_caller]
    pub(crate) fn run_with_input(&self, line: &str, input: &[u8]) -> Ran {
        let mut words = line.split_whitespace();
        let mut command = self.command(words.next().unwrap());
        command
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // A tool that fails early does not read it.
        let _ = child.stdin.take().unwrap().write_all(input);
        let ran = Ran::from(child.wait_with_output().unwrap());
        schema::check(line, &ran.out);
        ran
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if self.path().join("mofka.json").exists() {
            self.run("mofka-ctl shutdown");
        }
    }
}
