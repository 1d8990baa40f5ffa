//! The data directory, its file system and its device.

use super::{Finding, Verdict};
use crate::commands::doctor::facts::{Device, DirFacts, Mount, Room, WriteFacts};
use crate::output::bytes_text;

/// What the node writes at least, and at multiples of what.
const BLOCK_BYTES: u32 = 4096;
/// Less room than this: a segment does not fit. Less than the second: not for long.
const ROOM_MIN_BYTES: u64 = 1 << 30;
const ROOM_LOW_BYTES: u64 = 10 << 30;
/// Less than one part in so many left is little.
const ROOM_LOW_PART: u64 = 20;
/// A sync that takes longer is slow for a solid-state device; one that takes less cannot have reached any.
const SYNC_SLOW_US: u64 = 5000;
const SYNC_IMPOSSIBLE_US: u64 = 4;

pub(super) fn directory(dir: &DirFacts) -> Finding {
    const CHECK: &str = "data directory";
    let looked_at = dir.looked_at.display();
    match (&dir.trouble, dir.node) {
        (Some(trouble), _) => Finding::bad(CHECK, trouble, "a node cannot store here").advise(
            "give the directory to the node's user (chown), or name another with --data-dir or data_dir",
        ),
        (None, Some(pid)) => Finding::good(
            CHECK,
            format!("{looked_at}: process {pid} has it"),
            "a node runs here",
        ),
        (None, None) if dir.exists => {
            Finding::good(CHECK, looked_at.to_string(), "can be written, and no node has it")
        }
        (None, None) => Finding::good(
            CHECK,
            format!("is not there yet; {looked_at} is"),
            "a node makes it when it starts; what follows is of the directory that is there",
        ),
    }
}

pub(super) fn file_system(mount: Option<&Mount>) -> Finding {
    const CHECK: &str = "file system";
    let Some(mount) = mount else {
        return Finding::unknown(CHECK, "the mount of the data directory");
    };
    let found = format!("{} on {} ({})", mount.kind, mount.point, mount.options.join(","));
    let has = |option: &str| mount.options.iter().any(|known| known == option);
    if has("ro") {
        return Finding::bad(CHECK, found, "it is mounted for reading only")
            .advise("mount it for writing (rw)");
    }
    if has("nobarrier") || has("barrier=0") {
        return Finding::bad(
            CHECK,
            found,
            "syncs do not reach the device's medium (nobarrier): what was acknowledged can be lost in a power cut",
        )
        .advise("mount it without nobarrier and barrier=0");
    }
    match mount.kind.as_str() {
        kind if kind == "ext2" || mount.lacks_journal => Finding::warning(
            CHECK,
            format!("{found}, without a journal"),
            "what was acknowledged as synced survives kill -9, but in a power cut the file system can lose it or mix up files, \
             also those that were synced long before",
        )
        .advise("give it a journal (unmounted: tune2fs -O has_journal DEVICE), or store on xfs"),
        "xfs" | "ext4" if has("sync") || has("dirsync") => Finding::warning(
            CHECK,
            found,
            "every change of a name waits for the device (sync), also where a node syncs by itself anyway",
        )
        .advise("mount it without sync and dirsync"),
        "xfs" | "ext4" => Finding::good(CHECK, found, "direct I/O and preallocated files as a node wants them"),
        "tmpfs" | "ramfs" => Finding::bad(
            CHECK,
            found,
            "it is in memory: nothing that is acknowledged as synced survives a power cut or a restart of the machine",
        )
        .advise("store on ext4 or xfs; for events that may be lost, make partitions of type memory instead"),
        "overlay" | "aufs" => Finding::warning(
            CHECK,
            found,
            "it is a container's own layer, which goes with the container, and direct I/O on it is not certain",
        )
        .advise("mount a volume of the host for the data directory (docker run -v)"),
        "btrfs" | "zfs" | "bcachefs" => Finding::warning(
            CHECK,
            found,
            "it copies what is written over, so preallocated files do not help and each sync writes more than its data",
        )
        .advise("store on ext4 or xfs for the highest rates; on btrfs at least: chattr +C on the empty data directory"),
        "nfs" | "nfs4" | "cifs" | "smb3" | "ceph" | "lustre" | "gpfs" | "beegfs" | "9p" | "virtiofs" => Finding::warning(
            CHECK,
            found,
            "it is on other machines: a sync takes a round trip, and what survives a power cut is for them to say",
        )
        .advise("store on a local device with ext4 or xfs"),
        kind if kind.starts_with("fuse") => Finding::warning(
            CHECK,
            found,
            "a program stands between the node and the device: whether a sync is durable is for it to say",
        )
        .advise("store on ext4 or xfs"),
        _ => Finding::warning(CHECK, found, "it is not among those that are tested: ext4 and xfs are")
            .advise("store on ext4 or xfs, or try it well"),
    }
}

pub(super) fn device(device: &Device) -> Finding {
    const CHECK: &str = "device";
    let through = match device.through.as_slice() {
        [] => String::new(),
        layers => format!(" through {}", layers.join(", ")),
    };
    let word = |value: &Option<String>| value.clone().unwrap_or_else(|| "unknown".to_owned());
    let model = device
        .model
        .as_ref()
        .map_or_else(String::new, |model| format!(" ({model})"));
    let found = format!(
        "{}{model}{through}: scheduler {}, write cache {}{}",
        device.name,
        word(&device.scheduler),
        word(&device.write_cache),
        match device.fua {
            Some(true) => " with FUA",
            Some(false) => " without FUA",
            None => "",
        }
    );
    if let Some(bytes) = device
        .logical_block_bytes
        .filter(|bytes| *bytes > u64::from(BLOCK_BYTES))
    {
        return Finding::bad(
            CHECK,
            format!("{found}, blocks of {bytes} bytes"),
            format!("a node writes at multiples of {BLOCK_BYTES} bytes, which this device does not take"),
        )
        .advise("use a device with blocks of 512 or 4096 bytes (nvme format can change it)");
    }
    if device.rotational == Some(true) && !device.name.starts_with("vd") {
        return Finding::warning(
            CHECK,
            found,
            "it turns, or says so: each sync waits for the disk to come round",
        )
        .advise("store on NVMe or another solid-state device");
    }
    if let Some(name) = device
        .scheduler
        .as_deref()
        .filter(|name| !matches!(*name, "none" | "noop"))
    {
        return Finding::warning(
            CHECK,
            found,
            "the kernel sorts requests before the device gets them, which costs time that a solid-state device does not win back",
        )
        .advise(format!(
            "as root: echo none > /sys/block/{}/queue/scheduler (now {name}), and a udev rule so that it lasts",
            device.name
        ));
    }
    let meaning = match device.write_cache.as_deref() {
        Some("write through") => {
            "a write is durable when the device says that it is done: a sync asks for nothing more. Some devices, and some \
             virtual ones, say so without its being true"
        }
        _ => {
            "a sync empties the device's cache, which takes from microseconds (power-loss protection) to milliseconds"
        }
    };
    Finding::good(CHECK, found, meaning)
}

pub(super) fn room(room: Option<Room>) -> Finding {
    const CHECK: &str = "free space";
    let Some(room) = room else {
        return Finding::unknown(CHECK, "the size of the file system");
    };
    let inodes = match room.inodes {
        0 => String::new(),
        all => format!(", {} of {all} inodes", room.inodes_free),
    };
    let found = format!(
        "{} of {} are free{inodes}",
        bytes_text(room.available_bytes),
        bytes_text(room.size_bytes)
    );
    let advice = "free some space, use a larger device, or set a retention (mofka-ctl topic alter)";
    if room.available_bytes < ROOM_MIN_BYTES {
        Finding::bad(
            CHECK,
            found,
            "a new segment may not fit: events are refused until there is room",
        )
        .advise(advice)
    } else if room.inodes > 0 && room.inodes_free < room.inodes / 100 {
        Finding::warning(
            CHECK,
            found,
            "each segment is two files, and few more can be made",
        )
        .advise(advice)
    } else if room.available_bytes < ROOM_LOW_BYTES || room.available_bytes < room.size_bytes / ROOM_LOW_PART
    {
        Finding::warning(
            CHECK,
            found,
            "a busy node fills this soon; full, it refuses events",
        )
        .advise(advice)
    } else {
        Finding::good(CHECK, found, "room for events")
    }
}

pub(super) fn direct_io(writes: Option<&WriteFacts>, is_needed: bool) -> Finding {
    const CHECK: &str = "direct I/O";
    let Some(writes) = writes else {
        return not_written(CHECK);
    };
    if let Some(trouble) = &writes.trouble {
        return Finding::bad(
            CHECK,
            trouble,
            "a file could not be written in the data directory",
        )
        .advise("see the data directory and its free space above");
    }
    let aligned = match writes.direct_align_bytes {
        Some((memory, place)) if (memory, place) != (0, 0) => {
            format!("; the file system wants {memory} bytes of alignment in memory and {place} in files")
        }
        _ => String::new(),
    };
    let too_coarse = writes
        .direct_align_bytes
        .is_some_and(|(memory, place)| memory > BLOCK_BYTES || place > BLOCK_BYTES);
    match &writes.direct_trouble {
        None if too_coarse => Finding::bad(
            CHECK,
            format!("works{aligned}"),
            format!("a node writes at multiples of {BLOCK_BYTES} bytes, which is not enough here"),
        )
        .advise("make the file system with blocks of 4096 bytes"),
        None => Finding::good(
            CHECK,
            format!("a block was written past the page cache{aligned}"),
            "events go from the node's memory to the device without a copy",
        ),
        Some(trouble) => {
            let found = format!("does not work: {trouble}{aligned}");
            match is_needed {
                true => Finding::bad(
                    CHECK,
                    found,
                    "a node refuses to start here, since direct_io is \"require\"",
                )
                .advise(
                    "store on ext4 or xfs, or set direct_io to \"auto\" and accept the page cache's cost",
                ),
                false => Finding::warning(
                    CHECK,
                    found,
                    "log files go through the page cache: more CPU, less even latencies",
                )
                .advise("store on ext4 or xfs"),
            }
        }
    }
}

fn not_written(check: &'static str) -> Finding {
    Finding::new(
        check,
        Verdict::Skipped,
        "not tried",
        "nothing was written to the data directory",
    )
}

/// So many of a thousand are at most this; the values are sorted.
fn per_mille(sorted: &[u64], part: usize) -> u64 {
    let place = (sorted.len() * part).div_ceil(1000).saturating_sub(1);
    sorted.get(place).copied().unwrap_or(0)
}

pub(super) fn syncs(writes: Option<&WriteFacts>) -> Finding {
    const CHECK: &str = "sync latency";
    let Some(writes) = writes else {
        return not_written(CHECK);
    };
    let (Some(last), None) = (writes.syncs_us.last(), &writes.trouble) else {
        return not_written(CHECK);
    };
    let (half, high) = (per_mille(&writes.syncs_us, 500), per_mille(&writes.syncs_us, 990));
    let found = format!(
        "{} writes of 4 KiB with fdatasync: half within {half} us, 99 of 100 within {high} us, the longest {last} us",
        writes.syncs_us.len()
    );
    if half < SYNC_IMPOSSIBLE_US {
        Finding::warning(
            CHECK,
            found,
            "no device syncs so fast: it probably does not reach one",
        )
        .advise("see what the file system and the device (or the virtual machine's host) do with a sync")
    } else if half > SYNC_SLOW_US {
        Finding::warning(
            CHECK,
            found,
            "each acknowledgement of a topic with durability synced takes as long; rates stay high only with many producers",
        )
        .advise("use a device with power-loss protection, or durability written where a power cut may lose the last events")
    } else {
        Finding::good(
            CHECK,
            found,
            "what an acknowledgement of a topic with durability synced takes at least",
        )
    }
}
