//! Validators, partition selectors and serializers of a topic, the built-in ones and the application's own, through a real
//! node and a restart of it.

use std::time::Duration;

use bytes::Bytes;
use mofka_client::{
    BoxError, Consumer, ConsumerOptions, Data, Metadata, PartitionSelector, ProducerOptions, PullError,
    PushError, Selection, Serializer, TopicHandle, TopicOptions, Validator, register_partition_selector,
    register_serializer, register_validator,
};
use mofka_net::ErrorCode;
use mofka_tests::Node;
use mofka_tests::raw::RawClient;
use serde_json::{Map, Value, json};

const PATIENCE: Duration = Duration::from_secs(20);

fn pull(consumer: &Consumer) -> Result<(usize, Value), PullError> {
    let pulled = consumer.pull().wait_timeout(PATIENCE)?;
    let event = pulled
        .expect("an event comes in time")
        .expect("the topic goes on");
    Ok((event.partition(), event.metadata().clone()))
}

/// Everything that is stored, by partition and id.
fn all(topic: &TopicHandle, count: usize) -> Vec<(usize, Value)> {
    let consumer = topic.consumer("all", ConsumerOptions::default()).unwrap();
    let mut events: Vec<_> = (0..count).map(|_| pull(&consumer).unwrap()).collect();
    events.sort_by_key(|(partition, metadata)| (*partition, metadata["n"].as_u64(), metadata.to_string()));
    events
}

#[test]
fn built_in_components_are_stored_with_the_topic_and_work() {
    let mut node = Node::start(&["--shards", "2"]);
    let mut options = TopicOptions::new("jobs").partitions(4);
    options.validator = Some(json!({"type": "schema", "schema": {
        "type": "object",
        "required": ["node", "level"],
        "additionalProperties": {"type": "string"},
    }}));
    options.partition_selector = Some(json!({"type": "key_hash", "key": "node"}));
    options.serializer = Some(json!({"type": "property_list_serializer", "properties": ["node", "level"]}));
    node.driver().create_topic(options).unwrap();
    node.kill();
    node.start_again();
    let topic = node.driver().open_topic("jobs").unwrap();
    let producer = topic.producer(ProducerOptions::default());
    let mut sent = Vec::new();
    for n in 0..40 {
        let metadata = json!({"node": format!("c{}-0", n % 5), "level": format!("{n}")});
        producer.push(&metadata, "", None).unwrap();
        sent.push(metadata);
    }
    let refused = producer
        .push(json!({"node": "c0-0", "level": 3}), "", None)
        .unwrap_err();
    assert!(
        matches!(&refused, PushError::Rejected { reason } if reason.contains("'/level' - '3': 3 is not of type \"string\"")),
        "{refused}"
    );
    // The schema takes it, the serializer would lose it.
    let other = json!({"node": "c0-0", "level": "1", "more": "lost"});
    let refused = producer.push(other, "", None).unwrap_err();
    assert!(
        matches!(
            refused,
            PushError::Callback {
                what: "serializer",
                ..
            }
        ),
        "{refused}"
    );
    let report = producer.close().unwrap();
    assert_eq!((report.acknowledged, report.failed), (40, 0));

    let events = all(&topic, 40);
    for node in 0..5 {
        let name = format!("c{node}-0");
        let mut places: Vec<usize> = Vec::new();
        for (partition, metadata) in &events {
            if metadata["node"] == json!(name) {
                places.push(*partition);
            }
        }
        assert_eq!(places.len(), 8);
        places.dedup();
        assert_eq!(places.len(), 1, "{name} is in one partition");
    }
    for metadata in sent {
        assert_eq!(events.iter().filter(|(_, stored)| *stored == metadata).count(), 1);
    }
}

#[test]
fn a_schema_keeps_names_out_of_what_is_stored() {
    let node = Node::start(&["--shards", "1"]);
    let driver = node.driver();
    let schema = json!({"properties": {
        "temperature_kelvin": {"type": "number"},
        "detector_position": {"properties": {"horizontal": {"type": "number"}, "vertical": {"type": "number"}}},
        "severity": {"enum": ["information", "warning"]},
    }});
    let mut stored = Vec::new();
    for (name, serializer) in [
        ("compact", json!({"type": "schema", "schema": schema})),
        ("text", json!({"type": "default"})),
    ] {
        let mut options = TopicOptions::new(name);
        options.serializer = Some(serializer);
        let topic = driver.create_topic(options).unwrap();
        let producer = topic.producer(ProducerOptions::default());
        let events: Vec<Value> = (0..200_u32)
            .map(|n| {
                json!({
                    "temperature_kelvin": f64::from(n) / 7.0,
                    "detector_position": {"horizontal": n, "vertical": -f64::from(n)},
                    "severity": if n % 3 == 0 { "warning" } else { "information" },
                })
            })
            .collect();
        for metadata in &events {
            producer.push(metadata, "", None).unwrap();
        }
        producer.close().unwrap();
        let consumer = topic.consumer("reader", ConsumerOptions::default()).unwrap();
        for metadata in events {
            assert_eq!(pull(&consumer).unwrap(), (0, metadata));
        }
        stored.push(topic.partition_status(0).unwrap().bytes);
    }
    // With what the node keeps of each event beside its metadata.
    assert!(stored[0] * 3 < stored[1] * 2, "{stored:?}");
}

#[test]
fn a_topic_takes_only_what_its_pattern_matches() {
    let node = Node::start(&["--shards", "1"]);
    let driver = node.driver();
    let mut options = TopicOptions::new("alerts");
    options.validator = Some(json!({"type": "eventbridge", "schema": {
        "level": ["error", "fatal"],
        "$or": [{"node": [{"prefix": "c1-"}]}, {"count": [{"numeric": [">", 10]}]}],
    }}));
    let topic = driver.create_topic(options.clone()).unwrap();
    let producer = topic.producer(ProducerOptions::default());
    producer
        .push(json!({"level": "fatal", "node": "c1-0"}), "", None)
        .unwrap();
    producer
        .push(json!({"level": "error", "node": "c2-0", "count": 11}), "", None)
        .unwrap();
    for metadata in [
        json!({"level": "info", "node": "c1-0"}),
        json!({"level": "error", "node": "c2-0", "count": 10}),
        json!({}),
    ] {
        let refused = producer.push(&metadata, "", None).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "Metadata object does not satisfy eventbridge pattern"
        );
    }
    assert_eq!(producer.close().unwrap().acknowledged, 2);
    options.name = "nonsense".to_owned();
    options.validator = Some(json!({"type": "eventbridge", "schema": {"a": [{"nope": 1}]}}));
    let refused = driver.create_topic(options).unwrap_err().to_string();
    assert!(refused.contains("unexpected rule: \"nope\""), "{refused}");
    assert!(!driver.topic_exists("nonsense").unwrap(), "nothing was created");
}

/// The running example of the original's documentation: collisions have an energy below a bound.
struct Energy {
    max: u64,
}

impl Energy {
    fn new(config: &Map<String, Value>) -> Result<Self, BoxError> {
        let max = config.get("energy_max").and_then(Value::as_u64);
        Ok(Self {
            max: max.ok_or("\"energy_max\" has to be a number")?,
        })
    }

    fn of(&self, metadata: &Metadata) -> Result<u64, BoxError> {
        let energy = metadata.value().get("energy").and_then(Value::as_u64);
        let energy = energy.ok_or("there is no energy")?;
        match energy < self.max {
            true => Ok(energy),
            false => Err(format!("an energy of {energy} is not below {}", self.max).into()),
        }
    }
}

impl Validator for Energy {
    fn validate(&self, metadata: &Metadata, _: &Data) -> Result<(), BoxError> {
        self.of(metadata).map(|_| ())
    }
}

impl PartitionSelector for Energy {
    fn select(&self, event: &Selection<'_>) -> Result<usize, BoxError> {
        match self.of(event.metadata)? {
            // To be found out.
            13 => panic!("13 is never chosen"),
            14 => Ok(event.partitions.len()),
            energy => Ok(usize::try_from(
                energy * event.partitions.len() as u64 / self.max,
            )?),
        }
    }
}

impl Serializer for Energy {
    fn serialize(&self, metadata: &Metadata, bytes: &mut Vec<u8>) -> Result<(), BoxError> {
        bytes.extend_from_slice(&self.of(metadata)?.to_le_bytes());
        Ok(())
    }

    fn deserialize(&self, bytes: &Bytes) -> Result<Metadata, BoxError> {
        let energy = u64::from_le_bytes(bytes.as_ref().try_into()?);
        if energy == 99 {
            return Err("99 cannot be".into());
        }
        Ok(json!({"energy": energy}).into())
    }
}

fn collisions() -> TopicOptions {
    let component =
        |what: &str| Some(json!({"type": format!("energy_{what}:libenergy_{what}.so"), "energy_max": 100}));
    let mut options = TopicOptions::new("collisions").partitions(4);
    options.validator = component("validator");
    options.partition_selector = component("selector");
    options.serializer = component("serializer");
    options
}

#[test]
fn components_of_the_application_work_once_they_are_registered() {
    let node = Node::start(&["--shards", "1"]);
    // Whoever administrates a node need not have the application's types.
    let topic = node.driver().create_topic(collisions()).unwrap();
    let unknown = topic.check_components().unwrap_err();
    assert!(unknown.is_unknown_type, "{unknown}");
    let producer = topic.producer(ProducerOptions::default());
    let refused = producer.push(json!({"energy": 1}), "", None).unwrap_err();
    assert!(matches!(refused, PushError::Component(_)), "{refused}");
    assert!(topic.consumer("all", ConsumerOptions::default()).is_err());

    register_validator("energy_validator", Energy::new).unwrap();
    register_partition_selector("energy_selector", Energy::new).unwrap();
    register_serializer("energy_serializer", Energy::new).unwrap();
    let topic = node.driver().open_topic("collisions").unwrap();
    topic.check_components().unwrap();
    let producer = topic.producer(ProducerOptions::default());
    for energy in [99, 0, 24, 25, 50, 75] {
        producer.push(json!({"energy": energy}), "", None).unwrap();
    }
    for (metadata, part) in [
        (json!({"energy": 100}), "an energy of 100 is not below 100"),
        (json!({}), "there is no energy"),
        (
            json!({"energy": 13}),
            "the partition selector failed: it panicked: 13 is never chosen",
        ),
        (
            json!({"energy": 14}),
            "the partition selector failed: it chose partition 4, and the topic has 4",
        ),
    ] {
        let refused = producer.push(&metadata, "", None).unwrap_err();
        assert_eq!(refused.to_string(), part);
    }
    assert_eq!(producer.close().unwrap().acknowledged, 6);

    let options = || ConsumerOptions {
        targets: vec![3],
        ..ConsumerOptions::default()
    };
    let consumer = topic.consumer("last quarter", options()).unwrap();
    let failed = pull(&consumer).unwrap_err();
    assert!(
        matches!(&failed, PullError::Metadata { event_id: 0, partition: 3, reason } if reason.as_ref() == "99 cannot be"),
        "{failed}"
    );
    assert_eq!(
        pull(&consumer).unwrap(),
        (3, json!({"energy": 75})),
        "only that event fails"
    );
    let first = ConsumerOptions {
        targets: vec![0],
        ..ConsumerOptions::default()
    };
    let consumer = topic.consumer("first quarter", first).unwrap();
    assert_eq!(pull(&consumer).unwrap(), (0, json!({"energy": 0})));
    assert_eq!(pull(&consumer).unwrap(), (0, json!({"energy": 24})));
}

#[test]
fn the_node_enforces_validators_that_it_knows_when_the_topic_says_so() {
    let mut node = Node::start(&["--shards", "1"]);
    let driver = node.driver();
    let schema =
        json!({"type": "object", "required": ["energy"], "properties": {"energy": {"type": "number"}}});
    let pattern = json!({"energy": [{"exists": true}]});
    for (name, kind, rule) in [("s", "schema", &schema), ("p", "eventbridge", &pattern)] {
        let validator = json!({"type": kind, "schema": rule, "enforce": true});
        let topic = driver
            .create_topic(TopicOptions {
                validator: Some(validator),
                ..TopicOptions::new(name)
            })
            .unwrap();
        // A client that looks itself.
        let producer = topic.producer(ProducerOptions::default());
        producer
            .push(json!({"energy": 1}), "", None)
            .unwrap()
            .wait()
            .unwrap();
        assert!(producer.push(json!({}), "", None).is_err());
    }
    // One that does not: it speaks the protocol, and pushes what it likes.
    for round in 0..2 {
        let (mut client, _) = RawClient::hello(&node.group_file());
        for name in ["s", "p"] {
            let partition = node.driver().open_topic(name).unwrap().partitions()[0].id;
            let mixed: [(&str, &[u8]); 2] = [(r#"{"energy":2}"#, b""), (r#"{"power":2}"#, b"")];
            let refused = client.produce_now(partition, &mixed, None).unwrap_err();
            assert_eq!(refused.code, ErrorCode::InvalidMetadata, "{refused}");
            assert!(
                refused.to_string().contains("event 1 of a batch of 2: Metadata"),
                "{refused}"
            );
            let taken = client.produce_now(partition, &mixed[..1], None).unwrap();
            assert_eq!(
                taken.base_event_id.get(),
                1 + round,
                "the refused batch took no ids"
            );
        }
        node.kill();
        node.start_again();
    }
    // What it cannot do is refused when the topic is created.
    let driver = node.driver();
    for (validator, serializer, part) in [
        (
            json!({"type": "energy", "enforce": true}),
            json!(null),
            "runs in clients only",
        ),
        (
            json!({"type": "schema", "schema": schema, "enforce": "yes"}),
            json!(null),
            "true or false",
        ),
        (
            json!({"type": "schema", "schema": schema, "enforce": true}),
            json!({"type": "schema", "schema": schema}),
            "cannot read metadata of a serializer of type \"schema\"",
        ),
    ] {
        let refused = driver
            .create_topic(TopicOptions {
                validator: Some(validator),
                serializer: Some(serializer),
                ..TopicOptions::new("refused")
            })
            .unwrap_err();
        assert!(refused.to_string().contains(part), "{refused}");
    }
}
