//! Tables: what a view shows, before it is known how much room there is. The same for the screen and for `--once`.

use std::cmp::Ordering;

use crate::cli::View;
use crate::commands::top::figures::{Figures, Latency, Rates};
use crate::output::bytes_text;

/// How a row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mood {
    Bad,
    Warning,
    Fine,
}

/// What a cell is sorted by.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Key {
    Text(String),
    Number(f64),
}

#[derive(Clone, Debug)]
pub(crate) struct Cell {
    pub(crate) text: String,
    key: Key,
}

/// One head, and how easily the column is left out: those with high numbers go first where there is no room.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    pub(crate) head: &'static str,
    pub(crate) expendable: u8,
}

#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) cells: Vec<Cell>,
    pub(crate) mood: Mood,
}

/// A table. The first column is what a row is about.
#[derive(Clone, Debug)]
pub(crate) struct Sheet {
    pub(crate) columns: &'static [Column],
    pub(crate) rows: Vec<Row>,
    /// More rows that the node did not tell of.
    pub(crate) left_out: u64,
}

/// By which column, and whether the other way round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sorting {
    pub(crate) column: usize,
    pub(crate) reversed: bool,
}

const fn column(head: &'static str, expendable: u8) -> Column {
    Column { head, expendable }
}

const TOPICS: &[Column] = &[
    column("topic", 0),
    column("in ev/s", 0),
    column("in B/s", 3),
    column("out ev/s", 2),
    column("p50", 5),
    column("p99", 1),
    column("lag", 1),
    column("parts", 4),
    column("events", 6),
    column("stored", 4),
];
const PARTITIONS: &[Column] = &[
    column("topic", 0),
    column("part", 0),
    column("state", 0),
    column("in ev/s", 1),
    column("in B/s", 4),
    column("unsynced", 3),
    column("waiting", 2),
    column("subs", 5),
    column("starved", 5),
    column("shard", 3),
    column("events", 6),
    column("stored", 4),
];
const CONSUMERS: &[Column] = &[
    column("consumer", 0),
    column("topic", 0),
    column("lag", 0),
    column("lag/s", 1),
    column("caught up", 2),
    column("subs", 3),
    column("parts", 4),
];
const SHARDS: &[Column] = &[
    column("shard", 0),
    column("in ev/s", 0),
    column("in B/s", 4),
    column("out ev/s", 3),
    column("p99", 1),
    column("sync p99", 2),
    column("req/s", 1),
    column("err/s", 2),
    column("conns", 3),
    column("rings", 5),
    column("parts", 4),
    column("unanswered", 6),
    column("outbox", 5),
    column("mem rd/s", 6),
    column("dev rd/s", 4),
];
const PROBLEMS: &[Column] = &[column("severity", 0), column("about", 0), column("what to do", 0)];

/// In the order of the tabs.
pub(crate) const VIEWS: [View; 5] = [
    View::Topics,
    View::Partitions,
    View::Consumers,
    View::Shards,
    View::Problems,
];

/// The place of a view among the tabs.
pub(crate) fn place_of(view: View) -> usize {
    VIEWS.iter().position(|known| *known == view).unwrap_or(0)
}

/// What a view is called.
pub(crate) fn title(view: View) -> &'static str {
    match view {
        View::Topics => "Topics",
        View::Partitions => "Partitions",
        View::Consumers => "Consumers",
        View::Shards => "Shards",
        View::Problems => "Problems",
    }
}

/// By what a view is sorted at first: what is most worth looking at comes first.
pub(crate) fn first_sorting(view: View) -> Sorting {
    let column = match view {
        View::Topics => 1,
        View::Consumers => 2,
        View::Partitions | View::Shards | View::Problems => 0,
    };
    Sorting {
        column,
        reversed: false,
    }
}

fn text(value: &str) -> Cell {
    Cell {
        text: printable(value),
        key: Key::Text(value.to_owned()),
    }
}

fn number(value: f64, text: String) -> Cell {
    Cell {
        text,
        key: Key::Number(value),
    }
}

fn whole(value: u64) -> Cell {
    number(value as f64, count_text(value as f64))
}

fn bytes(value: u64) -> Cell {
    number(value as f64, bytes_text(value))
}

fn rate(value: f64) -> Cell {
    number(value, rate_text(value))
}

fn bytes_rate(value: f64) -> Cell {
    number(value, bytes_text(value.max(0.0) as u64))
}

fn latency(value: Option<u64>) -> Cell {
    number(value.map_or(-1.0, |us| us as f64), duration_text(value))
}

/// Names come from others: what would move the cursor or change colours is shown as a mark.
pub(crate) fn printable(value: &str) -> String {
    value
        .chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

/// A count for people: whole up to 99,999.
pub(crate) fn count_text(value: f64) -> String {
    const UNITS: [(&str, f64); 4] = [("k", 1e3), ("M", 1e6), ("G", 1e9), ("T", 1e12)];
    if value < 100_000.0 {
        return format!("{value:.0}");
    }
    let (unit, factor) = UNITS
        .iter()
        .rev()
        .find(|(_, factor)| value >= *factor)
        .copied()
        .unwrap_or(("", 1.0));
    format!("{:.1}{unit}", value / factor)
}

/// A rate for people: small ones have a digit after the point.
pub(crate) fn rate_text(value: f64) -> String {
    if value == 0.0 {
        "0".to_owned()
    } else if value.abs() < 10.0 {
        format!("{value:.1}")
    } else if value < 0.0 {
        format!("-{}", count_text(-value))
    } else {
        count_text(value)
    }
}

/// A length of time of so many microseconds for people.
pub(crate) fn duration_text(us: Option<u64>) -> String {
    match us {
        None => "-".to_owned(),
        Some(us @ 0..1000) => format!("{us} us"),
        Some(us @ 1000..1_000_000) => format!("{:.1} ms", us as f64 / 1e3),
        Some(us @ 1_000_000..10_000_000) => format!("{:.1} s", us as f64 / 1e6),
        Some(_) => ">10 s".to_owned(),
    }
}

/// A longer one, of so many seconds.
pub(crate) fn span_text(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {}s", seconds % 60),
        (0, _, _) => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}

fn in_and_out(rates: &Rates) -> [Cell; 3] {
    [
        rate(rates.accepted_events_per_s),
        bytes_rate(rates.accepted_bytes_per_s),
        rate(rates.fed_events_per_s),
    ]
}

fn topics(figures: &Figures) -> Vec<Row> {
    let row = |topic: &crate::commands::top::figures::TopicFigures| {
        let [events_in, bytes_in, events_out] = in_and_out(&topic.rates);
        let Latency { p50_us, p99_us, .. } = topic.rates.produce;
        let parts = match topic.unwell {
            0 => whole(topic.partitions),
            unwell => number(
                topic.partitions as f64,
                format!("{} ({unwell} unwell)", topic.partitions),
            ),
        };
        let lag = topic.lag.map_or_else(|| number(-1.0, "-".to_owned()), whole);
        Row {
            cells: vec![
                text(&topic.topic),
                events_in,
                bytes_in,
                events_out,
                latency(p50_us),
                latency(p99_us),
                lag,
                parts,
                whole(topic.events),
                bytes(topic.bytes),
            ],
            mood: if topic.unwell > 0 { Mood::Bad } else { Mood::Fine },
        }
    };
    figures.topics.iter().map(row).collect()
}

fn partitions(figures: &Figures) -> Vec<Row> {
    let row = |p: &crate::commands::top::figures::PartitionFigures| Row {
        cells: vec![
            text(&p.topic),
            whole(u64::from(p.partition)),
            text(&p.state),
            rate(p.accepted_events_per_s),
            bytes_rate(p.accepted_bytes_per_s),
            whole(p.unsynced_events),
            bytes(p.waiting_bytes),
            whole(p.subscriptions),
            whole(p.starved_subscriptions),
            whole(p.shard),
            whole(p.events),
            bytes(p.bytes),
        ],
        mood: match p.state.as_str() {
            "open" | "complete" if p.reason.is_none() => Mood::Fine,
            _ => Mood::Bad,
        },
    };
    figures.partitions.iter().map(row).collect()
}

fn consumers(figures: &Figures) -> Vec<Row> {
    let row = |c: &crate::commands::top::figures::ConsumerFigures| {
        let caught_up = match c.caught_up_s {
            _ if c.lag == 0 => number(0.0, "yes".to_owned()),
            Some(seconds) => number(seconds, format!("in {}", span_text(seconds.ceil() as u64))),
            None => number(f64::MAX, "never".to_owned()),
        };
        // Nobody reads, or whoever reads is slower than what comes.
        let is_behind = c.lag > 0 && (c.subscriptions == 0 || c.lag_change_per_s > 0.0);
        Row {
            cells: vec![
                text(&c.consumer),
                text(&c.topic),
                whole(c.lag),
                rate(c.lag_change_per_s),
                caught_up,
                whole(c.subscriptions),
                whole(c.partitions),
            ],
            mood: if is_behind { Mood::Warning } else { Mood::Fine },
        }
    };
    figures.consumers.iter().map(row).collect()
}

fn shards(figures: &Figures) -> Vec<Row> {
    let row = |s: &crate::commands::top::figures::ShardFigures| {
        let [events_in, bytes_in, events_out] = in_and_out(&s.rates);
        Row {
            cells: vec![
                whole(s.shard),
                events_in,
                bytes_in,
                events_out,
                latency(s.rates.produce.p99_us),
                latency(s.rates.commit.p99_us),
                rate(s.requests_per_s),
                rate(s.errors_per_s),
                whole(s.connections),
                whole(s.rings),
                whole(s.partitions),
                bytes(s.unanswered_bytes),
                bytes(s.outbox_bytes),
                rate(s.memory_reads_per_s),
                rate(s.device_reads_per_s),
            ],
            mood: if s.errors_per_s > 0.0 {
                Mood::Warning
            } else {
                Mood::Fine
            },
        }
    };
    figures.shards.iter().map(row).collect()
}

fn problems(figures: &Figures) -> Vec<Row> {
    let row = |problem: &mofka_net::control::Problem| Row {
        cells: vec![
            text(&problem.severity),
            text(&problem.subject),
            text(&problem.message),
        ],
        mood: match problem.severity.as_str() {
            "critical" => Mood::Bad,
            _ => Mood::Warning,
        },
    };
    figures.problems.iter().map(row).collect()
}

impl Sheet {
    /// What a view shows.
    pub(crate) fn of(view: View, figures: &Figures, sorting: Sorting) -> Self {
        let (columns, rows, left_out) = match view {
            View::Topics => (TOPICS, topics(figures), figures.topics_left_out),
            View::Partitions => (PARTITIONS, partitions(figures), figures.partitions_left_out),
            View::Consumers => (CONSUMERS, consumers(figures), figures.consumers_left_out),
            View::Shards => (SHARDS, shards(figures), 0),
            View::Problems => (PROBLEMS, problems(figures), figures.problems_left_out),
        };
        let mut sheet = Self {
            columns,
            rows,
            left_out,
        };
        sheet.sort(sorting);
        sheet
    }

    /// What is not well comes first, whatever the rest is sorted by: numbers from the largest, words from the first.
    fn sort(&mut self, sorting: Sorting) {
        let order = |a: &Row, b: &Row| {
            let keys = (a.cells.get(sorting.column), b.cells.get(sorting.column));
            let order = match keys {
                (Some(a), Some(b)) => match (&a.key, &b.key) {
                    (Key::Number(a), Key::Number(b)) => b.total_cmp(a),
                    (Key::Text(a), Key::Text(b)) => a.cmp(b),
                    _ => Ordering::Equal,
                },
                _ => Ordering::Equal,
            };
            if sorting.reversed { order.reverse() } else { order }
        };
        let is_fine = |row: &Row| row.mood != Mood::Bad;
        // Stable: what is alike stays in the node's order.
        self.rows
            .sort_by(|a, b| is_fine(a).cmp(&is_fine(b)).then_with(|| order(a, b)));
    }

    /// Whether a column is of numbers, which stand to the right.
    pub(crate) fn is_number(&self, column: usize) -> bool {
        let first = self.rows.first().and_then(|row| row.cells.get(column));
        first.is_some_and(|cell| matches!(cell.key, Key::Number(_)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::figures::tests::{report, unwell};
    use super::*;

    fn figures() -> Figures {
        Figures::new(&unwell(12_000, 4), Some(&report(10_000, 4)))
    }

    fn first_cells(sheet: &Sheet) -> Vec<&str> {
        sheet.rows.iter().map(|row| row.cells[0].text.as_str()).collect()
    }

    #[test]
    fn every_view_has_a_cell_for_each_head() {
        for view in VIEWS {
            let sheet = Sheet::of(view, &figures(), first_sorting(view));
            assert!(!sheet.rows.is_empty(), "{view:?}");
            assert!(
                sheet
                    .rows
                    .iter()
                    .all(|row| row.cells.len() == sheet.columns.len()),
                "{view:?}"
            );
        }
    }

    #[test]
    fn what_is_unwell_is_first_however_it_is_sorted() {
        let by = |column, reversed| Sheet::of(View::Topics, &figures(), Sorting { column, reversed });
        assert_eq!(
            first_cells(&by(0, false)),
            ["topic-1", "topic-0", "topic-2", "topic-3"]
        );
        assert_eq!(
            first_cells(&by(0, true)),
            ["topic-1", "topic-3", "topic-2", "topic-0"]
        );
        assert_eq!(
            first_cells(&by(1, false)),
            ["topic-1", "topic-0", "topic-2", "topic-3"]
        );
        assert_eq!(
            first_cells(&by(1, true)),
            ["topic-1", "topic-2", "topic-3", "topic-0"]
        );
        let partitions = Sheet::of(View::Partitions, &figures(), Sorting::default());
        assert_eq!(
            (partitions.rows[0].mood, partitions.rows[0].cells[2].text.as_str()),
            (Mood::Bad, "full")
        );
    }

    #[test]
    fn numbers_are_for_people() {
        let counts = [0.0, 9.0, 99_999.0, 123_456.0, 1.25e9].map(count_text);
        assert_eq!(counts, ["0", "9", "99999", "123.5k", "1.2G"]);
        assert_eq!(
            [0.0, 0.24, -3.25, -250.0, 12.6].map(rate_text),
            ["0", "0.2", "-3.2", "-250", "13"]
        );
        let durations = [None, Some(7), Some(1500), Some(2_500_000), Some(10_000_000)].map(duration_text);
        assert_eq!(durations, ["-", "7 us", "1.5 ms", "2.5 s", ">10 s"]);
        assert_eq!(
            [5, 65, 3700, 90_000].map(span_text),
            ["5s", "1m 5s", "1h 1m", "1d 1h"]
        );
    }

    #[test]
    fn names_cannot_write_on_the_terminal() {
        assert_eq!(printable("a\u{1b}[31mb\n"), "a\u{fffd}[31mb\u{fffd}");
    }
}
