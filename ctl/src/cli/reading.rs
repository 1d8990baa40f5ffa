//! The command line of `consume` and `tail`.

use std::ops::Range;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;

use crate::format::{Format, unescape};

/// Which of an event's data is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DataWanted {
    None,
    All,
    /// Ranges of bytes, ascending, without overlap; ends are exclusive, and may be beyond the data's.
    Ranges(Vec<Range<u64>>),
}

impl FromStr for DataWanted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self::None),
            "all" => Ok(Self::All),
            ranges => ranges
                .split(',')
                .map(range)
                .collect::<Result<Vec<_>, _>>()
                .and_then(|ranges| {
                    let is_ascending = ranges.is_sorted_by(|a, b| a.end <= b.start);
                    if !is_ascending {
                        return Err("ranges must follow each other, without overlap".to_owned());
                    }
                    Ok(Self::Ranges(ranges))
                }),
        }
    }
}

/// `FROM..TO`, `FROM..` or `..TO`.
fn range(text: &str) -> Result<Range<u64>, String> {
    let wrong =
        || format!("{text:?} is neither none, all, nor ranges of bytes such as 0..16, 100.. or 0..4,8..12");
    let (from, to) = text.split_once("..").ok_or_else(wrong)?;
    let number = |digits: &str, absent: u64| match digits {
        "" => Ok(absent),
        digits => digits.parse().map_err(|_| wrong()),
    };
    let range = number(from, 0)?..number(to, u64::MAX)?;
    if from.is_empty() && to.is_empty() || range.is_empty() {
        return Err(format!("{text:?} has no bytes: FROM must be less than TO"));
    }
    Ok(range)
}

/// Where to start reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum From {
    Cursor,
    First,
    Last,
    Id(u64),
    /// Unix time in microseconds.
    Time(u64),
}

/// Reads a time: Unix seconds, or seconds before now when it begins with a minus sign.
fn time(text: &str) -> Result<From, String> {
    let wrong = || "no time: give Unix seconds, or -SECONDS for so long ago".to_owned();
    let (is_ago, digits) = text
        .strip_prefix('-')
        .map_or((false, text), |digits| (true, digits));
    let seconds: f64 = digits.parse().map_err(|_| wrong())?;
    let given = Duration::try_from_secs_f64(seconds).map_err(|_| wrong())?;
    let at = if is_ago {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        now.saturating_sub(given)
    } else {
        given
    };
    u64::try_from(at.as_micros()).map(From::Time).map_err(|_| wrong())
}

impl FromStr for From {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "cursor" => Ok(Self::Cursor),
            "first" => Ok(Self::First),
            "last" => Ok(Self::Last),
            other => match other.strip_prefix('@') {
                Some(text) => time(text),
                None => other
                    .parse()
                    .map(Self::Id)
                    .map_err(|_| "neither cursor, first, last, an event id, nor @TIME".to_owned()),
            },
        }
    }
}

/// An event pattern, as JSON text.
fn pattern(text: &str) -> Result<serde_json::Value, String> {
    let value = serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))?;
    mofka_client::Pattern::parse(&value).map_err(|error| error.to_string())?;
    Ok(value)
}

#[derive(Debug, Args)]
pub(crate) struct ConsumeArgs {
    /// Name of the topic.
    pub(crate) topic: String,
    /// Name of the consumer, under which the node keeps its cursor. Consumers of one name share the partitions.
    #[arg(short, long, value_name = "NAME", default_value = "mofka-ctl")]
    pub(crate) consumer: String,
    /// cursor (after the last acknowledged event), first, last, an event id, or @TIME.
    #[arg(long, value_name = "PLACE", default_value = "cursor")]
    pub(crate) from: From,
    /// Begin with what was accepted at this time or later: Unix seconds, or -SECONDS for so long ago.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = time, conflicts_with = "from")]
    pub(crate) from_time: Option<From>,
    /// Acknowledge after every N events of a partition, and at the end; 0 never.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) ack_every: u64,
    #[command(flatten)]
    pub(crate) reading: ReadingArgs,
}

#[derive(Debug, Args)]
pub(crate) struct TailArgs {
    /// Name of the topic.
    pub(crate) topic: String,
    /// first, last, an event id, or @TIME.
    #[arg(long, value_name = "PLACE", default_value = "last")]
    pub(crate) from: From,
    /// Begin with what was accepted at this time or later: Unix seconds, or -SECONDS for so long ago.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = time, conflicts_with = "from")]
    pub(crate) from_time: Option<From>,
    #[command(flatten)]
    pub(crate) reading: ReadingArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ReadingArgs {
    /// Stop after N events.
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<u64>,
    /// Stop when no event came for so many seconds.
    #[arg(long, value_name = "SECONDS")]
    pub(crate) timeout: Option<f64>,
    /// Which data to fetch: none, all, or ranges of bytes, their ends not included: 0..16, 100.., 0..4,8..12.
    #[arg(long, value_name = "WHICH", default_value = "all")]
    pub(crate) data: DataWanted,
    /// How to print an event: json (a line), raw (its data as it is), hex (a dump), or a template such as
    /// '{topic}/{partition}/{id} {time} {metadata.level} {data:hex}'. Fields are topic, partition, id, time, timestamp_us,
    /// metadata (with .KEY for what is inside), data, data_bytes; :json, :hex, :base64 say how metadata and data are written; {{
    /// and }} are braces, \n, \t and \0 what they are elsewhere.
    #[arg(long, value_name = "FORMAT", default_value = "json")]
    pub(crate) format: Format,
    /// What follows each event that is printed raw or by a template, with \n, \t and \0; nothing: --separator ''.
    #[arg(long, value_name = "TEXT", default_value = "\\n", value_parser = unescape)]
    pub(crate) separator: String,
    /// Write each event's data, of any size, to a file PARTITION-ID.data in this directory, in pieces, instead of printing it.
    #[arg(long, value_name = "DIR", conflicts_with = "data")]
    pub(crate) data_to: Option<PathBuf>,
    /// Only events whose metadata matches this EventBridge pattern, as in '{"level": ["FATAL"]}'. The node looks; the
    /// cursor moves past what does not match.
    #[arg(long, value_name = "PATTERN", value_parser = pattern)]
    pub(crate) filter: Option<serde_json::Value>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_none_all_or_ranges() {
        let wanted = |text: &str| text.parse::<DataWanted>();
        assert_eq!(wanted("none"), Ok(DataWanted::None));
        assert_eq!(wanted("3..9,9..12"), Ok(DataWanted::Ranges(vec![3..9, 9..12])));
        assert_eq!(
            wanted("..4,8..9,10.."),
            Ok(DataWanted::Ranges(vec![0..4, 8..9, 10..u64::MAX]))
        );
        for wrong in [
            "",
            "..",
            "4",
            "4..4",
            "5..4",
            "a..b",
            "0..4,3..9",
            "0..4,",
            "-1..4",
        ] {
            assert!(wanted(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_place_is_a_word_an_id_or_a_time() {
        let place = |text: &str| text.parse::<From>();
        assert_eq!(place("first"), Ok(From::First));
        assert_eq!(place("17"), Ok(From::Id(17)));
        assert_eq!(place("@1700000000.5"), Ok(From::Time(1_700_000_000_500_000)));
        let (Ok(From::Time(now)), Ok(From::Time(ago))) = (time("-0"), time("-3600")) else {
            panic!("no times")
        };
        let hour = now.saturating_sub(ago);
        assert!((3_599_000_000..3_601_000_000).contains(&hour), "{hour}");
        for wrong in ["", "@", "@x", "@--3", "@inf", "@nan", "soon", "-4"] {
            assert!(place(wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(place("@-99999999999999"), Ok(From::Time(0)), "before all times");
    }
}
