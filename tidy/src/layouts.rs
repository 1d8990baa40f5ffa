//! Ties the documents of stored and sent layouts to the source that defines them.
//!
//! A document carries, beside each table, a stamp:
//!
//! ```text
//! <!-- source: log/src/batch.rs crc32=0123abcd -->
//! ```
//!
//! The CRC covers only the fields of that file's `repr(C)` structures, without comments and blanks, so ordinary edits do
//! not trip it, and a change of layout cannot pass without a hand on the document.

use std::collections::BTreeMap;

use crate::source::code_only;
use crate::tree::File;

/// The documents that carry stamps.
pub const DOCUMENTS: [&str; 2] = ["docs/FORMAT.md", "docs/PROTOCOL.md"];
/// Every layout in these directories must have a stamp in one of the documents.
const LAYOUT_PLACES: [&str; 2] = ["log/src/", "net/src/"];

/// The stamp line that belongs to a source, or `None` when it defines no layout.
pub fn stamp(source: &File) -> Option<String> {
    let blocks = layout_blocks(&source.text);
    (!blocks.is_empty()).then(|| {
        format!(
            "<!-- source: {} crc32={:08x} -->",
            source.path,
            crc32(blocks.as_bytes())
        )
    })
}

/// Complaints about stamps that are missing, stale, or tie a document to nothing.
pub fn check(documents: &[File], sources: &[File]) -> Vec<String> {
    let mut found: BTreeMap<&str, (&str, &str)> = BTreeMap::new();
    for document in documents {
        for line in document.text.lines().map(str::trim) {
            if let Some((source, _)) = line
                .strip_prefix("<!-- source: ")
                .and_then(|rest| rest.split_once(" crc32="))
            {
                found.insert(source, (&document.path, line));
            }
        }
    }
    let mut complaints = Vec::new();
    for source in sources
        .iter()
        .filter(|s| LAYOUT_PLACES.iter().any(|place| s.path.starts_with(place)))
    {
        let found = found.remove(source.path.as_str());
        match (stamp(source), found) {
            (Some(wanted), None) => complaints.push(format!(
                "{}: its layout is in none of {DOCUMENTS:?}; describe it there with\n{wanted}",
                source.path
            )),
            (Some(wanted), Some((document, line))) if line != wanted => complaints.push(format!(
                "{}: the layout changed; bring the table in {document} up to date, then stamp it\n{wanted}",
                source.path
            )),
            (None, Some((document, _))) => {
                complaints.push(format!(
                    "{document}: stamp of {}, which defines no layout",
                    source.path
                ));
            }
            _ => {}
        }
    }
    complaints.extend(
        found
            .iter()
            .map(|(source, (document, _))| format!("{document}: stamp of {source}, which is not there")),
    );
    complaints
}

/// The `repr(C)` and `repr(transparent)` structures of a source, comments and blanks removed.
fn layout_blocks(text: &str) -> String {
    let code = code_only(text);
    let mut blocks = String::new();
    let mut rest = code.as_str();
    while let Some(at) = ["#[repr(C", "#[repr(transparent"]
        .iter()
        .filter_map(|mark| rest.find(mark))
        .min()
    {
        rest = &rest[at..];
        let end = structure_end(rest);
        blocks.extend(rest[..end].chars().filter(|c| !c.is_whitespace()));
        blocks.push('\n');
        rest = &rest[end..];
    }
    blocks
}

/// The end of the first item: its closing brace, or the semicolon of a tuple structure.
fn structure_end(code: &str) -> usize {
    let (mut braces, mut others) = (0_usize, 0_usize);
    for (at, c) in code.char_indices() {
        match c {
            '{' => braces += 1,
            '(' | '[' => others += 1,
            ')' | ']' => others = others.saturating_sub(1),
            '}' => {
                braces = braces.saturating_sub(1);
                if braces == 0 {
                    return at + 1;
                }
            }
            ';' if braces == 0 && others == 0 => return at + 1,
            _ => {}
        }
    }
    code.len()
}

/// CRC-32 (IEEE), bit by bit: the inputs are a few hundred bytes.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32| {
        if crc & 1 == 1 {
            (crc >> 1) ^ 0xEDB8_8320
        } else {
            crc >> 1
        }
    };
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "/// Doc.\n#[repr(C)]\n#[derive(Pod)]\npub struct Header {\n    magic: Le32, // four\n    pad: [u8; 20],\n}\nfn f() {}\n#[repr(transparent)]\nstruct Le32([u8; 4]);\n";

    fn file(path: &str, text: &str) -> File {
        File {
            path: path.to_owned(),
            text: text.to_owned(),
        }
    }

    #[test]
    fn crc_is_the_common_one() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
    }

    #[test]
    fn only_the_layout_counts() {
        let stamp_of = |text: &str| stamp(&file("log/src/a.rs", text));
        let edited = SOURCE
            .replace("Doc.", "Other words.")
            .replace("// four", "")
            .replace("fn f() {}", "fn f() { g() }");
        assert_eq!(stamp_of(SOURCE), stamp_of(&edited));
        assert_ne!(stamp_of(SOURCE), stamp_of(&SOURCE.replace("20]", "24]")));
        assert_ne!(stamp_of(SOURCE), stamp_of(&SOURCE.replace("[u8; 4]", "[u8; 8]")));
        assert_eq!(stamp_of("struct Plain { a: u8 }"), None);
    }

    #[test]
    fn a_changed_layout_with_an_old_stamp_is_found() {
        let source = file("log/src/a.rs", SOURCE);
        let document = file("docs/FORMAT.md", &format!("text\n{}\n", stamp(&source).unwrap()));
        assert!(check(std::slice::from_ref(&document), std::slice::from_ref(&source)).is_empty());
        let changed = file("log/src/a.rs", &SOURCE.replace("20]", "24]"));
        let complaints = check(&[document], std::slice::from_ref(&changed));
        assert_eq!(complaints.len(), 1);
        assert!(
            complaints[0].contains(&stamp(&changed).unwrap()),
            "the complaint carries the new stamp"
        );
    }

    #[test]
    fn a_layout_without_a_stamp_and_a_stamp_without_a_layout_are_found() {
        assert_eq!(check(&[], &[file("net/src/frame.rs", SOURCE)]).len(), 1);
        let document = file(
            "docs/FORMAT.md",
            "<!-- source: log/src/gone.rs crc32=00000000 -->",
        );
        assert_eq!(check(std::slice::from_ref(&document), &[]).len(), 1);
        assert_eq!(
            check(&[document], &[file("log/src/gone.rs", "fn f() {}")]).len(),
            1
        );
    }
}
