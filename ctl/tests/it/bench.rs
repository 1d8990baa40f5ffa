//! `bench` against a node that runs.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::run::{Bench, Ran};

const PATIENCE: Duration = Duration::from_secs(60);

fn checked(schema: &str, text: &str) -> Value {
    let document: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text:?}"));
    let schema: Value = serde_json::from_str(schema).unwrap();
    let errors: Vec<String> = jsonschema::validator_for(&schema)
        .unwrap()
        .iter_errors(&document)
        .map(|error| error.to_string())
        .collect();
    assert!(errors.is_empty(), "{errors:?} in {document}");
    document
}

fn node() -> Bench {
    let bench = Bench::with_daemon();
    bench.run("mofka-ctl start --shards 2").ok();
    bench
}

fn topics(bench: &Bench) -> String {
    bench.run("mofka-ctl topic list").ok()
}

/// Latencies that are in order.
fn assert_latency(latency: &Value, count: u64) {
    assert_eq!(latency["count"], count, "{latency}");
    let values: Vec<f64> = ["min_us", "p50_us", "p90_us", "p99_us", "p999_us", "max_us"]
        .iter()
        .map(|name| latency[name].as_f64().unwrap())
        .collect();
    assert!(values.is_sorted() && values[0] > 0.0, "{latency}");
}

#[test]
fn produce_counts_what_it_was_asked_for_and_leaves_no_topic() {
    let bench = node();
    let line = "mofka-ctl --json bench produce --events 3000 --producers 2 --partitions 3 --data-bytes 100 --warm-up 0 --hdr p.hdr \
                --batch-size 50 --in-flight 4 --durability written";
    let found = checked(
        include_str!("../../schemas/bench-produce.json"),
        &bench.run(line).ok(),
    );
    assert_eq!(
        (found["failed"].as_u64(), found["interrupted"].as_bool()),
        (Some(0), Some(false))
    );
    assert_eq!(found["events"], 3000);
    assert_latency(&found["latency"], 3000);
    assert_eq!(topics(&bench), "");
    let log = std::fs::read_to_string(bench.path().join("p.hdr")).unwrap();
    assert!(log.starts_with('#') && log.contains("HISTFAAA"), "{log}");
    let percentiles = std::fs::read_to_string(bench.path().join("p.hdr.percentiles")).unwrap();
    assert!(
        percentiles.contains("1/(1-Percentile)") && percentiles.contains("Total count"),
        "{percentiles}"
    );

    let text = bench
        .run("mofka-ctl bench produce --duration 300ms --warm-up 100ms --keep --data-bytes 0")
        .ok();
    for part in [
        "adaptive batches",
        "events/s",
        "p99.9",
        "client CPU",
        "us an event",
    ] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    assert!(topics(&bench).starts_with("mofka-bench-"), "kept");
}

#[test]
fn consume_gets_all_events_of_a_topic_of_its_own_and_of_one_that_is_there() {
    let bench = node();
    let schema = include_str!("../../schemas/bench-consume.json");
    let line =
        "mofka-ctl --json bench consume --events 2000 --partitions 2 --data-bytes 10 --warm-up-events 500";
    let found = checked(schema, &bench.run(line).ok());
    assert_eq!((&found["events"], &found["missing"]), (&1500.into(), &0.into()));
    assert_latency(&found["latency"], 1500);
    assert_eq!(topics(&bench), "");
    bench.run("mofka-ctl topic create mine --partitions 1").ok();
    bench
        .run_with_input("mofka-ctl produce mine", "{}\n".repeat(70).as_bytes())
        .ok();
    let found = checked(
        schema,
        &bench
            .run("mofka-ctl --json bench consume --topic mine --data none")
            .ok(),
    );
    assert_eq!((&found["events"], &found["topic"]), (&70.into(), &"mine".into()));
    assert_eq!(topics(&bench), "mine\n");
    let consumers = bench.run("mofka-ctl --json consumer list mine").ok();
    assert_eq!(consumers.trim_end(), "[]", "no trace");
}

#[test]
fn roundtrip_sees_every_event_of_its_schedule() {
    let bench = node();
    bench.run("mofka-ctl topic create mine --partitions 2").ok();
    bench
        .run_with_input("mofka-ctl produce mine", b"{\"r\": 1}\n{\"t\": \"x\"}\n")
        .ok();
    for more in ["--partitions 2", "--topic mine"] {
        let line = format!(
            "mofka-ctl --json bench roundtrip --rate 500 --events 400 --warm-up 200ms --producers 2 --data-bytes 64 {more}"
        );
        let found = checked(
            include_str!("../../schemas/bench-roundtrip.json"),
            &bench.run(&line).ok(),
        );
        assert_eq!(
            (&found["events"], &found["missing"], &found["failed"]),
            (&400.into(), &0.into(), &0.into())
        );
        assert_latency(&found["latency"], 400);
        assert_latency(&found["uncorrected_latency"], 400);
        // What counts from when it was due is never shorter than what counts from the push.
        for quantile in ["p50_us", "p99_us", "max_us"] {
            let of = |which: &str| found[which][quantile].as_f64().unwrap();
            assert!(of("latency") >= of("uncorrected_latency"), "{found}");
        }
    }
    assert_eq!(topics(&bench), "mine\n");
}

/// A benchmark that would take very long.
fn long(bench: &Bench, line: &str) -> Child {
    let mut words = line.split_whitespace();
    let mut command = bench.command(words.next().unwrap());
    command.args(words).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

#[test]
fn an_interruption_gives_what_was_found_so_far_and_cleans_up() {
    let bench = node();
    for (line, schema) in [
        (
            "mofka-ctl --json bench produce --duration 1h --warm-up 0",
            include_str!("../../schemas/bench-produce.json"),
        ),
        (
            "mofka-ctl --json bench roundtrip --duration 1h --rate 100 --warm-up 1ms",
            include_str!("../../schemas/bench-roundtrip.json"),
        ),
    ] {
        let child = long(&bench, line);
        let deadline = Instant::now() + PATIENCE;
        let stored = || {
            let status: Value = serde_json::from_str(&bench.run("mofka-ctl --json status").ok()).unwrap();
            let shards = status["shards"].as_array().unwrap().clone();
            let partitions = shards
                .iter()
                .flat_map(|shard| shard["partitions"].as_array().unwrap().clone());
            partitions.map(|p| p["events"].as_u64().unwrap()).sum::<u64>()
        };
        while stored() < 20 {
            assert!(Instant::now() < deadline, "nothing is produced");
            std::thread::sleep(Duration::from_millis(50));
        }
        let killed = Command::new("sh")
            .args(["-c", &format!("kill -INT {}", child.id())])
            .status();
        assert!(killed.unwrap().success());
        let ran = Ran::from(child.wait_with_output().unwrap());
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let found = checked(schema, &ran.out);
        assert_eq!(found["interrupted"], true);
        assert!(found["events"].as_u64().unwrap() > 0, "{found}");
        assert_eq!(topics(&bench), "");
    }
}

#[test]
fn mistakes_are_told() {
    let bench = Bench::new();
    bench.run("mofka-ctl bench").fails(2, &["produce", "roundtrip"]);
    bench.run("mofka-ctl bench produce").fails(3, &["./mofka.json"]);
    bench
        .run("mofka-ctl bench produce --metadata-bytes 3")
        .fails(2, &["--metadata-bytes", "80"]);
    bench
        .run("mofka-ctl bench produce --data-bytes 3G")
        .fails(2, &["3GiB"]);
    bench
        .run("mofka-ctl bench produce --events 3 --duration 3s")
        .fails(2, &["--events", "--duration"]);
    bench
        .run("mofka-ctl bench roundtrip --rate 0")
        .fails(2, &["0.01"]);
    bench
        .run("mofka-ctl bench produce --topic t --partitions 2")
        .fails(2, &["--topic", "--partitions"]);
    let bench = node();
    bench
        .run("mofka-ctl bench produce --topic absent")
        .fails(1, &["absent", "unknown_topic"]);
    bench.run("mofka-ctl topic create empty").ok();
    bench
        .run("mofka-ctl bench consume --topic empty")
        .fails(1, &["no partition", "partition add"]);
}
