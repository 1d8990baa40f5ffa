//! Where what the node sends of a subscription comes in.

use std::sync::Arc;

use bytes::Bytes;
use mofka_net::{ErrorCode, WireError};

use super::super::membership;
use super::super::worker::{Incoming, Sent};
use super::{Allowance, Source, Subscription};
use crate::link::{Connection, Lost, Sink};
use crate::promise::lock;

/// Takes the feeds of one generation.
pub(super) struct SourceSink {
    pub(super) source: Arc<Source>,
    pub(super) generation: u64,
    pub(super) id: u64,
    pub(super) allowance: Arc<Allowance>,
}

impl SourceSink {
    fn gone(&self, reason: &str) {
        let mut state = lock(&self.source.state);
        if state.generation != self.generation || state.is_over {
            return;
        }
        state.generation += 1;
        state.live = None;
        self.source.subscribe_later(state, reason);
    }
}

impl SourceSink {
    fn receive(&self, connection: &Arc<Connection>, what: Sent) {
        if let Some(core) = self.source.core.upgrade() {
            core.receive(Incoming {
                source: Arc::clone(&self.source),
                generation: self.generation,
                connection: Arc::clone(connection),
                subscription: self.id,
                allowance: Arc::clone(&self.allowance),
                what,
            });
        }
    }

    /// The node sent what it had no credit for, and would go on doing so. What it was allowed to send is taken, and this is told
    /// behind it.
    fn overfed(&self, connection: &Arc<Connection>) {
        let subscription = Subscription {
            connection: Arc::clone(connection),
            id: self.id,
        };
        // What else comes of it finds nobody.
        subscription.end();
        let reason = format!(
            "the node at {} sent a feed for which it had no credit, which breaks the protocol",
            connection.address()
        );
        self.receive(connection, Sent::End(reason));
    }

    fn superseded(&self) {
        if self.source.expected(self.generation).is_none() {
            return;
        }
        if let Some(core) = self.source.core.upgrade() {
            self.source.withdraw(&core);
            membership::superseded(&core, self.source.partition());
        }
    }
}

impl Sink for SourceSink {
    fn feed(&self, connection: &Arc<Connection>, body: Bytes) {
        match self.allowance.take() {
            true => self.receive(connection, Sent::Feed(body)),
            false => self.overfed(connection),
        }
    }

    fn ended(&self, connection: &Arc<Connection>, error: WireError) {
        if error.code == ErrorCode::NotOwner {
            self.source.route.moved(&error);
        }
        if error.code.is_retriable() {
            return self.gone(&error.to_string());
        }
        if error.code == ErrorCode::Superseded {
            return self.superseded();
        }
        // Behind the feeds that came before it.
        self.receive(connection, Sent::End(error.to_string()));
    }

    fn lost(&self, _connection: &Arc<Connection>, lost: &Lost) {
        self.source.route.lost();
        self.gone(&lost.reason);
    }
}
