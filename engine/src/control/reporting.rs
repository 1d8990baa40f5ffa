//! What the node counted, for those who watch it by the protocol; the threads for metrics tell the same by HTTP.

use std::rc::Rc;

use mofka_net::WireError;

use crate::io::Io;
use crate::monitor::metrics::Surroundings;
use crate::monitor::process::{Disk, Process};
use crate::monitor::server::FRESH;
use crate::monitor::status;
use crate::requests::to_body;
use crate::shard::{Peers, Shard, gather};

/// What was told last.
pub(crate) struct Told {
    /// When that was counted, on the monotonic clock.
    at_us: u64,
    body: Vec<u8>,
}

/// The body of the answer. Many may watch: the shards are asked at most every [`FRESH`], and what is younger is told again.
///
/// # Errors
/// When a shard has stopped.
pub(super) async fn report<I: Io, P: Peers>(shard: &Rc<Shard<I, P>>) -> Result<Vec<u8>, WireError> {
    // Who comes while this is being counted waits, and gets the same.
    let mut told = shard.told().lock().await;
    let age_us = |told: &Told| shard.io().monotonic_us().saturating_sub(told.at_us);
    if let Some(told) = told
        .as_ref()
        .filter(|told| u128::from(age_us(told)) < FRESH.as_micros())
    {
        return Ok(told.body.clone());
    }
    let snapshot = gather(shard).await?;
    let around = Surroundings {
        process: Process::look(),
        // The file system of this node's own files: it answers from memory.
        disk: Disk::look(&shard.facts().data_dir),
        ..Surroundings::default()
    };
    let body = to_body(&status::of(&snapshot, &around))?.to_vec();
    *told = Some(Told {
        at_us: shard.io().monotonic_us(),
        body: body.clone(),
    });
    Ok(body)
}
