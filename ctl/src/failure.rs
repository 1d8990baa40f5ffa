//! Why a command ends without success, and the exit code that says so.

use std::process::ExitCode;
use std::{fmt, io};

/// What kind of failure, which is what the exit code tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The operation was tried and failed.
    Failed,
    /// The command line makes no sense.
    Usage,
    /// The node could not be found or reached.
    Unreachable,
    /// The operation worked, and a check of its outcome did not hold.
    CheckFailed,
    /// Files are not what belongs there, or their headers are lost.
    Foreign,
    /// Files were made by a newer program.
    Newer,
    /// Whoever read what is printed went away, and knows why: nothing is said.
    ReaderGone,
}

/// The exit codes, as `--help` prints them.
pub(crate) const EXIT_CODES: &str = "Exit codes: 0 done; 1 the operation failed; 2 wrong usage; 3 the node cannot be \
                                     found or reached; 4 a check failed; 141 whoever read the output went away before \
                                     its end (nothing is said then).";

/// The exit codes of `log verify`.
pub(crate) const VERIFY_EXIT_CODES: &str = "Exit codes: 0 clean, or torn tails only (verdicts A to E, and H of a catalog or \
                                            cursors); 4 damage: something that had been durable is gone or changed \
                                            (F, G, and H of a segment), or segments do not follow each other; 5 foreign bytes (I); 6 unknown version (J). \
                                            Damage counts most, then foreign bytes. 141 whoever read the \
                                            output went away before its end.";

/// A failure with its message. Printed as `Error: message` on standard error; at the start of what would go on until it is
/// stopped, as `Fatal error: message`.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    kind: Kind,
    message: String,
    is_fatal: bool,
}

impl Failure {
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self {
            kind: Kind::Failed,
            message: message.into(),
            is_fatal: false,
        }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self {
            kind: Kind::Usage,
            message: message.into(),
            is_fatal: false,
        }
    }

    pub(crate) fn unreachable(message: impl Into<String>) -> Self {
        Self {
            kind: Kind::Unreachable,
            message: message.into(),
            is_fatal: false,
        }
    }

    pub(crate) fn check(message: impl Into<String>) -> Self {
        Self {
            kind: Kind::CheckFailed,
            message: message.into(),
            is_fatal: false,
        }
    }

    pub(crate) fn foreign(message: impl Into<String>) -> Self {
        Self {
            kind: Kind::Foreign,
            message: message.into(),
            is_fatal: false,
        }
    }

    pub(crate) fn newer(message: impl Into<String>) -> Self {
        Self {
            kind: Kind::Newer,
            message: message.into(),
            is_fatal: false,
        }
    }

    /// Something could not be written, to standard output mostly.
    pub(crate) fn writing(what: &str, error: &io::Error) -> Self {
        Self {
            kind: match error.kind() {
                io::ErrorKind::BrokenPipe => Kind::ReaderGone,
                _ => Kind::Failed,
            },
            message: format!("cannot write {what}: {error}"),
            is_fatal: false,
        }
    }

    pub(crate) fn fatal(message: impl Into<String>) -> Self {
        Self::failed(message).at_start()
    }

    /// The same failure, at the start of what would go on until it is stopped.
    pub(crate) fn at_start(self) -> Self {
        Self {
            is_fatal: true,
            ..self
        }
    }

    /// What stands before its message.
    pub(crate) fn label(&self) -> &'static str {
        if self.is_fatal { "Fatal error" } else { "Error" }
    }

    /// The same kind of failure, with what was being done in front.
    pub(crate) fn while_doing(self, what: impl fmt::Display) -> Self {
        Self {
            message: format!("{what}: {}", self.message),
            ..self
        }
    }

    /// The same failure, with another beside it.
    pub(crate) fn and(self, other: &Self) -> Self {
        Self {
            message: format!("{}; {}", self.message, other.message),
            ..self
        }
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self.kind {
            Kind::Failed => 1,
            Kind::Usage => 2,
            Kind::Unreachable => 3,
            Kind::CheckFailed => 4,
            Kind::Foreign => 5,
            Kind::Newer => 6,
            // What a shell says of a program that SIGPIPE ended. Not 0: what was to be done or checked may not have been.
            Kind::ReaderGone => 141,
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// The outcome of a command.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;
