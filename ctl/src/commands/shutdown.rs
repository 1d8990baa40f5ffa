//! `shutdown`: asks the node to stop and waits until it has.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::failure::{Failure, Outcome};
use crate::node::{self, Place};
use crate::output::Output;

pub(crate) fn run(place: &Place, timeout_s: u64, output: Output) -> Outcome {
    let driver = node::connect(place)?;
    let status = driver.node_status(0).map_err(node::failure)?;
    driver.shutdown_node(0).map_err(node::failure)?;
    drop(driver);
    let started = Instant::now();
    while is_there(place, status.pid) {
        if started.elapsed() >= Duration::from_secs(timeout_s) {
            return Err(Failure::failed(format!(
                "the node (pid {}) accepted the request, and is still there after {timeout_s} s",
                status.pid
            )));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    output.print(
        &json!({"node": status.node, "pid": status.pid, "stopped": true}),
        || format!("node {} (pid {}) stopped", status.node, status.pid),
    )
}

/// Whether the process is there, when it is one of this machine; otherwise, whether the node answers.
fn is_there(place: &Place, pid: u32) -> bool {
    let process = PathBuf::from(format!("/proc/{pid}"));
    match std::fs::read_to_string(process.join("comm")) {
        Ok(name) if name.trim() == "mofkad" => !is_zombie(&process),
        _ => node::connect(place).is_ok(),
    }
}

/// A stopped node whose parent has not noticed is gone all the same.
fn is_zombie(process: &Path) -> bool {
    let stat = std::fs::read_to_string(process.join("stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| rest.starts_with('Z'))
}
