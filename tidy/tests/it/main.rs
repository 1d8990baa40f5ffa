//! The checks of `mofka-tidy`, over the real tree.

use mofka_tidy::{borders, dependencies, edges, evidence, layouts, links, messages, tables, tree};

#[track_caller]
fn expect_none(complaints: &[String]) {
    assert!(
        complaints.is_empty(),
        "{} complaint(s):\n{}\n",
        complaints.len(),
        complaints.join("\n")
    );
}

#[test]
fn borders_hold() {
    let files = tree::files(&["rs"]);
    assert!(files.len() > 10, "the walk finds the sources");
    expect_none(&files.iter().flat_map(borders::check).collect::<Vec<_>>());
}

#[test]
fn edges_point_down() {
    expect_none(&edges::check(&edges::packages(&tree::metadata(&["--no-deps"]))));
}

#[test]
fn crate_roots_refuse_unsafe_code() {
    let packages = edges::packages(&tree::metadata(&["--no-deps"]));
    let mut complaints = Vec::new();
    for package in &packages {
        for root in &package.roots {
            let text = std::fs::read_to_string(root).unwrap_or_else(|e| panic!("cannot read {root}: {e}"));
            complaints.extend(edges::check_root(&package.name, root, &text));
        }
    }
    expect_none(&complaints);
}

#[test]
fn layouts_are_documented() {
    let mut documents = tree::files(&["md"]);
    documents.retain(|d| layouts::DOCUMENTS.contains(&d.path.as_str()));
    assert_eq!(
        documents.len(),
        layouts::DOCUMENTS.len(),
        "both documents are there"
    );
    let sources = tree::files(&["rs"]);
    expect_none(&layouts::check(&documents, &sources));
    expect_none(&tables::check(&documents, &sources));
}

#[test]
fn links_lead_somewhere() {
    let root = tree::root();
    expect_none(
        &tree::files(&["md"])
            .iter()
            .flat_map(|d| links::check(d, &root))
            .collect::<Vec<_>>(),
    );
}

#[test]
fn behaviour_has_tests() {
    let documents = tree::files(&["md"]);
    let document = documents
        .iter()
        .find(|document| document.path == evidence::DOCUMENT);
    let document = document.expect("the document is there");
    expect_none(&evidence::check(document, &tree::files(&["rs"])));
}

#[test]
fn messages_are_explained() {
    let documents = tree::files(&["md"]);
    let document = documents
        .iter()
        .find(|document| document.path == messages::DOCUMENT);
    let document = document.expect("the document is there");
    let sources = tree::files(&["rs"]);
    expect_none(
        &sources
            .iter()
            .flat_map(|source| messages::check(document, source))
            .collect::<Vec<_>>(),
    );
}

/// What `make deny` runs.
#[test]
fn dependencies_are_allowed() {
    expect_none(&dependencies::check(&tree::metadata(&[])));
}
