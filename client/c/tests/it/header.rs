//! `include/mofka.h` is what the sources say.

use std::path::Path;

use crate::program::{Language, compile_only};

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn made() -> String {
    let mut config = cbindgen::Config::from_file(here().join("cbindgen.toml")).unwrap();
    config.header = Some(std::fs::read_to_string(here().join("header.txt")).unwrap());
    let bindings = cbindgen::Builder::new()
        .with_crate(here())
        .with_config(config)
        .generate()
        .unwrap_or_else(|error| panic!("no header can be made of client/c/src: {error}"));
    let mut header = Vec::new();
    bindings.write(&mut header);
    String::from_utf8(header).unwrap()
}

#[test]
fn the_header_is_what_the_sources_say() {
    let path = here().join("include/mofka.h");
    let made = made();
    if std::env::var_os("MOFKA_WRITE_HEADER").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let checked_in = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = made
        .lines()
        .zip(checked_in.lines())
        .find(|(made, there)| made != there);
    assert!(
        made == checked_in,
        "client/c/include/mofka.h is not what client/c/src says: run `make header` and look at the difference. First: {differs:?}"
    );
}

#[test]
fn every_function_and_type_is_explained() {
    let header = made();
    let functions: Vec<&str> = header
        .lines()
        .filter(|line| line.contains("mofka_") && line.contains('('))
        .collect();
    assert!(functions.len() > 80, "{}", functions.len());
    let starts = [
        "mofka_",
        "void ",
        "const ",
        "bool ",
        "size_t ",
        "uint32_t ",
        "uint64_t ",
        "typedef ",
        "#define MOFKA_",
    ];
    let mut before = "";
    for line in header.lines().filter(|line| *line != "#define MOFKA_H") {
        if starts.iter().any(|start| line.starts_with(start)) {
            assert_eq!(before.trim(), "*/", "without a comment: {line}");
        }
        before = line;
    }
    // What our sources call the types of places is no type of C.
    assert!(!header.contains("Out"), "{header}");
}

#[test]
fn every_function_is_called_by_a_test_program() {
    let programs: String = std::fs::read_dir(here().join("tests"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "c" || extension == "h")
        })
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect();
    let header = made();
    let names = header.lines().filter_map(|line| {
        let (before, _) = line.split_once('(')?;
        let name = before.rsplit([' ', '*']).next()?;
        (name.starts_with("mofka_") && !line.starts_with([' ', '*', '/'])).then_some(name)
    });
    let names: Vec<&str> = names.collect();
    assert!(names.len() > 80, "{names:?}");
    for name in names {
        assert!(
            programs.contains(&format!("{name}(")),
            "no test program calls {name}"
        );
    }
}

#[test]
fn the_header_stands_alone_and_beside_that_of_components() {
    let one = "#include <mofka.h>\nint unused;\n";
    let both = "#include <mofka_component.h>\n#include <mofka.h>\nint unused;\n";
    let turned = "#include <mofka.h>\n#include <mofka_component.h>\nint unused;\n";
    for source in [one, both, turned] {
        for language in [Language::C, Language::Cpp] {
            compile_only(source, language);
        }
    }
}
