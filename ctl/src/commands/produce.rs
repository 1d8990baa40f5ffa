//! `produce`: the lines of a file as events.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::time::Instant;

use mofka_client::{BatchSize, Data, Metadata, Producer, ProducerOptions, PushFuture};
use serde_json::{Map, Value, json};

use crate::cli::ProduceArgs;
use crate::failure::{Failure, Outcome};
use crate::node::{self, Place};
use crate::output::Output;

/// Events whose answers are waited for only later.
const UNANSWERED_MAX: usize = 100_000;

pub(crate) fn run(args: &ProduceArgs, place: &Place, output: Output) -> Outcome {
    if let Some(path) = &args.stream {
        return stream(args, path, place, output);
    }
    let maker = EventMaker::new(args)?;
    let mut input = open(&args.file)?;
    let topic = node::connect(place)?
        .open_topic(&args.topic)
        .map_err(node::failure)?;
    let batch_size = args.batch_size.map_or(BatchSize::Adaptive, BatchSize::fixed);
    let producer = topic.producer(ProducerOptions {
        name: "mofka-ctl".to_owned(),
        batch_size,
        ..ProducerOptions::default()
    });
    let started = Instant::now();
    let mut answers = Answers::default();
    let pushed = push_all(&mut input, &maker, &producer, args.partition, &mut answers);
    // What was pushed before a bad line is delivered all the same.
    producer
        .flush()
        .wait()
        .map_err(|e| Failure::failed(e.to_string()))?;
    answers.take_all();
    let elapsed = started.elapsed();
    let rate = answers.acknowledged as f64 / elapsed.as_secs_f64().max(1e-9);
    let facts = json!({
        "topic": args.topic, "acknowledged": answers.acknowledged, "failed": answers.failed,
        "elapsed_ms": elapsed.as_secs_f64() * 1e3, "events_per_second": rate,
    });
    output.print(&facts, || {
        let ms = elapsed.as_secs_f64() * 1e3;
        format!(
            "{} events acknowledged in {ms:.1} ms ({rate:.0}/s)",
            answers.acknowledged
        )
    })?;
    match answers.first_failure {
        Some((line, failure)) => Err(failure.while_doing(format!(
            "{} events failed, the first at line {line}",
            answers.failed
        ))),
        None => pushed,
    }
}

/// One event, whose data is sent as it is read.
fn stream(args: &ProduceArgs, path: &Path, place: &Place, output: Output) -> Outcome {
    let metadata = template(&args.metadata)?;
    let mut input = open(path)?;
    let topic = node::connect(place)?
        .open_topic(&args.topic)
        .map_err(node::failure)?;
    let producer = topic.producer(ProducerOptions {
        name: "mofka-ctl".to_owned(),
        ..ProducerOptions::default()
    });
    let started = Instant::now();
    let mut counted = Counted {
        from: &mut input,
        bytes: 0,
    };
    let pushed = producer.push_reader(Value::Object(metadata), &mut counted, args.partition);
    let id = pushed.map_err(|error| node::stream_failure(&error))?;
    let (elapsed, bytes) = (started.elapsed(), counted.bytes);
    let rate = bytes as f64 / 1e6 / elapsed.as_secs_f64().max(1e-9);
    let facts = json!({
        "topic": args.topic, "event_id": id.get(), "data_bytes": bytes,
        "elapsed_ms": elapsed.as_secs_f64() * 1e3, "megabytes_per_second": rate,
    });
    output.print(&facts, || {
        let seconds = elapsed.as_secs_f64();
        format!("event {id} with {bytes} bytes acknowledged in {seconds:.1} s ({rate:.0} MB/s)")
    })
}

/// Counts what is read.
struct Counted<'a> {
    from: &'a mut dyn BufRead,
    bytes: u64,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.from.read(buffer)?;
        self.bytes += bytes as u64;
        Ok(bytes)
    }
}

fn template(metadata: &str) -> Outcome<Map<String, Value>> {
    serde_json::from_str(metadata)
        .map_err(|e| Failure::usage(format!("--metadata is not a JSON object: {e}")))
}

fn open(path: &Path) -> Outcome<Box<dyn BufRead>> {
    if path == Path::new("-") {
        return Ok(Box::new(io::stdin().lock()));
    }
    let file =
        File::open(path).map_err(|e| Failure::failed(format!("cannot open {}: {e}", path.display())))?;
    Ok(Box::new(BufReader::with_capacity(1 << 20, file)))
}

fn push_all(
    input: &mut dyn BufRead,
    maker: &EventMaker,
    producer: &Producer,
    partition: Option<usize>,
    answers: &mut Answers,
) -> Outcome {
    let mut bytes = Vec::new();
    for number in 1_u64.. {
        bytes.clear();
        let read = input.read_until(b'\n', &mut bytes);
        if read.map_err(|e| Failure::failed(format!("cannot read line {number}: {e}")))? == 0 {
            break;
        }
        let line = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let Some((metadata, data)) = maker
            .event(line)
            .map_err(|e| e.while_doing(format!("line {number}")))?
        else {
            continue;
        };
        let future = producer
            .push(metadata, data, partition)
            .map_err(|e| Failure::failed(format!("line {number}: {e}")))?;
        answers.expect(number, future);
    }
    Ok(())
}

/// Makes events of lines.
struct EventMaker {
    raw: bool,
    template: Map<String, Value>,
    data: Data,
}

impl EventMaker {
    fn new(args: &ProduceArgs) -> Outcome<Self> {
        let template = template(&args.metadata)?;
        let data = match &args.data_file {
            Some(path) => Data::from(
                std::fs::read(path)
                    .map_err(|e| Failure::failed(format!("cannot read {}: {e}", path.display())))?,
            ),
            None => Data::empty(),
        };
        Ok(Self {
            raw: args.raw,
            template,
            data,
        })
    }

    /// The line's event; none for a blank line of JSON.
    fn event(&self, line: &[u8]) -> Outcome<Option<(Metadata, Data)>> {
        if self.raw {
            return Ok(Some((
                Metadata::from(Value::Object(self.template.clone())),
                Data::from(line),
            )));
        }
        if line.iter().all(u8::is_ascii_whitespace) {
            return Ok(None);
        }
        if self.template.is_empty() {
            // `push` checks it; it is stored as it is written.
            return Ok(Some((Metadata::from(line), self.data.clone())));
        }
        let own: Map<String, Value> = serde_json::from_slice(line).map_err(|e| {
            Failure::failed(format!("not a JSON object, which --metadata could complete: {e}"))
        })?;
        let mut whole = self.template.clone();
        whole.extend(own);
        Ok(Some((Metadata::from(Value::Object(whole)), self.data.clone())))
    }
}

/// The answers that are still to come, and what the others were.
#[derive(Default)]
struct Answers {
    waiting: VecDeque<(u64, PushFuture)>,
    acknowledged: u64,
    failed: u64,
    first_failure: Option<(u64, Failure)>,
}

impl Answers {
    fn expect(&mut self, line: u64, future: PushFuture) {
        self.waiting.push_back((line, future));
        while self.waiting.len() > UNANSWERED_MAX || self.waiting.front().is_some_and(|(_, f)| f.completed())
        {
            self.take_one();
        }
    }

    fn take_all(&mut self) {
        while !self.waiting.is_empty() {
            self.take_one();
        }
    }

    fn take_one(&mut self) {
        let Some((line, future)) = self.waiting.pop_front() else {
            return;
        };
        match future.wait() {
            Ok(_) => self.acknowledged += 1,
            Err(error) => {
                self.failed += 1;
                self.first_failure
                    .get_or_insert_with(|| (line, node::delivery_failure(&error)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn maker(raw: bool, metadata: &str) -> EventMaker {
        let args = ProduceArgs {
            topic: "t".to_owned(),
            file: "-".into(),
            raw,
            metadata: metadata.to_owned(),
            data_file: None,
            stream: None,
            batch_size: None,
            partition: None,
        };
        EventMaker::new(&args).unwrap()
    }

    #[test]
    fn raw_lines_are_data_and_others_metadata() {
        let (metadata, data) = maker(true, r#"{"from": "x"}"#).event(b"a line").unwrap().unwrap();
        assert_eq!(
            (metadata.value(), data.to_bytes().as_ref()),
            (&json!({"from": "x"}), &b"a line"[..])
        );
        let (metadata, data) = maker(false, "{}").event(b"{ \"a\": 1 }").unwrap().unwrap();
        assert_eq!(
            (metadata.raw().as_ref(), data.is_empty()),
            (&b"{ \"a\": 1 }"[..], true)
        );
        assert!(maker(false, "{}").event(b" \t").unwrap().is_none());
    }

    #[test]
    fn a_line_overrides_the_template() {
        let maker = maker(false, r#"{"a": 1, "b": 2}"#);
        let (metadata, _) = maker.event(br#"{"b": 3}"#).unwrap().unwrap();
        assert_eq!(metadata.value(), &json!({"a": 1, "b": 3}));
        assert!(maker.event(b"[1]").is_err());
    }
}
