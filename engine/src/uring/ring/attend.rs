//! Who waits for a ring's completions, and how.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::{Rc, Weak};
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_lite::future;
use glommio::io::PollableFd;
use rustix::event::EventfdFlags;

use super::{Inner, wake};

/// How long the runtime is not looked at while the shard waits in the ring: timers, new connections, calls from other
/// shards are noticed so late at most.
const PATIENCE: Duration = Duration::from_millis(1);
/// The same while an answer of another thread is expected.
const SHORT_PATIENCE: Duration = Duration::from_micros(50);
/// How long a shard that has nothing to do waits in the ring for something from a socket before it goes to sleep in the
/// runtime.
const LINGER: Duration = Duration::from_millis(10);
/// Turns of everybody else without anything new before it counts that they have nothing to do: what one of them wakes has
/// its turn after the others.
const QUIET_TURNS: u32 = 3;

/// Takes completions as long as operations are under way, until the ring is gone.
///
/// A shard with nothing else to do waits *in the ring*: going to sleep in the runtime and being woken costs as much CPU as a
/// whole commit, and 80 us. The ring polls the sockets meanwhile, so that what arrives ends the wait and is read at once; the
/// runtime, a look at which costs as much as a commit too, has its turn every now and then.
///
/// Rings in shared memory that something goes through are polled at every turn, and nothing is waited for then: their clients
/// do not ring.
pub(super) async fn attend(ring: Weak<RefCell<Inner>>, runtime: Looker) {
    while called(&ring).await {
        let Some((watches, rings)) = ring.upgrade().map(|inner| {
            let inner = inner.borrow();
            (inner.watches.clone(), inner.rings.clone())
        }) else {
            return;
        };
        let mut looked = Instant::now();
        let mut arrived = looked;
        let mut reads = 0;
        let mut quiet_turns = 0;
        loop {
            let Some(inner) = ring.upgrade() else { return };
            let now = Instant::now();
            let woken = inner.borrow_mut().look(now);
            let mut is_quiet = woken.is_empty();
            wake(woken);
            for place in watches.take_rung() {
                rings.rang(place);
            }
            wake(watches.take_woken());
            if rings.poll(now) {
                (arrived, is_quiet) = (now, false);
            }
            let (before, is_news, patience) = {
                let inner = inner.borrow();
                let expects = inner.activity.expects();
                let patience = if expects { SHORT_PATIENCE } else { PATIENCE };
                (inner.activity.count(), inner.watches.take_came(), patience)
            };
            let seen = inner.borrow().watches.reads();
            if is_news || seen != reads {
                (arrived, reads) = (now, seen);
            }
            if now.duration_since(looked) >= patience {
                runtime.look().await;
                looked = Instant::now();
            } else {
                future::yield_now().await;
            }
            is_quiet &= !is_news && inner.borrow().activity.count() == before;
            quiet_turns = if is_quiet { quiet_turns + 1 } else { 0 };
            if quiet_turns < QUIET_TURNS {
                continue;
            }
            if rings.is_any() {
                continue;
            }
            if inner.borrow().operations.in_flight() == 0 && now.duration_since(arrived) >= LINGER {
                break;
            }
            let woken = inner.borrow_mut().wait(patience);
            quiet_turns = 0;
            if !woken.is_empty() {
                wake(woken);
                // What they begin goes with what is looked at next.
                future::yield_now().await;
            }
        }
    }
}

/// What lets the runtime look at its own rings. (Its `yield_task_queue_now` does not, as long as any task is ready, and the
/// one that yields is.) A descriptor that is always readable: the runtime finds that out when it looks.
pub(super) struct Looker(PollableFd<OwnedFd>);

impl Looker {
    pub(super) fn new() -> io::Result<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let fd = PollableFd::new(rustix::event::eventfd(1, flags)?)?;
        Ok(Self(fd))
    }

    async fn look(&self) {
        if let Err(error) = self.0.readable().await {
            tracing::debug!(%error, "the runtime could not be made to look at its rings");
        }
    }
}

/// Waits until there is something to attend to; `false` when the ring is gone.
async fn called(ring: &Weak<RefCell<Inner>>) -> bool {
    poll_fn(|context| {
        let Some(inner) = ring.upgrade() else {
            return Poll::Ready(false);
        };
        let inner: &mut Inner = &mut Rc::as_ref(&inner).borrow_mut();
        let is_idle = inner.operations.in_flight() == 0 && !inner.rings.is_any_or_wake(context.waker());
        if is_idle && !inner.watches.is_urgent(context.waker()) {
            inner.attendant = Some(context.waker().clone());
            return Poll::Pending;
        }
        inner.attendant = None;
        Poll::Ready(true)
    })
    .await
}
