//! Events whose data is filled in the node's shared memory.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mofka_client::{
    BatchSize, ConsumerOptions, DataSelector, DeliveryError, Driver, DriverOptions, Durability, ErrorCode,
    FillError, InPlace, PartitionKind, Producer, ProducerOptions, PushError, TopicHandle, TopicOptions,
};
use mofka_tests::{Node, Random, scale};
use rustix::process::{Pid, Signal, kill_process};

use super::{PATIENCE, data, node, rings, there_and_back, with_ring};

/// Half of the default arena: what can be claimed at a time.
const HALF: usize = 8 << 20;

fn metadata(n: u64) -> String {
    format!("{{\"n\":{n}}}")
}

/// As a device would, which knows nothing but the place.
fn fill_by_address(at: *mut u8, bytes: &[u8]) {
    let at = at as u64;
    assert_eq!(at % 4096, 0);
    let memory = File::options().write(true).open("/proc/self/mem").unwrap();
    memory.write_all_at(bytes, at).unwrap();
}

/// Fills all of it, in one of several ways.
fn fill(claim: &mut InPlace, bytes: &[u8], way: u64) {
    let half = bytes.len() / 2;
    match way % 7 {
        0 => claim.write(0, bytes).unwrap(),
        1 => fill_by_address(claim.as_mut_ptr(), bytes),
        2 => {
            let mut at = 0;
            for piece in bytes.chunks(70_001) {
                claim.write(at, piece).unwrap();
                at += piece.len();
            }
        }
        3 => {
            claim.write(half, &bytes[half..]).unwrap();
            claim.write(0, &bytes[..half]).unwrap();
        }
        4 => {
            // What was looked at already changes.
            claim.write(0, &vec![1; bytes.len()]).unwrap();
            claim.write(0, &bytes[..half]).unwrap();
            claim.write(half, &bytes[half..]).unwrap();
        }
        5 => {
            claim.write(0, &bytes[..half]).unwrap();
            fill_by_address(claim.as_mut_ptr(), bytes);
        }
        _ => {
            // The device comes last, and knows the place from before.
            let at = claim.as_mut_ptr();
            claim.write(0, &vec![1; bytes.len()]).unwrap();
            fill_by_address(at, bytes);
        }
    }
}

/// Claims, a little more than is needed, fills and commits. Whether it was in shared memory.
fn push_in_place(producer: &Producer, n: u64, bytes_max: u64, partition: usize) -> bool {
    let bytes = data(n, bytes_max);
    let claimed = bytes.len() + usize::try_from(n % 3).unwrap();
    let mut claim = producer.claim(metadata(n), claimed, Some(partition)).unwrap();
    assert_eq!(claim.bytes(), claimed);
    claim.shorten(bytes.len()).unwrap();
    fill(&mut claim, &bytes, n / 5);
    let is_shared = claim.is_shared();
    claim.commit().unwrap();
    is_shared
}

/// Pulls so many events, and checks that each partition has its numbers in order, and the data that belongs to them.
fn check(topic: &TopicHandle, events: u64, partitions: usize, bytes_max: u64) {
    let options = ConsumerOptions {
        data_selector: DataSelector::all(),
        ..ConsumerOptions::default()
    };
    let consumer = topic.consumer("check", options).unwrap();
    let mut next: Vec<u64> = (0..partitions as u64).collect();
    for seen in 0..events {
        let pulled = consumer.pull().wait_timeout(PATIENCE).unwrap();
        let event = pulled
            .unwrap_or_else(|| panic!("only {seen} of {events} events came"))
            .expect("no end of stream");
        let n = event.metadata()["n"].as_u64().unwrap();
        let expected = &mut next[event.partition()];
        assert_eq!(n, *expected, "each event once, in order");
        *expected += partitions as u64;
        assert!(event.data().to_bytes() == data(n, bytes_max), "data of event {n}");
    }
    let more = consumer.pull().wait_timeout(Duration::from_millis(100)).unwrap();
    assert!(more.is_none(), "{more:?}");
}

#[test]
fn events_filled_in_place_are_stored_byte_for_byte_among_the_others() {
    const EVENTS: u64 = 200;
    const BYTES_MAX: u64 = 250_000;
    let node = node("");
    let driver = node.driver();
    for (name, kind, batch_size, max_num_batches) in [
        ("adaptive", PartitionKind::Default, BatchSize::Adaptive, 4),
        ("single", PartitionKind::Memory, BatchSize::fixed(1), 1),
        ("never", PartitionKind::Default, BatchSize::fixed(1000), 1),
        ("some", PartitionKind::Memory, BatchSize::fixed(3), 2),
    ] {
        let options = TopicOptions::new(name).partitions(2).partition_kind(kind);
        let topic = driver.create_topic(options).unwrap();
        let producer = topic.producer(ProducerOptions {
            batch_size,
            max_num_batches,
            ..ProducerOptions::default()
        });
        let (mut in_place, mut shared) = (0, 0);
        for n in 0..EVENTS {
            let partition = usize::try_from(n % 2).unwrap();
            if n % 5 < 3 {
                in_place += 1;
                shared += u64::from(push_in_place(&producer, n, BYTES_MAX, partition));
            } else {
                let pushed = producer.push(metadata(n), data(n, BYTES_MAX), Some(partition));
                pushed.unwrap();
            }
        }
        let report = producer.close().unwrap();
        assert_eq!(
            (report.pushed, report.acknowledged, report.failed),
            (EVENTS, EVENTS, 0),
            "{name}"
        );
        let bytes: u64 = (0..EVENTS)
            .map(|n| data(n, BYTES_MAX).len() as u64 + metadata(n).len() as u64)
            .sum();
        let stats = producer.stats();
        assert_eq!(stats.bytes, bytes, "{name}");
        assert!(stats.batches > in_place, "each is a batch of its own: {stats:?}");
        println!("{name}: {shared} of {in_place} were shared");
        assert!(shared > in_place / 2, "{name}: {shared} of {in_place}");
        check(&topic, EVENTS, 2, BYTES_MAX);
    }
    let rings = rings(&node);
    assert_eq!((rings.fault_count, rings.detour_count), (0, 0));
}

#[test]
fn commits_and_pushes_of_many_threads_all_find_a_place() {
    const EACH: u64 = 150;
    let node = node("");
    let topic = node.driver().create_topic(TopicOptions::new("t")).unwrap();
    let producer = topic.producer(ProducerOptions {
        max_num_batches: 1,
        ..ProducerOptions::default()
    });
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let producer = &producer;
            scope.spawn(move || {
                for n in 0..EACH {
                    if thread % 2 == 0 {
                        producer.push(metadata(n), data(n, 3000), None).unwrap();
                    } else {
                        push_in_place(producer, n, 3000, 0);
                    }
                }
            });
        }
    });
    let report = producer.close().unwrap();
    assert_eq!((report.acknowledged, report.failed), (4 * EACH, 0));
}

#[test]
fn what_is_claimed_and_not_committed_has_never_been() {
    let node = node("");
    let topic = node.driver().create_topic(TopicOptions::new("t")).unwrap();
    let producer = topic.producer(ProducerOptions::default());
    // Connects.
    drop(producer.claim("{}", 1, None).unwrap());
    let before = rings(&node);
    for n in 0..5000 {
        let claim = producer.claim("{}", 1 + n * 7919 % HALF, None).unwrap();
        assert!(claim.is_shared(), "claim {n}");
    }
    // Half of the arena, and not a byte more.
    let whole = producer.claim("{}", HALF, None).unwrap();
    let beside = producer.claim("{}", 1, None).unwrap();
    let more = producer.claim("{}", HALF + 1, None).unwrap();
    assert_eq!(
        [whole.is_shared(), beside.is_shared(), more.is_shared()],
        [true, false, false]
    );
    drop((beside, more, whole));
    assert!(producer.claim("{}", HALF, None).unwrap().is_shared());
    let after = rings(&node);
    assert_eq!(
        (after.received_count, after.sent_count, after.fault_count),
        (before.received_count, before.sent_count, 0),
        "the node hears nothing of all this"
    );
    let stats = producer.stats();
    assert_eq!((stats.events, stats.bytes, stats.batches), (0, 0, 0));
    // The same room again and again, as soon as it was acknowledged.
    for _ in 0..20 {
        let claim = producer.claim("{}", HALF, None).unwrap();
        assert!(claim.is_shared());
        claim.commit().unwrap().wait().unwrap();
    }
    there_and_back(&node.driver(), "others", 200, 100_000, BatchSize::Adaptive);
}

#[test]
fn without_room_in_shared_memory_it_is_memory_of_its_own() {
    let node = node("");
    let elsewhere = Driver::connect(DriverOptions {
        shared_memory: None,
        ..DriverOptions::group_file(node.group_file())
    });
    let tight = with_ring(&node, 4, 64 << 10);
    for (name, driver, shared_max) in [
        ("socket", elsewhere.unwrap(), 0),
        ("tight", tight, 32 << 10),
        ("ring", node.driver(), HALF),
    ] {
        let topic = driver.create_topic(TopicOptions::new(name)).unwrap();
        let producer = topic.producer(ProducerOptions {
            max_num_batches: 8,
            ..ProducerOptions::default()
        });
        let mut held: Vec<(InPlace, u64)> = Vec::new();
        let (mut events, mut shared) = (0, 0);
        // Several at a time, committed in the order of their numbers.
        for n in 0..40_u64 {
            let bytes = data(n, 700_000);
            let mut claim = producer.claim(metadata(n), bytes.len(), None).unwrap();
            assert!(!claim.is_shared() || bytes.len() <= shared_max, "{name}: {n}");
            shared += usize::from(claim.is_shared());
            fill(&mut claim, &bytes, n);
            held.push((claim, n));
            if held.len() > 30 {
                for (claim, _) in held.drain(..) {
                    claim.commit().unwrap();
                    events += 1;
                }
            }
        }
        for (claim, _) in held.drain(..) {
            claim.commit().unwrap();
            events += 1;
        }
        let report = producer.close().unwrap();
        assert_eq!(
            (report.acknowledged, report.failed, events),
            (40, 0, 40),
            "{name}"
        );
        println!("{name}: {shared} of 40 were shared");
        assert_eq!(shared > 0, shared_max > 0, "{name}");
        assert!(shared < 40, "{name}: there is not so much room");
        check(&topic, 40, 1, 700_000);
        assert!(matches!(producer.claim("{}", 1, None), Err(PushError::Closed)));
    }
    assert_eq!(rings(&node).fault_count, 0);
}

#[test]
fn what_is_asked_for_wrongly_is_said() {
    let node = node(", \"limits\": {\"frame_bytes_max\": 1000000}");
    let topic = node.driver().create_topic(TopicOptions::new("t")).unwrap();
    let producer = topic.producer(ProducerOptions::default());
    assert!(matches!(
        producer.claim("{}", 1_000_000, None),
        Err(PushError::TooLarge { max, .. }) if max < 1_000_000
    ));
    assert!(matches!(
        producer.claim("{}", usize::MAX, None),
        Err(PushError::TooLarge { bytes: u64::MAX, .. })
    ));
    assert!(matches!(
        producer.claim("{", 10, None),
        Err(PushError::InvalidMetadata { .. })
    ));
    let mut claim = producer.claim("{}", 10, None).unwrap();
    let outside = |at, bytes, data_bytes| FillError::Outside {
        at,
        bytes,
        data_bytes,
    };
    assert_eq!(claim.write(8, &[1; 3]), Err(outside(8, 3, 10)));
    assert_eq!(claim.write(usize::MAX, &[1]), Err(outside(usize::MAX, 1, 10)));
    assert_eq!(claim.shorten(11), Err(outside(0, 11, 10)));
    claim.shorten(5).unwrap();
    assert_eq!(claim.write(5, &[1]), Err(outside(5, 1, 5)));
    claim.write(0, b"12345").unwrap();
    claim.commit().unwrap().wait().unwrap();
    let empty = producer.claim("{}", 0, None).unwrap();
    empty.commit().unwrap().wait().unwrap();
    let late = producer.claim("{}", 5, None).unwrap();
    producer.close().unwrap();
    assert!(matches!(late.commit(), Err(PushError::Closed)));
}

#[test]
fn whoever_keeps_claims_stops_nobody() {
    let node = node("");
    let driver = node.driver();
    let topic = driver.create_topic(TopicOptions::new("t")).unwrap();
    let producer = topic.producer(ProducerOptions::default());
    let claims: Vec<InPlace> = (0..4)
        .map(|_| producer.claim("{}", HALF / 4, None).unwrap())
        .collect();
    assert!(claims.iter().all(InPlace::is_shared));
    // More than what is left of the arena ever holds: it goes over the socket.
    let pushed = producer.push("{}", vec![3; 10 << 20], None).unwrap();
    pushed.wait().unwrap();
    assert!(rings(&node).detour_count > 0);
    there_and_back(&driver, "others", 60, 2_000_000, BatchSize::fixed(3));
    drop(claims);
}

#[test]
fn events_filled_in_place_survive_kills_of_the_node_and_come_once() {
    const BYTES_MAX: u64 = 300_000;
    const MAX_NUM_BATCHES: usize = 8;
    let mut node = node("");
    let driver = Arc::new(node.driver());
    let topic = driver.create_topic(TopicOptions::new("t")).unwrap();
    let producer = topic.producer(ProducerOptions {
        batch_size: BatchSize::fixed(1),
        max_num_batches: MAX_NUM_BATCHES,
        durability: Some(Durability::Synced),
        ..ProducerOptions::default()
    });
    let seed = scale("MOFKA_KILL_SEED", crate::kill::seed_of_clock());
    println!("to repeat the moments of the kills: MOFKA_KILL_SEED={seed}");
    let mut random = Random::new(seed);
    let (mut n, mut shared) = (0, 0);
    for round in 0..scale("MOFKA_KILLS", 4) {
        // Claimed from a node that is gone when they are committed.
        let mut held = Vec::new();
        for _ in 0..3 {
            let bytes = data(n, BYTES_MAX);
            let mut claim = producer.claim(metadata(n), bytes.len(), None).unwrap();
            fill(&mut claim, &bytes, n);
            shared += u64::from(claim.is_shared());
            held.push(claim);
            n += 1;
        }
        eventually("there is room for what is committed while nobody answers", || {
            let stats = producer.stats();
            stats.events - stats.acknowledged <= MAX_NUM_BATCHES as u64 - 2
        });
        if round % 2 == 0 {
            // What is committed now is sent, and certainly not answered.
            signal(&node, Signal::STOP);
        }
        held.drain(..1).for_each(|claim| drop(claim.commit().unwrap()));
        std::thread::sleep(Duration::from_micros(random.below(5000)));
        node.kill();
        held.drain(..1).for_each(|claim| drop(claim.commit().unwrap()));
        node.start_again();
        held.into_iter().for_each(|claim| drop(claim.commit().unwrap()));
        for _ in 0..20 {
            shared += u64::from(push_in_place(&producer, n, BYTES_MAX, 0));
            n += 1;
        }
    }
    let report = producer.close().unwrap();
    assert_eq!((report.acknowledged, report.failed), (n, 0), "{report:?}");
    println!(
        "{shared} of {n} were shared, {} were sent again",
        producer.stats().resent
    );
    assert!(shared > 0 && producer.stats().resent > 0);
    check(&topic, n, 1, BYTES_MAX);
}

/// Waits until this is so.
fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn signal(node: &Node, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(node.pid()).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
    if signal == Signal::STOP {
        // A thread that runs goes on until the signal reaches its core.
        eventually("every thread has stopped", || {
            let threads = std::fs::read_dir(format!("/proc/{}/task", node.pid())).unwrap();
            threads.flatten().all(|thread| {
                let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
                stat.rsplit(')')
                    .next()
                    .is_none_or(|rest| rest.trim_start().starts_with('T'))
            })
        });
    }
}

/// Goes on, also when the test fails.
struct Stopped<'a>(&'a Node);

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        signal(self.0, Signal::CONT);
    }
}

#[test]
fn what_was_not_acknowledged_in_time_keeps_its_room_until_the_node_has_answered() {
    let node = node("");
    let topic = node.driver().create_topic(TopicOptions::new("t")).unwrap();
    let producer = topic.producer(ProducerOptions {
        delivery_timeout: Some(Duration::from_millis(200)),
        ..ProducerOptions::default()
    });
    let claim = || producer.claim(metadata(0), HALF, None).unwrap();
    let mut slow = claim();
    assert!(slow.is_shared());
    fill(&mut slow, &vec![0; HALF], 0);
    slow.shorten(data(0, 10).len()).unwrap();
    let stopped = Stopped(&node);
    signal(&node, Signal::STOP);
    let late = slow.commit().unwrap().wait().unwrap_err();
    assert!(
        matches!(
            late,
            DeliveryError::TimedOut {
                may_be_stored: true,
                ..
            }
        ),
        "{late}"
    );
    assert!(!claim().is_shared(), "the node may still read it");
    drop(stopped);
    eventually("its room is free again", || claim().is_shared());
    check(&topic, 1, 1, 10);
    let report = producer.close().unwrap();
    assert_eq!((report.failed, report.may_be_stored), (1, 1));
}

#[test]
fn whoever_gives_up_while_a_commit_waits_for_room_leaves_nothing_behind() {
    let node = node("");
    let topic = node.driver().create_topic(TopicOptions::new("t")).unwrap();
    let producer = topic.producer(ProducerOptions {
        max_num_batches: 1,
        ..ProducerOptions::default()
    });
    let claim = |n| {
        let bytes = data(n, 5000);
        let mut claim = producer.claim(metadata(n), bytes.len(), None).unwrap();
        fill(&mut claim, &bytes, 0);
        claim
    };
    claim(0).commit_while(|| true).unwrap().wait().unwrap();
    let (first, given_up, last) = (claim(1), claim(9), claim(2));
    let stopped = Stopped(&node);
    signal(&node, Signal::STOP);
    first.commit().unwrap();
    let asked = AtomicU64::new(0);
    let gave_up = given_up.commit_while(|| asked.fetch_add(1, Ordering::Relaxed) < 2);
    assert!(matches!(gave_up, Err(PushError::GivenUp)), "{gave_up:?}");
    assert_eq!(asked.load(Ordering::Relaxed), 3);
    drop(stopped);
    last.commit_while(|| true).unwrap().wait().unwrap();
    // Nor does it hold up who pushes.
    let pushed = producer.push(metadata(3), data(3, 5000), None).unwrap();
    pushed.wait().unwrap();
    check(&topic, 4, 1, 5000);
    assert_eq!(producer.close().unwrap().pushed, 4);
}

#[test]
fn data_that_changes_after_the_commit_is_refused_or_stored_as_it_was() {
    let node = node("");
    let topic = node.driver().create_topic(TopicOptions::new("t")).unwrap();
    let producer = topic.producer(ProducerOptions::default());
    let memory = File::options().write(true).open("/proc/self/mem").unwrap();
    let (mut accepted, mut refused) = (0, 0);
    for round in 0..scale("MOFKA_ROUNDS", 30) {
        let mut claim = producer.claim("{}", 200_000, None).unwrap();
        assert!(claim.is_shared());
        let at = claim.as_mut_ptr() as u64;
        claim.write(0, &vec![7; 200_000]).unwrap();
        let pushed = claim.commit().unwrap();
        let until = Instant::now() + Duration::from_micros(round * 10);
        let mut word = 0_u64;
        while Instant::now() < until {
            word += 1;
            memory.write_all_at(&word.to_ne_bytes(), at + 100_000).unwrap();
        }
        match pushed.wait() {
            Ok(_) => accepted += 1,
            Err(DeliveryError::Refused(error)) => {
                assert_eq!(error.code, ErrorCode::BadChecksum, "{error}");
                refused += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    println!("{accepted} accepted, {refused} refused");
    let options = ConsumerOptions {
        data_selector: DataSelector::all(),
        ..ConsumerOptions::default()
    };
    let consumer = topic.consumer("c", options).unwrap();
    for _ in 0..accepted {
        let event = consumer.pull().wait_timeout(PATIENCE).unwrap().unwrap().unwrap();
        assert!(event.data().to_bytes() == vec![7; 200_000]);
    }
    assert_eq!(rings(&node).fault_count, 0);
}
