//! Whether this process can have a ring of io_uring, and what the kernel's can do. Nothing is submitted: making one is the proof.

use io_uring::{IoUring, Probe, opcode};

use crate::commands::doctor::facts::{RingAbilities, RingError};

/// Entries of the ring.
const ENTRIES: u32 = 8;

/// What the node's shards submit.
const NEEDED: [(u8, &str); 9] = [
    (opcode::Read::CODE, "read"),
    (opcode::Write::CODE, "write"),
    (opcode::Writev::CODE, "writev"),
    (opcode::WriteFixed::CODE, "write_fixed"),
    (opcode::Fsync::CODE, "fsync"),
    (opcode::Fallocate::CODE, "fallocate"),
    (opcode::PollAdd::CODE, "poll_add"),
    (opcode::PollRemove::CODE, "poll_remove"),
    (opcode::Timeout::CODE, "timeout"),
];

/// Makes a ring and asks what it can do.
pub(crate) fn look() -> Result<RingAbilities, RingError> {
    let failed = |error: std::io::Error| RingError {
        number: error.raw_os_error().unwrap_or(0),
        message: error.to_string(),
    };
    let (ring, deferred) = match IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .build(ENTRIES)
    {
        Ok(ring) => (ring, true),
        // As the node does on kernels before 6.1.
        Err(_) => (IoUring::new(ENTRIES).map_err(failed)?, false),
    };
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe).map_err(failed)?;
    Ok(RingAbilities {
        missing: NEEDED
            .iter()
            .filter(|(code, _)| !probe.is_supported(*code))
            .map(|(_, name)| *name)
            .collect(),
        deferred,
        skips: ring.params().is_feature_skip_cqe_on_success(),
    })
}
