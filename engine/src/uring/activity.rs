//! What a shard has to do beside waiting for its files.

use std::cell::Cell;
use std::rc::Rc;

/// Counts what happens on a shard. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Activity(Rc<Counts>);

#[derive(Default)]
struct Counts {
    all: Cell<u64>,
    others: Cell<u32>,
}

/// Held while something is expected that only the runtime notices: an answer of another thread.
pub(super) struct Expecting(Activity);

impl Activity {
    /// Something happened.
    pub(super) fn note(&self) {
        self.0.all.set(self.0.all.get().wrapping_add(1));
    }

    /// Changes when something happens.
    pub(super) fn count(&self) -> u64 {
        self.0.all.get()
    }

    /// Another thread was asked, and its answer is expected as long as what this returns is held.
    pub(super) fn expect(&self) -> Expecting {
        self.0.others.set(self.0.others.get() + 1);
        Expecting(self.clone())
    }

    /// Whether another thread's answer is expected.
    pub(super) fn expects(&self) -> bool {
        self.0.others.get() > 0
    }
}

impl Drop for Expecting {
    fn drop(&mut self) {
        let others = &self.0.0.others;
        others.set(others.get() - 1);
    }
}
