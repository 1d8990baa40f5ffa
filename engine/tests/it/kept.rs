//! The file `producers`, where it is all that is known of producers: it is not taken for empty when it cannot be read.

use std::path::Path;
use std::rc::Rc;

use mofka_engine::io::{Io, IoDir};
use mofka_engine::sim::{Fault, Image, SimIo};
use mofka_log::{AcknowledgedBy, Durability, PartitionKind, Retention};

use crate::lost_segments::{Opened, bases, open_synced, path, settle};
use crate::model::{Content, id, open, send, spec};

const KEPT: &str = "/p/producers";

/// One event of 10 KiB, of a producer of its own.
fn one(io: &SimIo, partition: &Opened, n: u64) -> Result<(u64, bool), String> {
    let content: Content = (format!("{{\"n\":{n}}}").into_bytes(), vec![7; 10 << 10]);
    let sent = send(partition, vec![content], (1 + n, 0, 0));
    settle(io);
    let answer = sent.outcome.borrow().clone();
    answer
        .expect("everybody is answered")
        .map(|appended| (appended.base_event_id.get(), appended.duplicate))
}

/// Lets go all that is sealed.
fn trim(io: &SimIo, partition: &Opened, end: u64) {
    partition.set_retention(Retention {
        acknowledged: Some(AcknowledgedBy::EveryConsumer),
        ..Retention::default()
    });
    partition.acknowledge("reader", id(end), Box::new(|stored| assert!(stored.is_ok())));
    settle(io);
    let looking = Rc::clone(partition);
    io.spawn(async move { looking.retain(1).await });
    settle(io);
}

/// A partition whose sealed segments all went: what their producers sent is in the file alone. With a segment after that one
/// which has no footer, and one that is written. The second value: its events.
fn trimmed() -> (Image, u64) {
    let io = SimIo::stepping(&Image::new(), 1);
    let partition = open_synced(&io).unwrap();
    let mut count = 0;
    let mut fill = |segments: usize| {
        while partition.segment_count() < segments {
            assert_eq!(one(&io, &partition, count), Ok((count, false)));
            count += 1;
        }
        count
    };
    let end = fill(4);
    trim(&io, &partition, end);
    assert_eq!(partition.segment_count(), 1);
    partition.set_retention(Retention::default());
    let end = fill(2);
    let mut image = io.settled();
    let unsealed = path(bases(&image)[0], "meta");
    let content = image.get_mut(&unsealed).unwrap();
    let frames_end = content.len() - 4096;
    content.truncate(frames_end);
    (image, end)
}

/// All that was stored is known when it is sent again.
fn knows_all(image: &Image, end: u64) {
    let io = SimIo::stepping(image, 2);
    let partition = open_synced(&io).unwrap();
    settle(&io);
    assert_eq!(partition.read_only(), None);
    for n in 0..end {
        assert_eq!(one(&io, &partition, n), Ok((n, true)));
    }
}

/// Takes nothing and changes neither the file nor a segment, at every start.
fn refuses(image: &Image, said: &[&str]) {
    let mut now = image.clone();
    for start in 0..2 {
        let io = SimIo::stepping(&now, start);
        let partition = open_synced(&io).unwrap();
        settle(&io);
        let reason = partition.read_only().expect("producers are not known");
        assert!(said.iter().all(|said| reason.contains(said)), "{reason}");
        assert!(one(&io, &partition, 0).unwrap_err().contains("read-only"));
        let stopping = Rc::clone(&partition);
        io.block_on(async move { stopping.stop().await });
        now = io.settled();
        assert_eq!(now[Path::new(KEPT)], image[Path::new(KEPT)]);
        let unsealed = path(bases(image)[0], "meta");
        assert_eq!(now[&unsealed], image[&unsealed], "it got a footer");
    }
}

#[test]
fn producers_that_are_damaged_are_not_taken_for_none() {
    let (image, end) = trimmed();
    knows_all(&image, end);
    let mut flipped = image.clone();
    flipped.get_mut(Path::new(KEPT)).unwrap()[4096 + 140] ^= 1;
    refuses(&flipped, &["damaged: /p/producers", "mofka-ctl log repair"]);
    let mut empty = image.clone();
    empty.get_mut(Path::new(KEPT)).unwrap().clear();
    refuses(&empty, &["damaged: /p/producers"]);
    // Repair sets it aside: whoever was known by it alone begins anew.
    let mut without = image;
    without.remove(Path::new(KEPT));
    let io = SimIo::stepping(&without, 3);
    let partition = open_synced(&io).unwrap();
    assert_eq!(partition.read_only(), None);
    assert_eq!(one(&io, &partition, 0), Ok((end, false)));
}

#[test]
fn producers_from_before_segments_that_are_gone_are_not_all() {
    let (mut image, _) = trimmed();
    let [before, last] = bases(&image)[..] else {
        panic!("two segments")
    };
    image.remove(&path(before, "meta"));
    image.remove(&path(before, "data"));
    let io = SimIo::stepping(&image, 4);
    let partition = open_synced(&io).unwrap();
    let reason = partition.read_only().expect("what the segment had is not known");
    let said = format!("sent before event {before}, and the first segment begins at {last}");
    assert!(reason.contains(&said), "{reason}");
}

#[test]
fn producers_that_cannot_be_read_now_may_be_read_at_the_next_start() {
    let (image, end) = trimmed();
    let mut refused = 0;
    for fault in [Fault::OpenError, Fault::ReadError] {
        for n in 0..20 {
            let io = SimIo::stepping(&image, 5);
            io.place_fault(fault, n);
            if let Ok(partition) = open_synced(&io) {
                settle(&io);
                match partition.read_only() {
                    Some(reason) => {
                        assert!(
                            reason.contains("nothing is damaged") && reason.contains(KEPT),
                            "{reason}"
                        );
                        refused += 1;
                    }
                    None => assert_eq!(one(&io, &partition, 0), Ok((0, true)), "{fault:?} {n}"),
                }
            }
            io.set_fault_rates(mofka_engine::sim::FaultRates::none());
            let mut left = io.settled();
            left.retain(|path, _| path != Path::new("/p/cursors"));
            knows_all(&left, end);
        }
    }
    // To open it, and to read it.
    assert!(refused >= 2, "{refused}");
}

#[test]
fn producers_that_are_not_needed_may_be_damaged() {
    let (image, _) = trimmed();
    let io = SimIo::stepping(&image, 6);
    let partition = open_synced(&io).unwrap();
    settle(&io);
    // Its segment is sealed now.
    drop(partition);
    let mut image = io.settled();
    image.get_mut(Path::new(KEPT)).unwrap().clear();
    let io = SimIo::stepping(&image, 7);
    let partition = open_synced(&io).unwrap();
    assert_eq!(partition.read_only(), None);
    assert_eq!(one(&io, &partition, 0), Ok((0, true)));
}

#[test]
fn retention_writes_damaged_producers_anew_from_what_is_known() {
    let (image, end) = trimmed();
    for is_gone in [true, false] {
        let io = SimIo::stepping(&image, 8);
        // There is no room for the footer that is missing.
        io.set_room(Some(0));
        let partition = open(&io, spec(PartitionKind::Default, Durability::Synced)).unwrap();
        io.set_room(None);
        let machine = io.clone();
        io.block_on(async move {
            machine.remove(Path::new(KEPT)).await.unwrap();
            if !is_gone {
                machine.create(Path::new(KEPT)).await.unwrap();
            }
        });
        trim(&io, &partition, end);
        assert_eq!((partition.read_only(), partition.segment_count()), (None, 1));
        knows_all(&io.settled(), end);
    }
}
