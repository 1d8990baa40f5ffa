//! Whether this process is the one that made a handle.
//!
//! A forked child has the memory, the locks and the sockets of its parent, and none of its threads: what waits there waits for
//! ever, and so does who wants a lock that was held at that moment. Asking the system who we are would be a system call for
//! every event; a handler that runs in the child costs nothing until there is one. (A child that is made without handlers of
//! forks, by the bare system call, is found by the client's own checks, which are fewer.)

use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::status::Failure;

/// Forks between the process that loaded the library and this one. Relaxed: it changes only while a process has one thread.
static FORKS: AtomicU64 = AtomicU64::new(0);
static WATCH: Once = Once::new();

extern "C" fn in_child() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

/// The process that made something.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owner {
    forks: u64,
    pid: u32,
}

impl Owner {
    /// This process.
    pub(crate) fn here() -> Self {
        WATCH.call_once(|| {
            // SAFETY: the handler only changes an atomic number, which is allowed in a child of any process. The library is never
            // unloaded (`build.rs`), so that it stays where it is. Without memory for it the client's own checks remain.
            unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
        });
        Self {
            forks: FORKS.load(Ordering::Relaxed),
            pid: std::process::id(),
        }
    }

    /// Whether this is a child of it, or of one.
    pub(crate) fn is_elsewhere(self) -> bool {
        FORKS.load(Ordering::Relaxed) != self.forks
    }

    /// Fails in a child.
    pub(crate) fn check(self) -> Result<(), Failure> {
        match self.is_elsewhere() {
            false => Ok(()),
            true => Err(Failure::forked(self.pid)),
        }
    }
}
