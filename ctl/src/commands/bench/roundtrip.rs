//! `bench roundtrip`: how long events take from a producer to a consumer, at a rate.
//!
//! Event `n` is to be pushed at `n / rate` after the begin, whatever became of those before it: its latency counts from that
//! moment. A producer that waits for the node therefore does not hide the wait, as it would if each event's time began when
//! it could be pushed at last.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mofka_client::{Consumer, Data, PushError, Start};

use crate::cli::BenchRoundtripArgs;
use crate::commands::bench::consume::{Next, consumer, next};
use crate::commands::bench::content::Template;
use crate::commands::bench::progress::{Goal, Progress};
use crate::commands::bench::report::{Measured, latencies, note};
use crate::commands::bench::run::{Run, cpu_time, next_random};
use crate::failure::{Failure, Outcome};
use crate::node::Place;
use crate::output::Output;

/// How long it takes when nothing else was given.
const DURATION: Duration = Duration::from_secs(10);
/// How long the last events may take after the last push before they are missing.
const LAST_MAX: Duration = Duration::from_secs(10);
/// How long a consumer of a topic that is there has to find its place.
const READY_MAX: Duration = Duration::from_secs(10);
/// So long before its time a producer stops sleeping, which is not exact, and looks at the clock.
const AWAKE_BEFORE: Duration = Duration::from_micros(150);
/// The longest that a producer sleeps without looking whether it is over.
const SLEEP_MAX: Duration = Duration::from_millis(50);

/// When each event is due.
#[derive(Clone, Copy, Debug)]
struct Schedule {
    start: Instant,
    rate: f64,
    /// Events of the warm-up.
    warm_up: u64,
    /// Events after it.
    events: u64,
}

impl Schedule {
    fn new(start: Instant, args: &BenchRoundtripArgs) -> Self {
        let count = |time: Duration| (time.as_secs_f64() * args.rate).ceil() as u64;
        Self {
            start,
            rate: args.rate,
            warm_up: count(args.warm_up),
            events: args
                .events
                .unwrap_or_else(|| count(args.duration.unwrap_or(DURATION)).max(1)),
        }
    }

    /// When event `n` is to be pushed, after the begin.
    fn due(&self, n: u64) -> Duration {
        Duration::from_secs_f64(n as f64 / self.rate)
    }

    fn end(&self) -> u64 {
        self.warm_up.saturating_add(self.events)
    }
}

/// What producers and the consumer know of each other.
#[derive(Debug, Default)]
struct State {
    /// Events after the warm-up that were pushed.
    pushed: AtomicU64,
    /// Of these, how many came.
    came: AtomicU64,
    /// All was pushed that will be, and acknowledged or failed.
    all_pushed: AtomicBool,
}

pub(crate) fn run(args: &BenchRoundtripArgs, place: &Place, output: Output) -> Outcome {
    let run = Run::begin(&args.bench, place)?;
    let data = run.data()?;
    // Whatever else is in a topic that is there is not looked at.
    let start = if run.is_ours() { Start::First } else { Start::Last };
    let consumer = consumer(&run, &args.data, start)?;
    let waited = Instant::now();
    while consumer.partitions().len() < run.topic.partitions().len() && !run.is_interrupted() {
        if waited.elapsed() > READY_MAX {
            return Err(Failure::failed(
                "the consumer did not get all partitions: does another one take them?",
            ));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let mut seed = u64::from(std::process::id()) ^ waited.elapsed().as_nanos() as u64 | 1 << 40;
    let number = next_random(&mut seed) % 1_000_000_000_000_000;
    let schedule = Schedule::new(Instant::now(), args);
    let state = State::default();
    let progress = Progress::new("roundtrip", Goal::Events(schedule.events));
    let shared = Shared {
        run: &run,
        state: &state,
        schedule,
        number,
    };
    let measured = std::thread::scope(|scope| {
        let reading = scope.spawn(|| shared.read(&consumer));
        let threads: Vec<_> = (0..u64::from(args.bench.producers))
            .map(|first| {
                let (shared, data) = (&shared, &data);
                scope.spawn(move || shared.push_all(first, data))
            })
            .collect();
        let measured_from = schedule.due(schedule.warm_up);
        sleep_until(schedule.start + measured_from, &|| !run.is_interrupted());
        let cpu_before = cpu_time();
        while !threads.iter().all(|thread| thread.is_finished()) {
            std::thread::sleep(SLEEP_MAX.min(Duration::from_millis(20)));
            let took = schedule.start.elapsed().saturating_sub(measured_from);
            progress.at(state.came.load(Ordering::Relaxed), took);
        }
        let mut failed = Ok(0);
        for thread in threads {
            let ended = thread
                .join()
                .unwrap_or_else(|_| Err(Failure::failed("a producer's thread ended badly")));
            failed = failed.and_then(|sum| ended.map(|more| sum + more));
        }
        state.all_pushed.store(true, Ordering::SeqCst);
        let read = reading
            .join()
            .map_err(|_| Failure::failed("the consumer's thread ended badly"))??;
        let failed = failed?;
        let came = state.came.load(Ordering::Relaxed);
        let pushed = state.pushed.load(Ordering::Relaxed);
        Ok(Measured {
            benchmark: "roundtrip",
            events: came,
            failed,
            missing: match run.is_interrupted() {
                true => 0,
                false => pushed.saturating_sub(failed).saturating_sub(came),
            },
            bytes: came.saturating_mul(run.event_bytes()),
            elapsed: read.last.saturating_sub(measured_from),
            cpu: cpu_time().saturating_sub(cpu_before),
            latencies: read.corrected,
            uncorrected: Some(read.uncorrected),
            rate: Some(args.rate),
        })
    });
    drop(progress);
    consumer.close();
    let measured: Measured = measured?;
    measured.tell(&run, output)?;
    run.end()?;
    measured.judge()
}

/// What the consumer noted.
struct Read {
    corrected: crate::commands::bench::report::Latencies,
    uncorrected: crate::commands::bench::report::Latencies,
    /// When the last event came, after the begin.
    last: Duration,
}

struct Shared<'a> {
    run: &'a Run<'a>,
    state: &'a State,
    schedule: Schedule,
    /// Of this benchmark.
    number: u64,
}

impl Shared<'_> {
    fn goes_on(&self) -> bool {
        !self.run.is_interrupted()
    }

    /// Pushes every so-many-th event, beginning with this one. Returns how many of those that count failed.
    fn push_all(&self, first: u64, data: &Data) -> Outcome<u64> {
        let producer = self.run.producer();
        let mut template = Template::new(&["r", "t", "a"], self.run.args.metadata_bytes);
        let every = usize::try_from(self.run.args.producers).unwrap_or(1);
        let partitions = self.run.topic.partitions().len();
        for n in (first..self.schedule.end()).step_by(every) {
            let due = self.schedule.due(n);
            sleep_until(self.schedule.start + due, &|| self.goes_on());
            if !self.goes_on() {
                break;
            }
            let due_ns = u64::try_from(due.as_nanos()).unwrap_or(u64::MAX);
            let now_ns = u64::try_from(self.schedule.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
            let metadata = template.with(&[self.number, due_ns, now_ns]);
            let partition = usize::try_from(n).unwrap_or(0) % partitions;
            match producer.push_while(metadata, data.clone(), Some(partition), || self.goes_on()) {
                Ok(_) if n >= self.schedule.warm_up => {
                    self.state.pushed.fetch_add(1, Ordering::Relaxed);
                }
                Ok(_) => {}
                Err(PushError::GivenUp) => break,
                Err(error) => return Err(Failure::failed(format!("event {n}: {error}"))),
            }
        }
        let report = producer
            .close()
            .map_err(|error| Failure::failed(error.to_string()))?;
        Ok(report.failed)
    }

    /// Notes when events come, until all came.
    fn read(&self, consumer: &Consumer) -> Outcome<Read> {
        let mut read = Read {
            corrected: latencies(),
            uncorrected: latencies(),
            last: Duration::ZERO,
        };
        let warm_up_ns =
            u64::try_from(self.schedule.due(self.schedule.warm_up).as_nanos()).unwrap_or(u64::MAX);
        let mut last_at = Instant::now();
        loop {
            let goes_on = || {
                let is_done = self.state.all_pushed.load(Ordering::SeqCst);
                let waits_max = if self.goes_on() {
                    LAST_MAX
                } else {
                    Duration::from_secs(1)
                };
                let is_all =
                    || self.state.came.load(Ordering::Relaxed) >= self.state.pushed.load(Ordering::Relaxed);
                !is_done || (!is_all() && last_at.elapsed() < waits_max)
            };
            let Next::Event(event) = next(consumer, goes_on)? else {
                return Ok(read);
            };
            last_at = Instant::now();
            let now = last_at.saturating_duration_since(self.schedule.start);
            let metadata = event.metadata();
            let field = |name: &str| metadata[name].as_u64();
            if field("r") != Some(self.number) {
                continue;
            }
            let (Some(due_ns), Some(pushed_ns)) = (field("t"), field("a")) else {
                continue;
            };
            if due_ns < warm_up_ns {
                continue;
            }
            note(
                &mut read.corrected,
                now.saturating_sub(Duration::from_nanos(due_ns)),
            );
            note(
                &mut read.uncorrected,
                now.saturating_sub(Duration::from_nanos(pushed_ns)),
            );
            read.last = now;
            let came = self.state.came.fetch_add(1, Ordering::Relaxed) + 1;
            if came >= self.schedule.events {
                return Ok(read);
            }
        }
    }
}

/// Sleeps until shortly before this moment, then gives way to others until it is there.
fn sleep_until(at: Instant, goes_on: &impl Fn() -> bool) {
    loop {
        let left = at.saturating_duration_since(Instant::now());
        if left.is_zero() || !goes_on() {
            return;
        }
        match left.checked_sub(AWAKE_BEFORE) {
            Some(left) if !left.is_zero() => std::thread::sleep(left.min(SLEEP_MAX)),
            _ => std::thread::yield_now(),
        }
    }
}
