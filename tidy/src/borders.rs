//! What may stand in which file.

use crate::source::{code_only, lines_with_word};
use crate::tree::File;

/// Lines a source file may have without a written reason.
pub const FILE_LINES_MAX: usize = 600;

/// Where the runtime may be named. System tests look from outside whether it is in use; the tool's doctor looks whether it can be.
const URING_PLACES: [&str; 7] = [
    "engine/src/uring",
    "engine/src/bin/",
    "benches/",
    "tests/",
    "ctl/src/commands/doctor/",
    "ctl/src/cli/doctor.rs",
    "ctl/tests/it/doctor.rs",
];
/// Where `unsafe` may stand.
const UNSAFE_PLACES: [&str; 6] = [
    "engine/src/uring",
    "net/src/shm",
    "client/c/",
    "client/plugins/src/",
    // Memory of Python in the client, and the other way round.
    "client/python/src/buffers",
    "benches/",
];
/// File and directory names that say nothing about what is inside.
const JUNK_DRAWERS: [&str; 6] = ["utils", "util", "helpers", "helper", "common", "misc"];

/// All complaints about one Rust source file.
pub fn check(file: &File) -> Vec<String> {
    let mut complaints = runtime_names(file);
    complaints.extend(unsafe_places(file));
    complaints.extend(file_lines(file));
    complaints.extend(unfinished_marks(file));
    complaints.extend(junk_drawer(file));
    complaints
}

fn stands_in(path: &str, places: &[&str]) -> bool {
    places.iter().any(|place| path.starts_with(place))
}

/// The runtime's names stay behind the `Io` trait, comments included: prose that names it elsewhere goes stale.
fn runtime_names(file: &File) -> Vec<String> {
    // Put together here, so that this file does not name them either.
    let names = [
        concat!("glom", "mio"),
        concat!("io_", "uring"),
        concat!("io-", "uring"),
    ];
    if stands_in(&file.path, &URING_PLACES) {
        return Vec::new();
    }
    let lines = file.text.lines().enumerate();
    lines
        .flat_map(|(n, line)| {
            names
                .iter()
                .filter(move |name| line.contains(**name))
                .map(move |name| (n + 1, name))
        })
        .map(|(n, name)| format!("{}:{n}: names {name}; only {URING_PLACES:?} may", file.path))
        .collect()
}

fn unsafe_places(file: &File) -> Vec<String> {
    if stands_in(&file.path, &UNSAFE_PLACES) {
        return Vec::new();
    }
    let lines = lines_with_word(&code_only(&file.text), "unsafe");
    lines
        .iter()
        .map(|n| {
            format!(
                "{}:{n}: unsafe code; only {UNSAFE_PLACES:?} may hold it",
                file.path
            )
        })
        .collect()
}

fn file_lines(file: &File) -> Vec<String> {
    let count = file.text.lines().count();
    let allowed = file.text.lines().take(5).any(|line| {
        let reason = line.split_once("tidy: allow-long (").map(|(_, rest)| rest);
        reason.is_some_and(|rest| rest.split(')').next().is_some_and(|r| r.trim().len() > 3))
    });
    if count <= FILE_LINES_MAX || allowed {
        return Vec::new();
    }
    vec![format!(
        "{}: {count} lines, over {FILE_LINES_MAX}: split it, or write `// tidy: allow-long (reason)` at its top",
        file.path
    )]
}

fn unfinished_marks(file: &File) -> Vec<String> {
    let marks = [
        concat!("to", "do!("),
        concat!("unimple", "mented!("),
        concat!("FIX", "ME"),
        concat!("XX", "X"),
        concat!("TO", "DO"),
    ];
    let lines = file.text.lines().enumerate();
    lines
        .flat_map(|(n, line)| {
            marks
                .iter()
                .filter(move |mark| line.contains(**mark))
                .map(move |mark| (n + 1, mark))
        })
        .map(|(n, mark)| format!("{}:{n}: unfinished mark {mark}", file.path))
        .collect()
}

fn junk_drawer(file: &File) -> Vec<String> {
    let parts = file
        .path
        .split('/')
        .map(|part| part.strip_suffix(".rs").unwrap_or(part));
    parts
        .filter(|part| JUNK_DRAWERS.contains(part))
        .map(|part| {
            format!(
                "{}: a file or directory called {part}: name it after what is inside",
                file.path
            )
        })
        .collect()
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

    #[test]
    fn a_runtime_name_outside_its_place_is_found() {
        for name in [
            concat!("glom", "mio"),
            concat!("io_", "uring"),
            concat!("io-", "uring"),
        ] {
            let text = format!("use {name}::LocalExecutor;");
            assert_eq!(check(&file("engine/src/shard.rs", &text)).len(), 1);
            assert!(check(&file("engine/src/uring/io.rs", &text)).is_empty());
            assert!(check(&file("engine/src/uring.rs", &text)).is_empty());
        }
    }

    #[test]
    fn unsafe_code_outside_its_place_is_found() {
        let text = "fn f() {\n    unsafe { g() }\n}\n";
        let complaints = check(&file("log/src/batch.rs", text));
        assert_eq!(complaints.len(), 1);
        assert!(complaints[0].starts_with("log/src/batch.rs:2:"), "{complaints:?}");
        assert!(check(&file("net/src/shm/map.rs", text)).is_empty());
        assert!(
            check(&file(
                "log/src/batch.rs",
                "#![forbid(unsafe_code)] // no unsafe here"
            ))
            .is_empty()
        );
    }

    #[test]
    fn a_long_file_without_a_reason_is_found() {
        let long = "// line\n".repeat(FILE_LINES_MAX + 1);
        assert_eq!(check(&file("log/src/a.rs", &long)).len(), 1);
        assert_eq!(
            check(&file("log/src/a.rs", &format!("// tidy: allow-long ()\n{long}"))).len(),
            1
        );
        assert!(
            check(&file(
                "log/src/a.rs",
                &format!("// tidy: allow-long (one table)\n{long}")
            ))
            .is_empty()
        );
        assert!(check(&file("log/src/a.rs", &"// line\n".repeat(FILE_LINES_MAX))).is_empty());
    }

    #[test]
    fn an_unfinished_mark_is_found() {
        for mark in [
            concat!("to", "do!()"),
            concat!("unimple", "mented!()"),
            concat!("// FIX", "ME"),
            concat!("// XX", "X"),
        ] {
            assert_eq!(check(&file("net/src/a.rs", mark)).len(), 1, "{mark}");
        }
    }

    #[test]
    fn a_junk_drawer_is_found() {
        assert_eq!(check(&file("net/src/utils.rs", "")).len(), 1);
        assert_eq!(check(&file("net/src/common/mod.rs", "")).len(), 1);
        assert!(check(&file("net/src/utilisation.rs", "")).is_empty());
    }
}
