//! Takes the texts of `python/mofka/_mofka.pyi` over into the module, so that `help` says what editors do: `doc!(Producer push)`.

use std::fmt::Write;
use std::path::Path;

const TYPES: &str = "python/mofka/_mofka.pyi";

fn main() {
    println!("cargo::rerun-if-changed={TYPES}");
    let types = std::fs::read_to_string(TYPES).expect("the types are beside this program");
    let mut macros = String::from("macro_rules! doc {\n");
    for (name, text) in texts(&types) {
        // Writing to a String does not fail.
        writeln!(macros, "    ({name}) => {{ {text:?} }};").ok();
    }
    macros.push_str("}\n");
    let out = std::env::var_os("OUT_DIR").expect("cargo sets it");
    std::fs::write(Path::new(&out).join("docs.rs"), macros).expect("cargo made the directory");
}

/// Names of classes, functions, and methods (`Class method`), each with its text. That of making an object is its class's, too.
fn texts(types: &str) -> Vec<(String, String)> {
    let mut texts: Vec<(String, String)> = Vec::new();
    let mut class = String::new();
    let mut name = String::new();
    let mut lines = types.lines();
    while let Some(line) = lines.next() {
        let word = |start: &str| {
            let rest = line.strip_prefix(start)?;
            let end = rest.find(|letter: char| !letter.is_alphanumeric() && letter != '_')?;
            rest.get(..end).map(str::to_owned)
        };
        if let Some(found) = word("class ") {
            name.clone_from(&found);
            class = found;
        } else if let Some(found) = word("    def ") {
            name = format!("{class} {found}");
        } else if let Some(found) = word("def ") {
            name = found;
        } else if let Some(begin) = line.trim_start().strip_prefix("\"\"\"") {
            let margin = line.len() - line.trim_start().len();
            let mut text = begin.to_owned();
            while !text.ends_with("\"\"\"") {
                let next = lines.next().expect("a text has an end");
                text.push('\n');
                text.push_str(next.get(margin..).unwrap_or_default());
            }
            text.truncate(text.len() - 3);
            match name.strip_suffix(" __init__") {
                Some(class) => of_class(&mut texts, class).push_str(&format!("\n\n{text}")),
                // What follows a value's name is told by its class.
                None if name.is_empty() => {}
                None => texts.push((name.clone(), text)),
            }
            name.clear();
        }
    }
    texts
}

fn of_class<'a>(texts: &'a mut [(String, String)], class: &str) -> &'a mut String {
    let known = texts.iter_mut().find(|(name, _)| name == class);
    known
        .map(|(_, text)| text)
        .expect("a class has a text before its methods")
}
