//! The log of commands that go on until they are stopped: lines on standard output, as those of the original, or as JSON.

use std::fmt;

use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::cli::LogLevel;
use crate::failure::{Failure, Outcome};
use crate::output::Output;

/// Begins to log.
pub(crate) fn init(level: LogLevel, output: Output) -> Outcome {
    let builder = tracing_subscriber::fmt()
        .with_max_level(level.filter())
        .with_ansi(false)
        .with_writer(std::io::stdout);
    let installed = if output.is_json() {
        builder.json().flatten_event(true).with_target(false).try_init()
    } else {
        builder.event_format(Lines).try_init()
    };
    installed.map_err(|error| Failure::failed(format!("cannot begin to log: {error}")))
}

/// `[2026-08-21 13:05:59.123] [info] text key=value`, in UTC.
struct Lines;

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let date = time.get(..10).unwrap_or_default();
        let of_day = time.get(11..23).unwrap_or_default();
        let level = event.metadata().level().as_str().to_ascii_lowercase();
        write!(writer, "[{date} {of_day}] [{level}] ")?;
        context.field_format().format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}
