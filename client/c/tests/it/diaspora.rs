//! The driver for the Diaspora Stream API (client/diaspora).
//!
//! Where that API is installed, `MOFKA_DIASPORA_PREFIX` says so, and `MOFKA_DIASPORA_PYTHON` which Python its module is for.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use mofka_tests::Node;

use crate::program::{is_there, place, prefix, run, source_of, succeed};

/// Whether there is what builds it; says so if not.
fn can_build() -> bool {
    for tool in ["cmake", "c++"] {
        if !is_there(tool) {
            eprintln!("SKIPPED: {tool} is not installed");
            return false;
        }
    }
    true
}

/// Where the API is; says so if that is nowhere.
fn api() -> Option<PathBuf> {
    let api = std::env::var_os("MOFKA_DIASPORA_PREFIX").map(PathBuf::from);
    if api.is_none() {
        eprintln!("SKIPPED: MOFKA_DIASPORA_PREFIX does not say where the Diaspora Stream API is installed");
    }
    api.filter(|_| can_build())
}

/// Configures, builds and installs the driver; returns what the first said.
fn build_driver(build: &Path, into: &Path, arguments: &[String]) -> String {
    std::fs::remove_dir_all(build).ok();
    let mut configure = Command::new("cmake");
    configure
        .arg("-S")
        .arg(source_of("client/diaspora"))
        .arg("-B")
        .arg(build)
        .arg(format!("-DCMAKE_INSTALL_PREFIX={}", into.display()))
        .args(arguments);
    let said = String::from_utf8(succeed(&mut configure).stdout).unwrap();
    succeed(Command::new("cmake").arg("--build").arg(build));
    succeed(Command::new("cmake").arg("--install").arg(build));
    said
}

#[test]
fn without_the_api_its_driver_is_skipped_and_says_so() {
    if !can_build() {
        return;
    }
    let into = place().join("diaspora-skipped-prefix");
    std::fs::remove_dir_all(&into).ok();
    let said = build_driver(
        &place().join("diaspora-skipped"),
        &into,
        &["-DCMAKE_DISABLE_FIND_PACKAGE_diaspora-stream-api=ON".to_owned()],
    );
    assert!(
        said.contains("SKIPPED: diaspora-stream-api was not found"),
        "{said}"
    );
    assert!(!into.join("lib/libmofka.so").exists());
}

/// What is passed to CMake to find the API and our own library.
fn paths(api: &Path) -> String {
    format!("-DCMAKE_PREFIX_PATH={};{}", prefix().display(), api.display())
}

/// Where the driver and its test program were built; it is installed beside our library.
fn driver(api: &Path) -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let build = place().join("diaspora");
        build_driver(
            &build,
            prefix(),
            &[paths(api), "-DMOFKA_DIASPORA_TESTS=ON".to_owned()],
        );
        build
    })
}

/// The Python that the API's module is for, if it has one.
fn python(api: &Path) -> Option<(PathBuf, PathBuf)> {
    let versions = std::fs::read_dir(api.join("lib")).unwrap();
    let mut packages = versions
        .map(|entry| entry.unwrap().path().join("site-packages"))
        .filter(|path| path.join("diaspora_stream").is_dir());
    let python = std::env::var_os("MOFKA_DIASPORA_PYTHON").unwrap_or_else(|| "python3".into());
    Some((python.into(), packages.next()?))
}

/// Runs a program with the driver, the API and its Python module where they are looked for.
fn run_with(api: &Path, node: &Node, words: &[&Path]) -> String {
    let libraries = format!(
        "LD_LIBRARY_PATH={}:{}",
        prefix().join("lib").display(),
        api.join("lib").display()
    );
    let packages = python(api).map_or_else(PathBuf::new, |(_, packages)| packages);
    let packages = format!("PYTHONPATH={}", packages.display());
    let words = words.iter().map(|word| word.to_str().unwrap());
    let arguments: Vec<&str> = [libraries.as_str(), packages.as_str()]
        .into_iter()
        .chain(words)
        .chain(["mofka.json"])
        .collect();
    run(Path::new("env"), &arguments, node.dir())
}

fn node() -> Node {
    Node::start(&["--listen", "na+sm", "--shards", "2"])
}

#[test]
fn the_driver_does_what_its_document_says() {
    let Some(api) = api() else { return };
    let every = driver(&api).join("mofka-diaspora-every");
    assert_eq!(run_with(&api, &node(), &[&every]), "done\n");
}

#[test]
fn functions_and_memory_of_python_are_safe_with_the_driver() {
    let Some(api) = api() else { return };
    let Some((python, _)) = python(&api) else {
        eprintln!("SKIPPED: the Diaspora Stream API was installed without its Python module");
        return;
    };
    driver(&api);
    let every = source_of("client/diaspora/tests/every.py");
    let words = [
        python.as_path(),
        Path::new("-X"),
        Path::new("faulthandler"),
        &every,
    ];
    assert_eq!(run_with(&api, &node(), &words), "done\n");
}

#[test]
fn programs_for_the_api_run_on_the_driver() {
    let Some(api) = api() else { return };
    driver(&api);
    // As users build theirs, which know nothing of us.
    let examples = place().join("diaspora-examples");
    std::fs::remove_dir_all(&examples).ok();
    let mut configure = Command::new("cmake");
    configure.arg("-S").arg(source_of("client/diaspora/examples"));
    succeed(configure.arg("-B").arg(&examples).arg(paths(&api)));
    succeed(Command::new("cmake").arg("--build").arg(&examples));
    let node = node();
    for round in 1..=2 {
        let said = run_with(&api, &node, &[&examples.join("producer")]);
        let last = 10 * round - 1;
        assert_eq!(said, format!("the last event is stored, as event {last}\n"));
        let said = run_with(&api, &node, &[&examples.join("consumer")]);
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines.len(), 10, "{said}");
        let wanted = format!("event {last}: {{\"energy\":90}} what collision 9 left behind");
        assert_eq!(lines[9], wanted);
    }
}

#[test]
fn the_apis_own_suites_and_benchmarks_pass_on_the_driver() {
    let Some(api) = api() else { return };
    driver(&api);
    let mut suite = Command::new(source_of("client/diaspora/run-suite"));
    suite.arg("--api").arg(&api).arg("--mofka").arg(prefix());
    suite.arg("--work").arg(place().join("diaspora-suite"));
    if let Some((python, _)) = python(&api) {
        suite.arg("--python").arg(python);
    }
    if let Some(programs) = std::env::var_os("MOFKA_BIN_DIR") {
        suite.arg("--bin").arg(programs);
    }
    let said = String::from_utf8(succeed(&mut suite).stdout).unwrap();
    assert!(said.ends_with("\nall passed\n"), "{said}");
}
