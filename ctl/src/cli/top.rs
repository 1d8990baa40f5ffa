//! The command line of `top`.

use std::time::Duration;

use clap::{Args, ValueEnum};

const KEYS: &str = "\
Keys: Tab and 1 to 5 change the view, arrows, PageUp, PageDown, Home, End scroll, s sorts by the next column, r the other way
round, p pauses, h helps, q ends.";

/// What is shown below the summary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum View {
    /// Topics, with rates, latencies and the largest lag.
    Topics,
    /// Partitions, with their state and what waits in them.
    Partitions,
    /// Consumers, those that lag most first.
    Consumers,
    /// Shards: a core's share of the work.
    Shards,
    /// What is wrong, and what to do.
    Problems,
}

/// Reads the time between two looks. The node counts four times a second at most.
fn interval(text: &str) -> Result<Duration, String> {
    let ms = match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds)
            .map_err(|_| format!("\"{text}\" is no time"))?
            .as_millis(),
        Err(_) => u128::from(crate::measure::milliseconds(text)?),
    };
    match u64::try_from(ms) {
        Ok(ms @ 250..=3_600_000) => Ok(Duration::from_millis(ms)),
        _ => Err(format!("\"{text}\" is not between 250ms and 1h")),
    }
}

#[derive(Debug, Args)]
#[command(after_help = KEYS)]
pub(crate) struct TopArgs {
    /// Time between two looks at the node, over which rates are: seconds, or with a unit, as in 500ms.
    #[arg(short, long, value_name = "TIME", default_value = "1", value_parser = interval)]
    pub(crate) interval: Duration,
    /// Print one frame as text, of all views, and end: for scripts, and where there is no terminal. With --json: one document;
    /// --json without this prints one a line, until it is stopped.
    #[arg(long)]
    pub(crate) once: bool,
    /// View to begin with.
    #[arg(long, value_name = "VIEW", default_value = "topics")]
    pub(crate) view: View,
    /// Node to watch: its place in the group file.
    #[arg(short, long, default_value_t = 0)]
    pub(crate) rank: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_seconds_or_has_a_unit() {
        assert_eq!(interval("0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(interval("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(interval("1m"), Ok(Duration::from_secs(60)));
        for wrong in ["0", "0.1", "-1", "nan", "2h", "soon", ""] {
            assert!(interval(wrong).is_err(), "{wrong}");
        }
    }
}
