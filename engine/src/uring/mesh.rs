//! Messages between the shards of a node: requests and their answers over glommio's channel mesh.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::rc::Rc;

use glommio::channels::channel_mesh::{MeshBuilder, Receivers, Senders};
use mofka_net::{ErrorCode, WireError};

use super::activity::Activity;
use crate::promise::promise;
use crate::shard::{Peers, ShardCall, ShardReply};

/// Messages that may wait between two shards.
pub(super) const DEPTH: usize = 1024;

type Answer = Result<ShardReply, WireError>;
type Waiting = Box<dyn FnOnce(Answer)>;

/// What travels between two shards.
pub(super) enum Envelope {
    /// Do this, and answer under this number.
    Call(u64, Box<ShardCall>),
    /// The answer to one's own call of this number.
    Reply(u64, Box<Answer>),
}

pub(super) type Builder = MeshBuilder<Envelope, glommio::channels::channel_mesh::Full>;

/// This shard's end of the mesh.
#[derive(Clone)]
pub(super) struct Mesh(Rc<Inner>);

struct Inner {
    shard: usize,
    /// None on a node with one shard.
    senders: Option<Senders<Envelope>>,
    next: Cell<u64>,
    activity: Activity,
    waiting: RefCell<HashMap<u64, Waiting>>,
}

impl Mesh {
    /// Joins the mesh; every shard does so once. Returns the receiving ends too, for [`Mesh::serve`].
    pub(super) async fn join(
        builder: Option<Builder>,
        activity: Activity,
    ) -> (Self, Option<Receivers<Envelope>>) {
        let (senders, receivers) = match builder {
            None => (None, None),
            Some(builder) => match builder.join().await {
                Ok((senders, receivers)) => (Some(senders), Some(receivers)),
                Err(error) => unreachable!("each shard joins the mesh exactly once: {error}"),
            },
        };
        // Places are given by the mesh; a shard's number is its place.
        let shard = senders.as_ref().map_or(0, Senders::peer_id);
        let inner = Inner {
            shard,
            senders,
            next: Cell::new(1),
            activity,
            waiting: RefCell::new(HashMap::new()),
        };
        (Self(Rc::new(inner)), receivers)
    }

    /// This shard's number.
    pub(super) fn place(&self) -> usize {
        self.0.shard
    }

    /// Handles what the other shards send until they are gone.
    pub(super) fn serve<F, H>(&self, receivers: Option<Receivers<Envelope>>, handle: H)
    where
        F: Future<Output = Answer> + 'static,
        H: Fn(ShardCall) -> F + Clone + 'static,
    {
        let Some(mut receivers) = receivers else { return };
        for (peer, receiver) in receivers.streams() {
            let (mesh, handle) = (self.clone(), handle.clone());
            glommio::spawn_local(async move {
                while let Some(envelope) = receiver.recv().await {
                    match envelope {
                        Envelope::Reply(number, answer) => {
                            let waiting = mesh.0.waiting.borrow_mut().remove(&number);
                            if let Some(waiting) = waiting {
                                waiting(*answer);
                            }
                        }
                        Envelope::Call(number, call) => {
                            let (mesh, handle) = (mesh.clone(), handle.clone());
                            // A call may wait for a disk: the next one must not wait behind it.
                            glommio::spawn_local(async move {
                                let answer = handle(*call).await;
                                mesh.send(peer, Envelope::Reply(number, Box::new(answer))).await;
                            })
                            .detach();
                        }
                    }
                }
            })
            .detach();
        }
    }

    async fn send(&self, peer: usize, envelope: Envelope) -> bool {
        match &self.0.senders {
            Some(senders) => senders.send_to(peer, envelope).await.is_ok(),
            None => false,
        }
    }
}

impl Peers for Mesh {
    fn shard(&self) -> usize {
        self.0.shard
    }

    async fn call(&self, shard: usize, call: ShardCall) -> Answer {
        assert_ne!(shard, self.0.shard, "a shard does its own work itself");
        let _expecting = self.0.activity.expect();
        let number = self.0.next.get();
        self.0.next.set(number + 1);
        let (keep, kept) = promise();
        self.0.waiting.borrow_mut().insert(number, Box::new(keep));
        if !self.send(shard, Envelope::Call(number, Box::new(call))).await {
            self.0.waiting.borrow_mut().remove(&number);
            let message = format!("shard {shard} has stopped");
            return Err(WireError::new(ErrorCode::ShuttingDown, message));
        }
        kept.await
    }
}
