//! Components of shared libraries through a real node: the example in Rust and in C with the real tool, whose processes find it or do
//! not; and libraries that misbehave in this process.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use mofka_client::{
    ComponentError, Consumer, ConsumerOptions, Driver, DriverOptions, LibraryPolicy, PartitionOptions,
    ProducerOptions, PullError, PushError, TopicOptions,
};
use mofka_tests::library::{build_energy, compile_library};
use mofka_tests::{Node, program};
use serde_json::{Value, json};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(20);
const ENERGY_C: &str = "client/plugins/examples/energy/energy.c";
/// Also where no library is.
const PLACES: [&str; 2] = ["LD_LIBRARY_PATH", "MOFKA_PLUGIN_PATH"];

/// `mofka-ctl` for a node, with these variables of [`PLACES`] and no others.
struct Tool<'a> {
    node: &'a Node,
    variables: Vec<(&'a str, &'a Path)>,
}

impl<'a> Tool<'a> {
    fn new(node: &'a Node, variables: &[(&'a str, &'a Path)]) -> Self {
        Self {
            node,
            variables: variables.to_vec(),
        }
    }

    /// What it printed, or what it said when it failed.
    fn run(&self, arguments: &[&str], input: &str) -> Result<String, String> {
        let mut command = Command::new(program("mofka-ctl"));
        PLACES.iter().for_each(|place| {
            command.env_remove(place);
        });
        let mut child = command
            .envs(self.variables.iter().copied())
            .args(arguments)
            .arg("--groupfile")
            .arg(self.node.group_file())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // It may fail before it reads.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        match output.status.success() {
            true => Ok(String::from_utf8(output.stdout).unwrap()),
            // By itself, not by a signal or a panic.
            false => {
                assert!(
                    output.status.code().is_some() && said.starts_with("Error: "),
                    "{arguments:?}: {} {said}",
                    output.status
                );
                Err(said)
            }
        }
    }

    /// Creates a topic with components of these types.
    fn create(&self, topic: &str, types: [&str; 3], energy_max: &str) -> Result<String, String> {
        let [validator, selector, serializer] = types;
        self.run(
            &[
                "topic",
                "create",
                topic,
                "--partitions",
                "4",
                "--validator",
                validator,
                "--validator.energy_max",
                energy_max,
                "--partition-selector",
                selector,
                "--partition-selector.energy_max",
                energy_max,
                "--serializer",
                serializer,
                "--serializer.energy_max",
                energy_max,
            ],
            "",
        )
    }

    fn produce(&self, topic: &str, energies: &[u64]) -> Result<String, String> {
        let lines = energies
            .iter()
            .map(|energy| format!("{{\"energy\": {energy}}}\n"));
        self.run(&["produce", topic], &lines.collect::<String>())
    }

    /// Partition and metadata of the first events of a topic, sorted.
    fn consume(&self, topic: &str, count: usize) -> Result<Vec<(u64, Value)>, String> {
        let count = count.to_string();
        let printed = self.run(
            &[
                "consume",
                topic,
                "--consumer",
                "me",
                "--count",
                &count,
                "--timeout",
                "20",
            ],
            "",
        )?;
        let events = printed
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        let mut events: Vec<_> = events
            .map(|event| (event["partition"].as_u64().unwrap(), event["metadata"].clone()))
            .collect();
        events.sort_by_key(|(_, metadata)| metadata["energy"].as_u64());
        Ok(events)
    }
}

const IN_ONE: [&str; 3] = [
    "energy_validator:libenergy.so",
    "energy_selector:libenergy.so",
    "energy_serializer:libenergy.so",
];

fn directory(build: impl Fn(&Path)) -> TempDir {
    let place = tempfile::tempdir().unwrap();
    build(&place.path().join("libenergy.so"));
    place
}

fn in_rust() -> TempDir {
    directory(build_energy)
}

fn in_c() -> TempDir {
    directory(|into| compile_library(&[], ENERGY_C, into))
}

#[track_caller]
fn says<T: std::fmt::Debug>(answer: Result<T, String>, parts: &[&str]) {
    let said = answer.unwrap_err();
    for part in parts {
        assert!(said.contains(part), "no {part:?} in {said}");
    }
}

/// Produces and consumes with these libraries; the events are read back as they were.
fn collisions(node: &Node, topic: &str, library: &Path) {
    let tool = Tool::new(node, &[("LD_LIBRARY_PATH", library)]);
    let told =
        "Cannot create validator from Metadata: \"energy_max\" has to be a whole number from 1 to 4294967295";
    says(tool.create(topic, IN_ONE, "0"), &[told]);
    tool.create(topic, IN_ONE, "100")
        .expect("nothing was created by the first try");
    tool.produce(topic, &[0, 24, 25, 50, 99]).unwrap();
    for (line, told) in [
        ("{\"energy\": 100}", "line 1: an energy of 100 is not below 100"),
        (
            "{\"energy\": -3}",
            "line 1: an energy has to be a whole number from 0 on",
        ),
        ("{\"heat\": 1}", "line 1: there is no energy"),
        (
            "{\"energy\": 1, \"heat\": 1}",
            "line 1: the serializer failed: \"heat\" would be lost: only the energy is stored",
        ),
    ] {
        says(tool.run(&["produce", topic], line), &[told]);
    }
    assert_eq!(
        tool.consume(topic, 5).unwrap(),
        [(0, 0), (0, 24), (1, 25), (2, 50), (3, 99)]
            .map(|(partition, energy)| (partition, json!({"energy": energy})))
    );
}

#[test]
fn the_example_in_rust_works_through_a_node() {
    collisions(&Node::start(&["--shards", "2"]), "collisions", in_rust().path());
}

#[test]
fn the_example_in_c_works_through_a_node() {
    collisions(&Node::start(&["--shards", "2"]), "collisions", in_c().path());
}

#[test]
fn who_does_not_have_the_library_is_told_and_can_still_administrate() {
    let node = Node::start(&["--shards", "1"]);
    let (rust, c) = (in_rust(), in_c());
    let with = Tool::new(&node, &[("LD_LIBRARY_PATH", rust.path())]);
    let without = Tool::new(&node, &[]);
    // Whoever creates a topic need not have them.
    without.create("collisions", IN_ONE, "100").unwrap();
    let missing = [
        "Cannot create validator from Metadata: Could not dlopen libenergy.so: libenergy.so: ",
        "no validator of type \"energy_validator\" is known in this process without it",
        "LD_LIBRARY_PATH",
    ];
    says(without.produce("collisions", &[1]), &missing);
    says(without.consume("collisions", 1), &missing);
    let described = without
        .run(&["--json", "topic", "describe", "collisions"], "")
        .unwrap();
    let described: Value = serde_json::from_str(&described).unwrap();
    assert_eq!(
        described["validator"],
        json!({"type": IN_ONE[0], "energy_max": 100}),
        "{described}"
    );
    with.produce("collisions", &[1, 99]).unwrap();
    without.run(&["topic", "complete", "collisions"], "").unwrap();
    // The other one reads what the first one stored.
    let other = Tool::new(&node, &[("LD_LIBRARY_PATH", c.path())]);
    assert_eq!(
        other.consume("collisions", 2).unwrap(),
        [(0, json!({"energy": 1})), (3, json!({"energy": 99}))]
    );
    without.run(&["topic", "delete", "collisions"], "").unwrap();
}

#[test]
fn a_type_alone_is_looked_for_in_a_library_of_its_name() {
    let node = Node::start(&["--shards", "1"]);
    let place = in_rust();
    let library = place.path().join("libenergy.so");
    let types = ["energy_validator", "energy_selector", "energy_serializer"];
    let tool = Tool::new(&node, &[("LD_LIBRARY_PATH", place.path())]);
    tool.create("collisions", types, "100").unwrap();
    says(
        tool.produce("collisions", &[1]),
        &["Trying to load libenergy_validator.so failed: libenergy_validator.so: "],
    );
    for name in types {
        std::fs::copy(&library, place.path().join(format!("lib{name}.so"))).unwrap();
    }
    tool.produce("collisions", &[1, 99]).unwrap();
    assert_eq!(
        tool.consume("collisions", 2).unwrap(),
        [(0, json!({"energy": 1})), (3, json!({"energy": 99}))]
    );
    // The library is there; what it offers is something else.
    let wrong = ["energy_serializer:libenergy.so", "default", "default"];
    tool.run(
        &[
            "topic",
            "create",
            "wrong",
            "--partitions",
            "1",
            "--validator",
            wrong[0],
        ],
        "",
    )
    .unwrap();
    says(
        tool.produce("wrong", &[1]),
        &[
            "Factory method not found for type energy_serializer: libenergy.so was loaded, and offers no such validator, but \
             validator \"energy_validator\", partition selector \"energy_selector\", serializer \"energy_serializer\"",
        ],
    );
}

#[test]
fn the_variable_says_which_libraries_are_loaded() {
    let node = Node::start(&["--shards", "1"]);
    let place = in_c();
    let nowhere = tempfile::tempdir().unwrap();
    let path = place.path().join("libenergy.so");
    let by_path = |kind: &str| format!("energy_{kind}:{}", path.display());
    let by_path = ["validator", "selector", "serializer"].map(by_path);
    let by_path = by_path.each_ref().map(String::as_str);
    let search = Tool::new(&node, &[("LD_LIBRARY_PATH", place.path())]);
    let named = Tool::new(&node, &[("MOFKA_PLUGIN_PATH", place.path())]);
    let elsewhere = Tool::new(
        &node,
        &[
            ("MOFKA_PLUGIN_PATH", nowhere.path()),
            ("LD_LIBRARY_PATH", place.path()),
        ],
    );
    let never = Tool::new(
        &node,
        &[
            ("MOFKA_PLUGIN_PATH", Path::new("")),
            ("LD_LIBRARY_PATH", place.path()),
        ],
    );
    search.create("paths", by_path, "100").unwrap();
    search.create("names", IN_ONE, "100").unwrap();
    for (tool, topic, told) in [
        (
            &search,
            "paths",
            "only when its directory is in MOFKA_PLUGIN_PATH",
        ),
        (&elsewhere, "paths", "is not one of the directories"),
        (&elsewhere, "names", "there is no such file in"),
        (&never, "paths", "this process may not load libraries"),
        (&never, "names", "this process may not load libraries"),
    ] {
        says(tool.produce(topic, &[1]), &["Could not dlopen", told]);
    }
    for (tool, topic) in [(&search, "names"), (&named, "names"), (&named, "paths")] {
        tool.produce(topic, &[1]).unwrap();
    }
}

#[test]
fn a_selector_that_looks_at_partitions_sees_those_that_are_added() {
    let node = Node::start(&["--shards", "1"]);
    let place = tempfile::tempdir().unwrap();
    compile_library(
        &[],
        "client/plugins/tests/last_partition.c",
        &place.path().join("liblast_partition.so"),
    );
    let driver = driver(&node, LibraryPolicy::Directories(vec![place.path().to_owned()]));
    let mut options = TopicOptions::new("grows").partitions(2);
    options.partition_selector = Some(json!({"type": "last_partition"}));
    let topic = driver.create_topic(options).unwrap();
    let producer = topic.producer(ProducerOptions::default());
    let events = || -> Vec<u64> {
        let count = topic.partitions().len();
        (0..count)
            .map(|index| topic.partition_status(index).unwrap().visible_end)
            .collect()
    };
    let push = || {
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| producer.push(json!({}), "", Some(0)).unwrap().wait().unwrap());
            }
        })
    };
    push();
    assert_eq!(events(), [0, 3]);
    driver
        .add_partition("grows", PartitionOptions::default())
        .unwrap();
    topic.refresh().unwrap();
    push();
    assert_eq!(events(), [0, 3, 3]);
}

/// A driver of this process that takes libraries of one directory.
fn driver(node: &Node, libraries: LibraryPolicy) -> Driver {
    let options = DriverOptions {
        libraries,
        ..DriverOptions::group_file(node.group_file())
    };
    Driver::connect(options).unwrap()
}

fn pull(consumer: &Consumer) -> Result<Value, PullError> {
    let pulled = consumer.pull().wait_timeout(PATIENCE)?;
    let event = pulled
        .expect("an event comes in time")
        .expect("the topic goes on");
    Ok(event.metadata().clone())
}

#[test]
fn libraries_and_components_that_misbehave_take_nothing_down() {
    const SOURCE: &str = "client/plugins/tests/misbehaving.c";
    let node = Node::start(&["--shards", "1"]);
    let place = tempfile::tempdir().unwrap();
    for name in ["NO_TABLE", "NULL_TABLE", "OTHER_VERSION", "BEHAVING_TABLE"] {
        let into = place.path().join(format!("lib{name}.so"));
        compile_library(&[&format!("-D{name}")], SOURCE, &into);
    }
    let driver = driver(&node, LibraryPolicy::Directories(vec![place.path().to_owned()]));
    let options = |name: &str| TopicOptions::new(name).partitions(2);
    let component = |kind: &str, library: &str| Some(json!({"type": format!("{kind}:lib{library}.so")}));

    let told = |error: &ComponentError| {
        assert!(error.is_unknown_type, "{error}");
        error.to_string()
    };
    for (library, part) in [
        ("NO_TABLE", "it has no function mofka_components_v1"),
        ("NULL_TABLE", "returned 0x0, which is no table"),
        (
            "OTHER_VERSION",
            "its table is of version 99, and this client knows version 1",
        ),
    ] {
        let mut options = options(library);
        options.validator = component("takes_nothing", library);
        let topic = driver.create_topic(options).unwrap();
        let error = topic.check_components().unwrap_err();
        let start =
            format!("Cannot create validator from Metadata: lib{library}.so was loaded and cannot be used: ");
        let told = told(&error);
        assert!(told.starts_with(&start) && told.contains(part), "{told}");
        let producer = topic.producer(ProducerOptions::default());
        let refused = producer.push(json!({}), "", None).unwrap_err();
        assert!(matches!(refused, PushError::Component(_)), "{refused}");
    }

    // Types that are found, and cannot be made: these documents make no sense, for whoever knows the type.
    for (kind, part) in [
        ("creates_nothing", "it was created without an instance (NULL)"),
        (
            "creates_in_silence",
            "it failed with status -3, and did not say why",
        ),
    ] {
        let mut options = options(kind);
        options.validator = component(kind, "BEHAVING_TABLE");
        let refused = driver.create_topic(options).unwrap_err().to_string();
        assert_eq!(refused, format!("Cannot create validator from Metadata: {part}"));
        assert!(!driver.topic_exists(kind).unwrap());
    }

    // They are known in this process now, for drivers too that load nothing.
    let driver = self::driver(&node, LibraryPolicy::Never);
    let push = |options: TopicOptions| {
        let producer = driver
            .create_topic(options)
            .unwrap()
            .producer(ProducerOptions::default());
        let refused = producer.push(json!({"energy": 1}), "data", None).unwrap_err();
        assert_eq!(producer.close().unwrap().acknowledged, 0, "nothing was queued");
        refused.to_string()
    };
    let mut validated = options("validated");
    validated.validator = component("takes_nothing", "BEHAVING_TABLE");
    assert_eq!(push(validated), "never \u{fffd}");
    let mut wild = options("wild");
    wild.partition_selector = component("selects_wildly", "BEHAVING_TABLE");
    assert_eq!(
        push(wild),
        "the partition selector failed: it chose partition 7, and the topic has 2"
    );
    let mut nothing = options("nothing");
    nothing.partition_selector = component("selects_nothing", "BEHAVING_TABLE");
    assert_eq!(
        push(nothing),
        "the partition selector failed: it succeeded without an index"
    );
    let mut much = options("much");
    much.serializer = component("too_much", "BEHAVING_TABLE");
    let told = push(much);
    assert!(
        told.starts_with("the serializer failed: it wrote what cannot be taken"),
        "{told}"
    );

    for (kind, part) in [
        (
            "not_json",
            "what the serializer made of the stored bytes is not JSON",
        ),
        ("not_utf8", "what it made of the stored bytes is not UTF-8"),
    ] {
        let mut options = TopicOptions::new(kind);
        options.serializer = component(kind, "BEHAVING_TABLE");
        let topic = driver.create_topic(options).unwrap();
        let producer = topic.producer(ProducerOptions::default());
        for energy in 0..2 {
            producer.push(json!({"energy": energy}), "", None).unwrap();
        }
        assert_eq!(producer.close().unwrap().acknowledged, 2);
        let consumer = topic.consumer("me", ConsumerOptions::default()).unwrap();
        for id in 0..2 {
            let failed = pull(&consumer).unwrap_err();
            assert!(
                matches!(&failed, PullError::Metadata { event_id, reason, .. } if *event_id == id && reason.contains(part)),
                "{failed}"
            );
        }
    }
}
