//! `consume` and `tail`: events as JSON lines.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mofka_client::{Consumer, ConsumerOptions, DataSelector, Event};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::cli::{ConsumeArgs, DataWanted, ReadingArgs, TailArgs};
use crate::event_line::{EventFacts, render};
use crate::failure::{Failure, Outcome};
use crate::node::{self, Place};
use crate::output::line;

/// How often a wait looks whether it was interrupted.
const LOOK_EVERY: Duration = Duration::from_millis(100);

pub(crate) fn consume(args: &ConsumeArgs, place: &Place) -> Outcome {
    let reading = Reading {
        consumer: &args.consumer,
        from: args.from_time.unwrap_or(args.from),
        ack_every: args.ack_every,
        args: &args.reading,
    };
    reading.run(&args.topic, place)
}

pub(crate) fn tail(args: &TailArgs, place: &Place) -> Outcome {
    // Of a name that nobody else has: consumers of one name share the events.
    let consumer = format!("mofka-ctl-tail-{}", uuid::Uuid::new_v4());
    Reading {
        consumer: &consumer,
        from: args.from_time.unwrap_or(args.from),
        ack_every: 0,
        args: &args.reading,
    }
    .run(&args.topic, place)
}

struct Reading<'a> {
    consumer: &'a str,
    from: crate::cli::From,
    ack_every: u64,
    args: &'a ReadingArgs,
}

impl Reading<'_> {
    fn run(&self, topic: &str, place: &Place) -> Outcome {
        let idle_max = match self.args.timeout {
            Some(seconds) => Some(
                Duration::try_from_secs_f64(seconds)
                    .map_err(|e| Failure::usage(format!("--timeout {seconds} is no length of time: {e}")))?,
            ),
            None => None,
        };
        let stopped = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&stopped))
                .map_err(|e| Failure::failed(format!("cannot handle signals: {e}")))?;
        }
        let topic = node::connect(place)?.open_topic(topic).map_err(node::failure)?;
        let options = ConsumerOptions {
            data_selector: match self.args.data {
                _ if self.args.data_to.is_some() => DataSelector::none(),
                DataWanted::None => DataSelector::none(),
                DataWanted::All => DataSelector::all(),
            },
            filter: self.args.filter.clone(),
            start: node::start_at(self.from),
            ..ConsumerOptions::default()
        };
        let consumer = topic
            .consumer(self.consumer, options)
            .map_err(node::consumer_failure)?;
        let mut acknowledger = Acknowledger {
            every: self.ack_every,
            lanes: BTreeMap::new(),
        };
        let ended = self.read(&consumer, &stopped, idle_max, &mut acknowledger);
        // Also after a failure: what was printed was delivered.
        acknowledger.finish()?;
        ended
    }

    fn read(
        &self,
        consumer: &Consumer,
        stopped: &AtomicBool,
        idle_max: Option<Duration>,
        acknowledger: &mut Acknowledger,
    ) -> Outcome {
        let mut printed = 0;
        let mut missed = Missed::default();
        while self.args.count.is_none_or(|count| printed < count) {
            let next = next(consumer, stopped, idle_max)?;
            missed.tell(consumer);
            match next {
                Next::Event(event) => {
                    self.print(&event)?;
                    printed += 1;
                    acknowledger.printed(event);
                }
                Next::Stopped => return Ok(()),
                Next::End(why) => {
                    return match self.args.count {
                        Some(count) => {
                            Err(Failure::check(format!("{printed} of {count} events came: {why}")))
                        }
                        None => Ok(()),
                    };
                }
            }
        }
        Ok(())
    }

    fn print(&self, event: &Event) -> Outcome {
        let is_printed = self.args.data == DataWanted::All && self.args.data_to.is_none();
        let data = is_printed.then(|| event.data().to_bytes());
        if let Some(dir) = &self.args.data_to {
            save(event, dir)?;
        }
        line(&render(EventFacts {
            partition: event.partition(),
            event_id: event.id().get(),
            metadata: event.metadata().clone(),
            data_bytes: event.data_bytes(),
            data: data.as_deref(),
        }))
    }
}

/// Writes an event's data to a file of its own, which has its name when all of it is there.
fn save(event: &Event, dir: &Path) -> Outcome {
    let path = dir.join(format!("{}-{}.data", event.partition(), event.id()));
    let unfinished = path.with_extension("unfinished");
    let saved = File::create(&unfinished)
        .and_then(|mut file| std::io::copy(&mut event.open_data(), &mut file))
        .and_then(|_| std::fs::rename(&unfinished, &path));
    saved.map_err(|error| {
        std::fs::remove_file(&unfinished).ok();
        Failure::failed(format!("cannot write {}: {error}", path.display()))
    })
}

/// Events that retention dropped before they came, as far as they were told.
#[derive(Default)]
struct Missed {
    told: u64,
}

impl Missed {
    /// On standard error: what is printed beside are the events that came.
    fn tell(&mut self, consumer: &Consumer) {
        let missed = consumer.missed_count();
        if missed > self.told {
            eprintln!(
                "Warning: {} events were dropped by the topic's retention before this consumer got them",
                missed - self.told
            );
            self.told = missed;
        }
    }
}

enum Next {
    Event(Event),
    /// Nothing more is to be waited for, and why.
    End(&'static str),
    Stopped,
}

fn next(consumer: &Consumer, stopped: &AtomicBool, idle_max: Option<Duration>) -> Outcome<Next> {
    let pull = consumer.pull();
    let started = Instant::now();
    loop {
        if stopped.load(Ordering::Relaxed) {
            return Ok(Next::Stopped);
        }
        let left = idle_max.map(|max| max.saturating_sub(started.elapsed()));
        let pulled = pull.wait_timeout(left.map_or(LOOK_EVERY, |left| left.min(LOOK_EVERY)));
        match pulled.map_err(|e| Failure::failed(e.to_string()))? {
            Some(Some(event)) => return Ok(Next::Event(event)),
            Some(None) => return Ok(Next::End("the topic is complete")),
            None if left == Some(Duration::ZERO) => return Ok(Next::End("no event came within --timeout")),
            None => {}
        }
    }
}

/// Acknowledges every n-th event of each partition, and the last.
struct Acknowledger {
    every: u64,
    lanes: BTreeMap<usize, Lane>,
}

#[derive(Default)]
struct Lane {
    printed: u64,
    last: Option<Event>,
}

impl Acknowledger {
    fn printed(&mut self, event: Event) {
        if self.every == 0 {
            return;
        }
        let lane = self.lanes.entry(event.partition()).or_default();
        lane.printed += 1;
        if lane.printed.is_multiple_of(self.every) {
            // Not waited for: the one of the last event, in `finish`, covers it.
            drop(event.acknowledge());
        }
        lane.last = Some(event);
    }

    fn finish(self) -> Outcome {
        let last: Vec<_> = self
            .lanes
            .into_values()
            .filter_map(|lane| lane.last)
            .map(|event| event.acknowledge())
            .collect();
        for future in last {
            future.wait().map_err(|e| node::acknowledge_failure(&e))?;
        }
        Ok(())
    }
}
