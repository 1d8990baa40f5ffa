//! One module for each command.

pub(crate) mod bench;
pub(crate) mod config;
pub(crate) mod config_file;
pub(crate) mod consume;
pub(crate) mod consumer;
pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod fifo;
pub(crate) mod forward;
pub(crate) mod generate;
pub(crate) mod links;
pub(crate) mod log;
pub(crate) mod partition;
pub(crate) mod produce;
pub(crate) mod shutdown;
pub(crate) mod start;
pub(crate) mod status;
pub(crate) mod top;
pub(crate) mod topic;

use crate::cli::{Cli, Command};
use crate::dotted::Dotted;
use crate::failure::Outcome;
use crate::node::Place;
use crate::output::Output;

/// Runs what the command line asks for.
pub(crate) fn run(cli: Cli, dotted: Dotted) -> Outcome {
    let output = Output::new(cli.json);
    let place = Place::GroupFile(cli.groupfile());
    let groupfile_given = cli.groupfile_given();
    // The two commands that take dotted options look for leftovers themselves, before they do anything.
    if !matches!(cli.command, Command::Topic(_) | Command::Partition(_)) {
        dotted.expect_none_left()?;
    }
    match cli.command {
        Command::Start(args) => start::run(&args, groupfile_given, output),
        Command::Shutdown(args) => shutdown::run(&place, args.timeout, output),
        Command::Status => status::run(&place, output),
        Command::Config(command) => config::run(&command, &place, groupfile_given.as_deref(), output),
        Command::Topic(command) => topic::run(command, dotted, &place, output),
        Command::Partition(command) => partition::run(command, dotted, &place, output),
        Command::Produce(args) => produce::run(&args, &place, output),
        Command::Consume(args) => consume::consume(&args, &place, output),
        Command::Tail(args) => consume::tail(&args, &place, output),
        Command::Consumer(command) => consumer::run(command, &place, output),
        Command::Log(command) => log::run(command, output),
        Command::Top(args) => top::run(&args, &place, output),
        Command::Doctor(args) => doctor::run(&args, output),
        Command::Bench(command) => bench::run(&command, &place, output),
        Command::Forward(args) => forward::run(&args, output),
        Command::Fifo(args) => fifo::run(&args, &place, output),
        Command::Demo(args) => demo::run(&args, output),
        Command::Generate(command) => generate::run(&command),
        Command::Links { directory } => links::run(&directory, output),
    }
}
