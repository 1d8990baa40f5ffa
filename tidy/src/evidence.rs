//! Holds the tables of behaviour against the tests that they name.
//!
//! A table whose last column is headed `Test` names evidence there, each row at least one test:
//!
//! ```text
//! `client/src/data.rs`: `a_test`, `another_test`, p `a_third_one`
//! ```
//!
//! A path holds for the names behind it. A letter stands for a path if the section says so: *in `client/tests/it/producing.rs`
//! (`p`)*. A path that ends with `/` stands for all sources below it.

use std::collections::{BTreeMap, BTreeSet};

use crate::tree::File;

/// The document with such tables.
pub const DOCUMENT: &str = "docs/COMPATIBILITY.md";

/// Complaints about tests that are not there, and rows that name none.
pub fn check(document: &File, sources: &[File]) -> Vec<String> {
    let tests: Vec<(&str, BTreeSet<&str>)> = sources
        .iter()
        .map(|source| (source.path.as_str(), tests(&source.text)))
        .collect();
    let mut complaints = Vec::new();
    let mut letters = BTreeMap::new();
    let mut in_table = false;
    for (n, line) in document.text.lines().enumerate() {
        if line.starts_with("## ") {
            letters.clear();
        }
        let Some(cell) = last_cell(line) else {
            in_table = false;
            letters.extend(defined_letters(line));
            continue;
        };
        if cell == "Test" {
            in_table = true;
        } else if in_table && !is_rule(cell) {
            let complain = |reason: String| format!("{}:{}: {reason}", document.path, n + 1);
            complaints.extend(check_cell(cell, &letters, &tests).into_iter().map(complain));
        }
    }
    complaints
}

fn check_cell(cell: &str, letters: &BTreeMap<&str, &str>, tests: &[(&str, BTreeSet<&str>)]) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut place: Option<&str> = None;
    let mut named = 0;
    for (n, part) in cell.split('`').enumerate() {
        if n % 2 == 0 {
            // Outside of code, the last word may be a letter.
            let word = part.split_whitespace().next_back().unwrap_or_default();
            match letters.get(word) {
                Some(path) => place = Some(path),
                None if word.len() == 1 && word.chars().all(char::is_alphabetic) => {
                    complaints.push(format!("\"{word}\" stands for no file here"));
                }
                None => {}
            }
        } else if part.contains('/') {
            place = Some(part);
            if !tests.iter().any(|(path, _)| is_at(path, part)) {
                complaints.push(format!("{part} is not there"));
            }
        } else {
            named += 1;
            let Some(place) = place else {
                complaints.push(format!("in which file is {part}?"));
                continue;
            };
            let exists = tests
                .iter()
                .any(|(path, tests)| is_at(path, place) && tests.contains(part));
            if !exists {
                complaints.push(format!("there is no test {part} in {place}"));
            }
        }
    }
    if named == 0 {
        complaints.push("which test shows this?".to_owned());
    }
    complaints
}

fn is_at(path: &str, place: &str) -> bool {
    path == place || place.ends_with('/') && path.starts_with(place)
}

/// The last cell of a table's row.
fn last_cell(line: &str) -> Option<&str> {
    let inner = line.trim().strip_prefix('|')?.strip_suffix('|')?;
    Some(inner.rsplit('|').next()?.trim())
}

fn is_rule(cell: &str) -> bool {
    cell.len() > 2 && cell.chars().all(|c| matches!(c, '-' | ':'))
}

/// Letters that a line of text gives to paths: "`client/tests/it/producing.rs` (`p`)".
fn defined_letters(line: &str) -> Vec<(&str, &str)> {
    let parts: Vec<&str> = line.split('`').collect();
    let pairs = parts.windows(4).skip(1).step_by(2);
    pairs
        .filter(|it| it[1] == " (" && it[3].starts_with(')') && it[0].contains('/'))
        .map(|it| (it[2], it[0]))
        .collect()
}

/// The names of a source's tests.
fn tests(text: &str) -> BTreeSet<&str> {
    let mut found = BTreeSet::new();
    let mut is_test = false;
    for line in text.lines().map(str::trim) {
        if line == "#[test]" {
            is_test = true;
        } else if let Some(rest) = line.strip_prefix("fn ") {
            let name = rest.split(['(', '<']).next().unwrap_or_default();
            found.extend(is_test.then_some(name));
            is_test = false;
        } else if !line.starts_with("#[") && !line.starts_with("//") {
            is_test = false;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> File {
        File {
            path: path.to_owned(),
            text: text.to_owned(),
        }
    }

    fn complaints(text: &str) -> Vec<String> {
        let sources = [
            file(
                "client/src/data.rs",
                "#[test]\nfn one() {}\nfn helper() {}\nproptest! {\n    #[test]\n    // Slow.\n    #[ignore]\n    fn two(a in 0..1) {}\n}\n",
            ),
            file("net/src/deep/er.rs", "#[test]\nfn three() {}\n"),
        ];
        check(&file(DOCUMENT, text), &sources)
    }

    fn rows(cells: &[&str]) -> String {
        let rows: String = cells
            .iter()
            .map(|cell| format!("| is | here | {cell} |\n"))
            .collect();
        format!(
            "## A\n\nIn `client/src/data.rs` (`d`) and `net/src/` (`n`).\n\n| What | Here | Test |\n|---|---|---|\n{rows}"
        )
    }

    #[test]
    fn tests_that_exist_are_found() {
        let cells = [
            "`client/src/data.rs`: `one`, `two`",
            "d `two`, `one`; n `three`",
            "the same; d `one`",
            "`net/src/deep/`: `three`",
        ];
        assert_eq!(complaints(&rows(&cells)), Vec::<String>::new());
        // Tables of something else, and text, name what they like.
        assert!(complaints("| What |\n|---|\n| `nope` |\n\n`nope` (`x`)\n").is_empty());
    }

    #[test]
    fn each_lie_is_found() {
        for lie in [
            "d `helper`",
            "d `nope`",
            "d `one`, `three`",
            "`one`",
            "`client/src/none.rs`: `one`",
            "x `one`",
            "d",
            "`client/src/data.rs`",
            "",
            "--",
        ] {
            assert!(!complaints(&rows(&[lie])).is_empty(), "{lie}");
        }
        let elsewhere = rows(&["d `one`"]).replace("\n\n|", "\n\n## B\n\n|");
        assert_eq!(complaints(&elsewhere).len(), 2, "the letter is another section's");
    }
}
