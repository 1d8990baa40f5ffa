//! `produce`: the lines of a file as events.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Instant;

use mofka_client::{BatchSize, Data, Metadata, Producer, ProducerOptions, PushFuture, TopicHandle};
use serde_json::json;
use serde_json::value::RawValue;

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
    let topic = open_topic(args, place)?;
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

/// The topic, which must have the partition that is asked for: its selector would take another one.
fn open_topic(args: &ProduceArgs, place: &Place) -> Outcome<TopicHandle> {
    let topic = node::connect(place)?
        .open_topic(&args.topic)
        .map_err(node::failure)?;
    let count = topic.partitions().len();
    match args.partition.filter(|index| *index >= count) {
        Some(index) => Err(node::no_partition(&topic, Some(index))),
        None => Ok(topic),
    }
}

/// One event, whose data is sent as it is read.
fn stream(args: &ProduceArgs, path: &Path, place: &Place, output: Output) -> Outcome {
    template(&args.metadata)?;
    let interrupt = Interrupt::listen()?;
    let mut input = open(path, &interrupt)?;
    let topic = open_topic(args, place)?;
    let producer = topic.producer(ProducerOptions {
        name: "mofka-ctl".to_owned(),
        ..ProducerOptions::default()
    });
    let started = Instant::now();
    let mut counted = Counted {
        from: &mut input,
        bytes: 0,
    };
    let pushed = producer.push_reader(args.metadata.as_str(), &mut counted, args.partition);
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

/// Values by their keys, each as it is written: numbers stay as they are.
type Object<'a> = BTreeMap<String, &'a RawValue>;

fn template(metadata: &str) -> Outcome<Object<'_>> {
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
    maker: &EventMaker<'_>,
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
struct EventMaker<'a> {
    format: LineFormat,
    /// What --metadata says, whole and taken apart.
    metadata: Metadata,
    template: Object<'a>,
    data: Data,
}

impl<'a> EventMaker<'a> {
    fn new(args: &'a ProduceArgs) -> Outcome<Self> {
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
            metadata: Metadata::from(args.metadata.as_str()),
            template,
            data,
        })
    }

    /// The line's event; none for a blank line of JSON.
    fn event(&self, line: &[u8]) -> Outcome<Option<(Metadata, Data)>> {
        let is_blank = line.iter().all(u8::is_ascii_whitespace);
        match self.format {
            LineFormat::Raw => Ok(Some((self.metadata.clone(), Data::from(line)))),
            LineFormat::Hex => Ok(Some((self.metadata.clone(), Data::from(from_hex(line)?)))),
            LineFormat::Metadata | LineFormat::Event if is_blank => Ok(None),
            // `push` checks it; it is stored as it is written.
            LineFormat::Metadata if self.template.is_empty() => {
                Ok(Some((Metadata::from(line), self.data.clone())))
            }
            LineFormat::Metadata => Ok(Some((self.completed(line)?, self.data.clone()))),
            LineFormat::Event => {
                let (metadata, data) = event_line::parse(line).map_err(Failure::failed)?;
                let metadata = match self.template.is_empty() {
                    true => Metadata::from(metadata),
                    false => self.completed(metadata.as_bytes())?,
                };
                Ok(Some((metadata, Data::from(data))))
            }
        }
    }

    /// What --metadata says, and this metadata over it.
    fn completed(&self, own: &[u8]) -> Outcome<Metadata> {
        let wrong = |e: serde_json::Error| {
            Failure::failed(format!("not a JSON object, which --metadata could complete: {e}"))
        };
        let own: Object<'_> = serde_json::from_slice(own).map_err(wrong)?;
        let mut whole = self.template.clone();
        whole.extend(own);
        serde_json::to_string(&whole).map(Metadata::from).map_err(wrong)
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

    fn arguments(format: LineFormat, metadata: &str) -> ProduceArgs {
        ProduceArgs {
            topic: "t".to_owned(),
            file: "-".into(),
            format,
            raw: false,
            metadata: metadata.to_owned(),
            data_file: None,
            stream: None,
            batch_size: None,
            partition: None,
        }
    }

    /// The metadata and the data of this line's event.
    fn made(format: LineFormat, metadata: &str, line: &[u8]) -> Outcome<Option<(String, Vec<u8>)>> {
        let arguments = arguments(format, metadata);
        let event = EventMaker::new(&arguments)?.event(line)?;
        let parts = |(metadata, data): (Metadata, Data)| {
            let metadata = String::from_utf8(metadata.raw().to_vec()).unwrap();
            (metadata, data.to_bytes().to_vec())
        };
        Ok(event.map(parts))
    }

    #[track_caller]
    fn makes(format: LineFormat, metadata: &str, line: &[u8], expected: (&str, &[u8])) {
        let (metadata, data) = made(format, metadata, line).unwrap().unwrap();
        assert_eq!((metadata.as_str(), data.as_slice()), expected);
    }

    #[test]
    fn raw_lines_are_data_and_others_metadata() {
        makes(
            LineFormat::Raw,
            r#"{"from": "x"}"#,
            b"a line",
            (r#"{"from": "x"}"#, b"a line"),
        );
        makes(LineFormat::Metadata, "{}", b"{ \"a\": 1 }", ("{ \"a\": 1 }", b""));
        assert!(made(LineFormat::Metadata, "{}", b" \t").unwrap().is_none());
    }

    #[test]
    fn a_line_overrides_the_template() {
        let template = r#"{"a": 1, "b": 2}"#;
        makes(
            LineFormat::Metadata,
            template,
            br#"{"b": 3}"#,
            (r#"{"a":1,"b":3}"#, b""),
        );
        assert!(made(LineFormat::Metadata, template, b"[1]").is_err());
    }

    #[test]
    fn metadata_is_stored_as_it_is_written() {
        let exact = r#"{"n":18446744073709551617,"x":0.1000000000000000055511151231257827}"#;
        makes(LineFormat::Raw, exact, b"", (exact, b""));
        let completed = format!("{{\"k\":1e400,{}", &exact[1..]);
        makes(
            LineFormat::Metadata,
            r#"{"k": 1e400}"#,
            exact.as_bytes(),
            (&completed, b""),
        );
        for exact in [exact, r#"{"z":1,"a":2,"a":3}"#, r#"["\ud800"]"#] {
            let event = format!("{{\"metadata\": {exact}}}");
            makes(LineFormat::Event, "{}", event.as_bytes(), (exact, b""));
        }
    }

    #[test]
    fn whole_events_and_hexadecimal_digits_are_understood() {
        let line = br#"{"id": 7, "partition": 0, "metadata": {"b": 2}, "data_base64": "/wA="}"#;
        let expected = (r#"{"a":1,"b":2}"#, &[0xFF, 0][..]);
        makes(LineFormat::Event, r#"{"a": 1}"#, line, expected);
        assert!(made(LineFormat::Event, r#"{"a": 1}"#, b"").unwrap().is_none());
        assert!(made(LineFormat::Event, r#"{"a": 1}"#, br#"{"metadata": 7}"#).is_err());
        makes(LineFormat::Hex, "{}", b"00 fF 7a", ("{}", &[0, 255, b'z']));
        for wrong in ["0", "0g", "+1", "\u{e4}"] {
            assert!(from_hex(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
