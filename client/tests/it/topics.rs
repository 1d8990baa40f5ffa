//! Topics, administration, errors on the way in.

use std::net::TcpStream;
use std::os::unix::net::UnixListener;
use std::sync::mpsc::channel;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use mofka_client::{
    Driver, DriverError, DriverOptions, ErrorCode, PartitionOptions, ProducerOptions, Retention, Start,
    ThreadPool, TopicOptions,
};
use serde_json::json;

use crate::node::{Node, eventually};

#[test]
fn topics_are_created_opened_listed_and_deleted() {
    let node = Node::start();
    let driver = node.driver();
    assert!(!driver.topic_exists("t").unwrap());
    assert_eq!(
        driver.open_topic("t").unwrap_err().code(),
        Some(ErrorCode::UnknownTopic)
    );
    let created = driver.create_topic(TopicOptions::new("t").partitions(2)).unwrap();
    assert_eq!((created.name().as_str(), created.partitions().len()), ("t", 2));
    assert_eq!(
        driver.create_topic(TopicOptions::new("t")).unwrap_err().code(),
        Some(ErrorCode::TopicExists)
    );
    assert!(driver.topic_exists("t").unwrap());
    let listed = driver.list_topics().unwrap();
    assert_eq!((listed[0].name.as_str(), listed[0].num_partitions), ("t", 2));
    assert_eq!(listed[0].validator, json!({"type": "default"}));
    driver.add_partition("t", PartitionOptions::default()).unwrap();
    let opened = driver.open_topic("t").unwrap();
    assert_eq!((opened.partitions().len(), created.partitions().len()), (3, 2));
    created.refresh().unwrap();
    assert_eq!(created.partitions().len(), 3);
    created
        .producer(ProducerOptions::default())
        .push(json!({}), "", Some(2))
        .unwrap()
        .wait()
        .unwrap();
    created.sync().unwrap();
    let retention = Retention {
        bytes_max: Some(5),
        ..Retention::default()
    };
    created.set_retention(retention.clone()).unwrap();
    assert_eq!(created.info().retention, retention);
    opened.refresh().unwrap();
    assert_eq!(opened.info().retention, retention);
    assert_eq!(created.seek("c", 0, Start::First).unwrap(), 7);
    assert!(matches!(
        created.seek("c", 9, Start::First),
        Err(DriverError::Invalid(_))
    ));
    assert!(driver.list_consumers("t").unwrap().is_empty());
    driver.delete_topic("t").unwrap();
    assert!(driver.list_topics().unwrap().is_empty());
}

#[test]
fn nodes_tell_their_state() {
    let node = Node::start();
    let driver = node.driver();
    assert_eq!(driver.status().unwrap().len(), 1);
    assert_eq!(driver.node_status(0).unwrap().version, "test");
    assert!(matches!(
        driver.node_status(1),
        Err(DriverError::InvalidRank { rank: 1, members: 1 })
    ));
    driver.shutdown_node(0).unwrap();
}

#[test]
fn the_group_file_is_looked_at_first() {
    assert!(matches!(
        Driver::connect(DriverOptions::default()),
        Err(DriverError::NoGroup)
    ));
    let missing = Driver::connect(DriverOptions::group_file("/nonexistent/mofka.json")).unwrap_err();
    assert!(
        missing
            .to_string()
            .starts_with("could not find or open group file"),
        "{missing}"
    );
    let path = std::env::temp_dir().join(format!("mofka-client-it-{}.txt", std::process::id()));
    for (text, message) in [
        ("no json", "correctly formatted Flock group file"),
        ("{\"members\":[]}", "no member found"),
    ] {
        std::fs::write(&path, text).unwrap();
        let error = Driver::connect(DriverOptions::group_file(&path)).unwrap_err();
        assert!(error.to_string().contains(message), "{error}");
    }
    std::fs::remove_file(&path).unwrap();
    let options = DriverOptions::addresses(["http://x"]);
    assert!(matches!(Driver::connect(options), Err(DriverError::Invalid(_))));
}

#[test]
fn a_node_that_is_not_there_is_told_at_once() {
    let begun = Instant::now();
    let error = Driver::connect(DriverOptions::addresses([
        "tcp://127.0.0.1:1",
        "unix:///nonexistent",
    ]))
    .unwrap_err();
    assert!(matches!(error, DriverError::Unreachable { .. }));
    assert!(
        error.to_string().contains("127.0.0.1:1") && error.to_string().contains("/nonexistent"),
        "{error}"
    );
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[test]
fn addresses_work_without_a_group_file() {
    let node = Node::start();
    let address = node.state().address().to_owned();
    let driver = Driver::connect(DriverOptions::addresses([address])).unwrap();
    driver.create_topic(TopicOptions::new("t")).unwrap();
    assert!(driver.topic_exists("t").unwrap());
}

#[test]
fn a_unix_socket_is_as_good_as_a_port() {
    let node = Node::start();
    let target = node.state().address().trim_start_matches("tcp://").to_owned();
    let path = std::env::temp_dir().join(format!("mofka-client-it-{}.sock", std::process::id()));
    let listener = UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        for ours in listener.incoming() {
            let (ours, theirs) = (ours.unwrap(), TcpStream::connect(&target).unwrap());
            let (mut from, mut to) = (ours.try_clone().unwrap(), theirs.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut from, &mut to));
            let (mut from, mut to) = (theirs, ours);
            std::thread::spawn(move || std::io::copy(&mut from, &mut to));
        }
    });
    // The address before it is tried first.
    let addresses = [
        "unix:///nonexistent".to_owned(),
        format!("unix://{}", path.display()),
    ];
    let driver = Driver::connect(DriverOptions::addresses(addresses)).unwrap();
    std::fs::remove_file(&path).unwrap();
    let topic = driver.create_topic(TopicOptions::new("t")).unwrap();
    let producer = topic.producer(ProducerOptions::default());
    producer
        .push(json!({}), vec![1; 1 << 20], None)
        .unwrap()
        .wait()
        .unwrap();
    assert_eq!(node.stored(&topic, 0), ["{}"]);
}

#[test]
fn a_driver_has_a_thread_pool_and_makes_others() {
    let node = Node::start();
    let driver = node.driver();
    assert_eq!(driver.make_thread_pool(3).unwrap().thread_count(), 3);
    assert!(driver.make_thread_pool(1 << 20).is_err());
    let pool = driver.default_thread_pool().unwrap();
    let threads = pool.thread_count();
    assert!(threads >= 1);
    // All of its threads are held by tasks, and another one is seen to wait by whoever asks for the pool again.
    let barrier = Arc::new(Barrier::new(threads + 1));
    for _ in 0..threads {
        let barrier = Arc::clone(&barrier);
        let task = move || {
            barrier.wait();
        };
        pool.push_work(task, ThreadPool::DEFAULT_PRIORITY).unwrap();
    }
    let (send, received) = channel();
    pool.push_work(move || send.send(()).unwrap(), 0).unwrap();
    let same = driver.default_thread_pool().unwrap();
    eventually("all threads are held", || same.size() == 1);
    // It lives for as long as somebody has it.
    drop((driver, pool));
    barrier.wait();
    received.recv().unwrap();
}

#[test]
fn whether_a_topic_exists_is_an_error_when_no_node_can_say() {
    let node = Node::start();
    let name = node.topic(1).name();
    let mut options = node.options();
    options.reconnect_timeout = Duration::from_millis(100);
    let driver = Driver::connect(options).unwrap();
    assert!(driver.topic_exists(&name).unwrap());
    node.go_away();
    let error = driver.topic_exists(&name).unwrap_err();
    assert!(matches!(error, DriverError::Unreachable { .. }), "{error}");
}
