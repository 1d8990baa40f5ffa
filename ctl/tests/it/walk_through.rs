//! The original's walk-through, its commands as they are written.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::run::Bench;

const CONFIG: &str = r#"{
    "libraries": ["libflock-bedrock-module.so", "libyokan-bedrock-module.so", "libmofka-bedrock-module.so"],
    "providers": [
        {"name": "group_manager", "type": "flock", "provider_id": 1,
         "config": {"bootstrap": "self", "file": "mofka.json", "group": {"type": "static"}}},
        {"name": "master", "type": "yokan", "provider_id": 2, "tags": ["mofka:master"],
         "config": {"database": {"type": "map"}}}
    ]
}"#;

/// A child that does not outlive the test.
struct Foreground(Child);

impl Drop for Foreground {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until something holds.
#[track_caller]
fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(
            started.elapsed() < Duration::from_secs(30),
            "waited in vain for {what}"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn the_four_commands_work_as_written() {
    let bench = Bench::with_daemon();
    std::fs::write(bench.path().join("config.json"), CONFIG).unwrap();
    let mut bedrock = bench.command("bedrock");
    bedrock.args(["na+sm", "-c", "config.json"]).stderr(Stdio::null());
    let mut bedrock = Foreground(bedrock.spawn().unwrap());
    wait_for("the group file", || bench.path().join("mofka.json").exists());

    assert_eq!(
        bench
            .run("mofkactl topic create my_topic --groupfile mofka.json")
            .ok(),
        ""
    );
    assert_eq!(
        bench
            .run("mofkactl partition add my_topic --type memory --rank 0 --groupfile mofka.json")
            .ok(),
        ""
    );

    // A script of versions with providers of their own for metadata and data.
    let provider = |line: &str| {
        let ran = bench.run(line);
        assert!(
            ran.code == Some(0) && ran.err.starts_with("note: nothing was made"),
            "{ran:?}"
        );
        ran.out.trim().to_owned()
    };
    let metadata = provider("mofkactl metadata add --rank 0 --type rocksdb --config.path /tmp/x");
    let data = provider("mofkactl data add -r 0 -t abtio -g mofka.json --dependencies.pool __primary__");
    assert!(
        metadata.starts_with("metadata_0@") && data.starts_with("data_0@"),
        "{data}"
    );
    bench.run("mofkactl topic create other").ok();
    bench
        .run(&format!(
            "mofkactl partition add other -r 0 --metadata {metadata} --data {data}"
        ))
        .ok();
    bench
        .run("mofkactl metadata add --rank 1")
        .fails(1, &["invalid rank 1"]);
    bench
        .run("mofkactl data add --rank 0 --confg.path x")
        .fails(2, &["--confg.path", "did you mean --config.path"]);
    let benchmark = bench
        .run("mofkactl benchmark generate -a na+sm -n 1000 --num-partitions 2")
        .ok();
    let benchmark: serde_json::Value = serde_json::from_str(&benchmark).unwrap();
    assert_eq!(benchmark["producers"]["num_events"], 1000);
    bench
        .run("mofkactl benchmark generate -a na+sm --num-evnts 5 -n 1")
        .fails(2, &["--num-events"]);

    let lines: String = (0..100).map(|n| format!("{{\"x\": {n}}}\n")).collect();
    let produced = bench
        .run_with_input("mofka-ctl produce my_topic", lines.as_bytes())
        .ok();
    assert!(produced.starts_with("100 events acknowledged"), "{produced}");
    // A consumer that acknowledges every tenth, and is started again.
    let first = bench
        .run("mofka-ctl consume my_topic -c me --count 35 --ack-every 10")
        .ok();
    let rest = bench
        .run("mofka-ctl consume my_topic -c me --count 65 --ack-every 10")
        .ok();
    let numbers: Vec<u64> = first
        .lines()
        .chain(rest.lines())
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["metadata"]["x"]
                .as_u64()
                .unwrap()
        })
        .collect();
    assert_eq!(numbers, (0..100).collect::<Vec<_>>());

    let state = bench.run("bedrock-query na+sm -f mofka.json").ok();
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&state).unwrap()["topics"],
        2
    );
    assert!(
        bench
            .run("bedrock-shutdown na+sm -f mofka.json")
            .ok()
            .contains("stopped")
    );
    let status = bedrock.0.wait().unwrap();
    assert_eq!(status.code(), Some(0), "the daemon stops cleanly");
    bench
        .run("bedrock-shutdown na+sm -f mofka.json")
        .fails(3, &["no node answers"]);
}
