//! Licences, sources and known-bad versions of everything that is built into the product.
//!
//! `cargo deny` does this and more where it is installed and its database can be fetched (`deny.toml`); this check needs
//! neither, so that every run of the tests has it.

use serde_json::Value;

/// Licences that may be linked into the product under our own terms.
const LICENCES: [&str; 11] = [
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "MIT",
    "MIT-0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "0BSD",
    "Unlicense",
    "Unicode-3.0",
];

/// Packages with another licence, each with the reason why it is fine.
const EXCEPTIONS: [(&str, &str); 2] = [
    // File-level copyleft: we link it unchanged, its source is on crates.io. Comes with the runtime.
    ("bitmaps", "MPL-2.0+"),
    // Runs in a test, which writes the header of the C interface; not linked to anything.
    ("cbindgen", "MPL-2.0"),
];

/// The one source of packages.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Versions below these have a published advisory (RustSec, snapshot of 2026-08-21).
const FLOORS: [(&str, &str); 12] = [
    ("memmap2", "0.9.11"),
    ("crossbeam-channel", "0.5.15"),
    ("crossbeam-epoch", "0.9.20"),
    ("lru", "0.18.2"),
    ("lz4_flex", "0.11.6"),
    ("rustls", "0.23.18"),
    ("ring", "0.17.12"),
    ("aws-lc-sys", "0.39.0"),
    ("tokio", "1.44.2"),
    ("nix", "0.23.0"),
    ("bytes", "1.2.0"),
    ("smallvec", "1.6.1"),
];

/// Packages that nobody maintains any more.
const ABANDONED: [&str; 4] = ["bincode", "rustls-pemfile", "memmap", "users"];

/// Complaints about the packages in this output of `cargo metadata`.
pub fn check(metadata: &Value) -> Vec<String> {
    let packages = metadata["packages"].as_array().cloned().unwrap_or_default();
    let mut complaints = Vec::new();
    for package in &packages {
        let text = |key: &str| package[key].as_str().unwrap_or_default();
        let (name, version) = (text("name"), text("version"));
        let mut complain = |what: String| complaints.push(format!("{name} {version}: {what}"));
        match package["source"].as_str() {
            None | Some(REGISTRY) => {}
            Some(source) => complain(format!("comes from {source}, not from crates.io")),
        }
        let licence = text("license");
        if !allows(licence) && !EXCEPTIONS.contains(&(name, licence)) {
            complain(format!(
                "licence {licence:?} is not on the list in tidy/src/dependencies.rs"
            ));
        }
        if let Some((_, floor)) = FLOORS.iter().find(|(n, _)| *n == name)
            && numbers(version) < numbers(floor)
        {
            complain(format!("has a published advisory; {floor} or later is needed"));
        }
        if ABANDONED.contains(&name) {
            complain("is not maintained any more".to_owned());
        }
    }
    if packages.is_empty() {
        complaints.push("cargo metadata lists no packages".to_owned());
    }
    complaints
}

/// Whether a licence expression can be met with licences on the list: one side of an OR, all sides of an AND.
fn allows(expression: &str) -> bool {
    let expression = expression.replace('/', " OR ");
    let mut tokens = expression
        .replace('(', " ( ")
        .replace(')', " ) ")
        .split_whitespace()
        .map(str::to_owned)
        .collect::<Vec<_>>();
    tokens.reverse();
    either(&mut tokens).is_some_and(|fine| fine && tokens.is_empty())
}

fn either(tokens: &mut Vec<String>) -> Option<bool> {
    let mut fine = all(tokens)?;
    while tokens.last().is_some_and(|t| t == "OR") {
        tokens.pop();
        fine |= all(tokens)?;
    }
    Some(fine)
}

fn all(tokens: &mut Vec<String>) -> Option<bool> {
    let mut fine = single(tokens)?;
    while tokens.last().is_some_and(|t| t == "AND") {
        tokens.pop();
        fine &= single(tokens)?;
    }
    Some(fine)
}

fn single(tokens: &mut Vec<String>) -> Option<bool> {
    let mut name = tokens.pop()?;
    if name == "(" {
        let fine = either(tokens)?;
        return (tokens.pop()? == ")").then_some(fine);
    }
    if tokens.last().is_some_and(|t| t == "WITH") {
        tokens.pop();
        name = format!("{name} WITH {}", tokens.pop()?);
    }
    Some(LICENCES.contains(&name.as_str()))
}

/// A version's numbers, without pre-release and build parts.
fn numbers(version: &str) -> Vec<u64> {
    let plain = version.split(['-', '+']).next().unwrap_or_default();
    plain.split('.').map(|part| part.parse().unwrap_or(0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str, version: &str, licence: Value, source: Value) -> Vec<String> {
        let package =
            serde_json::json!({"name": name, "version": version, "license": licence, "source": source});
        check(&serde_json::json!({ "packages": [package] }))
    }

    #[test]
    fn expressions_are_read() {
        let good = [
            "MIT",
            "MIT/GPL-3.0",
            "(MIT OR GPL-3.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception OR GPL-2.0",
        ];
        let bad = [
            "",
            "GPL-3.0",
            "MIT AND GPL-3.0",
            "(MIT OR Zlib",
            "MIT MIT",
            "Apache-2.0 WITH Something",
        ];
        assert!(good.iter().all(|e| allows(e)));
        assert!(!bad.iter().any(|e| allows(e)));
    }

    #[test]
    fn bad_packages_are_found() {
        let registry = Value::from(REGISTRY);
        assert!(one("serde", "1.0.0", "MIT".into(), registry.clone()).is_empty());
        assert_eq!(one("x", "1.0.0", "GPL-3.0".into(), registry.clone()).len(), 1);
        assert_eq!(one("x", "1.0.0", Value::Null, registry.clone()).len(), 1);
        assert_eq!(
            one("x", "1.0.0", "MIT".into(), "git+https://example.org/x".into()).len(),
            1
        );
        assert_eq!(one("memmap2", "0.9.10", "MIT".into(), registry.clone()).len(), 1);
        assert!(one("memmap2", "0.10.0", "MIT".into(), registry.clone()).is_empty());
        assert_eq!(one("bincode", "2.0.0", "MIT".into(), registry).len(), 1);
        assert_eq!(check(&Value::Null).len(), 1);
    }
}
