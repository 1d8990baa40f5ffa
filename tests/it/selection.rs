//! The reference's data selections through a real node, from memory and from the device, and producers and consumers that share a
//! thread pool.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mofka_client::{
    BatchSize, BoxError, ConsumerOptions, DataDescriptor, DataSelector, Driver, Ordering, PartitionKind,
    ProcessEnd, ProcessOptions, ProducerOptions, Segment, Start, ThreadPool, TopicHandle, TopicOptions,
};
use mofka_tests::Node;
use serde_json::json;

const PATIENCE: Duration = Duration::from_secs(20);
const ALPHABET: &[u8; 52] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

/// The data of the first events of a topic, each as its segments, as far as a selector wants it.
fn selected(
    topic: &TopicHandle,
    count: usize,
    select: impl Fn(u64, &DataDescriptor) -> Result<DataDescriptor, BoxError> + Send + Sync + 'static,
) -> Vec<Vec<String>> {
    let selector = DataSelector::new(move |metadata, whole| {
        select(metadata.value()["event_num"].as_u64().ok_or("no number")?, whole)
    });
    let options = ConsumerOptions {
        data_selector: selector,
        start: Start::First,
        ..ConsumerOptions::default()
    };
    let consumer = topic.consumer("selecting", options).unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (0..count)
        .map(|_| {
            let event = consumer.pull().wait_timeout(PATIENCE).unwrap().unwrap().unwrap();
            let whole = text(&event.data().to_bytes());
            // Cut where the selection is.
            let mut at = 0;
            let ranges = event.descriptor().flatten();
            ranges
                .map(|range| {
                    let begin = at;
                    at += range.bytes as usize;
                    whole[begin..at].to_owned()
                })
                .collect()
        })
        .collect()
}

fn segments<const N: usize>(listed: [(u64, u64); N]) -> [Segment; N] {
    listed.map(|(offset, bytes)| Segment { offset, bytes })
}

#[test]
fn data_is_selected_as_the_reference_says() {
    for kind in [PartitionKind::Default, PartitionKind::Memory] {
        let mut node = Node::start(&["--shards", "1"]);
        let driver = node.driver();
        let topic = driver
            .create_topic(TopicOptions::new("selected").partition_kind(kind))
            .unwrap();
        let producer = topic.producer(ProducerOptions {
            batch_size: BatchSize::fixed(10),
            ..ProducerOptions::default()
        });
        for n in 0..20 {
            producer.push(json!({"event_num": n}), ALPHABET, None).unwrap();
        }
        assert_eq!(producer.close().unwrap().acknowledged, 20);
        // From the recent batches first, then from the files.
        for round in 0..2 {
            let all = |vector: &[&str], found: Vec<Vec<String>>| {
                for pieces in found {
                    assert_eq!(pieces, vector, "{kind:?}, round {round}");
                }
            };
            all(&[], selected(&topic, 20, |_, _| Ok(DataDescriptor::default())));
            let whole = String::from_utf8_lossy(ALPHABET);
            all(&[&whole], selected(&topic, 20, |_, whole| Ok(whole.clone())));
            let sub = selected(&topic, 20, |_, whole| Ok(whole.sub_view(13, 26)));
            all(&["nopqrstuvwxyzABCDEFGHIJKLM"], sub);
            let strided = selected(&topic, 20, |_, whole| Ok(whole.strided_view(13, 3, 4, 2)?));
            all(&["nopq", "tuvw", "zABC"], strided);
            let listed = selected(&topic, 20, |_, whole| {
                Ok(whole.unstructured_view(&segments([(3, 6), (15, 4), (27, 8)]))?)
            });
            all(&["defghi", "pqrs", "BCDEFGHI"], listed);
            // Nested ones are relative to the view below: every other letter of n..M, of these the second to fourth.
            let nested = selected(&topic, 20, |_, whole| {
                Ok(whole.sub_view(13, 26).strided_view(0, 13, 1, 1)?.sub_view(1, 3))
            });
            all(&["p", "r", "t"], nested);
            let even = selected(&topic, 20, |n, whole| {
                Ok(if n % 2 == 0 {
                    whole.clone()
                } else {
                    DataDescriptor::default()
                })
            });
            for (n, pieces) in even.iter().enumerate() {
                assert_eq!(pieces.len(), (n + 1) % 2, "only even events have data");
            }
            if kind == PartitionKind::Memory {
                break;
            }
            node.kill();
            node.start_again();
        }
    }
}

#[test]
fn a_rectangle_is_cut_out_of_a_large_image() {
    let node = Node::start(&["--shards", "1"]);
    let topic = node.driver().create_topic(TopicOptions::new("images")).unwrap();
    // Many pieces of 64 KiB, each with a checksum of its own.
    let (width, height) = (2048_u64, 1024_u64);
    let pixel = |x: u64, y: u64| ((x * 31) ^ (y * 17)) as u8;
    let image: Vec<u8> = (0..height)
        .flat_map(|y| (0..width).map(move |x| pixel(x, y)))
        .collect();
    let producer = topic.producer(ProducerOptions::default());
    producer.push(json!({}), image, None).unwrap().wait().unwrap();
    let (left, top, columns, rows) = (500, 300, 100, 64);
    let options = ConsumerOptions {
        // The documentation's way: first the rows, relative to them the columns.
        data_selector: DataSelector::new(move |_, whole| {
            let band = whole.sub_view(top * width + left, rows * width);
            Ok(band.strided_view(0, rows, columns, width - columns)?)
        }),
        ..ConsumerOptions::default()
    };
    let consumer = topic.consumer("cropping", options).unwrap();
    let event = consumer.pull().wait_timeout(PATIENCE).unwrap().unwrap().unwrap();
    let expected: Vec<u8> = (top..top + rows)
        .flat_map(|y| (left..left + columns).map(move |x| pixel(x, y)))
        .collect();
    assert_eq!(event.descriptor().bytes(), columns * rows);
    assert!(event.data().to_bytes() == expected);
    assert_eq!(event.descriptor().flatten().count() as u64, rows);
}

/// Pushes and consumes 3000 events over 4 partitions, all in one pool.
fn through_a_pool(driver: &Driver, name: &str, threads: usize) {
    const COUNT: u64 = 3000;
    let pool = Some(ThreadPool::new(threads).unwrap());
    let topic = driver
        .create_topic(TopicOptions::new(name).partitions(4))
        .unwrap();
    let options = ConsumerOptions {
        data_selector: DataSelector::new(|_, whole| Ok(whole.sub_view(0, 6))),
        thread_pool: pool.clone(),
        ..ConsumerOptions::default()
    };
    let consumer = topic.consumer("pooled", options).unwrap();
    let producer = topic.producer(ProducerOptions {
        ordering: Ordering::Loose,
        batch_size: BatchSize::fixed(50),
        batch_idle_timeout: Some(Duration::from_millis(5)),
        thread_pool: pool.clone(),
        ..ProducerOptions::default()
    });
    let seen = Arc::new(Mutex::new(Vec::new()));
    let list = Arc::clone(&seen);
    std::thread::scope(|scope| {
        for pusher in 0..3 {
            let producer = &producer;
            scope.spawn(move || {
                for n in 0..COUNT / 3 {
                    let number = n * 3 + pusher;
                    let data = format!("{number:06} and what is not wanted");
                    producer.push(json!({"n": number}), data, None).unwrap();
                }
            });
        }
        let process = move |event: Result<Option<mofka_client::Event>, _>| {
            let event = event?.ok_or("nothing in time")?;
            let number = event.metadata()["n"].as_u64().ok_or("no number")?;
            assert_eq!(
                event.data().to_bytes().as_ref(),
                format!("{number:06}").as_bytes()
            );
            list.lock().unwrap().push(number);
            Ok(ControlFlow::Continue(()))
        };
        let options = ProcessOptions {
            timeout: Some(PATIENCE),
            max_events: Some(COUNT),
            thread_pool: pool,
        };
        let report = consumer.process(process, &options).unwrap();
        assert_eq!(
            (report.events, report.failed),
            (COUNT, 0),
            "{:?}",
            report.first_failure
        );
        assert!(matches!(report.end, ProcessEnd::Counted));
    });
    let mut seen = seen.lock().unwrap().clone();
    seen.sort_unstable();
    assert!(seen.into_iter().eq(0..COUNT), "every event once");
    let report = producer.close().unwrap();
    assert_eq!(
        (report.pushed, report.acknowledged, report.failed),
        (COUNT, COUNT, 0)
    );
}

#[test]
fn a_loose_producer_and_a_pooled_consumer_share_a_pool() {
    let node = Node::start(&["--shards", "2"]);
    let driver = node.driver();
    for threads in [0, 1, 3] {
        through_a_pool(&driver, &format!("pooled-{threads}"), threads);
    }
}
