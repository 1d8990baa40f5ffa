//! The commands of the original's server: `bedrock`, `bedrock-shutdown`, `bedrock-query`, with its arguments.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::{Args, Parser};

use crate::commands;
use crate::daemon;
use crate::failure::{EXIT_CODES, Failure, Outcome};
use crate::output::Output;

/// The names beside `mofka-ctl` that this program answers to.
pub(crate) const NAMES: [&str; 5] = [
    "mofkactl",
    "bedrock",
    "bedrock-shutdown",
    "bedrock-query",
    "diaspora-ctl",
];

/// Start a Mofka node in the foreground (mofkad), with the arguments of Bedrock.
#[derive(Debug, Parser)]
#[command(name = "bedrock", version, after_help = EXIT_CODES)]
pub(crate) struct Bedrock {
    /// na+sm (this node only), tcp, ofi+tcp, auto (na+sm and tcp), or an address to listen on.
    protocol: String,
    /// Configuration: Bedrock JSON, or Mofka's own.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// trace, debug, info, warning, error, critical or off.
    #[arg(short, long, value_name = "LEVEL")]
    verbose: Option<String>,
    #[command(flatten)]
    missing: MissingArgs,
}

/// Arguments of Bedrock that are understood only to say that they do nothing here.
#[derive(Debug, Args)]
struct MissingArgs {
    #[arg(short, long, hide = true, value_name = "FILE")]
    output_config: Option<PathBuf>,
    #[arg(long, hide = true)]
    stdin: bool,
    #[arg(short, long, hide = true)]
    jx9: bool,
    #[arg(long, hide = true, value_name = "VALUES")]
    jx9_context: Option<String>,
    #[arg(short, long, hide = true)]
    toml: bool,
}

impl MissingArgs {
    fn check(&self) -> Outcome {
        let given = [
            (self.output_config.is_some(), "--output-config"),
            (self.stdin, "--stdin"),
            (self.jx9 || self.jx9_context.is_some(), "--jx9"),
            (self.toml, "--toml"),
        ];
        match given.iter().find(|(given, _)| *given) {
            Some((_, name)) => Err(Failure::usage(format!(
                "{name} is not available: give a JSON file with -c"
            ))),
            None => Ok(()),
        }
    }
}

/// Stop a Mofka node, with the arguments of Bedrock.
#[derive(Debug, Parser)]
#[command(name = "bedrock-shutdown", version, after_help = EXIT_CODES)]
pub(crate) struct BedrockShutdown {
    #[command(flatten)]
    target: Target,
}

/// Print the state of a Mofka node as JSON, with the arguments of Bedrock.
#[derive(Debug, Parser)]
#[command(name = "bedrock-query", version, after_help = EXIT_CODES)]
pub(crate) struct BedrockQuery {
    #[command(flatten)]
    target: Target,
    /// Of the original; has no meaning here.
    #[arg(short = 'j', long, hide = true)]
    jx9: Option<String>,
}

/// Which node. The protocol is read for the sake of scripts: the group file or the address has it too.
#[derive(Debug, Args)]
struct Target {
    /// na+sm, tcp, ofi+tcp, auto.
    #[arg(value_name = "PROTOCOL")]
    _protocol: String,
    /// Group file that the node wrote.
    #[arg(
        short = 'f',
        long = "flock-file",
        value_name = "FILE",
        required_unless_present = "address"
    )]
    file: Option<PathBuf>,
    /// Address of the node.
    #[arg(short, long, value_name = "ADDRESS", conflicts_with = "file")]
    address: Option<String>,
    /// Of the original; has no meaning here.
    #[arg(short, long, hide = true, num_args = 0..=1)]
    verbose: Option<Option<String>>,
    /// Of the original; has no meaning here.
    #[arg(short, long, hide = true, num_args = 0..=1)]
    provider_or_pretty: Option<Option<String>>,
    /// Of the original; has no meaning here.
    #[arg(short = 'i', long, hide = true)]
    provider_id: Option<u32>,
}

impl Bedrock {
    /// Becomes `mofkad`. Returns only when that fails.
    pub(crate) fn run(self) -> Outcome {
        self.missing.check()?;
        let mut arguments: Vec<OsString> = vec!["--protocol".into(), self.protocol.into()];
        if let Some(config) = self.config {
            arguments.extend(["-c".into(), config.into()]);
        }
        if let Some(level) = &self.verbose {
            arguments.extend(["--log-level".into(), log_level(level)?.into()]);
        }
        let program = daemon::find()?;
        let error = Command::new(&program).args(arguments).exec();
        Err(Failure::failed(format!(
            "cannot run {}: {error}",
            program.display()
        )))
    }
}

fn log_level(level: &str) -> Outcome<&'static str> {
    match level {
        "trace" => Ok("trace"),
        "debug" => Ok("debug"),
        "info" => Ok("info"),
        "warn" | "warning" => Ok("warn"),
        "error" | "err" | "critical" => Ok("error"),
        "off" => Ok("off"),
        other => Err(Failure::usage(format!(
            "log level {other:?} is none of trace, debug, info, warning, error, critical, off"
        ))),
    }
}

impl BedrockShutdown {
    pub(crate) fn run(self) -> Outcome {
        let timeout_s = 60;
        self.target
            .with(|node| commands::shutdown::run(node, timeout_s, Output::new(false)))
    }
}

impl BedrockQuery {
    pub(crate) fn run(self) -> Outcome {
        if self.jx9.is_some() {
            return Err(Failure::usage(
                "--jx9 is not available: the whole state is printed as JSON",
            ));
        }
        self.target
            .with(|node| commands::status::run(node, Output::new(true)))
    }
}

impl Target {
    fn with(&self, run: impl FnOnce(&crate::node::Place) -> Outcome) -> Outcome {
        match (&self.file, &self.address) {
            (_, Some(address)) => run(&crate::node::Place::Address(address.clone())),
            (Some(file), None) => run(&crate::node::Place::GroupFile(file.clone())),
            (None, None) => Err(Failure::usage(
                "give the node's group file with -f, or its address with -a",
            )),
        }
    }
}

/// What a program called `argument_0` is asked to be.
pub(crate) fn basename(argument_0: &str) -> &str {
    Path::new(argument_0)
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or("mofka-ctl")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_walk_through_parses() {
        let bedrock =
            Bedrock::try_parse_from(["bedrock", "na+sm", "-c", "config.json", "-v", "trace"]).unwrap();
        assert_eq!(
            (bedrock.protocol.as_str(), bedrock.config.as_deref()),
            ("na+sm", Some(Path::new("config.json")))
        );
        assert!(BedrockShutdown::try_parse_from(["bedrock-shutdown", "na+sm", "-f", "mofka.json"]).is_ok());
        assert!(BedrockQuery::try_parse_from(["bedrock-query", "na+sm", "-f", "mofka.json", "-p"]).is_ok());
        assert!(BedrockShutdown::try_parse_from(["bedrock-shutdown", "na+sm"]).is_err());
        assert!(Bedrock::try_parse_from(["bedrock", "na+sm", "--confg", "x"]).is_err());
    }

    #[test]
    fn what_is_missing_is_said() {
        let bedrock = Bedrock::try_parse_from(["bedrock", "na+sm", "-t", "-c", "x"]).unwrap();
        assert!(bedrock.run().unwrap_err().to_string().contains("--toml"));
        assert_eq!(log_level("warning").unwrap(), "warn");
        assert!(log_level("loud").is_err());
    }

    #[test]
    fn names_come_from_paths() {
        assert_eq!(basename("/x/y/mofkactl"), "mofkactl");
        assert_eq!(basename("bedrock"), "bedrock");
    }
}
