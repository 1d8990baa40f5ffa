//! The example in Rust and in C: the same tests for both.

use std::path::Path;

use mofka_plugins::{
    ComponentType, Library, LibraryPolicy, PartitionSelectorType, Partitions, SerializerType, ValidatorType,
};

use crate::library::{build_energy, compile_library};

const CONFIG: &str =
    r#"{"type": "energy_validator:libenergy.so", "energy_max": 100, "more": [{"energy_max": 1}]}"#;

struct Energy {
    validator: ValidatorType,
    selector: PartitionSelectorType,
    serializer: SerializerType,
}

impl Energy {
    fn load(directory: &Path) -> Self {
        let policy = LibraryPolicy::Directories(vec![directory.to_owned()]);
        let library = Library::load("libenergy.so", &policy).unwrap();
        assert_eq!(library.name(), "libenergy.so");
        let [
            ComponentType::Validator(validator),
            ComponentType::PartitionSelector(selector),
            ComponentType::Serializer(serializer),
        ] = library.components()
        else {
            panic!("{library:?}");
        };
        Self {
            validator: validator.clone(),
            selector: selector.clone(),
            serializer: serializer.clone(),
        }
    }
}

fn partitions(count: u64) -> Partitions {
    Partitions {
        count,
        described: "[]".into(),
    }
}

#[test]
fn the_example_works_in_rust() {
    let place = tempfile::tempdir().unwrap();
    build_energy(&place.path().join("libenergy.so"));
    works(&Energy::load(place.path()));
}

#[test]
fn the_example_works_in_c() {
    let place = tempfile::tempdir().unwrap();
    compile_library(
        &[],
        "client/plugins/examples/energy/energy.c",
        &place.path().join("libenergy.so"),
    );
    works(&Energy::load(place.path()));
}

fn works(energy: &Energy) {
    assert_eq!(energy.validator.name(), "energy_validator");
    assert_eq!(energy.selector.name(), "energy_selector");
    assert_eq!(energy.serializer.name(), "energy_serializer");
    assert!(!energy.selector.wants_partitions());
    documents(energy);
    events(energy);
    places(energy);
    bytes(energy);
    threads(energy);
}

fn documents(energy: &Energy) {
    let told = "\"energy_max\" has to be a whole number from 1 to 4294967295";
    for config in [
        "{}",
        r#"{"energy_max": 0}"#,
        r#"{"energy_max": -1}"#,
        r#"{"energy_max": "100"}"#,
        r#"{"energy_max": 1.5}"#,
        r#"{"energy_max": 4294967296}"#,
        r#"{"energy_max": 18446744073709551616}"#,
        r#"{"max": {"energy_max": 100}}"#,
    ] {
        let refused = energy.validator.create(config).unwrap_err();
        assert_eq!(refused.to_string(), told, "{config}");
        assert_eq!(energy.selector.create(config).unwrap_err().to_string(), told);
        assert_eq!(energy.serializer.create(config).unwrap_err().to_string(), told);
    }
    energy
        .validator
        .create(r#" { "energy_max" : 4294967295 } "#)
        .unwrap();
}

/// Metadata, and what is said to it.
const EVENTS: [(&str, Option<&str>); 19] = [
    (r#"{"energy":0}"#, None),
    (r#"{"energy":99}"#, None),
    (r#" { "energy" : 42 } "#, None),
    (
        r#"{"a":{"energy":-1},"energy":7,"b":["energy",{"c":"}\"{"}]}"#,
        None,
    ),
    (r#"{"energy":200,"energy":20}"#, None),
    (r#"{"b\\":1,"energy":1,"\"":{}}"#, None),
    (r#"{"energy":100}"#, Some("an energy of 100 is not below 100")),
    (
        r#"{"energy":18446744073709551615}"#,
        Some("an energy of 18446744073709551615 is not below 100"),
    ),
    ("{}", Some("there is no energy")),
    (r#"{"Energy":1}"#, Some("there is no energy")),
    (r#"{"a":{"energy":1}}"#, Some("there is no energy")),
    (r#"{"a":"\"energy\":1"}"#, Some("there is no energy")),
    (
        r#"{"energy":-1}"#,
        Some("an energy has to be a whole number from 0 on"),
    ),
    (
        r#"{"energy":1.0}"#,
        Some("an energy has to be a whole number from 0 on"),
    ),
    (
        r#"{"energy":1e1}"#,
        Some("an energy has to be a whole number from 0 on"),
    ),
    (
        r#"{"energy":"1"}"#,
        Some("an energy has to be a whole number from 0 on"),
    ),
    (
        r#"{"energy":null}"#,
        Some("an energy has to be a whole number from 0 on"),
    ),
    ("[1]", Some("metadata with an energy has to be an object")),
    ("7", Some("metadata with an energy has to be an object")),
];

fn events(energy: &Energy) {
    let validator = energy.validator.create(CONFIG).unwrap();
    let selector = energy.selector.create(CONFIG).unwrap();
    let serializer = energy.serializer.create(CONFIG).unwrap();
    for (metadata, told) in EVENTS {
        let verdict = validator.validate(metadata, [&b"some"[..], b"data"]);
        assert_eq!(
            verdict.err().map(|e| e.to_string()).as_deref(),
            told,
            "{metadata}"
        );
        // The others do not rely on the validator.
        let Some(told) = told else {
            continue;
        };
        let refused = selector.select(metadata, None, &partitions(4)).unwrap_err();
        assert_eq!(refused.to_string(), told, "{metadata}");
        let refused = serializer.serialize(metadata, &mut Vec::new()).unwrap_err();
        assert_eq!(refused.to_string(), told, "{metadata}");
    }
}

fn places(energy: &Energy) {
    let selector = energy.selector.create(CONFIG).unwrap();
    for (count, energies) in [
        (1, &[(0, 0), (99, 0)][..]),
        (4, &[(0, 0), (24, 0), (25, 1), (49, 1), (50, 2), (75, 3), (99, 3)]),
        (3, &[(33, 0), (34, 1), (66, 1), (67, 2), (99, 2)]),
        (200, &[(0, 0), (1, 2), (99, 198)]),
    ] {
        for (energy, index) in energies {
            let metadata = format!("{{\"energy\":{energy}}}");
            for requested in [None, Some(0), Some(u64::MAX)] {
                assert_eq!(
                    selector.select(&metadata, requested, &partitions(count)),
                    Ok(*index),
                    "{energy} of {count}"
                );
            }
        }
    }
    let widest = energy.selector.create(r#"{"energy_max":4294967295}"#).unwrap();
    assert_eq!(
        widest.select(r#"{"energy":4294967294}"#, None, &partitions(4_294_967_295)),
        Ok(4_294_967_294)
    );
    assert!(
        widest
            .select(r#"{"energy":1}"#, None, &partitions(1 << 32))
            .is_err()
    );
}

fn bytes(energy: &Energy) {
    let serializer = energy.serializer.create(r#"{"energy_max":4294967295}"#).unwrap();
    for (metadata, number) in [
        (r#"{"energy":0}"#, 0_u64),
        (r#"{"energy":258}"#, 258),
        (r#" {"energy" : 4294967294 } "#, 4_294_967_294),
    ] {
        let mut stored = b"before".to_vec();
        serializer.serialize(metadata, &mut stored).unwrap();
        assert_eq!(stored.strip_prefix(b"before"), Some(&number.to_le_bytes()[..]));
        let back = serializer.deserialize(&number.to_le_bytes()).unwrap();
        assert_eq!(back, format!("{{\"energy\":{number}}}"));
    }
    let lost = serializer.serialize(r#"{"energy":1,"détecteur":2}"#, &mut Vec::new());
    assert_eq!(
        lost.unwrap_err().to_string(),
        "\"détecteur\" would be lost: only the energy is stored"
    );
    for (stored, told) in [
        (&b""[..], "an energy is stored in 8 bytes, not in 0"),
        (b"{\"energy\":1}", "an energy is stored in 8 bytes, not in 12"),
        (
            &[0xff; 8],
            "an energy of 18446744073709551615 is not below 4294967295",
        ),
    ] {
        assert_eq!(serializer.deserialize(stored).unwrap_err().to_string(), told);
    }
}

/// One instance, many threads.
fn threads(energy: &Energy) {
    let validator = energy.validator.create(CONFIG).unwrap();
    let selector = energy.selector.create(CONFIG).unwrap();
    let serializer = energy.serializer.create(CONFIG).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let (validator, selector, serializer) = (&validator, &selector, &serializer);
            scope.spawn(move || {
                for turn in 0..500 {
                    let energy = (thread * 37 + turn) % 100;
                    let metadata = format!("{{\"energy\":{energy}}}");
                    validator.validate(&metadata, []).unwrap();
                    assert_eq!(selector.select(&metadata, None, &partitions(10)), Ok(energy / 10));
                    let mut stored = Vec::new();
                    serializer.serialize(&metadata, &mut stored).unwrap();
                    assert_eq!(serializer.deserialize(&stored).unwrap(), metadata);
                }
            });
        }
    });
}
