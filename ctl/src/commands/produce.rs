//! `produce`: the lines of a file as events.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Instant;

use mofka_client::{BatchSize, Data, Metadata, Producer, ProducerOptions, PushFuture};
use serde_json::{Map, Value, json};

use crate::cli::{LineFormat, ProduceArgs};
use crate::event_line;
use crate::failure::{Failure, Outcome};
use crate::interrupt::{Interrupt, Interruptible};
use crate::node::{self, Place};
use crate::output::Output;

/// Events whose answers are waited for only later.
const UNANSWERED_MAX: usize = 100_000;

pub(crate) fn run(args: &ProduceArgs, place: &Place, output: Output) -> Outcome {
    if let Some(path) = &args.stream {
        return stream(args, path, place, output);
    }
    let maker = EventMaker::new(args)?;
    let interrupt = Interrupt::listen()?;
    let mut input = open(&args.file, &interrupt)?;
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
    let mut pushed = push_all(&mut input, &maker, &producer, args.partition, &mut answers);
    if interrupt.came() {
        // The read that was interrupted is no failure of its own.
        pushed = Err(Failure::failed(format!(
            "interrupted before line {}; every line before it was sent",
            answers.lines + 1
        )));
    }
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
        "interrupted": interrupt.came(), "elapsed_ms": elapsed.as_secs_f64() * 1e3, "events_per_second": rate,
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
    let interrupt = Interrupt::listen()?;
    let mut input = open(path, &interrupt)?;
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

fn open(path: &Path, interrupt: &Interrupt) -> Outcome<BufReader<Interruptible>> {
    let opened = if path == Path::new("-") {
        io::stdin().as_fd().try_clone_to_owned().map(File::from)
    } else {
        File::open(path)
    };
    let file = opened.map_err(|e| Failure::failed(format!("cannot open {}: {e}", path.display())))?;
    Ok(BufReader::with_capacity(
        1 << 20,
        Interruptible::new(file, interrupt),
    ))
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
            answers.lines = number;
            continue;
        };
        let future = producer
            .push(metadata, data, partition)
            .map_err(|e| Failure::failed(format!("line {number}: {e}")))?;
        answers.lines = number;
        answers.expect(number, future);
    }
    Ok(())
}

/// Makes events of lines.
struct EventMaker {
    format: LineFormat,
    template: Map<String, Value>,
    data: Data,
}

impl EventMaker {
    fn new(args: &ProduceArgs) -> Outcome<Self> {
        let template = template(&args.metadata)?;
        if args.data_file.is_some() && args.format != LineFormat::Metadata {
            return Err(Failure::usage(
                "--data-file gives every event its data, and so does --format: only lines of metadata leave room for it",
            ));
        }
        let data = match &args.data_file {
            Some(path) => Data::from(
                std::fs::read(path)
                    .map_err(|e| Failure::failed(format!("cannot read {}: {e}", path.display())))?,
            ),
            None => Data::empty(),
        };
        Ok(Self {
            format: if args.raw { LineFormat::Raw } else { args.format },
            template,
            data,
        })
    }

    /// The line's event; none for a blank line of JSON.
    fn event(&self, line: &[u8]) -> Outcome<Option<(Metadata, Data)>> {
        let is_blank = line.iter().all(u8::is_ascii_whitespace);
        match self.format {
            LineFormat::Raw => Ok(Some((self.metadata(), Data::from(line)))),
            LineFormat::Hex => Ok(Some((self.metadata(), Data::from(from_hex(line)?)))),
            LineFormat::Metadata | LineFormat::Event if is_blank => Ok(None),
            // `push` checks it; it is stored as it is written.
            LineFormat::Metadata if self.template.is_empty() => {
                Ok(Some((Metadata::from(line), self.data.clone())))
            }
            LineFormat::Metadata => {
                let own = serde_json::from_slice(line).map_err(|e| {
                    Failure::failed(format!("not a JSON object, which --metadata could complete: {e}"))
                })?;
                Ok(Some((self.completed(own), self.data.clone())))
            }
            LineFormat::Event => {
                let (metadata, data) = event_line::parse(line).map_err(Failure::failed)?;
                let metadata = match metadata {
                    Value::Object(own) => self.completed(own),
                    other if self.template.is_empty() => Metadata::from(other),
                    other => {
                        return Err(Failure::failed(format!(
                            "the metadata {other} is no JSON object, which --metadata could complete"
                        )));
                    }
                };
                Ok(Some((metadata, Data::from(data))))
            }
        }
    }

    fn metadata(&self) -> Metadata {
        Metadata::from(Value::Object(self.template.clone()))
    }

    fn completed(&self, own: Map<String, Value>) -> Metadata {
        let mut whole = self.template.clone();
        whole.extend(own);
        Metadata::from(Value::Object(whole))
    }
}

/// Bytes that are written as pairs of hexadecimal digits; blanks between the pairs are skipped.
fn from_hex(line: &[u8]) -> Outcome<Vec<u8>> {
    let digits: Vec<u8> = line
        .iter()
        .copied()
        .filter(|c| !c.is_ascii_whitespace())
        .collect();
    let (pairs, odd) = digits.as_chunks::<2>();
    if !odd.is_empty() {
        return Err(Failure::failed(format!(
            "{} hexadecimal digits are no whole bytes",
            digits.len()
        )));
    }
    let byte = |pair: &[u8; 2]| {
        let text = std::str::from_utf8(pair).ok().filter(|text| !text.contains('+'));
        text.and_then(|text| u8::from_str_radix(text, 16).ok())
    };
    let bytes: Option<Vec<u8>> = pairs.iter().map(byte).collect();
    bytes.ok_or_else(|| Failure::failed("not a line of hexadecimal digits"))
}

/// The answers that are still to come, and what the others were.
#[derive(Default)]
struct Answers {
    /// Lines whose events were sent, blank ones included.
    lines: u64,
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

    fn maker(format: LineFormat, metadata: &str) -> EventMaker {
        let args = ProduceArgs {
            topic: "t".to_owned(),
            file: "-".into(),
            format,
            raw: false,
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
        let raw = maker(LineFormat::Raw, r#"{"from": "x"}"#);
        let (metadata, data) = raw.event(b"a line").unwrap().unwrap();
        assert_eq!(
            (metadata.value(), data.to_bytes().as_ref()),
            (&json!({"from": "x"}), &b"a line"[..])
        );
        let plain = maker(LineFormat::Metadata, "{}");
        let (metadata, data) = plain.event(b"{ \"a\": 1 }").unwrap().unwrap();
        assert_eq!(
            (metadata.raw().as_ref(), data.is_empty()),
            (&b"{ \"a\": 1 }"[..], true)
        );
        assert!(plain.event(b" \t").unwrap().is_none());
    }

    #[test]
    fn a_line_overrides_the_template() {
        let maker = maker(LineFormat::Metadata, r#"{"a": 1, "b": 2}"#);
        let (metadata, _) = maker.event(br#"{"b": 3}"#).unwrap().unwrap();
        assert_eq!(metadata.value(), &json!({"a": 1, "b": 3}));
        assert!(maker.event(b"[1]").is_err());
    }

    #[test]
    fn whole_events_and_hexadecimal_digits_are_understood() {
        let events = maker(LineFormat::Event, r#"{"a": 1}"#);
        let (metadata, data) = events
            .event(br#"{"id": 7, "partition": 0, "metadata": {"b": 2}, "data_base64": "/wA="}"#)
            .unwrap()
            .unwrap();
        assert_eq!(
            (metadata.value(), data.to_bytes().as_ref()),
            (&json!({"a": 1, "b": 2}), &[0xFF, 0][..])
        );
        assert!(events.event(b"").unwrap().is_none());
        assert!(events.event(br#"{"metadata": 7}"#).is_err());
        let (_, data) = maker(LineFormat::Hex, "{}").event(b"00 fF 7a").unwrap().unwrap();
        assert_eq!(data.to_bytes().as_ref(), [0, 255, b'z']);
        for wrong in ["0", "0g", "+1", "\u{e4}"] {
            assert!(from_hex(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
