//! Who looks at a ring, who sleeps, and who has to be woken: all that the threads of a client tell each other about it, without the ring.
//!
//! Every method is one transition. What sleeps and what wakes is the caller's, so that the model checker can take its place (`model`).
//!
//! | label | one side | other side | what is promised |
//! |---|---|---|---|
//! | D1 | [`States::asked`] | [`States::leave`] | either who asks sees that nobody looks, or who leaves sees what was asked |
//! | L1 | [`States::awaited`] | [`States::stays_lazy`] | either who waits sees that the reader thread is lazy, or that one sees that somebody waits |
//! | L2 | [`States::awaited`] | [`States::counts_on_reader`] | either who waits sees that the reader thread is lazy, or who leaves announces |
//! | N1 | [`States::falls_asleep`] | [`States::nap_ends`], then [`States::leave`] | either the reader thread sees that nobody naps, or who leaves sees that it is away |
//! | N2 | [`States::nap_begins`] | [`States::leaves_ring`], [`States::took_ring`] | a ring that the reader thread takes from one who naps is handed on |
//!
//! A time is the means in three places only. *Lazy*: the reader thread looks again after a millisecond, for those who asked and do not
//! wait; and for one who waits when another's answer came first, since a call by [`States::awaited`] holds for one turn. *Missed* ([`States::misses`]): it found the receiving end with another, and looks again a millisecond later. *Nap*: who sleeps
//! at the bell for frames alone hears after a millisecond at most that something else of his connection waits for room by now.

use std::sync::atomic::{AtomicBool, Ordering};

#[cfg(test)]
mod model;

/// A flag that threads share.
pub(super) trait Flag {
    fn load(&self, order: Ordering) -> bool;
    fn store(&self, value: bool, order: Ordering);
    fn swap(&self, value: bool, order: Ordering) -> bool;
}

impl Flag for AtomicBool {
    fn load(&self, order: Ordering) -> bool {
        self.load(order)
    }

    fn store(&self, value: bool, order: Ordering) {
        self.store(value, order);
    }

    fn swap(&self, value: bool, order: Ordering) -> bool {
        self.swap(value, order)
    }
}

/// See the module.
pub(super) struct States<F = AtomicBool> {
    /// Somebody waits for the receiving end, to poll.
    is_wanted: F,
    /// Nothing is expected, and nobody looks.
    is_deaf: F,
    /// The reader thread looks every now and then.
    is_lazy: F,
    /// Something was asked for since the reader thread looked.
    is_busy: F,
    /// Somebody waits for the reader thread.
    is_awaited: F,
    /// Somebody who waits sleeps at the bell himself.
    is_napped: F,
    /// So the reader thread sleeps away from it: it is woken when it is to see to the rest.
    is_reader_away: F,
}

/// The receiving end, in the hands of one thread.
pub(super) trait Held {
    type Error;

    /// Whether anything is expected of the node, or waits for room.
    fn expects(&self) -> bool;
    /// Tells the node that this side sleeps.
    fn announce(&mut self);
    /// Takes that back.
    fn withdraw(&mut self);
    /// Whether there is anything to take, or room for what waits.
    fn has_news(&mut self) -> bool;
    /// Takes all of it.
    fn take_all(&mut self) -> Result<(), Self::Error>;
    /// Wakes the reader thread.
    fn wake_reader(&self);
}

impl Default for States {
    fn default() -> Self {
        Self::of(&|_| AtomicBool::new(false))
    }
}

impl<F: Flag> States<F> {
    /// Of a ring that nobody has looked at.
    fn of(flag: &dyn Fn(&'static str) -> F) -> Self {
        let states = Self {
            is_wanted: flag("wanted"),
            is_deaf: flag("deaf"),
            is_lazy: flag("lazy"),
            is_busy: flag("busy"),
            is_awaited: flag("awaited"),
            is_napped: flag("napped"),
            is_reader_away: flag("away"),
        };
        states.is_deaf.store(true, Ordering::SeqCst);
        states
    }

    /// Something was asked for, and noted where [`Held::expects`] looks, under a lock.
    pub(super) fn asked(&self, wake_reader: impl FnOnce()) {
        // Guards nothing: pairs with the swap in `is_busy`, which may see it a turn later.
        if !self.is_busy.load(Ordering::Relaxed) {
            self.is_busy.store(true, Ordering::Relaxed);
        }
        // D1: pairs with the stores in `leave`. What was asked for was noted under a lock before, under which who leaves looks
        // afterwards: so one of the two notices the other, and that lock alone would be enough for it.
        if self.is_deaf.load(Ordering::SeqCst) && self.is_deaf.swap(false, Ordering::SeqCst) {
            wake_reader();
        }
    }

    /// Somebody waits for something and does not poll: the reader thread is to see to it at once.
    pub(super) fn awaited(&self, wake_reader: impl FnOnce()) {
        // L1, L2: pairs with the loads in `stays_lazy` and `counts_on_reader`.
        self.is_awaited.store(true, Ordering::SeqCst);
        // L1, L2: pairs with the stores in `stays_lazy` and `misses`.
        if self.is_lazy.load(Ordering::SeqCst) {
            wake_reader();
        }
    }

    /// Somebody wants to poll. False when another one waits for that already: one at a time is enough.
    pub(super) fn wants(&self) -> bool {
        // Guards nothing, as all of these: whoever is turned away is `awaited`, and who has the receiving end early has it in vain.
        !self.is_wanted.swap(true, Ordering::Relaxed)
    }

    /// He has the receiving end, or does not want it any more.
    pub(super) fn wants_no_more(&self) {
        self.is_wanted.store(false, Ordering::Relaxed);
    }

    /// Whether the reader thread is to make room.
    pub(super) fn is_wanted(&self) -> bool {
        self.is_wanted.load(Ordering::Relaxed)
    }

    /// Whoever has the receiving end looks now. The announcement has to be taken back, too.
    pub(super) fn looks(&self) {
        // Pairs with the load in `asked`: nobody need be woken. One who is woken all the same looks in vain.
        self.is_deaf.store(false, Ordering::SeqCst);
    }

    /// Whether who has the receiving end, and what he waited for, may give it up without a word: the reader thread looks soon, and
    /// nobody waits for it. Otherwise he has to [leave](Self::leave).
    pub(super) fn counts_on_reader(&self) -> bool {
        // L2: pairs with the store in `awaited`. Whoever comes after this sees, if the second is true, that the reader thread is lazy.
        !self.is_awaited.load(Ordering::SeqCst)
            // L2: pairs with the stores in `stays_lazy` and `misses`.
            && self.is_lazy.load(Ordering::SeqCst)
    }

    /// Who has the receiving end is about to sleep at the bell himself, and announces that afterwards.
    pub(super) fn nap_begins(&self) {
        // N2: pairs with the loads in `leaves_ring` and `took_ring`. N1: pairs with the load in `falls_asleep`.
        self.is_napped.store(true, Ordering::SeqCst);
    }

    /// He is awake again.
    pub(super) fn nap_ends(&self) {
        // N1: pairs with the load in `falls_asleep`.
        self.is_napped.store(false, Ordering::SeqCst);
    }

    /// Gives the receiving end up, in one of the states in which nothing is missed.
    pub(super) fn leave<H: Held>(&self, held: &mut H) -> Result<(), H::Error> {
        loop {
            if !held.expects() {
                // D1: pairs with the loads in `asked`.
                self.is_deaf.store(true, Ordering::SeqCst);
                // Whoever asked for something before he could see that is seen here.
                if !held.expects() {
                    return Ok(());
                }
                self.is_deaf.store(false, Ordering::SeqCst);
            }
            held.announce();
            if !held.has_news() {
                // N1: pairs with the store in `falls_asleep`.
                if self.is_reader_away.swap(false, Ordering::SeqCst) {
                    held.wake_reader();
                }
                return Ok(());
            }
            held.withdraw();
            held.take_all()?;
        }
    }

    /// The reader thread's turn begins. Whether somebody waits for it.
    pub(super) fn turn_begins(&self) -> bool {
        // Pairs with the store in `awaited`: who comes after this is for the next turn, which `stays_lazy` looks after.
        self.is_awaited.swap(false, Ordering::SeqCst)
    }

    /// The reader thread does not get the receiving end, and looks again a millisecond later: who has it may count on this thread; or
    /// has just announced that this side sleeps, and not yet given it up: the ring that came for that was heard here, and
    /// there will be no other.
    pub(super) fn misses(&self, is_awaited: bool, is_fed: impl FnOnce() -> bool) {
        if is_awaited {
            // Pairs with the load in `counts_on_reader`: for who has it now, or for the next turn.
            self.is_awaited.store(true, Ordering::SeqCst);
        } else if !is_fed() {
            // Those who ask see to their answers, or this one could never get the lock: so they need not call it each time.
            // L2: pairs with the loads in `awaited` and `counts_on_reader`.
            self.is_lazy.store(true, Ordering::SeqCst);
        }
    }

    /// Whether anything was asked for since the last turn.
    pub(super) fn is_busy(&self) -> bool {
        self.is_busy.swap(false, Ordering::Relaxed)
    }

    /// At the end of a turn in which anything came or was asked for, and nobody is fed or waits: whether the reader thread may just
    /// look again a millisecond later.
    pub(super) fn stays_lazy(&self) -> bool {
        // L1: pairs with the load in `awaited`.
        self.is_lazy.store(true, Ordering::SeqCst);
        // L1: pairs with the store in `awaited`.
        !self.is_awaited.load(Ordering::SeqCst)
    }

    /// The reader thread is not lazy, and leaves.
    pub(super) fn is_diligent(&self) {
        // Pairs with the load in `counts_on_reader`, which has the receiving end after this one.
        self.is_lazy.store(false, Ordering::SeqCst);
    }

    /// The reader thread falls asleep: whether at the bell. Otherwise somebody else sleeps there, who wakes it when he leaves.
    pub(super) fn falls_asleep(&self) -> bool {
        // N1: pairs with the swap in `leave`.
        self.is_reader_away.store(true, Ordering::SeqCst);
        // N1: pairs with the store in `nap_ends`.
        let is_at_bell = !self.is_napped.load(Ordering::SeqCst);
        if is_at_bell {
            self.is_reader_away.store(false, Ordering::SeqCst);
        }
        is_at_bell
    }

    /// Whether a ring that the reader thread hears is another's, who sleeps there too and would not be woken any more once it was
    /// emptied.
    pub(super) fn leaves_ring(&self) -> bool {
        // N2: pairs with the store in `nap_begins`.
        self.is_napped.load(Ordering::SeqCst)
    }

    /// The reader thread emptied the bell: whether what it took may have been for somebody who fell asleep there meanwhile, and is to
    /// be handed on.
    pub(super) fn took_ring(&self) -> bool {
        // N2: pairs with the store in `nap_begins`, which came before the announcement that was answered by the ring.
        self.is_napped.load(Ordering::SeqCst)
    }
}
