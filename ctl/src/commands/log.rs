//! `log`: looks at, checks and repairs stored partitions, on the files, without a node.
//!
//! Nothing is written but what a command is told to write: `repair --apply`, the output of `export`, the target of
//! `import`.

pub(crate) mod aligned;
mod data;
mod durable;
mod export;
mod export_file;
mod import;
mod inspect;
mod judge;
mod kept_producers;
mod meta;
pub(super) mod moving;
mod names;
mod partition;
mod place;
mod problem;
mod progress;
mod record_file;
mod records;
mod reference;
mod repair;
mod segment;
mod sink;
mod source;
mod verify;

use crate::cli::LogCommand;
use crate::failure::Outcome;
use crate::output::Output;

pub(crate) fn run(command: LogCommand, output: Output) -> Outcome {
    match command {
        LogCommand::Inspect(args) => inspect::run(&args, output),
        LogCommand::Export(args) => export::run(&args, output),
        LogCommand::Import(args) => import::run(&args, output),
        LogCommand::Repair(args) => repair::run(&args, output),
        LogCommand::Verify { path } => verify::run(&path, output),
    }
}
