//! What the system says of the process and of its device.

use std::path::Path;

/// The process, as the kernel counts it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// CPU time of all threads.
    pub cpu_us: u64,
    /// Memory that is there.
    pub resident_bytes: u64,
    /// Addresses that are in use.
    pub virtual_bytes: u64,
    /// Descriptors.
    pub open_fds: u64,
    /// How many of these it may have.
    pub max_fds: u64,
}

/// The file system of the data directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    /// All of it.
    pub size_bytes: u64,
    /// What is left for this process's user.
    pub available_bytes: u64,
}

impl Process {
    /// The own process. What cannot be read is 0.
    pub fn look() -> Self {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
        let ticks = rustix::param::clock_ticks_per_second().max(1);
        let page = rustix::param::page_size() as u64;
        let (virtual_pages, resident_pages) = pages(&statm);
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        Self {
            cpu_us: cpu_ticks(&stat).saturating_mul(1_000_000) / ticks,
            resident_bytes: resident_pages.saturating_mul(page),
            virtual_bytes: virtual_pages.saturating_mul(page),
            open_fds: open_fds(),
            max_fds: limit.current.unwrap_or(u64::MAX),
        }
    }
}

impl Disk {
    /// The file system of this directory; nothing when it cannot be asked.
    pub fn look(dir: &Path) -> Option<Self> {
        let stat = rustix::fs::statvfs(dir).ok()?;
        Some(Self {
            size_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
            available_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
        })
    }
}

/// Linux 6.2 and later tell the number as the directory's size. Before, it is counted, which takes milliseconds where there are
/// thousands.
fn open_fds() -> u64 {
    match std::fs::metadata("/proc/self/fd").map(|dir| dir.len()) {
        Ok(count @ 1..) => count,
        _ => std::fs::read_dir("/proc/self/fd").map_or(0, |dir| dir.count() as u64),
    }
}

/// User and system time in `/proc/self/stat`. The name before them may have spaces and brackets.
fn cpu_ticks(stat: &str) -> u64 {
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let field = |place: usize| {
        after_name
            .split_whitespace()
            .nth(place)
            .and_then(|text| text.parse::<u64>().ok())
    };
    field(11).unwrap_or(0).saturating_add(field(12).unwrap_or(0))
}

fn pages(statm: &str) -> (u64, u64) {
    let mut fields = statm.split_whitespace().map(|text| text.parse().unwrap_or(0));
    (fields.next().unwrap_or(0), fields.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_lines_are_read() {
        let stat = "42 (a b) c) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20";
        assert_eq!(cpu_ticks(stat), 300);
        assert_eq!(cpu_ticks(""), 0);
        assert_eq!(pages("100 20 3"), (100, 20));
    }

    #[test]
    fn this_process_and_its_device_are_there() {
        let process = Process::look();
        assert!(
            process.resident_bytes > 0 && process.open_fds > 0 && process.max_fds > 0,
            "{process:?}"
        );
        let disk = Disk::look(Path::new("/")).unwrap();
        assert!(disk.size_bytes >= disk.available_bytes && disk.size_bytes > 0);
        assert_eq!(Disk::look(Path::new("/does/not/exist")), None);
    }
}
