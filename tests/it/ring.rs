//! Clients of the node's own machine, which go on through shared memory: the same events, the same accounts, and nothing left of
//! those that die.

mod allowed;
mod auto;
mod hostile;
mod in_place;
mod process;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use mofka_client::{
    BatchSize, ConsumerOptions, DataSelector, Driver, DriverOptions, ProducerOptions, RingSize, TopicOptions,
};
use mofka_net::control::RingStatus;
use mofka_tests::{Node, Random, scale};

use self::process::Process;

/// Longer than anything takes on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A node with this configuration beside two shards and a Unix socket.
fn node(more: &str) -> Node {
    let mut node = Node::prepare(&["-c", "config.json"]);
    let config = format!("{{\"listen\": [\"na+sm\"], \"shards\": 2{more}}}");
    std::fs::write(node.dir().join("config.json"), config).unwrap();
    node.start_again();
    node
}

/// What all shards say of their rings, asked without one.
fn rings(node: &Node) -> RingStatus {
    let driver = Driver::connect(DriverOptions {
        shared_memory: None,
        ..DriverOptions::group_file(node.group_file())
    });
    let status = driver.unwrap().node_status(0).unwrap();
    let mut sum = RingStatus::default();
    for shard in status.shards {
        let rings = shard.rings;
        sum.attached_count += rings.attached_count;
        sum.attached_bytes += rings.attached_bytes;
        sum.opened_count += rings.opened_count;
        sum.refused_count += rings.refused_count;
        sum.fault_count += rings.fault_count;
        sum.received_count += rings.received_count;
        sum.sent_count += rings.sent_count;
        sum.detour_count += rings.detour_count;
        sum.wake_count += rings.wake_count;
    }
    sum
}

fn with_ring(node: &Node, slots: u32, arena_bytes: u64) -> Driver {
    Driver::connect(DriverOptions {
        shared_memory: Some(RingSize { slots, arena_bytes }),
        ..DriverOptions::group_file(node.group_file())
    })
    .unwrap()
}

/// The data of an event follows from its number.
fn data(n: u64, bytes_max: u64) -> Vec<u8> {
    let bytes = (n * 104_729) % bytes_max;
    (0..bytes)
        .map(|place| (place.wrapping_mul(n + 1) ^ n).to_le_bytes()[0])
        .collect()
}

/// Pushes so many events, and checks that a consumer gets the same.
fn there_and_back(driver: &Driver, topic: &str, events: u64, bytes_max: u64, batch_size: BatchSize) {
    let handle = driver
        .create_topic(TopicOptions::new(topic).partitions(2))
        .unwrap();
    let producer = handle.producer(ProducerOptions {
        batch_size,
        max_num_batches: 4,
        ..ProducerOptions::default()
    });
    for n in 0..events {
        let metadata = format!("{{\"n\":{n}}}");
        producer
            .push(
                metadata,
                data(n, bytes_max),
                Some(usize::try_from(n % 2).unwrap()),
            )
            .unwrap();
    }
    let report = producer.close().unwrap();
    assert_eq!((report.acknowledged, report.failed), (events, 0));
    let consumer = handle
        .consumer(
            "c",
            ConsumerOptions {
                data_selector: DataSelector::all(),
                ..ConsumerOptions::default()
            },
        )
        .unwrap();
    let mut next = [0, 1];
    for seen in 0..events {
        let pulled = consumer.pull().wait_timeout(PATIENCE).unwrap();
        let event = pulled
            .unwrap_or_else(|| panic!("only {seen} of {events} events came"))
            .expect("no end of stream");
        let n = event.metadata()["n"].as_u64().unwrap();
        let expected = &mut next[event.partition()];
        assert_eq!(n, *expected, "the events of a partition keep their order");
        *expected += 2;
        assert!(
            event.data().to_bytes().as_ref() == data(n, bytes_max),
            "data of event {n}"
        );
    }
}

#[test]
fn events_go_through_shared_memory_and_come_back_the_same() {
    let node = node("");
    let driver = node.driver();
    there_and_back(&driver, "single", 3000, 3000, BatchSize::fixed(1));
    there_and_back(&driver, "adaptive", 3000, 30_000, BatchSize::Adaptive);
    there_and_back(&driver, "large", 60, 2_000_000, BatchSize::fixed(3));
    let rings = rings(&node);
    assert_eq!(
        (rings.attached_count, rings.refused_count, rings.fault_count),
        (2, 0, 0)
    );
    assert_eq!(rings.detour_count, 0, "16 MiB hold every frame of this test");
    // At least the single events, their answers, and the feeds.
    assert!(
        rings.received_count > 3000 && rings.sent_count > 3000,
        "{rings:?}"
    );
}

#[test]
fn what_a_small_ring_cannot_hold_goes_over_the_socket_and_keeps_its_place() {
    let node = node("");
    let driver = with_ring(&node, 4, 64 << 10);
    there_and_back(&driver, "t", 200, 300_000, BatchSize::fixed(2));
    there_and_back(&driver, "tight", 500, 20_000, BatchSize::fixed(1));
    let rings = rings(&node);
    assert!(rings.detour_count > 100, "{rings:?}");
    assert_eq!((rings.attached_count, rings.fault_count), (2, 0));
    let bytes = rings.attached_bytes / rings.attached_count;
    assert!(
        (128 << 10..160 << 10).contains(&bytes),
        "{bytes} bytes for each ring"
    );
}

#[test]
fn where_there_is_no_ring_the_socket_is_used() {
    let none = node(", \"limits\": {\"rings_max\": 0}");
    there_and_back(&none.driver(), "t", 200, 1000, BatchSize::Adaptive);
    assert_eq!(rings(&none), RingStatus::default());

    let node =
        node(", \"limits\": {\"rings_max\": 3, \"rings_bytes_max\": 600000, \"ring_bytes_max\": 300000}");
    let first = node.driver();
    there_and_back(&first, "first", 200, 1000, BatchSize::Adaptive);
    let full = rings(&node);
    // The driver asks for more than a ring may have, and takes what there is.
    assert_eq!((full.attached_count, full.refused_count), (2, 0));
    assert!(full.attached_bytes <= 600_000, "{full:?}");
    let second = node.driver();
    there_and_back(&second, "second", 200, 1000, BatchSize::Adaptive);
    let refused = rings(&node);
    assert_eq!(
        (refused.attached_count, refused.refused_count),
        (2, 2),
        "{refused:?}"
    );
    drop(first);
    eventually(&node, |rings| {
        rings.attached_count == 0 && rings.attached_bytes == 0
    });
    let third = node.driver();
    there_and_back(&third, "third", 200, 1000, BatchSize::Adaptive);
    assert_eq!(rings(&node).attached_count, 2, "their room is others' again");
    drop(second);
}

/// Waits until this is so.
fn eventually(node: &Node, is_so: impl Fn(&RingStatus) -> bool) {
    let started = Instant::now();
    loop {
        let rings = rings(node);
        if is_so(&rings) {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "{rings:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Descriptors of the node without those of its logs, and mappings of rings.
fn held(node: &Node) -> (usize, usize) {
    // Segments that were filled meanwhile stay open for reading, a bounded number of them.
    let data_dir = node.data_dir().canonicalize().unwrap();
    let is_of_log = |path: &PathBuf| path.starts_with(&data_dir);
    let descriptors = std::fs::read_dir(format!("/proc/{}/fd", node.pid()))
        .unwrap()
        .filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok())
        .filter(|path| !is_of_log(path))
        .count();
    let maps = std::fs::read_to_string(format!("/proc/{}/maps", node.pid())).unwrap();
    let mapped = maps.lines().filter(|line| line.contains("mofka-ring")).count();
    (descriptors, mapped)
}

#[test]
fn nothing_is_left_of_clients_that_are_killed_in_the_middle() {
    let node = node("");
    let driver = node.driver();
    driver.create_topic(TopicOptions::new("t").partitions(2)).unwrap();
    // Whatever the node opens once is open after the first few.
    for round in 0..3 {
        kill_one(&node, round, 100);
    }
    drop(driver);
    eventually(&node, |rings| rings.attached_count == 0);
    let before = held(&node);
    assert_eq!(before.1, 0, "no ring is mapped");
    let seed = scale("MOFKA_KILL_SEED", super::kill::seed_of_clock());
    println!("to repeat the moments of the kills: MOFKA_KILL_SEED={seed}");
    let mut random = Random::new(seed);
    let kills = scale("MOFKA_KILLS", 20);
    for round in 0..kills {
        kill_one(&node, round, random.below(60));
    }
    eventually(&node, |rings| {
        rings.attached_count == 0 && rings.attached_bytes == 0
    });
    let started = Instant::now();
    // A connection of this test may still be there, or may have been there before.
    while held(&node).0 > before.0 || held(&node).1 > 0 {
        assert!(
            started.elapsed() < PATIENCE,
            "{before:?} before, {:?} now",
            held(&node)
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    let rings = rings(&node);
    assert_eq!(rings.fault_count, 0);
    assert!(rings.opened_count >= kills, "{rings:?}");
    there_and_back(&node.driver(), "others", 200, 1000, BatchSize::Adaptive);
}

/// Starts a client that produces and consumes, and kills it so many milliseconds after its first event.
fn kill_one(node: &Node, round: u64, after_ms: u64) {
    let mut client = Process::start(
        "load",
        &[&node.group_file().display().to_string(), &round.to_string()],
    );
    client.await_line();
    std::thread::sleep(Duration::from_millis(after_ms));
    client.kill();
}

#[test]
fn idle_clients_cost_the_node_next_to_nothing() {
    let node = node("");
    let drivers: Vec<Driver> = (0..10).map(|_| node.driver()).collect();
    for (n, driver) in drivers.iter().enumerate() {
        there_and_back(driver, &format!("t{n}"), 20, 100, BatchSize::Adaptive);
    }
    let (before, cpu_before) = (rings(&node), cpu_ticks(node.pid()));
    assert_eq!(before.attached_count, 20);
    std::thread::sleep(Duration::from_secs(4));
    let ticks = cpu_ticks(node.pid()) - cpu_before;
    let after = rings(&node);
    let wakes = after.wake_count - before.wake_count;
    println!("4 s with 20 idle rings: {ticks} hundredths of a second of CPU, {wakes} wake-ups by clients");
    // Both shards together: 10% of a core, of which most is the timers that were there before. A shard that polls takes 100%.
    assert!(ticks < 40, "{ticks} hundredths of a second");
    // Heartbeats come every ten seconds.
    assert!(wakes <= 60, "{wakes} wake-ups");
    assert!(after.received_count - before.received_count <= 60);
}

/// CPU time of a process, in hundredths of a second: user and system time are the 12th and 13th word after the name (proc(5)).
fn cpu_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let words = stat.rsplit(')').next().unwrap().split_whitespace();
    words
        .skip(11)
        .take(2)
        .map(|word| word.parse::<u64>().unwrap())
        .sum()
}

/// A directory that every user may look into.
fn directory_for_all() -> tempfile::TempDir {
    let dir = tempfile::Builder::new()
        .prefix("mofka-ring-")
        .tempdir_in("/tmp")
        .unwrap();
    let open = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o755);
    std::fs::set_permissions(dir.path(), open).unwrap();
    dir
}

#[test]
fn only_users_and_groups_that_are_listed_may_use_the_socket() {
    const STRANGER: u32 = 65_533;
    if !rustix::process::geteuid().is_root() {
        println!("not root: no process of another user can be started");
        return;
    }
    let dir = directory_for_all();
    let ask = |name: &str, more: &str| {
        let socket = dir.path().join(name);
        let mut node = Node::prepare(&["-c", "config.json"]);
        let config = format!(
            "{{\"listen\": [\"unix://{}\"], \"shards\": 1{more}}}",
            socket.display()
        );
        std::fs::write(node.dir().join("config.json"), config).unwrap();
        node.start_again();
        let outcome = Process::ask_as(STRANGER, dir.path(), &format!("unix://{}", socket.display()));
        (outcome, rings(&node).opened_count)
    };
    let (outcome, opened) = ask("closed", "");
    assert!(outcome.contains("ermission denied"), "{outcome}");
    assert_eq!(opened, 0);
    let (outcome, opened) = ask("others", ", \"local_clients\": {\"uids\": [65532]}");
    assert!(
        outcome.contains("unauthorized") && outcome.contains("user 65533"),
        "{outcome}"
    );
    assert_eq!(opened, 0);
    for (name, more) in [
        ("user", ", \"local_clients\": {\"uids\": [65533]}"),
        ("group", ", \"local_clients\": {\"gids\": [65533]}"),
    ] {
        let (outcome, opened) = ask(name, more);
        assert!(outcome.contains("connected"), "{name}: {outcome}");
        assert_eq!(opened, 1, "{name}");
    }
}
