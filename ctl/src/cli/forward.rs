//! The arguments of `forward`, and the level of its log.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use tracing::level_filters::LevelFilter;

/// Copies events from topics to topics as they come, each once, until it is stopped.
///
/// The file has the sections `drivers` (where nodes are) and `forward` (what goes where), as YAML (.yaml, .yml), TOML (.toml)
/// or JSON (.json). It goes on exactly where it ended, also after it or a node was killed. Logs to standard output;
/// SIGINT and SIGTERM end it with what is on its way.
#[derive(Debug, Args)]
#[command(after_help = "A file as an example:\n\n  \
    drivers:\n    \
      near: {type: mofka, options: {group_file: /run/near/mofka.json}}\n    \
      far: {type: mofka, options: {group_file: /shared/far/mofka.json}}\n  \
    forward:\n    \
      - {from: near/frames, to: far/frames}\n    \
      - {from: near/log, to: far/alarms, data: none, filter: {level: [FATAL]}, partitions: any}\n\n\
    What a policy may say beside \"from\" and \"to\":\n  \
      data: all, none            whether the events' data goes along [default: all]\n  \
      filter: an event pattern   only events whose metadata matches go [default: all]\n  \
      partitions: same, any      to the same index, or to the index modulo how many there are\n                             \
                                 [default: same]\n  \
      on_refusal: stop, skip     when the destination will never take an event [default: stop]")]
pub(crate) struct ForwardArgs {
    /// Drivers and policies.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    #[command(flatten)]
    pub(crate) logging: LoggingArgs,
}

#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct LoggingArgs {
    /// What is logged.
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub(crate) logging: LogLevel,
}

/// The original's levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogLevel {
    Trace,
    Debug,
    Info,
    #[value(alias = "warning")]
    Warn,
    Error,
    Critical,
    Off,
}

impl LogLevel {
    pub(crate) fn filter(self) -> LevelFilter {
        match self {
            Self::Trace => LevelFilter::TRACE,
            Self::Debug => LevelFilter::DEBUG,
            Self::Info => LevelFilter::INFO,
            Self::Warn => LevelFilter::WARN,
            // What is critical ends the program, which says so in any case.
            Self::Error | Self::Critical => LevelFilter::ERROR,
            Self::Off => LevelFilter::OFF,
        }
    }
}
