//! Libraries that are none, and components that do not do what they should: errors, and nothing worse.

use std::path::Path;

use mofka_plugins::{ComponentType, Library, LibraryPolicy, LoadError, Partitions};

use crate::library::compile_library;

const SOURCE: &str = "client/plugins/tests/misbehaving.c";

fn in_directory(place: &Path) -> LibraryPolicy {
    LibraryPolicy::Directories(vec![place.to_owned()])
}

#[test]
fn libraries_that_are_none_are_refused() {
    let place = tempfile::tempdir().unwrap();
    let refusal = |name: &str| Library::load(name, &in_directory(place.path())).unwrap_err();
    for (define, part) in [
        (
            "NO_TABLE",
            "it has no function mofka_components_v1: it is no library of components",
        ),
        (
            "NULL_TABLE",
            "mofka_components_v1 returned 0x0, which is no table",
        ),
        (
            "OTHER_VERSION",
            "its table is of version 99, and this client knows version 1",
        ),
    ] {
        let name = format!("lib{define}.so");
        compile_library(&[&format!("-D{define}")], SOURCE, &place.path().join(&name));
        let refused = refusal(&name);
        assert!(matches!(&refused, LoadError::Unusable { .. }), "{refused:?}");
        let told = refused.to_string();
        assert!(
            told.starts_with(&format!("{name} was loaded and cannot be used: {part}")),
            "{told}"
        );
    }
    // All that a library calls has to be there when it is loaded.
    compile_library(&["-DMISSING_SYMBOL"], SOURCE, &place.path().join("libmissing.so"));
    let refused = refusal("libmissing.so");
    assert!(matches!(&refused, LoadError::Open { .. }), "{refused:?}");
    assert!(
        refused.reason().contains("no_library_has_this_function"),
        "{refused}"
    );

    std::fs::write(place.path().join("libtext.so"), "this is no library").unwrap();
    std::fs::write(place.path().join("libempty.so"), "").unwrap();
    std::fs::create_dir(place.path().join("libdirectory.so")).unwrap();
    for name in ["libtext.so", "libempty.so", "libdirectory.so", "libmissing2.so"] {
        let refused = refusal(name);
        assert!(matches!(&refused, LoadError::Open { .. }), "{refused:?}");
        assert!(
            refused
                .to_string()
                .starts_with(&format!("Could not dlopen {name}: ")),
            "{refused}"
        );
    }
}

#[test]
fn the_search_path_is_the_systems() {
    // It is there for sure, and is no library of components.
    let refused = Library::load("libc.so.6", &LibraryPolicy::SearchPath).unwrap_err();
    assert!(matches!(&refused, LoadError::Unusable { .. }), "{refused:?}");
    let refused = Library::load("libmofka-tests-none.so", &LibraryPolicy::SearchPath).unwrap_err();
    let told = refused.to_string();
    assert!(
        told.starts_with("Could not dlopen libmofka-tests-none.so: ") && told.contains("LD_LIBRARY_PATH"),
        "{told}"
    );
    // What the policy does not allow is not even looked at.
    let place = tempfile::tempdir().unwrap();
    for (name, policy) in [
        ("libc.so.6", LibraryPolicy::Never),
        ("libc.so.6", in_directory(place.path())),
        ("/lib/libc.so.6", LibraryPolicy::SearchPath),
        ("", LibraryPolicy::SearchPath),
    ] {
        let refused = Library::load(name, &policy).unwrap_err();
        assert!(matches!(&refused, LoadError::Open { .. }), "{refused:?}");
    }
}

#[test]
fn components_that_misbehave_give_errors() {
    let place = tempfile::tempdir().unwrap();
    compile_library(&[], SOURCE, &place.path().join("libmisbehaving.so"));
    let by_path = place.path().join("libmisbehaving.so");
    let library = Library::load(by_path.to_str().unwrap(), &in_directory(place.path())).unwrap();
    let partitions = Partitions {
        count: 4,
        described: "[]".into(),
    };
    let mut told = Vec::new();
    for component in library.components() {
        let name = component.name().to_owned();
        let mut note = |what: Result<String, String>| told.push((name.clone(), what));
        let text = |error: mofka_plugins::CallError| error.to_string();
        match component {
            ComponentType::Validator(kind) => note(
                kind.create("{}")
                    .and_then(|one| one.validate("{}", []))
                    .map(|()| "taken".to_owned())
                    .map_err(text),
            ),
            ComponentType::PartitionSelector(kind) => note(
                kind.create("{}")
                    .and_then(|one| one.select("{}", None, &partitions))
                    .map(|index| index.to_string())
                    .map_err(text),
            ),
            ComponentType::Serializer(kind) => {
                let one = kind.create("{}").unwrap();
                let mut stored = Vec::new();
                note(
                    one.serialize("{}", &mut stored)
                        .map(|()| format!("{} bytes", stored.len()))
                        .map_err(text),
                );
                note(one.deserialize(b"{}").map_err(text));
            }
        }
    }
    let too_much = "it wrote what cannot be taken: more than 268435456 bytes, more than there is memory for, or bytes at \
                    a null pointer";
    let not_utf8 =
        "what it made of the stored bytes is not UTF-8: invalid utf-8 sequence of 1 bytes from index 1";
    let expected = [
        ("takes_nothing", Err("never \u{fffd}")),
        (
            "creates_nothing",
            Err("it was created without an instance (NULL)"),
        ),
        (
            "creates_in_silence",
            Err("it failed with status -3, and did not say why"),
        ),
        // Who has the partitions looks at it.
        ("selects_wildly", Ok("9")),
        ("selects_nothing", Err("it succeeded without an index")),
        ("not_json", Ok("2 bytes")),
        ("not_json", Ok("{\"energy\":")),
        ("not_utf8", Ok("2 bytes")),
        ("not_utf8", Err(not_utf8)),
        ("too_much", Err(too_much)),
        ("too_much", Err(too_much)),
    ];
    let told: Vec<_> = told
        .iter()
        .map(|(name, what)| (name.as_str(), what.as_deref().map_err(String::as_str)))
        .collect();
    assert_eq!(told, expected);
}
