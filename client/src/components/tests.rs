//! Components on their own: what they take, what they refuse, and what they say.

use std::sync::Arc;

use bytes::Bytes;
use mofka_log::PartitionKind;
use mofka_net::control::PartitionInfo;
use mofka_plugins::LibraryPolicy;
use proptest::prelude::*;
use serde_json::{Value, json};
use uuid::Uuid;

use super::registry::{SELECTORS, SERIALIZERS, VALIDATORS};
use super::*;
use crate::data::Data;
use crate::metadata::Metadata;

fn validator(document: &Value) -> Arc<dyn Validator> {
    VALIDATORS
        .make(document, &LibraryPolicy::Never)
        .unwrap()
        .expect("it looks at events")
}

fn verdict(validator: &dyn Validator, metadata: Value) -> Result<(), String> {
    let verdict = validator.validate(&Metadata::from(metadata), &Data::empty());
    verdict.map_err(|error| error.to_string())
}

fn serializer(document: &Value) -> Arc<dyn Serializer> {
    SERIALIZERS
        .make(document, &LibraryPolicy::Never)
        .unwrap()
        .expect("it is not the text")
}

fn refusal<T: ?Sized>(registry: &registry::Registry<T>, document: &Value) -> String {
    match registry.make(document, &LibraryPolicy::Never) {
        Ok(_) => panic!("{document} was taken"),
        Err(error) => error.to_string(),
    }
}

fn partitions(count: u32) -> Vec<PartitionInfo> {
    let partition = |index: u32| PartitionInfo {
        id: Uuid::from_u128(index.into()),
        index,
        kind: PartitionKind::Default,
        rank: 0,
        shard: 0,
        complete: false,
        addresses: Vec::new(),
    };
    (0..count).map(partition).collect()
}

#[test]
fn documents_name_a_type_or_are_of_the_default_one() {
    for document in [
        json!(null),
        json!({}),
        json!({"type": "default"}),
        json!({"type": "default", "other": 1}),
    ] {
        assert!(
            VALIDATORS
                .make(&document, &LibraryPolicy::Never)
                .unwrap()
                .is_none(),
            "{document}"
        );
        assert!(
            SELECTORS
                .make(&document, &LibraryPolicy::Never)
                .unwrap()
                .is_none(),
            "{document}"
        );
        assert!(
            SERIALIZERS
                .make(&document, &LibraryPolicy::Never)
                .unwrap()
                .is_none(),
            "{document}"
        );
    }
    for document in [json!([]), json!("default"), json!({"type": 1})] {
        let told = refusal(&VALIDATORS, &document);
        assert!(
            told.starts_with("Cannot create validator from Metadata: invalid"),
            "{told}"
        );
    }
}

#[test]
fn types_that_are_not_known_are_looked_for_in_libraries() {
    let unknown = |kind: &str, policy: &LibraryPolicy| {
        let made = SELECTORS.make(&json!({"type": kind}), policy);
        let error = made.err().expect("there is no such type");
        assert!(error.is_unknown_type, "{error}");
        error.to_string()
    };
    let search = LibraryPolicy::SearchPath;
    let told = unknown("by_moon:libtests_moon.so", &search);
    assert!(
        told.starts_with(
            "Cannot create partition selector from Metadata: Could not dlopen libtests_moon.so: libtests_moon.so: "
        ) && told.ends_with("; no partition selector of type \"by_moon\" is known in this process without it"),
        "{told}"
    );
    let told = unknown("tests_by_moon", &search);
    assert!(
        told.starts_with(
            "Cannot create partition selector from Metadata: Trying to load libtests_by_moon.so failed: libtests_by_moon.so: "
        ) && told.contains("LD_LIBRARY_PATH"),
        "{told}"
    );
    // A document comes from the network: what it names is not looked for everywhere.
    for (kind, part) in [
        (
            "by_moon:/tmp/libmoon.so",
            "only when its directory is in MOFKA_PLUGIN_PATH",
        ),
        (
            "by_moon:../libmoon.so",
            "only when its directory is in MOFKA_PLUGIN_PATH",
        ),
        ("../by_moon", "only when its directory is in MOFKA_PLUGIN_PATH"),
        ("by_moon:", "is no file name of a library"),
        ("by_moon:$ORIGIN", "is no file name of a library"),
    ] {
        let told = unknown(kind, &search);
        assert!(told.contains(part), "{kind}: {told}");
    }
    for kind in ["by_moon", "by_moon:libmoon.so", "by_moon:/tmp/libmoon.so"] {
        let told = unknown(kind, &LibraryPolicy::Never);
        assert!(
            told.contains("this process may not load libraries"),
            "{kind}: {told}"
        );
    }
    // A type that is known needs no library.
    let document = json!({"type": "eventbridge:libtests_moon.so", "schema": {"a": [1]}});
    assert!(VALIDATORS.make(&document, &search).unwrap().is_some());
}

#[test]
fn types_of_the_program_are_known_once_registered() {
    struct Never;
    impl Validator for Never {
        fn validate(&self, _: &Metadata, data: &Data) -> Result<(), BoxError> {
            Err(format!("not even {} bytes", data.bytes()).into())
        }
    }
    let document = json!({"type": "tests_never:libnever.so", "wanted": true});
    assert!(VALIDATORS.make(&document, &LibraryPolicy::Never).is_err());
    register_validator("tests_never", |config| match config.get("wanted") {
        Some(Value::Bool(true)) => Ok(Never),
        other => Err(format!("wanted is {other:?}").into()),
    })
    .unwrap();
    assert_eq!(
        verdict(&*validator(&document), json!({})),
        Err("not even 0 bytes".to_owned())
    );
    let told = refusal(&VALIDATORS, &json!({"type": "tests_never"}));
    assert_eq!(told, "Cannot create validator from Metadata: wanted is None");
    for name in ["", "a:b", "schema", "default"] {
        assert!(register_validator(name, |_| Ok(Never)).is_err(), "{name:?}");
    }
    register_validator::<Never>("tests_panics", |_| panic!("at once")).unwrap();
    let told = refusal(&VALIDATORS, &json!({"type": "tests_panics"}));
    assert_eq!(
        told,
        "Cannot create validator from Metadata: it panicked: at once"
    );
}

#[test]
fn a_schema_says_what_does_not_comply_and_where() {
    let schema = json!({
        "type": "object",
        "properties": {"energy": {"type": "number", "maximum": 10}, "note": {"type": "string"}},
        "required": ["energy"],
    });
    let validator = validator(&json!({"type": "schema", "schema": schema}));
    assert_eq!(verdict(&*validator, json!({"energy": 9.5, "more": []})), Ok(()));
    let told = verdict(&*validator, json!({"energy": 11, "note": 1})).unwrap_err();
    let lines: Vec<_> = told.lines().collect();
    assert_eq!(lines.len(), 3, "{told}");
    assert_eq!(lines[0], "Metadata does not comply to required schema:");
    assert!(
        told.contains("\n'/energy' - '11': 11 is greater than the maximum of 10"),
        "{told}"
    );
    assert!(told.contains("\n'/note' - '1': "), "{told}");
    assert!(verdict(&*validator, json!([])).is_err());
    let long = verdict(&*validator, json!("x".repeat(100_000))).unwrap_err();
    assert!(long.contains("..."), "{}", long.len());
}

#[test]
fn a_schema_that_is_none_or_leads_elsewhere_is_refused() {
    for (document, part) in [
        (json!({"type": "schema"}), "there is no \"schema\""),
        (
            json!({"type": "schema", "schema": "not-an-object"}),
            "\"schema\" is not a JSON Schema: it is \"not-an-object\"",
        ),
        (
            json!({"type": "schema", "schema": {"type": 12}}),
            "\"schema\" is not a JSON Schema: ",
        ),
        (
            json!({"type": "schema", "schema": {"$ref": "http://127.0.0.1/x.json"}}),
            "\"schema\" is not a JSON Schema: ",
        ),
        (
            json!({"type": "schema", "schema": {"$ref": "file:///etc/passwd"}}),
            "\"schema\" is not a JSON Schema: ",
        ),
    ] {
        let told = refusal(&VALIDATORS, &document);
        assert!(told.contains(part), "{document}: {told}");
    }
}

#[test]
fn a_pattern_takes_what_matches() {
    let document = json!({"type": "eventbridge", "schema": {"level": ["warning", "fatal"]}});
    let validator = validator(&document);
    assert_eq!(verdict(&*validator, json!({"level": "fatal"})), Ok(()));
    assert_eq!(
        verdict(&*validator, json!({"level": "info"})),
        Err("Metadata object does not satisfy eventbridge pattern".to_owned())
    );
    for (schema, part) in [
        (json!(null), "\"schema\" has to be an object"),
        (
            json!({"a": [{"nope": 1}]}),
            "Invalid Eventbridge pattern: unexpected rule: \"nope\"",
        ),
    ] {
        let told = refusal(&VALIDATORS, &json!({"type": "eventbridge", "schema": schema}));
        assert!(told.contains(part), "{told}");
    }
}

#[test]
fn partitions_are_taken_in_turn_or_as_requested() {
    let components =
        Components::new(&Value::Null, &Value::Null, &Value::Null, &LibraryPolicy::Never).unwrap();
    let (partitions, metadata) = (partitions(3), Metadata::default());
    let select = |requested| {
        let event = Selection {
            metadata: &metadata,
            requested,
            partitions: &partitions,
        };
        components.selector.select(&event).unwrap()
    };
    let chosen: Vec<_> = [None, None, Some(7), None, None, Some(2)].map(select).into();
    assert_eq!(chosen, [0, 1, 1, 2, 0, 2]);
}

#[test]
fn equal_keys_meet_in_one_partition_for_ever() {
    let selector = SELECTORS
        .make(
            &json!({"type": "key_hash", "key": "detector.id"}),
            &LibraryPolicy::Never,
        )
        .unwrap()
        .unwrap();
    let partitions = partitions(4);
    let select = |metadata: Value, requested| {
        let metadata = Metadata::from(metadata);
        let event = Selection {
            metadata: &metadata,
            requested,
            partitions: &partitions,
        };
        selector.select(&event).unwrap()
    };
    let of = |id: Value| select(json!({"detector": {"id": id}, "n": 1}), None);
    // CRC-32 of the JSON text: stored events are where they are, so that these never change.
    let expected = |text: &str| crc32fast::hash(text.as_bytes()) as usize % 4;
    assert_eq!(of(json!("east")), expected("\"east\""));
    assert_eq!(
        (of(json!(17)), of(json!([1, null]))),
        (expected("17"), expected("[1,null]"))
    );
    assert_eq!((of(json!("east")), of(json!(17))), (2, 2));
    let spread: std::collections::BTreeSet<_> = (0..100).map(|n| of(json!(n))).collect();
    assert_eq!(spread.len(), 4);
    assert_eq!(
        select(json!({"detector": {"id": 1}}), Some(5)),
        1,
        "what is requested is honoured"
    );
    let others: Vec<_> = (0..5).map(|_| select(json!({"detector": 3}), None)).collect();
    assert_eq!(others, [0, 1, 2, 3, 0], "without a key in turn");
    for document in [
        json!({"type": "key_hash"}),
        json!({"type": "key_hash", "key": 1}),
        json!({"type": "key_hash", "key": ""}),
    ] {
        assert!(refusal(&SELECTORS, &document).contains("\"key\""), "{document}");
    }
}

#[test]
fn metadata_that_no_value_can_hold_is_refused_and_not_stored_as_null() {
    let metadata = Metadata::parse("{\"a\": 1e400}").unwrap();
    let told = serializer(&json!({"type": "schema", "schema": {}}))
        .serialize(&metadata, &mut Vec::new())
        .unwrap_err();
    assert!(told.to_string().starts_with("Could not make a value"), "{told}");
}

#[test]
fn property_lists_leave_the_names_out() {
    let serializer = serializer(&json!({"type": "property_list_serializer", "properties": ["node", "job"]}));
    let mut stored = Vec::new();
    let metadata = Metadata::from(json!({"node": "c1-0", "job": "é"}));
    serializer.serialize(&metadata, &mut stored).unwrap();
    assert_eq!(stored, b"\x01\x02\xc3\xa9\x04c1-0");
    let back = serializer.deserialize(&stored.into()).unwrap();
    assert_eq!(back.value(), metadata.value());
    for (metadata, part) in [
        (json!({"node": "a"}), "\"job\" is missing"),
        (json!({"node": "a", "job": 1}), "\"job\" is not text but 1"),
        (
            json!({"node": "a", "job": "b", "more": "c"}),
            "property Some(\"more\") is not in the list",
        ),
        (json!(["a"]), "has to be an object"),
    ] {
        let told = serializer
            .serialize(&Metadata::from(metadata), &mut Vec::new())
            .unwrap_err()
            .to_string();
        assert!(told.contains(part), "{told}");
    }
    for (bytes, part) in [
        (&b""[..], "None cannot be the width"),
        (b"\x03", "Some(3) cannot be the width"),
        (b"\x01\x02a", "within property \"job\""),
        (b"\x08\xff\xff\xff\xff\xff\xff\xff\xff", "within property \"job\""),
        (b"\x01\x00\x00x", "1 bytes follow"),
        (b"\x01\x01\xff\x00", "utf-8"),
    ] {
        let told = serializer
            .deserialize(&Bytes::from_static(bytes))
            .unwrap_err()
            .to_string();
        assert!(told.contains(part), "{bytes:?}: {told}");
    }
    for properties in [json!(null), json!([1]), json!(["a", "a"])] {
        let document = json!({"type": "property_list_serializer", "properties": properties});
        assert!(
            refusal(&SERIALIZERS, &document).contains("\"properties\""),
            "{document}"
        );
    }
}

proptest! {
    #[test]
    fn property_lists_of_any_length_come_back(values in proptest::collection::vec(".{0,40}", 0..6), long in 0_usize..70_000) {
        let names: Vec<String> = (0..=values.len()).map(|n| format!("p{n}")).collect();
        let serializer = serializer(&json!({"type": "property_list_serializer", "properties": names}));
        let texts = values.into_iter().chain([".".repeat(long)]);
        let metadata = Metadata::from(Value::Object(names.into_iter().zip(texts.map(Value::from)).collect()));
        let mut stored = b"before".to_vec();
        serializer.serialize(&metadata, &mut stored).unwrap();
        let back = serializer.deserialize(&Bytes::from(stored).slice(6..)).unwrap();
        prop_assert_eq!(back.value(), metadata.value());
    }

    #[test]
    fn property_lists_of_any_bytes_are_refused_or_read(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
        let serializer = serializer(&json!({"type": "property_list_serializer", "properties": ["a", "b"]}));
        let _ = serializer.deserialize(&bytes.into());
    }
}
