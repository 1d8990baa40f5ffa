//! The kernel, what a process may have, and where it may listen.

use super::Finding;
use crate::commands::doctor::facts::{
    CpuFacts, LimitFacts, MemoryFacts, PlaceFacts, PlaceTrouble, RingFacts,
};
use crate::output::bytes_text;

/// The first kernel with all that a node needs, and the first with all that it uses.
const KERNEL_MIN: (u32, u32) = (5, 8);
const KERNEL_WHOLE: (u32, u32) = (6, 1);
/// Without so much the runtime refuses to start.
const MEMLOCK_MIN_BYTES: u64 = 512 << 10;
/// Memory that a shard registers for writes and the runtime's own.
const SHARD_LOCKED_BYTES: u64 = 32 << 20;
/// Files beside connections: segments, sockets, rings.
const FILES_BESIDE: u64 = 1024;
/// With fewer a node runs out in ordinary use.
const FILES_MIN: u64 = 256;
/// What a shard takes beside what it remembers of events.
const SHARD_BASE_BYTES: u64 = 64 << 20;

pub(super) fn kernel(release: &str) -> Finding {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|text| text.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let found = format!("Linux {release}");
    if version < KERNEL_MIN {
        Finding::bad(
            "kernel",
            found,
            "a node needs io_uring as it is since Linux 5.8: it does not start",
        )
        .advise("run a newer kernel: 6.1 or later is best")
    } else if version < KERNEL_WHOLE {
        Finding::warning(
            "kernel",
            found,
            "a node works, with more system calls and interruptions for each write than since Linux 6.1",
        )
        .advise("run Linux 6.1 or later where you can")
    } else {
        Finding::good("kernel", found, "has all that a node uses")
    }
}

pub(super) fn ring(ring: &RingFacts) -> Finding {
    const CHECK: &str = "io_uring";
    match &ring.outcome {
        None => Finding::unknown(CHECK, "not tried"),
        Some(Ok(can)) if !can.missing.is_empty() => Finding::bad(
            CHECK,
            format!("a ring was made; it lacks {}", can.missing.join(", ")),
            "a node writes and syncs by these operations: it does not start",
        )
        .advise("run Linux 5.8 or later; 6.1 or later is best"),
        Some(Ok(can)) => {
            let how = match (can.deferred, can.skips) {
                (true, true) => "with all that a node uses",
                _ => "without what spares interruptions (Linux 6.1)",
            };
            Finding::good(
                CHECK,
                format!("a ring was made, {how}"),
                "events are written and synced through it",
            )
        }
        Some(Err(error)) => {
            let found = format!("no ring can be made: {}", error.message);
            let (meaning, advice) = reason(ring, error.number);
            Finding::bad(CHECK, found, format!("a node does not start: {meaning}")).advise(advice)
        }
    }
}

/// Why there is no ring, and what helps.
fn reason(ring: &RingFacts, number: i32) -> (String, String) {
    let is = |errno: rustix::io::Errno| number == errno.raw_os_error();
    let refused =
        is(rustix::io::Errno::PERM) || is(rustix::io::Errno::ACCESS) || is(rustix::io::Errno::NOSYS);
    match ring.disabled {
        Some(2) if refused => (
            "kernel.io_uring_disabled is 2, which forbids it to everybody".to_owned(),
            "as root: sysctl kernel.io_uring_disabled=0, and the same in /etc/sysctl.d/ so that it lasts".to_owned(),
        ),
        Some(1) if refused => (
            "kernel.io_uring_disabled is 1, which allows it to members of kernel.io_uring_group and to those with CAP_SYS_ADMIN"
                .to_owned(),
            "as root: sysctl kernel.io_uring_disabled=0, or put the node's user into the group that kernel.io_uring_group names"
                .to_owned(),
        ),
        _ if refused && ring.is_filtered => {
            let place = ring.container.as_deref().unwrap_or("whatever started this process");
            (
                format!("a filter of system calls (seccomp) is on this process, by {place}, and forbids it"),
                "allow io_uring_setup, io_uring_enter and io_uring_register in the container's seccomp profile \
                 (docker run --security-opt seccomp=PROFILE.json), or in the unit's SystemCallFilter"
                    .to_owned(),
            )
        }
        _ if is(rustix::io::Errno::NOSYS) => (
            "this kernel was built without it, or a sandbox stands in its place".to_owned(),
            "run a kernel with CONFIG_IO_URING".to_owned(),
        ),
        _ if is(rustix::io::Errno::NOMEM) => (
            "there is not enough memory that may be locked".to_owned(),
            "raise the limit: ulimit -l, LimitMEMLOCK= of the unit".to_owned(),
        ),
        _ if is(rustix::io::Errno::MFILE) || is(rustix::io::Errno::NFILE) => (
            "too many files are open".to_owned(),
            "raise the limit: ulimit -n, LimitNOFILE= of the unit".to_owned(),
        ),
        _ => (
            "the system does not let this process have one".to_owned(),
            "look at the system's security modules (SELinux, AppArmor) and at its log".to_owned(),
        ),
    }
}

pub(super) fn memlock(limits: &LimitFacts, shards: u64) -> Finding {
    const CHECK: &str = "locked memory";
    let Some(bytes) = limits.memlock_bytes else {
        return Finding::good(
            CHECK,
            "no limit",
            "memory for writes is registered with the kernel once",
        );
    };
    let found = format!("{} may be locked", bytes_text(bytes));
    let wanted = shards.saturating_mul(SHARD_LOCKED_BYTES);
    let advice = format!(
        "raise it to {} or more: ulimit -l, memlock in /etc/security/limits.d/, or LimitMEMLOCK=infinity of the unit",
        bytes_text(wanted)
    );
    if bytes < MEMLOCK_MIN_BYTES {
        Finding::bad(
            CHECK,
            found,
            format!(
                "a node does not start with less than {}",
                bytes_text(MEMLOCK_MIN_BYTES)
            ),
        )
        .advise(advice)
    } else if limits.may_lock {
        Finding::good(
            CHECK,
            format!("{found}, and more by CAP_IPC_LOCK"),
            "memory for writes is registered with the kernel once",
        )
    } else if bytes < wanted {
        Finding::warning(
            CHECK,
            found,
            format!(
                "{shards} shards register about {}; what does not fit is pinned anew for each write, which costs CPU",
                bytes_text(wanted)
            ),
        )
        .advise(advice)
    } else {
        Finding::good(
            CHECK,
            found,
            "memory for writes is registered with the kernel once",
        )
    }
}

pub(super) fn files(limits: &LimitFacts, connections_max: u64) -> Finding {
    const CHECK: &str = "open files";
    let Some(files) = limits.files else {
        return Finding::good(
            CHECK,
            "no limit",
            "connections and segments are not bounded by it",
        );
    };
    let wanted = connections_max.saturating_add(FILES_BESIDE);
    let hard = limits
        .files_hard
        .map_or_else(|| "no hard limit".to_owned(), |hard| format!("hard limit {hard}"));
    let found = format!("{files} ({hard})");
    let advice = format!("raise it to {wanted} or more: ulimit -n, LimitNOFILE= of the unit");
    if files < FILES_MIN {
        Finding::bad(
            CHECK,
            found,
            "connections, segments and sockets each take one: a node runs out of them",
        )
        .advise(advice)
    } else if files < wanted {
        Finding::warning(
            CHECK,
            found,
            format!(
                "{connections_max} connections, which is limits.connections_max, and the files do not fit"
            ),
        )
        .advise(advice)
    } else {
        Finding::good(CHECK, found, "enough for all connections and files")
    }
}

pub(super) fn cpus(cpus: &CpuFacts, shards: Option<usize>) -> Finding {
    const CHECK: &str = "CPUs";
    let wanted = shards.unwrap_or(cpus.usable);
    let quota = cpus.quota.map_or_else(String::new, |cores| {
        format!(", {cores:.1} cores of time by its control group")
    });
    let found = format!("{} may be used{quota}; {wanted} shards", cpus.usable);
    if wanted > cpus.usable {
        return Finding::warning(
            CHECK,
            found,
            "some shards share a CPU: each takes the other's time, and latencies grow",
        )
        .advise(format!("set shards to {} or fewer", cpus.usable));
    }
    match cpus.quota {
        Some(cores) if cores < wanted as f64 => Finding::warning(
            CHECK,
            found,
            "a shard that is out of time stands still until the next period, tens of milliseconds later",
        )
        .advise(format!(
            "set shards to {} or fewer, or raise the limit of the control group (CPUQuota=, --cpus)",
            (cores.floor() as u64).max(1)
        )),
        _ => Finding::good(CHECK, found, "each shard can have a CPU of its own"),
    }
}

pub(super) fn memory(memory: &MemoryFacts, shards: u64, shard_memory_bytes: u64) -> Finding {
    const CHECK: &str = "memory";
    let Some(total) = memory.total_bytes else {
        return Finding::unknown(CHECK, "the size of the memory");
    };
    let wanted = shards.saturating_mul(shard_memory_bytes.saturating_add(SHARD_BASE_BYTES));
    let (limit, what) = match memory.group_max_bytes {
        Some(max) => (max, "its control group may have"),
        None => (total, "the machine has"),
    };
    let group_left = memory
        .group_max_bytes
        .map(|max| max.saturating_sub(memory.group_used_bytes.unwrap_or(0)));
    let free = match (memory.available_bytes, group_left) {
        (Some(machine), Some(group)) => machine.min(group),
        (machine, group) => machine.or(group).unwrap_or(limit),
    };
    let found = format!("{what} {}; {} are free", bytes_text(limit), bytes_text(free));
    let needs = format!(
        "{shards} shards take up to {} beside connections",
        bytes_text(wanted)
    );
    if limit < wanted {
        Finding::bad(CHECK, found, format!("{needs}: the kernel would end the node when it is busy")).advise(
            "set fewer shards, or lower limits.shard_recent_bytes_max and limits.shard_read_ahead_bytes_max, or give it more memory",
        )
    } else if free < wanted {
        Finding::warning(CHECK, found, format!("{needs}, and others use the memory now"))
            .advise("see what else runs here, or set fewer shards")
    } else {
        Finding::good(CHECK, found, needs)
    }
}

pub(super) fn clock(clock: Option<&str>) -> Finding {
    const CHECK: &str = "clock";
    match clock {
        None => Finding::unknown(CHECK, "the kernel's source of time"),
        Some(name @ ("hpet" | "acpi_pm" | "pit" | "jiffies" | "refined-jiffies")) => Finding::warning(
            CHECK,
            name,
            "each look at the time is a slow access to a device, and a node looks often",
        )
        .advise("see in the kernel's log why it does not trust the CPU's counter (tsc)"),
        Some(name) => Finding::good(CHECK, name, "looking at the time is cheap"),
    }
}

pub(super) fn place(place: &PlaceFacts, node: Option<u32>) -> Finding {
    const CHECK: &str = "listen";
    let address = &place.address;
    match (&place.trouble, node) {
        (None, _) => Finding::good(CHECK, address, "can be listened to"),
        (Some(PlaceTrouble::Taken(reason)), Some(pid)) => Finding::good(
            CHECK,
            format!("{address}: {reason}"),
            format!("in use, as it should be while the node of this data directory runs (process {pid})"),
        ),
        (Some(PlaceTrouble::Taken(reason)), None) => Finding::bad(
            CHECK,
            format!("{address}: {reason}"),
            "no node runs on this data directory, and another program has its address: a node does not start",
        )
        .advise("choose another address or port, or stop that program (ss -tlnp tells which it is)"),
        (Some(PlaceTrouble::Refused(reason)), _) => Finding::bad(
            CHECK,
            format!("{address}: {reason}"),
            "a node does not start with this address",
        )
        .advise("choose an address of this machine, a port from 1024 on, a directory that the node's user may write to"),
    }
}
