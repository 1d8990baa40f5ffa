//! `doctor` on this machine.

use std::net::TcpListener;

use serde_json::Value;

use crate::run::{Bench, Ran};

fn document(ran: &Ran) -> Value {
    let document: Value = serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
    let schema: Value = serde_json::from_str(include_str!("../../schemas/doctor.json")).unwrap();
    let errors: Vec<String> = jsonschema::validator_for(&schema)
        .unwrap()
        .iter_errors(&document)
        .map(|error| error.to_string())
        .collect();
    assert!(errors.is_empty(), "{errors:?}");
    document
}

fn check<'a>(document: &'a Value, name: &str) -> &'a Value {
    let checks = document["checks"].as_array().unwrap();
    checks
        .iter()
        .find(|check| check["check"] == name)
        .unwrap_or_else(|| panic!("no {name} in {document}"))
}

#[test]
fn a_machine_on_which_nodes_run_has_a_ring_and_what_was_written_is_gone() {
    let bench = Bench::new();
    std::fs::create_dir(bench.path().join("data")).unwrap();
    let ran = bench.run("mofka-ctl --json doctor --data-dir data");
    // Other things may be wrong with this machine.
    assert!(matches!(ran.code, Some(0 | 4)), "{ran:?}");
    let found = document(&ran);
    assert_eq!(check(&found, "io_uring")["verdict"], "good");
    assert_ne!(check(&found, "sync latency")["verdict"], "skipped");
    assert_eq!(std::fs::read_dir(bench.path().join("data")).unwrap().count(), 0);
    let ran = bench.run("mofka-ctl --json doctor --data-dir data --no-write");
    let found = document(&ran);
    for name in ["direct I/O", "sync latency"] {
        assert_eq!(check(&found, name)["verdict"], "skipped");
    }
    let text = bench.run("mofka-ctl doctor --data-dir data --no-write").out;
    assert!(
        text.contains("io_uring: a ring was made") && text.contains("skipped   sync latency"),
        "{text}"
    );
}

#[test]
fn a_configuration_that_cannot_be_is_bad_and_code_4() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let bench = Bench::new();
    std::fs::write(bench.path().join("file"), "").unwrap();
    let config = format!(
        "{{\"data_dir\": \"file\", \"shards\": 1, \"listen\": [\"tcp://{}\"]}}",
        taken.local_addr().unwrap()
    );
    std::fs::write(bench.path().join("config.json"), config).unwrap();
    let ran = bench.run("mofka-ctl --json doctor -c config.json");
    ran.fails(4, &["checks are bad"]);
    let found = document(&ran);
    assert_eq!(found["verdict"], "bad");
    for name in ["data directory", "listen"] {
        let check = check(&found, name);
        assert_eq!(check["verdict"], "bad", "{check}");
        assert!(check["advice"].is_string(), "{check}");
    }
    bench
        .run("mofka-ctl doctor -c none.json")
        .fails(1, &["cannot read", "none.json"]);
    std::fs::write(bench.path().join("config.json"), "{").unwrap();
    bench
        .run("mofka-ctl doctor -c config.json")
        .fails(1, &["not JSON"]);
}

#[test]
fn a_running_node_is_found_and_its_address_is_no_problem() {
    let bench = Bench::with_daemon();
    bench.run("mofka-ctl start --shards 1").ok();
    let ran = bench.run("mofka-ctl --json doctor --no-write");
    let found = document(&ran);
    let directory = check(&found, "data directory")["found"]
        .as_str()
        .unwrap()
        .to_owned();
    let status: Value = serde_json::from_str(&bench.run("mofka-ctl --json status").ok()).unwrap();
    assert!(
        directory.contains(&format!("process {}", status["pid"])),
        "{directory}"
    );
    assert_eq!(check(&found, "listen")["verdict"], "good");
}
