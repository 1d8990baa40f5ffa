//! What Prometheus itself says of our metrics, rules and dashboard.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mofka_client::{ConsumerOptions, Metadata, ProducerOptions, TopicOptions};
use mofka_tests::http::{get, host};
use serde_json::{Value, json};

use super::{PATIENCE, node};

fn documents() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/monitoring")
}

fn has(program: &str) -> bool {
    let has = Command::new(program)
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success());
    if !has {
        eprintln!("skipped: no {program} here (Debian: apt-get install prometheus)");
    }
    has
}

fn promtool(arguments: &[&str], input: &str) {
    let mut child = Command::new("promtool")
        .args(arguments)
        .current_dir(documents())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    assert!(
        output.status.success(),
        "promtool {arguments:?}: {}",
        String::from_utf8_lossy(&text)
    );
}

#[test]
fn promtool_finds_nothing_to_mend() {
    if !has("promtool") {
        return;
    }
    let (node, url) = node(&json!({}));
    let topic = node
        .driver()
        .create_topic(TopicOptions::new("t").partitions(2))
        .unwrap();
    let producer = topic.producer(ProducerOptions::default());
    producer
        .push(Metadata::from("{}".to_owned()), vec![1], None)
        .unwrap();
    producer.close().unwrap();
    promtool(&["check", "metrics"], &get(&url, "/metrics", &[]).body);
    promtool(&["check", "rules", "mofka-alerts.yml"], "");
    promtool(&["test", "rules", "mofka-alerts-test.yml"], "");
    promtool(&["check", "config", "--syntax-only", "prometheus.yml"], "");
}

/// Ends with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// The expressions of the dashboard, with its variables filled in.
fn dashboard_expressions() -> Vec<String> {
    let text = std::fs::read_to_string(documents().join("mofka-dashboard.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels
        .iter()
        .flat_map(|panel| panel["targets"].as_array().cloned().unwrap_or_default());
    let fill = |expr: &str| {
        expr.replace("$__rate_interval", "1m")
            .replace("$instance", ".*")
            .replace("$topic", ".*")
    };
    targets
        .map(|target| fill(target["expr"].as_str().unwrap()))
        .collect()
}

fn query(prometheus: &str, expression: &str) -> Value {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    let expression: String = expression.bytes().map(encode).collect();
    let answer = get(
        prometheus,
        &format!("/api/v1/query?query={expression}"),
        &[("Connection", "close")],
    );
    serde_json::from_str(&answer.body).unwrap_or_else(|error| panic!("{error}: {answer:?}"))
}

#[test]
fn a_real_prometheus_scrapes_a_node_and_the_dashboard_asks_for_what_is_there() {
    let expressions = dashboard_expressions();
    assert!(expressions.len() >= 15, "{expressions:?}");
    let (node, url) = node(&json!({}));
    let topic = node
        .driver()
        .create_topic(TopicOptions::new("t").partitions(2))
        .unwrap();
    let producer = topic.producer(ProducerOptions::default());
    for n in 0..50 {
        producer
            .push(Metadata::from(format!("{{\"n\":{n}}}")), vec![1; 10], None)
            .unwrap();
    }
    producer.close().unwrap();
    let consumer = topic.consumer("reader", ConsumerOptions::default()).unwrap();
    consumer
        .pull()
        .wait_timeout(PATIENCE)
        .unwrap()
        .unwrap()
        .unwrap()
        .acknowledge()
        .wait()
        .unwrap();
    // Every name in dashboard and rules is one that the node has.
    let text = get(&url, "/metrics", &[]).body;
    let known: BTreeSet<&str> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split(['{', ' ']).next().unwrap())
        .collect();
    let rules = std::fs::read_to_string(documents().join("mofka-alerts.yml")).unwrap();
    let asked = expressions.join("\n") + &rules;
    let names: BTreeSet<&str> = asked
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| word.starts_with("mofka_") || word.starts_with("process_"))
        .collect();
    assert!(names.len() > 15);
    let unknown: Vec<_> = names.iter().filter(|name| !known.contains(**name)).collect();
    assert!(unknown.is_empty(), "{unknown:?} are not among the metrics");

    if !has("prometheus") {
        return;
    }
    let config = json!({
        "global": {"scrape_interval": "1s"},
        "rule_files": [documents().join("mofka-alerts.yml")],
        "scrape_configs": [{"job_name": "mofka", "static_configs": [{"targets": [host(&url)]}]}],
    });
    // JSON is YAML.
    std::fs::write(node.dir().join("prometheus.yml"), config.to_string()).unwrap();
    // A port that is free now; it is not free for long, so that another one is tried.
    let started = Instant::now();
    let (_server, prometheus) = loop {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let child = Command::new("prometheus")
            .arg("--config.file=prometheus.yml")
            .arg("--storage.tsdb.path=prometheus-data")
            .arg(format!("--web.listen-address={address}"))
            .current_dir(node.dir())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(node.dir().join("prometheus.log")).unwrap())
            .spawn()
            .unwrap();
        let mut server = Server(child);
        let ended = loop {
            if server.0.try_wait().unwrap().is_some() {
                break true;
            }
            let is_open = std::net::TcpStream::connect(&address).is_ok();
            if is_open
                && get(
                    &format!("http://{address}"),
                    "/-/ready",
                    &[("Connection", "close")],
                )
                .status
                    == 200
            {
                break false;
            }
            assert!(started.elapsed() < PATIENCE, "prometheus does not start");
            std::thread::sleep(Duration::from_millis(50));
        };
        if !ended {
            break (server, format!("http://{address}"));
        }
    };
    let result = |expression: &str| {
        let answer = query(&prometheus, expression);
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
        answer["data"]["result"].as_array().cloned().unwrap_or_default()
    };
    let deadline = Instant::now() + PATIENCE;
    let value = |expression: &str| {
        result(expression)
            .first()
            .map(|sample| sample["value"][1].clone())
    };
    while value("sum(mofka_accepted_events_total{topic=\"t\"})") != Some(json!("50")) {
        let log = std::fs::read_to_string(node.dir().join("prometheus.log")).unwrap();
        assert!(
            Instant::now() < deadline,
            "not scraped: {}\n{log}",
            query(&prometheus, "up")
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(value("up{job=\"mofka\"}"), Some(json!("1")));
    assert_eq!(
        value("sum(mofka_commit_seconds_count) > bool 0"),
        Some(json!("1"))
    );
    for expression in &expressions {
        result(expression);
    }
}
