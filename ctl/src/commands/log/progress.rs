//! A bar of bytes that are read or written, on a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::on_terminal;

/// A bar up to so many bytes; hidden without a terminal, and counts all the same.
pub(super) fn bar(what: &'static str, total_bytes: u64) -> ProgressBar {
    if !on_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(total_bytes), ProgressDrawTarget::stderr());
    // Of standard input nobody knows the length.
    let template = match total_bytes {
        0 => "  {msg} {spinner} {bytes}, {decimal_bytes_per_sec}",
        _ => "  {msg} [{bar:40}] {bytes} of {total_bytes}, {decimal_bytes_per_sec}, {eta} left",
    };
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.set_style(style.progress_chars("=> "));
    bar.set_message(what);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// Billions of bytes in a second.
pub(super) fn gb_per_s(bytes: u64, took: Duration) -> f64 {
    bytes as f64 / took.as_secs_f64().max(1e-9) / 1e9
}
