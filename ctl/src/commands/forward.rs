//! `forward`: copies events from topics to topics, each once.
//!
//! A thread for each partition of a source (`lane.rs`); one for each policy, which looks for partitions that are added
//! (`policy.rs`).

mod config;
mod flight;
mod lane;
mod policy;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use mofka_client::{Driver, DriverError, DriverOptions};

use self::config::{Config, DriverConfig};
use self::policy::{Ended, Policy};
use crate::cli::ForwardArgs;
use crate::daemon_log;
use crate::failure::{Failure, Outcome};
use crate::node;
use crate::output::Output;
use crate::stop::Stop;

/// How long a node that is lost is looked for until it is said, and begun anew. A wish to stop may have to wait for so long.
const RECONNECT_TIMEOUT: Duration = Duration::from_secs(3);

pub(crate) fn run(args: &ForwardArgs, output: Output) -> Outcome {
    let config = config::read(&args.config)?;
    let stop = Stop::on_signals()?;
    daemon_log::init(args.logging.logging, output)?;
    let drivers = connect(&config)?;
    let policies = config
        .policies
        .into_iter()
        .map(|policy| Policy::open(policy, &drivers, stop.clone()).map(Arc::new))
        .collect::<Outcome<Vec<_>>>()?;
    let running = policies
        .into_iter()
        .map(|policy| {
            let name = format!("policy {}", policy.name());
            let run = move || policy.run();
            let started = thread::Builder::new().name("policy".to_owned()).spawn(run);
            started.map_err(|error| Failure::fatal(format!("cannot start a thread for {name}: {error}")))
        })
        .collect::<Outcome<Vec<_>>>();
    let running = running.inspect_err(|_| stop.wish())?;
    let mut refused = Vec::new();
    for policy in running {
        match policy.join() {
            Ok(Ended::Done) => {}
            Ok(Ended::Refused(reason)) => refused.push(reason),
            Err(_) => {
                refused.push("a policy's thread ended by itself; this is a mistake of the program".to_owned())
            }
        }
    }
    tracing::info!(state = "ended", "forward has ended");
    match refused.is_empty() {
        true => Ok(()),
        false => Err(Failure::failed(refused.join("; "))),
    }
}

fn connect(config: &Config) -> Outcome<BTreeMap<String, Driver>> {
    let connected = config.drivers.iter().map(|(name, driver)| {
        let driver = Driver::connect(options(driver))
            .map_err(|error| fatal(error).while_doing(format!("driver \"{name}\"")))?;
        Ok((name.clone(), driver))
    });
    connected.collect()
}

fn options(driver: &DriverConfig) -> DriverOptions {
    let options = match &driver.group_file {
        Some(path) => DriverOptions::group_file(path),
        None => DriverOptions::addresses(&driver.addresses),
    };
    DriverOptions {
        client_name: format!("mofka-ctl forward {}", std::process::id()),
        reconnect_timeout: RECONNECT_TIMEOUT,
        ..options
    }
}

/// An error at the start.
fn fatal(error: DriverError) -> Failure {
    match &error {
        DriverError::GroupFile { .. } => Failure::unreachable(format!(
            "{error}; start that node, or say in \"group_file\" where it writes this file at its start"
        )),
        _ => node::failure(error),
    }
    .at_start()
}
