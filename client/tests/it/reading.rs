//! An event's data in pieces.

use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::time::Duration;

use mofka_client::{
    ConsumerOptions, DataReader, DataSelector, Driver, DriverOptions, Event, ProducerOptions, PullError,
    TopicHandle,
};
use serde_json::json;

use crate::node::Node;

/// Bytes of a fetch: so small that an event needs many.
const FETCH_BYTES_MAX: u64 = 1000;

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n * 7 % 251) as u8).collect()
}

fn node() -> Node {
    let node = Node::start();
    node.state().fetch_bytes_max = FETCH_BYTES_MAX;
    node
}

fn push(topic: &TopicHandle, data: &[u8]) {
    let producer = topic.producer(ProducerOptions::default());
    producer.push(json!({}), data.to_vec(), None).unwrap();
    producer.close().unwrap();
}

/// The first event, whose consumer is gone.
fn pull(topic: &TopicHandle, data_selector: DataSelector) -> Event {
    let options = ConsumerOptions {
        data_selector,
        ..Default::default()
    };
    let consumer = topic.consumer("c", options).unwrap();
    consumer.pull().wait().unwrap().unwrap()
}

fn read_all(reader: &mut DataReader) -> Vec<u8> {
    let mut all = Vec::new();
    reader.read_to_end(&mut all).unwrap();
    all
}

#[test]
fn all_data_is_read_in_pieces_when_none_was_selected_and_the_consumer_is_gone() {
    let (node, data) = (node(), bytes(12_345));
    let topic = node.topic(1);
    push(&topic, &data);
    let event = pull(&topic, DataSelector::none());
    assert_eq!((event.data_bytes(), event.data().is_empty()), (12_345, true));
    let mut reader = event.open_data();
    drop(event);
    assert_eq!(reader.data_bytes(), 12_345);
    assert_eq!(read_all(&mut reader), data);
    let state = node.state();
    let sizes: Vec<Vec<u64>> = state
        .fetches
        .iter()
        .map(|items| items.iter().map(|item| item.bytes()).collect())
        .collect();
    let mut expected = vec![vec![FETCH_BYTES_MAX]; 12];
    expected.push(vec![345]);
    assert_eq!(sizes, expected);
}

#[test]
fn at_most_two_pieces_are_on_their_way_or_in_memory() {
    let (node, data) = (node(), bytes(10_000));
    let topic = node.topic(1);
    push(&topic, &data);
    let mut reader = pull(&topic, DataSelector::none()).open_data();
    let mut one = [0];
    for (at, expected) in data.iter().enumerate() {
        reader.read_exact(&mut one).unwrap();
        assert_eq!(one[0], *expected);
        // That being read, and the one after it.
        let asked = node.state().fetches.len();
        assert!(
            asked <= at / FETCH_BYTES_MAX as usize + 2,
            "{asked} pieces at byte {at}"
        );
    }
}

#[test]
fn what_was_selected_is_what_is_read() {
    let (node, data) = (node(), bytes(9000));
    let topic = node.topic(1);
    push(&topic, &data);
    let selector = DataSelector::new(|_, whole| Ok(whole.strided_view(100, 4, 700, 300)?));
    let event = pull(&topic, selector);
    let expected: Vec<u8> = (0..4)
        .flat_map(|n| data[100 + n * 1000..100 + n * 1000 + 700].to_vec())
        .collect();
    assert_eq!(event.data().to_bytes(), expected);
    assert_eq!(read_all(&mut event.open_data()), expected);
}

#[test]
fn reading_goes_on_anywhere_after_a_seek() {
    let (node, data) = (node(), bytes(7777));
    let topic = node.topic(1);
    push(&topic, &data);
    let mut reader = pull(&topic, DataSelector::none()).open_data();
    let places = [
        (SeekFrom::Start(5000), 5000),
        (SeekFrom::Current(100), 5200),
        (SeekFrom::Current(-5300), 0),
        (SeekFrom::End(-30), 7747),
        (SeekFrom::Start(0), 0),
        (SeekFrom::Start(3), 3),
    ];
    for (to, place) in places {
        assert_eq!(reader.seek(to).unwrap(), place as u64, "{to:?}");
        let mut part = vec![0; (data.len() - place).min(100)];
        reader.read_exact(&mut part).unwrap();
        assert_eq!(part, data[place..place + part.len()], "{to:?}");
    }
    reader.seek(SeekFrom::Start(2500)).unwrap();
    assert_eq!(read_all(&mut reader), data[2500..]);
    assert_eq!(reader.seek(SeekFrom::End(10)).unwrap(), 7787);
    assert!(read_all(&mut reader).is_empty());
    let before = reader.seek(SeekFrom::End(-7778)).unwrap_err();
    assert_eq!(before.kind(), ErrorKind::InvalidInput);
    assert_eq!(reader.stream_position().unwrap(), 7787);
}

#[test]
fn a_lost_node_is_found_again_in_the_middle() {
    let (node, data) = (node(), bytes(5000));
    let topic = node.topic(1);
    push(&topic, &data);
    let mut reader = pull(&topic, DataSelector::none()).open_data();
    let mut first = vec![0; 1500];
    reader.read_exact(&mut first).unwrap();
    node.drop_connections();
    let mut second = vec![0; 1500];
    reader.read_exact(&mut second).unwrap();
    node.go_away();
    let rest = std::thread::scope(|scope| {
        let rest = scope.spawn(|| read_all(&mut reader));
        std::thread::sleep(std::time::Duration::from_millis(50));
        node.come_back();
        rest.join().unwrap()
    });
    assert_eq!([first, second, rest].concat(), data);
}

#[test]
fn a_piece_that_is_never_answered_is_an_error_in_time_and_reading_goes_on_after_it() {
    let (node, data) = (node(), bytes(5000));
    let topic = node.topic(1);
    push(&topic, &data);
    let options = DriverOptions {
        fetch_timeout: Some(Duration::from_millis(100)),
        reconnect_timeout: Duration::from_millis(300),
        ..node.options()
    };
    let topic = Driver::connect(options)
        .unwrap()
        .open_topic(&topic.name())
        .unwrap();
    let mut reader = pull(&topic, DataSelector::none()).open_data();
    node.state().swallows_fetches_from = 1;
    let mut first = vec![0; 1000];
    reader.read_exact(&mut first).unwrap();
    let error = reader.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    let text = error.to_string();
    assert!(
        text.contains("fetch_timeout") && text.contains("at byte 1000"),
        "{text}"
    );
    assert!(node.state().fetches.len() > 2, "it was tried again");
    node.state().swallows_fetches_from = usize::MAX;
    assert_eq!([first, read_all(&mut reader)].concat(), data);
}

#[test]
fn an_event_that_goes_and_one_that_is_damaged_are_told_apart() {
    let node = node();
    let topic = node.topic(1);
    push(&topic, &bytes(3000));
    let event = pull(&topic, DataSelector::none());
    let mut reader = event.open_data();
    node.state().damaged_fetches.push(0);
    let error = reader.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    let text = error.to_string();
    assert!(text.contains("bytes 0 to 1000 of the data of event 0"), "{text}");
    // An error is not the end.
    node.state().damaged_fetches.clear();
    assert_eq!(read_all(&mut reader), bytes(3000));
    node.state().part(topic.partitions()[0].id).data_trim_end = 1;
    let error = event.open_data().read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[test]
fn what_was_asked_for_ahead_is_not_taken_for_a_piece_that_failed() {
    let (node, data) = (node(), bytes(5000));
    let topic = node.topic(1);
    push(&topic, &data);
    let mut reader = pull(&topic, DataSelector::none()).open_data();
    node.state().damaged_answers.push(1);
    let mut first = vec![0; 1000];
    reader.read_exact(&mut first).unwrap();
    assert_eq!(
        reader.read(&mut [0; 100]).unwrap_err().kind(),
        ErrorKind::InvalidData
    );
    assert_eq!([first, read_all(&mut reader)].concat(), data);
}

#[test]
fn an_event_with_more_data_than_is_taken_into_memory_fails_its_own_pull() {
    let node = node();
    let topic = node.topic(1);
    for size in [100, 101, 99] {
        push(&topic, &bytes(size));
    }
    let options = ConsumerOptions {
        data_selector: DataSelector::all(),
        data_bytes_max: 100,
        ..Default::default()
    };
    let consumer = topic.consumer("c", options).unwrap();
    let pulled: Vec<_> = (0..3).map(|_| consumer.pull().wait()).collect();
    assert_eq!(pulled[0].as_ref().unwrap().as_ref().unwrap().data().bytes(), 100);
    match pulled[1].as_ref().unwrap_err() {
        PullError::DataTooLarge {
            event_id: 1,
            partition: 0,
            selected_bytes: 101,
            max_bytes: 100,
        } => {}
        other => panic!("{other}"),
    }
    assert!(pulled[1].as_ref().unwrap_err().to_string().contains("DataReader"));
    assert_eq!(pulled[2].as_ref().unwrap().as_ref().unwrap().data().bytes(), 99);
}
