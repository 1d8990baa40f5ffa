//! Segments that are gone or have nothing in them: what those beside them vouch for is not silently gone, and files that somebody may
//! want stay.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use mofka_engine::io::Io;
use mofka_engine::partition::{Partition, ReadLimits};
use mofka_engine::sim::{Image, Random, Sectors, SimIo};
use mofka_log::{Durability, PartitionKind, Retention};

use crate::model::{Content, Sent, id, open, read_all, send, spec};

pub(crate) type Opened = Rc<Partition<SimIo>>;

pub(crate) fn open_synced(io: &SimIo) -> Result<Opened, String> {
    open(io, spec(PartitionKind::Default, Durability::Synced))
}

pub(crate) fn settle(io: &SimIo) {
    io.run_tasks();
    while io.is_busy() {
        io.step();
    }
}

/// One event of 10 KiB: five of them fill a segment.
pub(crate) fn push(io: &SimIo, partition: &Opened, n: u64) -> Sent {
    let content: Content = (format!("{{\"n\":{n}}}").into_bytes(), vec![7; 10 << 10]);
    let sent = send(partition, vec![content], (0xabc, 0, n));
    settle(io);
    sent
}

/// The files of a partition with so many events. Nothing is left beside them that vouches for their end.
pub(crate) fn filled(events: u64) -> Image {
    let io = SimIo::stepping(&Image::new(), 1);
    let partition = open_synced(&io).unwrap();
    for n in 0..events {
        push(&io, &partition, n);
    }
    let mut image = io.settled();
    image.retain(|path, _| !path.ends_with("cursors"));
    image
}

/// The bases of the segments that have a meta file.
pub(crate) fn bases(image: &Image) -> Vec<u64> {
    let of = |path: &PathBuf| {
        let is_meta = path.extension().is_some_and(|ending| ending == "meta");
        is_meta
            .then(|| path.file_stem()?.to_str()?.parse().ok())
            .flatten()
    };
    image.keys().filter_map(of).collect()
}

pub(crate) fn path(base: u64, ending: &str) -> PathBuf {
    Path::new("/p").join(format!("{base:020}.{ending}"))
}

/// The files of a partition, and the bases of its last two segments.
fn rolled() -> (Image, u64, u64) {
    let image = filled(12);
    let bases = bases(&image);
    let [.., before, last] = bases[..] else {
        panic!("too few segments: {bases:?}")
    };
    (image, before, last)
}

/// Ways in which the files of the last segment have nothing in them.
fn emptied(image: &Image, base: u64) -> [Image; 3] {
    let [mut zeros, mut cut, mut no_data] = [image.clone(), image.clone(), image.clone()];
    zeros.get_mut(&path(base, "meta")).unwrap().fill(0);
    cut.get_mut(&path(base, "meta")).unwrap().clear();
    // Its header alone.
    no_data.get_mut(&path(base, "meta")).unwrap()[4096..].fill(0);
    no_data.remove(&path(base, "data"));
    [zeros, cut, no_data]
}

/// Opens it twice, with a stop in between, and looks each time that it says what is gone and takes nothing.
fn says_what_is_gone(image: &Image, from: u64, end: u64) {
    let mut image = image.clone();
    for start in 0..3 {
        let io = SimIo::stepping(&image, start);
        let partition = open_synced(&io).unwrap();
        settle(&io);
        let reason = partition.read_only();
        let reason = reason.unwrap_or_else(|| panic!("start {start}: events {from} to {end} are gone"));
        assert!(
            reason.contains(&from.to_string()) && reason.contains(&end.to_string()),
            "start {start}: {reason}"
        );
        assert_eq!(partition.visible_end(), id(from), "start {start}");
        let sent = push(&io, &partition, 100).outcome.borrow().clone();
        assert!(sent.unwrap().unwrap_err().contains("read-only"), "start {start}");
        let stopping = Rc::clone(&partition);
        io.block_on(async move { stopping.stop().await });
        image = io.settled();
        image.retain(|path, _| !path.ends_with("cursors"));
    }
}

#[test]
fn an_empty_last_segment_vouches_for_what_is_before_it_at_every_start() {
    let (image, before, last) = rolled();
    for emptied in emptied(&image, last) {
        let mut image = emptied;
        // The last events before it, and the footer.
        image.get_mut(&path(before, "meta")).unwrap().truncate(4096 + 200);
        let found = SimIo::immediate(&image);
        let end = open_synced(&found).unwrap().visible_end().get();
        assert!(end >= before && end < last, "{before} {end} {last}");
        says_what_is_gone(&image, end, last);
    }
}

#[test]
fn an_empty_last_segment_vouches_for_a_segment_that_is_gone() {
    let (image, before, last) = rolled();
    for emptied in emptied(&image, last) {
        let mut image = emptied;
        image.remove(&path(before, "meta"));
        image.remove(&path(before, "data"));
        says_what_is_gone(&image, before, last);
    }
}

#[test]
fn behind_an_empty_last_segment_nothing_is_missing_where_its_ids_go_on() {
    let (image, _, last) = rolled();
    for (n, emptied) in emptied(&image, last).into_iter().enumerate() {
        let io = SimIo::stepping(&emptied, 2);
        let partition = open_synced(&io).unwrap();
        assert_eq!(
            (partition.read_only(), partition.visible_end()),
            (None, id(last)),
            "{n}"
        );
        // Also where all segments before it were let go.
        let mut image = emptied;
        for base in bases(&image).into_iter().filter(|base| *base < last) {
            image.remove(&path(base, "meta"));
            image.remove(&path(base, "data"));
        }
        let io = SimIo::stepping(&image, 3);
        let partition = open_synced(&io).unwrap();
        assert_eq!(partition.read_only(), None, "{n}");
        assert_eq!(
            (partition.trim_end(), partition.visible_end()),
            (id(last), id(last)),
            "{n}"
        );
        // Its producer went with them, and begins anew.
        push(&io, &partition, 0);
        let found = io.block_on(read_all(Rc::clone(&partition))).unwrap();
        assert!(found.keys().copied().eq([last]), "{n}: {:?}", found.keys());
    }
}

/// What a partition keeps under other names.
fn kept(image: &Image) -> Vec<(PathBuf, Vec<u8>)> {
    let is_kept = |path: &PathBuf| path.to_string_lossy().contains(".lost");
    let kept = image.iter().filter(|(path, _)| is_kept(path));
    kept.map(|(path, bytes)| (path.clone(), bytes.to_vec())).collect()
}

#[test]
fn what_is_set_aside_is_there_whenever_power_is_cut() {
    let (image, _, last) = rolled();
    let [image, ..] = emptied(&image, last);
    let data = image[&path(last, "data")].clone();
    let mut random = Random::new(5);
    let io = SimIo::stepping(&image, 6);
    let machine = io.clone();
    io.spawn(async move {
        let opened = Partition::open(machine, spec(PartitionKind::Default, Durability::Synced)).await;
        opened.unwrap();
    });
    let mut cases = 0;
    loop {
        io.run_tasks();
        for keep_percent in [0, 30, 70, 100] {
            let left = io.crash(&mut random, keep_percent, Sectors::Small);
            let again = SimIo::stepping(&left, 7);
            let partition = open_synced(&again).unwrap();
            settle(&again);
            assert_eq!((partition.read_only(), partition.visible_end()), (None, id(last)));
            let has = kept(&again.settled());
            assert!(
                has.iter().any(|(_, bytes)| bytes[..] == data[..]),
                "its data is gone"
            );
            cases += 1;
        }
        if !io.step() || !io.is_busy() {
            break;
        }
    }
    assert!(cases > 12, "{cases}");
}

#[test]
fn what_was_set_aside_before_stays() {
    let (image, _, last) = rolled();
    let [mut image, ..] = emptied(&image, last);
    let data = image[&path(last, "data")].clone();
    image.insert(path(last, "meta.lost"), b"an earlier one".to_vec().into());
    image.insert(path(last, "data.lost"), b"and its data".to_vec().into());
    let io = SimIo::stepping(&image, 8);
    open_synced(&io).unwrap();
    settle(&io);
    let after = io.settled();
    assert_eq!(after[&path(last, "meta.lost")][..], b"an earlier one"[..]);
    assert_eq!(after[&path(last, "data.lost")][..], b"and its data"[..]);
    assert_eq!(after[&path(last, "data.lost-2")][..], data[..]);
    assert!(after.contains_key(&path(last, "meta.lost-2")));
}

/// A partition of which the segment after the one at this place is gone, and the bases of the one before it, of itself and of
/// the one after it.
fn with_a_hole(place: usize) -> (Image, [u64; 3]) {
    let mut image = filled(40);
    let bases = bases(&image);
    let [before, gone, after, ..] = bases[place..] else {
        panic!("too few segments: {bases:?}")
    };
    for ending in ["meta", "data"] {
        image.remove(&path(gone, ending));
    }
    (image, [before, gone, after])
}

#[track_caller]
fn says_what_is_missing(partition: &Opened, (from, end): (u64, u64), seed: u64) {
    let reason = partition.read_only().expect("events are missing");
    let missing = format!("events {from} to {end} are missing");
    assert!(reason.contains(&missing), "seed {seed}: {reason}");
}

#[test]
fn a_hole_behind_a_segment_that_was_read_first_is_found_out() {
    let (image, [before, gone, after]) = with_a_hole(1);
    for seed in 0..20 {
        let io = SimIo::stepping(&image, seed);
        let machine = io.clone();
        // It is read before the audit, which begins with the latest segment, comes to it.
        let partition = io.block_on(async move {
            let spec = spec(PartitionKind::Default, Durability::Synced);
            let partition = Partition::open(machine, spec).await.unwrap();
            let limits = ReadLimits {
                events_max: 1,
                bytes_max: 1 << 20,
                with_data: false,
            };
            partition.read(id(before), limits).await.unwrap();
            partition
        });
        settle(&io);
        says_what_is_missing(&partition, (gone, after), seed);
    }
}

#[test]
fn retention_stops_before_a_hole() {
    let (image, [first, gone, after]) = with_a_hole(0);
    for seed in 0..20 {
        let io = SimIo::stepping(&image, seed);
        let machine = io.clone();
        // The audit has not come to it.
        let partition = io.block_on(async move {
            let mut spec = spec(PartitionKind::Default, Durability::Synced);
            spec.topic.retention = Retention {
                bytes_max: Some(1),
                ..Retention::default()
            };
            let partition = Partition::open(machine, spec).await.unwrap();
            partition.retain(1).await;
            partition
        });
        settle(&io);
        says_what_is_missing(&partition, (gone, after), seed);
        assert_eq!(partition.trim_end(), id(first), "seed {seed}");
    }
}
