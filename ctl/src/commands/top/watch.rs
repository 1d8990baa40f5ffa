//! Asks a node again and again, and looks for it when it went away.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use mofka_client::{Driver, DriverError};
use mofka_net::ErrorCode;
use mofka_net::control::NodeReport;

use crate::failure::{Failure, Outcome};
use crate::node::{self, Place};

/// How long the node has for an answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often at least a lost node is looked for.
const LOOK_EVERY_MAX: Duration = Duration::from_secs(2);
/// Answers that may wait to be looked at.
const WAITING_MAX: usize = 2;

/// News of the node.
#[derive(Debug)]
pub(crate) enum Told {
    /// What it counted.
    Report(Box<NodeReport>),
    /// It did not answer; why.
    Lost(String),
}

/// The way to one node's reports.
pub(crate) struct Watch {
    place: Place,
    rank: usize,
    interval: Duration,
    driver: Option<Driver>,
}

impl Watch {
    pub(crate) fn new(place: &Place, rank: u32, interval: Duration) -> Self {
        Self {
            place: place.clone(),
            rank: usize::try_from(rank).unwrap_or(usize::MAX),
            interval,
            driver: None,
        }
    }

    /// What the node has counted by now. After a failure the way to it is looked for anew: one that was started again may be
    /// elsewhere.
    pub(crate) fn ask(&mut self) -> Outcome<NodeReport> {
        let driver = match self.driver.take() {
            Some(driver) => driver,
            None => node::connect_patiently(&self.place, PATIENCE)?,
        };
        let report = driver.node_report(self.rank).map_err(failure)?;
        self.driver = Some(driver);
        Ok(report)
    }

    /// Waits until an interval after this moment is over.
    pub(crate) fn pause(&self, since: Instant) {
        std::thread::sleep(self.interval.saturating_sub(since.elapsed()));
    }

    /// Goes on in a thread of its own, which ends when nobody listens any more.
    pub(crate) fn in_background(self) -> Outcome<Receiver<Told>> {
        let (sender, receiver) = sync_channel(WAITING_MAX);
        std::thread::Builder::new()
            .name("watch".to_owned())
            .spawn(move || self.tell(&sender))
            .map_err(|error| Failure::failed(format!("cannot start a thread: {error}")))?;
        Ok(receiver)
    }

    fn tell(mut self, sender: &SyncSender<Told>) {
        let mut asked_at = Instant::now();
        loop {
            self.pause(asked_at);
            asked_at = Instant::now();
            let told = match self.ask() {
                Ok(report) => Told::Report(Box::new(report)),
                Err(failure) => Told::Lost(failure.to_string()),
            };
            let is_lost = matches!(told, Told::Lost(_));
            if sender.send(told).is_err() {
                return;
            }
            if is_lost && self.interval > LOOK_EVERY_MAX {
                asked_at = Instant::now()
                    .checked_sub(self.interval - LOOK_EVERY_MAX)
                    .unwrap_or_else(Instant::now);
            }
        }
    }
}

fn failure(error: DriverError) -> Failure {
    match error.code() {
        Some(ErrorCode::UnknownOpcode) => Failure::failed(
            "the node is older than this tool and does not tell what it counts: use mofka-ctl status, or start a newer mofkad",
        ),
        _ => node::failure(error),
    }
}
