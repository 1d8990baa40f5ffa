//! What the demonstration found, as text and as JSON.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::node::StoredFile;
use crate::output::{bytes_text, table};

/// Counts, rates, latencies, files.
pub(super) struct Report {
    pub(super) event_count: usize,
    pub(super) alert_count: usize,
    pub(super) repeated_count: u64,
    pub(super) acknowledged_ends: Vec<u64>,
    /// Payload bytes: the lines.
    pub(super) data_bytes: u64,
    pub(super) produce: Span,
    pub(super) consume: Span,
    pub(super) read_again: Span,
    pub(super) restart: Duration,
    /// From push until the acknowledgement, microseconds: before the kill, and for events under way at the kill or after it.
    pub(super) before_us: Histogram<u64>,
    pub(super) across_us: Histogram<u64>,
    /// Frames through shared memory, either way, after the kill. None when the node or the machine gives no rings.
    pub(super) ring_frame_count: u64,
    pub(super) direct_io: bool,
    pub(super) files: Vec<StoredFile>,
}

/// So many events in so long.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub(super) event_count: usize,
    pub(super) elapsed: Duration,
}

impl Span {
    fn per_second(&self) -> f64 {
        self.event_count as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    fn to_text(self) -> String {
        format!(
            "{} events in {:.1} ms, {:.0}/s",
            self.event_count,
            self.elapsed.as_secs_f64() * 1e3,
            self.per_second()
        )
    }

    fn to_json(self) -> Value {
        json!({
            "events": self.event_count, "ms": self.elapsed.as_secs_f64() * 1e3, "events_per_second": self.per_second(),
        })
    }
}

const QUANTILES: [(&str, f64); 5] = [
    ("p50", 0.5),
    ("p90", 0.9),
    ("p99", 0.99),
    ("p99.9", 0.999),
    ("max", 1.0),
];

fn latency_text(latency_us: &Histogram<u64>) -> String {
    let figures = QUANTILES.map(|(name, q)| format!("{name} {} us", latency_us.value_at_quantile(q)));
    format!("{} ({} events)", figures.join(", "), latency_us.len())
}

fn latency_json(latency_us: &Histogram<u64>) -> Value {
    let figures = QUANTILES
        .iter()
        .map(|(name, q)| ((*name).to_owned(), latency_us.value_at_quantile(*q).into()));
    let mut object: serde_json::Map<String, Value> = figures.collect();
    object.insert("events".to_owned(), latency_us.len().into());
    Value::Object(object)
}

impl Report {
    pub(super) fn to_text(&self) -> String {
        let ends: Vec<String> = self.acknowledged_ends.iter().map(u64::to_string).collect();
        let mut lines = vec![
            String::new(),
            format!(
                "events      {} seen, all with the right metadata, in order, none lost",
                self.event_count
            ),
            format!(
                "alerts      {}, each with its line as data; no data fetched for the others",
                self.alert_count
            ),
            format!(
                "kill -9     none of the acknowledged was lost or came again (cursors at the end: {})",
                ends.join(", ")
            ),
            format!(
                "            {} that were read but not acknowledged came again, as they must",
                self.repeated_count
            ),
            format!(
                "restart     {:.0} ms from exec to the first answer",
                self.restart.as_secs_f64() * 1e3
            ),
            format!("produce     {} (first half, synced)", self.produce.to_text()),
            format!("consume     {} (with data of the alerts)", self.consume.to_text()),
            format!(
                "read again  {} (all data, after a clean stop and start)",
                self.read_again.to_text()
            ),
            format!("latency     before the kill: {}", latency_text(&self.before_us)),
            format!("            across the kill: {}", latency_text(&self.across_us)),
            match self.ring_frame_count {
                0 => "transport   Unix sockets (no shared memory was to be had)".to_owned(),
                frames => format!("transport   shared memory, {frames} frames since the restart"),
            },
            format!(
                "disk        {}, for {} of data in",
                if self.direct_io {
                    "direct I/O"
                } else {
                    "buffered I/O"
                },
                bytes_text(self.data_bytes)
            ),
        ];
        let row = |f: &StoredFile| {
            vec![
                format!("  {}", f.path),
                bytes_text(f.bytes),
                bytes_text(f.allocated_bytes),
            ]
        };
        lines.push(table(
            &["  file", "length", "on disk"],
            &self.files.iter().map(row).collect::<Vec<_>>(),
        ));
        lines.push(String::new());
        lines.push("DEMO PASSED".to_owned());
        lines.join("\n")
    }

    pub(super) fn to_json(&self) -> Value {
        let file =
            |f: &StoredFile| json!({"path": f.path, "bytes": f.bytes, "allocated_bytes": f.allocated_bytes});
        json!({
            "passed": true,
            "events": self.event_count, "alerts": self.alert_count, "repeated": self.repeated_count,
            "acknowledged_ends": self.acknowledged_ends, "data_bytes": self.data_bytes,
            "produce": self.produce.to_json(), "consume": self.consume.to_json(), "read_again": self.read_again.to_json(),
            "restart_ms": self.restart.as_secs_f64() * 1e3,
            "latency_us": {"before_kill": latency_json(&self.before_us), "across_kill": latency_json(&self.across_us)},
            "ring_frames": self.ring_frame_count,
            "direct_io": self.direct_io,
            "files": self.files.iter().map(file).collect::<Vec<_>>(),
        })
    }
}
