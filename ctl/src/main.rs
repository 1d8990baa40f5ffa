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
mod original_config;
mod original_names;
mod output;
mod retention;
mod stop;
mod suggest;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches};

use crate::cli::Cli;
use crate::failure::{Failure, Outcome};
use crate::original_config::ConfigGenerate;
use crate::original_names::{Bedrock, BedrockQuery, BedrockShutdown, basename};

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
        "mofkactl"
            if arguments
                .get(1..3)
                .is_some_and(|words| words == ["config", "generate"]) =>
        {
            let arguments = [&arguments[..1], &arguments[3..]].concat();
            original::<ConfigGenerate>(arguments, "mofkactl config generate").and_then(ConfigGenerate::run)
        }
        "mofkactl" => administrate(arguments, "mofkactl"),
        _ => administrate(arguments, "mofka-ctl"),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{}: {failure}", failure.label());
            failure.exit_code()
        }
    }
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
