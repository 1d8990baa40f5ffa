//! `log export` and `log import`: what comes out is what went in.

use std::fs::File;
use std::io::{Read, Write};
use std::process::Stdio;

use serde_json::{Value, json};

use super::stored::{Random, Stored, bgl_lines, flip, parse};
use crate::run::{Bench, Ran};

/// Lines of a topic with the ids and the metadata they have.
fn events(bench: &Bench, topic: &str, count: usize) -> Vec<Value> {
    let out = bench
        .run(&format!(
            "mofka-ctl tail {topic} --from first --count {count} --timeout 10"
        ))
        .ok();
    out.lines().map(parse).collect()
}

/// Producers and times, as inspect tells them of the whole partition.
fn producers_and_times(partition: &Value) -> (Value, Vec<(u64, u64)>) {
    let segments = partition["segments"].as_array().unwrap();
    let with_events = segments
        .iter()
        .rev()
        .find(|segment| segment["frame_count"] != json!(0))
        .unwrap();
    let mut times = Vec::new();
    for frame in segments
        .iter()
        .flat_map(|segment| segment["frames"].as_array().unwrap())
    {
        if frame["mark"] == json!(false) {
            let number = |field: &str| frame[field].as_u64().unwrap();
            times.push((number("base_event_id"), number("timestamp_us")));
        }
    }
    (with_events["producers"].clone(), times)
}

#[test]
fn an_export_is_imported_by_another_node_event_by_event() {
    let stored = Stored::new();
    stored.run("mofka-ctl log export data events.mofka").ok();
    let checked = parse(&stored.run("mofka-ctl --json log verify events.mofka").ok());
    assert_eq!(
        (&checked["export"]["events"], &checked["export"]["topic"]),
        (&json!(2000), &json!("bgl"))
    );
    stored
        .run("mofka-ctl log export data events.mofka")
        .fails(1, &["there already"]);
    let shown = parse(
        &stored
            .run("mofka-ctl --json log inspect --frames events.mofka")
            .ok(),
    );
    assert_eq!(
        (&shown["end_event_id"], &shown["error"]),
        (&json!(2000), &Value::Null)
    );
    let before = producers_and_times(&stored.inspected());

    // Another node, which has something of its own.
    let other = Stored {
        bench: Bench::with_daemon(),
    };
    std::fs::write(other.bench.path().join("config.json"), "{}").unwrap();
    std::fs::copy(
        stored.bench.path().join("events.mofka"),
        other.bench.path().join("events.mofka"),
    )
    .unwrap();
    other.start();
    other.run("mofka-ctl topic create own --partitions 1").ok();
    other.produce("own", &bgl_lines()[..10]);
    other
        .run("mofka-ctl log import events.mofka data")
        .fails(1, &["in use", "mofka-ctl shutdown"]);
    other.stop();
    let answer = parse(&other.run("mofka-ctl --json log import events.mofka data").ok());
    assert_eq!(
        (&answer["topic"], &answer["end_event_id"], &answer["cursors"]),
        (&json!("bgl"), &json!(2000), &json!(1))
    );
    other
        .run("mofka-ctl log import events.mofka data")
        .fails(1, &["\"bgl\"", "--add-partition", "--topic"]);
    other.verify().ok();
    let line = format!(
        "mofka-ctl --json log inspect --frames {}",
        answer["directory"].as_str().unwrap()
    );
    let after = producers_and_times(&parse(&other.run(&line).ok())["partitions"][0]);
    assert_eq!(after, before, "producers' sequences and times of acceptance");

    stored.start();
    other.start();
    assert_eq!(
        events(&other.bench, "bgl", 2000),
        events(&stored.bench, "bgl", 2000)
    );
    assert_eq!(events(&other.bench, "own", 10).len(), 10);
    // The consumer goes on where it was, and the partition takes more.
    other.produce("bgl", &bgl_lines()[..5]);
    let consumed = other
        .run("mofka-ctl consume bgl -c me --count 1305 --timeout 10 --data none")
        .ok();
    let ids: Vec<u64> = consumed
        .lines()
        .map(|line| parse(line)["id"].as_u64().unwrap())
        .collect();
    assert_eq!(ids, (700..2005).collect::<Vec<_>>());
    let list = parse(&other.run("mofka-ctl --json topic describe bgl").ok());
    let described = parse(&stored.run("mofka-ctl --json topic describe bgl").ok());
    assert_eq!(list["durability"], described["durability"]);
    stored.stop();
    other.stop();
    other.verify().ok();
    // Under another name, and as a second partition.
    other
        .run("mofka-ctl log import events.mofka data --topic again")
        .ok();
    let answer = parse(
        &other
            .run("mofka-ctl --json log import events.mofka data --topic again --add-partition")
            .ok(),
    );
    assert_eq!(answer["index"], json!(1));
    other.start();
    assert_eq!(events(&other.bench, "again", 4000).len(), 4000);
}

#[test]
fn a_range_goes_through_a_pipe_into_an_empty_directory() {
    let stored = Stored::new();
    let partition = stored.partition();
    let line = format!(
        "mofka-ctl log export {} - --from 705 --to 1234",
        partition.display()
    );
    let mut command = stored.bench.command("mofka-ctl");
    let output = command.args(line.split(' ').skip(1)).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        told.contains("events 700 to 1240 exported"),
        "whole batches: {told}"
    );
    std::fs::create_dir(stored.bench.path().join("empty")).unwrap();
    for into in ["empty", "absent/"] {
        stored
            .bench
            .run_with_input(&format!("mofka-ctl log import - {into}"), &output.stdout)
            .ok();
        let found = parse(&stored.run(&format!("mofka-ctl --json log verify {into}")).ok());
        let found = &found["partitions"][0];
        assert_eq!(
            (&found["events"], &found["end_event_id"]),
            (&json!(540), &json!(1240))
        );
        assert_eq!(found["segments"][0]["base_event_id"], json!(700));
    }
    stored
        .bench
        .run_with_input("mofka-ctl log import - empty", &output.stdout)
        .fails(1, &["neither empty"]);
    // Nothing but what was asked for is left.
    let names: Vec<_> = std::fs::read_dir(stored.bench.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(
        !names
            .iter()
            .any(|name| name.to_string_lossy().contains("importing")),
        "{names:?}"
    );
    for (range, words) in [("--from 3000", "0 to 2000"), ("--to 3000", "ends at 2000")] {
        stored
            .run(&format!("mofka-ctl log export data x.mofka {range}"))
            .fails(1, &[words]);
    }
    assert!(!stored.bench.path().join("x.mofka").exists());
}

#[test]
fn an_export_that_changed_is_not_imported() {
    let stored = Stored::new();
    stored.run("mofka-ctl log export data events.mofka --to 300").ok();
    let path = stored.bench.path().join("events.mofka");
    let whole = std::fs::read(&path).unwrap();
    let catalog = std::fs::read(stored.data().join("catalog")).unwrap();
    let mut random = Random::new(31);
    for round in 0..40 {
        let mut bytes = whole.clone();
        let at = random.below(bytes.len() as u64) as usize;
        match round % 3 {
            0 => bytes.truncate(at),
            1 => bytes[at] ^= 1 << random.below(8),
            _ => bytes.push(0),
        }
        std::fs::write(&path, bytes).unwrap();
        for command in [
            "verify events.mofka",
            "import events.mofka data --topic new",
            "import events.mofka fresh",
        ] {
            let ran = stored.run(&format!("mofka-ctl log {command}"));
            // What no longer begins like an export is taken for another file.
            assert!(
                matches!(ran.code, Some(1 | 4..=6)),
                "round {round}, byte {at}: {ran:?}"
            );
            assert!(!ran.err.contains("panicked"), "{ran:?}");
        }
        stored.run("mofka-ctl log inspect events.mofka");
    }
    assert_eq!(std::fs::read(stored.data().join("catalog")).unwrap(), catalog);
    assert_eq!(
        std::fs::read_dir(stored.data().join("partitions"))
            .unwrap()
            .count(),
        1
    );
    assert!(!stored.bench.path().join("fresh").exists());
}

#[test]
fn damage_ends_an_export_unless_it_ends_before() {
    let stored = Stored::new();
    let shown = stored.inspected();
    let frame = &shown["segments"][2]["frames"][5];
    let (base, at) = (
        frame["base_event_id"].as_u64().unwrap(),
        frame["data_at"].as_u64().unwrap(),
    );
    flip(&stored.files(".data")[2], at + 9, 2);
    stored
        .run("mofka-ctl log export data events.mofka")
        .fails(4, &["does not check", &format!("--to {base}")]);
    let names: Vec<_> = std::fs::read_dir(stored.bench.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(
        !names
            .iter()
            .any(|name| name.to_string_lossy().contains("events.mofka")),
        "{names:?}"
    );
    stored
        .run(&format!("mofka-ctl log export data events.mofka --to {base}"))
        .ok();
    stored.run("mofka-ctl log verify events.mofka").ok();
}

#[test]
fn an_export_of_nothing_keeps_where_it_begins() {
    let stored = Stored::new();
    stored
        .run("mofka-ctl log export data none.mofka --from 2000")
        .ok();
    stored
        .run("mofka-ctl log import none.mofka data --topic none")
        .ok();
    stored.start();
    stored.produce("none", &bgl_lines()[..3]);
    let found = events(&stored.bench, "none", 3);
    assert_eq!(found[0]["id"], json!(2000));
}

/// More than the tool may take as memory.
const LARGE_BYTES: usize = 200 << 20;
const MEMORY_BYTES_MAX: u64 = 120 << 20;

/// The most memory that a process has had so far; `None` when it has ended.
fn peak_bytes(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    Some(kib << 10)
}

#[test]
fn an_event_larger_than_the_tools_memory_goes_out_and_in() {
    let stored = Stored {
        bench: Bench::with_daemon(),
    };
    let path = |name: &str| stored.bench.path().join(name);
    std::fs::write(path("config.json"), "{}").unwrap();
    stored.start();
    stored.run("mofka-ctl topic create t --partitions 1").ok();
    stored.produce("t", &bgl_lines()[..30]);
    // The second is not a multiple of anything.
    let mut random = Random::new(5);
    for bytes in [LARGE_BYTES, (20 << 20) + 4321] {
        let large: Vec<u8> = (0..bytes / 8 + 1)
            .flat_map(|_| random.below(u64::MAX).to_le_bytes())
            .take(bytes)
            .collect();
        std::fs::write(path("large"), &large).unwrap();
        stored
            .run("mofka-ctl produce t --stream large --metadata {\"large\":1}")
            .ok();
        std::fs::rename(path("large"), path(&format!("large-{bytes}"))).unwrap();
    }
    stored.produce("t", &bgl_lines()[30..40]);
    stored.stop();

    let mut exporting = stored.bench.command("mofka-ctl");
    let exporting = exporting.args(["log", "export", "data", "-"]);
    let mut exporting = exporting
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut from = exporting.stdout.take().unwrap();
    let mut exported = Vec::new();
    from.by_ref()
        .take(LARGE_BYTES as u64 * 3 / 4)
        .read_to_end(&mut exported)
        .unwrap();
    let export_bytes = peak_bytes(exporting.id()).unwrap();
    from.read_to_end(&mut exported).unwrap();
    assert!(exporting.wait().unwrap().success());
    std::fs::write(path("t.mofka"), &exported).unwrap();

    let import = |into: &str, whole: &[u8]| {
        let mut importing = stored.bench.command("mofka-ctl");
        let importing = importing.args(["log", "import", "-"]).args(into.split(' '));
        let mut importing = importing
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut to = importing.stdin.take().unwrap();
        let (first, last) = whole.split_at(whole.len() - 1000);
        // One that does not check is not read to its end.
        let _ = to.write_all(first);
        let peak = peak_bytes(importing.id());
        let _ = to.write_all(last);
        drop(to);
        (peak, Ran::from(importing.wait_with_output().unwrap()))
    };
    let (import_bytes, ran) = import("data --topic again", &exported);
    ran.ok();
    let import_bytes = import_bytes.unwrap();
    println!("peaks: export {export_bytes}, import {import_bytes}");
    assert!(export_bytes < MEMORY_BYTES_MAX, "{export_bytes}");
    assert!(import_bytes < MEMORY_BYTES_MAX, "{import_bytes}");
    stored.run("mofka-ctl log verify t.mofka").ok();
    let checked = parse(&stored.verify().ok());
    assert_eq!(
        (
            &checked["partitions"][0]["events"],
            &checked["partitions"][1]["events"]
        ),
        (&json!(42), &json!(42))
    );
    let shown = parse(&stored.run("mofka-ctl --json log inspect --frames t.mofka").ok());
    assert_eq!(shown["end_event_id"], json!(42));

    // A node serves it, and goes on behind it.
    stored.start();
    stored.produce("again", &bgl_lines()[40..41]);
    stored
        .run("mofka-ctl consume again -c c --count 43 --timeout 20 --data-to .")
        .ok();
    let same = |name: &str, other: &str| {
        let read = |name: &str| std::fs::read(path(name)).unwrap();
        assert!(read(name) == read(other), "{name} is not {other}");
    };
    same("0-30.data", &format!("large-{LARGE_BYTES}"));
    same("0-31.data", &format!("large-{}", (20 << 20) + 4321));
    for (id, line) in (0..30).chain(32..43).zip(bgl_lines()) {
        let data = std::fs::read_to_string(path(&format!("0-{id}.data"))).unwrap();
        assert_eq!(data, line);
    }
    stored.stop();
    stored.verify().ok();

    // Changed in the middle of the large event, and cut there.
    let mut changed = exported.clone();
    changed[LARGE_BYTES / 2] ^= 1;
    let (_, ran) = import("fresh", &changed);
    ran.fails(4, &["does not check", "event 30"]);
    let (_, ran) = import("fresh", &exported[..LARGE_BYTES / 2]);
    ran.fails(4, &["ends early"]);
    File::create(path("t.mofka"))
        .unwrap()
        .write_all(&changed)
        .unwrap();
    stored
        .run("mofka-ctl log verify t.mofka")
        .fails(4, &["does not check", "event 30"]);
    assert!(!path("fresh").exists() && !path("fresh.importing").exists());
}
