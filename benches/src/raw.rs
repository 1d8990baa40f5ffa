//! The raw side: durable commits as the log makes them, with nothing of the product in between.
//!
//! A commit writes its data and its meta at the same time, each followed by a sync of its file. Both files are zero-written
//! before, opened with O_DIRECT, and overwritten from the start again at their end, as recycled segments are.

mod file;
pub(crate) mod read;
mod ring;

use std::io;
use std::path::PathBuf;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use self::file::{BLOCK_BYTES, Blocks, ScratchFile};
use self::ring::{Done, Ring};
use crate::harness::{Sample, cpu_time};

/// What to measure.
#[derive(Debug, Clone)]
pub(crate) struct RawConfig {
    /// Where the two scratch files are made.
    pub(crate) directory: PathBuf,
    /// Data bytes of a commit, rounded up to a block; 0 leaves the data file alone.
    pub(crate) data_bytes: u64,
    /// Meta bytes of a commit, rounded up to a block.
    pub(crate) meta_bytes: u64,
    /// Commits in flight, of each ring.
    pub(crate) depth: usize,
    /// How writes are synced.
    pub(crate) syncs: Syncs,
    /// Rings, each on a core and a pair of files of its own.
    pub(crate) rings: usize,
    /// When to stop.
    pub(crate) limit: Limit,
}

/// How writes are synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Syncs {
    /// Each write has its own sync, linked to it: fewest wake-ups of a commit alone.
    Linked,
    /// One sync of a file at a time, for all writes that are done by then: fewest syncs of many commits.
    Shared,
    /// One sync of the device at a time, by the meta file, for all commits whose writes are both done by then: fewest syncs. It
    /// makes the data durable too where both files lie on one device, are overwritten in place, and have nothing in the
    /// file system's journal.
    Device,
}

/// When a run ends. Commits under way are finished and counted.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Limit {
    /// After so many commits.
    #[cfg_attr(
        not(test),
        allow(dead_code, reason = "for comparisons that fix the work, not the time")
    )]
    Commits(u64),
    /// After so long.
    Time(Duration),
}

/// What was measured.
#[derive(Debug, Clone)]
pub(crate) struct RawReport {
    /// Durable commits.
    pub(crate) commit_count: u64,
    /// Bytes written to both files.
    pub(crate) written_bytes: u64,
    /// From the first submission to the last completion.
    pub(crate) elapsed: Duration,
    /// Of each commit, from submission until both files are synced, in microseconds.
    pub(crate) latency_us: Histogram<u64>,
    /// CPU time of the whole process, the kernel's workers included.
    pub(crate) cpu: Duration,
}

impl RawReport {
    pub(crate) fn commits_per_second(&self) -> f64 {
        self.commit_count as f64 / self.elapsed.as_secs_f64()
    }

    pub(crate) fn megabytes_per_second(&self) -> f64 {
        self.written_bytes as f64 / 1e6 / self.elapsed.as_secs_f64()
    }
}

/// Bytes of each scratch file: small enough to write zeros to in a moment, large enough that the device's cache does not
/// see the same block twice in a turn of moderate length.
const FILE_BYTES_MIN: u64 = 64 << 20;
/// Bounds, so that a typing error does not fill the disk.
const COMMIT_BYTES_MAX: u64 = 1 << 30;
const DEPTH_MAX: usize = 256;
const RINGS_MAX: usize = 64;

/// One turn of a benchmark's raw side.
pub(crate) fn sample(config: &RawConfig) -> Result<Sample, String> {
    let report = run(config).map_err(|error| error.to_string())?;
    Ok(Sample::from(&report))
}

/// Runs the measurement.
pub(crate) fn run(config: &RawConfig) -> io::Result<RawReport> {
    let invalid = |what: String| Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    if config.depth == 0 || config.depth > DEPTH_MAX {
        return invalid(format!("depth {} is not between 1 and {DEPTH_MAX}", config.depth));
    }
    if config.meta_bytes == 0 || config.meta_bytes.max(config.data_bytes) > COMMIT_BYTES_MAX {
        return invalid(format!(
            "a commit's parts must have 1 (data: 0) to {COMMIT_BYTES_MAX} bytes"
        ));
    }
    if config.rings == 0 || config.rings > RINGS_MAX {
        return invalid(format!(
            "{} rings are not between 1 and {RINGS_MAX}",
            config.rings
        ));
    }
    let ready = Barrier::new(config.rings);
    let run = |number: usize| {
        pin(number);
        let run = Run::new(config, number);
        // Also after a failure: the others wait here.
        ready.wait();
        let before = cpu_time();
        let mut report = run?.measure(config.limit)?;
        report.cpu = cpu_time().saturating_sub(before);
        Ok(report)
    };
    let reports: Vec<io::Result<RawReport>> = std::thread::scope(|scope| {
        let run = &run;
        let threads: Vec<_> = (0..config.rings)
            .map(|number| scope.spawn(move || run(number)))
            .collect();
        let ended = |thread: std::thread::ScopedJoinHandle<'_, _>| {
            thread
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("a ring's thread panicked")))
        };
        threads.into_iter().map(ended).collect()
    });
    let mut sum = empty_report()?;
    for report in reports {
        let report = report?;
        sum.commit_count += report.commit_count;
        sum.written_bytes += report.written_bytes;
        sum.elapsed = sum.elapsed.max(report.elapsed);
        sum.latency_us.add(&report.latency_us).map_err(io::Error::other)?;
        // Of the process, so that of one ring is that of all.
        sum.cpu = sum.cpu.max(report.cpu);
    }
    Ok(sum)
}

/// Keeps this thread on a core, as a shard is.
fn pin(number: usize) {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut set = rustix::thread::CpuSet::new();
    set.set(number % cores);
    // Where that is not allowed it is measured as it is.
    rustix::thread::sched_setaffinity(None, &set).ok();
}

fn empty_report() -> io::Result<RawReport> {
    let latency_us = Histogram::new(3).map_err(io::Error::other)?;
    Ok(RawReport {
        commit_count: 0,
        written_bytes: 0,
        elapsed: Duration::ZERO,
        latency_us,
        cpu: Duration::ZERO,
    })
}

/// One of the two files, and where its next write goes.
struct Lane {
    file: ScratchFile,
    buffer: Blocks,
    commit_bytes: u64,
    next_at: u64,
    /// Slots whose write is done, and whose sync has not begun.
    written: Vec<usize>,
    /// Slots that the sync under way covers.
    covered: Vec<usize>,
    syncing: bool,
}

impl Lane {
    fn new(config: &RawConfig, number: usize, name: &str, bytes: u64) -> io::Result<Self> {
        let name = format!("{number}.{name}");
        let commit_bytes = bytes.next_multiple_of(BLOCK_BYTES);
        let depth = u64::try_from(config.depth).unwrap_or(u64::MAX);
        // Twice what is in flight, so that no two writes of one block are.
        let file_bytes = FILE_BYTES_MIN.max(commit_bytes.saturating_mul(depth).saturating_mul(2));
        let file = ScratchFile::create(&config.directory, &name, file_bytes - file_bytes % commit_bytes)?;
        Ok(Self {
            file,
            buffer: Blocks::noise(commit_bytes),
            commit_bytes,
            next_at: 0,
            written: Vec::new(),
            covered: Vec::new(),
            syncing: false,
        })
    }

    fn take_place(&mut self) -> u64 {
        let at = self.next_at;
        self.next_at = (at + self.commit_bytes) % self.file.bytes();
        at
    }
}

/// A commit's place in the pipeline.
#[derive(Debug, Clone, Copy)]
enum Slot {
    Idle,
    /// So many files are not synced yet.
    Busy {
        since: Instant,
        left: usize,
    },
}

struct Run {
    lanes: Vec<Lane>,
    ring: Ring,
    syncs: Syncs,
    slots: Vec<Slot>,
    report: RawReport,
}

impl Run {
    fn new(config: &RawConfig, number: usize) -> io::Result<Self> {
        let meta = Lane::new(config, number, "meta", config.meta_bytes)?;
        let data = match config.data_bytes {
            0 => None,
            bytes => Some(Lane::new(config, number, "data", bytes)?),
        };
        let lanes: Vec<Lane> = [Some(meta), data].into_iter().flatten().collect();
        let files: Vec<_> = lanes.iter().map(|lane| (&lane.file, &lane.buffer)).collect();
        // Each commit has at most one write and one sync in each file at a time.
        let ring = Ring::new(config.depth * lanes.len() * 2, &files)?;
        Ok(Self {
            lanes,
            ring,
            syncs: config.syncs,
            slots: vec![Slot::Idle; config.depth],
            report: empty_report()?,
        })
    }

    fn measure(mut self, limit: Limit) -> io::Result<RawReport> {
        let started = Instant::now();
        let mut submitted = 0_u64;
        let outcome = loop {
            let more = |submitted: u64| match limit {
                Limit::Commits(count) => submitted < count,
                Limit::Time(time) => started.elapsed() < time,
            };
            for slot in 0..self.slots.len() {
                if matches!(self.slots[slot], Slot::Idle) && more(submitted) {
                    self.start(slot);
                    submitted += 1;
                }
            }
            if self.ring.in_flight() == 0 {
                break Ok(());
            }
            if let Err(error) = self.reap() {
                break Err(error);
            }
        };
        // The buffers must outlive what is in flight, whatever happened.
        self.ring.drain();
        outcome?;
        self.report.elapsed = started.elapsed();
        Ok(self.report)
    }

    fn start(&mut self, slot: usize) {
        self.slots[slot] = Slot::Busy {
            since: Instant::now(),
            left: self.lanes.len(),
        };
        for (number, lane) in self.lanes.iter_mut().enumerate() {
            let at = lane.take_place();
            match self.syncs {
                Syncs::Linked => self.ring.write_linked(number, &lane.buffer, at, slot),
                Syncs::Shared | Syncs::Device => self.ring.write(number, &lane.buffer, at, slot),
            }
        }
    }

    fn reap(&mut self) -> io::Result<()> {
        for done in self.ring.wait()? {
            match done {
                Done::Write { slot, .. } if self.syncs == Syncs::Device => {
                    if let Slot::Busy { since, left } = self.slots[slot] {
                        if left == 1 {
                            self.lanes[0].written.push(slot);
                        } else {
                            self.slots[slot] = Slot::Busy {
                                since,
                                left: left - 1,
                            };
                        }
                    }
                }
                Done::Write { slot, lane } => self.lanes[lane].written.push(slot),
                Done::Sync {
                    slot: Some(slot),
                    lane,
                } => self.synced(slot, lane)?,
                Done::Sync { slot: None, lane } => {
                    self.lanes[lane].syncing = false;
                    for slot in std::mem::take(&mut self.lanes[lane].covered) {
                        self.synced(slot, lane)?;
                    }
                }
            }
        }
        for (number, lane) in self.lanes.iter_mut().enumerate() {
            if !lane.syncing && !lane.written.is_empty() {
                lane.syncing = true;
                std::mem::swap(&mut lane.covered, &mut lane.written);
                self.ring.sync(number);
            }
        }
        Ok(())
    }

    fn synced(&mut self, slot: usize, lane: usize) -> io::Result<()> {
        self.report.written_bytes += match self.syncs {
            Syncs::Device => self.lanes.iter().map(|lane| lane.commit_bytes).sum(),
            Syncs::Linked | Syncs::Shared => self.lanes[lane].commit_bytes,
        };
        self.slots[slot] = match self.slots[slot] {
            Slot::Busy { since, left: 1 } => {
                let us = u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX);
                self.report.latency_us.record(us).map_err(io::Error::other)?;
                self.report.commit_count += 1;
                Slot::Idle
            }
            Slot::Busy { since, left } => Slot::Busy {
                since,
                left: left - 1,
            },
            Slot::Idle => return Err(io::Error::other("a completion for an idle slot")),
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn smoke(data_bytes: u64, depth: usize, syncs: Syncs) -> io::Result<RawReport> {
        let scratch = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR"))?;
        let directory = scratch.path().to_path_buf();
        let report = run(&RawConfig {
            directory,
            data_bytes,
            meta_bytes: 100,
            depth,
            syncs,
            rings: 1,
            limit: Limit::Commits(10),
        })?;
        assert_eq!(
            std::fs::read_dir(scratch.path())?.count(),
            0,
            "the scratch files are removed"
        );
        Ok(report)
    }

    #[test]
    fn every_commit_is_counted_with_its_bytes() {
        for (data_bytes, depth, commit_bytes, syncs) in [
            (0, 1, 4096, Syncs::Linked),
            (1, 1, 8192, Syncs::Shared),
            (65536, 4, 69632, Syncs::Linked),
            (65536, 4, 69632, Syncs::Shared),
            (65536, 4, 69632, Syncs::Device),
            (0, 1, 4096, Syncs::Device),
        ] {
            let report = match smoke(data_bytes, depth, syncs) {
                // Some file systems have no direct I/O, some sandboxes no ring: nothing to measure there.
                Err(e) if matches!(e.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS | libc::EPERM)) => {
                    return;
                }
                other => other.unwrap(),
            };
            assert_eq!((report.commit_count, report.latency_us.len()), (10, 10));
            assert_eq!(report.written_bytes, 10 * commit_bytes);
            assert!(report.commits_per_second() > 0.0 && report.megabytes_per_second() > 0.0);
            // Some commit took at least its share of the time.
            let share_us = report.elapsed.as_micros() / 10 / 2;
            assert!(
                u128::from(report.latency_us.max()) >= share_us,
                "{} of {share_us}",
                report.latency_us.max()
            );
        }
    }

    #[test]
    fn senseless_arguments_are_refused() {
        assert_eq!(
            smoke(1, 0, Syncs::Linked).unwrap_err().kind(),
            io::ErrorKind::InvalidInput
        );
        assert_eq!(
            smoke(u64::MAX, 1, Syncs::Linked).unwrap_err().kind(),
            io::ErrorKind::InvalidInput
        );
    }
}
