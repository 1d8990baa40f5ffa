//! A pipe whose lines become events.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use mofka_client::{BatchSize, Metadata, Producer, ProducerOptions, PushError, PushFuture, TopicHandle};

use super::command::{Command, Format};
use super::pipe::{self, LineReader, Read};
use crate::stop::Stop;

/// Bytes of a line.
const LINE_BYTES_MAX: usize = 16 << 20;
/// How long a wait for a line is at most, until something else is looked at.
const WAIT: Duration = Duration::from_millis(100);
/// How often it is looked for the next program that writes.
const NEXT_EVERY: Duration = Duration::from_millis(20);
/// How long what was read may take when it is to stop.
const STOP_WITHIN: Duration = Duration::from_secs(5);
/// Bytes of a line that are quoted in the log.
const QUOTED_BYTES: usize = 80;

pub(super) struct Intake {
    command: Command,
    topic: TopicHandle,
    stop: Stop,
    reader: LineReader,
    /// Answers that have not come.
    answers: VecDeque<PushFuture>,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    lines: u64,
    stored: u64,
    refused: u64,
}

impl Intake {
    /// Opens the pipe, and makes it if it is not there.
    pub(super) fn open(command: Command, topic: TopicHandle, stop: Stop) -> Result<Self, String> {
        let path = &command.path;
        let opened = pipe::is_there(path)
            .and_then(|is_there| if is_there { Ok(()) } else { pipe::make(path) })
            .and_then(|()| pipe::open_for_reading(path));
        let fd = opened.map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self {
            command,
            topic,
            stop,
            reader: LineReader::new(fd, LINE_BYTES_MAX),
            answers: VecDeque::new(),
            counts: Counts::default(),
        })
    }

    pub(super) fn run(mut self) {
        let path = self.command.path.display().to_string();
        tracing::info!(path, topic = self.command.topic, state = "open", "a pipe is read");
        let producer = self.topic.producer(ProducerOptions {
            name: path.clone(),
            batch_size: BatchSize::Fixed(self.command.batch_size),
            // A program that writes a line now and then is not left waiting for the others of its batch.
            batch_idle_timeout: Some(Duration::from_millis(100)),
            max_num_batches: 4,
            drop_timeout: Duration::ZERO,
            ..ProducerOptions::default()
        });
        let outcome = self.read(&producer);
        let flushed = match self.stop.is_wished() {
            true => producer.flush().wait_timeout(STOP_WITHIN),
            false => producer.flush().wait().map(Some),
        };
        self.take_answers();
        let unstored = self.answers.len();
        if unstored > 0 {
            tracing::error!(
                path,
                unstored,
                ?flushed,
                "lines were read and are not stored yet: whether they will be is not known"
            );
        }
        if let Err(error) = outcome {
            tracing::error!(path, %error, "the pipe cannot be read");
        }
        // As the original does: the pipe is one program's, unless it is to be kept.
        if !self.stop.is_wished() && !self.command.keep {
            std::fs::remove_file(&self.command.path).ok();
        }
        let Counts {
            lines,
            stored,
            refused,
        } = self.counts;
        tracing::info!(path, state = "closed", lines, stored, refused, "a pipe is closed");
    }

    fn read(&mut self, producer: &Producer) -> std::io::Result<()> {
        loop {
            // What programs wrote before the wish to stop is in the pipe, and nowhere else.
            let is_over = self.stop.is_wished();
            let timeout = if is_over { Duration::ZERO } else { WAIT };
            match self.reader.next(timeout)? {
                Read::Line(line) if line.is_empty() => {}
                Read::Line(line) => {
                    self.counts.lines += 1;
                    self.push(producer, line);
                }
                Read::TooLong { bytes } => {
                    self.counts.lines += 1;
                    self.refuse(
                        &format!("it has {bytes} bytes, and a line at most {LINE_BYTES_MAX}"),
                        b"",
                    );
                }
                Read::Nothing | Read::End if is_over => return Ok(()),
                Read::Nothing => {}
                Read::End if self.command.keep => std::thread::sleep(NEXT_EVERY),
                Read::End => return Ok(()),
            }
            self.take_answers();
        }
    }

    fn push(&mut self, producer: &Producer, line: Vec<u8>) {
        let (metadata, data) = match (self.command.format, std::str::from_utf8(&line)) {
            (Format::Json, _) => match Metadata::parse(line.clone()) {
                Ok(metadata) => (metadata, Bytes::new()),
                Err(error) => return self.refuse(&error.to_string(), &line),
            },
            (Format::Raw, Ok(text)) => (Metadata::string(text), Bytes::new()),
            // JSON has no way to say these bytes: the event's data are they.
            (Format::Raw, Err(_)) => (
                Metadata::string(String::from_utf8_lossy(&line)),
                Bytes::from(line.clone()),
            ),
        };
        // While it waits for room, the pipe fills, and then the program that writes waits. When it is to stop, not for ever.
        let deadline = std::cell::Cell::new(None);
        let goes_on = || {
            if !self.stop.is_wished() {
                return true;
            }
            let now = std::time::Instant::now();
            let until = deadline.get().unwrap_or(now + STOP_WITHIN);
            deadline.set(Some(until));
            now < until
        };
        match producer.push_while(metadata, data, None, goes_on) {
            Ok(answer) => self.answers.push_back(answer),
            Err(PushError::GivenUp) => self.refuse("the node took nothing while this was to stop", &line),
            Err(error) => self.refuse(&error.to_string(), &line),
        }
    }

    fn refuse(&mut self, reason: &str, line: &[u8]) {
        self.counts.refused += 1;
        let quoted = String::from_utf8_lossy(line.get(..QUOTED_BYTES).unwrap_or(line)).into_owned();
        let (path, number) = (self.command.path.display(), self.counts.lines);
        tracing::warn!(%path, line = number, reason, quoted, "a line is not stored");
    }

    fn take_answers(&mut self) {
        // Not by waiting, which would send the batch before it is full.
        while self.answers.front().is_some_and(PushFuture::completed) {
            let Some(answer) = self.answers.pop_front() else {
                return;
            };
            match answer.wait() {
                Ok(_) => self.counts.stored += 1,
                Err(error) => {
                    self.counts.refused += 1;
                    tracing::warn!(path = %self.command.path.display(), %error, "a line is not stored");
                }
            }
        }
    }
}
