//! A real ext4 file system of a test's own, on a loop device, whose power can be cut.
//!
//! The cut is the file system's own (`EXT4_IOC_SHUTDOWN` without flushing its journal, sent by `xfs_io`): from then on
//! every access fails, and what the journal had not committed is gone when the file system is mounted again. The file
//! under the loop device is accessed directly, past this machine's page cache.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

/// See the module. Unmounted and removed when dropped.
pub struct LoopDisk {
    image: PathBuf,
    mount: PathBuf,
    device: String,
    is_mounted: bool,
}

fn run(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    Err(format!(
        "{program} {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    ))
}

fn text(path: &Path) -> &str {
    path.to_str().expect("paths of tests are UTF-8")
}

impl LoopDisk {
    /// Makes a file system of this size, with its files in `dir`, and mounts it.
    ///
    /// # Errors
    /// When this machine cannot do that: not root, no loop devices, or a program is missing.
    pub fn make(dir: &Path, bytes: u64) -> Result<Self, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("only root can mount file systems".to_owned());
        }
        run("xfs_io", &["-V"]).map_err(|error| format!("{error} (package xfsprogs)"))?;
        let image = dir.join("disk.img");
        let mount = dir.join("disk");
        let file = std::fs::File::create(&image).map_err(|error| error.to_string())?;
        file.set_len(bytes).map_err(|error| error.to_string())?;
        std::fs::create_dir_all(&mount).map_err(|error| error.to_string())?;
        run("mkfs.ext4", &["-q", "-F", "-b", "4096", text(&image)])?;
        let device = run("losetup", &["--find", "--show", "--direct-io=on", text(&image)])?;
        let mut disk = Self {
            image,
            mount,
            device,
            is_mounted: false,
        };
        disk.mount()?;
        Ok(disk)
    }

    /// The same, or nothing and a line that says why. Where `MOFKA_TORTURE` is set a machine that cannot do it fails
    /// the test.
    ///
    /// # Panics
    /// See above.
    pub fn make_or_skip(dir: &Path, bytes: u64) -> Option<Self> {
        match Self::make(dir, bytes) {
            Ok(disk) => Some(disk),
            Err(reason) if std::env::var_os("MOFKA_TORTURE").is_some() => {
                panic!("this test needs a loop-mounted file system: {reason}")
            }
            Err(reason) => {
                println!("SKIPPED: a loop-mounted file system is needed: {reason}");
                None
            }
        }
    }

    fn mount(&mut self) -> Result<(), String> {
        run("mount", &[&self.device, text(&self.mount)])?;
        self.is_mounted = true;
        Ok(())
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.mount
    }

    /// Cuts the power.
    ///
    /// # Panics
    /// When that does not work.
    pub fn cut(&self) {
        run("xfs_io", &["-x", "-c", "shutdown", text(&self.mount)]).unwrap();
    }

    /// Power returns: the file system is mounted again, with what its journal holds. Nobody may use it meanwhile.
    ///
    /// # Panics
    /// When that does not work.
    pub fn restore(&mut self) {
        // Processes that were killed a moment ago may still be letting go of it.
        let deadline = Instant::now() + Duration::from_secs(30);
        while let Err(error) = run("umount", &[text(&self.mount)]) {
            assert!(Instant::now() < deadline, "{error}");
            thread::sleep(Duration::from_millis(50));
        }
        self.is_mounted = false;
        self.mount().unwrap();
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        if self.is_mounted
            && let Err(error) = run("umount", &[text(&self.mount)])
        {
            eprintln!("{error}; detached lazily");
            run("umount", &["-l", text(&self.mount)]).ok();
        }
        run("losetup", &["-d", &self.device]).ok();
        std::fs::remove_file(&self.image).ok();
    }
}
