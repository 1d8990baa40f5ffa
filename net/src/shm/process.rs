//! Which process this is, asked without a system call: whoever shares something with the node asks at each event, since a
//! forked child has the same memory and must leave it alone.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use memmap2::MmapMut;
use rustix::mm::{Advice, madvise};

/// The id of this process, or 0 in a child that was forked since and did not ask yet. `None`: the kernel gave no such memory.
static REMEMBERED: OnceLock<Option<&'static AtomicU32>> = OnceLock::new();

/// The id of this process; in a forked child that of the child.
///
/// It is remembered in memory that the kernel empties in a forked child (`MADV_WIPEONFORK`, see madvise(2)), however it was
/// forked. Without such memory this is a system call.
pub fn this_process() -> u32 {
    let Some(remembered) = REMEMBERED.get_or_init(remember) else {
        return std::process::id();
    };
    // Relaxed: nothing else hangs on it, and all who write it in one process write the same.
    match remembered.load(Ordering::Relaxed) {
        0 => {
            let id = std::process::id();
            remembered.store(id, Ordering::Relaxed);
            id
        }
        id => id,
    }
}

fn remember() -> Option<&'static AtomicU32> {
    let memory = MmapMut::map_anon(size_of::<AtomicU32>()).ok()?;
    // A page of its own for the life of the process.
    let memory = Box::leak(Box::new(memory));
    let start: *mut AtomicU32 = memory.as_mut_ptr().cast();
    // SAFETY: the range is the mapping just made, which nobody else knows of; emptied memory is a valid number.
    unsafe { madvise(start.cast(), memory.len(), Advice::LinuxWipeOnFork) }.ok()?;
    // SAFETY: it is mapped for good, lies at the beginning of a page, and is reached through this reference alone from now on.
    Some(unsafe { &*start })
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    use super::*;

    #[test]
    fn a_forked_child_is_another_process() {
        let parent = this_process();
        assert_eq!(parent, std::process::id());
        let mut command = Command::new("true");
        let check = move || match this_process() {
            id if id != parent && id == std::process::id() && id == this_process() => Ok(()),
            _ => Err(io::ErrorKind::InvalidData.into()),
        };
        // SAFETY: the child only asks the system for its number, and reads and writes a word.
        unsafe { command.pre_exec(check) };
        assert!(command.status().unwrap().success());
        assert_eq!(this_process(), parent, "a child does not change its parent's");
    }

    #[test]
    fn here_the_kernel_remembers() {
        this_process();
        assert!(REMEMBERED.get().copied().flatten().is_some());
    }
}
