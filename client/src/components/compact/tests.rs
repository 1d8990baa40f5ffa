use proptest::prelude::*;
use serde_json::json;

use super::*;

fn compact(schema: Value) -> Compact {
    let Value::Object(config) = json!({"type": "schema", "schema": schema}) else {
        unreachable!("it is one")
    };
    Compact::new(&config).unwrap()
}

fn stored(compact: &Compact, metadata: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    compact.serialize(&Metadata::from(metadata), &mut bytes).unwrap();
    bytes
}

fn read(compact: &Compact, bytes: &[u8]) -> Result<Value, String> {
    let read = compact.deserialize(&Bytes::copy_from_slice(bytes));
    read.map(|metadata| metadata.value().clone())
        .map_err(|error| error.to_string())
}

fn schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "level": {"enum": ["info", "fatal", {"not": "short"}]},
            "node": {"type": "string"},
            "at": {"type": "object", "properties": {"x": {"type": "number"}, "y": {"type": "number"}}},
            "hits": {"type": "array", "items": {"properties": {"channel": {"type": "integer"}}}},
        },
    })
}

/// Stored events are what they are: these bytes never change.
#[test]
fn the_bytes_are_as_documented() {
    let compact = compact(schema());
    let metadata = json!({
        "node": "c1-0",
        "level": "fatal",
        "at": {"x": 1.5, "y": -300},
        "hits": [{"channel": 7}, {"channel": 1000, "late": true}, null],
        "note": "é",
    });
    let expected: &[&[u8]] = &[
        b"\x01",
        // at, hits, level, node
        b"\x09\x0f",
        b"\x09\x03\x03\0\0\0\0\0\0\xf8\x3f\x05\xab\x02\x00",
        b"\x07\x03\x09\x01\x17\x00\x09\x01\x04\xe8\x07\x01\x04late\x02\x00",
        b"\x0a\x01",
        b"\x84c1-0",
        b"\x01\x04note\x82\xc3\xa9",
    ];
    let bytes = stored(&compact, &metadata);
    assert_eq!(bytes, expected.concat());
    assert_eq!(read(&compact, &bytes), Ok(metadata.clone()));
    assert!(bytes.len() * 2 < metadata.to_string().len());
}

#[test]
fn what_does_not_fit_the_schema_is_stored_all_the_same() {
    let compact = compact(schema());
    let long = "x".repeat(300);
    for metadata in [
        json!(null),
        json!([1, [2, {}]]),
        json!({}),
        json!({"at": 3, "hits": {"a": []}, "level": {"not": "short"}, "node": [long]}),
        json!({"level": 0.1, "node": u64::MAX, "at": {"x": i64::MIN, "z": -1}, "hits": [0, 111, 112]}),
        json!(long),
        json!(true),
    ] {
        let bytes = stored(&compact, &metadata);
        assert_eq!(read(&compact, &bytes), Ok(metadata));
    }
}

#[test]
fn nonsense_is_refused() {
    let compact = compact(schema());
    for (bytes, part) in [
        (&b""[..], "it is empty"),
        (b"\x02\x00", "version 2 of the compact form"),
        (b"\x01", "1 bytes are said to follow, and 0 do"),
        (b"\x01\x00\x00", "1 bytes follow the document"),
        (b"\x01\x0b", "no value begins with 0x0b"),
        (b"\x01\x84abc", "4 bytes are said to follow, and 3 do"),
        (b"\x01\x81\xff", "utf-8"),
        (b"\x01\x03\0\0\0\0\0\0\xf0\x7f", "not finite"),
        (
            b"\x01\x04\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02",
            "more than 64 bits",
        ),
        (
            b"\x01\x05\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            "out of range",
        ),
        (
            b"\x01\x07\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x00",
            "1 bytes are said to follow, and 0 do",
        ),
        (b"\x01\x09\x04\x0a\x02\x00", "the schema has no value 2 there"),
    ] {
        let told = read(&compact, bytes).unwrap_err();
        assert!(told.contains(part), "{bytes:?}: {told}");
    }
    let deep = [&[VERSION][..], &[tag::ARRAY, 1].repeat(100_000), &[0]].concat();
    assert!(read(&compact, &deep).unwrap_err().contains("too many values"));
    let mut value = json!(0);
    for _ in 0..200 {
        value = json!([value]);
    }
    assert!(
        compact
            .serialize(&Metadata::from(value), &mut Vec::new())
            .is_err()
    );
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (0..200_u64).prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        prop_oneof!["info", "fatal", ".{0,6}", "[a-z]{120,140}"].prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        let names = prop_oneof!["level", "node", "at", "hits", "x", "y", "channel", "[a-z]{0,3}"];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((names, inner), 0..8)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn everything_comes_back(metadata in values(), of_nothing in any::<bool>()) {
        let compact = compact(if of_nothing { json!({}) } else { schema() });
        let bytes = stored(&compact, &metadata);
        prop_assert_eq!(read(&compact, &bytes), Ok(metadata));
    }

    #[test]
    fn any_bytes_are_read_or_refused(mut bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        let compact = compact(schema());
        if let Some(first) = bytes.first_mut() {
            *first = VERSION;
        }
        // What is read can be stored again, and is the same then.
        if let Ok(value) = read(&compact, &bytes) {
            prop_assert_eq!(read(&compact, &stored(&compact, &value)), Ok(value));
        }
    }
}
