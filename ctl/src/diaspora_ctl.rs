//! `diaspora-ctl`: the original's tool by its names, options and exit codes: 0, or 1 for whatever went wrong.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand};
use mofka_client::{Driver, DriverOptions, Durability, PartitionKind, Retention, TopicOptions};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::cli::{ForwardArgs, LogLevel};
use crate::commands::{fifo, forward};
use crate::dotted::{self, Dotted};
use crate::failure::{Failure, Kind, Outcome};
use crate::output::{Output, line};
use crate::stop::Stop;
use crate::{daemon_log, document, node};

/// Bytes of a file with options.
const OPTIONS_BYTES_MAX: u64 = 1 << 20;

/// Topics, pipes and copies of Diaspora streams, with the options of the original.
///
/// Options with dots are parts of documents, over what their files say: --driver.group_file mofka.json, --topic.num_partitions 4,
/// --validator.x, --serializer.x, --partition-selector.x; true and false are booleans, a,b is a list.
#[derive(Debug, Parser)]
#[command(name = "diaspora-ctl", bin_name = "diaspora-ctl", version)]
#[command(
    after_help = "Exit codes: 0 done; 1 anything else.\n\nExample: diaspora-ctl topic create --driver mofka --driver.group_file \
                        mofka.json --name frames --topic.num_partitions 4"
)]
struct DiasporaCtl {
    #[command(subcommand)]
    command: DiasporaCommand,
}

#[derive(Debug, Subcommand)]
enum DiasporaCommand {
    /// Create and list topics.
    #[command(subcommand)]
    Topic(TopicAction),
    /// Connect named pipes with topics.
    Fifo(FifoAction),
    /// Copy events from topics to topics.
    Forward(ForwardArgs),
}

#[derive(Debug, Subcommand)]
enum TopicAction {
    /// Create a topic.
    Create(CreateAction),
    /// List the topics, one a line.
    List(ListAction),
}

#[derive(Debug, Args)]
struct DriverArgs {
    /// The driver: mofka.
    #[arg(long, value_name = "NAME")]
    driver: String,
    /// Its options: a file with JSON, YAML or TOML.
    #[arg(long, value_name = "FILE")]
    driver_config: Option<PathBuf>,
    /// What is logged.
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    logging: LogLevel,
}

#[derive(Debug, Args)]
struct CreateAction {
    #[command(flatten)]
    driver: DriverArgs,
    /// Name of the topic.
    #[arg(long, value_name = "NAME")]
    name: String,
    /// Options of the topic: a file with JSON, YAML or TOML.
    #[arg(long, value_name = "FILE")]
    topic_config: Option<PathBuf>,
    /// Validator of events.
    #[arg(long, value_name = "NAME", default_value = "default")]
    validator: String,
    /// Serializer of metadata.
    #[arg(long, value_name = "NAME", default_value = "default")]
    serializer: String,
    /// Selector of each event's partition.
    #[arg(long, value_name = "NAME", default_value = "default")]
    partition_selector: String,
}

#[derive(Debug, Args)]
struct ListAction {
    #[command(flatten)]
    driver: DriverArgs,
    /// With what is known of each.
    #[arg(short, long)]
    verbose: bool,
}

#[derive(Debug, Args)]
struct FifoAction {
    #[command(flatten)]
    driver: DriverArgs,
    /// The FIFO that takes commands.
    #[arg(long, value_name = "PATH")]
    control_file: PathBuf,
}

/// Runs what the command line asks for.
pub(crate) fn run(arguments: Vec<OsString>) -> ExitCode {
    if arguments.len() < 2 {
        return said(&DiasporaCtl::command().render_help().to_string(), 1);
    }
    match try_run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Stopped::Help(text)) => said(&text, 0),
        Err(Stopped::Usage(text)) => said(&text, 1),
        Err(Stopped::Failed(failure)) if failure.kind() == Kind::ReaderGone => failure.exit_code(),
        Err(Stopped::Failed(failure)) => {
            let label = match failure.kind() {
                Kind::Usage => "Argument error",
                _ => failure.label(),
            };
            said(&format!("{label}: {failure}\n"), 1)
        }
    }
}

/// Why it ends.
enum Stopped {
    Help(String),
    Usage(String),
    Failed(Failure),
}

impl From<Failure> for Stopped {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

fn said(text: &str, code: u8) -> ExitCode {
    // As the original's: all of it goes to standard output. Nobody may be there to read it.
    line(text.trim_end()).ok();
    ExitCode::from(code)
}

fn try_run(arguments: Vec<OsString>) -> Result<(), Stopped> {
    let (plain, dotted) = dotted::split(arguments)?;
    let parsed = DiasporaCtl::try_parse_from(plain).map_err(|error| {
        let text = error.render().to_string();
        match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Stopped::Help(text),
            ErrorKind::InvalidSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
                Stopped::Usage(format!("{text}\n{}", DiasporaCtl::command().render_help()))
            }
            _ => Stopped::Usage(text.replacen("error: ", "Argument error: ", 1)),
        }
    })?;
    Ok(perform(parsed.command, dotted)?)
}

fn perform(command: DiasporaCommand, mut dotted: Dotted) -> Outcome {
    let output = Output::new(false);
    match command {
        DiasporaCommand::Topic(TopicAction::Create(args)) => {
            let options = driver_options(&args.driver, &mut dotted)?;
            let request = topic_options(&args, &mut dotted)?;
            dotted.expect_none_left()?;
            daemon_log::init(args.driver.logging, output)?;
            connect(options)?.create_topic(request).map_err(node::failure)?;
            tracing::info!("Topic '{}' created successfully", args.name);
            Ok(())
        }
        DiasporaCommand::Topic(TopicAction::List(args)) => {
            let options = driver_options(&args.driver, &mut dotted)?;
            dotted.expect_none_left()?;
            let mut lines = Vec::new();
            for topic in connect(options)?.list_topics().map_err(node::failure)? {
                lines.push(match args.verbose {
                    true => format!("{} {}", topic.name, node::to_json(&topic)?),
                    false => topic.name,
                });
            }
            line(&lines.join("\n"))
        }
        DiasporaCommand::Fifo(args) => {
            let options = driver_options(&args.driver, &mut dotted)?;
            dotted.expect_none_left()?;
            let stop = Stop::on_signals()?;
            daemon_log::init(args.driver.logging, output)?;
            let driver = connect(DriverOptions {
                reconnect_timeout: fifo::RECONNECT_TIMEOUT,
                ..options
            })?;
            fifo::serve(&args.control_file, driver, stop)
        }
        DiasporaCommand::Forward(args) => {
            dotted.expect_none_left()?;
            forward::run(&args, output)
        }
    }
}

fn connect(options: DriverOptions) -> Outcome<Driver> {
    let client_name = format!("diaspora-ctl {}", std::process::id());
    Driver::connect(DriverOptions {
        client_name,
        ..options
    })
    .map_err(node::failure)
}

fn driver_options(args: &DriverArgs, dotted: &mut Dotted) -> Outcome<DriverOptions> {
    if args.driver != "mofka" {
        return Err(Failure::usage(format!(
            "there is no driver \"{}\" here for arg --driver: there is \"mofka\"",
            args.driver
        )));
    }
    let options = merged(args.driver_config.as_deref(), dotted.take_with_lists("driver")?)?;
    match options.get("group_file") {
        Some(Value::String(path)) => Ok(DriverOptions::group_file(path)),
        Some(other) => Err(Failure::usage(format!(
            "\"group_file\" has to be a path, and is {other}"
        ))),
        None => Err(Failure::usage(
            "\"group_file\" key not found in options: give --driver.group_file, or --driver-config",
        )),
    }
}

/// What the topic's options may say; see `docs/DIASPORA.md`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
struct TopicDocument {
    num_partitions: Option<u32>,
    config: PartitionsDocument,
    durability: Option<Durability>,
    retention: Option<Retention>,
    producers_expected: u32,
    /// Means nothing here.
    #[serde(rename = "dependencies")]
    _dependencies: Option<Map<String, Value>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct PartitionsDocument {
    #[serde(rename = "type")]
    kind: Option<String>,
    /// Paths, sizes and caches of files: the node's own matter.
    #[serde(rename = "partition")]
    _partition: Option<Map<String, Value>>,
}

fn topic_options(args: &CreateAction, dotted: &mut Dotted) -> Outcome<TopicOptions> {
    let document = merged(args.topic_config.as_deref(), dotted.take_with_lists("topic")?)?;
    let options: TopicDocument = typed("options of the topic", document)?;
    let mut component = |name: &str, prefix: &str| -> Outcome<Option<Value>> {
        let mut document = dotted.take_with_lists(prefix)?;
        document.insert("type".to_owned(), name.into());
        Ok(Some(Value::Object(document)))
    };
    Ok(TopicOptions {
        validator: component(&args.validator, "validator")?,
        serializer: component(&args.serializer, "serializer")?,
        partition_selector: component(&args.partition_selector, "partition-selector")?,
        durability: options.durability,
        retention: options.retention,
        producers_expected: options.producers_expected,
        // As the driver of the Diaspora API: in memory, unless something else is said.
        partition_kind: match options.config.kind.as_deref() {
            None | Some("memory") => PartitionKind::Memory,
            Some("default" | "legacy") => PartitionKind::Default,
            Some(other) => {
                return Err(Failure::usage(format!(
                    "there is no partition type \"{other}\": there are \"memory\", \"default\" and \"legacy\""
                )));
            }
        },
        ..TopicOptions::new(&args.name).partitions(options.num_partitions.unwrap_or(0))
    })
}

fn typed<T: DeserializeOwned>(what: &str, document: Map<String, Value>) -> Outcome<T> {
    serde_json::from_value(Value::Object(document))
        .map_err(|error| Failure::usage(format!("{what}: {error}")))
}

/// What the file says, and over it what the command line says (RFC 7386).
fn merged(file: Option<&Path>, given: Map<String, Value>) -> Outcome<Map<String, Value>> {
    let mut base = match file {
        None => Value::Object(Map::new()),
        Some(path) => document::read_or_json(path, OPTIONS_BYTES_MAX)?,
    };
    merge(&mut base, Value::Object(given));
    match base {
        Value::Object(object) => Ok(object),
        other => Err(Failure::failed(format!(
            "options have to be an object, and are {other}"
        ))),
    }
}

fn merge(base: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *base = patch;
        return;
    };
    if !base.is_object() {
        *base = Value::Object(Map::new());
    }
    let Value::Object(base) = base else { return };
    for (key, value) in patch {
        if value.is_null() {
            base.remove(&key);
        } else {
            merge(base.entry(key).or_insert(Value::Null), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_the_command_line_says_goes_over_the_file() {
        let mut base = json!({"a": {"b": 1, "c": 2}, "d": [1], "e": 1});
        merge(
            &mut base,
            json!({"a": {"b": 3, "x": {"y": null}}, "d": [2], "e": null}),
        );
        assert_eq!(base, json!({"a": {"b": 3, "c": 2, "x": {}}, "d": [2]}));
    }

    #[test]
    fn options_of_a_topic_are_those_of_the_driver() {
        let line = [
            "diaspora-ctl",
            "topic",
            "create",
            "--driver",
            "mofka",
            "--name",
            "t",
        ];
        let dotted = "--topic.num_partitions 3 --topic.config.type default --topic.durability written --validator.a.b 1,x,true";
        let all = line
            .iter()
            .copied()
            .chain(dotted.split(' '))
            .map(OsString::from)
            .collect();
        let (plain, mut dotted) = dotted::split(all).unwrap();
        let parsed = DiasporaCtl::try_parse_from(plain).unwrap();
        let DiasporaCommand::Topic(TopicAction::Create(args)) = parsed.command else {
            panic!("another command")
        };
        let options = topic_options(&args, &mut dotted).unwrap();
        dotted.expect_none_left().unwrap();
        assert_eq!(
            (options.partitions, options.durability),
            (3, Some(Durability::Written))
        );
        assert_eq!(options.partition_kind, PartitionKind::Default);
        assert_eq!(
            options.validator,
            Some(json!({"type": "default", "a": {"b": [1, "x", true]}}))
        );
        assert!(
            driver_options(&args.driver, &mut dotted)
                .unwrap_err()
                .to_string()
                .contains("group_file")
        );
    }
}
