//! How far a benchmark is: a bar on standard error, when that is a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::output::on_terminal;

/// How far it is.
pub(crate) struct Progress {
    bar: ProgressBar,
    goal: Goal,
}

/// What it goes on to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    Events(u64),
    Time(Duration),
}

impl Progress {
    pub(crate) fn new(what: &'static str, goal: Goal) -> Self {
        let length = match goal {
            Goal::Events(events) => events,
            Goal::Time(time) => u64::try_from(time.as_millis()).unwrap_or(u64::MAX),
        };
        let bar = match on_terminal() {
            true => ProgressBar::new(length),
            false => ProgressBar::hidden(),
        };
        let style = ProgressStyle::with_template("{prefix:9} [{bar:40}] {percent:>3}% {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style.progress_chars("=> "));
        bar.set_prefix(what);
        Self { bar, goal }
    }

    /// So many events after this time.
    pub(crate) fn at(&self, events: u64, elapsed: Duration) {
        let rate = events as f64 / elapsed.as_secs_f64().max(1e-3);
        self.bar.set_message(format!("{events} events, {rate:.0}/s"));
        self.bar.set_position(match self.goal {
            Goal::Events(_) => events,
            Goal::Time(_) => u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
        });
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
