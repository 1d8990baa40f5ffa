//! Lines of the Blue Gene/L log.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::failure::{Failure, Outcome};

/// What the copy in this repository holds, counted once by other means.
pub(crate) const FILE_NAME: &str = "BGL_2k.log";
pub(crate) const LINE_COUNT: usize = 2000;
pub(crate) const ALERT_COUNT: usize = 143;

/// One line: `label time date node time node type component level message`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// The line as it is, without its end.
    pub(crate) text: String,
    pub(crate) label: String,
    unix_time: u64,
    node: String,
    kind: String,
    component: String,
    level: String,
}

impl Line {
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let label = words.next()?.to_owned();
        let unix_time = words.next()?.parse().ok()?;
        let node = words.nth(1)?.to_owned();
        let kind = words.nth(2)?.to_owned();
        let component = words.next()?.to_owned();
        let level = words.next()?.to_owned();
        Some(Self {
            text: text.to_owned(),
            label,
            unix_time,
            node,
            kind,
            component,
            level,
        })
    }

    pub(crate) fn is_alert(&self) -> bool {
        self.label != "-"
    }

    /// The metadata of the line's event; its data is the text.
    pub(crate) fn metadata(&self) -> Value {
        json!({
            "label": self.label, "time": self.unix_time, "node": self.node,
            "type": self.kind, "component": self.component, "level": self.level,
        })
    }
}

/// The lines of `input`, or else of the repository's copy.
pub(crate) fn load(input: Option<&Path>) -> Outcome<Vec<Line>> {
    let path = input.map_or_else(default_path, Path::to_path_buf);
    let text = std::fs::read_to_string(&path).map_err(|e| {
        Failure::failed(format!(
            "cannot read {}: {e}; name another log with --input",
            path.display()
        ))
    })?;
    let parse = |(n, line): (usize, &str)| {
        Line::parse(line)
            .ok_or_else(|| Failure::failed(format!("{}:{}: not a line of a BGL log", path.display(), n + 1)))
    };
    let lines = text.lines().enumerate().map(parse).collect::<Outcome<Vec<_>>>()?;
    if path.ends_with(FILE_NAME) {
        let alerts = lines.iter().filter(|line| line.is_alert()).count();
        if (lines.len(), alerts) != (LINE_COUNT, ALERT_COUNT) {
            return Err(Failure::check(format!(
                "{} has {} lines and {alerts} alerts instead of {LINE_COUNT} and {ALERT_COUNT}",
                path.display(),
                lines.len()
            )));
        }
    }
    Ok(lines)
}

/// In the working directory when that is the repository, or else where this program was built.
fn default_path() -> PathBuf {
    let relative = Path::new("tests/data/loghub").join(FILE_NAME);
    if relative.exists() {
        return relative;
    }
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map_or(relative.clone(), |root| root.join(&relative))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repository_s_copy_is_whole() {
        let lines = load(None).unwrap();
        assert_eq!(lines.len(), LINE_COUNT);
        assert_eq!(lines.iter().filter(|line| line.is_alert()).count(), ALERT_COUNT);
        assert_eq!(
            lines[0].metadata(),
            json!({
                "label": "-", "time": 1_117_838_570, "node": "R02-M1-N0-C:J12-U11",
                "type": "RAS", "component": "KERNEL", "level": "INFO",
            })
        );
        assert!(!lines[0].text.ends_with('\r'));
    }

    #[test]
    fn what_is_no_such_log_is_refused() {
        assert!(Line::parse("- x y").is_none());
        assert!(
            load(Some(Path::new("/no/such/file")))
                .unwrap_err()
                .to_string()
                .contains("--input")
        );
    }
}
