//! Files that are lost whole, or lost their content: a node takes away nothing that nobody deleted.

use std::path::Path;

use serde_json::json;

use super::stored::{Stored, bgl_lines, parse};

fn names_in(dir: &Path) -> Vec<String> {
    let names = std::fs::read_dir(dir).unwrap();
    let mut names: Vec<String> = names
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[track_caller]
fn verify_finds(stored: &Stored, kind: &str) {
    let ran = stored.verify();
    assert_eq!(ran.code, Some(4), "{ran:?}");
    assert!(ran.out.contains(&format!("\"kind\":\"{kind}\"")), "{ran:?}");
}

#[test]
fn without_its_catalog_a_node_does_not_start_and_touches_no_partition() {
    let stored = Stored::new();
    let (catalog, partition) = (stored.data().join("catalog"), stored.partition());
    let (whole, files) = (std::fs::read(&catalog).unwrap(), names_in(&partition));
    for left in [None, Some(0), Some(100), Some(4096)] {
        match left {
            None => std::fs::remove_file(&catalog).unwrap(),
            Some(bytes) => std::fs::write(&catalog, &whole[..bytes]).unwrap(),
        }
        let kind = left.map_or("catalog_missing", |_| "partition_unlisted");
        verify_finds(&stored, kind);
        let start = "mofka-ctl start -c config.json --data-dir data --shards 1";
        stored
            .run(start)
            .fails(1, &["1 partitions", "was lost", "log repair"]);
        // It is no better the second time.
        stored.run(start).fails(1, &["1 partitions", "was lost"]);
        assert_eq!(names_in(&partition), files, "{left:?}");
    }
    std::fs::write(&catalog, &whole).unwrap();
    goes_on_with_all(&stored);

    std::fs::remove_file(&catalog).unwrap();
    let done = parse(&stored.run("mofka-ctl --json log repair --apply data").ok());
    let name = partition.file_name().unwrap().to_string_lossy().into_owned();
    assert_eq!(
        done["catalog"],
        json!({"records": null, "deleted_partitions": [], "unlisted_partitions": [name]})
    );
    stored.verify().ok();
    stored.start();
    assert_eq!(stored.run("mofka-ctl topic list").ok(), "");
    stored.stop();
    let aside = partition.with_file_name(format!("{name}.unlisted"));
    assert!(names_in(&aside).contains(&"cursors".to_owned()));
    assert_eq!(
        parse(&stored.run("mofka-ctl --json log repair data").ok())["catalog"],
        json!(null)
    );
}

#[test]
fn a_catalog_that_lost_its_end_loses_no_partition() {
    let stored = Stored::new();
    let (catalog, first) = (stored.data().join("catalog"), stored.partition());
    let before = std::fs::read(&catalog).unwrap();
    stored.start();
    stored.run("mofka-ctl topic create other --partitions 1").ok();
    stored.produce("other", &bgl_lines()[..100]);
    stored.stop();
    // As it was before, in a longer file: its last frames are zeros.
    let mut shorter = before;
    shorter.resize(std::fs::read(&catalog).unwrap().len(), 0);
    std::fs::write(&catalog, &shorter).unwrap();
    verify_finds(&stored, "partition_unlisted");
    let partitions = first.parent().unwrap();
    assert_eq!(names_in(partitions).len(), 2);
    stored.start();
    assert_eq!(stored.run("mofka-ctl topic list").ok(), "bgl\n");
    stored.run("mofka-ctl topic create more --partitions 1").ok();
    stored.stop();
    assert_eq!(names_in(partitions).len(), 3);
    let other = names_in(partitions)
        .into_iter()
        .map(|name| partitions.join(name))
        .find(|dir| *dir != first && dir.join("00000000000000000000.data").metadata().unwrap().len() > 8192)
        .unwrap();
    let exported = format!("mofka-ctl log export {} other.mofka", other.display());
    stored.run(&exported).ok();
    stored
        .run("mofka-ctl log import other.mofka data --topic other")
        .ok();
    stored.start();
    assert!(stored.consumed("other", 0, 100) == bgl_lines()[..100]);
    stored.stop();
}

/// Deletes the topic, as if the node had died between the record and the removal.
fn delete_in_part(stored: &Stored) {
    let partition = stored.partition();
    let kept = stored.data().join("kept");
    stored.start();
    std::fs::create_dir(&kept).unwrap();
    for name in names_in(&partition) {
        let from = partition.join(&name);
        if from.is_file() {
            std::fs::copy(from, kept.join(&name)).unwrap();
        }
    }
    stored.run("mofka-ctl topic delete bgl").ok();
    stored.stop();
    assert!(!partition.exists());
    std::fs::rename(&kept, &partition).unwrap();
}

#[test]
fn what_is_left_of_a_deleted_topic_is_removed_by_the_next_start() {
    let stored = Stored::new();
    let partition = stored.partition();
    delete_in_part(&stored);
    let verified = stored.verify().ok();
    assert!(verified.contains("its topic was deleted"), "{verified}");
    stored.start();
    assert!(!partition.exists());
    stored.stop();
}

#[test]
fn who_writes_the_catalog_anew_removes_what_is_left_of_deleted_topics() {
    let stored = Stored::new();
    let partition = stored.partition();
    stored.run("mofka-ctl log export data bgl.mofka").ok();
    delete_in_part(&stored);
    stored.run("mofka-ctl log import bgl.mofka data").ok();
    assert!(!partition.exists());
    stored.verify().ok();
    stored.start();
    assert!(stored.consumed("bgl", 0, 100) == bgl_lines()[..100]);
    stored.stop();

    let catalog = stored.data().join("catalog");
    std::fs::remove_file(&catalog).unwrap();
    stored
        .run("mofka-ctl log import bgl.mofka data")
        .fails(4, &["no catalog that names them", "log repair"]);
    assert!(!catalog.exists());
}

#[test]
fn a_directory_without_files_is_of_a_partition_that_did_not_come_about() {
    let stored = Stored::new();
    let empty = stored
        .partition()
        .with_file_name("01234567-89ab-4def-8123-456789abcdef");
    std::fs::create_dir(&empty).unwrap();
    stored.verify().ok();
    let plan = parse(&stored.run("mofka-ctl --json log repair data").ok());
    assert_eq!(plan["catalog"], json!(null));
    stored.start();
    assert!(!empty.exists());
    stored.stop();
}

#[test]
fn a_segment_without_its_header_is_not_taken_for_one_that_never_was() {
    for left in ["nothing", "a piece", "zeros"] {
        let stored = Stored::new();
        let meta = stored.files(".meta").pop().unwrap();
        let data = meta.with_extension("data");
        let whole = std::fs::read(&meta).unwrap();
        let base: usize = meta.file_stem().unwrap().to_str().unwrap().parse().unwrap();
        let bytes = match left {
            "nothing" => Vec::new(),
            "a piece" => whole[..100].to_vec(),
            _ => vec![0; whole.len()],
        };
        std::fs::write(&meta, &bytes).unwrap();
        let before = std::fs::read(&data).unwrap();
        verify_finds(&stored, "header_lost");
        stored.start();
        let status = parse(&stored.run("mofka-ctl --json status").out);
        let partition = &status["shards"][0]["partitions"][0];
        assert_eq!(partition["state"], json!("read_only"), "{status}");
        assert!(stored.consumed("bgl", 0, base) == bgl_lines()[..base]);
        stored.stop();
        let lost = |path: &Path| std::fs::read(format!("{}.lost", path.display())).unwrap();
        assert!(lost(&meta) == bytes && lost(&data) == before, "{left}");

        stored.run("mofka-ctl log repair --apply data").ok();
        stored.verify().ok();
        stored.start();
        assert!(stored.consumed("bgl", 0, base) == bgl_lines()[..base]);
        stored.produce("bgl", &bgl_lines()[..10]);
        assert!(stored.consumed("bgl", base as u64, 10) == bgl_lines()[..10]);
        stored.stop();
    }
}

#[test]
fn damage_in_older_segments_is_told_to_everybody_and_hides_nothing_before_it() {
    let stored = Stored::new();
    let data = stored.files(".data")[2].clone();
    let base: usize = data.file_stem().unwrap().to_str().unwrap().parse().unwrap();
    // Somewhere in the middle of its data.
    let bytes = std::fs::read(&data).unwrap();
    super::stored::flip(&data, 4096 + (bytes.len() as u64 - 4096) / 3, 1);
    stored.start();
    stored.run("mofka-ctl status").ok();
    let ran = stored.run("mofka-ctl consume bgl -c all --count 2000 --timeout 10 --format {id}/{data}");
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(
        ran.err.contains("damaged") && ran.err.contains("the batch of events"),
        "{ran:?}"
    );
    let ids: Vec<usize> = ran
        .out
        .lines()
        .map(|line| line.split_once('/').unwrap().0.parse().unwrap())
        .collect();
    assert!(
        ids.iter().copied().eq(0..ids.len()) && ids.len() > base,
        "{} events",
        ids.len()
    );
    let status = stored.run("mofka-ctl status");
    assert_eq!(status.code, Some(4), "{status:?}");
    assert!(status.out.contains("read_only"), "{status:?}");
    // What follows is there too.
    assert!(stored.consumed("bgl", 1500, 500) == bgl_lines()[1500..]);
    stored.stop();
    stored.run("mofka-ctl log repair --apply data").ok();
    let left = ids.len();
    stored.start();
    assert!(stored.consumed("bgl", 0, left) == bgl_lines()[..left]);
    stored.stop();
}

#[test]
fn a_segment_that_is_gone_takes_no_other_with_it() {
    let stored = Stored::new();
    let metas = stored.files(".meta");
    let base = |at: usize| -> usize { metas[at].file_stem().unwrap().to_str().unwrap().parse().unwrap() };
    for ending in ["meta", "data"] {
        std::fs::remove_file(metas[2].with_extension(ending)).unwrap();
    }
    stored.start();
    assert!(stored.consumed("bgl", 0, base(2)) == bgl_lines()[..base(2)]);
    assert!(stored.consumed("bgl", base(3) as u64, 2000 - base(3)) == bgl_lines()[base(3)..]);
    let status = stored.run("mofka-ctl status");
    assert_eq!(status.code, Some(4), "{status:?}");
    let missing = format!("events {} to {} are missing", base(2), base(3));
    assert!(status.out.contains(&missing), "{missing}: {status:?}");
    stored.stop();
}

#[test]
fn a_partition_whose_directory_is_gone_does_not_begin_anew() {
    let stored = Stored::new();
    let partition = stored.partition();
    let kept = stored.data().join("kept");
    std::fs::rename(&partition, &kept).unwrap();
    // Made for a partition of which the catalog never heard.
    let unused = partition.with_file_name("0b8a7c54-7d0d-4b5c-8c9d-0123456789ab");
    std::fs::create_dir(&unused).unwrap();
    verify_finds(&stored, "partition_missing");
    for _ in 0..2 {
        stored.start();
        let status = stored.run("mofka-ctl status");
        assert_eq!(status.code, Some(4), "{status:?}");
        assert!(status.out.contains("this directory is gone"), "{status:?}");
        let refused = stored.bench.run_with_input("mofka-ctl produce bgl --raw", b"x\n");
        assert_ne!(refused.code, Some(0), "{refused:?}");
        stored.stop();
        assert!(!partition.exists() && !unused.exists());
    }
    std::fs::rename(&kept, &partition).unwrap();
    goes_on_with_all(&stored);
}

fn goes_on_with_all(stored: &Stored) {
    stored.verify().ok();
    stored.start();
    assert!(stored.consumed("bgl", 0, 2000) == bgl_lines()[..2000]);
    stored.stop();
}
