//! `bench produce|consume|roundtrip`: how fast a node is, measured from here.

mod consume;
mod content;
mod produce;
mod progress;
mod report;
mod roundtrip;
mod run;

use crate::cli::BenchCommand;
use crate::failure::Outcome;
use crate::node::Place;
use crate::output::Output;

pub(crate) fn run(command: &BenchCommand, place: &Place, output: Output) -> Outcome {
    match command {
        BenchCommand::Produce(args) => produce::run(args, place, output),
        BenchCommand::Consume(args) => consume::run(args, place, output),
        BenchCommand::Roundtrip(args) => roundtrip::run(args, place, output),
    }
}
