//! A producer in Python beside one in Rust: the same events over the ring, in adaptive batches, into memory and into the log.

use std::cell::RefCell;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use mofka_client::{Driver, PartitionKind, ProducerOptions, TopicHandle, TopicOptions};
use serde_json::{Value, json};

use crate::events::Events;
use crate::harness::{self, Machine, Sample, Side, cpu_time};
use crate::node::{Listen, Node};
use crate::ring::{self, Cores};

const SIDE: &str = include_str!("python/side.py");
/// Texts of metadata, before they repeat.
const TEXTS: u64 = 1024;
/// Events between two looks at the clock.
const BETWEEN: usize = 256;
const RUST: &str = "Rust client, push";

#[derive(Args)]
pub(crate) struct PythonArgs {
    /// Directory on the device to measure.
    #[arg(long, default_value = ".")]
    dir: PathBuf,
    /// A Python that has the package mofka (`make python`).
    #[arg(long, default_value = "target/python-venv/bin/python")]
    python: PathBuf,
    /// Bytes of data in an event.
    #[arg(long, default_value_t = 1024)]
    data_bytes: usize,
    /// Bytes of metadata (JSON) in an event, about.
    #[arg(long, default_value_t = 128)]
    metadata_bytes: usize,
    /// Milliseconds that a turn takes, about.
    #[arg(long, default_value_t = 500)]
    turn_ms: u64,
    /// Turns of each side; the median counts.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
}

/// The interpreter, at the other end of two pipes.
struct Interpreter {
    child: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Interpreter {
    fn start(args: &PythonArgs, node: &Node, content: &Events) -> Result<Self, String> {
        let mut child = Command::new(&args.python)
            .args(["-c", SIDE])
            .arg(node.group_file())
            .args(content.metadata(TEXTS))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| format!("{}: {e} (make python)", args.python.display()))?;
        let (Some(questions), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("no pipes".to_owned());
        };
        let mut interpreter = Self {
            child,
            questions,
            answers: BufReader::new(answers),
        };
        interpreter.hear()?;
        Ok(interpreter)
    }

    fn hear(&mut self) -> Result<Value, String> {
        let mut line = String::new();
        self.answers.read_line(&mut line).map_err(|e| e.to_string())?;
        serde_json::from_str(&line).map_err(|e| format!("the interpreter said {line:?}: {e}"))
    }

    /// One turn: events, time that they took, CPU time.
    fn turn(
        &mut self,
        args: &PythonArgs,
        topic: &str,
        way: &str,
    ) -> Result<(u64, Duration, Duration), String> {
        let question = json!([topic, way, args.turn_ms, args.data_bytes]);
        writeln!(self.questions, "{question}").map_err(|e| e.to_string())?;
        let answer = self.hear()?;
        let seconds = |name: &str| {
            let seconds = answer[name]
                .as_f64()
                .ok_or_else(|| format!("no {name} in {answer}"))?;
            Duration::try_from_secs_f64(seconds).map_err(|e| e.to_string())
        };
        let events = answer["events"].as_u64().ok_or("no events")?;
        Ok((events, seconds("seconds")?, seconds("cpu_seconds")?))
    }
}

impl Drop for Interpreter {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

pub(crate) fn measure(args: &PythonArgs, json: bool) -> Result<(), String> {
    let machine = Machine::here(&args.dir);
    // The node may use every core, so it comes first, and pins its shard to the first one.
    let node = Node::start_on(&args.dir, 1, Listen::Unix)?;
    let cores = Cores::choose()?;
    // The threads of the driver inherit it, and so does the interpreter.
    ring::pin(cores.far);
    let driver = node.driver()?;
    let content = Events::new(args.metadata_bytes, args.data_bytes);
    let interpreter = RefCell::new(Interpreter::start(args, &node, &content)?);
    for (kind, stored) in [
        (PartitionKind::Memory, "memory partition"),
        (PartitionKind::Default, "log partition, synced"),
    ] {
        let turn = &Turn {
            args,
            node: &node,
            driver: &driver,
            kind,
        };
        let mut sides = vec![Side::new(RUST.to_owned(), || {
            turn.run(|topic| turn.push(topic, &content))
        })];
        for way in ["push(str)", "push_many(str)", "push(dict)"] {
            let interpreter = &interpreter;
            sides.push(Side::new(format!("Python, {way}"), move || {
                turn.run(|topic| interpreter.borrow_mut().turn(args, &topic.name(), way))
            }));
        }
        let series = harness::interleave(args.rounds, sides)?;
        let title = format!(
            "{stored}, shared memory, adaptive batches, one thread: events/s; node's shard on core {}, producer on core {}",
            cores.near, cores.far
        );
        harness::print(&title, &machine, &series, Some(RUST), json);
        if !json {
            println!();
        }
    }
    Ok(())
}

struct Turn<'a> {
    args: &'a PythonArgs,
    node: &'a Node,
    driver: &'a Driver,
    kind: PartitionKind,
}

impl Turn<'_> {
    fn run(
        &self,
        push: impl FnOnce(&TopicHandle) -> Result<(u64, Duration, Duration), String>,
    ) -> Result<Sample, String> {
        static TURNS: AtomicU64 = AtomicU64::new(0);
        let name = format!("turn-{}", TURNS.fetch_add(1, Ordering::Relaxed));
        let topic = self
            .driver
            .create_topic(TopicOptions::new(&name).partition_kind(self.kind))
            .map_err(|e| e.to_string())?;
        let nodes = self.node.cpu_time();
        let (events, elapsed, own) = push(&topic)?;
        let nodes = self.node.cpu_time().saturating_sub(nodes);
        let stored = topic.partition_status(0).map_err(|e| e.to_string())?.visible_end;
        if stored != events {
            return Err(format!("{stored} of {events} events are stored"));
        }
        self.driver.delete_topic(&name).map_err(|e| e.to_string())?;
        let per_second = events as f64 / elapsed.as_secs_f64();
        let bytes = self.args.data_bytes + self.args.metadata_bytes;
        let each = |cpu: Duration| cpu.as_secs_f64() * 1e6 / events as f64;
        Ok(Sample {
            per_second,
            megabytes_per_second: per_second * bytes as f64 / 1e6,
            cpu_us: each(own),
            node_cpu_us: each(nodes),
            ..Sample::default()
        })
    }

    fn push(&self, topic: &TopicHandle, content: &Events) -> Result<(u64, Duration, Duration), String> {
        let producer = topic.producer(ProducerOptions::default());
        let (own, started) = (cpu_time(), Instant::now());
        for (n, text) in content.metadata(u64::MAX).enumerate() {
            if n % BETWEEN == 0 && started.elapsed() >= Duration::from_millis(self.args.turn_ms) {
                break;
            }
            producer
                .push(text, content.data.as_slice(), None)
                .map_err(|e| e.to_string())?;
        }
        let report = producer.close().map_err(|e| e.to_string())?;
        Ok((report.acknowledged, started.elapsed(), cpu_time() - own))
    }
}
