//! Frames between two threads on two cores: through the ring in shared memory, and through what there is without it.

#[cfg(feature = "iceoryx2")]
mod iceoryx;
mod links;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use clap::Args;
use hdrhistogram::Histogram;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::bytes_text;
use crate::harness::{self, Machine, Sample, Side, cpu_time};
use crate::ring::links::{Bytes, EventLink, Link, Open, RingLink, SpinLink, UnixLink, Wait};

#[derive(Args)]
pub(crate) struct RingArgs {
    /// Bytes of a frame, at least 32; several, with commas between.
    #[arg(long, value_delimiter = ',', default_value = "64,1024,65536")]
    frame_bytes: Vec<usize>,
    /// Slots of each direction of the ring.
    #[arg(long, default_value_t = 256)]
    slots: u32,
    /// Bytes of the arena of each direction.
    #[arg(long, default_value_t = 4 << 20)]
    arena_bytes: u64,
    /// Milliseconds of each turn.
    #[arg(long, default_value_t = 200)]
    turn_ms: u64,
    /// Turns of each side; the median counts.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
}

/// What a turn measures.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Figure {
    /// One frame there and one back, one at a time.
    RoundTrip,
    /// The way there, of the same.
    OneWay,
    /// Frames one after the other, as fast as they go.
    Stream,
}

/// The cores that the two threads have to themselves.
#[derive(Clone, Copy)]
pub(crate) struct Cores {
    pub(crate) near: usize,
    pub(crate) far: usize,
}

impl Cores {
    /// The first and the last that this process may use.
    pub(crate) fn choose() -> Result<Self, String> {
        let allowed = sched_getaffinity(None).map_err(|e| format!("cannot read the allowed cores: {e}"))?;
        let mut cores = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core));
        let near = cores.next().ok_or("no core is allowed")?;
        Ok(Self {
            near,
            far: cores.next_back().unwrap_or(near),
        })
    }
}

pub(crate) fn pin(core: usize) {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).expect("the core is allowed");
}

pub(crate) fn measure(args: &RingArgs, json: bool) -> Result<(), String> {
    let cores = Cores::choose()?;
    let machine = Machine::here(Path::new("."));
    for bytes in &args.frame_bytes {
        let bytes = (*bytes).max(32);
        let size = bytes_text(bytes as u64);
        let place = format!("threads on cores {} and {}", cores.near, cores.far);
        let mut sides = Vec::new();
        for (figure, what) in [(Figure::RoundTrip, "round trip"), (Figure::OneWay, "one way")] {
            for kind in Kind::all() {
                let turn = move || kind.turn(args, cores, bytes, figure);
                sides.push(Side::new(format!("{what}, {}", kind.name()), turn));
            }
        }
        let series = harness::interleave(args.rounds, sides)?;
        let title = format!("frames of {size}, one at a time, {place}: round trips/s");
        let reference = format!("round trip, {}", Kind::Event.name());
        harness::print(&title, &machine, &series, Some(&reference), json);

        let carrying = Kind::carrying().into_iter();
        let sides = carrying
            .map(|kind| Side::new(kind.name(), move || kind.turn(args, cores, bytes, Figure::Stream)));
        let series = harness::interleave(args.rounds, sides.collect())?;
        let title = format!("frames of {size}, one after the other, {place}: frames/s");
        harness::print(&title, &machine, &series, Some(&Kind::Unix.name()), json);
    }
    Ok(())
}

/// The least that a round trip between two threads on these cores can take. The thread that measures is the one on the far core, and
/// stays there.
pub(crate) fn bare<'a>(duration: Duration, pause: Duration, cores: Cores) -> [Side<'a>; 2] {
    let cores = Cores {
        near: cores.far,
        far: cores.near,
    };
    [Kind::Event, Kind::Spin].map(|kind| {
        let turn = Turn {
            cores,
            bytes: 32,
            figure: Figure::RoundTrip,
            duration,
            pause,
        };
        Side::new(kind.name(), move || match kind {
            Kind::Event => turn.run(EventLink::pair()?),
            _ => turn.run(SpinLink::pair()),
        })
    })
}

/// What the frames go through.
#[derive(Clone, Copy)]
enum Kind {
    Event,
    Spin,
    Unix,
    Ring(Wait, Bytes),
    #[cfg(feature = "iceoryx2")]
    Iceoryx(Wait, Bytes),
}

/// Every way to use memory that is shared.
const WAYS: [(Wait, Bytes); 4] = [
    (Wait::Sleep, Bytes::Copied),
    (Wait::Poll, Bytes::Copied),
    (Wait::Sleep, Bytes::InPlace),
    (Wait::Poll, Bytes::InPlace),
];

impl Kind {
    /// All that carry bytes.
    fn carrying() -> Vec<Self> {
        let mut kinds = vec![Self::Unix];
        for (wait, bytes) in WAYS {
            kinds.push(Self::Ring(wait, bytes));
            #[cfg(feature = "iceoryx2")]
            kinds.push(Self::Iceoryx(wait, bytes));
        }
        kinds
    }

    fn all() -> Vec<Self> {
        [Self::Event, Self::Spin]
            .into_iter()
            .chain(Self::carrying())
            .collect()
    }

    fn name(self) -> String {
        let shared = |name: &str, wait, bytes| {
            let bytes = match bytes {
                Bytes::Copied => "",
                Bytes::InPlace => " in place",
            };
            let wait = match wait {
                Wait::Sleep => "sleeping",
                Wait::Poll => "polling",
            };
            format!("{name}{bytes}, {wait}")
        };
        match self {
            Self::Event => "bare eventfd (no bytes)".into(),
            Self::Spin => "bare spinning word (no bytes)".into(),
            Self::Unix => "Unix socket".into(),
            Self::Ring(wait, bytes) => shared("ring", wait, bytes),
            #[cfg(feature = "iceoryx2")]
            Self::Iceoryx(wait, bytes) => shared("iceoryx2", wait, bytes),
        }
    }

    fn turn(self, args: &RingArgs, cores: Cores, bytes: usize, figure: Figure) -> Result<Sample, String> {
        let turn = Turn {
            cores,
            bytes,
            figure,
            duration: Duration::from_millis(args.turn_ms),
            pause: Duration::ZERO,
        };
        match self {
            Self::Event => turn.run(EventLink::pair()?),
            Self::Spin => turn.run(SpinLink::pair()),
            Self::Unix => turn.run(UnixLink::pair()?),
            Self::Ring(wait, how) => turn.run(RingLink::pair(args.slots, args.arena_bytes, wait, how)?),
            #[cfg(feature = "iceoryx2")]
            Self::Iceoryx(wait, how) => turn.run(iceoryx::IceoryxEnd::pair(args.slots, bytes, wait, how)),
        }
    }
}

#[derive(Clone, Copy)]
struct Turn {
    cores: Cores,
    bytes: usize,
    figure: Figure,
    duration: Duration,
    /// Before each frame.
    pause: Duration,
}

/// Where a frame says when it was sent, in nanoseconds; and that it is the last one.
const STAMP: std::ops::Range<usize> = 8..16;
const LAST: usize = 16;

impl Turn {
    fn run<O: Open + Send + 'static>(self, (near, far): (O, O)) -> Result<Sample, String> {
        let (base, over) = (Instant::now(), Arc::new(AtomicBool::new(false)));
        let open = Arc::new(Barrier::new(2));
        let answering = std::thread::spawn({
            let (over, open) = (Arc::clone(&over), Arc::clone(&open));
            move || self.answer(far, base, &over, &open)
        });
        pin(self.cores.near);
        let mut near = near.open();
        open.wait();
        let mut frame = vec![0; self.bytes];
        let mut answer = vec![0; self.bytes];
        let mut round_trips = histogram();
        let (cpu, started) = (cpu_time(), Instant::now());
        let mut count = 0_u64;
        while started.elapsed() < self.duration {
            if !self.pause.is_zero() {
                std::thread::sleep(self.pause);
            }
            let sent = nanoseconds(base);
            frame[STAMP].copy_from_slice(&sent.to_le_bytes());
            near.send(&frame);
            if self.figure != Figure::Stream {
                near.receive(&mut answer);
                round_trips.saturating_record(nanoseconds(base) - sent);
            }
            count += 1;
        }
        frame[LAST] = 1;
        over.store(true, Ordering::Relaxed);
        near.send(&frame);
        let one_way = answering.join().map_err(|_| "the answering thread panicked")?;
        let (elapsed, cpu) = (started.elapsed(), cpu_time() - cpu);
        let latency = match self.figure {
            Figure::RoundTrip => round_trips,
            Figure::OneWay => one_way,
            Figure::Stream => histogram(),
        };
        let per_second = count as f64 / elapsed.as_secs_f64();
        Ok(Sample {
            per_second,
            megabytes_per_second: per_second * self.bytes as f64 / 1e6,
            p50_us: latency.value_at_quantile(0.5) as f64 / 1e3,
            p99_us: latency.value_at_quantile(0.99) as f64 / 1e3,
            cpu_us: cpu.as_secs_f64() * 1e6 / count.max(1) as f64,
            node_cpu_us: 0.0,
        })
    }

    /// How long each frame took to come here.
    fn answer<O: Open>(self, far: O, base: Instant, over: &AtomicBool, open: &Barrier) -> Histogram<u64> {
        pin(self.cores.far);
        let mut link = far.open();
        open.wait();
        let mut frame = vec![0; self.bytes];
        let mut one_way = histogram();
        loop {
            link.receive(&mut frame);
            // What carries no bytes says it beside.
            let is_last = if O::Link::CARRIES {
                frame[LAST] == 1
            } else {
                over.load(Ordering::Relaxed)
            };
            if is_last {
                return one_way;
            }
            if self.figure != Figure::Stream {
                if O::Link::CARRIES {
                    let sent = frame[STAMP]
                        .iter()
                        .rev()
                        .fold(0, |n, byte| n << 8 | u64::from(*byte));
                    one_way.saturating_record(nanoseconds(base).saturating_sub(sent));
                }
                link.send(&frame);
            }
        }
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("the bounds are fine")
}

fn nanoseconds(base: Instant) -> u64 {
    u64::try_from(base.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_go_every_way() {
        let args = RingArgs {
            frame_bytes: Vec::new(),
            slots: 4,
            arena_bytes: 16 << 10,
            turn_ms: 2,
            rounds: 1,
        };
        let cores = Cores::choose().unwrap();
        for kind in Kind::all() {
            for (figure, bytes) in [
                (Figure::RoundTrip, 64),
                (Figure::OneWay, 1000),
                (Figure::Stream, 5000),
            ] {
                let sample = kind.turn(&args, cores, bytes, figure).unwrap();
                assert!(sample.per_second > 0.0, "{}", kind.name());
            }
        }
    }
}
