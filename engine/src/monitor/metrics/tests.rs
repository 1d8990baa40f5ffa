//! What is written is read back, and held against the conventions.

use std::collections::{BTreeMap, BTreeSet};

use super::super::detail::tests::node;
use super::super::exposition::Kind;
use super::*;

/// A sample: its name, its labels, its value.
type Sample = (String, BTreeMap<String, String>, f64);

/// Reads the labels and the value of a line, after the name.
fn rest(text: &str) -> (BTreeMap<String, String>, f64) {
    let mut labels = BTreeMap::new();
    let mut chars = text.chars().peekable();
    if chars.next_if_eq(&'{').is_some() {
        loop {
            let name: String = std::iter::from_fn(|| chars.next_if(|c| *c != '=')).collect();
            assert_eq!((chars.next(), chars.next()), (Some('='), Some('"')));
            let mut value = String::new();
            loop {
                match chars.next().unwrap() {
                    '"' => break,
                    '\\' => value.push(match chars.next().unwrap() {
                        'n' => '\n',
                        other => other,
                    }),
                    other => value.push(other),
                }
            }
            assert!(labels.insert(name.clone(), value).is_none(), "label {name} twice");
            match chars.next() {
                Some(',') => {}
                Some('}') => break,
                other => panic!("{other:?} after a label in {text}"),
            }
        }
    }
    assert_eq!(chars.next(), Some(' '));
    (labels, chars.collect::<String>().parse().unwrap())
}

/// Reads an exposition; the comment lines stay as they are.
fn read(text: &str) -> (Vec<String>, Vec<Sample>) {
    let (mut comments, mut samples) = (Vec::new(), Vec::new());
    for line in text.lines() {
        if line.starts_with('#') {
            comments.push(line.to_owned());
            continue;
        }
        let end = line.find(['{', ' ']).unwrap();
        let (labels, value) = rest(&line[end..]);
        samples.push((line[..end].to_owned(), labels, value));
    }
    (comments, samples)
}

fn text(snapshot: &NodeSnapshot, format: Format) -> String {
    let around = Surroundings {
        disk: Some(Disk::default()),
        ..Surroundings::default()
    };
    render(snapshot, &around, &Monitoring::default(), format)
}

#[test]
fn names_and_units_follow_the_conventions() {
    let mut names = BTreeSet::new();
    for family in families() {
        let name = family.name;
        assert!(names.insert(name), "{name} twice");
        assert!(
            name.starts_with("mofka_") || name.starts_with("process_"),
            "{name}"
        );
        assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{name}");
        for suffix in ["_total", "_count", "_sum", "_bucket", "_info", "_created"] {
            assert!(!name.ends_with(suffix), "{name} ends with a word of the form");
        }
        let unit = ["seconds", "bytes"]
            .into_iter()
            .find(|unit| name.ends_with(&format!("_{unit}")));
        assert_eq!(unit, family.unit, "{name}: the unit comes last in its name");
        for word in ["_ms", "_us", "milliseconds", "kib", "percent"] {
            assert!(!name.contains(word), "{name}: base units only");
        }
        assert!(
            family.help.ends_with('.') && !family.help.contains(['\n', '"', '\\']),
            "{name}: {}",
            family.help
        );
        assert_eq!(
            family.kind == Kind::Histogram,
            DURATIONS.iter().any(|(known, _)| known.name == name)
        );
        for label in family.labels {
            assert!(
                *label != "le" && label.chars().all(|c| c.is_ascii_lowercase()),
                "{name}: label {label}"
            );
        }
    }
}

#[test]
fn both_forms_tell_the_same_and_every_family_is_there_once() {
    let mut snapshot = node(3, 4);
    snapshot.partitions[0].topic = "with \"quotes\\ and\nlines".to_owned();
    snapshot.partitions[0].consumers[0].consumer = "Zoë 消费者".to_owned();
    snapshot.shards[0].counts.errors = vec![(mofka_net::ErrorCode::NoSpace, 5)];
    snapshot.shards[0].counts.requests = vec![(mofka_net::Opcode::TopicCreate, 6)];
    let (plain_comments, plain) = read(&text(&snapshot, Format::Prometheus));
    let open_text = text(&snapshot, Format::OpenMetrics);
    assert!(open_text.ends_with("\n# EOF\n"));
    let (open_comments, open) = read(&open_text);
    assert_eq!(plain, open);
    let heads = |comments: &[String], word: &str| -> Vec<String> {
        let lines = comments
            .iter()
            .filter_map(|line| line.strip_prefix(&format!("# {word} ")));
        lines
            .map(|line| line.split(' ').next().unwrap().to_owned())
            .collect()
    };
    let all = |name: fn(&Family) -> String| families().iter().map(name).collect::<BTreeSet<_>>();
    let sorted = |names: Vec<String>| {
        let count = names.len();
        let set: BTreeSet<String> = names.into_iter().collect();
        assert_eq!(set.len(), count, "a family is begun twice");
        set
    };
    assert_eq!(sorted(heads(&plain_comments, "TYPE")), all(Family::sample_name));
    assert_eq!(
        sorted(heads(&open_comments, "TYPE")),
        all(|family| family.name.to_owned())
    );
    assert_eq!(
        heads(&open_comments, "UNIT").len(),
        families().iter().filter(|f| f.unit.is_some()).count()
    );
    assert!(heads(&plain_comments, "UNIT").is_empty());
    let mut seen = BTreeSet::new();
    for (name, labels, _) in &open {
        assert!(seen.insert((name, labels)), "{name} {labels:?} twice");
    }
    let value = |name: &str, wanted: &[(&str, &str)]| {
        let fits = |labels: &BTreeMap<String, String>| {
            wanted.iter().all(|(k, v)| labels.get(*k).is_some_and(|l| l == v))
        };
        let found: Vec<_> = open
            .iter()
            .filter(|(n, labels, _)| n == name && fits(labels))
            .collect();
        assert_eq!(found.len(), 1, "{name} {wanted:?}");
        found[0].2
    };
    assert_eq!(
        value(
            "mofka_accepted_events_total",
            &[("topic", "with \"quotes\\ and\nlines"), ("partition", "0")]
        ),
        10.0
    );
    assert_eq!(
        value("mofka_consumer_lag_events", &[("consumer", "Zoë 消费者")]),
        5.0
    );
    assert_eq!(
        value("mofka_errors_total", &[("shard", "0"), ("code", "no_space")]),
        5.0
    );
    assert_eq!(value("mofka_requests_total", &[("request", "topic_create")]), 6.0);
    assert_eq!(
        value("mofka_partitions", &[("shard", "1"), ("state", "open")]),
        6.0
    );
    assert_eq!(
        value("mofka_produce_seconds_count", &[("shard", "1"), ("topic", "t1")]),
        4.0
    );
}

#[test]
fn histograms_grow_from_bucket_to_bucket_and_end_with_their_count() {
    let (_, samples) = read(&text(&node(1, 1), Format::OpenMetrics));
    for (family, _) in &DURATIONS {
        let buckets: Vec<&Sample> = samples
            .iter()
            .filter(|(n, ..)| *n == format!("{}_bucket", family.name))
            .collect();
        assert_eq!(buckets.len(), crate::measures::BUCKETS);
        let bounds = buckets
            .iter()
            .map(|(_, labels, _)| labels["le"].parse::<f64>().unwrap());
        assert!(bounds.is_sorted_by(|a, b| a < b));
        assert!(buckets.iter().is_sorted_by_key(|(.., count)| *count));
        let count = samples
            .iter()
            .find(|(n, ..)| *n == format!("{}_count", family.name))
            .unwrap();
        assert_eq!(buckets.last().unwrap().2, count.2);
    }
}

#[test]
fn ten_thousand_partitions_make_a_bounded_text() {
    let small = text(&node(5, 2000), Format::OpenMetrics);
    assert!(small.len() < 200 << 10, "{} bytes", small.len());
    assert!(small.contains("mofka_summed{what=\"partitions\"} 1\n"));
    let most = text(&node(1000, 1), Format::OpenMetrics);
    assert!(most.len() < 8 << 20, "{} bytes", most.len());
    assert!(most.contains("mofka_summed{what=\"partitions\"} 0\n"));
}

#[test]
fn the_document_lists_every_metric_as_it_is() {
    let document = include_str!("../../../../docs/OPERATIONS.md");
    let mut rows = BTreeMap::new();
    for line in document
        .lines()
        .filter(|line| line.starts_with("| `mofka_") || line.starts_with("| `process_"))
    {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        assert_eq!(cells.len(), 4, "{line}");
        rows.insert(cells[0].trim_matches('`').to_owned(), cells);
    }
    let mut wanted = String::new();
    for family in families() {
        let name = family.sample_name();
        let labels = family.labels.join(", ");
        wanted.push_str(&format!(
            "| `{name}` | {} | {labels} | {} |\n",
            family.kind.word(),
            family.help
        ));
        if let Some(cells) = rows.remove(&name) {
            assert_eq!(
                (cells[1], cells[2], cells[3]),
                (family.kind.word(), labels.as_str(), family.help),
                "{name}"
            );
        } else {
            rows.insert(format!("missing: {name}"), Vec::new());
        }
    }
    assert!(rows.is_empty(), "{:?}; the table is to be\n{wanted}", rows.keys());
}
