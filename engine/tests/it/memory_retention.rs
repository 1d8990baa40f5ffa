//! Retention of memory partitions: the same rules as those of a log's segments, kept batch by batch.

use std::rc::Rc;

use mofka_engine::io::Io;
use mofka_engine::partition::{Partition, ReadLimits, Wanted};
use mofka_engine::sim::{Image, SimIo};
use mofka_log::{
    AcknowledgedBy, Batch, BatchBuilder, Durability, EventId, PartitionKind, Reference, Retention,
};
use mofka_net::{DataDescriptor, DataReference, ErrorCode};
use uuid::Uuid;

use crate::model::{Content, Sent, id, open, partition_id, read_all, send, spec};

/// Who refers to the partition.
const OTHER: Uuid = Uuid::from_u128(0xd0);
const SECOND_US: u64 = 1_000_000;

fn io() -> SimIo {
    SimIo::stepping(&Image::new(), 1)
}

fn partition(io: &SimIo, retention: Retention, full_bytes: u64) -> Rc<Partition<SimIo>> {
    let mut spec = spec(PartitionKind::Memory, Durability::Buffered);
    spec.topic.retention = retention;
    spec.limits.memory_partition_bytes_max = full_bytes;
    open(io, spec).unwrap()
}

/// One event of 1000 bytes.
fn push(partition: &Rc<Partition<SimIo>>, n: u64) -> Sent {
    let content: Content = (format!("{{\"n\":{n}}}").into_bytes(), vec![7; 1000]);
    send(partition, vec![content], (0xabc, 0, n))
}

fn is_refused(sent: &Sent) -> bool {
    matches!(&*sent.outcome.borrow(), Some(Err(reason)) if reason.contains("is full"))
}

fn look(io: &SimIo, partition: &Rc<Partition<SimIo>>, now_us: u64) {
    let partition = Rc::clone(partition);
    io.block_on(async move { partition.retain(now_us).await });
}

fn acknowledge(partition: &Partition<SimIo>, consumer: &str, next: u64) {
    partition.acknowledge(consumer, id(next), Box::new(|done| assert!(done.is_ok())));
}

fn bytes_max(bytes: u64) -> Retention {
    Retention {
        bytes_max: Some(bytes),
        ..Retention::default()
    }
}

fn consumers(names: &[&str]) -> AcknowledgedBy {
    AcknowledgedBy::Consumers(names.iter().map(|name| (*name).to_owned()).collect())
}

#[test]
fn it_keeps_the_newest_within_its_bound_and_never_refuses() {
    let io = io();
    let partition = partition(&io, bytes_max(100_000), 110_000);
    for n in 0..1000 {
        assert!(push(&partition, n).acknowledged().is_some(), "event {n}");
        let used = partition.used_bytes();
        assert!(used <= 100_000, "{used} bytes after event {n}");
        assert!(n < 120 || used > 90_000, "{used} bytes after event {n}");
    }
    let trim_end = partition.trim_end();
    assert!((id(900)..id(930)).contains(&trim_end), "{trim_end}");
    let found = io.block_on(read_all(Rc::clone(&partition))).unwrap();
    assert!(
        found.keys().copied().eq(trim_end.get()..1000),
        "all that is left is there"
    );
    let limits = ReadLimits {
        events_max: 1,
        bytes_max: 1 << 20,
        with_data: true,
    };
    let reading = Rc::clone(&partition);
    let error = io
        .block_on(async move { reading.read(id(trim_end.get() - 1), limits).await })
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::Trimmed, "{error}");
    let fetching = Rc::clone(&partition);
    let error = io
        .block_on(async move {
            let descriptor = DataDescriptor::of_event(id(3), 1000);
            fetching.fetch(&descriptor, 1 << 20, &mut None).await.map(|_| ())
        })
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::Trimmed, "{error}");
    // A smaller bound counts from the next batch on.
    partition.set_retention(bytes_max(20_000));
    push(&partition, 1000);
    assert!(partition.used_bytes() <= 20_000);
}

#[test]
fn the_newest_batch_stays_however_small_the_bound() {
    let io = io();
    let partition = partition(&io, bytes_max(1), 1 << 20);
    for n in 0..10 {
        push(&partition, n);
        assert_eq!(
            (partition.trim_end(), partition.visible_end()),
            (id(n), id(n + 1))
        );
        look(&io, &partition, io.now_us());
        assert_eq!(partition.trim_end(), id(n));
    }
}

#[test]
fn what_is_too_old_goes_at_the_next_look_even_all_of_it() {
    let io = io();
    let begin_us = io.now_us();
    let retention = Retention {
        age_max_ms: Some(10_000),
        ..Retention::default()
    };
    let partition = partition(&io, retention, 1 << 20);
    for n in 0..10 {
        io.set_now_us(begin_us + n * SECOND_US);
        push(&partition, n);
    }
    look(&io, &partition, begin_us + 15 * SECOND_US);
    assert_eq!(partition.trim_end(), id(5));
    look(&io, &partition, begin_us + 60 * SECOND_US);
    assert_eq!((partition.trim_end(), partition.used_bytes()), (id(10), 0));
    let next = push(&partition, 10);
    assert_eq!(next.acknowledged().map(|done| done.base_event_id), Some(id(10)));
    let found = io.block_on(read_all(Rc::clone(&partition))).unwrap();
    assert!(found.keys().copied().eq([10]));
}

#[test]
fn a_full_one_takes_more_as_soon_as_consumers_have_acknowledged() {
    let io = io();
    let retention = Retention {
        acknowledged: Some(consumers(&["a", "b"])),
        ..Retention::default()
    };
    let partition = partition(&io, retention, 50_000);
    let mut n = 0;
    while !is_refused(&push(&partition, n)) {
        n += 1;
    }
    assert!((30..50).contains(&n), "{n} events fill it");
    acknowledge(&partition, "a", n);
    assert!(is_refused(&push(&partition, n)), "b has acknowledged nothing");
    acknowledge(&partition, "b", 20);
    assert_eq!(
        partition.trim_end(),
        id(0),
        "nothing goes before it has to, or is looked at"
    );
    assert!(
        push(&partition, n).acknowledged().is_some(),
        "without waiting for a look"
    );
    assert_eq!(partition.trim_end(), id(20));
    acknowledge(&partition, "b", 25);
    look(&io, &partition, io.now_us());
    assert_eq!(partition.trim_end(), id(25));
}

#[test]
fn what_is_to_be_kept_until_it_is_acknowledged_holds_against_the_bound() {
    let io = io();
    let retention = Retention {
        keep_unacknowledged: Some(consumers(&["slow"])),
        ..bytes_max(20_000)
    };
    let partition = partition(&io, retention, 50_000);
    let mut n = 0;
    while !is_refused(&push(&partition, n)) {
        n += 1;
    }
    assert!(
        n > 30 && partition.trim_end() == id(0),
        "the bound of all memory partitions holds"
    );
    acknowledge(&partition, "slow", n);
    assert!(push(&partition, n).acknowledged().is_some());
    assert!(partition.used_bytes() <= 20_000);
}

fn wanted(event: u64) -> Wanted {
    Wanted {
        index: 0,
        event_id: id(event),
        base_bytes: 1000,
    }
}

#[test]
fn what_others_refer_to_stays_until_they_say_that_they_do_not() {
    let io = io();
    let partition = partition(&io, Retention::default(), 1 << 20);
    for n in 0..100 {
        push(&partition, n);
    }
    let referring = Rc::clone(&partition);
    io.block_on(async move { referring.refer(OTHER, &[wanted(40)]).await })
        .unwrap();
    partition.set_retention(bytes_max(20_000));
    look(&io, &partition, io.now_us());
    assert_eq!(
        partition.trim_end(),
        id(40),
        "the event that is referred to is the first"
    );
    let review = |first: Option<EventId>| {
        let reviewed = Rc::clone(&partition);
        io.block_on(async move {
            let answer = async |by| {
                assert_eq!(by, OTHER);
                Ok(first)
            };
            reviewed.review(answer).await;
        });
    };
    // What it keeps is not gone through for each event that comes, and yet let go soon.
    for n in 100..110 {
        push(&partition, n);
    }
    assert_eq!(partition.trim_end(), id(40));
    review(Some(id(60)));
    assert_eq!(partition.trim_end(), id(60));
    review(None);
    assert!(
        (id(90)..id(100)).contains(&partition.trim_end()),
        "{}",
        partition.trim_end()
    );
    for n in 110..200 {
        push(&partition, n);
        assert!(partition.used_bytes() <= 20_000, "the bound holds again");
    }
}

/// An event of this partition that refers to another one of it.
fn push_reference(io: &SimIo, partition: &Rc<Partition<SimIo>>, to: u64) {
    let me = Rc::clone(partition);
    io.block_on(async move {
        let referral = me.begin_referral(vec![(partition_id(), id(to))]);
        me.refer(partition_id(), &[wanted(to)]).await.unwrap();
        let stored = DataReference::new(partition_id(), DataDescriptor::of_event(id(to), 1000))
            .unwrap()
            .serialize();
        let mut builder = BatchBuilder::new();
        builder
            .push_reference(b"{}", Reference::check(&stored).unwrap())
            .unwrap();
        let (frame, data) = builder.finish(None);
        let batch = Batch::check_client(frame, data).unwrap();
        let done = Box::new(move |outcome: Result<_, _>| {
            drop(referral);
            assert!(outcome.is_ok());
        });
        me.append(batch, None, done);
    });
}

#[test]
fn what_its_own_events_refer_to_stays_as_long_as_they_do() {
    let io = io();
    let partition = partition(&io, Retention::default(), 1 << 20);
    for n in 0..50 {
        push(&partition, n);
    }
    push_reference(&io, &partition, 30);
    for n in 50..100 {
        push(&partition, n);
    }
    partition.set_retention(bytes_max(70_000));
    look(&io, &partition, io.now_us());
    assert_eq!(
        partition.trim_end(),
        id(30),
        "event 50, which refers to it, stays"
    );
    // Now the one that refers is to go as well.
    partition.set_retention(bytes_max(20_000));
    look(&io, &partition, io.now_us());
    assert!(
        (id(75)..id(95)).contains(&partition.trim_end()),
        "{}",
        partition.trim_end()
    );
}
