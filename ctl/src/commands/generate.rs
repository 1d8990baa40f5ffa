//! `generate`: completions and manual pages.

use std::path::Path;

use clap_complete::Shell;

use super::config_file;
use crate::cli::{Cli, GenerateCommand};
use crate::failure::{Failure, Outcome};
use crate::output;

pub(crate) fn run(command: &GenerateCommand) -> Outcome {
    match command {
        GenerateCommand::Completions { shell, name } => completions(*shell, name),
        GenerateCommand::Man { directory } => man(directory),
    }
}

fn completions(shell: Shell, name: &str) -> Outcome {
    let text = match name {
        "mofkad" => match shell {
            Shell::Bash | Shell::Zsh | Shell::Fish => config_file::tell(&shell.to_string())?,
            other => {
                return Err(Failure::usage(format!(
                    "mofkad has completions for bash, zsh and fish, not for {other}"
                )));
            }
        },
        "mofka-ctl" | "mofkactl" => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::with_examples(), name, &mut text);
            // Of a name with a dash, clap_complete 4.6.11 writes one and looks for the other: no command would be known.
            String::from_utf8_lossy(&text).replace("mofka__subcmd__ctl", "mofka__ctl")
        }
        other => {
            return Err(Failure::usage(format!(
                "there are completions for mofka-ctl, mofkactl and mofkad, not for {other}"
            )));
        }
    };
    output::line(text.trim_end())
}

fn man(directory: &Path) -> Outcome {
    let cannot = |e| {
        Failure::failed(format!(
            "cannot write manual pages in {}: {e}",
            directory.display()
        ))
    };
    std::fs::create_dir_all(directory).map_err(cannot)?;
    // Not the `help` commands: they have pages like the commands themselves.
    let command = Cli::with_examples().disable_help_subcommand(true);
    clap_mangen::generate_to(command, directory).map_err(cannot)?;
    let daemon = config_file::tell("man")?;
    std::fs::write(directory.join("mofkad.1"), format!("{}\n", daemon.trim_end())).map_err(cannot)
}
