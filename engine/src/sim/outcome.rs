//! How simulated operations end.

use std::future::Future;
use std::io;
use std::task::Poll;

/// Why an operation failed.
#[derive(Clone, Copy)]
pub(super) enum Failure {
    Os(i32),
    Short { written: usize, wanted: usize },
}

impl From<Failure> for io::Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Os(number) => Self::from_raw_os_error(number),
            Failure::Short { written, wanted } => {
                let message = format!("only {written} of {wanted} bytes were written (is the disk full?)");
                Self::new(io::ErrorKind::WriteZero, message)
            }
        }
    }
}

pub(super) const ENOENT: Failure = Failure::Os(2);
pub(super) const EIO: Failure = Failure::Os(5);
pub(super) const EMFILE: Failure = Failure::Os(24);
pub(super) const ENOSPC: Failure = Failure::Os(28);

/// Runs these at the same time. The first failure is told at once, and what is under way goes on without anybody waiting
/// for it.
pub(super) async fn all_of<E>(futures: Vec<impl Future<Output = Result<(), E>>>) -> Result<(), E> {
    let mut running: Vec<_> = futures.into_iter().map(Box::pin).collect();
    std::future::poll_fn(move |context| {
        let mut outcome = Ok(());
        running.retain_mut(|future| match future.as_mut().poll(context) {
            Poll::Pending => true,
            Poll::Ready(ended) => {
                if outcome.is_ok() {
                    outcome = ended;
                }
                false
            }
        });
        if running.is_empty() || outcome.is_err() {
            return Poll::Ready(outcome);
        }
        Poll::Pending
    })
    .await
}
