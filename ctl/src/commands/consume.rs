//! `consume` and `tail`: events as they come.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use mofka_client::{Consumer, ConsumerOptions, DataSelector, Event, Recipe, Segment};

use crate::cli::{ConsumeArgs, DataWanted, ReadingArgs, TailArgs};
use crate::event_line::{EventFacts, one_line};
use crate::failure::{Failure, Outcome};
use crate::format::Format;
use crate::interrupt::Interrupt;
use crate::node::{self, Place};
use crate::output::{self, Output};

/// How often a wait looks whether it was interrupted.
const LOOK_EVERY: Duration = Duration::from_millis(100);

pub(crate) fn consume(args: &ConsumeArgs, place: &Place, output: Output) -> Outcome {
    let reading = Reading {
        consumer: &args.consumer,
        from: args.from_time.unwrap_or(args.from),
        ack_every: args.ack_every,
        args: &args.reading,
    };
    reading.run(&args.topic, place, output)
}

pub(crate) fn tail(args: &TailArgs, place: &Place, output: Output) -> Outcome {
    // Of a name that nobody else has: consumers of one name share the events.
    let consumer = format!("mofka-ctl-tail-{}", uuid::Uuid::new_v4());
    Reading {
        consumer: &consumer,
        from: args.from_time.unwrap_or(args.from),
        ack_every: 0,
        args: &args.reading,
    }
    .run(&args.topic, place, output)
}

/// Options that say something only together with others.
fn check(args: &ReadingArgs, output: Output) -> Outcome {
    let is_json = args.format == Format::Json;
    if output.is_json() && !is_json {
        return Err(Failure::usage(
            "--json and another --format are two formats: give one of them",
        ));
    }
    if args.format.is_lines() && args.separator != "\n" {
        return Err(Failure::usage(
            "--separator is for --format raw and templates: what json and hex print ends by itself",
        ));
    }
    let has_no_data = args.data == DataWanted::None || args.data_to.is_some();
    if has_no_data && args.format.shows_data() && args.format == Format::Raw {
        return Err(Failure::usage(
            "--format raw prints the data of events, and none is fetched: leave out --data none and --data-to",
        ));
    }
    Ok(())
}

/// What of each event's data comes with it.
fn selector(args: &ReadingArgs) -> DataSelector {
    let is_unwanted = args.data_to.is_some() || !args.format.shows_data();
    match is_unwanted {
        true => DataSelector::none(),
        false => selector_of(&args.data),
    }
}

/// What is fetched of each event's data.
pub(super) fn selector_of(data: &DataWanted) -> DataSelector {
    match data {
        DataWanted::None => DataSelector::none(),
        DataWanted::All => DataSelector::all(),
        DataWanted::Ranges(ranges) => match ranges.as_slice() {
            // Of one range the node knows in advance, and cuts it to what there is.
            [range] => DataSelector::views(Recipe::new().sub_view(range.start, range.end - range.start)),
            ranges => {
                let ranges = ranges.to_vec();
                DataSelector::new(move |_, data| {
                    let cut = ranges
                        .iter()
                        .map(|range| (range.start, range.end.min(data.bytes())));
                    let segments: Vec<Segment> = cut
                        .filter(|(start, end)| start < end)
                        .map(|(start, end)| Segment {
                            offset: start,
                            bytes: end - start,
                        })
                        .collect();
                    Ok(match segments.as_slice() {
                        [] => data.sub_view(0, 0),
                        segments => data.unstructured_view(segments)?,
                    })
                })
            }
        },
    }
}

struct Reading<'a> {
    consumer: &'a str,
    from: crate::cli::From,
    ack_every: u64,
    args: &'a ReadingArgs,
}

impl Reading<'_> {
    fn run(&self, topic: &str, place: &Place, output: Output) -> Outcome {
        check(self.args, output)?;
        let idle_max = match self.args.timeout {
            Some(seconds) => Some(
                Duration::try_from_secs_f64(seconds)
                    .map_err(|e| Failure::usage(format!("--timeout {seconds} is no length of time: {e}")))?,
            ),
            None => None,
        };
        let interrupt = Interrupt::listen()?;
        let topic = node::connect(place)?.open_topic(topic).map_err(node::failure)?;
        let options = ConsumerOptions {
            data_selector: selector(self.args),
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
        let mut printed = 0;
        let ended = self.read(
            &consumer,
            &topic.name(),
            idle_max,
            &interrupt,
            &mut acknowledger,
            &mut printed,
        );
        // Also after a failure: what was printed was delivered.
        let acknowledged = acknowledger.finish()?;
        if interrupt.came() {
            eprintln!("Interrupted: {printed} events printed{acknowledged}");
        }
        ended
    }

    fn read(
        &self,
        consumer: &Consumer,
        topic: &str,
        idle_max: Option<Duration>,
        interrupt: &Interrupt,
        acknowledger: &mut Acknowledger,
        printed: &mut u64,
    ) -> Outcome {
        let mut missed = Missed::default();
        while self.args.count.is_none_or(|count| *printed < count) {
            let next = next(consumer, interrupt, idle_max)?;
            missed.tell(consumer);
            match next {
                Next::Event(event) => {
                    self.print(&event, topic)?;
                    *printed += 1;
                    acknowledger.printed(event);
                }
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

    fn print(&self, event: &Event, topic: &str) -> Outcome {
        let is_fetched = self.args.data != DataWanted::None
            && self.args.data_to.is_none()
            && self.args.format.shows_data();
        let data = is_fetched.then(|| event.data().to_bytes());
        if let Some(dir) = &self.args.data_to {
            save(event, dir)?;
        }
        let cannot = |what: String| {
            let (partition, id) = (event.partition(), event.id());
            Failure::failed(format!(
                "cannot print event {id} of partition {partition}: {what}"
            ))
        };
        let metadata = one_line(event.metadata_bytes()).map_err(cannot)?;
        let facts = EventFacts {
            topic,
            partition: event.partition(),
            event_id: event.id().get(),
            timestamp_us: event.timestamp_us(),
            metadata: &metadata,
            data_bytes: event.data_bytes(),
            data: data.as_deref(),
        };
        let printed = self.args.format.render(&facts, &self.args.separator);
        output::raw(&printed.map_err(cannot)?)
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
}

fn next(consumer: &Consumer, interrupt: &Interrupt, idle_max: Option<Duration>) -> Outcome<Next> {
    let pull = consumer.pull();
    let started = Instant::now();
    loop {
        if interrupt.came() {
            return Ok(Next::End("interrupted"));
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

    /// Acknowledges the last of each partition, and tells what that is.
    fn finish(self) -> Outcome<String> {
        let last: Vec<_> = self
            .lanes
            .into_iter()
            .filter_map(|(partition, lane)| Some((partition, lane.last?)))
            .map(|(partition, event)| (partition, event.id().get() + 1, event.acknowledge()))
            .collect();
        let mut told = String::new();
        for (partition, end, future) in last {
            future.wait().map_err(|e| node::acknowledge_failure(&e))?;
            let begin = if told.is_empty() { "; acknowledged: " } else { ", " };
            told.push_str(&format!("{begin}partition {partition} up to event {end}"));
        }
        Ok(told)
    }
}
