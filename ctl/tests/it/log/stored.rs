//! Files that a real node wrote from real log lines, and mistakes made in them.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use uuid::Uuid;

use crate::run::{Bench, Ran};

/// Segments so small that 2,000 lines fill several.
const CONFIG: &str = r#"{"limits": {"segment_meta_bytes": 28672, "segment_data_bytes": 49152}}"#;

/// Numbers that follow from a seed.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// A node's data directory, stopped.
pub(super) struct Stored {
    pub(super) bench: Bench,
}

pub(super) fn bgl_lines() -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/loghub/BGL_2k.log");
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(str::to_owned).collect()
}

pub(super) fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text:?}"))
}

impl Stored {
    /// 2,000 lines in topic `bgl`, in two pieces with a restart between them; consumer `me` acknowledged 700 events.
    pub(super) fn new() -> Self {
        let bench = Bench::with_daemon();
        std::fs::write(bench.path().join("config.json"), CONFIG).unwrap();
        let stored = Self { bench };
        stored.start();
        stored.run("mofka-ctl topic create bgl --partitions 1").ok();
        let lines = bgl_lines();
        for half in lines.chunks(1000) {
            stored.produce("bgl", half);
            stored.stop();
            stored.start();
        }
        stored
            .run("mofka-ctl consume bgl -c me --count 700 --ack-every 100 --data none")
            .ok();
        stored.stop();
        stored
    }

    pub(super) fn run(&self, line: &str) -> Ran {
        self.bench.run(line)
    }

    pub(super) fn start(&self) {
        self.run("mofka-ctl start -c config.json --data-dir data --shards 1")
            .ok();
    }

    pub(super) fn stop(&self) {
        self.run("mofka-ctl shutdown").ok();
    }

    /// Each line is an event's data.
    pub(super) fn produce(&self, topic: &str, lines: &[String]) {
        let text = lines.iter().map(|line| format!("{line}\n")).collect::<String>();
        let line = format!("mofka-ctl produce {topic} --raw --batch-size 20 --metadata {{\"log\":\"bgl\"}}");
        self.bench.run_with_input(&line, text.as_bytes()).ok();
    }

    /// Data of `count` events from `from` on, as a node serves it.
    pub(super) fn consumed(&self, topic: &str, from: u64, count: usize) -> Vec<String> {
        let line = format!("mofka-ctl tail {topic} --from {from} --count {count} --timeout 10");
        let out = self.run(&line).ok();
        out.lines()
            .map(|line| parse(line)["data"].as_str().unwrap().to_owned())
            .collect()
    }

    pub(super) fn data(&self) -> PathBuf {
        self.bench.path().join("data")
    }

    /// The directory of the only partition.
    pub(super) fn partition(&self) -> PathBuf {
        let mut dirs: Vec<PathBuf> = std::fs::read_dir(self.data().join("partitions"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        assert_eq!(dirs.len(), 1, "{dirs:?}");
        dirs.remove(0)
    }

    /// Whose directory that is.
    pub(super) fn partition_id(&self) -> Uuid {
        let dir = self.partition();
        dir.file_name().unwrap().to_str().unwrap().parse().unwrap()
    }

    /// Files of the partition with this ending, in order.
    pub(super) fn files(&self, ending: &str) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = std::fs::read_dir(self.partition())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.to_string_lossy().ends_with(ending))
            .collect();
        files.sort();
        files
    }

    /// What inspect says of the partition, with its frames.
    pub(super) fn inspected(&self) -> Value {
        let line = format!(
            "mofka-ctl --json log inspect --frames {}",
            self.partition().display()
        );
        parse(&self.run(&line).ok())["partitions"][0].clone()
    }

    pub(super) fn verify(&self) -> Ran {
        self.run("mofka-ctl --json log verify data")
    }

    /// Problems that verify finds, beyond notes.
    pub(super) fn problems(&self) -> Vec<String> {
        let found = parse(&self.verify().out);
        let mut kinds = Vec::new();
        collect(&found, &mut kinds);
        kinds
    }

    /// A copy of every file, to go back to.
    pub(super) fn snapshot(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut files = vec![self.data().join("catalog")];
        files.extend(self.files(""));
        files.retain(|path| path.is_file());
        files
            .into_iter()
            .map(|path| (path.clone(), std::fs::read(path).unwrap()))
            .collect()
    }
}

/// Kinds of all problems that are more than notes, anywhere in an answer.
fn collect(value: &Value, kinds: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            if let (Some(severity), Some(kind)) = (fields.get("severity"), fields.get("kind"))
                && *severity != json!("note")
            {
                kinds.push(kind.as_str().unwrap().to_owned());
            }
            fields.values().for_each(|value| collect(value, kinds));
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, kinds)),
        _ => {}
    }
}

pub(super) fn flip(path: &Path, at: u64, bit: u64) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[usize::try_from(at).unwrap()] ^= 1 << bit;
    std::fs::write(path, bytes).unwrap();
}
