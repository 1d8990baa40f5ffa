use proptest::prelude::*;
use serde_json::json;

use super::*;

fn topic(id: u128, name: &str) -> TopicRecord {
    TopicRecord {
        id: Uuid::from_u128(id),
        name: name.to_owned(),
        durability: Durability::Written,
        validator: json!({"type": "default"}),
        partition_selector: Value::Null,
        serializer: json!({"type": "x", "depth": [1, 2.5, "é"]}),
        created_us: 7,
        complete: false,
        retention: Retention::default(),
        producers_expected: 0,
        producers_done: Default::default(),
    }
}

fn altered(id: u128, bytes_max: Option<u64>) -> CatalogRecord {
    CatalogRecord::TopicAltered {
        topic: Uuid::from_u128(id),
        retention: Retention {
            bytes_max,
            ..Retention::default()
        },
    }
}

fn partition(id: u128, topic: u128, index: u32) -> PartitionRecord {
    PartitionRecord {
        id: Uuid::from_u128(id),
        topic: Uuid::from_u128(topic),
        index,
        kind: PartitionKind::Memory,
        rank: 0,
        shard: 1,
        created_us: 8,
        config: json!({}),
        complete: false,
        refers: false,
        sourced: false,
    }
}

fn created(id: u128, name: &str) -> CatalogRecord {
    CatalogRecord::TopicCreated(topic(id, name))
}

fn added(id: u128, topic: u128, index: u32) -> CatalogRecord {
    CatalogRecord::PartitionAdded(partition(id, topic, index))
}

fn catalog(records: &[CatalogRecord]) -> Catalog {
    let mut catalog = Catalog::default();
    for record in records {
        catalog.apply(record).unwrap();
    }
    catalog
}

#[test]
fn golden_json() {
    let text = |record: CatalogRecord| String::from_utf8(record.encode()).unwrap();
    let deleted = text(CatalogRecord::TopicDeleted {
        topic: Uuid::from_u128(5),
    });
    assert_eq!(
        deleted,
        r#"{"topic_deleted":{"topic":"00000000-0000-0000-0000-000000000005"}}"#
    );
    assert_eq!(
        text(added(6, 5, 2)),
        "{\"partition_added\":{\"id\":\"00000000-0000-0000-0000-000000000006\",\
         \"topic\":\"00000000-0000-0000-0000-000000000005\",\"index\":2,\"kind\":\"memory\",\"rank\":0,\"shard\":1,\
         \"created_us\":8,\"config\":{}}}"
    );
    assert!(text(created(5, "t")).starts_with("{\"topic_created\":{\"id\":"));
    assert!(text(created(5, "t")).contains("\"durability\":\"written\""));
}

#[test]
fn unknown_and_missing_fields_are_refused() {
    for bad in [
        r#"{"topic_deleted":{"topic":"00000000-0000-0000-0000-000000000005","more":1}}"#,
        r#"{"topic_deleted":{}}"#,
        r#"{"topic_renamed":{}}"#,
        r#"{"node_started":{"node":"00000000-0000-0000-0000-000000000005","started_us":-1}}"#,
        "",
        "[]",
        "\u{0}",
    ] {
        let error = CatalogRecord::decode(bad.as_bytes()).unwrap_err();
        assert_eq!(error.bytes, bad.len());
    }
    let mut value: Value = serde_json::from_slice(&created(1, "t").encode()).unwrap();
    value["topic_created"]["surprise"] = json!(1);
    let error = CatalogRecord::decode(value.to_string().as_bytes()).unwrap_err();
    assert!(error.reason.contains("surprise"), "{error}");
}

#[test]
fn a_topic_is_altered_and_records_from_before_retention_are_read() {
    let mut catalog = catalog(&[created(1, "a")]);
    catalog.apply(&altered(1, Some(5))).unwrap();
    let retention = |catalog: &Catalog| catalog.topic("a").map(|topic| topic.retention.clone()).unwrap();
    assert_eq!(retention(&catalog).bytes_max, Some(5));
    catalog.apply(&altered(1, None)).unwrap();
    assert!(retention(&catalog).keeps_all());
    let before = String::from_utf8(created(1, "a").encode()).unwrap();
    assert!(
        !before.contains("retention"),
        "what has no retention is stored as it always was: {before}"
    );
    assert_eq!(CatalogRecord::decode(before.as_bytes()).unwrap(), created(1, "a"));
    let text = String::from_utf8(altered(5, Some(7)).encode()).unwrap();
    assert_eq!(
        text,
        r#"{"topic_altered":{"topic":"00000000-0000-0000-0000-000000000005","retention":{"bytes_max":7}}}"#
    );
}

#[test]
fn a_topic_is_complete_with_the_last_of_its_producers_and_a_partition_on_its_own() {
    let one = Uuid::from_u128(1);
    let expecting = CatalogRecord::TopicCreated(TopicRecord {
        producers_expected: 2,
        ..topic(1, "a")
    });
    let done = |producer: &str| CatalogRecord::ProducerDone {
        topic: one,
        producer: producer.to_owned(),
    };
    let mut catalog = catalog(&[expecting, added(10, 1, 0), added(11, 1, 1), done("x"), done("x")]);
    assert!(!catalog.topic("a").unwrap().complete, "the same one twice");
    let complete = CatalogRecord::PartitionCompleted { topic: one, index: 1 };
    catalog.apply(&complete).unwrap();
    let partitions: Vec<bool> = catalog
        .partitions_of(one)
        .map(|partition| partition.complete)
        .collect();
    assert_eq!(partitions, [false, true]);
    catalog.apply(&done("y")).unwrap();
    assert!(catalog.topic("a").unwrap().complete);
    // Also in what a rewrite leaves of it.
    let mut again = Catalog::default();
    for record in catalog.snapshot() {
        again
            .apply(&CatalogRecord::decode(&record.encode()).unwrap())
            .unwrap();
    }
    assert_eq!(again, catalog);
    assert_eq!(
        catalog.apply(&CatalogRecord::PartitionCompleted { topic: one, index: 2 }),
        Err(CatalogError::UnknownPartition { topic: one, index: 2 })
    );
}

#[test]
fn records_make_the_catalog() {
    let mut catalog = catalog(&[
        created(1, "b"),
        created(2, "a"),
        added(10, 1, 0),
        added(11, 1, 1),
        added(12, 2, 0),
        CatalogRecord::TopicCompleted {
            topic: Uuid::from_u128(1),
        },
        CatalogRecord::NodeStarted {
            node: Uuid::from_u128(77),
            started_us: 9,
        },
    ]);
    let names: Vec<&str> = catalog.topics().map(|topic| topic.name.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(catalog.topic("b").map(|topic| topic.complete), Some(true));
    assert_eq!(catalog.topic_by_id(Uuid::from_u128(2)), Some(&topic(2, "a")));
    let ids = |topic| {
        catalog
            .partitions_of(Uuid::from_u128(topic))
            .map(|p| p.id.as_u128())
            .collect::<Vec<_>>()
    };
    assert_eq!((ids(1), ids(2), ids(3)), (vec![10, 11], vec![12], vec![]));
    assert_eq!(catalog.partitions().count(), 3);
    assert_eq!(catalog.partition(Uuid::from_u128(11)), Some(&partition(11, 1, 1)));
    assert_eq!(catalog.last_start(), Some((Uuid::from_u128(77), 9)));
    catalog
        .apply(&CatalogRecord::TopicDeleted {
            topic: Uuid::from_u128(1),
        })
        .unwrap();
    assert_eq!(
        (catalog.topic("b"), catalog.partition(Uuid::from_u128(11))),
        (None, None)
    );
    catalog.apply(&created(3, "b")).unwrap();
    assert_eq!(catalog.topic("b").map(|topic| topic.id), Some(Uuid::from_u128(3)));
}

#[test]
fn contradictions_are_refused_and_change_nothing() {
    let mut catalog = catalog(&[created(1, "a"), added(10, 1, 0)]);
    let before = catalog.clone();
    let one = Uuid::from_u128(1);
    let nine = Uuid::from_u128(9);
    let cases = [
        (
            created(2, "a"),
            CatalogError::TopicExists { name: "a".to_owned() },
        ),
        (
            created(1, "b"),
            CatalogError::IdExists {
                what: "topic",
                id: one,
            },
        ),
        (
            created(2, ".."),
            CatalogError::Name(NameError::Directory {
                name: "..".to_owned(),
            }),
        ),
        (added(11, 9, 0), CatalogError::UnknownTopic { topic: nine }),
        (
            added(10, 1, 1),
            CatalogError::IdExists {
                what: "partition",
                id: Uuid::from_u128(10),
            },
        ),
        (
            added(11, 1, 2),
            CatalogError::PartitionIndex {
                topic: one,
                index: 2,
                expected: 1,
            },
        ),
        (altered(9, None), CatalogError::UnknownTopic { topic: nine }),
        (
            CatalogRecord::TopicCompleted { topic: nine },
            CatalogError::UnknownTopic { topic: nine },
        ),
        (
            CatalogRecord::TopicDeleted { topic: nine },
            CatalogError::UnknownTopic { topic: nine },
        ),
    ];
    for (record, expected) in cases {
        assert_eq!(catalog.apply(&record), Err(expected));
        assert_eq!(catalog, before);
    }
}

fn changes() -> impl Strategy<Value = CatalogRecord> {
    prop_oneof![
        (1..6_u128, "[a-c]", any::<bool>()).prop_map(|(id, name, complete)| {
            CatalogRecord::TopicCreated(TopicRecord {
                complete,
                producers_expected: u32::try_from(id % 3).unwrap(),
                ..topic(id, &name)
            })
        }),
        (1..30_u128, 1..6_u128, 0..3_u32).prop_map(|(id, topic, index)| added(id, topic, index)),
        (1..6_u128).prop_map(|id| CatalogRecord::TopicCompleted {
            topic: Uuid::from_u128(id)
        }),
        (1..6_u128, 0..3_u32).prop_map(|(id, index)| CatalogRecord::PartitionCompleted {
            topic: Uuid::from_u128(id),
            index,
        }),
        (1..6_u128, "[a-c]").prop_map(|(id, producer)| CatalogRecord::ProducerDone {
            topic: Uuid::from_u128(id),
            producer,
        }),
        (1..6_u128, prop::option::of(1..99_u64)).prop_map(|(id, bytes_max)| altered(id, bytes_max)),
        (1..6_u128).prop_map(|id| CatalogRecord::TopicDeleted {
            topic: Uuid::from_u128(id)
        }),
        (any::<u128>(), any::<u64>()).prop_map(|(id, started_us)| CatalogRecord::NodeStarted {
            node: Uuid::from_u128(id),
            started_us
        }),
    ]
}

proptest! {
    #[test]
    fn what_was_stored_is_read(record in changes()) {
        prop_assert_eq!(CatalogRecord::decode(&record.encode()).unwrap(), record);
    }

    #[test]
    fn a_snapshot_gives_the_catalog_again(records in prop::collection::vec(changes(), 0..80)) {
        let mut found = Catalog::default();
        for record in &records {
            found.apply(record).ok();
        }
        prop_assert_eq!(catalog(&found.snapshot()), found);
    }

    #[test]
    fn decode_never_panics(bytes: Vec<u8>) {
        CatalogRecord::decode(&bytes).ok();
    }
}
