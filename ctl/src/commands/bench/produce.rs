//! `bench produce`: as many events as the node takes.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mofka_client::{Data, Producer, PushError, PushFuture};

use crate::cli::BenchProduceArgs;
use crate::commands::bench::content::Template;
use crate::commands::bench::progress::{Goal, Progress};
use crate::commands::bench::report::{Latencies, Measured, latencies, note};
use crate::commands::bench::run::{Run, cpu_time};
use crate::failure::{Failure, Outcome};
use crate::node::Place;
use crate::output::Output;

/// Events when neither their number nor a time was given.
const EVENTS: u64 = 100_000;
/// How often it is looked whether it is over.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What the threads that push look at. Each flag goes one way, and nothing else is read by them: relaxed.
#[derive(Debug, Default)]
struct State {
    /// The warm-up is over.
    measures: AtomicBool,
    /// Nothing more is to be pushed.
    ends: AtomicBool,
    /// Events that were begun since the warm-up.
    begun: AtomicU64,
}

/// What a thread did.
struct Ended {
    at: Instant,
    latencies: Latencies,
    failed: u64,
    failure: Option<Failure>,
}

pub(crate) fn run(args: &BenchProduceArgs, place: &Place, output: Output) -> Outcome {
    let run = Run::begin(&args.bench, place)?;
    let data = run.data()?;
    let events_max = match (args.events, args.duration) {
        (Some(events), _) => events,
        (None, Some(_)) => u64::MAX,
        (None, None) => EVENTS,
    };
    let goal = args.duration.map_or(Goal::Events(events_max), Goal::Time);
    let producers: Vec<Producer> = (0..args.bench.producers).map(|_| run.producer()).collect();
    let acknowledged = || {
        producers
            .iter()
            .map(|producer| producer.stats().acknowledged)
            .sum::<u64>()
    };
    let state = State::default();
    state.measures.store(args.warm_up.is_zero(), Ordering::Relaxed);
    let (mut begun, mut cpu_before, mut before) = (Instant::now(), cpu_time(), 0);
    let progress = Progress::new("produce", goal);
    let measured = std::thread::scope(|scope| {
        let threads: Vec<_> = producers
            .iter()
            .enumerate()
            .map(|(number, producer)| {
                let pusher = Pusher {
                    run: &run,
                    producer,
                    state: &state,
                    data: &data,
                    number,
                    events_max,
                };
                scope.spawn(move || pusher.push_all())
            })
            .collect();
        let is_done = || run.is_interrupted() || threads.iter().all(|thread| thread.is_finished());
        let warm_until = begun + args.warm_up;
        while Instant::now() < warm_until && !is_done() {
            std::thread::sleep(LOOK_EVERY.min(warm_until.saturating_duration_since(Instant::now())));
        }
        if !args.warm_up.is_zero() {
            (begun, cpu_before, before) = (Instant::now(), cpu_time(), acknowledged());
            state.measures.store(true, Ordering::Relaxed);
        }
        while !is_done() {
            if args.duration.is_some_and(|duration| begun.elapsed() >= duration) {
                break;
            }
            std::thread::sleep(LOOK_EVERY);
            progress.at(acknowledged() - before, begun.elapsed());
        }
        if run.is_interrupted() || args.duration.is_some() {
            state.ends.store(true, Ordering::Relaxed);
        }
        let mut measured = Measured::nothing("produce");
        let mut failure = None;
        for thread in threads {
            let ended = thread
                .join()
                .map_err(|_| Failure::failed("a producer's thread ended badly"))?;
            measured.elapsed = measured.elapsed.max(ended.at.saturating_duration_since(begun));
            measured.failed += ended.failed;
            measured.latencies.add(&ended.latencies).ok();
            failure = failure.or(ended.failure);
        }
        measured.cpu = cpu_time().saturating_sub(cpu_before);
        measured.events = acknowledged() - before;
        measured.bytes = measured.events.saturating_mul(run.event_bytes());
        Ok((measured, failure))
    });
    drop(progress);
    let (measured, failure) = measured?;
    measured.tell(&run, output)?;
    run.end()?;
    failure.map_or_else(|| measured.judge(), Err)
}

/// One thread with one producer.
struct Pusher<'a> {
    run: &'a Run<'a>,
    producer: &'a Producer,
    state: &'a State,
    data: &'a Data,
    number: usize,
    events_max: u64,
}

type Pending = Vec<VecDeque<(Instant, PushFuture)>>;

impl Pusher<'_> {
    fn push_all(&self) -> Ended {
        let mut ended = Ended {
            at: Instant::now(),
            latencies: latencies(),
            failed: 0,
            failure: None,
        };
        if let Err(failure) = self.push(&mut ended.latencies) {
            ended.failure = Some(failure);
            self.state.ends.store(true, Ordering::Relaxed);
        }
        match self.producer.close() {
            Ok(report) => ended.failed = report.failed,
            Err(error) => ended.failure = Some(Failure::failed(error.to_string())),
        }
        ended.at = Instant::now();
        ended
    }

    fn goes_on(&self) -> bool {
        !self.state.ends.load(Ordering::Relaxed) && !self.run.is_interrupted()
    }

    fn push(&self, latencies: &mut Latencies) -> Outcome {
        let mut template = Template::new(&["n"], self.run.args.metadata_bytes);
        let partitions = self.run.topic.partitions().len();
        let mut pending: Pending = vec![VecDeque::new(); partitions];
        for n in 0_u64.. {
            if !self.goes_on() {
                break;
            }
            let counts = self.state.measures.load(Ordering::Relaxed);
            if counts && self.state.begun.fetch_add(1, Ordering::Relaxed) >= self.events_max {
                break;
            }
            // Producers begin at different partitions.
            let partition = usize::try_from(n).unwrap_or(0).wrapping_add(self.number) % partitions;
            let began = Instant::now();
            let pushed =
                self.producer
                    .push_while(template.with(&[n]), self.data.clone(), Some(partition), || {
                        self.goes_on()
                    });
            let future = match pushed {
                Ok(future) => future,
                Err(PushError::GivenUp) => break,
                Err(error) => return Err(Failure::failed(format!("event {n}: {error}"))),
            };
            if let Some(queue) = pending.get_mut(partition) {
                if counts {
                    queue.push_back((began, future));
                }
                note_completed(queue, latencies);
            }
        }
        // What gathered is sent; nothing here waits for more before it is.
        let flushed = self.producer.flush();
        let mut rest: Vec<_> = pending.into_iter().flatten().collect();
        rest.sort_by_key(|(began, _)| *began);
        for (began, future) in rest {
            if future.wait().is_ok() {
                note(latencies, began.elapsed());
            }
        }
        flushed.wait().map_err(|error| Failure::failed(error.to_string()))
    }
}

/// Looks without waiting: waiting for an event would send its batch before that is full. A push that waited for room returns when
/// a batch was answered, so this is soon enough.
fn note_completed(queue: &mut VecDeque<(Instant, PushFuture)>, latencies: &mut Latencies) {
    while queue.front().is_some_and(|(_, future)| future.completed()) {
        if let Some((began, future)) = queue.pop_front()
            && future.wait().is_ok()
        {
            note(latencies, began.elapsed());
        }
    }
}
