//! Looks at the machine. Where it looks can be another root, for tests.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::Access;
use rustix::process::Resource;

use crate::commands::doctor::device::{self, read};
use crate::commands::doctor::facts::{
    CpuFacts, DirFacts, Facts, LimitFacts, MemoryFacts, Mount, RingFacts, Room, Wanted,
};
use crate::commands::doctor::{places, ring, writes};

/// CAP_IPC_LOCK among a process's capabilities.
const MAY_LOCK_BIT: u32 = 14;

/// Where the kernel tells of itself.
#[derive(Clone, Debug)]
pub(crate) struct Roots {
    pub(crate) proc: PathBuf,
    pub(crate) sys: PathBuf,
    pub(crate) root: PathBuf,
}

impl Default for Roots {
    fn default() -> Self {
        Self {
            proc: PathBuf::from("/proc"),
            sys: PathBuf::from("/sys"),
            root: PathBuf::from("/"),
        }
    }
}

/// All facts for such a node. With `may_write`, files are made in the data directory for a moment.
pub(crate) fn facts(roots: &Roots, wanted: Wanted, may_write: bool) -> Facts {
    let status = read(&roots.proc.join("self/status")).unwrap_or_default();
    let dir = directory(roots, &wanted.data_dir);
    let mut mount = mount_of(roots, &dir.looked_at);
    let number = device_number(&dir.looked_at, mount.as_ref());
    if let Some((mount, number)) = mount.as_mut().zip(number) {
        mount.lacks_journal = lacks_journal(roots, number);
    }
    let cpus = cpus(roots);
    let shards = wanted.shards.unwrap_or(cpus.usable);
    Facts {
        kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        ring: RingFacts {
            outcome: Some(ring::look()),
            disabled: read(&roots.proc.join("sys/kernel/io_uring_disabled"))
                .and_then(|text| text.parse().ok()),
            is_filtered: field(&status, "Seccomp:").is_some_and(|mode| mode != "0"),
            container: container(roots),
        },
        limits: limits(&status),
        devices: number.map_or_else(Vec::new, |(major, minor)| {
            device::behind(&roots.sys, major, minor)
        }),
        room: room(&dir.looked_at),
        memory: memory(roots),
        clock: read(
            &roots
                .sys
                .join("devices/system/clocksource/clocksource0/current_clocksource"),
        ),
        places: places::look(&wanted, shards),
        writes: (may_write && dir.trouble.is_none()).then(|| writes::look(&dir.looked_at)),
        cpus,
        mount,
        dir,
        wanted,
    }
}

/// The first word after a name at the begin of a line.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()
}

fn container(roots: &Roots) -> Option<String> {
    for (file, kind) in [(".dockerenv", "Docker"), ("run/.containerenv", "Podman")] {
        if roots.root.join(file).exists() {
            return Some(kind.to_owned());
        }
    }
    let groups = read(&roots.proc.join("1/cgroup")).unwrap_or_default();
    let known = [
        ("kubepods", "Kubernetes"),
        ("docker", "Docker"),
        ("libpod", "Podman"),
        ("lxc", "LXC"),
    ];
    known
        .iter()
        .find(|(word, _)| groups.contains(word))
        .map(|(_, kind)| (*kind).to_owned())
}

fn limits(status: &str) -> LimitFacts {
    let memlock = rustix::process::getrlimit(Resource::Memlock);
    let files = rustix::process::getrlimit(Resource::Nofile);
    let capabilities = field(status, "CapEff:").and_then(|hex| u64::from_str_radix(hex, 16).ok());
    LimitFacts {
        memlock_bytes: memlock.current,
        may_lock: capabilities.is_some_and(|bits| bits >> MAY_LOCK_BIT & 1 == 1),
        files: files.current,
        files_hard: files.maximum,
    }
}

fn directory(roots: &Roots, dir: &Path) -> DirFacts {
    let whole = std::path::absolute(dir).unwrap_or_else(|_| dir.to_path_buf());
    let looked_at = whole
        .ancestors()
        .find(|path| path.exists())
        .unwrap_or(Path::new("/"))
        .to_path_buf();
    let exists = looked_at == whole;
    let usable = rustix::fs::access(&looked_at, Access::WRITE_OK | Access::EXEC_OK | Access::READ_OK);
    let trouble = match usable {
        _ if !looked_at.is_dir() => Some(format!("{} is no directory", looked_at.display())),
        Err(error) => Some(format!("{} cannot be written: {error}", looked_at.display())),
        Ok(()) => None,
    };
    DirFacts {
        node: exists.then(|| node_in(roots, &whole)).flatten(),
        looked_at,
        exists,
        trouble,
    }
}

/// The process that holds the lock of a data directory. It is read, not tried: a node that starts meanwhile must get it.
fn node_in(roots: &Roots, dir: &Path) -> Option<u32> {
    let inode = fs::metadata(dir.join("lock")).ok()?.ino().to_string();
    let locks = read(&roots.proc.join("locks"))?;
    locks.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, "FLOCK", _, _, pid, place, ..] = words.as_slice() else {
            return None;
        };
        let same = place.rsplit(':').next() == Some(inode.as_str());
        same.then(|| pid.parse().ok()).flatten()
    })
}

/// The mount with the longest point above a path; the last of those that are mounted over each other.
fn mount_of(roots: &Roots, path: &Path) -> Option<Mount> {
    let real = fs::canonicalize(path).ok()?;
    let text = read(&roots.proc.join("self/mountinfo"))?;
    let mounts = text.lines().filter_map(mount);
    mounts
        .filter(|mount| real.starts_with(&mount.point))
        .max_by_key(|mount| mount.point.len())
}

/// A line of mountinfo: `36 35 98:0 /sub /point options optional... - type source options`.
fn mount(line: &str) -> Option<Mount> {
    let (before, after) = line.split_once(" - ")?;
    let mut before = before.split(' ').skip(4);
    let mut after = after.split(' ');
    let (point, options) = (before.next()?, before.next()?);
    let (kind, source, more) = (after.next()?, after.next()?, after.next().unwrap_or_default());
    let mut all: Vec<String> = options.split(',').map(str::to_owned).collect();
    for option in more.split(',').filter(|option| !option.is_empty()) {
        if !all.iter().any(|known| known == option) {
            all.push(option.to_owned());
        }
    }
    Some(Mount {
        point: unescaped(point),
        kind: kind.to_owned(),
        source: unescaped(source),
        options: all,
        lacks_journal: false,
    })
}

/// Whether the ext4 on this device says that it has no journal.
fn lacks_journal(roots: &Roots, (major, minor): (u32, u32)) -> bool {
    let link = roots.sys.join(format!("dev/block/{major}:{minor}"));
    let Ok(block) = fs::read_link(link) else {
        return false;
    };
    let of_file_system = roots
        .sys
        .join("fs/ext4")
        .join(block.file_name().unwrap_or_default());
    read(&of_file_system.join("journal_task")).is_some_and(|task| task == "<none>")
}

/// Blanks and the like are written as `\040`.
fn unescaped(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (code, plain)| text.replace(code, plain))
}

/// The number of the device behind a path: the file system's own or, where it has none (btrfs), that of what is mounted.
fn device_number(path: &Path, mount: Option<&Mount>) -> Option<(u32, u32)> {
    let own = fs::metadata(path).ok()?.dev();
    let number = match rustix::fs::major(own) {
        0 => {
            let source = Path::new(&mount?.source);
            fs::metadata(source).ok().filter(|_| source.is_absolute())?.rdev()
        }
        _ => own,
    };
    Some((rustix::fs::major(number), rustix::fs::minor(number)))
}

fn room(path: &Path) -> Option<Room> {
    let stat = rustix::fs::statvfs(path).ok()?;
    Some(Room {
        size_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
        available_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
        inodes: stat.f_files,
        inodes_free: stat.f_favail,
    })
}

/// The directories of this process's control group and of those above it, for a controller of version 1 or for version 2.
fn groups(roots: &Roots, controller: &str) -> Vec<PathBuf> {
    let text = read(&roots.proc.join("self/cgroup")).unwrap_or_default();
    let mut dirs = Vec::new();
    for line in text.lines() {
        let mut parts = line.splitn(3, ':');
        let (_, names, path) = (
            parts.next(),
            parts.next().unwrap_or_default(),
            parts.next().unwrap_or("/"),
        );
        let base = roots.sys.join("fs/cgroup");
        let base = match names {
            "" => base,
            _ if names.split(',').any(|name| name == controller) => base.join(names),
            _ => continue,
        };
        let path = Path::new(path.trim_start_matches('/'));
        dirs.extend(path.ancestors().map(|part| base.join(part)));
    }
    dirs
}

fn cpus(roots: &Roots) -> CpuFacts {
    let usable = match rustix::thread::sched_getaffinity(None) {
        Ok(set) => usize::try_from(set.count()).unwrap_or(1),
        Err(_) => 1,
    };
    let of_group = |dir: PathBuf| {
        let (quota, period) = match read(&dir.join("cpu.max")) {
            Some(text) => {
                let (quota, period) = text.split_once(' ')?;
                (quota.parse::<f64>().ok()?, period.parse::<f64>().ok()?)
            }
            None => (
                read(&dir.join("cpu.cfs_quota_us"))?.parse().ok()?,
                read(&dir.join("cpu.cfs_period_us"))?.parse().ok()?,
            ),
        };
        (quota > 0.0 && period > 0.0).then(|| quota / period)
    };
    CpuFacts {
        usable: usable.max(1),
        quota: groups(roots, "cpu")
            .into_iter()
            .filter_map(of_group)
            .reduce(f64::min),
    }
}

fn memory(roots: &Roots) -> MemoryFacts {
    let info = read(&roots.proc.join("meminfo")).unwrap_or_default();
    let of = |name: &str| field(&info, name)?.parse::<u64>().ok()?.checked_mul(1024);
    let total_bytes = of("MemTotal:");
    let number = |dir: &Path, names: [&str; 2]| {
        let text = names.iter().find_map(|name| read(&dir.join(name)))?;
        text.parse::<u64>().ok()
    };
    // A limit above all memory is none.
    let limited = groups(roots, "memory").into_iter().filter_map(|dir| {
        let max = number(&dir, ["memory.max", "memory.limit_in_bytes"])?;
        let used = number(&dir, ["memory.current", "memory.usage_in_bytes"]);
        (Some(max) < total_bytes).then_some((max, used))
    });
    let tightest = limited.min_by_key(|(max, _)| *max);
    MemoryFacts {
        total_bytes,
        available_bytes: of("MemAvailable:"),
        group_max_bytes: tightest.map(|(max, _)| max),
        group_used_bytes: tightest.and_then(|(_, used)| used),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(files: &[(&str, &str)]) -> (tempfile::TempDir, Roots) {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let roots = Roots {
            proc: dir.path().join("proc"),
            sys: dir.path().join("sys"),
            root: dir.path().to_path_buf(),
        };
        (dir, roots)
    }

    #[test]
    fn limits_of_control_groups_are_the_tightest_on_the_way_up() {
        let (_dir, roots) = machine(&[
            ("proc/self/cgroup", "0::/system.slice/mofka.service\n"),
            (
                "proc/meminfo",
                "MemTotal:  8388608 kB\nMemAvailable: 4194304 kB\n",
            ),
            ("sys/fs/cgroup/system.slice/cpu.max", "150000 100000\n"),
            ("sys/fs/cgroup/system.slice/mofka.service/cpu.max", "max 100000\n"),
            (
                "sys/fs/cgroup/system.slice/mofka.service/memory.max",
                "1073741824\n",
            ),
            (
                "sys/fs/cgroup/system.slice/mofka.service/memory.current",
                "1048576\n",
            ),
            ("sys/fs/cgroup/system.slice/memory.max", "max\n"),
        ]);
        assert_eq!(cpus(&roots).quota, Some(1.5));
        let memory = memory(&roots);
        assert_eq!(
            (memory.total_bytes, memory.available_bytes),
            (Some(8 << 30), Some(4 << 30))
        );
        assert_eq!(
            (memory.group_max_bytes, memory.group_used_bytes),
            (Some(1 << 30), Some(1 << 20))
        );
    }

    #[test]
    fn control_groups_of_version_1_are_read_too() {
        let (_dir, roots) = machine(&[
            ("proc/self/cgroup", "4:memory:/a\n3:cpu,cpuacct:/\n0::/\n"),
            ("proc/meminfo", "MemTotal:  8388608 kB\n"),
            ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "50000\n"),
            ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n"),
            (
                "sys/fs/cgroup/memory/a/memory.limit_in_bytes",
                "9223372036854771712\n",
            ),
        ]);
        assert_eq!(cpus(&roots).quota, Some(0.5));
        assert_eq!(memory(&roots).group_max_bytes, None);
    }

    #[test]
    fn a_machine_that_tells_nothing_is_no_error() {
        let (_dir, roots) = machine(&[]);
        let facts = facts(&roots, Wanted::default(), false);
        assert!(facts.mount.is_none() && facts.clock.is_none() && facts.writes.is_none());
        assert_eq!((facts.cpus.quota, facts.ring.container), (None, None));
    }

    #[test]
    fn containers_are_known_by_their_marks() {
        assert_eq!(
            container(&machine(&[(".dockerenv", "")]).1).as_deref(),
            Some("Docker")
        );
        let kubernetes = machine(&[("proc/1/cgroup", "0::/kubepods.slice/pod1\n")]);
        assert_eq!(container(&kubernetes.1).as_deref(), Some("Kubernetes"));
    }

    #[test]
    fn mounts_are_read_with_their_options_and_the_deepest_counts() {
        let dir = tempfile::tempdir().unwrap();
        let below = dir.path().join("with blank/data");
        fs::create_dir_all(&below).unwrap();
        let point = dir
            .path()
            .join("with blank")
            .display()
            .to_string()
            .replace(' ', "\\040");
        let text = format!(
            "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 259:1 / {point} rw,noatime shared:1 - xfs /dev/nvme0n1p1 rw,attr2\n\
             3 1 0:5 / /elsewhere rw - tmpfs none rw\n"
        );
        let (_machine, roots) = machine(&[("proc/self/mountinfo", &text)]);
        let mount = mount_of(&roots, &below).unwrap();
        assert_eq!(
            (mount.kind.as_str(), mount.source.as_str()),
            ("xfs", "/dev/nvme0n1p1")
        );
        assert_eq!(mount.options, ["rw", "noatime", "attr2"]);
    }

    #[test]
    fn an_ext4_says_whether_it_has_a_journal() {
        let (_machine, roots) = machine(&[
            ("sys/fs/ext4/vda1/journal_task", "217\n"),
            ("sys/fs/ext4/dm-0/journal_task", "<none>\n"),
            ("sys/dev/block/none", ""),
        ]);
        for (number, name) in [("8:1", "vda1"), ("253:0", "dm-0"), ("9:9", "xfs-is-here")] {
            let link = roots.sys.join("dev/block").join(number);
            std::os::unix::fs::symlink(format!("../../devices/x/block/{name}"), link).unwrap();
        }
        let lacks = |number| lacks_journal(&roots, number);
        assert_eq!((lacks((8, 1)), lacks((253, 0))), (false, true));
        assert_eq!((lacks((9, 9)), lacks((1, 1))), (false, false));
    }

    #[test]
    fn a_node_in_the_directory_is_found_by_its_lock() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("lock"), "77\n").unwrap();
        let inode = fs::metadata(dir.path().join("lock")).unwrap().ino();
        let locks = format!(
            "1: POSIX  ADVISORY  READ 5 fe:00:{inode} 0 EOF\n2: FLOCK  ADVISORY  WRITE 77 fe:00:{inode} 0 EOF\n"
        );
        let (_machine, roots) = machine(&[("proc/locks", &locks)]);
        assert_eq!(directory(&roots, dir.path()).node, Some(77));
        let (_machine, roots) = machine(&[("proc/locks", "")]);
        let facts = directory(&roots, &dir.path().join("not/there"));
        assert_eq!((facts.exists, facts.node, facts.trouble), (false, None, None));
        assert_eq!(facts.looked_at, dir.path());
        let file = directory(&roots, &dir.path().join("lock"));
        assert!(
            file.trouble
                .is_some_and(|trouble| trouble.contains("no directory"))
        );
    }
}
