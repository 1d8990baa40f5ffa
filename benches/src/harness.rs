//! Runs sides turn about and prints medians with all that is needed to read them.

use std::fmt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::raw::RawReport;

/// What one turn of one side gave.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sample {
    /// Operations (commits, events, requests: the table's title says which) in a second.
    pub(crate) per_second: f64,
    /// Megabytes (10^6) in a second.
    pub(crate) megabytes_per_second: f64,
    /// Median latency, microseconds.
    pub(crate) p50_us: f64,
    /// 99th percentile of latency, microseconds.
    pub(crate) p99_us: f64,
    /// CPU time of the measuring process for each operation, microseconds; 0 when it was not measured. That of the daemon
    /// is in it, unless it is told below.
    pub(crate) cpu_us: f64,
    /// CPU time of the daemon for each operation, microseconds; 0 when it was not measured by itself.
    pub(crate) node_cpu_us: f64,
}

/// CPU time of this process so far, that of the kernel's workers for it included.
pub(crate) fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

impl From<&RawReport> for Sample {
    fn from(report: &RawReport) -> Self {
        Self {
            per_second: report.commits_per_second(),
            megabytes_per_second: report.megabytes_per_second(),
            p50_us: report.latency_us.value_at_quantile(0.5) as f64,
            p99_us: report.latency_us.value_at_quantile(0.99) as f64,
            cpu_us: report.cpu.as_secs_f64() * 1e6 / report.commit_count.max(1) as f64,
            node_cpu_us: 0.0,
        }
    }
}

type Turn<'a> = Box<dyn FnMut() -> Result<Sample, String> + 'a>;

/// One thing to measure beside the others.
pub(crate) struct Side<'a> {
    pub(crate) name: String,
    turn: Turn<'a>,
}

impl<'a> Side<'a> {
    /// A side whose every call of `turn` is one turn.
    pub(crate) fn new(name: String, turn: impl FnMut() -> Result<Sample, String> + 'a) -> Self {
        Self {
            name,
            turn: Box::new(turn),
        }
    }
}

/// All turns of one side.
#[derive(Debug, Clone)]
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) samples: Vec<Sample>,
}

impl Series {
    /// The median of each figure on its own.
    pub(crate) fn median(&self) -> Sample {
        let of = |figure: fn(&Sample) -> f64| median(self.samples.iter().map(figure).collect());
        Sample {
            per_second: of(|s| s.per_second),
            megabytes_per_second: of(|s| s.megabytes_per_second),
            p50_us: of(|s| s.p50_us),
            p99_us: of(|s| s.p99_us),
            cpu_us: of(|s| s.cpu_us),
            node_cpu_us: of(|s| s.node_cpu_us),
        }
    }

    /// Lowest and highest rate of any turn: how far to trust the median.
    pub(crate) fn spread(&self) -> (f64, f64) {
        let rates = self.samples.iter().map(|s| s.per_second);
        rates.fold((f64::INFINITY, 0.0), |(low, high), rate| {
            (f64::min(low, rate), f64::max(high, rate))
        })
    }
}

/// The value in the middle, or between the two there.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match (
        values.len() % 2,
        values.get(middle),
        middle.checked_sub(1).and_then(|m| values.get(m)),
    ) {
        (1, Some(value), _) => *value,
        (0, Some(upper), Some(lower)) => f64::midpoint(*lower, *upper),
        _ => f64::NAN,
    }
}

/// Gives every side `rounds` turns. Every second round goes backwards, so that no side always follows the same one.
pub(crate) fn interleave(rounds: usize, mut sides: Vec<Side<'_>>) -> Result<Vec<Series>, String> {
    let mut series: Vec<Series> = sides
        .iter()
        .map(|side| Series {
            name: side.name.clone(),
            samples: Vec::new(),
        })
        .collect();
    for round in 0..rounds.max(1) {
        let mut order: Vec<_> = sides.iter_mut().zip(series.iter_mut()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for (side, series) in order {
            series
                .samples
                .push((side.turn)().map_err(|e| format!("{}: {e}", side.name))?);
        }
    }
    Ok(series)
}

/// Where the figures come from.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    cpu: String,
    cores: usize,
    kernel: String,
    file_system: String,
    commit: String,
}

impl Machine {
    /// This machine, with the file system that holds `directory`.
    pub(crate) fn here(directory: &Path) -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let model = cpuinfo
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(':'));
        let directory = directory
            .canonicalize()
            .unwrap_or_else(|_| directory.to_path_buf());
        Self {
            cpu: model.map_or("unknown", |(_, name)| name.trim()).to_owned(),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            file_system: file_system(&read("/proc/self/mountinfo"), &directory),
            commit: commit(),
        }
    }

    /// All of it.
    pub(crate) fn as_json(&self) -> Value {
        json!({
            "cpu": self.cpu, "cores": self.cores, "kernel": self.kernel,
            "file_system": self.file_system, "commit": self.commit,
        })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}, {} cores; Linux {}; {}; commit {}",
            self.cpu, self.cores, self.kernel, self.file_system, self.commit
        )
    }
}

/// Type and device of the mount with the longest path above `directory`, from `/proc/self/mountinfo`.
fn file_system(mountinfo: &str, directory: &Path) -> String {
    let mount = |line: &str| {
        let (before, after) = line.split_once(" - ")?;
        let point = before.split(' ').nth(4)?.to_owned();
        let mut after = after.split(' ');
        let found = format!("{} on {}", after.next()?, after.next()?);
        directory.starts_with(&point).then_some((point.len(), found))
    };
    let longest = mountinfo
        .lines()
        .filter_map(mount)
        .max_by_key(|(length, _)| *length);
    longest.map_or_else(|| "unknown".to_owned(), |(_, found)| found)
}

fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git")
            .args(arguments)
            .output()
            .ok()
            .filter(|o| o.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(hash) = git(&["rev-parse", "--short=12", "HEAD"]) else {
        return "unknown".to_owned();
    };
    match git(&["status", "--porcelain"]) {
        Some(changes) if changes.is_empty() => hash,
        _ => format!("{hash} with changes"),
    }
}

/// Prints the medians, and for each series the ratio of its rate to that of the series called `reference`.
pub(crate) fn print(title: &str, machine: &Machine, series: &[Series], reference: Option<&str>, json: bool) {
    let reference = series
        .iter()
        .find(|s| Some(s.name.as_str()) == reference)
        .map(|s| s.median().per_second);
    if json {
        println!("{}", as_json(title, machine, series, reference));
        return;
    }
    println!("{title}\n{machine}");
    let width = series.iter().map(|s| s.name.len()).max().unwrap_or(0);
    let heads = [
        "/s",
        "MB/s",
        "p50 us",
        "p99 us",
        "CPU us",
        "node us",
        "lowest/s",
        "highest/s",
    ];
    print!("{:width$}", "");
    heads.iter().for_each(|head| print!(" {head:>10}"));
    println!("{}", if reference.is_some() { "      ratio" } else { "" });
    for one in series {
        let (median, (low, high)) = (one.median(), one.spread());
        let figures = [
            median.per_second,
            median.megabytes_per_second,
            median.p50_us,
            median.p99_us,
            median.cpu_us,
            median.node_cpu_us,
            low,
            high,
        ];
        print!("{:width$}", one.name);
        for figure in figures {
            // CPU time of an event in a batch is a few microseconds.
            let digits = if figure > 0.0 && figure < 10.0 { 2 } else { 0 };
            print!(" {figure:>10.digits$}");
        }
        match reference {
            Some(reference) => println!(" {:>10.2}", median.per_second / reference),
            None => println!(),
        }
    }
    println!(
        "medians of {} interleaved turns",
        series.first().map_or(0, |s| s.samples.len())
    );
}

fn as_json(title: &str, machine: &Machine, series: &[Series], reference: Option<f64>) -> Value {
    let rows = series.iter().map(|one| {
        let (median, (low, high)) = (one.median(), one.spread());
        json!({
            "name": one.name, "per_second": median.per_second, "mb_per_second": median.megabytes_per_second,
            "p50_us": median.p50_us, "p99_us": median.p99_us, "cpu_us": median.cpu_us,
            "node_cpu_us": median.node_cpu_us, "lowest_per_second": low, "highest_per_second": high,
            "turns": one.samples.len(), "ratio": reference.map(|r| median.per_second / r),
        })
    });
    json!({
        "title": title,
        "machine": machine.as_json(),
        "series": rows.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn sides_take_turns_and_medians_hold() {
        let order = RefCell::new(String::new());
        let side = |name: &'static str, rates: [f64; 3]| {
            let mut rates = rates.into_iter();
            let order = &order;
            Side::new(name.to_owned(), move || {
                order.borrow_mut().push_str(name);
                Ok(Sample {
                    per_second: rates.next().ok_or("too many turns")?,
                    ..Sample::default()
                })
            })
        };
        let series = interleave(3, vec![side("a", [3.0, 1.0, 2.0]), side("b", [30.0, 20.0, 10.0])]).unwrap();
        assert_eq!(order.borrow().as_str(), "abbaab");
        assert_eq!(
            (series[0].median().per_second, series[0].spread()),
            (2.0, (1.0, 3.0))
        );
        let report = as_json("t", &Machine::here(Path::new(".")), &series, Some(2.0));
        assert_eq!(report["series"][1]["ratio"], 10.0);
        assert_eq!(median(vec![1.0, 2.0]), 1.5);
    }

    #[test]
    fn a_failing_side_is_named() {
        let failing = Side::new("x".to_owned(), || Err("no disk".to_owned()));
        assert_eq!(interleave(1, vec![failing]).unwrap_err(), "x: no disk");
    }

    #[test]
    fn the_innermost_mount_counts() {
        let mounts = "1 0 0:1 / / rw - ext4 /dev/vda rw\n2 1 0:2 / /data rw shared:1 - xfs /dev/nvme0n1 rw\n";
        assert_eq!(file_system(mounts, Path::new("/data/x")), "xfs on /dev/nvme0n1");
        assert_eq!(file_system(mounts, Path::new("/database")), "ext4 on /dev/vda");
    }
}
