//! `fifo`: named pipes as producers and consumers.
//!
//! A thread for each pipe. Whoever is slow blocks only its own: a pipe that nobody empties, or a node that takes nothing, fills
//! the pipe, and then the program at its other end waits.

mod command;
mod intake;
mod outlet;
mod pipe;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mofka_client::Driver;

use self::command::{Command, Direction};
use self::pipe::{LineReader, Read};
use crate::cli::FifoArgs;
use crate::daemon_log;
use crate::failure::{Failure, Outcome};
use crate::node::{self, Place};
use crate::output::Output;
use crate::stop::Stop;

/// How long a node that is lost is looked for: as long as it takes. What was read from a pipe is in no other place.
pub(crate) const RECONNECT_TIMEOUT: Duration = Duration::from_secs(10 * 365 * 86400);
/// Pipes at a time; each has a thread, and some MiB for batches.
const PIPES_MAX: usize = 256;
/// How long pipes may take when it is to stop: each flushes for up to 5 s.
const STOP_WITHIN: Duration = Duration::from_secs(15);
/// Bytes of a command.
const COMMAND_BYTES_MAX: usize = 64 << 10;

pub(crate) fn run(args: &FifoArgs, place: &Place, output: Output) -> Outcome {
    let stop = Stop::on_signals()?;
    daemon_log::init(args.logging.logging, output)?;
    let driver = node::connect_patiently(place, RECONNECT_TIMEOUT)?;
    serve(&args.control_file, driver, stop)
}

/// Serves what the control FIFO says.
pub(crate) fn serve(control: &Path, driver: Driver, stop: Stop) -> Outcome {
    pipe::make(control).map_err(|error| {
        Failure::failed(format!(
            "cannot make the control FIFO {}: {error}",
            control.display()
        ))
    })?;
    let removed = RemovedAtEnd(control);
    let mut pipes = Pipes {
        driver,
        stop: stop.clone(),
        running: BTreeMap::new(),
    };
    let fail = |error: std::io::Error| {
        Failure::failed(format!(
            "cannot read the control FIFO {}: {error}",
            control.display()
        ))
    };
    // Also open for writing: it never ends, whoever comes and goes.
    let mut commands = LineReader::new(pipe::open_both(control).map_err(fail)?, COMMAND_BYTES_MAX);
    tracing::info!(state = "ready", control = %control.display(), "waiting for commands");
    let outcome = loop {
        if stop.is_wished() {
            break Ok(());
        }
        match commands.next(Duration::from_millis(100)) {
            Ok(Read::Line(line)) => pipes.command(&line),
            Ok(Read::TooLong { bytes }) => {
                tracing::warn!(bytes, "Invalid command format: the line is too long")
            }
            Ok(Read::Nothing | Read::End) => {}
            Err(error) => break Err(fail(error)),
        }
    };
    stop.wish();
    drop(removed);
    let until = Instant::now() + STOP_WITHIN;
    for (path, thread) in pipes.running {
        while !thread.is_finished() && Instant::now() < until {
            thread::sleep(Duration::from_millis(10));
        }
        if !thread.is_finished() {
            // It has nothing that another life of it would miss: it waits for a node to open its topic.
            tracing::warn!(path = %path.display(), "a pipe is left while it waits for the node");
        } else if thread.join().is_err() {
            tracing::error!(path = %path.display(), "a pipe's thread ended by itself; this is a mistake of the program");
        }
    }
    tracing::info!(state = "ended", "fifo has ended");
    outcome
}

/// One pipe, to its end.
fn serve_pipe(command: Command, driver: &Driver, stop: Stop) -> Result<(), String> {
    let opened = driver.open_topic(&command.topic);
    let topic = opened.map_err(|error| format!("topic {}: {error}", command.topic))?;
    match command.direction {
        Direction::In => intake::Intake::open(command, topic, stop)?.run(),
        Direction::Out => outlet::Outlet::open(command, topic, stop)?.run(),
    }
    Ok(())
}

struct RemovedAtEnd<'a>(&'a Path);

impl Drop for RemovedAtEnd<'_> {
    fn drop(&mut self) {
        std::fs::remove_file(self.0).ok();
    }
}

struct Pipes {
    driver: Driver,
    stop: Stop,
    running: BTreeMap<PathBuf, JoinHandle<()>>,
}

impl Pipes {
    fn command(&mut self, line: &[u8]) {
        let text = String::from_utf8_lossy(line);
        if text.trim().is_empty() {
            return;
        }
        if let Err(reason) = self.try_command(&text) {
            tracing::warn!(command = %text, "{reason}");
        }
    }

    fn try_command(&mut self, text: &str) -> Result<(), String> {
        let command = Command::parse(text)?;
        self.running.retain(|_, thread| !thread.is_finished());
        if self.running.contains_key(&command.path) {
            return Err(format!("{} is in use already", command.path.display()));
        }
        if self.running.len() >= PIPES_MAX {
            return Err(format!(
                "there are {PIPES_MAX} pipes already, and more would take too much memory"
            ));
        }
        let path = command.path.clone();
        let (driver, stop, text) = (self.driver.clone(), self.stop.clone(), text.to_owned());
        // The node may be away: that is this pipe's matter, not the others'.
        let run = move || {
            if let Err(reason) = serve_pipe(command, &driver, stop) {
                tracing::warn!(command = text, "{reason}");
            }
        };
        let started = thread::Builder::new().name("pipe".to_owned()).spawn(run);
        let thread = started.map_err(|error| format!("cannot start a thread: {error}"))?;
        self.running.insert(path, thread);
        Ok(())
    }
}
