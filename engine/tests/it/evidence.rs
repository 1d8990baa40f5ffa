//! What a damaged partition still has is for whoever repairs it: nothing that is asked of it writes over it, or cuts it off.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use mofka_engine::partition::Partition;
use mofka_engine::sim::{Image, SimIo};
use mofka_log::{Durability, PartitionKind};

use crate::model::{Content, Sent, open, send, spec};

type Opened = Rc<Partition<SimIo>>;

fn open_synced(io: &SimIo) -> Opened {
    open(io, spec(PartitionKind::Default, Durability::Synced)).unwrap()
}

fn push(io: &SimIo, partition: &Opened, n: u64, data_bytes: usize) -> Sent {
    let content: Content = (format!("{{\"n\":{n}}}").into_bytes(), vec![7; data_bytes]);
    let sent = send(partition, vec![content], (0xabc, 0, n));
    io.run_tasks();
    while io.is_busy() {
        io.step();
    }
    sent
}

/// The files of a log in whose first segment are so many events, and which was not stopped.
fn logged(events: u64) -> Image {
    let io = SimIo::immediate(&Image::new());
    let partition = open_synced(&io);
    for n in 0..events {
        assert!(push(&io, &partition, n, 100).acknowledged().is_some());
    }
    let image = io.settled();
    io.shut_down();
    image
}

fn meta() -> PathBuf {
    Path::new("/p").join(format!("{:020}.meta", 0))
}

/// The log's own files, without the cursors.
fn segments(image: &Image) -> Image {
    let mut segments = image.clone();
    segments.retain(|path, _| {
        path.extension()
            .is_some_and(|ending| ending == "meta" || ending == "data")
    });
    segments
}

/// What is asked of a damaged partition.
#[derive(Clone, Copy, Debug)]
enum Asked {
    Stop,
    Small,
    /// More than the segment takes.
    Large,
    Flush,
}

#[test]
fn what_is_behind_damage_stays_whatever_is_asked() {
    let mut image = logged(4);
    // In the metadata of the second frame: those behind it vouch for it.
    let file = image.get_mut(&meta()).unwrap();
    let second = file.windows(7).position(|bytes| bytes == b"{\"n\":1}").unwrap();
    file[second + 5] ^= 1;
    for asked in [Asked::Stop, Asked::Small, Asked::Large, Asked::Flush] {
        let mut found = image.clone();
        for life in 0..2 {
            let io = SimIo::immediate(&found);
            let partition = open_synced(&io);
            let reason = partition.read_only().expect("a durable event is damaged");
            assert!(reason.contains("damaged"), "{asked:?}, {life}: {reason}");
            match asked {
                Asked::Stop => {}
                Asked::Small | Asked::Large => {
                    let data_bytes = if matches!(asked, Asked::Large) {
                        200_000
                    } else {
                        10
                    };
                    let sent = push(&io, &partition, 9, data_bytes);
                    let refused = sent.outcome.borrow().clone().unwrap().unwrap_err();
                    assert!(refused.contains("read_only"), "{asked:?}, {life}: {refused}");
                }
                Asked::Flush => {
                    partition.barrier(Box::new(|_| ()));
                    io.run_tasks();
                }
            }
            let stopping = Rc::clone(&partition);
            io.block_on(async move { stopping.stop().await });
            found = io.settled();
            io.shut_down();
            assert!(segments(&found) == segments(&image), "{asked:?}, life {life}");
        }
    }
}

#[test]
fn a_tail_that_lost_its_end_is_not_cut_when_the_cursors_know_that_it_was_durable() {
    let io = SimIo::immediate(&Image::new());
    let partition = open_synced(&io);
    for n in 0..3 {
        push(&io, &partition, n, 100);
    }
    let stopping = Rc::clone(&partition);
    // It notes the end beside the cursors.
    io.block_on(async move { stopping.stop().await });
    let mut image = io.settled();
    io.shut_down();
    let file = image.get_mut(&meta()).unwrap();
    let last = file.windows(7).position(|bytes| bytes == b"{\"n\":2}").unwrap();
    file[last + 5] ^= 1;
    // Nothing in the file itself vouches for it.
    file[last + 16..].fill(0);
    let again = SimIo::immediate(&image);
    let partition = open_synced(&again);
    let reason = partition.read_only().expect("a durable event is damaged");
    assert!(reason.contains("2 to 3"), "{reason}");
    let stopping = Rc::clone(&partition);
    again.block_on(async move { stopping.stop().await });
    assert!(segments(&again.settled()) == segments(&image));
    again.shut_down();
}

#[test]
fn a_batch_that_is_there_is_known_also_where_nothing_more_is_taken() {
    let io = SimIo::immediate(&Image::new());
    let partition = open_synced(&io);
    let first = push(&io, &partition, 0, 100).acknowledged().unwrap();
    io.set_room(Some(0));
    let refused = push(&io, &partition, 1, 300_000);
    let refused = refused.outcome.borrow().clone().unwrap().unwrap_err();
    assert!(refused.contains("no_space"), "{refused}");
    // The same bytes as the first, sent again.
    let again = push(&io, &partition, 0, 100).acknowledged().unwrap();
    assert_eq!(
        (again.base_event_id, again.duplicate),
        (first.base_event_id, true)
    );
    io.shut_down();
}
