//! How those who push wait for room.

use std::sync::{MutexGuard, atomic};

use super::{Queue, State};
use crate::error::PushError;
use crate::producer::patience::Patience;
use crate::promise::{lock, lock_unless_forked, wait_on};

/// Of the batches under way when there was no room, the part that is settled before whoever takes the answers himself pushes again.
/// At one event for each answer, he and the node would go to and fro for every event; the rest keeps the node busy meanwhile.
const SETTLED_PART: usize = 8;

impl Queue {
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
                    link.drive(|| settled() >= enough);
                    // If nothing came of it, somebody else sees to the rest.
                    drove = settled() == 0;
                    state = lock(&self.state);
                }
                _ => {
                    state.waiting_count += 1;
                    state = wait_on(&self.room, state, patience.deadline());
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
