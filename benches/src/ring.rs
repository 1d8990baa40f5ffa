//! Frames between two threads on two cores: through the ring in shared memory, and through what there is without it.

mod links;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use hdrhistogram::Histogram;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::bytes_text;
use crate::harness::{self, Machine, Sample, Side, cpu_time};
use crate::ring::links::{Bytes, EventLink, Link, RingLink, SpinLink, UnixLink, Wait};

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
struct Cores {
    near: usize,
    far: usize,
}

impl Cores {
    /// The first and the last that this process may use.
    fn choose() -> Result<Self, String> {
        let allowed = sched_getaffinity(None).map_err(|e| format!("cannot read the allowed cores: {e}"))?;
        let mut cores = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core));
        let near = cores.next().ok_or("no core is allowed")?;
        Ok(Self {
            near,
            far: cores.next_back().unwrap_or(near),
        })
    }
}

fn pin(core: usize) {
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
            for kind in Kind::ALL {
                let turn = move || kind.turn(args, cores, bytes, figure);
                sides.push(Side::new(format!("{what}, {}", kind.name()), turn));
            }
        }
        let series = harness::interleave(args.rounds, sides)?;
        let title = format!("frames of {size}, one at a time, {place}: round trips/s");
        let reference = format!("round trip, {}", Kind::Event.name());
        harness::print(&title, &machine, &series, Some(&reference), json);

        let sides = Kind::CARRYING.map(|kind| {
            Side::new(kind.name().to_owned(), move || {
                kind.turn(args, cores, bytes, Figure::Stream)
            })
        });
        let series = harness::interleave(args.rounds, sides.into())?;
        let title = format!("frames of {size}, one after the other, {place}: frames/s");
        harness::print(&title, &machine, &series, Some(Kind::Unix.name()), json);
    }
    Ok(())
}

/// What the frames go through.
#[derive(Clone, Copy)]
enum Kind {
    Event,
    Spin,
    Unix,
    RingSleeping,
    RingPolling,
    InPlaceSleeping,
    InPlacePolling,
}

impl Kind {
    const ALL: [Self; 7] = [
        Self::Event,
        Self::Spin,
        Self::Unix,
        Self::RingSleeping,
        Self::RingPolling,
        Self::InPlaceSleeping,
        Self::InPlacePolling,
    ];
    const CARRYING: [Self; 5] = [
        Self::Unix,
        Self::RingSleeping,
        Self::RingPolling,
        Self::InPlaceSleeping,
        Self::InPlacePolling,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Event => "bare eventfd (no bytes)",
            Self::Spin => "bare spinning word (no bytes)",
            Self::Unix => "Unix socket",
            Self::RingSleeping => "ring, sleeping",
            Self::RingPolling => "ring, polling",
            Self::InPlaceSleeping => "ring in place, sleeping",
            Self::InPlacePolling => "ring in place, polling",
        }
    }

    fn turn(self, args: &RingArgs, cores: Cores, bytes: usize, figure: Figure) -> Result<Sample, String> {
        let turn = Turn {
            cores,
            bytes,
            figure,
            duration: Duration::from_millis(args.turn_ms),
        };
        let ring = |wait, bytes| RingLink::pair(args.slots, args.arena_bytes, wait, bytes);
        match self {
            Self::Event => turn.run(EventLink::pair()?),
            Self::Spin => turn.run(SpinLink::pair()),
            Self::Unix => turn.run(UnixLink::pair()?),
            Self::RingSleeping => turn.run(ring(Wait::Sleep, Bytes::Copied)?),
            Self::RingPolling => turn.run(ring(Wait::Poll, Bytes::Copied)?),
            Self::InPlaceSleeping => turn.run(ring(Wait::Sleep, Bytes::InPlace)?),
            Self::InPlacePolling => turn.run(ring(Wait::Poll, Bytes::InPlace)?),
        }
    }
}

#[derive(Clone, Copy)]
struct Turn {
    cores: Cores,
    bytes: usize,
    figure: Figure,
    duration: Duration,
}

/// Where a frame says when it was sent, in nanoseconds; and that it is the last one.
const STAMP: std::ops::Range<usize> = 8..16;
const LAST: usize = 16;

impl Turn {
    fn run<L: Link + Send + 'static>(self, (mut near, far): (L, L)) -> Result<Sample, String> {
        let (base, over) = (Instant::now(), Arc::new(AtomicBool::new(false)));
        let answering = std::thread::spawn({
            let over = Arc::clone(&over);
            move || self.answer(far, base, &over)
        });
        pin(self.cores.near);
        let mut frame = vec![0; self.bytes];
        let mut answer = vec![0; self.bytes];
        let mut round_trips = histogram();
        let (cpu, started) = (cpu_time(), Instant::now());
        let mut count = 0_u64;
        while started.elapsed() < self.duration {
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
        })
    }

    /// How long each frame took to come here.
    fn answer<L: Link>(self, mut link: L, base: Instant, over: &AtomicBool) -> Histogram<u64> {
        pin(self.cores.far);
        let mut frame = vec![0; self.bytes];
        let mut one_way = histogram();
        loop {
            link.receive(&mut frame);
            // What carries no bytes says it beside.
            let is_last = if L::CARRIES {
                frame[LAST] == 1
            } else {
                over.load(Ordering::Relaxed)
            };
            if is_last {
                return one_way;
            }
            if self.figure != Figure::Stream {
                if L::CARRIES {
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
        for kind in Kind::ALL {
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
