//! Reports of a node that is made up, and what is made of two of them.

use mofka_net::control::ProcessReport;
use serde_json::json;

use super::*;

/// A node with these topics, after so many milliseconds of 1000 events a second into the first topic of each.
pub(crate) fn report(uptime_ms: u64, topics: u64) -> NodeReport {
    let events = uptime_ms;
    let durations = || Durations {
        buckets: vec![0, events * 9 / 10, events / 10, 0],
        sum_us: events * 50,
    };
    let totals = Totals {
        accepted_events: events,
        accepted_bytes: events * 100,
        accepted_batches: events / 10,
        fed_events: events / 2,
        sent_bytes: events * 50,
        produce: durations(),
        ..Totals::default()
    };
    let name = |n: u64| format!("topic-{n}");
    NodeReport {
        version: "1.2.3".to_owned(),
        node: "5b8f0d3e-0000-0000-0000-000000000000".to_owned(),
        rank: 0,
        pid: 7,
        uptime_ms,
        data_dir: "/data".to_owned(),
        direct_io: true,
        problems: Vec::new(),
        problems_left_out: 0,
        disk: Some(DiskReport {
            size_bytes: 100 << 30,
            available_bytes: 60 << 30,
            stored_bytes: 1 << 30,
        }),
        process: ProcessReport {
            cpu_us: uptime_ms * 1500,
            resident_bytes: 64 << 20,
            open_fds: 30,
            max_fds: 1024,
        },
        totals: totals.clone(),
        topics: (0..topics)
            .map(|n| TopicReport {
                topic: name(n),
                partitions: 1,
                unwell: 0,
                events,
                bytes: events * 100,
                lag: (n == 0).then_some(5000),
                totals: if n == 0 { totals.clone() } else { Totals::default() },
            })
            .collect(),
        topics_left_out: 0,
        partitions: (0..topics)
            .map(|n| PartitionReport {
                topic: name(n),
                partition: 0,
                shard: n % 2,
                state: "open".to_owned(),
                reason: None,
                events,
                bytes: events * 100,
                unsynced_events: 3,
                waiting_bytes: 4096,
                subscriptions: 1,
                starved_subscriptions: 0,
                accepted_events: if n == 0 { events } else { 0 },
                accepted_bytes: if n == 0 { events * 100 } else { 0 },
            })
            .collect(),
        partitions_left_out: 0,
        consumers: vec![ConsumerReport {
            consumer: "reader".to_owned(),
            topic: name(0),
            partitions: 1,
            lag: 20_000_u64.saturating_sub(uptime_ms),
            subscriptions: 1,
        }],
        consumers_left_out: 0,
        shards: (0..2)
            .map(|shard| ShardReport {
                shard,
                partitions: topics / 2,
                connections: 3,
                rings: 1,
                requests: uptime_ms * 2,
                errors: 0,
                unanswered_bytes: 0,
                outbox_bytes: 0,
                memory_reads: uptime_ms,
                device_reads: 0,
                totals: totals.clone(),
            })
            .collect(),
        bucket_bounds_us: vec![10, 100, 1000],
    }
}

/// The same with something wrong.
pub(crate) fn unwell(uptime_ms: u64, topics: u64) -> NodeReport {
    let mut report = report(uptime_ms, topics);
    report.problems = vec![Problem {
        severity: "critical".to_owned(),
        kind: "partition_full".to_owned(),
        subject: "topic topic-1, partition 0".to_owned(),
        message: "refuses events until there is room: free some space".to_owned(),
    }];
    report.partitions[1].state = "full".to_owned();
    report.topics[1].unwell = 1;
    report
}

#[test]
fn rates_are_over_the_nodes_own_time() {
    let figures = Figures::new(&report(12_000, 2), Some(&report(10_000, 2)));
    assert_eq!(figures.interval_ms, 2000);
    let totals = &figures.totals;
    assert_eq!(
        (
            totals.accepted_events_per_s,
            totals.accepted_bytes_per_s,
            totals.fed_events_per_s
        ),
        (1000.0, 100_000.0, 500.0)
    );
    assert_eq!(figures.process.cpu_percent, 150.0);
    assert_eq!(figures.topics[0].rates.accepted_events_per_s, 1000.0);
    assert_eq!(figures.topics[1].rates.accepted_events_per_s, 0.0);
    assert_eq!(figures.partitions[0].accepted_bytes_per_s, 100_000.0);
    assert_eq!(figures.shards[1].requests_per_s, 2000.0);
    let consumer = &figures.consumers[0];
    assert_eq!(
        (consumer.lag, consumer.lag_change_per_s, consumer.caught_up_s),
        (8000, -1000.0, Some(8.0))
    );
}

#[test]
fn percentiles_are_those_of_the_interval_and_no_more_exact_than_buckets() {
    let figures = Figures::new(&report(12_000, 1), Some(&report(10_000, 1)));
    let produce = figures.totals.produce;
    // 1800 between 10 and 100 us, 200 between 100 and 1000 us.
    assert_eq!(produce.count, 2000);
    assert_eq!((produce.p50_us, produce.p90_us), (Some(60), Some(100)));
    assert_eq!(produce.p99_us, Some(910));
    assert_eq!(figures.totals.commit, Latency::default());
    assert_eq!(
        percentile(&[0, 0, 0, 5], &[10, 100, 1000], 50),
        Some(1000),
        "or more"
    );
    assert_eq!(percentile(&[1, 0, 0, 0], &[10, 100, 1000], 99), Some(10));
    assert_eq!(
        percentile(&[u64::MAX / 2, 1, 0, 0], &[10, 100, 1000], 50),
        Some(5)
    );
}

#[test]
fn a_first_look_and_one_after_a_restart_have_no_rates() {
    let first = Figures::new(&report(12_000, 1), None);
    assert_eq!((first.interval_ms, &first.totals), (0, &Rates::default()));
    let mut other = report(13_000, 1);
    other.pid += 1;
    let restarted = Figures::new(&other, Some(&report(12_000, 1)));
    assert_eq!((restarted.interval_ms, restarted.totals), (0, Rates::default()));
    let mut earlier = report(11_000, 1);
    earlier.pid = 7;
    assert_eq!(Figures::new(&earlier, Some(&report(12_000, 1))).interval_ms, 0);
}

#[test]
fn a_topic_that_was_made_anew_has_no_negative_rate() {
    let mut now = report(12_000, 1);
    now.topics[0].totals.accepted_events = 5;
    let figures = Figures::new(&now, Some(&report(10_000, 1)));
    assert_eq!(figures.topics[0].rates.accepted_events_per_s, 0.0);
}

#[test]
fn the_document_is_as_its_schema_says() {
    let schema: serde_json::Value =
        serde_json::from_str(include_str!("../../../../schemas/top.json")).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    for figures in [
        Figures::new(&unwell(12_000, 3), Some(&report(10_000, 2))),
        Figures::new(&report(12_000, 0), None),
    ] {
        let document = serde_json::to_value(&figures).unwrap();
        let errors: Vec<String> = validator.iter_errors(&document).map(|e| e.to_string()).collect();
        assert!(errors.is_empty(), "{errors:?}");
    }
    assert!(!validator.is_valid(&json!({})));
}
