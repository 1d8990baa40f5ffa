//! Settings that a shard goes by, and that change while it runs.

use std::cell::{Cell, Ref, RefCell};
use std::rc::Weak;
use std::time::Duration;

use super::{Peers, Shard};
use crate::config::{LocalClients, NodeConfig};
use crate::io::Io;
use crate::limits::EngineLimits;
use crate::partition::RetentionTimer;

/// Settings that a shard is to go by from now on.
#[derive(Clone, Debug)]
pub struct Tuning {
    /// Bounds.
    pub limits: EngineLimits,
    /// Who may connect over a Unix socket.
    pub local_clients: LocalClients,
}

/// What the shard goes by now.
pub(super) struct Tuned {
    limits: Cell<EngineLimits>,
    local_clients: RefCell<LocalClients>,
    pub(super) retention_timer: RetentionTimer,
}

impl Tuned {
    pub(super) fn new(config: &NodeConfig) -> Self {
        Self {
            limits: Cell::new(config.limits),
            local_clients: RefCell::new(config.local_clients.clone()),
            retention_timer: RetentionTimer::new(every(&config.limits)),
        }
    }
}

fn every(limits: &EngineLimits) -> Duration {
    Duration::from_millis(limits.retention_check_ms)
}

impl<I: Io, P: Peers> Shard<I, P> {
    /// Bounds, as they are now. A connection goes by some of those that it began with; it has them itself.
    pub(crate) fn limits(&self) -> EngineLimits {
        self.tuned.limits.get()
    }

    /// Who may connect over a Unix socket, as it is now.
    pub(crate) fn local_clients(&self) -> Ref<'_, LocalClients> {
        self.tuned.local_clients.borrow()
    }

    /// Goes by these settings from now on.
    pub(super) fn tune(&self, tuning: Tuning) {
        let Tuning {
            limits,
            local_clients,
        } = tuning;
        self.tuned.limits.set(limits);
        self.memory.set_limits(&limits);
        self.tuned.retention_timer.set(every(&limits));
        let sessions: Vec<_> = self.sessions.borrow().iter().filter_map(Weak::upgrade).collect();
        for session in sessions {
            session.settings_changed(&limits, &local_clients);
        }
        self.tuned.local_clients.replace(local_clients);
    }
}
