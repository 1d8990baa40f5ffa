//! How commands print: one JSON value with `--json`, text otherwise.

use std::io::{self, IsTerminal, Write};

use serde_json::Value;

use crate::failure::{Failure, Outcome};

/// Where and how to print.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    json: bool,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    pub(crate) fn is_json(self) -> bool {
        self.json
    }

    /// Prints the value, or the text that says the same.
    pub(crate) fn print(self, value: &Value, text: impl FnOnce() -> String) -> Outcome {
        match self.json {
            true => line(&value.to_string()),
            false => line(&printable(&text())),
        }
    }
}

/// Whether progress may be drawn: standard error is where it goes.
pub(crate) fn on_terminal() -> bool {
    io::stderr().is_terminal()
}

/// Names come from others: what would move the terminal's cursor or change its colours is written as an escape. Line breaks
/// stay.
pub(crate) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => out.push(c),
            c if c.is_control() => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out
}

/// Prints a line on standard output.
pub(crate) fn line(text: &str) -> Outcome {
    match text {
        "" => Ok(()),
        text => raw(format!("{text}\n").as_bytes()),
    }
}

/// Prints bytes on standard output. A reader that went away is a failure, not a panic.
pub(crate) fn raw(bytes: &[u8]) -> Outcome {
    let mut out = io::stdout().lock();
    out.write_all(bytes)
        .and_then(|()| out.flush())
        .map_err(|e| Failure::writing("to standard output", &e))
}

/// Rows under heads, in columns as wide as needed.
pub(crate) fn table(heads: &[&str], rows: &[Vec<String>]) -> String {
    let cell = |row: &[String], column: usize| match row.get(column) {
        // A line break would begin another row.
        Some(text) => printable(text).replace('\n', "\\n"),
        None => String::new(),
    };
    let widths: Vec<usize> = heads
        .iter()
        .enumerate()
        .map(|(column, head)| {
            rows.iter()
                .map(|row| cell(row, column).chars().count())
                .fold(head.len(), usize::max)
        })
        .collect();
    let heads: Vec<String> = heads.iter().map(|head| (*head).to_owned()).collect();
    let render = |row: &[String]| {
        let cells = widths
            .iter()
            .enumerate()
            .map(|(column, width)| format!("{:width$}", cell(row, column)));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    std::iter::once(render(&heads))
        .chain(rows.iter().map(|row| render(row)))
        .collect::<Vec<_>>()
        .join("\n")
}

/// A count of bytes for people.
pub(crate) fn bytes_text(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in UNITS {
        if value < 1024.0 {
            break;
        }
        (value, unit) = (value / 1024.0, next);
    }
    if unit == "B" {
        format!("{bytes} B")
    } else {
        format!("{value:.1} {unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = vec![
            vec!["a".to_owned(), "1".to_owned()],
            vec!["longer".to_owned(), "22".to_owned()],
        ];
        assert_eq!(table(&["name", "n"], &rows), "name    n\na       1\nlonger  22");
    }

    #[test]
    fn what_moves_the_cursor_is_written_as_an_escape() {
        let rows = vec![vec!["\u{1b}[31mred\n\u{9b}".to_owned(), "1".to_owned()]];
        assert_eq!(
            table(&["name", "n"], &rows),
            "name                   n\n\\u{1b}[31mred\\n\\u{9b}  1"
        );
        assert_eq!(printable("a\r\n\u{e4}\u{7f}"), "a\\r\n\u{e4}\\u{7f}");
    }

    #[test]
    fn bytes_are_rounded_sensibly() {
        assert_eq!(
            ["0 B", "1023 B", "1.0 KiB", "1.5 MiB"],
            [0, 1023, 1024, 3 << 19].map(bytes_text)
        );
    }
}
