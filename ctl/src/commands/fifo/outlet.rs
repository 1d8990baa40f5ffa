//! A pipe out of which events are read as lines.
//!
//! A line is *handed over* when all of it was read from the pipe; then its event is acknowledged. This keeps the pipe open, so what
//! is in it stays when the program that reads ends; and since the pipe says how much of it was not read, it is known where in which
//! line that program stopped. Then what nobody read is taken back, and the next program gets the line that was not read whole, from
//! its start, and all after it.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use mofka_client::{AckFuture, BatchSize, Consumer, ConsumerOptions, Event, PullFuture, TopicHandle};
use rustix::event::PollFlags;
use rustix::io::Errno;

use super::command::{Command, Format};
use super::pipe;
use crate::event_line::one_line;
use crate::stop::Stop;

/// How long it is waited for a program that reads, at the start: the original's.
const READER_WITHIN: Duration = Duration::from_secs(5);
/// How often it is looked for one.
const READER_EVERY: Duration = Duration::from_millis(50);
/// How long a wait for events, or for room in the pipe, is at most.
const WAIT: Duration = Duration::from_millis(50);
/// How long an acknowledgement may take when it is to stop.
const STOP_WITHIN: Duration = Duration::from_secs(5);
/// Bytes of lines that are put into the pipe with one call.
const WRITE_BYTES: usize = 64 << 10;
/// Lines that wait to be handed over.
const LINES_MAX: usize = 4096;

pub(super) struct Outlet {
    command: Command,
    stop: Stop,
    consumer: Consumer,
    /// Open from the first program that reads on: whoever opens it later does not see an end in between.
    pipe: Option<OwnedFd>,
    has_reader: bool,
    lines: Lines,
    /// Handed over.
    count: u64,
    acknowledged: Option<AckFuture>,
}

/// Why it is over.
enum End {
    Stopped,
    NoReader,
    Complete,
}

impl Outlet {
    pub(super) fn open(command: Command, topic: TopicHandle, stop: Stop) -> Result<Self, String> {
        let path = command.path.display();
        match pipe::is_there(&command.path) {
            Ok(true) => {}
            Ok(false) => {
                return Err(format!(
                    "{path} is not there: make it with mkfifo before it is to be read from"
                ));
            }
            Err(error) => return Err(format!("{path}: {error}")),
        }
        let options = ConsumerOptions {
            batch_size: BatchSize::Fixed(command.batch_size),
            ..ConsumerOptions::default()
        };
        let consumer = topic
            .consumer(&command.consumer, options)
            .map_err(|error| format!("consumer {}: {error}", command.consumer))?;
        Ok(Self {
            command,
            stop,
            consumer,
            pipe: None,
            has_reader: false,
            lines: Lines::default(),
            count: 0,
            acknowledged: None,
        })
    }

    pub(super) fn run(mut self) {
        let path = self.command.path.display().to_string();
        tracing::info!(
            path,
            topic = self.command.topic,
            state = "open",
            "a pipe is written"
        );
        match self.write() {
            Ok(End::Stopped) => {}
            Ok(End::NoReader) => tracing::error!(path, "nobody reads from the pipe"),
            Ok(End::Complete) => tracing::info!(
                path,
                state = "complete",
                "the topic is complete, and all of it was read"
            ),
            Err(error) => tracing::error!(path, error, "the pipe is given up"),
        }
        if let Some(Err(error)) = self.acknowledged.map(|future| future.wait_timeout(STOP_WITHIN)) {
            tracing::warn!(path, %error, "events will come again");
        }
        let in_pipe = self.lines.in_pipe_count();
        tracing::info!(
            path,
            state = "closed",
            lines = self.count,
            in_pipe,
            "a pipe is closed"
        );
    }

    fn write(&mut self) -> Result<End, String> {
        let started = Instant::now();
        let mut pull: Option<PullFuture> = None;
        let mut is_complete = false;
        let fail = |error: io::Error| error.to_string();
        loop {
            if self.stop.is_wished() {
                self.hand_over().map_err(fail)?;
                return Ok(End::Stopped);
            }
            if !self.find_reader().map_err(fail)? {
                if self.pipe.is_none() && started.elapsed() > READER_WITHIN {
                    return Ok(End::NoReader);
                }
                std::thread::sleep(READER_EVERY);
                continue;
            }
            if self.lines.has_room() && !is_complete {
                is_complete = self.pull(&mut pull)?;
            }
            if !self.put().map_err(fail)? && !self.next_reader().map_err(fail)? {
                return Ok(End::Stopped);
            }
            self.hand_over().map_err(fail)?;
            if is_complete && self.lines.is_empty() {
                return Ok(End::Complete);
            }
        }
    }

    /// Whether somebody reads.
    fn find_reader(&mut self) -> io::Result<bool> {
        match &self.pipe {
            None => {
                self.pipe = pipe::open_for_writing(&self.command.path)?;
                self.has_reader = self.pipe.is_some();
            }
            Some(_) if self.has_reader => {}
            Some(fd) => {
                let state = pipe::wait(fd, PollFlags::empty(), Duration::ZERO)?;
                self.has_reader = !state.contains(PollFlags::ERR);
            }
        }
        Ok(self.has_reader)
    }

    /// Takes events; waits for one only when nothing is to be written. Returns whether there are no more.
    fn pull(&mut self, pull: &mut Option<PullFuture>) -> Result<bool, String> {
        while self.lines.has_room() {
            let next = pull.get_or_insert_with(|| self.consumer.pull());
            let timeout = if self.lines.has_unwritten() {
                Duration::ZERO
            } else {
                WAIT
            };
            let pulled = next.wait_timeout(timeout).map_err(|error| error.to_string())?;
            match pulled {
                None => return Ok(false),
                Some(None) => return Ok(true),
                Some(Some(event)) => {
                    *pull = None;
                    let line = render(event.metadata_bytes(), self.command.format)?;
                    self.lines.add(event, line);
                }
            }
        }
        Ok(false)
    }

    /// Puts lines into the pipe, as many as it takes. Returns whether somebody reads.
    fn put(&mut self) -> io::Result<bool> {
        let Some(fd) = &self.pipe else { return Ok(false) };
        loop {
            let bytes = self.lines.unwritten();
            if bytes.is_empty() {
                return Ok(!pipe::wait(fd, PollFlags::empty(), Duration::ZERO)?.contains(PollFlags::ERR));
            }
            match rustix::io::write(fd, bytes) {
                Ok(written) => self.lines.wrote(written),
                Err(Errno::AGAIN) => {
                    let ready = pipe::wait(fd, PollFlags::OUT, WAIT)?;
                    return Ok(!ready.contains(PollFlags::ERR));
                }
                Err(Errno::PIPE) => return Ok(false),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Acknowledges what was read.
    fn hand_over(&mut self) -> io::Result<()> {
        let Some(fd) = &self.pipe else { return Ok(()) };
        let unread = pipe::unread_bytes(fd)?;
        let (count, last) = self.lines.read_up_to(unread);
        self.count += count;
        if let Some(event) = last.filter(|_| self.command.acknowledge) {
            self.acknowledged = Some(event.acknowledge());
        }
        Ok(())
    }

    /// The program that read has ended. Returns whether it is to go on with another.
    fn next_reader(&mut self) -> io::Result<bool> {
        let unread = pipe::take_back(&self.command.path)?;
        let (count, last) = self.lines.read_up_to(unread);
        self.count += count;
        if let Some(event) = last.filter(|_| self.command.acknowledge) {
            self.acknowledged = Some(event.acknowledge());
        }
        let again = self.lines.in_pipe_count();
        self.lines.begin_again();
        self.has_reader = false;
        let (path, lines) = (self.command.path.display(), self.count);
        tracing::info!(%path, state = "reader_gone", lines, again, "the program that read has ended");
        Ok(self.command.keep)
    }
}

/// What an event is as a line.
fn render(json: &[u8], format: Format) -> Result<Vec<u8>, String> {
    let text = match format {
        Format::Raw => serde_json::from_slice::<String>(json).ok(),
        Format::Json => None,
    };
    let mut line = match text {
        // One with a line break would be two lines.
        Some(text) if !text.contains('\n') => text.into_bytes(),
        _ => one_line(json)?.get().as_bytes().to_vec(),
    };
    line.push(b'\n');
    Ok(line)
}

/// Lines that were not handed over, in order: first those in the pipe.
#[derive(Default)]
struct Lines {
    /// Of each line its event, and how many bytes it has.
    lines: VecDeque<(Event, usize)>,
    bytes: VecDeque<u8>,
    /// Bytes that were put into the pipe and not handed over, of `bytes`.
    written: usize,
}

impl Lines {
    fn add(&mut self, event: Event, line: Vec<u8>) {
        self.lines.push_back((event, line.len()));
        self.bytes.extend(line);
    }

    fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    fn has_room(&self) -> bool {
        self.lines.len() < LINES_MAX && self.bytes.len() - self.written < WRITE_BYTES
    }

    fn has_unwritten(&self) -> bool {
        self.written < self.bytes.len()
    }

    fn unwritten(&mut self) -> &[u8] {
        let all: &[u8] = self.bytes.make_contiguous();
        let rest = all.get(self.written..).unwrap_or_default();
        rest.get(..WRITE_BYTES).unwrap_or(rest)
    }

    fn wrote(&mut self, bytes: usize) {
        self.written += bytes;
    }

    /// Lines of which something is in the pipe.
    fn in_pipe_count(&self) -> usize {
        let mut left = self.written;
        let begun = self.lines.iter().take_while(|(_, bytes)| {
            let is_begun = left > 0;
            left = left.saturating_sub(*bytes);
            is_begun
        });
        begun.count()
    }

    /// All but so many of the bytes in the pipe were read. Returns how many lines that hands over, and the last of them.
    fn read_up_to(&mut self, unread: u64) -> (u64, Option<Event>) {
        let unread = usize::try_from(unread).unwrap_or(usize::MAX);
        let mut read = self.written.saturating_sub(unread);
        let (mut count, mut last) = (0, None);
        while let Some((_, bytes)) = self.lines.front() {
            let bytes = *bytes;
            if bytes > read {
                break;
            }
            read -= bytes;
            self.written -= bytes;
            self.bytes.drain(..bytes);
            last = self.lines.pop_front().map(|(event, _)| event);
            count += 1;
        }
        (count, last)
    }

    /// Nothing is in the pipe any more.
    fn begin_again(&mut self) {
        self.written = 0;
    }
}
