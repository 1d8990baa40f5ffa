//! The bound that all memory partitions of a node share: what is beyond it is refused, and there is room again when something
//! went, wherever it was.

use std::rc::Rc;

use mofka_engine::EngineLimits;
use mofka_engine::io::Io;
use mofka_engine::partition::{NodeMemory, Partition, ShardMemory};
use mofka_engine::sim::{Image, SimIo};
use mofka_log::{Durability, PartitionKind, Retention};

use crate::model::{Content, Sent, id, read_all, send, spec};

const NODE_BYTES: u64 = 50_000;

fn limits(node_bytes: u64) -> EngineLimits {
    EngineLimits {
        memory_bytes_max: Some(node_bytes),
        ..EngineLimits::default()
    }
}

/// Two partitions on two shards of one node.
fn partitions(io: &SimIo, retention: &Retention) -> [Rc<Partition<SimIo>>; 2] {
    partitions_within(NODE_BYTES, io, retention)
}

fn partitions_within(node_bytes: u64, io: &SimIo, retention: &Retention) -> [Rc<Partition<SimIo>>; 2] {
    let node = NodeMemory::default();
    [(); 2].map(|()| {
        let mut spec = spec(PartitionKind::Memory, Durability::Buffered);
        spec.topic.retention = retention.clone();
        let memory = ShardMemory::of_node(&limits(node_bytes), node.clone());
        let machine = io.clone();
        io.block_on(async move { Partition::open_within(machine, spec, memory).await.unwrap() })
    })
}

/// The first is a window of so many bytes, the second keeps all.
fn window_beside_all(node_bytes: u64, io: &SimIo, window_bytes: u64) -> [Rc<Partition<SimIo>>; 2] {
    let both = partitions_within(node_bytes, io, &Retention::default());
    both[0].set_retention(Retention {
        bytes_max: Some(window_bytes),
        ..Retention::default()
    });
    both
}

/// One event of 1000 bytes.
fn push(partition: &Rc<Partition<SimIo>>, n: u64) -> Sent {
    push_bytes(partition, n, 1000)
}

fn push_bytes(partition: &Rc<Partition<SimIo>>, n: u64, bytes: usize) -> Sent {
    let content: Content = (format!("{{\"n\":{n}}}").into_bytes(), vec![7; bytes]);
    send(partition, vec![content], (0xabc, 0, n))
}

fn refusal(sent: &Sent) -> Option<String> {
    match &*sent.outcome.borrow() {
        Some(Err(reason)) => Some(reason.clone()),
        _ => None,
    }
}

/// Sends until one is refused, and says how many were taken and why no more.
fn fill(partition: &Rc<Partition<SimIo>>) -> (u64, String) {
    let mut n = 0;
    loop {
        match refusal(&push(partition, n)) {
            Some(reason) => return (n, reason),
            None => n += 1,
        }
    }
}

#[test]
fn one_that_is_full_refuses_in_all_and_answers_what_it_has() {
    let io = SimIo::stepping(&Image::new(), 1);
    let [first, second] = partitions(&io, &Retention::default());
    for n in 0..10 {
        assert!(push(&second, n).acknowledged().is_some());
    }
    let (taken, reason) = fill(&first);
    assert!((20..40).contains(&taken), "{taken} beside 10 of the other");
    for words in [
        "limits.memory_bytes_max (50000)",
        "retention",
        "delete",
        "raise the limit",
    ] {
        assert!(reason.contains(words), "{reason}");
    }
    assert!(first.used_bytes() + second.used_bytes() <= NODE_BYTES);
    assert!(
        refusal(&push(&second, 10)).is_some(),
        "the other shard's is full as well"
    );
    let again = push(&second, 3).acknowledged().unwrap();
    assert!(again.duplicate && again.base_event_id == id(3), "{again:?}");
    // Nothing of what was refused got an id.
    assert_eq!((first.visible_end(), second.visible_end()), (id(taken), id(10)));
    let found = io.block_on(read_all(Rc::clone(&first))).unwrap();
    assert!(found.keys().copied().eq(0..taken));
}

#[test]
fn there_is_room_again_when_events_or_a_topic_went() {
    let io = SimIo::stepping(&Image::new(), 1);
    let [first, second] = partitions(&io, &Retention::default());
    let (taken, _) = fill(&first);
    assert!(refusal(&push(&second, 0)).is_some());
    first.set_retention(Retention {
        bytes_max: Some(20_000),
        ..Retention::default()
    });
    // The look that comes now and then.
    let looked = Rc::clone(&first);
    let now_us = io.now_us();
    io.block_on(async move { looked.retain(now_us).await });
    assert!(push(&second, 0).acknowledged().is_some());
    first.set_retention(Retention::default());
    fill(&second);
    assert!(refusal(&push(&first, taken)).is_some());
    let deleted = Rc::clone(&second);
    io.block_on(async move { deleted.delete().await });
    for n in taken..taken + 20 {
        assert!(push(&first, n).acknowledged().is_some(), "event {n}");
    }
}

#[test]
fn a_window_on_the_last_events_goes_on_when_all_are_full() {
    let io = SimIo::stepping(&Image::new(), 1);
    let [first, second] = window_beside_all(NODE_BYTES, &io, 20_000);
    for n in 0..30 {
        assert!(push(&first, n).acknowledged().is_some());
    }
    assert!(first.trim_end() > id(0), "the window is full");
    fill(&second);
    for n in 30..200 {
        let sent = push(&first, n);
        assert!(sent.acknowledged().is_some(), "event {n}: {:?}", refusal(&sent));
    }
}

#[test]
fn a_window_keeps_its_room_wherever_it_is_filled_to_and_whoever_wants_it() {
    const WINDOW_BYTES: u64 = 300_000;
    let io = SimIo::stepping(&Image::new(), 1);
    let [first, second] = window_beside_all(400_000, &io, WINDOW_BYTES);
    // Some events go at a time: it is filled least right after that.
    let mut n = 0;
    while first.trim_end() == id(0) {
        assert!(push_bytes(&first, n, 10).acknowledged().is_some());
        n += 1;
    }
    let least = first.used_bytes();
    assert!(least + 3000 < WINDOW_BYTES, "{least} is not far below");
    let (mut others, _) = fill(&second);
    for bytes in [10, 2000, 10, 500].into_iter().cycle().take(2000) {
        let sent = push_bytes(&first, n, bytes);
        assert!(sent.acknowledged().is_some(), "event {n}: {:?}", refusal(&sent));
        n += 1;
        others += u64::from(refusal(&push(&second, others)).is_none());
    }
    assert!(
        first.used_bytes() + 5000 > least,
        "{} are left of {least}",
        first.used_bytes()
    );
}

#[test]
fn nothing_goes_for_a_batch_that_is_refused_all_the_same() {
    let io = SimIo::stepping(&Image::new(), 1);
    let [first, second] = window_beside_all(NODE_BYTES, &io, 20_000);
    for n in 0..10 {
        assert!(push(&first, n).acknowledged().is_some());
    }
    fill(&second);
    let reason = refusal(&push_bytes(&first, 10, 30_000)).unwrap();
    assert!(reason.contains("limits.memory_bytes_max"), "{reason}");
    assert_eq!(first.trim_end(), id(0));
    // What the window has is enough for this one.
    assert!(push_bytes(&first, 10, 5000).acknowledged().is_some());
    assert!((id(1)..id(9)).contains(&first.trim_end()));
}
