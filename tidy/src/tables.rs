//! Holds the tables and drawings of stored and sent structures against the source that defines them.
//!
//! Before each table a document says whose it is:
//!
//! ```text
//! <!-- layout: log/src/segment.rs SegmentHeader -->
//! ```
//!
//! The places, widths and names in the table are then those of that `repr(C)` structure, computed here from its fields
//! (alignment 1, no padding). A row without a numeric width is a part of variable length behind the structure. In
//! [`DRAWN`] each table also stands after its drawing, and says of each field who writes it and what a torn write does.

use std::collections::BTreeMap;

use crate::source::code_only;
use crate::tree::File;

/// The document in which every structure is drawn, too.
pub const DRAWN: &str = "docs/FORMAT.md";
/// Every `repr(C)` structure in these directories has a table.
const LAYOUT_PLACES: [&str; 2] = ["log/src/", "net/src/"];
/// Bytes in a row of a drawing, and characters of a byte.
const ROW_BYTES: usize = 8;
const BYTE_CHARS: usize = 8;

/// A `repr(C)` structure of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Structure {
    /// Its name.
    pub name: String,
    /// Its fields.
    pub fields: Vec<Field>,
}

/// A field, or a row of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Where it begins.
    pub at: usize,
    /// How long it is.
    pub width: usize,
    /// Its name; `reserved` for all that are.
    pub name: String,
}

/// Complaints about tables that are missing, wrong, or of nothing.
pub fn check(documents: &[File], sources: &[File]) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut wanted = BTreeMap::new();
    for source in sources {
        if LAYOUT_PLACES.iter().any(|place| source.path.starts_with(place)) {
            match structures(&source.text) {
                Ok(found) => wanted.extend(
                    found
                        .into_iter()
                        .map(|s| ((source.path.clone(), s.name.clone()), s)),
                ),
                Err(reason) => complaints.push(format!("{}: {reason}", source.path)),
            }
        }
    }
    for document in documents {
        let lines: Vec<&str> = document.text.lines().collect();
        for (n, line) in lines.iter().enumerate() {
            let Some((source, name)) = marker(line) else {
                continue;
            };
            let place = format!("{}:{}", document.path, n + 1);
            match wanted.remove(&(source.to_owned(), name.to_owned())) {
                Some(structure) => complaints.extend(
                    check_table(&document.path, &lines, n, &structure)
                        .into_iter()
                        .map(|reason| format!("{place}: {name}: {reason}")),
                ),
                None => complaints.push(format!(
                    "{place}: {source} has no structure {name}, or its table was there before"
                )),
            }
        }
    }
    complaints.extend(wanted.keys().map(|(source, name)| {
        format!(
            "{source}: {name} is in no document; write its table after `<!-- layout: {source} {name} -->`"
        )
    }));
    complaints
}

fn marker(line: &str) -> Option<(&str, &str)> {
    let rest = line.trim().strip_prefix("<!-- layout: ")?.strip_suffix(" -->")?;
    rest.split_once(' ')
}

fn check_table(document: &str, lines: &[&str], marker: usize, structure: &Structure) -> Vec<String> {
    let after = lines.get(marker + 1..).unwrap_or_default();
    let table: Vec<Vec<&str>> = after
        .iter()
        .skip_while(|line| line.trim().is_empty())
        .map_while(|line| cells(line))
        .skip(2)
        .collect();
    let (mut rows, mut complaints) = (Vec::new(), Vec::new());
    let end = structure.fields.last().map_or(0, |field| field.at + field.width);
    for row in &table {
        let [at, width, name, details @ ..] = row.as_slice() else {
            complaints.push(format!("a row of {} cells", row.len()));
            continue;
        };
        let name = if name.starts_with("reserved") {
            "reserved"
        } else {
            name
        };
        let Ok(at) = at.parse() else {
            complaints.push(format!("{name} is at \"{at}\", which is no number"));
            continue;
        };
        match width.parse() {
            Ok(width) => rows.push(Field {
                at,
                width,
                name: name.to_owned(),
            }),
            Err(_) if at != end => {
                complaints.push(format!("{name} of variable length begins at {at}, not at {end}"))
            }
            Err(_) => {}
        }
        let told = details
            .get(1..3)
            .is_some_and(|told| told.iter().all(|cell| !cell.is_empty()));
        if document == DRAWN && name != "reserved" && !told {
            complaints.push(format!(
                "{name}: who writes it, and what does a torn write do to it?"
            ));
        }
    }
    if rows != structure.fields {
        let show = |fields: &[Field]| {
            let field = |f: &Field| format!("| {} | {} | {} |", f.at, f.width, f.name);
            fields.iter().map(field).collect::<Vec<_>>().join("\n")
        };
        complaints.push(format!(
            "the table is\n{}\nand the source\n{}",
            show(&rows),
            show(&structure.fields)
        ));
    }
    if document == DRAWN {
        let drawing = drawing(structure);
        let before = lines.get(..marker).unwrap_or_default();
        let fence = before
            .iter()
            .rposition(|line| !line.trim().is_empty() && *line != "```");
        let drawn = fence.map_or(&[][..], |last| &before[..=last]);
        if !drawn.ends_with(&drawing.lines().collect::<Vec<_>>()) {
            complaints.push(format!(
                "right before its table must stand its drawing\n```\n{drawing}```"
            ));
        }
    }
    complaints
}

/// The cells of a table's row.
fn cells(line: &str) -> Option<Vec<&str>> {
    let inner = line.trim().strip_prefix('|')?.strip_suffix('|')?;
    Some(inner.split('|').map(str::trim).collect())
}

/// The structure, eight bytes a row. Rows in which a field just goes on are left out.
pub fn drawing(structure: &Structure) -> String {
    let numbers: String = (0..ROW_BYTES)
        .map(|n| format!("{:<BYTE_CHARS$}", format!("+{n}")))
        .collect();
    let mut text = format!("at   {}\n", numbers.trim_end());
    let size = structure.fields.last().map_or(0, |field| field.at + field.width);
    let mut above = String::new();
    for start in (0..size).step_by(ROW_BYTES) {
        let end = size.min(start + ROW_BYTES);
        let parts = structure
            .fields
            .iter()
            .filter(|field| field.at < end && field.at + field.width > start);
        let parts: Vec<&Field> = parts.collect();
        if let [only] = parts.as_slice()
            && only.at < start
            && only.at + only.width >= end
        {
            continue;
        }
        let (mut row, mut border) = (format!("{start:>4} |"), String::from("     +"));
        for field in parts {
            let bytes = end.min(field.at + field.width) - start.max(field.at);
            let chars = bytes * BYTE_CHARS - 1;
            let begins = field.at >= start;
            let label = match begins {
                true if field.at + field.width > end => format!("{} ({} bytes)", field.name, field.width),
                true => field.name.clone(),
                false => String::new(),
            };
            row.push_str(&format!(" {label:<width$}|", width = chars - 1));
            border.push_str(&"-".repeat(chars));
            border.push('+');
        }
        if above.len() < border.len() {
            text.push_str(&border);
        } else {
            text.push_str(&above);
        }
        text.push('\n');
        text.push_str(&row);
        text.push('\n');
        above = border;
    }
    text.push_str(&above);
    text.push('\n');
    text
}

/// The `repr(C)` structures of a source.
///
/// # Errors
/// A field whose type has no width here.
pub fn structures(text: &str) -> Result<Vec<Structure>, String> {
    let code = code_only(text);
    let mut found = Vec::new();
    for part in code.split("#[repr(C").skip(1) {
        let (_, part) = part
            .split_once("struct ")
            .ok_or("repr(C) on something other than a structure")?;
        let (name, part) = part.split_once('{').ok_or("a structure without fields")?;
        let (fields, _) = part.split_once('}').ok_or("a structure without an end")?;
        let mut structure = Structure {
            name: name.trim().to_owned(),
            fields: Vec::new(),
        };
        let mut at = 0;
        for field in fields.split(',').map(str::trim).filter(|field| !field.is_empty()) {
            let (name, kind) = field
                .split_once(':')
                .ok_or_else(|| format!("\"{field}\" is no field"))?;
            let name = name.split_whitespace().next_back().unwrap_or_default();
            let width = width(kind.trim()).ok_or_else(|| {
                format!(
                    "{}.{name} is of type {kind}, whose width is not known here",
                    structure.name
                )
            })?;
            let name = if name.starts_with("reserved") {
                "reserved"
            } else {
                name
            };
            structure.fields.push(Field {
                at,
                width,
                name: name.to_owned(),
            });
            at += width;
        }
        found.push(structure);
    }
    Ok(found)
}

/// Bytes of a type that a layout may have.
fn width(kind: &str) -> Option<usize> {
    match kind {
        "u8" => Some(1),
        "Le16" => Some(2),
        "Le32" => Some(4),
        "Le64" => Some(8),
        array => {
            let (element, count) = array.strip_prefix('[')?.strip_suffix(']')?.split_once(';')?;
            Some(width(element.trim())? * count.trim().parse::<usize>().ok()?)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "/// Doc.\n#[derive(Pod)]\n#[repr(C)]\npub struct Header {\n    magic: Le32, // four\n    \
                          pub(crate) kind: Le16,\n    reserved_here: [u8; 2],\n    id: [u8; 16],\n    rest: [Le32; 2],\n}\n";

    fn file(path: &str, text: &str) -> File {
        File {
            path: path.to_owned(),
            text: text.to_owned(),
        }
    }

    fn table(rows: &[&str]) -> String {
        let head = "| at | width | field | meaning | by | torn |\n|---|---|---|---|---|---|\n";
        format!("{head}{}\n", rows.join("\n"))
    }

    const ROWS: [&str; 6] = [
        "| 0 | 4 | magic | `X` | S | no |",
        "| 4 | 2 | kind | | S | no |",
        "| 6 | 2 | reserved | 0 | | |",
        "| 8 | 16 | id | | C | no |",
        "| 24 | 8 | rest | | C | no |",
        "| 32 | name_bytes | name | | C | no |",
    ];

    fn document(rows: &[&str], drawing: &str) -> File {
        let text = format!(
            "# X\n```\n{drawing}```\n\n<!-- layout: log/src/a.rs Header -->\n\n{}",
            table(rows)
        );
        file(DRAWN, &text)
    }

    fn complaints(rows: &[&str], drawing: &str) -> Vec<String> {
        check(&[document(rows, drawing)], &[file("log/src/a.rs", SOURCE)])
    }

    fn right_drawing() -> String {
        drawing(&structures(SOURCE).unwrap()[0])
    }

    #[test]
    fn offsets_come_from_the_fields() {
        let found = structures(SOURCE).unwrap();
        let fields: Vec<_> = found[0]
            .fields
            .iter()
            .map(|f| (f.at, f.width, f.name.as_str()))
            .collect();
        let expected = [
            (0, 4, "magic"),
            (4, 2, "kind"),
            (6, 2, "reserved"),
            (8, 16, "id"),
            (24, 8, "rest"),
        ];
        assert_eq!(fields, expected);
        assert!(
            structures("#[repr(C)]\nstruct A { a: u64 }").is_err(),
            "alignment 1 only"
        );
    }

    #[test]
    fn a_structure_is_drawn() {
        let expected = "\
at   +0      +1      +2      +3      +4      +5      +6      +7
     +-------------------------------+---------------+---------------+
   0 | magic                         | kind          | reserved      |
     +-------------------------------+---------------+---------------+
   8 | id (16 bytes)                                                 |
     +---------------------------------------------------------------+
  24 | rest                                                          |
     +---------------------------------------------------------------+
";
        assert_eq!(right_drawing(), expected);
    }

    #[test]
    fn a_right_table_passes_and_each_lie_is_found() {
        assert_eq!(complaints(&ROWS, &right_drawing()), Vec::<String>::new());
        for (place, lie) in [
            (0, "| 0 | 8 | magic | `X` | S | no |"),
            (1, "| 5 | 2 | kind | | S | no |"),
            (1, "| 4 | 2 | sort | | S | no |"),
            (1, "| four | 2 | kind | | S | no |"),
            (3, "| 8 | 16 | id | | | no |"),
            (4, "| 24 | 8 | rest | | C | |"),
            (5, "| 30 | name_bytes | name | | C | no |"),
        ] {
            let mut rows = ROWS;
            rows[place] = lie;
            assert!(!complaints(&rows, &right_drawing()).is_empty(), "{lie}");
        }
        assert!(
            !complaints(&ROWS[1..], &right_drawing()).is_empty(),
            "a missing row"
        );
        assert!(!complaints(&ROWS, &right_drawing().replace("magic", "magik")).is_empty());
        assert!(!complaints(&ROWS, "").is_empty(), "a missing drawing");
    }

    #[test]
    fn a_missing_table_and_a_table_of_nothing_are_found() {
        assert_eq!(check(&[], &[file("net/src/a.rs", SOURCE)]).len(), 1);
        assert_eq!(check(&[], &[file("engine/src/a.rs", SOURCE)]).len(), 0);
        assert_eq!(check(&[document(&ROWS, &right_drawing())], &[]).len(), 1);
    }
}
