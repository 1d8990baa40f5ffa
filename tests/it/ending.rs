//! The end of topics and of partitions, and producers that say that they are done.

use std::time::Duration;

use mofka_client::{
    ConsumerOptions, DriverError, ErrorCode, Producer, ProducerOptions, TopicHandle, TopicOptions,
};
use mofka_tests::Node;
use serde_json::json;

const PATIENCE: Duration = Duration::from_secs(30);

fn producer(topic: &TopicHandle, name: &str) -> Producer {
    topic.producer(ProducerOptions {
        name: name.to_owned(),
        ..ProducerOptions::default()
    })
}

fn code(error: &DriverError) -> Option<ErrorCode> {
    error.code()
}

#[test]
fn a_topic_is_complete_when_all_of_its_producers_are_done_also_over_restarts() {
    let mut node = Node::start(&["--shards", "2"]);
    let options = TopicOptions::new("t").partitions(2).producers_expected(3);
    let topic = node.driver().create_topic(options).unwrap();
    let consumer = topic.consumer("c", ConsumerOptions::default()).unwrap();
    let first = producer(&topic, "rank 0");
    for n in 0..10 {
        first.push(json!({ "n": n }), "", None).unwrap();
    }
    let done = first.done().unwrap();
    assert_eq!((done.done, done.expected), (1, 3));
    assert!(first.push("{}", "", None).is_err(), "it is closed");
    node.kill();
    node.start_again();
    let topic = node.driver().open_topic("t").unwrap();
    assert_eq!((topic.info().producers_done, topic.info().complete), (1, false));
    // The same one again, as after a crash of its own, is no other one.
    assert_eq!(producer(&topic, "rank 0").done().unwrap().done, 1);
    // Those without a name are one each, however often they say so.
    let nameless = producer(&topic, "");
    assert_eq!(nameless.done().unwrap().done, 2);
    assert_eq!(nameless.done().unwrap().done, 2);
    assert!(!topic.info().complete);
    let last = producer(&topic, "rank 2");
    last.push(json!({"n": 10}), "", None).unwrap();
    assert_eq!(last.done().unwrap().done, 3);
    topic.refresh().unwrap();
    assert!(topic.info().complete);
    let late = producer(&topic, "late");
    let refused = late.push("{}", "", None).unwrap().wait().unwrap_err();
    assert_eq!(refused.reason(), "topic_complete");
    assert_eq!(code(&late.done().unwrap_err()), Some(ErrorCode::TopicComplete));
    assert_eq!(last.done().unwrap().done, 3, "saying it again is no error");
    let seen = consumer.events(PATIENCE).map(Result::unwrap).count();
    assert_eq!(seen, 11, "and then comes the end");
    node.kill();
    node.start_again();
    let topic = node.driver().open_topic("t").unwrap();
    assert_eq!((topic.info().producers_done, topic.info().complete), (3, true));
}

#[test]
fn a_topic_that_does_not_count_its_producers_says_so() {
    let node = Node::start(&["--shards", "1"]);
    let topic = node.driver().create_topic(TopicOptions::new("t")).unwrap();
    let error = producer(&topic, "one").done().unwrap_err();
    assert_eq!(code(&error), Some(ErrorCode::InvalidArgument));
    assert!(
        error.to_string().contains("does not count its producers"),
        "{error}"
    );
}

#[test]
fn a_complete_partition_takes_nothing_more_and_the_others_go_on() {
    let mut node = Node::start(&["--shards", "2"]);
    let topic = node
        .driver()
        .create_topic(TopicOptions::new("t").partitions(3))
        .unwrap();
    let of_one = ConsumerOptions {
        targets: vec![1],
        ..ConsumerOptions::default()
    };
    let reader = topic.consumer("of one", of_one.clone()).unwrap();
    let all = topic.consumer("all", ConsumerOptions::default()).unwrap();
    let some = producer(&topic, "");
    for n in 0..30 {
        some.push(json!({ "n": n }), "", None).unwrap();
    }
    some.flush().wait().unwrap();
    topic.mark_partition_complete(1).unwrap();
    topic.mark_partition_complete(1).unwrap();
    let error = topic.mark_partition_complete(3).unwrap_err();
    assert!(
        error.to_string().contains("3 partitions, and none with index 3"),
        "{error}"
    );
    for round in 0..2 {
        let refused = some.push("{}", "", Some(1)).unwrap().wait().unwrap_err();
        assert_eq!(refused.reason(), "topic_complete", "{refused}");
        assert!(
            refused
                .to_string()
                .contains("partition 1 of topic t is marked complete"),
            "{refused}"
        );
        // In turn means: among those that are open, for who knows.
        topic.refresh().unwrap();
        assert!(topic.partitions()[1].complete && !topic.info().complete);
        for _ in 0..3 {
            some.push("{}", "", None).unwrap().wait().unwrap();
        }
        // Who reads only that partition need not wait for the others.
        let again;
        let ends = if round == 0 {
            &reader
        } else {
            again = topic.consumer("again", of_one.clone()).unwrap();
            &again
        };
        let seen: Vec<_> = ends
            .events(PATIENCE)
            .map(|event| event.unwrap().id().get())
            .collect();
        assert!(seen.into_iter().eq(0..10));
        if round == 0 {
            node.kill();
            node.start_again();
        }
    }
    for _ in 0..36 {
        all.pull().wait_timeout(PATIENCE).unwrap().unwrap().unwrap();
    }
    assert!(
        all.pull()
            .wait_timeout(Duration::from_millis(50))
            .unwrap()
            .is_none(),
        "the others go on"
    );
    topic.mark_complete().unwrap();
    assert!(all.pull().wait_timeout(PATIENCE).unwrap().unwrap().is_none());
}
