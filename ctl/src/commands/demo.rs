//! `demo`: real log lines through a real node that is killed half-way, with every promise checked.

pub(crate) mod bgl;
mod checks;
mod node;
mod play;
mod progress;
mod report;

use std::path::{Path, PathBuf};

use crate::cli::DemoArgs;
use crate::failure::{Failure, Outcome};
use crate::output::Output;

use self::progress::Stage;

pub(crate) fn run(args: &DemoArgs, output: Output) -> Outcome {
    let lines = bgl::load(args.input.as_deref())?;
    let directory = args.dir.clone().unwrap_or_else(std::env::temp_dir);
    let directory = directory.join(format!("mofka-demo-{}", std::process::id()));
    let stage = Stage::new(output.is_json());
    match play::play(&lines, &directory, &stage) {
        Ok(report) => {
            output.print(&report.to_json(), || report.to_text())?;
            finish(&directory, args.keep, &stage)
        }
        Err(failure) => Err(failure.while_doing(format!(
            "the demonstration failed (its files stay in {})",
            directory.display()
        ))),
    }
}

fn finish(directory: &Path, keep: bool, stage: &Stage) -> Outcome {
    if keep {
        stage.say(&format!("kept {}", directory.display()));
        return Ok(());
    }
    let removed = std::fs::remove_dir_all(directory);
    removed.map_err(|e| {
        Failure::failed(format!(
            "cannot remove {}: {e}",
            PathBuf::from(directory).display()
        ))
    })
}
