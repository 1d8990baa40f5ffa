//! What will become of pushes, flushes and acknowledgements.

use mofka_client::{AckFuture, FlushFuture, PushFuture};
use std::mem::MaybeUninit;

use crate::border::{free, needed};
use crate::fork::Owner;
use crate::status::{MOFKA_OK, MOFKA_TIMEOUT, guard, mofka_status, quietly};

/// What will become of a push, a flush or an acknowledgement. It lives on its own: what it came from may be freed before.
pub struct mofka_future(pub(crate) Future, pub(crate) Owner);

pub(crate) enum Future {
    Push(PushFuture),
    Flush(FlushFuture),
    Acknowledge(AckFuture),
}

impl Future {
    fn completed(&self) -> bool {
        match self {
            Self::Push(future) => future.completed(),
            Self::Flush(future) => future.completed(),
            Self::Acknowledge(future) => future.completed(),
        }
    }
}

/// Waits at most this many milliseconds; negative: as long as it takes; 0 only looks.
///
/// `value`, which may be NULL, becomes the event's id for a push, and 0 for a flush and an acknowledgement. Waiting again gives the
/// same again. Waiting for an event that is not sent yet sends it, with all that gathered.
///
/// `MOFKA_TIMEOUT` when it did not happen yet; else what went wrong with it.
#[unsafe(no_mangle)]
pub extern "C" fn mofka_future_wait(
    future: Option<&mofka_future>,
    timeout_ms: i64,
    value: Option<&mut MaybeUninit<u64>>,
) -> mofka_status {
    guard(|| {
        let future = needed(future, "future")?;
        if future.1.is_elsewhere() && !future.0.completed() {
            future.1.check()?;
        }
        let settled = match &future.0 {
            Future::Push(future) => future.wait_ms(timeout_ms)?.map(|id| id.get()),
            Future::Flush(future) => future.wait_ms(timeout_ms)?.map(|()| 0),
            Future::Acknowledge(future) => future.wait_ms(timeout_ms)?.map(|()| 0),
        };
        let Some(settled) = settled else {
            return Ok(MOFKA_TIMEOUT);
        };
        if let Some(value) = value {
            value.write(settled);
        }
        Ok(MOFKA_OK)
    })
}

/// Whether waiting would return at once. NULL: yes, with an error; so in a forked child.
#[unsafe(no_mangle)]
pub extern "C" fn mofka_future_completed(future: Option<&mofka_future>) -> bool {
    quietly(true, || {
        future.is_none_or(|future| future.1.is_elsewhere() || future.0.completed())
    })
}

/// Frees the future. What it is about goes on.
#[unsafe(no_mangle)]
pub extern "C" fn mofka_future_free(future: Option<Box<mofka_future>>) {
    free(future);
}
