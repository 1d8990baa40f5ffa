//! Programs in C and C++ with a real node.

use std::path::Path;
use std::process::Command;

use mofka_client::{ConsumerOptions, DataSelector};
use mofka_tests::Node;

use crate::program::{build_program, is_there, place, prefix, run, source_of, succeed};

fn node() -> Node {
    Node::start(&["--listen", "tcp://127.0.0.1:0", "--shards", "1"])
}

/// One that is talked to through shared memory.
fn local_node() -> Node {
    Node::start(&["--listen", "na+sm", "--shards", "1"])
}

#[test]
fn the_examples_in_c_produce_and_consume() {
    let node = node();
    let producer = build_program("client/c/examples/producer.c", true);
    let consumer = build_program("client/c/examples/consumer.c", true);
    produces_and_consumes(&node, &producer, &consumer);
}

/// Whether there is a C++ compiler; says so if not.
fn has_cpp() -> bool {
    let there = is_there("c++");
    if !there {
        eprintln!("SKIPPED: there is no C++ compiler (c++): apt-get install g++");
    }
    there
}

#[test]
fn the_examples_in_cpp_produce_and_consume() {
    if !has_cpp() {
        return;
    }
    let node = node();
    let producer = build_program("client/cpp/examples/producer.cpp", true);
    let consumer = build_program("client/cpp/examples/consumer.cpp", true);
    produces_and_consumes(&node, &producer, &consumer);
}

#[test]
fn the_examples_fill_events_where_the_node_reads_them_or_in_memory_of_their_own() {
    let mut programs = vec!["client/c/examples/in_place.c"];
    if has_cpp() {
        programs.push("client/cpp/examples/in_place.cpp");
    }
    for (node, shared) in [(local_node(), 8), (node(), 0)] {
        for program in &programs {
            let out = run(&build_program(program, true), &["mofka.json"], node.dir());
            let wanted = format!("8 frames acknowledged, 0 failed, {shared} filled in shared memory\n");
            assert_eq!(out, wanted, "{program}");
        }
        check_frames(&node, programs.len());
    }
}

/// That the consumer gets the frames that were not lost, as they are, from each of so many programs.
fn check_frames(node: &Node, programs: usize) {
    let options = ConsumerOptions {
        data_selector: DataSelector::all(),
        ..ConsumerOptions::default()
    };
    let topic = node.driver().open_topic("frames").unwrap();
    let consumer = topic.consumer("check", options).unwrap();
    for _ in 0..programs {
        for number in (0..10_u16).filter(|number| number % 5 != 4) {
            let event = consumer.pull().wait().unwrap().expect("no end of the topic");
            assert_eq!(event.metadata()["frame"], number);
            let pixels = (0..512).flat_map(|_| (0..640_u16).map(|column| number + column));
            let bytes: Vec<u8> = pixels.flat_map(u16::to_ne_bytes).collect();
            assert!(event.data().to_bytes() == bytes, "frame {number}");
        }
    }
}

#[test]
fn everything_in_cpp_does_what_its_comment_says() {
    if !has_cpp() {
        return;
    }
    let mut node = node();
    passes(&node, "client/cpp/tests/every.cpp", true);
    // It asked the node to stop.
    assert!(node.wait(std::time::Duration::from_secs(60)).success());
}

#[test]
fn the_examples_are_built_by_cmake_as_users_do() {
    if !has_cpp() {
        return;
    }
    if !is_there("cmake") {
        eprintln!("SKIPPED: cmake is not installed (pip install cmake)");
        return;
    }
    let node = node();
    let build = place().join("cmake");
    std::fs::remove_dir_all(&build).ok();
    let sources = prefix().join("share/mofka/examples");
    let mut configure = Command::new("cmake");
    configure.arg("-S").arg(sources).arg("-B").arg(&build);
    succeed(configure.arg(format!("-DCMAKE_PREFIX_PATH={}", prefix().display())));
    succeed(Command::new("cmake").arg("--build").arg(&build));
    produces_and_consumes(&node, &build.join("producer-c"), &build.join("consumer-cpp"));
}

#[test]
fn pkg_config_says_how_to_compile_and_link() {
    if !is_there("pkg-config") {
        eprintln!("SKIPPED: pkg-config is not installed");
        return;
    }
    let lib = prefix().join("lib");
    let mut command = Command::new("pkg-config");
    command
        .env("PKG_CONFIG_PATH", lib.join("pkgconfig"))
        .args(["--cflags", "--libs", "mofka >= 0.1"]);
    let flags = String::from_utf8(succeed(&mut command).stdout).unwrap();
    let program = place().join("by-pkg-config");
    let mut compile = Command::new("cc");
    compile
        .arg(source_of("client/c/examples/producer.c"))
        .args(flags.split_whitespace());
    succeed(
        compile
            .arg(format!("-Wl,-rpath,{}", lib.display()))
            .arg("-o")
            .arg(&program),
    );
    let node = node();
    run(&program, &["mofka.json"], node.dir());
}

#[test]
fn the_archive_links_into_a_program() {
    let library = prefix().join("lib/libmofka_c.a");
    let program = place().join("by-archive");
    let mut compile = Command::new("cc");
    compile
        .arg("-I")
        .arg(prefix().join("include"))
        .arg(source_of("client/c/examples/producer.c"))
        .arg(library);
    succeed(
        compile
            .args(["-lpthread", "-ldl", "-lm", "-lgcc_s", "-o"])
            .arg(&program),
    );
    let node = node();
    run(&program, &["mofka.json"], node.dir());
}

#[test]
fn the_example_in_fortran_pushes_and_pulls() {
    if !is_there("gfortran") {
        eprintln!("SKIPPED: gfortran is not installed");
        return;
    }
    let program = place().join("events-fortran");
    let lib = prefix().join("lib");
    let mut compile = Command::new("gfortran");
    compile
        .current_dir(place())
        .args(["-std=f2018", "-Wall", "-Werror"]);
    compile
        .arg(source_of("client/c/examples/events.f90"))
        .arg("-L")
        .arg(&lib);
    succeed(
        compile
            .arg(format!("-Wl,-rpath,{}", lib.display()))
            .args(["-lmofka_c", "-o"])
            .arg(&program),
    );
    let node = node();
    let out = run(&program, &["mofka.json"], node.dir());
    let lines: Vec<&str> = out.lines().map(str::trim).collect();
    assert_eq!(lines.len(), 10, "{out}");
    assert_eq!(lines[9], "event 9: {\"step\": 10}   10.0  20.0  30.0");
}

/// Ten events a run of the producer; the consumer gets each of them once, and goes on where it was.
fn produces_and_consumes(node: &Node, producer: &Path, consumer: &Path) {
    for round in 0..2 {
        let out = run(producer, &["mofka.json"], node.dir());
        assert!(
            out.contains("10 events pushed, 10 acknowledged, 0 failed"),
            "{out}"
        );
        let out = run(consumer, &["mofka.json"], node.dir());
        let lines: Vec<&str> = out.lines().collect();
        assert_eq!(lines.len(), 10, "{out}");
        for (n, line) in lines.iter().enumerate() {
            let id = 10 * round + n;
            let energy = 10 * n;
            let wanted = format!("event {id}: {{\"energy\": {energy}}} what collision {n} left behind");
            assert_eq!(*line, wanted);
        }
    }
}

/// Runs a test program.
fn passes(node: &Node, source: &str, sanitize: bool) {
    let program = build_program(source, sanitize);
    assert_eq!(run(&program, &["mofka.json"], node.dir()), "done\n");
}

#[test]
fn every_function_in_c_does_what_its_comment_says() {
    let mut node = node();
    passes(&node, "client/c/tests/every.c", true);
    // It asked the node to stop.
    assert!(node.wait(std::time::Duration::from_secs(60)).success());
}

#[test]
fn what_is_filled_in_place_arrives_byte_for_byte_and_what_is_given_up_frees_its_room() {
    let mut programs = vec!["client/c/tests/in_place.c"];
    if has_cpp() {
        programs.push("client/cpp/tests/in_place.cpp");
    }
    for program in programs {
        let built = build_program(program, true);
        for (node, memory) in [(local_node(), "shared"), (node(), "own")] {
            let out = run(&built, &["mofka.json", memory], node.dir());
            assert_eq!(out, "done\n", "{program}, {memory}");
        }
    }
}

#[test]
fn a_program_brings_components_of_its_own() {
    passes(&node(), "client/c/tests/components.c", true);
}

#[test]
fn what_is_wrong_is_told_in_c_and_does_no_harm() {
    passes(&node(), "client/c/tests/errors.c", true);
}

#[test]
fn a_forked_child_gets_errors_and_its_parent_goes_on() {
    // The sanitizer's own allocator does not survive a fork beside busy threads.
    passes(&node(), "client/c/tests/fork.c", false);
    passes(&local_node(), "client/c/tests/fork.c", false);
}

#[test]
fn many_threads_share_a_producer_and_a_consumer() {
    passes(&node(), "client/c/tests/threads.c", true);
    passes(&local_node(), "client/c/tests/threads.c", true);
}

#[test]
fn a_consumer_in_c_resumes_after_what_was_acknowledged() {
    let node = node();
    let producer = build_program("client/c/examples/producer.c", false);
    let resume = build_program("client/c/tests/resume.c", false);
    for _ in 0..2 {
        run(&producer, &["mofka.json"], node.dir());
    }
    for begin in ["0", "6", "12"] {
        assert_eq!(run(&resume, &["mofka.json", begin], node.dir()), "done\n");
    }
}

/// The first program in this language that a document shows.
fn shown(document: &str, language: &str) -> String {
    let text = std::fs::read_to_string(source_of(document)).unwrap();
    let from = text.split(&format!("```{language}\n")).nth(1);
    let block = from.and_then(|from| from.split("```").next());
    block
        .unwrap_or_else(|| panic!("{document} shows no {language}"))
        .to_owned()
}

#[test]
fn what_the_documents_show_works() {
    let node = node();
    let programs = [
        ("docs/C.md", "c", "stored as event 0\n"),
        ("docs/C.md", "cpp", "{\"energy\": 42}: the \n"),
        ("README.md", "cpp", ""),
    ];
    for (n, (document, language, out)) in programs.into_iter().enumerate() {
        if language == "cpp" && !has_cpp() {
            continue;
        }
        let dir = place().join("shown").join("src");
        std::fs::create_dir_all(&dir).unwrap();
        let source = dir.join(format!("shown-{n}.{language}"));
        std::fs::write(&source, shown(document, language)).unwrap();
        let program = build_program(source.to_str().unwrap(), true);
        assert_eq!(run(&program, &[], node.dir()), out, "{document}");
    }
}
