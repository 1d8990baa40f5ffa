//! The devices behind a directory: from a device's number through partitions, the device mapper and md, as /sys has them.

use std::fs;
use std::path::{Path, PathBuf};

use crate::commands::doctor::facts::Device;

/// How many layers of devices on devices are followed.
const LAYERS_MAX: usize = 8;
/// How many devices are looked at.
const DEVICES_MAX: usize = 64;

/// The devices behind one with this number.
pub(crate) fn behind(sys: &Path, major: u32, minor: u32) -> Vec<Device> {
    let link = sys.join(format!("dev/block/{major}:{minor}"));
    let mut found = Vec::new();
    if let Ok(dir) = fs::canonicalize(link) {
        follow(&dir, &[], &mut found);
    }
    found
}

fn follow(dir: &Path, through: &[String], found: &mut Vec<Device>) {
    if through.len() >= LAYERS_MAX || found.len() >= DEVICES_MAX {
        return;
    }
    let name = name_of(dir);
    // A partition has its device's queue one directory up.
    if dir.join("partition").exists()
        && let Some(parent) = dir.parent()
    {
        return follow(parent, &[through, &[name]].concat(), found);
    }
    let below = entries(&dir.join("slaves"));
    if below.is_empty() {
        found.push(device(dir, name, through.to_vec()));
        return;
    }
    let shown = read(&dir.join("dm/name")).map_or(name.clone(), |mapped| format!("{name} ({mapped})"));
    for path in below {
        if let Ok(real) = fs::canonicalize(path) {
            follow(&real, &[through, std::slice::from_ref(&shown)].concat(), found);
        }
    }
}

fn name_of(dir: &Path) -> String {
    dir.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    paths.sort();
    paths
}

/// The text of a file that has one line; nothing when it cannot be read or is empty.
pub(crate) fn read(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

fn device(dir: &Path, name: String, through: Vec<String>) -> Device {
    let queue = |file: &str| read(&dir.join("queue").join(file));
    let yes = |text: String| text != "0";
    Device {
        name,
        through,
        model: read(&dir.join("device/model")),
        rotational: queue("rotational").map(yes),
        scheduler: queue("scheduler").map(|text| chosen(&text)),
        write_cache: queue("write_cache"),
        fua: queue("fua").map(yes),
        logical_block_bytes: queue("logical_block_size").and_then(|text| text.parse().ok()),
    }
}

/// The word in brackets of `none [mq-deadline] kyber`.
fn chosen(text: &str) -> String {
    text.split_once('[')
        .and_then(|(_, rest)| rest.split_once(']'))
        .map_or_else(|| text.to_owned(), |(word, _)| word.to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A machine with an NVMe device with a partition, and a mapped device over two of those.
    fn machine() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        for n in 0..2 {
            let disk = format!("devices/pci/nvme{n}n1");
            write(&format!("{disk}/queue/rotational"), "0\n");
            write(&format!("{disk}/queue/scheduler"), "[none] mq-deadline\n");
            write(&format!("{disk}/queue/write_cache"), "write back\n");
            write(&format!("{disk}/queue/fua"), "1\n");
            write(&format!("{disk}/queue/logical_block_size"), "512\n");
            write(&format!("{disk}/device/model"), "A fast one   \n");
            write(&format!("{disk}/nvme{n}n1p1/partition"), "1\n");
        }
        write("devices/virtual/dm-0/dm/name", "vg-data\n");
        fs::create_dir_all(root.path().join("devices/virtual/dm-0/slaves")).unwrap();
        fs::create_dir_all(root.path().join("dev/block")).unwrap();
        for n in 0..2 {
            symlink(
                format!("../../../pci/nvme{n}n1/nvme{n}n1p1"),
                root.path()
                    .join(format!("devices/virtual/dm-0/slaves/nvme{n}n1p1")),
            )
            .unwrap();
        }
        symlink(
            "../../devices/pci/nvme0n1/nvme0n1p1",
            root.path().join("dev/block/259:1"),
        )
        .unwrap();
        symlink("../../devices/virtual/dm-0", root.path().join("dev/block/253:0")).unwrap();
        root
    }

    #[test]
    fn a_partition_leads_to_its_device() {
        let root = machine();
        let [device] = behind(root.path(), 259, 1).try_into().unwrap();
        assert_eq!(
            (device.name.as_str(), device.through.as_slice()),
            ("nvme0n1", &["nvme0n1p1".to_owned()][..])
        );
        assert_eq!(device.scheduler.as_deref(), Some("none"));
        assert_eq!((device.rotational, device.fua), (Some(false), Some(true)));
        assert_eq!(device.write_cache.as_deref(), Some("write back"));
        assert_eq!(
            (device.model.as_deref(), device.logical_block_bytes),
            (Some("A fast one"), Some(512))
        );
    }

    #[test]
    fn a_mapped_device_leads_to_all_that_it_is_made_of() {
        let root = machine();
        let devices = behind(root.path(), 253, 0);
        let names: Vec<&str> = devices.iter().map(|device| device.name.as_str()).collect();
        assert_eq!(names, ["nvme0n1", "nvme1n1"]);
        assert_eq!(devices[1].through, ["dm-0 (vg-data)", "nvme1n1p1"]);
    }

    #[test]
    fn what_is_no_device_leads_nowhere() {
        assert!(behind(machine().path(), 0, 42).is_empty());
        assert_eq!(chosen("none [mq-deadline] kyber"), "mq-deadline");
        assert_eq!(chosen("none"), "none");
    }
}
