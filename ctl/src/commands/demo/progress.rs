//! Progress of the demonstration: bars on a terminal, lines otherwise.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::on_terminal;

/// Everything the demonstration says while it works. Goes to standard error with `--json`, so that standard output holds
/// one JSON value and nothing else.
pub(crate) struct Stage {
    bars: Option<MultiProgress>,
    json: bool,
}

impl Stage {
    pub(crate) fn new(json: bool) -> Self {
        Self {
            bars: on_terminal().then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr())),
            json,
        }
    }

    /// Says one line, above the bars.
    pub(crate) fn say(&self, line: &str) {
        match &self.bars {
            Some(bars) => bars.suspend(|| self.print(line)),
            None => self.print(line),
        }
    }

    fn print(&self, line: &str) {
        if self.json {
            eprintln!("{line}");
        } else {
            println!("{line}");
        }
    }

    /// A counter that shows itself.
    pub(crate) fn counter(&self, what: &'static str, total: u64) -> Counter<'_> {
        let bar = self.bars.as_ref().map(|bars| {
            let bar = bars.add(ProgressBar::new(total));
            let style = ProgressStyle::with_template("  {msg:9} [{bar:40}] {pos}/{len} ({per_sec})");
            bar.set_style(
                style
                    .unwrap_or_else(|_| ProgressStyle::default_bar())
                    .progress_chars("=> "),
            );
            bar.set_message(what);
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Counter {
            stage: self,
            what,
            total,
            done: AtomicU64::new(0),
            bar,
        }
    }
}

/// Counts up to a total. Without a terminal, says so at each quarter.
pub(crate) struct Counter<'a> {
    stage: &'a Stage,
    what: &'static str,
    total: u64,
    done: AtomicU64,
    bar: Option<ProgressBar>,
}

impl Counter<'_> {
    pub(crate) fn add_one(&self) {
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        match &self.bar {
            Some(bar) => bar.set_position(done),
            None => {
                if quarter(done, self.total) > quarter(done - 1, self.total) {
                    self.stage
                        .say(&format!("  {}: {done} of {}", self.what, self.total));
                }
            }
        }
    }

    pub(crate) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }
}

impl Drop for Counter<'_> {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn quarter(done: u64, total: u64) -> u64 {
    (done * 4).checked_div(total).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_comes_at_each_quarter() {
        let said = (1..=2000)
            .filter(|done| quarter(*done, 2000) > quarter(done - 1, 2000))
            .collect::<Vec<_>>();
        assert_eq!(said, [500, 1000, 1500, 2000]);
        assert_eq!(quarter(1, 0), 0);
    }
}
