//! Programs in C and C++ with a real node.

use mofka_tests::Node;

use crate::program::{build_program, run};

fn node() -> Node {
    Node::start(&["--listen", "tcp://127.0.0.1:0", "--shards", "1"])
}

#[test]
fn the_examples_in_c_produce_and_consume() {
    let node = node();
    let producer = build_program("client/c/examples/producer.c", true);
    let consumer = build_program("client/c/examples/consumer.c", true);
    produces_and_consumes(&node, &producer, &consumer);
}

/// Ten events a run of the producer; the consumer gets each of them once, and goes on where it was.
fn produces_and_consumes(node: &Node, producer: &std::path::Path, consumer: &std::path::Path) {
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
fn what_is_wrong_is_told_in_c_and_does_no_harm() {
    passes(&node(), "client/c/tests/errors.c", true);
}

#[test]
fn a_forked_child_gets_errors_and_its_parent_goes_on() {
    // The sanitizer's own allocator does not survive a fork beside busy threads.
    passes(&node(), "client/c/tests/fork.c", false);
}

#[test]
fn many_threads_share_a_producer_and_a_consumer() {
    passes(&node(), "client/c/tests/threads.c", true);
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
