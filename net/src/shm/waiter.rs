//! Sleeping until the other side rings.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use crate::shm::bell::{Hearing, Wake};
use crate::shm::mapping::Mapping;
use crate::shm::side::{News, Side};

/// Lets a side sleep until the other has news: frames, room, or its end. One thread of a side sleeps at a time, which is
/// why there is one of these.
#[derive(Debug)]
pub struct Waiter {
    side: Arc<Side<Mapping>>,
    hearing: Hearing,
}

impl Waiter {
    pub(super) fn new(side: Arc<Side<Mapping>>, hearing: Hearing) -> Self {
        Self { side, hearing }
    }

    /// Blocks until `ready` says true, the other side rings, or `timeout` is over (none: no limit). `ready` looks at the
    /// ends of this side: [`Receiver::is_ready`](crate::shm::Receiver::is_ready),
    /// [`Sender::can_send`](crate::shm::Sender::can_send). It is asked `polls` times first, which costs a core but no
    /// system call, and once more after it was announced that this side sleeps.
    ///
    /// # Errors
    /// When the system cannot wait.
    pub fn wait(
        &mut self,
        mut ready: impl FnMut() -> bool,
        polls: u32,
        timeout: Option<Duration>,
    ) -> std::io::Result<Wake> {
        for _ in 0..polls {
            if ready() {
                return Ok(Wake::Ready);
            }
            std::hint::spin_loop();
        }
        self.announce();
        if ready() {
            self.side.withdraw();
            return Ok(Wake::Ready);
        }
        let woken = self.hearing.wait(timeout);
        let is_there = self.awake();
        let woken = woken?;
        Ok(if is_there { woken } else { Wake::Gone })
    }

    /// The first half of a wait for those who wait in a runtime of their own: says that this side sleeps. Then look once
    /// more for what is waited for; when it is not there, wait until [`Self::as_fd`] is readable. Call [`Self::awake`] in
    /// any case.
    pub fn announce(&mut self) {
        self.side.announce(News::Room);
    }

    /// The same for those who wait for a frame, or the other side's end, and not for room.
    pub fn announce_for_frames(&mut self) {
        self.side.announce(News::Frames);
    }

    /// Takes an announcement back without looking at the bell: this side looks by itself for now. A ring may come all the
    /// same.
    pub fn withdraw(&mut self) {
        self.side.withdraw();
    }

    /// The second half: this side is awake again. False when the other side's end of the bell is gone, which only the
    /// client can see. Never blocks.
    pub fn awake(&mut self) -> bool {
        self.side.withdraw();
        self.hearing.empty()
    }
}

/// Readable when the other side has rung.
impl AsFd for Waiter {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.hearing.as_fd()
    }
}
