//! Files that no crash leaves: with wrong names, cut short, of somebody else, with footers that say what is not so. Nothing panics, nothing
//! that is there is written over, and what is gone is told.

use std::path::Path;
use std::rc::Rc;

use mofka_engine::io::IoDir;
use mofka_engine::sim::{Image, Random, Sectors, SimIo};
use mofka_log::{
    Batch, BatchBuilder, EventId, FilePos, Footer, FooterFacts, FooterTail, SegmentHeader, SegmentKind,
    SparseIndex,
};
use uuid::Uuid;

use crate::lost_segments::{Opened, bases, filled, open_synced, path, push, settle};
use crate::model::{id, partition_id, read_all, record_appender};

/// Opens it, and says why it takes nothing.
fn reason(image: &Image, seed: u64) -> (SimIo, Opened, String) {
    let io = SimIo::stepping(image, seed);
    let partition = open_synced(&io).unwrap();
    settle(&io);
    let reason = partition.read_only().expect("something is wrong");
    (io, partition, reason)
}

/// What a file's header says, with another partition or another beginning.
fn with_header(content: &mut [u8], partition: Option<Uuid>, base: Option<u64>) {
    let header = SegmentHeader::check(&content[..4096]).unwrap();
    let changed = SegmentHeader::new(
        header.kind(),
        partition.unwrap_or(header.partition()),
        base.map_or(header.base_event_id(), EventId::new),
        header.salt(),
        header.created_us(),
        header.incarnation(),
    );
    content[..4096].copy_from_slice(&changed.to_block());
}

/// The footer of a sealed segment, changed.
fn with_footer(image: &mut Image, base: u64, change: impl Fn(&mut FooterFacts)) {
    let content = image.get_mut(&path(base, "meta")).unwrap();
    let tail = FooterTail::check(content, content.len() as u64).unwrap();
    let at = usize::try_from(tail.footer_at().get()).unwrap();
    let footer = Footer::check(&content[at..], tail.salt()).unwrap();
    let mut facts = FooterFacts {
        salt: footer.salt(),
        base_event_id: footer.base_event_id(),
        end_event_id: footer.end_event_id(),
        meta_end: footer.meta_end(),
        data_end: footer.data_end(),
        index: footer.index(),
        producers: footer.producers(),
    };
    change(&mut facts);
    content.truncate(at);
    content.extend_from_slice(&Footer::encode(&facts, tail.footer_at()));
}

/// Opening fails, says this, and leaves every file as it is.
#[track_caller]
fn cannot_be_opened(image: &Image, said: &str) {
    let io = SimIo::stepping(image, 1);
    let error = open_synced(&io).err().expect("it is not opened");
    assert!(error.contains(said), "{error}");
    settle(&io);
    assert!(same(&io.settled(), image), "something was changed");
}

/// Whether all files are the same, but for those that are made anew at each start.
fn same(one: &Image, other: &Image) -> bool {
    let kept = |image: &Image| -> Image {
        let named = |path: &Path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            name.starts_with(|first: char| first.is_ascii_digit())
        };
        let files = image.iter().filter(|(path, _)| named(path));
        files
            .map(|(path, content)| (path.clone(), content.clone()))
            .collect()
    };
    kept(one) == kept(other)
}

#[test]
fn a_sealed_segment_under_another_name_is_refused() {
    let image = filled(12);
    let bases = bases(&image);
    let last = *bases.last().unwrap();
    for name in [last + 100, bases[1]] {
        let mut copied = image.clone();
        for ending in ["meta", "data"] {
            copied.insert(path(name, ending), image[&path(0, ending)].clone());
        }
        if name < last {
            // So that its footer is the first one that is looked at.
            for ending in ["meta", "data"] {
                copied.remove(&path(last, ending));
            }
        }
        cannot_be_opened(
            &copied,
            "the file is the segment from event 0 on and has the name of another",
        );
    }
}

#[test]
fn a_footer_is_believed_only_with_the_header_of_its_segment() {
    let mut image = filled(12);
    let bases = bases(&image);
    let (first, last) = (bases[0], bases[bases.len() - 1]);
    image.retain(|path, _| !path.to_string_lossy().contains(&format!("{last:020}")));
    let before = bases[bases.len() - 2];
    let meta = path(before, "meta");
    let mut of_another = image.clone();
    with_header(of_another.get_mut(&meta).unwrap(), Some(Uuid::from_u128(9)), None);
    cannot_be_opened(&of_another, "belongs to");
    let mut elsewhere = image.clone();
    with_header(elsewhere.get_mut(&meta).unwrap(), None, Some(before + 1));
    cannot_be_opened(&elsewhere, "has the name of another");
    let mut salted = image.clone();
    with_footer(&mut salted, before, |facts| facts.salt ^= 1);
    cannot_be_opened(&salted, "the footer is that of another segment");
    let mut empty = image.clone();
    with_footer(&mut empty, before, |facts| {
        facts.end_event_id = facts.base_event_id;
        facts.index = SparseIndex::default();
        facts.producers = facts.producers.before(facts.end_event_id);
    });
    cannot_be_opened(&empty, "none is sealed without events");
    // One whose header is lost is known by its footer, and told when it is looked at.
    let content = image.get_mut(&path(first, "meta")).unwrap();
    content[..4096].fill(0);
    let (_, _, reason) = reason(&image, 2);
    assert!(reason.contains("the segment header is absent"), "{reason}");
}

#[test]
fn a_segment_of_another_partition_without_a_footer_is_not_served() {
    let mut image = filled(40);
    let content = image.get_mut(&path(bases(&image)[1], "meta")).unwrap();
    with_header(content, Some(Uuid::from_u128(9)), None);
    let frames_end = content.len() - 4096;
    content.truncate(frames_end);
    let (_, _, reason) = reason(&image, 3);
    assert!(reason.contains("belongs to"), "{reason}");
}

#[test]
fn a_name_beyond_all_ids_is_not_that_of_a_segment() {
    for name in [u64::MAX, 1 << 63] {
        for mut image in [Image::new(), filled(3)] {
            image.insert(path(name, "meta"), Vec::new().into());
            let io = SimIo::stepping(&image, 4);
            let partition = open_synced(&io).unwrap();
            assert_eq!(partition.read_only(), None);
            assert!(
                push(&io, &partition, partition.visible_end().get())
                    .acknowledged()
                    .is_some()
            );
            assert!(
                io.settled().contains_key(&path(name, "meta")),
                "nobody removed it"
            );
        }
    }
}

#[test]
fn room_is_never_made_where_content_is() {
    let io = SimIo::stepping(&Image::new(), 5);
    let partition = open_synced(&io).unwrap();
    push(&io, &partition, 0);
    let mut image = io.settled();
    image.retain(|path, _| !path.ends_with("cursors"));
    // The file ends with its frame, in the middle of a block.
    let content = image.get_mut(&path(0, "meta")).unwrap();
    let used = content.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    content.truncate(used.next_multiple_of(8));
    let io = SimIo::stepping(&image, 6);
    let opened = open_synced(&io).unwrap();
    let sent = crate::model::send(&opened, vec![(b"{}".to_vec(), Vec::new())], (0xdef, 0, 0));
    let mut random = Random::new(7);
    io.run_tasks();
    loop {
        for keep_percent in [0, 100] {
            let left = io.crash(&mut random, keep_percent, Sectors::Small);
            let again = SimIo::immediate(&left);
            let partition = open_synced(&again).unwrap();
            let found = again.block_on(read_all(partition)).unwrap();
            assert!(found.contains_key(&0), "the first event had been durable");
        }
        if sent.outcome.borrow().is_some() || !io.step() {
            break;
        }
    }
    assert!(sent.acknowledged().is_some());
}

/// A partition with three events of 10 KiB, all in one segment, the last of which nothing vouches for; and where the data of each ends.
fn three() -> (Image, [usize; 3]) {
    let io = SimIo::stepping(&Image::new(), 8);
    let partition = open_synced(&io).unwrap();
    for n in 0..3 {
        let sent = push(&io, &partition, n);
        assert!(sent.acknowledged().is_some());
    }
    let mut image = io.settled();
    image.retain(|path, _| !path.ends_with("cursors"));
    (image, [1, 2, 3].map(|events| 4096 + events * (10 << 10)))
}

#[test]
fn data_that_is_gone_with_the_end_of_its_file_is_told() {
    let (image, ends) = three();
    let data = path(0, "data");
    // In a block, at its end, and where nothing is left of the event.
    for data_end in [ends[0] + 100, (ends[0] + 2000).next_multiple_of(4096), ends[0]] {
        let mut cut = image.clone();
        cut.get_mut(&data).unwrap().truncate(data_end);
        for start in 0..3 {
            let (io, partition, reason) = reason(&cut, start);
            assert!(
                reason.contains("events 1 to 2 had been durable and their data does not check"),
                "{data_end}: {reason}"
            );
            assert_eq!(partition.visible_end(), id(1));
            let found = io.block_on(read_all(Rc::clone(&partition))).unwrap();
            assert!(found.keys().eq(&[0]), "{data_end}: events before it are readable");
            if start == 2 {
                let refused = push(&io, &partition, 9).outcome.borrow().clone();
                assert!(refused.unwrap().unwrap_err().contains("read-only"));
            }
            let stopping = Rc::clone(&partition);
            io.block_on(async move { stopping.stop().await });
            cut = io.settled();
            cut.retain(|path, _| !path.ends_with("cursors"));
        }
    }
}

#[test]
fn data_of_a_sealed_segment_that_is_gone_is_told_and_the_rest_is_read() {
    let image = filled(40);
    let base = bases(&image)[1];
    let end = bases(&image)[2];
    let data = path(base, "data");
    let whole = image[&data].len();
    let mut cut = image.clone();
    cut.get_mut(&data).unwrap().truncate(whole - (12 << 10));
    for has_footer in [true, false] {
        if !has_footer {
            let content = cut.get_mut(&path(base, "meta")).unwrap();
            let frames_end = content.len() - 4096;
            content.truncate(frames_end);
        }
        let (io, partition, reason) = reason(&cut, 9);
        let said = format!(
            "events {} to {end} had been durable and their data does not check",
            end - 2
        );
        assert!(reason.contains(&said), "{reason}");
        let reading = Rc::clone(&partition);
        let limits = mofka_engine::partition::ReadLimits {
            events_max: 1,
            bytes_max: 1 << 20,
            with_data: true,
        };
        let slice = io
            .block_on(async move { reading.read(id(base), limits).await })
            .unwrap();
        assert_eq!(slice.batches[0].base_event_id(), id(base));
    }
    // A footer that says so of data that never was.
    for data_end in [1 << 40, (1 << 63) - 4096] {
        let mut lying = image.clone();
        for base in [bases(&image)[0], base] {
            with_footer(&mut lying, base, |facts| facts.data_end = FilePos::new(data_end));
        }
        let (_, partition, reason) = reason(&lying, 10);
        assert!(
            reason.contains("by the footer of its segment data goes up to"),
            "{reason}"
        );
        assert!(partition.used_bytes() < 1 << 20, "{}", partition.used_bytes());
    }
}

#[test]
fn a_file_of_a_sealed_segment_that_is_missing_is_told() {
    let mut image = filled(40);
    let (base, end) = (bases(&image)[1], bases(&image)[2]);
    image.remove(&path(base, "data"));
    let (_, _, reason) = reason(&image, 11);
    let said = format!("{base:020}.data: the data of events {base} to {end} is gone with this file");
    assert!(reason.contains(&said), "{reason}");
}

#[test]
fn the_audit_goes_on_behind_a_segment_that_cannot_be_read() {
    let mut image = filled(40);
    image.remove(&path(bases(&image)[1], "data"));
    let mut met = 0;
    for n in 0..60 {
        let io = SimIo::stepping(&image, 12);
        io.place_fault(mofka_engine::sim::Fault::ReadError, n);
        let Ok(partition) = open_synced(&io) else { continue };
        settle(&io);
        assert!(
            partition.read_only().is_some(),
            "read {n} failed, and a file is missing"
        );
        met += 1;
    }
    assert!(met > 20, "{met}");
}

#[test]
fn a_file_that_was_free_and_is_not_there_is_made_anew() {
    let io = SimIo::stepping(&Image::new(), 13);
    let mut spec = crate::model::spec(mofka_log::PartitionKind::Default, mofka_log::Durability::Synced);
    spec.topic.retention.bytes_max = Some(150 << 10);
    let partition = crate::model::open(&io, spec).unwrap();
    let free = Path::new("/p/free-0.data");
    let mut taken = 0;
    for n in 0..80 {
        if io.settled().contains_key(free) {
            let machine = io.clone();
            io.block_on(async move { machine.remove(free).await }).unwrap();
            taken += 1;
        }
        assert!(push(&io, &partition, n).acknowledged().is_some());
        assert_eq!(partition.poison(), None);
    }
    assert!(taken > 3, "{taken}");
}

/// A file of cursors that begins at `base`, with one batch in it.
fn cursors(base: u64, data: &[u8]) -> Image {
    let salt = 5;
    let header = SegmentHeader::new(SegmentKind::Cursors, partition_id(), id(base), salt, 1, 1);
    let mut appender = record_appender(id(base), salt);
    let record = mofka_log::CursorRecord {
        name: "reader".to_owned(),
        next_event_id: id(0),
        timestamp_us: 1,
        removed: false,
    };
    let mut builder = BatchBuilder::new();
    let data = Some(data).filter(|data| !data.is_empty());
    builder.push(&record.encode(), data).unwrap();
    let (frame, data) = builder.finish(None);
    appender.accept(Batch::check_client(frame, data).unwrap(), 1);
    let plan = appender.plan().unwrap().meta.unwrap();
    let mut file = header.to_block().to_vec();
    file.resize(4096 + usize::try_from(plan.total_bytes()).unwrap(), 0);
    plan.fill(&mut file[4096..]);
    Image::from([("/p/cursors".into(), file.into())])
}

#[test]
fn a_file_of_records_with_what_no_record_has_is_refused() {
    assert!(open_synced(&SimIo::stepping(&cursors(0, b""), 14)).is_ok());
    for (image, said) in [
        (
            cursors(0, b"data"),
            "/p/cursors: events 0 to 1 have data, and records have none",
        ),
        (cursors(7, b""), "/p/cursors: the file begins at record 7"),
        (cursors((1 << 63) - 2, b""), "begins at record"),
    ] {
        let error = open_synced(&SimIo::stepping(&image, 15))
            .err()
            .expect("it is refused");
        assert!(error.contains(said), "{error}");
    }
}
