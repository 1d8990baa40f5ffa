//! Every verdict of every check, from facts that are made up.

use super::super::facts::{
    CpuFacts, Device, DirFacts, LimitFacts, MemoryFacts, Mount, PlaceFacts, PlaceTrouble, RingAbilities,
    RingError, RingFacts, Room, Wanted, WriteFacts,
};
use super::*;

const GIB: u64 = 1 << 30;

/// A machine on which all is as it should be.
fn good() -> Facts {
    Facts {
        wanted: Wanted::default(),
        kernel: "6.18.44-generic".to_owned(),
        ring: RingFacts {
            outcome: Some(Ok(RingAbilities {
                missing: Vec::new(),
                deferred: true,
                skips: true,
            })),
            disabled: Some(0),
            ..RingFacts::default()
        },
        limits: LimitFacts {
            memlock_bytes: None,
            may_lock: false,
            files: Some(1 << 20),
            files_hard: Some(1 << 20),
        },
        dir: DirFacts {
            looked_at: "/data".into(),
            exists: true,
            trouble: None,
            node: None,
        },
        mount: Some(mount("ext4", &["rw", "relatime"])),
        devices: vec![nvme()],
        room: Some(room(500 * GIB)),
        cpus: CpuFacts {
            usable: 4,
            quota: None,
        },
        memory: MemoryFacts {
            total_bytes: Some(32 * GIB),
            available_bytes: Some(30 * GIB),
            ..MemoryFacts::default()
        },
        clock: Some("tsc".to_owned()),
        places: vec![PlaceFacts {
            address: "na+sm".to_owned(),
            trouble: None,
        }],
        writes: Some(writes(20)),
    }
}

fn mount(kind: &str, options: &[&str]) -> Mount {
    Mount {
        point: "/data".to_owned(),
        kind: kind.to_owned(),
        source: "/dev/nvme0n1p1".to_owned(),
        options: options.iter().map(|option| (*option).to_owned()).collect(),
        lacks_journal: false,
    }
}

fn nvme() -> Device {
    Device {
        name: "nvme0n1".to_owned(),
        through: vec!["nvme0n1p1".to_owned()],
        model: Some("A fast one".to_owned()),
        rotational: Some(false),
        scheduler: Some("none".to_owned()),
        write_cache: Some("write back".to_owned()),
        fua: Some(true),
        logical_block_bytes: Some(512),
    }
}

fn room(available_bytes: u64) -> Room {
    Room {
        size_bytes: 1000 * GIB,
        available_bytes,
        inodes: 1000,
        inodes_free: 900,
    }
}

fn writes(sync_us: u64) -> WriteFacts {
    WriteFacts {
        trouble: None,
        direct_trouble: None,
        direct_align_bytes: Some((4, 512)),
        syncs_us: vec![sync_us; 100],
    }
}

#[track_caller]
fn is(finding: &Finding, verdict: Verdict, words: &[&str]) {
    assert_eq!(finding.verdict, verdict, "{finding:?}");
    let text = format!(
        "{} {} {}",
        finding.found,
        finding.meaning,
        finding.advice.clone().unwrap_or_default()
    );
    for word in words {
        assert!(text.contains(word), "no {word:?} in {finding:?}");
    }
    let has_advice = finding.advice.is_some();
    assert_eq!(
        has_advice,
        matches!(verdict, Verdict::Warning | Verdict::Bad),
        "{finding:?}"
    );
}

#[test]
fn a_good_machine_is_good_and_nothing_is_left_out() {
    let findings = all(&good());
    for finding in &findings {
        is(finding, Verdict::Good, &[]);
    }
    let checks: Vec<&str> = findings.iter().map(|finding| finding.check).collect();
    assert_eq!(
        checks,
        [
            "kernel",
            "io_uring",
            "locked memory",
            "open files",
            "CPUs",
            "memory",
            "clock",
            "data directory",
            "file system",
            "device",
            "free space",
            "direct I/O",
            "sync latency",
            "listen"
        ]
    );
}

#[test]
fn kernels_are_compared_by_number() {
    is(
        &machine::kernel("5.4.0-1-amd64"),
        Verdict::Bad,
        &["5.8", "does not start"],
    );
    is(&machine::kernel("5.15.0"), Verdict::Warning, &["6.1"]);
    is(&machine::kernel("6.1.0-18-cloud"), Verdict::Good, &[]);
    is(&machine::kernel("10.0"), Verdict::Good, &[]);
    is(&machine::kernel("?"), Verdict::Bad, &[]);
}

#[test]
fn why_there_is_no_ring_is_told() {
    let no_ring = |number: i32, disabled, is_filtered, container: Option<&str>| {
        machine::ring(&RingFacts {
            outcome: Some(Err(RingError {
                number,
                message: "refused".to_owned(),
            })),
            disabled,
            is_filtered,
            container: container.map(str::to_owned),
        })
    };
    let (perm, nosys, nomem, mfile) = (1, 38, 12, 24);
    is(
        &no_ring(perm, Some(2), false, None),
        Verdict::Bad,
        &["io_uring_disabled is 2", "sysctl"],
    );
    is(
        &no_ring(perm, Some(1), true, None),
        Verdict::Bad,
        &["io_uring_group"],
    );
    is(
        &no_ring(perm, Some(0), true, Some("Docker")),
        Verdict::Bad,
        &["seccomp", "Docker", "--security-opt"],
    );
    is(
        &no_ring(nosys, None, true, None),
        Verdict::Bad,
        &["seccomp", "SystemCallFilter"],
    );
    is(
        &no_ring(nosys, None, false, None),
        Verdict::Bad,
        &["CONFIG_IO_URING"],
    );
    is(
        &no_ring(nomem, Some(0), false, None),
        Verdict::Bad,
        &["LimitMEMLOCK"],
    );
    is(
        &no_ring(mfile, Some(0), false, None),
        Verdict::Bad,
        &["LimitNOFILE"],
    );
    is(&no_ring(perm, Some(0), false, None), Verdict::Bad, &["SELinux"]);
    let mut lacking = good().ring;
    lacking.outcome = Some(Ok(RingAbilities {
        missing: vec!["fallocate"],
        ..RingAbilities::default()
    }));
    is(&machine::ring(&lacking), Verdict::Bad, &["fallocate"]);
}

#[test]
fn limits_are_held_against_what_the_node_needs() {
    let limits = |memlock_bytes, may_lock, files| LimitFacts {
        memlock_bytes,
        may_lock,
        files: Some(files),
        files_hard: None,
    };
    is(
        &machine::memlock(&limits(Some(64 << 10), true, 1), 2),
        Verdict::Bad,
        &["64.0 KiB", "512.0 KiB"],
    );
    is(
        &machine::memlock(&limits(Some(8 << 20), false, 1), 2),
        Verdict::Warning,
        &["64.0 MiB", "ulimit -l"],
    );
    is(
        &machine::memlock(&limits(Some(8 << 20), true, 1), 2),
        Verdict::Good,
        &["CAP_IPC_LOCK"],
    );
    is(
        &machine::memlock(&limits(Some(64 << 20), false, 1), 2),
        Verdict::Good,
        &[],
    );
    is(
        &machine::files(&limits(None, false, 100), 4096),
        Verdict::Bad,
        &["ulimit -n"],
    );
    is(
        &machine::files(&limits(None, false, 1024), 4096),
        Verdict::Warning,
        &["5120", "no hard limit"],
    );
    is(&machine::files(&limits(None, false, 1024), 0), Verdict::Good, &[]);
}

#[test]
fn cpus_and_memory_are_those_that_the_process_gets() {
    let cpus = |usable, quota, shards| machine::cpus(&CpuFacts { usable, quota }, shards);
    is(&cpus(4, None, None), Verdict::Good, &["4 shards"]);
    is(&cpus(4, None, Some(8)), Verdict::Warning, &["shards to 4"]);
    is(
        &cpus(8, Some(1.5), None),
        Verdict::Warning,
        &["1.5 cores", "shards to 1"],
    );
    is(&cpus(8, Some(0.5), Some(1)), Verdict::Warning, &["shards to 1"]);
    is(&cpus(8, Some(4.0), Some(4)), Verdict::Good, &[]);
    let memory = |total, available, group: Option<(u64, u64)>| {
        let facts = MemoryFacts {
            total_bytes: Some(total),
            available_bytes: Some(available),
            group_max_bytes: group.map(|(max, _)| max),
            group_used_bytes: group.map(|(_, used)| used),
        };
        machine::memory(&facts, 4, 192 << 20)
    };
    is(&memory(32 * GIB, 30 * GIB, None), Verdict::Good, &["1.0 GiB"]);
    is(
        &memory(32 * GIB, GIB / 2, None),
        Verdict::Warning,
        &["others use"],
    );
    is(&memory(GIB / 2, GIB / 2, None), Verdict::Bad, &["fewer shards"]);
    is(
        &memory(32 * GIB, 30 * GIB, Some((GIB / 2, 0))),
        Verdict::Bad,
        &["control group"],
    );
    is(
        &memory(32 * GIB, 30 * GIB, Some((2 * GIB, 3 * GIB / 2))),
        Verdict::Warning,
        &["512.0 MiB are free"],
    );
    is(
        &machine::memory(&MemoryFacts::default(), 1, 1),
        Verdict::Skipped,
        &[],
    );
    is(&machine::clock(Some("hpet")), Verdict::Warning, &["tsc"]);
    is(&machine::clock(Some("kvm-clock")), Verdict::Good, &[]);
    is(&machine::clock(None), Verdict::Skipped, &[]);
}

#[test]
fn file_systems_are_judged_by_kind_and_options() {
    let of = |kind: &str, options: &[&str]| storage::file_system(Some(&mount(kind, options)));
    is(&of("xfs", &["rw"]), Verdict::Good, &["xfs on /data"]);
    is(&of("ext4", &["ro"]), Verdict::Bad, &["reading only"]);
    is(&of("ext4", &["rw", "nobarrier"]), Verdict::Bad, &["power cut"]);
    is(&of("ext4", &["rw", "barrier=0"]), Verdict::Bad, &["power cut"]);
    is(&of("ext4", &["rw", "sync"]), Verdict::Warning, &["sync"]);
    let without_journal = Mount {
        lacks_journal: true,
        ..mount("ext4", &["rw"])
    };
    is(
        &storage::file_system(Some(&without_journal)),
        Verdict::Warning,
        &["power cut", "tune2fs"],
    );
    is(&of("tmpfs", &["rw"]), Verdict::Bad, &["memory", "type memory"]);
    is(&of("overlay", &["rw"]), Verdict::Warning, &["volume"]);
    is(&of("btrfs", &["rw"]), Verdict::Warning, &["chattr"]);
    is(&of("nfs4", &["rw"]), Verdict::Warning, &["local device"]);
    is(&of("fuse.sshfs", &["rw"]), Verdict::Warning, &["program"]);
    is(&of("vfat", &["rw"]), Verdict::Warning, &["not among"]);
    is(&storage::file_system(None), Verdict::Skipped, &[]);
}

#[test]
fn devices_room_and_directories() {
    let with = |change: fn(&mut Device)| {
        let mut device = nvme();
        change(&mut device);
        storage::device(&device)
    };
    is(
        &with(|_| ()),
        Verdict::Good,
        &["nvme0n1 (A fast one) through nvme0n1p1", "write back with FUA"],
    );
    is(
        &with(|d| d.write_cache = Some("write through".to_owned())),
        Verdict::Good,
        &["says that it is done"],
    );
    is(
        &with(|d| d.scheduler = Some("bfq".to_owned())),
        Verdict::Warning,
        &["/sys/block/nvme0n1/queue/scheduler"],
    );
    is(
        &with(|d| d.logical_block_bytes = Some(16_384)),
        Verdict::Bad,
        &["16384"],
    );
    is(&with(|d| d.rotational = Some(true)), Verdict::Warning, &["turns"]);
    // Virtual disks of this name say that they turn, whatever is below.
    let turning = |d: &mut Device| (d.rotational, d.name) = (Some(true), "vda".to_owned());
    is(&with(turning), Verdict::Good, &[]);
    is(
        &storage::room(Some(room(GIB / 2))),
        Verdict::Bad,
        &["512.0 MiB", "retention"],
    );
    is(&storage::room(Some(room(20 * GIB))), Verdict::Warning, &["soon"]);
    let few_inodes = Room {
        inodes_free: 5,
        ..room(500 * GIB)
    };
    is(
        &storage::room(Some(few_inodes)),
        Verdict::Warning,
        &["5 of 1000 inodes"],
    );
    is(&storage::room(None), Verdict::Skipped, &[]);
    let dir = |trouble: Option<&str>, node, exists| {
        storage::directory(&DirFacts {
            looked_at: "/data".into(),
            exists,
            trouble: trouble.map(str::to_owned),
            node,
        })
    };
    is(
        &dir(Some("/data cannot be written"), None, true),
        Verdict::Bad,
        &["chown"],
    );
    is(&dir(None, Some(77), true), Verdict::Good, &["process 77"]);
    is(&dir(None, None, false), Verdict::Good, &["not there yet"]);
}

#[test]
fn what_was_written_is_judged_and_what_was_not_is_said() {
    let with = |change: fn(&mut WriteFacts)| {
        let mut writes = writes(20);
        change(&mut writes);
        writes
    };
    is(
        &storage::direct_io(Some(&writes(20)), true),
        Verdict::Good,
        &["4 bytes of alignment in memory and 512"],
    );
    let refused = with(|writes| writes.direct_trouble = Some("Invalid argument".to_owned()));
    is(
        &storage::direct_io(Some(&refused), true),
        Verdict::Bad,
        &["Invalid argument", "\"auto\""],
    );
    is(
        &storage::direct_io(Some(&refused), false),
        Verdict::Warning,
        &["page cache"],
    );
    let coarse = with(|writes| writes.direct_align_bytes = Some((512, 16_384)));
    is(
        &storage::direct_io(Some(&coarse), true),
        Verdict::Bad,
        &["16384", "4096"],
    );
    let failed = with(|writes| writes.trouble = Some("No space left".to_owned()));
    is(
        &storage::direct_io(Some(&failed), true),
        Verdict::Bad,
        &["No space left"],
    );
    is(&storage::syncs(Some(&failed)), Verdict::Skipped, &[]);
    is(&storage::direct_io(None, true), Verdict::Skipped, &[]);
    is(&storage::syncs(None), Verdict::Skipped, &[]);
    is(
        &storage::syncs(Some(&writes(20))),
        Verdict::Good,
        &["100 writes", "within 20 us"],
    );
    is(
        &storage::syncs(Some(&writes(9000))),
        Verdict::Warning,
        &["power-loss protection"],
    );
    is(
        &storage::syncs(Some(&writes(1))),
        Verdict::Warning,
        &["does not reach"],
    );
}

#[test]
fn an_address_in_use_is_fine_while_the_node_runs() {
    let place = |trouble, node| {
        let facts = PlaceFacts {
            address: "tcp://0.0.0.0:9000".to_owned(),
            trouble,
        };
        machine::place(&facts, node)
    };
    let taken = || Some(PlaceTrouble::Taken("port 9000: in use".to_owned()));
    is(&place(None, None), Verdict::Good, &[]);
    is(&place(taken(), Some(7)), Verdict::Good, &["process 7"]);
    is(&place(taken(), None), Verdict::Bad, &["ss -tlnp"]);
    let refused = Some(PlaceTrouble::Refused("port 80: Permission denied".to_owned()));
    is(&place(refused, Some(7)), Verdict::Bad, &["Permission denied"]);
}

#[test]
fn a_device_that_is_not_found_is_said() {
    let mut facts = good();
    facts.devices.clear();
    let findings = all(&facts);
    let device = findings.iter().find(|finding| finding.check == "device").unwrap();
    is(device, Verdict::Skipped, &["no block device"]);
}
