//! `log verify` and `log inspect`.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::stored::{Random, Stored, flip, parse};

/// Every range of bytes in the partition's files that something vouches for.
fn vouched(stored: &Stored) -> Vec<(PathBuf, u64, u64)> {
    let found = stored.inspected();
    let segments = found["segments"].as_array().unwrap();
    assert!(segments.len() > 4, "{} segments", segments.len());
    let number = |value: &Value| value.as_u64().unwrap();
    let mut ranges = Vec::new();
    for (place, segment) in segments.iter().enumerate() {
        let file = |half: &str| stored.partition().join(segment[half]["file"].as_str().unwrap());
        let (meta, data) = (file("meta"), file("data"));
        ranges.extend([(meta.clone(), 0, 4096), (data.clone(), 0, 4096)]);
        let is_last = place + 1 == segments.len();
        let frames = segment["frames"].as_array().unwrap();
        // Of the last frame, the mark of the stop, nothing testifies but itself.
        for frame in frames.iter().take(frames.len() - usize::from(is_last)) {
            let at = number(&frame["at"]);
            ranges.push((meta.clone(), at, at + number(&frame["frame_bytes"])));
            let at = number(&frame["data_at"]);
            if at > 0 {
                ranges.push((data.clone(), at, at + number(&frame["data_bytes"])));
            }
        }
        // The last two may be unsealed, so that a footer lost there is no proof of damage.
        if place + 2 < segments.len() {
            ranges.push((
                meta.clone(),
                number(&segment["footer"]["at"]),
                number(&segment["meta"]["bytes"]),
            ));
        }
    }
    ranges
}

#[test]
fn what_a_node_wrote_is_clean_and_shown_as_it_is() {
    let stored = Stored::new();
    let before = stored.snapshot();
    let found = parse(&stored.verify().ok());
    assert_eq!(
        (&found["worst"], &found["in_use"]),
        (&json!("clean"), &json!(false))
    );
    let partition = &found["partitions"][0];
    assert_eq!(
        (&partition["topic"], &partition["events"]),
        (&json!("bgl"), &json!(2000))
    );
    let lines = super::stored::bgl_lines();
    let data_bytes: usize = lines.iter().map(String::len).sum();
    let checked: u64 = partition["segments"]
        .as_array()
        .unwrap()
        .iter()
        .map(|segment| segment["checked_data_bytes"].as_u64().unwrap())
        .sum();
    assert_eq!(checked, data_bytes as u64, "every byte of data was read");

    let shown = stored.inspected();
    assert_eq!(
        shown["cursors"],
        json!([{"consumer": "me", "next_event_id": 700}])
    );
    assert_eq!(shown["synced_end_witness"], json!(2000));
    let events: u64 = shown["segments"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|segment| segment["frames"].as_array().unwrap())
        .map(|frame| frame["event_count"].as_u64().unwrap())
        .sum();
    assert_eq!(events, 2000);
    let with_events = stored.run("mofka-ctl --json log inspect --events data").ok();
    let shown = parse(&with_events);
    assert_eq!(
        shown["partitions"][0]["segments"][0]["frames"][0]["events"][3]["metadata"],
        json!({"log": "bgl"})
    );
    assert_eq!(
        shown["files"][0]["records"][0]["record"]["topic_created"]["name"],
        json!("bgl")
    );
    let text = stored.run("mofka-ctl log inspect data").ok();
    assert!(
        text.contains("cursor of me: next event 700") && text.contains("verdict B"),
        "{text}"
    );
    assert!(stored.snapshot() == before, "nothing was written");

    // One file at a time.
    for file in [
        "data/catalog".into(),
        stored.partition().join("cursors"),
        stored.files(".data").remove(1),
    ] {
        stored
            .run(&format!("mofka-ctl log verify {}", file.display()))
            .ok();
        stored
            .run(&format!("mofka-ctl log inspect {}", file.display()))
            .ok();
    }
    stored
        .run("mofka-ctl log verify data/none")
        .fails(1, &["data/none"]);
    stored
        .run("mofka-ctl log verify .")
        .fails(1, &["neither a data directory"]);
}

#[test]
fn files_of_a_node_that_works_are_read_with_a_warning() {
    let stored = Stored::new();
    stored.start();
    let ran = stored.verify();
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(
        ran.err.contains("in use") && ran.err.contains("not damage"),
        "{ran:?}"
    );
    assert_eq!(parse(&ran.out)["in_use"], json!(true));
}

#[test]
fn every_flipped_bit_of_what_is_vouched_for_is_found() {
    let stored = Stored::new();
    let ranges = vouched(&stored);
    let mut random = Random::new(11);
    for _ in 0..150 {
        // Ranges and not bytes are drawn, or nearly all flips would be in data.
        let (path, from, to) = &ranges[random.below(ranges.len() as u64) as usize];
        let (at, bit) = (from + random.below(to - from), random.below(8));
        flip(path, at, bit);
        let ran = stored.verify();
        let what = format!("bit {bit} of byte {at} of {}: {ran:?}", path.display());
        assert!(matches!(ran.code, Some(4..=6)), "{what}");
        assert!(!ran.err.contains("panicked"), "{what}");
        flip(path, at, bit);
    }
    stored.verify().ok();
    // The catalog and the cursors: the first frame. What follows are marks of stops, which are no events.
    for (name, bytes) in [("catalog", 4096 + 600), ("cursors", 4096 + 168)] {
        let path = stored.files("").into_iter().find(|path| path.ends_with(name));
        let path = path.unwrap_or_else(|| stored.data().join(name));
        for _ in 0..20 {
            let (at, bit) = (random.below(bytes), random.below(8));
            flip(&path, at, bit);
            let ran = stored.verify();
            assert!(
                matches!(ran.code, Some(4..=6)),
                "bit {bit} of byte {at} of {name}: {ran:?}"
            );
            flip(&path, at, bit);
        }
    }
}

#[test]
fn any_bytes_are_answered() {
    let stored = Stored::new();
    let files = stored.snapshot();
    let mut random = Random::new(12);
    for round in 0..60 {
        let (path, bytes) = &files[random.below(files.len() as u64) as usize];
        let mut damaged = bytes.clone();
        let start = random.below(damaged.len() as u64) as usize;
        match round % 4 {
            0 => damaged.truncate(start),
            1 => damaged[start..].fill(random.below(256) as u8),
            2 => {
                // A frame or a header that belongs elsewhere.
                let from = random.below(damaged.len() as u64) as usize / 8 * 8;
                let to = damaged.len().min(from + 4096);
                damaged.copy_within(from..to, 0);
            }
            _ => damaged
                .iter_mut()
                .skip(start)
                .take(64)
                .for_each(|byte| *byte = random.below(256) as u8),
        }
        std::fs::write(path, &damaged).unwrap();
        for command in ["verify", "inspect", "inspect --events", "--json inspect --frames"] {
            let (json, command) = match command.strip_prefix("--json ") {
                Some(command) => ("--json ", command),
                None => ("", command),
            };
            let ran = stored.run(&format!("mofka-ctl {json}log {command} data"));
            assert!(
                matches!(ran.code, Some(0 | 4..=6)),
                "round {round}, {command}: {ran:?}"
            );
            assert!(!ran.err.contains("panicked"), "round {round}, {command}: {ran:?}");
            if !json.is_empty() {
                parse(&ran.out);
            }
        }
        std::fs::write(path, bytes).unwrap();
    }
}

#[test]
fn files_that_are_kept_for_later_are_left_out() {
    let stored = Stored::new();
    let dir = stored.partition();
    for name in ["next.meta", "next.data", "free-3.data"] {
        std::fs::write(dir.join(name), vec![7; 10_000]).unwrap();
    }
    stored.verify().ok();
    let shown = stored.inspected();
    assert_eq!(
        shown["reserved_files"],
        json!(["free-3.data", "next.data", "next.meta"])
    );
}
