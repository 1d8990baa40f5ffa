//! Files that begin near the end of all ids: nobody can write so many events, but anybody can write such files.

use std::path::Path;

use mofka_engine::sim::{Image, SimIo};
use mofka_log::{Durability, EVENT_ID_END, EventId, PartitionKind, SegmentHeader, SegmentKind};

use crate::model::{Content, open, read_all, send, spec};

/// A partition with no events whose first one would have this id.
fn beginning_at(base: u64) -> Image {
    let record = spec(PartitionKind::Default, Durability::Synced).record;
    let header = SegmentHeader::new(SegmentKind::Meta, record.id, EventId::new(base), 7, 1, 1);
    let path = Path::new("/p").join(format!("{base:020}.meta"));
    Image::from([(path, header.to_block().to_vec().into())])
}

fn event(n: u64) -> Content {
    (format!("{{\"n\":{n}}}").into_bytes(), b"data".to_vec())
}

#[test]
fn a_partition_whose_ids_are_used_up_says_so_and_keeps_what_it_has() {
    let last = EVENT_ID_END - 2;
    let mut image = beginning_at(last);
    for turn in 0..2 {
        let io = SimIo::immediate(&image);
        let partition = open(&io, spec(PartitionKind::Default, Durability::Synced)).unwrap();
        assert_eq!(partition.read_only(), None);
        let sent: Vec<_> = (0..2)
            .map(|n| {
                let sent = send(&partition, vec![event(n)], (0xabc, 0, n));
                io.run_tasks();
                while io.is_busy() {
                    io.step();
                }
                sent
            })
            .collect();
        let [first, second] = &sent[..] else {
            unreachable!("two were sent")
        };
        let appended = first.acknowledged().unwrap();
        assert_eq!(
            (appended.base_event_id.get(), appended.duplicate),
            (last, turn > 0)
        );
        let refused = second.outcome.borrow().clone().unwrap().unwrap_err();
        assert!(
            refused.contains("has no ids left: its next event would be 9223372036854775807"),
            "{refused}"
        );
        let stopping = partition.clone();
        io.block_on(async move { stopping.stop().await });
        let there = io.block_on(read_all(partition)).unwrap();
        assert_eq!(there.into_iter().collect::<Vec<_>>(), [(last, event(0))]);
        image = io.settled();
    }
}
