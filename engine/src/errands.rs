//! Requests of one connection about topics and the node, for the shard with the catalog.
//!
//! Their answers may be of any size, which nobody knows before they are made: a topic has the documents of its components, and a node
//! its topics. So a few are worked on at a time, and none is begun as long as the client does not take what it asked for. The
//! others wait here in their order. They count as unanswered requests, beyond whose bound the connection is not read; so a client
//! that asks and does not read has to wait, and meets no error.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use bytes::Bytes;
use mofka_net::WireError;

use crate::io::Io;
use crate::outbox::Outbox;
use crate::shard::{HOME_SHARD, Peers, Shard, ShardCall, ShardReply};

/// Worked on at a time. One would do for the memory; but a change that takes long, as deleting a topic may, is not to hold up every
/// question of the same client.
const WORKED_ON_MAX: usize = 4;

/// What is done with the answer.
type Answer = Box<dyn FnOnce(Result<Bytes, WireError>)>;

/// See the module.
#[derive(Default)]
pub(crate) struct Errands {
    waiting: RefCell<VecDeque<(ShardCall, u64, Answer)>>,
    waiting_bytes: Cell<u64>,
    workers: Cell<usize>,
}

impl Errands {
    /// What those take that are not begun.
    pub(crate) fn waiting_bytes(&self) -> u64 {
        self.waiting_bytes.get()
    }

    /// Asks the shard with the catalog when it is this one's turn, also when the client is gone by then: what it wanted changed is
    /// changed. `bytes`: what the request takes until then.
    pub(crate) fn add<I: Io, P: Peers>(
        self: &Rc<Self>,
        shard: &Rc<Shard<I, P>>,
        outbox: &Rc<Outbox>,
        (call, bytes): (ShardCall, u64),
        answer: impl FnOnce(Result<Bytes, WireError>) + 'static,
    ) {
        self.waiting_bytes.set(self.waiting_bytes.get() + bytes);
        self.waiting
            .borrow_mut()
            .push_back((call, bytes, Box::new(answer)));
        if self.workers.get() >= WORKED_ON_MAX {
            return;
        }
        self.workers.set(self.workers.get() + 1);
        let (errands, shard, outbox) = (Rc::clone(self), Rc::clone(shard), Rc::clone(outbox));
        shard.clone().io().spawn(async move {
            errands.work(&shard, &outbox).await;
            errands.workers.set(errands.workers.get() - 1);
        });
    }

    async fn work<I: Io, P: Peers>(&self, shard: &Rc<Shard<I, P>>, outbox: &Outbox) {
        loop {
            outbox.room().await;
            let next = self.waiting.borrow_mut().pop_front();
            let Some((call, bytes, answer)) = next else { return };
            self.waiting_bytes.set(self.waiting_bytes.get() - bytes);
            answer(ask_home(shard, call).await);
        }
    }
}

/// Asks the shard with the catalog for a body.
pub(crate) async fn ask_home<I: Io, P: Peers>(
    shard: &Rc<Shard<I, P>>,
    call: ShardCall,
) -> Result<Bytes, WireError> {
    match shard.ask(HOME_SHARD, call).await? {
        ShardReply::Control(body) => Ok(Bytes::from(body)),
        _ => unreachable!("a control call gets a control reply"),
    }
}
