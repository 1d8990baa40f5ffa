//! What every future promises.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use mofka_client::{
    BatchSize, ConsumerOptions, ErrorCode, Producer, ProducerOptions, PullError, PushFuture, TopicHandle,
};
use serde_json::json;

use crate::node::{Action, Node, block_on, eventually};

const SHORT: Duration = Duration::from_millis(30);

/// A node that answers nothing that has to be stored, a producer with one event on its way, and the future of that.
fn held(node: &Node) -> (TopicHandle, Producer, PushFuture) {
    node.on_produce(|_| Action::Hold);
    let topic = node.topic(1);
    let producer = topic.producer(ProducerOptions::default());
    let future = producer.push(json!({"n": 0}), "", None).unwrap();
    eventually("the batch is held", || !node.state().held.is_empty());
    (topic, producer, future)
}

fn release(node: &Node) {
    node.on_produce(|_| Action::Accept);
    node.change(|state| state.hold_acknowledgements = false);
}

#[test]
fn zero_only_looks() {
    let node = Node::start();
    let (topic, producer, pushed) = held(&node);
    let consumer = topic.consumer("c", ConsumerOptions::default()).unwrap();
    let (flushed, pulled) = (producer.flush(), consumer.pull());
    // Nothing will be released before all of this has returned.
    for _ in 0..1000 {
        assert!(pushed.wait_ms(0).unwrap().is_none());
        assert!(flushed.wait_ms(0).unwrap().is_none());
        assert!(pulled.wait_ms(0).unwrap().is_none());
        assert!(pulled.wait_timeout(Duration::ZERO).unwrap().is_none());
    }
    node.state().hold_acknowledgements = true;
    release_events(&node);
    let event = pulled.wait().unwrap().unwrap();
    let acknowledged = event.acknowledge();
    assert!(acknowledged.wait_ms(0).unwrap().is_none());
    release(&node);
    acknowledged.wait().unwrap();
    assert!(pushed.wait_ms(0).unwrap().is_some() && flushed.wait_ms(0).unwrap().is_some());
    assert!(pulled.wait_ms(0).unwrap().is_some() && acknowledged.wait_ms(0).unwrap().is_some());
}

/// Lets batches be stored, but no acknowledgement be answered.
fn release_events(node: &Node) {
    node.on_produce(|_| Action::Accept);
    node.change(|_| ());
}

#[test]
fn a_negative_timeout_and_a_very_long_one_wait_until_it_is_there() {
    // In the original 3000 ms were over at once, and 2^31 ms and more never began.
    for timeout_ms in [-1, i64::MIN, 3_000, 1 << 31, (1 << 32) + 1, i64::MAX] {
        let node = Node::start();
        let (_, _producer, future) = held(&node);
        let waiting = std::thread::spawn(move || future.wait_ms(timeout_ms));
        std::thread::sleep(SHORT);
        assert!(!waiting.is_finished());
        release(&node);
        assert_eq!(waiting.join().unwrap().unwrap().unwrap().get(), 0);
    }
}

#[test]
fn a_timeout_cancels_nothing() {
    let node = Node::start();
    let (topic, producer, future) = held(&node);
    let begun = Instant::now();
    assert!(future.wait_timeout(SHORT).unwrap().is_none());
    assert!(begun.elapsed() >= SHORT, "it was waited for");
    assert!(future.wait_ms(1).unwrap().is_none());
    release(&node);
    assert_eq!(future.wait().unwrap().get(), 0);
    assert_eq!(node.stored(&topic, 0).len(), 1);
    assert_eq!(producer.close().unwrap().acknowledged, 1);
}

#[test]
fn waiting_again_gives_the_same_value_again() {
    let node = Node::start();
    let topic = node.topic(1);
    let producer = topic.producer(ProducerOptions::default());
    let consumer = topic.consumer("c", ConsumerOptions::default()).unwrap();
    producer.push(json!({"n": 0}), "", None).unwrap();
    let pushed = producer.push(json!({"n": 1}), "", None).unwrap();
    let (flushed, first, second) = (producer.flush(), consumer.pull(), consumer.pull());
    for _ in 0..3 {
        assert_eq!(pushed.wait().unwrap().get(), 1);
        assert_eq!(pushed.clone().wait_ms(-1).unwrap().unwrap().get(), 1);
        flushed.wait().unwrap();
        assert_eq!(second.wait().unwrap().unwrap().metadata(), &json!({"n": 1}));
        assert_eq!(first.wait_timeout(SHORT).unwrap().unwrap().unwrap().id().get(), 0);
    }
    let acknowledged = first.wait().unwrap().unwrap().acknowledge();
    for _ in 0..3 {
        acknowledged.wait().unwrap();
        block_on(acknowledged.clone()).unwrap();
    }
    topic.mark_complete().unwrap();
    let end = consumer.pull();
    for _ in 0..3 {
        assert!(end.wait().unwrap().is_none());
    }
}

#[test]
fn errors_are_told_each_time() {
    let node = Node::start();
    node.on_produce(|_| Action::Refuse(ErrorCode::Poisoned));
    let topic = node.topic(1);
    let producer = topic.producer(ProducerOptions::default());
    let future = producer.push(json!({}), "", None).unwrap();
    let consumer = topic.consumer("c", ConsumerOptions::default()).unwrap();
    let pull = consumer.pull();
    consumer.close();
    for _ in 0..3 {
        let error = future.wait().unwrap_err();
        assert_eq!(error.reason(), "poisoned");
        assert!(error.to_string().contains("as the test wants it"), "{error}");
        assert_eq!(future.wait_ms(0).unwrap_err().to_string(), error.to_string());
        assert_eq!(
            block_on(future.clone()).unwrap_err().to_string(),
            error.to_string()
        );
        assert!(matches!(pull.wait(), Err(PullError::Closed)));
    }
    assert!(future.completed() && pull.completed());
    // The errors are the events' own: a flush has none.
    producer.flush().wait().unwrap();
}

#[test]
fn completed_says_whether_waiting_would_return_without_anybody_waiting() {
    let node = Node::start();
    let (topic, producer, pushed) = held(&node);
    let consumer = topic.consumer("c", ConsumerOptions::default()).unwrap();
    let (flushed, pulled) = (producer.flush(), consumer.pull());
    assert!(!pushed.completed() && !flushed.completed() && !pulled.completed());
    node.state().hold_acknowledgements = true;
    release_events(&node);
    // In the original a flush was complete only after somebody had waited for it.
    eventually("all are complete", || {
        pushed.completed() && flushed.completed() && pulled.completed()
    });
    let acknowledged = pulled.wait().unwrap().unwrap().acknowledge();
    assert!(!acknowledged.completed());
    release(&node);
    eventually("it is acknowledged", || acknowledged.completed());
    assert!(consumer.pull().wait_timeout(SHORT).unwrap().is_none());
}

#[test]
fn futures_can_be_awaited() {
    let node = Node::start();
    let topic = node.topic(1);
    let producer = topic.producer(ProducerOptions {
        batch_size: BatchSize::fixed(100),
        ..Default::default()
    });
    let consumer = topic.consumer("c", ConsumerOptions::default()).unwrap();
    let pull = consumer.pull();
    // An awaited event of an open batch makes it go.
    assert_eq!(
        block_on(producer.push(json!({"n": 1}), "", None).unwrap())
            .unwrap()
            .get(),
        0
    );
    let event = block_on(pull).unwrap().unwrap();
    assert_eq!(event.metadata(), &json!({"n": 1}));
    block_on(event.acknowledge()).unwrap();
    block_on(producer.flush()).unwrap();
}

/// Counts how often it is woken.
#[derive(Default)]
struct Bell(AtomicUsize);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

#[test]
fn every_task_that_polls_is_woken_and_those_that_gave_up_do_no_harm() {
    let node = Node::start();
    let (topic, producer, pushed) = held(&node);
    let consumer = topic.consumer("c", ConsumerOptions::default()).unwrap();
    let bells: Vec<Arc<Bell>> = (0..3).map(|_| Arc::default()).collect();
    let poll = |future: &mut (dyn Future<Output = bool> + Unpin), bell: usize| {
        let waker = Waker::from(Arc::clone(&bells[bell]));
        Pin::new(future).poll(&mut Context::from_waker(&waker))
    };
    // Two tasks of an executor share an event's future; a third one polls, and is dropped.
    let awaited = |future: PushFuture| Box::pin(async move { future.await.is_ok() });
    let (mut one, mut two) = (awaited(pushed.clone()), awaited(pushed.clone()));
    assert!(poll(&mut one, 0).is_pending() && poll(&mut two, 1).is_pending());
    let (flushed, pulled) = (producer.flush(), consumer.pull());
    let mut all = Box::pin(async move { flushed.await.is_ok() && pulled.await.is_ok_and(|it| it.is_some()) });
    assert!(poll(&mut all, 2).is_pending());
    let mut dropped = awaited(pushed);
    assert!(poll(&mut dropped, 2).is_pending());
    drop(dropped);
    assert_eq!(bells.iter().map(|bell| bell.0.load(SeqCst)).sum::<usize>(), 0);
    release(&node);
    eventually("all are woken", || {
        bells.iter().all(|bell| bell.0.load(SeqCst) > 0)
    });
    assert_eq!(poll(&mut one, 0), Poll::Ready(true));
    assert_eq!(poll(&mut two, 1), Poll::Ready(true));
    assert!(block_on(all));
}

#[test]
fn a_pull_that_is_only_asked_whether_its_event_is_there_leaves_it_to_the_next() {
    let node = Node::start();
    let topic = node.topic(1);
    let consumer = topic.consumer("c", ConsumerOptions::default()).unwrap();
    let bell = Arc::<Bell>::default();
    let waker = Waker::from(Arc::clone(&bell));
    let pull = consumer.pull();
    assert!(!pull.completed_or_wake(&waker));
    let producer = topic.producer(ProducerOptions::default());
    producer.push(json!({}), "", None).unwrap().wait().unwrap();
    eventually("it is woken", || bell.0.load(SeqCst) > 0);
    assert!(pull.completed_or_wake(&waker) && pull.completed());
    drop(pull);
    let event = consumer.pull().wait_timeout(Duration::from_secs(10)).unwrap();
    assert_eq!(event.unwrap().unwrap().id().get(), 0);
}

#[test]
fn futures_outlive_what_they_came_from() {
    let node = Node::start();
    let topic = node.topic(1);
    let producer = topic.producer(ProducerOptions {
        batch_size: BatchSize::fixed(100),
        ..Default::default()
    });
    let future = producer.push(json!({}), "", None).unwrap();
    let flush = producer.flush();
    drop((producer, topic));
    flush.wait().unwrap();
    assert!(future.completed());
    assert_eq!(future.wait().unwrap().get(), 0);
}

#[test]
fn a_pull_gives_its_event_again_and_from_several_threads() {
    let node = Node::start();
    let topic = node.topic(1);
    topic
        .producer(ProducerOptions::default())
        .push(json!({"n": 1}), "", None)
        .unwrap()
        .wait()
        .unwrap();
    let consumer = topic.consumer("c", ConsumerOptions::default()).unwrap();
    let pull = consumer.pull();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(pull.wait().unwrap().unwrap().id().get(), 0));
        }
    });
    assert!(pull.completed() && pull.wait_ms(0).unwrap().is_some());
}
