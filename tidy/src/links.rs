//! Every link from a document to a file of the repository must lead somewhere.

use std::path::Path;

use crate::tree::File;

/// Complaints about links of this document that lead nowhere under `root`.
pub fn check(document: &File, root: &Path) -> Vec<String> {
    let directory = Path::new(&document.path).parent().unwrap_or(Path::new(""));
    let dead = |target: &&str| {
        let path = target.split('#').next().unwrap_or_default();
        let base = if path.starts_with('/') {
            Path::new("")
        } else {
            directory
        };
        !path.is_empty() && !root.join(base).join(path.trim_start_matches('/')).exists()
    };
    let targets = targets(&document.text);
    targets
        .iter()
        .filter(|t| dead(t))
        .map(|t| format!("{}: link to {t}, which is not there", document.path))
        .collect()
}

/// The targets of a document's links that name files, without those inside code.
fn targets(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut in_block = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        }
        if in_block || line.starts_with("    ") {
            continue;
        }
        let outside_code = line.split('`').step_by(2);
        for part in outside_code {
            found.extend(part.split("](").skip(1).filter_map(|rest| rest.split(')').next()));
        }
        // A link whose text is code loses its bracket above: "[`x`](y)" splits into "[" and "](y)", which is kept.
    }
    found.retain(|target| !target.contains("://") && !target.starts_with("mailto:") && !target.is_empty());
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(text: &str) -> File {
        File {
            path: "docs/X.md".to_owned(),
            text: text.to_owned(),
        }
    }

    #[test]
    fn a_dead_link_is_found() {
        let root = crate::tree::root();
        let text = "[a](../Cargo.toml) [`b`](../tidy/src/lib.rs#here) [c](https://example.org/x) [d](#below)\n`[e](no.md)`\n```\n[f](no.md)\n```\n";
        assert_eq!(check(&document(text), &root), Vec::<String>::new());
        assert_eq!(check(&document("[a](no-such-file.md)"), &root).len(), 1);
        assert_eq!(check(&document("see [`a`](no-such-file.md#x)"), &root).len(), 1);
    }
}
