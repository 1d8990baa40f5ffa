//! Builds component libraries. Also part of the tests of `mofka-plugins`, which this crate depends on by way of the client.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// The repository's root.
///
/// # Panics
/// When the tests were built elsewhere.
pub fn repository() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = here.ancestors().find(|place| place.join("Cargo.lock").exists());
    root.expect("the tests were built in the repository")
        .to_path_buf()
}

/// Compiles a C or C++ source of the repository, or one with an absolute path, with all warnings as errors.
///
/// # Panics
/// With what the compiler said.
pub fn compile(compiler: &str, arguments: &[&str], source: impl AsRef<Path>, into: &Path) {
    let root = repository();
    let output = Command::new(compiler)
        .args(["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-O1", "-I"])
        .arg(root.join("client/plugins/include"))
        .args(arguments)
        .arg("-o")
        .arg(into)
        .arg(root.join(source))
        .output()
        .unwrap_or_else(|error| panic!("cannot run the compiler {compiler}: {error}"));
    assert!(
        output.status.success(),
        "{compiler} failed:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Compiles a C source to a shared library.
///
/// # Panics
/// With what the compiler said.
pub fn compile_library(arguments: &[&str], source: &str, into: &Path) {
    let mut all = vec!["-std=c99", "-fPIC", "-shared", "-fvisibility=hidden"];
    all.extend(arguments);
    compile("cc", &all, source, into);
}

/// Builds the example in Rust, and copies its library to this path.
///
/// # Panics
/// With what cargo said.
pub fn build_energy(into: &Path) {
    // Asked for here rather than depended on: cargo hands nobody the path of a library of this kind. When it is up to date,
    // which it is in all runs but the first, this takes a moment.
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .current_dir(repository())
        .args(["build", "--locked", "-p", "mofka-energy", "--message-format=json"])
        .output()
        .unwrap_or_else(|error| panic!("cannot run cargo: {error}"));
    assert!(
        output.status.success(),
        "cargo build -p mofka-energy failed:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let messages = String::from_utf8(output.stdout).unwrap();
    let library = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["target"]["name"] == "energy")
        .find_map(|message| Some(message["filenames"].as_array()?.first()?.as_str()?.to_owned()))
        .expect("cargo says where the library is");
    std::fs::copy(&library, into).unwrap_or_else(|error| panic!("cannot copy {library}: {error}"));
}
