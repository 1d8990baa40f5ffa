//! Every warning and error that a node logs must be among the messages that `docs/OPERATIONS.md` explains.

use crate::source::code_only;
use crate::tree::File;

/// Where messages are explained: each as code, whole or up to what is filled in.
pub const DOCUMENT: &str = "docs/OPERATIONS.md";
/// Whose messages.
const SOURCES: &str = "engine/src/";
const MACROS: [&str; 2] = ["tracing::warn!(", "tracing::error!("];

/// Complaints about messages of this source that the document does not have.
pub fn check(document: &File, source: &File) -> Vec<String> {
    if !source.path.starts_with(SOURCES) {
        return Vec::new();
    }
    let is_explained = |message: &String| document.text.contains(&format!("`{message}"));
    messages(&source.text)
        .into_iter()
        .filter(|message| !is_explained(message))
        .map(|message| {
            format!(
                "{}: logs \"{message}\", which {DOCUMENT} does not explain",
                source.path
            )
        })
        .collect()
}

/// What this source logs, each up to what is filled in.
fn messages(text: &str) -> Vec<String> {
    let code: Vec<char> = code_only(text).chars().collect();
    let text: Vec<char> = text.chars().collect();
    let starts_here = |at: usize| {
        MACROS
            .iter()
            .map(|name| name.chars().collect::<Vec<char>>())
            .find(|name| code[at..].starts_with(name))
            .map(|name| at + name.len())
    };
    (0..code.len())
        .filter_map(starts_here)
        .filter_map(|start| message(&code, &text, start))
        .collect()
}

/// The message of a macro whose arguments begin here: the last text that is no field's value.
fn message(code: &[char], text: &[char], start: usize) -> Option<String> {
    let mut depth = 1_usize;
    let mut at = start;
    let mut found = None;
    while depth > 0 {
        match (code.get(at)?, text.get(at)?) {
            ('(', _) => depth += 1,
            (')', _) => depth -= 1,
            (' ', '"') => {
                let end = (at + 1..text.len()).find(|i| text[*i] == '"' && text[i - 1] != '\\')?;
                let before = code[start..at].iter().rfind(|c| !c.is_whitespace());
                if depth == 1 && before != Some(&'=') {
                    found = Some(text[at + 1..end].iter().collect::<String>());
                }
                at = end;
            }
            _ => {}
        }
        at += 1;
    }
    let found = found?;
    let first_line = found.split("\\\n").next().unwrap_or_default();
    let fixed = first_line.split('{').next().unwrap_or_default().trim_end();
    Some(fixed.replace("\\\"", "\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = r#"
        tracing::warn!(path = %path.display(), state = "x", "could not (be) opened; again");
        tracing::error!(
            %error,
            "told {}: {}", text.replace("a", "b"), 3
        );
        tracing::warn!("\"quoted\" and on \
            the next line");
        // tracing::warn!("in a comment");
        tracing::info!("not one");
    "#;

    #[test]
    fn messages_are_found() {
        assert_eq!(
            messages(SOURCE),
            ["could not (be) opened; again", "told", "\"quoted\" and on"]
        );
    }

    #[test]
    fn one_that_is_not_explained_is_told() {
        let file = |path: &str, text: &str| File {
            path: path.to_owned(),
            text: text.to_owned(),
        };
        let document = file(
            DOCUMENT,
            "| `could not (be) opened; again` | | |\n| `told ...` | | |\n| `\"quoted\" and on the next line` | | |",
        );
        let source = file("engine/src/x.rs", SOURCE);
        assert_eq!(check(&document, &source), Vec::<String>::new());
        assert_eq!(check(&file(DOCUMENT, "told"), &source).len(), 3);
        assert_eq!(
            check(&file(DOCUMENT, ""), &file("ctl/src/x.rs", SOURCE)),
            Vec::<String>::new()
        );
    }
}
