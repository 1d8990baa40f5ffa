//! How much memory the process may have: the machine's, or what its control groups leave of it.

use std::fs;
use std::path::{Path, PathBuf};

/// Bytes of memory: `MemTotal` of `/proc/meminfo`, or the lowest limit of the process's control groups when that is lower.
/// `None` when the machine tells neither.
pub(crate) fn bytes() -> Option<u64> {
    bytes_under(Path::new("/"))
}

fn bytes_under(root: &Path) -> Option<u64> {
    let total = fs::read_to_string(root.join("proc/meminfo")).ok();
    let total = total.and_then(|info| of_meminfo(&info));
    let groups = groups(root).into_iter();
    // Version 2 and version 1. `max` is no number: no limit. Version 1 has a number above all memory for that.
    let limits = groups.filter_map(|dir| {
        let text = ["memory.max", "memory.limit_in_bytes"]
            .iter()
            .find_map(|name| fs::read_to_string(dir.join(name)).ok())?;
        text.trim().parse::<u64>().ok()
    });
    total.into_iter().chain(limits).min()
}

fn of_meminfo(info: &str) -> Option<u64> {
    let line = info.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib = line.split_whitespace().next()?.parse::<u64>().ok()?;
    kib.checked_mul(1024)
}

/// The directories of the process's control group for memory and of all above it: each of them limits it.
fn groups(root: &Path) -> Vec<PathBuf> {
    let text = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let mut dirs = Vec::new();
    for line in text.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next().unwrap_or_default(), parts.next().unwrap_or("/"));
        let base = root.join("sys/fs/cgroup");
        let base = match controllers {
            "" => base,
            names if names.split(',').any(|name| name == "memory") => base.join(names),
            _ => continue,
        };
        let path = Path::new(path.trim_start_matches('/'));
        dirs.extend(path.ancestors().map(|part| base.join(part)));
    }
    dirs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(files: &[(&str, &str)]) -> Option<u64> {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        bytes_under(dir.path())
    }

    const MEMINFO: (&str, &str) = ("proc/meminfo", "MemTotal:  8388608 kB\nMemFree: 1 kB\n");

    #[test]
    fn it_is_the_machines_where_nothing_limits_it() {
        assert_eq!(machine(&[MEMINFO]), Some(8 << 30));
        let unlimited = [
            MEMINFO,
            ("proc/self/cgroup", "4:cpu,memory:/a\n0::/b\n"),
            (
                "sys/fs/cgroup/cpu,memory/a/memory.limit_in_bytes",
                "9223372036854771712\n",
            ),
            ("sys/fs/cgroup/b/memory.max", "max\n"),
        ];
        assert_eq!(machine(&unlimited), Some(8 << 30));
        assert_eq!(machine(&[]), None);
        assert!(bytes() > Some(1 << 20), "this machine tells");
    }

    #[test]
    fn it_is_the_lowest_limit_of_its_control_groups() {
        let limited = [
            MEMINFO,
            ("proc/self/cgroup", "0::/slice/service\n"),
            ("sys/fs/cgroup/slice/service/memory.max", "max\n"),
            ("sys/fs/cgroup/slice/memory.max", "1073741824\n"),
        ];
        assert_eq!(machine(&limited), Some(1 << 30));
        let old = [
            MEMINFO,
            ("proc/self/cgroup", "4:memory:/a\n"),
            ("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "4096\n"),
        ];
        assert_eq!(machine(&old), Some(4096));
    }
}
