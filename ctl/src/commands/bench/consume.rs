//! `bench consume`: as many events as a consumer gets.

use std::time::{Duration, Instant};

use mofka_client::{Consumer, ConsumerOptions, Event, PushError, Start};

use crate::cli::{BenchConsumeArgs, DataWanted};
use crate::commands::bench::content::Template;
use crate::commands::bench::progress::{Goal, Progress};
use crate::commands::bench::report::{Measured, note};
use crate::commands::bench::run::{Run, cpu_time};
use crate::commands::consume::selector_of;
use crate::failure::{Failure, Outcome};
use crate::node::{self, Place};
use crate::output::Output;

/// Events when their number was not given.
const EVENTS: u64 = 100_000;
/// How often a wait looks whether it is over.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long no event comes before those that are left are missing.
const IDLE_MAX: Duration = Duration::from_secs(10);
/// After so many events the progress is told.
const TELL_EVERY: u64 = 1024;

/// What a wait for an event gave.
pub(crate) enum Next {
    Event(Box<Event>),
    /// It is over: somebody interrupts, or no event came for long enough, or none will.
    Over,
}

/// Waits for an event, as long as `goes_on` says.
pub(crate) fn next(consumer: &Consumer, goes_on: impl Fn() -> bool) -> Outcome<Next> {
    let future = consumer.pull();
    loop {
        let settled = future
            .wait_timeout(LOOK_EVERY)
            .map_err(|error| Failure::failed(error.to_string()))?;
        match settled {
            Some(Some(event)) => return Ok(Next::Event(Box::new(event))),
            Some(None) => return Ok(Next::Over),
            None if goes_on() => {}
            None => return Ok(Next::Over),
        }
    }
}

/// A consumer that nobody else shares and that leaves no cursor.
pub(crate) fn consumer(run: &Run<'_>, data: &DataWanted, start: Start) -> Outcome<Consumer> {
    let name = format!("mofka-bench-{}", uuid::Uuid::new_v4().simple());
    let options = ConsumerOptions {
        data_selector: selector_of(data),
        start,
        ..ConsumerOptions::default()
    };
    run.topic.consumer(&name, options).map_err(node::consumer_failure)
}

pub(crate) fn run(args: &BenchConsumeArgs, place: &Place, output: Output) -> Outcome {
    let run = Run::begin(&args.bench, place)?;
    let there = match run.is_ours() {
        true => fill(&run, args.events.unwrap_or(EVENTS))?,
        false => stored(&run)?.min(args.events.unwrap_or(u64::MAX)),
    };
    let warm_up = args.warm_up_events.min(there);
    let goal = args.duration.map_or(Goal::Events(there - warm_up), Goal::Time);
    let progress = Progress::new("consume", goal);
    let mut measured = Measured::nothing("consume");
    let consumer = consumer(&run, &args.data, Start::First)?;
    let (mut begun, mut cpu_before) = (Instant::now(), cpu_time());
    let mut is_cut_short = run.is_interrupted();
    for n in 0..there {
        if n == warm_up {
            (begun, cpu_before) = (Instant::now(), cpu_time());
        }
        let is_late = || {
            args.duration
                .is_some_and(|duration| n >= warm_up && begun.elapsed() >= duration)
        };
        is_cut_short = is_cut_short || is_late() || run.is_interrupted();
        if is_cut_short {
            break;
        }
        let asked = Instant::now();
        let goes_on = || !run.is_interrupted() && !is_late() && asked.elapsed() < IDLE_MAX;
        let Next::Event(event) = next(&consumer, goes_on)? else {
            is_cut_short = is_late() || run.is_interrupted();
            break;
        };
        if n >= warm_up {
            note(&mut measured.latencies, asked.elapsed());
            measured.events += 1;
            measured.bytes += event.metadata_bytes().len() as u64;
            measured.bytes += event.data().bytes();
            if measured.events.is_multiple_of(TELL_EVERY) {
                progress.at(measured.events, begun.elapsed());
            }
        }
    }
    measured.elapsed = begun.elapsed();
    measured.cpu = cpu_time().saturating_sub(cpu_before);
    if !is_cut_short {
        measured.missing = there - warm_up - measured.events;
    }
    drop(progress);
    consumer.close();
    measured.tell(&run, output)?;
    run.end()?;
    measured.judge()
}

/// Events that are in the topic.
fn stored(run: &Run<'_>) -> Outcome<u64> {
    let mut sum = 0;
    for partition in 0..run.topic.partitions().len() {
        let status = run.topic.partition_status(partition).map_err(node::failure)?;
        sum += status.visible_end.saturating_sub(status.trim_end);
    }
    Ok(sum)
}

/// Puts so many events into the topic; returns how many it was when somebody interrupted.
fn fill(run: &Run<'_>, events: u64) -> Outcome<u64> {
    let data = run.data()?;
    let template = Template::new(&["n"], run.args.metadata_bytes);
    let progress = Progress::new("fill", Goal::Events(events));
    let producers = u64::from(run.args.producers);
    let begun = Instant::now();
    let push = &|number: u64| -> Outcome<u64> {
        let (producer, mut template) = (run.producer(), template.clone());
        for n in (number..events).step_by(usize::try_from(producers).unwrap_or(1)) {
            let goes_on = || !run.is_interrupted();
            match producer.push_while(template.with(&[n]), data.clone(), None, goes_on) {
                Ok(_) => {}
                Err(PushError::GivenUp) => break,
                Err(error) => return Err(Failure::failed(format!("filling the topic: {error}"))),
            }
            if !goes_on() {
                break;
            }
            if number == 0 && n.is_multiple_of(TELL_EVERY) {
                progress.at(n, begun.elapsed());
            }
        }
        let report = producer
            .close()
            .map_err(|error| Failure::failed(error.to_string()))?;
        match report.failed {
            0 => Ok(report.acknowledged),
            failed => Err(Failure::failed(format!(
                "filling the topic: {failed} events failed: {:?}",
                report.failed_by_reason
            ))),
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..producers)
            .map(|number| scope.spawn(move || push(number)))
            .collect();
        let mut sum = 0;
        for thread in threads {
            sum += thread
                .join()
                .map_err(|_| Failure::failed("a producer's thread ended badly"))??;
        }
        Ok(sum)
    })
}
