//! Selectors, allocators, data.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mofka_client::{
    BatchSize, Consumer, ConsumerOptions, DataAllocator, DataSegment, DataSelector, Driver, DriverOptions,
    ProducerOptions, PullError, Segment, TopicHandle,
};
use serde_json::json;

use crate::node::{Node, eventually};

const ALPHABET: &[u8; 52] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
const SHORT: Duration = Duration::from_millis(300);

fn push(topic: &TopicHandle, events: u64, data: impl Fn(u64) -> Vec<u8>) {
    let producer = topic.producer(ProducerOptions {
        batch_size: BatchSize::fixed(5),
        ..Default::default()
    });
    for n in 0..events {
        producer.push(json!({"n": n}), data(n), None).unwrap();
    }
    producer.close().unwrap();
}

fn consume(topic: &TopicHandle, data_selector: DataSelector) -> Vec<Result<String, PullError>> {
    let options = ConsumerOptions {
        data_selector,
        ..Default::default()
    };
    let consumer = topic.consumer("c", options).unwrap();
    let text = |event: mofka_client::Event| String::from_utf8(event.data().to_bytes().to_vec()).unwrap();
    // The first takes as long as the application's functions need for its batch: a panic prints a long report.
    let first = consumer.pull().wait_timeout(Duration::from_secs(10)).transpose();
    let first = first.map(|pulled| pulled.map(|event| event.expect("the topic is not complete")));
    first
        .into_iter()
        .chain(consumer.events(SHORT))
        .map(|event| event.map(text))
        .collect()
}

/// A topic whose consumers want answers to requests for data within 100 ms, and give up soon.
fn impatient(node: &Node) -> TopicHandle {
    let name = node.topic(1).name();
    let options = DriverOptions {
        fetch_timeout: Some(Duration::from_millis(100)),
        reconnect_timeout: SHORT,
        ..node.options()
    };
    Driver::connect(options).unwrap().open_topic(&name).unwrap()
}

/// Wants the data of five events, of a node that does not answer requests for it.
fn unanswered(node: &Node) -> Consumer {
    let topic = impatient(node);
    push(&topic, 5, |_| vec![7; 100]);
    {
        let mut state = node.state();
        state.spare_data = true;
        state.swallows_fetches_from = 0;
    }
    let options = ConsumerOptions {
        data_selector: DataSelector::all(),
        ..Default::default()
    };
    topic.consumer("c", options).unwrap()
}

#[test]
fn data_that_does_not_come_is_asked_for_again_and_then_told() {
    let node = Node::start();
    let consumer = unanswered(&node);
    let error = consumer.pull().wait_timeout(Duration::from_secs(10)).unwrap_err();
    assert!(
        matches!(&error, PullError::Partition { reason, .. } if reason.contains("fetch_timeout")),
        "{error}"
    );
    assert!(node.state().fetches.len() > 1, "it was tried again");
}

#[test]
fn no_request_for_data_piles_up_at_a_node_that_does_not_answer_it() {
    let node = Node::start();
    let consumer = unanswered(&node);
    let before = node.state().opened_connections;
    consumer.pull().wait_timeout(Duration::from_secs(10)).unwrap_err();
    let state = node.state();
    let (asked, opened) = (state.fetches.len(), state.opened_connections - before);
    assert!(
        opened + 1 >= asked,
        "{asked} requests over {opened} new connections"
    );
}

#[test]
fn no_time_at_all_for_data_is_refused() {
    let node = Node::start();
    let options = DriverOptions {
        fetch_timeout: Some(Duration::ZERO),
        ..node.options()
    };
    let error = Driver::connect(options).err().unwrap();
    assert!(error.to_string().contains("fetch_timeout is 0"), "{error}");
}

#[test]
fn data_that_came_too_late_once_comes_the_next_time() {
    let node = Node::start();
    let consumer = unanswered(&node);
    eventually("it is asked for", || !node.state().fetches.is_empty());
    node.state().swallows_fetches_from = usize::MAX;
    for n in 0..5 {
        let event = consumer.pull().wait_timeout(Duration::from_secs(10));
        let event = event.unwrap().unwrap().unwrap();
        assert_eq!((event.id().get(), event.data().to_bytes().len()), (n, 100));
    }
}

#[test]
fn all_data_comes_with_the_feed_or_is_fetched_when_it_does_not() {
    for spare_data in [false, true] {
        let node = Node::start();
        node.state().spare_data = spare_data;
        let topic = node.topic(1);
        push(&topic, 20, |n| vec![b'a' + n as u8; n as usize]);
        let seen: Vec<String> = consume(&topic, DataSelector::all())
            .into_iter()
            .map(Result::unwrap)
            .collect();
        assert_eq!(
            seen,
            (0..20)
                .map(|n: u8| char::from(b'a' + n).to_string().repeat(n.into()))
                .collect::<Vec<_>>()
        );
        assert_eq!(node.state().fetches.is_empty(), !spare_data);
    }
}

#[test]
fn an_event_that_goes_between_its_feed_and_its_fetch_is_missed_and_not_an_error() {
    let node = Node::start();
    node.state().spare_data = true;
    let topic = node.topic(1);
    push(&topic, 20, |n| vec![b'a' + n as u8; 3]);
    node.state().part(topic.partitions()[0].id).data_trim_end = 12;
    let options = ConsumerOptions {
        data_selector: DataSelector::all(),
        ..Default::default()
    };
    let consumer = topic.consumer("c", options).unwrap();
    let seen: Vec<u64> = consumer
        .events(SHORT)
        .map(|event| event.unwrap().id().get())
        .collect();
    assert_eq!((seen, consumer.missed_count()), ((12..20).collect(), 12));
}

#[test]
fn a_selector_fetches_many_events_with_one_request() {
    let node = Node::start();
    let topic = node.topic(1);
    push(&topic, 100, |_| ALPHABET.to_vec());
    let calls = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&calls);
    let selector = DataSelector::new(move |metadata, whole| {
        counter.fetch_add(1, Ordering::SeqCst);
        let n = metadata.value()["n"].as_u64().ok_or("no n")?;
        // Every other event is not wanted.
        Ok(if n % 2 == 0 {
            whole.sub_view(n % 26, 3)
        } else {
            Default::default()
        })
    });
    let seen: Vec<String> = consume(&topic, selector)
        .into_iter()
        .map(Result::unwrap)
        .collect();
    for (n, text) in seen.iter().enumerate() {
        let expected = if n % 2 == 0 {
            &ALPHABET[n % 26..n % 26 + 3]
        } else {
            b""
        };
        assert_eq!(text.as_bytes(), expected);
    }
    assert_eq!((seen.len(), calls.load(Ordering::SeqCst)), (100, 100));
    let state = node.state();
    assert_eq!(state.fetches.iter().map(Vec::len).sum::<usize>(), 50);
    assert!(state.fetches.len() <= 4, "{} requests", state.fetches.len());
}

#[test]
fn views_select_what_they_say_also_nested() {
    let node = Node::start();
    let topic = node.topic(1);
    push(&topic, 5, |_| ALPHABET.to_vec());
    let selector = DataSelector::new(|metadata, whole| {
        Ok(match metadata.value()["n"].as_u64() {
            Some(0) => whole.sub_view(13, 26),
            Some(1) => whole.strided_view(13, 3, 4, 2)?,
            Some(2) => {
                let listed = [(3, 6), (15, 4), (27, 8)].map(|(offset, bytes)| Segment { offset, bytes });
                whole.unstructured_view(&listed)?
            }
            // Relative to the view before: of "nopqrst..." every other letter, of these the second and third.
            Some(3) => whole.sub_view(13, 26).strided_view(0, 13, 1, 1)?.sub_view(1, 2),
            _ => whole.clone(),
        })
    });
    let seen: Vec<String> = consume(&topic, selector)
        .into_iter()
        .map(Result::unwrap)
        .collect();
    let all = String::from_utf8_lossy(ALPHABET);
    assert_eq!(
        seen,
        [
            "nopqrstuvwxyzABCDEFGHIJKLM",
            "nopqtuvwzABC",
            "defghipqrsBCDEFGHI",
            "pr",
            &all
        ]
    );
}

#[test]
fn an_event_larger_than_a_request_is_fetched_in_parts() {
    let node = Node::start();
    node.state().fetch_bytes_max = 1000;
    let topic = node.topic(1);
    let data = |n: u64| (0..n * 1300).map(|i| b'a' + (i % 23) as u8).collect::<Vec<u8>>();
    push(&topic, 5, data);
    let seen: Vec<String> = consume(&topic, DataSelector::new(|_, whole| Ok(whole.clone())))
        .into_iter()
        .map(Result::unwrap)
        .collect();
    for (n, text) in seen.iter().enumerate() {
        assert_eq!(text.as_bytes(), data(n as u64));
    }
    assert_eq!(seen.len(), 5);
    assert!(
        node.state()
            .fetches
            .iter()
            .flatten()
            .all(|descriptor| descriptor.bytes() <= 1000)
    );
}

#[test]
fn one_failing_event_fails_only_its_own_pull() {
    let node = Node::start();
    node.state().damaged_fetches = vec![4];
    let topic = node.topic(1);
    push(&topic, 6, |_| b"data".to_vec());
    let selector = DataSelector::new(|metadata, whole| match metadata.value()["n"].as_u64() {
        Some(1) => Err("not this one".into()),
        Some(2) => panic!("a defect"),
        Some(3) => Ok(mofka_client::DataDescriptor::of_event(
            mofka_client::EventId::new(0),
            4,
        )),
        _ => Ok(whole.clone()),
    });
    let seen = consume(&topic, selector);
    assert_eq!(seen.len(), 6);
    assert!(seen[0].is_ok() && seen[5].is_ok());
    let message = |n: usize| seen[n].as_ref().unwrap_err().to_string();
    assert!(message(1).contains("data selector failed for event 1") && message(1).contains("not this one"));
    assert!(message(2).contains("panicked: a defect"));
    assert!(message(3).contains("other data"));
    assert!(message(4).contains("checksum"), "{}", message(4));
}

/// Memory whose method of this name has a defect.
struct Broken {
    memory: Vec<u8>,
    method: &'static str,
}

impl DataSegment for Broken {
    fn bytes(&self) -> &[u8] {
        assert_ne!(self.method, "bytes");
        &self.memory
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        assert_ne!(self.method, "bytes_mut");
        &mut self.memory
    }
}

#[test]
fn a_segment_that_panics_fails_only_its_own_pull() {
    let node = Node::start();
    let topic = node.topic(1);
    push(&topic, 3, |_| b"data".to_vec());
    let allocator = DataAllocator::new(|metadata, selected| {
        let memory = vec![0; selected.bytes() as usize];
        let method = match metadata.value()["n"].as_u64() {
            Some(0) => "bytes",
            Some(1) => "bytes_mut",
            _ => "none",
        };
        Ok(vec![Broken { memory, method }])
    });
    let options = ConsumerOptions {
        data_selector: DataSelector::all(),
        data_allocator: allocator,
        ..Default::default()
    };
    let consumer = topic.consumer("c", options).unwrap();
    let pull = || consumer.pull().wait_timeout(Duration::from_secs(10));
    for n in 0..2 {
        let text = pull().unwrap_err().to_string();
        let expected = format!("data segment failed for event {n} of partition 0: it panicked");
        assert!(text.contains(&expected), "{text}");
    }
    assert_eq!(pull().unwrap().unwrap().unwrap().data().to_bytes(), "data");
}

#[test]
fn an_allocator_provides_the_memory_and_its_size_must_fit() {
    for selector in [
        DataSelector::all(),
        DataSelector::new(|_, whole| Ok(whole.clone())),
    ] {
        let node = Node::start();
        let topic = node.topic(1);
        push(
            &topic,
            4,
            |n| if n == 3 { vec![] } else { b"0123456789".to_vec() },
        );
        let called_when_empty = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&called_when_empty);
        let allocator = DataAllocator::new(move |metadata, selected| {
            if selected.is_empty() {
                counter.fetch_add(1, Ordering::SeqCst);
                return Ok(vec![]);
            }
            Ok(match metadata.value()["n"].as_u64() {
                Some(0) => vec![vec![0_u8; 3], vec![], vec![0; 7]],
                Some(1) => vec![vec![0; 9]],
                _ => return Err("no memory".into()),
            })
        });
        let options = ConsumerOptions {
            data_selector: selector,
            data_allocator: allocator,
            ..Default::default()
        };
        let consumer = topic.consumer("c", options).unwrap();
        let first = consumer.pull().wait().unwrap().unwrap();
        let lengths: Vec<usize> = first
            .data()
            .segments()
            .iter()
            .map(|segment| segment.len())
            .collect();
        assert_eq!(lengths, [3, 0, 7]);
        assert_eq!(first.data().to_bytes().as_ref(), b"0123456789");
        let second = consumer.pull().wait().unwrap_err();
        assert!(matches!(
            second,
            PullError::Allocation {
                selected_bytes: 10,
                allocated_bytes: 9,
                ..
            }
        ));
        assert!(second.to_string().starts_with(
            "DataBroker returned a Data object with a size different from the selected DataDescriptor size"
        ));
        assert!(
            consumer
                .pull()
                .wait()
                .unwrap_err()
                .to_string()
                .contains("no memory")
        );
        assert!(consumer.pull().wait().unwrap().unwrap().data().is_empty());
        assert_eq!(called_when_empty.load(Ordering::SeqCst), 1);
    }
}
