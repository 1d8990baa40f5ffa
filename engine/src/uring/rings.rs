//! The rings that a shard has with clients in shared memory: polled while something goes through them, and their bells listened
//! to while nothing does.
//!
//! The task that waits in the shard's own ring for its files (`ring::attend`) polls them at every turn, and does not wait as long
//! as there is one to poll. A bell is heard where the shard waits at the time: through the runtime, or as one of the sockets
//! that the ring of the files polls.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::rc::{Rc, Weak};
use std::task::Waker;
use std::time::{Duration, Instant};

use glommio::io::PollableFd;
use mofka_net::shm::Offer;

use super::watch::{Watch, Watches};
use crate::ring::{Door, RingEnd};

/// The rings of one shard. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Rings(Rc<RefCell<Table>>);

#[derive(Default)]
struct Table {
    polled: Vec<Polled>,
    /// Those whose bell is watched, by its place.
    bells: HashMap<usize, Weak<RingEnd>>,
    /// Who polls, when there is nothing to poll.
    attendant: Option<Waker>,
}

struct Polled {
    ring: Weak<RingEnd>,
    busy_at: Instant,
    /// How long it is polled after that.
    window: Duration,
}

impl Rings {
    /// Polls this ring from now on.
    fn rouse(&self, ring: Weak<RingEnd>) {
        let mut table = self.0.borrow_mut();
        if !table
            .polled
            .iter()
            .any(|polled| Weak::ptr_eq(&polled.ring, &ring))
        {
            table.polled.push(Polled {
                window: ring.upgrade().map_or(Duration::ZERO, |ring| ring.window()),
                ring,
                busy_at: Instant::now(),
            });
        }
        let attendant = table.attendant.take();
        drop(table);
        attendant.into_iter().for_each(Waker::wake);
    }

    /// Looks at every ring that is polled, and lets those doze that were quiet for a while. Whether anything went through one.
    pub(super) fn poll(&self, now: Instant) -> bool {
        let mut is_any_busy = false;
        self.0.borrow_mut().polled.retain_mut(|polled| {
            let Some(ring) = polled.ring.upgrade() else {
                return false;
            };
            if ring.poll() {
                polled.busy_at = now;
                polled.window = ring.window();
                is_any_busy = true;
                return true;
            }
            now.duration_since(polled.busy_at) < polled.window || !ring.doze()
        });
        is_any_busy
    }

    /// Whether there is anything to poll.
    pub(super) fn is_any(&self) -> bool {
        !self.0.borrow().polled.is_empty()
    }

    /// The same; when there is nothing, `attendant` is woken once there is.
    pub(super) fn is_any_or_wake(&self, attendant: &Waker) -> bool {
        let mut table = self.0.borrow_mut();
        let is_any = !table.polled.is_empty();
        table.attendant = (!is_any).then(|| attendant.clone());
        is_any
    }

    /// The bell that is watched at this place rang.
    pub(super) fn rang(&self, place: usize) {
        let ring = self.0.borrow().bells.get(&place).cloned();
        if let Some(ring) = ring.as_ref().and_then(Weak::upgrade) {
            ring.awake();
            self.rouse(Rc::downgrade(&ring));
        }
    }

    /// Listens for the bell whenever the ring dozes.
    async fn listen(self, ring: Weak<RingEnd>, bell: PollableFd<OwnedFd>, watch: Watch) {
        loop {
            let dozing = poll_fn(|context| match ring.upgrade() {
                Some(ring) => ring.poll_dozing(context.waker()).map(Some),
                None => std::task::Poll::Ready(None),
            });
            if dozing.await.is_none() {
                return;
            }
            watch.waits();
            let heard = bell.readable().await;
            watch.came();
            let Some(ring) = ring.upgrade() else { return };
            if let Err(error) = heard {
                // It is polled all the time then, rather than never.
                tracing::warn!(%error, "cannot listen for the bell of a ring");
            }
            ring.awake();
            self.rouse(Rc::downgrade(&ring));
        }
    }
}

/// The Unix socket of a client, over which it gets its ring.
pub(super) struct SocketDoor {
    fd: RawFd,
    rings: Rings,
    watches: Watches,
}

impl SocketDoor {
    /// `fd` is the socket's, which stays open as long as this is used.
    pub(super) fn new(fd: RawFd, rings: Rings, watches: Watches) -> Self {
        Self { fd, rings, watches }
    }
}

impl Door for SocketDoor {
    fn pass(&self, offer: &Offer, answer: &[u8]) -> io::Result<()> {
        // SAFETY: the session that asks owns both this and the stream that closes the socket, and is still reading from it.
        let socket = unsafe { BorrowedFd::borrow_raw(self.fd) };
        offer.pass(socket, answer)
    }

    fn attend(&self, ring: &Rc<RingEnd>) -> io::Result<()> {
        let bell = ring.bell()?;
        let fd = bell.as_raw_fd();
        let bell = PollableFd::new(bell)?;
        let watch = self.watches.watch_bell(fd);
        let place = watch.place();
        let (weak, rings) = (Rc::downgrade(ring), self.rings.clone());
        rings.0.borrow_mut().bells.insert(place, weak.clone());
        let listening = glommio::spawn_local(rings.clone().listen(weak.clone(), bell, watch));
        let forget = Forget {
            rings: rings.clone(),
            place,
        };
        let again = weak.clone();
        ring.attended(move || rings.rouse(again.clone()), (listening, forget));
        self.rings.rouse(weak);
        Ok(())
    }
}

/// Forgets the place of a bell when its ring is gone.
struct Forget {
    rings: Rings,
    place: usize,
}

impl Drop for Forget {
    fn drop(&mut self) {
        // A ring can go while it is looked at.
        if let Ok(mut table) = self.rings.0.try_borrow_mut() {
            table.bells.remove(&self.place);
        }
    }
}
