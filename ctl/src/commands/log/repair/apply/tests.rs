use bytes::Bytes;
use indicatif::ProgressBar;
use mofka_log::{Batch, BatchBuilder, EventId, ProducerId, Stamp};
use uuid::Uuid;

use super::super::super::import::writer::SegmentWriter;
use super::super::super::partition::{Nobody, PartitionFound, WITNESS, examine};
use super::super::super::problem::Severity;
use super::super::LOOK;
use super::super::plan::plan;
use super::*;

const ID: Uuid = Uuid::from_u128(0x5eed);
const SEGMENTS: u64 = 6;
const EVENTS_PER_SEGMENT: u64 = 10;

fn batch(base: u64) -> Batch {
    let mut builder = BatchBuilder::new();
    for n in 0..5_u64 {
        let data = vec![(base + n) as u8; 900];
        builder
            .push(b"{\"some\": \"metadata\"}", [data.as_slice()])
            .unwrap();
    }
    let (frame, data) = builder.finish(Some((ProducerId::new(9), 0, base / 5)));
    let mut batch = Batch::check_client(frame, data).unwrap();
    batch.stamp(Stamp {
        base_event_id: EventId::new(base),
        timestamp_us: base,
        ..Stamp::default()
    });
    batch
}

/// A partition of several sealed segments, and cursors in the first and in the last of them.
fn partition(below: &Path) -> PathBuf {
    let dir = below.join(ID.to_string());
    std::fs::create_dir(&dir).unwrap();
    let mut writer = SegmentWriter::with_bounds(&dir, ID, EventId::new(0), u64::MAX, 9000);
    let mut producers = mofka_log::ProducerTable::default();
    for base in (0..SEGMENTS * EVENTS_PER_SEGMENT).step_by(5) {
        producers.note_batch(&batch(base));
        writer.add(batch(base)).unwrap();
    }
    writer.finish(&producers).unwrap();
    let cursor = |name: &str, next: u64| CursorRecord {
        name: name.to_owned(),
        next_event_id: EventId::new(next),
        timestamp_us: 1,
        removed: false,
    };
    let end = SEGMENTS * EVENTS_PER_SEGMENT;
    let cursors = [cursor("early", 3), cursor("late", end - 1), cursor(WITNESS, end)];
    let records: Vec<Vec<u8>> = cursors.iter().map(CursorRecord::encode).collect();
    record_file::replace(&dir.join("cursors"), SegmentKind::Cursors, ID, &records).unwrap();
    dir
}

fn found(dir: &Path) -> PartitionFound {
    examine(dir, LOOK, &ProgressBar::hidden(), &mut Nobody).unwrap()
}

fn copy(from: &Path, below: &Path) -> PathBuf {
    let to = below.join(ID.to_string());
    std::fs::create_dir(&to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
    to
}

fn flip(path: &Path, at: u64) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[usize::try_from(at).unwrap()] ^= 0x10;
    std::fs::write(path, bytes).unwrap();
}

#[track_caller]
fn expect_well(dir: &Path, end: u64, what: &str) {
    let found = found(dir);
    let worse: Vec<_> = found
        .all_problems()
        .filter(|problem| problem.severity > Severity::Note)
        .collect();
    assert!(worse.is_empty(), "{what}: {worse:?}");
    assert_eq!(found.end().get(), end, "{what}");
    assert_eq!(
        found.cursor_table.get("late"),
        Some(EventId::new(end.min(59))),
        "{what}"
    );
    assert_eq!(
        found.cursor_table.get("early"),
        Some(EventId::new(end.min(3))),
        "{what}"
    );
}

/// What is damaged (a file, and a byte of it), and where the events then end.
type Case = (&'static str, Vec<(String, u64)>, u64);

/// A repair that stops after any of its changes is finished by the next one, and ends where it would have.
#[test]
fn an_interrupted_repair_is_gone_on_with() {
    let home = tempfile::tempdir().unwrap();
    let whole = partition(home.path());
    assert_eq!(found(&whole).segments.len() as u64, SEGMENTS);
    expect_well(&whole, 60, "as it was written");
    let file = |base: u64, ending: &str| format!("{base:020}.{ending}");
    let cases: [Case; 6] = [
        ("data", vec![(file(20, "data"), 9000)], 25),
        ("a frame", vec![(file(30, "meta"), 4096 + 200)], 30),
        ("the first frame of all", vec![(file(0, "meta"), 4096 + 20)], 0),
        (
            "headers and a footer",
            vec![
                (file(10, "meta"), 30),
                (file(20, "data"), 30),
                (file(40, "meta"), 8192 + 40),
            ],
            60,
        ),
        (
            "a header and data after it",
            vec![(file(10, "data"), 30), (file(40, "data"), 4100)],
            40,
        ),
        (
            "cursors and data",
            vec![("cursors".to_owned(), 20), (file(50, "data"), 9000)],
            55,
        ),
    ];
    for (what, flips, end) in cases {
        let steps = {
            let place = tempfile::tempdir().unwrap();
            let dir = copy(&whole, place.path());
            flips.iter().for_each(|(name, at)| flip(&dir.join(name), *at));
            let todo = plan(&found(&dir)).unwrap();
            assert_eq!(todo.end.get(), end, "{what}: {:?}", todo.lines());
            todo.steps.len()
        };
        assert!(steps > 0, "{what}");
        for done in 0..=steps {
            let place = tempfile::tempdir().unwrap();
            let dir = copy(&whole, place.path());
            flips.iter().for_each(|(name, at)| flip(&dir.join(name), *at));
            let todo = plan(&found(&dir)).unwrap();
            let aside = make_aside(&dir).unwrap();
            todo.steps.iter().for_each(|step| keep(step, &aside).unwrap());
            for step in in_order(&todo).into_iter().take(done) {
                change(step, &dir, &aside).unwrap();
            }
            let rest = plan(&found(&dir)).unwrap();
            let what = format!("{what}, {done} of {steps} done");
            if done == steps {
                assert!(rest.steps.is_empty(), "{what}: {:?}", rest.lines());
            } else {
                apply(&dir, &rest, &Value::Null).unwrap();
            }
            expect_well(&dir, end, &what);
        }
    }
}

#[test]
fn what_goes_is_kept_as_it_was() {
    let home = tempfile::tempdir().unwrap();
    let dir = partition(home.path());
    let cut = dir.join(format!("{:020}.data", 20));
    flip(&cut, 9000);
    let before = Bytes::from(std::fs::read(&cut).unwrap());
    let todo = plan(&found(&dir)).unwrap();
    let aside = apply(&dir, &todo, &Value::Null).unwrap();
    // Events 20 to 24 stay: 4500 bytes from 4096 on.
    let kept = std::fs::read(aside.join(format!("{:020}.data.from-8192", 20))).unwrap();
    assert_eq!(kept, before[8192..]);
    assert!(std::fs::read(&cut).unwrap()[..8596] == before[..8596]);
    assert_eq!(std::fs::metadata(&cut).unwrap().len(), 12288);
    for base in [30, 40, 50] {
        assert!(
            aside.join(format!("{base:020}.meta")).exists()
                && aside.join(format!("{base:020}.data")).exists()
        );
    }
    assert!(aside.join("cursors").exists());
}
