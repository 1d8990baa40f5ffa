//! What can be wrong with files, how bad that is, and which exit code says so.

use std::path::Path;

use serde_json::{Value, json};

/// How bad a problem is. The worst one gives the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Severity {
    /// Worth knowing. A torn tail is one: nothing in it was ever reported durable, and the daemon cuts it.
    Note,
    /// A newer program made the file.
    Newer,
    /// The file is not what belongs there, or its header is lost.
    Foreign,
    /// Something that had been durable is gone or changed.
    Damage,
}

impl Severity {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Newer => "unknown_version",
            Self::Foreign => "foreign",
            Self::Damage => "damage",
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) severity: Severity,
    /// Name of the kind, stable for programs.
    pub(super) kind: &'static str,
    /// Name of the file it is in.
    pub(super) file: String,
    pub(super) text: String,
}

impl Problem {
    pub(super) fn new(severity: Severity, kind: &'static str, path: &Path, text: impl Into<String>) -> Self {
        Self {
            severity,
            kind,
            file: file_name(path),
            text: text.into(),
        }
    }

    pub(super) fn note(kind: &'static str, path: &Path, text: impl Into<String>) -> Self {
        Self::new(Severity::Note, kind, path, text)
    }

    pub(super) fn damage(kind: &'static str, path: &Path, text: impl Into<String>) -> Self {
        Self::new(Severity::Damage, kind, path, text)
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "severity": self.severity.word(),
            "kind": self.kind,
            "file": self.file,
            "text": self.text,
        })
    }

    pub(super) fn line(&self) -> String {
        match self.severity {
            Severity::Note => format!("note: {}: {}", self.file, self.text),
            _ => format!(
                "{}: {}: {}",
                self.severity.word().to_uppercase(),
                self.file,
                self.text
            ),
        }
    }
}

pub(super) fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str());
    name.to_string_lossy().into_owned()
}
