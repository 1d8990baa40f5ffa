//! Data of several segments: what is kept, what is copied, and until when.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use mofka_client::{
    BatchSize, Data, ErrorCode, Ordering as Order, Producer, ProducerOptions, PushError, TopicOptions,
};
use mofka_log::Batch;
use serde_json::json;

use crate::node::{Action, Node, eventually};

const LONG: usize = 64 << 10;

/// Memory of the application that says when it is let go.
struct Owner {
    bytes: Vec<u8>,
    dropped: Arc<AtomicUsize>,
}

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

fn owned(bytes: usize, fill: u8, dropped: &Arc<AtomicUsize>) -> Bytes {
    Bytes::from_owner(Owner {
        bytes: vec![fill; bytes],
        dropped: Arc::clone(dropped),
    })
}

/// What the node got: the data of every event, in order.
fn watch(node: &Node, mut action: impl FnMut() -> Action + Send + 'static) -> Arc<Mutex<Vec<Vec<u8>>>> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&seen);
    node.on_produce(move |batch: &Batch| {
        let data = batch.data().cloned().unwrap_or_default();
        let events = batch.events().map(|event| {
            let start = event.data_offset as usize;
            data[start..start + event.data_bytes as usize].to_vec()
        });
        sink.lock().unwrap().extend(events);
        action()
    });
    seen
}

/// Long and short segments in turn, with borders that are not those of the checksums.
fn segments() -> Vec<Bytes> {
    [LONG, 5, 3 * LONG + 17, 0, 1, LONG - 1, LONG + 1, LONG]
        .into_iter()
        .enumerate()
        .map(|(n, bytes)| Bytes::from((0..bytes).map(|at| (at % 251 + n) as u8).collect::<Vec<u8>>()))
        .collect()
}

#[test]
fn data_arrives_the_same_in_however_many_segments_and_whatever_is_kept() {
    let node = Node::start();
    let seen = watch(&node, || Action::Accept);
    let topic = node.topic(1);
    for shared_bytes_min in [1, LONG, usize::MAX] {
        let producer = topic.producer(ProducerOptions {
            shared_bytes_min,
            batch_size: BatchSize::fixed(3),
            ..Default::default()
        });
        producer.push(json!(1), "before", None).unwrap();
        producer.push(json!(2), segments(), None).unwrap();
        producer.push(json!(3), "after", None).unwrap();
        assert_eq!(producer.close().unwrap().acknowledged, 3);
        let expected = [b"before".to_vec(), segments().concat(), b"after".to_vec()];
        assert!(std::mem::take(&mut *seen.lock().unwrap()) == expected);
    }
}

#[test]
fn what_is_sent_again_is_the_same() {
    let node = Node::start();
    let mut batches = 0;
    let seen = watch(&node, move || {
        batches += 1;
        match batches {
            1 => Action::DropBefore,
            2 => Action::DropAfter,
            _ => Action::Accept,
        }
    });
    let topic = node.topic(1);
    let producer = topic.producer(ProducerOptions::default());
    let future = producer.push(json!({}), segments(), None).unwrap();
    assert_eq!(future.wait().unwrap().get(), 0);
    assert_eq!((producer.stats().resent, node.state().duplicates), (2, 1));
    assert!(*seen.lock().unwrap() == vec![segments().concat(); 3]);
}

#[test]
fn what_is_numbered_anew_is_the_same() {
    let node = Node::start();
    let topic = node.topic(1);
    let producer = topic.producer(ProducerOptions {
        batch_size: BatchSize::fixed(1),
        max_num_batches: 3,
        ..Default::default()
    });
    // So that the node knows this producer, and several batches may be on their way.
    producer.push(json!(0), "", None).unwrap().wait().unwrap();
    let both_sent = Arc::new(AtomicBool::new(false));
    let (sent, mut batches) = (Arc::clone(&both_sent), 0);
    let seen = watch(&node, move || {
        batches += 1;
        if batches > 1 {
            return Action::Accept;
        }
        while !sent.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        Action::Refuse(ErrorCode::TooLarge)
    });
    let refused = producer.push(json!(1), segments(), None).unwrap();
    let mut other = segments();
    other.reverse();
    let kept = producer.push(json!(2), other.clone(), None).unwrap();
    eventually("both are sent", || producer.stats().batches == 3);
    both_sent.store(true, Ordering::SeqCst);
    assert!(refused.wait().is_err());
    // It came too early under its old number, and is taken under a new one.
    assert_eq!(kept.wait().unwrap().get(), 1);
    assert!(producer.stats().resent > 0);
    assert!(*seen.lock().unwrap() == [segments().concat(), other.concat(), other.concat()]);
}

#[test]
fn long_segments_are_kept_until_the_event_is_settled_and_short_ones_not_at_all() {
    let node = Node::start();
    node.on_produce(|_| Action::Hold);
    let topic = node.topic(1);
    let producer = topic.producer(ProducerOptions::default());
    let (long, short) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let data = vec![
        owned(LONG, 1, &long),
        owned(LONG - 1, 2, &short),
        owned(2 * LONG, 3, &long),
    ];
    let future = producer.push(json!({}), data, None).unwrap();
    assert_eq!(short.load(Ordering::SeqCst), 1);
    eventually("it is held", || !node.state().held.is_empty());
    // A lost connection does not let go of what has to be sent again.
    node.drop_connections();
    eventually("it is held again", || !node.state().held.is_empty());
    assert_eq!(long.load(Ordering::SeqCst), 0);
    node.on_produce(|_| Action::Accept);
    node.change(|_| ());
    future.wait().unwrap();
    eventually("the owners are dropped", || long.load(Ordering::SeqCst) == 2);

    // And when it fails.
    node.on_produce(|_| Action::Refuse(ErrorCode::TooLarge));
    let future = producer.push(json!({}), owned(LONG, 1, &long), None).unwrap();
    assert!(future.wait().is_err());
    eventually("the owner is dropped", || long.load(Ordering::SeqCst) == 3);
}

#[test]
fn changing_data_after_it_was_pushed_changes_nothing_that_is_sent() {
    let node = Node::start();
    node.on_produce(|_| Action::Hold);
    let topic = node.topic(1);
    let producer = topic.producer(ProducerOptions::default());
    let mut data = Data::from(vec![vec![1_u8; LONG], vec![2; 10]]);
    let future = producer.push(json!({}), data.clone(), None).unwrap();
    assert_eq!(data.write(&[9; LONG + 10], 0), LONG + 10);
    eventually("it is held", || !node.state().held.is_empty());
    let seen = watch(&node, || Action::Accept);
    node.change(|_| ());
    future.wait().unwrap();
    let expected = [vec![1; LONG], vec![2; 10]].concat();
    assert!(*seen.lock().unwrap() == [expected]);
    assert_eq!(data.segments()[0][0], 9);
}

/// An owner may do anything when it is let go: here it pushes another event.
#[test]
fn an_owner_may_push_when_it_is_dropped() {
    struct Pushes(Vec<u8>, Producer);
    impl AsRef<[u8]> for Pushes {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    impl Drop for Pushes {
        fn drop(&mut self) {
            self.1.push(json!("dropped"), "", None).unwrap();
        }
    }
    let node = Node::start();
    let topic = node.topic(1);
    let mut first = true;
    node.on_produce(move |_| match std::mem::take(&mut first) {
        true => Action::DropBefore,
        false => Action::Accept,
    });
    let producer = topic.producer(ProducerOptions::default());
    let pushing = || Bytes::from_owner(Pushes(vec![5; 4 * LONG], producer.clone()));
    for _ in 0..4 {
        producer
            .push(json!("kept"), pushing(), None)
            .unwrap()
            .wait()
            .unwrap();
    }
    // Neither the locks of the queue nor those of the connection are held when they go.
    eventually("all are stored", || node.stored(&topic, 0).len() == 8);
    let dropped = |name: &String| name == "\"dropped\"";
    assert_eq!(node.stored(&topic, 0).into_iter().filter(dropped).count(), 4);
}

#[test]
fn what_is_kept_counts_against_the_bounds() {
    let node = Node::start();
    node.on_produce(|_| Action::Hold);
    let topic = node.topic(1);
    let producer = topic.producer(ProducerOptions {
        max_num_batches: 1,
        batch_bytes_max: 4 * LONG as u64,
        ..Default::default()
    });
    let dropped = Arc::new(AtomicUsize::new(0));
    let pushed = Arc::new(AtomicUsize::new(0));
    let (pusher, count, drops) = (producer.clone(), Arc::clone(&pushed), Arc::clone(&dropped));
    let thread = std::thread::spawn(move || {
        for _ in 0..20 {
            pusher.push(json!({}), owned(LONG, 7, &drops), None).unwrap();
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    // One batch on its way, and one that gathers: three events of 64 KiB fit 256 KiB with their metadata.
    eventually("the bound is met", || pushed.load(Ordering::SeqCst) >= 4);
    std::thread::sleep(std::time::Duration::from_millis(50));
    assert!(pushed.load(Ordering::SeqCst) <= 6);
    assert_eq!(dropped.load(Ordering::SeqCst), 0);
    node.on_produce(|_| Action::Accept);
    node.change(|_| ());
    thread.join().unwrap();
    assert_eq!(producer.close().unwrap().acknowledged, 20);
    eventually("all owners are dropped", || dropped.load(Ordering::SeqCst) == 20);
}

#[test]
fn an_owner_that_panics_does_not_leave_a_connection_without_a_reader() {
    struct Defective(Vec<u8>);
    impl AsRef<[u8]> for Defective {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    impl Drop for Defective {
        fn drop(&mut self) {
            panic!("a defect of the owner");
        }
    }
    let node = Node::start();
    node.on_produce(|_| Action::Hold);
    let topic = node.topic(1);
    let producer = topic.producer(ProducerOptions::default());
    let first = producer
        .push(json!({}), Data::from_owner(Defective(vec![1; 1 << 20])), None)
        .unwrap();
    eventually("it is sent", || node.state().held.len() == 1);
    node.on_produce(|_| Action::Accept);
    node.change(|_| ());
    eventually("it is acknowledged", || first.completed());
    // Nobody waits and reads what comes himself.
    let second = producer.push(json!({}), "", None).unwrap();
    producer.flush();
    eventually("the next one is, too", || second.completed());
    assert_eq!(second.wait().unwrap().get(), 1);
}

/// Memory of an application that pushes another event, and waits for it, when this one is done with.
struct Pusher {
    memory: Vec<u8>,
    producer: Producer,
    pushed: std::sync::mpsc::Sender<u64>,
}

impl AsRef<[u8]> for Pusher {
    fn as_ref(&self) -> &[u8] {
        &self.memory
    }
}

impl Drop for Pusher {
    fn drop(&mut self) {
        let pushed = self.producer.push(json!({}), "", None).unwrap().wait();
        self.pushed.send(pushed.unwrap().get()).unwrap();
    }
}

#[test]
fn an_owner_may_push_and_wait_where_it_is_dropped() {
    let node = Node::start();
    node.on_produce(|_| Action::Hold);
    let topic = node.topic(1);
    let producer = topic.producer(ProducerOptions {
        max_num_batches: 1,
        batch_size: BatchSize::fixed(1),
        ..Default::default()
    });
    let (pushed, told) = std::sync::mpsc::channel();
    let owner = Pusher {
        memory: vec![1; LONG],
        producer: producer.clone(),
        pushed,
    };
    let first = producer.push(json!({}), Data::from_owner(owner), None).unwrap();
    eventually("it is sent", || node.state().held.len() == 1);
    // Nobody else waits: the thread that reads takes the answer.
    node.on_produce(|_| Action::Accept);
    node.change(|_| ());
    assert_eq!(told.recv_timeout(std::time::Duration::from_secs(10)).unwrap(), 1);
    assert_eq!(first.wait().unwrap().get(), 0);
}

#[test]
fn slices_of_the_caller_arrive_as_what_is_pushed_does_and_are_his_again_at_once() {
    let node = Node::start();
    let seen = watch(&node, || Action::Accept);
    let topic = node.topic(1);
    for batch_size in [BatchSize::fixed(1), BatchSize::fixed(3), BatchSize::Adaptive] {
        let producer = topic.producer(ProducerOptions {
            batch_size,
            ..Default::default()
        });
        let mut metadata = *b"{\"n\":1}";
        let mut data = vec![7; LONG];
        let first = producer
            .push_slices(metadata, &[&data, b"", &data[..5]], None)
            .unwrap();
        metadata.fill(b'!');
        data.fill(8);
        producer.push(json!({"n": 2}), data.as_slice(), None).unwrap();
        let last = producer.push_slices("{\"n\": 3}", &[], None).unwrap();
        assert!(matches!(
            producer.push_slices(metadata, &[], None),
            Err(PushError::InvalidMetadata { .. })
        ));
        assert!(matches!(
            producer.push_slices([b'"', 0xff, b'"'], &[], None),
            Err(PushError::InvalidMetadata { .. })
        ));
        assert_eq!(last.wait().unwrap().get(), first.wait().unwrap().get() + 2);
        assert_eq!(producer.close().unwrap().acknowledged, 3);
        let expected = [vec![7; LONG + 5], vec![8; LONG], Vec::new()];
        assert_eq!(std::mem::take(&mut *seen.lock().unwrap()), expected);
        let stored = node.stored(&topic, 0);
        assert_eq!(
            stored[stored.len() - 3..],
            ["{\"n\":1}", "{\"n\":2}", "{\"n\": 3}"]
        );
    }
}

#[test]
fn slices_take_turns_and_go_where_they_are_asked_to() {
    let node = Node::start();
    let topic = node.topic(3);
    let producer = topic.producer(ProducerOptions::default());
    for n in 0..6 {
        producer.push_slices(n.to_string(), &[b"x"], None).unwrap();
    }
    producer.push_slices("6", &[], Some(4)).unwrap();
    producer.close().unwrap();
    let stored = |partition| node.stored(&topic, partition);
    assert_eq!(
        [stored(0), stored(1), stored(2)],
        [vec!["0", "3"], vec!["1", "4", "6"], vec!["2", "5"]]
    );
}

#[test]
fn who_looks_at_events_sees_slices_too() {
    let node = Node::start();
    let topic = |name: &str, validator, partition_selector| {
        let mut options = TopicOptions::new(name).partitions(4);
        (options.validator, options.partition_selector) = (validator, partition_selector);
        node.driver().create_topic(options).unwrap()
    };
    let schema = json!({"type": "schema", "schema": {"required": ["n"]}});
    let checked = topic("checked", Some(schema), None);
    let keyed = topic("keyed", None, Some(json!({"type": "key_hash", "key": "n"})));
    let refused = checked
        .producer(ProducerOptions::default())
        .push_slices("{}", &[b"x"], None);
    assert!(matches!(refused, Err(PushError::Rejected { .. })));
    for topic in [&checked, &keyed] {
        for ordering in [Order::Strict, Order::Loose] {
            let producer = topic.producer(ProducerOptions {
                ordering,
                ..Default::default()
            });
            for n in 0..20 {
                producer
                    .push_slices(format!("{{\"n\":{}}}", n % 2), &[b"x", b"y"], None)
                    .unwrap();
            }
            assert_eq!(producer.close().unwrap().acknowledged, 20);
        }
    }
    // Two keys: two partitions, with one of them each.
    let partitions = (0..4).map(|partition| node.stored(&keyed, partition));
    let mut kinds: Vec<_> = partitions.filter(|stored| !stored.is_empty()).collect();
    kinds.iter_mut().for_each(Vec::dedup);
    kinds.sort();
    assert_eq!(kinds, [["{\"n\":0}"], ["{\"n\":1}"]]);
}
