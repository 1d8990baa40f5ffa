//! How those who push wait for room.

use std::cell::Cell;
use std::sync::{MutexGuard, atomic};

use super::{Queue, State};
use crate::error::PushError;
use crate::producer::patience::Patience;
use crate::promise::{lock, lock_unless_forked, wait_on};

/// Of the batches under way when there was no room, the part that is settled before whoever takes the answers himself pushes again.
/// At one event for each answer, he and the node would go to and fro for every event; the rest keeps the node busy meanwhile.
const SETTLED_PART: usize = 8;

/// Looks at what came between two looks at the clock.
const LOOKS: u32 = 64;
/// More than can be settled while somebody waits for room.
const CLOSED: u64 = 1 << 32;

impl Queue {
    /// Those who wait for room hear that the queue is closed.
    pub(super) fn tell_closed(&self) {
        self.settled_count.fetch_add(CLOSED, atomic::Ordering::Relaxed);
        self.room.notify_all();
    }

    /// Waits until the gathering batch, or a new one, takes an event of this size.
    pub(super) fn lock_with_room(
        &self,
        bytes: u64,
        patience: Patience<'_>,
    ) -> Result<MutexGuard<'_, State>, PushError> {
        let state = lock_unless_forked(&self.state, || self.shared.check_process())?;
        let options = &self.shared.options;
        self.wait_until(state, patience, |state| state.make_room(bytes, options))
    }

    /// Waits until there is what is asked for.
    pub(super) fn wait_until<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        patience: Patience<'_>,
        is_there: impl Fn(&mut State) -> bool,
    ) -> Result<MutexGuard<'a, State>, PushError> {
        let mut drove = false;
        // Also when what gets free goes to others again and again.
        let mut ask_at = None;
        loop {
            if state.is_closed {
                return Err(PushError::Closed);
            }
            if is_there(&mut state) {
                return Ok(state);
            }
            self.shared.check_process()?;
            match state.link.clone() {
                Some(link) if !drove => {
                    let seen = self.settled_count.load(atomic::Ordering::Relaxed);
                    let enough = (state.outgoing.len() / SETTLED_PART).max(1) as u64;
                    drop(state);
                    let settled = || {
                        self.settled_count
                            .load(atomic::Ordering::Relaxed)
                            .wrapping_sub(seen)
                    };
                    let deadline = *ask_at.get_or_insert_with(|| patience.deadline());
                    // What comes may be for others, and come without end. Once it is so, it stays so.
                    let (looks, is_over) = (Cell::new(0_u32), Cell::new(false));
                    let is_asked = || {
                        looks.set(looks.get().wrapping_add(1));
                        if looks.get().is_multiple_of(LOOKS) && deadline.is_over() {
                            is_over.set(true);
                        }
                        is_over.get()
                    };
                    link.drive(|| settled() >= enough || is_asked());
                    // If nothing came of it, somebody else sees to the rest.
                    drove = settled() == 0;
                    if deadline.is_over() {
                        patience.ask()?;
                        ask_at = None;
                    }
                    state = lock(&self.state);
                }
                _ => {
                    state.waiting_count += 1;
                    state = wait_on(&self.room, state, patience.deadline());
                    ask_at = None;
                    state.waiting_count -= 1;
                    drove = false;
                    if patience.is_asked() {
                        drop(state);
                        patience.ask()?;
                        state = lock(&self.state);
                    }
                }
            }
        }
    }
}
