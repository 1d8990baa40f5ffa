//! The header: its layout, and what the documents show.

use std::collections::BTreeMap;
use std::mem::{offset_of, size_of};
use std::process::{Command, Stdio};

use mofka_plugins::abi::{self, Component, Components, Sink, Slice};
use mofka_plugins::{ComponentType, Library, LibraryPolicy, Validator};

use crate::library::{compile, compile_library, repository};

#[test]
fn the_header_and_the_client_have_one_layout() {
    let place = tempfile::tempdir().unwrap();
    let program = place.path().join("layout");
    compile("cc", &["-std=c99"], "client/plugins/tests/layout.c", &program);
    let output = Command::new(program).output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let printed: BTreeMap<&str, usize> = printed
        .lines()
        .map(|line| line.split_once(' ').unwrap())
        .map(|(name, number)| (name, number.parse().unwrap()))
        .collect();
    let number = |number: u32| usize::try_from(number).unwrap();
    let status = |status: i32| usize::try_from(status).unwrap();
    let expected = BTreeMap::from([
        ("mofka_text", size_of::<Slice>()),
        ("mofka_text.start", offset_of!(Slice, start)),
        ("mofka_text.bytes", offset_of!(Slice, bytes)),
        ("mofka_data", size_of::<Slice>()),
        ("mofka_data.start", offset_of!(Slice, start)),
        ("mofka_data.bytes", offset_of!(Slice, bytes)),
        ("mofka_sink", size_of::<Sink>()),
        ("mofka_sink.context", offset_of!(Sink, context)),
        ("mofka_sink.write", offset_of!(Sink, write)),
        ("mofka_component", size_of::<Component>()),
        ("mofka_component.kind", offset_of!(Component, kind)),
        ("mofka_component.reserved", offset_of!(Component, reserved)),
        ("mofka_component.type_name", offset_of!(Component, type_name)),
        ("mofka_component.create", offset_of!(Component, create)),
        ("mofka_component.destroy", offset_of!(Component, destroy)),
        ("mofka_component.validate", offset_of!(Component, validate)),
        (
            "mofka_component.set_partitions",
            offset_of!(Component, set_partitions),
        ),
        ("mofka_component.select", offset_of!(Component, select)),
        ("mofka_component.serialize", offset_of!(Component, serialize)),
        ("mofka_component.deserialize", offset_of!(Component, deserialize)),
        ("mofka_components", size_of::<Components>()),
        ("mofka_components.version", offset_of!(Components, version)),
        (
            "mofka_components.component_bytes",
            offset_of!(Components, component_bytes),
        ),
        (
            "mofka_components.components_count",
            offset_of!(Components, components_count),
        ),
        ("mofka_components.components", offset_of!(Components, components)),
        ("MOFKA_COMPONENTS_VERSION", number(abi::VERSION)),
        ("MOFKA_OK", status(abi::OK)),
        ("MOFKA_FAILED", status(abi::FAILED)),
        ("MOFKA_VALIDATOR", number(abi::VALIDATOR)),
        ("MOFKA_PARTITION_SELECTOR", number(abi::PARTITION_SELECTOR)),
        ("MOFKA_SERIALIZER", number(abi::SERIALIZER)),
        (
            "MOFKA_COMPONENTS_MAX",
            usize::try_from(abi::COMPONENTS_MAX).unwrap(),
        ),
        ("MOFKA_TYPE_NAME_BYTES_MAX", abi::TYPE_NAME_BYTES_MAX),
        ("MOFKA_ERROR_BYTES_MAX", abi::ERROR_BYTES_MAX),
        ("MOFKA_OUTPUT_BYTES_MAX", abi::OUTPUT_BYTES_MAX),
    ]);
    assert_eq!(printed, expected);
}

/// The first block of this language in the document.
fn shown(language: &str) -> String {
    let document = std::fs::read_to_string(repository().join("docs/PLUGINS.md")).unwrap();
    let start = document.split(&format!("```{language}\n")).nth(1);
    let block = start.and_then(|rest| rest.split("```").next());
    block
        .unwrap_or_else(|| panic!("docs/PLUGINS.md shows no {language}"))
        .to_owned()
}

/// The validator of a library with no more than that.
fn small(directory: &std::path::Path, library: &str) -> Validator {
    let policy = LibraryPolicy::Directories(vec![directory.to_owned()]);
    let library = Library::load(library, &policy).unwrap();
    let [ComponentType::Validator(validator)] = library.components() else {
        panic!("{library:?}");
    };
    assert_eq!(validator.name(), "small");
    assert!(
        validator
            .create("{}")
            .unwrap_err()
            .to_string()
            .contains("bytes_max")
    );
    validator.create(r#"{"type":"small","bytes_max":3}"#).unwrap()
}

fn looks_at_bytes(validator: &Validator) {
    validator.validate("{}", []).unwrap();
    validator.validate("{}", [&b"a"[..], b"", b"bc"]).unwrap();
    let told = validator.validate("{}", [&b"ab"[..], b"cd"]).unwrap_err();
    assert_eq!(told.to_string(), "4 bytes of data are more than 3");
}

#[test]
fn what_the_documents_show_in_c_works() {
    let place = tempfile::tempdir().unwrap();
    let source = place.path().join("small.c");
    std::fs::write(&source, shown("c")).unwrap();
    compile_library(&[], source.to_str().unwrap(), &place.path().join("libsmall.so"));
    looks_at_bytes(&small(place.path(), "libsmall.so"));
}

#[test]
fn what_the_documents_show_in_cpp_works() {
    let has_compiler = Command::new("c++")
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !has_compiler {
        eprintln!("SKIPPED: there is no C++ compiler (c++)");
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let source = place.path().join("small.cpp");
    std::fs::write(&source, shown("cpp")).unwrap();
    compile(
        "c++",
        &["-std=c++11", "-fPIC", "-shared", "-fvisibility=hidden"],
        &source,
        &place.path().join("libsmall++.so"),
    );
    looks_at_bytes(&small(place.path(), "libsmall++.so"));
}

#[test]
fn what_the_documents_show_in_rust_is_what_rustdoc_tests() {
    let source = std::fs::read_to_string(repository().join("client/plugins/src/author.rs")).unwrap();
    let documented: String = source
        .lines()
        .map_while(|line| line.strip_prefix("//!"))
        .map(|line| format!("{}\n", line.strip_prefix(' ').unwrap_or(line)))
        .collect();
    let tested = documented.split("```").nth(1).unwrap();
    assert_eq!(tested.trim_start(), shown("rust"));
}
