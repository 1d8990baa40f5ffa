//! How many feeds the node may still send of one subscription.
//!
//! Both sides count. What is given back counts here before the node hears of it, so the node never has more than is counted here:
//! one that sends more breaks the protocol, and what it sends would pile up.

use std::sync::atomic::{AtomicU64, Ordering};

/// See the module.
pub(in crate::consumer) struct Allowance(AtomicU64);

impl Allowance {
    /// What the node is told when it is subscribed to.
    pub(super) fn new(credits: u32) -> Self {
        Self(AtomicU64::new(credits.into()))
    }

    /// One more, of which the node is to be told after this.
    pub(super) fn grant(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }

    /// A feed came. False when it was not to come.
    pub(super) fn take(&self) -> bool {
        let less = |credits: u64| credits.checked_sub(1);
        self.0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, less)
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_feeds_may_come_as_were_granted() {
        let allowance = Allowance::new(2);
        assert!(allowance.take() && allowance.take() && !allowance.take());
        allowance.grant();
        assert!(allowance.take() && !allowance.take());
    }
}
