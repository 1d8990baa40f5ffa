//! Events that the node picks: by their metadata, and with the views of their data that were declared.

use std::time::Duration;

use mofka_client::{
    Consumer, ConsumerError, ConsumerOptions, DataSelector, Driver, ProducerOptions, PullError, Recipe,
    Start, TopicHandle, TopicOptions,
};
use mofka_tests::Node;
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(30);
const COUNT: u64 = 3000;

fn metadata(n: u64) -> Value {
    let class = if n % 100 == 37 { "rare" } else { "common" };
    json!({"n": n, "class": class, "text": "a \"quoted\" line\n", "note": {"class": "rare"}})
}

fn data(n: u64) -> Vec<u8> {
    (0..200 + n % 50).map(|place| (place * 7 + n) as u8).collect()
}

fn produce(topic: &TopicHandle, range: std::ops::Range<u64>) {
    let producer = topic.producer(ProducerOptions::default());
    for n in range.clone() {
        producer.push(metadata(n), data(n), Some(n as usize)).unwrap();
    }
    assert_eq!(producer.close().unwrap().acknowledged, range.end - range.start);
}

fn rare() -> Option<Value> {
    Some(json!({"class": ["rare"]}))
}

fn consumer(topic: &TopicHandle, name: &str, data_selector: DataSelector) -> Consumer {
    let options = ConsumerOptions {
        filter: rare(),
        data_selector,
        ..ConsumerOptions::default()
    };
    topic.consumer(name, options).unwrap()
}

fn lags(driver: &Driver, name: &str) -> Vec<u64> {
    let consumers = driver.list_consumers("t").unwrap();
    let of_it = consumers.iter().filter(|consumer| consumer.consumer == name);
    of_it.map(|consumer| consumer.lag).collect()
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..PATIENCE.as_millis() / 20 {
        if holds() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("waited for: {what}");
}

#[test]
fn only_what_matches_comes_and_the_cursor_moves_past_the_rest() {
    let mut node = Node::start(&["--shards", "2"]);
    let driver = node.driver();
    let topic = driver.create_topic(TopicOptions::new("t").partitions(2)).unwrap();
    produce(&topic, 0..COUNT);
    for round in 0..2 {
        // In the second round, all of it comes from the device.
        if round == 1 {
            node.kill();
            node.start_again();
        }
        let name = format!("round {round}");
        let filtered = consumer(&topic, &name, DataSelector::all());
        let mut seen = Vec::new();
        let end = COUNT + 100 * round;
        for _ in 0..end / 100 {
            let event = filtered.pull().wait_timeout(PATIENCE).unwrap().unwrap().unwrap();
            let n = event.metadata()["n"].as_u64().unwrap();
            assert_eq!(event.metadata(), &metadata(n));
            assert_eq!(event.data().to_bytes(), data(n));
            assert_eq!((event.partition() as u64, event.id().get()), (n % 2, n / 2));
            event.acknowledge().wait().unwrap();
            seen.push(n);
        }
        seen.sort_unstable();
        assert!(seen.into_iter().eq((0..end).filter(|n| n % 100 == 37)));
        assert!(
            filtered
                .pull()
                .wait_timeout(Duration::from_millis(50))
                .unwrap()
                .is_none()
        );
        // Nothing is left to look at, in no partition: also where the filter let nothing through at the end, or ever.
        eventually("no lag", || lags(&driver, &name) == [0, 0]);
        // What comes later is found too, and was not there before.
        let next = end + 37;
        produce(&topic, end..end + 100);
        let event = filtered.pull().wait_timeout(PATIENCE).unwrap().unwrap().unwrap();
        assert_eq!(event.metadata()["n"], next);
        filtered.close();
        // The last one was not acknowledged: it comes again, and nothing before it.
        let again = consumer(&topic, &name, DataSelector::none());
        let event = again.pull().wait_timeout(PATIENCE).unwrap().unwrap().unwrap();
        assert_eq!(event.metadata()["n"], next);
        assert!(event.data().is_empty());
    }
    topic.mark_complete().unwrap();
    let last = consumer(&topic, "last", DataSelector::none());
    let count = last.events(PATIENCE).map(Result::unwrap).count() as u64;
    assert_eq!(count, (COUNT + 200) / 100, "and then comes the end");
}

#[test]
fn a_filter_does_not_move_the_cursor_past_what_is_not_acknowledged() {
    let node = Node::start(&["--shards", "1"]);
    let driver = node.driver();
    let topic = driver.create_topic(TopicOptions::new("t")).unwrap();
    produce(&topic, 0..300);
    let filtered = consumer(&topic, "c", DataSelector::none());
    let events: Vec<_> = filtered.events(PATIENCE).take(3).map(Result::unwrap).collect();
    // What does not match before the first one counts as acknowledged, and no more.
    eventually("the cursor is at the first", || lags(&driver, "c") == [300 - 37]);
    // The events between the first and the second are passed with the second.
    events[1].acknowledge().wait().unwrap();
    assert_eq!(lags(&driver, "c"), [300 - 138]);
    events[2].acknowledge().wait().unwrap();
    eventually("nothing after it matches", || lags(&driver, "c") == [0]);
    // One that looks from the beginning leaves the cursor where it is until it acknowledges.
    let options = ConsumerOptions {
        filter: rare(),
        start: Start::First,
        ..ConsumerOptions::default()
    };
    let other = topic.consumer("other", options).unwrap();
    let first = other.pull().wait_timeout(PATIENCE).unwrap().unwrap().unwrap();
    std::thread::sleep(Duration::from_millis(100));
    let cursor = || {
        driver
            .list_consumers("t")
            .unwrap()
            .iter()
            .find(|c| c.consumer == "other")
            .map(|c| c.lag)
    };
    assert_eq!(cursor(), Some(300));
    first.acknowledge().wait().unwrap();
    assert_eq!(cursor(), Some(300 - 38));
}

#[test]
fn where_the_node_cannot_read_metadata_the_consumer_filters() {
    let node = Node::start(&["--shards", "1"]);
    let driver = node.driver();
    let schema = json!({"type": "object", "properties": {
        "n": {"type": "integer"}, "class": {"enum": ["rare", "common"]}, "text": {"type": "string"}, "note": {"type": "object"}}});
    let topic = driver
        .create_topic(TopicOptions {
            serializer: Some(json!({"type": "schema", "schema": schema})),
            ..TopicOptions::new("t")
        })
        .unwrap();
    produce(&topic, 0..1000);
    let filtered = consumer(&topic, "c", DataSelector::all());
    for n in (0..1000).filter(|n| n % 100 == 37) {
        let event = filtered.pull().wait_timeout(PATIENCE).unwrap().unwrap().unwrap();
        assert_eq!(event.metadata()["n"], n);
        assert_eq!(event.data().to_bytes(), data(n));
        event.acknowledge().wait().unwrap();
    }
    eventually("no lag", || lags(&driver, "c") == [0]);
}

#[test]
fn what_is_no_pattern_is_refused_before_anything_else() {
    let node = Node::start(&["--shards", "1"]);
    let topic = node.driver().create_topic(TopicOptions::new("t")).unwrap();
    let options = ConsumerOptions {
        filter: Some(json!({"class": [{"prefixx": "a"}]})),
        ..ConsumerOptions::default()
    };
    let refused = topic.consumer("c", options).unwrap_err();
    assert!(matches!(refused, ConsumerError::Filter(_)));
    assert!(
        refused
            .to_string()
            .contains("unexpected rule: \"prefixx\" at $[\"class\"][0]"),
        "{refused}"
    );
}

#[test]
fn declared_views_come_with_the_events_and_only_their_bytes_are_read() {
    const EVENT_BYTES: u64 = 1 << 20;
    const COUNT: u64 = 60;
    let mut node = Node::start(&["--shards", "1"]);
    let topic = node.driver().create_topic(TopicOptions::new("t")).unwrap();
    let image = |n: u64| -> Vec<u8> {
        (0..EVENT_BYTES)
            .map(|at| (at / 4099 + at * 3 + n) as u8)
            .collect()
    };
    let producer = topic.producer(ProducerOptions::default());
    for n in 0..COUNT {
        producer.push(json!({ "n": n }), image(n), None).unwrap();
    }
    assert_eq!(producer.close().unwrap().acknowledged, COUNT);
    node.kill();
    node.start_again();
    let read_bytes = || node.driver().node_status(0).unwrap().shards[0].reads.device_bytes;
    // A tenth of each event, in two blocks half an event apart.
    let block = EVENT_BYTES / 20;
    let gap = EVENT_BYTES / 2 - block;
    let recipe = Recipe::new().strided_view(0, 2, block, gap);
    let selected = |n: u64| -> Vec<u8> {
        let image = image(n);
        let half = (EVENT_BYTES / 2) as usize;
        [&image[..block as usize], &image[half..half + block as usize]].concat()
    };
    let views = recipe.clone();
    let selectors = [
        ("declared", DataSelector::views(recipe)),
        (
            "asked for",
            DataSelector::new(move |_, whole| Ok(views.apply(whole)?)),
        ),
    ];
    for (name, data_selector) in selectors {
        let before = read_bytes();
        let options = ConsumerOptions {
            data_selector,
            ..ConsumerOptions::default()
        };
        let consumer = topic.consumer(name, options).unwrap();
        for n in 0..COUNT {
            let event = consumer.pull().wait_timeout(PATIENCE).unwrap().unwrap().unwrap();
            assert_eq!(event.descriptor().bytes(), 2 * block);
            assert!(event.data().to_bytes() == selected(n), "{name}: event {n}");
        }
        let read = read_bytes() - before;
        let share = read as f64 / (COUNT * EVENT_BYTES) as f64;
        println!(
            "{name}: {read} bytes read for {} selected, {share:.3} of all",
            COUNT * 2 * block
        );
        assert!(
            (2 * block * COUNT..=EVENT_BYTES * COUNT * 15 / 100).contains(&read),
            "{name}: {read}"
        );
    }
}

#[test]
fn a_view_that_does_not_fit_fails_only_its_event() {
    let node = Node::start(&["--shards", "1"]);
    let topic = node.driver().create_topic(TopicOptions::new("t")).unwrap();
    let producer = topic.producer(ProducerOptions::default());
    for data in ["abcdefghij", "abc", "", "0123456789"] {
        producer.push("{}", data, None).unwrap();
    }
    producer.close().unwrap();
    let options = ConsumerOptions {
        data_selector: DataSelector::views(Recipe::new().sub_view(1, 9).strided_view(0, 2, 2, 3)),
        ..ConsumerOptions::default()
    };
    let consumer = topic.consumer("c", options).unwrap();
    let next = || {
        consumer
            .pull()
            .wait_timeout(PATIENCE)
            .map(|pulled| pulled.unwrap().unwrap().data().to_bytes())
    };
    assert_eq!(next().unwrap(), "bcgh");
    assert!(matches!(next(), Err(PullError::Callback { event_id: 1, .. })));
    assert_eq!(next().unwrap(), "");
    assert_eq!(next().unwrap(), "1267");
}
