//! Retention and deletion without crashes: what readers, producers and the files see of it.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use mofka_engine::io::Io;
use mofka_engine::partition::{Partition, ReadLimits, Reader, RetentionTimer, look_after_retention};
use mofka_engine::sim::{Image, Random, SimIo};
use mofka_log::{AcknowledgedBy, Durability, PartitionKind, Retention};
use mofka_net::{DataDescriptor, ErrorCode};

use crate::model::{Content, Sent, id, open, read_all, send, spec};

const HOUR_US: u64 = 3_600_000_000;
const LIMITS: ReadLimits = ReadLimits {
    events_max: 4,
    bytes_max: 1 << 20,
    with_data: false,
};

fn partition(io: &SimIo, retention: Retention) -> Rc<Partition<SimIo>> {
    let mut spec = spec(PartitionKind::Default, Durability::Synced);
    spec.topic.retention = retention;
    open(io, spec).unwrap()
}

fn settle(io: &SimIo) {
    io.run_tasks();
    while io.is_busy() {
        io.step();
    }
}

/// One event of 10 KiB: five of them fill a segment.
fn push(io: &SimIo, partition: &Rc<Partition<SimIo>>, n: u64) -> Sent {
    let content: Content = (format!("{{\"n\":{n}}}").into_bytes(), vec![7; 10 << 10]);
    let sent = send(partition, vec![content], (0xabc, 0, n));
    settle(io);
    sent
}

fn retain(io: &SimIo, partition: &Rc<Partition<SimIo>>, now_us: u64) {
    let looking = Rc::clone(partition);
    io.spawn(async move { looking.retain(now_us).await });
}

fn bytes_max(bytes: u64) -> Retention {
    Retention {
        bytes_max: Some(bytes),
        ..Retention::default()
    }
}

#[test]
fn a_partition_holds_no_more_bytes_than_it_may_and_the_bound_can_change() {
    let io = SimIo::stepping(&Image::new(), 1);
    let partition = partition(&io, Retention::default());
    for n in 0..60 {
        push(&io, &partition, n);
    }
    retain(&io, &partition, io.now_us() + HOUR_US);
    settle(&io);
    assert_eq!(partition.trim_end(), id(0), "without a policy everything stays");
    for bound in [400 << 10, 200 << 10] {
        partition.set_retention(bytes_max(bound));
        retain(&io, &partition, io.now_us());
        settle(&io);
        let used = partition.used_bytes();
        assert!(
            used <= bound && used > bound / 2,
            "{used} bytes are used of {bound}"
        );
        let on_disk: usize = io.settled().values().map(|content| content.len()).sum();
        // The segment that is written and the next one have room ahead.
        assert!(
            (on_disk as u64) < bound + (180 << 10),
            "{on_disk} bytes are on the disk"
        );
    }
    let trim_end = partition.trim_end().get();
    assert!(trim_end > 30, "{trim_end}");
    let found = io.block_on(read_all(Rc::clone(&partition))).unwrap();
    assert!(
        found.keys().copied().eq(trim_end..60),
        "all that is left is readable"
    );
    // It stays within its bound without being looked at: every new segment is a look.
    for n in 60..120 {
        push(&io, &partition, n);
        assert!(partition.used_bytes() < (200 << 10) + (60 << 10));
    }
}

#[test]
fn a_segment_whose_footer_does_not_check_goes_like_any_other() {
    let io = SimIo::stepping(&Image::new(), 3);
    let before = partition(&io, Retention::default());
    for n in 0..60 {
        push(&io, &before, n);
    }
    let stopping = Rc::clone(&before);
    io.block_on(async move { stopping.stop().await });
    let mut image = io.settled();
    let is_segment = |path: &&std::path::PathBuf| {
        let base = path
            .file_stem()
            .is_some_and(|stem| stem.to_string_lossy().parse::<u64>().is_ok());
        base && path.extension().is_some_and(|ending| ending == "meta")
    };
    let metas: Vec<_> = image.keys().filter(is_segment).cloned().collect();
    assert!(metas.len() > 8, "{metas:?}");
    for broken in [0, 2, 3] {
        let content = image.get_mut(&metas[broken]).unwrap();
        *content.last_mut().unwrap() ^= 1;
    }
    let io = SimIo::stepping(&image, 4);
    let again = partition(&io, bytes_max(200 << 10));
    settle(&io);
    retain(&io, &again, io.now_us());
    settle(&io);
    assert!(again.used_bytes() <= 200 << 10, "{} bytes", again.used_bytes());
    let trim_end = again.trim_end().get();
    assert!(trim_end > 30, "{trim_end}");
    let found = io.block_on(read_all(Rc::clone(&again))).unwrap();
    assert!(
        found.keys().copied().eq(trim_end..60),
        "all that is left is readable"
    );
}

#[test]
fn producers_of_segments_without_a_footer_are_known_after_those_went() {
    let one = |io: &SimIo, partition: &Rc<Partition<SimIo>>, n: u64| {
        let content: Content = (format!("{{\"n\":{n}}}").into_bytes(), vec![7; 10 << 10]);
        // Each event has a producer of its own.
        let sent = send(partition, vec![content], (1 + n, 0, 0));
        settle(io);
        sent.acknowledged().unwrap()
    };
    let io = SimIo::stepping(&Image::new(), 5);
    let before = partition(&io, Retention::default());
    let mut count = 0;
    while before.segment_count() < 4 {
        one(&io, &before, count);
        count += 1;
    }
    let stopping = Rc::clone(&before);
    io.block_on(async move { stopping.stop().await });
    let mut image = io.settled();
    let metas: Vec<_> = image
        .keys()
        .filter(|path| path.extension().is_some_and(|ending| ending == "meta"))
        .cloned()
        .collect();
    for unsealed in &metas[1..3] {
        let content = image.get_mut(unsealed).unwrap();
        let frames_end = content.len() - 4096;
        content.truncate(frames_end);
    }
    // There is no room for the footers that are missing.
    let io = SimIo::stepping(&image, 6);
    io.set_room(Some(0));
    let full = partition(&io, Retention::default());
    io.set_room(None);
    full.set_retention(Retention {
        acknowledged: Some(AcknowledgedBy::EveryConsumer),
        ..Retention::default()
    });
    full.acknowledge("reader", id(count), Box::new(|stored| assert!(stored.is_ok())));
    settle(&io);
    retain(&io, &full, io.now_us());
    settle(&io);
    assert_eq!((full.segment_count(), full.trim_end()), (1, id(count - 1)));
    let io = SimIo::stepping(&io.settled(), 7);
    let again = partition(&io, Retention::default());
    for n in 0..count {
        let resent = one(&io, &again, n);
        assert!(
            resent.duplicate && resent.base_event_id == id(n),
            "event {n}: {resent:?}"
        );
    }
}

#[test]
fn a_segment_that_goes_is_read_to_the_end_and_then_it_is_trimmed() {
    let io = SimIo::stepping(&Image::new(), 2);
    let partition = partition(&io, Retention::default());
    for n in 0..20 {
        push(&io, &partition, n);
    }
    let first = "/p/00000000000000000000.meta";
    partition.set_retention(bytes_max(1));
    retain(&io, &partition, io.now_us());
    while io.settled().keys().any(|path| path.ends_with(first)) {
        assert!(io.step(), "the name goes");
    }
    assert_eq!(
        partition.trim_end(),
        id(0),
        "the name is gone, and its removal is not durable yet"
    );
    // What is read now is in no memory and in no file with a name.
    let reading = Rc::clone(&partition);
    let slice = io
        .block_on(async move { reading.read(id(1), LIMITS).await })
        .unwrap();
    assert_eq!(slice.batches[0].base_event_id(), id(1));
    settle(&io);
    assert!(partition.trim_end() > id(1));
    let reading = Rc::clone(&partition);
    let error = io
        .block_on(async move { reading.read(id(1), LIMITS).await })
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::Trimmed, "{error}");
    let fetching = Rc::clone(&partition);
    let error = io
        .block_on(async move {
            let descriptor = DataDescriptor::of_event(id(1), 10 << 10);
            fetching.fetch(&descriptor, 1 << 20, &mut None).await.map(|_| ())
        })
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::Trimmed, "{error}");
}

#[test]
fn a_reader_whose_events_go_while_they_are_read_hears_that_and_nothing_of_damage() {
    let mut trimmed_count = 0;
    for seed in 0..40 {
        let io = SimIo::stepping(&Image::new(), seed);
        // Nothing is in memory, so that all is read ahead, and data files of segments that went are written again.
        let mut spec = spec(PartitionKind::Default, Durability::Synced);
        spec.limits.shard_recent_bytes_max = 0;
        let partition = open(&io, spec).unwrap();
        let limits = ReadLimits {
            with_data: true,
            ..LIMITS
        };
        let mut reader = Reader::new(Rc::clone(&partition), limits);
        let mut random = Random::new(seed);
        let mut next = id(0);
        for n in 0..60 {
            push(&io, &partition, n);
            if n == 30 {
                partition.set_retention(bytes_max(60 << 10));
            }
            if n >= 30 && random.below(3) == 0 {
                retain(&io, &partition, io.now_us());
            }
            for _ in 0..random.below(5) {
                io.step();
            }
            if random.below(2) == 0 || next >= partition.visible_end() {
                continue;
            }
            let (kept, from) = (reader, next);
            let (outcome, back) = io.block_on(async move {
                let mut kept = kept;
                (kept.next(from).await, kept)
            });
            reader = back;
            match outcome {
                Ok(slice) => {
                    assert_eq!(slice.batches[0].base_event_id(), next, "seed {seed}");
                    for (batch, n) in slice.batches.iter().zip(next.get()..) {
                        let event = batch.events().next().unwrap();
                        assert_eq!(event.metadata, format!("{{\"n\":{n}}}").as_bytes(), "seed {seed}");
                        assert_eq!(batch.data().unwrap()[..], [7; 10 << 10], "seed {seed}");
                    }
                    next = slice.end_event_id;
                }
                Err(error) => {
                    assert_eq!(error.code, ErrorCode::Trimmed, "seed {seed}: {error}");
                    assert!(partition.trim_end() > next, "seed {seed}");
                    trimmed_count += 1;
                    next = partition.trim_end();
                }
            }
        }
        settle(&io);
    }
    assert!(trimmed_count > 20, "{trimmed_count}");
}

#[test]
fn events_of_a_topic_that_gets_few_grow_old_too() {
    let io = SimIo::stepping(&Image::new(), 3);
    let partition = partition(
        &io,
        Retention {
            age_max_ms: Some(60_000),
            ..Retention::default()
        },
    );
    push(&io, &partition, 0);
    retain(&io, &partition, io.now_us() + 59_000_000);
    settle(&io);
    assert_eq!((partition.trim_end(), partition.segment_count()), (id(0), 1));
    retain(&io, &partition, io.now_us() + 61_000_000);
    settle(&io);
    // Sealed because of its age, and gone at the look that comes with the new segment.
    assert_eq!((partition.trim_end(), partition.visible_end()), (id(1), id(1)));
    retain(&io, &partition, io.now_us() + HOUR_US);
    settle(&io);
    assert_eq!(partition.segment_count(), 1, "an empty segment is not rolled");
    let again = push(&io, &partition, 0).acknowledged().unwrap();
    assert!(again.duplicate && again.base_event_id == id(0), "{again:?}");
    let next = push(&io, &partition, 1).acknowledged().unwrap();
    assert_eq!(next.base_event_id, id(1));
    let again = SimIo::stepping(&io.settled(), 4);
    let partition = open(&again, spec(PartitionKind::Default, Durability::Synced)).unwrap();
    assert_eq!((partition.trim_end(), partition.visible_end()), (id(1), id(2)));
    let resent = push(&again, &partition, 0).acknowledged().unwrap();
    assert!(
        resent.duplicate && resent.base_event_id == id(0),
        "after a restart too: {resent:?}"
    );
}

/// Runs until the wall clock without its skew is `for_us` later.
fn run(io: &SimIo, skew_us: i64, for_us: u64) {
    io.set_clock(skew_us);
    let until_us = io.now_us() + for_us;
    while io.now_us() < until_us {
        assert!(io.step(), "there is always a look to come");
    }
    settle(io);
}

#[test]
fn a_clock_that_jumps_drops_nothing_and_one_that_goes_on_does() {
    const DAY_US: u64 = 24 * HOUR_US;
    let io = SimIo::stepping(&Image::new(), 6);
    let partition = partition(
        &io,
        Retention {
            age_max_ms: Some(3 * 24 * 3_600_000),
            ..Retention::default()
        },
    );
    for n in 0..20 {
        push(&io, &partition, n);
    }
    let looked_at = Rc::downgrade(&partition);
    io.spawn(look_after_retention(
        io.clone(),
        RetentionTimer::new(Duration::from_mins(1)),
        move || Some(vec![looked_at.upgrade()?]),
        async |_| (),
    ));
    // A month ahead for some hours, as after a bad time server; then a month behind; then right again.
    let month_us = 30 * DAY_US as i64;
    for (skew_us, for_us) in [
        (0, HOUR_US),
        (month_us, 6 * HOUR_US),
        (-month_us, 6 * HOUR_US),
        (0, 6 * HOUR_US),
    ] {
        run(&io, skew_us, for_us);
        assert_eq!(partition.trim_end(), id(0), "the clock was {skew_us} us off");
    }
    // Two more days are not yet three; with another they are.
    run(&io, 0, 2 * DAY_US);
    assert_eq!(partition.trim_end(), id(0));
    run(&io, 0, DAY_US);
    assert_eq!(
        partition.trim_end(),
        id(20),
        "also the segment that was written, once it is sealed"
    );
    // A clock that stays ahead is believed after a day.
    push(&io, &partition, 20);
    run(&io, month_us, DAY_US - HOUR_US);
    assert_eq!(partition.trim_end(), id(20));
    run(&io, month_us, 2 * HOUR_US);
    assert_eq!(partition.trim_end(), id(21));
}

#[test]
fn a_deleted_partition_answers_what_it_accepted_and_refuses_the_rest() {
    let io = SimIo::stepping(&Image::new(), 5);
    let partition = partition(&io, Retention::default());
    let content: Content = (b"{}".to_vec(), vec![1; 100]);
    let accepted = send(&partition, vec![content.clone()], (1, 0, 0));
    io.run_tasks();
    let deleting = Rc::clone(&partition);
    let deleted = Rc::new(RefCell::new(false));
    let done = Rc::clone(&deleted);
    io.spawn(async move {
        deleting.delete().await;
        *done.borrow_mut() = true;
    });
    io.run_tasks();
    assert!(!*deleted.borrow(), "a commit is in flight");
    let refused = send(&partition, vec![content], (1, 0, 1));
    let error = refused.outcome.borrow().clone().unwrap().unwrap_err();
    assert!(error.contains("topic \"t\" was deleted"), "{error}");
    settle(&io);
    assert!(*deleted.borrow() && accepted.acknowledged().is_some());
}
