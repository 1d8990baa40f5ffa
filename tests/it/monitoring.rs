//! Metrics and the status page: what they tell is what was done, and whoever asks harms nothing.

mod hostile;
mod page;
mod prometheus;

use std::time::{Duration, Instant};

use mofka_client::{ConsumerOptions, DataSelector, Metadata, ProducerOptions, TopicOptions};
use mofka_net::Opcode;
use mofka_tests::Node;
use mofka_tests::http::{Samples, get};
use mofka_tests::raw::RawClient;
use serde_json::{Value, json};

/// Longer than anything takes on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A node of two shards with metrics, and where these are.
pub(crate) fn node(more: &Value) -> (Node, String) {
    let mut node = Node::prepare(&["-c", "config.json"]);
    let mut config = json!({"shards": 2, "monitoring": {"listen": "127.0.0.1:0"}});
    for (key, value) in more.as_object().unwrap() {
        config[key] = value.clone();
    }
    std::fs::write(node.dir().join("config.json"), config.to_string()).unwrap();
    node.start_again();
    let url = url(&node);
    (node, url)
}

/// Where its metrics are.
pub(crate) fn url(node: &Node) -> String {
    node.driver().node_status(0).unwrap().monitoring.unwrap()
}

fn scrape(url: &str) -> Samples {
    let answer = get(url, "/metrics", &[]);
    assert_eq!(answer.status, 200, "{}", answer.body);
    Samples::read(&answer.body)
}

/// Scrapes until it is so: what is told may be a moment old.
fn scrape_until(url: &str, what: &str, is_so: impl Fn(&Samples) -> bool) -> Samples {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let samples = scrape(url);
        if is_so(&samples) {
            return samples;
        }
        if Instant::now() >= deadline {
            panic!("{what}:\n{}", get(url, "/metrics", &[]).body);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn metrics_tell_exactly_what_was_done() {
    const EVENTS: u64 = 900;
    let (node, url) = node(&json!({}));
    let driver = node.driver();
    let topic = driver
        .create_topic(TopicOptions::new("told").partitions(3))
        .unwrap();
    let data_bytes = |n: u64| usize::try_from(n % 700).unwrap();
    let producer = topic.producer(ProducerOptions::default());
    let mut sent_data_bytes = 0;
    for n in 0..EVENTS {
        let metadata = Metadata::from(format!("{{\"n\":{n}}}"));
        sent_data_bytes += data_bytes(n) as u64;
        producer.push(metadata, vec![7; data_bytes(n)], None).unwrap();
    }
    assert_eq!(producer.close().unwrap().acknowledged, EVENTS);
    let options = ConsumerOptions {
        data_selector: DataSelector::all(),
        ..ConsumerOptions::default()
    };
    let consumer = topic.consumer("reader", options).unwrap();
    for n in 0..EVENTS {
        let event = consumer.pull().wait_timeout(PATIENCE).unwrap().unwrap().unwrap();
        if n == 299 || n == 599 {
            event.acknowledge().wait().unwrap();
        }
    }
    // Again what is there, and what is not.
    let (mut raw, _) = RawClient::hello(&node.group_file());
    raw.create_topic(&json!({"name": "raw", "num_partitions": 1}))
        .unwrap();
    let described: Value =
        serde_json::from_slice(&raw.json(Opcode::TopicDescribe, &json!({"name": "raw"})).unwrap()).unwrap();
    let partition = described["partitions"][0]["id"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    let (mut owner, _) = RawClient::hello_at(described["partitions"][0]["addresses"][0].as_str().unwrap());
    for duplicate in [false, true, true] {
        let answer = owner
            .produce_now(partition, &[("{}", b"12345")], Some((9, 0, 0)))
            .unwrap();
        assert_eq!(answer.duplicate, duplicate);
    }
    let refused = owner
        .produce_now(partition, &[("{}", b"")], Some((9, 0, 7)))
        .unwrap_err();
    assert_eq!(refused.code.name(), "sequence_gap");
    for _ in 0..4 {
        raw.json(Opcode::TopicDescribe, &json!({"name": "nothing"}))
            .unwrap_err();
    }

    let lags = driver.list_consumers("told").unwrap();
    assert!(
        lags.iter().map(|info| info.lag).sum::<u64>() > 0 && lags.len() == 3,
        "{lags:?}"
    );
    let told = [("topic", "told")];
    let lag = |samples: &Samples, index: u32| {
        let index = index.to_string();
        let labels = [
            ("topic", "told"),
            ("consumer", "reader"),
            ("partition", index.as_str()),
        ];
        samples.sum("mofka_consumer_lag_events", &labels)
    };
    let samples = scrape_until(&url, "the last request is told", |samples| {
        samples.sum("mofka_errors_total", &[("code", "unknown_topic")]) == Some(4.0)
            && samples.sum("mofka_refused_batches_total", &[("topic", "raw")]) == Some(1.0)
    });
    let whole = |name: &str, labels: &[(&str, &str)]| {
        let sum = samples
            .sum(name, labels)
            .unwrap_or_else(|| panic!("no {name} {labels:?}"));
        assert_eq!(sum.fract(), 0.0, "{name}");
        sum as u64
    };
    assert_eq!(whole("mofka_accepted_events_total", &told), EVENTS);
    assert_eq!(whole("mofka_accepted_data_bytes_total", &told), sent_data_bytes);
    assert_eq!(whole("mofka_stored_events", &told), EVENTS);
    let batches = whole("mofka_accepted_batches_total", &told);
    assert!((3..=EVENTS).contains(&batches), "{batches}");
    assert_eq!(whole("mofka_produce_seconds_count", &told), batches);
    let commits = whole("mofka_commits_total", &told);
    assert_eq!(whole("mofka_commit_seconds_count", &told), commits);
    assert!(commits > 0 && whole("mofka_committed_bytes_total", &told) >= sent_data_bytes);
    assert_eq!(whole("mofka_fed_events_total", &told), EVENTS);
    assert!(whole("mofka_feeds_total", &told) > 0 && whole("mofka_fed_bytes_total", &told) > 0);
    assert_eq!(whole("mofka_acknowledgements_total", &told), 2);
    assert_eq!(whole("mofka_subscriptions", &told), 3);
    for info in &lags {
        assert_eq!(lag(&samples, info.index), Some(info.lag as f64), "{info:?}");
    }
    for partition in 0..3_usize {
        let status = topic.partition_status(partition).unwrap();
        let index = partition.to_string();
        let labels = [("topic", "told"), ("partition", index.as_str())];
        assert_eq!(whole("mofka_accepted_events_total", &labels), status.appended_end);
        assert_eq!(whole("mofka_stored_bytes", &labels), status.bytes);
        assert_eq!(whole("mofka_unsynced_events", &labels), 0);
        assert_eq!(whole("mofka_unwell_partitions", &labels), 0);
    }
    let raw_topic = [("topic", "raw")];
    assert_eq!(whole("mofka_accepted_batches_total", &raw_topic), 1);
    assert_eq!(whole("mofka_accepted_data_bytes_total", &raw_topic), 5);
    assert_eq!(whole("mofka_duplicate_batches_total", &raw_topic), 2);
    assert_eq!(whole("mofka_refused_batches_total", &raw_topic), 1);
    assert_eq!(whole("mofka_errors_total", &[("code", "sequence_gap")]), 1);
    assert_eq!(whole("mofka_requests_total", &[("request", "acknowledge")]), 2);
    assert_eq!(whole("mofka_requests_total", &[("request", "topic_create")]), 2);
    assert_eq!(whole("mofka_partitions", &[("state", "open")]), 4);
    assert_eq!(whole("mofka_topics", &[]), 2);
    assert_eq!(whole("mofka_summed", &[]), 0);
    let status = driver.node_status(0).unwrap();
    let rings: u64 = status.shards.iter().map(|shard| shard.rings.attached_count).sum();
    assert_eq!(whole("mofka_rings", &[]), rings);
    assert!(rings > 0 && whole("mofka_connections", &[]) >= 2);
    assert!(whole("mofka_disk_available_bytes", &[]) > 0 && whole("process_resident_memory_bytes", &[]) > 0);

    // The document tells the same.
    let document: Value = serde_json::from_str(&get(&url, "/status.json", &[]).body).unwrap();
    assert_eq!(document["totals"]["accepted_events"], EVENTS + 1);
    // The same comes by the protocol, for those who do not know where metrics are.
    let report = serde_json::to_value(driver.node_report(0).unwrap()).unwrap();
    for key in [
        "node",
        "totals",
        "topics",
        "partitions",
        "problems",
        "bucket_bounds_us",
    ] {
        assert_eq!(report[key], document[key], "{key}");
    }
    let keys = |document: &Value| document.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&report), keys(&document));
    // The machine's disk may be low.
    let problems = document["problems"].as_array().unwrap().clone();
    assert!(
        problems.iter().all(|problem| problem["kind"] == "disk_low"),
        "{problems:?}"
    );
    let line = document["consumers"]
        .as_array()
        .unwrap()
        .iter()
        .find(|line| line["consumer"] == "reader")
        .unwrap();
    assert_eq!(line["lag"], lags.iter().map(|info| info.lag).sum::<u64>());

    // What is deleted has no series any more, and stays in the totals.
    drop(consumer);
    driver.delete_topic("told").unwrap();
    scrape_until(&url, "the topic is gone", |samples| {
        samples.sum("mofka_stored_events", &told).is_none()
    });
    let document: Value = serde_json::from_str(&get(&url, "/status.json", &[]).body).unwrap();
    assert_eq!(document["totals"]["accepted_events"], EVENTS + 1);
}

#[test]
fn both_forms_come_as_asked_and_headers_are_strict() {
    let (_node, url) = node(&json!({}));
    let open = get(
        &url,
        "/metrics",
        &[("Accept", "application/openmetrics-text; version=1.0.0")],
    );
    assert_eq!(
        open.headers["content-type"],
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    );
    assert!(open.body.ends_with("# EOF\n") && open.body.contains("# UNIT mofka_commit_seconds seconds\n"));
    let plain = get(&url, "/metrics", &[]);
    assert_eq!(
        plain.headers["content-type"],
        "text/plain; version=0.0.4; charset=utf-8"
    );
    assert!(
        !plain.body.contains("# EOF")
            && plain
                .body
                .contains("# TYPE mofka_accepted_events_total counter\n")
    );
    for (path, content_type) in [
        ("/", "text/html; charset=utf-8"),
        ("/status.json", "application/json"),
        ("/healthz", "text/plain; charset=utf-8"),
        ("/readyz", "text/plain; charset=utf-8"),
    ] {
        let answer = get(&url, path, &[]);
        assert_eq!(
            (answer.status, answer.headers["content-type"].as_str()),
            (200, content_type),
            "{path}"
        );
        assert_eq!(answer.headers["x-content-type-options"], "nosniff");
        assert_eq!(answer.headers["cache-control"], "no-store");
        let policy = &answer.headers["content-security-policy"];
        assert!(
            policy.starts_with("default-src 'none'") && !policy.contains("unsafe"),
            "{path}: {policy}"
        );
    }
    assert_eq!(get(&url, "/etc/passwd", &[]).status, 404);
    let misled = get(&url, "/metrics", &[("Host", "evil.example:80")]);
    assert_eq!(misled.status, 421);
    assert!(
        misled.body.contains("monitoring.hosts") && !misled.body.contains("mofka_"),
        "{}",
        misled.body
    );
}

#[test]
fn many_partitions_are_summed() {
    let (node, url) = node(&json!({"monitoring": {"listen": "127.0.0.1:0", "partition_series_max": 20}}));
    let driver = node.driver();
    for name in ["a", "b"] {
        driver
            .create_topic(TopicOptions::new(name).partitions(15))
            .unwrap();
    }
    let topic = driver.open_topic("a").unwrap();
    let producer = topic.producer(ProducerOptions::default());
    for n in 0..300 {
        producer
            .push(Metadata::from(format!("{{\"n\":{n}}}")), Vec::<u8>::new(), None)
            .unwrap();
    }
    producer.close().unwrap();
    let samples = scrape_until(&url, "partitions are summed", |samples| {
        samples.sum("mofka_summed", &[("what", "partitions")]) == Some(1.0)
            && samples.sum("mofka_accepted_events_total", &[("topic", "a")]) == Some(300.0)
    });
    assert_eq!(
        samples.sum(
            "mofka_accepted_events_total",
            &[("partition", "*"), ("topic", "a")]
        ),
        Some(300.0)
    );
    assert_eq!(
        samples.sum("mofka_accepted_events_total", &[("partition", "3")]),
        None
    );
    assert_eq!(samples.sum("mofka_partitions", &[("state", "open")]), Some(30.0));
    assert_eq!(samples.sum("mofka_summed", &[("what", "topics")]), Some(0.0));
}

#[test]
fn an_address_that_is_taken_is_an_error_that_says_so() {
    let (_node, url) = node(&json!({}));
    let node = Node::prepare(&[]);
    let output = std::process::Command::new(mofka_tests::program("mofkad"))
        .args(["--monitoring", mofka_tests::http::host(&url)])
        .current_dir(node.dir())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        !output.status.success() && text.contains("for metrics and the status page"),
        "{text}"
    );
    assert!(!node.group_file().exists());
}
