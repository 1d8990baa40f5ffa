//! The text form of metrics: that of Prometheus (0.0.4) and OpenMetrics 1.0.0, which differ in little.
//!
//! Written here and not by a crate, because a crate's registry is made of counters that all threads share; ours are cells of
//! single cores, and what is written is a copy of them.

use std::fmt::Write;

use crate::measures::{BOUNDS_US, HistogramValues};

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// Version 0.0.4, which every scraper reads.
    Prometheus,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
}

impl Format {
    /// Its name in HTTP.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, from the start of the node on.
    Counter,
    /// As it is now.
    Gauge,
    /// Durations in buckets.
    Histogram,
    /// Text in labels; its value is 1.
    Info,
}

impl Kind {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Info => "info",
        }
    }
}

/// A metric.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// Its name, without `_total` or `_info`, with the unit last.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Its unit, if it is not a mere number of things.
    pub unit: Option<&'static str>,
    /// Names of its labels.
    pub labels: &'static [&'static str],
    /// What it tells.
    pub help: &'static str,
}

impl Family {
    /// Its name as it is asked for: with `_total` or `_info`.
    pub fn sample_name(&self) -> String {
        let suffix = match self.kind {
            Kind::Counter => "_total",
            Kind::Info => "_info",
            Kind::Gauge | Kind::Histogram => "",
        };
        format!("{}{suffix}", self.name)
    }
}

/// The value of a sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    /// A whole number.
    Whole(u64),
    /// Microseconds, which become seconds.
    Us(u64),
}

/// Writes families one after the other.
pub struct Exposition {
    format: Format,
    out: String,
}

impl Exposition {
    /// An empty one.
    pub fn new(format: Format) -> Self {
        Self {
            format,
            out: String::with_capacity(64 << 10),
        }
    }

    /// Begins a family: the samples that follow are its own.
    pub fn begin(&mut self, family: &Family) {
        let is_open = self.format == Format::OpenMetrics;
        let name = match is_open {
            true => family.name.to_owned(),
            false => family.sample_name(),
        };
        let kind = match family.kind {
            Kind::Info if !is_open => "gauge",
            kind => kind.word(),
        };
        self.line(format_args!("# HELP {name} {}", family.help));
        self.line(format_args!("# TYPE {name} {kind}"));
        if let Some(unit) = family.unit.filter(|_| is_open) {
            self.line(format_args!("# UNIT {name} {unit}"));
        }
    }

    /// One sample of a family that is no histogram, with the values of its labels.
    pub fn sample(&mut self, family: &Family, labels: &[&str], value: Value) {
        let name = family.sample_name();
        self.named(&name, family, labels, None, value);
    }

    /// All samples of one histogram.
    pub fn histogram(&mut self, family: &Family, labels: &[&str], values: &HistogramValues) {
        let bucket = format!("{}_bucket", family.name);
        let mut count = 0_u64;
        for (place, more) in values.buckets.iter().enumerate() {
            count = count.wrapping_add(*more);
            let le = BOUNDS_US
                .get(place)
                .map_or_else(|| "+Inf".to_owned(), |bound| seconds(*bound));
            self.named(&bucket, family, labels, Some(&le), Value::Whole(count));
        }
        self.named(
            &format!("{}_sum", family.name),
            family,
            labels,
            None,
            Value::Us(values.sum_us),
        );
        self.named(
            &format!("{}_count", family.name),
            family,
            labels,
            None,
            Value::Whole(count),
        );
    }

    /// The text.
    pub fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.out.push_str("# EOF\n");
        }
        self.out
    }

    fn named(&mut self, name: &str, family: &Family, labels: &[&str], le: Option<&str>, value: Value) {
        assert_eq!(
            labels.len(),
            family.labels.len(),
            "{} has a value for each label",
            family.name
        );
        self.out.push_str(name);
        let mut separator = '{';
        let pairs = family.labels.iter().copied().zip(labels.iter().copied());
        for (label, text) in pairs.chain(le.map(|le| ("le", le))) {
            self.out.push(separator);
            self.out.push_str(label);
            self.out.push_str("=\"");
            escape(text, &mut self.out);
            self.out.push('"');
            separator = ',';
        }
        if separator == ',' {
            self.out.push('}');
        }
        match value {
            Value::Whole(value) => self.line(format_args!(" {value}")),
            Value::Us(us) => {
                let text = seconds(us);
                self.line(format_args!(" {text}"));
            }
        }
    }

    fn line(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        self.out.write_fmt(text).ok();
        self.out.push('\n');
    }
}

/// Seconds, exactly, with one digit after the point at least.
fn seconds(us: u64) -> String {
    let text = format!("{}.{:06}", us / 1_000_000, us % 1_000_000);
    let trimmed = text.trim_end_matches('0');
    match trimmed.ends_with('.') {
        true => format!("{trimmed}0"),
        false => trimmed.to_owned(),
    }
}

fn escape(text: &str, out: &mut String) {
    for char in text.chars() {
        match char {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            other => out.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNTER: Family = Family {
        name: "mofka_x_bytes",
        kind: Kind::Counter,
        unit: Some("bytes"),
        labels: &["topic"],
        help: "Bytes of x.",
    };
    const HISTOGRAM: Family = Family {
        name: "mofka_y_seconds",
        kind: Kind::Histogram,
        unit: Some("seconds"),
        labels: &[],
        help: "Time of y.",
    };
    const INFO: Family = Family {
        name: "mofka_build",
        kind: Kind::Info,
        unit: None,
        labels: &["version"],
        help: "What runs.",
    };

    fn text(format: Format) -> String {
        let mut out = Exposition::new(format);
        out.begin(&COUNTER);
        out.sample(&COUNTER, &["a\\b\"c\nd"], Value::Whole(7));
        out.begin(&INFO);
        out.sample(&INFO, &["1"], Value::Whole(1));
        out.finish()
    }

    #[test]
    fn the_two_forms_differ_in_names_of_families_units_and_the_end() {
        assert_eq!(
            text(Format::Prometheus),
            "# HELP mofka_x_bytes_total Bytes of x.\n# TYPE mofka_x_bytes_total counter\n\
             mofka_x_bytes_total{topic=\"a\\\\b\\\"c\\nd\"} 7\n\
             # HELP mofka_build_info What runs.\n# TYPE mofka_build_info gauge\nmofka_build_info{version=\"1\"} 1\n"
        );
        assert_eq!(
            text(Format::OpenMetrics),
            "# HELP mofka_x_bytes Bytes of x.\n# TYPE mofka_x_bytes counter\n# UNIT mofka_x_bytes bytes\n\
             mofka_x_bytes_total{topic=\"a\\\\b\\\"c\\nd\"} 7\n\
             # HELP mofka_build What runs.\n# TYPE mofka_build info\nmofka_build_info{version=\"1\"} 1\n# EOF\n"
        );
    }

    #[test]
    fn buckets_add_up() {
        let mut values = HistogramValues::default();
        values.buckets[0] = 2;
        values.buckets[3] = 1;
        values.buckets[BOUNDS_US.len()] = 4;
        values.sum_us = 1_500_001;
        let mut out = Exposition::new(Format::Prometheus);
        out.begin(&HISTOGRAM);
        out.histogram(&HISTOGRAM, &[], &values);
        let text = out.finish();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[2], "mofka_y_seconds_bucket{le=\"0.00001\"} 2");
        assert_eq!(lines[5], "mofka_y_seconds_bucket{le=\"0.0001\"} 3");
        assert_eq!(lines[2 + 15], "mofka_y_seconds_bucket{le=\"1.0\"} 3");
        assert_eq!(
            lines[2 + BOUNDS_US.len()],
            "mofka_y_seconds_bucket{le=\"+Inf\"} 7"
        );
        assert_eq!(
            lines[lines.len() - 2..],
            ["mofka_y_seconds_sum 1.500001", "mofka_y_seconds_count 7"]
        );
    }

    #[test]
    fn seconds_are_exact() {
        for (us, text) in [
            (0, "0.0"),
            (1, "0.000001"),
            (10, "0.00001"),
            (2_500_000, "2.5"),
            (10_000_000, "10.0"),
        ] {
            assert_eq!(seconds(us), text);
        }
        assert_eq!(seconds(u64::MAX), "18446744073709.551615");
    }
}
