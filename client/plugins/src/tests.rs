//! Both sides of the interface against each other in one process, and tables that are none.

use std::ffi::c_char;
use std::ptr::null;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::abi::{COMPONENT_BYTES, Component, Components};
use crate::author::{self, Error};
use crate::component::{ComponentType, Partitions};
use crate::library::check;

/// Component of all kinds, which does what it is told.
struct Obedient {
    config: String,
    partitions: String,
}

impl author::Component for Obedient {
    fn create(config: &str) -> Result<Self, Error> {
        Ok(Self {
            config: config.to_owned(),
            partitions: String::new(),
        })
    }
}

impl author::Validator for Obedient {
    fn validate(&self, metadata: &str, data: &[&[u8]]) -> Result<(), Error> {
        match metadata {
            "take" => Ok(()),
            "panic" => panic!("{} segments", data.len()),
            other => Err(format!("{} {other} {data:?}", self.config).into()),
        }
    }
}

impl author::PartitionSelector for Obedient {
    const WANTS_PARTITIONS: bool = true;

    fn set_partitions(&mut self, partitions: &str) -> Result<(), Error> {
        if partitions == "refuse" {
            return Err("not these".into());
        }
        partitions.clone_into(&mut self.partitions);
        Ok(())
    }

    fn select(&self, metadata: &str, requested: Option<u64>, count: u64) -> Result<u64, Error> {
        match metadata {
            "requested" => Ok(requested.ok_or("nothing was requested")?),
            "count" => Ok(count),
            "wild" => Ok(u64::MAX),
            _ => Err(self.partitions.clone().into()),
        }
    }
}

impl author::Serializer for Obedient {
    fn serialize(&self, metadata: &str, bytes: &mut Vec<u8>) -> Result<(), Error> {
        bytes.extend(metadata.bytes().rev());
        match metadata {
            "panic" => panic!("at the end"),
            _ => Ok(()),
        }
    }

    fn deserialize(&self, stored: &[u8]) -> Result<String, Error> {
        Ok(String::from_utf8(stored.iter().rev().copied().collect())?)
    }
}

fn types(components: &'static [Component]) -> Result<Vec<ComponentType>, String> {
    // SAFETY: a table as it should be, but for what the tests change, which are no pointers that lead elsewhere.
    unsafe { check(&raw const *Box::leak(Box::new(Components::of(components)))) }
}

static ALL: [Component; 3] = [
    author::validator::<Obedient>("one\0"),
    author::partition_selector::<Obedient>("two\0"),
    author::serializer::<Obedient>("three\0"),
];

fn partitions(count: u64, described: &str) -> Partitions {
    Partitions {
        count,
        described: described.into(),
    }
}

#[test]
fn what_goes_in_at_one_side_comes_out_at_the_other() {
    let types = types(&ALL).unwrap();
    let names: Vec<_> = types.iter().map(|one| (one.kind(), one.name())).collect();
    assert_eq!(
        names,
        [
            ("validator", "one"),
            ("partition selector", "two"),
            ("serializer", "three")
        ]
    );
    let [
        ComponentType::Validator(validator),
        ComponentType::PartitionSelector(selector),
        ComponentType::Serializer(serializer),
    ] = types.as_slice()
    else {
        panic!("{types:?}");
    };

    let validator = validator.create("{é}").unwrap();
    validator.validate("take", []).unwrap();
    let told = validator.validate("é", [&b"ab"[..], b"", b"c"]).unwrap_err();
    assert_eq!(told.to_string(), "{é} é [[97, 98], [], [99]]");
    let told = validator.validate("panic", [&b"ab"[..]]).unwrap_err();
    assert_eq!(told.to_string(), "it panicked: 1 segments");

    assert!(selector.wants_partitions());
    let selector = selector.create("").unwrap();
    let three = partitions(3, "first");
    assert_eq!(selector.select("requested", Some(7), &three), Ok(7));
    assert_eq!(selector.select("requested", Some(0), &three), Ok(0));
    let told = selector.select("requested", None, &three).unwrap_err();
    assert_eq!(told.to_string(), "nothing was requested");
    assert_eq!(selector.select("count", None, &three), Ok(3));
    let told = selector.select("wild", None, &three).unwrap_err();
    assert_eq!(told.to_string(), "it succeeded without an index");

    let serializer = serializer.create("").unwrap();
    let mut bytes = b"before ".to_vec();
    serializer.serialize("abc", &mut bytes).unwrap();
    assert_eq!(bytes, b"before cba");
    assert_eq!(serializer.deserialize(b"cba").unwrap(), "abc");
    assert!(
        serializer
            .deserialize(b"\xff")
            .unwrap_err()
            .to_string()
            .contains("utf-8")
    );
    assert_eq!(
        serializer.serialize("panic", &mut bytes).unwrap_err().to_string(),
        "it panicked: at the end"
    );
}

#[test]
fn what_cannot_be_created_leaves_nothing_and_what_is_dropped_is_gone() {
    static COUNTED: [Component; 1] = [author::serializer::<Counted>("counted\0")];
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    struct Counted;
    impl author::Component for Counted {
        fn create(config: &str) -> Result<Self, Error> {
            match config {
                "refuse" => return Err("I do not like it".into()),
                "panic" => panic!("not even that"),
                _ => COUNT.fetch_add(1, Ordering::SeqCst),
            };
            Ok(Self)
        }
    }
    impl Drop for Counted {
        fn drop(&mut self) {
            COUNT.fetch_sub(1, Ordering::SeqCst);
            panic!("not a word of this reaches anybody");
        }
    }
    impl author::Serializer for Counted {
        fn serialize(&self, _: &str, _: &mut Vec<u8>) -> Result<(), Error> {
            Ok(())
        }
        fn deserialize(&self, _: &[u8]) -> Result<String, Error> {
            Ok(String::new())
        }
    }
    let types = types(&COUNTED).unwrap();
    let ComponentType::Serializer(serializer) = &types[0] else {
        panic!("{types:?}");
    };
    for (config, part) in [
        ("refuse", "I do not like it"),
        ("panic", "it panicked: not even that"),
    ] {
        assert_eq!(serializer.create(config).unwrap_err().to_string(), part);
    }
    let made: Vec<_> = (0..3).map(|_| serializer.create("").unwrap()).collect();
    assert_eq!(COUNT.load(Ordering::SeqCst), 3);
    drop(made);
    assert_eq!(COUNT.load(Ordering::SeqCst), 0);
}

#[test]
fn a_selector_is_told_of_each_list_of_partitions_before_it_selects() {
    let types = types(&ALL).unwrap();
    let ComponentType::PartitionSelector(selector) = &types[1] else {
        panic!("{types:?}");
    };
    let selector = selector.create("").unwrap();
    let knows = |partitions: &Partitions| selector.select("tell", None, partitions).unwrap_err().to_string();
    let (first, second) = (partitions(1, "first"), partitions(2, "second"));
    assert_eq!(knows(&first), "first");
    let same = first.clone();
    assert_eq!(knows(&first), "first");
    assert_eq!(knows(&same), "first");
    assert_eq!(knows(&second), "second");
    let refused = partitions(3, "refuse");
    assert_eq!(knows(&refused), "not these");
    // Not what it knew before: nobody knows what is left of that.
    assert_eq!(knows(&refused), "not these");
    assert_eq!(knows(&second), "second");
    // Threads with different lists at a time: each sees its own.
    std::thread::scope(|scope| {
        for partitions in [&first, &second, &first, &second] {
            scope.spawn(move || {
                for _ in 0..2000 {
                    assert_eq!(knows(partitions), &*partitions.described);
                }
            });
        }
    });
}

#[test]
fn tables_that_are_none_are_refused() {
    let whole = |change: fn(&mut Components)| {
        let mut table = Components::of(&ALL);
        change(&mut table);
        // SAFETY: as in `types`; nothing that leads elsewhere is looked at.
        unsafe { check(&raw const table) }.unwrap_err()
    };
    // SAFETY: neither is looked at.
    let (none, odd) = unsafe { (check(null()), check(std::ptr::without_provenance(1))) };
    assert!(none.unwrap_err().contains("which is no table"));
    assert!(odd.unwrap_err().contains("which is no table"));
    let told = whole(|table| table.version = 2);
    assert!(
        told.starts_with("its table is of version 2, and this client knows version 1"),
        "{told}"
    );
    for (told, part) in [
        (whole(|table| table.version = 0), "of version 0"),
        (whole(|table| table.component_bytes -= 8), "have 64 bytes each"),
        (whole(|table| table.component_bytes += 8), "have 80 bytes each"),
        (whole(|table| table.components_count = 0), "offers 0 components"),
        (whole(|table| table.components_count = u64::MAX), "not 1 to 1024"),
        (whole(|table| table.components = null()), "where none can be"),
        (
            whole(|table| table.components = std::ptr::without_provenance(4)),
            "where none can be",
        ),
    ] {
        assert!(told.contains(part), "{told}");
    }
    assert_eq!(COMPONENT_BYTES, 72);
}

#[test]
fn components_that_are_none_are_refused() {
    let one = |of: usize, change: &dyn Fn(&mut Component)| {
        let mut component = ALL[of];
        change(&mut component);
        types(Box::leak(Box::new([component]))).unwrap_err()
    };
    let named = |name: &'static [u8]| {
        one(0, &|component| {
            component.type_name = name.as_ptr().cast::<c_char>()
        })
    };
    let (long, longest) = ([b'n'; 257], {
        let mut name = [b'n'; 256];
        name[255] = 0;
        name
    });
    for (told, part) in [
        (
            one(0, &|c| c.type_name = null()),
            "component 0 of its table has no name",
        ),
        (named(b"\0"), "has the name \"\""),
        (named(b"a:b\0"), "has the name \"a:b\""),
        (named(b"a\xff\0"), "has the name \"a\u{fffd}\""),
        (named(Box::leak(Box::new(long))), "without ':'"),
        (one(0, &|c| c.reserved = 5), "has 5 where 0 is reserved"),
        (one(0, &|c| c.kind = 0), "is of kind 0"),
        (one(0, &|c| c.kind = 4), "is of kind 4"),
        (one(0, &|c| c.create = None), "has no function \"create\""),
        (one(0, &|c| c.destroy = None), "has no function \"destroy\""),
        (one(0, &|c| c.validate = None), "has no function \"validate\""),
        (one(1, &|c| c.select = None), "has no function \"select\""),
        (one(2, &|c| c.serialize = None), "has no function \"serialize\""),
        (
            one(2, &|c| c.deserialize = None),
            "has no function \"deserialize\"",
        ),
        (
            one(0, &|c| c.select = ALL[1].select),
            "has functions that a validator does not have",
        ),
        (
            one(1, &|c| c.validate = ALL[0].validate),
            "has functions that a partition selector does not have",
        ),
        (
            one(2, &|c| c.set_partitions = ALL[1].set_partitions),
            "has functions that a serializer does not have",
        ),
    ] {
        assert!(told.contains(part), "{told}");
    }
    let mut component = ALL[0];
    component.type_name = longest.as_ptr().cast();
    assert_eq!(
        types(Box::leak(Box::new([component]))).unwrap()[0].name().len(),
        255
    );
    let twice = [ALL[0], ALL[1], ALL[0]];
    assert_eq!(
        types(Box::leak(Box::new(twice))).unwrap_err(),
        "it offers the validator \"one\" twice"
    );
    let mut other = ALL[1];
    other.type_name = ALL[0].type_name;
    let same_name = [ALL[0], other];
    assert_eq!(
        types(Box::leak(Box::new(same_name))).unwrap().len(),
        2,
        "kinds have names of their own"
    );
}
