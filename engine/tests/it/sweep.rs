//! Many seeds, on all cores, with a count that must be reached.
//!
//! - `MOFKA_SWEEP_SCALE` (default 1) multiplies the seeds of every sweep: `make torture` sets it.
//! - `MOFKA_SEED` runs just one seed, to repeat a failure.
//! - `MOFKA_SWEEP_TALLY` names a file that each sweep adds a line to: its cases and its name.

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// One sweep of a test.
pub(crate) struct Sweep {
    test: &'static str,
    seeds: Vec<u64>,
    is_whole: bool,
    started: Instant,
}

/// Says how to repeat it when a seed panics.
struct Blame<'a> {
    test: &'a str,
    seed: u64,
}

impl Drop for Blame<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "to repeat: MOFKA_SEED={} cargo test -p mofka-engine {}",
                self.seed, self.test
            );
        }
    }
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is {text:?}, not a number")),
    )
}

impl Sweep {
    /// A sweep of `test` over so many seeds, at scale 1.
    pub(crate) fn of(test: &'static str, seeds: u64) -> Self {
        let scale = number("MOFKA_SWEEP_SCALE").unwrap_or(1);
        let one = number("MOFKA_SEED");
        Self {
            test,
            seeds: one.map_or_else(|| (1..=seeds * scale).collect(), |seed| vec![seed]),
            is_whole: one.is_none(),
            started: Instant::now(),
        }
    }

    /// Runs every seed, some at the same time.
    pub(crate) fn run<T: Send>(&self, each: impl Fn(u64) -> Result<T, String> + Sync) -> Vec<T> {
        let next = AtomicUsize::new(0);
        let work = || {
            let mut done = Vec::new();
            while let Some(seed) = self.seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
                let blame = Blame {
                    test: self.test,
                    seed: *seed,
                };
                match each(*seed) {
                    Ok(one) => done.push(one),
                    Err(reason) => panic!("seed {seed}: {reason}"),
                }
                drop(blame);
            }
            done
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            let done = workers.into_iter().map(|worker| match worker.join() {
                Ok(done) => done,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            done.flatten().collect()
        })
    }

    /// Says what was looked at, and fails when that is too little.
    pub(crate) fn report(&self, cases: u64, cases_min: u64, what: &str) {
        println!(
            "{}: {cases} {what}; {} histories, {:.1} s",
            self.test,
            self.seeds.len(),
            self.started.elapsed().as_secs_f64()
        );
        if let Some(path) = std::env::var_os("MOFKA_SWEEP_TALLY") {
            let mut file = std::fs::File::options()
                .create(true)
                .append(true)
                .open(path)
                .unwrap();
            writeln!(file, "{cases} {}", self.test).unwrap();
        }
        assert!(
            !self.is_whole || cases >= cases_min,
            "only {cases} cases were looked at, and {cases_min} are promised"
        );
    }
}
