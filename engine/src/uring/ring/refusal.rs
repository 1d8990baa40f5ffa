//! What is done where the kernel takes nothing: it is asked again, for a while.
//!
//! `io_uring_enter` fails only where it took *nothing* of what is queued; else it says how much. `EAGAIN` (it has no memory for a
//! request) and `EBUSY` (completions wait to be taken first) pass, and what was queued is still queued. So to submit it again does nothing twice, and
//! no sync is made again that failed: one that is queued was never begun. What failed *in* the kernel is told by a completion,
//! and never asked for again.

use std::io;
use std::time::{Duration, Instant};

use super::{Ring, is_passing};

/// How long the kernel may take nothing before whoever has something for it fails.
const REFUSED_MAX: Duration = Duration::from_secs(5);
/// Between two attempts. Completions are taken meanwhile.
const PAUSE: Duration = Duration::from_millis(1);

/// Refusals of one attempt to queue something.
#[derive(Default)]
struct Refusals {
    first: Option<Instant>,
}

impl Refusals {
    /// One more.
    ///
    /// # Errors
    /// When it does not pass, or did not for too long.
    fn note(&mut self, error: io::Error, now: Instant) -> io::Result<()> {
        if !passes(&error) {
            return Err(error);
        }
        let first = *self.first.get_or_insert(now);
        if now.duration_since(first) < REFUSED_MAX {
            return Ok(());
        }
        let seconds = REFUSED_MAX.as_secs();
        let message = format!("io_uring took nothing for {seconds} s: {error}");
        Err(io::Error::new(error.kind(), message))
    }
}

/// Nothing was taken, and may be when it is tried again.
fn passes(error: &io::Error) -> bool {
    is_passing(error) || error.raw_os_error() == Some(libc::ENOMEM)
}

impl Ring {
    /// Room for so many entries in the queue, which is there until whoever asked waits for something.
    ///
    /// # Errors
    /// When the kernel takes nothing of what is queued, and that does not pass.
    pub(super) async fn room(&self, entries: usize) -> io::Result<()> {
        let mut refusals = Refusals::default();
        loop {
            let made = self.0.borrow_mut().make_room(entries);
            let Err(error) = made else { return Ok(()) };
            refusals.note(error, Instant::now())?;
            glommio::timer::sleep(PAUSE).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_is_tried_again_for_a_while_and_nothing_else_is() {
        let begun = Instant::now();
        for code in [libc::EAGAIN, libc::EBUSY, libc::EINTR, libc::ENOMEM] {
            let mut refusals = Refusals::default();
            let mut at = |after| refusals.note(io::Error::from_raw_os_error(code), begun + after);
            assert!(at(Duration::ZERO).is_ok());
            assert!(at(REFUSED_MAX - PAUSE).is_ok());
            let error = at(REFUSED_MAX).unwrap_err().to_string();
            assert!(error.starts_with("io_uring took nothing for 5 s: "), "{error}");
            assert!(error.contains(&format!("os error {code}")), "{error}");
        }
        for code in [libc::EIO, libc::EBADF, libc::EINVAL] {
            let error = Refusals::default().note(io::Error::from_raw_os_error(code), begun);
            assert_eq!(error.unwrap_err().raw_os_error(), Some(code));
        }
    }
}
