//! The daemon's log: what is logged, in which form, and how that changes while it runs.
//!
//! A process has one log, so this is the one thing of the engine that belongs to the process and not to a node.

use std::io::IsTerminal;
use std::sync::{Mutex, OnceLock, PoisonError};

use serde::{Deserialize, Serialize};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt, registry, reload};

use crate::nearest::nearest;

/// Levels, from none to all.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
/// Longest text that says what is logged.
const LEVEL_BYTES_MAX: usize = 1000;

/// The form of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// A JSON object.
    Json,
}

struct Control {
    level: Mutex<String>,
    handle: reload::Handle<EnvFilter, Registry>,
}

static CONTROL: OnceLock<Control> = OnceLock::new();

/// Starts the log, on standard error. `level`: see [`check_level`].
///
/// # Errors
/// When the level is not understood, or the process has a log already.
pub fn start(level: &str, format: LogFormat) -> Result<(), String> {
    let (filter, handle) = reload::Layer::new(check_level(level)?);
    let lines = fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let begun = match format {
        LogFormat::Text => registry().with(filter).with(lines.with_target(false)).try_init(),
        LogFormat::Json => registry()
            .with(filter)
            .with(lines.json().flatten_event(true))
            .try_init(),
    };
    begun.map_err(|error| format!("could not start the log: {error}"))?;
    let level = Mutex::new(level.to_owned());
    CONTROL
        .set(Control { level, handle })
        .map_err(|_| "the process has a log already".to_owned())
}

/// What is logged now; `None` in a process whose log was not started here.
pub fn level() -> Option<String> {
    let level = CONTROL.get()?.level.lock();
    Some(level.unwrap_or_else(PoisonError::into_inner).clone())
}

/// Logs something else from now on, and tells what was logged before.
///
/// # Errors
/// When the level is not understood, or the process has no log of ours.
pub fn set_level(level: &str) -> Result<String, String> {
    let filter = check_level(level)?;
    let Some(control) = CONTROL.get() else {
        return Err(
            "the log of this process was not started by Mofka: its level cannot be changed".to_owned(),
        );
    };
    let mut known = control.level.lock().unwrap_or_else(PoisonError::into_inner);
    let reloaded = control.handle.reload(filter);
    reloaded.map_err(|error| format!("the log level could not be changed: {error}"))?;
    Ok(std::mem::replace(&mut *known, level.to_owned()))
}

/// Reads what is to be logged: a level, or a list such as `info,mofka_engine::room=debug`.
///
/// # Errors
/// What is not understood.
pub fn check_level(text: &str) -> Result<EnvFilter, String> {
    if text.len() > LEVEL_BYTES_MAX {
        return Err(format!(
            "a log level of {} bytes is longer than {LEVEL_BYTES_MAX}",
            text.len()
        ));
    }
    for directive in text.split(',').map(str::trim) {
        // A word alone would be taken for the name of a module, of which everything is logged, and of others nothing.
        let is_level = LEVELS.iter().any(|level| directive.eq_ignore_ascii_case(level));
        if !is_level && !directive.contains('=') {
            let best = nearest(&directive.to_ascii_lowercase(), LEVELS);
            let hint = best.map(|level| format!("; did you mean \"{level}\"?"));
            return Err(format!(
                "log level \"{directive}\" is none of {}, nor MODULE=LEVEL{}",
                LEVELS.join(", "),
                hint.unwrap_or_default()
            ));
        }
    }
    EnvFilter::try_new(text).map_err(|error| format!("log level \"{text}\" is not understood: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_lists_are_understood() {
        for good in [
            "info",
            "WARN",
            "off",
            "info,mofka_engine=debug",
            "mofka_engine::room=trace, warn",
        ] {
            assert!(check_level(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn what_would_silence_the_log_by_mistake_is_refused() {
        let error = check_level("inof").unwrap_err();
        assert!(error.contains("did you mean \"info\"?"), "{error}");
        assert!(check_level("").is_err());
        assert!(check_level("info,,warn").is_err());
        assert!(check_level("mofka_engine=loud").is_err());
        assert!(check_level(&"info,".repeat(1000)).unwrap_err().contains("longer"));
    }
}
