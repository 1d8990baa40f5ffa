//! Ctrl-C and SIGTERM: a command that is interrupted ends what it has begun, and says what that was.

use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::failure::{Failure, Outcome};

/// How often a read that waits looks whether it was interrupted.
const LOOK_EVERY: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};

/// Whether the command was asked to end.
#[derive(Debug, Clone)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// From now on the first signal is only noted; the second ends the process, as it would have without this.
    pub(crate) fn listen() -> Outcome<Self> {
        let came = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // In this order: the first sees whether a signal came before this one.
            flag::register_conditional_default(signal, Arc::clone(&came))
                .and_then(|_| flag::register(signal, Arc::clone(&came)))
                .map_err(|e| Failure::failed(format!("cannot handle signals: {e}")))?;
        }
        Ok(Self(came))
    }

    pub(crate) fn came(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Reads a file, a pipe or a terminal; an interruption is an error, also while nothing comes.
pub(crate) struct Interruptible {
    file: File,
    interrupt: Interrupt,
}

impl Interruptible {
    pub(crate) fn new(file: File, interrupt: &Interrupt) -> Self {
        Self {
            file,
            interrupt: interrupt.clone(),
        }
    }
}

impl Read for Interruptible {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.interrupt.came() {
                // Not of the kind Interrupted: that one means "again".
                return Err(io::Error::other("interrupted by a signal"));
            }
            let mut wanted = [PollFd::new(&self.file, PollFlags::IN)];
            match poll(&mut wanted, Some(&LOOK_EVERY)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => return self.file.read(buffer),
                Err(error) => return Err(error.into()),
            }
        }
    }
}
