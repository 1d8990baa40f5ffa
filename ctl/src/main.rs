//! `mofka-ctl`: administration of Mofka. The same program answers to the names of the original's tools.
#![forbid(unsafe_code)]

mod base64;
mod cli;
mod commands;
mod daemon;
mod daemon_log;
mod diaspora_ctl;
mod document;
mod dotted;
mod event_line;
mod failure;
mod format;
mod interrupt;
mod measure;
mod node;
mod original_benchmark;
mod original_config;
mod original_names;
mod original_providers;
mod output;
mod retention;
mod stop;
mod suggest;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches};

use crate::cli::Cli;
use crate::failure::{Failure, Kind, Outcome};
use crate::original_benchmark::BenchmarkGenerate;
use crate::original_config::ConfigGenerate;
use crate::original_names::{Bedrock, BedrockQuery, BedrockShutdown, basename};
use crate::original_providers::ProviderAdd;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let called = arguments
        .first()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    if basename(&called) == "diaspora-ctl" {
        return diaspora_ctl::run(arguments);
    }
    let outcome = match basename(&called) {
        "bedrock" => original::<Bedrock>(arguments, "bedrock").and_then(Bedrock::run),
        "bedrock-shutdown" => {
            original::<BedrockShutdown>(arguments, "bedrock-shutdown").and_then(BedrockShutdown::run)
        }
        "bedrock-query" => original::<BedrockQuery>(arguments, "bedrock-query").and_then(BedrockQuery::run),
        "mofkactl" => mofkactl(arguments),
        _ => administrate(arguments, "mofka-ctl"),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if failure.kind() != Kind::ReaderGone {
                eprintln!("{}: {}", failure.label(), output::printable(&failure.to_string()));
            }
            failure.exit_code()
        }
    }
}

/// `mofkactl`: the commands that only the original has, or has otherwise, and all others.
fn mofkactl(arguments: Vec<OsString>) -> Outcome {
    let word = |at: usize| arguments.get(at).and_then(|word| word.to_str());
    let rest = || [&arguments[..1], arguments.get(3..).unwrap_or_default()].concat();
    match (word(1), word(2)) {
        (Some("config"), Some("generate")) => {
            original::<ConfigGenerate>(rest(), "mofkactl config generate").and_then(ConfigGenerate::run)
        }
        (Some("benchmark"), Some("generate")) => {
            let command = BenchmarkGenerate::command_line();
            let parsed = parse::<BenchmarkGenerate>(command, rest(), "mofkactl benchmark generate");
            parsed.and_then(BenchmarkGenerate::run)
        }
        (Some("metadata"), Some("add")) => add_provider(rest(), "metadata", "mofkactl metadata add"),
        (Some("data"), Some("add")) => add_provider(rest(), "data", "mofkactl data add"),
        _ => administrate(arguments, "mofkactl"),
    }
}

fn add_provider(arguments: Vec<OsString>, kind: &str, name: &'static str) -> Outcome {
    let (plain, dotted) = dotted::split(arguments)?;
    original::<ProviderAdd>(plain, name)?.run(kind, dotted)
}

fn administrate(arguments: Vec<OsString>, name: &'static str) -> Outcome {
    let (plain, dotted) = dotted::split(arguments)?;
    let cli = parse::<Cli>(Cli::with_examples(), plain, name)?;
    commands::run(cli, dotted)
}

fn original<P: CommandFactory + FromArgMatches>(arguments: Vec<OsString>, name: &'static str) -> Outcome<P> {
    parse(P::command(), arguments, name)
}

/// Parses, or prints what was asked for (help, version) and exits.
fn parse<P: FromArgMatches>(
    command: clap::Command,
    arguments: Vec<OsString>,
    name: &'static str,
) -> Outcome<P> {
    let parsed = command.name(name).bin_name(name).try_get_matches_from(arguments);
    parsed
        .and_then(|mut matches| P::from_arg_matches_mut(&mut matches))
        .map_err(|error| match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => error.exit(),
            ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => Failure::usage(format!(
                "a command is missing\n\n{}",
                error.render().to_string().trim_end()
            )),
            _ => {
                let text = error.render().to_string();
                Failure::usage(text.strip_prefix("error: ").unwrap_or(&text).trim_end())
            }
        })
}
