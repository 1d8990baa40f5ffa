//! Which package of the workspace may depend on which, and what each crate root must declare.

use serde_json::Value;

use crate::source::code_only;

/// The whole table: a package, and the packages of this workspace that it may name. Dependencies point down only; a
/// new row or a new entry is the heaviest kind of change.
const ALLOWED: [(&str, &[&str]); 12] = [
    ("mofka-log", &[]),
    ("mofka-net", &["mofka-log"]),
    ("mofka-engine", &["mofka-log", "mofka-net"]),
    ("mofka-plugins", &[]),
    // An example of what others write.
    ("mofka-energy", &["mofka-plugins"]),
    ("mofka-client", &["mofka-log", "mofka-net", "mofka-plugins"]),
    // Tested with the daemon that the system tests start.
    ("mofka-c", &["mofka-client", "mofka-tests"]),
    // An extension module: nothing but Python loads it.
    ("mofka-python", &["mofka-client"]),
    ("mofka-ctl", &["mofka-client", "mofka-net", "mofka-log"]),
    (
        "mofka-benches",
        &["mofka-client", "mofka-engine", "mofka-log", "mofka-net"],
    ),
    (
        "mofka-tests",
        &["mofka-client", "mofka-engine", "mofka-log", "mofka-net"],
    ),
    ("mofka-tidy", &[]),
];

/// One package of the workspace, as `cargo metadata --no-deps` tells it.
#[derive(Debug, Clone)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Names of all that it depends on, in every section of its manifest.
    pub dependencies: Vec<String>,
    /// Paths of its libraries' and binaries' root files.
    pub roots: Vec<String>,
}

/// The packages in this output of `cargo metadata --no-deps`.
pub fn packages(metadata: &Value) -> Vec<Package> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let is_root = |target: &Value| {
        list(&target["kind"])
            .iter()
            .any(|kind| matches!(kind.as_str(), Some("lib" | "rlib" | "cdylib" | "bin")))
    };
    let package = |value: &Value| Package {
        name: text(&value["name"]),
        dependencies: list(&value["dependencies"])
            .iter()
            .map(|d| text(&d["name"]))
            .collect(),
        roots: list(&value["targets"])
            .iter()
            .filter(|t| is_root(t))
            .map(|t| text(&t["src_path"]))
            .collect(),
    };
    list(&metadata["packages"]).iter().map(package).collect()
}

/// Complaints about edges that the table does not allow.
pub fn check(packages: &[Package]) -> Vec<String> {
    let mut complaints = Vec::new();
    for package in packages {
        let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| *name == package.name) else {
            complaints.push(format!(
                "package {} is not in the table of edges in tidy/src/edges.rs",
                package.name
            ));
            continue;
        };
        // Its own name is there when its tests want it with other features.
        let others = package.dependencies.iter().filter(|name| **name != package.name);
        let ours = others.filter(|name| packages.iter().any(|p| p.name == **name));
        for name in ours.filter(|name| !allowed.contains(&name.as_str())) {
            complaints.push(format!(
                "{} must not depend on {name}; it may on {allowed:?}",
                package.name
            ));
        }
    }
    complaints
}

/// Complaints about a crate root that does not refuse unsafe code. Packages with a place for it deny it at the root
/// and allow it there; all others forbid it.
pub fn check_root(package: &str, path: &str, text: &str) -> Vec<String> {
    let code = code_only(text);
    let has = |level: &str| code.contains(&format!("#![{level}(unsafe_code)]"));
    let (fine, wanted) = match package {
        "mofka-benches" => (true, ""),
        "mofka-c" | "mofka-engine" | "mofka-net" | "mofka-plugins" | "mofka-python" => {
            (has("deny") || has("forbid"), "#![deny(unsafe_code)]")
        }
        _ => (has("forbid"), "#![forbid(unsafe_code)]"),
    };
    if fine {
        Vec::new()
    } else {
        vec![format!("{path}: the crate root lacks {wanted}")]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, dependencies: &[&str]) -> Package {
        let dependencies = dependencies.iter().map(|d| (*d).to_owned()).collect();
        Package {
            name: name.to_owned(),
            dependencies,
            roots: Vec::new(),
        }
    }

    #[test]
    fn an_upward_edge_is_found() {
        let good = [
            package("mofka-log", &["bytes"]),
            package("mofka-net", &["mofka-log"]),
        ];
        assert!(check(&good).is_empty());
        let bad = [
            package("mofka-log", &["mofka-net"]),
            package("mofka-net", &["mofka-log"]),
        ];
        assert_eq!(check(&bad).len(), 1);
        let sideways = [
            package("mofka-client", &["mofka-engine"]),
            package("mofka-engine", &[]),
        ];
        assert_eq!(check(&sideways).len(), 1);
    }

    #[test]
    fn an_unknown_package_is_found() {
        assert_eq!(check(&[package("mofka-extra", &[])]).len(), 1);
    }

    #[test]
    fn a_root_that_allows_unsafe_code_is_found() {
        assert_eq!(
            check_root("mofka-log", "log/src/lib.rs", "// #![forbid(unsafe_code)]").len(),
            1
        );
        assert_eq!(
            check_root("mofka-log", "log/src/lib.rs", "#![deny(unsafe_code)]").len(),
            1
        );
        assert!(check_root("mofka-log", "log/src/lib.rs", "#![forbid(unsafe_code)]").is_empty());
        assert_eq!(check_root("mofka-engine", "engine/src/lib.rs", "").len(), 1);
        assert!(check_root("mofka-engine", "engine/src/lib.rs", "#![deny(unsafe_code)]").is_empty());
    }

    #[test]
    fn packages_are_read_from_metadata() {
        let metadata = serde_json::json!({"packages": [{
            "name": "mofka-log",
            "dependencies": [{"name": "bytes"}],
            "targets": [{"kind": ["lib"], "src_path": "/x/lib.rs"}, {"kind": ["test"], "src_path": "/x/it.rs"}],
        }]});
        let found = packages(&metadata);
        assert_eq!(found.len(), 1);
        assert_eq!(
            (found[0].dependencies.as_slice(), found[0].roots.as_slice()),
            (&["bytes".to_owned()][..], &["/x/lib.rs".to_owned()][..])
        );
    }
}
