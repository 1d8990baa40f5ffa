//! Files in the states that a daemon leaves them in at work and after crashes: space reserved ahead, segments not sealed
//! yet, a tail that moves, data larger than what is read at once.

use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use mofka_log::{
    EventId, Footer, FooterFacts, FooterTail, KeptProducers, ProducerId, ProducerTable, SegmentHeader,
    SegmentKind,
};
use serde_json::json;

use super::stored::{Stored, bgl_lines, flip, parse};
use crate::run::Ran;

/// Adds bytes to a file.
fn extend(path: &Path, byte: u8, count: usize) {
    let mut file = std::fs::File::options().write(true).open(path).unwrap();
    file.seek(SeekFrom::End(0)).unwrap();
    file.write_all(&vec![byte; count]).unwrap();
}

#[test]
fn reserved_space_and_segments_that_are_not_sealed_yet_are_no_damage() {
    let stored = Stored::new();
    let (metas, datas) = (stored.files(".meta"), stored.files(".data"));
    let count = metas.len();
    // The last segment as it is while it is written: zeros after the frames, anything after the data.
    extend(&metas[count - 1], 0, 3 << 20);
    extend(&datas[count - 1], 0xa5, 3 << 20);
    // The one before it, whose seal the machine did not live to see.
    let shown = stored.inspected();
    let footer_at = shown["segments"][count - 2]["footer"]["at"].as_u64().unwrap();
    let file = std::fs::File::options()
        .write(true)
        .open(&metas[count - 2])
        .unwrap();
    file.set_len(footer_at).unwrap();
    file.set_len(footer_at + (1 << 20)).unwrap();
    extend(&datas[count - 2], 0x5a, 1 << 20);
    let ran = stored.verify();
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let segments = parse(&ran.out)["partitions"][0]["segments"].clone();
    let kinds = |place: usize| segments[place]["problems"].as_array().unwrap().clone();
    assert_eq!(kinds(count - 2)[0]["kind"], json!("not_sealed"));
    assert_eq!(kinds(count - 1), Vec::<serde_json::Value>::new());
    let read_bytes = parse(&ran.out)["read_bytes"].as_u64().unwrap();
    assert!(
        read_bytes < 30 << 20,
        "what is not used is read ahead at most: {read_bytes}"
    );

    stored.run("mofka-ctl log export data events.mofka").ok();
    let checked = parse(&stored.run("mofka-ctl --json log verify events.mofka").ok());
    assert_eq!(checked["export"]["events"], json!(2000));
    // Repair seals it: the bytes of the data stay, whatever follows them.
    let done = parse(&stored.run("mofka-ctl --json log repair --apply data").ok());
    let steps = done["partitions"][0]["steps"].as_array().unwrap();
    assert_eq!(steps.len(), 1, "{done}");
    assert_eq!(steps[0]["kind"], json!("seal"));
    stored.start();
    assert!(stored.consumed("bgl", 0, 2000) == bgl_lines());
    stored.produce("bgl", &bgl_lines()[..50]);
    stored.stop();
    stored.verify().ok();

    // Two that are not sealed below the last: no daemon leaves that.
    let footer_at = shown["segments"][1]["footer"]["at"].as_u64().unwrap();
    let file = std::fs::File::options().write(true).open(&metas[1]).unwrap();
    file.set_len(footer_at).unwrap();
    stored.verify().fails(4, &["damaged"]);
    assert_eq!(stored.problems(), ["footer_lost"]);
}

#[test]
fn a_tail_that_moves_is_never_taken_for_damage() {
    let stored = Stored::new();
    stored.start();
    let lines: String = bgl_lines().iter().map(|line| format!("{line}\n")).collect();
    let mut producers = Vec::new();
    for batch in ["1", "7"] {
        let mut command = stored.bench.command("mofka-ctl");
        command
            .args(["produce", "bgl", "--raw", "--batch-size", batch])
            .stdin(Stdio::piped())
            .stdout(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        let lines = lines.clone();
        producers.push((
            child,
            std::thread::spawn(move || input.write_all(lines.as_bytes())),
        ));
    }
    let mut looks = 0;
    let mut ends = Vec::new();
    while producers
        .iter_mut()
        .any(|(child, _)| child.try_wait().unwrap().is_none())
    {
        let Ran { code, out, err } = stored.verify();
        assert_eq!(code, Some(0), "{out} {err}");
        ends.push(parse(&out)["partitions"][0]["end_event_id"].as_u64().unwrap());
        let name = format!("live-{looks}.mofka");
        let ran = stored.run(&format!("mofka-ctl log export data {name}"));
        assert_eq!(ran.code, Some(0), "{ran:?}");
        stored.run(&format!("mofka-ctl log verify {name}")).ok();
        looks += 1;
    }
    for (mut child, input) in producers {
        assert!(child.wait().unwrap().success());
        input.join().unwrap().unwrap();
    }
    assert!(looks > 1 && ends.is_sorted(), "{ends:?}");
    stored.stop();
    let found = parse(&stored.verify().ok());
    assert_eq!(found["partitions"][0]["end_event_id"], json!(6000));
}

#[test]
fn data_larger_than_a_read_is_checked_whole_and_comes_back_the_same() {
    let stored = Stored::new();
    stored.start();
    let blob: Vec<u8> = (0..5_000_003_u32).map(|n| (n ^ n >> 9 ^ n >> 17) as u8).collect();
    std::fs::write(stored.bench.path().join("blob"), &blob).unwrap();
    stored
        .bench
        .run_with_input(
            "mofka-ctl produce bgl - --data-file blob",
            b"{\"big\": 1}\n{\"big\": 2}\n",
        )
        .ok();
    stored.stop();
    stored.verify().ok();
    stored.run("mofka-ctl log export data events.mofka").ok();
    stored
        .run("mofka-ctl log import events.mofka data --topic copy")
        .ok();
    stored.verify().ok();
    let shown = stored.run("mofka-ctl --json log inspect --frames data").ok();
    let shown = parse(&shown);
    let partitions = shown["partitions"].as_array().unwrap();
    let copy = partitions
        .iter()
        .find(|found| found["topic"] == json!("copy"))
        .unwrap();
    let frames = copy["segments"][0]["frames"].as_array().unwrap();
    let big = frames
        .iter()
        .rev()
        .find(|frame| frame["data_bytes"].as_u64().unwrap() > 5_000_000)
        .unwrap();
    let data_at = big["data_at"].as_u64().unwrap();
    let path = Path::new(copy["directory"].as_str().unwrap()).join("00000000000000000000.data");
    let path = stored.bench.path().join(path);
    let bytes = std::fs::read(&path).unwrap();
    assert!(bytes[data_at as usize..][..blob.len()] == blob);
    // The last byte of all, and one in the middle of a piece.
    for (at, event) in [(4_500_000, 0), (4_999_999, 0)] {
        flip(&path, data_at + at, 7);
        let ran = stored.verify();
        ran.fails(4, &["damaged"]);
        let event = big["base_event_id"].as_u64().unwrap() + event;
        let piece = at / 65536 * 65536;
        assert!(
            ran.out
                .contains(&format!("data of event {event} (bytes {piece} on")),
            "{ran:?}"
        );
        flip(&path, data_at + at, 7);
    }
}

#[test]
fn the_name_of_a_file_of_something_else_testifies_nothing() {
    let stored = Stored::new();
    let metas = stored.files(".meta");
    for base in [123, 999_999] {
        std::fs::copy(&metas[1], metas[1].with_file_name(format!("{base:020}.meta"))).unwrap();
    }
    assert_eq!(stored.problems(), ["foreign", "foreign"]);
    let done = parse(&stored.run("mofka-ctl --json log repair --apply data").ok());
    let done = &done["partitions"][0];
    assert_eq!(
        (&done["end_event_id"], &done["dropped_events"]),
        (&json!(2000), &json!(0)),
        "{done}"
    );
    stored.verify().ok();
    stored.start();
    assert!(stored.consumed("bgl", 0, 2000) == bgl_lines());
}

/// Writes what a partition keeps of producers whose segments were trimmed.
fn write_kept_producers(stored: &Stored, base: u64) {
    let id = stored.partition_id();
    let mut producers = ProducerTable::default();
    producers.note((ProducerId::new(0xabc), 3, 41).into(), EventId::new(7), 2);
    let bytes = KeptProducers::encode(id, EventId::new(base), producers, 0x5a17, 1);
    std::fs::write(stored.partition().join("producers"), bytes).unwrap();
}

#[test]
fn what_trimming_leaves_is_known() {
    let stored = Stored::new();
    let metas = stored.files(".meta");
    let second = metas[1].file_stem().unwrap().to_string_lossy().parse().unwrap();
    // The first segment was removed, and the machine stopped before its data file was.
    std::fs::remove_file(&metas[0]).unwrap();
    write_kept_producers(&stored, second);
    stored.verify().ok();
    let shown = stored.inspected();
    assert_eq!(shown["trimmed_data_files"], json!(["00000000000000000000.data"]));
    let kept = &shown["kept_producers"][0];
    assert_eq!(
        (&kept["id"], &kept["next_sequence"]),
        (&json!("0000000000000abc"), &json!(42))
    );
    // A footer that is written again knows of them; so does an export.
    let footer = std::fs::metadata(&metas[1]).unwrap().len() - 30;
    flip(&metas[1], footer, 0);
    let done = parse(&stored.run("mofka-ctl --json log repair --apply data").ok());
    assert_eq!(
        done["partitions"][0]["steps"].as_array().unwrap().len(),
        1,
        "{done}"
    );
    let shown = stored.inspected();
    let ids: Vec<_> = shown["segments"][0]["footer"]["producers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|producer| producer["id"].clone())
        .collect();
    assert!(ids.contains(&json!("0000000000000abc")), "{ids:?}");
    // Damaged, it is set aside.
    flip(&stored.partition().join("producers"), 4096 + 140, 0);
    assert_eq!(stored.problems(), ["producers_damaged"]);
    stored.run("mofka-ctl log repair --apply data").ok();
    stored.verify().ok();
    assert!(!stored.partition().join("producers").exists());
}

#[test]
fn a_footer_that_ends_before_its_frames_do_is_not_clean() {
    let stored = Stored::new();
    let meta = &stored.files(".meta")[0];
    let mut bytes = std::fs::read(meta).unwrap();
    let tail = FooterTail::check(&bytes, bytes.len() as u64).unwrap();
    let at = usize::try_from(tail.footer_at().get()).unwrap();
    let footer = Footer::check(&bytes[at..], tail.salt()).unwrap();
    let facts = FooterFacts {
        salt: footer.salt(),
        base_event_id: footer.base_event_id(),
        end_event_id: EventId::new(footer.end_event_id().get() - 1),
        meta_end: footer.meta_end(),
        data_end: footer.data_end(),
        index: footer.index(),
        producers: footer.producers(),
    };
    bytes.truncate(at);
    bytes.extend_from_slice(&Footer::encode(&facts, tail.footer_at()));
    std::fs::write(meta, bytes).unwrap();
    assert_eq!(stored.problems(), ["footer_damaged"]);
    stored.run("mofka-ctl log repair --apply data").ok();
    stored.verify().ok();
}

#[test]
fn what_was_kept_of_producers_before_segments_that_are_gone_is_not_enough() {
    let stored = Stored::new();
    let metas = stored.files(".meta");
    // No footer is left.
    let (last, before) = metas.split_last().unwrap();
    for meta in before {
        std::fs::remove_file(meta).unwrap();
        std::fs::remove_file(meta.with_extension("data")).unwrap();
    }
    let first = last.file_stem().unwrap().to_string_lossy().parse().unwrap();
    write_kept_producers(&stored, first);
    stored.verify().ok();
    write_kept_producers(&stored, first - 1);
    assert_eq!(stored.problems(), ["producers_damaged"]);
    stored.run("mofka-ctl log repair --apply data").ok();
    stored.verify().ok();
}

/// Makes a file with this name ready for the segment from `base` on, as a start does.
fn prepare(stored: &Stored, name: u64, kind: SegmentKind, base: u64) -> PathBuf {
    let id = stored.partition_id();
    // Files that were made ready together have one salt.
    let header = SegmentHeader::new(kind, id, EventId::new(base), base, 1, 1);
    let mut bytes = header.to_block().to_vec();
    bytes.resize(1 << 20, 0);
    let ending = match kind {
        SegmentKind::Meta => "meta",
        _ => "data",
    };
    let path = stored.partition().join(format!("{name:020}.{ending}"));
    std::fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn files_that_got_the_names_of_a_segment_that_was_never_begun_are_no_damage() {
    let stored = Stored::new();
    // Made ready for an earlier segment, both or one of them; or for this one, and the other's name was lost.
    for (meta, data) in [(1900, Some(1900)), (1900, None), (2000, None), (2000, Some(1900))] {
        let meta = prepare(&stored, 2000, SegmentKind::Meta, meta);
        let data_path = meta.with_extension("data");
        match data {
            Some(base) => drop(prepare(&stored, 2000, SegmentKind::Data, base)),
            None => drop(std::fs::remove_file(&data_path)),
        }
        let made = std::fs::read(&meta).unwrap();
        let found = parse(&stored.verify().ok());
        let last = found["partitions"][0]["segments"]
            .as_array()
            .unwrap()
            .last()
            .unwrap()
            .clone();
        let problems = last["problems"].as_array().unwrap();
        let kinds: Vec<_> = problems.iter().map(|problem| &problem["kind"]).collect();
        assert_eq!(kinds, ["never_begun"], "{found}");
        assert_eq!(found["partitions"][0]["end_event_id"], json!(2000), "{found}");
        let done = parse(&stored.run("mofka-ctl --json log repair data").ok());
        assert_eq!(done["partitions"][0]["steps"], json!([]), "{done}");
        stored.run("mofka-ctl log inspect data").ok();
        // What is said is what the daemon does.
        stored.start();
        assert!(
            std::fs::read(&meta).is_ok_and(|now| now[..4096] != made[..4096]),
            "begun anew"
        );
        assert!(stored.consumed("bgl", 0, 2000) == bgl_lines());
        stored.stop();
        stored.verify().ok();
    }
    // With something behind its header it is not one of these.
    let meta = prepare(&stored, 2000, SegmentKind::Meta, 1900);
    flip(&meta, 9000, 0);
    assert_eq!(stored.problems(), ["foreign"]);
    std::fs::remove_file(&meta).unwrap();
    std::fs::remove_file(meta.with_extension("data")).unwrap();
    // Its name says that everything before it had been durable.
    prepare(&stored, 2010, SegmentKind::Meta, 1900);
    assert!(!stored.problems().is_empty());
    stored.run("mofka-ctl log repair --apply data").ok();
    stored.verify().ok();
}
