//! Settings that change while the node runs: every shard goes by the new ones when the answer is there.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use mofka_client::{Driver, DriverError, Metadata, PartitionKind, ProducerOptions, Retention, TopicOptions};
use mofka_net::control::ConfigGetResponse;
use mofka_tests::http::get;
use mofka_tests::raw::RawClient;
use mofka_tests::{Node, http};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);

fn node(config: &Value) -> Node {
    let mut node = Node::prepare(&["-c", "config.json"]);
    std::fs::write(node.dir().join("config.json"), config.to_string()).unwrap();
    node.start_again();
    node
}

fn set(driver: &Driver, key: &str, value: Value) {
    let changed = driver.change_config(0, BTreeMap::from([(key.to_owned(), value.clone())]));
    let changed = changed.unwrap();
    assert_eq!((changed.len(), &changed[0].is), (1, &value), "{changed:?}");
}

fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_smaller_bound_of_connections_refuses_the_next_one_and_keeps_those_that_are_there() {
    let node = node(&json!({"listen": ["tcp://127.0.0.1:0"], "shards": 2}));
    let (mut admin, hello) = RawClient::hello(&node.group_file());
    let shards: Vec<&str> = hello.endpoints.iter().map(|of| of[0].as_str()).collect();
    let (mut first, _) = RawClient::hello_at(shards[0]);
    let mut others = [RawClient::hello_at(shards[1]).0, RawClient::hello_at(shards[1]).0];
    let mut bound = |count: u32| {
        let request = json!({"set": {"limits.connections_max": count}});
        admin.json(mofka_net::Opcode::ConfigSet, &request).unwrap();
    };
    bound(2);
    for shard in &shards {
        let mut refused = RawClient::connect(shard);
        // The node may close before or after this arrives; an answer there is none.
        refused.send(&[0]).ok();
        assert!(refused.receive().is_err(), "{shard} takes one more");
    }
    for client in others.iter_mut().chain([&mut first]) {
        client.json(mofka_net::Opcode::Status, &json!({})).unwrap();
    }
    bound(3);
    for shard in &shards {
        RawClient::hello_at(shard);
    }
    let refusals = node.log().matches("refused a connection").count();
    assert_eq!(refusals, 2, "{}", node.log());
}

#[test]
fn connections_keep_the_bounds_that_they_were_told() {
    let node = node(&json!({"shards": 1}));
    let (mut old, hello) = RawClient::hello(&node.group_file());
    assert_eq!(hello.limits.frame_bytes_max, 256 << 20);
    let driver = node.driver();
    for (key, value) in [
        ("limits.frame_bytes_max", 1 << 20),
        ("limits.batch_events_max", 5),
        ("limits.subscriptions_max", 7),
    ] {
        set(&driver, key, json!(value));
    }
    let (mut new, hello) = RawClient::hello(&node.group_file());
    let limits = &hello.limits;
    assert_eq!(
        (
            limits.frame_bytes_max,
            limits.fetch_bytes_max,
            limits.batch_events_max,
            limits.subscriptions_max
        ),
        (1 << 20, 1 << 19, 5, 7)
    );
    let partition = old.create_partition();
    let events = [("{}", &b""[..]); 6];
    old.produce_now(partition, &events, None).unwrap();
    let refused = new.produce_now(partition, &events, None).unwrap_err();
    assert!(refused.message.contains("a batch of 6 events"), "{refused}");
    let large = vec![0; 2 << 20];
    old.produce_now(partition, &[("{}", &large)], None).unwrap();
    let refused = new.try_produce(partition, &[("{}", &large)], None).is_err() || new.receive().is_err() || {
        // The node says what is wrong with the frame before it ends the connection.
        new.receive().is_err()
    };
    assert!(refused, "a frame of 2 MiB is too large for it");
}

#[test]
fn budgets_of_memory_hold_at_once() {
    let node = node(&json!({"shards": 2}));
    let driver = node.driver();
    driver
        .create_topic(TopicOptions::new("log").partitions(2))
        .unwrap();
    let memory = driver
        .create_topic(TopicOptions::new("memory").partition_kind(PartitionKind::Memory))
        .unwrap();
    let log = driver.open_topic("log").unwrap();
    let push = |topic: &mofka_client::TopicHandle, bytes: usize| {
        let producer = topic.producer(ProducerOptions::default());
        for partition in 0..topic.partitions().len() {
            let pushed = producer.push(Metadata::from("{}"), vec![1; bytes], Some(partition));
            pushed.unwrap().wait()?;
        }
        Ok::<_, mofka_client::DeliveryError>(())
    };
    let recent = || {
        let status = driver.node_status(0).unwrap();
        let of_shards = status.shards.iter().map(|shard| shard.reads.recent_bytes);
        of_shards.collect::<Vec<_>>()
    };
    push(&log, 1 << 20).unwrap();
    eventually("recent batches are kept", || {
        recent().iter().all(|bytes| *bytes > 1 << 20)
    });
    set(&driver, "limits.shard_recent_bytes_max", json!(64 << 10));
    assert!(recent().iter().all(|bytes| *bytes <= 64 << 10), "{:?}", recent());
    push(&memory, 1 << 20).unwrap();
    set(&driver, "limits.memory_partition_bytes_max", json!(1 << 20));
    // Not the producer, which would wait for room.
    let mut raw = RawClient::hello_at(&memory.partitions()[0].addresses[0]).0;
    let mut one_more = || raw.produce_now(memory.partitions()[0].id, &[("{}", b"")], None);
    let full = one_more().unwrap_err().to_string();
    assert!(
        full.contains("is full") && full.contains("bound of 1048576"),
        "{full}"
    );
    set(&driver, "limits.memory_partition_bytes_max", json!(8 << 20));
    one_more().unwrap();
}

#[test]
fn topics_get_the_retention_of_the_node_and_looks_come_as_often_as_is_said_now() {
    let node = node(&json!({"shards": 1, "limits": {"retention_check_ms": 3_600_000}}));
    let driver = node.driver();
    let retention = Retention {
        age_max_ms: Some(1),
        ..Retention::default()
    };
    let before = driver
        .create_topic(TopicOptions::new("before").partitions(1))
        .unwrap();
    set(&driver, "default_retention", json!({"age_max_ms": 1}));
    let after = driver
        .create_topic(TopicOptions::new("after").partitions(1))
        .unwrap();
    let own = Retention {
        bytes_max: Some(1 << 30),
        ..Retention::default()
    };
    let own_topic = TopicOptions::new("own").partitions(1).retention(own.clone());
    let own_topic = driver.create_topic(own_topic).unwrap();
    assert_eq!(before.info().retention, Retention::default());
    assert_eq!(after.info().retention, retention);
    assert_eq!(own_topic.info().retention, own);
    let producer = after.producer(ProducerOptions::default());
    producer
        .push(Metadata::from("{}"), vec![1; 100], None)
        .unwrap()
        .wait()
        .unwrap();
    let trimmed = || {
        let status = driver.node_status(0).unwrap();
        let trim_end =
            |status: &mofka_client::PartitionStatus| (status.topic == "after").then_some(status.trim_end);
        status.partitions().find_map(trim_end).unwrap()
    };
    assert_eq!(trimmed(), 0, "the next look is in an hour");
    set(&driver, "limits.retention_check_ms", json!(20));
    eventually("the event is too old and goes", || trimmed() == 1);
}

#[test]
fn names_by_which_the_status_page_is_asked_change() {
    let node = node(&json!({"shards": 1, "monitoring": {"listen": "127.0.0.1:0"}}));
    let driver = node.driver();
    let url = driver.node_status(0).unwrap().monitoring.unwrap();
    let ask = || get(&url, "/healthz", &[("Host", "proxy.example")]).status;
    assert_eq!(ask(), 421);
    set(&driver, "monitoring.hosts", json!(["proxy.example"]));
    assert_eq!(ask(), 200);
    set(&driver, "monitoring.hosts", json!([]));
    assert_eq!(ask(), 421);
    driver.create_topic(TopicOptions::new("t").partitions(3)).unwrap();
    let series = || {
        let samples = http::Samples::read(&get(&url, "/metrics", &[]).body);
        samples.sum("mofka_stored_events", &[("partition", "2")])
    };
    eventually("each partition has its series", || series().is_some());
    set(&driver, "monitoring.partition_series_max", json!(2));
    eventually("they are summed", || series().is_none());
}

#[test]
fn what_cannot_change_is_refused_with_the_reason_and_values_are_checked_as_at_a_start() {
    let node = node(&json!({"shards": 1, "listen": ["na+sm"]}));
    let driver = node.driver();
    let ConfigGetResponse { settings, file } = driver.node_config(0).unwrap();
    let file = file.expect("it was started with a file");
    assert!(
        file.path.ends_with("config.json") && file.overridden.is_empty(),
        "{file:?}"
    );
    let change = |key: &str, value: Value| driver.change_config(0, BTreeMap::from([(key.to_owned(), value)]));
    assert!(settings.iter().filter(|setting| setting.live).count() > 20);
    for setting in &settings {
        let outcome = change(&setting.key, setting.value.clone());
        match outcome {
            Ok(changed) => assert!(setting.live && changed.is_empty(), "{setting:?}: {changed:?}"),
            Err(DriverError::Refused(error)) => {
                assert!(!setting.live, "{setting:?}: {error}");
                assert!(
                    error.message.contains(&setting.note) && error.message.contains("start the node again"),
                    "{error}"
                );
            }
            Err(error) => panic!("{setting:?}: {error}"),
        }
    }
    for (key, value, words) in [
        ("limits.connections_max", json!(0), "would let nothing through"),
        ("limits.frame_bytes_max", json!(1000), "need 131072 at least"),
        (
            "limits.rings_max",
            json!("many"),
            "\"limits.rings_max\": invalid type",
        ),
        (
            "local_clients.uids",
            json!([-1]),
            "\"local_clients.uids\": invalid value",
        ),
        (
            "default_retention",
            json!({"bytes_max": 0}),
            "would keep no event",
        ),
        ("monitoring.connections_max", json!(5000), "larger than 1024"),
        (
            "limits.conections_max",
            json!(5),
            "did you mean \"limits.connections_max\"?",
        ),
    ] {
        let error = change(key, value).unwrap_err().to_string();
        assert!(error.contains(words), "{key}: {error}");
    }
    let both = BTreeMap::from([
        ("limits.rings_max".to_owned(), json!(7)),
        ("shards".to_owned(), json!(2)),
    ]);
    driver.change_config(0, both).unwrap_err();
    assert_eq!(
        driver.node_config(0).unwrap().settings,
        settings,
        "nothing was changed"
    );
    assert!(!node.log().contains("setting changed"));
}
