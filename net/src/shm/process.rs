//! Which process this is, asked without a system call: whoever shares something with the node asks at each event, since a
//! forked child has the same memory and must leave it alone.

use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use memmap2::MmapMut;
use rustix::mm::{Advice, madvise};

/// Where the id of this process is, or 0 in a child that was forked since and did not ask yet. Null: nobody asked before.
/// No lock: one that another thread had at a fork would never be free in the child.
static REMEMBERED: AtomicPtr<AtomicU32> = AtomicPtr::new(ptr::null_mut());
/// Takes that place when the kernel gives no such memory; it is never written.
static UNKNOWN: AtomicU32 = AtomicU32::new(0);

/// The id of this process; in a forked child that of the child.
///
/// It is remembered in memory that the kernel empties in a forked child (`MADV_WIPEONFORK`, see madvise(2)), however it was
/// forked. Without such memory this is a system call.
pub fn this_process() -> u32 {
    let remembered = match REMEMBERED.load(Ordering::Acquire) {
        first if first.is_null() => remember(),
        // SAFETY: what is stored there is mapped for good or a static, and is reached by shared references alone.
        known => unsafe { &*known },
    };
    // Relaxed: nothing else hangs on it, and all who write it in one process write the same.
    match remembered.load(Ordering::Relaxed) {
        0 => {
            let id = std::process::id();
            if !ptr::eq(remembered, &raw const UNKNOWN) {
                remembered.store(id, Ordering::Relaxed);
            }
            id
        }
        id => id,
    }
}

/// Of several threads that come here at once the last one's page counts, and the others' are left: nothing hangs on which it is.
fn remember() -> &'static AtomicU32 {
    let place = emptied_in_children().unwrap_or(&UNKNOWN);
    REMEMBERED.store(ptr::from_ref(place).cast_mut(), Ordering::Release);
    place
}

fn emptied_in_children() -> Option<&'static AtomicU32> {
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
        let place = REMEMBERED.load(Ordering::Acquire).cast_const();
        assert!(!place.is_null() && !ptr::eq(place, &raw const UNKNOWN));
    }
}
