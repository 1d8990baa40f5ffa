//! `log repair`, and that the daemon goes on with what it leaves.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::stored::{Random, Stored, bgl_lines, flip, parse};

/// Repairs, and checks that nothing is touched before `--apply`.
fn repair(stored: &Stored) -> Value {
    let before = stored.snapshot();
    let plan = parse(&stored.run("mofka-ctl --json log repair data").ok());
    assert!(stored.snapshot() == before, "a dry run writes nothing");
    let done = parse(&stored.run("mofka-ctl --json log repair --apply data").ok());
    assert_eq!(plan["partitions"][0]["steps"], done["partitions"][0]["steps"]);
    done["partitions"][0].clone()
}

fn steps(done: &Value) -> Vec<&str> {
    let steps = done["steps"].as_array().unwrap();
    steps.iter().map(|step| step["kind"].as_str().unwrap()).collect()
}

/// Starts a node on the repaired files: the events before `end` are as they were, more come after them, and consumer
/// `me` goes on at `cursor`.
#[track_caller]
fn goes_on(stored: &Stored, end: usize, cursor: usize) {
    stored.verify().ok();
    let lines = bgl_lines();
    stored.start();
    let status = stored.run("mofka-ctl --json status").ok();
    let partition = &parse(&status)["shards"][0]["partitions"][0];
    assert_eq!(
        (&partition["state"], &partition["events"]),
        (&json!("open"), &json!(end)),
        "{status}"
    );
    stored.produce("bgl", &lines[..30]);
    let found = stored.consumed("bgl", 0, end + 30);
    assert!(
        found[..end] == lines[..end],
        "the events before the end are as they were"
    );
    assert!(
        found[end..] == lines[..30],
        "and what came after the repair follows"
    );
    let line = format!(
        "mofka-ctl consume bgl -c me --count {} --timeout 10 --data none",
        end + 30 - cursor
    );
    let consumed = stored.run(&line).ok();
    let first = parse(consumed.lines().next().unwrap());
    assert_eq!(
        first["id"],
        json!(cursor),
        "the consumer goes on where it was, or at the end"
    );
    stored.stop();
    stored.verify().ok();
}

/// The end of the events before the batch that holds this byte of a segment's file.
fn end_before(segment: &Value, field: &str, at: u64) -> usize {
    let frames = segment["frames"].as_array().unwrap();
    let holds = |frame: &&Value| {
        let from = frame[if field == "data" { "data_at" } else { "at" }]
            .as_u64()
            .unwrap();
        let bytes = frame[if field == "data" {
            "data_bytes"
        } else {
            "frame_bytes"
        }]
        .as_u64()
        .unwrap();
        from <= at && at < from + bytes
    };
    usize::try_from(
        frames.iter().find(holds).unwrap()["base_event_id"]
            .as_u64()
            .unwrap(),
    )
    .unwrap()
}

#[test]
fn nothing_is_done_where_nothing_is_wrong() {
    let stored = Stored::new();
    let before = stored.snapshot();
    let done = repair(&stored);
    assert_eq!(done["steps"], json!([]));
    assert!(stored.snapshot() == before);
    goes_on(&stored, 2000, 700);
}

#[test]
fn a_node_that_works_is_not_repaired() {
    let stored = Stored::new();
    stored.start();
    stored
        .run("mofka-ctl log repair --apply data")
        .fails(1, &["in use", "mofka-ctl shutdown"]);
}

#[test]
fn damage_in_a_sealed_segment_cuts_there_and_keeps_what_goes() {
    for (half, place) in [("meta", 1), ("data", 2)] {
        let stored = Stored::new();
        let shown = stored.inspected();
        let segment = &shown["segments"][place];
        let frame = &segment["frames"][3];
        let at = frame[if half == "data" { "data_at" } else { "at" }]
            .as_u64()
            .unwrap()
            + 50;
        let end = end_before(segment, half, at);
        let file = stored.partition().join(segment[half]["file"].as_str().unwrap());
        flip(&file, at, 3);
        let later: Vec<(PathBuf, Vec<u8>)> = stored.snapshot();
        let done = repair(&stored);
        assert_eq!(done["verified"], json!(true), "{done}");
        assert_eq!(
            (&done["end_event_id"], &done["dropped_events"]),
            (&json!(end), &json!(2000 - end))
        );
        // Everything that went is there: later segments whole, the tails of the one that was cut.
        let aside = PathBuf::from(stored.bench.path()).join(done["repair_directory"].as_str().unwrap());
        let kept =
            |name: &str| std::fs::read(aside.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        for (path, bytes) in &later {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let base: u64 = name.split('.').next().unwrap().parse().unwrap_or(0);
            if base > segment["base_event_id"].as_u64().unwrap() {
                assert!(kept(&name) == *bytes, "{name} is kept as it was");
            }
        }
        assert!(aside.join("what.json").exists());
        let cursor = 700.min(end);
        let moved = done["cursors_moved"].as_array().unwrap();
        assert_eq!(moved.len(), usize::from(end < 700), "{moved:?}");
        goes_on(&stored, end, cursor);
    }
}

#[test]
fn headers_and_footers_that_are_lost_are_written_again() {
    let stored = Stored::new();
    let (metas, datas) = (stored.files(".meta"), stored.files(".data"));
    flip(&metas[0], 20, 0);
    flip(&datas[1], 50, 0);
    let footer = std::fs::metadata(&metas[2]).unwrap().len() - 30;
    flip(&metas[2], footer, 0);
    let mut bytes = std::fs::read(&metas[3]).unwrap();
    bytes.truncate(bytes.len() - 4096);
    std::fs::write(&metas[3], bytes).unwrap();
    // A file of another partition, where there is room for it.
    let foreign = metas[1].with_file_name("00000000000000000123.meta");
    std::fs::copy(&metas[1], &foreign).unwrap();
    let problems = stored.problems();
    for kind in ["header_lost", "data_header_lost", "footer_lost", "foreign"] {
        assert!(
            problems.iter().any(|found| found == kind),
            "no {kind} in {problems:?}"
        );
    }
    let done = repair(&stored);
    assert_eq!(
        (&done["end_event_id"], &done["dropped_events"]),
        (&json!(2000), &json!(0))
    );
    assert_eq!(
        steps(&done),
        ["write_header", "set_aside", "write_header", "seal", "seal"]
    );
    goes_on(&stored, 2000, 700);
}

#[test]
fn a_data_file_that_is_gone_gives_up_its_events() {
    let stored = Stored::new();
    let lost = stored.files(".data").remove(2);
    let base: usize = lost.file_stem().unwrap().to_string_lossy().parse().unwrap();
    std::fs::remove_file(&lost).unwrap();
    let done = repair(&stored);
    assert_eq!(
        (&done["end_event_id"], &done["verified"]),
        (&json!(base), &json!(true)),
        "{done}"
    );
    goes_on(&stored, base, 700.min(base));
}

#[test]
fn a_last_segment_that_lost_its_end_is_open_again() {
    // Where segments end depends on how many writes were under way, so that the last may have next to nothing.
    let (stored, frames) = std::iter::repeat_with(Stored::new)
        .map(|stored| {
            let shown = stored.inspected();
            let frames = shown["segments"].as_array().unwrap().last().unwrap()["frames"].clone();
            let with_events = |frame: &&Value| frame["mark"] == json!(false);
            let frames: Vec<Value> = frames
                .as_array()
                .unwrap()
                .iter()
                .filter(with_events)
                .cloned()
                .collect();
            (stored, frames)
        })
        .find(|(_, frames)| frames.len() > 2)
        .unwrap();
    let last = stored.files(".meta").pop().unwrap();
    let frame = &frames[frames.len() / 2];
    let file = std::fs::File::options().write(true).open(&last).unwrap();
    file.set_len(frame["at"].as_u64().unwrap()).unwrap();
    let end = usize::try_from(frame["base_event_id"].as_u64().unwrap()).unwrap();
    stored.verify().fails(4, &["damaged"]);
    let done = repair(&stored);
    assert_eq!(done["end_event_id"], json!(end));
    assert!(
        steps(&done).contains(&"rewrite_cursors"),
        "the record of what is durable is lowered: {done}"
    );
    goes_on(&stored, end, 700);
}

#[test]
fn cursors_are_saved_as_far_as_they_check() {
    let stored = Stored::new();
    let cursors = stored.partition().join("cursors");
    // The first record of `me` is one of several: a later one is in force.
    flip(&cursors, 4096 + 60, 1);
    stored.verify().fails(4, &["damaged"]);
    let done = repair(&stored);
    assert_eq!(steps(&done), ["rewrite_cursors"]);
    goes_on(&stored, 2000, 700);

    // Without its header the records still tell.
    flip(&cursors, 12, 1);
    let done = repair(&stored);
    assert_eq!(steps(&done), ["rewrite_cursors"]);
    stored.verify().ok();
    let shown = stored.inspected();
    assert_eq!(
        shown["cursors"],
        json!([{"consumer": "me", "next_event_id": 2030}])
    );
}

#[test]
fn a_catalog_is_saved_as_far_as_it_checks_and_no_partition_is_removed() {
    let stored = Stored::new();
    let partition = stored.partition();
    // The record that a second topic adds survives, the first one's does not.
    stored.start();
    stored.run("mofka-ctl topic create other --partitions 1").ok();
    stored.stop();
    flip(&stored.data().join("catalog"), 4096 + 300, 1);
    stored.verify().fails(4, &["damaged"]);
    let done = parse(&stored.run("mofka-ctl --json log repair --apply data").ok());
    let name = partition.file_name().unwrap().to_string_lossy().into_owned();
    assert_eq!(done["catalog"]["unlisted_partitions"], json!([name]));
    stored.start();
    assert_eq!(stored.run("mofka-ctl topic list").ok(), "other\n");
    let aside = partition.with_file_name(format!("{name}.unlisted"));
    assert!(aside.join("cursors").exists(), "the events are still there");
}

#[test]
fn a_repair_of_anything_ends_well_or_says_why_not() {
    let stored = Stored::new();
    let files = stored.snapshot();
    let mut random = Random::new(21);
    for round in 0..25 {
        for _ in 0..=random.below(3) {
            let (path, bytes) = &files[1 + random.below(files.len() as u64 - 1) as usize];
            let mut damaged = bytes.clone();
            let start = random.below(damaged.len() as u64) as usize;
            match random.below(4) {
                0 => damaged.truncate(start),
                1 => damaged[start..].fill(0),
                2 => damaged[start] ^= 1,
                _ => damaged
                    .iter_mut()
                    .skip(start)
                    .take(3000)
                    .for_each(|byte| *byte ^= 0x55),
            }
            std::fs::write(path, damaged).unwrap();
        }
        let ran = stored.run("mofka-ctl --json log repair --apply data");
        assert_eq!(ran.code, Some(0), "round {round}: {ran:?}");
        let ran = stored.verify();
        assert_eq!(ran.code, Some(0), "round {round}: {ran:?}");
        // Back to where it was, but for what was set aside.
        for path in stored.files("") {
            match path.is_dir() {
                true => std::fs::remove_dir_all(path).unwrap(),
                false => std::fs::remove_file(path).unwrap(),
            }
        }
        files
            .iter()
            .for_each(|(path, bytes)| std::fs::write(path, bytes).unwrap());
    }
    stored.verify().ok();
}
