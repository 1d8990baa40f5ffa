//! The Mofka daemon: one process, one shard per core.

#![deny(unsafe_code)]

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Duration;

use clap::{CommandFactory, Parser, ValueEnum};
use clap_complete::Shell;
use mofka_engine::config::{self, Loaded, NodeConfig, listen_of_protocol};
use mofka_engine::logging::{self, LogFormat};
use mofka_engine::predecessor;
use mofka_engine::supervisor::Supervisor;
use mofka_engine::uring;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Persistent event streaming for machines that produce data faster than anything else can keep it.
///
/// Without a configuration: stores in ./mofka-data, listens on a Unix socket there, writes ./mofka.json.
/// A group file that names another node that runs is left to that one, and this one does not start.
/// Stops cleanly on SIGTERM and SIGINT: what was accepted is finished and synced. Tells systemd when it is ready and when it
/// stops, and gives the signs of life that WatchdogSec asks for.
///
/// Exit status: 0 after a clean stop, 1 when it could not start or a shard failed, 2 for wrong options.
#[derive(Debug, Parser)]
#[command(name = "mofkad", version)]
struct Options {
    /// Configuration: Mofka's own JSON, or the Bedrock JSON of the original Mofka
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Protocol as the original names it (na+sm: this node only; tcp, ofi+tcp), auto (both), or an address; replaces "listen"
    #[arg(long, value_name = "NAME")]
    protocol: Option<String>,

    /// Address to listen on: tcp://HOST:PORT, unix:///PATH, na+sm or auto; may be given several times; replaces "listen"
    #[arg(long, value_name = "ADDRESS", conflicts_with = "protocol")]
    listen: Vec<String>,

    /// Directory for everything that is stored; replaces "data_dir"
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,

    /// Where the group file is written, each node its own; replaces "group_file"
    #[arg(short, long, value_name = "FILE")]
    group_file: Option<PathBuf>,

    /// Number of shards (threads, each with a core of its own); replaces "shards"; default: one per core
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    shards: Option<u32>,

    /// What to log: off, error, warn, info, debug, trace, or a list such as info,mofka_engine=debug; replaces "log_level"
    #[arg(long, value_name = "LEVEL", env = "MOFKA_LOG")]
    log_level: Option<String>,

    /// How to log, on standard error; replaces "log_format"; default: text
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<FormatName>,

    /// Address for metrics and the status page, by HTTP: HOST:PORT; replaces "monitoring.listen"; default: none
    #[arg(long, value_name = "HOST:PORT")]
    monitoring: Option<String>,

    /// Only check the configuration, and print what was found as JSON; mofka-ctl config check prints it for people
    #[arg(long, requires = "config", conflicts_with = "tell")]
    check_config: bool,

    /// Print something about this program instead of starting: for mofka-ctl, and for its installation
    #[arg(long, value_name = "WHAT", hide = true)]
    tell: Option<Tell>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Tell {
    /// Every key of the configuration, as JSON.
    ConfigKeys,
    /// The manual page.
    Man,
    Bash,
    Zsh,
    Fish,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FormatName {
    Text,
    Json,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let outcome = match (&options.config, options.tell) {
        (_, Some(tell)) => self::tell(tell),
        (Some(path), None) if options.check_config => return check(path),
        _ => run(options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("mofkad: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> Result<(), String> {
    let loaded = configuration(&options)?;
    logging::start(&loaded.config.log_level, loaded.config.log_format)?;
    predecessor::check(&loaded.config.group_file, &loaded.config.data_dir)?;
    let mut supervisor = Supervisor::from_environment();
    supervisor.status("opening partitions");
    // Before any thread starts, so that a signal during the start is not lost.
    let mut signals =
        Signals::new([SIGTERM, SIGINT]).map_err(|error| format!("could not handle signals: {error}"))?;
    let node = uring::start(loaded).map_err(|error| error.to_string())?;
    let facts = node.facts().clone();
    let addresses: Vec<String> = facts.addresses().iter().flatten().cloned().collect();
    tracing::info!(
        node = %facts.node,
        shards = facts.shards,
        direct_io = facts.direct_io,
        data_dir = %facts.data_dir.display(),
        addresses = %addresses.join(" "),
        monitoring = node.monitoring(),
        "ready"
    );
    supervisor.ready(&format!("ready at {}", addresses.join(" ")));
    let stop = facts.clone();
    let handle = signals.handle();
    let waiting = std::thread::Builder::new()
        .name("mofka-signals".to_owned())
        .spawn(move || {
            for signal in signals.forever() {
                if stop.stop.swap(true, Ordering::SeqCst) {
                    tracing::warn!("stopping already; send SIGKILL to give up on what is not synced");
                } else {
                    let name = if signal == SIGINT { "SIGINT" } else { "SIGTERM" };
                    tracing::info!(signal = name, "stopping: finishing what was accepted");
                }
            }
        });
    let waiting = waiting.map_err(|error| format!("could not start a thread: {error}"))?;
    while !facts.stop.load(Ordering::SeqCst) {
        supervisor.alive(|| facts.beats());
        std::thread::sleep(Duration::from_millis(100));
    }
    supervisor.stopping();
    let outcome = node.join().map_err(|error| error.to_string());
    handle.close();
    if waiting.join().is_err() {
        tracing::warn!("the signal thread ended badly");
    }
    tracing::info!("stopped");
    outcome
}

/// Prints what is wrong with a configuration; 1 when anything is.
fn check(path: &Path) -> ExitCode {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            eprintln!(
                "mofkad: could not read the configuration {}: {error}",
                path.display()
            );
            return ExitCode::from(2);
        }
    };
    let checked = config::check_text(&text);
    let printed = serde_json::to_string(&checked)
        .map_err(io::Error::other)
        .and_then(|text| print(&text));
    match printed {
        Ok(()) if checked.errors.is_empty() => ExitCode::SUCCESS,
        Ok(()) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("mofkad: {error}");
            ExitCode::from(2)
        }
    }
}

fn tell(what: Tell) -> Result<(), String> {
    let mut command = Options::command();
    let mut complete = |shell: Shell| {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut command, "mofkad", &mut text);
        String::from_utf8_lossy(&text).into_owned()
    };
    let text = match what {
        Tell::Bash => complete(Shell::Bash),
        Tell::Zsh => complete(Shell::Zsh),
        Tell::Fish => complete(Shell::Fish),
        Tell::Man => {
            let mut text = Vec::new();
            let rendered = clap_mangen::Man::new(command).render(&mut text);
            rendered.map_err(|error| error.to_string())?;
            String::from_utf8_lossy(&text).into_owned()
        }
        Tell::ConfigKeys => {
            let keys = config::KEYS.iter().map(|key| {
                let mut told = serde_json::to_value(key)?;
                if let Some(told) = told.as_object_mut() {
                    told.insert("default".to_owned(), key.default());
                    told.insert("live".to_owned(), key.is_live().into());
                }
                Ok(told)
            });
            let keys: Result<Vec<_>, serde_json::Error> = keys.collect();
            let text = keys.and_then(|keys| serde_json::to_string(&keys));
            text.map_err(|error| error.to_string())?
        }
    };
    print(text.trim_end()).map_err(|error| format!("could not write to standard output: {error}"))
}

fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush())
}

fn configuration(options: &Options) -> Result<Loaded, String> {
    let mut loaded = match &options.config {
        Some(path) => {
            NodeConfig::load(path, options.protocol.as_deref()).map_err(|error| error.to_string())?
        }
        None => {
            let mut loaded = Loaded::default();
            if let Some(protocol) = &options.protocol {
                loaded.config.listen = vec![listen_of_protocol(protocol)?];
            }
            loaded
        }
    };
    let given = [
        (!options.listen.is_empty(), "listen"),
        (options.data_dir.is_some(), "data_dir"),
        (options.group_file.is_some(), "group_file"),
        (options.shards.is_some(), "shards"),
        (options.log_level.is_some(), "log_level"),
        (options.log_format.is_some(), "log_format"),
        (options.monitoring.is_some(), "monitoring.listen"),
    ];
    loaded.override_keys(
        given
            .iter()
            .filter(|(is_given, _)| *is_given)
            .map(|(_, key)| *key),
    );
    let config = &mut loaded.config;
    if !options.listen.is_empty() {
        config.listen.clone_from(&options.listen);
    }
    if let Some(dir) = &options.data_dir {
        config.data_dir.clone_from(dir);
    }
    if let Some(file) = &options.group_file {
        config.group_file.clone_from(file);
    }
    if let Some(shards) = options.shards {
        config.shards = usize::try_from(shards).ok();
    }
    if let Some(level) = &options.log_level {
        logging::check_level(level).map_err(|error| format!("--log-level: {error}"))?;
        config.log_level.clone_from(level);
    }
    if let Some(format) = options.log_format {
        config.log_format = match format {
            FormatName::Text => LogFormat::Text,
            FormatName::Json => LogFormat::Json,
        };
    }
    if options.monitoring.is_some() {
        config.monitoring.listen.clone_from(&options.monitoring);
        config.monitoring.check()?;
    }
    Ok(loaded)
}
