//! How `produce`, `consume` and `tail` read and write events, and how they end.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::run::Bench;
use crate::schema::{conforms, lines_conform};

/// Runs the tool with these arguments, as they are.
fn run(bench: &Bench, arguments: &[&str], input: &[u8]) -> (Option<i32>, Vec<u8>, String) {
    let mut command = bench.command("mofka-ctl");
    command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A tool that fails early does not read it.
    let _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    (
        output.status.code(),
        output.stdout,
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[track_caller]
fn ok(bench: &Bench, arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let (code, out, err) = run(bench, arguments, input);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{arguments:?}");
    out
}

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill")
        .args([name, &child.id().to_string()])
        .status()
        .unwrap();
    assert!(sent.success());
}

/// A node with topic `t` of one partition, which has three events.
fn with_events() -> Bench {
    let bench = Bench::with_daemon();
    bench.run("mofka-ctl start --shards 1").ok();
    bench.run("mofka-ctl topic create t --partitions 1").ok();
    let events = br#"{"metadata": {"level": "INFO", "n": {"x": [7, "y"]}}, "data": "0123456789abcdefgh"}
{"metadata": {"level":"FATAL"}, "data_base64": "AP8K"}

{"metadata": {"level": "INFO"}}
"#;
    ok(&bench, &["produce", "t", "--format", "event"], events);
    bench
}

#[test]
fn events_are_printed_as_the_format_says() {
    let bench = with_events();
    let tail = |more: &[&str]| {
        let mut arguments = vec!["tail", "t", "--from", "first", "--count", "3"];
        arguments.extend(more);
        ok(&bench, &arguments, b"")
    };
    lines_conform("tail", std::str::from_utf8(&tail(&["--format", "json"])).unwrap());
    assert_eq!(tail(&["--format", "raw"]), b"0123456789abcdefgh\n\0\xFF\n\n\n");
    assert_eq!(
        tail(&["--format", "raw", "--separator", "\\0"]),
        b"0123456789abcdefgh\0\0\xFF\n\0\0"
    );
    let template = "{topic}/{partition}/{id} {metadata.level}{metadata.n.x.1} {data_bytes} {data:hex}";
    assert_eq!(
        String::from_utf8(tail(&["--format", template])).unwrap(),
        "t/0/0 INFOy 18 303132333435363738396162636465666768\nt/0/1 FATAL 3 00ff0a\nt/0/2 INFO 0 \n"
    );
    let dump = String::from_utf8(tail(&["--format", "hex"])).unwrap();
    assert!(
        dump.contains("t partition 0 id 1 metadata {\"level\":\"FATAL\"} data 3 bytes\n00000000  00 ff 0a"),
        "{dump}"
    );
    let fatal = ok(
        &bench,
        &[
            "tail",
            "t",
            "--from",
            "first",
            "--count",
            "1",
            "--filter",
            r#"{"level": ["FATAL"]}"#,
            "--format",
            "{id}",
        ],
        b"",
    );
    assert_eq!(fatal, b"1\n");
}

#[test]
fn only_the_bytes_that_are_wanted_are_fetched() {
    let bench = with_events();
    for (wanted, expected) in [
        ("none", ["", "", ""]),
        ("0..4", ["0123", "\0\u{fffd}\n", ""]),
        ("16..", ["gh", "", ""]),
        ("..1", ["0", "\0", ""]),
        ("1..3,8..9,17..40", ["128h", "\u{fffd}\n", ""]),
    ] {
        let arguments = [
            "tail",
            "t",
            "--from",
            "first",
            "--count",
            "3",
            "--data",
            wanted,
            "--format",
            "{data:json}",
        ];
        let out = String::from_utf8(ok(&bench, &arguments, b"")).unwrap();
        let found: Vec<String> = out
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(found, expected, "{wanted}");
    }
    for (arguments, words) in [
        (
            &["--data", "4..4"][..],
            &["4..4", "FROM must be less than TO"][..],
        ),
        (&["--data", "some"], &["some", "ranges of bytes"]),
        (&["--format", "jsn"], &["jsn", "did you mean json?"]),
        (&["--format", "{metdata}"], &["did you mean {metadata}?"]),
        (&["--format", "raw", "--data", "none"], &["--data none"]),
        (&["--separator", ","], &["--separator"]),
        (&["--json", "--format", "raw"], &["two formats"]),
        (&["--filter", "{level"], &["--filter", "not JSON"]),
    ] {
        let (code, out, err) = run(&bench, &[&["tail", "t"][..], arguments].concat(), b"");
        assert_eq!((code, out.is_empty()), (Some(2), true), "{arguments:?}: {err}");
        words
            .iter()
            .for_each(|word| assert!(err.contains(word), "{arguments:?}: no {word:?} in {err}"));
    }
}

#[test]
fn what_is_consumed_can_be_produced_again() {
    let bench = with_events();
    bench.run("mofka-ctl topic create copy --partitions 1").ok();
    let first = ok(&bench, &["consume", "t", "--count", "3"], b"");
    let produced = ok(
        &bench,
        &["--json", "produce", "copy", "--format", "event"],
        &first,
    );
    let produced: Value = serde_json::from_slice(&produced).unwrap();
    conforms("produce", &produced);
    assert_eq!(
        (&produced["acknowledged"], &produced["interrupted"]),
        (&json!(3), &json!(false))
    );
    let second = ok(&bench, &["consume", "copy", "--count", "3"], b"");
    let facts = |lines: &[u8]| {
        let line = |line: &str| {
            let event: Value = serde_json::from_str(line).unwrap();
            (
                event["id"].clone(),
                event["metadata"].clone(),
                event.get("data").or(event.get("data_base64")).cloned(),
            )
        };
        std::str::from_utf8(lines)
            .unwrap()
            .lines()
            .map(line)
            .collect::<Vec<_>>()
    };
    assert_eq!(facts(&first), facts(&second));
    // Data that was left out is not taken for none.
    let bare = ok(
        &bench,
        &["tail", "t", "--from", "first", "--count", "1", "--data", "none"],
        b"",
    );
    let (code, _, err) = run(&bench, &["produce", "copy", "--format", "event"], &bare);
    assert!(
        code == Some(1) && err.contains("without all of its data"),
        "{err}"
    );
    ok(
        &bench,
        &["produce", "copy", "--format", "hex", "--metadata", "{\"a\": 1}"],
        b"00ff 0a\n",
    );
    let last = ok(
        &bench,
        &[
            "tail",
            "copy",
            "--from",
            "3",
            "--count",
            "1",
            "--format",
            "{metadata} {data:hex}",
        ],
        b"",
    );
    assert_eq!(last, b"{\"a\": 1} 00ff0a\n");
    let (code, _, err) = run(&bench, &["produce", "copy", "--format", "hex"], b"00\n0g\n");
    assert!(code == Some(1) && err.contains("line 2"), "{err}");
}

#[test]
fn metadata_that_no_value_can_hold_is_copied_as_it_is() {
    let bench = with_events();
    for topic in ["a", "b"] {
        bench
            .run(&format!("mofka-ctl topic create {topic} --partitions 1"))
            .ok();
    }
    let deep = "[".repeat(5000) + &"]".repeat(5000);
    let lines = format!(
        "{}\n{{\"n\":1e400}}\n{{\"z\":1,\"a\":2,\"a\":3}}\n{{\"s\":\"\\ud800\"}}\n{deep}\n",
        r#"{"id":18446744073709551617,"x":0.1000000000000000055511151231257827}"#
    );
    ok(&bench, &["produce", "a"], lines.as_bytes());
    let tail = ["tail", "a", "--from", "first", "--count", "5"];
    let printed = ok(&bench, &tail, b"");
    ok(&bench, &["produce", "b", "--format", "event"], &printed);
    let tail = ["tail", "b", "--from", "first", "--count", "5"];
    let copied = ok(&bench, &[&tail[..], &["--format", "{metadata}"]].concat(), b"");
    assert_eq!(String::from_utf8(copied).unwrap(), lines);
    let (code, out, err) = run(&bench, &[&tail[..], &["--format", "{metadata.s}"]].concat(), b"");
    assert_eq!((code, out), (Some(1), b"\n\n\n".to_vec()), "{err}");
    assert!(
        err.starts_with("Error: cannot print event 3 of partition 0: {metadata.s}:"),
        "{err}"
    );
}

#[test]
fn an_interrupted_producer_says_what_was_acknowledged() {
    let bench = with_events();
    let mut command = bench.command("mofka-ctl");
    command
        .args(["--json", "produce", "t"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"{\"a\": 1}\n{\"a\": 2}\n{\"a\": ").unwrap();
    // The two whole lines are there when they can be read.
    ok(
        &bench,
        &[
            "tail",
            "t",
            "--from",
            "3",
            "--count",
            "2",
            "--format",
            "{metadata.a}",
        ],
        b"",
    );
    signal(&child, "-INT");
    // The pipe is open: it is the signal that ends it.
    let output = child.wait_with_output().unwrap();
    drop(input);
    let (out, err) = (
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    );
    let facts: Value = serde_json::from_str(&out).unwrap();
    conforms("produce", &facts);
    assert_eq!(
        (&facts["acknowledged"], &facts["failed"], &facts["interrupted"]),
        (&json!(2), &json!(0), &json!(true))
    );
    assert_eq!(
        (output.status.code(), err.as_str()),
        (
            Some(1),
            "Error: interrupted before line 3; every line before it was sent\n"
        )
    );
    // Half of an event's data is no event.
    let mut command = bench.command("mofka-ctl");
    command
        .args(["produce", "t", "--stream", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(&vec![7; 3 << 20]).unwrap();
    signal(&child, "-TERM");
    let output = child.wait_with_output().unwrap();
    drop(input);
    assert!(output.stdout.is_empty(), "{output:?}");
    assert_ne!(output.status.code(), Some(0), "{output:?}");
    let status: Value = serde_json::from_str(&bench.run("mofka-ctl --json partition list t").ok()).unwrap();
    assert_eq!(status[0]["events"], 5);
}

#[test]
fn an_interrupted_consumer_acknowledges_what_it_printed_and_says_so() {
    let bench = with_events();
    let mut command = bench.command("mofka-ctl");
    command
        .args(["consume", "t", "-c", "c", "--ack-every", "100"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for _ in 0..3 {
        lines.next().unwrap().unwrap();
    }
    signal(&child, "-INT");
    let mut err = String::new();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(
        err,
        "Interrupted: 3 events printed; acknowledged: partition 0 up to event 3\n"
    );
    let described: Value =
        serde_json::from_str(&bench.run("mofka-ctl --json consumer describe t c").ok()).unwrap();
    assert_eq!(
        (&described["lag"], &described["partitions"][0]["next_event_id"]),
        (&json!(0), &json!(3))
    );
}

#[test]
fn consumers_are_described_measured_and_forgotten() {
    let bench = with_events();
    bench.run("mofka-ctl consume t -c behind --count 1").ok();
    bench.run("mofka-ctl consume t -c done --count 3").ok();
    let lag = bench.run("mofka-ctl consumer lag t").ok();
    let words: Vec<Vec<&str>> = lag
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(
        words,
        [["behind", "2", "2", "1", "0"], ["done", "0", "0", "1", "0"]]
    );
    bench.run("mofka-ctl --json consumer lag t done --max 0").ok();
    let over = bench.run("mofka-ctl --json consumer lag t --max 1");
    over.fails(4, &["\"behind\" has 2 events", "more than 1"]);
    assert!(over.out.contains("partition_lag_max"), "{over:?}");
    let text = bench.run("mofka-ctl consumer describe t behind").ok();
    assert!(text.contains("lag        2 events"), "{text}");
    let described = bench.run("mofka-ctl --json partition describe t 0").ok();
    let described: Value = serde_json::from_str(&described).unwrap();
    assert_eq!(
        (
            &described["partition"]["visible_end"],
            &described["consumers"][0]["lag"]
        ),
        (&json!(3), &json!(2))
    );
    assert!(
        bench
            .run("mofka-ctl partition describe t 0")
            .ok()
            .contains("consumers see up to 3")
    );
    bench
        .run("mofka-ctl partition describe t 1")
        .fails(1, &["1 partitions", "index 1"]);

    bench.run("mofka-ctl --json consumer delete t behind").ok();
    bench
        .run("mofka-ctl consumer delete t behind")
        .fails(1, &["no consumer \"behind\""]);
    bench
        .run("mofka-ctl consumer describe t dome")
        .fails(1, &["did you mean \"done\"?"]);
    bench
        .run("mofka-ctl consumer delete t done --partition 7")
        .fails(1, &["no partition 7"]);
    // Names may be any text.
    let name = "\u{1b}[31mred\nline";
    ok(&bench, &["consume", "t", "-c", name, "--count", "1"], b"");
    for arguments in [
        &["consumer", "list", "t"][..],
        &["consumer", "describe", "t", name],
        &["partition", "describe", "t", "0"],
    ] {
        let out = String::from_utf8(ok(&bench, arguments, b"")).unwrap();
        assert!(
            out.contains("\\u{1b}[31mred") && !out.contains('\u{1b}'),
            "{arguments:?}: {out}"
        );
    }
    // It is gone after a restart, too, and begins anew.
    bench.run("mofka-ctl shutdown").ok();
    bench.run("mofka-ctl start --shards 1").ok();
    assert!(!bench.run("mofka-ctl consumer list t").ok().contains("behind"));
    let again = ok(
        &bench,
        &["consume", "t", "-c", "behind", "--count", "1", "--format", "{id}"],
        b"",
    );
    assert_eq!(again, b"0\n");
    // One that reads is not forgotten.
    let mut command = bench.command("mofka-ctl");
    command.args(["consume", "t", "-c", "done"]).stdout(Stdio::null());
    let mut child = command.spawn().unwrap();
    let started = std::time::Instant::now();
    while !bench
        .run("mofka-ctl consumer describe t done")
        .ok()
        .contains("connected  1")
    {
        assert!(started.elapsed().as_secs() < 30, "it does not connect");
    }
    bench
        .run("mofka-ctl consumer delete t done")
        .fails(1, &["\"done\" reads the partition now", "stop it first"]);
    signal(&child, "-INT");
    child.wait().unwrap();
}

#[test]
fn a_reader_that_went_away_is_no_error_to_be_told() {
    let bench = with_events();
    let without_reader = |line: &str| {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = bench.command("mofka-ctl");
        command
            .args(line.split(' '))
            .stdout(writer)
            .stderr(Stdio::piped());
        let output = command.spawn().and_then(Child::wait_with_output).unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), err.as_str()), (Some(141), ""), "{line}");
    };
    without_reader("tail t --from first");
    without_reader("consume t --count 3");
    without_reader("consumer list t");
    bench.run("mofka-ctl shutdown").ok();
    without_reader("log inspect mofka-data");
    without_reader("log export mofka-data --topic t -");
}

#[test]
fn a_cursor_is_moved_in_all_partitions_or_in_none() {
    let bench = with_events();
    bench.run("mofka-ctl topic create p --partitions 3").ok();
    ok(
        &bench,
        &["produce", "p", "--partition", "0"],
        b"{}\n{}\n{}\n{}\n{}\n{}\n",
    );
    ok(&bench, &["produce", "p", "--partition", "2"], b"{}\n{}\n{}\n");
    bench.run("mofka-ctl consumer seek p c 5").fails(
        1,
        &["no cursor was moved", "partition 1 at 0, of partition 2 at 3"],
    );
    assert_eq!(bench.run("mofka-ctl consumer list p").ok().lines().count(), 1);
    let moved = bench.run("mofka-ctl consumer seek p c 5 --partition 0").ok();
    assert_eq!(moved, "partition 0: next event id 5\n");
}

#[test]
fn events_for_a_partition_that_is_not_there_are_refused() {
    let bench = with_events();
    for more in ["", "--stream mofka.json"] {
        bench
            .run_with_input(&format!("mofka-ctl produce t --partition 1 {more}"), b"{}\n")
            .fails(1, &["topic t has no partition 1: it has 1"]);
    }
    let status = bench.run("mofka-ctl --json partition list t").ok();
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status[0]["events"], 3);
}
