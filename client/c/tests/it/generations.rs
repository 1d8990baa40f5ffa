//! Programs for earlier C++ interfaces of the original, as they are, with a node that is started as theirs was.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use mofka_tests::{Node, program};

use crate::program::{is_there, place, prefix, run, source_of, succeed};

/// What an operator of the original wrote.
const CONFIG: &str = r#"{
  "libraries": ["libflock-bedrock-module.so", "libyokan-bedrock-module.so", "libmofka-bedrock-module.so"],
  "providers": [
    {"name": "group_manager", "type": "flock", "provider_id": 1,
     "config": {"bootstrap": "self", "file": "mofka.json", "group": {"type": "static"}}},
    {"name": "master", "type": "yokan", "provider_id": 2, "tags": ["mofka:master"], "config": {"database": {"type": "map"}}}
  ]
}"#;

/// As `bedrock na+sm -c config.json` starts it.
fn node() -> Node {
    let mut node = Node::prepare(&["--protocol", "na+sm", "-c", "config.json"]);
    std::fs::write(node.dir().join("config.json"), CONFIG).unwrap();
    node.start_again();
    node
}

/// Compiles a program of a generation, with nothing but a directory of headers in front; `None`, and a line that says why, where it
/// cannot be.
fn build(generation: &str) -> Option<PathBuf> {
    if !is_there("c++") {
        eprintln!("SKIPPED: there is no C++ compiler (c++): apt-get install g++");
        return None;
    }
    let headers = prefix().join("include/mofka-generations").join(generation);
    let lib = prefix().join("lib");
    let program = place().join(format!("generation-{generation}"));
    let mut command = Command::new("c++");
    command.args(["-std=c++17", "-Wall", "-Wextra", "-Werror", "-g", "-O1", "-I"]);
    command.arg(headers).arg("-I").arg(prefix().join("include"));
    command.args(["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]);
    command.arg(source_of(&format!(
        "client/cpp/generations/examples/{generation}.cpp"
    )));
    command
        .arg("-L")
        .arg(&lib)
        .arg(format!("-Wl,-rpath,{}", lib.display()));
    succeed(command.args(["-lmofka_c", "-pthread", "-o"]).arg(&program));
    Some(program)
}

/// Whether there is the JSON library that programs of generation B bring along.
fn has_json() -> bool {
    let mut compiler = Command::new("c++")
        .args(["-E", "-x", "c++", "-", "-o", "/dev/null"])
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut source = compiler.stdin.take().unwrap();
    source.write_all(b"#include <nlohmann/json.hpp>\n").unwrap();
    drop(source);
    compiler.wait().unwrap().success()
}

#[test]
fn a_program_of_generation_a_runs_as_it_is() {
    let Some(program) = build("a") else { return };
    let node = node();
    let said = run(&program, &["mofka.json"], node.dir());
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 11, "{said}");
    assert_eq!(lines[0], "pushed up to event 9");
    assert_eq!(lines[9], "event 8: {\"n\": 8} data of event 8");
    assert_eq!(lines[10], "event 9: {\"n\": 9} ");
}

#[test]
fn a_program_of_generation_b_runs_as_it_is() {
    if !is_there("c++") || !has_json() {
        eprintln!(
            "SKIPPED: there is no nlohmann/json.hpp, which programs of that time need: apt-get install nlohmann-json3-dev"
        );
        return;
    }
    let Some(built) = build("b") else { return };
    let node = node();
    let links = node.dir().join("bin");
    std::fs::create_dir(&links).unwrap();
    succeed(Command::new(program("mofka-ctl")).arg("links").arg(&links));
    for words in [
        &["topic", "create", "my_topic"][..],
        &["partition", "add", "my_topic", "--type", "memory", "--rank", "0"],
    ] {
        let mut command = Command::new(links.join("mofkactl"));
        succeed(command.current_dir(node.dir()).args(words));
    }
    let said = run(&built, &["mofka.json"], node.dir());
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 12, "{said}");
    assert_eq!((lines[0], lines[9]), ("pushed event 9", "pushed event 99"));
    assert_eq!(lines[11], "event 99: {\"name\":\"bob\",\"x\":99} data 99");
}
