//! Commands against a node that they start themselves.

use std::net::TcpListener;

use serde_json::{Value, json};

use crate::run::Bench;

fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text:?}"))
}

/// Without the times, which differ.
fn parse_lines(text: &str) -> Vec<Value> {
    let event = |line: &str| {
        let mut event = parse(line);
        event.as_object_mut().unwrap().remove("timestamp_us").unwrap();
        event
    };
    text.lines().map(event).collect()
}

#[test]
fn start_is_ready_when_it_ends_and_shutdown_when_it_is_gone() {
    let bench = Bench::with_daemon();
    let address = bench.run("mofka-ctl start --shards 1").ok();
    assert!(
        address.starts_with("na+sm:///") || address.starts_with("unix:///"),
        "{address}"
    );
    let status = parse(&bench.run("mofka-ctl status --json").ok());
    assert_eq!(status["shards"].as_array().map(Vec::len), Some(1));
    bench
        .run("mofka-ctl start")
        .fails(1, &["running already", "./mofka.json", "shutdown"]);
    let stopped = parse(&bench.run("mofka-ctl shutdown --json").ok());
    assert_eq!(stopped["pid"], status["pid"]);
    bench
        .run("mofka-ctl status")
        .fails(3, &["no node answers", "mofka-ctl start"]);
    // A group file of an earlier life is no hindrance.
    bench.run("mofka-ctl start --shards 1").ok();
}

#[test]
fn settings_are_shown_and_what_can_be_is_changed() {
    let bench = Bench::with_daemon();
    bench
        .run("mofka-ctl start --shards 1 --monitoring 127.0.0.1:0")
        .ok();
    let status = parse(&bench.run("mofka-ctl status --json").ok());
    let monitoring = status["monitoring"].as_str().unwrap().to_owned();
    assert!(monitoring.starts_with("http://127.0.0.1:"), "{status}");
    assert!(
        bench
            .run("mofka-ctl status")
            .ok()
            .contains(&format!("{monitoring}/metrics"))
    );
    assert_eq!(bench.run("mofka-ctl config get log_level").ok(), "info\n");
    let changed = bench.run("mofka-ctl config set log_level debug --json").ok();
    assert_eq!(
        parse(&changed),
        json!({"changed": [{"key": "log_level", "was": "info", "is": "debug", "note": "at once"}]})
    );
    assert_eq!(bench.run("mofka-ctl config get log_level").ok(), "debug\n");
    let again = bench.run("mofka-ctl config set log_level debug").ok();
    assert_eq!(again, "log_level is debug already\n");
    bench
        .run("mofka-ctl config set log_level loud")
        .fails(1, &["log level \"loud\" is none of", "invalid_argument"]);
    bench.run("mofka-ctl config set limits.heartbeat_ms 3").fails(
        1,
        &[
            "limits.heartbeat_ms",
            "cannot be changed while the node runs",
            "told to every client",
            "config get",
        ],
    );
    let unsaved = bench.run("mofka-ctl config set limits.rings_max 3 --save");
    unsaved.fails(1, &["was not saved", "without a configuration file"]);
    assert!(
        unsaved.out.contains("limits.rings_max: 3 (was 256)")
            && unsaved.out.contains("{\"limits\":{\"rings_max\":3}}"),
        "{unsaved:?}"
    );
    bench
        .run("mofka-ctl config set log_levl debug")
        .fails(1, &["did you mean \"log_level\"?"]);
    bench
        .run("mofka-ctl config get log_levl")
        .fails(1, &["no setting \"log_levl\"; did you mean \"log_level\"?"]);
    let all = bench.run("mofka-ctl config get").ok();
    assert!(
        all.contains("limits.connections_max") && all.contains("4096"),
        "{all}"
    );
}

#[test]
fn a_setting_is_saved_in_the_configuration_and_counts_at_the_next_start() {
    let bench = Bench::with_daemon();
    let path = bench.path().join("node.json");
    std::fs::write(&path, "{\n  \"limits\": {\n    \"connections_max\": 90\n  }\n}\n").unwrap();
    bench.run("mofka-ctl start -c node.json --shards 1").ok();
    let said = bench
        .run("mofka-ctl config set limits.connections_max 80 --save")
        .ok();
    assert!(said.contains("(was 90)") && said.contains("saved in "), "{said}");
    assert_eq!(
        std::fs::read_to_string(&path).unwrap(),
        "{\n  \"limits\": {\n    \"connections_max\": 80\n  }\n}\n"
    );
    let saved = bench
        .run("mofka-ctl --json config set log_level warn --save")
        .ok();
    assert!(
        parse(&saved)["saved"].as_str().unwrap().ends_with("/node.json"),
        "{saved}"
    );
    bench.run("mofka-ctl shutdown").ok();
    bench.run("mofka-ctl start -c node.json --shards 1").ok();
    assert_eq!(
        bench.run("mofka-ctl config get limits.connections_max").ok(),
        "80\n"
    );
    assert_eq!(bench.run("mofka-ctl config get log_level").ok(), "warn\n");
    std::fs::write(&path, "{\"limits\": {\"connections_max\": 70}}").unwrap();
    bench.run("mofka-ctl config set limits.rings_max 3 --save").fails(
        1,
        &["limits.connections_max: 70", "another node's, or was edited"],
    );
}

#[test]
fn a_start_that_fails_tells_the_daemon_s_reason() {
    let bench = Bench::with_daemon();
    std::fs::write(bench.path().join("bad.json"), "{\"shard\": 1}").unwrap();
    bench
        .run("mofka-ctl start -c bad.json")
        .fails(1, &["did not start", "shard", "shards"]);
    bench
        .run("mofka-ctl start -c none.json")
        .fails(1, &["did not start", "none.json"]);
    std::fs::write(bench.path().join("file"), "").unwrap();
    bench
        .run("mofka-ctl start --data-dir file/below")
        .fails(1, &["did not start", "file/below"]);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    bench
        .run(&format!("mofka-ctl start --shards 1 --listen tcp://{address}"))
        .fails(1, &["did not start", &address]);
    assert!(
        !bench.path().join("mofka.json").exists(),
        "no group file of a node that never was"
    );
}

#[test]
fn a_group_file_is_not_taken_from_a_node_that_runs() {
    let bench = Bench::with_daemon();
    for (name, dir) in [("one.json", "d1"), ("two.json", "d2")] {
        let config = json!({"data_dir": dir, "shards": 1, "listen": ["tcp://127.0.0.1:0"]});
        std::fs::write(bench.path().join(name), config.to_string()).unwrap();
    }
    let pid = parse(&bench.run("mofka-ctl --json start -c one.json").ok())["pid"].clone();
    let before = std::fs::read(bench.path().join("mofka.json")).unwrap();
    let ran = bench.run("bedrock tcp -c two.json");
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(
        ran.err
            .contains("mofka.json names another node, which runs at tcp://"),
        "{ran:?}"
    );
    assert_eq!(std::fs::read(bench.path().join("mofka.json")).unwrap(), before);
    // Its own node, and any other when that one is gone, take it.
    let killed = std::process::Command::new("kill")
        .args(["-9", &pid.to_string()])
        .status();
    assert!(killed.unwrap().success());
    bench.run("mofka-ctl start -c one.json").ok();
    bench.run("mofka-ctl shutdown").ok();
    std::fs::write(bench.path().join("mofka.json"), before).unwrap();
    bench.run("mofka-ctl start -c two.json").ok();
}

#[test]
fn retention_is_set_altered_and_told() {
    let bench = Bench::with_daemon();
    bench.run("mofka-ctl start --shards 1").ok();
    bench
        .run("mofka-ctl topic create t --retention-bytes 10GiB --retention-age 7d --retention-acknowledged=a,b")
        .ok();
    let described = bench.run("mofka-ctl topic describe t").ok();
    assert!(
        described.contains("at most 10.0 GiB in a partition; for 1w; until acknowledged by a, b"),
        "{described}"
    );
    let altered = bench
        .run("mofka-ctl --json topic alter t --retention-age none --retention-acknowledged --retention-keep-unacknowledged=a")
        .ok();
    assert_eq!(
        parse(&altered)["retention"],
        json!({
            "bytes_max": 10_u64 << 30, "acknowledged": "every_consumer", "keep_unacknowledged": {"consumers": ["a"]}
        })
    );
    bench.run("mofka-ctl shutdown").ok();
    bench.run("mofka-ctl start --shards 1").ok();
    let described = bench.run("mofka-ctl --json topic describe t").ok();
    assert_eq!(parse(&described)["retention"], parse(&altered)["retention"]);
    for (line, code, words) in [
        ("topic alter t", 2, &["--retention-bytes"][..]),
        ("topic alter t --retention-bytes 10G", 2, &["10GiB", "10GB"]),
        ("topic alter t --retention-age 7", 2, &["no unit", "7d"]),
        ("topic alter t --retention-bytes 0", 2, &["none"]),
        ("topic alter absent --retention-bytes 1GiB", 1, &["absent"]),
    ] {
        bench.run(&format!("mofka-ctl {line}")).fails(code, words);
    }
    bench.run("mofka-ctl topic create all").ok();
    let described = bench.run("mofka-ctl topic describe all").ok();
    assert!(
        described.contains("retention           everything"),
        "{described}"
    );
}

#[test]
fn a_consumer_that_is_behind_is_warned() {
    let bench = Bench::with_daemon();
    let config = "{\"limits\": {\"segment_data_bytes\": 65536, \"retention_check_ms\": 20}, \"shards\": 1}";
    std::fs::write(bench.path().join("small.json"), config).unwrap();
    bench.run("mofka-ctl start -c small.json").ok();
    bench.run("mofka-ctl topic create t --partitions 1").ok();
    let lines = "a line of a log that is long enough to fill something\n".repeat(8000);
    bench
        .run_with_input("mofka-ctl produce t --raw --batch-size 100", lines.as_bytes())
        .ok();
    bench.run("mofka-ctl consumer seek t mofka-ctl first").ok();
    bench.run("mofka-ctl topic alter t --retention-bytes 100KiB").ok();
    let bytes = || {
        let status = parse(&bench.run("mofka-ctl --json partition list t").ok());
        status[0]["bytes"].as_u64().unwrap()
    };
    let started = std::time::Instant::now();
    while bytes() > 100 << 10 {
        assert!(started.elapsed().as_secs() < 20, "it is not trimmed to its bound");
    }
    let ran = bench.run("mofka-ctl consume t --count 1 --timeout 20 --data none");
    let event = parse(&ran.out);
    let first = event["id"].as_u64().unwrap();
    assert!(first >= 1 && ran.code == Some(0), "{ran:?}");
    assert_eq!(
        ran.err.trim_end(),
        format!(
            "Warning: {first} events were dropped by the topic's retention before this consumer got them"
        )
    );
}

#[test]
fn events_go_in_and_come_out_also_after_a_restart() {
    let bench = Bench::with_daemon();
    bench.run("mofka-ctl start").ok();
    bench.run("mofka-ctl topic create t --partitions 2").ok();
    let lines = b"plain\r\n\xFF\xFE\n\nlast without an end";
    let produced = bench
        .run_with_input(
            "mofka-ctl --json produce t --raw --partition 1 --metadata {\"k\":1}",
            lines,
        )
        .ok();
    assert_eq!(
        (&parse(&produced)["acknowledged"], &parse(&produced)["failed"]),
        (&json!(4), &json!(0))
    );
    std::fs::write(bench.path().join("blob"), [0_u8, 159, 146, 150]).unwrap();
    let events = b"{\"n\": 1}\n\n{\"n\": 2}\n";
    bench
        .run_with_input(
            "mofka-ctl produce t - --partition 0 --data-file blob --batch-size 1",
            events,
        )
        .ok();

    let expected = [
        json!({"partition": 1, "id": 0, "metadata": {"k": 1}, "data_bytes": 5, "data": "plain"}),
        json!({"partition": 1, "id": 1, "metadata": {"k": 1}, "data_bytes": 2, "data_base64": "//4="}),
        json!({"partition": 1, "id": 2, "metadata": {"k": 1}, "data_bytes": 0, "data": ""}),
        json!({"partition": 1, "id": 3, "metadata": {"k": 1}, "data_bytes": 19, "data": "last without an end"}),
    ];
    let tail = parse_lines(&bench.run("mofka-ctl tail t --from first --count 6").ok());
    let of_partition = |events: &[Value], index: u64| {
        events
            .iter()
            .filter(|event| event["partition"] == index)
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(of_partition(&tail, 1), expected);
    assert_eq!(
        of_partition(&tail, 0)[1],
        json!({"partition": 0, "id": 1, "metadata": {"n": 2}, "data_bytes": 4, "data_base64": "AJ+Slg=="})
    );
    let without = parse_lines(
        &bench
            .run("mofka-ctl tail t --from first --count 6 --data none")
            .ok(),
    );
    assert!(
        without.iter().all(|event| event.get("data").is_none()),
        "{without:?}"
    );

    assert_eq!(
        bench
            .run("mofka-ctl consume t -c c --count 6")
            .ok()
            .lines()
            .count(),
        6
    );
    bench.run("mofka-ctl shutdown").ok();
    bench.run("mofka-ctl start").ok();
    let again = parse_lines(&bench.run("mofka-ctl tail t --from first --count 6").ok());
    assert_eq!(of_partition(&again, 1), expected);
    // The cursor is where it was, so nothing comes until it is moved.
    bench
        .run("mofka-ctl consume t -c c --count 1 --timeout 0.3")
        .fails(4, &["0 of 1"]);
    bench.run("mofka-ctl consumer seek t c 2 --partition 1").ok();
    let moved = parse_lines(&bench.run("mofka-ctl consume t -c c --count 2").ok());
    assert_eq!(moved, expected[2..]);
    let consumers = parse(&bench.run("mofka-ctl consumer list t --json").ok());
    let ends: Vec<&Value> = consumers
        .as_array()
        .unwrap()
        .iter()
        .map(|c| &c["next_event_id"])
        .collect();
    assert_eq!(ends, [2, 4]);
}

#[test]
fn topics_are_made_shown_completed_and_deleted() {
    let bench = Bench::with_daemon();
    bench.run("mofka-ctl start --shards 1").ok();
    bench
        .run("mofkactl topic create t --validator.limit -5 --p.x true --durability written")
        .ok();
    bench
        .run("mofkactl partition add t --type default -r 0 --config.depth 1.5 --pool p --d.x y")
        .ok();
    let topic = parse(&bench.run("mofka-ctl topic describe t --json").ok());
    assert_eq!(topic["validator"], json!({"type": "default", "limit": -5}));
    assert_eq!(
        (&topic["partition_selector"]["x"], &topic["durability"]),
        (&json!(true), &json!("written"))
    );
    assert_eq!(bench.run("mofka-ctl topic list").ok(), "t\n");
    assert_eq!(
        parse(&bench.run("mofka-ctl partition list t --json").ok())[0]["state"],
        "open"
    );

    bench
        .run("mofka-ctl topic create t")
        .fails(1, &["\"t\"", "exists"]);
    bench.run("mofka-ctl topic create ../t").fails(1, &["../t"]);
    bench
        .run("mofkactl partition add t --rank 7")
        .fails(1, &["invalid rank 7 (should be lower than 1)"]);
    bench
        .run("mofkactl partition add t --d.x 1")
        .fails(2, &["invalid dependency specifications"]);
    for command in [
        "topic describe",
        "topic delete",
        "topic complete",
        "partition list",
        "partition add",
        "consume",
        "consumer list",
        "produce",
    ] {
        bench
            .run(&format!("mofka-ctl {command} nope"))
            .fails(1, &["nope", "unknown_topic"]);
    }
    bench
        .run_with_input("mofka-ctl produce t", b"{\"x\": 1}\n{bad\n")
        .fails(1, &["line 2", "JSON"]);

    bench.run("mofka-ctl topic complete t").ok();
    bench
        .run_with_input("mofka-ctl produce t", b"{}")
        .fails(1, &["line 1", "complete"]);
    // The event before the bad line was delivered, and the end of the topic ends the reading.
    assert_eq!(bench.run("mofka-ctl consume t").ok().lines().count(), 1);
    bench.run("mofka-ctl topic delete t").ok();
    assert_eq!(bench.run("mofka-ctl topic list").ok(), "");
}

#[test]
fn the_demonstration_passes_and_tells_its_figures_as_json() {
    let bench = Bench::with_daemon();
    let directory = bench.path().join("demo");
    let ran = bench.run(&format!("mofka-ctl --json demo --dir {}", directory.display()));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let figures = parse(&ran.out);
    assert_eq!(
        (&figures["events"], &figures["alerts"], &figures["passed"]),
        (&json!(2000), &json!(143), &json!(true))
    );
    assert_eq!(figures["acknowledged_ends"], json!([500, 500, 500, 500]));
    assert!(
        figures["repeated"].as_u64().is_some_and(|repeated| repeated > 0),
        "{figures}"
    );
    assert_eq!(
        std::fs::read_dir(directory).unwrap().count(),
        0,
        "nothing stays behind"
    );
}

#[test]
fn the_demonstration_refuses_what_is_not_its_log() {
    let bench = Bench::new();
    std::fs::write(
        bench.path().join("BGL_2k.log"),
        "- 1 2 n 3 n RAS KERNEL INFO text\n",
    )
    .unwrap();
    bench
        .run("mofka-ctl demo --input BGL_2k.log")
        .fails(4, &["1 lines", "2000"]);
    bench
        .run("mofka-ctl demo --input none.log")
        .fails(1, &["none.log"]);
}
