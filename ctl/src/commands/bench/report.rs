//! What a benchmark found: for people, for programs, and for those who plot histograms.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};
use serde::Serialize;

use crate::commands::bench::run::Run;
use crate::failure::{Failure, Outcome};
use crate::node;
use crate::output::{Output, bytes_text};

/// The longest that is told apart, in nanoseconds: beyond it all is as long as this.
const LONGEST_NS: u64 = 3_600_000_000_000;
/// Digits that are right.
const DIGITS: u8 = 3;

/// Latencies in nanoseconds.
pub(crate) type Latencies = Histogram<u64>;

/// None yet.
pub(crate) fn latencies() -> Latencies {
    Histogram::new_with_bounds(1, LONGEST_NS, DIGITS).expect("these bounds are possible")
}

/// Notes one.
pub(crate) fn note(latencies: &mut Latencies, took: Duration) {
    latencies.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).max(1));
}

/// What was measured.
pub(crate) struct Measured {
    pub(crate) benchmark: &'static str,
    pub(crate) events: u64,
    pub(crate) failed: u64,
    /// Events that were acknowledged and did not come.
    pub(crate) missing: u64,
    pub(crate) bytes: u64,
    pub(crate) elapsed: Duration,
    pub(crate) cpu: Duration,
    pub(crate) latencies: Latencies,
    /// From the real push on, where the other ones begin earlier.
    pub(crate) uncorrected: Option<Latencies>,
    /// Events a second that were asked for.
    pub(crate) rate: Option<f64>,
}

/// With `--json` it is printed as it is; the schemas `ctl/schemas/bench-*.json` say what each field means.
#[derive(Debug, Serialize)]
struct Report {
    benchmark: &'static str,
    topic: String,
    interrupted: bool,
    partitions: usize,
    producers: u32,
    batch_size: Option<u32>,
    in_flight: u32,
    metadata_bytes: u32,
    data_bytes: u64,
    rate: Option<f64>,
    events: u64,
    failed: u64,
    missing: u64,
    elapsed_ms: f64,
    events_per_s: f64,
    megabytes_per_s: f64,
    client_cpu_percent: f64,
    client_cpu_us_per_event: f64,
    latency: Summary,
    uncorrected_latency: Option<Summary>,
}

#[derive(Debug, Serialize)]
struct Summary {
    count: u64,
    min_us: f64,
    mean_us: f64,
    p50_us: f64,
    p90_us: f64,
    p99_us: f64,
    p999_us: f64,
    max_us: f64,
}

impl Summary {
    fn of(latencies: &Latencies) -> Self {
        let us = |ns: u64| ns as f64 / 1e3;
        let at = |quantile| us(latencies.value_at_quantile(quantile));
        Self {
            count: latencies.len(),
            min_us: us(latencies.min()),
            mean_us: latencies.mean().round() / 1e3,
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: us(latencies.max()),
        }
    }

    fn text(&self) -> String {
        let text = |us: f64| match us {
            us if us < 1000.0 => format!("{us:.1} us"),
            us if us < 1_000_000.0 => format!("{:.2} ms", us / 1e3),
            us => format!("{:.2} s", us / 1e6),
        };
        format!(
            "p50 {}, p90 {}, p99 {}, p99.9 {}, max {} (of {} events)",
            text(self.p50_us),
            text(self.p90_us),
            text(self.p99_us),
            text(self.p999_us),
            text(self.max_us),
            self.count
        )
    }
}

impl Measured {
    /// Before anything was done.
    pub(crate) fn nothing(benchmark: &'static str) -> Self {
        Self {
            benchmark,
            events: 0,
            failed: 0,
            missing: 0,
            bytes: 0,
            elapsed: Duration::ZERO,
            cpu: Duration::ZERO,
            latencies: latencies(),
            uncorrected: None,
            rate: None,
        }
    }

    /// Prints it and writes the histogram, if that was asked for.
    pub(crate) fn tell(&self, run: &Run<'_>, output: Output) -> Outcome {
        // In no time nothing happened.
        let seconds = match self.elapsed.as_secs_f64() {
            0.0 => f64::INFINITY,
            seconds => seconds,
        };
        let report = Report {
            benchmark: self.benchmark,
            topic: run.topic.name(),
            interrupted: run.is_interrupted(),
            partitions: run.topic.partitions().len(),
            producers: run.args.producers,
            batch_size: run.args.batch_size,
            in_flight: run.args.in_flight,
            metadata_bytes: run.args.metadata_bytes,
            data_bytes: run.args.data_bytes,
            rate: self.rate,
            events: self.events,
            failed: self.failed,
            missing: self.missing,
            elapsed_ms: rounded(self.elapsed.as_secs_f64() * 1e3),
            events_per_s: rounded(self.events as f64 / seconds),
            megabytes_per_s: rounded(self.bytes as f64 / 1e6 / seconds),
            client_cpu_percent: rounded(self.cpu.as_secs_f64() * 100.0 / seconds),
            client_cpu_us_per_event: rounded(self.cpu.as_secs_f64() * 1e6 / self.events.max(1) as f64),
            latency: Summary::of(&self.latencies),
            uncorrected_latency: self.uncorrected.as_ref().map(Summary::of),
        };
        output.print(&node::to_json(&report)?, || text(&report))?;
        if let Some(path) = &run.args.hdr {
            write_histogram(path, self.benchmark, &self.latencies, self.elapsed)?;
        }
        Ok(())
    }

    /// What did not hold.
    pub(crate) fn judge(&self) -> Outcome {
        match (self.failed, self.missing) {
            (0, 0) => Ok(()),
            (0, missing) => Err(Failure::check(format!(
                "{missing} events were acknowledged and did not come in time"
            ))),
            (failed, _) => Err(Failure::failed(format!("{failed} events failed"))),
        }
    }
}

fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

fn text(report: &Report) -> String {
    let mut lines = Vec::new();
    if report.interrupted {
        lines.push("interrupted: so far".to_owned());
    }
    let batches = report.batch_size.map_or_else(
        || "adaptive batches".to_owned(),
        |size| format!("batches of {size}"),
    );
    lines.push(format!(
        "{}: topic {}, {} partitions, {} producers, {batches}, {} in flight",
        report.benchmark, report.topic, report.partitions, report.producers, report.in_flight
    ));
    lines.push(format!(
        "event:       {} bytes of metadata, {} of data",
        report.metadata_bytes,
        bytes_text(report.data_bytes)
    ));
    let asked = report
        .rate
        .map_or_else(String::new, |rate| format!(" ({rate} asked for)"));
    lines.push(format!(
        "rate:        {:.0} events/s{asked}, {:.1} MB/s ({} events in {:.2} s)",
        report.events_per_s,
        report.megabytes_per_s,
        report.events,
        report.elapsed_ms / 1e3
    ));
    lines.push(format!("latency:     {}", report.latency.text()));
    if let Some(uncorrected) = &report.uncorrected_latency {
        lines.push(format!("uncorrected: {}", uncorrected.text()));
    }
    lines.push(format!(
        "client CPU:  {:.0}% of a core, {:.2} us an event",
        report.client_cpu_percent, report.client_cpu_us_per_event
    ));
    if report.failed > 0 || report.missing > 0 {
        lines.push(format!(
            "FAILED:      {} events, and {} did not come",
            report.failed, report.missing
        ));
    }
    lines.join("\n")
}

/// A log with one interval, in the form that the tools of HdrHistogram read, and the percentiles as text. Values are in
/// nanoseconds in the log, in milliseconds in the text, as those tools have it.
fn write_histogram(path: &Path, name: &str, latencies: &Latencies, elapsed: Duration) -> Outcome {
    let failed = |path: &Path, error: &dyn std::fmt::Display| {
        Failure::failed(format!("cannot write {}: {error}", path.display()))
    };
    let create = |path: &Path| File::create(path).map_err(|error| failed(path, &error));
    let mut out = BufWriter::new(create(path)?);
    let mut serializer = V2DeflateSerializer::new();
    let begun = SystemTime::now()
        .checked_sub(elapsed)
        .unwrap_or(SystemTime::UNIX_EPOCH);
    let mut builder = IntervalLogWriterBuilder::new();
    let mut log = builder
        .add_comment(&format!("mofka-ctl bench {name}, latencies in nanoseconds"))
        .with_start_time(begun)
        .with_base_time(begun)
        .with_max_value_divisor(1e6)
        .begin_log_with(&mut out, &mut serializer)
        .map_err(|error| failed(path, &error))?;
    log.write_histogram(latencies, Duration::ZERO, elapsed, Tag::new(name))
        .map_err(|error| failed(path, &format!("{error:?}")))?;
    out.flush().map_err(|error| failed(path, &error))?;
    let text_path = PathBuf::from(format!("{}.percentiles", path.display()));
    let mut out = BufWriter::new(create(&text_path)?);
    write_percentiles(&mut out, latencies)
        .and_then(|()| out.flush())
        .map_err(|error| failed(&text_path, &error))
}

/// As HdrHistogram's own tools print them, so that its plotter reads them.
fn write_percentiles(out: &mut impl Write, latencies: &Latencies) -> std::io::Result<()> {
    writeln!(
        out,
        "{:>12} {:>14} {:>10} {:>14}\n",
        "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
    )?;
    let mut total = 0;
    for step in latencies.iter_quantiles(5) {
        total += step.count_since_last_iteration();
        let quantile = step.quantile_iterated_to();
        let value_ms = step.value_iterated_to() as f64 / 1e6;
        if quantile < 1.0 {
            let inverse = 1.0 / (1.0 - quantile);
            writeln!(
                out,
                "{value_ms:>12.3} {quantile:>14.12} {total:>10} {inverse:>14.2}"
            )?;
        } else {
            writeln!(out, "{value_ms:>12.3} {quantile:>14.12} {total:>10}")?;
        }
    }
    writeln!(
        out,
        "#[Mean    = {:>12.3}, StdDeviation   = {:>12.3}]\n#[Max     = {:>12.3}, Total count    = {:>12}]\n#[Buckets = {:>12}, SubBuckets     = {:>12}]",
        latencies.mean() / 1e6,
        latencies.stdev() / 1e6,
        latencies.max() as f64 / 1e6,
        latencies.len(),
        latencies.buckets(),
        latencies.distinct_values()
    )
}

#[cfg(test)]
mod tests {
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    use super::*;

    fn some() -> Latencies {
        let mut some = latencies();
        (1..=1000).for_each(|us| note(&mut some, Duration::from_micros(us)));
        note(&mut some, Duration::from_secs(10_000));
        some
    }

    #[test]
    fn a_summary_is_in_microseconds_and_nothing_is_too_long_for_it() {
        let summary = Summary::of(&some());
        assert_eq!(summary.count, 1001);
        assert!((499.0..503.0).contains(&summary.p50_us), "{summary:?}");
        assert!(summary.max_us >= 3.5e9, "{summary:?}");
        assert!(summary.text().contains("p90 90"), "{}", summary.text());
        assert_eq!(Summary::of(&latencies()).count, 0);
    }

    #[test]
    fn the_log_is_read_back_with_all_that_was_noted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.hdr");
        write_histogram(&path, "produce", &some(), Duration::from_secs(2)).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert!(String::from_utf8_lossy(&bytes).contains("HIST"));
        let histograms: Vec<Latencies> = IntervalLogIterator::new(&bytes)
            .filter_map(|entry| match entry.unwrap() {
                LogEntry::Interval(interval) => {
                    assert_eq!(interval.tag().map(|tag| tag.as_str()), Some("produce"));
                    let coded = base64(interval.encoded_histogram());
                    Some(Deserializer::new().deserialize(&mut coded.as_slice()).unwrap())
                }
                _ => None,
            })
            .collect();
        assert_eq!(histograms, [some()]);
        let text = std::fs::read_to_string(dir.path().join("x.hdr.percentiles")).unwrap();
        assert!(
            text.contains("Value") && text.contains("1.000000000000       1001"),
            "{text}"
        );
        let error = write_histogram(&dir.path().join("no/x"), "a", &some(), Duration::ZERO).unwrap_err();
        assert!(error.to_string().contains("no/x"), "{error}");
    }

    fn base64(text: &str) -> Vec<u8> {
        const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let values: Vec<u32> = text
            .bytes()
            .filter_map(|byte| DIGITS.iter().position(|digit| *digit == byte))
            .map(|value| u32::try_from(value).unwrap())
            .collect();
        values
            .chunks(4)
            .flat_map(|chunk| {
                let bits = chunk
                    .iter()
                    .enumerate()
                    .fold(0, |bits, (n, value)| bits | value << (18 - 6 * n));
                bits.to_be_bytes()[1..chunk.len()].to_vec()
            })
            .collect()
    }
}
